/* coord/scope.c - the owner of tasks, of deadlines and of cancellation.
 *
 * Owns      a scope's life: begin, count, join, verdict, end.
 * Callers   begin and end: the owner, nested. fail and child_left: whoever a child ends on. cancel: any thread.
 * Holds     N1  a scope does not end before its children: the end moves `spawned` into `count` and waits for 0.
 *           N2  the last access of a child to its scope is the swap of `waiter` in weft__scope_child_left, and
 *               only a child that brought the count to 0 makes it; so the owner that waits for it may end.
 *           N3  the verdict: the first failure, if it came before any other reason to leave; else, if the body or a
 *               child left: -ECANCELED told from further out, -ETIMEDOUT its own deadline, 0 its own cancel; else
 *               how the body went. A policy (coord/policy.c) may say otherwise first.
 * Source    structured concurrency as in Trio; the split count is libfork's and Nowa's join counter.
 * Tested    tests/scope_test.c, tests/cause_test.c, stress/scopes.c */
#include "coord/scope.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/error.h"
#include "coord/policy.h"

/* ---- begin */

/* Returns the scope's mark. */
static unsigned begin_within(struct weft__scope *s, struct weft__frame *f, int64_t within, unsigned mark)
{
    at_store(&s->deadline, (uint64_t)weft__time_add(weft__frame_now(f), within > 0 ? within : 0));
    if (within > 0)
        return mark;
    own_set(f->epoch_ok, 0); /* nobody else tells it; a deadline that comes later moves the epoch (coord/cancel.c, C2) */
    return mark | WEFT__MARK_DEADLINE;
}

static inline void make_empty(struct weft__scope *s, struct weft__frame *f)
{
    /* Nobody else sees it yet, so these are plain stores, which a compiler puts together. */
    s->spawned = 0;
    s->owner = f;
    s->count = WEFT__OPEN_COUNT;
    s->waiter = 0;
    s->deadline = (uint64_t)INT64_MAX;
    s->timer.armed = 0;
    s->timer.kind = WEFT__TIMER_CALL;
    s->lock.word = 0;
    s->attached = 0;
    s->children = s->walk = 0;
    s->down = NULL;
    s->extra = 0;
    s->failed = s->code = 0;
}

/* Becomes f's innermost. */
static inline void enter(struct weft__scope *s, struct weft__frame *f, unsigned mark)
{
    at_store(&s->mark, mark);
    s->outer = f->inner;
    weft__expect(f->level < 0xfff0);
    s->timer.user = ++f->level;
    f->inner = (weft_scope *)(void *)s;
    ati_store_release(&s->state, WEFT__SCOPE_OPEN);
}

/* Of any frame. */
static __attribute__((noinline)) void begin(weft_scope *ps, struct weft__frame *f, int64_t within, unsigned mark)
{
    struct weft__scope *s = weft__scope_of(ps);
    make_empty(s, f);
    if (!f) { /* no memory for a plain thread's frame, or a forked child: nothing can run here, and the end says so */
        s->code = weft__no_frame();
        at_store(&s->mark, WEFT__MARK_FAILURE | WEFT__MARK_FIRST_FAILED);
        s->outer = NULL;
        ati_store_release(&s->state, WEFT__SCOPE_OPEN);
        return;
    }
    if (within != INT64_MAX)
        mark = begin_within(s, f, within, mark);
    enter(s, f, mark);
    if (mark & WEFT__MARK_SHIELD)
        f->shield = f->level;
}

void weft_scope_begin(weft_scope *ps, int64_t within)
{
    struct weft__scope *s = weft__scope_of(ps);
    struct weft__sched *w = weft__self();
    struct weft__frame *f = w ? own(w->frame) : NULL;
    if (!f || !f->task || within != INT64_MAX) {
        begin(ps, weft__current(), within, 0);
        return;
    }
    make_empty(s, f); /* the way of most: a task's, without a deadline */
    enter(s, f, 0);
}

