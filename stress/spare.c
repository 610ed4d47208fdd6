/* stress/spare.c - runtimes whose workers are held up again and again, and what must go on meanwhile.
 *
 * Round after round a runtime is started, given one main after another, and ended at once, while its spare workers start,
 * search, rest, or are woken. In each main all workers are held, by tasks that compute and by tasks that block, until
 * another task says so: one that is ready, or waits for time, for bytes, or for a plain thread. Only a spare can run that.
 * Beside it others compute, block, sleep and spawn for a while.
 *
 * Law       no main stands still: what holds the workers is released by the task that waited (the watchdog, else).
 *           As many children run as were spawned. A runtime has no more spares than it was allowed, and leaves no thread. */
#include <poll.h>

#include "support.h"

enum { SPARES_MOST = 4, MAINS_MOST = 4, NOISE_MOST = 8 };

static atomic_ulong n_runtimes, n_mains, n_spares, n_again, n_spawned, n_ran;

struct round {
    struct chance chance;
    int workers, spares, started;
    int holders, pair[2];
    atomic_int holding, open;
    weft_event told;
};

/* ---- who holds the workers */

static int hold_by_computing(void *arg)
{
    struct round *r = arg;
    atomic_fetch_add(&r->holding, 1);
    while (!atomic_load(&r->open))
        compute(20000);
    return 0;
}

static int hold_by_blocking(void *arg)
{
    struct round *r = arg;
    atomic_fetch_add(&r->holding, 1);
    while (!atomic_load(&r->open))
        poll(NULL, 0, 8); /* longer than it takes to be held */
    return 0;
}

/* Those that compute are no more than the workers: of the spares only some may. */
static void hold_all(struct round *r, weft_scope *s)
{
    for (int i = 0; i < r->holders; i++) {
        bool computes = r->holders == r->workers && chance_one_in(&r->chance, 2);
        CHECK(weft_spawn(s, computes ? hold_by_computing : hold_by_blocking, r) > 0, "no holder");
    }
}

/* ---- who waits meanwhile, and opens */

static int wait_for_a_turn(void *arg)
{
    struct round *r = arg;
    int rc = 0;
    while (rc == 0 && atomic_load(&r->holding) < r->holders)
        rc = weft_yield();
    return rc;
}

static int wait_for_time(void *arg)
{
    struct round *r = arg;
    int rc = 0;
    while (rc == 0 && atomic_load(&r->holding) < r->holders)
        rc = weft_sleep(weft_ms(1));
    return rc;
}

static int wait_for_bytes(void *arg)
{
    struct round *r = arg;
    char byte;
    ssize_t n = weft_read(r->pair[0], &byte, 1);
    return n == 1 ? 0 : (int)n;
}

static int wait_to_be_told(void *arg)
{
    struct round *r = arg;
    return weft_event_wait(&r->told);
}

static weft_fn *const waits[] = { wait_for_a_turn, wait_for_time, wait_for_bytes, wait_to_be_told };

struct opener {
    struct round *round;
    weft_fn *wait;
};

static int open_after(void *arg)
{
    struct opener *o = arg;
    int rc = o->wait(o->round);
    CHECK(rc == 0, "a wait: %s", weft_strerror(rc));
    atomic_store(&o->round->open, 1);
    stress_moved();
    return 0;
}

/* The thread beside: when all are held, a byte and a call come from outside. */
static void *tell(void *arg)
{
    struct round *r = arg;
    while (atomic_load(&r->holding) < r->holders)
        usleep(500);
    CHECK(write(r->pair[1], "x", 1) == 1, "a write: %s", strerror(errno));
    weft_event_set(&r->told);
    return NULL;
}

/* ---- what else there is */

static int child(void *arg)
{
    struct chance c = chance_of(3, (uint64_t)(uintptr_t)arg);
    int rc = chance_one_in(&c, 2) ? weft_sleep(chance_below(&c, 3000000)) : weft_yield();
    CHECK(rc == 0, "a wait: %s", weft_strerror(rc));
    atomic_fetch_add(&n_ran, 1);
    return 0;
}

