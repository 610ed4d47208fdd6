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

/* One at a time. Nobody waits longer than a moment behind others who come later: who finds it free takes it, but a waiter
 * that is older than a millisecond, or found it taken again when it was woken, is handed it. Not recursive. */
typedef struct weft_mutex {
    uint64_t opaque[4];
} weft_mutex;

/* Locks it. It stays the caller's over suspensions, on whatever worker, and its alone to unlock.
 *
 * returns    0; -ECANCELED told to leave before it was to be had; -EDEADLK it is the caller's already; -EOWNERDEAD its
 *            holder has ended without unlocking it: what it guards may be half done, and it stays locked for all until
 *            it is zeroed
 * context    task: suspends, cancellation point (it is not locked then); plain thread: blocks it
 * ordering   what was done under it before is visible
 * source     Go's two modes (normal, starvation), a waiter on its own stack, runtime/sync/mutex.c */
WEFT_CHECK WEFT_API int weft_mutex_lock(weft_mutex *m);

/* Locks it if that needs no waiting.
 *
 * returns    0; -EAGAIN it is taken; -EOWNERDEAD */
WEFT_CHECK WEFT_API int weft_mutex_try_lock(weft_mutex *m);

/* Unlocks it. Aborts if the caller does not hold it. Afterwards it may be freed by whoever locks it next and knows of
 * nobody who waits. */
WEFT_API void weft_mutex_unlock(weft_mutex *m);

/* What those who hold a mutex wait for: that another who holds it changes something, and signals. */
typedef struct weft_cond {
    uint64_t opaque[4];
} weft_cond;

/* Unlocks the mutex, waits for a signal, and locks it again, whatever comes; in one step, as far as signals go that are
 * given with the mutex held. There are no spurious wakes, but what was signalled may be over again: wait in a loop.
 *
 * returns    0; -ECANCELED, with the mutex locked, and no signal taken; -EPERM the caller does not hold the mutex;
 *            -EOWNERDEAD, and the mutex is not locked
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_cond_wait(weft_cond *c, weft_mutex *m);

/* Wakes the one that has waited longest, or all that wait. */
WEFT_API void weft_cond_signal(weft_cond *c);
WEFT_API void weft_cond_broadcast(weft_cond *c);

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
