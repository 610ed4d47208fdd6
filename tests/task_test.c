/* task_test.c - tasks seen from outside: spawning, copying, joining, names, ids, pins, stacks,
 * stealing. */
#include "support.h"

#include <fenv.h>

static const int worker_counts[] = { 1, 2, 3, 8 };

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int add_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return 0;
}

/* -- spawning -- */

struct spawned {
    atomic_int ran;
    weft_task ids[100];
    int end;
};

static int spawn_hundred(void *arg)
{
    struct spawned *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(p->ids); i++)
        p->ids[i] = weft_spawn(&s, add_one, &p->ran);
    p->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(each_spawned_task_runs_once_and_has_an_id_of_its_own)
{
    struct spawned p = { .end = 1 };
    ck_assert_int_eq(weft_run(spawn_hundred, &p, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(p.end, 0);
    ck_assert_int_eq(atomic_load(&p.ran), COUNT(p.ids));
    for (int i = 0; i < COUNT(p.ids); i++) {
        ck_assert_int_gt(p.ids[i], 0);
        for (int k = 0; k < i; k++)
            ck_assert_int_ne(p.ids[i], p.ids[k]);
    }
}
END_TEST

struct borrowed {
    int in, out;
};

static int double_it(void *arg)
{
    struct borrowed *b = arg;
    b->out = 2 * b->in;
    return 0;
}

static int spawn_borrowing(void *arg)
{
    struct borrowed *all = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 50; i++)
        weft_spawn(&s, double_it, &all[i]);
    return weft_scope_end(&s, 0);
}

START_TEST(spawn_borrows_its_argument)
{
    struct borrowed all[50];
    for (int i = 0; i < COUNT(all); i++)
        all[i] = (struct borrowed){ .in = i };
    ck_assert_int_eq(weft_run(spawn_borrowing, all, ON(worker_counts[_i])), 0);
    for (int i = 0; i < COUNT(all); i++)
        ck_assert_int_eq(all[i].out, 2 * i);
}
END_TEST

struct seen_numbers {
    atomic_int times[1000];
};

static struct seen_numbers seen_numbers;

static int see_number(void *arg)
{
    int i = *(const int *)arg;
    int rc = weft_yield();
    if (i >= 0 && i < COUNT(seen_numbers.times) && *(const int *)arg == i)
        atomic_fetch_add(&seen_numbers.times[i], 1);
    return rc;
}

static int spawn_loop_variable(void *arg)
{
    (void)arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(seen_numbers.times); i++) {
        int inner = i;
        weft_spawn_copy(&s, see_number, &inner, sizeof inner);
        inner = -1;
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_loop_variable_arrives_intact_through_the_copy)
{
    memset(&seen_numbers, 0, sizeof seen_numbers);
    ck_assert_int_eq(weft_run(spawn_loop_variable, NULL, ON(worker_counts[_i])), 0);
    for (int i = 0; i < COUNT(seen_numbers.times); i++)
        ck_assert_int_eq(atomic_load(&seen_numbers.times[i]), 1);
}
END_TEST

/* -- copies -- */

static const int copy_sizes[] = { 0, 1, 7, 8, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 128, 255,
    1000, 2048, 4095, 4096 };

struct copies {
    int bytes;
    bool with_options;
    atomic_int ran, misaligned, wrong, same;
    unsigned char original[4096];
};

static struct copies copies;

static unsigned char pattern(size_t i, int turn)
{
    return (unsigned char)(i * 7 + (size_t)turn * 31 + 1);
}

static int look_at_copy(void *arg)
{
    const unsigned char *mine = arg;
    int turn = -1;
    atomic_fetch_add(&copies.ran, 1);
    if (copies.bytes == 0)
        return 0;
    if ((uintptr_t)mine % 16 != 0)
        atomic_fetch_add(&copies.misaligned, 1);
    if (mine == copies.original)
        atomic_fetch_add(&copies.same, 1);
    for (int round = 0; round < 2; round++) {
        for (int t = 0; t < 20 && turn < 0; t++)
            if (mine[0] == pattern(0, t))
                turn = t;
        for (size_t i = 0; i < (size_t)copies.bytes; i++)
            if (mine[i] != pattern(i, turn)) {
                atomic_fetch_add(&copies.wrong, 1);
                return 0;
            }
        weft_ignore(weft_yield());
    }
    return 0;
}

static int spawn_copies(void *arg)
{
    struct copies *c = arg;
    weft_spawn_options o = { .copy_bytes = (size_t)c->bytes };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int turn = 0; turn < 20; turn++) {
        for (size_t i = 0; i < sizeof c->original; i++)
            c->original[i] = pattern(i, turn);
        if (c->with_options)
            weft_spawn_with(&s, look_at_copy, c->original, &o);
        else
            weft_spawn_copy(&s, look_at_copy, c->original, (size_t)c->bytes);
        memset(c->original, 0, sizeof c->original);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_child_gets_its_own_aligned_copy_of_any_size)
{
    for (int with = 0; with < 2; with++) {
        if (with && copy_sizes[_i] == 0)
            break; /* with options, zero bytes means borrowing */
        memset(&copies, 0, sizeof copies);
        copies.bytes = copy_sizes[_i];
        copies.with_options = with;
        ck_assert_int_eq(weft_run(spawn_copies, &copies, ON(2)), 0);
        ck_assert_int_eq(atomic_load(&copies.ran), 20);
        ck_assert_int_eq(atomic_load(&copies.wrong), 0);
        ck_assert_int_eq(atomic_load(&copies.misaligned), 0);
        ck_assert_int_eq(atomic_load(&copies.same), 0);
    }
}
END_TEST

/* -- options -- */

struct result_seen {
    int results[50], at_join[50], joins;
};

static int square(void *arg)
{
    int i = *(const int *)arg;
    if (i % 2)
        weft_ignore(weft_yield());
    return i * i;
}

static int spawn_for_results(void *arg)
{
    struct result_seen *r = arg;
    weft_task ids[50];
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 50; i++) {
        weft_spawn_options o = { .copy_bytes = sizeof i, .result = &r->results[i] };
        ids[i] = weft_spawn_with(&s, square, &i, &o);
    }
    for (int i = 0; i < 50; i++) {
        r->joins |= weft_task_join(ids[i]);
        r->at_join[i] = r->results[i];
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_result_is_stored_before_the_join_returns)
{
    struct result_seen r;
    memset(&r, -1, sizeof r);
    r.joins = 0;
    ck_assert_int_eq(weft_run(spawn_for_results, &r, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(r.joins, 0);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(r.at_join[i], i * i);
}
END_TEST

struct failing_result {
    int result, end;
};

static int fail_with_io(void *arg)
{
    (void)arg;
    return -EIO;
}

static int spawn_failing(void *arg)
{
    struct failing_result *f = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, fail_with_io, NULL, &(weft_spawn_options){ .result = &f->result });
    f->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(a_failure_is_stored_as_a_result_too)
{
    struct failing_result f = { 1, 1 };
    ck_assert_int_eq(weft_run(spawn_failing, &f, ON(2)), 0);
    ck_assert_int_eq(f.result, -EIO);
    ck_assert_int_eq(f.end, -EIO);
}
END_TEST

enum { WORKERS = 3 };

struct bad_spawn {
    const char *why;
    weft_spawn_options o;
    bool no_function;
    int either; /* another acceptable answer, or 0 */
};

static const struct bad_spawn bad_spawns[] = {
    { "no function", { 0 }, true, 0 },
    { "a stack over 8 MiB", { .stack_bytes = (8u << 20) + 1 }, false, 0 },
    { "an endless stack", { .stack_bytes = SIZE_MAX }, false, 0 },
    { "a negative pin", { .pin = -1 }, false, 0 },
    { "a pin past the workers", { .pin = WORKERS + 1 }, false, 0 },
    { "a pin far past the workers", { .pin = 0x7fffffff }, false, 0 },
    { "reserved 0", { .reserved = { 1 } }, false, 0 },
    { "reserved 7", { .reserved = { 0, 0, 0, 0, 0, 0, 0, 1 } }, false, 0 },
    { "an endless copy", { .copy_bytes = SIZE_MAX }, false, -ENOMEM },
    { "a copy of nearly everything", { .copy_bytes = SIZE_MAX - 64 }, false, -ENOMEM },
};

struct bad_spawn_seen {
    const struct bad_spawn *bad;
    atomic_int ran;
    weft_task id;
    int end, failed;
};

static int spawn_badly(void *arg)
{
    struct bad_spawn_seen *b = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    b->id = weft_spawn_with(&s, b->bad->no_function ? NULL : add_one, &b->ran, &b->bad->o);
    b->end = weft_scope_end(&s, 7);
    b->failed = weft_scope_failed(&s);
    return 0;
}

START_TEST(a_spawn_with_bad_options_is_refused_and_fails_its_scope)
{
    struct bad_spawn_seen b = { .bad = &bad_spawns[_i] };
    ck_assert_int_eq(weft_run(spawn_badly, &b, ON(WORKERS)), 0);
    ck_assert_msg(b.id == -EINVAL || (b.bad->either && b.id == b.bad->either), "%s: %lld",
            b.bad->why, (long long)b.id);
    ck_assert_msg(b.end == b.id, "%s: the scope ended with %d", b.bad->why, b.end);
    ck_assert_int_eq(atomic_load(&b.ran), 0);
}
END_TEST

static int spawn_null_forms(void *arg)
{
    weft_task *ids = arg;
    ids[0] = weft_spawn(NULL, nothing, NULL);
    ids[1] = weft_spawn_copy(NULL, nothing, NULL, 0);
    ids[2] = weft_spawn_with(NULL, nothing, NULL, NULL);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    ids[3] = weft_spawn(&s, NULL, NULL);
    ids[4] = weft_scope_end(&s, 0);
    weft_scope_begin(&s, WEFT_NEVER);
    ids[5] = weft_spawn_with(&s, nothing, NULL, NULL);
    ids[6] = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(spawning_with_null_is_refused_and_null_options_are_the_default)
{
    weft_task ids[7];
    ck_assert_int_eq(weft_run(spawn_null_forms, ids, ON(1)), 0);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(ids[i], -EINVAL);
    ck_assert_int_gt(ids[5], 0);
    ck_assert_int_eq(ids[6], 0);
}
END_TEST

/* -- what is known of a task, before and after its end -- */

enum outcome { DONE, FAILED, TOLD_TO_LEAVE, FAILED_ALTHOUGH_TOLD, OUTCOMES };
enum { UNTOUCHED = 12345 };

static const int results[OUTCOMES] = { 7, -EDOM, -ECANCELED, -ERANGE };

struct one_end {
    atomic_int began, go;
    enum outcome how;
    int result, promised, join, cancel_after, done_code;
    weft_promise promise;
    weft_task id;
    bool alive_before, alive_after;
    int result_before, promise_before, result_after, failed;
};

static int end_in_some_way(void *arg)
{
    struct one_end *o = arg;
    atomic_store(&o->began, 1);
    if (o->how >= TOLD_TO_LEAVE)
        weft_ignore(weft_sleep_until(WEFT_NEVER));
    else if (!wait_for(&o->go, 1))
        return -ETIME;
    weft_ignore(weft_promise_set(&o->promise, results[o->how], NULL));
    return results[o->how];
}

/* Asks for the result without waiting: a wait whose time is over is refused, and tells so of what was not set. */
static int promised_now(weft_promise *p)
{
    weft_scope s;
    weft_scope_begin(&s, 0);
    return weft_scope_end(&s, weft_promise_wait(p, NULL));
}

static int see_it_end(void *arg)
{
    struct one_end *o = arg;
    weft_scope s;
    weft_done d = { .code = UNTOUCHED };
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_KEEP_GOING, .collect = true });
    o->id = weft_spawn_with(&s, end_in_some_way, o, &(weft_spawn_options){ .result = &o->result });
    bool there = wait_for(&o->began, 1);
    o->alive_before = weft_task_alive(o->id);
    o->result_before = o->result;
    o->promise_before = promised_now(&o->promise);
    if (o->how >= TOLD_TO_LEAVE)
        weft_ignore(weft_task_cancel(o->id, NULL));
    atomic_store(&o->go, 1);
    o->join = weft_task_join(o->id);
    o->alive_after = weft_task_alive(o->id);
    o->result_after = o->result;
    o->promised = weft_promise_wait(&o->promise, NULL);
    o->cancel_after = weft_task_cancel(o->id, NULL);
    if (weft_scope_next(&s, &d) == 1 && d.task == o->id)
        o->done_code = d.code;
    o->failed = weft_scope_failed(&s);
    weft_ignore(weft_scope_end(&s, 0));
    return there ? 0 : -ETIME;
}

/* pending, done, failed, cancelled. Before its end there is no result: what it is to be stored in is untouched, and a
 * wait for it that may not wait says that its time is over. */
START_TEST(a_task_is_pending_then_done_or_failed_or_cancelled)
{
    for (int how = 0; how < OUTCOMES; how++) {
        struct one_end o = { .how = (enum outcome)how, .result = UNTOUCHED, .done_code = UNTOUCHED };
        ck_assert_int_eq(weft_run(see_it_end, &o, ON(worker_counts[_i])), 0);
        ck_assert(o.alive_before);
        ck_assert_int_eq(o.result_before, UNTOUCHED);
        ck_assert_int_eq(o.promise_before, -ETIMEDOUT);
        ck_assert(!o.alive_after);
        ck_assert_int_eq(o.join, 0);
        ck_assert_int_eq(o.result_after, results[how]);
        ck_assert_int_eq(o.done_code, results[how]);
        ck_assert_int_eq(o.promised, results[how]);
        ck_assert_int_eq(o.cancel_after, -ESRCH);
        ck_assert_int_eq(o.failed, how == FAILED || how == FAILED_ALTHOUGH_TOLD); /* who left as it was told has not */
    }
}
END_TEST

/* -- pins -- */

struct pinned {
    int pin, turns;
    struct id_set threads;
    int rc;
};

static int stay(void *arg)
{
    struct pinned *p = arg;
    int rc = 0;
    for (int i = 0; i < p->turns && rc == 0; i++) {
        id_set_add(&p->threads, thread_id());
        rc = i % 50 == 0 ? weft_sleep(weft_us(50)) : weft_yield();
    }
    p->rc = rc;
    return rc;
}

static int yield_much(void *arg)
{
    int n = *(const int *)arg;
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = weft_yield();
    return rc;
}

struct pins {
    struct pinned p[6];
    int load;
};

static int run_pinned(void *arg)
{
    struct pins *pins = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(pins->p); i++)
        weft_spawn_with(&s, stay, &pins->p[i], &(weft_spawn_options){ .pin = pins->p[i].pin });
    for (int i = 0; i < 20; i++)
        weft_spawn(&s, yield_much, &pins->load);
    return weft_scope_end(&s, 0);
}

START_TEST(a_pinned_task_stays_on_its_worker)
{
    struct pins pins = { .load = 500 };
    for (int i = 0; i < COUNT(pins.p); i++)
        pins.p[i] = (struct pinned){
            .pin = i / 2 + 1, .turns = fewer(1000, SCALED(20000, 4000, 2000)), .threads = ID_SET_INIT
        };
    ck_assert_int_eq(weft_run(run_pinned, &pins, ON(WORKERS)), 0);
    for (int i = 0; i < COUNT(pins.p); i++) {
        ck_assert_int_eq(pins.p[i].rc, 0);
        ck_assert_int_eq(atomic_load(&pins.p[i].threads.n), 1);
        for (int k = 0; k < i; k++) {
            bool same_thread = pins.p[i].threads.ids[0] == pins.p[k].threads.ids[0];
            ck_assert_msg(same_thread == (pins.p[i].pin == pins.p[k].pin), "pins %d and %d",
                    pins.p[i].pin, pins.p[k].pin);
        }
    }
}
END_TEST

/* Others come and go meanwhile, on each worker more than it can run, so that all the others steal. */
struct pressed {
    struct pinned_pair {
        int pin, turns, rc;
        struct id_set threads;
    } p[2 * 4];
    atomic_int over;
    uint64_t stolen, ran;
};

static int yield_on_one_worker(void *arg)
{
    struct pinned_pair *p = arg;
    for (int i = 0; i < p->turns && p->rc == 0; i++) {
        int now = thread_id();
        if (atomic_load(&p->threads.n) != 1 || p->threads.ids[0] != now)
            id_set_add(&p->threads, now);
        p->rc = weft_yield();
    }
    return p->rc;
}

static int come_and_go(void *arg)
{
    struct pressed *a = arg;
    while (!atomic_load(&a->over)) {
        static int once = 3;
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < 8; i++)
            weft_spawn(&s, yield_much, &once);
        weft_ignore(weft_yield());
        if (weft_scope_end(&s, 0) < 0)
            return -EPROTO;
    }
    return 0;
}

