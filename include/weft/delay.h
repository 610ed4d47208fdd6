/* weft/delay.h - queues whose items come when their time has come.
 *
 * What is put has a time, and is kept until then; it is taken at that time or later, never before, the earliest first, and of
 * the same time what was put first. A handle moves it to another time, or takes it back: what times out, expires or is tried
 * again later, by the million, with one task that takes what is due. There is room for as many as there is memory for. It may
 * be put into and taken from by tasks of any runtime and by plain threads, mixed as you like. Every call names the item's
 * size, and it is checked.
 *
 * A queue must not be destroyed while somebody is in a call on it.
 *
 * context    any thread: never suspends
 * source     a 4-ary heap: each call is O(log n), runtime/sync/delay.c
 */
#ifndef WEFT_DELAY_H
#define WEFT_DELAY_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A queue; what the pointer leads to is weft's own. */
typedef struct weft_delay weft_delay;

/* An item that was put, as long as it is in the queue. 0 is none. It says so when the item was taken, as long as fewer than
 * 2^32 others were in its place. */
typedef uint64_t weft_delayed;

/* How a queue is to be. All zero, or NULL, are the defaults. */
typedef struct weft_delay_options {
    void (*drop)(void *item); /* called for each item that is there when it is destroyed. NULL: nothing is to be done */
    uint64_t reserved[8];     /* zero */
} weft_delay_options;

/* Makes a queue of items of `item_bytes` bytes (0: they say nothing but that they came; item may be NULL then).
 *
 * returns    0; -ENOMEM; -EINVAL */
WEFT_CHECK WEFT_API int weft_delay_create(weft_delay **out, size_t item_bytes, const weft_delay_options *o);

/* Ends it, and sets *q to NULL; items that nobody took are dropped. NULL in *q: nothing is done. */
WEFT_API void weft_delay_destroy(weft_delay **q);

/* Puts a copy of *item, which is due at `at` (WEFT_NEVER: not before it is moved); what has passed is due at once. Its handle
 * goes to *handle, if that is not NULL.
 *
 * returns    0; -EPIPE it is closed; -EINVAL wrong size; -ENOMEM
 * on error   *handle is untouched, and the item was not put */
WEFT_CHECK WEFT_API int weft_delay_put(weft_delay *q, const void *item, size_t bytes, int64_t at, weft_delayed *handle);

/* Moves an item that is still there to another time, earlier or later. The queue may be closed.
 *
 * returns    0; -ENOENT it was taken, or taken back */
WEFT_CHECK WEFT_API int weft_delay_move(weft_delay *q, weft_delayed handle, int64_t at);

/* Takes an item back before its time, or after it, if it is still there: to *item.
 *
 * returns    0; -ENOENT it was taken, or taken back; -EINVAL wrong size
 * on error   *item is untouched */
WEFT_CHECK WEFT_API int weft_delay_remove(weft_delay *q, weft_delayed handle, void *item, size_t bytes);

/* Takes the earliest item to *item, waiting until one is due on the caller's clock: that of its runtime, or for a plain thread
 * the real one. Any number may wait; which of them gets an item is not said.
 *
 * returns    1 an item; 0 closed, and nothing is left; -ECANCELED; -EINVAL wrong size; -ENOMEM the timer could not be kept
 * on error   *item is untouched and no item is lost
 * context    task: suspends, cancellation point (no item is lost); plain thread: blocks it
 * ordering   what was written before the put, or the last move, is visible when 1 is returned */
WEFT_CHECK WEFT_API int weft_delay_take(weft_delay *q, void *item, size_t bytes);

/* The same without waiting.
 *
 * returns    what the other does, and -EAGAIN instead of waiting; never -ECANCELED
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_delay_try_take(weft_delay *q, void *item, size_t bytes);

/* Nothing can be put any more. What is there still comes, each at its time, and after that who takes is told that it was all
 * (0). Once is enough, and twice does no harm. */
WEFT_API void weft_delay_close(weft_delay *q);

/* How many items it keeps just now, due or not. */
WEFT_API size_t weft_delay_len(weft_delay *q);

#ifdef __cplusplus
}
#endif
#endif
