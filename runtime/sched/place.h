/* sched/place.h - where the workers run, and whom a thief asks first. See place.c. */
#ifndef WEFT_SCHED_PLACE_H
#define WEFT_SCHED_PLACE_H

#include "base/atomic.h"

struct weft__sched;
struct weft__group;

enum { WEFT__WORKERS_MOST = 1024 };

/* Decides whether there is anything to choose in this group; the calling thread's affinity is what its workers will have.
 * 0; -ENOMEM. */
int weft__places_init(struct weft__group *g);
void weft__places_fini(struct weft__group *g);

/* ---- called where g->places is not NULL */

/* Tells where the calling worker runs now. */
void weft__place_look(struct weft__sched *s);

/* All workers but `me`, each once: those of its cache and node first, then those that share one of the two with it, then
 * the others; each of these three from a random one on, by `random`. Returns how many: n - 1. */
uint32_t weft__place_order(const at_int *places, uint32_t n, uint32_t me, uint32_t random,
        uint16_t order[WEFT__WORKERS_MOST]);

/* One that a busy worker may look at: three times in four one of its cache and node, if there is any, else anyone, which
 * may be itself. */
uint32_t weft__place_draw(const at_int *places, uint32_t n, uint32_t me, uint32_t random);

#endif
