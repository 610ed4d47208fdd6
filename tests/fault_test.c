/* fault_test.c - when memory, mappings, threads or epoll fail: base/fault.h makes the n-th call fail. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"

enum { IN_A_ROW = 12, MOST_CALLS = 2000 };

static const struct {
    enum weft__fault_kind kind;
    int error;
} faults[] = { { WEFT__FAULT_ALLOC, -ENOMEM }, { WEFT__FAULT_MMAP, -ENOMEM },
    { WEFT__FAULT_THREAD, -EAGAIN }, { WEFT__FAULT_EPOLL_CTL, -ENOSPC }, { WEFT__FAULT_GUARD, -ENOMEM },
    { WEFT__FAULT_MPROTECT, -ENOMEM } };

static int return_7(void *arg)
{
    (void)arg;
    return 7;
}

struct left {
    int threads, descriptors;
};

static struct left now_left(void)
{
    return (struct left){ threads_now(), descriptors_now() };
}

/* "" or what is too much. */
static const char *too_much(struct left before)
{
    return threads_back_to(before.threads) > before.threads ? "threads"
            : descriptors_now() != before.descriptors       ? "descriptors"
                                                            : "";
}

static bool clear_error(int rc)
{
    return rc == -ENOMEM || rc == -EAGAIN || rc == -EMFILE;
}

/* Runs `one` with the first, second, ... call of the kind failing, until it has succeeded often enough in a row. It
 * returns how it went; `succeeded` says whether that was a success. */
static void fail_each(int fault, int (*one)(void), bool (*succeeded)(int rc))
{
    struct left before;
    int row = 0, maps = 0, n = 0, failed = 0;
    ck_assert(succeeded(one())); /* the process's own tables are made, once */
    ck_assert(succeeded(one()));
    before = now_left();
    maps = mappings_now();
    for (n = 1; row < IN_A_ROW && n < MOST_CALLS; n++) {
        weft__fault_set(faults[fault].kind, n, 1, faults[fault].error);
        int rc = one();
        weft__fault_clear();
        row = succeeded(rc) ? row + 1 : 0;
        failed += !succeeded(rc);
        ck_assert_msg(succeeded(rc) || clear_error(rc), "call %d failed: %d", n, rc);
        const char *what = too_much(before);
        ck_assert_msg(what[0] == 0, "call %d failed, %d: %s are left", n, rc, what);
    }
    ck_assert_int_eq(row, IN_A_ROW);
    if (!TSAN) /* which maps shadow of its own for each thread and task */
        ck_assert_int_le(mappings_now(), maps + 16);
    if (faults[fault].kind == WEFT__FAULT_ALLOC || faults[fault].kind == WEFT__FAULT_THREAD ||
            faults[fault].kind == WEFT__FAULT_MMAP || faults[fault].kind == WEFT__FAULT_GUARD)
        ck_assert_int_gt(failed, 0); /* the test tests something */
}

static int one_run(void)
{
    return weft_run(return_7, NULL, QUIETLY_ON(3));
}

static bool gave_7(int rc)
{
    return rc == 7;
}

START_TEST(a_run_fails_clearly_and_leaves_nothing)
{
    fail_each(_i, one_run, gave_7);
}
END_TEST

static int one_runtime(void)
{
    weft_runtime *rt = (weft_runtime *)(void *)&rt, *untouched = rt;
    int rc = weft_runtime_create(&rt, QUIETLY_ON(3));
    if (rc < 0)
        return rt == untouched ? rc : -1;
    rc = weft_runtime_run(rt, return_7, NULL);
    weft_runtime_destroy(&rt);
    return rt == NULL ? rc : -1;
}

START_TEST(a_runtime_fails_clearly_and_leaves_nothing)
{
    fail_each(_i, one_runtime, gave_7);
}
END_TEST

/* The tables that a process has once can be had later if they could not be had at first. */
static void first_run_fails(void *arg)
{
    int nth = *(int *)arg;
    weft__fault_set(WEFT__FAULT_MMAP, nth, 1, -ENOMEM);
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
    for (int nth = 1; nth <= 8; nth++) {
        struct death d = die(first_run_fails, &nth);
        ck_assert_msg(d.status == 0, "mapping %d: %s", nth,
                d.signal          ? "it crashes"
                : d.status == 2 ? "it can never run again"
                                : "no clear error");
    }
}
END_TEST

/* -- a whole program -- */

/* Half of it is spawned with copies and names, some of it sleeps, some reads. Each task counts itself in. */
struct work {
    atomic_int calls;
    int spawned, refused;
    int pair[2];
};

static int work_a_little(void *arg)
{
    struct work *w = arg;
    atomic_fetch_add(&w->calls, 1);
    return weft_sleep(weft_us(50));
}

static int work_on_copy(void *arg)
{
    struct work *w = *(struct work **)arg;
    return work_a_little(w);
}

