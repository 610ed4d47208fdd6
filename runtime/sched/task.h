/* sched/task.h - the control block of a task: what queues, wakers and ids refer to.
 *
 * Blocks live in one table that is never unmapped, so whoever holds an index may look at the block at any
 * time, however late; the state word tells it that it is too late. That of a free block may also have become zero
 * (task.c, N4), which says the same.
 */
#ifndef WEFT_SCHED_TASK_H
#define WEFT_SCHED_TASK_H

#include <weft/scope.h>

#include "base/atomic.h"
#include "base/hidden.h"
#include "base/panic.h"
#include "machine/context.h"

/* The state word: {number : 40 | level : 16 | cause : 4 | phase : 4}.
 *
 *   phase      number       who moves it on
 *   FREE       generation   the allocator
 *   NEW        generation   whoever claims it to run it (one CAS: owner, thief or joiner)
 *   RUNNING    ticket       the task itself; so it is while in a ready ring after a yield
 *   PREPARING  ticket       the task is about to wait and can be fired already
 *   WAITING    ticket       the first to fire it: event, cancel
 *   FIRED      ticket       was fired while PREPARING; it does not sleep
 *   READY      ticket       was fired while WAITING; it is in a run queue
 *
 * Only task.c and wait.c write it. Numbers never repeat for a block: the generation counts its lives, the
 * ticket its waits, and neither is ever reset. 40 bits of tickets last for hours of nothing but waiting, and a
 * stale ticket lives no longer than its waker is preempted; a block whose generations are used up is retired.
 */
enum weft__phase {
    WEFT__FREE,
    WEFT__NEW,
    WEFT__RUNNING,
    WEFT__PREPARING,
    WEFT__WAITING,
    WEFT__FIRED,
    WEFT__READY
};

enum {
    WEFT__NUMBER_SHIFT = 24,
    WEFT__LEVEL_SHIFT = 8,
    WEFT__CAUSE_SHIFT = 4,
    WEFT__INDEX_BITS = 24,
    WEFT__GENERATION_BITS = 37
};
#define WEFT__NUMBER_MASK ((UINT64_C(1) << 40) - 1)

static inline uint64_t weft__state(uint64_t number, unsigned level, unsigned cause, enum weft__phase p)
{
    return number << WEFT__NUMBER_SHIFT | (uint64_t)level << WEFT__LEVEL_SHIFT |
            cause << WEFT__CAUSE_SHIFT | (unsigned)p;
}
static inline enum weft__phase weft__phase_of(uint64_t state)
{
    return (enum weft__phase)(state & 15);
}
static inline uint64_t weft__number_of(uint64_t state)
{
    return state >> WEFT__NUMBER_SHIFT;
}

/* The life word: the task's id while it lives, 0 when it does not; and three marks beside it. */
#define WEFT__LIFE_JOINERS (UINT64_C(1) << 63) /* somebody waits in the join table */
#define WEFT__LIFE_HELD (UINT64_C(1) << 62)    /* somebody needs it not to end just now (coord/task.c) */
#define WEFT__LIFE_CANCELLED (UINT64_C(1) << 61) /* weft_task_cancel */
#define WEFT__LIFE_ID (WEFT__LIFE_CANCELLED - 1)

enum {
    WEFT__TASK_THREAD = 1,    /* stands for a plain thread: fired by futex, not enqueued */
    WEFT__TASK_SIDE = 2,      /* side points to options (coord/side.c), until started */
    WEFT__TASK_COPY = 4,      /* arg and side hold a copied argument, until started */
    WEFT__TASK_QUEUED = 16, /* born into a queue other than a deque: only who draws it may claim it */
    WEFT__TASK_STARTED = 8,   /* side points to its frame */
    WEFT__TASK_CHAOS = 64,    /* its joiner inlines it by chance (sched/chaos.c) */
    WEFT__TASK_FP = 32,       /* has floating-point control words of its own: not inlined */
};
#define WEFT__TASK_PIN (~UINT32_C(0) << 16) /* the pin's bits */

