/* peer.h - what the workloads of weft-peer share: their job, its clock, their verdict.
 *
 * Owns      nothing that outlives a run. peer.c fills a job from the command line, one workload
 * (work_*.c) runs it as the first task of a runtime, and peer.c prints what it left in the job.
 * Callers   peer.c and work_*.c. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <weft.h>

enum { PARAMS_MAX = 5, EXTRAS_MAX = 5 };

/* One argument that a workload takes, as `key=value`. */
struct param {
    const char *key;
    long value; /* the default, until the command line says otherwise */
    long least, most;
};

/* A figure beside the ones that every workload has. */
struct extra {
    const char *key;
    double value;
};

/* One run. The workload reads `params` by job_arg and writes the rest by the verbs below. */
struct job {
    struct param params[PARAMS_MAX];
    long ops;
    double seconds, cpu_s;
    struct extra extras[EXTRAS_MAX];
    int64_t started_ns, cpu_started_ns;
};

/* The value of an argument that the workload declared. */
long job_arg(const struct job *j, const char *key);

/* Starts the clocks, and stops them after `ops` operations. A later start begins anew. */
void job_start(struct job *j);
void job_stop(struct job *j, long ops);

void job_extra(struct job *j, const char *key, double value);

/* 0 if the result is right, else a failure that says both. */
int job_verify(long got, long due);

/* What the process occupies now (not at its peak). */
long resident_bytes(void);

/* The workloads, each run as a task on a struct job: 0 or a negative errno, with its detail. */
weft_fn work_spawn_join, work_spawn_many, work_fib, work_skynet; /* work_forkjoin.c */
weft_fn work_yield, work_idle_memory, work_run_blocking;         /* work_sched.c */
weft_fn work_waiters, work_idle_connections;                     /* work_idle.c */
weft_fn work_timers, work_timer_churn;                           /* work_time.c */
weft_fn work_pingpong, work_chan_mpmc;                           /* work_coord.c */
weft_fn work_mutex;                                              /* work_sync.c */
weft_fn work_file_read;                                          /* work_file.c */
weft_fn work_echo;                                               /* work_echo.c */
weft_fn work_udp_echo;                                           /* work_udp.c */
weft_fn work_proxy;                                              /* work_proxy.c */
weft_fn work_process_spawn;                                      /* work_process.c */
weft_fn work_tails_hogs, work_tails_blocked, work_tails_storm;   /* work_tails.c */
weft_fn work_tails_timers, work_tails_pair, work_tails_ready;

#endif
