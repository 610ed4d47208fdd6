/* time_test.c - sleeping and waking: time.h, event/timer.c seen from outside. */
#include "support.h"

#include "engine/worker.h"

static const int worker_counts[] = { 1, 2, 3, 8 };

/* -- the clock -- */

START_TEST(now_is_the_monotonic_clock)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    int64_t now = weft_now();
    clock_gettime(CLOCK_MONOTONIC, &b);
    ck_assert_int_ge(now, (int64_t)a.tv_sec * 1000000000 + a.tv_nsec);
    ck_assert_int_le(now, (int64_t)b.tv_sec * 1000000000 + b.tv_nsec);
}
END_TEST

START_TEST(after_adds_without_overflow)
{
    int64_t before = weft_now();
    int64_t second = weft_after(weft_sec(1));
    int64_t after = weft_now();
    ck_assert_int_ge(second, before + weft_sec(1));
    ck_assert_int_le(second, after + weft_sec(1));
    ck_assert_int_eq(weft_after(WEFT_NEVER), WEFT_NEVER);
    ck_assert_int_eq(weft_after(INT64_MAX - 1), WEFT_NEVER);
    ck_assert_int_eq(weft_after(INT64_MAX - before), WEFT_NEVER);
    ck_assert_int_gt(weft_after(INT64_MAX / 2), INT64_MAX / 2);
    ck_assert_int_ge(weft_after(0), before);
    ck_assert_int_le(weft_after(0), weft_now());
    ck_assert_int_lt(weft_after(-1), weft_now());
    ck_assert_int_lt(weft_after(-weft_sec(1)), weft_now());
    ck_assert_int_lt(weft_after(INT64_MIN), weft_now());
    ck_assert_int_lt(weft_after(INT64_MIN + 1), weft_now());
}
END_TEST

START_TEST(the_units_are_constant_expressions)
{
    static const int64_t spans[] = { weft_us(1), weft_ms(1), weft_sec(1),
        weft_sec(3600 * 24 * 365) };
    ck_assert_int_eq(spans[0], 1000);
    ck_assert_int_eq(spans[1], 1000 * spans[0]);
    ck_assert_int_eq(spans[2], 1000 * spans[1]);
    ck_assert_int_eq(spans[3], INT64_C(31536000000000000));
}
END_TEST

/* -- one sleeper -- */

struct slept {
    int64_t span, at, early;
    int rc, turns;
    bool until;
};

static int sleep_some(void *arg)
{
    struct slept *p = arg;
    for (int i = 0; i < p->turns; i++) {
        int64_t before = weft_now();
        p->rc = p->until ? weft_sleep_until(before + p->span) : weft_sleep(p->span);
        int64_t took = weft_now() - before;
        if (p->span > took && p->span - took > p->early)
            p->early = p->span - took;
        if (p->rc != 0)
            return 0;
    }
    return 0;
}

static const int64_t short_spans[] = { 1, 100, 999, 1000, 20000, 100000, 999999, 1000000, 1000001,
    3141592, 10000000 };

START_TEST(a_sleep_is_never_shorter_than_asked)
{
    for (int k = 0; k < 4; k++) {
        struct slept p = { .span = short_spans[_i], .turns = fewer(5, 20), .until = k % 2 };
        ck_assert_int_eq(weft_run(sleep_some, &p, ON(1 + k / 2)), 0);
        ck_assert_int_eq(p.rc, 0);
        ck_assert_int_le(p.early, 0);
    }
}
END_TEST

static const int64_t no_spans[] = { 0, -1, -1000000000, INT64_MIN + 1, INT64_MIN };

START_TEST(a_span_of_zero_or_less_is_a_yield)
{
    struct slept p = { .span = no_spans[_i], .turns = 100 };
    ck_assert_int_eq(weft_run(sleep_some, &p, ON(1)), 0);
    ck_assert_int_eq(p.rc, 0);
}
END_TEST

