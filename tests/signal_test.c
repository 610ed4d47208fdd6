/* signal_test.c - signals as streams: who gets which, what they did before, and that they do it again. */
#include "sync_support.h"

#include "base/fault.h"

#define LIST(...) ((const int[]){ __VA_ARGS__, 0 })

static atomic_int handled;
static void count_it(int signo)
{
    (void)signo;
    atomic_fetch_add(&handled, 1);
}

NOINLINE static void (*disposition(int signo))(int)
{
    struct sigaction now;
    sigaction(signo, NULL, &now);
    return now.sa_handler;
}

NOINLINE static int next(weft_chan *c)
{
    int signo = -1;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    int rc = weft_scope_end(&s, weft_chan_recv(c, &signo, sizeof signo));
    return rc == 1 ? signo : rc == 0 ? 0 : rc;
}

/* ThreadSanitizer keeps a signal back until the thread that got it calls libc, which one that waits in weft does not. So
 * one that calls it all the time is the only one to get any. */
static void *call_libc(void *arg)
{
    for (;;)
        usleep(1000);
    return arg;
}

static void begin(void)
{
    sigset_t all;
    if (!TSAN)
        return;
    thread_start(call_libc, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
}

/* The thread of the last listener ends by itself. */
static int threads_at_first;
#define PLACES (COUNT(workers) + 1)
NOINLINE static void everywhere(weft_fn *body, void *arg, int i)
{
    threads_at_first = threads_before();
    int before = descriptors_now();
    atomic_store(&wrongs, 0);
    int rc = i < COUNT(workers) ? weft_run(body, arg, QUIETLY_ON(workers[i])) : body(arg);
    ck_assert_int_eq(rc, 0);
    NOTHING_WRONG();
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert_int_eq(threads_back_to(threads_at_first), threads_at_first);
}

static int each_gets_each(void *arg)
{
    weft_chan *a = NULL, *b = NULL;
    int v;
    (void)arg;
    void (*before)(int) = disposition(SIGUSR1);
    MUST(weft_signal_open(&a, LIST(SIGUSR1, SIGUSR2)) == 0);
    MUST(weft_signal_open(&b, LIST(SIGUSR1, SIGUSR1, SIGHUP)) == 0);
    for (int i = 0; i < 20; i++) {
        kill(getpid(), SIGUSR1);
        MUST(next(a) == SIGUSR1 && next(b) == SIGUSR1);
    }
    kill(getpid(), SIGUSR2);
    MUST(next(a) == SIGUSR2);
    kill(getpid(), SIGHUP);
    MUST(next(b) == SIGHUP);
    MUST(weft_chan_try_recv(a, &v, sizeof v) == -EAGAIN && weft_chan_try_recv(b, &v, sizeof v) == -EAGAIN);
    weft_chan_close(a);
    MUST(next(a) == 0 && disposition(SIGUSR2) == SIG_DFL);
    MUST(disposition(SIGUSR1) != before);
    kill(getpid(), SIGUSR1);
    MUST(next(b) == SIGUSR1);
    MUST(weft_chan_try_recv(a, &v, sizeof v) == 0);
    weft_chan_destroy(&a);
    weft_chan_close_now(b);
    MUST(disposition(SIGUSR1) == before && disposition(SIGHUP) == SIG_DFL);
    weft_chan_close(b);
    weft_chan_destroy(&b);
    return 0;
}

START_TEST(every_listener_gets_every_signal_it_asked_for)
{
    everywhere(each_gets_each, NULL, _i);
}
END_TEST

static int restores(void *arg)
{
    weft_chan *c = NULL;
    (void)arg;
    signal(SIGUSR1, count_it);
    signal(SIGUSR2, count_it);
    signal(SIGCHLD, count_it);
    atomic_store(&handled, 0);
    MUST(weft_signal_open(&c, LIST(SIGUSR1)) == 0);
    MUST(disposition(SIGUSR2) == count_it && disposition(SIGCHLD) == count_it);
    kill(getpid(), SIGUSR1);
    MUST(next(c) == SIGUSR1 && atomic_load(&handled) == 0);
    kill(getpid(), SIGUSR2);
    MUST(wait_for(&handled, 1));
    weft_output r;
    MUST(weft_process_run(&r, (const char *const[]){ "true", NULL }, NULL, 0, 0, NULL) == 0);
    weft_output_free(&r);
    MUST(wait_for(&handled, 2)); /* a child's end takes nothing away */
    weft_chan_destroy(&c);
    MUST(disposition(SIGUSR1) == count_it);
    kill(getpid(), SIGUSR1);
    MUST(wait_for(&handled, 3));
    /* Who has changed it meanwhile keeps that. */
    MUST(weft_signal_open(&c, LIST(SIGUSR1, SIGCHLD)) == 0);
    signal(SIGUSR1, SIG_IGN);
    MUST(weft_process_run(&r, (const char *const[]){ "true", NULL }, NULL, 0, 0, NULL) == 0);
    weft_output_free(&r);
    MUST(next(c) == SIGCHLD);
    weft_chan_destroy(&c);
    MUST(disposition(SIGUSR1) == SIG_IGN && disposition(SIGCHLD) == count_it);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    return 0;
}

START_TEST(what_a_signal_did_before_it_does_again_and_others_are_left_alone)
{
    everywhere(restores, NULL, _i);
}
END_TEST

static int receive(void *arg)
{
    int signo = -1;
    int rc = weft_chan_recv(arg, &signo, sizeof signo);
    return rc == 1 ? signo : rc;
}

static int waits_and_goes(void *arg)
{
    weft_chan *c = NULL;
    struct caller a, b;
    weft_scope s;
    (void)arg;
    MUST(weft_signal_open(&c, LIST(SIGUSR1)) == 0);
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &a, receive, c));
    MUST(put_to_sleep(&s, &b, receive, c));
    MUST(weft_task_cancel(a.task, "test") == 0);
    MUST(result(&a) == -ECANCELED);
    MUST(still_waits(&b));
    kill(getpid(), SIGUSR1);
    MUST(result(&b) == SIGUSR1);
    MUST(put_to_sleep(&s, &a, receive, c));
    weft_chan_close(c);
    MUST(result(&a) == 0);
    MUST(weft_scope_end(&s, 0) == 0);
    weft_chan_destroy(&c);
    MUST(weft_signal_open(&c, LIST(SIGUSR1)) == 0);
    weft_scope_begin(&s, weft_ms(10));
    MUST(weft_scope_end(&s, receive(c)) == -ETIMEDOUT);
    weft_chan_destroy(&c);
    return 0;
}

