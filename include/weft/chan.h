/* weft/chan.h - channels: items from task to task, and topics: items from one to many.
 *
 * A channel moves items of one size, by copying them, from any number of senders to any number of receivers, first in,
 * first out. With a capacity it keeps that many; with capacity 0 each send meets a receive. It may be sent to and received
 * from by tasks of any runtime and by plain threads, mixed as you like. Every call names the item's size, and it is
 * checked. Who waits is served in the order of coming.
 *
 * A wait that was told to leave moved nothing: what was to be sent was not, and what was to be received is still there.
 * Unlike locks (sync.h), sending and receiving are refused to who was told to leave even where they need not wait.
 *
 * A channel must not be destroyed while somebody is in a call on it. Who received the last item, or was told by the
 * channel that it is closed, may do it, whatever the others who took part in that are still doing.
 *
 * context    any thread: never suspends
 * ordering   what the sender wrote before its send is visible to who received the item; what was written before a close,
 *            to who is told of it
 * source     waiters on their own stacks, claimed by one word; items go from stack to stack where somebody waits:
 *            runtime/sync/chan.c
 */
#ifndef WEFT_CHAN_H
#define WEFT_CHAN_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A channel. */
typedef struct weft_chan weft_chan;

/* What many subscribe to. */
typedef struct weft_topic weft_topic;

/* Which of the items that a channel keeps is received first. */
enum weft_order {
    WEFT_ORDER_FIFO,    /* the oldest */
    WEFT_ORDER_LIFO,    /* the newest */
    WEFT_ORDER_PRIORITY /* the least by .compare; of equals the oldest */
};

/* How a channel is to be. All zero, or NULL, are the defaults. */
typedef struct weft_chan_options {
    int (*compare)(const void *a, const void *b); /* for WEFT_ORDER_PRIORITY: less than 0, 0, more than 0 as `a` comes
                                                   * before, with or after `b`. It is called with the channel locked: it
                                                   * has to be short, and must not call weft */
    bool drop_oldest;         /* a send to a full channel throws away the oldest item, and so never waits; not for
                               * priorities */
    void (*drop)(void *item); /* called for each item that is thrown away: by destroy, close_now, drop_oldest. With
                               * drop_oldest, items have at most 256 bytes then. NULL: nothing is to be done */
    int order;                /* enum weft_order; only FIFO with capacity 0 */
    uint64_t reserved[8]; /* zero */
} weft_chan_options;

/* Makes a channel of items of `item_bytes` bytes (0: they say nothing but that they came; item may be NULL then), which
 * keeps `capacity` of them.
 *
 * returns    0; -ENOMEM; -EINVAL options that do not go together; more than 2^31 - 1 items */
WEFT_CHECK WEFT_API int weft_chan_create(weft_chan **out, size_t item_bytes, size_t capacity, const weft_chan_options *o);

/* Ends it, and sets *c to NULL; items that nobody received are dropped. NULL in *c: nothing is done. */
WEFT_API void weft_chan_destroy(weft_chan **c);

/* Sends a copy of *item, waiting while the channel is full; with capacity 0, until somebody received it.
 *
 * returns    0; -EPIPE the channel is closed, also if that came while it waited; -ECANCELED; -EINVAL wrong size
 * on error   the item was not sent
 * context    task: suspends, cancellation point (the item was not sent); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_chan_send(weft_chan *c, const void *item, size_t bytes);

/* Receives one item into *item, waiting until there is one.
 *
 * returns    1 an item; 0 closed, and nothing is left; -ECANCELED; -EINVAL wrong size
 * on error   *item is untouched and no item is lost
 * context    task: suspends, cancellation point (no item is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_chan_recv(weft_chan *c, void *item, size_t bytes);

/* The same without waiting.
 *
 * returns    what the others do, and -EAGAIN instead of waiting; never -ECANCELED
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_chan_try_send(weft_chan *c, const void *item, size_t bytes);
WEFT_CHECK WEFT_API int weft_chan_try_recv(weft_chan *c, void *item, size_t bytes);

/* Nothing can be sent any more. Who waits to send is told so (-EPIPE); what the channel keeps can still be received, and
 * after that receivers are told that it was all (0). Once is enough, and twice does no harm. */
WEFT_API void weft_chan_close(weft_chan *c);

/* The same, and what the channel keeps is dropped at once: it counts as done (weft_chan_done). */
WEFT_API void weft_chan_close_now(weft_chan *c);

/* How many items it keeps just now. */
WEFT_API size_t weft_chan_len(const weft_chan *c);

/* How many items were thrown away by drop_oldest since this was last asked: a subscriber's lag. */
WEFT_API uint64_t weft_chan_missed(weft_chan *c);

