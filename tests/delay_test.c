/* delay_test.c - queues whose items come at their times, and timers that are set anew: exact, on the virtual clock; and by
 * crowds, on the real one. */
#include "sync_support.h"

#include <weft/delay.h>

#include "base/fault.h"

/* In virtual time, in a task. What hangs is over at once: the clock leaps to the deadline. */
struct program {
    weft_fn *fn;
    void *arg;
};

static int within_a_year(void *arg)
{
    const struct program *p = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(365 * 86400));
    return weft_scope_end(&s, p->fn(p->arg));
}

static void in_virtual_time(weft_fn *fn, int n)
{
    struct program p = { fn, NULL };
    weft_options o = { .workers = n, .clock = WEFT_CLOCK_VIRTUAL, .report = say_nothing };
    AS_EXPECTED_IN(weft_run(within_a_year, &p, &o), n);
}

#define PUT(q, v, at, handle) weft_delay_put((q), &(v), sizeof(v), (at), (handle))
#define TAKE(q, v) weft_delay_take((q), &(v), sizeof(v))
#define TRY_TAKE(q, v) weft_delay_try_take((q), &(v), sizeof(v))

static weft_delay *queue(void)
{
    weft_delay *q = NULL;
    return weft_delay_create(&q, sizeof(int), NULL) == 0 ? q : NULL;
}

/* ---- the order */

static int takes_in_order(void *arg)
{
    (void)arg;
    static const int put[] = { 3000, 60, 1800, 60, 3600, 900, 0 }, due[] = { 0, 60, 60, 900, 1800, 3000, 3600 };
    weft_delay *q = queue();
    int64_t began = weft_now();
    int v = -1;
    for (int i = 0; i < COUNT(put); i++) {
        int item = put[i] * 100 + i;
        EXPECT(PUT(q, item, began + weft_sec(put[i]), NULL) == 0);
    }
    EXPECT(weft_delay_len(q) == COUNT(put));
    for (int i = 0, last = -1; i < COUNT(due); i++, last = v) {
        EXPECT(i == 0 || (TRY_TAKE(q, v) == (due[i] == due[i - 1] ? 1 : -EAGAIN)));
        if (i == 0 || due[i] != due[i - 1])
            EXPECT(TAKE(q, v) == 1);
        EXPECT(v / 100 == due[i]);
        EXPECT(weft_now() == began + weft_sec(due[i]));
        EXPECT(last / 100 != due[i] || v > last); /* of the same time, what was put first */
    }
    EXPECT(weft_delay_len(q) == 0);
    EXPECT(TRY_TAKE(q, v) == -EAGAIN);
    weft_delay_destroy(&q);
    EXPECT(q == NULL);
    weft_delay_destroy(&q);
    return 0;
}

/* B-055 */
START_TEST(items_come_at_their_times_the_earliest_first)
{
    in_virtual_time(takes_in_order, workers[_i]);
}
END_TEST

/* ---- changes while somebody waits */

struct taker {
    weft_delay *q;
    int rc, item;
    int64_t at;
};

static int takes_one(void *arg)
{
    struct taker *t = arg;
    t->rc = TAKE(t->q, t->item);
    t->at = weft_now();
    return 0;
}

/* Lets all others lie down. */
static int settle(void)
{
    return weft_sleep(1);
}

