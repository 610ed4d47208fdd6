/* sync/mutex.c - one at a time; a wait of bounded unfairness.
 *
 * Owns      the holder's word {id : 61 | THREAD | WOKEN | WAITERS}, the list of waiters, and `fair`.
 * Holds     M1  who moves the id from 0 to its own holds the mutex, or whom the holder moves it to (a hand-over).
 *           M2  WAITERS is set under the lock before a waiter is in the list, and only while somebody holds the mutex: so
 *               that one's unlock goes the long way.
 *           M3  WOKEN: one waiter has been taken off the list and woken, to take the mutex if it finds it free. Until it
 *               has taken it, or is in the list again, unlocks wake no other. Who gives that up wakes another.
 *           M4  a word with a holder and without WOKEN is changed by nobody else but under the lock.
 * Fair      In the way of Go: who comes may take it before who was woken, which saves a switch for each lock while many
 *           lock it for a moment. A waiter that has waited a millisecond is handed it. And if who was woken found it taken
 *           again, so that its turn was for nothing, the next FAIR unlocks hand it over: mutexes that are held over
 *           suspensions have waiters always. Who finds it free charges its budget, so that waiters have a turn.
 * Freeing   The last access of an unlock is the change of the word, or (waiters left) before B5: whoever locks it next may
 *           free it, if there are no waiters.
 * Ended     coord/orphan.c.
 * Tested    tests/mutex_test.c, stress/sync.c, tests/explore/mutex.c */
#include "sync/mutex.h"

#include <errno.h>

#include "base/fork.h"
#include "base/panic.h"
#include "coord/orphan.h"
#include "sync/waiter.h"

enum { WAITERS = 1, WOKEN = 2, THREAD = 4, MARKS = WAITERS | WOKEN, ID_SHIFT = 3 };
enum { OLD_US = 1000, FAIR = 32, SPINS = 6 };
enum { HANDED = 1 }; /* rc of a waiter */

struct mutex {
    at_word holder;
    struct weft__lock lock;
    uint32_t fair; /* so many unlocks hand over; under lock */
    struct weft__link waiters; /* item: what the holder's word is for it; amount: ticks since when it waits */
};
_Static_assert(sizeof(struct mutex) == sizeof(weft_mutex), "weft_mutex has a fixed size");

static struct mutex *inside(weft_mutex *m)
{
    return (struct mutex *)(void *)m;
}

/* Without marks: what the word is while f holds the mutex. */
static inline uint64_t word_of(const struct weft__frame *f)
{
    return weft__is_thread(f) ? weft__id_of_thread(f) << ID_SHIFT | THREAD : (uint64_t)f->id << ID_SHIFT;
}
static inline uint64_t holder(uint64_t word)
{
    return word & ~(uint64_t)MARKS;
}
static bool has_ended(uint64_t word)
{
    return weft__holder_ended(word >> ID_SHIFT, (word & THREAD) != 0);
}
/* Whether it was left locked, by whom `word` says. Looked at again: it may have been unlocked since, before that end (which
 * the look at the id acquires); and ids do not come back. */
static bool is_orphan(const struct mutex *m, uint64_t word)
{
    return holder(word) != 0 && has_ended(word) && holder(at_load(&m->holder)) == holder(word);
}

static uint64_t now_of(const struct weft__frame *f)
{
    return weft__is_thread(f) ? weft__ticks() : weft__sched_ticks(weft__self());
}

/* M1. `drop`: WOKEN if the caller was. */
static bool take(struct mutex *m, uint64_t me, uint64_t drop)
{
    for (;;) {
        uint64_t w = at_load(&m->holder);
        if (holder(w) != 0)
            return false;
        if (at_cas_acquire(&m->holder, w, me | (w & ~drop))) /* meets the releases in weft_mutex_unlock */
            return true;
    }
}

/* Whether its holder may be about to unlock it on another processor. If all other workers sleep, it waits itself; or it is of
 * another runtime. */
static bool worth_spinning(const struct weft__frame *f)
{
    const struct weft__group *g = f->group;
    return g ? g->cores > 1 && !g->clock.is_virtual && (int)weft__idle_parked(&g->idle) < g->n - 1 : true;
}

static bool spin(struct mutex *m, uint64_t me, uint64_t drop, const struct weft__frame *f)
{
    if (take(m, me, drop))
        return true;
    for (int i = 0; i < SPINS && worth_spinning(f); i++) {
        at_relax();
        if (take(m, me, drop))
            return true;
    }
    return false;
}

