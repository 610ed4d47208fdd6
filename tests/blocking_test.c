/* blocking_test.c - calls that would block a worker: offload.h, event/offload.c seen from outside.
 * What a cancel does to them is in cause_test.c. */
#include "support.h"

static const int worker_counts[] = { 1, 2, 3, 8 };

/* -- copying calls are made in the pool, and again on a lane of the program's: each a loop of twice as many -- */

static weft_lane *lane;

static void lane_if(bool wanted)
{
    if (wanted)
        ck_assert_int_eq(weft_lane_create(&lane, NULL), 0);
}

static int copying(weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg))
{
    return lane ? weft_blocking_copy_on(lane, fn, arg, bytes, drop) : weft_blocking_copy(fn, arg, bytes, drop);
}

/* -- one call -- */

struct seen {
    int thread, worker_thread, value, rc[8], n;
    weft_task self;
    int check, nested;
    int64_t deadline;
};

static int look_around(void *arg)
{
    struct seen *p = arg;
    p->thread = thread_id();
    p->self = weft_task_self();
    p->check = weft_check();
    p->deadline = weft_deadline();
    p->value++;
    return 17;
}

static int block_once(void *arg)
{
    struct seen *p = arg;
    p->worker_thread = thread_id();
    p->value = 40;
    p->rc[0] = weft_blocking(look_around, p);
    p->value++;
    return 0;
}

START_TEST(a_blocking_call_runs_on_a_thread_that_is_no_worker)
{
    struct seen p = { .self = 1, .check = 1 };
    ck_assert_int_eq(weft_run(block_once, &p, ON(1)), 0);
    ck_assert_int_eq(p.rc[0], 17);
    ck_assert_int_eq(p.value, 42);
    ck_assert_int_ne(p.thread, p.worker_thread);
    ck_assert_int_eq(p.self, 0); /* a plain thread, no task */
    ck_assert_int_eq(p.check, 0);
    ck_assert_int_eq(p.deadline, WEFT_NEVER);
}
END_TEST

static const int results[] = { 0, 1, 0x7fffffff, -1, -EIO, -ECANCELED, -ETIMEDOUT };

static int give(void *arg)
{
    return *(const int *)arg;
}

static int block_for_results(void *arg)
{
    struct seen *p = arg;
    for (int i = 0; i < COUNT(results); i++) {
        int result = results[i];
        p->rc[i] = weft_blocking(give, &result);
    }
    return 0;
}

START_TEST(a_blocking_call_returns_what_its_function_returned)
{
    struct seen p = { 0 };
    ck_assert_int_eq(weft_run(block_for_results, &p, ON(2)), 0);
    for (int i = 0; i < COUNT(results); i++)
        ck_assert_int_eq(p.rc[i], results[i]);
}
END_TEST

static int block_within(void *arg)
{
    struct seen *p = arg;
    p->nested = weft_blocking(look_around, p); /* on a plain thread: called directly */
    return p->thread == thread_id() ? 0 : -EPROTO;
}

static int block_nested(void *arg)
{
    struct seen *p = arg;
    p->rc[0] = weft_blocking(block_within, p);
    return 0;
}

START_TEST(a_blocking_call_within_a_blocking_call_is_a_plain_call)
{
    struct seen p = { 0 };
    ck_assert_int_eq(weft_run(block_nested, &p, ON(1)), 0);
    ck_assert_int_eq(p.rc[0], 0);
    ck_assert_int_eq(p.nested, 17);
}
END_TEST

START_TEST(on_a_plain_thread_the_function_is_called_directly)
{
    struct seen p = { 0 };
    ck_assert_int_eq(weft_blocking(look_around, &p), 17);
    ck_assert_int_eq(p.thread, thread_id());
    ck_assert_int_eq(p.value, 1);
    for (int on_lane = 0; on_lane < 2; on_lane++) {
        lane_if(on_lane);
        p.value = 6;
        ck_assert_int_eq(copying(look_around, &p, sizeof p, NULL), 17);
        ck_assert_int_eq(p.value, 7);
        ck_assert_int_eq(p.thread, thread_id());
    }
    weft_lane_destroy(&lane);
}
END_TEST

/* -- copies -- */

static const int copy_sizes[] = { 0, 1, 8, 15, 16, 17, 64, 1000, 4096, 100000 };

