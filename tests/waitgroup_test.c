/* tests/waitgroup_test.c - sync/waitgroup.c: waits until as many are done as were added, and again. */
#include "sync_support.h"

static int wait_it(void *g)
{
    return weft_waitgroup_wait(g);
}

START_TEST(nothing_to_be_done_is_done)
{
    weft_waitgroup g = WEFT_SYNC_INIT;
    ck_assert_int_eq(weft_waitgroup_wait(&g), 0);
    weft_waitgroup_add(&g, 0);
    ck_assert_int_eq(weft_waitgroup_wait(&g), 0);
    weft_waitgroup_add(&g, 2);
    weft_waitgroup_done(&g);
    weft_waitgroup_done(&g);
    ck_assert_int_eq(weft_waitgroup_wait(&g), 0);
}
END_TEST

static void done_too_often(void *arg)
{
    weft_waitgroup g = WEFT_SYNC_INIT;
    (void)arg;
    weft_waitgroup_add(&g, 1);
    weft_waitgroup_done(&g);
    weft_waitgroup_done(&g);
}

static void added_too_often(void *arg)
{
    weft_waitgroup g = WEFT_SYNC_INIT;
    (void)arg;
    weft_waitgroup_add(&g, UINT32_MAX);
    weft_waitgroup_add(&g, 1);
}

START_TEST(more_done_than_added_aborts_and_so_do_too_many)
{
    struct death d = die(done_too_often, NULL);
    ck_assert_int_eq(d.signal, SIGABRT);
    ck_assert_ptr_nonnull(strstr(d.text, "fewer_are_done_than_were_added"));
    d = die(added_too_often, NULL);
    ck_assert_int_eq(d.signal, SIGABRT);
}
END_TEST

static int reuse(void *arg)
{
    weft_waitgroup *g = arg;
    weft_scope s;
    struct caller a, b, c;
    weft_scope_begin(&s, LIMIT);
    weft_waitgroup_add(g, 2);
    MUST(put_to_sleep(&s, &a, wait_it, g));
    MUST(put_to_sleep(&s, &b, wait_it, g));
    weft_waitgroup_done(g);
    MUST(still_waits(&a) && still_waits(&b));
    weft_waitgroup_add(g, 1); /* more, while some wait */
    weft_waitgroup_done(g);
    MUST(still_waits(&a) && still_waits(&b));
    weft_waitgroup_done(g);
    weft_waitgroup_add(g, 1); /* at once: those who waited are woken, who comes now waits */
    MUST(put_to_sleep(&s, &c, wait_it, g));
    MUST(result(&a) == 0 && result(&b) == 0);
    MUST(still_waits(&c));
    weft_waitgroup_done(g);
    MUST(result(&c) == 0);
    MUST(weft_waitgroup_wait(g) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(who_waits_is_woken_when_nothing_is_left_and_it_can_be_used_again)
{
    weft_waitgroup g = WEFT_SYNC_INIT;
    RUN(reuse, &g, workers[_i]);
}
END_TEST

static int leave(void *arg)
{
    weft_waitgroup *g = arg;
    weft_scope s, t;
    struct caller a, b;
    weft_scope_begin(&s, LIMIT);
    weft_waitgroup_add(g, 1);
    MUST(put_to_sleep(&s, &a, wait_it, g));
    MUST(put_to_sleep(&s, &b, wait_it, g));
    MUST(weft_task_cancel(a.task, NULL) == 0);
    MUST(result(&a) == -ECANCELED);
    MUST(still_waits(&b));
    MUST(weft_task_cancel(b.task, NULL) == 0);
    MUST(result(&b) == -ECANCELED);
    weft_waitgroup_done(g);
    weft_scope_begin(&t, 0);
    MUST(weft_waitgroup_wait(g) == -ECANCELED);
    MUST(weft_scope_end(&t, -ECANCELED) == -ETIMEDOUT);
    MUST(weft_waitgroup_wait(g) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(who_is_told_to_leave_leaves_and_the_others_wait_on)
{
    weft_waitgroup g = WEFT_SYNC_INIT;
    RUN(leave, &g, workers[_i]);
}
END_TEST

START_TEST(a_plain_thread_waits_until_its_deadline)
{
    weft_waitgroup g = WEFT_SYNC_INIT;
    weft_scope s;
    weft_waitgroup_add(&g, 1);
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_waitgroup_wait(&g)), -ETIMEDOUT);
    weft_waitgroup_done(&g);
    ck_assert_int_eq(weft_waitgroup_wait(&g), 0);
}
END_TEST

/* -- a crowd: a round ends when all have done their part of it -- */

struct rounds {
    weft_waitgroup left[3]; /* of this round, the next, and the one that some have not left yet */
    atomic_int parts, begun;
};

static int take_part(void *arg)
{
    struct rounds *r = arg;
    for (int i = 0; i < SCALED(200, 80, 40); i++) {
        /* The next round is prepared by whoever comes first in this one, when all have left the one before
         * the last. */
        int begun = i;
        if (atomic_compare_exchange_strong(&r->begun, &begun, i + 1))
            weft_waitgroup_add(&r->left[(i + 1) % 3], CROWD);
        atomic_fetch_add(&r->parts, 1);
        weft_waitgroup_done(&r->left[i % 3]);
        if (weft_waitgroup_wait(&r->left[i % 3]) < 0)
            return -EPROTO;
        MUST(atomic_load(&r->parts) >= (i + 1) * CROWD);
    }
    return 0;
}

START_TEST(tasks_of_two_runtimes_and_plain_threads_wait_for_each_other)
{
    struct rounds r = { 0 };
    weft_waitgroup_add(&r.left[0], CROWD);
    run_crowd(take_part, &r, workers[_i]);
    ck_assert_int_eq(atomic_load(&r.parts), CROWD * SCALED(200, 80, 40));
}
END_TEST

/* -- gone -- */

static int add_one(void *g)
{
    weft_waitgroup_add(g, 1);
    return 0;
}

static int done_it(void *g)
{
    weft_waitgroup_done(g);
    return 0;
}

START_TEST(who_waited_may_free_it_at_once)
{
    struct gone g = { sizeof(weft_waitgroup), add_one, done_it, wait_it, ROUNDS_GONE };
    RUN(gone_at_once, &g, workers[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("waitgroup");
    TCase *tc = add_case(s, "waitgroup");
    tcase_add_test(tc, nothing_to_be_done_is_done);
    if (forking())
        tcase_add_test(tc, more_done_than_added_aborts_and_so_do_too_many);
    tcase_add_loop_test(tc, who_waits_is_woken_when_nothing_is_left_and_it_can_be_used_again, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_is_told_to_leave_leaves_and_the_others_wait_on, 0, COUNT(workers));
    tcase_add_test(tc, a_plain_thread_waits_until_its_deadline);
    tcase_add_loop_test(tc, tasks_of_two_runtimes_and_plain_threads_wait_for_each_other, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_waited_may_free_it_at_once, 0, COUNT(workers));
    return run_suite(s);
}
