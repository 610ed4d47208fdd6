/* engine/runtime.c - start and ordered end of the threads.
 *
 * Owns      the runtime object: its workers, their threads, the I/O thread, the pools, the sets.
 * Callers   coord/main.c, on a plain thread.
 * Order     start: memory, sets, workers, I/O thread; whatever fails, what was started is ended again.
 *           end: stopping is set; every worker is woken and leaves its loop, or is let off by its host (engine/host.c); then
 *           the I/O thread, which starts and wakes
 *           spares; then those; then the pools, whose calls are waited for; then errands that are left; then memory.
 * Signals   are blocked in all threads of weft: they belong to the program's own.
 * Fork      a runtime is counted from before its first lock to after its last (base/fork.h). */
#include "engine/runtime.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/code.h"
#include "base/cpus.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/panic.h"
#include "base/thread.h"
#include "engine/hooks.h"
#include "engine/rest.h"
#include "sched/errand.h"

enum { STACK_SCALE_MOST = 64, SPARES_MOST = 64 };

struct weft__hooks weft__hooks;

weft_runtime *weft__runtimes;
struct weft__lock weft__runtimes_lock;

static void enlist(weft_runtime *rt)
{
    weft__lock(&weft__runtimes_lock);
    rt->next = weft__runtimes;
    weft__runtimes = rt;
    weft__unlock(&weft__runtimes_lock);
}

static void strike_off(weft_runtime *rt)
{
    weft__lock(&weft__runtimes_lock);
    weft_runtime **at = &weft__runtimes;
    while (*at != rt)
        at = &(*at)->next;
    *at = rt->next;
    weft__unlock(&weft__runtimes_lock);
}

/* A whole number from 1 to `most`; 0: there is none, or it is something else. */
static int from_environment(const char *name, long most)
{
    const char *env = getenv(name);
    char *end;
    long n = env ? strtol(env, &end, 10) : 0;
    return n >= 1 && n <= most && *end == 0 ? (int)n : 0;
}

/* What is no number is meant as a seed, too: FNV-1a of its bytes. */
static uint64_t chaos_seed(const weft_options *o)
{
    const char *env = getenv("WEFT_CHAOS");
    char *end;
    if (o->chaos_seed || !env)
        return o->chaos_seed;
    uint64_t seed = strtoull(env, &end, 0);
    if (*end == 0)
        return seed;
    seed = UINT64_C(0xcbf29ce484222325);
    for (; *env; env++)
        seed = (seed ^ (unsigned char)*env) * UINT64_C(0x100000001b3);
    return seed ? seed : 1;
}

static int worker_count(const weft_options *o)
{
    if (o->manual)
        return 1;
    if (o->workers > 0)
        return o->workers;
    int given = from_environment("WEFT_WORKERS", WEFT__WORKERS_MOST);
    if (given > 0)
        return given;
    int n = weft__cpus_now();
    return n > WEFT__WORKERS_MOST ? WEFT__WORKERS_MOST : n;
}

static int spares(const weft_options *o, int workers)
{
    bool one_asked = o->workers == 1 || (o->workers == 0 && from_environment("WEFT_WORKERS", WEFT__WORKERS_MOST) == 1);
    int most = o->spares > 0 ? o->spares : SPARES_MOST;
    if (o->manual || o->clock == WEFT_CLOCK_VIRTUAL || o->spares < 0 || (o->spares == 0 && one_asked))
        return 0;
    return most < WEFT__WORKERS_MOST - workers ? most : WEFT__WORKERS_MOST - workers;
}

