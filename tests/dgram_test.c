/* tests/dgram_test.c - datagrams: os/dgram.c. */
#include "sync_support.h"

static const int counts[] = { 1, 2, 4 };

/* A receiver on 127.0.0.1; its address goes to `where`. */
static int open_local(char where[32])
{
    int fd = weft_udp_open("127.0.0.1:0", NULL);
    if (fd >= 0)
        snprintf(where, 32, "127.0.0.1:%d", port_of(fd));
    return fd;
}

struct talk {
    int rc[8];
    bool ok[8];
    char buf[64];
    weft_addr from;
    struct mmsghdr many[4];
    atomic_int step;
    int fd;
};

static int send_and_receive(void *arg)
{
    struct talk *t = arg;
    char where[32];
    weft_addr to, mine;
    int a = open_local(where), b = weft_udp_open(NULL, where);
    t->rc[0] = a < 0 ? a : b < 0 ? b : 0;
    if (t->rc[0] < 0)
        return 0;
    t->rc[1] = weft_send_to(b, "hello", 5, NULL);
    t->rc[2] = weft_recv_from(a, t->buf, sizeof t->buf, &t->from);
    t->ok[0] = weft_addr_local(b, &mine) == 0 && memcmp(&mine.sa, &t->from.sa, mine.len) == 0;
    t->rc[3] = weft_send_to(a, "", 0, &t->from);
    t->rc[4] = weft_recv_from(b, t->buf + 16, 8, NULL);
    t->ok[1] = weft_addr_parse(&to, where) == 0;
    t->rc[5] = weft_send_to(b, "0123456789", 10, &to);
    t->rc[6] = weft_recv_from(a, t->buf + 32, 4, &t->from);
    t->rc[7] = weft_send_to(a, "x", 1, NULL);
    weft_ignore(weft_close(a));
    weft_ignore(weft_close(b));
    return 0;
}

static void check_talk(const struct talk *t)
{
    ck_assert_int_eq(t->rc[0], 0);
    ck_assert_int_eq(t->rc[1], 5);
    ck_assert_int_eq(t->rc[2], 5);
    ck_assert_int_eq(memcmp(t->buf, "hello", 5), 0);
    ck_assert(t->ok[0] && t->ok[1]);
    ck_assert_int_eq(t->rc[3], 0);
    ck_assert_int_eq(t->rc[4], 0);
    ck_assert_int_eq(t->rc[5], 10);
    ck_assert_int_eq(t->rc[6], -EMSGSIZE);
    ck_assert_int_eq(memcmp(t->buf + 32, "0123", 4), 0);
    ck_assert_int_eq(t->rc[7], -EDESTADDRREQ);
}

START_TEST(datagrams_keep_their_bounds_and_senders_and_are_not_cut_in_silence)
{
    struct talk t = { .fd = -1 };
    ck_assert_int_eq(weft_run(send_and_receive, &t, ON(counts[_i])), 0);
    check_talk(&t);
}
END_TEST

START_TEST(a_plain_thread_talks_too)
{
    struct talk t = { .fd = -1 };
    send_and_receive(&t);
    check_talk(&t);
}
END_TEST

static int refused(void *arg)
{
    struct talk *t = arg;
    char where[32];
    int a = open_local(where), b = weft_udp_open(NULL, where);
    weft_ignore(weft_close(a));
    t->rc[0] = weft_send_to(b, "x", 1, NULL);
    t->rc[1] = weft_recv_from(b, t->buf, 8, NULL);
    weft_ignore(weft_close(b));
    return 0;
}

START_TEST(a_connected_socket_tells_that_nobody_is_there)
{
    struct talk t = { .fd = -1 };
    ck_assert_int_eq(weft_run(refused, &t, ON(counts[_i])), 0);
    ck_assert_int_eq(t.rc[0], 1);
    ck_assert_int_eq(t.rc[1], -ECONNREFUSED);
}
END_TEST

