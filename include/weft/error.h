/* weft/error.h - what a negative result means, in words.
 *
 * A failure's record belongs to the task (to the thread, outside a task) that met it; weft_scope_end moves
 * a failed child's record to the task that ends the scope.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_ERROR_H
#define WEFT_ERROR_H

#include <weft/base.h>
#include <weft/task.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The name of a result: "EPIPE: Broken pipe" for -EPIPE, "ok" for 0 and counts.
 *
 * returns    a constant string, never NULL, valid for ever; unknown codes give "unknown error" */
WEFT_API const char *weft_strerror(int rc);

/* Records a failure of the calling task, with this line of the source, and is `rc`, so that a failing function ends in one
 * line: `return weft_fail(-EPROTO, "header %d is too long", n);`. A text longer than 107 bytes is cut. It takes the place of
 * what was recorded before. Nothing is recorded where there is no memory for it. */
#define weft_fail(rc, ...) weft_fail_at((rc), 0, __FILE__, __LINE__, __VA_ARGS__)

/* The same of a text that is no format. */
#define weft_fail_text(rc, text) weft_fail_at((rc), 0, __FILE__, __LINE__, "%s", (text))

/* The same where something else had failed before, with `cause`: what is recorded for exactly that code is kept as the cause
 * of this failure. `return weft_fail_from(-EPROTO, rc, "no greeting from %s", name);`. Of more than 8 in a row the
 * first and the last seven are kept. */
#define weft_fail_from(rc, cause, ...) weft_fail_at((rc), (cause), __FILE__, __LINE__, __VA_ARGS__)

/* What these call. `file` is kept as it is and must live on, as a literal does; NULL: not known. `cause` 0: none.
 *
 * returns    rc, whatever it is */
WEFT_API int weft_fail_at(int rc, int cause, const char *file, int line, const char *format, ...) WEFT_PRINTF(5, 6);

/* The text that was recorded for exactly this code, else weft_strerror(rc): a stale text is never shown for
 * another failure. Valid until the task's next failure that is recorded, or end of a scope. */
WEFT_API const char *weft_error_text(int rc);

/* What is known of a failure. */
typedef struct weft_error {
    int code;
    int line;                       /* of `file` */
    const char *text;               /* weft_strerror(code) if nothing was said; never NULL */
    const char *file;               /* where weft_fail was written; NULL: nothing was said */
    weft_task task;                 /* that met it; 0: a plain thread, or a call that is made for a scope */
    const char *task_name;          /* "" it has none */
    const void *spawned_at;         /* where that was spawned, a return address (addr2line); NULL: not known */
    const struct weft_error *cause; /* NULL: none is known */
    uint64_t reserved[2];           /* zero */
} weft_error;

/* The record of exactly this code.
 *
 * returns    NULL if there is none, also for want of memory. Valid as weft_error_text's is */
WEFT_API const weft_error *weft_last_error(int rc);

/* All of it in one line, as snprintf writes: `EPROTO: no greeting from db (greet.c:41, task 12 "reader"); because
 * ECONNRESET: Connection reset by peer`. If nothing is recorded, weft_strerror(rc).
 *
 * returns    how long it is, cut or not */
WEFT_API size_t weft_error_describe(int rc, char *out, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
