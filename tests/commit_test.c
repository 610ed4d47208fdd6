/* commit_test.c - the table of causes when the cause comes between publish and sleep.
 *
 * weft__await_hook is called by the waiting task after its wait was published and before it sleeps. There the test
 * makes the cause happen, from a thread of its own or by waiting, and sees in the task's state word that it fired.
 */
#include "support.h"

#include "coord/await.h"
#include "os/ready.h"

enum kind {
    SLEEP,
    JOIN,
    SCOPE_WAIT,
    READ,
    WRITE,
    ACCEPT,
    CONNECT,
    WAIT_FD,
    BLOCKING,
    BLOCKING_QUEUED,
    BLOCKING_COPY,
    KINDS
};

enum cause { COMPLETION, CANCEL, DEADLINE, COMPLETION_THEN_CANCEL, CANCEL_THEN_COMPLETION, CAUSES };

static const char *const kind_name[] = { "sleep", "join", "scope_wait", "read", "write", "accept",
    "connect", "wait_fd", "blocking", "blocking, queued", "blocking_copy" };
static const char *const cause_name[] = { "completion", "cancel", "deadline",
    "completion, then cancel", "cancel, then completion" };

enum { QUEUED_BEHIND = WEFT__POOL_MOST, EARLY_MOST = 5 };

static struct trial {
    enum kind kind;
    enum cause cause;
    weft_scope *scope; /* to be cancelled */
    int64_t deadline;
    _Atomic weft_task waiter; /* 0: the hook does nothing; main's own wait looks at it too */
    int fds[2], listener, peers[64], n_peers, filled;
    char where[32];
    struct gate gate;     /* what fn on the pool waits for */
    struct gate occupied; /* what the pool's other threads wait for */
    atomic_int release;   /* what a joined task and a child wait for */
    atomic_int begun, ended, fn_calls, dropped, busy;
    int hooked, fired_in_hook, early;
    int rc, end, after; /* of the call, of its scope, of the same call afterwards */
    int copy;
} trial;

/* -- the acts, on a thread of their own -- */

static void complete(struct trial *t)
{
    char page[4096];
    switch (t->kind) {
    case SLEEP:
        break; /* time does it */
    case JOIN:
    case SCOPE_WAIT:
        atomic_store(&t->release, 1);
        break;
    case READ:
    case WAIT_FD:
        if (write(t->fds[1], "x", 1) != 1)
            abort();
        break;
    case WRITE:
        while (read_now(t->fds[1], page, sizeof page) > 0)
            continue;
        break;
    case ACCEPT:
    case CONNECT:
        if (t->kind == ACCEPT)
            t->peers[t->n_peers++] = plain_connect(t->where);
        break; /* the kernel completes a connect by itself */
    case BLOCKING:
    case BLOCKING_COPY:
        gate_open(&t->gate);
        break;
    case BLOCKING_QUEUED:
        gate_open(&t->occupied);
        gate_open(&t->gate);
        break;
    case KINDS:
        break;
    }
}

static void *act_complete(void *arg)
{
    complete(arg);
    return NULL;
}

static void *act_cancel(void *arg)
{
    struct trial *t = arg;
    weft_scope_cancel(t->scope, "in the hook");
    return NULL;
}

static void do_on_thread(void *(*fn)(void *), struct trial *t)
{
    pthread_join(thread_start(fn, t), NULL);
}

static bool wait_fired(struct weft__frame *f)
{
    int64_t end = weft_after(LIMIT);
    while (weft__phase_of(at_load(&f->task->state)) != WEFT__FIRED) {
        if (weft_now() > end)
            return false;
        usleep(50);
    }
    return true;
}

/* The worker computes, as it were; nothing here suspends. */
static void hook(struct weft__frame *f)
{
    struct trial *t = &trial;
    if (t->waiter == 0 || f->id != t->waiter)
        return;
    t->waiter = 0;
    t->hooked = 1;
    if (weft__phase_of(at_load(&f->task->state)) != WEFT__PREPARING)
        t->early = 1; /* it was fired before we came to it: by nothing of ours */
    if (t->kind == BLOCKING || t->kind == BLOCKING_COPY) {
        int64_t end = weft_after(LIMIT);
        while (atomic_load(&t->begun) == 0 && weft_now() < end)
            usleep(50);
    }
    switch (t->cause) {
    case COMPLETION:
        do_on_thread(act_complete, t);
        t->fired_in_hook = wait_fired(f);
        break;
    case COMPLETION_THEN_CANCEL:
        do_on_thread(act_complete, t);
        t->fired_in_hook = wait_fired(f);
        do_on_thread(act_cancel, t);
        break;
    case CANCEL:
        do_on_thread(act_cancel, t);
        t->fired_in_hook = wait_fired(f);
        break;
    case CANCEL_THEN_COMPLETION:
        do_on_thread(act_cancel, t);
        t->fired_in_hook = wait_fired(f);
        do_on_thread(act_complete, t);
        break;
    case DEADLINE:
        t->fired_in_hook = wait_fired(f);
        break;
    case CAUSES:
        break;
    }
    if (t->kind == BLOCKING)
        gate_open(&t->gate); /* once begun it is awaited in any case */
}

