/* tcp_proxy.c - passes connections on to another address, both directions at once.
 *
 * Use       tcp_proxy LISTEN TARGET [--conns N]         tcp_proxy 127.0.0.1:0 127.0.0.1:8080
 *           A port of 0 takes a free one; the address is printed. With --conns it accepts N
 *           connections, serves them to their end and returns; without, it serves until killed.
 * Holds     P1  the end of one direction is passed on by SHUT_WR, and the other direction goes on:
 *               a client that has said everything still gets its answer.
 *           P2  an error in one direction ends both: the two tasks share a scope, and the first
 *               failure in a scope cancels the rest.
 *           P3  one connection's failure is not the other connections' failure.
 * Tested    examples/test_examples.py (P1 with real bytes, P2, P3) */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weft.h>

struct args {
    const char *listen;
    const char *target;
    long conns; /* 0: for ever */
};

struct connection {
    int client;
    const char *target;
};

struct flow {
    int from;
    int to;
    uint64_t bytes;
};

/* One direction, to its end. */
static int pump(void *arg)
{
    struct flow *f = arg;
    char buf[16 * 1024];
    int n;

    while ((n = weft_read(f->from, buf, sizeof buf)) > 0) {
        int rc = weft_write_all(f->to, buf, (size_t)n);
        if (rc < 0)
            return rc; /* P2 */
        f->bytes += (uint64_t)n;
    }
    return n < 0 ? n : weft_shutdown(f->to, SHUT_WR); /* P1 */
}

static int pass_on(int client, const char *target)
{
    int server WEFT_AUTO(weft_close_auto) = weft_connect(target, NULL);
    if (server < 0)
        return server;
    struct flow up = { .from = client, .to = server };
    struct flow down = { .from = server, .to = client };
    weft_scope both;

    weft_scope_begin(&both, WEFT_NEVER);
    weft_spawn(&both, pump, &up);
    weft_spawn(&both, pump, &down);
    int rc = weft_scope_end(&both, 0);
    printf("%llu bytes up, %llu bytes down, %s\n", (unsigned long long)up.bytes,
            (unsigned long long)down.bytes, weft_strerror(rc));
    fflush(stdout);
    return rc;
}

static int connection(void *arg)
{
    struct connection *c = arg;
    int client WEFT_AUTO(weft_close_auto) = c->client;
    int rc = pass_on(client, c->target);

    if (rc == -ECANCELED)
        return rc;
    if (rc < 0)
        fprintf(stderr, "connection to %s: %s\n", c->target, weft_strerror(rc));
    return 0; /* P3 */
}

static int serve(int listener, const struct args *a)
{
    struct connection c = { .target = a->target };
    int rc = 0;
    weft_scope connections;

    weft_scope_begin(&connections, WEFT_NEVER);
    for (long n = 0; rc == 0 && (a->conns == 0 || n < a->conns); n++) {
        c.client = weft_accept(listener);
        if (c.client < 0)
            rc = c.client;
        else if (weft_spawn_copy(&connections, connection, &c, sizeof c) < 0)
            weft_close(c.client); /* nobody else will; the scope has failed and its end says so */
    }
    return weft_scope_end(&connections, rc);
}

static int app(void *arg)
{
    const struct args *a = arg;
    char text[80];
    weft_addr at;

    int listener WEFT_AUTO(weft_close_auto) = weft_listen(a->listen, NULL);
    if (listener < 0)
        return listener;
    int rc = weft_addr_local(listener, &at);
    if (rc < 0)
        return rc;
    weft_addr_text(&at, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    return serve(listener, a);
}

static int use(const char *program)
{
    fprintf(stderr, "use: %s LISTEN TARGET [--conns N]\n", program);
    return 2;
}

int main(int argc, char **argv)
{
    struct args a = { 0 };
    weft_addr target;

    if (argc != 3 && argc != 5)
        return use(argv[0]);
    a.listen = argv[1];
    a.target = argv[2];
    if (argc == 5) {
        char *end;
        a.conns = strtol(argv[4], &end, 10);
        if (strcmp(argv[3], "--conns") != 0 || *end != '\0' || a.conns <= 0)
            return use(argv[0]);
    }
    if (weft_addr_parse(&target, a.target) < 0) {
        fprintf(stderr, "tcp_proxy: %s is not an address like 127.0.0.1:80\n", a.target);
        return 2;
    }
    int rc = weft_run(app, &a, NULL);
    if (rc < 0)
        fprintf(stderr, "tcp_proxy: %s: %s\n", a.listen, weft_strerror(rc));
    return rc < 0;
}