struct copy {
    int bytes, rc, wrong, misaligned, dropped;
    unsigned char *data;
};

static struct copy *copy_of_now;

static int invert(void *arg)
{
    unsigned char *p = arg;
    if (copy_of_now->bytes == 0)
        return 1;
    copy_of_now->misaligned += (uintptr_t)p % 16 != 0;
    copy_of_now->wrong += p == copy_of_now->data;
    for (int i = 0; i < copy_of_now->bytes; i++)
        p[i] = (unsigned char)~p[i];
    return 1;
}

static void count_drop(void *arg)
{
    (void)arg;
    copy_of_now->dropped++;
}

static int block_on_copy(void *arg)
{
    struct copy *c = arg;
    for (int i = 0; i < c->bytes; i++)
        c->data[i] = (unsigned char)(i * 3);
    c->rc = copying(invert, c->data, (size_t)c->bytes, count_drop);
    for (int i = 0; i < c->bytes; i++)
        c->wrong += c->data[i] != (unsigned char)~(i * 3);
    return 0;
}

START_TEST(the_copy_is_aligned_and_copied_back)
{
    static struct copy c;
    memset(&c, 0, sizeof c);
    c.bytes = copy_sizes[_i / 2];
    c.data = malloc((size_t)c.bytes + 1);
    copy_of_now = &c;
    lane_if(_i % 2);
    int rc = weft_run(block_on_copy, &c, ON(2));
    weft_lane_destroy(&lane);
    free(c.data);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(c.rc, 1);
    ck_assert_int_eq(c.wrong, 0);
    ck_assert_int_eq(c.misaligned, 0);
    ck_assert_int_eq(c.dropped, 0);
}
END_TEST

/* -- a result that says that the copy was dropped -- */

static int refuse_work(void *arg)
{
    (void)arg;
    return -ECANCELED;
}

static int block_on_refusal(void *arg)
{
    struct copy *c = arg;
    c->rc = copying(refuse_work, c->data, 1, count_drop);
    return 0;
}

START_TEST(what_returns_ECANCELED_itself_is_dropped_as_well)
{
    static struct copy c;
    unsigned char byte = 1;
    lane_if(_i);
    for (int by_thread = 0; by_thread < 2; by_thread++) {
        memset(&c, 0, sizeof c);
        c.data = &byte;
        copy_of_now = &c;
        ck_assert_int_eq(by_thread ? block_on_refusal(&c) : weft_run(block_on_refusal, &c, ON(2)), 0);
        ck_assert_int_eq(c.rc, -ECANCELED);
        ck_assert_int_eq(c.dropped, 1);
        ck_assert_int_eq(byte, 1);
    }
    weft_lane_destroy(&lane);
}
END_TEST

/* -- beside other work -- */

struct beside {
    struct gate gate;
    atomic_int turns, blocked;
    int rc;
};

static int wait_at_gate(void *arg)
{
    struct beside *b = arg;
    return gate_wait(&b->gate) ? 5 : -ETIME;
}

static int block_at_gate(void *arg)
{
    struct beside *b = arg;
    int rc = weft_blocking(wait_at_gate, b);
    if (rc == 5)
        atomic_fetch_add(&b->blocked, 1);
    return rc == 5 ? 0 : -EPROTO;
}

static int run_beside(void *arg)
{
    struct beside *b = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, block_at_gate, b);
    bool there = wait_for(&b->gate.waiting, 4);
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++) {
        rc = i % 10 ? weft_yield() : weft_sleep(weft_us(100));
        atomic_fetch_add(&b->turns, 1);
    }
    gate_open(&b->gate);
    return weft_scope_end(&s, there ? rc : -ETIME);
}

START_TEST(other_tasks_run_on_while_some_block)
{
    struct beside b = { .gate = GATE_INIT };
    ck_assert_int_eq(weft_run(run_beside, &b, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&b.turns), 100);
    ck_assert_int_eq(atomic_load(&b.blocked), 4);
}
END_TEST

/* -- in place: a call that blocks in the task itself -- */

enum { BEHIND = 10, ROUNDS = 6 };

struct in_place {
    int end[2], pair[2], calls, woken_early, in_time;
    atomic_int asleep, blocked, behind, woken;
    int64_t best; /* how long until all that was ready had run, in the best round */
};

