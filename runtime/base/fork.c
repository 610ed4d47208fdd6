/* base/fork.c - a process that was forked from one that has a runtime.
 *
 * Owns      the mark of such a child, how many runtimes there are, and the signal mask for what is forked from weft's
 *           threads.
 * Holds     F1  a child that is forked while a runtime exists is marked before fork returns in it, and for ever; its
 *               children inherit the mark. So may every lock be held by a thread that is not there, and every queue be
 *               half changed: who finds the mark touches none of them. It is looked for where a call is slow already:
 *               outside of a worker, where a plain thread's frame is fetched, or before a system call.
 *           F2  the thread that forked is no worker any more (`forget`), so a call of a task's takes the way of a plain
 *               thread, which meets the mark; the ways of tasks are as short as they were.
 *           F3  nothing in a child makes a system call on what it shares with its parent: epoll sets, event counters,
 *               connections.
 * Dropped   weft_run in such a child. It would have to leave all tables behind and build new ones: blocks of tasks that
 *           do not run here, slots with waiters of theirs, descriptors that the parent's set knows; and hold all locks
 *           over each fork. exec gives the same for less.
 * Handlers  of pthread_atfork that were registered before the first runtime run before the mark is set: no weft in them.
 * Without a runtime the child is like its parent: weft may be used there, if no other thread was in a call of it.
 * Tested    tests/fork_test.c */
#include "base/fork.h"

#include <pthread.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/panic.h"

bool weft__forked;

static at_int runtimes;
static void (*forget_thread)(void);
static __thread const sigset_t *mask_of_children __attribute__((tls_model("initial-exec")));

static void in_child(void)
{
    if (ati_load(&runtimes) == 0)
        return;
    weft__forked = true; /* F1 */
    forget_thread();     /* F2 */
    if (mask_of_children)
        pthread_sigmask(SIG_SETMASK, mask_of_children, NULL); /* last: signals may come from here on */
    mask_of_children = NULL;
}

int weft__fork_watch(void (*forget)(void))
{
    forget_thread = forget;
    return -pthread_atfork(NULL, NULL, in_child);
}

void weft__fork_runtime_begin(void)
{
    ati_add(&runtimes, 1);
}

void weft__fork_runtime_end(void)
{
    ati_add(&runtimes, (uint32_t)-1);
}

void weft__fork_mask(sigset_t *out)
{
    if (mask_of_children)
        *out = *mask_of_children;
    else
        pthread_sigmask(SIG_SETMASK, NULL, out);
}

bool weft__fork_mask_used(void)
{
    return mask_of_children != NULL;
}

void weft__fork_mask_use(const sigset_t *mask)
{
    mask_of_children = mask;
}

void weft__fork_returned(void)
{
    weft__panic(__FILE__, __LINE__, "a function that weft had called returned in a forked child: "
            "such a child ends by _exit or goes on by exec");
}
