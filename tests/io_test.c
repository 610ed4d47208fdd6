/* io_test.c - reading, writing, sockets and other people's descriptors: io.h and net.h seen from
 * outside. */
#include "sched/task.h"
#include "support.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fault.h"
#include "event/poller.h"

static const int worker_counts[] = { 1, 2, 3, 8 };

/* Most tests note what calls returned, by number, and look at it afterwards. */
struct notes {
    int rc[24];
    char text[4][256];
    int fd[8];
    atomic_int flag[4];
    int i;
    int64_t at;
};

/* No spares: who looks whether one is needed opens a file, whose number may be the one that was just closed. */
static int run_notes(weft_fn *fn, struct notes *n, int workers)
{
    return weft_run(fn, n, &(weft_options){ .workers = workers, .spares = -1 });
}

NOINLINE static int flags_of(int fd)
{
    return fcntl(fd, F_GETFL);
}

NOINLINE static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

NOINLINE static int make_pipe(int fds[2], int flags)
{
    return pipe2(fds, O_CLOEXEC | flags) < 0 ? -errno : 0;
}

static void close_fds(const int *fds, int n)
{
    for (int i = 0; i < n; i++)
        close(fds[i]);
}

/* -- streams of every kind -- */

enum stream { PIPE, PIPE_NONBLOCKING, WEFT_PAIR, FOREIGN_PAIR, TCP4, TCP6, UNIX, STREAMS };

static const char *const stream_names[] = { "pipe", "non-blocking pipe", "weft_pair",
    "foreign socket pair", "TCP over IPv4", "TCP over IPv6", "Unix socket" };

static bool have_v6(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* The name of a Unix socket that nobody else uses. */
static void unix_name(char where[64], const char *form)
{
    static atomic_int n;
    char name[40];
    snprintf(name, sizeof name, "weft-io-test-%d-%d", (int)getpid(), atomic_fetch_add(&n, 1));
    snprintf(where, 64, "unix:%s%s", form, name);
}

/* Connects two ends by a listener; in a task or on a plain thread, since the kernel accepts by
 * itself. */
static int open_by_listener(const char *where, int fds[2])
{
    char actual[64];
    int l = weft_listen(where, NULL);
    if (l < 0)
        return l;
    weft_addr a;
    int rc = weft_addr_local(l, &a);
    if (rc >= 0)
        rc = weft_addr_text(&a, actual, sizeof actual);
    if (rc >= 0)
        rc = fds[0] = weft_connect(actual, NULL);
    if (rc >= 0)
        rc = fds[1] = weft_accept(l);
    weft_close(l);
    return rc < 0 ? rc : 0;
}

static int open_stream(enum stream kind, int fds[2])
{
    char where[64];
    int swap;
    switch (kind) {
    case PIPE:
    case PIPE_NONBLOCKING:
        if (make_pipe(fds, kind == PIPE ? 0 : O_NONBLOCK) < 0)
            return -EMFILE;
        swap = fds[0]; /* [0] writes, [1] reads */
        fds[0] = fds[1];
        fds[1] = swap;
        return 0;
    case WEFT_PAIR:
        return weft_pair(fds);
    case FOREIGN_PAIR:
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ? -EMFILE : 0;
    case TCP4:
        return open_by_listener("127.0.0.1:0", fds);
    case TCP6:
        return open_by_listener("[::1]:0", fds);
    case UNIX:
        unix_name(where, "@");
        return open_by_listener(where, fds);
    case STREAMS:
        break;
    }
    return -EINVAL;
}

/* A known sequence, so that a lost, doubled or foreign byte is seen. */
static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

struct transfer {
    int fd[2];
    size_t total, most; /* bytes; at most so many a read */
    bool slow;
    size_t got;
    int write_rc, read_rc, wrong;
    enum stream kind;
    int opened;
    int flags_before, flags_after;
};

static int write_much(void *arg)
{
    struct transfer *t = arg;
    unsigned char *data = malloc(t->total);
    if (!data)
        return -ENOMEM;
    for (size_t i = 0; i < t->total; i++)
        data[i] = byte_at(i);
    t->write_rc = weft_write_all(t->fd[0], data, t->total);
    free(data);
    weft_close(t->fd[0]);
    return 0;
}

static int read_much(void *arg)
{
    struct transfer *t = arg;
    static const size_t sizes[] = { 1, 7, 100, 4096, 65536 };
    unsigned char *buf = malloc(65536);
    if (!buf)
        return -ENOMEM;
    for (int k = 0;; k++) {
        size_t n = sizes[k % COUNT(sizes)];
        t->read_rc = weft_read(t->fd[1], buf, n < t->most ? n : t->most);
        if (t->read_rc <= 0)
            break;
        for (int i = 0; i < t->read_rc; i++)
            t->wrong += buf[i] != byte_at(t->got + (size_t)i);
        t->got += (size_t)t->read_rc;
        if (t->slow && k % 64 == 0 && weft_sleep(weft_us(50)) < 0)
            break;
    }
    free(buf);
    weft_close(t->fd[1]);
    return 0;
}

static int transfer(void *arg)
{
    struct transfer *t = arg;
    t->opened = open_stream(t->kind, t->fd);
    if (t->opened < 0)
        return 0;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    t->flags_before = flags_of(t->fd[1]);
    int keep = dup(t->fd[1]);
    weft_spawn(&s, read_much, t);
    weft_spawn(&s, write_much, t);
    int rc = weft_scope_end(&s, 0);
    t->flags_after = flags_of(keep);
    close(keep);
    return rc;
}

START_TEST(every_kind_of_stream_carries_all_bytes_and_then_its_end)
{
    enum stream kind = (enum stream)(_i / COUNT(worker_counts));
    int workers = worker_counts[_i % COUNT(worker_counts)];
    if (kind == TCP6 && !have_v6())
        return;
    struct transfer t = { .kind = kind, .total = (size_t)fewer(300000, SCALED(3000000, 500000, 200000)), .most = 65536 };
    ck_assert_int_eq(weft_run(transfer, &t, ON(workers)), 0);
    ck_assert_msg(t.opened == 0, "%s: %s", stream_names[kind], weft_strerror(t.opened));
    ck_assert_int_eq(t.write_rc, 0);
    ck_assert_int_eq(t.read_rc, 0);
    ck_assert_uint_eq(t.got, t.total);
    ck_assert_int_eq(t.wrong, 0);
    if (kind == PIPE || kind == PIPE_NONBLOCKING || kind == FOREIGN_PAIR)
        ck_assert_int_eq(t.flags_after, t.flags_before);
}
END_TEST

START_TEST(ten_megabytes_reach_a_slow_reader)
{
    static const enum stream kinds[] = { PIPE, WEFT_PAIR, TCP4 };
    struct transfer t = {
        .kind = kinds[_i], .total = (size_t)fewer(3000000, SCALED(10000000, 3000000, 1000000)), .most = 65536, .slow = true
    };
    ck_assert_int_eq(weft_run(transfer, &t, ON(2)), 0);
    ck_assert_int_eq(t.write_rc, 0);
    ck_assert_int_eq(t.read_rc, 0);
    ck_assert_uint_eq(t.got, t.total);
    ck_assert_int_eq(t.wrong, 0);
}
END_TEST

/* -- the end of a stream -- */

static int half_close(void *arg)
{
    struct notes *n = arg;
    char buf[16];
    int fds[2];
    n->rc[0] = open_stream((enum stream)n->i, fds);
    if (n->rc[0] < 0)
        return 0;
    n->rc[1] = weft_write_all(fds[0], "request", 7);
    n->rc[2] = weft_shutdown(fds[0], SHUT_WR);
    n->rc[3] = weft_read_all(fds[1], buf, 7);
    n->rc[4] = weft_read(fds[1], buf, sizeof buf);  /* the end */
    n->rc[5] = weft_read(fds[1], buf, sizeof buf);  /* and again */
    n->rc[6] = weft_write_all(fds[1], "answer", 6); /* the other way is open */
    n->rc[7] = weft_read_all(fds[0], buf, 6);
    n->rc[8] = memcmp(buf, "answer", 6);
    n->rc[9] = weft_write(fds[0], "x", 1); /* this one is not */
    n->rc[10] = weft_shutdown(fds[1], SHUT_RDWR);
    n->rc[11] = weft_read(fds[0], buf, sizeof buf);
    weft_close(fds[0]);
    weft_close(fds[1]);
    n->rc[12] = weft_shutdown(-1, SHUT_WR);
    n->rc[13] = weft_shutdown(fds[0], SHUT_WR);
    return 0;
}

START_TEST(half_of_a_connection_can_be_closed)
{
    static const enum stream kinds[] = { WEFT_PAIR, FOREIGN_PAIR, TCP4, UNIX };
    struct notes n = { .i = (int)kinds[_i] };
    static const int expected[] = { 0, 0, 0, 7, 0, 0, 0, 6, 0, -EPIPE, 0, 0, -EBADF, -EBADF };
    ck_assert_int_eq(run_notes(half_close, &n, 2), 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(n.rc[i] == expected[i], "%s, step %d: %d", stream_names[n.i], i, n.rc[i]);
}
END_TEST

/* Data and end are there before anybody reads; once on a fresh descriptor, once on one that has
 * parked. */
static int read_after_end(void *arg)
{
    struct notes *n = arg;
    char buf[64] = { 0 };
    int fds[2];
    n->rc[0] = open_stream((enum stream)(n->i / 2), fds);
    if (n->rc[0] < 0)
        return 0;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    if (n->i % 2) { /* one wait first, so that it is registered, with an event behind it */
        weft_scope t;
        weft_scope_begin(&t, weft_ms(1));
        weft_ignore(weft_scope_end(&t, weft_read(fds[1], buf, 1)));
        n->rc[1] = sys_write(fds[0], "1", 1);
        n->rc[1] = weft_read(fds[1], buf, 1);
    } else {
        n->rc[1] = 1;
    }
    n->rc[2] = sys_write(fds[0], "data and end", 12);
    weft_close(fds[0]);
    weft_ignore(weft_sleep(weft_us(200)));
    n->rc[3] = weft_read(fds[1], buf, sizeof buf); /* a short read */
    n->rc[4] = memcmp(buf, "data and end", 12);
    n->rc[5] = weft_read(fds[1], buf, sizeof buf); /* must not wait */
    n->rc[6] = weft_scope_end(&s, 0);
    weft_close(fds[1]);
    return 0;
}

START_TEST(data_with_the_end_behind_it_is_read_to_the_end)
{
    struct notes n = { .i = _i };
    static const int expected[] = { 0, 1, 12, 12, 0, 0, 0 };
    if (_i / 2 == TCP6 && !have_v6())
        return;
    ck_assert_int_eq(run_notes(read_after_end, &n, 2), 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(n.rc[i] == expected[i], "%s, case %d, step %d: %d", stream_names[_i / 2],
                _i % 2, i, n.rc[i]);
}
END_TEST

/* The same while a reader is parked: data and end arrive in one go. */
static int read_to_end(void *arg)
{
    struct notes *n = arg;
    char buf[64];
    atomic_store(&n->flag[0], 1);
    n->rc[0] = weft_read(n->fd[1], buf, sizeof buf);
    n->rc[1] = weft_read(n->fd[1], buf, sizeof buf);
    return 0;
}

static int send_and_end(void *arg)
{
    struct notes *n = arg;
    n->rc[2] = open_stream((enum stream)n->i, n->fd);
    if (n->rc[2] < 0)
        return 0;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_to_end, n);
    wait_for(&n->flag[0], 1);
    n->rc[3] = sys_write(n->fd[0], "data", 4);
    weft_close(n->fd[0]);
    int rc = weft_scope_end(&s, 0);
    weft_close(n->fd[1]);
    return rc;
}

START_TEST(a_parked_reader_gets_data_and_end_that_come_together)
{
    for (int k = 0; k < 50; k++) {
        struct notes n = { .i = _i };
        if (_i == TCP6 && !have_v6())
            return;
        ck_assert_int_eq(run_notes(send_and_end, &n, 1 + k % 3), 0);
        ck_assert_int_eq(n.rc[2], 0);
        ck_assert_int_eq(n.rc[3], 4);
        ck_assert_int_eq(n.rc[0], 4);
        ck_assert_int_eq(n.rc[1], 0);
    }
}
END_TEST

static int exact_reads(void *arg)
{
    struct notes *n = arg;
    char buf[16];
    int fds[2];
    n->rc[0] = weft_pair(fds);
    n->rc[1] = weft_write_all(fds[0], "abcdefgh", 8);
    n->rc[2] = weft_read_all(fds[1], buf, 5);
    n->rc[3] = weft_read_all(fds[1], buf, 0);
    n->rc[4] = weft_shutdown(fds[0], SHUT_WR);
    n->rc[5] = weft_read_all(fds[1], buf, 5); /* three are left */
    n->rc[6] = weft_read_all(fds[1], buf, 5);
    n->rc[7] = weft_write_all(fds[1], NULL, 0);
    n->rc[8] = weft_write(fds[1], "", 0);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return 0;
}

START_TEST(read_all_tells_a_clean_end_from_a_broken_one)
{
    struct notes n = { 0 };
    static const int expected[] = { 0, 0, 5, 0, 0, -ENODATA, 0, 0, 0 };
    ck_assert_int_eq(run_notes(exact_reads, &n, 1), 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(n.rc[i] == expected[i], "step %d: %d", i, n.rc[i]);
}
END_TEST

static int use_vectors(void *arg)
{
    struct notes *n = arg;
    int fds[2];
    char a[2] = { 0 }, b[3] = { 0 };
    struct iovec out[3] = { { "ab", 2 }, { "", 0 }, { "cde", 3 } };
    struct iovec in[3] = { { a, 2 }, { NULL, 0 }, { b, 3 } };
    n->rc[0] = open_stream((enum stream)n->i, fds);
    if (n->rc[0] < 0)
        return 0;
    n->rc[1] = weft_writev(fds[0], out, 3);
    n->rc[2] = weft_readv(fds[1], in, 3);
    n->rc[3] = memcmp(a, "ab", 2) | memcmp(b, "cde", 3);
    n->rc[4] = weft_writev(fds[0], out, 1);
    n->rc[5] = weft_readv(fds[1], in, 3); /* short */
    n->rc[6] = weft_writev(fds[0], out, -1);
    n->rc[7] = weft_readv(fds[1], in, -1);
    n->rc[8] = weft_writev(-1, out, 3);
    n->rc[9] = weft_readv(-1, in, 3);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return 0;
}

START_TEST(vectors_are_read_and_written)
{
    struct notes n = { .i = _i };
    static const int expected[] = { 0, 5, 5, 0, 2, 2, -EINVAL, -EINVAL, -EBADF, -EBADF };
    if (_i == TCP6 && !have_v6())
        return;
    ck_assert_int_eq(run_notes(use_vectors, &n, 1), 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(n.rc[i] == expected[i], "%s, step %d: %d", stream_names[_i], i, n.rc[i]);
}
END_TEST

/* -- several waiters -- */

struct waiters {
    int fd[2];
    int got[8], order[8], n;
    char bytes[9];
    atomic_int parked, served;
    bool wait_only;
    struct one_waiter {
        struct waiters *w;
        int i;
    } ones[8];
};

static int wait_for_one_byte(void *arg)
{
    struct one_waiter *one = arg;
    struct waiters *w = one->w;
    atomic_fetch_add(&w->parked, 1);
    char c = 0;
    w->got[one->i] =
            w->wait_only ? weft_wait_fd(w->fd[1], WEFT_READABLE) : weft_read(w->fd[1], &c, 1);
    w->order[one->i] = atomic_fetch_add(&w->served, 1);
    w->bytes[one->i] = c;
    return 0;
}

static int serve_waiters(struct waiters *w, bool one_at_a_time)
{
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < COUNT(w->ones); i++) {
        w->ones[i] = (struct one_waiter){ w, i };
        weft_spawn(&s, wait_for_one_byte, &w->ones[i]);
        wait_for(&w->parked, i + 1); /* on one worker: it is parked */
    }
    if (one_at_a_time)
        for (int i = 0; i < COUNT(w->ones); i++) {
            w->n += sys_write(w->fd[0], &"abcdefgh"[i], 1);
            wait_for(&w->served, i + 1);
        }
    else
        w->n = sys_write(w->fd[0], "abcdefgh", 8);
    return weft_scope_end(&s, 0);
}

static int serve_in_order(void *arg)
{
    return serve_waiters(arg, true);
}

static int serve_at_once(void *arg)
{
    return serve_waiters(arg, false);
}

static const enum stream waited_kinds[] = { PIPE, WEFT_PAIR, FOREIGN_PAIR, TCP4 };

START_TEST(several_readers_are_served_in_the_order_they_came)
{
    struct waiters w = { .n = 0 };
    ck_assert_int_eq(open_stream(waited_kinds[_i], w.fd), 0);
    int rc = weft_run(serve_in_order, &w, ON(1));
    weft_close(w.fd[0]);
    weft_close(w.fd[1]);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(w.n, 8);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(w.got[i], 1);
        if (chaos())
            continue; /* in what order they came is left to chance: a call may yield before it waits */
        ck_assert_int_eq(w.order[i], i);
        ck_assert_int_eq(w.bytes[i], "abcdefgh"[i]);
    }
}
END_TEST

START_TEST(several_readers_share_what_comes_at_once)
{
    struct waiters w = { .n = 0 };
    ck_assert_int_eq(open_stream(waited_kinds[_i % COUNT(waited_kinds)], w.fd), 0);
    int rc = weft_run(serve_at_once, &w, ON(1 + _i / COUNT(waited_kinds)));
    weft_close(w.fd[0]);
    weft_close(w.fd[1]);
    ck_assert_int_eq(rc, 0);
    int sum = 0;
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(w.got[i], 1);
        sum += w.bytes[i];
    }
    ck_assert_int_eq(sum, 'a' * 8 + 28);
}
END_TEST

START_TEST(several_tasks_wait_for_one_descriptor)
{
    struct waiters w = { .wait_only = true };
    ck_assert_int_eq(open_stream(waited_kinds[_i], w.fd), 0);
    int rc = weft_run(serve_at_once, &w, ON(1));
    weft_close(w.fd[0]);
    weft_close(w.fd[1]);
    ck_assert_int_eq(rc, 0);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(w.got[i], WEFT_READABLE);
        if (!chaos()) /* as above */
            ck_assert_int_eq(w.order[i], i);
    }
}
END_TEST

