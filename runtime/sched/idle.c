/* sched/idle.c - who sleeps, who searches, who is woken.
 *
 * Owns      the idle word, the stack of parked workers, the wake words.
 * Callers   S: any thread that publishes work. F, P, U: the worker itself.
 *
 *     publish work, any thread                     a worker with nothing to do
 *     S1  the task is in a queue (release)         P1  give up the role; push on the parked stack;
 *         -- full fence --                             parked + 1, and searching - 1 if counted: one RMW
 *     S2                                               -- full fence --
 *     S3  nobody parked, or somebody searches:     P2
 *         done                                     P3  look again at every queue and at due timers;
 *     S4  take the last parked off the stack;          found: U, take itself off, and S6; if it was taken
 *         parked - 1, searching + 1: one RMW           already, its token is due: P5
 *     S5  its wake word = 1; futex wake            P4  nobody is awake but absent ones: arm (event/poller.c)
 *     S6  -- full fence --                         P5  futex wait until the wake word is 1; it counts as
 *         the I/O thread blocked? kick it              searching, its waker counted it
 *
 * Every push to inject is such a publish, the I/O thread's too; and every errand that is posted.
 * Forbidden (S/P): S3 sees nobody parked and P3 sees no task. Then the task waits and nobody comes.
 *
 *     a searcher found work                        a publisher that saw it searching at S3
 *     F1  searching - 1 (RMW)                      relies on F3
 *         -- full fence --
 *     F2  it was the last?
 *     F3  inject or errands not empty, or its own ring is long: S3 to S6 for the next one
 *
 * A first element that an owner pushes to its own deque or ring wakes nobody: it is owed; and so is what it keeps to itself
 * (sched/private.h), which P3 does not count while its owner goes from turn to turn. Its owner takes it at
 * its next dispatch; if it does not get there, the I/O thread's tick (engine/io.c, T7) sees it.
 * The I/O thread ticks whenever somebody is awake. It blocks without a tick only when all are parked, and
 * whoever wakes a worker then kicks it (S6 against T1/T2 in engine/io.c).
 *
 * A spare worker (engine/spare.c) goes out of play by P1 to P5, too, but is on no stack and never counted as parked: no S4
 * takes it, only the I/O thread, by weft__idle_claim_worker. In play it is counted: all are parked when n are, and no
 * spare is in play.
 *
 * No more workers are woken than there are cores, unless those that are awake do not get to the work (the
 * tick's business): 64 workers on two cores would only take turns.
 *
 * Source    Go's proc.c header comment and Tokio's idle.rs, for the two fences and the last searcher; throttling
 *           in time is ours (IO rules R1 to R15).
 * Tested    tests/models/idle.pml; tests/explore; stress/idle.c */
#include "sched/idle.h"

#include "sched/sched.h"

#define PARKED UINT64_C(1)
#define SEARCHING (UINT64_C(1) << 16)
#define SPARE (UINT64_C(1) << 32)

static bool worth_waking(struct weft__group *g, bool anyway)
{
    uint64_t w = at_load(&g->idle.word);
    int parked = (int)(w & 0xffff), spares = (int)(w >> 32);
    return weft__idle_worth_waking(w) && (anyway || g->n - parked + spares - (int)ati_load(&g->blocked) < g->cores);
}

static bool notify(struct weft__group *g, bool anyway)
{
    at_fence_full(); /* S2, meets P2 */
    if (!worth_waking(g, anyway))
        return false; /* S3 */
    struct weft__sched *s = weft__idle_claim(g);
    if (!s)
        return false;
    weft__idle_wake(g, s);
    return true;
}

bool weft__idle_notify(struct weft__group *g)
{
    return notify(g, false);
}

bool weft__idle_notify_anyway(struct weft__group *g)
{
    return notify(g, true);
}

struct weft__sched *weft__idle_claim(struct weft__group *g)
{
    struct weft__sched *s = NULL;
    weft__lock(&g->idle.lock);
    unsigned parked = weft__idle_parked(&g->idle);
    if (parked > 0) {
        s = g->idle.stack[parked - 1];
        at_add(&g->idle.word, SEARCHING - PARKED); /* S4 */
    }
    weft__unlock(&g->idle.lock);
    return s;
}

