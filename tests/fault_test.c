/* fault_test.c - single calls that fail for want of something, made to by base/fault.h; all of them, each in turn:
 * fault_calls_test.c. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"
#include "machine/stack.h"

static int return_7(void *arg)
{
    (void)arg;
    return 7;
}

static bool clear_error(int rc)
{
    return rc == -ENOMEM || rc == -EAGAIN || rc == -EMFILE;
}

/* The tables that a process has once, and a key, can be had later if they could not be had at first. */
static const struct {
    enum weft__fault_kind kind;
    int calls;
} first_faults[] = { { WEFT__FAULT_MMAP, 8 }, { WEFT__FAULT_KEY, 2 } };

struct first {
    enum weft__fault_kind kind;
    int nth;
};

static void first_run_fails(void *arg)
{
    const struct first *f = arg;
    weft__fault_set(f->kind, f->nth, 1, -ENOMEM);
    int rc = weft_run(return_7, NULL, QUIETLY_ON(1));
    weft__fault_clear();
    if (rc == 7)
        _exit(0);
    if (!clear_error(rc))
        _exit(1);
    for (int i = 0; i < 3; i++)
        rc = weft_run(return_7, NULL, QUIETLY_ON(1));
    _exit(rc == 7 ? 0 : 2);
}

START_TEST(a_first_run_that_found_no_memory_is_not_the_last)
{
    struct first f = { .kind = first_faults[_i].kind };
    for (f.nth = 1; f.nth <= first_faults[_i].calls; f.nth++) {
        struct death d = die(first_run_fails, &f);
        ck_assert_msg(d.status == 0, "call %d: %s", f.nth,
                d.signal          ? "it crashes"
                : d.status == 2 ? "it can never run again"
                                : "no clear error");
    }
}
END_TEST

/* The library closes through this one. A number that is closed twice may be another thread's by then. */
static atomic_int closed_in_vain;
int close(int fd)
{
    int rc = (int)syscall(SYS_close, fd);
    if (rc < 0 && errno == EBADF)
        atomic_fetch_add(&closed_in_vain, 1);
    return rc;
}

START_TEST(what_was_opened_for_a_failed_start_is_closed_once)
{
    static const struct {
        enum weft__fault_kind kind;
        int nth;
    } last[] = { { WEFT__FAULT_EPOLL_CREATE, 2 }, { WEFT__FAULT_EVENTFD, 1 }, { WEFT__FAULT_EPOLL_CTL, 1 },
        { WEFT__FAULT_EPOLL_CTL, 2 } };
    int before = descriptors_now();
    atomic_store(&closed_in_vain, 0);
    weft__fault_set(last[_i].kind, last[_i].nth, 1, -EMFILE);
    ck_assert_int_eq(weft_run(return_7, NULL, ON(1)), -EMFILE);
    weft__fault_clear();
    ck_assert_int_eq(atomic_load(&closed_in_vain), 0);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

static int sleep_a_little(void *arg)
{
    (void)arg;
    return weft_sleep(weft_ms(50));
}

START_TEST(a_kernel_that_refuses_epoll_pwait2_does_not_make_it_spin)
{
    int64_t began = weft_now();
    weft__fault_set(WEFT__FAULT_EPOLL_WAIT, 1, LONG_MAX, -EPERM);
    ck_assert_int_eq(weft_run(sleep_a_little, NULL, ON(1)), 0);
    long calls = weft__fault_calls(WEFT__FAULT_EPOLL_WAIT);
    weft__fault_clear();
    ck_assert_int_lt(calls, 10 * (weft_now() - began) / weft_ms(1)); /* 500, or as many more as it took longer */
}
END_TEST

/* How many stacks can be guarded by mprotect is read from a file. Without a descriptor for that a guess has to do, but
 * not for ever. */
static int begin_and_sleep(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep(WEFT_NEVER);
}

static int guard_by_map_without_descriptors(void *arg)
{
    struct rlimit before, none;
    atomic_int begun = 0;
    (void)arg;
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = 0;
    weft__fault_set(WEFT__FAULT_GUARD, 1, LONG_MAX, -EINVAL);
    setrlimit(RLIMIT_NOFILE, &none);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, begin_and_sleep, &begun);
    bool both = wait_for(&begun, 1);
    bool guessed = at_load(&weft__stack_limit) == 0;
    setrlimit(RLIMIT_NOFILE, &before);
    weft_spawn(&s, begin_and_sleep, &begun); /* the first keeps its stack, so this one needs another */
    both = both && wait_for(&begun, 2);
    weft_scope_cancel(&s, NULL);
    int rc = weft_scope_end(&s, 0);
    return rc < 0 ? rc : !both ? -ETIME : !guessed ? -EPROTO : at_load(&weft__stack_limit) == 0 ? -ENODATA : 0;
}

