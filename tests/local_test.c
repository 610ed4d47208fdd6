/* local_test.c - values that belong to a task: whose they are, who inherits them, when they are dropped. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"

static const int workers_of[] = { 0, 1, 2, 4 };
enum { PLACES = COUNT(workers_of) };

static atomic_int dropped, dropped_twice;

struct box {
    int value;
    atomic_int alive;
};

static void drop(void *arg)
{
    struct box *b = arg;
    if (atomic_exchange(&b->alive, 0) == 1)
        atomic_fetch_add(&dropped, 1);
    else
        atomic_fetch_add(&dropped_twice, 1);
}

static weft_local own = { .drop = drop };
static weft_local handed = { .drop = drop, .inherit = true };
static weft_local second = { .drop = drop, .inherit = true };
static weft_local plain, plain_handed = { .inherit = true };

#define BOX(n) { .value = (n), .alive = 1 }

static int value_of(weft_local *key)
{
    struct box *b = weft_local_get(key);
    return !b ? -1 : atomic_load(&b->alive) ? b->value : -2;
}

#define must(cond) ((cond) ? (void)0 : wrong_at(__LINE__))

struct thread_call {
    weft_fn *fn;
    void *arg;
    int rc;
};

static void *call_on_thread(void *arg)
{
    struct thread_call *c = arg;
    c->rc = c->fn(c->arg);
    return NULL;
}

/* On a plain thread that ends, or in a task of n workers. */
static void run_at(int place, weft_fn *fn, void *arg)
{
    atomic_store(&dropped, 0);
    atomic_store(&dropped_twice, 0);
    atomic_store(&wrong_line, 0);
    struct thread_call c = { fn, arg, 0 };
    if (workers_of[place] == 0)
        pthread_join(thread_start(call_on_thread, &c), NULL);
    else
        c.rc = weft_run(fn, arg, ON(workers_of[place]));
    ck_assert_int_eq(c.rc, 0);
    ck_assert_msg(atomic_load(&wrong_line) == 0, "line %d", atomic_load(&wrong_line));
    ck_assert_int_eq(atomic_load(&dropped_twice), 0);
}

/* ---- get and set */

static int set_some(void *arg)
{
    struct box *b = arg;
    must(weft_local_get(&own) == NULL && weft_local_get(&handed) == NULL);
    must(weft_local_set(&own, NULL) == 0);
    must(weft_local_set(&own, &b[0]) == 0 && value_of(&own) == 0);
    must(weft_local_set(&handed, &b[1]) == 0 && value_of(&handed) == 1);
    must(weft_local_set(&second, &b[2]) == 0 && value_of(&second) == 2);
    must(value_of(&own) == 0 && value_of(&handed) == 1);
    must(weft_local_set(&own, &b[0]) == 0 && weft_local_set(&handed, &b[1]) == 0); /* the same again */
    must(atomic_load(&dropped) == 0);
    must(weft_local_set(&own, &b[3]) == 0 && value_of(&own) == 3);
    must(atomic_load(&dropped) == 1 && !atomic_load(&b[0].alive));
    must(weft_local_set(&handed, &b[4]) == 0 && value_of(&handed) == 4 && value_of(&second) == 2);
    must(atomic_load(&dropped) == 2 && !atomic_load(&b[1].alive));
    must(weft_local_set(&second, NULL) == 0 && value_of(&second) == -1 && value_of(&handed) == 4);
    must(atomic_load(&dropped) == 3);
    must(weft_local_set(&handed, NULL) == 0 && value_of(&handed) == -1);
    must(weft_local_set(&handed, &b[5]) == 0 && value_of(&handed) == 5);
    must(weft_local_get(NULL) == NULL && weft_local_set(NULL, b) == -EINVAL);
    must(weft_local_set(&plain, b) == 0 && weft_local_get(&plain) == b);
    must(weft_local_set(&plain_handed, b) == 0 && weft_local_get(&plain_handed) == b);
    return 0;
}

