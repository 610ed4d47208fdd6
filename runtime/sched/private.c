/* sched/private.c - how a worker is robbed of a task that it keeps to itself. See private.h. */
#include "sched/private.h"

uint64_t weft__private_asked(struct weft__private *p, uint64_t old)
{
    weft__lock(&p->lock);
    own_set(p->seen, at_load(&p->asked));
    if (own(p->gone) == old)
        old = 0;
    own_set(p->gone, 0);
    weft__unlock(&p->lock);
    return old;
}

uint64_t weft__private_steal(struct weft__private *p)
{
    if (!weft__private_has(p) || ati_load(&p->lock.word) != 0) /* another thief is there */
        return 0;
    weft__lock(&p->lock);
    uint64_t item = 0;
    if (own(p->gone) == 0) { /* R1 */
        at_store(&p->asked, at_load(&p->asked) + 1); /* R2 */
        item = weft__fence_heavy() ? at_load(&p->item) : 0;
    }
    if (item != 0 && at_cas(&p->item, item, 0)) /* R4 */
        own_set(p->gone, item); /* R5 */
    else
        item = 0;
    weft__unlock(&p->lock);
    return item;
}
