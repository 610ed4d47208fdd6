/* engine/worker.c - the loop of a worker: run, look around, search, sleep; and a host's steps of it.
 *
 * Owns      the polling rules R1 to R14 (see docs/io-rules.md for the list and the measurements behind it), as far
 *           as a worker applies them; sched/sched.c has those of a dispatch, engine/io.c the I/O thread's.
 * Callers   the worker's thread; for a step, its host (engine/host.c). Tasks come back here every 61 turns, every
 *           millisecond, when nothing is ready, and before a slow task. */
#include "engine/worker.h"

#include <sched.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fork.h"
#include "base/rng.h"
#include "engine/leap.h"
#include "sched/errand.h"

enum { STEAL_MOST = 64, STRIKE_LEAST = 16, POLL_LEAST_US = 50, LOOP_US = 1000, TOGETHER_US = 20, BACKOFF_MOST = 63 };

/* ---- the polling role */

/* R2: whether this worker may poll now; takes the role if it is free or its holder is absent. */
static bool may_poll(struct weft__worker *w, uint64_t now)
{
    struct weft__poller *p = &w->rt->poller;
    uint64_t mine = w->sched.id + 1, holder = at_load_acquire(&p->role); /* it may be a spare that is new here */
    if (holder == mine)
        return true;
    if (holder != 0 && !weft__sched_absent(w->sched.group->all[holder - 1], now))
        return false;
    return at_cas(&p->role, holder, mine);
}

static bool give_up_role(struct weft__worker *w)
{
    struct weft__poller *p = &w->rt->poller;
    uint64_t mine = w->sched.id + 1;
    return at_load(&p->role) == mine && at_cas(&p->role, mine, 0);
}

static uint32_t push_all(struct weft__sched *s, const uint32_t *tasks, uint32_t n, uint64_t now)
{
    for (uint32_t i = 0; i < n; i++)
        weft__sched_push(s, weft__task_at(tasks[i]), now);
    return n;
}

/* R3: the batch goes into the own ring, and wakes nobody. */
static uint32_t poll_into_ring(struct weft__worker *w)
{
    struct weft__sched *s = &w->sched;
    uint32_t woken[2 * WEFT__POLL_BATCH];
    int events;
    uint32_t n = weft__poller_harvest(&w->rt->poller, woken, &events);
    w->polled_at = weft__sched_ticks(s);
    w->turns_at_poll = at_load(&s->count.ran);
    weft__count(&s->count.polls, 1);
    weft__count(&s->count.events, (uint64_t)events);
    weft__sched_prefetch(woken, n);
    return push_all(s, woken, n, w->polled_at);
}

static bool poll_is_due(struct weft__worker *w, uint64_t now)
{
    uint64_t since = now - w->polled_at;
    return since > weft__us_to_ticks(LOOP_US) ||
            (at_load(&w->sched.count.ran) - w->turns_at_poll >= WEFT__LOOP_TURNS && since > weft__us_to_ticks(POLL_LEAST_US));
}

/* ---- timers */

/* What the ring could not take would go through the shared queue, and with it what is woken meanwhile; in the heap, or
 * in an errand, it waits as well, and in order. */
static bool ring_is_full_enough(const struct weft__sched *s)
{
    return weft__ready_len(&s->ring) >= WEFT__RING / 2;
}

/* But not for ever: there may be so many that yield. */
static bool errand_is_due(const struct weft__worker *w, uint64_t now)
{
    return !ring_is_full_enough(&w->sched) || now - w->errand_at > weft__us_to_ticks(LOOP_US);
}

static uint32_t expire(struct weft__worker *w, struct weft__timers *t, int64_t now)
{
    uint32_t woken[STEAL_MOST], n, all = 0;
    uint32_t most = ring_is_full_enough(&w->sched) ? STRIKE_LEAST : STEAL_MOST;
    do {
        n = t == &w->timers ? weft__timers_expire(t, now, woken, most) : weft__timers_help_expire(t, now, woken, most);
        weft__sched_prefetch(woken, n);
        all += push_all(&w->sched, woken, n, weft__sched_ticks(&w->sched));
    } while (n == STEAL_MOST && !ring_is_full_enough(&w->sched));
    if (all > 0 && own(w->sched.chaos))
        weft__chaos_struck(&w->sched, all, now);
    return all;
}

