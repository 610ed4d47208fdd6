/* lane_test.c - lanes: offload.h's weft_lane, os/lane.c, and that a runtime's own three do not wait for each other. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"
#include "os/lane.h"

static const int worker_counts[] = { 1, 2, 4 };

/* -- a runtime's own lanes: none waits for another's threads (L1) -- */

enum { OF_NAMES = WEFT__POOL_NAMES, OF_FILES = WEFT__POOL_FILES, OF_USER = WEFT__POOL_MOST };

struct apart {
    struct gate gate;
    int kind, rc_user, rc_files, rc_names;
    weft_runtime_stats stats;
};

static int at_gate(void *arg)
{
    return gate_wait(arg) ? 3 : -ETIME;
}


static int hold_one(void *arg)
{
    struct apart *a = arg;
    int rc = weft__lane_call((enum weft__lane_kind)a->kind, at_gate, &a->gate);
    return rc == 3 ? 0 : rc < 0 ? rc : -EPROTO;
}

static int seven(void *arg)
{
    (void)arg;
    return 7;
}

static int hold_a_lane(void *arg)
{
    struct apart *a = arg;
    static const int most[] = { [WEFT__LANE_USER] = OF_USER, [WEFT__LANE_FILES] = OF_FILES, [WEFT__LANE_NAMES] = OF_NAMES };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < most[a->kind] + 3; i++)
        weft_spawn(&s, hold_one, a);
    bool there = wait_for(&a->gate.waiting, most[a->kind]);
    if (a->kind != WEFT__LANE_USER)
        a->rc_user = weft_blocking(seven, NULL);
    if (a->kind != WEFT__LANE_FILES)
        a->rc_files = weft__lane_call(WEFT__LANE_FILES, seven, NULL);
    if (a->kind != WEFT__LANE_NAMES)
        a->rc_names = weft__lane_call(WEFT__LANE_NAMES, seven, NULL);
    there = there && weft_stats_all(NULL, &a->stats) == 0;
    gate_open(&a->gate);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

START_TEST(a_lane_whose_threads_are_all_blocked_keeps_no_other_waiting)
{
    for (int kind = WEFT__LANE_USER; kind <= WEFT__LANE_NAMES; kind++) {
        struct apart a = { .gate = GATE_INIT, .kind = kind };
        ck_assert_int_eq(weft_run(hold_a_lane, &a, ON(worker_counts[_i])), 0);
        ck_assert_int_eq(a.rc_user + a.rc_files + a.rc_names, 14);
        uint64_t running[] = { a.stats.pool_running, a.stats.files_running, a.stats.names_running };
        int most[] = { OF_USER, OF_FILES, OF_NAMES };
        ck_assert_uint_ge(running[kind], (uint64_t)most[kind]); /* a moment old: one that has just returned may count */
    }
}
END_TEST

/* -- how a runtime's own are to be -- */

struct own {
    struct gate gate;
    atomic_int now, most, ran, returned, refused, named;
    int kind, n, threads_left;
    char comm[32];
    weft_runtime_stats stats;
};

static int count_in_own(void *arg)
{
    struct own *o = arg;
    int now = atomic_fetch_add(&o->now, 1) + 1;
    for (int most = atomic_load(&o->most); now > most && !atomic_compare_exchange_weak(&o->most, &most, now);)
        continue;
    if (atomic_fetch_add(&o->named, 1) == 0)
        pthread_getname_np(pthread_self(), o->comm, sizeof o->comm);
    bool open = gate_wait(&o->gate);
    atomic_fetch_sub(&o->now, 1);
    return open ? 3 : -ETIME;
}

static int call_own(void *arg)
{
    struct own *o = arg;
    int rc = weft__lane_call((enum weft__lane_kind)o->kind, count_in_own, o);
    atomic_fetch_add(rc == 3 ? &o->ran : &o->refused, 1);
    atomic_fetch_add(&o->returned, 1);
    return rc == 3 || rc == -EAGAIN ? 0 : rc < 0 ? rc : -EPROTO;
}

