/* tests/fds_test.c - descriptors through Unix sockets: os/fds.c. */
#include "sync_support.h"

static const int counts[] = { 1, 2, 4 };

struct pass {
    int rc[8];
    int flags, leaked;
    char buf[8];
};

static int pass_on(void *arg)
{
    struct pass *p = arg;
    int pair[2], pipes[2], got[2] = { -1, -1 };
    size_t n = 2;
    if (weft_pair(pair) < 0 || pipe(pipes) < 0)
        return -EIO;
    int before = descriptors_now();
    p->rc[0] = weft_send_fds(pair[0], "ab", 2, pipes, 2);
    p->rc[1] = weft_recv_fds(pair[1], p->buf, 8, got, &n);
    p->rc[2] = (int)n;
    p->flags = fcntl(got[0], F_GETFD);
    p->rc[3] = sys_write(got[1], "z", 1);
    p->rc[4] = sys_read(pipes[0], p->buf + 4, 1);
    close(got[0]);
    close(got[1]);
    /* more than there is room for */
    n = 1;
    weft_ignore(weft_send_fds(pair[0], "c", 1, pipes, 2));
    p->rc[5] = weft_recv_fds(pair[1], p->buf + 2, 1, got, &n);
    /* bytes alone */
    weft_ignore(weft_send_fds(pair[0], "d", 1, NULL, 0));
    n = 2;
    p->rc[6] = weft_recv_fds(pair[1], p->buf + 3, 1, got, &n) + (int)n;
    p->leaked = descriptors_now() - before;
    weft_ignore(weft_close(pair[0]));
    n = 2;
    p->rc[7] = weft_recv_fds(pair[1], p->buf + 6, 1, got, &n) + (int)n;
    weft_ignore(weft_close(pair[1]));
    close(pipes[0]);
    close(pipes[1]);
    return 0;
}

static void check_pass(const struct pass *p)
{
    ck_assert_int_eq(p->rc[0], 2);
    ck_assert_int_eq(p->rc[1], 2);
    ck_assert_int_eq(p->rc[2], 2);
    ck_assert_int_eq(p->flags, FD_CLOEXEC);
    ck_assert_int_eq(p->rc[3], 1);
    ck_assert_int_eq(p->rc[4], 1);
    ck_assert_int_eq(p->rc[5], -EMSGSIZE);
    ck_assert_int_eq(p->buf[2], 'c');
    ck_assert_int_eq(p->rc[6], 1);
    ck_assert_int_eq(p->leaked, 0);
    ck_assert_int_eq(p->rc[7], 0);
}

START_TEST(descriptors_arrive_and_none_is_leaked)
{
    struct pass p = { .flags = -1 };
    ck_assert_int_eq(weft_run(pass_on, &p, ON(counts[_i])), 0);
    check_pass(&p);
}
END_TEST

START_TEST(a_plain_thread_passes_them_too)
{
    struct pass p = { .flags = -1 };
    ck_assert_int_eq(pass_on(&p), 0);
    check_pass(&p);
}
END_TEST

START_TEST(without_numbers_for_them_those_that_came_are_closed)
{
    int pair[2], pipes[2], got[2];
    char c;
    size_t n = 2;
    struct rlimit old;
    ck_assert_int_eq(weft_pair(pair), 0);
    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(weft_send_fds(pair[0], "x", 1, pipes, 2), 1);
    int next = dup(0);
    ck_assert_int_ge(next, 0);
    close(next);
    getrlimit(RLIMIT_NOFILE, &old);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)next + 1, old.rlim_max }); /* one is left */
    int rc = weft_recv_fds(pair[1], &c, 1, got, &n);
    int again = dup(0);
    setrlimit(RLIMIT_NOFILE, &old);
    ck_assert_int_eq(rc, -EMFILE);
    ck_assert_int_eq(again, next);
    close(again);
    ck_assert_int_eq(weft_close(pair[0]), 0);
    ck_assert_int_eq(weft_close(pair[1]), 0);
    close(pipes[0]);
    close(pipes[1]);
}
END_TEST

/* A connection that was read from, was passed on, and is closed here: where it is now it goes on, and that is to wake nobody
 * here any more. */
