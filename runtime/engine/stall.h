/* engine/stall.h - a deadlock is found and told. See stall.c. */
#ifndef WEFT_ENGINE_STALL_H
#define WEFT_ENGINE_STALL_H

#include <stdbool.h>
#include <weft/task.h>

#include "base/atomic.h"

struct weft_runtime;

struct weft__stall {
    bool is_error;  /* never changes */
    at_int ready;   /* it has been started */
    at_int ended;   /* how often all that ran was told to leave */
    at_word said;   /* turns of the standstill that was told, + 1; under weft__runtimes_lock */
    at_word given_up; /* turns of one that will not be, + 1: the I/O thread; 0: whose hand is gone (H4) */
    uint64_t tried; /* turns of the one that is looked at again, + 1; this and what follows: the I/O thread's own */
    int tries;
    int64_t again;
};

/* What is said of it. */
struct weft__stalled {
    weft_task task; /* one of them: of a cycle, if there is one */
    char name[32];
    const char *text;
    void *memory; /* that all of it is in; to be freed */
};

/* The I/O thread, after T2: says that there is a deadlock, if there is. When it wants to look again; INT64_MAX. */
int64_t weft__stall_look(struct weft_runtime *rt);
/* A runtime has ended, and all others look again. */
void weft__stall_others(void);

/* report/deadlock.c, by way of a hook. The tasks of `rt` and what they wait for, in words. `others`: threads of the process
 * that are neither weft's nor wait in it. How many tasks there are; 0: none, or no memory to say it; -1: some task does not
 * wait just now, so it is no deadlock. */
int weft__stalled_text(struct weft_runtime *rt, int others, struct weft__stalled *out);

#endif
