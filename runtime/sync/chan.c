/* sync/chan.c - items from task to task.
 *
 * Owns      the kept items, who waits to receive, to send, or until all is done, and how much that is.
 * Callers   any task or plain thread; topic.c and select.c by chan.h.
 * Holds     C1  who waits to receive waits for a first item: the buffer is empty, and nobody else waits to send.
 *           C2  who waits to send waits for room: the buffer is full. Whoever takes an item lets the first of them put
 *               its own behind the others, so that nobody can overtake it.
 *           C3  an item has one place: with its sender, whose wait was not claimed; in the buffer; with its receiver. It
 *               moves under the lock, between B2 and B4 (waiter.h).
 *           C4  once the lock is let go nothing of the channel is touched: who was served may destroy it.
 * (C1 and C2 but for waiters that somebody else has claimed, and that are in a list until they or a server take them
 * off.)
 *
 * One hold of the lock for each call, also for one that waits: a task that has waited before in the same scopes begins its
 * wait under the lock. An item that finds a receiver waiting is written to where that one wants it, and nobody is
 * woken for an item that goes into the buffer, or out of one that is not full.
 *
 * Source    Go's channels, whose waiters and direct copies these are; the claim is weft's (sched/wait.h).
 * Tested    tests/chan_test.c, tests/explore/select.c, stress/chan.c */
#include "sync/chan.h"

#include <errno.h>
#include <string.h>

#include "base/fork.h"
#include "base/mem.h"

enum { SLICE = 32 };

/* For the way of one item, which is short. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* ---- items */

static inline void copy(const struct weft_chan *c, void *to, const void *from)
{
    switch (c->item_bytes) {
    case 0:
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    case 16:
        memcpy(to, from, 16);
        break;
    default:
        memcpy(to, from, c->item_bytes);
    }
}

static inline unsigned char *slot(const struct weft_chan *c, uint32_t i)
{
    return c->items ? c->items + (size_t)i * c->item_bytes : NULL; /* NULL: they have no bytes */
}

static inline uint32_t wrapped(const struct weft_chan *c, uint32_t i)
{
    return i < c->capacity ? i : i - c->capacity;
}

static bool before(const struct weft_chan *c, const struct weft__chan_node *a, const struct weft__chan_node *b)
{
    int order = c->compare(slot(c, a->slot), slot(c, b->slot));
    return order != 0 ? order < 0 : a->sequence < b->sequence;
}

static void heap_push(struct weft_chan *c, const void *item, uint32_t len)
{
    struct weft__chan_node n = { .sequence = c->sequence++, .slot = c->heap[len].slot };
    uint32_t i = len;
    copy(c, slot(c, n.slot), item);
    for (; i > 0 && before(c, &n, &c->heap[(i - 1) / 2]); i = (i - 1) / 2)
        c->heap[i] = c->heap[(i - 1) / 2];
    c->heap[i] = n;
}

static uint32_t heap_pop(struct weft_chan *c, uint32_t len)
{
    uint32_t first = c->heap[0].slot, i = 0, child;
    struct weft__chan_node last = c->heap[--len];
    while ((child = 2 * i + 1) < len) {
        if (child + 1 < len && before(c, &c->heap[child + 1], &c->heap[child]))
            child++;
        if (!before(c, &c->heap[child], &last))
            break;
        c->heap[i] = c->heap[child];
        i = child;
    }
    c->heap[i] = last;
    c->heap[len].slot = first;
    return first;
}

/* There is room. */
static inline void push(struct weft_chan *c, const void *item)
{
    uint32_t len = ati_load(&c->len);
    if (c->order == WEFT_ORDER_PRIORITY)
        heap_push(c, item, len);
    else
        copy(c, slot(c, wrapped(c, c->head + len)), item);
    ati_store(&c->len, len + 1);
}

static inline uint32_t pop_oldest(struct weft_chan *c)
{
    uint32_t i = c->head;
    c->head = wrapped(c, i + 1);
    return i;
}

