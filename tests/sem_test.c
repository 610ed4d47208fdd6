/* tests/sem_test.c - sync/sem.c: nobody is overtaken, no permit is lost, and how many there are at once. */
#include "sync_support.h"

static int take_1(void *s)
{
    return weft_sem_acquire(s, 1);
}

static int take_3(void *s)
{
    return weft_sem_acquire(s, 3);
}

/* -- without waiting -- */

START_TEST(there_are_as_many_permits_as_were_given)
{
    weft_sem none = WEFT_SYNC_INIT, five = WEFT_SEM_INIT(5);
    ck_assert_int_eq(weft_sem_acquire(&none, 0), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&none, 0), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&none, 1), -EAGAIN);
    ck_assert_int_eq(weft_sem_release(&none, 0), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&none, 1), -EAGAIN);
    ck_assert_int_eq(weft_sem_try_acquire(&five, 6), -EAGAIN);
    ck_assert_int_eq(weft_sem_acquire(&five, 3), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&five, 3), -EAGAIN);
    ck_assert_int_eq(weft_sem_try_acquire(&five, 2), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&five, 1), -EAGAIN);
    weft_sem_release(&five, 1);
    ck_assert_int_eq(weft_sem_try_acquire(&five, 1), 0);
    weft_sem_release(&none, UINT32_MAX);
    ck_assert_int_eq(weft_sem_try_acquire(&none, UINT32_MAX), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&none, 1), -EAGAIN);
}
END_TEST

static void give_too_many(void *arg)
{
    weft_sem s = WEFT_SEM_INIT(UINT32_MAX);
    (void)arg;
    weft_sem_release(&s, 1);
}

START_TEST(more_permits_than_there_are_numbers_for_abort)
{
    struct death d = die(give_too_many, NULL);
    ck_assert_int_eq(d.signal, SIGABRT);
    ck_assert_ptr_nonnull(strstr(d.text, "permits + n <= "));
}
END_TEST

/* -- bounded: A-050 -- */

START_TEST(a_bounded_one_refuses_more_than_were_taken)
{
    weft_sem p = WEFT_SEM_BOUNDED_INIT(3);
    ck_assert_int_eq(weft_sem_release(&p, 1), -EINVAL);
    ck_assert_int_eq(weft_sem_acquire(&p, 2), 0);
    ck_assert_int_eq(weft_sem_release(&p, 3), -EINVAL);
    ck_assert_int_eq(weft_sem_release(&p, UINT32_MAX), -EINVAL);
    ck_assert_int_eq(weft_sem_try_acquire(&p, 2), -EAGAIN); /* and nothing of it was given back */
    ck_assert_int_eq(weft_sem_release(&p, 0), 0);
    ck_assert_int_eq(weft_sem_release(&p, 1), 0);
    ck_assert_int_eq(weft_sem_release(&p, 1), 0);
    ck_assert_int_eq(weft_sem_release(&p, 1), -EINVAL);
    ck_assert_int_eq(weft_sem_try_acquire(&p, 3), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&p, 1), -EAGAIN);
    ck_assert_int_eq(weft_sem_release(&p, 3), 0);
    weft_sem most = WEFT_SEM_BOUNDED_INIT(UINT32_MAX);
    ck_assert_int_eq(weft_sem_release(&most, 1), -EINVAL);
}
END_TEST

/* While somebody waits for more than there are, and so the release goes the long way. */
static int refuses_beside_a_waiter(void *arg)
{
    weft_sem *p = arg;
    weft_scope s;
    struct caller a;
    weft_scope_begin(&s, LIMIT);
    MUST(weft_sem_acquire(p, 1) == 0);
    MUST(put_to_sleep(&s, &a, take_3, p));
    MUST(weft_sem_release(p, 2) == -EINVAL);
    MUST(still_waits(&a));
    MUST(weft_sem_try_acquire(p, 1) == -EAGAIN); /* who waits is not passed */
    MUST(weft_sem_release(p, 1) == 0);
    MUST(result(&a) == 0);
    MUST(weft_sem_release(p, 4) == -EINVAL);
    MUST(weft_sem_release(p, 3) == 0);
    MUST(weft_sem_release(p, 1) == -EINVAL);
    return weft_scope_end(&s, 0);
}

START_TEST(a_bounded_one_refuses_them_beside_who_waits)
{
    weft_sem p = WEFT_SEM_BOUNDED_INIT(3);
    RUN(refuses_beside_a_waiter, &p, workers[_i]);
}
END_TEST

/* -- the queue -- */

