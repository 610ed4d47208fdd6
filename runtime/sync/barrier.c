/* sync/barrier.c - nobody goes on before all have come.
 *
 * Owns      how many are here, whether it is broken, and who waits.
 * Holds     B1  under the lock, `here` is how many are in the list.
 *           B2  what becomes of a waiter (`rc`) is written under the lock, before it is claimed: an index, -EPIPE. Who was
 *               told to leave, and finds that it was counted all the same, returns that instead: the others go on because
 *               it was here. Else it has -ECANCELED there, and is here no more.
 *           B3  the list is emptied in one hold of the lock. So a generation has its indices in the order of arrival, and
 *               the next one begins at once, though some of this one have not woken.
 * Freed     once all have returned from it. Of those who are not told to leave, who has returned has no business with it,
 *           nor has who let it go, so any of them may free it then.
 * Source    asyncio.Barrier: who is cancelled leaves, and the barrier stays as it is (threading.Barrier, whose waits have
 *           no cancel, breaks when a wait times out). reset, abort: the same.
 * Tested    tests/barrier_test.c, tests/sync_cancel_test.c, tests/explore/meet.c, stress/sync.c */
#include <errno.h>
#include <limits.h>
#include "base/fork.h"
#include <weft/sync.h>
#include "sync/waiter.h"

struct barrier {
    uint64_t parties; /* never written */
    struct weft__lock lock;
    uint32_t here;
    uint32_t broken;
    uint32_t unused;
    struct weft__link waiters;
    uint64_t unused_too;
};
_Static_assert(sizeof(struct barrier) == sizeof(weft_barrier), "weft_barrier has a fixed size");

static struct barrier *inside(weft_barrier *b)
{
    return (struct barrier *)(void *)b;
}

/* Under the lock, which is let go: all who are here go on, with their index, or are sent away. The number of the caller. */
static int let_go(struct barrier *b, int rc)
{
    struct weft__served served = { 0 };
    struct weft__waiter *at;
    int index = 0;
    while ((at = weft__waiters_first(&b->waiters)) != NULL) {
        at->wait->rc = rc < 0 ? rc : index++; /* B2 */
        (void)weft__served_claim(&served, at);
    }
    b->here = 0;
    weft__unlock(&b->lock);
    weft__served_release(&served);
    return index;
}

enum { MUST_WAIT = INT_MIN };

/* Under the lock, which is let go if nobody has to wait. */
static int arrive(struct barrier *b)
{
    if (b->broken) {
        weft__unlock(&b->lock);
        return -EPIPE;
    }
    return b->here + 1 == b->parties ? let_go(b, 0) : (int)MUST_WAIT;
}

int weft_barrier_wait(weft_barrier *pb)
{
    struct barrier *b = inside(pb);
    if (b->parties == 0 || b->parties > INT_MAX)
        return -EINVAL;
    struct weft__frame *f = weft__current();
    struct weft__waiting wait = { .rc = -ECANCELED };
    struct weft__waiter at;
    if (!f)
        return weft__no_frame();
    weft__lock(&b->lock);
    int rc = arrive(b);
    if (rc != MUST_WAIT)
        return rc;
    weft__unlock(&b->lock);
    rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    weft__lock(&b->lock);
    rc = arrive(b); /* others may have come meanwhile */
    if (rc != MUST_WAIT) {
        weft__waiter_give_up(f);
        return rc;
    }
    weft__waiters_add(&b->waiters, &at);
    b->here++;
    weft__unlock(&b->lock);
    weft__waits_for(f, WEFT__WAITS_BARRIER, (uint64_t)(uintptr_t)b);
    if (weft__waiter_await(f, &at, &b->lock))
        return wait.rc;
    if (wait.rc == -ECANCELED) /* B2 */
        b->here--;
    weft__unlock(&b->lock);
    return wait.rc;
}

static void send_away(weft_barrier *pb, uint32_t broken)
{
    struct barrier *b = inside(pb);
    if (weft__forked)
        return;
    weft__lock(&b->lock);
    b->broken = broken;
    (void)let_go(b, -EPIPE);
}

void weft_barrier_break(weft_barrier *b)
{
    send_away(b, 1);
}

void weft_barrier_reset(weft_barrier *b)
{
    send_away(b, 0);
}
