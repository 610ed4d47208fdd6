/* report_test.c - what the workers say they have done: report.h seen from outside. */
#include "support.h"

/* Without spares, of which one may come when a machine is busy: the numbers are told exactly. */
#define ALONE (&(weft_options){ .workers = WORKERS, .spares = -1 })

enum { WORKERS = 3 };

struct figures {
    weft_worker_stats stats[WORKERS + 1], after[WORKERS + 1];
    int n, fewer, none, null, children;
    atomic_int ran;
    unsigned char guard;
};

static int count_run(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_yield();
}

static int look_at_figures(void *arg)
{
    struct figures *f = arg;
    memset(f->stats, 0xee, sizeof f->stats);
    f->n = weft_stats(NULL, f->stats, WORKERS + 1);
    f->guard = ((unsigned char *)&f->stats[WORKERS])[0];
    f->none = weft_stats(NULL, NULL, 0);
    f->null = weft_stats(NULL, NULL, 2);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < f->children; i++)
        weft_spawn(&s, count_run, &f->ran);
    int rc = weft_scope_end(&s, 0);
    if (rc == 0)
        rc = weft_sleep(weft_us(100));
    memset(f->after, 0xee, sizeof f->after);
    f->fewer = weft_stats(NULL, f->after, WORKERS);
    return rc;
}

static uint64_t sum_of(const weft_worker_stats *w, size_t field)
{
    uint64_t sum = 0, v;
    for (int i = 0; i < WORKERS; i++) {
        memcpy(&v, (const char *)&w[i] + field, sizeof v);
        sum += v;
    }
    return sum;
}

#define GREW(f, field)                                                                             \
    (sum_of((f)->after, offsetof(weft_worker_stats, field)) -                                      \
            sum_of((f)->stats, offsetof(weft_worker_stats, field)))

START_TEST(the_figures_of_all_workers_add_up)
{
    static struct figures f;
    memset(&f, 0, sizeof f);
    f.children = 1000;
    ck_assert_int_eq(weft_run(look_at_figures, &f, ALONE), 0);
    ck_assert_int_eq(f.n, WORKERS);
    ck_assert_int_eq(f.guard, 0xee); /* one past them is untouched */
    ck_assert_int_eq(f.none, WORKERS);
    ck_assert_int_eq(f.null, -EINVAL);
    ck_assert_int_eq(f.fewer, WORKERS);
    ck_assert_int_eq(atomic_load(&f.ran), f.children);
    ck_assert_uint_eq(GREW(&f, spawned), 1000);
    /* Each child is begun, by a worker or by its joiner, and begins again after its yield. */
    ck_assert_uint_ge(GREW(&f, ran) + GREW(&f, inlined), 1000);
    ck_assert_uint_ge(GREW(&f, timers), 1);
}
END_TEST

/* B-085. This task does not give up its worker, so each of its children is taken from there by another. */
static int let_others_take_all(void *arg)
{
    struct figures *f = arg;
    int64_t end = weft_after(LIMIT);
    weft_scope s;
    int asleep;
    do { /* all others are: one is to be woken */
        f->n = weft_stats(NULL, f->stats, WORKERS);
        asleep = 0;
        for (int i = 0; i < WORKERS; i++)
            asleep += f->stats[i].asleep;
    } while (asleep < WORKERS - 1 && weft_now() < end);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < f->children; i++)
        weft_spawn(&s, count_run, &f->ran);
    while (atomic_load(&f->ran) < f->children && weft_now() < end)
        continue;
    f->n = weft_stats(NULL, f->after, WORKERS);
    return weft_scope_end(&s, 0);
}

START_TEST(what_is_taken_and_who_is_woken_for_it_is_counted)
{
    static struct figures f;
    int64_t end = weft_after(LIMIT);
    do { /* the I/O thread may be the one that wakes, though nearly never */
        memset(&f, 0, sizeof f);
        f.children = SCALED(1000, 300, 300);
        ck_assert_int_eq(weft_run(let_others_take_all, &f, ALONE), 0);
        ck_assert_int_eq(atomic_load(&f.ran), f.children);
        ck_assert_uint_ge(GREW(&f, stolen), (unsigned)f.children);
    } while (GREW(&f, woke) == 0 && weft_now() < end);
    ck_assert_uint_ge(GREW(&f, woke), 1);
}
END_TEST