/* Strikes what is due: on the own heap, on those that are left alone, and on all of them for who has nothing else
 * to do. Returns how many tasks were made ready. */
static uint32_t expire_due(struct weft__worker *w, bool all, uint64_t ticks)
{
    struct weft__sched *s = &w->sched;
    int64_t now = 0;
    uint32_t n = 0;
    for (int i = 0, seats = weft__group_seats(s->group); i < seats; i++) {
        struct weft__worker *v = w->rt->workers[i];
        int64_t at = all || v == w ? weft__timers_earliest(&v->timers) : weft__worker_left_alone(v, ticks);
        if (at == INT64_MAX)
            continue;
        if (now == 0)
            now = weft__clock_now(&s->group->clock);
        if (at <= now)
            n += expire(w, &v->timers, now);
    }
    return n;
}

/* When the loop should look at timers, the earliest of which is due in `left` ns. While tasks run, timers that strike
 * within 20 us of each other are struck together; a worker that has nothing else to do looks at once. */
static uint64_t due_in(int64_t left)
{
    uint64_t us = left > 0 ? (uint64_t)left / 1000 : 0;
    return weft__us_to_ticks(us < TOGETHER_US ? TOGETHER_US : us);
}

void weft__worker_due(struct weft__sched *s, int64_t at)
{
    int64_t looked_at = own(weft__worker_of(s)->timers.looked);
    if (at > looked_at && at - looked_at > 1000 * LOOP_US)
        return; /* the loop gets a turn before that; most timeouts are long, and the clock costs more than the timer */
    int64_t now = weft__clock_now(&s->group->clock);
    uint64_t due = weft__sched_ticks(s) + due_in(at > now ? at - now : 0);
    if (due < own(s->loop_due))
        own_set(s->loop_due, due);
}

static int64_t earliest_of_all(struct weft__worker *w)
{
    int64_t earliest = INT64_MAX;
    for (int i = 0, seats = weft__group_seats(w->sched.group); i < seats; i++) {
        int64_t at = weft__timers_earliest(&w->rt->workers[i]->timers);
        if (at < earliest)
            earliest = at;
    }
    return earliest;
}

/* The loop's next turn: in a millisecond, or when the first timer is due that this worker has to strike. */
static void set_loop_due(struct weft__worker *w, uint64_t now)
{
    struct weft__sched *s = &w->sched;
    int64_t earliest = weft__timers_earliest(&w->timers), left;
    for (int i = 0, seats = weft__group_seats(s->group); i < seats; i++) {
        int64_t at = weft__worker_left_alone(w->rt->workers[i], now);
        if (at < earliest)
            earliest = at;
    }
    int64_t looked_at = weft__clock_now(&s->group->clock);
    own_set(w->timers.looked, looked_at);
    own_set(s->loop_due, now + weft__us_to_ticks(LOOP_US));
    if (earliest != INT64_MAX && !ring_is_full_enough(s) && (left = earliest - looked_at) < 1000 * LOOP_US)
        own_set(s->loop_due, now + due_in(left));
}

/* ---- taking from others */

static uint32_t take_injected(struct weft__sched *s, uint32_t most, uint64_t now)
{
    uint32_t tasks[STEAL_MOST];
    uint32_t n = weft__inject_take(&s->group->inject, tasks, most < STEAL_MOST ? most : STEAL_MOST);
    return push_all(s, tasks, n, now);
}

/* What is this worker's to take, so that nobody waits there while rings are filled anew. */
static void take_share(struct weft__sched *s, uint64_t now)
{
    uint64_t share = weft__inject_len(&s->group->inject) / (uint64_t)s->group->cores + 1;
    if (share > 1)
        take_injected(s, share < STEAL_MOST ? (uint32_t)share : STEAL_MOST, now);
    else
        take_injected(s, 1, now);
}

static uint32_t steal_ring(struct weft__sched *s, struct weft__sched *victim)
{
    uint32_t tasks[STEAL_MOST];
    uint32_t n = weft__ready_grab(&victim->ring, tasks, STEAL_MOST);
    for (uint32_t i = 0; i < n; i++)
        if (!weft__ready_push(&s->ring, tasks[i]))
            weft__sched_push(s, weft__task_at(tasks[i]), weft__sched_ticks(s));
    return n;
}