/* Of ten, two threads and three places: five are refused. Then the threads end, since they have nothing to do. */
static int fill_own(void *arg)
{
    struct own *o = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, call_own, o);
    bool there = wait_for(&o->gate.waiting, 2) && wait_for(&o->returned, o->n);
    gate_open(&o->gate);
    int rc = weft_scope_end(&s, there ? 0 : -ETIME);
    for (int64_t end = weft_after(LIMIT); rc == 0 && weft_now() < end;) {
        rc = weft_stats_all(NULL, &o->stats);
        o->threads_left = (int)(o->stats.pool_threads + o->stats.files_threads + o->stats.names_threads);
        if (o->threads_left == 0)
            break;
        rc = rc < 0 ? rc : weft_sleep(weft_us(200));
    }
    return rc;
}

/* B-075 */
START_TEST(a_runtimes_own_have_as_many_threads_and_places_as_it_says)
{
    static const weft_lane_options shape = { .name = "some-lane", .threads = 2, .queue = 3, .idle = 1 },
                                   patient = { .threads = 2, .queue = 3, .idle = 1, .wait_for_room = true };
    for (int kind = WEFT__LANE_USER; kind <= WEFT__LANE_NAMES; kind++)
        for (int waits = 0; waits < 2; waits++) {
            const weft_lane_options *lane = waits ? &patient : &shape;
            struct own o = { .gate = GATE_INIT, .kind = kind, .n = waits ? 0 : 5 };
            weft_options how = { .workers = worker_counts[_i] };
            *(kind == WEFT__LANE_USER ? &how.blocking : kind == WEFT__LANE_FILES ? &how.files : &how.names) = lane;
            ck_assert_int_eq(weft_run(fill_own, &o, &how), 0);
            ck_assert_int_eq(atomic_load(&o.most), 2);
            ck_assert_int_eq(atomic_load(&o.ran), waits ? 10 : 5);
            ck_assert_int_eq(atomic_load(&o.refused), waits ? 0 : 5);
            ck_assert_uint_eq(o.stats.refused, (uint64_t)atomic_load(&o.refused));
            ck_assert_int_eq(o.threads_left, 0);
            static const char *const names[] = { [WEFT__LANE_USER] = "weft-pool", [WEFT__LANE_FILES] = "weft-files",
                [WEFT__LANE_NAMES] = "weft-names" };
            ck_assert_str_eq(o.comm, waits ? names[kind] : "weft-some-lane");
        }
}
END_TEST

static int use_once(void *arg)
{
    int rc = weft_blocking(seven, NULL);
    if (rc == 7)
        rc = weft__lane_call(WEFT__LANE_FILES, seven, NULL);
    if (rc == 7)
        rc = weft__lane_call(WEFT__LANE_NAMES, seven, NULL);
    return rc == 7 ? weft_stats_all(NULL, arg) : rc < 0 ? rc : -EPROTO;
}

START_TEST(the_threads_of_a_runtimes_own_stay_unless_it_says_otherwise)
{
    static const weft_lane_options zeroes, one = { .threads = 1 }, stays = { .idle = WEFT_NEVER };
    static const weft_lane_options *const shapes[] = { NULL, &zeroes, &one, &stays };
    for (int i = 0; i < COUNT(shapes); i++) {
        weft_runtime_stats stats = { 0 };
        weft_options how = { .workers = 2, .blocking = shapes[i], .files = shapes[i], .names = shapes[i] };
        ck_assert_int_eq(weft_run(use_once, &stats, &how), 0);
        ck_assert_uint_eq(stats.pool_threads, 1);
        ck_assert_uint_eq(stats.files_threads, 1);
        ck_assert_uint_eq(stats.names_threads, 1);
        ck_assert_uint_eq(stats.refused, 0);
    }
}
END_TEST

