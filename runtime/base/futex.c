/* base/futex.c - the one internal lock, and the kernel's wait on a word. See futex.h. */
#include "base/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fault.h"

enum {
    SPINS = 8,     /* looks, some microseconds: many times what a lock is held for */
    PAUSES = 32,   /* between two looks */
    YIELDS = 50,   /* then the holder is descheduled, and gets this core */
    NAP_NS = 50000 /* then it is of a lower priority, which yielding does not help */
};
/* futex_waitv(2), by numbers of the kernel's that older headers do not have. */
enum { SYS_WAITV = 449, FUTEX_WORD = 2, SLICE_NS = 1000000 };

/* Seldom looks: each look takes the line from the holder, who may be in the middle of many short holds. Two workers that meet
 * at one channel all the time then take turns of several calls each, which halves what an item costs (Anderson's back-off). */
void weft__lock_slow(struct weft__lock *l)
{
    for (int looks = 0; !weft__trylock(l); looks++) {
        if (looks < SPINS) {
            for (int i = 0; i < PAUSES; i++)
                at_relax();
        } else if (looks < SPINS + YIELDS) {
            sched_yield();
        } else {
            at_int never = 0;
            weft__futex_wait(&never, 0, weft__now() + NAP_NS);
        }
    }
}

bool weft__futex_wait(at_int *word, uint32_t value, int64_t until)
{
    if (weft__fault(WEFT__FAULT_FUTEX))
        return true; /* -EINTR, -EAGAIN */
    struct timespec at = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };
    /* WAIT_BITSET, since its timeout is a point in time: a spurious return does not stretch the wait. */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, until == INT64_MAX ? NULL : &at,
            NULL, FUTEX_BITSET_MATCH_ANY);
    return !(rc < 0 && weft__errno() == ETIMEDOUT);
}

bool weft__futex_wait_two(at_int *word, uint32_t value, at_int *other, uint32_t other_value, int64_t until)
{
    struct weft__waitv {
        uint64_t value, word;
        uint32_t flags, zero;
    } words[2] = {
        { value, (uint64_t)(uintptr_t)word, FUTEX_WORD | FUTEX_PRIVATE_FLAG, 0 },
        { other_value, (uint64_t)(uintptr_t)other, FUTEX_WORD | FUTEX_PRIVATE_FLAG, 0 },
    };
    struct timespec at = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };
    if (weft__fault(WEFT__FAULT_FUTEX))
        return true;
    long rc = syscall(SYS_WAITV, words, 2, 0, until == INT64_MAX ? NULL : &at, CLOCK_MONOTONIC);
    int error = rc < 0 ? weft__errno() : 0;
    if (error == 0 || error == EAGAIN || error == EINTR || error == ETIMEDOUT)
        return error != ETIMEDOUT;
    int64_t soon = weft__now() + SLICE_NS; /* before Linux 5.16, in an emulator, or filtered away */
    return weft__futex_wait(word, value, soon < until ? soon : until) || soon < until;
}

void weft__futex_wake(at_int *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}
