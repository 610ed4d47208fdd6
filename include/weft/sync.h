/* weft/sync.h - locks and signals between tasks, and plain threads.
 *
 * All of them are variables, valid when zeroed (calloc, static, = WEFT_SYNC_INIT), never allocate, and need no end; one
 * must not be moved or freed while somebody waits at it. Where a call returns -ENOMEM after all, for what base.h says, it has
 * taken nothing. Calls that wait are for tasks of any runtime and plain threads alike, mixed as you like: a plain thread is
 * blocked. Deadlines are ambient: the enclosing scope's (scope.h).
 * A wait that was told to leave took nothing: no lock, no permit, no signal. Who need not wait is not refused for being
 * told to leave, unless it is said; but one that always finds a lock free, or permits, yields before it takes them now and
 * then, so that others have a turn.
 * Each may be freed by whoever returned last from a call that waited for it or took from it, without a look at those
 * whose call let that happen: they are done with it.
 *
 * context    any thread: never suspends
 * source     waiters on their own stacks, claimed by one word, runtime/sync/waiter.h
 */
#ifndef WEFT_SYNC_H
#define WEFT_SYNC_H

#include <weft/base.h>
#include <weft/task.h>
#include <weft/time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The initialiser of each of the types below, where zeroes are what is wanted. */
#define WEFT_SYNC_INIT                                                                             \
    {                                                                                              \
        { 0 }                                                                                      \
    }
/* The initialiser of a weft_sem with so many permits. */
#define WEFT_SEM_INIT(permits)                                                                     \
    {                                                                                              \
        { (uint32_t)(permits) }                                                                    \
    }
/* The same of one that has never more than these, at least 1. */
#define WEFT_SEM_BOUNDED_INIT(permits)                                                             \
    {                                                                                              \
        { (uint32_t)(permits), (uint64_t)(uint32_t)(permits) << 32 }                               \
    }
/* The initialiser of a weft_limiter with so many permits, at least 1. */
#define WEFT_LIMITER_INIT(permits)                                                                 \
    {                                                                                              \
        { (uint32_t)(permits), (uint64_t)(uint32_t)(permits) << 32 }                               \
    }
