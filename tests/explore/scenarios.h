/* scenarios.h - the scenarios, and what they share. */
#ifndef WEFT_EXPLORE_SCENARIOS_H
#define WEFT_EXPLORE_SCENARIOS_H

#include <stdlib.h>
#include <string.h>

#include "explore.h"

extern const struct ex_scenario deque_scenarios[], private_scenarios[], biased_scenarios[], ready_scenarios[],
        claim_scenarios[], wait_scenarios[], cancel_scenarios[], walk_scenarios[], scope_scenarios[], idle_scenarios[],
        slot_scenarios[], lock_scenarios[], sync_scenarios[], select_scenarios[], policy_scenarios[], hard_scenarios[],
        meet_scenarios[], pool_scenarios[], mutex_scenarios[];

/* ---- stubs.c */

struct weft__frame;
struct weft__task;
struct weft_scope;
struct weft_runtime;

enum { PEOPLE = 5 };

/* A heavy fence is not to be had. In setup. */
extern bool fence_refused;

/* weft__mem_alloc takes from here, at the same addresses in each run. */
void arena_reset(void);

/* The table of tasks as new, but for the first few blocks, which are taken; in setup. */
void table_reset(uint32_t first);

/* Nobody is there; all words that weft keeps between runs are as new. In setup. */
void people_reset(void);

/* A running task for thread `number`, a child of `scope` (or of none), in its own frame. In setup. */
struct weft__frame *person(int number, struct weft_scope *scope);

/* Of which they all are. */
struct weft_runtime *the_runtime(void);

/* Errands go to whoever receives this mail; without one (NULL), there is no memory for them. In setup. */
extern at_word *errand_mail;
/* The one that was sent; NULL: none. */
extern struct weft__task *errand_posted;

/* The timer that is armed, NULL: none; and whether there is no memory for one. */
struct weft__timer;
extern struct weft__timer *timer_armed;
extern bool timer_refused;
/* Its time has come: the worker's part. */
void timer_strikes(void (*call)(struct weft__timer *timer));

/* How often a person was made runnable, and had not run since. */
extern unsigned char runnable[PEOPLE];

#endif
