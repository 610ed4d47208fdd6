/* sched/wait.h - one suspended wait and who may end it.
 *
 * A wait ends by whoever moves the task's state word on first: the event, a cancel, or the task itself. Losers
 * do nothing. The winner, and only the winner, makes the task runnable, exactly once.
 *
 *     waiting task                                  whoever fires it
 *     W1  state = PREPARING, a new ticket           F1  load the state; another ticket: too late
 *     W2  told to leave? then W5                    F2  PREPARING -> FIRED: done, W4 sees to the rest
 *     W3  publish {index, ticket} in the source     F3  WAITING -> READY: enqueue it
 *     W4  on the next context, registers saved:
 *         PREPARING -> WAITING, or FIRED -> READY: enqueue it itself
 *         -- full fence, which W4 is on x86-64 --
 *     W5  give up: PREPARING -> RUNNING, or it was FIRED: take that
 *     W6  a cancel anywhere since W2? Take the wait back, WAITING -> PREPARING, unless it was fired; told to leave? then
 *         fire it; and W4 again
 *
 * W1/W2 and W4/W6 against a cancel, which sets its mark, moves its epoch on, fences, and then looks at states
 * (coord/cancel.c). Between W1 and W2 is no fence: W2 is done to refuse a call at once, W6 decides.
 * Forbidden: W2 sees no mark, the cancel sees neither PREPARING nor WAITING, and W6 no other epoch. Then nobody wakes the
 * task. If the cancel missed W4, its fence came before the one behind W4, and W6 sees its epoch.
 * After W4 the task may run elsewhere: W6 touches nothing of it but the state until it has taken the wait back.
 * A plain thread, which is its own next context, has a fence between W1 and W2 instead (coord/await.c).
 *
 * A token {index : 24 | ticket : 40} stands for one wait. It is copied, never a pointer into a stack, so it
 * can be fired at any time later, when it does nothing.
 *
 * Source    the claim by one word is Reppy's CML commit and Go's sudog selectDone; the fixed W4 is ours.
 * Tested    tests/wait_test.c, tests/explore (every interleaving), stress/wait.c
 */
#ifndef WEFT_SCHED_WAIT_H
#define WEFT_SCHED_WAIT_H

#include "base/hidden.h"
#include "sched/task.h"

typedef uint64_t weft__token; /* 0: none */

enum weft__cause {
    WEFT__CAUSE_EVENT = 0,
    WEFT__CAUSE_CANCEL = 1, /* told to leave */
    WEFT__CAUSE_CLOSED = 2, /* what it waits on was closed */
    WEFT__CAUSE_SERVED = 3  /* an event at an object, and its server has not done yet (sync/waiter.h, A4) */
};

enum {
    WEFT__LEVEL_NONE = 0xffff, /* no cancel applies to this wait */
    WEFT__LEVEL_HARD = 0xfffe  /* of a cancel that breaks shields: above all of theirs */
};

static inline weft__token weft__token_make(const struct weft__task *t, uint64_t ticket)
{
    return (uint64_t)weft__task_index(t) << 40 | (ticket & WEFT__NUMBER_MASK);
}
static inline struct weft__task *weft__token_task(weft__token k)
{
    return weft__task_at((uint32_t)(k >> 40));
}

/* W1. `level`: the innermost shield's (0 none), below which cancels do not apply; WEFT__LEVEL_NONE. */
static inline weft__token weft__wait_begin(struct weft__task *t, unsigned level)
{
    uint64_t ticket = (at_load(&t->ticket) + 1) & WEFT__NUMBER_MASK;
    at_store(&t->ticket, ticket);
    at_store_release(&t->state, weft__state(ticket, level, 0, WEFT__PREPARING));
    return weft__token_make(t, ticket);
}

/* W5. True: nobody fired it and nobody can any more. False: it was fired, see weft__wait_cause. */
static inline bool weft__wait_give_up(struct weft__task *t)
{
    uint64_t s = at_load(&t->state);
    uint64_t ticket = weft__number_of(s);
    if (weft__phase_of(s) == WEFT__PREPARING &&
            at_cas(&t->state, s, weft__state(ticket, 0, 0, WEFT__RUNNING)))
        return true;
    return false;
}