START_TEST(bad_options_of_a_runtimes_own_are_refused)
{
    static const weft_lane_options bad[] = { { .threads = -1 }, { .threads = 1025 }, { .queue = -1 }, { .idle = -1 },
        { .reserved = { 0, 0, 1 } } };
    weft_runtime *rt = NULL;
    for (int i = 0; i < COUNT(bad); i++) {
        ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .blocking = &bad[i] }), -EINVAL);
        ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .files = &bad[i] }), -EINVAL);
        ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .names = &bad[i] }), -EINVAL);
    }
    ck_assert_ptr_null(rt);
    static const weft_lane_options most = { .threads = 1024, .queue = INT_MAX };
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .blocking = &most, .files = &most, .names = &most }), 0);
    weft_runtime_destroy(&rt);
}
END_TEST

/* -- a lane of the program's -- */

struct work {
    weft_lane *lane;
    struct gate gate;
    atomic_int now, most, ran, rc[64], returned;
    int n, blocked_signals, tid;
    char comm[32];
};

static int count_in(void *arg)
{
    struct work *w = arg;
    int now = atomic_fetch_add(&w->now, 1) + 1;
    for (int most = atomic_load(&w->most); now > most && !atomic_compare_exchange_weak(&w->most, &most, now);)
        continue;
    atomic_fetch_add(&w->ran, 1);
    bool open = gate_wait(&w->gate);
    atomic_fetch_sub(&w->now, 1);
    return open ? 3 : -ETIME;
}

static int call_one(void *arg)
{
    struct work *w = arg;
    int rc = weft_blocking_on(w->lane, count_in, w);
    atomic_store(&w->rc[atomic_fetch_add(&w->returned, 1)], rc);
    return 0;
}

static int call_n(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < w->n; i++)
        weft_spawn(&s, call_one, w);
    bool there = wait_for(&w->gate.waiting, 3);
    gate_open(&w->gate);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

START_TEST(no_more_calls_run_at_once_than_it_has_threads)
{
    struct work w = { .gate = GATE_INIT, .n = 20 };
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .threads = 3 }), 0);
    ck_assert_int_eq(weft_run(call_n, &w, ON(worker_counts[_i])), 0);
    weft_lane_destroy(&w.lane);
    ck_assert_ptr_null(w.lane);
    ck_assert_int_eq(atomic_load(&w.most), 3);
    ck_assert_int_eq(atomic_load(&w.ran), 20);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(atomic_load(&w.rc[i]), 3);
}
END_TEST

/* One thread, one place in the queue: of four calls two are refused, or none if they wait for room. */
static int crowd_a_queue(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, call_one, w);
    bool there = wait_for(&w->gate.waiting, 1);
    for (int i = 0; i < 3; i++)
        weft_spawn(&s, call_one, w);
    if (w->n > 0)
        there = there && wait_for(&w->returned, w->n);
    gate_open(&w->gate);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

START_TEST(a_full_queue_refuses_or_waits)
{
    for (int waits = 0; waits < 2; waits++) {
        struct work w = { .gate = GATE_INIT, .n = waits ? 0 : 2 };
        weft_lane_options o = { .threads = 1, .queue = 1, .wait_for_room = waits };
        ck_assert_int_eq(weft_lane_create(&w.lane, &o), 0);
        ck_assert_int_eq(weft_run(crowd_a_queue, &w, ON(worker_counts[_i])), 0);
        weft_lane_destroy(&w.lane);
        int refused = 0, done = 0;
        for (int i = 0; i < 4; i++) {
            refused += atomic_load(&w.rc[i]) == -EAGAIN;
            done += atomic_load(&w.rc[i]) == 3;
        }
        ck_assert_int_eq(refused, waits ? 0 : 2);
        ck_assert_int_eq(done, waits ? 4 : 2);
    }
}
END_TEST

/* As many calls as it has threads and places are never refused: however fresh the threads are, and though a caller who has
 * just been answered comes again before his thread has looked. */
static int fill_and_fill_again(void *arg)
{
    struct work *w = arg;
    for (int i = 0; i < fewer(50, SCALED(300, 150, 60)); i++)
        if (weft_blocking_on(w->lane, seven, NULL) != 7)
            atomic_fetch_add(&w->rc[0], 1);
    return 0;
}

static int fill_it(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < w->n; i++)
        weft_spawn(&s, fill_and_fill_again, w);
    return weft_scope_end(&s, 0);
}

