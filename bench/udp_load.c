/* udp_load.c - the load of udp_echo: a window of datagrams that are on the way, on one socket.
 *
 *     udp_load [port=9000] [window=64] [size=64] [seconds=3] [warmup=0.5] [timeout_ms=200]
 *
 * Owns      `window` places. Each has one numbered datagram on the way, and sends the next one when that is back: so there is
 *           never more in the socket's buffers than the window, and the server's speed is the load's.
 * Checks    that what comes back is what was sent, byte by byte, and belongs to a place.
 * Loss      What is not back after timeout_ms is sent again, and counted in `lost`; should both come back, the second one is
 *           `late`, and no operation. So loss costs time and never stops the load; only a server that says nothing at all
 *           for five seconds does.
 * Latency   from the first sending of a datagram to its answer, to within 3 %.
 * Prints    one line of JSON. It waits for the server to be there before it begins. */
#include "load.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WINDOW_MOST = 4096, SIZE_LEAST = 16, SIZE_MOST = 1400, BATCH = 64 };

#define SILENCE (5 * SECOND)

struct place {
    uint64_t number;
    int64_t first_at, sent_at;
};

static struct {
    int fd;
    size_t size;
    int window;
    int64_t timeout;
    struct place places[WINDOW_MOST];
    int due[WINDOW_MOST], dues; /* places that are to be sent */
    int64_t from, to;           /* what is counted */
    int64_t answer_at, look_at;
    long ops, all, lost, late;
} load;

static struct mmsghdr headers[BATCH];
static struct iovec pieces[BATCH];
static char bytes[BATCH][SIZE_MOST + 1];

/* ---- a datagram: its place, its number, and bytes that follow from the number */

static void fill(char *to, uint32_t place, uint64_t number)
{
    memset(to, 0, SIZE_LEAST);
    memcpy(to, &place, sizeof place);
    memcpy(to + 8, &number, sizeof number);
    for (size_t i = SIZE_LEAST; i < load.size; i++)
        to[i] = (char)(number + i);
}

/* The place that it answers, -1 if it is late. */
static int place_of(const char *got, size_t n)
{
    char due[SIZE_MOST];
    uint32_t place;
    uint64_t number;
    load_expect(n == load.size, "an answer has another length");
    memcpy(&place, got, sizeof place);
    memcpy(&number, got + 8, sizeof number);
    fill(due, place, number);
    load_expect(place < (uint32_t)load.window && memcmp(got, due, load.size) == 0, "an answer is wrong");
    return load.places[place].number == number ? (int)place : -1;
}

static void make_headers(size_t room)
{
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){ bytes[i], room };
        headers[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &pieces[i], .msg_iovlen = 1 } };
    }
}

/* ---- sending and receiving */

/* What the socket takes of what is due; the rest stays so. */
static void send_due(void)
{
    while (load.dues > 0) {
        int n = load.dues < BATCH ? load.dues : BATCH, first = load.dues - n;
        int64_t now = load_now();
        make_headers(load.size);
        for (int i = 0; i < n; i++) {
            struct place *p = &load.places[load.due[first + i]];
            fill(bytes[i], (uint32_t)load.due[first + i], p->number);
            p->first_at = p->first_at ? p->first_at : now;
            p->sent_at = now;
        }
        int sent = sendmmsg(load.fd, headers, (unsigned)n, MSG_DONTWAIT);
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR))
            return;
        load_expect(sent > 0, "sendmmsg");
        memmove(load.due + first, load.due + first + sent, (size_t)(n - sent) * sizeof *load.due);
        load.dues -= sent;
    }
}

static void count(struct place *p, int64_t now)
{
    load.all++;
    if (now >= load.from && load_goes_on(now, load.to, load.ops)) {
        load.ops++;
        load_latency(now - p->first_at);
    }
}

/* What is there. False: nothing. */
static bool receive(void)
{
    make_headers(sizeof bytes[0]);
    int n = recvmmsg(load.fd, headers, BATCH, MSG_DONTWAIT, NULL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    load_expect(n > 0, "recvmmsg");
    int64_t now = load_now();
    load.answer_at = now;
    for (int i = 0; i < n; i++) {
        int place = place_of(bytes[i], headers[i].msg_len);
        if (place < 0) {
            load.late++;
            continue;
        }
        struct place *p = &load.places[place];
        count(p, now);
        p->number++;
        p->first_at = p->sent_at = 0;
        load.due[load.dues++] = place;
    }
    return true;
}

/* A place that is due has sent_at 0, or was to be sent and did not fit: it is not looked at, and not due twice. */
static void find_losses(int64_t now)
{
    static bool is_due[WINDOW_MOST];
    if (now < load.look_at)
        return;
    load.look_at = now + load.timeout / 4;
    load_expect(now - load.answer_at < SILENCE, "the server says nothing");
    memset(is_due, 0, sizeof is_due);
    for (int i = 0; i < load.dues; i++)
        is_due[load.due[i]] = true;
    for (int i = 0; i < load.window; i++)
        if (!is_due[i] && now - load.places[i].sent_at > load.timeout) {
            load.lost++;
            load.due[load.dues++] = i;
        }
}

static void run(void)
{
    for (int64_t now = load_now(); load_goes_on(now, load.to, load.ops); now = load_now()) {
        send_due();
        if (!receive()) {
            struct pollfd p = { .fd = load.fd, .events = (short)(POLLIN | (load.dues > 0 ? POLLOUT : 0)) };
            load_expect(poll(&p, 1, 10) >= 0 || errno == EINTR, "poll");
        }
        find_losses(now);
    }
}

/* ---- beginning */

static void open_socket(int port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    load.fd = socket(AF_INET, SOCK_DGRAM, 0);
    load_expect(load.fd >= 0 && connect(load.fd, (struct sockaddr *)&to, sizeof to) == 0, "socket");
}

/* The server is there when it answers. What comes of these after the first answer is late. */
static void await_server(void)
{
    char probe[SIZE_MOST + 1];
    for (int64_t end = load_now() + PATIENCE;;) {
        struct pollfd p = { .fd = load.fd, .events = POLLIN };
        load_expect(load_now() < end, "no server answers");
        fill(probe, 0, UINT64_MAX);
        if (send(load.fd, probe, load.size, MSG_DONTWAIT) < 0 && errno == ECONNREFUSED)
            (void)poll(NULL, 0, 20);
        else if (poll(&p, 1, 50) == 1 && recv(load.fd, probe, sizeof probe, MSG_DONTWAIT) == (ssize_t)load.size)
            return;
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    double seconds = load_arg(argv, "seconds", 3), warmup = load_arg(argv, "warmup", 0.5);
    load.window = (int)load_arg(argv, "window", 64);
    load.size = (size_t)load_arg(argv, "size", 64);
    load.timeout = (int64_t)(load_arg(argv, "timeout_ms", 200) * 1e6);
    load_expect(load.window > 0 && load.window <= WINDOW_MOST && load.size >= SIZE_LEAST && load.size <= SIZE_MOST &&
            seconds > 0 && load.timeout > 0, "arguments");
    open_socket((int)load_arg(argv, "port", 9000));
    await_server();

    load.answer_at = load_now();
    load.from = load.answer_at + (int64_t)(warmup * 1e9);
    load.to = load.from + (int64_t)(seconds * 1e9);
    for (int i = 0; i < load.window; i++)
        load.due[load.dues++] = i;
    run();
    load_expect(load.ops > 0, "no answer came");
    load_print(load.ops, load.all, seconds);
    printf(",\"lost\":%ld,\"late\":%ld}\n", load.lost, load.late);
    return 0;
}