/* One spawned task; a few more if there are many, so that a flood of small ones does not cost a trip each. */
static uint32_t steal_deque(struct weft__sched *s, struct weft__sched *victim)
{
    uint32_t n = 0;
    while (n < 16 && weft__deque_size(&s->deque) < 128) { /* its array holds 256: the push cannot fail */
        uint64_t size = weft__deque_size(&victim->deque);
        if (size == 0 || (n > 0 && size < 64))
            break;
        uint64_t id = weft__deque_steal(&victim->deque);
        if (id == 0)
            break;
        weft__expect(weft__deque_push(&s->deque, id));
        n++;
    }
    return n;
}

/* What it keeps to itself, if it does not come back to it. */
static uint32_t steal_private(struct weft__sched *s, struct weft__sched *victim, uint64_t now)
{
    uint64_t since = at_load(&victim->since), word;
    if (since == 0 || (int64_t)(now - since) < (int64_t)weft__us_to_ticks(WEFT__NEXT_US))
        return 0;
    if ((word = weft__private_steal(&victim->next)) != 0)
        weft__sched_push(s, weft__task_at((uint32_t)word - 1), now);
    else if (weft__deque_size(&s->deque) < 128 && (word = weft__private_steal(&victim->newest)) != 0)
        weft__expect(weft__spawned_push(s, word)); /* as above */
    return word != 0;
}

static uint32_t steal_from(struct weft__sched *s, struct weft__sched *victim, uint64_t now)
{
    uint32_t got = steal_ring(s, victim);
    if (!got)
        got = steal_deque(s, victim);
    return got ? got : steal_private(s, victim, now);
}

static uint32_t steal_round(struct weft__sched *s, uint64_t now)
{
    uint32_t n = (uint32_t)weft__group_seats(s->group), first = weft__rng_next(&s->rng), got = 0;
    for (uint32_t i = 0; i < n && !got; i++) {
        struct weft__sched *victim = s->group->all[(first + i) % n];
        if (victim != s)
            got = steal_from(s, victim, now);
    }
    return got;
}

/* The same, the nearest first; apart, for what it needs of the stack. */
static __attribute__((noinline)) uint32_t steal_near_first(struct weft__sched *s, uint64_t now)
{
    uint16_t order[WEFT__WORKERS_MOST];
    struct weft__group *g = s->group;
    uint32_t seats = (uint32_t)weft__group_seats(g), got = 0;
    uint32_t n = weft__place_order(g->places, seats, s->id, weft__rng_next(&s->rng), order);
    for (uint32_t i = 0; i < n && !got; i++)
        got = steal_from(s, g->all[order[i]], now);
    return got;
}

static bool steal(struct weft__sched *s, uint64_t now)
{
    struct weft__group *g = s->group;
    uint32_t got = g->chaos_seed != 0 ? weft__chaos_steal(s) : g->places ? steal_near_first(s, now) : steal_round(s, now);
    weft__count(got > 0 ? &s->count.stolen : &s->count.failed, got > 0 ? got : 1);
    return got > 0;
}

/* One that may have something: a spare out of play has not. */
static struct weft__sched *draw_other(struct weft__group *g, uint32_t me, uint32_t draw)
{
    uint32_t n = (uint32_t)weft__group_seats(g);
    struct weft__sched *v = g->all[g->places ? weft__place_draw(g->places, n, me, draw) : draw % n];
    return ati_load(&v->resting) ? g->all[draw % (uint32_t)g->n] : v;
}

/* R13: a busy worker looks at one other now and then, and takes half of what is more than its own: a queue that is
 * longer for long would mean longer tails. So would one whose worker does not move: its thread may not be running, or it is
 * held; and what it has spawned, nobody would ever get to as long as all others have enough of their own. */
