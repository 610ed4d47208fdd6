/* tests/deadlock_test.c - engine/stall.c, engine/rest.c and report/deadlock.c: what is told when nothing can go on.
 *
 * By default it is told where weft knows all threads of the process, and ends nothing: a test's process then ends itself in
 * the report. */
#include "support.h"

/* What was reported; by the I/O thread, one at a time. */
struct told {
    atomic_int n;
    char what[32], name[64], text[8192];
    int code;
    weft_event *rescue; /* set by the report */
    weft_event own;
};

static void take_note(const weft_report *r, void *arg)
{
    struct told *t = arg;
    snprintf(t->what, sizeof t->what, "%s", r->what);
    snprintf(t->name, sizeof t->name, "%s", r->task_name);
    snprintf(t->text, sizeof t->text, "%s", r->text);
    t->code = r->code;
    atomic_fetch_add(&t->n, 1);
    if (t->rescue)
        weft_event_set(t->rescue);
}

static struct told told;

static weft_options noting_on(int workers, bool error)
{
    memset(&told, 0, sizeof told);
    return (weft_options){
        .workers = workers, .deadlock_is_error = error, .report = take_note, .report_arg = &told
    };
}

static const int workers[] = { 1, 2, 4 };

/* -- tasks that join each other in a circle -- */

struct circle {
    atomic_llong id[4];
    int size;
    weft_event *gate;
};

struct member {
    struct circle *c;
    int number;
};

static int join_the_next(void *arg)
{
    struct member *m = arg;
    atomic_store(&m->c->id[m->number], weft_task_self());
    while (atomic_load(&m->c->id[(m->number + 1) % m->c->size]) == 0)
        if (weft_yield() < 0)
            return -ECANCELED;
    return weft_task_join(atomic_load(&m->c->id[(m->number + 1) % m->c->size]));
}

static int join_in_a_circle(void *arg)
{
    struct circle *c = arg;
    weft_scope s;
    static const char *const names[] = { "anna", "berta", "clara", "dora" };
    struct member members[4];
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < c->size; i++) {
        members[i] = (struct member){ c, i };
        weft_spawn_with(&s, join_the_next, &members[i], &(weft_spawn_options){ .name = names[i] });
    }
    return weft_scope_end(&s, 0);
}

START_TEST(tasks_that_join_each_other_are_told_to_leave)
{
    struct circle c = { .size = 2 + _i / 3 };
    weft_options o = noting_on(workers[_i % 3], true);
    int before = threads_before();
    int rc = weft_run(join_in_a_circle, &c, &o);
    ck_assert_int_eq(atomic_load(&told.n), 1);
    ck_assert_str_eq(told.what, "deadlock");
    ck_assert_int_eq(told.code, -EDEADLK);
    ck_assert_ptr_nonnull(strstr(told.text, "\"main\""));
    ck_assert_ptr_nonnull(strstr(told.text, "\"anna\" waits for task"));
    ck_assert_ptr_nonnull(strstr(told.text, "\"berta\" waits for task"));
    ck_assert_ptr_nonnull(strstr(told.text, "for the end of task"));
    ck_assert_ptr_nonnull(strstr(told.text, c.size == 2 ? "circle of 2: " : "circle of 3: "));
    ck_assert_ptr_nonnull(strstr(told.text, "spawned at"));
    ck_assert_int_ne(told.name[0], 'm'); /* main is in no circle */
    ck_assert_int_eq(rc, -EDEADLK);
    ck_assert_int_eq(weft_task_list(NULL, 0), 0);
    ck_assert_int_eq(threads_back_to(before), before);
}
END_TEST

/* -- a scope's end and a child that joins its parent -- */

static int join_the_parent(void *arg)
{
    return weft_task_join(*(weft_task *)arg);
}

static int wait_for_a_child_that_waits(void *arg)
{
    weft_task me = weft_task_self();
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, join_the_parent, &me, &(weft_spawn_options){ .name = "child" });
    return weft_scope_end(&s, 0);
}

