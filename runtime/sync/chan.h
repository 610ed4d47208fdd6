/* sync/chan.h - the inside of a channel, for who serves several at once: topics, and select. See chan.c. */
#ifndef WEFT_SYNC_CHAN_H
#define WEFT_SYNC_CHAN_H

#include <weft/chan.h>

#include "sync/waiter.h"

enum { WEFT__DROP_BYTES = 256 };

/* A place in a heap: the slots of heap[0 .. len) are taken, those of the rest are free. */
struct weft__chan_node {
    uint64_t sequence; /* of equals, the oldest first */
    uint32_t slot;
};

/* Where a channel's items come from, if not from senders: os/watch.c, os/signal.c. */
struct weft__chan_source {
    /* The channel is about to be closed or destroyed, and the caller has taken the source from it. */
    void (*leave)(struct weft__chan_source *s);
};

struct weft_chan {
    /* All that most calls touch, in one cache line: of a thousand channels each is cold when its turn comes. */
    struct weft__lock lock;
    at_int len; /* written under the lock */
    uint32_t head; /* the oldest slot of a ring; under the lock, as is what follows */
    uint32_t capacity; /* written once */
    uint32_t item_bytes; /* the same */
    bool closed;
    bool drop_oldest; /* written once */
    uint8_t order;    /* the same */
    struct weft__link receivers, senders; /* under the lock, as is what follows */
    uint64_t unfinished;
    /* Written once. */
    int (*compare)(const void *a, const void *b);
    void (*drop)(void *item);
    struct weft_topic *topic; /* NULL: none */
    /* Under the lock. */
    unsigned char *items;
    struct weft__chan_node *heap; /* WEFT_ORDER_PRIORITY alone */
    struct weft__link joiners;
    uint64_t missed, sequence;
    struct weft__chan_source *source; /* NULL: none. Who takes it out is who ends it */
    struct weft__link subscribed; /* under the topic's lock */
};
_Static_assert(offsetof(struct weft_chan, compare) <= 64, "one line");

/* Who a call has claimed, to be let go once the lock is. */
struct weft__chan_served {
    struct weft__waiter *at; /* NULL: nobody */
    struct weft__claimed who;
};

/* All that a call leaves to be done then; it has no business with the channel any more. */
struct weft__chan_after {
    struct weft__chan_served served;
    void (*drop)(void *item); /* NULL: nothing was thrown away */
    _Alignas(16) unsigned char dropped[WEFT__DROP_BYTES];
};

static inline bool weft__chan_fits(const struct weft_chan *c, const void *item, size_t bytes)
{
    return bytes == c->item_bytes && (item || bytes == 0);
}

/* Under the lock. What the calls return; -EAGAIN: it would have to wait. */
int weft__chan_put(struct weft_chan *c, const void *item, struct weft__chan_after *after);
int weft__chan_take(struct weft_chan *c, void *item, struct weft__chan_after *after);

/* After B4. */
static inline void weft__chan_release(const struct weft__chan_served *served)
{
    if (served->at)
        weft__waiter_release(served->at, &served->who);
}
static inline void weft__chan_settle(struct weft__chan_after *after)
{
    weft__chan_release(&after->served);
    if (after->drop)
        after->drop(after->dropped);
}

/* Under the lock: nothing can be sent any more, and receivers, who wait in vain, are kept for release. */
void weft__chan_close_kept(struct weft_chan *c, struct weft__served *served);

/* sync/topic.c: the subscription of a channel that is about to go. */
void weft__topic_leave(struct weft_chan *c);

/* A1 under the lock of an object, where that takes no other lock and cannot fail: a task that is attached already and
 * was not told to leave. False: nothing was begun, and it is to be done without the lock. */
static inline bool weft__waiter_begin_at_once(struct weft__frame *f, struct weft__waiting *w)
{
    if (weft__is_thread(f) || !ati_load_acquire(&f->attached) ||
            (f->inner && !ati_load_acquire(&weft__scope_of(f->inner)->attached)))
        return false;
    ati_store(&w->done, 0);
    w->token = weft__wait_begin(f->task, f->shield);
    if (own(f->epoch_ok) == at_load_acquire(&weft__cancel_epoch)) {
        f->refusals = 0;
        return true;
    }
    if (!weft__wait_give_up(f->task))
        (void)weft__wait_cause(f->task);
    return false;
}

#endif