void weft_scope_begin_shield(weft_scope *s, int64_t grace)
{
    begin(s, weft__current(), grace, WEFT__MARK_SHIELD);
    struct weft__frame *f = weft__scope_of(s)->owner;
    if (f)
        own_set(f->epoch_ok, 0); /* what applied outside does not apply inside */
}

struct weft__scope_extra *weft__scope_extra(struct weft__scope *s)
{
    struct weft__scope_extra *x = (struct weft__scope_extra *)at_load_acquire(&s->extra);
    if (x || !(x = weft__mem_zeroed(sizeof *x)))
        return x;
    if (!at_cas(&s->extra, 0, (uint64_t)(uintptr_t)x)) {
        weft__mem_free(x);
        x = (struct weft__scope_extra *)at_load_acquire(&s->extra);
    }
    return x;
}

static int take_options(struct weft__scope *s, const weft_scope_options *o)
{
    if (!weft__reserved_zero(o))
        return -EINVAL;
    if (o->failures_max < 0 || (!o->failures && o->failures_max > 0) || (o->on && !weft__is_thread(s->owner)))
        return -EINVAL;
    if (o->on && o->on->group.clock.is_virtual && weft__earliest_deadline(s->owner) != INT64_MAX)
        return -EINVAL; /* a plain thread's deadlines are in real time (engine/leap.c) */
    int policy = weft__policy_wanted(o);
    if (policy < 0 || (!o->name && !o->failures && !o->on && !policy))
        return policy;
    struct weft__scope_extra *x = weft__scope_extra(s);
    if (!x || (policy && !(x->policy = weft__policy_new(o))))
        return -ENOMEM;
    if (policy)
        ati_store_release(&s->state, WEFT__SCOPE_RULED);
    x->scope = s;
    x->name = o->name;
    if (o->name) {
        x->named = s->owner->named;
        s->owner->named = x;
    }
    x->failures = o->failures;
    x->failures_max = o->failures ? o->failures_max : 0;
    x->on = o->on;
    return 0;
}

void weft_scope_begin_with(weft_scope *ps, int64_t within, const weft_scope_options *o)
{
    weft__scope_begin_for(weft__current(), ps, within, o);
}

void weft__scope_begin_for(struct weft__frame *f, weft_scope *ps, int64_t within, const weft_scope_options *o)
{
    struct weft__scope *s = weft__scope_of(ps);
    begin(ps, f, within, 0);
    if (!s->owner || !o)
        return;
    int rc = take_options(s, o);
    if (rc < 0) {
        if (o->on) /* children must not go to the runtime of a scope further out instead */
            at_store(&s->mark, at_load(&s->mark) | WEFT__MARK_NOWHERE);
        weft__scope_fail(s, NULL, NULL, rc, rc == -ENOMEM ? "no memory for its options" : "bad scope options");
        return;
    }
    if (o->on)
        weft__root_open(s);
}

struct weft__group *weft__scope_group(struct weft__scope *s)
{
    if (!s->owner)
        return NULL;
    if (s->owner->group)
        return s->owner->group;
    /* A plain thread: the runtime named by this scope or the nearest one around it. */
    for (weft_scope *p = (weft_scope *)(void *)s; p; p = weft__scope_of(p)->outer) {
        if (at_load(&weft__scope_of(p)->mark) & WEFT__MARK_NOWHERE)
            return NULL;
        struct weft__scope_extra *x = (struct weft__scope_extra *)at_load_acquire(&weft__scope_of(p)->extra);
        if (x && x->on)
            return &x->on->group;
    }
    return NULL;
}

/* ---- deadlines */

/* The timer's place and time are written under the scope's lock alone: several may attach the scope while its owner
 * moves the deadline. With it held; -EBUSY: the timer strikes just now. */
static int set_timer(struct weft__scope *s, struct weft__timers *t, int64_t at, bool *first)
{
    uint64_t armed = at_load_acquire(&s->timer.armed); /* 0: who has struck it, by another heap's lock, reads it no more */
    if (armed != 0 && armed != WEFT__TIMER_STRIKING && s->timer.at == at)
        return 0;
    if (armed != 0) {
        int rc = weft__timer_take(&s->timer);
        if (rc < 0)
            return rc;
    }
    if (at == INT64_MAX || (at_load(&s->mark) & WEFT__MARK_DEADLINE))
        return 0;
    return weft__timer_arm(t, &s->timer, at, first);
}

