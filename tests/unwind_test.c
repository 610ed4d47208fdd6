/* unwind_test.c - unwinders end at a task's entry: machine/context_*.S.
 *
 * Looked at from inside a task by backtrace(3), by _Unwind_Backtrace, and by a walk of frame pointers as profilers do it:
 * each ends in weft__context_entry, with no frame more than there are calls. */
#include "support.h"

#include <execinfo.h>
#include <unwind.h>

#include "engine/worker.h"

void weft__context_entry(void);

enum {
    FRAMES = 64,
    ENTRY_BYTES = 48,
    MOVES = 5,
    /* resident loop and entry, and the body that calls the task's function; a sanitizer may be called in between */
    BELOW = 3 + BUILT(0, 2, 2),
    /* the library's part of one join by a call */
    JOIN = 4,
    DEEP = 10
};

struct walk {
    void *pc[FRAMES];
    int n;
    bool after_end; /* the unwinder went on behind the entry */
};

struct look {
    struct walk libc, unwind, pointers;
    int rc;
};

static bool in_entry(void *pc)
{
    uintptr_t at = (uintptr_t)pc, entry = (uintptr_t)weft__context_entry;
    return at > entry && at <= entry + ENTRY_BYTES;
}

static void add(struct walk *w, void *pc)
{
    if (w->n > 0 && in_entry(w->pc[w->n - 1]))
        w->after_end = true;
    if (w->n < FRAMES)
        w->pc[w->n++] = pc;
}

static _Unwind_Reason_Code one_frame(struct _Unwind_Context *c, void *arg)
{
    void *pc = (void *)(uintptr_t)_Unwind_GetIP(c);
    if (pc) /* libgcc reports the end itself, as 0 */
        add(arg, pc);
    return _URC_NO_REASON;
}

/* {the caller's frame pointer, return address}, on both processors. */
__attribute__((no_sanitize("address", "undefined"))) static void follow_pointers(struct walk *w)
{
    void **fp = __builtin_frame_address(0);
    while (fp && w->n < FRAMES) {
        add(w, fp[1]);
        fp = fp[0];
    }
}

NOINLINE static void look_around(struct look *l)
{
    void *pc[FRAMES];
    int n = backtrace(pc, FRAMES);
    memset(l, 0, sizeof *l);
    for (int i = 0; i < n; i++)
        add(&l->libc, pc[i]);
    _Unwind_Backtrace(one_frame, &l->unwind);
    follow_pointers(&l->pointers);
    __asm__ volatile("" ::: "memory");
}

static void check_walk(const struct walk *w, const char *how, int most)
{
    ck_assert_msg(w->n >= 3, "%s: only %d frames", how, w->n);
    ck_assert_msg(w->n <= most, "%s: %d frames, %d were expected at most", how, w->n, most);
    ck_assert_msg(in_entry(w->pc[w->n - 1]), "%s: ends elsewhere, at %p", how, w->pc[w->n - 1]);
    ck_assert_msg(!w->after_end, "%s: goes on behind the entry", how);
}

/* `calls`: the test's and the library's frames above the body. */
static void check_look(const struct look *l, int calls)
{
    ck_assert_int_eq(l->rc, 0);
    check_walk(&l->libc, "backtrace", calls + BELOW);
    check_walk(&l->unwind, "_Unwind_Backtrace", calls + BELOW);
    check_walk(&l->pointers, "frame pointers", calls + BELOW);
}

/* The outermost frame of a plain call that the test makes itself: main_task of coord/main.c. */
enum { MAIN = 1 };

static int look_at_once(void *arg)
{
    look_around(arg);
    return 0;
}

START_TEST(in_a_task_they_end_at_its_entry)
{
    struct look l;
    ck_assert_int_eq(weft_run(look_at_once, &l, ON(_i)), 0);
    check_look(&l, MAIN + 2);
}
END_TEST

NOINLINE static void look_from(int depth, struct look *l)
{
    if (depth > 0)
        look_from(depth - 1, l);
    else
        look_around(l);
    __asm__ volatile("" ::: "memory");
}

static int look_deep(void *arg)
{
    look_from(DEEP, arg);
    return 0;
}

