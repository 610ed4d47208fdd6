/* cause_test.c - the table of causes: what ends a wait, what the call then returns, and that a wait
 * which was cancelled took nothing.
 *
 * A row is a kind of wait with its set-up, its call and what completes it. A column is a cause and
 * when it came: before the call, between the publication of the wait and the sleep (by a hook), or
 * while it was parked. Each cell runs on one worker, where "parked" is certain: the test sees the
 * waiter's mark only once the waiter has given up the worker. Then every kind is raced on several
 * workers, where only the law is checked: it completed, or it was cancelled and all is still there.
 */
#include "support.h"

#include "coord/await.h"

#include <netinet/in.h>
#include <sys/eventfd.h>

enum cause {
    CANCEL_SCOPE,
    CANCEL_TASK,
    CANCEL_OUTER,
    SIBLING_FAILS,
    DEADLINE,
    COMPLETION,
    BOTH,
    CAUSES
};
enum when { BEFORE, DURING, AFTER, WHENS };

static const char *const cause_names[] = { "scope cancelled", "task cancelled",
    "outer scope cancelled", "a sibling failed", "deadline", "completed",
    "completed and cancelled" };

struct kind;

#define LIMIT_MS ((int)(LIMIT / 1000000))

/* One wait. */
struct cell {
    const struct kind *kind;
    enum cause cause;
    enum when when;
    bool race;
    uint64_t seed;

    int fd[2];   /* what is waited on, and its other end */
    int filled;  /* bytes that were in it before; for connect: whether the queue is full */
    int drained; /* and how many of all bytes the test took out again */
    char where[32];
    int got; /* a descriptor the call returned */
    struct gate gate;
    atomic_int fn_runs, fn_done, dropped;
    int value; /* what a copying call works on */
    weft_scope victims;
    weft_task victim;
    atomic_int victim_began;
    int64_t span; /* to sleep */

    weft_scope *scope; /* around the call: the one that is cancelled */
    weft_scope *outer; /* around the waiter */
    _Atomic weft_task waiter;
    atomic_int at_wait, go, applied, returned, racers_done, armed, hooked;
    int64_t within; /* until a deadline that is to come after the call has begun */
    int64_t deadline;
    bool late; /* its function had not begun by then */

    /* what came of it */
    int set_up, rc, end, again, intact, tidy;
    char reason[40];
};

struct kind {
    const char *name;
    int (*set_up)(struct cell *c);
    int (*call)(struct cell *c);
    int (*complete)(struct cell *c); /* NULL: it completes by itself, in time */
    int done;                        /* what the call returns when it completed */
    int (*intact)(struct cell *c);   /* after a cancel: 0 if nothing was taken */
    int (*tidy)(struct cell *c);
    bool on_pool;          /* parked means that its function has begun on the offload pool */
    bool begun_is_awaited; /* a cancel while parked changes nothing */
    bool no_race;
};

/* By now it has completed as well as been cancelled. */
static bool both_came(const struct cell *c)
{
    return c->race || c->cause == BOTH;
}

static void close_both(struct cell *c)
{
    for (int i = 0; i < 2; i++)
        weft_close_auto(&c->fd[i]);
    weft_close_auto(&c->got);
    c->fd[0] = c->fd[1] = c->got = -1;
}

static int tidy_fds(struct cell *c)
{
    close_both(c);
    return 0;
}

/* -- sleep -- */

static int sleep_set_up(struct cell *c)
{
    c->span = c->cause == COMPLETION || c->cause == BOTH ? weft_ms(2) : weft_sec(3600);
    if (c->race)
        c->span = weft_us(next_random(&c->seed) % 60);
    return 0;
}

static int sleep_call(struct cell *c)
{
    return weft_sleep(c->span);
}

static int sleep_until_call(struct cell *c)
{
    return weft_sleep_until(weft_after(c->span));
}

static int sleep_intact(struct cell *c)
{
    c->span = weft_us(50);
    return 0;
}

/* -- join and scope_wait -- */

