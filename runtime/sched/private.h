/* sched/private.h - one task that a worker keeps to itself, and that others can take all the same if they must.
 *
 * What a worker has just spawned or woken it runs itself, as a rule, a few hundred nanoseconds later. So the place where it keeps
 * that costs it no atomic operation; a worker that stays too long with something else is robbed at the cost of a system call.
 *
 *     owner, put or take                           thief, under the lock
 *     O1  old = item                               R1  gone? then nothing is to be had
 *     O2  item = the new one, or 0                 R2  asked + 1
 *         -- light fence --                            -- heavy fence --
 *     O3  asked as before: old is the owner's      R3  item? no: nothing
 *     O4  else, under the lock: unless `gone`      R4  item: that -> 0 (CAS); it has changed: nothing
 *         is old, old is the owner's; gone = 0     R5  gone = that
 *
 * Forbidden: O3 or O4 gives the owner what R4 gave to a thief. If O2 came before R4, R4 has failed. If R4 came before O2,
 * then so did the heavy fence, O3 sees R2, and O4 waits for R5. There is one `gone`: what R1 would find beside it was put by
 * an operation that has not come to O4 yet. And no item is put twice between R2 and R5: the first put would be held up in O4.
 *
 * Callers   put and take on the owner's thread; steal on any.
 * Source    the asymmetric Dekker of biased locks (Dice, Huang, Yang 2001), with a claim of one word.
 * Tested    tests/explore/private.c, every interleaving; tests/private_test.c; stress/private.c
 */
#ifndef WEFT_SCHED_PRIVATE_H
#define WEFT_SCHED_PRIVATE_H

#include "base/fence.h"
#include "base/futex.h"

struct weft__private {
    at_word item; /* 0: none */
    at_word asked; /* how often a thief was there; under the lock */
    uint64_t seen; /* how often that was at the owner's last operation */
    uint64_t gone; /* what a thief has taken since then, 0 nothing; under the lock */
    struct weft__lock lock; /* held over a heavy fence */
};

/* O4. */
uint64_t weft__private_asked(struct weft__private *p, uint64_t old);

/* Owner. O2 and O3. False: O4 is to be done, weft__private_asked. */
static inline bool weft__private_set(struct weft__private *p, uint64_t item)
{
    /* release: meets the acquire of the CAS in steal; a thief sees the task. */
    at_store_release(&p->item, item);
    weft__fence_light();
    return at_load(&p->asked) == own(p->seen);
}

/* Owner. O2 to O4, after O1. */
static inline uint64_t weft__private_change(struct weft__private *p, uint64_t old, uint64_t item)
{
    return weft__private_set(p, item) ? old : weft__private_asked(p, old);
}

/* Owner. What was there, 0 nothing, is the caller's. */
static inline uint64_t weft__private_put(struct weft__private *p, uint64_t item)
{
    return weft__private_change(p, at_load(&p->item), item);
}

/* Owner. 0: there is none. */
static inline uint64_t weft__private_take(struct weft__private *p)
{
    uint64_t old = at_load(&p->item);
    return old == 0 ? 0 : weft__private_change(p, old, 0);
}

/* Any thread; some microseconds. 0: there was none, or its owner was faster. */
uint64_t weft__private_steal(struct weft__private *p);

/* Any thread; a guess. */
static inline bool weft__private_has(const struct weft__private *p)
{
    return at_load(&p->item) != 0;
}

#endif
