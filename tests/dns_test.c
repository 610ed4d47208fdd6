/* tests/dns_test.c - names of hosts: os/dns.c.
 *
 * The resolver is the test's own: getaddrinfo and getnameinfo are defined here. Names say what it does:
 * "slow..." waits for the gate, "none", "again", "fail", "six" are answers, everything else is 127.0.0.1. The name of 127.0.0.2
 * waits for the gate. */
#include "support.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/stat.h>

static const int counts[] = { 1, 2, 4 };
static struct gate gate = GATE_INIT;
static atomic_int asked, answered; /* getaddrinfo; getnameinfo */

static struct addrinfo *new_address(int family)
{
    struct addrinfo *a = calloc(1, sizeof *a + sizeof(struct sockaddr_in6));
    if (!a)
        abort();
    a->ai_family = family;
    a->ai_addr = (struct sockaddr *)(void *)(a + 1);
    a->ai_addr->sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        a->ai_addrlen = sizeof(struct sockaddr_in);
        ((struct sockaddr_in *)(void *)a->ai_addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        a->ai_addrlen = sizeof(struct sockaddr_in6);
        ((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_addr = in6addr_loopback;
    }
    return a;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    (void)service;
    (void)hints;
    atomic_fetch_add(&asked, 1);
    if (strncmp(name, "slow", 4) == 0)
        gate_wait(&gate);
    if (strcmp(name, "none") == 0)
        return EAI_NONAME;
    if (strcmp(name, "again") == 0)
        return EAI_AGAIN;
    if (strcmp(name, "fail") == 0)
        return EAI_FAIL;
    *out = new_address(strcmp(name, "six") == 0 ? AF_INET6 : AF_INET);
    if (strcmp(name, "six") == 0)
        (*out)->ai_next = new_address(AF_INET);
    return 0;
}

void freeaddrinfo(struct addrinfo *a)
{
    while (a) {
        struct addrinfo *next = a->ai_next;
        free(a);
        a = next;
    }
}

int getnameinfo(const struct sockaddr *sa, socklen_t len, char *host, socklen_t bytes, char *service, socklen_t more,
        int flags)
{
    (void)len;
    (void)service;
    (void)more;
    (void)flags;
    if (sa->sa_family == AF_INET6)
        return EAI_NONAME;
    if (((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr == htonl(INADDR_LOOPBACK + 1))
        gate_wait(&gate);
    snprintf(host, bytes, "home.example");
    atomic_fetch_add(&answered, 1);
    return 0;
}

struct look {
    const char *where;
    weft_addr out[4];
    size_t n;
    int rc;
    char text[120];
};

static int look(void *arg)
{
    struct look *l = arg;
    l->rc = weft_resolve(l->where, l->out, l->n ? l->n : 4);
    snprintf(l->text, sizeof l->text, "%s", weft_error_text(l->rc));
    return 0;
}

static const struct {
    const char *where;
    int rc;
    const char *text; /* of the first address, or in the error's words */
} answers[] = {
    { "Host.example:80", 1, "127.0.0.1:80" },
    { "six:443", 2, "[::1]:443" },
    { "10.1.2.3:5", 1, "10.1.2.3:5" },
    { "[::1]:5", 1, "[::1]:5" },
    { "unix:@x", 1, "unix:@x" },
    { "none:80", -ENOENT, "none: " },
    { "again:80", -EAGAIN, "again: " },
    { "fail:80", -EREMOTEIO, "fail: " },
    { "host", -EINVAL, "" },
    { "host:", -EINVAL, "" },
    { "host:http", -EINVAL, "" },
    { "host:65536", -EINVAL, "" },
    { "a b:1", -EINVAL, "" },
    { "127.1:1", -EINVAL, "" },
    { "0x7f000001:1", -EINVAL, "" },
    { "127.0X1:1", -EINVAL, "" },
    { "[::1:1", -EINVAL, "" },
    { "unix:", -EINVAL, "" },
};

START_TEST(a_name_has_addresses_or_an_error_in_words)
{
    struct look l = { .where = answers[_i].where };
    char text[64];
    ck_assert_int_eq(weft_run(look, &l, ON(2)), 0);
    ck_assert_int_eq(l.rc, answers[_i].rc);
    if (l.rc > 0) {
        ck_assert_int_gt(weft_addr_text(&l.out[0], text, sizeof text), 0);
        ck_assert_str_eq(text, answers[_i].text);
    } else {
        ck_assert_int_eq(strncmp(l.text, answers[_i].text, strlen(answers[_i].text)), 0);
    }
}
END_TEST

START_TEST(a_plain_thread_asks_and_answers_serve_for_a_while_but_unknown_names_do_not)
{
    weft_addr a;
    ck_assert_int_eq(weft_resolve("host:1", &a, 1), 1);
    ck_assert_int_eq(weft_resolve("HOST:2", &a, 1), 1);
    ck_assert_int_eq(atomic_load(&asked), 1);
    ck_assert_int_eq(weft_resolve("none:1", &a, 1), -ENOENT);
    ck_assert_int_eq(weft_resolve("none:1", &a, 1), -ENOENT);
    ck_assert_int_eq(atomic_load(&asked), 3);
    ck_assert_int_eq(weft_resolve("six:1", &a, 1), 1);
    ck_assert_int_eq(weft_resolve("host:1", &a, 0), -EINVAL);
    ck_assert_int_eq(weft_resolve(NULL, &a, 1), -EINVAL);
    for (int i = 0; i < 1000; i++) {
        char where[32];
        snprintf(where, sizeof where, "host%d:1", i);
        ck_assert_int_eq(weft_resolve(where, &a, 1), 1);
    }
}
END_TEST

enum { MANY = 20 };

struct crowd {
    struct look looks[MANY];
    int rc[4];
    int64_t late;
};

static int ask_together(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < MANY; i++) {
        c->looks[i].where = "slow:7";
        weft_spawn(&s, look, &c->looks[i]);
    }
    wait_for(&gate.waiting, 1);
    for (int i = 0; i < 1000; i++)
        weft_ignore(weft_yield());
    gate_open(&gate);
    return weft_scope_end(&s, 0);
}

START_TEST(those_who_ask_at_the_same_time_share_one_look_up)
{
    struct crowd c = { .late = 0 };
    ck_assert_int_eq(weft_run(ask_together, &c, ON(counts[_i])), 0);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(c.looks[i].rc, 1);
    ck_assert_int_eq(atomic_load(&asked), 1);
}
END_TEST

static int leave_others(void *arg)
{
    struct crowd *c = arg;
    weft_scope first, rest;
    weft_scope_begin(&rest, WEFT_NEVER);
    weft_scope_begin(&first, WEFT_NEVER);
    c->looks[0].where = c->looks[1].where = "slow:7";
    weft_spawn(&first, look, &c->looks[0]);
    wait_for(&gate.waiting, 1);
    weft_spawn(&rest, look, &c->looks[1]);
    for (int i = 0; i < 1000; i++)
        weft_ignore(weft_yield());
    weft_scope_cancel(&first, "enough");
    weft_ignore(weft_scope_end(&first, 0));
    c->rc[0] = c->looks[0].rc;
    gate_open(&gate); /* only now does the resolver answer */
    weft_ignore(weft_scope_end(&rest, 0));
    return 0;
}

START_TEST(who_began_a_look_up_may_leave_at_once_and_the_others_get_the_answer)
{
    struct crowd c = { .late = 0 };
    ck_assert_int_eq(weft_run(leave_others, &c, ON(1)), 0);
    ck_assert_int_eq(c.looks[0].rc, -ECANCELED);
    ck_assert_int_eq(c.looks[1].rc, 1);
    ck_assert_int_eq(atomic_load(&asked), 1);
}
END_TEST

enum { DEAD = 100 };

/* neither timers nor files. */
static int nothing_else_waits(void *arg)
{
    struct crowd *c = arg;
    static struct look looks[DEAD];
    char names[DEAD][16];
    struct stat st;
    weft_scope s, t;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < DEAD; i++) {
        snprintf(names[i], sizeof names[i], "slow%d:1", i);
        looks[i] = (struct look){ .where = names[i] };
        weft_spawn(&s, look, &looks[i]);
    }
    wait_for(&gate.waiting, 1);
    c->late = LIMIT;
    for (int i = 0; i < 100 && c->rc[0] == 0 && c->late >= weft_ms(5); i++) { /* the machine may be busy */
        int64_t due = weft_after(weft_ms(1));
        c->rc[0] = weft_sleep_until(due);
        c->late = weft_now() - due < c->late ? weft_now() - due : c->late;
    }
    c->rc[3] = weft_fs_stat("/", &st);
    weft_scope_begin(&t, weft_ms(5));
    weft_addr a;
    c->rc[1] = weft_scope_end(&t, weft_resolve("slowest:1", &a, 1));
    weft_scope_cancel(&s, NULL);
    weft_ignore(weft_scope_end(&s, 0)); /* while the gate is shut */
    c->rc[2] = gate.open;
    gate_open(&gate);
    for (int i = 0; i < DEAD; i++)
        EXPECT(looks[i].rc == -ECANCELED);
    return 0;
}

START_TEST(a_dead_resolver_keeps_nobody)
{
    struct crowd c = { .late = 0 };
    AS_EXPECTED(weft_run(nothing_else_waits, &c, ON(counts[_i])));
    ck_assert_int_eq(c.rc[0], 0);
    ck_assert_int_lt(c.late, weft_ms(5));
    ck_assert_int_eq(c.rc[1], -ETIMEDOUT);
    ck_assert_int_eq(c.rc[2], 0);
    ck_assert_int_eq(c.rc[3], 0);
}
END_TEST

static void *ask_plainly(void *arg)
{
    struct look *l = arg;
    l->rc = weft_resolve(l->where, l->out, 4);
    return NULL;
}

static void *open_later(void *arg)
{
    usleep(250000); /* longer than a deadlock takes to be told; however long, this is none */
    gate_open(arg);
    return NULL;
}

START_TEST(who_follows_a_plain_threads_look_up_is_in_no_deadlock)
{
    struct look l = { .where = "slow:7" }, plain = { .where = "slow:7" };
    pthread_t asks = thread_start(ask_plainly, &plain);
    ck_assert(wait_for(&gate.waiting, 1));
    pthread_t opens = thread_start(open_later, &gate);
    ck_assert_int_eq(weft_run(look, &l, &(weft_options){ .workers = 2, .deadlock_is_error = true, .report = say_nothing }), 0);
    pthread_join(opens, NULL);
    pthread_join(asks, NULL);
    ck_assert_int_eq(l.rc, 1);
    ck_assert_int_eq(plain.rc, 1);
    ck_assert_int_eq(atomic_load(&asked), 1);
}
END_TEST

static int look_back(void *arg)
{
    struct look *l = arg;
    weft_addr a;
    if (weft_addr_parse(&a, l->where) < 0)
        return -EINVAL;
    l->rc = weft_resolve_name(&a, l->text, l->n);
    return 0;
}

START_TEST(an_address_has_a_name_or_none)
{
    struct look l = { .where = "127.0.0.1:1", .n = 64 };
    ck_assert_int_eq(weft_run(look_back, &l, ON(1)), 0);
    ck_assert_int_eq(l.rc, 12);
    ck_assert_str_eq(l.text, "home.example");
    l.n = 12;
    ck_assert_int_eq(look_back(&l), 0);
    ck_assert_int_eq(l.rc, -ENOSPC);
    l.where = "[::1]:1";
    ck_assert_int_eq(look_back(&l), 0);
    ck_assert_int_eq(l.rc, -ENOENT);
    l.where = "unix:/x";
    ck_assert_int_eq(look_back(&l), 0);
    ck_assert_int_eq(l.rc, -EINVAL);
}
END_TEST

/* -- the end of a runtime: C-10 -- */

struct ending {
    weft_runtime *rt;
    atomic_int began, stay, deaf, left, others;
    int fds[2];
    char text[96];
};

static void keep_report(const weft_report *r, void *arg)
{
    struct ending *e = arg;
    bool deaf = strcmp(r->task_name, "deaf") == 0, left = r->task == 0 && strstr(r->text, "weft-names") != NULL;
    if (strcmp(r->what, "shutdown") != 0 || r->code != -ETIMEDOUT)
        return;
    if (left)
        snprintf(e->text, sizeof e->text, "%s", r->text);
    atomic_fetch_add(deaf ? &e->deaf : left ? &e->left : &e->others, 1);
}

static int do_not_listen(void *arg)
{
    struct ending *e = arg;
    atomic_fetch_add(&e->began, 1);
    while (atomic_load(&e->stay))
        weft_ignore(weft_sleep(weft_ms(1)));
    return 0;
}

static int read_nothing(void *arg)
{
    struct ending *e = arg;
    char byte;
    atomic_fetch_add(&e->began, 1);
    return weft_read(e->fds[0], &byte, 1) < 0 ? 0 : -EPROTO;
}

static int write_for_ever(void *arg)
{
    static const char much[65536];
    struct ending *e = arg;
    int rc;
    atomic_fetch_add(&e->began, 1);
    while ((rc = weft_write(e->fds[1], much, sizeof much)) >= 0) /* its peer never reads */
        continue;
    return rc == -ECANCELED ? 0 : rc;
}

/* How long a shutdown took of a runtime in which all kinds of things hang. */
static int64_t shut_down_hung(int64_t grace)
{
    struct ending e = { .stay = 1 };
    struct look l = { .where = "slow:1" };
    int pair[4];
    weft_scope s;
    gate.open = false;
    atomic_store(&gate.waiting, 0);
    weft_options o = { .workers = 2, .report = keep_report, .report_arg = &e };
    ck_assert_int_eq(weft_runtime_create(&e.rt, &o), 0);
    ck_assert_int_eq(weft_pair(pair), 0);
    ck_assert_int_eq(weft_pair(pair + 2), 0);
    e.fds[0] = pair[0];
    e.fds[1] = pair[2];
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = e.rt });
    weft_spawn(&s, look, &l);
    weft_spawn(&s, read_nothing, &e);
    weft_spawn(&s, write_for_ever, &e);
    weft_spawn_with(&s, do_not_listen, &e, &(weft_spawn_options){ .name = "deaf" });
    ck_assert(wait_for(&gate.waiting, 1) && wait_for(&e.began, 3));
    int64_t took = weft_now();
    ck_assert_int_eq(weft_runtime_shutdown(e.rt, grace), -ETIMEDOUT);
    took = weft_now() - took;
    ck_assert_int_eq(atomic_load(&e.deaf), 1);