struct weft__task {
    at_word state;
    at_word life;
    at_word ticket; /* the last one used; written by the task alone */
    at_word scope;  /* struct weft_scope *, the owner */
    at_word fn; /* weft_fn * */
    union {
        at_word arg; /* NEW */
        struct {     /* afterwards */
            at_int ready_at; /* when it was last made ready, in ticks >> 10 */
            at_int last_run; /* how long its last turn was, in ticks >> 10 */
        } run;
    } u;
    at_word side; /* NEW: where it was spawned, or options, or a copied argument; afterwards struct weft__frame * */
    at_int link;  /* next in an inject or free list: index + 1, 0 none */
    at_int bits;  /* {pin : 16 | stack class : 8 | WEFT__TASK_* : 8}; pin is worker + 1, 0 any */
};
_Static_assert(sizeof(struct weft__task) == 64, "one cache line, and what a queued task costs");

static inline uint32_t weft__task_pin(const struct weft__task *t)
{
    return ati_load(&t->bits) >> 16;
}
static inline int weft__task_class(const struct weft__task *t)
{
    return (int)(ati_load(&t->bits) >> 8 & 255);
}
static inline bool weft__task_has(const struct weft__task *t, unsigned flag)
{
    return (ati_load(&t->bits) & flag) != 0;
}
static inline uint32_t weft__task_bits(uint32_t pin, int class_index, unsigned flags)
{
    return pin << 16 | (uint32_t)class_index << 8 | flags;
}

/* Beside each block: its neighbours in its scope's list of members (coord/tree.c), index + 1, 0 none: here and not in the
 * frame, so that leaving a list does not touch the cold stacks of the neighbours. NEW, with a copied argument: where it
 * was spawned. (Of all tasks it would cost skynet a fifth: eight share a line, and are others' after a steal.) */
union weft__member {
    at_word site;
    struct {
        at_int next, prev;
    };
};

extern WEFT__HIDDEN struct weft__task *weft__tasks;
extern WEFT__HIDDEN union weft__member *weft__members;
extern WEFT__HIDDEN at_int weft__tasks_used; /* see weft__task_table_used */

static inline struct weft__task *weft__task_at(uint32_t index)
{
    return &weft__tasks[index];
}
static inline uint32_t weft__task_index(const struct weft__task *t)
{
    return (uint32_t)(t - weft__tasks);
}
static inline uint32_t weft__id_index(weft_task id)
{
    return (uint32_t)id & ((1u << WEFT__INDEX_BITS) - 1);
}
static inline uint64_t weft__id_generation(weft_task id)
{
    return (uint64_t)id >> WEFT__INDEX_BITS;
}

/* One worker's free blocks, linked by index: at most a batch, and a whole one beside it. */
enum { WEFT__TASK_BATCH = 128 };
struct weft__task_cache {
    uint32_t head, spare; /* index + 1 */
    int count;            /* in the list at head */
};

/* Reserves the table; once a process, from any thread. 0 or -ENOMEM. */
int weft__task_table_init(void);

/* A block in phase FREE, taken off the free list; NULL when there is no memory. c NULL: no worker. */
struct weft__task *weft__task_alloc_slow(struct weft__task_cache *c);
void weft__task_free_slow(struct weft__task_cache *c, struct weft__task *t);
/* All that is in the cache goes back. */
void weft__task_cache_return(struct weft__task_cache *c);

/* NULL: there is none in the cache. */
static inline struct weft__task *weft__task_alloc_cached(struct weft__task_cache *c)
{
    uint32_t head = own(c->head);
    if (head == 0)
        return NULL;
    struct weft__task *t = weft__task_at(head - 1);
    uint32_t next = ati_load(&t->link);
    if (next)
        at_prefetch(weft__task_at(next - 1));
    own_set(c->head, next);
    own_set(c->count, own(c->count) - 1);
    return t;
}

