/* engine/trim.c - memory comes back when a runtime is idle.
 *
 * Owns      when it does, and in which order. How, is written where the memory is: stacks in machine/stack.c (Z1 to Z4),
 *           control blocks in sched/task.c (N1 to N6), the allocator's in base/mem.c.
 * Callers   the I/O thread, when it is about to block (engine/io.c, T1).
 *
 *     the I/O thread                               who brings work meanwhile
 *     G1  all parked, and since the last trim      S1 to S6 as ever: a worker is woken and finds the I/O thread
 *         enough was done to be worth one: it      ticking
 *         blocks for a tenth of a second only
 *     G2  more than a few turns in that time:
 *         again G1
 *     G3  claims every worker (S4). One was not    S3 sees somebody searching, and leaves the work to it
 *         parked any more: G5, and later again
 *     G4  all are claimed: nobody runs, steals
 *         or takes. Caches of stacks and blocks
 *         go to the pool and the table, deques
 *         to their first array
 *     G5  wakes all it has claimed (S5)            a worker that was woken searches, and finds it; none: it parks
 *     G6  all parked again: a slice of at most     S1 to S6. The I/O thread sees it after a step, some microseconds,
 *         1 ms, not beyond the earliest timer;     and ticks from then on
 *         T3 without waiting, T4 to T7; the next
 *     G7  nothing is left: it blocks for good
 *
 * Forbidden (G3/S3): a publisher trusts a worker that was claimed, and that worker does not look. So whoever is claimed is
 * woken; it is what it costs, once for each trim.
 * A trim can be given up between any two steps, and what it has done by then stays done: no lock is held over a walk or a
 * system call, and what is free can be had at any time. A runtime that is not idle does nothing of it; that it is
 * costs it a sum over its workers when it blocks.
 * Tested    tests/memory_test.c, tests/idle_test.c, tests/models/idle.pml (TRIM) */
#include "engine/trim.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/worker.h"

#ifndef WEFT__TRIM_WORTH
#define WEFT__TRIM_WORTH 1000 /* turns */
#endif
#ifndef WEFT__TRIM_QUIET_US
#define WEFT__TRIM_QUIET_US 100000
#endif

enum {
    QUIET_TURNS = 100, /* a heartbeat is no work */
    WORTH_TURNS = WEFT__TRIM_WORTH,
    WORTH_STACKS = WORTH_TURNS * 1024 /* bytes: so many turns, or stacks that guarantee so much, are worth a trim */
};

at_int weft__trim_quiet_us = WEFT__TRIM_QUIET_US;

/* ---- what there is to give back, in order: false when it is done */

/* What the workers have for themselves goes where the next stages find it: G3 to G5. */
static bool recall(struct weft_runtime *rt)
{
    struct weft__group *g = &rt->group;
    struct weft__deque_array *arrays = NULL;
    int n = 0, seats = weft__group_seats(g);
    while (n < seats && weft__idle_claim_worker(g, g->all[n]))
        n++;
    bool all = n == seats;
    for (int i = 0; all && i < n; i++) { /* G4 */
        weft__stack_cache_return(&g->stacks, &g->all[i]->stacks);
        weft__stack_cache_return(&weft__stack_nested, &g->all[i]->nested);
        weft__sched_return_blocks(g->all[i]);
        arrays = weft__deque_shrink(&g->all[i]->deque, arrays);
    }
    for (int i = 0; i < n; i++)
        weft__idle_wake(g, g->all[i]);
    weft__deque_free(arrays);
    return !all;
}

static bool timers(struct weft_runtime *rt)
{
    if ((int)rt->trim.step >= weft__group_seats(&rt->group))
        return false;
    weft__timers_shrink(&rt->workers[rt->trim.step++]->timers);
    return true;
}

static bool stacks(struct weft_runtime *rt)
{
    return weft__stack_pool_trim(&rt->group.stacks) || weft__stack_pool_trim(&weft__stack_nested);
}

/* Only as many as there are now: another runtime may be busy, and go on returning them. */
static bool sort_blocks(struct weft_runtime *rt)
{
    struct weft__trim *t = &rt->trim;
    if (t->step == 0)
        t->blocks = weft__task_table_loose();
    uint32_t n = t->blocks < WEFT__TASK_TABLE_RESERVE && t->step == 0 ? 0 : weft__task_table_sort();
    t->step++;
    if (n == 0 || n >= t->blocks)
        return false;
    t->blocks -= n;
    return true;
}

static bool blocks(struct weft_runtime *rt)
{
    (void)rt;
    return weft__task_table_give_back();
}

static bool heap(struct weft_runtime *rt)
{
    return weft__mem_purge(rt->trim.step++);
}

static bool (*const stages[])(struct weft_runtime *rt) = { recall, timers, stacks, sort_blocks, blocks, heap };
enum { NONE = sizeof stages / sizeof stages[0] };

/* ---- when */

static uint64_t turns_of_all(struct weft_runtime *rt)
{
    uint64_t n = 0;
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++) {
        const struct weft__counters *c = &rt->group.all[i]->count;
        n += at_load(&c->ran) + at_load(&c->inlined);
    }
    return n;
}

/* Generators' are everybody's: more than one runtime may find it worth a trim. */
static uint64_t fresh_stacks(struct weft_runtime *rt)
{
    return at_load(&rt->group.stacks.fresh) + at_load(&weft__stack_nested.fresh);
}

void weft__trim_begin(struct weft__trim *t)
{
    t->stage = NONE;
}

int64_t weft__trim_when(struct weft_runtime *rt)
{
    struct weft__trim *t = &rt->trim;
    uint64_t turns = turns_of_all(rt);
    if (t->stage == NONE && turns - t->turns < WORTH_TURNS && fresh_stacks(rt) - t->fresh < WORTH_STACKS)
        return INT64_MAX;
    if (t->stage == NONE || turns - t->looked > QUIET_TURNS) { /* G1, G2 */
        t->stage = 0;
        t->step = 0;
        t->looked = turns;
        t->at = weft__now() + 1000 * (int64_t)ati_load(&weft__trim_quiet_us);
    }
    return t->at;
}

/* G6 */
void weft__trim_slice(struct weft_runtime *rt, int64_t until)
{
    struct weft__trim *t = &rt->trim;
    weft__hb_acquire(&rt->group); /* all that was done on stacks and deques came before */
    do {
        if (!stages[t->stage](rt)) {
            t->stage++;
            t->step = 0;
        }
    } while (t->stage != NONE && weft__now() < until && weft__group_all_parked(&rt->group));
    if (t->stage != NONE)
        return;
    t->turns = turns_of_all(rt); /* G7 */
    t->fresh = fresh_stacks(rt);
    ati_store_release(&t->done, ati_load(&t->done) + 1);
}