/* Whose look fails when it was its turn hands that on. */
static int look_in_vain(void *arg)
{
    struct waiters *w = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 2; i++) {
        w->ones[i] = (struct one_waiter){ w, i };
        weft_spawn(&s, wait_for_one_byte, &w->ones[i]);
        wait_for(&w->parked, i + 1);
    }
    weft__fault_set(WEFT__FAULT_POLL, 1, 1, -ENOMEM);
    w->n = sys_write(w->fd[0], "x", 1);
    int rc = weft_scope_end(&s, 0);
    weft__fault_clear();
    return rc;
}

START_TEST(who_cannot_look_passes_its_turn_on)
{
    struct waiters w = { .wait_only = true };
    ck_assert_int_eq(open_stream(waited_kinds[_i], w.fd), 0);
    int rc = weft_run(look_in_vain, &w, ON(1));
    weft_close(w.fd[0]);
    weft_close(w.fd[1]);
    ck_assert_int_eq(rc, 0);
    if (!chaos()) /* else it may be the first look of all that fails */
        ck_assert_int_eq(w.got[0], -ENOMEM);
    ck_assert_int_eq(w.got[0] + w.got[1], WEFT_READABLE - ENOMEM);
}
END_TEST

/* Waits until what has come was seen: no other event will tell of it. */
static bool edge_comes(int fd)
{
    struct weft__slot *s;
    if (weft__slot_enter(fd, &s) < 0)
        return false;
    int64_t end = weft_after(LIMIT);
    while (ati_load(&s->ready[WEFT__READ]) == 0 && weft_now() < end)
        weft_ignore(weft_yield());
    weft__slot_leave(s);
    return weft_now() < end;
}

/* A read stops before a byte that is urgent, or (n->at) behind descriptors, for which it has no room; and there is more. */
static int read_past_mark(void *arg)
{
    struct notes *n = arg;
    char buf[16];
    weft_scope s;
    int64_t end = weft_after(LIMIT);
    do { /* until it is in the set, its first edge used up: its time may be over before it has begun to wait */
        weft_scope_begin(&s, weft_ms(1));
        n->rc[0] = weft_scope_end(&s, weft_read(n->fd[1], buf, sizeof buf));
    } while (n->rc[0] == -ETIMEDOUT && watched_now(n->fd[1]) == 0 && weft_now() < end);
    n->rc[1] = n->at ? weft_send_fds(n->fd[0], "ab", 2, (int[]){ 2 }, 1)
                     : (int)send(n->fd[0], "ab!", 3, MSG_OOB | MSG_NOSIGNAL) - 1;
    n->rc[2] = sys_write(n->fd[0], "cdef", 4);
    n->rc[3] = edge_comes(n->fd[1]);
    weft_scope_begin(&s, LIMIT);
    for (n->i = 0; n->i < 6; n->i += n->rc[4]) {
        char *to = buf + n->i;
        n->rc[4] = n->at == 2 ? weft_readv(n->fd[1], (struct iovec[]){ { to, 1 }, { to + 1, 6 } }, 2)
                              : weft_read(n->fd[1], to, 8);
        if (n->rc[4] <= 0)
            break;
    }
    n->rc[5] = weft_scope_end(&s, 0);
    n->rc[6] = memcmp(buf, "abcdef", 6);
    return 0;
}

START_TEST(what_lies_behind_a_mark_is_read_without_a_new_event)
{
    struct notes n = { .at = _i % 3 };
    ck_assert_int_eq(open_stream(n.at ? WEFT_PAIR : TCP4, n.fd), 0);
    ck_assert_int_eq(run_notes(read_past_mark, &n, worker_counts[_i / 3]), 0);
    ck_assert_int_eq(n.rc[0], -ETIMEDOUT);
    ck_assert_int_eq(n.rc[1], 2);
    ck_assert_int_eq(n.rc[2], 4);
    ck_assert_int_eq(n.rc[3], true);
    ck_assert_int_eq(n.rc[5], 0);
    ck_assert_int_eq(n.i, 6);
    ck_assert_int_eq(n.rc[6], 0);
    weft_close(n.fd[0]);
    weft_close(n.fd[1]);
}
END_TEST

/* Nothing was asked for: nothing is waited for, and nothing taken. */
static int read_nothing(void *arg)
{
    struct notes *n = arg;
    char c = 0, buf[4] = "";
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    n->rc[0] = weft_read(n->fd[1], &c, 0);
    n->rc[1] = weft_readv(n->fd[1], &(struct iovec){ NULL, 0 }, 0);
    n->rc[2] = weft_read_all(n->fd[1], NULL, 0);
    n->rc[3] = weft_write_all(n->fd[0], "x", 1);
    n->rc[4] = weft_read(n->fd[1], &c, 0);
    n->rc[5] = weft_readv(n->fd[1], &(struct iovec){ NULL, 0 }, 0);
    n->rc[6] = weft_read(n->fd[1], buf, sizeof buf); /* less than was asked for: it is known to be empty */
    n->rc[7] = weft_read(n->fd[1], &c, 0);
    return weft_scope_end(&s, buf[0] == 'x' ? 0 : -EPROTO);
}

static int open_datagrams(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) < 0 ? -EMFILE : 0;
}

START_TEST(a_read_of_nothing_takes_nothing)
{
    struct notes n = { .i = 0 };
    int kind = _i / 2;
    if (kind == TCP6 && !have_v6())
        return;
    ck_assert_int_eq(kind == STREAMS ? open_datagrams(n.fd) : open_stream((enum stream)kind, n.fd), 0);
    ck_assert_int_eq(_i % 2 ? run_notes(read_nothing, &n, 1) : read_nothing(&n), 0);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(n.rc[i], i == 6);
    weft_close(n.fd[0]);
    weft_close(n.fd[1]);
}
END_TEST

/* One reads and one writes on the same descriptor. */
static int echo_server(void *arg)
{
    struct notes *n = arg;
    char buf[256];
    int rc;
    while ((rc = weft_read(n->fd[1], buf, sizeof buf)) > 0)
        if ((rc = weft_write_all(n->fd[1], buf, (size_t)rc)) < 0)
            break;
    n->rc[0] = rc;
    weft_close(n->fd[1]);
    return 0;
}

static int send_side(void *arg)
{
    struct notes *n = arg;
    for (int i = 0; i < 2000 && n->rc[1] == 0; i++)
        n->rc[1] = weft_write_all(n->fd[0], "0123456789", 10);
    if (n->rc[1] == 0)
        n->rc[1] = weft_shutdown(n->fd[0], SHUT_WR);
    return 0;
}

static int receive_side(void *arg)
{
    struct notes *n = arg;
    char buf[4096];
    while ((n->rc[2] = weft_read(n->fd[0], buf, sizeof buf)) > 0)
        n->rc[3] += n->rc[2];
    return 0;
}

static int both_ways(void *arg)
{
    struct notes *n = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, echo_server, n);
    weft_spawn(&s, receive_side, n);
    weft_spawn(&s, send_side, n);
    int rc = weft_scope_end(&s, 0);
    weft_close(n->fd[0]);
    return rc;
}

START_TEST(one_task_reads_while_another_writes_on_the_same_descriptor)
{
    static const enum stream kinds[] = { WEFT_PAIR, FOREIGN_PAIR, TCP4, UNIX };
    struct notes n = { .i = 0 };
    ck_assert_int_eq(open_stream(kinds[_i % COUNT(kinds)], n.fd), 0);
    ck_assert_int_eq(run_notes(both_ways, &n, 1 + _i / COUNT(kinds)), 0);
    ck_assert_int_eq(n.rc[0], 0);
    ck_assert_int_eq(n.rc[1], 0);
    ck_assert_int_eq(n.rc[2], 0);
    ck_assert_int_eq(n.rc[3], 20000);
}
END_TEST