START_TEST(each_value_is_dropped_once)
{
    struct box b[6] = { BOX(0), BOX(1), BOX(2), BOX(3), BOX(4), BOX(5) };
    run_at(_i, set_some, b);
    ck_assert_int_eq(atomic_load(&dropped), 6);
}
END_TEST

/* ---- the order of drops, and what a drop may do */

static int order[8], ordered;
static weft_local late = { 0 };

static void note_order(void *arg)
{
    order[ordered++] = (int)(intptr_t)arg;
    must(weft_local_set(&late, arg) == -EINVAL);
    must((intptr_t)weft_local_get(&late) == (ordered == 1 ? 99 : 0));
}

static weft_local ordered_key[3] = { { .drop = note_order }, { .drop = note_order }, { .drop = note_order } };

static int set_in_order(void *arg)
{
    (void)arg;
    late.drop = NULL;
    must(weft_local_set(&ordered_key[0], (void *)1) == 0);
    must(weft_local_set(&ordered_key[1], (void *)2) == 0);
    must(weft_local_set(&late, (void *)99) == 0);
    must(weft_local_set(&ordered_key[2], (void *)3) == 0);
    return 0;
}

START_TEST(the_newest_value_goes_first)
{
    ordered = 0;
    run_at(_i, set_in_order, NULL);
    ck_assert_int_eq(ordered, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(order[i], 3 - i);
}
END_TEST

/* ---- a key that is made anew at the same place */

static int reuse_key(void *arg)
{
    struct box *b = arg;
    weft_local key = { .drop = drop };
    must(weft_local_set(&key, b) == 0);
    key = (weft_local){ .drop = drop };
    must(weft_local_get(&key) == NULL);
    must(weft_local_set(&key, &b[1]) == 0 && value_of(&key) == 1);
    return 0;
}

START_TEST(a_key_made_anew_has_no_value)
{
    struct box b[2] = { BOX(0), BOX(1) };
    run_at(_i, reuse_key, b);
    ck_assert_int_eq(atomic_load(&dropped), 2);
}
END_TEST

/* ---- inheritance */

struct family {
    struct box *b;
    bool inlined;
};

static int grandchild(void *arg)
{
    struct family *f = arg;
    must(value_of(&handed) == 1 && value_of(&second) == -1 && value_of(&own) == -1);
    must(weft_local_set(&second, &f->b[3]) == 0);
    return 0;
}

static int child(void *arg)
{
    struct family *f = arg;
    must(value_of(&handed) == 1); /* as at the spawn, whatever was set since */
    must(value_of(&own) == -1);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, grandchild, f);
    must(weft_scope_end(&s, 0) == 0);
    must(value_of(&second) == -1);
    must(weft_local_set(&handed, &f->b[2]) == 0 && value_of(&handed) == 2);
    return 0;
}

static int parent(void *arg)
{
    struct family *f = arg;
    weft_scope s;
    must(weft_local_set(&own, &f->b[0]) == 0);
    must(weft_local_set(&handed, &f->b[1]) == 0);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, child, f);
    if (f->inlined) {
        must(weft_task_join(t) == 0);
        must(value_of(&handed) == 1 && value_of(&own) == 0);
    }
    must(weft_local_set(&handed, &f->b[4]) == 0);
    must(weft_scope_end(&s, 0) == 0);
    must(value_of(&handed) == 4 && value_of(&own) == 0 && value_of(&second) == -1);
    must(!atomic_load(&f->b[1].alive)); /* all that had it have gone */
    return 0;
}

START_TEST(a_child_finds_what_its_spawner_had)
{
    for (int inlined = 0; inlined < 2; inlined++) {
        struct box b[5] = { BOX(0), BOX(1), BOX(2), BOX(3), BOX(4) };
        struct family f = { .b = b, .inlined = inlined };
        run_at(_i, parent, &f);
        ck_assert_int_eq(atomic_load(&dropped), 5);
    }
}
END_TEST

/* Arguments travel along, however they are handed over. */
struct small {
    int64_t a, b;
};
struct large {
    int64_t a[20];
};

static int gets_small(void *arg)
{
    const struct small *x = arg;
    must(x->a == 5 && x->b == 6 && ((uintptr_t)x & 15) == 0 && value_of(&handed) == 1);
    return 0;
}

