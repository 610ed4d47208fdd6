/* thread_test.c - plain threads beside a running runtime, and weft without any runtime at all. */
#include "support.h"

#include <sys/eventfd.h>

/* -- without a runtime -- */

struct outside {
    weft_task self;
    int check, yield, sleep, sleep_none, sleep_past, spawn_plain, spawn_end, name_rc, list, early,
            stats;
    int64_t deadline, remaining, slept;
    bool reason;
    char name[8];
};

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void *call_outside(void *arg)
{
    struct outside *o = arg;
    weft_scope s;
    weft_worker_stats stats;
    o->self = weft_task_self();
    o->check = weft_check();
    o->yield = weft_yield();
    o->reason = weft_cancel_reason() != NULL;
    o->deadline = weft_deadline();
    o->remaining = weft_remaining();
    int64_t start = weft_now();
    o->sleep = weft_sleep(weft_ms(2));
    o->slept = weft_now() - start;
    o->sleep_none = weft_sleep(0) | weft_sleep(-1) | weft_sleep(INT64_MIN);
    o->sleep_past = weft_sleep_until(1);
    weft_task_set_name("nobody");
    o->name_rc = weft_task_name(weft_task_self(), o->name, sizeof o->name);
    weft_scope_begin(&s, WEFT_NEVER);
    o->spawn_plain = (int)weft_spawn(&s, nothing, NULL); /* no runtime to run it on */
    o->spawn_end = weft_scope_end(&s, 0);
    o->list = weft_task_list(NULL, 0);
    o->stats = weft_stats(NULL, &stats, 1);
    return NULL;
}

static void check_outside(const struct outside *o)
{
    ck_assert_int_eq(o->self, 0);
    ck_assert_int_eq(o->check, 0);
    ck_assert_int_eq(o->yield, 0);
    ck_assert(!o->reason);
    ck_assert_int_eq(o->deadline, WEFT_NEVER);
    ck_assert_int_eq(o->remaining, WEFT_NEVER);
    ck_assert_int_eq(o->sleep, 0);
    ck_assert_int_ge(o->slept, weft_ms(2));
    ck_assert_int_eq(o->sleep_none, 0);
    ck_assert_int_eq(o->sleep_past, 0);
    ck_assert_int_eq(o->name_rc, -EINVAL);
    ck_assert_int_eq(o->spawn_plain, -EINVAL);
    ck_assert_int_eq(o->spawn_end, -EINVAL);
    ck_assert_int_eq(o->list, 0);
    ck_assert_int_eq(o->stats, -EINVAL);
}

START_TEST(calls_without_a_runtime_have_the_documented_answers)
{
    struct outside o = { .check = 1 };
    call_outside(&o); /* before any runtime */
    check_outside(&o);
    ck_assert_int_eq(weft_run(nothing, NULL, ON(2)), 0);
    memset(&o, 1, sizeof o);
    call_outside(&o); /* after one */
    check_outside(&o);
    memset(&o, 1, sizeof o);
    pthread_join(thread_start(call_outside, &o), NULL);
    check_outside(&o);
}
END_TEST

/* -- a plain thread's own scopes -- */

enum plain_wait {
    SLEEP,
    SLEEP_FOR_EVER,
    READ,
    WRITE,
    ACCEPT,
    WAIT_FD,
    READV,
    READ_ALL,
    WRITE_ALL,
    PLAIN_WAITS
};

static const char *const wait_names[] = { "sleep", "sleep until never", "read", "write", "accept",
    "wait_fd", "readv", "read_all", "write_all" };

struct plain {
    enum plain_wait wait;
    int fd[2], rc, end, check, again, again_end;
    int64_t deadline, left;
    bool expired;
    char reason[40];
    weft_scope *scope;
    atomic_int inside, let_go;
};

static int open_plain(struct plain *p)
{
    char where[32];
    p->fd[0] = p->fd[1] = -1;
    if (p->wait == ACCEPT)
        return p->fd[0] = listen_local(where);
    if (p->wait == WAIT_FD)
        return p->fd[0] = eventfd(0, EFD_CLOEXEC);
    int rc = weft_pair(p->fd);
    if (rc == 0 && (p->wait == WRITE || p->wait == WRITE_ALL))
        fill(p->fd[0]);
    return rc;
}

