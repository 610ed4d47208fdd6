/* tests/faults.h - runs a scenario with the first, second, ... call of a kind failing (base/fault.h), until none is left
 * to fail; and checks after each that it failed clearly, left nothing behind, and works the next time.
 *
 * A scenario is a function of a plain thread. It returns 0 when all went well, else the negative errno it was told; and
 * calls broken() when a promise was not kept, whatever the errno. */
#ifndef WEFT_TESTS_FAULTS_H
#define WEFT_TESTS_FAULTS_H

#include "support.h"

#include <limits.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "engine/runtime.h"
#include "machine/stack.h"
#include "sched/task.h"

enum { FAULT_NTH_MOST = 3000, FAULT_ROW = 3 };

struct fault {
    enum weft__fault_kind kind;
    int error;
    long count; /* 1: once; LONG_MAX: from then on */
    const char *name;
};

/* Each as the kernel would refuse it. A call that may be repeated until it succeeds does not fail for ever. */
static const struct fault faults[] = {
    { WEFT__FAULT_ALLOC, -ENOMEM, 1, "allocation" },
    { WEFT__FAULT_ALLOC, -ENOMEM, LONG_MAX, "all allocations" },
    { WEFT__FAULT_MMAP, -ENOMEM, 1, "mmap" },
    { WEFT__FAULT_MMAP, -ENOMEM, LONG_MAX, "all mmaps" },
    { WEFT__FAULT_GUARD, -ENOMEM, 1, "madvise" },
    { WEFT__FAULT_GUARD, -ENOMEM, LONG_MAX, "all madvises" },
    { WEFT__FAULT_GUARD, -EINVAL, LONG_MAX, "madvise (old kernel)" },
    { WEFT__FAULT_MPROTECT, -ENOMEM, 1, "mprotect" },
    { WEFT__FAULT_MPROTECT, -ENOMEM, LONG_MAX, "all mprotects" },
    { WEFT__FAULT_THREAD, -EAGAIN, 1, "pthread_create" },
    { WEFT__FAULT_THREAD, -EAGAIN, LONG_MAX, "all pthread_creates" },
    { WEFT__FAULT_KEY, -ENOMEM, 1, "pthread_setspecific" },
    { WEFT__FAULT_KEY, -ENOMEM, LONG_MAX, "all pthread_setspecifics" },
    { WEFT__FAULT_EPOLL_CREATE, -EMFILE, 1, "epoll_create1" },
    { WEFT__FAULT_EPOLL_CREATE, -ENOMEM, LONG_MAX, "all epoll_create1s" },
    { WEFT__FAULT_EPOLL_CTL, -ENOSPC, 1, "epoll_ctl" },
    { WEFT__FAULT_EPOLL_CTL, -ENOMEM, LONG_MAX, "all epoll_ctls" },
    { WEFT__FAULT_EPOLL_WAIT, -EINTR, 7, "epoll_pwait2 (EINTR)" },
    { WEFT__FAULT_EPOLL_WAIT, -ENOSYS, LONG_MAX, "all epoll_pwait2s (ENOSYS)" },
    { WEFT__FAULT_EPOLL_WAIT, -EPERM, LONG_MAX, "all epoll_pwait2s (EPERM)" },
    { WEFT__FAULT_EVENTFD, -ENFILE, 1, "eventfd" },
    { WEFT__FAULT_SOCKET, -EMFILE, 1, "socket" },
    { WEFT__FAULT_SOCKET, -ENOBUFS, LONG_MAX, "all sockets" },
    { WEFT__FAULT_ACCEPT, -EMFILE, 1, "accept4 (EMFILE)" },
    { WEFT__FAULT_ACCEPT, -ECONNABORTED, 3, "accept4 (ECONNABORTED)" },
    { WEFT__FAULT_ACCEPT, -EINTR, 3, "accept4 (EINTR)" },
    { WEFT__FAULT_POLL, -ENOMEM, 1, "poll" },
    { WEFT__FAULT_POLL, -ENOMEM, LONG_MAX, "all polls" },
    { WEFT__FAULT_POLL, -EINTR, 7, "poll (EINTR)" },
    { WEFT__FAULT_FUTEX, -EINTR, 1, "futex" },
    { WEFT__FAULT_FUTEX, -EAGAIN, 50, "futex, 50 in a row" },
    { WEFT__FAULT_SIGSTACK, -ENOMEM, 1, "sigaltstack" },
    { WEFT__FAULT_SIGSTACK, -ENOMEM, LONG_MAX, "all sigaltstacks" },
};

/* ---- what the whole program saw; tests run in processes of their own */

struct fault_tally {
    atomic_long runs, calls, failed, told; /* told: runs that returned an error; the others absorbed it */
};
static struct fault_tally *tally;

static inline void tally_begin(void)
{
    tally = mmap(NULL, COUNT(faults) * sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED)
        abort();
}

static inline void tally_print(void)
{
    printf("%-28s %8s %8s %8s %8s\n", "made to fail", "runs", "calls", "failed", "told");
    for (int i = 0; i < COUNT(faults); i++)
        printf("%-28s %8ld %8ld %8ld %8ld\n", faults[i].name, atomic_load(&tally[i].runs), atomic_load(&tally[i].calls),
                atomic_load(&tally[i].failed), atomic_load(&tally[i].told));
}

/* ---- promises */

