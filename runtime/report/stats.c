/* report/stats.c - what the workers have done so far, read without stopping anybody. */
#include <errno.h>
#include <weft/report.h>

#include "base/fork.h"
#include "engine/worker.h"

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
        .timers = at_load(&weft__worker_of(s)->timers.struck),
        .ready = weft__ready_len(&s->ring) + weft__deque_size(&s->deque) + (at_load(&s->next) != 0) +
                at_load(&s->pinned.count),
        .asleep = ati_load(&s->asleep) != 0,
    };
}

int weft_stats(weft_runtime *rt, weft_worker_stats *out, int n)
{
    struct weft__sched *s = weft__self();
    if (weft__forked)
        return -ECHILD;
    struct weft__group *g = rt ? &rt->group : s ? s->group : NULL;
    if (!g || n < 0 || (!out && n > 0))
        return -EINVAL;
    for (int i = 0; i < n && i < g->n; i++)
        fill(&out[i], g->all[i]);
    return g->n;
}
