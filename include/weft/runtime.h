/* weft/runtime.h - start, run, end.
 *
 * A runtime is a set of worker threads and one I/O thread. weft owns neither main nor any signal but the
 * crash report, which chains and can be turned off, and what options ask for.
 *
 * fork(2). A child that is forked while a runtime exists, from a task or from any thread, has none of the
 * other threads, and what they had locked stays locked. So weft is closed there until exec, at once and
 * whatever was going on:
 *
 *     what returns an int or a task     -ECHILD (or -EINVAL, if an argument is wrong by itself)
 *     what returns nothing              does nothing; weft_runtime_destroy and weft_close_auto, too
 *     questions                         no task lives, none is the caller; no deadline applies
 *     what only reads or computes       as ever: the clock, addresses, the words of error.h, what a scope
 *                                       has counted
 *
 * exec and _exit always work. All descriptors of weft are close-on-exec; close(2) closes them in the child,
 * and there alone. Until the child has called exec, or ended, it keeps connections open that the parent
 * closes. A function that weft has called (a task's, weft_blocking's) must not return in the child: that
 * ends it by abort().
 * Threads of weft block all signals (workers let in SIGURG, with .long_turn_ns). A child of theirs gets the
 * mask that the thread had which made the runtime; posix_spawn, system, popen, vfork and _Fork do not see to
 * that (posix_spawnattr_setsigmask does), and in a child of the last two nothing but exec and _exit may be
 * called.
 * A lane of the program's (offload.h) and a watch of files (fs.h) count as a runtime does.
 * A child that is forked while no runtime exists, before the first (daemon(3)) or after the last has ended,
 * is a process like any other, if no other thread was in a call of weft's: it may run its own, and a
 * listener that was opened before serves all of them.
 */
#ifndef WEFT_RUNTIME_H
#define WEFT_RUNTIME_H

#include <weft/base.h>
#include <weft/offload.h>
#include <weft/task.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A set of worker threads and what runs on them. */
typedef struct weft_runtime weft_runtime;

/* What the runtime has to say: a failure nobody will see, a limit that was met, a task that ignores its cancel. It is said
 * on whatever thread finds it, also on the one that waits for all descriptors and timers: the function must not block, and
 * not call what suspends. */
typedef struct weft_report {
    const char *what; /* a stable word: "failure", "defer", "generator", "mutex", "no-stack", "refusals", "shutdown",
                         "stack", "deadlock", "left-open", "long-turn", and "os-mutex" in builds with WEFT_MUTEX_CHECK */
    weft_task task;        /* 0: none; it may have ended */
    const char *task_name; /* "" it has none; valid, as all that is pointed to, until the function returns */
    int code;
    const char *text;
    const void *site;      /* where the task was spawned, a return address (addr2line); NULL: not known */
} weft_report;

/* WEFT_CLOCK_VIRTUAL, for tests: the time of the runtime's tasks stands still while anything can run, and leaps to the
 * earliest timer when nothing can: an hour of sleeps takes milliseconds. It does not leap while a call is on a lane
 * (offload.h), a task waits on a descriptor, or a plain thread has a scope on the runtime and does not wait in it. A plain
 * thread's own deadlines are in real time, so none may apply to what it starts there. docs/testing.md. */
enum weft_clock { WEFT_CLOCK_REAL, WEFT_CLOCK_VIRTUAL };

