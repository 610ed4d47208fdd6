/* base/fork.h - what a forked child is told: that the threads of weft are not there. See fork.c. */
#ifndef WEFT_BASE_FORK_H
#define WEFT_BASE_FORK_H

#include <signal.h>
#include <stdbool.h>

#include "base/hidden.h"

/* This process was forked from one that had a runtime. No atomic: it is written once, in a child, before its only thread
 * returns from fork. */
extern WEFT__HIDDEN bool weft__forked;

/* Has `forget` called on the thread that forked, in each child that gets the mark. To be called once; 0; -ENOMEM. */
int weft__fork_watch(void (*forget)(void));

/* A runtime begins to exist, before it takes any lock; it is gone. */
void weft__fork_runtime_begin(void);
void weft__fork_runtime_end(void);

/* The signal mask that a child of the calling thread's is to have. */
void weft__fork_mask(sigset_t *out);
/* A thread of weft's, which blocks all signals, gives its children this one instead. It is not copied. */
void weft__fork_mask_use(const sigset_t *mask);
/* Whether the calling thread is one of weft's own, which block all signals. Not a host (engine/host.c). */
bool weft__fork_mask_used(void);

/* A function of the user's has returned to one of weft's threads, which is not there: ends the process. */
_Noreturn void weft__fork_returned(void);
static inline void weft__fork_expect_parent(void)
{
    if (weft__forked)
        weft__fork_returned();
}

#endif