int weft__deadline_arm(struct weft__scope *s)
{
    struct weft__sched *w = weft__self();
    if (!w || ((int64_t)at_load(&s->deadline) == INT64_MAX && at_load(&s->timer.armed) == 0))
        return 0;
    /* A plain thread keeps its own deadlines in its own waits; so does one that waits for a runtime within the scope,
     * which ends before the scope does. */
    if (weft__is_thread(s->owner) && (w->group->clock.is_virtual || weft__scope_group(s) != w->group))
        return 0;
    int rc;
    int64_t at;
    bool first = false;
    for (;;) {
        weft__lock(&s->lock);
        at = (int64_t)at_load(&s->deadline);
        rc = set_timer(s, &weft__worker_of(w)->timers, at, &first);
        weft__unlock(&s->lock);
        if (rc != -EBUSY)
            break;
        sched_yield(); /* not under the lock, which what it strikes takes */
    }
    if (first)
        weft__worker_due(w, at);
    return rc;
}

void weft__deadline_disarm(struct weft__scope *s)
{
    if (at_load_acquire(&s->timer.armed) == 0)
        return;
    weft__timer_disarm(&s->timer);
}

void weft__deadline_struck(struct weft__timer *timer)
{
    if (timer->user == 0) { /* no scope's: those are nested at level 1 or deeper */
        weft__hard_struck(timer);
        return;
    }
    struct weft__scope *s = container_of(timer, struct weft__scope, timer);
    if ((int64_t)at_load(&s->deadline) <= timer->at) /* else it was moved meanwhile, and is armed again */
        weft__cancel_scope(s, WEFT__MARK_DEADLINE);
}

void weft_scope_set_deadline(weft_scope *ps, int64_t at)
{
    struct weft__scope *s = weft__scope_of(ps);
    if (!weft__scope_is_open(ps) || weft__forked)
        return;
    at_store(&s->deadline, (uint64_t)at);
    if (s->owner)
        own_set(s->owner->epoch_ok, 0);
    at_fence_full(); /* meets that of attach_scope (coord/tree.c): one of the two sees what the other has stored */
    if (!ati_load_acquire(&s->attached))
        return; /* whoever first waits under it arms it */
    if (weft__deadline_arm(s) < 0) /* no memory; and what sleeps under it would never be told */
        weft__scope_fail(s, NULL, NULL, -ENOMEM, "no memory for its deadline");
}

int64_t weft_scope_deadline(const weft_scope *s)
{
    return s ? (int64_t)at_load(&((const struct weft__scope *)(const void *)s)->deadline) : INT64_MAX;
}

/* ---- failures and cancels */

void weft__scope_record(struct weft__scope *s, struct weft__frame *who, void *arg, int code, const char *why)
{
    if (!s->owner)
        return; /* it has failed already, see begin */
    struct weft__scope_extra *x = weft__scope_extra(s); /* NULL: no memory, and the code alone is kept */
    const char *text = who ? weft__detail_text(who, code) : why;
    weft__lock(&s->lock);
    if (s->code == 0) {
        s->code = code;
        if (x) {
            x->detail = who ? weft__detail_take(who, code) : NULL;
            x->why = why;
        }
        if (x && who) {
            x->first_failed = who->id;
            x->first_site = who->site;
            if (who->side)
                memcpy(x->first_name, who->side->name, sizeof x->first_name);
        }
    }
    if (x && s->failed < x->failures_max) {
        weft_failure *f = &x->failures[s->failed];
        f->task = who ? who->id : 0;
        f->arg = arg;
        f->code = code;
        snprintf(f->text, sizeof f->text, "%s", text ? text : "");
    }
    s->failed++;
    weft__unlock(&s->lock);
}

void weft__scope_fail(struct weft__scope *s, struct weft__frame *who, void *arg, int code, const char *why)
{
    weft__scope_record(s, who, arg, code, why);
    weft__cancel_scope(s, WEFT__MARK_FAILURE);
}

