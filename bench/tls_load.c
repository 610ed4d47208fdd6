/* tls_load.c - the load of a TLS server that sends back what it gets: one thread, epoll, OpenSSL on non-blocking sockets.
 *
 *     tls_load [port=9000] [conns=64] [size=64] [handshakes=0] [seconds=3] [warmup=0.5]
 *
 * Owns      `conns` connections. Each sends a message of `size` bytes, waits until all of it is back, and goes on. With
 *           handshakes=1 an operation is a connection: it shakes hands in full, says one message and hears it, says goodbye,
 *           and makes room for the next one.
 * Speaks    TLS 1.3 with X25519 and AES-128-GCM, so that all servers do the same work. It does not look whom it talks to, and
 *           resumes no session.
 * Checks    that what comes back is what was sent.
 * Prints    one line of JSON. It waits for the server to be there before it begins. */
#include "load.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNS_MOST = 4096, SIZE_MOST = 16384, ADDRESSES = 200 };

struct connection {
    int fd;
    SSL *ssl;
    bool ready;     /* has shaken hands */
    size_t sent, got;
    int64_t begun;
};

static struct {
    int epoll, port;
    SSL_CTX *ctx;
    size_t size;
    bool handshakes;
    int64_t from, to; /* what is counted */
    long ops, all, opened;
    struct connection conns[CONNS_MOST];
} load;

static char message[SIZE_MOST], buffer[SIZE_MOST];

static void expect_tls(bool ok, const char *what)
{
    if (!ok)
        ERR_print_errors_fp(stderr);
    load_expect(ok, what);
}

/* ---- connections */

/* From one address after the other, so that ports of connections that have gone are no shortage. */
static int open_socket(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)load.port) }, from = to;
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    load_expect(fd >= 0, "socket");
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(load.opened++ % ADDRESSES));
    from.sin_port = 0;
    load_expect(bind(fd, (struct sockaddr *)&from, sizeof from) == 0, "bind");
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        close(fd);
        return -1;
    }
    load_expect(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0, "TCP_NODELAY");
    load_expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
    return fd;
}

static void begin(struct connection *c)
{
    int64_t end = load_now() + PATIENCE;
    *c = (struct connection){ .fd = open_socket() };
    for (; c->fd < 0; c->fd = open_socket()) {
        load_expect(load_now() < end, "no server");
        usleep(20000);
    }
    c->ssl = SSL_new(load.ctx);
    expect_tls(c->ssl && SSL_set_fd(c->ssl, c->fd) == 1, "SSL_new");
    SSL_set_connect_state(c->ssl);
    c->begun = load_now();
    struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    load_expect(epoll_ctl(load.epoll, EPOLL_CTL_ADD, c->fd, &e) == 0, "epoll_ctl");
}

static void end(struct connection *c)
{
    (void)SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
}

/* ---- turns */

/* 1; 0: it has to wait. */
static int came_to(const struct connection *c, int rc)
{
    if (rc == 1)
        return 1;
    int why = SSL_get_error(c->ssl, rc);
    expect_tls(why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE, "TLS");
    return 0;
}

static void count(struct connection *c)
{
    int64_t now = load_now();
    load.all++;
    if (now >= load.from && load_goes_on(now, load.to, load.ops)) {
        load.ops++;
        load_latency(now - c->begun);
    }
    c->begun = now;
}

/* As far as it gets. */
static void go_on(struct connection *c)
{
    size_t n;
    for (;;) {
        if (!c->ready && !(c->ready = came_to(c, SSL_do_handshake(c->ssl))))
            return;
        while (c->sent < load.size) {
            if (!came_to(c, SSL_write_ex(c->ssl, message + c->sent, load.size - c->sent, &n)))
                return;
            c->sent += n;
        }
        while (c->got < load.size) {
            if (!came_to(c, SSL_read_ex(c->ssl, buffer, load.size - c->got, &n)))
                return;
            load_expect(memcmp(buffer, message + c->got, n) == 0, "an answer is wrong");
            c->got += n;
        }
        count(c);
        c->sent = c->got = 0;
        if (load.handshakes) {
            end(c);
            begin(c);
            return;
        }
    }
}

/* Until there were so many operations, or the time is over. */
static void run(long most)
{
    struct epoll_event events[64];
    while (load.all < most && load_goes_on(load_now(), load.to, load.ops)) {
        int n = epoll_wait(load.epoll, events, 64, 10);
        load_expect(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++)
            go_on(events[i].data.ptr);
    }
}

static void set_up(void)
{
    load.epoll = epoll_create1(0);
    load.ctx = SSL_CTX_new(TLS_client_method());
    expect_tls(load.epoll >= 0 && load.ctx && SSL_CTX_set_min_proto_version(load.ctx, TLS1_3_VERSION) &&
                    SSL_CTX_set_ciphersuites(load.ctx, "TLS_AES_128_GCM_SHA256") && SSL_CTX_set1_groups_list(load.ctx, "X25519"),
            "set-up");
    SSL_CTX_set_session_cache_mode(load.ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(load.ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (size_t i = 0; i < load.size; i++)
        message[i] = (char)(i * 7 + 1);
}

int main(int argc, char **argv)
{
    (void)argc;
    double seconds = load_arg(argv, "seconds", 3), warmup = load_arg(argv, "warmup", 0.5);
    int conns = (int)load_arg(argv, "conns", 64);
    load.port = (int)load_arg(argv, "port", 9000);
    load.size = (size_t)load_arg(argv, "size", 64);
    load.handshakes = load_arg(argv, "handshakes", 0) != 0;
    load_expect(conns > 0 && conns <= CONNS_MOST && load.size > 0 && load.size <= SIZE_MOST && seconds > 0, "arguments");
    signal(SIGPIPE, SIG_IGN);
    set_up();
    for (int i = 0; i < conns; i++)
        begin(&load.conns[i]);
    load.from = load.to = load_now() + PATIENCE;
    run(conns); /* the handshakes, of those that stay */
    load_expect(load.all >= conns, "no answer came");
    load.from = load_now() + (int64_t)(warmup * 1e9);
    load.to = load.from + (int64_t)(seconds * 1e9);
    run(LONG_MAX);
    load_expect(load.ops > 0, "no answer came");
    load_print(load.ops, load.all, seconds);
    puts("}");
    return 0;
}