static int changes(void *arg)
{
    (void)arg;
    struct taker t[3];
    weft_delayed a, b, c;
    weft_scope s;
    int one = 1, two = 2, three = 3, v = -1;
    weft_delay *q = queue();
    int64_t began = weft_now();
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++) {
        t[i] = (struct taker){ .q = q };
        weft_spawn(&s, takes_one, &t[i]);
    }
    EXPECT(settle() == 0);
    EXPECT(PUT(q, one, began + weft_sec(100), &a) == 0); /* they wait for nothing, and then for a time */
    EXPECT(settle() == 0);
    EXPECT(PUT(q, two, began + weft_sec(50), &b) == 0); /* an earlier one */
    EXPECT(settle() == 0);
    EXPECT(PUT(q, three, began + weft_sec(200), &c) == 0);
    EXPECT(weft_delay_move(q, b, began + weft_sec(300)) == 0); /* the first one to later: behind both others */
    EXPECT(weft_delay_move(q, c, began + weft_sec(20)) == 0);  /* the last one to the front */
    EXPECT(weft_sleep_until(began + weft_sec(20)) == 0 && settle() == 0);
    EXPECT(weft_delay_len(q) == 2);
    EXPECT(weft_delay_move(q, c, began + weft_sec(20)) == -ENOENT); /* it was taken */
    EXPECT(weft_delay_remove(q, c, &v, sizeof v) == -ENOENT && v == -1);
    EXPECT(weft_sleep_until(began + weft_sec(90)) == 0);
    EXPECT(weft_delay_remove(q, a, &v, sizeof v) == 0 && v == 1); /* the one that is waited for */
    EXPECT(weft_delay_remove(q, a, &v, sizeof v) == -ENOENT);
    EXPECT(weft_sleep_until(began + weft_sec(150)) == 0);
    EXPECT(weft_delay_len(q) == 1);
    EXPECT(PUT(q, one, WEFT_NEVER, &a) == 0); /* into the same place */
    EXPECT(a != c && weft_delay_move(q, c, 0) == -ENOENT && weft_delay_move(q, 0, 0) == -ENOENT);
    EXPECT(weft_sleep_until(began + weft_sec(1000)) == 0);
    EXPECT(weft_delay_len(q) == 1);
    EXPECT(weft_delay_move(q, a, began) == 0); /* has passed */
    EXPECT(weft_scope_end(&s, 0) == 0);
    static const int64_t due[] = { 1000, 300, 20 }; /* of items 1, 2, 3 */
    for (int i = 0, seen = 0; i < 3; i++) {
        EXPECT(t[i].rc == 1 && t[i].item >= 1 && t[i].item <= 3 && !(seen & 1 << t[i].item));
        seen |= 1 << t[i].item;
        EXPECT(t[i].at == began + weft_sec(due[t[i].item - 1]));
    }
    weft_delay_destroy(&q);
    return 0;
}

START_TEST(who_waits_sees_what_is_put_moved_and_taken_back)
{
    in_virtual_time(changes, workers[_i]);
}
END_TEST

/* Whoever it is that keeps the time is told to leave, in turn: another one has to. */
static int leaders_leave(void *arg)
{
    (void)arg;
    enum { TAKERS = 4 };
    struct taker t[TAKERS];
    weft_task id[TAKERS];
    for (int stays = 0; stays < TAKERS; stays++) {
        weft_delay *q = queue();
        weft_scope s;
        int v = 7;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < TAKERS; i++) {
            t[i] = (struct taker){ .q = q, .item = -1 };
            id[i] = weft_spawn(&s, takes_one, &t[i]);
            EXPECT(settle() == 0);
        }
        int64_t began = weft_now();
        EXPECT(PUT(q, v, began + weft_sec(10), NULL) == 0);
        for (int i = 0; i < TAKERS; i++) {
            EXPECT(weft_sleep(weft_sec(1)) == 0);
            if (i != stays)
                weft_task_cancel(id[i], "test");
        }
        EXPECT(weft_scope_end(&s, 0) == 0);
        for (int i = 0; i < TAKERS; i++)
            EXPECT(t[i].rc == (i == stays ? 1 : -ECANCELED) && t[i].item == (i == stays ? 7 : -1));
        EXPECT(t[stays].at == began + weft_sec(10));
        weft_delay_destroy(&q);
    }
    return 0;
}

START_TEST(a_taker_that_leaves_leaves_its_place_to_another)
{
    in_virtual_time(leaders_leave, workers[_i]);
}
END_TEST

static int timeout_around(void *arg)
{
    (void)arg;
    weft_delay *q = queue();
    int64_t began = weft_now();
    int v = 5, item = -1;
    EXPECT(PUT(q, v, began + weft_sec(1), NULL) == 0);
    for (int i = 0; i < 3; i++) {
        weft_scope t;
        weft_scope_begin(&t, weft_ms(300));
        EXPECT(weft_scope_end(&t, TAKE(q, item)) == -ETIMEDOUT && item == -1);
    }
    EXPECT(TAKE(q, item) == 1 && item == 5 && weft_now() == began + weft_sec(1));
    /* It is refused even if one is due; and try is not. */
    EXPECT(PUT(q, v, began, NULL) == 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, "test");
    item = -1;
    EXPECT(TAKE(q, item) == -ECANCELED && item == -1);
    EXPECT(TRY_TAKE(q, item) == 1 && item == 5);
    EXPECT(weft_scope_end(&s, 0) == 0);
    weft_delay_destroy(&q);
    return 0;
}