void weft__scope_tell(weft_scope *ps, const char *reason, const void *site)
{
    struct weft__scope *s = weft__scope_of(ps);
    if (!ps || (!weft__scope_is_open(ps) && ati_load(&s->state) != WEFT__SCOPE_ENDING) || !s->owner || weft__forked)
        return;
    /* Only for a reason: who just cancels may come too late, and leave the end nothing to find. NULL: also without memory. */
    struct weft__scope_extra *x = reason ? weft__scope_extra(s) : NULL;
    if (x)
        weft__told_write(&x->told, reason, site);
    weft__cancel_scope(s, WEFT__MARK_CANCEL);
}

void weft_scope_cancel(weft_scope *ps, const char *reason)
{
    weft__scope_tell(ps, reason, __builtin_return_address(0));
}

void weft__scope_left(struct weft__scope *s)
{
    uint64_t m;
    do {
        m = at_load(&s->mark);
    } while (!(m & WEFT__MARK_LEFT) && !at_cas(&s->mark, m, m | WEFT__MARK_LEFT));
}

/* ---- joining */

void weft__scope_child_left(struct weft__scope *s)
{
    /* acq_rel: what the child wrote is seen by the owner that reads 0. */
    uint64_t old = at_add(&s->count, (uint64_t)-1);
    if (old != 1 && old != WEFT__WAIT_COUNT + 1)
        return;
    weft__token k = at_swap(&s->waiter, 0); /* N2 */
    weft__fire(k, WEFT__CAUSE_EVENT);
}

static bool has_children(const struct weft__scope *s)
{
    return at_load_acquire(&s->count) + (uint64_t)(int64_t)s->spawned != WEFT__OPEN_COUNT;
}

/* The wait is over: the count is open again, unless a spawn by somebody else has done that. True: the last child had
 * ended. */
static bool reopen(struct weft__scope *s, uint64_t base)
{
    for (;;) {
        uint64_t n = at_load_acquire(&s->count);
        if (n & WEFT__OPEN_COUNT)
            return true;
        if (at_cas(&s->count, n, n - base + WEFT__OPEN_COUNT))
            return n == base;
    }
}

/* Waits until there are no children. The scope stays open; -ECANCELED only if `may_leave`. */
static __attribute__((noinline)) int join_others(struct weft__scope *s, bool may_leave)
{
    struct weft__frame *f = s->owner;
    uint64_t base = may_leave ? WEFT__WAIT_COUNT : 0;
    weft__token k;
    if (may_leave) {
        int rc = weft__await_begin(f, &k);
        if (rc < 0)
            return rc;
    } else {
        k = weft__await_begin_shielded(f);
    }
    at_store(&s->waiter, k);
    uint64_t change = (uint64_t)(int64_t)s->spawned - WEFT__OPEN_COUNT + base;
    if (s->spawned != 0) /* a root's never is, and is read by others */
        s->spawned = 0;
    enum weft__cause cause = WEFT__CAUSE_EVENT;
    if (at_add(&s->count, change) + change != base) {
        weft__waits_for(f, WEFT__WAITS_CHILDREN, (uint64_t)(uintptr_t)s);
        cause = weft__await(f);
    } else { /* nothing to wait for; a cancel may have come */
        at_store(&s->waiter, 0);
        if (!weft__await_give_up(f))
            (void)weft__await(f);
    }
    if (!reopen(s, base)) {
        at_store(&s->waiter, 0);
        return -ECANCELED;
    }
    /* Told to leave just as the last child ended: it still looks at `waiter`. */
    while (cause == WEFT__CAUSE_CANCEL && at_load_acquire(&s->waiter) != 0)
        at_relax();
    return 0;
}

/* The same, and runs those first that nobody has begun. */
static int join(struct weft__scope *s, bool may_leave)
{
    weft__run_own(s);
    return has_children(s) ? join_others(s, may_leave) : 0;
}

