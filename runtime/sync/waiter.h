/* sync/waiter.h - who waits at an object, and how one of them is served.
 *
 * An object (a lock, a channel, an event) has a list of waiters under a lock of its own. A waiter lives on the stack of
 * the task or plain thread that waits, and only who holds the object's lock reaches it. A wait that is one of several
 * (a select) has a waiter at each object, and one token: whoever claims that serves it, and the others are too late.
 *
 *     who waits                                     who serves, under the object's lock
 *     A1  weft__await_begin: a token (W1, W2)       B1  the first waiter comes off the list
 *     A2  under the lock: nothing to be had? then   B2  its token is claimed (F1 to F3); too late: B1 again,
 *         into the list (W3)                            and its task will find that it is in no list
 *     A3  weft__await (W4)                          B3  the item is moved, `rc` is set
 *     A4  an event: waits for `done`                B4  unlock: the last access to the object
 *     A5  else, under the lock: out of the list     B5  done = 1 + which, release: the last access to the waiter
 *                                                   B6  who slept is made ready
 *
 * Forbidden: A4 returns before B3, and uses what is not there yet; or before B4, and frees the object while its lock is
 * still to be let go; B3 touches a stack that is gone. Who was claimed before it slept, and a plain thread, may run as
 * soon as B2 is done, so A4 looks at `done`: between B2 and B5 are some ten nanoseconds, unless the server was
 * descheduled. After B5 the server has the token's task, by value, and nothing of the waiter. A claim is never taken
 * back. An object may be freed by who was served last at it, or saw without the lock what its server wrote and that the
 * lock was free after that.
 *
 * An object that chooses among its waiters (a semaphore, by what they want) claims those of one hold of the lock into a
 * struct weft__served, and lets go of the lock once: it has no business with the object after that, whoever is served.
 *
 * Callers   the rooms of sync/. Any thread.
 * Tested    tests/event_test.c and those of the other rooms, tests/explore, stress/sync.c */
#ifndef WEFT_SYNC_WAITER_H
#define WEFT_SYNC_WAITER_H

#include "base/fork.h"
#include "base/list.h"
#include "coord/await.h"

/* A wait, at one object or at several. */
struct weft__waiting {
    weft__token token;
    at_int done; /* B5 */
    int rc;      /* for who waits; by the server */
};

/* A place in an object's list. */
struct weft__waiter {
    struct weft__link link;
    struct weft__waiting *wait;
    void *item;      /* what is moved and where, as its object has it */
    uint64_t amount; /* the same */
    uint32_t which;  /* of several */
    struct weft__claimed who; /* of one that was claimed; by the server (struct weft__served) */
};

/* Lists whose head may be all zero. */
static inline bool weft__waiters_none(const struct weft__link *head)
{
    return head->next == NULL || list_empty(head);
}
static inline void weft__waiters_add(struct weft__link *head, struct weft__waiter *w)
{
    if (!head->next)
        list_init(head);
    list_push_tail(head, &w->link);
}
static inline void weft__waiters_add_first(struct weft__link *head, struct weft__waiter *w)
{
    if (!head->next)
        list_init(head);
    list_push_tail(head->next, &w->link); /* before the first */
}
static inline struct weft__waiter *weft__waiters_first(const struct weft__link *head)
{
    return weft__waiters_none(head) ? NULL : container_of(head->next, struct weft__waiter, link);
}

/* A1. 0; -ECANCELED, -ENOMEM: it does not wait. */
int weft__waiter_begin(struct weft__frame *f, struct weft__waiting *w, struct weft__waiter *at);
/* The same, and no cancel applies. */
void weft__waiter_begin_shielded(struct weft__frame *f, struct weft__waiting *w, struct weft__waiter *at);
/* Instead of A3: there was something to be had after all. Also if it was told to leave meanwhile. */
void weft__waiter_give_up(struct weft__frame *f);
/* A4 alone. */
void weft__waiting_settle_slow(const struct weft__waiting *w);
static inline void weft__waiting_settle(const struct weft__waiting *w)
{
    if (ati_load_acquire(&w->done) == 0)
        weft__waiting_settle_slow(w);
}
/* A5 alone: out of the list, and the lock is held. */
void weft__waiter_leave(struct weft__waiter *at, struct weft__lock *lock);
/* A3 to A5, at one object. True: served, see rc. False: told to leave; the object's lock is held, and the waiter out of
 * its list. */
bool weft__waiter_await(struct weft__frame *f, struct weft__waiter *at, struct weft__lock *lock);
/* The same without the call (coord/await.h). */
static inline bool weft__waiter_await_inline(struct weft__frame *f, struct weft__waiter *at, struct weft__lock *lock)
{
    if (weft__await_inline(f, INT64_MAX) == WEFT__CAUSE_CANCEL) {
        weft__waiter_leave(at, lock);
        return false;
    }
    weft__waiting_settle(at->wait);
    return true;
}
/* The same, until a time of the frame's clock at most (INT64_MAX: none), and the lock is held whatever it returns: 0 served, or
 * the time has come; -ECANCELED; -ENOMEM the time could not be kept. The object must not be freed by who was served. */
int weft__waiter_await_until(struct weft__frame *f, struct weft__waiter *at, struct weft__lock *lock, int64_t until);

/* B1, B2: the first that can be served, off the list; NULL: there is none. */
static inline struct weft__waiter *weft__waiters_claim(struct weft__link *head, struct weft__claimed *who)
{
    struct weft__waiter *at;
    while ((at = weft__waiters_first(head)) != NULL) {
        list_remove(&at->link);
        if (weft__claim_wait(at->wait->token, WEFT__CAUSE_SERVED, who))
            return at;
    }
    return NULL;
}
/* B5, B6, for one that was claimed; after B4. */
static inline void weft__waiter_release(struct weft__waiter *at, const struct weft__claimed *who)
{
    /* release: meets the acquire in weft__waiting_settle; rc and the item are seen. */
    ati_store_release(&at->wait->done, 1 + at->which);
    weft__ready_claimed(*who);
}
/* Who was claimed in one hold of the lock, the first first. They are reachable by nobody else any more. */
struct weft__served {
    struct weft__link all;
};
/* One that was claimed otherwise: what is to be known of it is kept in the waiter, which is its server's until B5. */
static inline void weft__served_add(struct weft__served *s, struct weft__waiter *at, const struct weft__claimed *who)
{
    at->who = *who;
    weft__waiters_add(&s->all, at);
}
/* B2 for a waiter that its object has chosen: off the list. False: too late. What its task finds in it under the lock
 * even then (rc, the item) is written before. */
bool weft__served_claim(struct weft__served *s, struct weft__waiter *at);
/* B5, B6 for all of them; after B4. */
void weft__served_release(struct weft__served *s);

/* After something was had without the lock: returns once whoever left it there, under the lock, has let that go. After
 * that the object may be freed. In a forked child the lock is nobody's any more, and not waited for. */
static inline void weft__lock_passed(struct weft__lock *l)
{
    /* acquire: meets the release of the unlock. Whoever held the lock took it before they wrote what was had. */
    if (ati_load_acquire(&l->word) == 0 || weft__forked)
        return;
    weft__lock(l);
    weft__unlock(l);
}

/* B1 to B6 for all that are in the list when it is called, in slices, between which the lock is let go: others find it
 * free. Called with the lock held; it is free on return. */
void weft__waiters_serve_all(struct weft__link *head, struct weft__lock *lock, int rc);
/* The same, and each one's item, a void **, gets the value. */
void weft__waiters_give_all(struct weft__link *head, struct weft__lock *lock, int rc, void *value);

#endif