static void add_up(struct pressed *a)
{
    weft_worker_stats stats[4];
    weft_ignore(weft_stats(NULL, stats, COUNT(stats)));
    a->stolen = a->ran = 0;
    for (int i = 0; i < COUNT(stats); i++) {
        a->stolen += stats[i].stolen;
        a->ran += stats[i].ran;
    }
}

static int press(void *arg)
{
    struct pressed *a = arg;
    weft_scope s, pinned;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, come_and_go, a);
    for (int64_t end = weft_after(LIMIT); a->stolen == 0 && weft_now() < end; add_up(a))
        weft_ignore(weft_sleep(weft_us(100))); /* the thieves are at it */
    weft_scope_begin(&pinned, WEFT_NEVER);
    for (int i = 0; i < COUNT(a->p); i++)
        weft_spawn_with(&pinned, yield_on_one_worker, &a->p[i], &(weft_spawn_options){ .pin = a->p[i].pin });
    int rc = weft_scope_end(&pinned, 0);
    add_up(a);
    atomic_store(&a->over, 1);
    return weft_scope_end(&s, rc);
}

/* B-007: two on each worker, that make way for each other. */
START_TEST(a_million_switches_move_no_pinned_task)
{
    static struct pressed a;
    int turns = fewer(2000, SCALED(130000, 20000, 5000));
    for (int i = 0; i < COUNT(a.p); i++)
        a.p[i] = (struct pinned_pair){ .pin = i / 2 + 1, .turns = turns, .threads = ID_SET_INIT };
    ck_assert_int_eq(weft_run(press, &a, &(weft_options){ .workers = 4, .spares = -1 }), 0);
    for (int i = 0; i < COUNT(a.p); i++) {
        ck_assert_int_eq(a.p[i].rc, 0);
        ck_assert_int_eq(atomic_load(&a.p[i].threads.n), 1);
        ck_assert((a.p[i].threads.ids[0] == a.p[0].threads.ids[0]) == (a.p[i].pin == 1));
    }
    ck_assert_uint_ge(a.ran, (uint64_t)turns * COUNT(a.p)); /* a yield was a turn, each */
    ck_assert_uint_gt(a.stolen, 0);
}
END_TEST