static int gets_large(void *arg)
{
    const struct large *x = arg;
    must(x->a[0] == 7 && x->a[19] == 8 && value_of(&handed) == 1);
    return 0;
}

static int gets_named(void *arg)
{
    char name[32];
    must(weft_task_name(weft_task_self(), name, sizeof name) == 5 && strcmp(name, "named") == 0);
    must(value_of(&handed) == 1);
    return arg == &handed ? 17 : -EPROTO;
}

static int gets_nothing(void *arg)
{
    (void)arg;
    must(value_of(&handed) == 1);
    return 0;
}

static int spawn_each_way(void *arg)
{
    int result = 0;
    must(weft_local_set(&handed, arg) == 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 5; i++) {
        struct large l = { .a = { [0] = 7, [19] = 8 } };
        must(weft_spawn_copy(&s, gets_small, &(struct small){ 5, 6 }, sizeof(struct small)) > 0);
        must(weft_spawn_copy(&s, gets_large, &l, sizeof l) > 0);
        must(weft_spawn_copy(&s, gets_nothing, NULL, 0) > 0);
        must(weft_spawn_with(&s, gets_named, &handed,
                     &(weft_spawn_options){ .name = "named", .pin = 1, .result = &result }) > 0);
    }
    int rc = weft_scope_end(&s, 0);
    must(result == 17);
    return rc;
}

START_TEST(arguments_and_options_travel_along)
{
    struct box b = BOX(1);
    run_at(_i, spawn_each_way, &b);
    ck_assert_int_eq(atomic_load(&dropped), 1);
}
END_TEST

/* Many at once hold the same value. */
static int holds(void *arg)
{
    must(value_of(&handed) == 1);
    int rc = weft_yield();
    must(value_of(&handed) == 1);
    return rc < 0 ? rc : weft_sleep((intptr_t)arg % 3 * 1000);
}

static int hold_many(void *arg)
{
    must(weft_local_set(&handed, arg) == 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (intptr_t i = 0; i < SCALED(20000, 5000, 1000); i++)
        weft_spawn(&s, holds, (void *)i);
    must(weft_local_set(&handed, NULL) == 0);
    int rc = weft_scope_end(&s, 0);
    must(atomic_load(&dropped) == 1);
    return rc;
}

START_TEST(the_last_holder_drops_it)
{
    struct box b = BOX(1);
    run_at(_i, hold_many, &b);
    ck_assert_int_eq(atomic_load(&dropped), 1);
}
END_TEST

/* B-080 */
static int has_one(void *arg)
{
    struct box *b = arg;
    must(weft_local_set(&own, b) == 0);
    int rc = weft_yield();
    must(weft_local_get(&own) == b && atomic_load(&b->alive));
    return rc;
}

enum { TASKS = 100000 };
static struct box *boxes;

static int have_one_each(void *arg)
{
    int n = *(int *)arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++)
        weft_spawn(&s, has_one, &boxes[i]);
    return weft_scope_end(&s, 0);
}

START_TEST(one_key_and_many_tasks)
{
    int n = SCALED(TASKS, 20000, 2000);
    boxes = calloc((size_t)n, sizeof *boxes);
    for (int i = 0; i < n; i++)
        atomic_store(&boxes[i].alive, 1);
    run_at(_i, have_one_each, &n);
    ck_assert_int_eq(atomic_load(&dropped), n);
    free(boxes);
}
END_TEST

/* ---- the pool */

static int pool_call(void *arg)
{
    struct box *b = arg;
    must(value_of(&handed) == 1 && value_of(&own) == -1 && value_of(&second) == -1);
    must(weft_local_set(&handed, &b[2]) == 0 && value_of(&handed) == 2); /* for this call alone */
    must(weft_local_set(&own, &b[3]) == 0 && value_of(&own) == 3);
    return 5;
}

static int pool_call_without(void *arg)
{
    must(value_of(&handed) == -1 && value_of(&own) == -1);
    must(weft_local_set(&own, arg) == 0);
    return 6;
}

