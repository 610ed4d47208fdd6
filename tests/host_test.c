/* host_test.c - a runtime that runs on its maker's thread, and mains that nobody waits for: engine/host.c, coord/start.c.
 * A-009, B-078, E-36; A-006. */
#include "support.h"

#include <fenv.h>

#include "engine/runtime.h"

#define MANUAL (&(weft_options){ .manual = true })
#define QUIETLY_MANUAL (&(weft_options){ .manual = true, .report = say_nothing })

/* Runs the loop of a program that knows of weft only its descriptor, until *done is at least `least`. How often it found
 * that more was ready; -1: it took too long, or the descriptor was silent. */
static int foreign_loop(weft_runtime *rt, const atomic_int *done, int least)
{
    int64_t end = weft_after(LIMIT);
    int more = 0;
    while (atomic_load(done) < least) {
        struct pollfd p = { .fd = weft_runtime_fd(rt), .events = POLLIN };
        if (poll(&p, 1, 20000) <= 0 || weft_now() > end)
            return -1;
        more += weft_runtime_step(rt);
    }
    return more;
}

/* -- where tasks run -- */

struct places {
    int host;
    atomic_int tasks, elsewhere, done;
};

static void look_where(struct places *p)
{
    atomic_fetch_add(&p->tasks, 1);
    if (thread_id() != p->host)
        atomic_fetch_add(&p->elsewhere, 1);
}

static int id_of_thread(void *arg)
{
    *(int *)arg = thread_id();
    return 0;
}

static int wait_here_and_there(void *arg)
{
    struct places *p = arg;
    int other = 0;
    look_where(p);
    EXPECT(weft_yield() == 0);
    look_where(p);
    EXPECT(weft_sleep(weft_ms(1)) == 0);
    look_where(p);
    EXPECT(weft_blocking(id_of_thread, &other) == 0);
    EXPECT(other != p->host);
    look_where(p);
    return 0;
}

static int crowd_of_waits(void *arg)
{
    struct places *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 20; i++)
        weft_spawn(&s, wait_here_and_there, p);
    int rc = weft_scope_end(&s, 0);
    atomic_store(&p->done, 1);
    return rc;
}

START_TEST(a_host_that_waits_in_weft_runs_the_tasks)
{
    struct places p = { .host = thread_id() };
    int other;
    weft_ignore(weft_run(id_of_thread, &other, ON(1))); /* a sanitizer may begin a thread of its own */
    int before = threads_before();
    AS_EXPECTED(weft_run(crowd_of_waits, &p, MANUAL));
    ck_assert_int_eq(p.tasks, 80);
    ck_assert_int_eq(p.elsewhere, 0);
    ck_assert_int_eq(threads_back_to(before), before);
}
END_TEST

START_TEST(a_loop_that_polls_the_descriptor_runs_the_tasks)
{
    weft_runtime *rt;
    weft_task t;
    struct places p = { .host = thread_id() };
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(weft_runtime_start(rt, crowd_of_waits, &p, &t), 0);
    ck_assert_int_gt(t, 0);
    ck_assert_int_ge(foreign_loop(rt, &p.done, 1), 0);
    ck_assert_int_eq(line_that_was_wrong(), 0);
    ck_assert_int_eq(weft_task_join(t), 0);
    ck_assert_int_eq(p.tasks, 80);
    ck_assert_int_eq(p.elsewhere, 0);
    weft_runtime_destroy(&rt);
    ck_assert_ptr_null(rt);
}
END_TEST

/* -- descriptors, and what other threads do -- */

struct line {
    int in[2], out[2];
    atomic_int done;
};

static int copy_bytes(void *arg)
{
    struct line *l = arg;
    for (int i = 0; i < 100; i++) {
        char c;
        EXPECT(weft_read(l->in[0], &c, 1) == 1);
        EXPECT(weft_write_all(l->out[1], &c, 1) == 0);
        atomic_fetch_add(&l->done, 1);
    }
    return 0;
}

static void *send_bytes(void *arg)
{
    struct line *l = arg;
    for (int i = 0; i < 100; i++) {
        char c = (char)i, d = 0;
        if (write(l->in[1], &c, 1) != 1 || read(l->out[0], &d, 1) != 1 || c != d)
            return l;
    }
    return NULL;
}

