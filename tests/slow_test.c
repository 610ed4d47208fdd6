/* slow_test.c - a task whose turns are long, and what is done for those that wait beside it: the rules R2 and R12 of
 * docs/io-rules.md. */
#include "support.h"

#include "engine/worker.h"

enum { REQUESTS = 9, TRIES = 100 };

/* Answers requests of a byte, each of which takes a millisecond. */
struct service {
    int ends[2]; /* its own, and the client's */
    int served;
    int in_one_turn; /* how often the next request was awaited in the turn of the last one */
    int armed;       /* how many requests began with the set armed */
};

static int serve(void *arg)
{
    struct service *v = arg;
    char text[8]; /* more than there is: a read empties the socket, and the next one waits without trying */
    uint64_t turns = 0;
    for (v->served = 0; v->served < REQUESTS; v->served++) {
        int rc = weft_read(v->ends[0], text, sizeof text);
        struct weft__worker *w = weft__worker_of(weft__self());
        v->armed += ati_load(&w->rt->poller.armed) != 0;
        v->in_one_turn += at_load(&w->sched.count.ran) == turns + 1;
        for (int64_t end = weft_after(weft_ms(1)); weft_now() < end;)
            continue;
        turns = at_load(&w->sched.count.ran);
        if (rc != 1 || weft_write(v->ends[0], text, 1) != 1)
            return -EIO;
    }
    return 0;
}

/* A plain thread: sends the next one when all have been at rest for a while. */
static void *ask(void *arg)
{
    struct service *v = arg;
    char c = 'x';
    for (int i = 0; i < REQUESTS; i++) {
        usleep(5000);
        if (weft_write(v->ends[1], &c, 1) != 1 || weft_read(v->ends[1], &c, 1) != 1)
            break;
    }
    return NULL;
}

static void ask_and_serve(struct service *v, int workers)
{
    *v = (struct service){ .served = 0 };
    ck_assert_int_eq(weft_pair(v->ends), 0);
    pthread_t client = thread_start(ask, v);
    ck_assert_int_eq(weft_run(serve, v, ON(workers)), 0);
    pthread_join(client, NULL);
    ck_assert_int_eq(v->served, REQUESTS);
    weft_close(v->ends[0]);
    weft_close(v->ends[1]);
}

/* R12: it does not yield before; else it would be known by the short turn after that. Most times, in one of the tries: a
 * request may come before it waits. */
START_TEST(who_has_emptied_its_socket_waits_in_the_turn_of_its_last_request)
{
    struct service v = { .served = 0 };
    for (int tries = 0; tries == 0 || (v.in_one_turn <= REQUESTS / 2 && !chaos() && tries < TRIES); tries++)
        ask_and_serve(&v, 1);
    ck_assert_int_gt(v.in_one_turn, chaos() ? -1 : REQUESTS / 2);
}
END_TEST

/* R2: so that another request would be told to the other worker, which sleeps. */
START_TEST(the_set_is_armed_while_a_slow_request_is_served)
{
    struct service v = { .served = 0 };
    for (int tries = 0; tries == 0 || (v.armed <= REQUESTS / 2 && !chaos() && tries < TRIES); tries++)
        ask_and_serve(&v, 2);
    ck_assert_int_gt(v.armed, chaos() ? -1 : REQUESTS / 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slow");
    TCase *tc = add_case(s, "slow");
    tcase_add_test(tc, who_has_emptied_its_socket_waits_in_the_turn_of_its_last_request);
    tcase_add_test(tc, the_set_is_armed_while_a_slow_request_is_served);
    return run_suite(s);
}