/* -- the calls -- */

static int wait_for_release(void *arg)
{
    struct trial *t = arg;
    weft_scope s;
    atomic_fetch_add(&t->begun, 1);
    weft_scope_begin_shield(&s, WEFT_NEVER);
    bool there = wait_for(&t->release, 1);
    int rc = weft_scope_end(&s, there ? 0 : -ETIME);
    atomic_fetch_add(&t->ended, 1);
    return rc;
}

static int block_at_gate(void *arg)
{
    struct trial *t = *(struct trial **)arg;
    atomic_fetch_add(&t->begun, 1);
    bool open = gate_wait(&t->gate);
    atomic_fetch_add(&t->fn_calls, 1);
    return open ? 42 : -ETIME;
}

struct copied {
    struct trial *t;
    int answer;
};

static int answer_at_gate(void *arg)
{
    struct copied *c = arg;
    int rc = block_at_gate(&c->t);
    c->answer = 7;
    return rc;
}

static void count_drop(void *arg)
{
    struct copied *c = arg;
    atomic_fetch_add(&c->t->dropped, 1);
}

static int occupy(void *arg)
{
    struct trial *t = arg;
    atomic_fetch_add(&t->busy, 1);
    return gate_wait(&t->occupied) ? 0 : -ETIME;
}

static int occupy_pool(void *arg)
{
    return weft_blocking(occupy, arg);
}

static int call(struct trial *t, weft_task other)
{
    char byte = 0;
    struct trial *p = t;
    struct copied c = { .t = t };
    int rc = -1;
    switch (t->kind) {
    case SLEEP:
        return weft_sleep(t->cause == COMPLETION || t->cause == COMPLETION_THEN_CANCEL ? weft_ms(5) : weft_sec(60));
    case JOIN:
        return weft_task_join(other);
    case SCOPE_WAIT:
        return weft_scope_wait(t->scope);
    case READ:
        return weft_read(t->fds[0], &byte, 1);
    case WRITE:
        return weft_write(t->fds[0], "y", 1);
    case ACCEPT:
        return weft_accept(t->listener);
    case CONNECT:
        return weft_connect(t->where, NULL);
    case WAIT_FD:
        return weft_wait_fd(t->fds[0], WEFT_READABLE);
    case BLOCKING:
    case BLOCKING_QUEUED:
        return weft_blocking(block_at_gate, &p);
    case BLOCKING_COPY:
        rc = weft_blocking_copy(answer_at_gate, &c, sizeof c, count_drop);
        t->copy = c.answer;
        return rc;
    case KINDS:
        break;
    }
    return rc;
}

/* In a shield, whether what was not taken is still there. */
static int look_again(struct trial *t)
{
    weft_scope s;
    char byte = 0;
    int rc = 0;
    weft_scope_begin_shield(&s, LIMIT);
    switch (t->kind) {
    case READ:
    case WAIT_FD:
        rc = weft_read(t->fds[0], &byte, 1);
        break;
    case WRITE:
        rc = weft_write(t->fds[0], "z", 1);
        break;
    case ACCEPT:
        rc = weft_accept(t->listener);
        if (rc >= 0) {
            weft_close(rc);
            rc = 1;
        }
        break;
    default:
        break;
    }
    return weft_scope_end(&s, rc);
}

static bool gives_back(const struct trial *t)
{
    return t->cause == CANCEL_THEN_COMPLETION && t->rc == -ECANCELED &&
            (t->kind == READ || t->kind == WAIT_FD || t->kind == WRITE || t->kind == ACCEPT);
}

/* -- a trial -- */

