/* engine/io.c - the I/O thread: waits, hands out, looks after workers that do not; runs nothing.
 *
 * Owns      the outer wait and the tick.
 * Callers   its own thread.
 *
 *     the I/O thread                               whoever wakes a worker (sched/idle.c)
 *     T1  all parked, twice in a row, and no       S4  parked - 1
 *         trim to be done (engine/trim.c), and
 *         nobody asked who is to answer
 *         (engine/turns.c):
 *         blocked = 1                                  -- full fence --
 *         -- full fence --                         S6  blocked? kick
 *     T2  not all parked, or an earlier timer,
 *         or stopping? blocked = 0
 *         else a deadlock is told, if it is one (engine/stall.c)
 *     T3  wait: blocked, until the earliest timer, or until a trim is due (G1), and not at all after a slice of one
 *         (G6); else at most one tick, or until the earliest timer of a worker that is away, but not within 100 us
 *         after it woke one for a timer: a train of them wakes nobody for each. A worker that parks with an earlier
 *         timer of its own kicks
 *     T4  blocked = 0; the set fired: armed = 0, harvest, hand out (R9)
 *     T5  -- full fence -- all parked, or all that are awake absent, and not armed? arm again
 *     T6  a timer is due on a worker that is away, one is parked and nobody searches: wake it. It strikes
 *     T7  tick (R10): wake one if a worker that is absent or stuck has work, or a queue of all has; if all that are
 *         awake are absent and nobody searches, harvest for them, and if nothing came, arm. If nobody is parked and
 *         those that are awake do not move, there are spares (engine/spare.c). Then, who holds one for long is told
 *         (engine/turns.c)
 *
 * Forbidden (T1/S6): T2 sees all parked and S6 sees no block. Then a worker is awake and nobody ticks.
 * Forbidden (T5): an arm that found armed still set before T4 cleared it, and no arm after. Then all sleep and
 * nobody listens.
 *
 * It blocks only after two looks at all parked: under traffic it ticks on, so that no wake has to pay a kick.
 * Tested    tests/models/idle.pml, stress/idle.c, tests/idle_test.c (an idle runtime uses nothing) */
#include "base/clock.h"
#include "engine/leap.h"
#include "engine/worker.h"

enum { SLICE_US = 1000 };

/* Whether every worker that is awake is absent; those that sleep have since == 0. */
static bool awake_are_absent(struct weft_runtime *rt, uint64_t now)
{
    int absent = 0;
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++)
        absent += weft__sched_absent(rt->group.all[i], now);
    return weft__group_awake_absent(&rt->group, absent);
}

static int64_t earliest_of_all(struct weft_runtime *rt)
{
    int64_t earliest = INT64_MAX;
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++) {
        int64_t at = weft__timers_earliest(&rt->workers[i]->timers);
        if (at < earliest)
            earliest = at;
    }
    return earliest;
}

/* When to look at timers again of which the first is at `at`. On a virtual clock: at once if it is due, else in a tick,
 * when whoever keeps time from moving may be gone (engine/leap.c). */
static int64_t in_real_time(struct weft_runtime *rt, int64_t at)
{
    const struct weft__clock *c = &rt->group.clock;
    if (!c->is_virtual || at == INT64_MAX)
        return at;
    return at <= weft__clock_now(c) ? INT64_MIN : weft__now() + 1000 * (int64_t)WEFT__TICK_US;
}

/* R9 */
static void hand_out(struct weft_runtime *rt, const uint32_t *tasks, uint32_t n)
{
    if (n == 0)
        return;
    struct weft__group *g = &rt->group;
    uint64_t now = weft__group_ticks(g);
    struct weft__sched *s = weft__idle_searching(&g->idle) == 0 ? weft__idle_claim(g) : NULL;
    if (s) {
        for (uint32_t i = 0; i < n; i++)
            weft__sched_push(s, weft__task_at(tasks[i]), now);
        weft__idle_wake(g, s);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        weft__group_put(g, weft__task_at(tasks[i]));
}

static uint32_t harvest(struct weft_runtime *rt)
{
    uint32_t woken[2 * WEFT__POLL_BATCH];
    int events;
    uint32_t n = weft__poller_harvest(&rt->poller, woken, &events);
    hand_out(rt, woken, n);
    return (uint32_t)events;
}

/* The earliest timer after `after` that its worker, which sleeps or is absent, does not strike itself. */
static int64_t earliest_left_alone(struct weft_runtime *rt, int64_t after)
{
    int64_t earliest = INT64_MAX;
    uint64_t now = weft__group_ticks(&rt->group);
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++) {
        int64_t at = weft__worker_left_alone(rt->workers[i], now);
        if (at > after && at < earliest)
            earliest = at;
    }
    return earliest;
}

/* T6. Workers alone strike timers: what strikes then runs in the order of its times, and where it was struck. If there
 * is nobody to wake, all are awake, and nothing that strikes could run any sooner. True if it woke one. */
