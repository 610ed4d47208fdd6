/* sync/topic.c - what is published goes to every subscriber.
 *
 * Owns      the list of subscribed channels, and the last item.
 * Holds     T1  the list, the last item and the order of what is published are under the topic's lock; the lock of one
 *               channel is taken under it. So all subscribers see the same order, and a new one begins where the
 *               others are.
 *           T2  a channel's `topic` is written once. What it points to stays until the topic and all channels that were
 *               ever subscribed are destroyed; that is what `held` counts. So both may end in any order, at the same
 *               time.
 *           T3  who is served is told after both locks are let go.
 * A topic of many thousands of subscribers is held for some milliseconds by each item; others who publish wait for that.
 * Tested    tests/topic_test.c, stress/chan.c */
#include <errno.h>
#include <string.h>

#include "base/fork.h"
#include "base/mem.h"
#include "sync/chan.h"

struct weft_topic {
    struct weft__lock lock;
    size_t item_bytes;
    bool keep_last, has_last;
    unsigned char *last;
    struct weft__link channels;
    uint64_t held;
};

/* Under the lock, which is free on return: the topic or a channel goes. */
static void let_go(struct weft_topic *t)
{
    bool gone = --t->held == 0;
    weft__unlock(&t->lock);
    if (!gone)
        return;
    weft__mem_free(t->last);
    weft__mem_free(t);
}

int weft_topic_create(weft_topic **out, size_t item_bytes, const weft_topic_options *o)
{
    if (o && !weft__reserved_zero(o))
        return -EINVAL;
    if (!out)
        return -EINVAL;
    struct weft_topic *t = weft__mem_zeroed(sizeof *t);
    if (!t)
        return -ENOMEM;
    t->item_bytes = item_bytes;
    t->keep_last = o && o->keep_last;
    t->held = 1;
    list_init(&t->channels);
    if (t->keep_last && !(t->last = weft__mem_alloc(item_bytes ? item_bytes : 1))) {
        weft__mem_free(t);
        return -ENOMEM;
    }
    *out = t;
    return 0;
}

void weft_topic_destroy(weft_topic **out)
{
    struct weft_topic *t = out ? *out : NULL;
    struct weft__served served = { 0 };
    struct weft__link *l;
    if (!t)
        return;
    *out = NULL;
    if (weft__forked)
        return;
    weft__lock(&t->lock);
    while ((l = list_pop_head(&t->channels)) != NULL) {
        struct weft_chan *c = container_of(l, struct weft_chan, subscribed);
        weft__lock(&c->lock);
        weft__chan_close_kept(c, &served);
        weft__unlock(&c->lock);
    }
    let_go(t);
    weft__served_release(&served);
}

int weft_topic_subscribe(weft_topic *t, size_t capacity, weft_chan **out)
{
    struct weft_chan *c;
    struct weft__chan_after after;
    if (weft__forked)
        return -ECHILD;
    if (!out || capacity == 0)
        return -EINVAL;
    weft_chan_options o = { .drop_oldest = true };
    int rc = weft_chan_create(&c, t->item_bytes, capacity, &o);
    if (rc < 0)
        return rc;
    weft__lock(&t->lock);
    c->topic = t;
    t->held++;
    if (t->has_last)
        (void)weft__chan_put(c, t->last, &after); /* nobody knows the channel yet */
    list_push_tail(&t->channels, &c->subscribed);
    weft__unlock(&t->lock);
    *out = c;
    return 0;
}

void weft__topic_leave(struct weft_chan *c)
{
    struct weft_topic *t = c->topic;
    weft__lock(&t->lock);
    if (list_linked(&c->subscribed))
        list_remove(&c->subscribed);
    let_go(t);
}

/* Under the topic's lock. */
static int publish(struct weft_topic *t, const void *item, struct weft__served *served)
{
    struct weft__chan_after after;
    int n = 0;
    for (struct weft__link *l = t->channels.next; l != &t->channels; l = l->next) {
        struct weft_chan *c = container_of(l, struct weft_chan, subscribed);
        weft__lock(&c->lock);
        n += weft__chan_put(c, item, &after) == 0; /* else its owner has closed it */
        weft__unlock(&c->lock);
        if (after.served.at)
            weft__served_add(served, after.served.at, &after.served.who);
    }
    return n;
}

int weft_topic_publish(weft_topic *t, const void *item, size_t bytes)
{
    struct weft__frame *f = weft__current();
    struct weft__served served = { 0 };
    if (!f)
        return weft__no_frame();
    if (bytes != t->item_bytes || (!item && bytes > 0))
        return -EINVAL;
    int rc = weft__enter_call(f);
    if (rc < 0)
        return rc;
    weft__lock(&t->lock);
    if (t->keep_last) {
        if (bytes > 0)
            memcpy(t->last, item, bytes);
        t->has_last = true;
    }
    rc = publish(t, item, &served);
    weft__unlock(&t->lock);
    weft__served_release(&served);
    return rc;
}
