/* os/lane.c - lanes: threads of the program's own for calls that block, and which of a runtime's own a call uses.
 *
 * Owns      the lanes that the program made. Each is a pool (event/offload.c) of no runtime: tasks of any may use it.
 * Callers   create and destroy: any thread; calls on one: tasks, and plain threads, which call fn directly.
 * Holds     L1  what waits on one lane waits for that lane's threads alone: user work, files and names have one each, so
 *               that look-ups that never return do not keep a file from being read, nor the other way about.
 * Room      A call lies in its caller's frame from the beginning to the end, queued or not. So who waits for room in the
 *           queue and who waits in the queue wait alike, in the order of coming, and take as much memory: a lane with
 *           wait_for_room is one whose queue has no bound.
 * Fork      A lane counts as a runtime does: a child that is forked while there is one is told so by every call.
 * Tested    tests/lane_test.c */
#include "os/lane.h"

#include <errno.h>

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"

struct weft__pool *weft__lane_pool(weft_runtime *rt, enum weft__lane_kind kind)
{
    switch (kind) {
    case WEFT__LANE_FILES:
        return &rt->files;
    case WEFT__LANE_NAMES:
        return &rt->names;
    case WEFT__LANE_USER:
        break;
    }
    return &rt->pool;
}

int weft_lane_create(weft_lane **out, const weft_lane_options *o)
{
    static const struct weft__pool_usual usual = { "lane", WEFT__POOL_MOST, INT64_C(10000000000) };
    weft_lane *l;
    if (weft__forked)
        return -ECHILD;
    if (!out || (o && !weft__pool_valid(o)))
        return -EINVAL;
    int rc = weft__register();
    if (rc < 0)
        return rc;
    if (!(l = weft__mem_zeroed(sizeof *l)))
        return -ENOMEM;
    weft__fork_mask(&l->mask);
    weft__fork_runtime_begin();
    weft__pool_init(&l->pool, o, &usual, &l->mask);
    *out = l;
    return 0;
}

void weft_lane_destroy(weft_lane **out)
{
    if (!out || !*out || weft__forked)
        return;
    weft_lane *l = *out;
    *out = NULL;
    weft__pool_fini(&l->pool);
    weft__mem_free(l);
    weft__fork_runtime_end();
}

int weft_blocking_on(weft_lane *l, weft_fn *fn, void *arg)
{
    if (weft__forked)
        return -ECHILD;
    return l ? weft__on_stack(weft__lane_call_on(&l->pool, fn, arg)) : -EINVAL;
}

int weft_blocking_copy_on(weft_lane *l, weft_fn *fn, void *arg, size_t bytes, void (*drop)(void *arg))
{
    if (weft__forked)
        return -ECHILD;
    return l ? weft__on_stack(weft__lane_call_copy_on(&l->pool, fn, arg, bytes, drop)) : -EINVAL;
}