static int wait_plain(struct plain *p)
{
    char c[2];
    struct iovec v = { c, 1 };
    switch (p->wait) {
    case SLEEP:
        return weft_sleep(weft_sec(3600));
    case SLEEP_FOR_EVER:
        return weft_sleep_until(WEFT_NEVER);
    case READ:
        return weft_read(p->fd[0], c, 1);
    case WRITE:
        return weft_write(p->fd[0], "x", 1);
    case ACCEPT:
        return weft_accept(p->fd[0]);
    case WAIT_FD:
        return weft_wait_fd(p->fd[0], WEFT_READABLE);
    case READV:
        return weft_readv(p->fd[0], &v, 1);
    case READ_ALL:
        return weft_read_all(p->fd[0], c, 2);
    case WRITE_ALL:
        return weft_write_all(p->fd[0], "xy", 2);
    case PLAIN_WAITS:
        break;
    }
    return -EINVAL;
}

static void note_reason(struct plain *p)
{
    const char *reason = weft_cancel_reason();
    snprintf(p->reason, sizeof p->reason, "%s", reason ? reason : "(none)");
}

START_TEST(a_deadline_ends_a_wait_on_a_plain_thread)
{
    struct plain p = { .wait = (enum plain_wait)_i };
    ck_assert_int_ge(open_plain(&p), 0);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(10));
    p.deadline = weft_deadline();
    p.rc = wait_plain(&p);
    p.left = weft_now();
    note_reason(&p);
    p.again = wait_plain(&p); /* level-triggered here, too */
    p.end = weft_scope_end(&s, p.rc);
    p.expired = weft_scope_expired(&s);
    p.check = weft_check();
    weft_close_auto(&p.fd[0]);
    weft_close_auto(&p.fd[1]);
    ck_assert_msg(p.rc == -ECANCELED, "%s: %d", wait_names[_i], p.rc);
    ck_assert_int_eq(p.again, -ECANCELED);
    ck_assert_int_eq(p.end, -ETIMEDOUT);
    ck_assert(p.expired);
    ck_assert_int_eq(p.check, 0);
    ck_assert_int_ge(p.left, p.deadline);
    ck_assert_str_eq(p.reason, "deadline");
}
END_TEST

static void *wait_to_be_cancelled(void *arg)
{
    struct plain *p = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    p->scope = &s;
    atomic_store(&p->inside, 1);
    p->rc = wait_plain(p);
    note_reason(p);
    wait_for(&p->let_go, 1); /* the scope stays open until the other is done with it */
    p->end = weft_scope_end(&s, p->rc);
    p->check = weft_check();
    return NULL;
}

START_TEST(another_thread_cancels_a_wait_on_a_plain_thread)
{
    for (int k = 0; k < 20; k++) { /* now before it waits, now while it does */
        struct plain p = { .wait = (enum plain_wait)_i };
        ck_assert_int_ge(open_plain(&p), 0);
        pthread_t t = thread_start(wait_to_be_cancelled, &p);
        bool inside = wait_for(&p.inside, 1);
        if (k % 2)
            usleep(1000);
        if (inside)
            weft_scope_cancel(p.scope, "from outside");
        atomic_store(&p.let_go, 1);
        pthread_join(t, NULL);
        weft_close_auto(&p.fd[0]);
        weft_close_auto(&p.fd[1]);
        ck_assert(inside);
        ck_assert_msg(p.rc == -ECANCELED, "%s: %d", wait_names[_i], p.rc);
        ck_assert_str_eq(p.reason, "from outside");
        ck_assert_int_eq(p.end, 0);
        ck_assert_int_eq(p.check, 0);
    }
}
END_TEST

static void *set_later(void *event)
{
    usleep(200000);
    weft_event_set(event);
    return NULL;
}

static int64_t thread_cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The processor's time that a wait of 0.2 s takes. */
static int64_t wait_for_setter(int *rc)
{
    weft_event e = WEFT_SYNC_INIT;
    int64_t began = thread_cpu_now();
    pthread_t setter = thread_start(set_later, &e);
    *rc = weft_event_wait(&e);
    int64_t used = thread_cpu_now() - began;
    pthread_join(setter, NULL);
    return used;
}

