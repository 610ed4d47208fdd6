/* tests/serve_test.c - os/serve.c: who is served, how many at once, what fails, and the end of it in bounded time. */
#include "stalls.h"

#include <limits.h>

#include "base/fault.h"

static const int workers[] = { 1, 2, 4 };

struct server {
    char where[32];
    int listener;
    weft_serve_options o;
    weft_conn_fn *handler;
    int clients, rc;
    int64_t told, took; /* when it was told to leave, and how long it took then */
    atomic_int in, out, most, served, cancelled, release, over, failures, shortages, stackless;
};

static void count_reports(const weft_report *r, void *arg)
{
    struct server *v = arg;
    if (strcmp(r->what, "failure") == 0)
        atomic_fetch_add(r->code == -EMFILE ? &v->shortages : &v->failures, 1);
    if (strstr(r->text, "no stack for"))
        atomic_fetch_add(&v->stackless, 1);
}

static int serve_task(void *arg)
{
    struct server *v = arg;
    v->rc = weft_serve(v->listener, v->handler, v, &v->o);
    atomic_store(&v->over, 1);
    return 0;
}

/* Runs body with a server beside it, which is told to leave when body has ended. */
struct run {
    struct server *v;
    weft_fn *body;
};

static int run_both(void *arg)
{
    const struct run *r = arg;
    struct server *v = r->v;
    weft_scope s;
    v->listener = listen_local(v->where);
    EXPECT(v->listener >= 0);
    weft_scope_begin(&s, LIMIT);
    weft_task t = weft_spawn(&s, serve_task, v);
    int rc = r->body(v);
    v->told = weft_now();
    weft_task_cancel(t, NULL);
    rc = weft_scope_end(&s, rc);
    v->took = weft_now() - v->told;
    weft_close(v->listener);
    return rc;
}

static void serve_on(struct server *v, weft_fn *body, int n)
{
    struct run r = { v, body };
    int before = descriptors_now();
    int rc = weft_run(run_both, &r, &(weft_options){ .workers = n, .report = count_reports, .report_arg = v });
    AS_EXPECTED(rc);
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert_int_eq(atomic_load(&v->in), 0);
}

/* ---- handlers */

static void come_in(struct server *v)
{
    int n = atomic_fetch_add(&v->in, 1) + 1, most = atomic_load(&v->most);
    while (n > most && !atomic_compare_exchange_weak(&v->most, &most, n))
        continue;
}

static int go_out(struct server *v, int rc)
{
    if (rc == -ECANCELED)
        atomic_fetch_add(&v->cancelled, 1);
    atomic_fetch_add(&v->served, 1);
    atomic_fetch_add(&v->in, -1);
    return rc;
}

/* Answers each line; "fail" is its failure. */
static int echo_lines(weft_stream *s, void *arg)
{
    struct server *v = arg;
    char *line;
    int rc;
    come_in(v);
    while ((rc = weft_stream_read_line(s, &line, NULL)) > 0) {
        if (strcmp(line, "fail") == 0) {
            rc = weft_fail(-EPROTO, "as it was asked to");
            break;
        }
        if ((rc = weft_stream_printf(s, "%s\n", line)) < 0)
            break;
    }
    return go_out(v, rc);
}

/* Reads until its end; how it was told to leave is to be for the reason "shutdown". */
static int wait_there(weft_stream *s, void *arg)
{
    struct server *v = arg;
    char byte;
    come_in(v);
    int rc = weft_stream_read(s, &byte, 1);
    const char *why = weft_cancel_reason();
    if (rc == -ECANCELED && (!why || strcmp(why, "shutdown") != 0))
        rc = -EPROTO;
    return go_out(v, rc);
}

static int write_for_ever(weft_stream *s, void *arg)
{
    static const char page[4096];
    int rc;
    come_in(arg);
    do {
        rc = weft_stream_write(s, page, sizeof page);
    } while (rc == 0);
    return go_out(arg, rc);
}

static int shielded(weft_stream *s, void *arg)
{
    char byte;
    weft_scope shield;
    come_in(arg);
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    int rc = weft_stream_read(s, &byte, 1);
    return go_out(arg, weft_scope_end(&shield, rc));
}