static int echo_all(void *arg)
{
    int fd = *(int *)arg;
    char c;
    ssize_t n;
    while ((n = weft_read(fd, &c, 1)) == 1)
        if (weft_write(fd, &c, 1) != 1)
            return -EIO;
    return (int)n;
}

/* B-085. Until a worker, and not the I/O thread, has brought one in. */
static int talk_until_polled(void *arg)
{
    struct figures *f = arg;
    int64_t end = weft_after(LIMIT);
    int fds[2], rc = weft_pair(fds);
    char c = 'x';
    weft_scope s;
    if (rc < 0)
        return rc;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, echo_all, &fds[0]);
    f->n = weft_stats(NULL, f->stats, WORKERS);
    do {
        if (weft_write(fds[1], &c, 1) != 1 || weft_read(fds[1], &c, 1) != 1)
            rc = -EIO;
        f->n = weft_stats(NULL, f->after, WORKERS);
    } while (rc == 0 && (GREW(f, events) == 0 || GREW(f, polls) == 0) && weft_now() < end);
    rc = rc < 0 ? rc : weft_close(fds[1]);
    rc = weft_scope_end(&s, rc);
    return weft_close(fds[0]) < 0 ? -EIO : rc;
}

START_TEST(looks_at_descriptors_and_what_they_bring_in_are_counted)
{
    static struct figures f;
    memset(&f, 0, sizeof f);
    ck_assert_int_eq(weft_run(talk_until_polled, &f, ALONE), 0);
    ck_assert_uint_ge(GREW(&f, events), 1);
    ck_assert_uint_ge(GREW(&f, polls), 1);
}
END_TEST

START_TEST(a_runtime_is_looked_at_from_outside)
{
    weft_runtime *rt = NULL;
    weft_worker_stats w[WORKERS];
    ck_assert_int_eq(weft_stats(NULL, w, WORKERS), -EINVAL); /* there is no runtime of one's own */
    ck_assert_int_eq(weft_runtime_create(&rt, ALONE), 0);
    int n = 0, asleep = 0;
    /* With nothing to do all of them fall asleep. */
    for (int64_t end = weft_after(LIMIT); asleep < WORKERS && weft_now() < end; usleep(100)) {
        n = weft_stats(rt, w, WORKERS);
        asleep = 0;
        for (int i = 0; i < WORKERS; i++)
            asleep += w[i].asleep;
    }
    n = weft_stats(rt, w, WORKERS); /* once more: it is counted before it sleeps, and read before that */
    int negative = weft_stats(rt, w, -1), one = weft_stats(rt, w, 1);
    uint64_t ready = 0, parked = 0, failed = 0;
    for (int i = 0; i < WORKERS; i++) {
        ready += w[i].ready;
        parked += w[i].parked;
        failed += w[i].failed_steals;
    }
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(n, WORKERS);
    ck_assert_int_eq(asleep, WORKERS);
    ck_assert_int_eq(negative, -EINVAL);
    ck_assert_int_eq(one, WORKERS);
    ck_assert_uint_eq(ready, 0);
    ck_assert_uint_ge(parked, WORKERS);
    ck_assert_uint_ge(failed, 1); /* before the first of them slept */
}
END_TEST

static int yield_often(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 2; i++)
        weft_spawn(&s, count_run, arg);
    int rc = weft_scope_end(&s, 0);
    for (int i = 0; i < 100 && rc == 0; i++)
        rc = weft_sleep(weft_us(1));
    return rc;
}

/* B-085 */
START_TEST(where_there_is_one_worker_no_task_migrates)
{
    weft_runtime *rt = NULL;
    weft_worker_stats w;
    atomic_int ran = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .workers = 1, .spares = -1 }), 0);
    int rc = weft_runtime_run(rt, yield_often, &ran);
    int n = weft_stats(rt, &w, 1);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(n, 1);
    ck_assert_uint_ge(w.ran, 2);
    ck_assert_uint_eq(w.stolen, 0);
    ck_assert_uint_eq(w.migrated, 0);
}
END_TEST

