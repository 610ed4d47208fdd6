/* base/futex.c - the one internal lock, and the kernel's wait on a word.
 *
 * Source    U. Drepper, "Futexes are tricky", third mutex. */
#include "base/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/errno.h"

enum { SPINS = 50 }; /* looks, about a microsecond: several times what a lock is held for; longer only hurts when the holder was descheduled */

void weft__lock_slow(struct weft__lock *l)
{
    for (int i = 0; i < SPINS; i++) {
        if (weft__trylock(l))
            return;
        at_relax();
    }
    while (ati_swap(&l->word, 2) != 0)
        weft__futex_wait(&l->word, 2, INT64_MAX);
}

void weft__unlock_slow(struct weft__lock *l)
{
    ati_swap(&l->word, 0);
    weft__futex_wake(&l->word, 1);
}

bool weft__futex_wait(at_int *word, uint32_t value, int64_t until)
{
    struct timespec at = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };
    /* WAIT_BITSET, since its timeout is a point in time: a spurious return does not stretch the wait. */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, until == INT64_MAX ? NULL : &at,
            NULL, FUTEX_BITSET_MATCH_ANY);
    return !(rc < 0 && weft__errno() == ETIMEDOUT);
}

void weft__futex_wake(at_int *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}
