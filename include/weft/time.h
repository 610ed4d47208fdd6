/* weft/time.h - time, sleep, and the ambient deadline.
 *
 * Time is int64_t nanoseconds of the monotonic clock. A span is called `within`, a point in time `at`.
 * A deadline belongs to a scope (scope.h): the earliest of all enclosing scopes applies to every call.
 */
#ifndef WEFT_TIME_H
#define WEFT_TIME_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_NEVER INT64_MAX
#define weft_us(n) ((int64_t)(n) * 1000)
#define weft_ms(n) ((int64_t)(n) * 1000000)
#define weft_sec(n) ((int64_t)(n) * 1000000000)

/* Now, in nanoseconds of CLOCK_MONOTONIC. Any thread. */
WEFT_API int64_t weft_now(void);

/* The point in time `within` from now; WEFT_NEVER if that is too far to be written down. */
WEFT_API int64_t weft_after(int64_t within);

/* The earliest deadline of all enclosing scopes, WEFT_NEVER if there is none. A shield hides what is
 * outside it. */
WEFT_API int64_t weft_deadline(void);

/* The span until weft_deadline(): 0 if it has passed, WEFT_NEVER if there is none. */
WEFT_API int64_t weft_remaining(void);

/* Suspends the caller for `within` nanoseconds, never less. 0 or a negative span is weft_yield().
 *
 * returns    0; -ECANCELED; -ENOMEM the timer could not be kept
 * context    task: suspends, cancellation point; plain thread: blocks it
 * source     a 4-ary heap for each worker, event/timer.c */
WEFT_CHECK WEFT_API int weft_sleep(int64_t within);

/* The same, until a point in time. WEFT_NEVER sleeps until cancelled. */
WEFT_CHECK WEFT_API int weft_sleep_until(int64_t at);

#ifdef __cplusplus
}
#endif
#endif
