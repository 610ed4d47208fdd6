/* tests/topic_test.c - sync/topic.c: what is published goes to every subscriber, and who lags is told how much. */
#include "support.h"

#include "base/fault.h"

static const int workers[] = { 1, 2, 4 };

static weft_topic *make(bool keep_last)
{
    weft_topic *t = NULL;
    if (weft_topic_create(&t, sizeof(int), &(weft_topic_options){ .keep_last = keep_last }) < 0)
        abort();
    return t;
}

static weft_chan *subscribe(weft_topic *t, size_t capacity)
{
    weft_chan *c = NULL;
    if (weft_topic_subscribe(t, capacity, &c) < 0)
        abort();
    return c;
}

static int publish(weft_topic *t, int v)
{
    return weft_topic_publish(t, &v, sizeof v);
}

/* The next item, or what recv says instead, as a negative number below -1000. */
static int next(weft_chan *c)
{
    int v = 0, rc = weft_chan_try_recv(c, &v, sizeof v);
    return rc == 1 ? v : rc - 1000;
}

START_TEST(every_subscriber_gets_every_item)
{
    weft_topic *t = make(false);
    weft_chan *c[5];
    ck_assert_int_eq(publish(t, 1), 0);
    for (int i = 0; i < 5; i++)
        c[i] = subscribe(t, 4);
    for (int v = 2; v < 5; v++)
        ck_assert_int_eq(publish(t, v), 5);
    for (int i = 0; i < 5; i++) {
        for (int v = 2; v < 5; v++)
            ck_assert_int_eq(next(c[i]), v);
        ck_assert_int_eq(next(c[i]), -EAGAIN - 1000);
        ck_assert_int_eq((int)weft_chan_missed(c[i]), 0);
    }
    weft_chan_destroy(&c[2]);
    weft_chan_close(c[3]);
    ck_assert_int_eq(publish(t, 5), 3);
    weft_topic_destroy(&t);
    ck_assert_ptr_null(t);
    weft_topic_destroy(&t); /* E-27: again, and nothing at all */
    weft_topic_destroy(NULL);
    weft_chan_destroy(NULL);
    ck_assert_ptr_null(t);
    for (int i = 0; i < 5; i++) {
        if (i < 2 || i == 4)
            ck_assert_int_eq(next(c[i]), 5);
        if (i != 2)
            ck_assert_int_eq(next(c[i]), -1000);
        weft_chan_destroy(&c[i]);
    }
}
END_TEST

START_TEST(who_lags_loses_the_oldest_and_is_told_how_many)
{
    weft_topic *t = make(false);
    weft_chan *slow = subscribe(t, 2), *fast = subscribe(t, 8);
    for (int v = 1; v <= 5; v++)
        ck_assert_int_eq(publish(t, v), 2);
    ck_assert_int_eq(next(slow), 4);
    ck_assert_int_eq((int)weft_chan_missed(slow), 3);
    ck_assert_int_eq((int)weft_chan_missed(slow), 0);
    ck_assert_int_eq((int)weft_chan_missed(fast), 0);
    ck_assert_int_eq((int)weft_chan_len(fast), 5);
    weft_chan_destroy(&slow);
    weft_topic_destroy(&t);
    weft_chan_destroy(&fast);
}
END_TEST

START_TEST(a_watched_value_is_there_for_who_comes_later)
{
    weft_topic *t = make(true);
    weft_chan *a = subscribe(t, 1);
    ck_assert_int_eq(next(a), -EAGAIN - 1000);
    ck_assert_int_eq(publish(t, 1), 1);
    weft_chan *b = subscribe(t, 1);
    ck_assert_int_eq(next(b), 1);
    ck_assert_int_eq(publish(t, 2), 2);
    ck_assert_int_eq(publish(t, 3), 2);
    ck_assert_int_eq(next(a), 3);
    ck_assert_int_eq((int)weft_chan_missed(a), 2);
    ck_assert_int_eq(next(b), 3);
    ck_assert_int_eq((int)weft_chan_missed(b), 1);
    weft_chan_destroy(&a);
    weft_chan_destroy(&b);
    weft_topic_destroy(&t);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    weft_topic *t = NULL;
    weft_chan *c = NULL;
    int64_t wide = 0;
    ck_assert_int_eq(weft_topic_create(&t, 4, &(weft_topic_options){ .reserved = { 1 } }), -EINVAL);
    ck_assert_int_eq(weft_topic_create(NULL, 4, NULL), -EINVAL);
    for (int n = 1; n < 3; n++) {
        weft__fault_set(WEFT__FAULT_ALLOC, n, 1, -ENOMEM);
        int rc = weft_topic_create(&t, 4, &(weft_topic_options){ .keep_last = true });
        weft__fault_clear();
        ck_assert_int_eq(rc, -ENOMEM);
        ck_assert_ptr_null(t);
    }
    t = make(false);
    ck_assert_int_eq(weft_topic_subscribe(t, 0, &c), -EINVAL);
    ck_assert_int_eq(weft_topic_subscribe(t, 1, NULL), -EINVAL);
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
    int rc = weft_topic_subscribe(t, 1, &c);
    weft__fault_clear();
    ck_assert_int_eq(rc, -ENOMEM);
    ck_assert_int_eq(weft_topic_publish(t, &wide, sizeof wide), -EINVAL);
    ck_assert_int_eq(weft_topic_publish(t, NULL, sizeof(int)), -EINVAL);
    weft_topic_destroy(&t);
    ck_assert_int_eq(weft_topic_create(&t, 0, &(weft_topic_options){ .keep_last = true }), 0);
    ck_assert_int_eq(weft_topic_publish(t, NULL, 0), 0);
    ck_assert_int_eq(weft_topic_subscribe(t, 1, &c), 0);
    ck_assert_int_eq(weft_chan_recv(c, NULL, 0), 1);
    weft_chan_destroy(&c);
    weft_topic_destroy(&t);
}
END_TEST

