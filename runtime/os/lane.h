/* os/lane.h - whose threads a blocking call is made on. See lane.c and blocking.c. */
#ifndef WEFT_OS_LANE_H
#define WEFT_OS_LANE_H

#include <weft/offload.h>

#include "engine/worker.h"

struct weft_lane {
    struct weft__pool pool;
    sigset_t mask; /* of who made it */
};

/* A runtime's own: user work, files and names apart, so that none of them waits for another's threads. */
enum weft__lane_kind { WEFT__LANE_USER, WEFT__LANE_FILES, WEFT__LANE_NAMES };

struct weft__pool *weft__lane_pool(weft_runtime *rt, enum weft__lane_kind kind);

/* Before a call by names, of those that a plain thread makes directly on itself: 0; -ECANCELED, also there; what there is
 * instead of a frame. */
int weft__lane_enter(void);
/* As weft_blocking, on the lane of that kind of the task's runtime; -EAGAIN no thread could be started. */
int weft__lane_call(enum weft__lane_kind kind, weft_fn *fn, void *arg);
/* The same for what takes as long as a few switches between threads, as a rule: directly, if the caller's worker has nothing else
 * to do than to wait for it. */
int weft__lane_call_or_here(enum weft__lane_kind kind, weft_fn *fn, void *arg);
/* As weft_blocking_copy: a cancelled call comes back at once with -ECANCELED, and drop(copy) is called on the lane's
 * thread when fn has returned. */
int weft__lane_call_copy(enum weft__lane_kind kind, weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg));
/* On a lane of the program's. */
int weft__lane_call_on(struct weft__pool *lane, weft_fn *fn, void *arg);
int weft__lane_call_copy_on(struct weft__pool *lane, weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg));

#endif