/* ---- clients */

static int ask(const char *where, const char *text)
{
    char buf[64] = "";
    size_t n = strlen(text);
    int fd WEFT_AUTO(weft_close_auto) = weft_connect(where, NULL);
    EXPECT(fd >= 0);
    EXPECT(weft_write_all(fd, text, n) == 0);
    EXPECT(weft_read_all(fd, buf, n) == (int)n && strcmp(buf, text) == 0);
    return 0;
}

static int client(void *arg)
{
    struct server *v = arg;
    return ask(v->where, "hello\n");
}

static int many_clients(void *arg)
{
    struct server *v = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < v->clients; i++)
        weft_spawn(&s, client, v);
    return weft_scope_end(&s, 0);
}

START_TEST(each_connection_is_served)
{
    struct server v = { .handler = echo_lines, .clients = fewer(20, SCALED(200, 100, 50)) };
    serve_on(&v, many_clients, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.served), v.clients);
    ck_assert_int_eq(atomic_load(&v.failures), 0);
}
END_TEST

START_TEST(no_more_than_the_limit_are_served_at_once)
{
    struct server v = { .handler = echo_lines, .o.limit = 3, .clients = fewer(20, 60) };
    serve_on(&v, many_clients, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.served), v.clients);
    ck_assert_int_le(atomic_load(&v.most), 3);
}
END_TEST

static int failing_clients(void *arg)
{
    struct server *v = arg;
    char byte;
    for (int i = 0; i < v->clients; i++) {
        int fd = weft_connect(v->where, NULL);
        EXPECT(fd >= 0);
        EXPECT(weft_write_all(fd, "fail\n", 5) == 0);
        EXPECT(weft_read(fd, &byte, 1) == 0);
        weft_close(fd);
        EXPECT(ask(v->where, "still there\n") == 0);
    }
    return 0;
}

START_TEST(a_failure_stays_the_handlers_own)
{
    struct server v = { .handler = echo_lines, .clients = 5 };
    serve_on(&v, failing_clients, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.failures), 5);
}
END_TEST

static int resetting_clients(void *arg)
{
    struct server *v = arg;
    for (int i = 0; i < v->clients; i++) {
        int fd = weft_connect(v->where, NULL);
        EXPECT(fd >= 0);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger));
        EXPECT(wait_for(&v->in, 1));
        weft_close(fd);
        EXPECT(wait_for(&v->served, i + 1));
    }
    return 0;
}

START_TEST(that_clients_give_up_is_not_reported)
{
    struct server v = { .handler = write_for_ever, .clients = 5 };
    serve_on(&v, resetting_clients, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.failures), 0);
}
END_TEST

/* ---- its end */

/* Connects, and stays until all is over. */
static int stay(void *arg)
{
    struct server *v = arg;
    int fd WEFT_AUTO(weft_close_auto) = weft_connect(v->where, NULL);
    EXPECT(fd >= 0);
    atomic_fetch_add(&v->out, 1);
    EXPECT(wait_for(&v->over, 1));
    return 0;
}

/* Served, and each client knows that it is connected: a reset before that would fail its connect. */
static bool all_are_in(struct server *v)
{
    return wait_for(&v->in, v->clients) && wait_for(&v->out, v->clients);
}

static int told_while_some_are_in(void *arg)
{
    const struct run *r = arg;
    struct server *v = r->v;
    weft_scope s;
    v->listener = listen_local(v->where);
    EXPECT(v->listener >= 0);
    weft_scope_begin(&s, LIMIT);
    weft_task t = weft_spawn(&s, serve_task, v);
    for (int i = 0; i < v->clients; i++)
        weft_spawn(&s, stay, v);
    EXPECT(all_are_in(v));
    v->told = weft_now();
    weft_task_cancel(t, NULL);
    EXPECT(wait_for(&v->over, 1));
    v->took = weft_now() - v->told;
    int rc = weft_scope_end(&s, 0);
    weft_close(v->listener);
    return rc;
}

