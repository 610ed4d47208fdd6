/* machine/clone.h - clone3(2), for which libc has no function: its child goes on another stack, without a return. */
#ifndef WEFT_MACHINE_CLONE_H
#define WEFT_MACHINE_CLONE_H

#include <stdint.h>

/* The kernel's struct clone_args, as long as it was at first. */
struct weft__clone_args {
    uint64_t flags; /* CLONE_; the signal of its end is not among them */
    uint64_t pidfd; /* int *: with CLONE_PIDFD, is set in the parent */
    uint64_t child_tid, parent_tid;
    uint64_t exit_signal;
    uint64_t stack, stack_bytes; /* the lowest address, and the end a multiple of 16 above it */
    uint64_t tls;
};

/* The child calls fn(arg), which must not return. Its number, or -errno: nothing is written to errno. */
int weft__clone3(const struct weft__clone_args *args, uint64_t args_bytes, int (*fn)(void *), void *arg);

#endif