static int order(void *arg)
{
    weft_sem *p = arg;
    weft_scope s;
    struct caller a, b, c, d;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &a, take_3, p));
    MUST(put_to_sleep(&s, &b, take_1, p));
    MUST(put_to_sleep(&s, &c, take_1, p));
    weft_sem_release(p, 2); /* not enough for the first, who is not overtaken */
    MUST(weft_sem_try_acquire(p, 1) == -EAGAIN);
    MUST(put_to_sleep(&s, &d, take_1, p));
    MUST(still_waits(&a) && still_waits(&b) && still_waits(&c) && still_waits(&d));
    weft_sem_release(p, 2);
    MUST(result(&a) == 0 && result(&b) == 0);
    MUST(still_waits(&c) && still_waits(&d));
    weft_sem_release(p, 1);
    MUST(result(&c) == 0);
    MUST(still_waits(&d));
    weft_sem_release(p, 3);
    MUST(result(&d) == 0);
    MUST(weft_sem_try_acquire(p, 3) == -EAGAIN);
    MUST(weft_sem_try_acquire(p, 2) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(who_came_first_is_served_first_and_not_overtaken_for_wanting_more)
{
    weft_sem p = WEFT_SYNC_INIT;
    RUN(order, &p, workers[_i]);
}
END_TEST

static int first_leaves(void *arg)
{
    weft_sem *p = arg;
    weft_scope s;
    struct caller a, b, c, d;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &a, take_3, p));
    MUST(put_to_sleep(&s, &b, take_1, p));
    MUST(put_to_sleep(&s, &c, take_1, p));
    MUST(put_to_sleep(&s, &d, take_1, p));
    weft_sem_release(p, 2);
    MUST(weft_task_cancel(a.task, NULL) == 0);
    MUST(result(&a) == -ECANCELED);
    MUST(result(&b) == 0 && result(&c) == 0);
    MUST(still_waits(&d));
    MUST(weft_task_cancel(d.task, NULL) == 0);
    MUST(result(&d) == -ECANCELED);
    weft_sem_release(p, 1);
    MUST(weft_sem_try_acquire(p, 1) == 0);
    MUST(weft_sem_try_acquire(p, 1) == -EAGAIN);
    return weft_scope_end(&s, 0);
}

START_TEST(when_the_first_is_told_to_leave_the_others_get_what_it_stood_in_the_way_of)
{
    weft_sem p = WEFT_SYNC_INIT;
    RUN(first_leaves, &p, workers[_i]);
}
END_TEST

static int many(void *arg)
{
    weft_sem *p = arg;
    enum { N = BUILT(1000, 300, 300) };
    static struct caller all[N];
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < N; i++)
        MUST(put_to_sleep(&s, &all[i], take_1, p));
    weft_sem_release(p, N + 1);
    for (int i = 0; i < N; i++)
        MUST(result(&all[i]) == 0);
    MUST(weft_sem_try_acquire(p, 1) == 0);
    MUST(weft_sem_try_acquire(p, 1) == -EAGAIN);
    return weft_scope_end(&s, 0);
}

START_TEST(one_release_serves_many)
{
    weft_sem p = WEFT_SYNC_INIT;
    RUN(many, &p, workers[_i]);
}
END_TEST

/* -- told to leave -- */

static int told(void *arg)
{
    weft_sem *p = arg;
    weft_scope s;
    weft_scope_begin(&s, 0);
    MUST(weft_sem_acquire(p, 1) == 0);
    MUST(weft_sem_acquire(p, 1) == -ECANCELED);
    MUST(weft_sem_acquire(p, 0) == 0);
    weft_sem_release(p, 1);
    MUST(weft_sem_try_acquire(p, 1) == 0);
    MUST(weft_scope_end(&s, -ECANCELED) == -ETIMEDOUT);
    return 0;
}

START_TEST(who_was_told_to_leave_gets_what_is_there)
{
    weft_sem p = WEFT_SEM_INIT(1);
    RUN(told, &p, 1);
}
END_TEST

START_TEST(a_plain_thread_waits_until_its_deadline)
{
    weft_sem p = WEFT_SEM_INIT(2);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_sem_acquire(&p, 3)), -ETIMEDOUT);
    ck_assert_int_eq(weft_sem_acquire(&p, 2), 0);
}
END_TEST

/* -- who took them is not known: that is for a weft_limiter -- */

static void *take_1_on_thread(void *s)
{
    MUST(weft_sem_acquire(s, 1) == 0);
    return NULL;
}

