/* shutdown_test.c - how all of a runtime is told to leave: weft_runtime_shutdown, and signals that were asked for. */
#include "support.h"

#include <sys/stat.h>

/* -- shutdown -- */

struct told {
    weft_runtime *rt;
    atomic_int began, left, stay, reports;
    int rc, inside;
    char reason[32], named[64];
};

static void keep_report(const weft_report *r, void *arg)
{
    struct told *t = arg;
    if (strcmp(r->what, "shutdown") != 0)
        return;
    if (atomic_fetch_add(&t->reports, 1) == 0)
        snprintf(t->named, sizeof t->named, "%s", r->task_name);
}

static int leave(void *arg)
{
    struct told *t = arg;
    atomic_fetch_add(&t->began, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    const char *reason = weft_cancel_reason();
    if (atomic_fetch_add(&t->left, 1) == 0)
        snprintf(t->reason, sizeof t->reason, "%s", reason ? reason : "");
    return rc;
}

static int ignore(void *arg)
{
    struct told *t = arg;
    atomic_fetch_add(&t->began, 1);
    while (atomic_load(&t->stay))
        weft_ignore(weft_sleep(weft_ms(1)));
    return 0;
}

static int block(void *arg)
{
    struct told *t = arg;
    atomic_fetch_add(&t->began, 1);
    while (atomic_load(&t->stay))
        usleep(1000);
    return 0;
}

static int call_out(void *arg)
{
    return weft_blocking(block, arg);
}

static int family(void *arg)
{
    struct told *t = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(1000));
    for (int i = 0; i < 9; i++)
        weft_spawn(&s, leave, t);
    return weft_scope_end(&s, leave(t));
}

static void *run_family(void *arg)
{
    struct told *t = arg;
    t->rc = weft_runtime_run(t->rt, family, t);
    return NULL;
}

static weft_runtime *runtime_for(struct told *t)
{
    weft_options o = { .workers = 2, .report = keep_report, .report_arg = t };
    ck_assert_int_eq(weft_runtime_create(&t->rt, &o), 0);
    return t->rt;
}

START_TEST(all_is_told_and_awaited)
{
    struct told t = { 0 };
    pthread_t thread;
    runtime_for(&t);
    pthread_create(&thread, NULL, run_family, &t);
    ck_assert(wait_for(&t.began, 10));
    ck_assert_int_eq(weft_runtime_shutdown(t.rt, LIMIT), 0);
    ck_assert_int_eq(atomic_load(&t.left), 10);
    pthread_join(thread, NULL);
    ck_assert_int_eq(t.rc, -ECANCELED);
    ck_assert_str_eq(t.reason, "shutdown");
    /* What comes later is told at once, by this name, and a second shutdown has nothing to do. */
    ck_assert_int_eq(weft_runtime_run(t.rt, family, &t), -ECANCELED);
    ck_assert_int_eq(weft_runtime_shutdown(t.rt, 0), 0);
    weft_runtime_destroy(&t.rt);
    ck_assert_int_eq(atomic_load(&t.reports), 0);
}
END_TEST

/* Who does not leave: deaf to its cancel, or in a call that lasts. */
static weft_fn *const stubborn[] = { ignore, call_out };

/* How many are named that have not left within `grace`; the first one's name goes to t->named. */
static int shut_down_within(struct told *t, weft_fn *deaf, int64_t grace)
{
    weft_scope s;
    runtime_for(t);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = t->rt });
    weft_spawn_with(&s, deaf, t, &(weft_spawn_options){ .name = "stubborn" });
    weft_spawn(&s, leave, t);
    ck_assert(wait_for(&t->began, 2));
    int64_t before = weft_now();
    ck_assert_int_eq(weft_runtime_shutdown(t->rt, grace), -ETIMEDOUT);
    int64_t took = weft_now() - before;
    ck_assert_int_ge(took, grace);
    ck_assert_int_lt(took, LIMIT);
    int named = atomic_load(&t->reports);
    atomic_store(&t->stay, 0);
    ck_assert_int_eq(weft_runtime_shutdown(t->rt, LIMIT), 0); /* its own scope is open, and has no children */
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    weft_runtime_destroy(&t->rt);
    return named;
}

/* The other one leaves when it is told, but its worker may come to that later than in time: then with more of it. */
START_TEST(who_has_not_left_in_time_is_named)
{
    struct told t;
    int named = 0;
    for (int64_t grace = weft_ms(20); named != 1 && grace < LIMIT; grace *= 8) {
        t = (struct told){ .stay = 1 };
        named = shut_down_within(&t, stubborn[_i], grace);
        ck_assert_int_ge(named, 1);
        ck_assert_int_le(named, 2);
    }
    ck_assert_int_eq(named, 1);
    ck_assert_str_eq(t.named, "stubborn");
}
END_TEST