int weft_scope_wait(weft_scope *ps)
{
    struct weft__scope *s = weft__scope_of(ps);
    if (!weft__scope_is_open(ps))
        return weft__forked ? -ECHILD : -EINVAL;
    if (!s->owner)
        return weft__forked ? -ECHILD : s->code;
    if (s->owner != weft__current() || s->owner->inner != ps)
        return weft__forked ? -ECHILD : -EINVAL;
    int rc = weft__enter_call(s->owner);
    return rc < 0 || !has_children(s) ? rc : weft__on_stack(join(s, true));
}

/* ---- the end */

/* N3, but for the common case. f has left the scope already. */
static __attribute__((noinline)) int verdict_on(
        struct weft__scope *s, struct weft__policy *p, struct weft__frame *f, int rc, unsigned m)
{
    bool undecided = p && weft__policy_undecided(p);
    int result;
    if (p && weft__policy_verdict(p, s->code, m & WEFT__MARK_FIRST_FAILED, rc, &result))
        return result;
    if (s->code == 0 && rc != -ECANCELED && !(m & WEFT__MARK_LEFT) && !undecided)
        return rc;
    if (m & WEFT__MARK_FIRST_FAILED)
        return s->code;
    if (weft__told(f) && (!(m & WEFT__MARK_SHIELD) || weft__told_hard(f)))
        return -ECANCELED;
    if (m & WEFT__MARK_DEADLINE)
        return -ETIMEDOUT;
    if (m & WEFT__MARK_CANCEL)
        return 0;
    return s->code != 0 ? s->code : undecided ? -ENODATA : rc;
}

static inline int verdict(struct weft__scope *s, struct weft__policy *p, struct weft__frame *f, int rc)
{
    unsigned m = (unsigned)at_load(&s->mark);
    if (!p && s->code == 0 && rc != -ECANCELED && !(m & WEFT__MARK_LEFT))
        return rc;
    return verdict_on(s, p, f, rc, m);
}

static void leave(struct weft__scope *s, struct weft__frame *f)
{
    f->inner = s->outer;
    f->level--;
    if (at_load(&s->mark) & WEFT__MARK_SHIELD) {
        f->shield = 0;
        for (weft_scope *o = f->inner; o; o = weft__scope_of(o)->outer)
            if (at_load(&weft__scope_of(o)->mark) & WEFT__MARK_SHIELD) {
                f->shield = weft__scope_of(o)->timer.user;
                break;
            }
        own_set(f->epoch_ok, 0);
    }
}

/* "scope 0x7f... "name"", into out. The scope itself may be in a frame that has been left, so its name is looked for
 * among those that the frame knows. */
static const char *scope_text(const struct weft__frame *f, const weft_scope *ps, char *out, size_t bytes)
{
    const char *name = NULL;
    for (const struct weft__scope_extra *x = f->named; x; x = x->named)
        if ((const void *)x->scope == (const void *)ps)
            name = x->name;
    snprintf(out, bytes, "scope %p%s%s%s", (const void *)ps, name ? " \"" : "", name ? name : "", name ? "\"" : "");
    return out;
}

void weft__scope_forgotten(struct weft__frame *f, weft_scope *older)
{
    char a[120], b[120];
    if (older)
        weft__panic(__FILE__, __LINE__, "%s ends while a younger one, %s, is open: its end was forgotten",
                scope_text(f, older, a, sizeof a), scope_text(f, f->inner, b, sizeof b));
    weft__panic(__FILE__, __LINE__, "it returned with %s open: its end was forgotten",
            scope_text(f, f->inner, a, sizeof a));
}

static void body_failed(struct weft__scope *s, struct weft__frame *f, int rc)
{
    struct weft__policy *p = weft__policy_of(s);
    if (rc == -ECANCELED && (!has_children(s) || weft__told(f)))
        return; /* told to leave, as are the children */
    weft__lock(&s->lock);
    if (s->code == 0)
        s->code = rc;
    weft__unlock(&s->lock);
    if (p && weft__policy_keeps_body(s, p))
        return;
    if (has_children(s))
        weft__cancel_scope(s, WEFT__MARK_FAILURE);
    else
        weft__mark_failed(s); /* nobody is there to be told */
}