START_TEST(what_comes_from_outside_rings)
{
    weft_runtime *rt;
    struct line l = { .done = 0 };
    void *wrong;
    ck_assert_int_eq(pipe2(l.in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(l.out, O_CLOEXEC), 0);
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(weft_runtime_start(rt, copy_bytes, &l, NULL), 0);
    pthread_t other = thread_start(send_bytes, &l);
    ck_assert_int_ge(foreign_loop(rt, &l.done, 100), 0);
    pthread_join(other, &wrong);
    ck_assert_ptr_null(wrong);
    ck_assert_int_eq(line_that_was_wrong(), 0);
    weft_runtime_destroy(&rt);
    for (int i = 0; i < 2; i++) {
        close(l.in[i]);
        close(l.out[i]);
    }
}
END_TEST

enum { TURNS = BUILT(20000, 5000, 2000) };

struct turns {
    weft_chan *to, *from;
    atomic_int done;
};

static int answer(void *arg)
{
    struct turns *t = arg;
    for (int i = 0, x; i < fewer(500, TURNS); i++) {
        EXPECT(weft_chan_recv(t->to, &x, sizeof x) == 1 && x == i);
        EXPECT(weft_chan_send(t->from, &x, sizeof x) == 0);
    }
    atomic_store(&t->done, 1);
    return 0;
}

static void *ask(void *arg)
{
    struct turns *t = arg;
    for (int i = 0, x; i < fewer(500, TURNS); i++)
        if (weft_chan_send(t->to, &i, sizeof i) < 0 || weft_chan_recv(t->from, &x, sizeof x) != 1 || x != i)
            return t;
    return NULL;
}

/* Each wake is by another thread, and each is to ring: the loop sleeps until it does. */
START_TEST(no_wake_by_another_thread_is_lost)
{
    weft_runtime *rt;
    struct turns t = { .done = 0 };
    void *wrong;
    ck_assert_int_eq(weft_chan_create(&t.to, sizeof(int), (size_t)_i, NULL), 0);
    ck_assert_int_eq(weft_chan_create(&t.from, sizeof(int), (size_t)_i, NULL), 0);
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(weft_runtime_start(rt, answer, &t, NULL), 0);
    pthread_t other = thread_start(ask, &t);
    ck_assert_int_ge(foreign_loop(rt, &t.done, 1), 0);
    pthread_join(other, &wrong);
    ck_assert_ptr_null(wrong);
    ck_assert_int_eq(line_that_was_wrong(), 0);
    weft_runtime_destroy(&rt);
    weft_chan_destroy(&t.to);
    weft_chan_destroy(&t.from);
}
END_TEST

/* The host itself is the other side: its waits run the tasks, and end when other threads do what it waits for. */
START_TEST(a_host_may_talk_with_its_own_tasks_and_with_others)
{
    weft_runtime *rt[2];
    struct turns t[3] = { { .done = 0 } };
    void *wrong;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(weft_chan_create(&t[i].to, sizeof(int), 0, NULL), 0);
        ck_assert_int_eq(weft_chan_create(&t[i].from, sizeof(int), 0, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(weft_runtime_create(&rt[i], MANUAL), 0);
        ck_assert_int_eq(weft_runtime_start(rt[i], answer, &t[i], NULL), 0);
    }
    pthread_t other = thread_start(ask, &t[2]);
    ck_assert_int_eq(answer(&t[2]), 0); /* while the two runtimes have nothing to do */
    pthread_join(other, &wrong);
    ck_assert_ptr_null(wrong);
    for (int i = 0; i < 2; i++)
        ck_assert_ptr_null(ask(&t[i]));
    for (int i = 0; i < 2; i++)
        weft_runtime_destroy(&rt[i]);
    for (int i = 0; i < 3; i++) {
        weft_chan_destroy(&t[i].to);
        weft_chan_destroy(&t[i].from);
    }
    ck_assert_int_eq(line_that_was_wrong(), 0);
}
END_TEST

/* -- a step is short, and says how it went -- */

static int yield_until(void *arg)
{
    while (atomic_load((atomic_int *)arg) == 0)
        weft_ignore(weft_yield());
    return 0;
}

START_TEST(a_step_ends_although_more_is_ready)
{
    weft_runtime *rt;
    atomic_int stop = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(weft_runtime_start(rt, yield_until, &stop, NULL), 0);
    for (int i = 0; i < 5; i++) {
        struct pollfd p = { .fd = weft_runtime_fd(rt), .events = POLLIN };
        ck_assert_int_eq(poll(&p, 1, 20000), 1);
        ck_assert_int_eq(weft_runtime_wait_ms(rt), 0);
        ck_assert_int_eq(weft_runtime_step(rt), 1);
    }
    atomic_store(&stop, 1);
    while (weft_runtime_step(rt) == 1)
        continue;
    ck_assert_int_eq(weft_runtime_step(rt), 0);
    ck_assert_int_eq(weft_runtime_wait_ms(rt), -1);
    weft_runtime_destroy(&rt);
}
END_TEST

static int yield_in_turns(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, yield_until, arg);
    return weft_scope_end(&s, 0);
}

/* R16: a row of turns that are timed together has none that goes on in the next step, or it would last as long as the host. */
START_TEST(what_the_host_does_between_two_steps_is_in_no_tasks_time)
{
    weft_runtime *rt;
    atomic_int stop = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(weft_runtime_start(rt, yield_in_turns, &stop, NULL), 0);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(weft_runtime_step(rt), 1);
        int hands = own(rt->group.all[0]->hands);
        ck_assert(hands < 0 || hands == WEFT__HANDED);
    }
    atomic_store(&stop, 1);
    while (weft_runtime_step(rt) == 1)
        continue;
    ck_assert_int_eq(weft_runtime_step(rt), 0);
    weft_runtime_destroy(&rt);
}
END_TEST

