/* lateness_test.c - how late timers strike: weft_stats_lateness, weft_histogram_quantile, A-019. */
#include "support.h"

#include <math.h>

#include "base/histogram.h"
#include "engine/runtime.h"

START_TEST(a_slot_holds_what_is_below_its_end_and_not_below_the_one_before)
{
    int last = -1;
    for (int64_t ns = 1; ns > 0 && ns < INT64_C(1) << 41; ns += 1 + ns / 7) {
        int slot = weft__histogram_slot(ns);
        ck_assert_int_lt(slot, WEFT_HISTOGRAM_SLOTS);
        ck_assert(slot == last || slot == last + 1 || last == -1); /* a step is less than a slot */
        ck_assert_int_lt(ns, weft__histogram_end(slot));
        ck_assert(slot == 0 || ns >= weft__histogram_end(slot - 1));
        last = slot;
    }
    for (int slot = 0; slot + 1 < WEFT_HISTOGRAM_SLOTS; slot++)
        ck_assert_int_eq(weft__histogram_slot(weft__histogram_end(slot)), slot + 1);
    ck_assert_int_eq(weft__histogram_slot(0), 0);
    ck_assert_int_eq(weft__histogram_slot(-5), 0);
    ck_assert_int_eq(weft__histogram_slot(INT64_MIN), 0);
    ck_assert_int_eq(weft__histogram_slot(INT64_MAX), WEFT_HISTOGRAM_SLOTS - 1);
}
END_TEST

START_TEST(a_quantile_is_the_end_of_its_slot)
{
    weft_histogram h = { .counts = { 0 } };
    ck_assert_int_eq(weft_histogram_quantile(&h, 0.5), 0);
    h.counts[3] = 90;
    h.counts[40] = 9;
    h.counts[60] = 1;
    ck_assert_int_eq(weft_histogram_quantile(&h, 0), weft__histogram_end(3));
    ck_assert_int_eq(weft_histogram_quantile(&h, 0.5), weft__histogram_end(3));
    ck_assert_int_eq(weft_histogram_quantile(&h, 0.9), weft__histogram_end(3));
    ck_assert_int_eq(weft_histogram_quantile(&h, 0.95), weft__histogram_end(40));
    ck_assert_int_eq(weft_histogram_quantile(&h, 1), weft__histogram_end(60));
    ck_assert_int_eq(weft_histogram_quantile(NULL, 0.5), -EINVAL);
    ck_assert_int_eq(weft_histogram_quantile(&h, -0.1), -EINVAL);
    ck_assert_int_eq(weft_histogram_quantile(&h, 1.1), -EINVAL);
    ck_assert_int_eq(weft_histogram_quantile(&h, (double)NAN), -EINVAL);
}
END_TEST

static uint64_t all_of(const weft_histogram *h)
{
    uint64_t all = 0;
    for (int i = 0; i < WEFT_HISTOGRAM_SLOTS; i++)
        all += h->counts[i];
    return all;
}

/* -- of a runtime -- */

struct late {
    weft_histogram before, after;
    int rc;
    int64_t span;
};

static int sleeps(void *arg)
{
    const struct late *l = arg;
    return weft_sleep(l->span);
}

static int many_sleep(void *arg)
{
    struct late *l = arg;
    weft_scope s, d;
    l->rc = weft_stats_lateness(NULL, &l->before);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 100; i++)
        weft_spawn(&s, sleeps, l);
    int rc = weft_scope_end(&s, 0);
    weft_scope_begin(&d, l->span); /* a deadline is one, too */
    weft_ignore(weft_sleep(WEFT_NEVER));
    if (rc == 0 && weft_scope_end(&d, -ECANCELED) != -ETIMEDOUT)
        rc = -EIO;
    l->rc |= weft_stats_lateness(NULL, &l->after);
    return rc;
}

START_TEST(each_that_struck_is_counted_once)
{
    static const int workers[] = { 1, 2, 8 };
    struct late l = { .span = weft_ms(2) };
    ck_assert_int_eq(weft_run(many_sleep, &l, ON(workers[_i])), 0);
    ck_assert_int_eq(l.rc, 0);
    ck_assert_uint_eq(all_of(&l.before), 0);
    ck_assert_uint_eq(all_of(&l.after), 101);
    ck_assert_int_gt(weft_histogram_quantile(&l.after, 1), 0);
}
END_TEST

