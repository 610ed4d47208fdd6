/* pace_test.c - intervals and the pauses between tries: coord/pace.c.
 */
#include "support.h"

static weft_options virtual_on(int workers)
{
    return (weft_options){ .workers = workers, .clock = WEFT_CLOCK_VIRTUAL };
}

/* -- intervals -- */

enum { TICKS = 8 };
struct ticks {
    int missed;
    int64_t stall; /* after the first tick */
    int64_t at[TICKS];
    int rc[TICKS];
};

static int tick(void *arg)
{
    struct ticks *t = arg;
    weft_interval i = { .every = weft_ms(100), .missed = t->missed };
    int64_t began = weft_now();
    for (int n = 0; n < TICKS; n++) {
        t->rc[n] = weft_interval_wait(&i);
        t->at[n] = (weft_now() - began) / 1000000;
        if (n == 0 && t->stall > 0)
            weft_ignore(weft_sleep(t->stall));
    }
    return 0;
}

/* A stall of 3.5 periods after the tick at 100 ms: it is 450. */
static const int64_t ticks_at[3][TICKS] = {
    [WEFT_MISSED_BURST] = { 100, 450, 450, 450, 500, 600, 700, 800 },
    [WEFT_MISSED_DELAY] = { 100, 450, 550, 650, 750, 850, 950, 1050 },
    [WEFT_MISSED_SKIP] = { 100, 450, 500, 600, 700, 800, 900, 1000 },
};

START_TEST(missed_ticks_come_at_once_or_shifted_or_not_at_all)
{
    for (int workers = 1; workers <= 4; workers *= 2) {
        struct ticks t = { .missed = _i, .stall = weft_ms(350) };
        weft_options o = virtual_on(workers);
        ck_assert_int_eq(weft_run(tick, &t, &o), 0);
        for (int n = 0; n < TICKS; n++) {
            ck_assert_int_eq(t.rc[n], 1);
            ck_assert_int_eq(t.at[n], ticks_at[_i][n]);
        }
    }
}
END_TEST

START_TEST(without_a_stall_the_three_ways_are_one)
{
    struct ticks t = { .missed = _i };
    weft_options o = virtual_on(1);
    ck_assert_int_eq(weft_run(tick, &t, &o), 0);
    for (int n = 0; n < TICKS; n++)
        ck_assert_int_eq(t.at[n], 100 * (n + 1));
}
END_TEST

struct told {
    weft_interval i;
    int rc, again, end;
    int64_t next;
};

static int tick_told(void *arg)
{
    struct told *t = arg;
    weft_scope s;
    t->i = (weft_interval){ .every = weft_ms(100) };
    t->i.next = t->next = weft_after(weft_ms(30));
    weft_scope_begin(&s, weft_ms(10));
    t->rc = weft_interval_wait(&t->i);
    t->next -= t->i.next;
    t->end = weft_scope_end(&s, t->rc);
    t->again = weft_interval_wait(&t->i);
    return 0;
}

START_TEST(a_cancelled_tick_is_not_lost)
{
    struct told t = { .rc = 9 };
    weft_options o = virtual_on(1);
    ck_assert_int_eq(weft_run(tick_told, &t, &o), 0);
    ck_assert_int_eq(t.rc, -ECANCELED);
    ck_assert_int_eq(t.next, 0);
    ck_assert_int_eq(t.end, -ETIMEDOUT);
    ck_assert_int_eq(t.again, 1);
}
END_TEST

/* Ticks that are due all the time are a cancellation point all the same. */
static int burst_told(void *arg)
{
    int *n = arg, rc;
    weft_interval i = { .every = 1, .next = 1 };
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    while ((rc = weft_interval_wait(&i)) > 0)
        if (++*n == 1) /* not before: it might be over when the first tick is asked for */
            weft_scope_set_deadline(&s, weft_after(weft_ms(5)));
    return weft_scope_end(&s, rc);
}

START_TEST(an_interval_that_is_always_late_can_be_cancelled)
{
    int n = 0;
    ck_assert_int_eq(weft_run(burst_told, &n, ON(1)), -ETIMEDOUT);
    ck_assert_int_gt(n, 0);
}
END_TEST

START_TEST(bad_intervals_are_refused_and_threads_have_them_too)
{
    weft_interval i = { .every = 0 };
    ck_assert_int_eq(weft_interval_wait(NULL), -EINVAL);
    ck_assert_int_eq(weft_interval_wait(&i), -EINVAL);
    i = (weft_interval){ .every = 1, .missed = 3 };
    ck_assert_int_eq(weft_interval_wait(&i), -EINVAL);
    i = (weft_interval){ .every = weft_ms(2) };
    int64_t began = weft_now();
    for (int n = 0; n < 3; n++)
        ck_assert_int_eq(weft_interval_wait(&i), 1);
    ck_assert(weft_now() - began >= weft_ms(6));
    i = (weft_interval){ .every = WEFT_NEVER, .next = 1 };
    ck_assert_int_eq(weft_interval_wait(&i), 1);
    ck_assert(i.next == WEFT_NEVER);
}
END_TEST

