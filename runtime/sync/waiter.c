/* sync/waiter.c - who waits at an object, and how one of them is served. See waiter.h. */
#include "sync/waiter.h"

#include <sched.h>

enum { SLICE = 32, PATIENCE = 100, YIELDS = 50, NAP_NS = 50000 };

static void begin(struct weft__waiting *w, struct weft__waiter *at)
{
    at->link.next = at->link.prev = NULL;
    at->wait = w;
    at->which = 0;
    ati_store(&w->done, 0);
}

int weft__waiter_begin(struct weft__frame *f, struct weft__waiting *w, struct weft__waiter *at)
{
    begin(w, at);
    return weft__await_begin(f, &w->token);
}

void weft__waiter_begin_shielded(struct weft__frame *f, struct weft__waiting *w, struct weft__waiter *at)
{
    begin(w, at);
    w->token = weft__await_begin_shielded(f);
}

void weft__waiter_give_up(struct weft__frame *f)
{
    if (!weft__await_give_up(f))
        (void)weft__await(f); /* a cancel, too late */
}

void weft__waiting_settle_slow(const struct weft__waiting *w)
{
    for (int n = 0; ati_load_acquire(&w->done) == 0; n++) {
        at_relax();
        if (n >= PATIENCE + YIELDS) { /* it is of a lower priority, as in weft__lock_slow */
            at_int never = 0;
            weft__futex_wait(&never, 0, weft__now() + NAP_NS);
        } else if (n >= PATIENCE) { /* the server was descheduled */
            sched_yield();
        }
    }
}

void weft__waiter_leave(struct weft__waiter *at, struct weft__lock *lock)
{
    weft__lock(lock);
    if (list_linked(&at->link)) /* else a server was too late */
        list_remove(&at->link);
}

bool weft__waiter_await(struct weft__frame *f, struct weft__waiter *at, struct weft__lock *lock)
{
    return weft__waiter_await_inline(f, at, lock);
}

int weft__waiter_await_until(struct weft__frame *f, struct weft__waiter *at, struct weft__lock *lock, int64_t until)
{
    struct weft__sleeper sleeper = { .timer = { .kind = WEFT__TIMER_WAKE }, .token = at->wait->token };
    bool timed = until != INT64_MAX && !weft__is_thread(f); /* a thread keeps its own time */
    int rc = 0;
    if (timed) {
        struct weft__worker *w = weft__worker_of(weft__self());
        bool first = false;
        rc = weft__timer_arm(&w->timers, &sleeper.timer, until, &first);
        timed = rc == 0;
        if (first)
            weft__worker_due(&w->sched, until);
    }
    if (rc == 0 || !weft__await_give_up(f)) { /* or it was fired by then */
        enum weft__cause cause = weft__is_thread(f) ? weft__await_until(f, until) : weft__await(f);
        if (timed)
            weft__timer_disarm(&sleeper.timer);
        if (cause == WEFT__CAUSE_SERVED)
            weft__waiting_settle(at->wait);
        rc = cause == WEFT__CAUSE_CANCEL ? -ECANCELED : 0;
    }
    weft__waiter_leave(at, lock);
    return rc;
}

bool weft__served_claim(struct weft__served *s, struct weft__waiter *at)
{
    list_remove(&at->link);
    if (!weft__claim_wait(at->wait->token, WEFT__CAUSE_SERVED, &at->who))
        return false;
    weft__waiters_add(&s->all, at);
    return true;
}

void weft__served_release(struct weft__served *s)
{
    for (struct weft__link *l = s->all.next; l && l != &s->all;) {
        struct weft__waiter *at = container_of(l, struct weft__waiter, link);
        struct weft__claimed who = at->who;
        l = l->next; /* B5 ends our business with this one */
        weft__waiter_release(at, &who);
    }
}

/* What all of them get. */
struct gift {
    int rc;
    bool has_value;
    void *value;
};

/* Serves a slice. The last of it is kept until the next one has begun, at index 0: so not all who waited have returned
 * while the lock is still to be taken again, should the rest of them be told to leave meanwhile. How many are kept: 0,
 * there are no more, and the object may be gone. */
static int serve_some(struct weft__link *all, struct weft__lock *lock, const struct gift *g, struct weft__waiter **served,
        struct weft__claimed *who, int kept)
{
    int n = kept;
    while (n < SLICE && (served[n] = weft__waiters_claim(all, &who[n])) != NULL) {
        served[n]->wait->rc = g->rc;
        if (g->has_value)
            *(void **)served[n]->item = g->value;
        n++;
    }
    int keep = weft__waiters_none(all) ? 0 : 1;
    weft__unlock(lock);
    for (int i = 0; i < n - keep; i++)
        weft__waiter_release(served[i], &who[i]);
    if (keep) { /* then there is one, since the slice is full */
        served[0] = served[n - 1];
        who[0] = who[n - 1];
    }
    return keep;
}

static void give_all(struct weft__link *head, struct weft__lock *lock, const struct gift *g)
{
    if (weft__waiters_none(head)) {
        weft__unlock(lock);
        return;
    }
    /* Those who come between two slices are for somebody else: the present ones get a list of their own, which is still
     * under the object's lock. */
    struct weft__link all = *head;
    all.next->prev = all.prev->next = &all;
    list_init(head);
    struct weft__claimed who[SLICE];
    struct weft__waiter *served[SLICE] = { NULL };
    int kept = 0;
    while ((kept = serve_some(&all, lock, g, served, who, kept)) > 0)
        weft__lock(lock);
}

void weft__waiters_serve_all(struct weft__link *head, struct weft__lock *lock, int rc)
{
    give_all(head, lock, &(struct gift){ .rc = rc });
}

void weft__waiters_give_all(struct weft__link *head, struct weft__lock *lock, int rc, void *value)
{
    give_all(head, lock, &(struct gift){ .rc = rc, .has_value = true, .value = value });
}
