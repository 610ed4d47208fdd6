/* gen_test.c - generators: what Python documents of its own, case by case, and what tasks and scopes add to it. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"
#include "machine/stack.h"

#define NEXT(g, v) weft_gen_next((g), &(v), sizeof(v))
#define YIELD(g, v) weft_gen_yield((g), &(v), sizeof(v))

/* ---- each case on a plain thread without a runtime, and in tasks on 1, 2 and 4 workers */

enum { PLACES = 4 };
static const int workers_of[PLACES] = { 0, 1, 2, 4 };

struct seen {
    int n, rc[64];
    long v[64];
    int body_rc, cleanups;
    const char *wrong;
};

static void note(struct seen *s, int rc, long v)
{
    if (s->n < COUNT(s->rc)) {
        s->rc[s->n] = rc;
        s->v[s->n++] = v;
    }
}

static void run_at(int place, weft_fn *fn, struct seen *s)
{
    int rc = workers_of[place] == 0 ? fn(s) : weft_run(fn, s, ON(workers_of[place]));
    ck_assert_int_eq(rc, 0);
    ck_assert_msg(!s->wrong, "%s", s->wrong);
}

#define expect(s, ...)                                                                                                 \
    do {                                                                                                               \
        static const long want[][2] = { __VA_ARGS__ };                                                                 \
        ck_assert_int_eq((s).n, COUNT(want));                                                                          \
        for (int at_ = 0; at_ < COUNT(want); at_++) {                                                                  \
            ck_assert_msg((s).rc[at_] == want[at_][0], "step %d: %d, not %ld", at_, (s).rc[at_], want[at_][0]);        \
            ck_assert_msg((s).v[at_] == want[at_][1], "step %d: item %ld", at_, (s).v[at_]);                           \
        }                                                                                                              \
    } while (0)

/* Asks once more, and notes what came; an item that was not written stays -1. */
static int next(struct seen *s, weft_gen *g)
{
    long v = -1;
    int rc = NEXT(g, v);
    note(s, rc, v);
    return rc;
}

/* ---- next, the end, the return value */

static int three(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    for (long i = 1; i <= 3; i++) {
        int rc = YIELD(g, i);
        if (rc < 0)
            return rc;
    }
    return s->body_rc;
}

static int take_all(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, three, arg, sizeof(long), NULL);
    for (int i = 0; rc == 0 && i < 6; i++)
        next(arg, g);
    weft_gen_destroy(&g);
    if (g)
        ((struct seen *)arg)->wrong = "not NULL after destroy";
    weft_gen_destroy(&g);
    weft_gen_destroy(NULL);
    return rc;
}

START_TEST(items_come_in_order_and_the_end_is_stable)
{
    struct seen s = { .body_rc = 7 };
    run_at(_i, take_all, &s);
    expect(s, { 1, 1 }, { 1, 2 }, { 1, 3 }, { 0, -1 }, { 0, -1 }, { 0, -1 });
}
END_TEST

START_TEST(an_error_is_said_and_said_again)
{
    struct seen s = { .body_rc = -EPIPE };
    run_at(_i, take_all, &s);
    expect(s, { 1, 1 }, { 1, 2 }, { 1, 3 }, { -EPIPE, -1 }, { -EPIPE, -1 }, { -EPIPE, -1 });
}
END_TEST

/* ---- send */

static int echo(weft_gen *g, void *arg)
{
    long v = 0;
    for (;;) {
        int rc = YIELD(g, v);
        if (rc < 0)
            return rc;
        v = (long)(intptr_t)weft_gen_sent(g);
        (void)arg;
    }
}

