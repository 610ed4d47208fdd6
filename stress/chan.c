/* stress/chan.c - items on channels of all kinds, sent and received in all ways, while waits end for deadlines and cancels
 * and channels close.
 *
 * Rounds. In each a few channels are drawn: their capacity, order, whether the oldest is dropped. Senders and receivers,
 * tasks and plain threads, call plainly, try, select among all channels, some both sending and receiving in one select;
 * often within a scope that ends early. Then the channels are closed, some with what they keep.
 *
 * Law       an item is received once or dropped once if its send returned 0, and neither if it did not; of one sender
 *           items come from a FIFO channel in order; as many are done as were sent. */
#include "support.h"

enum { CHANNELS = 3, TASKS = 6, ITEMS = SCALED(300, 60), OWNERS = 2 * TASKS + 2 };

static atomic_ulong n_sent, n_received, n_dropped, n_left, n_selects, n_both, n_rounds, n_lagged;

struct item {
    uint32_t id, check;
};

/* What became of an item: how often it was sent, and how often it came out. */
struct fate {
    atomic_uchar sent, out;
};

struct round {
    weft_chan *c[CHANNELS];
    bool fifo[CHANNELS];
    struct fate fates[OWNERS * ITEMS];
    atomic_uint numbers;
    uint64_t seed;
};

static struct round *now; /* of the present round: drop has no argument of its own */

struct agent {
    struct round *r;
    struct chance c;
    uint32_t me, next;
    uint32_t last[CHANNELS][OWNERS]; /* the id + 1 of the last item of each sender */
    bool off[CHANNELS];
};

static struct item item_of(struct agent *a)
{
    uint32_t id = a->me * ITEMS + a->next;
    return (struct item){ id, (uint32_t)chance_mix(id) };
}

static void came_out(struct item v)
{
    CHECK(v.id < OWNERS * ITEMS && v.check == (uint32_t)chance_mix(v.id), "a broken item: %u", v.id);
    CHECK(atomic_fetch_add(&now->fates[v.id].out, 1) == 0, "item %u came out twice", v.id);
    stress_moved();
}

static void drop(void *p)
{
    struct item v;
    memcpy(&v, p, sizeof v);
    came_out(v);
    atomic_fetch_add(&n_dropped, 1);
}

static int by_check(const void *a, const void *b)
{
    uint32_t x = ((const struct item *)a)->check, y = ((const struct item *)b)->check;
    return (x > y) - (x < y);
}

static void sent(struct agent *a)
{
    atomic_fetch_add(&a->r->fates[a->me * ITEMS + a->next].sent, 1);
    a->next++;
    atomic_fetch_add(&n_sent, 1);
}

static void received(struct agent *a, int k, struct item v, int rc)
{
    if (rc == 0) {
        a->off[k] = true;
        return;
    }
    came_out(v);
    uint32_t *last = &a->last[k][v.id / ITEMS];
    CHECK(!a->r->fifo[k] || v.id + 1 > *last, "item %u came after %u", v.id, *last - 1);
    *last = v.id + 1;
    CHECK(weft_chan_done(a->r->c[k]) == 0, "done once too often");
    atomic_fetch_add(&n_received, 1);
}

static bool left(int rc)
{
    if (rc == -ECANCELED || rc == -ETIMEDOUT || rc == -EAGAIN)
        atomic_fetch_add(&n_left, 1);
    else if (rc < 0)
        CHECK(rc == -EPIPE, "a call failed: %s", weft_strerror(rc));
    return rc < 0;
}

/* ---- ways to call */

static void send_one(struct agent *a, int k)
{
    struct item v = item_of(a);
    int rc = chance_one_in(&a->c, 4) ? weft_chan_try_send(a->r->c[k], &v, sizeof v)
                                     : weft_chan_send(a->r->c[k], &v, sizeof v);
    if (rc == 0)
        sent(a);
    else
        left(rc);
}

