/* os/select.c - the first of several things.
 *
 * A case is either at an object of sync/, with a lock and a list of waiters, or outside: a time, a descriptor, the end of
 * a task, which are looked at without a lock, and fire a token (sched/wait.h). It is in this row, since a descriptor is
 * looked at as os/ready.c does.
 *
 *     S1  the cases are looked at, in an order that is drawn, an object with its lock alone: the first that is ready is
 *         done. An object's partner is claimed (B2), and nothing else: this select has no token yet, or shows it to no object
 *     S2  none: all objects are locked, in the order of their addresses, each once
 *     S3  S1 again, in a new order, and of the outside what was seen there
 *     S4  none: a token (A1), and a waiter into the list of each object; unlock all
 *     S5  the wait
 *     S6  served: by one object, which has done the case. Else it is woken from outside, or told to leave
 *     S7  off all lists; if it was woken from outside, S1 again
 *
 * With something outside, S4's token is made and published there between S2 and S3, after a first look at all, so S3 may
 * find a case ready when the token was fired already: then what fired it is looked at again by who comes next (a
 * descriptor's edge is passed on), or stays as it was (a time, an end).
 *
 * Holds     L1  no claim is ever taken back, and none is made on trust: S3 claims another's token while nobody can see one
 *               of its own at the objects. Two selects that could serve each other hold both objects' locks in turn, so the
 *               second one sees the first one's waiters: they cannot miss each other, nor wait for each other.
 *           L2  its own cases at one object cannot meet: in S1 and S3 none is in a list, and in S4 nothing is looked at.
 *           L3  locks of objects are taken in one order, and under them none but what a claim takes.
 *           L4  a waiter is in a list until its server, or S7, takes it off under that lock; the wait has ended then.
 * Forbidden: two are claimed for one select, or one for none.
 * Source    Go's select locks all channels so; its tentative claims are not needed here, and where something is ready S1
 *           does with one lock or a few what takes all of them there.
 * Tested    tests/select_test.c, tests/explore/select.c, stress/chan.c */
#include <errno.h>
#include <limits.h>
#include <weft/io.h>
#include <weft/select.h>
#include <weft/time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "os/ready.h"
#include "sync/chan.h"
#include "sync/event.h"
#include "sync/notify.h"

enum {
    FEW = 8,            /* cases that need no memory */
    NOT_READY = INT_MIN,
    LOOK_NS = 1000000   /* between two looks of a plain thread at its descriptors */
};

struct descriptor {
    struct weft__slot *slot; /* NULL: not entered */
    bool listed;
    bool edge; /* one was used up here */
    struct weft__io_wait wait;
};

struct place {
    struct weft__waiter at;
    int rc; /* of the outside, for S3: NOT_READY, or what the publishing found */
    union {
        struct descriptor fd;
        struct weft__joiner join;
    } u;
};

struct select {
    struct weft__frame *f;
    weft_case *cs;
    uint32_t n, n_locks;
    struct place *places;
    struct weft__lock **locks;
    uint32_t *order; /* of S1 and S3 */
    bool outside, descriptors;
    int64_t until; /* the earliest of the times */
    struct weft__sleeper sleeper;
    struct weft__waiting wait;
    struct weft__chan_after after;
};

/* ---- the kinds */

struct kind {
    /* Of an object. */
    struct weft__lock *(*lock)(const weft_case *c);
    struct weft__link *(*list)(const weft_case *c);
    /* What the plain call would return, done; NOT_READY. Of an object: under its lock. */
    int (*look)(struct select *s, uint32_t i);
    /* Of the outside: W3 and its end. */
    void (*publish)(struct select *s, uint32_t i);
    void (*unpublish)(struct select *s, uint32_t i);
};