static int talk(void *arg)
{
    struct work *w = arg;
    char b;
    atomic_fetch_add(&w->calls, 1);
    weft_scope s;
    weft_scope_begin(&s, weft_sec(5));
    return weft_scope_end(&s, weft_read(w->pair[0], &b, 1));
}

static int whole_program(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    char big[256] = { 0 };
    memcpy(big, &w, sizeof(struct work *));
    int rc = weft_pair(w->pair);
    if (rc < 0)
        return rc;
    weft_scope_begin(&s, weft_sec(10));
    weft_task t[30];
    t[0] = weft_spawn(&s, talk, w);
    for (int i = 1; i < COUNT(t); i++)
        t[i] = i % 3 == 0  ? weft_spawn_copy(&s, work_on_copy, big, sizeof big)
                : i % 3 == 1 ? weft_spawn(&s, work_a_little, w)
                             : weft_spawn_with(&s, work_a_little, w,
                                       &(weft_spawn_options){ .name = "named", .stack_bytes = 32768 });
    for (int i = 0; i < COUNT(t); i++) {
        w->spawned += t[i] > 0;
        w->refused += t[i] == -ENOMEM;
    }
    rc = weft_sleep(weft_us(300));
    int wrote = weft_write(w->pair[1], "x", 1);
    if (rc == 0 && wrote < 0)
        rc = wrote;
    rc = weft_scope_end(&s, rc < 0 ? rc : 0);
    weft_close(w->pair[0]);
    weft_close(w->pair[1]);
    return rc;
}

static bool promise_kept;

static int one_program(void)
{
    struct work w = { .spawned = 0 };
    int rc = weft_run(whole_program, &w, QUIETLY_ON(2));
    /* A spawned task was called, unless there was no stack for it, which is then told. */
    promise_kept = atomic_load(&w.calls) == w.spawned ||
            (rc < 0 && atomic_load(&w.calls) < w.spawned);
    if (rc == -ENOSPC)
        rc = -ENOMEM; /* what epoll_ctl said */
    return promise_kept ? rc : -1;
}

static bool gave_0(int rc)
{
    return rc == 0;
}

START_TEST(a_program_fails_clearly_and_leaves_nothing)
{
    fail_each(_i, one_program, gave_0);
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
    p->then = weft_sleep(weft_sec(3));
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
    ck_assert_int_lt(p.took, weft_sec(2));
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
    weft_scope_begin_with(&s, weft_sec(5), &(weft_scope_options){ .on = o->rt, .name = "poor" });
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
    weft_scope_begin_with(&s, weft_sec(5), &(weft_scope_options){ .on = o->rt });
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
    ck_assert_int_lt(o.spawn, 0);
    ck_assert_int_lt(o.copy, 0);
    ck_assert_int_lt(o.with, 0);
    ck_assert_int_lt(o.wait, 0);
    ck_assert_int_eq(o.end, -ENOMEM);
    ck_assert_int_eq(o.end_failed, -EPROTO);
    ck_assert_int_eq(o.sleep, -ENOMEM);
    ck_assert_int_eq(o.yield, -ENOMEM);
    ck_assert_int_eq(o.read, -ENOMEM);
    ck_assert_int_eq(o.then, 0);
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
    int n = COUNT(faults);
    Suite *s = suite_create("fault");
    TCase *tc = add_case(s, "the means");
    tcase_add_test(tc, the_nth_call_fails_and_as_many_as_were_asked);
    tc = add_case(s, "start");
    tcase_add_loop_test(tc, a_run_fails_clearly_and_leaves_nothing, 0, n);
    tcase_add_loop_test(tc, a_runtime_fails_clearly_and_leaves_nothing, 0, n);
    if (forking())
        tcase_add_test(tc, a_first_run_that_found_no_memory_is_not_the_last);
    tc = add_case(s, "program");
    tcase_add_loop_test(tc, a_program_fails_clearly_and_leaves_nothing, 0, n);
    tc = add_case(s, "calls");
    tcase_add_loop_test(tc, spawning_needs_no_memory_beyond_the_block, 0, 2);
    tcase_add_test(tc, a_spawn_without_memory_fails_and_so_does_its_scope);
    tcase_add_test(tc, a_sleep_without_memory_says_so_and_the_next_sleeps);
    tcase_add_loop_test(tc, a_deadline_is_not_lost_when_memory_was_short_once, 0, 2);
    tcase_add_test(tc, a_read_that_cannot_be_registered_says_so_and_takes_nothing);
    tcase_add_loop_test(tc, a_thread_without_memory_gets_clear_errors_and_can_go_on_later, 0, 2);
    if (forking())
        tcase_add_test(tc, without_room_for_its_slot_no_descriptor_is_opened);
    return run_suite(s);
}