START_TEST(as_many_as_there_is_room_for_are_never_refused)
{
    static const weft_lane_options shapes[] = { { .threads = 1, .queue = 1 }, { .threads = 3, .queue = 1 },
        { .threads = 2, .queue = 4, .idle = 1 } };
    for (int i = 0; i < COUNT(shapes); i++) {
        struct work w = { .n = shapes[i].threads + shapes[i].queue };
        ck_assert_int_eq(weft_lane_create(&w.lane, &shapes[i]), 0);
        ck_assert_int_eq(weft_run(fill_it, &w, ON(worker_counts[_i])), 0);
        weft_lane_destroy(&w.lane);
        ck_assert_int_eq(atomic_load(&w.rc[0]), 0);
    }
}
END_TEST

/* Two of four threads cannot be started: there is one place all the same. */
static int crowd_few_threads(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, call_one, w);
    bool there = wait_for(&w->gate.waiting, 1);
    weft_spawn(&s, call_one, w);
    there = there && wait_for(&w->gate.waiting, 2);
    weft__fault_set(WEFT__FAULT_THREAD, 1, 1000, -EAGAIN);
    for (int i = 0; i < 5; i++)
        weft_spawn(&s, call_one, w);
    there = there && wait_for(&w->returned, 4);
    weft__fault_clear();
    gate_open(&w->gate);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

START_TEST(the_queue_is_bounded_where_no_thread_can_be_started)
{
    struct work w = { .gate = GATE_INIT };
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .threads = 4, .queue = 1 }), 0);
    ck_assert_int_eq(weft_run(crowd_few_threads, &w, ON(worker_counts[_i])), 0);
    weft_lane_destroy(&w.lane);
    int refused = 0;
    for (int i = 0; i < 7; i++)
        refused += atomic_load(&w.rc[i]) == -EAGAIN;
    ck_assert_int_eq(refused, 4);
    ck_assert_int_eq(atomic_load(&w.ran), 3);
}
END_TEST

NOINLINE static int look_at_thread(void *arg)
{
    struct work *w = arg;
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    w->blocked_signals = sigismember(&set, SIGTERM) && sigismember(&set, SIGUSR1);
    pthread_getname_np(pthread_self(), w->comm, sizeof w->comm);
    w->tid = thread_id();
    return 0;
}

static int look_once(void *arg)
{
    struct work *w = arg;
    return weft_blocking_on(w->lane, look_at_thread, w);
}

START_TEST(its_threads_have_its_name_and_no_signals)
{
    struct work w = { .n = 0 };
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .name = "thumbnails" }), 0);
    ck_assert_int_eq(weft_run(look_once, &w, ON(1)), 0);
    weft_lane_destroy(&w.lane);
    ck_assert_str_eq(w.comm, "weft-thumbnails");
    ck_assert_int_eq(w.blocked_signals, 1);
    ck_assert_int_ne(w.tid, thread_id());
}
END_TEST

START_TEST(idle_threads_end_and_come_back)
{
    struct work w = { .n = 0 };
    int before = threads_before();
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .idle = weft_ms(1) }), 0);
    for (int i = 0; i < 3; i++) {
        w.gate = (struct gate)GATE_INIT;
        w.n = 8;
        ck_assert_int_eq(weft_run(call_n, &w, ON(2)), 0);
        ck_assert_int_eq(threads_back_to(before), before);
    }
    weft_lane_destroy(&w.lane);
    ck_assert_int_eq(atomic_load(&w.ran), 24);
}
END_TEST

START_TEST(the_threads_of_a_lane_end_with_it)
{
    struct work w = { .gate = GATE_INIT, .n = 10 };
    int before = threads_before();
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .idle = WEFT_NEVER }), 0);
    ck_assert_int_eq(weft_run(call_n, &w, ON(2)), 0);
    ck_assert_int_gt(threads_now(), before);
    weft_lane_destroy(&w.lane);
    ck_assert_int_eq(threads_back_to(before), before);
}
END_TEST

/* -- figures -- */

