/* run_test.c - starting, running and ending runtimes: engine/runtime.c seen from outside. */
#include "support.h"

static const int worker_counts[] = { 1, 2, 3, 8, 64 };

static int give(void *arg)
{
    return *(const int *)arg;
}

static int count_workers(void *arg)
{
    *(int *)arg = weft_stats(NULL, NULL, 0);
    return 0;
}

/* -- results -- */

static const int results[] = { 0, 1, 7, 0x7fffffff, -EIO, -ECANCELED, -ETIMEDOUT, -4095 };

START_TEST(run_returns_what_its_function_returned)
{
    int result = results[_i];
    ck_assert_int_eq(weft_run(give, &result, ON(2)), result);
}
END_TEST

struct first_task {
    weft_task self;
    int check, yield, sleep;
    int64_t deadline;
    bool reason;
};

static int look_around(void *arg)
{
    struct first_task *f = arg;
    f->self = weft_task_self();
    f->check = weft_check();
    f->yield = weft_yield();
    f->sleep = weft_sleep(1);
    f->deadline = weft_deadline();
    f->reason = weft_cancel_reason() != NULL;
    return 0;
}

START_TEST(the_first_task_has_an_id_and_no_deadline_and_no_cancel)
{
    struct first_task f = { .check = 1, .yield = 1, .sleep = 1 };
    ck_assert_int_eq(weft_run(look_around, &f, NULL), 0);
    ck_assert_int_gt(f.self, 0);
    ck_assert_int_eq(f.check, 0);
    ck_assert_int_eq(f.yield, 0);
    ck_assert_int_eq(f.sleep, 0);
    ck_assert_int_eq(f.deadline, WEFT_NEVER);
    ck_assert(!f.reason);
    ck_assert_int_eq(weft_task_self(), 0);
}
END_TEST

/* -- workers -- */

static int add_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return 0;
}

static int add_one_later(void *arg)
{
    int rc = weft_yield();
    if (rc == 0)
        rc = weft_sleep(weft_us(100));
    atomic_fetch_add((atomic_int *)arg, 1);
    return rc;
}

struct crowd {
    int n, workers;
    atomic_int ran;
};

static int crowd(void *arg)
{
    struct crowd *c = arg;
    c->workers = weft_stats(NULL, NULL, 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < c->n; i++)
        weft_spawn(&s, i % 2 ? add_one : add_one_later, &c->ran);
    return weft_scope_end(&s, 0);
}