static void read_limit_late(void *arg)
{
    int rc = weft_run(guard_by_map_without_descriptors, arg, ON(1));
    _exit(rc == 0 ? 0 : rc == -EPROTO ? 3 : rc == -ENODATA ? 4 : 5);
}

START_TEST(a_limit_that_could_not_be_read_is_read_later)
{
    struct death d = die(read_limit_late, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 0);
}
END_TEST

/* -- single calls -- */

struct single {
    int rc, then, end;
    int calls;
    atomic_int many;
    int64_t took;
};

static int count_up(void *arg)
{
    atomic_fetch_add(&((struct single *)arg)->many, 1);
    return 0;
}

/* The deque cannot grow: what does not fit goes another way, and all of it runs. */
static int spawn_without_memory(void *arg)
{
    struct single *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft__fault_set(WEFT__FAULT_ALLOC, 1, LONG_MAX, -ENOMEM);
    for (int i = 0; i < 5000; i++)
        p->calls += weft_spawn(&s, count_up, p) > 0;
    weft__fault_clear();
    return weft_scope_end(&s, 0);
}

START_TEST(spawning_needs_no_memory_beyond_the_block)
{
    struct single p = { .rc = 1 };
    ck_assert_int_eq(weft_run(spawn_without_memory, &p, ON(1 + _i)), 0);
    ck_assert_int_eq(p.calls, 5000);
    ck_assert_int_eq(atomic_load(&p.many), 5000);
}
END_TEST