struct nap {
    int64_t for_ns;
    atomic_int done;
};

static int nap(void *arg)
{
    struct nap *n = arg;
    int rc = weft_sleep(n->for_ns);
    atomic_store(&n->done, 1);
    return rc;
}

START_TEST(the_wait_is_until_the_first_timer)
{
    weft_runtime *rt;
    struct nap far = { .for_ns = weft_sec(3000) }, near = { .for_ns = weft_ms(3) };
    ck_assert_int_eq(weft_runtime_create(&rt, QUIETLY_MANUAL), 0);
    ck_assert_int_eq(weft_runtime_wait_ms(rt), -1);
    ck_assert_int_eq(weft_runtime_start(rt, nap, &far, NULL), 0);
    ck_assert_int_eq(weft_runtime_wait_ms(rt), 0);
    while (weft_runtime_step(rt) == 1)
        continue;
    int ms = weft_runtime_wait_ms(rt);
    ck_assert_msg((ms > 2900000 && ms <= 3000000) || ms == 0, "%d ms", ms); /* or it was woken for nothing */
    ck_assert_int_eq(weft_runtime_start(rt, nap, &near, NULL), 0);
    int64_t began = weft_now();
    while (atomic_load(&near.done) == 0 && weft_now() - began < LIMIT) { /* by the time alone */
        poll(NULL, 0, weft_runtime_wait_ms(rt));
        ck_assert_int_ge(weft_runtime_step(rt), 0);
    }
    ck_assert_int_eq(near.done, 1);
    ck_assert_int_ge(weft_now() - began, weft_ms(3));
    ck_assert_int_eq(far.done, 0);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(far.done, 1);
}
END_TEST

static int sleep_an_hour(void *arg)
{
    (void)arg;
    return weft_sleep(weft_sec(3600));
}

START_TEST(virtual_time_passes_while_the_host_waits)
{
    int64_t began = weft_now();
    ck_assert_int_eq(weft_run(sleep_an_hour, NULL, &(weft_options){ .manual = true, .clock = WEFT_CLOCK_VIRTUAL }), 0);
    ck_assert_int_lt(weft_now() - began, weft_sec(1800));
}
END_TEST

/* One that was started waits for an event, which a later main sets after an hour. */
struct hours {
    weft_event come;
    atomic_int done;
};

static int wait_for_it(void *arg)
{
    struct hours *h = arg;
    int rc = weft_event_wait(&h->come);
    atomic_store(&h->done, 1);
    return rc;
}

static int set_it_in_an_hour(void *arg)
{
    struct hours *h = arg;
    int rc = weft_sleep(weft_sec(3600));
    weft_event_set(&h->come);
    return rc;
}

static int leave_slowly(void *arg)
{
    weft_scope s;
    weft_ignore(weft_sleep(WEFT_NEVER));
    weft_scope_begin_shield(&s, WEFT_NEVER);
    int rc = weft_scope_end(&s, weft_sleep(weft_sec(3600)));
    if (rc == 0)
        atomic_store((atomic_int *)arg, 1);
    return rc;
}

