/* sync/timer.c - a point in time that may be moved while somebody waits for it.
 *
 * Owns      the time, and who waits.
 * Holds     T1  all under the lock. Who waits has looked at the time there, and sleeps until that at most; so only who makes it
 *               earlier, or sets one where there was none, has anybody to wake, and who moves it to later has not: whoever
 *               wakes for the old time looks again. A timer that is pushed off with each packet costs a store.
 *           T2  a strike is taken under the lock, by one. Until then it is there, whoever is told to leave.
 * Source    Go's time.Timer, without a channel: what was set and not taken is the state, so a reset needs no draining.
 * Tested    tests/delay_test.c, tests/sync_cancel_test.c */
#include <errno.h>
#include <weft/sync.h>

#include "base/fork.h"
#include "sync/waiter.h"

struct timer {
    int64_t at;
    struct weft__lock lock;
    uint32_t set; /* `at` is to come, or has come and nobody took it */
    struct weft__link waiters;
};
_Static_assert(sizeof(struct timer) == sizeof(weft_timer), "weft_timer has a fixed size");

static struct timer *inside(weft_timer *t)
{
    return (struct timer *)(void *)t;
}

int weft_timer_set(weft_timer *pt, int64_t at)
{
    struct timer *t = inside(pt);
    if (weft__forked)
        return -ECHILD;
    weft__lock(&t->lock);
    bool was = t->set != 0, earlier = at != WEFT_NEVER && (!was || at < t->at);
    t->at = at;
    t->set = at != WEFT_NEVER;
    if (earlier)
        weft__waiters_serve_all(&t->waiters, &t->lock, 0); /* they look again */
    else
        weft__unlock(&t->lock);
    return was;
}

/* T2 */
static bool take(struct timer *t, const struct weft__frame *f)
{
    if (!t->set || weft__frame_now(f) < t->at)
        return false;
    t->set = 0;
    return true;
}

int weft_timer_wait(weft_timer *pt)
{
    struct timer *t = inside(pt);
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    int rc = weft__enter_call(f);
    if (rc < 0)
        return rc;
    weft__lock(&t->lock);
    bool struck = take(t, f);
    while (!struck) {
        struct weft__waiting wait;
        struct weft__waiter at;
        weft__unlock(&t->lock);
        rc = weft__waiter_begin(f, &wait, &at);
        if (rc < 0)
            return rc;
        weft__lock(&t->lock);
        if (take(t, f)) {
            weft__unlock(&t->lock);
            weft__waiter_give_up(f);
            return 0;
        }
        int64_t until = t->set ? t->at : WEFT_NEVER;
        weft__waiters_add(&t->waiters, &at);
        weft__unlock(&t->lock);
        weft__waits_for(f, WEFT__WAITS_TIMER, (uint64_t)(uintptr_t)t);
        rc = weft__waiter_await_until(f, &at, &t->lock, until);
        if (rc < 0)
            break;
        struck = take(t, f);
    }
    weft__unlock(&t->lock);
    return rc < 0 ? rc : 0;
}