START_TEST(nothing_is_late_under_a_virtual_clock)
{
    struct late l = { .span = weft_sec(60) };
    ck_assert_int_eq(weft_run(many_sleep, &l, &(weft_options){ .workers = 2, .clock = WEFT_CLOCK_VIRTUAL }), 0);
    ck_assert_uint_eq(l.after.counts[0], 101);
    ck_assert_uint_eq(all_of(&l.after), 101);
}
END_TEST

static int sleeps_until(void *arg)
{
    return weft_sleep_until(*(int64_t *)arg);
}

static int is_past(void *arg)
{
    static int64_t times[] = { 0, 1, -1, INT64_MIN, INT64_MIN + 1 };
    struct late *l = arg;
    weft_scope s, d;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(times); i++)
        weft_spawn(&s, sleeps_until, &times[i]);
    int rc = weft_scope_end(&s, 0);
    for (int i = 0; i < COUNT(times); i++) {
        weft_scope_begin(&d, WEFT_NEVER);
        weft_scope_set_deadline(&d, times[i]);
        weft_ignore(weft_sleep(WEFT_NEVER));
        if (weft_scope_end(&d, -ECANCELED) != -ETIMEDOUT)
            rc = -EIO;
    }
    l->rc = weft_stats_lateness(NULL, &l->after);
    return rc;
}

START_TEST(what_is_set_for_a_time_that_has_passed_is_not_late)
{
    static const int workers[] = { 1, 2, 8 };
    struct late l = { .span = 0 };
    ck_assert_int_eq(weft_run(is_past, &l, ON(workers[_i])), 0);
    ck_assert_int_eq(l.rc, 0);
    ck_assert_uint_ge(l.after.counts[0], 5);
    ck_assert_uint_eq(all_of(&l.after), l.after.counts[0]);
}
END_TEST

/* Nobody looks at the clock but the host. */
START_TEST(what_a_host_is_late_is_seen)
{
    struct late l = { .span = weft_ms(50) };
    weft_runtime *rt = NULL;
    weft_histogram h;
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .workers = 1, .manual = true }), 0);
    ck_assert_int_eq(weft_runtime_start(rt, sleeps, &l, NULL), 0);
    for (int64_t end = weft_after(LIMIT); ati_load(&rt->workers[0]->timers.pending) == 0 && weft_now() < end;)
        ck_assert_int_ge(weft_runtime_step(rt), 0); /* chaos may have it yield before it sleeps */
    int64_t due = weft_now() + l.span;
    while (weft_now() < due + weft_ms(20))
        usleep(1000);
    for (int64_t end = weft_after(LIMIT); weft_now() < end;) {
        ck_assert_int_ge(weft_runtime_step(rt), 0);
        ck_assert_int_eq(weft_stats_lateness(rt, &h), 0);
        if (all_of(&h) == 1)
            break;
    }
    ck_assert_uint_eq(all_of(&h), 1);
    ck_assert_int_ge(weft_histogram_quantile(&h, 0.5), weft_ms(20));
    ck_assert_int_eq(weft_stats_lateness(rt, NULL), -EINVAL);
    ck_assert_int_eq(weft_stats_lateness(NULL, &h), -EINVAL); /* of a plain thread */
    weft_runtime_destroy(&rt);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lateness");
    TCase *tc = add_case(s, "histogram");
    tcase_add_test(tc, a_slot_holds_what_is_below_its_end_and_not_below_the_one_before);
    tcase_add_test(tc, a_quantile_is_the_end_of_its_slot);
    tc = add_case(s, "timers");
    tcase_add_loop_test(tc, each_that_struck_is_counted_once, 0, 3);
    tcase_add_loop_test(tc, what_is_set_for_a_time_that_has_passed_is_not_late, 0, 3);
    tcase_add_test(tc, nothing_is_late_under_a_virtual_clock);
    tcase_add_test(tc, what_a_host_is_late_is_seen);
    return run_suite(s);
}