/* Ends when told through a pipe, and does not listen to cancels. */
static int victim(void *arg)
{
    struct cell *c = arg;
    char byte;
    weft_scope s;
    weft_scope_begin_shield(&s, LIMIT);
    atomic_store(&c->victim_began, 1);
    return weft_scope_end(&s, weft_read(c->fd[0], &byte, 1) == 1 ? 0 : -EPROTO);
}

static int release_victim(struct cell *c)
{
    return sys_write(c->fd[1], "x", 1) == 1 ? 0 : -EPROTO;
}

static int victim_set_up(struct cell *c)
{
    if (pipe2(c->fd, O_CLOEXEC) < 0)
        return -EMFILE;
    weft_scope_begin(&c->victims, WEFT_NEVER);
    c->victim = weft_spawn(&c->victims, victim, c);
    /* It has to have begun as a task of its own, not be run by its joiner. */
    return wait_for(&c->victim_began, 1) ? 0 : -ETIME;
}

static int join_call(struct cell *c)
{
    return weft_task_join(c->victim);
}

static int victim_intact(struct cell *c)
{
    return both_came(c) || weft_task_alive(c->victim) ? 0 : -ESRCH;
}

static int victim_tidy(struct cell *c)
{
    int rc = weft_scope_end(&c->victims, 0);
    close_both(c);
    return rc == -ECANCELED ? 0 : rc;
}

static int scope_wait_call(struct cell *c)
{
    return weft_scope_wait(&c->victims);
}

/* -- reading and writing -- */

static int pair_set_up(struct cell *c)
{
    return weft_pair(c->fd);
}

static int pipe_set_up(struct cell *c)
{
    return pipe2(c->fd, O_CLOEXEC) < 0 ? -EMFILE : 0;
}

static int read_call(struct cell *c)
{
    char byte = 0;
    int rc = weft_read(c->fd[0], &byte, 1);
    return rc == 1 && byte != 'x' ? -EPROTO : rc;
}

static int readv_call(struct cell *c)
{
    char a = 0, b = 0;
    struct iovec v[2] = { { &a, 1 }, { &b, 1 } };
    int rc = weft_readv(c->fd[0], v, 2);
    return rc == 1 && a != 'x' ? -EPROTO : rc;
}

static int feed(struct cell *c)
{
    return sys_write(c->fd[1], "x", 1) == 1 ? 0 : -EPROTO;
}

/* What was fed is still there, or nothing was. */
static int read_intact(struct cell *c)
{
    struct pollfd p = { .fd = c->fd[0], .events = POLLIN };
    int there = poll(&p, 1, 0);
    if (there != both_came(c))
        return -EPROTO;
    return there ? 0 : c->kind->complete(c);
}

/* After it completed nothing is left to be taken again. */
static int read_tidy(struct cell *c)
{
    int left = c->race ? read_now(c->fd[0], &(char){ 0 }, 1) : -EAGAIN;
    close_both(c);
    return left == -EAGAIN ? 0 : -EPROTO;
}

static int full_pair_set_up(struct cell *c)
{
    int rc = weft_pair(c->fd);
    if (rc == 0)
        c->filled = fill(c->fd[0]);
    return rc;
}

/* A full pipe whose writing end blocks: [1] writes, [0] reads. */
static int full_pipe_set_up(struct cell *c)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -EMFILE;
    c->fd[0] = fds[1];
    c->fd[1] = fds[0];
    c->filled = fill(c->fd[0]);
    return 0;
}

static int write_call(struct cell *c)
{
    return weft_write(c->fd[0], "y", 1);
}

static int writev_call(struct cell *c)
{
    struct iovec v[2] = { { "", 0 }, { "y", 1 } };
    return weft_writev(c->fd[0], v, 2);
}

static int make_room(struct cell *c)
{
    int n = drain(c->fd[1]);
    c->drained += n;
    return n > 0 ? 0 : -EPROTO;
}

/* No byte was added; then there is room again. */
static int write_intact(struct cell *c)
{
    c->drained += drain(c->fd[1]);
    return c->drained == c->filled ? 0 : -EPROTO;
}

/* Exactly one byte was added, by whichever call did complete. */
static int write_tidy(struct cell *c)
{
    c->drained += drain(c->fd[1]);
    int rc = c->drained == c->filled + 1 ? 0 : -EPROTO;
    close_both(c);
    return rc;
}