static struct weft__lock *chan_lock(const weft_case *c)
{
    return &((weft_chan *)c->object)->lock;
}
static struct weft__link *receivers(const weft_case *c)
{
    return &((weft_chan *)c->object)->receivers;
}
static struct weft__link *senders(const weft_case *c)
{
    return &((weft_chan *)c->object)->senders;
}
static int of_chan(int rc)
{
    return rc == -EAGAIN ? NOT_READY : rc;
}
static int look_recv(struct select *s, uint32_t i)
{
    const weft_case *c = &s->cs[i];
    return weft__chan_fits(c->object, c->item, c->bytes) ? of_chan(weft__chan_take(c->object, c->item, &s->after)) : -EINVAL;
}
static int look_send(struct select *s, uint32_t i)
{
    const weft_case *c = &s->cs[i];
    return weft__chan_fits(c->object, c->item, c->bytes) ? of_chan(weft__chan_put(c->object, c->item, &s->after)) : -EINVAL;
}

static struct weft__lock *event_lock(const weft_case *c)
{
    return weft__event_lock(c->object);
}
static struct weft__link *event_list(const weft_case *c)
{
    return weft__event_waiters(c->object);
}
static int look_event(struct select *s, uint32_t i)
{
    return weft__event_look(s->cs[i].object) ? 0 : NOT_READY;
}

static struct weft__lock *notify_lock(const weft_case *c)
{
    return weft__notify_lock(c->object);
}
static struct weft__link *notify_list(const weft_case *c)
{
    return weft__notify_waiters(c->object);
}
static int look_notify(struct select *s, uint32_t i)
{
    return weft__notify_take(s->cs[i].object) ? 0 : NOT_READY;
}

/* One timer serves them all; see arm. */
static int look_timer(struct select *s, uint32_t i)
{
    return weft__frame_now(s->f) >= s->cs[i].value ? 0 : NOT_READY;
}

static unsigned fd_events(const weft_case *c)
{
    return (unsigned)c->events & (WEFT_READABLE | WEFT_WRITABLE);
}

/* The call that is in flight while the select lasts. */
static int enter_fd(struct select *s, uint32_t i)
{
    const weft_case *c = &s->cs[i];
    struct descriptor *d = &s->places[i].u.fd;
    if (fd_events(c) == 0 || fd_events(c) != (unsigned)c->events)
        return -EINVAL;
    if (c->value < 0 || c->value > INT_MAX)
        return -EBADF;
    int rc = weft__slot_enter((int)c->value, &d->slot);
    if (rc < 0)
        d->slot = NULL;
    return rc < 0 ? rc : weft__ready_pollable(s->f, d->slot);
}

static int look_fd(struct select *s, uint32_t i)
{
    struct descriptor *d = &s->places[i].u.fd;
    int rc = d->slot ? 0 : enter_fd(s, i);
    if (rc == 0 && (at_load(&d->slot->life) & WEFT__SLOT_CLOSING))
        rc = -EBADF;
    if (rc == 0)
        rc = weft__ready_look(d->slot->fd, fd_events(&s->cs[i]));
    return rc == 0 ? NOT_READY : rc;
}

static void publish_fd(struct select *s, uint32_t i)
{
    struct place *p = &s->places[i];
    struct descriptor *d = &p->u.fd;
    if (weft__is_thread(s->f))
        return; /* it looks now and then */
    d->wait = (struct weft__io_wait){ .token = s->wait.token };
    int rc = weft__slot_register(d->slot, &weft__runtime_of(s->f->group)->poller);
    if (rc < 0) {
        p->rc = rc;
        return;
    }
    while (!(d->listed = weft__slot_wait(d->slot, fd_events(&s->cs[i]), &d->wait, false))) {
        d->edge = true;
        if ((p->rc = look_fd(s, i)) != NOT_READY)
            return;
    }
}

static void unpublish_fd(struct select *s, uint32_t i)
{
    struct descriptor *d = &s->places[i].u.fd;
    if (!d->listed)
        return;
    weft__slot_forget(d->slot, &d->wait);
    d->listed = false;
    d->edge = d->edge || d->wait.events != 0;
}

