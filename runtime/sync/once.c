/* sync/once.c - done by the first who comes; the others wait until it is.
 *
 * Owns      whether it is done, who does it now, and who waits for that.
 * Holds     O1  idle -> running -> done or idle, under the lock. From running to running when a runner has failed and
 *               the next one is claimed: it runs its own function then, and nobody else can.
 *           O2  `runner` is the runner's frame from before its function until after; only the runner writes it, so that
 *               whoever finds its own frame there has called from its own function.
 * Freed     by who found it done, or was served last: who finds it done without the lock finds the lock free, too.
 * Source    Go's sync.Once, Rust's OnceCell; that a failure hands over is Tokio's get_or_try_init.
 * Tested    tests/once_test.c, tests/sync_cancel_test.c, tests/explore, stress/sync.c */
#include <errno.h>
#include "base/fork.h"
#include <weft/sync.h>
#include "sync/waiter.h"

enum { IDLE, RUNNING, DONE };
enum { IT_IS_YOURS = 1 }; /* what a waiter is told when the runner has failed */

struct once {
    at_int state;
    struct weft__lock lock;
    struct weft__link waiters;
    at_word runner;
};
_Static_assert(sizeof(struct once) == sizeof(weft_once), "weft_once has a fixed size");

static struct once *inside(weft_once *o)
{
    return (struct once *)(void *)o;
}

/* O1: it failed. */
static void hand_over(struct once *o)
{
    struct weft__claimed who;
    weft__lock(&o->lock);
    struct weft__waiter *at = weft__waiters_claim(&o->waiters, &who);
    if (at)
        at->wait->rc = IT_IS_YOURS;
    else
        ati_store(&o->state, IDLE);
    weft__unlock(&o->lock);
    if (at)
        weft__waiter_release(at, &who);
}

static int run(struct once *o, struct weft__frame *f, weft_fn *fn, void *arg)
{
    at_store(&o->runner, (uint64_t)(uintptr_t)f);
    int rc = fn(arg);
    if (weft__forked)
        return rc;
    at_store(&o->runner, 0);
    if (rc < 0) {
        hand_over(o);
        return rc;
    }
    weft__lock(&o->lock);
    /* release: meets the acquire in weft_once_run. */
    ati_store_release(&o->state, DONE);
    weft__waiters_serve_all(&o->waiters, &o->lock, 0);
    return rc;
}

/* Waits for it, or its turn. 0, IT_IS_YOURS, or negative. */
static int await_turn(struct once *o, struct weft__frame *f)
{
    struct weft__waiting wait;
    struct weft__waiter at;
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    weft__lock(&o->lock);
    uint32_t state = ati_load(&o->state);
    if (state == RUNNING)
        weft__waiters_add(&o->waiters, &at);
    else if (state == IDLE)
        ati_store(&o->state, RUNNING);
    weft__unlock(&o->lock);
    if (state != RUNNING) {
        weft__waiter_give_up(f);
        return state == IDLE ? (int)IT_IS_YOURS : 0;
    }
    weft__waits_for(f, WEFT__WAITS_ONCE, (uint64_t)(uintptr_t)o);
    if (weft__waiter_await(f, &at, &o->lock))
        return wait.rc;
    weft__unlock(&o->lock);
    return -ECANCELED;
}

/* What there is to be done now. */
static uint32_t begin(struct once *o)
{
    weft__lock(&o->lock);
    uint32_t state = ati_load(&o->state);
    if (state == IDLE)
        ati_store(&o->state, RUNNING);
    weft__unlock(&o->lock);
    return state;
}

int weft_once_run(weft_once *po, weft_fn *fn, void *arg)
{
    struct once *o = inside(po);
    /* acquire: meets the release in run. The lock is looked at after that: once it is free, the runner is done with it. */
    if (ati_load_acquire(&o->state) == DONE && ati_load_acquire(&o->lock.word) == 0)
        return 0;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    uint32_t state = begin(o);
    if (state == DONE)
        return 0;
    if (state == RUNNING) {
        if (at_load(&o->runner) == (uint64_t)(uintptr_t)f)
            return -EDEADLK;
        int rc = await_turn(o, f);
        if (rc != IT_IS_YOURS)
            return rc;
    }
    return run(o, f, fn, arg);
}