/* 2 ms (B-076), and as much for threads to be woken. */
#define SOON weft_ms(4)

static int runs_behind(void *arg)
{
    struct in_place *p = arg;
    int rc = weft_yield();
    atomic_fetch_add(&p->behind, 1);
    return rc;
}

static int wakes_by_time(void *arg)
{
    struct in_place *p = arg;
    atomic_fetch_add(&p->asleep, 1);
    int rc = weft_sleep(weft_ms(2));
    atomic_fetch_add(&p->woken, 1);
    return rc;
}

static int wakes_by_bytes(void *arg)
{
    struct in_place *p = arg;
    char c;
    atomic_fetch_add(&p->asleep, 1);
    int rc = weft_read(p->pair[0], &c, 1);
    atomic_fetch_add(&p->woken, 1);
    return rc == 1 ? 0 : -EPROTO;
}

/* Ends the blocking call, when all others have got on without it; or in the end. */
static void *watch_in_place(void *arg)
{
    struct in_place *p = arg;
    bool blocked = wait_for(&p->blocked, p->calls);
    int64_t begun = weft_now();
    bool behind = wait_for(&p->behind, BEHIND);
    int64_t took = weft_now() - begun;
    p->best = took < p->best ? took : p->best;
    bool wrote = sys_write(p->pair[1], "x", 1) == 1, woken = wait_for(&p->woken, 2);
    p->in_time += blocked && behind && wrote && woken;
    if (sys_write(p->end[1], "xxxx", (size_t)p->calls) != p->calls)
        abort();
    return NULL;
}

static int blocks(void *arg)
{
    struct in_place *p = arg;
    char c;
    atomic_fetch_add(&p->blocked, 1);
    return sys_read(p->end[0], &c, 1) == 1 ? 0 : -EPROTO;
}

static int block_in_place(void *arg)
{
    struct in_place *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, wakes_by_bytes, p);
    weft_spawn(&s, wakes_by_time, p);
    bool there = wait_for(&p->asleep, 2);
    for (int i = 1; i < p->calls; i++)
        weft_spawn(&s, blocks, p);
    there = there && wait_for(&p->blocked, p->calls - 1);
    for (int i = 0; i < BEHIND; i++)
        weft_spawn(&s, runs_behind, p);
    int rc = blocks(p);
    return weft_scope_end(&s, there ? rc : -ETIME);
}

static const struct {
    int workers, calls;
} in_place_sizes[] = { { 2, 1 }, { 4, 1 }, { 4, 3 } };

START_TEST(what_waits_behind_a_task_that_blocks_its_worker_runs_on_another)
{
    struct in_place p = { .best = LIMIT, .calls = in_place_sizes[_i].calls };
    bool timed = !TSAN && !ASAN && !chaos();
    int64_t end = weft_after(LIMIT);
    int rounds = 0;
    ck_assert_int_eq(pipe2(p.end, O_CLOEXEC), 0);
    for (; rounds < ROUNDS || (timed && p.best > SOON && weft_now() < end); rounds++) {
        ck_assert_int_eq(weft_pair(p.pair), 0);
        atomic_store(&p.asleep, 0);
        atomic_store(&p.blocked, 0);
        atomic_store(&p.behind, 0);
        atomic_store(&p.woken, 0);
        pthread_t t = thread_start(watch_in_place, &p);
        ck_assert_int_eq(weft_run(block_in_place, &p, ON(in_place_sizes[_i].workers)), 0);
        pthread_join(t, NULL);
        ck_assert_int_eq(weft_close(p.pair[0]), 0);
        ck_assert_int_eq(weft_close(p.pair[1]), 0);
    }
    ck_assert_int_eq(p.in_time, rounds);
    if (timed)
        ck_assert_int_le(p.best, SOON);
    close(p.end[0]);
    close(p.end[1]);
}
END_TEST

/* One alone that is spawned wakes nobody: it is owed, and that is what takes time. Where somebody looks out for work just
 * then, it is taken at once, which says nothing. */
enum { OWED = 9, TRIES = 100 };

struct owed {
    int end[2], owed, late_ones;
    int64_t since, late;
};

static int ends_the_call(void *arg)
{
    struct owed *o = arg;
    o->late = weft_now() - o->since;
    return sys_write(o->end[1], "x", 1) == 1 ? 0 : -EPROTO;
}

