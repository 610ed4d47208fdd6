/* stress/topic.c - topics: several publish while subscribers come, lag, are called off and go, and the topic ends.
 *
 * Rounds. Publishers, tasks and a plain thread, publish their numbers, often within a scope that ends early: what was refused
 * is published again. One subscriber has room for all there is; the others have little, so that they lag, and most of
 * them leave and come again. In half of the rounds the topic keeps the last item. When the publishers are through, the
 * topic ends.
 *
 * Law       all subscribers see what they get in the order of the one that gets all, and nothing twice; whoever stays to the
 *           end has got or missed what was published since it came. */
#include "support.h"

enum { PUBLISHERS = 5, LAGGERS = 5, ITEMS = SCALED(400, 60), ALL = PUBLISHERS * ITEMS };

static atomic_ulong n_published, n_refused, n_received, n_missed, n_came, n_stayed, n_rounds;

struct item {
    uint32_t publisher, number;
};

struct round {
    weft_topic *t;
    weft_chan *whole; /* of the one that gets all */
    uint32_t rank[ALL]; /* by its receiver, before anybody is checked: 1 is the first */
    atomic_uint begun, done; /* calls of publish that succeed; those that are through */
    atomic_uint numbers, laggers;
    weft_mutex gate; /* nobody subscribes to a topic that has ended */
    bool over;       /* under gate */
    bool keeps;
    uint64_t seed;
};

/* What a lagger got in one subscription. */
struct got {
    uint32_t id[ALL + 1], n;
    uint64_t missed;
    uint32_t done_before, begun_after;
    bool stayed;
    struct got *next;
};

struct lagger {
    struct round *r;
    struct got *all;
};

static uint32_t id_of(struct item v)
{
    CHECK(v.publisher < PUBLISHERS && v.number < ITEMS, "a broken item: %u of %u", v.number, v.publisher);
    return v.publisher * ITEMS + v.number;
}

/* ---- publishers */

static int publish_once(struct round *r, struct chance *c, struct item v)
{
    weft_scope s;
    bool scoped = chance_one_in(c, 4);
    if (scoped)
        weft_scope_begin(&s, chance_one_in(c, 2) ? 0 : chance_below(c, 20000));
    int rc = weft_topic_publish(r->t, &v, sizeof v);
    if (scoped)
        weft_ignore(weft_scope_end(&s, 0)); /* what it says of its deadline is in rc */
    return rc;
}

static void publish_all(struct round *r)
{
    struct item v = { .publisher = atomic_fetch_add(&r->numbers, 1) };
    struct chance c = chance_of(r->seed, v.publisher);
    for (; v.number < ITEMS; v.number++) {
        atomic_fetch_add(&r->begun, 1);
        int rc;
        while ((rc = publish_once(r, &c, v)) == -ECANCELED)
            atomic_fetch_add(&n_refused, 1);
        CHECK(rc >= 1 && rc <= 2 + LAGGERS, "published to %d", rc);
        atomic_fetch_add(&r->done, 1);
        atomic_fetch_add(&n_published, 1);
        stress_moved();
        stutter(&c);
    }
}

static int task_publishes(void *arg)
{
    publish_all(arg);
    return 0;
}

static void *thread_publishes(void *arg)
{
    publish_all(arg);
    return NULL;
}

/* ---- subscribers */

static int receive(weft_chan *k, struct chance *c, struct item *v)
{
    weft_scope s;
    if (!chance_one_in(c, 8))
        return weft_chan_recv(k, v, sizeof *v);
    weft_scope_begin(&s, chance_below(c, 100000));
    int rc = weft_chan_recv(k, v, sizeof *v);
    weft_ignore(weft_scope_end(&s, 0));
    return rc;
}

static int receive_whole(void *arg)
{
    struct round *r = arg;
    struct item v;
    uint32_t n = 0;
    int rc;
    while ((rc = weft_chan_recv(r->whole, &v, sizeof v)) == 1) {
        CHECK(r->rank[id_of(v)] == 0, "item %u came twice", id_of(v));
        r->rank[id_of(v)] = ++n;
        stress_moved();
    }
    CHECK(rc == 0 && n == ALL && weft_chan_missed(r->whole) == 0, "%u of %d came, then %d", n, ALL, rc);
    return 0;
}

/* False: the topic has ended. */
static bool come(struct round *r, struct got *g, struct chance *c, weft_chan **k)
{
    int rc = weft_mutex_lock(&r->gate);
    CHECK(rc == 0, "weft_mutex_lock: %s", weft_strerror(rc));
    bool over = r->over;
    if (!over) {
        g->done_before = atomic_load(&r->done);
        rc = weft_topic_subscribe(r->t, 1 + chance_below(c, 5), k);
        CHECK(rc == 0, "weft_topic_subscribe: %s", weft_strerror(rc));
        g->begun_after = atomic_load(&r->begun);
    }
    weft_mutex_unlock(&r->gate);
    return !over;
}