/* -- sockets -- */

static int accept_set_up(struct cell *c)
{
    c->fd[0] = listen_local(c->where);
    return c->fd[0] < 0 ? c->fd[0] : 0;
}

static int accept_call(struct cell *c)
{
    int fd = weft_accept(c->fd[0]);
    if (fd < 0)
        return fd;
    c->got = fd;
    return 1;
}

static int come_along(struct cell *c)
{
    int fd = plain_connect(c->where);
    if (c->fd[1] >= 0)
        close(c->fd[1]);
    c->fd[1] = fd;
    return fd < 0 ? fd : 0;
}

static int accept_intact(struct cell *c)
{
    struct pollfd p = { .fd = c->fd[0], .events = POLLIN };
    int there = poll(&p, 1, both_came(c) ? LIMIT_MS : 0); /* a listener hears of it a little later */
    if (there != both_came(c))
        return -EPROTO;
    return there ? 0 : come_along(c);
}

/* A listener made without weft whose queue, of one, is full unless the connection shall succeed. */
NOINLINE static int plain_listener(char where[32])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 0) < 0 ||
            getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return -errno;
    snprintf(where, 32, "127.0.0.1:%d", ntohs(a.sin_port));
    return fd;
}

static int connect_set_up(struct cell *c)
{
    c->fd[0] = plain_listener(c->where);
    if (c->fd[0] < 0)
        return c->fd[0];
    if (c->when == BEFORE)
        return 0;
    c->fd[1] = plain_connect(c->where); /* takes the one place there is */
    c->filled = 1;
    struct pollfd p = { .fd = c->fd[0], .events = POLLIN };
    return c->fd[1] < 0 ? c->fd[1] : poll(&p, 1, LIMIT_MS) == 1 ? 0 : -ETIME;
}

static int connect_call(struct cell *c)
{
    int fd = weft_connect(c->where, NULL);
    if (fd < 0)
        return fd;
    c->got = fd;
    return 1;
}

NOINLINE static int accept_now(int listener)
{
    struct pollfd p = { .fd = listener, .events = POLLIN };
    if (poll(&p, 1, 0) != 1)
        return -EAGAIN;
    int fd = accept(listener, NULL, NULL);
    return fd < 0 ? -errno : fd;
}

static int take_place(struct cell *c)
{
    if (!c->filled)
        return 0;
    int fd = accept_now(c->fd[0]);
    if (fd < 0)
        return fd;
    close(fd);
    c->filled = 0;
    return 0;
}

/* The attempt was given up: only the test's own connection is in the queue. If there was room in the end, the kernel may
 * have made the connection before the cancel came: then it was closed. */
static int connect_intact(struct cell *c)
{
    int rc = take_place(c);
    if (rc < 0)
        return rc;
    int fd = accept_now(c->fd[0]);
    if (fd >= 0) {
        close(fd);
        return c->cause == BOTH && c->when != BEFORE ? 0 : -EPROTO;
    }
    return 0;
}

/* -- descriptors of others -- */

static int eventfd_set_up(struct cell *c)
{
    c->fd[0] = eventfd(0, EFD_CLOEXEC);
    return c->fd[0] < 0 ? -EMFILE : 0;
}

static int wait_readable_call(struct cell *c)
{
    return weft_wait_fd(c->fd[0], WEFT_READABLE);
}

static int ring(struct cell *c)
{
    uint64_t one = 1;
    return sys_write(c->fd[0], &one, sizeof one) == sizeof one ? 0 : -EPROTO;
}

static int wait_writable_call(struct cell *c)
{
    return weft_wait_fd(c->fd[0], WEFT_WRITABLE);
}

/* -- the offload pool -- */

static int blocking_set_up(struct cell *c)
{
    c->value = 5;
    return 0;
}

static int run_behind_gate(void *arg)
{
    struct cell *c = arg;
    atomic_fetch_add(&c->fn_runs, 1);
    bool open = gate_wait(&c->gate);
    atomic_store(&c->fn_done, 1);
    return open ? 42 : -ETIME;
}

static int blocking_call(struct cell *c)
{
    return weft_blocking(run_behind_gate, c);
}

