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

/* What the end of one child means for the others. A child that left because it was told to (with -ECANCELED) decides
 * nothing, and is no failure. */
enum weft_join {
    WEFT_JOIN_ALL,       /* the first failure cancels the rest */
    WEFT_JOIN_ANY,       /* the first success (or .need of them) cancels the rest; failures are put up with until all
                            have ended */
    WEFT_JOIN_RACE,      /* the first that ends, well or with a failure, cancels the rest */
    WEFT_JOIN_KEEP_GOING /* a failure cancels nobody */
};

/* How a scope is to be. All zero, or NULL, are the defaults. */
typedef struct weft_scope_options {
    const char *name;       /* shown in reports; has to live as long as the scope; NULL: none */
    int join;               /* enum weft_join */
    int need;               /* with WEFT_JOIN_ANY: how many successes decide it; 0: 1 */
    int limit;              /* a spawn waits while so many children have not ended; 0: none. A spawn is a cancellation
                               point then if it has to wait: -ECANCELED, and fn is not called. What told the spawner to
                               leave, if it told the scope, counts as if a child had left for it; the scope has not failed.
                               A child that spawns into its own scope keeps its place meanwhile */
    bool collect;           /* for weft_scope_next: children that have ended are kept until they were fetched */
    weft_runtime *on;       /* plain threads: where the children run; NULL in a task */
    weft_failure *failures; /* filled with the children's failures; NULL: only the first is kept */
    int failures_max;       /* how many there is room for */
    uint64_t reserved[8];   /* zero */
} weft_scope_options;

/* Begins a scope with options; with NULL or zeroed ones it is weft_scope_begin. Bad options fail the scope: its end
 * returns -EINVAL. */
WEFT_API void weft_scope_begin_with(weft_scope *s, int64_t within, const weft_scope_options *o);

/* Waits for all children, however long they take, and ends the scope. `rc` is how the body went: a negative
 * one cancels the children and is a failure as a child's would be (with WEFT_JOIN_KEEP_GOING it cancels nobody). Runs
 * unstarted children as plain calls.
 *
 * returns    the first of these that applies:
 *            - the first failure (of a child, a spawn or the body), if nothing had told the scope to leave
 *              before it;
 *            - if the body or a child left because it was told to (with -ECANCELED), or failed after that:
 *              -ECANCELED told from further out, -ETIMEDOUT its own deadline, 0 weft_scope_cancel;
 *            - rc, the body's own count or descriptor, even when late.
 *            -EINVAL it is not open, or another's.
 *            WEFT_JOIN_ANY and WEFT_JOIN_RACE, once a success has decided it, even a late one: rc, or 0 if the body left
 *            because it was told to. ANY, if too few succeeded: the first failure if all had ended by themselves, else
 *            as above. Both, if nobody decided it, nobody failed and nothing told it to leave: -ENODATA
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

/* Has fn(arg) called, once, when the caller's innermost open scope ends: by weft_scope_end, or as its block is left
 * (WEFT_SCOPE); whatever it ends for. Without an open scope, when the task ends; in the body of a generator that has begun
 * none, when that ends. It is called by who called this, after the children have ended, the newest first, and so are
 * generators closed that were made there: each is closed before what is older. `arg` is borrowed until then; in a function
 * whose caller has begun the scope, no local variable will do.
 *
 * Each call is in a shield (weft_scope_begin_shield) of `grace` of its own: it may wait, although what ends was told to
 * leave, until its grace is over (0 or less: it may not wait; WEFT_NEVER: as long as it likes), or a hard cancel breaks it.
 * What it defers is called when it returns; what it spawns into the scope that ends is awaited before the next.
 *
 * A negative result (-ETIMEDOUT if it left because its grace was over) is what the scope's end, the task or the generator
 * returns, if that would be 0 or more; it tells nobody to leave. One that is not returned, since there was a failure before,
 * or a block was left, is reported: "defer".
 *
 * returns    0; -EINVAL no fn, a plain thread without a scope, or the task ends and its values are being dropped; -ENOMEM
 * on error   fn is not going to be called
 * context    any thread: never suspends, not a cancellation point */
WEFT_CHECK WEFT_API int weft_defer(weft_fn *fn, void *arg, int64_t grace);

/* Tells everything in the scope to leave: the body, the children, and what they spawned. Idempotent; the
 * first reason counts (at most 31 bytes are kept).
 *
 * context    any thread: never suspends, not a cancellation point. While the scope is open */
WEFT_API void weft_scope_cancel(weft_scope *s, const char *reason);

