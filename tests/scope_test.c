/* scope_test.c - lifetimes, failures, cancellation and deadlines: coord/scope.c seen from outside.
 */
#include "support.h"

static const int worker_counts[] = { 1, 2, 3, 8 };

static void keep_reason(char *out, size_t bytes)
{
    const char *reason = weft_cancel_reason();
    snprintf(out, bytes, "%s", reason ? reason : "(none)");
}

/* -- the verdict of weft_scope_end -- */

enum child {
    NO_CHILD,
    ENDS_WELL,
    FAILS,
    LEAVES,
    FINISHES_ALL_THE_SAME,
    FAILS_WHEN_TOLD,
    BAD_SPAWN
};
enum cause { OWN_CANCEL = 1, OUTER_CANCEL = 2, DEADLINE = 4, OUTER_DEADLINE = 8, TASK_CANCEL = 16 };
enum { LEFT = -10000 }; /* the body returns what weft_check() says */

struct verdict {
    int body;
    enum child child;
    int causes;
    int end;       /* of the scope */
    int outer_end; /* of the scope around it, which is ended with that */
    int failed;
};

/* clang-format off */
static const struct verdict verdicts[] = {
    /* body    child                  causes, after the child's own end   end          outer end  failed */
    /* nothing happens: the body's own result */
    { 0,       NO_CHILD,              0,                          0,           0,           0 },
    { 7,       NO_CHILD,              0,                          7,           7,           0 },
    { 7,       ENDS_WELL,             0,                          7,           7,           0 },
    { -EIO,    NO_CHILD,              0,                          -EIO,        -EIO,        0 },
    { -EIO,    ENDS_WELL,             0,                          -EIO,        -EIO,        0 },
    { -EIO,    LEAVES,                0,                          -EIO,        -EIO,        0 },
    /* the first failure, of what nothing had told to leave */
    { 0,       FAILS,                 0,                          -EPIPE,      -EPIPE,      1 },
    { 7,       FAILS,                 0,                          -EPIPE,      -EPIPE,      1 },
    { -EIO,    FAILS,                 0,                          -EPIPE,      -EPIPE,      1 },
    { LEFT,    FAILS,                 0,                          -EPIPE,      -EPIPE,      1 },
    { 7,       FAILS,                 DEADLINE,                   -EPIPE,      -EPIPE,      1 },
    { LEFT,    FAILS,                 DEADLINE,                   -EPIPE,      -EPIPE,      1 },
    { 7,       FAILS,                 OWN_CANCEL,                 -EPIPE,      -EPIPE,      1 },
    { LEFT,    FAILS,                 OUTER_CANCEL,               -EPIPE,      0,           1 },
    { LEFT,    FAILS,                 OUTER_DEADLINE,             -EPIPE,      -ETIMEDOUT,  1 },
    { -EIO,    FAILS_WHEN_TOLD,       0,                          -EIO,        -EIO,        1 },
    /* its own deadline */
    { 0,       NO_CHILD,              DEADLINE,                   0,           0,           0 },
    { 7,       NO_CHILD,              DEADLINE,                   7,           7,           0 },
    { 7,       ENDS_WELL,             DEADLINE,                   7,           7,           0 },
    { 7,       FINISHES_ALL_THE_SAME, DEADLINE,                   7,           7,           0 },
    { LEFT,    NO_CHILD,              DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  0 },
    { LEFT,    LEAVES,                DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  0 },
    { LEFT,    FINISHES_ALL_THE_SAME, DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  0 },
    { 7,       LEAVES,                DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  0 },
    { 7,       FAILS_WHEN_TOLD,       DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  1 },
    { LEFT,    FAILS_WHEN_TOLD,       DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  1 },
    { -EIO,    NO_CHILD,              DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  0 },
    { -EIO,    LEAVES,                DEADLINE,                   -ETIMEDOUT,  -ETIMEDOUT,  0 },
    /* its own cancel */
    { 7,       NO_CHILD,              OWN_CANCEL,                 7,           7,           0 },
    { 7,       FINISHES_ALL_THE_SAME, OWN_CANCEL,                 7,           7,           0 },
    { LEFT,    NO_CHILD,              OWN_CANCEL,                 0,           0,           0 },
    { LEFT,    LEAVES,                OWN_CANCEL,                 0,           0,           0 },
    { 7,       LEAVES,                OWN_CANCEL,                 0,           0,           0 },
    { 7,       FAILS_WHEN_TOLD,       OWN_CANCEL,                 0,           0,           1 },
    { -EIO,    LEAVES,                OWN_CANCEL,                 0,           0,           0 },
    /* from further out */
    { 7,       NO_CHILD,              OUTER_CANCEL,               7,           7,           0 },
    { 7,       FINISHES_ALL_THE_SAME, OUTER_CANCEL,               7,           7,           0 },
    { LEFT,    NO_CHILD,              OUTER_CANCEL,               -ECANCELED,  0,           0 },
    { LEFT,    LEAVES,                OUTER_CANCEL,               -ECANCELED,  0,           0 },
    { 7,       LEAVES,                OUTER_CANCEL,               -ECANCELED,  0,           0 },
    { 7,       FAILS_WHEN_TOLD,       OUTER_CANCEL,               -ECANCELED,  0,           1 },
    { -EIO,    NO_CHILD,              OUTER_CANCEL,               -ECANCELED,  0,           0 },
    { 7,       NO_CHILD,              OUTER_DEADLINE,             7,           7,           0 },
    { LEFT,    NO_CHILD,              OUTER_DEADLINE,             -ECANCELED,  -ETIMEDOUT,  0 },
    { 7,       LEAVES,                OUTER_DEADLINE,             -ECANCELED,  -ETIMEDOUT,  0 },
    { 7,       FAILS_WHEN_TOLD,       OUTER_DEADLINE,             -ECANCELED,  -ETIMEDOUT,  1 },
    /* several at once: further out comes first, then the deadline */
    { LEFT,    NO_CHILD,              OUTER_CANCEL | DEADLINE,    -ECANCELED,  0,           0 },
    { 7,       LEAVES,                OUTER_CANCEL | DEADLINE,    -ECANCELED,  0,           0 },
    { LEFT,    NO_CHILD,              OUTER_CANCEL | OWN_CANCEL,  -ECANCELED,  0,           0 },
    { LEFT,    NO_CHILD,              DEADLINE | OWN_CANCEL,      -ETIMEDOUT,  -ETIMEDOUT,  0 },
    { LEFT,    NO_CHILD,              OUTER_DEADLINE | DEADLINE,  -ECANCELED,  -ETIMEDOUT,  0 },
    { 7,       NO_CHILD,              DEADLINE | OWN_CANCEL | OUTER_CANCEL, 7, 7,           0 },
    /* a child cancelled alone leaves alone */
    { 7,       LEAVES,                TASK_CANCEL,                7,           7,           0 },
    { 7,       FINISHES_ALL_THE_SAME, TASK_CANCEL,                7,           7,           0 },
    { 7,       FAILS_WHEN_TOLD,       TASK_CANCEL,                -EPIPE,      -EPIPE,      1 },
    /* a failed spawn */
    { 7,       BAD_SPAWN,             0,                          -EINVAL,     -EINVAL,     -1 },
    { LEFT,    BAD_SPAWN,             0,                          -EINVAL,     -EINVAL,     -1 },
    { -EIO,    BAD_SPAWN,             0,                          -EINVAL,     -EINVAL,     -1 },
    { LEFT,    BAD_SPAWN,             OUTER_CANCEL,               -EINVAL,     0,           -1 },
};
/* clang-format on */

struct verdict_seen {
    const struct verdict *v;
    atomic_int started, told;
    int end, outer_end, failed, alive;
    bool expired, outer_expired, waited;
};

static int act(void *arg)
{
    struct verdict_seen *p = arg;
    atomic_store(&p->started, 1);
    switch (p->v->child) {
    case FAILS:
        return -EPIPE;
    case LEAVES:
        return weft_sleep_until(WEFT_NEVER);
    case FINISHES_ALL_THE_SAME:
        return weft_sleep_until(WEFT_NEVER) == -ECANCELED ? 0 : -EPROTO;
    case FAILS_WHEN_TOLD:
        return weft_sleep_until(WEFT_NEVER) == -ECANCELED ? -EPIPE : -EPROTO;
    case NO_CHILD:
    case ENDS_WELL:
    case BAD_SPAWN:
        break;
    }
    return 3;
}

static int reach_verdict(void *arg)
{
    struct verdict_seen *p = arg;
    const struct verdict *v = p->v;
    weft_scope outer, s;
    weft_task t = 0;
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&s, WEFT_NEVER);
    if (v->child == BAD_SPAWN)
        weft_spawn(&s, NULL, NULL);
    else if (v->child != NO_CHILD)
        t = weft_spawn(&s, act, p);
    p->waited = t <= 0 || wait_for(&p->started, 1);
    if (v->child == ENDS_WELL || v->child == FAILS)
        for (int64_t end = weft_after(LIMIT); weft_task_alive(t) && weft_now() < end;)
            weft_ignore(weft_yield());
    int64_t now = weft_now();
    if (v->causes & OUTER_DEADLINE)
        weft_scope_set_deadline(&outer, now);
    if (v->causes & DEADLINE)
        weft_scope_set_deadline(&s, now);
    wait_past(now);
    weft_ignore(weft_check());
    if (v->causes & OWN_CANCEL)
        weft_scope_cancel(&s, "own");
    if (v->causes & OUTER_CANCEL)
        weft_scope_cancel(&outer, "outer");
    if (v->causes & TASK_CANCEL)
        weft_ignore(weft_task_cancel(t, "alone"));
    p->end = weft_scope_end(&s, v->body == LEFT ? weft_check() : v->body);
    p->failed = weft_scope_failed(&s);
    p->expired = weft_scope_expired(&s);
    p->alive = t > 0 && weft_task_alive(t);
    p->outer_end = weft_scope_end(&outer, p->end);
    p->outer_expired = weft_scope_expired(&outer);
    return 0;
}

