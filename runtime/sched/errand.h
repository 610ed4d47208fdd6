/* sched/errand.h - the runtime's own work that is too long to be done at one go: in slices, by the workers' loops.
 *
 * Owns      how an errand comes to a worker, and back into the queue after each slice. What it does is its poster's.
 * Callers   new and post: any thread. run: a worker's loop between turns, and the end of a runtime.
 * Holds     B1  an errand is a control block without a life: no id, no stack, nobody sees it in a list. While it is
 *               not queued it is its poster's, or being run.
 *           B2  the queue is one more of those that P3 looks at; a post is S1 to S6 (sched/idle.c).
 * A slice lasts tens of microseconds: as long as a task's turn may. */
#ifndef WEFT_SCHED_ERRAND_H
#define WEFT_SCHED_ERRAND_H

#include "sched/sched.h"

/* Does one slice; false: that was the last. It may use the block's words scope, side and u.arg for its own. */
typedef bool weft__slice(struct weft__task *errand);

/* NULL: no memory. */
struct weft__task *weft__errand_new(weft__slice *slice);
void weft__errand_post(struct weft__group *g, struct weft__task *errand);
/* Does a slice of the oldest errand. False: there is none. */
bool weft__errand_run(struct weft__group *g);

#endif