static NOINLINE int call_that_blocks(struct owed *o)
{
    struct pollfd p = { .fd = o->end[0], .events = POLLIN };
    char c;
    return poll(&p, 1, (int)(LIMIT / weft_ms(1))) == 1 ? sys_read(o->end[0], &c, 1) : -ETIME;
}

static int block_with_one_behind(void *arg)
{
    struct owed *o = arg;
    int rc = 0;
    for (int i = 0; i < 10 * OWED && o->owed < OWED && rc == 0; i++) {
        weft_scope s;
        rc = weft_sleep(weft_ms(5)); /* the other worker is parked, the I/O thread blocked */
        weft_scope_begin(&s, WEFT_NEVER);
        o->since = weft_now();
        weft_spawn(&s, ends_the_call, o);
        if (rc == 0)
            rc = call_that_blocks(o) == 1 ? 0 : -ETIME;
        rc = weft_scope_end(&s, rc);
        o->owed += o->late > weft_us(500);
        o->late_ones += o->late > SOON;
    }
    return rc;
}

/* Most of the times, in one of the tries. */
START_TEST(one_alone_behind_a_task_that_blocks_its_worker_runs_soon_on_another)
{
    bool timed = !TSAN && !ASAN && !chaos();
    struct owed o = { .owed = 0 };
    ck_assert_int_eq(pipe2(o.end, O_CLOEXEC), 0);
    int64_t end = weft_after(LIMIT);
    for (int tries = 0; tries == 0 || (timed && o.late_ones > OWED / 2 && tries < TRIES && weft_now() < end); tries++) {
        o.owed = o.late_ones = 0;
        if (tries > 0)
            usleep(100000); /* others that have the machine may be about to leave */
        ck_assert_int_eq(weft_run(block_with_one_behind, &o, ON(2)), 0);
    }
    close(o.end[0]);
    close(o.end[1]);
    if (timed)
        ck_assert_int_le(o.late_ones, OWED / 2);
}
END_TEST

static int block_the_only_one(void *arg)
{
    struct in_place *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < BEHIND; i++)
        weft_spawn(&s, runs_behind, p);
    usleep(5000); /* however long: nobody is there to run them */
    p->woken_early = atomic_load(&p->behind);
    return weft_scope_end(&s, 0);
}

START_TEST(of_one_worker_nothing_runs_while_its_task_blocks_it)
{
    struct in_place p = { .best = 0 };
    ck_assert_int_eq(weft_run(block_the_only_one, &p, ON(1)), 0);
    ck_assert_int_eq(p.woken_early, 0);
    ck_assert_int_eq(atomic_load(&p.behind), BEHIND);
}
END_TEST

struct many {
    atomic_int ran, done, wrong;
    int n;
};

struct one_of_many {
    struct many *m;
    int in, out;
};

static int double_it(void *arg)
{
    struct one_of_many *o = arg;
    o->out = 2 * o->in;
    atomic_fetch_add(&o->m->ran, 1);
    return o->in;
}

static int block_one_of_many(void *arg)
{
    struct one_of_many o = *(struct one_of_many *)arg;
    int rc = o.in % 2 ? weft_blocking(double_it, &o)
                      : copying(double_it, &o, sizeof o, NULL);
    if (rc != o.in || o.out != 2 * o.in)
        atomic_fetch_add(&o.m->wrong, 1);
    atomic_fetch_add(&o.m->done, 1);
    return 0;
}