static int copy_without_memory(void *arg)
{
    struct single *p = arg;
    char big[1000] = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft__fault_set(WEFT__FAULT_ALLOC, 1, LONG_MAX, -ENOMEM);
    p->rc = (int)weft_spawn_copy(&s, count_up, big, sizeof big);
    weft__fault_clear();
    p->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(a_spawn_without_memory_fails_and_so_does_its_scope)
{
    struct single p = { .rc = 1 };
    ck_assert_int_eq(weft_run(copy_without_memory, &p, ON(1)), 0);
    ck_assert_int_eq(p.rc, -ENOMEM);
    ck_assert_int_eq(p.end, -ENOMEM);
    ck_assert_int_eq(atomic_load(&p.many), 0);
}
END_TEST

static int sleep_without_memory(void *arg)
{
    struct single *p = arg;
    weft__fault_set(WEFT__FAULT_ALLOC, 1, LONG_MAX, -ENOMEM);
    p->rc = weft_sleep(weft_ms(1));
    weft__fault_clear();
    p->then = weft_sleep(weft_ms(1));
    return 0;
}

START_TEST(a_sleep_without_memory_says_so_and_the_next_sleeps)
{
    struct single p = { .rc = 1, .then = 1 };
    ck_assert_int_eq(weft_run(sleep_without_memory, &p, ON(1)), 0);
    ck_assert_int_eq(p.rc, -ENOMEM);
    ck_assert_int_eq(p.then, 0);
}
END_TEST

/* A deadline whose timer could not be armed at the first wait still ends the later ones. */
static int deadline_without_memory(void *arg)
{
    struct single *p = arg;
    weft_scope s;
    int64_t start = weft_now();
    weft_scope_begin(&s, weft_ms(20));
    weft__fault_set(WEFT__FAULT_ALLOC, 1, LONG_MAX, -ENOMEM);
    p->rc = weft_sleep(weft_ms(1));
    weft__fault_clear();
    p->then = weft_sleep(LIMIT);
    p->took = weft_now() - start;
    p->end = weft_scope_end(&s, p->then);
    return 0;
}

START_TEST(a_deadline_is_not_lost_when_memory_was_short_once)
{
    struct single p = { .rc = 1, .then = 1 };
    ck_assert_int_eq(weft_run(deadline_without_memory, &p, ON(1 + _i)), 0);
    ck_assert_int_eq(p.rc, -ENOMEM);
    ck_assert_int_eq(p.then, -ECANCELED);
    ck_assert_int_eq(p.end, -ETIMEDOUT);
    ck_assert_int_lt(p.took, LIMIT / 2);
}
END_TEST

static int read_without_epoll(void *arg)
{
    struct single *p = arg;
    int fds[2];
    char b;
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    weft__fault_set(WEFT__FAULT_EPOLL_CTL, 1, 1, -ENOSPC);
    p->rc = weft_read(fds[0], &b, 1);
    weft__fault_clear();
    rc = weft_write(fds[1], "x", 1);
    p->then = weft_read(fds[0], &b, 1);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return rc < 0 ? rc : 0;
}

START_TEST(a_read_that_cannot_be_registered_says_so_and_takes_nothing)
{
    struct single p = { .rc = 1, .then = 1 };
    ck_assert_int_eq(weft_run(read_without_epoll, &p, ON(1)), 0);
    ck_assert_int_eq(p.rc, -ENOSPC);
    ck_assert_int_eq(p.then, 1);
}
END_TEST

static int pair_without_slots(void *arg)
{
    struct single *p = arg;
    int fds[2];
    weft__fault_set(WEFT__FAULT_MMAP, 1, LONG_MAX, -ENOMEM);
    p->rc = weft_pair(fds);
    weft__fault_clear();
    p->then = weft_pair(fds);
    if (p->then == 0) {
        weft_close(fds[0]);
        weft_close(fds[1]);
    }
    return 0;
}

static void first_pair(void *arg)
{
    struct single p = { .rc = 1, .then = 1 };
    (void)arg;
    int before = descriptors_now();
    if (weft_run(pair_without_slots, &p, ON(1)) != 0)
        _exit(1);
    _exit(p.rc == -ENOMEM && p.then == 0 && descriptors_now() == before ? 0 : 2);
}

START_TEST(without_room_for_its_slot_no_descriptor_is_opened)
{
    struct death d = die(first_pair, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 0);
}
END_TEST

/* -- a plain thread that finds no memory for its own frame -- */

struct outsider {
    weft_runtime *rt;
    bool cancel_first;
    int spawn, copy, with, wait, end, end_failed, sleep, yield, read, then;
};

static int touch(void *arg)
{
    (void)arg;
    return 0;
}

static void *no_memory_for_me(void *arg)
{
    struct outsider *o = arg;
    weft_scope s;
    char b;
    weft__fault_set(WEFT__FAULT_ALLOC, 1, LONG_MAX, -ENOMEM);
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = o->rt, .name = "poor" });
    if (o->cancel_first)
        weft_scope_cancel(&s, "reason");
    o->spawn = (int)weft_spawn(&s, touch, NULL);
    o->copy = (int)weft_spawn_copy(&s, touch, &b, 1);
    o->with = (int)weft_spawn_with(&s, touch, NULL, &(weft_spawn_options){ .name = "poor" });
    weft_scope_cancel(&s, "reason");
    weft_scope_set_deadline(&s, weft_after(weft_sec(1)));
    o->wait = weft_scope_wait(&s);
    weft_ignore(weft_scope_alive(&s) + weft_scope_failed(&s) + weft_scope_expired(&s));
    o->end = weft_scope_end(&s, 0);
    weft_scope_begin(&s, WEFT_NEVER);
    o->end_failed = weft_scope_end(&s, -EPROTO);
    o->sleep = weft_sleep(weft_ms(1));
    o->yield = weft_yield();
    o->read = weft_read(0, &b, 1);
    weft__fault_clear();
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = o->rt });
    weft_spawn(&s, touch, NULL);
    o->then = weft_scope_end(&s, weft_sleep(weft_us(10)));
    return NULL;
}

