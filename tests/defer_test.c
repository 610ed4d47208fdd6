/* defer_test.c - calls that are put off until a scope, a task, or the body of a generator ends. */
#include "support.h"

#include "base/fault.h"

/* ---- each case on a plain thread without a runtime, and in tasks on 1, 2 and 4 workers */

enum { PLACES = 4 };
static const int workers_of[PLACES] = { 0, 1, 2, 4 };

/* What came in which order, one letter each, with its result. */
struct log {
    char order[32];
    int rc[32];
    int n;
};

struct note {
    struct log *log;
    char letter;
    int64_t takes;    /* it sleeps so long */
    int result;       /* if it is negative, and the sleep went well */
    const char *text; /* its detail */
};

static void add(struct log *l, char letter, int rc)
{
    l->rc[l->n] = rc;
    l->order[l->n++] = letter;
}

static int cleanup(void *arg)
{
    struct note *n = arg;
    int rc = n->takes > 0 ? weft_sleep(n->takes) : 0;
    add(n->log, n->letter, rc);
    if (rc < 0 || n->result >= 0)
        return rc;
    return n->text ? weft_fail(n->result, "%s", n->text) : n->result;
}

static int defer_all(struct note *all, int n)
{
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = weft_defer(cleanup, &all[i], LIMIT);
    return rc;
}

/* What was reported, and how often. */
struct told {
    atomic_int n;
    int code;
    char what[16], text[128];
};

static void take_report(const weft_report *r, void *arg)
{
    struct told *t = arg;
    t->code = r->code;
    snprintf(t->what, sizeof t->what, "%s", r->what);
    snprintf(t->text, sizeof t->text, "%s", r->text);
    atomic_fetch_add(&t->n, 1);
}

static struct told told;

static void run_at(int place, weft_fn *fn, void *arg)
{
    told = (struct told){ .code = 0 };
    weft_options o = { .workers = workers_of[place], .report = take_report, .report_arg = &told };
    AS_EXPECTED_IN(workers_of[place] == 0 ? fn(arg) : weft_run(fn, arg, &o), place);
}

/* ---- every way out */

enum way { END, FAILS, LATE, CANCELLED, FROM_OUTSIDE, RETURNED, BROKEN_OUT, CHILD_FAILS, WAYS };
static const int ends[WAYS] = { [END] = 3, [FAILS] = -EIO, [LATE] = -ETIMEDOUT, [FROM_OUTSIDE] = -ECANCELED,
    [CHILD_FAILS] = -EPROTO };

static int fails(void *arg)
{
    (void)arg;
    return -EPROTO;
}

static int leave_by_return(struct log *l, struct note *all)
{
    WEFT_SCOPE(s, WEFT_NEVER);
    EXPECT(defer_all(all, 3) == 0);
    add(l, '.', 0);
    return 0;
}

static int leave_by_break(struct log *l, struct note *all)
{
    for (;;) {
        WEFT_SCOPE(s, WEFT_NEVER);
        EXPECT(defer_all(all, 3) == 0);
        add(l, '.', 0);
        break;
    }
    return 0;
}

static int leave(enum way way, struct log *l)
{
    struct note all[] = { { .log = l, .letter = 'a' }, { .log = l, .letter = 'b', .takes = weft_us(10) },
        { .log = l, .letter = 'c', .takes = weft_us(10) } };
    if (way == RETURNED)
        return leave_by_return(l, all);
    if (way == BROKEN_OUT)
        return leave_by_break(l, all);
    weft_scope s, outer;
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&s, way == LATE ? weft_us(50) : WEFT_NEVER);
    EXPECT(defer_all(all, COUNT(all)) == 0);
    int rc = way == END ? 3 : way == FAILS ? -EIO : 0;
    if (way == CHILD_FAILS)
        weft_spawn(&s, fails, NULL);
    if (way == CANCELLED || way == FROM_OUTSIDE)
        weft_scope_cancel(way == CANCELLED ? &s : &outer, "test");
    if (way == LATE || way == CANCELLED || way == FROM_OUTSIDE)
        EXPECT((rc = weft_sleep(LIMIT)) == -ECANCELED);
    add(l, '.', 0);
    EXPECT(weft_scope_end(&s, rc) == ends[way]);
    EXPECT(weft_scope_end(&outer, 0) == 0);
    return 0;
}

