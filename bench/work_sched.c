/* work_sched.c - workloads of tasks that take turns or wait: yield, idle_memory, run_blocking.
 *
 * What they do not measure: yield has no work between the turns, so nothing is ever cold, and
 * nobody sleeps or wakes up. idle_memory has tasks that used one page of their stacks, and one
 * waker for all. run_blocking calls an empty function: it is the way to a pool thread and back. */
#include "peer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* yield */
struct race {
    long turns;       /* to be taken by each */
    atomic_bool over; /* somebody has taken all of its turns */
};

struct yielder {
    struct race *race;
    long seen; /* turns taken when it saw that the race was over */
    long taken;
};

/* Two loops, so that all that the question of fairness costs is a look at a flag that hardly
 * changes. */
static int take_turns(void *arg)
{
    struct yielder *y = arg;
    struct race *race = y->race;
    long i = 0;
    int rc = 0;
    for (; rc == 0 && i < race->turns; i++) {
        if (atomic_load_explicit(&race->over, memory_order_relaxed))
            break;
        rc = weft_yield();
    }
    y->seen = i;
    if (i == race->turns)
        atomic_store_explicit(&race->over, true, memory_order_relaxed);
    for (; rc == 0 && i < race->turns; i++)
        rc = weft_yield();
    y->taken = i;
    return rc;
}

/* How evenly the turns went round: the most by the fewest, none being counted as one. */
static double turns_ratio(const struct yielder *all, long tasks)
{
    long least = all[0].seen, most = all[0].seen;
    for (long i = 1; i < tasks; i++) {
        if (all[i].seen < least)
            least = all[i].seen;
        if (all[i].seen > most)
            most = all[i].seen;
    }
    return (double)most / (double)(least > 0 ? least : 1);
}

int work_yield(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), tasks = job_arg(j, "tasks"), taken = 0;
    if (tasks > n)
        return weft_fail(-EINVAL, "tasks has to be at most n");
    struct race race = { .turns = n / tasks };
    struct yielder *all = calloc((size_t)tasks, sizeof *all);
    if (!all)
        return -ENOMEM;

    job_start(j);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < tasks; i++) {
        all[i].race = &race;
        weft_spawn(&s, take_turns, &all[i]);
    }
    int rc = weft_scope_end(&s, 0);
    job_stop(j, race.turns * tasks);

    for (long i = 0; i < tasks; i++)
        taken += all[i].taken;
    job_extra(j, "turns_ratio", turns_ratio(all, tasks));
    free(all);
    return rc < 0 ? rc : job_verify(taken, race.turns * tasks);
}

/* idle_memory: the gate is a task that everybody joins; it ends when it has read a byte. */
struct gate {
    int read_end, write_end;
    weft_task keeper;
    atomic_bool open;
    atomic_long waiting;
};

/* A byte for each task. */
struct guest {
    unsigned char outside; /* 1 until it was let through */
};

static struct gate gate;

static int keep_gate(void *arg)
{
    char byte;
    (void)arg;
    int rc = weft_read(gate.read_end, &byte, 1);
    if (rc < 0)
        return rc;
    atomic_store(&gate.open, true);
    return rc == 1 ? 0 : -EPIPE;
}

static int wait_at_gate(void *arg)
{
    struct guest *g = arg;
    atomic_fetch_add_explicit(&gate.waiting, 1, memory_order_relaxed);
    int rc = weft_task_join(gate.keeper);
    if (rc < 0)
        return rc;
    if (!atomic_load_explicit(&gate.open, memory_order_relaxed))
        return weft_fail(-EBADMSG, "wrong result: let through a closed gate");
    g->outside = 0;
    return 0;
}

/* Until all have come, and settled. Ends early with -ECANCELED when one of them failed. */
static int await_guests(long n)
{
    int rc = 0;
    while (rc == 0 && atomic_load_explicit(&gate.waiting, memory_order_relaxed) < n)
        rc = weft_sleep(weft_ms(1));
    return rc < 0 ? rc : weft_sleep(weft_ms(200));
}

static int fill_and_open(struct job *j, long n, struct guest *guests)
{
    long before = resident_bytes();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    gate.keeper = weft_spawn(&s, keep_gate, NULL);
    for (long i = 0; i < n; i++)
        weft_spawn(&s, wait_at_gate, &guests[i]);
    int rc = await_guests(n);
    job_extra(j, "bytes_per_task", (double)(resident_bytes() - before) / (double)n);

    job_start(j);
    if (rc == 0)
        rc = weft_write_all(gate.write_end, "", 1);
    rc = weft_scope_end(&s, rc);
    job_stop(j, n);
    return rc;
}

int work_idle_memory(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), outside = 0;
    int ends[2];
    int rc = weft_pair(ends);
    if (rc < 0)
        return rc;
    gate.read_end = ends[0];
    gate.write_end = ends[1];

    rc = -ENOMEM;
    struct guest *guests = malloc((size_t)n * sizeof *guests);
    if (!guests)
        goto no_guests;
    memset(guests, 1, (size_t)n * sizeof *guests); /* and so resident before the first spawn */
    rc = fill_and_open(j, n, guests);
    for (long i = 0; i < n; i++)
        outside += guests[i].outside;
    free(guests);
    if (rc == 0)
        rc = job_verify(outside, 0);
no_guests:
    weft_close(ends[0]);
    weft_close(ends[1]);
    return rc;
}

/* run_blocking */
static int empty(void *arg)
{
    return *(const int *)arg;
}

static int call_often(void *arg)
{
    const long *calls = arg;
    for (long i = 0; i < *calls; i++) {
        int number = (int)i;
        int rc = weft_blocking(empty, &number);
        if (rc < 0)
            return rc;
        if (rc != number)
            return job_verify(rc, number);
    }
    return 0;
}

int work_run_blocking(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), tasks = job_arg(j, "tasks"), each = n / tasks;
    if (tasks > n)
        return weft_fail(-EINVAL, "tasks has to be at most n");

    job_start(j);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < tasks; i++)
        weft_spawn(&s, call_often, &each);
    int rc = weft_scope_end(&s, 0);
    job_stop(j, each * tasks);
    return rc;
}
