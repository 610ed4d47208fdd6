/* supervise_test.c - children that are restarted: coord/supervise.c. Time is virtual.
 */
#include "support.h"

static const int worker_counts[] = { 1, 2, 4 };
enum { KIDS = 3 };

struct kid {
    struct family *family;
    int number;
    int fails;     /* how often it fails before it ends well; -1: always */
    int code;      /* how; 0: -EPROTO */
    int64_t lives; /* before it ends; WEFT_NEVER: it waits to be told */
    atomic_int begun, told;
    int64_t at[16];
    char name[32], reason[40];
};

struct family {
    struct kid kids[KIDS];
    weft_supervise_options options;
    int rc;
    int64_t began, took, within;
    char text[128];
};

static int live(void *arg)
{
    struct kid *k = arg;
    int n = atomic_fetch_add(&k->begun, 1);
    if (n < COUNT(k->at))
        k->at[n] = weft_now() - k->family->began;
    weft_ignore(weft_task_name(weft_task_self(), k->name, sizeof k->name));
    int rc = weft_sleep(k->lives);
    if (rc < 0) {
        const char *why = weft_cancel_reason();
        snprintf(k->reason, sizeof k->reason, "%s", why ? why : "(none)");
        atomic_fetch_add(&k->told, 1);
        return rc;
    }
    if (k->code && n < k->fails)
        return k->code;
    if (k->fails < 0 || n < k->fails)
        return weft_fail(-EPROTO, "kid %d, life %d", k->number, n);
    return 0;
}

static int raise_family(struct family *f)
{
    static const char *const names[KIDS] = { "ann", "ben", "cid" };
    weft_child children[KIDS];
    for (int i = 0; i < KIDS; i++) {
        f->kids[i].family = f;
        f->kids[i].number = i;
        children[i] = (weft_child){ .name = names[i], .fn = live, .arg = &f->kids[i] };
    }
    f->began = weft_now();
    f->rc = weft_supervise(children, KIDS, &f->options);
    f->took = weft_now() - f->began;
    snprintf(f->text, sizeof f->text, "%s", f->rc < 0 ? weft_error_text(f->rc) : "");
    return f->rc;
}

static int raise_task(void *arg)
{
    struct family *f = arg;
    weft_scope s;
    weft_scope_begin(&s, f->within > 0 ? f->within : WEFT_NEVER);
    int rc = raise_family(f);
    return weft_scope_end(&s, rc);
}

static int run_family(struct family *f, int workers)
{
    return weft_run(raise_task, f, &(weft_options){ .workers = workers, .clock = WEFT_CLOCK_VIRTUAL });
}

START_TEST(children_that_end_well_are_not_restarted)
{
    struct family f = { .kids = { { .lives = weft_ms(1) }, { .lives = 0 }, { .lives = weft_ms(2) } } };
    ck_assert_int_eq(run_family(&f, worker_counts[_i]), 0);
    for (int i = 0; i < KIDS; i++)
        ck_assert_int_eq(atomic_load(&f.kids[i].begun), 1);
    ck_assert_str_eq(f.kids[1].name, "ben");
}
END_TEST

/* The middle one fails twice at 10 ms of its life; the others live for 100 ms, and go down as the strategy says. */
static const int begun[3][KIDS] = {
    [WEFT_RESTART_ONE] = { 1, 3, 1 },
    [WEFT_RESTART_ALL] = { 3, 3, 3 },
    [WEFT_RESTART_REST] = { 1, 3, 3 },
};

START_TEST(one_or_all_or_the_rest_are_restarted)
{
    for (int w = 0; w < COUNT(worker_counts); w++) {
        struct family f = { .options = { .restart = _i },
            .kids = { { .lives = weft_ms(100) }, { .lives = weft_ms(10), .fails = 2 }, { .lives = weft_ms(100) } } };
        ck_assert_int_eq(run_family(&f, worker_counts[w]), 0);
        for (int i = 0; i < KIDS; i++) {
            ck_assert_int_eq(atomic_load(&f.kids[i].begun), begun[_i][i]);
            ck_assert_int_eq(atomic_load(&f.kids[i].told), i == 1 ? 0 : begun[_i][i] - 1);
            if (i != 1 && begun[_i][i] > 1)
                ck_assert_str_eq(f.kids[i].reason, "a sibling is restarted");
        }
        ck_assert(f.took >= weft_ms(100));
    }
}
END_TEST

START_TEST(a_child_that_fails_too_often_ends_all_with_its_failure)
{
    struct family f = { .options = { .most = 4, .period = weft_sec(10) },
        .kids = { { .lives = WEFT_NEVER }, { .lives = weft_sec(1), .fails = -1 }, { .lives = WEFT_NEVER } } };
    ck_assert_int_eq(run_family(&f, worker_counts[_i]), -EPROTO);
    ck_assert_int_eq(f.rc, -EPROTO);
    ck_assert_int_eq(atomic_load(&f.kids[1].begun), 5); /* five failures within 10 s */
    ck_assert_str_eq(f.text, "kid 1, life 4");
    ck_assert_int_eq(atomic_load(&f.kids[0].told), 1);
    ck_assert_str_eq(f.kids[2].reason, "restarted too often");
}
END_TEST

START_TEST(failures_further_apart_are_restarted_for_ever)
{
    struct family f = { .options = { .most = 4, .period = weft_sec(10) },
        .kids = { { .lives = 0 }, { .lives = weft_sec(3), .fails = 12 }, { .lives = 0 } } };
    ck_assert_int_eq(run_family(&f, worker_counts[_i]), 0);
    ck_assert_int_eq(atomic_load(&f.kids[1].begun), 13);
}
END_TEST

