/* stress/sockets.c - descriptors that close under their readers and writers, bursts of connections, ends of streams.
 *
 * Sessions close one end while calls are in flight on it, so numbers are reused all the time: by other sessions, by
 * bursts of connections to listeners with several acceptors, by streams that several tasks read at once.
 *
 * Law       no byte ever arrives on a foreign connection: every byte of a session is its tag; every call on a closed
 *           descriptor returns; every connection is accepted; what was written is read once, by somebody, and each
 *           reader is told the end; a read that timed out took nothing. */
#include "support.h"

#include <sys/socket.h>

#include "event/poller.h"

enum { ACCEPTORS = 4, READERS = 4, BULK = 2 << 20, LATE_MS = SCALED(8000, 40000) };

static atomic_ulong n_sessions, n_under, n_bytes, n_bursts, n_accepted, n_streams, n_timeouts;
static const struct stress_need needs[] = {
    { "sessions", &n_sessions, 1, 8 }, /* several ms each, most of it memory */
    { "closed under their calls", &n_under, 1, 4 },
    { "tagged bytes", &n_bytes, 0, 100000 },
    { "bursts", &n_bursts, 0, 20 },
    { "connections accepted", &n_accepted, 0, 200 },
    { "streams", &n_streams, 0, 50 },
    { "reads that timed out", &n_timeouts, 0, 5 },
};