/* Somebody was reset who would have left, had the machine not stood still while it did: it is told to leave, and half a second
 * later, or a tenth within its last words, no more waited for. */
static bool was_held_up(const struct server *v, int64_t stood)
{
    return v->rc == -ECONNABORTED && stood >= weft_ms(50);
}

/* reset: -ECONNABORTED some are reset for sure; 0 none is; 1 that is the kernel's to say, which may take their last words. */
static void end_on(struct server *v, int n, int reset)
{
    struct server asked = *v;
    struct run r = { v, NULL };
    int before = descriptors_now();
    int64_t end = weft_after(LIMIT), stood;
    do {
        struct stalls machine;
        stalls_begin(&machine);
        *v = asked;
        int rc = weft_run(told_while_some_are_in, &r, &(weft_options){ .workers = n, .report = count_reports, .report_arg = v });
        stood = stalls_end(&machine);
        AS_EXPECTED(rc);
        ck_assert_int_eq(descriptors_now(), before);
    } while (reset == 0 && was_held_up(v, stood) && weft_now() < end);
    ck_assert(v->rc == (reset < 0 ? reset : -ETIMEDOUT) || (reset > 0 && v->rc == -ECONNABORTED));
    ck_assert_int_eq(atomic_load(&v->cancelled), v->clients);
    ck_assert_int_eq(atomic_load(&v->failures), 0);
}

START_TEST(who_is_idle_is_cancelled_after_the_grace)
{
    struct server v = { .handler = wait_there, .clients = 20, .o.grace = weft_ms(20) };
    end_on(&v, workers[_i], 0);
    ck_assert_int_ge(v.took, weft_ms(20));
}
END_TEST

START_TEST(without_grace_it_is_cancelled_at_once)
{
    struct server v = { .handler = wait_there, .clients = 20, .o.grace = -1 };
    end_on(&v, workers[_i], 0);
}
END_TEST

static int nobody_comes(void *arg)
{
    (void)arg;
    return 0;
}

