/* sync/promise.c - a result that comes once, for all who wait for it, from anywhere.
 *
 * Owns      the result, and who waits for it.
 * Holds     set once, under the lock; so a waiter either sees it or is in the list that the set takes. Those in the list
 *           are handed the result: whoever was served has no business with the promise.
 * Freed     by who was served last, or found it set: who finds it set without the lock finds the lock free, too.
 * Tested    tests/promise_test.c, tests/sync_cancel_test.c, tests/explore, stress/sync.c */
#include <errno.h>
#include "base/fork.h"
#include <weft/sync.h>
#include "sync/waiter.h"

struct promise {
    at_int set;
    struct weft__lock lock;
    struct weft__link waiters; /* `item`: where the value goes */
    void *value;
    int rc;
    uint32_t unused;
    uint64_t unused_too;
};
_Static_assert(sizeof(struct promise) == sizeof(weft_promise), "weft_promise has a fixed size");

static struct promise *inside(weft_promise *p)
{
    return (struct promise *)(void *)p;
}

static int give(int rc, void *value, void **out)
{
    if (out && rc >= 0)
        *out = value;
    return rc;
}

int weft_promise_set(weft_promise *pp, int rc, void *value)
{
    struct promise *p = inside(pp);
    if (weft__forked)
        return -ECHILD;
    weft__lock(&p->lock);
    if (ati_load(&p->set)) {
        weft__unlock(&p->lock);
        return -EALREADY;
    }
    p->rc = rc;
    p->value = value;
    /* release: meets the acquire in weft_promise_wait. */
    ati_store_release(&p->set, 1);
    weft__waiters_give_all(&p->waiters, &p->lock, rc, value);
    return 0;
}

int weft_promise_wait(weft_promise *pp, void **out)
{
    struct promise *p = inside(pp);
    struct weft__frame *f = weft__current();
    struct weft__waiting wait;
    struct weft__waiter at;
    void *value = NULL;
    if (!f)
        return weft__no_frame();
    /* acquire: meets the release in weft_promise_set. The lock is looked at after that: once it is free, who set it is
     * done with the promise. */
    if (ati_load_acquire(&p->set) && ati_load_acquire(&p->lock.word) == 0) {
        int refused = weft__enter_call(f);
        return refused < 0 ? refused : give(p->rc, p->value, out);
    }
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    at.item = &value;
    weft__lock(&p->lock);
    bool set = ati_load(&p->set) != 0;
    if (set) {
        rc = p->rc;
        value = p->value;
    } else {
        weft__waiters_add(&p->waiters, &at);
    }
    weft__unlock(&p->lock);
    if (set) {
        weft__waiter_give_up(f);
        return give(rc, value, out);
    }
    weft__waits_for(f, WEFT__WAITS_PROMISE, (uint64_t)(uintptr_t)p);
    if (weft__waiter_await(f, &at, &p->lock))
        return give(wait.rc, value, out);
    weft__unlock(&p->lock);
    return -ECANCELED;
}

/* NULL first: who waits may free the promise as soon as it is set. */
int weft_setter_set(weft_promise **setter, int rc, void *value)
{
    weft_promise *p = setter ? *setter : NULL;
    if (!p)
        return -EINVAL;
    *setter = NULL;
    return weft_promise_set(p, rc, value);
}

void weft_setter_drop(weft_promise **setter)
{
    (void)weft_setter_set(setter, -EPIPE, NULL);
}