START_TEST(any_number_of_workers_runs_every_task_once)
{
    struct crowd c = { .n = 1000 };
    ck_assert_int_eq(weft_run(crowd, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.workers, worker_counts[_i]);
    ck_assert_int_eq(atomic_load(&c.ran), c.n);
}
END_TEST

START_TEST(the_environment_sets_the_number_of_workers)
{
    int n = 0;
    setenv("WEFT_WORKERS", "3", 1);
    int rc = weft_run(count_workers, &n, NULL);
    int with_option = 0;
    int rc2 = weft_run(count_workers, &with_option, ON(2));
    unsetenv("WEFT_WORKERS");
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(n, 3);
    ck_assert_int_eq(rc2, 0);
    ck_assert_int_eq(with_option, 2);
}
END_TEST

static const char *const odd_numbers[] = { "", "0", "-3", "many", "3 of them",
    "99999999999999999999" };

START_TEST(a_senseless_number_in_the_environment_does_no_harm)
{
    int n = 0;
    setenv("WEFT_WORKERS", odd_numbers[_i], 1);
    int rc = weft_run(count_workers, &n, NULL);
    unsetenv("WEFT_WORKERS");
    ck_assert(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        ck_assert_int_ge(n, 1);
        ck_assert_int_le(n, 1024);
    }
}
END_TEST

START_TEST(the_affinity_mask_bounds_the_number_of_workers)
{
    cpu_set_t before, one;
    int n = 0;
    unsetenv("WEFT_WORKERS");
    ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    int rc = weft_run(count_workers, &n, NULL);
    sched_setaffinity(0, sizeof before, &before);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(n, 1);
}
END_TEST

/* -- options -- */

struct bad_option {
    const char *why;
    weft_options o;
};

static const struct bad_option bad_options[] = {
    { "a negative number of workers", { .workers = -1 } },
    { "too many workers", { .workers = 1025 } },
    { "far too many workers", { .workers = 0x7fffffff } },
    { "a stack over 8 MiB", { .stack_bytes = (8u << 20) + 1 } },
    { "an endless stack", { .stack_bytes = SIZE_MAX } },
    { "reserved 0", { .reserved = { 1 } } },
    { "reserved 3", { .reserved = { 0, 0, 0, 5 } } },
    { "the last of reserved", { .reserved = { [sizeof ((weft_options *)0)->reserved / 8 - 1] = UINT64_C(1) << 63 } } },
};

START_TEST(bad_options_are_refused_and_nothing_is_run)
{
    const struct bad_option *bad = &bad_options[_i];
    atomic_int ran = 0;
    int before = threads_before();
    ck_assert_msg(weft_run(add_one, &ran, &bad->o) == -EINVAL, "%s", bad->why);
    ck_assert_int_eq(atomic_load(&ran), 0);
    weft_runtime *const untouched = (weft_runtime *)(void *)&ran;
    weft_runtime *rt = untouched;
    ck_assert_msg(weft_runtime_create(&rt, &bad->o) == -EINVAL, "%s", bad->why);
    ck_assert_ptr_eq(rt, untouched);
    ck_assert_int_eq(threads_now(), before);
}
END_TEST

START_TEST(null_functions_and_runtimes_are_refused)
{
    weft_runtime *rt = NULL;
    int zero = 0;
    ck_assert_int_eq(weft_run(NULL, NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_runtime_create(NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_runtime_run(NULL, give, &zero), -EINVAL);
    ck_assert_int_eq(weft_runtime_create(&rt, ON(1)), 0);
    int rc = weft_runtime_run(rt, NULL, NULL);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(rc, -EINVAL);
    weft_runtime_destroy(NULL);
    weft_runtime_destroy(&rt);
    ck_assert_ptr_null(rt);
}
END_TEST

#define BIG (512 * 1024)

static int touch_big_stack(void *arg)
{
    volatile char big[BIG];
    for (size_t i = 0; i < sizeof big; i += 512)
        big[i] = (char)(i >> 9);
    int sum = 0;
    for (size_t i = 0; i < sizeof big; i += 512)
        sum += big[i];
    *(volatile int *)arg = sum;
    return 0;
}

static int touch_in_child(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, touch_big_stack, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(the_stack_option_holds_for_the_first_task_and_its_children)
{
    int sum = 0;
    const weft_options o = { .workers = 1, .stack_bytes = BIG + 64 * 1024 };
    ck_assert_int_eq(weft_run(touch_big_stack, &sum, &o), 0);
    ck_assert_int_eq(weft_run(touch_in_child, &sum, &o), 0);
}
END_TEST

/* -- what is left -- */

static int block_a_little(void *arg)
{
    (void)arg;
    return 3;
}

static int everything(void *arg)
{
    int fds[2];
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    rc = weft_write_all(fds[0], "x", 1);
    char c;
    if (rc == 0 && weft_read(fds[1], &c, 1) != 1)
        rc = -EPROTO;
    char where[32];
    int l = listen_local(where);
    int fd = l < 0 ? l : weft_connect(where, NULL);
    int got = fd < 0 ? fd : weft_accept(l);
    if (got < 0)
        rc = got;
    weft_close_auto(&l);
    weft_close_auto(&fd);
    weft_close_auto(&got);
    weft_close(fds[0]);
    weft_close(fds[1]);
    if (rc == 0 && weft_blocking(block_a_little, NULL) != 3)
        rc = -EPROTO;
    if (rc == 0)
        rc = crowd(arg);
    return rc;
}

START_TEST(a_run_leaves_no_thread_and_no_descriptor)
{
    struct crowd c = { .n = 100 };
    int threads = threads_before(), descriptors = descriptors_now();
    ck_assert_int_eq(weft_run(everything, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&c.ran), c.n);
    ck_assert_int_eq(threads_back_to(threads), threads);
    ck_assert_int_eq(descriptors_now(), descriptors);
}
END_TEST

/* What a run leaves would be there after each. What it is by chance the first to need stays, too, such as an arena for
 * one more thread that allocates at the same time: that comes to its end. */
START_TEST(runs_in_turn_do_not_add_mappings)
{
    struct crowd c = { .n = 10 };
    int64_t end = weft_after(LIMIT);
    int runs = 20, more, descriptors = -1;
    if (fake_stacks())
        return;
    do {
        int mappings = mappings_now();
        for (int i = 0; i < runs; i++)
            ck_assert_int_eq(weft_run(everything, &c, ON(3)), 0);
        if (descriptors < 0)
            descriptors = descriptors_now();
        more = runs < 100 ? INT32_MAX : mappings_now() - mappings;
        runs = 100;
    } while (more > 16 && weft_now() < end);
    ck_assert_int_le(more, 16);
    ck_assert_int_eq(descriptors_now(), descriptors);
}
END_TEST

static int arm_far_timers(void *arg)
{
    (void)arg;
    int rc = weft_sleep_until(WEFT_NEVER);
    return rc == -ECANCELED ? 0 : -EPROTO;
}

static int leave_far_timers(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, weft_sec(3600));
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, arm_far_timers, NULL);
    weft_ignore(weft_yield());
    weft_scope_cancel(&s, "enough");
    *(int *)arg = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(far_timers_do_not_hold_up_the_end)
{
    int rc = 1;
    int64_t start = weft_now();
    ck_assert_int_eq(weft_run(leave_far_timers, &rc, ON(2)), 0);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_lt(weft_now() - start, LIMIT);
}
END_TEST

/* -- manners -- */

struct manners {
    struct sigaction all[NSIG];
};

static int look_at_signals(void *arg)
{
    struct manners *m = arg;
    for (int i = 1; i < NSIG; i++)
        if (sigaction(i, NULL, &m->all[i]) < 0) /* the C library's own */
            m->all[i] = (struct sigaction){ .sa_flags = 0 };
    return 0;
}

static int return_3(void *arg)
{
    (void)arg;
    return 3;
}

/* When all that has threads, or processes, of its own was used. */
static int use_all_and_look(void *arg)
{
    int fds[2];
    char byte, *data = NULL;
    weft_output out;
    EXPECT(weft_sleep(weft_us(100)) == 0);
    EXPECT(weft_pair(fds) == 0 && weft_write(fds[0], "x", 1) == 1 && weft_read(fds[1], &byte, 1) == 1);
    weft_close(fds[1]);
    EXPECT(weft_write(fds[0], "x", 1) == -EPIPE);
    weft_close(fds[0]);
    EXPECT(weft_blocking(return_3, NULL) == 3);
    EXPECT(weft_fs_load("/proc/self/stat", &data, NULL) == 0);
    weft_free(data);
    EXPECT(weft_process_run(&out, (const char *const[]){ "true", NULL }, NULL, 0, 0, NULL) == 0 && out.status == 0);
    weft_output_free(&out);
    return look_at_signals(arg);
}

static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
    int restorer = 0x04000000; /* glibc's own, in whatever was set once */
    return a->sa_handler == b->sa_handler && (a->sa_flags | restorer) == (b->sa_flags | restorer);
}

/* E-35: the first signal that has another action, but for two; 0: none has. */
static int changed(const struct manners *a, const struct manners *b, int but, int and_but)
{
    for (int i = 1; i < NSIG; i++)
        if (i != but && i != and_but && !same_action(&a->all[i], &b->all[i]))
            return i;
    return 0;
}

START_TEST(without_a_crash_report_no_signal_is_touched)
{
    struct manners before, during, after;
    sigset_t mask_before, mask_after;
    look_at_signals(&before);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    const weft_options o = { .workers = 2, .no_crash_report = true };
    AS_EXPECTED(weft_run(use_all_and_look, &during, &o));
    look_at_signals(&after);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    ck_assert_int_eq(changed(&before, &during, 0, 0), 0);
    ck_assert_int_eq(changed(&before, &after, 0, 0), 0);
    for (int i = 1; i < NSIG; i++)
        ck_assert_int_eq(sigismember(&mask_before, i), sigismember(&mask_after, i));
}
END_TEST

START_TEST(after_a_run_the_signals_are_as_before)
{
    struct manners before, during, after;
    look_at_signals(&before);
    AS_EXPECTED(weft_run(use_all_and_look, &during, ON(2)));
    look_at_signals(&after);
    ck_assert_int_eq(changed(&before, &during, SIGSEGV, SIGBUS), 0);
    ck_assert_int_eq(changed(&before, &after, 0, 0), 0);
}
END_TEST

/* Those that were asked for are taken, and no others; and they are given back. */
START_TEST(signals_that_are_asked_for_are_taken_and_no_others)
{
    static const int asked[] = { SIGINT, SIGTERM, SIGQUIT };
    struct manners before, during, after;
    look_at_signals(&before);
    const weft_options o = { .workers = 2, .no_crash_report = true, .stop_on_signals = _i == 0, .dump_on_quit = _i == 1 };
    AS_EXPECTED(weft_run(use_all_and_look, &during, &o));
    look_at_signals(&after);
    for (int i = 0; i < COUNT(asked); i++) {
        bool ours = (asked[i] == SIGQUIT) == (_i == 1);
        ck_assert_int_eq(same_action(&before.all[asked[i]], &during.all[asked[i]]), !ours);
        during.all[asked[i]] = before.all[asked[i]];
    }
    ck_assert_int_eq(changed(&before, &during, 0, 0), 0);
    ck_assert_int_eq(changed(&before, &after, 0, 0), 0);
}
END_TEST

/* -- within a task -- */

struct nested {
    weft_runtime *rt;
    int run, runtime_run;
    atomic_int ran;
};

static int run_in_task(void *arg)
{
    struct nested *n = arg;
    n->run = weft_run(add_one, &n->ran, NULL);
    n->runtime_run = weft_runtime_run(n->rt, add_one, &n->ran);
    return weft_sleep(1);
}

START_TEST(run_within_a_task_is_refused)
{
    struct nested n = { 0 };
    ck_assert_int_eq(weft_runtime_create(&n.rt, ON(2)), 0);
    int same = weft_runtime_run(n.rt, run_in_task, &n);
    int run1 = n.run, runtime_run1 = n.runtime_run;
    int other = weft_run(run_in_task, &n, ON(1));
    weft_runtime_destroy(&n.rt);
    ck_assert_int_eq(same, 0);
    ck_assert_int_eq(run1, -EDEADLK);
    ck_assert_int_eq(runtime_run1, -EDEADLK);
    ck_assert_int_eq(other, 0);
    ck_assert_int_eq(n.run, -EDEADLK);
    ck_assert_int_eq(n.runtime_run, -EDEADLK);
    ck_assert_int_eq(atomic_load(&n.ran), 0);
}
END_TEST

static int destroy_in_task(void *arg)
{
    weft_runtime_destroy(arg);
    return 0;
}

static void destroy_within(void *arg)
{
    (void)arg;
    weft_runtime *rt = NULL;
    if (weft_runtime_create(&rt, ON(1)) == 0)
        weft_ignore(weft_runtime_run(rt, destroy_in_task, &rt));
}

START_TEST(destroying_a_runtime_within_its_own_task_aborts)
{
    struct death d = die(destroy_within, NULL);
    ck_assert_msg(d.signal == SIGABRT, "signal %d, status %d: %s", d.signal, d.status, d.text);
    ck_assert_msg(strstr(d.text, "weft") != NULL, "%s", d.text);
}
END_TEST

/* -- runtime objects -- */

START_TEST(one_runtime_runs_several_mains_in_turn)
{
    weft_runtime *rt = NULL;
    struct crowd c = { .n = 50 };
    int threads = threads_before(), descriptors = descriptors_now();
    ck_assert_int_eq(weft_runtime_create(&rt, ON(worker_counts[_i])), 0);
    int wrong = 0;
    for (int i = 0; i < 50; i++) {
        wrong += weft_runtime_run(rt, give, &i) != i;
        wrong += weft_runtime_run(rt, crowd, &c) != 0;
    }
    weft_runtime_destroy(&rt);
    ck_assert_ptr_null(rt);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(atomic_load(&c.ran), 50 * 50);
    ck_assert_int_eq(threads_back_to(threads), threads);
    ck_assert_int_eq(descriptors_now(), descriptors);
}
END_TEST

struct caller {
    weft_runtime *rt;
    struct crowd crowd;
    int wrong;
};

static void *call_many_times(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < 100; i++) {
        c->wrong += weft_runtime_run(c->rt, give, &i) != i;
        c->wrong += weft_runtime_run(c->rt, crowd, &c->crowd) != 0;
    }
    return NULL;
}

START_TEST(several_threads_run_mains_at_once)
{
    weft_runtime *rt = NULL;
    struct caller callers[6];
    pthread_t threads[6];
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    for (int i = 0; i < COUNT(callers); i++) {
        callers[i] = (struct caller){ .rt = rt, .crowd = { .n = 5 } };
        threads[i] = thread_start(call_many_times, &callers[i]);
    }
    for (int i = 0; i < COUNT(callers); i++)
        pthread_join(threads[i], NULL);
    weft_runtime_destroy(&rt);
    for (int i = 0; i < COUNT(callers); i++) {
        ck_assert_int_eq(callers[i].wrong, 0);
        ck_assert_int_eq(atomic_load(&callers[i].crowd.ran), 500);
    }
}
END_TEST

static void *run_many_runtimes(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < 20; i++)
        c->wrong += weft_run(everything, &c->crowd, ON(2)) != 0;
    return NULL;
}