/* -- readers of a value that several publish -- */

enum { PUBLISHERS = 2, READERS = 6 };

struct watch {
    weft_topic *t;
    int n, rc, last[READERS];
    atomic_int number, readers, wrong;
};

static int publish_many(void *arg)
{
    struct watch *w = arg;
    int rc = 0;
    for (int i = 0; i < w->n && rc >= 0; i++) {
        rc = publish(w->t, i);
        if (i % 7 == 0 && rc >= 0)
            rc = weft_yield();
    }
    return rc < 0 ? rc : 0;
}

static int read_on(void *arg)
{
    struct watch *w = arg;
    int me = atomic_fetch_add(&w->number, 1), v, rc, before = -1;
    weft_chan *c = subscribe(w->t, 1);
    atomic_fetch_add(&w->readers, 1);
    while ((rc = weft_chan_recv(c, &v, sizeof v)) > 0) {
        atomic_fetch_add(&w->wrong, v < before);
        before = v;
    }
    w->last[me] = before;
    weft_chan_destroy(&c);
    return rc;
}

static int watch_all(void *arg)
{
    struct watch *w = arg;
    weft_scope readers, writers;
    weft_scope_begin(&readers, LIMIT);
    for (int i = 0; i < READERS; i++)
        weft_spawn(&readers, read_on, w);
    wait_for(&w->readers, READERS);
    weft_scope_begin(&writers, LIMIT);
    weft_spawn(&writers, publish_many, w);
    int rc = weft_scope_end(&writers, 0);
    weft_topic_destroy(&w->t);
    return weft_scope_end(&readers, rc);
}

START_TEST(readers_see_the_last_value_and_never_go_back)
{
    struct watch w = { .t = make(true), .n = SCALED(20000, 5000, 1000) };
    ck_assert_int_eq(weft_run(watch_all, &w, ON(workers[_i])), 0);
    ck_assert_int_eq(atomic_load(&w.wrong), 0);
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(w.last[i], w.n - 1);
}
END_TEST

/* Subscribers come and go, and the topic goes, at any time. */
static int come_and_go(void *arg)
{
    struct watch *w = arg;
    int v, rc = 0;
    for (int i = 0; i < w->n / 10 && rc >= 0; i++) {
        weft_chan *c = subscribe(w->t, 2);
        rc = i % 3 ? weft_yield() : weft_chan_try_recv(c, &v, sizeof v);
        if (rc == -EAGAIN)
            rc = 0;
        weft_chan_destroy(&c);
    }
    return rc < 0 ? rc : 0;
}

static int crowd(void *arg)
{
    struct watch *w = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < PUBLISHERS; i++)
        weft_spawn(&s, publish_many, w);
    for (int i = 0; i < READERS; i++)
        weft_spawn(&s, come_and_go, w);
    return weft_scope_end(&s, 0);
}

START_TEST(subscribers_come_and_go_meanwhile)
{
    struct watch w = { .t = make(_i & 1), .n = SCALED(5000, 2000, 500) };
    ck_assert_int_eq(weft_run(crowd, &w, ON(workers[_i])), 0);
    ck_assert_int_eq(publish(w.t, 1), 0);
    weft_topic_destroy(&w.t);
}
END_TEST

static int destroy_mine(void *arg)
{
    weft_chan_destroy(arg);
    return 0;
}

static int end_both(void *arg)
{
    int rounds = *(int *)arg, rc = 0;
    for (int i = 0; i < rounds && rc == 0; i++) {
        weft_topic *t = make(false);
        weft_chan *c[3];
        weft_scope s;
        weft_scope_begin(&s, LIMIT);
        for (int k = 0; k < 3; k++) {
            c[k] = subscribe(t, 1);
            weft_spawn(&s, destroy_mine, &c[k]);
        }
        if (i % 2)
            rc = weft_yield();
        weft_topic_destroy(&t);
        rc = weft_scope_end(&s, rc);
    }
    return rc;
}

START_TEST(a_topic_and_its_channels_end_in_any_order)
{
    int rounds = SCALED(5000, 2000, 500);
    ck_assert_int_eq(weft_run(end_both, &rounds, ON(workers[_i])), 0);
}
END_TEST

static int refused(void *arg)
{
    struct watch *w = arg;
    weft_scope s;
    weft_scope_begin(&s, 0);
    w->rc = publish(w->t, 1);
    return weft_scope_end(&s, 0);
}

START_TEST(who_was_told_to_leave_publishes_nothing)
{
    struct watch w = { .t = make(true) };
    weft_chan *c = subscribe(w.t, 1);
    ck_assert_int_eq(weft_run(refused, &w, ON(1)), 0);
    ck_assert_int_eq(w.rc, -ECANCELED);
    ck_assert_int_eq((int)weft_chan_len(c), 0);
    weft_chan_destroy(&c);
    weft_topic_destroy(&w.t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("topic");
    TCase *tc = add_case(s, "topic");
    tcase_add_test(tc, every_subscriber_gets_every_item);
    tcase_add_test(tc, who_lags_loses_the_oldest_and_is_told_how_many);
    tcase_add_test(tc, a_watched_value_is_there_for_who_comes_later);
    tcase_add_test(tc, what_makes_no_sense_is_refused);
    tcase_add_loop_test(tc, readers_see_the_last_value_and_never_go_back, 0, COUNT(workers));
    tcase_add_loop_test(tc, subscribers_come_and_go_meanwhile, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_topic_and_its_channels_end_in_any_order, 0, COUNT(workers));
    tcase_add_test(tc, who_was_told_to_leave_publishes_nothing);
    return run_suite(s);
}
