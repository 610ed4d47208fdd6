/* tests/classics_clock_test.c - intervals, a delay queue and a timer that can be reset, on the virtual clock: exact times.
 *
 * The delay queue and the timer are Go's classics, built of what weft has: a channel in the order of a priority, and a
 * select with a point in time. Most programs go through an hour or more, which has to take far less than that.
 */
#include "classics.h"

static int64_t real_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What takes longer has waited for real: machines are slow, or stand still for seconds, but not for an hour. */
static void run_quickly(weft_fn *fn, void *arg, int n)
{
    int64_t began = real_now();
    IN_VIRTUAL_TIME(fn, arg, n);
    int64_t took = real_now() - began;
    ck_assert_msg(took < LIMIT, "it took %lld ms", (long long)(took / 1000000));
}

/* -- intervals -- */

/* In milliseconds since the begin: the ticks of an interval of 100, whose user is busy until a time after each tick. */
struct lateness {
    int missed;
    int64_t busy_until[8]; /* 0: not at all */
    int64_t due[8];        /* the tick before that */
};

static const struct lateness latenesses[] = {
    /* Less than a whole period late: nothing was missed, for nobody. */
    { WEFT_MISSED_BURST, { 150, 299, 0, 450 }, { 100, 200, 300, 400, 500, 600, 700, 800 } },
    { WEFT_MISSED_DELAY, { 150, 0, 350, 450 }, { 100, 200, 300, 400, 500, 600, 700, 800 } },
    { WEFT_MISSED_SKIP, { 150, 0, 350, 450 }, { 100, 200, 300, 400, 500, 600, 700, 800 } },
    { WEFT_MISSED_BURST, { 250, 0, 399 }, { 100, 250, 300, 400, 500, 600, 700, 800 } },
    { WEFT_MISSED_DELAY, { 250, 0, 399 }, { 100, 250, 300, 400, 500, 600, 700, 800 } },
    { WEFT_MISSED_SKIP, { 250, 0, 399 }, { 100, 250, 300, 400, 500, 600, 700, 800 } },
    /* More: due at 200, and it comes at 430. */
    { WEFT_MISSED_BURST, { 430 }, { 100, 430, 430, 430, 500, 600, 700, 800 } },
    { WEFT_MISSED_DELAY, { 430 }, { 100, 430, 530, 630, 730, 830, 930, 1030 } },
    { WEFT_MISSED_SKIP, { 430 }, { 100, 430, 500, 600, 700, 800, 900, 1000 } },
    /* Twice in a row, and it catches up with both. */
    { WEFT_MISSED_BURST, { 330, 450 }, { 100, 330, 450, 450, 500, 600, 700, 800 } },
    { WEFT_MISSED_DELAY, { 330, 640 }, { 100, 330, 640, 740, 840, 940, 1040, 1140 } },
    { WEFT_MISSED_SKIP, { 330, 520 }, { 100, 330, 520, 600, 700, 800, 900, 1000 } },
};

static int tick(void *arg)
{
    const struct lateness *l = arg;
    int64_t began = weft_now();
    weft_interval i = { .every = weft_ms(100), .missed = l->missed };
    for (int n = 0; n < 8; n++) {
        SAME(weft_interval_wait(&i), 1);
        SAME((weft_now() - began), weft_ms(l->due[n]));
        if (l->busy_until[n] > 0)
            SAME(weft_sleep_until(began + weft_ms(l->busy_until[n])), 0);
    }
    return 0;
}

START_TEST(interval_makes_of_missed_ticks_what_was_asked_for)
{
    for (int i = 0; i < COUNT(latenesses); i++) {
        struct lateness l = latenesses[i];
        run_quickly(tick, &l, workers[_i]);
    }
}
END_TEST

struct hour {
    int missed, ticks;
};