struct job {
    struct cell *c;
    int value;
};

static int run_copy_behind_gate(void *arg)
{
    struct job *j = arg;
    atomic_fetch_add(&j->c->fn_runs, 1);
    bool open = gate_wait(&j->c->gate);
    j->value *= 2;
    atomic_store(&j->c->fn_done, 1);
    return open && (uintptr_t)arg % 16 == 0 ? 42 : -ETIME;
}

static void drop_copy(void *arg)
{
    struct job *j = arg;
    atomic_fetch_add(&j->c->dropped, 1);
}

static int blocking_copy_call(struct cell *c)
{
    struct job j = { c, c->value };
    int rc = weft_blocking_copy(run_copy_behind_gate, &j, sizeof j, drop_copy);
    if (rc == 42 && j.value != 2 * c->value)
        return -EPROTO; /* not copied back */
    if (rc == -ECANCELED && j.value != c->value)
        return -EPROTO; /* written to after the caller had gone */
    return rc;
}

static int open_gate(struct cell *c)
{
    gate_open(&c->gate);
    return 0;
}

/* It was not begun; the function ran only if the second call runs it. */
static int blocking_intact(struct cell *c)
{
    int rc = atomic_load(&c->fn_runs) == 0 ? 0 : -EPROTO;
    gate_open(&c->gate);
    return rc;
}

/* Whatever was told -ECANCELED has its copy dropped once: when it has ended, or instead of being begun. */
static int copy_intact(struct cell *c)
{
    gate_open(&c->gate);
    if (c->race)
        return 0; /* looked at when the run has ended */
    return wait_for(&c->dropped, 1) && atomic_load(&c->dropped) == 1 ? 0 : -EPROTO;
}

static int copy_tidy(struct cell *c)
{
    return atomic_load(&c->dropped) <= 1 ? 0 : -EPROTO;
}

/* -- the rows -- */

/* clang-format off */
static const struct kind kinds[] = {
    { "sleep", sleep_set_up, sleep_call, NULL, 0, sleep_intact, NULL, .no_race = false },
    { "sleep_until", sleep_set_up, sleep_until_call, NULL, 0, sleep_intact, NULL, .no_race = false },
    { "task_join", victim_set_up, join_call, release_victim, 0, victim_intact, victim_tidy, .no_race = false },
    { "scope_wait", victim_set_up, scope_wait_call, release_victim, 0, victim_intact, victim_tidy, .no_race = false },
    { "read, pair", pair_set_up, read_call, feed, 1, read_intact, read_tidy, .no_race = false },
    { "read, pipe", pipe_set_up, read_call, feed, 1, read_intact, read_tidy, .no_race = false },
    { "readv", pair_set_up, readv_call, feed, 1, read_intact, read_tidy, .no_race = false },
    { "write, pair", full_pair_set_up, write_call, make_room, 1, write_intact, write_tidy, .no_race = false },
    { "write, pipe", full_pipe_set_up, write_call, make_room, 1, write_intact, write_tidy, .no_race = false },
    { "writev", full_pair_set_up, writev_call, make_room, 1, write_intact, write_tidy, .no_race = false },
    { "accept", accept_set_up, accept_call, come_along, 1, accept_intact, tidy_fds, .no_race = false },
    { "connect", connect_set_up, connect_call, take_place, 1, connect_intact, tidy_fds, .no_race = true },
    { "wait_fd, readable", eventfd_set_up, wait_readable_call, ring, WEFT_READABLE, read_intact, tidy_fds,
            .no_race = false },
    { "wait_fd, writable", full_pair_set_up, wait_writable_call, make_room, WEFT_WRITABLE, write_intact,
            tidy_fds, .no_race = false },
    { "blocking", blocking_set_up, blocking_call, open_gate, 42, blocking_intact, NULL, .on_pool = true,
            .begun_is_awaited = true },
    { "blocking_copy", blocking_set_up, blocking_copy_call, open_gate, 42, copy_intact, copy_tidy,
            .on_pool = true },
};
/* clang-format on */

/* -- one cell -- */

