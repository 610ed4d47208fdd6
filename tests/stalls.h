/* tests/stalls.h - for how long the machine stood still, seen from beside: a thread on each processor that wakes all the time.
 *
 * For a test that has to be made again where no time was left for what it looks at; never from its failure alone. */
#ifndef WEFT_TESTS_STALLS_H
#define WEFT_TESTS_STALLS_H

#include "support.h"

#include <sched.h>

enum { STALLS_MOST = 16 }; /* processors that are watched: the first ones */

struct stalls {
    int n;
    atomic_bool over;
    struct stalls_beat {
        struct stalls *all;
        pthread_t thread;
        size_t cpu;
        int64_t stood; /* the sum of all gaps */
    } beat[STALLS_MOST];
};

static inline void *stalls_watch(void *arg)
{
    struct stalls_beat *b = arg;
    const int64_t every = weft_ms(2), gap = weft_ms(10);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(b->cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
    for (int64_t from = weft_now(), now; !atomic_load(&b->all->over); from = now) {
        usleep((useconds_t)(every / 1000));
        now = weft_now();
        if (now - from > gap)
            b->stood += now - from;
    }
    return NULL;
}

static inline void stalls_begin(struct stalls *s)
{
    cpu_set_t ours;
    memset(s, 0, sizeof *s);
    ck_assert_int_eq(sched_getaffinity(0, sizeof ours, &ours), 0);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && s->n < STALLS_MOST; cpu++)
        if (CPU_ISSET(cpu, &ours)) {
            struct stalls_beat *b = &s->beat[s->n++];
            b->all = s;
            b->cpu = cpu;
            b->thread = thread_start(stalls_watch, b);
        }
}

/* ns, of the processor that stood still most. */
static inline int64_t stalls_end(struct stalls *s)
{
    int64_t most = 0;
    atomic_store(&s->over, true);
    for (int i = 0; i < s->n; i++) {
        pthread_join(s->beat[i].thread, NULL);
        most = s->beat[i].stood > most ? s->beat[i].stood : most;
    }
    return most;
}

#endif