START_TEST(several_threads_run_runtimes_of_their_own_at_once)
{
    struct caller callers[4];
    pthread_t threads[4];
    int before = threads_before(), descriptors = descriptors_now();
    for (int i = 0; i < COUNT(callers); i++) {
        callers[i] = (struct caller){ .crowd = { .n = 5 } };
        threads[i] = thread_start(run_many_runtimes, &callers[i]);
    }
    for (int i = 0; i < COUNT(callers); i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < COUNT(callers); i++) {
        ck_assert_int_eq(callers[i].wrong, 0);
        ck_assert_int_eq(atomic_load(&callers[i].crowd.ran), 100);
    }
    ck_assert_int_eq(threads_back_to(before), before);
    ck_assert_int_eq(descriptors_now(), descriptors);
}
END_TEST

/* Two mains that can only end together, each in a runtime of its own, so both have to be running.
 */
struct side {
    weft_runtime *rt;
    atomic_int *mine, *other;
    bool met;
    int rc, workers;
    weft_task self;
};

static int meet(void *arg)
{
    struct side *s = arg;
    s->self = weft_task_self();
    s->workers = weft_stats(NULL, NULL, 0);
    atomic_store(s->mine, 1);
    s->met = wait_for(s->other, 1);
    return 0;
}

static void *run_side(void *arg)
{
    struct side *s = arg;
    s->rc = weft_runtime_run(s->rt, meet, s);
    return NULL;
}