static void note(struct cell *c)
{
    const char *reason = weft_cancel_reason();
    snprintf(c->reason, sizeof c->reason, "%s", reason ? reason : "(none)");
}

/* The call once more, out of reach of the cancel: it is as if the first had never been made. */
static int once_more(struct cell *c)
{
    if (c->kind->call == scope_wait_call) { /* it has to be the innermost scope */
        int rc = release_victim(c);
        return rc < 0 ? rc : 0;
    }
    if (c->kind->call == join_call) {
        int rc = weft_task_alive(c->victim) ? release_victim(c) : 0;
        if (rc < 0)
            return rc;
    }
    return c->kind->call(c);
}

static int wait_in_scope(struct cell *c)
{
    weft_scope s;
    weft_scope_begin(&s, c->cause == DEADLINE && c->when == BEFORE ? 0 : WEFT_NEVER);
    c->scope = &s;
    c->deadline = weft_deadline();
    c->set_up = c->kind->set_up(c);
    if (c->set_up < 0) {
        atomic_store(&c->at_wait, 1);
        return weft_scope_end(&s, c->set_up);
    }
    if (c->when == BEFORE) {
        atomic_store(&c->at_wait, 1);
        wait_for(&c->go, 1);
    } else if (c->cause == DEADLINE) {
        c->deadline = weft_after(c->race ? weft_us(next_random(&c->seed) % 60) : c->within);
        weft_scope_set_deadline(&s, c->deadline);
    }
    atomic_store(&c->at_wait, 1);
    atomic_store(&c->armed, c->when == DURING);
    c->rc = c->kind->call(c);
    atomic_store(&c->armed, 0);
    note(c);
    atomic_store(&c->returned, 1);
    if (c->race)
        wait_for(&c->racers_done, 2);
    else if (c->when ==
             AFTER) /* what the other did is seen, though the news came through the kernel */
        wait_for(&c->applied, 1);
    if (c->rc == -ECANCELED) {
        weft_scope shield;
        c->intact = c->kind->intact(c);
        weft_scope_begin_shield(&shield, LIMIT);
        c->again = once_more(c);
        c->again = weft_scope_end(&shield, c->again);
    }
    if (c->kind->tidy)
        c->tidy = c->kind->tidy(c);
    return c->end = weft_scope_end(&s, c->rc);
}

static int waiter(void *arg)
{
    struct cell *c = arg;
    c->waiter = weft_task_self();
    weft_ignore(wait_in_scope(c));
    return 0;
}

static int fail_at_once(void *arg)
{
    (void)arg;
    return -ENOTDIR;
}

static void apply(struct cell *c, weft_scope *outer)
{
    switch (c->cause) {
    case CANCEL_SCOPE:
        weft_scope_cancel(c->scope, "the scope");
        break;
    case BOTH:
        c->intact = c->kind->complete ? c->kind->complete(c) : 0;
        weft_scope_cancel(c->scope, "the scope");
        break;
    case CANCEL_TASK:
        weft_ignore(weft_task_cancel(c->waiter, "the task"));
        break;
    case CANCEL_OUTER:
        weft_scope_cancel(outer, "the outer");
        break;
    case SIBLING_FAILS: {
        weft_task t = weft_spawn(c->scope, fail_at_once, NULL);
        for (int64_t end = weft_after(LIMIT); weft_task_alive(t) && weft_now() < end;)
            weft_ignore(weft_yield());
        break;
    }
    case DEADLINE:
        wait_past(c->deadline);
        break;
    case COMPLETION:
        if (c->kind->complete)
            c->intact = c->kind->complete(c);
        break;
    case CAUSES:
        break;
    }
}

/* The cell whose waiter is to be met between publication and sleep. */
static struct cell *hooked_cell;