/* By a task. */
static int shut_down_own(void *arg)
{
    struct told *t = arg;
    t->inside = weft_runtime_shutdown(NULL, WEFT_NEVER);
    return weft_sleep_until(WEFT_NEVER);
}

START_TEST(a_task_of_the_runtime_does_not_wait_for_itself)
{
    struct told t = { 0 };
    ck_assert_int_eq(weft_run(shut_down_own, &t, ON(2)), -ECANCELED);
    ck_assert_int_eq(t.inside, -EINPROGRESS);
}
END_TEST

static int shut_down_other(void *arg)
{
    struct told *t = arg;
    t->inside = weft_runtime_shutdown(t->rt, WEFT_NEVER);
    return 0;
}

START_TEST(a_task_of_another_runtime_does_not_wait)
{
    struct told t = { 0 };
    pthread_t thread;
    runtime_for(&t);
    pthread_create(&thread, NULL, run_family, &t);
    ck_assert(wait_for(&t.began, 10));
    ck_assert_int_eq(weft_run(shut_down_other, &t, ON(1)), 0);
    ck_assert_int_eq(t.inside, -EDEADLK);
    pthread_join(thread, NULL);
    ck_assert_int_eq(t.rc, -ECANCELED);
    weft_runtime_destroy(&t.rt);
}
END_TEST

START_TEST(without_a_runtime_there_is_nothing_to_shut_down)
{
    ck_assert_int_eq(weft_runtime_shutdown(NULL, 0), -EINVAL);
}
END_TEST

/* -- signals -- */

static const weft_options stopping = { .workers = 2, .stop_on_signals = true };

/* To its own thread: ThreadSanitizer keeps a signal back until the thread that got it calls libc. */
static void *send_when_begun(void *arg)
{
    struct told *t = arg;
    wait_for(&t->began, 1);
    raise(t->inside);
    return NULL;
}

START_TEST(the_first_signal_tells_main_to_leave)
{
    static const int signals[] = { SIGINT, SIGTERM };
    struct told t = { .inside = signals[_i] };
    struct sigaction before, after;
    pthread_t thread;
    sigaction(signals[_i], NULL, &before);
    pthread_create(&thread, NULL, send_when_begun, &t);
    int rc = weft_run(family, &t, &stopping);
    pthread_join(thread, NULL);
    sigaction(signals[_i], NULL, &after);
    ck_assert_int_eq(rc, -EINTR);
    ck_assert_int_eq(atomic_load(&t.left), 10); /* each has cleaned up */
    ck_assert_str_eq(t.reason, signals[_i] == SIGINT ? "SIGINT" : "SIGTERM");
    ck_assert(before.sa_handler == after.sa_handler);
}
END_TEST

/* A main that has a result of its own keeps it. */
static int finish_all_the_same(void *arg)
{
    weft_ignore(leave(arg));
    return 7;
}

START_TEST(a_main_that_finishes_has_its_result)
{
    struct told t = { .inside = SIGINT };
    pthread_t thread;
    pthread_create(&thread, NULL, send_when_begun, &t);
    int rc = weft_run(finish_all_the_same, &t, &stopping);
    pthread_join(thread, NULL);
    ck_assert_int_eq(rc, 7);
}
END_TEST

/* The second one, whatever main does. */
static int stuck(void *arg)
{
    struct told *t = arg;
    atomic_store(&t->began, 1);
    while (!atomic_load(&t->left)) /* which nobody sets; nor does it call weft */
        sched_yield();
    return 0;
}

static void *send_again_and_again(void *arg)
{
    struct told *t = arg;
    wait_for(&t->began, 1);
    for (int i = 0; i < 1000; i++) {
        raise(t->inside);
        usleep(1000);
    }
    return NULL;
}

static void die_stuck(void *arg)
{
    struct told t = { .inside = *(int *)arg };
    pthread_t thread;
    pthread_create(&thread, NULL, send_again_and_again, &t);
    weft_ignore(weft_run(stuck, &t, &stopping));
}

START_TEST(the_second_signal_ends_the_process)
{
    static const int signals[] = { SIGINT, SIGTERM };
    struct death d = die(die_stuck, (void *)(uintptr_t)&signals[_i]);
    ck_assert_msg(d.signal == signals[_i], "signal %d, status %d: %s", d.signal, d.status, d.text);
}
END_TEST

/* No third one is needed. Under ThreadSanitizer two become one while it keeps them back. */
static void *send_two(void *arg)
{
    struct told *t = arg;
    wait_for(&t->began, 1);
    raise(t->inside);
    raise(t->inside);
    for (int64_t end = weft_after(LIMIT); weft_now() < end;)
        usleep(1000);
    _exit(3);
}

static void die_of_two(void *arg)
{
    struct told t = { .inside = *(int *)arg };
    pthread_t thread;
    pthread_create(&thread, NULL, send_two, &t);
    weft_ignore(weft_run(stuck, &t, &stopping));
}

