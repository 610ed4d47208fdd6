/* policy_test.c - how the children of a scope are joined, how many there may be, who hears of their ends, and what a hard
 * cancel cuts off: coord/policy.c and coord/hard.c seen from outside.
 */
#include "support.h"

#include "base/fault.h"

static const int worker_counts[] = { 1, 2, 4 };

/* -- verdicts: a table of what the children do, one after the other, and what comes of it -- */

enum act {
    NOTHING, /* there is no such child */
    WELL,    /* returns 7 */
    BADLY,   /* -EPIPE */
    WORSE,   /* -EIO */
    STAYS    /* until it is told to leave */
};
enum { KIDS = 4, LEFT = -10000 };

struct plan {
    int join, need;
    enum act acts[KIDS];
    int body, end, failed;
    int winner; /* which child, from 1; 0 none */
    bool deadline;
};

/* clang-format off */
static const struct plan plans[] = {
    /* all */
    { WEFT_JOIN_ALL, 0, { WELL, WELL },                 0, 0,          0, 0, false },
    { WEFT_JOIN_ALL, 0, { WELL, BADLY, STAYS },         0, -EPIPE,     1, 0, false },
    /* the first success */
    { WEFT_JOIN_ANY, 0, { WELL, STAYS, STAYS },         0, 0,          0, 1, false },
    { WEFT_JOIN_ANY, 0, { BADLY, WELL, STAYS },         0, 0,          1, 2, false },
    { WEFT_JOIN_ANY, 0, { BADLY, WORSE, WELL, STAYS },  5, 5,          2, 3, false },
    { WEFT_JOIN_ANY, 0, { BADLY, WORSE },               0, -EPIPE,     2, 0, false },
    { WEFT_JOIN_ANY, 0, { WORSE, BADLY },               0, -EIO,       2, 0, false },
    { WEFT_JOIN_ANY, 0, { WELL, STAYS },                LEFT, 0,       0, 1, false },
    { WEFT_JOIN_ANY, 0, { BADLY, STAYS },               0, -ETIMEDOUT, 1, 0, true },
    { WEFT_JOIN_ANY, 0, { STAYS, STAYS },               0, -ETIMEDOUT, 0, 0, true },
    { WEFT_JOIN_ANY, 0, { NOTHING },                    0, -ENODATA,   0, 0, false },
    { WEFT_JOIN_ANY, 0, { STAYS },                      -EIO, -EIO,    0, 0, false },
    { WEFT_JOIN_ANY, 0, { WELL, STAYS },                -EIO, -EIO,    0, 1, false },
    /* n of m */
    { WEFT_JOIN_ANY, 2, { WELL, BADLY, WELL, STAYS },   0, 0,          1, 1, false },
    { WEFT_JOIN_ANY, 3, { WELL, BADLY, WELL },          0, -EPIPE,     1, 1, false },
    { WEFT_JOIN_ANY, 3, { WELL, WELL },                 0, -ENODATA,   0, 1, false },
    { WEFT_JOIN_ANY, 2, { WELL, STAYS },                0, -ETIMEDOUT, 0, 1, true },
    /* the first to end */
    { WEFT_JOIN_RACE, 0, { WELL, STAYS, STAYS },        0, 0,          0, 1, false },
    { WEFT_JOIN_RACE, 0, { BADLY, STAYS, STAYS },       0, -EPIPE,     1, 1, false },
    { WEFT_JOIN_RACE, 0, { BADLY, STAYS },              LEFT, -EPIPE,  1, 1, false },
    { WEFT_JOIN_RACE, 0, { STAYS, STAYS },              0, -ETIMEDOUT, 0, 0, true },
    { WEFT_JOIN_RACE, 0, { NOTHING },                   0, -ENODATA,   0, 0, false },
    /* keep going */
    { WEFT_JOIN_KEEP_GOING, 0, { BADLY, WORSE, WELL },  0, -EPIPE,     2, 0, false },
    { WEFT_JOIN_KEEP_GOING, 0, { WELL, WELL, WELL },    3, 3,          0, 0, false },
    { WEFT_JOIN_KEEP_GOING, 0, { WELL, WORSE },         -EIO, -EIO,    1, 0, false },
    { WEFT_JOIN_KEEP_GOING, 0, { BADLY, STAYS },        0, -EPIPE,     1, 0, true },
    { WEFT_JOIN_KEEP_GOING, 0, { STAYS, STAYS },        0, -ETIMEDOUT, 0, 0, true },
};
/* clang-format on */

struct run {
    const struct plan *plan;
    int end, failed, told;
    weft_task tasks[KIDS], winner, winner_after;
    atomic_int turn;
    weft_failure failures[KIDS];
};

struct kid {
    struct run *run;
    int number;
    enum act act;
};

/* Each that ends by itself does so when the one before it has. */
static int act(void *arg)
{
    struct kid *k = arg;
    if (k->act == STAYS) {
        int rc = weft_sleep(WEFT_NEVER);
        return rc;
    }
    if (!wait_for(&k->run->turn, k->number))
        return -ETIME;
    return k->act == WELL ? 7 : k->act == BADLY ? -EPIPE : -EIO;
}

static int act_out(void *arg)
{
    struct run *r = arg;
    struct kid kids[KIDS];
    const struct plan *p = r->plan;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER,
            &(weft_scope_options){ .join = p->join, .need = p->need, .failures = r->failures, .failures_max = KIDS });
    for (int i = 0; i < KIDS && p->acts[i] != NOTHING; i++) {
        kids[i] = (struct kid){ .run = r, .number = i, .act = p->acts[i] };
        r->tasks[i] = weft_spawn_with(&s, act, &kids[i], NULL);
    }
    /* The acts, one by one: the tasks that end have ended, as their scope has seen. */
    weft_scope shield;
    weft_scope_begin_shield(&shield, LIMIT);
    for (int i = 0; i < KIDS && p->acts[i] != NOTHING; i++) {
        if (p->acts[i] == STAYS)
            continue;
        atomic_store(&r->turn, i);
        weft_ignore(weft_task_join(r->tasks[i]));
    }
    weft_ignore(weft_scope_end(&shield, 0));
    if (p->deadline)
        weft_scope_set_deadline(&s, weft_now());
    r->winner = weft_scope_winner(&s);
    r->told = p->body == LEFT ? weft_sleep(WEFT_NEVER) : 0;
    r->end = weft_scope_end(&s, p->body == LEFT ? r->told : p->body);
    r->failed = weft_scope_failed(&s);
    r->winner_after = weft_scope_winner(&s);
    return 0;
}

