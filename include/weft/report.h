/* weft/report.h - what the workers have done so far, and what every task does now.
 *
 * Read without stopping anybody: each number is exact when its worker is idle and slightly old while it runs.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_REPORT_H
#define WEFT_REPORT_H

#include <weft/base.h>
#include <weft/task.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_runtime weft_runtime;

/* What one worker has done since it was started. */
typedef struct weft_worker_stats {
    uint64_t ran;           /* turns: a task was started or resumed */
    uint64_t inlined;       /* children run as a plain call by their joiner */
    uint64_t spawned;       /* tasks spawned here */
    uint64_t stolen;        /* tasks taken from other workers */
    uint64_t failed_steals; /* looks at all other workers, by one with nothing to do, that found nothing to take */
    uint64_t migrated;      /* turns of tasks whose last turn was on another worker */
    uint64_t parked;        /* times it went to sleep */
    uint64_t woke;          /* wakes of other workers it paid for */
    uint64_t polls;         /* looks at the epoll set */
    uint64_t events;        /* events those brought in */
    uint64_t timers;        /* timers armed here that have struck */
    uint64_t ready;         /* tasks in its queues now */
    bool asleep;            /* parked now */
} weft_worker_stats;

/* Fills out[0 .. n-1] with the first n workers' numbers: those that the runtime was started with, then spares that were
 * started since (weft_options.spares). `rt` NULL is the caller's own runtime.
 *
 * returns    the number of workers, which may be more than n, and more than the last time; -EINVAL, also for NULL outside
 *            of a runtime */
WEFT_API int weft_stats(weft_runtime *rt, weft_worker_stats *out, int n);

/* What a whole runtime has before it just now. Each number is kept by whoever changes it, and read here one by one without
 * a lock: all are a moment old, and of different moments. For a sum of the workers' numbers there is weft_stats; how many
 * tasks there are, weft_task_list(NULL, 0) counts. */
typedef struct weft_runtime_stats {
    uint64_t workers;        /* that it was started with: this does not change */
    uint64_t parked;         /* workers that sleep; counted by who goes to sleep and who wakes one */
    uint64_t searching;      /* workers that are awake and look for work */
    uint64_t shared;         /* ready tasks in the queue of all workers: from other threads, events, full rings. What
                              * stays there for long says that the workers do not get to it */
    uint64_t errands;        /* the runtime's own long work that waits for its next slice: very many that are to be told
                              * of a cancel, or of the end of a task */
    uint64_t timers;         /* armed and not yet struck, on all workers: sleeps, deadlines of scopes */
    uint64_t pool_threads;   /* for calls that block; they are started on demand and stay (weft_options.blocking) */
    uint64_t pool_queued;    /* calls that wait for a thread of the pool */
    uint64_t pool_running;   /* calls that have begun and not returned */
    uint64_t files_queued;   /* the same of the files' lane (fs.h) */
    uint64_t files_running;
    uint64_t names_queued;   /* and of the names' (dns.h) */
    uint64_t names_running;
    uint64_t spares;         /* in play now, beside those workers: weft_options.spares */
    uint64_t files_threads;  /* of the files' lane */
    uint64_t names_threads;  /* of the names' */
    uint64_t refused;        /* calls so far that found no room in the queue of one of the three (weft_options), or no thread */
    uint64_t reserved[3];    /* 0 */
} weft_runtime_stats;

/* Fills *out. `rt` NULL is the caller's own runtime.
 *
 * returns    0; -EINVAL, also for NULL outside of a runtime; -ECHILD in a child process
 * on error   *out is untouched */
WEFT_API int weft_stats_all(weft_runtime *rt, weft_runtime_stats *out);

typedef struct weft_lane weft_lane;

/* What a lane of the program's (offload.h) has done, and has before it just now. As in weft_runtime_stats, all are a moment
 * old, and of different moments; but a call that has returned, or was refused, is counted in `made`, or `refused`. */
typedef struct weft_lane_stats {
    uint64_t threads;     /* that there are now */
    uint64_t idle;        /* of these, without a call */
    uint64_t queued;      /* calls that wait for a thread */
    uint64_t running;     /* calls that have begun and not returned */
    uint64_t left;        /* of these, whose tasks were told to leave and did (weft_blocking_copy_on) */
    uint64_t made;        /* calls so far whose function has returned */
    uint64_t refused;     /* calls so far that found no room in the queue, or no thread */
    uint64_t reserved[3]; /* 0 */
} weft_lane_stats;

/* Fills *out.
 *
 * returns    0; -EINVAL; -ECHILD in a child process
 * on error   *out is untouched */
WEFT_API int weft_stats_lane(const weft_lane *l, weft_lane_stats *out);