/* Nor does it look at it again and again: a shield hides it until it has ended. Who looks uses the processor each time;
 * but what the host of a virtual machine has taken may be counted as the thread's, so once it has to be little. */
START_TEST(a_deadline_outside_a_shield_takes_no_time)
{
    weft_scope outer, shield;
    int rc, again = 0;
    int64_t used;
    weft_scope_begin(&outer, weft_ms(5));
    weft_scope_begin_shield(&shield, LIMIT);
    (void)wait_for_setter(&rc); /* the deadline strikes */
    for (int tries = 0; (used = wait_for_setter(&again)) >= weft_ms(10) && again == 0 && tries < 5; tries++)
        continue;
    int shield_end = weft_scope_end(&shield, 0);
    weft_ignore(weft_scope_end(&outer, 0));
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(again, 0);
    ck_assert_int_eq(shield_end, 0);
    ck_assert_int_lt(used, weft_ms(10));
}
END_TEST

START_TEST(scopes_of_a_plain_thread_nest)
{
    weft_scope outer, inner, shield;
    weft_scope_begin(&outer, weft_ms(5));
    weft_scope_begin(&inner, weft_sec(60));
    int64_t ambient = weft_deadline(), own = weft_scope_deadline(&outer);
    int rc = weft_sleep(weft_sec(60));
    weft_scope_begin_shield(&shield, weft_sec(60));
    int in_shield = weft_check(), slept = weft_sleep(weft_ms(1));
    int shield_end = weft_scope_end(&shield, 6);
    int inner_end = weft_scope_end(&inner, rc);
    int outer_end = weft_scope_end(&outer, inner_end);
    int after = weft_check();
    ck_assert_int_eq(ambient, own);
    ck_assert_int_eq(rc, -ECANCELED);
    ck_assert_int_eq(in_shield, 0);
    ck_assert_int_eq(slept, 0);
    ck_assert_int_eq(shield_end, 6);
    ck_assert_int_eq(inner_end, -ECANCELED);
    ck_assert_int_eq(outer_end, -ETIMEDOUT);
    ck_assert_int_eq(after, 0);
}
END_TEST

