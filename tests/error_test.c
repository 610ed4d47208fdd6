/* error_test.c - results in words, and the detail behind them: error.h seen from outside. */
#include "support.h"

START_TEST(results_have_names)
{
    ck_assert_str_eq(weft_strerror(-EPIPE), "EPIPE: Broken pipe");
    ck_assert_str_eq(weft_strerror(0), "ok");
    ck_assert_str_eq(weft_strerror(1), "ok");
    ck_assert_str_eq(weft_strerror(INT32_MAX), "ok");
    ck_assert_int_eq(strncmp(weft_strerror(-ECANCELED), "ECANCELED: ", 11), 0);
    ck_assert_int_eq(strncmp(weft_strerror(-ETIMEDOUT), "ETIMEDOUT: ", 11), 0);
    ck_assert_str_eq(weft_strerror(-100000), "unknown error");
    ck_assert_str_eq(weft_strerror(INT32_MIN), "unknown error");
    for (int i = -200; i < 200; i++)
        ck_assert_ptr_nonnull(weft_strerror(i));
    ck_assert_ptr_eq(weft_strerror(-EIO), weft_strerror(-EIO));
}
END_TEST

START_TEST(a_detail_belongs_to_its_code)
{
    ck_assert_int_eq(weft_fail(-EPROTO, "header %d is too long", 7), -EPROTO);
    ck_assert_str_eq(weft_error_text(-EPROTO), "header 7 is too long");
    ck_assert_str_eq(weft_error_text(-EPROTO), "header 7 is too long");
    ck_assert_str_eq(weft_error_text(-EIO), weft_strerror(-EIO));
    ck_assert_int_eq(weft_fail_text(-EIO, "100 % broken"), -EIO);
    ck_assert_str_eq(weft_error_text(-EIO), "100 % broken");
    ck_assert_str_eq(weft_error_text(-EPROTO), weft_strerror(-EPROTO));
}
END_TEST

static const int lengths[] = { 1, 106, 107, 108, 109, 500, 5000 };

START_TEST(a_long_detail_is_cut)
{
    char text[5001], cut[200];
    memset(text, 'a', sizeof text);
    text[lengths[_i]] = 0;
    for (int formatted = 0; formatted < 2; formatted++) {
        int rc = formatted ? weft_fail(-EDOM, "%s", text) : weft_fail_text(-EDOM, text);
        ck_assert_int_eq(rc, -EDOM);
        snprintf(cut, sizeof cut, "%.107s", text);
        ck_assert_str_eq(weft_error_text(-EDOM), cut);
    }
}
END_TEST

struct details {
    char own[128], other[128], moved[128], after[128];
    atomic_int first, second;
    int end;
};

static int set_and_look(void *arg)
{
    struct details *d = arg;
    weft_ignore(weft_fail(-EPROTO, "mine"));
    atomic_store(&d->first, 1);
    wait_for(&d->second, 1);
    snprintf(d->own, sizeof d->own, "%s", weft_error_text(-EPROTO));
    return 0;
}

static int set_another(void *arg)
{
    struct details *d = arg;
    wait_for(&d->first, 1);
    snprintf(d->other, sizeof d->other, "%s", weft_error_text(-EPROTO));
    weft_ignore(weft_fail(-EPROTO, "another's"));
    atomic_store(&d->second, 1);
    return weft_fail(-EDOM, "the child's own");
}

static int look_after_children(void *arg)
{
    struct details *d = arg;
    weft_ignore(weft_fail(-EDOM, "the parent's"));
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, set_and_look, d);
    weft_spawn(&s, set_another, d);
    wait_for(&d->second, 1);
    d->end = weft_scope_end(&s, 0);
    snprintf(d->moved, sizeof d->moved, "%s", weft_error_text(d->end));
    weft_scope_begin(&s, WEFT_NEVER);
    weft_ignore(weft_scope_end(&s, 0));
    snprintf(d->after, sizeof d->after, "%s", weft_error_text(-EPROTO));
    return 0;
}

