/* peer.c - weft as a peer among runtimes: one workload, one line of JSON.
 *
 *     weft-peer list | version | WORKLOAD [key=value ...]
 *
 * Owns      the table of workloads with their arguments and defaults, the command line, the clocks
 * and the output. The work itself is in work_*.c. Measures  wall and CPU time of the whole process
 * (workers, I/O thread and pool threads) from just before the first operation to just after the
 * last, and the peak of resident memory. It does not measure the start and the end of the runtime.
 * With several workers ns_per_op is throughput, not how long one operation takes from end to end.
 * Exits     0 done and right; 1 wrong or failed; 2 not understood. */
#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct workload {
    const char *name;
    weft_fn *run;
    struct param params[PARAMS_MAX - 1]; /* beside `threads`, which all have */
    bool silent;                         /* a server: prints nothing */
};

#define MILLION 1000000L
#define TOGGLE(key)                                                                                \
    {                                                                                              \
        key, 0, 0, 1                                                                               \
    }

static const struct workload workloads[] = {
    { "chan_mpmc", work_chan_mpmc,
            { { "n", 20 * MILLION, 4, 1000 * MILLION }, { "cap", 1024, 1, MILLION } }, false },
    { "echo", work_echo,
            { { "port", 9000, 1, 65535 }, { "work_us", 0, 0, MILLION }, { "hogs", 0, 0, 1023 }, TOGGLE("stream") },
            true },
    { "fib", work_fib, { { "n", 32, 2, 60 } }, false },
    { "file_read", work_file_read,
            { { "n", MILLION / 2, 1, 1000 * MILLION }, { "tasks", 64, 1, MILLION }, TOGGLE("lane") }, false },
    { "idle_connections", work_idle_connections, { { "n", 1000, 1, MILLION } }, false },
    { "idle_memory", work_idle_memory, { { "n", MILLION / 10, 1, 100 * MILLION } }, false },
    { "mutex", work_mutex,
            { { "n", 10 * MILLION, 1, 1000 * MILLION }, { "tasks", 100, 1, MILLION }, TOGGLE("hold") }, false },
    { "pingpong", work_pingpong,
            { { "n", 4 * MILLION, 1, 1000 * MILLION }, { "pairs", 1, 1, MILLION } }, false },
    { "process_spawn", work_process_spawn,
            { { "n", 2000, 1, 1000 * MILLION }, { "tasks", 1, 1, MILLION } }, false },
    { "proxy", work_proxy, { { "port", 9000, 1, 65535 }, { "to", 9001, 1, 65535 } }, true },
    { "run_blocking", work_run_blocking,
            { { "n", MILLION / 10, 1, 1000 * MILLION }, { "tasks", 1, 1, MILLION } }, false },
    { "skynet", work_skynet,
            { { "leaves", MILLION, 10, 1000 * MILLION }, { "rounds", 2, 1, MILLION } }, false },
    { "spawn_join", work_spawn_join,
            { { "n", 4 * MILLION, 2, 1000 * MILLION }, TOGGLE("park"), TOGGLE("fifo") }, false },
    { "spawn_many", work_spawn_many,
            { { "n", MILLION, 1, 100 * MILLION }, { "rounds", 3, 1, MILLION } }, false },
    { "tails_blocked", work_tails_blocked, { { "port", 9000, 1, 65535 }, { "ms", 1000, 1, MILLION } }, true },
    { "tails_hogs", work_tails_hogs,
            { { "port", 9000, 1, 65535 }, { "us", 1000, 1, MILLION }, TOGGLE("yields") }, true },
    { "tails_pair", work_tails_pair, { { "ms", 2000, 1, MILLION } }, false },
    { "tails_ready", work_tails_ready, { { "ms", 2000, 10, MILLION }, { "timers", 16, 1, MILLION } }, false },
    { "tails_storm", work_tails_storm, { { "port", 9000, 1, 65535 } }, true },
    { "tails_timers", work_tails_timers,
            { { "port", 9000, 1, 65535 }, { "n", MILLION, 1, 100 * MILLION }, { "ms", 60000, 1, MILLION } }, true },
    { "timer_churn", work_timer_churn,
            { { "n", 4 * MILLION, 1, 1000 * MILLION }, TOGGLE("pending") }, false },
    { "timers", work_timers, { { "n", MILLION, 1, 100 * MILLION }, { "rounds", 1, 1, MILLION } },
            false },
    { "udp_echo", work_udp_echo,
            { { "port", 9000, 1, 65535 }, { "batch", 32, 1, 1024 }, { "tasks", 1, 1, MILLION } }, true },
    { "waiters", work_waiters, { { "n", MILLION / 10, 1, 100 * MILLION } }, false },
    { "yield", work_yield,
            { { "n", 20 * MILLION, 1, 1000 * MILLION }, { "tasks", 1000, 1, MILLION } }, false },
};

enum { WORKLOADS = sizeof workloads / sizeof *workloads };

