/* base/biased.h - a lock that costs no atomic operation as long as one party takes it, and is any other lock from then on.
 *
 * It is tried, never waited for. The first party to have it keeps the right to take it by two stores, until another comes:
 * that takes the right away for good, at the cost of a heavy fence.
 *
 *     the party of the right                       the first other, under the lock
 *     B1  whose = its own? and not held            R1  whose = NOBODY_YET, LEAVING: nobody has the right any more
 *     B2  held = 1                                     -- heavy fence --
 *         -- light fence --                        R2  whose = ALL
 *     B3  whose = its own still: it has it         R3  held? then it is refused
 *     B4  else under the lock: held = 0,           R4  else taken: 0 -> 1 (CAS)
 *         then as the others
 *
 *     any other from then on: whose = ALL (acquire: meets R2), then R3, R4, without the lock
 *     to give it back: a release of 0 to the word by which it was had, `held` or `taken`
 *
 * Forbidden: two have it. If B2 comes before the heavy fence, R3 finds it, and so does whoever meets R2. If it comes after,
 * B3 finds R1, and who has the right tries for `taken` as all the others do.
 * Some one has it of all who try at once: who is refused by R3, because of an attempt that B4 takes back, is so before
 * that one's own try for `taken`, which B4 keeps back until R4 is done.
 *
 * Callers   any thread; a party is whoever does one thing after the other: a task, or a thread that is none. Its number
 *           may be given anew once it is gone.
 * Source    the biased locks of Dice, Huang and Yang (2001), with a try of one word.
 * Tested    tests/explore/biased.c, every interleaving; tests/biased_test.c; stress/biased.c */
#ifndef WEFT_BASE_BIASED_H
#define WEFT_BASE_BIASED_H

#include "base/fence.h"
#include "base/futex.h"

enum { WEFT__BIASED_NOBODY_YET, WEFT__BIASED_LEAVING, WEFT__BIASED_ALL, WEFT__BIASED_PARTIES };

struct weft__biased {
    at_word whose; /* one of the above, or a party; stored under the lock */
    at_int held, taken;
    struct weft__lock lock; /* held over a heavy fence, once */
};

/* After weft__fences_init, and before anybody else sees it. Where a light fence costs as much as a compare and swap, nobody
 * gets the right. */
static inline void weft__biased_init(struct weft__biased *b)
{
    at_store(&b->whose, weft__fence_is_free ? WEFT__BIASED_NOBODY_YET : WEFT__BIASED_ALL);
    ati_store(&b->held, 0);
    ati_store(&b->taken, 0);
    ati_store(&b->lock.word, 0);
}

/* B1 has failed, or B3. */
at_int *weft__biased_try_slow(struct weft__biased *b, uint64_t party, bool tried);

/* The word to give it back by, 0 with release; NULL: another has it, or the party itself. Also NULL, from the second
 * party on, if a filter of system calls that came later forbids the heavy fence. */
static inline at_int *weft__biased_try(struct weft__biased *b, uint64_t party)
{
    /* B1. acquire: costs nothing, and orders one task before another that has its number, as far as ThreadSanitizer knows. */
    if (__builtin_expect(at_load(&b->whose) == party, 1) && ati_load_acquire(&b->held) == 0) {
        ati_store(&b->held, 1); /* B2 */
        weft__fence_light();
        return __builtin_expect(at_load(&b->whose) == party, 1) ? &b->held : weft__biased_try_slow(b, party, true);
    }
    return weft__biased_try_slow(b, party, false);
}

#endif