START_TEST(a_detail_belongs_to_its_task_and_moves_to_the_parent)
{
    struct details d = { .end = 0 };
    weft_ignore(weft_fail(-EPROTO, "the thread's"));
    ck_assert_int_eq(weft_run(look_after_children, &d, ON(1 + _i)), 0);
    ck_assert_str_eq(d.own, "mine");
    ck_assert_str_eq(d.other, weft_strerror(-EPROTO));
    ck_assert_int_eq(d.end, -EDOM);
    ck_assert_str_eq(d.moved, "the child's own");
    ck_assert_str_eq(d.after, weft_strerror(-EPROTO));
    ck_assert_str_eq(weft_error_text(-EPROTO), "the thread's");
}
END_TEST

static void *set_in_thread(void *arg)
{
    weft_ignore(weft_fail(-EPROTO, "another thread's"));
    snprintf(arg, 128, "%s", weft_error_text(-EPROTO));
    return NULL;
}

START_TEST(outside_a_task_a_detail_belongs_to_its_thread)
{
    char text[128];
    weft_ignore(weft_fail(-EPROTO, "mine"));
    pthread_join(thread_start(set_in_thread, text), NULL);
    ck_assert_str_eq(text, "another thread's");
    ck_assert_str_eq(weft_error_text(-EPROTO), "mine");
}
END_TEST

/* ---- records: where, by whom, and why; E-21 */

enum { BELOW = __LINE__ + 3, ABOVE = __LINE__ + 9 };
static int fails_below(void)
{
    return weft_fail(-ECONNRESET, "%d bytes came", 3);
}

static int fails_above(void)
{
    int rc = fails_below();
    return weft_fail_from(-EPROTO, rc, "no greeting: %s", weft_error_text(rc));
}

static bool is_at(const weft_error *e, int line)
{
    const char *base = e->file ? strrchr(e->file, '/') : NULL;
    return e->line == line && base && strcmp(base, "/error_test.c") == 0;
}

/* What is known of a failure after fails_above(), by `task`; the line that is wrong, or 0. */
static int record_is_wrong(weft_task task, const char *name)
{
    const weft_error *e = weft_last_error(-EPROTO), *cause = e ? e->cause : NULL;
    char line[600];
    if (!e || !cause || weft_last_error(-ECONNRESET) || weft_last_error(0) || cause->cause)
        return __LINE__;
    if (e->code != -EPROTO || strcmp(e->text, "no greeting: 3 bytes came") != 0 || !is_at(e, ABOVE))
        return __LINE__;
    if (cause->code != -ECONNRESET || strcmp(cause->text, "3 bytes came") != 0 || !is_at(cause, BELOW))
        return __LINE__;
    if (e->task != task || cause->task != task || strcmp(e->task_name, name) != 0 || strcmp(cause->task_name, name) != 0)
        return __LINE__;
    size_t n = weft_error_describe(-EPROTO, line, sizeof line);
    if (n != strlen(line) || strncmp(line, "EPROTO: no greeting: 3 bytes came (", 35) != 0 ||
            !strstr(line, "); because ECONNRESET: 3 bytes came (") || !strstr(line, "error_test.c:"))
        return __LINE__;
    if ((task != 0) != (strstr(line, "task ") != NULL) || (name[0] != 0) != (strstr(line, name[0] ? name : "\"") != NULL))
        return __LINE__;
    for (size_t i = 0; i <= n + 1; i++) { /* cut anywhere */
        char cut[sizeof line];
        memset(cut, '#', sizeof cut);
        if (weft_error_describe(-EPROTO, cut, i) != n || cut[i] != '#' || (i > 0 && cut[i - 1] != 0 && i <= n) ||
                (i > 0 && strncmp(cut, line, i - 1) != 0))
            return __LINE__;
    }
    return weft_error_describe(-EPROTO, NULL, 0) == n ? 0 : __LINE__;
}

struct recorded {
    weft_task child;
    int in_child, in_parent, silent;
};

static int fails_by_name(void *arg)
{
    struct recorded *r = arg;
    int rc = fails_above();
    r->in_child = record_is_wrong(weft_task_self(), "greeter");
    r->child = weft_task_self();
    return rc;
}