/* Whoever comes next finds the edge that was used up here, or what is ready still (E6). */
static void leave_fd(struct select *s, uint32_t i, bool done)
{
    struct descriptor *d = &s->places[i].u.fd;
    if (!d->slot)
        return;
    for (unsigned dir = 0; dir < 2 && (d->edge || done); dir++)
        if (fd_events(&s->cs[i]) & (1u << dir))
            weft__slot_pass_on(d->slot, (enum weft__dir)dir);
    weft__slot_leave(d->slot);
}

static int look_join(struct select *s, uint32_t i)
{
    int rc = weft__join_look(s->f, s->cs[i].value);
    return rc == 1 ? NOT_READY : rc;
}
static void publish_join(struct select *s, uint32_t i)
{
    s->places[i].u.join = (struct weft__joiner){ .id = s->cs[i].value, .token = s->wait.token };
    if (!weft__join_publish(&s->places[i].u.join))
        s->places[i].rc = 0;
}
static void unpublish_join(struct select *s, uint32_t i)
{
    weft__join_unpublish(&s->places[i].u.join);
}

static const struct kind kinds[] = {
    [WEFT_CASE_RECV] = { .lock = chan_lock, .list = receivers, .look = look_recv },
    [WEFT_CASE_SEND] = { .lock = chan_lock, .list = senders, .look = look_send },
    [WEFT_CASE_TIMER] = { .look = look_timer },
    [WEFT_CASE_FD] = { .look = look_fd, .publish = publish_fd, .unpublish = unpublish_fd },
    [WEFT_CASE_JOIN] = { .look = look_join, .publish = publish_join, .unpublish = unpublish_join },
    [WEFT_CASE_EVENT] = { .lock = event_lock, .list = event_list, .look = look_event },
    [WEFT_CASE_NOTIFY] = { .lock = notify_lock, .list = notify_list, .look = look_notify },
};

static inline bool is_object(const weft_case *c)
{
    const unsigned objects = 1u << WEFT_CASE_RECV | 1u << WEFT_CASE_SEND | 1u << WEFT_CASE_EVENT | 1u << WEFT_CASE_NOTIFY;
    return objects >> c->kind & 1;
}

static inline bool is_on(const weft_case *c)
{
    return is_object(c) ? c->object != NULL : c->kind != WEFT_CASE_NONE;
}

/* ---- locks and lists */

static void lock_all(const struct select *s)
{
    for (uint32_t i = 0; i < s->n_locks; i++)
        weft__lock(s->locks[i]);
}

static void unlock_all(const struct select *s)
{
    for (uint32_t i = s->n_locks; i > 0; i--)
        weft__unlock(s->locks[i - 1]);
}

/* By address, and each once; Shell's sort, as there may be many. */
static void collect_locks(struct select *s)
{
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const weft_case *c = &s->cs[i];
        if (is_object(c) && is_on(c))
            s->locks[n++] = kinds[c->kind].lock(c);
    }
    for (uint32_t gap = n / 2; gap > 0; gap = gap == 2 ? 1 : (uint32_t)((uint64_t)gap * 5 / 11))
        for (uint32_t i = gap; i < n; i++) {
            struct weft__lock *l = s->locks[i];
            uint32_t j = i;
            for (; j >= gap && (uintptr_t)s->locks[j - gap] > (uintptr_t)l; j -= gap)
                s->locks[j] = s->locks[j - gap];
            s->locks[j] = l;
        }
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || s->locks[kept - 1] != s->locks[i])
            s->locks[kept++] = s->locks[i];
    s->n_locks = kept;
}

static void add_all(struct select *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const weft_case *c = &s->cs[i];
        if (!is_object(c) || !is_on(c))
            continue;
        s->places[i].at = (struct weft__waiter){ .wait = &s->wait, .item = c->item, .which = i };
        weft__waiters_add(kinds[c->kind].list(c), &s->places[i].at);
    }
}