struct watched {
    struct work w;
    weft_lane_stats full, empty;
    int rc;
};

static bool comes_to(weft_lane *l, weft_lane_stats *out, uint64_t queued, uint64_t running)
{
    for (int64_t end = weft_after(LIMIT); weft_now() < end; sched_yield())
        if (weft_stats_lane(l, out) == 0 && out->queued == queued && out->running == running)
            return true;
    return false;
}

/* Two threads, three places: of nine, four are refused. */
static int watch_a_lane(void *arg)
{
    struct watched *x = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 9; i++)
        weft_spawn(&s, call_one, &x->w);
    bool there = wait_for(&x->w.returned, 4) && comes_to(x->w.lane, &x->full, 3, 2);
    gate_open(&x->w.gate);
    int rc = weft_scope_end(&s, there ? 0 : -ETIME);
    return comes_to(x->w.lane, &x->empty, 0, 0) ? rc : -ETIME;
}

/* B-075 */
START_TEST(what_a_lane_does_is_counted)
{
    struct watched x = { .w.gate = GATE_INIT };
    weft_lane_options o = { .threads = 2, .queue = 3, .idle = WEFT_NEVER };
    ck_assert_int_eq(weft_lane_create(&x.w.lane, &o), 0);
    ck_assert_int_eq(weft_stats_lane(x.w.lane, &x.empty), 0);
    ck_assert_int_eq(memcmp(&x.empty, &(weft_lane_stats){ 0 }, sizeof x.empty), 0);
    ck_assert_int_eq(weft_run(watch_a_lane, &x, ON(worker_counts[_i])), 0);
    ck_assert_uint_eq(x.full.threads, 2);
    ck_assert_uint_eq(x.full.idle, 0);
    ck_assert_uint_eq(x.full.made, 0);
    ck_assert_uint_eq(x.full.refused, 4);
    ck_assert_uint_eq(x.empty.threads, 2);
    ck_assert_uint_eq(x.empty.idle, 2);
    ck_assert_uint_eq(x.empty.made, 5);
    ck_assert_uint_eq(x.empty.refused, 4);
    ck_assert_uint_eq(x.empty.left, 0);
    weft_lane_stats untouched = x.empty;
    ck_assert_int_eq(weft_stats_lane(NULL, &x.empty), -EINVAL);
    ck_assert_int_eq(weft_stats_lane(x.w.lane, NULL), -EINVAL);
    ck_assert_int_eq(memcmp(&x.empty, &untouched, sizeof untouched), 0);
    weft_lane_destroy(&x.w.lane);
}
END_TEST

/* -- computing: as many threads as processors, and the workers go on -- */

struct computing {
    weft_lane *lane;
    atomic_int now, most, done, over, late;
    int cpus, ticks;
};

static int compute_until_over(void *arg)
{
    struct computing *c = arg;
    int now = atomic_fetch_add(&c->now, 1) + 1;
    for (int most = atomic_load(&c->most); now > most && !atomic_compare_exchange_weak(&c->most, &most, now);)
        continue;
    for (int64_t end = weft_after(LIMIT); atomic_load(&c->over) == 0;)
        if (weft_now() >= end) {
            atomic_fetch_add(&c->late, 1);
            break;
        }
    atomic_fetch_sub(&c->now, 1);
    return 0;
}

static int compute_one(void *arg)
{
    struct computing *c = arg;
    int rc = weft_blocking_on(c->lane, compute_until_over, c);
    atomic_fetch_add(&c->done, rc == 0);
    return rc;
}

/* They compute until these turns are over, so whoever held the one worker up would be late. */
static int compute_many(void *arg)
{
    struct computing *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4 * c->cpus; i++)
        weft_spawn(&s, compute_one, c);
    bool there = wait_for(&c->now, c->cpus);
    int rc = 0;
    for (int i = 0; i < 50 && rc == 0; i++, c->ticks++)
        rc = i % 10 ? weft_yield() : weft_sleep(weft_us(100));
    atomic_store(&c->over, 1);
    return weft_scope_end(&s, there ? rc : -ETIME);
}

