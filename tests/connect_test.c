/* tests/connect_test.c - connecting and listening by names: os/connect.c, os/net.c.
 *
 * The resolver is the test's own and tells what `list` says. A listener whose queue is full drops what comes: that is the
 * address where nobody answers. */
#include "support.h"

#include <netdb.h>
#include <netinet/in.h>

static const int counts[] = { 1, 2, 4 };
static const char *list[20]; /* addresses of 127/8, or of IPv6 in brackets */

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    (void)name;
    (void)service;
    (void)hints;
    struct addrinfo **end = out;
    *out = NULL;
    for (int i = 0; i < COUNT(list) && list[i]; i++) {
        char text[32];
        weft_addr numeric;
        struct addrinfo *a = calloc(1, sizeof *a + sizeof(struct sockaddr_in6));
        snprintf(text, sizeof text, "%s:0", list[i]);
        if (!a || weft_addr_parse(&numeric, text) < 0)
            abort();
        a->ai_family = numeric.sa.ss_family;
        a->ai_addr = (struct sockaddr *)(void *)(a + 1);
        a->ai_addrlen = numeric.len;
        memcpy(a->ai_addr, &numeric.sa, numeric.len);
        *end = a;
        end = &a->ai_next;
    }
    return *out ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *a)
{
    while (a) {
        struct addrinfo *next = a->ai_next;
        free(a);
        a = next;
    }
}

struct attempt {
    int rc, leaked, failed;
    weft_connect_failure failures[16];
    char peer[64], local[64], text[120], where[32];
    int64_t stagger, within, took;
    const char *from;
};

static int attempt(void *arg)
{
    struct attempt *a = arg;
    weft_addr end;
    if (a->within) /* is for connecting: the name is known by then */
        weft_ignore(weft_resolve(a->where, &end, 1));
    int before = descriptors_now();
    int64_t begin = weft_now();
    weft_scope s;
    weft_scope_begin(&s, a->within ? a->within : WEFT_NEVER);
    weft_connect_options o = { .stagger = a->stagger,
        .from = a->from,
        .failures = a->failures,
        .failures_max = COUNT(a->failures),
        .failed = &a->failed };
    int fd = weft_connect(a->where, &o);
    a->rc = weft_scope_end(&s, fd);
    a->took = weft_now() - begin;
    snprintf(a->text, sizeof a->text, "%s", weft_error_text(a->rc));
    if (a->rc >= 0 && weft_addr_peer(a->rc, &end) == 0)
        weft_addr_text(&end, a->peer, sizeof a->peer);
    if (a->rc >= 0 && weft_addr_local(a->rc, &end) == 0)
        weft_addr_text(&end, a->local, sizeof a->local);
    a->leaked = descriptors_now() - before - (a->rc >= 0);
    if (a->rc >= 0)
        weft_ignore(weft_close(a->rc));
    return 0;
}

/* A listener on `address`, port 0 for a free one; its port. */
static int listen_on(const char *address, int port, int backlog, int *fd)
{
    char where[32];
    snprintf(where, sizeof where, "%s:%d", address, port);
    *fd = weft_listen(where, &(weft_listen_options){ .backlog = backlog });
    ck_assert_int_ge(*fd, 0);
    return port_of(*fd);
}

/* Listeners on 127.0.0.1 and 127.0.0.2, on one port that is free at both. */
static int listen_on_both(int backlog, int *one, int other_backlog, int *two)
{
    for (;;) {
        char where[32];
        int port = listen_on("127.0.0.2", 0, other_backlog, two);
        snprintf(where, sizeof where, "127.0.0.1:%d", port);
        *one = weft_listen(where, &(weft_listen_options){ .backlog = backlog });
        if (*one >= 0)
            return port;
        ck_assert_int_eq(*one, -EADDRINUSE);
        weft_ignore(weft_close(*two));
    }
}

/* Takes a port of an address, and does not listen there: who connects is refused, and nobody else can listen. */
static bool keep_refusing(const char *address, int port)
{
    char where[32];
    weft_addr a;
    snprintf(where, sizeof where, "%s:%d", address, port);
    ck_assert_int_eq(weft_addr_parse(&a, where), 0);
    int fd = socket(a.sa.ss_family, SOCK_STREAM, 0);
    if (fd < 0) /* no IPv6 */
        return true;
    if (bind(fd, (const struct sockaddr *)&a.sa, a.len) == 0)
        return true;
    bool is_there = errno == EADDRINUSE;
    close(fd);
    return !is_there;
}

