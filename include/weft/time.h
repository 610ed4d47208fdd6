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

#ifdef __cplusplus
}
#endif
#endif