/* -- stacks -- */

/* Uses `bytes` of stack below its own frame, in steps smaller than a page. */
NOINLINE static int use_stack(size_t bytes)
{
    enum { STEP = 1024 };
    volatile char frame[STEP];
    for (int i = 0; i < STEP; i += 128)
        frame[i] = (char)(bytes & 127);
    int below = bytes > 2 * STEP ? use_stack(bytes - STEP - 64) : 0;
    return below + frame[bytes % STEP & ~(size_t)127];
}

struct stack_use {
    size_t stack_bytes, use;
    volatile int sum;
    int result;
};

static int use_much_stack(void *arg)
{
    struct stack_use *u = arg;
    u->sum = use_stack(u->use);
    weft_ignore(weft_yield());
    u->sum += use_stack(u->use);
    return 1;
}

static int spawn_stack_users(void *arg)
{
    struct stack_use *u = arg;
    weft_spawn_options o = { .stack_bytes = u->stack_bytes, .result = &u->result };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++) {
        weft_spawn_with(&s, use_much_stack, u, &o);
        int rc = weft_scope_wait(&s);
        if (rc < 0)
            return weft_scope_end(&s, rc);
    }
    return weft_scope_end(&s, 0);
}

/* Instrumented frames are larger; what is left out of use is for them. */
#define USABLE(bytes) (((bytes)-4096) / BUILT(1, 2, 2))

static const struct stack_use stack_uses[] = {
    { .stack_bytes = 1, .use = 512 },
    { .stack_bytes = 16 * 1024, .use = USABLE(16 * 1024) },
    { .stack_bytes = 16 * 1024 + 1, .use = USABLE(16 * 1024) },
    { .stack_bytes = 0, .use = USABLE(64 * 1024) },
    { .stack_bytes = 64 * 1024, .use = USABLE(64 * 1024) },
    { .stack_bytes = 100 * 1000, .use = USABLE(100 * 1000) },
    { .stack_bytes = 1 << 20, .use = USABLE(1 << 20) },
    { .stack_bytes = 3 << 20, .use = USABLE(3 << 20) },
    { .stack_bytes = 8 << 20, .use = USABLE(8 << 20) },
};

START_TEST(a_task_can_use_the_stack_it_was_promised)
{
    struct stack_use u = stack_uses[_i];
    ck_assert_int_eq(weft_run(spawn_stack_users, &u, ON(1)), 0);
    ck_assert_int_eq(u.result, 1);
}
END_TEST

/* A child that is run as a plain call by its joiner still has its own promise. */
struct chain {
    int depth;
    volatile int sum;
};

static int chain(void *arg)
{
    struct chain *c = arg;
    struct chain below = { .depth = c->depth - 1 };
    c->sum = use_stack(USABLE(64 * 1024) / 2);
    if (c->depth == 0)
        return 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, chain, &below);
    int rc = weft_scope_end(&s, 0);
    c->sum += below.sum;
    return rc;
}

START_TEST(a_long_chain_of_children_joined_at_once_does_not_run_out_of_stack)
{
    struct chain c = { .depth = SCALED(1000, 500, 300) };
    ck_assert_int_eq(weft_run(chain, &c, ON(worker_counts[_i])), 0);
}
END_TEST

static int overflow(void *arg)
{
    weft_task_set_name("deep diver");
    *(volatile int *)arg = use_stack((size_t)1 << 30);
    return 0;
}

static int spawn_overflow(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, overflow, arg);
    return weft_scope_end(&s, weft_sleep(weft_ms(1)));
}

static void die_of_overflow(void *arg)
{
    weft_ignore(weft_run(spawn_overflow, arg, ON(2)));
}

START_TEST(a_stack_overflow_is_reported_with_the_name_of_the_task)
{
    int sum = 0;
    struct death d = die(die_of_overflow, &sum);
    ck_assert_msg(d.signal == SIGABRT || d.signal == SIGSEGV, "signal %d, status %d: %s", d.signal,
            d.status, d.text);
    ck_assert_msg(strstr(d.text, "deep diver") != NULL, "%s", d.text);
}
END_TEST

/* -- joining -- */

struct joins {
    int results[40], n;
    weft_task dead;
    int sibling[20];
};

static int join_dead(void *arg)
{
    struct joins *j = arg;
    return weft_task_join(j->dead);
}

static int join_often(void *arg)
{
    struct joins *j = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    j->dead = weft_spawn(&s, nothing, NULL);
    for (int i = 0; i < 10; i++)
        j->results[j->n++] = weft_task_join(j->dead);
    for (int i = 0; i < COUNT(j->sibling); i++) /* by others */
        weft_spawn_with(&s, join_dead, j, &(weft_spawn_options){ .result = &j->sibling[i] });
    j->results[j->n++] = weft_scope_end(&s, 0);
    for (int i = 0; i < 10; i++) /* after its scope */
        j->results[j->n++] = weft_task_join(j->dead);
    return 0;
}

START_TEST(a_task_can_be_joined_any_number_of_times_by_anyone)
{
    struct joins j = { 0 };
    memset(j.sibling, 1, sizeof j.sibling);
    ck_assert_int_eq(weft_run(join_often, &j, ON(worker_counts[_i])), 0);
    for (int i = 0; i < j.n; i++)
        ck_assert_int_eq(j.results[i], 0);
    for (int i = 0; i < COUNT(j.sibling); i++)
        ck_assert_int_eq(j.sibling[i], 0);
    ck_assert_int_eq(weft_task_join(j.dead), 0); /* after its runtime, on a plain thread */
    ck_assert_int_eq(weft_task_cancel(j.dead, NULL), -ESRCH);
    ck_assert(!weft_task_alive(j.dead));
}
END_TEST

