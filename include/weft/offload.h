/* weft/offload.h - calls that would block a worker, on threads of their own.
 *
 * There are two safe forms. The unsafe third one (leave at once, with a borrowed argument) does not exist.
 *
 * A call that blocks need not be handed over: made in the task itself, it keeps one worker. What was ready behind it,
 * what time or a descriptor wakes meanwhile, and whatever is spawned elsewhere, runs on another worker within 2 ms, where
 * there is one that is free; else a spare worker is started for it, or woken, within 4 ms and as long as there are any
 * (weft_options.spares: 64, but none for a runtime that was asked for with one worker). So a call costs nothing until it
 * has lasted 2 ms, and then a thread. But a deadline does not end such a call, nor does a cancel; tasks that are pinned to
 * that worker stay; and calls that block for less than 2 ms each, one after the other, hold workers up without a spare.
 * What blocks often, or for long, belongs here.
 *
 * A runtime has three lanes of threads, which do not wait for each other: one for what is handed over here, one for files
 * (fs.h), one for names (dns.h); weft_options says how many threads each may have. A program may have more (weft_lane), so
 * that one kind of its work does not keep another waiting, or so that computing takes no more threads than there are
 * processors. weft_stats_all and weft_stats_lane (report.h) say what they are about.
 */
#ifndef WEFT_OFFLOAD_H
#define WEFT_OFFLOAD_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs fn(arg) on a pool thread and waits for it. Once begun it is awaited even when cancelled, so `arg` may
 * be on the stack; while it is still queued a cancel withdraws it.
 *
 * returns    what fn returned; -ECANCELED fn was not called, or returned that; -EAGAIN no thread could be started, or
 *            the queue is full (weft_options.blocking); -EINVAL
 * context    task: suspends, cancellation point until fn begins (fn is not called); plain thread: calls fn directly,
 *            whatever it was told
 * ordering   both ways */
WEFT_CHECK WEFT_API int weft_blocking(weft_fn *fn, void *arg);

/* The same on a copy of `bytes` bytes of arg, aligned to 16. On a cancel it returns at once; fn, if it has begun,
 * ends by itself, and the end of the runtime waits for that.
 *
 * -ECANCELED always means that the copy is not handed back: `drop(copy)`, if given, runs exactly once, after fn or
 * instead of it, on the pool thread or before this returns; and so it does when fn itself returns -ECANCELED. After
 * any other result of fn the copy is copied back, and drop does not run. After an error of the call's own nothing was
 * taken.
 *
 * returns    what fn returned; -ECANCELED; -ENOMEM; -EAGAIN as above; -EINVAL
 * context    task: suspends, cancellation point (fn is not called, or ends by itself; the copy is dropped); plain
 *            thread: calls fn directly, on arg itself, whatever it was told */
WEFT_CHECK WEFT_API int weft_blocking_copy(
        weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg));

/* Threads of the program's own for calls that block, beside those of the runtimes. */
typedef struct weft_lane weft_lane;

/* How a lane is to be. All zero, or NULL, are the defaults. For computing: .threads = weft_cpus(). */
typedef struct weft_lane_options {
    const char *name;     /* of its threads, as ps shows them, behind "weft-"; cut to 10 bytes; NULL: "lane" */
    int threads;          /* at most so many; 0: 64; at most 1024. They are started when they are needed */
    int queue;            /* how many calls may wait for a thread, while .threads are busy or no more can be started; 0: any
                             number */
    bool wait_for_room;   /* a call that finds the queue full waits, instead of being refused with -EAGAIN */
    int64_t idle;         /* a thread that had nothing to do for so long, in ns, ends; 0: 10 s; WEFT_NEVER: it stays */
    uint64_t reserved[8]; /* zero */
} weft_lane_options;

/* Makes a lane, for tasks of any runtime. It has no thread before the first call.
 *
 * returns    0; -ENOMEM; -EINVAL
 * on error   *out is untouched
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_lane_create(weft_lane **out, const weft_lane_options *o);

/* Ends it and its threads, and sets *l to NULL; NULL in *l: nothing is done. Nobody may be in a call on it, or make one;
 * calls of weft_blocking_copy_on that were left behind are waited for.
 *
 * context    any thread: never suspends, blocks it. For as long as idle threads take to end, and such calls */
WEFT_API void weft_lane_destroy(weft_lane **l);

/* As weft_blocking, on a thread of the lane.
 *
 * returns    what fn returned; -ECANCELED fn was not called, or returned that; -EAGAIN the queue is full, or no thread
 *            could be started; -EINVAL
 * context    task: suspends, cancellation point until fn begins (fn is not called); plain thread: calls fn directly,
 *            whatever it was told
 * ordering   both ways */
WEFT_CHECK WEFT_API int weft_blocking_on(weft_lane *l, weft_fn *fn, void *arg);

/* As weft_blocking_copy, on a thread of the lane. A call that was left behind is not the runtime's any more, which may end
 * before it: weft_lane_destroy waits for it, and drop may run on the lane's thread until then.
 *
 * returns    what fn returned; -ECANCELED; -ENOMEM; -EAGAIN the queue is full, or no thread could be started; -EINVAL
 * context    task: suspends, cancellation point (fn is not called, or ends by itself; the copy is dropped); plain
 *            thread: calls fn directly, on arg itself, whatever it was told */
WEFT_CHECK WEFT_API int weft_blocking_copy_on(
        weft_lane *l, weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg));

#ifdef __cplusplus
}
#endif
#endif