/* There is one. */
static inline void pop(struct weft_chan *c, void *item)
{
    uint32_t len = ati_load(&c->len), i = 0;
    switch ((enum weft_order)c->order) {
    case WEFT_ORDER_FIFO:
        i = pop_oldest(c);
        break;
    case WEFT_ORDER_LIFO:
        i = wrapped(c, c->head + len - 1);
        break;
    case WEFT_ORDER_PRIORITY:
        i = heap_pop(c, len);
        break;
    }
    copy(c, item, slot(c, i));
    ati_store(&c->len, len - 1);
}

/* ---- what a call does under the lock */

static void throw_oldest(struct weft_chan *c, struct weft__chan_after *after)
{
    uint32_t i = pop_oldest(c);
    ati_store(&c->len, ati_load(&c->len) - 1);
    c->missed++;
    c->unfinished--;
    after->drop = c->drop;
    if (c->drop)
        copy(c, after->dropped, slot(c, i));
}

/* -EAGAIN: there is no room. */
static ALWAYS_INLINE int put(struct weft_chan *c, const void *item, struct weft__chan_served *served)
{
    served->at = NULL;
    if (c->closed)
        return -EPIPE;
    struct weft__waiter *w = served->at = weft__waiters_claim(&c->receivers, &served->who);
    if (!w && ati_load(&c->len) == c->capacity)
        return -EAGAIN;
    c->unfinished++;
    if (w) {
        copy(c, w->item, item);
        w->wait->rc = 1;
    } else {
        push(c, item);
    }
    return 0;
}

static ALWAYS_INLINE int take(struct weft_chan *c, void *item, struct weft__chan_served *served)
{
    bool kept = ati_load(&c->len) > 0;
    if (kept)
        pop(c, item);
    /* Who is in the list of a closed channel will be told so (serve_left). */
    struct weft__waiter *w = served->at = c->closed ? NULL : weft__waiters_claim(&c->senders, &served->who);
    if (!w)
        return kept ? 1 : c->closed ? 0 : -EAGAIN;
    c->unfinished++;
    w->wait->rc = 0;
    if (kept)
        push(c, w->item); /* C2 */
    else
        copy(c, item, w->item);
    return 1;
}

int weft__chan_put(struct weft_chan *c, const void *item, struct weft__chan_after *after)
{
    after->drop = NULL;
    int rc = put(c, item, &after->served);
    if (rc == -EAGAIN && c->drop_oldest) {
        throw_oldest(c, after);
        rc = put(c, item, &after->served);
    }
    return rc;
}

int weft__chan_take(struct weft_chan *c, void *item, struct weft__chan_after *after)
{
    after->drop = NULL;
    return take(c, item, &after->served);
}

/* ---- send, receive */

enum direction { SEND, RECV };

/* The lock is held, and an old item makes room. */
static __attribute__((noinline)) int send_anyway(struct weft_chan *c, const void *item)
{
    struct weft__chan_after after;
    int rc = weft__chan_put(c, item, &after);
    weft__unlock(&c->lock);
    weft__chan_settle(&after);
    return rc;
}

/* -EAGAIN: it would have to wait, and the lock is held. */
static ALWAYS_INLINE int exchange(struct weft_chan *c, enum direction d, void *item)
{
    struct weft__chan_served served;
    weft__lock(&c->lock);
    int rc = d == SEND ? put(c, item, &served) : take(c, item, &served);
    if (rc != -EAGAIN) {
        weft__unlock(&c->lock);
        weft__chan_release(&served);
    } else if (d == SEND && c->drop_oldest) {
        rc = send_anyway(c, item);
    }
    return rc;
}