static int drop_plainly(void)
{
    WEFT_SCOPE(s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    return weft_check();
}

START_TEST(a_declared_scope_works_on_a_plain_thread)
{
    ck_assert_int_eq(drop_plainly(), -ECANCELED);
    ck_assert_int_eq(weft_check(), 0);
}
END_TEST

/* -- io on plain threads -- */

struct talk {
    int fd[2], rc[8];
};

static void *answer(void *arg)
{
    struct talk *t = arg;
    char buf[8];
    t->rc[4] = weft_read_all(t->fd[1], buf, 4);
    t->rc[5] = weft_write_all(t->fd[1], buf, 4);
    t->rc[6] = weft_close(t->fd[1]);
    return NULL;
}

START_TEST(plain_threads_talk_through_sockets)
{
    struct talk t = { .fd = { -1, -1 } };
    char where[32], buf[8] = "";
    int l = listen_local(where);
    ck_assert_int_ge(l, 0);
    t.fd[0] = weft_connect(where, NULL);
    t.fd[1] = weft_accept(l);
    ck_assert_int_ge(t.fd[0], 0);
    ck_assert_int_ge(t.fd[1], 0);
    pthread_t other = thread_start(answer, &t);
    t.rc[0] = weft_write_all(t.fd[0], "ping", 4);
    t.rc[1] = weft_read_all(t.fd[0], buf, 4);
    t.rc[2] = weft_read(t.fd[0], buf + 4, 1);
    t.rc[3] = weft_close(t.fd[0]);
    pthread_join(other, NULL);
    ck_assert_int_eq(weft_close(l), 0);
    static const int expected[] = { 0, 4, 0, 0, 4, 0, 0 };
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(t.rc[i] == expected[i], "step %d: %d", i, t.rc[i]);
    ck_assert_str_eq(buf, "ping");
}
END_TEST

/* A task on one end, a plain thread on the other. */
static int echo_once(void *arg)
{
    struct talk *t = arg;
    char buf[8];
    t->rc[4] = weft_read_all(t->fd[1], buf, 4);
    t->rc[5] = weft_write_all(t->fd[1], buf, 4);
    t->rc[6] = weft_close(t->fd[1]);
    return 0;
}

struct run_on {
    weft_runtime *rt;
    weft_fn *fn;
    void *arg;
    int rc;
};

static void *run_on_runtime(void *arg)
{
    struct run_on *r = arg;
    r->rc = weft_runtime_run(r->rt, r->fn, r->arg);
    return NULL;
}

START_TEST(a_plain_thread_talks_to_a_task)
{
    struct talk t = { .fd = { -1, -1 } };
    char buf[8] = "";
    struct run_on r = { .fn = echo_once, .arg = &t };
    ck_assert_int_eq(weft_pair(t.fd), 0);
    ck_assert_int_eq(weft_runtime_create(&r.rt, ON(1)), 0);
    pthread_t other = thread_start(run_on_runtime, &r);
    t.rc[0] = weft_write_all(t.fd[0], "ping", 4);
    t.rc[1] = weft_read_all(t.fd[0], buf, 4);
    pthread_join(other, NULL);
    t.rc[2] = weft_read(t.fd[0], buf + 4, 1);
    weft_runtime_destroy(&r.rt);
    t.rc[3] = weft_close(t.fd[0]);
    static const int expected[] = { 0, 4, 0, 0, 4, 0, 0 };
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(t.rc[i] == expected[i], "step %d: %d", i, t.rc[i]);
}
END_TEST

/* -- children of a plain thread -- */

struct children {
    weft_runtime *rt;
    atomic_int ran, tasks, parked, told, open;
    weft_scope *scope;
};

static int run_child(void *arg)
{
    struct children *c = arg;
    atomic_fetch_add(&c->tasks, weft_task_self() > 0);
    int rc = weft_yield();
    atomic_fetch_add(&c->ran, 1);
    return rc;
}

static int park_child(void *arg)
{
    struct children *c = arg;
    atomic_fetch_add(&c->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    atomic_fetch_add(&c->told, rc == -ECANCELED);
    return rc;
}

static int hold_child(void *arg)
{
    struct children *c = arg;
    atomic_fetch_add(&c->parked, 1);
    return wait_for(&c->open, 1) ? 0 : -ETIME;
}

static int fail_child(void *arg)
{
    (void)arg;
    return weft_fail(-EDOM, "child %d failed", 3);
}

START_TEST(a_plain_thread_has_children_on_a_runtime)
{
    struct children c = { .rt = NULL };
    weft_task ids[100];
    int workers[] = { 1, 2, 3, 8 };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(workers[_i])), 0);
    weft_scope s;
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = c.rt });
    for (int i = 0; i < COUNT(ids); i++)
        ids[i] = weft_spawn(&s, run_child, &c);
    int wait = weft_scope_wait(&s), at_wait = atomic_load(&c.ran), alive = weft_scope_alive(&s);
    for (int i = 0; i < 50; i++)
        weft_spawn(&s, run_child, &c);
    int end = weft_scope_end(&s, 8);
    int joins = 0, bad = 0;
    for (int i = 0; i < COUNT(ids); i++) {
        bad += ids[i] <= 0;
        joins |= weft_task_join(ids[i]);
    }
    weft_runtime_destroy(&c.rt);
    ck_assert_int_eq(bad, 0);
    ck_assert_int_eq(wait, 0);
    ck_assert_int_eq(at_wait, 100);
    ck_assert_int_eq(alive, 0);
    ck_assert_int_eq(end, 8);
    ck_assert_int_eq(joins, 0);
    ck_assert_int_eq(atomic_load(&c.ran), 150);
    ck_assert_int_eq(atomic_load(&c.tasks), 150);
}
END_TEST

