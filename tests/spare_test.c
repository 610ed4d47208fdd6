/* spare_test.c - spare workers: engine/spare.c. What others wait for is the very thing that the held workers wait for, so
 * without a spare nothing would move before LIMIT. B-005, B-076, C-01, C-06. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"

enum { MANY = 12 };
#define SOON weft_ms(6)

struct held {
    atomic_int open;    /* what the held ones wait for */
    atomic_int holding; /* how many of them there are */
    atomic_int late;
    atomic_int waiting; /* who waits has begun to */
    _Atomic weft_task cancelled; /* who is to be told, by its id; 0: nobody */
    atomic_llong held_at; /* when the last one came to hold its worker */
    int64_t took;       /* from then until who waited by its turn had it */
    int end[2];         /* a pipe or a socket pair */
    int holders, seats;
    bool in_time;
};

static void holds(struct held *h)
{
    atomic_store(&h->held_at, weft_now());
    atomic_fetch_add(&h->holding, 1);
}

/* Holds its worker, computing: never calls weft. */
static int computes(void *arg)
{
    struct held *h = arg;
    int64_t end = weft_after(LIMIT);
    holds(h);
    while (!atomic_load(&h->open))
        if (weft_now() > end) {
            atomic_fetch_add(&h->late, 1);
            break;
        }
    return 0;
}

/* Holds its worker, in a system call that ends when `open` is set. */
static int blocks(void *arg)
{
    struct held *h = arg;
    int64_t end = weft_after(LIMIT);
    holds(h);
    while (!atomic_load(&h->open)) {
        poll(NULL, 0, 10); /* longer than it takes to be held */
        if (weft_now() > end) {
            atomic_fetch_add(&h->late, 1);
            break;
        }
    }
    return 0;
}

static bool all_hold(struct held *h)
{
    return wait_for(&h->holding, h->holders);
}

/* ---- who waits, and sets `open` */

static int by_its_turn(void *arg)
{
    struct held *h = arg;
    bool there = all_hold(h);
    h->took = weft_now() - atomic_load(&h->held_at);
    atomic_store(&h->open, 1);
    return there ? 0 : -ETIME;
}

static int by_a_timer(void *arg)
{
    struct held *h = arg;
    bool there = all_hold(h);
    int rc = weft_sleep(weft_ms(20)); /* by then all hold, this worker too */
    atomic_store(&h->open, 1);
    return there ? rc : -ETIME;
}

static int by_a_descriptor(void *arg)
{
    struct held *h = arg;
    char byte;
    ssize_t n = weft_read(h->end[0], &byte, 1);
    atomic_store(&h->open, 1);
    return n == 1 ? 0 : -EIO;
}

/* Of these deadlines the last begins before all hold, since who begins it has a worker, and passes when they do. */
static int by_a_deadline(void *arg)
{
    struct held *h = arg;
    int64_t end = weft_after(LIMIT);
    int rc;
    atomic_store(&h->waiting, 1);
    do {
        weft_scope s;
        weft_scope_begin(&s, weft_ms(20));
        rc = weft_scope_end(&s, weft_sleep_until(WEFT_NEVER));
    } while (rc == -ETIMEDOUT && atomic_load(&h->holding) < h->holders && weft_now() < end);
    bool there = atomic_load(&h->holding) == h->holders;
    atomic_store(&h->open, 1);
    return there && rc == -ETIMEDOUT ? 0 : -ETIME;
}

static int by_a_cancel(void *arg)
{
    struct held *h = arg;
    atomic_store(&h->cancelled, weft_task_self());
    atomic_store(&h->waiting, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    bool there = atomic_load(&h->holding) == h->holders;
    atomic_store(&h->open, 1);
    return there && rc == -ECANCELED ? 0 : -ETIME;
}

/* Ends the waits for a descriptor and for a cancel. */
static void *comes_from_outside(void *arg)
{
    struct held *h = arg;
    if (wait_for(&h->holding, h->holders)) {
        usleep(20000); /* and nobody polls any more */
        weft_task t = atomic_load(&h->cancelled);
        if (write(h->end[1], "x", 1) != 1 || (t != 0 && weft_task_cancel(t, NULL) != 0))
            return NULL;
    }
    return h;
}

static weft_fn *const holders[] = { computes, blocks };
static weft_fn *const waiters[] = { by_its_turn, by_a_timer, by_a_descriptor, by_a_deadline, by_a_cancel };

static int hold_all(struct held *h, weft_fn *holder, weft_fn *waiter)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, waiter, h);
    bool there = (waiter != by_a_deadline && waiter != by_a_cancel) || wait_for(&h->waiting, 1);
    for (int i = 0; i < h->holders; i++)
        weft_spawn(&s, holder, h);
    int rc = weft_scope_end(&s, there ? 0 : -ETIME);
    h->seats = weft_stats(NULL, NULL, 0);
    h->in_time = atomic_load(&h->late) == 0;
    return rc;
}

