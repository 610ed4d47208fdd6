/* sched/sched.h - one worker's scheduler: what it runs now, its queues, and how a turn ends.
 *
 * The rooms below reach the scheduler by four verbs: suspend, fire, spawn, and claim (a joiner's). A turn ends
 * by suspend, yield or the end of the task; then the next task is picked on the stack that is left and
 * switched to directly. The worker's own loop (engine/worker.c) gets its turn when there is nothing to pick,
 * every 61 turns, every millisecond, and before a task that is known to be slow.
 */
#ifndef WEFT_SCHED_SCHED_H
#define WEFT_SCHED_SCHED_H

#include "base/clock.h"
#include "base/hidden.h"
#include "base/list.h"
#include "machine/context.h"
#include "sched/chaos.h"
#include "sched/deque.h"
#include "sched/idle.h"
#include "sched/inject.h"
#include "sched/place.h"
#include "sched/private.h"
#include "sched/ready.h"
#include "sched/wait.h"

/* Rules in time (docs/io-rules.md). Kept in one place. */
enum {
    WEFT__LONG_US = 100,   /* R1: a turn longer than this makes its worker absent */
    WEFT__SPIN_US = 60,    /* R5: how long the poller looks for work before it parks */
    WEFT__DRAIN_US = 500,  /* R4: a ring that takes this long to drain wakes one more */
    WEFT__AGE_US = 1000,   /* R4: so does a task that has waited this long; R13: a turn that others do not wait for */
    WEFT__TICK_US = 1900,  /* R8, R10: the I/O thread's look at the workers; with the wake, 2 ms */
    WEFT__TIMERS_US = 100, /* R8: between two wakes for timers that no worker looks after */
    WEFT__NEXT_US = 50,    /* a next slot is stolen from an owner that has not moved for this long */
    WEFT__LOOP_TURNS = 61, /* R3: turns between two visits of the worker's loop */
    WEFT__NEXT_STREAK = 3, /* turns in a row that a next slot may take; */
    WEFT__NEXT_SHORT = 32, /* so many, if they are short: all of them together */
    WEFT__NEXT_SHORT_US = 5, /* take less than this */
    WEFT__HANDED = 3,      /* R16: hand-overs or yields in a row without a look at the clock, */
    WEFT__HANDED_US = 10,  /* but after some that took longer, together, */
    WEFT__EXACT = 256,     /* none for so many turns */
    WEFT__OLDEST_US = 10000, /* X3: the oldest spawned task is passed over no longer */
    WEFT__BUDGET = 128,    /* operations that did not wait, then a task yields */
    WEFT__SLICE_US = 50    /* R12: a turn longer than this ends at the next read or accept after one */
};

struct weft__detail;
struct weft__side;
struct weft__scope_extra;
struct weft__group;
struct weft__keeps;
struct weft__topology;

/* The running part of a task, of a worker's loop, or of a plain thread. It lives at the top of the task's stack,
 * or in the C frame of the joiner that runs an unstarted child (coord/child.c). */
struct weft__frame {
    struct weft__context context;
    struct weft__task *task; /* NULL: a worker's loop */
    weft_task id;
    struct weft__group *group; /* NULL: a plain thread */
    struct weft__stack *stack; /* that it runs on: its own, its joiner's, or of the generator whose body it runs */
    struct weft__sched *ran_on; /* the worker of its last turn */
    struct weft__frame *below; /* the joiner on whose stack it runs, NULL if the stack is its own */
    uint64_t begun;            /* own: ticks at which the turn began in which it was started */
    uint64_t epoch_ok;         /* own: no cancel applied to it in this epoch (coord/cancel.c) */
    int budget;
    /* From here to `down` 0 at first: one beside the other, since that is written of each child. What a wait looks at is before
     * `side`, in the frame's first two lines. */
    int refusals;
    struct weft_scope *inner;  /* innermost open scope; written and read by the task alone */
    /* For reports, and `left` for R16: own(), since whoever reads them is not waited for. */
    uint64_t waits; /* of its last wait: {enum weft__waits : 8 | what for : 56} */
    uint64_t left;  /* ticks at which it last left its worker, or (R16) its worker last looked before that */
    uint64_t read_in; /* the turn (its `began`) in which it last read something */
    uint16_t level, shield;    /* nesting of scopes, and of the innermost shield */
    int held; /* mutexes (sync/mutex.c) */
    bool keep_fp;
    at_int attached; /* under the lock of the owner scope, as `down` (coord/tree.c) */
    struct weft__side *side; /* options and a large copied argument, or NULL */
    struct weft__detail *detail;
    struct weft__scope_extra *named; /* of the innermost open scope that has a name (coord/scope.c) */
    struct weft__keeps *keeps; /* what is to be let go at the task's end, or NULL (coord/keeps.h) */
    struct weft_scope *down;
    weft_fn *fn;
    void *arg;
    void *site;     /* where it was spawned: a return address */
    at_word chaos; /* {number : 48 | worker of its last turn + 1 : 16}; 0 until its first turn ends (sched/chaos.c) */
    at_int timed; /* a plain thread that waits until a time, too (engine/leap.c) */
    struct weft__frame *starter; /* the next of the worker's starters */
    uint32_t fp[2];
    _Alignas(16) uint64_t copy[2]; /* a small copied argument */
};
_Static_assert(sizeof(struct weft__frame) <= WEFT__STACK_ROOM, "the frame is at the top of its stack");
_Static_assert(sizeof(struct weft__context) > sizeof(void *) || offsetof(struct weft__frame, side) <= 128, "two lines of a cache");