START_TEST(without_grace_and_without_anybody_nobody_was_cancelled)
{
    struct server v = { .handler = echo_lines, .o.grace = -1 };
    serve_on(&v, nobody_comes, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
}
END_TEST

START_TEST(peers_that_never_read_do_not_keep_it)
{
    struct server v = { .handler = write_for_ever, .clients = 20, .o.grace = weft_ms(20) };
    end_on(&v, workers[_i], 1);
}
END_TEST

/* For half a second after the grace. How much longer it took may be the machine's doing: once it has to be so. */
START_TEST(a_shield_does_not_keep_it)
{
    const int64_t most = weft_sec(TSAN || chaos() ? 10 : 3);
    int64_t took = most;
    for (int tries = 0; tries < 5 && took >= most; tries++) {
        struct server v = { .handler = shielded, .clients = 5, .o.grace = weft_ms(20) };
        end_on(&v, workers[_i], -ECONNABORTED);
        ck_assert_int_ge(v.took, weft_ms(500));
        took = v.took;
    }
    ck_assert_int_lt(took, most);
}
END_TEST

/* Three phases and three results (A-058, B-106): what the other side meets is an end or a reset. */
static int stays_with_words(weft_stream *s, void *arg)
{
    struct server *v = arg;
    weft_scope shield;
    come_in(v);
    int rc = weft_stream_puts(s, "kept");
    if (v->clients == 1 && rc == 0) /* to be there in the hard phase */
        weft_scope_begin_shield(&shield, WEFT_NEVER);
    int slept = weft_sleep(LIMIT);
    if (v->clients == 1 && rc == 0)
        slept = weft_scope_end(&shield, slept);
    return go_out(v, rc < 0 ? rc : slept);
}

static int hear_the_end(void *arg)
{
    struct server *v = arg;
    weft_scope s;
    char buf[16];
    int fd WEFT_AUTO(weft_close_auto) = -1, n = 0, rc;
    v->listener = listen_local(v->where);
    EXPECT(v->listener >= 0);
    weft_scope_begin(&s, LIMIT);
    weft_task t = weft_spawn(&s, serve_task, v);
    fd = weft_connect(v->where, NULL);
    EXPECT(fd >= 0 && wait_for(&v->in, 1));
    weft_task_cancel(t, NULL);
    while ((rc = weft_read(fd, buf, sizeof buf)) > 0)
        n += rc;
    EXPECT(wait_for(&v->over, 1));
    if (v->rc == -ECONNABORTED)
        EXPECT(rc == -ECONNRESET && n == 0);
    else
        EXPECT(rc == 0 && n == 4);
    EXPECT(weft_scope_end(&s, 0) == 0);
    return weft_close(v->listener);
}

START_TEST(who_stays_for_the_force_is_reset_and_who_leaves_has_an_end)
{
    for (int by_force = 0; by_force < 2; by_force++) {
        struct server v;
        int before = descriptors_now();
        int64_t end = weft_after(LIMIT), stood;
        do {
            struct stalls machine;
            stalls_begin(&machine);
            v = (struct server){ .handler = stays_with_words, .clients = by_force, .o.grace = weft_ms(5) };
            int rc = weft_run(hear_the_end, &v, &(weft_options){ .workers = workers[_i] });
            stood = stalls_end(&machine);
            AS_EXPECTED(rc);
        } while (!by_force && was_held_up(&v, stood) && weft_now() < end);
        ck_assert_int_eq(v.rc, by_force ? -ECONNABORTED : -ETIMEDOUT);
        ck_assert_int_eq(descriptors_now(), before);
    }
}
END_TEST

/* Handlers that are in the middle when the server is told: they hear nothing of it, and come to their end. */
static int unhurried(weft_stream *s, void *arg)
{
    struct server *v = arg;
    char *line;
    come_in(v);
    int rc = weft_stream_read_line(s, &line, NULL);
    while (rc > 0 && atomic_load(&v->release) == 0)
        rc = weft_yield() == 0 ? 1 : -ECANCELED;
    if (rc > 0)
        rc = weft_stream_puts(s, "done\n");
    return go_out(v, rc);
}

static int hears_done(void *arg)
{
    struct server *v = arg;
    char buf[8] = "";
    int fd WEFT_AUTO(weft_close_auto) = weft_connect(v->where, NULL);
    EXPECT(fd >= 0 && weft_write_all(fd, "go\n", 3) == 0);
    EXPECT(weft_read_all(fd, buf, 5) == 5 && strcmp(buf, "done\n") == 0);
    return 0;
}

static int is_answered(int fd, int64_t within)
{
    char byte;
    weft_scope s;
    weft_scope_begin(&s, within);
    return weft_scope_end(&s, weft_read(fd, &byte, 1));
}

/* Once the acceptor and the doorkeeper have ended, as there are no more than so many tasks: a connection that is queued, and
 * not served. */
static int come_late(struct server *v, int tasks)
{
    int64_t end = weft_after(LIMIT);
    while (weft_task_list(NULL, 0) > tasks && weft_now() < end)
        EXPECT(weft_yield() == 0);
    EXPECT(weft_task_list(NULL, 0) == tasks);
    int fd = weft_connect(v->where, NULL);
    EXPECT(fd >= 0 && weft_write_all(fd, "go\n", 3) == 0);
    EXPECT(is_answered(fd, weft_ms(10)) == -ETIMEDOUT);
    return fd;
}

/* B-106: who comes when the server was told is not served, and hears so when the listener is closed. */
static int drains(void *arg)
{
    const struct run *r = arg;
    struct server *v = r->v;
    weft_scope s;
    v->listener = listen_local(v->where);
    EXPECT(v->listener >= 0);
    weft_scope_begin(&s, LIMIT);
    weft_task t = weft_spawn(&s, serve_task, v);
    for (int i = 0; i < v->clients; i++)
        weft_spawn(&s, hears_done, v);
    EXPECT(wait_for(&v->in, v->clients));
    int tasks = weft_task_list(NULL, 0);
    weft_task_cancel(t, NULL);
    int late = come_late(v, tasks - 2);
    bool served = atomic_load(&v->in) != v->clients || atomic_load(&v->over) > 0;
    atomic_store(&v->release, 1);
    int rc = weft_scope_end(&s, 0);
    weft_close(v->listener);
    EXPECT(late >= 0 && !served && rc == 0);
    rc = is_answered(late, LIMIT);
    weft_close(late);
    EXPECT(rc == -ECONNRESET);
    return 0;
}

START_TEST(within_the_grace_handlers_come_to_their_end)
{
    struct server v = { .handler = unhurried, .clients = 10, .o.grace = LIMIT };
    struct run r = { &v, NULL };
    AS_EXPECTED(weft_run(drains, &r, QUIETLY_ON(workers[_i])));
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.cancelled), 0);
    ck_assert_int_eq(atomic_load(&v.served), 10);
}
END_TEST

