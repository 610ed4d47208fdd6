/* sched/chaos.c - a seed perturbs the schedule; what a worker did is summed up in a hash.
 *
 * Owns      each worker's generator, the trace, and the rule of forced migration.
 * Callers   one line each at the sites below; off, each costs a load of a word that nobody writes, and a branch.
 *
 * What a seed does, each at random, from a generator of the worker's own, seeded by {seed, worker}:
 *   pick      which source, next slot, ring, deque (either end), pinned, inject, and which place in the ring; or none:
 *             the worker's loop gets its turn first                                     sched.c, weft__sched_pick
 *   place     where a ready task goes: own next slot, own ring, inject, another worker  sched.c, weft__ready
 *   steal     from whom, which queue, how much; a next slot at once                     engine/worker.c, steal, balance
 *   yield     at calls that would not wait, and where nobody else is ready              coord/await.c, sched.c
 *   delay     between publish and switch (W3, W4 in wait.h), before a claim (F1), between the harvest of events or the
 *             choice of timers and their claims                       coord/await.c, sched.c, event/timer.c, poller_epoll.c
 *   inline    a join does not run an unstarted child as a call                          coord/child.c
 *   wake      a parked worker, for nothing                                              here, with a pick
 *   migrate   with several workers a task that waited, or yielded to others, goes on on another worker than before
 *
 * What it keeps: everything that the headers promise, pins, X1, X2, the order in which timers strike, and every lock and
 * protocol: nothing is done that a scheduler with other luck, or a slower processor, could not have done.
 * What it does not keep: of X3 the numbers. In place of "at most 4 turns in the next slot, 4 x its length in the ring":
 * whatever is queued here is drawn in each turn with a chance of one in 48 at least, so nothing waits for ever. And the
 * rules in time R1 to R14, as far as they choose: what a stuck worker has runs elsewhere after STUCK_US, not 2 ms.
 *
 * Migration   K1  a frame knows on which worker its last turn was (`chaos`, written as the turn ends).
 *             K2  wherever the task was queued, a pick that draws it there hands it to another worker, into that one's
 *                 pinned queue, from which nobody steals it.
 *             K3  unless each other worker is stuck: its turn has lasted longer than STUCK_US. Then it goes on where it
 *                 was (`kept`); and what was handed to a stuck one is taken back by who steals. So no task waits for
 *                 another one's blocking call.
 *
 * The trace   One 64-bit hash of: turns begun, by whom and from which source; turns that end, and how; timers that strike,
 *             how many and when. Tasks are numbered in the order of their first wait. With one worker, a virtual clock
 *             (engine/leap.c) and a program that depends on nothing else, it is the same in each run. For that nothing is
 *             drawn, counted or written down while nothing is ready: how often an idle worker looks, or sleeps, is left
 *             to the machine; and `inject`, which other threads fill, is no source of its own there: the loop moves what
 *             it finds to the ring.
 * Tested      tests/chaos_test.c, tests/replay_test.c; all others with WEFT_CHAOS=seed (.ci/run chaos) */
#include "sched/chaos.h"

#include <errno.h>
#include <sched.h>

#include "base/mem.h"
#include "base/rng.h"
#include "sched/sched.h"

enum { STUCK_US = 5000, STEAL_MOST = 64, ROTATE_MOST = 8 };
enum { TRACE_TURN = 16, TRACE_STRIKE = 17 }; /* beside enum weft__chaos_over */
enum { WORKER_BITS = 16 };

at_int weft__chaos_runtimes;

/* ---- generators */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

int weft__chaos_init(struct weft__sched *s, uint64_t seed, bool still)
{
    if (seed == 0 && !still)
        return 0;
    struct weft__chaos *c = weft__mem_zeroed(sizeof *c);
    if (!c)
        return -ENOMEM;
    c->rng = mix(seed + UINT64_C(0x9e3779b97f4a7c15) * (s->id + 1)) | 1;
    c->perturbs = seed != 0;
    c->ticks = still ? weft__us_to_ticks(1000000) : 0; /* not 0, which `since` takes for "in no turn" */
    s->chaos = c;
    return 0;
}

void weft__chaos_fini(struct weft__sched *s)
{
    weft__mem_free(s->chaos);
    s->chaos = NULL;
}