static int try_it(void *arg)
{
    struct trial *t = arg;
    weft_scope outer, s;
    weft_task other = 0;
    int failed = 0;
    weft_scope_begin(&outer, WEFT_NEVER);
    if (t->kind == BLOCKING_QUEUED) {
        for (int i = 0; i < QUEUED_BEHIND; i++)
            weft_spawn(&outer, occupy_pool, t);
        failed |= !wait_for(&t->busy, QUEUED_BEHIND);
    }
    if (t->kind == JOIN) {
        other = weft_spawn(&outer, wait_for_release, t);
        failed |= !wait_for(&t->begun, 1);
    }
    weft_scope_begin(&s, WEFT_NEVER);
    if (t->kind == SCOPE_WAIT) {
        weft_spawn(&s, wait_for_release, t);
        failed |= !wait_for(&t->begun, 1);
    }
    t->scope = &s;
    if (t->cause == DEADLINE)
        weft_scope_set_deadline(&s, weft_after(weft_ms(10)));
    t->waiter = weft_task_self();
    t->rc = call(t, other);
    t->waiter = 0;
    atomic_store(&t->release, 1);
    if (gives_back(t))
        t->after = look_again(t);
    if (t->kind == ACCEPT || t->kind == CONNECT) {
        if (t->rc >= 0) {
            weft_close(t->rc);
            t->rc = 1;
        }
    }
    t->end = weft_scope_end(&s, t->rc < 0 ? t->rc : 0);
    gate_open(&t->gate);
    gate_open(&t->occupied);
    return weft_scope_end(&outer, failed ? -ETIME : 0);
}

/* A listener whose queue is full: a connect to it goes on and on. */
static void fill_backlog(struct trial *t)
{
    weft_addr a;
    if (weft_addr_parse(&a, t->where) < 0)
        abort();
    for (int64_t end = weft_after(LIMIT); !queue_is_full(t->listener);) {
        if (weft_now() > end)
            abort();
        if (t->n_peers < 60) {
            int fd = t->peers[t->n_peers++] = socket(a.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            weft_ignore(connect(fd, (const struct sockaddr *)&a.sa, a.len));
        }
        usleep(100);
    }
}

static void set_up(struct trial *t, enum kind kind, enum cause cause)
{
    memset(t, 0, sizeof *t);
    t->kind = kind;
    t->cause = cause;
    t->gate = (struct gate)GATE_INIT;
    t->occupied = (struct gate)GATE_INIT;
    t->rc = t->end = t->after = -1;
    t->listener = t->fds[0] = t->fds[1] = -1;
    switch (kind) {
    case READ:
    case WRITE:
    case WAIT_FD:
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t->fds) < 0)
            abort();
        if (kind == WRITE)
            t->filled = fill(t->fds[0]);
        break;
    case ACCEPT:
        t->listener = listen_local(t->where);
        break;
    case CONNECT:
        t->listener = weft_listen("127.0.0.1:0", &(weft_listen_options){ .backlog = 1 });
        snprintf(t->where, sizeof t->where, "127.0.0.1:%d", port_of(t->listener));
        if (cause == CANCEL || cause == DEADLINE)
            fill_backlog(t);
        break;
    default:
        break;
    }
}

static void take_down(struct trial *t)
{
    for (int i = 0; i < 2; i++)
        if (t->fds[i] >= 0)
            weft_close(t->fds[i]);
    for (int i = 0; i < t->n_peers; i++)
        close(t->peers[i]);
    if (t->listener >= 0)
        weft_close(t->listener);
}

/* What the call has to return, by the table. */
static int completed(enum kind k)
{
    switch (k) {
    case SLEEP:
    case JOIN:
    case SCOPE_WAIT:
        return 0;
    case BLOCKING:
    case BLOCKING_QUEUED:
    case BLOCKING_COPY:
        return 42;
    default:
        return 1; /* a byte, an event; descriptors were turned into 1 */
    }
}

static bool possible(enum kind k, enum cause c)
{
    return !(k == CONNECT && c == CANCEL_THEN_COMPLETION); /* who knows when the kernel is done */
}

/* What was cancelled first and done before the call looked again may say that it is done. */
static bool either(enum kind k, enum cause c)
{
    return c == CANCEL_THEN_COMPLETION &&
            (k == JOIN || k == SCOPE_WAIT || k == BLOCKING_QUEUED || k == BLOCKING_COPY);
}

static int expected(enum kind k, enum cause c)
{
    bool done = c == COMPLETION || c == COMPLETION_THEN_CANCEL;
    if (k == BLOCKING)
        done = true; /* once begun it is awaited */
    return done ? completed(k) : -ECANCELED;
}

static int expected_end(const struct trial *t)
{
    return t->rc < 0 && t->cause == DEADLINE ? -ETIMEDOUT : 0;
}

