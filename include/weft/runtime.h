/* weft/runtime.h - start, run, end.
 *
 * A runtime is a set of worker threads and one I/O thread. weft owns neither main nor any signal but the
 * crash report, which chains and can be turned off.
 */
#ifndef WEFT_RUNTIME_H
#define WEFT_RUNTIME_H

#include <weft/base.h>
#include <weft/task.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_runtime weft_runtime;

/* What the runtime has to say: a failure nobody will see, a limit that was met, a task that ignores its
 * cancel. */
typedef struct weft_report {
    const char *what; /* a stable word: "failure", "no-stack", "refusals", "shutdown" */
    weft_task task;
    const char *task_name;
    int code;
    const char *text;
} weft_report;

typedef struct weft_options {
    int workers;          /* worker threads; 0: WEFT_WORKERS from the environment, else the processors this
                             process may use (affinity, cgroup quota); at most 1024 */
    size_t stack_bytes;   /* guaranteed to each task; 0: 64 KiB; at most 8 MiB. WEFT_STACK=4 in the environment makes
                             each stack four times as large (2 to 64), up to that; docs/stacks.md says who needs it */
    bool no_crash_report; /* leave SIGSEGV and SIGBUS alone: no report of a stack overflow */
    bool stop_on_signals; /* the first SIGINT or SIGTERM tells all of the runtime to leave (then weft_run returns -EINTR
                             if main left for it), the second ends the process, whatever main does */
    bool dump_on_quit;    /* SIGQUIT writes weft_dump to standard error, and ends nothing */
    void (*report)(const weft_report *r, void *arg); /* NULL: one line to standard error */
    void *report_arg;
    uint64_t reserved[8]; /* zero */
} weft_options;

/* Starts a runtime, runs fn(arg) as its first task (its name is "main"), ends the runtime and returns fn's result. On return no
 * thread and no descriptor of it is left.
 *
 * returns    fn's result; -EDEADLK called within a task; -EINTR a signal told main to leave (stop_on_signals);
 *            -EINVAL bad options; -ENOMEM, -EAGAIN, -EMFILE it could not start
 * context    plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_run(weft_fn *fn, void *arg, const weft_options *o);

/* Starts a runtime that several mains use in turn, or at once from several threads.
 *
 * returns    0; -EINVAL, -ENOMEM, -EAGAIN, -EMFILE; *out is then untouched */
WEFT_CHECK WEFT_API int weft_runtime_create(weft_runtime **out, const weft_options *o);

/* Cancels what still runs, awaits it, ends the threads and frees all. Sets *rt to NULL; accepts NULL.
 *
 * context    plain thread (aborts inside a task of the same runtime) */
WEFT_API void weft_runtime_destroy(weft_runtime **rt);

/* Tells all that runs on `rt` to leave, for the reason "shutdown", lets nothing new last, and waits for the end of it
 * all, `grace` at most. Who has not left by then is reported by name ("shutdown") and runs on; the runtime still cannot
 * be destroyed before it has ended, so what remains is to end the process. NULL is the caller's own runtime.
 *
 * returns    0 nothing runs there any more; -ETIMEDOUT; -EINVAL;
 *            in a task, which does not wait: -EINPROGRESS of `rt`, -EDEADLK of another runtime; all was told
 * context    any thread; a plain thread waits, though not for its own scopes with .on, only for their children */
WEFT_CHECK WEFT_API int weft_runtime_shutdown(weft_runtime *rt, int64_t grace);

/* Runs fn(arg) as a task of `rt`, named "main", and waits for it. Its error detail stays with the task.
 *
 * returns    fn's result; -EDEADLK called within a task; -EINVAL; -ENOMEM; -ECANCELED the caller was told to
 *            leave, or the runtime ended
 * context    plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_runtime_run(weft_runtime *rt, weft_fn *fn, void *arg);

/* The size in bytes of a public type by its name ("weft_scope"), for bindings; 0 if there is none. */
WEFT_API size_t weft_sizeof(const char *type);

/* The version a program is compiled against; weft_version() says which one it runs with, as "0.1.0". Before 1.0 a
 * program needs the minor version it was compiled against. */
#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0
#define WEFT_VERSION_NUM (WEFT_VERSION_MAJOR * 10000 + WEFT_VERSION_MINOR * 100 + WEFT_VERSION_PATCH)
WEFT_API const char *weft_version(void);

#ifdef __cplusplus
}
#endif
#endif