static int by_deadline(void *arg)
{
    struct server *v = arg;
    weft_scope s;
    v->listener = listen_local(v->where);
    weft_scope_begin(&s, weft_ms(5));
    int rc = weft_scope_end(&s, weft_serve(v->listener, echo_lines, v, NULL));
    weft_close(v->listener);
    return rc;
}

START_TEST(a_deadline_is_its_scopes)
{
    struct server v = { .clients = 0 };
    ck_assert_int_eq(weft_run(by_deadline, &v, ON(workers[_i])), -ETIMEDOUT);
}
END_TEST

static int close_it(void *arg)
{
    struct server *v = arg;
    EXPECT(ask(v->where, "x\n") == 0);
    weft_close(v->listener);
    EXPECT(wait_for(&v->over, 1));
    v->listener = -1;
    return 0;
}

START_TEST(a_closed_listener_ends_it)
{
    struct server v = { .handler = echo_lines };
    serve_on(&v, close_it, workers[_i]);
    ck_assert_int_eq(v.rc, -EBADF);
}
END_TEST

/* Cut by force from further out, with a grace that is longer than anybody waits. */
static int by_force(void *arg)
{
    struct server *v = arg;
    weft_scope s, clients;
    v->listener = listen_local(v->where);
    EXPECT(v->listener >= 0);
    weft_scope_begin(&clients, LIMIT);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, serve_task, v);
    for (int i = 0; i < v->clients; i++)
        weft_spawn(&clients, stay, v);
    EXPECT(all_are_in(v));
    weft_scope_cancel_hard(&s, weft_ms(1), "shutdown");
    EXPECT(wait_for(&v->over, 1));
    EXPECT(weft_scope_end(&s, 0) == 0);
    int rc = weft_scope_end(&clients, 0);
    weft_close(v->listener);
    return rc;
}

START_TEST(force_from_further_out_is_obeyed)
{
    struct server v = { .handler = wait_there, .clients = 10, .o.grace = WEFT_NEVER };
    int rc = weft_run(by_force, &v, QUIETLY_ON(workers[_i]));
    AS_EXPECTED(rc);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.cancelled), 10);
}
END_TEST

/* ---- bad input, plain threads */

static int refuse_all(void *arg)
{
    struct server *v = arg;
    EXPECT(weft_serve(v->listener, NULL, v, NULL) == -EINVAL);
    EXPECT(weft_serve(v->listener, echo_lines, v, &(weft_serve_options){ .limit = -1 }) == -EINVAL);
    EXPECT(weft_serve(v->listener, echo_lines, v, &(weft_serve_options){ .stack_bytes = 9 << 20 }) == -EINVAL);
    EXPECT(weft_serve(v->listener, echo_lines, v, &(weft_serve_options){ .reserved = { 1 } }) == -EINVAL);
    EXPECT(weft_serve(-1, echo_lines, v, NULL) == -EBADF);
    int fds[2];
    EXPECT(weft_pair(fds) == 0);
    EXPECT(weft_serve(fds[0], echo_lines, v, NULL) == -EINVAL);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return 0;
}

START_TEST(what_cannot_be_served_is_refused)
{
    struct server v = { .handler = echo_lines };
    serve_on(&v, refuse_all, workers[_i]);
}
END_TEST

