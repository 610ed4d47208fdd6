/* sync/notify.c - wakes one, or remembers that it would have.
 *
 * Owns      one stored permit, and who waits for it.
 * Holds     the permit and the list change under the lock; a permit is stored only when nobody was there to be woken.
 *           Whether a wait that is told to leave at the same moment takes a notification is decided by the claim of its
 *           token: it returns 0, or the next one gets it.
 * Freed     by who was notified last: whoever takes a permit does it under the lock, after the notifier has let go of it.
 *           Without the lock `permit` is looked at only to save the preparation of a wait.
 * Source    Tokio's Notify.
 * Tested    tests/notify_test.c, tests/sync_cancel_test.c, tests/explore/meet.c, stress/sync.c */
#include "sync/notify.h"

#include <errno.h>

#include "base/fork.h"

struct notify {
    at_int permit;
    struct weft__lock lock;
    struct weft__link waiters;
    uint64_t unused;
};
_Static_assert(sizeof(struct notify) == sizeof(weft_notify), "weft_notify has a fixed size");

static struct notify *inside(weft_notify *n)
{
    return (struct notify *)(void *)n;
}

struct weft__lock *weft__notify_lock(weft_notify *n)
{
    return &inside(n)->lock;
}

bool weft__notify_take(weft_notify *n)
{
    bool had = ati_load(&inside(n)->permit) != 0;
    ati_store(&inside(n)->permit, 0);
    return had;
}

struct weft__link *weft__notify_waiters(weft_notify *n)
{
    return &inside(n)->waiters;
}

int weft_notify_wait(weft_notify *pn)
{
    struct notify *n = inside(pn);
    struct weft__frame *f = weft__current();
    struct weft__waiting wait;
    struct weft__waiter at;
    if (!f)
        return weft__no_frame();
    if (ati_load(&n->permit)) {
        int refused = weft__enter_call(f);
        if (refused < 0)
            return refused;
        weft__lock(&n->lock);
        bool had = weft__notify_take(pn);
        weft__unlock(&n->lock);
        if (had)
            return 0;
    }
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    weft__lock(&n->lock);
    bool had = weft__notify_take(pn);
    if (!had)
        weft__waiters_add(&n->waiters, &at);
    weft__unlock(&n->lock);
    if (had) {
        weft__waiter_give_up(f);
        return 0;
    }
    weft__waits_for(f, WEFT__WAITS_NOTIFY, (uint64_t)(uintptr_t)n);
    if (weft__waiter_await(f, &at, &n->lock))
        return 0;
    weft__unlock(&n->lock);
    return -ECANCELED;
}

void weft_notify_one(weft_notify *pn)
{
    struct notify *n = inside(pn);
    struct weft__claimed who;
    if (weft__forked)
        return;
    weft__lock(&n->lock);
    struct weft__waiter *at = weft__waiters_claim(&n->waiters, &who);
    if (at)
        at->wait->rc = 0;
    else
        ati_store(&n->permit, 1);
    weft__unlock(&n->lock);
    if (at)
        weft__waiter_release(at, &who);
}

void weft_notify_all(weft_notify *pn)
{
    struct notify *n = inside(pn);
    if (weft__forked)
        return;
    weft__lock(&n->lock);
    weft__waiters_serve_all(&n->waiters, &n->lock, 0);
}