/* The lock is held. Goes into the list, lets it go, and waits. */
static ALWAYS_INLINE int wait_there(struct weft__frame *f, struct weft_chan *c, enum direction d, struct weft__waiter *at)
{
    weft__waiters_add(d == SEND ? &c->senders : &c->receivers, at);
    weft__unlock(&c->lock);
    weft__waits_for(f, d == SEND ? WEFT__WAITS_SEND : WEFT__WAITS_RECV, (uint64_t)(uintptr_t)c);
    if (weft__waiter_await_inline(f, at, &c->lock))
        return at->wait->rc;
    weft__unlock(&c->lock);
    return -ECANCELED;
}

/* A wait that cannot begin at once does without the lock, and then looks again. */
static __attribute__((noinline)) int exchange_later(struct weft__frame *f, struct weft_chan *c, enum direction d,
        struct weft__waiter *at)
{
    void *item = at->item;
    int rc = weft__waiter_begin(f, at->wait, at);
    if (rc < 0)
        return rc;
    rc = exchange(c, d, item);
    if (rc == -EAGAIN)
        return wait_there(f, c, d, at);
    weft__waiter_give_up(f);
    return rc;
}

/* The lock is held, and there was nothing to be had. One function for both directions: tasks that take turns then return to the
 * same place, which the processor foresees, it seems (bench/README.md: two of them are slower, with fewer instructions). */
static __attribute__((noinline)) int wait_for_other(struct weft__frame *f, struct weft_chan *c, enum direction d, void *item)
{
    struct weft__waiting wait;
    struct weft__waiter at = { .wait = &wait, .item = item };
    if (weft__waiter_begin_at_once(f, &wait))
        return wait_there(f, c, d, &at);
    weft__unlock(&c->lock);
    return exchange_later(f, c, d, &at);
}

static ALWAYS_INLINE int call(struct weft_chan *c, enum direction d, void *item, size_t bytes)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (!weft__chan_fits(c, item, bytes))
        return -EINVAL;
    int rc = weft__enter_call(f);
    if (rc < 0)
        return rc;
    rc = exchange(c, d, item);
    return rc == -EAGAIN ? weft__on_stack(wait_for_other(f, c, d, item)) : rc;
}

int weft_chan_send(weft_chan *c, const void *item, size_t bytes)
{
    return call(c, SEND, (void *)(uintptr_t)item, bytes); /* only read */
}

int weft_chan_recv(weft_chan *c, void *item, size_t bytes)
{
    return call(c, RECV, item, bytes);
}

static int try_call(struct weft_chan *c, enum direction d, void *item, size_t bytes)
{
    if (weft__forked)
        return -ECHILD;
    if (!weft__chan_fits(c, item, bytes))
        return -EINVAL;
    int rc = exchange(c, d, item);
    if (rc == -EAGAIN)
        weft__unlock(&c->lock);
    return rc;
}

int weft_chan_try_send(weft_chan *c, const void *item, size_t bytes)
{
    return try_call(c, SEND, (void *)(uintptr_t)item, bytes);
}

int weft_chan_try_recv(weft_chan *c, void *item, size_t bytes)
{
    return try_call(c, RECV, item, bytes);
}

/* ---- close */

/* One who waits in vain, now that the channel is closed, or whose wait is over; with its result. */
static struct weft__waiter *claim_left(struct weft_chan *c, struct weft__claimed *who)
{
    struct weft__waiter *w;
    if ((w = weft__waiters_claim(&c->senders, who)) != NULL)
        w->wait->rc = -EPIPE;
    else if ((w = weft__waiters_claim(&c->receivers, who)) != NULL ||
            (c->unfinished == 0 && (w = weft__waiters_claim(&c->joiners, who)) != NULL))
        w->wait->rc = 0;
    return w;
}

static bool somebody_left(const struct weft_chan *c)
{
    return !weft__waiters_none(&c->senders) || !weft__waiters_none(&c->receivers) ||
           (c->unfinished == 0 && !weft__waiters_none(&c->joiners));
}