START_TEST(waiting_for_a_signal_can_be_cancelled_and_ends_with_the_channel)
{
    everywhere(waits_and_goes, NULL, _i % COUNT(workers));
}
END_TEST

static int falls_behind(void *arg)
{
    weft_chan *c = NULL, *other = NULL;
    (void)arg;
    MUST(weft_signal_open(&c, LIST(SIGUSR1)) == 0);
    MUST(weft_signal_open(&other, LIST(SIGUSR1)) == 0);
    for (int i = 0; i < 100; i++) {
        kill(getpid(), SIGUSR1);
        MUST(next(other) == SIGUSR1);
    }
    MUST(next(c) == SIGUSR1); /* the last one has come */
    MUST(weft_chan_missed(c) + weft_chan_len(c) + 1 >= 99 && weft_chan_len(c) <= 64);
    weft_chan_destroy(&c);
    weft_chan_destroy(&other);
    return 0;
}

START_TEST(who_falls_behind_misses_the_oldest_and_can_count_them)
{
    everywhere(falls_behind, NULL, _i);
}
END_TEST

START_TEST(bad_lists_are_told)
{
    weft_chan *c = NULL;
    static const int bad[] = { SIGKILL, SIGSTOP, SIGSEGV, SIGABRT, -1, 65, 1000, 32 };
    for (int i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(weft_signal_open(&c, LIST(SIGUSR1, bad[i])), -EINVAL);
    ck_assert_int_eq(weft_signal_open(&c, NULL), -EINVAL);
    ck_assert_int_eq(weft_signal_open(&c, LIST(0)), -EINVAL);
    ck_assert_int_eq(weft_signal_open(NULL, LIST(SIGUSR1)), -EINVAL);
    ck_assert_ptr_null(c);
    ck_assert(disposition(SIGUSR1) == SIG_DFL);
}
END_TEST

START_TEST(without_memory_or_a_thread_nothing_is_left)
{
    weft_chan *c = NULL;
    int rc = -ENOMEM, before = threads_before();
    for (long n = 1; n < 20 && rc == -ENOMEM; n++) {
        weft__fault_set(WEFT__FAULT_ALLOC, n, 1, -ENOMEM);
        rc = weft_signal_open(&c, LIST(SIGUSR1));
        weft__fault_clear();
        ck_assert(rc == 0 || disposition(SIGUSR1) == SIG_DFL);
    }
    ck_assert_int_eq(rc, 0);
    weft_chan_destroy(&c);
    ck_assert_int_eq(threads_back_to(before), before);
    weft__fault_set(WEFT__FAULT_THREAD, 1, 1, -EAGAIN);
    ck_assert_int_eq(weft_signal_open(&c, LIST(SIGUSR1)), -EAGAIN);
    weft__fault_clear();
    ck_assert_ptr_null(c);
    ck_assert(disposition(SIGUSR1) == SIG_DFL);
}
END_TEST

/* Listeners come and go while signals do. */
static int come_and_go(void *arg)
{
    (void)arg;
    for (int i = 0; i < SCALED(100, 50, 20); i++) {
        weft_chan *c = NULL;
        MUST(weft_signal_open(&c, LIST(SIGUSR2)) == 0);
        kill(getpid(), SIGUSR2);
        MUST(next(c) == SIGUSR2);
        if (i % 2)
            weft_chan_close(c);
        weft_chan_destroy(&c);
    }
    return 0;
}

static int crowd(void *arg)
{
    weft_scope s;
    (void)arg;
    signal(SIGUSR2, SIG_IGN); /* one may come when nobody listens */
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, come_and_go, NULL);
    MUST(weft_scope_end(&s, 0) == 0);
    MUST(disposition(SIGUSR2) == SIG_IGN);
    signal(SIGUSR2, SIG_DFL);
    return 0;
}

