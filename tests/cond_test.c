/* tests/cond_test.c - sync/cond.c. */
#include "support.h"

static const int workers[] = { 1, 2, 4 };

struct store {
    weft_mutex lock;
    weft_cond filled, drained;
    int items, most, made, taken, each;
    atomic_int waiting, woken;
    int rc[4];
    bool threads;
};

static int make(void *arg)
{
    struct store *s = arg;
    for (int i = 0; i < s->each; i++) {
        int rc = weft_mutex_lock(&s->lock);
        while (rc == 0 && s->items == s->most)
            rc = weft_cond_wait(&s->drained, &s->lock);
        if (rc == 0) {
            s->items++;
            s->made++;
            weft_cond_signal(&s->filled);
        }
        weft_mutex_unlock(&s->lock);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take(void *arg)
{
    struct store *s = arg;
    for (int i = 0; i < s->each; i++) {
        int rc = weft_mutex_lock(&s->lock);
        while (rc == 0 && s->items == 0)
            rc = weft_cond_wait(&s->filled, &s->lock);
        if (rc == 0) {
            s->items--;
            s->taken++;
            weft_cond_signal(&s->drained);
        }
        weft_mutex_unlock(&s->lock);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void *thread_makes(void *arg)
{
    weft_ignore(make(arg));
    return NULL;
}

static int trade(void *arg)
{
    struct store *st = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 4; i++) {
        if (!st->threads)
            weft_spawn(&s, make, st);
        weft_spawn(&s, take, st);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_bounded_store_loses_nothing)
{
    struct store s = { .most = 3, .each = SCALED(2000, 500, 200), .threads = _i % 2 };
    pthread_t threads[4];
    for (int i = 0; i < 4 && s.threads; i++)
        threads[i] = thread_start(thread_makes, &s);
    ck_assert_int_eq(weft_run(trade, &s, ON(workers[_i / 2])), 0);
    for (int i = 0; i < 4 && s.threads; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(s.made, 4 * s.each);
    ck_assert_int_eq(s.taken, 4 * s.each);
    ck_assert_int_eq(s.items, 0);
}
END_TEST

static int wait_once(void *arg)
{
    struct store *s = arg;
    int rc = weft_mutex_lock(&s->lock);
    if (rc < 0)
        return rc;
    atomic_fetch_add(&s->waiting, 1);
    rc = weft_cond_wait(&s->filled, &s->lock);
    if (rc == 0)
        s->taken++;
    weft_mutex_unlock(&s->lock);
    atomic_fetch_add(&s->woken, 1);
    return rc;
}

static int wake_all(void *arg)
{
    struct store *st = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 50; i++)
        weft_spawn(&s, wait_once, st);
    wait_for(&st->waiting, 50);
    int rc = weft_mutex_lock(&st->lock); /* all have given it up by waiting */
    if (rc == 0) {
        st->rc[0] = atomic_load(&st->woken);
        weft_cond_broadcast(&st->filled);
        weft_mutex_unlock(&st->lock);
    }
    return weft_scope_end(&s, rc);
}

START_TEST(a_broadcast_wakes_all)
{
    struct store s = { 0 };
    ck_assert_int_eq(weft_run(wake_all, &s, ON(workers[_i])), 0);
    ck_assert_int_eq(s.rc[0], 0);
    ck_assert_int_eq(s.taken, 50);
}
END_TEST

static int cancelled_and_signalled(void *arg)
{
    struct store *st = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_task first = weft_spawn(&s, wait_once, st);
    wait_for(&st->waiting, 1);
    weft_task second = weft_spawn(&s, wait_once, st);
    wait_for(&st->waiting, 2);
    int rc = weft_mutex_lock(&st->lock);
    weft_task_cancel(first, NULL);
    weft_cond_signal(&st->filled); /* is for the second, since the first has been told to leave */
    weft_mutex_unlock(&st->lock);
    if (rc == 0)
        rc = weft_task_join(second);
    return weft_scope_end(&s, rc);
}

START_TEST(a_cancel_takes_no_signal)
{
    struct store s = { 0 };
    ck_assert_int_eq(weft_run(cancelled_and_signalled, &s, ON(workers[_i])), 0);
    ck_assert_int_eq(s.taken, 1);
    ck_assert_int_eq(atomic_load(&s.woken), 2);
}
END_TEST

static int leave(void *arg)
{
    struct store *st = arg;
    st->rc[0] = weft_cond_wait(&st->filled, &st->lock); /* not held */
    weft_cond_signal(&st->filled);                      /* is not kept */
    int rc = weft_mutex_lock(&st->lock);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(2));
    st->rc[1] = weft_cond_wait(&st->filled, &st->lock);
    st->rc[2] = weft_mutex_try_lock(&st->lock); /* it is held again */
    st->rc[3] = weft_scope_end(&s, st->rc[1]);
    weft_mutex_unlock(&st->lock);
    return rc;
}

START_TEST(whoever_leaves_has_the_mutex_again)
{
    struct store s = { 0 };
    if (_i == COUNT(workers))
        ck_assert_int_eq(leave(&s), 0); /* on a plain thread */
    else
        ck_assert_int_eq(weft_run(leave, &s, ON(workers[_i])), 0);
    ck_assert_int_eq(s.rc[0], -EPERM);
    ck_assert_int_eq(s.rc[1], -ECANCELED);
    ck_assert_int_eq(s.rc[2], -EAGAIN);
    ck_assert_int_eq(s.rc[3], -ETIMEDOUT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cond");
    TCase *tc = add_case(s, "cond");
    tcase_add_loop_test(tc, a_bounded_store_loses_nothing, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, a_broadcast_wakes_all, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_cancel_takes_no_signal, 0, COUNT(workers));
    tcase_add_loop_test(tc, whoever_leaves_has_the_mutex_again, 0, COUNT(workers) + 1);
    return run_suite(s);
}
