/* engine/signal.c - signals, if a runtime was asked to see to them.
 *
 * Owns      the handler of SIGINT and SIGTERM (stop_on_signals) and of SIGQUIT (dump_on_quit), which is there from the
 *           first runtime that asks to the last, unless somebody listens (engine/handler.c).
 * Callers   begin, end: who starts and ends a runtime. serve: its I/O thread.
 *
 *     a handler, on a thread of the program's      a runtime that ends
 *     G1  handlers + 1                             G3  takes itself out of the table
 *     G2  each runtime in the table: says what         -- full fence --
 *         was asked, kicks its I/O thread;         G4  waits while a handler is at work
 *         handlers - 1
 *
 * Forbidden: G2 touches a runtime that G4 did not wait for. (G1 is a fence: either it comes before G3's, and G4 waits,
 * or G2 finds the table without it.)
 * In a forked child a signal does what it did before weft took it: nobody there serves it, and the kick would be the
 * parent's.
 * All of weft's own threads block all signals. A second signal to stop needs nobody: it gets its default disposition. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "base/errno.h"
#include "base/fork.h"
#include "engine/handler.h"
#include "engine/hooks.h"
#include "engine/worker.h"

enum { RUNTIMES = 64 };

static const int signals[] = { SIGINT, SIGTERM, SIGQUIT };
enum { SIGNALS = sizeof signals / sizeof signals[0] };

static at_word runtimes[RUNTIMES];
static at_int handlers, stopped;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users[SIGNALS]; /* under the lock */

static bool wants(const struct weft_runtime *rt, int signo)
{
    return signo == SIGQUIT ? rt->on_quit : rt->on_stop;
}

static void ask(struct weft_runtime *rt, int signo)
{
    if (signo == SIGQUIT)
        ati_store_release(&rt->asked_dump, 1);
    else
        ati_store_release(&rt->asked_stop, (uint32_t)signo);
    weft__poller_kick(&rt->poller);
}

static void on_signal(int signo)
{
    int error = weft__errno();
    if (weft__forked) {
        weft__handler_undo(signo);
        weft__errno_set(error);
        return;
    }
    ati_add(&handlers, 1); /* G1 */
    at_fence_full();
    if (signo != SIGQUIT && ati_swap(&stopped, 1) != 0) {
        signal(signo, SIG_DFL);
        raise(signo); /* pending until we return */
    }
    for (int i = 0; i < RUNTIMES; i++) { /* G2 */
        struct weft_runtime *rt = (struct weft_runtime *)(uintptr_t)at_load_acquire(&runtimes[i]);
        if (!rt || !wants(rt, signo))
            continue;
        ask(rt, signo);
        if (signo == SIGQUIT)
            break; /* it writes down the tasks of all */
    }
    ati_add(&handlers, (uint32_t)-1);
    weft__errno_set(error);
}

void weft__signals_serve(struct weft_runtime *rt)
{
    if (ati_swap(&rt->asked_dump, 0) != 0)
        weft__hooks.dump(2);
    uint32_t signo = ati_swap(&rt->asked_stop, 0);
    if (signo == 0)
        return;
    ati_store(&rt->stop_signal, signo);
    weft__hooks.stop(rt, (int)signo);
}

/* Under the lock. */
static void watch(int i)
{
    if (users[i]++ > 0)
        return;
    if (signals[i] != SIGQUIT)
        ati_store(&stopped, 0);
    weft__handler_take(signals[i], WEFT__TAKER_STOP, on_signal);
}

static void unwatch(int i)
{
    if (--users[i] == 0)
        weft__handler_give(signals[i], WEFT__TAKER_STOP);
}

static bool enter(const struct weft_runtime *rt)
{
    for (int i = 0; i < RUNTIMES; i++)
        if (at_load(&runtimes[i]) == 0) {
            at_store_release(&runtimes[i], (uint64_t)(uintptr_t)rt);
            return true;
        }
    return false;
}

int weft__signals_begin(struct weft_runtime *rt)
{
    if (!rt->on_stop && !rt->on_quit)
        return 0;
    pthread_mutex_lock(&lock);
    bool entered = enter(rt);
    for (int i = 0; entered && i < SIGNALS; i++)
        if (wants(rt, signals[i]))
            watch(i);
    pthread_mutex_unlock(&lock);
    return entered ? 0 : -EAGAIN;
}

void weft__signals_end(struct weft_runtime *rt)
{
    bool was_in = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < RUNTIMES; i++)
        if (at_load(&runtimes[i]) == (uint64_t)(uintptr_t)rt) {
            at_store(&runtimes[i], 0); /* G3 */
            was_in = true;
        }
    for (int i = 0; was_in && i < SIGNALS; i++)
        if (wants(rt, signals[i]))
            unwatch(i);
    pthread_mutex_unlock(&lock);
    at_fence_full();
    while (ati_load_acquire(&handlers) != 0) /* G4 */
        sched_yield();
}
