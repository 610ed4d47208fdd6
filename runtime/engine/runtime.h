/* engine/runtime.h - start and ordered end of the threads. See runtime.c. */
#ifndef WEFT_ENGINE_RUNTIME_H
#define WEFT_ENGINE_RUNTIME_H

#include "engine/worker.h"

/* Workers parked, nothing running. 0; -EINVAL, -ENOMEM, -EAGAIN, -EMFILE. */
int weft__runtime_start(weft_runtime **out, const weft_options *o);
/* No task is left. Ends all threads and frees all. */
void weft__runtime_end(weft_runtime *rt);

/* Makes the worker of seat i, unless there is one; its thread is the caller's to start. The I/O thread, once it runs.
 * 0; -ENOMEM. */
int weft__runtime_seat(weft_runtime *rt, int i);

/* report/left.c, if it was asked for. Reports tasks that are there before they are told to leave: how many. And what was
 * left open, when they have ended, with the sum of both. */
int weft__left_tasks(weft_runtime *rt);
void weft__left_rest(weft_runtime *rt, int tasks);

#endif