/* -- a runtime as a whole -- */

static weft_runtime_stats whole(weft_runtime *rt)
{
    weft_runtime_stats w;
    memset(&w, 0xee, sizeof w);
    if (weft_stats_all(rt, &w) != 0)
        memset(&w, 0xee, sizeof w);
    return w;
}

START_TEST(an_idle_runtime_has_nothing_before_it)
{
    static const weft_runtime_stats nothing = { .workers = WORKERS, .parked = WORKERS };
    weft_runtime *rt = NULL;
    weft_runtime_stats w, untouched;
    memset(&w, 0xee, sizeof w);
    untouched = w;
    ck_assert_int_eq(weft_stats_all(NULL, &w), -EINVAL); /* there is no runtime of one's own */
    ck_assert_int_eq(memcmp(&w, &untouched, sizeof w), 0);
    ck_assert_int_eq(weft_runtime_create(&rt, ALONE), 0);
    ck_assert_int_eq(weft_stats_all(rt, NULL), -EINVAL);
    for (int64_t end = weft_after(LIMIT); weft_now() < end; usleep(100)) {
        w = whole(rt);
        if (w.parked == WORKERS)
            break;
    }
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(memcmp(&w, &nothing, sizeof w), 0);
}
END_TEST

/* -- one beside another -- */

struct beside {
    struct gate gate;
    weft_runtime *idle;
    atomic_int ran;
    weft_worker_stats before[WORKERS], after[WORKERS], own[WORKERS];
    weft_runtime_stats idle_all, own_all;
};

static int sleep_an_hour(void *arg)
{
    (void)arg;
    return weft_sleep(weft_sec(3600));
}

static int pass_gate(void *arg)
{
    return gate_wait(arg) ? 0 : -ETIME;
}

static int block_at_gate(void *arg)
{
    return weft_blocking(pass_gate, arg);
}

static int be_busy(void *arg)
{
    struct beside *b = arg;
    int64_t end = weft_after(LIMIT);
    weft_scope s, all;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 5; i++)
        weft_spawn(&s, sleep_an_hour, NULL);
    weft_spawn(&s, block_at_gate, &b->gate);
    weft_scope_begin(&all, WEFT_NEVER);
    for (int i = 0; i < 1000; i++)
        weft_spawn(&all, count_run, &b->ran);
    int rc = weft_scope_end(&all, 0);
    do {
        weft_ignore(weft_yield());
        b->own_all = whole(NULL);
    } while ((b->own_all.timers < 5 || b->own_all.pool_running < 1) && weft_now() < end);
    b->idle_all = whole(b->idle);
    weft_ignore(weft_stats(b->idle, b->after, WORKERS));
    weft_ignore(weft_stats(NULL, b->own, WORKERS));
    gate_open(&b->gate);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, rc);
}