static void run_trial(enum kind kind, enum cause cause)
{
    struct trial *t = &trial;
    int threads = threads_before(), descriptors = descriptors_now();
    int64_t end = weft_after(LIMIT);
    weft__await_hook = hook;
    for (int tries = 1;; tries++) {
        set_up(t, kind, cause);
        int rc = weft_run(try_it, t, ON(2));
        take_down(t);
        ck_assert_msg(rc == 0, "%s, %s: main gave %d", kind_name[kind], cause_name[cause], rc);
        /* Not hooked, or fired before: the machine was so slow that the deadline came first, or the kernel connected at
         * once. The latter may always be so. */
        if (t->hooked ? !t->early || tries >= EARLY_MOST : weft_now() > end)
            break;
    }
    weft__await_hook = NULL;
    ck_assert_msg(t->hooked && t->fired_in_hook, "%s, %s: hooked %d, fired in the hook %d",
            kind_name[kind], cause_name[cause], t->hooked, t->fired_in_hook);
    ck_assert_msg(t->rc == expected(kind, cause) ||
                    (either(kind, cause) && t->rc == completed(kind)), "%s, %s: gave %d, not %d", kind_name[kind],
            cause_name[cause], t->rc, expected(kind, cause));
    ck_assert_msg(t->end == expected_end(t), "%s, %s: the scope gave %d, not %d", kind_name[kind],
            cause_name[cause], t->end, expected_end(t));
    if (gives_back(t))
        ck_assert_msg(t->after == 1, "%s, %s: afterwards %d, not 1", kind_name[kind],
                cause_name[cause], t->after);
    if (kind == BLOCKING)
        ck_assert_int_eq(atomic_load(&t->fn_calls), 1);
    if (kind == BLOCKING_QUEUED)
        ck_assert_int_eq(atomic_load(&t->fn_calls), t->rc == 42);
    if (kind == BLOCKING_COPY) {
        ck_assert_int_eq(atomic_load(&t->fn_calls), 1);
        ck_assert_int_eq(atomic_load(&t->dropped), t->rc == -ECANCELED);
        ck_assert_int_eq(t->copy, t->rc == -ECANCELED ? 0 : 7);
    }
    ck_assert_int_eq(threads_back_to(threads), threads);
    ck_assert_int_eq(descriptors_now(), descriptors);
}

START_TEST(the_call_returns_what_the_table_says)
{
    enum kind kind = (enum kind)(_i / CAUSES);
    enum cause cause = (enum cause)(_i % CAUSES);
    if (possible(kind, cause))
        run_trial(kind, cause);
}
END_TEST

/* -- a cancel that found nobody to tell -- */

static struct missed {
    _Atomic weft_task waiter;
    weft_scope *scope;
    bool tells;    /* the waiter's scope, and not another one somewhere */
    bool shielded; /* from that */
    int hooked, slept;
} missed;

/* What a cancel leaves behind whose walk came before the wait (coord/cancel.c, C1 and C2). */
static void leave_mark(struct weft__frame *f)
{
    if (f->id == 0 || f->id != atomic_load(&missed.waiter))
        return;
    missed.hooked++;
    if (missed.tells) {
        struct weft__scope *s = weft__scope_of(missed.scope);
        at_store(&s->mark, at_load(&s->mark) | WEFT__MARK_CANCEL | WEFT__MARK_WALKED);
    }
    at_add(&weft__cancel_epoch, 1);
}

static int sleep_on(void *arg)
{
    struct missed *m = arg;
    weft_scope s;
    if (m->shielded)
        weft_scope_begin_shield(&s, WEFT_NEVER);
    atomic_store(&m->waiter, weft_task_self());
    m->slept = weft_sleep(m->tells && !m->shielded ? LIMIT : weft_ms(1));
    atomic_store(&m->waiter, 0);
    if (m->shielded)
        weft_ignore(weft_scope_end(&s, 0));
    return 0;
}

static int miss(void *arg)
{
    struct missed *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    m->scope = &s;
    weft_spawn(&s, sleep_on, m);
    return weft_scope_end(&s, 0);
}

START_TEST(what_a_walk_has_missed_the_wait_finds_itself)
{
    missed = (struct missed){ .tells = _i > 0, .shielded = _i > 1 };
    weft__await_hook = leave_mark;
    int rc = weft_run(miss, &missed, ON(2));
    weft__await_hook = NULL;
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(missed.slept, _i == 1 ? -ECANCELED : 0);
    ck_assert_int_eq(missed.hooked, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("commit");
    TCase *tc = add_case(s, "between publish and sleep");
    tcase_add_loop_test(tc, the_call_returns_what_the_table_says, 0, KINDS * CAUSES);
    tc = add_case(s, "a cancel that found nobody to tell");
    tcase_add_loop_test(tc, what_a_walk_has_missed_the_wait_finds_itself, 0, 3);
    return run_suite(s);
}
