/* tests/limiter_test.c - sync/limiter.c: who has borrowed permits, and that nobody else returns them. B-044 */
#include "sync_support.h"

struct loans {
    weft_limiter limiter;
    weft_loan loan[8];
    atomic_int inside;
};

#define LOANS(n) { .limiter = WEFT_LIMITER_INIT(n) }

static int borrow(struct loans *l, int i, uint32_t permits)
{
    return weft_limiter_borrow(&l->limiter, &l->loan[i], permits);
}

static int give_back(struct loans *l, int i)
{
    return weft_limiter_return(&l->limiter, &l->loan[i]);
}

/* -- without waiting -- */

START_TEST(a_loan_is_out_once_and_returned_once)
{
    struct loans l = LOANS(3), other = LOANS(3);
    weft_task who[4] = { -1, -1, -1, -1 };
    ck_assert_int_eq(give_back(&l, 0), -EINVAL);
    ck_assert_int_eq(borrow(&l, 0, 0), -EINVAL);
    ck_assert_int_eq(borrow(&l, 0, 4), -EINVAL); /* it would wait for ever */
    ck_assert_int_eq(borrow(&l, 0, 2), 0);
    ck_assert_int_eq(borrow(&l, 0, 1), -EBUSY);
    ck_assert_int_eq(weft_limiter_try_borrow(&l.limiter, &l.loan[1], 2), -EAGAIN);
    ck_assert_int_eq(weft_limiter_try_borrow(&l.limiter, &l.loan[1], 1), 0);
    ck_assert_int_eq(weft_limiter_borrowers(&l.limiter, who, 1), 2);
    ck_assert(who[0] == 0 && who[1] == -1);
    ck_assert_int_eq(weft_limiter_borrowers(&l.limiter, NULL, 0), 2);
    ck_assert_int_eq(weft_limiter_borrowers(&l.limiter, NULL, 1), -EINVAL);
    ck_assert_int_eq(weft_limiter_return(&other.limiter, &l.loan[0]), -EINVAL);
    ck_assert_int_eq(give_back(&l, 0), 0);
    ck_assert_int_eq(give_back(&l, 0), -EINVAL);
    ck_assert_int_eq(weft_limiter_try_borrow(&l.limiter, &l.loan[0], 3), -EAGAIN); /* as many as were borrowed */
    ck_assert_int_eq(borrow(&l, 0, 2), 0);
    ck_assert_int_eq(give_back(&l, 1), 0);
    ck_assert_int_eq(give_back(&l, 0), 0);
    ck_assert_int_eq(borrow(&l, 0, 3), 0);
    ck_assert_int_eq(give_back(&l, 0), 0);
    ck_assert_int_eq(weft_limiter_borrowers(&l.limiter, who, 4), 0);
}
END_TEST

/* -- who has them -- */

struct holder {
    struct loans *l;
    int i;
    atomic_int has, ended;
};

static int holds(void *arg)
{
    struct holder *h = arg;
    MUST(borrow(h->l, h->i, 1) == 0);
    atomic_store(&h->has, 1);
    return wait_for(&h->ended, 1) ? give_back(h->l, h->i) : -ETIME;
}

static void *may_not_return_it(void *arg)
{
    MUST(give_back(arg, 0) == -EPERM);
    return NULL;
}

static int waits_for_one(void *arg)
{
    struct loans *l = arg;
    int rc = borrow(l, 3, 1);
    return rc < 0 ? rc : give_back(l, 3);
}