START_TEST(no_call_is_missing_or_counted_twice)
{
    struct look l, deep;
    ck_assert_int_eq(weft_run(look_at_once, &l, ON(1)), 0);
    ck_assert_int_eq(weft_run(look_deep, &deep, ON(1)), 0);
    check_look(&deep, MAIN + 3 + DEEP);
    ck_assert_int_eq(deep.libc.n - l.libc.n, DEEP + 1);
    ck_assert_int_eq(deep.unwind.n - l.unwind.n, DEEP + 1);
    ck_assert_int_eq(deep.pointers.n - l.pointers.n, DEEP + 1);
}
END_TEST

/* The only worker does not start the child before it is joined: it is run as a call. */
static int join_a_child(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_task_join(weft_spawn(&s, look_at_once, arg));
    return weft_scope_end(&s, rc);
}

static int join_a_joiner(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_task_join(weft_spawn(&s, join_a_child, arg));
    return weft_scope_end(&s, rc);
}

START_TEST(in_an_inlined_child_they_end_at_its_joiners_entry)
{
    struct look one, two;
    ck_assert_int_eq(weft_run(join_a_child, &one, ON(1)), 0);
    ck_assert_int_eq(weft_run(join_a_joiner, &two, ON(1)), 0);
    check_look(&one, MAIN + 3 + JOIN);
    check_look(&two, MAIN + 4 + 2 * JOIN);
    if (!TSAN && !chaos()) /* which do not inline, or not always */
        ck_assert_int_gt(two.libc.n, one.libc.n);
}
END_TEST

/* -- after each move to another worker, and on a stack that ran another task before -- */

enum { TRAVELLERS = 8 };

struct travels {
    struct look look[MOVES];
    int moves;
    atomic_int *arrived;
};

static int travel(void *arg)
{
    struct travels *t = arg;
    int64_t end = weft_after(LIMIT);
    struct weft__sched *on = weft__self();
    while (atomic_load(t->arrived) < TRAVELLERS && weft_now() < end) { /* who is alone does not move */
        int rc = weft_sleep(weft_us(20));
        compute(weft_us(30));
        rc = rc < 0 ? rc : weft_yield();
        if (rc < 0)
            return rc;
        if (weft__self() == on || t->moves == MOVES)
            continue;
        on = weft__self();
        look_around(&t->look[t->moves++]);
        if (t->moves == MOVES)
            atomic_fetch_add(t->arrived, 1);
    }
    return t->moves == MOVES ? 0 : -ETIMEDOUT;
}

static int set_out(void *arg)
{
    struct travels *t = arg;
    atomic_int arrived = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < TRAVELLERS; i++) {
        t[i].arrived = &arrived;
        weft_spawn(&s, travel, &t[i]);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(after_migrations_they_still_end_there)
{
    static struct travels t[TRAVELLERS];
    memset(t, 0, sizeof t);
    ck_assert_int_eq(weft_run(set_out, t, ON(4)), 0);
    for (int i = 0; i < TRAVELLERS; i++)
        for (int k = 0; k < t[i].moves; k++)
            check_look(&t[i].look[k], MAIN + 3 + JOIN); /* one may be run by the end of the scope */
}
END_TEST

struct succession {
    struct look look[3];
};

static int one_after_the_other(void *arg)
{
    struct succession *u = arg;
    for (int i = 0; i < COUNT(u->look); i++) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        /* Pinned, so that it is begun on the stack that the last one left, and not run as a call. */
        weft_spawn_with(&s, look_at_once, &u->look[i], &(weft_spawn_options){ .pin = 1 });
        int rc = weft_scope_end(&s, 0);
        if (rc < 0)
            return rc;
    }
    return 0;
}

START_TEST(on_a_used_stack_they_end_there_too)
{
    struct succession u;
    ck_assert_int_eq(weft_run(one_after_the_other, &u, ON(1)), 0);
    for (int i = 0; i < COUNT(u.look); i++)
        check_look(&u.look[i], 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("unwind");
    TCase *tc = add_case(s, "the end of a stack");
    tcase_add_loop_test(tc, in_a_task_they_end_at_its_entry, 1, 4);
    tcase_add_test(tc, no_call_is_missing_or_counted_twice);
    tcase_add_test(tc, in_an_inlined_child_they_end_at_its_joiners_entry);
    tcase_add_test(tc, after_migrations_they_still_end_there);
    tcase_add_test(tc, on_a_used_stack_they_end_there_too);
    return run_suite(s);
}
