/* coord/scope.h - the inside of a weft_scope, and who may touch which part of it.
 *
 * The tree: a scope's members are its children (tasks) and, beside them, at most one inner scope of its own owner.
 * A task or scope joins the tree (is attached) when something under it first waits, outermost first, so that what is
 * attached has all its ancestors attached. Fork-join that never waits never takes a lock.
 */
#ifndef WEFT_COORD_SCOPE_H
#define WEFT_COORD_SCOPE_H

#include <weft/scope.h>

#include "base/hidden.h"
#include "coord/keeps.h"
#include "coord/side.h"
#include "coord/told.h"
#include "engine/worker.h"

/* Why a scope leaves: bits of its mark. */
enum {
    WEFT__MARK_CANCEL = 1,   /* weft_scope_cancel */
    WEFT__MARK_DEADLINE = 2, /* its own deadline struck */
    WEFT__MARK_FAILURE = 4,  /* a child, a spawn or the body failed */
    WEFT__MARK_DECIDED = 512, /* a child won (coord/policy.c) */
    WEFT__MARK_LEAVE = 7 | 512, /* any of these */
    WEFT__MARK_SHIELD = 8,   /* hides what comes from further out */
    WEFT__MARK_LEFT = 16,    /* a child left for a cancel */
    WEFT__MARK_FIRST_FAILED = 32, /* the failure came before any other reason to leave */
    WEFT__MARK_WALKED = 64,  /* a walk has entered it, or will; see coord/tree.c */
    WEFT__MARK_HARD = 1024,  /* the grace of weft_scope_cancel_hard is over: shields in it hide nothing */
    WEFT__MARK_WALKED_HARD = 2048, /* the same of a walk for that */
    WEFT__MARK_STOPPED = 128, /* walks have stopped in it, see `walk` */
    WEFT__MARK_NOWHERE = 256 /* its .on could not be kept: it has failed for that, and nothing can run in it */
};
/* Above them, how many cancels and walks are at work in the scope just now: it does not end under them. */
#define WEFT__MARK_HOLD (UINT64_C(1) << 32)

/* RULED: open, with a struct weft__policy; another number, so that to most spawns it costs nothing. */
enum { WEFT__SCOPE_OPEN = 0x77656674, WEFT__SCOPE_RULED, WEFT__SCOPE_ENDING, WEFT__SCOPE_ENDED };

/* Children that have not ended are counted in two numbers: `spawned`, which only the owner writes (it spawns, and
 * runs children inline), and `count`, which starts at WEFT__OPEN_COUNT; a child that ends elsewhere takes one away.
 * At the end the owner moves the first into the second; 0 is then the end of the last child. */
#define WEFT__OPEN_COUNT (UINT64_C(1) << 40)
/* Instead of that during weft_scope_wait: the scope stays open, so others may spawn even when it comes down to this. */
#define WEFT__WAIT_COUNT (UINT64_C(1) << 41)

struct weft__scope_extra {
    const char *name;
    struct weft__scope_extra *named; /* of the next scope further out that has a name */
    struct weft__scope *scope;
    weft_runtime *on;
    weft_failure *failures;
    int failures_max;
    struct weft__told told;
    weft_task first_failed; /* for reports; its id, site and name are kept, since it is gone by then */
    const void *first_site;
    char first_name[WEFT__NAME_BYTES];
    struct weft__detail *detail; /* what it, whose first failure it was, said; under the scope's lock. NULL: nothing */
    const char *why;             /* the same of what was no task; NULL: a task, or nothing */
    struct weft__link root_link;
    bool is_root, first_root; /* the outermost of its thread */
    bool started;             /* a root of coord/start.c: its owner is no thread */
    struct weft__policy *policy; /* NULL: WEFT_JOIN_ALL, without more (coord/policy.h) */
    at_word hards;               /* struct weft__hard *, the newest (coord/hard.c) */
    struct weft__lock callers_lock;
    struct weft__caller *callers; /* coord/call.c; under that */
    struct weft__gens gens; /* made in it */
};

struct weft__scope {
    at_int state;             /* WEFT__SCOPE_*; by the owner, looked at by spawners */
    int32_t spawned;          /* owner */
    struct weft_scope *outer; /* owner, before anybody sees the scope */
    struct weft__frame *owner;
    at_word count;
    at_word mark;
    at_word waiter;           /* the owner's token while it waits for `count`; ENDED: the child that won */
    at_word deadline;         /* INT64_MAX: none; written by the owner */
    struct weft__timer timer; /* armed when attached; its `user` is the scope's nesting level */
    struct weft__lock lock;   /* the members, and failures; held for a slice of a walk at most */
    at_int attached;          /* written under the lock of what it is attached to */
    uint32_t children;        /* the first attached child, index + 1 (union weft__member); under lock */
    uint32_t walk;            /* the errands that have stopped here: the first, index + 1; see coord/tree.c */
    struct weft_scope *down;  /* the attached inner scope of the same owner */
    at_word extra;            /* struct weft__scope_extra *, made on demand */
    int32_t failed;           /* under lock */
    int32_t code;             /* the first failure; under lock */
};
_Static_assert(sizeof(struct weft__scope) == sizeof(struct weft_scope), "weft_scope has a fixed size");