static int block_many(void *arg)
{
    struct many *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < m->n; i++) {
        struct one_of_many o = { m, i, 0 };
        weft_spawn_copy(&s, block_one_of_many, &o, sizeof o);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(many_blocking_calls_are_each_made_once)
{
    struct many m = { .n = SCALED(5000, 2000, 500) };
    lane_if(_i % 2);
    ck_assert_int_eq(weft_run(block_many, &m, ON(worker_counts[_i / 2])), 0);
    weft_lane_destroy(&lane);
    ck_assert_int_eq(atomic_load(&m.ran), m.n);
    ck_assert_int_eq(atomic_load(&m.done), m.n);
    ck_assert_int_eq(atomic_load(&m.wrong), 0);
}
END_TEST

/* -- threads: no more than are needed (event/offload.c, P1) -- */

static int call_in_turn(void *arg)
{
    weft_runtime_stats *stats = arg;
    int n = SCALED(2000, 1000, 300), one = 1, rc = 1;
    for (int i = 0; rc == 1 && i < n; i++)
        rc = i % 2 ? weft_blocking(give, &one) : weft_blocking_copy(give, &one, sizeof one, NULL);
    return rc == 1 ? weft_stats_all(NULL, stats) : -EPROTO;
}

START_TEST(calls_one_after_the_other_are_all_made_by_one_thread)
{
    weft_runtime_stats stats = { 0 };
    ck_assert_int_eq(weft_run(call_in_turn, &stats, ON(worker_counts[_i])), 0);
    ck_assert_uint_eq(stats.pool_threads, 1);
}
END_TEST

/* -- cancelling a crowd: some begun, some queued -- */

enum { CROWD = 600 };

struct crowd {
    struct gate gate;
    bool copying;
    atomic_int ran[CROWD], dropped[CROWD], rc[CROWD], returned;
};

struct crowd_arg {
    struct crowd *c;
    int i;
};

static int crowd_fn(void *arg)
{
    struct crowd_arg *a = arg;
    atomic_fetch_add(&a->c->ran[a->i], 1);
    return gate_wait(&a->c->gate) ? 100 : -ETIME;
}

static void crowd_drop(void *arg)
{
    struct crowd_arg *a = arg;
    atomic_fetch_add(&a->c->dropped[a->i], 1);
}

static int crowd_task(void *arg)
{
    struct crowd_arg a = *(struct crowd_arg *)arg;
    int rc = a.c->copying ? copying(crowd_fn, &a, sizeof a, crowd_drop)
                          : weft_blocking(crowd_fn, &a);
    atomic_store(&a.c->rc[a.i], rc);
    atomic_fetch_add(&a.c->returned, 1);
    return rc == -ECANCELED ? rc : 0;
}

static int cancel_crowd(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < CROWD; i++) {
        struct crowd_arg a = { c, i };
        weft_spawn_copy(&s, crowd_task, &a, sizeof a);
    }
    bool some = wait_for(&c->gate.waiting, 1);
    weft_scope_cancel(&s, NULL);
    if (c->copying) /* they leave at once, before the gate is opened */
        some = some && wait_for(&c->returned, CROWD);
    gate_open(&c->gate);
    return weft_scope_end(&s, some ? 0 : -ETIME);
}

START_TEST(a_cancelled_call_was_either_made_and_awaited_or_never_made)
{
    static struct crowd c;
    memset(&c, 0, sizeof c);
    c.gate = (struct gate)GATE_INIT;
    ck_assert_int_eq(weft_run(cancel_crowd, &c, QUIETLY_ON(worker_counts[_i])), 0);
    int made = 0;
    for (int i = 0; i < CROWD; i++) {
        int rc = atomic_load(&c.rc[i]), ran = atomic_load(&c.ran[i]);
        ck_assert_msg((rc == 100 && ran == 1) || (rc == -ECANCELED && ran == 0),
                "%d: returned %d, ran %d", i, rc, ran);
        made += ran;
    }
    ck_assert_int_ge(made, 1);
}
END_TEST

START_TEST(a_cancelled_copying_call_leaves_at_once_and_drops_its_copy_once)
{
    static struct crowd c;
    memset(&c, 0, sizeof c);
    c.gate = (struct gate)GATE_INIT;
    c.copying = true;
    lane_if(_i % 2);
    ck_assert_int_eq(weft_run(cancel_crowd, &c, QUIETLY_ON(worker_counts[_i / 2])), 0);
    weft_lane_destroy(&lane); /* until then calls on it that were left behind may run */
    int made = 0;
    for (int i = 0; i < CROWD; i++) {
        ck_assert_int_eq(atomic_load(&c.rc[i]), -ECANCELED);
        ck_assert_int_le(atomic_load(&c.ran[i]), 1);
        /* A call refused on entry made no copy; whatever was begun or queued is dropped once. */
        ck_assert_int_le(atomic_load(&c.dropped[i]), 1);
        if (atomic_load(&c.ran[i]))
            ck_assert_int_eq(atomic_load(&c.dropped[i]), 1);
        made += atomic_load(&c.ran[i]);
    }
    ck_assert_int_ge(made, 1);
}
END_TEST