/* Runs in the waiter: nothing in here may wait. */
static void meet_waiter(struct weft__frame *f)
{
    struct cell *c = hooked_cell;
    (void)f;
    if (weft_task_self() != c->waiter || !atomic_exchange(&c->armed, 0))
        return;
    atomic_store(&c->hooked, 1);
    if (c->cause == COMPLETION || c->cause == BOTH) {
        if (c->kind->complete)
            c->intact = c->kind->complete(c);
        else
            for (int64_t end = weft_after(c->span); weft_now() <= end;)
                continue;
    }
    if (c->cause == CANCEL_SCOPE || c->cause == BOTH)
        weft_scope_cancel(c->scope, "the scope");
    if (c->cause == CANCEL_TASK)
        weft_ignore(weft_task_cancel(c->waiter, "the task"));
    if (c->cause == CANCEL_OUTER)
        weft_scope_cancel(c->outer, "the outer");
    if (c->cause == DEADLINE)
        while (weft_now() <= c->deadline)
            continue;
}

/* Waits until its function has begun, or it returned: its deadline came first. */
static bool begins_or_is_late(struct cell *c)
{
    for (int64_t end = weft_after(LIMIT); atomic_load(&c->gate.waiting) == 0; weft_ignore(weft_yield())) {
        if (weft_now() > end)
            return false;
        if (c->cause == DEADLINE && atomic_load(&c->returned)) {
            c->late = true;
            return true;
        }
    }
    return true;
}

static int run_cell(void *arg)
{
    struct cell *c = arg;
    weft_scope outer, guard;
    weft_scope_begin(&guard, WEFT_NEVER);
    weft_scope_begin(&outer, WEFT_NEVER);
    c->outer = &outer;
    weft_spawn(&outer, waiter, c);
    bool there = wait_for(&c->at_wait, 1);
    if (there && c->set_up == 0 && c->kind->on_pool && c->when == AFTER)
        there = begins_or_is_late(c);
    if (there && c->set_up == 0 && c->when == DURING) {
        if (c->kind->begun_is_awaited)
            gate_open(&c->gate); /* it has parked or is through: what has begun goes on */
    } else if (there && c->set_up == 0) {
        apply(c, &outer);
        /* What has begun on the pool is awaited: the cancel is in force, and then it is let go. */
        if (c->kind->begun_is_awaited && c->when == AFTER && c->cause != COMPLETION) {
            for (int i = 0; i < 100; i++)
                weft_ignore(weft_yield());
            if (atomic_load(&c->returned) && c->cause != BOTH)
                c->intact = -EPROTO;
            gate_open(&c->gate);
        }
    }
    atomic_store(&c->go, 1);
    atomic_store(&c->applied, 1);
    int rc = weft_scope_end(&outer, 0);
    return weft_scope_end(&guard, there ? rc : -ETIME);
}

static void init_cell(struct cell *c, const struct kind *kind, enum cause cause, enum when when)
{
    memset(c, 0, sizeof *c);
    c->kind = kind;
    c->cause = cause;
    c->when = when;
    c->fd[0] = c->fd[1] = c->got = -1;
    c->rc = c->end = c->again = INT32_MIN;
    pthread_mutex_init(&c->gate.lock, NULL);
    pthread_cond_init(&c->gate.moved, NULL);
}

/* What weft_scope_end makes of it. */
static int verdict_of(enum cause cause, int rc)
{
    static const int left[] = { [CANCEL_SCOPE] = 0,
        [BOTH] = 0,
        [CANCEL_TASK] = -ECANCELED,
        [CANCEL_OUTER] = -ECANCELED,
        [SIBLING_FAILS] = -ENOTDIR,
        [DEADLINE] = -ETIMEDOUT };
    if (cause == SIBLING_FAILS)
        return -ENOTDIR;
    return rc == -ECANCELED ? left[cause] : rc;
}

static const char *const reasons[] = { [CANCEL_SCOPE] = "the scope",
    [BOTH] = "the scope",
    [CANCEL_TASK] = "the task",
    [CANCEL_OUTER] = "the outer",
    [SIBLING_FAILS] = "a sibling failed",
    [DEADLINE] = "deadline" };

/* One try; what the run returned. */
static int try_cell(struct cell *c, const struct kind *kind, enum cause cause, enum when when, int64_t within)
{
    init_cell(c, kind, cause, when);
    c->within = within;
    hooked_cell = c;
    weft__await_hook = when == DURING ? meet_waiter : NULL;
    int rc = weft_run(run_cell, c, QUIETLY_ON(1));
    weft__await_hook = NULL;
    return rc;
}

