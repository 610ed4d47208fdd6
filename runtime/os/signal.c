/* os/signal.c - signals, as channels that tasks and plain threads receive from.
 *
 * Owns      the handler of the signals that somebody listens to, from the first listener of each to the last
 *           (engine/handler.c), and a thread, from the first listener of all to the last.
 * Callers   weft_signal_open; a channel that is closed or destroyed (its `source`, sync/chan.h).
 * Holds     N1  the list of listeners is under `lock`; a channel's lock is taken under it. So a channel that is being
 *               destroyed waits for the thread, which never touches one that has left the list.
 *           N2  who opens or leaves holds `doors` all the while, over sigaction and pthread_create: neither is done under
 *               `lock`.
 *           N3  a handler is put there after the listener is in the list, and taken away before it leaves: what comes
 *               between belongs to it. What it was marked with and did not stay for, the next one does not hear.
 *           N4  the thread is not in a forked child, and may have left `lock` or the doors held there: whoever finds that it
 *               runs elsewhere touches neither.
 *
 *     a handler                            the thread
 *     K1  marks the signal                 K3  reads how often it was rung
 *     K2  rings, wakes                     K4  takes what is marked, passes it on
 *                                          K5  sleeps, unless it was rung since K3
 *
 * Forbidden: a mark that K4 did not see and a sleep. (A mark comes before its ring.)
 *
 * Dropped   signalfd: it needs the signals blocked in all threads of the program, of which most are not ours. The I/O
 *           thread of a runtime: there may be none yet, or several.
 * Tested    tests/signal_test.c */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <weft/signal.h>

#include "base/errno.h"
#include "base/fork.h"
#include "base/futex.h"
#include "base/mem.h"
#include "base/thread.h"
#include "engine/handler.h"
#include "engine/rest.h"
#include "engine/stall.h"
#include "sync/chan.h"

enum { SIGNALS = 64, KEPT = 64 };

struct listener {
    struct weft__chan_source source;
    struct weft__link link; /* under `lock` */
    weft_chan *chan;
    uint64_t wanted; /* written once: bit signo - 1, as everywhere here */
};

static pthread_mutex_t doors = PTHREAD_MUTEX_INITIALIZER;
static int users[SIGNALS]; /* under the doors */
static at_int thread_runs; /* written with the doors held */

static struct weft__lock lock;
static struct weft__link listeners = { &listeners, &listeners };

static at_word marked; /* K1 */
static at_int rung;
static at_word home; /* the process that listens */

static uint64_t bit(int signo)
{
    return UINT64_C(1) << (signo - 1);
}

/* ---- the handler */

static void on_signal(int signo)
{
    int error = weft__errno();
    if ((pid_t)at_load(&home) != getpid()) { /* a forked child */
        weft__handler_undo(signo);
    } else {
        uint64_t was = at_load(&marked);
        while (!at_cas(&marked, was, was | bit(signo)))
            was = at_load(&marked);
        ati_add(&rung, 1); /* a full fence: K1 before K2 */
        weft__futex_wake(&rung, 1);
    }
    weft__errno_set(error);
}

/* ---- the thread */

static void pass_on(int signo)
{
    struct weft__served served = { 0 };
    struct weft__chan_after after;
    weft__lock(&lock);
    for (struct weft__link *l = listeners.next; l != &listeners; l = l->next) {
        struct listener *w = container_of(l, struct listener, link);
        if (!(w->wanted & bit(signo)))
            continue;
        weft__lock(&w->chan->lock);
        (void)weft__chan_put(w->chan, &signo, &after); /* never full: the oldest goes */
        weft__unlock(&w->chan->lock);
        if (after.served.at)
            weft__served_add(&served, after.served.at, &after.served.who);
    }
    weft__unlock(&lock);
    weft__served_release(&served);
}

/* The last listener has left, and nobody has come since. */
static bool may_end(void)
{
    pthread_mutex_lock(&doors);
    weft__lock(&lock);
    bool none = list_empty(&listeners);
    weft__unlock(&lock);
    if (none)
        ati_store(&thread_runs, 0);
    pthread_mutex_unlock(&doors);
    return none;
}