START_TEST(listeners_come_and_go_while_signals_come)
{
    everywhere(crowd, NULL, _i % COUNT(workers));
}
END_TEST

/* A forked child does not listen, whatever it was forked beside. */
static void in_a_fork(void *arg)
{
    weft_chan *c = NULL;
    int status = 0;
    (void)arg;
    if (weft_signal_open(&c, LIST(SIGUSR1)) != 0)
        _exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        kill(getpid(), SIGUSR1);
        _exit(2);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGUSR1)
        _exit(3);
    kill(getpid(), SIGUSR1);
    _exit(next(c) == SIGUSR1 ? 0 : 4);
}

START_TEST(in_a_forked_child_a_signal_does_what_it_did)
{
    struct death d = die(in_a_fork, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 0);
}
END_TEST

static int deadlocks(void *arg)
{
    weft_chan *c = NULL;
    (void)arg;
    int rc = weft_signal_open(&c, LIST(SIGALRM));
    if (rc < 0)
        return rc;
    alarm(1); /* far later than a deadlock is told */
    rc = receive(c);
    weft_chan_destroy(&c);
    return rc;
}

START_TEST(who_waits_for_a_signal_is_in_no_deadlock)
{
    ck_assert_int_eq(weft_run(deadlocks, NULL, &(weft_options){ .workers = 2, .deadlock_is_error = true }), SIGALRM);
}
END_TEST

/* While somebody listens, stop_on_signals does not act; afterwards it does. */
static int listens_and_is_stopped(void *arg)
{
    weft_chan *c = NULL;
    (void)arg;
    MUST(weft_signal_open(&c, LIST(SIGTERM)) == 0);
    kill(getpid(), SIGTERM);
    MUST(next(c) == SIGTERM);
    weft_chan_destroy(&c);
    MUST(weft_check() == 0);
    kill(getpid(), SIGTERM);
    return weft_sleep(LIMIT);
}

START_TEST(a_listener_has_the_signal_that_would_stop)
{
    atomic_store(&wrongs, 0);
    ck_assert_int_eq(weft_run(listens_and_is_stopped, NULL, &(weft_options){ .workers = 2, .stop_on_signals = true }), -EINTR);
    NOTHING_WRONG();
}
END_TEST

/* Whoever takes the signal first, and whoever lets it go first: a listener has it as long as it listens, then
 * stop_on_signals, then what was there before both. */
struct both {
    weft_chan *c;
    bool opens, closes;
};

static int listens_beside_stop(void *arg)
{
    struct both *b = arg;
    if (b->opens)
        MUST(weft_signal_open(&b->c, LIST(SIGTERM)) == 0);
    kill(getpid(), SIGTERM);
    MUST(next(b->c) == SIGTERM);
    MUST(weft_check() == 0);
    if (!b->closes)
        return 0;
    weft_chan_destroy(&b->c);
    kill(getpid(), SIGTERM);
    return weft_sleep(LIMIT);
}

START_TEST(listeners_and_runtimes_that_stop_come_and_go_in_any_order)
{
    weft_options stops = { .workers = 2, .stop_on_signals = true };
    void (*before)(int) = signal(SIGTERM, count_it);
    atomic_store(&wrongs, 0);
    for (int i = 0; i < 8; i++) { /* twice: the first leaves nothing that the second would meet */
        struct both b = { .opens = i & 1, .closes = i & 2 };
        atomic_store(&handled, 0);
        if (!b.opens)
            ck_assert_int_eq(weft_signal_open(&b.c, LIST(SIGTERM)), 0);
        ck_assert_int_eq(weft_run(listens_beside_stop, &b, &stops), b.closes ? -EINTR : 0);
        NOTHING_WRONG();
        if (!b.closes) {
            kill(getpid(), SIGTERM);
            ck_assert_int_eq(next(b.c), SIGTERM);
            weft_chan_destroy(&b.c);
        }
        ck_assert(disposition(SIGTERM) == count_it);
        ck_assert_int_eq(atomic_load(&handled), 0);
        kill(getpid(), SIGTERM);
        ck_assert(wait_for(&handled, 1));
    }
    signal(SIGTERM, before);
}
END_TEST

