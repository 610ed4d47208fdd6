/* tests/once_test.c - sync/once.c: many callers, one call; who fails hands over. */
#include "sync_support.h"

struct thing {
    weft_once once;
    atomic_int calls, running, go;
    int made; /* plain: by the call that counts */
    int fails;
};

/* It suspends, and fails as often as it is to. */
static int make(void *arg)
{
    struct thing *t = arg;
    MUST(atomic_fetch_add(&t->running, 1) == 0);
    int call = atomic_fetch_add(&t->calls, 1);
    for (int i = 0; i < 3; i++)
        weft_ignore(weft_yield());
    if (call >= t->fails)
        t->made++;
    atomic_fetch_sub(&t->running, 1);
    return call < t->fails ? -EIO : 7;
}

static int need(void *arg)
{
    struct thing *t = arg;
    int rc = weft_once_run(&t->once, make, t);
    MUST(rc == 0 || rc == 7 || rc == -EIO);
    if (rc >= 0)
        MUST(t->made == 1);
    return 0;
}

static int thousand(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < SCALED(1000, 1000, 500); i++)
        weft_spawn(&s, need, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(a_thousand_callers_make_one_call)
{
    struct thing t = { 0 };
    RUN(thousand, &t, workers[_i]);
    ck_assert_int_eq(atomic_load(&t.calls), 1);
    ck_assert_int_eq(t.made, 1);
    ck_assert_int_eq(weft_once_run(&t.once, make, &t), 0);
}
END_TEST

START_TEST(who_fails_hands_over_to_the_next)
{
    struct thing t = { .fails = 5 };
    RUN(thousand, &t, workers[_i]);
    ck_assert_int_eq(atomic_load(&t.calls), 6);
    ck_assert_int_eq(t.made, 1);
}
END_TEST

START_TEST(tasks_of_two_runtimes_and_plain_threads_make_one_call)
{
    struct thing t = { .fails = 2 };
    run_crowd(need, &t, workers[_i]);
    ck_assert_int_eq(atomic_load(&t.calls), 3);
}
END_TEST

START_TEST(the_caller_gets_what_it_returned_and_the_others_0)
{
    struct thing t = { .fails = 1 };
    ck_assert_int_eq(weft_once_run(&t.once, make, &t), -EIO);
    ck_assert_int_eq(weft_once_run(&t.once, make, &t), 7);
    ck_assert_int_eq(weft_once_run(&t.once, make, &t), 0);
    ck_assert_int_eq(atomic_load(&t.calls), 2);
}
END_TEST

/* -- the runner is told to leave; who waits is told to leave -- */

static int sleep_long(void *arg)
{
    struct thing *t = arg;
    atomic_fetch_add(&t->calls, 1);
    return weft_sleep(LIMIT);
}

static int call_sleep(void *arg)
{
    struct thing *t = arg;
    return weft_once_run(&t->once, sleep_long, t);
}

static int call_make(void *arg)
{
    struct thing *t = arg;
    return weft_once_run(&t->once, make, t);
}

static int cancelled(void *arg)
{
    struct thing *t = arg;
    weft_scope s;
    struct caller runner, second, third, fourth;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &runner, call_sleep, t));
    MUST(put_to_sleep(&s, &second, call_make, t));
    MUST(put_to_sleep(&s, &third, call_make, t));
    MUST(put_to_sleep(&s, &fourth, call_make, t));
    MUST(weft_task_cancel(second.task, NULL) == 0);
    MUST(result(&second) == -ECANCELED);
    MUST(still_waits(&third) && still_waits(&fourth));
    MUST(weft_task_cancel(runner.task, NULL) == 0);
    MUST(result(&runner) == -ECANCELED);
    MUST(result(&third) == 7); /* it made it */
    MUST(result(&fourth) == 0);
    MUST(atomic_load(&t->calls) == 2 && t->made == 1);
    return weft_scope_end(&s, 0);
}

START_TEST(a_runner_that_is_told_to_leave_hands_over)
{
    struct thing t = { 0 };
    RUN(cancelled, &t, workers[_i]);
}
END_TEST