START_TEST(a_scope_ends_as_its_policy_says)
{
    for (int w = 0; w < COUNT(worker_counts); w++) {
        struct run r = { .plan = &plans[_i] };
        ck_assert_int_eq(weft_run(act_out, &r, QUIETLY_ON(worker_counts[w])), 0);
        ck_assert_int_eq(r.end, r.plan->end);
        ck_assert_int_eq(r.failed, r.plan->failed);
        weft_task winner = r.plan->winner ? r.tasks[r.plan->winner - 1] : 0;
        ck_assert(r.winner == winner && r.winner_after == winner);
        if (r.plan->body == LEFT)
            ck_assert_int_eq(r.told, -ECANCELED);
        for (int i = 0, n = 0; i < KIDS; i++) {
            if (r.plan->acts[i] != BADLY && r.plan->acts[i] != WORSE)
                continue;
            ck_assert(r.failures[n].task == r.tasks[i]);
            ck_assert_int_eq(r.failures[n++].code, r.plan->acts[i] == BADLY ? -EPIPE : -EIO);
        }
    }
}
END_TEST

struct told {
    char reason[64];
    int end, outer, after;
    weft_task winner, first;
};

static int tell_why(void *arg)
{
    struct told *t = arg;
    int rc = weft_sleep(WEFT_NEVER);
    const char *why = weft_cancel_reason();
    snprintf(t->reason, sizeof t->reason, "%s", why ? why : "(none)");
    return rc;
}

static int do_nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int lose(void *arg)
{
    struct told *t = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_RACE });
    weft_spawn(&s, tell_why, t);
    weft_spawn(&s, do_nothing, NULL);
    t->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(a_loser_is_told_that_a_sibling_won)
{
    struct told t = { .end = 1 };
    ck_assert_int_eq(weft_run(lose, &t, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(t.end, 0);
    ck_assert_str_eq(t.reason, "a sibling won");
}
END_TEST

/* The outer cancel comes while the scope is decided and waits for who is slow to leave. */
struct overtaken {
    weft_scope *outer;
    int end, outer_end, after;
};

static int slow_loser(void *arg)
{
    struct overtaken *o = arg;
    int rc = weft_sleep(WEFT_NEVER);
    weft_scope_cancel(o->outer, "from outside");
    return rc;
}

static int overtake(void *arg)
{
    struct overtaken *o = arg;
    weft_scope outer, s;
    weft_scope_begin(&outer, WEFT_NEVER);
    o->outer = &outer;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_ANY });
    weft_spawn(&s, slow_loser, o);
    weft_spawn(&s, do_nothing, NULL);
    o->end = weft_scope_end(&s, 0);
    o->after = weft_check();
    o->outer_end = weft_scope_end(&outer, o->after);
    return 0;
}

START_TEST(a_win_is_kept_and_an_outer_cancel_is_not_swallowed_by_it)
{
    struct overtaken o = { .end = 1 };
    ck_assert_int_eq(weft_run(overtake, &o, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(o.end, 0);
    ck_assert_int_eq(o.after, -ECANCELED);
    ck_assert_int_eq(o.outer_end, 0);
}
END_TEST

/* -- bad options -- */

static const weft_scope_options bad_options[] = {
    { .join = -1 },
    { .join = WEFT_JOIN_KEEP_GOING + 1 },
    { .need = -1, .join = WEFT_JOIN_ANY },
    { .need = 1 },
    { .need = 1, .join = WEFT_JOIN_RACE },
    { .limit = -1 },
};

static int use_badly(void *arg)
{
    weft_scope s;
    weft_done d;
    int *seen = arg;
    weft_scope_begin_with(&s, WEFT_NEVER, &bad_options[seen[0]]);
    seen[1] = weft_scope_next(&s, &d);
    seen[2] = weft_scope_end(&s, 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .limit = 3 });
    seen[3] = weft_scope_next(&s, &d); /* nothing is kept */
    seen[4] = weft_scope_next(&s, NULL);
    seen[5] = weft_scope_end(&s, 9);
    seen[6] = weft_scope_next(&s, &d);
    seen[7] = weft_scope_next(NULL, &d);
    return 0;
}

START_TEST(bad_options_and_uses_are_refused)
{
    int seen[8] = { _i };
    ck_assert_int_eq(weft_run(use_badly, seen, ON(1)), 0);
    for (int i = 1; i < 8; i++)
        ck_assert_int_eq(seen[i], i == 5 ? 9 : -EINVAL);
    ck_assert(weft_scope_winner(NULL) == 0);
}
END_TEST

/* -- the limit -- */

struct crowd {
    int limit, spawned, end;
    atomic_int now, most, ran;
    bool by_thread, copied;
    weft_runtime *rt;
};

static int crowd_in(void *arg)
{
    struct crowd *c = *(struct crowd **)arg;
    int now = atomic_fetch_add(&c->now, 1) + 1, most = atomic_load(&c->most);
    while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
        continue;
    int rc = weft_yield();
    if (rc == 0)
        rc = weft_sleep(weft_us(100));
    atomic_fetch_add(&c->ran, 1);
    atomic_fetch_sub(&c->now, 1);
    return rc;
}

static int crowd_out(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .limit = c->limit, .on = c->rt });
    for (int i = 0; i < 100; i++)
        c->spawned += c->copied ? weft_spawn_copy(&s, crowd_in, &c, sizeof c) > 0 : weft_spawn(&s, crowd_in, &c) > 0;
    c->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(no_more_children_run_than_the_limit)
{
    for (int limit = 1; limit < 8; limit += 3) {
        struct crowd c = { .limit = limit, .copied = limit == 4 };
        ck_assert_int_eq(weft_run(crowd_out, &c, ON(worker_counts[_i])), 0);
        ck_assert_int_eq(c.end, 0);
        ck_assert_int_eq(c.spawned, 100);
        ck_assert_int_eq(atomic_load(&c.ran), 100);
        ck_assert_int_le(atomic_load(&c.most), limit);
    }
}
END_TEST