/* Who has changed it while both had it keeps that. */
static int is_overruled(void *arg)
{
    struct both *b = arg;
    MUST(weft_signal_open(&b->c, LIST(SIGTERM)) == 0);
    signal(SIGTERM, count_it);
    weft_chan_destroy(&b->c);
    MUST(disposition(SIGTERM) == count_it);
    MUST(weft_signal_open(&b->c, LIST(SIGTERM)) == 0);
    MUST(disposition(SIGTERM) != count_it);
    weft_chan_destroy(&b->c);
    return 0;
}

START_TEST(who_overrules_both_is_not_overruled_by_their_end)
{
    struct both b = { .c = NULL };
    void (*before)(int) = disposition(SIGTERM);
    atomic_store(&wrongs, 0);
    ck_assert_int_eq(weft_run(is_overruled, &b, &(weft_options){ .workers = 2, .stop_on_signals = true }), 0);
    NOTHING_WRONG();
    ck_assert(disposition(SIGTERM) == count_it);
    signal(SIGTERM, before);
}
END_TEST

/* What came to the last listener, and it did not stay for, is not told to the next one. */
START_TEST(a_listener_hears_nothing_from_before_its_time)
{
    for (int i = 0; i < SCALED(300, 100, 0); i++) {
        weft_chan *c = NULL;
        ck_assert_int_eq(weft_signal_open(&c, LIST(SIGUSR1)), 0);
        raise(SIGUSR1);
        weft_chan_destroy(&c);
        ck_assert_int_eq(weft_signal_open(&c, LIST(SIGUSR1, SIGUSR2)), 0);
        raise(SIGUSR2);
        ck_assert_int_eq(next(c), SIGUSR2);
        weft_chan_destroy(&c);
    }
}
END_TEST

static int is_stopped(void *arg)
{
    (void)arg;
    kill(getpid(), SIGTERM);
    return weft_sleep(LIMIT);
}

/* The thread that passes signals on is not in a forked child. It is told so, even where there was no runtime. */
static void opens_in_a_fork(void *arg)
{
    weft_chan *c = NULL, *d = NULL;
    int status = 0;
    (void)arg;
    if (weft_signal_open(&c, LIST(SIGUSR1, SIGTERM)) != 0)
        _exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        if (weft_signal_open(&d, LIST(SIGUSR1)) != -ECHILD || d)
            _exit(2);
        weft_chan_destroy(&c);
        _exit(weft_run(is_stopped, NULL, &(weft_options){ .workers = 1, .stop_on_signals = true }) == -EINTR &&
                                disposition(SIGTERM) == SIG_DFL
                        ? 0
                        : 3);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        _exit(status ? 4 + WEXITSTATUS(status) : 4);
    kill(getpid(), SIGUSR1);
    _exit(next(c) == SIGUSR1 ? 0 : 8);
}

START_TEST(in_a_forked_child_nobody_can_listen)
{
    struct death d = die(opens_in_a_fork, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("signal");
    TCase *tc = add_case(s, "listeners");
    tcase_add_checked_fixture(tc, begin, NULL);
    tcase_add_loop_test(tc, every_listener_gets_every_signal_it_asked_for, 0, PLACES);
    tcase_add_loop_test(tc, what_a_signal_did_before_it_does_again_and_others_are_left_alone, 0, PLACES);
    tcase_add_loop_test(tc, waiting_for_a_signal_can_be_cancelled_and_ends_with_the_channel, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_falls_behind_misses_the_oldest_and_can_count_them, 0, PLACES);
    tcase_add_loop_test(tc, listeners_come_and_go_while_signals_come, 0, COUNT(workers));
    tcase_add_test(tc, bad_lists_are_told);
    tcase_add_test(tc, without_memory_or_a_thread_nothing_is_left);
    tcase_add_test(tc, a_listener_has_the_signal_that_would_stop);
    tcase_add_test(tc, listeners_and_runtimes_that_stop_come_and_go_in_any_order);
    tcase_add_test(tc, who_overrules_both_is_not_overruled_by_their_end);
    if (!TSAN) /* where signals come late */
        tcase_add_test(tc, a_listener_hears_nothing_from_before_its_time);
    tcase_add_test(tc, who_waits_for_a_signal_is_in_no_deadlock);
    if (forking() && !TSAN)
        tcase_add_test(tc, in_a_forked_child_nobody_can_listen);
    if (forking() && !TSAN) /* which keeps a child's signal back until the child calls libc, and then it has ended */
        tcase_add_test(tc, in_a_forked_child_a_signal_does_what_it_did);
    return run_suite(s);
}