/* How a runtime is to be. All zero, or NULL, are the defaults. */
typedef struct weft_options {
    int workers;          /* worker threads; 0: WEFT_WORKERS from the environment, else the processors this
                             process may use when the runtime starts: those of its affinity mask, or the CPU
                             quota of its cgroup (v1, v2) or of one above it, if that is less; of a quota a part
                             of a processor counts as one, so 2.5 are 3 workers and 0.2 is one. At most 1024 */
    size_t stack_bytes;   /* guaranteed to each task; 0: 64 KiB; at most 8 MiB. WEFT_STACK=4 in the environment
                             makes each stack four times as large (2 to 64), up to that; docs/stacks.md says who
                             needs it */
    bool no_crash_report; /* leave SIGSEGV and SIGBUS alone: no report of a stack overflow */
    bool stop_on_signals; /* the first SIGINT or SIGTERM tells all of the runtime to leave (then weft_run returns
                             -EINTR if main left for it), the second ends the process, whatever main does */
    bool dump_on_quit;    /* SIGQUIT writes weft_dump to standard error, and ends nothing */
    bool deadlock_is_error; /* a deadlock tells all of the runtime to leave, for the reason "deadlock", and weft_run
                             returns -EDEADLK if main left for it. Only for programs in which no plain thread wakes a
                             task but those that have a scope open on the runtime. docs/debugging.md */
    void (*report)(const weft_report *r, void *arg); /* NULL: one line to standard error */
    void *report_arg;     /* the second argument of `report` */
    uint64_t chaos_seed;  /* not 0: this seed perturbs the schedule, for tests; 0: WEFT_CHAOS from the environment, else
                             none. docs/testing.md */
    int clock;            /* enum weft_clock */
    int spares;           /* so many workers more at most, started one by one, and only while tasks that compute for
                             long or block in a call of their own hold all workers up, or leave a processor unused:
                             then others go on within 4 ms, later where other programs want the processors; behind
                             more that do so, each takes 2 ms more. No more spares compute at once than there are
                             processors, or workers. 0: 64, but none if one worker was asked for: of its tasks no two
                             run at once. -1: none. None on a virtual clock. They stay once they are started, and sleep */
    bool manual;          /* its tasks run on the thread that makes the runtime, its host, and only while that is in
                             weft_runtime_step or waits in weft. So `workers` is 0 or 1, and `spares` not above 0. The I/O
                             thread, and those of blocking calls, are as ever. docs/embedding.md */
    bool report_left_open; /* when the runtime ends, what is still there is reported ("left-open"): each task that is there
                             before it is told to leave, and then what its tasks have opened and nobody has closed, with
                             the task that did: listeners and sockets, and programs (process.h); files and pipes are not
                             known to be open; calls on its pools that nobody waits for. At last, if there was any, once
                             more without a task: .code is how many, for an exit status. docs/testing.md */
    int64_t long_turn_ns; /* a task that has held its worker for so long, because it computes or blocks in a call of its own,
                             is reported ("long-turn"): .code is for how many ms, the text has the calls that it is in
                             just then. Once, however long it goes on, and ten a second at most. It is seen within 2 ms, and
                             told when the processor gets to it. 0: none is. With it weft has SIGURG, unless the program does.
                             docs/debugging.md */
    const weft_lane_options *blocking; /* the threads of the runtime's own lane for weft_blocking (offload.h); looked at
                             while it starts. NULL, or zeroes in it: at most 64, named "pool", which stay once they are
                             started. With a .queue a call that finds no room is refused: -EAGAIN */
    const weft_lane_options *files; /* the same of the lane for files and the starts of programs, 32, "files"; whichever
                             call finds no room in its .queue returns -EAGAIN */
    const weft_lane_options *names; /* and of the one for names, 16, "names" */
    uint64_t reserved[5]; /* zero */
} weft_options;

/* Starts a runtime, runs fn(arg) as its first task (its name is "main"), ends the runtime and returns fn's result.
 * On return no thread and no descriptor of it is left: blocking calls that tasks have left behind (offload.h, fs.h, dns.h)
 * are waited for.
 *
 * returns    fn's result; -EDEADLK called within a task, or a deadlock told main to leave (deadlock_is_error);
 *            -EINTR a signal told main to leave (stop_on_signals);
 *            -EINVAL bad options; -ENOMEM, -EAGAIN, -EMFILE, -ENFILE it could not start; -ECHILD in a forked child,
 *            as from every other call
 * context    plain thread: blocks it, not a cancellation point. What the caller is told, fn is told */
WEFT_CHECK WEFT_API int weft_run(weft_fn *fn, void *arg, const weft_options *o);

/* Starts a runtime that several mains use in turn, or at once from several threads.
 *
 * returns    0; -EINVAL, -ENOMEM, -EAGAIN, -EMFILE, -ENFILE; -EDEADLK a manual one, in a task; *out is then untouched
 * context    any thread: never suspends, blocks it. It takes milliseconds */
WEFT_CHECK WEFT_API int weft_runtime_create(weft_runtime **out, const weft_options *o);

/* Cancels what still runs, awaits it, and blocking calls that were left behind, ends the threads and frees all. Sets *rt to
 * NULL; accepts NULL.
 *
 * context    plain thread: blocks it, not a cancellation point. Aborts in a task of the same runtime, and for a manual one
 *            in any task, and on another thread than its host; in a task of another runtime it blocks that worker */
WEFT_API void weft_runtime_destroy(weft_runtime **rt);