/* S7. The one that was served, if any, is off its list, and its object may be gone. */
static void remove_all(struct select *s, uint32_t served)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const weft_case *c = &s->cs[i];
        if (!is_object(c) || !is_on(c) || i == served)
            continue;
        struct weft__lock *l = kinds[c->kind].lock(c);
        weft__lock(l);
        if (list_linked(&s->places[i].at.link))
            list_remove(&s->places[i].at.link);
        weft__unlock(l);
    }
}

/* ---- looking */

static uint32_t draw(uint32_t below)
{
    static at_word shared = UINT64_C(0x9e3779b97f4a7c15); /* two that draw the same at the same time do no harm */
    struct weft__sched *w = weft__self();
    uint64_t state = w ? own(w->draws) : at_load(&shared);
    uint32_t r = weft__rng_next(&state);
    if (w)
        own_set(w->draws, state);
    else
        at_store(&shared, state);
    return (uint32_t)((uint64_t)r * below >> 32);
}

typedef int look_fn(struct select *s, const struct kind *k, uint32_t i);

/* S1 */
static inline int look_alone(struct select *s, const struct kind *k, uint32_t i)
{
    if (!is_object(&s->cs[i]))
        return s->places[i].rc = k->look(s, i);
    struct weft__lock *l = k->lock(&s->cs[i]);
    weft__lock(l);
    int rc = k->look(s, i);
    weft__unlock(l);
    return rc;
}

/* S3 */
static inline int look_locked(struct select *s, const struct kind *k, uint32_t i)
{
    return is_object(&s->cs[i]) ? k->look(s, i) : s->places[i].rc;
}

/* The index of the case that was done, or s->n. The order is drawn as far as it is needed, so of those that are ready each
 * is as likely. */
static inline uint32_t pick(struct select *s, look_fn *look)
{
    s->after.served.at = NULL;
    s->after.drop = NULL;
    for (uint32_t left = s->n; left > 0; left--) {
        uint32_t at = draw(left), i = s->order[at];
        s->order[at] = s->order[left - 1];
        s->order[left - 1] = i;
        if (!is_on(&s->cs[i]))
            continue;
        int rc = look(s, &kinds[s->cs[i].kind], i);
        if (rc == NOT_READY)
            continue;
        s->cs[i].rc = rc;
        return i;
    }
    return s->n;
}

/* True: *i was done. */
static bool try_each(struct select *s, uint32_t *i)
{
    *i = pick(s, look_alone);
    if (*i == s->n)
        return false;
    weft__chan_settle(&s->after);
    return true;
}

/* S2, S3. True: *i was done, and all are locked still. */
static bool try_all(struct select *s, uint32_t *i)
{
    if (s->n_locks == 0)
        collect_locks(s);
    lock_all(s);
    *i = pick(s, look_locked);
    return *i < s->n;
}

static int done(struct select *s, uint32_t i)
{
    unlock_all(s);
    weft__chan_settle(&s->after);
    return (int)i;
}

/* ---- waiting */

/* 0; -ENOMEM. */
static int arm(struct select *s)
{
    if (s->until == WEFT_NEVER || weft__is_thread(s->f))
        return 0;
    struct weft__worker *w = weft__worker_of(weft__self());
    bool first = false;
    s->sleeper = (struct weft__sleeper){ .timer = { .kind = WEFT__TIMER_WAKE }, .token = s->wait.token };
    int rc = weft__timer_arm(&w->timers, &s->sleeper.timer, s->until, &first);
    if (first)
        weft__worker_due(&w->sched, s->until);
    return rc;
}

/* 0; -ENOMEM, and nothing is published. */
static int publish_outside(struct select *s)
{
    int rc = arm(s);
    for (uint32_t i = 0; rc == 0 && i < s->n; i++) {
        const struct kind *k = &kinds[s->cs[i].kind];
        if (k->publish)
            k->publish(s, i);
    }
    return rc;
}

