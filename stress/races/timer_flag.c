/* races/timer_flag.c - a task writes a plain flag, and one that a timer wakes reads it: that time has passed is no
 * order.
 *
 * fixed     the reader joins the writer first. */
#include <stdio.h>
#include <string.h>
#include <weft.h>

static bool fixed;

struct shared {
    int flag, seen;
    weft_task writer;
};

static int writes(void *arg)
{
    struct shared *x = arg;
    x->flag = 1;
    return 0;
}

static int reads(void *arg)
{
    struct shared *x = arg;
    int rc = weft_sleep(weft_ms(1)); /* "it must have run by now" */
    if (rc == 0 && fixed)
        rc = weft_task_join(x->writer);
    x->seen = x->flag; /* the race */
    return rc;
}

static int parent(void *arg)
{
    int sum = 0;
    (void)arg;
    for (int i = 0; i < 50; i++) {
        struct shared x = { 0, 0, 0 };
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        x.writer = weft_spawn(&s, writes, &x);
        weft_spawn(&s, reads, &x);
        int rc = weft_scope_end(&s, 0);
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