struct many_joiners {
    atomic_int waiting, open, wrong, joined;
    weft_task gate;
};

static int be_gate(void *arg)
{
    struct many_joiners *m = arg;
    return wait_for(&m->open, 1) ? 0 : -ETIME;
}

static int join_gate(void *arg)
{
    struct many_joiners *m = arg;
    atomic_fetch_add(&m->waiting, 1);
    int rc = weft_task_join(m->gate);
    if (rc != 0 || weft_task_alive(m->gate))
        atomic_fetch_add(&m->wrong, 1);
    atomic_fetch_add(&m->joined, 1);
    return 0;
}

static int many_join_one(void *arg)
{
    struct many_joiners *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    m->gate = weft_spawn(&s, be_gate, m);
    for (int i = 0; i < 100; i++)
        weft_spawn(&s, join_gate, m);
    bool all = wait_for(&m->waiting, 100);
    atomic_store(&m->open, 1);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(many_tasks_join_one)
{
    struct many_joiners m = { 0 };
    ck_assert_int_eq(weft_run(many_join_one, &m, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&m.joined), 100);
    ck_assert_int_eq(atomic_load(&m.wrong), 0);
}
END_TEST

struct odd_joins {
    int self, zero, negative, nomem, garbage, garbage_cancel, zero_cancel, negative_cancel;
    int name_null, name_no_room, name_zero;
    bool alive[4];
};

#define GARBAGE INT64_MAX

static int join_oddly(void *arg)
{
    struct odd_joins *j = arg;
    char name[8];
    j->self = weft_task_join(weft_task_self());
    j->zero = weft_task_join(0);
    j->negative = weft_task_join(-EINVAL);
    j->nomem = weft_task_join(-ENOMEM);
    j->garbage = weft_task_join(GARBAGE);
    j->zero_cancel = weft_task_cancel(0, "x");
    j->negative_cancel = weft_task_cancel(-ENOMEM, "x");
    j->garbage_cancel = weft_task_cancel(GARBAGE, NULL);
    j->name_null = weft_task_name(weft_task_self(), NULL, 10);
    j->name_no_room = weft_task_name(weft_task_self(), name, 0);
    j->name_zero = weft_task_name(0, name, sizeof name);
    j->alive[0] = weft_task_alive(0);
    j->alive[1] = weft_task_alive(-ENOMEM);
    j->alive[2] = weft_task_alive(GARBAGE);
    j->alive[3] = weft_task_alive(weft_task_self());
    return 0;
}

START_TEST(odd_ids_have_the_documented_answers)
{
    struct odd_joins j = { 0 };
    ck_assert_int_eq(weft_run(join_oddly, &j, ON(2)), 0);
    ck_assert_int_eq(j.self, -EDEADLK);
    ck_assert_int_eq(j.zero, -EINVAL);
    ck_assert_int_eq(j.negative, -EINVAL);
    ck_assert_int_eq(j.nomem, -ENOMEM);
    ck_assert_int_eq(j.garbage, -EINVAL);
    ck_assert_int_eq(j.zero_cancel, -EINVAL);
    ck_assert_int_eq(j.negative_cancel, -EINVAL);
    ck_assert_int_eq(j.garbage_cancel, -EINVAL);
    ck_assert_int_eq(j.name_null, -EINVAL);
    ck_assert_int_eq(j.name_no_room, -EINVAL);
    ck_assert_int_eq(j.name_zero, -EINVAL);
    ck_assert(!j.alive[0] && !j.alive[1] && !j.alive[2] && j.alive[3]);
}
END_TEST

/* A child run by its joiner as a plain call stays somebody: id, name and cancel are its own. */
struct identity {
    weft_task id, seen, before, after;
    char name[40], parent_name[40];
    int join, end, result, child_join_self, child_join_parent_tried;
};

static int say_who(void *arg)
{
    struct identity *who = arg;
    who->seen = weft_task_self();
    weft_ignore(weft_task_name(who->seen, who->name, sizeof who->name));
    who->child_join_self = weft_task_join(who->seen);
    weft_task_set_name("renamed");
    return 9;
}

static int join_unstarted(void *arg)
{
    struct identity *who = arg;
    weft_task_set_name("parent");
    who->before = weft_task_self();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    who->id = weft_spawn_with(
            &s, say_who, who, &(weft_spawn_options){ .name = "child", .result = &who->result });
    who->join = weft_task_join(who->id);
    who->after = weft_task_self();
    weft_ignore(weft_task_name(who->after, who->parent_name, sizeof who->parent_name));
    who->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(a_child_run_by_its_joiner_keeps_its_identity)
{
    struct identity who = { .join = 1, .end = 1 };
    ck_assert_int_eq(weft_run(join_unstarted, &who, ON(1)), 0);
    ck_assert_int_eq(who.join, 0);
    ck_assert_int_eq(who.end, 0);
    ck_assert_int_eq(who.result, 9);
    ck_assert_int_eq(who.seen, who.id);
    ck_assert_str_eq(who.name, "child");
    ck_assert_int_eq(who.child_join_self, -EDEADLK);
    ck_assert_int_eq(who.before, who.after);
    ck_assert_int_ne(who.before, who.id);
    ck_assert_str_eq(who.parent_name, "parent");
}
END_TEST

/* Every order of joining: newest first, oldest first, middle first. */
struct join_orders {
    int turns;
    atomic_int ran;
};

static int join_in_orders(void *arg)
{
    struct join_orders *o = arg;
    int rc = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < o->turns && rc == 0; i++) {
        weft_task t[3];
        for (int k = 0; k < 3; k++)
            t[k] = weft_spawn(&s, add_one, &o->ran);
        for (int k = 0; k < 3 && rc == 0; k++)
            rc = weft_task_join(t[(k * (1 + i % 2) + i) % 3]);
    }
    return weft_scope_end(&s, rc);
}

START_TEST(joining_in_any_order_runs_each_child_once_and_keeps_memory_flat)
{
    struct join_orders o = { .turns = 1000 };
    ck_assert_int_eq(weft_run(join_in_orders, &o, ON(worker_counts[_i])), 0);
    long before = resident_kib();
    o.turns = fewer(3000, SCALED(300000, 30000, 10000));
    ck_assert_int_eq(weft_run(join_in_orders, &o, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&o.ran), 3 * (1000 + o.turns));
    ck_assert_int_lt(resident_kib() - before, BUILT(8 * 1024, 64 * 1024, 256 * 1024));
}
END_TEST

/* -- ids, lists, names -- */

struct lifetimes {
    int n, still_alive, cancel, name, end;
    weft_task *ids;
};

static int spawn_in_turn(void *arg)
{
    struct lifetimes *l = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < l->n; i++) {
        l->ids[i] = weft_spawn(&s, nothing, NULL);
        if (i % 3 == 0)
            weft_ignore(weft_task_join(l->ids[i]));
    }
    l->end = weft_scope_end(&s, 0);
    char name[4];
    for (int i = 0; i < l->n; i++) {
        l->still_alive += weft_task_alive(l->ids[i]);
        l->cancel += weft_task_cancel(l->ids[i], "too late") != -ESRCH;
        l->name += weft_task_name(l->ids[i], name, sizeof name) != -ESRCH;
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    const weft_task *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

START_TEST(ids_are_never_reused_and_dead_ones_say_so)
{
    struct lifetimes l = { .n = fewer(3000, SCALED(100000, 20000, 5000)) };
    l.ids = calloc((size_t)l.n, sizeof *l.ids);
    int rc = weft_run(spawn_in_turn, &l, ON(worker_counts[_i]));
    qsort(l.ids, (size_t)l.n, sizeof *l.ids, by_value);
    int bad = 0;
    for (int i = 0; i < l.n; i++)
        bad += l.ids[i] <= 0 || (i > 0 && l.ids[i] == l.ids[i - 1]);
    free(l.ids);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(l.end, 0);
    ck_assert_int_eq(bad, 0);
    ck_assert_int_eq(l.still_alive, 0);
    ck_assert_int_eq(l.cancel, 0);
    ck_assert_int_eq(l.name, 0);
}
END_TEST

struct listing {
    atomic_int waiting, open;
    weft_task ids[20], listed[64];
    int alone, count, small, null_count, null, found, stray_write;
    bool alive;
};

static int wait_listed(void *arg)
{
    struct listing *l = arg;
    atomic_fetch_add(&l->waiting, 1);
    return wait_for(&l->open, 1) ? 0 : -ETIME;
}

static int list_tasks(void *arg)
{
    struct listing *l = arg;
    l->alone = weft_task_list(l->listed, 64);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(l->ids); i++)
        l->ids[i] = weft_spawn(&s, wait_listed, l);
    bool all = wait_for(&l->waiting, COUNT(l->ids));
    l->alive = true;
    for (int i = 0; i < COUNT(l->ids); i++)
        l->alive = l->alive && weft_task_alive(l->ids[i]);
    l->listed[5] = -1;
    l->small = weft_task_list(l->listed, 5);
    l->stray_write = l->listed[5] != -1;
    l->null_count = weft_task_list(NULL, 0);
    l->null = weft_task_list(NULL, 3);
    l->count = weft_task_list(l->listed, 64);
    for (int i = 0; i < COUNT(l->ids); i++)
        for (int k = 0; k < l->count && k < 64; k++)
            l->found += l->listed[k] == l->ids[i];
    for (int k = 0; k < l->count && k < 64; k++)
        l->found += l->listed[k] == weft_task_self();
    atomic_store(&l->open, 1);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

/* Who lists them is held up by a signal wherever it is just then, and nobody else is. */
struct held_lister {
    int resting;
    atomic_int asleep, over, ended, lists, bad;
    weft_task *room;
    int rounds, held, stuck;
    pthread_t lister;
};

static atomic_int hold, held, let_go; /* how often it was asked for, has come about, and is over */
static atomic_int held_in_vain;

static void hold_the_lister(int signo)
{
    int mine = atomic_load(&hold);
    int64_t end = weft_after(LIMIT);
    (void)signo;
    atomic_store(&held, mine);
    while (atomic_load(&let_go) < mine && weft_now() < end)
        continue;
    if (atomic_load(&let_go) < mine)
        atomic_fetch_add(&held_in_vain, 1); /* all others have waited for us */
}

static void *list_on(void *arg)
{
    struct held_lister *h = arg;
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &usr1, NULL); /* who was started by a thread of weft's hears none */
    do {
        if (TSAN)
            usleep(1); /* there a signal comes between two calls alone */
        if (weft_task_list(h->room, (size_t)h->resting + 64) <= h->resting)
            atomic_fetch_add(&h->bad, 1);
        atomic_fetch_add(&h->lists, 1);
    } while (!atomic_load(&h->over));
    return NULL;
}

static int rest(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static int end_at_once(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_yield();
}

/* In the middle of a list, which is not going on, tasks are spawned, run and end as ever. */
static bool all_goes_on(struct held_lister *h)
{
    weft_scope s;
    int before = atomic_load(&h->ended);
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 100; i++)
        weft_spawn(&s, end_at_once, &h->ended);
    return weft_scope_end(&s, 0) == 0 && atomic_load(&h->ended) == before + 100;
}

static int hold_and_go_on(void *arg)
{
    struct held_lister *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < h->resting; i++)
        weft_spawn(&s, rest, &h->asleep);
    bool there = wait_for(&h->asleep, h->resting);
    h->lister = thread_start(list_on, h);
    there = there && wait_for(&h->lists, 1);
    for (int i = 0; i < h->rounds && there && h->stuck == 0 && atomic_load(&held_in_vain) == 0; i++) {
        wait_past(weft_after(weft_us(37) * (i % 23))); /* anywhere in it */
        int round = atomic_fetch_add(&hold, 1) + 1;
        pthread_kill(h->lister, SIGUSR1);
        there = there && wait_for(&held, round);
        h->stuck += !all_goes_on(h);
        h->held += there;
        atomic_store(&let_go, round);
    }
    atomic_store(&h->over, 1);
    pthread_join(h->lister, NULL);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

/* */
START_TEST(a_list_of_all_tasks_stops_no_worker)
{
    struct held_lister h = { .resting = fewer(500, BUILT(20000, 5000, 2000)), .rounds = SCALED(60, 30, 10) };
    struct sigaction act = { .sa_handler = hold_the_lister }, before;
    h.room = calloc((size_t)h.resting + 64, sizeof *h.room);
    sigaction(SIGUSR1, &act, &before);
    int rc = weft_run(hold_and_go_on, &h, ON(worker_counts[_i]));
    sigaction(SIGUSR1, &before, NULL);
    free(h.room);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&held_in_vain), 0);
    ck_assert_int_eq(h.held, h.rounds);
    ck_assert_int_eq(h.stuck, 0);
    ck_assert_int_eq(atomic_load(&h.bad), 0);
    ck_assert_int_ge(atomic_load(&h.lists), 1);
}
END_TEST