START_TEST(a_child_that_joins_its_parent_is_a_circle)
{
    weft_options o = noting_on(workers[_i], true);
    ck_assert_int_eq(weft_run(wait_for_a_child_that_waits, NULL, &o), -EDEADLK);
    ck_assert_int_eq(atomic_load(&told.n), 1);
    ck_assert_ptr_nonnull(strstr(told.text, "circle of 2: "));
}
END_TEST

/* -- two mutexes, locked in two orders -- */

struct table {
    weft_mutex forks[2];
    atomic_int taken;
};

struct diner {
    struct table *table;
    int first;
};

static int dine(void *arg)
{
    struct diner *d = arg;
    weft_mutex *one = &d->table->forks[d->first], *other = &d->table->forks[1 - d->first];
    int rc = weft_mutex_lock(one);
    if (rc < 0)
        return rc;
    atomic_fetch_add(&d->table->taken, 1);
    wait_for(&d->table->taken, 2);
    rc = weft_mutex_lock(other);
    if (rc == 0)
        weft_mutex_unlock(other);
    weft_mutex_unlock(one);
    return rc;
}

static int dine_together(void *arg)
{
    struct diner diners[2] = { { arg, 0 }, { arg, 1 } };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, dine, &diners[0], &(weft_spawn_options){ .name = "left" });
    weft_spawn_with(&s, dine, &diners[1], &(weft_spawn_options){ .name = "right" });
    return weft_scope_end(&s, 0);
}

START_TEST(mutexes_that_are_locked_in_two_orders_are_a_circle)
{
    struct table t = { 0 };
    weft_options o = noting_on(workers[_i], true);
    ck_assert_int_eq(weft_run(dine_together, &t, &o), -EDEADLK);
    ck_assert_int_eq(atomic_load(&told.n), 1);
    ck_assert_ptr_nonnull(strstr(told.text, "for mutex"));
    if (TSAN) /* it has a thread of its own, which might be freeing a mutex just now: none is looked into */
        return;
    ck_assert_ptr_nonnull(strstr(told.text, "circle of 2: "));
    ck_assert_ptr_nonnull(strstr(told.text, "\"left\" waits for task"));
}
END_TEST

/* -- an event that nobody sets -- */

static int wait_at(void *arg)
{
    return weft_event_wait(arg);
}

static int end_with_a_child_at(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, wait_at, arg, &(weft_spawn_options){ .name = "waiter" });
    return weft_scope_end(&s, 0);
}

START_TEST(an_event_that_nobody_sets_is_an_error_if_it_is_asked_for)
{
    weft_options o = noting_on(workers[_i], true);
    ck_assert_int_eq(weft_run(end_with_a_child_at, &told.own, &o), -EDEADLK);
    ck_assert_int_eq(atomic_load(&told.n), 1);
    ck_assert_ptr_nonnull(strstr(told.text, "2 tasks can never go on"));
    ck_assert_ptr_nonnull(strstr(told.text, "\"waiter\" waiting"));
    ck_assert_ptr_nonnull(strstr(told.text, "for event 0x"));
    ck_assert_ptr_null(strstr(told.text, "circle"));
}
END_TEST

START_TEST(by_default_it_is_told_once_and_ends_nothing)
{
    weft_options o = noting_on(workers[_i], false);
    told.rescue = &told.own;
    ck_assert_int_eq(weft_run(end_with_a_child_at, &told.own, &o), 0);
    ck_assert_int_eq(atomic_load(&told.n), 1);
    ck_assert_ptr_null(strstr(told.text, "outside"));
}
END_TEST

/* The report goes to standard error. */
static void wait_for_ever(void *arg)
{
    (void)arg;
    static weft_event never;
    weft_ignore(weft_run(end_with_a_child_at, &never, &(weft_options){ .workers = 2, .deadlock_is_error = true }));
}