static inline unsigned weft__scope_level(const struct weft__scope *s)
{
    return s->timer.user;
}
static inline struct weft__scope *weft__scope_of(weft_scope *s)
{
    return (struct weft__scope *)(void *)s;
}

static inline bool weft__scope_is_open(const weft_scope *ps)
{
    if (!ps)
        return false;
    uint32_t state = ati_load_acquire(&((const struct weft__scope *)(const void *)ps)->state);
    return state == WEFT__SCOPE_OPEN || state == WEFT__SCOPE_RULED;
}

/* ---- coord/scope.c */

/* weft_scope_begin_with and weft_scope_end for a frame that is not the caller's, or is known to be. */
void weft__scope_begin_for(struct weft__frame *f, weft_scope *s, int64_t within, const weft_scope_options *o);
int weft__scope_end_for(struct weft__frame *f, weft_scope *s, int rc);
/* A child that was counted by fetch-and-add ended; the last access to the scope. */
void weft__scope_child_left(struct weft__scope *s);
/* Records a failure and tells the rest to leave. `who` is the task that ends with it, and its error record becomes the
 * scope's; NULL: it was none, and `why`, a literal, or NULL, says what it was. */
void weft__scope_fail(struct weft__scope *s, struct weft__frame *who, void *arg, int code, const char *why);
/* Records it, and tells nobody. */
void weft__scope_record(struct weft__scope *s, struct weft__frame *who, void *arg, int code, const char *why);
/* The end of f's innermost scope was forgotten: found at the end of an `older` one, or (NULL) at the task's. Does not
 * return. */
void weft__scope_forgotten(struct weft__frame *f, weft_scope *older);
/* A child, or the body, left because it was told to. */
void weft__scope_left(struct weft__scope *s);
struct weft__scope_extra *weft__scope_extra(struct weft__scope *s);
/* The scope's timer, armed for its deadline as it is now, on the calling worker if it is not armed for that already.
 * 0; -ENOMEM. */
int weft__deadline_arm(struct weft__scope *s);
void weft__deadline_disarm(struct weft__scope *s);
/* What a struck timer calls. */
void weft__deadline_struck(struct weft__timer *timer);
/* The runtime that the scope's children run on; NULL: none. */
struct weft__group *weft__scope_group(struct weft__scope *s);

/* ---- coord/root.c */

/* A scope with .on, of a plain thread, begins and ends. */
void weft__root_open(struct weft__scope *s);
void weft__root_close(struct weft__scope_extra *x);
/* Nothing new lasts from now on, and what is there is told. `why` is a literal; the first one counts. */
void weft__roots_closing(weft_runtime *rt, const char *why);
/* Waits until all have been closed. */
void weft__roots_end(weft_runtime *rt);
/* How many plain threads have opened one, if all of them only wait; else -1 (engine/rest.c). */
int weft__roots_rest(weft_runtime *rt);
/* What a host is, whose frame that is (NULL: it has none), while it waits. */
enum weft__host_rests weft__roots_host(const struct weft__frame *f);
/* A plain thread begins to wait: H4 there. */
void weft__roots_wait(struct weft__frame *f);
/* What is there now is told to leave, because of a deadlock; what comes later is not. */
void weft__roots_stalled(weft_runtime *rt);
/* Cancels all of it, because of a signal. */
void weft__roots_stop(weft_runtime *rt, int signo);

/* ---- coord/start.c */

/* Ends the roots of what weft_runtime_start has started, waiting for it; the runtime is closing. */
void weft__starts_end(weft_runtime *rt);

/* ---- coord/cancel.c */

/* Whether the frame was told to leave. Moves f->epoch_ok. */
bool weft__told_slow(struct weft__frame *f);
/* By whom; false: it was not told, and *out is as it was. */
bool weft__told_why(struct weft__frame *f, weft_canceller *out);
/* The same of a task in that scope, whose life is held, as far as it was told from outside; waits for no lock. */
bool weft__told_from_scope(weft_task id, bool cancelled, struct weft__scope *in, weft_canceller *out);
/* As weft_scope_cancel; site: where that was called, NULL what happened elsewhere is passed on. */
void weft__scope_tell(weft_scope *s, const char *reason, const void *site);
/* Whether a scope around the frame breaks shields. */
bool weft__told_hard(struct weft__frame *f);
/* Whether something, in the scope or outside it, tells it to leave. */
bool weft__scope_told(struct weft__scope *s);
static inline bool weft__told(struct weft__frame *f)
{
    return own(f->epoch_ok) != at_load_acquire(&weft__cancel_epoch) && weft__told_slow(f);
}

/* Tells the scope to leave for a WEFT__MARK_ reason: marks it, and wakes every wait under it, with WEFT__MARK_HARD in shields,
 * too. False: it was already told for this reason. */