START_TEST(a_plain_thread_serves_on_a_runtime)
{
    struct server v = { .handler = echo_lines };
    weft_runtime *rt = NULL;
    weft_scope s, beside;
    v.listener = listen_local(v.where);
    ck_assert_int_eq(weft_serve(v.listener, echo_lines, &v, NULL), -EINVAL);
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = rt });
    weft_scope_begin_with(&beside, weft_ms(50), &(weft_scope_options){ .on = rt });
    weft_spawn(&s, client, &v);
    int rc = weft_scope_end(&beside, weft_serve(v.listener, echo_lines, &v, NULL));
    ck_assert_int_eq(rc, -ETIMEDOUT);
    weft_ignore(weft_close(v.listener));
    weft_ignore(weft_scope_end(&s, 0));
    weft_runtime_destroy(&rt);
}
END_TEST

/* ---- what runs out */

static int through_a_shortage(void *arg)
{
    struct server *v = arg;
    weft__fault_set(WEFT__FAULT_ACCEPT, 1, v->clients, -EMFILE);
    int rc = ask(v->where, "patience\n");
    weft__fault_clear();
    return rc;
}

START_TEST(a_short_shortage_is_waited_for)
{
    struct server v = { .handler = echo_lines, .clients = 4 };
    serve_on(&v, through_a_shortage, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.shortages), 0);
}
END_TEST

START_TEST(a_long_shortage_is_told_once_and_waited_for)
{
    struct server v = { .handler = echo_lines, .clients = 22 };
    serve_on(&v, through_a_shortage, 2);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.shortages), 1);
    ck_assert_int_eq(atomic_load(&v.failures), 0);
}
END_TEST

/* One client; with the n-th of a kind refused it is served or hung up on, and so is the next one served. */
struct fault_run {
    struct server v;
    enum weft__fault_kind kind;
    long nth;
    bool failed, answered;
};

static int one_at_fault(void *arg)
{
    struct fault_run *t = (struct fault_run *)arg;
    char buf[8];
    EXPECT(ask(t->v.where, "first\n") == 0); /* it is up */
    int fd = weft_connect(t->v.where, NULL);
    EXPECT(fd >= 0);
    weft__fault_set(t->kind, t->nth, 1, -ENOMEM);
    int rc = weft_write_all(fd, "hello\n", 6);
    if (rc == 0)
        rc = weft_read_all(fd, buf, 6);
    t->failed = weft__fault_failed(t->kind) > 0;
    weft__fault_clear();
    t->answered = rc == 6;
    EXPECT(t->answered || t->failed);
    weft_close(fd);
    return ask(t->v.where, "again\n");
}

START_TEST(without_memory_one_connection_fails_and_no_more)
{
    static const enum weft__fault_kind kinds[] = { WEFT__FAULT_ALLOC, WEFT__FAULT_MMAP, WEFT__FAULT_EPOLL_CTL };
    struct fault_run t = { .kind = kinds[_i] };
    int quiet = 0;
    for (t.nth = 1; t.nth < 30 && quiet < 3; t.nth++) {
        memset(&t.v, 0, sizeof t.v);
        t.v.handler = echo_lines;
        serve_on(&t.v, one_at_fault, 1);
        ck_assert_int_eq(t.v.rc, -ECANCELED);
        quiet = t.failed ? 0 : quiet + 1;
    }
    ck_assert_int_eq(quiet, 3);
}
END_TEST

/* No mapping succeeds, so that some have no stack: they are hung up on, and nothing of them stays. */
static int without_stacks(void *arg)
{
    struct server *v = arg;
    int fds[200], n = 0, hung_up = 0;
    char byte;
    EXPECT(ask(v->where, "first\n") == 0);
    weft__fault_set(WEFT__FAULT_MMAP, 1, LONG_MAX, -ENOMEM);
    while (n < v->clients && (fds[n] = weft_connect(v->where, NULL)) >= 0)
        n++;
    int64_t end = weft_after(LIMIT);
    while (atomic_load(&v->in) + atomic_load(&v->failures) < n && weft_now() < end)
        EXPECT(weft_yield() == 0);
    weft__fault_clear();
    EXPECT(weft_now() < end);
    for (int i = 0; i < n; i++) {
        EXPECT(weft_shutdown(fds[i], SHUT_WR) == 0);
        hung_up += weft_read(fds[i], &byte, 1) == 0;
        weft_close(fds[i]);
    }
    EXPECT(hung_up == n);
    return ask(v->where, "again\n");
}