static uint32_t draw(struct weft__chaos *c, uint32_t n)
{
    uint64_t state = own(c->rng);
    uint32_t r = weft__rng_next(&state);
    own_set(c->rng, state);
    return (uint32_t)(((uint64_t)r * n) >> 32);
}

/* Threads that are no workers share one. */
static uint32_t draw_outside(uint32_t n)
{
    static at_word state;
    return (uint32_t)(((mix(at_add(&state, UINT64_C(0x9e3779b97f4a7c15))) >> 32) * n) >> 32);
}

/* The calling worker's, if its runtime has a seed. */
static struct weft__chaos *here(void)
{
    struct weft__sched *s = weft__self();
    struct weft__chaos *c = s ? own(s->chaos) : NULL;
    return c && own(c->perturbs) ? c : NULL;
}

bool weft__chaos_once_in(uint32_t n)
{
    struct weft__chaos *c = here();
    return c && draw(c, n) == 0;
}

/* r: of 4096. */
static void spend(uint32_t r)
{
    if (r == 0) {
        at_int never = 0;
        weft__futex_wait(&never, 0, weft__now() + 20000);
    } else if (r < 64) {
        sched_yield();
    } else if (r < 1024) {
        for (uint32_t i = 0; i < r; i++)
            at_relax();
    }
}

void weft__chaos_delay(void)
{
    struct weft__chaos *c = here();
    if (c)
        spend(draw(c, 4096));
    else if (!weft__self())
        spend(draw_outside(4096));
}

/* ---- the trace */

static void trace(struct weft__chaos *c, unsigned what, uint64_t detail)
{
    uint64_t h = (at_load(&c->hash) ^ detail ^ (uint64_t)what << 56) * UINT64_C(0x9e3779b97f4a7c15);
    at_store(&c->hash, h ^ h >> 29);
    at_store(&c->steps, at_load(&c->steps) + 1);
}

static uint64_t number_of(struct weft__group *g, struct weft__frame *f)
{
    uint64_t number = at_load(&f->chaos) >> WORKER_BITS;
    return number ? number : at_add(&g->numbers, 1) + 1;
}

uint64_t weft__chaos_turn_over(struct weft__sched *s, struct weft__frame *f, enum weft__chaos_over how)
{
    struct weft__chaos *c = own(s->chaos);
    uint64_t number = number_of(s->group, f);
    at_store(&f->chaos, number << WORKER_BITS | (s->id + 1)); /* K1 */
    trace(c, how, number);
    if (own(c->perturbs) && how == WEFT__OVER_WAIT)
        weft__chaos_delay(); /* between W3 and W4 */
    if (own(c->ticks) != 0)
        own_set(c->ticks, own(c->ticks) + weft__us_to_ticks(1));
    return weft__chaos_ticks(s);
}

uint64_t weft__chaos_ticks(const struct weft__sched *s)
{
    uint64_t ticks = own(own(s->chaos)->ticks);
    return ticks != 0 ? ticks : weft__ticks();
}

void weft__chaos_struck(struct weft__sched *s, uint64_t n, int64_t now)
{
    /* The time counts only where it is virtual, else the trace would be of no use with several workers either. */
    trace(own(s->chaos), TRACE_STRIKE, s->group->clock.is_virtual ? (uint64_t)now ^ n << 48 : n);
}

/* ---- migration */

static struct weft__frame *frame_of(struct weft__task *t)
{
    return (struct weft__frame *)(uintptr_t)at_load(&t->side);
}

static bool stuck(const struct weft__sched *v, uint64_t now)
{
    uint64_t since = at_load(&v->since);
    return since != 0 && (int64_t)(now - since) > (int64_t)weft__us_to_ticks(STUCK_US);
}

/* A worker other than `but` (its number + 1; 0 any), from the r-th on, that is not stuck; NULL: there is none. The only
 * one there is will do. */
static struct weft__sched *another(struct weft__group *g, uint32_t but, uint32_t r)
{
    uint64_t now = weft__ticks();
    uint32_t n = (uint32_t)g->n;
    if (n == 1)
        return g->all[0];
    for (uint32_t i = 0; i < n; i++) {
        struct weft__sched *v = g->all[(r + i) % n];
        if (v->id + 1 != but && !stuck(v, now))
            return v;
    }
    return NULL;
}

