/* sched/idle.h - who sleeps, who searches, who is woken. The protocol is drawn in idle.c. */
#ifndef WEFT_SCHED_IDLE_H
#define WEFT_SCHED_IDLE_H

#include "base/futex.h"

struct weft__sched;
struct weft__group;

struct weft__idle {
    _Alignas(128) at_word word;  /* {spares in play : 16 | searching : 16 | parked : 16} */
    at_int io_blocked;           /* the I/O thread sleeps without a tick */
    void (*kick)(void *io);      /* gets it out of that sleep */
    void *io;
    void (*ring)(struct weft__group *g); /* tells a host that its worker was woken (engine/host.c); NULL: it sleeps in P5 */
    _Alignas(128) struct weft__lock lock;
    struct weft__sched **stack; /* [0, parked), the last parked on top; under lock */
};

static inline unsigned weft__idle_parked(const struct weft__idle *i)
{
    return (unsigned)(at_load(&i->word) & 0xffff);
}
static inline unsigned weft__idle_searching(const struct weft__idle *i)
{
    return (unsigned)(at_load(&i->word) >> 16 & 0xffff);
}

static inline unsigned weft__idle_spares(const struct weft__idle *i)
{
    return (unsigned)(at_load(&i->word) >> 32);
}
/* S3, of a look at the word: somebody is parked, and nobody searches. */
static inline bool weft__idle_worth_waking(uint64_t word)
{
    return (word & 0xffff) != 0 && (word & 0xffff0000) == 0;
}

/* S2 to S6: work was published; wakes one worker if nobody searches and cores are free. True if it did. */
bool weft__idle_notify(struct weft__group *g);
/* The same although all cores are taken: somebody who is awake does not get to it. */
bool weft__idle_notify_anyway(struct weft__group *g);

/* S4 alone: takes the last parked worker off the stack, counted as searching, or NULL. The caller owns its ring
 * until it calls weft__idle_wake, which is S5 and S6. */
struct weft__sched *weft__idle_claim(struct weft__group *g);
/* The same for one worker; false if it is not parked, or, a spare, not out of play. */
bool weft__idle_claim_worker(struct weft__group *g, struct weft__sched *s);
void weft__idle_wake(struct weft__group *g, struct weft__sched *s);

/* A spare is in play before its thread begins; and is not, after all, because that failed. */
void weft__idle_spare_begins(struct weft__group *g);
void weft__idle_spare_fails(struct weft__group *g);

/* A worker begins to search; false if enough do. */
bool weft__idle_search(struct weft__sched *s);
/* F1 to F3: a searcher found work, or nothing counts it any more. */
void weft__idle_found(struct weft__sched *s);

/* P1 and P2. */
void weft__idle_announce(struct weft__sched *s);
/* U: takes itself off again; false: it was claimed, and its token is due. */
bool weft__idle_retract(struct weft__sched *s);
/* P5: sleeps until woken. */
void weft__idle_sleep(struct weft__sched *s);
/* The same without sleeping: whether it was woken, and is awake from now on. */
bool weft__idle_woken(struct weft__sched *s);

#endif
