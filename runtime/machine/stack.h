/* machine/stack.h - memory for stacks: slabs, guards, classes, caches.
 *
 * A class is a guarantee: class k promises 16 KiB << k to the function that runs on it. The slot is larger,
 * at least twice that, so that a joined child can run on its joiner's stack and still have its whole own
 * guarantee. Address space is free, memory is committed by touch.
 * Every stack has a guard below it, 16 KiB that cannot be touched. None is ever handed out without.
 */
#ifndef WEFT_MACHINE_STACK_H
#define WEFT_MACHINE_STACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/futex.h"
#include "base/hidden.h"

enum { WEFT__STACK_CLASSES = 10, WEFT__STACK_ROOM = 320, WEFT__GUARD_BYTES = 16384 };

/* A context that is not running (context.h). */
struct weft__context {
    void *sp;
#ifdef WEFT__ASAN
    void *fake; /* AddressSanitizer's fake stack of it */
#endif
#if defined(WEFT__TSAN) || defined(WEFT__ASAN)
    at_int *word; /* weft__context_hand's, for who is taken up; NULL: weft__context_switch's */
    uint32_t value;
    int rc;
#endif
};

/* The head of a stack, at its very top, in the page that is touched anyway. */
struct weft__stack {
    struct weft__stack *next; /* in a cache, or in a batch of the pool */
    struct weft__stack *batch; /* of a batch's first: the pool's next batch */
    int batched;              /* of a batch's first: how many it has */
    char *low, *high;         /* usable bytes [low, high); the guard is below */
    struct weft__stack_slab *slab;
    int class_index;
    bool begun;               /* its resident loop exists, and `resident` is where it waits for a task */
    bool nested;              /* it is a generator's, which is in its room */
    struct weft__context resident;
    void *task;               /* what the loop runs next */
    void *fiber;              /* ThreadSanitizer's idea of it */
    /* The running part of the task that owns this stack (sched/sched.h), or the generator (coord/gen.c). */
    _Alignas(16) char room[WEFT__STACK_ROOM];
};

struct weft__stack_slab;

/* Shared by the workers of a runtime; another one by all threads of the process, for generators. */
struct weft__stack_pool {
    at_int starved; /* a stack was refused: from then on no worker keeps any that another could use */
    at_int by_map;  /* the kernel has no MADV_GUARD_INSTALL */
    at_int singly;  /* it has no process_madvise that does it, and more, for several stacks */
    at_word guards_by_map; /* stacks guarded by mprotect, each two mappings of the process */
    at_word fresh; /* bytes guaranteed by all stacks that were handed out without memory; written under the lock */
    /* The rest is under the lock. */
    _Alignas(64) struct weft__lock lock;
    struct weft__stack *idle[WEFT__STACK_CLASSES]; /* in batches: nothing cold is walked under the lock */
    struct weft__stack *bare[WEFT__STACK_CLASSES]; /* cut, but no guard was to be had */
    struct weft__stack_slab *slabs[WEFT__STACK_CLASSES];
    struct weft__stack_slab *empty[WEFT__STACK_CLASSES]; /* with stacks that gave their memory back */
    bool keeps;     /* memory does not come back: it is locked */
    long made;      /* stacks that exist */
};

/* One worker's own. LIFO: the hottest first. */
struct weft__stack_cache {
    struct weft__stack *idle[WEFT__STACK_CLASSES];
    int count[WEFT__STACK_CLASSES];
};

/* The smallest class that guarantees `bytes`, or -1. Where the libraries of a program need more than it asked for, all
 * classes can be scaled without changing it: the smallest that guarantees `weft__stack_scale` times that, or the largest
 * there is. Written at the start of a runtime, from WEFT_STACK in the environment; 0: as it is. */
int weft__stack_class(size_t bytes);
extern WEFT__HIDDEN at_int weft__stack_scale;
static inline size_t weft__stack_guarantee(int class_index)
{
    return (size_t)16384 << class_index;
}

/* NULL: no memory, or no guard to be had (see weft__stack_limit). */
struct weft__stack *weft__stack_get_slow(
        struct weft__stack_pool *p, struct weft__stack_cache *c, int class_index);
void weft__stack_put_slow(struct weft__stack_pool *p, struct weft__stack_cache *c, int class_index);
/* All that is in the cache goes to the pool. By the worker, or who has claimed it. */
void weft__stack_cache_return(struct weft__stack_pool *p, struct weft__stack_cache *c);
/* A stack of the pool gives its memory back. False: none has any. Any thread. */
bool weft__stack_pool_trim(struct weft__stack_pool *p);
void weft__stack_pool_fini(struct weft__stack_pool *p);

/* Those of generators, which are created and advanced on any thread, with a runtime or without. It never ends: so who looks
 * into the room of one of its stacks, however late, finds memory there, if only zeros (coord/gen.c). */
extern WEFT__HIDDEN struct weft__stack_pool weft__stack_nested;

/* One of it, by way of the cache; NULL as above. And back. `c` NULL: the calling thread has none. */
struct weft__stack *weft__stack_nested_take(struct weft__stack_cache *c, int class_index);
void weft__stack_nested_give(struct weft__stack_cache *c, struct weft__stack *k);

/* How much of its stack was used since the last call, down to the deepest byte that is not zero. Below the caller all is
 * zero afterwards, so that the next task answers for itself. Called on that stack; it reads all of it. */
size_t weft__stack_mark(struct weft__stack *s);

/* Whether `address` is in the guard of `s`. */
static inline bool weft__stack_in_guard(const struct weft__stack *s, const void *address)
{
    uintptr_t a = (uintptr_t)address, low = (uintptr_t)s->low;
    return a < low && a >= low - WEFT__GUARD_BYTES;
}

/* How many stacks may be guarded by mprotect: half of vm.max_map_count, with room left for the program. Read
 * once; tests lower it. */
extern WEFT__HIDDEN at_word weft__stack_limit;

enum { WEFT__STACK_CACHE_MOST = 64 };

#endif