START_TEST(a_scope_ends_with_the_documented_verdict)
{
    const struct verdict *v = &verdicts[_i];
    for (int workers = 1; workers <= 3; workers++) {
        struct verdict_seen p = { .v = v };
        ck_assert_int_eq(weft_run(reach_verdict, &p, ON(workers)), 0);
        ck_assert(p.waited);
        ck_assert_msg(p.end == v->end, "row %d, %d workers: %s, expected %s", _i, workers,
                weft_strerror(p.end), weft_strerror(v->end));
        ck_assert_msg(p.outer_end == v->outer_end, "row %d, %d workers, outer: %s, expected %s", _i,
                workers, weft_strerror(p.outer_end), weft_strerror(v->outer_end));
        ck_assert(p.expired == !!(v->causes & DEADLINE));
        ck_assert(p.outer_expired == !!(v->causes & OUTER_DEADLINE));
        if (v->failed >= 0)
            ck_assert_int_eq(p.failed, v->failed);
        ck_assert(!p.alive);
    }
}
END_TEST

/* -- failures -- */

struct siblings {
    atomic_int parked, told;
    int body, end, check_after;
    char body_reason[40], child_reason[40];
};

static int park(void *arg)
{
    struct siblings *p = arg;
    atomic_fetch_add(&p->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    if (rc == -ECANCELED) {
        if (atomic_fetch_add(&p->told, 1) == 0)
            keep_reason(p->child_reason, sizeof p->child_reason);
    }
    return rc;
}

static int fail_when_all_are_parked(void *arg)
{
    struct siblings *p = arg;
    return wait_for(&p->parked, 50) ? -EPROTO : -ETIME;
}

static int one_of_many_fails(void *arg)
{
    struct siblings *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 50; i++)
        weft_spawn(&s, park, p);
    weft_spawn(&s, fail_when_all_are_parked, p);
    p->body = weft_sleep_until(WEFT_NEVER);
    keep_reason(p->body_reason, sizeof p->body_reason);
    p->end = weft_scope_end(&s, p->body);
    p->check_after = weft_check();
    return 0;
}

START_TEST(the_first_failure_cancels_the_siblings_and_the_body)
{
    struct siblings p = { 0 };
    ck_assert_int_eq(weft_run(one_of_many_fails, &p, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(p.body, -ECANCELED);
    ck_assert_int_eq(atomic_load(&p.told), 50);
    ck_assert_int_eq(p.end, -EPROTO);
    ck_assert_int_eq(p.check_after, 0);
    ck_assert_str_eq(p.body_reason, "a sibling failed");
    ck_assert_str_eq(p.child_reason, "a sibling failed");
}
END_TEST

struct failures {
    weft_failure kept[4];
    weft_task ids[7];
    int numbers[7];
    atomic_int parked;
    int end, failed, failed_after;
    char text[128], other_text[128];
};

static struct failures *failures;

static int fail_with_text(void *arg)
{
    int i = *(const int *)arg;
    if (i == 0) {
        if (!wait_for(&failures->parked, 6))
            return -ETIME;
        return weft_fail(-EIO, "number %d broke", i);
    }
    atomic_fetch_add(&failures->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    return rc == -ECANCELED ? weft_fail(-EPIPE, "number %d was told", i) : -EPROTO;
}

static int collect_failures(void *arg)
{
    struct failures *f = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER,
            &(weft_scope_options){
                    .name = "kept", .failures = f->kept, .failures_max = COUNT(f->kept) });
    for (int i = 0; i < COUNT(f->ids); i++) {
        f->numbers[i] = i;
        f->ids[i] = weft_spawn(&s, fail_with_text, &f->numbers[i]);
    }
    f->end = weft_scope_end(&s, 0);
    f->failed_after = weft_scope_failed(&s);
    snprintf(f->text, sizeof f->text, "%s", weft_error_text(-EIO));
    snprintf(f->other_text, sizeof f->other_text, "%s", weft_error_text(-EPIPE));
    return 0;
}

START_TEST(all_failures_are_kept_as_far_as_there_is_room)
{
    static struct failures f;
    memset(&f, 0, sizeof f);
    failures = &f;
    ck_assert_int_eq(weft_run(collect_failures, &f, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(f.end, -EIO);
    ck_assert_int_eq(f.failed_after, 7);
    ck_assert_str_eq(f.text, "number 0 broke");
    ck_assert_str_eq(f.other_text, weft_strerror(-EPIPE)); /* no stale text for another code */
    ck_assert_int_eq(f.kept[0].code, -EIO);
    ck_assert_int_eq(f.kept[0].task, f.ids[0]);
    ck_assert_ptr_eq(f.kept[0].arg, &f.numbers[0]);
    ck_assert_str_eq(f.kept[0].text, "number 0 broke");
    for (int k = 1; k < COUNT(f.kept); k++) {
        const weft_failure *one = &f.kept[k];
        ptrdiff_t i = (int *)one->arg - f.numbers;
        ck_assert_int_eq(one->code, -EPIPE);
        ck_assert(i > 0 && i < COUNT(f.numbers));
        ck_assert_int_eq(one->task, f.ids[i]);
        char text[40];
        snprintf(text, sizeof text, "number %d was told", (int)i);
        ck_assert_str_eq(one->text, text);
        for (int j = 0; j < k; j++)
            ck_assert_int_ne(one->task, f.kept[j].task);
    }
}
END_TEST

static int fail_without_text(void *arg)
{
    (void)arg;
    return -ENOTDIR;
}

static int fail_plainly(void *arg)
{
    weft_failure *kept = arg;
    weft_scope s;
    weft_scope_begin_with(
            &s, WEFT_NEVER, &(weft_scope_options){ .failures = kept, .failures_max = 2 });
    weft_spawn(&s, fail_without_text, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(a_failure_without_a_text_is_kept_with_a_terminated_one)
{
    weft_failure kept[2];
    memset(kept, 'x', sizeof kept);
    ck_assert_int_eq(weft_run(fail_plainly, kept, ON(1)), -ENOTDIR);
    ck_assert_int_eq(kept[0].code, -ENOTDIR);
    ck_assert_ptr_nonnull(memchr(kept[0].text, 0, sizeof kept[0].text));
    ck_assert_int_eq(kept[1].text[0], 'x'); /* the next one is untouched */
}
END_TEST

struct bad_scope {
    const char *why;
    weft_scope_options o;
};

static const struct bad_scope bad_scopes[] = {
    { "reserved 0", { .reserved = { 1 } } },
    { "reserved 7", { .reserved = { 0, 0, 0, 0, 0, 0, 0, 1 } } },
    { "less than no room", { .failures_max = -1 } },
};

struct bad_scope_seen {
    const struct bad_scope *bad;
    atomic_int ran;
    weft_task t;
    int end, check_after;
};

static int count_run(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return 0;
}

static int use_bad_scope(void *arg)
{
    struct bad_scope_seen *b = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &b->bad->o);
    b->t = weft_spawn(&s, count_run, &b->ran);
    b->end = weft_scope_end(&s, 5);
    b->check_after = weft_check();
    return 0;
}

START_TEST(bad_options_fail_the_scope)
{
    struct bad_scope_seen b = { .bad = &bad_scopes[_i] };
    ck_assert_int_eq(weft_run(use_bad_scope, &b, ON(1)), 0);
    ck_assert_msg(b.end == -EINVAL, "%s: %d", b.bad->why, b.end);
    ck_assert_int_eq(b.check_after, 0);
    ck_assert_int_eq(atomic_load(&b.ran), b.t > 0);
}
END_TEST

static int begin_plainly(void *arg)
{
    int *rc = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, NULL);
    rc[0] = weft_scope_end(&s, 3);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ 0 });
    rc[1] = weft_scope_end(&s, 4);
    weft_failure none;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .failures = &none });
    rc[2] = weft_scope_end(&s, 5);
    return 0;
}

START_TEST(null_and_zeroed_options_are_the_plain_begin)
{
    int rc[3];
    ck_assert_int_eq(weft_run(begin_plainly, rc, ON(1)), 0);
    ck_assert_int_eq(rc[0], 3);
    ck_assert_int_eq(rc[1], 4);
    ck_assert_int_eq(rc[2], 5);
}
END_TEST

/* -- lifetimes -- */

struct lifetime {
    atomic_int ended, open;
    int at_end, more;
    int wait[3], ended_at_wait[3], alive[4];
};

static int end_late(void *arg)
{
    struct lifetime *l = arg;
    for (int i = 0; i < 10; i++)
        weft_ignore(weft_yield());
    weft_ignore(weft_sleep(weft_us(200)));
    atomic_fetch_add(&l->ended, 1);
    return 0;
}

static int spawn_late_ones(void *arg)
{
    struct lifetime *l = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 20; i++)
        weft_spawn(&s, end_late, l);
    int rc = weft_scope_end(&s, 0);
    l->at_end = atomic_load(&l->ended);
    return rc;
}

