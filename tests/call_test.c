/* call_test.c - callbacks: coord/call.c, and those at a task's end (coord/task.c).
 */
#include "support.h"

#include "coord/scope.h"

static const int worker_counts[] = { 1, 2, 4 };

/* -- soon, and at a time -- */

enum { CALLS = 200 };
struct log {
    atomic_int n, running, overlaps;
    int order[CALLS];
};
struct entry {
    struct log *log;
    int number;
    bool waits;
};

static void note(void *arg)
{
    struct entry *e = arg;
    if (atomic_fetch_add(&e->log->running, 1) != 0)
        atomic_fetch_add(&e->log->overlaps, 1);
    if (e->waits)
        weft_ignore(weft_yield());
    e->log->order[atomic_fetch_add(&e->log->n, 1)] = e->number;
    atomic_fetch_sub(&e->log->running, 1);
}

struct calls {
    struct log log;
    struct entry entries[CALLS];
    weft_runtime *rt;
    int limit, end, refused;
    bool cancel_some, cancel_scope, timed;
};

static int put_calls(void *arg)
{
    struct calls *c = arg;
    weft_scope s;
    int64_t at = weft_after(weft_ms(1));
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = c->rt, .limit = c->limit });
    if (c->cancel_scope)
        weft_scope_cancel(&s, "none");
    for (int i = 0; i < CALLS; i++) {
        struct entry *e = &c->entries[i];
        *e = (struct entry){ .log = &c->log, .number = i, .waits = i % 7 == 0 };
        weft_task t = c->timed ? weft_call_at(&s, at, note, e) : weft_call_soon(&s, note, e);
        c->refused += t < 0;
        if (c->cancel_some && i % 3 == 0)
            weft_task_cancel(t, NULL);
    }
    c->end = weft_scope_end(&s, 0);
    return 0;
}

static void check_order(const struct calls *c)
{
    ck_assert_int_eq(atomic_load(&c->log.overlaps), 0);
    for (int i = 1; i < atomic_load(&c->log.n); i++)
        ck_assert_int_lt(c->log.order[i - 1], c->log.order[i]);
}

START_TEST(callbacks_of_one_caller_run_in_its_order_and_one_at_a_time)
{
    for (int timed = 0; timed < 2; timed++) {
        struct calls c = { .timed = timed };
        ck_assert_int_eq(weft_run(put_calls, &c, ON(worker_counts[_i])), 0);
        ck_assert_int_eq(c.end, 0);
        ck_assert_int_eq(atomic_load(&c.log.n), CALLS);
        check_order(&c);
    }
}
END_TEST

START_TEST(the_limit_of_a_scope_holds_for_callbacks)
{
    struct calls c = { .limit = 2 };
    ck_assert_int_eq(weft_run(put_calls, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.refused, 0);
    ck_assert_int_eq(atomic_load(&c.log.n), CALLS);
    check_order(&c);
}
END_TEST

START_TEST(a_plain_threads_callbacks_are_in_order_too)
{
    struct calls c = { .limit = 0 };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(worker_counts[_i])), 0);
    put_calls(&c);
    weft_runtime_destroy(&c.rt);
    ck_assert_int_eq(c.end, 0);
    ck_assert_int_eq(atomic_load(&c.log.n), CALLS);
    check_order(&c);
}
END_TEST

