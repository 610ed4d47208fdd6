/* now_test.c - children that begin at once: weft_spawn_options.now, A-013. */
#include "support.h"

static const int worker_counts[] = { 1, 2, 8 };

/* What was done, in order; written by one task at a time, each knowing that the other has come to its end. */
struct story {
    atomic_int n;
    int steps[64];
};

static void tell(struct story *t, int step)
{
    int n = atomic_fetch_add(&t->n, 1);
    if (n < COUNT(t->steps))
        t->steps[n] = step;
}

static bool was_told(const struct story *t, const int *steps, int n)
{
    return atomic_load(&t->n) == n && memcmp(t->steps, steps, (size_t)n * sizeof *steps) == 0;
}

static weft_task spawn_now(weft_scope *s, weft_fn *fn, void *arg)
{
    return weft_spawn_with(s, fn, arg, &(weft_spawn_options){ .now = true });
}

/* -- it begins before the spawn returns -- */

struct who {
    struct story story;
    weft_task parent, child, within;
    int thread;
    int64_t deadline, deadline_within;
};

static int end_at_once(void *arg)
{
    struct who *w = arg;
    tell(&w->story, 2);
    w->within = weft_task_self();
    w->thread = thread_id();
    w->deadline_within = weft_deadline();
    return 0;
}

static int spawn_one_that_ends(void *arg)
{
    struct who *w = arg;
    weft_scope s;
    w->parent = weft_task_self();
    weft_scope_begin(&s, weft_sec(1000));
    w->deadline = weft_deadline();
    tell(&w->story, 1);
    int thread = thread_id();
    w->child = spawn_now(&s, end_at_once, w);
    tell(&w->story, 3);
    EXPECT(w->thread == thread);
    EXPECT(w->child > 0 && w->child != w->parent && w->within == w->child);
    EXPECT(weft_task_self() == w->parent);
    EXPECT(!weft_task_alive(w->child));
    EXPECT(weft_task_join(w->child) == 0);
    EXPECT(w->deadline_within == w->deadline);
    return weft_scope_end(&s, 0);
}

START_TEST(one_that_does_not_wait_has_ended_when_the_spawn_returns)
{
    struct who w = { .parent = 0 };
    AS_EXPECTED(weft_run(spawn_one_that_ends, &w, ON(worker_counts[_i])));
    ck_assert(was_told(&w.story, (const int[]){ 1, 2, 3 }, 3));
}
END_TEST

struct halves {
    struct story story;
    weft_event go;
};

static int in_two_halves(void *arg)
{
    struct halves *h = arg;
    tell(&h->story, 2);
    int rc = weft_event_wait(&h->go);
    tell(&h->story, 4);
    return rc;
}

static int yield_once(void *arg)
{
    struct halves *h = arg;
    tell(&h->story, 2);
    return weft_yield();
}

static int spawn_one_that_waits(void *arg)
{
    struct halves *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    tell(&h->story, 1);
    weft_task t = spawn_now(&s, in_two_halves, h);
    tell(&h->story, 3);
    EXPECT(weft_task_alive(t));
    weft_event_set(&h->go);
    EXPECT(weft_task_join(t) == 0);
    tell(&h->story, 5);
    return weft_scope_end(&s, 0);
}

START_TEST(one_that_waits_goes_on_later)
{
    struct halves h = { .go = WEFT_SYNC_INIT };
    AS_EXPECTED(weft_run(spawn_one_that_waits, &h, ON(worker_counts[_i])));
    ck_assert(was_told(&h.story, (const int[]){ 1, 2, 3, 4, 5 }, 5));
}
END_TEST

static int spawn_one_that_yields(void *arg)
{
    struct halves *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    tell(&h->story, 1);
    spawn_now(&s, yield_once, h);
    tell(&h->story, 3);
    return weft_scope_end(&s, 0);
}

START_TEST(a_yield_is_the_end_of_its_first_turn)
{
    struct halves h = { .go = WEFT_SYNC_INIT };
    AS_EXPECTED(weft_run(spawn_one_that_yields, &h, ON(worker_counts[_i])));
    ck_assert(was_told(&h.story, (const int[]){ 1, 2, 3 }, 3));
}
END_TEST

/* Each begins the next one from within its own first turn; the ends come from the innermost outwards. */
enum { DEEP = 20 };

struct depth {
    struct story *story;
    int level;
};

static int go_deeper(void *arg)
{
    struct depth *d = arg, next = { d->story, d->level + 1 };
    weft_scope s;
    tell(d->story, d->level);
    weft_scope_begin(&s, WEFT_NEVER);
    if (next.level < DEEP)
        spawn_now(&s, go_deeper, &next);
    tell(d->story, 100 + d->level);
    return weft_scope_end(&s, 0);
}

