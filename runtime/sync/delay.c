/* sync/delay.c - a queue whose items come when their time has come.
 *
 * Owns      the items, in slots that do not move, a heap of their times, and who waits to take one.
 * Holds     D1  all under the lock. A slot that is taken is at heap[place]; one that is free is in a list. A slot's life goes up
 *               by one when it is freed, so a handle, {life, slot + 1}, says whether its item is still there.
 *           D2  of those who wait at most one, the leader, sleeps until a time: that of the first item when it lay down, or
 *               earlier than that of what is first now. The others sleep until they are called.
 *           D3  whenever the lock is free, and there is an item and somebody who waits, there is a leader, or one who is awake
 *               and will take the lock. So whoever takes an item, or leaves for any other reason, calls the next
 *               (pass_on); and who makes the first item an earlier one calls the leader.
 *           D4  an item is taken under the lock, by who is then sure to return it.
 * Costs     O(log n) for each put, take, move and remove: a 4-ary heap, as in event/timer.c. A wheel would put in O(1), and have
 *           to look at the clock in steps: here each item comes at its nanosecond, in virtual time, too.
 * Source    Java's DelayQueue, and its leader (leader-follower, Schmidt et al.).
 * Tested    tests/delay_test.c, tests/sync_cancel_test.c, tests/fault_coord_test.c */
#include <errno.h>
#include <string.h>
#include <weft/delay.h>

#include "base/fork.h"
#include "base/mem.h"
#include "sync/waiter.h"

enum { FIRST_CAPACITY = 16, ARITY = 4 };
#define MOST_ITEMS (UINT32_C(1) << 31)

struct node {
    int64_t at;
    uint64_t sequence; /* of equals, the oldest first */
    uint32_t slot;
};

struct slot {
    uint32_t place; /* in the heap; of a free one: the next free slot + 1 */
    uint32_t life;
};

struct weft_delay {
    struct weft__lock lock; /* of all that follows, but what is written once */
    uint32_t n, capacity;
    uint32_t free_slot; /* + 1 */
    bool closed;
    struct node *heap;
    struct slot *slots;
    unsigned char *items;
    uint64_t sequence;
    struct weft__link takers;
    struct weft__waiter *leader; /* D2; in the list, too */
    /* Written once. */
    size_t item_bytes;
    void (*drop)(void *item);
};

/* ---- the heap */

static bool before(const struct node *a, const struct node *b)
{
    return a->at != b->at ? a->at < b->at : a->sequence < b->sequence;
}

static void put_at(struct weft_delay *q, uint32_t place, struct node node)
{
    q->heap[place] = node;
    q->slots[node.slot].place = place;
}

/* The place is a hole that `node` goes into, or to where it belongs from there. */
static void settle(struct weft_delay *q, uint32_t place, struct node node)
{
    while (place > 0 && before(&node, &q->heap[(place - 1) / ARITY])) {
        put_at(q, place, q->heap[(place - 1) / ARITY]);
        place = (place - 1) / ARITY;
    }
    for (;;) {
        uint64_t child = (uint64_t)place * ARITY + 1, least = child;
        for (uint64_t i = child + 1; i < child + ARITY && i < q->n; i++)
            if (before(&q->heap[i], &q->heap[least]))
                least = i;
        if (child >= q->n || !before(&q->heap[least], &node))
            break;
        put_at(q, place, q->heap[least]);
        place = (uint32_t)least;
    }
    put_at(q, place, node);
}

/* Takes the item at that place out, to *item if that is not NULL, and frees its slot. */
static void take_out(struct weft_delay *q, uint32_t place, void *item)
{
    uint32_t slot = q->heap[place].slot;
    if (item && q->item_bytes > 0)
        memcpy(item, q->items + slot * q->item_bytes, q->item_bytes);
    q->slots[slot].life++;
    q->slots[slot].place = q->free_slot;
    q->free_slot = slot + 1;
    struct node last = q->heap[--q->n];
    if (place < q->n)
        settle(q, place, last);
}

/* D1. NULL: the item is not there any more. */
static struct slot *slot_of(const struct weft_delay *q, weft_delayed handle)
{
    uint64_t slot = (handle & UINT32_MAX) - 1;
    if (slot >= q->capacity || q->slots[slot].life != handle >> 32)
        return NULL;
    uint32_t place = q->slots[slot].place; /* of one that is free, it says something else */
    return place < q->n && q->heap[place].slot == slot ? &q->slots[slot] : NULL;
}

