/* tests/foreign_net_test.c - sockets whose other end is a program that we did not write: socat, and OpenBSD's nc (others of
 * that name know less). Their ends, their halves and their resets; and what they do not do: read, write, answer in time.
 * os/io.c, os/net.c, os/copy.c, os/stream.c, os/serve.c, os/dgram.c, os/fds.c. */
#include "foreign_support.h"

enum { PLAIN = COUNT(workers), PLACES };

/* In a task of 1, 2 and 4 workers, and on a plain thread. */
NOINLINE static void everywhere(weft_fn *fn, void *arg, int place)
{
    if (place < PLAIN) {
        RUN(fn, arg, workers[place]);
        return;
    }
    ck_assert_int_eq(fn(arg), 0);
    NOTHING_WRONG();
}

/* ---- the end of one way, while the other goes on */

enum { LINES = 500, KINDS = 4 };

static int be_sorted(void *arg)
{
    char *line, text[16];
    weft_stream *s = NULL;
    int i = 0, rc, fd = weft_connect(arg, NULL);
    MUST(fd >= 0);
    if (fd < 0 || weft_stream_open(&s, fd, NULL) < 0)
        return 0;
    for (int n = LINES; n > 0; n--)
        MUST(weft_stream_printf(s, "line %05d\n", n) == 0);
    MUST(weft_stream_shutdown(s) == 0); /* sort says nothing before it has read the end */
    for (; (rc = weft_stream_read_line(s, &line, NULL)) > 0; i++) {
        snprintf(text, sizeof text, "line %05d", i + 1);
        MUST(strcmp(line, text) == 0);
    }
    MUST(rc == 0 && i == LINES);
    MUST(weft_stream_close(&s) == 0);
    return 0;
}

START_TEST(a_program_reads_our_end_and_then_answers)
{
    struct foreign f;
    char listen[128], where[128], path[80];
    const char *name = own_path(path, "sort");
    switch (_i % KINDS) {
    case 0:
        snprintf(listen, sizeof listen, "TCP4-LISTEN:0,bind=127.0.0.1");
        break;
    case 1:
        snprintf(listen, sizeof listen, "TCP6-LISTEN:0,bind=[::1]");
        break;
    case 2:
        snprintf(listen, sizeof listen, "UNIX-LISTEN:%s,unlink-close", name);
        break;
    default:
        snprintf(listen, sizeof listen, "ABSTRACT-LISTEN:%s", name);
        break;
    }
    socat_start(&f, ARGS("socat", "-d", "-d", "-t20", listen, "EXEC:sort"), where, sizeof where);
    if (_i % KINDS >= 2)
        snprintf(where, sizeof where, "unix:%s%s", _i % KINDS == 3 ? "@" : "", name);
    everywhere(be_sorted, where, _i / KINDS);
    ck_assert_int_eq(foreign_ends(&f), 0);
    foreign_stop(&f);
}
END_TEST

/* Its end first: it has nothing to say, but listens. */
static int speak_to_the_silent(void *arg)
{
    char byte;
    weft_backoff b = { .first = weft_ms(1), .most = weft_ms(10) };
    weft_scope s;
    int fd;
    weft_scope_begin(&s, LIMIT);
    while ((fd = weft_connect(arg, NULL)) < 0 && weft_backoff_sleep(&b) > 0) /* until it listens */
        continue;
    MUST(weft_scope_end(&s, fd) >= 0);
    MUST(weft_read(fd, &byte, 1) == 0 && weft_read(fd, &byte, 1) == 0);
    for (int i = 0; i < 100; i++)
        MUST(weft_write_all(fd, "still here\n", 11) == 0);
    MUST(weft_close(fd) == 0);
    return 0;
}

START_TEST(a_program_that_has_said_all_still_hears)
{
    struct foreign f;
    char path[80], where[100], heard[2000];
    own_path(path, "nc");
    snprintf(where, sizeof where, "unix:%s", path);
    foreign_start(&f, ARGS("nc.openbsd", "-N", "-l", "-U", path));
    foreign_close(&f.in);
    everywhere(speak_to_the_silent, where, _i);
    ck_assert_uint_eq(foreign_output(&f, heard, sizeof heard), 1100);
    ck_assert_int_eq(foreign_ends(&f), 0);
    foreign_stop(&f);
    unlink(path);
}
END_TEST