START_TEST(two_runtimes_run_side_by_side)
{
    atomic_int a = 0, b = 0;
    struct side x = { .mine = &a, .other = &b }, y = { .mine = &b, .other = &a };
    ck_assert_int_eq(weft_runtime_create(&x.rt, ON(1)), 0);
    ck_assert_int_eq(weft_runtime_create(&y.rt, ON(3)), 0);
    pthread_t t = thread_start(run_side, &x);
    run_side(&y);
    pthread_join(t, NULL);
    weft_runtime_destroy(&x.rt);
    int alone = 5, rc = weft_runtime_run(y.rt, give, &alone);
    weft_runtime_destroy(&y.rt);
    ck_assert_int_eq(x.rc, 0);
    ck_assert_int_eq(y.rc, 0);
    ck_assert(x.met && y.met);
    ck_assert_int_eq(x.workers, 1);
    ck_assert_int_eq(y.workers, 3);
    ck_assert_int_ne(x.self, y.self);
    ck_assert_int_eq(rc, 5);
}
END_TEST

/* -- destroying what still runs -- */

struct long_main {
    weft_runtime *rt;
    atomic_int inside, children_left;
    int sleep, end, result;
    char reason[40];
};

static int sleep_for_ever(void *arg)
{
    struct long_main *m = arg;
    int rc = weft_sleep_until(WEFT_NEVER);
    atomic_fetch_add(&m->children_left, 1);
    return rc;
}