    /* The look-up alone, which nobody waits for, is waited for and named. */
    atomic_store(&e.stay, 0);
    for (int64_t end = weft_after(LIMIT); weft_scope_alive(&s) > 0 && weft_now() < end;)
        usleep(1000);
    ck_assert_int_eq(weft_scope_alive(&s), 0);
    ck_assert_int_eq(l.rc, -ECANCELED);
    atomic_store(&e.left, 0);
    atomic_store(&e.others, 0);
    ck_assert_int_eq(weft_runtime_shutdown(e.rt, grace), -ETIMEDOUT);
    ck_assert_int_eq(atomic_load(&e.deaf) + atomic_load(&e.others), 1);
    ck_assert_int_eq(atomic_load(&e.left), 1);
    ck_assert_str_eq(e.text, "calls that nobody waits for any more have not returned: 1, on weft-names");

    gate_open(&gate);
    ck_assert_int_eq(weft_runtime_shutdown(e.rt, LIMIT), 0);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(weft_close(pair[i]), 0);
    weft_runtime_destroy(&e.rt);
    return took;
}

START_TEST(a_shutdown_ends_in_time_whatever_hangs_and_says_what)
{
    int64_t grace = weft_ms(20), took = LIMIT;
    for (int i = 0; i < 10 && took > grace + weft_sec(1); i++) /* how long the machine takes itself is chance */
        took = shut_down_hung(grace);
    ck_assert_int_ge(took, grace);
    ck_assert_int_le(took, grace + weft_sec(1));
}
END_TEST