START_TEST(a_failing_child_of_a_plain_thread_cancels_the_rest)
{
    struct children c = { .rt = NULL };
    weft_failure kept[2];
    char text[128];
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(2)), 0);
    weft_scope s;
    weft_scope_begin_with(
            &s, LIMIT, &(weft_scope_options){ .on = c.rt, .failures = kept, .failures_max = 2 });
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, park_child, &c);
    bool parked = wait_for(&c.parked, 10);
    weft_spawn(&s, fail_child, &c);
    int slept = weft_sleep_until(WEFT_NEVER); /* the body is told, too */
    int end = weft_scope_end(&s, slept);
    snprintf(text, sizeof text, "%s", weft_error_text(-EDOM));
    weft_runtime_destroy(&c.rt);
    ck_assert(parked);
    ck_assert_int_eq(slept, -ECANCELED);
    ck_assert_int_eq(end, -EDOM);
    ck_assert_str_eq(text, "child 3 failed");
    ck_assert_int_eq(kept[0].code, -EDOM);
    ck_assert_str_eq(kept[0].text, "child 3 failed");
    ck_assert_int_eq(atomic_load(&c.told), 10);
}
END_TEST

START_TEST(a_deadline_of_a_plain_thread_reaches_its_children)
{
    struct children c = { .rt = NULL };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(2)), 0);
    weft_scope s;
    weft_scope_begin_with(&s, weft_ms(20), &(weft_scope_options){ .on = c.rt });
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, park_child, &c);
    int end = weft_scope_end(&s, 3);
    weft_runtime_destroy(&c.rt);
    ck_assert_int_eq(end, -ETIMEDOUT);
    ck_assert_int_eq(atomic_load(&c.told), 10);
}
END_TEST

/* A child of the outer scope that says when it is told. */
struct shielded_child {
    weft_event told;
    int rc;
};

static int say_when_told(void *arg)
{
    struct shielded_child *c = arg;
    c->rc = weft_sleep(WEFT_NEVER);
    weft_event_set(&c->told);
    return c->rc;
}

/* The shield hides it from the thread and from nobody else. Whether the thread has waited in the outer scope before, and so
 * is the one who looks after its deadline, or not. */
START_TEST(a_deadline_outside_of_a_shield_reaches_the_children_there)
{
    struct shielded_child c = { .rc = 0 };
    weft_runtime *rt = NULL;
    weft_scope outer, shield;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    weft_scope_begin_with(&outer, weft_ms(20), &(weft_scope_options){ .on = rt });
    if (_i % 2)
        weft_ignore(weft_sleep(weft_ms(1))); /* the deadline may have come already: then the child is told at once */
    weft_spawn(&outer, say_when_told, &c);
    weft_scope_begin_shield(&shield, LIMIT);
    int waited = _i / 2 ? 0 : weft_event_wait(&c.told);
    if (_i / 2) { /* by waits that are none of these: it looks between them */
        int fds[2];
        ck_assert_int_eq(weft_pair(fds), 0);
        while (!weft_event_is_set(&c.told) && waited == 0) {
            weft_scope slice;
            char byte;
            weft_scope_begin(&slice, weft_ms(5));
            waited = weft_scope_end(&slice, weft_read(fds[0], &byte, 1)) == -ETIMEDOUT && weft_now() < weft_deadline() ? 0 : -1;
        }
        weft_close_auto(&fds[0]);
        weft_close_auto(&fds[1]);
    }
    int in_shield = weft_scope_end(&shield, waited);
    int end = weft_scope_end(&outer, 0);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(in_shield, 0);
    ck_assert_int_eq(c.rc, -ECANCELED);
    ck_assert_int_eq(end, -ETIMEDOUT);
}
END_TEST

/* -- joining from outside -- */

START_TEST(a_plain_thread_waits_for_a_task_with_a_deadline)
{
    struct children c = { .rt = NULL };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(2)), 0);
    weft_scope s, limit;
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = c.rt });
    weft_task t = weft_spawn(&s, hold_child, &c);
    weft_scope_begin(&limit, weft_ms(10));
    int64_t at = weft_deadline();
    int join = weft_task_join(t);
    int64_t left = weft_now();
    int verdict = weft_scope_end(&limit, join);
    bool alive = weft_task_alive(t);
    atomic_store(&c.open, 1);
    weft_scope_begin(&limit, LIMIT);
    int second = weft_scope_end(&limit, weft_task_join(t));
    bool alive_after = weft_task_alive(t);
    int end = weft_scope_end(&s, 0);
    weft_runtime_destroy(&c.rt);
    ck_assert_int_eq(join, -ECANCELED);
    ck_assert_int_eq(verdict, -ETIMEDOUT);
    ck_assert_int_ge(left, at);
    ck_assert(alive && !alive_after);
    ck_assert_int_eq(second, 0);
    ck_assert_int_eq(end, 0);
}
END_TEST