/* How many slots a weft_histogram has. */
#define WEFT_HISTOGRAM_SLOTS 128

/* How often times of which length were seen. A slot is a quarter of a power of two wide: 256 ns up to 2 us, and the longer
 * the wider; the last one, from some half an hour on, has no end. Histograms of several runtimes are added slot by slot. */
typedef struct weft_histogram {
    uint64_t counts[WEFT_HISTOGRAM_SLOTS];
} weft_histogram;

/* How late the timers of `rt` struck so far, sleeps and deadlines: by how long somebody looked at the clock after the time
 * that was asked for. What is set for a time that has passed already is not late. A task that slept has to wait for its turn
 * besides. Under a virtual clock nothing is late. `rt` NULL is the caller's own runtime.
 *
 * returns    0; -EINVAL, also for NULL outside of a runtime; -ECHILD in a child process
 * on error   *out is untouched */
WEFT_API int weft_stats_lateness(weft_runtime *rt, weft_histogram *out);

/* The time, in nanoseconds, that the part `q` (0 to 1) of all that were counted did not reach: the end of the slot in which
 * that one lies, so at most a quarter too long. 0 if there is none. -EINVAL for NULL and other parts. */
WEFT_API int64_t weft_histogram_quantile(const weft_histogram *h, double q);

/* How many processors this process may use now: the lesser of the affinity mask of the calling thread and the CPU quota of
 * the process's cgroup and those above it, a part rounded up. That is how many workers a runtime would have if it was
 * started now without a number of its own. The workers of one that was started stay as many as they were; who finds more
 * of them (weft_runtime_stats.workers) than processors for long may give the next one fewer.
 *
 * returns    at least 1; it reads some files of /proc and /sys
 * context    any thread: never suspends */
WEFT_API int weft_cpus(void);

/* Writes a line for every live task of the process: id, name, state, what it waits for and since when, its function,
 * how long ago that was begun, where it was spawned, its scope and whose that is; and their number. 10^5 tasks take less
 * than a second.
 *
 *     task 16777219 "conn" waiting 1203.4 ms, to read from descriptor 9; echo+0x2210, begun 1207.0 ms ago, spawned at
 *     echo+0x23b4, in scope 0x7f5ac23fdf40 of task 16777217
 *
 * Before the number, for each place where ten or more of them were spawned, the most frequent first, how many these are:
 * tasks that are forgotten are many of one place, and old. (From the 65th place on they are counted together.)
 *
 *     4812 tasks spawned at echo+0x23b4: the oldest begun 86400123.9 ms ago; 4812 wait, for 86400120.3 ms at most
 *
 * Functions have names if their module exports them (-rdynamic), else addr2line -e MODULE OFFSET has. A task that
 * ended just then may be missing, or be there.
 *
 * returns    how many there are; the negative errno of write(2)
 * context    any thread: never suspends, blocks it. It waits for no task and no lock of theirs, only for write(2) */
WEFT_API int weft_dump(int fd);

/* The same, and behind the line of each task that waits the calls it is in, innermost first, weft's own with them; of those
 * that are in the same calls as one before them, only who that is.
 *
 *     task 16777219 "conn" waiting 1203.4 ms, to read from descriptor 9; echo+0x2210, begun ...
 *         at libweft.so.0+0x1a44c
 *         at weft_read+0x5e (libweft.so.0)
 *         at echo+0x2290
 *     task 16777220 "conn" waiting 1203.9 ms, to read from descriptor 11; echo+0x2210, begun ...
 *         as task 16777219
 *
 * They are addresses to which calls return: addr2line -fipe MODULE OFFSET has functions and lines, for offsets that are one
 * less than what stands here; where functions have names, see above. Code may be compiled without frame pointers, but not
 * without unwind tables, as it never is unless one says so (-fno-asynchronous-unwind-tables); with a glibc before 2.35 it
 * needs frame pointers (-fno-omit-frame-pointer). Of a task that runs, is ready, or woke meanwhile, nothing is said. 64
 * calls at most.
 *
 * returns    as weft_dump
 * context    any thread: never suspends, blocks it. It waits for no task and no lock of theirs, only for write(2), and uses up
 *            to 24 KiB of stack */
WEFT_API int weft_dump_stacks(int fd);

/* The calls that a task is in which waits: out[0 .. n-1] get the addresses to which they return, innermost first, as above.
 *
 * returns    how many were written; -EBUSY it does not wait just now: it runs, is ready, or has not begun; -ESRCH it has
 *            ended; -EINVAL; -ECHILD in a child process
 * context    any thread: never suspends. It waits for no task and no lock of theirs */
WEFT_API int weft_task_stack(weft_task t, const void **out, int n);

#ifdef __cplusplus
}
#endif
#endif
