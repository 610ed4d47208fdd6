/* tests/replay_test.c - engine/leap.c and sched/chaos.c: virtual time, and a run that is the same again.
 *
 * replay_test --run SEED STEPS prints the hash of a run; the test starts itself so in other processes. */
#include "sched/sched.h"
#include "support.h"

static uint64_t seed; /* of those that set none themselves: WEFT_CHAOS */

static weft_options virtual_on(int workers)
{
    return (weft_options){ .workers = workers, .clock = WEFT_CLOCK_VIRTUAL, .chaos_seed = seed };
}

/* -- a run of many kinds of steps -- */

struct run {
    uint64_t seed, least; /* steps */
    uint64_t hash, steps;
    int64_t ended; /* virtual time */
};

struct actor {
    uint64_t random;
    int depth;
};

NOINLINE static void read_trace(uint64_t *hash, uint64_t *steps)
{
    struct weft__chaos *c = weft__self()->chaos;
    *hash = at_load(&c->hash);
    *steps = at_load(&c->steps);
}

static int act(void *arg);

static int act_inside(struct actor *a)
{
    weft_scope s;
    weft_task last = 0;
    weft_scope_begin(&s, weft_us(200 + next_random(&a->random) % 2000));
    for (unsigned n = next_random(&a->random) % 4; n > 0; n--) {
        struct actor child = { .random = next_random(&a->random), .depth = a->depth + 1 };
        last = weft_spawn_copy(&s, act, &child, sizeof child);
    }
    switch (next_random(&a->random) % 4) {
    case 0:
        weft_scope_cancel(&s, "by chance");
        break;
    case 1:
        weft_ignore(last > 0 ? weft_task_join(last) : 0);
        break;
    case 2:
        weft_ignore(last > 0 ? weft_task_cancel(last, "by chance") : 0);
        break;
    default:
        break;
    }
    int rc = weft_scope_end(&s, 0);
    return rc == -ETIMEDOUT || rc == -EAGAIN ? 0 : rc;
}

static int act(void *arg)
{
    struct actor *a = arg;
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++)
        switch (next_random(&a->random) % (a->depth < 3 ? 4 : 3)) {
        case 0:
            rc = weft_yield();
            break;
        case 1:
            rc = weft_sleep(next_random(&a->random) % 100000);
            break;
        case 2:
            rc = next_random(&a->random) % 64 ? weft_check() : -EAGAIN;
            break;
        default:
            rc = act_inside(a);
            break;
        }
    return rc;
}

static int run_all(void *arg)
{
    struct run *r = arg;
    uint64_t random = 1; /* not of the seed: what differs is the schedule alone */
    do {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < 20; i++) {
            struct actor a = { .random = next_random(&random), .depth = 0 };
            weft_spawn_copy(&s, act, &a, sizeof a);
        }
        weft_ignore(weft_scope_end(&s, 0)); /* some fail, on purpose */
        read_trace(&r->hash, &r->steps);
    } while (r->steps < r->least);
    r->ended = weft_now();
    return 0;
}

static int run_and_print(const char *of, const char *steps)
{
    struct run r = { .seed = strtoull(of, NULL, 0), .least = strtoull(steps, NULL, 0) };
    weft_options o = virtual_on(1);
    o.chaos_seed = r.seed;
    o.report = say_nothing;
    int rc = weft_run(run_all, &r, &o);
    printf("%d %016llx %llu %lld\n", rc, (unsigned long long)r.hash, (unsigned long long)r.steps, (long long)r.ended);
    return EXIT_SUCCESS;
}

static FILE *start_elsewhere(uint64_t of, const char *steps)
{
    char me[4096], command[4400];
    ssize_t n = readlink("/proc/self/exe", me, sizeof me - 1);
    ck_assert_int_gt(n, 0);
    me[n] = 0;
    snprintf(command, sizeof command, "'%s' --run %llu %s", me, (unsigned long long)of, steps);
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    return f;
}

static void end_elsewhere(FILE *f, char *line, int bytes)
{
    ck_assert_ptr_nonnull(fgets(line, bytes, f));
    ck_assert_int_eq(pclose(f), 0);
}

