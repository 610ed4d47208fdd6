/* sync/rwlock.c - many readers or one writer, in the order they came.
 *
 * Owns      who holds the lock, as a number, and who waits for it.
 * Holds     R1  QUEUED is set and cleared under the internal lock, and says outside it whether somebody is in the list.
 *               While it is set only who holds the internal lock writes the state.
 *           R2  the first in the list cannot have the lock, whenever the internal one is free: so whoever leaves the
 *               lock, or the list, admits from the front: a writer, or all readers up to the next writer.
 *           R3  nobody gets the lock past one who waits. So a writer waits for those readers alone who were there
 *               before it, and a reader for the writers who were.
 * Freed     by who holds it for writing, after its own unlock, if nobody else will come. Unlocks without the internal lock
 *           touch nothing after their compare-and-swap; for the others weft__lock_passed waits. All that are admitted at
 *           once are claimed in one hold of the internal lock, as in sem.c.
 * Source    Tokio's and parking_lot's order; tried and dropped: readers before writers that wait, after a writer (as
 *           Go's), for which the list has to be searched and a reader may be overtaken.
 * Tested    tests/rwlock_test.c, tests/sync_cancel_test.c, tests/explore/waiter.c, stress/sync.c */
#include <errno.h>
#include "base/fork.h"
#include "base/panic.h"
#include <weft/sync.h>
#include "sync/waiter.h"

struct rwlock {
    at_word state; /* QUEUED, WRITER, or the number of readers */
    struct weft__lock lock;
    uint32_t unused;
    struct weft__link waiters; /* `amount`: what it adds to the state */
    uint64_t unused_too[2];
};
_Static_assert(sizeof(struct rwlock) == sizeof(weft_rwlock), "weft_rwlock has a fixed size");

#define READER UINT64_C(1)
#define WRITER (UINT64_C(1) << 62)
#define QUEUED (UINT64_C(1) << 63)

static struct rwlock *inside(weft_rwlock *l)
{
    return (struct rwlock *)(void *)l;
}

/* Whether `who` (READER, WRITER) can join those who hold it. */
static bool fits(uint64_t state, uint64_t who)
{
    return who == READER ? !(state & WRITER) : (state & ~QUEUED) == 0;
}

/* The state after one of those who hold it has left. */
static uint64_t left(uint64_t state)
{
    bool somebody_holds_the_lock = (state & ~QUEUED) != 0;
    weft__expect(somebody_holds_the_lock);
    return state - (state & WRITER ? WRITER : READER);
}

/* Without the internal lock. */
static bool take_lock(struct rwlock *l, uint64_t who)
{
    for (;;) {
        uint64_t state = at_load(&l->state);
        if ((state & QUEUED) || !fits(state, who))
            return false;
        /* acquire: meets the release in weft_rwlock_unlock and admit; what was written under the lock is seen. */
        if (at_cas_acquire(&l->state, state, state + who))
            break;
    }
    weft__lock_passed(&l->lock);
    return true;
}

/* Under the internal lock. True: it is in the list. False: it has the lock. */
static bool queue_for_lock(struct rwlock *l, struct weft__waiter *at)
{
    for (;;) {
        uint64_t state = at_load(&l->state);
        if (state & QUEUED)
            break;
        bool free = fits(state, at->amount);
        /* acquire: as in take_lock, and for the readers who have left already: whoever admits us has this from the internal
         * lock, and passes it on. */
        if (!at_cas_acquire(&l->state, state, free ? state + at->amount : state | QUEUED))
            continue;
        if (free)
            return false;
        break;
    }
    weft__waiters_add(&l->waiters, at);
    return true;
}

/* Under the internal lock, which is let go: one of the holders has left, or of those who wait. */
static void admit(struct rwlock *l, bool holder_left)
{
    struct weft__served served = { 0 };
    struct weft__waiter *at;
    uint64_t state = at_load(&l->state);
    while (!(state & QUEUED)) {
        /* release: meets the acquire in take_lock. */
        if (!holder_left || at_cas_release(&l->state, state, left(state))) {
            weft__unlock(&l->lock);
            return;
        }
        state = at_load(&l->state);
    }
    if (holder_left)
        state = left(state);
    while ((at = weft__waiters_first(&l->waiters)) != NULL && fits(state, at->amount))
        if (weft__served_claim(&served, at))
            state += at->amount;
    if (weft__waiters_none(&l->waiters))
        state &= ~QUEUED;
    at_store_release(&l->state, state); /* release: as above; and R1 */
    weft__unlock(&l->lock);
    weft__served_release(&served);
}

/* Apart, since who takes the lock at once would save registers for it. */
static __attribute__((noinline)) int wait_for_lock(
        struct rwlock *l, struct weft__frame *f, uint64_t who, enum weft__waits waits_for)
{
    struct weft__waiting wait;
    struct weft__waiter at;
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    at.amount = who;
    weft__lock(&l->lock);
    bool waits = queue_for_lock(l, &at);
    weft__unlock(&l->lock);
    if (!waits) {
        weft__waiter_give_up(f);
        return 0;
    }
    weft__waits_for(f, waits_for, (uint64_t)(uintptr_t)l);
    if (weft__waiter_await(f, &at, &l->lock))
        return 0;
    admit(l, false); /* R2: it may have been the first, and in the way of readers */
    return -ECANCELED;
}

static inline int lock_as(struct rwlock *l, uint64_t who, enum weft__waits waits_for)
{
    struct weft__frame *f = weft__current();
    if (f)
        weft__spend(f);
    if (take_lock(l, who))
        return 0;
    return f ? weft__on_stack(wait_for_lock(l, f, who, waits_for)) : weft__no_frame();
}

int weft_rwlock_read(weft_rwlock *l)
{
    return lock_as(inside(l), READER, WEFT__WAITS_RWLOCK_READ);
}

int weft_rwlock_write(weft_rwlock *l)
{
    return lock_as(inside(l), WRITER, WEFT__WAITS_RWLOCK_WRITE);
}

int weft_rwlock_try_read(weft_rwlock *l)
{
    return take_lock(inside(l), READER) ? 0 : -EAGAIN;
}

int weft_rwlock_try_write(weft_rwlock *l)
{
    return take_lock(inside(l), WRITER) ? 0 : -EAGAIN;
}

void weft_rwlock_unlock(weft_rwlock *pl)
{
    struct rwlock *l = inside(pl);
    for (;;) {
        uint64_t state = at_load(&l->state), after = left(state);
        if (state & QUEUED)
            break;
        /* release: meets the acquire in take_lock. The last access to the lock. */
        if (at_cas_release(&l->state, state, after))
            return;
    }
    if (weft__forked)
        return;
    weft__lock(&l->lock);
    admit(l, true);
}