/* Tells all that runs on `rt` to leave, for the reason "shutdown", lets nothing new last, and waits for the end of it
 * all, also of blocking calls that were left behind, `grace` at most. Who has not left by then is reported by name
 * ("shutdown"; of such calls, how many on which threads) and runs on; the runtime still cannot be destroyed before it
 * has ended, so what remains is to end the process. NULL is the caller's own runtime.
 *
 * returns    0 nothing runs there any more; -ETIMEDOUT; -EINVAL;
 *            in a task, which does not wait: -EINPROGRESS of `rt`, -EDEADLK of another runtime; all was told
 * context    task: never suspends; plain thread: blocks it, not a cancellation point. It does not wait for scopes
 *            of its own with .on, only for their children */
WEFT_CHECK WEFT_API int weft_runtime_shutdown(weft_runtime *rt, int64_t grace);

/* Runs fn(arg) as a task of `rt`, named "main", and waits for it. If it failed, the caller has its error detail
 * (weft_error_text).
 *
 * returns    fn's result; -EDEADLK called within a task; -EINVAL; -ENOMEM; if fn was told to leave, and left with
 *            -ECANCELED: -EINTR a signal told it (stop_on_signals), -EDEADLK a deadlock (deadlock_is_error), else -ECANCELED
 * context    plain thread: blocks it, not a cancellation point. What the caller is told, fn is told */
WEFT_CHECK WEFT_API int weft_runtime_run(weft_runtime *rt, weft_fn *fn, void *arg);

/* Starts fn(arg) as a task of `rt`, named "main", and does not wait for it. weft_runtime_destroy tells it to leave, and waits.
 * If it fails with anything but -ECANCELED, that is reported ("failure"). `t` may be NULL.
 *
 * returns    0, and its id in *t; -EINVAL; -ENOMEM; *t is then untouched
 * context    any thread: never suspends, not a cancellation point. The caller's deadlines and cancels do not apply to fn; its
 *            values (local.h) do */
WEFT_CHECK WEFT_API int weft_runtime_start(weft_runtime *rt, weft_fn *fn, void *arg, weft_task *t);

/* For a loop that is not weft's: GLib's, libuv's, a game's. With .manual, and from the host alone.
 *
 * weft_runtime_step lets tasks run: as long as any are ready, but for a millisecond at most, unless a task computes for longer
 * without a call of weft's. It does not wait, nor take signals or descriptors away from the program; what handlers of the
 * program's come meanwhile run on the stack of the task that runs, unless they are SA_ONSTACK.
 * weft_runtime_fd can be read, to poll(2) or epoll, when there is something for weft_runtime_step to do, which empties it. It
 * stays the runtime's: not to be read from, nor closed.
 * weft_runtime_wait_ms is for poll's timeout: 0 there is something to do, -1 there is no timer, else how long until the first
 * one. Whoever waits for the descriptor may do without: it is told of timers, too.
 *
 * A host that waits in weft (weft_runtime_run, weft_task_join, a channel) runs tasks until what it waits for has come.
 *
 * returns    step: 1 more is ready, 0 not now; -EPERM the caller is not the host
 *            fd: the descriptor
 *            wait_ms: milliseconds, or 0, or -1, as above; another thread gets -EINVAL
 *            all: -EINVAL not a manual runtime; step and wait_ms in a task: -EDEADLK
 * context    plain thread: never suspends, not a cancellation point
 * source     Trio's guest mode, and poll_events and process_ready of asyncio, for what a host needs */
WEFT_CHECK WEFT_API int weft_runtime_step(weft_runtime *rt);
WEFT_CHECK WEFT_API int weft_runtime_fd(weft_runtime *rt);
WEFT_CHECK WEFT_API int weft_runtime_wait_ms(weft_runtime *rt);

/* The size in bytes of a public type by its name ("weft_scope"), for bindings; 0 if there is none.
 *
 * context    any thread: never suspends */
WEFT_API size_t weft_sizeof(const char *type);

/* The version a program is compiled against, and weft_version() says which one it runs with, as "0.1.0". Before 1.0 a
 * program needs the minor version it was compiled against.
 *
 * context    any thread, signal handler: never suspends */
#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0
#define WEFT_VERSION_NUM (WEFT_VERSION_MAJOR * 10000 + WEFT_VERSION_MINOR * 100 + WEFT_VERSION_PATCH)
WEFT_API const char *weft_version(void);

#ifdef __cplusplus
}
#endif
#endif
