/* tests/classics.h - what the ports of other systems' classic programs share: nothing but the public headers.
 *
 * Most run on the virtual clock, which stands still while anything can run. So who sleeps for a nanosecond goes on
 * when all others wait, however many workers there are and whatever chaos does: settle() is exact. And what hangs is
 * over at once, since the clock then leaps to the deadline that is around each of these programs.
 */
#ifndef WEFT_TESTS_CLASSICS_H
#define WEFT_TESTS_CLASSICS_H

#include "support.h"

#include <stdarg.h>

static const int workers[] = { 1, 2, 4 };

/* -- what a coroutine finds wrong; the first is told by the test body -- */

static char wrong_text[300];
static atomic_int wrongs;

NOINLINE static void wrong(int line, const char *format, ...)
{
    if (atomic_fetch_add(&wrongs, 1) > 0)
        return;
    int n = snprintf(wrong_text, sizeof wrong_text, "line %d: ", line);
    va_list ap;
    va_start(ap, format);
    vsnprintf(wrong_text + n, sizeof wrong_text - (size_t)n, format, ap);
    va_end(ap);
}

NOINLINE static void must_equal(int line, const char *what, long long is, long long due)
{
    if (is != due)
        wrong(line, "%s is %lld, not %lld", what, is, due);
}

#define MUST(cond) ((cond) ? (void)0 : wrong(__LINE__, "%s", #cond))
#define SAME(is, due) must_equal(__LINE__, #is, (long long)(is), (long long)(due))

/* -- a program: a first task, and a deadline around it -- */

struct program {
    weft_fn *fn;
    void *arg;
    int64_t within;
};

static int run_program(void *arg)
{
    const struct program *p = arg;
    weft_scope s;
    weft_scope_begin(&s, p->within);
    return weft_scope_end(&s, p->fn(p->arg));
}

NOINLINE static void run_classic(weft_fn *fn, void *arg, const weft_options *o)
{
    struct program p = { fn, arg, o->clock == WEFT_CLOCK_VIRTUAL ? weft_sec(1000000) : LIMIT };
    atomic_store(&wrongs, 0);
    int rc = weft_run(run_program, &p, o);
    ck_assert_msg(atomic_load(&wrongs) == 0, "%s", wrong_text);
    ck_assert_int_eq(rc, 0);
}

#define IN_REAL_TIME(fn, arg, n)                                                                   \
    run_classic(fn, arg, &(weft_options){ .workers = (n), .report = say_nothing })
#define IN_VIRTUAL_TIME(fn, arg, n)                                                                \
    run_classic(fn, arg,                                                                           \
            &(weft_options){ .workers = (n), .clock = WEFT_CLOCK_VIRTUAL, .report = say_nothing })

/* -- virtual time -- */

/* Goes on when all others wait; also in a task that was told to leave. */
static inline void settle(void)
{
    weft_scope shield;
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    int rc = weft_scope_end(&shield, weft_sleep(1));
    SAME(rc, 0);
}

/* The milliseconds since `began`, without what settle() took. */
static inline int ms_since(int64_t began)
{
    return (int)((weft_now() - began) / 1000000);
}

/* -- what happened, in its order -- */

struct story {
    atomic_int n;
    atomic_int what[64];
};

static inline void note(struct story *t, int what)
{
    int i = atomic_fetch_add(&t->n, 1);
    if (i < COUNT(t->what))
        atomic_store(&t->what[i], what);
}

NOINLINE static void must_have_noted(int line, struct story *t, const int *due, int n)
{
    int have = atomic_load(&t->n);
    if (have != n)
        wrong(line, "%d things happened, not %d", have, n);
    for (int i = 0; i < n && i < have; i++)
        if (atomic_load(&t->what[i]) != due[i])
            wrong(line, "the %dth that happened is %d, not %d", i, atomic_load(&t->what[i]), due[i]);
}

/* Compares what happened with the list, and begins anew. */
#define HAPPENED(t, ...)                                                                           \
    do {                                                                                           \
        const int due_[] = { __VA_ARGS__ };                                                        \
        must_have_noted(__LINE__, t, due_, COUNT(due_));                                           \
        atomic_store(&(t)->n, 0);                                                                  \
    } while (0)
#define NOTHING_HAPPENED(t) SAME(atomic_load(&(t)->n), 0)

/* -- one call, in a task of its own -- */

enum { STILL_OUT = 1000000 };

struct call {
    weft_fn *fn;
    void *arg;
    atomic_int rc; /* STILL_OUT until it returned */
    weft_task task;
    struct story *story; /* NULL, or gets `number` when it has returned 0 or more */
    int number;
};

/* Whatever it returned, its task has not failed. */
static int make_call(void *arg)
{
    struct call *c = arg;
    int rc = c->fn(c->arg);
    if (c->story && rc >= 0)
        note(c->story, c->number);
    atomic_store(&c->rc, rc);
    return 0;
}

static inline void call_in(weft_scope *s, struct call *c, weft_fn *fn, void *arg)
{
    c->fn = fn;
    c->arg = arg;
    atomic_store(&c->rc, STILL_OUT);
    c->task = weft_spawn(s, make_call, c);
}

/* The same, and it has been made and waits, or has returned, before this returns. */
static inline void call_and_settle(weft_scope *s, struct call *c, weft_fn *fn, void *arg)
{
    call_in(s, c, fn, arg);
    settle();
}

static inline int rc_of(struct call *c)
{
    return atomic_load(&c->rc);
}

#endif
