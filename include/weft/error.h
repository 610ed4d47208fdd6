/* weft/error.h - what a negative result means, in words.
 *
 * A failure's detail belongs to the task (to the thread, outside a task) that met it; weft_scope_end moves
 * a failed child's detail to the task that ends the scope.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_ERROR_H
#define WEFT_ERROR_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The name of a result: "EPIPE: Broken pipe" for -EPIPE, "ok" for 0 and counts.
 *
 * returns    a constant string, never NULL, valid for ever; unknown codes give "unknown error" */
WEFT_API const char *weft_strerror(int rc);

/* Sets the calling task's error detail and returns `rc`, so that a failing function ends in one line:
 * `return weft_fail(-EPROTO, "header %d is too long", n);`. A text longer than 107 bytes is cut.
 *
 * returns    rc, whatever it is, also where there is no memory for the text */
WEFT_API int weft_fail(int rc, const char *format, ...) WEFT_PRINTF(2, 3);
WEFT_API int weft_fail_text(int rc, const char *text);

/* The detail that was set for exactly this code, else weft_strerror(rc): a stale text is never shown for
 * another failure. Valid until the task's next weft_fail, weft_fail_text, or end of a scope. */
WEFT_API const char *weft_error_text(int rc);

#ifdef __cplusplus
}
#endif
#endif
