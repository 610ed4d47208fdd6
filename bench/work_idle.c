/* work_idle.c - workloads of many who wait, and of what is left of them afterwards: waiters, idle_connections.
 *
 * Each gives two figures beside the time: bytes_per_task, the growth of the resident memory while all wait, and
 * left_per_task, what is still there of it after all have ended, once it has not fallen for 300 ms, both divided by n.
 *
 * What they do not measure: the kernel's memory (a socket's buffers are not resident in the process), stacks that were used
 * deeply, and connections that wait with something received. */
#include "peer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static atomic_long arrived;

/* Until n have come to their waits, and settled. Ends early with -ECANCELED when one of them failed. */
static int await_all(long n)
{
    int rc = 0;
    while (rc == 0 && atomic_load_explicit(&arrived, memory_order_relaxed) < n)
        rc = weft_sleep(weft_ms(1));
    return rc < 0 ? rc : weft_sleep(weft_ms(200));
}

static void record_waiting(struct job *j, long before, long n)
{
    job_extra(j, "bytes_per_task", (double)(resident_bytes() - before) / (double)n);
}

/* Memory begins to go back after a tenth of a second without work (docs/stacks.md), and a million stacks take a while. */
static int record_left(struct job *j, long before, long n)
{
    enum { STEP_MS = 50, STILL = 6, STEPS = 200 };
    long least = resident_bytes();
    int rc = 0;
    for (int step = 0, still = 0; rc == 0 && still < STILL && step < STEPS; step++) {
        rc = weft_sleep(weft_ms(STEP_MS));
        long now = resident_bytes();
        still = now < least ? 0 : still + 1;
        least = now < least ? now : least;
    }
    job_extra(j, "left_per_task", (double)(least - before) / (double)n);
    return rc;
}

/* waiters: n tasks receive from one channel, and get one number each. */
struct waiter {
    weft_chan *c;
    long got;
};

static int receive_one(void *arg)
{
    struct waiter *w = arg;
    atomic_fetch_add_explicit(&arrived, 1, memory_order_relaxed);
    int rc = weft_chan_recv(w->c, &w->got, sizeof w->got);
    return rc < 0 ? rc : 0;
}

static int serve_waiters(struct job *j, weft_chan *c, struct waiter *all, long n)
{
    long before = resident_bytes();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < n; i++) {
        all[i].c = c;
        weft_spawn(&s, receive_one, &all[i]);
    }
    int rc = await_all(n);
    record_waiting(j, before, n);

    job_start(j);
    for (long i = 0; i < n && rc == 0; i++)
        rc = weft_chan_send(c, &i, sizeof i);
    rc = weft_scope_end(&s, rc);
    job_stop(j, n);
    return rc < 0 ? rc : record_left(j, before, n);
}

int work_waiters(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), sum = 0;
    weft_chan *c;
    int rc = weft_chan_create(&c, sizeof(long), 0, NULL);
    if (rc < 0)
        return rc;
    struct waiter *all = malloc((size_t)n * sizeof *all);
    if (!all) {
        weft_chan_destroy(&c);
        return -ENOMEM;
    }
    memset(all, 1, (size_t)n * sizeof *all); /* and so resident before the first spawn */
    rc = serve_waiters(j, c, all, n);
    for (long i = 0; i < n; i++)
        sum += all[i].got;
    free(all);
    weft_chan_destroy(&c);
    return rc < 0 ? rc : job_verify(sum, n * (n - 1) / 2);
}

/* idle_connections: n TCP connections, both ends here. A task reads on the one end of each, with its buffer on its stack,
 * and sends back what comes; the main task has the other ends. */
struct connection {
    int client, server;
};

static int send_back(void *arg)
{
    const struct connection *c = arg;
    char buffer[4096];
    int n;
    atomic_fetch_add_explicit(&arrived, 1, memory_order_relaxed);
    while ((n = weft_read(c->server, buffer, sizeof buffer)) > 0)
        if ((n = weft_write_all(c->server, buffer, (size_t)n)) < 0)
            break;
    return n;
}

static int open_one(struct connection *c, int listener, const char *where)
{
    c->client = weft_connect(where, NULL);
    if (c->client >= 0)
        c->server = weft_accept(listener);
    return c->client < 0 ? c->client : c->server < 0 ? c->server : 0;
}

/* A byte to each of them, and back from each. */
static int wake_each(const struct connection *all, long n)
{
    int rc = 0;
    for (long i = 0; i < n && rc >= 0; i++)
        rc = weft_write_all(all[i].client, "?", 1);
    for (long i = 0; i < n && rc >= 0; i++) {
        char byte = 0;
        rc = weft_read(all[i].client, &byte, 1);
        if (rc >= 0 && (rc != 1 || byte != '?'))
            rc = weft_fail(-EBADMSG, "wrong result: %d bytes came back", rc);
    }
    return rc < 0 ? rc : 0;
}

/* Closes one end of each, for which the tasks wait; the other one afterwards. */
static void close_ends(const struct connection *all, long n, bool clients)
{
    for (long i = 0; i < n; i++)
        if ((clients ? all[i].client : all[i].server) >= 0)
            weft_close(clients ? all[i].client : all[i].server);
}

static int serve_connections(struct job *j, struct connection *all, long n, int listener, const char *where)
{
    long before = resident_bytes();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = 0;
    for (long i = 0; i < n && rc == 0; i++) {
        rc = open_one(&all[i], listener, where);
        if (rc == 0)
            weft_spawn(&s, send_back, &all[i]);
    }
    if (rc == 0)
        rc = await_all(n);
    if (rc == 0)
        record_waiting(j, before, n);

    job_start(j);
    if (rc == 0)
        rc = wake_each(all, n);
    job_stop(j, n);
    close_ends(all, n, true);
    rc = weft_scope_end(&s, rc);
    close_ends(all, n, false);
    return rc < 0 ? rc : record_left(j, before, n);
}

/* As many descriptors as the process may have. */
static void raise_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

int work_idle_connections(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n");
    char where[64];
    weft_addr here;
    raise_limit();
    int listener = weft_listen("127.0.0.1:0", NULL);
    if (listener < 0)
        return listener;
    int rc = weft_addr_local(listener, &here);
    struct connection *all = NULL;
    if (rc == 0 && !(all = malloc((size_t)n * sizeof *all)))
        rc = -ENOMEM;
    if (rc == 0) {
        weft_addr_text(&here, where, sizeof where);
        memset(all, -1, (size_t)n * sizeof *all); /* resident, and none is open */
        rc = serve_connections(j, all, n, listener, where);
    }
    free(all);
    weft_close(listener);
    return rc;
}
