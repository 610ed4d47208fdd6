/* base/fence.h - a fence between two threads of which one is in a hurry and the other is not.
 *
 *     in a hurry, often                            rarely
 *     store a                                      store b
 *     weft__fence_light()                          weft__fence_heavy()
 *     load b                                       load a
 *
 * Forbidden: neither load sees the other's store. Two full fences forbid it as well, and each costs as much as a compare-and-swap;
 * here who is in a hurry pays for the order of its instructions alone, and the other for a system call that stops all threads
 * of the process for an instant. Where the kernel does not offer it, both are full fences.
 *
 * Source    membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED, Linux 4.14. */
#ifndef WEFT_BASE_FENCE_H
#define WEFT_BASE_FENCE_H

#include "base/atomic.h"
#include "base/hidden.h"

/* Once in a process, before the first fence of either kind. */
void weft__fences_init(void);

/* Written by weft__fences_init alone. */
extern WEFT__HIDDEN bool weft__fence_is_free;

static inline void weft__fence_light(void)
{
    if (__builtin_expect(weft__fence_is_free, 1))
        __asm__ volatile("" ::: "memory");
    else
        at_fence_full();
}

/* False: the kernel refuses what it has offered (a filter of system calls came later): nothing is ordered. */
bool weft__fence_heavy(void);

#endif
