/* tests/promise_test.c - sync/promise.c: a result that comes once, for all. */
#include "sync_support.h"

static int value_1, value_2;

static int wait_it(void *p)
{
    void *v = NULL;
    int rc = weft_promise_wait(p, &v);
    MUST(v == (rc >= 0 ? &value_1 : NULL));
    return rc;
}

START_TEST(it_is_set_once)
{
    weft_promise p = WEFT_SYNC_INIT;
    void *v = NULL;
    ck_assert_int_eq(weft_promise_set(&p, 5, &value_1), 0);
    ck_assert_int_eq(weft_promise_set(&p, -EIO, &value_2), -EALREADY);
    ck_assert_int_eq(weft_promise_wait(&p, NULL), 5);
    ck_assert_int_eq(weft_promise_wait(&p, &v), 5);
    ck_assert_ptr_eq(v, &value_1);
}
END_TEST

START_TEST(with_a_failure_the_value_is_untouched)
{
    weft_promise p = WEFT_SYNC_INIT;
    void *v = &value_2;
    ck_assert_int_eq(weft_promise_set(&p, -EPIPE, &value_1), 0);
    ck_assert_int_eq(weft_promise_wait(&p, &v), -EPIPE);
    ck_assert_ptr_eq(v, &value_2);
    ck_assert_int_eq(weft_promise_wait(&p, NULL), -EPIPE);
}
END_TEST

struct set_to {
    weft_promise promise;
    int rc;
};

static int many_wait(void *arg)
{
    struct set_to *p = arg;
    enum { N = 100 };
    static struct caller c[N];
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < N; i++)
        MUST(put_to_sleep(&s, &c[i], wait_it, &p->promise));
    MUST(weft_task_cancel(c[N / 2].task, NULL) == 0);
    MUST(result(&c[N / 2]) == -ECANCELED);
    MUST(weft_promise_set(&p->promise, p->rc, &value_1) == 0);
    for (int i = 0; i < N; i++)
        MUST(i == N / 2 || result(&c[i]) == p->rc);
    MUST(wait_it(&p->promise) == p->rc);
    return weft_scope_end(&s, 0);
}

START_TEST(all_who_wait_get_the_result)
{
    struct set_to good = { .rc = 3 }, broken = { .rc = -EPIPE };
    RUN(many_wait, &good, workers[_i]);
    RUN(many_wait, &broken, workers[_i]);
}
END_TEST

static int told(void *arg)
{
    weft_promise *p = arg;
    weft_scope s;
    void *v = &value_2;
    weft_scope_begin(&s, 0);
    MUST(weft_promise_wait(p, &v) == -ECANCELED);
    MUST(weft_promise_set(p, 0, &value_1) == 0);
    MUST(weft_promise_wait(p, &v) == -ECANCELED && v == &value_2);
    MUST(weft_scope_end(&s, -ECANCELED) == -ETIMEDOUT);
    MUST(weft_promise_wait(p, &v) == 0 && v == &value_1);
    return 0;
}

START_TEST(who_was_told_to_leave_is_refused)
{
    weft_promise p = WEFT_SYNC_INIT;
    RUN(told, &p, 1);
}
END_TEST

START_TEST(a_plain_thread_waits_until_its_deadline)
{
    weft_promise p = WEFT_SYNC_INIT;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_promise_wait(&p, NULL)), -ETIMEDOUT);
    ck_assert_int_eq(weft_promise_set(&p, 1, NULL), 0);
    ck_assert_int_eq(weft_promise_wait(&p, NULL), 1);
}
END_TEST

/* -- setters: B-035 -- */

struct duty {
    weft_promise promise;
    int way;
};
enum { KEEPS, FORGETS, IS_TOLD, HANDS_ON, IS_LATE, WAYS };

static const int comes_of[WAYS] = { [KEEPS] = 4, [FORGETS] = -EPIPE, [IS_TOLD] = -EPIPE, [HANDS_ON] = -EPIPE, [IS_LATE] = 9 };

static void drops_it(weft_promise *p)
{
    WEFT_SETTER(mine, p);
    MUST(mine == p);
}

static int has_a_duty(void *arg)
{
    struct duty *d = arg;
    WEFT_SETTER(mine, &d->promise);
    switch (d->way) {
    case KEEPS:
        MUST(weft_setter_set(&mine, 4, &value_1) == 0 && mine == NULL);
        MUST(weft_setter_set(&mine, 5, &value_1) == -EINVAL);
        break;
    case FORGETS:
    case WAYS:
        break;
    case IS_TOLD:
        return weft_sleep(LIMIT);
    case HANDS_ON: {
        weft_promise *theirs = mine;
        mine = NULL;
        drops_it(theirs);
        break;
    }
    case IS_LATE:
        MUST(weft_promise_set(&d->promise, 9, &value_1) == 0); /* by another way */
        break;
    }
    return 0;
}

