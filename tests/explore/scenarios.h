/* scenarios.h - the scenarios, and what they share. */
#ifndef WEFT_EXPLORE_SCENARIOS_H
#define WEFT_EXPLORE_SCENARIOS_H

#include <stdlib.h>
#include <string.h>

#include "explore.h"

extern const struct ex_scenario deque_scenarios[], ready_scenarios[], wait_scenarios[], claim_scenarios[],
        scope_scenarios[], idle_scenarios[], slot_scenarios[], lock_scenarios[];

/* stubs.c: weft__mem_alloc takes from here, at the same addresses in each run. */
void arena_reset(void);

#endif