START_TEST(two_signals_are_enough)
{
    static const int signals[] = { SIGINT, SIGTERM };
    struct death d = die(die_of_two, (void *)(uintptr_t)&signals[_i]);
    ck_assert_msg(d.signal == signals[_i], "signal %d, status %d: %s", d.signal, d.status, d.text);
}
END_TEST

static void die_unasked(void *arg)
{
    struct told t = { .inside = SIGINT };
    pthread_t thread;
    (void)arg;
    pthread_create(&thread, NULL, send_when_begun, &t);
    weft_ignore(weft_run(family, &t, ON(2)));
}

START_TEST(signals_that_were_not_asked_for_are_left_alone)
{
    struct death d = die(die_unasked, NULL);
    ck_assert_int_eq(d.signal, SIGINT);
}
END_TEST

static void *run_stopping(void *arg)
{
    struct told *t = arg;
    t->rc = weft_run(family, t, &stopping);
    return NULL;
}

START_TEST(a_signal_reaches_each_runtime_that_asked)
{
    struct told t[3] = { { 0 } };
    pthread_t threads[3];
    for (int i = 0; i < COUNT(t); i++)
        pthread_create(&threads[i], NULL, run_stopping, &t[i]);
    for (int i = 0; i < COUNT(t); i++)
        ck_assert(wait_for(&t[i].began, 10));
    raise(SIGTERM);
    for (int i = 0; i < COUNT(t); i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(t[i].rc, -EINTR);
    }
    /* The next one begins anew. */
    struct told again = { .inside = SIGTERM };
    pthread_create(&threads[0], NULL, send_when_begun, &again);
    int rc = weft_run(family, &again, &stopping);
    pthread_join(threads[0], NULL);
    ck_assert_int_eq(rc, -EINTR);
}
END_TEST

/* SIGQUIT writes down what all do, and they go on. */
static bool was_written(void)
{
    struct stat st;
    int64_t end = weft_after(LIMIT);
    while (fstat(2, &st) == 0 && st.st_size == 0 && weft_now() < end)
        weft_ignore(weft_sleep(weft_ms(1)));
    return st.st_size > 0;
}

static int quit_and_go_on(void *arg)
{
    struct told *t = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, leave, t, &(weft_spawn_options){ .name = "sleeper" });
    wait_for(&t->began, 1);
    weft_ignore(weft_sleep(weft_ms(1)));
    kill(getpid(), SIGQUIT);
    bool written = was_written();
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, written ? 0 : -ETIME);
}

static void ask_for_dump(void *arg)
{
    struct told t = { 0 };
    char text[4096];
    FILE *f = tmpfile();
    int kept = dup(2);
    (void)arg;
    if (!f || kept < 0)
        abort();
    dup2(fileno(f), 2);
    int rc = weft_run(quit_and_go_on, &t, &(weft_options){ .workers = 1, .dump_on_quit = true });
    dup2(kept, 2);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fprintf(stderr, "%sit returned %d\n", text, rc);
}

START_TEST(sigquit_writes_what_all_do)
{
    struct death d = die(ask_for_dump, NULL);
    ck_assert_msg(d.signal == 0 && d.status == 0, "signal %d, status %d: %s", d.signal, d.status, d.text);
    ck_assert_msg(strstr(d.text, "\"sleeper\" waiting") != NULL, "%s", d.text);
    ck_assert_msg(strstr(d.text, "it returned 0") != NULL, "%s", d.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shutdown");
    TCase *tc = add_case(s, "shutdown");
    tcase_add_test(tc, all_is_told_and_awaited);
    tcase_add_loop_test(tc, who_has_not_left_in_time_is_named, 0, COUNT(stubborn));
    tcase_add_test(tc, a_task_of_the_runtime_does_not_wait_for_itself);
    tcase_add_test(tc, a_task_of_another_runtime_does_not_wait);
    tcase_add_test(tc, without_a_runtime_there_is_nothing_to_shut_down);
    tc = add_case(s, "signals");
    tcase_add_loop_test(tc, the_first_signal_tells_main_to_leave, 0, 2);
    tcase_add_test(tc, a_main_that_finishes_has_its_result);
    tcase_add_test(tc, a_signal_reaches_each_runtime_that_asked);
    tcase_add_test(tc, signals_that_were_not_asked_for_are_left_alone);
    tcase_add_loop_test(tc, the_second_signal_ends_the_process, 0, 2);
    if (!TSAN)
        tcase_add_loop_test(tc, two_signals_are_enough, 0, 2);
    if (!TSAN) /* a worker's signals are blocked, so it has to come to the thread that waits for it all */
        tcase_add_test(tc, sigquit_writes_what_all_do);
    return run_suite(s);
}
