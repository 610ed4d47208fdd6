/* sched/deque.h - spawned, not yet started tasks of one worker. See deque.c. */
#ifndef WEFT_SCHED_DEQUE_H
#define WEFT_SCHED_DEQUE_H

#include "base/atomic.h"

struct weft__deque_array {
    struct weft__deque_array *older;
    uint64_t mask;
    at_word slot[];
};

struct weft__deque {
    /* The owner's line. */
    _Alignas(128) at_word bottom;
    at_word array; /* struct weft__deque_array *, published by the owner */
    /* The thieves' line. */
    _Alignas(128) at_word top;
};

int weft__deque_init(struct weft__deque *d, unsigned capacity); /* a power of two */
void weft__deque_fini(struct weft__deque *d);
bool weft__deque_grow(struct weft__deque *d);
/* An empty deque goes back to its first array: nobody pushes, takes or steals meanwhile (all workers are claimed, see
 * engine/trim.c). What it had grown to is put in front of `others`, for weft__deque_free. */
struct weft__deque_array *weft__deque_shrink(struct weft__deque *d, struct weft__deque_array *others);
void weft__deque_free(struct weft__deque_array *arrays);

/* acquire (D2), also for the owner: it is one thread, but many coroutines, and one of them made the array. */
static inline struct weft__deque_array *weft__deque_array_of(const struct weft__deque *d)
{
    return (struct weft__deque_array *)at_load_acquire(&d->array);
}

/* Owner. False: no memory to grow. True: there is room for one more. */
static inline bool weft__deque_reserve(struct weft__deque *d)
{
    /* acquire (D4): a slot that thieves have taken is overwritten only after they have read it. */
    uint64_t n = at_load(&d->bottom) - at_load_acquire(&d->top);
    return (int64_t)n <= (int64_t)weft__deque_array_of(d)->mask || weft__deque_grow(d);
}

/* Owner, who has reserved the room. */
static inline void weft__deque_put(struct weft__deque *d, uint64_t item)
{
    uint64_t b = at_load(&d->bottom);
    struct weft__deque_array *a = weft__deque_array_of(d);
    at_store(&a->slot[b & a->mask], item);
    /* release (D2): meets the acquire of bottom in steal. Relaxed, a thief could take a slot it cannot see, or
     * run a task whose fields it cannot see. */
    at_store_release(&d->bottom, b + 1);
}

/* Owner. False: no memory to grow, the item was not taken. */
static inline bool weft__deque_push(struct weft__deque *d, uint64_t item)
{
    if (!weft__deque_reserve(d))
        return false;
    weft__deque_put(d, item);
    return true;
}

/* Owner. The newest item, 0 if there is none. */
static inline uint64_t weft__deque_take(struct weft__deque *d)
{
    uint64_t b = at_load(&d->bottom) - 1;
    /* Empty as the owner sees it: top only grows, so no fence is needed to believe that. */
    if ((int64_t)(b - at_load(&d->top)) < 0)
        return 0;
    struct weft__deque_array *a = weft__deque_array_of(d);
    at_store_release(&d->bottom, b);
    /* fence (D3): with the one in steal. Without either, owner and thief both take the last item. */
    at_fence_full();
    uint64_t t = at_load_acquire(&d->top);
    if ((int64_t)(b - t) > 0)
        return at_load(&a->slot[b & a->mask]);
    uint64_t item = 0;
    if (b == t) {
        item = at_load(&a->slot[b & a->mask]);
        if (!at_cas(&d->top, t, t + 1))
            item = 0;
    }
    at_store_release(&d->bottom, b + 1);
    return item;
}

/* Any thread. The oldest item; 0 there is none, or another took it. */
uint64_t weft__deque_steal(struct weft__deque *d);

/* Owner. What it will take in a few turns, if there are so many that they may be cold; else 0. A guess. */
static inline uint64_t weft__deque_ahead(const struct weft__deque *d)
{
    enum { TURNS = 4, MANY = 64 };
    uint64_t b = at_load(&d->bottom);
    const struct weft__deque_array *a = weft__deque_array_of(d);
    return (int64_t)(b - at_load(&d->top)) > MANY ? at_load(&a->slot[(b - TURNS) & a->mask]) : 0;
}

/* Any thread; a guess. */
static inline uint64_t weft__deque_size(const struct weft__deque *d)
{
    int64_t n = (int64_t)(at_load(&d->bottom) - at_load(&d->top));
    return n > 0 ? (uint64_t)n : 0;
}

#endif
