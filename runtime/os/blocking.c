/* os/blocking.c - calls that would block a worker, by a pool of the task's runtime or by a lane of the program's.
 *
 * The borrowing form is awaited once it has begun: its argument may lie in the caller's frame. The copying form may be
 * left. In both one word says how it stands between the call and the pool thread, and each swaps in what it has done:
 *
 *     call:         its token -- swap GONE or a second token, after a cancel
 *     pool thread:  swap DONE, after fn; it fires the token it finds
 *
 * Whoever finds the other's mark comes last; the last one frees a copy.
 *
 * A lane's threads are not the runtime's, which may end as soon as the task goes on: so such a call is counted in the
 * runtime (`lent`: an outside hand, engine/rest.c), and as a visitor of it, from its submit until its thread has counted it
 * off, behind the fire; or until the task that leaves it to itself does, of whose runtime the thread then knows nothing.
 * Tested    tests/blocking_test.c, tests/cause_test.c, tests/lane_test.c */
#include <errno.h>
#include <string.h>
#include <weft/offload.h>

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/keeps.h"
#include "engine/rest.h"
#include "os/lane.h"

#define DONE UINT64_MAX
#define GONE (UINT64_MAX - 1)

struct call {
    struct weft__job job;
    struct weft__pool *pool;
    enum weft__lane_kind kind; /* of the runtime's own */
    weft_runtime *lent; /* the task's, if the pool is a lane of the program's; else NULL */
    weft_fn *fn;
    void *arg;
    struct weft__handed *handed; /* what a child would inherit; for fn to find */
    int rc;
    at_word word; /* a token, DONE or GONE */
};

struct copied {
    struct call call;
    void (*drop)(void *arg);
    _Alignas(16) char data[];
};

/* On the pool thread. */
static int call(struct call *c, void *arg)
{
    struct weft__keeps keeps;
    int rc = weft__values_lend(&keeps, c->handed);
    if (rc < 0)
        return rc;
    rc = c->fn(arg);
    weft__fork_expect_parent();
    weft__values_lent_end();
    return rc;
}

static void lend(weft_runtime *rt)
{
    at_add(&rt->group.visitors, 1);
    ati_add(&rt->lent, 1); /* H1 (engine/rest.c) */
}

/* By the task. */
static void take_back(weft_runtime *rt)
{
    ati_add(&rt->lent, (uint32_t)-1);
    at_add(&rt->group.visitors, (uint64_t)-1);
}

/* On the lane's thread. */
static void give_back(weft_runtime *rt)
{
    ati_add(&rt->lent, (uint32_t)-1); /* H3, H4 */
    weft__hand_gone(rt);
    at_add(&rt->group.visitors, (uint64_t)-1);
}

static uint64_t run_borrowed(struct weft__job *job)
{
    struct call *c = container_of(job, struct call, job);
    c->rc = call(c, c->arg);
    return 0;
}

static void tell_borrowed(void *whom, uint64_t ran)
{
    struct call *c = whom;
    weft_runtime *lent = c->lent;
    (void)ran;
    weft__fire(at_swap(&c->word, DONE), WEFT__CAUSE_EVENT); /* c may be gone after the swap */
    if (lent)
        give_back(lent);
}

static void let_go(struct copied *c)
{
    if (c->drop)
        c->drop(c->data);
    weft__mem_free(c);
}

/* Says what the word was; c may be gone after the swap. */
static uint64_t run_copied(struct weft__job *job)
{
    struct copied *c = container_of(container_of(job, struct call, job), struct copied, call);
    c->call.rc = call(&c->call, c->data);
    uint64_t found = at_swap(&c->call.word, DONE);
    if (found == GONE) {
        struct weft__pool *p = c->call.pool;
        let_go(c); /* drop may block, too */
        ati_add(&p->left, (uint32_t)-1);
    }
    return found;
}

static void tell_copied(void *whom, uint64_t found)
{
    weft_runtime *lent = whom;
    if (found == GONE)
        return;
    weft__fire(found, WEFT__CAUSE_EVENT);
    if (lent)
        give_back(lent);
}

/* For who looks at the task. */
static enum weft__waits waits_in(const struct call *c)
{
    static const enum weft__waits in[] = { [WEFT__LANE_USER] = WEFT__WAITS_BLOCKING, [WEFT__LANE_FILES] = WEFT__WAITS_FILES,
        [WEFT__LANE_NAMES] = WEFT__WAITS_NAMES };
    return c->lent ? WEFT__WAITS_LANE : in[c->kind];
}

/* Begins the wait and hands the call to the pool. 0, or why it did not come to that. */
static int submit(struct weft__frame *f, struct call *c)
{
    weft__token k;
    int rc = weft__await_begin(f, &k);
    if (rc < 0)
        return rc;
    at_store(&c->word, k);
    c->handed = weft__handed_hold(weft__keeps_handed(f->keeps));
    weft__waits_for(f, waits_in(c), (uint64_t)(uintptr_t)c->fn);
    if (c->lent)
        lend(c->lent);
    if ((rc = weft__pool_submit(c->pool, &c->job)) == 0)
        return 0;
    if (c->lent)
        take_back(c->lent);
    weft__handed_let_go(c->handed);
    if (!weft__await_give_up(f))
        (void)weft__await(f); /* a cancel; but there is an error to tell */
    return rc;
}