static int receive_late(void *arg)
{
    struct talk *t = arg;
    atomic_store(&t->step, 1);
    t->rc[1] = weft_recv_from(t->fd, t->buf, sizeof t->buf, NULL);
    return 0;
}

static int wait_for_one(void *arg)
{
    struct talk *t = arg;
    char where[32];
    weft_scope s;
    t->fd = open_local(where);
    int b = weft_udp_open(NULL, where);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, receive_late, t);
    wait_for(&t->step, 1);
    t->rc[0] = weft_send_to(b, "late", 4, NULL);
    t->rc[2] = weft_scope_end(&s, 0);
    weft_scope_begin(&s, weft_ms(5));
    t->rc[3] = weft_scope_end(&s, weft_recv_from(t->fd, t->buf + 8, 8, NULL));
    weft_ignore(weft_close(b));
    weft_ignore(weft_close(t->fd));
    return 0;
}

START_TEST(a_receiver_waits_for_a_datagram_and_for_no_longer_than_its_deadline)
{
    struct talk t = { .fd = -1 };
    ck_assert_int_eq(weft_run(wait_for_one, &t, ON(counts[_i])), 0);
    ck_assert_int_eq(t.rc[0], 4);
    ck_assert_int_eq(t.rc[1], 4);
    ck_assert_int_eq(t.rc[2], 0);
    ck_assert_int_eq(t.rc[3], -ETIMEDOUT);
}
END_TEST

