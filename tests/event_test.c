/* tests/event_test.c - sync/event.c, and by it sync/waiter.c: who waits, and how all of them are served. */
#include "support.h"

static const int workers[] = { 1, 2, 4 };

/* -- set, clear, wait -- */

struct meeting {
    weft_event event;
    atomic_int here, gone;
    int n, all, rc, seen;
    bool is_set;
};

static int wait_there(void *arg)
{
    struct meeting *m = arg;
    atomic_fetch_add(&m->here, 1);
    int rc = weft_event_wait(&m->event);
    atomic_fetch_add(&m->gone, 1);
    return rc;
}

static int meet(void *arg)
{
    struct meeting *m = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < m->n; i++)
        weft_spawn(&s, wait_there, m);
    wait_for(&m->here, m->n);
    m->seen = atomic_load(&m->gone);
    weft_event_set(&m->event);
    return weft_scope_end(&s, 0);
}

START_TEST(a_set_wakes_all_who_wait)
{
    static const int counts[] = { 0, 1, 2, 31, 32, 33, 64, 500 };
    for (int i = 0; i < COUNT(counts); i++) {
        struct meeting m = { .n = counts[i] };
        ck_assert_int_eq(weft_run(meet, &m, ON(workers[_i])), 0);
        ck_assert_int_eq(m.seen, 0);
        ck_assert_int_eq(atomic_load(&m.gone), counts[i]);
    }
}
END_TEST

static int wait_after_set(void *arg)
{
    struct meeting *m = arg;
    m->is_set = weft_event_is_set(&m->event);
    weft_event_set(&m->event);
    m->is_set = !m->is_set && weft_event_is_set(&m->event);
    m->rc = weft_event_wait(&m->event);
    weft_event_set(&m->event); /* twice is once */
    m->rc |= weft_event_wait(&m->event);
    weft_event_clear(&m->event);
    m->is_set = m->is_set && !weft_event_is_set(&m->event);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(5));
    return weft_scope_end(&s, weft_event_wait(&m->event));
}

START_TEST(it_stays_set_until_it_is_cleared)
{
    struct meeting m = { .rc = 1 };
    ck_assert_int_eq(weft_run(wait_after_set, &m, ON(workers[_i])), -ETIMEDOUT);
    ck_assert_int_eq(m.rc, 0);
    ck_assert(m.is_set);
}
END_TEST

/* Set and cleared at once: who waited was woken all the same. */
static int set_and_clear(void *arg)
{
    struct meeting *m = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < m->n; i++)
        weft_spawn(&s, wait_there, m);
    int64_t end = weft_after(LIMIT);
    while (atomic_load(&m->gone) < m->n && weft_now() < end) {
        weft_event_set(&m->event);
        weft_event_clear(&m->event);
        weft_ignore(weft_yield());
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_clear_right_after_the_set_forgets_nobody)
{
    struct meeting m = { .n = 100 };
    ck_assert_int_eq(weft_run(set_and_clear, &m, ON(workers[_i])), 0);
    ck_assert_int_eq(atomic_load(&m.gone), 100);
}
END_TEST

/* -- cancel, deadline -- */

static int leave_early(void *arg)
{
    struct meeting *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task first = weft_spawn(&s, wait_there, m);
    weft_spawn(&s, wait_there, m);
    wait_for(&m->here, 2);
    int rc = weft_task_cancel(first, NULL);
    if (rc == 0)
        rc = weft_task_join(first);
    m->seen = atomic_load(&m->gone);
    weft_event_set(&m->event);
    return weft_scope_end(&s, rc);
}

START_TEST(who_is_told_to_leave_leaves_and_the_others_wait_on)
{
    struct meeting m = { 0 };
    ck_assert_int_eq(weft_run(leave_early, &m, ON(workers[_i])), 0);
    ck_assert_int_eq(m.seen, 1);
    ck_assert_int_eq(atomic_load(&m.gone), 2);
}
END_TEST

static int told_before(void *arg)
{
    struct meeting *m = arg;
    weft_scope s;
    weft_event_set(&m->event);
    weft_scope_begin(&s, 0);
    m->rc = weft_event_wait(&m->event);
    return weft_scope_end(&s, m->rc);
}

START_TEST(who_was_told_to_leave_is_refused_at_a_set_event_too)
{
    struct meeting m = { 0 };
    ck_assert_int_eq(weft_run(told_before, &m, ON(1)), -ETIMEDOUT);
    ck_assert_int_eq(m.rc, -ECANCELED);
}
END_TEST

/* -- plain threads -- */

static void *thread_waits(void *arg)
{
    struct meeting *m = arg;
    atomic_fetch_add(&m->here, 1);
    if (weft_event_wait(&m->event) == 0)
        atomic_fetch_add(&m->gone, 1);
    return NULL;
}

static int set_for_threads(void *arg)
{
    struct meeting *m = arg;
    wait_for(&m->here, m->n);
    weft_event_set(&m->event);
    return 0;
}

