/* engine/leap.c - when virtual time moves.
 *
 * Owns      clock.now of a runtime with a virtual clock.
 * Callers   the worker that is the last to park, between P3 and P4 (sched/idle.c); the I/O thread, each tick.
 * Time      begins at WEFT__VIRTUAL_BEGIN, stands still while anything can run, and leaps to the earliest timer of all
 *           when nothing can. A task that waits for the time to pass by yielding or computing waits for ever.
 *
 *     who leaps                                    an outside hand
 *     V1  no outside hand?                         H1  is counted before it can act:
 *         -- full fence --                               a call on the pool      pool.open, at its submit
 *     V2  all workers parked, every queue empty?         a wait for a descriptor clock.outside, before its W3
 *     V3  now = the earliest timer                       a plain thread          is no root's owner, or it waits (below)
 *                                                  H2  acts: its task is in a queue (S1)
 *                                                      -- release --
 *                                                  H3  is counted no more
 *
 * Forbidden: V1 sees no hand, V2 no task that such a hand made ready. Then a deadline strikes before what came first. V1
 * reads with acquire what H3 wrote, so V2 sees H2; and whoever parks was counted off only by P1, after its own pushes.
 *
 * Plain threads. One that has a scope open on the runtime (weft_runtime_run; .on) may spawn or cancel at any time, so it is
 * a hand, unless it waits in weft for its tasks (its block is WAITING) and not until a time of its own as well. Threads
 * that hold nothing but an id or somebody else's scope are not known; neither is what a task waits for in another runtime.
 * Their own deadlines and sleeps are in real time, so none may apply to a scope on a virtual runtime (coord/scope.c).
 *
 * Descriptors are hands for as long as somebody waits on one: bytes may be in the kernel, and real time would not have
 * reached the deadline. So a program that listens all the time does not leap.
 *
 * Nobody tells that a hand is gone: while there are hands and timers the I/O thread looks each tick, in real time.
 *
 * Several workers: V2 is taken when the last has announced itself; if a foreign task comes between V2 and V3 the leap
 * counts as having been before it. The leaper then retracts (U) and strikes; so does whom the I/O thread wakes (T6).
 * One worker: its ticks are virtual, too, a microsecond each turn (sched/chaos.c), and nothing that it decides depends on
 * how often it looked or slept in between.
 * Tested    tests/replay_test.c */
#include "engine/leap.h"

#include "engine/hooks.h"

/* V1 */
static bool hands_outside(struct weft_runtime *rt)
{
    weft__lock(&rt->pool.lock);
    bool calls = ati_load(&rt->pool.open) > 0;
    weft__unlock(&rt->pool.lock);
    return calls || at_load_acquire(&rt->group.clock.outside) > 0 || !weft__hooks.roots_rest(rt);
}

/* V2 */
static bool quiet(struct weft_runtime *rt)
{
    struct weft__group *g = &rt->group;
    if ((int)weft__idle_parked(&g->idle) != g->n || weft__group_has_work(g) || ati_load(&rt->stopping))
        return false;
    for (int i = 0; i < g->n; i++)
        if (weft__sched_has_work(g->all[i]) || weft__inject_len(&g->all[i]->pinned) > 0)
            return false;
    return true;
}

bool weft__leap(struct weft_runtime *rt)
{
    struct weft__clock *c = &rt->group.clock;
    int64_t earliest = INT64_MAX;
    if (!c->is_virtual || hands_outside(rt))
        return false;
    at_fence_full();
    if (!quiet(rt))
        return false;
    for (int i = 0; i < rt->group.n; i++) {
        int64_t at = weft__timers_earliest(&rt->workers[i]->timers);
        if (at < earliest)
            earliest = at;
    }
    if (earliest == INT64_MAX)
        return false;
    for (;;) { /* V3; two may leap at once, and it never goes back */
        uint64_t now = at_load_acquire(&c->now);
        if (earliest <= (int64_t)now || at_cas(&c->now, now, (uint64_t)earliest))
            return true;
    }
}
