/* engine/handler.c - which of weft's handlers a signal has.
 *
 * Owns      what weft has done to the dispositions of signals that were asked for, those of faults (engine/crash.c) apart.
 * Callers   engine/signal.c, os/signal.c: any thread; undo in their handlers.
 * Holds     A1  `before` is what there was before the first taker came. It comes back when the last one has gone, in
 *               whatever order they come and go: none of them has another's handler for what there was before.
 *           A2  what is there now and is no taker's was put there by the program, which overrules all takers: they have
 *               lost the signal, and give back nothing.
 *           A3  in a forked child its parent's takers have nothing: the first one there finds what there was before them.
 *           A4  `before` is written before a taker's handler can run, which a forked child's may ask.
 * Tested    tests/signal_test.c, tests/shutdown_test.c */
#include "engine/handler.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

enum { SIGNALS = 64 };

struct taken {
    void (*handler[WEFT__TAKERS])(int); /* NULL: has not taken it, or lost it */
    struct sigaction before;
    pid_t home; /* the takers' process */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over sigaction */
static struct taken signals[SIGNALS];

static bool is_a_takers(const struct taken *t, void (*handler)(int))
{
    bool any = false;
    for (int i = 0; i < WEFT__TAKERS; i++)
        any = any || (t->handler[i] && t->handler[i] == handler);
    return any;
}

/* A2. */
static void lose(struct taken *t)
{
    for (int i = 0; i < WEFT__TAKERS; i++)
        t->handler[i] = NULL;
}

/* The last taker's; `before`, if there is none. */
static void put(int signo, const struct taken *t)
{
    struct sigaction mine = { .sa_flags = SA_RESTART };
    sigfillset(&mine.sa_mask);
    for (int i = WEFT__TAKERS - 1; i >= 0; i--)
        if (t->handler[i]) {
            mine.sa_handler = t->handler[i];
            sigaction(signo, &mine, NULL);
            return;
        }
    sigaction(signo, &t->before, NULL);
}

void weft__handler_take(int signo, enum weft__taker who, void (*handler)(int))
{
    struct taken *t = &signals[signo - 1];
    struct sigaction now;
    pthread_mutex_lock(&lock);
    if (sigaction(signo, NULL, &now) == 0) {
        bool theirs = is_a_takers(t, now.sa_handler);
        if (!theirs || t->home != getpid()) /* A2, A3 */
            lose(t);
        if (!theirs)
            t->before = now; /* A4 */
        t->home = getpid();
        t->handler[who] = handler;
        put(signo, t);
    }
    pthread_mutex_unlock(&lock);
}

void weft__handler_give(int signo, enum weft__taker who)
{
    struct taken *t = &signals[signo - 1];
    struct sigaction now;
    pthread_mutex_lock(&lock);
    if (t->handler[who] && sigaction(signo, NULL, &now) == 0) {
        if (is_a_takers(t, now.sa_handler)) {
            t->handler[who] = NULL;
            put(signo, t);
        } else {
            lose(t);
        }
    }
    pthread_mutex_unlock(&lock);
}

void weft__handler_undo(int signo)
{
    sigaction(signo, &signals[signo - 1].before, NULL);
    raise(signo); /* pending until the handler returns */
}