START_TEST(a_plain_thread_is_blocked_by_the_limit)
{
    struct crowd c = { .limit = 2 };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(worker_counts[_i])), 0);
    crowd_out(&c);
    weft_runtime_destroy(&c.rt);
    ck_assert_int_eq(c.end, 0);
    ck_assert_int_eq(c.spawned, 100);
    ck_assert_int_eq(atomic_load(&c.ran), 100);
    ck_assert_int_le(atomic_load(&c.most), 2);
}
END_TEST

struct refused {
    weft_task third;
    int end;
    bool by_deadline, called;
    atomic_int tried; /* to spawn the third */
};

static int stay(void *arg)
{
    (void)arg;
    return weft_sleep(WEFT_NEVER);
}

/* Keeps its place after it was told, until the third was tried. */
static int leave_slowly(void *arg)
{
    struct refused *r = arg;
    weft_scope shield;
    int rc = stay(arg);
    weft_scope_begin_shield(&shield, LIMIT);
    bool tried = wait_for(&r->tried, 1);
    weft_ignore(weft_scope_end(&shield, 0));
    return tried ? rc : -ETIME;
}

static int mark_called(void *arg)
{
    *(bool *)arg = true;
    return 0;
}

static int spawn_too_many(void *arg)
{
    struct refused *r = arg;
    weft_scope s;
    weft_scope_begin_with(&s, r->by_deadline ? weft_ms(2) : WEFT_NEVER, &(weft_scope_options){ .limit = 2 });
    weft_spawn(&s, r->by_deadline ? leave_slowly : stay, r);
    weft_spawn(&s, r->by_deadline ? leave_slowly : stay, r);
    if (!r->by_deadline)
        weft_scope_cancel(&s, "enough");
    r->third = weft_spawn(&s, mark_called, &r->called);
    atomic_store(&r->tried, 1);
    r->end = weft_scope_end(&s, 5);
    return 0;
}

START_TEST(a_spawner_told_to_leave_while_it_waits_spawns_nothing)
{
    for (int d = 0; d < 2; d++) {
        struct refused r = { .by_deadline = d };
        ck_assert_int_eq(weft_run(spawn_too_many, &r, ON(worker_counts[_i])), 0);
        if (d) {
            ck_assert_int_eq((int)r.third, -ECANCELED);
            ck_assert_int_eq(r.end, -ETIMEDOUT); /* though it was not the body's rc */
        } else {
            ck_assert_int_eq(r.end, 0);
        }
        ck_assert(r.called == (r.third > 0));
    }
}
END_TEST

/* Several spawners wait for places of one scope; each place is given once. */
static int spawn_more(void *arg)
{
    void **a = arg;
    struct crowd *c = a[0];
    for (int i = 0; i < 20; i++)
        if (weft_spawn_copy(a[1], crowd_in, &c, sizeof c) > 0)
            atomic_fetch_add(&c->now, 0);
    return 0;
}

static int spawn_from_all_sides(void *arg)
{
    struct crowd *c = arg;
    weft_scope s, helpers;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .limit = 3 });
    void *a[2] = { c, &s };
    weft_scope_begin(&helpers, WEFT_NEVER);
    for (int i = 0; i < 5; i++)
        weft_spawn(&helpers, spawn_more, a);
    c->end = weft_scope_end(&helpers, 0);
    if (c->end == 0)
        c->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(places_are_given_to_each_waiting_spawner_in_turn)
{
    struct crowd c = { .end = 1 };
    ck_assert_int_eq(weft_run(spawn_from_all_sides, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.end, 0);
    ck_assert_int_eq(atomic_load(&c.ran), 100);
    ck_assert_int_le(atomic_load(&c.most), 3);
}
END_TEST

/* -- as completed, wait -- */

enum { ITEMS = 6 };
struct item {
    int value, code;
};
struct harvest {
    int order[ITEMS + 2], codes[ITEMS + 2], n, rc, end, again;
    bool alive;
    weft_runtime *rt;
};

static int bear(void *arg)
{
    struct item *it = arg;
    int rc = weft_sleep(weft_ms(3 * it->value));
    return rc < 0 ? rc : it->code;
}

static int harvest(void *arg)
{
    struct harvest *h = arg;
    static const int values[ITEMS] = { 5, 1, 4, 2, 6, 3 };
    struct item items[ITEMS];
    weft_scope s;
    weft_done d;
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .collect = true, .join = WEFT_JOIN_KEEP_GOING, .on = h->rt });
    for (int i = 0; i < ITEMS; i++) {
        items[i] = (struct item){ .value = values[i], .code = values[i] == 3 ? -EIO : values[i] * 10 };
        weft_spawn_copy(&s, bear, &items[i], sizeof items[i]);
    }
    while ((h->rc = weft_scope_next(&s, &d)) > 0) {
        h->order[h->n] = ((struct item *)d.arg)->value;
        h->codes[h->n++] = d.code;
        h->alive |= weft_task_alive(d.task);
    }
    weft_spawn(&s, do_nothing, h);
    h->again = weft_scope_next(&s, &d);
    h->again += d.arg == h;
    weft_spawn(&s, do_nothing, h); /* never fetched */
    h->end = weft_scope_end(&s, 0);
    return 0;
}

static void check_harvest(const struct harvest *h)
{
    ck_assert_int_eq(h->rc, 0);
    ck_assert_int_eq(h->n, ITEMS);
    ck_assert(!h->alive);
    ck_assert_int_eq(h->again, 2);
    ck_assert_int_eq(h->end, -EIO);
    int sum = 0;
    for (int i = 0; i < ITEMS; i++) {
        sum += h->order[i];
        ck_assert_int_eq(h->codes[i], h->order[i] == 3 ? -EIO : h->order[i] * 10);
    }
    ck_assert_int_eq(sum, 21);
}

