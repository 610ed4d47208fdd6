/* tls_epoll.c - what libweft-tls is compared with: a loop over epoll on each thread, on the same OpenSSL, without any runtime.
 *
 *     tls_epoll version | tls_echo [port=9000] [threads=2]
 *
 * BENCH_CERT names its certificate and key, in one PEM file. All threads wait at one listener; who accepts a connection keeps
 * it. Sends back what it gets, until it is killed. */
#include "load.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int fd;
    SSL *ssl;
    size_t at, end; /* of what is to be sent back */
    char buffer[4096];
};

static SSL_CTX *ctx;
static int listener;

static void end_connection(struct connection *c)
{
    ERR_clear_error();
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
}

static void begin_connection(int epoll)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
    if (fd < 0)
        return; /* another thread was faster */
    struct connection *c = calloc(1, sizeof *c);
    load_expect(c && (c->ssl = SSL_new(ctx)) && SSL_set_fd(c->ssl, fd) == 1, "a connection");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c->fd = fd;
    SSL_set_accept_state(c->ssl);
    struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    load_expect(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
}

/* False: it has to wait, or has come to its end. */
static bool came_to(struct connection *c, int rc)
{
    if (rc == 1)
        return true;
    int why = SSL_get_error(c->ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return false;
    if (why == SSL_ERROR_ZERO_RETURN)
        (void)SSL_shutdown(c->ssl);
    end_connection(c);
    return false;
}

static void go_on(struct connection *c)
{
    size_t n;
    for (;;) {
        while (c->at < c->end) {
            if (!came_to(c, SSL_write_ex(c->ssl, c->buffer + c->at, c->end - c->at, &n)))
                return;
            c->at += n;
        }
        if (!came_to(c, SSL_read_ex(c->ssl, c->buffer, sizeof c->buffer, &n)))
            return;
        c->at = 0;
        c->end = n;
    }
}

static void *serve(void *arg)
{
    struct epoll_event events[64], e = { .events = EPOLLIN | EPOLLEXCLUSIVE };
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    load_expect(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) == 0, "epoll");
    for (;;) {
        int n = epoll_wait(epoll, events, 64, -1);
        load_expect(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                go_on(events[i].data.ptr);
            else
                begin_connection(epoll);
    }
    return arg;
}

static void listen_at(int port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int yes = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    load_expect(listener >= 0 && setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                    bind(listener, (struct sockaddr *)&to, sizeof to) == 0 && listen(listener, 4096) == 0,
            "listen");
}

int main(int argc, char **argv)
{
    const char *cert = getenv("BENCH_CERT");
    if (argc > 1 && strcmp(argv[1], "version") == 0)
        return printf("epoll, %s\n", OpenSSL_version(OPENSSL_VERSION)) < 0;
    if (argc < 2 || strcmp(argv[1], "tls_echo") != 0 || !cert) {
        fprintf(stderr, "usage: BENCH_CERT=PEM tls_epoll version | tls_echo [port=9000] [threads=2]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    ctx = SSL_CTX_new(TLS_server_method());
    load_expect(ctx && SSL_CTX_use_certificate_chain_file(ctx, cert) == 1 &&
                    SSL_CTX_use_PrivateKey_file(ctx, cert, SSL_FILETYPE_PEM) == 1,
            "certificate");
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    listen_at((int)load_arg(argv, "port", 9000));
    for (int i = 1; i < (int)load_arg(argv, "threads", 2); i++) {
        pthread_t t;
        load_expect(pthread_create(&t, NULL, serve, NULL) == 0, "pthread_create");
    }
    serve(NULL);
}