static int long_main(void *arg)
{
    struct long_main *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, sleep_for_ever, m);
    atomic_store(&m->inside, 1);
    m->sleep = weft_sleep_until(WEFT_NEVER);
    const char *reason = weft_cancel_reason();
    snprintf(m->reason, sizeof m->reason, "%s", reason ? reason : "(none)");
    m->end = weft_scope_end(&s, m->sleep);
    return m->end;
}

static void *run_long_main(void *arg)
{
    struct long_main *m = arg;
    m->result = weft_runtime_run(m->rt, long_main, m);
    return NULL;
}

START_TEST(destroy_cancels_what_still_runs_and_awaits_it)
{
    struct long_main m = { 0 };
    int threads = threads_before(), descriptors = descriptors_now();
    ck_assert_int_eq(weft_runtime_create(&m.rt, ON(2)), 0);
    weft_runtime *rt = m.rt;
    pthread_t t = thread_start(run_long_main, &m);
    bool inside = wait_for(&m.inside, 1);
    weft_runtime_destroy(&rt);
    int left = atomic_load(&m.children_left);
    pthread_join(t, NULL);
    ck_assert(inside);
    ck_assert_ptr_null(rt);
    ck_assert_int_eq(left, 10);
    ck_assert_int_eq(m.sleep, -ECANCELED);
    ck_assert_int_eq(m.end, -ECANCELED);
    ck_assert_int_eq(m.result, -ECANCELED);
    ck_assert_str_ne(m.reason, "(none)");
    ck_assert_int_eq(threads_back_to(threads), threads);
    ck_assert_int_eq(descriptors_now(), descriptors);
}
END_TEST

/* -- the order of an end -- */

enum step { MAIN_ENDED, TOLD, CLEANED_UP, FAILURE_REPORTED, GENERATOR_CLOSED, CALL_ENDED, RUNTIME_ENDED, STEPS };

/* What happened when: each step has the number of those before it, + 1. */
struct ending {
    weft_runtime *rt;
    atomic_int steps, at[STEPS], again;
    atomic_int asleep, called;
    char reason[40];
    int main_rc, thread_rc, body_rc;
};