/* A listener on `address`, with a port at which the others of `list` refuse, whatever other programs do; its port. */
static int listen_alone(const char *address, int *fd)
{
    for (;;) {
        int port = listen_on(address, 0, 0, fd);
        bool alone = true;
        for (int i = 0; i < COUNT(list) && list[i]; i++)
            alone = alone && (strcmp(list[i], address) == 0 || keep_refusing(list[i], port));
        if (alone)
            return port;
        weft_ignore(weft_close(*fd));
    }
}

/* Fills the queue of a listener with a backlog of 1: what comes later gets no answer. */
static void fill_queue(const char *address, int port, int listener)
{
    char where[32];
    weft_addr a;
    snprintf(where, sizeof where, "%s:%d", address, port);
    ck_assert_int_eq(weft_addr_parse(&a, where), 0);
    for (int i = 0; i < 8; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        weft_ignore(connect(fd, (const struct sockaddr *)&a.sa, a.len));
    }
    for (int64_t end = weft_after(LIMIT); !queue_is_full(listener); usleep(100))
        ck_assert_int_lt(weft_now(), end);
}

START_TEST(an_address_that_refuses_gives_way_to_the_next_at_once)
{
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    int fd, port = listen_alone("127.0.0.2", &fd);
    struct attempt a = { .stagger = weft_sec(60) };
    snprintf(a.where, sizeof a.where, "home:%d", port);
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_ge(a.rc, 0);
    ck_assert_int_eq(strncmp(a.peer, "127.0.0.2:", 10), 0);
    ck_assert_int_lt(a.took, weft_sec(30));
}
END_TEST

START_TEST(an_address_that_does_not_answer_is_raced_by_the_next_and_closed)
{
    int fd, hole, port = listen_on_both(1, &hole, 0, &fd);
    struct attempt a = { .stagger = weft_ms(10) };
    fill_queue("127.0.0.1", port, hole);
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    snprintf(a.where, sizeof a.where, "home:%d", port);
    int before = descriptors_now();
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_ge(a.rc, 0);
    ck_assert_int_eq(strncmp(a.peer, "127.0.0.2:", 10), 0);
    ck_assert_int_le(a.leaked, 2); /* the runtime's own set */
    ck_assert_int_eq(descriptors_now(), before); /* also the one that lost */
}
END_TEST

START_TEST(without_an_end_of_the_stagger_the_next_waits_for_a_failure)
{
    int fd, hole, port = listen_on_both(1, &hole, 0, &fd);
    struct attempt a = { .stagger = WEFT_NEVER, .within = weft_ms(20) };
    fill_queue("127.0.0.1", port, hole);
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    snprintf(a.where, sizeof a.where, "home:%d", port);
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_eq(a.rc, -ETIMEDOUT);
}
END_TEST

START_TEST(an_address_of_another_family_than_from_is_refused)
{
    struct attempt a[] = { { .where = "127.0.0.1:1", .from = "[::1]:0" }, { .where = "[::1]:1", .from = "127.0.0.1:0" },
        { .where = "unix:@weft-nobody", .from = "127.0.0.1:0" } };
    for (int i = 0; i < COUNT(a); i++) {
        ck_assert_int_eq(weft_run(attempt, &a[i], ON(1)), 0);
        ck_assert_int_eq(a[i].rc, -EAFNOSUPPORT);
        ck_assert_int_eq(a[i].leaked, 0);
    }
}
END_TEST

