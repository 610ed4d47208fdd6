/* coord/keeps.c - what a task or a thread has to let go at its end.
 *
 * Owns      struct weft__keeps of a frame. Most tasks have none: to them it is one pointer that is NULL, and one look at
 *           it when they spawn and when they end.
 * Callers   the task or thread itself.
 * Holds     a task's generators are closed, and its deferred calls made, before its values are dropped, so they find those;
 *           and all that while it is still a task like any other: what they call may suspend, though drop functions are
 *           asked not to.
 * Tested    tests/gen_test.c, tests/defer_test.c, tests/local_test.c */
#include "coord/keeps.h"

#include "base/fork.h"
#include "base/mem.h"
#include "coord/error.h"
#include "sched/sched.h"

struct weft__keeps *weft__keeps(struct weft__frame *f)
{
    struct weft__keeps *k = own(f->keeps); /* a worker's loop has borrowed some */
    if (!k && (k = weft__mem_zeroed(sizeof *k)) != NULL) {
        k->heap = true;
        own_set(f->keeps, k);
    }
    return k;
}

int weft__keeps_end(struct weft__frame *f, int rc)
{
    struct weft__keeps *k = f->keeps;
    struct weft__unclean u;
    weft__fork_expect_parent();
    weft__unclean_begin(&u, f);
    while (weft__gens_close(&k->gens, &u))
        continue;
    weft__values_end(k);
    f->keeps = NULL;
    if (k->heap)
        weft__mem_free(k);
    weft__unclean_over(&u, f);
    return weft__unclean_result(&u, f, rc);
}