struct joiner {
    weft_task t;
    int rc;
    bool alive;
};

static void *join_from_thread(void *arg)
{
    struct joiner *j = arg;
    j->rc = weft_task_join(j->t);
    j->alive = weft_task_alive(j->t);
    return NULL;
}

START_TEST(several_threads_join_one_task)
{
    struct children c = { .rt = NULL };
    struct joiner j[8];
    pthread_t threads[8];
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(2)), 0);
    weft_scope s;
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = c.rt });
    weft_task t = weft_spawn(&s, hold_child, &c);
    for (int i = 0; i < COUNT(j); i++) {
        j[i] = (struct joiner){ .t = t, .rc = 1 };
        threads[i] = thread_start(join_from_thread, &j[i]);
    }
    bool there = wait_for(&c.parked, 1);
    atomic_store(&c.open, 1);
    for (int i = 0; i < COUNT(j); i++)
        pthread_join(threads[i], NULL);
    int end = weft_scope_end(&s, 0);
    weft_runtime_destroy(&c.rt);
    ck_assert(there);
    ck_assert_int_eq(end, 0);
    for (int i = 0; i < COUNT(j); i++) {
        ck_assert_int_eq(j[i].rc, 0);
        ck_assert(!j[i].alive);
    }
}
END_TEST

/* -- spawning and cancelling from outside -- */

struct spawner {
    struct children *c;
    int n, bad;
    weft_task *ids;
};

static void *spawn_from_thread(void *arg)
{
    struct spawner *p = arg;
    for (int i = 0; i < p->n; i++) {
        int copied = i;
        weft_task t = i % 2 ? weft_spawn(p->c->scope, run_child, p->c)
                            : weft_spawn_with(p->c->scope, run_child, p->c,
                                      &(weft_spawn_options){ .name = "from outside" });
        p->bad += t <= 0;
        if (copied % 10 == 0)
            p->bad += weft_task_join(t) != 0;
    }
    return NULL;
}

static int hold_scope_open(void *arg)
{
    struct children *c = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    c->scope = &s;
    atomic_store(&c->parked, 1);
    int rc = wait_for(&c->open, 1) ? 0 : -ETIME;
    return weft_scope_end(&s, rc);
}

START_TEST(several_threads_spawn_into_the_open_scope_of_a_task)
{
    struct children c = { .rt = NULL };
    struct spawner sp[4];
    pthread_t threads[4];
    int workers[] = { 1, 2, 3, 8 };
    struct run_on r = { .fn = hold_scope_open, .arg = &c };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(workers[_i])), 0);
    r.rt = c.rt;
    pthread_t main_thread = thread_start(run_on_runtime, &r);
    bool there = wait_for(&c.parked, 1);
    for (int i = 0; i < COUNT(sp); i++) {
        sp[i] = (struct spawner){ .c = &c, .n = SCALED(2000, 1000, 300) };
        threads[i] = thread_start(spawn_from_thread, &sp[i]);
    }
    for (int i = 0; i < COUNT(sp); i++)
        pthread_join(threads[i], NULL);
    atomic_store(&c.open, 1);
    pthread_join(main_thread, NULL);
    weft_runtime_destroy(&c.rt);
    ck_assert(there);
    ck_assert_int_eq(r.rc, 0);
    for (int i = 0; i < COUNT(sp); i++)
        ck_assert_int_eq(sp[i].bad, 0);
    ck_assert_int_eq(atomic_load(&c.ran), 4 * sp[0].n);
    ck_assert_int_eq(atomic_load(&c.tasks), 4 * sp[0].n);
}
END_TEST