START_TEST(a_thread_without_memory_gets_clear_errors_and_can_go_on_later)
{
    struct outsider o = { .cancel_first = _i, .then = 1 };
    ck_assert_int_eq(weft_runtime_create(&o.rt, ON(1)), 0);
    pthread_join(thread_start(no_memory_for_me, &o), NULL);
    weft_runtime_destroy(&o.rt);
    ck_assert_int_eq(o.spawn, -ENOMEM);
    ck_assert_int_eq(o.copy, -ENOMEM);
    ck_assert_int_eq(o.with, -ENOMEM);
    ck_assert_int_eq(o.wait, -ENOMEM);
    ck_assert_int_eq(o.end, -ENOMEM);
    ck_assert_int_eq(o.end_failed, -EPROTO);
    ck_assert_int_eq(o.sleep, -ENOMEM);
    ck_assert_int_eq(o.yield, -ENOMEM);
    ck_assert_int_eq(o.read, -ENOMEM);
    ck_assert_int_eq(o.then, 0);
}
END_TEST

/* -- a runtime's main that finds no memory for its scope does not run elsewhere -- */

struct two {
    weft_runtime *a, *b;
    int thread_of_a, ran_on;
};

static int note_thread(void *arg)
{
    *(int *)arg = thread_id();
    return 7;
}

static void *run_within(void *arg)
{
    struct two *t = arg;
    weft_scope s;
    int end = -1;
    for (int nth = 1; nth < 8 && end >= -1; nth++) {
        t->ran_on = 0;
        weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = t->a });
        weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
        int rc = weft_runtime_run(t->b, note_thread, &t->ran_on);
        weft__fault_clear();
        if (weft_scope_end(&s, 0) != 0 || t->ran_on == t->thread_of_a || (rc != 7 && rc != -ENOMEM) ||
                (rc == 7) != (t->ran_on != 0))
            end = -2;
    }
    t->ran_on = end;
    return NULL;
}

START_TEST(a_main_without_memory_for_its_scope_runs_nowhere)
{
    struct two t = { .ran_on = 0 };
    ck_assert_int_eq(weft_runtime_create(&t.a, QUIETLY_ON(1)), 0);
    ck_assert_int_eq(weft_runtime_create(&t.b, QUIETLY_ON(1)), 0);
    ck_assert_int_eq(weft_runtime_run(t.a, note_thread, &t.thread_of_a), 7);
    pthread_join(thread_start(run_within, &t), NULL);
    weft_runtime_destroy(&t.a);
    weft_runtime_destroy(&t.b);
    ck_assert_int_eq(t.ran_on, -1);
}
END_TEST

/* -- a deadline that cannot be kept ends its scope all the same -- */

static int sleep_for_ever(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static int move_without_memory(void *arg)
{
    struct single *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleep_for_ever, &p->many);
    wait_for(&p->many, 1);
    weft__fault_set(WEFT__FAULT_ALLOC, 1, LONG_MAX, -ENOMEM);
    weft_scope_set_deadline(&s, weft_after(weft_ms(1)));
    p->end = weft_scope_end(&s, 0);
    weft__fault_clear();
    return 0;
}

START_TEST(a_moved_deadline_without_memory_fails_its_scope)
{
    struct single p = { .end = 1 };
    ck_assert_int_eq(weft_run(move_without_memory, &p, ON(1)), 0);
    ck_assert_int_eq(p.end, -ENOMEM);
}
END_TEST

/* -- a listener whose connections all die before they are taken -- */

static int accept_the_dead(void *arg)
{
    struct single *p = arg;
    weft_scope s;
    int l = weft_listen("127.0.0.1:0", NULL);
    if (l < 0)
        return l;
    weft_scope_begin(&s, weft_ms(20));
    weft_spawn(&s, count_up, p);
    weft__fault_set(WEFT__FAULT_ACCEPT, 1, LONG_MAX, -ECONNABORTED);
    p->rc = weft_accept(l);
    weft__fault_clear();
    p->end = weft_scope_end(&s, p->rc);
    weft_close(l);
    return 0;
}

START_TEST(connections_that_die_in_the_queue_do_not_hold_up_others_or_a_deadline)
{
    struct single p = { .rc = 1 };
    ck_assert_int_eq(weft_run(accept_the_dead, &p, ON(1)), 0);
    ck_assert_int_eq(p.rc, -ECANCELED);
    ck_assert_int_eq(p.end, -ETIMEDOUT);
    ck_assert_int_eq(atomic_load(&p.many), 1);
}
END_TEST

