/* tests/connect_test.c - connecting and listening by names: os/connect.c, os/net.c.
 *
 * The resolver is the test's own and tells what `list` says. A listener whose queue is full drops what comes: that is the
 * address where nobody answers. */
#include "support.h"

#include <netdb.h>
#include <netinet/in.h>

static const int counts[] = { 1, 2, 4 };
static const char *list[4]; /* addresses of 127/8, or of IPv6 in brackets */

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    (void)name;
    (void)service;
    (void)hints;
    struct addrinfo **end = out;
    *out = NULL;
    for (int i = 0; i < 4 && list[i]; i++) {
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
    int rc, leaked;
    char peer[64], text[120], where[32];
    int64_t stagger, within, took;
    const char *from;
};

static int attempt(void *arg)
{
    struct attempt *a = arg;
    weft_addr peer;
    int before = descriptors_now();
    int64_t begin = weft_now();
    weft_scope s;
    weft_scope_begin(&s, a->within ? a->within : WEFT_NEVER);
    int fd = weft_connect(a->where, &(weft_connect_options){ .stagger = a->stagger, .from = a->from });
    a->rc = weft_scope_end(&s, fd);
    a->took = weft_now() - begin;
    snprintf(a->text, sizeof a->text, "%s", weft_error_text(a->rc));
    if (a->rc >= 0 && weft_addr_peer(a->rc, &peer) == 0)
        weft_addr_text(&peer, a->peer, sizeof a->peer);
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
    tcase_add_test(tc, a_listener_takes_the_first_address_that_the_host_has);
    return run_suite(s);
}