static void unpublish_outside(struct select *s)
{
    if (!s->outside)
        return;
    if (s->until != WEFT_NEVER && !weft__is_thread(s->f))
        weft__timer_disarm(&s->sleeper.timer);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kind *k = &kinds[s->cs[i].kind];
        if (k->unpublish)
            k->unpublish(s, i);
    }
}

/* S5. A descriptor that is waited for is a hand outside of virtual time (engine/leap.c). */
static enum weft__cause sleep_there(struct select *s)
{
    struct weft__frame *f = s->f;
    weft__waits_for(f, WEFT__WAITS_SELECT, (uint64_t)(uintptr_t)s->cs);
    if (weft__is_thread(f)) {
        int64_t look = s->descriptors ? weft__now() + LOOK_NS : WEFT_NEVER;
        return weft__await_until(f, s->until < look ? s->until : look);
    }
    struct weft__clock *c = &f->group->clock;
    bool hand = s->descriptors && c->is_virtual;
    if (hand)
        at_add(&c->outside, 1);
    enum weft__cause cause = weft__await(f);
    if (hand)
        at_add(&c->outside, (uint64_t)-1);
    return cause;
}

/* S5 to S7. NOT_READY: again. */
static int await_one(struct select *s)
{
    enum weft__cause cause = sleep_there(s);
    uint32_t served = s->n;
    if (cause == WEFT__CAUSE_SERVED) {
        weft__waiting_settle(&s->wait);
        served = ati_load(&s->wait.done) - 1;
        s->cs[served].rc = s->wait.rc;
    }
    remove_all(s, served);
    unpublish_outside(s);
    if (cause == WEFT__CAUSE_CANCEL)
        return -ECANCELED;
    return served < s->n ? (int)served : NOT_READY;
}

/* With a token from the start. */
static int wait_outside_too(struct select *s)
{
    uint32_t i;
    int rc = weft__await_begin(s->f, &s->wait.token);
    if (rc < 0)
        return rc;
    ati_store(&s->wait.done, 0);
    rc = publish_outside(s);
    if (rc < 0) {
        weft__waiter_give_up(s->f);
        return rc;
    }
    if (try_all(s, &i)) {
        rc = done(s, i);
        weft__waiter_give_up(s->f);
        unpublish_outside(s);
        return rc;
    }
    add_all(s);
    unlock_all(s);
    return await_one(s);
}

static int once(struct select *s)
{
    uint32_t i;
    if (try_each(s, &i))
        return (int)i;
    if (s->outside)
        return wait_outside_too(s);
    if (try_all(s, &i))
        return done(s, i);
    if (weft__waiter_begin_at_once(s->f, &s->wait)) {
        add_all(s);
        unlock_all(s);
        return await_one(s);
    }
    unlock_all(s);
    return wait_outside_too(s);
}

/* ---- the calls */

/* What a select needs beside its cases; of few, on the stack. */
struct room {
    struct place places[FEW];
    struct weft__lock *locks[FEW];
    uint32_t order[FEW];
};

static void free_room(const struct select *s, struct room *few)
{
    if (s->places != few->places)
        weft__mem_free(s->places);
}

static __attribute__((noinline)) bool more_room(struct select *s)
{
    s->places = weft__mem_alloc(s->n * (sizeof *s->places + sizeof *s->locks + sizeof *s->order));
    if (!s->places)
        return false;
    s->locks = (struct weft__lock **)(void *)(s->places + s->n);
    s->order = (uint32_t *)(void *)(s->locks + s->n);
    return true;
}

static __attribute__((noinline)) void open_outside(struct select *s, uint32_t i)
{
    const weft_case *c = &s->cs[i];
    s->outside = true;
    s->descriptors = s->descriptors || c->kind == WEFT_CASE_FD;
    s->places[i].u.fd.slot = NULL;
    s->places[i].u.fd.listed = s->places[i].u.fd.edge = false;
    if (c->kind == WEFT_CASE_TIMER && c->value < s->until)
        s->until = c->value;
}

