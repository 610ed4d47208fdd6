/* tests/barrier_test.c - sync/barrier.c: nobody goes on before all have come; one index 0; broken and reset. */
#include "sync_support.h"

static int wait_it(void *b)
{
    return weft_barrier_wait(b);
}

START_TEST(without_parties_it_is_no_barrier_and_for_one_it_is_open)
{
    weft_barrier none = WEFT_SYNC_INIT, one = WEFT_BARRIER_INIT(1), far_too_many = WEFT_BARRIER_INIT(UINT32_MAX);
    ck_assert_int_eq(weft_barrier_wait(&none), -EINVAL);
    ck_assert_int_eq(weft_barrier_wait(&far_too_many), -EINVAL);
    ck_assert_int_eq(weft_barrier_wait(&one), 0);
    ck_assert_int_eq(weft_barrier_wait(&one), 0);
    weft_barrier_break(&one);
    ck_assert_int_eq(weft_barrier_wait(&one), -EPIPE);
    weft_barrier_reset(&one);
    ck_assert_int_eq(weft_barrier_wait(&one), 0);
}
END_TEST

/* -- generations -- */

static int arrive(void *arg)
{
    weft_barrier *b = arg;
    weft_scope s;
    struct caller c[3];
    weft_scope_begin(&s, LIMIT);
    for (int generation = 0; generation < 3; generation++) {
        for (int i = 0; i < 3; i++)
            MUST(put_to_sleep(&s, &c[i], wait_it, b));
        MUST(still_waits(&c[0]) && still_waits(&c[2]));
        MUST(weft_barrier_wait(b) == 3);
        for (int i = 0; i < 3; i++)
            MUST(result(&c[i]) == i); /* as they came */
    }
    return weft_scope_end(&s, 0);
}

START_TEST(each_has_its_place_in_the_order_of_arrival)
{
    weft_barrier b = WEFT_BARRIER_INIT(4);
    RUN(arrive, &b, workers[_i]);
}
END_TEST

static int break_it(void *arg)
{
    weft_barrier *b = arg;
    weft_scope s;
    struct caller c[4];
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 3; i++)
        MUST(put_to_sleep(&s, &c[i], wait_it, b));
    weft_barrier_reset(b);
    for (int i = 0; i < 3; i++)
        MUST(result(&c[i]) == -EPIPE);
    for (int i = 0; i < 3; i++)
        MUST(put_to_sleep(&s, &c[i], wait_it, b)); /* as new */
    weft_barrier_break(b);
    for (int i = 0; i < 3; i++)
        MUST(result(&c[i]) == -EPIPE);
    MUST(weft_barrier_wait(b) == -EPIPE);
    weft_barrier_break(b);
    weft_barrier_reset(b);
    weft_barrier_reset(b);
    for (int i = 0; i < 3; i++)
        MUST(put_to_sleep(&s, &c[i], wait_it, b));
    MUST(weft_barrier_wait(b) == 3);
    for (int i = 0; i < 3; i++)
        MUST(result(&c[i]) == i);
    return weft_scope_end(&s, 0);
}

START_TEST(broken_or_reset_it_sends_away_who_waits)
{
    weft_barrier b = WEFT_BARRIER_INIT(4);
    RUN(break_it, &b, workers[_i]);
}
END_TEST

/* -- told to leave -- */

static int leave(void *arg)
{
    weft_barrier *b = arg;
    weft_scope s, t;
    struct caller c[3];
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 3; i++)
        MUST(put_to_sleep(&s, &c[i], wait_it, b));
    MUST(weft_task_cancel(c[0].task, NULL) == 0);
    MUST(result(&c[0]) == -ECANCELED);
    MUST(still_waits(&c[1]) && still_waits(&c[2])); /* not broken, for one more */
    weft_scope_begin(&t, 0);
    MUST(weft_barrier_wait(b) == -ECANCELED); /* it would have to wait, and has not come */
    MUST(weft_scope_end(&t, -ECANCELED) == -ETIMEDOUT);
    MUST(put_to_sleep(&s, &c[0], wait_it, b));
    weft_scope_begin(&t, 0);
    MUST(weft_barrier_wait(b) == 3); /* it need not wait */
    MUST(weft_scope_end(&t, 0) == 0);
    MUST(result(&c[1]) == 0 && result(&c[2]) == 1 && result(&c[0]) == 2);
    return weft_scope_end(&s, 0);
}

START_TEST(who_is_told_to_leave_has_not_come_and_the_others_wait_on)
{
    weft_barrier b = WEFT_BARRIER_INIT(4);
    RUN(leave, &b, workers[_i]);
}
END_TEST

START_TEST(a_plain_thread_waits_until_its_deadline)
{
    weft_barrier b = WEFT_BARRIER_INIT(2);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_barrier_wait(&b)), -ETIMEDOUT);
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_barrier_wait(&b)), -ETIMEDOUT); /* the first has not come */
}
END_TEST

/* -- a crowd -- */

struct march {
    weft_barrier barrier;
    int step; /* plain: by index 0 */
    atomic_int zeros, came;
};

static int walk(void *arg)
{
    struct march *m = arg;
    for (int i = 0; i < SCALED(200, 80, 40); i++) {
        atomic_fetch_add(&m->came, 1);
        int index = weft_barrier_wait(&m->barrier);
        if (index < 0)
            return -EPROTO;
        MUST(index < CROWD);
        MUST(atomic_load(&m->came) >= (2 * i + 1) * CROWD);
        if (index == 0) {
            atomic_fetch_add(&m->zeros, 1);
            m->step++;
        }
        atomic_fetch_add(&m->came, 1);
        if (weft_barrier_wait(&m->barrier) < 0)
            return -EPROTO;
        MUST(m->step == i + 1);
    }
    return 0;
}

START_TEST(tasks_of_two_runtimes_and_plain_threads_go_in_step)
{
    struct march m = { .barrier = WEFT_BARRIER_INIT(CROWD) };
    run_crowd(walk, &m, workers[_i]);
    ck_assert_int_eq(atomic_load(&m.zeros), SCALED(200, 80, 40));
}
END_TEST

/* -- gone -- */

static int for_two(void *b)
{
    *(weft_barrier *)b = (weft_barrier)WEFT_BARRIER_INIT(2);
    return 0;
}

START_TEST(any_who_went_on_may_free_it_at_once)
{
    struct gone g = { sizeof(weft_barrier), for_two, wait_it, wait_it, ROUNDS_GONE };
    RUN(gone_at_once, &g, workers[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("barrier");
    TCase *tc = add_case(s, "barrier");
    tcase_add_test(tc, without_parties_it_is_no_barrier_and_for_one_it_is_open);
    tcase_add_loop_test(tc, each_has_its_place_in_the_order_of_arrival, 0, COUNT(workers));
    tcase_add_loop_test(tc, broken_or_reset_it_sends_away_who_waits, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_is_told_to_leave_has_not_come_and_the_others_wait_on, 0, COUNT(workers));
    tcase_add_test(tc, a_plain_thread_waits_until_its_deadline);
    tcase_add_loop_test(tc, tasks_of_two_runtimes_and_plain_threads_go_in_step, 0, COUNT(workers));
    tcase_add_loop_test(tc, any_who_went_on_may_free_it_at_once, 0, COUNT(workers));
    return run_suite(s);
}
