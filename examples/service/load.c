/* load.c - real clients for the service, in a process of their own: one thread, epoll, no weft.
 *
 * Use       load 127.0.0.1:PORT [--connections N] [--depth N] [--seconds N] [--quiet]
 *           Each connection keeps `depth` requests on their way: half of them GET, a third SET, the
 *           rest INCR. It ends after --seconds or by SIGINT, SIGTERM; the status is 0 if every
 *           answer was right.
 * Checks    L1  every answer. A connection works on keys of its own and remembers what it wrote, so
 *               it knows what each answer has to be, to the last byte.
 *           L2  one counter is shared by all connections: each sees it grow, and at the end it is
 *               the number of all their INCRs. One that was lost or done twice would show.
 * Measures  the time from handing a request to the kernel to reading its answer. With a fixed depth
 *           a client waits while the service is slow, and asks less: these are not the latencies
 *           that clients with a fixed rate would see.
 * Tells     the service what it measures, on another connection, twice a second and at the end.
 * Tested    examples/test_examples.py */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    KEYS = 16, /* of each connection */
    DEPTH_MOST = 64,
    FILLER_MOST = 96, /* what makes a value longer */
    REQUEST_MOST = 192,
    IN_BYTES = 16 * 1024,
    COMPLAINTS = 5, /* errors that are printed; all are counted */
    EVENTS = 256,
};

static const int64_t window_ns = 500000000;
static const int64_t drain_ns = 3000000000;

/* --- histogram -------------------------------------------------------------------------------- */

/* Each power of two is cut into 32 buckets, so a bucket is at most 3.2 % wide. */
enum { CUT = 32, CUT_BITS = 5, BUCKETS = 60 * CUT };

struct histogram {
    uint64_t count[BUCKETS];
    uint64_t all;
    int64_t most;
};

static void histogram_add(struct histogram *h, int64_t ns)
{
    uint64_t x = ns < 0 ? 0 : (uint64_t)ns;
    size_t i = x;

    if (x >= CUT) {
        unsigned shift = 63 - (unsigned)__builtin_clzll(x) - CUT_BITS;
        i = (size_t)(shift + 1) * CUT + (size_t)(x >> shift) - CUT;
    }
    h->count[i < BUCKETS ? i : BUCKETS - 1]++;
    h->all++;
    if (ns > h->most)
        h->most = ns;
}

/* The middle of the bucket below whose end the share lies. */
static int64_t histogram_at(const struct histogram *h, double share)
{
    uint64_t rank = (uint64_t)(share * (double)h->all), seen = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        seen += h->count[i];
        if (seen <= rank || h->count[i] == 0)
            continue;
        if (i < CUT)
            return (int64_t)i;
        unsigned shift = (unsigned)(i / CUT - 1);
        int64_t low = (int64_t)((i % CUT + CUT) << shift);
        return low + (int64_t)(((uint64_t)1 << shift) / 2);
    }
    return h->most;
}

/* --- what is asked, and what has to be answered ----------------------------------------------- */

enum kind { GET, SET, INCR_OWN, INCR_SHARED, LAST };

struct request {
    int64_t sent;
    uint64_t want; /* GET: the version, 0 for none; INCR_OWN: the number; LAST: the same */
    uint32_t key;
    uint32_t kind;
};

struct connection {
    int fd; /* negative: lost */
    uint32_t number;
    uint64_t random;
    uint64_t own_counter;
    uint64_t shared_seen;
    uint64_t version[KEYS];
    struct request asked[DEPTH_MOST]; /* a ring: answers come in order */
    size_t asked_first, asked_next;
    size_t in_used, out_used;
    bool wants_room; /* out has bytes that the socket did not take */
    char in[IN_BYTES];
    char out[DEPTH_MOST * REQUEST_MOST];
};