START_TEST(virtual_time_passes_beside_mains_that_nobody_waits_for)
{
    weft_runtime *rt;
    struct hours h = { .come = WEFT_SYNC_INIT };
    atomic_int left = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .manual = true, .clock = WEFT_CLOCK_VIRTUAL }), 0);
    ck_assert_int_eq(weft_runtime_start(rt, wait_for_it, &h, NULL), 0);
    ck_assert_int_eq(weft_runtime_start(rt, leave_slowly, &left, NULL), 0);
    ck_assert_int_eq(weft_runtime_run(rt, set_it_in_an_hour, &h), 0);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(h.done, 1);
    ck_assert_int_eq(left, 1);
}
END_TEST

/* -- a deadlock, and what looks like one -- */

static int wait_for_event(void *arg)
{
    return weft_event_wait(arg);
}

START_TEST(a_deadlock_is_told_while_the_host_waits)
{
    weft_event never = WEFT_SYNC_INIT;
    weft_options o = { .manual = true, .deadlock_is_error = true, .report = say_nothing };
    ck_assert_int_eq(weft_run(wait_for_event, &never, &o), -EDEADLK);
}
END_TEST

struct other_main {
    weft_runtime *rt;
    weft_event come;
    int rc;
    atomic_int done;
};

static void *run_main(void *arg)
{
    struct other_main *m = arg;
    m->rc = weft_runtime_run(m->rt, wait_for_event, &m->come);
    atomic_store(&m->done, 1);
    return NULL;
}

/* For longer than it takes to find one. */
START_TEST(it_is_none_while_the_host_has_something_else_to_do)
{
    weft_options o = { .manual = true, .deadlock_is_error = true, .report = say_nothing };
    struct other_main m = { .come = WEFT_SYNC_INIT, .rc = 1 };
    ck_assert_int_eq(weft_runtime_create(&m.rt, &o), 0);
    pthread_t other = thread_start(run_main, &m);
    int64_t set_at = weft_after(weft_ms(300)), end = weft_after(LIMIT);
    while (atomic_load(&m.done) == 0 && weft_now() < end) {
        struct pollfd p = { .fd = weft_runtime_fd(m.rt), .events = POLLIN };
        poll(&p, 1, 10);
        if (weft_now() >= set_at)
            weft_event_set(&m.come);
        ck_assert_int_ge(weft_runtime_step(m.rt), 0);
    }
    pthread_join(other, NULL);
    ck_assert_int_eq(m.rc, 0);
    weft_runtime_destroy(&m.rt);
}
END_TEST

/* -- who may -- */

static int step_within(void *arg)
{
    weft_runtime *rt = *(weft_runtime **)arg, *within = NULL;
    EXPECT(weft_runtime_create(&within, MANUAL) == -EDEADLK && within == NULL);
    EXPECT(weft_runtime_step(rt) == -EDEADLK);
    EXPECT(weft_runtime_wait_ms(rt) == -EDEADLK);
    EXPECT(weft_runtime_fd(rt) >= 0);
    return 0;
}

static void *step_elsewhere(void *arg)
{
    weft_runtime *rt = arg;
    bool refused = weft_runtime_step(rt) == -EPERM && weft_runtime_wait_ms(rt) == -EINVAL && weft_runtime_fd(rt) >= 0;
    return refused ? NULL : rt;
}

START_TEST(only_the_host_steps_and_not_from_a_task)
{
    weft_runtime *rt;
    void *wrong;
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    AS_EXPECTED(weft_runtime_run(rt, step_within, &rt));
    pthread_t other = thread_start(step_elsewhere, rt);
    pthread_join(other, &wrong);
    ck_assert_ptr_null(wrong);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(weft_runtime_create(&rt, ON(1)), 0);
    ck_assert_int_eq(weft_runtime_step(rt), -EINVAL);
    ck_assert_int_eq(weft_runtime_wait_ms(rt), -EINVAL);
    ck_assert_int_eq(weft_runtime_fd(rt), -EINVAL);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(weft_runtime_step(NULL), -EINVAL);
    ck_assert_int_eq(weft_runtime_wait_ms(NULL), -EINVAL);
    ck_assert_int_eq(weft_runtime_fd(NULL), -EINVAL);
}
END_TEST

static int seven(void *arg)
{
    *(int *)arg = 7;
    return 7;
}

static void *run_on(void *arg)
{
    int x = 0;
    int rc = weft_runtime_run(arg, seven, &x);
    return rc == 7 && x == 7 ? NULL : arg;
}