START_TEST(a_take_that_times_out_loses_nothing)
{
    in_virtual_time(timeout_around, workers[_i]);
}
END_TEST

/* ---- the end */

static int closes(void *arg)
{
    (void)arg;
    enum { TAKERS = 40 }; /* more than a slice of who is woken */
    static struct taker t[TAKERS];
    weft_delay *q = queue();
    int64_t began = weft_now();
    weft_scope s;
    int v = 1, got = 0;
    weft_delayed h;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < TAKERS; i++) {
        t[i] = (struct taker){ .q = q };
        weft_spawn(&s, takes_one, &t[i]);
    }
    EXPECT(settle() == 0);
    for (int i = 1; i <= 4; i++)
        EXPECT(PUT(q, v, began + weft_sec(i), &h) == 0);
    weft_delay_close(q);
    weft_delay_close(q);
    EXPECT(PUT(q, v, began, NULL) == -EPIPE);
    EXPECT(weft_delay_move(q, h, began + weft_sec(5)) == 0);
    EXPECT(weft_sleep_until(began + weft_ms(4500)) == 0);
    EXPECT(weft_delay_remove(q, h, &v, sizeof v) == 0); /* the last one: that is the end, too */
    EXPECT(weft_scope_end(&s, 0) == 0);
    for (int i = 0; i < TAKERS; i++) {
        EXPECT(t[i].rc == 0 || t[i].rc == 1);
        EXPECT(t[i].rc == 1 || t[i].at == began + weft_ms(4500));
        got += t[i].rc;
    }
    EXPECT(got == 3);
    EXPECT(TAKE(q, v) == 0 && TRY_TAKE(q, v) == 0);
    weft_delay_destroy(&q);
    q = queue();
    t[0] = (struct taker){ .q = q };
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, takes_one, &t[0]);
    EXPECT(settle() == 0);
    weft_delay_close(q); /* an empty one */
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(t[0].rc == 0);
    weft_delay_destroy(&q);
    return 0;
}

START_TEST(after_a_close_what_is_there_comes_at_its_time_and_then_the_end)
{
    in_virtual_time(closes, workers[_i]);
}
END_TEST

static int dropped, dropped_sum;
static void drop(void *item)
{
    dropped_sum = dropped_sum * 10 + *(int *)item;
    dropped++;
}

START_TEST(what_is_left_is_dropped_and_bad_calls_are_refused)
{
    weft_delay *q = NULL;
    weft_delayed h = 77;
    int v = 0;
    char small = 1;
    weft_delay_options o = { .drop = drop }, bad = { .reserved = { 1 } };
    ck_assert_int_eq(weft_delay_create(NULL, 4, NULL), -EINVAL);
    ck_assert_int_eq(weft_delay_create(&q, 4, &bad), -EINVAL);
    ck_assert_ptr_null(q);
    weft_delay_destroy(NULL);
    ck_assert_int_eq(weft_delay_create(&q, sizeof v, &o), 0);
    ck_assert_int_eq(weft_delay_put(q, &small, 1, 0, &h), -EINVAL);
    ck_assert_int_eq(weft_delay_put(q, NULL, sizeof v, 0, &h), -EINVAL);
    ck_assert_uint_eq(h, 77);
    for (v = 3; v > 0; v--)
        ck_assert_int_eq(PUT(q, v, v, &h), 0);
    ck_assert_int_eq(weft_delay_take(q, &small, 1), -EINVAL);
    ck_assert_int_eq(weft_delay_take(q, NULL, sizeof v), -EINVAL);
    ck_assert_int_eq(weft_delay_try_take(q, &small, 1), -EINVAL);
    ck_assert_int_eq(weft_delay_remove(q, h, &small, 1), -EINVAL);
    ck_assert_int_eq(weft_delay_remove(q, UINT64_MAX, &v, sizeof v), -ENOENT);
    ck_assert_int_eq(weft_delay_remove(q, UINT64_C(1) << 32, &v, sizeof v), -ENOENT);
    ck_assert_int_eq(weft_delay_remove(q, UINT64_C(1) << 32 | 9, &v, sizeof v), -ENOENT); /* a place that is free */
    weft_delay_destroy(&q);
    ck_assert_int_eq(dropped, 3);
    ck_assert_int_eq(dropped_sum, 123);
    ck_assert_int_eq(weft_delay_create(&q, 0, NULL), 0); /* items that say nothing */
    ck_assert_int_eq(weft_delay_put(q, NULL, 0, INT64_MIN, &h), 0);
    ck_assert_int_eq(weft_delay_put(q, NULL, 0, 0, NULL), 0);
    ck_assert_int_eq(weft_delay_remove(q, h, NULL, 0), 0);
    ck_assert_int_eq(weft_delay_take(q, NULL, 0), 1);
    ck_assert_int_eq(weft_delay_try_take(q, NULL, 0), -EAGAIN);
    weft_delay_destroy(&q);
    ck_assert_uint_eq(weft_sizeof("weft_timer"), sizeof(weft_timer));
    ck_assert_uint_eq(weft_sizeof("weft_delay_options"), sizeof(weft_delay_options));
}
END_TEST