static int pass_and_close(void *arg)
{
    struct pass *p = arg;
    int pair[2], way[2], got = -1;
    size_t n = 1;
    weft_scope s;
    if (weft_pair(pair) < 0 || weft_pair(way) < 0)
        return -EIO;
    int64_t end = weft_after(LIMIT);
    do { /* until it has waited: its time may be over before it has begun to */
        weft_scope_begin(&s, weft_ms(1));
        p->rc[0] = weft_scope_end(&s, weft_read(pair[1], p->buf, 1));
        p->rc[1] = watched_now(pair[1]);
    } while (p->rc[0] == -ETIMEDOUT && p->rc[1] == 0 && weft_now() < end);
    p->rc[2] = weft_send_fds(way[0], "x", 1, &pair[1], 1);
    p->rc[3] = weft_recv_fds(way[1], p->buf, 1, &got, &n);
    p->rc[4] = weft_close(pair[1]);
    p->rc[5] = watched_now(pair[1]);
    p->rc[6] = weft_write(pair[0], "y", 1);
    p->rc[7] = weft_read(got, p->buf, 1);
    weft_ignore(weft_close(got));
    weft_ignore(weft_close(pair[0]));
    weft_ignore(weft_close(way[0]));
    weft_ignore(weft_close(way[1]));
    return 0;
}