/* -- manners towards other people's descriptors -- */

static int use_foreign(void *arg)
{
    struct notes *n = arg;
    char buf[16];
    int k = 0;
    weft_scope s;
    /* Parks on an empty one and on a full one, by deadline; then with success. */
    weft_scope_begin(&s, weft_ms(3));
    n->rc[k++] = weft_scope_end(&s, weft_read(n->fd[0], buf, sizeof buf));
    n->rc[k++] = flags_of(n->fd[0]);
    n->i = fill(n->fd[1]);
    weft_scope_begin(&s, weft_ms(3));
    n->rc[k++] = weft_scope_end(&s, weft_write(n->fd[1], "x", 1));
    n->rc[k++] = flags_of(n->fd[1]);
    n->rc[k++] = drain(n->fd[0]) == n->i;
    n->rc[k++] = weft_write(n->fd[1], "hello", 5);
    n->rc[k++] = weft_read(n->fd[0], buf, sizeof buf);
    n->rc[k++] = flags_of(n->fd[0]);
    n->rc[k++] = flags_of(n->fd[1]);
    return 0;
}

START_TEST(a_foreign_descriptor_keeps_its_flags)
{
    int kinds[] = { 0, O_NONBLOCK };
    for (int socket = 0; socket < 2; socket++) {
        struct notes n = { .i = 0 };
        int made = socket ? socketpair(AF_UNIX,
                                    SOCK_STREAM | SOCK_CLOEXEC | (_i ? SOCK_NONBLOCK : 0), 0, n.fd)
                          : make_pipe(n.fd, kinds[_i]);
        ck_assert_int_eq(made, 0);
        int read_flags = flags_of(n.fd[0]), write_flags = flags_of(n.fd[1]);
        int rc = run_notes(use_foreign, &n, 1);
        close_fds(n.fd, 2);
        ck_assert_int_eq(rc, 0);
        const int expected[] = { -ETIMEDOUT, read_flags, -ETIMEDOUT, write_flags, 1, 5, 5,
            read_flags, write_flags };
        for (int i = 0; i < COUNT(expected); i++)
            ck_assert_msg(n.rc[i] == expected[i], "step %d: %d", i, n.rc[i]);
    }
}
END_TEST

/* A task that waits on a blocking descriptor of others does not hold up its worker. */
static int read_foreign(void *arg)
{
    struct notes *n = arg;
    char c;
    atomic_store(&n->flag[0], 1);
    n->rc[0] = weft_read(n->fd[0], &c, 1);
    return 0;
}

static int write_foreign(void *arg)
{
    struct notes *n = arg;
    atomic_store(&n->flag[1], 1);
    n->rc[1] = weft_write_all(n->fd[3], "0123456789", 10);
    return 0;
}

static int run_beside_foreign(void *arg)
{
    struct notes *n = arg;
    n->i = fill(n->fd[3]);
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_foreign, n);
    weft_spawn(&s, write_foreign, n);
    wait_for(&n->flag[0], 1);
    wait_for(&n->flag[1], 1);
    for (int i = 0; i < 20; i++)
        n->rc[2] += weft_sleep(weft_us(100)) == 0;
    n->rc[3] = sys_write(n->fd[1], "x", 1);
    n->rc[4] = drain(n->fd[2]) >= n->i;
    return weft_scope_end(&s, 0);
}

START_TEST(a_blocking_foreign_descriptor_does_not_hold_up_the_worker)
{
    struct notes n = { .i = 0 };
    ck_assert_int_eq(make_pipe(n.fd, 0), 0);
    ck_assert_int_eq(make_pipe(n.fd + 2, 0), 0);
    int rc = run_notes(run_beside_foreign, &n, 1);
    close_fds(n.fd, 4);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(n.rc[0], 1);
    ck_assert_int_eq(n.rc[1], 0);
    ck_assert_int_eq(n.rc[2], 20);
    ck_assert_int_eq(n.rc[3], 1);
    ck_assert_int_eq(n.rc[4], 1);
}
END_TEST

/* A-061: sockets of the program's own, blocking or not. With one worker the other side comes to its turn only while this one
 * waits without its thread. */
static NOINLINE int own_socket(int type, int flags, weft_addr *bound)
{
    weft_addr a;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | flags, 0);
    if (fd < 0 || weft_addr_parse(&a, "127.0.0.1:0") < 0 || bind(fd, (struct sockaddr *)&a.sa, a.len) < 0 ||
            (type == SOCK_STREAM && listen(fd, 8) < 0) || weft_addr_local(fd, bound) < 0)
        return -EPROTO;
    return fd;
}

/* fd[0] receives datagrams, fd[1] listens; flag[0] and flag[1] before each wait of the other side's. */
struct own {
    struct notes n;
    weft_addr dgram, stream;
    int flags;
};

enum { OWN_BYTES = 1 << 20 };

static NOINLINE int connect_own(const struct own *o, int fd)
{
    return connect(fd, (const struct sockaddr *)&o->stream.sa, o->stream.len) == 0 ? 0 : -errno;
}

static int other_side(void *arg)
{
    struct own *o = arg;
    int error = -1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof error;
    char *bytes = calloc(1, OWN_BYTES);
    if (!bytes || !wait_for(&o->n.flag[0], 1) || weft_send_to(o->n.fd[2], "datagram", 8, &o->dgram) != 8 ||
            !wait_for(&o->n.flag[1], 1))
        return -EPROTO;
    int rc = connect_own(o, fd);
    if (rc == -EINPROGRESS)
        rc = weft_wait_fd(fd, WEFT_WRITABLE) == WEFT_WRITABLE ? 0 : -EPROTO;
    o->n.rc[5] = rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : -EPROTO;
    if (fcntl(fd, F_SETFL, o->flags ? O_RDWR | O_NONBLOCK : O_RDWR) < 0)
        return -EPROTO;
    o->n.rc[6] = weft_write_all(fd, bytes, OWN_BYTES);
    o->n.rc[7] = weft_read(fd, bytes, 8);
    o->n.rc[8] = !(flags_of(fd) & O_NONBLOCK) == !o->flags;
    weft_close(fd);
    free(bytes);
    return 0;
}

static int use_own(void *arg)
{
    struct own *o = arg;
    struct notes *n = &o->n;
    weft_addr from;
    weft_scope s;
    char buf[16], *bytes = malloc(OWN_BYTES);
    n->fd[0] = own_socket(SOCK_DGRAM, o->flags, &o->dgram);
    n->fd[1] = own_socket(SOCK_STREAM, o->flags, &o->stream);
    n->fd[2] = own_socket(SOCK_DGRAM, o->flags, &from);
    if (!bytes || n->fd[0] < 0 || n->fd[1] < 0 || n->fd[2] < 0)
        return -EPROTO;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, other_side, o);
    atomic_store(&n->flag[0], 1);
    n->rc[0] = weft_recv_from(n->fd[0], buf, sizeof buf, &from);
    atomic_store(&n->flag[1], 1);
    int fd = weft_accept(n->fd[1]);
    n->rc[1] = fd >= 0 && weft_read_all(fd, bytes, OWN_BYTES) == OWN_BYTES;
    n->rc[2] = weft_write_all(fd, "goodbye", 7);
    n->rc[3] = weft_scope_end(&s, 0);
    for (int i = 0; i < 3; i++)
        n->rc[4] += !(flags_of(n->fd[i]) & O_NONBLOCK) == !o->flags;
    weft_close(fd);
    for (int i = 0; i < 3; i++)
        weft_close(n->fd[i]);
    free(bytes);
    return 0;
}

START_TEST(the_programs_own_sockets_hold_up_no_worker_and_keep_their_flags)
{
    struct own o = { .flags = _i ? SOCK_NONBLOCK : 0 };
    int before = descriptors_now();
    ck_assert_int_eq(weft_run(use_own, &o, ON(1)), 0);
    const int expected[] = { 8, 1, 0, 0, 3, 0, 0, 7, 1 };
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(o.n.rc[i] == expected[i], "step %d: %d", i, o.n.rc[i]);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* A read(2) that takes fewer bytes than asked on a pipe says nothing about more to come. */
static int short_reads(void *arg)
{
    struct notes *n = arg;
    char buf[100];
    for (int i = 0; i < 100; i++) {
        n->rc[0] += sys_write(n->fd[1], "abc", 3) == 3;
        n->rc[1] += weft_read(n->fd[0], buf, sizeof buf) == 3;
    }
    return 0;
}

START_TEST(short_reads_of_a_pipe_go_on)
{
    struct notes n = { .i = 0 };
    ck_assert_int_eq(make_pipe(n.fd, 0), 0);
    int rc = run_notes(short_reads, &n, 2);
    close_fds(n.fd, 2);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(n.rc[0], 100);
    ck_assert_int_eq(n.rc[1], 100);
}
END_TEST

static bool known_empty(int fd)
{
    struct weft__slot *s;
    if (weft__slot_enter(fd, &s) < 0)
        return false;
    bool empty = (ati_load(&s->drained) & 1u << WEFT__READ) != 0;
    weft__slot_leave(s);
    return empty;
}

static int send_one_more(void *arg)
{
    return weft_write(*(int *)arg, "d", 1) == 1 ? 0 : -EIO;
}

/* An echo is one read and one write: so that the next read waits at once, what the short one has told has to outlive the write. */
static int read_and_write(void *arg)
{
    struct notes *n = arg;
    char buf[100];
    int fds[2], rc = weft_pair(fds);
    weft_scope s;
    if (rc < 0)
        return rc;
    n->rc[0] = (int)weft_write(fds[1], "abc", 3);
    n->rc[1] = (int)weft_read(fds[0], buf, 3);
    n->rc[2] = known_empty(fds[0]); /* it got what it asked for */
    n->rc[3] = (int)weft_write(fds[1], "abc", 3);
    n->rc[4] = (int)weft_read(fds[0], buf, sizeof buf);
    n->rc[5] = known_empty(fds[0]);
    n->rc[6] = (int)weft_write(fds[0], buf, 3);
    n->rc[7] = known_empty(fds[0]);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, send_one_more, &fds[1]);
    n->rc[8] = (int)weft_read(fds[0], buf, sizeof buf);
    rc = weft_scope_end(&s, 0);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return rc;
}

START_TEST(a_write_forgets_nothing_of_a_short_read)
{
    static const int expected[] = { 3, 3, 0, 3, 3, 1, 3, 1, 1 };
    struct notes n = { .i = 0 };
    ck_assert_int_eq(run_notes(read_and_write, &n, 2), 0);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        ck_assert_int_eq(n.rc[i], expected[i]);
}
END_TEST

/* -- descriptors that are no good -- */

static int use_bad(void *arg)
{
    struct notes *n = arg;
    char c = 0;
    int k = 0;
    struct iovec v = { &c, 1 };
    weft_addr a;
    n->rc[k++] = weft_read(n->i, &c, 1);
    n->rc[k++] = weft_write(n->i, &c, 1);
    n->rc[k++] = weft_readv(n->i, &v, 1);
    n->rc[k++] = weft_writev(n->i, &v, 1);
    n->rc[k++] = weft_write_all(n->i, &c, 1);
    n->rc[k++] = weft_read_all(n->i, &c, 1);
    n->rc[k++] = weft_wait_fd(n->i, WEFT_READABLE);
    n->rc[k++] = weft_accept(n->i);
    n->rc[k++] = weft_close(n->i);
    n->rc[k++] = weft_shutdown(n->i, SHUT_RD);
    n->rc[k++] = weft_addr_local(n->i, &a);
    n->rc[k++] = weft_addr_peer(n->i, &a);
    weft_fd_forget(n->i);
    weft_close_auto(&n->i);
    return k;
}

static const int bad_numbers[] = { -1, -9, INT32_MIN, 19999, 1 << 20, INT32_MAX };

START_TEST(closed_and_negative_descriptors_are_refused)
{
    for (int plain = 0; plain < 2; plain++) {
        struct notes n = { .i = bad_numbers[_i] };
        int k = plain ? use_bad(&n) : run_notes(use_bad, &n, 2);
        ck_assert_int_eq(k, 12);
        for (int i = 0; i < k; i++)
            ck_assert_msg(n.rc[i] == -EBADF, "%d, call %d: %d", bad_numbers[_i], i, n.rc[i]);
    }
}
END_TEST

static int close_twice(void *arg)
{
    struct notes *n = arg;
    char c;
    n->rc[0] = weft_close(n->fd[0]);
    n->rc[1] = weft_close(n->fd[0]);
    n->rc[2] = weft_read(n->fd[0], &c, 1);
    n->rc[3] = weft_write(n->fd[0], &c, 1);
    n->rc[4] = weft_read(n->fd[1], &c, 1); /* the other end sees the end */
    n->rc[5] = weft_close(n->fd[1]);
    int none = -1;
    weft_close_auto(&none);
    return 0;
}