/* The same while the runtime sleeps: one at a time, each has to wake it. */
static int park_with_scope(void *arg)
{
    struct children *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    c->scope = &s;
    atomic_store(&c->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    return weft_scope_end(&s, rc);
}

START_TEST(a_spawn_from_outside_wakes_a_sleeping_runtime)
{
    struct children c = { .rt = NULL };
    int workers[] = { 1, 2, 3, 8 };
    struct run_on r = { .fn = park_with_scope, .arg = &c };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(workers[_i])), 0);
    r.rt = c.rt;
    pthread_t main_thread = thread_start(run_on_runtime, &r);
    bool there = wait_for(&c.parked, 1);
    int n = SCALED(300, 200, 100), bad = 0;
    for (int i = 0; i < n; i++) {
        weft_task t = weft_spawn(c.scope, run_child, &c);
        if (i % 3 == 0)
            usleep(200); /* it may fall asleep in between, or not */
        bad += weft_task_join(t) != 0;
    }
    weft_scope_cancel(c.scope, "enough");
    pthread_join(main_thread, NULL);
    weft_runtime_destroy(&c.rt);
    ck_assert(there);
    ck_assert_int_eq(bad, 0);
    ck_assert_int_eq(r.rc, 0);
    ck_assert_int_eq(atomic_load(&c.ran), n);
}
END_TEST

START_TEST(a_plain_thread_cancels_a_task)
{
    struct children c = { .rt = NULL };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(1 + _i)), 0);
    weft_scope s;
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = c.rt });
    int bad = 0, n = SCALED(200, 100, 50);
    for (int i = 0; i < n; i++) {
        weft_task t = weft_spawn(&s, park_child, &c);
        if (i % 2)
            bad += !wait_for(&c.parked, i + 1);
        bad += weft_task_cancel(t, "from outside") != 0;
        bad += weft_task_join(t) != 0;
        bad += weft_task_cancel(t, "again") != -ESRCH;
    }
    int end = weft_scope_end(&s, 2);
    weft_runtime_destroy(&c.rt);
    ck_assert_int_eq(bad, 0);
    ck_assert_int_eq(end, 2);
    ck_assert_int_eq(atomic_load(&c.told), n);
}
END_TEST

/* -- mains under a deadline -- */

struct timed_main {
    int slept;
    atomic_int left;
};

static int sleep_for_ever(void *arg)
{
    struct timed_main *m = arg;
    m->slept = weft_sleep_until(WEFT_NEVER);
    atomic_store(&m->left, 1);
    return m->slept;
}

START_TEST(a_main_run_under_a_deadline_is_told_and_awaited)
{
    weft_runtime *rt = NULL;
    struct timed_main m = { .slept = 0 };
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(20));
    int rc = weft_runtime_run(rt, sleep_for_ever, &m);
    int left = atomic_load(&m.left); /* its argument is on our stack */
    int end = weft_scope_end(&s, rc);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(rc, -ECANCELED);
    ck_assert_int_eq(left, 1);
    ck_assert_int_eq(m.slept, -ECANCELED);
    ck_assert_int_eq(end, -ETIMEDOUT);
}
END_TEST

static int give_nine(void *arg)
{
    (void)arg;
    return 9;
}

static void *run_again_and_again(void *arg)
{
    struct run_on *r = arg;
    for (int i = 0; i < SCALED(1000, 500, 200); i++)
        r->rc += weft_runtime_run(r->rt, give_nine, NULL) != 9;
    return NULL;
}

/* The scope is none of the runtime's, and outlives it. */
static int sleep_for(void *arg)
{
    return weft_sleep(*(int64_t *)arg);
}

START_TEST(a_deadline_around_a_whole_runtime_is_kept_and_outlives_it)
{
    for (int late = 0; late < 2; late++) {
        weft_scope s;
        int64_t length = late ? weft_sec(60) : weft_ms(1);
        weft_scope_begin(&s, late ? weft_ms(20) : weft_sec(60));
        int rc = weft_run(sleep_for, &length, ON(2));
        int end = weft_scope_end(&s, rc);
        ck_assert_int_eq(rc, late ? -ECANCELED : 0);
        ck_assert_int_eq(end, late ? -ETIMEDOUT : 0);
    }
}
END_TEST

START_TEST(many_threads_submit_mains_at_once)
{
    weft_runtime *rt = NULL;
    struct run_on r[8];
    pthread_t threads[8];
    int workers[] = { 1, 2, 3, 8 };
    ck_assert_int_eq(weft_runtime_create(&rt, ON(workers[_i])), 0);
    for (int i = 0; i < COUNT(r); i++) {
        r[i] = (struct run_on){ .rt = rt };
        threads[i] = thread_start(run_again_and_again, &r[i]);
    }
    for (int i = 0; i < COUNT(r); i++)
        pthread_join(threads[i], NULL);
    weft_runtime_destroy(&rt);
    for (int i = 0; i < COUNT(r); i++)
        ck_assert_int_eq(r[i].rc, 0);
}
END_TEST