START_TEST(without_a_report_function_all_of_it_is_written)
{
    struct death d = die(wait_for_ever, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_ptr_nonnull(strstr(d.text, "weft: deadlock: task "));
    ck_assert_ptr_nonnull(strstr(d.text, "\"waiter\" waiting"));
    ck_assert_ptr_nonnull(strstr(d.text, "(-35)\n"));
}
END_TEST

/* -- many -- */

static int wait_at_with_many(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 1999; i++)
        weft_spawn(&s, wait_at, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(of_many_some_are_listed)
{
    weft_options o = noting_on(2, true);
    ck_assert_int_eq(weft_run(wait_at_with_many, &told.own, &o), -EDEADLK);
    ck_assert_int_eq(atomic_load(&told.n), 1);
    ck_assert_ptr_nonnull(strstr(told.text, "2000 tasks can never"));
    ck_assert_ptr_nonnull(strstr(told.text, "and 1976 more"));
}
END_TEST

/* -- the main that comes after -- */

static int do_nothing(void *arg)
{
    (void)arg;
    return 0;
}

START_TEST(a_runtime_goes_on_after_one)
{
    weft_runtime *rt;
    weft_options o = noting_on(workers[_i], true);
    ck_assert_int_eq(weft_runtime_create(&rt, &o), 0);
    int rc[3] = { weft_runtime_run(rt, end_with_a_child_at, &told.own), weft_runtime_run(rt, do_nothing, NULL),
        weft_runtime_run(rt, end_with_a_child_at, &told.own) };
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(rc[0], -EDEADLK);
    ck_assert_int_eq(rc[1], 0);
    ck_assert_int_eq(rc[2], -EDEADLK);
    ck_assert_int_eq(atomic_load(&told.n), 2);
}
END_TEST

/* -- what may still come: nothing is told -- */

enum { HELD_MS = 60 }; /* an I/O thread would have told it after some 4 */

struct hand {
    weft_event e;
    int fds[2];
    int rc;
};

static int set_after_a_sleep(void *arg)
{
    struct hand *h = arg;
    int rc = weft_sleep(weft_ms(HELD_MS));
    weft_event_set(&h->e);
    return rc;
}

static int set_after_a_call(void *arg)
{
    usleep(HELD_MS * 1000);
    struct hand *h = arg;
    weft_event_set(&h->e);
    return 0;
}

static int call_the_pool(void *arg)
{
    return weft_blocking(set_after_a_call, arg);
}

static int set_after_a_read(void *arg)
{
    struct hand *h = arg;
    char byte;
    int rc = weft_read(h->fds[0], &byte, 1);
    weft_event_set(&h->e);
    return rc < 0 ? rc : 0;
}

static weft_fn *const hands[] = { set_after_a_sleep, call_the_pool, set_after_a_read };

struct beside {
    weft_fn *fn;
    struct hand *h;
};

static int wait_beside(void *arg)
{
    struct beside *b = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, b->fn, b->h);
    return weft_scope_end(&s, weft_event_wait(&b->h->e));
}

static void *write_later(void *arg)
{
    struct hand *h = arg;
    usleep(HELD_MS * 1000);
    if (sys_write(h->fds[1], "x", 1) != 1)
        abort();
    return NULL;
}

START_TEST(a_timer_a_call_and_a_descriptor_may_still_come)
{
    struct hand h = { .rc = 0 };
    struct beside b = { hands[_i % 3], &h };
    weft_options o = noting_on(workers[_i / 3], true);
    ck_assert_int_eq(pipe(h.fds), 0);
    pthread_t t = thread_start(write_later, &h);
    int rc = weft_run(wait_beside, &b, &o);
    pthread_join(t, NULL);
    close(h.fds[0]);
    close(h.fds[1]);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&told.n), 0);
}
END_TEST

static atomic_int call_began, call_ended;

