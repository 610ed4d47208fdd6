/* report/stats.c - what the workers have done so far, and what is before them, read without stopping anybody.
 *
 * Owns      nothing. Every figure is an atomic word that somebody else keeps: a worker its counts; queues, heaps and the
 *           pool their lengths, written under their locks; the idle word how many sleep.
 * Callers   any thread.
 * Holds     F1  no lock is taken, and nothing is written.
 *           F2  each figure was true at some moment of the call; two of them need not have been at the same. Those that
 *               are differences are not below 0.
 * Processors  The number of workers stays as it was at the start, whatever affinity and quota become. It sizes the pins,
 *           the deques and whom a thief may ask; and to keep awake fewer than there are would be a third reason not to
 *           wake in S3 (sched/idle.c), which a publisher relies on being for ever decided by parked and searching alone:
 *           a worker that may not wake while it has pinned tasks, or is the last to hold the polling role, would need
 *           rules of its own. What it would save is little: workers without work sleep already, and of those with work
 *           the kernel's quota stops the sum. So weft_cpus tells, and whoever starts the runtime decides.
 * Tested    tests/report_test.c */
#include <errno.h>
#include <string.h>
#include <weft/report.h>

#include "base/cpus.h"
#include "base/fork.h"
#include "engine/worker.h"
#include "os/lane.h"

static void fill(weft_worker_stats *out, struct weft__sched *s)
{
    *out = (weft_worker_stats){
        .ran = at_load(&s->count.ran),
        .inlined = at_load(&s->count.inlined),
        .spawned = at_load(&s->count.spawned),
        .stolen = at_load(&s->count.stolen),
        .parked = at_load(&s->count.parked),
        .woke = at_load(&s->count.woke),
        .polls = at_load(&s->count.polls),
        .events = at_load(&s->count.events),
        .failed_steals = at_load(&s->count.failed),
        .migrated = at_load(&s->count.migrated),
        .timers = at_load(&weft__worker_of(s)->timers.struck),
        .ready = weft__ready_len(&s->ring) + weft__spawned_count(s) + weft__private_has(&s->next) +
                at_load(&s->pinned.count),
        .asleep = ati_load(&s->asleep) != 0,
    };
}

/* The caller's own for NULL; NULL: it has none. */
static struct weft__group *group_of(weft_runtime *rt)
{
    struct weft__sched *s = weft__self();
    return rt ? &rt->group : s ? s->group : NULL;
}

int weft_stats(weft_runtime *rt, weft_worker_stats *out, int n)
{
    if (weft__forked)
        return -ECHILD;
    struct weft__group *g = group_of(rt);
    if (!g || n < 0 || (!out && n > 0))
        return -EINVAL;
    int seats = weft__group_seats(g);
    for (int i = 0; i < n && i < seats; i++)
        fill(&out[i], g->all[i]);
    return seats;
}

static uint64_t timers_of(const struct weft__group *g)
{
    uint64_t n = 0;
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++)
        n += ati_load(&weft__worker_of(g->all[i])->timers.pending);
    return n;
}

static uint64_t running(const struct weft__pool *p)
{
    uint32_t queued = ati_load(&p->queued), open = ati_load(&p->open);
    return open > queued ? open - queued : 0;
}

int weft_stats_all(weft_runtime *rt, weft_runtime_stats *out)
{
    if (weft__forked)
        return -ECHILD;
    struct weft__group *g = group_of(rt);
    if (!g || !out)
        return -EINVAL;
    const weft_runtime *of = weft__runtime_of(g);
    *out = (weft_runtime_stats){
        .workers = (uint64_t)g->n,
        .spares = weft__idle_spares(&g->idle),
        .parked = weft__idle_parked(&g->idle),
        .searching = weft__idle_searching(&g->idle),
        .shared = weft__inject_len(&g->inject),
        .errands = weft__inject_len(&g->errands),
        .timers = timers_of(g),
        .pool_threads = ati_load(&of->pool.threads),
        .pool_queued = ati_load(&of->pool.queued),
        .pool_running = running(&of->pool),
        .files_queued = ati_load(&of->files.queued),
        .files_running = running(&of->files),
        .files_threads = ati_load(&of->files.threads),
        .names_threads = ati_load(&of->names.threads),
        .refused = at_load(&of->pool.refused) + at_load(&of->files.refused) + at_load(&of->names.refused),
        .names_queued = ati_load(&of->names.queued),
        .names_running = running(&of->names),
    };
    return 0;
}

int weft_stats_lane(const weft_lane *l, weft_lane_stats *out)
{
    if (weft__forked)
        return -ECHILD;
    if (!l || !out)
        return -EINVAL;
    uint64_t runs = running(&l->pool), threads = ati_load(&l->pool.threads);
    *out = (weft_lane_stats){
        .threads = threads,
        .idle = threads > runs ? threads - runs : 0,
        .queued = ati_load(&l->pool.queued),
        .running = runs,
        .left = ati_load(&l->pool.left),
        .made = at_load(&l->pool.made),
        .refused = at_load(&l->pool.refused),
    };
    return 0;
}

int weft_stats_lateness(weft_runtime *rt, weft_histogram *out)
{
    if (weft__forked)
        return -ECHILD;
    struct weft__group *g = group_of(rt);
    if (!g || !out)
        return -EINVAL;
    memset(out, 0, sizeof *out);
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++)
        for (int slot = 0; slot < WEFT_HISTOGRAM_SLOTS; slot++)
            out->counts[slot] += at_load(&weft__worker_of(g->all[i])->timers.late.counts[slot]);
    return 0;
}

int64_t weft_histogram_quantile(const weft_histogram *h, double q)
{
    uint64_t all = 0, seen = 0;
    if (!h || !(q >= 0 && q <= 1)) /* a NaN, too */
        return -EINVAL;
    for (int slot = 0; slot < WEFT_HISTOGRAM_SLOTS; slot++)
        all += h->counts[slot];
    double wanted = q * (double)all;
    for (int slot = 0; slot < WEFT_HISTOGRAM_SLOTS; slot++) {
        seen += h->counts[slot];
        if (h->counts[slot] > 0 && (double)seen >= wanted)
            return weft__histogram_end(slot);
    }
    return 0;
}

int weft_cpus(void)
{
    return weft__cpus_now();
}