/* -- the end of the runtime -- */

struct abandoned {
    struct gate gate;
    atomic_int ended, dropped;
    int rc;
};

static struct abandoned *abandoned;

static int outlast(void *arg)
{
    (void)arg;
    bool open = gate_wait(&abandoned->gate);
    atomic_fetch_add(&abandoned->ended, 1);
    return open ? 0 : -ETIME;
}

static void drop_abandoned(void *arg)
{
    (void)arg;
    atomic_fetch_add(&abandoned->dropped, 1);
}

/* A call that waits for its thread would be taken back instead. */
static int cancel_once_begun(void *arg)
{
    weft_scope *s = arg;
    bool begun = wait_for(&abandoned->gate.waiting, 1);
    weft_scope_cancel(s, "left");
    return begun ? 0 : -ETIME;
}

static int abandon(void *arg)
{
    struct abandoned *a = arg;
    int x = 3;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, cancel_once_begun, &s);
    a->rc = copying(outlast, &x, sizeof x, drop_abandoned);
    return weft_scope_end(&s, 0);
}

static void *open_later(void *arg)
{
    usleep(50000); /* not a wait for anything: either order has to work */
    gate_open(arg);
    return NULL;
}

START_TEST(the_end_of_a_run_awaits_an_abandoned_call)
{
    static struct abandoned a;
    memset(&a, 0, sizeof a);
    a.gate = (struct gate)GATE_INIT;
    abandoned = &a;
    int threads = threads_before();
    pthread_t t = thread_start(open_later, &a.gate);
    int rc = weft_run(abandon, &a, ON(2));
    int ended = atomic_load(&a.ended), dropped = atomic_load(&a.dropped);
    pthread_join(t, NULL);
    ck_assert_int_eq(rc, 0);
    if (a.rc == -ECANCELED) {
        ck_assert_int_eq(ended, 1);
        ck_assert_int_eq(dropped, 1);
    } else {
        ck_assert_int_eq(a.rc, 0);
    }
    ck_assert_int_eq(threads_back_to(threads), threads);
}
END_TEST

/* A lane's thread is not the runtime's. The gate opens only when that has gone. */
START_TEST(the_end_of_a_run_does_not_await_a_call_on_a_lane_but_the_end_of_the_lane_does)
{
    static struct abandoned a;
    weft_lane_stats left = { 0 }, after = { 0 };
    memset(&a, 0, sizeof a);
    a.gate = (struct gate)GATE_INIT;
    abandoned = &a;
    int threads = threads_before();
    lane_if(true);
    int rc = weft_run(abandon, &a, ON(worker_counts[_i]));
    int ended = atomic_load(&a.ended), rc_stats = weft_stats_lane(lane, &left);
    gate_open(&a.gate);
    wait_for(&a.dropped, 1);
    for (int64_t end = weft_after(LIMIT); rc_stats == 0 && weft_now() < end && (after.made == 0 || after.left > 0);)
        rc_stats = weft_stats_lane(lane, &after);
    weft_lane_destroy(&lane);
    int dropped = atomic_load(&a.dropped);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(rc_stats, 0);
    ck_assert_int_eq(a.rc, -ECANCELED);
    ck_assert_int_eq(ended, 0);
    ck_assert_uint_eq(left.left, 1);
    ck_assert_uint_eq(left.running, 1);
    ck_assert_uint_eq(left.made, 0);
    ck_assert_uint_eq(after.left, 0);
    ck_assert_uint_eq(after.made, 1);
    ck_assert_int_eq(dropped, 1);
    ck_assert_int_eq(threads_back_to(threads), threads);
}
END_TEST

/* Without looking: the lane's end waits for the call, and its drop. */
static void *open_soon(void *arg)
{
    sched_yield();
    gate_open(arg);
    return NULL;
}

START_TEST(a_lane_ends_when_the_calls_that_were_left_behind_have)
{
    for (int i = 0; i < SCALED(100, 30, 10); i++) {
        static struct abandoned a;
        memset(&a, 0, sizeof a);
        a.gate = (struct gate)GATE_INIT;
        abandoned = &a;
        lane_if(true);
        int rc = weft_run(abandon, &a, ON(2));
        pthread_t t = thread_start(open_soon, &a.gate);
        weft_lane_destroy(&lane);
        int ended = atomic_load(&a.ended), dropped = atomic_load(&a.dropped);
        pthread_join(t, NULL);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(ended, 1);
        ck_assert_int_eq(dropped, 1);
    }
}
END_TEST