static _Atomic(const char *) promise_broken;

/* Any thread, any task. */
static inline void broken(const char *what)
{
    atomic_store(&promise_broken, what);
}

static inline void promise(bool kept, const char *what)
{
    if (!kept)
        broken(what);
}

/* How many calls have failed in this run so far. */
static inline long made_to_fail(void)
{
    long failed = 0;
    for (enum weft__fault_kind k = 0; k < WEFT__FAULT_KINDS; k++)
        failed += weft__fault_failed(k);
    return failed;
}

/* Whether it can come of a call that failed with `error`: that error itself, or what stands for it. */
static inline bool is_clear(int rc, int error)
{
    return rc == error || rc == -ENOMEM || rc == -EAGAIN;
}

/* ---- the loop */

static weft_runtime *rt; /* that scenarios run on which make none of their own; NULL: there is none */

struct fault_left {
    int threads, descriptors;
    uint32_t blocks;
};

/* But for spares (engine/spare.c): they stay, and where the machine is slow one is started at any time. */
static inline int threads_but_spares(void)
{
    int spares = rt ? weft__group_seats(&rt->group) - rt->group.n : 0; /* first: one may be started just now */
    return threads_now() - spares;
}

static inline struct fault_left fault_left_now(void)
{
    return (struct fault_left){ threads_but_spares(), descriptors_now(), weft__task_table_used() };
}

static inline const char *fault_too_much(const struct fault_left *before)
{
    for (int64_t end = weft_after(LIMIT); threads_but_spares() > before->threads; usleep(100)) /* as threads_back_to */
        if (weft_now() > end)
            return "threads are left";
    return descriptors_now() != before->descriptors ? "descriptors are left"
            : weft_task_list(NULL, 0) != 0          ? "tasks are left"
                                                    : NULL;
}

/* One run; what was wrong with it, or NULL. *rc: what it returned; *injected: how many calls failed. */
static const char *fault_run(const struct fault *f, long nth, int (*one)(void), int *rc, long *injected)
{
    struct fault_tally *t = &tally[f - faults];
    atomic_store(&promise_broken, NULL);
    weft__fault_set(f->kind, nth, f->count, f->error);
    *rc = one();
    *injected = weft__fault_failed(f->kind);
    atomic_fetch_add(&t->calls, weft__fault_calls(f->kind));
    weft__fault_clear();
    atomic_fetch_add(&t->runs, 1);
    atomic_fetch_add(&t->failed, *injected);
    atomic_fetch_add(&t->told, *rc < 0);
    const char *what = atomic_load(&promise_broken);
    if (what)
        return what;
    if (*rc != 0 && *injected == 0)
        return "it failed, though no call did";
    if (*rc != 0 && !is_clear(*rc, f->error))
        return "it failed with another error";
    return NULL;
}

/* Until three in a row have no such call left to fail. */
static void fail_in_turn(const struct fault *f, const char *scenario, int (*one)(void), const struct fault_left *before)
{
    int rc, row = 0, step = 1;
    long injected, ran = 0;
    const char *what;
    for (long n = 1; row < FAULT_ROW && n < (TSAN ? 8 : FAULT_NTH_MOST); n += step) {
        what = fault_run(f, n, one, &rc, &injected);
        ck_assert_msg(!what, "%s, %s %ld: %s (%d)", scenario, f->name, n, what, rc);
        what = fault_too_much(before);
        ck_assert_msg(!what, "%s, %s %ld: %s (%d)", scenario, f->name, n, what, rc);
        if (rc < 0) {
            rc = one();
            what = atomic_load(&promise_broken);
            ck_assert_msg(rc == 0 && !what, "%s after %s %ld had failed: %d, %s", scenario, f->name, n, rc,
                    what ? what : "no success");
        }
        row = injected > 0 ? 0 : n == 1 ? FAULT_ROW : row + 1; /* the very first: it makes no such call */
        if (++ran > (ASAN ? 10 : 40)) /* futex: hundreds, all alike */
            step = 7;
    }
    ck_assert_msg(TSAN || row == FAULT_ROW, "%s, %s: always one more to fail", scenario, f->name);
}

/* What leaks grows with every round. What workers' caches keep does not: by some round all have what they keep. That may
 * be late: where one worker starts the tasks and another ends them, one stack a round goes from the first to the second,
 * until this one's cache is full and gives half of it back. */
static void fail_each(const struct fault *f, const char *scenario, int (*one)(void))
{
    enum { ROUNDS = 4 * WEFT__STACK_CACHE_MOST, FEW = 0 };
    int rc, more = INT_MAX;
    ck_assert_msg((rc = one()) == 0, "%s: %d without any fault", scenario, rc);
    ck_assert_int_eq(one(), 0); /* the process's own tables are made, once, and caches filled */
    struct fault_left before = fault_left_now();
    for (int round = 0; round < ROUNDS && more > FEW; round++) {
        int maps = mappings_now();
        fail_in_turn(f, scenario, one, &before);
        more = TSAN || ASAN ? 0 : mappings_now() - maps; /* those map shadow of their own for each thread and task */
    }
    ck_assert_msg(more <= FEW, "%s, %s: %d more mappings with each round", scenario, f->name, more);
    ck_assert_msg(weft__task_table_used() <= before.blocks + 1024, "%s, %s: blocks are lost", scenario, f->name);
}

#endif