START_TEST(the_deadline_ends_a_race_and_all_attempts_are_closed)
{
    int one, two, port = listen_on_both(1, &one, 1, &two);
    fill_queue("127.0.0.1", port, one);
    fill_queue("127.0.0.2", port, two);
    struct attempt a = { .stagger = weft_ms(1), .within = weft_ms(30) };
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    snprintf(a.where, sizeof a.where, "home:%d", port);
    int before = descriptors_now();
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_eq(a.rc, -ETIMEDOUT);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

START_TEST(when_none_answers_the_text_has_all_errors)
{
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    int fd, port = listen_alone("127.0.0.3", &fd);
    struct attempt a = { .stagger = 0 };
    snprintf(a.where, sizeof a.where, "home:%d", port);
    attempt(&a); /* a plain thread */
    ck_assert_int_eq(a.rc, -ECONNREFUSED);
    ck_assert_ptr_nonnull(strstr(a.text, "127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(a.text, "; 127.0.0.2:"));
    a.from = "[::1]:0";
    attempt(&a);
    ck_assert_int_eq(a.rc, -EAFNOSUPPORT);
    a.from = NULL;
    a.stagger = -1;
    attempt(&a);
    ck_assert_int_eq(a.rc, -EINVAL);
}
END_TEST

/* as the errors are noted. What a host without IPv6 says of the second is an error, too. */
START_TEST(families_are_tried_by_turns)
{
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    list[2] = "[::1]";
    int fd, port = listen_alone("127.0.0.3", &fd);
    struct attempt a = { .stagger = 0 };
    snprintf(a.where, sizeof a.where, "home:%d", port);
    int before = descriptors_now();
    attempt(&a);
    ck_assert_int_eq(a.rc, -ECONNREFUSED);
    const char *one = strstr(a.text, "127.0.0.1:"), *six = strstr(a.text, "; [::1]:"), *two = strstr(a.text, "; 127.0.0.2:");
    ck_assert_msg(one && six && two && one < six && six < two, "%s", a.text);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* ---- what each address failed with */

/* Of a name with 20 addresses the first 16 are tried; the text has room for a few of them. */
START_TEST(when_none_answers_each_address_tells_its_error)
{
    static char names[18][16];
    list[0] = "127.0.0.1";
    list[1] = "224.0.0.1"; /* no stream leads there */
    for (int i = 2; i < COUNT(list); i++) {
        snprintf(names[i - 2], sizeof names[0], "127.0.0.%d", i);
        list[i] = names[i - 2];
    }
    int fd, port = listen_alone("127.0.0.99", &fd);
    const int room[] = { 16, 20, 15, 1, 0 };
    for (int k = 0; k < COUNT(room); k++) {
        weft_connect_failure all[20];
        int failed = -1;
        char where[32], text[64], expected[64];
        memset(all, 0x55, sizeof all);
        snprintf(where, sizeof where, "home:%d", port);
        weft_connect_options o = { .failures = room[k] ? all : NULL, .failures_max = room[k], .failed = &failed };
        ck_assert_int_eq(weft_connect(where, &o), -ECONNREFUSED);
        ck_assert_int_eq(failed, 16);
        for (int i = 0; i < 16 && i < room[k]; i++) {
            weft_addr_text(&all[i].addr, text, sizeof text);
            snprintf(expected, sizeof expected, "%s:%d", list[i], port);
            ck_assert_str_eq(text, expected);
            ck_assert_int_eq(all[i].error, i == 1 ? -ENETUNREACH : -ECONNREFUSED);
        }
        for (int i = room[k] < 16 ? room[k] : 16; i < 20; i++)
            ck_assert_int_eq(all[i].error, 0x55555555);
    }
}
END_TEST

/* An attempt that is given up, since another was faster or time was up, is none that failed. */
START_TEST(what_had_failed_is_told_on_every_way_out)
{
    int fd, hole, port = listen_on_both(1, &hole, 0, &fd);
    struct attempt a = { .stagger = weft_ms(10) };
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    snprintf(a.where, sizeof a.where, "home:%d", port);
    fill_queue("127.0.0.1", port, hole);
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_ge(a.rc, 0);
    ck_assert_int_eq(a.failed, 0);
    list[0] = "224.0.0.1";
    list[1] = "127.0.0.1";
    list[2] = "127.0.0.2";
    snprintf(a.where, sizeof a.where, "three:%d", port); /* other names: answers are remembered */
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_ge(a.rc, 0);
    ck_assert_int_eq(a.failed, 1);
    ck_assert_int_eq(a.failures[0].error, -ENETUNREACH);
    list[2] = NULL;
    snprintf(a.where, sizeof a.where, "two:%d", port);
    a.within = weft_ms(100);
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_eq(a.rc, -ETIMEDOUT);
    ck_assert_int_eq(a.failed, 1);
    snprintf(a.where, sizeof a.where, "127.0.0.1:%d", port); /* one alone */
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_eq(a.rc, -ETIMEDOUT);
    ck_assert_int_eq(a.failed, 0);
    snprintf(a.where, sizeof a.where, "224.0.0.1:%d", port);
    ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    ck_assert_int_eq(a.rc, -ENETUNREACH);
    ck_assert_int_eq(a.failed, 1);
    ck_assert_int_eq(a.failures[0].error, -ENETUNREACH);
}
END_TEST

START_TEST(room_for_failures_is_some_or_none)
{
    weft_connect_failure one;
    int failed = -1;
    ck_assert_int_eq(weft_connect("127.0.0.1:1", &(weft_connect_options){ .failures = &one, .failures_max = -1 }), -EINVAL);
    ck_assert_int_eq(weft_connect("127.0.0.1:1", &(weft_connect_options){ .failures_max = 1 }), -EINVAL);
    list[0] = NULL;
    ck_assert_int_eq(weft_connect("nobody:1", &(weft_connect_options){ .failed = &failed }), -ENOENT);
    ck_assert_int_eq(failed, 0);
    list[0] = "127.0.0.1";
    failed = -1;
    ck_assert_int_eq(weft_connect("home:1", &(weft_connect_options){ .failed = &failed, .from = "[::1]:0" }), -EAFNOSUPPORT);
    ck_assert_int_eq(failed, 0);
}
END_TEST

/* ---- from an address of one's own */

/* A port of an address that nobody has; somebody may take it before us. */
static int free_port(const char *address)
{
    int fd, port = listen_on(address, 0, 0, &fd);
    weft_ignore(weft_close(fd));
    return port;
}

static int connect_from(const char *from, int port, int from_port, int *failed, weft_connect_failure *why)
{
    char to[32], local[32];
    snprintf(to, sizeof to, "127.0.0.1:%d", port);
    snprintf(local, sizeof local, "%s:%d", from, from_port);
    return weft_connect(to, &(weft_connect_options){ .from = local, .failures = why, .failures_max = 1, .failed = failed });
}

static void is_from(int fd, int listener, const char *from, int from_port)
{
    weft_addr a;
    char local[64], peer[64];
    int other = weft_accept(listener);
    ck_assert_int_ge(other, 0);
    ck_assert_int_eq(weft_addr_local(fd, &a), 0);
    weft_addr_text(&a, local, sizeof local);
    ck_assert_int_eq(weft_addr_peer(other, &a), 0);
    weft_addr_text(&a, peer, sizeof peer);
    ck_assert_str_eq(local, peer);
    ck_assert_int_eq(strncmp(peer, from, strlen(from)), 0);
    ck_assert_int_eq(peer[strlen(from)], ':');
    if (from_port)
        ck_assert_int_eq(atoi(peer + strlen(from) + 1), from_port);
    weft_ignore(weft_close(other));
}

/* the peer sees the address, and the port if one is given, which serves for several peers at once. */
START_TEST(it_connects_from_the_address_that_is_given)
{
    int one, two, failed, fd, port = listen_on("127.0.0.1", 0, 0, &one), port_two = listen_on("127.0.0.1", 0, 0, &two);
    weft_connect_failure why;
    fd = connect_from("127.0.0.2", port, 0, &failed, &why);
    ck_assert_int_ge(fd, 0);
    is_from(fd, one, "127.0.0.2", 0);
    weft_ignore(weft_close(fd));
    int own, second;
    do {
        own = free_port("127.0.0.3");
    } while ((fd = connect_from("127.0.0.3", port, own, &failed, &why)) == -EADDRINUSE);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(failed, 0);
    is_from(fd, one, "127.0.0.3", own);
    second = connect_from("127.0.0.3", port_two, own, &failed, &why);
    ck_assert_int_ge(second, 0);
    is_from(second, two, "127.0.0.3", own);
    ck_assert_int_eq(connect_from("127.0.0.3", port, own, &failed, &why), -EADDRNOTAVAIL); /* there is that one already */
    ck_assert_int_eq(failed, 1);
    ck_assert_int_eq(why.error, -EADDRNOTAVAIL);
}
END_TEST

START_TEST(an_address_to_connect_from_may_be_none_of_ours)
{
    int fd, other, failed, port = listen_on("127.0.0.1", 0, 0, &fd), taken = listen_on("127.0.0.2", 0, 0, &other);
    int before = descriptors_now();
    weft_connect_failure why;
    ck_assert_int_eq(connect_from("192.0.2.1", port, 0, &failed, &why), -EADDRNOTAVAIL);
    ck_assert_int_eq(failed, 1);
    ck_assert_int_eq(why.error, -EADDRNOTAVAIL);
    ck_assert_int_eq(connect_from("127.0.0.2", port, taken, &failed, &why), -EADDRINUSE);
    ck_assert_int_eq(failed, 1);
    ck_assert_int_eq(why.error, -EADDRINUSE);
    ck_assert_int_eq(connect_from("nowhere", port, 0, &failed, &why), -EINVAL);
    ck_assert_int_eq(connect_from("127.0.0.1", port, 65536, &failed, &why), -EINVAL);
    ck_assert_int_eq(failed, 0);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* Also a second attempt beside the first has the port. */
START_TEST(a_race_is_run_from_one_port)
{
    int fd, hole, port = listen_on_both(1, &hole, 0, &fd);
    struct attempt a = { .stagger = weft_ms(5) };
    char from[32];
    fill_queue("127.0.0.1", port, hole);
    list[0] = "127.0.0.1";
    list[1] = "127.0.0.2";
    snprintf(a.where, sizeof a.where, "home:%d", port);
    a.from = from;
    a.within = LIMIT;
    do {
        snprintf(from, sizeof from, "127.0.0.3:%d", free_port("127.0.0.3"));
        ck_assert_int_eq(weft_run(attempt, &a, ON(counts[_i])), 0);
    } while (a.rc == -EADDRINUSE);
    ck_assert_int_ge(a.rc, 0);
    ck_assert_int_eq(a.failed, 0);
    ck_assert_int_eq(strncmp(a.peer, "127.0.0.2:", 10), 0);
    ck_assert_str_eq(a.local, from);
}
END_TEST

/* ---- listening */

START_TEST(a_listener_takes_the_first_address_that_the_host_has)
{
    list[0] = "192.0.2.1"; /* for documentation: nobody's */
    list[1] = "127.0.0.1";
    int fd = weft_listen("home:0", NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(weft_close(fd), 0);
    list[0] = NULL;
    ck_assert_int_eq(weft_listen("nobody:0", NULL), -ENOENT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("connect");
    TCase *tc = add_case(s, "connecting");
    if (!forking()) {
        fprintf(stderr, "connect_test needs CK_FORK: answers are remembered\n");
        return 77;
    }
    tcase_add_loop_test(tc, an_address_that_refuses_gives_way_to_the_next_at_once, 0, COUNT(counts));
    tcase_add_loop_test(tc, an_address_that_does_not_answer_is_raced_by_the_next_and_closed, 0, COUNT(counts));
    tcase_add_loop_test(tc, without_an_end_of_the_stagger_the_next_waits_for_a_failure, 0, COUNT(counts));
    tcase_add_test(tc, an_address_of_another_family_than_from_is_refused);
    tcase_add_loop_test(tc, the_deadline_ends_a_race_and_all_attempts_are_closed, 0, COUNT(counts));
    tcase_add_test(tc, when_none_answers_the_text_has_all_errors);
    tcase_add_test(tc, families_are_tried_by_turns);
    tcase_add_test(tc, when_none_answers_each_address_tells_its_error);
    tcase_add_loop_test(tc, what_had_failed_is_told_on_every_way_out, 0, COUNT(counts));
    tcase_add_test(tc, room_for_failures_is_some_or_none);
    tcase_add_test(tc, it_connects_from_the_address_that_is_given);
    tcase_add_test(tc, an_address_to_connect_from_may_be_none_of_ours);
    tcase_add_loop_test(tc, a_race_is_run_from_one_port, 0, COUNT(counts));
    tcase_add_test(tc, a_listener_takes_the_first_address_that_the_host_has);
    return run_suite(s);
}
