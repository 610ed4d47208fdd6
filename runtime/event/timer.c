/* event/timer.c - deadlines: one heap for each worker.
 *
 * Owns      the heaps. A timer belongs to the sleeper or scope it lies in; the heap refers to it only under the
 *           lock of that heap.
 * Callers   arm: the worker, for itself. disarm: any thread. expire: workers, the owner first.
 * Holds     M1  earliest is the deadline at the top of the heap, or INT64_MAX.
 *           M2  no timer strikes before its time; equal times strike in the order in which they were armed.
 *           M3  a sleeper's token lies in the heap, so to strike it its frame is not looked at: that may be gone, and
 *               is cold in any case.
 *           M4  a struck call marks its timer STRIKING until it is done, and disarm waits for that: a scope does
 *               not end under the call that cancels it.
 * Why       under the lock the heap alone is touched; what strikes is claimed when it is free again. A 4-ary heap in
 *           one array, half the levels of a binary one, and one lock for each worker, so that nothing is shared by
 *           all. Most timeouts are cancelled: disarm finds its place at once, at the bottom as a rule.
 * Tested    tests/timer_test.c, stress/timers.c */
#include "event/timer.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "sched/chaos.h"

struct weft__timer_entry {
    int64_t at;
    uint64_t key; /* {sequence : 40 | slot : 24}; so many are armed in hours of nothing but arming */
};
enum { SLOT_BITS = 24 };

/* What an entry stands for, and where it is: for a disarm, and so that entries are moved without touching the timers,
 * which lie in the frames of sleeping tasks. */