START_TEST(a_connection_without_a_stack_is_closed)
{
    struct server v = { .handler = echo_lines, .clients = 200, .o = { .limit = 201, .stack_bytes = 2 << 20 } };
    serve_on(&v, without_stacks, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_gt(atomic_load(&v.stackless), 0);
}
END_TEST

/* Cut off by force while the caller sees the first of those off that had no stack: the others are closed as well. */
struct cut {
    struct server v;
    weft_scope s;
    atomic_int said, done;
};

static void hold_the_first(const weft_report *r, void *arg)
{
    struct cut *c = arg;
    if (!strstr(r->text, "no stack for a connection"))
        return;
    atomic_store(&c->said, 1);
    for (int i = 0; i < 100000 && atomic_load(&c->done) == 0; i++)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = 100000 }, NULL);
}

static void *cut_by_force(void *arg)
{
    struct cut *c = arg;
    for (int i = 0; i < 100000 && atomic_load(&c->said) == 0; i++)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = 100000 }, NULL);
    weft_scope_cancel_hard(&c->s, 0, "shutdown");
    atomic_store(&c->done, 1);
    return NULL;
}

static int forced_without_stacks(void *arg)
{
    struct cut *c = arg;
    struct server *v = &c->v;
    int fds[200], n = 0, hung_up = 0;
    char byte;
    v->listener = listen_local(v->where);
    EXPECT(v->listener >= 0);
    weft_scope_begin(&c->s, LIMIT);
    weft_spawn(&c->s, serve_task, v);
    EXPECT(ask(v->where, "first\n") == 0);
    pthread_t by = thread_start(cut_by_force, c);
    weft__fault_set(WEFT__FAULT_MMAP, 1, LONG_MAX, -ENOMEM);
    while (n < v->clients && (fds[n] = weft_connect(v->where, NULL)) >= 0)
        n++;
    weft_ignore(weft_scope_end(&c->s, 0));
    weft__fault_clear();
    pthread_join(by, NULL);
    EXPECT(atomic_load(&c->said) == 1);
    weft_close(v->listener);
    for (int i = 0; i < n; i++) {
        hung_up += weft_read(fds[i], &byte, 1) <= 0;
        weft_close(fds[i]);
    }
    EXPECT(hung_up == n);
    return 0;
}

START_TEST(force_closes_connections_without_a_stack)
{
    struct cut c = { .v = { .handler = echo_lines, .clients = 200, .o = { .stack_bytes = 2 << 20, .grace = WEFT_NEVER } } };
    int before = descriptors_now();
    weft_options o = { .workers = workers[_i], .report = hold_the_first, .report_arg = &c };
    AS_EXPECTED(weft_run(forced_without_stacks, &c, &o));
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert_int_eq(c.v.rc, -ECANCELED);
}
END_TEST

static int hold_a_stack(void *arg)
{
    struct server *v = arg;
    atomic_fetch_add(&v->in, 1);
    int rc = weft_sleep(LIMIT);
    atomic_fetch_add(&v->in, -1);
    return rc;
}

/* There are stacks for v->clients tasks more: none for the server's own, or for one of the two. */
static int begin_without_stacks(void *arg)
{
    struct server *v = arg;
    weft_scope holders;
    weft_task held[2], t;
    int n = 0;
    v->listener = listen_local(v->where);
    weft_scope_begin_with(&holders, LIMIT, &(weft_scope_options){ .join = WEFT_JOIN_KEEP_GOING });
    weft__fault_set(WEFT__FAULT_MMAP, 1, LONG_MAX, -ENOMEM);
    do {
        t = weft_spawn(&holders, hold_a_stack, v);
        held[n % 2] = t;
        while (weft_task_alive(t) && atomic_load(&v->in) == n)
            EXPECT(weft_yield() == 0);
        n = atomic_load(&v->in);
    } while (weft_task_alive(t));
    if (v->clients > 0) {
        EXPECT(weft_task_cancel(held[(n - 1) % 2], NULL) == 0);
        EXPECT(weft_task_join(held[(n - 1) % 2]) == 0);
    }
    v->rc = weft_serve(v->listener, echo_lines, v, NULL);
    weft__fault_clear();
    weft_scope_cancel(&holders, NULL);
    int rc = weft_scope_end(&holders, 0);
    weft_close(v->listener);
    return rc == -ENOMEM ? 0 : rc; /* of the last, which had none */
}

