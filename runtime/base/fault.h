/* base/fault.h - makes the n-th call of a kind fail, for tests of what happens then.
 *
 * Costs one load of a word that is never written in a program's normal life. */
#ifndef WEFT_BASE_FAULT_H
#define WEFT_BASE_FAULT_H

#include "base/atomic.h"
#include "base/hidden.h"

enum weft__fault_kind {
    WEFT__FAULT_ALLOC,
    WEFT__FAULT_MMAP,
    WEFT__FAULT_GUARD, /* MADV_GUARD_INSTALL */
    WEFT__FAULT_MPROTECT, /* of guards; that of tables counts as MMAP */
    WEFT__FAULT_THREAD,
    WEFT__FAULT_KEY, /* pthread_key_create, pthread_setspecific */
    WEFT__FAULT_EPOLL_CREATE,
    WEFT__FAULT_EPOLL_CTL, /* ADD, and MOD of a descriptor; what the kernel cannot refuse is not asked about */
    WEFT__FAULT_EPOLL_WAIT, /* the I/O thread's epoll_pwait2 */
    WEFT__FAULT_EVENTFD,
    WEFT__FAULT_SOCKET, /* socketpair, too */
    WEFT__FAULT_ACCEPT,
    WEFT__FAULT_POLL,
    WEFT__FAULT_FUTEX, /* a wait; it returns early, whatever the error */
    WEFT__FAULT_SIGSTACK, /* the mapping of an alternate signal stack, and sigaltstack */
    WEFT__FAULT_DISCARD, /* MADV_DONTNEED */
    WEFT__FAULT_KINDS
};

extern WEFT__HIDDEN at_word weft__fault_armed; /* how many kinds are set to fail */

/* From the `nth` call on (1: the next), `count` calls of this kind fail with `error` (negative). */
void weft__fault_set(enum weft__fault_kind kind, long nth, long count, int error);
void weft__fault_clear(void);
/* Since the last clear: how many calls there were, once something was set; and how many were made to fail. */
long weft__fault_calls(enum weft__fault_kind kind);
long weft__fault_failed(enum weft__fault_kind kind);
int weft__fault_slow(enum weft__fault_kind kind);

/* 0: go on; else the negative errno to fail with. */
static inline int weft__fault(enum weft__fault_kind kind)
{
    return at_load(&weft__fault_armed) == 0 ? 0 : weft__fault_slow(kind);
}

#endif