bool weft__cancel_scope(struct weft__scope *s, unsigned why);
/* The same for one task (weft_task_cancel), whose life is held: it is a member of its scope until then. */
void weft__cancel_task(struct weft__task *t);
/* The owner's body failed, and there is nobody to be told. */
void weft__mark_failed(struct weft__scope *s);

/* The time that counts for the frame: its runtime's, or a plain thread's. */
static inline int64_t weft__frame_now(const struct weft__frame *f)
{
    return f->group ? weft__clock_now(&f->group->clock) : weft__now();
}

/* The earliest deadline that applies; a shield hides what is outside it. */
int64_t weft__earliest_deadline(struct weft__frame *f);
/* Looks at the clock and strikes what is overdue, all the way out; an exhausted budget. */
void weft__strike_overdue(struct weft__frame *f);

/* ---- coord/tree.c */

/* The scope that the frame's task is a child of; NULL: none. */
static inline struct weft__scope *weft__owner_scope(const struct weft__frame *f)
{
    return f->task ? (struct weft__scope *)at_load(&f->task->scope) : NULL;
}
/* The last access: its owner, awake by now, waits for it before it ends the scope. */
static inline void weft__scope_let_go(struct weft__scope *s)
{
    at_add(&s->mark, (uint64_t)0 - WEFT__MARK_HOLD);
}
/* Claims all waits under a scope that is marked, held and attached, and lets it go: in slices, the first at once. `hard`: in
 * shields, too. */
void weft__wake_under(struct weft__scope *s, bool hard);
/* The same for an attached frame whose task's life is held. */
void weft__wake_member(struct weft__frame *f);
/* How many tasks and scopes a slice looks at; written by tests only, before there is a runtime. */
extern WEFT__HIDDEN int weft__walk_slice;

/* Attaches the frame, its scopes and everything outside them, arming deadlines. 0; -ENOMEM a deadline could not be
 * armed. */
int weft__attach(struct weft__frame *f);
void weft__detach_frame(struct weft__frame *f);
/* Waits while a walk is in it, which lasts a slice at most. */
void weft__detach_scope(struct weft__scope *s);

/* ---- coord/hard.c */

/* Its timers and records, when the scope has no children any more and ends. */
void weft__hard_over(struct weft__scope_extra *x);
/* What a struck timer calls that is not a scope's own. */
void weft__hard_struck(struct weft__timer *timer);
/* For the waits of a plain thread: when the next grace of its own scopes is over, INT64_MAX never; and to look at them. */
int64_t weft__hard_next(struct weft__scope *s);
void weft__hard_overdue(struct weft__frame *f);

/* ---- coord/call.c */

void weft__callers_free(struct weft__scope_extra *x);
/* Tests only: how many entries the search for one looks at, at most. */
int weft__callers_steps(struct weft__scope_extra *x);

/* ---- coord/spawn.c */

/* Counts a child that the owner does not spawn itself, or whoever keeps the scope from ending as one would, until
 * weft__scope_child_left. False: it has no children any more and ends. */
bool weft__scope_count(struct weft__scope *s);

/* Spawns a copy that goes into a queue that is first in, first out, rather than on the worker's deque. */
weft_task weft__spawn_in_order(weft_scope *s, weft_fn *fn, const void *arg, size_t bytes, void *site);

/* ---- coord/child.c */

/* Runs as calls what is left of the owner's own newest children, as long as they are the newest of its worker's. By the owner. */
void weft__run_own(struct weft__scope *s);
/* The same for one child that nobody has begun, of the innermost scope of f, the caller. False: it is not, or may not be. */
bool weft__join_inline(struct weft__frame *f, struct weft__task *t, weft_task id);
void weft__child_body(struct weft__frame *f, struct weft__task *t, struct weft__stack *k);
void weft__child_body_marking(struct weft__frame *f, struct weft__task *t, struct weft__stack *k);
void weft__child_no_stack(struct weft__sched *w, struct weft__task *t);

/* ---- coord/task.c */

/* The frame of a task whose life is held, if it was started. acquire: meets the release in frame_begin, coord/child.c. */
static inline struct weft__frame *weft__task_frame(struct weft__task *t)
{
    if (!(ati_load_acquire(&t->bits) & WEFT__TASK_STARTED))
        return NULL;
    return (struct weft__frame *)(uintptr_t)at_load(&t->side);
}

/* Who called weft_task_cancel for a task whose life has the mark; it stays until the task has ended. NULL: that was not kept,
 * or, if it is not to wait for the lock, somebody has that just now. */
const struct weft__told *weft__task_told(weft_task id, bool wait);
/* Its task's name, "" if it has none. */
const char *weft__frame_name(const struct weft__frame *f);
/* Says something of the frame's task, or plain thread, to its runtime's report function. */
void weft__report_task(const struct weft__frame *f, const char *what, int code, const char *text);
/* "task 42 \"name\" (0x...)", into out. */
void weft__task_describe(struct weft__frame *f, char *out, unsigned long bytes);
/* Of any task, from any thread: weft__hooks.who. */
bool weft__task_who(weft_task id, const struct weft__frame *f, struct weft__who *out);

#endif