static int call_pool(void *arg)
{
    struct box *b = arg;
    must(weft_blocking(pool_call_without, &b[4]) == 6);
    must(atomic_load(&dropped) == 1); /* when it had returned */
    must(weft_local_set(&own, &b[0]) == 0 && weft_local_set(&handed, &b[1]) == 0);
    must(weft_blocking(pool_call, b) == 5);
    must(atomic_load(&dropped) == 3 && value_of(&handed) == 1 && value_of(&own) == 0);
    must(weft_local_set(&handed, NULL) == 0);
    must(weft_blocking(pool_call_without, &b[5]) == 6);
    return 0;
}

START_TEST(a_call_in_the_pool_finds_what_a_child_would)
{
    struct box b[6] = { BOX(0), BOX(1), BOX(2), BOX(3), BOX(4), BOX(5) };
    run_at(_i, call_pool, b);
    ck_assert_int_eq(atomic_load(&dropped), 6);
}
END_TEST

/* The task leaves, and the value stays for the call that goes on. */
struct left_behind {
    struct gate *gate;
    atomic_int *begun, *seen;
};

static struct box left_box;

static int stays(void *arg)
{
    struct left_behind *l = arg;
    atomic_store(l->begun, 1);
    if (!gate_wait(l->gate))
        return -ETIME;
    atomic_store(l->seen, value_of(&handed));
    return 0;
}

static int leaves(void *arg)
{
    must(weft_local_set(&handed, &left_box) == 0);
    return weft_blocking_copy(stays, arg, sizeof(struct left_behind), NULL);
}

static int leave_call(void *arg)
{
    struct left_behind *l = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, leaves, l);
    must(wait_for(l->begun, 1));
    weft_task_cancel(t, NULL);
    must(weft_task_join(t) == 0);
    must(atomic_load(&dropped) == 0);
    gate_open(l->gate);
    return weft_scope_end(&s, 0);
}

START_TEST(a_call_that_was_left_keeps_its_values)
{
    struct gate gate = GATE_INIT;
    atomic_int begun = 0, seen = 0;
    struct left_behind l = { &gate, &begun, &seen };
    left_box = (struct box)BOX(9);
    run_at(_i, leave_call, &l);
    ck_assert_int_eq(atomic_load(&seen), 9);
    ck_assert_int_eq(atomic_load(&dropped), 1);
}
END_TEST

/* ---- from plain threads into a runtime */

static int main_finds_it(void *arg)
{
    (void)arg;
    must(value_of(&handed) == 1 && value_of(&own) == -1);
    return 0;
}

static int thread_hands_on(void *arg)
{
    struct box *b = arg;
    must(weft_local_set(&handed, &b[1]) == 0 && weft_local_set(&own, &b[0]) == 0);
    return weft_run(main_finds_it, NULL, ON(2));
}

START_TEST(a_main_inherits_from_its_thread)
{
    struct box b[2] = { BOX(0), BOX(1) };
    run_at(0, thread_hands_on, b);
    ck_assert_int_eq(atomic_load(&dropped), 2);
}
END_TEST

/* Each main finds what its thread has, and nothing of what one before it has set. */
static int main_sets_its_own(void *arg)
{
    struct box *b = arg;
    must(value_of(&handed) == 0 && value_of(&second) == -1 && value_of(&own) == -1);
    must(weft_local_set(&handed, &b[1]) == 0 && weft_local_set(&own, &b[2]) == 0);
    must(value_of(&handed) == b[1].value);
    return 0;
}

static int thread_runs_several(void *arg)
{
    struct box *b = arg;
    weft_runtime *rt;
    int rc = weft_runtime_create(&rt, ON(2));
    must(rc == 0 && weft_local_set(&handed, &b[0]) == 0);
    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = weft_runtime_run(rt, main_sets_its_own, b + 2 * i);
        must(value_of(&handed) == 0 && atomic_load(&dropped) == 2 * (i + 1));
    }
    for (int i = 0; i < 3; i++) /* the second time there is none */
        weft_runtime_destroy(&rt);
    must(!rt && value_of(&handed) == 0);
    return rc;
}