static int send_some(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    long v = -1;
    int rc = weft_gen_create(&g, echo, NULL, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    rc = weft_gen_send(g, &v, &v, sizeof v);
    note(s, rc, v); /* nobody waits for it yet */
    rc = weft_gen_send(g, NULL, &v, sizeof v);
    note(s, rc, v);
    rc = weft_gen_send(g, (void *)(intptr_t)42, &v, sizeof v);
    note(s, rc, v);
    next(s, g); /* Python: the value of yield is None then */
    rc = weft_gen_send(g, (void *)(intptr_t)43, &v, sizeof v);
    note(s, rc, v);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(what_is_sent_the_body_finds)
{
    struct seen s = { 0 };
    run_at(_i, send_some, &s);
    expect(s, { -EINVAL, -1 }, { 1, 0 }, { 1, 42 }, { 1, 0 }, { 1, 43 });
}
END_TEST

/* ---- throw */

/* Handles -EAGAIN, gives up for all else. */
static int resilient(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    for (long i = 1;; i++) {
        int rc = YIELD(g, i);
        if (rc == -EAGAIN)
            i = 100;
        else if (rc < 0) {
            s->cleanups++;
            return rc;
        }
    }
}

static int throw_some(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    long v = -1;
    int rc = weft_gen_create(&g, resilient, s, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    next(s, g);
    rc = weft_gen_throw(g, 0, &v, sizeof v);
    note(s, rc, v);
    rc = weft_gen_throw(g, 1, &v, sizeof v);
    note(s, rc, v);
    rc = weft_gen_throw(g, -EAGAIN, &v, sizeof v);
    note(s, rc, v);
    next(s, g);
    v = -1;
    rc = weft_gen_throw(g, -EPROTO, &v, sizeof v);
    note(s, rc, v);
    next(s, g);
    rc = weft_gen_throw(g, -EDOM, &v, sizeof v); /* after the end */
    note(s, rc, v);
    next(s, g);
    rc = weft_gen_send(g, &v, &v, sizeof v);
    note(s, rc, v);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(what_is_thrown_the_body_may_handle)
{
    struct seen s = { 0 };
    run_at(_i, throw_some, &s);
    expect(s, { 1, 1 }, { -EINVAL, -1 }, { -EINVAL, -1 }, { 1, 101 }, { 1, 102 }, { -EPROTO, -1 }, { -EPROTO, -1 },
            { -EDOM, -1 }, { -EPROTO, -1 }, { -EPROTO, -1 });
    ck_assert_int_eq(s.cleanups, 1);
}
END_TEST

static int throw_first(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    long v = -1;
    int rc = weft_gen_create(&g, resilient, s, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    rc = weft_gen_throw(g, -EPROTO, &v, sizeof v);
    note(s, rc, v);
    next(s, g);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(thrown_into_an_unstarted_one_it_never_begins)
{
    struct seen s = { 0 };
    run_at(_i, throw_first, &s);
    expect(s, { -EPROTO, -1 }, { -EPROTO, -1 });
    ck_assert_int_eq(s.cleanups, 0);
}
END_TEST

/* ---- close */

static int close_early(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    int rc = weft_gen_create(&g, resilient, s, sizeof(long), NULL);
    if (rc == 0) /* one that has not begun is not begun */
        weft_gen_destroy(&g);
    if (rc == 0 && s->cleanups != 0)
        s->wrong = "it was begun to be closed";
    if (rc == 0 && (rc = weft_gen_create(&g, resilient, s, sizeof(long), NULL)) == 0) {
        next(s, g);
        weft_gen_destroy(&g);
    }
    return rc;
}

START_TEST(close_runs_the_cleanup)
{
    struct seen s = { 0 };
    run_at(_i, close_early, &s);
    expect(s, { 1, 1 });
    ck_assert_int_eq(s.cleanups, 1);
}
END_TEST

/* Yields although it is told to leave; as often as it is told, or (Python: GeneratorExit swallowed) just returns. */
static int stubborn(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    long v = 5;
    note(s, YIELD(g, v), 0);
    for (int i = 0; i < s->body_rc; i++)
        note(s, YIELD(g, v), 0);
    s->cleanups++;
    return 0;
}

static int close_stubborn(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    int rc = weft_gen_create(&g, stubborn, s, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    long v;
    rc = NEXT(g, v);
    weft_gen_destroy(&g);
    return rc == 1 ? 0 : -EPROTO;
}

START_TEST(a_yield_while_it_is_closed_is_refused)
{
    struct seen s = { .body_rc = 3 };
    run_at(_i, close_stubborn, &s);
    expect(s, { -ECANCELED, 0 }, { -EINVAL, 0 }, { -EINVAL, 0 }, { -EINVAL, 0 });
    ck_assert_int_eq(s.cleanups, 1);
}
END_TEST

START_TEST(a_close_that_is_swallowed_is_no_error)
{
    struct seen s = { .body_rc = 0 };
    run_at(_i, close_stubborn, &s);
    expect(s, { -ECANCELED, 0 });
    ck_assert_int_eq(s.cleanups, 1);
}
END_TEST

static int yield_for_ever(weft_gen *g, void *arg)
{
    long v = 1;
    while (!arg)
        weft_ignore(YIELD(g, v));
    return 0;
}

static int close_endless(void *arg)
{
    weft_gen *g;
    long v;
    int rc = weft_gen_create(&g, yield_for_ever, arg, sizeof v, &(weft_gen_options){ .name = "endless" });
    if (rc == 0)
        rc = NEXT(g, v);
    weft_gen_destroy(&g);
    return rc;
}

static void die_of_endless(void *arg)
{
    weft_ignore(*(int *)arg ? weft_run(close_endless, NULL, ON(1)) : close_endless(NULL));
}

START_TEST(one_that_never_stops_yielding_aborts_by_name)
{
    struct death d = die(die_of_endless, &_i);
    ck_assert_msg(d.signal == SIGABRT || ASAN || TSAN, "signal %d: %s", d.signal, d.text);
    ck_assert_msg(strstr(d.text, "generator \"endless\"") && strstr(d.text, "1000 times"), "%s", d.text);
}
END_TEST

/* ---- re-entry */

static int ask_itself(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    long v = -1;
    int rc = NEXT(g, v);
    note(s, rc, v);
    rc = weft_gen_throw(g, -EIO, &v, sizeof v);
    note(s, rc, v);
    v = 9;
    return YIELD(g, v);
}

static int reenter(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, ask_itself, arg, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    next(arg, g);
    next(arg, g);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(a_running_one_is_busy)
{
    struct seen s = { 0 };
    run_at(_i, reenter, &s);
    expect(s, { -EBUSY, -1 }, { -EBUSY, -1 }, { 1, 9 }, { 0, -1 });
}
END_TEST

/* ---- delegation: yield from */

struct tree {
    long value;
    struct tree *left, *right;
};

static int walk(weft_gen *g, struct tree *t, struct seen *s)
{
    if (!t)
        return 0;
    int rc = walk(g, t->left, s);
    if (rc < 0)
        return rc;
    rc = YIELD(g, t->value);
    if (rc == -EAGAIN) {
        note(s, rc, t->value); /* the inner function has handled it */
        rc = 0;
    }
    if (weft_gen_sent(g))
        note(s, 0, *(long *)weft_gen_sent(g));
    return rc < 0 ? rc : walk(g, t->right, s);
}

struct walked {
    struct tree *root;
    struct seen *s;
};

static int walk_all(weft_gen *g, void *arg)
{
    struct walked *w = arg;
    int rc = walk(g, w->root, w->s);
    w->s->body_rc = rc;
    return rc;
}

static int delegate(void *arg)
{
    struct seen *s = arg;
    struct tree t[5] = { { 1, NULL, NULL }, { 2, &t[0], &t[2] }, { 3, NULL, NULL }, { 4, &t[1], &t[4] },
        { 5, NULL, NULL } };
    struct walked w = { &t[3], s };
    long v = -1, sent = 77;
    weft_gen *g;
    int rc = weft_gen_create(&g, walk_all, &w, sizeof v, NULL);
    if (rc < 0)
        return rc;
    next(s, g);
    rc = weft_gen_throw(g, -EAGAIN, &v, sizeof v);
    note(s, rc, v);
    rc = weft_gen_send(g, &sent, &v, sizeof v);
    note(s, rc, v);
    rc = weft_gen_throw(g, -EIO, &v, sizeof v);
    note(s, rc, 0);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(what_it_calls_yields_for_it)
{
    struct seen s = { 0 };
    run_at(_i, delegate, &s);
    expect(s, { 1, 1 }, { -EAGAIN, 1 }, { 1, 2 }, { 0, 77 }, { 1, 3 }, { -EIO, 0 });
    ck_assert_int_eq(s.body_rc, -EIO);
}
END_TEST

/* What lies between who yields and who asks is called once and returns once, however many items go by, and is neither run nor
 * looked at for any of them: so an item costs the same at any depth. A-089, B-040 */
struct passing {
    struct seen *s;
    int depth;
    long ran;     /* steps of the functions between: into the next, and out of it */
    long back;    /* so much is added on each level to what the innermost one returns */
};

enum { ITEMS_BELOW = 50, DEEPEST = 200 };

static long innermost(weft_gen *g, struct passing *p)
{
    long total = 0, ran = p->ran;
    for (long i = 0; i < ITEMS_BELOW; i++) {
        int rc = YIELD(g, i);
        if (rc < 0)
            total += 1000 * -rc; /* thrown, handled, and gone on */
        else if (weft_gen_sent(g))
            total += *(long *)weft_gen_sent(g);
        if (p->ran != ran)
            p->s->wrong = "what is between has run for an item";
    }
    return total;
}

static NOINLINE long between(weft_gen *g, struct passing *p, int left)
{
    if (left == 0)
        return innermost(g, p);
    p->ran++;
    long value = between(g, p, left - 1);
    p->ran++;
    return value + p->back;
}

static int passes_on(weft_gen *g, void *arg)
{
    struct passing *p = arg;
    long value = between(g, p, p->depth);
    int rc = YIELD(g, value); /* what the innermost one has returned, as it came up */
    return rc < 0 ? rc : 7;
}

/* Of three calls one is a next, one a send and one a throw; each has to arrive there, whatever is between. */
static int ask_deep(struct seen *s, int depth)
{
    struct passing p = { .s = s, .depth = depth, .back = 1 };
    long v = -1, sent = 10, want = depth;
    weft_gen *g;
    int rc = weft_gen_create(&g, passes_on, &p, sizeof v, NULL);
    if (rc < 0)
        return rc;
    if (NEXT(g, v) != 1 || v != 0)
        s->wrong = "the first item";
    for (long i = 1; i <= ITEMS_BELOW; i++) {
        rc = i % 3 == 0 ? weft_gen_throw(g, -EPERM, &v, sizeof v)
                : i % 3 == 1 ? weft_gen_send(g, &sent, &v, sizeof v) : NEXT(g, v);
        want += i % 3 == 0 ? 1000 * EPERM : i % 3 == 1 ? sent : 0;
        if (rc != 1 || (i < ITEMS_BELOW && v != i) || p.ran != (i < ITEMS_BELOW ? depth : 2 * depth))
            s->wrong = "an item";
    }
    if (v != want)
        s->wrong = "what it returned";
    if (NEXT(g, v) != 0 || NEXT(g, v) != 0)
        s->wrong = "the end";
    weft_gen_destroy(&g);
    return 0;
}

static int ask_at_depths(void *arg)
{
    int rc = 0;
    for (int depth = 0; depth <= DEEPEST && rc == 0; depth = depth * 5 + 1)
        rc = ask_deep(arg, depth);
    return rc;
}

START_TEST(what_is_between_is_not_run_for_an_item_at_any_depth)
{
    struct seen s = { 0 };
    run_at(_i, ask_at_depths, &s);
}
END_TEST

/* ---- bad calls */

static int idle_body(weft_gen *g, void *arg)
{
    (void)g;
    (void)arg;
    return 0;
}

static int bad_yields(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    long v = 3;
    weft_gen *other;
    int rc = weft_gen_create(&other, idle_body, NULL, sizeof v, NULL);
    note(s, weft_gen_yield(g, &v, 4), 0);
    note(s, weft_gen_yield(g, NULL, sizeof v), 0);
    note(s, weft_gen_yield(NULL, &v, sizeof v), 0);
    note(s, weft_gen_yield(other, &v, sizeof v), 0);
    weft_gen_destroy(&other);
    return rc < 0 ? rc : YIELD(g, v);
}

static int misuse(void *arg)
{
    struct seen *s = arg;
    weft_gen *g = NULL;
    long v = -1;
    note(s, weft_gen_create(NULL, bad_yields, s, 8, NULL), 0);
    note(s, weft_gen_create(&g, NULL, s, 8, NULL), 0);
    note(s, weft_gen_create(&g, bad_yields, s, 8, &(weft_gen_options){ .reserved = { 1 } }), 0);
    note(s, weft_gen_create(&g, bad_yields, s, 8, &(weft_gen_options){ .stack_bytes = 64 << 20 }), 0);
    if (g)
        s->wrong = "*out was touched";
    int rc = weft_gen_create(&g, bad_yields, s, sizeof v, &(weft_gen_options){ .stack_bytes = 1 << 20, .name = "big" });
    if (rc < 0)
        return rc;
    note(s, weft_gen_next(g, &v, 4), 0);
    note(s, weft_gen_next(g, NULL, sizeof v), 0);
    note(s, weft_gen_next(NULL, &v, sizeof v), 0);
    note(s, weft_gen_yield(g, &v, sizeof v), 0); /* outside of the body */
    next(s, g);
    weft_gen *stale = g;
    weft_gen_destroy(&g);
    next(s, stale);
    weft_gen_destroy(&stale);
    return 0;
}

START_TEST(bad_calls_are_refused)
{
    struct seen s = { 0 };
    run_at(_i, misuse, &s);
    ck_assert_int_eq(s.n, 14);
    for (int i = 0; i < 14; i++)
        ck_assert_msg(s.rc[i] == (i == 12 ? 1 : -EINVAL), "call %d: %d", i, s.rc[i]);
}
END_TEST

/* ---- sizes of items */

struct wide {
    char bytes[200];
};

static int wide_items(weft_gen *g, void *arg)
{
    struct wide w;
    (void)arg;
    for (int i = 0; i < 3; i++) {
        memset(&w, 'a' + i, sizeof w);
        int rc = YIELD(g, w);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int turns_only(weft_gen *g, void *arg)
{
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = weft_gen_yield(g, NULL, 0);
    (void)arg;
    return rc;
}

static int other_sizes(void *arg)
{
    struct seen *s = arg;
    struct wide w;
    weft_gen *g, *h;
    int rc = weft_gen_create(&g, wide_items, NULL, sizeof w, NULL);
    if (rc < 0 || (rc = weft_gen_create(&h, turns_only, NULL, 0, NULL)) < 0)
        return rc;
    while ((rc = NEXT(g, w)) > 0) {
        if (w.bytes[0] != w.bytes[199])
            s->wrong = "an item was not copied whole";
        note(s, weft_gen_next(h, NULL, 0), w.bytes[7]);
    }
    weft_gen_destroy(&g);
    weft_gen_destroy(&h);
    return rc;
}

START_TEST(items_of_any_size_or_none)
{
    struct seen s = { 0 };
    run_at(_i, other_sizes, &s);
    expect(s, { 1, 'a' }, { 1, 'b' }, { 0, 'c' });
}
END_TEST

/* ---- one within the other */

static int doubled(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    weft_gen *in;
    int rc = weft_gen_create(&in, three, s, sizeof(long), NULL); /* belongs to g: nobody destroys it */
    if (rc < 0)
        return rc;
    long v;
    while ((rc = NEXT(in, v)) > 0) {
        v *= 2;
        if ((rc = YIELD(g, v)) < 0)
            break;
    }
    return rc;
}

/* g's body makes one in the consumer's scope, which ends before g does. */
static int nested(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    weft_scope t;
    int rc = weft_gen_create(&g, doubled, s, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    weft_scope_begin(&t, LIMIT);
    next(s, g);
    weft_ignore(weft_scope_end(&t, 0));
    next(s, g);
    next(s, g);
    next(s, g);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(one_made_in_a_body_ends_with_that)
{
    struct seen s = { .body_rc = 0 };
    run_at(_i, nested, &s);
    expect(s, { 1, 2 }, { 1, 4 }, { 1, 6 }, { 0, -1 });
}
END_TEST

/* Yields for the outer one from the inner one's body. */
struct pair {
    weft_gen *outer;
    struct seen *s;
};

static int yield_for_outer(weft_gen *g, void *arg)
{
    struct pair *p = arg;
    long v = 1;
    note(p->s, YIELD(p->outer, v), 0);
    return YIELD(g, v);
}

static int has_inner(weft_gen *g, void *arg)
{
    struct pair p = { g, arg };
    weft_gen *in;
    long v;
    int rc = weft_gen_create(&in, yield_for_outer, &p, sizeof v, NULL);
    if (rc < 0)
        return rc;
    note(p.s, NEXT(in, v), 0);
    weft_gen_destroy(&in);
    return YIELD(g, v);
}

static int cross(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, has_inner, arg, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    next(arg, g);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(none_yields_for_another)
{
    struct seen s = { 0 };
    run_at(_i, cross, &s);
    expect(s, { -EINVAL, 0 }, { 1, 0 }, { 1, 1 });
}
END_TEST

/* ---- scopes: A-094 */

static int yields_in_scopes(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    weft_scope t;
    long v = 1;
    weft_scope_begin(&t, LIMIT);
    note(s, YIELD(g, v), 0);
    weft_ignore(weft_scope_end(&t, 0));
    weft_scope_begin_shield(&t, LIMIT);
    note(s, YIELD(g, v), 0);
    weft_ignore(weft_scope_end(&t, 0));
    return YIELD(g, v);
}

static int consume_scoped(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    weft_scope t;
    weft_scope_begin(&t, LIMIT);
    int rc = weft_gen_create(&g, yields_in_scopes, s, sizeof(long), NULL);
    if (rc == 0)
        next(s, g); /* within a scope of the consumer's all is well */
    return weft_scope_end(&t, rc);
}

START_TEST(no_yield_within_a_scope_of_the_body)
{
    struct seen s = { 0 };
    run_at(_i, consume_scoped, &s);
    expect(s, { -EINVAL, 0 }, { -EINVAL, 0 }, { 1, 1 });
}
END_TEST

static int forget_scope(weft_gen *g, void *arg)
{
    static weft_scope t; /* found before it is looked into */
    (void)g;
    (void)arg;
    weft_scope_begin(&t, LIMIT);
    return 0;
}

static void die_of_scope(void *arg)
{
    weft_gen *g;
    long v;
    (void)arg;
    if (weft_gen_create(&g, forget_scope, NULL, sizeof v, &(weft_gen_options){ .name = "forgetful" }) == 0)
        weft_ignore(NEXT(g, v));
}

START_TEST(a_scope_left_open_by_the_body_aborts)
{
    struct death d = die(die_of_scope, NULL);
    ck_assert_msg(strstr(d.text, "generator \"forgetful\"") && strstr(d.text, "scope"), "%s", d.text);
}
END_TEST

/* ---- owners */

/* Half read, it ends with the scope; LIFO; a later destroy does nothing. */
struct order {
    struct seen *s;
    long name;
};

static int ordered(weft_gen *g, void *arg)
{
    struct order *o = arg;
    int rc = YIELD(g, o->name);
    note(o->s, rc, o->name);
    return rc;
}

static int scope_closes(void *arg)
{
    struct seen *s = arg;
    struct order o[3] = { { s, 1 }, { s, 2 }, { s, 3 } };
    weft_gen *g[4] = { NULL };
    weft_scope t;
    long v;
    int rc = 0;
    weft_scope_begin(&t, LIMIT);
    for (int i = 0; i < 3 && rc == 0; i++)
        if ((rc = weft_gen_create(&g[i], ordered, &o[i], sizeof v, NULL)) == 0 && NEXT(g[i], v) != 1)
            s->wrong = "no item";
    weft_gen_destroy(&g[1]); /* early: it takes itself out */
    if (rc == 0)
        rc = weft_gen_create(&g[3], ordered, &o[1], sizeof v, NULL); /* never begun */
    rc = weft_scope_end(&t, rc);
    for (int i = 0; i < 4; i++) {
        weft_gen *stale = g[i];
        note(s, NEXT(stale, v), 0);
        weft_gen_destroy(&g[i]);
    }
    return rc;
}

START_TEST(the_end_of_its_scope_closes_it)
{
    struct seen s = { 0 };
    run_at(_i, scope_closes, &s);
    expect(s, { -ECANCELED, 2 }, { -ECANCELED, 3 }, { -ECANCELED, 1 }, { -EINVAL, 0 }, { -EINVAL, 0 }, { -EINVAL, 0 },
            { -EINVAL, 0 });
}
END_TEST

static int drop_scope(void *arg)
{
    struct seen *s = arg;
    struct order o = { s, 1 };
    WEFT_SCOPE(t, LIMIT);
    weft_gen *g WEFT_AUTO(weft_gen_destroy) = NULL;
    weft_gen *h;
    long v;
    int rc = weft_gen_create(&g, ordered, &o, sizeof v, NULL);
    if (rc == 0)
        rc = weft_gen_create(&h, ordered, &o, sizeof v, NULL);
    if (rc == 0 && (NEXT(g, v) != 1 || NEXT(h, v) != 1))
        s->wrong = "no item";
    return rc;
}

START_TEST(a_scope_that_is_dropped_closes_it)
{
    struct seen s = { 0 };
    run_at(_i, drop_scope, &s);
    expect(s, { -ECANCELED, 1 }, { -ECANCELED, 1 });
}
END_TEST

/* ---- for each */

/* 1, 2, ... until it is closed, or `arg` says how it ends after 3. */
static int counts(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    int rc = 0;
    for (long v = 1; rc == 0 && (s->body_rc > 0 || v <= 3); v++)
        rc = YIELD(g, v);
    s->cleanups++;
    return rc < 0 ? rc : s->body_rc;
}

static weft_gen *counting(struct seen *s)
{
    weft_gen *g = NULL;
    if (weft_gen_create(&g, counts, s, sizeof(long), NULL) < 0)
        s->wrong = "no generator";
    return g;
}

static int returns_within(struct seen *s, int *rc)
{
    WEFT_GEN_EACH(long, v, counting(s), *rc)
        if (v == 2)
            return (int)v * 10;
    return -1;
}

static int each_of(void *arg)
{
    struct seen *s = arg;
    int rc = 77;
    s->body_rc = 0; /* to the end */
    WEFT_GEN_EACH(long, v, counting(s), rc)
        note(s, rc, v);
    note(s, rc, s->cleanups);
    s->body_rc = -EIO; /* to a failure */
    WEFT_GEN_EACH(long, v, counting(s), rc) {
        if (v == 1)
            continue;
        note(s, rc, v);
    }
    note(s, rc, s->cleanups);
    s->body_rc = 1; /* a break; one within another */
    weft_gen *g = counting(s);
    WEFT_GEN_EACH(long, v, g, rc) {
        int inner = 0;
        WEFT_GEN_EACH(long, w, counting(s), inner)
            if (w == v)
                break;
        note(s, inner, s->cleanups);
        if (v == 2)
            break;
    }
    note(s, rc, s->cleanups);
    long item = -1;
    int next_rc = NEXT(g, item);
    note(s, next_rc, item); /* it is closed */
    weft_gen_destroy(&g);
    int returned = returns_within(s, &rc);
    note(s, returned, s->cleanups);
    rc = -ENOMEM; /* of a create that failed */
    WEFT_GEN_EACH(long, v, NULL, rc)
        note(s, rc, v);
    note(s, rc, s->cleanups);
    return 0;
}

START_TEST(for_each_says_how_it_ended_and_leaves_nothing_open)
{
    struct seen s = { 0 };
    run_at(_i, each_of, &s);
    expect(s, { 1, 1 }, { 1, 2 }, { 1, 3 }, { 0, 1 }, { 1, 2 }, { 1, 3 }, { -EIO, 2 }, { 1, 3 }, { 1, 4 }, { 1, 5 },
            { -EINVAL, -1 }, { 20, 6 }, { -ENOMEM, 6 });
}
END_TEST

/* A task without a scope of its own. */
static int leave_it(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, resilient, arg, sizeof(long), NULL);
    if (rc == 0)
        next(arg, g);
    return rc;
}

START_TEST(the_end_of_its_task_closes_it)
{
    struct seen s = { 0 };
    run_at(_i, leave_it, &s);
    expect(s, { 1, 1 });
    ck_assert_int_eq(s.cleanups, 1);
}
END_TEST

static int child_leaves_it(void *arg)
{
    weft_scope t;
    weft_scope_begin(&t, LIMIT);
    weft_task c = weft_spawn(&t, leave_it, arg); /* joined by a call, where that is done */
    int rc = weft_task_join(c);
    if (rc == 0 && ((struct seen *)arg)->cleanups != 1)
        ((struct seen *)arg)->wrong = "not closed when its task had ended";
    return weft_scope_end(&t, rc);
}

START_TEST(so_does_the_end_of_an_inlined_child)
{
    struct seen s = { 0 };
    run_at(_i, child_leaves_it, &s);
    ck_assert_int_eq(s.cleanups, 1);
}
END_TEST

static int cleanup_fails(weft_gen *g, void *arg)
{
    long v = 1;
    (void)arg;
    return YIELD(g, v) < 0 ? -EIO : 0;
}

static void hear(const weft_report *r, void *arg)
{
    if (strcmp(r->what, "generator") == 0 && r->code == -EIO && strstr(r->text, "\"clumsy\""))
        atomic_fetch_add((atomic_int *)arg, 1);
}

static int be_clumsy(void *arg)
{
    weft_gen *g;
    long v;
    int rc = weft_gen_create(&g, cleanup_fails, arg, sizeof v, &(weft_gen_options){ .name = "clumsy" });
    return rc < 0 ? rc : NEXT(g, v) == 1 ? 0 : -EPROTO;
}

START_TEST(a_cleanup_that_fails_is_reported)
{
    atomic_int heard = 0;
    weft_options o = { .workers = 1, .report = hear, .report_arg = &heard };
    ck_assert_int_eq(weft_run(be_clumsy, NULL, &o), 0);
    ck_assert_int_eq(atomic_load(&heard), 1);
}
END_TEST

static int cleanup_says_why(weft_gen *g, void *arg)
{
    long v = 1;
    (void)arg;
    return YIELD(g, v) < 0 ? weft_fail(-EPROTO, "of the cleanup") : 0;
}

/* It fails for a reason, and its generator after it, when the scope ends. */
static int fail_above_a_generator(void *arg)
{
    weft_gen *g;
    weft_scope t;
    long v;
    weft_scope_begin(&t, WEFT_NEVER);
    int rc = weft_gen_create(&g, cleanup_says_why, NULL, sizeof v, NULL);
    if (rc == 0 && NEXT(g, v) != 1)
        rc = -EIO;
    rc = weft_scope_end(&t, rc < 0 ? rc : weft_fail(-EPROTO, "of the body"));
    snprintf(arg, 32, "%s", weft_error_text(rc));
    return 0;
}

START_TEST(what_a_cleanup_says_is_not_why_the_scope_failed)
{
    char text[32] = "";
    weft_options o = { .workers = 1, .report = hear, .report_arg = NULL };
    ck_assert_int_eq(weft_run(fail_above_a_generator, text, &o), 0);
    ck_assert_str_eq(text, "of the body");
}
END_TEST

/* ---- left open by a plain thread: A-091 */

static int goes_on(weft_gen *g, void *arg)
{
    int rc;
    do {
        long v = 1;
        rc = YIELD(g, v);
    } while (rc == 0);
    if (arg)
        *(int *)arg += 1;
    return rc;
}

static weft_gen *make_named(const char *name)
{
    weft_gen *g = NULL;
    if (weft_gen_create(&g, goes_on, NULL, sizeof(long), &(weft_gen_options){ .name = name }) < 0)
        _exit(1);
    return g;
}

static void *make_two_on_a_thread(void *arg)
{
    (void)arg;
    long v;
    weft_ignore(NEXT(make_named("begun"), v));
    make_named("never begun");
    return NULL;
}

static void leave_open(void *arg)
{
    long v;
    weft_gen *ended = make_named("ended"), *destroyed = make_named("destroyed");
    weft_ignore(weft_gen_throw(ended, -EIO, &v, sizeof v));
    weft_ignore(NEXT(destroyed, v));
    weft_gen_destroy(&destroyed);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_ignore(NEXT(make_named("of a scope"), v));
    weft_ignore(weft_scope_end(&s, 0));
    if (arg)
        pthread_join(thread_start(make_two_on_a_thread, NULL), NULL);
    fflush(NULL);
    exit(0);
}

START_TEST(one_that_a_plain_thread_left_open_is_told_at_the_exit)
{
    struct death d = die(leave_open, &d);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_msg(strstr(d.text, "generator \"begun\" ("), "%s", d.text);
    ck_assert_msg(strstr(d.text, "generator \"never begun\" ("), "%s", d.text);
    ck_assert(strstr(d.text, "): was left open, and nobody has run its cleanup"));
    ck_assert(!strstr(d.text, "ended\"") && !strstr(d.text, "destroyed") && !strstr(d.text, "of a scope"));
}
END_TEST

START_TEST(what_was_closed_or_has_ended_is_not_told)
{
    struct death d = die(leave_open, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_msg(!strstr(d.text, "left open"), "%s", d.text);
}
END_TEST

static void leave_many_open(void *arg)
{
    (void)arg;
    for (int i = 0; i < 12; i++)
        make_named("of many");
    if (fork() == 0)
        exit(0); /* has copies of them, and says nothing */
    fflush(NULL);
    while (wait(NULL) < 0 && errno == EINTR)
        continue;
    exit(0);
}

START_TEST(of_many_that_are_left_open_some_are_told)
{
    int told = 0;
    struct death d = die(leave_many_open, NULL);
    for (const char *at = d.text; (at = strstr(at, "generator \"of many\"")) != NULL; at++)
        told++;
    ck_assert_int_eq(told, 8);
    ck_assert_ptr_nonnull(strstr(d.text, "more than those were left open"));
}
END_TEST

/* ---- bodies that wait */

static int sleepy(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    for (long i = 1; i <= 3; i++) {
        int rc = weft_sleep(weft_us(200));
        if (rc == 0)
            rc = YIELD(g, i);
        if (rc < 0) {
            s->cleanups++;
            return rc;
        }
    }
    return 0;
}

static int take_sleepy(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, sleepy, arg, sizeof(long), NULL);
    while (rc == 0 && next(arg, g) > 0)
        continue;
    weft_gen_destroy(&g);
    return rc;
}

/* What is sent, thrown or closed while it is between two waits. */
static int waits_between(weft_gen *g, void *arg)
{
    long v = 0;
    int *closed = arg;
    for (;;) {
        int rc = YIELD(g, v);
        v = rc == -EAGAIN ? 100 : (long)(intptr_t)weft_gen_sent(g);
        if (rc < 0 && rc != -EAGAIN) {
            *closed = weft_sleep(weft_us(100)) == 0 ? rc : 1; /* its cleanup may wait, too */
            return rc;
        }
        if ((rc = weft_sleep(weft_us(100))) < 0)
            return rc;
    }
}

static int send_and_throw(void *arg)
{
    weft_gen *g;
    long v = -1;
    EXPECT(weft_gen_create(&g, waits_between, arg, sizeof v, NULL) == 0);
    EXPECT(NEXT(g, v) == 1 && v == 0);
    for (long i = 1; i < 20; i++) {
        EXPECT(weft_gen_send(g, (void *)(intptr_t)i, &v, sizeof v) == 1 && v == i);
        EXPECT(weft_gen_throw(g, -EAGAIN, &v, sizeof v) == 1 && v == 100);
    }
    EXPECT(weft_gen_throw(g, -EPROTO, &v, sizeof v) == -EPROTO && *(int *)arg == -EPROTO);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(a_body_that_waits_is_sent_to_and_thrown_into)
{
    int closed = 0;
    AS_EXPECTED(weft_run(send_and_throw, &closed, ON(1 + _i)));
}
END_TEST

START_TEST(a_body_may_wait)
{
    struct seen s = { 0 };
    run_at(_i, take_sleepy, &s);
    expect(s, { 1, 1 }, { 1, 2 }, { 1, 3 }, { 0, -1 });
}
END_TEST

static int many_sleepy(void *arg)
{
    enum { N = 50 };
    struct seen s[N];
    weft_scope t;
    memset(s, 0, sizeof s);
    weft_scope_begin(&t, LIMIT);
    for (int i = 0; i < N; i++)
        weft_spawn(&t, take_sleepy, &s[i]);
    int rc = weft_scope_end(&t, 0);
    for (int i = 0; i < N; i++)
        if (s[i].n != 4 || s[i].rc[3] != 0)
            ((struct seen *)arg)->wrong = "an item is missing";
    return rc;
}

START_TEST(many_tasks_with_bodies_that_wait)
{
    struct seen s = { 0 };
    ck_assert_int_eq(weft_run(many_sleepy, &s, ON(workers_of[_i])), 0);
    ck_assert_msg(!s.wrong, "%s", s.wrong);
}
END_TEST

/* The consumer's deadline reaches the body. */
static int sleep_long(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    long v = 1;
    s->body_rc = weft_sleep(LIMIT);
    if (s->body_rc < 0) { /* it goes on: what was lost is the sleep alone */
        int rc = YIELD(g, v);
        note(s, rc, 0);
    }
    s->body_rc = weft_sleep(weft_us(10)); /* another scope of the consumer's, or none */
    return YIELD(g, v);
}

static int consume_in_time(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    weft_scope t;
    int rc = weft_gen_create(&g, sleep_long, s, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    weft_scope_begin(&t, weft_ms(2));
    rc = next(s, g);
    note(s, weft_scope_end(&t, weft_check()), s->body_rc);
    next(s, g);
    note(s, s->body_rc, 0);
    weft_gen_destroy(&g);
    return rc == 1 ? 0 : -EPROTO;
}

START_TEST(the_consumers_deadline_is_the_bodys)
{
    struct seen s = { 0 };
    run_at(_i, consume_in_time, &s);
    expect(s, { 1, 1 }, { -ETIMEDOUT, -ECANCELED }, { 0, 0 }, { 1, 1 }, { 0, 0 });
}
END_TEST

struct told {
    struct seen s;
    atomic_int waiting;
    weft_task id;
};

static int wait_for_cancel(weft_gen *g, void *arg)
{
    struct told *t = arg;
    long v = 1;
    t->id = weft_task_self();
    atomic_store(&t->waiting, 1);
    int rc = weft_sleep(LIMIT);
    t->s.body_rc = rc;
    return rc < 0 ? rc : YIELD(g, v);
}

static int be_cancelled(void *arg)
{
    struct told *t = arg;
    weft_gen *g;
    int rc = weft_gen_create(&g, wait_for_cancel, t, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    rc = next(&t->s, g);
    if (t->id != weft_task_self())
        t->s.wrong = "the body is another task";
    weft_gen_destroy(&g);
    return rc;
}

static int cancel_it(void *arg)
{
    struct told *t = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task c = weft_spawn(&s, be_cancelled, t);
    bool there = wait_for(&t->waiting, 1);
    weft_task_cancel(c, "test");
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

START_TEST(the_consumers_cancel_reaches_the_body)
{
    struct told t = { 0 };
    ck_assert_int_eq(weft_run(cancel_it, &t, ON(workers_of[_i])), 0);
    ck_assert_int_eq(t.s.body_rc, -ECANCELED);
    ck_assert_msg(!t.s.wrong, "%s", t.s.wrong);
    expect(t.s, { -ECANCELED, -1 });
}
END_TEST

/* aclose with a cleanup that waits; in a cancelled scope only under a shield. */
static int waits_at_its_end(weft_gen *g, void *arg)
{
    struct seen *s = arg;
    long v = 1;
    int rc = YIELD(g, v);
    note(s, rc, 0);
    note(s, weft_sleep(weft_us(100)), 1);
    weft_scope shield;
    weft_scope_begin_shield(&shield, LIMIT);
    int slept = weft_sleep(weft_us(100));
    note(s, weft_scope_end(&shield, slept), 2);
    s->cleanups++;
    return rc;
}

static int close_in_cancelled(void *arg)
{
    struct seen *s = arg;
    weft_gen *g;
    weft_scope t;
    weft_scope_begin(&t, WEFT_NEVER);
    int rc = weft_gen_create(&g, waits_at_its_end, s, sizeof(long), NULL);
    if (rc == 0)
        next(s, g);
    if (s->body_rc)
        weft_scope_cancel(&t, "test");
    return weft_scope_end(&t, rc);
}

START_TEST(cleanup_may_wait)
{
    struct seen s = { 0 };
    run_at(_i, close_in_cancelled, &s);
    expect(s, { 1, 1 }, { -ECANCELED, 0 }, { 0, 1 }, { 0, 2 });
}
END_TEST

START_TEST(cleanup_in_a_cancelled_scope_needs_a_shield)
{
    struct seen s = { .body_rc = 1 };
    run_at(_i, close_in_cancelled, &s);
    expect(s, { 1, 1 }, { -ECANCELED, 0 }, { -ECANCELED, 1 }, { 0, 2 });
}
END_TEST

/* Children come first, and what the cleanup spawns is awaited. */
struct late {
    struct seen s;
    weft_scope *scope;
    weft_gen *g;
};

static int late_child(void *arg)
{
    struct late *l = arg;
    int rc = weft_sleep(weft_us(100));
    note(&l->s, rc, 30);
    return rc;
}

static int spawns_at_its_end(weft_gen *g, void *arg)
{
    struct late *l = arg;
    long v = 1;
    while (YIELD(g, v) == 0)
        continue;
    note(&l->s, 0, 20);
    weft_spawn(l->scope, late_child, l);
    return 0;
}

static int early_child(void *arg)
{
    struct late *l = arg;
    long v;
    int rc = weft_sleep(weft_us(300));
    if (rc == 0)
        rc = NEXT(l->g, v) == 1 ? 0 : -EPROTO; /* still there */
    note(&l->s, rc, 10);
    return rc;
}

static int end_with_spawns(void *arg)
{
    struct late *l = arg;
    weft_scope t;
    long v;
    weft_scope_begin(&t, LIMIT);
    l->scope = &t;
    int rc = weft_gen_create(&l->g, spawns_at_its_end, l, sizeof v, NULL);
    if (rc == 0)
        rc = NEXT(l->g, v) == 1 ? 0 : -EPROTO;
    weft_spawn(&t, early_child, l);
    return weft_scope_end(&t, rc);
}

START_TEST(children_end_before_generators_and_after)
{
    struct late l = { 0 };
    ck_assert_int_eq(weft_run(end_with_spawns, &l, ON(workers_of[_i])), 0);
    expect(l.s, { 0, 10 }, { 0, 20 }, { 0, 30 });
}
END_TEST

/* ---- several consumers */

/* Each of two tasks takes the next item in turn, each under its own identity. */
struct turns {
    weft_gen *g;
    atomic_int turn;
    long sum[2];
    weft_task by[64];
    const char *wrong;
};

static int says_who(weft_gen *g, void *arg)
{
    struct turns *t = arg;
    for (long i = 0; i < 60; i++) {
        t->by[i] = weft_task_self();
        if (i % 7 == 3)
            weft_ignore(weft_yield());
        if (i % 11 == 5)
            weft_ignore(weft_sleep(weft_us(50)));
        if (t->by[i] != weft_task_self())
            t->wrong = "the body changed its task while it ran";
        int rc = YIELD(g, i);
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct taker {
    struct turns *t;
    int me;
};

static int take_turns(void *arg)
{
    struct taker *k = arg;
    struct turns *t = k->t;
    for (int i = k->me; i < 60; i += 2) {
        long v = -1;
        if (!wait_for(&t->turn, i))
            return -ETIME;
        int rc = NEXT(t->g, v);
        if (rc != 1 || v != i)
            t->wrong = "the wrong item";
        else if (t->by[i] != weft_task_self())
            t->wrong = "the body was another task's";
        t->sum[k->me] += v;
        atomic_store(&t->turn, i + 1);
    }
    return 0;
}

static int two_consumers(void *arg)
{
    struct turns *t = arg;
    struct taker k[2] = { { t, 0 }, { t, 1 } };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_gen_create(&t->g, says_who, t, sizeof(long), NULL);
    for (int i = 0; i < 2 && rc == 0; i++)
        weft_spawn(&s, take_turns, &k[i]);
    return weft_scope_end(&s, rc);
}

START_TEST(two_tasks_advance_it_in_turn)
{
    struct turns t = { 0 };
    ck_assert_int_eq(weft_run(two_consumers, &t, ON(workers_of[_i])), 0);
    ck_assert_msg(!t.wrong, "%s", t.wrong);
    ck_assert_int_eq(t.sum[0] + t.sum[1], 59 * 60 / 2);
}
END_TEST

/* Many tasks without turns: each item exactly once, the rest is busy. */
struct scramble {
    weft_gen *g;
    atomic_int taken[400], busy;
};

static int count_up(weft_gen *g, void *arg)
{
    (void)arg;
    for (long i = 0; i < 400; i++) {
        int rc = i % 16 == 0 ? weft_yield() : 0;
        if (rc == 0)
            rc = YIELD(g, i);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int grab(void *arg)
{
    struct scramble *c = arg;
    for (;;) {
        long v;
        int rc = NEXT(c->g, v);
        if (rc == 0)
            return 0;
        if (rc == 1)
            atomic_fetch_add(&c->taken[v], 1);
        else if (rc == -EBUSY)
            atomic_fetch_add(&c->busy, 1);
        else
            return rc;
        if ((rc = weft_yield()) < 0)
            return rc;
    }
}

static int scramble(void *arg)
{
    struct scramble *c = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    int rc = weft_gen_create(&c->g, count_up, NULL, sizeof(long), NULL);
    for (int i = 0; i < 8 && rc == 0; i++)
        weft_spawn(&s, grab, c);
    return weft_scope_end(&s, rc);
}

START_TEST(of_many_tasks_one_gets_each_item)
{
    static struct scramble c;
    memset(&c, 0, sizeof c);
    ck_assert_int_eq(weft_run(scramble, &c, ON(workers_of[_i])), 0);
    for (int i = 0; i < 400; i++)
        ck_assert_int_eq(atomic_load(&c.taken[i]), 1);
}
END_TEST

/* While the body waits in one task, it is busy to another. */
struct held {
    weft_gen *g;
    atomic_int waiting, asked;
    int rc;
};

static int hold_on(weft_gen *g, void *arg)
{
    struct held *h = arg;
    long v = 1;
    atomic_store(&h->waiting, 1);
    if (!wait_for(&h->asked, 1))
        return -ETIME;
    return YIELD(g, v);
}

static int ask_meanwhile(void *arg)
{
    struct held *h = arg;
    long v;
    bool there = wait_for(&h->waiting, 1);
    h->rc = NEXT(h->g, v);
    atomic_store(&h->asked, 1);
    return there ? 0 : -ETIME;
}

static int busy_elsewhere(void *arg)
{
    struct held *h = arg;
    weft_scope s;
    long v;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_gen_create(&h->g, hold_on, h, sizeof v, NULL);
    weft_spawn(&s, ask_meanwhile, h);
    if (rc == 0)
        rc = NEXT(h->g, v) == 1 ? 0 : -EPROTO;
    return weft_scope_end(&s, rc);
}

START_TEST(while_its_body_waits_it_is_busy)
{
    struct held h = { 0 };
    ck_assert_int_eq(weft_run(busy_elsewhere, &h, ON(workers_of[_i])), 0);
    ck_assert_int_eq(h.rc, -EBUSY);
}
END_TEST

static int destroy_running(weft_gen *g, void *arg)
{
    (void)arg;
    weft_gen_destroy(&g);
    return 0;
}

static void die_of_destroy(void *arg)
{
    weft_gen *g;
    long v;
    (void)arg;
    if (weft_gen_create(&g, destroy_running, NULL, sizeof v, NULL) == 0)
        weft_ignore(NEXT(g, v));
}

START_TEST(a_running_one_is_not_destroyed)
{
    struct death d = die(die_of_destroy, NULL);
    ck_assert_msg(strstr(d.text, "is to end while it runs"), "%s", d.text);
}
END_TEST

/* ---- migration: the body goes on on another worker, and so does its consumer */

struct moves {
    struct id_set threads;
    atomic_int moved, stop;
    const char *wrong;
};

NOINLINE static int here(void)
{
    return thread_id();
}

static int wanders(weft_gen *g, void *arg)
{
    struct moves *m = arg;
    for (long i = 0;; i++) {
        int before = here();
        int rc = weft_sleep(weft_us(20));
        if (before != here())
            atomic_fetch_add(&m->moved, 1);
        if (rc == 0)
            rc = YIELD(g, i);
        if (rc < 0)
            return rc;
    }
}

static int wander_along(void *arg)
{
    struct moves *m = arg;
    weft_gen *g;
    long v;
    int64_t until = weft_after(LIMIT);
    int rc = weft_gen_create(&g, wanders, m, sizeof v, NULL);
    if (rc < 0)
        return rc;
    for (long i = 0; (atomic_load(&m->moved) < 3 || i < 20) && weft_now() < until; i++) {
        rc = NEXT(g, v);
        if (rc != 1 || v != i)
            m->wrong = "the wrong item";
    }
    weft_gen_destroy(&g);
    return 0;
}

static int wander_all(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 12; i++)
        weft_spawn(&s, wander_along, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(a_body_moves_with_its_consumer)
{
    struct moves m = { .threads = ID_SET_INIT };
    ck_assert_int_eq(weft_run(wander_all, &m, ON(4)), 0);
    ck_assert_msg(!m.wrong, "%s", m.wrong);
    ck_assert_int_ge(atomic_load(&m.moved), 3);
}
END_TEST

/* ---- children in the body, and bodies in children */

static int add_one(void *arg)
{
    ++*(long *)arg;
    return 0;
}

static int yield_in_child(void *arg)
{
    struct pair *p = arg;
    long v = 3;
    int rc = YIELD(p->outer, v);
    note(p->s, rc, 0);
    return 0;
}

static int forks(weft_gen *g, void *arg)
{
    struct pair p = { g, arg };
    for (long i = 0; i < 3; i++) {
        long a[4] = { i, i, i, i };
        weft_scope s;
        weft_scope_begin(&s, LIMIT);
        for (int k = 0; k < 4; k++)
            weft_spawn(&s, add_one, &a[k]);
        weft_spawn(&s, yield_in_child, &p); /* not its own: refused, inlined or not */
        int rc = weft_scope_end(&s, 0);
        long sum = a[0] + a[1] + a[2] + a[3];
        if (rc == 0)
            rc = YIELD(g, sum);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int consume_forks(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, forks, arg, sizeof(long), NULL);
    while (rc == 0 && next(arg, g) > 0)
        continue;
    weft_gen_destroy(&g);
    return rc;
}

static int consume_inlined(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_task t = weft_spawn(&s, consume_forks, arg);
    int rc = weft_task_join(t);
    return weft_scope_end(&s, rc);
}

static void expect_forks(struct seen *s)
{
    expect(*s, { -EINVAL, 0 }, { 1, 4 }, { -EINVAL, 0 }, { 1, 8 }, { -EINVAL, 0 }, { 1, 12 }, { 0, -1 });
}

START_TEST(a_body_may_have_children)
{
    struct seen s = { 0 };
    ck_assert_int_eq(weft_run(consume_forks, &s, ON(workers_of[_i])), 0);
    expect_forks(&s);
}
END_TEST

START_TEST(an_inlined_child_may_be_the_consumer)
{
    struct seen s = { 0 };
    ck_assert_int_eq(weft_run(consume_inlined, &s, ON(workers_of[_i])), 0);
    expect_forks(&s);
}
END_TEST

/* ---- plain threads */

static int on_pool(void *arg)
{
    return take_sleepy(arg);
}

static int by_pool(void *arg)
{
    return weft_blocking(on_pool, arg);
}

START_TEST(on_a_thread_of_the_pool)
{
    struct seen s = { 0 };
    ck_assert_int_eq(weft_run(by_pool, &s, ON(workers_of[_i])), 0);
    expect(s, { 1, 1 }, { 1, 2 }, { 1, 3 }, { 0, -1 });
}
END_TEST

static void *take_on_thread(void *arg)
{
    long v;
    int *rc = arg;
    weft_gen *g;
    for (int i = 0; i < 50; i++) {
        struct seen s = { 0 };
        if ((*rc = weft_gen_create(&g, three, &s, sizeof v, NULL)) < 0)
            return NULL;
        long sum = 0;
        while (NEXT(g, v) > 0)
            sum += v;
        weft_gen_destroy(&g);
        if (sum != 6)
            *rc = -EPROTO;
    }
    return NULL;
}

START_TEST(many_plain_threads)
{
    pthread_t t[8];
    int rc[8];
    for (int i = 0; i < 8; i++)
        t[i] = thread_start(take_on_thread, &rc[i]);
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], NULL);
        ck_assert_int_eq(rc[i], 0);
    }
}
END_TEST

/* Begun on a thread, continued in a task, ended on the thread. */
static int next_in_task(void *arg)
{
    long v = -1;
    int rc = weft_gen_next(*(weft_gen **)arg, &v, sizeof v);
    return rc == 1 ? (int)v : -EPROTO;
}

START_TEST(from_a_thread_to_a_task_and_back)
{
    struct seen s = { 0 };
    weft_gen *g;
    long v;
    ck_assert_int_eq(weft_gen_create(&g, sleepy, &s, sizeof v, NULL), 0);
    ck_assert_int_eq(NEXT(g, v), 1);
    ck_assert_int_eq(weft_run(next_in_task, &g, ON(workers_of[_i])), 2);
    ck_assert_int_eq(NEXT(g, v), 1);
    ck_assert_int_eq(v, 3);
    weft_gen_destroy(&g);
    ck_assert_int_eq(s.cleanups, 1);
}
END_TEST

/* ---- memory */

static int cycle(void *arg)
{
    struct seen s = { 0 };
    weft_gen *g[4];
    long v;
    int rc;
    for (int i = 0; i < 4; i++) {
        if ((rc = weft_gen_create(&g[i], three, &s, sizeof v, NULL)) < 0)
            return rc;
        if (NEXT(g[i], v) != 1)
            return -EPROTO;
    }
    (void)arg;
    for (int i = 0; i < 4; i++)
        weft_gen_destroy(&g[i]);
    return 0;
}

static int cycle_often(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        int rc = cycle(arg);
        if (rc < 0)
            return rc;
        if (i % 50 == 0)
            weft_ignore(weft_yield());
    }
    return 0;
}

static int cycle_everywhere(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 8; i++)
        weft_spawn(&s, cycle_often, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(stacks_come_back)
{
    int w = workers_of[_i];
    ck_assert_int_eq(w ? weft_run(cycle_everywhere, NULL, ON(w)) : cycle_often(NULL), 0);
    /* 8 tasks with 4 each, at most, and what w caches keep. */
    ck_assert_int_le(weft__stack_nested.made, 32 + 4 * 64);
    long made = weft__stack_nested.made;
    ck_assert_int_eq(w ? weft_run(cycle_everywhere, NULL, ON(w)) : cycle_often(NULL), 0);
    ck_assert_int_le(weft__stack_nested.made, made + 32); /* what the caches had went back to the pool */
}
END_TEST

static int touched;

static int create_one_of(void *arg)
{
    struct seen s = { 0 };
    weft_scope t;
    weft_gen *g = NULL;
    long v = 0;
    (void)arg;
    weft_scope_begin(&t, LIMIT);
    int rc = weft_gen_create(&g, three, &s, sizeof v, NULL);
    if (rc < 0 && g)
        touched++;
    if (rc == 0 && (NEXT(g, v) != 1 || v != 1))
        rc = -EPROTO;
    return weft_scope_end(&t, rc);
}

static int in_a_task(void)
{
    return weft_run(create_one_of, NULL, ON(1));
}

static int on_the_thread(void)
{
    return create_one_of(NULL);
}

static const struct {
    enum weft__fault_kind kind;
    int error;
    long count;
    const char *name;
} gen_faults[] = {
    { WEFT__FAULT_ALLOC, -ENOMEM, 1, "allocation" },
    { WEFT__FAULT_MMAP, -ENOMEM, 1, "mmap" },
    { WEFT__FAULT_GUARD, -ENOMEM, 1, "madvise" },
    { WEFT__FAULT_GUARD, -EINVAL, LONG_MAX, "madvise (old kernel)" },
    { WEFT__FAULT_MPROTECT, -ENOMEM, 1, "mprotect" },
    { WEFT__FAULT_KEY, -ENOMEM, 1, "key" },
};

START_TEST(without_memory_it_says_so)
{
    for (int place = 0; place < 2; place++)
        for (int k = 0; k < COUNT(gen_faults); k++)
            for (long nth = 1; nth < 60; nth++) {
                const char *name = gen_faults[k].name;
                weft__fault_set(gen_faults[k].kind, nth, gen_faults[k].count, gen_faults[k].error);
                int rc = place ? in_a_task() : on_the_thread();
                long failed = weft__fault_failed(gen_faults[k].kind);
                weft__fault_clear();
                ck_assert_msg(touched == 0, "%s %ld: *out is touched on an error", name, nth);
                ck_assert_msg(rc == 0 || (failed > 0 && rc == -ENOMEM), "%s %ld: %d", name, nth, rc);
                if (failed == 0 && nth > 3)
                    break;
            }
    ck_assert_int_eq(on_the_thread(), 0);
}
END_TEST

/* ---- an overflow of its stack */

static NOINLINE int dig(int n)
{
    volatile char hole[512];
    hole[0] = (char)n;
    return n > 1000000 ? 0 : dig(n + 1) + hole[0];
}

static int deep(weft_gen *g, void *arg)
{
    (void)g;
    (void)arg;
    return dig(0);
}

static int overflow(void *arg)
{
    weft_gen *g;
    long v;
    int rc = weft_gen_create(&g, deep, arg, sizeof v, &(weft_gen_options){ .name = "deep", .stack_bytes = 16384 });
    return rc < 0 ? rc : NEXT(g, v);
}

static void die_of_overflow(void *arg)
{
    weft_ignore(weft_run(overflow, arg, ON(1)));
}

START_TEST(an_overflow_names_the_generator)
{
    if (ASAN || TSAN || UBSAN)
        return; /* they say it in their own words */
    struct death d = die(die_of_overflow, NULL);
    ck_assert_int_eq(d.signal, SIGSEGV);
    ck_assert_msg(strstr(d.text, "stack overflow in generator \"deep\"") && strstr(d.text, "of task") &&
                    strstr(d.text, "\"main\"") && strstr(d.text, "16 KiB were guaranteed"),
            "%s", d.text);
}
END_TEST

/* Half of the guarantee can be used, by the body alone. */
static int use_some(weft_gen *g, void *arg)
{
    volatile char room[200 * 1024];
    long v = 0;
    (void)arg;
    for (size_t i = 0; i < sizeof room; i += 4096)
        room[i] = (char)i;
    int rc = YIELD(g, v);
    return rc < 0 ? rc : room[4096];
}

static int use_big(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, use_some, NULL, sizeof(long), &(weft_gen_options){ .stack_bytes = 256 * 1024 });
    if (rc < 0)
        return rc;
    next(arg, g);
    next(arg, g);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(its_stack_is_as_large_as_was_asked_for)
{
    struct seen s = { 0 };
    run_at(_i, use_big, &s);
    expect(s, { 1, 0 }, { 0, -1 });
}
END_TEST

/* -- closed in a scope that has failed -- */

static int slept_at_the_end;

static int sleeps_at_the_end(weft_gen *g, void *arg)
{
    int x = 1, rc = weft_gen_yield(g, &x, sizeof x);
    (void)arg;
    slept_at_the_end = weft_sleep(weft_ms(1));
    return rc;
}

static int body_fails(void *arg)
{
    weft_scope s, other;
    weft_gen *g;
    int x;
    weft_scope_begin(&s, WEFT_NEVER);
    ck_assert_int_eq(weft_gen_create(&g, sleeps_at_the_end, NULL, sizeof x, NULL), 0);
    ck_assert_int_eq(weft_gen_next(g, &x, sizeof x), 1);
    ck_assert_int_eq(weft_check(), 0);
    if (arg) { /* a cancel that has nothing to do with it */
        weft_scope_begin(&other, WEFT_NEVER);
        weft_scope_cancel(&other, NULL);
        weft_ignore(weft_scope_end(&other, 0));
    }
    return weft_scope_end(&s, -EIO);
}

START_TEST(a_scope_that_has_failed_refuses_the_cleanup_of_its_generators)
{
    ck_assert_int_eq(weft_run(body_fails, _i ? &slept_at_the_end : NULL, NULL), -EIO);
    ck_assert_int_eq(slept_at_the_end, -ECANCELED);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gen");
    TCase *everywhere = add_case(s, "everywhere"), *tasks = add_case(s, "tasks"), *own = add_case(s, "memory");
    tcase_add_loop_test(everywhere, items_come_in_order_and_the_end_is_stable, 0, PLACES);
    tcase_add_loop_test(everywhere, an_error_is_said_and_said_again, 0, PLACES);
    tcase_add_loop_test(everywhere, what_is_sent_the_body_finds, 0, PLACES);
    tcase_add_loop_test(everywhere, what_is_thrown_the_body_may_handle, 0, PLACES);
    tcase_add_loop_test(everywhere, thrown_into_an_unstarted_one_it_never_begins, 0, PLACES);
    tcase_add_loop_test(everywhere, close_runs_the_cleanup, 0, PLACES);
    tcase_add_loop_test(everywhere, a_yield_while_it_is_closed_is_refused, 0, PLACES);
    tcase_add_loop_test(everywhere, a_close_that_is_swallowed_is_no_error, 0, PLACES);
    tcase_add_loop_test(everywhere, a_running_one_is_busy, 0, PLACES);
    tcase_add_loop_test(everywhere, what_it_calls_yields_for_it, 0, PLACES);
    tcase_add_loop_test(everywhere, what_is_between_is_not_run_for_an_item_at_any_depth, 0, PLACES);
    tcase_add_loop_test(everywhere, bad_calls_are_refused, 0, PLACES);
    tcase_add_loop_test(everywhere, items_of_any_size_or_none, 0, PLACES);
    tcase_add_loop_test(everywhere, one_made_in_a_body_ends_with_that, 0, PLACES);
    tcase_add_loop_test(everywhere, none_yields_for_another, 0, PLACES);
    tcase_add_loop_test(everywhere, no_yield_within_a_scope_of_the_body, 0, PLACES);
    tcase_add_loop_test(everywhere, the_end_of_its_scope_closes_it, 0, PLACES);
    tcase_add_loop_test(everywhere, a_scope_that_is_dropped_closes_it, 0, PLACES);
    tcase_add_loop_test(everywhere, for_each_says_how_it_ended_and_leaves_nothing_open, 0, PLACES);
    tcase_add_loop_test(everywhere, a_body_may_wait, 0, PLACES);
    tcase_add_loop_test(everywhere, a_body_that_waits_is_sent_to_and_thrown_into, 0, 2);
    tcase_add_loop_test(everywhere, the_consumers_deadline_is_the_bodys, 0, PLACES);
    tcase_add_loop_test(everywhere, cleanup_may_wait, 0, PLACES);
    tcase_add_loop_test(everywhere, cleanup_in_a_cancelled_scope_needs_a_shield, 0, PLACES);
    tcase_add_loop_test(everywhere, its_stack_is_as_large_as_was_asked_for, 0, PLACES);
    tcase_add_loop_test(tasks, the_end_of_its_task_closes_it, 1, PLACES);
    tcase_add_loop_test(tasks, so_does_the_end_of_an_inlined_child, 1, PLACES);
    tcase_add_test(tasks, a_cleanup_that_fails_is_reported);
    tcase_add_test(tasks, what_a_cleanup_says_is_not_why_the_scope_failed);
    tcase_add_loop_test(tasks, many_tasks_with_bodies_that_wait, 1, PLACES);
    tcase_add_loop_test(tasks, the_consumers_cancel_reaches_the_body, 1, PLACES);
    tcase_add_loop_test(tasks, children_end_before_generators_and_after, 1, PLACES);
    tcase_add_loop_test(tasks, two_tasks_advance_it_in_turn, 1, PLACES);
    tcase_add_loop_test(tasks, of_many_tasks_one_gets_each_item, 1, PLACES);
    tcase_add_loop_test(tasks, while_its_body_waits_it_is_busy, 1, PLACES);
    tcase_add_test(tasks, a_body_moves_with_its_consumer);
    tcase_add_loop_test(tasks, a_body_may_have_children, 1, PLACES);
    tcase_add_loop_test(tasks, an_inlined_child_may_be_the_consumer, 1, PLACES);
    tcase_add_loop_test(tasks, on_a_thread_of_the_pool, 1, PLACES);
    tcase_add_test(tasks, many_plain_threads);
    tcase_add_loop_test(tasks, from_a_thread_to_a_task_and_back, 1, PLACES);
    if (forking()) {
        tcase_add_loop_test(own, one_that_never_stops_yielding_aborts_by_name, 0, 2);
        tcase_add_test(own, a_scope_left_open_by_the_body_aborts);
        tcase_add_test(own, a_running_one_is_not_destroyed);
        tcase_add_test(own, one_that_a_plain_thread_left_open_is_told_at_the_exit);
        tcase_add_test(own, what_was_closed_or_has_ended_is_not_told);
        tcase_add_test(own, of_many_that_are_left_open_some_are_told);
        tcase_add_test(own, an_overflow_names_the_generator);
        tcase_add_loop_test(own, stacks_come_back, 0, PLACES);
    }
    tcase_add_test(own, without_memory_it_says_so);
    TCase *failed = add_case(s, "closed in a scope that has failed");
    tcase_add_loop_test(failed, a_scope_that_has_failed_refuses_the_cleanup_of_its_generators, 0, 2);
    return run_suite(s);
}