static int leave_in_each_way(void *arg)
{
    (void)arg;
    for (int way = 0; way < (weft_task_self() != 0 ? WAYS : CHILD_FAILS); way++) {
        struct log l = { .n = 0 };
        EXPECT(leave((enum way)way, &l) == 0);
        EXPECT(strcmp(l.order, ".cba") == 0);
        for (int i = 0; i < 4; i++)
            EXPECT(l.rc[i] == 0);
    }
    return 0;
}

/* B-030, E-33 */
START_TEST(deferred_calls_are_made_on_every_way_out_newest_first_and_may_wait)
{
    run_at(_i, leave_in_each_way, NULL);
    ck_assert_int_eq(atomic_load(&told.n), 0);
}
END_TEST

/* ---- after the children, in turn with generators */

static int child(void *arg)
{
    weft_scope shield;
    weft_scope_begin_shield(&shield, LIMIT);
    int rc = weft_scope_end(&shield, weft_sleep(weft_us(200)));
    add(arg, '1', rc);
    return rc;
}

static int body(weft_gen *g, void *arg)
{
    struct note *n = arg;
    int rc = weft_gen_yield(g, NULL, 0);
    add(n->log, n->letter, rc);
    return rc;
}

static int has_children(void *arg)
{
    struct log *l = arg;
    struct note all[] = { { .log = l, .letter = 'a' }, { .log = l, .letter = 'b' }, { .log = l, .letter = 'c' } };
    struct note gens[] = { { .log = l, .letter = 'G' }, { .log = l, .letter = 'H' } };
    weft_gen *g;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++) {
        EXPECT(weft_defer(cleanup, &all[i], LIMIT) == 0);
        if (i < 2) {
            EXPECT(weft_gen_create(&g, body, &gens[i], 0, NULL) == 0);
            EXPECT(weft_gen_next(g, NULL, 0) == 1);
        }
    }
    add(l, '.', 0);
    if (weft_task_self() != 0)
        weft_spawn(&s, child, l);
    weft_scope_cancel(&s, "test");
    EXPECT(weft_scope_end(&s, 0) == 0);
    return 0;
}

START_TEST(they_come_after_the_children_in_turn_with_generators)
{
    struct log l = { .n = 0 };
    run_at(_i, has_children, &l);
    ck_assert_str_eq(l.order, _i == 0 ? ".cHbGa" : ".1cHbGa");
}
END_TEST

/* ---- the grace */

static int cut_short(void *arg)
{
    struct log *l = arg;
    struct note all[] = { { .log = l, .letter = 'a', .takes = weft_us(10) }, { .log = l, .letter = 'b', .takes = LIMIT },
        { .log = l, .letter = 'c', .takes = weft_us(10) } };
    static const int64_t graces[] = { WEFT_NEVER, weft_ms(1), -1 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++)
        EXPECT(weft_defer(cleanup, &all[i], graces[i]) == 0);
    weft_scope_cancel(&s, "test");
    EXPECT(weft_scope_end(&s, 0) == -ETIMEDOUT);
    return 0;
}

START_TEST(each_is_bounded_by_a_grace_of_its_own)
{
    struct log l = { .n = 0 };
    run_at(_i, cut_short, &l);
    ck_assert_str_eq(l.order, "cba");
    ck_assert_int_eq(l.rc[0], -ECANCELED);
    ck_assert_int_eq(l.rc[1], -ECANCELED);
    ck_assert_int_eq(l.rc[2], 0);
    ck_assert_int_eq(atomic_load(&told.n), 1); /* the second that failed */
    ck_assert_str_eq(told.what, "defer");
    ck_assert_int_eq(told.code, -ETIMEDOUT);
}
END_TEST

static int cut_hard(void *arg)
{
    struct log *l = arg;
    struct note n = { .log = l, .letter = 'a', .takes = LIMIT };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(weft_defer(cleanup, &n, WEFT_NEVER) == 0);
    weft_scope_cancel_hard(&s, weft_us(100), "test");
    EXPECT(weft_scope_end(&s, 0) == -ECANCELED);
    return 0;
}