/* How long a thousand looks take, at the least. */
static int64_t a_thousand_looks(void)
{
    int64_t least = INT64_MAX;
    for (int k = 0; k < 20; k++) {
        int64_t from = weft_now();
        for (int i = 0; i < 1000; i++)
            if (weft_task_self() <= 0)
                return INT64_MAX;
        int64_t took = weft_now() - from;
        least = took < least ? took : least;
    }
    return least;
}

struct looks {
    int others;
    int64_t alone, among;
};

static int look_who_i_am(void *arg)
{
    struct looks *l = arg;
    static atomic_int began;
    weft_scope s;
    l->alone = a_thousand_looks();
    l->among = INT64_MAX;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < l->others; i++)
        weft_spawn(&s, rest, &began);
    for (int64_t end = weft_after(LIMIT); l->among > 4 * l->alone && weft_now() < end;)
        l->among = a_thousand_looks();
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

/* in one of the tries at least, with ten thousand others beside it. */
START_TEST(who_one_is_takes_no_longer_among_many)
{
    struct looks l = { .others = fewer(500, BUILT(10000, 5000, 2000)) };
    ck_assert_int_eq(weft_run(look_who_i_am, &l, ON(1)), 0);
    ck_assert_int_le(l.among, 4 * l.alone);
}
END_TEST