static int fails_silently(void *arg)
{
    struct recorded *r = arg;
    weft_ignore(weft_fail(-EDOM, "of another failure"));
    r->child = weft_task_self();
    return -EPIPE;
}

static int silent_is_wrong(int rc, weft_task child)
{
    const weft_error *e = weft_last_error(rc);
    char line[300];
    if (!e || e->code != -EPIPE || strcmp(e->text, weft_strerror(-EPIPE)) != 0 || e->cause)
        return __LINE__;
    if (e->task != child || e->file || e->line != 0 || !e->spawned_at)
        return __LINE__;
    weft_error_describe(rc, line, sizeof line);
    return strncmp(line, "EPIPE: Broken pipe (task ", 25) == 0 && strstr(line, ", spawned at ") ? 0 : __LINE__;
}

static int look_at_records(void *arg)
{
    struct recorded *r = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, fails_by_name, r, &(weft_spawn_options){ .name = "greeter" });
    int rc = weft_scope_end(&s, 0);
    r->in_parent = rc == -EPROTO ? record_is_wrong(r->child, "greeter") : __LINE__;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, fails_silently, r);
    rc = weft_scope_end(&s, 0);
    r->silent = silent_is_wrong(rc, r->child);
    weft_scope_begin(&s, WEFT_NEVER);
    return weft_scope_end(&s, fails_above());
}

START_TEST(a_record_says_where_by_whom_and_why_and_moves_to_the_parent)
{
    struct recorded r = { .in_child = -1 };
    ck_assert_int_eq(weft_run(look_at_records, &r, ON(1 + _i)), -EPROTO);
    ck_assert_int_eq(r.in_child, 0);
    ck_assert_int_eq(r.in_parent, 0);
    ck_assert_int_eq(r.silent, 0);
    ck_assert_ptr_nonnull(weft_last_error(-EPROTO)); /* of the main, for who has run it */
    ck_assert_ptr_nonnull(weft_last_error(-EPROTO)->cause);
}
END_TEST

START_TEST(a_thread_has_records_too)
{
    ck_assert_ptr_null(weft_last_error(-EPROTO));
    ck_assert_int_eq(fails_above(), -EPROTO);
    ck_assert_int_eq(record_is_wrong(0, ""), 0);
    ck_assert_int_eq(fails_below(), -ECONNRESET); /* without a cause again */
    ck_assert_ptr_null(weft_last_error(-ECONNRESET)->cause);
}
END_TEST

START_TEST(what_is_not_recorded_is_no_cause_of_its_own)
{
    char line[200];
    ck_assert_uint_eq(weft_error_describe(-EIO, line, sizeof line), strlen(weft_strerror(-EIO)));
    ck_assert_str_eq(line, weft_strerror(-EIO));
    weft_ignore(weft_fail(-EDOM, "stale"));
    ck_assert_int_eq(weft_fail_from(-EPROTO, -EIO, "because of it"), -EPROTO);
    const weft_error *cause = weft_last_error(-EPROTO)->cause;
    ck_assert_int_eq(cause->code, -EIO);
    ck_assert_str_eq(cause->text, weft_strerror(-EIO));
    ck_assert_ptr_null(cause->file);
    ck_assert_ptr_null(cause->spawned_at);
    ck_assert_ptr_null(cause->cause);
    weft_ignore(weft_fail_from(-EPROTO, 0, "of nothing"));
    ck_assert_ptr_null(weft_last_error(-EPROTO)->cause);
    weft_ignore(weft_fail_from(-EPROTO, -EPROTO, "again"));
    ck_assert_str_eq(weft_last_error(-EPROTO)->cause->text, "of nothing");
    weft_ignore(weft_fail_text(-EPROTO, ""));
    ck_assert_str_eq(weft_error_text(-EPROTO), weft_strerror(-EPROTO));
    ck_assert_int_eq(weft_fail(5, "no failure"), 5);
    ck_assert_str_eq(weft_error_text(5), "no failure");
}
END_TEST

