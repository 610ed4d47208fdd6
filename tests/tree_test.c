/* tree_test.c - coord/tree: a cancel of very many is done in slices, wherever they wait.
 *
 * With one worker nothing runs between the cancel and the look at what it woke. */
#include "support.h"

#include "coord/scope.h"

enum { MOST = BUILT(3000, 2000, 600), SLICE = 256 };

static int many(void)
{
    return fewer(600, MOST);
}

/* How many of the tasks have been woken and have not run yet. */
static int woken(void)
{
    static weft_task ids[MOST * 2 + 16];
    int n = weft_task_list(ids, COUNT(ids)), found = 0;
    for (int i = 0; i < n; i++)
        found += weft__phase_of(at_load(&weft__task_at(weft__id_index(ids[i]))->state)) == WEFT__READY;
    return found;
}

struct seen {
    int shape;
    atomic_int parked, told, wrong, links;
    int at_once, later, rc;
};

static int sleep_in(struct seen *p)
{
    atomic_fetch_add(&p->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    atomic_fetch_add(rc == -ECANCELED ? &p->told : &p->wrong, 1);
    return rc;
}

static int leaf(void *arg)
{
    return sleep_in(arg);
}

/* One that waits in a scope of its own. */
static int in_scope(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, weft_sec(1000));
    return weft_scope_end(&s, sleep_in(arg));
}

/* One with a child, both of which wait. */
static int pair(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, leaf, arg);
    return weft_scope_end(&s, sleep_in(arg));
}

/* Each the only child of another. They are counted as they begin: with several workers one may come to its own sleep
 * after those below it have. */
static int link_of_chain(void *arg)
{
    struct seen *p = arg;
    if (atomic_fetch_add(&p->links, 1) >= many() - 1)
        return sleep_in(p);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, link_of_chain, p);
    return weft_scope_end(&s, sleep_in(p));
}

static const struct shape {
    weft_fn *fn;
    int each; /* child: with so many tasks; 0: with all */
} shapes[] = {
    { leaf, 1 },
    { in_scope, 1 },
    { pair, 2 },
    { link_of_chain, 0 },
};

static bool grow(struct seen *p, weft_scope *s)
{
    const struct shape *shape = &shapes[p->shape];
    int children = shape->each ? many() / shape->each : 1;
    for (int i = 0; i < children; i++)
        weft_spawn(s, shape->fn, p);
    return wait_for(&p->parked, many());
}

