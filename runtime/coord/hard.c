/* coord/hard.c - a cancel with a grace: told to leave now, and cut off later, shields or not.
 *
 * Owns      the graces that a scope's work has been given: a record for each, hung in the scope, with a timer.
 * Callers   weft_scope_cancel_hard: any thread. struck: whoever strikes timers. over: the scope's owner, at its end.
 *
 *     the grace                                    the end of the scope
 *     G1  the record hangs in the scope            E1  under the record's lock: it has no scope any more
 *     G2  under its lock, if it has a scope:       E2  disarms; if it is just striking, that is waited
 *         armed, on a worker of the scope's            for (event/timer.c, M4)
 *         runtime: the caller's, or by an          E3  no other reference: frees it; else G2's errand
 *         errand, which keeps a reference              does
 *     G3  strikes: the scope, under the lock;
 *         the mark HARD, and a walk (cancel.c)
 * Forbidden: G3 with a scope that has ended: E1 came first and it has none, or E2 waits for it.
 *
 * The mark is never taken back: the scope is on its way out. A walk that goes on after G3 holds the scope as any other.
 * Plain     a plain thread without a runtime has no timers. Its own waits look for records, as they do for deadlines.
 * Tested    tests/policy_test.c, tests/tree_test.c, tests/explore/hard.c */
#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/scope.h"
#include "sched/errand.h"

struct weft__hard {
    struct weft__hard *next; /* an older one of the same scope */
    struct weft__timer timer; /* its `user` is 0 (coord/scope.c, weft__deadline_struck) */
    struct weft__lock lock;
    struct weft__scope *scope; /* under lock; NULL: it has ended */
    at_int references;
    int64_t at;
    bool by_owner; /* a plain thread's own waits strike it */
};

static void drop(struct weft__hard *h)
{
    /* acq_rel: who frees it has seen what the other did with it. */
    if (ati_add(&h->references, (uint32_t)-1) == 1)
        weft__mem_free(h);
}

static struct weft__hard *newest(struct weft__scope *s)
{
    struct weft__scope_extra *x = (struct weft__scope_extra *)at_load_acquire(&s->extra);
    return x ? (struct weft__hard *)(uintptr_t)at_load_acquire(&x->hards) : NULL;
}

/* G2, on a worker of the scope's runtime. Without memory the grace is over. */
static void arm(struct weft__hard *h, struct weft__sched *w)
{
    bool first = false;
    struct weft__scope *cut = NULL;
    weft__lock(&h->lock);
    if (h->scope && weft__timer_arm(&weft__worker_of(w)->timers, &h->timer, h->at, &first) < 0) {
        cut = h->scope;
        at_add(&cut->mark, WEFT__MARK_HOLD);
    }
    weft__unlock(&h->lock);
    if (first)
        weft__worker_due(w, h->at);
    if (cut) {
        weft__cancel_scope(cut, WEFT__MARK_HARD);
        weft__scope_let_go(cut);
    }
}

static bool arm_there(struct weft__task *errand)
{
    struct weft__hard *h = (struct weft__hard *)(uintptr_t)at_load(&errand->u.arg);
    struct weft__sched *w = weft__self();
    if (w)
        arm(h, w);
    drop(h);
    return false;
}

void weft__hard_struck(struct weft__timer *timer)
{
    struct weft__hard *h = container_of(timer, struct weft__hard, timer);
    weft__lock(&h->lock);
    struct weft__scope *s = h->scope;
    weft__unlock(&h->lock);
    if (s)
        weft__cancel_scope(s, WEFT__MARK_HARD);
}

/* G1. NULL: no memory. */
static struct weft__hard *hang(struct weft__scope *s, int64_t at, bool by_owner)
{
    struct weft__scope_extra *x = weft__scope_extra(s);
    struct weft__hard *h = x ? weft__mem_zeroed(sizeof *h) : NULL;
    if (!h)
        return NULL;
    h->timer.kind = WEFT__TIMER_CALL;
    h->scope = s;
    h->at = at;
    h->by_owner = by_owner;
    ati_store(&h->references, 1);
    uint64_t older;
    do {
        older = at_load_acquire(&x->hards);
        h->next = (struct weft__hard *)(uintptr_t)older;
    } while (!at_cas(&x->hards, older, (uint64_t)(uintptr_t)h));
    return h;
}

/* False: there is no memory to keep the grace. */
static bool give_grace(struct weft__scope *s, int64_t grace)
{
    struct weft__group *g = weft__scope_group(s);
    struct weft__sched *w = weft__self();
    int64_t at = weft__time_add(g ? weft__clock_now(&g->clock) : weft__now(), grace);
    for (struct weft__hard *h = newest(s); h; h = h->next)
        if (h->at <= at)
            return true; /* what is there is earlier */
    bool here = w && w->group == g;
    struct weft__task *errand = g && !here ? weft__errand_new(arm_there) : NULL;
    if (g && !here && !errand)
        return false;
    struct weft__hard *h = hang(s, at, g == NULL);
    if (!h) {
        if (errand)
            weft__task_free_slow(NULL, errand);
        return false;
    }
    if (here) {
        arm(h, w);
    } else if (errand) {
        ati_add(&h->references, 1);
        at_store(&errand->u.arg, (uint64_t)(uintptr_t)h);
        weft__errand_post(g, errand);
    }
    return true;
}

void weft_scope_cancel_hard(weft_scope *ps, int64_t grace, const char *reason)
{
    struct weft__scope *s = weft__scope_of(ps);
    if (!weft__scope_is_open(ps) || !s->owner || weft__forked)
        return;
    at_add(&s->mark, WEFT__MARK_HOLD); /* what is told to leave may do so, and the scope would end before the rest */
    weft__scope_tell(ps, reason, __builtin_return_address(0));
    if (grace <= 0 || (grace != INT64_MAX && !give_grace(s, grace)))
        weft__cancel_scope(s, WEFT__MARK_HARD);
    weft__scope_let_go(s);
}

void weft__hard_over(struct weft__scope_extra *x)
{
    struct weft__hard *h = (struct weft__hard *)(uintptr_t)at_load_acquire(&x->hards);
    while (h) {
        struct weft__hard *next = h->next;
        weft__lock(&h->lock);
        h->scope = NULL; /* E1 */
        weft__unlock(&h->lock);
        if (at_load_acquire(&h->timer.armed) != 0)
            weft__timer_disarm(&h->timer); /* E2 */
        drop(h);
        h = next;
    }
    at_store(&x->hards, 0);
}

/* ---- a plain thread without a runtime */

int64_t weft__hard_next(struct weft__scope *s)
{
    int64_t at = INT64_MAX;
    if (at_load(&s->mark) & WEFT__MARK_HARD)
        return at;
    for (struct weft__hard *h = newest(s); h; h = h->next)
        if (h->by_owner && h->at < at)
            at = h->at;
    return at;
}

void weft__hard_overdue(struct weft__frame *f)
{
    for (weft_scope *p = f->inner; p; p = weft__scope_of(p)->outer) {
        int64_t at = weft__hard_next(weft__scope_of(p));
        if (at != INT64_MAX && at <= weft__now())
            weft__cancel_scope(weft__scope_of(p), WEFT__MARK_HARD);
    }
}