static void end_topic(struct round *r)
{
    int rc = weft_mutex_lock(&r->gate);
    CHECK(rc == 0, "weft_mutex_lock: %s", weft_strerror(rc));
    r->over = true;
    weft_topic_destroy(&r->t);
    weft_mutex_unlock(&r->gate);
}

/* One subscription. False: the topic has ended. */
static bool subscribe(struct lagger *l, struct chance *c)
{
    struct round *r = l->r;
    struct got *g = calloc(1, sizeof *g);
    weft_chan *k = NULL;
    CHECK(g != NULL, "no memory");
    if (!come(r, g, c, &k)) {
        free(g);
        return false;
    }
    g->next = l->all;
    l->all = g;
    atomic_fetch_add(&n_came, 1);
    uint32_t most = 1 + chance_below(c, ITEMS);
    struct item v;
    int rc = 1;
    while (g->n < most && (rc = receive(k, c, &v)) != 0) {
        if (rc == 1)
            g->id[g->n++] = id_of(v);
        CHECK(g->n <= ALL, "more than there are");
        if (chance_one_in(c, 4))
            stutter(c);
    }
    g->stayed = rc == 0;
    g->missed = weft_chan_missed(k);
    weft_chan_destroy(&k);
    return !g->stayed;
}

static void lag(struct lagger *l, uint64_t which)
{
    struct chance c = chance_of(l->r->seed, which);
    while (subscribe(l, &c))
        stutter(&c);
}

static int task_lags(void *arg)
{
    struct lagger *l = *(struct lagger **)arg;
    lag(l, 100 + atomic_fetch_add(&l->r->laggers, 1));
    return 0;
}

static void *thread_lags(void *arg)
{
    lag(arg, 99);
    return NULL;
}

/* ---- the law */

static void check(const struct round *r, struct lagger *l)
{
    for (struct got *g = l->all, *next; g; g = next) {
        for (uint32_t i = 1; i < g->n; i++)
            CHECK(r->rank[g->id[i]] > r->rank[g->id[i - 1]], "item %u is %u behind %u, which is %u", g->id[i],
                    r->rank[g->id[i]], g->id[i - 1], r->rank[g->id[i - 1]]);
        uint64_t n = g->n + g->missed;
        CHECK(!g->stayed || (n >= ALL - g->begun_after && n <= (uint64_t)ALL - g->done_before + r->keeps),
                "%llu of %u to %u came", (unsigned long long)n, ALL - g->begun_after, ALL - g->done_before);
        atomic_fetch_add(&n_received, g->n);
        atomic_fetch_add(&n_missed, g->missed);
        atomic_fetch_add(&n_stayed, g->stayed);
        next = g->next;
        free(g);
    }
}

static int play(weft_runtime *rt, struct round *r, struct lagger *all)
{
    weft_scope to, from;
    weft_scope_begin_with(&to, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    weft_spawn(&to, receive_whole, r);
    pthread_t receiver = thread_start(thread_lags, &all[0]);
    for (int i = 1; i < LAGGERS; i++) {
        struct lagger *l = &all[i];
        weft_spawn_copy(&to, task_lags, &l, sizeof l);
    }
    pthread_t publisher = thread_start(thread_publishes, r);
    weft_scope_begin_with(&from, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    for (int i = 1; i < PUBLISHERS; i++)
        weft_spawn(&from, task_publishes, r);
    int rc = weft_scope_end(&from, 0);
    pthread_join(publisher, NULL);
    end_topic(r);
    rc = weft_scope_end(&to, rc);
    pthread_join(receiver, NULL);
    return rc;
}

static int one_round(weft_runtime *rt, uint64_t number)
{
    struct round *r = calloc(1, sizeof *r);
    struct lagger all[LAGGERS] = { { 0 } };
    CHECK(r != NULL, "no memory");
    struct chance c = chance_of(number, 3000);
    r->seed = chance_bits(&c);
    r->keeps = chance_one_in(&c, 2);
    for (int i = 0; i < LAGGERS; i++)
        all[i].r = r;
    int rc = weft_topic_create(&r->t, sizeof(struct item), &(weft_topic_options){ .keep_last = r->keeps });
    CHECK(rc == 0, "weft_topic_create: %s", weft_strerror(rc));
    rc = weft_topic_subscribe(r->t, ALL, &r->whole);
    CHECK(rc == 0, "weft_topic_subscribe: %s", weft_strerror(rc));
    rc = play(rt, r, all);
    weft_chan_destroy(&r->whole);
    for (int i = 0; i < LAGGERS; i++)
        check(r, &all[i]);
    free(r);
    atomic_fetch_add(&n_rounds, 1);
    return rc;
}

static const struct stress_need needs[] = {
    { "rounds", &n_rounds, 1, 0 },
    { "items published", &n_published, 0, 100 },
    { "publishes refused", &n_refused, 1, 0 },
    { "items received", &n_received, 0, 50 },
    { "items missed", &n_missed, 1, 0 },
    { "subscriptions", &n_came, 1, 0 },
    { "that stayed to the end", &n_stayed, 1, 0 },
};

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "topic");
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