static int check_options(const weft_options *o)
{
    if (!weft__reserved_zero(o))
        return -EINVAL;
    if (o->clock != WEFT_CLOCK_REAL && o->clock != WEFT_CLOCK_VIRTUAL)
        return -EINVAL;
    if (o->spares < -1 || o->spares > WEFT__WORKERS_MOST || (o->manual && (o->workers > 1 || o->spares > 0)))
        return -EINVAL;
    if (o->long_turn_ns < 0)
        return -EINVAL;
    if ((o->blocking && !weft__pool_valid(o->blocking)) || (o->files && !weft__pool_valid(o->files)) ||
            (o->names && !weft__pool_valid(o->names)))
        return -EINVAL;
    if (o->workers < 0 || o->workers > WEFT__WORKERS_MOST || weft__stack_class(o->stack_bytes) < 0)
        return -EINVAL;
    return 0;
}

static struct weft__worker *worker_new(weft_runtime *rt, int i)
{
    struct weft__worker *w = weft__mem_aligned(128, sizeof *w);
    if (!w)
        return NULL;
    unsigned char *bytes = (unsigned char *)w;
    for (size_t k = 0; k < sizeof *w; k++)
        bytes[k] = 0;
    w->rt = rt;
    weft__timers_init(&w->timers);
    if (weft__sched_init(&w->sched, &rt->group, (uint32_t)i) < 0 ||
            weft__chaos_init(&w->sched, rt->group.chaos_seed, rt->group.clock.is_virtual && rt->group.n == 1) < 0) {
        weft__sched_fini(&w->sched);
        weft__mem_free(w);
        return NULL;
    }
    return w;
}

int weft__runtime_seat(weft_runtime *rt, int i)
{
    if (rt->workers[i])
        return 0;
    if (!(rt->workers[i] = worker_new(rt, i)))
        return -ENOMEM;
    rt->group.all[i] = &rt->workers[i]->sched;
    return 0;
}

static void free_all(weft_runtime *rt)
{
    weft__hb_acquire(&rt->group);
    for (int i = 0; i < rt->group.room; i++) {
        struct weft__worker *w = rt->workers ? rt->workers[i] : NULL;
        if (!w)
            continue;
        weft__sched_return_blocks(&w->sched);
        weft__stack_cache_return(&weft__stack_nested, &w->sched.nested);
        weft__timers_fini(&w->timers);
        weft__chaos_fini(&w->sched);
        weft__sched_fini(&w->sched);
        weft__mem_free(w);
    }
    if (rt->group.chaos_seed != 0)
        ati_add(&weft__chaos_runtimes, (uint32_t)-1);
    if (rt->group.clock.is_virtual)
        ati_add(&weft__clock_virtuals, (uint32_t)-1);
    weft__stack_pool_fini(&rt->group.stacks);
    weft__poller_fini(&rt->poller);
    weft__host_close(rt);
    weft__mem_free(rt->workers);
    weft__mem_free(rt->group.all);
    weft__mem_free(rt->group.idle.stack);
    weft__places_fini(&rt->group);
    weft__mem_free(rt->seen_turns);
    weft__spares_fini(rt);
    weft__turns_fini(rt);
    weft__mem_free(rt);
    weft__fork_runtime_end();
}

static void pool_rests(struct weft__pool *p)
{
    weft__hand_gone(container_of(p, struct weft_runtime, pool));
}

static void files_rest(struct weft__pool *p)
{
    weft__hand_gone(container_of(p, struct weft_runtime, files));
}

static void names_rest(struct weft__pool *p)
{
    weft__hand_gone(container_of(p, struct weft_runtime, names));
}

static void make_pools(weft_runtime *rt, const weft_options *o)
{
    static const struct weft__pool_usual pool = { "pool", WEFT__POOL_MOST, WEFT_NEVER },
                                         files = { "files", WEFT__POOL_FILES, WEFT_NEVER },
                                         names = { "names", WEFT__POOL_NAMES, WEFT_NEVER };
    weft__pool_init(&rt->pool, o->blocking, &pool, &rt->mask);
    weft__pool_init(&rt->files, o->files, &files, &rt->mask);
    weft__pool_init(&rt->names, o->names, &names, &rt->mask);
    rt->pool.rests = pool_rests;
    rt->files.rests = files_rest;
    rt->names.rests = names_rest;
}

