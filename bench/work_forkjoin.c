/* work_forkjoin.c - workloads that spawn tasks and join them: spawn_join, spawn_many, fib, skynet.
 *
 * What they do not measure: tasks that wait for anything but each other. A child that its parent
 * joins before anybody took it runs as a plain call on the parent's stack, so but for spawn_join
 * park=1 most children here never need a stack of their own. */
#include "peer.h"

#include <errno.h>
#include <stdatomic.h>

/* spawn_join: a child that hands back its index. */
struct child {
    long index;
    long result;
    bool park; /* yield once on the way */
};

static int hand_back(void *arg)
{
    struct child *c = arg;
    if (c->park) {
        int rc = weft_yield();
        if (rc < 0)
            return rc;
    }
    c->result = c->index;
    return 0;
}

/* One child at a time. */
static int join_each(long n, bool park, long *sum)
{
    struct child c = { .park = park };
    int rc = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; rc == 0 && i < n; i++) {
        c.index = i;
        rc = weft_task_join(weft_spawn(&s, hand_back, &c));
        *sum += c.result;
    }
    return weft_scope_end(&s, rc);
}

/* Two at a time, the older joined first: its sibling lies above it in the run queue. */
static int join_in_pairs(long n, bool park, long *sum)
{
    struct child older = { .park = park }, younger = { .park = park };
    int rc = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; rc == 0 && i < n; i += 2) {
        older.index = i;
        younger.index = i + 1;
        weft_task first = weft_spawn(&s, hand_back, &older);
        weft_task second = weft_spawn(&s, hand_back, &younger);
        rc = weft_task_join(first);
        if (rc == 0)
            rc = weft_task_join(second);
        *sum += older.result + younger.result;
    }
    return weft_scope_end(&s, rc);
}

int work_spawn_join(void *arg)
{
    struct job *j = arg;
    bool park = job_arg(j, "park"), fifo = job_arg(j, "fifo");
    long n = job_arg(j, "n"), sum = 0;
    if (fifo)
        n -= n % 2;

    job_start(j);
    int rc = fifo ? join_in_pairs(n, park, &sum) : join_each(n, park, &sum);
    job_stop(j, n);
    return rc < 0 ? rc : job_verify(sum, n * (n - 1) / 2);
}

/* spawn_many */
static int add_one(void *arg)
{
    atomic_long *count = arg;
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
    return 0;
}

int work_spawn_many(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), rounds = job_arg(j, "rounds");
    int rc = 0;

    job_start(j);
    for (long r = 0; rc == 0 && r < rounds; r++) {
        atomic_long count = 0;
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (long i = 0; i < n; i++)
            weft_spawn(&s, add_one, &count);
        rc = weft_scope_end(&s, 0);
        if (rc == 0)
            rc = job_verify(atomic_load(&count), n);
    }
    job_stop(j, n * rounds);
    return rc;
}

/* fib: the child gets n - 1, n - 2 is the parent's own; no cutoff. */
struct fib {
    long n;
    long out;
};

static int fib(void *arg)
{
    struct fib *f = arg, a = { .n = f->n - 1 }, b = { .n = f->n - 2 };
    if (f->n < 2) {
        f->out = f->n;
        return 0;
    }
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, fib, &a);
    int rc = weft_scope_end(&s, fib(&b));
    f->out = a.out + b.out;
    return rc;
}

static long fibonacci(long n)
{
    long number = 0, next = 1;
    for (long i = 0; i < n; i++) {
        long sum = number + next;
        number = next;
        next = sum;
    }
    return number;
}

int work_fib(void *arg)
{
    struct job *j = arg;
    struct fib root = { .n = job_arg(j, "n") };

    job_start(j);
    int rc = fib(&root);
    job_stop(j, fibonacci(root.n + 1) - 1);
    return rc < 0 ? rc : job_verify(root.out, fibonacci(root.n));
}

/* skynet: a tree of fan-out 10 whose i-th leaf gives i. */
enum { FAN_OUT = 10 };

struct node {
    long first; /* its first leaf */
    long size;  /* how many leaves */
    long sum;
};

static int node(void *arg)
{
    struct node *me = arg, children[FAN_OUT];
    if (me->size == 1) {
        me->sum = me->first;
        return 0;
    }
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < FAN_OUT; i++) {
        long size = me->size / FAN_OUT;
        children[i] = (struct node){ .first = me->first + i * size, .size = size };
        weft_spawn(&s, node, &children[i]);
    }
    int rc = weft_scope_end(&s, 0);
    me->sum = 0;
    for (int i = 0; i < FAN_OUT; i++)
        me->sum += children[i].sum;
    return rc;
}

int work_skynet(void *arg)
{
    struct job *j = arg;
    long leaves = job_arg(j, "leaves"), rounds = job_arg(j, "rounds"), tasks = 0, level = 1;
    int rc = 0;
    while (level < leaves)
        tasks += level *= FAN_OUT;
    if (level != leaves)
        return weft_fail(-EINVAL, "leaves has to be a power of %d", FAN_OUT);

    job_start(j);
    for (long r = 0; rc == 0 && r < rounds; r++) {
        struct node root = { .size = leaves };
        rc = node(&root);
        if (rc == 0)
            rc = job_verify(root.sum, leaves * (leaves - 1) / 2);
    }
    job_stop(j, tasks * rounds);
    return rc;
}
