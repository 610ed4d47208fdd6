/* work_tails.c - workloads of bench/tails.py: what a short request, a timer or a turn waits for beside greedy tasks.
 *
 * Four are servers, tails_hogs, tails_blocked, tails_timers and tails_storm: 127.0.0.1:port, until they are killed. A
 * request is 64 bytes; the answer is the same, but that its first 8 bytes say how much has been done beside. tails_load
 * measures from when a request was due. Two measure in the process, for `ms` milliseconds: tails_pair the gaps between the
 * turns of a task that yields, tails_ready how late timers are, each from the point on the grid that it was set for.
 *
 * What they do not measure: the rate (the load is open, and light), and tasks that are greedy with memory. */
#include "peer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum { REQUEST = 64, BURST = 1000 };

/* What runs beside: one server or loop in a process. `over` ends what does not see a cancel, as it never waits. */
static struct {
    weft_scope scope;
    int64_t span; /* of a hog, of a blocked call, between two firings of a timer */
    atomic_long done, armed;
    atomic_bool over;
} beside;

static bool goes_on(void)
{
    return !atomic_load_explicit(&beside.over, memory_order_relaxed);
}

static void count_done(void)
{
    atomic_fetch_add_explicit(&beside.done, 1, memory_order_relaxed);
}

static void compute(int64_t span)
{
    for (int64_t end = load_now() + span; load_now() < end;)
        continue;
}

/* One after the other, without a pause: each ends, and has started the next. */
static int hog(void *arg)
{
    compute(beside.span);
    count_done();
    weft_task next = goes_on() ? weft_spawn(&beside.scope, hog, arg) : 0;
    return next < 0 ? (int)next : 0;
}

static int hog_that_yields(void *arg)
{
    (void)arg;
    int rc = 0;
    while (rc == 0 && goes_on()) {
        compute(beside.span);
        count_done();
        rc = weft_yield();
    }
    return rc;
}

static int block(void *arg)
{
    (void)arg;
    int rc = 0;
    while (rc == 0 && goes_on()) {
        struct timespec t = { beside.span / SECOND, beside.span % SECOND };
        nanosleep(&t, NULL);
        count_done();
        rc = weft_yield();
    }
    return rc;
}

static int count_one(void *arg)
{
    (void)arg;
    count_done();
    return 0;
}

static int storm(void *arg)
{
    (void)arg;
    int rc = 0;
    while (rc == 0 && goes_on()) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < BURST; i++)
            weft_spawn(&s, count_one, NULL);
        rc = weft_scope_end(&s, 0);
    }
    return rc;
}

static int fire_again(void *arg)
{
    int64_t at = *(const int64_t *)arg;
    int rc;
    atomic_fetch_add_explicit(&beside.armed, 1, memory_order_relaxed);
    while ((rc = weft_sleep_until(at)) == 0) {
        count_done();
        at = weft_after(beside.span);
    }
    return rc;
}

/* ---- servers */

/* A connection that breaks is its client's affair: as a failure it would cancel its siblings. */
static int serve(void *arg)
{
    const int *fd = arg;
    char request[REQUEST];
    int n;
    while ((n = weft_read_all(*fd, request, sizeof request)) > 0) {
        long done = atomic_load_explicit(&beside.done, memory_order_relaxed);
        memcpy(request, &done, sizeof done);
        n = weft_write_all(*fd, request, sizeof request);
        if (n < 0)
            break;
    }
    weft_close(*fd);
    return n == -ECANCELED ? n : 0;
}

static int accept_all(int listener)
{
    for (;;) {
        int fd = weft_accept(listener);
        if (fd < 0)
            return fd;
        weft_task t = weft_spawn_copy(&beside.scope, serve, &fd, sizeof fd);
        if (t < 0) {
            weft_close(fd);
            return (int)t;
        }
    }
}

/* What runs beside are children like the connections, of a scope that is not joined while the server serves: so none of
 * them can run as a plain call on the acceptor's stack. */
static int serve_beside(struct job *j, weft_fn *fn, long tasks)
{
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%ld", job_arg(j, "port"));
    int listener = weft_listen(where, NULL);
    int rc = listener;
    for (; rc >= 0 && tasks > 0; tasks--)
        weft_spawn(&beside.scope, fn, NULL);
    if (rc >= 0)
        rc = accept_all(listener);
    atomic_store(&beside.over, true);
    rc = weft_scope_end(&beside.scope, rc);
    if (listener >= 0)
        weft_close(listener);
    return rc;
}

int work_tails_hogs(void *arg)
{
    struct job *j = arg;
    beside.span = weft_us(job_arg(j, "us"));
    weft_scope_begin(&beside.scope, WEFT_NEVER);
    return serve_beside(j, job_arg(j, "yields") ? hog_that_yields : hog, job_arg(j, "threads"));
}

int work_tails_blocked(void *arg)
{
    struct job *j = arg;
    beside.span = weft_ms(job_arg(j, "ms"));
    weft_scope_begin(&beside.scope, WEFT_NEVER);
    return serve_beside(j, block, 1);
}

int work_tails_storm(void *arg)
{
    weft_scope_begin(&beside.scope, WEFT_NEVER);
    return serve_beside(arg, storm, 1);
}