static void *listen_for_all(void *arg)
{
    for (;;) {
        uint32_t seen = ati_load_acquire(&rung); /* K3; who leaves rings, too, after it has left */
        if (may_end())
            return arg;
        uint64_t came = at_swap(&marked, 0); /* K4 */
        for (int signo = 1; signo <= SIGNALS; signo++)
            if (came & bit(signo))
                pass_on(signo);
        weft__futex_wait(&rung, seen, INT64_MAX); /* K5 */
    }
}

/* With the doors held. */
static int start_thread(void)
{
    at_store(&home, (uint64_t)getpid());
    int rc = ati_load(&thread_runs) ? 0 : weft__thread_start(NULL, listen_for_all, NULL);
    ati_store_release(&thread_runs, rc == 0); /* meets the acquire below: whoever sees it run sees whose it is */
    return rc;
}

/* N4. */
static bool thread_stayed_behind(void)
{
    return ati_load_acquire(&thread_runs) && (pid_t)at_load(&home) != getpid();
}

/* ---- listening, with the doors held */

static void take_signals(uint64_t wanted)
{
    for (int i = 0; i < SIGNALS; i++) {
        if (!(wanted & bit(i + 1)) || users[i]++ > 0)
            continue;
        for (uint64_t was = at_load(&marked); was & bit(i + 1); was = at_load(&marked)) /* N3 */
            (void)at_cas(&marked, was, was & ~bit(i + 1));
        weft__handler_take(i + 1, WEFT__TAKER_LISTENER, on_signal);
    }
}

static void give_signals(uint64_t wanted)
{
    for (int i = 0; i < SIGNALS; i++)
        if ((wanted & bit(i + 1)) && --users[i] == 0)
            weft__handler_give(i + 1, WEFT__TAKER_LISTENER);
}

static void enter(struct listener *w)
{
    weft__lock(&lock);
    list_push_tail(&listeners, &w->link);
    weft__unlock(&lock);
}

static void leave(struct listener *w)
{
    weft__lock(&lock);
    list_remove(&w->link);
    weft__unlock(&lock);
}

/* The channel is closed, or goes: once. */
static void ended(struct weft__chan_source *s)
{
    struct listener *w = container_of(s, struct listener, source);
    if (thread_stayed_behind())
        return;
    pthread_mutex_lock(&doors);
    give_signals(w->wanted); /* N3 */
    leave(w);
    ati_add(&weft__outsiders, (uint32_t)-1);
    ati_add(&rung, 1); /* it may be the last */
    pthread_mutex_unlock(&doors);
    weft__futex_wake(&rung, 1);
    weft__stall_others();
    weft__mem_free(w);
}

/* 0: not a list of signals that can be listened to. */
static uint64_t wanted_of(const int *signals)
{
    static const int not_these[] = { SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS };
    uint64_t wanted = 0;
    for (; signals && *signals; signals++) {
        if (*signals < 0 || *signals > SIGRTMAX || (*signals > 31 && *signals < SIGRTMIN))
            return 0;
        for (unsigned i = 0; i < sizeof not_these / sizeof not_these[0]; i++)
            if (*signals == not_these[i])
                return 0;
        wanted |= bit(*signals);
    }
    return wanted;
}

int weft_signal_open(weft_chan **out, const int *signals)
{
    uint64_t wanted = wanted_of(signals);
    weft_chan *c;
    if (!out || wanted == 0)
        return -EINVAL;
    if (weft__forked || thread_stayed_behind())
        return -ECHILD;
    struct listener *w = weft__mem_zeroed(sizeof *w);
    if (!w)
        return -ENOMEM;
    int rc = weft_chan_create(&c, sizeof(int), KEPT, &(weft_chan_options){ .drop_oldest = true });
    if (rc < 0) {
        weft__mem_free(w);
        return rc;
    }
    w->chan = c;
    w->wanted = wanted;
    pthread_mutex_lock(&doors);
    enter(w);
    if ((rc = start_thread()) == 0) {
        w->source.leave = ended;
        c->source = &w->source;
        ati_add(&weft__outsiders, 1);
        take_signals(wanted);
    } else {
        leave(w);
    }
    pthread_mutex_unlock(&doors);
    if (rc < 0) {
        weft_chan_destroy(&c);
        weft__mem_free(w);
    } else {
        *out = c;
    }
    return rc;
}