static void happened(struct ending *e, enum step what)
{
    int none = 0, now = atomic_fetch_add(&e->steps, 1) + 1;
    if (!atomic_compare_exchange_strong(&e->at[what], &none, now))
        atomic_fetch_add(&e->again, 1);
}

static void hear_of_a_failure(const weft_report *r, void *arg)
{
    if (strcmp(r->what, "failure") == 0 && r->code == -EDOM)
        happened(arg, FAILURE_REPORTED);
}

/* Told to leave it takes its time, and then fails. */
static int clean_up_and_fail(void *arg)
{
    struct ending *e = arg;
    weft_scope s;
    atomic_fetch_add(&e->asleep, 1);
    weft_ignore(weft_sleep_until(WEFT_NEVER));
    happened(e, TOLD);
    weft_scope_begin_shield(&s, WEFT_NEVER);
    int rc = weft_sleep(weft_ms(5));
    if (weft_scope_end(&s, rc) == 0)
        happened(e, CLEANED_UP);
    return weft_fail(-EDOM, "cleaning up went wrong");
}

static int hand_out_one(weft_gen *g, void *arg)
{
    int one = 1;
    while (weft_gen_yield(g, &one, sizeof one) == 0)
        continue;
    happened(arg, GENERATOR_CLOSED);
    return 0;
}

/* Its scope is left by a return: what is in it is nobody's to hear of. */
static int leave_all_behind(void *arg)
{
    struct ending *e = arg;
    int item;
    weft_gen *g;
    WEFT_SCOPE(s, WEFT_NEVER);
    weft_spawn(&s, clean_up_and_fail, e);
    EXPECT(weft_gen_create(&g, hand_out_one, e, sizeof item, NULL) == 0);
    EXPECT(weft_gen_next(g, &item, sizeof item) == 1);
    atomic_fetch_add(&e->asleep, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    const char *reason = weft_cancel_reason();
    snprintf(e->reason, sizeof e->reason, "%s", reason ? reason : "");
    return rc;
}

static void *hold_one_that_stays(void *arg)
{
    struct ending *e = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = e->rt });
    weft_spawn_with(&s, leave_all_behind, e, &(weft_spawn_options){ .result = &e->body_rc });
    e->thread_rc = weft_scope_end(&s, 0);
    return NULL;
}

/* In the pool, until all else is over. */
static int outlast_the_rest(void *arg)
{
    struct ending *e = *(struct ending **)arg;
    atomic_store(&e->called, 1);
    if (wait_for(&e->at[GENERATOR_CLOSED], 1)) {
        usleep(5000);
        happened(e, CALL_ENDED);
    }
    return 0;
}

static int call_and_be_cancelled(void *arg)
{
    return weft_blocking_copy(outlast_the_rest, &arg, sizeof arg, NULL);
}

static int leave_a_call_behind(void *arg)
{
    struct ending *e = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, call_and_be_cancelled, e);
    bool there = wait_for(&e->called, 1) && wait_for(&e->asleep, 2);
    weft_scope_cancel(&s, NULL);
    int rc = weft_scope_end(&s, there ? 0 : -ETIME);
    happened(e, MAIN_ENDED);
    return rc;
}

/* */
START_TEST(a_runtime_ends_in_order)
{
    struct ending e = { .rt = NULL };
    const weft_options o = { .workers = worker_counts[_i], .report = hear_of_a_failure, .report_arg = &e };
    int threads = threads_before(), descriptors = descriptors_now();
    ck_assert_int_eq(weft_runtime_create(&e.rt, &o), 0);
    weft_runtime *rt = e.rt;
    pthread_t t = thread_start(hold_one_that_stays, &e);
    e.main_rc = weft_runtime_run(rt, leave_a_call_behind, &e);
    weft_runtime_destroy(&rt);
    happened(&e, RUNTIME_ENDED);
    pthread_join(t, NULL);
    AS_EXPECTED(e.main_rc);
    ck_assert_int_eq(e.thread_rc, 0);
    ck_assert_int_eq(e.body_rc, -ECANCELED);
    ck_assert_str_eq(e.reason, "the runtime ends");
    for (int i = 0; i < STEPS; i++)
        ck_assert_msg(atomic_load(&e.at[i]) == i + 1, "step %d came as number %d", i, atomic_load(&e.at[i]));
    ck_assert_int_eq(atomic_load(&e.again), 0);
    ck_assert_int_eq(threads_back_to(threads), threads);
    ck_assert_int_eq(descriptors_now(), descriptors);
}
END_TEST