START_TEST(a_seed_gives_the_same_million_steps_in_another_process)
{
    const char *steps = seed ? "50000" : SCALED("1000000", "200000", "50000");
    char first[128], again[128];
    FILE *a = start_elsewhere(seed ? seed : 7, steps), *b = start_elsewhere(seed ? seed : 7, steps);
    end_elsewhere(a, first, sizeof first);
    end_elsewhere(b, again, sizeof again);
    ck_assert_int_eq(strncmp(first, "0 ", 2), 0);
    ck_assert_str_eq(first, again);
}
END_TEST

START_TEST(another_seed_gives_other_steps)
{
    char some[128], other[128];
    FILE *a = start_elsewhere(seed + 7, "20000"), *b = start_elsewhere(seed + 8, "20000");
    end_elsewhere(a, some, sizeof some);
    end_elsewhere(b, other, sizeof other);
    ck_assert_str_ne(some, other);
}
END_TEST

/* -- a bug that a seed finds: what was read is out of date after a call that may let others run -- */

struct account {
    atomic_int balance;
    weft_task ended;
};

static int deposit(void *arg)
{
    struct account *a = arg;
    int balance = atomic_load(&a->balance);
    int rc = weft_task_join(a->ended); /* does not wait: it has ended long ago */
    atomic_store(&a->balance, balance + 1);
    return rc;
}

static int end_at_once(void *arg)
{
    (void)arg;
    return 0;
}

enum { DEPOSITS = 4 };

static int deposit_all(void *arg)
{
    struct account *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    a->ended = weft_spawn(&s, end_at_once, NULL);
    int rc = weft_scope_wait(&s);
    for (int i = 0; i < DEPOSITS; i++)
        weft_spawn(&s, deposit, a);
    return weft_scope_end(&s, rc);
}

static int balance_with(uint64_t with)
{
    struct account a = { .balance = 0 };
    weft_options o = virtual_on(1);
    o.chaos_seed = with;
    ck_assert_int_eq(weft_run(deposit_all, &a, &o), 0);
    return atomic_load(&a.balance);
}

START_TEST(a_seed_that_finds_a_bug_finds_it_each_time)
{
    uint64_t found = 1;
    ck_assert_int_eq(balance_with(0), DEPOSITS); /* it does not show of itself */
    while (found < 200 && balance_with(found) == DEPOSITS)
        found++;
    int lost = balance_with(found);
    ck_assert_msg(lost < DEPOSITS, "no seed below 200 has found it");
    printf("a deposit is lost with WEFT_CHAOS=%d: %d of %d are left\n", (int)found, lost, DEPOSITS);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(balance_with(found), lost);
}
END_TEST

/* -- virtual time -- */

struct sleeping {
    int64_t start, end;
    atomic_int ended;
    int rc;
};

static int sleep_an_hour(void *arg)
{
    struct sleeping *s = arg;
    int rc = 0;
    const int steps = seed ? 360 : 3600;
    for (int i = 0; i < steps && rc == 0; i++)
        rc = weft_sleep(weft_sec(3600) / steps);
    atomic_fetch_add(&s->ended, 1);
    return rc;
}

static int sleep_hours(void *arg)
{
    struct sleeping *s = arg;
    weft_scope scope;
    s->start = weft_now();
    weft_scope_begin(&scope, WEFT_NEVER);
    for (int i = 0; i < 10; i++)
        weft_spawn(&scope, sleep_an_hour, s);
    int rc = weft_scope_end(&scope, 0);
    s->end = weft_now();
    return rc;
}

START_TEST(hours_of_sleep_take_as_long_as_their_steps)
{
    struct sleeping s = { .ended = 0 };
    weft_options o = virtual_on(_i);
    int64_t real = weft_now();
    ck_assert_int_eq(weft_run(sleep_hours, &s, &o), 0);
    ck_assert_int_lt(weft_now() - real, LIMIT);
    ck_assert_int_eq(atomic_load(&s.ended), 10);
    ck_assert_int_eq(s.end - s.start, weft_sec(3600));
}
END_TEST

static int do_not_sleep(void *arg)
{
    struct sleeping *s = arg;
    int rc = 0;
    s->start = weft_now();
    for (int i = 0; i < 1000 && rc == 0; i++)
        rc = weft_yield();
    compute(0);
    s->end = weft_now();
    return rc;
}