static int last_leaves(void *arg)
{
    struct thing *t = arg;
    weft_scope s, gone;
    struct caller runner, second;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &runner, call_sleep, t));
    weft_scope_begin(&gone, 0);
    MUST(call_make(t) == -ECANCELED); /* it would have to wait */
    MUST(weft_scope_end(&gone, -ECANCELED) == -ETIMEDOUT);
    MUST(put_to_sleep(&s, &second, call_make, t));
    MUST(weft_task_cancel(second.task, NULL) == 0);
    MUST(result(&second) == -ECANCELED);
    MUST(weft_task_cancel(runner.task, NULL) == 0);
    MUST(result(&runner) == -ECANCELED);
    weft_scope_begin(&gone, 0);
    MUST(call_make(t) == 7); /* it need not */
    MUST(call_make(t) == 0);
    MUST(weft_scope_end(&gone, 0) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(with_nobody_to_hand_over_to_the_next_who_comes_makes_it)
{
    struct thing t = { 0 };
    RUN(last_leaves, &t, workers[_i]);
    ck_assert_int_eq(t.made, 1);
}
END_TEST

/* -- from within -- */

static int within(void *arg)
{
    struct thing *t = arg;
    int rc = weft_once_run(&t->once, within, t);
    MUST(rc == -EDEADLK);
    return t->calls++ == 0 ? rc : 3;
}

static int within_twice(void *arg)
{
    struct thing *t = arg;
    MUST(weft_once_run(&t->once, within, t) == -EDEADLK); /* passed on, so it was not done */
    MUST(weft_once_run(&t->once, within, t) == 3);
    MUST(weft_once_run(&t->once, within, t) == 0);
    return 0;
}

START_TEST(a_call_from_within_is_refused)
{
    struct thing t = { 0 }, u = { 0 };
    RUN(within_twice, &t, workers[_i]);
    MUST(within_twice(&u) == 0);
    NOTHING_WRONG();
}
END_TEST

START_TEST(a_plain_thread_waits_until_its_deadline)
{
    struct thing t = { 0 };
    struct caller runner = { .call = call_sleep, .object = &t };
    weft_runtime *rt = NULL;
    weft_scope s, d;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(1)), 0);
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = rt });
    weft_spawn(&s, call_it, &runner);
    ck_assert(sleeps(&runner));
    weft_scope_begin(&d, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&d, call_make(&t)), -ETIMEDOUT);
    weft_scope_cancel(&s, NULL);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(runner.rc, -ECANCELED);
    ck_assert_int_eq(call_make(&t), 7);
}
END_TEST

/* -- gone -- */

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

struct two {
    weft_once once;
    atomic_int other_began;
};

static int first_of_two(void *arg)
{
    struct two *t = arg;
    atomic_store(&t->other_began, 1);
    return weft_yield();
}

static int begin_it(void *arg)
{
    struct two *t = arg;
    return weft_once_run(&t->once, first_of_two, t);
}

/* Its fn was begun by the other one, who is on the way out when this one finds it done. */
static int find_it_done(void *arg)
{
    struct two *t = arg;
    if (!wait_for(&t->other_began, 1))
        return -ETIME;
    return weft_once_run(&t->once, nothing, NULL);
}

START_TEST(who_found_it_done_may_free_it_at_once)
{
    struct gone g = { sizeof(struct two), NULL, begin_it, find_it_done, ROUNDS_GONE };
    RUN(gone_at_once, &g, workers[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("once");
    TCase *tc = add_case(s, "once");
    tcase_add_loop_test(tc, a_thousand_callers_make_one_call, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_fails_hands_over_to_the_next, 0, COUNT(workers));
    tcase_add_loop_test(tc, tasks_of_two_runtimes_and_plain_threads_make_one_call, 0, COUNT(workers));
    tcase_add_test(tc, the_caller_gets_what_it_returned_and_the_others_0);
    tcase_add_loop_test(tc, a_runner_that_is_told_to_leave_hands_over, 0, COUNT(workers));
    tcase_add_loop_test(tc, with_nobody_to_hand_over_to_the_next_who_comes_makes_it, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_call_from_within_is_refused, 0, COUNT(workers));
    tcase_add_test(tc, a_plain_thread_waits_until_its_deadline);
    tcase_add_loop_test(tc, who_found_it_done_may_free_it_at_once, 0, COUNT(workers));
    return run_suite(s);
}
