/* sched/deque.c - spawned, not yet started tasks of one worker.
 *
 * Owns      the array of task ids, `top` and `bottom`. Not the tasks: an id whose generation has passed is a
 *           dead entry, and whoever draws it drops it (a joiner may have run that task already).
 * Callers   push and take on the owner's thread; steal on any.
 * Holds     D1  top <= bottom + 1; the items are the slots [top, bottom).
 *           D2  a slot is written before the bottom that covers it is published.
 *           D3  the last item goes to whoever moves top, owner or thief, and only one can.
 *           D4  a slot is overwritten only when top has passed it.
 *           D5  an old array stays readable until the deque ends, or shrinks while nobody can be in a steal: a thief
 *               may still read a slot of it, and its CAS on top then says whether that counted. Doubling, they add up
 *               to one more array.
 * Source    Chase and Lev 2005; orders from Le, Pop, Cohen, Zappa Nardelli 2013.
 * Tested    tests/deque_test.c, tests/explore, stress/deque.c (each item leaves exactly once). */
#include "sched/deque.h"

#include <errno.h>

#include "base/mem.h"

static size_t array_bytes(uint64_t capacity)
{
    return sizeof(struct weft__deque_array) + capacity * sizeof(at_word);
}

static struct weft__deque_array *array_new(uint64_t capacity, struct weft__deque_array *older)
{
    struct weft__deque_array *a = weft__mem_large(array_bytes(capacity));
    if (a) {
        a->older = older;
        a->mask = capacity - 1;
    }
    return a;
}

int weft__deque_init(struct weft__deque *d, unsigned capacity)
{
    struct weft__deque_array *a = array_new(capacity, NULL);
    if (!a)
        return -ENOMEM;
    at_store(&d->top, 1);
    at_store(&d->bottom, 1);
    at_store_release(&d->array, (uint64_t)(uintptr_t)a);
    return 0;
}

void weft__deque_free(struct weft__deque_array *a)
{
    for (struct weft__deque_array *older; a; a = older) {
        older = a->older;
        weft__mem_large_free(a, array_bytes(a->mask + 1));
    }
}

void weft__deque_fini(struct weft__deque *d)
{
    weft__deque_free(weft__deque_array_of(d));
    at_store(&d->array, 0);
}

struct weft__deque_array *weft__deque_shrink(struct weft__deque *d, struct weft__deque_array *others)
{
    struct weft__deque_array *newest = weft__deque_array_of(d), *last = NULL, *first = newest;
    for (; first->older; first = first->older)
        last = first;
    if (!last || weft__deque_size(d) > 0)
        return others;
    last->older = others;
    at_store_release(&d->array, (uint64_t)(uintptr_t)first); /* D2: meets the acquire in weft__deque_array_of */
    return newest;
}

bool weft__deque_grow(struct weft__deque *d)
{
    struct weft__deque_array *a = weft__deque_array_of(d);
    struct weft__deque_array *bigger = array_new((a->mask + 1) * 2, a);
    if (!bigger)
        return false;
    uint64_t bottom = at_load(&d->bottom);
    for (uint64_t i = at_load_acquire(&d->top); i != bottom; i++)
        at_store(&bigger->slot[i & bigger->mask], at_load(&a->slot[i & a->mask]));
    /* release (D2): a thief that sees the new array sees the slots copied into it. */
    at_store_release(&d->array, (uint64_t)(uintptr_t)bigger);
    return true;
}

uint64_t weft__deque_steal(struct weft__deque *d)
{
    uint64_t t = at_load_acquire(&d->top);
    /* fence (D3): with the one in take. */
    at_fence_full();
    uint64_t b = at_load_acquire(&d->bottom);
    if ((int64_t)(b - t) <= 0)
        return 0;
    struct weft__deque_array *a = weft__deque_array_of(d);
    uint64_t item = at_load(&a->slot[t & a->mask]);
    return at_cas(&d->top, t, t + 1) ? item : 0;
}
