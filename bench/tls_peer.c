/* tls_peer.c - weft as a TLS server that sends back what it gets, on libweft-tls.
 *
 *     tls_peer version | tls_echo [port=9000] [threads=2]
 *
 * BENCH_CERT names its certificate and key, in one PEM file. It serves 127.0.0.1:port until it is killed and prints nothing:
 * the load measures (tls_load.c). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weft.h>
#include <weft/tls.h>

struct server {
    long port;
    weft_tls *tls;
};

static int echo(weft_stream *s, void *arg)
{
    const struct server *server = arg;
    char buffer[4096];
    int n = weft_tls_server(server->tls, s);
    while (n >= 0 && (n = weft_stream_read(s, buffer, sizeof buffer)) > 0)
        n = weft_stream_write(s, buffer, (size_t)n);
    return n == -ECANCELED ? n : 0;
}

static int serve(void *arg)
{
    struct server *server = arg;
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%ld", server->port);
    int rc = weft_tls_create(&server->tls, &(weft_tls_options){ .cert_file = getenv("BENCH_CERT") });
    if (rc < 0)
        return rc;
    int listener = weft_listen(where, NULL);
    rc = listener < 0 ? listener : weft_serve(listener, echo, server, NULL);
    if (rc < 0)
        fprintf(stderr, "tls_peer: %s\n", weft_error_text(rc));
    weft_tls_destroy(&server->tls);
    return rc;
}

static long number(char **words, const char *key, long otherwise)
{
    size_t bytes = strlen(key);
    for (; *words; words++)
        if (strncmp(*words, key, bytes) == 0 && (*words)[bytes] == '=')
            return strtol(*words + bytes + 1, NULL, 10);
    return otherwise;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "version") == 0)
        return printf("weft %d.%d.%d\n", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR, WEFT_VERSION_PATCH) < 0;
    if (argc < 2 || strcmp(argv[1], "tls_echo") != 0 || !getenv("BENCH_CERT")) {
        fprintf(stderr, "usage: BENCH_CERT=PEM tls_peer version | tls_echo [port=9000] [threads=2]\n");
        return 2;
    }
    struct server server = { .port = number(argv, "port", 9000) };
    return weft_run(serve, &server, &(weft_options){ .workers = (int)number(argv, "threads", 2) }) < 0;
}