static const int64_t past_times[] = { 0, 1, -1, INT64_MIN, 1000000 };

static int sleep_until_past(void *arg)
{
    struct slept *p = arg;
    for (int i = 0; i < 100; i++)
        p->rc |= weft_sleep_until(p->at);
    return 0;
}

START_TEST(sleeping_until_a_time_that_has_passed_returns_at_once)
{
    struct slept p = { .at = past_times[_i] };
    ck_assert_int_eq(weft_run(sleep_until_past, &p, ON(2)), 0);
    ck_assert_int_eq(p.rc, 0);
}
END_TEST

/* A yield by any name lets the others of the worker have their turn: each round or, by a drawn order, now and then. */
struct turns {
    int64_t span;
    int mine, rc;
    atomic_int other;
    bool fair;
};

static int count_turns(void *arg)
{
    struct turns *t = arg;
    for (int i = 0; i < 50; i++) {
        atomic_fetch_add(&t->other, 1);
        int rc = weft_yield();
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int sleep_nothing(void *arg)
{
    struct turns *t = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, count_turns, t);
    while (atomic_load(&t->other) == 0 && t->rc == 0)
        t->rc = weft_sleep(t->span);
    int first = atomic_load(&t->other);
    for (int i = 0; i < 20 && t->rc == 0; i++) {
        t->rc = weft_sleep(t->span);
        t->mine++;
    }
    t->fair = atomic_load(&t->other) >= first + (chaos() ? 1 : 18);
    return weft_scope_end(&s, t->rc);
}

START_TEST(a_sleep_of_nothing_lets_the_others_have_a_turn)
{
    struct turns t = { .span = no_spans[_i] };
    ck_assert_int_eq(weft_run(sleep_nothing, &t, ON(1)), 0);
    ck_assert_int_eq(t.rc, 0);
    ck_assert(t.fair);
}
END_TEST

/* All that are ready when one sleeps for nothing have a turn before it goes on: each exactly one, as each yields after it. */
enum { READY = 50, ROUNDS = 20 };

struct others {
    int64_t span;
    atomic_int begun, over;
    atomic_int turns[READY];
    int wrong, rc;
};

struct other {
    struct others *all;
    int i;
};

static int take_turns(void *arg)
{
    const struct other *o = arg;
    atomic_fetch_add(&o->all->begun, 1);
    while (!atomic_load(&o->all->over)) {
        atomic_fetch_add(&o->all->turns[o->i], 1);
        if (weft_yield() < 0)
            return -EPROTO;
    }
    return 0;
}

static int sleep_for_nothing_among(void *arg)
{
    struct others *o = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < READY; i++)
        weft_spawn_copy(&s, take_turns, &(struct other){ o, i }, sizeof(struct other));
    bool there = wait_for(&o->begun, READY);
    for (int i = 0; i < ROUNDS; i++) {
        int before[READY];
        for (int k = 0; k < READY; k++)
            before[k] = atomic_load(&o->turns[k]);
        o->rc |= weft_sleep(o->span);
        for (int k = 0; k < READY; k++)
            o->wrong += atomic_load(&o->turns[k]) == before[k];
    }
    atomic_store(&o->over, 1);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

/* */
START_TEST(a_sleep_of_nothing_gives_each_ready_task_its_turn)
{
    struct others o = { .span = no_spans[_i] };
    ck_assert_int_eq(weft_run(sleep_for_nothing_among, &o, ON(1)), 0);
    ck_assert_int_eq(o.rc, 0);
    if (!chaos()) /* who is next is drawn there */
        ck_assert_int_eq(o.wrong, 0);
}
END_TEST

/* -- sleeping without end -- */

struct endless {
    int64_t span, at;
    bool until;
    atomic_int asleep;
    int rc, end;
};

static int sleep_without_end(void *arg)
{
    struct endless *e = arg;
    atomic_store(&e->asleep, 1);
    e->rc = e->until ? weft_sleep_until(e->span) : weft_sleep(e->span);
    return e->rc;
}

static int cancel_endless(void *arg)
{
    struct endless *e = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleep_without_end, e);
    bool there = wait_for(&e->asleep, 1);
    /* Timers in front of it and behind it have to work meanwhile. */
    int rc = weft_sleep(weft_ms(2));
    weft_scope_cancel(&s, NULL);
    e->end = weft_scope_end(&s, there ? rc : -ETIME);
    return 0;
}