START_TEST(the_list_holds_every_live_task_once)
{
    struct listing l = { 0 };
    ck_assert_int_eq(weft_run(list_tasks, &l, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(l.alone, 1);
    ck_assert_int_eq(l.count, 21);
    ck_assert_int_eq(l.found, 21);
    ck_assert_int_eq(l.small, 21);
    ck_assert_int_eq(l.stray_write, 0);
    ck_assert_int_eq(l.null_count, 21);
    ck_assert_int_eq(l.null, -EINVAL);
    ck_assert(l.alive);
    weft_task left[4];
    ck_assert_int_eq(weft_task_list(left, 4), 0);
}
END_TEST

struct names {
    char first[40], none[40], given[40], cut[40], renamed[40], cleared[40], small[8], one[1],
            from_outside[40], inlined[40];
    int none_n, given_n, cut_n, renamed_n, cleared_n, small_n, one_n, outside_n;
    atomic_int waiting, open;
};

static int look_at_none(void *arg)
{
    struct names *n = arg;
    n->none_n = weft_task_name(weft_task_self(), n->none, sizeof n->none);
    return 0;
}

static int look_at_cut(void *arg)
{
    struct names *n = arg;
    n->cut_n = weft_task_name(weft_task_self(), n->cut, sizeof n->cut);
    return 0;
}

static int wait_named(void *arg)
{
    struct names *n = arg;
    atomic_store(&n->waiting, 1);
    return wait_for(&n->open, 1) ? 0 : -ETIME;
}

static int look_at_names(void *arg)
{
    struct names *n = arg;
    char soon_gone[40];
    weft_task me = weft_task_self();
    weft_ignore(weft_task_name(me, n->first, sizeof n->first));
    weft_task_set_name("main one");
    n->given_n = weft_task_name(me, n->given, sizeof n->given);
    n->small_n = weft_task_name(me, n->small, 5);
    n->one_n = weft_task_name(me, n->one, 1);
    weft_task_set_name("another");
    n->renamed_n = weft_task_name(me, n->renamed, sizeof n->renamed);
    weft_task_set_name("");
    n->cleared_n = weft_task_name(me, n->cleared, sizeof n->cleared);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, look_at_none, n);
    strcpy(soon_gone, "0123456789012345678901234567890123456");
    weft_spawn_with(&s, look_at_cut, n, &(weft_spawn_options){ .name = soon_gone });
    memset(soon_gone, 'x', sizeof soon_gone);
    strcpy(soon_gone, "waiter");
    weft_task t = weft_spawn_with(&s, wait_named, n, &(weft_spawn_options){ .name = soon_gone });
    memset(soon_gone, 0, sizeof soon_gone);
    bool there = wait_for(&n->waiting, 1);
    n->outside_n = weft_task_name(t, n->from_outside, sizeof n->from_outside);
    atomic_store(&n->open, 1);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

START_TEST(names_are_copied_cut_and_always_terminated)
{
    struct names n;
    memset(&n, 0, sizeof n);
    memset(n.small, '!', sizeof n.small);
    n.one[0] = '!';
    ck_assert_int_eq(weft_run(look_at_names, &n, ON(2)), 0);
    ck_assert_str_eq(n.first, "main");
    ck_assert_int_eq(n.none_n, 0);
    ck_assert_str_eq(n.none, "");
    ck_assert_int_eq(n.given_n, 8);
    ck_assert_str_eq(n.given, "main one");
    ck_assert_int_eq(n.small_n, 8);
    ck_assert_str_eq(n.small, "main");
    ck_assert_int_eq(n.one_n, 8);
    ck_assert_int_eq(n.one[0], 0);
    ck_assert_str_eq(n.renamed, "another");
    ck_assert_int_eq(n.renamed_n, 7);
    ck_assert_str_eq(n.cleared, "");
    ck_assert_int_eq(n.cleared_n, 0);
    ck_assert_int_eq(n.cut_n, 31);
    ck_assert_str_eq(n.cut, "0123456789012345678901234567890");
    ck_assert_int_eq(n.outside_n, 6);
    ck_assert_str_eq(n.from_outside, "waiter");
}
END_TEST

/* A plain thread that has its ids from the list alone. */
struct named_crowd {
    atomic_long seen;
    atomic_int over, wrong;
};

static void *list_and_name(void *arg)
{
    struct named_crowd *c = arg;
    weft_task ids[64];
    char name[40];
    while (!atomic_load(&c->over)) {
        int n = weft_task_list(ids, COUNT(ids));
        for (int i = 0; i < n && i < COUNT(ids); i++) {
            if (weft_task_name(ids[i], name, sizeof name) <= 0)
                continue;
            bool child = strcmp(name, "child") == 0;
            atomic_fetch_add(&c->seen, child);
            atomic_fetch_add(&c->wrong, !child && strcmp(name, "main") != 0);
        }
    }
    return NULL;
}

static int yield_with_name(void *arg)
{
    (void)arg;
    return weft_yield();
}

static int spawn_named_ones(void *arg)
{
    struct named_crowd *c = arg;
    int rc = 0;
    for (int64_t end = weft_after(LIMIT); rc == 0 && atomic_load(&c->seen) < 2000 && weft_now() < end;) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < 16; i++)
            weft_spawn_with(&s, yield_with_name, NULL, &(weft_spawn_options){ .name = "child" });
        rc = weft_scope_end(&s, 0);
    }
    atomic_store(&c->over, 1);
    return rc;
}

/* Begun or not, each is found with its own name: its block was another's just now. */
START_TEST(tasks_are_found_and_named_while_they_are_spawned)
{
    struct named_crowd c = { .over = 0 };
    pthread_t thread = thread_start(list_and_name, &c);
    ck_assert_int_eq(weft_run(spawn_named_ones, &c, ON(2)), 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&c.wrong), 0);
    ck_assert_int_gt(atomic_load(&c.seen), 0);
}
END_TEST

/* -- many -- */

struct flat {
    long batches, batch, kib_early, kib_late;
    atomic_int ran;
    bool join;
};

static int spawn_for_ever(void *arg)
{
    struct flat *f = arg;
    int rc = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < f->batches && rc == 0; i++) {
        if (i == f->batches / 10)
            f->kib_early = resident_kib();
        for (long k = 0; k < f->batch; k++)
            weft_spawn(&s, add_one, &f->ran);
        rc = weft_scope_wait(&s);
    }
    f->kib_late = resident_kib();
    return weft_scope_end(&s, rc);
}

START_TEST(spawning_into_one_living_scope_keeps_memory_flat)
{
    struct flat f = { .batch = 100, .batches = fewer(300, SCALED(10000, 1000, 200)) };
    if (getenv("WEFT_TEST_LONG"))
        f.batches *= 100;
    ck_assert_int_eq(weft_run(spawn_for_ever, &f, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&f.ran), f.batch * f.batches);
    ck_assert_int_lt(f.kib_late - f.kib_early, BUILT(4096, 64 * 1024, 256 * 1024));
}
END_TEST

struct yielders {
    int n, turns;
    atomic_int total;
};

static int yield_in_turn(void *arg)
{
    struct yielders *y = arg;
    int rc = 0;
    for (int i = 0; i < y->turns && rc == 0; i++) {
        rc = weft_yield();
        atomic_fetch_add(&y->total, 1);
    }
    return rc;
}

static int many_yield(void *arg)
{
    struct yielders *y = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < y->n; i++)
        weft_spawn(&s, yield_in_turn, y);
    return weft_scope_end(&s, 0);
}

START_TEST(many_tasks_yield)
{
    struct yielders y = { .n = fewer(300, SCALED(5000, 2000, 500)), .turns = 50 };
    ck_assert_int_eq(weft_run(many_yield, &y, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&y.total), y.n * y.turns);
}
END_TEST

/* On one worker a yield gives each other ready task a turn: counts stay within one of another. */
struct fair {
    atomic_int turns[8], most_apart, started;
};

struct fair_one {
    struct fair *f;
    int i;
};

static int take_turns(void *arg)
{
    struct fair_one *one = arg;
    struct fair *f = one->f;
    int rc = weft_yield();
    atomic_fetch_add(&f->started, 1);
    while (atomic_load(&f->started) < COUNT(f->turns) && rc == 0)
        rc = weft_yield();
    for (int n = 0; n < 200 && rc == 0; n++) {
        int mine = atomic_fetch_add(&f->turns[one->i], 1) + 1;
        for (int k = 0; k < COUNT(f->turns); k++) {
            int other = atomic_load(&f->turns[k]);
            if (other > 0 && mine - other > atomic_load(&f->most_apart))
                atomic_store(&f->most_apart, mine - other);
        }
        rc = weft_yield();
    }
    return rc;
}

static int be_fair(void *arg)
{
    struct fair *f = arg;
    struct fair_one ones[8];
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(ones); i++) {
        ones[i] = (struct fair_one){ f, i };
        weft_spawn(&s, take_turns, &ones[i]);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(on_one_worker_yielding_tasks_take_turns)
{
    struct fair f = { .most_apart = 0 };
    ck_assert_int_eq(weft_run(be_fair, &f, ON(1)), 0);
    if (chaos())
        return; /* turns are taken by chance: none is left out for ever, and no more is said */
    ck_assert_int_le(atomic_load(&f.most_apart), 2);
}
END_TEST

struct computing {
    struct id_set threads;
    atomic_int ran;
    int rounds;
};

static int compute_a_little(void *arg)
{
    struct computing *c = arg;
    compute(weft_us(20));
    id_set_add(&c->threads, thread_id());
    atomic_fetch_add(&c->ran, 1);
    return 0;
}

static int spawn_computing(void *arg)
{
    struct computing *c = arg;
    int64_t end = weft_after(LIMIT);
    int rc = 0;
    do {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < 10000; i++)
            weft_spawn(&s, compute_a_little, c);
        rc = weft_scope_end(&s, 0);
        c->rounds++;
    } while (rc == 0 && atomic_load(&c->threads.n) < 2 && weft_now() < end);
    return rc;
}