/* ---- room */

static void *longer(void *old, size_t n, size_t capacity, size_t each)
{
    if (each > 0 && capacity > SIZE_MAX / each)
        return NULL;
    void *new = weft__mem_alloc(capacity * each > 0 ? capacity * each : 1);
    if (new && n * each > 0)
        memcpy(new, old, n * each);
    return new;
}

/* False: no memory, and all is as it was. */
static bool grow(struct weft_delay *q)
{
    uint32_t old = q->capacity, capacity = old == 0 ? FIRST_CAPACITY : old * 2;
    if (old >= MOST_ITEMS)
        return false;
    struct node *heap = longer(q->heap, old, capacity, sizeof *heap);
    struct slot *slots = heap ? longer(q->slots, old, capacity, sizeof *slots) : NULL;
    unsigned char *items = slots ? longer(q->items, old, capacity, q->item_bytes) : NULL;
    if (!items) {
        weft__mem_free(slots);
        weft__mem_free(heap);
        return false;
    }
    weft__mem_free(q->heap);
    weft__mem_free(q->slots);
    weft__mem_free(q->items);
    q->heap = heap;
    q->slots = slots;
    q->items = items;
    q->capacity = capacity;
    for (uint32_t i = capacity; i > old; i--) {
        q->slots[i - 1] = (struct slot){ .place = q->free_slot, .life = 1 };
        q->free_slot = i;
    }
    return true;
}

int weft_delay_create(weft_delay **out, size_t item_bytes, const weft_delay_options *o)
{
    if (weft__forked)
        return -ECHILD;
    if (!out || (o && !weft__reserved_zero(o)))
        return -EINVAL;
    struct weft_delay *q = weft__mem_zeroed(sizeof *q);
    if (!q)
        return -ENOMEM;
    q->item_bytes = item_bytes;
    q->drop = o ? o->drop : NULL;
    *out = q;
    return 0;
}

void weft_delay_destroy(weft_delay **out)
{
    struct weft_delay *q = out ? *out : NULL;
    if (!q)
        return;
    *out = NULL;
    if (weft__forked)
        return;
    weft__lock(&q->lock); /* whoever let us know that all is over may just let go of it */
    weft__unlock(&q->lock);
    for (; q->n > 0; take_out(q, 0, NULL)) /* the earliest first */
        if (q->drop)
            q->drop(q->items + q->heap[0].slot * q->item_bytes);
    weft__mem_free(q->heap);
    weft__mem_free(q->slots);
    weft__mem_free(q->items);
    weft__mem_free(q);
}

/* ---- who waits */

/* D3: the leader, or who becomes it. NULL: nobody is to be told. Its release comes after the unlock. */
static struct weft__waiter *call_one(struct weft_delay *q, struct weft__claimed *who)
{
    struct weft__waiter *at = q->leader;
    if (!at) {
        at = weft__waiters_claim(&q->takers, who);
    } else {
        q->leader = NULL;
        list_remove(&at->link);
        if (!weft__claim_wait(at->wait->token, WEFT__CAUSE_SERVED, who))
            at = NULL; /* it wakes by itself, and looks */
    }
    if (at)
        at->wait->rc = 0;
    return at;
}

static void unlock_and_call(struct weft_delay *q)
{
    struct weft__claimed who;
    struct weft__waiter *at = call_one(q, &who);
    weft__unlock(&q->lock);
    if (at)
        weft__waiter_release(at, &who);
}

/* The lock is let go. */
static void pass_on(struct weft_delay *q)
{
    if (q->n == 0 && q->closed)
        weft__waiters_serve_all(&q->takers, &q->lock, 0);
    else if (q->n > 0 && !q->leader)
        unlock_and_call(q);
    else
        weft__unlock(&q->lock);
}

/* The same, after a change of the items: `first` is when the first one was due before, WEFT_NEVER there was none. */
static void pass_on_change(struct weft_delay *q, int64_t first)
{
    if (q->n > 0 && q->heap[0].at < first)
        unlock_and_call(q);
    else
        pass_on(q);
}

static int64_t first_of(const struct weft_delay *q)
{
    return q->n > 0 ? q->heap[0].at : WEFT_NEVER;
}

/* ---- calls */