START_TEST(a_scope_does_not_end_before_its_children)
{
    struct lifetime l = { 0 };
    ck_assert_int_eq(weft_run(spawn_late_ones, &l, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(l.at_end, 20);
}
END_TEST

struct growing {
    weft_scope *s;
    int levels;
    atomic_int *ended;
};

static int spawn_more(void *arg)
{
    struct growing g = *(struct growing *)arg;
    int rc = g.levels % 2 ? weft_yield() : 0;
    if (g.levels > 0) {
        g.levels--;
        weft_spawn_copy(g.s, spawn_more, &g, sizeof g);
        weft_spawn_copy(g.s, spawn_more, &g, sizeof g);
    }
    atomic_fetch_add(g.ended, 1);
    return rc;
}

static int grow(void *arg)
{
    struct lifetime *l = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    struct growing g = { &s, 8, &l->ended };
    weft_spawn(&s, spawn_more, &g);
    int rc = weft_scope_end(&s, 0);
    l->at_end = atomic_load(&l->ended);
    return rc;
}

START_TEST(children_may_add_children_to_a_scope_that_is_ending)
{
    struct lifetime l = { 0 };
    ck_assert_int_eq(weft_run(grow, &l, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(l.at_end, 511);
}
END_TEST

static int wait_open(void *arg)
{
    struct lifetime *l = arg;
    bool open = wait_for(&l->open, 1);
    atomic_fetch_add(&l->ended, 1);
    return open ? 0 : -ETIME;
}

static int wait_thrice(void *arg)
{
    struct lifetime *l = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    l->wait[0] = weft_scope_wait(&s);
    for (int i = 0; i < 5; i++)
        weft_spawn(&s, end_late, l);
    l->alive[0] = weft_scope_alive(&s);
    l->wait[1] = weft_scope_wait(&s);
    l->ended_at_wait[1] = atomic_load(&l->ended);
    l->alive[1] = weft_scope_alive(&s);
    for (int i = 0; i < 7; i++)
        weft_spawn(&s, wait_open, l);
    l->alive[2] = weft_scope_alive(&s);
    atomic_store(&l->open, 1);
    l->wait[2] = weft_scope_wait(&s);
    l->ended_at_wait[2] = atomic_load(&l->ended);
    l->alive[3] = weft_scope_alive(&s);
    return weft_scope_end(&s, 0);
}

START_TEST(a_scope_can_be_waited_for_and_used_again)
{
    struct lifetime l = { 0 };
    ck_assert_int_eq(weft_run(wait_thrice, &l, ON(worker_counts[_i])), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(l.wait[i], 0);
    ck_assert_int_eq(l.ended_at_wait[1], 5);
    ck_assert_int_eq(l.ended_at_wait[2], 12);
    ck_assert_int_ge(l.alive[0], 0);
    ck_assert_int_le(l.alive[0], 5);
    ck_assert_int_eq(l.alive[1], 0);
    ck_assert_int_eq(l.alive[2], 7);
    ck_assert_int_eq(l.alive[3], 0);
}
END_TEST

struct foreign_wait {
    weft_scope *s;
    int outer_while_inner, by_child, unbegun, null;
};

static int wait_for_parents_scope(void *arg)
{
    struct foreign_wait *w = arg;
    w->by_child = weft_scope_wait(w->s);
    return 0;
}

static int wait_wrongly(void *arg)
{
    struct foreign_wait *w = arg;
    weft_scope outer, inner, unbegun = { { 0 } };
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&inner, WEFT_NEVER);
    w->s = &outer;
    w->outer_while_inner = weft_scope_wait(&outer);
    w->unbegun = weft_scope_wait(&unbegun);
    w->null = weft_scope_wait(NULL);
    weft_spawn(&inner, wait_for_parents_scope, w);
    int rc = weft_scope_end(&inner, 0);
    return weft_scope_end(&outer, rc);
}

START_TEST(waiting_for_a_scope_that_is_not_ones_innermost_is_refused)
{
    struct foreign_wait w = { 0 };
    ck_assert_int_eq(weft_run(wait_wrongly, &w, ON(2)), 0);
    ck_assert_int_eq(w.outer_while_inner, -EINVAL);
    ck_assert_int_eq(w.by_child, -EINVAL);
    ck_assert_int_eq(w.unbegun, -EINVAL);
    ck_assert_int_eq(w.null, -EINVAL);
}
END_TEST

static int spawn_too_late(void *arg)
{
    weft_task *t = arg;
    atomic_int ran = 0;
    weft_scope s, zeroed, garbage;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_ignore(weft_scope_end(&s, 0));
    t[0] = weft_spawn(&s, count_run, &ran);
    t[1] = weft_spawn_copy(&s, count_run, &ran, sizeof ran);
    t[2] = weft_spawn_with(&s, count_run, &ran, NULL);
    memset(&zeroed, 0, sizeof zeroed);
    t[3] = weft_spawn(&zeroed, count_run, &ran);
    memset(&garbage, 0xa5, sizeof garbage);
    t[4] = weft_spawn(&garbage, count_run, &ran);
    t[5] = atomic_load(&ran);
    return 0;
}

START_TEST(spawning_into_a_scope_that_is_not_open_is_refused)
{
    weft_task t[6];
    ck_assert_int_eq(weft_run(spawn_too_late, t, ON(1)), 0);
    for (int i = 0; i < 5; i++)
        ck_assert_msg(t[i] == -EINVAL, "case %d: %lld", i, (long long)t[i]);
    ck_assert_int_eq(t[5], 0);
}
END_TEST

struct odd_ends {
    weft_scope *s;
    int twice, zeroed, by_child, end;
};

static int end_parents_scope(void *arg)
{
    struct odd_ends *o = arg;
    o->by_child = weft_scope_end(o->s, 0);
    return 0;
}

static int end_oddly(void *arg)
{
    struct odd_ends *o = arg;
    weft_scope s, zeroed = { { 0 } };
    o->zeroed = weft_scope_end(&zeroed, 0);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_ignore(weft_scope_end(&s, 3));
    o->twice = weft_scope_end(&s, 3);
    weft_scope_begin(&s, WEFT_NEVER);
    o->s = &s;
    weft_spawn(&s, end_parents_scope, o);
    o->end = weft_scope_end(&s, 4);
    return 0;
}

START_TEST(ending_a_scope_that_is_not_open_or_anothers_is_refused)
{
    struct odd_ends o = { .end = 0 };
    ck_assert_int_eq(weft_run(end_oddly, &o, ON(1 + _i)), 0);
    ck_assert_int_eq(o.zeroed, -EINVAL);
    ck_assert_int_eq(o.twice, -EINVAL);
    ck_assert_int_eq(o.by_child, -EINVAL);
    ck_assert_int_eq(o.end, 4);
}
END_TEST

/* A cancel of a scope that is not open does nothing, nor does it to the next one in that place. */
static int cancel_oddly(void *arg)
{
    int *seen = arg;
    weft_scope s = { { 0 } };
    weft_scope_cancel(&s, "before");
    weft_scope_begin(&s, WEFT_NEVER);
    seen[0] = weft_check();
    seen[1] = weft_scope_end(&s, 0);
    weft_scope_cancel(&s, "after");
    weft_scope_cancel(&s, "after that");
    seen[2] = weft_check();
    weft_scope_begin(&s, WEFT_NEVER);
    seen[3] = weft_yield();
    seen[4] = weft_scope_end(&s, seen[3]);
    return 0;
}

START_TEST(a_cancel_before_the_begin_or_after_the_end_is_none)
{
    int seen[5] = { 1, 1, 1, 1, 1 };
    ck_assert_int_eq(weft_run(cancel_oddly, seen, ON(1)), 0);
    for (int i = 0; i < COUNT(seen); i++)
        ck_assert_int_eq(seen[i], 0);
}
END_TEST

/* -- deadlines -- */

struct deadlines {
    int inner_body, inner_end, between, outer_body, outer_end, after;
    int64_t inner_at, outer_at, seen, seen_deep, before;
    bool inner_expired, outer_expired;
    char reason[40];
};

static int inner_strikes(void *arg)
{
    struct deadlines *d = arg;
    weft_scope outer, inner;
    weft_scope_begin(&outer, weft_sec(3600));
    weft_scope_begin(&inner, weft_ms(10));
    d->outer_at = weft_scope_deadline(&outer);
    d->inner_at = weft_scope_deadline(&inner);
    d->seen = weft_deadline();
    d->inner_body = weft_sleep(weft_sec(600));
    keep_reason(d->reason, sizeof d->reason);
    d->inner_end = weft_scope_end(&inner, d->inner_body);
    d->between = weft_check();
    d->outer_body = weft_sleep(weft_ms(1));
    d->outer_end = weft_scope_end(&outer, d->outer_body);
    d->inner_expired = weft_scope_expired(&inner);
    d->outer_expired = weft_scope_expired(&outer);
    return 0;
}

START_TEST(an_inner_deadline_ends_only_the_inner_scope)
{
    struct deadlines d = { 0 };
    int64_t start = weft_now();
    ck_assert_int_eq(weft_run(inner_strikes, &d, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(d.inner_body, -ECANCELED);
    ck_assert_int_eq(d.inner_end, -ETIMEDOUT);
    ck_assert_int_eq(d.between, 0);
    ck_assert_int_eq(d.outer_body, 0);
    ck_assert_int_eq(d.outer_end, 0);
    ck_assert(d.inner_expired && !d.outer_expired);
    ck_assert_int_eq(d.seen, d.inner_at);
    ck_assert_int_ge(d.inner_at, start + weft_ms(10));
    ck_assert_int_ge(d.outer_at, start + weft_sec(3600));
    ck_assert_str_eq(d.reason, "deadline");
}
END_TEST

static int deep_body(void *arg)
{
    struct deadlines *d = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(1800));
    d->seen_deep = weft_deadline();
    return weft_scope_end(&s, weft_sleep(weft_sec(600)));
}

static int outer_strikes(void *arg)
{
    struct deadlines *d = arg;
    weft_scope outer, inner;
    weft_scope_begin(&outer, weft_ms(10));
    weft_scope_begin(&inner, weft_sec(3600));
    d->outer_at = weft_scope_deadline(&outer);
    d->inner_at = weft_scope_deadline(&inner);
    d->seen = weft_deadline();
    weft_spawn(&inner, deep_body, d);
    d->inner_body = weft_sleep(weft_sec(600));
    d->inner_end = weft_scope_end(&inner, d->inner_body);
    d->between = weft_check();
    d->outer_body = weft_sleep(weft_ms(1));
    d->outer_end = weft_scope_end(&outer, d->outer_body);
    d->after = weft_check();
    d->inner_expired = weft_scope_expired(&inner);
    d->outer_expired = weft_scope_expired(&outer);
    return 0;
}

START_TEST(an_outer_deadline_passes_through_the_inner_scope)
{
    struct deadlines d = { 0 };
    ck_assert_int_eq(weft_run(outer_strikes, &d, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(d.inner_body, -ECANCELED);
    ck_assert_int_eq(d.inner_end, -ECANCELED);
    ck_assert_int_eq(d.between, -ECANCELED);
    ck_assert_int_eq(d.outer_body, -ECANCELED);
    ck_assert_int_eq(d.outer_end, -ETIMEDOUT);
    ck_assert_int_eq(d.after, 0);
    ck_assert(!d.inner_expired && d.outer_expired);
    ck_assert_int_eq(d.seen, d.outer_at);
    ck_assert_int_eq(d.seen_deep, d.outer_at);
}
END_TEST

static int both_strike(void *arg)
{
    struct deadlines *d = arg;
    weft_scope outer, inner;
    weft_scope_begin(&outer, weft_ms(5));
    weft_scope_begin(&inner, WEFT_NEVER);
    weft_scope_set_deadline(&inner, weft_scope_deadline(&outer));
    d->inner_body = weft_sleep(weft_sec(600));
    d->inner_end = weft_scope_end(&inner, d->inner_body);
    d->between = weft_check();
    d->outer_end = weft_scope_end(&outer, d->between);
    d->after = weft_check();
    d->outer_expired = weft_scope_expired(&outer);
    return 0;
}

START_TEST(two_deadlines_at_the_same_time_are_each_reported_by_their_own_scope)
{
    struct deadlines d = { 0 };
    ck_assert_int_eq(weft_run(both_strike, &d, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(d.inner_body, -ECANCELED);
    ck_assert_msg(d.inner_end == -ECANCELED || d.inner_end == -ETIMEDOUT, "%d", d.inner_end);
    ck_assert_int_eq(d.between, -ECANCELED);
    ck_assert_int_eq(d.outer_end, -ETIMEDOUT);
    ck_assert(d.outer_expired);
    ck_assert_int_eq(d.after, 0);
}
END_TEST

static const int64_t passed_spans[] = { 0, -1, -1000000000, INT64_MIN, 1 };

static int deadline_at_once(void *arg)
{
    struct deadlines *d = arg;
    weft_scope s;
    weft_scope_begin(&s, d->seen);
    wait_past(weft_now() + 1);
    d->between = weft_check();
    d->inner_body = weft_sleep(weft_sec(600));
    d->inner_end = weft_scope_end(&s, d->inner_body);
    d->inner_expired = weft_scope_expired(&s);
    weft_scope_begin(&s, d->seen);
    d->outer_end = weft_scope_end(&s, 4);
    d->after = weft_check();
    return 0;
}

START_TEST(a_deadline_of_zero_or_less_strikes_at_once)
{
    struct deadlines d = { .seen = passed_spans[_i] };
    ck_assert_int_eq(weft_run(deadline_at_once, &d, ON(2)), 0);
    ck_assert_int_eq(d.between, -ECANCELED);
    ck_assert_int_eq(d.inner_body, -ECANCELED);
    ck_assert_int_eq(d.inner_end, -ETIMEDOUT);
    ck_assert(d.inner_expired);
    ck_assert_int_eq(d.outer_end, 4); /* a body that finished keeps its result */
    ck_assert_int_eq(d.after, 0);
}
END_TEST

static const int64_t far_spans[] = { WEFT_NEVER, INT64_MAX - 1, INT64_MAX / 2,
    weft_sec(100000000) };

static int deadline_far_off(void *arg)
{
    struct deadlines *d = arg;
    weft_scope s;
    weft_scope_begin(&s, d->seen);
    d->inner_at = weft_scope_deadline(&s);
    d->inner_body = weft_sleep(weft_ms(1));
    d->inner_end = weft_scope_end(&s, d->inner_body);
    d->inner_expired = weft_scope_expired(&s);
    return 0;
}

START_TEST(a_deadline_far_off_never_strikes)
{
    struct deadlines d = { .seen = far_spans[_i] };
    int64_t now = weft_now();
    ck_assert_int_eq(weft_run(deadline_far_off, &d, ON(2)), 0);
    ck_assert_int_gt(d.inner_at, now);
    if (d.seen >= INT64_MAX - 1)
        ck_assert_int_eq(d.inner_at, WEFT_NEVER);
    ck_assert_int_eq(d.inner_body, 0);
    ck_assert_int_eq(d.inner_end, 0);
    ck_assert(!d.inner_expired);
}
END_TEST

/* A deadline moved while children are parked under it. */
struct moved {
    atomic_int parked;
    int child[3], end, check;
    int64_t at, ended;
    bool expired, too_slow;
};

static int park_simply(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static void spawn_parked(weft_scope *s, struct moved *m)
{
    for (int i = 0; i < COUNT(m->child); i++)
        weft_spawn_with(
                s, park_simply, &m->parked, &(weft_spawn_options){ .result = &m->child[i] });
    wait_for(&m->parked, COUNT(m->child));
}

static int move_earlier(void *arg)
{
    struct moved *m = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(3600));
    spawn_parked(&s, m);
    m->at = weft_after(weft_ms(5));
    weft_scope_set_deadline(&s, m->at);
    m->end = weft_scope_end(&s, 0);
    m->ended = weft_now();
    m->expired = weft_scope_expired(&s);
    return 0;
}

static int set_from_never(void *arg)
{
    struct moved *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    spawn_parked(&s, m);
    m->at = weft_after(weft_ms(5));
    weft_scope_set_deadline(&s, m->at);
    m->end = weft_scope_end(&s, 0);
    m->ended = weft_now();
    m->expired = weft_scope_expired(&s);
    return 0;
}

static int move_to_the_past(void *arg)
{
    struct moved *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    spawn_parked(&s, m);
    m->at = 1;
    weft_scope_set_deadline(&s, m->at);
    m->end = weft_scope_end(&s, 0);
    m->ended = weft_now();
    m->expired = weft_scope_expired(&s);
    return 0;
}

static weft_fn *const moves[] = { move_earlier, set_from_never, move_to_the_past };

START_TEST(a_deadline_moved_earlier_strikes_earlier)
{
    for (int k = 0; k < COUNT(worker_counts); k++) {
        struct moved m = { .end = 1 };
        ck_assert_int_eq(weft_run(moves[_i], &m, ON(worker_counts[k])), 0);
        ck_assert_int_eq(m.end, -ETIMEDOUT);
        ck_assert(m.expired);
        ck_assert_int_ge(m.ended, m.at);
        for (int i = 0; i < COUNT(m.child); i++)
            ck_assert_int_eq(m.child[i], -ECANCELED);
    }
}
END_TEST

static int sleep_past(void *arg)
{
    const struct moved *m = arg;
    return weft_sleep_until(m->at + weft_ms(10));
}

static int move_later(struct moved *m, int64_t later)
{
    weft_scope s;
    weft_scope_begin(&s, weft_ms(30));
    m->at = weft_scope_deadline(&s);
    for (int i = 0; i < COUNT(m->child); i++)
        weft_spawn_with(&s, sleep_past, m, &(weft_spawn_options){ .result = &m->child[i] });
    weft_ignore(weft_yield());
    m->too_slow = weft_check() != 0;
    weft_scope_set_deadline(&s, later);
    m->too_slow = m->too_slow || weft_now() >= m->at;
    int rc = weft_sleep_until(m->at + weft_ms(5));
    m->check = weft_check();
    m->end = weft_scope_end(&s, rc);
    m->expired = weft_scope_expired(&s);
    return 0;
}

static int move_to_an_hour(void *arg)
{
    return move_later(arg, weft_after(weft_sec(3600)));
}

static int move_to_never(void *arg)
{
    return move_later(arg, WEFT_NEVER);
}

START_TEST(a_deadline_moved_later_no_longer_strikes)
{
    struct moved m;
    int64_t end = weft_after(LIMIT);
    do { /* again, if the machine was too slow to move it in time */
        memset(&m, 0, sizeof m);
        ck_assert_int_eq(weft_run(_i ? move_to_never : move_to_an_hour, &m, ON(2)), 0);
    } while (m.too_slow && weft_now() < end);
    ck_assert(!m.too_slow);
    ck_assert_int_eq(m.check, 0);
    ck_assert_int_eq(m.end, 0);
    ck_assert(!m.expired);
    for (int i = 0; i < COUNT(m.child); i++)
        ck_assert_int_eq(m.child[i], 0);
}
END_TEST

static int move_after_it_struck(void *arg)
{
    struct moved *m = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(1));
    m->at = weft_scope_deadline(&s);
    m->child[0] = weft_sleep_until(WEFT_NEVER);
    weft_scope_set_deadline(&s, WEFT_NEVER);
    m->check = weft_check();
    m->end = weft_scope_end(&s, m->check);
    m->expired = weft_scope_expired(&s);
    return 0;
}

START_TEST(a_deadline_that_struck_is_not_undone)
{
    struct moved m = { 0 };
    ck_assert_int_eq(weft_run(move_after_it_struck, &m, ON(2)), 0);
    ck_assert_int_eq(m.child[0], -ECANCELED);
    ck_assert_int_eq(m.check, -ECANCELED);
    ck_assert_int_eq(m.end, -ETIMEDOUT);
    ck_assert(m.expired);
}
END_TEST

struct ambient {
    int64_t none, remaining_none, in_scope, remaining, passed, child_of_outer, child_of_inner,
            outer_at, inner_at;
    int64_t in_shield, shield_at;
    int outer_child_rc, inner_child_rc, inner_end;
    int64_t *slot;
};

struct ambient_child {
    int64_t *deadline;
    int *rc;
    int64_t sleep;
};

static int note_deadline(void *arg)
{
    struct ambient_child *c = arg;
    *c->deadline = weft_deadline();
    *c->rc = weft_sleep_until(c->sleep);
    return *c->rc;
}

static int look_at_deadlines(void *arg)
{
    struct ambient *a = arg;
    a->none = weft_deadline();
    a->remaining_none = weft_remaining();
    weft_scope outer, inner, shield;
    weft_scope_begin(&outer, weft_sec(3600));
    weft_scope_begin(&inner, weft_ms(20));
    a->outer_at = weft_scope_deadline(&outer);
    a->inner_at = weft_scope_deadline(&inner);
    a->in_scope = weft_deadline();
    a->remaining = weft_remaining();
    struct ambient_child to_outer = { &a->child_of_outer, &a->outer_child_rc,
        a->inner_at + weft_ms(5) };
    struct ambient_child to_inner = { &a->child_of_inner, &a->inner_child_rc, WEFT_NEVER };
    weft_spawn(&outer, note_deadline, &to_outer); /* from within inner, yet outer's child */
    weft_spawn(&inner, note_deadline, &to_inner);
    weft_scope_begin_shield(&shield, weft_sec(1800));
    a->shield_at = weft_scope_deadline(&shield);
    a->in_shield = weft_deadline();
    weft_ignore(weft_scope_end(&shield, 0));
    wait_past(a->inner_at);
    a->passed = weft_remaining();
    a->inner_end = weft_scope_end(&inner, 0);
    return weft_scope_end(&outer, 0);
}

START_TEST(the_ambient_deadline_is_the_earliest_and_comes_from_the_scope_spawned_into)
{
    struct ambient a = { 0 };
    ck_assert_int_eq(weft_run(look_at_deadlines, &a, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(a.none, WEFT_NEVER);
    ck_assert_int_eq(a.remaining_none, WEFT_NEVER);
    ck_assert_int_eq(a.in_scope, a.inner_at);
    ck_assert_int_ge(a.remaining, 0);
    ck_assert_int_le(a.remaining, weft_ms(20));
    ck_assert_int_eq(a.passed, 0);
    ck_assert_int_eq(a.child_of_outer, a.outer_at);
    ck_assert_int_eq(a.outer_child_rc, 0);
    ck_assert_int_eq(a.child_of_inner, a.inner_at);
    ck_assert_int_eq(a.inner_child_rc, -ECANCELED);
    ck_assert_int_eq(a.inner_end, -ETIMEDOUT);
    ck_assert_int_eq(a.in_shield, a.shield_at);
    ck_assert_int_gt(a.in_shield, a.inner_at);
}
END_TEST

/* -- a deadline that meets a task which never waits -- */

static int check_only(void)
{
    return weft_check();
}

static int yield_only(void)
{
    return weft_yield();
}

static int sleep_nothing(void)
{
    return weft_sleep(0);
}

static int end_well(void *arg)
{
    (void)arg;
    return 0;
}

static int spawn_and_wait(void)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, end_well, NULL);
    int rc = weft_scope_wait(&s);
    return weft_scope_end(&s, rc);
}

static int spawn_and_join(void)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_task_join(weft_spawn(&s, end_well, NULL));
    return weft_scope_end(&s, rc);
}

static int busy_pair[2];

static int use_ready_socket(void)
{
    char c = 'x';
    int rc = weft_write(busy_pair[0], &c, 1);
    return rc < 0 ? rc : weft_read(busy_pair[1], &c, 1);
}

static int use_dev_null(void)
{
    return weft_write(busy_pair[0], "x", 1);
}

struct busy_kind {
    const char *name;
    int (*turn)(void);
};

static const struct busy_kind busy_kinds[] = {
    { "check", check_only },
    { "yield", yield_only },
    { "sleep(0)", sleep_nothing },
    { "scope_wait", spawn_and_wait },
    { "join", spawn_and_join },
    { "a ready socket", use_ready_socket },
    { "/dev/null", use_dev_null },
};

struct busy {
    int (*turn)(void);
    int64_t deadline, left;
    int rc, end;
    bool as_child;
};

static int stay_busy(void *arg)
{
    struct busy *b = arg;
    int64_t limit = weft_after(LIMIT);
    do
        b->rc = b->turn();
    while (b->rc >= 0 && weft_now() < limit);
    b->left = weft_now();
    return b->rc;
}

static int be_busy_under_deadline(void *arg)
{
    struct busy *b = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(5));
    b->deadline = weft_scope_deadline(&s);
    int rc = 0;
    if (b->as_child)
        weft_spawn(&s, stay_busy, b);
    else
        rc = stay_busy(b);
    b->end = weft_scope_end(&s, rc);
    return 0;
}

START_TEST(a_deadline_ends_a_task_that_never_waits_but_calls_weft)
{
    const struct busy_kind *kind = &busy_kinds[_i];
    for (int k = 0; k < 4; k++) {
        struct busy b = { .turn = kind->turn, .as_child = k % 2 };
        bool null = kind->turn == use_dev_null;
        ck_assert_int_eq(null ? 0 : weft_pair(busy_pair), 0);
        if (null)
            busy_pair[0] = busy_pair[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
        int rc = weft_run(be_busy_under_deadline, &b, ON(1 + k / 2));
        weft_close(busy_pair[0]);
        if (!null)
            weft_close(busy_pair[1]);
        ck_assert_int_eq(rc, 0);
        ck_assert_msg(b.rc == -ECANCELED, "%s, case %d: %d", kind->name, k, b.rc);
        ck_assert_int_eq(b.end, -ETIMEDOUT);
        ck_assert_int_ge(b.left, b.deadline);
    }
}
END_TEST

/* -- cancelling -- */

struct level {
    int rc[12], n;
    weft_task spawned;
    int spawned_rc, close, end;
    char reason[40], again[40];
};

static int be_told(void *arg)
{
    struct level *l = arg;
    l->spawned_rc = weft_sleep(weft_sec(600));
    return l->spawned_rc;
}

static int be_told_again_and_again(void *arg)
{
    struct level *l = arg;
    int fds[2];
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    char c = 'x';
    rc = weft_write(fds[1], &c, 1);
    if (rc < 0)
        return rc;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, "because I say so");
    weft_scope_cancel(&s, "another reason");
    keep_reason(l->reason, sizeof l->reason);
    for (int turn = 0; turn < 2; turn++) {
        l->rc[l->n++] = weft_check();
        l->rc[l->n++] = weft_yield();
        l->rc[l->n++] = weft_sleep(weft_sec(600));
        l->rc[l->n++] = weft_sleep(0);
        l->rc[l->n++] = weft_read(fds[0], &c, 1);
        l->rc[l->n++] = weft_write(fds[0], &c, 1);
    }
    keep_reason(l->again, sizeof l->again);
    l->spawned = weft_spawn(&s, be_told, l); /* these are no cancellation points */
    l->close = weft_close(fds[1]);
    l->end = weft_scope_end(&s, -ECANCELED);
    weft_close(fds[0]);
    return 0;
}

START_TEST(a_cancel_is_told_until_its_scope_has_ended)
{
    struct level l = { 0 };
    ck_assert_int_eq(weft_run(be_told_again_and_again, &l, ON(2)), 0);
    ck_assert_int_eq(l.n, COUNT(l.rc));
    for (int i = 0; i < l.n; i++)
        ck_assert_msg(l.rc[i] == -ECANCELED, "call %d: %d", i, l.rc[i]);
    ck_assert_int_gt(l.spawned, 0);
    ck_assert_int_eq(l.spawned_rc, -ECANCELED);
    ck_assert_int_eq(l.close, 0);
    ck_assert_int_eq(l.end, 0);
    ck_assert_str_eq(l.reason, "because I say so");
    ck_assert_str_eq(l.again, "because I say so");
}
END_TEST

struct reasons {
    char none[40], given[40], unsaid[40], cut[40], outer[40], child[40], after[40];
};

static int note_reason(void *arg)
{
    weft_ignore(weft_sleep_until(WEFT_NEVER));
    keep_reason(arg, 40);
    return 0;
}

static int look_at_reasons(void *arg)
{
    struct reasons *r = arg;
    weft_scope outer, inner;
    keep_reason(r->none, 40);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&inner, WEFT_NEVER);
    weft_scope_cancel(&inner, NULL);
    keep_reason(r->unsaid, 40);
    weft_ignore(weft_scope_end(&inner, 0));
    weft_scope_begin(&inner, WEFT_NEVER);
    char gone[64] = "0123456789012345678901234567890123456789";
    weft_scope_cancel(&inner, gone);
    memset(gone, 'x', sizeof gone);
    keep_reason(r->cut, 40);
    weft_ignore(weft_scope_end(&inner, 0));
    keep_reason(r->after, 40);
    weft_scope_begin(&inner, WEFT_NEVER);
    weft_spawn(&inner, note_reason, r->child);
    weft_scope_cancel(&outer, "the outer one");
    keep_reason(r->outer, 40);
    weft_ignore(weft_scope_end(&inner, 0));
    return weft_scope_end(&outer, 0);
}

START_TEST(the_reason_of_a_cancel_is_told)
{
    struct reasons r;
    memset(&r, 0, sizeof r);
    ck_assert_int_eq(weft_run(look_at_reasons, &r, ON(2)), 0);
    ck_assert_str_eq(r.none, "(none)");
    ck_assert_str_eq(r.unsaid, "cancelled");
    ck_assert_str_eq(r.cut, "0123456789012345678901234567890");
    ck_assert_str_eq(r.after, "(none)");
    ck_assert_str_eq(r.outer, "the outer one");
    ck_assert_str_eq(r.child, "the outer one");
}
END_TEST

/* A tree of tasks, three levels, all parked: one cancel at the root reaches every leaf. */
struct tree {
    int width, depth;
    atomic_int parked, told, wrong;
};

struct node {
    struct tree *t;
    int level;
};

static int tree_node(void *arg)
{
    struct node n = *(struct node *)arg;
    int rc;
    if (n.level == n.t->depth) {
        atomic_fetch_add(&n.t->parked, 1);
        rc = weft_sleep_until(WEFT_NEVER);
        if (rc == -ECANCELED)
            atomic_fetch_add(&n.t->told, 1);
        return rc;
    }
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    struct node below = { n.t, n.level + 1 };
    for (int i = 0; i < n.t->width; i++)
        weft_spawn(&s, tree_node, &below);
    rc = weft_scope_end(&s, 0);
    if (rc != -ECANCELED)
        atomic_fetch_add(&n.t->wrong, 1);
    return rc;
}

static int cancel_tree(void *arg)
{
    struct tree *t = arg;
    int leaves = 1;
    for (int i = 0; i < t->depth; i++)
        leaves *= t->width;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    struct node root = { t, 0 };
    weft_spawn(&s, tree_node, &root);
    bool all = wait_for(&t->parked, leaves);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(a_cancel_reaches_every_leaf_of_a_tree)
{
    struct tree t = { .width = SCALED(15, 8, 6), .depth = 3 };
    ck_assert_int_eq(weft_run(cancel_tree, &t, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&t.told), t.width * t.width * t.width);
    ck_assert_int_eq(atomic_load(&t.wrong), 0);
}
END_TEST

struct cancel_one {
    atomic_int parked;
    int cancel, again, child, other, end, ended, self, self_check, unstarted_ran, unstarted_check,
            unstarted_sleep;
    int in_scope_child, in_scope_end, null_reason;
    char reason[40], unstarted_reason[40];
};

static int park_with_reason(void *arg)
{
    struct cancel_one *c = arg;
    atomic_fetch_add(&c->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    keep_reason(c->reason, sizeof c->reason);
    return rc;
}

static int finish(void *arg)
{
    struct cancel_one *c = arg;
    for (int i = 0; i < 100; i++)
        if (weft_yield() < 0)
            return -EPROTO;
    c->other = weft_sleep(weft_us(10));
    return c->other;
}

static int cancel_parked(void *arg)
{
    struct cancel_one *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t =
            weft_spawn_with(&s, park_with_reason, c, &(weft_spawn_options){ .result = &c->child });
    weft_spawn(&s, finish, c);
    bool parked = wait_for(&c->parked, 1);
    c->cancel = weft_task_cancel(t, "you alone");
    c->again = weft_task_cancel(t, "you again");
    int join = weft_task_join(t);
    c->ended = weft_task_cancel(t, "too late");
    c->end = weft_scope_end(&s, parked ? join : -ETIME);
    return 0;
}

START_TEST(a_task_can_be_cancelled_alone)
{
    struct cancel_one c = { .end = 1 };
    ck_assert_int_eq(weft_run(cancel_parked, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.cancel, 0);
    ck_assert(c.again == 0 || c.again == -ESRCH);
    ck_assert_int_eq(c.child, -ECANCELED);
    ck_assert_str_eq(c.reason, "you alone");
    ck_assert_int_eq(c.other, 0);
    ck_assert_int_eq(c.ended, -ESRCH);
    ck_assert_int_eq(c.end, 0);
}
END_TEST

static int note_first_wait(void *arg)
{
    struct cancel_one *c = arg;
    c->unstarted_ran++;
    c->unstarted_check = weft_check();
    keep_reason(c->unstarted_reason, sizeof c->unstarted_reason);
    c->unstarted_sleep = weft_sleep(weft_sec(600));
    return c->unstarted_sleep;
}

static int cancel_unstarted(void *arg)
{
    struct cancel_one *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, note_first_wait, c); /* one worker: it has not begun */
    c->cancel = weft_task_cancel(t, "early");
    c->end = weft_scope_end(&s, 0);
    return 0;
}

static int cancel_scope_of_unstarted(void *arg)
{
    struct cancel_one *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, note_first_wait, c);
    weft_scope_cancel(&s, "early");
    c->end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(a_task_cancelled_before_it_began_is_started_all_the_same)
{
    struct cancel_one c = { .end = 1 };
    ck_assert_int_eq(weft_run(_i ? cancel_scope_of_unstarted : cancel_unstarted, &c, ON(1)), 0);
    ck_assert_int_eq(c.cancel, 0);
    ck_assert_int_eq(c.unstarted_ran, 1);
    ck_assert_int_eq(c.unstarted_check, -ECANCELED);
    ck_assert_str_eq(c.unstarted_reason, "early");
    ck_assert_int_eq(c.unstarted_sleep, -ECANCELED);
    ck_assert_int_eq(c.end, 0);
}
END_TEST

static int cancel_self(void *arg)
{
    struct cancel_one *c = arg;
    c->self = weft_task_cancel(weft_task_self(), NULL);
    keep_reason(c->reason, sizeof c->reason);
    c->self_check = weft_check();
    return weft_sleep(weft_sec(600));
}

static int spawn_self_canceller(void *arg)
{
    struct cancel_one *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, cancel_self, c, &(weft_spawn_options){ .result = &c->child });
    c->end = weft_scope_end(&s, 2);
    return 0;
}

/* Joined at once: it is run by its joiner, whom nobody has told. */
static int check_and_sleep(void *arg)
{
    int *rc = arg;
    rc[0] = weft_check();
    rc[1] = weft_sleep_until(WEFT_NEVER);
    return rc[1];
}

static int cancel_and_join(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, check_and_sleep, arg);
    int rc = weft_task_cancel(t, "before it began");
    if (rc == 0)
        rc = weft_task_join(t);
    return weft_scope_end(&s, rc);
}

START_TEST(a_task_cancelled_before_its_joiner_runs_it_is_told)
{
    int rc[2] = { 0, 0 };
    ck_assert_int_eq(weft_run(cancel_and_join, rc, ON(1)), 0);
    ck_assert_int_eq(rc[0], -ECANCELED);
    ck_assert_int_eq(rc[1], -ECANCELED);
}
END_TEST

START_TEST(a_task_may_cancel_itself)
{
    struct cancel_one c = { .end = 1 };
    ck_assert_int_eq(weft_run(spawn_self_canceller, &c, ON(2)), 0);
    ck_assert_int_eq(c.self, 0);
    ck_assert_int_eq(c.self_check, -ECANCELED);
    ck_assert_int_eq(c.child, -ECANCELED);
    ck_assert_str_eq(c.reason, "cancelled");
    ck_assert_int_eq(c.end, 2);
}
END_TEST

static int open_scope_and_wait(void *arg)
{
    struct cancel_one *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, park_with_reason, c, &(weft_spawn_options){ .result = &c->in_scope_child });
    c->in_scope_end = weft_scope_end(&s, 0);
    return c->in_scope_end;
}

static int cancel_with_scopes(void *arg)
{
    struct cancel_one *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, open_scope_and_wait, c);
    bool parked = wait_for(&c->parked, 1);
    c->cancel = weft_task_cancel(t, "with yours");
    c->end = weft_scope_end(&s, parked ? 0 : -ETIME);
    return 0;
}

START_TEST(cancelling_a_task_reaches_its_scopes)
{
    struct cancel_one c = { .end = 1 };
    ck_assert_int_eq(weft_run(cancel_with_scopes, &c, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(c.cancel, 0);
    ck_assert_int_eq(c.in_scope_child, -ECANCELED);
    ck_assert_str_eq(c.reason, "with yours");
    ck_assert_int_eq(c.in_scope_end, -ECANCELED);
    ck_assert_int_eq(c.end, 0);
}
END_TEST

/* -- shields -- */

struct shielded {
    atomic_int inside, go;
    int check, sleep, write, join, end, after, spawned, grace_sleep, grace_end, grace_after;
    int own_cancel, own_end, nested, result, outer_end;
    int64_t deadline;
    bool reason, reason_after;
};

static int sleep_a_little(void *arg)
{
    (void)arg;
    return weft_sleep(weft_us(100));
}

static int work_in_shield(void *arg)
{
    struct shielded *h = arg;
    weft_scope shield, inner;
    weft_scope_begin_shield(&shield, weft_sec(600));
    atomic_store(&h->inside, 1);
    wait_for(&h->go, 1);
    h->check = weft_check();
    h->reason = weft_cancel_reason() != NULL;
    h->deadline = weft_deadline();
    h->sleep = weft_sleep(weft_ms(1));
    weft_spawn_with(&shield, sleep_a_little, NULL, &(weft_spawn_options){ .result = &h->spawned });
    h->join = weft_scope_wait(&shield);
    weft_scope_begin(&inner, WEFT_NEVER);
    h->nested = weft_scope_end(&inner, weft_sleep(1));
    h->end = weft_scope_end(&shield, 5);
    h->after = weft_check();
    h->reason_after = weft_cancel_reason() != NULL;
    return weft_sleep(weft_sec(600));
}

static int cancel_into_shield(void *arg)
{
    struct shielded *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t =
            weft_spawn_with(&s, work_in_shield, h, &(weft_spawn_options){ .result = &h->result });
    bool inside = wait_for(&h->inside, 1);
    weft_scope_cancel(&s, "outside");
    weft_ignore(weft_task_cancel(t, "outside"));
    atomic_store(&h->go, 1);
    h->outer_end = weft_scope_end(&s, inside ? 0 : -ETIME);
    return 0;
}

START_TEST(a_shield_hides_a_cancel_until_it_ends)
{
    struct shielded h = { .after = 1 };
    int64_t start = weft_now();
    ck_assert_int_eq(weft_run(cancel_into_shield, &h, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(h.check, 0);
    ck_assert(!h.reason);
    ck_assert_int_ge(h.deadline, start + weft_sec(600));
    ck_assert_int_ne(h.deadline, WEFT_NEVER);
    ck_assert_int_eq(h.sleep, 0);
    ck_assert_int_eq(h.join, 0);
    ck_assert_int_eq(h.spawned, 0);
    ck_assert_int_eq(h.nested, 0);
    ck_assert_int_eq(h.end, 5);
    ck_assert_int_eq(h.after, -ECANCELED);
    ck_assert(h.reason_after);
    ck_assert_int_eq(h.result, -ECANCELED);
    ck_assert_int_eq(h.outer_end, 0);
}
END_TEST

static int exceed_grace(void *arg)
{
    struct shielded *h = arg;
    weft_scope outer, shield;
    weft_scope_begin(&outer, 0);
    h->check = weft_check();
    weft_scope_begin_shield(&shield, weft_ms(5));
    h->grace_sleep = weft_sleep(weft_sec(600));
    h->grace_end = weft_scope_end(&shield, h->grace_sleep);
    h->grace_after = weft_check();
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    h->sleep = weft_sleep(weft_ms(1));
    weft_scope_cancel(&shield, "its own");
    h->own_cancel = weft_sleep(weft_sec(600));
    h->own_end = weft_scope_end(&shield, h->own_cancel);
    h->outer_end = weft_scope_end(&outer, h->grace_after);
    h->after = weft_check();
    return 0;
}

START_TEST(a_shield_is_bounded_by_its_grace_and_by_its_own_cancel)
{
    struct shielded h = { .after = 1 };
    ck_assert_int_eq(weft_run(exceed_grace, &h, ON(2)), 0);
    ck_assert_int_eq(h.check, -ECANCELED);
    ck_assert_int_eq(h.grace_sleep, -ECANCELED);
    ck_assert_int_eq(h.grace_end, -ETIMEDOUT);
    ck_assert_int_eq(h.grace_after, -ECANCELED);
    ck_assert_int_eq(h.sleep, 0);
    ck_assert_int_eq(h.own_cancel, -ECANCELED);
    ck_assert_int_eq(h.own_end, 0);
    ck_assert_int_eq(h.outer_end, -ETIMEDOUT);
    ck_assert_int_eq(h.after, 0);
}
END_TEST

/* -- a task that does not listen -- */

enum { REFUSED_QUICKLY = 1000 };

struct deaf {
    atomic_int reports, other_reports, wrong_task;
    _Atomic weft_task task;
    long quick, slow; /* how often it was refused: at first, and in the best of some spans after that */
    int64_t refused_for, cpu;
    int code;
};

static void count_refusals(const weft_report *r, void *arg)
{
    struct deaf *d = arg;
    if (strcmp(r->what, "refusals") != 0) {
        atomic_fetch_add(&d->other_reports, 1);
        return;
    }
    if (r->task != atomic_load(&d->task))
        atomic_fetch_add(&d->wrong_task, 1);
    atomic_fetch_add(&d->reports, 1);
}

static void be_refused(struct deaf *d)
{
    if (weft_sleep(weft_sec(600)) != -ECANCELED)
        d->code = -EPROTO;
}

static void be_refused_slowly(struct deaf *d)
{
    int64_t first = weft_now(), end = first + weft_ms(600), cpu = cpu_now();
    for (d->slow = 0; weft_now() < end; d->slow++)
        be_refused(d);
    d->cpu = cpu_now() - cpu;
    d->refused_for = weft_now() - first;
}

static bool burns_a_core(const struct deaf *d)
{
    return !TSAN && !ASAN && d->cpu >= d->refused_for / 3;
}

static int ignore_refusals(void *arg)
{
    struct deaf *d = arg;
    atomic_store(&d->task, weft_task_self());
    for (int64_t end = weft_after(LIMIT); d->quick < REFUSED_QUICKLY && weft_now() < end; d->quick++)
        be_refused(d);
    int spans = 0;
    do /* again, if the machine made the process pay for what others did */
        be_refused_slowly(d);
    while (burns_a_core(d) && ++spans < 5);
    return 0;
}

static int spawn_deaf(void *arg)
{
    struct deaf *d = arg;
    weft_scope s;
    weft_scope_begin(&s, 0);
    weft_spawn(&s, ignore_refusals, d);
    return weft_scope_end(&s, 0);
}

START_TEST(a_task_that_ignores_refusals_does_not_burn_a_core_and_is_reported_once)
{
    struct deaf d = { 0 };
    const weft_options o = { .workers = 2, .report = count_refusals, .report_arg = &d };
    ck_assert_int_eq(weft_run(spawn_deaf, &d, &o), 0);
    ck_assert_int_eq(d.code, 0);
    ck_assert_int_eq(d.quick, REFUSED_QUICKLY);
    /* After the first thousand each one sleeps 1 ms. */
    ck_assert_int_le(d.slow, d.refused_for / weft_ms(1) + 1);
    ck_assert(!burns_a_core(&d));
    ck_assert_int_eq(atomic_load(&d.reports), 1);
    ck_assert_int_eq(atomic_load(&d.wrong_task), 0);
}
END_TEST

/* -- WEFT_SCOPE -- */

struct ways {
    atomic_int parked, told;
    int rc;
};

static int park_way(void *arg)
{
    struct ways *w = arg;
    atomic_fetch_add(&w->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    atomic_fetch_add(&w->told, rc == -ECANCELED);
    return rc;
}

static int by_return(void *arg)
{
    WEFT_SCOPE(s, WEFT_NEVER);
    weft_spawn(&s, park_way, arg);
    weft_spawn(&s, park_way, arg);
    return 11;
}

static int by_break(void *arg)
{
    for (int i = 0; i < 10; i++) {
        WEFT_SCOPE(s, WEFT_NEVER);
        weft_spawn(&s, park_way, arg);
        weft_spawn(&s, park_way, arg);
        if (i == 0)
            break;
        weft_spawn(&s, park_way, arg);
    }
    return 12;
}

static int by_continue(void *arg)
{
    for (int i = 0; i < 2; i++) {
        WEFT_SCOPE(s, WEFT_NEVER);
        weft_spawn(&s, park_way, arg);
        if (i < 5)
            continue;
        weft_spawn(&s, park_way, arg);
    }
    return 13;
}

static int by_goto(void *arg)
{
    {
        WEFT_SCOPE(s, WEFT_NEVER);
        weft_spawn(&s, park_way, arg);
        weft_spawn(&s, park_way, arg);
        goto out;
    }
out:
    return 14;
}

static int by_switch(void *arg)
{
    for (int i = 0; i < 2; i++) {
        switch (i) {
        case 0: {
            WEFT_SCOPE(s, WEFT_NEVER);
            weft_spawn(&s, park_way, arg);
            break;
        }
        default: {
            WEFT_SCOPE(s, WEFT_NEVER);
            weft_spawn(&s, park_way, arg);
        } break;
        }
    }
    return 15;
}

static int by_brace(void *arg)
{
    {
        WEFT_SCOPE(outer, WEFT_NEVER);
        weft_spawn(&outer, park_way, arg);
        WEFT_SCOPE(inner, WEFT_NEVER);
        weft_spawn(&inner, park_way, arg);
    }
    return 16;
}

static int by_end(void *arg)
{
    struct ways *w = arg;
    WEFT_SCOPE(s, WEFT_NEVER);
    weft_spawn(&s, park_way, w);
    weft_spawn(&s, park_way, w);
    wait_for(&w->parked, 2);
    weft_scope_cancel(&s, NULL);
    int rc = weft_scope_end(&s, 0);
    return rc == 0 ? 17 : rc; /* the drop finds nothing to do */
}

static int by_end_of_one(void *arg)
{
    WEFT_SCOPE(outer, WEFT_NEVER);
    weft_spawn(&outer, park_way, arg);
    {
        WEFT_SCOPE(inner, WEFT_NEVER);
        weft_spawn(&inner, park_way, arg);
        weft_scope_cancel(&inner, NULL);
        if (weft_scope_end(&inner, 0) != 0)
            return -EPROTO;
    }
    return 18;
}

struct way_out {
    weft_fn *fn;
    int rc;
};

static const struct way_out ways_out[] = {
    { by_return, 11 },
    { by_break, 12 },
    { by_continue, 13 },
    { by_goto, 14 },
    { by_switch, 15 },
    { by_brace, 16 },
    { by_end, 17 },
    { by_end_of_one, 18 },
};

START_TEST(leaving_a_declared_scope_cancels_and_awaits_its_children)
{
    for (int k = 0; k < COUNT(worker_counts); k++) {
        struct ways w = { 0 };
        ck_assert_int_eq(weft_run(ways_out[_i].fn, &w, ON(worker_counts[k])), ways_out[_i].rc);
        ck_assert_int_eq(atomic_load(&w.parked), 2);
        ck_assert_int_eq(atomic_load(&w.told), 2);
    }
}
END_TEST

struct dropped {
    atomic_int reports, parked;
    int code;
    char what[32], text[128], name[40];
    weft_task task, child;
    const void *site;
    int after;
};

static void note_report(const weft_report *r, void *arg)
{
    struct dropped *d = arg;
    if (atomic_fetch_add(&d->reports, 1) == 0) {
        snprintf(d->what, sizeof d->what, "%s", r->what);
        snprintf(d->text, sizeof d->text, "%s", r->text ? r->text : "");
        snprintf(d->name, sizeof d->name, "%s", r->task_name ? r->task_name : "");
        d->code = r->code;
        d->task = r->task;
        d->site = r->site;
    }
}

static int fail_in_cleanup(void *arg)
{
    struct dropped *d = arg;
    atomic_store(&d->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    return rc == -ECANCELED ? weft_fail(-EDOM, "cleaning up went wrong") : rc;
}

/* By a call of its own, so that the site lies in a function that is nothing else. */
static NOINLINE weft_task spawn_the_cleaner(weft_scope *s, struct dropped *d, bool named)
{
    weft_task t = named ? weft_spawn_with(s, fail_in_cleanup, d, &(weft_spawn_options){ .name = "cleaner" }) :
                          weft_spawn(s, fail_in_cleanup, d);
    __asm__ volatile("" : "+r"(t)); /* no tail call */
    return t;
}

static bool in_the_spawn_of_the_cleaner(const void *site)
{
    uintptr_t from = (uintptr_t)spawn_the_cleaner, at = (uintptr_t)site;
    return at > from && at < from + 2000;
}

static int drop_with_failure(void *arg)
{
    struct dropped *d = arg;
    WEFT_SCOPE(s, WEFT_NEVER);
    d->child = spawn_the_cleaner(&s, d, true);
    return wait_for(&d->parked, 1) ? 4 : -ETIME;
}

/* The failure is decided by a policy, which tells the scope of it by another way. */
static int drop_without_a_name(void *arg)
{
    struct dropped *d = arg;
    weft_scope s WEFT_AUTO(weft_scope_drop);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_KEEP_GOING });
    d->child = spawn_the_cleaner(&s, d, false);
    return wait_for(&d->parked, 1) ? 4 : -ETIME;
}

/* whose it was, also when that task is long gone. */
START_TEST(a_failure_nobody_read_names_its_task_and_where_that_was_spawned)
{
    static weft_fn *const fns[] = { drop_with_failure, drop_without_a_name };
    struct dropped d = { 0 };
    const weft_options o = { .workers = 2, .report = note_report, .report_arg = &d };
    ck_assert_int_eq(weft_run(fns[_i], &d, &o), 4);
    ck_assert_int_eq(atomic_load(&d.reports), 1);
    ck_assert_str_eq(d.what, "failure");
    ck_assert_int_eq(d.task, d.child);
    ck_assert_str_eq(d.name, _i == 0 ? "cleaner" : "");
    ck_assert(in_the_spawn_of_the_cleaner(d.site));
}
END_TEST

START_TEST(a_failure_in_a_dropped_scope_is_reported)
{
    struct dropped d = { 0 };
    const weft_options o = { .workers = 2, .report = note_report, .report_arg = &d };
    ck_assert_int_eq(weft_run(drop_with_failure, &d, &o), 4);
    ck_assert_int_eq(atomic_load(&d.reports), 1);
    ck_assert_str_eq(d.what, "failure");
    ck_assert_int_eq(d.code, -EDOM);
    ck_assert_int_eq(d.task, d.child);
    ck_assert_str_eq(d.text, "cleaning up went wrong");
}
END_TEST

static void drop_without_a_hook(void *arg)
{
    struct dropped d = { 0 };
    (void)arg;
    weft_ignore(weft_run(drop_with_failure, &d, ON(2)));
}

/* */
START_TEST(without_a_hook_a_failure_is_one_line_on_stderr)
{
    struct death d = die(drop_without_a_hook, NULL);
    const char *line = strstr(d.text, "weft: failure: task ");
    ck_assert_ptr_nonnull(line);
    ck_assert_ptr_nonnull(strstr(line, " \"cleaner\", spawned at scope_test+0x"));
    ck_assert_ptr_nonnull(strstr(line, ": cleaning up went wrong (-33)\n"));
    ck_assert_ptr_null(strstr(line + 1, "weft: "));
}
END_TEST

/* -- a forgotten end -- */

static int forget_inner(void *arg)
{
    (void)arg;
    weft_scope outer, inner;
    weft_scope_begin_with(&outer, WEFT_NEVER, &(weft_scope_options){ .name = "the-outer" });
    weft_scope_begin_with(&inner, WEFT_NEVER, &(weft_scope_options){ .name = "the-inner" });
    return weft_scope_end(&outer, 0);
}

static int forget_all(void *arg)
{
    (void)arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "the-forgotten" });
    return 0;
}

static int forget_in_child(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, forget_all, arg);
    return weft_scope_end(&s, 0);
}

static int forget_in_running_child(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, forget_all, arg);
    int rc = weft_sleep(weft_ms(100));
    return weft_scope_end(&s, rc);
}

struct forgotten {
    weft_fn *fn;
    bool outside;
    const char *names[2];
};

static const struct forgotten forgotten[] = {
    { forget_inner, false, { "the-outer", "the-inner" } },
    { forget_all, false, { "the-forgotten", "weft" } },
    { forget_in_child, false, { "the-forgotten", "weft" } },
    { forget_in_running_child, false, { "the-forgotten", "weft" } },
    { forget_inner, true, { "the-outer", "the-inner" } },
};

static void run_forgetful(void *arg)
{
    const struct forgotten *f = arg;
    weft_ignore(f->outside ? f->fn(NULL) : weft_run(f->fn, NULL, ON(2)));
}

START_TEST(a_forgotten_end_aborts_naming_the_scopes)
{
    const struct forgotten *f = &forgotten[_i];
    struct death d = die(run_forgetful, (void *)(uintptr_t)f);
    ck_assert_msg(d.signal == SIGABRT, "signal %d, status %d: %s", d.signal, d.status, d.text);
    for (int i = 0; i < COUNT(f->names); i++)
        ck_assert_msg(strstr(d.text, f->names[i]) != NULL, "no \"%s\" in: %s", f->names[i], d.text);
}
END_TEST

START_TEST(a_forgotten_end_raises_the_abort_signal)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    weft_ignore(weft_run(forget_inner, NULL, ON(1)));
}
END_TEST

/* -- many -- */

struct many {
    int n;
    atomic_int parked, told, end;
    long before, after;
};

static int park_many(void *arg)
{
    struct many *m = arg;
    atomic_fetch_add(&m->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    atomic_fetch_add(&m->told, rc == -ECANCELED);
    return rc;
}

static int cancel_many(void *arg)
{
    struct many *m = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < m->n; i++)
        weft_spawn(&s, park_many, m);
    bool all = wait_for(&m->parked, m->n);
    weft_scope_cancel(&s, "everybody");
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(ten_thousand_parked_children_leave_at_one_cancel)
{
    struct many m = { .n = fewer(3000, SCALED(10000, 3000, 1000)) };
    ck_assert_int_eq(weft_run(cancel_many, &m, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(atomic_load(&m.told), m.n);
}
END_TEST

static int many_scopes(void *arg)
{
    struct many *m = arg;
    for (int i = 0; i < m->n; i++) {
        weft_scope s;
        if (i == m->n / 10)
            m->before = resident_kib();
        weft_scope_begin(&s, weft_sec(3600));
        int rc = i % 10 ? weft_yield() : weft_sleep(weft_us(1));
        rc = weft_scope_end(&s, rc);
        if (rc < 0)
            return rc;
    }
    m->after = resident_kib();
    return 0;
}

START_TEST(scopes_with_far_deadlines_leave_nothing_behind)
{
    struct many m = { .n = fewer(20000, SCALED(200000, 20000, 5000)) };
    ck_assert_int_eq(weft_run(many_scopes, &m, ON(worker_counts[_i])), 0);
    ck_assert_int_lt(m.after - m.before, BUILT(2048, 32 * 1024, 64 * 1024));
}
END_TEST

int main(void)
{
    int counts = COUNT(worker_counts);
    Suite *s = suite_create("scope");
    TCase *tc = add_case(s, "verdict");
    tcase_add_loop_test(tc, a_scope_ends_with_the_documented_verdict, 0, COUNT(verdicts));
    tc = add_case(s, "failures");
    tcase_add_loop_test(tc, the_first_failure_cancels_the_siblings_and_the_body, 0, counts);
    tcase_add_loop_test(tc, all_failures_are_kept_as_far_as_there_is_room, 0, counts);
    tcase_add_test(tc, a_failure_without_a_text_is_kept_with_a_terminated_one);
    tcase_add_loop_test(tc, bad_options_fail_the_scope, 0, COUNT(bad_scopes));
    tcase_add_test(tc, null_and_zeroed_options_are_the_plain_begin);
    tc = add_case(s, "lifetimes");
    tcase_add_loop_test(tc, a_scope_does_not_end_before_its_children, 0, counts);
    tcase_add_loop_test(tc, children_may_add_children_to_a_scope_that_is_ending, 0, counts);
    tcase_add_loop_test(tc, a_scope_can_be_waited_for_and_used_again, 0, counts);
    tcase_add_test(tc, waiting_for_a_scope_that_is_not_ones_innermost_is_refused);
    tcase_add_test(tc, spawning_into_a_scope_that_is_not_open_is_refused);
    tcase_add_loop_test(tc, ending_a_scope_that_is_not_open_or_anothers_is_refused, 0, 2);
    tcase_add_test(tc, a_cancel_before_the_begin_or_after_the_end_is_none);
    tc = add_case(s, "deadlines");
    tcase_add_loop_test(tc, an_inner_deadline_ends_only_the_inner_scope, 0, counts);
    tcase_add_loop_test(tc, an_outer_deadline_passes_through_the_inner_scope, 0, counts);
    tcase_add_loop_test(
            tc, two_deadlines_at_the_same_time_are_each_reported_by_their_own_scope, 0, counts);
    tcase_add_loop_test(tc, a_deadline_of_zero_or_less_strikes_at_once, 0, COUNT(passed_spans));
    tcase_add_loop_test(tc, a_deadline_far_off_never_strikes, 0, COUNT(far_spans));
    tcase_add_loop_test(tc, a_deadline_moved_earlier_strikes_earlier, 0, COUNT(moves));
    tcase_add_loop_test(tc, a_deadline_moved_later_no_longer_strikes, 0, 2);
    tcase_add_test(tc, a_deadline_that_struck_is_not_undone);
    tcase_add_loop_test(tc,
            the_ambient_deadline_is_the_earliest_and_comes_from_the_scope_spawned_into, 0, counts);
    tcase_add_loop_test(
            tc, a_deadline_ends_a_task_that_never_waits_but_calls_weft, 0, COUNT(busy_kinds));
    tc = add_case(s, "cancelling");
    tcase_add_test(tc, a_cancel_is_told_until_its_scope_has_ended);
    tcase_add_test(tc, the_reason_of_a_cancel_is_told);
    tcase_add_loop_test(tc, a_cancel_reaches_every_leaf_of_a_tree, 0, counts);
    tcase_add_loop_test(tc, a_task_can_be_cancelled_alone, 0, counts);
    tcase_add_loop_test(tc, a_task_cancelled_before_it_began_is_started_all_the_same, 0, 2);
    tcase_add_test(tc, a_task_cancelled_before_its_joiner_runs_it_is_told);
    tcase_add_test(tc, a_task_may_cancel_itself);
    tcase_add_loop_test(tc, cancelling_a_task_reaches_its_scopes, 0, counts);
    tc = add_case(s, "shields");
    tcase_add_loop_test(tc, a_shield_hides_a_cancel_until_it_ends, 0, counts);
    tcase_add_test(tc, a_shield_is_bounded_by_its_grace_and_by_its_own_cancel);
    tc = add_case(s, "not listening");
    tcase_add_test(tc, a_task_that_ignores_refusals_does_not_burn_a_core_and_is_reported_once);
    tc = add_case(s, "WEFT_SCOPE");
    tcase_add_loop_test(
            tc, leaving_a_declared_scope_cancels_and_awaits_its_children, 0, COUNT(ways_out));
    tcase_add_test(tc, a_failure_in_a_dropped_scope_is_reported);
    tcase_add_loop_test(tc, a_failure_nobody_read_names_its_task_and_where_that_was_spawned, 0, 2);
    if (forking())
        tcase_add_test(tc, without_a_hook_a_failure_is_one_line_on_stderr);
    tc = add_case(s, "forgotten end");
    tcase_add_loop_test(tc, a_forgotten_end_aborts_naming_the_scopes, 0, COUNT(forgotten));
    if (forking())
        tcase_add_test_raise_signal(tc, a_forgotten_end_raises_the_abort_signal, SIGABRT);
    tc = add_case(s, "many");
    tcase_add_loop_test(tc, ten_thousand_parked_children_leave_at_one_cancel, 0, counts);
    tcase_add_loop_test(tc, scopes_with_far_deadlines_leave_nothing_behind, 0, counts);
    return run_suite(s);
}