START_TEST(a_cancelled_callback_is_never_called_and_the_others_keep_their_order)
{
    struct calls c = { .cancel_some = true, .timed = true };
    ck_assert_int_eq(weft_run(put_calls, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.end, 0);
    check_order(&c);
    for (int i = 0; i < atomic_load(&c.log.n); i++)
        ck_assert(c.log.order[i] % 3 != 0 || worker_counts[_i] > 1);
    ck_assert_int_ge(atomic_load(&c.log.n), CALLS - (CALLS + 2) / 3);
}
END_TEST

START_TEST(in_a_cancelled_scope_no_callback_is_called)
{
    for (int timed = 0; timed < 2; timed++) {
        struct calls c = { .cancel_scope = true, .timed = timed };
        ck_assert_int_eq(weft_run(put_calls, &c, ON(worker_counts[_i])), 0);
        ck_assert_int_eq(c.end, 0);
        ck_assert_int_eq(atomic_load(&c.log.n), 0);
    }
}
END_TEST

static int put_from_below(void *arg)
{
    void **a = arg;
    struct calls *c = a[0];
    weft_scope *s = a[1];
    for (int i = 0; i < CALLS / 4; i++)
        weft_call_soon(s, note, &c->entries[i]);
    return 0;
}

static int many_callers(void *arg)
{
    struct calls *c = arg;
    weft_scope s, helpers;
    for (int i = 0; i < CALLS; i++)
        c->entries[i] = (struct entry){ .log = &c->log, .number = i };
    weft_scope_begin(&s, WEFT_NEVER);
    void *a[2] = { c, &s };
    weft_scope_begin(&helpers, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&helpers, put_from_below, a);
    c->end = weft_scope_end(&helpers, 0);
    return weft_scope_end(&s, c->end);
}

START_TEST(several_callers_lose_nothing)
{
    struct calls c = { .end = 1 };
    ck_assert_int_eq(weft_run(many_callers, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&c.log.n), CALLS);
}
END_TEST

/* So many callers, each with a callback that is still to come: a search for one's entry (coord/call.c, Q3) looks at few. */
enum { PUTS = 3, STEPS = 16 };
struct putter {
    struct crowd *crowd;
    weft_task pending; /* the last: each one replaces the one before */
    atomic_int running;
    int n;
    struct turn {
        struct putter *of;
        int number;
    } turns[PUTS];
};
struct crowd {
    weft_scope s;
    struct putter *putters;
    int putters_n;
    atomic_int armed, done, wrong;
    int steps[2], end;
    bool all[2];
};

static void never_called(void *arg)
{
    atomic_fetch_add(&((struct putter *)arg)->crowd->wrong, 1);
}

static void in_turn(void *arg)
{
    struct turn *t = arg;
    struct putter *p = t->of;
    bool alone = atomic_fetch_add(&p->running, 1) == 0;
    if (!alone || p->n++ != t->number)
        atomic_fetch_add(&p->crowd->wrong, 1);
    weft_ignore(weft_yield());
    atomic_fetch_sub(&p->running, 1);
    atomic_fetch_add(&p->crowd->done, 1);
}

/* A callback, too. */
static void put_in_turn(void *arg)
{
    struct putter *p = arg;
    struct crowd *c = p->crowd;
    p->n = 0;
    for (int i = 0; i < PUTS; i++) {
        weft_task_cancel(p->pending, NULL);
        p->pending = weft_call_at(&c->s, WEFT_NEVER, never_called, p);
        p->turns[i] = (struct turn){ p, i };
        weft_call_soon(&c->s, in_turn, &p->turns[i]);
        weft_ignore(i % 2 ? weft_yield() : 0);
    }
    atomic_fetch_add(&c->armed, 1);
}

static int put_in_a_crowd(void *arg)
{
    struct crowd *c = arg;
    weft_scope_begin(&c->s, WEFT_NEVER);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < c->putters_n; i++)
            weft_call_at(&c->s, weft_now() + i, put_in_turn, &c->putters[i]);
        int armed = (round + 1) * c->putters_n;
        c->all[round] = wait_for(&c->armed, armed) && wait_for(&c->done, armed * PUTS);
        c->steps[round] = weft__callers_steps(weft__scope_extra(weft__scope_of(&c->s)));
    }
    for (int i = 0; i < c->putters_n; i++)
        weft_task_cancel(c->putters[i].pending, NULL);
    c->end = weft_scope_end(&c->s, 0);
    return 0;
}

START_TEST(the_calls_of_one_among_many_look_at_few_others)
{
    struct crowd c = { .end = 1, .putters_n = SCALED(10000, 3000, 500) };
    c.putters = calloc((size_t)c.putters_n, sizeof *c.putters);
    ck_assert_ptr_nonnull(c.putters);
    for (int i = 0; i < c.putters_n; i++)
        c.putters[i].crowd = &c;
    ck_assert_int_eq(weft_run(put_in_a_crowd, &c, ON(worker_counts[_i])), 0);
    ck_assert(c.all[0] && c.all[1]);
    ck_assert_int_eq(c.end, 0);
    ck_assert_int_eq(atomic_load(&c.wrong), 0);
    for (int round = 0; round < 2; round++)
        ck_assert_int_le(c.steps[round], STEPS);
    free(c.putters);
}
END_TEST

struct times {
    int64_t began, at[4];
    atomic_int n;
};

static void note_time(void *arg)
{
    struct times *t = arg;
    int64_t at = (weft_now() - t->began) / 1000000;
    t->at[atomic_fetch_add(&t->n, 1) & 3] = at;
}