static int batches(void *arg)
{
    struct talk *t = arg;
    char where[32], text[3][4] = { "one", "two", "333" };
    struct iovec v[4], in[4];
    struct mmsghdr out[3];
    memset(out, 0, sizeof out);
    int a = open_local(where), b = weft_udp_open(NULL, where);
    for (int i = 0; i < 3; i++) {
        v[i] = (struct iovec){ text[i], 3 };
        out[i].msg_hdr.msg_iov = &v[i];
        out[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < 4; i++) {
        in[i] = (struct iovec){ t->buf + 8 * i, i == 1 ? 2 : 8 };
        t->many[i].msg_hdr.msg_iov = &in[i];
        t->many[i].msg_hdr.msg_iovlen = 1;
    }
    t->rc[0] = weft_send_many(b, out, 3);
    for (int got = 0; got < 3 && t->rc[1] >= 0; got = t->rc[1]) {
        int n = weft_recv_many(a, t->many + got, (unsigned)(4 - got));
        t->rc[1] = n < 0 ? n : got + n;
    }
    for (int i = 0; i < 4; i++)
        t->many[i].msg_hdr.msg_iov = NULL;
    t->rc[2] = weft_recv_many(a, t->many, 0);
    t->rc[3] = weft_send_many(a, NULL, 1);
    weft_ignore(weft_close(a));
    weft_ignore(weft_close(b));
    t->rc[4] = weft_recv_many(a, t->many, 1);
    return 0;
}

START_TEST(several_go_in_one_call_and_each_says_whether_it_was_cut)
{
    struct talk t = { .fd = -1 };
    ck_assert_int_eq(weft_run(batches, &t, ON(counts[_i])), 0);
    ck_assert_int_eq(t.rc[0], 3);
    ck_assert_int_eq(t.rc[1], 3);
    ck_assert_uint_eq(t.many[0].msg_len, 3);
    ck_assert_int_eq(t.many[0].msg_hdr.msg_flags & MSG_TRUNC, 0);
    ck_assert_int_ne(t.many[1].msg_hdr.msg_flags & MSG_TRUNC, 0);
    ck_assert_int_eq(memcmp(t.buf + 16, "333", 3), 0);
    ck_assert_int_eq(t.rc[2], -EINVAL);
    ck_assert_int_eq(t.rc[3], -EINVAL);
    ck_assert_int_eq(t.rc[4], -EBADF);
}
END_TEST

START_TEST(bad_arguments_are_refused_and_unix_datagrams_work)
{
    char where[64], buf[8];
    weft_addr from;
    ck_assert_int_eq(weft_udp_open(NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_udp_open(NULL, ":7"), -EINVAL);
    ck_assert_int_eq(weft_udp_open("127.0.0.1", NULL), -EINVAL);
    ck_assert_int_eq(weft_udp_open("127.0.0.1:0", "unix:/x"), -EAFNOSUPPORT);
    ck_assert_int_eq(weft_recv_from(-1, buf, 1, NULL), -EBADF);
    ck_assert_int_eq(weft_recv_from(0, NULL, 1, NULL), -EINVAL);
    ck_assert_int_eq(weft_send_to(0, NULL, 1, NULL), -EINVAL);
    int any = weft_udp_open(":0", NULL);
    ck_assert_int_ge(any, 0);
    ck_assert_int_eq(weft_close(any), 0);
    snprintf(where, sizeof where, "unix:@weft-dgram-%d", (int)getpid());
    int a = weft_udp_open(where, NULL), b = weft_udp_open(NULL, where);
    ck_assert_int_ge(a, 0);
    ck_assert_int_ge(b, 0);
    ck_assert_int_eq(weft_udp_open(where, NULL), -EADDRINUSE);
    ck_assert_int_eq(weft_send_to(b, "u", 1, NULL), 1);
    ck_assert_int_eq(weft_recv_from(a, buf, 8, &from), 1);
    ck_assert_int_eq(weft_close(a), 0);
    ck_assert_int_eq(weft_close(b), 0);
}
END_TEST

/* -- told to leave (B-031): a cancelled call has moved nothing, docs/cancellation.md -- */

struct way {
    int a, b; /* a receives what b sends */
    char in[2][8];
    struct iovec v[2];
    struct mmsghdr many[2];
    int told, filled, strange; /* what `a` has got: of the call's own, of what filled it, and else */
};

static int recv_one_of(void *arg)
{
    struct way *w = arg;
    return weft_recv_from(w->a, w->in[0], sizeof w->in[0], NULL);
}
static int recv_many_of(void *arg)
{
    struct way *w = arg;
    for (int i = 0; i < 2; i++)
        w->v[i].iov_len = sizeof w->in[i];
    return weft_recv_many(w->a, w->many, 2);
}
static int send_one_of(void *arg)
{
    struct way *w = arg;
    return weft_send_to(w->b, "told", 4, NULL);
}
static int send_many_of(void *arg)
{
    struct way *w = arg;
    for (int i = 0; i < 2; i++) {
        memcpy(w->in[i], "told", 4);
        w->v[i].iov_len = 4;
    }
    return weft_send_many(w->b, w->many, 2);
}

static const struct {
    int (*call)(void *arg);
    bool sends, many;
} moves[] = { { recv_one_of, false, false }, { recv_many_of, false, true }, { send_one_of, true, false },
    { send_many_of, true, true } };

struct move {
    int row;
    bool gift_first; /* what it waits for comes before the cancel */
};

static bool open_way(struct way *w)
{
    char where[64];
    memset(w, 0, sizeof *w);
    for (int i = 0; i < 2; i++) {
        w->v[i].iov_base = w->in[i];
        w->many[i].msg_hdr.msg_iov = &w->v[i];
        w->many[i].msg_hdr.msg_iovlen = 1;
    }
    snprintf(where, sizeof where, "unix:@weft-dgram-told-%d", (int)getpid());
    w->a = weft_udp_open(where, NULL);
    w->b = weft_udp_open(NULL, where);
    return w->a >= 0 && w->b >= 0;
}

static void close_way(struct way *w)
{
    weft_ignore(weft_close(w->a));
    weft_ignore(weft_close(w->b));
}

/* Takes all that has come, without a wait. */
static void take_all(struct way *w)
{
    char buf[8];
    for (int n; (n = read_now(w->a, buf, sizeof buf)) > 0;) {
        w->told += n == 4 && memcmp(buf, "told", 4) == 0;
        w->filled += n == 4 && memcmp(buf, "fill", 4) == 0;
        w->strange += n != 4 || (memcmp(buf, "told", 4) != 0 && memcmp(buf, "fill", 4) != 0);
    }
}

/* How many datagrams a call has moved that returned rc. */
static int moved(int row, int rc)
{
    return rc < 0 ? 0 : moves[row].many ? rc : 1;
}

/* It need not wait, and is refused. */
static int refused_at_once(void *arg)
{
    const struct move *m = arg;
    struct way w;
    weft_scope s;
    MUST(open_way(&w));
    if (!moves[m->row].sends)
        MUST(send_one_of(&w) == 4);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    MUST(moves[m->row].call(&w) == -ECANCELED);
    MUST(weft_scope_end(&s, -ECANCELED) == 0);
    take_all(&w);
    MUST(w.told == (moves[m->row].sends ? 0 : 1) && w.strange == 0);
    MUST(send_one_of(&w) == 4 && recv_one_of(&w) == 4); /* and all goes on */
    close_way(&w);
    return 0;
}

/* It waits: for a datagram, or for room. */
static int called_off(void *arg)
{
    const struct move *m = arg;
    struct way w;
    struct caller c;
    weft_scope s;
    int fill = 0, sent = 0;
    MUST(open_way(&w));
    while (moves[m->row].sends && sys_write(w.b, "fill", 4) == 4)
        fill++;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &c, moves[m->row].call, &w));
    for (int k = 0; k < 2; k++) {
        if (k == (m->gift_first ? 1 : 0)) {
            weft_ignore(weft_task_cancel(c.task, NULL)); /* it may have ended */
            if (!m->gift_first)
                MUST(result(&c) == -ECANCELED);
        } else if (moves[m->row].sends) {
            take_all(&w);
        } else {
            for (; sent < 2; sent++)
                MUST(send_one_of(&w) == 4);
        }
    }
    int rc = result(&c);
    take_all(&w);
    MUST(w.filled == fill && w.strange == 0);
    MUST(rc > 0 || rc == -ECANCELED);
    if (moves[m->row].sends)
        MUST(w.told == moved(m->row, rc));
    else
        MUST(w.told == sent - moved(m->row, rc));
    MUST(weft_scope_end(&s, 0) == 0);
    close_way(&w);
    return 0;
}

