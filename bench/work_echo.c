/* work_echo.c - the echo workload: a TCP server that sends back what it receives.
 *
 * One task for each connection, with its buffer on its stack. Between reading and writing it
 * computes for work_us microseconds; `hogs` tasks beside it compute for ever and never call weft.
 * With stream=1 each connection is read and written through a weft_stream, which is what its buffers
 * cost: nothing is flushed, since who reads for more sends what it has kept.
 * Serves 127.0.0.1:port until it is killed and prints nothing: the load measures.
 *
 * What it does not measure: long messages, slow readers, connections that come and go. */
#include "peer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

struct connection {
    int fd;
    long work_us;
};

static atomic_bool closing; /* only after a failure: hogs do not see a cancel */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Keeps the processor busy for so many microseconds of wall time, without any call into weft, which
 * could let others run. */
static void compute(long us)
{
    if (us == 0)
        return;
    for (int64_t end = now_ns() + weft_us(us); now_ns() < end;)
        continue;
}

static int hog(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&closing, memory_order_relaxed))
        compute(1000);
    return 0;
}

/* A connection that breaks is its client's affair: as a failure it would cancel its siblings. */
static int serve(void *arg)
{
    const struct connection *c = arg;
    char buffer[4096];
    int n;
    while ((n = weft_read(c->fd, buffer, sizeof buffer)) > 0) {
        compute(c->work_us);
        n = weft_write_all(c->fd, buffer, (size_t)n);
        if (n < 0)
            break;
    }
    weft_close(c->fd);
    return n == -ECANCELED ? n : 0;
}

static int serve_stream(void *arg)
{
    const struct connection *c = arg;
    char buffer[4096];
    weft_stream *s WEFT_AUTO(weft_stream_drop) = NULL;
    int n = weft_stream_open(&s, c->fd, NULL);
    if (n < 0)
        weft_close(c->fd);
    while (n >= 0 && (n = weft_stream_read(s, buffer, sizeof buffer)) > 0) {
        compute(c->work_us);
        n = weft_stream_write(s, buffer, (size_t)n);
    }
    return n == -ECANCELED ? n : 0;
}

/* Takes connections until one cannot be taken or served. */
static int accept_all(int listener, long work_us, weft_fn *each, weft_scope *s)
{
    for (;;) {
        struct connection c = { .fd = weft_accept(listener), .work_us = work_us };
        if (c.fd < 0)
            return c.fd;
        weft_task t = weft_spawn_copy(s, each, &c, sizeof c);
        if (t < 0) {
            weft_close(c.fd);
            return (int)t;
        }
    }
}

int work_echo(void *arg)
{
    struct job *j = arg;
    char where[32];
    if (job_arg(j, "hogs") >= job_arg(j, "threads"))
        return weft_fail(-EINVAL, "hogs has to be less than threads: each keeps a worker for ever");
    snprintf(where, sizeof where, "127.0.0.1:%ld", job_arg(j, "port"));
    int listener = weft_listen(where, NULL);
    if (listener < 0)
        return listener;

    /* Hogs are children like the connections, of a scope that is not joined while the server
     * serves: so none of them can run as a plain call on the acceptor's stack. */
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = job_arg(j, "hogs"); i > 0; i--)
        weft_spawn(&s, hog, NULL);
    int rc = accept_all(listener, job_arg(j, "work_us"), job_arg(j, "stream") ? serve_stream : serve, &s);
    atomic_store(&closing, true);
    rc = weft_scope_end(&s, rc);
    weft_close(listener);
    return rc;
}
