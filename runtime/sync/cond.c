/* sync/cond.c - signals to those who hold a mutex.
 *
 * Owns      the list of waiters.
 * Holds     who waits is in the list before it unlocks the mutex, so a signal that is given with the mutex held, or after
 *           it was, finds it. Whether a signal or a cancel ended a wait is said by one claim (sync/waiter.h), so a cancel
 *           takes no signal, and who has one returns 0, cancelled or not.
 * Tested    tests/cond_test.c, stress/sync.c */
#include <errno.h>

#include "base/fork.h"
#include "sync/mutex.h"
#include "sync/waiter.h"

struct cond {
    struct weft__lock lock;
    struct weft__link waiters;
    uint64_t unused;
};
_Static_assert(sizeof(struct cond) == sizeof(weft_cond), "weft_cond has a fixed size");

static struct cond *inside(weft_cond *c)
{
    return (struct cond *)(void *)c;
}

int weft_cond_wait(weft_cond *pc, weft_mutex *m)
{
    struct cond *c = inside(pc);
    struct weft__frame *f = weft__current();
    struct weft__waiting wait;
    struct weft__waiter at;
    if (!f)
        return weft__no_frame();
    if (!weft__mutex_is_held(m, f))
        return -EPERM;
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    weft__lock(&c->lock);
    weft__waiters_add(&c->waiters, &at);
    weft__unlock(&c->lock);
    weft_mutex_unlock(m);
    weft__waits_for(f, WEFT__WAITS_COND, (uint64_t)(uintptr_t)c);
    bool signalled = weft__waiter_await(f, &at, &c->lock);
    if (!signalled)
        weft__unlock(&c->lock);
    rc = weft__mutex_lock_again(m, f);
    return rc < 0 || signalled ? rc : -ECANCELED;
}

void weft_cond_signal(weft_cond *pc)
{
    struct cond *c = inside(pc);
    struct weft__claimed who;
    if (weft__forked)
        return;
    weft__lock(&c->lock);
    struct weft__waiter *at = weft__waiters_claim(&c->waiters, &who);
    weft__unlock(&c->lock);
    if (at)
        weft__waiter_release(at, &who);
}

void weft_cond_broadcast(weft_cond *pc)
{
    struct cond *c = inside(pc);
    if (weft__forked)
        return;
    weft__lock(&c->lock);
    weft__waiters_serve_all(&c->waiters, &c->lock, 0);
}