START_TEST(children_are_fetched_in_the_order_of_their_ends)
{
    struct harvest h = { .rc = 1 };
    weft_options o = { .workers = worker_counts[_i], .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(harvest, &h, &o), 0);
    check_harvest(&h);
    for (int i = 0; i < ITEMS; i++)
        ck_assert_int_eq(h.order[i], i + 1);
}
END_TEST

START_TEST(a_plain_thread_fetches_children_too)
{
    struct harvest h = { .rc = 1 };
    ck_assert_int_eq(weft_runtime_create(&h.rt, ON(worker_counts[_i])), 0);
    harvest(&h);
    weft_runtime_destroy(&h.rt);
    check_harvest(&h);
}
END_TEST

struct late {
    int first, second, third, end, got;
    bool expired;
};

static int fetch_late(void *arg)
{
    struct late *l = arg;
    weft_scope s;
    weft_done d = { .code = 77 };
    weft_scope_begin_with(&s, weft_sec(1), &(weft_scope_options){ .collect = true });
    weft_spawn(&s, do_nothing, NULL);
    weft_spawn(&s, stay, NULL);
    l->first = weft_scope_next(&s, &d);
    d.code = 77;
    l->second = weft_scope_next(&s, &d);
    l->got = d.code;
    l->third = weft_scope_next(&s, &d);
    l->end = weft_scope_end(&s, l->third);
    l->expired = weft_scope_expired(&s);
    return 0;
}

START_TEST(fetching_is_bounded_by_the_deadline_and_leaves_the_rest)
{
    struct late l = { .first = 9 };
    weft_options o = { .workers = worker_counts[_i], .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(fetch_late, &l, &o), 0);
    ck_assert_int_eq(l.first, 1);
    /* The child that is told at the same time may have left already, and is not lost then. */
    ck_assert(l.second == 1 || l.second == -ECANCELED);
    ck_assert_int_eq(l.got, l.second == 1 ? -ECANCELED : 77);
    ck_assert_int_eq(l.third, -ECANCELED);
    ck_assert_int_eq(l.end, -ETIMEDOUT);
    ck_assert(l.expired);
}
END_TEST

/* asyncio.wait: done and pending, never cancels, a timeout is no error. */
enum when { FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED };

static int wait_set(weft_scope *s, enum when when, int64_t within, weft_done *done, int most)
{
    weft_scope t;
    int n = 0, rc = 1;
    weft_scope_begin(&t, within);
    while (n < most && (rc = weft_scope_next(s, &done[n])) > 0)
        if (n++, when == FIRST_COMPLETED || (when == FIRST_EXCEPTION && done[n - 1].code < 0))
            break;
    rc = weft_scope_end(&t, rc);
    return rc < 0 && rc != -ETIMEDOUT ? rc : n;
}

struct waits {
    int late, first, exception, all, pending[3], end;
    weft_done done[ITEMS];
};

static int wait_three_ways(void *arg)
{
    struct waits *w = arg;
    struct item items[4] = { { 1, 0 }, { 2, 0 }, { 3, -EIO }, { 4, 0 } };
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .collect = true, .join = WEFT_JOIN_KEEP_GOING });
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, bear, &items[i]);
    w->late = wait_set(&s, ALL_COMPLETED, weft_ms(1), w->done, ITEMS);
    w->first = wait_set(&s, FIRST_COMPLETED, LIMIT, w->done, ITEMS);
    w->pending[0] = weft_scope_alive(&s);
    w->exception = wait_set(&s, FIRST_EXCEPTION, LIMIT, w->done, ITEMS);
    w->pending[1] = weft_scope_alive(&s);
    w->all = wait_set(&s, ALL_COMPLETED, LIMIT, w->done, ITEMS);
    w->pending[2] = weft_scope_alive(&s);
    w->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(waiting_for_the_first_or_the_first_failure_or_all_can_be_said)
{
    struct waits w = { .end = 1 };
    weft_options o = { .workers = 1, .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(wait_three_ways, &w, &o), 0);
    ck_assert_int_eq(w.late, 0);
    ck_assert_int_eq(w.first, 1);
    ck_assert_int_eq(w.exception, 2);
    ck_assert_int_eq(w.all, 1);
    ck_assert_int_eq(w.end, -EIO);
    ck_assert_int_eq(w.pending[0], 3);
    ck_assert_int_eq(w.pending[1], 1);
    ck_assert_int_eq(w.pending[2], 0);
}
END_TEST

/* -- hard -- */

struct cut {
    int soft, in_shield, nested, end, later, refused, shield_end;
    int64_t began, soft_at, hard_at;
    int64_t grace;
    char reason[40];
    bool ends_in_time, inner_shields, by_thread;
    atomic_int ready;
};

static int clean_up(void *arg)
{
    struct cut *c = arg;
    weft_scope shield, inner;
    atomic_fetch_add(&c->ready, 1);
    c->soft = weft_sleep(WEFT_NEVER);
    c->soft_at = weft_now();
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    if (c->inner_shields)
        weft_scope_begin_shield(&inner, WEFT_NEVER);
    c->in_shield = weft_sleep(c->ends_in_time ? weft_ms(1) : WEFT_NEVER);
    c->hard_at = weft_now();
    const char *why = weft_cancel_reason();
    snprintf(c->reason, sizeof c->reason, "%s", why ? why : "(none)");
    c->refused = weft_sleep(weft_us(1));
    if (c->inner_shields)
        c->nested = weft_scope_end(&inner, c->in_shield);
    c->shield_end = weft_scope_end(&shield, c->in_shield);
    return c->soft;
}

static int in_a_task(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, clean_up, arg);
    return weft_scope_end(&s, 0);
}

