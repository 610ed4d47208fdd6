/* micro_mutex.c - how long tasks wait at one mutex that all of them want.
 *
 *     micro_mutex [ops=200000] [tasks=64] [threads=2]
 *
 * Measures  the time from the call of weft_mutex_lock to its return, of each of the ops, as percentiles, and the most that
 *           one task got beside the least. mutex_wait_short: some 100 ns of work with the lock held, the same without;
 *           mutex_wait_yield: it is held over a yield, so that all the others queue.
 * Does not  measure how many a second (weft-peer mutex); plain threads. With ops of two reads of the clock each. */
#include <weft.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "micro.h"

struct crowd {
    weft_mutex lock;
    long ops, done;
    bool yields;
    float *waits; /* in ns, ops of them; under lock, as is done */
    unsigned sum;
};

struct member {
    struct crowd *c;
    long got;
};

static unsigned some_work(unsigned x)
{
    for (int i = 0; i < 60; i++)
        x = x * 1664525u + 1013904223u;
    return x;
}

static int take_part(void *arg)
{
    struct member *m = arg;
    struct crowd *c = m->c;
    unsigned x = 1;
    for (;;) {
        double from = now_ns();
        int rc = weft_mutex_lock(&c->lock);
        double waited = now_ns() - from;
        if (rc < 0)
            return rc;
        bool over = c->done == c->ops;
        if (!over) {
            c->waits[c->done++] = (float)waited;
            m->got++;
            c->sum = some_work(c->sum);
            if (c->yields)
                rc = weft_yield();
        }
        weft_mutex_unlock(&c->lock);
        x = some_work(x);
        if (over || rc < 0)
            return rc < 0 ? rc : (int)(x & 0);
    }
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

struct job {
    long ops, tasks, threads;
    bool yields;
};

static int measure(void *arg)
{
    const struct job *j = arg;
    struct crowd c = { .ops = j->ops, .yields = j->yields };
    struct member *all = calloc((size_t)j->tasks, sizeof *all);
    c.waits = calloc((size_t)j->ops, sizeof *c.waits);
    int rc = all && c.waits ? 0 : -ENOMEM;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; rc == 0 && i < j->tasks; i++) {
        all[i].c = &c;
        weft_spawn(&s, take_part, &all[i]);
    }
    rc = weft_scope_end(&s, rc);
    if (rc == 0) {
        long least = j->ops, most = 0;
        for (long i = 0; i < j->tasks; i++) {
            least = all[i].got < least ? all[i].got : least;
            most = all[i].got > most ? all[i].got : most;
        }
        qsort(c.waits, (size_t)j->ops, sizeof *c.waits, ascending);
        printf("{\"bench\":\"mutex_wait_%s\",\"workers\":%ld,\"tasks\":%ld,\"ops\":%ld,\"p50_us\":%.2f,\"p99_us\":%.2f,"
               "\"p999_us\":%.2f,\"max_us\":%.2f,\"most_by_least\":%.2f}\n",
                j->yields ? "yield" : "short", j->threads, j->tasks, j->ops, (double)c.waits[j->ops / 2] / 1e3,
                (double)c.waits[j->ops * 99 / 100] / 1e3, (double)c.waits[j->ops * 999 / 1000] / 1e3,
                (double)c.waits[j->ops - 1] / 1e3, (double)most / (double)(least > 0 ? least : 1));
    }
    free(c.waits);
    free(all);
    return rc;
}

int main(int argc, char **argv)
{
    struct job j = { .ops = word(argv + (argc > 0), "ops", 200000, 1000, 100000000),
        .tasks = word(argv + (argc > 0), "tasks", 64, 1, 100000), .threads = word(argv + (argc > 0), "threads", 2, 1, 1024) };
    int rc = 0;
    for (int k = 0; k < 2 && rc == 0; k++) {
        j.yields = k == 1;
        rc = weft_run(measure, &j, &(weft_options){ .workers = (int)j.threads });
    }
    if (rc < 0)
        fprintf(stderr, "micro_mutex: %s\n", weft_strerror(rc));
    return rc < 0;
}