/* An hour of seconds, in which every tenth tick's work takes 3.5 s. */
static int tick_for_an_hour(void *arg)
{
    struct hour *h = arg;
    int64_t began = weft_now(), before = began;
    weft_interval i = { .every = weft_sec(1), .missed = h->missed };
    weft_scope s;
    weft_scope_begin(&s, weft_sec(3600) + 1);
    int rc;
    for (h->ticks = 0; (rc = weft_interval_wait(&i)) > 0;) {
        int64_t now = weft_now();
        h->ticks++;
        bool late = h->ticks % 10 == 1 && h->ticks > 1; /* the one before was the long one */
        if (h->missed == WEFT_MISSED_DELAY)
            SAME(now - before, late ? weft_ms(3500) : weft_sec(1));
        else if (h->missed == WEFT_MISSED_SKIP && !late)
            SAME((now - began) % weft_sec(1), 0);
        else if (h->missed == WEFT_MISSED_BURST)
            MUST(now >= began + weft_sec(h->ticks)); /* never early */
        before = now;
        if (h->ticks % 10 == 0 && weft_sleep(weft_ms(3500)) < 0)
            break;
    }
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);
    SAME(weft_now() - began, weft_sec(3600) + 1);
    return 0;
}

START_TEST(interval_goes_on_for_an_hour_without_drift)
{
    struct hour h = { .missed = WEFT_MISSED_BURST };
    run_quickly(tick_for_an_hour, &h, workers[_i]);
    ck_assert_int_eq(h.ticks, 3600); /* each of them, after a stall in a row */
    h.missed = WEFT_MISSED_DELAY;
    run_quickly(tick_for_an_hour, &h, workers[_i]);
    /* Ten ticks take 9 s and the 3.5 s of the long one: 288 times in an hour. */
    ck_assert_int_eq(h.ticks, 2880);
    h.missed = WEFT_MISSED_SKIP;
    run_quickly(tick_for_an_hour, &h, workers[_i]);
    /* After the long one the tick comes at 3.5 s, and the next one on the grid at 4 s: 12 s for ten. */
    ck_assert_int_eq(h.ticks, 3000);
}
END_TEST

static int interval_in_pieces(void *arg)
{
    (void)arg;
    int64_t began = weft_now();
    weft_interval i = { .every = weft_ms(100), .next = began + weft_ms(30) }; /* it begins when it is said */
    SAME(weft_interval_wait(&i), 1);
    SAME(weft_now() - began, weft_ms(30));
    for (int n = 0; n < 4; n++) { /* waited for in pieces, by timeouts: no tick is lost, none comes twice */
        weft_scope t;
        weft_scope_begin(&t, weft_ms(20));
        SAME(weft_scope_end(&t, weft_interval_wait(&i)), -ETIMEDOUT);
    }
    SAME(weft_interval_wait(&i), 1);
    SAME(weft_now() - began, weft_ms(130));
    i.next = began + weft_ms(500);
    SAME(weft_interval_wait(&i), 1);
    SAME(weft_now() - began, weft_ms(500));
    i.every = weft_ms(10);
    i.next = weft_now() + weft_ms(10);
    SAME(weft_interval_wait(&i), 1);
    SAME(weft_interval_wait(&i), 1);
    SAME(weft_now() - began, weft_ms(520));
    weft_interval bad = { .every = 0 };
    SAME(weft_interval_wait(&bad), -EINVAL);
    bad = (weft_interval){ .every = 1, .missed = 7 };
    SAME(weft_interval_wait(&bad), -EINVAL);
    return 0;
}

START_TEST(interval_keeps_its_tick_for_who_comes_back_after_a_timeout)
{
    run_quickly(interval_in_pieces, NULL, workers[_i]);
}
END_TEST

/* -- a delay queue -- */

struct delayed {
    int64_t at;
    int id;
};