/* What had to be made on demand goes, and what is in it that is still wanted. */
static __attribute__((noinline)) void extra_end(struct weft__scope *s, struct weft__scope_extra *x, int result)
{
    struct weft__frame *f = s->owner;
    if (result == s->code && (x->detail || x->first_failed != 0 || x->why)) {
        if (!x->detail)
            x->detail = weft__detail_new(result, x->why, x->first_failed, x->first_name, x->first_site);
        weft__detail_give(f, x->detail);
    } else {
        weft__detail_drop(x->detail);
    }
    if (x->name)
        f->named = x->named;
    if (x->is_root)
        weft__root_close(x);
    weft__callers_free(x);
    if (x->policy) {
        at_store(&s->waiter, (uint64_t)x->policy->winner);
        weft__policy_free(x->policy);
    }
    at_store(&s->extra, 0);
    weft__mem_free(x);
}

/* And makes deferred calls. After the children, who may use what is let go; but that may spawn others. */
static __attribute__((noinline)) void close_gens(
        struct weft__scope *s, struct weft__scope_extra *x, struct weft__unclean *u)
{
    weft__unclean_begin(u, s->owner);
    while (weft__gens_close(&x->gens, u))
        if (has_children(s))
            (void)join(s, false);
    weft__unclean_over(u, s->owner);
}

/* Its children have ended. */
static __attribute__((noinline)) int end_otherwise(struct weft__scope *s, struct weft__frame *f, int rc)
{
    struct weft__scope_extra *x = (struct weft__scope_extra *)at_load(&s->extra);
    struct weft__unclean unclean = { .code = 0 };
    if (x)
        close_gens(s, x, &unclean);
    ati_store(&s->state, WEFT__SCOPE_ENDING);
    weft__deadline_disarm(s);
    weft__detach_scope(s); /* whoever told us to leave is on its way out */
    x = (struct weft__scope_extra *)at_load_acquire(&s->extra); /* they may have given a reason, or a grace */
    if (x && at_load_acquire(&x->hards) != 0) {
        weft__hard_over(x);    /* only now: who gives a grace holds the scope, and looks at the records */
        weft__detach_scope(s); /* waits for a grace that just could not be kept; attached there is nothing any more */
    }
    leave(s, f);
    int result = verdict(s, x ? x->policy : NULL, f, rc);
    if (x)
        extra_end(s, x, result);
    ati_store(&s->state, WEFT__SCOPE_ENDED);
    return unclean.code == 0 ? result : weft__unclean_result(&unclean, f, result);
}

/* Nothing has ever come of it, and nothing can any more: no walk has been in it or will (it is not attached), nobody holds it
 * (that is in its mark), no timer was armed, there is no more than this to be let go, and all went well. */
static inline bool is_plain(const struct weft__scope *s)
{
    return (at_load_acquire(&s->mark) | ati_load_acquire(&s->attached) | at_load_acquire(&s->timer.armed) |
                   at_load_acquire(&s->extra) | (uint32_t)s->code) == 0;
}

static inline int end_plain(struct weft__scope *s, struct weft__frame *f, int rc)
{
    f->inner = s->outer;
    f->level--;
    ati_store(&s->state, WEFT__SCOPE_ENDED);
    return rc;
}

/* Those of its own children that it may run are through; the others may not. It may run what was left open in it. */
static __attribute__((noinline)) int end_at_last(struct weft__scope *s, struct weft__frame *f, int rc)
{
    if (has_children(s))
        (void)join_others(s, false); /* not refused: it can only end by the last child */
    return rc >= 0 && is_plain(s) ? end_plain(s, f, rc) : end_otherwise(s, f, rc);
}

/* Any scope of f's, the innermost. */
static int end(struct weft__scope *s, struct weft__frame *f, int rc)
{
    if (rc < 0)
        body_failed(s, f, rc);
    if (has_children(s))
        weft__run_own(s);
    return end_at_last(s, f, rc);
}

int weft__scope_end_for(struct weft__frame *f, weft_scope *ps, int rc)
{
    return end(weft__scope_of(ps), f, rc);
}