static const int64_t endless_spans[] = { WEFT_NEVER, INT64_MAX - 1, INT64_MAX / 2,
    weft_sec(1000000000), weft_sec(3600) };

START_TEST(a_sleep_without_end_lasts_until_it_is_cancelled)
{
    for (int k = 0; k < COUNT(worker_counts); k++)
        for (int until = 0; until < 2; until++) {
            struct endless e = { .span = endless_spans[_i], .until = until, .end = 1 };
            if (until && e.span < INT64_MAX / 4)
                e.span = weft_after(e.span);
            ck_assert_int_eq(weft_run(cancel_endless, &e, ON(worker_counts[k])), 0);
            ck_assert_int_eq(e.rc, -ECANCELED);
            ck_assert_int_eq(e.end, 0);
        }
}
END_TEST

/* -- many sleepers -- */

struct sleeper {
    struct sleepers *all;
    int64_t at, woke;
    int rc, order;
};

struct sleepers {
    struct sleeper *s;
    int n;
    atomic_int begun, woken;
    uint64_t seed;
    int64_t start; /* nobody is to wake before; all are to be armed by then */
    bool too_slow;
};

static int sleep_to_time(void *arg)
{
    struct sleeper *p = arg;
    atomic_fetch_add(&p->all->begun, 1);
    p->rc = weft_sleep_until(p->at);
    p->woke = weft_now();
    p->order = atomic_fetch_add(&p->all->woken, 1);
    return p->rc;
}

static int run_sleepers(void *arg)
{
    struct sleepers *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < a->n; i++)
        weft_spawn(&s, sleep_to_time, &a->s[i]);
    return weft_scope_end(&s, 0);
}

static void make_sleepers(struct sleepers *a, int n)
{
    a->n = n;
    a->s = calloc((size_t)n, sizeof *a->s);
    for (int i = 0; i < n; i++)
        a->s[i].all = a;
}

START_TEST(many_timers_all_strike_and_none_early)
{
    struct sleepers a = { .seed = 42 };
    make_sleepers(&a, fewer(1000, SCALED(100000, 10000, 1500)));
    int64_t start = weft_now();
    for (int i = 0; i < a.n; i++)
        a.s[i].at = start + weft_ms(50) + weft_us(next_random(&a.seed) % 400000);
    int rc = weft_run(run_sleepers, &a, ON(worker_counts[_i]));
    int early = 0, failed = 0;
    for (int i = 0; i < a.n; i++) {
        early += a.s[i].woke < a.s[i].at;
        failed += a.s[i].rc != 0;
    }
    free(a.s);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&a.woken), a.n);
    ck_assert_int_eq(early, 0);
    ck_assert_int_eq(failed, 0);
}
END_TEST

/* On one worker: who is to wake earlier does, whatever the order of arming; equals in the order of
 * arming. */
static int run_ordered(void *arg)
{
    struct sleepers *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    bool armed = true;
    for (int i = 0; i < a->n; i++) {
        weft_spawn(&s, sleep_to_time, &a->s[i]);
        armed = armed && wait_for(&a->begun, i + 1); /* on one worker: it has armed its timer */
    }
    a->too_slow = weft_now() >= a->start;
    return weft_scope_end(&s, armed ? 0 : -ETIME);
}

/* Runs until the machine was quick enough to arm all in time; returns how many pairs are out of
 * order. */
