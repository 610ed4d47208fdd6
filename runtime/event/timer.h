/* event/timer.h - deadlines: one heap for each worker. See timer.c. */
#ifndef WEFT_EVENT_TIMER_H
#define WEFT_EVENT_TIMER_H

#include "base/futex.h"
#include "base/histogram.h"
#include "sched/wait.h"

enum weft__timer_kind {
    WEFT__TIMER_WAKE, /* a struct weft__sleeper: fires its token */
    WEFT__TIMER_CALL  /* calls the function registered by weft__timers_on_call */
};

/* Lies in what it belongs to: a frame, a scope. Zeroed is disarmed. */
struct weft__timer {
    int64_t at;
    struct weft__timers *home; /* the heap it was armed in */
    at_word armed;  /* its entry's key; 0 disarmed; WEFT__TIMER_STRIKING. That of a sleeper is not reset when it strikes */
    uint16_t kind;
    uint16_t user;  /* whatever its owner keeps here */
};
#define WEFT__TIMER_STRIKING UINT64_MAX

struct weft__sleeper {
    struct weft__timer timer;
    weft__token token;
};

struct weft__timers {
    _Alignas(128) at_word earliest; /* INT64_MAX: none. Written under the lock, read by all */
    at_word struck; /* how many have, here; written under the lock */
    at_int pending; /* n, for who does not take the lock; written under it */
    struct weft__lock lock;
    uint32_t n, capacity;
    uint64_t sequence;
    struct weft__timer_entry *heap;
    struct weft__timer_slot *slots;
    uint32_t free_slot; /* + 1; 0 none */
    int64_t looked; /* when its worker last looked at the clock, at most a millisecond before its loop is due; its own */
    struct weft__histogram late; /* of those that have struck; written under the lock */
};

void weft__timers_init(struct weft__timers *t);
void weft__timers_fini(struct weft__timers *t);
/* An empty heap gives its memory back. Any thread. */
void weft__timers_shrink(struct weft__timers *t);

static inline int64_t weft__timers_earliest(const struct weft__timers *t)
{
    return (int64_t)at_load_acquire(&t->earliest);
}

/* Arms `timer` for `at`. 0; -ENOMEM. *first, if given, says that it is now the earliest. */
int weft__timer_arm(struct weft__timers *t, struct weft__timer *timer, int64_t at, bool *first);

/* Disarms, and never waits. 1; 0: it was not armed, or has struck; -EBUSY: its call is going on (M4). */
int weft__timer_take(struct weft__timer *timer);
/* Disarms. False: it has struck already. After it returned nothing refers to the timer any more: it waits while
 * the timer's call is going on, which must therefore not be the caller's own. */
bool weft__timer_disarm(struct weft__timer *timer);

/* Strikes what is due at `now`: calls are made, and the tasks of at most `most` won sleepers are written to
 * woken[], READY, for the caller to enqueue. Returns how many; if it is `most`, there may be more. */
uint32_t weft__timers_expire(struct weft__timers *t, int64_t now, uint32_t *woken, uint32_t most);
/* The same for who only lends a hand: nothing is struck if somebody holds the lock. */
uint32_t weft__timers_help_expire(struct weft__timers *t, int64_t now, uint32_t *woken, uint32_t most);

/* What a WEFT__TIMER_CALL calls, with no lock held; coord/scope.c. */
void weft__timers_on_call(void (*call)(struct weft__timer *timer));

#endif