START_TEST(without_memory_nothing_is_put_and_nothing_lost)
{
    weft_delay *q = NULL;
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
    ck_assert_int_eq(weft_delay_create(&q, sizeof(int), NULL), -ENOMEM);
    weft__fault_clear();
    ck_assert_ptr_null(q);
    q = queue();
    int items = 0, failures = 0;
    for (int i = 0; i < 500; i++) {
        for (int nth = 1; nth <= 3; nth++) {
            weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
            weft_delayed h = 77;
            int rc = PUT(q, items, items, &h);
            bool failed = weft__fault_failed(WEFT__FAULT_ALLOC) > 0;
            weft__fault_clear();
            ck_assert_int_eq(rc, failed ? -ENOMEM : 0);
            ck_assert(!failed || h == 77);
            items += !failed;
            failures += failed;
        }
    }
    ck_assert_int_gt(failures, 12);
    for (int i = 0, v = -1; i < items; i++) {
        ck_assert_int_eq(TAKE(q, v), 1);
        ck_assert_int_eq(v, i);
    }
    weft_delay_destroy(&q);
}
END_TEST

/* ---- against a simple model, and many */

START_TEST(whatever_is_done_to_it_it_says_what_a_simple_model_says)
{
    enum { MOST = 300 };
    static struct {
        weft_delayed h;
        int64_t at;
        int item;
        long sequence;
    } model[MOST];
    int n = 0, item = 0;
    long sequence = 0;
    uint64_t random = 1 + (uint64_t)_i;
    weft_delay *q = queue();
    for (int step = 0; step < SCALED(20000, 5000, 2000); step++) {
        uint32_t what = next_random(&random) % 10;
        /* Some have passed, and some are far away; many are equal. */
        int64_t at = (next_random(&random) % 3 ? weft_now() + weft_sec(10000) : 0) + next_random(&random) % 50;
        int which = n > 0 ? (int)(next_random(&random) % (uint32_t)n) : -1, v = -1;
        if (what < 4 && n < MOST) {
            item++;
            ck_assert_int_eq(PUT(q, item, at, &model[n].h), 0);
            model[n].at = at;
            model[n].item = item;
            model[n++].sequence = ++sequence;
        } else if (what < 6 && n > 0) {
            ck_assert_int_eq(weft_delay_move(q, model[which].h, at), 0);
            model[which].at = at;
            model[which].sequence = ++sequence;
        } else if (what < 8 && n > 0) {
            ck_assert_int_eq(weft_delay_remove(q, model[which].h, &v, sizeof v), 0);
            ck_assert_int_eq(v, model[which].item);
            ck_assert_int_eq(weft_delay_move(q, model[which].h, at), -ENOENT);
            model[which] = model[--n];
        } else {
            int first = -1;
            for (int i = 0; i < n; i++)
                if (model[i].at < 1000 && (first < 0 || model[i].at < model[first].at ||
                            (model[i].at == model[first].at && model[i].sequence < model[first].sequence)))
                    first = i;
            ck_assert_int_eq(TRY_TAKE(q, v), first >= 0 ? 1 : -EAGAIN);
            ck_assert_int_eq(v, first >= 0 ? model[first].item : -1);
            if (first >= 0)
                model[first] = model[--n];
        }
        ck_assert_uint_eq(weft_delay_len(q), (size_t)n);
    }
    weft_delay_destroy(&q);
}
END_TEST