START_TEST(they_nest)
{
    struct story story = { .n = 0 };
    struct depth d = { &story, 0 };
    AS_EXPECTED(weft_run(go_deeper, &d, ON(worker_counts[_i])));
    ck_assert_int_eq(story.n, 2 * DEEP);
    for (int i = 0; i < DEEP; i++) {
        ck_assert_int_eq(story.steps[i], i);
        ck_assert_int_eq(story.steps[DEEP + i], 100 + DEEP - 1 - i);
    }
}
END_TEST

/* -- with the other options, and in other places -- */

struct parcel {
    int numbers[20];
    atomic_int sum;

};

static int add_up(void *arg)
{
    struct parcel *p = *(struct parcel **)arg;
    const int *numbers = (const int *)(const void *)((const char *)arg + sizeof p);
    for (int i = 0; i < 20; i++)
        atomic_fetch_add(&p->sum, numbers[i]);
    char name[32];
    EXPECT(weft_task_name(weft_task_self(), name, sizeof name) == 3 && strcmp(name, "sum") == 0);
    return 7;
}

static int spawn_with_all(void *arg)
{
    struct {
        struct parcel *p;
        int numbers[20];
    } copied = { .p = arg };
    struct parcel *p = arg;
    weft_scope s;
    int result = 0;
    for (int i = 0; i < 20; i++)
        copied.numbers[i] = i;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn_with(&s, add_up, &copied,
            &(weft_spawn_options){ .now = true, .name = "sum", .copy_bytes = sizeof copied, .stack_bytes = 256 << 10,
                    .keep_fp = true, .result = &result });
    EXPECT(!weft_task_alive(t) && result == 7 && atomic_load(&p->sum) == 190);
    t = weft_spawn_with(&s, add_up, NULL, &(weft_spawn_options){ .now = true, .pin = 1, .name = "sum", .copy_bytes = 8 });
    EXPECT(t == -EINVAL);
    EXPECT(weft_scope_end(&s, 0) == -EINVAL);
    return 0;
}

START_TEST(names_copies_stacks_and_results_go_with_it)
{
    struct parcel p = { .sum = 0 };
    AS_EXPECTED(weft_run(spawn_with_all, &p, ON(worker_counts[_i])));
}
END_TEST

static int break_down(void *arg)
{
    (void)arg;
    return -EIO;
}

static int spawn_one_that_fails(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    spawn_now(&s, break_down, NULL);
    EXPECT(weft_check() == -ECANCELED);
    EXPECT(strcmp(weft_cancel_reason(), "a sibling failed") == 0);
    EXPECT(weft_scope_end(&s, 0) == -EIO);
    return 0;
}

START_TEST(its_failure_is_known_when_the_spawn_returns)
{
    AS_EXPECTED(weft_run(spawn_one_that_fails, NULL, ON(worker_counts[_i])));
}
END_TEST

struct pins {
    atomic_int ran;
    int home; /* thread */
};

static int stay_home(void *arg)
{
    struct pins *p = arg;
    atomic_fetch_add(&p->ran, 1);
    EXPECT(thread_id() == p->home);
    return 0;
}

static int run_anywhere(void *arg)
{
    atomic_fetch_add(&((struct pins *)arg)->ran, 1);
    return 0;
}

static int run_elsewhere(void *arg)
{
    struct pins *p = arg;
    atomic_fetch_add(&p->ran, 1);
    EXPECT(thread_id() != p->home);
    return 0;
}

/* Pinned to worker 1, as its children of the first kind are; to worker 2 they go as ever. */
static int spawn_pinned(void *arg)
{
    struct pins *p = arg;
    weft_scope s;
    p->home = thread_id();
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 1; i <= 100; i++) {
        weft_spawn_with(&s, stay_home, p, &(weft_spawn_options){ .now = true, .pin = 1 });
        EXPECT(atomic_load(&p->ran) == i);
        EXPECT(thread_id() == p->home);
    }
    weft_spawn_with(&s, run_elsewhere, p, &(weft_spawn_options){ .now = true, .pin = 2 });
    int rc = weft_scope_end(&s, 0);
    EXPECT(atomic_load(&p->ran) == 101);
    return rc;
}

static int spawn_a_pinned_one(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, spawn_pinned, arg, &(weft_spawn_options){ .pin = 1 });
    return weft_scope_end(&s, 0);
}

START_TEST(pins_are_kept)
{
    struct pins p = { .ran = 0 };
    AS_EXPECTED(weft_run(spawn_a_pinned_one, &p, ON(2)));
}
END_TEST

static int spawn_into_a_limited_scope(void *arg)
{
    weft_scope s;
    atomic_int *ran = arg;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .limit = 2 });
    for (int i = 1; i <= 10; i++) {
        spawn_now(&s, run_anywhere, ran);
        EXPECT(atomic_load(ran) == i);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_scope_with_a_limit_takes_them_too)
{
    struct pins p = { .ran = 0 };
    AS_EXPECTED(weft_run(spawn_into_a_limited_scope, &p, ON(worker_counts[_i])));
}
END_TEST