/* Another thread's main is run by the host, who waits for something else meanwhile. */
START_TEST(other_threads_run_mains_on_it)
{
    weft_runtime *rt;
    void *wrong;
    struct nap n = { .for_ns = weft_ms(1) };
    weft_task t;
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    pthread_t other = thread_start(run_on, rt);
    int64_t end = weft_after(LIMIT);
    while (pthread_tryjoin_np(other, &wrong) != 0 && weft_now() < end) {
        struct pollfd p = { .fd = weft_runtime_fd(rt), .events = POLLIN };
        if (poll(&p, 1, 1) > 0)
            ck_assert_int_ge(weft_runtime_step(rt), 0);
    }
    ck_assert_int_lt(weft_now(), end);
    ck_assert_ptr_null(wrong);
    ck_assert_int_eq(weft_runtime_start(rt, nap, &n, &t), 0);
    ck_assert_int_eq(weft_task_join(t), 0);
    ck_assert_int_eq(n.done, 1);
    weft_runtime_destroy(&rt);
}
END_TEST

START_TEST(a_runtime_of_a_host_has_one_worker_and_no_spares)
{
    weft_runtime *rt = NULL;
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .manual = true, .workers = 2 }), -EINVAL);
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .manual = true, .spares = 1 }), -EINVAL);
    ck_assert_ptr_null(rt);
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .manual = true, .workers = 1, .spares = -1 }), 0);
    weft_runtime_destroy(&rt);
}
END_TEST

static int destroy_elsewhere(void *arg)
{
    weft_runtime *rt = arg;
    weft_runtime_destroy(&rt);
    return 0;
}

START_TEST(destroying_it_on_another_thread_aborts)
{
    weft_runtime *rt;
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    weft_ignore(weft_run(destroy_elsewhere, rt, ON(1)));
}
END_TEST

static int destroy_within(void *arg)
{
    weft_runtime_destroy(arg);
    return 0;
}

/* Both are the calling thread's. */
START_TEST(destroying_it_in_a_task_of_the_same_host_aborts)
{
    weft_runtime *rt;
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    weft_ignore(weft_run(destroy_within, &rt, MANUAL));
}
END_TEST

/* One with workers of its own may be; the task's own runtime does not step meanwhile. */
START_TEST(a_task_of_a_host_destroys_another_runtime)
{
    weft_runtime *rt;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    ck_assert_int_eq(weft_run(destroy_within, &rt, MANUAL), 0);
    ck_assert_ptr_null(rt);
}
END_TEST

START_TEST(a_host_has_any_number_of_them)
{
    enum { MANY = 20 };
    weft_runtime *rt[MANY];
    int x = 0;
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(weft_runtime_create(&rt[i], MANUAL), 0);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(weft_runtime_run(rt[i], seven, &x), 7);
    for (int i = 0; i < MANY; i++)
        weft_runtime_destroy(&rt[i]);
}
END_TEST

static int write_a_byte(void *arg)
{
    return weft_write(*(int *)arg, "x", 1) == 1 ? 0 : -EIO;
}

START_TEST(a_host_may_wait_for_a_descriptor_that_its_task_writes_to)
{
    weft_runtime *rt;
    int fds[2];
    char c = 0;
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(weft_runtime_start(rt, write_a_byte, &fds[1], NULL), 0);
    ck_assert_int_eq(weft_read(fds[0], &c, 1), 1);
    ck_assert_int_eq(c, 'x');
    weft_runtime_destroy(&rt);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static void *create_and_go(void *arg)
{
    weft_runtime **rt = arg;
    if (weft_runtime_create(rt, MANUAL) < 0)
        *rt = NULL;
    return NULL;
}

/* -- what it leaves alone, and what it leaves behind -- */

static void on_signal(int signo)
{
    (void)signo;
}

static int mask_within(void *arg)
{
    return pthread_sigmask(SIG_BLOCK, NULL, arg);
}

START_TEST(the_host_keeps_its_signals)
{
    sigset_t mine, within, after;
    struct sigaction act = { .sa_handler = on_signal }, was;
    char own_stack[65536];
    stack_t mine_stack = { .ss_sp = own_stack, .ss_size = sizeof own_stack }, now;
    weft_runtime *rt;
    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR1);
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &mine, NULL), 0);
    ck_assert_int_eq(sigaction(SIGUSR2, &act, NULL), 0);
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(weft_runtime_run(rt, mask_within, &within), 0);
    ck_assert_int_eq(sigismember(&within, SIGUSR1), 1);
    ck_assert_int_eq(sigismember(&within, SIGINT), 0);
    if (!ASAN && !TSAN) { /* those have one for each thread, and want it back */
        ck_assert_int_eq(sigaltstack(&mine_stack, NULL), 0);
        weft_runtime_destroy(&rt);
        ck_assert_int_eq(sigaltstack(NULL, &now), 0);
        ck_assert_ptr_eq(now.ss_sp, own_stack);
        mine_stack.ss_flags = SS_DISABLE;
        ck_assert_int_eq(sigaltstack(&mine_stack, NULL), 0);
    }
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
    ck_assert_int_eq(sigismember(&after, SIGUSR1), 1);
    ck_assert_int_eq(sigismember(&after, SIGINT), 0);
    ck_assert_int_eq(sigaction(SIGUSR2, NULL, &was), 0);
    ck_assert(was.sa_handler == on_signal);
}
END_TEST