/* B-055 */
START_TEST(among_very_many_each_is_moved_and_taken_back)
{
    int n = fewer(50000, BUILT(250000, 100000, 30000));
    weft_delayed *h = calloc((size_t)n, sizeof *h);
    weft_delay *q = queue();
    ck_assert_ptr_nonnull(h);
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(PUT(q, i, weft_sec(i), &h[i]), 0);
    for (int i = 0; i < n; i++) /* the other way round, and all have passed */
        ck_assert_int_eq(weft_delay_move(q, h[i], -i), 0);
    for (int i = 0, v; i < n; i += 2) {
        ck_assert_int_eq(weft_delay_remove(q, h[i], &v, sizeof v), 0);
        ck_assert_int_eq(v, i);
    }
    for (int i = n - 1, v = -1; i > 0; i -= 2) {
        ck_assert_int_eq(TRY_TAKE(q, v), 1);
        ck_assert_int_eq(v, i);
    }
    ck_assert_uint_eq(weft_delay_len(q), 0);
    weft_delay_destroy(&q);
    free(h);
}
END_TEST

/* ---- a crowd */

static struct {
    weft_delay *q;
    atomic_int number, left, taken, removed, put;
    atomic_uchar seen[CROWD * 2000];
    atomic_int early, twice;
} shared;

struct timed {
    int64_t at; /* when it is due at the earliest */
    int id;
};

static void seen(const struct timed *t)
{
    if (weft_now() < t->at)
        atomic_fetch_add(&shared.early, 1);
    if (atomic_fetch_add(&shared.seen[t->id], 1) != 0)
        atomic_fetch_add(&shared.twice, 1);
}

static int puts_some(int number, int each)
{
    uint64_t random = (uint64_t)number + 1;
    for (int i = 0; i < each; i++) {
        struct timed t = { weft_now() + (int64_t)(next_random(&random) % 200000), number * each + i }, back;
        weft_delayed h;
        int rc = PUT(shared.q, t, t.at + (i % 4 == 0 ? weft_ms(1) : 0), &h);
        if (rc < 0)
            return rc;
        atomic_fetch_add(&shared.put, 1);
        if (i % 4 == 0 && (rc = weft_delay_move(shared.q, h, t.at)) < 0 && rc != -ENOENT)
            return rc;
        if (i % 8 == 1 && (rc = weft_delay_remove(shared.q, h, &back, sizeof back)) == 0) {
            back.at = 0;
            seen(&back);
            atomic_fetch_add(&shared.removed, 1);
        }
        if (i % 16 == 0)
            weft_ignore(weft_yield());
    }
    return 0;
}

/* Every other one with a timeout that often ends the wait. */
static int takes_some(int number)
{
    for (int i = 0;; i++) {
        struct timed t;
        weft_scope s;
        weft_scope_begin(&s, i % 2 ? weft_us(number) * 10 : WEFT_NEVER);
        int rc = weft_scope_end(&s, TAKE(shared.q, t));
        if (rc == -ETIMEDOUT)
            continue;
        if (rc <= 0)
            return rc;
        seen(&t);
        atomic_fetch_add(&shared.taken, 1);
    }
}

static int one_of_the_crowd(void *arg)
{
    int each = *(int *)arg, number = atomic_fetch_add(&shared.number, 1);
    if (number % 3 == 0) {
        int rc = puts_some(number, each);
        if (atomic_fetch_sub(&shared.left, 1) == 1)
            weft_delay_close(shared.q);
        return rc;
    }
    return takes_some(number);
}

