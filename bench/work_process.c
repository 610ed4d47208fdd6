/* work_process.c - process_spawn: programs are started and waited for.
 *
 * Each of `tasks` tasks starts n / tasks times the program that BENCH_CHILD names (/bin/true, if it names none), with the
 * caller's own standard descriptors, and reaps it. bench/nothing_*.S is a program that does nothing at all: most of the time
 * that /bin/true takes is its loader's. `children_cpu_s` is the CPU time that is the children's: a child shares its parent's
 * memory until it is another program, and what it does till then is booked on it.
 *
 * What it does not measure: pipes, large environments, many open descriptors. */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

struct spawning {
    long each;
    const char *argv[2];
};

static double children_seconds(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_CHILDREN, &u) < 0)
        abort();
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int spawn_and_reap(const char *const *argv)
{
    weft_process *p = NULL;
    int status = -1;
    int rc = weft_process_open(&p, argv, NULL);
    if (rc < 0)
        return weft_fail(rc, "%s cannot be started", argv[0]);
    rc = weft_process_wait(p, &status);
    weft_process_close(&p);
    return rc < 0 ? rc : job_verify(status, 0);
}

static int spawn_often(void *arg)
{
    const struct spawning *s = arg;
    int rc = 0;
    for (long i = 0; rc == 0 && i < s->each; i++)
        rc = spawn_and_reap(s->argv);
    return rc;
}

int work_process_spawn(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), tasks = job_arg(j, "tasks");
    const char *child = getenv("BENCH_CHILD");
    struct spawning s = { .each = n / tasks, .argv = { child ? child : "/bin/true", NULL } };
    if (tasks > n)
        return weft_fail(-EINVAL, "tasks has to be at most n");
    double before = children_seconds();
    job_start(j);
    weft_scope all;
    weft_scope_begin(&all, WEFT_NEVER);
    for (long i = 0; i < tasks; i++)
        weft_spawn(&all, spawn_often, &s);
    int rc = weft_scope_end(&all, 0);
    job_stop(j, s.each * tasks);
    job_extra(j, "children_cpu_s", children_seconds() - before);
    return rc;
}