/* What a task waits for, and of which object. */
enum weft__waits {
    WEFT__WAITS_NOT,      /* it never did */
    WEFT__WAITS_SLEEP,
    WEFT__WAITS_TASK,     /* the end of a task: its id's low bits */
    WEFT__WAITS_CHILDREN, /* a scope's: its address */
    WEFT__WAITS_READ,     /* a descriptor */
    WEFT__WAITS_WRITE,
    WEFT__WAITS_READY,    /* the same, either direction */
    WEFT__WAITS_BLOCKING, /* a call in the pool: the function's address; and so in the other lanes */
    WEFT__WAITS_FILES,
    WEFT__WAITS_NAMES,
    WEFT__WAITS_LANE,     /* one of the program's */
    WEFT__WAITS_NAP,      /* refused too often */
    /* These, of an object's address. */
    WEFT__WAITS_SEND,
    WEFT__WAITS_RECV,
    WEFT__WAITS_DRAIN,    /* until all items that were taken off a channel are done with */
    WEFT__WAITS_SELECT,   /* the cases' */
    WEFT__WAITS_MUTEX,
    WEFT__WAITS_RWLOCK_READ,
    WEFT__WAITS_RWLOCK_WRITE,
    WEFT__WAITS_COND,
    WEFT__WAITS_EVENT,
    WEFT__WAITS_NOTIFY,
    WEFT__WAITS_SEM,
    WEFT__WAITS_BARRIER,
    WEFT__WAITS_WAITGROUP,
    WEFT__WAITS_ONCE,
    WEFT__WAITS_PROMISE,
    WEFT__WAITS_TIMER,
    WEFT__WAITS_DELAY
};

/* What the rooms below register (engine/runtime.c): the scheduler runs tasks without knowing what ends them. */
struct weft__sched_ops {
    /* coord/child.c: runs the claimed task on stack k, in frame f, and tells its scope. */
    void (*body)(struct weft__frame *f, struct weft__task *t, struct weft__stack *k);
    void (*no_stack)(struct weft__sched *s, struct weft__task *t); /* claimed, but cannot run */
    bool (*told)(struct weft__frame *f); /* to leave; moves its epoch_ok to what was looked at (coord/cancel.c) */
};

enum weft__after { WEFT__AFTER_NOTHING, WEFT__AFTER_WAIT, WEFT__AFTER_YIELD, WEFT__AFTER_START, WEFT__AFTER_STACK };

struct weft__counters {
    at_word ran, inlined, spawned, stolen, failed, migrated, parked, woke, polls, events;
};

/* Said before a wait, for whoever looks at the task meanwhile. */
static inline void weft__waits_for(struct weft__frame *f, enum weft__waits what, uint64_t object)
{
    own_set(f->waits, (uint64_t)what << 56 | (object & ((UINT64_C(1) << 56) - 1)));
}

/* Counters have one writer each and are read by anyone. */
static inline __attribute__((always_inline)) void weft__count(at_word *counter, uint64_t n)
{
    at_store(counter, at_load(counter) + n);
}