/* The initialiser of a weft_barrier for so many. */
#define WEFT_BARRIER_INIT(parties)                                                                 \
    {                                                                                              \
        { (uint32_t)(parties) }                                                                    \
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

/* Sets it and wakes all who wait. It takes as long as there are many, during which others find it free. */
WEFT_API void weft_event_set(weft_event *e);
WEFT_API void weft_event_clear(weft_event *e);
WEFT_API bool weft_event_is_set(const weft_event *e);

/* Many may read, or one write. Whoever waits has it before all who come later, so neither readers nor writers starve;
 * readers beside each other in the queue get it together. Not to be taken again by who has it: a second read deadlocks
 * with a writer that came between. */
typedef struct weft_rwlock {
    uint64_t opaque[6];
} weft_rwlock;

/* Take it, to read or to write.
 *
 * returns    0; -ECANCELED
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it. All that only if it has to
 *            wait: who is told to leave has it if it is free, and those behind one who leaves are let in
 * ordering   what was written before the unlocks before is visible */
WEFT_CHECK WEFT_API int weft_rwlock_read(weft_rwlock *l);
WEFT_CHECK WEFT_API int weft_rwlock_write(weft_rwlock *l);
/* Take it if that needs no wait. 0; -EAGAIN: it is taken, or somebody waits for it. */
WEFT_CHECK WEFT_API int weft_rwlock_try_read(weft_rwlock *l);
WEFT_CHECK WEFT_API int weft_rwlock_try_write(weft_rwlock *l);
/* Ends whichever there is, a write or one of the reads; not necessarily by who began it. There is none: aborts. */
WEFT_API void weft_rwlock_unlock(weft_rwlock *l);

/* Wakes one who waits, or the next one who comes: a single notification is stored. To be followed by a look at what it
 * was about, as several may be as one. */
typedef struct weft_notify {
    uint64_t opaque[4];
} weft_notify;

/* Waits for a notification, or takes the stored one. First come, first served.
 *
 * returns    0; -ECANCELED, also at once if one is stored
 * context    task: suspends, cancellation point (nothing is lost: a notification that would have been its goes to the next,
 *            or is stored); plain thread: blocks it
 * ordering   what was written before the notification is visible when 0 is returned */
WEFT_CHECK WEFT_API int weft_notify_wait(weft_notify *n);

/* Wakes who has waited longest; if nobody waits, that is stored, once. */
WEFT_API void weft_notify_one(weft_notify *n);
/* Wakes all who wait now, and stores nothing. What is stored stays. */
WEFT_API void weft_notify_all(weft_notify *n);

/* A point in time that may be moved while it is waited for: a timeout that starts anew with each packet, a watchdog. At
 * first it is not set. */
typedef struct weft_timer {
    uint64_t opaque[4];
} weft_timer;

/* Sets it to strike at `at`, once, wherever it was set to before, and whether that has come; WEFT_NEVER stops it. What has
 * passed strikes at once. To move it to later wakes nobody.
 *
 * returns    1 it was set, and no wait had returned for that; 0 it was not */
WEFT_API int weft_timer_set(weft_timer *t, int64_t at);

/* Waits until it strikes, for as often as it is moved meanwhile. A strike ends one wait, and the timer is not set any more;
 * one for which nobody waits is kept. Never early on the caller's clock: that of its runtime, or for a plain thread the real
 * one.
 *
 * returns    0; -ECANCELED, also at once if it has struck; -ENOMEM the time could not be kept
 * context    task: suspends, cancellation point (nothing is lost: a strike stays for the next wait); plain thread: blocks it
 * ordering   what was written before the set is visible when 0 is returned */
WEFT_CHECK WEFT_API int weft_timer_wait(weft_timer *t);

/* A number of permits, = WEFT_SEM_INIT(permits) or 0 to begin with. Limits how many do something at once, or counts what
 * is there: permits need not be given back by who took them. One that is = WEFT_SEM_BOUNDED_INIT(permits) refuses more than
 * it had to begin with. */
typedef struct weft_sem {
    uint64_t opaque[4];
} weft_sem;

/* Takes so many permits at once, when there are so many: first come, first served, so that one who wants many is not
 * overtaken by those who want few. For 0 it does nothing.
 *
 * returns    0; -ECANCELED
 * context    task: suspends, cancellation point (no permit is lost); plain thread: blocks it. All that only if it has to
 *            wait: who is told to leave gets what is there, and those behind one who leaves what it stood in the way of
 * ordering   what was written before the permits were given back is visible */
WEFT_CHECK WEFT_API int weft_sem_acquire(weft_sem *s, uint32_t permits);
/* Takes them if that needs no wait. 0; -EAGAIN: there are not so many, or somebody waits for some. */
WEFT_CHECK WEFT_API int weft_sem_try_acquire(weft_sem *s, uint32_t permits);
/* Gives so many back, or adds them. More than UINT32_MAX in all: aborts, unless it is bounded.
 *
 * returns    0; -EINVAL it is bounded, and not so many are taken: nothing is changed */
WEFT_API int weft_sem_release(weft_sem *s, uint32_t permits);

/* A number of permits, = WEFT_LIMITER_INIT(permits), of which it is known who has them. */
typedef struct weft_limiter {
    uint64_t opaque[7];
} weft_limiter;

/* Permits that are borrowed. Zeroed to begin with, and the borrower's: it stays where it is until they were returned, and
 * then can be used again. */
typedef struct weft_loan {
    uint64_t opaque[5];
} weft_loan;

/* Takes so many permits at once, as weft_sem_acquire does: first come, first served.
 *
 * returns    0; -ECANCELED; -EINVAL none, or more than the limiter has; -EBUSY the loan is out already
 * context    task: suspends, cancellation point (no permit is lost); plain thread: blocks it. All that only if it has to
 *            wait
 * ordering   what was written before the permits were returned is visible */
WEFT_CHECK WEFT_API int weft_limiter_borrow(weft_limiter *l, weft_loan *loan, uint32_t permits);
/* Takes them if that needs no wait. As above, and -EAGAIN: there are not so many, or somebody waits for some. */
WEFT_CHECK WEFT_API int weft_limiter_try_borrow(weft_limiter *l, weft_loan *loan, uint32_t permits);
/* Gives back what was borrowed: once, and by the task or plain thread that has borrowed it.
 *
 * returns    0; -EPERM another has borrowed it; -EINVAL it is not out, or of another limiter: nothing is changed */
WEFT_API int weft_limiter_return(weft_limiter *l, weft_loan *loan);
/* Writes who has borrowed, the oldest first, at most n: a task for each loan, 0 for a plain thread.
 *
 * returns    how many loans are out, which may be more than n; -EINVAL */
WEFT_API int weft_limiter_borrowers(weft_limiter *l, weft_task *out, size_t n);

/* Holds back all until a number of them have come, = WEFT_BARRIER_INIT(parties); then the next generation begins. */
typedef struct weft_barrier {
    uint64_t opaque[6];
} weft_barrier;

/* Waits until all have come.
 *
 * returns    its place in the order of arrival, 0 to parties - 1, each once in a generation; -EPIPE it is broken, or was
 *            broken or reset meanwhile; -EINVAL no parties, or more than INT_MAX; -ECANCELED
 * context    task: suspends, cancellation point (it has not come, and the others wait on, for one more); plain thread:
 *            blocks it. The last one does not wait, so it is not refused
 * ordering   what each wrote before it came is visible when one of its generation is let go */
WEFT_CHECK WEFT_API int weft_barrier_wait(weft_barrier *b);

/* Sends all away who wait, and who come later, with -EPIPE. */
WEFT_API void weft_barrier_break(weft_barrier *b);
/* Sends all away who wait, with -EPIPE. Those who come later find it as new, even if it was broken. */
WEFT_API void weft_barrier_reset(weft_barrier *b);

/* Counts what is still to be done, where a scope (scope.h) does not. */
typedef struct weft_waitgroup {
    uint64_t opaque[4];
} weft_waitgroup;

/* Adds n that are to be done: before these are begun, and before the wait that is for them. More than UINT32_MAX in all:
 * aborts. */
WEFT_API void weft_waitgroup_add(weft_waitgroup *g, uint32_t n);
/* One is done. None was left: aborts. */
WEFT_API void weft_waitgroup_done(weft_waitgroup *g);

/* Waits until all are done that were added: for the first moment from now on at which nothing is left. It can be used
 * again at once: who waited is woken though others were added meanwhile.
 *
 * returns    0; -ECANCELED, also at once if nothing is left
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it
 * ordering   what was written before each weft_waitgroup_done is visible when 0 is returned */
WEFT_CHECK WEFT_API int weft_waitgroup_wait(weft_waitgroup *g);

/* Something that is to be done once, by whoever needs it first. */
typedef struct weft_once {
    uint64_t opaque[4];
} weft_once;

/* Calls fn(arg), which may suspend, unless that was done. Who comes while it runs waits. If it returns a negative value
 * it was not done: the next one of those who wait calls its own fn, or who comes next.
 *
 * returns    what fn returned, to who called it; else 0: it is done; -EDEADLK from within fn itself; -ECANCELED
 * context    task: suspends, cancellation point (nothing is lost, fn is not called); plain thread: blocks it. All that
 *            only if it has to wait, or fn does
 * ordering   what fn wrote is visible to all when 0 is returned */
WEFT_CHECK WEFT_API int weft_once_run(weft_once *o, weft_fn *fn, void *arg);

/* A result that is to come, once, for any number who wait for it. */
typedef struct weft_promise {
    uint64_t opaque[6];
} weft_promise;

/* Keeps it, with 0 or a count and a value, or a negative errno, with which the value goes to nobody. It has no end of its
 * own: who is to set it and cannot says so by (p, -EPIPE, NULL), as those who wait would wait for ever; a setter, below,
 * does it for whoever leaves without a word.
 *
 * returns    0; -EALREADY it was set before: nothing is changed */
WEFT_API int weft_promise_set(weft_promise *p, int rc, void *value);

/* Waits until it is set.
 *
 * returns    the rc of the set; -ECANCELED, also at once if it is set
 * on error   *value (which may be NULL) is untouched
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it
 * ordering   what was written before the set is visible when its result is returned */
WEFT_CHECK WEFT_API int weft_promise_wait(weft_promise *p, void **value);

/* A setter: the duty to set a promise, as a pointer to it that is NULL once that is done or left to others. Any thread's,
 * one at a time; it may be handed on by value, with NULL left behind. WEFT_SETTER declares one that is dropped at the
 * brace. */
#define WEFT_SETTER(name, promise) weft_promise *name WEFT_AUTO(weft_setter_drop) = (promise)

/* weft_promise_set, and *setter is NULL then: the promise may be gone already.
 *
 * returns    as weft_promise_set; -EINVAL setter or *setter is NULL */
WEFT_API int weft_setter_set(weft_promise **setter, int rc, void *value);
/* Unless *setter is NULL: whoever waits gets -EPIPE, if nobody else has set the promise; and *setter is NULL then. */
WEFT_API void weft_setter_drop(weft_promise **setter);

#ifdef __cplusplus
}
#endif
#endif