START_TEST(from_a_plain_thread_they_are_spawned_as_ever)
{
    weft_runtime *rt;
    struct pins p = { .ran = 0 };
    weft_scope s;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(worker_counts[_i])), 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    ck_assert_int_gt(spawn_now(&s, run_anywhere, &p), 0);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    ck_assert_int_eq(p.ran, 1);
    weft_runtime_destroy(&rt);
}
END_TEST

/* -- a first turn that is long -- */

static int compute_for_long(void *arg)
{
    compute(weft_ms(30));
    atomic_store((atomic_int *)arg, 1);
    return 0;
}

static int look_after_the_spawn(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    spawn_now(&s, compute_for_long, arg);
    EXPECT(atomic_load((atomic_int *)arg) == 1);
    return weft_scope_end(&s, 0);
}

/* No other worker goes on with the spawner meanwhile, however long that takes. */
START_TEST(who_spawned_one_that_computes_goes_on_when_that_has_ended)
{
    atomic_int flag = 0;
    AS_EXPECTED(weft_run(look_after_the_spawn, &flag, ON(worker_counts[_i])));
}
END_TEST

struct rivals {
    weft_event go;
    atomic_int began, ran;
};

static int run_once(void *arg)
{
    struct rivals *r = arg;
    atomic_store(&r->began, 1);
    int rc = weft_event_wait(&r->go);
    atomic_store(&r->ran, 1);
    return rc;
}

/* Whoever is ready has a turn, although there is always one that goes before: until then it does not stop. */
static int spawn_until_it_ran(void *arg)
{
    struct rivals *r = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, run_once, r);
    EXPECT(wait_for(&r->began, 1));
    weft_event_set(&r->go);
    struct pins p = { .ran = 0 };
    int64_t end = weft_after(LIMIT);
    while (atomic_load(&r->ran) == 0 && weft_now() < end)
        spawn_now(&s, run_anywhere, &p);
    EXPECT(atomic_load(&r->ran) == 1);
    return weft_scope_end(&s, 0);
}

START_TEST(they_do_not_keep_others_from_their_turns)
{
    struct rivals r = { .go = WEFT_SYNC_INIT };
    AS_EXPECTED(weft_run(spawn_until_it_ran, &r, ON(worker_counts[_i])));
}
END_TEST

/* -- many, with their parents moving about -- */

enum { MANY = BUILT(20000, 5000, 2000) };

static int end_or_wait(void *arg)
{
    atomic_int *ran = arg;
    int n = atomic_fetch_add(ran, 1), rc = 0;
    if (n % 3 == 1)
        rc = weft_yield();
    else if (n % 3 == 2)
        rc = weft_sleep(weft_us(10));
    return rc;
}

static int spawn_many_now(void *arg)
{
    weft_scope s;
    weft_task self = weft_task_self();
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < fewer(100, MANY / 8); i++) {
        spawn_now(&s, end_or_wait, arg);
        EXPECT(weft_task_self() == self);
    }
    return weft_scope_end(&s, 0);
}

static int several_spawn_many(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 8; i++)
        weft_spawn(&s, spawn_many_now, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(each_runs_once_and_every_parent_goes_on)
{
    atomic_int ran = 0;
    AS_EXPECTED(weft_run(several_spawn_many, &ran, ON(worker_counts[_i])));
    ck_assert_int_eq(ran, 8 * fewer(100, MANY / 8));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("now");
    int counts = COUNT(worker_counts);
    TCase *tc = add_case(s, "at once");
    tcase_add_loop_test(tc, one_that_does_not_wait_has_ended_when_the_spawn_returns, 0, counts);
    tcase_add_loop_test(tc, one_that_waits_goes_on_later, 0, counts);
    tcase_add_loop_test(tc, a_yield_is_the_end_of_its_first_turn, 0, counts);
    tcase_add_loop_test(tc, they_nest, 0, counts);
    tc = add_case(s, "options and places");
    tcase_add_loop_test(tc, names_copies_stacks_and_results_go_with_it, 0, counts);
    tcase_add_loop_test(tc, its_failure_is_known_when_the_spawn_returns, 0, counts);
    tcase_add_test(tc, pins_are_kept);
    tcase_add_loop_test(tc, a_scope_with_a_limit_takes_them_too, 0, counts);
    tcase_add_loop_test(tc, from_a_plain_thread_they_are_spawned_as_ever, 0, counts);
    tc = add_case(s, "long and many");
    tcase_add_loop_test(tc, who_spawned_one_that_computes_goes_on_when_that_has_ended, 0, counts);
    tcase_add_loop_test(tc, they_do_not_keep_others_from_their_turns, 0, counts);
    tcase_add_loop_test(tc, each_runs_once_and_every_parent_goes_on, 0, counts);
    return run_suite(s);
}