START_TEST(computing_tasks_of_one_worker_are_run_by_several_threads)
{
    struct computing c = { .threads = ID_SET_INIT };
    ck_assert_int_eq(weft_run(spawn_computing, &c, ON(2 + _i)), 0);
    ck_assert_int_eq(atomic_load(&c.ran), 10000 * c.rounds);
    ck_assert_int_ge(atomic_load(&c.threads.n), 2);
}
END_TEST

/* One worker is filled; of its tasks each worker has its share in the end (B-002). */
enum { SHARERS = 4 };

struct shares {
    int n, workers;
    uint64_t ran[SHARERS], stolen[SHARERS];
    bool fair;
};

static int share_a_little(void *arg)
{
    (void)arg;
    compute(weft_us(20));
    return 0;
}

/* With control words of their own, so that none is run as a call. */
static int spawn_shares(struct shares *h)
{
    weft_worker_stats before[SHARERS], after[SHARERS];
    weft_scope s;
    if (weft_stats(NULL, before, SHARERS) != h->workers)
        return -EPROTO;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < h->n; i++)
        weft_spawn_with(&s, share_a_little, NULL, &(weft_spawn_options){ .keep_fp = true });
    int rc = weft_scope_end(&s, 0);
    weft_ignore(weft_stats(NULL, after, SHARERS));
    for (int i = 0; i < h->workers; i++) {
        h->ran[i] = after[i].ran - before[i].ran;
        h->stolen[i] = after[i].stolen - before[i].stolen;
    }
    return rc;
}

/* All others but one stole some, and nobody had less than half of its part. Where steps take longer: nobody had none. */
static bool is_fair(const struct shares *h)
{
    bool timed = !TSAN && !ASAN && !chaos();
    uint64_t least = timed ? (uint64_t)(h->n / h->workers / 2) : 1;
    int thieves = 0, enough = 0;
    for (int i = 0; i < h->workers; i++) {
        thieves += h->stolen[i] > 0;
        enough += h->ran[i] >= least;
    }
    return thieves >= h->workers - 1 && enough == h->workers;
}

static int spawn_shares_until_fair(void *arg)
{
    struct shares *h = arg;
    int rc = 0;
    for (int64_t end = weft_after(LIMIT); rc == 0 && !h->fair && weft_now() < end; h->fair = is_fair(h))
        rc = spawn_shares(h);
    return rc;
}

START_TEST(all_workers_take_their_share_of_what_one_spawned)
{
    struct shares h = { .n = fewer(2000, BUILT(10000, 5000, 2000)), .workers = _i };
    ck_assert_int_eq(weft_run(spawn_shares_until_fair, &h, &(weft_options){ .workers = _i, .spares = -1 }), 0);
    for (int i = 0; i < _i && !h.fair; i++)
        fprintf(stderr, "worker %d ran %d, stole %d\n", i + 1, (int)h.ran[i], (int)h.stolen[i]);
    ck_assert(h.fair);
}
END_TEST

/* A spawned child starts although its parent computes on without calling weft. */
struct stalled {
    atomic_int started;
    bool seen;
};

static int mark_started(void *arg)
{
    atomic_store(&((struct stalled *)arg)->started, 1);
    return 0;
}

static int spawn_and_compute(void *arg)
{
    struct stalled *st = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, mark_started, st);
    int64_t end = weft_after(LIMIT);
    while (!atomic_load(&st->started) && weft_now() < end)
        continue;
    st->seen = atomic_load(&st->started);
    return weft_scope_end(&s, 0);
}

START_TEST(a_child_starts_although_its_parent_computes_on)
{
    struct stalled st = { 0 };
    ck_assert_int_eq(weft_run(spawn_and_compute, &st, ON(2)), 0);
    ck_assert(st.seen);
}
END_TEST

/* The same for a task that was woken, not spawned, onto the worker of one that computes. */
struct woken {
    atomic_int sleeping, woke, stop;
    bool seen;
};

static int wake_and_mark(void *arg)
{
    struct woken *w = arg;
    atomic_fetch_add(&w->sleeping, 1);
    int rc = weft_sleep(weft_ms(5));
    atomic_fetch_add(&w->woke, 1);
    return rc;
}

static int compute_till_woken(void *arg)
{
    struct woken *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, wake_and_mark, w);
    bool asleep = wait_for(&w->sleeping, 10);
    int64_t end = weft_after(LIMIT);
    while (atomic_load(&w->woke) < 10 && weft_now() < end)
        continue;
    w->seen = asleep && atomic_load(&w->woke) == 10;
    return weft_scope_end(&s, 0);
}

START_TEST(sleepers_wake_although_their_worker_computes)
{
    struct woken w = { 0 };
    ck_assert_int_eq(weft_run(compute_till_woken, &w, ON(2)), 0);
    ck_assert(w.seen);
}
END_TEST

/* Fork and join over several levels, with a known answer. */
struct fib {
    int n;
    long out;
};

static int fib(void *arg)
{
    struct fib *f = arg, a = { .n = f->n - 1 }, b = { .n = f->n - 2 };
    if (f->n < 2) {
        f->out = f->n;
        return 0;
    }
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, fib, &a);
    int rc = weft_scope_end(&s, fib(&b));
    f->out = a.out + b.out;
    return rc;
}

