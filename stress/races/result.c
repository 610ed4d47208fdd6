/* races/result.c - a result is read before the join.
 *
 * fixed     it is read after it. */
#include <stdio.h>
#include <string.h>
#include <weft.h>

static bool fixed;

static int work(void *arg)
{
    int *result = arg;
    *result = 42;
    return 0;
}

static int parent(void *arg)
{
    int sum = 0;
    (void)arg;
    for (int i = 0; i < 200; i++) {
        int result = 0;
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_task t = weft_spawn(&s, work, &result);
        int rc = weft_yield(); /* it has probably run */
        if (!fixed)
            sum += result; /* the race */
        if (rc == 0)
            rc = weft_task_join(t);
        if (fixed)
            sum += result;
        if ((rc = weft_scope_end(&s, rc)) < 0)
            return rc;
    }
    printf("%d\n", sum);
    return 0;
}

int main(int argc, char **argv)
{
    fixed = argc > 1 && strcmp(argv[1], "fixed") == 0;
    return weft_run(parent, NULL, &(weft_options){ .workers = 2 }) != 0;
}
