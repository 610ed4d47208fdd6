/* engine/worker.h - a worker: a scheduler with its timers, on its thread; and the runtime it belongs to. */
#ifndef WEFT_ENGINE_WORKER_H
#define WEFT_ENGINE_WORKER_H

#include <pthread.h>
#include <signal.h>
#include <weft/runtime.h>

#include "base/hidden.h"
#include "engine/host.h"
#include "engine/spare.h"
#include "engine/stall.h"
#include "engine/trim.h"
#include "engine/turns.h"
#include "event/offload.h"
#include "event/poller.h"
#include "event/timer.h"
#include "sched/sched.h"

struct weft__worker {
    struct weft__sched sched; /* first: weft__self() is the worker */
    struct weft__timers timers;
    struct weft_runtime *rt;
    pthread_t thread;
    at_int tid, cpu_clock; /* the thread's, and its clockid_t, by itself; 0: not known yet (engine/spare.c) */
    at_int hears; /* it may be sent the signal of engine/turns.c; by itself */
    /* The polling rules' memory; the worker's own. */
    uint64_t polled_at;
    uint64_t turns_at_poll;
    uint64_t top_seen, top_since; /* the deque's older end, and since when it has been there */
    uint64_t errand_at; /* ticks of its last errand's slice */
    unsigned spin_skip, spin_backoff;
    void *signal_stack;
};

struct weft_runtime {
    struct weft__group group; /* first: a group is its runtime */
    struct weft__worker **workers;
    struct weft__poller poller;
    struct weft__pool pool, files, names; /* apart, so that none waits for the others' (os/lane.c) */
    at_int lent; /* calls of its tasks on lanes of the program's (os/lane.c) */
    pthread_t io_thread;
    at_int stopping;
    at_int asked_stop, asked_dump; /* by a signal, and not done yet (engine/signal.c) */
    at_int stop_signal;            /* the one that told all to leave; 0 none */
    at_word io_until; /* the time to which the I/O thread sleeps */
    int started;
    bool io_started, crash_report, on_stop, on_quit, manual, report_left_open;
    struct weft__host host; /* of a manual one */
    sigset_t mask; /* of who made it, for what is forked from its threads */
    void (*report)(const weft_report *r, void *arg);
    void *report_arg;
    /* Scopes begun by plain threads with .on (coord/root.c). */
    struct weft__lock roots_lock;
    struct weft__link roots;
    const char *closing; /* under the lock: why nothing new lasts; NULL */
    struct weft__link starts; /* under the lock: coord/start.c */
    at_int roots_open; /* futex word */
    struct weft_runtime *next; /* of all that exist; under the lock of engine/runtime.c */
    /* The I/O thread's own. */
    uint64_t *seen_turns;
    struct weft__trim trim;
    struct weft__stall stall;
    struct weft__turns turns;
    struct weft__spares spares;
};

extern WEFT__HIDDEN weft_runtime *weft__runtimes; /* for debuggers (coord/gdb.c), and engine/stall.c */
extern WEFT__HIDDEN struct weft__lock weft__runtimes_lock;

static inline struct weft__worker *weft__worker_of(struct weft__sched *s)
{
    return (struct weft__worker *)(void *)s;
}
static inline struct weft_runtime *weft__runtime_of(struct weft__group *g)
{
    return (struct weft_runtime *)(void *)g;
}

/* A timer for `at` is now the first on this worker's heap: its loop gets a turn by then. */
void weft__worker_due(struct weft__sched *s, int64_t at);

void *weft__worker_thread(void *worker);
/* Lets tasks run as long as any are ready, but for so many ticks at most (0: for ever). True: some still are; false: it is
 * parked, and must not be called before it was woken, or the runtime ends. */
bool weft__worker_run(struct weft__worker *w, uint64_t ticks);
/* It begins and ends on the calling thread. */
void weft__worker_settle(struct weft__worker *w);
void weft__worker_leave(struct weft__worker *w);

/* Whether a worker's timers are left to others: it sleeps, searches, or is absent. Else it strikes them itself. */
static inline bool weft__worker_away(const struct weft__sched *s, uint64_t now)
{
    return at_load(&s->since) == 0 || weft__sched_absent(s, now);
}
/* When others have to see to this worker's timers: INT64_MAX if it does so itself, or has none. */
static inline int64_t weft__worker_left_alone(const struct weft__worker *w, uint64_t now)
{
    int64_t at = weft__timers_earliest(&w->timers);
    return at != INT64_MAX && weft__worker_away(&w->sched, now) ? at : INT64_MAX;
}

/* engine/io.c */
void *weft__io_thread(void *runtime);
/* The I/O thread, where no worker moves: harvests for them. Whether anything waits now. */
bool weft__io_attend(struct weft_runtime *rt);

/* engine/crash.c */
void weft__crash_install(void);
void weft__crash_uninstall(void);
void weft__crash_thread_begin(void **stack);
void weft__crash_thread_end(void *stack);

/* engine/signal.c */
int weft__signals_begin(struct weft_runtime *rt);
void weft__signals_end(struct weft_runtime *rt);
/* Does what they asked for; the I/O thread. */
void weft__signals_serve(struct weft_runtime *rt);

/* Says something to the runtime's report function, or to standard error. NULL as a name is "". */
void weft__report(struct weft_runtime *rt, const weft_report *said);

#endif