struct load {
    struct sockaddr_in address;
    size_t depth;
    struct connection *connections;
    size_t connection_count, lost;
    int epoll;
    int reporter; /* the side connection; negative: gone */
    long tag;     /* keeps the keys of two runs apart */
    uint64_t shared_asked;
    uint64_t requests, errors;
    bool stopping;
    int64_t started;
    struct histogram window, total;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
    (void)signo;
    interrupted = 1;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void complain(struct load *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct load *l, const char *format, ...)
{
    va_list args;

    if (l->errors++ >= COMPLAINTS)
        return;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static uint64_t next_random(struct connection *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random;
}

/* The value of a key at a version, of a length that varies from version to version. */
static size_t value_text(char *out, const struct connection *c, uint32_t key, uint64_t version)
{
    int head = sprintf(out, "%" PRIu32 ".%" PRIu32 ".%" PRIu64 ".", c->number, key, version);
    size_t n = (size_t)head;
    size_t filler = (size_t)(version * 31 + key * 7) % FILLER_MOST;

    memset(out + n, 'a' + (int)(version % 26), filler);
    return n + filler;
}

/* Appends a request and notes what its answer has to be. */
static void ask(struct load *l, struct connection *c, enum kind kind, int64_t now)
{
    struct request *r = &c->asked[c->asked_next++ % DEPTH_MOST];
    char *out = c->out + c->out_used;
    int n = 0;

    r->sent = now;
    r->kind = kind;
    r->key = (uint32_t)(next_random(c) >> 32) % KEYS;
    switch (kind) {
    case GET:
        r->want = c->version[r->key];
        n = sprintf(out, "GET %ld.%" PRIu32 ".%" PRIu32 "\n", l->tag, c->number, r->key);
        break;
    case SET:
        r->want = ++c->version[r->key];
        n = sprintf(out, "SET %ld.%" PRIu32 ".%" PRIu32 " ", l->tag, c->number, r->key);
        n += (int)value_text(out + n, c, r->key, r->want);
        out[n++] = '\n';
        break;
    case INCR_OWN:
        r->want = ++c->own_counter;
        n = sprintf(out, "INCR %ld.%" PRIu32 ".own\n", l->tag, c->number);
        break;
    case INCR_SHARED:
        r->want = 0;
        l->shared_asked++;
        n = sprintf(out, "INCR %ld.shared\n", l->tag);
        break;
    case LAST:
        r->want = l->shared_asked;
        n = sprintf(out, "GET %ld.shared\n", l->tag);
        break;
    }
    c->out_used += (size_t)n;
}

static enum kind choose(struct connection *c)
{
    uint64_t dice = (next_random(c) >> 32) % 24;
    if (dice < 12)
        return GET;
    if (dice < 20)
        return SET;
    return dice < 23 ? INCR_OWN : INCR_SHARED;
}

/* L1 and L2. */
static bool is_right(struct connection *c, const struct request *r, const char *line, size_t len)
{
    char want[REQUEST_MOST];
    size_t n = 6;

    memcpy(want, "VALUE ", n);
    switch ((enum kind)r->kind) {
    case SET:
        return len == 2 && memcmp(line, "OK", 2) == 0;
    case GET:
        if (r->want == 0)
            return len == 4 && memcmp(line, "NONE", 4) == 0;
        n += value_text(want + n, c, r->key, r->want);
        break;
    case INCR_OWN:
    case LAST:
        if (r->kind == LAST && r->want == 0)
            return len == 4 && memcmp(line, "NONE", 4) == 0;
        n += (size_t)sprintf(want + n, "%" PRIu64, r->want);
        break;
    case INCR_SHARED: {
        if (len <= n || memcmp(line, want, n) != 0)
            return false;
        uint64_t seen = strtoull(line + n, NULL, 10); /* ends at the newline */
        bool grown = seen > c->shared_seen;
        c->shared_seen = seen;
        return grown;
    }
    }
    return len == n && memcmp(line, want, n) == 0;
}

/* --- connections ------------------------------------------------------------------------------ */

static size_t on_their_way(const struct connection *c)
{
    return c->asked_next - c->asked_first;
}

static void lose(struct load *l, struct connection *c, const char *why)
{
    complain(l, "connection %" PRIu32 ": %s", c->number, why);
    close(c->fd);
    c->fd = -1;
    c->asked_first = c->asked_next;
    l->lost++;
}

static void watch_room(struct load *l, struct connection *c, bool wanted)
{
    struct epoll_event e = { .events = EPOLLIN | (wanted ? (uint32_t)EPOLLOUT : 0), .data.ptr = c };
    if (c->wants_room != wanted && epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &e) == 0)
        c->wants_room = wanted;
}

static void push(struct load *l, struct connection *c)
{
    ssize_t n = send(c->fd, c->out, c->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        lose(l, c, strerror(errno));
        return;
    }
    if (n > 0) {
        c->out_used -= (size_t)n;
        memmove(c->out, c->out + n, c->out_used);
    }
    watch_room(l, c, c->out_used > 0);
}

/* Sends what brings the connection to its depth again. */
static void refill(struct load *l, struct connection *c)
{
    if (l->stopping || c->fd < 0 || on_their_way(c) >= l->depth)
        return;
    int64_t now = now_ns();
    while (on_their_way(c) < l->depth && sizeof c->out - c->out_used >= REQUEST_MOST)
        ask(l, c, choose(c), now);
    push(l, c);
}

/* Checks every whole line of `in`. */
static void take_answers(struct load *l, struct connection *c)
{
    int64_t now = now_ns();
    char *line = c->in, *end = c->in + c->in_used, *newline;

    while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        if (on_their_way(c) == 0) {
            lose(l, c, "an answer without a request");
            return;
        }
        const struct request *r = &c->asked[c->asked_first++ % DEPTH_MOST];
        l->requests++;
        histogram_add(&l->window, now - r->sent);
        histogram_add(&l->total, now - r->sent);
        if (!is_right(c, r, line, (size_t)(newline - line)))
            complain(l, "connection %" PRIu32 ": wrong answer to request kind %" PRIu32 ": %.*s",
                    c->number, r->kind, (int)(newline - line), line);
        line = newline + 1;
    }
    c->in_used = (size_t)(end - line);
    memmove(c->in, line, c->in_used);
}

