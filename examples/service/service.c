/* service.c - a key-value store over TCP, on all cores, with a live view of its workers.
 *
 * Use       service [--port P] [--seconds N] [--connections N] [--keys N] [--idle SECONDS]
 *                   [--plain] [--ready-fd FD]
 *           It listens on 127.0.0.1; port 0, the default, takes a free one. It ends by itself after
 *           --seconds, else by SIGINT or SIGTERM, and prints a summary.
 *           --ready-fd is told the address as soon as connections are taken.
 * Shape     run ── serving (a scope: until the time is up, or a signal)
 *            │      ├── accept_all: one connection after the other, spawned into `connections`
 *            │      ├── watch_signals
 *            │      └── the body draws the view
 *            └── connections (a scope: ends two seconds after `serving` at the latest)
 *                   └── connection_serve, one for each client
 * Tested    examples/test_examples.py */
#include "service.h"
#include "view.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct options {
    long port, seconds, connections, keys, idle, ready_fd;
    bool plain;
};

struct run {
    struct service service;
    const struct options *options;
    char address[80];
    int listener;
    int signals; /* a signalfd */
    weft_scope connections;
    weft_scope serving;
    struct view_facts first, last;
    int64_t cpu_ns;
};

static void refuse(struct service *sv, int fd)
{
    static const char why[] = "ERR too many connections\n";
    atomic_fetch_add(&sv->refused, 1);
    weft_ignore(weft_write(fd, why, sizeof why - 1)); /* a new socket has room for it */
    weft_close(fd);
}

static bool is_shortage(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM;
}

static int accept_all(void *arg)
{
    struct run *r = arg;
    struct service *sv = &r->service;
    struct connection c = { .service = sv };

    for (;;) {
        c.fd = weft_accept(r->listener);
        if (is_shortage(c.fd))
            continue; /* weft_accept has paused already; the client waits in the queue */
        if (c.fd < 0)
            return c.fd;
        if (atomic_load(&sv->connections) >= sv->connection_limit) {
            refuse(sv, c.fd);
            continue;
        }
        atomic_fetch_add(&sv->accepted, 1);
        atomic_fetch_add(&sv->connections, 1);
        weft_task t = weft_spawn_copy(&r->connections, connection_serve, &c, sizeof c);
        if (t < 0) {
            weft_close(c.fd);
            return (int)t;
        }
    }
}

/* weft owns no signal; a signalfd is a descriptor like any other. */
static int watch_signals(void *arg)
{
    struct run *r = arg;
    struct signalfd_siginfo info;
    int rc = weft_wait_fd(r->signals, WEFT_READABLE);

    if (rc < 0)
        return rc;
    if (read(r->signals, &info, sizeof info) == (ssize_t)sizeof info)
        weft_scope_cancel(&r->serving, "signal");
    return 0;
}