/* -- an idle runtime -- */

/* The context switches and the processor time of all threads that are not in `but`. */
struct activity {
    long switches;
    long ticks; /* of the processor, as /proc counts them */
};

static struct activity activity_of_others(const struct id_set *but)
{
    struct activity a = { 0 };
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) {
        int id = atoi(e->d_name);
        bool skip = id <= 0;
        for (int i = 0; i < atomic_load(&but->n); i++)
            skip = skip || but->ids[i] == id;
        if (skip)
            continue;
        char path[64], line[512];
        snprintf(path, sizeof path, "/proc/self/task/%d/status", id);
        FILE *f = fopen(path, "r");
        long n;
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
                a.switches += n;
        if (f)
            fclose(f);
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
        f = fopen(path, "r");
        long user, system;
        if (f && fgets(line, sizeof line, f)) {
            const char *after = strrchr(line, ')');
            if (after && sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld",
                                 &user, &system) == 2)
                a.ticks += user + system;
        }
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return a;
}

enum idle_after { NOTHING, BURST, IDLE_CONNECTIONS, FOREIGN_SUBMIT, FAR_TIMER, IDLE_KINDS };

struct idle {
    weft_runtime *rt;
    enum idle_after after;
    struct crowd crowd;
    atomic_int ready, waiting;
    weft_scope *scope;
    int rc;
};

static int wait_for_byte(void *arg)
{
    struct idle *idle = arg;
    int fds[2];
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    char c;
    atomic_fetch_add(&idle->waiting, 1);
    rc = weft_read(fds[0], &c, 1);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return rc;
}

static int idle_main(void *arg)
{
    struct idle *idle = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    idle->scope = &s;
    if (idle->after == IDLE_CONNECTIONS)
        for (int i = 0; i < 500; i++)
            weft_spawn(&s, wait_for_byte, idle);
    if (idle->after == BURST)
        weft_ignore(crowd(&idle->crowd));
    if (idle->after == FAR_TIMER) {
        weft_scope far;
        weft_scope_begin(&far, weft_sec(3600));
        for (int i = 0; i < 10; i++)
            weft_spawn(&far, arm_far_timers, NULL);
        weft_ignore(weft_sleep(weft_ms(1)));
        weft_scope_cancel(&far, NULL);
        weft_ignore(weft_scope_end(&far, 0));
    }
    if (idle->after == IDLE_CONNECTIONS)
        wait_for(&idle->waiting, 500);
    atomic_store(&idle->ready, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    return weft_scope_end(&s, rc);
}

static void *run_idle_main(void *arg)
{
    struct idle *idle = arg;
    idle->rc = weft_runtime_run(idle->rt, idle_main, idle);
    return NULL;
}

START_TEST(an_idle_runtime_neither_runs_nor_switches)
{
    struct id_set known = ID_SET_INIT;
    struct idle idle = { .after = (enum idle_after)_i, .crowd = { .n = 10000 } };
    bool long_test = getenv("WEFT_TEST_LONG") != NULL;
    threads_before();
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; (e = readdir(d));)
        if (atoi(e->d_name) > 0)
            id_set_add(&known, atoi(e->d_name));
    closedir(d);

    ck_assert_int_eq(weft_runtime_create(&idle.rt, ON(3)), 0);
    pthread_t t = thread_start(run_idle_main, &idle);
    bool ready = wait_for(&idle.ready, 1);
    if (idle.after == FOREIGN_SUBMIT)
        for (int i = 0; i < 100; i++)
            weft_ignore(weft_runtime_run(idle.rt, give, &i));

    /* It settles, then stays so. What settles is given LIMIT; what then moves is a fault. */
    struct activity one, two;
    int64_t end = weft_after(LIMIT), quiet = weft_ms(long_test ? 10000 : fewer(300, 1000));
    bool still = false;
    do {
        one = activity_of_others(&known);
        usleep((useconds_t)(quiet / 1000));
        two = activity_of_others(&known);
        still = one.switches == two.switches && one.ticks == two.ticks;
    } while (!still && weft_now() < end);

    weft_scope_cancel(idle.scope, "over");
    pthread_join(t, NULL);
    weft_runtime_destroy(&idle.rt);
    ck_assert(ready);
    ck_assert_msg(still, "%ld switches and %ld ticks in the last %lld ms",
            two.switches - one.switches, two.ticks - one.ticks, (long long)(quiet / 1000000));
    ck_assert_int_eq(idle.rc, 0);
}
END_TEST

/* -- the rest of the header -- */

