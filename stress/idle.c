/* stress/idle.c - how late is what arrives at a runtime that sleeps, computes, or is just falling asleep.
 *
 * A plain thread makes bursts of foreign spawns, of timers and of socket events, at times beside jobs that compute for
 * long without calling weft; then it waits until all is served, and for a while does nothing at all. Nothing else
 * is going on, so a wake that is lost shows.
 *
 * Law       everything is served within LATE of its time, with nobody else's help. Prints the worst of each kind.
 *           On each processor a thread measures how late the machine itself is: a burst in which that was STOOD or more
 *           says nothing of lateness, and is left out; but all of it has to be served. */
#include "support.h"

enum { READERS = 6, JOBS = 3, BURST = 24, LATE_MS = SCALED(500, 3000), BEAT_MS = 10, STOOD_MS = 100, PROCESSORS = 64 };

enum kind { SPAWN, TIMER, SOCKET, CHILD, KINDS };
static const char *const kind_names[] = { "latest foreign spawn", "latest timer", "latest socket event",
    "latest child of a computing job" };

static atomic_llong worst[KINDS]; /* of this burst */
static long long worst_ever[KINDS];
static atomic_ulong counts[KINDS];
static atomic_int outstanding;
static atomic_ulong n_jobs, n_bursts, n_left_out, n_long_gaps;
static weft_scope service;

static void served(enum kind k, int64_t due)
{
    int64_t late = weft_now() - due;
    CHECK(late >= 0, "%s: %lld ns early", kind_names[k], (long long)-late);
    raise_to(&worst[k], late);
    atomic_fetch_add(&counts[k], 1);
    atomic_fetch_sub(&outstanding, 1);
    stress_moved();
}

struct due {
    enum kind kind;
    int64_t at;
};

static int serve(void *arg)
{
    struct due *d = arg;
    if (d->kind == TIMER)
        CHECK(weft_sleep_until(d->at) == 0, "sleep");
    served(d->kind, d->at);
    return 0;
}

static void spawn_due(weft_scope *s, enum kind k, int64_t at)
{
    struct due d = { k, at };
    atomic_fetch_add(&outstanding, 1);
    CHECK(weft_spawn_copy(s, serve, &d, sizeof d) > 0, "a spawn failed");
}

/* Computes without a call to weft; what it has spawned before, others have to take. */
struct job {
    int64_t ns;
    int children;
};

static int job(void *arg)
{
    struct job *j = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < j->children; i++)
        spawn_due(&s, CHILD, weft_now());
    compute(j->ns);
    atomic_fetch_add(&n_jobs, 1);
    int rc = weft_scope_end(&s, 0);
    atomic_fetch_sub(&outstanding, 1);
    return rc;
}

/* ---- descriptors: a pair, or a pipe, that the plain thread writes a time to */

static int ends[READERS][2];

static int reader(void *arg)
{
    int fd = *(int *)arg, rc;
    int64_t at;
    while ((rc = weft_read_all(fd, &at, sizeof at)) == sizeof at)
        served(SOCKET, at);
    CHECK(rc == 0, "a reader's end: %s", weft_strerror(rc));
    return weft_close(fd);
}

static void open_ends(void)
{
    for (int i = 0; i < READERS; i++) {
        CHECK(i % 2 == 0 ? weft_pair(ends[i]) == 0 : pipe(ends[i]) == 0, "a pair or a pipe");
        CHECK(weft_spawn_copy(&service, reader, &ends[i][0], sizeof(int)) > 0, "a spawn failed");
    }
}

static void write_some(struct chance *c)
{
    for (int n = 1 + (int)chance_below(c, READERS); n > 0; n--) {
        atomic_fetch_add(&outstanding, 1);
        int64_t now = weft_now();
        CHECK(write(ends[chance_below(c, READERS)][1], &now, sizeof now) == sizeof now, "write");
        if (chance_one_in(c, 4))
            compute(chance_below(c, 100000));
    }
}

/* ---- the machine's own lateness */

static struct beat {
    pthread_t thread;
    size_t processor;
    atomic_ulong beats;
} beats[PROCESSORS];
static int n_beats;
static atomic_llong stood; /* the longest since the burst began */
static atomic_bool over;

static void *beat(void *arg)
{
    struct beat *b = arg;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(b->processor, &here);
    CHECK(pthread_setaffinity_np(pthread_self(), sizeof here, &here) == 0, "affinity");
    while (!atomic_load(&over)) {
        int64_t due = weft_after(weft_ms(BEAT_MS));
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 * BEAT_MS }, NULL);
        raise_to(&stood, weft_now() - due);
        atomic_fetch_add(&b->beats, 1);
    }
    return NULL;
}

static void begin_beats(void)
{
    cpu_set_t all;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0, "affinity");
    for (size_t i = 0; i < CPU_SETSIZE && n_beats < PROCESSORS; i++)
        if (CPU_ISSET(i, &all)) {
            struct beat *b = &beats[n_beats++];
            b->processor = i;
            b->thread = thread_start(beat, b);
        }
}