/* Cut off at any point. */
static int wait_somewhere(void *arg)
{
    int rc = weft_yield(), x;
    rc = rc < 0 ? rc : weft_blocking(id_of_thread, &x);
    rc = rc < 0 ? rc : weft_sleep(weft_sec(3600));
    (void)arg;
    return rc;
}

static int crowd_that_is_cut_off(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 20; i++)
        weft_spawn(&s, wait_somewhere, arg);
    return weft_scope_end(&s, 0);
}

static int round_down(void *arg)
{
    (void)arg;
    fesetround(FE_DOWNWARD);
    return weft_yield();
}

static int spawn_one_that_rounds(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, round_down, arg, &(weft_spawn_options){ .keep_fp = true });
    return weft_scope_end(&s, 0);
}

START_TEST(the_host_keeps_its_rounding)
{
    weft_runtime *rt;
    ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
    ck_assert_int_eq(fesetround(FE_UPWARD), 0);
    ck_assert_int_eq(weft_runtime_run(rt, spawn_one_that_rounds, NULL), 0);
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    ck_assert_int_eq(fesetround(FE_TONEAREST), 0);
    weft_runtime_destroy(&rt);
}
END_TEST

START_TEST(nothing_of_it_is_left)
{
    struct places p = { .host = thread_id() };
    AS_EXPECTED(weft_run(crowd_of_waits, &p, MANUAL)); /* what is made once in a process */
    int descriptors = descriptors_now(), threads = threads_before();
    for (int i = 0; i < 5; i++) {
        weft_runtime *rt;
        ck_assert_int_eq(weft_runtime_create(&rt, MANUAL), 0);
        ck_assert_int_eq(weft_runtime_start(rt, crowd_that_is_cut_off, NULL, NULL), 0);
        for (int k = 0; k < i; k++)
            ck_assert_int_ge(weft_runtime_step(rt), 0);
        weft_runtime_destroy(&rt);
    }
    ck_assert_int_eq(descriptors_now(), descriptors);
    ck_assert_int_eq(threads_back_to(threads), threads);
}
END_TEST

START_TEST(without_descriptors_it_is_not_made)
{
    struct rlimit had, low;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &had), 0);
    weft_runtime *rt = NULL;
    int made = 0;
    for (rlim_t n = 3; n < 40 && !made; n++) {
        int before = descriptors_now();
        low = (struct rlimit){ n, had.rlim_max };
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
        int rc = weft_runtime_create(&rt, MANUAL);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &had), 0);
        ck_assert_msg(rc == 0 || rc == -EMFILE, "%d", rc);
        made = rc == 0;
        weft_runtime_destroy(&rt);
        ck_assert_int_eq(descriptors_now(), before);
    }
    ck_assert_int_eq(made, 1);
}
END_TEST

/* -- mains that nobody waits for, on any runtime -- */

static int until_told(void *arg)
{
    atomic_int *told = arg;
    int rc = weft_sleep(weft_sec(3600));
    const char *why = weft_cancel_reason();
    if (rc == -ECANCELED && why && strcmp(why, "the runtime ends") == 0)
        atomic_fetch_add(told, 1);
    return rc;
}

static weft_options kinds[] = { { .workers = 1 }, { .workers = 3 }, { .manual = true } };

START_TEST(the_end_of_the_runtime_tells_them_and_waits)
{
    weft_runtime *rt;
    atomic_int told = 0;
    kinds[_i].report = say_nothing;
    ck_assert_int_eq(weft_runtime_create(&rt, &kinds[_i]), 0);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(weft_runtime_start(rt, until_told, &told, NULL), 0);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(told, 10);
}
END_TEST

