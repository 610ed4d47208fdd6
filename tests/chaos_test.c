/* tests/chaos_test.c - sched/chaos.c: what a seed does to the schedule, and what it does not. */
#include "sched/sched.h"
#include "support.h"

static weft_options seeded(int workers)
{
    return (weft_options){ .workers = workers, .chaos_seed = 0x5eed };
}

/* Where a task is, and how many turns that worker has begun: a wait that was fired before its task slept takes none. */
struct place {
    uint32_t worker;
    uint64_t turns;
};

NOINLINE static struct place place(void)
{
    struct weft__sched *s = weft__self();
    return (struct place){ s->id, at_load(&s->count.ran) };
}

NOINLINE static uint64_t sum_of_kept(void)
{
    uint64_t kept = 0;
    struct weft__group *g = weft__self()->group;
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++)
        kept += at_load(&g->all[i]->chaos->kept);
    return kept;
}

/* -- migration -- */

enum { TASKS = 20, ROUNDS = 40 };

struct moving {
    int worker; /* that it is pinned to, + 1 */
    int pipe[2];
    atomic_int stayed, moved, misplaced, begun;
    uint64_t kept;
};

static void compare(struct moving *m, struct place before, struct place after)
{
    if (before.worker != after.worker)
        atomic_fetch_add(&m->moved, 1);
    else if (before.turns != after.turns)
        atomic_fetch_add(&m->stayed, 1);
}

static int nothing(void *arg)
{
    (void)arg;
    return weft_sleep(weft_us(50));
}

static int wait_in_all_ways(void *arg)
{
    struct moving *m = arg;
    int rc = 0;
    atomic_fetch_add(&m->begun, 1);
    for (int i = 0; i < ROUNDS && rc == 0; i++) {
        struct place before = place();
        char byte = 1;
        weft_scope s;
        switch (i % 3) {
        case 0:
            rc = weft_sleep(weft_us(100));
            compare(m, before, place());
            break;
        case 1: /* these may wait more than once, and so come back to where they were */
            weft_scope_begin(&s, WEFT_NEVER);
            weft_spawn(&s, nothing, NULL);
            rc = weft_scope_end(&s, 0);
            break;
        default:
            rc = weft_write(m->pipe[1], &byte, 1);
            rc = rc == 1 && weft_wait_fd(m->pipe[0], WEFT_READABLE) > 0 ? 0 : -EIO;
            break;
        }
        if (m->worker && (int)place().worker + 1 != m->worker)
            atomic_fetch_add(&m->misplaced, 1);
    }
    return rc;
}

static int move_about(void *arg)
{
    struct moving *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < TASKS; i++)
        weft_spawn_with(&s, wait_in_all_ways, m, &(weft_spawn_options){ .pin = m->worker });
    int rc = weft_scope_end(&s, 0);
    m->kept = sum_of_kept();
    return rc;
}

static void move(struct moving *m, int workers)
{
    weft_options o = seeded(workers);
    ck_assert_int_eq(pipe(m->pipe), 0);
    ck_assert_int_eq(weft_run(move_about, m, &o), 0);
    close(m->pipe[0]);
    close(m->pipe[1]);
    ck_assert_int_eq(atomic_load(&m->begun), TASKS);
}

START_TEST(a_task_that_waited_goes_on_on_another_worker)
{
    struct moving m = { .worker = 0 };
    move(&m, 2 + _i);
    ck_assert_int_gt(atomic_load(&m.moved), 0);
    ck_assert_int_gt(atomic_load(&m.moved) + (int)m.kept, TASKS * ROUNDS / 10);
    /* Only where all others were stuck, or their threads did not run; the runtime has counted those. */
    ck_assert_int_le(atomic_load(&m.stayed), (int)m.kept);
}
END_TEST

START_TEST(a_pinned_task_stays)
{
    struct moving m = { .worker = 2 };
    move(&m, 3);
    ck_assert_int_eq(atomic_load(&m.misplaced), 0);
}
END_TEST

START_TEST(one_worker_runs_all)
{
    struct moving m = { .worker = 0 };
    move(&m, 1);
    ck_assert_int_eq(atomic_load(&m.moved), 0);
}
END_TEST

/* -- K3: nobody waits for a stuck worker -- */

struct stuck {
    struct gate gate;
    atomic_int waiting, opened;
};

static int block_the_thread(void *arg)
{
    struct stuck *s = arg;
    atomic_fetch_add(&s->waiting, 1);
    return gate_wait(&s->gate) ? 0 : -ETIME;
}

/* It was last on the only worker that is not stuck. */
static int open_after_waits(void *arg)
{
    struct stuck *s = arg;
    int rc = wait_for(&s->waiting, 1) ? 0 : -ETIME;
    for (int i = 0; i < 10 && rc == 0; i++)
        rc = i % 2 ? weft_sleep(weft_us(100)) : weft_yield();
    gate_open(&s->gate);
    return rc;
}

static int get_stuck(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, block_the_thread, arg);
    weft_spawn(&s, open_after_waits, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(a_task_does_not_wait_for_a_worker_that_blocks)
{
    struct stuck s = { .gate = GATE_INIT };
    weft_options o = seeded(2);
    ck_assert_int_eq(weft_run(get_stuck, &s, &o), 0);
}
END_TEST

/* -- where the seed comes from -- */

static int say_seed(void *arg)
{
    struct weft__sched *s = weft__self();
    *(uint64_t *)arg = s->group->chaos_seed;
    return (s->chaos != NULL) == (s->group->chaos_seed != 0) ? 0 : -EINVAL;
}

static uint64_t seed_with(const char *environment, uint64_t option)
{
    uint64_t seed = 77;
    char *before = getenv("WEFT_CHAOS");
    before = before ? strdup(before) : NULL;
    if (environment)
        setenv("WEFT_CHAOS", environment, 1);
    else
        unsetenv("WEFT_CHAOS");
    int rc = weft_run(say_seed, &seed, &(weft_options){ .workers = 1, .chaos_seed = option });
    if (before)
        setenv("WEFT_CHAOS", before, 1);
    free(before);
    ck_assert_int_eq(rc, 0);
    return seed;
}

START_TEST(the_seed_is_the_option_or_the_environments)
{
    ck_assert_uint_eq(seed_with(NULL, 0), 0);
    ck_assert_uint_eq(seed_with("0", 0), 0);
    ck_assert_uint_eq(seed_with("12", 0), 12);
    ck_assert_uint_eq(seed_with("0xfedcba9876543210", 0), UINT64_C(0xfedcba9876543210));
    ck_assert_uint_eq(seed_with("12", 34), 34);
    ck_assert_uint_eq(seed_with("", 0), 0);
    ck_assert_uint_eq(seed_with("a", 0), UINT64_C(0xaf63dc4c8601ec8c));
    ck_assert_uint_eq(seed_with("foobar", 0), UINT64_C(0x85944171f73967e8));
    ck_assert_uint_ne(seed_with("12 ", 0), seed_with("13 ", 0));
    ck_assert_uint_eq(ati_load(&weft__chaos_runtimes), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chaos");
    TCase *t = add_case(s, "migration");
    tcase_add_loop_test(t, a_task_that_waited_goes_on_on_another_worker, 0, 4);
    tcase_add_test(t, a_pinned_task_stays);
    tcase_add_test(t, one_worker_runs_all);
    tcase_add_test(t, a_task_does_not_wait_for_a_worker_that_blocks);
    t = add_case(s, "seed");
    tcase_add_test(t, the_seed_is_the_option_or_the_environments);
    return run_suite(s);
}
