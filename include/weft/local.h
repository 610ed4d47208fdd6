/* weft/local.h - values that belong to a task.
 *
 * A key is a variable, static or part of something else, that is zero but for `drop` and `inherit`. Each task, and each
 * plain thread, has a value of its own under it, NULL at first. Tasks that use none pay nothing for it.
 *
 *     static weft_local request = { .inherit = true };
 *
 * Inherited values: a child finds what its spawner, whoever called weft_spawn, had at the spawn. What either sets
 * afterwards the other does not see. The value is shared, so it is not to be changed by then; it is dropped when the last
 * that has it lets it go. A function that weft_blocking calls in the pool finds what a child would; what it sets is gone
 * when it returns.
 * Other values are of one task, and nobody inherits them.
 * The body of a generator finds those of the task that advances it at the moment.
 * A callback finds what a child of whoever registered it would have, as it was at the registration: that of weft_call_soon
 * and weft_call_at, which is such a child, and that of weft_task_on_done, which runs outside of any task, and finds nothing
 * of the task that has ended. What that one sets is its own, and gone when it returns; what it spawns inherits as ever.
 *
 * drop(value) is called once for each value but NULL: when the task sets another, or at its end, after its generators
 * were closed and its deferred calls made, the newest value first; at a plain thread's end (not at the program's). An
 * inherited value: by whichever task or thread lets go of it last. It is not to suspend, and cannot set values. A child whose
 * stack could not be had lets go of what it had inherited, too.
 *
 * context    any thread: never suspends, not a cancellation point
 */
#ifndef WEFT_LOCAL_H
#define WEFT_LOCAL_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A key. It does not have to outlive the values that were set under it; one that was zeroed again is another. */
typedef struct weft_local {
    void (*drop)(void *value); /* NULL: nothing is to be done */
    bool inherit;              /* read when a value is set or fetched; it does not change */
    uint64_t opaque[2];        /* weft's own */
} weft_local;

/* The caller's value. NULL: it has none. */
WEFT_API void *weft_local_get(weft_local *key);

/* Sets it, and drops the value that was there, unless it is the same pointer. NULL: it has none any more.
 *
 * returns    0; -EINVAL key is NULL, or the task ends and its values are being dropped; -ENOMEM
 * on error   the old value stays, and the new one is still the caller's */
WEFT_CHECK WEFT_API int weft_local_set(weft_local *key, void *value);

#ifdef __cplusplus
}
#endif
#endif