START_TEST(a_server_without_stacks_of_its_own_says_so)
{
    struct server v = { .clients = _i };
    weft_options few = { .workers = 1, .stack_bytes = 2 << 20, .report = say_nothing };
    AS_EXPECTED(weft_run(begin_without_stacks, &v, &few));
    ck_assert_int_eq(v.rc, -ENOMEM);
}
END_TEST

/* Each has sent its byte before it is accepted. */
static int crowd(void *arg)
{
    struct server *v = arg;
    char byte;
    int fds[20], hung_up = 0;
    for (int i = 0; i < COUNT(fds); i++)
        EXPECT((fds[i] = weft_connect(v->where, NULL)) >= 0);
    for (int i = 0; i < COUNT(fds); i++)
        weft_ignore(weft_write(fds[i], "x", 1));
    EXPECT(wait_for(&v->served, 1));
    weft__fault_clear();
    for (int i = 0; i < COUNT(fds); i++) {
        hung_up += weft_read(fds[i], &byte, 1) <= 0;
        weft_close(fds[i]);
    }
    EXPECT(hung_up == COUNT(fds));
    return 0;
}

START_TEST(a_crowd_with_few_places_is_served_in_turn)
{
    struct server v = { .handler = wait_there, .o.limit = 2 };
    serve_on(&v, crowd, workers[_i]);
    ck_assert_int_eq(v.rc, -ECANCELED);
    ck_assert_int_eq(atomic_load(&v.served), 20);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("serve");
    TCase *tc = add_case(s, "serve");
    tcase_add_loop_test(tc, each_connection_is_served, 0, COUNT(workers));
    tcase_add_loop_test(tc, no_more_than_the_limit_are_served_at_once, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_failure_stays_the_handlers_own, 0, COUNT(workers));
    tcase_add_loop_test(tc, that_clients_give_up_is_not_reported, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_is_idle_is_cancelled_after_the_grace, 0, COUNT(workers));
    tcase_add_loop_test(tc, without_grace_it_is_cancelled_at_once, 0, COUNT(workers));
    tcase_add_loop_test(tc, without_grace_and_without_anybody_nobody_was_cancelled, 0, COUNT(workers));
    tcase_add_loop_test(tc, peers_that_never_read_do_not_keep_it, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_shield_does_not_keep_it, 0, COUNT(workers) - 1);
    tcase_add_loop_test(tc, who_stays_for_the_force_is_reset_and_who_leaves_has_an_end, 0, COUNT(workers) - 1);
    tcase_add_loop_test(tc, within_the_grace_handlers_come_to_their_end, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_deadline_is_its_scopes, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_closed_listener_ends_it, 0, COUNT(workers));
    tcase_add_loop_test(tc, force_from_further_out_is_obeyed, 0, COUNT(workers));
    tcase_add_loop_test(tc, what_cannot_be_served_is_refused, 0, COUNT(workers));
    tcase_add_test(tc, a_plain_thread_serves_on_a_runtime);
    tcase_add_loop_test(tc, a_short_shortage_is_waited_for, 0, COUNT(workers));
    tcase_add_test(tc, a_long_shortage_is_told_once_and_waited_for);
    tcase_add_loop_test(tc, without_memory_one_connection_fails_and_no_more, 0, 3);
    tcase_add_loop_test(tc, a_connection_without_a_stack_is_closed, 0, COUNT(workers));
    tcase_add_loop_test(tc, force_closes_connections_without_a_stack, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_server_without_stacks_of_its_own_says_so, 0, 2);
    tcase_add_loop_test(tc, a_crowd_with_few_places_is_served_in_turn, 0, COUNT(workers));
    return run_suite(s);
}