/* All of them, in slices, between which others find the lock free; who is there at the last one may destroy it. So the last
 * of a slice is kept until the next one has begun: the rest may leave, told to, and then there is none. Called with the
 * lock held. */
static void serve_left(struct weft_chan *c)
{
    struct weft__waiter *w, *kept = NULL;
    struct weft__claimed who, kept_who = { 0 };
    for (bool more = true; more;) {
        struct weft__served served = { 0 };
        if (kept)
            weft__served_add(&served, kept, &kept_who);
        for (int n = kept != NULL; n < SLICE && (w = claim_left(c, &who)) != NULL; n++) {
            weft__served_add(&served, w, &who);
            kept = w;
            kept_who = who;
        }
        more = somebody_left(c);
        if (more) /* the slice is full */
            list_remove(&kept->link);
        weft__unlock(&c->lock);
        weft__served_release(&served);
        if (more)
            weft__lock(&c->lock);
    }
}

void weft__chan_close_kept(struct weft_chan *c, struct weft__served *served)
{
    struct weft__claimed who;
    struct weft__waiter *w;
    c->closed = true;
    while ((w = claim_left(c, &who)) != NULL)
        weft__served_add(served, w, &who);
}

/* Before a close or the end, while the caller may still use the channel. */
static void leave_source(struct weft_chan *c)
{
    weft__lock(&c->lock);
    struct weft__chan_source *s = c->source;
    c->source = NULL;
    weft__unlock(&c->lock);
    if (s)
        s->leave(s);
}

void weft_chan_close(weft_chan *c)
{
    if (weft__forked)
        return;
    leave_source(c);
    weft__lock(&c->lock);
    c->closed = true;
    serve_left(c);
}

/* What was kept, to be thrown away without the lock, and without the channel. */
struct rest {
    void (*drop)(void *item);
    unsigned char *items;
    struct weft__chan_node *heap;
    size_t item_bytes;
    uint32_t head, len, capacity;
};

/* Under the lock, of a closed channel: it has no buffer after that. */
static struct rest take_rest(struct weft_chan *c)
{
    struct rest r = { c->drop, c->items, c->heap, c->item_bytes, c->head, ati_load(&c->len), c->capacity };
    c->items = NULL;
    c->heap = NULL;
    c->unfinished -= r.len < c->unfinished ? r.len : c->unfinished;
    ati_store(&c->len, 0);
    return r;
}

static size_t items_bytes(size_t item_bytes, uint32_t capacity)
{
    return item_bytes * capacity;
}

static void throw_rest(const struct rest *r)
{
    for (uint32_t i = 0; r->drop && i < r->len; i++) {
        uint64_t at = r->heap ? r->heap[i].slot : ((uint64_t)r->head + i) % r->capacity;
        r->drop(r->items + at * r->item_bytes);
    }
    if (r->items)
        weft__mem_large_free(r->items, items_bytes(r->item_bytes, r->capacity));
    weft__mem_free(r->heap);
}

void weft_chan_close_now(weft_chan *c)
{
    if (weft__forked)
        return;
    leave_source(c);
    weft__lock(&c->lock);
    c->closed = true;
    struct rest r = take_rest(c);
    serve_left(c);
    throw_rest(&r);
}

/* ---- counts */

size_t weft_chan_len(const weft_chan *c)
{
    return ati_load(&c->len);
}

uint64_t weft_chan_missed(weft_chan *c)
{
    if (weft__forked)
        return 0;
    weft__lock(&c->lock);
    uint64_t n = c->missed;
    c->missed = 0;
    weft__unlock(&c->lock);
    return n;
}

int weft_chan_done(weft_chan *c)
{
    if (weft__forked)
        return -ECHILD;
    weft__lock(&c->lock);
    /* What is kept has not been received yet. */
    int rc = c->unfinished > ati_load(&c->len) ? 0 : -EINVAL;
    if (rc == 0 && --c->unfinished == 0)
        weft__waiters_serve_all(&c->joiners, &c->lock, 0);
    else
        weft__unlock(&c->lock);
    return rc;
}

