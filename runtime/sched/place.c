/* sched/place.c - where the workers run, and whom a thief asks first.
 *
 * Owns      a group's places: of each worker the cache and the node of the processor that it ran on when it last looked.
 * Callers   engine/runtime.c; each worker's own loop, engine/worker.c.
 *
 * A worker is bound to no processor, so none has neighbours for good: it looks where it is each time its loop has its turn,
 * after 61 turns of tasks or a millisecond, and so after each sleep and before each search. The kernel keeps that number in
 * memory of the thread's own (rseq). The word is written only if it has changed, so the lines with everybody's places, 16
 * workers in each, stay in all caches that read them: nothing is moved by looking at them.
 *
 * A place is a hint. It is relaxed on both sides, nothing is read by it, and a wrong one costs a longer way. What may not
 * depend on it is whether a round asks everybody:
 *
 *           L1  an order is made of one reading of each place, so each worker is in it once, whoever moves meanwhile.
 *           L2  whoever is about to park looks at all queues in any case (P3 in idle.c), by number.
 *
 * From far away a thief takes as much as from nearby: it has found nothing near, and half of a ring at once is one long way
 * for many tasks, which its neighbours then take from it. A busy worker has less reason to bring tasks over: it looks at
 * its neighbours (weft__place_draw), and elsewhere one time in four, so that long queues do not stay where they are.
 *
 * Whom to wake is decided without places (idle.c): where the woken thread goes on is the kernel's choice, and where it
 * slept says little of it.
 *
 * One place for all, or so few workers that there is no choice: `places` is NULL, and nobody looks at anything.
 * Tested    tests/topology_test.c */
#include "sched/place.h"

#include <errno.h>
#include <sched.h>

#include "base/mem.h"
#include "base/topology.h"
#include "sched/sched.h"

enum { DISTANCES = 3, CHOICE_LEAST = 3 };

int weft__places_init(struct weft__group *g)
{
    if (g->n < CHOICE_LEAST || !(g->topology = weft__topology()))
        return 0;
    g->places = weft__mem_zeroed((size_t)g->room * sizeof g->places[0]);
    return g->places ? 0 : -ENOMEM;
}

void weft__places_fini(struct weft__group *g)
{
    weft__mem_free(g->places);
}

void weft__place_look(struct weft__sched *s)
{
    at_int *mine = &s->group->places[s->id];
    uint32_t place = weft__topology_place(s->group->topology, (unsigned)sched_getcpu());
    if (place != ati_load(mine))
        ati_store(mine, place);
}

uint32_t weft__place_order(const at_int *places, uint32_t n, uint32_t me, uint32_t random,
        uint16_t order[WEFT__WORKERS_MOST])
{
    uint8_t distance[WEFT__WORKERS_MOST]; /* L1 */
    uint32_t count[DISTANCES] = { 0 }, at[DISTANCES], end[DISTANCES], sum = 0, mine = ati_load(&places[me]);
    for (uint32_t i = 0; i < n; i++) {
        distance[i] = (uint8_t)weft__topology_distance(mine, ati_load(&places[i]));
        count[distance[i]] += i != me;
    }
    for (int d = 0; d < DISTANCES; d++) {
        at[d] = sum + (count[d] ? random % count[d] : 0);
        end[d] = sum += count[d];
    }
    for (uint32_t i = 0; i < n; i++) {
        unsigned d = distance[i];
        if (i == me)
            continue;
        order[at[d]] = (uint16_t)i;
        if (++at[d] == end[d])
            at[d] -= count[d];
    }
    return sum;
}

uint32_t weft__place_draw(const at_int *places, uint32_t n, uint32_t me, uint32_t random)
{
    uint32_t count = 0, mine = ati_load(&places[me]);
    for (uint32_t i = 0; i < n; i++)
        count += i != me && weft__topology_distance(mine, ati_load(&places[i])) == 0;
    uint32_t anyone = random % n, left = count ? random % count : 0;
    if (count == 0 || random >> 30 == 0)
        return anyone;
    for (uint32_t i = 0; i < n; i++)
        if (i != me && weft__topology_distance(mine, ati_load(&places[i])) == 0 && left-- == 0)
            return i;
    return anyone; /* somebody has moved meanwhile */
}