static int count_out_of_order(int64_t spread)
{
    int wrong = 0;
    for (int64_t lead = weft_ms(100); lead < LIMIT; lead *= 2) {
        struct sleepers a = { .seed = 7, .start = weft_after(lead) };
        make_sleepers(&a, 200);
        for (int i = 0; i < a.n; i++)
            a.s[i].at = a.start + (spread ? next_random(&a.seed) % 50 * spread : 0);
        int rc = weft_run(run_ordered, &a, ON(1));
        wrong = rc < 0 ? rc : 0;
        for (int i = 0; i < a.n && rc == 0; i++)
            for (int k = 0; k < a.n; k++)
                wrong += (a.s[i].at < a.s[k].at || (a.s[i].at == a.s[k].at && i < k)) &&
                         a.s[i].order > a.s[k].order;
        free(a.s);
        if (!a.too_slow)
            break;
    }
    /* They strike in order, but what is ready then runs in an order by chance. */
    return chaos() && wrong > 0 ? 0 : wrong;
}

START_TEST(timers_strike_in_the_order_of_their_times)
{
    ck_assert_int_eq(count_out_of_order(weft_ms(1)), 0);
}
END_TEST

START_TEST(equal_times_strike_in_the_order_of_arming)
{
    ck_assert_int_eq(count_out_of_order(0), 0);
}
END_TEST

/* -- cancelled timers -- */

struct cancelled {
    int n, rounds;
    atomic_int asleep, told, wrong;
    long before, after;
};

static int sleep_an_hour(void *arg)
{
    struct cancelled *c = arg;
    atomic_fetch_add(&c->asleep, 1);
    int rc = weft_sleep(weft_sec(3600));
    atomic_fetch_add(rc == -ECANCELED ? &c->told : &c->wrong, 1);
    return rc;
}

static int cancel_timers(void *arg)
{
    struct cancelled *c = arg;
    int rc = 0;
    for (int r = 0; r < c->rounds && rc == 0; r++) {
        if (r == 1)
            c->before = resident_kib();
        atomic_store(&c->asleep, 0);
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < c->n; i++)
            weft_spawn(&s, sleep_an_hour, c);
        if (!wait_for(&c->asleep, c->n))
            rc = -ETIME;
        weft_scope_cancel(&s, NULL);
        rc = weft_scope_end(&s, rc);
    }
    c->after = resident_kib();
    return rc;
}

START_TEST(cancelled_timers_wake_at_once_and_leave_nothing)
{
    struct cancelled c = { .n = fewer(1500, SCALED(5000, 1500, 500)), .rounds = 10 };
    ck_assert_int_eq(weft_run(cancel_timers, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&c.told), c.n * c.rounds);
    ck_assert_int_eq(atomic_load(&c.wrong), 0);
    ck_assert_int_lt(c.after - c.before, BUILT(16 * 1024, 64 * 1024, 256 * 1024));
}
END_TEST

/* Timers set and cancelled from several workers, while others strike. */
struct churn {
    atomic_int timed_out, kept, wrong;
    int turns;
};

static int churn(void *arg)
{
    struct churn *c = arg;
    uint64_t seed = (uint64_t)weft_task_self();
    for (int i = 0; i < c->turns; i++) {
        weft_scope s;
        bool strike = next_random(&seed) % 8 == 0;
        weft_scope_begin(&s, strike ? weft_us(20) : weft_sec(60));
        int rc = weft_scope_end(&s, strike ? weft_sleep(weft_sec(60)) : weft_sleep(weft_us(1)));
        if (strike && rc == -ETIMEDOUT)
            atomic_fetch_add(&c->timed_out, 1);
        else if (!strike && rc == 0)
            atomic_fetch_add(&c->kept, 1);
        else
            atomic_fetch_add(&c->wrong, 1);
    }
    return 0;
}