int weft_chan_wait_done(weft_chan *c)
{
    struct weft__frame *f = weft__current();
    struct weft__waiting wait;
    struct weft__waiter at;
    if (!f)
        return weft__no_frame();
    int rc = weft__waiter_begin(f, &wait, &at);
    if (rc < 0)
        return rc;
    weft__lock(&c->lock);
    if (c->unfinished == 0) {
        weft__unlock(&c->lock);
        weft__waiter_give_up(f);
        return 0;
    }
    weft__waiters_add(&c->joiners, &at);
    weft__unlock(&c->lock);
    weft__waits_for(f, WEFT__WAITS_DRAIN, (uint64_t)(uintptr_t)c);
    if (weft__waiter_await(f, &at, &c->lock))
        return 0;
    weft__unlock(&c->lock);
    return -ECANCELED;
}

/* ---- create, destroy */

static bool makes_sense(size_t item_bytes, size_t capacity, const weft_chan_options *o)
{
    if (!weft__reserved_zero(o))
        return false;
    if (capacity > INT32_MAX || o->order < WEFT_ORDER_FIFO || o->order > WEFT_ORDER_PRIORITY)
        return false;
    if (capacity == 0 && (o->order != WEFT_ORDER_FIFO || o->drop_oldest))
        return false;
    if (o->order == WEFT_ORDER_PRIORITY && (!o->compare || o->drop_oldest))
        return false;
    return !(o->drop_oldest && o->drop && item_bytes > WEFT__DROP_BYTES);
}

/* False: no memory. */
static bool make_buffer(struct weft_chan *c)
{
    size_t bytes = items_bytes(c->item_bytes, c->capacity);
    if (bytes > 0 && !(c->items = weft__mem_large(bytes)))
        return false;
    if (c->order != WEFT_ORDER_PRIORITY)
        return true;
    c->heap = weft__mem_zeroed(c->capacity * sizeof *c->heap);
    for (uint32_t i = 0; c->heap && i < c->capacity; i++)
        c->heap[i].slot = i;
    return c->heap != NULL;
}

static void free_chan(struct weft_chan *c)
{
    struct rest r = take_rest(c);
    weft__mem_free(c);
    throw_rest(&r);
}

int weft_chan_create(weft_chan **out, size_t item_bytes, size_t capacity, const weft_chan_options *o)
{
    static const weft_chan_options defaults;
    size_t bytes;
    if (!o)
        o = &defaults;
    if (!out || !makes_sense(item_bytes, capacity, o))
        return -EINVAL;
    if (__builtin_mul_overflow(item_bytes, capacity, &bytes) || bytes > PTRDIFF_MAX || item_bytes > UINT32_MAX)
        return -ENOMEM;
    struct weft_chan *c = weft__mem_aligned(64, sizeof *c);
    if (!c)
        return -ENOMEM;
    memset(c, 0, sizeof *c);
    c->item_bytes = (uint32_t)item_bytes;
    c->capacity = (uint32_t)capacity;
    c->order = (uint8_t)o->order;
    c->compare = o->compare;
    c->drop_oldest = o->drop_oldest;
    c->drop = o->drop;
    if (!make_buffer(c)) {
        free_chan(c);
        return -ENOMEM;
    }
    *out = c;
    return 0;
}

void weft_chan_destroy(weft_chan **out)
{
    struct weft_chan *c = out ? *out : NULL;
    if (!c)
        return;
    *out = NULL;
    if (c->topic && !weft__forked)
        weft__topic_leave(c);
    if (!weft__forked)
        leave_source(c);
    /* Whoever is in a list is in a call, and would find it gone. */
    weft__expect(weft__forked || (weft__waiters_none(&c->receivers) && weft__waiters_none(&c->senders) &&
            weft__waiters_none(&c->joiners)));
    free_chan(c);
}