static void balance(struct weft__sched *s, uint32_t mine, uint64_t now)
{
    struct weft__sched *victim = draw_other(s->group, s->id, weft__rng_next(&s->rng));
    if (victim == s)
        return;
    uint32_t theirs = weft__ready_len(&victim->ring), got = 0;
    uint64_t since = at_load(&victim->since);
    bool longer = theirs > 2 * mine && (mine == 0 || theirs > 16);
    bool stranded = since != 0 && (int64_t)(now - since) > (int64_t)weft__us_to_ticks(WEFT__AGE_US);
    if (s->group->chaos_seed != 0)
        got = weft__chaos_balance(s);
    else if (longer || (stranded && theirs > 0))
        got = steal_ring(s, victim);
    else if (stranded || (mine == 0 && theirs == 0 && weft__deque_size(&victim->deque) > 1))
        got = steal_deque(s, victim);
    if (stranded && got == 0)
        got = steal_private(s, victim, now);
    weft__count(&s->count.stolen, got);
}

/* ---- looking around, between turns */

/* X3: newer spawned tasks go before older ones, but if nobody has taken from that end for a while, the oldest is next. */
static void oldest_first(struct weft__worker *w, uint64_t now)
{
    struct weft__sched *s = &w->sched;
    uint64_t top = at_load(&s->deque.top), id;
    if (top != w->top_seen || weft__deque_size(&s->deque) == 0) {
        w->top_seen = top;
        w->top_since = now;
        return;
    }
    if (now - w->top_since < weft__us_to_ticks(WEFT__OLDEST_US))
        return;
    while ((id = weft__deque_steal(&s->deque)) != 0) {
        struct weft__task *t = weft__task_at(weft__id_index((weft_task)id));
        if (weft__task_claim(t, (weft_task)id)) { /* else a dead entry */
            own_set(s->picked, t);
            own_set(s->picked_new, true);
            return;
        }
    }
}

static bool somebody_else_serves(struct weft__worker *w, uint64_t now)
{
    struct weft__group *g = w->sched.group;
    if (weft__idle_parked(&g->idle) > 0)
        return true;
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++)
        if (g->all[i] != &w->sched && !ati_load(&g->all[i]->resting) && !weft__sched_absent(g->all[i], now))
            return true;
    return false;
}

static void push_yielder(struct weft__sched *s, uint64_t now)
{
    struct weft__task *y = own(s->yielder);
    own_set(s->yielder, NULL);
    if (!y)
        return;
    if (own(s->breathing)) /* depth first, but the ring gets its turn */
        own_set(s->ring_first, (int)weft__ready_len(&s->ring) + 1);
    own_set(s->breathing, false);
    weft__sched_push(s, y, now);
}

/* `slow`: after a task that held it up; `idle`: with none but the one that has just yielded. */
static void take_from_others(struct weft__sched *s, bool slow, bool idle, uint64_t now)
{
    uint32_t ready = weft__ready_len(&s->ring);
    if (slow && ready == 0)
        steal(s, now); /* R11: what it finds goes before that task */
    else
        balance(s, idle ? ready : ready + (uint32_t)weft__spawned_count(s) + 1, now);
}

static void look_around(struct weft__worker *w, uint64_t now)
{
    struct weft__sched *s = &w->sched;
    struct weft__task *y = own(s->yielder);
    bool slow = y && weft__task_slow(y);
    bool served = slow && somebody_else_serves(w, now); /* R11 */
    bool leaves = weft__sched_dismissed(s); /* and steals nothing that it could not hand over (Z4) */
    bool alone = weft__ready_len(&s->ring) == 0;

    if (s->group->places)
        weft__place_look(s);
    expire_due(w, false, now);
    if (!served) {
        take_share(s, now);
        if (errand_is_due(w, now) && weft__errand_run(s->group))
            w->errand_at = now;
        if ((slow || poll_is_due(w, now)) && may_poll(w, now))
            poll_into_ring(w);
        if (!leaves)
            take_from_others(s, slow, y && alone, now);
    }
    if (own(s->first_turn) && now - own(s->began) > weft__us_to_ticks(LOOP_US)) /* R14 */
        own_set(s->ring_first, (int)weft__ready_len(&s->ring));
    push_yielder(s, now);
    oldest_first(w, now);
    set_loop_due(w, now);
}

/* ---- nothing to do */

/* R6 */
static bool should_spin(struct weft__worker *w)
{
    if (w->spin_skip == 0)
        return true;
    w->spin_skip--;
    return false;
}
static void spin_ended(struct weft__worker *w, bool rewarded)
{
    w->spin_backoff = rewarded ? 0 : w->spin_backoff < BACKOFF_MOST ? 2 * w->spin_backoff + 1 : BACKOFF_MOST;
    w->spin_skip = w->spin_backoff;
}

