/* work_sync.c - workloads of tasks that exclude one another: mutex.
 *
 * What it does not measure: how evenly the lock goes round and how long one waits (micro_mutex.c), and locks that nobody else
 * wants. */
#include "peer.h"

#include <errno.h>

struct counter {
    weft_mutex lock;
    long count, each;
    bool hold;
};

static int count_up(void *arg)
{
    struct counter *c = arg;
    int rc = 0;
    for (long i = 0; rc == 0 && i < c->each; i++) {
        rc = weft_mutex_lock(&c->lock);
        if (rc < 0)
            return rc;
        c->count++;
        if (c->hold)
            rc = weft_yield();
        weft_mutex_unlock(&c->lock);
    }
    return rc;
}

int work_mutex(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), tasks = job_arg(j, "tasks");
    if (tasks > n)
        return weft_fail(-EINVAL, "tasks has to be at most n");
    struct counter c = { .each = n / tasks, .hold = job_arg(j, "hold") != 0 };
    job_start(j);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < tasks; i++)
        weft_spawn(&s, count_up, &c);
    int rc = weft_scope_end(&s, 0);
    job_stop(j, c.each * tasks);
    return rc < 0 ? rc : job_verify(c.count, c.each * tasks);
}