static int64_t cpu_now(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return weft_sec(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           weft_us(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void gather_facts(struct run *r, struct view_facts *f)
{
    struct service *sv = &r->service;
    struct table_stats t;

    table_count(sv->table, &t);
    f->at = weft_now();
    f->requests = t.gets + t.sets + t.incrs;
    f->mistakes = atomic_load(&sv->mistakes);
    f->connections = atomic_load(&sv->connections);
    f->worker_count = weft_stats(NULL, f->workers, VIEW_WORKERS_MAX);
    pthread_mutex_lock(&sv->report_lock);
    f->client = sv->report;
    pthread_mutex_unlock(&sv->report_lock);
}

/* Until it is told to leave: the time is up, or there was a signal. */
static int show(struct run *r, struct view *v)
{
    int64_t next = weft_now();
    int rc;

    do {
        gather_facts(r, &r->last);
        rc = view_draw(v, &r->last);
        if (rc == 0) {
            next += view_every(v);
            if (next < r->last.at)
                next = r->last.at; /* the terminal was stopped: go on from here */
            rc = weft_sleep_until(next);
        }
    } while (rc == 0);
    return rc;
}

static int serve(struct run *r, int64_t length)
{
    struct view *v = NULL;
    int rc = view_open(&v, r->address, length, r->options->plain);
    if (rc < 0)
        return rc;

    gather_facts(r, &r->first);
    int64_t cpu = cpu_now();
    weft_scope_begin(&r->connections, WEFT_NEVER);
    weft_scope_begin(&r->serving, length);
    weft_spawn(&r->serving, accept_all, r);
    weft_spawn(&r->serving, watch_signals, r);
    rc = weft_scope_end(&r->serving, show(r, v));
    if (rc == -ETIMEDOUT)
        rc = 0; /* the time is up */
    /* Clients may end what they are at, and the last word of the load may come in. */
    weft_scope_set_deadline(&r->connections, weft_after(rc < 0 ? 0 : weft_sec(2)));
    int late = weft_scope_end(&r->connections, 0);
    if (rc == 0 && late != -ETIMEDOUT)
        rc = late;
    r->cpu_ns = cpu_now() - cpu;
    gather_facts(r, &r->last);
    view_close(&v);
    return rc;
}

static int tell_ready(struct run *r)
{
    if (r->options->plain || !isatty(STDOUT_FILENO)) {
        printf("listening on %s\n", r->address);
        fflush(stdout);
    }
    if (r->options->ready_fd < 0)
        return 0;
    int fd = (int)r->options->ready_fd;
    char line[sizeof r->address + 1];
    int n = snprintf(line, sizeof line, "%s\n", r->address);
    int rc = weft_write_all(fd, line, (size_t)n);
    weft_close(fd);
    return rc;
}

static int app(void *arg)
{
    struct run *r = arg;
    weft_addr at;

    snprintf(r->address, sizeof r->address, "127.0.0.1:%ld", r->options->port);
    r->listener = weft_listen(r->address, NULL);
    if (r->listener < 0)
        return r->listener;
    int rc = weft_addr_local(r->listener, &at);
    if (rc == 0) {
        weft_addr_text(&at, r->address, sizeof r->address);
        rc = tell_ready(r);
    }
    long seconds = r->options->seconds;
    if (rc == 0)
        rc = serve(r, seconds == 0 ? WEFT_NEVER : weft_sec(seconds));
    weft_close(r->listener);
    return rc;
}

/* The signals that end the service wait for watch_signals: every thread inherits this mask. */
static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int run(const struct options *o)
{
    struct run *r = calloc(1, sizeof *r);
    int rc = r == NULL ? -ENOMEM : table_create(&r->service.table, (size_t)o->keys);
    if (rc < 0)
        goto out_run;
    r->options = o;
    r->service.connection_limit = (int)o->connections;
    r->service.idle_limit = weft_sec(o->idle);
    pthread_mutex_init(&r->service.report_lock, NULL);
    r->signals = open_signals();
    if (r->signals < 0) {
        rc = -errno;
        goto out_table;
    }
    rc = weft_run(app, r, NULL);
    if (rc == 0)
        view_summary(&r->first, &r->last, r->cpu_ns);
    weft_close(r->signals);
out_table:
    table_destroy(&r->service.table);
out_run:
    free(r);
    return rc;
}

static bool number(const char *text, long least, long most, long *out)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < least || n > most)
        return false;
    *out = n;
    return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
    const struct {
        const char *name;
        long least, most;
        long *out;
    } numbers[] = {
        { "--port", 0, 65535, &o->port },
        { "--seconds", 0, 1000000, &o->seconds },
        { "--connections", 1, 1000000, &o->connections },
        { "--keys", 1, 100000000, &o->keys },
        { "--idle", 1, 1000000, &o->idle },
        { "--ready-fd", 0, 1000000, &o->ready_fd },
    };
    enum { N = sizeof numbers / sizeof numbers[0] };

    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--plain") == 0) {
            o->plain = true;
            continue;
        }
        while (k < N && strcmp(argv[i], numbers[k].name) != 0)
            k++;
        if (k == N || ++i == argc ||
                !number(argv[i], numbers[k].least, numbers[k].most, numbers[k].out))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options o = { .connections = 10000, .keys = 1000000, .idle = 60, .ready_fd = -1 };

    if (!parse(argc, argv, &o)) {
        fprintf(stderr,
                "use: %s [--port P] [--seconds N] [--connections N] [--keys N] [--idle SECONDS]\n"
                "     [--plain] [--ready-fd FD]\n",
                argv[0]);
        return 2;
    }
    int rc = run(&o);
    if (rc < 0)
        fprintf(stderr, "service: %s\n", weft_error_text(rc));
    return rc < 0;
}