static int call_at_times(void *arg)
{
    struct times *t = arg;
    weft_scope s;
    t->began = weft_now();
    weft_scope_begin(&s, WEFT_NEVER);
    weft_call_at(&s, weft_after(weft_ms(300)), note_time, t);
    weft_call_at(&s, weft_after(weft_ms(100)), note_time, t);
    weft_call_at(&s, weft_now() - 1, note_time, t);
    weft_call_at(&s, weft_after(weft_ms(200)), note_time, t);
    weft_task never = weft_call_at(&s, WEFT_NEVER, note_time, t);
    weft_task_cancel(never, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(callbacks_come_at_their_time_and_never_early)
{
    struct times t = { .n = 0 };
    weft_options o = { .workers = 1, .clock = WEFT_CLOCK_VIRTUAL };
    ck_assert_int_eq(weft_run(call_at_times, &t, &o), 0);
    ck_assert_int_eq(atomic_load(&t.n), 4);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(t.at[i], 100 * i);
}
END_TEST

/* -- while all sleep -- */

enum { TRIES = 20 };

struct asleep {
    weft_runtime *rt;
    weft_chan *signals;
    atomic_int woken, listening;
    int64_t at; /* when it was */
};

static void wake(void *arg)
{
    struct asleep *a = arg;
    a->at = weft_now();
    atomic_fetch_add(&a->woken, 1);
}

static int listen_for_signals(void *arg)
{
    static const int signals[] = { SIGUSR1, 0 };
    struct asleep *a = arg;
    int signo, rc = weft_signal_open(&a->signals, signals);
    if (rc < 0)
        return rc;
    atomic_store(&a->listening, 1);
    while (weft_chan_recv(a->signals, &signo, sizeof signo) == 1)
        wake(a);
    weft_chan_destroy(&a->signals);
    return 0;
}

static bool all_are_parked(weft_runtime *rt)
{
    weft_runtime_stats now;
    for (int64_t end = weft_after(LIMIT); weft_now() < end; usleep(100))
        if (weft_stats_all(rt, &now) == 0 && now.parked == now.workers && now.shared == 0)
            return true;
    return false;
}

/* By a callback, or by a signal that this thread gets: its handler is all that then calls weft. How many came, and the
 * least time that one took. */
static int wake_them(struct asleep *a, weft_scope *s, bool by_signal, int64_t *least)
{
    int n = 0;
    bool timed = !TSAN && !ASAN && !chaos();
    for (int64_t end = weft_after(LIMIT); n < TRIES || (timed && *least >= weft_ms(1) && weft_now() < end);) {
        if (!all_are_parked(a->rt))
            return -1;
        int64_t from = weft_now();
        if (by_signal)
            raise(SIGUSR1);
        else if (weft_call_soon(s, wake, a) < 0)
            return -2;
        if (!wait_for(&a->woken, ++n))
            return -3;
        *least = a->at - from < *least ? a->at - from : *least;
    }
    return n;
}

/* */
START_TEST(a_callback_or_a_signal_wakes_a_runtime_that_sleeps)
{
    bool by_signal = _i % 2;
    struct asleep a = { .rt = NULL };
    weft_scope s;
    int64_t least = INT64_MAX;
    ck_assert_int_eq(weft_runtime_create(&a.rt, &(weft_options){ .workers = worker_counts[_i / 2], .spares = -1 }), 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = a.rt });
    weft_task listener = by_signal ? weft_spawn(&s, listen_for_signals, &a) : 0;
    bool there = !by_signal || wait_for(&a.listening, 1);
    int n = there ? wake_them(&a, &s, by_signal, &least) : -4;
    if (listener > 0)
        weft_ignore(weft_task_cancel(listener, NULL));
    int rc = weft_scope_end(&s, 0);
    weft_runtime_destroy(&a.rt);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_ge(n, TRIES);
    if (!TSAN && !ASAN && !chaos()) /* in one of the tries at least */
        ck_assert_int_lt(least, weft_ms(1));
}
END_TEST


static int call_badly(void *arg)
{
    int *seen = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    seen[0] = (int)weft_call_soon(&s, NULL, NULL);
    seen[1] = weft_scope_end(&s, 0);
    seen[2] = (int)weft_call_soon(&s, note, NULL);
    seen[3] = (int)weft_call_at(NULL, 0, note, NULL);
    seen[4] = weft_task_on_done(weft_task_self(), NULL, NULL);
    seen[5] = weft_task_on_done(0, note, NULL);
    seen[6] = weft_task_on_done(-ENOMEM, note, NULL);
    seen[7] = weft_task_on_done(INT64_MAX, note, NULL);
    return 0;
}

START_TEST(bad_arguments_are_refused)
{
    int seen[8] = { 0 };
    ck_assert_int_eq(weft_run(call_badly, seen, ON(1)), 0);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(seen[i], -EINVAL);
}
END_TEST

/* -- at the end of a task -- */

enum { DONES = 40 };
struct done {
    weft_task task;
    int value, seen, order[DONES], n, rc[DONES], after, slept;
    weft_task self;
    bool alive, spawned_ran, inlined;
    atomic_int go, ended;
    weft_scope *scope;
};
struct done_entry {
    struct done *done;
    int number;
};

static int work(void *arg)
{
    struct done *d = arg;
    if (!d->inlined && !wait_for(&d->go, 1))
        return -ETIME;
    d->value = 42;
    return 0;
}

static int ran(void *arg)
{
    ((struct done *)arg)->spawned_ran = true;
    return 0;
}

static void at_end(void *arg)
{
    struct done_entry *e = arg;
    struct done *d = e->done;
    d->alive |= weft_task_alive(d->task);
    d->seen = d->value;
    d->self = weft_task_self();
    d->order[d->n++] = e->number;
    if (e->number == 0) {
        d->slept = weft_sleep(1);
        weft_spawn(d->scope, ran, d);
    }
    atomic_fetch_add(&d->ended, 1);
}

static int register_ends(void *arg)
{
    struct done *d = arg;
    struct done_entry entries[DONES];
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    d->scope = &s;
    d->task = weft_spawn(&s, work, d);
    for (int i = 0; i < DONES; i++) {
        entries[i] = (struct done_entry){ d, i };
        d->rc[i] = weft_task_on_done(d->task, at_end, &entries[i]);
    }
    atomic_store(&d->go, 1);
    if (!d->inlined)
        weft_ignore(weft_task_join(d->task));
    int rc = weft_scope_end(&s, 0);
    d->after = weft_task_on_done(d->task, at_end, &entries[0]);
    return rc;
}

START_TEST(callbacks_of_an_end_run_once_each_in_the_order_of_their_registration)
{
    for (int inlined = 0; inlined < 2; inlined++) {
        struct done d = { .seen = 0, .self = 7, .inlined = inlined };
        ck_assert_int_eq(weft_run(register_ends, &d, ON(worker_counts[_i])), 0);
        int registered = 0;
        for (int i = 0; i < DONES; i++)
            registered += d.rc[i] == 0;
        if (!inlined)
            ck_assert_int_eq(registered, DONES);
        ck_assert_int_eq(d.n, registered);
        ck_assert_int_eq(d.after, -ESRCH);
        for (int i = 0; i < d.n; i++)
            ck_assert_int_eq(d.order[i], i);
        if (d.n == 0)
            continue; /* a thief was faster */
        ck_assert_int_eq(d.seen, 42);
        ck_assert(!d.alive && d.self == 0);
        ck_assert_int_eq(d.slept, -ENOMEM);
        ck_assert(d.spawned_ran);
    }
}
END_TEST

/* Registered while the task ends: called exactly if that was said. */
struct race {
    atomic_int called, registered;
};

static void count_call(void *arg)
{
    atomic_fetch_add(&((struct race *)arg)->called, 1);
}

static int do_nothing(void *arg)
{
    (void)arg;
    return weft_yield();
}

static int race_ends(void *arg)
{
    struct race *r = arg;
    for (int i = 0; i < 1000; i++) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_task t = weft_spawn(&s, do_nothing, NULL);
        weft_ignore(i % 2 ? weft_yield() : 0);
        for (int k = 0; k < 3; k++)
            if (weft_task_on_done(t, count_call, r) == 0)
                atomic_fetch_add(&r->registered, 1);
        weft_ignore(weft_scope_end(&s, 0));
        if (atomic_load(&r->called) != atomic_load(&r->registered))
            return -EBADMSG; /* before its scope has ended */
    }
    return 0;
}