START_TEST(a_task_wakes_plain_threads)
{
    struct meeting m = { .n = 3 };
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start(thread_waits, &m);
    ck_assert_int_eq(weft_run(set_for_threads, &m, ON(workers[_i])), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(atomic_load(&m.gone), 3);
}
END_TEST

static void *thread_sets(void *arg)
{
    struct meeting *m = arg;
    wait_for(&m->here, m->all);
    weft_event_set(&m->event);
    return NULL;
}

static int wait_for_thread(void *arg)
{
    struct meeting *m = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < m->n; i++)
        weft_spawn(&s, wait_there, m);
    return weft_scope_end(&s, 0);
}

START_TEST(a_plain_thread_wakes_tasks_of_two_runtimes)
{
    struct meeting m = { .n = 20, .all = 40 };
    pthread_t setter = thread_start(thread_sets, &m);
    weft_runtime *other = NULL;
    ck_assert_int_eq(weft_runtime_create(&other, ON(workers[_i])), 0);
    weft_scope s;
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = other });
    for (int i = 0; i < 20; i++)
        weft_spawn(&s, wait_there, &m);
    ck_assert_int_eq(weft_run(wait_for_thread, &m, ON(2)), 0);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    weft_runtime_destroy(&other);
    pthread_join(setter, NULL);
    ck_assert_int_eq(atomic_load(&m.gone), 40);
}
END_TEST

START_TEST(a_plain_thread_has_deadlines_too)
{
    struct meeting m = { 0 };
    weft_scope s;
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_event_wait(&m.event)), -ETIMEDOUT);
    weft_event_set(&m.event);
    ck_assert_int_eq(weft_event_wait(&m.event), 0);
}
END_TEST

/* -- whoever was served last may free it -- */

struct once {
    weft_event *event;
    atomic_int begun, served;
};

static int set_once(void *arg)
{
    struct once *o = arg;
    weft_event_set(o->event);
    return 0;
}

/* Each round has an event of its own memory, which is gone as soon as its one waiter is. */
static int free_at_once(void *arg)
{
    int rounds = *(int *)arg, rc = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < rounds && rc == 0; i++) {
        struct once o = { .event = calloc(1, sizeof *o.event) };
        if (!o.event)
            return weft_scope_end(&s, -ENOMEM);
        weft_spawn_copy(&s, set_once, &o, sizeof o);
        if (i % 3 == 0)
            rc = weft_yield();
        if (rc == 0)
            rc = weft_event_wait(o.event);
        memset(o.event, 0xff, sizeof *o.event);
        free(o.event);
    }
    return weft_scope_end(&s, rc);
}

START_TEST(the_one_who_waited_may_free_it_at_once)
{
    int rounds = SCALED(20000, 5000, 3000);
    ck_assert_int_eq(weft_run(free_at_once, &rounds, ON(workers[_i])), 0);
}
END_TEST

/* So may who has awaited all who waited, though the server has more slices to go through, of which nobody is left. */
static int set_that(void *arg)
{
    weft_event_set(*(weft_event **)arg);
    return 0;
}

static int wait_briefly(void *arg)
{
    struct once *o = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_us(atomic_fetch_add(&o->begun, 1) % 100));
    int rc = weft_event_wait(o->event);
    if (rc == 0)
        atomic_fetch_add(&o->served, 1);
    weft_ignore(weft_scope_end(&s, rc));
    return 0;
}

static int free_after_all(void *arg)
{
    int rounds = *(int *)arg, rc = 0;
    weft_scope outer;
    weft_scope_begin(&outer, WEFT_NEVER);
    for (int i = 0; i < rounds && rc == 0; i++) {
        struct once o = { .event = calloc(1, sizeof *o.event) };
        weft_scope s;
        if (!o.event)
            return weft_scope_end(&outer, -ENOMEM);
        weft_scope_begin(&s, WEFT_NEVER);
        for (int k = 0; k < 100; k++)
            weft_spawn(&s, wait_briefly, &o);
        weft_task setter = weft_spawn_copy(&outer, set_that, &o.event, sizeof o.event);
        rc = weft_scope_end(&s, 0);
        if (atomic_load(&o.served) == 0 && rc == 0) /* it may not even have begun */
            rc = weft_task_join(setter);
        memset(o.event, 0xff, sizeof *o.event);
        free(o.event);
    }
    return weft_scope_end(&outer, rc);
}

START_TEST(who_has_awaited_all_waiters_may_free_it)
{
    int rounds = SCALED(300, 100, 50);
    ck_assert_int_eq(weft_run(free_after_all, &rounds, ON(workers[_i])), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("event");
    TCase *tc = add_case(s, "event");
    tcase_add_loop_test(tc, a_set_wakes_all_who_wait, 0, COUNT(workers));
    tcase_add_loop_test(tc, it_stays_set_until_it_is_cleared, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_clear_right_after_the_set_forgets_nobody, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_is_told_to_leave_leaves_and_the_others_wait_on, 0, COUNT(workers));
    tcase_add_test(tc, who_was_told_to_leave_is_refused_at_a_set_event_too);
    tcase_add_loop_test(tc, a_task_wakes_plain_threads, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_plain_thread_wakes_tasks_of_two_runtimes, 0, COUNT(workers));
    tcase_add_test(tc, a_plain_thread_has_deadlines_too);
    tcase_add_loop_test(tc, the_one_who_waited_may_free_it_at_once, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_has_awaited_all_waiters_may_free_it, 0, COUNT(workers));
    return run_suite(s);
}
