/* error_test.c - results in words, and the detail behind them: error.h seen from outside. */
#include "support.h"

START_TEST(results_have_names)
{
    ck_assert_str_eq(weft_strerror(-EPIPE), "EPIPE: Broken pipe");
    ck_assert_str_eq(weft_strerror(0), "ok");
    ck_assert_str_eq(weft_strerror(1), "ok");
    ck_assert_str_eq(weft_strerror(INT32_MAX), "ok");
    ck_assert_int_eq(strncmp(weft_strerror(-ECANCELED), "ECANCELED: ", 11), 0);
    ck_assert_int_eq(strncmp(weft_strerror(-ETIMEDOUT), "ETIMEDOUT: ", 11), 0);
    ck_assert_str_eq(weft_strerror(-100000), "unknown error");
    ck_assert_str_eq(weft_strerror(INT32_MIN), "unknown error");
    for (int i = -200; i < 200; i++)
        ck_assert_ptr_nonnull(weft_strerror(i));
    ck_assert_ptr_eq(weft_strerror(-EIO), weft_strerror(-EIO));
}
END_TEST

START_TEST(a_detail_belongs_to_its_code)
{
    ck_assert_int_eq(weft_fail(-EPROTO, "header %d is too long", 7), -EPROTO);
    ck_assert_str_eq(weft_error_text(-EPROTO), "header 7 is too long");
    ck_assert_str_eq(weft_error_text(-EPROTO), "header 7 is too long");
    ck_assert_str_eq(weft_error_text(-EIO), weft_strerror(-EIO));
    ck_assert_int_eq(weft_fail_text(-EIO, "100 % broken"), -EIO);
    ck_assert_str_eq(weft_error_text(-EIO), "100 % broken");
    ck_assert_str_eq(weft_error_text(-EPROTO), weft_strerror(-EPROTO));
}
END_TEST

static const int lengths[] = { 1, 106, 107, 108, 109, 500, 5000 };

START_TEST(a_long_detail_is_cut)
{
    char text[5001], cut[200];
    memset(text, 'a', sizeof text);
    text[lengths[_i]] = 0;
    for (int formatted = 0; formatted < 2; formatted++) {
        int rc = formatted ? weft_fail(-EDOM, "%s", text) : weft_fail_text(-EDOM, text);
        ck_assert_int_eq(rc, -EDOM);
        snprintf(cut, sizeof cut, "%.107s", text);
        ck_assert_str_eq(weft_error_text(-EDOM), cut);
    }
}
END_TEST

struct details {
    char own[128], other[128], moved[128], after[128];
    atomic_int first, second;
    int end;
};

static int set_and_look(void *arg)
{
    struct details *d = arg;
    weft_ignore(weft_fail(-EPROTO, "mine"));
    atomic_store(&d->first, 1);
    wait_for(&d->second, 1);
    snprintf(d->own, sizeof d->own, "%s", weft_error_text(-EPROTO));
    return 0;
}

static int set_another(void *arg)
{
    struct details *d = arg;
    wait_for(&d->first, 1);
    snprintf(d->other, sizeof d->other, "%s", weft_error_text(-EPROTO));
    weft_ignore(weft_fail(-EPROTO, "another's"));
    atomic_store(&d->second, 1);
    return weft_fail(-EDOM, "the child's own");
}

static int look_after_children(void *arg)
{
    struct details *d = arg;
    weft_ignore(weft_fail(-EDOM, "the parent's"));
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, set_and_look, d);
    weft_spawn(&s, set_another, d);
    wait_for(&d->second, 1);
    d->end = weft_scope_end(&s, 0);
    snprintf(d->moved, sizeof d->moved, "%s", weft_error_text(d->end));
    weft_scope_begin(&s, WEFT_NEVER);
    weft_ignore(weft_scope_end(&s, 0));
    snprintf(d->after, sizeof d->after, "%s", weft_error_text(-EPROTO));
    return 0;
}

START_TEST(a_detail_belongs_to_its_task_and_moves_to_the_parent)
{
    struct details d = { .end = 0 };
    weft_ignore(weft_fail(-EPROTO, "the thread's"));
    ck_assert_int_eq(weft_run(look_after_children, &d, ON(1 + _i)), 0);
    ck_assert_str_eq(d.own, "mine");
    ck_assert_str_eq(d.other, weft_strerror(-EPROTO));
    ck_assert_int_eq(d.end, -EDOM);
    ck_assert_str_eq(d.moved, "the child's own");
    ck_assert_str_eq(d.after, weft_strerror(-EPROTO));
    ck_assert_str_eq(weft_error_text(-EPROTO), "the thread's");
}
END_TEST

static void *set_in_thread(void *arg)
{
    weft_ignore(weft_fail(-EPROTO, "another thread's"));
    snprintf(arg, 128, "%s", weft_error_text(-EPROTO));
    return NULL;
}

START_TEST(outside_a_task_a_detail_belongs_to_its_thread)
{
    char text[128];
    weft_ignore(weft_fail(-EPROTO, "mine"));
    pthread_join(thread_start(set_in_thread, text), NULL);
    ck_assert_str_eq(text, "another thread's");
    ck_assert_str_eq(weft_error_text(-EPROTO), "mine");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("error");
    TCase *tc = add_case(s, "words");
    tcase_add_test(tc, results_have_names);
    tc = add_case(s, "details");
    tcase_add_test(tc, a_detail_belongs_to_its_code);
    tcase_add_loop_test(tc, a_long_detail_is_cut, 0, COUNT(lengths));
    tcase_add_loop_test(tc, a_detail_belongs_to_its_task_and_moves_to_the_parent, 0, 3);
    tcase_add_test(tc, outside_a_task_a_detail_belongs_to_its_thread);
    return run_suite(s);
}