/* Each is a task that sleeps; they are spread evenly over their period. It serves when all have begun to. */
int work_tails_timers(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n");
    beside.span = weft_ms(job_arg(j, "ms"));
    int64_t start = weft_now();
    weft_scope_begin(&beside.scope, WEFT_NEVER);
    for (long i = 0; i < n; i++) {
        int64_t first = start + (int64_t)((double)beside.span * (double)(i + 1) / (double)n);
        weft_spawn_copy(&beside.scope, fire_again, &first, sizeof first);
    }
    int rc = 0;
    while (rc == 0 && atomic_load(&beside.armed) < n)
        rc = weft_sleep(weft_ms(1));
    if (rc < 0)
        return weft_scope_end(&beside.scope, rc);
    return serve_beside(j, NULL, 0);
}

/* ---- in the process */

static atomic_long latencies[LOAD_BUCKETS]; /* of all tasks: they may be on several workers */

static void count_latency(int64_t ns)
{
    atomic_fetch_add_explicit(&latencies[load_bucket(ns)], 1, memory_order_relaxed);
}

static void tell_latencies(struct job *j)
{
    long all = 0;
    for (int i = 0; i < LOAD_BUCKETS; i++)
        all += load_buckets()[i] = atomic_load(&latencies[i]);
    job_extra(j, "p50_us", load_percentile(all, .5));
    job_extra(j, "p99_us", load_percentile(all, .99));
    job_extra(j, "p999_us", load_percentile(all, .999));
    job_extra(j, "max_us", load_percentile(all, 1));
    job_extra(j, "samples", (double)all);
}

struct rally {
    weft_chan *ping, *pong;
    int64_t end;
    long rounds;
};

static int send_back(void *arg)
{
    struct rally *r = arg;
    long v;
    int rc;
    while ((rc = weft_chan_recv(r->ping, &v, sizeof v)) > 0)
        if ((rc = weft_chan_send(r->pong, &v, sizeof v)) < 0)
            break;
    return rc;
}

static int send_there(void *arg)
{
    struct rally *r = arg;
    int rc = 0;
    while (rc >= 0 && load_now() < r->end) {
        long v = -1;
        rc = weft_chan_send(r->ping, &r->rounds, sizeof r->rounds);
        if (rc == 0)
            rc = weft_chan_recv(r->pong, &v, sizeof v);
        if (rc > 0)
            rc = job_verify(v, r->rounds++);
    }
    weft_chan_close(r->ping);
    atomic_store(&beside.over, true);
    return rc < 0 ? rc : 0;
}

static int take_turns(void *arg)
{
    (void)arg;
    int rc = 0;
    for (int64_t last = load_now(); rc == 0 && goes_on();) {
        rc = weft_yield();
        int64_t now = load_now();
        count_latency(now - last);
        last = now;
    }
    return rc;
}

int work_tails_pair(void *arg)
{
    struct job *j = arg;
    struct rally r = { 0 };
    int rc = weft_chan_create(&r.ping, sizeof(long), 0, NULL);
    if (rc == 0)
        rc = weft_chan_create(&r.pong, sizeof(long), 0, NULL);
    if (rc == 0) {
        job_start(j);
        r.end = load_now() + weft_ms(job_arg(j, "ms"));
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_spawn(&s, send_back, &r);
        weft_spawn(&s, take_turns, NULL);
        weft_spawn(&s, send_there, &r);
        rc = weft_scope_end(&s, 0);
        job_stop(j, r.rounds);
        tell_latencies(j);
    }
    weft_chan_destroy(&r.ping);
    weft_chan_destroy(&r.pong);
    return rc;
}

/* The times that the tasks of tails_ready share. */
struct grid {
    int64_t start, end;
};

/* Both ends are one task's, so that what it reads is always there. */
static int write_and_read(void *arg)
{
    const struct grid *g = arg;
    char buffer[REQUEST] = { 7 };
    int ends[2], rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    if (rc < 0)
        return -errno;
    while (rc >= 0 && load_now() < g->end) {
        rc = weft_write_all(ends[0], buffer, sizeof buffer);
        if (rc == 0)
            rc = weft_read_all(ends[1], buffer, sizeof buffer);
        count_done();
    }
    weft_close(ends[0]);
    weft_close(ends[1]);
    return rc < 0 ? rc : 0;
}

/* The next point is a millisecond after the last one, however late that was: what a pause covers is counted. */
static int keep_time(void *arg)
{
    const struct grid *g = arg;
    int rc = 0;
    for (int64_t due = g->start + weft_ms(1); rc == 0 && due < g->end; due += weft_ms(1)) {
        rc = weft_sleep_until(due);
        count_latency(weft_now() - due);
    }
    return rc;
}

int work_tails_ready(void *arg)
{
    struct job *j = arg;
    job_start(j);
    struct grid g = { .start = weft_now() };
    g.end = g.start + weft_ms(job_arg(j, "ms"));
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = job_arg(j, "threads"); i > 0; i--)
        weft_spawn(&s, write_and_read, &g);
    for (long i = job_arg(j, "timers"); i > 0; i--)
        weft_spawn(&s, keep_time, &g);
    int rc = weft_scope_end(&s, 0);
    job_stop(j, atomic_load(&beside.done));
    tell_latencies(j);
    return rc;
}