static int earlier(const void *a, const void *b)
{
    const struct delayed *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

struct delay_queue {
    weft_chan *in;   /* what is put, by anyone; closed: nothing more will come */
    weft_chan *held; /* what waits for its time, the earliest first */
    weft_chan *out;  /* what is due */
};

/* The queue's task. The earliest one is in its hand; one that comes and is earlier changes places with it. */
static int keep_delay_queue(void *arg)
{
    struct delay_queue *q = arg;
    struct delayed head, come;
    bool has = false, open = true;
    enum { COME, DUE };
    while (open || has) {
        weft_case cs[] = {
            [COME] = weft_on_recv(open ? q->in : NULL, &come, sizeof come),
            [DUE] = weft_on_time(has ? head.at : WEFT_NEVER),
        };
        if (!has)
            cs[DUE].kind = WEFT_CASE_NONE;
        int rc = weft_select(cs, COUNT(cs));
        if (rc < 0)
            return rc;
        if (rc == DUE) {
            if ((rc = weft_chan_send(q->out, &head, sizeof head)) < 0)
                return rc;
            has = weft_chan_try_recv(q->held, &head, sizeof head) == 1;
        } else if (cs[COME].rc == 0) {
            open = false;
        } else {
            if (has && (rc = weft_chan_send(q->held, head.at <= come.at ? &come : &head, sizeof come)) < 0)
                return rc;
            if (!has || come.at < head.at)
                head = come;
            has = true;
        }
    }
    weft_chan_close(q->out);
    return 0;
}

static void open_delay_queue(struct delay_queue *q, size_t holds)
{
    weft_chan_options o = { .order = WEFT_ORDER_PRIORITY, .compare = earlier };
    SAME(weft_chan_create(&q->in, sizeof(struct delayed), 0, NULL), 0);
    SAME(weft_chan_create(&q->held, sizeof(struct delayed), holds, &o), 0);
    SAME(weft_chan_create(&q->out, sizeof(struct delayed), holds, NULL), 0);
}

static void destroy_delay_queue(struct delay_queue *q)
{
    weft_chan_destroy(&q->in);
    weft_chan_destroy(&q->held);
    weft_chan_destroy(&q->out);
}

static int put_delayed(struct delay_queue *q, int64_t at, int id)
{
    return weft_chan_send(q->in, &(struct delayed){ at, id }, sizeof(struct delayed));
}

/* Which comes when, in seconds; those of the second group are put while the first waits, one of them for at once. */
static int use_delay_queue(void *arg)
{
    (void)arg;
    static const int first[] = { 3000, 60, 1800, 3600, 900 }, second[] = { 1200, 100, 700, 2400 };
    static const int due[] = { 60, 700, 700, 900, 1200, 1800, 2400, 3000, 3600 };
    static const int ids[] = { 60, 100, 700, 900, 1200, 1800, 2400, 3000, 3600 };
    struct delay_queue q;
    struct delayed d;
    int64_t began = weft_now();
    open_delay_queue(&q, 16);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, keep_delay_queue, &q);
    for (int i = 0; i < COUNT(first); i++)
        SAME(put_delayed(&q, began + weft_sec(first[i]), first[i]), 0);
    SAME(weft_chan_recv(q.out, &d, sizeof d), 1);
    SAME(d.id, ids[0]);
    SAME(weft_now() - began, weft_sec(due[0]));
    SAME(weft_sleep_until(began + weft_sec(700) - 1), 0);
    SAME(weft_chan_try_recv(q.out, &d, sizeof d), -EAGAIN);
    for (int i = 0; i < COUNT(second); i++) /* that of 100 is late, and comes now; that of 700 a nanosecond later */
        SAME(put_delayed(&q, began + weft_sec(second[i]), second[i]), 0);
    for (int i = 1; i < COUNT(due); i++) {
        SAME(weft_chan_recv(q.out, &d, sizeof d), 1);
        SAME(d.id, ids[i]);
        SAME(weft_now() - began, weft_sec(due[i]) - (i == 1));
    }
    weft_chan_close(q.in);
    SAME(weft_chan_recv(q.out, &d, sizeof d), 0);
    int rc = weft_scope_end(&s, 0);
    destroy_delay_queue(&q);
    return rc;
}

