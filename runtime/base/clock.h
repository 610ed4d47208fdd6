/* base/clock.h - the only place where time is read.
 *
 * Two clocks: nanoseconds of CLOCK_MONOTONIC, by which deadlines are kept, and the processor's tick counter,
 * 10 ns instead of 24 to read, by which runs are measured and rules in time are applied. */
#ifndef WEFT_BASE_CLOCK_H
#define WEFT_BASE_CLOCK_H

#include <stdint.h>

int64_t weft__now(void);

/* Called once before the first conversion, from any number of threads. */
void weft__clock_init(void);

/* Spans; correct to about a thousandth. */
extern uint64_t weft__ticks_per_us;
static inline uint64_t weft__us_to_ticks(uint64_t us)
{
    return us * weft__ticks_per_us;
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