/* How many cases are on; -EINVAL, -ENOMEM. Only if there is one is the select to be closed. */
static inline int open_select(struct select *s, struct weft__frame *f, weft_case *cs, size_t n, struct room *few)
{
    int on = 0;
    if (n > INT32_MAX || (!cs && n > 0))
        return -EINVAL;
    s->f = f;
    s->cs = cs;
    s->n = (uint32_t)n;
    s->n_locks = 0;
    s->places = few->places;
    s->locks = few->locks;
    s->order = few->order;
    s->until = WEFT_NEVER;
    s->outside = s->descriptors = false;
    if (s->n > FEW && !more_room(s))
        return -ENOMEM;
    for (uint32_t i = 0; i < s->n; i++) {
        if (cs[i].kind < WEFT_CASE_NONE || cs[i].kind > WEFT_CASE_NOTIFY) {
            on = -EINVAL;
            break;
        }
        s->order[i] = i;
        on += is_on(&cs[i]);
        if (!is_object(&cs[i]) && is_on(&cs[i]))
            open_outside(s, i);
    }
    if (on <= 0)
        free_room(s, few);
    return on;
}

static inline int close_select(struct select *s, struct room *few, int rc)
{
    for (uint32_t i = 0; s->descriptors && i < s->n; i++)
        if (s->cs[i].kind == WEFT_CASE_FD)
            leave_fd(s, i, (int)i == rc);
    free_room(s, few);
    return rc;
}

int weft_select(weft_case *cs, size_t n)
{
    struct weft__frame *f = weft__current();
    struct select s; /* what is large in it stays as it is */
    struct room few;
    if (!f)
        return weft__no_frame();
    int rc = open_select(&s, f, cs, n, &few);
    if (rc <= 0)
        return rc < 0 ? rc : -EINVAL;
    rc = weft__enter_call(f);
    if (rc == 0)
        do {
            rc = once(&s);
        } while (rc == NOT_READY);
    return close_select(&s, &few, rc);
}

int weft_try_select(weft_case *cs, size_t n)
{
    struct weft__frame *f = weft__current();
    struct select s; /* what is large in it stays as it is */
    struct room few;
    uint32_t i;
    if (!f)
        return weft__no_frame();
    int rc = open_select(&s, f, cs, n, &few);
    if (rc <= 0)
        return rc < 0 ? rc : -EAGAIN;
    rc = -EAGAIN;
    if (try_each(&s, &i))
        rc = (int)i;
    else if (try_all(&s, &i))
        rc = done(&s, i);
    else
        unlock_all(&s);
    return close_select(&s, &few, rc);
}

/* ---- the cases */

weft_case weft_on_recv(weft_chan *c, void *item, size_t bytes)
{
    return (weft_case){ .kind = WEFT_CASE_RECV, .object = c, .item = item, .bytes = bytes };
}

weft_case weft_on_send(weft_chan *c, const void *item, size_t bytes)
{
    return (weft_case){ .kind = WEFT_CASE_SEND, .object = c, .item = (void *)(uintptr_t)item, .bytes = bytes };
}

weft_case weft_on_timer(int64_t within)
{
    return weft_on_time(weft_after(within));
}

weft_case weft_on_time(int64_t at)
{
    return (weft_case){ .kind = WEFT_CASE_TIMER, .value = at };
}

weft_case weft_on_fd(int fd, int events)
{
    return (weft_case){ .kind = WEFT_CASE_FD, .value = fd, .events = events };
}

weft_case weft_on_join(weft_task t)
{
    return (weft_case){ .kind = WEFT_CASE_JOIN, .value = t };
}

weft_case weft_on_event(weft_event *e)
{
    return (weft_case){ .kind = WEFT_CASE_EVENT, .object = e };
}

weft_case weft_on_notify(weft_notify *n)
{
    return (weft_case){ .kind = WEFT_CASE_NOTIFY, .object = n };
}
