/* work_time.c - workloads of time: timers and timer_churn.
 *
 * What they do not measure: how exact one timer is on an idle machine (over_s is what a million of
 * them are late together, spawning included), and timers that another worker disarms. */
#include "peer.h"

#include <errno.h>
#include <stdatomic.h>

/* The sleep of the i-th task, 0 to 1 s: splitmix64(i). */
static int64_t delay_us(uint64_t i)
{
    uint64_t z = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (int64_t)((z ^ z >> 31) % 1000001);
}

struct sleeper {
    long index;
    atomic_long *awake;
};

static int sleep_once(void *arg)
{
    const struct sleeper *me = arg;
    int rc = weft_sleep(weft_us(delay_us((uint64_t)me->index)));
    if (rc < 0)
        return rc;
    atomic_fetch_add_explicit(me->awake, 1, memory_order_relaxed);
    return 0;
}

static int sleep_all(struct job *j, long n, int64_t longest_us)
{
    atomic_long awake = 0;

    job_start(j);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < n; i++) {
        struct sleeper me = { .index = i, .awake = &awake };
        weft_spawn_copy(&s, sleep_once, &me, sizeof me);
    }
    int rc = weft_scope_end(&s, 0);
    job_stop(j, n);

    if (rc < 0)
        return rc;
    if (j->seconds * 1e6 < (double)longest_us)
        return weft_fail(-EBADMSG, "wrong result: all woke up within %.6f s", j->seconds);
    return job_verify(atomic_load(&awake), n);
}

int work_timers(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n");
    int64_t longest_us = 0;
    int rc = 0;
    for (long i = 0; i < n; i++)
        if (longest_us < delay_us((uint64_t)i))
            longest_us = delay_us((uint64_t)i);

    /* each starts the clock anew, so the last one counts */
    for (long round = job_arg(j, "rounds"); rc == 0 && round > 0; round--)
        rc = sleep_all(j, n, longest_us);
    job_extra(j, "over_s", j->seconds - 1);
    return rc;
}

/* timer_churn: an operation that is ready at once, never inlined, so that it stays a call. */
static __attribute__((noinline)) int ready(void)
{
    __asm__ volatile("" ::: "memory");
    return 0;
}

/* The same, ready after one turn of another task. A scope's timer is armed when a task under it begins to wait, and the
 * yield of the only ready task is no wait. So there are two tasks, each of which waits for what the other gives it in its
 * next turn, and each of these waits has its timeout: an op is one scope, whose timer is armed and disarmed, a wait that
 * another task ends, and a switch. Where the two are on different workers for a moment, a permit may be there before it is
 * asked for, and no timer is armed: seen once or twice in four million, since a woken task goes to the worker of its waker. */
struct turns {
    weft_sem *mine, *others;
    long n;
};

static int take_turns(void *arg)
{
    const struct turns *me = arg;
    int rc = 0;
    for (long i = 0; rc == 0 && i < me->n; i++) {
        weft_scope t;
        weft_scope_begin(&t, weft_sec(1));
        rc = weft_scope_end(&t, weft_sem_acquire(me->mine, 1));
        weft_sem_release(me->others, 1);
    }
    return rc;
}

static int churn_ready(long n)
{
    int rc = 0;
    for (long i = 0; rc == 0 && i < n; i++) {
        weft_scope t;
        weft_scope_begin(&t, weft_sec(1));
        rc = weft_scope_end(&t, ready());
    }
    return rc;
}

static int churn_pending(long n)
{
    weft_sem a = WEFT_SEM_INIT(1), b = WEFT_SEM_INIT(0);
    struct turns one = { .mine = &a, .others = &b, .n = n - n / 2 };
    struct turns other = { .mine = &b, .others = &a, .n = n / 2 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, take_turns, &one);
    weft_spawn(&s, take_turns, &other);
    return weft_scope_end(&s, 0);
}

/* No result to verify but this: a timeout that struck fails the loop with -ETIMEDOUT. */
int work_timer_churn(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n");
    bool pending = job_arg(j, "pending");

    job_start(j);
    int rc = pending ? churn_pending(n) : churn_ready(n);
    job_stop(j, n);
    return rc;
}