static int which; /* of the two tables */
static int as_the_tables_say(void *arg)
{
    return hold_all(arg, holders[which % COUNT(holders)], waiters[which / COUNT(holders)]);
}

START_TEST(what_waits_goes_on_while_all_workers_are_held)
{
    struct held h = { .holders = 2 };
    pthread_t thread;
    void *wrote;
    which = _i;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, h.end), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, comes_from_outside, &h), 0);
    ck_assert_int_eq(weft_run(as_the_tables_say, &h, ON(2)), 0);
    pthread_join(thread, &wrote);
    ck_assert_ptr_nonnull(wrote);
    ck_assert(h.in_time);
    ck_assert_int_gt(h.seats, 2);
    close(h.end[0]);
    close(h.end[1]);
}
END_TEST

/* The first time the spare's thread is started, the second time it is woken. */
struct twice {
    struct held h;
    int64_t best[2];
};

static int hold_all_twice(void *arg)
{
    struct twice *t = arg;
    int rc = 0;
    for (int i = 0; i < COUNT(t->best) && rc == 0; i++) {
        atomic_store(&t->h.open, 0);
        atomic_store(&t->h.holding, 0);
        rc = hold_all(&t->h, blocks, by_its_turn);
        t->best[i] = t->h.took < t->best[i] ? t->h.took : t->best[i];
        if (rc == 0)
            rc = weft_sleep(weft_ms(1)); /* all are parked meanwhile */
    }
    return rc;
}

/* In 4 ms (runtime.h), and what the machine takes to wake a thread, in the best of the tries. */
START_TEST(what_waits_goes_on_soon_after_the_last_worker_is_held)
{
    struct twice t = { .h.holders = 2, .best = { LIMIT, LIMIT } };
    bool timed = !TSAN && !ASAN && !chaos();
    int64_t end = weft_after(LIMIT);
    for (int i = 0; i < 3 || (timed && (t.best[0] > SOON || t.best[1] > SOON) && weft_now() < end); i++) {
        ck_assert_int_eq(weft_run(hold_all_twice, &t, &(weft_options){ .workers = 2, .spares = 1 }), 0);
        ck_assert(t.h.in_time);
        ck_assert_int_eq(t.h.seats, 3);
    }
    if (timed) {
        ck_assert_int_le(t.best[0], SOON);
        ck_assert_int_le(t.best[1], SOON);
    }
}
END_TEST

static int many_block(void *arg)
{
    return hold_all(arg, blocks, by_its_turn);
}

/* Each that blocks is given another thread. */
START_TEST(more_block_than_there_are_workers)
{
    struct held h = { .holders = MANY };
    ck_assert_int_eq(weft_run(many_block, &h, ON(2)), 0);
    ck_assert(h.in_time);
    ck_assert_int_gt(h.seats, MANY);
}
END_TEST

START_TEST(one_worker_has_a_spare_if_it_is_asked_for)
{
    struct held h = { .holders = 1 };
    ck_assert_int_eq(weft_run(many_block, &h, &(weft_options){ .workers = 1, .spares = 1 }), 0);
    ck_assert(h.in_time);
    ck_assert_int_eq(h.seats, 2);
}
END_TEST

/* ---- where there are none */

struct alone {
    atomic_int inside, met; /* tasks that run just now, and whether two ever did */
    int seats;
};

static int64_t real_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * weft_sec(1) + t.tv_nsec;
}

/* For longer than five ticks, and never calls weft. */
static int alone_for_a_while(void *arg)
{
    struct alone *a = arg;
    int64_t end = real_now() + weft_ms(10);
    if (atomic_fetch_add(&a->inside, 1) != 0)
        atomic_store(&a->met, 1);
    while (real_now() < end)
        continue;
    atomic_fetch_sub(&a->inside, 1);
    return 0;
}

static int some_alone(void *arg)
{
    struct alone *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 6; i++)
        weft_spawn(&s, alone_for_a_while, a);
    int rc = weft_scope_end(&s, 0);
    a->seats = weft_stats(NULL, NULL, 0);
    return rc;
}