struct weft__sched {
    /* Written by the worker alone. */
    struct weft__frame *frame; /* who runs now */
    struct weft__group *group;
    struct weft__chaos *chaos; /* NULL: the schedule is not perturbed, nor its time virtual */
    uint32_t id;
    int until_loop;      /* turns left before the loop is due */
    uint64_t loop_due;   /* ticks at which it is due in any case */
    uint64_t began;      /* ticks at which the present turn began, or (R16) the first of some short ones did */
    bool first_turn;     /* it is its task's first */
    uint32_t slow;       /* R1: whose last_run is more is slow, as weft__task_slow says */
    int hands;           /* R16: so many more turns may be handed on; < 0: as many are timed, each by itself, before that */
    uint64_t long_from;  /* when the last ones that took too long together began: `left` of who was among them */
    uint64_t mean_run;   /* running mean (1/8) of turns, in ticks, each counted as 1 ms at most */
    uint64_t rng;
    uint64_t draws; /* of its tasks: as many as they make, so with one worker a run is exact */
    struct weft__task *picked; /* for the loop to run: a slow task, or the oldest */
    bool picked_new;
    struct weft__task *yielder; /* came back to the loop by yielding; not queued yet */
    int ring_first;             /* turns that only the ring may have */
    struct weft__frame *starters; /* go before all others, the last first: what they have begun has had its first turn */
    bool breathing;            /* a chain of inlined joins let the loop have its turn */
    struct weft__frame *after_frame; /* what the next context does for the last: */
    enum weft__after after;
    int streak, flip;
    uint64_t streak_from; /* ticks at which the turn before it began */
    bool searching; /* counted in the idle word; its own */
    struct weft__task_cache blocks;
    struct weft__stack_cache stacks, nested; /* of tasks, and of generators */
    struct weft__frame loop; /* the worker's own loop */
    struct weft__stack loop_stack;
    struct weft__counters count;

    /* Written by the worker, read by all. */
    _Alignas(128) at_word since; /* ticks at which the present turn began; moved back if it is slow; 0: in none */

    /* Written by all. */
    _Alignas(128) struct weft__private next; /* task index + 1: a just woken partner */
    struct weft__private newest;             /* the id of the last task it spawned; those before it are in the deque */
    _Alignas(128) at_int wake;  /* futex word of the parked worker: 1 it was woken */
    at_int asleep;              /* it is parked; by the worker, for reports */
    at_int resting;             /* a spare that is out of play; under the lock of the idle word, but read by anyone */
    struct weft__inject pinned; /* ready tasks that only this worker may run */

    struct weft__ready_ring ring;
    struct weft__deque deque;
};

/* The workers of one runtime, and what they share. */
struct weft__group {
    int n, cores;
    int room;               /* n, and the spares that may be started (engine/spare.c) */
    at_int seats;           /* n, and the spares that were started */
    at_int wanted;          /* of the spares only so many are to go on */
    at_int blocked;         /* of those in play, at the last look: they use no core */
    struct weft__sched **all; /* `room` of them */
    const struct weft__sched_ops *ops;
    const struct weft__topology *topology; /* of whoever has places */
    at_int *places; /* of each worker, by whom it is written: where it runs (sched/place.c); NULL: there is no choice */
    uint64_t chaos_seed; /* 0: none */
    uint64_t number;     /* 1, 2, ...: no other group of the process has had it */
    struct weft__clock clock;
    at_word numbers; /* sched/chaos.c */
    struct weft__idle idle;
    struct weft__inject inject;
    struct weft__inject errands; /* sched/errand.h */
    at_word visitors; /* others than its own workers that are at its queues: it is not freed under them */
    struct weft__stack_pool stacks;
    int default_class;
    uint32_t default_bits; /* of a spawned task: that class, and CHAOS with a seed */
};

/* The calling thread's worker, or NULL. It is the only way to it: after a suspension a compiler may go on using the old
 * thread's thread-locals, since it keeps their addresses. Here it sees none: address and value are read by instructions that
 * it does not look into, neither leaves out nor takes for the same twice (volatile), and does not move over a call (memory).
 * A call would do as well, and did; but all that is alive around it has to be saved: 2 to 5 of 100 instructions on most paths. */