START_TEST(fork_and_join_has_the_right_answer)
{
    struct fib f = { .n = fewer(18, SCALED(23, 18, 14)) };
    static const long answers[] = { [14] = 377, [18] = 2584, [23] = 28657 };
    ck_assert_int_eq(weft_run(fib, &f, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(f.out, answers[f.n]);
}
END_TEST

struct use {
    struct fib f;
    int threads[2];
    double processors, least_part; /* how many were used; of all turns and calls, the part of who had the fewest */
};

static int note_first(void *arg)
{
    ((struct use *)arg)->threads[0] = thread_id();
    return 0;
}

static int note_second(void *arg)
{
    ((struct use *)arg)->threads[1] = thread_id();
    return 0;
}

/* How long both workers had a processor, or waited for one that others had. */
NOINLINE static int64_t used_or_wanted(const struct use *u)
{
    int64_t sum = 0;
    for (int i = 0; i < 2; i++) {
        char path[64];
        long long ran = 0, waited = 0;
        snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", u->threads[i]);
        FILE *f = fopen(path, "re");
        if (f && fscanf(f, "%lld %lld", &ran, &waited) == 2)
            sum += ran + waited;
        if (f)
            fclose(f);
    }
    return sum;
}

static uint64_t begun_on(const weft_worker_stats *w)
{
    return w->ran + w->inlined;
}

static int fib_used(void *arg)
{
    struct use *u = arg;
    weft_worker_stats before[2], after[2];
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, note_first, u, &(weft_spawn_options){ .pin = 1 });
    weft_spawn_with(&s, note_second, u, &(weft_spawn_options){ .pin = 2 });
    int rc = weft_scope_end(&s, 0);
    if (rc < 0 || weft_stats(NULL, before, 2) != 2)
        return -EPROTO;
    int64_t from = weft_now(), used = used_or_wanted(u);
    rc = fib(&u->f);
    u->processors = (double)(used_or_wanted(u) - used) / (double)(weft_now() - from);
    if (weft_stats(NULL, after, 2) != 2)
        return -EPROTO;
    double a = (double)(begun_on(&after[0]) - begun_on(&before[0])), b = (double)(begun_on(&after[1]) - begun_on(&before[1]));
    u->least_part = (a < b ? a : b) / (a + b);
    return rc;
}

/* B-001: 1.8 of 2, and not by spinning, in one of the tries. */
START_TEST(a_tree_of_tasks_uses_two_processors)
{
    struct use u = { .f.n = 0 };
    int64_t end = weft_after(LIMIT);
    if (TSAN || ASAN || chaos() || weft_cpus() < 2 || access("/proc/self/schedstat", R_OK) != 0)
        return;
    do {
        u = (struct use){ .f.n = 27 };
        ck_assert_int_eq(weft_run(fib_used, &u, &(weft_options){ .workers = 2, .spares = -1 }), 0);
        ck_assert_int_eq(u.f.out, 196418);
    } while ((u.processors < 1.8 || u.least_part < 0.25) && weft_now() < end);
    ck_assert_double_ge(u.processors, 1.8);
    ck_assert_double_ge(u.least_part, 0.25);
}
END_TEST

/* A task that moves between threads sees its own floating-point and its own locals. */
struct mover {
    int turns;
    atomic_int wrong;
    struct id_set threads;
};

static int move_about(void *arg)
{
    struct mover *m = arg;
    weft_task me = weft_task_self();
    double x = 1.0;
    char local[64];
    for (int i = 0; i < (int)sizeof local; i++)
        local[i] = (char)(i ^ (int)me);
    for (int i = 0; i < m->turns; i++) {
        x = x * 1.5 + 1.0 / 3.0;
        volatile double y = x;
        weft_ignore(i % 20 ? weft_yield() : weft_sleep(weft_us(10)));
        id_set_add(&m->threads, thread_id());
        bool same = weft_task_self() == me && (x > y ? x - y : y - x) < 1e-300;
        for (int k = 0; k < (int)sizeof local; k++)
            same = same && local[k] == (char)(k ^ (int)me);
        if (!same)
            atomic_fetch_add(&m->wrong, 1);
        if (x > 1e100)
            x = 1.0;
    }
    return 0;
}

static int movers(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 50; i++)
        weft_spawn(&s, move_about, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(a_task_that_moves_between_threads_stays_itself)
{
    struct mover m = { .turns = SCALED(400, 200, 100), .threads = ID_SET_INIT };
    ck_assert_int_eq(weft_run(movers, &m, ON(3)), 0);
    ck_assert_int_eq(atomic_load(&m.wrong), 0);
}
END_TEST

/* Rounding modes: each task's own where it asked for that, the worker's otherwise. */
struct rounding {
    int mode, turns;
    atomic_int wrong;
};

NOINLINE static int rounding_now(void)
{
    return fegetround();
}

static int keep_rounding(void *arg)
{
    struct rounding *r = arg;
    int rc = 0;
    if (r->mode != FE_TONEAREST)
        fesetround(r->mode);
    for (int i = 0; i < r->turns && rc == 0; i++) {
        rc = i % 10 ? weft_yield() : weft_sleep(weft_us(10));
        if (rounding_now() != r->mode)
            atomic_fetch_add(&r->wrong, 1);
    }
    return rc;
}

static int round_differently(void *arg)
{
    struct rounding *all = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 12; i++) {
        weft_spawn_options o = { .keep_fp = all[i].mode != FE_TONEAREST };
        weft_spawn_with(&s, keep_rounding, &all[i], &o);
    }
    int rc = weft_scope_wait(&s);
    /* Joined at once: not even then does it touch the joiner's. */
    struct rounding own = { .mode = FE_UPWARD, .turns = 3 };
    weft_task t =
            weft_spawn_with(&s, keep_rounding, &own, &(weft_spawn_options){ .keep_fp = true });
    if (rc == 0)
        rc = weft_task_join(t);
    if (rounding_now() != FE_TONEAREST)
        atomic_fetch_add(&all[0].wrong, 1);
    atomic_fetch_add(&all[0].wrong, atomic_load(&own.wrong));
    return weft_scope_end(&s, rc);
}

START_TEST(a_task_keeps_its_own_rounding_if_it_asked_for_that)
{
    static const int modes[] = { FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    struct rounding all[12];
    for (int i = 0; i < COUNT(all); i++)
        all[i] = (struct rounding){ .mode = modes[i % 4], .turns = SCALED(500, 200, 100) };
    ck_assert_int_eq(weft_run(round_differently, all, ON(worker_counts[_i])), 0);
    for (int i = 0; i < COUNT(all); i++)
        ck_assert_int_eq(atomic_load(&all[i].wrong), 0);
    ck_assert_int_eq(rounding_now(), FE_TONEAREST);
}
END_TEST

int main(void)
{
    int counts = COUNT(worker_counts);
    Suite *s = suite_create("task");
    TCase *tc = add_case(s, "spawning");
    tcase_add_loop_test(tc, each_spawned_task_runs_once_and_has_an_id_of_its_own, 0, counts);
    tcase_add_loop_test(tc, spawn_borrows_its_argument, 0, counts);
    tcase_add_loop_test(tc, a_loop_variable_arrives_intact_through_the_copy, 0, counts);
    tcase_add_loop_test(tc, a_child_gets_its_own_aligned_copy_of_any_size, 0, COUNT(copy_sizes));
    tc = add_case(s, "options");
    tcase_add_loop_test(tc, a_result_is_stored_before_the_join_returns, 0, counts);
    tcase_add_test(tc, a_failure_is_stored_as_a_result_too);
    tcase_add_loop_test(
            tc, a_spawn_with_bad_options_is_refused_and_fails_its_scope, 0, COUNT(bad_spawns));
    tcase_add_test(tc, spawning_with_null_is_refused_and_null_options_are_the_default);
    tcase_add_test(tc, a_pinned_task_stays_on_its_worker);
    tcase_add_test(tc, a_million_switches_move_no_pinned_task);
    tcase_add_loop_test(tc, a_task_is_pending_then_done_or_failed_or_cancelled, 0, counts);
    tc = add_case(s, "stacks");
    tcase_add_loop_test(tc, a_task_can_use_the_stack_it_was_promised, 0, COUNT(stack_uses));
    tcase_add_loop_test(
            tc, a_long_chain_of_children_joined_at_once_does_not_run_out_of_stack, 0, counts);
    if (!TSAN && !ASAN)
        tcase_add_test(tc, a_stack_overflow_is_reported_with_the_name_of_the_task);
    tc = add_case(s, "joining");
    tcase_add_loop_test(tc, a_task_can_be_joined_any_number_of_times_by_anyone, 0, counts);
    tcase_add_loop_test(tc, many_tasks_join_one, 0, counts);
    tcase_add_test(tc, odd_ids_have_the_documented_answers);
    tcase_add_test(tc, a_child_run_by_its_joiner_keeps_its_identity);
    tcase_add_loop_test(
            tc, joining_in_any_order_runs_each_child_once_and_keeps_memory_flat, 0, counts);
    tc = add_case(s, "ids and names");
    tcase_add_loop_test(tc, ids_are_never_reused_and_dead_ones_say_so, 0, counts);
    tcase_add_loop_test(tc, the_list_holds_every_live_task_once, 0, counts);
    tcase_add_loop_test(tc, a_list_of_all_tasks_stops_no_worker, 0, counts);
    tcase_add_test(tc, who_one_is_takes_no_longer_among_many);
    tcase_add_test(tc, names_are_copied_cut_and_always_terminated);
    tcase_add_test(tc, tasks_are_found_and_named_while_they_are_spawned);
    tc = add_case(s, "many");
    if (getenv("WEFT_TEST_LONG"))
        tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, spawning_into_one_living_scope_keeps_memory_flat, 0, counts);
    tcase_add_loop_test(tc, many_tasks_yield, 0, counts);
    tcase_add_test(tc, on_one_worker_yielding_tasks_take_turns);
    tcase_add_loop_test(tc, computing_tasks_of_one_worker_are_run_by_several_threads, 0, 2);
    tcase_add_test(tc, a_child_starts_although_its_parent_computes_on);
    tcase_add_test(tc, sleepers_wake_although_their_worker_computes);
    tcase_add_loop_test(tc, fork_and_join_has_the_right_answer, 0, counts);
    tcase_add_test(tc, a_task_that_moves_between_threads_stays_itself);
    tcase_add_loop_test(tc, a_task_keeps_its_own_rounding_if_it_asked_for_that, 0, counts);
    tc = add_case(s, "shares");
    tcase_set_tags(tc, "timed"); /* for who runs one thread at a time (.ci/run) */
    tcase_add_loop_test(tc, all_workers_take_their_share_of_what_one_spawned, 2, SHARERS + 1);
    tcase_add_test(tc, a_tree_of_tasks_uses_two_processors);
    return run_suite(s);
}
