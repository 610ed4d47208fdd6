/* proxy_load.c - the load of a TCP proxy: both of its ends, which push bytes through it both ways at once.
 *
 *     proxy_load [port=9000] [to=9001] [mib=1024] [conns=1]
 *
 * Listens on `to`, where the proxy connects to, and connects to the proxy, on `port`, once that is there. Of `mib` MiB each
 * connection carries its part, as much one way as the other. An end sends all it has, and the end of it (SHUT_WR), in one
 * thread, and receives in another.
 * Checks    every byte, and that each way brings as many as were sent, and then its end. Each way has its own part of a
 *           pattern that repeats after 1 MiB, so bytes of another way, or of another place, are not taken for right.
 * Hangs     no call waits for more than 20 seconds.
 * Prints    one line of JSON; an operation is a MiB that has arrived. */
#include "load.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATTERN = 1 << 20, PIECE = 256 << 10, CONNS_MOST = 1024, FLOWS = 4 };

/* One end of one way. */
struct flow {
    pthread_t thread;
    int fd;
    size_t start; /* in the pattern */
    uint64_t bytes;
};

static char pattern[PATTERN];

static void make_pattern(void)
{
    uint64_t x = 0;
    for (size_t i = 0; i < PATTERN; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        pattern[i] = (char)(x >> 56);
    }
}

/* Where in the pattern a flow is, and how much of it lies there in one piece. */
static size_t piece_at(const struct flow *f, uint64_t done, uint64_t left, const char **at)
{
    size_t place = (f->start + (size_t)(done % PATTERN)) % PATTERN, n = PATTERN - place;
    *at = pattern + place;
    n = n < PIECE ? n : PIECE;
    return n < left ? n : (size_t)left;
}

static void *send_all(void *arg)
{
    const struct flow *f = arg;
    const char *at;
    for (uint64_t done = 0; done < f->bytes;) {
        size_t n = piece_at(f, done, f->bytes - done, &at);
        ssize_t sent = send(f->fd, at, n, MSG_NOSIGNAL);
        load_expect(sent > 0, "send");
        done += (uint64_t)sent;
    }
    load_expect(shutdown(f->fd, SHUT_WR) == 0, "shutdown");
    return NULL;
}

static void *receive_all(void *arg)
{
    const struct flow *f = arg;
    const char *at;
    char *got = malloc(PIECE);
    load_expect(got != NULL, "memory");
    for (uint64_t done = 0; done < f->bytes;) {
        size_t n = piece_at(f, done, f->bytes - done, &at);
        ssize_t came = recv(f->fd, got, n, 0);
        load_expect(came > 0, "the end came too soon");
        load_expect(memcmp(got, at, (size_t)came) == 0, "a byte is wrong");
        done += (uint64_t)came;
    }
    load_expect(recv(f->fd, got, 1, 0) == 0, "more came than was sent");
    free(got);
    return NULL;
}

static struct sockaddr_in address(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* A socket whose calls wait for a time only; so does accept, by SO_RCVTIMEO. */
static void bound_waits(int fd)
{
    struct timeval most = { .tv_sec = 20 };
    load_expect(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most) == 0 &&
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most) == 0, "setsockopt");
}

static int listen_on(int port)
{
    struct sockaddr_in a = address(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    load_expect(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
            bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, CONNS_MOST) == 0, "listen");
    bound_waits(fd);
    return fd;
}

/* Once the proxy is there. */
static int connect_to(int port)
{
    struct sockaddr_in a = address(port);
    for (int64_t end = load_now() + PATIENCE;;) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        load_expect(fd >= 0, "socket");
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            bound_waits(fd);
            return fd;
        }
        load_expect(errno == ECONNREFUSED && load_now() < end, "connect");
        close(fd);
        (void)poll(NULL, 0, 20);
    }
}

static void start(struct flow *f, void *(*body)(void *))
{
    load_expect(pthread_create(&f->thread, NULL, body, f) == 0, "a thread");
}

int main(int argc, char **argv)
{
    (void)argc;
    int port = (int)load_arg(argv, "port", 9000), conns = (int)load_arg(argv, "conns", 1);
    uint64_t bytes = (uint64_t)(load_arg(argv, "mib", 1024) * (1 << 20));
    load_expect(conns > 0 && conns <= CONNS_MOST && bytes > 0, "arguments");
    bytes = bytes / (uint64_t)conns;
    make_pattern();
    int listener = listen_on((int)load_arg(argv, "to", 9001)), n = conns * FLOWS;
    struct flow *flows = calloc((size_t)n, sizeof *flows);
    load_expect(flows != NULL, "memory");
    for (int i = 0; i < n; i += FLOWS) { /* one after the other, so that two ends of one connection are a pair */
        int client = connect_to(port), server = accept(listener, NULL, NULL);
        load_expect(server >= 0, "the proxy does not connect");
        bound_waits(server);
        for (int k = 0; k < FLOWS; k++)
            flows[i + k] = (struct flow){ .fd = k == 0 || k == 3 ? client : server, .bytes = bytes,
                .start = (size_t)(i + k / 2) * 65537 % PATTERN };
    }

    int64_t began = load_now();
    for (int i = 0; i < n; i++)
        start(&flows[i], i % 2 ? receive_all : send_all);
    for (int i = 0; i < n; i++)
        load_expect(pthread_join(flows[i].thread, NULL) == 0, "a thread");
    double seconds = (double)(load_now() - began) / 1e9, ops = 2.0 * (double)bytes * conns / (1 << 20);
    printf("{\"ops\":%.3f,\"seconds\":%.6f,\"ns_per_op\":%.2f}\n", ops, seconds, seconds * 1e9 / ops);
    free(flows);
    return 0;
}