static int run_churn(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 20; i++)
        weft_spawn(&s, churn, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(timers_come_and_go_on_all_workers)
{
    struct churn c = { .turns = fewer(300, SCALED(1000, 300, 100)) };
    ck_assert_int_eq(weft_run(run_churn, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&c.wrong), 0);
    ck_assert_int_eq(atomic_load(&c.timed_out) + atomic_load(&c.kept), 20 * c.turns);
}
END_TEST

/* -- no lock is shared by the timers of several workers -- */

enum { ARMERS = 4 };

/* Two tasks of one worker that wake each other, each time in a scope with a deadline far off, which is armed and disarmed. */
struct pair {
    weft_notify turn[2];
    int rounds, struck;
    atomic_int done;
};

struct armer {
    struct pair *pair;
    int me;
};

static int arm_and_disarm(void *arg)
{
    const struct armer *a = arg;
    int rc = 0;
    for (int i = 0; i < a->pair->rounds && rc == 0; i++) {
        weft_scope s;
        weft_scope_begin(&s, weft_sec(3600));
        weft_notify_one(&a->pair->turn[!a->me]);
        rc = weft_scope_end(&s, weft_notify_wait(&a->pair->turn[a->me]));
        a->pair->struck += weft_scope_expired(&s);
    }
    weft_notify_one(&a->pair->turn[!a->me]);
    atomic_fetch_add(&a->pair->done, rc == 0);
    return rc;
}

/* The heaps of all workers but one are locked, and that one arms and disarms as ever: it takes no lock of theirs, nor they
 * one with it. Timers armed in the meantime are counted, so that it is known to have been so. */
static bool arms_alone(weft_runtime *rt, int worker, int rounds)
{
    struct pair p = { .rounds = rounds };
    struct weft__timers *mine = &rt->workers[worker]->timers;
    uint64_t sequence = mine->sequence;
    weft_scope s;
    for (int i = 0; i < ARMERS; i++)
        if (i != worker)
            weft__lock(&rt->workers[i]->timers.lock);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    for (int i = 0; i < 2; i++)
        weft_spawn_with(&s, arm_and_disarm, &(struct armer){ &p, i },
                &(weft_spawn_options){ .copy_bytes = sizeof(struct armer), .pin = worker + 1 });
    bool both = wait_for(&p.done, 2);
    for (int i = 0; i < ARMERS; i++)
        if (i != worker)
            weft__unlock(&rt->workers[i]->timers.lock);
    return weft_scope_end(&s, 0) == 0 && both && p.struck == 0 && mine->sequence - sequence >= (uint64_t)rounds;
}

/* B-056 */
START_TEST(each_worker_arms_and_disarms_without_the_locks_of_the_others)
{
    weft_runtime *rt;
    int rounds = fewer(200, SCALED(5000, 2000, 500)), alone = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .workers = ARMERS, .spares = -1 }), 0);
    for (int i = 0; i < ARMERS && alone == i; i++)
        alone += arms_alone(rt, i, rounds);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(alone, ARMERS);
}
END_TEST

/* -- timers although every worker computes -- */

struct computing {
    atomic_int woke, stop, running;
    int64_t late;
};

static int compute_on(void *arg)
{
    struct computing *c = arg;
    atomic_fetch_add(&c->running, 1);
    for (int64_t end = weft_after(LIMIT); !atomic_load(&c->stop) && weft_now() < end;) {
        compute(weft_us(500));
        weft_ignore(weft_check()); /* calls weft, but never gives the worker up */
    }
    return 0;
}

static int compute_and_yield(void *arg)
{
    struct computing *c = arg;
    atomic_fetch_add(&c->running, 1);
    for (int64_t end = weft_after(LIMIT); !atomic_load(&c->stop) && weft_now() < end;) {
        compute(weft_us(500));
        weft_ignore(weft_yield());
    }
    return 0;
}

static int sleep_beside(void *arg)
{
    struct computing *c = arg;
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++)
        rc = weft_sleep(weft_ms(1));
    atomic_fetch_add(&c->woke, 1);
    atomic_store(&c->stop, 1);
    return rc;
}

static int sleep_beside_yielders(void *arg)
{
    struct computing *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, compute_and_yield, c);
    weft_spawn(&s, sleep_beside, c);
    return weft_scope_end(&s, 0);
}

