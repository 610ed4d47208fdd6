/* weft/base.h - what every other header needs.
 *
 * Results. Everything that can fail returns an int: 0 or a count, else a negative errno. errno itself
 * is never part of the interface: a coroutine moves between threads, and compilers keep using the old
 * thread's address of it. What most calls share is not said at each: -ECHILD in a forked child (runtime.h), and
 * -ENOMEM where a wait, or a plain thread's first call, finds no memory for what it has to keep.
 *
 * Context. The `context` line of a call says where it may be made, and what it does there; for calls without
 * one, the line at the top of their header holds. Its words:
 *
 *     task                 in a task
 *     plain thread         elsewhere: threads of the program's own, and those that weft_blocking calls fn on
 *     any thread           both
 *     owner                only by the task or plain thread that began the scope
 *     suspends             the task may wait or yield here, and go on on another thread; its worker runs others
 *     never suspends       it does neither; so, unless said, it is no cancellation point
 *     blocks it            the thread may wait here, and nothing else runs on it
 *     cancellation point   -ECANCELED if the caller was told to leave, at once or while it waits; in brackets what
 *                          is then lost or kept. On a plain thread, too, if nothing else is said
 *     signal handler       there, too
 *
 * Signal handlers. No call is async-signal-safe but those that say "signal handler": a handler that interrupts a
 * plain thread may find it within a call, with a lock. weft_options.stop_on_signals and .dump_on_quit are for
 * that, and a signalfd, which is read like any descriptor.
 */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WEFT_API __attribute__((visibility("default")))
#define WEFT_CHECK __attribute__((warn_unused_result))
#define WEFT_PRINTF(text, first) __attribute__((format(printf, text, first)))
/* The variable is handed, by address, to `destroy` when it goes out of scope. */
#define WEFT_AUTO(destroy) __attribute__((cleanup(destroy)))
#else
#define WEFT_API
#define WEFT_CHECK
#define WEFT_PRINTF(text, first)
#endif

/* A coroutine, or anything that runs as one: returns 0 or a count, else a negative errno. */
typedef int weft_fn(void *arg);

/* Says that a result is ignored on purpose; gcc does not take a cast to void for an answer.
 *
 * context    any thread, signal handler: never suspends */
static inline void weft_ignore(int rc)
{
    (void)rc;
}

#ifdef __cplusplus
}
#endif
#endif