/* ---- programs as clients */

enum { CLIENTS = 6 };

struct served {
    int listener, other;
    char where[32];
    atomic_int n;
};

static int count_bytes(weft_stream *s, void *arg)
{
    struct served *v = arg;
    char buf[100];
    int n, sum = 0;
    while ((n = weft_stream_read(s, buf, sizeof buf)) > 0)
        sum += n;
    MUST(n == 0);
    MUST(weft_stream_printf(s, "%d bytes\n", sum) == 0);
    atomic_fetch_add(&v->n, 1);
    return n;
}

static int serve_one(void *arg)
{
    struct served *v = arg;
    return weft_serve(v->listener, count_bytes, v, NULL);
}

static int serve_other(void *arg)
{
    struct served *v = arg;
    return weft_serve(v->other, count_bytes, v, NULL);
}

static int serve_both(void *arg)
{
    struct served *v = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, serve_one, v);
    weft_spawn(&s, serve_other, v);
    MUST(wait_for(&v->n, CLIENTS));
    weft_scope_cancel(&s, "test"); /* what is said is still sent */
    return weft_scope_end(&s, 0);
}

START_TEST(programs_are_served_through_tcp_and_unix_sockets)
{
    static const char text[] = "0123456789";
    struct foreign f[CLIENTS];
    struct served v = { .n = 0 };
    char path[80], where[100], port[16], heard[64], want[64];
    v.listener = listen_local(v.where);
    snprintf(port, sizeof port, "%s", strchr(v.where, ':') + 1);
    snprintf(where, sizeof where, "unix:%s", own_path(path, "server"));
    v.other = weft_listen(where, NULL);
    ck_assert(v.listener >= 0 && v.other >= 0);
    for (int i = 0; i < CLIENTS; i++) {
        foreign_start(&f[i], i % 2 ? ARGS("nc.openbsd", "-N", "-U", path) : ARGS("nc.openbsd", "-N", "127.0.0.1", port));
        for (int k = 0; k <= i; k++)
            ck_assert_int_eq(sys_write(f[i].in, text, 10), 10);
        foreign_close(&f[i].in);
    }
    RUN(serve_both, &v, workers[_i]);
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(want, sizeof want, "%d bytes\n", 10 * (i + 1));
        foreign_output(&f[i], heard, sizeof heard);
        ck_assert_str_eq(heard, want);
        ck_assert_int_eq(foreign_ends(&f[i]), 0);
        foreign_stop(&f[i]);
    }
    weft_close(v.listener);
    weft_close(v.other);
    unlink(path);
}
END_TEST

/* ---- between two of them */

struct between {
    int listener;
    char where[128];
    uint64_t there, back;
};

static int pass_on(void *arg)
{
    struct between *b = arg;
    int in = weft_accept(b->listener), out = weft_connect(b->where, NULL);
    MUST(in >= 0 && out >= 0);
    MUST(weft_copy_both(in, out, &b->there, &b->back) == 0);
    weft_close(in);
    weft_close(out);
    return 0;
}

START_TEST(two_programs_talk_through_us_and_each_half_ends_by_itself)
{
    enum { BYTES = 200000 };
    struct foreign client, sorter;
    struct between b = { .there = 0 };
    char where[32], *heard = malloc(BYTES + 1);
    socat_start(&sorter, ARGS("socat", "-d", "-d", "-t20", "TCP4-LISTEN:0,bind=127.0.0.1", "EXEC:sort -r"), b.where,
            sizeof b.where);
    b.listener = listen_local(where);
    foreign_start(&client, ARGS("sh", "-c", "seq 10000 29999 | head -c 120000 | nc.openbsd -N 127.0.0.1 $0", strchr(where, ':') + 1));
    RUN(pass_on, &b, workers[_i]);
    size_t n = foreign_output(&client, heard, BYTES);
    ck_assert_uint_eq(n, 120000);
    ck_assert(b.there == n && b.back == n);
    ck_assert(strncmp(heard, "29999\n29998\n", 12) == 0 && strcmp(heard + n - 12, "10001\n10000\n") == 0);
    ck_assert_int_eq(foreign_ends(&client), 0);
    ck_assert_int_eq(foreign_ends(&sorter), 0);
    foreign_stop(&client);
    foreign_stop(&sorter);
    weft_close(b.listener);
    free(heard);
}
END_TEST