#if defined(WEFT__SELF_BY_CALL) || !(defined(__x86_64__) || defined(__aarch64__))
struct weft__sched *weft__self(void);
#else
extern WEFT__HIDDEN __thread struct weft__sched *weft__self_tls __attribute__((tls_model("initial-exec")));
static inline __attribute__((always_inline)) struct weft__sched *weft__self(void)
{
    struct weft__sched *s;
#ifdef __x86_64__
    __asm__ volatile("movq weft__self_tls@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(s)::"memory");
#else
    void *at;
    __asm__ volatile("adrp %1, :gottprel:weft__self_tls\n\tldr %1, [%1, :gottprel_lo12:weft__self_tls]\n\t"
                     "mrs %0, tpidr_el0\n\tldr %0, [%0, %1]"
                     : "=r"(s), "=&r"(at)::"memory");
#endif
    return s;
}
#endif
void weft__self_set(struct weft__sched *s);

int weft__sched_init(struct weft__sched *s, struct weft__group *g, uint32_t id);
void weft__sched_fini(struct weft__sched *s);
/* The control blocks in its cache go back to the table. */
void weft__sched_return_blocks(struct weft__sched *s);

/* W4 and W6 for the task of `f`, which was left just now; `told` as in struct weft__sched_ops. True: it sleeps, or is
 * somebody else's already. False: the caller makes it runnable. */
bool weft__wait_look_again(struct weft__frame *f, struct weft__task *t, uint64_t asleep, bool (*told)(struct weft__frame *f));
static inline bool weft__wait_sleep(struct weft__frame *f, bool (*told)(struct weft__frame *f))
{
    struct weft__task *t = own(f->task);
    uint64_t epoch = own(f->epoch_ok), asleep = weft__wait_commit(t);
    if (asleep == 0)
        return false;
    at_fence_behind_rmw();
    return at_load(&weft__cancel_epoch) == epoch || weft__wait_look_again(f, t, asleep, told);
}
/* Ends the turn of the running task, whose wait has begun (W1); returns when it was fired. */
void weft__suspend(void);

/* Ends the turn; the task goes behind the others. Returns at once if there are none. */
void weft__yield_now(void);
/* The same for who does so of its own accord, after a short turn as a rule, which may not be timed (R16). */
void weft__yield_hand_on(void);

/* The running task begins `t`, which nobody else knows, and goes on when the first turn of that is over: until then it is no
 * more to be had for others than one that waits for a call to return. The id; 0: there is no stack, and nothing was done. */
weft_task weft__start_now(struct weft__task *t);

/* Gives the loop its turn: after 61 inlined joins, an exhausted budget. */
void weft__breathe(void);

/* The task on stack `k` has ended; goes on with the next one (sched.c's resident loop only). */
void weft__sched_ended(struct weft__stack *k);

/* Loop only: runs `t` until the loop is due again. */
void weft__sched_run(struct weft__sched *s, struct weft__task *t, bool is_new, uint64_t now);
/* The worker's loop, first thing: turns that were handed on (R16) have ended, by `now`. */
void weft__sched_took_over(struct weft__sched *s, uint64_t now);
/* Loop only: the last of the starters, or NULL. */
struct weft__task *weft__sched_starter(struct weft__sched *s);
/* Loop only: a ready task, or NULL; *is_new says that it was just claimed. */
struct weft__task *weft__sched_pick(struct weft__sched *s, bool *is_new);

/* Makes a READY task runnable, from any thread: by the running task into its worker's next slot, by a worker's
 * loop into its ring, else into the task's own runtime, waking a worker. A plain thread is woken. */
void weft__ready(struct weft__task *t);

/* Fires a wait. True: this call ended it. */
bool weft__fire(weft__token k, enum weft__cause cause);

/* The two halves of it, for whoever holds a lock that is to be let go in between. `task` NULL: it had not slept yet. */
struct weft__claimed {
    struct weft__task *task;
    bool thread;
};
static inline bool weft__claim_wait(weft__token k, enum weft__cause cause, struct weft__claimed *c)
{
    struct weft__task *t = weft__token_task(k);
    /* Looked at before the claim: a plain thread may see its wait ended before we wake it, go away, and leave its block
     * to a task. While the claim can still be won it has not. */
    c->thread = weft__task_has(t, WEFT__TASK_THREAD);
    if (weft__chaos_somewhere())
        weft__chaos_delay();
    enum weft__fired f = weft__wait_claim(k, cause);
    c->task = f == WEFT__FIRED_ENQUEUE ? t : NULL;
    return f != WEFT__TOO_LATE;
}
void weft__ready_claimed(struct weft__claimed c);

/* Pushes a ready task to the worker's ring, or half of that ring and the task to inject. For the worker, or who
 * has claimed it. */
void weft__sched_push(struct weft__sched *s, struct weft__task *t, uint64_t now);

/* Pushes it to the next slot of the worker, the caller, which runs a task. */
void weft__sched_put_next(struct weft__sched *s, struct weft__task *t);
/* What was drawn from a ring or a shared queue, claimed if it is new. */
struct weft__task *weft__sched_drawn(uint32_t index, bool *is_new);

/* Puts a NEW (QUEUED) or READY task into a queue from which only `pin` (or anyone) takes it, waking. */
void weft__group_put(struct weft__group *g, struct weft__task *t);
/* The same into the queue of one worker. */
void weft__group_put_to(struct weft__group *g, struct weft__task *t, struct weft__sched *s);

/* Tasks that have slept are cold: fetches what they will touch first, all at once instead of one miss after the other.
 * They are READY and in no queue yet, so their frames stay where they are. */
void weft__sched_prefetch(const uint32_t *tasks, uint32_t n);

/* The worker's ticks, by which it decides: the processor's, unless they are virtual. */
static inline uint64_t weft__sched_ticks(const struct weft__sched *s)
{
    return own(s->chaos) ? weft__chaos_ticks(s) : weft__ticks();
}
/* Those by which its group's workers are judged by another thread. Where they are virtual that is the one worker's last
 * turn; nothing but itself is late then. */
static inline uint64_t weft__group_ticks(const struct weft__group *g)
{
    const struct weft__sched *s = g->all[0];
    return g->n == 1 && g->clock.is_virtual ? at_load(&s->since) : weft__ticks();
}
/* All whose queues and timers are to be looked at. */
static inline int weft__group_seats(const struct weft__group *g)
{
    return (int)ati_load_acquire(&g->seats); /* meets the start of a spare */
}
static inline bool weft__sched_is_spare(const struct weft__sched *s)
{
    return s->id >= (uint32_t)s->group->n;
}
/* It hands over what it has, and goes out of play. */
static inline bool weft__sched_dismissed(const struct weft__sched *s)
{
    return weft__sched_is_spare(s) && s->id - (uint32_t)s->group->n >= ati_load(&s->group->wanted);
}
/* Every worker sleeps, and has told so; acquire: meets P1. */
static inline bool weft__group_all_parked(const struct weft__group *g)
{
    uint64_t w = at_load_acquire(&g->idle.word);
    return (int)(w & 0xffff) == g->n && w >> 32 == 0;
}
/* Nobody is awake but `absent` ones. */
static inline bool weft__group_awake_absent(const struct weft__group *g, int absent)
{
    uint64_t w = at_load(&g->idle.word);
    return absent + (int)(w & 0xffff) >= g->n + (int)(w >> 32);
}
/* Whether somebody has looked too long at one task for its queue to be left alone (R1). */
static inline bool weft__sched_absent(const struct weft__sched *s, uint64_t now)
{
    uint64_t since = at_load(&s->since);
    return since != 0 && (int64_t)(now - since) > (int64_t)weft__us_to_ticks(WEFT__LONG_US);
}
/* Whether its last turn was longer. */
static inline bool weft__task_longer(const struct weft__task *t, uint64_t us)
{
    return ((uint64_t)ati_load(&t->u.run.last_run) << 10) > weft__us_to_ticks(us);
}
static inline bool weft__task_slow(const struct weft__task *t)
{
    return weft__task_longer(t, WEFT__LONG_US);
}
/* What any worker may take. */
static inline bool weft__group_has_work(const struct weft__group *g)
{
    return weft__inject_len(&g->inject) > 0 || weft__inject_len(&g->errands) > 0;
}
/* What nobody but the worker takes unless it stays too long with something else. */
static inline bool weft__sched_has_private(const struct weft__sched *s)
{
    return weft__private_has(&s->next) || weft__private_has(&s->newest);
}
static inline bool weft__sched_has_work(const struct weft__sched *s)
{
    return weft__ready_len(&s->ring) > 0 || weft__deque_size(&s->deque) > 0 || weft__sched_has_private(s);
}

/* Spawned, not yet started tasks of the worker, by the worker: the newest to itself, those before it in the deque. False: no
 * memory for a longer deque, the task was not taken. */
static inline bool weft__spawned_push(struct weft__sched *s, uint64_t id)
{
    if (weft__private_has(&s->newest) && !weft__deque_reserve(&s->deque))
        return false;
    uint64_t older = weft__private_put(&s->newest, id);
    if (older != 0)
        weft__deque_put(&s->deque, older);
    return true;
}
/* The newest, 0 if there is none. */
static inline uint64_t weft__spawned_take(struct weft__sched *s)
{
    uint64_t id = weft__private_take(&s->newest);
    return id != 0 ? id : weft__deque_take(&s->deque);
}
/* It was just taken. */
static inline void weft__spawned_put_back(struct weft__sched *s, uint64_t id)
{
    weft__expect(weft__private_put(&s->newest, id) == 0);
}
/* True: it was the newest, and is taken. */
static inline bool weft__spawned_take_this(struct weft__sched *s, uint64_t id)
{
    return at_load(&s->newest.item) == id && weft__private_change(&s->newest, id, 0) != 0;
}
static inline uint64_t weft__spawned_count(const struct weft__sched *s)
{
    return weft__deque_size(&s->deque) + weft__private_has(&s->newest);
}

#endif
