/* coord/await.h - how every blocking call waits: refused when told to leave, woken by cancel and deadline.
 *
 *     struct weft__frame *f = weft__current();
 *     int rc = weft__await_begin(f, &token);      W1, W2; a refusal has yielded
 *     if (rc < 0)
 *         return rc;
 *     publish(token);                             W3
 *     cause = weft__await(f);                     W4
 *     unpublish();
 */
#ifndef WEFT_COORD_AWAIT_H
#define WEFT_COORD_AWAIT_H

#include "base/hidden.h"
#include "coord/oslock.h"
#include "coord/scope.h"

/* The calling plain thread's frame, made on demand. */
struct weft__frame *weft__thread_frame(void);
/* The running task's frame, or the calling plain thread's. NULL: no memory for that, or a forked child (base/fork.h); what
 * such a call returns then. */
static inline struct weft__frame *weft__current(void)
{
    struct weft__sched *s = weft__self();
    if (!s)
        return weft__thread_frame();
    struct weft__frame *f = own(s->frame);
    return f->task ? f : NULL;
}
int weft__no_frame(void);
/* What is to be done once in a process, before the first thread of weft's: 0; -ENOMEM (coord/main.c). */
int weft__register(void);
/* The calling plain thread's, if it has one already. */
struct weft__frame *weft__thread_known(void);
/* One as a plain thread has it, and of none: it owns a scope that whoever has it may end. NULL: no memory. */
struct weft__frame *weft__frame_alone(void);
void weft__frame_alone_free(struct weft__frame *f);
static inline bool weft__is_thread(const struct weft__frame *f)
{
    return f->group == NULL;
}

/* 0; -ECANCELED; -ENOMEM a deadline could not be armed. */
int weft__await_begin(struct weft__frame *f, weft__token *token);
/* No cancel applies to this wait. */
weft__token weft__await_begin_shielded(struct weft__frame *f);
/* Sleeps until fired; returns at once if it was. */
enum weft__cause weft__await(struct weft__frame *f);
/* The same for a plain thread, which fires itself at `until`. */
enum weft__cause weft__await_until(struct weft__frame *f, int64_t until);
/* Tests only: called by the waiting task after its wait was published and before it sleeps. NULL otherwise. */
extern WEFT__HIDDEN void (*weft__await_hook)(struct weft__frame *f);
/* The parts of it that are rare: what a test or a seed does between W3 and W4, and a plain thread's W4. */
void weft__await_meanwhile(struct weft__frame *f);
void weft__await_thread(struct weft__frame *f, int64_t until);
/* weft__await_until without the call (INT64_MAX: weft__await). Each function that a task is in while it waits has its saved
 * registers on the task's stack, and of many tasks that take turns these lines are cold: sync/ waits by this one. */
static inline enum weft__cause weft__await_inline(struct weft__frame *f, int64_t until)
{
    struct weft__task *t = f->task;
    if (weft__await_hook || weft__chaos_somewhere())
        weft__await_meanwhile(f);
    if (weft__phase_of(at_load(&t->state)) != WEFT__FIRED) {
        if (weft__is_thread(f)) {
            weft__await_thread(f, until);
        } else {
            weft__oslocks_look(f);
            weft__suspend();
        }
    }
    f->budget = WEFT__BUDGET;
    return weft__wait_cause(t);
}

/* Gives the wait up. True: it was not fired; false: weft__await returns at once and says why. */
static inline bool weft__await_give_up(struct weft__frame *f)
{
    return weft__wait_give_up(f->task);
}

/* Before a call that takes what is free, whoever was told to leave: charges the budget, and yields when that is used up, so
 * that a task that always finds it free does not keep the worker. */
void weft__spent(struct weft__frame *f);
/* The same of weft__enter_call, which may find that the budget is not used up, and that chaos asks for no yield. */
void weft__entered_often(struct weft__frame *f);
static inline void weft__spend(struct weft__frame *f)
{
    if (--f->budget <= 0)
        weft__spent(f);
}
/* What a refused call does before it returns -ECANCELED, which this returns: yields, or sleeps if it was refused too
 * often in a row. */
int weft__refuse(struct weft__frame *f);
/* A call that need not wait: 0, or -ECANCELED after having yielded. Charges the budget. */
static inline int weft__enter_call(struct weft__frame *f)
{
    if (--f->budget <= 0 || weft__chaos_somewhere())
        weft__entered_often(f);
    return weft__told(f) ? weft__refuse(f) : 0;
}
/* After a call that has taken a piece of work: what was read, who was accepted. Where the turn in which the last one was taken
 * still lasts, and is long by now, the others have theirs before this one is begun: whoever always finds its next request there
 * would keep them waiting for a whole budget of requests. After the call and not before it, for one that finds nothing is to
 * wait in the turn of its last request: its last turn would be the short one after the yield, and nobody would know that
 * it is slow (docs/io-rules.md, R12). */
static inline void weft__has_read(struct weft__frame *f)
{
    if (weft__is_thread(f))
        return;
    const struct weft__sched *s = weft__self();
    if (f->read_in == own(s->began) && weft__sched_ticks(s) - own(s->began) > weft__us_to_ticks(WEFT__SLICE_US)) {
        weft__spent(f);
        s = weft__self();
    }
    f->read_in = own(s->began);
}

/* Around a call that may wait, where it is the last step of one of the user's calls. Without this the last step may be a jump,
 * and then, while it waits, what the user has called is not on the stack for `weft ps` and gdb to find
 * (tests/on_stack_test.py). */
static inline int weft__on_stack(int rc)
{
    __asm__ volatile("" : "+r"(rc) : : "memory");
    return rc;
}

/* Sleeps 1 ms whatever was cancelled. */
void weft__nap(struct weft__frame *f);

/* ---- coord/task.c: the parts of weft_task_join, for who waits for other things, too */

/* Lies in a frame, reachable under the lock of its bucket; fired with WEFT__CAUSE_EVENT. */
struct weft__joiner {
    struct weft__link link;
    weft_task id;
    weft__token token;
};
/* 1 it lives; 0 it has ended; what the join returns at once: -EINVAL, -EDEADLK, an id that is an errno. */
int weft__join_look(const struct weft__frame *f, weft_task id);
/* W3, of a task that lived. False: it has ended. */
bool weft__join_publish(struct weft__joiner *j);
/* After the wait, however it ended. */
void weft__join_unpublish(struct weft__joiner *j);

/* A thread's block has a generation, though no id that anybody sees. */
uint64_t weft__id_of_thread(const struct weft__frame *f);

#endif