/* B-031: it returns at once, docs/cancellation.md. */
static int leave_a_name(void *arg)
{
    struct crowd *c = arg;
    struct look *slow = &c->looks[0], *told = &c->looks[1];
    weft_scope s;
    slow->where = "127.0.0.2:1";
    told->where = "127.0.0.1:1";
    slow->n = told->n = 64;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, look_back, slow);
    wait_for(&gate.waiting, 1);
    weft_scope_cancel(&s, "enough");
    weft_ignore(look_back(told)); /* it is not even asked for */
    c->rc[0] = weft_scope_end(&s, 0);
    c->rc[1] = atomic_load(&answered);
    weft_scope_begin(&s, weft_ms(5));
    c->looks[2] = *slow;
    c->rc[2] = weft_scope_end(&s, look_back(&c->looks[2]) < 0 ? -EINVAL : c->looks[2].rc);
    c->rc[3] = atomic_load(&answered);
    gate_open(&gate);
    return 0;
}

START_TEST(who_asks_for_the_name_of_an_address_may_leave_at_once)
{
    struct crowd c = { .late = 0 };
    ck_assert_int_eq(weft_run(leave_a_name, &c, ON(counts[_i])), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(c.looks[i].rc, -ECANCELED);
        ck_assert_str_eq(c.looks[i].text, "");
    }
    ck_assert_int_eq(c.rc[0], 0);
    ck_assert_int_eq(c.rc[1], 0); /* the gate was shut */
    ck_assert_int_eq(c.rc[2], -ETIMEDOUT);
    ck_assert_int_eq(c.rc[3], 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dns");
    TCase *tc = add_case(s, "names");
    tcase_add_loop_test(tc, a_name_has_addresses_or_an_error_in_words, 0, COUNT(answers));
    tcase_add_test(tc, a_plain_thread_asks_and_answers_serve_for_a_while_but_unknown_names_do_not);
    tcase_add_loop_test(tc, those_who_ask_at_the_same_time_share_one_look_up, 0, COUNT(counts));
    tcase_add_test(tc, who_began_a_look_up_may_leave_at_once_and_the_others_get_the_answer);
    tcase_add_loop_test(tc, a_dead_resolver_keeps_nobody, 0, COUNT(counts));
    tcase_add_test(tc, who_follows_a_plain_threads_look_up_is_in_no_deadlock);
    tcase_add_test(tc, an_address_has_a_name_or_none);
    tcase_add_test(tc, a_shutdown_ends_in_time_whatever_hangs_and_says_what);
    tcase_add_loop_test(tc, who_asks_for_the_name_of_an_address_may_leave_at_once, 0, COUNT(counts));
    if (!forking()) { /* the gate and the counter serve once */
        fprintf(stderr, "dns_test needs CK_FORK\n");
        return 77;
    }
    return run_suite(s);
}