/* The result, the deadline and the end of the runtime come at about the same time; whoever comes last, the copy is dropped
 * or handed back, and the lane's thread leaves the runtime alone once that has gone. */
static int spin_a_little(void *arg)
{
    int64_t end = weft_now() + *(const int *)arg;
    while (weft_now() < end)
        continue;
    return 5;
}

static void drop_one(void *arg)
{
    (void)arg;
    atomic_fetch_add(&abandoned->dropped, 1);
}

static int race_with_result(void *arg)
{
    struct abandoned *a = arg;
    int ns = 20000;
    weft_scope s;
    weft_scope_begin(&s, a->rc);
    int rc = copying(spin_a_little, &ns, sizeof ns, drop_one);
    weft_ignore(weft_scope_end(&s, 0));
    if (rc == 5)
        atomic_fetch_add(&a->ended, 1);
    return rc == 5 || rc == -ECANCELED ? 0 : rc < 0 ? rc : -EPROTO;
}

START_TEST(a_result_that_races_with_the_end_of_the_runtime_is_handed_over_or_dropped)
{
    static struct abandoned a;
    int n = SCALED(400, 100, 50);
    memset(&a, 0, sizeof a);
    abandoned = &a;
    lane_if(true);
    for (int i = 0; i < n; i++) {
        a.rc = 5000 + i % 40 * 2000;
        ck_assert_int_eq(weft_run(race_with_result, &a, QUIETLY_ON(1 + i % 2)), 0);
    }
    weft_lane_destroy(&lane);
    ck_assert_int_eq(atomic_load(&a.ended) + atomic_load(&a.dropped), n);
}
END_TEST

int main(void)
{
    int counts = COUNT(worker_counts);
    Suite *s = suite_create("blocking");
    TCase *tc = add_case(s, "one call");
    tcase_add_test(tc, a_blocking_call_runs_on_a_thread_that_is_no_worker);
    tcase_add_test(tc, a_blocking_call_returns_what_its_function_returned);
    tcase_add_test(tc, a_blocking_call_within_a_blocking_call_is_a_plain_call);
    tcase_add_test(tc, on_a_plain_thread_the_function_is_called_directly);
    tcase_add_loop_test(tc, the_copy_is_aligned_and_copied_back, 0, 2 * COUNT(copy_sizes));
    tcase_add_loop_test(tc, what_returns_ECANCELED_itself_is_dropped_as_well, 0, 2);
    tc = add_case(s, "beside other work");
    tcase_add_loop_test(tc, other_tasks_run_on_while_some_block, 0, counts);
    tcase_add_loop_test(tc, many_blocking_calls_are_each_made_once, 0, 2 * counts);
    tcase_add_loop_test(tc, calls_one_after_the_other_are_all_made_by_one_thread, 0, counts);
    tcase_add_loop_test(tc, what_waits_behind_a_task_that_blocks_its_worker_runs_on_another, 0, COUNT(in_place_sizes));
    tcase_add_test(tc, one_alone_behind_a_task_that_blocks_its_worker_runs_soon_on_another);
    tcase_add_test(tc, of_one_worker_nothing_runs_while_its_task_blocks_it);
    tc = add_case(s, "cancelling");
    tcase_add_loop_test(tc, a_cancelled_call_was_either_made_and_awaited_or_never_made, 0, counts);
    tcase_add_loop_test(
            tc, a_cancelled_copying_call_leaves_at_once_and_drops_its_copy_once, 0, 2 * counts);
    tcase_add_test(tc, the_end_of_a_run_awaits_an_abandoned_call);
    tcase_add_loop_test(tc, the_end_of_a_run_does_not_await_a_call_on_a_lane_but_the_end_of_the_lane_does, 0, counts);
    tcase_add_test(tc, a_lane_ends_when_the_calls_that_were_left_behind_have);
    tcase_add_test(tc, a_result_that_races_with_the_end_of_the_runtime_is_handed_over_or_dropped);
    return run_suite(s);
}