/* K2, K3. Whether it was handed on. */
static bool hand_on(struct weft__sched *s, struct weft__chaos *c, struct weft__task *t)
{
    uint64_t last = at_load(&frame_of(t)->chaos) & ((1u << WORKER_BITS) - 1);
    if (s->group->n < 2 || weft__task_pin(t) != 0 || last == 0)
        return false;
    struct weft__sched *v = last == s->id + 1 ? another(s->group, s->id + 1, draw(c, (uint32_t)s->group->n)) : NULL;
    if (v)
        weft__group_put_to(s->group, t, v);
    else
        weft__count(last == s->id + 1 ? &c->kept : &c->moved, 1);
    return v != NULL;
}

void weft__chaos_ready(struct weft__group *g, struct weft__sched *me, struct weft__task *t)
{
    struct weft__chaos *c = me && me->group == g ? own(me->chaos) : NULL;
    uint32_t n = (uint32_t)g->n;
    if (weft__task_pin(t) != 0) {
        weft__group_put(g, t);
        return;
    }
    switch (c ? draw(c, 4) : draw_outside(2)) {
    case 0:
        weft__group_put(g, t);
        return;
    case 1: {
        uint32_t last = (uint32_t)at_load(&frame_of(t)->chaos) & ((1u << WORKER_BITS) - 1);
        struct weft__sched *v = another(g, last, c ? draw(c, n) : draw_outside(n));
        if (v)
            weft__group_put_to(g, t, v);
        else
            weft__group_put(g, t);
        return;
    }
    case 2:
        weft__sched_push(me, t, weft__sched_ticks(me));
        return;
    default:
        if (own(own(me->frame)->task))
            weft__sched_put_next(me, t);
        else
            weft__sched_push(me, t, weft__sched_ticks(me));
        return;
    }
}

/* ---- the pick */

enum source { NEXT, RING, NEWEST, OLDEST, PINNED, INJECT, SOURCES };

static struct weft__task *from_deque(uint64_t id, bool *is_new)
{
    struct weft__task *t = weft__task_at(weft__id_index((weft_task)id));
    *is_new = true;
    return weft__task_claim(t, (weft_task)id) ? t : NULL; /* else a dead entry */
}

static struct weft__task *from_ring(struct weft__sched *s, struct weft__chaos *c, bool *is_new)
{
    uint32_t index, n = weft__ready_len(&s->ring);
    for (uint32_t turn = n > 1 ? draw(c, n < ROTATE_MOST ? n : ROTATE_MOST) : 0; turn > 0; turn--)
        if (weft__ready_pop(&s->ring, &index))
            weft__expect(weft__ready_push(&s->ring, index)); /* into the room it left */
    return weft__ready_pop(&s->ring, &index) ? weft__sched_drawn(index, is_new) : NULL;
}

static struct weft__task *from(struct weft__sched *s, struct weft__chaos *c, enum source source, bool *is_new)
{
    uint64_t word;
    uint32_t index;
    *is_new = false;
    switch (source) {
    case NEXT:
        return (word = weft__private_take(&s->next)) != 0 ? weft__task_at((uint32_t)word - 1) : NULL;
    case RING:
        return from_ring(s, c, is_new);
    case NEWEST:
        return (word = weft__spawned_take(s)) != 0 ? from_deque(word, is_new) : NULL;
    case OLDEST:
        return (word = weft__deque_steal(&s->deque)) != 0 ? from_deque(word, is_new) : NULL;
    case PINNED:
        return weft__inject_take(&s->pinned, &index, 1) ? weft__sched_drawn(index, is_new) : NULL;
    case INJECT:
        return s->group->n > 1 && weft__inject_take(&s->group->inject, &index, 1) ? weft__sched_drawn(index, is_new)
                                                                                 : NULL;
    case SOURCES:
        break;
    }
    return NULL;
}

static bool anything(const struct weft__sched *s)
{
    return weft__sched_has_work(s) || weft__inject_len(&s->pinned) > 0 ||
            (s->group->n > 1 && weft__inject_len(&s->group->inject) > 0);
}

