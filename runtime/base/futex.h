/* base/futex.h - the one internal lock, and the kernel's wait on a word.
 *
 * The lock has no owner and is held for tens of nanoseconds, by a batch of timers for microseconds, by a slice of a walk
 * (coord/tree.c) for tens of them; never across user code or a suspension. So it knows of no sleepers, and to leave it
 * is one plain store; who finds it held for long waits, as a rule, for a thread that was descheduled, and makes way for
 * it. */
#ifndef WEFT_BASE_FUTEX_H
#define WEFT_BASE_FUTEX_H

#include "base/atomic.h"

struct weft__lock {
    at_int word; /* 0 free, 1 held */
};

void weft__lock_slow(struct weft__lock *l);

static inline bool weft__trylock(struct weft__lock *l)
{
    /* acquire: meets the release of the unlock before; what its holder wrote is seen. */
    return ati_load(&l->word) == 0 && ati_cas(&l->word, 0, 1);
}
static inline void weft__lock(struct weft__lock *l)
{
    if (!ati_cas(&l->word, 0, 1)) /* acquire, as above */
        weft__lock_slow(l);
}
static inline void weft__unlock(struct weft__lock *l)
{
    ati_store_release(&l->word, 0);
}

/* Sleeps while *word is `value`; may return at any time, so callers look at the word again. `until` is a
 * CLOCK_MONOTONIC time in ns, INT64_MAX for none. Returns false when that time has come. */
bool weft__futex_wait(at_int *word, uint32_t value, int64_t until);
void weft__futex_wake(at_int *word, int n);
/* The same while two words are what they were. */
bool weft__futex_wait_two(at_int *word, uint32_t value, at_int *other, uint32_t other_value, int64_t until);

#endif