/* -- the second half of a pair finds no slot: the first half's number is not weft's any more -- */

static int pair_across_tables(void *arg)
{
    enum { TABLE = 8192 }; /* slots that are committed at once */
    int fds[2], pipes[2], full[TABLE], n = 0;
    char b = 0;
    (void)arg;
    if (weft_pair(fds) < 0 || pipe2(pipes, O_CLOEXEC) < 0) /* so the first table is there */
        return -EMFILE;
    while (n < TABLE && (full[n] = fcntl(pipes[1], F_DUPFD_CLOEXEC, 0)) >= 0 && full[n] < TABLE - 2)
        n++;
    if (n == TABLE || full[n] < 0)
        return 77;
    weft__fault_set(WEFT__FAULT_MMAP, 1, 1, -ENOMEM);
    int rc = weft_pair(fds);
    weft__fault_clear();
    if (rc != -ENOMEM)
        return -EPROTO;
    int foreign = fcntl(pipes[0], F_DUPFD_CLOEXEC, 0);
    if (foreign != TABLE - 1)
        return -EPROTO;
    if (write(pipes[1], "x", 1) != 1)
        return -EIO;
    rc = weft_read(foreign, &b, 1); /* a pipe, not a socket */
    return rc == 1 && b == 'x' ? 0 : rc;
}

static void pair_in_a_process(void *arg)
{
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    int rc = weft_run(pair_across_tables, arg, ON(1));
    _exit(rc < 0 ? 1 : rc);
}

START_TEST(a_pair_that_fails_in_the_middle_leaves_its_numbers_to_others)
{
    struct death d = die(pair_in_a_process, NULL);
    ck_assert_int_eq(d.signal, 0);
    if (d.status == 77)
        fprintf(stderr, "skipped: fewer than 8200 descriptors may be had\n");
    else
        ck_assert_int_eq(d.status, 0);
}
END_TEST

/* -- B-107: while nothing is to be had, whoever needs nothing goes on -- */

struct others {
    atomic_int rounds, stop;
    int fds[2], failed, refused;
};

static int play(void *arg)
{
    struct others *o = *(struct others **)arg;
    char b = 'b';
    while (!atomic_load(&o->stop)) {
        int rc = weft_write(o->fds[0], &b, 1);
        if (rc == 1)
            rc = weft_read(o->fds[1], &b, 1);
        if (rc != 1)
            return rc < 0 ? rc : -EIO;
        atomic_fetch_add(&o->rounds, 1);
        weft_ignore(weft_yield());
    }
    return 0;
}

/* Everything there is, one after the other; each may fail, and says so. */
static int want_everything(void *arg)
{
    struct others *o = arg;
    int fds[2];
    char large[3000] = { 0 };
    weft_scope s;
    weft_scope_begin_with(&s, weft_sec(1), &(weft_scope_options){ .name = "wants" });
    o->refused += weft_spawn_copy(&s, return_7, large, sizeof large) < 0;
    o->refused += weft_spawn_with(&s, return_7, NULL, &(weft_spawn_options){ .stack_bytes = 4 << 20 }) < 0;
    weft_scope_cancel(&s, "a reason");
    int rc = weft_pair(fds);
    if (rc == 0) {
        weft_close(fds[0]);
        weft_close(fds[1]);
    }
    o->failed += rc < 0;
    o->failed += weft_scope_end(&s, weft_fail(-EPROTO, "in words")) < 0;
    o->failed += weft_blocking(return_7, NULL) < 0;
    o->failed += weft_listen("127.0.0.1:0", NULL) < 0;
    return 0;
}