static int noise(void *arg)
{
    struct chance c = chance_of(2, (uint64_t)(uintptr_t)arg);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uint32_t i = chance_below(&c, 6); i > 0; i--) {
        CHECK(weft_spawn(&s, child, (void *)(uintptr_t)chance_bits(&c)) > 0, "no child");
        atomic_fetch_add(&n_spawned, 1);
    }
    switch (chance_below(&c, 3)) {
    case 0:
        usleep(chance_below(&c, 8000));
        break;
    case 1:
        compute(chance_below(&c, 5000000));
        break;
    default:
        break;
    }
    return weft_scope_end(&s, 0);
}

static int main_task(void *arg)
{
    struct round *r = arg;
    weft_scope s;
    struct opener opener = { r, waits[chance_below(&r->chance, COUNT(waits))] };
    weft_scope_begin(&s, WEFT_NEVER);
    for (uint32_t i = chance_below(&r->chance, NOISE_MOST); i > 0; i--)
        CHECK(weft_spawn(&s, noise, (void *)(uintptr_t)chance_bits(&r->chance)) > 0, "no task");
    CHECK(weft_spawn(&s, open_after, &opener) > 0, "no opener");
    hold_all(r, &s);
    int rc = weft_scope_end(&s, 0);
    int seats = weft_stats(NULL, NULL, 0);
    CHECK(seats <= r->workers + r->spares, "%d workers, and %d spares at most: %d", r->workers, r->spares, seats);
    atomic_fetch_add(seats - r->workers > r->started ? &n_spares : &n_again, 1);
    r->started = seats - r->workers;
    if (chance_one_in(&r->chance, 3)) /* it ends while others rest; else while they search */
        usleep(chance_below(&r->chance, 12000));
    return rc;
}

static void one_main(weft_runtime *rt, struct round *r)
{
    r->told = (weft_event)WEFT_SYNC_INIT;
    atomic_store(&r->holding, 0);
    atomic_store(&r->open, 0);
    r->holders = r->workers + (int)chance_below(&r->chance, (uint32_t)r->spares);
    CHECK(weft_pair(r->pair) == 0, "no pair");
    pthread_t beside = thread_start(tell, r);
    int rc = weft_runtime_run(rt, main_task, r);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    pthread_join(beside, NULL);
    CHECK(weft_close(r->pair[0]) == 0 && weft_close(r->pair[1]) == 0, "a close");
    CHECK(atomic_load(&n_ran) == atomic_load(&n_spawned), "%lu of %lu ran", atomic_load(&n_ran), atomic_load(&n_spawned));
    atomic_fetch_add(&n_mains, 1);
}

static int threads(void)
{
    char line[256];
    int n = 0;
    FILE *f = fopen("/proc/self/status", "re");
    CHECK(f, "/proc/self/status: %s", strerror(errno));
    while (fgets(line, sizeof line, f) && sscanf(line, "Threads: %d", &n) != 1)
        continue;
    fclose(f);
    return n;
}

static void one_runtime(struct chance *c, int before)
{
    struct round r = { .workers = 1 + (int)chance_below(c, (uint32_t)stress_workers),
        .spares = 1 + (int)chance_below(c, SPARES_MOST) };
    weft_runtime *rt;
    int rc = weft_runtime_create(&rt, &(weft_options){ .workers = r.workers, .spares = r.spares });
    CHECK(rc == 0, "no runtime: %s", weft_strerror(rc));
    stress_watch(rt);
    for (int i = 1 + (int)chance_below(c, MAINS_MOST); i > 0; i--) {
        r.chance = chance_of(1, chance_bits(c));
        one_main(rt, &r);
        if (chance_one_in(c, 2)) /* so that the spares rest before the next */
            usleep(chance_below(c, 15000));
    }
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    while (threads() > before) /* one that has been joined is counted for a moment more */
        usleep(100);
    atomic_fetch_add(&n_runtimes, 1);
}

int main(int argc, char **argv)
{
    static const struct stress_need needs[] = {
        { "runtimes", &n_runtimes, 3, 3 },
        { "mains all of whose workers were held", &n_mains, 10, 10 },
        { "of them with a new spare", &n_spares, 3, 3 },
        { "of them with those that were there", &n_again, 1, 1 },
        { "children", &n_ran, 20, 20 },
    };
    stress_begin(argc, argv, "spare");
    struct chance c = chance_of(0, (uint64_t)stress_workers);
    int before = threads();
    while (!stress_over_when(needs, COUNT(needs)))
        one_runtime(&c, before);
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