/* B-010: what one does is not in the figures of the other. */
START_TEST(a_busy_runtime_leaves_the_figures_of_another_alone)
{
    static const weft_runtime_stats nothing = { .workers = WORKERS, .parked = WORKERS };
    static struct beside b = { .gate = GATE_INIT };
    weft_runtime *busy = NULL;
    ck_assert_int_eq(weft_runtime_create(&b.idle, ALONE), 0);
    ck_assert_int_eq(weft_runtime_create(&busy, &(weft_options){ .workers = 2, .spares = -1 }), 0);
    int asleep = 0;
    for (int64_t end = weft_after(LIMIT); asleep < WORKERS && weft_now() < end; usleep(100)) {
        weft_ignore(weft_stats(b.idle, b.before, WORKERS));
        asleep = 0;
        for (int i = 0; i < WORKERS; i++)
            asleep += b.before[i].asleep;
    }
    weft_ignore(weft_stats(b.idle, b.before, WORKERS)); /* once more, as above */
    int rc = weft_runtime_run(busy, be_busy, &b);
    weft_runtime_destroy(&busy);
    weft_runtime_destroy(&b.idle);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(asleep, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        ck_assert_int_eq(memcmp(&b.before[i], &b.after[i], offsetof(weft_worker_stats, asleep)), 0);
    ck_assert_int_eq(memcmp(&b.idle_all, &nothing, sizeof nothing), 0);
    ck_assert_uint_eq(b.own_all.workers, 2);
    ck_assert_uint_eq(b.own_all.timers, 5);
    ck_assert_uint_eq(b.own_all.pool_running, 1);
    ck_assert_uint_eq(b.own[0].spawned + b.own[1].spawned, 1006);
}
END_TEST

enum { SLEEPERS = 7, CALLS = 70, POOL = 64, CROWD = 1000 };

struct watched {
    struct gate gate;
    atomic_int begun;
    bool all;
    weft_runtime_stats some, none;
};

static int sleep_long(void *arg)
{
    atomic_fetch_add(&((struct watched *)arg)->begun, 1);
    return weft_sleep(weft_sec(3600));
}

static int sleep_on(void *arg)
{
    atomic_fetch_add(&((struct watched *)arg)->begun, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static int wait_at_gate(void *arg)
{
    return gate_wait(arg) ? 0 : -ETIME;
}

static int call_out(void *arg)
{
    return weft_blocking(wait_at_gate, &((struct watched *)arg)->gate);
}

/* Waits until a number is what is expected: that it is at last, not when. */
static bool comes_to(const uint64_t *number, uint64_t value, weft_runtime_stats *w)
{
    for (int64_t end = weft_after(LIMIT); weft_now() < end; weft_ignore(weft_yield())) {
        *w = whole(NULL);
        if (*number == value)
            return true;
    }
    return false;
}

static int arm_some(void *arg)
{
    struct watched *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER); /* a deadline would be one more */
    for (int i = 0; i < SLEEPERS; i++)
        weft_spawn(&s, sleep_long, p);
    p->all = comes_to(&p->some.timers, SLEEPERS, &p->some);
    weft_scope_cancel(&s, NULL);
    int rc = weft_scope_end(&s, 0);
    p->none = whole(NULL);
    return rc;
}

START_TEST(timers_are_counted_while_they_are_armed)
{
    struct watched p = { .gate = GATE_INIT };
    ck_assert_int_eq(weft_run(arm_some, &p, ON(_i)), 0);
    ck_assert_msg(p.all, "%llu timers", (unsigned long long)p.some.timers);
    ck_assert_uint_eq(p.none.timers, 0);
    ck_assert_uint_eq(p.none.workers, (unsigned)_i);
}
END_TEST

static int fill_the_pool(void *arg)
{
    struct watched *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < CALLS; i++)
        weft_spawn(&s, call_out, p);
    p->all = comes_to(&p->some.pool_queued, CALLS - POOL, &p->some) &&
            comes_to(&p->some.pool_running, POOL, &p->some);
    gate_open(&p->gate);
    int rc = weft_scope_end(&s, 0);
    comes_to(&p->none.pool_running, 0, &p->none); /* a call's task goes on before its thread has counted it */
    return rc;
}

START_TEST(calls_on_the_pool_are_counted)
{
    static struct watched p = { .gate = GATE_INIT };
    ck_assert_int_eq(weft_run(fill_the_pool, &p, ON(2)), 0);
    ck_assert_msg(p.all, "%llu queued, %llu running", (unsigned long long)p.some.pool_queued,
            (unsigned long long)p.some.pool_running);
    ck_assert_uint_eq(p.some.pool_threads, POOL);
    ck_assert_uint_eq(p.none.pool_threads, POOL);
    ck_assert_uint_eq(p.none.pool_queued, 0);
    ck_assert_uint_eq(p.none.pool_running, 0);
}
END_TEST

static int cancel_crowd(void *arg)
{
    struct watched *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < CROWD; i++)
        weft_spawn(&s, sleep_on, p);
    p->all = wait_for(&p->begun, CROWD);
    weft_scope_cancel(&s, NULL);
    p->some = whole(NULL); /* the only worker is here: it has done the first slice */
    int rc = weft_scope_end(&s, 0);
    p->none = whole(NULL);
    return rc;
}

