/* sched/errand.c - the runtime's own work, in slices. See errand.h. */
#include "sched/errand.h"

struct weft__task *weft__errand_new(weft__slice *slice)
{
    struct weft__task *e = weft__task_alloc(NULL);
    if (e)
        at_store(&e->fn, (uint64_t)(uintptr_t)slice);
    return e;
}

void weft__errand_post(struct weft__group *g, struct weft__task *e)
{
    uint32_t index = weft__task_index(e);
    weft__inject_put(&g->errands, index, index, 1); /* S1 */
    weft__idle_notify(g);
}

bool weft__errand_run(struct weft__group *g)
{
    uint32_t index;
    if (weft__inject_len(&g->errands) == 0 || weft__inject_take(&g->errands, &index, 1) == 0)
        return false;
    struct weft__task *e = weft__task_at(index);
    if (((weft__slice *)(uintptr_t)at_load(&e->fn))(e))
        weft__errand_post(g, e);
    else
        weft__task_free_slow(NULL, e);
    return true;
}