START_TEST(in_a_crowd_each_item_comes_once_and_never_early)
{
    int each = fewer(100, SCALED(2000, 500, 200));
    memset(&shared, 0, sizeof shared);
    shared.left = (CROWD + 2) / 3;
    ck_assert_int_eq(weft_delay_create(&shared.q, sizeof(struct timed), NULL), 0);
    run_crowd(one_of_the_crowd, &each, workers[_i]);
    ck_assert_int_eq(atomic_load(&shared.early), 0);
    ck_assert_int_eq(atomic_load(&shared.twice), 0);
    ck_assert_int_eq(atomic_load(&shared.put), (CROWD + 2) / 3 * each);
    ck_assert_int_eq(atomic_load(&shared.taken) + atomic_load(&shared.removed), atomic_load(&shared.put));
    weft_delay_destroy(&shared.q);
}
END_TEST

/* ---- timers */

static int sets_anew(void *arg)
{
    (void)arg;
    weft_timer t = WEFT_SYNC_INIT;
    int64_t began = weft_now();
    weft_scope s;
    /* Kept until somebody waits. */
    EXPECT(weft_timer_set(&t, began + weft_sec(5)) == 0);
    EXPECT(weft_sleep(weft_sec(7)) == 0);
    EXPECT(weft_timer_wait(&t) == 0 && weft_now() == began + weft_sec(7));
    /* Once. */
    weft_scope_begin(&s, weft_sec(100));
    EXPECT(weft_scope_end(&s, weft_timer_wait(&t)) == -ETIMEDOUT);
    /* To earlier, to later, stopped, and has passed. */
    began = weft_now();
    EXPECT(weft_timer_set(&t, began + weft_sec(50)) == 0);
    EXPECT(weft_timer_set(&t, began + weft_sec(5)) == 1);
    EXPECT(weft_timer_wait(&t) == 0 && weft_now() == began + weft_sec(5));
    EXPECT(weft_timer_set(&t, began + weft_sec(6)) == 0);
    EXPECT(weft_timer_set(&t, began + weft_sec(10)) == 1);
    EXPECT(weft_timer_wait(&t) == 0 && weft_now() == began + weft_sec(10));
    EXPECT(weft_timer_set(&t, began) == 0); /* has passed */
    EXPECT(weft_timer_set(&t, WEFT_NEVER) == 1);
    EXPECT(weft_timer_set(&t, WEFT_NEVER) == 0);
    weft_scope_begin(&s, weft_sec(100));
    EXPECT(weft_scope_end(&s, weft_timer_wait(&t)) == -ETIMEDOUT);
    began = weft_now();
    EXPECT(weft_timer_set(&t, INT64_MIN) == 0);
    /* A strike stays for who comes after one that was told to leave. */
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, "test");
    EXPECT(weft_timer_wait(&t) == -ECANCELED);
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(weft_timer_wait(&t) == 0 && weft_now() == began);
    return 0;
}

START_TEST(a_timer_strikes_once_and_for_the_last_time_it_was_set_to)
{
    in_virtual_time(sets_anew, workers[_i]);
}
END_TEST

struct waits {
    weft_timer *t;
    int rc;
    int64_t at;
};

static int waits_for_it(void *arg)
{
    struct waits *w = arg;
    w->rc = weft_timer_wait(w->t);
    w->at = weft_now();
    return 0;
}

static int pushed_off(void *arg)
{
    (void)arg;
    weft_timer t = WEFT_SYNC_INIT;
    struct waits w[3];
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++) {
        w[i] = (struct waits){ .t = &t };
        weft_spawn(&s, waits_for_it, &w[i]);
    }
    EXPECT(settle() == 0);
    /* Again and again, for an hour. */
    for (int i = 0; i < 3600; i++) {
        EXPECT(weft_timer_set(&t, weft_after(weft_ms(1500))) == (i > 0));
        EXPECT(weft_sleep(weft_sec(1)) == 0);
    }
    EXPECT(weft_sleep(weft_sec(1)) == 0);
    EXPECT(weft_timer_set(&t, weft_after(weft_sec(10))) == 0); /* one of them has got it */
    EXPECT(settle() == 0);
    int64_t second = weft_now() + weft_sec(2);
    EXPECT(weft_timer_set(&t, second) == 1); /* brought forward, while they wait */
    EXPECT(weft_sleep(weft_sec(1)) == 0);
    EXPECT(weft_timer_set(&t, WEFT_NEVER) == 1); /* and stopped */
    EXPECT(weft_sleep(weft_sec(5)) == 0);
    second = weft_now() + weft_sec(2);
    EXPECT(weft_timer_set(&t, second) == 0);
    EXPECT(weft_sleep(weft_sec(3)) == 0);
    int64_t third = weft_now();
    EXPECT(weft_timer_set(&t, third - weft_sec(1)) == 0); /* has passed */
    EXPECT(weft_scope_end(&s, 0) == 0);
    int seen_at[3] = { 0 };
    for (int i = 0; i < 3; i++) {
        EXPECT(w[i].rc == 0);
        seen_at[0] += w[i].at == began + 1 + weft_sec(3600) + weft_ms(500);
        seen_at[1] += w[i].at == second;
        seen_at[2] += w[i].at == third;
    }
    EXPECT(seen_at[0] == 1 && seen_at[1] == 1 && seen_at[2] == 1);
    return 0;
}