/* What the first task gets. */
struct run {
    struct job job;
    const struct workload *workload;
    bool told; /* the failure, if there was one */
};

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The job's argument of that name, with `key_bytes` bytes; NULL if the workload takes none such. */
static const struct param *find_param(const struct job *j, const char *key, size_t key_bytes)
{
    for (const struct param *p = j->params; p < j->params + PARAMS_MAX && p->key; p++)
        if (strlen(p->key) == key_bytes && memcmp(p->key, key, key_bytes) == 0)
            return p;
    return NULL;
}

long job_arg(const struct job *j, const char *key)
{
    const struct param *p = find_param(j, key, strlen(key));
    if (p)
        return p->value;
    fprintf(stderr, "weft-peer: '%s' is not in the table of workloads\n", key);
    abort();
}

void job_start(struct job *j)
{
    j->cpu_started_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    j->started_ns = read_clock(CLOCK_MONOTONIC);
}

void job_stop(struct job *j, long ops)
{
    j->seconds = (double)(read_clock(CLOCK_MONOTONIC) - j->started_ns) / 1e9;
    j->cpu_s = (double)(read_clock(CLOCK_PROCESS_CPUTIME_ID) - j->cpu_started_ns) / 1e9;
    j->ops = ops;
}

void job_extra(struct job *j, const char *key, double value)
{
    struct extra *e = j->extras;
    while (e->key && strcmp(e->key, key) != 0)
        if (++e == j->extras + EXTRAS_MAX)
            abort();
    *e = (struct extra){ key, value };
}

int job_verify(long got, long due)
{
    return got == due ? 0 : weft_fail(-EBADMSG, "wrong result: %ld instead of %ld", got, due);
}

long resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &total, &resident) != 2)
        abort();
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

/* VmHWM rather than getrusage: ru_maxrss begins with the peak of the program that called exec. */
static long peak_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    if (!f)
        abort();
    while (kib < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) != 1)
            kib = -1;
    fclose(f);
    return kib;
}

static void print_report(const struct run *r)
{
    const struct job *j = &r->job;
    printf("{\"peer\":\"weft\",\"workload\":\"%s\",\"ops\":%ld,\"seconds\":%.6f,"
           "\"ns_per_op\":%.2f,\"rss_kib\":%ld,\"cpu_s\":%.6f",
            r->workload->name, j->ops, j->seconds, j->seconds * 1e9 / (double)j->ops, peak_kib(),
            j->cpu_s);
    for (const struct extra *e = j->extras; e < j->extras + EXTRAS_MAX && e->key; e++)
        printf(",\"%s\":%.3f", e->key, e->value);
    puts("}");
}

/* The first task. It tells its failure itself: the detail is the task's. */
static int first_task(void *arg)
{
    struct run *r = arg;
    int rc = r->workload->run(&r->job);
    if (rc < 0) {
        fprintf(stderr, "weft-peer: %s: %s\n", r->workload->name, weft_error_text(rc));
        r->told = true;
    }
    return rc;
}

/* Takes one `key=value` into the run; false if it makes no sense. The last word for a key counts.
 * What other workloads know is not for this one, and no error: one set of words may go to several.
 */
static bool take_word(struct run *r, const char *word)
{
    const char *equals = strchr(word, '=');
    if (!equals || equals == word) {
        fprintf(stderr, "weft-peer: '%s' is not key=value\n", word);
        return false;
    }
    const struct param *p = find_param(&r->job, word, (size_t)(equals - word));
    char *rest;
    errno = 0;
    long value = strtol(equals + 1, &rest, 10);
    if (errno || *rest || rest == equals + 1) {
        fprintf(stderr, "weft-peer: '%s' has no integer\n", word);
        return false;
    }
    if (!p) {
        fprintf(stderr, "weft-peer: %s ignores '%s'\n", r->workload->name, word);
        return true;
    }
    if (value < p->least || value > p->most) {
        fprintf(stderr, "weft-peer: %s is %ld to %ld\n", p->key, p->least, p->most);
        return false;
    }
    r->job.params[p - r->job.params].value = value;
    return true;
}

static int usage(void)
{
    fputs("usage: weft-peer list | version | WORKLOAD [key=value ...]\n", stderr);
    return 2;
}

static int print_list(void)
{
    for (int i = 0; i < WORKLOADS; i++)
        printf("%s%s", i ? " " : "", workloads[i].name);
    return puts("") < 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "list") == 0)
        return print_list();
    if (strcmp(name, "version") == 0)
        return printf("weft %s\n", weft_version()) < 0;

    struct run r = { 0 };
    for (int i = 0; i < WORKLOADS; i++)
        if (strcmp(name, workloads[i].name) == 0)
            r.workload = &workloads[i];
    if (!r.workload)
        return usage();
    r.job.params[0] = (struct param){ "threads", 2, 1, 1024 };
    memcpy(r.job.params + 1, r.workload->params, sizeof r.workload->params);
    for (int i = 2; i < argc; i++)
        if (!take_word(&r, argv[i]))
            return 2;

    int rc =
            weft_run(first_task, &r, &(weft_options){ .workers = (int)job_arg(&r.job, "threads") });
    if (rc < 0 && !r.told)
        fprintf(stderr, "weft-peer: %s: %s\n", name, weft_strerror(rc));
    if (rc < 0)
        return 1;
    if (!r.workload->silent)
        print_report(&r);
    return 0;
}
