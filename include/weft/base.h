/* weft/base.h - what every other header needs.
 *
 * Results. Everything that can fail returns an int: 0 or a count, else a negative errno. errno itself
 * is never part of the interface: a coroutine moves between threads, and compilers keep using the old
 * thread's address of it.
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

/* Says that a result is ignored on purpose; gcc does not take a cast to void for an answer. */
static inline void weft_ignore(int rc)
{
    (void)rc;
}

#ifdef __cplusplus
}
#endif
#endif
