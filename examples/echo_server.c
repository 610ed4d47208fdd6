/* echo_server.c - sends back what it is sent: one task for each connection.
 *
 * Use       echo_server [PORT] [--once N]
 *           PORT 0, the default, takes a free one; the address is printed. With --once it accepts
 *           N connections, serves them to their end and returns; without, it serves until killed.
 * Shows     weft_accept, weft_spawn_copy, a scope that owns every connection.
 * Tested    examples/test_examples.py */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weft.h>

struct args {
    long port;
    long once; /* 0: for ever */
};

/* Its argument is its own copy of the descriptor; the acceptor's variable is free for the next. */
static int echo(void *arg)
{
    int fd WEFT_AUTO(weft_close_auto) = *(int *)arg;
    char buf[4096];
    int rc = 0, n;

    while (rc == 0 && (n = weft_read(fd, buf, sizeof buf)) != 0)
        rc = n < 0 ? n : weft_write_all(fd, buf, (size_t)n);
    if (rc == -ECANCELED)
        return rc;
    if (rc < 0) /* one connection's trouble must not fail the scope that holds the others */
        fprintf(stderr, "connection: %s\n", weft_strerror(rc));
    return 0;
}

static int serve(int listener, long once)
{
    int rc = 0;
    weft_scope connections;

    weft_scope_begin(&connections, WEFT_NEVER);
    for (long n = 0; rc == 0 && (once == 0 || n < once); n++) {
        int fd = weft_accept(listener);
        if (fd < 0)
            rc = fd;
        else if (weft_spawn_copy(&connections, echo, &fd, sizeof fd) < 0)
            weft_close(fd); /* nobody else will; the scope has failed and its end says so */
    }
    return weft_scope_end(&connections, rc);
}

static int app(void *arg)
{
    const struct args *a = arg;
    char where[80];
    weft_addr at;

    snprintf(where, sizeof where, "127.0.0.1:%ld", a->port);
    int listener WEFT_AUTO(weft_close_auto) = weft_listen(where, NULL);
    if (listener < 0)
        return listener;
    int rc = weft_addr_local(listener, &at);
    if (rc < 0)
        return rc;
    weft_addr_text(&at, where, sizeof where);
    printf("listening on %s\n", where);
    fflush(stdout);
    return serve(listener, a->once);
}

static bool number(const char *text, long most, long *out)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < 0 || n > most)
        return false;
    *out = n;
    return true;
}

int main(int argc, char **argv)
{
    struct args a = { 0 };
    bool good = true;

    for (int i = 1; i < argc && good; i++) {
        if (strcmp(argv[i], "--once") == 0)
            good = ++i < argc && number(argv[i], 1000000000, &a.once);
        else
            good = number(argv[i], 65535, &a.port);
    }
    if (!good) {
        fprintf(stderr, "use: %s [PORT] [--once N]\n", argv[0]);
        return 2;
    }
    int rc = weft_run(app, &a, NULL);
    if (rc < 0)
        fprintf(stderr, "echo_server: %s\n", weft_strerror(rc));
    return rc < 0;
}