START_TEST(a_callback_is_called_exactly_if_it_was_registered_in_time)
{
    struct race r = { .called = 0 };
    ck_assert_int_eq(weft_run(race_ends, &r, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&r.called), atomic_load(&r.registered));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("call");
    TCase *tc = add_case(s, "soon");
    int n = COUNT(worker_counts);
    tcase_add_loop_test(tc, callbacks_of_one_caller_run_in_its_order_and_one_at_a_time, 0, n);
    tcase_add_loop_test(tc, the_limit_of_a_scope_holds_for_callbacks, 0, n);
    tcase_add_loop_test(tc, a_plain_threads_callbacks_are_in_order_too, 0, n);
    tcase_add_loop_test(tc, a_cancelled_callback_is_never_called_and_the_others_keep_their_order, 0, n);
    tcase_add_loop_test(tc, in_a_cancelled_scope_no_callback_is_called, 0, n);
    tcase_add_loop_test(tc, several_callers_lose_nothing, 0, n);
    tcase_add_loop_test(tc, the_calls_of_one_among_many_look_at_few_others, 0, n);
    tcase_add_test(tc, callbacks_come_at_their_time_and_never_early);
    tcase_add_test(tc, bad_arguments_are_refused);
    tc = add_case(s, "asleep");
    tcase_set_tags(tc, "timed"); /* for who runs one thread at a time (.ci/run) */
    tcase_add_loop_test(tc, a_callback_or_a_signal_wakes_a_runtime_that_sleeps, 0, 2 * n);
    tc = add_case(s, "end");
    tcase_add_loop_test(tc, callbacks_of_an_end_run_once_each_in_the_order_of_their_registration, 0, n);
    tcase_add_loop_test(tc, a_callback_is_called_exactly_if_it_was_registered_in_time, 0, n);
    return run_suite(s);
}