/* ---- who does not read, and does not write */

struct stopped {
    struct foreign f;
    char where[64];
    uint64_t written, read;
    atomic_int full;
};

static bool has_room(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    return poll(&p, 1, 0) == 1;
}

/* Writes as much as there is room for on all the way; a call that is called off has written nothing. One for which
 * there is room may be called off, too, if it comes late. */
static int write_until_full(struct stopped *p, int fd)
{
    static const char page[16384];
    int64_t end = weft_after(LIMIT);
    weft_scope s;
    int rc;
    do {
        weft_scope_begin(&s, weft_ms(30));
        rc = weft_scope_end(&s, weft_write(fd, page, sizeof page));
        p->written += rc > 0 ? (uint64_t)rc : 0;
    } while (rc > 0 || (rc == -ETIMEDOUT && has_room(fd) && weft_now() < end));
    return rc;
}

static int talk_to_the_stopped(void *arg)
{
    struct stopped *p = arg;
    static char buf[16384];
    weft_scope s;
    int rc, fd = weft_connect(p->where, NULL);
    MUST(fd >= 0 && weft_write(fd, "x", 1) == 1 && weft_read(fd, buf, 1) == 1);
    MUST(foreign_freeze(p->f.pid));
    weft_scope_begin(&s, weft_ms(5));
    MUST(weft_scope_end(&s, weft_read(fd, buf, 1)) == -ETIMEDOUT);
    MUST(write_until_full(p, fd) == -ETIMEDOUT);
    MUST(p->written > sizeof buf);
    kill(p->f.pid, SIGCONT);
    MUST(weft_shutdown(fd, SHUT_WR) == 0);
    while ((rc = weft_read(fd, buf, sizeof buf)) > 0)
        p->read += (uint64_t)rc;
    MUST(rc == 0 && p->read == p->written); /* to the byte */
    weft_close(fd);
    return 0;
}

START_TEST(a_stopped_program_is_waited_for_until_the_deadline_and_gets_every_byte_later)
{
    struct stopped p = { .written = 0 };
    socat_start(&p.f, ARGS("socat", "-d", "-d", "-t20", "TCP4-LISTEN:0,bind=127.0.0.1", "EXEC:cat"), p.where, sizeof p.where);
    everywhere(talk_to_the_stopped, &p, _i);
    ck_assert_int_eq(foreign_ends(&p.f), 0);
    foreign_stop(&p.f);
}
END_TEST

/* A byte now and then; whoever has no patience loses none. How often it had none. */
static int read_drops_once(const char *where)
{
    weft_stream *s = NULL;
    weft_scope t;
    char *line;
    int rc, late = 0, fd = weft_connect(where, NULL);
    MUST(fd >= 0 && weft_stream_open(&s, fd, NULL) == 0);
    do {
        weft_scope_begin(&t, weft_ms(4));
        rc = weft_scope_end(&t, weft_stream_read_line(s, &line, NULL));
        late += rc == -ETIMEDOUT;
    } while (rc == -ETIMEDOUT);
    MUST(rc == 1 && strcmp(line, "0123456789") == 0);
    MUST(weft_stream_read_line(s, &line, NULL) == 0);
    weft_ignore(weft_stream_close(&s));
    return late;
}

/* Whoever was stopped for as long as all of it takes finds it there, and tries again. */
static int read_drops(void *arg)
{
    int64_t end = weft_after(LIMIT);
    int late = 0;
    while (late == 0 && atomic_load(&wrongs) == 0 && weft_now() < end)
        late = read_drops_once(arg);
    MUST(late > 0);
    return 0;
}

START_TEST(a_line_that_comes_in_drops_is_whole)
{
    struct foreign f;
    char where[64];
    socat_start(&f, ARGS("socat", "-d", "-d", "TCP4-LISTEN:0,bind=127.0.0.1,fork",
                            "SYSTEM:for i in 0 1 2 3 4 5 6 7 8 9; do printf $i; sleep 0.01; done; echo"),
            where, sizeof where);
    everywhere(read_drops, where, _i);
    foreign_stop(&f);
}
END_TEST

