/* stress/support.c - the command line, counts, and what is printed when something is wrong.
 *
 * What the tasks do, weft_dump says; what the workers' queues hold is read here from the runtime's own structures while
 * everything goes on: it may be slightly wrong, and it is the last thing the program does.
 * Tested    stress/stall_test.sh */
#include "support.h"

#include <signal.h>
#include <stdarg.h>
#include <time.h>

#include "base/clock.h"
#include "engine/worker.h"

uint64_t stress_seed = 1;
int stress_workers = 2;
double stress_seconds = 2;

static char command[256];
static const char *program;
static int64_t began;
static atomic_llong spent; /* of stress_seconds, in ns */
static atomic_llong stood; /* ns */
static atomic_ulong moves;
static _Atomic(weft_runtime *) watched;
static int failed;

/* ---- what everybody does */

static void dump_workers(weft_runtime *rt)
{
    uint64_t now = weft__ticks(), word = at_load(&rt->group.idle.word);
    fprintf(stderr, "  parked %u searching %u spares %u io_blocked %u armed %u role %llu inject %llu now %lld\n",
            (unsigned)(word & 0xffff), (unsigned)(word >> 16 & 0xffff), (unsigned)(word >> 32), ati_load(&rt->group.idle.io_blocked),
            ati_load(&rt->poller.armed), (unsigned long long)at_load(&rt->poller.role),
            (unsigned long long)weft__inject_len(&rt->group.inject), (long long)weft_now());
    weft_worker_stats st[1024];
    int n = weft_stats(rt, st, 1024);
    for (int i = 0; i < n; i++) {
        struct weft__sched *s = rt->group.all[i];
        uint64_t since = at_load(&s->since);
        int64_t earliest = weft__timers_earliest(&rt->workers[i]->timers);
        fprintf(stderr,
                "  worker %d%s ran %llu inlined %llu spawned %llu stolen %llu parked %llu woke %llu polls %llu events "
                "%llu timers %llu | ring %u deque %llu next %llu pinned %llu in turn for %lld us, first timer in "
                "%lld us\n",
                i + 1, st[i].asleep ? " asleep" : "", (unsigned long long)st[i].ran,
                (unsigned long long)st[i].inlined, (unsigned long long)st[i].spawned,
                (unsigned long long)st[i].stolen, (unsigned long long)st[i].parked, (unsigned long long)st[i].woke,
                (unsigned long long)st[i].polls, (unsigned long long)st[i].events, (unsigned long long)st[i].timers,
                weft__ready_len(&s->ring), (unsigned long long)weft__deque_size(&s->deque),
                (unsigned long long)at_load(&s->next.item), (unsigned long long)at_load(&s->pinned.count),
                since ? (long long)weft__ticks_to_us(now - since) : 0,
                earliest == INT64_MAX ? -1 : (long long)(earliest - weft_now()) / 1000);
    }
}

static void dump(void)
{
    weft_runtime *rt = atomic_load(&watched);
    alarm(20); /* should the dump get stuck itself */
    if (rt)
        dump_workers(rt);
    fflush(stderr);
    weft_ignore(weft_dump(2));
}

void stress_fail(const char *file, int line, const char *format, ...)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    va_list args;
    pthread_mutex_lock(&once); /* the first one tells */
    fflush(stdout);
    fprintf(stderr, "%s:%d: check failed: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nafter %.3f s of: %s\n", (double)(weft_now() - began) / 1e9, command);
    dump();
    abort();
}

enum { BEAT = 100000000 }; /* ns, of the watchdog */

/* Of a time in which the machine stood still no more counts than this: what a run has to come to at least is for the time
 * that it had. */
static void spend(int64_t ns)
{
    if (ns > 5 * BEAT)
        atomic_fetch_add(&stood, ns - BEAT);
    atomic_fetch_add(&spent, ns < 2 * BEAT ? ns : 2 * BEAT);
}

