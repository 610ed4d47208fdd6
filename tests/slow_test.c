/* slow_test.c - a task whose turns are long, and what is done for those that wait beside it: the rules R2 and R12 of
 * docs/io-rules.md. */
#include "support.h"

#include "engine/worker.h"

enum { REQUESTS = 9, TRIES = 100 };

/* How a request is awaited. A read of more than there is empties a stream, and the next one waits without trying; of the others
 * nobody knows. */
enum how { SHORT_READ, EXACT_READ, READ_ALL, DATAGRAM, ACCEPT, HOWS };

/* Answers requests of a byte, each of which takes a millisecond. */
struct service {
    int ends[2]; /* its own, and the client's; ACCEPT: the listener, and none */
    char where[32];
    enum how how;
    int served;
    int in_one_turn; /* how often the next request was awaited in the turn of the last one */
    int armed;       /* how many requests began with the set armed */
    atomic_int beside; /* how many turns somebody else has had */
    int let_go;        /* before how many requests it had some */
    atomic_bool over;
};

static int next_request(struct service *v, char text[8])
{
    switch (v->how) {
    case SHORT_READ:
        return weft_read(v->ends[0], text, 8);
    case EXACT_READ:
        return weft_read(v->ends[0], text, 1);
    case READ_ALL:
        return weft_read_all(v->ends[0], text, 1);
    case DATAGRAM:
        return weft_recv_from(v->ends[0], text, 8, NULL);
    case ACCEPT:
        v->ends[1] = weft_accept(v->ends[0]);
        return v->ends[1] < 0 ? v->ends[1] : 1;
    case HOWS:
        break;
    }
    return -EINVAL;
}

static void spin(int64_t ns)
{
    for (int64_t end = weft_after(ns); weft_now() < end;)
        continue;
}

static int serve(void *arg)
{
    struct service *v = arg;
    char text[8];
    uint64_t turns = 0;
    for (v->served = 0; v->served < REQUESTS; v->served++) {
        int rc = next_request(v, text);
        struct weft__worker *w = weft__worker_of(weft__self());
        v->armed += ati_load(&w->rt->poller.armed) != 0;
        v->in_one_turn += at_load(&w->sched.count.ran) == turns + 1;
        spin(weft_ms(1));
        turns = at_load(&w->sched.count.ran);
        if (rc != 1 || (v->how == ACCEPT ? weft_close(v->ends[1]) != 0 : weft_write(v->ends[0], text, 1) != 1))
            return -EIO;
    }
    return 0;
}

static void connect_ends(struct service *v, enum how how)
{
    *v = (struct service){ .how = how };
    if (how == ACCEPT)
        ck_assert_int_ge(v->ends[0] = listen_local(v->where), 0);
    else
        ck_assert_int_eq(how == DATAGRAM ? socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, v->ends)
                                     : weft_pair(v->ends), 0);
}

/* A plain thread: sends the next one when all have been at rest for a while. */
static void *ask(void *arg)
{
    struct service *v = arg;
    char c = 'x';
    for (int i = 0; i < REQUESTS; i++) {
        usleep(5000);
        int fd = v->how == ACCEPT ? plain_connect(v->where) : v->ends[1];
        bool answered = v->how == ACCEPT ? read(fd, &c, 1) == 0 : weft_write(fd, &c, 1) == 1 && weft_read(fd, &c, 1) == 1;
        if (v->how == ACCEPT)
            close(fd);
        if (!answered)
            break;
    }
    return NULL;
}

static void ask_and_serve(struct service *v, enum how how, int workers)
{
    connect_ends(v, how);
    pthread_t client = thread_start(ask, v);
    ck_assert_int_eq(weft_run(serve, v, ON(workers)), 0);
    pthread_join(client, NULL);
    ck_assert_int_eq(v->served, REQUESTS);
    weft_close(v->ends[0]);
    if (how != ACCEPT)
        weft_close(v->ends[1]);
}

/* R12: it does not yield before; else it would be known by the short turn after that. Most times, in one of the tries: a
 * request may come before it waits. */
START_TEST(who_finds_no_request_waits_in_the_turn_of_its_last_one)
{
    struct service v = { .served = 0 };
    for (int tries = 0; tries == 0 || (v.in_one_turn <= REQUESTS / 2 && !chaos() && tries < TRIES); tries++)
        ask_and_serve(&v, (enum how)_i, 1);
    ck_assert_int_gt(v.in_one_turn, chaos() ? -1 : REQUESTS / 2);
}
END_TEST

static int take_turns(void *arg)
{
    struct service *v = arg;
    while (!atomic_load(&v->over) && weft_yield() == 0)
        atomic_fetch_add(&v->beside, 1);
    return 0;
}

static int serve_what_is_there(void *arg)
{
    struct service *v = arg;
    weft_scope s;
    char text[8];
    int clients[REQUESTS];
    for (int i = 0; i < REQUESTS; i++)
        if ((clients[i] = v->how == ACCEPT ? plain_connect(v->where) : weft_write(v->ends[1], "x", 1)) < 0)
            return -EIO;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, take_turns, v);
    int rc = 0;
    while (rc == 0 && atomic_load(&v->beside) == 0)
        rc = weft_yield();
    for (; rc == 0 && v->served < REQUESTS; v->served++) {
        int before = atomic_load(&v->beside);
        rc = next_request(v, text) == 1 ? 0 : -EIO;
        v->let_go += atomic_load(&v->beside) > before;
        spin(weft_us(200));
        if (v->how == ACCEPT) {
            weft_close(v->ends[1]);
            close(clients[v->served]);
        }
    }
    atomic_store(&v->over, true);
    return weft_scope_end(&s, rc);
}

/* R12, the other side: it yields before each but the first is served. */
START_TEST(who_always_finds_a_request_lets_others_have_a_turn_before_each)
{
    struct service v;
    connect_ends(&v, (enum how)_i);
    ck_assert_int_eq(weft_run(serve_what_is_there, &v, ON(1)), 0);
    ck_assert_int_eq(v.served, REQUESTS);
    ck_assert_int_ge(v.let_go, chaos() ? 0 : REQUESTS - 1); /* chaos may give it the next turn, too */
    weft_close(v.ends[0]);
    if (_i != ACCEPT)
        weft_close(v.ends[1]);
}
END_TEST

/* R2: so that another request would be told to the other worker, which sleeps. */
START_TEST(the_set_is_armed_while_a_slow_request_is_served)
{
    struct service v = { .served = 0 };
    for (int tries = 0; tries == 0 || (v.armed <= REQUESTS / 2 && !chaos() && tries < TRIES); tries++)
        ask_and_serve(&v, SHORT_READ, 2);
    ck_assert_int_gt(v.armed, chaos() ? -1 : REQUESTS / 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slow");
    TCase *tc = add_case(s, "slow");
    tcase_add_loop_test(tc, who_finds_no_request_waits_in_the_turn_of_its_last_one, 0, HOWS);
    tcase_add_loop_test(tc, who_always_finds_a_request_lets_others_have_a_turn_before_each, EXACT_READ, HOWS);
    tcase_add_test(tc, the_set_is_armed_while_a_slow_request_is_served);
    return run_suite(s);
}