static void no_time_wait(int fd)
{
    struct linger now = { .l_onoff = 1 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* fails on nothing that matters */
}

/* Two connected ends, by TCP through `listener`, which nobody else uses, or a pair. */
static void link_up(int listener, bool tcp, int fds[2])
{
    if (!tcp) {
        CHECK(weft_pair(fds) == 0, "weft_pair");
        return;
    }
    weft_addr where;
    char text[64];
    CHECK(weft_addr_local(listener, &where) == 0 && weft_addr_text(&where, text, sizeof text) > 0, "address");
    CHECK((fds[0] = weft_connect(text, NULL)) >= 0, "weft_connect: %s", weft_strerror(fds[0]));
    CHECK((fds[1] = weft_accept(listener)) >= 0, "weft_accept: %s", weft_strerror(fds[1]));
    no_time_wait(fds[0]);
    no_time_wait(fds[1]);
}

static int own_listener(void)
{
    int fd = weft_listen("127.0.0.1:0", NULL);
    CHECK(fd >= 0, "weft_listen: %s", weft_strerror(fd));
    return fd;
}

static struct weft__slot *slot_of(int fd)
{
    struct weft__slot *slot;
    CHECK(weft__slot_enter(fd, &slot) == 0, "slot");
    weft__slot_leave(slot);
    return slot;
}

/* How many calls are on it. One that begins after a close would meet another's descriptor, under the same number: so all
 * have to be in before one closes it. */
static int calls_on(struct weft__slot *slot)
{
    return (int)(at_load(&slot->life) & UINT32_MAX);
}

/* ---- sessions: one end is closed while calls are in flight on it */

struct call {
    int fd;
    unsigned char tag;
    uint64_t chance;
    atomic_bool shut; /* it is shut down instead */
};

static void check_tag(const unsigned char *bytes, size_t n, unsigned char tag)
{
    if (bytes[0] != tag || memcmp(bytes, bytes + 1, n - 1) != 0) /* quick, for the most part */
        for (size_t i = 0; i < n; i++)
            CHECK(bytes[i] == tag, "a byte of connection %d arrived on %d", bytes[i], tag);
    atomic_fetch_add(&n_bytes, n);
}

static bool is_end(int rc)
{
    return rc == -EPIPE || rc == -ECONNRESET;
}

/* One call for the whole session: what it read is lost, but for its tag. */
static int read_all(void *arg)
{
    struct call *c = arg;
    unsigned char *bytes = malloc(BULK);
    CHECK(bytes, "no memory");
    memset(bytes, c->tag, BULK);
    int rc = weft_read_all(c->fd, bytes, BULK);
    CHECK(rc == -EBADF || rc == BULK || ((rc == 0 || rc == -ENODATA || is_end(rc)) && atomic_load(&c->shut)),
            "read_all under close: %s", weft_strerror(rc));
    check_tag(bytes, BULK, c->tag);
    free(bytes);
    return 0;
}

static int write_all(void *arg)
{
    struct call *c = arg;
    unsigned char *bytes = malloc(BULK);
    CHECK(bytes, "no memory");
    memset(bytes, c->tag, BULK);
    int rc = weft_write_all(c->fd, bytes, BULK);
    CHECK(rc == -EBADF || rc == 0 || (is_end(rc) && atomic_load(&c->shut)), "write_all under close: %s",
            weft_strerror(rc));
    free(bytes);
    return 0;
}

/* The other end: until it is told that the session is over. */
static int pour(void *arg)
{
    struct call *c = arg;
    struct chance ch = { c->chance };
    unsigned char bytes[4096];
    memset(bytes, c->tag, sizeof bytes);
    int rc;
    while ((rc = weft_write(c->fd, bytes, 1 + chance_below(&ch, sizeof bytes))) > 0) {
        stress_moved();
        if (chance_one_in(&ch, 8) && (rc = weft_sleep(chance_below(&ch, 100000))) < 0)
            break;
    }
    CHECK(is_end(rc), "the other end's write: %s", weft_strerror(rc));
    return 0;
}

static int drain(void *arg)
{
    struct call *c = arg;
    struct chance ch = { c->chance };
    unsigned char bytes[4096];
    int rc;
    while ((rc = weft_read(c->fd, bytes, 1 + chance_below(&ch, sizeof bytes))) > 0) {
        check_tag(bytes, (size_t)rc, c->tag);
        stress_moved();
        if (chance_one_in(&ch, 8) && (rc = weft_yield()) < 0)
            break;
    }
    CHECK(rc == 0 || is_end(rc), "the other end's read: %s", weft_strerror(rc));
    return 0;
}

static void one_session(int listener, struct chance *c)
{
    static atomic_uint tags;
    int fds[2], readers = (int)chance_below(c, READERS) + 1, writers = (int)chance_below(c, 3), rc = 0;
    unsigned char tag = (unsigned char)(atomic_fetch_add(&tags, 1) % 251);
    weft_scope s;
    link_up(listener, chance_one_in(c, 2), fds);
    struct weft__slot *slot = slot_of(fds[0]);
    struct call here = { .fd = fds[0], .tag = tag }, there[2] = {
        { .fd = fds[1], .tag = tag, .chance = chance_bits(c) }, { .fd = fds[1], .tag = tag, .chance = chance_bits(c) }
    };
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < readers; i++)
        weft_spawn(&s, read_all, &here);
    for (int i = 0; i < writers; i++)
        weft_spawn(&s, write_all, &here);
    weft_spawn(&s, pour, &there[0]);
    weft_spawn(&s, drain, &there[1]);
    /* All are in their one call, or some have ended already: then there is nothing to be seen. */
    for (int i = 0; i < 500 && calls_on(slot) < readers + writers && rc == 0; i++)
        rc = weft_sleep(20000);
    CHECK(rc == 0, "sleep");
    bool all_in = calls_on(slot) == readers + writers;
    if (all_in) {
        if (chance_one_in(c, 2))
            weft_ignore(weft_sleep(chance_below(c, 500000)));
        else
            stutter(c);
        atomic_fetch_add(&n_under, 1);
        CHECK(weft_close(fds[0]) == 0, "weft_close");
    } else {
        atomic_store(&here.shut, true);
        weft_ignore(weft_shutdown(fds[0], SHUT_RDWR));
        weft_ignore(weft_shutdown(fds[1], SHUT_RDWR)); /* TCP tells a writer nothing while its peer's window is shut */
    }
    rc = weft_scope_end(&s, 0);
    CHECK(rc == 0, "the session ended with %s", weft_strerror(rc));
    CHECK(all_in || weft_close(fds[0]) == 0, "weft_close after a shutdown");
    CHECK(weft_close(fds[1]) == 0, "weft_close of the other end");
    atomic_fetch_add(&n_sessions, 1);
}