START_TEST(a_second_close_is_refused)
{
    static const int expected[] = { 0, -EBADF, -EBADF, -EBADF, 0, 0 };
    struct notes n = { .i = 0 };
    ck_assert_int_eq(open_stream((enum stream)_i, n.fd), 0);
    ck_assert_int_eq(run_notes(close_twice, &n, 1), 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(n.rc[i] == expected[i], "%s, step %d: %d", stream_names[_i], i, n.rc[i]);
    ck_assert(!is_open(n.fd[0]) && !is_open(n.fd[1]));
}
END_TEST

static int use_unpollable(void *arg)
{
    struct notes *n = arg;
    char buf[64];
    int file = n->fd[0], null = n->fd[1], zero = n->fd[2];
    int k = 0;
    n->rc[k++] = weft_write(file, "hello, file", 11);
    n->rc[k++] = lseek(file, 0, SEEK_SET) == 0;
    n->rc[k++] = weft_read(file, buf, 5);
    n->rc[k++] = memcmp(buf, "hello", 5);
    n->rc[k++] = weft_read_all(file, buf, 6);
    n->rc[k++] = weft_read(file, buf, sizeof buf); /* the end */
    n->rc[k++] = weft_wait_fd(file, WEFT_READABLE);
    n->rc[k++] = weft_accept(file);
    n->rc[k++] = weft_write(null, "into nothing", 12);
    n->rc[k++] = weft_write_all(null, "into nothing", 12);
    n->rc[k++] = weft_read(null, buf, sizeof buf);
    n->rc[k++] = weft_wait_fd(null, WEFT_WRITABLE);
    memset(buf, 'x', sizeof buf);
    n->rc[k++] = weft_read(zero, buf, 10);
    n->rc[k++] = buf[9];
    n->rc[k++] = weft_read(null, NULL, 0);
    n->rc[k++] = weft_close(file);
    n->rc[k++] = weft_close(null);
    n->rc[k++] = weft_close(zero);
    return k;
}

static const int unpollable_expected[] = { 11, 1, 5, 0, 6, 0, -EPERM, -ENOTSOCK, 12, 0, 0, -EPERM,
    10, 0, 0, 0, 0, 0 };

START_TEST(regular_files_and_dev_null_are_read_and_written_but_not_waited_for)
{
    char name[] = "/tmp/weft-io-test-XXXXXX";
    struct notes n = { .fd = { mkstemp(name), open("/dev/null", O_RDWR | O_CLOEXEC),
                               open("/dev/zero", O_RDONLY | O_CLOEXEC) } };
    unlink(name);
    ck_assert_int_ge(n.fd[0], 0);
    int k = _i == 0 ? use_unpollable(&n) : run_notes(use_unpollable, &n, _i);
    ck_assert_int_eq(k, COUNT(unpollable_expected));
    for (int i = 0; i < k; i++)
        ck_assert_msg(n.rc[i] == unpollable_expected[i], "step %d: %d", i, n.rc[i]);
}
END_TEST

static int use_directory(void *arg)
{
    struct notes *n = arg;
    char c;
    n->rc[0] = weft_read(n->fd[0], &c, 1);
    n->rc[1] = weft_write(n->fd[0], &c, 1);
    return weft_close(n->fd[0]);
}

START_TEST(the_errors_of_the_system_call_are_passed_on)
{
    struct notes n = { .fd = { open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC) } };
    ck_assert_int_eq(run_notes(use_directory, &n, 1), 0);
    ck_assert_int_eq(n.rc[0], -EISDIR);
    ck_assert_int_eq(n.rc[1], -EBADF); /* it is not open for writing */
}
END_TEST

/* -- wait_fd -- */

static int wait_on_eventfd(void *arg)
{
    struct notes *n = arg;
    n->rc[0] = weft_wait_fd(n->fd[0], WEFT_WRITABLE);
    atomic_store(&n->flag[0], 1);
    n->rc[1] = weft_wait_fd(n->fd[0], WEFT_READABLE);
    uint64_t v = 0;
    n->rc[2] = sys_read(n->fd[0], &v, sizeof v);
    n->rc[3] = (int)v;
    n->rc[4] = weft_wait_fd(n->fd[0], 0);
    n->rc[5] = weft_wait_fd(n->fd[0], 4);
    n->rc[6] = weft_wait_fd(n->fd[0], -1);
    n->rc[7] = weft_wait_fd(n->fd[0], WEFT_READABLE | WEFT_WRITABLE);
    /* The second wait must not be answered by the first event. */
    weft_scope s;
    weft_scope_begin(&s, weft_ms(3));
    n->rc[8] = weft_scope_end(&s, weft_wait_fd(n->fd[0], WEFT_READABLE));
    return 0;
}

static void *ring_eventfd(void *arg)
{
    struct notes *n = arg;
    uint64_t v = 7;
    wait_for(&n->flag[0], 1);
    n->rc[9] = sys_write(n->fd[0], &v, sizeof v);
    return NULL;
}

START_TEST(an_eventfd_of_others_is_waited_for)
{
    static const int expected[] = { WEFT_WRITABLE, WEFT_READABLE, 8, 7, -EINVAL, -EINVAL, -EINVAL,
        WEFT_WRITABLE, -ETIMEDOUT, 8 };
    struct notes n = { .fd = { eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) } };
    pthread_t t = thread_start(ring_eventfd, &n);
    int rc = run_notes(wait_on_eventfd, &n, worker_counts[_i]);
    pthread_join(t, NULL);
    close(n.fd[0]);
    ck_assert_int_eq(rc, 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(n.rc[i] == expected[i], "step %d: %d", i, n.rc[i]);
}
END_TEST

static int wait_for_hang_up(void *arg)
{
    struct notes *n = arg;
    atomic_store(&n->flag[0], 1);
    n->rc[0] = weft_wait_fd(n->fd[0], WEFT_READABLE);
    return 0;
}

static int hang_up(void *arg)
{
    struct notes *n = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, wait_for_hang_up, n);
    wait_for(&n->flag[0], 1);
    close(n->fd[1]);
    return weft_scope_end(&s, 0);
}

START_TEST(a_hang_up_ends_a_wait)
{
    struct notes n = { .i = 0 };
    ck_assert_int_eq(make_pipe(n.fd, 0), 0);
    int rc = run_notes(hang_up, &n, 1);
    close(n.fd[0]);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_gt(n.rc[0], 0);
    ck_assert_int_ne(n.rc[0] & WEFT_READABLE, 0);
}
END_TEST

/* -- closing under a waiter -- */

enum closed_wait { READER, WRITER, ACCEPTER, WAITER, TWO_READERS, CLOSED_WAITS };

static int wait_until_closed(void *arg)
{
    struct notes *n = arg;
    char c;
    int at = atomic_fetch_add(&n->flag[0], 1);
    int rc = 0;
    switch ((enum closed_wait)n->i) {
    case READER:
    case TWO_READERS:
        rc = weft_read(n->fd[0], &c, 1);
        break;
    case WRITER:
        rc = weft_write_all(n->fd[0], "0123456789", 10);
        break;
    case ACCEPTER:
        rc = weft_accept(n->fd[0]);
        break;
    case WAITER:
        rc = weft_wait_fd(n->fd[0], WEFT_READABLE);
        break;
    case CLOSED_WAITS:
        break;
    }
    n->rc[at] = rc;
    return 0;
}

/* It sleeps, and is not only about to. */
static bool wait_for_its_wait(weft_task t)
{
    int64_t end = weft_after(LIMIT);
    while (weft__phase_of(at_load(&weft__task_at(weft__id_index(t))->state)) != WEFT__WAITING)
        if (weft_yield() < 0 || weft_now() > end)
            return false;
    return true;
}

static int close_under_waiter(void *arg)
{
    struct notes *n = arg;
    char where[32];
    int rc = 0;
    if (n->i == ACCEPTER)
        rc = n->fd[0] = listen_local(where);
    else
        rc = weft_pair(n->fd);
    if (rc < 0)
        return rc;
    if (n->i == WRITER)
        fill(n->fd[0]);
    int waiters = n->i == TWO_READERS ? 2 : 1;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_task t[2] = { 0 };
    for (int i = 0; i < waiters; i++)
        t[i] = weft_spawn(&s, wait_until_closed, n);
    wait_for(&n->flag[0], waiters);
    if (n->rc[10] && (!wait_for_its_wait(t[0]) || (waiters > 1 && !wait_for_its_wait(t[1]))))
        return -ETIME; /* who comes after a forget waits anew */
    if (n->rc[10]) /* forget instead */
        n->rc[3] = weft_fd_forget(n->fd[0]);
    else
        n->rc[3] = weft_close(n->fd[0]);
    n->rc[4] = weft_scope_end(&s, 0);
    n->rc[5] = is_open(n->fd[0]);
    if (n->rc[5])
        weft_close(n->fd[0]);
    if (n->i != ACCEPTER)
        weft_close(n->fd[1]);
    return 0;
}

START_TEST(closing_a_descriptor_wakes_who_waits_on_it)
{
    for (int workers = 1; workers <= 3; workers++) {
        struct notes n = { .i = _i };
        ck_assert_int_eq(run_notes(close_under_waiter, &n, workers), 0);
        for (int i = 0; i < (_i == TWO_READERS ? 2 : 1); i++)
            ck_assert_int_eq(n.rc[i], -EBADF);
        ck_assert_int_eq(n.rc[3], 0);
        ck_assert_int_eq(n.rc[4], 0);
        ck_assert_int_eq(n.rc[5], 0);
    }
}
END_TEST

START_TEST(forgetting_a_descriptor_wakes_who_waits_on_it_and_leaves_it_open)
{
    struct notes n = { .i = _i };
    n.rc[10] = 1;
    ck_assert_int_eq(run_notes(close_under_waiter, &n, 1), 0);
    for (int i = 0; i < (_i == TWO_READERS ? 2 : 1); i++)
        ck_assert_int_eq(n.rc[i], -EBADF);
    ck_assert_int_eq(n.rc[4], 0);
    ck_assert_int_eq(n.rc[5], 1);
}
END_TEST

/* -- numbers used again -- */

static const enum stream foreign_kinds[] = { PIPE, PIPE_NONBLOCKING, FOREIGN_PAIR };

/* Waits once on fds[0] and is then read with success, so that weft knows the number. */
static int make_known(int fds[2])
{
    char c;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(2));
    int rc = weft_scope_end(&s, weft_read(fds[0], &c, 1));
    if (rc != -ETIMEDOUT)
        return rc < 0 ? rc : -EPROTO;
    rc = sys_write(fds[1], "k", 1);
    return rc == 1 ? weft_read(fds[0], &c, 1) : rc;
}

static int read_byte_later(void *arg)
{
    struct notes *n = arg;
    char c = 0;
    atomic_store(&n->flag[0], 1);
    n->rc[2] = weft_read(n->fd[0], &c, 1);
    n->rc[3] = c;
    return 0;
}

static int reuse_number(void *arg)
{
    struct notes *n = arg;
    enum stream then = (enum stream)(n->i % STREAMS);
    int first[2], second[2];
    int rc = open_stream(foreign_kinds[n->i / STREAMS], first);
    int swap;
    if (first[0] >
            first[1]) { /* [0] is to be the reading end, and the first number to be used again */
        swap = first[0];
        first[0] = first[1];
        first[1] = swap;
    }
    int known = first[0];
    n->rc[0] = rc < 0 ? rc : make_known(first);
    close(first[1]); /* by others: weft is not told */
    close(first[0]);
    rc = open_stream(then, second);
    if (rc < 0)
        return rc;
    if (second[0] == known && then >= WEFT_PAIR) { /* either end can be read */
        swap = second[0];
        second[0] = second[1];
        second[1] = swap;
    }
    if (second[1] != known && (then < WEFT_PAIR || then == FOREIGN_PAIR)) {
        dup3(second[1], known, O_CLOEXEC);
        close(second[1]);
        second[1] = known;
    }
    n->rc[1] = second[1] == known;
    n->fd[0] = second[1];
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_byte_later, n);
    wait_for(&n->flag[0], 1);
    n->rc[4] = sys_write(second[0], "z", 1);
    n->rc[5] = weft_scope_end(&s, 0);
    weft_close(second[0]);
    weft_close(second[1]);
    return 0;
}

START_TEST(a_number_that_others_closed_and_used_again_is_waited_for_anew)
{
    struct notes n = { .i = _i };
    if (!have_v6() && _i % STREAMS == TCP6)
        return;
    ck_assert_int_eq(run_notes(reuse_number, &n, 1), 0);
    ck_assert_int_eq(n.rc[0], 1);
    ck_assert_int_eq(n.rc[4], 1);
    ck_assert_msg(n.rc[5] == 0 && n.rc[2] == 1 && n.rc[3] == 'z',
            "%s, then %s (%s number): scope %d, read %d", stream_names[foreign_kinds[_i / STREAMS]],
            stream_names[_i % STREAMS], n.rc[1] ? "the same" : "another", n.rc[5], n.rc[2]);
}
END_TEST