/* -- backoff -- */

enum { PAUSES = 9 };
struct pauses {
    weft_backoff b;
    int64_t slept[PAUSES];
    int rc[PAUSES + 1];
};

static int pause_task(void *arg)
{
    struct pauses *p = arg;
    for (int n = 0; n < PAUSES; n++) {
        int64_t began = weft_now();
        p->rc[n] = weft_backoff_sleep(&p->b);
        p->slept[n] = weft_now() - began;
    }
    return 0;
}

START_TEST(pauses_grow_by_two_up_to_the_most_and_are_never_less_than_half)
{
    struct pauses p = { .b = { .first = weft_ms(20), .most = weft_ms(1000) } };
    weft_options o = virtual_on(1);
    ck_assert_int_eq(weft_run(pause_task, &p, &o), 0);
    int64_t whole = weft_ms(20);
    for (int n = 0; n < PAUSES; n++) {
        ck_assert_int_eq(p.rc[n], 1);
        ck_assert(p.slept[n] >= whole / 2 && p.slept[n] <= whole);
        whole = whole * 2 > weft_ms(1000) ? weft_ms(1000) : whole * 2;
    }
}
END_TEST

START_TEST(tries_are_used_up)
{
    struct pauses p = { .b = { .first = 1, .tries = 5 } };
    weft_options o = virtual_on(1);
    ck_assert_int_eq(weft_run(pause_task, &p, &o), 0);
    for (int n = 0; n < PAUSES; n++)
        ck_assert_int_eq(p.rc[n], n < 4);
    ck_assert_int_ge(p.b.used, 5);
}
END_TEST

static int pause_often(void *arg)
{
    struct pauses *p = arg;
    for (int i = 0; i < 2; i++) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_spawn(&s, pause_task, &p[2 * i]);
        weft_spawn(&s, pause_task, &p[2 * i + 1]);
        weft_ignore(weft_scope_end(&s, 0));
    }
    return 0;
}

START_TEST(pauses_differ_from_task_to_task)
{
    struct pauses p[4];
    for (int i = 0; i < 4; i++)
        p[i] = (struct pauses){ .b = { .first = weft_sec(1), .most = weft_sec(1) } };
    weft_options o = virtual_on(1);
    ck_assert_int_eq(weft_run(pause_often, p, &o), 0);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            ck_assert(memcmp(p[i].slept, p[j].slept, sizeof p[i].slept) != 0);
    ck_assert(p[0].slept[0] != p[0].slept[1] || p[0].slept[1] != p[0].slept[2]);
}
END_TEST

static int pause_told(void *arg)
{
    weft_backoff *b = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(1));
    return weft_scope_end(&s, weft_backoff_sleep(b));
}

START_TEST(a_pause_ends_when_told_and_bad_numbers_are_refused)
{
    weft_backoff b = { .first = weft_sec(1000), .most = WEFT_NEVER };
    weft_options o = virtual_on(1);
    ck_assert_int_eq(weft_run(pause_told, &b, &o), -ETIMEDOUT);
    ck_assert_int_eq(b.used, 1);
    ck_assert_int_eq(weft_backoff_sleep(NULL), -EINVAL);
    b = (weft_backoff){ .first = -1 };
    ck_assert_int_eq(weft_backoff_sleep(&b), -EINVAL);
    b = (weft_backoff){ .tries = -1 };
    ck_assert_int_eq(weft_backoff_sleep(&b), -EINVAL);
    b = (weft_backoff){ .tries = 1 };
    ck_assert_int_eq(weft_backoff_sleep(&b), 0); /* a plain thread; the only try was used */
    b = (weft_backoff){ .first = weft_us(10), .tries = 2 };
    ck_assert_int_eq(weft_backoff_sleep(&b), 1);
    ck_assert_int_eq(weft_backoff_sleep(&b), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pace");
    TCase *tc = add_case(s, "interval");
    tcase_add_loop_test(tc, missed_ticks_come_at_once_or_shifted_or_not_at_all, 0, 3);
    tcase_add_loop_test(tc, without_a_stall_the_three_ways_are_one, 0, 3);
    tcase_add_test(tc, a_cancelled_tick_is_not_lost);
    tcase_add_test(tc, an_interval_that_is_always_late_can_be_cancelled);
    tcase_add_test(tc, bad_intervals_are_refused_and_threads_have_them_too);
    tc = add_case(s, "backoff");
    tcase_add_test(tc, pauses_grow_by_two_up_to_the_most_and_are_never_less_than_half);
    tcase_add_test(tc, tries_are_used_up);
    tcase_add_test(tc, pauses_differ_from_task_to_task);
    tcase_add_test(tc, a_pause_ends_when_told_and_bad_numbers_are_refused);
    return run_suite(s);
}