START_TEST(a_long_cancel_is_an_errand)
{
    struct watched p = { .gate = GATE_INIT };
    ck_assert_int_eq(weft_run(cancel_crowd, &p, ON(1)), 0);
    ck_assert(p.all);
    ck_assert_uint_eq(p.some.errands, 1);
    ck_assert_uint_eq(p.none.errands, 0);
}
END_TEST

struct foreign {
    struct watched w;
    weft_runtime *rt;
    int rc;
};

static void *spawn_from_outside(void *arg)
{
    struct foreign *f = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = f->rt });
    for (int i = 0; i < 5; i++)
        weft_spawn(&s, count_run, &f->w.begun);
    f->rc = weft_scope_end(&s, 0);
    return NULL;
}

/* The only worker does not look at the queue meanwhile. */
static int let_it_fill(void *arg)
{
    struct foreign *f = arg;
    pthread_t t = thread_start(spawn_from_outside, f);
    for (int64_t end = weft_after(LIMIT); f->w.some.shared < 5 && weft_now() < end; usleep(100))
        f->w.some = whole(NULL);
    while (pthread_tryjoin_np(t, NULL) == EBUSY)
        weft_ignore(weft_yield());
    f->w.none = whole(NULL);
    return 0;
}

START_TEST(what_other_threads_spawn_is_in_the_shared_queue)
{
    static struct foreign f;
    ck_assert_int_eq(weft_runtime_create(&f.rt, ON(1)), 0);
    int rc = weft_runtime_run(f.rt, let_it_fill, &f);
    weft_runtime_destroy(&f.rt);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(f.rc, 0);
    ck_assert_uint_eq(f.w.some.shared, 5);
    ck_assert_uint_eq(f.w.some.parked, 0);
    ck_assert_uint_eq(f.w.none.shared, 0);
    ck_assert_int_eq(atomic_load(&f.w.begun), 5);
}
END_TEST

START_TEST(processors_are_counted_anew_and_workers_stay)
{
    weft_runtime *rt = NULL;
    cpu_set_t before, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
    int cpus = weft_cpus();
    size_t first = 0;
    ck_assert_int_ge(cpus, 1);
    ck_assert_int_le(cpus, CPU_COUNT(&before));
    while (!CPU_ISSET(first, &before))
        first++;
    ck_assert_int_eq(weft_runtime_create(&rt, ALONE), 0);
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    int now = weft_cpus();
    uint64_t workers = whole(rt).workers;
    ck_assert_int_eq(sched_setaffinity(0, sizeof before, &before), 0);
    int again = weft_cpus();
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(now, 1);
    ck_assert_uint_eq(workers, WORKERS);
    ck_assert_int_eq(again, cpus);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("report");
    TCase *tc = add_case(s, "figures");
    tcase_add_test(tc, the_figures_of_all_workers_add_up);
    tcase_add_test(tc, what_is_taken_and_who_is_woken_for_it_is_counted);
    tcase_add_test(tc, looks_at_descriptors_and_what_they_bring_in_are_counted);
    tcase_add_test(tc, a_runtime_is_looked_at_from_outside);
    tcase_add_test(tc, where_there_is_one_worker_no_task_migrates);
    tc = add_case(s, "a runtime");
    tcase_add_test(tc, an_idle_runtime_has_nothing_before_it);
    tcase_add_test(tc, a_busy_runtime_leaves_the_figures_of_another_alone);
    tcase_add_loop_test(tc, timers_are_counted_while_they_are_armed, 1, 4);
    tcase_add_test(tc, calls_on_the_pool_are_counted);
    tcase_add_test(tc, a_long_cancel_is_an_errand);
    tcase_add_test(tc, what_other_threads_spawn_is_in_the_shared_queue);
    tcase_add_test(tc, processors_are_counted_anew_and_workers_stay);
    return run_suite(s);
}
