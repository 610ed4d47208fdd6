/* sync/sem.c - permits, first come, first served.
 *
 * Owns      the number of permits, and who waits for how many.
 * Holds     S1  QUEUED is set and cleared under the lock, and says outside it whether somebody is in the list. While it
 *               is set only who holds the lock writes the state.
 *           S2  the first in the list wants more than there are, whenever the lock is free: so whoever changes either,
 *               by giving back or by leaving, serves from the front.
 *           S3  nobody takes a permit past one who waits.
 * Freed     by who has got a permit, if nobody else will come: who gave it back without the lock touches nothing after
 *           its compare-and-swap, and for one that was under the lock weft__lock_passed waits. All that one release serves
 *           are claimed in one hold of the lock, some 100 ns each: a list of its own, served in slices as events do, would
 *           have to give back what those did not take who left meanwhile, to a semaphore that may be gone.
 * Source    FIFO and many permits: Tokio's batch_semaphore, asyncio.Semaphore.
 * Tested    tests/sem_test.c, tests/sync_cancel_test.c, tests/explore/waiter.c, stress/sync.c */
#include "sync/sem.h"

#include <errno.h>
#include <stddef.h>

#include "base/fork.h"
#include "base/panic.h"
#include "sync/waiter.h"

struct sem {
    at_word state; /* QUEUED, or 0, and the permits */
    struct weft__lock lock;
    uint32_t bound; /* 0: none; never written */
    struct weft__link waiters; /* `amount`: how many */
};
_Static_assert(sizeof(struct sem) == sizeof(weft_sem), "weft_sem has a fixed size");
_Static_assert(offsetof(struct sem, bound) == 12 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
        "WEFT_SEM_BOUNDED_INIT puts the bound into the upper half of the second word");

#define QUEUED (UINT64_C(1) << 63)

static struct sem *inside(weft_sem *s)
{
    return (struct sem *)(void *)s;
}

uint32_t weft__sem_bound(const weft_sem *s)
{
    return ((const struct sem *)(const void *)s)->bound;
}

/* More than were taken. Of who waits nothing was taken yet, so it makes no difference whether somebody does. */
static bool too_many(const struct sem *s, uint64_t state, uint32_t n)
{
    return s->bound != 0 && (state & ~QUEUED) + n > s->bound;
}

static uint64_t add(uint64_t state, uint32_t n)
{
    uint64_t permits = state & ~QUEUED;
    weft__expect(permits + n <= UINT32_MAX); /* more given back than taken, and far more */
    return permits + n;
}

/* Without the lock. */
static bool take_permits(struct sem *s, uint32_t n)
{
    for (;;) {
        uint64_t state = at_load(&s->state);
        if ((state & QUEUED) || state < n)
            return false;
        /* acquire: meets the release in weft_sem_release and serve; what was written before these permits were given
         * back is seen. Through the compare-and-swaps between, too. */
        if (at_cas_acquire(&s->state, state, state - n))
            break;
    }
    weft__lock_passed(&s->lock);
    return true;
}

/* Under the lock. True: it is in the list. False: it has got what it wants. */
static bool queue_for_permits(struct sem *s, struct weft__waiter *at)
{
    for (;;) {
        uint64_t state = at_load(&s->state);
        if (state & QUEUED)
            break;
        bool enough = state >= at->amount;
        /* acquire: as in take_permits, and for the permits that are there and not enough: whoever serves us has this from
         * the lock, and passes it on. */
        if (!at_cas_acquire(&s->state, state, enough ? state - at->amount : state | QUEUED))
            continue;
        if (enough)
            return false;
        break;
    }
    weft__waiters_add(&s->waiters, at);
    return true;
}

/* Under the lock, which is let go: gives n back, and serves whoever has enough now. */
static int serve(struct sem *s, uint32_t n)
{
    struct weft__served served = { 0 };
    struct weft__waiter *at;
    uint64_t state = at_load(&s->state);
    while (!(state & QUEUED) && !too_many(s, state, n)) {
        /* release: meets the acquire in take_permits. */
        if (n == 0 || at_cas_release(&s->state, state, add(state, n))) {
            weft__unlock(&s->lock);
            return 0;
        }
        state = at_load(&s->state);
    }
    if (too_many(s, state, n)) {
        weft__unlock(&s->lock);
        return -EINVAL;
    }
    uint64_t permits = add(state, n);
    while ((at = weft__waiters_first(&s->waiters)) != NULL && at->amount <= permits)
        if (weft__served_claim(&served, at))
            permits -= at->amount;
    /* release: meets the acquire in take_permits; and S1. */
    at_store_release(&s->state, permits | (weft__waiters_none(&s->waiters) ? 0 : QUEUED));
    weft__unlock(&s->lock);
    weft__served_release(&served);
    return 0;
}

int weft_sem_try_acquire(weft_sem *s, uint32_t permits)
{
    return permits == 0 || take_permits(inside(s), permits) ? 0 : -EAGAIN;
}

int weft_sem_acquire(weft_sem *ps, uint32_t permits)
{
    struct sem *s = inside(ps);
    struct weft__frame *f = weft__current();
    if (permits == 0)
        return 0;
    if (f)
        weft__spend(f);
    if (take_permits(s, permits))
        return 0;
    struct weft__waiting wait;
    struct weft__waiter at;
    if (!f)
        return weft__no_frame();
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    at.amount = permits;
    weft__lock(&s->lock);
    bool waits = queue_for_permits(s, &at);
    weft__unlock(&s->lock);
    if (!waits) {
        weft__waiter_give_up(f);
        return 0;
    }
    weft__waits_for(f, WEFT__WAITS_SEM, (uint64_t)(uintptr_t)s);
    if (weft__waiter_await(f, &at, &s->lock))
        return 0;
    (void)serve(s, 0); /* S2: it may have been the first, and in the way */
    return -ECANCELED;
}

int weft_sem_release(weft_sem *ps, uint32_t permits)
{
    struct sem *s = inside(ps);
    if (permits == 0)
        return 0;
    for (;;) {
        uint64_t state = at_load(&s->state);
        if (state & QUEUED)
            break;
        if (too_many(s, state, permits))
            return -EINVAL;
        /* release: meets the acquire in take_permits. The last access to the semaphore. */
        if (at_cas_release(&s->state, state, add(state, permits)))
            return 0;
    }
    if (weft__forked)
        return -ECHILD;
    weft__lock(&s->lock);
    return serve(s, permits);
}