static int look_who(void *arg)
{
    struct loans *l = arg;
    struct holder h[2] = { { .l = l, .i = 0 }, { .l = l, .i = 1 } };
    weft_task t[2], who[4] = { 0 };
    struct caller waiter;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 2; i++) {
        t[i] = weft_spawn(&s, holds, &h[i]);
        MUST(wait_for(&h[i].has, 1));
    }
    MUST(put_to_sleep(&s, &waiter, waits_for_one, l));
    MUST(weft_limiter_borrowers(&l->limiter, who, 4) == 2);
    MUST(who[0] == t[0] && who[1] == t[1]);
    MUST(give_back(l, 0) == -EPERM); /* none of ours */
    pthread_join(thread_start(may_not_return_it, l), NULL);
    MUST(still_waits(&waiter));
    atomic_store(&h[0].ended, 1);
    MUST(weft_task_join(t[0]) == 0);
    MUST(result(&waiter) == 0);
    MUST(weft_limiter_borrowers(&l->limiter, who, 4) == 1 && who[0] == t[1]);
    atomic_store(&h[1].ended, 1);
    MUST(weft_task_join(t[1]) == 0);
    MUST(weft_limiter_borrowers(&l->limiter, who, 4) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(it_is_known_who_has_borrowed_and_nobody_else_returns_it)
{
    struct loans l = LOANS(2);
    RUN(look_who, &l, workers[_i]);
}
END_TEST

/* -- the queue -- */

static int borrow_3(void *arg)
{
    struct loans *l = arg;
    int rc = borrow(l, 2, 3);
    return rc < 0 ? rc : give_back(l, 2);
}

static int who_wants_many(void *arg)
{
    struct loans *l = arg;
    struct caller many, one;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    MUST(borrow(l, 0, 2) == 0);
    MUST(put_to_sleep(&s, &many, borrow_3, l));
    MUST(put_to_sleep(&s, &one, waits_for_one, l));
    MUST(weft_limiter_try_borrow(&l->limiter, &l->loan[4], 1) == -EAGAIN);
    MUST(weft_task_cancel(many.task, NULL) == 0);
    MUST(result(&many) == -ECANCELED); /* has borrowed nothing */
    MUST(result(&one) == 0);
    MUST(weft_limiter_borrowers(&l->limiter, NULL, 0) == 1);
    MUST(put_to_sleep(&s, &many, borrow_3, l));
    MUST(give_back(l, 0) == 0);
    MUST(result(&many) == 0);
    MUST(weft_limiter_borrowers(&l->limiter, NULL, 0) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(who_wants_many_is_not_overtaken_and_who_leaves_has_none)
{
    struct loans l = LOANS(3);
    RUN(who_wants_many, &l, workers[_i]);
}
END_TEST

/* -- a crowd -- */

static int come_and_go(void *arg)
{
    struct loans *l = arg;
    weft_loan mine = WEFT_SYNC_INIT;
    for (int i = 0; i < SCALED(400, 150, 80); i++) {
        uint32_t n = (uint32_t)i % 3 + 1;
        if (weft_limiter_borrow(&l->limiter, &mine, n) < 0)
            return -EPROTO;
        MUST(atomic_fetch_add(&l->inside, (int)n) + (int)n <= 4);
        int out = weft_limiter_borrowers(&l->limiter, NULL, 0);
        MUST(out >= 1 && out <= 4);
        if (i % 8 == 0)
            weft_ignore(weft_yield());
        atomic_fetch_sub(&l->inside, (int)n);
        MUST(weft_limiter_return(&l->limiter, &mine) == 0);
    }
    return 0;
}

START_TEST(no_more_are_out_than_there_are)
{
    struct loans l = LOANS(4);
    run_crowd(come_and_go, &l, workers[_i]);
    ck_assert_int_eq(weft_limiter_borrowers(&l.limiter, NULL, 0), 0);
    ck_assert_int_eq(weft_limiter_try_borrow(&l.limiter, &l.loan[0], 4), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("limiter");
    TCase *tc = add_case(s, "limiter");
    tcase_add_test(tc, a_loan_is_out_once_and_returned_once);
    tcase_add_loop_test(tc, it_is_known_who_has_borrowed_and_nobody_else_returns_it, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_wants_many_is_not_overtaken_and_who_leaves_has_none, 0, COUNT(workers));
    tcase_add_loop_test(tc, no_more_are_out_than_there_are, 0, COUNT(workers));
    return run_suite(s);
}