/* B-075 */
START_TEST(computing_takes_as_many_threads_as_processors_and_holds_no_worker)
{
    struct computing c = { .cpus = weft_cpus() };
    ck_assert_int_eq(weft_lane_create(&c.lane, &(weft_lane_options){ .name = "compute", .threads = c.cpus }), 0);
    ck_assert_int_eq(weft_run(compute_many, &c, &(weft_options){ .workers = worker_counts[_i], .spares = -1 }), 0);
    weft_lane_destroy(&c.lane);
    ck_assert_int_eq(atomic_load(&c.done), 4 * c.cpus);
    ck_assert_int_eq(atomic_load(&c.most), c.cpus);
    ck_assert_int_eq(atomic_load(&c.late), 0);
    ck_assert_int_eq(c.ticks, 50);
}
END_TEST

/* -- cancel and deadline -- */

static int cancel_calls(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 6; i++)
        weft_spawn(&s, call_one, w);
    bool there = wait_for(&w->gate.waiting, 2);
    weft_scope_cancel(&s, NULL);
    there = there && wait_for(&w->returned, 4); /* those that were queued */
    int begun = atomic_load(&w->ran);
    gate_open(&w->gate);
    int rc = weft_scope_end(&s, 0);
    return there && begun == 2 ? rc : -ETIME;
}

START_TEST(a_cancel_withdraws_what_is_queued_and_awaits_what_has_begun)
{
    struct work w = { .gate = GATE_INIT };
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .threads = 2 }), 0);
    ck_assert_int_eq(weft_run(cancel_calls, &w, QUIETLY_ON(worker_counts[_i])), 0);
    weft_lane_destroy(&w.lane);
    int done = 0, left = 0;
    for (int i = 0; i < 6; i++) {
        done += atomic_load(&w.rc[i]) == 3;
        left += atomic_load(&w.rc[i]) == -ECANCELED;
    }
    ck_assert_int_eq(atomic_load(&w.ran), 2);
    ck_assert_int_eq(done, 2);
    ck_assert_int_eq(left, 4);
}
END_TEST

/* Its turn comes only when the deadline is over: the lane's one thread is held. */
static int call_within(void *arg)
{
    struct work *w = arg;
    weft_scope s, t;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, call_one, w);
    bool there = wait_for(&w->gate.waiting, 1);
    weft_scope_begin(&t, weft_ms(5));
    int rc = weft_scope_end(&t, weft_blocking_on(w->lane, seven, NULL));
    gate_open(&w->gate);
    int end = weft_scope_end(&s, 0);
    return !there ? -ETIME : end < 0 ? end : rc == -ETIMEDOUT ? 0 : -EPROTO;
}

START_TEST(a_deadline_withdraws_what_is_queued)
{
    struct work w = { .gate = GATE_INIT };
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .threads = 1 }), 0);
    ck_assert_int_eq(weft_run(call_within, &w, ON(worker_counts[_i])), 0);
    weft_lane_destroy(&w.lane);
}
END_TEST

/* -- runtimes that come and go -- */

static int call_some(void *arg)
{
    struct work *w = arg;
    for (int i = 0; i < 3; i++) {
        int rc = weft_blocking_on(w->lane, seven, NULL);
        if (rc != 7)
            return rc < 0 ? rc : -EPROTO;
    }
    return 0;
}

static void *run_often(void *arg)
{
    intptr_t wrong = 0;
    for (int i = 0; i < SCALED(60, 20, 10); i++)
        wrong += weft_run(call_some, arg, ON(1 + i % 2)) != 0;
    return (void *)wrong;
}

START_TEST(a_lane_outlives_the_runtimes_that_use_it)
{
    struct work w = { .n = 0 };
    void *wrong[2];
    ck_assert_int_eq(weft_lane_create(&w.lane, &(weft_lane_options){ .threads = 2 }), 0);
    pthread_t a = thread_start(run_often, &w), b = thread_start(run_often, &w);
    pthread_join(a, &wrong[0]);
    pthread_join(b, &wrong[1]);
    weft_lane_destroy(&w.lane);
    ck_assert_ptr_null(wrong[0]);
    ck_assert_ptr_null(wrong[1]);
}
END_TEST