static inline struct weft__task *weft__task_alloc(struct weft__task_cache *c)
{
    struct weft__task *t = c ? weft__task_alloc_cached(c) : NULL;
    return t ? t : weft__task_alloc_slow(c);
}

/* Gives the block its next life, up to phase NEW, whose publication is release: whoever claims it sees the
 * fields. The caller has filled fn, arg, scope, pin, class, flags and side. */
static inline weft_task weft__task_begin(struct weft__task *t)
{
    uint64_t generation = weft__number_of(at_load(&t->state)) + 1;
    weft_task id = (weft_task)(generation << WEFT__INDEX_BITS | weft__task_index(t));
    /* release: who has the id from the table (weft_task_list) and holds the life finds the fields. To ThreadSanitizer the tasks of
     * one worker are threads that nothing orders, so a release by this one would hide that of the block's former task, which
     * its joiner meets; there another word stands for it. */
#ifdef WEFT__TSAN
    weft__hb_release(&t->fn);
    at_store(&t->life, (uint64_t)id);
#else
    at_store_release(&t->life, (uint64_t)id);
#endif
    at_store_release(&t->state, weft__state(generation, 0, 0, WEFT__NEW));
    return id;
}

/* NEW -> RUNNING. One claimer wins; acquire: it sees what the spawner wrote. */
static inline bool weft__task_claim(struct weft__task *t, weft_task id)
{
    uint64_t generation = weft__id_generation(id);
    return at_cas_acquire(&t->state, weft__state(generation, 0, 0, WEFT__NEW),
            weft__state(at_load(&t->ticket), 0, 0, WEFT__RUNNING));
}

/* The same when nobody else can: the caller has its only queue entry, and nobody joins it. */
static inline void weft__task_claim_own(struct weft__task *t)
{
    at_store(&t->state, weft__state(at_load(&t->ticket), 0, 0, WEFT__RUNNING));
}

/* Whether it still waits to be started. */
static inline bool weft__task_is_new(const struct weft__task *t, weft_task id)
{
    return at_load(&t->state) == weft__state(weft__id_generation(id), 0, 0, WEFT__NEW);
}

/* RUNNING -> FREE, keeping the generation for the next life. The life word is 0 already. */
static inline void weft__task_recycle(struct weft__task_cache *c, struct weft__task *t, weft_task id)
{
    weft__debug_expect(weft__phase_of(at_load(&t->state)) == WEFT__RUNNING);
    uint64_t generation = weft__id_generation(id);
    at_store_release(&t->state, weft__state(generation, 0, 0, WEFT__FREE));
    if (!c || own(c->count) >= WEFT__TASK_BATCH || generation >= (UINT64_C(1) << WEFT__GENERATION_BITS) - 1) {
        weft__task_free_slow(c, t);
        return;
    }
    ati_store(&t->link, own(c->head));
    own_set(c->head, weft__id_index(id) + 1);
    own_set(c->count, own(c->count) + 1);
}

/* How many blocks have ever been used: [0, that) can be looked at. */
uint32_t weft__task_table_used(void);

/* The memory of free blocks comes back in two kinds of steps of some microseconds, from any thread (engine/trim.c): first
 * blocks are sorted into their pages, then pages that are free all over are given back. How many, or whether any: 0 or false,
 * there was nothing. A block without memory reads as zeros: FREE, and its numbers go on from where they were when it is
 * taken again. */
uint32_t weft__task_table_sort(void);
bool weft__task_table_give_back(void);
/* How many blocks are not sorted. It is not worth while if there are fewer than the reserve, which are in use elsewhere
 * perhaps. */
uint32_t weft__task_table_loose(void);
enum { WEFT__TASK_TABLE_RESERVE = 4096 };
/* All generations up to this one are over, whatever the block says (N3): for who read a FREE block, with acquire. */
uint64_t weft__task_table_kept(uint32_t index);

#endif