START_TEST(of_one_workers_tasks_no_two_run_at_once)
{
    static const weft_options how[] = { { .workers = 1 },
        { .workers = 1, .clock = WEFT_CLOCK_VIRTUAL, .spares = 3 },
        { .workers = 1, .spares = -1 },
        { .workers = 0 } }; /* and WEFT_WORKERS=1 */
    struct alone a = { .seats = 0 };
    if (_i == 3)
        ck_assert_int_eq(setenv("WEFT_WORKERS", "1", 1), 0);
    int rc = weft_run(some_alone, &a, &how[_i]);
    if (_i == 3)
        unsetenv("WEFT_WORKERS");
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&a.met), 0);
    ck_assert_int_eq(a.seats, 1);
}
END_TEST

START_TEST(there_are_no_more_than_were_asked_for)
{
    struct alone a = { .seats = 0 };
    struct held h = { .holders = 3 };
    ck_assert_int_eq(weft_run(some_alone, &a, &(weft_options){ .workers = 2, .spares = -1 }), 0);
    ck_assert_int_eq(a.seats, 2);
    ck_assert_int_eq(weft_run(many_block, &h, &(weft_options){ .workers = 2, .spares = 2 }), 0);
    ck_assert(h.in_time);
    ck_assert_int_eq(h.seats, 4);
}
END_TEST

START_TEST(bad_numbers_are_refused)
{
    struct alone a = { .seats = 0 };
    ck_assert_int_eq(weft_run(some_alone, &a, &(weft_options){ .spares = -2 }), -EINVAL);
    ck_assert_int_eq(weft_run(some_alone, &a, &(weft_options){ .spares = 1025 }), -EINVAL);
    ck_assert_int_eq(weft_run(some_alone, &a, &(weft_options){ .workers = 2, .spares = 1024 }), 0);
}
END_TEST

/* ---- one that blocks, and another that does not: two processors are to be used */

static int stays_busy(void *arg)
{
    struct held *h = arg;
    int64_t end = weft_after(LIMIT);
    bool there = true;
    while (!atomic_load(&h->open) && there) {
        there = weft_now() < end;
        if (weft_stats(NULL, NULL, 0) > 2)
            atomic_store(&h->open, 1);
        weft_ignore(weft_yield());
    }
    return there ? 0 : -ETIME;
}

/* A worker that moves all the time, and more of its kind behind: it alone would not be held. */
static int one_blocks(void *arg)
{
    struct held *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, blocks, h);
    bool there = all_hold(h);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, stays_busy, h);
    int rc = weft_scope_end(&s, there ? 0 : -ETIME);
    h->in_time = atomic_load(&h->late) == 0;
    return rc;
}

START_TEST(a_processor_that_one_leaves_unused_gets_another)
{
    struct held h = { .holders = 1 };
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2)
        return; /* there is no other */
    ck_assert_int_eq(weft_run(one_blocks, &h, ON(2)), 0);
    ck_assert(h.in_time);
}
END_TEST

/* ---- when it is over */

/* Both workers are free again, and have enough to do: the spare goes, although what it was given never ends. */
static int over(void *arg)
{
    struct held *h = arg;
    int64_t end = weft_after(LIMIT);
    weft_runtime_stats all = { .spares = 1 };
    if (!wait_for(&h->open, 1))
        return -ETIME;
    while (all.spares > 0 && weft_now() < end) {
        weft_ignore(weft_yield());
        if (weft_stats_all(NULL, &all) < 0)
            return -EIO;
    }
    atomic_store(&h->open, 2);
    return all.spares == 0 ? 0 : -ETIME;
}

static int yields_on(void *arg)
{
    struct held *h = arg;
    return wait_for(&h->open, 2) ? 0 : -ETIME;
}

static int then_over(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 20; i++)
        weft_spawn(&s, yields_on, arg);
    weft_spawn(&s, over, arg);
    int rc = hold_all(arg, computes, by_its_turn);
    return weft_scope_end(&s, rc);
}

START_TEST(a_spare_goes_when_workers_are_free)
{
    struct held h = { .holders = 2 };
    ck_assert_int_eq(weft_run(then_over, &h, ON(2)), 0);
    ck_assert(h.in_time);
    ck_assert_int_gt(h.seats, 2);
}
END_TEST

static int again_and_again(void *arg)
{
    struct held *h = arg;
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++) {
        atomic_store(&h->open, 0);
        atomic_store(&h->holding, 0);
        rc = hold_all(h, holders[i % 2], by_its_turn);
        if (rc == 0 && i % 3 == 0)
            rc = weft_sleep(weft_ms(1)); /* all are parked meanwhile */
    }
    return rc;
}

