/* engine/turns.h - a task that holds its worker for long is told. See turns.c. */
#ifndef WEFT_ENGINE_TURNS_H
#define WEFT_ENGINE_TURNS_H

#include <stdbool.h>
#include <stdint.h>
#include <weft/task.h>

#include "base/hidden.h"
#include "engine/hooks.h"

struct weft_runtime;
struct weft__worker;

enum { WEFT__TURN_CALLS = 48 };

struct weft__turns {
    int64_t limit; /* ns; 0: nobody is told of. Never changes; what follows is the I/O thread's own */
    bool signal;   /* SIGURG is ours, as far as is known */
    uint64_t *told; /* of each seat, the turn that was told, + 1 */
    int64_t looked; /* ns */
    int64_t second; /* ns: since when so many were told: */
    int in_second;
    uint64_t untold; /* for they were too many */
    /* The one that is asked for its calls. */
    struct {
        weft_task task;
        struct weft__who who;
        int64_t lasted, since; /* ns; since when it is asked */
        int call; /* the system call that it was in; -1: it computes; -2: not known */
    } about;
    /* By whoever moved `state` on (turns.c, V3). */
    at_int state;
    at_int seat;
    at_word turn;
    int n;
    const void *calls[WEFT__TURN_CALLS];
};

/* So many are told in a second at most; tests raise it. */
extern WEFT__HIDDEN at_int weft__turns_a_second;

/* `limit`: weft_options.long_turn_ns. 0; -ENOMEM. */
int weft__turns_init(struct weft_runtime *rt, int64_t limit);
void weft__turns_fini(struct weft_runtime *rt);
/* The handler of SIGURG, if anybody asked for it: before the first worker, after the last. */
void weft__turns_install(struct weft_runtime *rt);
void weft__turns_uninstall(struct weft_runtime *rt);
/* On a worker's thread at its beginning: from now on it may be asked. */
void weft__turns_settle(struct weft__worker *w);

/* The I/O thread, each time it has waited. */
void weft__turns_look(struct weft_runtime *rt);
/* Whether one was asked, so that it has to look again soon. */
bool weft__turns_waits(struct weft_runtime *rt);

#endif