START_TEST(while_it_is_waited_for_a_timer_is_moved_and_each_strike_ends_one_wait)
{
    in_virtual_time(pushed_off, workers[_i]);
}
END_TEST

/* ---- plain threads, in real time */

static void *takes_on_thread(void *arg)
{
    (void)takes_one(arg);
    return NULL;
}

static void *waits_on_thread(void *arg)
{
    (void)waits_for_it(arg);
    return NULL;
}

START_TEST(plain_threads_take_and_wait_as_tasks_do)
{
    weft_delay *q = queue();
    struct taker t = { .q = q, .item = -1 };
    weft_timer timer = WEFT_SYNC_INIT;
    struct waits w = { .t = &timer, .rc = -1 };
    pthread_t a = thread_start(takes_on_thread, &t), b = thread_start(waits_on_thread, &w);
    int v = 9, late = 8;
    int64_t due = weft_now() + weft_ms(20);
    ck_assert_int_eq(PUT(q, late, due + weft_sec(1000), NULL), 0);
    ck_assert_int_eq(weft_timer_set(&timer, due + weft_sec(1000)), 0);
    usleep(1000);
    ck_assert_int_eq(PUT(q, v, due, NULL), 0);
    ck_assert_int_eq(weft_timer_set(&timer, due), 1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    ck_assert_int_eq(t.rc, 1);
    ck_assert_int_eq(t.item, 9);
    ck_assert_int_ge(t.at, due);
    ck_assert_int_eq(w.rc, 0);
    ck_assert_int_ge(w.at, due);
    /* And its own timeouts apply. */
    weft_scope s;
    weft_scope_begin(&s, weft_ms(1));
    ck_assert_int_eq(weft_scope_end(&s, TAKE(q, v)), -ETIMEDOUT);
    weft_scope_begin(&s, weft_ms(1));
    ck_assert_int_eq(weft_scope_end(&s, weft_timer_wait(&timer)), -ETIMEDOUT);
    weft_delay_destroy(&q);
}
END_TEST

#define LOOP(tc, test) tcase_add_loop_test(tc, test, 0, COUNT(workers))

int main(void)
{
    Suite *s = suite_create("delay");
    TCase *tc = add_case(s, "queue");
    LOOP(tc, items_come_at_their_times_the_earliest_first);
    LOOP(tc, who_waits_sees_what_is_put_moved_and_taken_back);
    LOOP(tc, a_taker_that_leaves_leaves_its_place_to_another);
    LOOP(tc, a_take_that_times_out_loses_nothing);
    LOOP(tc, after_a_close_what_is_there_comes_at_its_time_and_then_the_end);
    tcase_add_test(tc, what_is_left_is_dropped_and_bad_calls_are_refused);
    tcase_add_test(tc, without_memory_nothing_is_put_and_nothing_lost);
    tcase_add_loop_test(tc, whatever_is_done_to_it_it_says_what_a_simple_model_says, 0, 3);
    tcase_add_test(tc, among_very_many_each_is_moved_and_taken_back);
    LOOP(tc, in_a_crowd_each_item_comes_once_and_never_early);
    tc = add_case(s, "timer");
    LOOP(tc, a_timer_strikes_once_and_for_the_last_time_it_was_set_to);
    LOOP(tc, while_it_is_waited_for_a_timer_is_moved_and_each_strike_ends_one_wait);
    tc = add_case(s, "threads");
    tcase_add_test(tc, plain_threads_take_and_wait_as_tasks_do);
    return run_suite(s);
}
