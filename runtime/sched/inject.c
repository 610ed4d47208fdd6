/* sched/inject.c - the shared queue. See inject.h. */
#include "sched/inject.h"

void weft__inject_put(struct weft__inject *q, uint32_t first, uint32_t last, uint64_t n)
{
    ati_store(&weft__task_at(last)->link, 0);
    weft__lock(&q->lock);
    if (q->tail)
        ati_store(&weft__task_at(q->tail - 1)->link, first + 1);
    else
        q->head = first + 1;
    q->tail = last + 1;
    at_add(&q->count, n);
    weft__unlock(&q->lock);
}

uint32_t weft__inject_take(struct weft__inject *q, uint32_t *out, uint32_t most)
{
    if (weft__inject_len(q) == 0)
        return 0;
    uint32_t n = 0;
    weft__lock(&q->lock);
    while (q->head && n < most) {
        uint32_t t = q->head - 1;
        q->head = ati_load(&weft__task_at(t)->link);
        out[n++] = t;
    }
    if (!q->head)
        q->tail = 0;
    at_add(&q->count, (uint64_t)0 - n);
    weft__unlock(&q->lock);
    return n;
}
