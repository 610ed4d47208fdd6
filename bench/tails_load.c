/* tails_load.c - an open load of short requests, for the servers of tails.py.
 *
 *     tails_load port= [conns=32] [every_us=8000] [seconds=2] [warmup=0.3] [patience=10]
 *
 * One thread. Each connection sends a request of 64 bytes every `every_us`, the connections evenly apart, whether the last
 * one has been answered or not. A latency is counted from when its request was due, so that a server that stands still for
 * 100 ms is charged with all that were due meanwhile, and not with one (coordinated omission). What is not answered
 * `patience` seconds after the end counts as if answered then, and is told as `unanswered`.
 * An answer is the request, but that its first 8 bytes count what the server has done beside: `beside_per_s`.
 *
 * The load needs a processor itself: `late_max_us` is the most that it was late with a request, which is in the latencies.
 * Exits     0; 1 a wrong answer, or a server that is gone. */
#include "load.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST = 64, CONNS_MAX = 1024 };

/* Requests are answered in order, so two counts say which ones are on the way. */
struct connection {
    int64_t first_due;
    long sent, answered;
    size_t got; /* of the answer that is coming in */
    char answer[REQUEST];
};

static struct connection all[CONNS_MAX];
static struct pollfd fds[CONNS_MAX];
static int conns;
static int64_t every, start, end, last; /* latencies count of what was due from start to end; answers are awaited until last */
static long counted, received, late_max;
static long beside_first = -1, beside_last;
static int64_t beside_first_at, beside_last_at;

static int64_t due_of(const struct connection *c, long index)
{
    return c->first_due + index * every;
}

static void connect_to(int i, int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    load_expect(fd >= 0, "socket");
    load_expect(connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect");
    load_expect(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == 0, "TCP_NODELAY");
    load_expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
    fds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

static void write_request(char *request, long index)
{
    memset(request, 'a' + (int)(index % 26), REQUEST);
    memcpy(request + 8, &index, sizeof index);
}

/* Sends what is due, of all connections. Returns when the next one is; the end if none is before. */
static int64_t send_due(void)
{
    int64_t next = end;
    for (int i = 0; i < conns; i++) {
        struct connection *c = &all[i];
        for (;;) {
            int64_t now = load_now(), due = due_of(c, c->sent);
            if (due > now || due >= end) {
                next = due < next ? due : next;
                break;
            }
            char request[REQUEST];
            write_request(request, c->sent++);
            load_expect(write(fds[i].fd, request, REQUEST) == REQUEST, "write");
            if (due >= start && now - due > late_max)
                late_max = now - due;
        }
    }
    return next;
}

static void take_answer(struct connection *c, int64_t now)
{
    char due_answer[REQUEST];
    write_request(due_answer, c->answered);
    load_expect(memcmp(c->answer + 8, due_answer + 8, REQUEST - 8) == 0, "wrong answer");
    memcpy(&beside_last, c->answer, sizeof beside_last);
    beside_last_at = now;
    if (beside_first < 0) {
        beside_first = beside_last;
        beside_first_at = now;
    }
    int64_t due = due_of(c, c->answered++);
    received++;
    if (due >= start) {
        load_latency(now - due);
        counted++;
    }
}

static void receive(int i)
{
    struct connection *c = &all[i];
    for (;;) {
        ssize_t n = read(fds[i].fd, c->answer + c->got, REQUEST - c->got);
        if (n < 0 && errno == EAGAIN)
            return;
        load_expect(n > 0, "read");
        c->got += (size_t)n;
        if (c->got < REQUEST)
            continue;
        c->got = 0;
        take_answer(c, load_now());
    }
}

static long on_the_way(void)
{
    long n = 0;
    for (int i = 0; i < conns; i++)
        n += all[i].sent - all[i].answered;
    return n;
}

/* Waits for answers until a point in time, and takes them. */
static void receive_until(int64_t until)
{
    int64_t left = until - load_now();
    left = left < 0 ? 0 : left;
    struct timespec t = { left / SECOND, left % SECOND };
    if (ppoll(fds, (nfds_t)conns, &t, NULL) <= 0)
        return;
    for (int i = 0; i < conns; i++)
        if (fds[i].revents)
            receive(i);
}

/* Requests that have no answer when the patience is over count with what they have waited. */
static long give_up(void)
{
    long unanswered = 0;
    int64_t now = load_now();
    for (int i = 0; i < conns; i++)
        for (long k = all[i].answered; k < all[i].sent; k++)
            if (due_of(&all[i], k) >= start) {
                load_latency(now - due_of(&all[i], k));
                counted++;
                unanswered++;
            }
    return unanswered;
}

int main(int argc, char **argv)
{
    (void)argc;
    conns = (int)load_arg(argv, "conns", 32);
    every = (int64_t)(load_arg(argv, "every_us", 8000) * 1e3);
    double seconds = load_arg(argv, "seconds", 2), warmup = load_arg(argv, "warmup", .3);
    load_expect(conns > 0 && conns <= CONNS_MAX && every > 0 && seconds > 0, "arguments");

    for (int i = 0; i < conns; i++)
        connect_to(i, (int)load_arg(argv, "port", 9000));
    int64_t now = load_now();
    start = now + (int64_t)(warmup * 1e9);
    end = start + (int64_t)(seconds * 1e9);
    last = end + (int64_t)(load_arg(argv, "patience", 10) * 1e9);
    for (int i = 0; i < conns; i++)
        all[i].first_due = now + every * i / conns;

    while (load_now() < end)
        receive_until(send_due());
    while (on_the_way() > 0 && load_now() < last)
        receive_until(last);

    long unanswered = give_up();
    double beside_s = (double)(beside_last_at - beside_first_at) / 1e9;
    load_expect(counted > 0, "no request was due");
    load_print(counted, received > 0 ? received : 1, seconds);
    printf(",\"max_us\":%.1f,\"late_max_us\":%.1f,\"unanswered\":%ld,\"beside_per_s\":%.1f}\n",
            load_percentile(counted, 1), (double)late_max / 1e3, unanswered,
            beside_s > 0 ? (double)(beside_last - beside_first) / beside_s : 0);
    return 0;
}