static int sessions(void *arg)
{
    struct chance c = chance_of(1, (uint64_t)(uintptr_t)arg);
    int listener = own_listener();
    while (!stress_over_when(needs, COUNT(needs)))
        one_session(listener, &c);
    return weft_close(listener);
}

/* ---- bursts: several acceptors on one listener */

struct burst {
    int listener;
    char where[64];
    uint64_t number;
};

static int answer(void *arg)
{
    int fd;
    unsigned char bytes[8];
    memcpy(&fd, arg, sizeof fd);
    CHECK(weft_read_all(fd, bytes, sizeof bytes) == sizeof bytes, "no greeting");
    CHECK(weft_write_all(fd, bytes, sizeof bytes) == 0, "the answer");
    CHECK(weft_read(fd, bytes, 1) == 0, "the end after the greeting");
    return weft_close(fd);
}

static int acceptor(void *arg)
{
    struct burst *b = arg;
    weft_scope s;
    int fd;
    weft_scope_begin(&s, WEFT_NEVER);
    while ((fd = weft_accept(b->listener)) >= 0) {
        atomic_fetch_add(&n_accepted, 1);
        weft_spawn_copy(&s, answer, &fd, sizeof fd);
    }
    CHECK(fd == -EBADF, "weft_accept: %s", weft_strerror(fd));
    return weft_scope_end(&s, 0);
}

static int greet(void *arg)
{
    struct burst *b = arg;
    uint64_t sent = chance_mix((uint64_t)weft_task_self()), got = 0;
    int fd = weft_connect(b->where, NULL);
    CHECK(fd >= 0, "weft_connect: %s", weft_strerror(fd));
    CHECK(weft_write_all(fd, &sent, sizeof sent) == 0, "the greeting");
    int rc = weft_shutdown(fd, SHUT_WR); /* data and the end at once */
    CHECK(rc == 0, "shutdown: %s", weft_strerror(rc));
    rc = weft_read_all(fd, &got, sizeof got);
    CHECK(rc == sizeof got, "a connection was forgotten: %s", weft_strerror(rc));
    CHECK(got == sent, "the answer of another connection");
    stress_moved();
    CHECK(weft_read(fd, &got, 1) == 0, "the end after the answer");
    return weft_close(fd);
}

static int bursts(void *arg)
{
    struct burst b = { .number = (uint64_t)(uintptr_t)arg };
    struct chance c = chance_of(2, b.number);
    weft_addr a;
    weft_scope s;
    if (b.number % 2 == 0) {
        b.listener = own_listener();
        CHECK(weft_addr_local(b.listener, &a) == 0 && weft_addr_text(&a, b.where, sizeof b.where) > 0, "address");
    } else {
        snprintf(b.where, sizeof b.where, "unix:@weft-stress-%d-%d", (int)getpid(), (int)b.number);
        b.listener = weft_listen(b.where, NULL);
        CHECK(b.listener >= 0, "weft_listen: %s", weft_strerror(b.listener));
    }
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < ACCEPTORS; i++)
        weft_spawn(&s, acceptor, &b);
    while (!stress_over_when(needs, COUNT(needs))) {
        weft_scope burst;
        weft_scope_begin(&burst, weft_ms(LATE_MS));
        for (int n = 1 + (int)chance_below(&c, SCALED(40, 10)); n > 0; n--)
            weft_spawn(&burst, greet, &b);
        int rc = weft_scope_end(&burst, 0);
        CHECK(rc == 0, "a burst ended with %s", weft_strerror(rc));
        atomic_fetch_add(&n_bursts, 1);
        CHECK(weft_sleep(chance_below(&c, 4000000)) == 0, "sleep"); /* and the ports last */
    }
    for (struct weft__slot *slot = slot_of(b.listener); calls_on(slot) < ACCEPTORS;) /* the last one answered is back soon */
        CHECK(weft_sleep(20000) == 0, "sleep");
    CHECK(weft_close(b.listener) == 0, "weft_close");
    return weft_scope_end(&s, 0);
}

/* ---- streams: several readers of one descriptor, the end right behind the data, the answer over a half closed one */

struct stream {
    int fd;
    uint64_t chance;
    atomic_ulong got, sum;
};

