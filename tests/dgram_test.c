/* tests/dgram_test.c - datagrams: os/dgram.c. */
#include "support.h"

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
    return run_suite(s);
}