static int sleep_in_the_pool(void *arg)
{
    (void)arg;
    atomic_store(&call_began, 1);
    usleep(HELD_MS * 1000);
    atomic_store(&call_ended, 1);
    return 0;
}

static void note_whether_it_ended(const weft_report *r, void *arg)
{
    atomic_store((atomic_int *)arg, 1 + (atomic_load(&call_began) && !atomic_load(&call_ended)));
    (void)r;
}

static int leave_a_call(void *arg)
{
    char copied = 'x'; /* what a call that ends in time writes back to */
    int rc = 0;
    for (int64_t end = weft_after(LIMIT); rc == 0 && weft_now() < end;) { /* again, if the deadline was that late */
        weft_scope s;
        atomic_store(&call_began, 0);
        atomic_store(&call_ended, 0);
        weft_scope_begin(&s, weft_ms(1));
        rc = weft_scope_end(&s, weft_blocking_copy(sleep_in_the_pool, &copied, 1, NULL));
    }
    return rc == -ETIMEDOUT ? weft_event_wait(arg) : -ETIME;
}

/* The last hand goes without a task that runs for it. */
START_TEST(the_end_of_an_abandoned_call_is_noticed)
{
    weft_options o = noting_on(workers[_i], true);
    atomic_int noted = 0; /* 2: it was told while the call ran */
    o.report = note_whether_it_ended;
    o.report_arg = &noted;
    ck_assert_int_eq(weft_run(leave_a_call, &told.own, &o), -EDEADLK);
    ck_assert_int_eq(atomic_load(&noted), 1); /* a call that was too late to begin was taken back, and is no hand */
}
END_TEST

/* -- plain threads -- */

static void *set_later(void *arg)
{
    usleep(HELD_MS * 1000);
    weft_event_set(arg);
    return NULL;
}

START_TEST(a_thread_that_nobody_knows_keeps_the_report_back)
{
    weft_options o = noting_on(workers[_i], false);
    pthread_t t = thread_start(set_later, &told.own);
    int rc = weft_run(end_with_a_child_at, &told.own, &o);
    pthread_join(t, NULL);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&told.n), 0);
}
END_TEST

