/* weft/report.h - what the workers have done so far.
 *
 * Read without stopping anybody: each number is exact when its worker is idle and slightly old while it runs.
 */
#ifndef WEFT_REPORT_H
#define WEFT_REPORT_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_runtime weft_runtime;

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
 * returns    the number of workers, which may be more than n; -EINVAL
 * context    any thread; never suspends */
WEFT_API int weft_stats(weft_runtime *rt, weft_worker_stats *out, int n);

#ifdef __cplusplus
}
#endif
#endif