/* */
START_TEST(mains_in_turn_find_what_their_thread_keeps)
{
    struct box b[8] = { BOX(0), BOX(1), BOX(2), BOX(3), BOX(4), BOX(5), BOX(6), BOX(7) };
    run_at(0, thread_runs_several, b);
    ck_assert_int_eq(atomic_load(&dropped), 7);
}
END_TEST

/* ---- callbacks: A-079, B-081 */

struct ended {
    struct box *b;
    weft_scope *s;
    atomic_int go, called, child;
};

/* What the first callback set is seen by what it spawned, and not by the second one. */
static int finds_what_the_callback_set(void *arg)
{
    struct ended *e = arg;
    must(value_of(&handed) == 3 && value_of(&second) == 6 && value_of(&own) == -1);
    atomic_fetch_add(&e->child, 1);
    return 0;
}

static int finds_what_the_callback_found(void *arg)
{
    struct ended *e = arg;
    must(value_of(&handed) == 1 && value_of(&second) == -1 && value_of(&own) == -1);
    atomic_fetch_add(&e->child, 1);
    return 0;
}

static void at_the_end(void *arg)
{
    struct ended *e = arg;
    must(weft_task_self() == 0);
    must(value_of(&handed) == 0 && value_of(&second) == 6 && value_of(&own) == -1);
    must(weft_local_set(&handed, &e->b[3]) == 0 && weft_local_set(&own, &e->b[4]) == 0);
    must(value_of(&handed) == 3 && value_of(&own) == 4);
    must(weft_spawn(e->s, finds_what_the_callback_set, e) > 0);
    atomic_fetch_add(&e->called, 1);
}

static void at_the_end_too(void *arg)
{
    struct ended *e = arg;
    must(!atomic_load(&e->b[4].alive)); /* gone with the one before */
    must(value_of(&handed) == 1 && value_of(&second) == -1 && value_of(&own) == -1);
    must(weft_spawn(e->s, finds_what_the_callback_found, e) > 0);
    atomic_fetch_add(&e->called, 1);
}

static void soon(void *arg)
{
    struct ended *e = arg;
    must(value_of(&handed) == 1 && value_of(&second) == -1 && value_of(&own) == -1);
    atomic_fetch_add(&e->called, 1);
}

static int ends_with_values(void *arg)
{
    struct ended *e = arg;
    must(value_of(&handed) == 0 && weft_local_set(&own, &e->b[2]) == 0);
    must(weft_local_set(&handed, &e->b[5]) == 0);
    return wait_for(&e->go, 1) ? 0 : -ETIME;
}

static int register_for_an_end(void *arg)
{
    struct ended *e = arg;
    weft_scope s;
    must(weft_local_set(&handed, &e->b[0]) == 0);
    weft_scope_begin(&s, WEFT_NEVER);
    e->s = &s;
    weft_task t = weft_spawn(&s, ends_with_values, e);
    must(weft_local_set(&second, &e->b[6]) == 0); /* after the spawn, and before the registration */
    must(weft_task_on_done(t, at_the_end, e) == 0);
    must(weft_local_set(&second, NULL) == 0 && weft_local_set(&handed, &e->b[1]) == 0);
    must(weft_task_on_done(t, at_the_end_too, e) == 0);
    must(weft_call_soon(&s, soon, e) > 0);
    must(weft_call_at(&s, weft_after(1), soon, e) > 0);
    must(weft_local_set(&handed, NULL) == 0);
    must(atomic_load(&e->b[0].alive) && atomic_load(&e->b[6].alive)); /* the callbacks hold them */
    atomic_store(&e->go, 1);
    int rc = weft_scope_end(&s, 0);
    must(value_of(&handed) == -1 && value_of(&second) == -1);
    must(weft_task_on_done(t, at_the_end, e) == -ESRCH); /* holds nothing */
    return rc;
}

