/* event/offload.h - threads for calls that would block a worker. See offload.c. */
#ifndef WEFT_EVENT_OFFLOAD_H
#define WEFT_EVENT_OFFLOAD_H

#include <pthread.h>
#include <signal.h>
#include <weft/offload.h>

#include "base/futex.h"
#include "base/hidden.h"
#include "base/list.h"
#include "sched/wait.h"

/* Lies in the waiting call's frame, or on the heap with its copied argument. */
struct weft__job {
    struct weft__link link;
    /* On a pool thread, both. The first does what may block, and says what the second is to know; the second tells who
     * waits. The job may be gone between them: the second gets what `whom` was before the first. */
    uint64_t (*run)(struct weft__job *job);
    void (*tell)(void *whom, uint64_t ran);
    void *whom;
};

/* How many threads the pools of a runtime have at most, each of its own, unless it is said (weft_options). */
enum { WEFT__POOL_MOST = 64, WEFT__POOL_FILES = 32, WEFT__POOL_NAMES = 16, WEFT__POOL_NAME = 16 };

/* What zeroes of weft_lane_options stand for. */
struct weft__pool_usual {
    const char *name;
    int threads;
    int64_t idle;
};

struct weft__pool {
    /* Written once. */
    char name[WEFT__POOL_NAME]; /* of its threads, as ps shows them */
    int most;                   /* threads */
    int room;                   /* jobs that may wait for a thread (P4); INT_MAX: any number */
    int64_t idle_ns;            /* a thread that had nothing to do for so long ends; INT64_MAX: it stays */
    const sigset_t *mask;       /* for what is forked from the threads */
    void (*rests)(struct weft__pool *p); /* called when the last call is done; NULL: nobody asks */

    struct weft__lock lock;
    struct weft__link jobs; /* first in, first out */
    struct weft__link resting; /* threads that have nothing to do; who came last is called first */
    int idle;                  /* how many these are */
    int coming; /* threads on the way to look at the queue: called, started, or about to tell of their last job */
    int busy;   /* threads with a job that may block: not done with it, and not coming */
    at_int open; /* submitted, and not yet run to the end or withdrawn */
    at_int left; /* begun, and nobody waits for them any more; by who leaves them, and who ends them */
    at_int threads, queued; /* like `open` written under the lock, and read by report/stats.c without it */
    at_word made, refused;  /* the same; how many calls there were, since the beginning */
    bool stopping;
    bool has_last;  /* `last` is a thread that ended and was not joined */
    pthread_t last;
    at_int empty;  /* futex word: 1 when it is stopping and no thread is left */
};

/* Of all pools of the process. */
extern WEFT__HIDDEN at_int weft__pool_threads;

bool weft__pool_valid(const weft_lane_options *o);
/* Of zeroed memory. `o` is valid, or NULL; `mask` is kept. */
void weft__pool_init(
        struct weft__pool *p, const weft_lane_options *o, const struct weft__pool_usual *usual, const sigset_t *mask);
/* Runs what is queued, and ends the threads when their calls have returned. */
void weft__pool_fini(struct weft__pool *p);

/* 0; -EAGAIN there is no thread and none could be started, or no room in the queue. */
int weft__pool_submit(struct weft__pool *p, struct weft__job *job);
/* Takes it back. False: it has begun. */
bool weft__pool_withdraw(struct weft__pool *p, struct weft__job *job);

#endif