START_TEST(who_was_told_to_leave_moves_no_datagram)
{
    struct move m = { .row = _i / COUNT(workers) };
    RUN(refused_at_once, &m, workers[_i % COUNT(workers)]);
}
END_TEST

START_TEST(a_wait_that_is_called_off_loses_and_sends_no_datagram)
{
    struct move m = { .row = _i / COUNT(workers) };
    for (int i = 0; i < 20; i++) {
        m.gift_first = i % 2;
        RUN(called_off, &m, workers[_i % COUNT(workers)]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dgram");
    TCase *tc = add_case(s, "datagrams");
    tcase_add_loop_test(tc, datagrams_keep_their_bounds_and_senders_and_are_not_cut_in_silence, 0, COUNT(counts));
    tcase_add_test(tc, a_plain_thread_talks_too);
    tcase_add_loop_test(tc, a_connected_socket_tells_that_nobody_is_there, 0, COUNT(counts));
    tcase_add_loop_test(tc, a_receiver_waits_for_a_datagram_and_for_no_longer_than_its_deadline, 0, COUNT(counts));
    tcase_add_loop_test(tc, several_go_in_one_call_and_each_says_whether_it_was_cut, 0, COUNT(counts));
    tcase_add_test(tc, bad_arguments_are_refused_and_unix_datagrams_work);
    tcase_add_loop_test(tc, who_was_told_to_leave_moves_no_datagram, 0, COUNT(moves) * COUNT(workers));
    tcase_add_loop_test(tc, a_wait_that_is_called_off_loses_and_sends_no_datagram, 0, COUNT(moves) * COUNT(workers));
    return run_suite(s);
}