START_TEST(a_hard_cancel_breaks_it)
{
    struct log l = { .n = 0 };
    run_at(_i, cut_hard, &l);
    ck_assert_str_eq(l.order, "a");
    ck_assert_int_eq(l.rc[0], -ECANCELED);
}
END_TEST

/* ---- failures */

static int end_of(weft_scope *s, struct log *l, int result, const char *text, int rc)
{
    struct note a = { .log = l, .letter = 'a', .result = -EBADF };
    struct note b = { .log = l, .letter = 'b', .result = result, .text = text };
    if (weft_defer(cleanup, &a, LIMIT) < 0 || weft_defer(cleanup, &b, LIMIT) < 0)
        return -EXFULL;
    return weft_scope_end(s, rc);
}

static int fail_here(void *arg)
{
    struct log *l = arg;
    weft_scope s;
    /* The first one is the result, with its text; the second is told. */
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(end_of(&s, l, -ENOSPC, "the disk is full", 7) == -ENOSPC);
    EXPECT(strcmp(weft_error_text(-ENOSPC), "the disk is full") == 0);
    EXPECT(weft_scope_failed(&s) == 0);
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(end_of(&s, l, 5, NULL, 7) == -EBADF);
    /* The body's counts before, and its text stays. */
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(end_of(&s, l, -ENOSPC, "not this", weft_fail(-EIO, "the body")) == -EIO);
    EXPECT(strcmp(weft_error_text(-EIO), "the body") == 0);
    /* It is not hidden by the scope's own cancel. */
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, "test");
    EXPECT(end_of(&s, l, -ENOSPC, NULL, -ECANCELED) == -ENOSPC);
    return 0;
}

START_TEST(a_failure_is_the_result_unless_there_was_one_before)
{
    struct log l = { .n = 0 };
    run_at(_i, fail_here, &l);
    ck_assert_str_eq(l.order, "babababa");
    if (_i > 0) {
        ck_assert_int_eq(atomic_load(&told.n), 4); /* of each pair the second, but where one went well; and two of the third */
        ck_assert_str_eq(told.what, "defer");
        ck_assert_int_eq(told.code, -EBADF);
        ck_assert_ptr_nonnull(strstr(told.text, "EBADF"));
    }
}
END_TEST

static int drop_it(void *arg)
{
    struct note n = { .log = arg, .letter = 'a', .result = -ENOSPC, .text = "the disk is full" };
    WEFT_SCOPE(s, WEFT_NEVER);
    EXPECT(weft_defer(cleanup, &n, LIMIT) == 0);
    return 0;
}

START_TEST(a_failure_in_a_block_that_is_left_is_reported)
{
    struct log l = { .n = 0 };
    run_at(_i, drop_it, &l);
    ck_assert_int_eq(atomic_load(&told.n), 1);
    ck_assert_str_eq(told.what, "defer");
    ck_assert_int_eq(told.code, -ENOSPC);
    ck_assert_ptr_nonnull(strstr(told.text, "the disk is full"));
}
END_TEST

static int fails_and_defers(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, fails, NULL);
    EXPECT(end_of(&s, arg, -ENOSPC, NULL, 0) == -EPROTO);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_ANY });
    weft_spawn(&s, child, arg);
    EXPECT(end_of(&s, arg, -ENOSPC, NULL, 0) == -ENOSPC);
    return 0;
}

START_TEST(a_childs_failure_counts_before_and_a_policys_success_does_not)
{
    struct log l = { .n = 0 };
    run_at(_i, fails_and_defers, &l);
    ck_assert_str_eq(l.order, "ba1ba");
    ck_assert_int_eq(atomic_load(&told.n), 3);
}
END_TEST

/* ---- within a deferred call */

struct nest {
    struct log *log;
    weft_scope *ends;
    struct note gen; /* not in the call's own frame: that is gone when its shield ends */
    int rc;
    atomic_int over;
};

/* The last thing of what `nests` leaves. */
static int notes_b(void *arg)
{
    struct nest *n = arg;
    add(n->log, 'b', weft_check());
    atomic_store(&n->over, 1);
    return 0;
}