static int cut_off(void *arg)
{
    struct cut *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, in_a_task, c);
    while (atomic_load(&c->ready) == 0)
        weft_ignore(weft_sleep(weft_us(10)));
    c->began = weft_now();
    weft_scope_cancel_hard(&s, weft_sec(100), "first");
    weft_scope_cancel_hard(&s, c->grace, "second");
    c->end = weft_scope_end(&s, 0);
    c->later = weft_sleep(weft_us(1));
    return 0;
}

START_TEST(after_its_grace_a_hard_cancel_breaks_shields)
{
    for (int inner = 0; inner < 2; inner++) {
        for (int now = 0; now < 2; now++) {
            struct cut c = { .grace = now ? 0 : weft_sec(5), .inner_shields = inner, .soft = 1 };
            weft_options o = { .workers = worker_counts[_i], .clock = WEFT_CLOCK_VIRTUAL };
            ck_assert_int_eq(weft_run(cut_off, &c, &o), 0);
            ck_assert_int_eq(c.soft, -ECANCELED);
            ck_assert_int_eq(c.in_shield, -ECANCELED);
            ck_assert_int_eq(c.refused, -ECANCELED);
            ck_assert_int_eq(c.shield_end, -ECANCELED);
            ck_assert_int_eq(c.nested, inner ? -ECANCELED : 0);
            ck_assert_str_eq(c.reason, "first");
            ck_assert_int_eq(c.end, 0);
            ck_assert_int_eq(c.later, 0);
            ck_assert(c.hard_at - c.began >= c.grace);
            ck_assert(c.hard_at - c.began < c.grace + weft_sec(1));
            ck_assert(c.soft_at - c.began < weft_sec(1));
        }
    }
}
END_TEST

START_TEST(cleanup_within_the_grace_is_not_disturbed)
{
    struct cut c = { .grace = weft_sec(5), .ends_in_time = true };
    weft_options o = { .workers = worker_counts[_i], .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(cut_off, &c, &o), 0);
    ck_assert_int_eq(c.in_shield, 0);
    ck_assert_int_eq(c.shield_end, 0);
    ck_assert_int_eq(c.refused, 0);
    ck_assert_str_eq(c.reason, "(none)");
    ck_assert_int_eq(c.end, 0);
    ck_assert(c.hard_at - c.began < weft_sec(1));
}
END_TEST

/* The scope ends just when its grace does, again and again: whichever comes first, nothing is left behind. */
static int end_at_the_grace(void *arg)
{
    int *n = arg;
    for (int i = 0; i < 300; i++) {
        weft_scope s, shield;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_spawn(&s, stay, NULL);
        weft_scope_cancel_hard(&s, weft_us(50), NULL);
        weft_scope_begin_shield(&shield, WEFT_NEVER);
        int rc = weft_sleep(weft_us(i % 100));
        weft_ignore(weft_scope_end(&shield, 0));
        *n += rc == 0 || rc == -ECANCELED;
        *n += weft_scope_end(&s, 0) == 0;
    }
    return 0;
}

START_TEST(a_scope_may_end_just_when_its_grace_does)
{
    int n = 0;
    ck_assert_int_eq(weft_run(end_at_the_grace, &n, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(n, 600);
}
END_TEST

static int stay_shielded(void *arg)
{
    weft_scope shield;
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    atomic_fetch_add((atomic_int *)arg, 1);
    int rc = weft_scope_end(&shield, weft_sleep(WEFT_NEVER));
    return rc;
}

START_TEST(a_plain_thread_cancels_hard_what_runs_elsewhere)
{
    weft_runtime *rt = NULL;
    atomic_int ready = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(worker_counts[_i])), 0);
    for (int64_t grace = 0; grace <= weft_ms(2); grace += weft_ms(1)) {
        weft_scope s;
        atomic_store(&ready, 0);
        weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
        for (int i = 0; i < 50; i++)
            weft_spawn(&s, stay_shielded, &ready);
        ck_assert(wait_for(&ready, 50));
        weft_scope_cancel_hard(&s, grace, "now");
        ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    }
    weft_runtime_destroy(&rt);
}
END_TEST

START_TEST(a_plain_threads_own_shield_is_broken_too)
{
    weft_scope s, shield;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel_hard(&s, weft_ms(2), NULL);
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    int64_t began = weft_now();
    ck_assert_int_eq(weft_sleep(WEFT_NEVER), -ECANCELED);
    ck_assert(weft_now() - began < LIMIT);
    ck_assert_int_eq(weft_scope_end(&shield, -ECANCELED), -ECANCELED);
    ck_assert_int_eq(weft_scope_end(&s, -ECANCELED), 0);
}
END_TEST

/* Thousands of shielded tasks, more than one slice of a walk, under a soft and a hard walk at once. */
static int break_many(void *arg)
{
    int *end = arg;
    enum { MANY = BUILT(4000, 1000, 500) };
    atomic_int ready = 0;
    weft_scope outer, s;
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < MANY; i++)
        weft_spawn(&s, i % 2 ? stay_shielded : stay, &ready);
    while (atomic_load(&ready) < MANY / 2)
        weft_ignore(weft_yield());
    weft_scope_cancel(&outer, "soft");
    weft_scope_cancel_hard(&s, 0, "hard");
    end[0] = weft_scope_end(&s, 0);
    end[1] = weft_scope_end(&outer, 0);
    return 0;
}