static void pull(struct load *l, struct connection *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_used, sizeof c->in - c->in_used, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        lose(l, c, n == 0 ? "closed by the service" : strerror(errno));
        return;
    }
    c->in_used += (size_t)n;
    take_answers(l, c);
    if (c->fd >= 0 && c->in_used == sizeof c->in)
        lose(l, c, "an answer without an end");
    refill(l, c);
}

static int dial(const struct load *l)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&l->address, sizeof l->address) < 0) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static bool connect_all(struct load *l)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    l->reporter = dial(l);
    for (size_t i = 0; i < l->connection_count; i++) {
        struct connection *c = &l->connections[i];
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
        c->number = (uint32_t)i;
        c->random = 0x9e3779b97f4a7c15u * (i + 1);
        c->fd = dial(l);
        if (c->fd < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) < 0) {
            fprintf(stderr, "load: connection %zu: %s\n", i, strerror(errno));
            return false;
        }
    }
    return true;
}

/* --- telling the service ---------------------------------------------------------------------- */

static void tell(struct load *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct load *l, const char *format, ...)
{
    char text[256];
    va_list args;

    if (l->reporter < 0)
        return;
    while (recv(l->reporter, text, sizeof text, MSG_DONTWAIT) > 0)
        ; /* earlier answers are not looked at */
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (send(l->reporter, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n) {
        close(l->reporter);
        l->reporter = -1;
    }
}

static void tell_window(struct load *l)
{
    tell(l, "REPORT window %" PRId64 " %" PRId64 " %" PRIu64 "\n", histogram_at(&l->window, 0.5),
            histogram_at(&l->window, 0.99), l->errors);
    memset(&l->window, 0, sizeof l->window);
}

static int64_t cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
           (int64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static void tell_total(struct load *l, int64_t ran_ns)
{
    struct timeval patience = { .tv_sec = 2 };
    char answer[64];

    tell(l,
            "REPORT total %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
            " %" PRId64 " %" PRId64 " %zu\n",
            l->requests, l->errors, histogram_at(&l->total, 0.5), histogram_at(&l->total, 0.99),
            histogram_at(&l->total, 0.999), l->total.most, cpu_ns(), ran_ns, l->connection_count);
    if (l->reporter < 0)
        return;
    /* It has arrived when it was answered. */
    setsockopt(l->reporter, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (recv(l->reporter, answer, sizeof answer, 0) < 0 && errno == EINTR)
        ;
    close(l->reporter);
}

/* --- the run ---------------------------------------------------------------------------------- */

static bool all_answered(const struct load *l)
{
    for (size_t i = 0; i < l->connection_count; i++)
        if (on_their_way(&l->connections[i]) > 0)
            return false;
    return true;
}

/* Handles events until a point in time; when stopping, until all is answered. */
static void work_until(struct load *l, int64_t end)
{
    struct epoll_event events[EVENTS];
    int64_t report_at = now_ns() + window_ns;

    for (int64_t now = now_ns(); now < end && !(interrupted && !l->stopping); now = now_ns()) {
        if (l->lost == l->connection_count || (l->stopping && all_answered(l)))
            return;
        if (now >= report_at && !l->stopping) {
            tell_window(l);
            report_at += window_ns;
        }
        int n = epoll_wait(l->epoll, events, EVENTS, 50);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && (events[i].events & EPOLLOUT) != 0)
                push(l, c);
            if (c->fd >= 0 && (events[i].events & ~(uint32_t)EPOLLOUT) != 0)
                pull(l, c);
        }
    }
}

static struct connection *first_living(struct load *l)
{
    for (size_t i = 0; i < l->connection_count; i++)
        if (l->connections[i].fd >= 0)
            return &l->connections[i];
    return NULL;
}

static void run(struct load *l, int64_t length)
{
    l->started = now_ns();
    for (size_t i = 0; i < l->connection_count; i++)
        refill(l, &l->connections[i]);
    work_until(l, l->started + length);

    l->stopping = true;
    work_until(l, now_ns() + drain_ns);
    if (!all_answered(l))
        complain(l, "some requests were not answered within 3 seconds");
    struct connection *c = first_living(l);
    if (c == NULL || l->lost > 0)
        return; /* whether what a lost connection asked was done, nobody can say */

    ask(l, c, LAST, now_ns()); /* L2 */
    push(l, c);
    work_until(l, now_ns() + drain_ns);
    if (!all_answered(l))
        complain(l, "the last request was not answered within 3 seconds");
}

static void print_summary(const struct load *l, int64_t ran_ns)
{
    printf("%" PRIu64 " requests, %.0f a second, %" PRIu64 " errors\n", l->requests,
            (double)l->requests * 1e9 / (double)ran_ns, l->errors);
    printf("latency p50 %.1f us, p99 %.1f us, p99.9 %.1f us, longest %.1f us\n",
            (double)histogram_at(&l->total, 0.5) / 1e3, (double)histogram_at(&l->total, 0.99) / 1e3,
            (double)histogram_at(&l->total, 0.999) / 1e3, (double)l->total.most / 1e3);
}

static bool parse_address(const char *text, struct sockaddr_in *out)
{
    char host[32];
    unsigned port;

    memset(out, 0, sizeof *out);
    out->sin_family = AF_INET;
    if (sscanf(text, "%31[0-9.]:%5u", host, &port) != 2 || port < 1 || port > 65535)
        return false;
    out->sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, host, &out->sin_addr) == 1;
}