/* ---- waiting */

struct claimant {
    struct weft__frame *f;
    uint64_t me, since;
    uint64_t drop; /* WOKEN: it was */
    bool again;    /* no cancel applies */
    struct weft__waiting wait;
    struct weft__waiter at;
    struct weft__orphan_watch watch;
};

/* M3, under the lock, in which WOKEN was taken back: the next one, for whom the caller does B5. */
static struct weft__waiter *wake_another(struct mutex *m, struct weft__claimed *who)
{
    struct weft__waiter *at = NULL;
    uint64_t w;
    do { /* a holder that has seen WOKEN wakes nobody: that it unlocks meanwhile has to be seen */
        w = at_load(&m->holder);
        if (!at && holder(w) == 0 && (at = weft__waiters_claim(&m->waiters, who)) != NULL)
            at->wait->rc = 0;
    } while (!at_cas(&m->holder, w, holder(w) | (weft__waiters_none(&m->waiters) ? 0 : WAITERS) | (at ? WOKEN : 0)));
    return at;
}

/* It was woken, and does not take it. */
static void give_way(struct mutex *m)
{
    struct weft__claimed who;
    weft__lock(&m->lock);
    struct weft__waiter *at = wake_another(m, &who);
    weft__unlock(&m->lock);
    if (at)
        weft__waiter_release(at, &who);
}

/* A2. True: it is in the list. False: the mutex was free, and is the claimant's. */
static bool queue(struct mutex *m, struct claimant *c)
{
    uint64_t w;
    weft__lock(&m->lock);
    do {
        w = at_load(&m->holder);
    } while (!at_cas_acquire(&m->holder, w, holder(w) == 0 ? c->me | (w & ~c->drop) : (w | WAITERS) & ~c->drop)); /* M1, M2 */
    if (holder(w) != 0) {
        c->at.item = (void *)(uintptr_t)c->me;
        c->at.amount = c->since;
        if (c->drop) { /* its place is where it was */
            m->fair = FAIR;
            weft__waiters_add_first(&m->waiters, &c->at);
        } else {
            weft__waiters_add(&m->waiters, &c->at);
        }
    }
    weft__unlock(&m->lock);
    return holder(w) != 0;
}

static int begin_wait(struct claimant *c)
{
    weft__waits_for(c->f, WEFT__WAITS_MUTEX, 0); /* O3, before W1; the address follows */
    if (!c->again)
        return weft__waiter_begin(c->f, &c->wait, &c->at);
    weft__waiter_begin_shielded(c->f, &c->wait, &c->at);
    return 0;
}

/* A turn of waiting. 0: it holds the mutex; 1: it has to look again. */
static int wait_for(struct mutex *m, struct claimant *c)
{
    struct weft__frame *f = c->f;
    if (c->drop && !c->again && weft__told(f)) { /* M3: before the refusal, which takes its time */
        give_way(m);
        c->drop = 0;
    }
    int rc = begin_wait(c);
    if (rc < 0) {
        if (c->drop)
            give_way(m);
        return rc;
    }
    if (!queue(m, c)) {
        weft__waiter_give_up(f);
        return 0;
    }
    if (weft__is_thread(f)) {
        c->watch.token = c->wait.token;
        weft__orphan_watch(&c->watch);
    }
    c->drop = 0;
    at_fence_full(); /* O3 before O4 */
    uint64_t w = at_load(&m->holder);
    if (holder(w) != 0 && holder(w) != c->me && has_ended(w)) /* O4; the state, if the claim fails, is looked at below */
        weft__fire(c->wait.token, WEFT__CAUSE_CLOSED);
    weft__waits_for(f, WEFT__WAITS_MUTEX, (uint64_t)(uintptr_t)m);
    enum weft__cause cause = weft__await(f);
    if (weft__is_thread(f))
        weft__orphan_unwatch(&c->watch);
    if (cause == WEFT__CAUSE_SERVED) {
        weft__waiting_settle(&c->wait);
        c->drop = c->wait.rc == HANDED ? 0 : WOKEN;
        return c->wait.rc == HANDED ? 0 : 1;
    }
    weft__lock(&m->lock);
    if (list_linked(&c->at.link))
        list_remove(&c->at.link);
    weft__unlock(&m->lock);
    return cause == WEFT__CAUSE_CANCEL ? -ECANCELED : 1;
}