static int others_go_on(void *arg)
{
    static const enum weft__fault_kind all[] = { WEFT__FAULT_ALLOC, WEFT__FAULT_MMAP, WEFT__FAULT_GUARD,
        WEFT__FAULT_MPROTECT, WEFT__FAULT_THREAD, WEFT__FAULT_KEY, WEFT__FAULT_EPOLL_CREATE, WEFT__FAULT_EPOLL_CTL,
        WEFT__FAULT_EVENTFD, WEFT__FAULT_SOCKET, WEFT__FAULT_ACCEPT };
    struct others *o = arg;
    weft_scope s;
    int rc = weft_pair(o->fds);
    if (rc < 0)
        return rc;
    weft_scope_begin(&s, weft_sec(20));
    weft_spawn_copy(&s, play, &o, sizeof o);
    wait_for(&o->rounds, 10);
    for (int i = 0; i < COUNT(all); i++)
        weft__fault_set(all[i], 1, LONG_MAX, -ENOMEM);
    int before = atomic_load(&o->rounds);
    for (int i = 0; i < 50; i++)
        want_everything(o);
    bool went_on = wait_for(&o->rounds, before + 100);
    weft__fault_clear();
    atomic_store(&o->stop, 1);
    rc = weft_scope_end(&s, 0);
    weft_close(o->fds[0]);
    weft_close(o->fds[1]);
    return rc < 0 ? rc : went_on ? 0 : -ETIME;
}

START_TEST(while_nothing_is_to_be_had_others_go_on)
{
    struct others o = { .failed = 0 };
    ck_assert_int_eq(weft_run(others_go_on, &o, QUIETLY_ON(1 + _i)), 0);
    ck_assert_int_ge(o.refused, 50);
    ck_assert_int_eq(o.failed, 4 * 50);
}
END_TEST

/* -- the means themselves -- */

START_TEST(the_nth_call_fails_and_as_many_as_were_asked)
{
    for (int nth = 1; nth < 5; nth++)
        for (int count = 1; count < 5; count++) {
            weft__fault_set(WEFT__FAULT_ACCEPT, nth, count, -EMFILE);
            for (int i = 1; i < 12; i++) {
                int rc = weft__fault(WEFT__FAULT_ACCEPT);
                ck_assert_int_eq(rc, i >= nth && i < nth + count ? -EMFILE : 0);
                ck_assert_int_eq(weft__fault(WEFT__FAULT_THREAD), 0);
            }
            weft__fault_clear();
            ck_assert_int_eq(weft__fault(WEFT__FAULT_ACCEPT), 0);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fault");
    TCase *tc = add_case(s, "the means");
    tcase_add_test(tc, the_nth_call_fails_and_as_many_as_were_asked);
    tc = add_case(s, "start");
    tcase_add_loop_test(tc, what_was_opened_for_a_failed_start_is_closed_once, 0, 4);
    tcase_add_test(tc, a_kernel_that_refuses_epoll_pwait2_does_not_make_it_spin);
    if (forking()) {
        tcase_add_loop_test(tc, a_first_run_that_found_no_memory_is_not_the_last, 0, COUNT(first_faults));
        tcase_add_test(tc, a_limit_that_could_not_be_read_is_read_later);
    }
    tc = add_case(s, "calls");
    tcase_add_loop_test(tc, spawning_needs_no_memory_beyond_the_block, 0, 2);
    tcase_add_test(tc, a_spawn_without_memory_fails_and_so_does_its_scope);
    tcase_add_test(tc, a_sleep_without_memory_says_so_and_the_next_sleeps);
    tcase_add_loop_test(tc, a_deadline_is_not_lost_when_memory_was_short_once, 0, 2);
    tcase_add_test(tc, a_read_that_cannot_be_registered_says_so_and_takes_nothing);
    tcase_add_loop_test(tc, a_thread_without_memory_gets_clear_errors_and_can_go_on_later, 0, 2);
    tcase_add_test(tc, a_main_without_memory_for_its_scope_runs_nowhere);
    tcase_add_test(tc, a_moved_deadline_without_memory_fails_its_scope);
    tcase_add_test(tc, connections_that_die_in_the_queue_do_not_hold_up_others_or_a_deadline);
    tcase_add_loop_test(tc, while_nothing_is_to_be_had_others_go_on, 0, 2);
    if (forking()) {
        tcase_add_test(tc, without_room_for_its_slot_no_descriptor_is_opened);
        tcase_add_test(tc, a_pair_that_fails_in_the_middle_leaves_its_numbers_to_others);
    }
    return run_suite(s);
}
