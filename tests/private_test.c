/* private_test.c - what a worker keeps to itself: sched/private.h; and that nobody else has to wait for it. */
#include "support.h"

#include "base/fence.h"
#include "sched/private.h"
#include "sched/wait.h"

static struct weft__private place;

static void fences(int free)
{
    memset(&place, 0, sizeof place);
    weft__fences_init();
    weft__fence_is_free = free && weft__fence_is_free;
}

START_TEST(a_put_hands_back_what_was_there)
{
    fences(_i);
    ck_assert(!weft__private_has(&place));
    ck_assert_uint_eq(weft__private_take(&place), 0);
    ck_assert_uint_eq(weft__private_put(&place, 7), 0);
    ck_assert(weft__private_has(&place));
    ck_assert_uint_eq(weft__private_put(&place, 8), 7);
    ck_assert_uint_eq(weft__private_take(&place), 8);
    ck_assert_uint_eq(weft__private_take(&place), 0);
}
END_TEST

START_TEST(what_was_stolen_is_not_the_owners)
{
    fences(_i);
    ck_assert_uint_eq(weft__private_steal(&place), 0);
    weft__private_put(&place, 7);
    ck_assert_uint_eq(weft__private_steal(&place), 7);
    ck_assert_uint_eq(weft__private_steal(&place), 0);
    ck_assert_uint_eq(weft__private_take(&place), 0);
    ck_assert_uint_eq(weft__private_put(&place, 7), 0);
    ck_assert_uint_eq(weft__private_steal(&place), 7);
    ck_assert_uint_eq(weft__private_put(&place, 9), 0);
    ck_assert_uint_eq(weft__private_take(&place), 9);
}
END_TEST

START_TEST(an_item_may_come_again_after_it_was_stolen)
{
    fences(_i);
    weft__private_put(&place, 7);
    ck_assert_uint_eq(weft__private_steal(&place), 7);
    ck_assert_uint_eq(weft__private_put(&place, 7), 0);
    ck_assert_uint_eq(weft__private_take(&place), 7);
}
END_TEST

/* ---- a worker that does not come back to what it has spawned or woken */

enum { BUSY = 5 };

struct stuck {
    atomic_bool ran;
    bool in_time;
    weft_event *event;
    atomic_bool computing;
    atomic_int elsewhere; /* of BUSY ones that run on another worker */
    int others;
};

static int does_nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int mark(void *arg)
{
    struct stuck *s = arg;
    atomic_store(&s->ran, true);
    return 0;
}

/* Computes, and never calls weft, until the other has run: on another worker, then. */
static bool until_it_ran(struct stuck *s)
{
    int64_t end = weft_after(weft_ms(20000));
    while (!atomic_load(&s->ran) && weft_now() < end)
        continue;
    return atomic_load(&s->ran);
}

static int spawns_and_computes(void *arg)
{
    struct stuck *s = arg;
    weft_scope scope;
    weft_scope_begin(&scope, WEFT_NEVER);
    weft_spawn(&scope, mark, s);
    s->in_time = until_it_ran(s);
    return weft_scope_end(&scope, 0);
}

START_TEST(the_newest_task_of_a_worker_that_computes_is_run_by_another)
{
    struct stuck s = { .in_time = false };
    ck_assert_int_eq(weft_run(spawns_and_computes, &s, &(weft_options){ .workers = 2 }), 0);
    ck_assert(s.in_time);
}
END_TEST

/* ---- and the other worker never has nothing to do */

static int yields_until_it_ran(void *arg)
{
    struct stuck *s = arg;
    int64_t end = weft_after(weft_ms(20000));
    bool counted = false;
    while (!atomic_load(&s->ran) && weft_now() < end) {
        if (atomic_load(&s->computing) && !counted) {
            atomic_fetch_add(&s->elsewhere, 1);
            counted = true;
        }
        weft_ignore(weft_yield());
    }
    return 0;
}

/* The last one is the newest, which it keeps to itself; the others are in its deque. */
static int beside_busy_ones(void *arg)
{
    struct stuck *s = arg;
    weft_scope scope;
    weft_scope_begin(&scope, WEFT_NEVER);
    for (int i = 0; i < BUSY; i++)
        weft_spawn(&scope, yields_until_it_ran, s);
    atomic_store(&s->computing, true);
    int64_t end = weft_after(weft_ms(20000));
    while (atomic_load(&s->elsewhere) < BUSY && weft_now() < end)
        continue; /* until the other worker has them all */
    for (int i = 0; i < s->others; i++)
        weft_spawn(&scope, does_nothing, NULL);
    weft_spawn(&scope, mark, s);
    s->in_time = until_it_ran(s);
    return weft_scope_end(&scope, atomic_load(&s->elsewhere) == BUSY ? 0 : -ETIME);
}

START_TEST(what_one_that_computes_has_spawned_is_run_by_a_busy_one)
{
    struct stuck s = { .others = 3 * _i };
    ck_assert_int_eq(weft_run(beside_busy_ones, &s, &(weft_options){ .workers = 2, .spares = -1 }), 0);
    ck_assert(s.in_time);
}
END_TEST

static int waits(void *arg)
{
    struct stuck *s = arg;
    int rc = weft_event_wait(s->event);
    atomic_store(&s->ran, true);
    return rc;
}

static bool has_slept(weft_task id)
{
    const struct weft__task *t = weft__task_at(weft__id_index(id));
    int64_t end = weft_after(weft_ms(20000));
    while (weft__phase_of(at_load_acquire(&t->state)) != WEFT__WAITING && weft_now() < end)
        weft_ignore(weft_yield());
    return weft__phase_of(at_load_acquire(&t->state)) == WEFT__WAITING;
}

static int wakes_and_computes(void *arg)
{
    struct stuck *s = arg;
    weft_event event = { 0 };
    weft_scope scope;
    s->event = &event;
    weft_scope_begin(&scope, WEFT_NEVER);
    if (has_slept(weft_spawn(&scope, waits, s))) {
        weft_event_set(&event);
        s->in_time = until_it_ran(s);
    }
    weft_event_set(&event);
    return weft_scope_end(&scope, 0);
}

START_TEST(a_task_that_was_woken_by_one_that_computes_is_run_by_another)
{
    struct stuck s = { .in_time = false };
    ck_assert_int_eq(weft_run(wakes_and_computes, &s, &(weft_options){ .workers = 2 }), 0);
    ck_assert(s.in_time);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("private");
    TCase *tc = add_case(s, "the place");
    tcase_add_loop_test(tc, a_put_hands_back_what_was_there, 0, 2);
    tcase_add_loop_test(tc, what_was_stolen_is_not_the_owners, 0, 2);
    tcase_add_loop_test(tc, an_item_may_come_again_after_it_was_stolen, 0, 2);
    tc = add_case(s, "a worker");
    tcase_add_test(tc, the_newest_task_of_a_worker_that_computes_is_run_by_another);
    tcase_add_loop_test(tc, what_one_that_computes_has_spawned_is_run_by_a_busy_one, 0, 2);
    tcase_add_test(tc, a_task_that_was_woken_by_one_that_computes_is_run_by_another);
    return run_suite(s);
}
