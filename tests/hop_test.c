/* hop_test.c - a deadline that goes along with a request from one service to the next: B-028. */
#include "stalls.h"

#include <weft/io.h>
#include <weft/net.h>
#include <weft/stream.h>
#include <weft/time.h>

static const int worker_counts[] = { 1, 2, 8 };

enum { BEHIND = 2 }; /* services, each of which asks the next one */

/* What a service found. */
struct hop {
    atomic_int asked;
    int64_t left;        /* as it was sent */
    bool told;           /* what it did was ended by that */
    int code;            /* weft_cancelled_by */
    int64_t told_at;
    atomic_int expired;  /* its scope's deadline struck */
};

struct world {
    int listener[BEHIND];
    struct hop hop[BEHIND];
    struct service {
        struct world *w;
        int i;
    } service[BEHIND];
    int64_t before, began, gave_up_at; /* the client's */
    int client_rc;
    int64_t within;
    bool all_asked; /* when the client had given up */
};

/* One request: how much time there is, and the answer, a byte. */
static int ask(int listener)
{
    weft_stream *s WEFT_AUTO(weft_stream_drop) = NULL;
    weft_addr at;
    char where[64], answer = 0;
    int rc = weft_addr_local(listener, &at);
    if (rc < 0)
        return rc;
    weft_addr_text(&at, where, sizeof where);
    int fd = weft_connect(where, NULL);
    if (fd < 0)
        return fd;
    if ((rc = weft_stream_open(&s, fd, NULL)) < 0) {
        weft_close(fd);
        return rc;
    }
    int64_t left = weft_remaining();
    if ((rc = weft_stream_write_frame(s, 1, &left, sizeof left)) < 0 || (rc = weft_stream_flush(s)) < 0)
        return rc;
    rc = weft_stream_read(s, &answer, 1);
    return rc == 1 ? answer : rc == 0 ? -ENODATA : rc;
}

/* As long as it may, and a little of it before the next one is asked. */
static int answer(weft_stream *s, void *arg)
{
    struct service *me = arg;
    struct hop *h = &me->w->hop[me->i];
    weft_scope inside;
    weft_canceller by;
    char *request;
    size_t n;
    int rc = weft_stream_read_frame(s, 1, &request, &n);
    if (rc <= 0 || n != sizeof h->left)
        return -EPROTO;
    memcpy(&h->left, request, sizeof h->left);
    atomic_store(&h->asked, 1);
    weft_scope_begin(&inside, h->left);
    rc = weft_sleep(weft_ms(5));
    if (rc == 0)
        rc = me->i + 1 < BEHIND ? ask(me->w->listener[me->i + 1])
                : h->left == WEFT_NEVER ? weft_stream_write(s, "y", 1)
                                        : weft_sleep(WEFT_NEVER);
    if (rc > 0)
        rc = weft_stream_write(s, &(char){ (char)rc }, 1);
    h->told = weft_cancelled_by(&by);
    h->code = by.code;
    h->told_at = weft_now();
    rc = weft_scope_end(&inside, rc);
    atomic_store(&h->expired, weft_scope_expired(&inside));
    return rc == -ETIMEDOUT ? 0 : rc;
}

static int serve(void *arg)
{
    struct service *me = arg;
    return weft_serve(me->w->listener[me->i], answer, me, NULL);
}

static int two_hops(void *arg)
{
    struct world *w = arg;
    weft_scope all, call;
    for (int i = 0; i < BEHIND; i++)
        if ((w->listener[i] = weft_listen("127.0.0.1:0", NULL)) < 0)
            return w->listener[i];
    weft_scope_begin(&all, WEFT_NEVER);
    for (int i = 0; i < BEHIND; i++) {
        w->service[i] = (struct service){ w, i };
        weft_spawn(&all, serve, &w->service[i]);
    }
    w->began = weft_now();
    weft_scope_begin(&call, w->within);
    int rc = weft_sleep(w->before);
    if (rc == 0)
        rc = ask(w->listener[0]);
    w->client_rc = weft_scope_end(&call, rc > 0 ? 0 : rc);
    w->gave_up_at = weft_now();
    w->all_asked = true;
    for (int i = 0; i < BEHIND && w->within != WEFT_NEVER; i++) { /* of their own, nobody tells them */
        bool asked = atomic_load(&w->hop[i].asked) != 0;
        w->all_asked = w->all_asked && asked;
        for (int tries = 0; asked && !atomic_load(&w->hop[i].expired) && tries < 10000; tries++)
            weft_ignore(weft_sleep(weft_ms(1)));
    }
    weft_scope_cancel(&all, "done");
    rc = weft_scope_end(&all, 0);
    for (int i = 0; i < BEHIND; i++)
        weft_close(w->listener[i]);
    return rc;
}

START_TEST(each_sees_what_is_left_and_gives_up_by_itself)
{
    struct world w;
    int64_t within = weft_ms(SCALED(300, 1000, 2000));
    for (w.all_asked = false; !w.all_asked && within < LIMIT; within *= 4) {
        struct stalls machine;
        stalls_begin(&machine);
        w = (struct world){ .within = within, .before = weft_ms(20) };
        int rc = weft_run(two_hops, &w, ON(worker_counts[_i]));
        int64_t stood = stalls_end(&machine);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(w.client_rc, -ETIMEDOUT);
        ck_assert(w.all_asked || stood > within / 4); /* the machine may have taken the time before the second was asked */
    }
    ck_assert(w.all_asked);
    ck_assert_int_le(w.hop[0].left, w.within - w.before); /* less what went by before, at each */
    ck_assert_int_le(w.hop[1].left, w.hop[0].left - weft_ms(5));
    for (int i = 0; i < BEHIND; i++) {
        ck_assert_int_ge(w.hop[i].left, 0);
        ck_assert(w.hop[i].told);
        ck_assert_int_eq(w.hop[i].code, -ETIMEDOUT);
        ck_assert(w.hop[i].expired);
        ck_assert_int_ge(w.hop[i].told_at - w.began, w.within); /* never before who asked */
    }
}
END_TEST

START_TEST(no_deadline_goes_along_as_none)
{
    struct world w = { .within = WEFT_NEVER };
    ck_assert_int_eq(weft_run(two_hops, &w, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(w.client_rc, 0);
    for (int i = 0; i < BEHIND; i++) {
        ck_assert_int_eq(w.hop[i].left, WEFT_NEVER);
        ck_assert(!w.hop[i].told && !w.hop[i].expired);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hop");
    int counts = COUNT(worker_counts);
    TCase *tc = add_case(s, "two hops");
    tcase_add_loop_test(tc, each_sees_what_is_left_and_gives_up_by_itself, 0, counts);
    tcase_add_loop_test(tc, no_deadline_goes_along_as_none, 0, counts);
    return run_suite(s);
}