static int cancel_scope(void *arg)
{
    struct seen *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    bool all = grow(p, &s);
    weft_scope_cancel(&s, NULL);
    p->at_once = woken();
    weft_scope_cancel(&s, "once more");
    p->later = woken();
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(a_cancel_wakes_a_slice_at_once_and_the_rest_in_turn)
{
    struct seen p = { .shape = _i };
    ck_assert_int_eq(weft_run(cancel_scope, &p, ON(1)), 0);
    ck_assert_int_gt(p.at_once, 0);
    ck_assert_int_le(p.at_once, SLICE);
    ck_assert_int_eq(p.later, p.at_once); /* one walk is enough */
    ck_assert_int_eq(atomic_load(&p.told), many());
    ck_assert_int_eq(atomic_load(&p.wrong), 0);
}
END_TEST

static int parent_of_all(void *arg)
{
    struct seen *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    bool all = grow(p, &s);
    atomic_fetch_add(&p->parked, all);
    return weft_scope_end(&s, weft_sleep_until(WEFT_NEVER));
}

static int cancel_task(void *arg)
{
    struct seen *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn_with(&s, parent_of_all, p, &(weft_spawn_options){ .result = &p->rc });
    bool all = wait_for(&p->parked, many() + 1);
    weft_ignore(weft_yield());
    weft_ignore(weft_task_cancel(t, NULL));
    p->at_once = woken();
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(so_does_a_cancel_of_the_task_that_has_them)
{
    struct seen p = { .shape = _i };
    ck_assert_int_eq(weft_run(cancel_task, &p, ON(1)), 0);
    ck_assert_int_gt(p.at_once, 0);
    ck_assert_int_le(p.at_once, SLICE + 1); /* the task itself */
    ck_assert_int_eq(p.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&p.told), many());
}
END_TEST

static int expire(void *arg)
{
    struct seen *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    bool all = grow(p, &s);
    weft_scope_set_deadline(&s, weft_after(weft_ms(1)));
    int rc = weft_scope_end(&s, all ? 0 : -ETIME);
    return rc;
}

START_TEST(a_deadline_reaches_all_of_them)
{
    static const int workers[] = { 1, 2, 8 };
    for (int i = 0; i < COUNT(workers); i++) {
        struct seen p = { .shape = _i };
        ck_assert_int_eq(weft_run(expire, &p, ON(workers[i])), -ETIMEDOUT);
        ck_assert_int_eq(atomic_load(&p.told), many());
    }
}
END_TEST

/* A walk that has begun in a scope that ends before it is done: its children leave by themselves. */
static int short_sleep(void *arg)
{
    struct seen *p = arg;
    atomic_fetch_add(&p->parked, 1);
    return weft_sleep(weft_us(50));
}

static int leave_early(void *arg)
{
    struct seen *p = arg;
    for (int round = 0; round < SCALED(200, 50, 12); round++) {
        weft_scope s, inner;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_scope_begin(&inner, WEFT_NEVER);
        for (int i = 0; i < 50; i++)
            weft_spawn(&inner, short_sleep, p);
        weft_ignore(weft_sleep(weft_us(20 + round)));
        weft_scope_cancel(round % 2 ? &s : &inner, NULL);
        int rc = weft_scope_end(&inner, 0);
        if (rc != 0 && rc != -ECANCELED)
            return rc;
        rc = weft_scope_end(&s, 0);
        if (rc != 0)
            return rc;
    }
    return 0;
}

START_TEST(a_walk_may_lose_what_it_walks_through)
{
    static const int workers[] = { 1, 2, 3, 8 };
    struct seen p = { 0 };
    weft__walk_slice = 1;
    int rc = weft_run(leave_early, &p, ON(workers[_i]));
    weft__walk_slice = SLICE;
    ck_assert_int_eq(rc, 0);
}
END_TEST

/* So many that always yield that the ring has no room for what a slice wakes. */
struct crowd {
    struct seen seen;
    atomic_int over;
};

static int yield_on(void *arg)
{
    struct crowd *c = arg;
    while (!atomic_load(&c->over))
        weft_ignore(weft_yield());
    return 0;
}

static int cancel_in_a_crowd(void *arg)
{
    struct crowd *c = arg;
    weft_scope crowd, s;
    weft_scope_begin(&crowd, WEFT_NEVER);
    weft_scope_begin(&s, WEFT_NEVER);
    bool all = grow(&c->seen, &s);
    for (int i = 0; i < 700; i++)
        weft_spawn(&crowd, yield_on, c);
    for (int i = 0; i < 10; i++)
        weft_ignore(weft_yield());
    weft_scope_cancel(&s, NULL);
    c->seen.later = wait_for(&c->seen.told, many());
    atomic_store(&c->over, 1);
    weft_ignore(weft_scope_end(&s, 0));
    return weft_scope_end(&crowd, all ? 0 : -ETIME);
}

START_TEST(a_walk_goes_on_beside_a_full_ring)
{
    struct crowd c = { .seen = { .shape = 0 } };
    ck_assert_int_eq(weft_run(cancel_in_a_crowd, &c, ON(1)), 0);
    ck_assert_int_eq(c.seen.later, 1);
}
END_TEST

/* The canceller's runtime is not that of the tasks. */
struct two {
    struct seen seen;
    weft_scope *scope;
};

/* And its worker computes on: the tasks' own worker does the rest. */
static int cancel_from_here(void *arg)
{
    struct two *t = arg;
    int64_t end = weft_after(LIMIT);
    weft_scope_cancel(t->scope, NULL);
    while (atomic_load(&t->seen.told) < many())
        if (weft_now() > end)
            return -ETIME;
    return 0;
}

START_TEST(a_walk_does_not_need_the_worker_of_its_canceller)
{
    struct two t = { .seen = { .shape = _i } };
    weft_runtime *here, *there;
    weft_scope s;
    ck_assert_int_eq(weft_runtime_create(&here, ON(1)), 0);
    ck_assert_int_eq(weft_runtime_create(&there, ON(2)), 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = there });
    bool all = grow(&t.seen, &s);
    t.scope = &s;
    int rc = weft_runtime_run(here, cancel_from_here, &t);
    weft_runtime_destroy(&here);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    weft_runtime_destroy(&there);
    ck_assert(all);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&t.seen.told), many());
}
END_TEST