START_TEST(delay_queue_gives_each_item_at_its_time)
{
    run_quickly(use_delay_queue, NULL, workers[_i]);
}
END_TEST

enum { PUTTERS = 4 };
struct crowd {
    struct delay_queue q;
    int64_t began;
    int each;
    atomic_int left;
};

struct putter {
    struct crowd *c;
    int number;
};

static int put_many(void *arg)
{
    const struct putter *p = arg;
    uint64_t random = (uint64_t)p->number + 1;
    int rc = 0;
    for (int i = 0; i < p->c->each && rc == 0; i++) {
        int64_t at = weft_now() + weft_ms(1 + next_random(&random) % 60000);
        rc = put_delayed(&p->c->q, at, p->number * p->c->each + i);
        if (rc == 0)
            rc = weft_sleep(weft_ms(next_random(&random) % 10000));
    }
    if (atomic_fetch_sub(&p->c->left, 1) == 1)
        weft_chan_close(p->c->q.in);
    return rc;
}

/* Every item comes, once, at exactly its time, and so in the order of the times. */
static int crowd_delay_queue(void *arg)
{
    (void)arg;
    struct crowd c = { .began = weft_now(), .each = fewer(50, SCALED(500, 200, 100)), .left = PUTTERS };
    struct putter p[PUTTERS];
    struct delayed d;
    static unsigned char seen[PUTTERS * 500];
    memset(seen, 0, sizeof seen);
    open_delay_queue(&c.q, PUTTERS * 500);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, keep_delay_queue, &c.q);
    for (int i = 0; i < PUTTERS; i++) {
        p[i] = (struct putter){ &c, i };
        weft_spawn(&s, put_many, &p[i]);
    }
    int rc, n = 0;
    while ((rc = weft_chan_recv(c.q.out, &d, sizeof d)) > 0) {
        SAME(weft_now(), d.at);
        MUST(d.id >= 0 && d.id < PUTTERS * c.each && seen[d.id]++ == 0);
        n++;
    }
    SAME(n, PUTTERS * c.each);
    rc = weft_scope_end(&s, rc);
    destroy_delay_queue(&c.q);
    return rc;
}

START_TEST(delay_queue_that_many_put_into_loses_nothing_and_is_never_early_or_late)
{
    run_quickly(crowd_delay_queue, NULL, workers[_i]);
}
END_TEST

/* -- a timer that can be reset -- */

struct timer {
    weft_chan *reset; /* a point in time; WEFT_NEVER stops it; closed: the end */
    weft_chan *fired; /* when it fired */
};

static int keep_timer(void *arg)
{
    struct timer *t = arg;
    int64_t at = WEFT_NEVER, come;
    enum { RESET, FIRE };
    for (;;) {
        weft_case cs[] = {
            [RESET] = weft_on_recv(t->reset, &come, sizeof come),
            [FIRE] = weft_on_time(at),
        };
        if (at == WEFT_NEVER)
            cs[FIRE].kind = WEFT_CASE_NONE;
        int rc = weft_select(cs, COUNT(cs));
        if (rc < 0)
            return rc;
        if (rc == RESET && cs[RESET].rc == 0)
            return 0;
        if (rc == RESET) {
            at = come;
            continue;
        }
        at = WEFT_NEVER;
        int64_t now = weft_now();
        if ((rc = weft_chan_send(t->fired, &now, sizeof now)) < 0)
            return rc;
    }
}

static int set_timer(struct timer *t, int64_t at)
{
    return weft_chan_send(t->reset, &at, sizeof at);
}