/* Takes `s` out of the middle of the stack, or brings it into play. Under the lock. */
static bool take_off(struct weft__group *g, struct weft__sched *s)
{
    if (ati_load(&s->resting)) {
        ati_store(&s->resting, 0);
        at_add(&g->idle.word, SPARE + SEARCHING);
        return true;
    }
    unsigned parked = weft__idle_parked(&g->idle), i = 0;
    while (i < parked && g->idle.stack[i] != s)
        i++;
    if (i == parked)
        return false;
    for (; i + 1 < parked; i++)
        g->idle.stack[i] = g->idle.stack[i + 1];
    at_add(&g->idle.word, SEARCHING - PARKED);
    return true;
}

bool weft__idle_claim_worker(struct weft__group *g, struct weft__sched *s)
{
    weft__lock(&g->idle.lock);
    bool mine = take_off(g, s);
    weft__unlock(&g->idle.lock);
    return mine;
}

void weft__idle_spare_begins(struct weft__group *g)
{
    at_add(&g->idle.word, SPARE);
}

void weft__idle_spare_fails(struct weft__group *g)
{
    at_add(&g->idle.word, 0 - SPARE);
}

void weft__idle_wake(struct weft__group *g, struct weft__sched *s)
{
    struct weft__sched *me = weft__self();
    if (me)
        weft__count(&me->count.woke, 1);
    ati_store_release(&s->wake, 1); /* S5; the ring is its own again */
    weft__futex_wake(&s->wake, 1);
    if (g->idle.ring)
        g->idle.ring(g);
    at_fence_full(); /* S6, meets the one between T1 and T2 */
    if (ati_load(&g->idle.io_blocked))
        g->idle.kick(g->idle.io);
}

bool weft__idle_search(struct weft__sched *s)
{
    struct weft__idle *i = &s->group->idle;
    if (own(s->searching))
        return true;
    int n = s->group->n < s->group->cores ? s->group->n : s->group->cores;
    unsigned most = n / 2 > 1 ? (unsigned)n / 2 : 1;
    if (weft__idle_searching(i) >= most)
        return false;
    at_add(&i->word, SEARCHING);
    own_set(s->searching, true);
    return true;
}

void weft__idle_found(struct weft__sched *s)
{
    struct weft__idle *i = &s->group->idle;
    if (!own(s->searching))
        return;
    own_set(s->searching, false);
    uint64_t old = at_add(&i->word, 0 - SEARCHING); /* F1 */
    if ((old >> 16 & 0xffff) != 1)
        return;
    at_fence_full(); /* F2, meets S2 of who relied on us */
    if (weft__group_has_work(s->group) || weft__deque_size(&s->deque) > 1)
        weft__idle_notify(s->group); /* F3 */
}

void weft__idle_announce(struct weft__sched *s)
{
    struct weft__group *g = s->group;
    uint64_t change = own(s->searching) ? 0 - SEARCHING : 0;
    own_set(s->searching, false);
    weft__lock(&g->idle.lock);
    if (weft__sched_is_spare(s)) {
        ati_store(&s->resting, 1);
        change -= SPARE;
    } else {
        g->idle.stack[weft__idle_parked(&g->idle)] = s;
        change += PARKED;
    }
    at_add(&g->idle.word, change); /* P1 */
    weft__unlock(&g->idle.lock);
    at_fence_full(); /* P2, meets S2 */
}

bool weft__idle_retract(struct weft__sched *s)
{
    struct weft__idle *i = &s->group->idle;
    if (!weft__idle_claim_worker(s->group, s))
        return false;
    own_set(s->searching, true);
    /* S6 is for whoever makes a worker awake, and here that is the worker itself: a publisher that saw it searching
     * at S3 has claimed nobody, and so kicked nobody. */
    at_fence_full();
    if (ati_load(&i->io_blocked))
        i->kick(i->io);
    return true;
}

bool weft__idle_woken(struct weft__sched *s)
{
    if (ati_load_acquire(&s->wake) == 0)
        return false;
    ati_store(&s->asleep, 0);
    ati_store(&s->wake, 0);
    own_set(s->searching, true); /* our waker counted us */
    return true;
}

void weft__idle_sleep(struct weft__sched *s)
{
    /* The word is looked at after each return: a wake may be spurious, or be an earlier claim's late futex call. */
    ati_store(&s->asleep, 1);
    while (!weft__idle_woken(s))
        weft__futex_wait(&s->wake, 0, INT64_MAX);
}