static void receive_one(struct agent *a, int k)
{
    struct item v = { UINT32_MAX, 7 };
    int rc = chance_one_in(&a->c, 4) ? weft_chan_try_recv(a->r->c[k], &v, sizeof v)
                                     : weft_chan_recv(a->r->c[k], &v, sizeof v);
    if (!left(rc))
        received(a, k, v, rc);
    else
        CHECK(v.id == UINT32_MAX && v.check == 7, "a call that failed wrote an item");
}

static void select_some(struct agent *a, bool sends, bool receives)
{
    weft_case cs[2 * CHANNELS + 1];
    struct item in[CHANNELS], out = item_of(a);
    for (int k = 0; k < CHANNELS; k++) {
        in[k] = (struct item){ UINT32_MAX, 7 };
        cs[k] = weft_on_send(sends ? a->r->c[k] : NULL, &out, sizeof out);
        cs[CHANNELS + k] = weft_on_recv(receives && !a->off[k] ? a->r->c[k] : NULL, &in[k], sizeof in[k]);
    }
    cs[2 * CHANNELS] = chance_one_in(&a->c, 3) ? weft_on_timer(chance_below(&a->c, 200000)) : weft_on_time(WEFT_NEVER);
    if (chance_one_in(&a->c, 5))
        cs[2 * CHANNELS].kind = WEFT_CASE_NONE;
    int rc = chance_one_in(&a->c, 5) ? weft_try_select(cs, COUNT(cs)) : weft_select(cs, COUNT(cs));
    atomic_fetch_add(&n_selects, 1);
    if (rc >= 0 && rc < CHANNELS) {
        if (!left(cs[rc].rc))
            sent(a);
    } else if (rc >= CHANNELS && rc < 2 * CHANNELS) {
        received(a, rc - CHANNELS, in[rc - CHANNELS], cs[rc].rc);
        if (sends)
            atomic_fetch_add(&n_both, 1);
    } else if (rc != 2 * CHANNELS && rc != -EINVAL) {
        left(rc);
    }
    for (int k = 0; k < CHANNELS; k++)
        CHECK(rc == CHANNELS + k || (in[k].id == UINT32_MAX && in[k].check == 7), "a case that was not done wrote an item");
}

/* ---- who calls */

static void step(struct agent *a, bool sends, bool receives)
{
    int k = (int)chance_below(&a->c, CHANNELS);
    if (chance_one_in(&a->c, 3))
        select_some(a, sends, receives);
    else if (sends && (!receives || chance_one_in(&a->c, 2)))
        send_one(a, k);
    else if (receives && !a->off[k])
        receive_one(a, k);
}

/* None waits for ever: all others may wait at another channel. */
static void step_in_scope(struct agent *a, bool sends, bool receives)
{
    weft_scope s;
    weft_scope_begin(&s, chance_below(&a->c, chance_one_in(&a->c, 4) ? 3000000 : 300000));
    if (chance_one_in(&a->c, 8))
        weft_scope_cancel(&s, NULL);
    step(a, sends, receives);
    (void)left(weft_scope_end(&s, 0));
}

static struct agent *agent_of(struct round *r)
{
    struct agent *a = calloc(1, sizeof *a);
    CHECK(a != NULL, "no memory");
    a->r = r;
    a->me = atomic_fetch_add(&r->numbers, 1);
    a->c = chance_of(r->seed, a->me);
    return a;
}

static int send_all(void *arg)
{
    struct agent *a = agent_of(arg);
    bool both = a->me % 3 == 0;
    for (int turns = 0; a->next < ITEMS && turns < 4 * ITEMS; turns++) {
        step_in_scope(a, true, both);
        stutter(&a->c);
    }
    free(a);
    return 0;
}

static int receive_all(void *arg)
{
    struct agent *a = agent_of(arg);
    for (int offs = 0; offs < CHANNELS;) {
        step_in_scope(a, false, true);
        stutter(&a->c);
        offs = 0;
        for (int k = 0; k < CHANNELS; k++)
            offs += a->off[k];
    }
    free(a);
    return 0;
}

static void *thread_sends(void *arg)
{
    send_all(arg);
    return NULL;
}
static void *thread_receives(void *arg)
{
    receive_all(arg);
    return NULL;
}