/* A permit is nobody's: whoever took it may end, and it stays taken until anybody gives it back. */
static int taken_by_who_has_ended(void *arg)
{
    weft_sem *p = arg;
    weft_scope s;
    struct caller waiter;
    weft_scope_begin(&s, LIMIT);
    MUST(weft_task_join(weft_spawn(&s, take_1, p)) == 0);
    pthread_join(thread_start(take_1_on_thread, p), NULL);
    MUST(weft_sem_try_acquire(p, 1) == -EAGAIN);
    MUST(put_to_sleep(&s, &waiter, take_1, p));
    MUST(still_waits(&waiter)); /* nor is it told, as at a mutex */
    weft_sem_release(p, 1);
    MUST(result(&waiter) == 0);
    MUST(weft_sem_try_acquire(p, 1) == -EAGAIN);
    weft_sem_release(p, 1); /* the thread's, and no more than that */
    MUST(weft_sem_try_acquire(p, 1) == 0);
    MUST(weft_sem_try_acquire(p, 1) == -EAGAIN);
    return weft_scope_end(&s, 0);
}

START_TEST(the_permit_of_who_has_ended_stays_taken_until_anybody_gives_it_back)
{
    weft_sem p = WEFT_SEM_INIT(2);
    RUN(taken_by_who_has_ended, &p, workers[_i]);
}
END_TEST

/* -- a crowd: how many at once -- */

struct pool {
    weft_sem sem;
    atomic_int inside, most;
};

static int work_inside(void *arg)
{
    struct pool *p = arg;
    for (int i = 0; i < SCALED(400, 150, 80); i++) {
        uint32_t n = (uint32_t)i % 3 + 1;
        if (weft_sem_acquire(&p->sem, n) < 0)
            return -EPROTO;
        int now = atomic_fetch_add(&p->inside, (int)n) + (int)n;
        MUST(now <= 4);
        if (i % 8 == 0)
            weft_ignore(weft_yield());
        atomic_fetch_sub(&p->inside, (int)n);
        MUST(weft_sem_release(&p->sem, n) == 0);
    }
    return 0;
}

START_TEST(no_more_are_inside_than_there_are_permits)
{
    struct pool p = { .sem = WEFT_SEM_INIT(4) }, bounded = { .sem = WEFT_SEM_BOUNDED_INIT(4) };
    run_crowd(work_inside, &p, workers[_i]);
    run_crowd(work_inside, &bounded, workers[_i]);
    ck_assert_int_eq(weft_sem_release(&bounded.sem, 1), -EINVAL);
    ck_assert_int_eq(weft_sem_try_acquire(&bounded.sem, 4), 0);
    ck_assert_int_eq(weft_sem_try_acquire(&p.sem, 5), -EAGAIN);
    ck_assert_int_eq(weft_sem_try_acquire(&p.sem, 4), 0);
}
END_TEST

/* -- gone -- */

static int give_1(void *s)
{
    weft_sem_release(s, 1);
    return 0;
}

static int give_3(void *s)
{
    weft_sem_release(s, 3);
    return 0;
}

START_TEST(who_got_the_last_permit_may_free_it_at_once)
{
    struct gone one = { sizeof(weft_sem), NULL, give_1, take_1, ROUNDS_GONE };
    struct gone three = { sizeof(weft_sem), NULL, give_3, take_3, ROUNDS_GONE };
    RUN(gone_at_once, _i % 2 ? &one : &three, workers[_i / 2]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sem");
    TCase *tc = add_case(s, "sem");
    tcase_add_test(tc, there_are_as_many_permits_as_were_given);
    if (forking())
        tcase_add_test(tc, more_permits_than_there_are_numbers_for_abort);
    tcase_add_test(tc, a_bounded_one_refuses_more_than_were_taken);
    tcase_add_loop_test(tc, a_bounded_one_refuses_them_beside_who_waits, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_came_first_is_served_first_and_not_overtaken_for_wanting_more, 0, COUNT(workers));
    tcase_add_loop_test(
            tc, when_the_first_is_told_to_leave_the_others_get_what_it_stood_in_the_way_of, 0, COUNT(workers));
    tcase_add_loop_test(tc, one_release_serves_many, 0, COUNT(workers));
    tcase_add_test(tc, who_was_told_to_leave_gets_what_is_there);
    tcase_add_test(tc, a_plain_thread_waits_until_its_deadline);
    tcase_add_loop_test(
            tc, the_permit_of_who_has_ended_stays_taken_until_anybody_gives_it_back, 0, COUNT(workers));
    tcase_add_loop_test(tc, no_more_are_inside_than_there_are_permits, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_got_the_last_permit_may_free_it_at_once, 0, 2 * COUNT(workers));
    return run_suite(s);
}
