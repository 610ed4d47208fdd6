/* seam_lock/base/futex.h - stands in front of runtime/base/futex.h: the lock is one step of the explorer's.
 *
 * So a critical section costs few states. The real lock is explored on its own, in lock.c. */
#ifndef WEFT_BASE_FUTEX_H
#define WEFT_BASE_FUTEX_H

#include "base/atomic.h"

struct weft__lock {
    at_int word;
};

void ex_lock(void *l);
void ex_unlock(void *l);

static inline void weft__lock(struct weft__lock *l)
{
    ex_lock(l);
}
static inline void weft__unlock(struct weft__lock *l)
{
    ex_unlock(l);
}

bool weft__futex_wait(at_int *word, uint32_t value, int64_t until);
void weft__futex_wake(at_int *word, int n);

#endif