static int make(weft_runtime *rt, const weft_options *o)
{
    size_t room = (size_t)rt->group.room;
    rt->workers = weft__mem_zeroed(room * sizeof rt->workers[0]);
    rt->group.all = weft__mem_zeroed(room * sizeof rt->group.all[0]);
    rt->group.idle.stack = weft__mem_zeroed((size_t)rt->group.n * sizeof rt->group.idle.stack[0]);
    rt->seen_turns = weft__mem_zeroed(room * sizeof rt->seen_turns[0]);
    if (weft__spares_init(rt) < 0 || !rt->workers || !rt->group.all || !rt->group.idle.stack || !rt->seen_turns)
        return -ENOMEM;
    if (weft__turns_init(rt, o->long_turn_ns) < 0)
        return -ENOMEM;
    if (weft__places_init(&rt->group) < 0)
        return -ENOMEM;
    for (int i = 0; i < rt->group.n; i++)
        if (weft__runtime_seat(rt, i) < 0)
            return -ENOMEM;
    rt->group.cores = weft__cpus_affinity();
    rt->group.ops = from_environment("WEFT_STACK_MARKS", 1) ? &weft__hooks.sched_marking : &weft__hooks.sched;
    rt->group.default_class = weft__stack_class(o->stack_bytes ? o->stack_bytes : 65536);
    rt->group.default_bits = weft__task_bits(0, rt->group.default_class, rt->group.chaos_seed ? WEFT__TASK_CHAOS : 0);
    rt->group.idle.kick = weft__poller_kick;
    rt->group.idle.io = &rt->poller;
    rt->report = o->report;
    rt->report_arg = o->report_arg;
    rt->crash_report = !o->no_crash_report;
    rt->on_stop = o->stop_on_signals;
    rt->on_quit = o->dump_on_quit;
    weft__trim_begin(&rt->trim);
    list_init(&rt->roots);
    list_init(&rt->starts);
    make_pools(rt, o);
    rt->stall.is_error = o->deadlock_is_error;
    rt->report_left_open = o->report_left_open;
    return 0;
}

static void stop_threads(weft_runtime *rt)
{
    struct weft__sched *s;
    ati_store_release(&rt->stopping, 1);
    at_fence_full(); /* P3 and T2 look at it */
    weft__host_stop(rt);
    for (int i = 0; i < rt->started; i++) {
        while ((s = weft__idle_claim(&rt->group)) != NULL)
            weft__idle_wake(&rt->group, s);
        pthread_join(rt->workers[i]->thread, NULL);
    }
    weft__poller_kick(&rt->poller);
    if (rt->io_started)
        pthread_join(rt->io_thread, NULL);
    for (int i = rt->group.n; i < weft__group_seats(&rt->group); i++) {
        (void)weft__idle_claim_worker(&rt->group, &rt->workers[i]->sched);
        weft__idle_wake(&rt->group, &rt->workers[i]->sched); /* in play, too, in case it is about to sleep */
        pthread_join(rt->workers[i]->thread, NULL);
    }
    weft__pool_fini(&rt->pool);
    weft__pool_fini(&rt->files);
    weft__pool_fini(&rt->names);
    weft__host_end(rt);
}

static at_word numbers; /* of all that were started */