enum found { NOTHING, A_TIMER, SOMETHING };

static enum found find(struct weft__worker *w, bool poller, uint64_t now)
{
    struct weft__sched *s = &w->sched;
    if (at_load(&s->pinned.count) > 0)
        return SOMETHING;
    if (expire_due(w, true, now) > 0)
        return A_TIMER;
    if (weft__errand_run(s->group)) /* a slice; what it woke is in the ring */
        return SOMETHING;
    return (poller && poll_into_ring(w) > 0) || take_injected(s, STEAL_MOST, now) > 0 || steal(s, now) ? SOMETHING
                                                                                                      : NOTHING;
}

/* R5: whether who would send something may have no other core than this worker's: some are taken by those that are absent
 * (who sleeps in a call counts, too), but not all. If all are, whoever yields waits for them. */
static bool cores_are_short(struct weft__worker *w, uint64_t now)
{
    struct weft__group *g = w->sched.group;
    int absent = 0;
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++)
        absent += weft__sched_absent(g->all[i], now);
    return absent > 0 && absent < g->cores;
}

/* R5 */
static bool search(struct weft__worker *w)
{
    uint64_t start = weft__sched_ticks(&w->sched), now = start;
    if (!weft__idle_search(&w->sched))
        return false;
    bool poller = may_poll(w, now);
    enum found found = find(w, poller, now);
    if (found || !poller || w->rt->manual || !should_spin(w) || w->sched.group->clock.is_virtual)
        return found; /* a host has other things to do; virtual time stands still meanwhile */
    bool yields = cores_are_short(w, now);
    do {
        if (yields)
            sched_yield();
        else
            for (int i = 0; i < 4; i++)
                at_relax();
        found = find(w, may_poll(w, now), now);
        now = weft__sched_ticks(&w->sched);
    } while (!found && now - start < weft__us_to_ticks(WEFT__SPIN_US) && !ati_load(&w->rt->stopping));
    spin_ended(w, found == SOMETHING); /* of a timer it is known when it will be; no need to look out for it */
    return found;
}

/* P3 */
static bool work_in_sight(struct weft__worker *w, uint64_t now, int *absent_workers)
{
    struct weft__sched *s = &w->sched;
    struct weft__group *g = s->group;
    bool work = weft__group_has_work(g) || at_load(&s->pinned.count) > 0 || ati_load(&w->rt->stopping);
    *absent_workers = 0;
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++) {
        struct weft__sched *v = g->all[i];
        bool absent = weft__sched_absent(v, now);
        *absent_workers += absent;
        if (weft__ready_len(&v->ring) > 0 || weft__deque_size(&v->deque) > 0 ||
                (weft__sched_has_private(v) && (absent || v == s)))
            work = true;
    }
    int64_t earliest = earliest_of_all(w);
    return work || (earliest != INT64_MAX && earliest <= weft__clock_now(&g->clock)) || weft__leap(w->rt);
}

/* R7, P1 to P4. False: something is in sight. */
static bool lie_down(struct weft__worker *w)
{
    struct weft__sched *s = &w->sched;
    int absent;
    give_up_role(w);
    weft__idle_announce(s); /* P1, P2 */
    if (work_in_sight(w, weft__sched_ticks(s), &absent)) { /* P3 */
        if (weft__sched_dismissed(s) && !ati_load(&w->rt->stopping))
            weft__idle_notify(s->group); /* who relied on this one finds another */
        else if (weft__idle_retract(s))
            return false; /* U */
    }
    if (weft__group_awake_absent(s->group, absent))
        weft__poller_arm(&w->rt->poller); /* P4 */
    if (weft__timers_earliest(&w->timers) < (int64_t)at_load(&w->rt->io_until))
        weft__poller_kick(&w->rt->poller); /* T3 */
    weft__count(&s->count.parked, 1);
    return true;
}

/* ---- the loop */

/* R2: before a task that is very slow, the set is armed if nobody else would harvest meanwhile, and there is nobody to leave
 * that to in the ring. The role may be free, too: what this worker runs may have come from the I/O thread. */