static int share(void *arg)
{
    struct stream *st = arg;
    struct chance c = chance_of(3, (uint64_t)weft_task_self());
    unsigned char bytes[3000];
    int rc;
    do {
        weft_scope s;
        bool hasty = chance_one_in(&c, 4);
        weft_scope_begin(&s, hasty ? chance_below(&c, 200000) : WEFT_NEVER);
        rc = weft_scope_end(&s, weft_read(st->fd, bytes, 1 + chance_below(&c, sizeof bytes)));
        if (rc == -ETIMEDOUT && hasty) { /* it took nothing: the sum tells */
            atomic_fetch_add(&n_timeouts, 1);
            continue;
        }
        CHECK(rc >= 0, "a stream's read: %s", weft_strerror(rc));
        uint64_t sum = 0;
        for (int i = 0; i < rc; i++)
            sum += bytes[i];
        atomic_fetch_add(&st->sum, sum);
        atomic_fetch_add(&st->got, (unsigned long)rc);
    } while (rc != 0);
    return 0;
}

static void one_stream(int listener, struct chance *c)
{
    int fds[2], kind = (int)chance_below(c, 3);
    unsigned char bytes[5000];
    uint64_t sent = 0, sum = 0, answer_got = 0;
    weft_scope s;
    if (kind == 2)
        CHECK(pipe(fds) == 0, "pipe");
    else
        link_up(listener, kind == 1, fds);
    if (kind == 2) { /* pipe's order is the other way round */
        int read_end = fds[0];
        fds[0] = fds[1];
        fds[1] = read_end;
    }
    struct stream st = { .fd = fds[1] };
    weft_scope_begin(&s, weft_ms(LATE_MS));
    for (int i = (int)chance_below(c, READERS); i >= 0; i--)
        weft_spawn(&s, share, &st);
    for (int turns = (int)chance_below(c, 12); turns > 0; turns--) {
        size_t n = 1 + chance_below(c, sizeof bytes);
        for (size_t i = 0; i < n; i++)
            sum += bytes[i] = (unsigned char)(sent + i);
        sent += n;
        CHECK(weft_write_all(fds[0], bytes, n) == 0, "a stream's write");
        if (chance_one_in(c, 3))
            CHECK(weft_sleep(chance_below(c, 200000)) == 0, "sleep");
    }
    CHECK(kind == 2 ? weft_close(fds[0]) == 0 : weft_shutdown(fds[0], SHUT_WR) == 0, "the end");
    int rc = weft_scope_end(&s, 0);
    CHECK(rc == 0, "a stream ended with %s: a reader was not told the end", weft_strerror(rc));
    CHECK(st.got == sent && st.sum == sum, "%lu bytes were read, %llu written", st.got, (unsigned long long)sent);
    if (kind != 2) { /* the other half is still open */
        CHECK(weft_write_all(fds[1], &sum, sizeof sum) == 0, "the answer");
        CHECK(weft_read_all(fds[0], &answer_got, sizeof answer_got) == sizeof answer_got && answer_got == sum,
                "the answer over a half closed connection");
        CHECK(weft_close(fds[0]) == 0, "weft_close");
    }
    CHECK(weft_close(fds[1]) == 0, "weft_close");
    atomic_fetch_add(&n_streams, 1);
    stress_moved();
}

static int streams(void *arg)
{
    struct chance c = chance_of(4, (uint64_t)(uintptr_t)arg);
    int listener = own_listener();
    while (!stress_over_when(needs, COUNT(needs)))
        one_stream(listener, &c);
    return weft_close(listener);
}

static int main_task(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uintptr_t i = 0; i < SCALED(8, 4); i++)
        weft_spawn(&s, sessions, (void *)i);
    for (uintptr_t i = 0; i < 4; i++)
        weft_spawn(&s, bursts, (void *)i);
    for (uintptr_t i = 0; i < SCALED(8, 4); i++)
        weft_spawn(&s, streams, (void *)i);
    return weft_scope_end(&s, 0);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "sockets");
    weft_runtime *rt = stress_runtime();
    int rc = weft_runtime_run(rt, main_task, NULL);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