static int stand_still(void *arg)
{
    struct sleeping later = { .ended = 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleep_an_hour, &later);
    weft_spawn(&s, do_not_sleep, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(time_stands_still_while_something_runs)
{
    struct sleeping s = { .end = -1 };
    weft_options o = virtual_on(1);
    ck_assert_int_eq(weft_run(stand_still, &s, &o), 0);
    ck_assert_int_eq(s.start, s.end);
}
END_TEST

static int sleep_too_long(void *arg)
{
    struct sleeping *s = arg;
    weft_scope scope;
    s->start = weft_now();
    weft_scope_begin(&scope, weft_sec(3600));
    s->rc = weft_sleep(weft_sec(7200));
    int rc = weft_scope_end(&scope, s->rc);
    s->end = weft_now();
    return rc;
}

START_TEST(a_deadline_strikes_at_its_virtual_time)
{
    struct sleeping s = { .rc = 0 };
    weft_options o = virtual_on(1 + _i);
    ck_assert_int_eq(weft_run(sleep_too_long, &s, &o), -ETIMEDOUT);
    ck_assert_int_eq(s.rc, -ECANCELED);
    ck_assert_int_eq(s.end - s.start, weft_sec(3600));
}
END_TEST

/* -- an hour of everything that has to do with time: sleeps under deadlines, ticks at fixed times, deadlines that strike, and events
 * that are set after a sleep. What happens at equal times is counted; what happens at different times has its order. -- */

enum { HOUR = 3600, TICKS = HOUR / 60 };

struct hour {
    weft_event event[TICKS];
    atomic_int last;   /* the second in which something happened last */
    atomic_int early;  /* something came before it, or at another time than its own */
    atomic_int seen[HOUR + 1];
    int64_t start, end;
};

/* It is `second` now, and nothing later has been before. */
static void happens(struct hour *h, int second)
{
    if (weft_now() != h->start + weft_sec(second) || atomic_load(&h->last) > second)
        atomic_fetch_add(&h->early, 1);
    for (int last = atomic_load(&h->last); last < second && !atomic_compare_exchange_weak(&h->last, &last, second);)
        continue;
    atomic_fetch_add(&h->seen[second], 1);
}

/* 3600 sleeps of a second, each under a deadline that does not strike; every minute an event is set. */
static int sleep_under_deadlines(void *arg)
{
    struct hour *h = arg;
    int rc = 0;
    for (int i = 1; i <= HOUR && rc == 0; i++) {
        weft_scope s;
        weft_scope_begin(&s, weft_sec(2));
        rc = weft_scope_end(&s, weft_sleep(weft_sec(1)));
        happens(h, i);
        if (i % 60 == 0)
            weft_event_set(&h->event[i / 60 - 1]);
    }
    return rc;
}

static int tick_each_second(void *arg)
{
    struct hour *h = arg;
    int rc = 0;
    for (int i = 1; i <= HOUR && rc == 0; i++) {
        rc = weft_sleep_until(h->start + weft_sec(i));
        happens(h, i);
    }
    return rc;
}

static int run_into_deadlines(void *arg)
{
    struct hour *h = arg;
    int rc = -ETIMEDOUT;
    for (int i = 10; i <= HOUR && rc == -ETIMEDOUT; i += 10) {
        weft_scope s;
        weft_scope_begin(&s, weft_sec(10));
        rc = weft_scope_end(&s, weft_sleep(weft_sec(60)));
        happens(h, i);
    }
    return rc == -ETIMEDOUT ? 0 : rc;
}

static int wait_for_events(void *arg)
{
    struct hour *h = arg;
    int rc = 0;
    for (int i = 0; i < TICKS && rc == 0; i++) {
        rc = weft_event_wait(&h->event[i]);
        happens(h, 60 * (i + 1));
    }
    return rc;
}

static int live_an_hour(void *arg)
{
    struct hour *h = arg;
    weft_scope s;
    h->start = weft_now();
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleep_under_deadlines, h);
    weft_spawn(&s, tick_each_second, h);
    weft_spawn(&s, run_into_deadlines, h);
    weft_spawn(&s, wait_for_events, h);
    int rc = weft_scope_end(&s, 0);
    h->end = weft_now();
    return rc;
}

static int64_t time_an_hour(const weft_options *o)
{
    static struct hour h;
    memset(&h, 0, sizeof h);
    int64_t real = weft_now();
    ck_assert_int_eq(weft_run(live_an_hour, &h, o), 0);
    real = weft_now() - real;
    printf("an hour on %d workers: %d ms\n", o->workers, (int)(real / 1000000));
    ck_assert_int_lt(real, LIMIT);
    ck_assert_int_eq(h.end - h.start, weft_sec(HOUR));
    ck_assert_int_eq(atomic_load(&h.early), 0);
    for (int i = 1; i <= HOUR; i++)
        ck_assert_int_eq(atomic_load(&h.seen[i]), 2 + (i % 10 == 0) + (i % 60 == 0));
    return real;
}

/* B-057: on one worker in less than 100 ms, in one of the runs at least; the machine may be busy. */
START_TEST(an_hour_of_sleeps_deadlines_ticks_and_events)
{
    weft_options o = virtual_on(_i < 2 ? _i + 1 : 4);
    int64_t took = time_an_hour(&o), end = weft_after(LIMIT);
    if (o.workers > 1 || seed || TSAN || ASAN)
        return;
    while (took >= weft_ms(100) && weft_now() < end)
        took = time_an_hour(&o);
    ck_assert_int_lt(took, weft_ms(100));
}
END_TEST

/* Equal times: on one worker those who sleep until the same moment wake in one order, the same in each run. */
struct order {
    atomic_int ran[64], n;
};

struct one_of_order {
    struct order *o;
    int number;
};

static int sleep_and_sign(void *arg)
{
    struct one_of_order *me = arg;
    int rc = weft_sleep(weft_sec(1));
    me->o->ran[me->o->n++] = me->number;
    return rc;
}

static int sleep_all_until_the_same_time(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 64; i++) {
        struct one_of_order one = { arg, i };
        weft_spawn_copy(&s, sleep_and_sign, &one, sizeof one);
    }
    int rc = weft_sleep(weft_ms(1)); /* all sleep by now */
    return weft_scope_end(&s, rc);
}