static bool wake_for_timers(struct weft_runtime *rt, int64_t now)
{
    struct weft__idle *idle = &rt->group.idle;
    if (weft__idle_parked(idle) == 0 || weft__idle_searching(idle) > 0 ||
            earliest_left_alone(rt, INT64_MIN) > now)
        return false;
    bool absent = awake_are_absent(rt, weft__group_ticks(&rt->group));
    return absent ? weft__idle_notify_anyway(&rt->group) : weft__idle_notify(&rt->group);
}

bool weft__io_attend(struct weft_runtime *rt)
{
    if (harvest(rt) == 0)
        weft__poller_arm(&rt->poller);
    return weft__group_has_work(&rt->group) ||
            earliest_left_alone(rt, INT64_MIN) <= weft__clock_now(&rt->group.clock);
}

/* T7. A worker is stuck if it has work and not begun a turn since the last tick. */
static void tick(struct weft_runtime *rt)
{
    struct weft__group *g = &rt->group;
    uint64_t now = weft__group_ticks(g);
    bool work = weft__group_has_work(g);
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++) {
        struct weft__sched *s = g->all[i];
        uint64_t turns = at_load(&s->count.ran);
        bool stuck = turns == rt->seen_turns[i] || weft__sched_absent(s, now);
        rt->seen_turns[i] = turns;
        if (stuck && at_load(&s->since) != 0 &&
                (weft__sched_has_work(s) || (g->chaos_seed != 0 && weft__inject_len(&s->pinned) > 0)))
            work = true;
    }
    weft__spares_look(rt, work);
    if (weft__idle_parked(&g->idle) == 0)
        return;
    if (work && weft__idle_searching(&g->idle) == 0)
        weft__idle_notify_anyway(g);
    if (awake_are_absent(rt, now) && weft__idle_searching(&g->idle) == 0 && harvest(rt) == 0)
        weft__poller_arm(&rt->poller);
}

/* A slice ends before the earliest timer is due. */
static void trim_until(struct weft_runtime *rt, int64_t until)
{
    int64_t earliest = in_real_time(rt, earliest_of_all(rt));
    weft__trim_slice(rt, earliest < until ? earliest : until);
}

static void blocked(struct weft_runtime *rt, bool yes)
{
    ati_store_release(&rt->group.idle.io_blocked, yes);
}

void *weft__io_thread(void *runtime)
{
    struct weft_runtime *rt = runtime;
    bool was_parked = false;
    int64_t seen = INT64_MIN;  /* T6 has seen to what is due until then */
    int64_t again = INT64_MIN; /* and does not wake anybody before that time */
    while (!ati_load_acquire(&rt->stopping)) {
        bool fired, parked = weft__group_all_parked(&rt->group), block = parked && was_parked && !weft__turns_waits(rt);
        int64_t now = weft__now(), until = now + 1000 * (int64_t)WEFT__TICK_US, earliest;
        int64_t trim = block ? weft__trim_when(rt) : INT64_MAX;
        was_parked = parked;
        if (trim <= now) { /* instead of blocking; what came meanwhile is seen to below, without waiting */
            until = now;
            block = false;
            trim_until(rt, now + 1000 * (int64_t)SLICE_US);
        }
        if (block) {
            blocked(rt, true);  /* T1 */
            at_fence_full();
            if (!weft__group_all_parked(&rt->group) || ati_load(&rt->stopping)) { /* T2; the timers are read after it */
                blocked(rt, false);
                block = false;
            }
        }
        int64_t stall = block ? weft__stall_look(rt) : INT64_MAX; /* what it wakes is seen by the kick of S6 */
        earliest = in_real_time(rt, block ? earliest_of_all(rt) : earliest_left_alone(rt, seen));
        if (block)
            until = earliest < trim ? earliest : trim;
        else if (earliest < until)
            until = earliest;
        if (stall < until)
            until = stall;
        /* Who parks with an earlier timer than it sees here kicks; none is looked at before `again` anyway. */
        at_store(&rt->io_until, (uint64_t)(until > again ? until : INT64_MIN));
        at_fence_full(); /* meets P2 */
        earliest = in_real_time(rt, block ? earliest_of_all(rt) : earliest_left_alone(rt, seen));
        if (earliest < until)
            until = earliest;
        if (until < again)
            until = again;
        weft__poller_wait(&rt->poller, until, &fired); /* T3 */
        blocked(rt, false);                            /* T4 */
        if (fired) {
            ati_store_release(&rt->poller.armed, 0);
            harvest(rt);
            at_fence_full(); /* T5, meets P1/P2 of who found armed still set */
            if (awake_are_absent(rt, weft__group_ticks(&rt->group)) && weft__idle_searching(&rt->group.idle) == 0)
                weft__poller_arm(&rt->poller);
        }
        if (ati_load(&rt->asked_stop) | ati_load(&rt->asked_dump))
            weft__signals_serve(rt);
        if (parked)
            weft__leap(rt);
        seen = weft__clock_now(&rt->group.clock);
        if (wake_for_timers(rt, seen))
            again = weft__now() + 1000 * (int64_t)WEFT__TIMERS_US;
        if (!weft__group_all_parked(&rt->group))
            tick(rt);
        weft__turns_look(rt);
    }
    return NULL;
}