static bool parse(int argc, char **argv, struct load *l, long *seconds, bool *quiet)
{
    long connections = 64, depth = 1;

    if (argc < 2 || !parse_address(argv[1], &l->address))
        return false;
    for (int i = 2; i < argc; i++) {
        long *out = NULL;
        if (strcmp(argv[i], "--quiet") == 0)
            *quiet = true;
        else if (strcmp(argv[i], "--connections") == 0)
            out = &connections;
        else if (strcmp(argv[i], "--depth") == 0)
            out = &depth;
        else if (strcmp(argv[i], "--seconds") == 0)
            out = seconds;
        else
            return false;
        if (out != NULL && (++i == argc || (*out = atol(argv[i])) <= 0))
            return false;
    }
    l->connection_count = (size_t)connections;
    l->depth = (size_t)depth;
    return connections <= 100000 && depth <= DEPTH_MOST && *seconds <= 1000000;
}

int main(int argc, char **argv)
{
    static struct load l; /* starts as zeros; two histograms are too much for some stacks */
    struct sigaction stop = { .sa_handler = on_signal };
    long seconds = 10;
    bool quiet = false;

    if (!parse(argc, argv, &l, &seconds, &quiet)) {
        fprintf(stderr,
                "use: %s 127.0.0.1:PORT [--connections N] [--depth N] [--seconds N] [--quiet]\n",
                argv[0]);
        return 2;
    }
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    l.tag = (long)getpid();
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    l.connections = calloc(l.connection_count, sizeof *l.connections);
    if (l.epoll < 0 || l.connections == NULL || !connect_all(&l)) {
        fprintf(stderr, "load: could not start: %s\n", strerror(errno));
        return 1;
    }
    run(&l, (int64_t)seconds * 1000000000);
    int64_t ran_ns = now_ns() - l.started;
    tell_total(&l, ran_ns);
    if (!quiet)
        print_summary(&l, ran_ns);
    for (size_t i = 0; i < l.connection_count; i++)
        if (l.connections[i].fd >= 0)
            close(l.connections[i].fd);
    free(l.connections);
    close(l.epoll);
    return l.errors > 0;
}
