/* event/timer.c - deadlines: one heap for each worker.
 *
 * Owns      the heaps. A timer belongs to the sleeper or scope it lies in; the heap refers to it only under the
 *           lock of that heap.
 * Callers   arm: the worker, for itself. disarm: any thread. expire: the owner, a searcher, the I/O thread.
 * Holds     M1  earliest is the deadline at the top of the heap, or INT64_MAX.
 *           M2  no timer strikes before its time; equal times strike in the order in which they were armed.
 *           M3  a struck sleeper is taken out and its token copied under the lock, so its frame may die at once.
 *           M4  a struck call marks its timer STRIKING until it is done, and disarm waits for that: a scope does
 *               not end under the call that cancels it.
 * Why       a 4-ary heap in one array, half the levels of a binary one, and one lock for each worker, so that nothing is shared
 *           by all. Most timeouts are cancelled: disarm finds its place at once, at the bottom as a rule.
 * Tested    tests/timer_test.c, stress/timers.c */
#include "event/timer.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"

struct weft__timer_entry {
    int64_t at;
    uint64_t sequence : 40; /* so many are armed in hours of nothing but arming */
    uint64_t slot : 24;
};

/* Where an armed timer's entry is. The timers lie in the frames of sleeping tasks, cold in every cache; so the heap
 * moves its entries without touching them. */
struct weft__timer_slot {
    struct weft__timer *timer;
    uint32_t place; /* in the heap; of a free slot the next free one, + 1 */
};

static void (*on_call)(struct weft__timer *timer);

void weft__timers_on_call(void (*call)(struct weft__timer *timer))
{
    on_call = call;
}

void weft__timers_init(struct weft__timers *t)
{
    at_store(&t->earliest, (uint64_t)INT64_MAX);
}

void weft__timers_fini(struct weft__timers *t)
{
    weft__mem_free(t->heap);
    weft__mem_free(t->slots);
    t->heap = NULL;
    t->slots = NULL;
}

static bool before(const struct weft__timer_entry *a, const struct weft__timer_entry *b)
{
    return a->at < b->at || (a->at == b->at && a->sequence < b->sequence);
}

static void place(struct weft__timers *t, uint32_t i, const struct weft__timer_entry *e)
{
    t->heap[i] = *e;
    t->slots[e->slot].place = i;
}

static void sift_up(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
    while (i > 0 && before(&e, &t->heap[(i - 1) / 4])) {
        place(t, i, &t->heap[(i - 1) / 4]);
        i = (i - 1) / 4;
    }
    place(t, i, &e);
}

static void sift_down(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
    for (;;) {
        uint32_t child = 4 * i + 1, least = child;
        if (child >= t->n)
            break;
        for (uint32_t k = child + 1; k < child + 4 && k < t->n; k++)
            if (before(&t->heap[k], &t->heap[least]))
                least = k;
        if (!before(&t->heap[least], &e))
            break;
        place(t, i, &t->heap[least]);
        i = least;
    }
    place(t, i, &e);
}

static void publish_earliest(struct weft__timers *t)
{
    /* release: who sleeps until this time has seen the timer; M1 */
    at_store_release(&t->earliest, (uint64_t)(t->n > 0 ? t->heap[0].at : INT64_MAX));
}

/* The timer's own slot word is set to `now`: 0, or STRIKING at once, since it is looked at without the lock. */
static struct weft__timer *take_out(struct weft__timers *t, uint32_t i, uint32_t now)
{
    uint32_t slot = (uint32_t)t->heap[i].slot;
    struct weft__timer *timer = t->slots[slot].timer;
    ati_store_release(&timer->slot, now);
    t->slots[slot].place = t->free_slot;
    t->free_slot = slot + 1;
    struct weft__timer_entry last = t->heap[--t->n];
    if (i == t->n)
        return timer;
    if (i > 0 && before(&last, &t->heap[(i - 1) / 4]))
        sift_up(t, i, last);
    else
        sift_down(t, i, last);
    return timer;
}

static int make_room(struct weft__timers *t)
{
    if (t->n < t->capacity)
        return 0;
    uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
    struct weft__timer_entry *heap = weft__mem_alloc(capacity * sizeof *heap);
    struct weft__timer_slot *slots = weft__mem_alloc(capacity * sizeof *slots);
    if (!heap || !slots || capacity > 1u << 24) {
        weft__mem_free(heap);
        weft__mem_free(slots);
        return -ENOMEM;
    }
    if (t->n > 0) {
        memcpy(heap, t->heap, t->n * sizeof *heap);
        memcpy(slots, t->slots, t->n * sizeof *slots); /* all are in use */
    }
    for (uint32_t i = t->n; i < capacity; i++)
        slots[i].place = i + 1 < capacity ? i + 2 : 0;
    t->free_slot = t->n + 1;
    weft__mem_free(t->heap);
    weft__mem_free(t->slots);
    t->heap = heap;
    t->slots = slots;
    t->capacity = capacity;
    return 0;
}

int weft__timer_arm(struct weft__timers *t, struct weft__timer *timer, int64_t at, bool *first)
{
    weft__lock(&t->lock);
    int rc = make_room(t);
    if (rc == 0) {
        timer->at = at;
        timer->home = t;
        uint32_t slot = t->free_slot - 1;
        struct weft__timer_entry e = { .at = at, .sequence = t->sequence++ & ((UINT64_C(1) << 40) - 1), .slot = slot & 0xffffff };
        t->free_slot = t->slots[slot].place;
        t->slots[slot].timer = timer;
        ati_store_release(&timer->slot, slot + 1); /* who sees it armed sees its home */
        sift_up(t, t->n++, e);
        bool top = t->heap[0].slot == slot;
        if (first)
            *first = top;
        if (top)
            publish_earliest(t);
    }
    weft__unlock(&t->lock);
    return rc;
}

bool weft__timer_disarm(struct weft__timer *timer)
{
    struct weft__timers *t = timer->home;
    for (;;) {
        weft__lock(&t->lock);
        uint32_t slot = ati_load(&timer->slot);
        if (slot != 0 && slot != WEFT__TIMER_STRIKING) {
            uint32_t i = t->slots[slot - 1].place;
            take_out(t, i, 0);
            if (i == 0)
                publish_earliest(t);
        }
        weft__unlock(&t->lock);
        if (slot != WEFT__TIMER_STRIKING)
            return slot != 0;
        sched_yield(); /* M4 */
    }
}

uint32_t weft__timers_expire(struct weft__timers *t, int64_t now, uint32_t *woken, uint32_t most)
{
    uint32_t n = 0;
    weft__lock(&t->lock);
    while (n < most && t->n > 0 && t->heap[0].at <= now) {
        bool call = t->slots[t->heap[0].slot].timer->kind == WEFT__TIMER_CALL;
        struct weft__timer *timer = take_out(t, 0, call ? WEFT__TIMER_STRIKING : 0); /* M4 */
        at_store(&t->struck, at_load(&t->struck) + 1);
        if (!call) {
            weft__token k = container_of(timer, struct weft__sleeper, timer)->token; /* M3 */
            enum weft__fired f = weft__wait_claim(k, WEFT__CAUSE_EVENT);
            if (f == WEFT__FIRED_ENQUEUE)
                woken[n++] = weft__task_index(weft__token_task(k));
            continue;
        }
        publish_earliest(t);
        weft__unlock(&t->lock);
        on_call(timer);
        weft__lock(&t->lock);
        ati_store_release(&timer->slot, 0);
    }
    publish_earliest(t);
    weft__unlock(&t->lock);
    return n;
}