START_TEST(a_shutdown_waits_for_them_too)
{
    weft_runtime *rt;
    struct nap n = { .for_ns = weft_sec(3600) };
    kinds[_i].report = say_nothing;
    ck_assert_int_eq(weft_runtime_create(&rt, &kinds[_i]), 0);
    ck_assert_int_eq(weft_runtime_start(rt, nap, &n, NULL), 0);
    ck_assert_int_eq(weft_runtime_shutdown(rt, LIMIT), 0);
    ck_assert_int_eq(n.done, 1);
    weft_runtime_destroy(&rt);
}
END_TEST

static int count_up(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return 0;
}

struct last_words {
    weft_runtime *rt;
    atomic_int ran, began;
};

static int say_last_words(void *arg)
{
    struct last_words *w = arg;
    atomic_store(&w->began, 1);
    int rc = weft_sleep(WEFT_NEVER);
    EXPECT(rc == -ECANCELED);
    EXPECT(weft_runtime_start(w->rt, count_up, &w->ran, NULL) == 0);
    return 0;
}

static void *run_last_words(void *arg)
{
    struct last_words *w = arg;
    weft_ignore(weft_runtime_run(w->rt, say_last_words, w));
    return NULL;
}

/* Also of those who are told only then, and start others. */
START_TEST(one_that_is_started_while_the_runtime_ends_is_ended_too)
{
    struct last_words w = { .ran = 0 };
    ck_assert_int_eq(weft_runtime_create(&w.rt, &kinds[_i]), 0);
    pthread_t other = thread_start(run_last_words, &w);
    int64_t end = weft_after(LIMIT);
    while (atomic_load(&w.began) == 0 && weft_now() < end) {
        usleep(100);
        if (kinds[_i].manual)
            ck_assert_int_ge(weft_runtime_step(w.rt), 0);
    }
    weft_runtime_destroy(&w.rt);
    pthread_join(other, NULL);
    ck_assert_int_eq(line_that_was_wrong(), 0);
    ck_assert_int_eq(w.ran, 1);
}
END_TEST

struct said {
    atomic_int failures;
    int code;
    char name[32];
    weft_task task;
};

static void listen_to(const weft_report *r, void *arg)
{
    struct said *s = arg;
    if (strcmp(r->what, "failure") != 0)
        return;
    s->code = r->code;
    s->task = r->task;
    snprintf(s->name, sizeof s->name, "%s", r->task_name);
    atomic_fetch_add(&s->failures, 1);
}

static int break_down(void *arg)
{
    (void)arg;
    return -EIO;
}

/* nobody reads it, so it is reported; and it takes no other with it. */
START_TEST(a_failure_is_reported_and_ends_no_other)
{
    weft_runtime *rt;
    struct said said = { .code = 0 };
    atomic_int told = 0;
    weft_task t, other;
    weft_options o = kinds[_i];
    o.report = listen_to;
    o.report_arg = &said;
    ck_assert_int_eq(weft_runtime_create(&rt, &o), 0);
    ck_assert_int_eq(weft_runtime_start(rt, until_told, &told, &other), 0);
    ck_assert_int_eq(weft_runtime_start(rt, break_down, NULL, &t), 0);
    ck_assert_int_eq(weft_task_join(t), 0);
    ck_assert_int_eq(said.failures, 1);
    ck_assert_int_eq(said.code, -EIO);
    ck_assert_int_eq(said.task, t);
    ck_assert_str_eq(said.name, "main");
    ck_assert(weft_task_alive(other));
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(said.failures, 1);
    ck_assert_int_eq(told, 1);
}
END_TEST

/* While one that began before them lives. */
START_TEST(those_that_have_ended_are_let_go)
{
    enum { STARTS = BUILT(30000, 2000, 1000) };
    weft_runtime *rt;
    atomic_int ran = 0;
    weft_event stop = WEFT_SYNC_INIT;
    weft_task first, t = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, &kinds[_i]), 0);
    ck_assert_int_eq(weft_runtime_start(rt, wait_for_event, &stop, &first), 0);
    long before = 0;
    int starts = fewer(500, STARTS);
    for (int i = 0; i < starts; i++) {
        if (i == starts / 10)
            before = resident_kib();
        ck_assert_int_eq(weft_runtime_start(rt, count_up, &ran, &t), 0);
        ck_assert_int_eq(weft_task_join(t), 0);
    }
    ck_assert_int_lt(resident_kib() - before, BUILT(8 * 1024, 64 * 1024, 256 * 1024));
    ck_assert_int_eq(ran, starts);
    ck_assert(weft_task_alive(first));
    weft_event_set(&stop);
    weft_runtime_destroy(&rt);
}
END_TEST

