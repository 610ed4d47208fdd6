/* sync/waitgroup.c - waits until as many are done as were added.
 *
 * Owns      the count, and who waits for it to be 0.
 * Holds     G1  QUEUED is set and cleared under the lock, and says outside it whether somebody is in the list. The count
 *               below it moves at any time, but for its last step down to 0 while QUEUED is set: that is under the lock.
 *           G2  who waits sees 0, or is in the list that the last step takes: the look and the mark are one access.
 * Freed     by who waited, served or not: who brought the count to 0 without the lock touches nothing after that, and one
 *           who waits sees a 0 from under the lock only when the lock is free.
 * Source    Go's WaitGroup; its reuse is defined here: a wait is for the 0 that comes next, whoever adds after that.
 * Tested    tests/waitgroup_test.c, tests/sync_cancel_test.c, tests/explore/waiter.c, stress/sync.c */
#include <errno.h>
#include "base/fork.h"
#include "base/panic.h"
#include <weft/sync.h>
#include "sync/waiter.h"

struct waitgroup {
    at_word state; /* QUEUED, or 0, and the count */
    struct weft__lock lock;
    uint32_t unused;
    struct weft__link waiters;
};
_Static_assert(sizeof(struct waitgroup) == sizeof(weft_waitgroup), "weft_waitgroup has a fixed size");

#define QUEUED (UINT64_C(1) << 63)

static struct waitgroup *inside(weft_waitgroup *g)
{
    return (struct waitgroup *)(void *)g;
}

static uint64_t count_of(uint64_t state)
{
    return state & ~QUEUED;
}

static void expect_some(uint64_t state)
{
    bool fewer_are_done_than_were_added = count_of(state) > 0;
    weft__expect(fewer_are_done_than_were_added);
}

/* Under the lock: QUEUED, unless the count is 0. False: it is. */
static bool queue_for_end(struct waitgroup *g)
{
    for (;;) {
        /* acquire: meets the release of the last weft_waitgroup_done; what was written before each of them is seen. */
        uint64_t state = at_load_acquire(&g->state);
        if (count_of(state) == 0)
            return false;
        if ((state & QUEUED) || at_cas_acquire(&g->state, state, state | QUEUED))
            return true;
    }
}

/* Under the lock: whoever waited has left. */
static void leave_queue(struct waitgroup *g)
{
    while (weft__waiters_none(&g->waiters)) {
        uint64_t state = at_load(&g->state);
        if (!(state & QUEUED) || at_cas_acquire(&g->state, state, state - QUEUED))
            return;
    }
}

void weft_waitgroup_add(weft_waitgroup *pg, uint32_t n)
{
    struct waitgroup *g = inside(pg);
    for (;;) {
        uint64_t state = at_load(&g->state);
        weft__expect(count_of(state) + n <= UINT32_MAX);
        if (at_cas_release(&g->state, state, state + n)) /* release: it publishes nothing, and passes on what others did */
            return;
    }
}

void weft_waitgroup_done(weft_waitgroup *pg)
{
    struct waitgroup *g = inside(pg);
    uint64_t state;
    do {
        state = at_load(&g->state);
        expect_some(state);
        if (state == (QUEUED | 1))
            break; /* G1 */
        /* release: meets the acquire in queue_for_end and weft_waitgroup_wait. The last access to the group. */
    } while (!at_cas_release(&g->state, state, state - 1));
    if (state != (QUEUED | 1) || weft__forked)
        return;
    weft__lock(&g->lock);
    do {
        state = at_load(&g->state);
        expect_some(state);
        /* acq_rel: release as above; acquire: meets the releases of the others, for those whom we wake. */
    } while (!at_cas(&g->state, state, count_of(state) == 1 ? 0 : state - 1));
    if (count_of(state) == 1)
        weft__waiters_serve_all(&g->waiters, &g->lock, 0);
    else
        weft__unlock(&g->lock); /* others were added meanwhile */
}

int weft_waitgroup_wait(weft_waitgroup *pg)
{
    struct waitgroup *g = inside(pg);
    struct weft__frame *f = weft__current();
    struct weft__waiting wait;
    struct weft__waiter at;
    if (!f)
        return weft__no_frame();
    /* acquire: meets the release in weft_waitgroup_done. The lock is looked at after that: once it is free, who came last
     * is done with the group. */
    if (count_of(at_load_acquire(&g->state)) == 0 && ati_load_acquire(&g->lock.word) == 0)
        return weft__on_stack(weft__enter_call(f));
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    weft__lock(&g->lock);
    bool waits = queue_for_end(g);
    if (waits)
        weft__waiters_add(&g->waiters, &at);
    weft__unlock(&g->lock);
    if (!waits) {
        weft__waiter_give_up(f);
        return 0;
    }
    weft__waits_for(f, WEFT__WAITS_WAITGROUP, (uint64_t)(uintptr_t)g);
    if (weft__waiter_await(f, &at, &g->lock))
        return 0;
    leave_queue(g);
    weft__unlock(&g->lock);
    return -ECANCELED;
}
