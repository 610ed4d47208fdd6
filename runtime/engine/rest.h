/* engine/rest.h - whether anything can happen in a runtime. See rest.c. */
#ifndef WEFT_ENGINE_REST_H
#define WEFT_ENGINE_REST_H

#include "base/hidden.h"
#include "engine/worker.h"

/* V1 and V3: all workers are parked, and every queue is empty. Adds to *turns how many all have had. */
bool weft__quiet(struct weft_runtime *rt, uint64_t *turns);

/* V2: how many threads are known to the runtime: its own, and plain ones that wait in it for its tasks; -1: there is an
 * outside hand. */
int weft__hands_rest(struct weft_runtime *rt);

/* H4: a hand is counted no more. */
void weft__hand_gone(struct weft_runtime *rt);

/* How many there are in the process that may wake a task from outside of all runtimes, at any time: watches of files,
 * listeners to signals. Who takes one away calls weft__stall_others. */
extern WEFT__HIDDEN at_int weft__outsiders;

#endif