static __attribute__((noinline)) int lock_slow(struct mutex *m, struct weft__frame *f, bool again)
{
    struct claimant c = { .f = f, .me = word_of(f), .again = again, .since = now_of(f) };
    int rc;
    do {
        if (spin(m, c.me, c.drop, f)) {
            rc = 0;
            break;
        }
        uint64_t w = at_load(&m->holder);
        if (holder(w) == c.me) {
            rc = -EDEADLK;
        } else if (is_orphan(m, w)) {
            if (c.drop)
                give_way(m);
            rc = -EOWNERDEAD;
        } else {
            rc = wait_for(m, &c);
        }
    } while (rc == 1);
    weft__waits_for(f, WEFT__WAITS_NOT, 0); /* O5 */
    if (rc == 0)
        f->held++;
    return rc;
}

int weft_mutex_lock(weft_mutex *pm)
{
    struct mutex *m = inside(pm);
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    uint64_t me = word_of(f);
    weft__spend(f);
    if (at_cas_acquire(&m->holder, 0, me)) {
        f->held++;
        return 0;
    }
    uint64_t w = at_load(&m->holder);
    if (holder(w) == 0 && at_cas_acquire(&m->holder, w, me | w)) {
        f->held++;
        return 0;
    }
    return weft__on_stack(lock_slow(m, f, false));
}

int weft_mutex_try_lock(weft_mutex *pm)
{
    struct mutex *m = inside(pm);
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (take(m, word_of(f), 0)) {
        f->held++;
        return 0;
    }
    uint64_t w = at_load(&m->holder);
    return is_orphan(m, w) ? -EOWNERDEAD : -EAGAIN;
}

bool weft__mutex_is_held(const weft_mutex *m, const struct weft__frame *f)
{
    return holder(at_load(&((const struct mutex *)(const void *)m)->holder)) == word_of(f);
}

weft_task weft__mutex_holder(uint64_t address)
{
    uint64_t w = address ? at_load(&((const struct mutex *)(uintptr_t)address)->holder) : 0;
    return w & THREAD ? 0 : (weft_task)(w >> ID_SHIFT);
}

int weft__mutex_lock_again(weft_mutex *pm, struct weft__frame *f)
{
    struct mutex *m = inside(pm);
    if (take(m, word_of(f), 0)) {
        f->held++;
        return 0;
    }
    return lock_slow(m, f, true);
}

/* ---- unlocking */

/* B1 to B6, of a holder. False: there is no waiter, and the mark of one is gone. */
static bool pass_on(struct mutex *m, const struct weft__frame *f)
{
    struct weft__claimed who;
    weft__lock(&m->lock);
    struct weft__waiter *at = weft__waiters_claim(&m->waiters, &who);
    uint64_t left = weft__waiters_none(&m->waiters) ? 0 : WAITERS;
    if (!at) {
        at_store(&m->holder, holder(at_load(&m->holder))); /* M4 */
        weft__unlock(&m->lock);
        return false;
    }
    bool hand = m->fair > 0 || now_of(f) - at->amount > weft__us_to_ticks(OLD_US);
    if (m->fair > 0)
        m->fair--;
    at->wait->rc = hand ? HANDED : 0;
    at_store_release(&m->holder, hand ? (uint64_t)(uintptr_t)at->item | left : left | WOKEN); /* M4, M1 */
    weft__unlock(&m->lock);
    weft__waiter_release(at, &who);
    return true;
}

static _Noreturn void not_held(const struct mutex *m, struct weft__frame *f)
{
    char who[120];
    weft__task_describe(f, who, sizeof who);
    weft__panic(__FILE__, __LINE__, "mutex %p is unlocked by %s, which does not hold it", (const void *)m,
            weft__is_thread(f) ? "a plain thread" : who);
}

static __attribute__((noinline)) void unlock_slow(struct mutex *m, struct weft__frame *f, uint64_t me)
{
    for (;;) {
        uint64_t w = at_load(&m->holder);
        if (holder(w) != me)
            not_held(m, f);
        if ((w & WAITERS) && !(w & WOKEN)) {
            if (pass_on(m, f))
                return;
        } else if (at_cas_release(&m->holder, w, w & MARKS)) { /* no waiters; or one is on its way */
            return;
        }
    }
}

void weft_mutex_unlock(weft_mutex *pm)
{
    struct mutex *m = inside(pm);
    struct weft__frame *f = weft__current();
    if (!f)
        return;
    uint64_t me = word_of(f);
    f->held--;
    if (!at_cas_release(&m->holder, me, 0))
        unlock_slow(m, f, me);
}