START_TEST(a_thread_with_a_scope_is_known_until_it_waits)
{
    weft_runtime *rt;
    weft_scope s;
    weft_options o = noting_on(workers[_i], true);
    ck_assert_int_eq(weft_runtime_create(&rt, &o), 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    weft_spawn(&s, wait_at, &told.own);
    usleep(HELD_MS * 1000);
    int early = atomic_load(&told.n);
    int slept = weft_sleep(weft_ms(HELD_MS)); /* until a time of its own */
    int still_early = atomic_load(&told.n);
    int rc = weft_scope_end(&s, 0);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(slept, 0);
    ck_assert_int_eq(early + still_early, 0);
    ck_assert_int_eq(rc, 0); /* cancelled by its own reason */
    ck_assert_int_eq(atomic_load(&told.n), 1);
}
END_TEST

/* -- two runtimes -- */

struct two {
    weft_options o;
    weft_event *wait, *set;
    int rc, late_ms;
};

static int wait_or_set(void *arg)
{
    struct two *t = arg;
    int rc = t->late_ms > 0 ? weft_sleep(weft_ms(t->late_ms)) : 0;
    if (t->set)
        weft_event_set(t->set);
    return rc < 0 || !t->wait ? rc : weft_event_wait(t->wait);
}

static void *run_one(void *arg)
{
    struct two *t = arg;
    t->rc = weft_run(wait_or_set, t, &t->o);
    return NULL;
}

START_TEST(another_runtime_may_still_come)
{
    weft_event e = WEFT_SYNC_INIT;
    weft_options o = noting_on(workers[_i], false);
    struct two a = { .o = o, .wait = &e }, b = { .o = o, .set = &e, .late_ms = HELD_MS };
    pthread_t t[2] = { thread_start(run_one, &b), thread_start(run_one, &a) };
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    ck_assert_int_eq(a.rc, 0);
    ck_assert_int_eq(b.rc, 0);
    ck_assert_int_eq(atomic_load(&told.n), 0);
}
END_TEST

/* The second one's end is all that happens. */
START_TEST(one_is_told_of_when_the_other_has_come_to_rest)
{
    weft_event e = WEFT_SYNC_INIT;
    weft_options o = noting_on(workers[_i], true);
    struct two a = { .o = o, .wait = &e }, b = { .o = o, .late_ms = HELD_MS };
    pthread_t t[2] = { thread_start(run_one, &b), thread_start(run_one, &a) };
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    ck_assert_int_eq(a.rc, -EDEADLK);
    ck_assert_int_eq(b.rc, 0);
    ck_assert_int_eq(atomic_load(&told.n), 1);
}
END_TEST

/* -- no deadlock -- */

START_TEST(a_runtime_without_tasks_is_none)
{
    weft_runtime *rt;
    weft_options o = noting_on(2, true);
    ck_assert_int_eq(weft_runtime_create(&rt, &o), 0);
    usleep(HELD_MS * 1000);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(atomic_load(&told.n), 0);
}
END_TEST

static atomic_int obeys; /* its handler is there: the signal ends no process */

static int obey(void *arg)
{
    atomic_store(&obeys, 1);
    return weft_event_wait(arg);
}

static void *signal_later(void *arg)
{
    if (!wait_for(&obeys, 1))
        return arg;
    usleep(HELD_MS * 1000);
    raise(SIGTERM); /* on this thread: a sanitizer's own would keep it */
    return NULL;
}

START_TEST(who_obeys_signals_may_wait_for_one)
{
    weft_options o = noting_on(workers[_i], true);
    o.stop_on_signals = true;
    atomic_store(&obeys, 0);
    pthread_t t = thread_start(signal_later, NULL);
    int rc = weft_run(obey, &told.own, &o);
    pthread_join(t, NULL);
    ck_assert_int_eq(rc, -EINTR);
    ck_assert_int_eq(atomic_load(&told.n), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("deadlock");
    TCase *t = add_case(s, "told");
    tcase_add_loop_test(t, tasks_that_join_each_other_are_told_to_leave, 0, 6);
    tcase_add_loop_test(t, a_child_that_joins_its_parent_is_a_circle, 0, 3);
    tcase_add_loop_test(t, mutexes_that_are_locked_in_two_orders_are_a_circle, 0, 3);
    tcase_add_loop_test(t, an_event_that_nobody_sets_is_an_error_if_it_is_asked_for, 0, 3);
    if (forking()) { /* a process whose threads are weft's */
        if (!TSAN) /* it has a thread of its own */
            tcase_add_loop_test(t, by_default_it_is_told_once_and_ends_nothing, 0, 3);
        tcase_add_test(t, without_a_report_function_all_of_it_is_written);
        tcase_add_loop_test(t, who_obeys_signals_may_wait_for_one, 0, 3);
    }
    tcase_add_test(t, of_many_some_are_listed);
    tcase_add_loop_test(t, a_runtime_goes_on_after_one, 0, 3);
    t = add_case(s, "not told");
    tcase_add_loop_test(t, a_timer_a_call_and_a_descriptor_may_still_come, 0, 9);
    tcase_add_loop_test(t, the_end_of_an_abandoned_call_is_noticed, 0, 3);
    tcase_add_loop_test(t, a_thread_that_nobody_knows_keeps_the_report_back, 0, 3);
    tcase_add_loop_test(t, a_thread_with_a_scope_is_known_until_it_waits, 0, 3);
    tcase_add_loop_test(t, another_runtime_may_still_come, 0, 3);
    tcase_add_loop_test(t, one_is_told_of_when_the_other_has_come_to_rest, 0, 3);
    tcase_add_test(t, a_runtime_without_tasks_is_none);
    return run_suite(s);
}