START_TEST(a_restart_comes_after_a_growing_pause)
{
    struct family f = { .options = { .backoff = { .first = weft_sec(1), .most = weft_sec(4) }, .most = 100 },
        .kids = { { .lives = 0 }, { .lives = 1, .fails = 5 }, { .lives = 0 } } };
    ck_assert_int_eq(run_family(&f, worker_counts[_i]), 0);
    int64_t whole = weft_sec(1);
    for (int n = 1; n <= 5; n++) {
        int64_t pause = f.kids[1].at[n] - f.kids[1].at[n - 1];
        ck_assert(pause >= whole / 2 && pause <= whole + weft_ms(1));
        whole = whole < weft_sec(4) ? whole * 2 : whole;
    }
}
END_TEST

START_TEST(the_tries_of_a_backoff_can_be_used_up)
{
    struct family f = { .options = { .backoff = { .first = weft_ms(1), .tries = 3 }, .most = 100 },
        .kids = { { .lives = 0 }, { .lives = 1, .fails = -1 }, { .lives = WEFT_NEVER } } };
    ck_assert_int_eq(run_family(&f, worker_counts[_i]), -EPROTO);
    ck_assert_int_eq(atomic_load(&f.kids[1].begun), 3);
}
END_TEST

START_TEST(a_cancelled_supervisor_awaits_its_children)
{
    struct family f = { .within = weft_sec(1),
        .kids = { { .lives = WEFT_NEVER }, { .lives = weft_ms(300), .fails = -1 }, { .lives = WEFT_NEVER } } };
    ck_assert_int_eq(run_family(&f, worker_counts[_i]), -ETIMEDOUT);
    ck_assert_int_eq(f.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&f.kids[0].told), 1);
    ck_assert_int_eq(atomic_load(&f.kids[2].told), 1);
}
END_TEST

START_TEST(a_plain_thread_supervises_on_a_runtime)
{
    weft_runtime *rt = NULL;
    struct family f = { .kids = { { .lives = 1 }, { .lives = 1, .fails = 2 }, { .lives = 1 } } };
    weft_scope s;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(worker_counts[_i])), 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    ck_assert_int_eq(raise_family(&f), 0);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(atomic_load(&f.kids[1].begun), 3);
    ck_assert_int_eq(raise_family(&f), -EINVAL); /* on none */
}
END_TEST

START_TEST(bad_arguments_are_refused)
{
    weft_child c = { .fn = live }, none = { .fn = NULL };
    ck_assert_int_eq(weft_supervise(NULL, 0, NULL), 0);
    ck_assert_int_eq(weft_supervise(NULL, 1, NULL), -EINVAL);
    ck_assert_int_eq(weft_supervise(&none, 1, NULL), -EINVAL);
    weft_supervise_options bad[] = { { .restart = 3 }, { .restart = -1 }, { .most = -1 }, { .period = -1 },
        { .backoff = { .first = -1 } }, { .reserved = { 1 } } };
    for (int i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(weft_supervise(&c, 1, &bad[i]), -EINVAL);
}
END_TEST

/* Of something within it that was cancelled, say. Who is told to leave is not restarted for that. */
static int cancel_first_kid(void *arg)
{
    struct family *f = arg;
    while (atomic_load(&f->kids[0].begun) < 3)
        weft_ignore(weft_sleep(weft_ms(1)));
    weft_task ids[16];
    int n = weft_task_list(ids, COUNT(ids));
    char name[32];
    for (int i = 0; i < n; i++)
        if (weft_task_name(ids[i], name, sizeof name) >= 0 && strcmp(name, "ann") == 0)
            weft_ignore(weft_task_cancel(ids[i], "by its id"));
    return 0;
}

static int raise_and_cancel(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, cancel_first_kid, arg);
    int rc = raise_family(arg);
    return weft_scope_end(&s, rc);
}

START_TEST(cancelled_unasked_is_a_failure_and_told_by_id_is_an_end)
{
    struct family f = { .kids = { { .lives = weft_ms(5), .fails = 2, .code = -ECANCELED }, { .lives = 0 }, { .lives = 0 } } };
    ck_assert_int_eq(run_family(&f, worker_counts[_i]), 0);
    ck_assert_int_eq(atomic_load(&f.kids[0].begun), 3);
    struct family g = { .kids = { { .lives = weft_sec(5), .fails = 2, .code = -ECANCELED }, { .lives = 0 }, { .lives = 0 } } };
    weft_options o = { .workers = worker_counts[_i], .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(raise_and_cancel, &g, &o), 0);
    ck_assert_int_eq(atomic_load(&g.kids[0].begun), 3);
    ck_assert_int_eq(atomic_load(&g.kids[0].told), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("supervise");
    TCase *tc = add_case(s, "supervise");
    int n = COUNT(worker_counts);
    tcase_add_loop_test(tc, children_that_end_well_are_not_restarted, 0, n);
    tcase_add_loop_test(tc, one_or_all_or_the_rest_are_restarted, 0, 3);
    tcase_add_loop_test(tc, a_child_that_fails_too_often_ends_all_with_its_failure, 0, n);
    tcase_add_loop_test(tc, failures_further_apart_are_restarted_for_ever, 0, n);
    tcase_add_loop_test(tc, a_restart_comes_after_a_growing_pause, 0, n);
    tcase_add_loop_test(tc, the_tries_of_a_backoff_can_be_used_up, 0, n);
    tcase_add_loop_test(tc, a_cancelled_supervisor_awaits_its_children, 0, n);
    tcase_add_loop_test(tc, a_plain_thread_supervises_on_a_runtime, 0, n);
    tcase_add_loop_test(tc, cancelled_unasked_is_a_failure_and_told_by_id_is_an_end, 0, n);
    tcase_add_test(tc, bad_arguments_are_refused);
    return run_suite(s);
}