static void *watch(void *arg)
{
    const char *own = getenv("STRESS_PATIENCE"); /* seconds; for debugging */
    const int64_t patience = weft_sec(own ? atoi(own) : STRESS_TSAN ? 60 : 10);
    unsigned long seen = atomic_load(&moves);
    int64_t since = weft_now();
    (void)arg;
    for (;;) {
        int64_t from = weft_now();
        nanosleep(&(struct timespec){ .tv_nsec = BEAT }, NULL);
        spend(weft_now() - from);
        unsigned long now = atomic_load(&moves);
        if (now != seen) {
            seen = now;
            since = weft_now();
        } else if (weft_now() - since > patience) {
            fflush(stdout);
            fprintf(stderr, "%s: stall: nothing has moved for %lld s, after %.3f s of: %s\n", program,
                    (long long)(patience / 1000000000), (double)(weft_now() - began) / 1e9, command);
            dump();
            if (getenv("STRESS_STAY")) { /* for a debugger */
                alarm(0);
                fprintf(stderr, "process %d stays\n", (int)getpid());
                pause();
            }
            abort();
        }
    }
    return NULL;
}

/* ---- the command line */

static void usage(void)
{
    fprintf(stderr, "usage: %s [--seed S] [--seconds N] [--workers W]\n", program);
    exit(2);
}

void stress_begin(int argc, char **argv, const char *name)
{
    program = name;
    for (int i = 1; i < argc; i += 2) {
        char *end = NULL;
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--seed") == 0)
            stress_seed = strtoull(value, &end, 0);
        else if (strcmp(argv[i], "--seconds") == 0)
            stress_seconds = strtod(value, &end);
        else if (strcmp(argv[i], "--workers") == 0)
            stress_workers = (int)strtol(value, &end, 0);
        else
            usage();
        if (!end || end == value || *end != 0)
            usage();
    }
    if (stress_workers < 1 || stress_workers > 1024 || stress_seconds < 0)
        usage();
    snprintf(command, sizeof command, "stress/%s --seed %llu --seconds %g --workers %d", name,
            (unsigned long long)stress_seed, stress_seconds, stress_workers);
    printf("%s\n", command);
    fflush(stdout);
    began = weft_now();
    pthread_detach(thread_start(watch, NULL));
}

bool stress_over(void)
{
    return (double)atomic_load_explicit(&spent, memory_order_relaxed) >= stress_seconds * 1e9;
}

static uint64_t needed(const struct stress_need *k)
{
    return k->least + stress_least(k->a_second);
}

bool stress_over_when(const struct stress_need *needs, int n)
{
    static atomic_llong was_up;
    long long none = 0, now = weft_now();
    if (!stress_over())
        return false;
    atomic_compare_exchange_strong(&was_up, &none, now);
    for (int i = 0; i < n; i++) /* twice as much: what is needed grows with the processor time until the end */
        if (atomic_load(needs[i].n) < 2 * needed(&needs[i]))
            return now - atomic_load(&was_up) > weft_sec(30);
    return true;
}

double stress_stood(void)
{
    return (double)atomic_load(&stood) / (double)(weft_now() - began);
}

void stress_moved(void)
{
    atomic_fetch_add_explicit(&moves, 1, memory_order_relaxed);
}

void stress_watch(weft_runtime *rt)
{
    atomic_store(&watched, rt);
}

weft_runtime *stress_runtime(void)
{
    weft_runtime *rt = NULL;
    int rc = weft_runtime_create(&rt, &(weft_options){ .workers = stress_workers });
    CHECK(rc == 0, "weft_runtime_create: %s", weft_strerror(rc));
    stress_watch(rt);
    return rt;
}

uint64_t stress_least(uint64_t a_second)
{
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    double had = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9, seconds = had < stress_seconds ? had : stress_seconds;
    double n = (double)a_second * seconds / (stress_workers > 8 ? stress_workers / 8.0 : 1);
    return (uint64_t)(n / (STRESS_TSAN ? 20 : STRESS_ASAN ? 5 : 1));
}

void stress_count(const char *what, uint64_t n, uint64_t least)
{
    bool bad = n < least;
    printf("  %-28s %12llu   at least %llu%s\n", what, (unsigned long long)n, (unsigned long long)least,
            bad ? "   TOO FEW" : "");
    failed |= bad;
}

void stress_counts(const struct stress_need *needs, int n)
{
    for (int i = 0; i < n; i++)
        stress_count(needs[i].what, atomic_load(needs[i].n), needed(&needs[i]));
}

void stress_worst(const char *what, int64_t ns, int64_t most)
{
    bool bad = ns > most;
    printf("  %-28s %12.3f ms at most %.0f ms%s\n", what, (double)ns / 1e6, (double)most / 1e6,
            bad ? "   TOO LATE" : "");
    failed |= bad;
}

int stress_end(void)
{
    printf("%s: %s after %.3f s\n", program, failed ? "FAILED" : "passed", (double)(weft_now() - began) / 1e9);
    fflush(stdout);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