#ifdef WEFT_DEBUG
/* The same of a descriptor that weft opened, which is a bug. */
static int close_behind_the_back(void *arg)
{
    int ours[2], others[2], rc = open_stream(WEFT_PAIR, ours);
    (void)arg;
    if (rc < 0 || (rc = make_known(ours)) != 1)
        return rc;
    close(ours[0]);
    if (pipe2(others, O_CLOEXEC | O_NONBLOCK) < 0 || (others[0] != ours[0] && dup3(others[0], ours[0], O_CLOEXEC) < 0))
        return -errno;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    return weft_scope_end(&s, weft_wait_fd(ours[0], WEFT_READABLE));
}

static void run_behind_the_back(void *arg)
{
    weft_ignore(weft_run(close_behind_the_back, arg, ON(1)));
}

START_TEST(a_descriptor_of_weft_that_others_closed_aborts_in_debug_builds)
{
    struct death d = die(run_behind_the_back, NULL);
    ck_assert_msg(d.signal == SIGABRT, "signal %d, status %d: %s", d.signal, d.status, d.text);
    ck_assert_msg(strstr(d.text, "weft_close") != NULL, "%s", d.text);
}
END_TEST
#endif

/* By weft_close, many times over; the same few numbers come up again and again. */
static int open_and_close(void *arg)
{
    struct notes *n = arg;
    for (int i = 0; i < fewer(200, SCALED(3000, 1000, 300)); i++) {
        int fds[2];
        char c;
        int rc = open_stream((enum stream)(i % STREAMS == TCP6 && !n->i ? TCP4 : i % STREAMS), fds);
        if (rc < 0)
            return rc;
        rc = sys_write(fds[0], "q", 1);
        if (rc == 1)
            rc = weft_read(fds[1], &c, 1);
        if (rc == 1 && i % 3 == 0) {
            weft_scope s;
            weft_scope_begin(&s, weft_us(100));
            rc = weft_scope_end(&s, weft_read(fds[1], &c, 1)) == -ETIMEDOUT ? 1 : -EPROTO;
        }
        weft_close(fds[0]);
        weft_close(fds[1]);
        if (rc != 1)
            return rc < 0 ? rc : -EPROTO;
        n->rc[0]++;
    }
    return 0;
}