START_TEST(of_a_long_row_of_causes_the_first_and_the_last_are_kept)
{
    static const int kept[] = { 29, 28, 27, 26, 25, 24, 23, 0 };
    char text[16];
    weft_ignore(weft_fail(-EIO, "0"));
    for (int i = 1; i < 30; i++)
        weft_ignore(weft_fail_from(-EIO, -EIO, "%d", i));
    const weft_error *e = weft_last_error(-EIO);
    for (int i = 0; i < COUNT(kept); i++, e = e->cause) {
        ck_assert_ptr_nonnull(e);
        snprintf(text, sizeof text, "%d", kept[i]);
        ck_assert_str_eq(e->text, text);
    }
    ck_assert_ptr_null(e);
}
END_TEST

/* ---- what asyncio raises, each as one code with its words and what is known of it: A-096 */

static const struct {
    int code;
    const char *words;
} told_by[] = {
    { -ETIMEDOUT, "ETIMEDOUT: Connection timed out" },   /* TimeoutError */
    { -ECANCELED, "ECANCELED: Operation canceled" },     /* CancelledError */
    { -EALREADY, "EALREADY: Operation already in progress" }, /* InvalidStateError */
    { -ENODATA, "ENODATA: No data available" },          /* IncompleteReadError */
    { -EMSGSIZE, "EMSGSIZE: Message too long" },         /* LimitOverrunError */
    { -EAGAIN, "EAGAIN: Resource temporarily unavailable" }, /* QueueEmpty, QueueFull */
    { -EPIPE, "EPIPE: Broken pipe" },                    /* QueueShutDown, BrokenBarrierError */
};

struct raised {
    int line; /* the first that was wrong; 0 none */
};

#define IS(r, cond) ((cond) || (r)->line != 0 ? (void)0 : (void)((r)->line = __LINE__))
#define SAYS(r, rc, text) IS(r, strcmp(weft_error_text(rc), (text)) == 0)

static void raise_of_waits(struct raised *r)
{
    weft_scope s;
    weft_event never = WEFT_SYNC_INIT;
    weft_scope_begin(&s, 0);
    int rc = weft_event_wait(&never);
    IS(r, rc == -ECANCELED);
    IS(r, weft_scope_end(&s, rc) == -ETIMEDOUT);
    weft_promise p = WEFT_SYNC_INIT;
    IS(r, weft_promise_set(&p, 0, NULL) == 0 && weft_promise_set(&p, 0, NULL) == -EALREADY);
    weft_barrier b = WEFT_BARRIER_INIT(2);
    weft_barrier_break(&b);
    IS(r, weft_barrier_wait(&b) == -EPIPE);
}

static void raise_of_queues(struct raised *r)
{
    weft_chan *c;
    int item = 1;
    IS(r, weft_chan_create(&c, sizeof item, 1, NULL) == 0);
    IS(r, weft_chan_try_recv(c, &item, sizeof item) == -EAGAIN);
    IS(r, weft_chan_try_send(c, &item, sizeof item) == 1 || weft_chan_len(c) == 1);
    IS(r, weft_chan_try_send(c, &item, sizeof item) == -EAGAIN);
    weft_chan_close(c);
    IS(r, weft_chan_send(c, &item, sizeof item) == -EPIPE);
    weft_chan_destroy(&c);
}