static int start_another(void *arg)
{
    void **a = arg;
    weft_task t;
    EXPECT(weft_runtime_start(a[0], count_up, a[1], &t) == 0);
    EXPECT(weft_runtime_start(a[0], NULL, NULL, NULL) == -EINVAL);
    EXPECT(weft_runtime_start(NULL, count_up, a[1], NULL) == -EINVAL);
    return weft_task_join(t);
}

START_TEST(a_task_starts_one_as_well)
{
    weft_runtime *rt;
    atomic_int ran = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, &kinds[_i]), 0);
    void *args[] = { rt, &ran };
    AS_EXPECTED(weft_runtime_run(rt, start_another, args));
    ck_assert_int_eq(ran, 1);
    weft_runtime_destroy(&rt);
}
END_TEST

/* The thread that made it is gone, and with it the only one that may end it: it is told from any other that may not. */
START_TEST(without_its_host_it_is_refused)
{
    weft_runtime *rt;
    pthread_t maker = thread_start(create_and_go, &rt);
    pthread_join(maker, NULL);
    ck_assert_ptr_nonnull(rt);
    ck_assert_int_eq(weft_runtime_step(rt), -EPERM);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("host");
    TCase *tc = add_case(s, "where tasks run");
    tcase_add_test(tc, a_host_that_waits_in_weft_runs_the_tasks);
    tcase_add_test(tc, a_loop_that_polls_the_descriptor_runs_the_tasks);
    tc = add_case(s, "from outside");
    tcase_add_test(tc, what_comes_from_outside_rings);
    tcase_add_loop_test(tc, no_wake_by_another_thread_is_lost, 0, 2);
    tcase_add_test(tc, a_host_may_talk_with_its_own_tasks_and_with_others);
    tc = add_case(s, "steps");
    tcase_add_test(tc, a_step_ends_although_more_is_ready);
    tcase_add_test(tc, what_the_host_does_between_two_steps_is_in_no_tasks_time);
    tcase_add_test(tc, the_wait_is_until_the_first_timer);
    tcase_add_test(tc, virtual_time_passes_while_the_host_waits);
    tcase_add_test(tc, virtual_time_passes_beside_mains_that_nobody_waits_for);
    tc = add_case(s, "deadlocks");
    tcase_add_test(tc, a_deadlock_is_told_while_the_host_waits);
    tcase_add_test(tc, it_is_none_while_the_host_has_something_else_to_do);
    tc = add_case(s, "who may");
    tcase_add_test(tc, only_the_host_steps_and_not_from_a_task);
    tcase_add_test(tc, other_threads_run_mains_on_it);
    tcase_add_test(tc, a_runtime_of_a_host_has_one_worker_and_no_spares);
    tcase_add_test(tc, a_task_of_a_host_destroys_another_runtime);
    tcase_add_test(tc, a_host_has_any_number_of_them);
    tcase_add_test(tc, a_host_may_wait_for_a_descriptor_that_its_task_writes_to);
    if (forking()) {
        tcase_add_test_raise_signal(tc, destroying_it_on_another_thread_aborts, SIGABRT);
        tcase_add_test_raise_signal(tc, destroying_it_in_a_task_of_the_same_host_aborts, SIGABRT);
        tcase_add_test(tc, without_its_host_it_is_refused); /* which it leaves behind */
    }
    tc = add_case(s, "what it leaves");
    tcase_add_test(tc, the_host_keeps_its_signals);
    tcase_add_test(tc, the_host_keeps_its_rounding);
    tcase_add_test(tc, nothing_of_it_is_left);
    tcase_add_test(tc, without_descriptors_it_is_not_made);
    tc = add_case(s, "mains that nobody waits for");
    tcase_add_loop_test(tc, the_end_of_the_runtime_tells_them_and_waits, 0, COUNT(kinds));
    tcase_add_loop_test(tc, a_shutdown_waits_for_them_too, 0, COUNT(kinds));
    tcase_add_loop_test(tc, one_that_is_started_while_the_runtime_ends_is_ended_too, 0, COUNT(kinds));
    tcase_add_loop_test(tc, a_failure_is_reported_and_ends_no_other, 0, COUNT(kinds));
    tcase_add_loop_test(tc, those_that_have_ended_are_let_go, 0, COUNT(kinds));
    tcase_add_loop_test(tc, a_task_starts_one_as_well, 0, COUNT(kinds));
    return run_suite(s);
}
