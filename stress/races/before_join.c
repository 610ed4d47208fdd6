/* races/before_join.c - a parent writes, between spawn and join, what its child reads.
 *
 * Elsewhere the join may run the child as a plain call, and everything happens in one order; it is a race all the
 * same, because another worker may have taken the child.
 * What they share is static: older clangs, 14 for one, do not instrument accesses by name to a field of a local struct,
 * even if the struct's address has gone elsewhere (LLVM issue 132739). gcc does.
 * fixed     it writes before the spawn. */
#include <stdio.h>
#include <string.h>
#include <weft.h>

static bool fixed;

struct shared {
    int word, seen;
};

static struct shared x;

static int child(void *arg)
{
    struct shared *mine = arg;
    mine->seen = mine->word;
    return 0;
}

static int parent(void *arg)
{
    int sum = 0;
    (void)arg;
    for (int i = 0; i < 200; i++) {
        x = (struct shared){ 0, 0 };
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        if (fixed)
            x.word = i;
        weft_task t = weft_spawn(&s, child, &x);
        if (!fixed)
            x.word = i; /* the race */
        int rc = weft_scope_end(&s, weft_task_join(t));
        if (rc < 0)
            return rc;
        sum += x.seen;
    }
    printf("%d\n", sum);
    return 0;
}

int main(int argc, char **argv)
{
    fixed = argc > 1 && strcmp(argv[1], "fixed") == 0;
    return weft_run(parent, NULL, &(weft_options){ .workers = 2 }) != 0;
}