static void raise_of_streams(struct raised *r)
{
    weft_stream *a, *b;
    char *data, buf[64];
    size_t n = 0;
    int fds[2];
    IS(r, weft_pair(fds) == 0);
    IS(r, weft_stream_open(&a, fds[0], NULL) == 0);
    IS(r, weft_stream_open(&b, fds[1], &(weft_stream_options){ .read_limit = 8 }) == 0);
    IS(r, weft_stream_write(a, "\0\0\0\11four", 8) == 0 && weft_stream_shutdown(a) == 0);
    int rc = weft_stream_read_until(b, ";", 1, &data, &n);
    IS(r, rc == -ENODATA);
    SAYS(r, rc, "8 bytes came before the end, and no separator");
    rc = weft_stream_read_frame(b, 4, &data, &n);
    IS(r, rc == -EMSGSIZE);
    SAYS(r, rc, "a frame of 9 bytes, and the limit is 8");
    SAYS(r, -ENODATA, weft_strerror(-ENODATA)); /* that was another failure's */
    rc = weft_stream_read_all(b, buf, 20, &n);
    IS(r, rc == -ENODATA && n == 8);
    SAYS(r, rc, "8 of 20 bytes came before the end");
    IS(r, weft_stream_close(&a) == 0 && weft_stream_close(&b) == 0);

    IS(r, weft_pair(fds) == 0);
    IS(r, weft_stream_open(&b, fds[1], &(weft_stream_options){ .read_limit = 8 }) == 0);
    IS(r, weft_write_all(fds[0], "0123456789;", 11) == 0);
    rc = weft_stream_read_until(b, ";", 1, &data, &n);
    IS(r, rc == -EMSGSIZE);
    SAYS(r, rc, "no end within 8 bytes, of which 11 are ahead");
    IS(r, weft_stream_read_all(b, buf, 11, NULL) == 1);
    IS(r, weft_write_all(fds[0], "\0\5abc", 5) == 0 && weft_close(fds[0]) == 0);
    rc = weft_stream_read_frame(b, 2, &data, &n);
    IS(r, rc == -ENODATA);
    SAYS(r, rc, "5 of 7 bytes of a frame came before the end");
    IS(r, weft_stream_close(&b) == 0);

    IS(r, weft_pair(fds) == 0);
    IS(r, weft_write_all(fds[0], "abc", 3) == 0 && weft_close(fds[0]) == 0);
    rc = weft_read_all(fds[1], buf, 5);
    IS(r, rc == -ENODATA);
    SAYS(r, rc, "3 of 5 bytes came before the end");
    IS(r, weft_close(fds[1]) == 0);
}

static void raise_of_files(struct raised *r)
{
    char path[] = "/tmp/weft-error-XXXXXX";
    int file = mkstemp(path), fds[2];
    uint64_t moved = 0;
    IS(r, file >= 0 && unlink(path) == 0 && write(file, "abc", 3) == 3);
    IS(r, weft_pair(fds) == 0);
    int rc = weft_send_file(fds[0], file, 1, 5, &moved);
    IS(r, rc == -ENODATA && moved == 2);
    SAYS(r, rc, "2 of 5 bytes came before the end of the file");
    IS(r, weft_close(fds[0]) == 0 && weft_close(fds[1]) == 0);
    close(file);
}

static int raise_all(void *arg)
{
    struct raised *r = arg;
    raise_of_waits(r);
    raise_of_queues(r);
    raise_of_streams(r);
    raise_of_files(r);
    return 0;
}

START_TEST(each_failure_has_its_code_its_words_and_what_is_known)
{
    struct raised r = { 0 };
    for (int i = 0; i < COUNT(told_by); i++)
        ck_assert_str_eq(weft_strerror(told_by[i].code), told_by[i].words);
    if (_i == 0)
        raise_all(&r);
    else
        ck_assert_int_eq(weft_run(raise_all, &r, ON(_i)), 0);
    ck_assert_msg(r.line == 0, "line %d", r.line);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("error");
    TCase *tc = add_case(s, "words");
    tcase_add_test(tc, results_have_names);
    tc = add_case(s, "details");
    tcase_add_test(tc, a_detail_belongs_to_its_code);
    tcase_add_loop_test(tc, a_long_detail_is_cut, 0, COUNT(lengths));
    tcase_add_loop_test(tc, a_detail_belongs_to_its_task_and_moves_to_the_parent, 0, 3);
    tcase_add_loop_test(tc, each_failure_has_its_code_its_words_and_what_is_known, 0, 3);
    tcase_add_test(tc, outside_a_task_a_detail_belongs_to_its_thread);
    tc = add_case(s, "records");
    tcase_add_loop_test(tc, a_record_says_where_by_whom_and_why_and_moves_to_the_parent, 0, 3);
    tcase_add_test(tc, a_thread_has_records_too);
    tcase_add_test(tc, what_is_not_recorded_is_no_cause_of_its_own);
    tcase_add_test(tc, of_a_long_row_of_causes_the_first_and_the_last_are_kept);
    return run_suite(s);
}
