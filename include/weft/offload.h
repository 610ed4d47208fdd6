/* weft/offload.h - calls that would block a worker, on threads of their own.
 *
 * There are two safe forms. The unsafe third one (leave at once, with a borrowed argument) does not exist.
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
 * returns    what fn returned; -ECANCELED fn was not called, or returned that; -EAGAIN no thread could be started;
 *            -EINVAL
 * context    task: suspends, cancellation point until fn begins (fn is not called); plain thread: calls fn directly,
 *            whatever it was told
 * ordering   both ways */
WEFT_CHECK WEFT_API int weft_blocking(weft_fn *fn, void *arg);

/* The same on a copy of `bytes` bytes of arg, aligned to 16. On a cancel it returns at once; fn, if it has begun,
 * ends by itself.
 *
 * -ECANCELED always means that the copy is not handed back: `drop(copy)`, if given, runs exactly once, after fn or
 * instead of it, on the pool thread or before this returns; and so it does when fn itself returns -ECANCELED. After
 * any other result of fn the copy is copied back, and drop does not run. After an error of the call's own nothing was
 * taken.
 *
 * returns    what fn returned; -ECANCELED; -ENOMEM; -EAGAIN no thread could be started; -EINVAL
 * context    task: suspends, cancellation point (fn is not called, or ends by itself; the copy is dropped); plain
 *            thread: calls fn directly, on arg itself, whatever it was told */
WEFT_CHECK WEFT_API int weft_blocking_copy(
        weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg));

#ifdef __cplusplus
}
#endif
#endif