/* The same, and what still runs after `grace` has even its shields broken: from then on every wait under the scope is
 * refused, inside shields too, and those that are going on end with -ECANCELED. 0 or less: at once; WEFT_NEVER: never.
 * Only joining goes on: a scope still waits for its children. The time is kept by the runtime, and forgotten when the
 * scope ends before; called again, the earliest counts. Without memory to keep it, there is no grace.
 *
 * context    any thread: never suspends, not a cancellation point. While the scope is open. A plain thread's own waits,
 *            in a scope without .on, find it at their beginning */
WEFT_API void weft_scope_cancel_hard(weft_scope *s, int64_t grace, const char *reason);

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

/* One child that has ended. */
typedef struct weft_done {
    weft_task task;
    int code;  /* its result */
    void *arg; /* that it was spawned with; its own copy is valid until the next weft_scope_next, or the scope's end */
} weft_done;

/* Waits until a child has ended and says which, each once, in the order in which they ended. For scopes with .collect.
 * After an end (0) there may be more, if more are spawned. What is never fetched goes with the scope. A timeout that does
 * not cancel the children is a scope around this call, further in:
 *
 *     weft_scope_begin(&t, weft_sec(1));
 *     rc = weft_scope_end(&t, weft_scope_next(&s, &d));    1, 0, or -ETIMEDOUT
 *
 * returns    1 a child; 0 there are no children, and none to fetch; -ECANCELED (a child that ended meanwhile may come first);
 *            -EINVAL not the caller's scope, or without .collect
 * on error   *d is untouched and no child is lost
 * context    owner; task: suspends, cancellation point (nothing is lost); plain thread: blocks it
 * ordering   what the child wrote is visible on return */
WEFT_CHECK WEFT_API int weft_scope_next(weft_scope *s, weft_done *d);

/* Whether its own deadline has struck. Exact also after its end. */
WEFT_API bool weft_scope_expired(const weft_scope *s);

/* How many children have not ended; others may change it meanwhile.
 *
 * context    owner; any thread: never suspends */
WEFT_API int weft_scope_alive(const weft_scope *s);

/* How many children have failed so far; more than failures_max if there was no room. Also after its end. */
WEFT_API int weft_scope_failed(const weft_scope *s);

/* The child that won: the first success of WEFT_JOIN_ANY, the first to end of WEFT_JOIN_RACE. 0: none did. Also after its
 * end. */
WEFT_API weft_task weft_scope_winner(const weft_scope *s);

/* Calls fn on each of the n items of an array, `item_bytes` apart, as children of a scope with these options (NULL: the
 * defaults), and ends that scope. So results go into the items, and are in the order of the arguments. Once something has
 * told the scope to leave (a failure, a success that decides it, the caller's deadline), items that were not begun are
 * left out; the children are told what the caller is told. On a plain thread it needs .on, or a scope around it that has it.
 *
 * returns    as weft_scope_end(&scope, 0) does; -EINVAL no fn, or no items
 * context    task: suspends, not a cancellation point; plain thread: blocks it
 * ordering   what fn wrote is visible on return */
WEFT_CHECK WEFT_API int weft_gather(void *items, size_t n, size_t item_bytes, weft_fn *fn, const weft_scope_options *o);

/* Who is restarted when a child has failed. */
enum weft_restart {
    WEFT_RESTART_ONE, /* that child */
    WEFT_RESTART_ALL, /* all of them: the others are cancelled, and awaited, before */
    WEFT_RESTART_REST /* the same with those behind it in the array */
};

/* What is supervised. */
typedef struct weft_child {
    const char *name; /* of its task; NULL: none */
    weft_fn *fn;
    void *arg;        /* borrowed */
} weft_child;

/* How. All zero, or NULL, are the defaults. */
typedef struct weft_supervise_options {
    int restart;          /* enum weft_restart */
    int most;             /* restarts, of all children together, within `period`; one more ends it. 0: 5 */
    int64_t period;       /* 0: 10 s */
    weft_backoff backoff; /* between a child's failure and its restart; .first 0: at once. It begins anew with a child that
                             ran for `period`; when a child has used up its .tries, that ends it */
    uint64_t reserved[8]; /* zero */
} weft_supervise_options;

/* Runs the children and restarts those that fail. A child that ends with 0 or more has ended for good, and so has one
 * that left, -ECANCELED, because it was told to, by its id; but who was cancelled to be restarted is, whatever it returns. On a plain
 * thread it needs a scope around it with .on.
 *
 * returns    0 all have ended for good; -ECANCELED; the failure of the child that was to be restarted once too often, whose
 *            error detail the caller then has; -ENOMEM; -EINVAL. All children have ended
 * context    task: suspends, cancellation point (the children are told, and awaited); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_supervise(const weft_child *children, size_t n, const weft_supervise_options *o);

#ifdef __cplusplus
}
#endif
#endif
