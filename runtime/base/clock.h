/* base/clock.h - the only place where time is read.
 *
 * Two clocks: nanoseconds of CLOCK_MONOTONIC, by which deadlines are kept, and the processor's tick counter,
 * 10 ns instead of 24 to read, by which runs are measured and rules in time are applied. A runtime may have a virtual
 * clock in place of the first (struct weft__clock), and with one worker of the second (sched/chaos.c), too: what belongs
 * to a runtime reads weft__clock_now and weft__sched_ticks; weft__now and weft__ticks are the machine's. */
#ifndef WEFT_BASE_CLOCK_H
#define WEFT_BASE_CLOCK_H

#include <stdint.h>

#include "base/atomic.h"
#include "base/hidden.h"

int64_t weft__now(void);

/* The clock of one runtime: the monotonic one, or a virtual one that stands still until it is moved (engine/leap.c). */
struct weft__clock {
    bool is_virtual;  /* never changes */
    at_word now;      /* ns, if it is virtual */
    at_word outside;  /* how many of its tasks wait for what is outside: descriptors, names */
};
enum { WEFT__VIRTUAL_BEGIN = 1000000000 }; /* where every virtual clock begins */

/* How many runtimes have a virtual clock. */
extern WEFT__HIDDEN at_int weft__clock_virtuals;

static inline int64_t weft__clock_now(const struct weft__clock *c)
{
    return c->is_virtual ? (int64_t)at_load_acquire(&c->now) : weft__now();
}

/* Measures how fast ticks go: by each runtime's start, from any number of threads; only the first one does it. */
void weft__clock_init(void);

/* Spans; correct to about a thousandth. A plain thread that waits at a mutex before there is any runtime has a guess. */
extern WEFT__HIDDEN at_word weft__ticks_in_us;
static inline uint64_t weft__us_to_ticks(uint64_t us)
{
    return us * at_load(&weft__ticks_in_us);
}
static inline uint64_t weft__ticks_to_us(uint64_t ticks)
{
    return ticks / at_load(&weft__ticks_in_us);
}

static inline uint64_t weft__ticks(void)
{
#if defined(__x86_64__)
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
#elif defined(__aarch64__)
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return (uint64_t)weft__now();
#endif
}

/* at + within, without overflow: INT64_MAX is never. */
static inline int64_t weft__time_add(int64_t at, int64_t within)
{
    int64_t sum;
    if (within <= 0)
        return within == INT64_MIN ? 0 : at + within;
    return __builtin_add_overflow(at, within, &sum) ? INT64_MAX : sum;
}

#endif