START_TEST(timers_strike_although_every_worker_computes)
{
    struct computing c = { .late = 0 };
    ck_assert_int_eq(weft_run(sleep_beside_yielders, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&c.woke), 1);
}
END_TEST

static int sleep_beside_one_that_never_yields(void *arg)
{
    struct computing *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleep_beside, c);
    weft_spawn(&s, compute_on, c);
    return weft_scope_end(&s, 0);
}

START_TEST(timers_strike_beside_a_task_that_never_gives_up_its_worker)
{
    struct computing c = { .late = 0 };
    ck_assert_int_eq(weft_run(sleep_beside_one_that_never_yields, &c, ON(2)), 0);
    ck_assert_int_eq(atomic_load(&c.woke), 1);
}
END_TEST

/* -- timers although there are always more ready tasks than half a ring -- */

enum { YIELDERS = 900, SLEEPERS = 100 };

static int yield_until_all_woke(void *arg)
{
    struct computing *c = arg;
    int rc = 0;
    while (atomic_load(&c->woke) < SLEEPERS && rc == 0)
        rc = weft_yield();
    return rc;
}

static int sleep_thrice(void *arg)
{
    struct computing *c = arg;
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = weft_sleep(weft_ms(1));
    atomic_fetch_add(&c->woke, 1);
    return rc;
}

static int sleep_beside_a_full_ring(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < YIELDERS + SLEEPERS; i++)
        weft_spawn(&s, i < YIELDERS ? yield_until_all_woke : sleep_thrice, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(timers_strike_although_the_ring_is_never_empty)
{
    struct computing c = { .late = 0 };
    ck_assert_int_eq(weft_run(sleep_beside_a_full_ring, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&c.woke), SLEEPERS);
}
END_TEST

int main(void)
{
    int counts = COUNT(worker_counts);
    Suite *s = suite_create("time");
    TCase *tc = add_case(s, "clock");
    tcase_add_test(tc, now_is_the_monotonic_clock);
    tcase_add_test(tc, after_adds_without_overflow);
    tcase_add_test(tc, the_units_are_constant_expressions);
    tc = add_case(s, "one");
    tcase_add_loop_test(tc, a_sleep_is_never_shorter_than_asked, 0, COUNT(short_spans));
    tcase_add_loop_test(tc, a_span_of_zero_or_less_is_a_yield, 0, COUNT(no_spans));
    tcase_add_loop_test(tc, a_sleep_of_nothing_lets_the_others_have_a_turn, 0, COUNT(no_spans));
    tcase_add_loop_test(tc, a_sleep_of_nothing_gives_each_ready_task_its_turn, 0, COUNT(no_spans));
    tcase_add_loop_test(
            tc, sleeping_until_a_time_that_has_passed_returns_at_once, 0, COUNT(past_times));
    tcase_add_loop_test(
            tc, a_sleep_without_end_lasts_until_it_is_cancelled, 0, COUNT(endless_spans));
    tc = add_case(s, "many");
    tcase_add_loop_test(tc, many_timers_all_strike_and_none_early, 0, counts);
    tcase_add_test(tc, timers_strike_in_the_order_of_their_times);
    tcase_add_test(tc, equal_times_strike_in_the_order_of_arming);
    tcase_add_loop_test(tc, cancelled_timers_wake_at_once_and_leave_nothing, 0, counts);
    tcase_add_loop_test(tc, timers_come_and_go_on_all_workers, 0, counts);
    tcase_add_test(tc, each_worker_arms_and_disarms_without_the_locks_of_the_others);
    tc = add_case(s, "beside computing");
    tcase_add_loop_test(tc, timers_strike_although_every_worker_computes, 0, counts);
    tcase_add_test(tc, timers_strike_beside_a_task_that_never_gives_up_its_worker);
    tcase_add_loop_test(tc, timers_strike_although_the_ring_is_never_empty, 0, counts);
    return run_suite(s);
}