/* Says that one item that was received is dealt with.
 *
 * returns    0; -EINVAL that was one more than there were */
WEFT_API int weft_chan_done(weft_chan *c);

/* Waits until all items that were ever sent are dealt with, that is, as many dones have been said.
 *
 * returns    0; -ECANCELED
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_chan_wait_done(weft_chan *c);

/* How a topic is to be. All zero, or NULL, are the defaults. */
typedef struct weft_topic_options {
    bool keep_last;       /* a new subscriber begins with what was published last. With capacity 1 it is a watched value:
                           * a reader sees the latest, may skip some, and never goes back */
    uint64_t reserved[8]; /* zero */
} weft_topic_options;

/* Makes a topic: what is published goes to every subscriber's own channel.
 *
 * returns    0; -ENOMEM; -EINVAL */
WEFT_CHECK WEFT_API int weft_topic_create(weft_topic **out, size_t item_bytes, const weft_topic_options *o);

/* Ends it, closes its subscribers' channels, and sets *t to NULL: they receive what they have, and then 0. */
WEFT_API void weft_topic_destroy(weft_topic **t);

/* Makes a channel that gets what is published from now on. A subscriber that lags by more than `capacity` (1 or more)
 * loses the oldest items, and weft_chan_missed counts them. weft_chan_destroy ends the subscription, before the topic's end
 * or after.
 *
 * returns    0; -ENOMEM; -EINVAL */
WEFT_CHECK WEFT_API int weft_topic_subscribe(weft_topic *t, size_t capacity, weft_chan **out);

/* Publishes a copy of *item. It never waits for a subscriber: a task yields now and then. What several publish at once comes
 * to all subscribers in the same order.
 *
 * returns    how many subscribers it went to; -ECANCELED; -EINVAL wrong size
 * context    task: suspends, cancellation point (the item was not published); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_topic_publish(weft_topic *t, const void *item, size_t bytes);

#if defined(__GNUC__)
/* How a call that WEFT_CHAN_TYPE defines begins. */
#define WEFT_CHAN_CALL static inline __attribute__((unused))
#else
#define WEFT_CHAN_CALL static inline
#endif

/* Declares `name`, a channel of items of type `type`: name *c, and name_create(&c, capacity, options), name_destroy(&c),
 * name_send(c, &item), name_recv(c, &item), name_try_send, name_try_recv, name_close(c), and name_chan(c), the weft_chan
 * for all other calls. An item of another type does not compile. */
#define WEFT_CHAN_TYPE(name, type)                                                                 \
    typedef struct name name;                                                                      \
    WEFT_CHAN_CALL weft_chan *name##_chan(name *c)                                                 \
    {                                                                                              \
        return (weft_chan *)(void *)c;                                                             \
    }                                                                                              \
    WEFT_CHECK WEFT_CHAN_CALL int name##_create(                                                   \
            name **out, size_t capacity, const weft_chan_options *o)                               \
    {                                                                                              \
        weft_chan *made;                                                                           \
        int rc = weft_chan_create(&made, sizeof(type), capacity, o);                               \
        if (rc == 0)                                                                               \
            *out = (name *)(void *)made;                                                           \
        return rc;                                                                                 \
    }                                                                                              \
    WEFT_CHAN_CALL void name##_destroy(name **c)                                                   \
    {                                                                                              \
        weft_chan *gone = name##_chan(*c);                                                         \
        *c = NULL;                                                                                 \
        weft_chan_destroy(&gone);                                                                  \
    }                                                                                              \
    WEFT_CHECK WEFT_CHAN_CALL int name##_send(name *c, const type *item)                           \
    {                                                                                              \
        return weft_chan_send(name##_chan(c), item, sizeof *item);                                 \
    }                                                                                              \
    WEFT_CHECK WEFT_CHAN_CALL int name##_recv(name *c, type *item)                                 \
    {                                                                                              \
        return weft_chan_recv(name##_chan(c), item, sizeof *item);                                 \
    }                                                                                              \
    WEFT_CHECK WEFT_CHAN_CALL int name##_try_send(name *c, const type *item)                       \
    {                                                                                              \
        return weft_chan_try_send(name##_chan(c), item, sizeof *item);                             \
    }                                                                                              \
    WEFT_CHECK WEFT_CHAN_CALL int name##_try_recv(name *c, type *item)                             \
    {                                                                                              \
        return weft_chan_try_recv(name##_chan(c), item, sizeof *item);                             \
    }                                                                                              \
    WEFT_CHAN_CALL void name##_close(name *c)                                                      \
    {                                                                                              \
        weft_chan_close(name##_chan(c));                                                           \
    }                                                                                              \
    struct name##_is_a_channel

#ifdef __cplusplus
}
#endif
#endif