static void *has_a_duty_on_a_thread(void *arg)
{
    MUST(has_a_duty(arg) == 0);
    return NULL;
}

/* A waiter that waits already gets it, and so does one that comes late. */
static int wait_for_duty(void *arg)
{
    struct duty *d = arg;
    int want = comes_of[d->way];
    struct caller c;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &c, wait_it, &d->promise));
    weft_task t = weft_spawn(&s, has_a_duty, d);
    if (d->way == IS_TOLD)
        MUST(weft_task_cancel(t, NULL) == 0);
    MUST(weft_task_join(t) == 0);
    MUST(result(&c) == want);
    MUST(wait_it(&d->promise) == want);
    if (d->way != IS_TOLD) {
        memset(&d->promise, 0, sizeof d->promise);
        MUST(put_to_sleep(&s, &c, wait_it, &d->promise));
        pthread_join(thread_start(has_a_duty_on_a_thread, d), NULL);
        MUST(result(&c) == want);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(who_leaves_without_a_word_has_broken_it)
{
    for (int way = 0; way < WAYS; way++) {
        struct duty d = { .way = way };
        RUN(wait_for_duty, &d, workers[_i]);
    }
}
END_TEST

START_TEST(no_setter_is_no_duty)
{
    weft_promise *none = NULL;
    weft_setter_drop(NULL);
    weft_setter_drop(&none);
    ck_assert_int_eq(weft_setter_set(NULL, 0, NULL), -EINVAL);
    ck_assert_int_eq(weft_setter_set(&none, 0, NULL), -EINVAL);
}
END_TEST

/* -- a crowd: all try to set it -- */

enum { PROMISES = BUILT(200, 80, 40) };

struct race {
    weft_promise promises[PROMISES];
    atomic_int sets, at[PROMISES];
};

static int set_or_wait(void *arg)
{
    struct race *r = arg;
    for (int i = 0; i < PROMISES; i++) {
        int me = atomic_fetch_add(&r->at[i], 1);
        void *v = NULL;
        if (me % 3 == 1) {
            int rc = weft_promise_set(&r->promises[i], i, r);
            MUST(rc == 0 || rc == -EALREADY);
            if (rc == 0)
                atomic_fetch_add(&r->sets, 1);
        }
        if (weft_promise_wait(&r->promises[i], &v) != i)
            return -EPROTO;
        MUST(v == r);
    }
    return 0;
}

START_TEST(among_tasks_of_two_runtimes_and_plain_threads_one_sets_it)
{
    static struct race r;
    memset(&r, 0, sizeof r);
    run_crowd(set_or_wait, &r, workers[_i]);
    ck_assert_int_eq(atomic_load(&r.sets), PROMISES);
}
END_TEST

/* -- gone -- */

static int set_it(void *p)
{
    return weft_promise_set(p, 0, &value_1);
}

static int set_by_duty(void *p)
{
    WEFT_SETTER(mine, p);
    return weft_setter_set(&mine, 0, &value_1); /* and the drop looks at nothing any more */
}

START_TEST(who_got_the_result_may_free_it_at_once)
{
    struct gone g = { sizeof(weft_promise), NULL, set_it, wait_it, ROUNDS_GONE };
    struct gone by_duty = { sizeof(weft_promise), NULL, set_by_duty, wait_it, ROUNDS_GONE };
    RUN(gone_at_once, _i % 2 ? &by_duty : &g, workers[_i / 2]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("promise");
    TCase *tc = add_case(s, "promise");
    tcase_add_test(tc, it_is_set_once);
    tcase_add_test(tc, with_a_failure_the_value_is_untouched);
    tcase_add_loop_test(tc, all_who_wait_get_the_result, 0, COUNT(workers));
    tcase_add_test(tc, who_was_told_to_leave_is_refused);
    tcase_add_test(tc, a_plain_thread_waits_until_its_deadline);
    tcase_add_loop_test(tc, who_leaves_without_a_word_has_broken_it, 0, COUNT(workers));
    tcase_add_test(tc, no_setter_is_no_duty);
    tcase_add_loop_test(tc, among_tasks_of_two_runtimes_and_plain_threads_one_sets_it, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_got_the_result_may_free_it_at_once, 0, 2 * COUNT(workers));
    return run_suite(s);
}