/* The same ones are used again. Two, if the second worker was late. */
START_TEST(a_spare_is_used_again)
{
    struct held h = { .holders = 2 };
    ck_assert_int_eq(weft_run(again_and_again, &h, &(weft_options){ .workers = 2, .spares = 2 }), 0);
    ck_assert(h.in_time);
    ck_assert_int_gt(h.seats, 2);
}
END_TEST

/* ---- trouble */

enum { CROWD = 16 };
static atomic_int crowd_goes;

static void *wants_the_processor(void *arg)
{
    while (!atomic_load(&crowd_goes))
        continue;
    return arg;
}

/* So many others want the one processor that at hardly any look both workers have had an eighth of it. */
START_TEST(holders_that_starve_are_held_all_the_same)
{
    struct held h = { .holders = 2 };
    pthread_t crowd[CROWD];
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    for (int i = 0; i < CROWD; i++)
        ck_assert_int_eq(pthread_create(&crowd[i], NULL, wants_the_processor, NULL), 0);
    which = 0;
    int rc = weft_run(as_the_tables_say, &h, &(weft_options){ .workers = 2, .spares = 2 });
    atomic_store(&crowd_goes, 1);
    for (int i = 0; i < CROWD; i++)
        pthread_join(crowd[i], NULL);
    ck_assert_int_eq(rc, 0);
    ck_assert(h.in_time);
    ck_assert_int_gt(h.seats, 2);
}
END_TEST

static int no_thread(void *arg)
{
    struct held *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft__fault_set(WEFT__FAULT_THREAD, 1, LONG_MAX / 2, -EAGAIN); /* it is tried again after a while */
    for (int i = 0; i < h->holders; i++)
        weft_spawn(&s, computes, h);
    int64_t end = weft_after(LIMIT);
    atomic_fetch_add(&h->holding, 1); /* this one holds the first worker */
    while (weft__fault_failed(WEFT__FAULT_THREAD) == 0 && weft_now() < end)
        continue;
    bool failed = weft__fault_failed(WEFT__FAULT_THREAD) > 0;
    h->seats = weft_stats(NULL, NULL, 0);
    atomic_store(&h->open, 1);
    weft__fault_clear();
    return weft_scope_end(&s, failed && h->seats == 2 ? 0 : -EIO);
}

/* Nothing is lost: they go on when a worker is free. */
START_TEST(a_thread_that_cannot_be_started_is_done_without)
{
    struct held h = { .holders = 4 };
    ck_assert_int_eq(weft_run(no_thread, &h, ON(2)), 0);
    ck_assert_int_eq(atomic_load(&h.late), 0);
}
END_TEST

START_TEST(none_is_left_when_the_runtime_has_ended)
{
    int before = threads_before();
    for (int i = 0; i < 10; i++) {
        struct held h = { .holders = 3 };
        ck_assert_int_eq(weft_run(many_block, &h, ON(2)), 0);
        ck_assert(h.in_time);
        ck_assert_int_le(threads_back_to(before), before);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("spare");
    TCase *tc = add_case(s, "held");
    tcase_add_loop_test(tc, what_waits_goes_on_while_all_workers_are_held, 0, COUNT(holders) * COUNT(waiters));
    tcase_add_test(tc, what_waits_goes_on_soon_after_the_last_worker_is_held);
    tcase_add_test(tc, more_block_than_there_are_workers);
    tcase_add_test(tc, one_worker_has_a_spare_if_it_is_asked_for);
    tcase_add_test(tc, a_processor_that_one_leaves_unused_gets_another);
    tc = add_case(s, "how many");
    tcase_add_loop_test(tc, of_one_workers_tasks_no_two_run_at_once, 0, 4);
    tcase_add_test(tc, there_are_no_more_than_were_asked_for);
    tcase_add_test(tc, bad_numbers_are_refused);
    tc = add_case(s, "over");
    tcase_add_test(tc, a_spare_goes_when_workers_are_free);
    tcase_add_test(tc, a_spare_is_used_again);
    tc = add_case(s, "trouble");
    tcase_add_test(tc, holders_that_starve_are_held_all_the_same);
    tcase_add_test(tc, a_thread_that_cannot_be_started_is_done_without);
    tcase_add_test(tc, none_is_left_when_the_runtime_has_ended);
    return run_suite(s);
}