START_TEST(a_hard_walk_and_a_soft_one_meet_in_the_same_scopes)
{
    int end[2] = { 1, 1 };
    ck_assert_int_eq(weft_run(break_many, end, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(end[0], -ECANCELED);
    ck_assert_int_eq(end[1], 0);
}
END_TEST

/* -- timeouts and cancels that meet -- */

struct meet {
    int inner, group, outer, after;
    bool inner_expired, outer_expired;
};

/* A timeout inside a group inside a timeout, at the same point in time. */
static int both_expire(void *arg)
{
    struct meet *m = arg;
    weft_scope outer, group, inner;
    weft_scope_begin(&outer, weft_ms(5));
    weft_scope_begin(&group, WEFT_NEVER);
    weft_spawn(&group, stay, NULL);
    weft_scope_begin(&inner, weft_ms(5));
    int rc = weft_sleep(weft_sec(1));
    wait_past(weft_scope_deadline(&inner)); /* the later one */
    weft_ignore(weft_check());
    m->inner = weft_scope_end(&inner, rc);
    m->inner_expired = weft_scope_expired(&inner);
    m->after = weft_sleep(1);
    m->group = weft_scope_end(&group, m->after);
    m->outer = weft_scope_end(&outer, m->group);
    m->outer_expired = weft_scope_expired(&outer);
    return weft_sleep(1);
}

START_TEST(two_timeouts_and_a_group_between_them_take_back_each_its_own)
{
    struct meet m = { .inner = 1 };
    ck_assert_int_eq(weft_run(both_expire, &m, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(m.inner, -ECANCELED);
    ck_assert_int_eq(m.after, -ECANCELED);
    ck_assert_int_eq(m.group, -ECANCELED);
    ck_assert_int_eq(m.outer, -ETIMEDOUT);
    ck_assert(m.inner_expired && m.outer_expired);
}
END_TEST

/* A group's failure and an outer timeout: the failure is reported, the timeout still there. */
static int fail_now(void *arg)
{
    (void)arg;
    return weft_fail(-EPROTO, "line %d is bad", 7);
}

static int failure_then_timeout(void *arg)
{
    struct meet *m = arg;
    weft_scope outer, group;
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&group, WEFT_NEVER);
    weft_ignore(weft_task_join(weft_spawn(&group, fail_now, NULL)));
    weft_scope_set_deadline(&outer, weft_now());
    m->group = weft_scope_end(&group, weft_check());
    m->after = weft_check();
    m->outer = weft_scope_end(&outer, m->after);
    return 0;
}

START_TEST(a_failure_and_an_outer_timeout_do_not_swallow_each_other)
{
    struct meet m = { .inner = 1 };
    ck_assert_int_eq(weft_run(failure_then_timeout, &m, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(m.group, -EPROTO);
    ck_assert_int_eq(m.after, -ECANCELED);
    ck_assert_int_eq(m.outer, -ETIMEDOUT);
}
END_TEST

/* A deadline that has passed and has not struck yet (nobody looked) can be moved; one that struck cannot. */
static int move_past(void *arg)
{
    struct meet *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_set_deadline(&s, weft_now() - weft_sec(1));
    weft_scope_set_deadline(&s, weft_after(weft_sec(10)));
    m->after = weft_check();
    m->inner_expired = weft_scope_expired(&s);
    m->inner = weft_scope_end(&s, m->after);
    weft_scope_begin(&s, weft_ms(1));
    m->group = weft_sleep(weft_sec(1));
    weft_scope_set_deadline(&s, weft_after(weft_sec(10)));
    m->outer_expired = weft_scope_expired(&s);
    m->outer = weft_scope_end(&s, weft_check());
    return 0;
}

START_TEST(a_deadline_is_moved_past_one_that_had_passed_but_not_struck)
{
    struct meet m = { .inner = 1 };
    ck_assert_int_eq(weft_run(move_past, &m, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(m.after, 0);
    ck_assert(!m.inner_expired);
    ck_assert_int_eq(m.inner, 0);
    ck_assert_int_eq(m.group, -ECANCELED);
    ck_assert(m.outer_expired);
    ck_assert_int_eq(m.outer, -ETIMEDOUT);
}
END_TEST

/* -- detail and reasons through nesting -- */

struct texts {
    int rc[3];
    char text[3][128], reason[2][40];
    atomic_int asleep, seen;
    weft_failure failures[2];
};

static int fail_deep(void *arg)
{
    struct texts *t = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_ANY });
    weft_spawn(&s, fail_now, NULL);
    int rc = weft_scope_end(&s, 0);
    snprintf(t->text[0], sizeof t->text[0], "%s", weft_error_text(rc));
    return rc;
}

static int nest_failures(void *arg)
{
    struct texts *t = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .failures = t->failures, .failures_max = 2 });
    weft_spawn(&s, fail_deep, t);
    t->rc[1] = weft_scope_end(&s, 0);
    snprintf(t->text[1], sizeof t->text[1], "%s", weft_error_text(t->rc[1]));
    return t->rc[1];
}

START_TEST(the_words_of_a_failure_come_up_through_nested_scopes)
{
    struct texts t = { .rc = { 0 } };
    weft_runtime *rt = NULL;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(weft_runtime_run(rt, nest_failures, &t), -EPROTO);
    ck_assert_str_eq(weft_error_text(-EPROTO), "line 7 is bad");
    weft_runtime_destroy(&rt);
    ck_assert_str_eq(t.text[0], "line 7 is bad");
    ck_assert_str_eq(t.text[1], "line 7 is bad");
    ck_assert_str_eq(t.failures[0].text, "line 7 is bad");
    ck_assert(t.failures[0].arg == &t);
}
END_TEST

static int read_reason(void *arg)
{
    struct texts *t = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    atomic_fetch_add(&t->asleep, 1);
    int rc = weft_sleep(WEFT_NEVER);
    const char *why = weft_cancel_reason();
    snprintf(t->reason[0], sizeof t->reason[0], "%s", why ? why : "(none)");
    return weft_scope_end(&s, rc);
}

static int read_reason_below(void *arg)
{
    struct texts *t = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .limit = 1 });
    weft_spawn(&s, read_reason, t);
    t->rc[0] = weft_scope_end(&s, 0);
    return t->rc[0];
}

static int leave_when_seen(void *arg)
{
    struct texts *t = arg;
    atomic_fetch_add(&t->asleep, 1);
    int rc = weft_sleep(WEFT_NEVER);
    wait_for(&t->seen, 1); /* not in a scope of its own: the dump shows the one that it is in */
    return rc;
}

static int give_reason(void *arg)
{
    struct texts *t = arg;
    char text[16384];
    int fds[2];
    weft_scope outer, s;
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, read_reason_below, t);
    weft_spawn(&outer, leave_when_seen, t);
    while (atomic_load(&t->asleep) < 2) /* one that has not begun is shown in no scope */
        weft_ignore(weft_yield());
    weft_scope_cancel(&outer, "the door closes");
    t->rc[1] = pipe(fds) == 0 ? weft_dump(fds[1]) : -1;
    atomic_store(&t->seen, 1);
    int n = t->rc[1] < 0 ? 0 : read_now(fds[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    t->rc[1] = strstr(text, "told to leave: the door closes, by task ") != NULL;
    close(fds[0]);
    close(fds[1]);
    weft_ignore(weft_scope_end(&s, 0));
    const char *why = weft_cancel_reason();
    snprintf(t->reason[1], sizeof t->reason[1], "%s", why ? why : "(none)");
    t->rc[2] = weft_scope_end(&outer, -ECANCELED);
    return 0;
}

START_TEST(a_reason_is_read_by_all_below)
{
    struct texts t = { .rc = { 0 } };
    ck_assert_int_eq(weft_run(give_reason, &t, ON(worker_counts[_i])), 0);
    ck_assert_str_eq(t.reason[0], "the door closes");
    ck_assert_str_eq(t.reason[1], "the door closes");
    ck_assert_int_eq(t.rc[0], -ECANCELED);
    ck_assert_int_eq(t.rc[1], 1);
    ck_assert_int_eq(t.rc[2], 0);
}
END_TEST

/* -- cleanup in reverse order, shields, daemons -- */

struct steps {
    char order[8];
    int n, rc[3], end;
    int64_t deadline;
};

struct resource {
    struct steps *steps;
    char name;
    int64_t takes;
};

/* Closing takes time, and has a grace of its own. */
static void close_resource(struct resource *r)
{
    weft_scope grace;
    weft_scope_begin_shield(&grace, weft_ms(50));
    int rc = weft_scope_end(&grace, weft_sleep(r->takes));
    r->steps->rc[r->steps->n] = rc;
    r->steps->order[r->steps->n++] = r->name;
}

static int use_resources(void *arg)
{
    struct steps *s = arg;
    struct resource a WEFT_AUTO(close_resource) = { s, 'a', weft_ms(1) };
    struct resource b WEFT_AUTO(close_resource) = { s, 'b', weft_sec(100) }; /* is cut at its grace */
    WEFT_SCOPE(children, WEFT_NEVER);
    weft_spawn(&children, stay, NULL);
    struct resource c WEFT_AUTO(close_resource) = { s, 'c', weft_ms(1) };
    int rc = weft_sleep(WEFT_NEVER);
    (void)a, (void)b, (void)c;
    return rc;
}

static int cancel_user_of_resources(void *arg)
{
    struct steps *s = arg;
    weft_scope scope;
    weft_scope_begin(&scope, weft_ms(2));
    weft_spawn(&scope, use_resources, s);
    s->end = weft_scope_end(&scope, 0);
    return 0;
}

START_TEST(cleanup_that_waits_runs_in_reverse_order_each_within_its_grace)
{
    struct steps s = { .n = 0 };
    weft_options o = { .workers = worker_counts[_i], .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(cancel_user_of_resources, &s, &o), 0);
    ck_assert_str_eq(s.order, "cba");
    ck_assert_int_eq(s.rc[0], 0);
    ck_assert_int_eq(s.rc[1], -ETIMEDOUT);
    ck_assert_int_eq(s.rc[2], 0);
    ck_assert_int_eq(s.end, -ETIMEDOUT);
}
END_TEST

/* asyncio.shield: the outer cancel ends the wait, what was waited for goes on, owned by another scope. */
struct shielded {
    weft_scope *owner;
    int wait, inner_rc, daemons_end;
    atomic_int inner, daemon_told, main_done;
    bool daemon_after_main;
};

static int inner_work(void *arg)
{
    struct shielded *h = arg;
    h->inner_rc = weft_sleep(weft_ms(20));
    atomic_store(&h->inner, 1);
    return h->inner_rc;
}

static int await_shielded(void *arg)
{
    struct shielded *h = arg;
    weft_scope t;
    weft_task work = weft_spawn(h->owner, inner_work, h);
    weft_scope_begin(&t, weft_ms(1));
    h->wait = weft_scope_end(&t, weft_task_join(work));
    return 0;
}

static int be_daemon(void *arg)
{
    struct shielded *h = arg;
    int rc = weft_sleep(WEFT_NEVER);
    h->daemon_after_main = atomic_load(&h->main_done) && atomic_load(&h->inner);
    return rc;
}

static int keep_daemons(void *arg)
{
    struct shielded *h = arg;
    weft_scope daemons, s;
    weft_scope_begin(&daemons, WEFT_NEVER);
    weft_spawn(&daemons, be_daemon, h);
    weft_scope_begin(&s, WEFT_NEVER);
    h->owner = &s;
    weft_spawn(&s, await_shielded, h);
    int rc = weft_scope_end(&s, 0);
    atomic_store(&h->main_done, 1);
    weft_scope_cancel(&daemons, "the work is done");
    h->daemons_end = weft_scope_end(&daemons, 0);
    return rc;
}

START_TEST(work_in_another_scope_outlives_who_waits_for_it_and_daemons_go_last)
{
    struct shielded h = { .wait = 1 };
    weft_options o = { .workers = worker_counts[_i], .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(keep_daemons, &h, &o), 0);
    ck_assert_int_eq(h.wait, -ETIMEDOUT);
    ck_assert_int_eq(h.inner_rc, 0);
    ck_assert_int_eq(atomic_load(&h.inner), 1);
    ck_assert(h.daemon_after_main);
    ck_assert_int_eq(h.daemons_end, 0);
}
END_TEST

/* wait_for: what is ready at the deadline is returned. */
static int finish_late(void *arg)
{
    int *seen = arg;
    weft_scope t;
    weft_scope_begin(&t, weft_ms(1));
    wait_past(weft_scope_deadline(&t));
    seen[0] = weft_scope_end(&t, 42);
    return 0;
}

START_TEST(a_value_that_is_ready_at_the_deadline_is_not_lost)
{
    int seen[1] = { 0 };
    ck_assert_int_eq(weft_run(finish_late, seen, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(seen[0], 42);
}
END_TEST

/* -- without memory -- */

struct short_of {
    int rc[8];
    atomic_int on_done, called;
    int registered, calls;
};

static void count_up(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static int use_all(void *arg)
{
    struct short_of *m = arg;
    weft_scope s;
    weft_done d;
    int items[3] = { 0 };
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .limit = 2, .collect = true, .join = WEFT_JOIN_KEEP_GOING });
    for (int i = 0; i < 4; i++) {
        weft_task t = weft_spawn_copy(&s, stay, items, sizeof items);
        m->registered += t > 0 && weft_task_on_done(t, count_up, &m->on_done) == 0;
        weft_task_cancel(t, "on");
    }
    while ((m->rc[0] = weft_scope_next(&s, &d)) > 0)
        continue;
    m->rc[1] = weft_scope_end(&s, 0);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        m->calls += (i % 2 ? weft_call_soon(&s, count_up, &m->called)
                           : weft_call_at(&s, weft_after(weft_us(10)), count_up, &m->called)) > 0;
    m->rc[2] = weft_scope_end(&s, 0);
    m->rc[3] = weft_gather(items, 3, sizeof items[0], do_nothing, &(weft_scope_options){ .join = WEFT_JOIN_ANY, .need = 3 });
    weft_child child = { .fn = do_nothing, .name = "child" };
    m->rc[4] = weft_supervise(&child, 1, NULL);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, stay_shielded, &m->called);
    weft_scope_cancel_hard(&s, weft_us(50), "hard");
    m->rc[5] = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(the_nth_allocation_may_fail_and_nothing_hangs_or_is_lost)
{
    weft_runtime *rt = NULL;
    ck_assert_int_eq(weft_runtime_create(&rt, QUIETLY_ON(worker_counts[_i])), 0);
    for (int nth = 1; nth < 60; nth++) {
        struct short_of m = { .registered = 0 };
        weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
        int rc = weft_runtime_run(rt, use_all, &m);
        weft__fault_clear();
        ck_assert(rc == 0 || rc == -ENOMEM);
        if (rc < 0)
            continue;
        ck_assert_int_eq(atomic_load(&m.on_done), m.registered);
        ck_assert_int_le(atomic_load(&m.called), m.calls + 1);
        if (m.rc[2] == 0)
            ck_assert_int_ge(atomic_load(&m.called), m.calls);
        for (int i = 1; i < 6; i++)
            ck_assert(m.rc[i] == 0 || m.rc[i] == -ENOMEM);
        ck_assert(m.rc[0] == 0 || m.rc[0] == -EINVAL || m.rc[0] == -ENOMEM || m.rc[0] == -ECANCELED);
    }
    weft_runtime_destroy(&rt);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("policy");
    TCase *tc = add_case(s, "join");
    int n = COUNT(worker_counts);
    tcase_add_loop_test(tc, a_scope_ends_as_its_policy_says, 0, COUNT(plans));
    tcase_add_loop_test(tc, a_loser_is_told_that_a_sibling_won, 0, n);
    tcase_add_loop_test(tc, a_win_is_kept_and_an_outer_cancel_is_not_swallowed_by_it, 0, n);
    tcase_add_loop_test(tc, bad_options_and_uses_are_refused, 0, COUNT(bad_options));
    tc = add_case(s, "limit");
    tcase_add_loop_test(tc, no_more_children_run_than_the_limit, 0, n);
    tcase_add_loop_test(tc, a_plain_thread_is_blocked_by_the_limit, 0, n);
    tcase_add_loop_test(tc, a_spawner_told_to_leave_while_it_waits_spawns_nothing, 0, n);
    tcase_add_loop_test(tc, places_are_given_to_each_waiting_spawner_in_turn, 0, n);
    tc = add_case(s, "as completed");
    tcase_add_loop_test(tc, children_are_fetched_in_the_order_of_their_ends, 0, n);
    tcase_add_loop_test(tc, a_plain_thread_fetches_children_too, 0, n);
    tcase_add_loop_test(tc, fetching_is_bounded_by_the_deadline_and_leaves_the_rest, 0, n);
    tcase_add_test(tc, waiting_for_the_first_or_the_first_failure_or_all_can_be_said);
    tc = add_case(s, "hard");
    tcase_add_loop_test(tc, after_its_grace_a_hard_cancel_breaks_shields, 0, n);
    tcase_add_loop_test(tc, cleanup_within_the_grace_is_not_disturbed, 0, n);
    tcase_add_loop_test(tc, a_scope_may_end_just_when_its_grace_does, 0, n);
    tcase_add_loop_test(tc, a_plain_thread_cancels_hard_what_runs_elsewhere, 0, n);
    tcase_add_test(tc, a_plain_threads_own_shield_is_broken_too);
    tcase_add_loop_test(tc, a_hard_walk_and_a_soft_one_meet_in_the_same_scopes, 0, n);
    tc = add_case(s, "memory");
    tcase_add_loop_test(tc, the_nth_allocation_may_fail_and_nothing_hangs_or_is_lost, 0, n);
    tc = add_case(s, "together");
    tcase_add_loop_test(tc, two_timeouts_and_a_group_between_them_take_back_each_its_own, 0, n);
    tcase_add_loop_test(tc, a_failure_and_an_outer_timeout_do_not_swallow_each_other, 0, n);
    tcase_add_loop_test(tc, a_deadline_is_moved_past_one_that_had_passed_but_not_struck, 0, n);
    tcase_add_loop_test(tc, the_words_of_a_failure_come_up_through_nested_scopes, 0, n);
    tcase_add_loop_test(tc, a_reason_is_read_by_all_below, 0, n);
    tcase_add_loop_test(tc, cleanup_that_waits_runs_in_reverse_order_each_within_its_grace, 0, n);
    tcase_add_loop_test(tc, work_in_another_scope_outlives_who_waits_for_it_and_daemons_go_last, 0, n);
    tcase_add_loop_test(tc, a_value_that_is_ready_at_the_deadline_is_not_lost, 0, n);
    return run_suite(s);
}
