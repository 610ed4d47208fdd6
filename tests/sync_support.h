/* tests/sync_support.h - what the tests of locks and signals share: callers that are known to sleep, crowds of tasks and
 * plain threads, and objects that are gone as soon as they may be. */
#ifndef WEFT_TESTS_SYNC_SUPPORT_H
#define WEFT_TESTS_SYNC_SUPPORT_H

#include "support.h"

#include <limits.h>

#include "coord/await.h"

static const int workers[] = { 1, 2, 4 };

/* -- what a coroutine finds wrong; the first is told by the test body -- */

static char wrong_text[200];
static atomic_int wrongs;
NOINLINE static void wrong(const char *what, int line)
{
    if (atomic_fetch_add(&wrongs, 1) == 0)
        snprintf(wrong_text, sizeof wrong_text, "line %d: %s", line, what);
}
#define MUST(cond) ((cond) ? (void)0 : wrong(#cond, __LINE__))
#define NOTHING_WRONG() ck_assert_msg(atomic_load(&wrongs) == 0, "%s", wrong_text)
#define RUN(fn, arg, n)                                                                            \
    do {                                                                                           \
        atomic_store(&wrongs, 0);                                                                  \
        ck_assert_int_eq(weft_run(fn, arg, QUIETLY_ON(n)), 0);                                     \
        NOTHING_WRONG();                                                                           \
    } while (0)

/* -- a caller: a task or a plain thread in one call -- */

struct caller {
    int (*call)(void *object);
    void *object;
    int rc; /* after `returned` */
    weft_task task;
    _Atomic(struct weft__task *) block;
    atomic_int returned;
};

static int call_it(void *arg)
{
    struct caller *c = arg;
    struct weft__frame *f = weft__current();
    atomic_store(&c->block, f ? f->task : NULL);
    c->rc = c->call(c->object);
    atomic_store(&c->returned, 1);
    return 0;
}

NOINLINE static void *call_on_thread(void *arg)
{
    (void)call_it(arg);
    return NULL;
}

/* Waits until it sleeps in its call. */
NOINLINE static bool sleeps(struct caller *c)
{
    int64_t end = weft_after(LIMIT);
    for (;;) {
        struct weft__task *t = atomic_load(&c->block);
        if (t && weft__phase_of(at_load_acquire(&t->state)) == WEFT__WAITING)
            return true;
        if (atomic_load(&c->returned) || weft_now() > end)
            return false;
        weft_ignore(weft_yield());
        if (weft_task_self() == 0)
            usleep(50);
    }
}

/* Starts it, and waits until it sleeps. */
NOINLINE static bool put_to_sleep(weft_scope *s, struct caller *c, int (*call)(void *), void *object)
{
    memset(c, 0, sizeof *c);
    c->call = call;
    c->object = object;
    c->task = weft_spawn(s, call_it, c);
    return sleeps(c);
}

/* Waits for its return: what it returned. */
NOINLINE static int result(struct caller *c)
{
    return wait_for(&c->returned, 1) ? c->rc : INT_MIN;
}

/* Whether it still waits, after others had their turns. */
NOINLINE static bool still_waits(const struct caller *c)
{
    for (int i = 0; i < 20; i++)
        weft_ignore(weft_yield());
    return atomic_load(&c->returned) == 0;
}

/* -- a crowd: tasks of two runtimes and plain threads, in one function -- */

enum { CROWD_TASKS = 8, CROWD_THREADS = 2, CROWD = 2 * CROWD_TASKS + CROWD_THREADS };

struct crowd {
    weft_fn *fn;
    void *arg;
};

NOINLINE static void *crowd_thread(void *arg)
{
    const struct crowd *c = arg;
    int rc = c->fn(c->arg);
    MUST(rc >= 0);
    return NULL;
}

static int crowd_tasks(void *arg)
{
    const struct crowd *c = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < CROWD_TASKS; i++)
        weft_spawn(&s, c->fn, c->arg);
    return weft_scope_end(&s, 0);
}

NOINLINE static void run_crowd(weft_fn *fn, void *arg, int n)
{
    struct crowd c = { fn, arg };
    pthread_t threads[CROWD_THREADS];
    weft_runtime *other = NULL;
    weft_scope s;
    atomic_store(&wrongs, 0);
    ck_assert_int_eq(weft_runtime_create(&other, ON(n)), 0);
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = other });
    for (int i = 0; i < CROWD_TASKS; i++)
        weft_spawn(&s, fn, arg);
    for (int i = 0; i < CROWD_THREADS; i++)
        threads[i] = thread_start(crowd_thread, &c);
    ck_assert_int_eq(weft_run(crowd_tasks, &c, ON(2)), 0);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    for (int i = 0; i < CROWD_THREADS; i++)
        pthread_join(threads[i], NULL);
    weft_runtime_destroy(&other);
    NOTHING_WRONG();
}

/* -- an object of memory of its own, which is gone as soon as one has got what another gave -- */

struct gone {
    size_t bytes;
    int (*begin)(void *object); /* may be NULL */
    int (*give)(void *object);
    int (*get)(void *object);
    int rounds;
};

struct giving {
    int (*give)(void *object);
    void *object;
};

static int give_once(void *arg)
{
    const struct giving *g = arg;
    return g->give(g->object);
}

NOINLINE static int gone_at_once(void *arg)
{
    const struct gone *o = arg;
    int rc = 0;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < o->rounds && rc >= 0; i++) {
        struct giving g = { o->give, calloc(1, o->bytes) };
        if (!g.object)
            return weft_scope_end(&s, -ENOMEM);
        if (o->begin)
            rc = o->begin(g.object);
        weft_spawn_copy(&s, give_once, &g, sizeof g);
        if (rc >= 0 && i % 3 == 0)
            rc = weft_yield();
        if (rc >= 0)
            rc = o->get(g.object);
        memset(g.object, 0xff, o->bytes);
        free(g.object);
    }
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

#define ROUNDS_GONE (chaos() ? 1000 : SCALED(10000, 3000, 1500)) /* chaos delays each */

#endif