/* ---- who resets while we write */

enum writer { WRITE, WRITEV, WRITE_ALL, STREAM, SEND_FILE, COPY, STREAM_COPY, WRITERS };

static const char zeros[65536];

struct reset {
    char where[64];
    int file, pair[2];
};

static int feed(void *arg)
{
    const struct reset *r = arg;
    int rc;
    while ((rc = weft_write_all(r->pair[1], zeros, sizeof zeros)) == 0)
        continue;
    return rc == -ECANCELED ? 0 : rc;
}

static int write_once(enum writer how, int fd, weft_stream *s, struct reset *r)
{
    struct iovec v[2] = { { (void *)(uintptr_t)zeros, 1000 }, { (void *)(uintptr_t)zeros, sizeof zeros } };
    weft_stream *from = NULL;
    int rc;
    switch (how) {
    case WRITE:
        return weft_write(fd, zeros, sizeof zeros);
    case WRITEV:
        return weft_writev(fd, v, 2);
    case WRITE_ALL:
        return weft_write_all(fd, zeros, sizeof zeros);
    case STREAM:
        return weft_stream_writev(s, v, 2);
    case SEND_FILE:
        return weft_send_file(fd, r->file, 0, UINT64_MAX, NULL);
    case COPY:
        return weft_copy(fd, r->pair[0], NULL);
    case STREAM_COPY:
        if (weft_stream_open(&from, r->pair[0], &(weft_stream_options){ .keep_fd = true }) < 0)
            return -EPROTO;
        rc = weft_stream_copy(s, from, NULL);
        weft_stream_drop(&from);
        return rc;
    case WRITERS:
        break;
    }
    return -EPROTO;
}

