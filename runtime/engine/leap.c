/* engine/leap.c - when virtual time moves.
 *
 * Owns      clock.now of a runtime with a virtual clock.
 * Callers   the worker that is the last to park, between P3 and P4 (sched/idle.c); the I/O thread, each tick.
 * Time      begins at WEFT__VIRTUAL_BEGIN, stands still while anything can run, and leaps to the earliest timer of all
 *           when nothing can. A task that waits for the time to pass by yielding or computing waits for ever.
 *
 * It leaps when the runtime is at rest by V1 to V3, H1 to H3 of engine/rest.c: then now = the earliest timer (V4). Else a
 * deadline would strike before what came first.
 *
 * Two may find it at rest at once. So `now` is read before V1, the earliest timer before V3, and V4 is one step from that
 * `now`: whoever comes second does nothing. (Forbidden: the first leaps, and strikes its timer; the second looks for the
 * earliest then, and leaps past the task that was woken.)
 *
 * What plain threads wait for in weft with deadlines and sleeps of their own is in real time, so none may apply to a scope
 * on a virtual runtime (coord/scope.c). What a task waits for in another runtime is not known.
 *
 * Descriptors are hands for as long as somebody waits on one: bytes may be in the kernel, and real time would not have
 * reached the deadline. So a program that listens all the time does not leap.
 *
 * Nobody tells that a hand is gone: while there are hands and timers the I/O thread looks each tick, in real time.
 *
 * Several workers: V3 is taken when the last has announced itself; if a foreign task comes between V3 and V4 the leap
 * counts as having been before it. The leaper then retracts (U) and strikes; so does whom the I/O thread wakes (T6).
 * One worker: its ticks are virtual, too, a microsecond each turn (sched/chaos.c), and nothing that it decides depends on
 * how often it looked or slept in between.
 * Tested    tests/replay_test.c */
#include "engine/leap.h"

#include "engine/rest.h"

bool weft__leap(struct weft_runtime *rt)
{
    struct weft__clock *c = &rt->group.clock;
    int64_t earliest = INT64_MAX;
    uint64_t before = 0, after = 0;
    if (!c->is_virtual)
        return false;
    uint64_t now = at_load_acquire(&c->now);
    if (!weft__quiet(rt, &before) || weft__hands_rest(rt) < 0)
        return false;
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++) {
        int64_t at = weft__timers_earliest(&rt->workers[i]->timers);
        if (at < earliest)
            earliest = at;
    }
    at_fence_full();
    if (!weft__quiet(rt, &after) || after != before || earliest == INT64_MAX)
        return false;
    if (earliest > (int64_t)now)
        (void)at_cas(&c->now, now, (uint64_t)earliest); /* V4 */
    return true;
}