static void end_beats(void)
{
    atomic_store(&over, true);
    for (int i = 0; i < n_beats; i++)
        pthread_join(beats[i].thread, NULL);
}

/* How late the machine was since the burst began. A processor that stood has yet to say so: each is waited for. */
static long long machine_late(void)
{
    for (int i = 0; i < n_beats; i++) {
        unsigned long n = atomic_load(&beats[i].beats);
        while (atomic_load(&beats[i].beats) == n)
            usleep(1000);
    }
    return atomic_load(&stood);
}

/* All of the burst was served. */
static void judge(void)
{
    bool late = false;
    for (int k = 0; k < KINDS; k++)
        late |= atomic_load(&worst[k]) > weft_ms(LATE_MS);
    bool left_out = late && machine_late() >= weft_ms(STOOD_MS);
    n_left_out += left_out;
    for (int k = 0; k < KINDS; k++) {
        long long of_burst = atomic_exchange(&worst[k], 0);
        if (!left_out && of_burst > worst_ever[k])
            worst_ever[k] = of_burst;
    }
    atomic_store(&stood, 0);
}

/* ---- the plain thread */

static void burst(struct chance *c)
{
    bool jobs = chance_one_in(c, 4);
    if (jobs) {
        int most = stress_workers > JOBS ? JOBS : stress_workers - 1; /* one worker is left */
        for (int n = most > 0 ? 1 + (int)chance_below(c, (uint32_t)most) : 0; n > 0; n--) {
            struct job j = { weft_ms(3 + chance_below(c, 25)), (int)chance_below(c, 4) };
            atomic_fetch_add(&outstanding, 1);
            CHECK(weft_spawn_copy(&service, job, &j, sizeof j) > 0, "a spawn failed");
        }
        usleep(chance_below(c, 3000));
    }
    for (int turns = 1 + (int)chance_below(c, 4); turns > 0; turns--) {
        switch (chance_below(c, 3)) {
        case 0:
            for (int n = 1 + (int)chance_below(c, BURST); n > 0; n--)
                spawn_due(&service, SPAWN, weft_now());
            break;
        case 1:
            for (int n = 1 + (int)chance_below(c, BURST); n > 0; n--)
                spawn_due(&service, TIMER, weft_after(chance_below(c, chance_one_in(c, 4) ? 20000000 : 1000000)));
            break;
        default:
            write_some(c);
            break;
        }
        if (chance_one_in(c, 2))
            usleep(chance_below(c, 200));
    }
    n_bursts++;
}

/* Until all is served; its own polling helps nobody. */
static void await_all(struct chance *c)
{
    int64_t until = weft_after(weft_ms(LATE_MS) + weft_sec(SCALED(5, 30)));
    bool spin = chance_one_in(c, 2); /* meets workers that are just falling asleep */
    while (atomic_load(&outstanding) > 0) {
        CHECK(weft_now() < until, "%d are not served", atomic_load(&outstanding));
        if (!spin)
            usleep(100);
        else
            sched_yield();
    }
}

static void gap(struct chance *c)
{
    switch (chance_below(c, 16)) {
    case 0:
        usleep(30000 + chance_below(c, 60000));
        n_long_gaps++;
        break;
    case 1:
    case 2:
        usleep(chance_below(c, 10000));
        break;
    case 3:
    case 4:
    case 5:
        usleep(chance_below(c, 500));
        break;
    case 6:
    case 7:
    case 8:
        compute(chance_below(c, 100000)); /* about when searchers give up */
        break;
    default:
        break;
    }
}

/* With one worker nobody computes for long. */
static const struct stress_need needs[] = {
    { "bursts", &n_bursts, 0, 10 },
    { "long gaps", &n_long_gaps, 1, 0 },
    { "foreign spawns", &counts[SPAWN], 0, 100 },
    { "timers", &counts[TIMER], 0, 100 },
    { "socket events", &counts[SOCKET], 0, 30 },
    { "long jobs", &n_jobs, 0, 2 },
    { "children of jobs", &counts[CHILD], 0, 2 },
};

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "idle");
    struct chance c = chance_of(1, 1);
    begin_beats();
    weft_runtime *rt = stress_runtime();
    weft_scope_begin_with(&service, WEFT_NEVER, &(weft_scope_options){ .on = rt, .name = "service" });
    open_ends();
    const int n = stress_workers > 1 ? COUNT(needs) : COUNT(needs) - 2;
    do {
        burst(&c);
        await_all(&c);
        judge();
        gap(&c);
        stress_moved();
    } while (!stress_over_when(needs, n));
    for (int i = 0; i < READERS; i++)
        CHECK(i % 2 == 0 ? weft_close(ends[i][1]) == 0 : close(ends[i][1]) == 0, "close");
    int rc = weft_scope_end(&service, 0);
    CHECK(rc == 0, "the service ended with %s", weft_strerror(rc));
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    end_beats();
    stress_counts(needs, n);
    stress_count("bursts that were left out", n_left_out, 0);
    for (int k = 0; k < KINDS; k++)
        stress_worst(kind_names[k], worst_ever[k], weft_ms(LATE_MS));
    return stress_end();
}