static int written_until_reset(enum writer how, struct reset *r)
{
    weft_scope s;
    weft_stream *to = NULL;
    int rc = 0, fd = weft_connect(r->where, NULL);
    MUST(fd >= 0 && weft_stream_open(&to, fd, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    if (how == COPY || how == STREAM_COPY) {
        MUST(weft_pair(r->pair) == 0);
        weft_spawn(&s, feed, r);
    }
    while (rc >= 0)
        rc = write_once(how, fd, to, r);
    weft_scope_cancel(&s, "it was reset");
    MUST(weft_scope_end(&s, 0) == 0);
    if (how == COPY || how == STREAM_COPY) {
        weft_close(r->pair[0]);
        weft_close(r->pair[1]);
    }
    weft_stream_drop(&to);
    return rc;
}

static int reset_them_all(void *arg)
{
    struct reset *r = arg;
    for (int how = 0; how < WRITERS; how++) {
        if (weft_task_self() == 0 && how >= COPY)
            break; /* needs a task to feed it */
        int rc = written_until_reset((enum writer)how, r);
        if (rc != -ECONNRESET && rc != -EPIPE)
            fprintf(stderr, "writer %d: %d\n", how, rc);
        MUST(rc == -ECONNRESET || rc == -EPIPE);
    }
    return 0;
}

START_TEST(a_reset_while_we_write_is_an_error_and_no_signal)
{
    struct foreign f;
    char path[] = "/tmp/weft-foreign-XXXXXX";
    struct reset r = { .file = mkstemp(path) };
    sigset_t pipe_signal;
    ck_assert(r.file >= 0 && unlink(path) == 0 && ftruncate(r.file, 4 << 20) == 0);
    signal(SIGPIPE, SIG_DFL); /* it would kill */
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigprocmask(SIG_UNBLOCK, &pipe_signal, NULL);
    socat_start(&f, ARGS("socat", "-d", "-d", "-u", "TCP4-LISTEN:0,bind=127.0.0.1,fork,so-linger=0,readbytes=100000",
                            "OPEN:/dev/null"),
            r.where, sizeof r.where);
    everywhere(reset_them_all, &r, _i);
    foreign_stop(&f);
    close(r.file);
}
END_TEST

/* ---- datagrams */

/* The first tells where it is; then each comes back as it was sent. */
static int be_echoed(void *arg)
{
    int fd = *(int *)arg;
    char buf[64], text[32];
    weft_addr to, from;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    MUST(weft_recv_from(fd, buf, sizeof buf, &to) == 6 && memcmp(buf, "hello\n", 6) == 0);
    for (int i = 0; i < 5; i++) {
        int n = snprintf(text, sizeof text, "%.*s", 3 * i + 1, "datagram of some bytes");
        MUST(weft_send_to(fd, text, (size_t)n, &to) == n);
        MUST(weft_recv_from(fd, buf, sizeof buf, &from) == n && memcmp(buf, text, (size_t)n) == 0);
        MUST(from.len == to.len && memcmp(&from.sa, &to.sa, to.len) == 0);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_program_echoes_datagrams)
{
    struct foreign f;
    char to[200], path[80], theirs[80];
    int fd = weft_udp_open("127.0.0.1:0", NULL);
    if (_i % 2) {
        weft_close(fd);
        snprintf(to, sizeof to, "unix:%s", own_path(path, "ours"));
        fd = weft_udp_open(to, NULL);
        snprintf(to, sizeof to, "UNIX-SENDTO:%s,bind=%s", path, own_path(theirs, "theirs"));
    } else {
        snprintf(to, sizeof to, "UDP4:127.0.0.1:%d", port_of(fd));
    }
    foreign_start(&f, ARGS("socat", to, "SYSTEM:echo hello; exec cat"));
    everywhere(be_echoed, &fd, _i / 2);
    foreign_stop(&f);
    weft_close(fd);
    if (_i % 2)
        weft_ignore(unlink(path) + unlink(theirs));
}
END_TEST

static int answer_two(void *arg)
{
    const int *fds = arg;
    for (int i = 0; i < 2; i++) {
        char buf[64];
        weft_addr from;
        int n = weft_recv_from(fds[i], buf, sizeof buf, &from);
        MUST(n == 6 && memcmp(buf, "hello\n", 6) == 0);
        MUST(weft_send_to(fds[i], "1234567\n", 8, &from) == 8);
    }
    return 0;
}

START_TEST(programs_send_datagrams_and_are_answered)
{
    struct foreign udp, local;
    char port[16], path[80], theirs[80], where[100], heard[64];
    int fds[2] = { weft_udp_open("127.0.0.1:0", NULL), -1 };
    snprintf(port, sizeof port, "%d", port_of(fds[0]));
    snprintf(where, sizeof where, "unix:%s", own_path(path, "ours"));
    unlink(path);
    unlink(own_path(theirs, "theirs"));
    fds[1] = weft_udp_open(where, NULL);
    ck_assert(fds[0] >= 0 && fds[1] >= 0);
    foreign_start(&udp, ARGS("nc.openbsd", "-u", "-W", "1", "127.0.0.1", port));
    foreign_start(&local, ARGS("nc.openbsd", "-u", "-U", "-W", "1", "-s", theirs, path));
    ck_assert(sys_write(udp.in, "hello\n", 6) == 6 && sys_write(local.in, "hello\n", 6) == 6);
    everywhere(answer_two, fds, _i);
    foreign_output(&udp, heard, sizeof heard);
    ck_assert_str_eq(heard, "1234567\n");
    foreign_output(&local, heard, sizeof heard);
    ck_assert_str_eq(heard, "1234567\n");
    foreign_stop(&udp);
    foreign_stop(&local);
    weft_close(fds[0]);
    weft_close(fds[1]);
    unlink(path);
    unlink(theirs);
}
END_TEST

/* ---- a connection for another program, as a super-server hands it over: it is to wait again */

struct handed {
    struct foreign f;
    int listener;
};

static int hand_over(void *arg)
{
    struct handed *h = arg;
    char buf[4];
    int status = 77, fd = weft_accept(h->listener), before = watched_now(-1);
    weft_process *p = NULL;
    MUST(fd >= 0);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(2));
    MUST(weft_scope_end(&s, weft_read(fd, buf, 4)) == -ETIMEDOUT); /* so that it is watched */
    MUST(sys_write(h->f.in, "c\nb\na\n", 6) == 6);
    MUST(weft_read_all(fd, buf, 2) == 2 && memcmp(buf, "c\n", 2) == 0);
    MUST(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0);
    MUST(weft_process_open(&p, ARGS("sort"), &(weft_process_options){ .in = fd, .out = fd }) == 0);
    MUST(weft_close(fd) == 0);
    MUST(watched_now(-1) == before); /* what the child does with it is not ours any more */
    foreign_close(&h->f.in);
    MUST(weft_process_wait(p, &status) == 0 && status == 0);
    weft_process_close(&p);
    return 0;
}

START_TEST(a_connection_is_served_by_a_program)
{
    struct handed h;
    char where[32], heard[64];
    int listener = listen_local(where);
    foreign_start(&h.f, ARGS("nc.openbsd", "-N", "127.0.0.1", strchr(where, ':') + 1));
    h.listener = listener;
    everywhere(hand_over, &h, _i);
    foreign_output(&h.f, heard, sizeof heard);
    ck_assert_str_eq(heard, "a\nb\n");
    ck_assert_int_eq(foreign_ends(&h.f), 0);
    foreign_stop(&h.f);
    weft_close(listener);
}
END_TEST

/* ---- a descriptor from another program */

static int be_handed_a_connection(void *arg)
{
    char where[32], byte;
    int pair[2], got[2] = { -1, -1 }, status = 77;
    size_t n = 2;
    weft_process *p = NULL;
    (void)arg;
    int listener = listen_local(where);
    MUST(listener >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    MUST(weft_process_open(&p, ARGS("nc.openbsd", "-F", "127.0.0.1", strchr(where, ':') + 1),
                 &(weft_process_options){ .in = WEFT_STDIO_NULL, .out = pair[1] }) == 0);
    int there = weft_accept(listener);
    MUST(there >= 0);
    MUST(weft_recv_fds(pair[0], &byte, 1, got, &n) >= 0 && n == 1);
    MUST(weft_process_wait(p, &status) == 0 && status == 0);
    weft_process_close(&p);
    MUST(weft_write(got[0], "x", 1) == 1 && weft_read(there, &byte, 1) == 1);
    MUST(weft_write(there, "y", 1) == 1 && weft_read(got[0], &byte, 1) == 1 && byte == 'y');
    MUST(weft_close(got[0]) == 0 && weft_read(there, &byte, 1) == 0);
    weft_close(there);
    weft_close(listener);
    weft_close(pair[0]);
    weft_close(pair[1]);
    return 0;
}

START_TEST(a_program_connects_for_us)
{
    int before = descriptors_now();
    everywhere(be_handed_a_connection, NULL, _i);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("foreign_net");
    if (!forking()) {
        fprintf(stderr, "skipped: foreign_net_test needs CK_FORK\n");
        return 77;
    }
    TCase *tc = add_case(s, "halves");
    add_if_there(tc, "socat", a_program_reads_our_end_and_then_answers, KINDS * PLACES);
    add_if_there(tc, "nc.openbsd", a_program_that_has_said_all_still_hears, PLACES);
    add_if_there(tc, "nc.openbsd", programs_are_served_through_tcp_and_unix_sockets, COUNT(workers));
    if (has_program("nc.openbsd"))
        add_if_there(tc, "socat", two_programs_talk_through_us_and_each_half_ends_by_itself, COUNT(workers));
    tc = add_case(s, "trouble");
    add_if_there(tc, "socat", a_stopped_program_is_waited_for_until_the_deadline_and_gets_every_byte_later, PLACES);
    add_if_there(tc, "socat", a_line_that_comes_in_drops_is_whole, PLACES);
    add_if_there(tc, "socat", a_reset_while_we_write_is_an_error_and_no_signal, PLACES);
    tc = add_case(s, "datagrams and descriptors");
    add_if_there(tc, "socat", a_program_echoes_datagrams, 2 * PLACES);
    add_if_there(tc, "nc.openbsd", programs_send_datagrams_and_are_answered, PLACES);
    add_if_there(tc, "nc.openbsd", a_program_connects_for_us, PLACES);
    add_if_there(tc, "nc.openbsd", a_connection_is_served_by_a_program, PLACES);
    return run_suite(s);
}
