/* migration_test.c - a task that moves to another thread sees that thread's own worker.
 *
 * Compilers keep the address of a thread-local across a call that they cannot see to change the thread; so all that is
 * compared here is fetched in one function, in a loop, before and after each switch. Built by migration_build.sh in
 * the ways in which that has gone wrong elsewhere. */
#include "support.h"

#include "engine/worker.h"

enum { TASKS = 6 };

struct traveller {
    weft_task self;
    int moves, wrong_worker, wrong_self, wrong_thread, wrong_stats, dirty_errno;
    int rc, sum;
};

struct journey {
    struct traveller t[TASKS];
    atomic_int arrived;
    int turns;
};

/* The thread of a worker, asked of the worker and of the system; opaque, for pthread_self is declared constant. */
NOINLINE static pthread_t thread_now(void)
{
    pthread_t t = pthread_self();
    __asm__ volatile("" : "+r"(t)::"memory");
    return t;
}

NOINLINE static int fail_with_errno(void)
{
    int rc = close(-1) < 0 ? errno : 0;
    __asm__ volatile("" : "+r"(rc)::"memory");
    return rc;
}

/* Sets errno of this thread, so that a result that was taken from errno too late would show it. */
NOINLINE static void soil_errno(void)
{
    errno = EXDEV;
    __asm__ volatile("" ::: "memory");
}

static int on_no_worker(void *arg)
{
    (void)arg;
    return weft__self() == NULL && weft_task_self() == 0 ? 0 : -EIO;
}

struct travel_arg {
    struct journey *j;
    struct traveller *t;
};

static int travel(void *arg)
{
    struct travel_arg a = *(struct travel_arg *)arg;
    struct traveller *t = a.t;
    int fds[2];
    int rc = weft_pair(fds);
    t->self = weft_task_self();
    bool there = false;
    int64_t end = weft_after(LIMIT);
    for (int i = 0; rc >= 0 && weft_now() < end; i++) {
        if (i >= a.j->turns && t->moves > 0) {
            if (!there)
                atomic_fetch_add(&a.j->arrived, 1);
            there = true;
            if (atomic_load(&a.j->arrived) == TASKS)
                break;
        }
        struct weft__sched *before = weft__self();
        pthread_t on = thread_now();
        t->sum += (int)before->id;
        soil_errno();
        switch (i % 4) {
        case 0:
            rc = weft_sleep(weft_us(1 + i % 7 * 10));
            break;
        case 1:
            compute(weft_us(30));
            rc = weft_yield();
            break;
        case 2:
            rc = weft_blocking(on_no_worker, NULL);
            break;
        case 3: {
            char b = (char)i;
            weft_scope s;
            weft_scope_begin(&s, weft_us(20));
            int r = weft_read(fds[0], &b, 1); /* waits, and is told to leave */
            rc = weft_scope_end(&s, r);
            if (r != -ECANCELED || rc != -ETIMEDOUT)
                t->dirty_errno++; /* a result that was not its own */
            rc = 0;
            break;
        }
        }
        struct weft__sched *after = weft__self();
        pthread_t now = thread_now();
        if (!pthread_equal(now, on) != (after != before))
            t->wrong_worker++;
        if ((int)ati_load(&weft__worker_of(after)->tid) != thread_id())
            t->wrong_thread++;
        if (weft_task_self() != t->self || own(after->frame)->id != t->self || own(after->frame)->arg == NULL)
            t->wrong_self++;
        if (fail_with_errno() != EBADF)
            t->dirty_errno++;
        t->moves += after != before;
    }
    if (rc >= 0) {
        weft_close(fds[0]);
        weft_close(fds[1]);
    }
    return t->rc = rc;
}

/* Its child is run inline, on its stack; both move. */
static int travel_inline(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_task_join(weft_spawn(&s, travel, arg));
    struct weft__sched *w = weft__self();
    struct travel_arg *a = arg;
    if (own(w->frame)->id != weft_task_self() || (int)ati_load(&weft__worker_of(w)->tid) != thread_id())
        a->t->wrong_worker++;
    return weft_scope_end(&s, rc);
}

static int set_out(void *arg)
{
    struct journey *j = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < TASKS; i++) {
        struct travel_arg a = { j, &j->t[i] };
        weft_spawn_copy(&s, i % 2 ? travel_inline : travel, &a, sizeof a);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_task_on_another_thread_sees_that_threads_worker)
{
    struct journey j = { .turns = SCALED(600, 300, 200) };
    weft_runtime *rt;
    int workers = _i, moves = 0;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(workers)), 0);
    int rc = weft_runtime_run(rt, set_out, &j);
    weft_worker_stats st[8];
    uint64_t ran = 0, spawned = 0, migrated = 0;
    int n = weft_stats(rt, st, 8);
    for (int i = 0; i < n && i < 8; i++) {
        ran += st[i].ran;
        spawned += st[i].spawned;
        migrated += st[i].migrated;
    }
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(rc, 0);
    for (int i = 0; i < TASKS; i++) {
        ck_assert_int_eq(j.t[i].rc, 0);
        ck_assert_int_gt(j.t[i].moves, 0);
        ck_assert_int_eq(j.t[i].wrong_worker, 0);
        ck_assert_int_eq(j.t[i].wrong_thread, 0);
        ck_assert_int_eq(j.t[i].wrong_self, 0);
        ck_assert_int_eq(j.t[i].dirty_errno, 0);
        moves += j.t[i].moves;
    }
    /* Each counter was counted on by its own worker alone: none was lost. A move is a turn on the new thread. */
    ck_assert_uint_ge(ran, (uint64_t)moves + 1);
    ck_assert_uint_eq(spawned, TASKS + TASKS / 2);
    ck_assert_uint_ge(migrated, (uint64_t)moves); /* B-085 */
    ck_assert_uint_lt(migrated, ran);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("migration");
    TCase *tc = add_case(s, "moving");
    tcase_add_loop_test(tc, a_task_on_another_thread_sees_that_threads_worker, 2, 5);
    return run_suite(s);
}