int weft__runtime_start(weft_runtime **out, const weft_options *o)
{
    static const weft_options defaults;
    weft_runtime *rt;
    o = o ? o : &defaults;
    int rc = check_options(o);
    if (rc < 0)
        return rc;
    weft__fork_runtime_begin();
    if (weft__task_table_init() < 0 || !(rt = weft__mem_aligned(128, sizeof *rt))) {
        weft__fork_runtime_end();
        return -ENOMEM;
    }
    unsigned char *bytes = (unsigned char *)rt;
    for (size_t k = 0; k < sizeof *rt; k++)
        bytes[k] = 0;
    weft__fork_mask(&rt->mask);
    weft__clock_init();
    rt->group.number = at_add(&numbers, 1) + 1;
    ati_store(&weft__stack_scale, (uint32_t)from_environment("WEFT_STACK", STACK_SCALE_MOST));
    rt->group.n = rt->group.room = worker_count(o);
    ati_store(&rt->group.seats, (uint32_t)rt->group.n);
    rt->group.chaos_seed = chaos_seed(o);
    rt->group.clock.is_virtual = o->clock == WEFT_CLOCK_VIRTUAL;
    rt->group.room += spares(o, rt->group.n);
    at_store(&rt->group.clock.now, WEFT__VIRTUAL_BEGIN);
    if (rt->group.chaos_seed != 0)
        ati_add(&weft__chaos_runtimes, 1);
    if (rt->group.clock.is_virtual)
        ati_add(&weft__clock_virtuals, 1);
    rt->poller.set = rt->poller.outer = rt->poller.kick_fd = rt->host.bell = -1;
    rt->manual = o->manual;
    if ((rc = make(rt, o)) < 0 || (rc = weft__poller_init(&rt->poller)) < 0 ||
            (rt->manual && (rc = weft__host_begin(rt)) < 0)) {
        free_all(rt);
        return rc;
    }
    enlist(rt);
    if (rt->crash_report)
        weft__crash_install();
    weft__turns_install(rt);
    if ((rc = weft__signals_begin(rt)) == 0)
        rc = weft__thread_start(&rt->io_thread, weft__io_thread, rt);
    rt->io_started = rc == 0;
    for (int i = 0; rc == 0 && !rt->manual && i < rt->group.n; i++)
        if ((rc = weft__thread_start(&rt->workers[i]->thread, weft__worker_thread, rt->workers[i])) == 0)
            rt->started++;
    if (rc < 0) {
        weft__runtime_end(rt);
        return rc;
    }
    ati_store_release(&rt->stall.ready, 1);
    *out = rt;
    return 0;
}

static void trim_table(void)
{
    uint32_t sorted = 0, n, all = weft__task_table_loose();
    while (all >= WEFT__TASK_TABLE_RESERVE && sorted < all && (n = weft__task_table_sort()) > 0)
        sorted += n;
    while (sorted > 0 && weft__task_table_give_back())
        continue;
}

void weft__runtime_end(weft_runtime *rt)
{
    stop_threads(rt);
    while (weft__errand_run(&rt->group))
        continue; /* for another runtime's tasks: this one has none left */
    strike_off(rt);
    while (at_load_acquire(&rt->group.visitors) != 0)
        sched_yield(); /* they have put the last task in, and are about to leave; or report (engine/stall.c) */
    weft__signals_end(rt);
    weft__stall_others();
    weft__turns_uninstall(rt);
    if (rt->crash_report)
        weft__crash_uninstall();
    free_all(rt);
    trim_table(); /* there may be no other runtime to do it */
}

void weft__report(struct weft_runtime *rt, const weft_report *said)
{
    weft_report r = *said;
    r.task_name = r.task_name ? r.task_name : "";
    if (rt && rt->report) {
        rt->report(&r, rt->report_arg);
        weft__fork_expect_parent();
        return;
    }
    char head[256], site[96] = "", tail[32];
    if (r.site)
        weft__code_text(site, sizeof site, r.site);
    const char *quote = r.task_name[0] ? "\"" : "";
    int n = snprintf(head, sizeof head, "weft: %s: task %lld%s%s%s%s%s%s: ", r.what, (long long)r.task, r.task_name[0] ? " " : "",
            quote, r.task_name, quote, r.site ? ", spawned at " : "", site);
    int m = snprintf(tail, sizeof tail, " (%d)\n", r.code);
    struct iovec parts[] = { { head, (size_t)(n < (int)sizeof head ? n : (int)sizeof head - 1) },
        { (char *)(uintptr_t)r.text, strlen(r.text) }, { tail, (size_t)m } };
    if (writev(2, parts, 3) < 0)
        return; /* nobody to tell */
}
