/* weft/time.h - time, sleep, and the ambient deadline.
 *
 * Time is int64_t nanoseconds of the monotonic clock. A span is called `within`, a point in time `at`.
 * A deadline belongs to a scope (scope.h): the earliest of all enclosing scopes applies to every call.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_TIME_H
#define WEFT_TIME_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* No deadline: a span, and a point in time, that does not end. */
#define WEFT_NEVER INT64_MAX

/* A span of n microseconds, milliseconds, seconds. */
#define weft_us(n) ((int64_t)(n) * 1000)
#define weft_ms(n) ((int64_t)(n) * 1000000)
#define weft_sec(n) ((int64_t)(n) * 1000000000)

/* Now, in nanoseconds of CLOCK_MONOTONIC.
 *
 * context    any thread, signal handler: never suspends */
WEFT_API int64_t weft_now(void);

/* The point in time `within` from now; WEFT_NEVER if that is too far to be written down.
 *
 * context    any thread, signal handler: never suspends */
WEFT_API int64_t weft_after(int64_t within);

/* The earliest deadline of all enclosing scopes, WEFT_NEVER if there is none. A shield hides what is
 * outside it. */
WEFT_API int64_t weft_deadline(void);

/* The span until weft_deadline(): 0 if it has passed, WEFT_NEVER if there is none. */
WEFT_API int64_t weft_remaining(void);

/* Suspends the caller for `within` nanoseconds, never less unless cancelled. 0 or a negative span is weft_yield().
 *
 * returns    0; -ECANCELED; -ENOMEM the timer could not be kept
 * context    task: suspends, cancellation point (it ends early); plain thread: blocks it
 * source     a 4-ary heap for each worker, event/timer.c */
WEFT_CHECK WEFT_API int weft_sleep(int64_t within);

/* The same, until a point in time. WEFT_NEVER sleeps until cancelled. */
WEFT_CHECK WEFT_API int weft_sleep_until(int64_t at);

/* What becomes of the ticks of an interval whose user came too late, by a whole `every` or more. */
enum weft_missed {
    WEFT_MISSED_BURST, /* they come at once, one after the other */
    WEFT_MISSED_DELAY, /* they are dropped, and the next comes `every` after this one */
    WEFT_MISSED_SKIP   /* they are dropped, and the next is on the grid again */
};

/* A tick every so often: `weft_interval i = { .every = weft_sec(1) };`. */
typedef struct weft_interval {
    int64_t every;
    int64_t next; /* when the next tick is due; 0: `every` after the first wait began. May be set at any time */
    int missed;   /* enum weft_missed */
} weft_interval;

/* Waits for the next tick. It is never early.
 *
 * returns    1; -ECANCELED; -EINVAL every is not positive, or missed is none of them; -ENOMEM the timer could not be kept
 * on error   *i is as before, so no tick is lost; but .next is set
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_interval_wait(weft_interval *i);

/* Growing pauses between tries: `weft_backoff b = { .first = weft_ms(20), .tries = 5 };`. */
typedef struct weft_backoff {
    int64_t first; /* the first pause; each is twice as long as the one before. 0: 10 ms */
    int64_t most;  /* that none is longer than; 0: 30 s */
    int tries;     /* how many there are, with the one before the first pause; 0: any number */
    int used;      /* how many have been used; 0 begins anew */
} weft_backoff;

/* To be called after a try that failed: pauses, if there is another. A pause is anything between half its length and all
 * of it, by chance, so that those who failed together do not come back together; with a virtual clock or a chaos seed the
 * chances are the same in each run.
 *
 * returns    1 it has slept, go on; 0 the tries are used up; -ECANCELED; -EINVAL a negative number; -ENOMEM
 * context    task: suspends, cancellation point (the try counts as used); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_backoff_sleep(weft_backoff *b);

#ifdef __cplusplus
}
#endif
#endif