struct weft__timer_slot {
    uint64_t what;  /* the token, or the struct weft__timer * of a call */
    uint32_t place; /* in the heap; of a free slot the next free one, + 1 */
    uint16_t call;
    uint16_t past;  /* it was armed for a time that had passed */
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

/* The four children of an entry, 4 i + 1 to 4 i + 4, share one line. */
enum { HEAP_SHIFT = 3 };
_Static_assert(sizeof(struct weft__timer_entry) == 16, "four to a line");

static struct weft__timer_entry *heap_new(uint32_t capacity)
{
    struct weft__timer_entry *e = weft__mem_large((capacity + HEAP_SHIFT) * sizeof *e);
    return e ? e + HEAP_SHIFT : NULL;
}

static void arrays_free(struct weft__timer_entry *heap, struct weft__timer_slot *slots, uint32_t capacity)
{
    if (heap)
        weft__mem_large_free(heap - HEAP_SHIFT, (capacity + HEAP_SHIFT) * sizeof *heap);
    weft__mem_large_free(slots, capacity * sizeof *slots);
}

void weft__timers_fini(struct weft__timers *t)
{
    arrays_free(t->heap, t->slots, t->capacity);
    t->heap = NULL;
    t->slots = NULL;
}

void weft__timers_shrink(struct weft__timers *t)
{
    struct weft__timer_entry *heap = NULL;
    struct weft__timer_slot *slots = NULL;
    uint32_t capacity = 0;
    weft__lock(&t->lock);
    if (t->n == 0) {
        capacity = t->capacity;
        heap = t->heap;
        slots = t->slots;
        t->heap = NULL;
        t->slots = NULL;
        t->capacity = t->free_slot = 0;
    }
    weft__unlock(&t->lock);
    arrays_free(heap, slots, capacity);
}

static bool before(const struct weft__timer_entry *a, const struct weft__timer_entry *b)
{
    return a->at < b->at || (a->at == b->at && a->key < b->key);
}

static uint32_t slot_of(uint64_t key)
{
    return (uint32_t)key & ((1u << SLOT_BITS) - 1);
}

static void place(struct weft__timers *t, uint32_t i, const struct weft__timer_entry *e)
{
    t->heap[i] = *e;
    t->slots[slot_of(e->key)].place = i;
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
        if (4 * child + 16 < t->n) /* the next level, whichever way it will be: a line for the children of each child */
            for (uint32_t k = 0; k < 4; k++)
                at_prefetch(&t->heap[4 * (child + k) + 1]);
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

/* Takes the i-th entry out of the heap. Its slot is free then, but still says what it stood for. */
static const struct weft__timer_slot *take_out(struct weft__timers *t, uint32_t i)
{
    uint32_t slot = slot_of(t->heap[i].key);
    t->slots[slot].place = t->free_slot;
    t->free_slot = slot + 1;
    struct weft__timer_entry last = t->heap[--t->n];
    ati_store(&t->pending, t->n);
    if (i == t->n)
        return &t->slots[slot];
    if (i > 0 && before(&last, &t->heap[(i - 1) / 4]))
        sift_up(t, i, last);
    else
        sift_down(t, i, last);
    return &t->slots[slot];
}

static int make_room(struct weft__timers *t)
{
    if (t->n < t->capacity)
        return 0;
    uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
    struct weft__timer_entry *heap = heap_new(capacity);
    struct weft__timer_slot *slots = weft__mem_large(capacity * sizeof *slots);
    if (!heap || !slots || capacity > 1u << SLOT_BITS) {
        arrays_free(heap, slots, capacity);
        return -ENOMEM;
    }
    if (t->n > 0) {
        memcpy(heap, t->heap, t->n * sizeof *heap);
        memcpy(slots, t->slots, t->n * sizeof *slots); /* all are in use */
    }
    for (uint32_t i = t->n; i < capacity; i++)
        slots[i].place = i + 1 < capacity ? i + 2 : 0;
    t->free_slot = t->n + 1;
    arrays_free(t->heap, t->slots, t->capacity);
    t->heap = heap;
    t->slots = slots;
    t->capacity = capacity;
    return 0;
}

int weft__timer_arm(struct weft__timers *t, struct weft__timer *timer, int64_t at, bool *first)
{
    bool call = timer->kind == WEFT__TIMER_CALL;
    uint64_t what = call ? (uint64_t)(uintptr_t)timer : container_of(timer, struct weft__sleeper, timer)->token;
    weft__lock(&t->lock);
    int rc = make_room(t);
    if (rc == 0) {
        uint32_t slot = t->free_slot - 1;
        uint64_t key = ++t->sequence << SLOT_BITS | slot;
        timer->at = at;
        timer->home = t;
        t->free_slot = t->slots[slot].place;
        t->slots[slot] = (struct weft__timer_slot){ .what = what, .call = call, .past = at < own(t->looked) };
        at_store_release(&timer->armed, key); /* who sees it armed sees its home */
        sift_up(t, t->n++, (struct weft__timer_entry){ .at = at, .key = key });
        ati_store(&t->pending, t->n);
        bool top = t->heap[0].key == key;
        if (first)
            *first = top;
        if (top)
            publish_earliest(t);
    }
    weft__unlock(&t->lock);
    return rc;
}

int weft__timer_take(struct weft__timer *timer)
{
    struct weft__timers *t = timer->home;
    int rc = 0;
    weft__lock(&t->lock);
    uint64_t key = at_load(&timer->armed);
    if (key == WEFT__TIMER_STRIKING) {
        rc = -EBUSY;
    } else if (key != 0 && slot_of(key) < t->capacity) { /* else it has struck, and the heap was shrunk since */
        uint32_t i = t->slots[slot_of(key)].place;
        if (i < t->n && t->heap[i].key == key) {
            take_out(t, i);
            at_store_release(&timer->armed, 0);
            if (i == 0)
                publish_earliest(t);
            rc = 1;
        }
    }
    weft__unlock(&t->lock);
    return rc;
}

bool weft__timer_disarm(struct weft__timer *timer)
{
    int rc;
    while ((rc = weft__timer_take(timer)) == -EBUSY)
        sched_yield(); /* M4 */
    return rc > 0;
}

/* Takes out what is due, up to the first call, at most `most`, in order. With the heap locked. */
static uint32_t take_due(struct weft__timers *t, int64_t now, weft__token *due, uint32_t most, struct weft__timer **call)
{
    uint32_t n = 0, struck = 0;
    *call = NULL;
    while (n < most && !*call && t->n > 0 && t->heap[0].at <= now) {
        int64_t at = t->heap[0].at;
        const struct weft__timer_slot *s = take_out(t, 0);
        weft__histogram_count(&t->late, s->past ? 0 : now - at);
        struck++;
        if (s->call) {
            *call = (struct weft__timer *)(uintptr_t)s->what;
            at_store_release(&(*call)->armed, WEFT__TIMER_STRIKING); /* M4 */
        } else {
            due[n++] = s->what;
        }
    }
    at_store(&t->struck, at_load(&t->struck) + struck);
    publish_earliest(t);
    return n;
}

static uint32_t claim_all(const weft__token *due, uint32_t n, uint32_t *woken)
{
    uint32_t won = 0;
    for (uint32_t i = 0; i < n; i++)
        at_prefetch(weft__token_task(due[i]));
    if (n > 0 && weft__chaos_somewhere())
        weft__chaos_delay();
    for (uint32_t i = 0; i < n; i++)
        if (weft__wait_claim(due[i], WEFT__CAUSE_EVENT) == WEFT__FIRED_ENQUEUE)
            woken[won++] = weft__task_index(weft__token_task(due[i]));
    return won;
}

/* With the heap locked; unlocks it. */
static uint32_t strike(struct weft__timers *t, int64_t now, uint32_t *woken, uint32_t most)
{
    enum { BATCH = 64 };
    weft__token due[BATCH];
    uint32_t won = 0, n, room;
    struct weft__timer *call;
    for (;;) {
        room = most - won < BATCH ? most - won : BATCH;
        n = take_due(t, now, due, room, &call);
        weft__unlock(&t->lock);
        won += claim_all(due, n, woken + won);
        if (call)
            on_call(call);
        else if (n < room || won == most)
            return won;
        weft__lock(&t->lock);
        if (call)
            at_store_release(&call->armed, 0);
    }
}

uint32_t weft__timers_expire(struct weft__timers *t, int64_t now, uint32_t *woken, uint32_t most)
{
    weft__lock(&t->lock);
    return strike(t, now, woken, most);
}

uint32_t weft__timers_help_expire(struct weft__timers *t, int64_t now, uint32_t *woken, uint32_t most)
{
    return weft__trylock(&t->lock) ? strike(t, now, woken, most) : 0;
}