START_TEST(equal_times_wake_in_the_same_order_each_time)
{
    static struct order first, again;
    weft_options o = virtual_on(1);
    memset(&first, 0, sizeof first);
    ck_assert_int_eq(weft_run(sleep_all_until_the_same_time, &first, &o), 0);
    ck_assert_int_eq(first.n, 64);
    for (int i = 0; i < 5; i++) {
        memset(&again, 0, sizeof again);
        ck_assert_int_eq(weft_run(sleep_all_until_the_same_time, &again, &o), 0);
        ck_assert_mem_eq(&again, &first, sizeof first);
    }
}
END_TEST

/* -- outside hands: while they are counted, time does not leap. Each is held for so long that it would have. -- */

enum { HELD_US = 20000 };

struct hand {
    int pipe[2];
    int64_t start, acted;
    struct sleeping sleeping;
};

static int be_slow(void *arg)
{
    (void)arg;
    usleep(HELD_US);
    return 0;
}

static int by_offload(void *arg)
{
    struct hand *h = arg;
    h->start = weft_now();
    int rc = weft_blocking(be_slow, NULL);
    h->acted = weft_now();
    return rc;
}

static void *write_later(void *arg)
{
    struct hand *h = arg;
    usleep(HELD_US);
    if (sys_write(h->pipe[1], "x", 1) != 1)
        abort();
    return NULL;
}

static int by_descriptor(void *arg)
{
    struct hand *h = arg;
    char byte;
    h->start = weft_now();
    int rc = weft_read(h->pipe[0], &byte, 1);
    h->acted = weft_now();
    return rc < 0 ? rc : 0;
}

static int beside_sleep(struct hand *h, weft_fn *hand)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleep_an_hour, &h->sleeping);
    weft_spawn(&s, hand, h);
    return weft_scope_end(&s, 0);
}

static int beside_offload(void *arg)
{
    return beside_sleep(arg, by_offload);
}

static int beside_descriptor(void *arg)
{
    return beside_sleep(arg, by_descriptor);
}

START_TEST(time_waits_for_a_call_on_the_pool)
{
    struct hand h = { .acted = -1 };
    weft_options o = virtual_on(1 + _i);
    ck_assert_int_eq(weft_run(beside_offload, &h, &o), 0);
    ck_assert_int_eq(h.acted, h.start);
    ck_assert_int_eq(atomic_load(&h.sleeping.ended), 1);
}
END_TEST