/* A plain thread's, one without a frame, another task's, or not the innermost. */
static __attribute__((noinline)) int end_any(struct weft__scope *s, int rc)
{
    struct weft__frame *f = s->owner;
    if (!f) {
        ati_store(&s->state, WEFT__SCOPE_ENDED);
        return weft__forked ? -ECHILD : rc < 0 ? rc : s->code;
    }
    if (f != weft__current())
        return weft__forked ? -ECHILD : -EINVAL; /* another task's */
    if (weft__scope_of(f->inner) != s)
        weft__scope_forgotten(f, (weft_scope *)(void *)s);
    return end(s, f, rc);
}

int weft_scope_end(weft_scope *ps, int rc)
{
    struct weft__scope *s = weft__scope_of(ps);
    if (!weft__scope_is_open(ps))
        return -EINVAL;
    struct weft__sched *w = weft__self();
    struct weft__frame *f = s->owner;
    if (!w || f != own(w->frame) || f->inner != ps)
        return weft__on_stack(end_any(s, rc));
    if (rc < 0)
        return weft__on_stack(end(s, f, rc));
    bool waits = has_children(s);
    if (waits) {
        weft__run_own(s);
        waits = has_children(s);
    }
    return !waits && is_plain(s) ? end_plain(s, f, rc) : weft__on_stack(end_at_last(s, f, rc));
}

void weft_scope_drop(weft_scope *ps)
{
    struct weft__frame *f = weft__current();
    /* Looks for the address among the open scopes and never into memory that may not be a scope (any more). */
    weft_scope *open = f ? f->inner : NULL;
    while (open && open != ps)
        open = weft__scope_of(open)->outer;
    if (!open)
        return;
    weft_runtime *rt = f->group ? weft__runtime_of(f->group) : NULL;
    weft__scope_tell(ps, "its block was left", __builtin_return_address(0));
    if (has_children(weft__scope_of(ps)))
        (void)join(weft__scope_of(ps), false);
    struct weft__scope_extra *x = (struct weft__scope_extra *)at_load(&weft__scope_of(ps)->extra);
    if (weft__scope_of(ps)->code != 0 && !(x && x->policy && x->policy->decided))
        weft__report(rt, &(weft_report){ .what = "failure", .task = x ? x->first_failed : 0, .task_name = x ? x->first_name : "",
                .site = x ? x->first_site : NULL, .code = weft__scope_of(ps)->code,
                .text = x && x->detail ? x->detail->seen.text : x && x->why ? x->why : "in a scope whose block was left" });
    if (x) { /* not by the end, whose result nobody reads */
        struct weft__unclean unclean;
        close_gens(weft__scope_of(ps), x, &unclean);
        (void)weft__unclean_result(&unclean, f, -ECANCELED);
    }
    weft_ignore(weft__on_stack(weft_scope_end(ps, 0)));
}

bool weft_scope_expired(const weft_scope *s)
{
    return s && (at_load(&((const struct weft__scope *)(const void *)s)->mark) & WEFT__MARK_DEADLINE);
}

int weft_scope_alive(const weft_scope *ps)
{
    const struct weft__scope *s = (const struct weft__scope *)(const void *)ps;
    if (!weft__scope_is_open(ps) || weft__forked)
        return 0;
    return (int)((int64_t)at_load_acquire(&s->count) - (int64_t)WEFT__OPEN_COUNT + s->spawned);
}

int weft_scope_failed(const weft_scope *ps)
{
    const struct weft__scope *s = (const struct weft__scope *)(const void *)ps;
    int n;
    if (!ps || (!weft__scope_is_open(ps) && ati_load(&s->state) != WEFT__SCOPE_ENDED))
        return 0;
    if (weft__forked)
        return s->failed; /* nobody changes it any more, and nobody will leave the lock */
    struct weft__lock *lock = &weft__scope_of((weft_scope *)(uintptr_t)ps)->lock;
    weft__lock(lock);
    n = s->failed;
    weft__unlock(lock);
    return n;
}