/* The machine was so slow that the deadline came before what it was to meet. */
static bool came_late(const struct cell *c)
{
    return c->cause == DEADLINE && c->set_up == 0 &&
            (c->late || (c->when == DURING && atomic_load(&c->hooked) == 0));
}

enum { CELLS = COUNT(kinds) * CAUSES * WHENS };

static const char *const when_names[] = { "before the call", "between publication and sleep",
    "while parked" };

START_TEST(a_wait_ends_as_the_table_of_causes_says)
{
    const struct kind *kind = &kinds[_i / (CAUSES * WHENS)];
    enum cause cause = (enum cause)(_i / WHENS % CAUSES);
    enum when when = (enum when)(_i % WHENS);
    if ((kind->call == join_call || kind->call == scope_wait_call) && cause == BOTH &&
            when == BEFORE)
        return; /* what has ended already is no wait; either answer is right */
    if (cause == SIBLING_FAILS && when == DURING)
        return; /* no sibling can run there; it is as the cancel of the scope */
    struct cell *c = malloc(sizeof *c);
    char cell[128];
    snprintf(cell, sizeof cell, "%s x %s %s", kind->name, cause_names[cause], when_names[when]);
    int64_t within = weft_ms(kind->on_pool ? BUILT(50, 100, 500) : 5);
    int rc = try_cell(c, kind, cause, when, within);
    while (came_late(c) && (within *= 4) < LIMIT)
        rc = try_cell(c, kind, cause, when, within);
    ck_assert_msg(c->set_up == 0, "%s: set-up %s", cell, weft_strerror(c->set_up));
    ck_assert_msg(
            rc == 0 || rc == -ECANCELED, "%s: the run ended with %s", cell, weft_strerror(rc));

    if (when == DURING)
        ck_assert_msg(atomic_load(&c->hooked) == 1, "%s: the hook was not called", cell);
    bool parked_on_pool = kind->begun_is_awaited && when == AFTER;
    if (cause == COMPLETION || parked_on_pool) {
        ck_assert_msg(c->rc == kind->done, "%s: returned %s", cell, weft_strerror(c->rc));
        ck_assert_msg(c->intact == 0, "%s: completing %d", cell, c->intact);
    } else if ((cause == BOTH && when != BEFORE) || (kind->begun_is_awaited && when == DURING)) {
        ck_assert_msg(c->rc == kind->done || c->rc == -ECANCELED, "%s: returned %d", cell, c->rc);
    } else {
        ck_assert_msg(c->rc == -ECANCELED, "%s: returned %s", cell, weft_strerror(c->rc));
    }
    if (c->rc == -ECANCELED) {
        ck_assert_msg(c->intact == 0, "%s: something was taken, %d", cell, c->intact);
        ck_assert_msg(c->again == (kind->call == scope_wait_call ? 0 : kind->done),
                "%s: called again: %s (%d)", cell, weft_strerror(c->again), c->again);
        ck_assert_msg(
                strcmp(c->reason, reasons[cause]) == 0, "%s: the reason is %s", cell, c->reason);
    }
    ck_assert_msg(c->tidy == 0, "%s: tidying up: %d", cell, c->tidy);
    ck_assert_msg(c->end == verdict_of(cause, c->rc), "%s: the scope ended with %s, after %s", cell,
            weft_strerror(c->end), weft_strerror(c->rc));
    if (kind->call == blocking_copy_call)
        ck_assert_msg(atomic_load(&c->dropped) == (c->rc == -ECANCELED),
                "%s: dropped %d times", cell, atomic_load(&c->dropped));
    free(c);
}
END_TEST

/* -- races -- */

struct race {
    const struct kind *kind;
    enum cause cause;
    struct cell *cells; /* kept till the end of the run: abandoned calls may still use them */
    int rounds, done, cancelled, lost, odd;
    char what[128];
    uint64_t seed;
};

struct racer {
    struct cell *c;
    weft_scope *outer;
    uint32_t spins;
    bool completes;
};

