/* base/thread.c - threads of the library's own.
 *
 * Signals   are blocked in all of them: they belong to the program's threads. (Workers may let one in: engine/turns.c.)
 *           Faults stay deliverable: they belong to the instruction that made them, and are to be reported.
 * Callers   engine/runtime.c, event/offload.c, os/watch.c, os/signal.c. */
#include "base/thread.h"

#include <signal.h>

#include "base/fault.h"

static void block(sigset_t *before)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT };
    sigset_t all;
    sigfillset(&all);
    for (unsigned i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

int weft__thread_start(pthread_t *out, void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    sigset_t before;
    int rc = weft__fault(WEFT__FAULT_THREAD);
    if (rc < 0)
        return rc;
    block(&before);
    rc = pthread_create(&thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return -rc;
    if (out)
        *out = thread;
    else
        pthread_detach(thread);
    return 0;
}