static int open_and_close_in_crowd(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    struct notes each[4];
    for (int i = 0; i < COUNT(each); i++) {
        each[i] = (struct notes){ .i = ((struct notes *)arg)->i };
        weft_spawn(&s, open_and_close, &each[i]);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(numbers_closed_by_weft_are_used_again)
{
    struct notes n = { .i = have_v6() };
    int before = descriptors_now();
    ck_assert_int_eq(run_notes(open_and_close_in_crowd, &n, worker_counts[_i]), 0);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* Short ones beside some that stay; every byte says whose it is. A million of the short ones with WEFT_TEST_LONG. */
struct short_ones {
    long cycles;
    atomic_int open, wrong; /* of the short ones' tasks, and of all bytes */
    atomic_long done;
};

struct tagged {
    struct short_ones *all;
    char tag;
};

static int open_say_and_close(void *arg)
{
    const struct tagged *me = arg;
    int rc = 0;
    for (long i = 0; i < me->all->cycles && rc >= 0; i++) {
        int fds[2];
        char heard = 0, said = (char)(me->tag + i % 16);
        if ((rc = weft_pair(fds)) < 0)
            break;
        rc = i % 2 ? sys_write(fds[0], &said, 1) : weft_write(fds[0], &said, 1);
        if (rc == 1)
            rc = weft_read(fds[1], &heard, 1);
        if (rc != 1 || heard != said)
            atomic_fetch_add(&me->all->wrong, 1);
        weft_close(fds[i % 2]);
        weft_close(fds[1 - i % 2]);
        atomic_fetch_add(&me->all->done, 1);
    }
    atomic_fetch_sub(&me->all->open, 1);
    return rc < 0 ? rc : 0;
}

/* To the end of the short ones: what it says to itself it hears. */
static int stay_and_talk(void *arg)
{
    const struct tagged *me = arg;
    int fds[2], rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    while (rc >= 0 && atomic_load(&me->all->open) > 0) {
        char heard[8], said[8];
        memset(said, me->tag, sizeof said);
        rc = weft_write_all(fds[0], said, sizeof said);
        if (rc == 0)
            rc = weft_read_all(fds[1], heard, sizeof heard);
        if (rc != (int)sizeof heard || memcmp(heard, said, sizeof said) != 0)
            atomic_fetch_add(&me->all->wrong, 1);
        if (rc >= 0)
            rc = weft_sleep(weft_us(200)); /* the others are the many */
    }
    weft_close(fds[0]);
    weft_close(fds[1]);
    return rc < 0 ? rc : 0;
}

static int short_beside_long(void *arg)
{
    struct short_ones *all = arg;
    struct tagged t[8];
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    atomic_store(&all->open, 4);
    for (int i = 0; i < COUNT(t); i++) {
        t[i] = (struct tagged){ all, (char)(16 * (i + 1)) };
        weft_spawn(&s, i < 4 ? open_say_and_close : stay_and_talk, &t[i]);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(no_byte_of_many_short_connections_is_a_foreigners)
{
    struct short_ones all = { .cycles = getenv("WEFT_TEST_LONG") ? 250000 : fewer(100, SCALED(2500, 1000, 200)) };
    int before = descriptors_now();
    ck_assert_int_eq(weft_run(short_beside_long, &all, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&all.wrong), 0);
    ck_assert_int_eq(atomic_load(&all.done), 4 * all.cycles);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* -- two runtimes, one descriptor -- */

struct shared_fd {
    weft_runtime *rt[2];
    int fd[2];
    atomic_int parked, first;
    int second, third, end;
};

static int wait_on_shared(void *arg)
{
    struct shared_fd *f = arg;
    char c;
    atomic_store(&f->parked, 1);
    atomic_store(&f->first, weft_read(f->fd[0], &c, 1));
    return 0;
}

static void *run_first(void *arg)
{
    struct shared_fd *f = arg;
    weft_ignore(weft_runtime_run(f->rt[0], wait_on_shared, f));
    return NULL;
}

static int read_shared(void *arg)
{
    struct shared_fd *f = arg;
    char c;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    f->second = weft_read(f->fd[0], &c, 1);
    weft_fd_forget(f->fd[0]);
    if (sys_write(f->fd[1], "x", 1) == 1)
        f->third = weft_read(f->fd[0], &c, 1);
    f->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(a_descriptor_belongs_to_the_runtime_that_waits_on_it)
{
    struct shared_fd f = { .end = 1 };
    ck_assert_int_eq(make_pipe(f.fd, 0), 0);
    ck_assert_int_eq(weft_runtime_create(&f.rt[0], ON(1)), 0);
    ck_assert_int_eq(weft_runtime_create(&f.rt[1], ON(1)), 0);
    pthread_t t = thread_start(run_first, &f);
    bool parked = wait_for(&f.parked, 1);
    /* The mark is set just before it parks; when its only worker sleeps, it has parked. */
    weft_worker_stats stats = { .asleep = false };
    for (int64_t end = weft_after(LIMIT); !stats.asleep && weft_now() < end; usleep(100))
        weft_stats(f.rt[0], &stats, 1);
    int rc = weft_runtime_run(f.rt[1], read_shared, &f);
    if (atomic_load(&f.first) == 0)
        weft_ignore(sys_write(f.fd[1], "x", 1));
    pthread_join(t, NULL);
    for (int i = 0; i < 2; i++)
        weft_runtime_destroy(&f.rt[i]);
    close_fds(f.fd, 2);
    ck_assert(parked);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(f.second, -EXDEV);
    ck_assert_int_eq(atomic_load(&f.first), -EBADF); /* by weft_fd_forget */
    ck_assert_int_eq(f.third, 1);
    ck_assert_int_eq(f.end, 0);
}
END_TEST

/* Closed by a thread while the runtime in whose set they are comes to its end. */
struct outgoing {
    int fds[64];
    atomic_int go;
};

static int wait_for_each(void *arg)
{
    const struct outgoing *o = arg;
    for (int i = 0; i < COUNT(o->fds); i++) {
        weft_scope s;
        weft_scope_begin(&s, weft_us(100));
        if (weft_scope_end(&s, weft_wait_fd(o->fds[i], WEFT_READABLE)) != -ETIMEDOUT)
            return -EPROTO;
    }
    return 0;
}

NOINLINE static void *close_each(void *arg)
{
    struct outgoing *o = arg;
    while (atomic_load(&o->go) == 0)
        sched_yield();
    for (int i = 0; i < COUNT(o->fds); i++)
        weft_ignore(i % 3 == 0 ? weft_fd_forget(o->fds[i]) : weft_close(o->fds[i]));
    return NULL;
}

START_TEST(descriptors_are_closed_while_their_runtime_ends)
{
    for (int round = 0; round < 10; round++) {
        struct outgoing o = { .go = 0 };
        weft_runtime *rt = NULL;
        for (int i = 0; i < COUNT(o.fds); i += 2)
            ck_assert_int_eq(open_stream(i % 4 ? WEFT_PAIR : FOREIGN_PAIR, &o.fds[i]), 0);
        ck_assert_int_eq(weft_runtime_create(&rt, ON(1)), 0);
        ck_assert_int_eq(weft_runtime_run(rt, wait_for_each, &o), 0);
        pthread_t t = thread_start(close_each, &o);
        atomic_store(&o.go, 1);
        weft_runtime_destroy(&rt);
        pthread_join(t, NULL);
        for (int i = 0; i < COUNT(o.fds); i += 3)
            ck_assert_int_eq(weft_close(o.fds[i]), 0);
    }
}
END_TEST

static int read_in_turn(void *arg)
{
    struct notes *n = arg;
    int rc = make_known(n->fd);
    return rc == 1 ? 0 : rc < 0 ? rc : -EPROTO;
}

START_TEST(a_descriptor_outlives_the_runtimes_that_use_it_in_turn)
{
    struct notes n = { .i = 0 };
    ck_assert_int_eq(open_stream(_i ? WEFT_PAIR : FOREIGN_PAIR, n.fd), 0);
    int bad = 0;
    for (int i = 0; i < 10; i++)
        bad += run_notes(read_in_turn, &n, 1 + i % 2) != 0;
    weft_close(n.fd[0]);
    weft_close(n.fd[1]);
    ck_assert_int_eq(bad, 0);
}
END_TEST

/* -- listeners -- */

/* Three connections are pending; they are taken one at a time, with other things in between. */
static int take_one_at_a_time(void *arg)
{
    struct notes *n = arg;
    char where[32], c;
    int l = listen_local(where);
    int peers[3];
    if (l < 0)
        return l;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    if (n->i) { /* it has waited once before */
        weft_scope t;
        weft_scope_begin(&t, weft_ms(1));
        n->rc[9] = weft_scope_end(&t, weft_accept(l));
    } else {
        n->rc[9] = -ETIMEDOUT;
    }
    for (int i = 0; i < 3; i++)
        n->rc[0] += (peers[i] = plain_connect(where)) >= 0;
    for (int i = 0; i < 3; i++) {
        weft_ignore(weft_sleep(weft_us(300)));
        int fd = weft_accept(l);
        if (fd < 0)
            break;
        n->rc[1]++;
        n->rc[2] += sys_write(peers[i], "p", 1) == 1 && weft_read(fd, &c, 1) == 1;
        weft_close(fd);
        close(peers[i]);
    }
    weft_scope t;
    weft_scope_begin(&t, weft_ms(1));
    n->rc[3] = weft_scope_end(&t, weft_accept(l)); /* a fourth one is not there */
    n->rc[4] = weft_scope_end(&s, 0);
    weft_close(l);
    return 0;
}

START_TEST(pending_connections_are_taken_one_at_a_time)
{
    for (int workers = 1; workers <= 3; workers++) {
        struct notes n = { .i = _i };
        ck_assert_int_eq(run_notes(take_one_at_a_time, &n, workers), 0);
        ck_assert_int_eq(n.rc[9], -ETIMEDOUT);
        ck_assert_int_eq(n.rc[0], 3);
        ck_assert_int_eq(n.rc[1], 3);
        ck_assert_int_eq(n.rc[2], 3);
        ck_assert_int_eq(n.rc[3], -ETIMEDOUT);
        ck_assert_int_eq(n.rc[4], 0);
    }
}
END_TEST

/* A parked task takes one; nobody waits while two more come; then they are taken without a new
 * event. */
static int take_first(void *arg)
{
    struct notes *n = arg;
    atomic_store(&n->flag[0], 1);
    n->fd[1] = weft_accept(n->fd[0]);
    return 0;
}

static int take_rest_later(void *arg)
{
    struct notes *n = arg;
    char where[32];
    int peers[3];
    n->fd[0] = listen_local(where);
    if (n->fd[0] < 0)
        return n->fd[0];
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, take_first, n);
    wait_for(&n->flag[0], 1);
    for (int i = 0; i < 3; i++)
        peers[i] = plain_connect(where); /* one edge for all three, perhaps */
    n->rc[0] = weft_scope_wait(&s);
    n->fd[2] = weft_accept(n->fd[0]);
    n->fd[3] = weft_accept(n->fd[0]);
    n->rc[1] = weft_scope_end(&s, 0);
    for (int i = 0; i < 4; i++)
        weft_close_auto(&n->fd[i]);
    close_fds(peers, 3);
    return 0;
}

START_TEST(connections_behind_the_first_one_are_not_forgotten)
{
    for (int k = 0; k < 20; k++) {
        struct notes n = { .fd = { -1, -1, -1, -1 } };
        ck_assert_int_eq(run_notes(take_rest_later, &n, 1 + _i), 0);
        ck_assert_int_eq(n.rc[0], 0);
        ck_assert_int_eq(n.rc[1], 0);
        for (int i = 1; i < 4; i++)
            ck_assert_int_ge(n.fd[i], 0);
    }
}
END_TEST

struct accepters {
    int l;
    char where[32];
    atomic_int parked, taken;
    int clients;
};

static int accept_and_answer(void *arg)
{
    struct accepters *a = arg;
    for (;;) {
        atomic_fetch_add(&a->parked, 1);
        int fd = weft_accept(a->l);
        if (fd < 0)
            return fd == -EBADF || fd == -ECANCELED ? 0 : fd;
        atomic_fetch_add(&a->taken, 1);
        int rc = weft_write_all(fd, "hi", 2);
        weft_close(fd);
        if (rc < 0)
            return rc;
    }
}

static int be_client(void *arg)
{
    struct accepters *a = arg;
    char buf[4];
    int fd = weft_connect(a->where, NULL);
    if (fd < 0)
        return fd;
    int rc = weft_read_all(fd, buf, 2);
    if (rc == 2)
        rc = weft_read(fd, buf, 1); /* the end */
    weft_close(fd);
    return rc;
}

static int many_accepters(void *arg)
{
    struct accepters *a = arg;
    a->l = listen_local(a->where);
    if (a->l < 0)
        return a->l;
    weft_scope servers, clients;
    weft_scope_begin(&servers, LIMIT);
    for (int i = 0; i < 8; i++)
        weft_spawn(&servers, accept_and_answer, a);
    wait_for(&a->parked, 8);
    weft_scope_begin(&clients, WEFT_NEVER);
    for (int i = 0; i < a->clients; i++)
        weft_spawn(&clients, be_client, a);
    int rc = weft_scope_end(&clients, 0);
    wait_for(&a->parked, rc == 0 ? a->clients + 8 : 8); /* who came after the close could meet another's descriptor */
    weft_close(a->l);
    return weft_scope_end(&servers, rc);
}

START_TEST(several_tasks_accept_on_one_listener)
{
    struct accepters a = { .clients = SCALED(400, 200, 100) };
    ck_assert_int_eq(weft_run(many_accepters, &a, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&a.taken), a.clients);
}
END_TEST

/* A blocking listener that others opened: nobody may get into an accept(2) that has to wait, since no cancel and no close
 * would get it out of there, nor its worker. */
static int many_accepters_of_others(void *arg)
{
    struct accepters *a = arg;
    weft_addr at;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l < 0 || weft_addr_parse(&at, "127.0.0.1:0") < 0 || bind(l, (const struct sockaddr *)&at.sa, at.len) < 0 ||
            listen(l, 1000) < 0)
        return -EIO;
    a->l = l;
    snprintf(a->where, sizeof a->where, "127.0.0.1:%d", port_of(l));
    weft_scope servers, clients;
    weft_scope_begin(&servers, LIMIT);
    for (int i = 0; i < 8; i++)
        weft_spawn(&servers, accept_and_answer, a);
    wait_for(&a->parked, 8);
    weft_scope_begin(&clients, WEFT_NEVER);
    for (int i = 0; i < a->clients; i++)
        weft_spawn(&clients, be_client, a);
    int rc = weft_scope_end(&clients, 0);
    wait_for(&a->parked, rc == 0 ? a->clients + 8 : 8);
    weft_close(l);
    return weft_scope_end(&servers, rc);
}

START_TEST(several_tasks_accept_on_a_blocking_listener_of_others)
{
    struct accepters a = { .clients = SCALED(400, 200, 100) };
    ck_assert_int_eq(weft_run(many_accepters_of_others, &a, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&a.taken), a.clients);
}
END_TEST

static int listen_again(void *arg)
{
    struct notes *n = arg;
    char where[32];
    int k = 0;
    int a = listen_local(where);
    n->rc[k++] = a >= 0;
    n->rc[k++] = weft_listen(where, NULL);
    weft_close(a);
    int b = weft_listen(where, NULL); /* SO_REUSEADDR: at once */
    n->rc[k++] = b >= 0;
    weft_close_auto(&b);
    weft_listen_options o = { .reuse_port = true, .backlog = 1 };
    a = weft_listen(where, &o);
    b = weft_listen(where, &o);
    n->rc[k++] = a >= 0;
    n->rc[k++] = b >= 0;
    n->rc[k++] = weft_listen(where, NULL);
    weft_close_auto(&a);
    weft_close_auto(&b);
    o.reserved[7] = 1;
    n->rc[k++] = weft_listen(where, &o);
    n->rc[k++] = weft_listen(where, &(weft_listen_options){ .backlog = -1 });
    return k;
}

START_TEST(an_address_in_use_is_refused_unless_it_is_shared)
{
    static const int expected[] = { 1, -EADDRINUSE, 1, 1, 1, -EADDRINUSE, -EINVAL, -EINVAL };
    struct notes n = { .i = 0 };
    int k = _i ? run_notes(listen_again, &n, 1) : listen_again(&n);
    ck_assert_int_eq(k, COUNT(expected));
    for (int i = 0; i < k; i++)
        ck_assert_msg(n.rc[i] == expected[i], "step %d: %d", i, n.rc[i]);
}
END_TEST

/* -- connections that fail -- */

/* A port on which somebody sits but nobody listens. */
NOINLINE static int occupied_port(char where[32])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 ||
            getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return -errno;
    snprintf(where, 32, "127.0.0.1:%d", ntohs(a.sin_port));
    return fd;
}

static int connect_to_nobody(void *arg)
{
    struct notes *n = arg;
    char where[64];
    int fd = occupied_port(where);
    int k = 0;
    n->rc[k++] = fd >= 0;
    n->rc[k++] = weft_connect(where, NULL);
    n->rc[k++] = weft_accept(fd); /* it is not listening */
    close(fd);
    unix_name(where, "@");
    n->rc[k++] = weft_connect(where, NULL);
    unix_name(where, "/tmp/");
    n->rc[k++] = weft_connect(where, NULL);
    weft_connect_options o = { .reserved = { 1 } };
    n->rc[k++] = weft_connect("127.0.0.1:1", &o);
    o = (weft_connect_options){ .from = "not an address" };
    n->rc[k++] = weft_connect("127.0.0.1:1", &o);
    o = (weft_connect_options){ .from = "192.0.2.1:0" }; /* not an address of this machine */
    n->rc[k++] = weft_connect("127.0.0.1:1", &o);
    return k;
}

START_TEST(connecting_where_nobody_listens_is_refused)
{
    static const int expected[] = { 1, -ECONNREFUSED, -EINVAL, -ECONNREFUSED, -ENOENT, -EINVAL,
        -EINVAL, -EADDRNOTAVAIL };
    struct notes n = { .i = 0 };
    int before = descriptors_now();
    int k = _i ? run_notes(connect_to_nobody, &n, 2) : connect_to_nobody(&n);
    ck_assert_int_eq(k, COUNT(expected));
    for (int i = 0; i < k; i++)
        ck_assert_msg(n.rc[i] == expected[i], "step %d: %d", i, n.rc[i]);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

NOINLINE static void reset(int fd)
{
    struct linger l = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    close(fd);
}

static int read_from_reset(void *arg)
{
    struct notes *n = arg;
    char c;
    atomic_store(&n->flag[0], 1);
    n->rc[0] = weft_read(n->fd[1], &c, 1);
    return 0;
}

static int reset_under_reader(void *arg)
{
    struct notes *n = arg;
    char where[32], c;
    int l = listen_local(where);
    n->fd[0] = plain_connect(where);
    n->fd[1] = weft_accept(l);
    if (l < 0 || n->fd[0] < 0 || n->fd[1] < 0)
        return -EPROTO;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_from_reset, n);
    wait_for(&n->flag[0], 1);
    reset(n->fd[0]);
    n->rc[1] = weft_scope_end(&s, 0);
    n->rc[2] = weft_write(n->fd[1], "x", 1);
    n->rc[3] = weft_close(n->fd[1]);
    /* Reset before anybody reads. */
    n->fd[0] = plain_connect(where);
    n->fd[1] = weft_accept(l);
    reset(n->fd[0]);
    n->rc[4] = weft_read(n->fd[1], &c, 1);
    weft_close(n->fd[1]);
    weft_close(l);
    return 0;
}

START_TEST(a_peer_that_resets_is_an_error)
{
    struct notes n = { .i = 0 };
    ck_assert_int_eq(run_notes(reset_under_reader, &n, worker_counts[_i]), 0);
    ck_assert_int_eq(n.rc[0], -ECONNRESET);
    ck_assert_int_eq(n.rc[1], 0);
    ck_assert_int_eq(n.rc[2], -EPIPE);
    ck_assert_int_eq(n.rc[3], 0);
    ck_assert_int_eq(n.rc[4], -ECONNRESET);
}
END_TEST

/* What the kernel says once, to the write: the read in another task hears it, too, and each one after it. */
static int reset_told_to_writer(void *arg)
{
    struct notes *n = arg;
    char where[32], c;
    int l = listen_local(where);
    n->fd[0] = plain_connect(where);
    n->fd[1] = weft_accept(l);
    if (l < 0 || n->fd[0] < 0 || n->fd[1] < 0)
        return -EPROTO;
    reset(n->fd[0]);
    struct pollfd p = { .fd = n->fd[1] };
    if (poll(&p, 1, (int)(LIMIT / 1000000)) != 1 || !(p.revents & POLLERR)) /* which leaves the error where it is */
        return -EPROTO;
    n->rc[1] = weft_write(n->fd[1], "x", 1);
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_from_reset, n);
    n->rc[2] = weft_scope_end(&s, 0);
    n->rc[3] = weft_read(n->fd[1], &c, 1);
    n->rc[4] = weft_read(n->fd[1], &c, 0);
    weft_close(n->fd[1]);
    /* The number again: nothing is left of it. */
    n->fd[0] = plain_connect(where);
    n->fd[1] = weft_accept(l);
    close(n->fd[0]);
    n->rc[5] = weft_read(n->fd[1], &c, 1);
    weft_close(n->fd[1]);
    weft_close(l);
    return 0;
}

START_TEST(a_reset_told_to_the_writer_is_no_end_for_the_reader)
{
    struct notes n = { .i = 0 };
    ck_assert_int_eq(run_notes(reset_told_to_writer, &n, worker_counts[_i]), 0);
    ck_assert_int_eq(n.rc[0], -ECONNRESET);
    ck_assert_int_eq(n.rc[1], -ECONNRESET);
    ck_assert_int_eq(n.rc[2], 0);
    ck_assert_int_eq(n.rc[3], -ECONNRESET);
    ck_assert_int_eq(n.rc[4], 0);
    ck_assert_int_eq(n.rc[5], 0);
}
END_TEST

/* A connection that died in the queue: it is passed over, or accepted and then found dead; no
 * error, no hang. */
static int accept_dead_one(void *arg)
{
    struct notes *n = arg;
    char where[32], c = 0;
    int l = listen_local(where);
    int dead = plain_connect(where), live = plain_connect(where);
    if (l < 0 || dead < 0 || live < 0)
        return -EPROTO;
    reset(dead);
    n->rc[0] = sys_write(live, "L", 1);
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 2 && c != 'L'; i++) {
        int fd = weft_accept(l);
        n->rc[1] = fd < 0 ? fd : 0;
        if (fd < 0)
            break;
        weft_ignore(weft_read(fd, &c, 1));
        weft_close(fd);
    }
    n->rc[2] = c;
    n->rc[3] = weft_scope_end(&s, 0);
    weft_close(l);
    close(live);
    return 0;
}

START_TEST(a_connection_that_died_in_the_queue_does_no_harm)
{
    struct notes n = { .i = 0 };
    ck_assert_int_eq(run_notes(accept_dead_one, &n, 1), 0);
    ck_assert_int_eq(n.rc[0], 1);
    ck_assert_int_eq(n.rc[1], 0);
    ck_assert_int_eq(n.rc[2], 'L');
    ck_assert_int_eq(n.rc[3], 0);
}
END_TEST

static int write_to_nobody(void *arg)
{
    struct notes *n = arg;
    struct iovec v = { "x", 1 };
    weft_close(n->fd[1]);
    n->rc[0] = weft_write(n->fd[0], "x", 1);
    n->rc[1] = weft_writev(n->fd[0], &v, 1);
    n->rc[2] = weft_write_all(n->fd[0], "x", 1);
    weft_close(n->fd[0]);
    return 0;
}

START_TEST(writing_to_a_closed_peer_is_an_error_and_no_signal)
{
    static const enum stream kinds[] = { WEFT_PAIR, FOREIGN_PAIR, UNIX, PIPE };
    struct notes n = { .i = 0 };
    signal(SIGPIPE, SIG_DFL);
    ck_assert_int_eq(open_stream(kinds[_i], n.fd), 0);
    ck_assert_int_eq(run_notes(write_to_nobody, &n, 1), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(n.rc[i], -EPIPE);
}
END_TEST

/* -- running out of descriptors -- */

struct hunger {
    int l, peer, first, second, fd;
    char where[32];
    atomic_int hungry;
    rlim_t limit;
    int64_t took;
    struct rlimit before;
};

NOINLINE static void set_limit(rlim_t n)
{
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = n;
    setrlimit(RLIMIT_NOFILE, &r);
}

/* So many that no further one can be had. */
NOINLINE static rlim_t used_up(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return (rlim_t)fd; /* the lowest free number */
}

static int accept_hungry(void *arg)
{
    struct hunger *h = arg;
    h->l = listen_local(h->where);
    h->peer = plain_connect(h->where);
    if (h->l < 0 || h->peer < 0)
        return -EPROTO;
    weft_ignore(weft_sleep(weft_us(100)));
    set_limit(used_up());
    int64_t start = weft_now();
    h->first = weft_accept(h->l);
    h->took = weft_now() - start;
    set_limit(h->before.rlim_cur);
    h->second = weft_accept(h->l); /* it has stayed in the queue */
    weft_close_auto(&h->second);
    weft_close(h->l);
    close(h->peer);
    return 0;
}

START_TEST(accept_without_descriptors_gives_up_after_a_second_and_loses_nothing)
{
    struct hunger h = { .first = 0, .second = -1 };
    getrlimit(RLIMIT_NOFILE, &h.before);
    /* No spares: who looks whether one is needed opens a file. */
    ck_assert_int_eq(weft_run(accept_hungry, &h, &(weft_options){ .workers = 1 + _i, .spares = -1 }), 0);
    ck_assert_int_eq(h.first, -EMFILE);
    ck_assert_int_ge(h.second, 0);
    ck_assert_int_ge(h.took, weft_ms(900));
    ck_assert_int_lt(h.took, LIMIT);
}
END_TEST

static int accept_till_fed(void *arg)
{
    struct hunger *h = arg;
    atomic_store(&h->hungry, 1);
    h->first = weft_accept(h->l);
    return 0;
}

static int feed_hungry(void *arg)
{
    struct hunger *h = arg;
    h->l = listen_local(h->where);
    h->peer = plain_connect(h->where);
    if (h->l < 0 || h->peer < 0)
        return -EPROTO;
    weft_ignore(weft_sleep(weft_us(100)));
    set_limit(used_up());
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    int64_t start = weft_now();
    weft_spawn(&s, accept_till_fed, h);
    wait_for(&h->hungry, 1);
    weft_ignore(weft_sleep(weft_ms(20))); /* in which it pauses, and others run */
    set_limit(h->before.rlim_cur);
    h->took = weft_now() - start;
    int rc = weft_scope_end(&s, 0);
    weft_close_auto(&h->first);
    weft_close(h->l);
    close(h->peer);
    return rc;
}

/* It gives up after a second: if they came no sooner, that says nothing. */
START_TEST(accept_recovers_when_descriptors_come_free)
{
    struct hunger h = { .first = -1 };
    int64_t end = weft_after(LIMIT);
    do {
        atomic_store(&h.hungry, 0);
        getrlimit(RLIMIT_NOFILE, &h.before);
        ck_assert_int_eq(weft_run(feed_hungry, &h, ON(1 + _i)), 0);
    } while (h.first == -EMFILE && h.took > weft_ms(900) && weft_now() < end);
    ck_assert_int_ge(h.first, 0);
}
END_TEST

static int open_without_descriptors(void *arg)
{
    struct notes *n = arg;
    int fds[2] = { -7, -7 };
    char where[32];
    int l = listen_local(where);
    weft_ignore(weft_sleep(weft_us(100)));
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    set_limit(used_up());
    n->rc[0] = weft_pair(fds);
    n->rc[1] = weft_listen("127.0.0.1:0", NULL);
    n->rc[2] = weft_connect(where, NULL);
    set_limit(before.rlim_cur);
    weft_close(l);
    return 0;
}

START_TEST(opening_without_descriptors_is_an_error)
{
    struct notes n = { .i = 0 };
    int before = descriptors_now();
    ck_assert_int_eq(run_notes(open_without_descriptors, &n, 1), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(n.rc[i], -EMFILE);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

static int run_nothing(void *arg)
{
    (void)arg;
    return 0;
}

START_TEST(a_runtime_without_descriptors_does_not_start)
{
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    int threads = threads_before();
    rlim_t low = used_up();
    for (rlim_t more = 0; more < 4; more++) {
        set_limit(low + more);
        int rc = weft_run(run_nothing, NULL, ON(2));
        set_limit(before.rlim_cur);
        ck_assert_msg(rc == -EMFILE || (more > 0 && rc == 0), "%d", rc);
        ck_assert_int_eq(threads_back_to(threads), threads);
        ck_assert_int_eq((int)used_up(), (int)low);
    }
}
END_TEST

/* -- Unix sockets -- */

static int use_unix(void *arg)
{
    struct notes *n = arg;
    char where[64];
    const char *path = where + 5;
    struct stat st;
    int k = 0;
    unix_name(where, "/tmp/");
    int l = weft_listen(where, &(weft_listen_options){ .unix_mode = 0600 });
    n->rc[k++] = l >= 0;
    n->rc[k++] = stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
    n->rc[k++] = (int)(st.st_mode & 0777);
    n->rc[k++] = weft_listen(where, NULL); /* somebody listens */
    int fd = weft_connect(where, NULL);
    n->rc[k++] = fd >= 0;
    int got = weft_accept(l);
    n->rc[k++] = got >= 0;
    weft_close_auto(&fd);
    weft_close_auto(&got);
    weft_close(l);
    if (stat(path, &st) < 0) { /* if it was removed, one without a listener is put there */
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        strcpy(a.sun_path, path);
        int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(s, (struct sockaddr *)&a, sizeof a) < 0)
            return -EPROTO;
        close(s);
    }
    l = weft_listen(where, NULL); /* nobody listens any more: it is replaced */
    n->rc[k++] = l >= 0;
    fd = weft_connect(where, NULL);
    n->rc[k++] = fd >= 0;
    weft_close_auto(&fd);
    weft_close_auto(&l);
    unlink(path);
    unix_name(where, "/tmp/");
    int file = open(
            path, O_CREAT | O_RDWR | O_CLOEXEC, 0600); /* no socket: it is not ours to replace */
    n->rc[k++] = weft_listen(where, NULL);
    n->rc[k++] = access(path, F_OK);
    close(file);
    unlink(path);
    n->rc[k++] = weft_listen("unix:/no/such/directory/socket", NULL);
    return k;
}

START_TEST(unix_sockets_have_paths_modes_and_successors)
{
    static const int expected[] = { 1, 1, 0600, -EADDRINUSE, 1, 1, 1, 1, -EADDRINUSE, 0, -ENOENT };
    struct notes n = { .i = 0 };
    int k = run_notes(use_unix, &n, 1);
    ck_assert_int_eq(k, COUNT(expected));
    for (int i = 0; i < k; i++)
        ck_assert_msg(n.rc[i] == expected[i], "step %d: %d", i, n.rc[i]);
}
END_TEST

/* -- addresses -- */

static const char *const good_addresses[] = { "127.0.0.1:80", "127.0.0.1:0", "0.0.0.0:65535",
    "10.1.2.3:1", "255.255.255.255:9", "[::1]:80", "[::]:443", "[fe80::1]:7",
    "[2001:db8::17]:65535", "[::ffff:10.0.0.1]:5", "unix:/run/x", "unix:/tmp/a:b", "unix:relative",
    "unix:@abstract", "unix:@a/b c" };

START_TEST(addresses_survive_the_way_there_and_back)
{
    weft_addr a, b;
    char text[160], again[160];
    memset(&a, 0x5a, sizeof a);
    memset(&b, 0xa5, sizeof b);
    ck_assert_int_eq(weft_addr_parse(&a, good_addresses[_i]), 0);
    int n = weft_addr_text(&a, text, sizeof text);
    ck_assert_int_eq(n, (int)strlen(text));
    ck_assert_str_eq(text, good_addresses[_i]);
    ck_assert_int_eq(weft_addr_parse(&b, text), 0);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(&a.sa, &b.sa, a.len);
    ck_assert_int_eq(weft_addr_text(&b, again, sizeof again), n);
    ck_assert_str_eq(again, text);
    /* Cut, it is still terminated and says so; with just enough room it is whole. */
    for (int room = 1; room <= n + 2; room++) {
        char small[160];
        memset(small, '#', sizeof small);
        int rc = weft_addr_text(&a, small, (size_t)room);
        ck_assert_int_eq(rc, room > n ? n : -ENOSPC);
        ck_assert_ptr_nonnull(memchr(small, 0, (size_t)room));
        ck_assert_int_eq(strncmp(small, text, strlen(small)), 0);
        ck_assert_int_eq(small[room], '#');
    }
}
END_TEST

START_TEST(a_port_alone_is_every_address)
{
    weft_addr a, b;
    char text[64];
    ck_assert_int_eq(weft_addr_parse(&a, ":7777"), 0);
    ck_assert(a.sa.ss_family == AF_INET6 || a.sa.ss_family == AF_INET);
    ck_assert_int_gt(weft_addr_text(&a, text, sizeof text), 0);
    ck_assert_int_eq(weft_addr_parse(&b, text), 0);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(&a.sa, &b.sa, a.len);
}
END_TEST

#define TEN "0123456789"

static const char *const bad_addresses[] = { "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
    "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1: 80", "127.0.0.1:80 ", " 127.0.0.1:80",
    "127.0.0.1:8x", "127.0.0.1:99999999999999999999", "127.0.0.256:80", "127.0.1:80",
    "1.2.3.4.5:80", "::1:80", "[::1]", "[::1]:", "[::1]80",
    "[::1:80", "::1]:80", "[127.0.0.1]:80", "[]:80", "[:::1]:80", "[::g]:80",
    "unix:", "127.0.0.1:80:80", "\n:80", "%s:80",
    "unix:/a/path/that/is/longer/than/a/Unix/socket/may/have/" TEN TEN TEN TEN TEN TEN };

START_TEST(what_is_no_address_is_refused)
{
    weft_addr a;
    unsigned char before[sizeof a];
    memset(&a, 0x5a, sizeof a);
    memcpy(before, &a, sizeof a);
    ck_assert_msg(weft_addr_parse(&a, bad_addresses[_i]) == -EINVAL, "\"%s\"", bad_addresses[_i]);
    ck_assert_msg(memcmp(before, &a, sizeof a) == 0, "\"%s\"", bad_addresses[_i]);
    ck_assert_msg(weft_listen(bad_addresses[_i], NULL) == -EINVAL, "\"%s\"", bad_addresses[_i]);
    ck_assert_msg(weft_connect(bad_addresses[_i], NULL) == -EINVAL, "\"%s\"", bad_addresses[_i]);
}
END_TEST

START_TEST(null_and_strange_addresses_are_refused)
{
    weft_addr a = { .len = 0 };
    ck_assert_int_eq(weft_addr_parse(&a, "localhost:80"), -EINVAL); /* a name is no number */
    char text[8];
    ck_assert_int_eq(weft_addr_parse(&a, NULL), -EINVAL);
    ck_assert_int_eq(weft_addr_parse(NULL, "127.0.0.1:1"), -EINVAL);
    ck_assert_int_eq(weft_listen(NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_connect(NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_addr_text(NULL, text, sizeof text), -EINVAL);
    ck_assert_int_eq(weft_addr_text(&a, text, sizeof text), -EINVAL); /* of no family */
    a.sa.ss_family = AF_NETLINK;
    a.len = sizeof a.sa;
    ck_assert_int_eq(weft_addr_text(&a, text, sizeof text), -EINVAL);
    ck_assert_int_eq(weft_pair(NULL), -EINVAL);
}
END_TEST

NOINLINE static int option_of(int fd, int level, int option)
{
    int v = -1;
    socklen_t len = sizeof v;
    return getsockopt(fd, level, option, &v, &len) < 0 ? -errno : v;
}

static int look_at_ends(void *arg)
{
    struct notes *n = arg;
    weft_addr a;
    int l = weft_listen(n->i ? "[::1]:0" : "127.0.0.1:0", NULL);
    int k = 0;
    if (l < 0 || weft_addr_local(l, &a) < 0 || weft_addr_text(&a, n->text[0], 64) < 0)
        return -EPROTO;
    weft_connect_options o = { .from = n->i ? "[::1]:0" : "127.0.0.1:0", .delay = true };
    int quick = weft_connect(n->text[0], NULL), slow = weft_connect(n->text[0], &o);
    int got = weft_accept(l), got2 = weft_accept(l);
    n->rc[k++] = quick >= 0 && slow >= 0 && got >= 0 && got2 >= 0;
    n->rc[k++] = option_of(quick, IPPROTO_TCP, TCP_NODELAY) != 0;
    n->rc[k++] = option_of(slow, IPPROTO_TCP, TCP_NODELAY) != 0;
    n->rc[k++] = option_of(got, IPPROTO_TCP, TCP_NODELAY) != 0;
    n->rc[k++] = option_of(l, SOL_SOCKET, SO_REUSEADDR) != 0;
    n->rc[k++] = weft_addr_peer(quick, &a);
    weft_ignore(weft_addr_text(&a, n->text[1], 64));
    n->rc[k++] = weft_addr_local(quick, &a);
    weft_ignore(weft_addr_text(&a, n->text[2], 64));
    n->rc[k++] = weft_addr_peer(got, &a);
    weft_ignore(weft_addr_text(&a, n->text[3], 64));
    n->rc[k++] = weft_addr_peer(l, &a);
    n->rc[k++] = flags_of(got) < 0;
    int fds[] = { l, quick, slow, got, got2 };
    for (int i = 0; i < COUNT(fds); i++)
        weft_close_auto(&fds[i]);
    return k;
}

START_TEST(both_ends_know_their_addresses_and_send_without_delay)
{
    static const int expected[] = { 1, 1, 0, 1, 1, 0, 0, 0, -ENOTCONN, 0 };
    struct notes n = { .i = _i };
    if (_i && !have_v6())
        return;
    int k = run_notes(look_at_ends, &n, 1);
    ck_assert_int_eq(k, COUNT(expected));
    for (int i = 0; i < k; i++)
        ck_assert_msg(n.rc[i] == expected[i], "step %d: %d", i, n.rc[i]);
    ck_assert_str_eq(n.text[0], n.text[1]);
    ck_assert_str_eq(n.text[2], n.text[3]);
}
END_TEST

/* Bound, and nobody listens there; -1: it is another program's. */
static int keep_v4(int port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int listen_on_v6_alone(int *kept)
{
    int l = -1;
    for (int tries = 0; tries < 100; tries++) {
        l = weft_listen("[::]:0", &(weft_listen_options){ .v6_only = true });
        if (l < 0 || (*kept = keep_v4(port_of(l))) >= 0)
            break;
        weft_close_auto(&l);
    }
    return l;
}

static int listen_on_both(void *arg)
{
    struct notes *n = arg;
    int k = 0, kept = -1;
    int l = n->i ? listen_on_v6_alone(&kept) : weft_listen("[::]:0", NULL);
    n->rc[k++] = l >= 0;
    char v4[32], v6[32];
    snprintf(v4, sizeof v4, "127.0.0.1:%d", port_of(l));
    snprintf(v6, sizeof v6, "[::1]:%d", port_of(l));
    int a = weft_connect(v6, NULL), b = weft_connect(v4, NULL);
    n->rc[k++] = a >= 0;
    n->rc[k++] = b >= 0 ? 1 : b;
    weft_close_auto(&a);
    weft_close_auto(&b);
    weft_close_auto(&l);
    if (kept >= 0)
        close(kept);
    l = weft_listen(":0", NULL);
    snprintf(v4, sizeof v4, "127.0.0.1:%d", port_of(l));
    snprintf(v6, sizeof v6, "[::1]:%d", port_of(l));
    a = weft_connect(v6, NULL);
    b = weft_connect(v4, NULL);
    n->rc[k++] = a >= 0;
    n->rc[k++] = b >= 0;
    weft_close_auto(&a);
    weft_close_auto(&b);
    weft_close_auto(&l);
    return k;
}

START_TEST(a_listener_on_every_address_takes_both_families_unless_told)
{
    struct notes n = { .i = _i };
    if (!have_v6())
        return;
    ck_assert_int_eq(run_notes(listen_on_both, &n, 1), 5);
    ck_assert_int_eq(n.rc[0], 1);
    ck_assert_int_eq(n.rc[1], 1);
    ck_assert_int_eq(n.rc[2], _i ? -ECONNREFUSED : 1);
    ck_assert_int_eq(n.rc[3], 1);
    ck_assert_int_eq(n.rc[4], 1);
}
END_TEST

/* -- a socket that is always ready does not keep the worker -- */

enum { NAPS = 9 };

struct greedy {
    int fd[2];
    atomic_int stop;
    int turns, slept, late;
};

static int read_without_end(void *arg)
{
    struct greedy *g = arg;
    char c = 'x';
    int rc = 1;
    for (int64_t end = weft_after(LIMIT); rc == 1 && !atomic_load(&g->stop) && weft_now() < end;
            g->turns++) {
        rc = weft_write(g->fd[0], &c, 1);
        if (rc == 1)
            rc = weft_read(g->fd[1], &c, 1);
    }
    return rc == 1 ? 0 : rc;
}

static int sleep_beside_greedy(void *arg)
{
    struct greedy *g = arg;
    for (int i = 0; i < NAPS; i++) {
        int64_t due = weft_after(weft_ms(1));
        g->slept += weft_sleep_until(due) == 0;
        g->late += weft_now() - due >= weft_ms(10);
    }
    atomic_store(&g->stop, 1);
    return 0;
}

static int be_greedy(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleep_beside_greedy, arg);
    weft_spawn(&s, read_without_end, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(a_socket_that_is_always_ready_does_not_keep_the_worker)
{
    bool timed = !TSAN && !ASAN && !chaos();
    int late;
    int64_t end = weft_after(LIMIT);
    do {
        struct greedy g = { .turns = 0 };
        ck_assert_int_eq(weft_pair(g.fd), 0);
        int64_t start = weft_now();
        int rc = weft_run(be_greedy, &g, ON(1));
        int64_t took = weft_now() - start;
        weft_close(g.fd[0]);
        weft_close(g.fd[1]);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(g.slept, NAPS);
        ck_assert_int_lt(took, LIMIT / 2);
        late = g.late;
    } while (timed && late > NAPS / 2 && weft_now() < end);
    if (timed)
        ck_assert_int_le(late, NAPS / 2); /* B-006: no more than 10 ms, in one of the tries most of the times */
}
END_TEST

int main(void)
{
    int counts = COUNT(worker_counts);
    Suite *s = suite_create("io");
    TCase *tc = add_case(s, "streams");
    tcase_add_loop_test(tc, every_kind_of_stream_carries_all_bytes_and_then_its_end, 0,
            STREAMS * COUNT(worker_counts));
    tcase_add_loop_test(tc, ten_megabytes_reach_a_slow_reader, 0, 3);
    tcase_add_loop_test(tc, half_of_a_connection_can_be_closed, 0, 4);
    tcase_add_loop_test(tc, data_with_the_end_behind_it_is_read_to_the_end, 0, 2 * STREAMS);
    tcase_add_loop_test(tc, a_parked_reader_gets_data_and_end_that_come_together, 0, STREAMS);
    tcase_add_test(tc, read_all_tells_a_clean_end_from_a_broken_one);
    tcase_add_loop_test(tc, vectors_are_read_and_written, 0, STREAMS);
    tc = add_case(s, "waiters");
    tcase_add_loop_test(
            tc, several_readers_are_served_in_the_order_they_came, 0, COUNT(waited_kinds));
    tcase_add_loop_test(tc, several_readers_share_what_comes_at_once, 0, 3 * COUNT(waited_kinds));
    tcase_add_loop_test(tc, several_tasks_wait_for_one_descriptor, 0, COUNT(waited_kinds));
    tcase_add_loop_test(tc, who_cannot_look_passes_its_turn_on, 0, COUNT(waited_kinds));
    tcase_add_loop_test(tc, what_lies_behind_a_mark_is_read_without_a_new_event, 0, 3 * counts);
    tcase_add_loop_test(tc, a_read_of_nothing_takes_nothing, 0, 2 * (STREAMS + 1));
    tcase_add_loop_test(tc, one_task_reads_while_another_writes_on_the_same_descriptor, 0, 12);
    tcase_add_test(tc, a_socket_that_is_always_ready_does_not_keep_the_worker);
    tc = add_case(s, "foreign descriptors");
    tcase_add_loop_test(tc, a_foreign_descriptor_keeps_its_flags, 0, 2);
    tcase_add_test(tc, a_blocking_foreign_descriptor_does_not_hold_up_the_worker);
    tcase_add_loop_test(tc, the_programs_own_sockets_hold_up_no_worker_and_keep_their_flags, 0, 2);
    tcase_add_test(tc, short_reads_of_a_pipe_go_on);
    tcase_add_test(tc, a_write_forgets_nothing_of_a_short_read);
    tcase_add_loop_test(tc, an_eventfd_of_others_is_waited_for, 0, counts);
    tcase_add_test(tc, a_hang_up_ends_a_wait);
    tc = add_case(s, "bad descriptors");
    tcase_add_loop_test(tc, closed_and_negative_descriptors_are_refused, 0, COUNT(bad_numbers));
    tcase_add_loop_test(tc, a_second_close_is_refused, 0, 4);
    tcase_add_loop_test(
            tc, regular_files_and_dev_null_are_read_and_written_but_not_waited_for, 0, 3);
    tcase_add_test(tc, the_errors_of_the_system_call_are_passed_on);
    tc = add_case(s, "closing");
    if (getenv("WEFT_TEST_LONG"))
        tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, closing_a_descriptor_wakes_who_waits_on_it, 0, CLOSED_WAITS);
    tcase_add_loop_test(
            tc, forgetting_a_descriptor_wakes_who_waits_on_it_and_leaves_it_open, 0, CLOSED_WAITS);
    tcase_add_loop_test(tc, a_number_that_others_closed_and_used_again_is_waited_for_anew, 0,
            COUNT(foreign_kinds) * STREAMS);
#ifdef WEFT_DEBUG
    tcase_add_test(tc, a_descriptor_of_weft_that_others_closed_aborts_in_debug_builds);
#endif
    tcase_add_loop_test(tc, no_byte_of_many_short_connections_is_a_foreigners, 0, COUNT(worker_counts));
    tcase_add_loop_test(tc, numbers_closed_by_weft_are_used_again, 0, counts);
    tcase_add_test(tc, a_descriptor_belongs_to_the_runtime_that_waits_on_it);
    tcase_add_test(tc, descriptors_are_closed_while_their_runtime_ends);
    tcase_add_loop_test(tc, a_descriptor_outlives_the_runtimes_that_use_it_in_turn, 0, 2);
    tc = add_case(s, "listeners");
    tcase_add_loop_test(tc, pending_connections_are_taken_one_at_a_time, 0, 2);
    tcase_add_loop_test(tc, connections_behind_the_first_one_are_not_forgotten, 0, 3);
    tcase_add_loop_test(tc, several_tasks_accept_on_one_listener, 0, counts);
    tcase_add_loop_test(tc, several_tasks_accept_on_a_blocking_listener_of_others, 0, counts);
    tcase_add_loop_test(tc, an_address_in_use_is_refused_unless_it_is_shared, 0, 2);
    tc = add_case(s, "failing connections");
    tcase_add_loop_test(tc, connecting_where_nobody_listens_is_refused, 0, 2);
    tcase_add_loop_test(tc, a_peer_that_resets_is_an_error, 0, counts);
    tcase_add_loop_test(tc, a_reset_told_to_the_writer_is_no_end_for_the_reader, 0, counts);
    tcase_add_test(tc, a_connection_that_died_in_the_queue_does_no_harm);
    tcase_add_loop_test(tc, writing_to_a_closed_peer_is_an_error_and_no_signal, 0, 4);
    tc = add_case(s, "no descriptors");
    tcase_add_loop_test(
            tc, accept_without_descriptors_gives_up_after_a_second_and_loses_nothing, 0, 2);
    tcase_add_loop_test(tc, accept_recovers_when_descriptors_come_free, 0, 2);
    tcase_add_test(tc, opening_without_descriptors_is_an_error);
    tcase_add_test(tc, a_runtime_without_descriptors_does_not_start);
    tc = add_case(s, "Unix sockets");
    tcase_add_test(tc, unix_sockets_have_paths_modes_and_successors);
    tc = add_case(s, "addresses");
    tcase_add_loop_test(tc, addresses_survive_the_way_there_and_back, 0, COUNT(good_addresses));
    tcase_add_test(tc, a_port_alone_is_every_address);
    tcase_add_loop_test(tc, what_is_no_address_is_refused, 0, COUNT(bad_addresses));
    tcase_add_test(tc, null_and_strange_addresses_are_refused);
    tcase_add_loop_test(tc, both_ends_know_their_addresses_and_send_without_delay, 0, 2);
    tcase_add_loop_test(tc, a_listener_on_every_address_takes_both_families_unless_told, 0, 2);
    return run_suite(s);
}
