/* gather_test.c - one function over an array: coord/gather.c.
 */
#include "support.h"

static const int worker_counts[] = { 1, 2, 4 };
enum { ITEMS = 50 };

struct item {
    int in, out, fail_at;
};

struct call {
    struct item items[ITEMS];
    weft_scope_options options;
    int rc, called, end;
    int64_t within;
    weft_failure failures[ITEMS];
};

static atomic_int now, most;

static int twice(void *arg)
{
    struct item *it = arg;
    int running = atomic_fetch_add(&now, 1) + 1, seen = atomic_load(&most);
    while (running > seen && !atomic_compare_exchange_weak(&most, &seen, running))
        continue;
    int rc = weft_sleep(weft_us(10 * (ITEMS - it->in)));
    atomic_fetch_sub(&now, 1);
    it->out = 2 * it->in + 1;
    return rc < 0 ? rc : it->in == it->fail_at ? -EIO : 0;
}

static int gather(struct call *c, int fail_at)
{
    atomic_store(&now, 0);
    atomic_store(&most, 0);
    for (int i = 0; i < ITEMS; i++)
        c->items[i] = (struct item){ .in = i, .fail_at = fail_at };
    c->rc = weft_gather(c->items, ITEMS, sizeof c->items[0], twice, &c->options);
    c->called = 0;
    for (int i = 0; i < ITEMS; i++)
        c->called += c->items[i].out != 0;
    return 0;
}

static int gather_all(void *arg)
{
    return gather(arg, -1);
}

static int gather_failing(void *arg)
{
    return gather(arg, 20);
}

START_TEST(results_are_in_the_order_of_the_arguments)
{
    struct call c = { .rc = 1 };
    ck_assert_int_eq(weft_run(gather_all, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.rc, 0);
    for (int i = 0; i < ITEMS; i++)
        ck_assert_int_eq(c.items[i].out, 2 * i + 1);
}
END_TEST

START_TEST(no_more_items_run_at_once_than_the_limit)
{
    struct call c = { .options = { .limit = 3 } };
    ck_assert_int_eq(weft_run(gather_all, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.rc, 0);
    ck_assert_int_eq(c.called, ITEMS);
    ck_assert_int_le(atomic_load(&most), 3);
}
END_TEST

START_TEST(the_first_failure_leaves_the_rest_out)
{
    struct call c = { .options = { .limit = 1 } };
    ck_assert_int_eq(weft_run(gather_failing, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.rc, -EIO);
    ck_assert_int_ge(c.called, 21);
    ck_assert_int_le(c.called, 22); /* one may have begun, and was told */
}
END_TEST

START_TEST(errors_can_be_collected_instead)
{
    struct call c = { .options = { .join = WEFT_JOIN_KEEP_GOING, .limit = 4 } };
    c.options.failures = c.failures;
    c.options.failures_max = ITEMS;
    ck_assert_int_eq(weft_run(gather_failing, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.rc, -EIO);
    ck_assert_int_eq(c.called, ITEMS);
    ck_assert(c.failures[0].arg == &c.items[20]);
    ck_assert_int_eq(c.failures[0].code, -EIO);
    ck_assert_int_eq(c.failures[1].code, 0);
}
END_TEST

START_TEST(the_first_success_leaves_the_rest_out)
{
    struct call c = { .options = { .join = WEFT_JOIN_ANY, .need = 2, .limit = 1 } };
    ck_assert_int_eq(weft_run(gather_all, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.rc, 0);
    ck_assert_int_ge(c.called, 2);
    ck_assert_int_le(c.called, 3);
}
END_TEST

static int gather_within(void *arg)
{
    struct call *c = arg;
    weft_scope s;
    weft_scope_begin(&s, c->within);
    gather(c, -1);
    c->end = weft_scope_end(&s, c->rc);
    return 0;
}

START_TEST(the_callers_deadline_ends_it)
{
    for (int limit = 0; limit < 3; limit++) {
        struct call c = { .within = 0, .options = { .limit = limit } };
        ck_assert_int_eq(weft_run(gather_within, &c, ON(worker_counts[_i])), 0);
        ck_assert_int_eq(c.rc, -ECANCELED);
        ck_assert_int_eq(c.called, 0);
        ck_assert_int_eq(c.end, -ETIMEDOUT);
        c.within = weft_us(700);
        c.options.limit = limit;
        ck_assert_int_eq(weft_run(gather_within, &c, ON(worker_counts[_i])), 0);
        ck_assert(c.rc == -ECANCELED ? c.end == -ETIMEDOUT : c.called == ITEMS && c.rc == 0);
    }
}
END_TEST

START_TEST(a_plain_thread_gathers_on_a_runtime)
{
    struct call c = { .options = { .limit = 2 } };
    ck_assert_int_eq(weft_runtime_create(&c.options.on, ON(worker_counts[_i])), 0);
    gather_all(&c);
    ck_assert_int_eq(c.rc, 0);
    ck_assert_int_eq(c.called, ITEMS);
    weft_runtime_destroy(&c.options.on);
    gather_all(&c); /* on none */
    ck_assert_int_eq(c.rc, -EINVAL);
    ck_assert_int_eq(c.called, 0);
}
END_TEST

START_TEST(bad_arguments_are_refused_and_none_is_nothing)
{
    struct item it;
    ck_assert_int_eq(weft_gather(&it, 1, sizeof it, NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_gather(NULL, 1, sizeof it, twice, NULL), -EINVAL);
    ck_assert_int_eq(weft_gather(NULL, 0, sizeof it, twice, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gather");
    TCase *tc = add_case(s, "gather");
    int n = COUNT(worker_counts);
    tcase_add_loop_test(tc, results_are_in_the_order_of_the_arguments, 0, n);
    tcase_add_loop_test(tc, no_more_items_run_at_once_than_the_limit, 0, n);
    tcase_add_loop_test(tc, the_first_failure_leaves_the_rest_out, 0, n);
    tcase_add_loop_test(tc, errors_can_be_collected_instead, 0, n);
    tcase_add_loop_test(tc, the_first_success_leaves_the_rest_out, 0, n);
    tcase_add_loop_test(tc, the_callers_deadline_ends_it, 0, n);
    tcase_add_loop_test(tc, a_plain_thread_gathers_on_a_runtime, 0, n);
    tcase_add_test(tc, bad_arguments_are_refused_and_none_is_nothing);
    return run_suite(s);
}