static int late_child(void *arg)
{
    struct nest *n = arg;
    bool over = wait_for(&n->over, 1);
    add(n->log, '2', over ? weft_sleep(weft_us(100)) : -ETIMEDOUT);
    return n->rc;
}

static int nests(void *arg)
{
    struct nest *n = arg;
    weft_gen *g;
    EXPECT(weft_defer(notes_b, n, LIMIT) == 0);
    EXPECT(weft_gen_create(&g, body, &n->gen, 0, NULL) == 0);
    EXPECT(weft_gen_next(g, NULL, 0) == 1);
    if (weft_task_self() != 0)
        weft_spawn(n->ends, late_child, n);
    add(n->log, 'n', 0);
    EXPECT(weft_sleep(weft_us(10)) == 0);
    return 0;
}

static int has_nests(void *arg)
{
    struct log *l = arg;
    weft_scope s;
    struct nest n = { .log = l, .ends = &s, .gen = { .log = l, .letter = 'G' } };
    struct note a = { .log = l, .letter = 'a' };
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(weft_defer(cleanup, &a, LIMIT) == 0);
    EXPECT(weft_defer(nests, &n, LIMIT) == 0);
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(strcmp(l->order, weft_task_self() != 0 ? "nGb2a" : "nGba") == 0);
    if (weft_task_self() == 0)
        return 0;
    /* A child that fails there is a child that fails. */
    n.rc = -EPROTO;
    atomic_store(&n.over, 0);
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(weft_defer(cleanup, &a, LIMIT) == 0);
    EXPECT(weft_defer(nests, &n, LIMIT) == 0);
    EXPECT(weft_scope_end(&s, 0) == -EPROTO);
    EXPECT(strcmp(l->order, "nGb2anGb2a") == 0);
    return 0;
}

START_TEST(what_a_deferred_call_defers_comes_at_its_end_and_what_it_spawns_is_awaited)
{
    struct log l = { .n = 0 };
    run_at(_i, has_nests, &l);
    for (int i = 0; i < l.n; i++)
        ck_assert_int_eq(l.rc[i], l.order[i] == 'G' ? -ECANCELED : 0);
}
END_TEST

/* ---- tasks and generators */

struct without_scope {
    struct log log;
    struct note all[3];
    int rc; /* the function's own */
};

static int without_a_scope(void *arg)
{
    struct without_scope *w = arg;
    EXPECT(defer_all(w->all, 3) == 0);
    int rc = w->rc == -ECANCELED ? weft_sleep(LIMIT) : w->rc;
    add(&w->log, '.', 0);
    return rc;
}

static void prepare(struct without_scope *w, int rc, int failure)
{
    *w = (struct without_scope){ .rc = rc };
    for (int i = 0; i < 3; i++)
        w->all[i] = (struct note){ .log = &w->log, .letter = (char)('a' + i), .takes = weft_us(10) * (i % 2) };
    w->all[1].result = failure;
    w->all[1].text = "in the task";
}

static int spawns_it(void *arg)
{
    struct without_scope w;
    (void)arg;
    static const int own[] = { 0, -EIO, 0, -ECANCELED, -ECANCELED }, cleanups[] = { 0, -ENOSPC, -ENOSPC, 0, -ENOSPC },
                     result[] = { 0, -EIO, -ENOSPC, 0, 0 };
    for (int i = 0; i < COUNT(own); i++) {
        weft_scope s;
        prepare(&w, own[i], cleanups[i]);
        weft_scope_begin(&s, WEFT_NEVER);
        weft_task t = weft_spawn(&s, without_a_scope, &w);
        if (own[i] == -ECANCELED)
            weft_task_cancel(t, "test");
        else if (i % 2)
            EXPECT(weft_yield() == 0 || own[i] < 0); /* or it is run as a call */
        int rc = weft_scope_end(&s, 0);
        EXPECT(rc == result[i]);
        EXPECT(strcmp(w.log.order, ".cba") == 0);
        EXPECT(rc != -ENOSPC || strcmp(weft_error_text(rc), "in the task") == 0);
        for (int j = 0; j < 4; j++)
            EXPECT(w.log.rc[j] == 0);
    }
    return 0;
}

