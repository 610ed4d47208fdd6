/* weft/scope.h - the owner of tasks, of deadlines and of cancellation.
 *
 * A scope is begun and ended by one task (or plain thread), and scopes of one task nest. It does not end
 * before its children. The first child that fails cancels the rest. A scope without children is a timeout.
 *
 *     weft_scope s;
 *     weft_scope_begin(&s, weft_ms(250));      children are told to stop at 250 ms
 *     weft_spawn(&s, hello, &a);
 *     weft_spawn(&s, hello, &b);
 *     return weft_scope_end(&s, 0);            joins; returns the first failure
 *
 * Inside, a cancel and a deadline look alike: every suspension point returns -ECANCELED, again and again.
 * Only the scope whose own deadline it was turns that into -ETIMEDOUT, when it ends. The user's rule is one
 * line: pass -ECANCELED on; an -ETIMEDOUT you may handle, it is never from further out.
 *
 * Between begin and end must be no way out: a forgotten end aborts, naming both scopes. WEFT_SCOPE is for
 * code with returns in the middle.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_SCOPE_H
#define WEFT_SCOPE_H

#include <weft/base.h>
#include <weft/task.h>
#include <weft/time.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_runtime weft_runtime;

/* A scope, as a variable; what is in it is weft's own. */
struct weft_scope {
    uint64_t opaque[16];
};

/* Begins a scope whose work is told to stop after `within` (WEFT_NEVER: no deadline; 0 or less: at once).
 * Cannot fail: where a plain thread has no memory for it, its end returns -ENOMEM. The scope must stay where it
 * is until its end. */
WEFT_API void weft_scope_begin(weft_scope *s, int64_t within);

/* Begins a scope that hides every cancel and deadline from further out, so that cleanup can suspend; it is
 * bounded by `grace`, its own deadline. */
WEFT_API void weft_scope_begin_shield(weft_scope *s, int64_t grace);

/* One failure of a child, in the order they were seen. */
typedef struct weft_failure {
    weft_task task;
    void *arg;
    int code;
    char text[108];
} weft_failure;

/* How a scope is to be. All zero, or NULL, are the defaults. */
typedef struct weft_scope_options {
    const char *name;       /* shown in reports; has to live as long as the scope; NULL: none */
    weft_runtime *on;       /* plain threads: where the children run; NULL in a task */
    weft_failure *failures; /* filled with the children's failures; NULL: only the first is kept */
    int failures_max;       /* how many there is room for */
    uint64_t reserved[8];   /* zero */
} weft_scope_options;

/* Begins a scope with options; with NULL or zeroed ones it is weft_scope_begin. Bad options fail the scope: its end
 * returns -EINVAL. */
WEFT_API void weft_scope_begin_with(weft_scope *s, int64_t within, const weft_scope_options *o);

/* Waits for all children, however long they take, and ends the scope. `rc` is how the body went: a negative
 * one cancels the children and is a failure as a child's would be. Runs unstarted children as plain calls.
 *
 * returns    the first of these that applies:
 *            - the first failure (of a child, a spawn or the body), if nothing had told the scope to leave
 *              before it;
 *            - if the body or a child left because it was told to (with -ECANCELED), or failed after that:
 *              -ECANCELED told from further out, -ETIMEDOUT its own deadline, 0 weft_scope_cancel;
 *            - rc, the body's own count or descriptor, even when late.
 *            -EINVAL it is not open, or another's.
 * context    owner; task: suspends, not a cancellation point; plain thread: blocks it. Aborts if a younger scope
 *            of the owner's is still open
 * ordering   what the children wrote is visible on return */
WEFT_CHECK WEFT_API int weft_scope_end(weft_scope *s, int rc);

/* What WEFT_SCOPE runs at the closing brace: nothing if the scope was ended, else cancels and awaits the
 * children and reports their failures.
 *
 * context    owner; task: suspends, not a cancellation point; plain thread: blocks it */
WEFT_API void weft_scope_drop(weft_scope *s);

/* Declares a scope and begins it; leaving by return, break or goto cancels and awaits the children. It is a
 * declaration and lasts until the brace. Declare before it what the children use. */
#define WEFT_SCOPE(s, within)                                                                      \
    weft_scope s WEFT_AUTO(weft_scope_drop);                                                       \
    weft_scope_begin(&s, within)

/* Tells everything in the scope to leave: the body, the children, and what they spawned. Idempotent; the
 * first reason counts (at most 31 bytes are kept).
 *
 * context    any thread: never suspends, not a cancellation point. While the scope is open */
WEFT_API void weft_scope_cancel(weft_scope *s, const char *reason);

/* Moves the scope's deadline, to earlier or later, WEFT_NEVER to none. A deadline that has already struck is
 * not undone. Should there be no memory to keep it, the scope fails with -ENOMEM, which tells all in it to leave.
 *
 * context    owner; any thread: never suspends */
WEFT_API void weft_scope_set_deadline(weft_scope *s, int64_t at);

/* Its own deadline, WEFT_NEVER if it has none. */
WEFT_API int64_t weft_scope_deadline(const weft_scope *s);

/* Waits until the scope has no children, without ending it; more can be spawned afterwards.
 *
 * returns    0; -ECANCELED; -EINVAL the scope is not the caller's innermost
 * context    owner; task: suspends, cancellation point (the children go on); plain thread: blocks it
 * ordering   what the children wrote is visible when 0 is returned */
WEFT_CHECK WEFT_API int weft_scope_wait(weft_scope *s);

/* Whether its own deadline has struck. Exact also after its end. */
WEFT_API bool weft_scope_expired(const weft_scope *s);

/* How many children have not ended; others may change it meanwhile.
 *
 * context    owner; any thread: never suspends */
WEFT_API int weft_scope_alive(const weft_scope *s);

/* How many children have failed so far; more than failures_max if there was no room. Also after its end. */
WEFT_API int weft_scope_failed(const weft_scope *s);

#ifdef __cplusplus
}
#endif
#endif