/* -- a scope with a runtime in a task -- */

struct on_in_task {
    weft_runtime *rt;
    int end;
};

static int begin_on(void *arg)
{
    struct on_in_task *o = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = o->rt });
    o->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(a_task_cannot_place_its_children_on_a_runtime)
{
    struct on_in_task o = { .end = 1 };
    ck_assert_int_eq(weft_runtime_create(&o.rt, ON(1)), 0);
    int rc = weft_run(begin_on, &o, ON(1));
    weft_runtime_destroy(&o.rt);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(o.end, -EINVAL);
}
END_TEST

/* -- destroying a runtime under a plain thread's scope -- */

static void *hold_children(void *arg)
{
    struct children *c = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = c->rt });
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, park_child, c);
    atomic_store(&c->open, weft_scope_end(&s, 0) + 100000);
    return NULL;
}

START_TEST(destroying_a_runtime_cancels_the_children_of_plain_threads)
{
    struct children c = { .rt = NULL };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(2)), 0);
    weft_runtime *rt = c.rt;
    pthread_t t = thread_start(hold_children, &c);
    bool parked = wait_for(&c.parked, 10);
    weft_runtime_destroy(&rt);
    int told = atomic_load(&c.told);
    pthread_join(t, NULL);
    ck_assert(parked);
    ck_assert_int_eq(told, 10);
    ck_assert_int_le(atomic_load(&c.open), 100000); /* no count, since its children left */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("thread");
    TCase *tc = add_case(s, "without a runtime");
    tcase_add_test(tc, calls_without_a_runtime_have_the_documented_answers);
    tc = add_case(s, "scopes");
    tcase_add_loop_test(tc, a_deadline_ends_a_wait_on_a_plain_thread, 0, PLAIN_WAITS);
    tcase_add_loop_test(tc, another_thread_cancels_a_wait_on_a_plain_thread, 0, PLAIN_WAITS);
    tcase_add_test(tc, a_deadline_outside_a_shield_takes_no_time);
    tcase_add_test(tc, scopes_of_a_plain_thread_nest);
    tcase_add_test(tc, a_declared_scope_works_on_a_plain_thread);
    tc = add_case(s, "io");
    tcase_add_test(tc, plain_threads_talk_through_sockets);
    tcase_add_test(tc, a_plain_thread_talks_to_a_task);
    tc = add_case(s, "children");
    tcase_add_loop_test(tc, a_plain_thread_has_children_on_a_runtime, 0, 4);
    tcase_add_test(tc, a_failing_child_of_a_plain_thread_cancels_the_rest);
    tcase_add_test(tc, a_deadline_of_a_plain_thread_reaches_its_children);
    tcase_add_test(tc, a_task_cannot_place_its_children_on_a_runtime);
    tc = add_case(s, "joining");
    tcase_add_test(tc, a_plain_thread_waits_for_a_task_with_a_deadline);
    tcase_add_test(tc, several_threads_join_one_task);
    tc = add_case(s, "from outside");
    tcase_add_loop_test(tc, several_threads_spawn_into_the_open_scope_of_a_task, 0, 4);
    tcase_add_loop_test(tc, a_spawn_from_outside_wakes_a_sleeping_runtime, 0, 4);
    tcase_add_loop_test(tc, a_deadline_outside_of_a_shield_reaches_the_children_there, 0, 4);
    tcase_add_loop_test(tc, a_plain_thread_cancels_a_task, 0, 2);
    tcase_add_test(tc, a_main_run_under_a_deadline_is_told_and_awaited);
    tcase_add_test(tc, a_deadline_around_a_whole_runtime_is_kept_and_outlives_it);
    tcase_add_loop_test(tc, many_threads_submit_mains_at_once, 0, 4);
    tcase_add_test(tc, destroying_a_runtime_cancels_the_children_of_plain_threads);
    return run_suite(s);
}