START_TEST(a_callback_finds_what_who_registered_it_had)
{
    struct box b[7] = { BOX(0), BOX(1), BOX(2), BOX(3), BOX(4), BOX(5), BOX(6) };
    struct ended e = { .b = b };
    run_at(_i, register_for_an_end, &e);
    ck_assert_int_eq(atomic_load(&e.called), 4);
    ck_assert_int_eq(atomic_load(&e.child), 2);
    ck_assert_int_eq(atomic_load(&dropped), 7);
}
END_TEST

/* The thread has ended when its callback is called: that has its value still. */
struct by_thread {
    struct box *b;
    weft_task task;
    atomic_int go, called;
};

static void finds_the_threads(void *arg)
{
    struct by_thread *e = arg;
    must(weft_task_self() == 0 && value_of(&handed) == 1);
    atomic_fetch_add(&e->called, 1);
}

static int waits_to_end(void *arg)
{
    struct by_thread *e = arg;
    return wait_for(&e->go, 1) ? 0 : -ETIME;
}

static void *registers_and_ends(void *arg)
{
    struct by_thread *e = arg;
    must(weft_local_set(&handed, &e->b[1]) == 0);
    must(weft_task_on_done(e->task, finds_the_threads, e) == 0);
    return NULL;
}

static int registered_by_a_thread(void *arg)
{
    struct by_thread *e = arg;
    weft_scope s;
    must(weft_local_set(&handed, &e->b[0]) == 0);
    weft_scope_begin(&s, WEFT_NEVER);
    e->task = weft_spawn(&s, waits_to_end, e);
    pthread_join(thread_start(registers_and_ends, e), NULL);
    must(atomic_load(&e->b[1].alive));
    atomic_store(&e->go, 1);
    int rc = weft_scope_end(&s, 0);
    must(!atomic_load(&e->b[1].alive));
    return rc;
}

START_TEST(a_threads_callback_finds_what_the_thread_had)
{
    struct box b[2] = { BOX(0), BOX(1) };
    struct by_thread e = { .b = b };
    run_at(_i, registered_by_a_thread, &e);
    ck_assert_int_eq(atomic_load(&e.called), 1);
    ck_assert_int_eq(atomic_load(&dropped), 2);
}
END_TEST

/* ---- generators */

static int says_value(weft_gen *g, void *arg)
{
    (void)arg;
    for (;;) {
        int v = value_of(&own), rc = weft_gen_yield(g, &v, sizeof v);
        if (rc < 0) {
            must(value_of(&own) >= 0); /* it is closed before values are dropped */
            return rc;
        }
    }
}

struct asked {
    weft_gen *g;
    struct box *b;
};

static int asks(void *arg)
{
    struct asked *a = arg;
    int v = -5;
    must(weft_local_set(&own, &a->b[1]) == 0);
    must(weft_gen_next(a->g, &v, sizeof v) == 1 && v == 1);
    return 0;
}

static int ask_body(void *arg)
{
    struct asked a = { .b = arg };
    int v = -5;
    must(weft_local_set(&own, &a.b[0]) == 0);
    must(weft_gen_create(&a.g, says_value, NULL, sizeof v, NULL) == 0);
    must(weft_gen_next(a.g, &v, sizeof v) == 1 && v == 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, asks, &a);
    int rc = weft_scope_end(&s, 0);
    must(weft_gen_next(a.g, &v, sizeof v) == 1 && v == 0);
    return rc; /* the end of the task closes it */
}

START_TEST(a_body_finds_its_consumers_values)
{
    struct box b[2] = { BOX(0), BOX(1) };
    run_at(_i, ask_body, b);
    ck_assert_int_eq(atomic_load(&dropped), 2);
}
END_TEST

/* ---- without memory */