static int linger(void *arg)
{
    (void)arg;
    usleep(30000); /* so long that all workers sleep meanwhile; whatever they do, this is no deadlock */
    return 7;
}

static int call_linger(void *arg)
{
    struct work *w = arg;
    int rc = weft_blocking_on(w->lane, linger, NULL);
    return rc == 7 ? 0 : rc;
}

START_TEST(a_call_under_way_is_no_deadlock_and_holds_a_virtual_clock)
{
    struct work w = { .n = 0 };
    ck_assert_int_eq(weft_lane_create(&w.lane, NULL), 0);
    for (int clock = WEFT_CLOCK_REAL; clock <= WEFT_CLOCK_VIRTUAL; clock++)
        ck_assert_int_eq(weft_run(call_linger, &w,
                                 &(weft_options){ .workers = 2, .clock = clock, .deadlock_is_error = true }),
                0);
    weft_lane_destroy(&w.lane);
}
END_TEST

/* -- bad inputs, plain threads, children, faults -- */

START_TEST(bad_options_are_refused)
{
    weft_lane *l = NULL;
    ck_assert_int_eq(weft_lane_create(NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_lane_create(&l, &(weft_lane_options){ .threads = -1 }), -EINVAL);
    ck_assert_int_eq(weft_lane_create(&l, &(weft_lane_options){ .threads = 100000 }), -EINVAL);
    ck_assert_int_eq(weft_lane_create(&l, &(weft_lane_options){ .queue = -1 }), -EINVAL);
    ck_assert_int_eq(weft_lane_create(&l, &(weft_lane_options){ .idle = -1 }), -EINVAL);
    ck_assert_int_eq(weft_lane_create(&l, &(weft_lane_options){ .reserved = { 0, 1 } }), -EINVAL);
    ck_assert_ptr_null(l);
    weft_lane_destroy(&l);
    weft_lane_destroy(NULL);
    ck_assert_int_eq(weft_blocking_on(NULL, seven, NULL), -EINVAL);
    ck_assert_int_eq(weft_blocking_copy_on(NULL, seven, NULL, 0, NULL), -EINVAL);
}
END_TEST

START_TEST(on_a_plain_thread_the_function_is_called_directly)
{
    struct work w = { .n = 0 };
    ck_assert_int_eq(weft_lane_create(&w.lane, NULL), 0);
    ck_assert_int_eq(weft_blocking_on(w.lane, NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_blocking_copy_on(w.lane, NULL, NULL, 0, NULL), -EINVAL);
    ck_assert_int_eq(weft_blocking_copy_on(w.lane, seven, NULL, 1, NULL), -EINVAL);
    ck_assert_int_eq(weft_blocking_copy_on(w.lane, seven, &w, SIZE_MAX, NULL), -EINVAL);
    ck_assert_int_eq(weft_blocking_on(w.lane, look_at_thread, &w), 0);
    ck_assert_int_eq(w.tid, thread_id());
    weft_lane_destroy(&w.lane);
}
END_TEST

static void call_in_child(void *arg)
{
    struct work *w = arg;
    weft_lane *l = NULL, *was = w->lane;
    weft_lane_stats stats;
    bool told = weft_blocking_on(w->lane, seven, NULL) == -ECHILD && weft_lane_create(&l, NULL) == -ECHILD &&
            weft_blocking_copy_on(w->lane, seven, NULL, 0, NULL) == -ECHILD && weft_stats_lane(w->lane, &stats) == -ECHILD;
    weft_lane_destroy(&w->lane);
    _exit(told && w->lane == was ? 42 : 1);
}

START_TEST(a_forked_child_is_told_so)
{
    struct work w = { .n = 0 };
    ck_assert_int_eq(weft_lane_create(&w.lane, NULL), 0);
    struct death d = die(call_in_child, &w);
    weft_lane_destroy(&w.lane);
    ck_assert_int_eq(d.status, 42);
}
END_TEST

static int nobody_is_dropped(void *arg)
{
    (void)arg;
    return 7;
}

static void drop_none(void *arg)
{
    *(char *)arg = 'x';
    abort();
}

static int call_without_thread(void *arg)
{
    struct work *w = arg;
    char byte = 'a';
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
    int no_memory = weft_blocking_copy_on(w->lane, nobody_is_dropped, &byte, 1, drop_none);
    weft__fault_clear();
    weft__fault_set(WEFT__FAULT_THREAD, 1, 1, -EAGAIN);
    int no_thread = weft_blocking_copy_on(w->lane, nobody_is_dropped, &byte, 1, drop_none);
    weft__fault_clear();
    if (no_memory != -ENOMEM || no_thread != -EAGAIN || byte != 'a')
        return -EPROTO;
    weft__fault_set(WEFT__FAULT_THREAD, 1, 1, -EAGAIN);
    int refused = weft_blocking_on(w->lane, seven, NULL);
    int after = weft_blocking_on(w->lane, seven, NULL);
    weft__fault_clear();
    return refused == -EAGAIN && after == 7 ? 0 : -EPROTO;
}

START_TEST(what_fails_is_told)
{
    struct work w = { .n = 0 };
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
    int rc = weft_lane_create(&w.lane, NULL);
    weft__fault_clear();
    ck_assert_int_eq(rc, -ENOMEM);
    ck_assert_ptr_null(w.lane);
    ck_assert_int_eq(weft_lane_create(&w.lane, NULL), 0);
    ck_assert_int_eq(weft_run(call_without_thread, &w, ON(1)), 0);
    weft_lane_destroy(&w.lane);
}
END_TEST

int main(void)
{
    int counts = COUNT(worker_counts);
    Suite *s = suite_create("lane");
    TCase *tc = add_case(s, "apart");
    tcase_add_loop_test(tc, a_lane_whose_threads_are_all_blocked_keeps_no_other_waiting, 0, counts);
    tcase_add_loop_test(tc, a_runtimes_own_have_as_many_threads_and_places_as_it_says, 0, counts);
    tcase_add_test(tc, the_threads_of_a_runtimes_own_stay_unless_it_says_otherwise);
    tcase_add_test(tc, bad_options_of_a_runtimes_own_are_refused);
    tc = add_case(s, "threads");
    tcase_add_loop_test(tc, no_more_calls_run_at_once_than_it_has_threads, 0, counts);
    tcase_add_loop_test(tc, a_full_queue_refuses_or_waits, 0, counts);
    tcase_add_loop_test(tc, as_many_as_there_is_room_for_are_never_refused, 0, counts);
    tcase_add_loop_test(tc, the_queue_is_bounded_where_no_thread_can_be_started, 0, counts);
    tcase_add_test(tc, its_threads_have_its_name_and_no_signals);
    tcase_add_test(tc, idle_threads_end_and_come_back);
    tcase_add_test(tc, the_threads_of_a_lane_end_with_it);
    tcase_add_loop_test(tc, what_a_lane_does_is_counted, 0, counts);
    tcase_add_loop_test(tc, computing_takes_as_many_threads_as_processors_and_holds_no_worker, 0, counts);
    tc = add_case(s, "leaving");
    tcase_add_loop_test(tc, a_cancel_withdraws_what_is_queued_and_awaits_what_has_begun, 0, counts);
    tcase_add_loop_test(tc, a_deadline_withdraws_what_is_queued, 0, counts);
    tc = add_case(s, "runtimes");
    tcase_add_test(tc, a_lane_outlives_the_runtimes_that_use_it);
    tcase_add_test(tc, a_call_under_way_is_no_deadlock_and_holds_a_virtual_clock);
    tc = add_case(s, "trouble");
    tcase_add_test(tc, bad_options_are_refused);
    tcase_add_test(tc, on_a_plain_thread_the_function_is_called_directly);
    if (forking())
        tcase_add_test(tc, a_forked_child_is_told_so);
    tcase_add_test(tc, what_fails_is_told);
    return run_suite(s);
}
