/* sched/chaos.h - a seed perturbs the schedule; what a worker did is summed up in a hash. See chaos.c. */
#ifndef WEFT_SCHED_CHAOS_H
#define WEFT_SCHED_CHAOS_H

#include "base/atomic.h"
#include "base/hidden.h"

struct weft__sched;
struct weft__group;
struct weft__frame;
struct weft__task;

/* One worker's; there is none (NULL) unless its runtime has a seed or a virtual clock. Written by the worker alone. */
struct weft__chaos {
    uint64_t rng;
    uint64_t ticks;       /* the worker's time where that is virtual: one worker's, on a virtual clock; else 0 */
    bool perturbs;        /* there is a seed */
    at_word hash, steps;  /* the trace; read by tests */
    at_word moved, kept;  /* resumed elsewhere; on the same worker, all others being stuck */
};

/* How many runtimes have a seed: for the calls that have no worker at hand. */
extern WEFT__HIDDEN at_int weft__chaos_runtimes;
static inline bool weft__chaos_somewhere(void)
{
    return ati_load(&weft__chaos_runtimes) != 0;
}

enum weft__chaos_over { WEFT__OVER_WAIT = 1, WEFT__OVER_YIELD, WEFT__OVER_END };

/* Gives the worker its own generator. `still`: its ticks are virtual. 0; -ENOMEM. */
int weft__chaos_init(struct weft__sched *s, uint64_t seed, bool still);
void weft__chaos_fini(struct weft__sched *s);

/* ---- called where s->chaos is not NULL */

/* The turn of `f` is over; returns the time. */
uint64_t weft__chaos_turn_over(struct weft__sched *s, struct weft__frame *f, enum weft__chaos_over how);
uint64_t weft__chaos_ticks(const struct weft__sched *s);
/* Writes down that `n` tasks were made ready by timers at `now`. */
void weft__chaos_struck(struct weft__sched *s, uint64_t n, int64_t now);
/* Whether a yield that finds nobody else ready goes through the loop all the same. */
bool weft__chaos_far_yield(struct weft__sched *s);

/* ---- called where there is a seed */

/* In place of weft__sched_pick. */
struct weft__task *weft__chaos_pick(struct weft__sched *s, bool *is_new);
/* Where a READY task goes; `me` is the calling worker or NULL. */
void weft__chaos_ready(struct weft__group *g, struct weft__sched *me, struct weft__task *t);
/* Takes something from somebody; how much. At most 64. */
uint32_t weft__chaos_steal(struct weft__sched *s);
/* The same for a busy worker, now and then. */
uint32_t weft__chaos_balance(struct weft__sched *s);

/* ---- called where weft__chaos_somewhere; they do nothing on a worker without a seed */

/* Between two steps of which others may come in between. */
void weft__chaos_delay(void);
/* Once in `n`. False on plain threads. */
bool weft__chaos_once_in(uint32_t n);

#endif