/* Takes it back. False: it has begun. */
static bool withdraw(struct call *c)
{
    if (!weft__pool_withdraw(c->pool, &c->job))
        return false;
    if (c->lent)
        take_back(c->lent);
    weft__handed_let_go(c->handed);
    return true;
}

/* `lane`: one of the program's; NULL: the runtime's own of that kind. */
static int borrow(enum weft__lane_kind kind, struct weft__pool *lane, weft_fn *fn, void *arg)
{
    struct weft__frame *f = weft__current();
    if (!fn)
        return -EINVAL;
    if (weft__forked)
        return -ECHILD;
    if (!f || weft__is_thread(f))
        return fn(arg);
    weft_runtime *rt = weft__runtime_of(f->group);
    struct call c = { .job = { .run = run_borrowed, .tell = tell_borrowed }, .pool = lane ? lane : weft__lane_pool(rt, kind),
        .kind = kind, .lent = lane ? rt : NULL, .fn = fn, .arg = arg };
    c.job.whom = &c;
    int rc = submit(f, &c);
    if (rc < 0)
        return rc;
    if (weft__await(f) != WEFT__CAUSE_CANCEL)
        return c.rc;
    if (withdraw(&c))
        return -ECANCELED;
    /* It has begun: wait for its end whatever comes. */
    weft__token second = weft__await_begin_shielded(f);
    if (at_swap(&c.word, second) == DONE) {
        if (!weft__await_give_up(f))
            (void)weft__await(f);
    } else {
        (void)weft__await(f);
    }
    return c.rc;
}

/* As borrow(). */
static int copy(enum weft__lane_kind kind, struct weft__pool *lane, weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg))
{
    struct weft__frame *f = weft__current();
    if (!fn || (!arg && bytes > 0) || bytes > SIZE_MAX / 2)
        return -EINVAL;
    if (weft__forked)
        return -ECHILD;
    if (!f || weft__is_thread(f)) {
        int rc = fn(arg);
        if (rc == -ECANCELED && drop)
            drop(arg);
        return rc;
    }
    struct copied *c = weft__mem_aligned(16, sizeof *c + bytes);
    if (!c)
        return -ENOMEM;
    memset(c, 0, sizeof *c);
    c->call.job.run = run_copied;
    c->call.job.tell = tell_copied;
    weft_runtime *rt = weft__runtime_of(f->group), *lent = lane ? rt : NULL;
    c->call.job.whom = lent;
    c->call.pool = lane ? lane : weft__lane_pool(rt, kind);
    c->call.lent = lent;
    c->call.kind = kind;
    c->call.fn = fn;
    c->drop = drop;
    if (bytes > 0)
        memcpy(c->data, arg, bytes);
    int rc = submit(f, &c->call);
    if (rc == -ECANCELED)
        let_go(c);
    else if (rc < 0)
        weft__mem_free(c);
    if (rc < 0)
        return rc;
    if (weft__await(f) == WEFT__CAUSE_CANCEL) {
        if (withdraw(&c->call)) {
            let_go(c);
            return -ECANCELED;
        }
        struct weft__pool *p = c->call.pool;
        ati_add(&p->left, 1); /* before the thread may end it */
        if (at_swap(&c->call.word, GONE) != DONE) { /* the pool thread frees it */
            if (lent)
                take_back(lent);
            return -ECANCELED;
        }
        ati_add(&p->left, (uint32_t)-1);
    }
    rc = c->call.rc;
    if (rc == -ECANCELED) {
        let_go(c);
        return rc;
    }
    if (bytes > 0)
        memcpy(arg, c->data, bytes);
    weft__mem_free(c);
    return rc;
}

int weft__lane_enter(void)
{
    struct weft__frame *f = weft__current();
    return f ? weft__enter_call(f) : weft__no_frame();
}

int weft__lane_call(enum weft__lane_kind kind, weft_fn *fn, void *arg)
{
    return borrow(kind, NULL, fn, arg);
}

/* Nothing else waits for the caller's worker; and should something come, others take it, or spares, even if all workers stand
 * still so (engine/spare.c). */
static bool worker_is_free(const struct weft__sched *s)
{
    const struct weft__group *g = s->group;
    return g->room > g->n && !weft__sched_has_work(s) && !own(s->starters) && at_load(&s->pinned.count) == 0 &&
           !weft__group_has_work(g);
}

int weft__lane_call_copy(enum weft__lane_kind kind, weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg))
{
    return copy(kind, NULL, fn, arg, bytes, drop);
}

int weft__lane_call_or_here(enum weft__lane_kind kind, weft_fn *fn, void *arg)
{
    const struct weft__sched *s = weft__self();
    bool here = s && worker_is_free(s) && (!weft__chaos_somewhere() || weft__chaos_once_in(2));
    return here ? fn(arg) : borrow(kind, NULL, fn, arg);
}

int weft__lane_call_on(struct weft__pool *lane, weft_fn *fn, void *arg)
{
    return borrow(WEFT__LANE_USER, lane, fn, arg);
}

int weft__lane_call_copy_on(struct weft__pool *lane, weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg))
{
    return copy(WEFT__LANE_USER, lane, fn, arg, bytes, drop);
}

int weft_blocking(weft_fn *fn, void *arg)
{
    return weft__on_stack(borrow(WEFT__LANE_USER, NULL, fn, arg));
}

int weft_blocking_copy(weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg))
{
    return weft__on_stack(copy(WEFT__LANE_USER, NULL, fn, arg, bytes, drop));
}