struct weft__task *weft__chaos_pick(struct weft__sched *s, bool *is_new)
{
    struct weft__chaos *c = own(s->chaos);
    if (anything(s) && own(s->frame) != &s->loop && draw(c, 16) == 0)
        return NULL; /* the loop looks around first */
    while (anything(s)) {
        uint32_t first = draw(c, SOURCES);
        for (uint32_t i = 0; i < SOURCES; i++) {
            uint32_t source = (first + i) % SOURCES;
            struct weft__task *t = from(s, c, (enum source)source, is_new);
            if (!t || (!*is_new && hand_on(s, c, t)))
                continue;
            uint64_t number = *is_new ? 0 : at_load(&frame_of(t)->chaos) >> WORKER_BITS;
            trace(c, TRACE_TURN, number << 8 | source);
            if (draw(c, 32) == 0)
                weft__idle_notify_anyway(s->group);
            return t;
        }
    }
    return NULL;
}

bool weft__chaos_far_yield(struct weft__sched *s)
{
    struct weft__chaos *c = own(s->chaos);
    return own(c->perturbs) && draw(c, 4) == 0;
}

/* ---- stealing */

/* K3: what a stuck worker was handed, but not what is pinned to it. */
static uint32_t take_back(struct weft__sched *s, struct weft__sched *victim)
{
    uint32_t tasks[STEAL_MOST], taken = 0;
    uint32_t n = weft__inject_take(&victim->pinned, tasks, STEAL_MOST);
    for (uint32_t i = 0; i < n; i++) {
        struct weft__task *t = weft__task_at(tasks[i]);
        taken += weft__task_pin(t) == 0;
        weft__sched_push(s, t, weft__ticks()); /* a pinned one goes to where it belongs */
    }
    return taken;
}

static uint32_t steal_ring(struct weft__sched *s, struct weft__chaos *c, struct weft__sched *victim)
{
    uint32_t tasks[STEAL_MOST];
    uint32_t n = weft__ready_grab(&victim->ring, tasks, 1 + draw(c, STEAL_MOST));
    for (uint32_t i = 0; i < n; i++)
        weft__sched_push(s, weft__task_at(tasks[i]), weft__ticks());
    return n;
}

static uint32_t steal_deque(struct weft__sched *s, struct weft__chaos *c, struct weft__sched *victim)
{
    uint32_t n = 0;
    uint64_t id;
    for (uint32_t most = 1 + draw(c, 16); n < most && weft__deque_size(&s->deque) < 128; n++) { /* it holds 256 */
        if ((id = weft__deque_steal(&victim->deque)) == 0)
            break;
        weft__expect(weft__deque_push(&s->deque, id));
    }
    return n;
}

static uint32_t steal_private(struct weft__sched *s, struct weft__chaos *c, struct weft__sched *victim)
{
    uint64_t word;
    if (draw(c, 2) == 0) {
        if ((word = weft__private_steal(&victim->next)) == 0)
            return 0;
        weft__sched_push(s, weft__task_at((uint32_t)word - 1), weft__ticks());
        return 1;
    }
    if (weft__deque_size(&s->deque) >= 128 || (word = weft__private_steal(&victim->newest)) == 0)
        return 0;
    weft__expect(weft__spawned_push(s, word)); /* as above */
    return 1;
}

uint32_t weft__chaos_steal(struct weft__sched *s)
{
    struct weft__chaos *c = own(s->chaos);
    uint32_t n = (uint32_t)weft__group_seats(s->group), got = 0;
    if (n < 2)
        return 0;
    uint32_t first = draw(c, n), queue = draw(c, 3);
    for (uint32_t i = 0; i < n && got == 0; i++) {
        struct weft__sched *victim = s->group->all[(first + i) % n];
        if (victim == s)
            continue;
        if (weft__inject_len(&victim->pinned) > 0 && stuck(victim, weft__ticks()))
            got = take_back(s, victim);
        for (uint32_t k = 0; k < 3 && got == 0; k++)
            switch ((queue + k) % 3) {
            case 0:
                got = steal_ring(s, c, victim);
                break;
            case 1:
                got = steal_deque(s, c, victim);
                break;
            default:
                got = steal_private(s, c, victim);
                break;
            }
    }
    return got;
}

uint32_t weft__chaos_balance(struct weft__sched *s)
{
    return s->group->n > 1 && draw(own(s->chaos), 2) == 0 ? weft__chaos_steal(s) : 0;
}