START_TEST(the_version_and_the_sizes_of_public_types_are_told)
{
    char version[32]; /* weft_version() is the version of the build, these are the header's */
    snprintf(version, sizeof version, "%d.%d.%d", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR, WEFT_VERSION_PATCH);
    ck_assert_str_eq(weft_version(), version);
    ck_assert_int_gt(WEFT_VERSION_NUM, 0);
    ck_assert_uint_eq(weft_sizeof("weft_scope"), sizeof(weft_scope));
    ck_assert_uint_eq(weft_sizeof("weft_options"), sizeof(weft_options));
    ck_assert_uint_eq(weft_sizeof("weft_report"), sizeof(weft_report));
    ck_assert_uint_eq(weft_sizeof("weft_failure"), sizeof(weft_failure));
    ck_assert_uint_eq(weft_sizeof("weft_scope_options"), sizeof(weft_scope_options));
    ck_assert_uint_eq(weft_sizeof("weft_spawn_options"), sizeof(weft_spawn_options));
    ck_assert_uint_eq(weft_sizeof("weft_listen_options"), sizeof(weft_listen_options));
    ck_assert_uint_eq(weft_sizeof("weft_connect_options"), sizeof(weft_connect_options));
    ck_assert_uint_eq(weft_sizeof("weft_addr"), sizeof(weft_addr));
    ck_assert_uint_eq(weft_sizeof("weft_worker_stats"), sizeof(weft_worker_stats));
    ck_assert_uint_eq(weft_sizeof("weft_runtime_stats"), sizeof(weft_runtime_stats));
    ck_assert_uint_eq(weft_sizeof("weft_lane_stats"), sizeof(weft_lane_stats));
    ck_assert_uint_eq(weft_sizeof("weft_nothing"), 0);
    ck_assert_uint_eq(weft_sizeof(""), 0);
    ck_assert_uint_eq(weft_sizeof(NULL), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("run");
    TCase *tc = add_case(s, "results");
    tcase_add_loop_test(tc, run_returns_what_its_function_returned, 0, COUNT(results));
    tcase_add_test(tc, the_first_task_has_an_id_and_no_deadline_and_no_cancel);
    tc = add_case(s, "workers");
    tcase_add_loop_test(tc, any_number_of_workers_runs_every_task_once, 0, COUNT(worker_counts));
    tcase_add_test(tc, the_environment_sets_the_number_of_workers);
    tcase_add_loop_test(
            tc, a_senseless_number_in_the_environment_does_no_harm, 0, COUNT(odd_numbers));
    tcase_add_test(tc, the_affinity_mask_bounds_the_number_of_workers);
    tc = add_case(s, "options");
    tcase_add_loop_test(tc, bad_options_are_refused_and_nothing_is_run, 0, COUNT(bad_options));
    tcase_add_test(tc, null_functions_and_runtimes_are_refused);
    tcase_add_test(tc, the_stack_option_holds_for_the_first_task_and_its_children);
    tc = add_case(s, "what is left");
    tcase_add_loop_test(tc, a_run_leaves_no_thread_and_no_descriptor, 0, COUNT(worker_counts));
    tcase_add_test(tc, runs_in_turn_do_not_add_mappings);
    tcase_add_test(tc, far_timers_do_not_hold_up_the_end);
    tc = add_case(s, "manners");
    tcase_add_test(tc, without_a_crash_report_no_signal_is_touched);
    tcase_add_test(tc, after_a_run_the_signals_are_as_before);
    tcase_add_loop_test(tc, signals_that_are_asked_for_are_taken_and_no_others, 0, 2);
    tc = add_case(s, "within a task");
    tcase_add_test(tc, run_within_a_task_is_refused);
    tcase_add_test(tc, destroying_a_runtime_within_its_own_task_aborts);
    tc = add_case(s, "runtime objects");
    tcase_add_loop_test(tc, one_runtime_runs_several_mains_in_turn, 0, COUNT(worker_counts));
    tcase_add_test(tc, several_threads_run_mains_at_once);
    tcase_add_test(tc, several_threads_run_runtimes_of_their_own_at_once);
    tcase_add_test(tc, two_runtimes_run_side_by_side);
    tcase_add_test(tc, destroy_cancels_what_still_runs_and_awaits_it);
    tcase_add_loop_test(tc, a_runtime_ends_in_order, 0, COUNT(worker_counts));
    tc = add_case(s, "idle");
    tcase_add_loop_test(tc, an_idle_runtime_neither_runs_nor_switches, 0, IDLE_KINDS);
    tc = add_case(s, "header");
    tcase_add_test(tc, the_version_and_the_sizes_of_public_types_are_told);
    return run_suite(s);
}