/* What ended the wait. Called by the task once it runs again; FIRED or READY -> RUNNING.
 * acquire: meets the CAS of weft__fire; what the firer wrote before is seen. */
static inline enum weft__cause weft__wait_cause(struct weft__task *t)
{
    uint64_t s = at_load_acquire(&t->state);
    weft__debug_expect(weft__phase_of(s) == WEFT__FIRED || weft__phase_of(s) == WEFT__READY);
    at_store(&t->state, weft__state(weft__number_of(s), 0, 0, WEFT__RUNNING));
    return (enum weft__cause)(s >> WEFT__CAUSE_SHIFT & 15);
}

enum weft__fired {
    WEFT__TOO_LATE, /* another has ended this wait, or it gave up */
    WEFT__FIRED_NOW, /* won; the task has not slept yet and sees to itself */
    WEFT__FIRED_ENQUEUE /* won; the caller has to make it runnable: weft__ready */
};

/* F1 to F3, by token. */
static inline enum weft__fired weft__wait_claim(weft__token k, enum weft__cause cause)
{
    struct weft__task *t = weft__token_task(k);
    uint64_t ticket = k & WEFT__NUMBER_MASK;
    for (;;) {
        uint64_t s = at_load_acquire(&t->state);
        enum weft__phase p = weft__phase_of(s);
        if (weft__number_of(s) != ticket || (p != WEFT__PREPARING && p != WEFT__WAITING))
            return WEFT__TOO_LATE;
        enum weft__phase next = p == WEFT__PREPARING ? WEFT__FIRED : WEFT__READY;
        if (at_cas(&t->state, s, weft__state(ticket, 0, cause, next)))
            return p == WEFT__PREPARING ? WEFT__FIRED_NOW : WEFT__FIRED_ENQUEUE;
    }
}

/* The same for a cancel from a scope of nesting level `level`, of whatever wait the task is in now. */
static inline enum weft__fired weft__wait_claim_cancel(struct weft__task *t, unsigned level)
{
    for (;;) {
        uint64_t s = at_load_acquire(&t->state);
        enum weft__phase p = weft__phase_of(s);
        if ((p != WEFT__PREPARING && p != WEFT__WAITING) ||
                (s >> WEFT__LEVEL_SHIFT & 0xffff) > level)
            return WEFT__TOO_LATE;
        enum weft__phase next = p == WEFT__PREPARING ? WEFT__FIRED : WEFT__READY;
        if (at_cas(&t->state, s, weft__state(weft__number_of(s), 0, WEFT__CAUSE_CANCEL, next)))
            return p == WEFT__PREPARING ? WEFT__FIRED_NOW : WEFT__FIRED_ENQUEUE;
    }
}

/* W4, on the next context (or, for a plain thread, by itself). It sleeps now, in the state that is returned. 0: it was
 * fired meanwhile and is READY: the caller makes it runnable. */
static inline uint64_t weft__wait_commit(struct weft__task *t)
{
    uint64_t s = at_load(&t->state);
    uint64_t ticket = weft__number_of(s), asleep = s - WEFT__PREPARING + WEFT__WAITING;
    if (weft__phase_of(s) == WEFT__PREPARING &&
            /* release: who fires it from now on finds the registers saved; meets the acquire of weft__wait_claim */
            at_cas_release(&t->state, s, asleep))
        return asleep;
    s = at_load_acquire(&t->state);
    at_store_release(&t->state,
            weft__state(ticket, 0, (unsigned)(s >> WEFT__CAUSE_SHIFT & 15), WEFT__READY));
    return 0;
}

/* How many cancels there were; moved on by coord/cancel.c. */
extern WEFT__HIDDEN at_word weft__cancel_epoch;

/* W6 of a wait that W4 has left `asleep`, where the epoch is another one than W2's. True: it is in PREPARING again, and
 * the caller's. False: no cancel applies to it, or it was fired. */
static inline bool weft__wait_take_back(struct weft__task *t, uint64_t asleep)
{
    return (asleep >> WEFT__LEVEL_SHIFT & 0xffff) != WEFT__LEVEL_NONE &&
           at_cas(&t->state, asleep, asleep - WEFT__WAITING + WEFT__PREPARING);
}

#endif