static void before_slow(struct weft__worker *w, const struct weft__task *t, uint64_t now)
{
    struct weft__sched *s = &w->sched;
    if (weft__task_longer(t, WEFT__DRAIN_US) && weft__ready_len(&s->ring) == 0 && weft__idle_parked(&s->group->idle) > 0 &&
            weft__idle_searching(&s->group->idle) == 0 && may_poll(w, now) && give_up_role(w))
        weft__poller_arm(&w->rt->poller);
}

static struct weft__task *next(struct weft__worker *w, bool *is_new)
{
    struct weft__sched *s = &w->sched;
    struct weft__task *t = own(s->picked);
    if (!t)
        return weft__sched_pick(s, is_new);
    own_set(s->picked, NULL);
    *is_new = own(s->picked_new);
    return t;
}

/* Z4. What was spawned on it cannot be handed over, only stolen; until that has begun it does all that a worker does. */
static bool goes(const struct weft__sched *s)
{
    return weft__sched_dismissed(s) && weft__spawned_count(s) == 0;
}

/* All that waits here goes where everybody finds it. */
static void shed(struct weft__worker *w, uint64_t now)
{
    struct weft__sched *s = &w->sched;
    struct weft__group *g = s->group;
    uint64_t next = weft__private_take(&s->next);
    struct weft__task *starter;
    uint32_t index;
    expire_due(w, false, now);
    push_yielder(s, now);
    if (own(s->picked) && !own(s->picked_new)) {
        weft__sched_push(s, own(s->picked), now);
        own_set(s->picked, NULL);
    }
    while ((starter = weft__sched_starter(s)) != NULL)
        weft__group_put(g, starter);
    if (next != 0)
        weft__group_put(g, weft__task_at((uint32_t)next - 1));
    while (weft__ready_pop(&s->ring, &index))
        weft__group_put(g, weft__task_at(index));
    set_loop_due(w, now);
}

/* Runs tasks until the loop is due again. False: none is ready here. */
static bool turn(struct weft__worker *w)
{
    struct weft__sched *s = &w->sched;
    bool is_new;
    uint64_t now = weft__sched_ticks(s);
    weft__sched_took_over(s, now);
    if (goes(s))
        shed(w, now);
    else if (!own(s->picked))
        look_around(w, now);
    else
        push_yielder(s, now);
    struct weft__task *t = next(w, &is_new);
    if (!t)
        return false;
    weft__idle_found(s);
    if (!is_new && weft__task_slow(t))
        before_slow(w, t, now);
    weft__sched_run(s, t, is_new, now);
    return true;
}

bool weft__worker_run(struct weft__worker *w, uint64_t ticks)
{
    struct weft__sched *s = &w->sched;
    uint64_t began = ticks != 0 ? weft__sched_ticks(s) : 0;
    do {
        if (turn(w))
            continue;
        if (ati_load(&w->rt->stopping))
            return false;
        at_store(&s->since, 0);
        if ((goes(s) || !search(w)) && lie_down(w))
            return false;
    } while (ticks == 0 || weft__sched_ticks(s) - began < ticks);
    weft__sched_took_over(s, weft__sched_ticks(s)); /* what its host does meanwhile is no turn's */
    return true;
}

/* What a worker needs of the thread that it is on. */
void weft__worker_settle(struct weft__worker *w)
{
    weft__stack_of_thread(&w->sched.loop_stack);
    weft__fp_save(w->sched.loop.fp);
    if (w->rt->crash_report)
        weft__crash_thread_begin(&w->signal_stack);
    weft__errno_shared();
    weft__spares_know(w);
    weft__turns_settle(w);
}

void weft__worker_leave(struct weft__worker *w)
{
    weft__idle_found(&w->sched);
    weft__crash_thread_end(w->signal_stack);
}

void *weft__worker_thread(void *worker)
{
    struct weft__worker *w = worker;
    weft__worker_settle(w);
    weft__fork_mask_use(&w->rt->mask);
    weft__self_set(&w->sched);
    while (!weft__worker_run(w, 0) && !ati_load(&w->rt->stopping))
        weft__idle_sleep(&w->sched); /* P5 */
    weft__self_set(NULL);
    weft__worker_leave(w);
    return NULL;
}