static int use_timer(void *arg)
{
    (void)arg;
    struct timer t;
    int64_t at, began = weft_now();
    SAME(weft_chan_create(&t.reset, sizeof(int64_t), 0, NULL), 0);
    SAME(weft_chan_create(&t.fired, sizeof(int64_t), 1, NULL), 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, keep_timer, &t);

    /* Pushed off again and again, for an hour, it does not fire; then it does, once. */
    for (int i = 0; i < 3600; i++) {
        SAME(set_timer(&t, weft_after(weft_ms(1500))), 0);
        SAME(weft_sleep(weft_sec(1)), 0);
    }
    SAME(weft_chan_try_recv(t.fired, &at, sizeof at), -EAGAIN);
    SAME(weft_chan_recv(t.fired, &at, sizeof at), 1);
    SAME(at - began, weft_sec(3600) + weft_ms(500));
    SAME(weft_now(), at);

    /* Brought forward. */
    began = weft_now();
    SAME(set_timer(&t, began + weft_sec(100)), 0);
    SAME(set_timer(&t, began + weft_sec(5)), 0);
    SAME(weft_chan_recv(t.fired, &at, sizeof at), 1);
    SAME(at - began, weft_sec(5));

    /* Stopped. */
    SAME(set_timer(&t, weft_after(weft_sec(5))), 0);
    SAME(set_timer(&t, WEFT_NEVER), 0);
    SAME(weft_sleep(weft_sec(3600)), 0);
    SAME(weft_chan_try_recv(t.fired, &at, sizeof at), -EAGAIN);

    /* For a time that has passed: at once. */
    began = weft_now();
    SAME(set_timer(&t, began - weft_sec(1)), 0);
    SAME(weft_chan_recv(t.fired, &at, sizeof at), 1);
    SAME(at, began);
    weft_chan_close(t.reset);
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&t.reset);
    weft_chan_destroy(&t.fired);
    return rc;
}

START_TEST(timer_that_is_reset_fires_once_and_for_the_last_time_it_was_set_to)
{
    run_quickly(use_timer, NULL, workers[_i]);
}
END_TEST

/* -- the clock itself -- */

/* Sleepers of all kinds of lengths wake at their times, in their order. */
struct sleeper {
    int64_t within, woke;
    int before; /* how many woke before it */
    atomic_int *woken;
};

static int sleep_in_order(void *arg)
{
    struct sleeper *p = arg;
    int rc = weft_sleep(p->within);
    p->woke = weft_now();
    p->before = atomic_fetch_add(p->woken, 1);
    return rc;
}

static int many_sleepers(void *arg)
{
    (void)arg;
    enum { SLEEPERS = 500 };
    static struct sleeper p[SLEEPERS];
    atomic_int woken = 0;
    int n = fewer(100, SCALED(SLEEPERS, 300, 200));
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++) { /* n and 7919 have no common divisor: each length once */
        p[i] = (struct sleeper){ .within = 1 + weft_sec(3600) / n * ((i * 7919) % n), .woken = &woken };
        weft_spawn(&s, sleep_in_order, &p[i]);
    }
    SAME(weft_scope_end(&s, 0), 0);
    for (int i = 0; i < n; i++) {
        SAME(p[i].woke - began, p[i].within);
        SAME(p[i].before, (i * 7919) % n);
    }
    return 0;
}

START_TEST(sleepers_wake_at_their_times_and_in_their_order)
{
    run_quickly(many_sleepers, NULL, workers[_i]);
}
END_TEST

#define LOOP(tc, test) tcase_add_loop_test(tc, test, 0, COUNT(workers))

int main(void)
{
    Suite *s = suite_create("classics_clock");
    TCase *tc = add_case(s, "clock");
    LOOP(tc, interval_makes_of_missed_ticks_what_was_asked_for);
    LOOP(tc, interval_goes_on_for_an_hour_without_drift);
    LOOP(tc, interval_keeps_its_tick_for_who_comes_back_after_a_timeout);
    LOOP(tc, delay_queue_gives_each_item_at_its_time);
    LOOP(tc, delay_queue_that_many_put_into_loses_nothing_and_is_never_early_or_late);
    LOOP(tc, timer_that_is_reset_fires_once_and_for_the_last_time_it_was_set_to);
    LOOP(tc, sleepers_wake_at_their_times_and_in_their_order);
    return run_suite(s);
}