START_TEST(what_was_passed_on_and_closed_is_in_no_set)
{
    static const int expected[] = { -ETIMEDOUT, 1, 1, 1, 0, 0, 1, 1 };
    struct pass p = { .flags = 0 };
    ck_assert_int_eq(weft_run(pass_and_close, &p, ON(counts[_i])), 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_int_eq(p.rc[i], expected[i]);
}
END_TEST

static const int kinds[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };

/* Credentials, a label, and a descriptor of the process come beside them if the socket's owner has asked for it. */
START_TEST(as_many_as_there_can_be_arrive_with_who_sent_them)
{
    enum { MOST = 253, PASS_LABEL = 34, PASS_PIDFD = 76 };
    int pair[2], fds[MOST], got[MOST], on = 1;
    size_t n = MOST;
    char c;
    ck_assert_int_eq(socketpair(AF_UNIX, kinds[_i] | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    ck_assert_int_eq(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    (void)setsockopt(pair[1], SOL_SOCKET, PASS_LABEL, &on, sizeof on);
    (void)setsockopt(pair[1], SOL_SOCKET, PASS_PIDFD, &on, sizeof on);
    for (int i = 0; i < MOST; i++)
        fds[i] = pair[0];
    ck_assert_int_eq(weft_send_fds(pair[0], "x", 1, fds, MOST), 1);
    int before = descriptors_now();
    ck_assert_int_eq(weft_recv_fds(pair[1], &c, 1, got, &n), 1);
    ck_assert_uint_eq(n, MOST);
    for (int i = 0; i < MOST; i++)
        close(got[i]);
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert_int_eq(weft_close(pair[0]), 0);
    ck_assert_int_eq(weft_close(pair[1]), 0);
}
END_TEST

static int wait_in_vain(void *arg)
{
    struct pass *p = arg;
    int pair[2], got;
    size_t n = 1;
    weft_scope s;
    if (weft_pair(pair) < 0)
        return -EIO;
    weft_scope_begin(&s, weft_ms(5));
    p->rc[0] = weft_scope_end(&s, weft_recv_fds(pair[0], p->buf, 1, &got, &n));
    weft_ignore(weft_close(pair[0]));
    weft_ignore(weft_close(pair[1]));
    return 0;
}

START_TEST(receiving_ends_with_the_deadline)
{
    struct pass p = { .flags = 0 };
    ck_assert_int_eq(weft_run(wait_in_vain, &p, ON(counts[_i])), 0);
    ck_assert_int_eq(p.rc[0], -ETIMEDOUT);
}
END_TEST

/* -- told to leave (B-031): nothing was sent, and what came is still there, docs/cancellation.md -- */

struct parcel {
    int pair[2], pipes[2], got[2];
    size_t n;
    char buf[8];
    bool sends, gift_first; /* what it waits for comes before the cancel */
};

static int send_parcel(void *arg)
{
    struct parcel *p = arg;
    return weft_send_fds(p->pair[0], "p", 1, p->pipes, 2);
}

static int recv_parcel(void *arg)
{
    struct parcel *p = arg;
    p->n = 2;
    return weft_recv_fds(p->pair[1], p->buf, sizeof p->buf, p->got, &p->n);
}

static void open_parcel(struct parcel *p)
{
    MUST(weft_pair(p->pair) == 0);
    MUST(pipe(p->pipes) == 0);
}

static void close_parcel(struct parcel *p)
{
    for (int i = 0; i < 2; i++) {
        weft_ignore(weft_close(p->pair[i]));
        close(p->pipes[i]);
    }
}

/* One that came, and nothing behind it; closes what came with it. */
static void is_there(struct parcel *p, bool received)
{
    struct pollfd there = { .fd = p->pair[1], .events = POLLIN };
    if (!received)
        MUST(poll(&there, 1, 0) == 1 && recv_parcel(p) == 1);
    MUST(p->buf[0] == 'p' && p->n == 2);
    for (size_t i = 0; i < p->n && i < 2; i++)
        MUST(close(p->got[i]) == 0);
    MUST(read_now(p->pair[1], p->buf, 1) == -EAGAIN);
}

static int refused_at_once(void *arg)
{
    struct parcel *p = arg;
    weft_scope s;
    open_parcel(p);
    if (!p->sends)
        MUST(send_parcel(p) == 1);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    MUST((p->sends ? send_parcel(p) : recv_parcel(p)) == -ECANCELED);
    MUST(weft_scope_end(&s, -ECANCELED) == 0);
    if (p->sends)
        MUST(read_now(p->pair[1], p->buf, 1) == -EAGAIN && send_parcel(p) == 1);
    is_there(p, false);
    close_parcel(p);
    return 0;
}

static int called_off(void *arg)
{
    struct parcel *p = arg;
    struct caller c;
    weft_scope s;
    open_parcel(p);
    int filled = p->sends ? fill(p->pair[0]) : 0, got = 0;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &c, p->sends ? send_parcel : recv_parcel, p));
    if (!p->gift_first) {
        MUST(weft_task_cancel(c.task, NULL) == 0);
        MUST(result(&c) == -ECANCELED);
    }
    while (got < filled) {
        char page[512];
        int n = read_now(p->pair[1], page, filled - got < COUNT(page) ? (size_t)(filled - got) : sizeof page);
        MUST(n > 0);
        got = n > 0 ? got + n : filled;
    }
    if (!p->sends)
        MUST(send_parcel(p) == 1);
    if (p->gift_first)
        weft_ignore(weft_task_cancel(c.task, NULL)); /* it may have ended */
    int rc = result(&c);
    MUST(rc == 1 || rc == -ECANCELED);
    if (p->sends && rc < 0)
        MUST(read_now(p->pair[1], p->buf, 1) == -EAGAIN && send_parcel(p) == 1);
    is_there(p, !p->sends && rc == 1);
    MUST(weft_scope_end(&s, 0) == 0);
    close_parcel(p);
    return 0;
}

START_TEST(who_was_told_to_leave_passes_nothing_and_loses_nothing)
{
    struct parcel p = { .sends = _i % 2 };
    int before = descriptors_now();
    RUN(refused_at_once, &p, workers[_i / 2]);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

START_TEST(a_wait_that_is_called_off_passes_nothing_and_loses_nothing)
{
    for (int i = 0; i < 20; i++) {
        struct parcel p = { .sends = _i % 2, .gift_first = i % 2 };
        int before = descriptors_now();
        RUN(called_off, &p, workers[_i / 2]);
        ck_assert_int_eq(descriptors_now(), before);
    }
}
END_TEST

START_TEST(bad_arguments_are_refused)
{
    int fds[254] = { 0 }, bad = 1 << 20, pair[2];
    size_t n = 1;
    char c = 0;
    ck_assert_int_eq(weft_pair(pair), 0);
    ck_assert_int_eq(weft_send_fds(pair[0], &c, 0, fds, 1), -EINVAL);
    ck_assert_int_eq(weft_send_fds(pair[0], NULL, 1, fds, 1), -EINVAL);
    ck_assert_int_eq(weft_send_fds(pair[0], &c, 1, NULL, 1), -EINVAL);
    ck_assert_int_eq(weft_send_fds(pair[0], &c, 1, fds, 254), -EINVAL);
    ck_assert_int_eq(weft_send_fds(pair[0], &c, 1, &bad, 1), -EBADF);
    ck_assert_int_eq(weft_recv_fds(pair[0], &c, 1, fds, NULL), -EINVAL);
    ck_assert_int_eq(weft_recv_fds(pair[0], &c, 1, NULL, &n), -EINVAL);
    ck_assert_int_eq(weft_recv_fds(-1, &c, 1, fds, &n), -EBADF);
    ck_assert_int_eq(weft_close(pair[0]), 0);
    ck_assert_int_eq(weft_close(pair[1]), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fds");
    TCase *tc = add_case(s, "descriptors");
    tcase_add_loop_test(tc, descriptors_arrive_and_none_is_leaked, 0, COUNT(counts));
    tcase_add_test(tc, a_plain_thread_passes_them_too);
    tcase_add_test(tc, without_numbers_for_them_those_that_came_are_closed);
    tcase_add_loop_test(tc, what_was_passed_on_and_closed_is_in_no_set, 0, COUNT(counts));
    tcase_add_loop_test(tc, receiving_ends_with_the_deadline, 0, COUNT(counts));
    tcase_add_loop_test(tc, as_many_as_there_can_be_arrive_with_who_sent_them, 0, COUNT(kinds));
    tcase_add_loop_test(tc, who_was_told_to_leave_passes_nothing_and_loses_nothing, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, a_wait_that_is_called_off_passes_nothing_and_loses_nothing, 0, 2 * COUNT(workers));
    tcase_add_test(tc, bad_arguments_are_refused);
    return run_suite(s);
}
