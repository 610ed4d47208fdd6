/* races/counter.c - two children count on one plain counter.
 *
 * fixed     the counter is atomic. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <weft.h>

static bool fixed;
static int plain;
static atomic_int shared;

static int count(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        if (fixed)
            atomic_fetch_add_explicit(&shared, 1, memory_order_relaxed);
        else
            plain++; /* the race */
        if (i % 100 == 0 && weft_yield() < 0)
            return -1;
    }
    return 0;
}

static int parent(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, count, NULL);
    weft_spawn(&s, count, NULL);
    int rc = weft_scope_end(&s, 0);
    printf("%d\n", plain + shared); /* after the end both are in order */
    return rc;
}

int main(int argc, char **argv)
{
    fixed = argc > 1 && strcmp(argv[1], "fixed") == 0;
    return weft_run(parent, NULL, &(weft_options){ .workers = 2 }) != 0;
}