START_TEST(without_a_scope_they_are_made_when_the_task_ends)
{
    run_at(_i, spawns_it, NULL);
    ck_assert_int_eq(atomic_load(&told.n), 2);
}
END_TEST

static int generates(weft_gen *g, void *arg)
{
    struct without_scope *w = arg;
    EXPECT(defer_all(w->all, 3) == 0);
    int rc = weft_gen_yield(g, NULL, 0);
    add(&w->log, '.', rc);
    return w->rc;
}

static int uses_generator(void *arg)
{
    struct without_scope w;
    weft_gen *g;
    weft_scope s;
    (void)arg;
    prepare(&w, 0, 0);
    EXPECT(weft_gen_create(&g, generates, &w, 0, NULL) == 0);
    EXPECT(weft_gen_next(g, NULL, 0) == 1);
    EXPECT(weft_gen_next(g, NULL, 0) == 0);
    EXPECT(strcmp(w.log.order, ".cba") == 0);
    weft_gen_destroy(&g);
    prepare(&w, 0, -ENOSPC); /* and its failure is how the body went */
    EXPECT(weft_gen_create(&g, generates, &w, 0, NULL) == 0);
    EXPECT(weft_gen_next(g, NULL, 0) == 1);
    EXPECT(weft_gen_next(g, NULL, 0) == -ENOSPC);
    EXPECT(strcmp(weft_error_text(-ENOSPC), "in the task") == 0);
    weft_gen_destroy(&g);
    /* Closed by a scope that was told to leave. */
    prepare(&w, -ECANCELED, 0);
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(weft_gen_create(&g, generates, &w, 0, NULL) == 0);
    EXPECT(weft_gen_next(g, NULL, 0) == 1);
    weft_scope_cancel(&s, "test");
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(strcmp(w.log.order, ".cba") == 0 && w.log.rc[0] == -ECANCELED && w.log.rc[2] == 0);
    return 0;
}

START_TEST(in_a_generator_they_are_made_when_its_body_ends)
{
    run_at(_i, uses_generator, NULL);
    ck_assert_int_eq(atomic_load(&told.n), 0);
}
END_TEST

/* ---- what is refused */

static int dropped_rc;
static void drop_value(void *value)
{
    (void)value;
    dropped_rc = weft_defer(fails, NULL, 0);
}
static weft_local key = { .drop = drop_value };

static int bad_calls(void *arg)
{
    weft_scope s;
    EXPECT(weft_defer(NULL, arg, LIMIT) == -EINVAL);
    if (weft_task_self() == 0)
        EXPECT(weft_defer(cleanup, arg, LIMIT) == -EINVAL);
    weft_scope_begin(&s, WEFT_NEVER);
    EXPECT(weft_defer(NULL, arg, LIMIT) == -EINVAL);
    EXPECT(weft_scope_end(&s, 0) == 0);
    if (weft_task_self() == 0)
        return 0;
    dropped_rc = 1;
    return weft_local_set(&key, &s);
}

static int on_the_pool(void *arg)
{
    (void)arg;
    return weft_defer(fails, NULL, 0); /* a plain thread without a scope */
}

static int calls_pool(void *arg)
{
    (void)arg;
    EXPECT(weft_blocking(on_the_pool, NULL) == -EINVAL);
    return 0;
}

START_TEST(where_nothing_ends_nothing_is_deferred)
{
    run_at(_i, bad_calls, NULL);
    if (_i > 0)
        ck_assert_int_eq(dropped_rc, -EINVAL);
    if (_i > 0)
        run_at(_i, calls_pool, NULL);
}
END_TEST

static int without_memory(void *arg)
{
    struct log *l = arg;
    struct note n = { .log = l, .letter = 'a' };
    for (int nth = 1;; nth++) {
        weft_scope s;
        l->n = 0;
        weft_scope_begin(&s, WEFT_NEVER);
        weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
        int rc = weft_defer(cleanup, &n, LIMIT);
        bool failed = weft__fault_failed(WEFT__FAULT_ALLOC) > 0;
        weft__fault_clear();
        EXPECT(rc == (failed ? -ENOMEM : 0));
        EXPECT(weft_scope_end(&s, 2) == 2);
        EXPECT(l->n == !failed);
        if (!failed)
            return nth > 2 ? 0 : -EPROTO; /* what the scope keeps, and the call */
    }
}

