/* weft/call.h - callbacks: for what comes from an event loop, or from another language.
 *
 * A callback put into a scope is a child of it, like any task: it is awaited by the scope's end, told by its cancel, and
 * may call what a task may. One that was told to leave before it began (its scope, or by weft_task_cancel itself) is never
 * called; its task ends with -ECANCELED. So what `arg` owns is released elsewhere.
 * A callback finds the inherited values (local.h) of whoever asked for it, as they were then.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_CALL_H
#define WEFT_CALL_H

#include <weft/base.h>
#include <weft/task.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is called back. */
typedef void weft_callback(void *arg);

/* Calls cb(arg) soon, in a task of its own. Of one caller's (task's or thread's) calls into one scope, each callback
 * begins when the one before it has ended or was cancelled: in order and never two at once, whatever worker they are on.
 * Between different callers there is no order. A scope's .limit, and what is said of whoever is no owner of the scope, hold
 * as for weft_spawn.
 *
 * returns    the task; -EINVAL the scope is not open, or cb is NULL; -ENOMEM; a failed call has failed the scope, as
 *            weft_spawn's does
 * context    any thread: never suspends, not a cancellation point
 * ordering   what the caller wrote is visible in cb, and what the callbacks before it wrote */
WEFT_API weft_task weft_call_soon(weft_scope *s, weft_callback *cb, void *arg);

/* The same at a point in time (weft_after), never early; a point that has passed is soon. Of one caller's calls for the
 * same point, if none for another came between, each begins when the one before has ended. */
WEFT_API weft_task weft_call_at(weft_scope *s, int64_t at, weft_callback *cb, void *arg);

/* Calls cb(arg) once when the task has ended. Callbacks of one task run one after the other, in the order in which they
 * were registered, on the worker on which it ended: when its id is dead, and before its scope can end. They run outside of
 * any task, and hold that worker up: what would wait there returns -ENOMEM, and weft_task_self() is 0. To wake somebody,
 * or to spawn into a scope that is known to be open, is what they are for.
 *
 * returns    0; -ESRCH it has ended, and cb is not called; -EINVAL t names no task, or cb is NULL; -ENOMEM
 * ordering   what the task wrote is visible in cb, and what was written before it was registered */
WEFT_API int weft_task_on_done(weft_task t, weft_callback *cb, void *arg);

#ifdef __cplusplus
}
#endif
#endif