START_TEST(time_waits_for_a_descriptor)
{
    struct hand h = { .acted = -1 };
    weft_options o = virtual_on(1 + _i);
    ck_assert_int_eq(pipe(h.pipe), 0);
    pthread_t t = thread_start(write_later, &h);
    ck_assert_int_eq(weft_run(beside_descriptor, &h, &o), 0);
    pthread_join(t, NULL);
    close(h.pipe[0]);
    close(h.pipe[1]);
    ck_assert_int_eq(h.acted, h.start);
    ck_assert_int_eq(atomic_load(&h.sleeping.ended), 1);
}
END_TEST

static int tell_time(void *arg)
{
    *(int64_t *)arg = weft_now();
    return 0;
}

START_TEST(time_waits_for_a_thread_that_does_not_wait)
{
    weft_runtime *rt;
    weft_options o = virtual_on(1 + _i);
    struct sleeping sleeping = { .ended = 0 };
    int64_t first = 0, second = 0, last = 0;
    weft_scope s;
    ck_assert_int_eq(weft_runtime_create(&rt, &o), 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    weft_spawn(&s, tell_time, &first);
    weft_spawn(&s, sleep_an_hour, &sleeping);
    usleep(HELD_US);
    weft_spawn(&s, tell_time, &second);
    int slept = weft_sleep(weft_us(HELD_US)); /* in weft, but not for its tasks alone */
    int ended_early = atomic_load(&sleeping.ended);
    int rc = weft_scope_end(&s, 0);
    int last_rc = weft_runtime_run(rt, tell_time, &last);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(slept, 0);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(last_rc, 0);
    ck_assert_int_eq(ended_early, 0);
    ck_assert_int_eq(first, second);
    ck_assert_int_eq(last - first, weft_sec(3600));
    ck_assert_int_eq(atomic_load(&sleeping.ended), 1);
}
END_TEST

START_TEST(a_threads_deadline_is_refused)
{
    weft_runtime *rt;
    weft_options o = virtual_on(1);
    weft_scope outer, s;
    int rc[2], ran = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, &o), 0);
    weft_scope_begin_with(&s, weft_sec(1), &(weft_scope_options){ .on = rt });
    rc[0] = weft_scope_end(&s, 0);
    weft_scope_begin(&outer, weft_sec(1));
    rc[1] = weft_runtime_run(rt, end_at_once, &ran);
    weft_ignore(weft_scope_end(&outer, 0));
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(rc[0], -EINVAL);
    ck_assert_int_eq(rc[1], -EINVAL);
}
END_TEST

START_TEST(an_unknown_clock_is_refused)
{
    ck_assert_int_eq(weft_run(end_at_once, NULL, &(weft_options){ .clock = 2 }), -EINVAL);
    ck_assert_int_eq(weft_run(end_at_once, NULL, &(weft_options){ .clock = -1 }), -EINVAL);
}
END_TEST

int main(int argc, char **argv)
{
    seed = chaos_seed();
    unsetenv("WEFT_CHAOS"); /* what is compared here has seeds of its own, and the rest is given it */
    if (argc == 4 && strcmp(argv[1], "--run") == 0)
        return run_and_print(argv[2], argv[3]);
    Suite *s = suite_create("replay");
    TCase *t = add_case(s, "replay");
    tcase_set_timeout(t, 150);
    tcase_add_test(t, another_seed_gives_other_steps);
    tcase_add_test(t, a_seed_gives_the_same_million_steps_in_another_process);
    tcase_add_test(t, a_seed_that_finds_a_bug_finds_it_each_time);
    t = add_case(s, "time");
    tcase_add_loop_test(t, hours_of_sleep_take_as_long_as_their_steps, 1, 5);
    tcase_add_loop_test(t, an_hour_of_sleeps_deadlines_ticks_and_events, 0, 3);
    tcase_add_test(t, equal_times_wake_in_the_same_order_each_time);
    tcase_add_test(t, time_stands_still_while_something_runs);
    tcase_add_loop_test(t, a_deadline_strikes_at_its_virtual_time, 0, 3);
    tcase_add_loop_test(t, time_waits_for_a_call_on_the_pool, 0, 3);
    tcase_add_loop_test(t, time_waits_for_a_descriptor, 0, 3);
    tcase_add_loop_test(t, time_waits_for_a_thread_that_does_not_wait, 0, 3);
    tcase_add_test(t, a_threads_deadline_is_refused);
    tcase_add_test(t, an_unknown_clock_is_refused);
    return run_suite(s);
}