START_TEST(without_memory_it_says_so_and_nothing_is_called)
{
    struct log l = { .n = 0 };
    run_at(_i, without_memory, &l);
}
END_TEST

/* A deferred call that leaves a scope open has forgotten its end. */
static int forgets(void *arg)
{
    (void)arg;
    static weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    return 0;
}

static int defers_forgetful(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_ignore(weft_defer(forgets, arg, LIMIT));
    return weft_scope_end(&s, 0);
}

START_TEST(one_that_leaves_a_scope_open_aborts)
{
    weft_ignore(freopen("/dev/null", "w", stderr) ? 0 : 1);
    weft_ignore(weft_run(defers_forgetful, NULL, ON(1)));
}
END_TEST

/* ---- many */

static int counts_down(void *arg)
{
    atomic_int *left = arg;
    weft_ignore(weft_yield());
    atomic_fetch_sub(left, 1);
    return 0;
}

static int defers_some(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++) {
        atomic_fetch_add((atomic_int *)arg, 1);
        EXPECT(weft_defer(counts_down, arg, LIMIT) == 0);
    }
    int rc = weft_sleep(weft_us(100));
    return weft_scope_end(&s, rc);
}

static int crowd(void *arg)
{
    atomic_int left = 0;
    (void)arg;
    for (int round = 0; round < SCALED(200, 50, 20); round++) {
        weft_scope s;
        weft_scope_begin(&s, weft_us(20 * (round % 10)));
        for (int i = 0; i < 20; i++)
            weft_spawn(&s, defers_some, &left);
        int rc = weft_scope_end(&s, 0);
        EXPECT(rc == 0 || rc == -ETIMEDOUT);
        EXPECT(atomic_load(&left) == 0);
    }
    return 0;
}

START_TEST(in_a_crowd_that_is_told_to_leave_each_is_made_once)
{
    run_at(_i, crowd, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("defer");
    TCase *everywhere = add_case(s, "everywhere"), *tasks = add_case(s, "tasks"), *own = add_case(s, "own process");
    tcase_add_loop_test(everywhere, deferred_calls_are_made_on_every_way_out_newest_first_and_may_wait, 0, PLACES);
    tcase_add_loop_test(everywhere, they_come_after_the_children_in_turn_with_generators, 0, PLACES);
    tcase_add_loop_test(tasks, each_is_bounded_by_a_grace_of_its_own, 1, PLACES);
    tcase_add_loop_test(tasks, a_hard_cancel_breaks_it, 1, PLACES);
    tcase_add_loop_test(everywhere, a_failure_is_the_result_unless_there_was_one_before, 0, PLACES);
    tcase_add_loop_test(tasks, a_failure_in_a_block_that_is_left_is_reported, 1, PLACES);
    tcase_add_loop_test(tasks, a_childs_failure_counts_before_and_a_policys_success_does_not, 1, PLACES);
    tcase_add_loop_test(everywhere, what_a_deferred_call_defers_comes_at_its_end_and_what_it_spawns_is_awaited, 0, PLACES);
    tcase_add_loop_test(tasks, without_a_scope_they_are_made_when_the_task_ends, 1, PLACES);
    tcase_add_loop_test(everywhere, in_a_generator_they_are_made_when_its_body_ends, 0, PLACES);
    tcase_add_loop_test(everywhere, where_nothing_ends_nothing_is_deferred, 0, PLACES);
    tcase_add_loop_test(everywhere, without_memory_it_says_so_and_nothing_is_called, 0, PLACES);
    tcase_add_loop_test(tasks, in_a_crowd_that_is_told_to_leave_each_is_made_once, 1, PLACES);
    if (forking())
        tcase_add_test_raise_signal(own, one_that_leaves_a_scope_open_aborts, SIGABRT);
    return run_suite(s);
}
