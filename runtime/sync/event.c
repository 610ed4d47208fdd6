/* sync/event.c - set for all who wait, and who come later, until it is cleared.
 *
 * Owns      the flag and the list of waiters.
 * Holds     the flag is looked at and the list changed under the lock; so a waiter either sees the flag or is in the
 *           list that the set takes. Outside the lock the flag is a hint for who need not wait.
 * Tested    tests/event_test.c, stress/sync.c */
#include "sync/event.h"

#include <errno.h>

#include "base/fork.h"

struct event {
    at_int set;
    struct weft__lock lock;
    struct weft__link waiters;
    uint64_t unused;
};
_Static_assert(sizeof(struct event) == sizeof(weft_event), "weft_event has a fixed size");

static struct event *inside(weft_event *e)
{
    return (struct event *)(void *)e;
}

struct weft__lock *weft__event_lock(weft_event *e)
{
    return &inside(e)->lock;
}

bool weft__event_look(const weft_event *e)
{
    return ati_load(&((const struct event *)(const void *)e)->set) != 0;
}

struct weft__link *weft__event_waiters(weft_event *e)
{
    return &inside(e)->waiters;
}

int weft_event_wait(weft_event *pe)
{
    struct event *e = inside(pe);
    struct weft__frame *f = weft__current();
    struct weft__waiting wait;
    struct weft__waiter at;
    if (!f)
        return weft__no_frame();
    /* acquire: meets the release in weft_event_set. The lock is looked at after that: once it is free, who set it is
     * done with the event. */
    if (ati_load_acquire(&e->set) && ati_load_acquire(&e->lock.word) == 0)
        return weft__on_stack(weft__enter_call(f));
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    weft__lock(&e->lock);
    if (ati_load(&e->set)) {
        weft__unlock(&e->lock);
        weft__waiter_give_up(f);
        return 0;
    }
    weft__waiters_add(&e->waiters, &at);
    weft__unlock(&e->lock);
    weft__waits_for(f, WEFT__WAITS_EVENT, (uint64_t)(uintptr_t)e);
    if (weft__waiter_await(f, &at, &e->lock))
        return 0;
    weft__unlock(&e->lock);
    return -ECANCELED;
}

void weft_event_set(weft_event *pe)
{
    struct event *e = inside(pe);
    if (weft__forked)
        return;
    weft__lock(&e->lock);
    ati_store_release(&e->set, 1);
    weft__waiters_serve_all(&e->waiters, &e->lock, 0);
}

void weft_event_clear(weft_event *pe)
{
    struct event *e = inside(pe);
    if (weft__forked)
        return;
    weft__lock(&e->lock);
    ati_store(&e->set, 0);
    weft__unlock(&e->lock);
}

bool weft_event_is_set(const weft_event *e)
{
    return ati_load_acquire(&((const struct event *)(const void *)e)->set) != 0;
}