/* ---- a round */

static void open_channels(struct round *r, struct chance *c)
{
    for (int k = 0; k < CHANNELS; k++) {
        size_t capacity = chance_below(c, 5);
        weft_chan_options o = { .drop = drop };
        if (capacity > 0)
            o.order = (int)chance_below(c, 3);
        o.drop_oldest = capacity > 0 && o.order != WEFT_ORDER_PRIORITY && chance_one_in(c, 4);
        o.compare = by_check;
        r->fifo[k] = o.order == WEFT_ORDER_FIFO;
        int rc = weft_chan_create(&r->c[k], sizeof(struct item), capacity, &o);
        CHECK(rc == 0, "weft_chan_create: %s", weft_strerror(rc));
    }
}

/* Nobody is in a call any more. */
static void check_fates(struct round *r)
{
    for (uint32_t i = 0; i < OWNERS * ITEMS; i++) {
        unsigned char was = atomic_load(&r->fates[i].sent), out = atomic_load(&r->fates[i].out);
        CHECK(was == out, "item %u was sent %u times and came out %u times", i, was, out);
    }
}

static void close_channels(struct round *r, struct chance *c)
{
    for (int k = 0; k < CHANNELS; k++) {
        atomic_fetch_add(&n_lagged, weft_chan_missed(r->c[k]));
        if (chance_one_in(c, 2))
            weft_chan_close_now(r->c[k]);
        else
            weft_chan_close(r->c[k]);
    }
}

/* Some of the senders and receivers are threads. Most often it closes when the senders have ended. */
static int play(weft_runtime *rt, struct round *r)
{
    struct chance c = chance_of(r->seed, 2000);
    weft_scope to, from;
    pthread_t sender = thread_start(thread_sends, r), receiver = thread_start(thread_receives, r);
    weft_scope_begin_with(&to, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    for (int i = 0; i < TASKS; i++)
        weft_spawn(&to, receive_all, r);
    weft_scope_begin_with(&from, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    for (int i = 0; i < TASKS; i++)
        weft_spawn(&from, send_all, r);
    if (chance_one_in(&c, 4)) {
        weft_ignore(weft_sleep(chance_below(&c, 2000000)));
        close_channels(r, &c);
    }
    int rc = weft_scope_end(&from, 0);
    pthread_join(sender, NULL);
    close_channels(r, &c);
    rc = weft_scope_end(&to, rc);
    pthread_join(receiver, NULL);
    for (int k = 0; k < CHANNELS; k++)
        CHECK(weft_chan_wait_done(r->c[k]) == 0 && weft_chan_done(r->c[k]) == -EINVAL, "not all was done");
    return rc;
}

static int one_round(weft_runtime *rt, uint64_t number)
{
    struct round *r = calloc(1, sizeof *r);
    CHECK(r != NULL, "no memory");
    struct chance c = chance_of(number, 3000);
    r->seed = chance_bits(&c);
    now = r;
    open_channels(r, &c);
    int rc = play(rt, r);
    for (int k = 0; k < CHANNELS; k++)
        weft_chan_destroy(&r->c[k]);
    check_fates(r);
    free(r);
    atomic_fetch_add(&n_rounds, 1);
    return rc;
}

static const struct stress_need needs[] = {
    { "rounds", &n_rounds, 2, 0 },
    { "items sent", &n_sent, 0, 100 },
    { "items received", &n_received, 0, 50 },
    { "items dropped", &n_dropped, 1, 0 },
    { "items that lagged", &n_lagged, 0, 0 },
    { "selects", &n_selects, 0, 50 },
    { "selects that could do both", &n_both, 1, 0 },
    { "waits that ended early", &n_left, 0, 10 },
};

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "chan");
    weft_runtime *rt = stress_runtime();
    for (uint64_t i = 0; !stress_over_when(needs, COUNT(needs)); i++) {
        int rc = one_round(rt, i);
        CHECK(rc == 0, "a round: %s", weft_strerror(rc));
    }
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
