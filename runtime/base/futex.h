/* base/futex.h - the one internal lock, and the kernel's wait on a word.
 *
 * The lock has no owner and is held for tens of nanoseconds, never across user code or a suspension. */
#ifndef WEFT_BASE_FUTEX_H
#define WEFT_BASE_FUTEX_H

#include "base/atomic.h"

struct weft__lock {
    at_int word; /* 0 free, 1 held, 2 held and somebody may sleep on it */
};

void weft__lock_slow(struct weft__lock *l);
void weft__unlock_slow(struct weft__lock *l);

static inline void weft__lock(struct weft__lock *l)
{
    /* acq_rel: meets the same of the unlock before; what its holder wrote is seen. */
    if (!ati_cas(&l->word, 0, 1))
        weft__lock_slow(l);
}
static inline bool weft__trylock(struct weft__lock *l)
{
    return ati_load(&l->word) == 0 && ati_cas(&l->word, 0, 1);
}
static inline void weft__unlock(struct weft__lock *l)
{
    if (!ati_cas(&l->word, 1, 0))
        weft__unlock_slow(l);
}

/* Sleeps while *word is `value`; may return at any time, so callers look at the word again. `until` is a
 * CLOCK_MONOTONIC time in ns, INT64_MAX for none. Returns false when that time has come. */
bool weft__futex_wait(at_int *word, uint32_t value, int64_t until);
void weft__futex_wake(at_int *word, int n);

#endif
