/* weft/task.h - tasks: coroutines that run on any worker.
 *
 * A task is owned by a scope (scope.h), which does not end before it. It is reaped at its end; its id stays
 * valid for ever and just says that it has ended. Results go through the argument.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_TASK_H
#define WEFT_TASK_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What owns tasks: scope.h. */
typedef struct weft_scope weft_scope;

/* Positive: names one task, never reused. Negative: the errno why there is none. */
typedef int64_t weft_task;

/* Starts fn(arg) as a child of `s`. weft_spawn borrows `arg`, which has to live until the scope's end (so
 * declare it before the scope); weft_spawn_copy copies `bytes` bytes, and the child gets the address of its
 * own copy, aligned to 16, valid until it ends.
 *
 * A positive result promises that fn is called exactly once, even if cancelled before it began; the one
 * exception is a task for which no stack is left: it ends with -ENOMEM as if fn had returned that.
 * A failed spawn has failed its scope, which weft_scope_end returns: so the result may be ignored.
 * The child may start up to 2 ms late if its parent computes on without calling weft.
 *
 * returns    the task; -EINVAL the scope is not open, fn is NULL, or options are out of range; -ENOMEM
 * context    any thread: never suspends, not a cancellation point. A plain thread's own scope, or one around it, has
 *            .on. Whoever is neither the scope's owner nor below it has to know that the scope is not just ending
 * source     Chase-Lev deque of ids, sched/deque.c */
WEFT_API weft_task weft_spawn(weft_scope *s, weft_fn *fn, void *arg);
WEFT_API weft_task weft_spawn_copy(weft_scope *s, weft_fn *fn, const void *arg, size_t bytes);

/* How a task is to be. All zero, or NULL, are the defaults. */
typedef struct weft_spawn_options {
    const char *name;   /* shown in reports, copied, at most 31 bytes; NULL: none */
    size_t stack_bytes; /* guaranteed to fn; 0: the runtime's default; at most 8 MiB */
    size_t copy_bytes;  /* copy this many bytes of arg; 0: borrow it */
    int pin;            /* k: only worker k runs it, counted from 1; 0: any worker */
    bool keep_fp;       /* the task has its own floating-point control words (rounding, masks) */
    bool now;           /* it begins at once, on the caller's worker, as by a call: the spawn returns when it has first
                           waited or yielded, its turn is over, or it has ended. Nothing is queued for that. If it cannot
                           (the caller is no task, or on another worker or runtime than the child; no stack is left), it
                           is spawned as ever */
    int *result;        /* fn's result is stored here before the task has ended; NULL: nowhere */
    uint64_t reserved[8]; /* zero */
} weft_spawn_options;

/* The same with options; with NULL it is weft_spawn. With .now a task suspends, and may go on on another thread. */
WEFT_API weft_task weft_spawn_with(weft_scope *s, weft_fn *fn, void *arg, const weft_spawn_options *o);

/* Waits until the task has ended. Any number of times, by anyone, at any later time.
 *
 * A join of an unstarted child of the caller's innermost scope runs it as a plain call on the caller's
 * stack; the child keeps its own identity.
 *
 * returns    0 it has ended; -ECANCELED the caller was told to leave; -EDEADLK t is the caller; -EINVAL t
 *            names no task; a negative t itself
 * context    task: suspends, cancellation point (the task goes on); plain thread: blocks it
 * ordering   what the task wrote is visible when 0 is returned */
WEFT_CHECK WEFT_API int weft_task_join(weft_task t);

/* Asks a task to leave: every wait in it and in its scopes returns -ECANCELED from now on. An unstarted
 * one is started all the same, and told at its first wait. `reason` is copied (at most 31 bytes) or NULL.
 *
 * returns    0; -ESRCH it has ended; -EINVAL t names no task
 * context    any thread: never suspends, not a cancellation point */
WEFT_API int weft_task_cancel(weft_task t, const char *reason);

/* Whether it has not ended yet. */
WEFT_API bool weft_task_alive(weft_task t);

/* Copies its name, or "" if it has none, always terminated.
 *
 * returns    the name's length, of which bytes - 1 were copied at most; -ESRCH it has ended; -EINVAL */
WEFT_API int weft_task_name(weft_task t, char *out, size_t bytes);

/* Writes the ids of at most n live tasks, of every runtime in the process. Workers keep running, so tasks that begin
 * or end meanwhile may be missing.
 *
 * returns    how many there are, which may be more than n; -EINVAL */
WEFT_API int weft_task_list(weft_task *out, size_t n);

/* The caller's own id; 0 outside a task. */
WEFT_API weft_task weft_task_self(void);

/* Renames the calling task. At most 31 bytes are kept, and NULL is "". Outside a task, or without memory, it does
 * nothing. */
WEFT_API void weft_task_set_name(const char *name);

/* Lets every other ready task of this worker have a turn.
 *
 * returns    0; -ECANCELED, after yielding all the same
 * context    task: suspends, cancellation point (nothing is lost); plain thread: yields the processor */
WEFT_CHECK WEFT_API int weft_yield(void);

/* Whether the caller was told to leave. Looks at the clock, too.
 *
 * returns    0; -ECANCELED
 * context    any thread: never suspends, cancellation point (nothing is lost) */
WEFT_CHECK WEFT_API int weft_check(void);

/* Why, if the caller was told to leave: the reason given, "deadline", "a sibling failed", "a sibling won", "SIGINT",
 * "SIGTERM", "shutdown", "the runtime ends", "deadlock" or "cancelled". NULL if it was not. Valid until the caller's next wait. */
WEFT_API const char *weft_cancel_reason(void);

/* Who told the caller to leave. */
typedef struct weft_canceller {
    const char *reason;   /* as weft_cancel_reason has it */
    int code;             /* -ETIMEDOUT a deadline struck; what the sibling failed with; else -ECANCELED */
    weft_task task;       /* that called weft_task_cancel, or weft_scope_cancel or weft_scope_cancel_hard with a reason, that
                             failed, or was the first to win; 0: no task, or it is not known */
    const void *site;     /* where it called, or where the one that failed was spawned; NULL: it is not known */
    uint64_t reserved[2]; /* zero */
} weft_canceller;

/* Of several that did, the one nearest to the caller, and of those the first. Valid until the caller's next wait.
 *
 * returns    whether the caller was told to leave; if not, *out is all zero
 * context    any thread: never suspends */
WEFT_API bool weft_cancelled_by(weft_canceller *out);

#ifdef __cplusplus
}
#endif
#endif