START_TEST(a_plain_thread_may_cancel_many)
{
    struct seen p = { .shape = _i };
    weft_runtime *rt;
    weft_scope s;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    bool all = grow(&p, &s);
    weft_scope_cancel(&s, NULL);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    weft_runtime_destroy(&rt);
    ck_assert(all);
    ck_assert_int_eq(atomic_load(&p.told), many());
}
END_TEST

/* -- those who wait for the end of one task -- */

struct awaited {
    weft_task task;
    atomic_int waiting, open, joined;
    int at_once;
};

static int awaited(void *arg)
{
    struct awaited *g = arg;
    wait_for(&g->open, 1);
    return 0;
}

static int join_gate(void *arg)
{
    struct awaited *g = arg;
    atomic_fetch_add(&g->waiting, 1);
    int rc = weft_task_join(g->task);
    atomic_fetch_add(&g->joined, rc == 0);
    return rc;
}

static int open_gate(void *arg)
{
    struct awaited *g = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    g->task = weft_spawn(&s, awaited, g);
    for (int i = 0; i < many(); i++)
        weft_spawn(&s, join_gate, g);
    bool all = wait_for(&g->waiting, many());
    atomic_store(&g->open, 1);
    while (weft_task_alive(g->task)) {
        int rc = weft_yield();
        g->at_once = woken();
        if (rc < 0)
            return weft_scope_end(&s, rc);
    }
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(the_end_of_a_task_wakes_many_joiners_in_slices)
{
    struct awaited g = { 0 };
    ck_assert_int_eq(weft_run(open_gate, &g, ON(1)), 0);
    ck_assert_int_eq(atomic_load(&g.joined), many());
    if (!chaos()) /* where a worker's turns between two slices are drawn: what was woken may not have had its own yet */
        ck_assert_int_lt(g.at_once, many() / 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tree");
    TCase *tc = add_case(s, "walk");
    tcase_add_loop_test(tc, a_cancel_wakes_a_slice_at_once_and_the_rest_in_turn, 0, COUNT(shapes));
    tcase_add_loop_test(tc, so_does_a_cancel_of_the_task_that_has_them, 0, COUNT(shapes));
    tcase_add_loop_test(tc, a_deadline_reaches_all_of_them, 0, COUNT(shapes));
    tcase_add_loop_test(tc, a_walk_may_lose_what_it_walks_through, 0, 4);
    tcase_add_test(tc, a_walk_goes_on_beside_a_full_ring);
    tcase_add_loop_test(tc, a_walk_does_not_need_the_worker_of_its_canceller, 0, COUNT(shapes));
    tcase_add_loop_test(tc, a_plain_thread_may_cancel_many, 0, COUNT(shapes));
    tc = add_case(s, "joiners");
    tcase_add_test(tc, the_end_of_a_task_wakes_many_joiners_in_slices);
    return run_suite(s);
}
