/* engine/rest.c - whether anything can happen in a runtime, apart from its timers.
 *
 * Owns      nothing.
 * Callers   who is about to move a virtual clock (engine/leap.c), or to call it a deadlock (engine/stall.c).
 *
 *     who looks                                    an outside hand
 *     V1  all workers parked, every queue empty;   H1  is counted before it can act:
 *         turns = what they have run so far              a call on a pool        pool.open, at its submit; rt.lent
 *     V2  no outside hand?                               a wait for a descriptor clock.outside (virtual clocks), and
 *         -- full fence --                                                       its slot's `waiting`, before its W3
 *                                                            for another's look-up  clock.outside (os/dns.c)
 *     V3  V1 again, and as many turns?                   a plain thread          is no root's owner, or it waits (below)
 *                                                  H2  acts: its task is in a queue (S1)
 *                                                      -- release --
 *                                                  H3  is counted no more
 *                                                      -- full fence --
 *                                                  H4  the I/O thread blocked? kick it
 *
 * Forbidden (V2/H3): V2 sees no hand, V3 no task that such a hand made ready. V2 reads with acquire what H3 wrote, so V3 sees
 * H2; and whoever parks was counted off only by P1, after its own pushes.
 * Forbidden (V1/H1): V2 sees no hand, a worker that was awake then begins with one (H1) and parks, and V3 sees all parked.
 * It has had a turn: V1 saw it awake, or V3 sees one turn more than V1, by the acquire of what P1 wrote.
 * Forbidden (V2/H4): V2 sees a hand, the hand sees nobody blocked, and nobody looks again. Who calls it a deadlock looks
 * after T1 and its fence. (A virtual clock's I/O thread ticks instead, as long as there are hands and timers.)
 *
 * Hosts (engine/host.c) are plain threads, whatever their worker does: a hand, unless they wait in weft.
 * Plain threads. One that has a scope open on the runtime (weft_runtime_run; .on) may spawn or cancel at any time, so it is
 * a hand, unless it waits in weft (its block is WAITING) and not until a time of its own as well. Threads that hold nothing
 * but an id, an object or somebody else's scope are not known.
 * Tested    tests/replay_test.c, tests/deadlock_test.c */
#include "engine/rest.h"

#include "engine/hooks.h"

at_int weft__outsiders;

bool weft__quiet(struct weft_runtime *rt, uint64_t *turns)
{
    struct weft__group *g = &rt->group;
    /* The turns of who parked are seen: it meets P1. */
    if (!weft__group_all_parked(g) || weft__group_has_work(g) || ati_load(&rt->stopping))
        return false;
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++) {
        if (weft__sched_has_work(g->all[i]) || weft__inject_len(&g->all[i]->pinned) > 0)
            return false;
        *turns += at_load(&g->all[i]->count.ran);
    }
    return true;
}

static bool calls_on(struct weft__pool *p)
{
    weft__lock(&p->lock);
    bool calls = ati_load(&p->open) > 0;
    weft__unlock(&p->lock);
    return calls;
}

int weft__hands_rest(struct weft_runtime *rt)
{
    /* acquire: meets the release of its last user; what that one made ready is seen (H2). */
    if (calls_on(&rt->pool) || calls_on(&rt->files) || calls_on(&rt->names) || ati_load_acquire(&rt->lent) > 0 ||
            at_load_acquire(&rt->group.clock.outside) > 0)
        return -1;
    uint32_t host = ati_load_acquire(&rt->host.rests); /* acquire: meets its release (engine/host.c) */
    int owners = rt->manual && host == WEFT__HOST_ACTS ? -1 : weft__hooks.roots_rest(rt);
    int workers = rt->manual ? host == WEFT__HOST_RESTS : weft__group_seats(&rt->group);
    return owners < 0 ? -1 : workers + 1 + owners;
}

void weft__hand_gone(struct weft_runtime *rt)
{
    at_store(&rt->stall.given_up, 0);
    at_fence_full(); /* H4, meets the one between T1 and T2 */
    if (ati_load(&rt->group.idle.io_blocked))
        weft__poller_kick(&rt->poller);
}
