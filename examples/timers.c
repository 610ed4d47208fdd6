/* timers.c - many sleeping tasks, and how late they wake.
 *
 * Use       timers [TASKS]         100000 if left out
 *           Each task sleeps until a point of its own, spread over one second, and notes how late
 *           it woke.
 * Shows     that a sleeping task costs a stack and no thread, and that no task wakes early.
 * Limits    Before Linux 6.13 the guard of each stack takes up memory mappings, of which a process
 *           has 65530 (sysctl vm.max_map_count): about 32,000 stacks.
 * Tested    examples/test_examples.py */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft.h>

struct sleeper {
    int64_t at;
    int64_t late; /* written by its task, read after the scope's end */
};

struct herd {
    struct sleeper *sleepers;
    size_t n;
};

static int sleeper(void *arg)
{
    struct sleeper *s = arg;
    int rc = weft_sleep_until(s->at);
    s->late = weft_now() - s->at;
    return rc;
}

static int app(void *arg)
{
    struct herd *h = arg;
    /* Far enough away that all of them sleep before the first one wakes. */
    int64_t first = weft_after(weft_ms(100) + weft_us(5) * (int64_t)h->n);
    int64_t step = weft_sec(1) / (int64_t)h->n;
    weft_scope s;

    weft_scope_begin(&s, WEFT_NEVER);
    for (size_t i = 0; i < h->n; i++) {
        h->sleepers[i].at = first + step * (int64_t)i;
        weft_spawn(&s, sleeper, &h->sleepers[i]);
    }
    return weft_scope_end(&s, 0);
}

static int by_lateness(const void *a, const void *b)
{
    int64_t x = ((const struct sleeper *)a)->late, y = ((const struct sleeper *)b)->late;
    return (x > y) - (x < y);
}

static double late_us(const struct herd *h, size_t percent)
{
    return (double)h->sleepers[(h->n - 1) * percent / 100].late / 1e3;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 100000;

    if (argc > 2 || n < 1 || n > 1000000) {
        fprintf(stderr, "use: %s [TASKS]     from 1 to 1000000\n", argv[0]);
        return 2;
    }
    struct herd h = { .n = (size_t)n };
    h.sleepers = calloc(h.n, sizeof *h.sleepers);
    int rc = h.sleepers == NULL ? -ENOMEM : weft_run(app, &h, NULL);
    if (rc < 0) {
        fprintf(stderr, "timers: %s\n", weft_strerror(rc));
        if (rc == -ENOMEM)
            fprintf(stderr, "timers: no room for %ld stacks: vm.max_map_count, or memory\n", n);
        free(h.sleepers);
        return 1;
    }
    qsort(h.sleepers, h.n, sizeof *h.sleepers, by_lateness);
    printf("%ld tasks slept, %s woke early\n", n, h.sleepers[0].late < 0 ? "some" : "none");
    printf("late by: p50 %.0f us, p99 %.0f us, most %.0f us\n", late_us(&h, 50), late_us(&h, 99),
            late_us(&h, 100));
    free(h.sleepers);
    return 0;
}
