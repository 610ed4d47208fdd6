/* weft/report.h - what the workers have done so far, and what every task does now.
 *
 * Read without stopping anybody: each number is exact when its worker is idle and slightly old while it runs.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_REPORT_H
#define WEFT_REPORT_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_runtime weft_runtime;

/* What one worker has done since it was started. */
typedef struct weft_worker_stats {
    uint64_t ran;      /* turns: a task was started or resumed */
    uint64_t inlined;  /* children run as a plain call by their joiner */
    uint64_t spawned;  /* tasks spawned here */
    uint64_t stolen;   /* tasks taken from other workers */
    uint64_t parked;   /* times it went to sleep */
    uint64_t woke;     /* wakes of other workers it paid for */
    uint64_t polls;    /* looks at the epoll set */
    uint64_t events;   /* events those brought in */
    uint64_t timers;   /* timers armed here that have struck */
    uint64_t ready;    /* tasks in its queues now */
    bool asleep;       /* parked now */
} weft_worker_stats;

/* Fills out[0 .. n-1] with the first n workers' numbers. `rt` NULL is the caller's own runtime.
 *
 * returns    the number of workers, which may be more than n; -EINVAL, also for NULL outside of a runtime */
WEFT_API int weft_stats(weft_runtime *rt, weft_worker_stats *out, int n);

/* Writes a line for every live task of the process: id, name, state, what it waits for and since when, its function,
 * where it was spawned, its scope and whose that is; and their number. 10^5 tasks take less than a second.
 *
 *     task 16777219 "conn" waiting 1203.4 ms, to read from descriptor 9; echo+0x2210, spawned at echo+0x23b4, in
 *     scope 0x7f5ac23fdf40 of task 16777217
 *
 * Functions have names if their module exports them (-rdynamic), else addr2line -e MODULE OFFSET has. A task that
 * ended just then may be missing, or be there.
 *
 * returns    how many there are; the negative errno of write(2)
 * context    any thread: never suspends, blocks it. It waits for no task and no lock of theirs, only for write(2) */
WEFT_API int weft_dump(int fd);

#ifdef __cplusplus
}
#endif
#endif
