/* base/clock.c - the only place where time is read. */
#include "base/clock.h"

#include <pthread.h>
#include <time.h>

at_word weft__ticks_in_us = 1000;
at_int weft__clock_virtuals;

int64_t weft__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Counts ticks over 2 ms. A preemption in the middle stretches both clocks alike; only one that falls between
 * the two readings of a pair hurts, so the pair with the least distance is taken at each end. */
static void paired(uint64_t *ticks, int64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        uint64_t a = weft__ticks();
        int64_t t = weft__now();
        uint64_t b = weft__ticks();
        if (b - a < best) {
            best = b - a;
            *ticks = a + (b - a) / 2;
            *ns = t;
        }
    }
}

static void calibrate(void)
{
    uint64_t t0 = 0, t1 = 0;
    int64_t n0 = 0, n1 = 0;
    paired(&t0, &n0);
    do {
        paired(&t1, &n1);
    } while (n1 - n0 < 2000000);
    uint64_t rate = (t1 - t0) * 1000 / (uint64_t)(n1 - n0);
    at_store(&weft__ticks_in_us, rate > 0 ? rate : 1);
}

void weft__clock_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, calibrate);
}
