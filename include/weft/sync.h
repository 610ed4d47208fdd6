/* weft/sync.h - locks and signals between tasks, and plain threads.
 *
 * All of them are variables, valid when zeroed (calloc, static, = WEFT_SYNC_INIT), never allocate, and need no end; one
 * must not be moved or freed while somebody waits at it. Calls that wait are for tasks of any runtime and plain threads
 * alike, mixed as you like: a plain thread is blocked. Deadlines are ambient: the enclosing scope's (scope.h).
 * A wait that was told to leave took nothing: no lock, no permit, no signal. Who need not wait is not refused for being
 * told to leave, unless it is said.
 *
 * context    any thread: never suspends
 * source     waiters on their own stacks, claimed by one word, runtime/sync/waiter.h
 */
#ifndef WEFT_SYNC_H
#define WEFT_SYNC_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The initialiser of each of the types below, where zeroes are what is wanted. */
#define WEFT_SYNC_INIT                                                                             \
    {                                                                                              \
        { 0 }                                                                                      \
    }

/* Is set for all who wait, and for who comes later, until it is cleared. */
typedef struct weft_event {
    uint64_t opaque[4];
} weft_event;

/* Waits until it is set.
 *
 * returns    0, also if it was cleared again meanwhile; -ECANCELED, also at once if it is set
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it
 * ordering   what was written before the set is visible when 0 is returned */
WEFT_CHECK WEFT_API int weft_event_wait(weft_event *e);

/* Sets it and wakes all who wait. A million waiters take a tenth of a second, during which others find it free. */
WEFT_API void weft_event_set(weft_event *e);
WEFT_API void weft_event_clear(weft_event *e);
WEFT_API bool weft_event_is_set(const weft_event *e);

#ifdef __cplusplus
}
#endif
#endif