int weft_delay_put(weft_delay *q, const void *item, size_t bytes, int64_t at, weft_delayed *handle)
{
    if (weft__forked)
        return -ECHILD;
    if (bytes != q->item_bytes || (!item && bytes > 0))
        return -EINVAL;
    weft__lock(&q->lock);
    if (q->closed || (q->free_slot == 0 && !grow(q))) {
        int rc = q->closed ? -EPIPE : -ENOMEM;
        weft__unlock(&q->lock);
        return rc;
    }
    int64_t first = first_of(q);
    uint32_t slot = q->free_slot - 1;
    q->free_slot = q->slots[slot].place;
    if (bytes > 0)
        memcpy(q->items + slot * bytes, item, bytes);
    if (handle)
        *handle = (uint64_t)q->slots[slot].life << 32 | (slot + 1);
    q->n++;
    settle(q, q->n - 1, (struct node){ .at = at, .sequence = ++q->sequence, .slot = slot });
    pass_on_change(q, first);
    return 0;
}

int weft_delay_move(weft_delay *q, weft_delayed handle, int64_t at)
{
    if (weft__forked)
        return -ECHILD;
    weft__lock(&q->lock);
    struct slot *s = slot_of(q, handle);
    if (!s) {
        weft__unlock(&q->lock);
        return -ENOENT;
    }
    int64_t first = first_of(q);
    struct node node = q->heap[s->place];
    node.at = at;
    node.sequence = ++q->sequence;
    settle(q, s->place, node);
    pass_on_change(q, first);
    return 0;
}

int weft_delay_remove(weft_delay *q, weft_delayed handle, void *item, size_t bytes)
{
    if (weft__forked)
        return -ECHILD;
    if (bytes != q->item_bytes || (!item && bytes > 0))
        return -EINVAL;
    weft__lock(&q->lock);
    struct slot *s = slot_of(q, handle);
    if (!s) {
        weft__unlock(&q->lock);
        return -ENOENT;
    }
    take_out(q, s->place, item);
    pass_on(q);
    return 0;
}

/* 1 taken; 0 it is closed, and nothing is left; -EAGAIN. */
static int take(struct weft_delay *q, int64_t now, void *item)
{
    if (q->n == 0)
        return q->closed ? 0 : -EAGAIN;
    if (now < q->heap[0].at)
        return -EAGAIN;
    take_out(q, 0, item); /* D4 */
    return 1;
}

/* D2. Returns until when it is to wait. */
static int64_t lie_down(struct weft_delay *q, struct weft__waiter *at)
{
    weft__waiters_add(&q->takers, at);
    if (q->n == 0 || q->leader)
        return WEFT_NEVER;
    q->leader = at;
    return q->heap[0].at;
}

int weft_delay_take(weft_delay *q, void *item, size_t bytes)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (bytes != q->item_bytes || (!item && bytes > 0))
        return -EINVAL;
    int rc = weft__enter_call(f);
    if (rc < 0)
        return rc;
    weft__lock(&q->lock);
    rc = take(q, weft__frame_now(f), item);
    while (rc == -EAGAIN) {
        struct weft__waiting wait;
        struct weft__waiter at;
        weft__unlock(&q->lock);
        int refused = weft__waiter_begin(f, &wait, &at);
        weft__lock(&q->lock);
        if (refused < 0) { /* it may have been called */
            rc = refused;
            break;
        }
        rc = take(q, weft__frame_now(f), item);
        if (rc != -EAGAIN) {
            pass_on(q);
            weft__waiter_give_up(f);
            return rc;
        }
        int64_t until = lie_down(q, &at);
        weft__unlock(&q->lock);
        weft__waits_for(f, WEFT__WAITS_DELAY, (uint64_t)(uintptr_t)q);
        rc = weft__waiter_await_until(f, &at, &q->lock, until);
        if (q->leader == &at)
            q->leader = NULL;
        if (rc == 0)
            rc = take(q, weft__frame_now(f), item);
    }
    pass_on(q);
    return rc;
}

int weft_delay_try_take(weft_delay *q, void *item, size_t bytes)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (bytes != q->item_bytes || (!item && bytes > 0))
        return -EINVAL;
    weft__lock(&q->lock);
    int rc = take(q, weft__frame_now(f), item);
    pass_on(q);
    return rc;
}

void weft_delay_close(weft_delay *q)
{
    if (weft__forked)
        return;
    weft__lock(&q->lock);
    q->closed = true;
    pass_on(q);
}

size_t weft_delay_len(weft_delay *q)
{
    if (weft__forked)
        return q->n;
    weft__lock(&q->lock);
    size_t n = q->n;
    weft__unlock(&q->lock);
    return n;
}