static int race_on(void *arg)
{
    struct racer *r = arg;
    wait_for(&r->c->at_wait, 1);
    for (volatile uint32_t i = 0; i < r->spins; i++)
        continue;
    int rc = 0;
    if (r->completes && r->c->kind->complete)
        rc = r->c->kind->complete(r->c);
    if (!r->completes && r->c->cause == CANCEL_TASK)
        weft_ignore(weft_task_cancel(r->c->waiter, NULL));
    if (!r->completes && r->c->cause == CANCEL_OUTER)
        weft_scope_cancel(r->outer, NULL);
    atomic_fetch_add(&r->c->racers_done, 1);
    return rc;
}

static int race_rounds(void *arg)
{
    struct race *r = arg;
    int rc = 0;
    for (int i = 0; i < r->rounds && rc == 0; i++) {
        struct cell *c = &r->cells[i];
        init_cell(c, r->kind, r->cause, AFTER);
        c->race = true;
        c->seed = next_random(&r->seed);
        weft_scope outer, others;
        struct racer a = { c, &outer, next_random(&r->seed) % 20000, true };
        struct racer b = { c, &outer, next_random(&r->seed) % 20000, false };
        weft_scope_begin(&others, WEFT_NEVER);
        weft_scope_begin(&outer, WEFT_NEVER);
        weft_spawn(&outer, waiter, c);
        weft_spawn(&others, race_on, &a);
        weft_spawn(&others, race_on, &b);
        rc = weft_scope_end(&outer, 0);
        int rc2 = weft_scope_end(&others, 0);
        if (rc2 < 0 || c->set_up < 0) {
            r->odd++;
            snprintf(r->what, sizeof r->what, "round %d: racers %d, set-up %d", i, rc2, c->set_up);
        }
        if (c->rc == r->kind->done) {
            r->done++;
        } else if (c->rc == -ECANCELED) {
            r->cancelled++;
            if (c->intact != 0 || c->again != r->kind->done) {
                r->lost++;
                snprintf(r->what, sizeof r->what, "round %d: intact %d, again %d", i, c->intact,
                        c->again);
            }
        } else {
            r->odd++;
            snprintf(r->what, sizeof r->what, "round %d: returned %d", i, c->rc);
        }
        if (c->tidy != 0 || c->end != verdict_of(c->cause, c->rc)) {
            r->odd++;
            snprintf(r->what, sizeof r->what, "round %d: returned %d, tidy %d, scope ended with %d",
                    i, c->rc, c->tidy, c->end);
        }
        rc = rc == -ECANCELED ? 0 : rc;
    }
    return rc;
}

static const enum cause raced[] = { CANCEL_TASK, CANCEL_OUTER, DEADLINE };

START_TEST(a_raced_wait_completes_or_takes_nothing)
{
    const struct kind *kind = &kinds[_i / COUNT(raced)];
    if (kind->no_race)
        return;
    for (int workers = 1; workers <= 3; workers++) {
        struct race r = { .kind = kind,
            .cause = raced[_i % COUNT(raced)],
            .rounds = fewer(12, SCALED(300, 150, 60)),
            .seed = (uint64_t)_i * 977 + (uint64_t)workers };
        r.cells = malloc((size_t)r.rounds * sizeof *r.cells);
        int rc = weft_run(race_rounds, &r, QUIETLY_ON(workers)), drops = 0;
        for (int k = 0; k < r.rounds && rc == 0 && kind->call == blocking_copy_call; k++) {
            const struct cell *c = &r.cells[k];
            drops += atomic_load(&c->dropped) != (c->rc == -ECANCELED);
        }
        free(r.cells);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(drops, 0);
        ck_assert_msg(r.lost == 0 && r.odd == 0, "%s, %s, %d workers: %d lost, %d odd of %d (%s)",
                kind->name, cause_names[r.cause], workers, r.lost, r.odd, r.rounds, r.what);
        ck_assert_int_eq(r.done + r.cancelled, r.rounds);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cause");
    TCase *tc = add_case(s, "table");
    tcase_add_loop_test(tc, a_wait_ends_as_the_table_of_causes_says, 0, CELLS);
    tc = add_case(s, "races");
    tcase_add_loop_test(
            tc, a_raced_wait_completes_or_takes_nothing, 0, COUNT(kinds) * COUNT(raced));
    return run_suite(s);
}