static int set_and_spawn(void *arg)
{
    struct box *b = arg;
    bool set = false, set_own = false;
    int rc = weft_local_set(&handed, &b[1]);
    if (rc < 0 && rc != -ENOMEM)
        return rc;
    set = rc == 0;
    if (!set)
        drop(&b[1]); /* it stayed ours */
    if (!(set_own = weft_local_set(&own, &b[0]) == 0))
        drop(&b[0]);
    must(value_of(&handed) == (set ? 1 : -1) && value_of(&own) == (set_own ? 0 : -1));
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t[3];
    t[0] = weft_spawn_copy(&s, gets_small, &(struct small){ 5, 6 }, sizeof(struct small));
    if (!set) { /* it would complain */
        must(weft_scope_end(&s, 0) == (t[0] < 0 ? (int)t[0] : 0) || t[0] < 0);
        return -ENOMEM;
    }
    t[1] = weft_spawn(&s, gets_nothing, arg);
    t[2] = weft_spawn_with(&s, gets_named, &handed, &(weft_spawn_options){ .name = "named" });
    for (int i = 0; i < 3; i++)
        must(t[i] > 0 || t[i] == -ENOMEM);
    rc = weft_scope_end(&s, 0);
    return rc > 0 ? 0 : rc;
}

START_TEST(without_memory_nothing_is_lost)
{
    static const enum weft__fault_kind kinds[] = { WEFT__FAULT_ALLOC, WEFT__FAULT_MMAP, WEFT__FAULT_GUARD };
    for (int k = 0; k < COUNT(kinds); k++)
        for (long nth = 1, clean = 0; nth < 200 && clean < 3; nth++) {
            struct box b[2] = { BOX(0), BOX(1) };
            atomic_store(&dropped, 0);
            atomic_store(&dropped_twice, 0);
            atomic_store(&wrong_line, 0);
            weft_runtime *rt = NULL;
            weft__fault_set(kinds[k], nth, 1, -ENOMEM);
            int rc = weft_runtime_create(&rt, QUIETLY_ON(1)), ran = -1;
            if (rc == 0) {
                struct box *arg = b;
                rc = ran = weft_runtime_run(rt, set_and_spawn, arg);
            }
            long failed = weft__fault_failed(kinds[k]);
            weft__fault_clear();
            weft_runtime_destroy(&rt);
            bool began = atomic_load(&dropped) > 0;
            ck_assert_msg(rc == 0 || (failed > 0 && rc == -ENOMEM), "%d %ld: %d", k, nth, rc);
            /* A child that failed for want of memory has what it inherited dropped all the same. */
            ck_assert_msg(!began || atomic_load(&dropped) == 2, "%d %ld: %d dropped", k, nth, atomic_load(&dropped));
            ck_assert_msg(ran != 0 || began, "%d %ld: nothing was dropped", k, nth);
            ck_assert_int_eq(atomic_load(&dropped_twice), 0);
            if (failed == 0)
                clean++;
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("local");
    TCase *everywhere = add_case(s, "everywhere"), *tasks = add_case(s, "tasks");
    tcase_add_loop_test(everywhere, each_value_is_dropped_once, 0, PLACES);
    tcase_add_loop_test(everywhere, the_newest_value_goes_first, 0, PLACES);
    tcase_add_loop_test(everywhere, a_key_made_anew_has_no_value, 0, PLACES);
    tcase_add_loop_test(tasks, a_child_finds_what_its_spawner_had, 1, PLACES);
    tcase_add_loop_test(tasks, arguments_and_options_travel_along, 1, PLACES);
    tcase_add_loop_test(tasks, the_last_holder_drops_it, 1, PLACES);
    tcase_add_loop_test(tasks, one_key_and_many_tasks, 1, PLACES);
    tcase_add_loop_test(tasks, a_call_in_the_pool_finds_what_a_child_would, 1, PLACES);
    tcase_add_loop_test(tasks, a_call_that_was_left_keeps_its_values, 1, PLACES);
    tcase_add_test(tasks, a_main_inherits_from_its_thread);
    tcase_add_test(tasks, mains_in_turn_find_what_their_thread_keeps);
    tcase_add_loop_test(tasks, a_callback_finds_what_who_registered_it_had, 1, PLACES);
    tcase_add_loop_test(tasks, a_threads_callback_finds_what_the_thread_had, 1, PLACES);
    tcase_add_loop_test(tasks, a_body_finds_its_consumers_values, 1, PLACES);
    tcase_add_test(tasks, without_memory_nothing_is_lost);
    return run_suite(s);
}
