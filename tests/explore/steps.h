/* steps.h - put in front of sources whose protocols are kept by locks: calls that a mutation can leave out.
 *
 * Under a lock few orders are left to weaken, and what can be forgotten is a step: to fire who waits, to take it out of a list,
 * to wait for the timer. Each of these calls is a site as an atomic access is, and STEP in mutations.inc drops it. */
#ifndef WEFT_EXPLORE_STEPS_H
#define WEFT_EXPLORE_STEPS_H

#include "base/list.h"
#include "coord/await.h"
#include "coord/scope.h"
#include "sync/waiter.h"

#define EX_DO_(s, op, call, instead)                                                                                  \
    __extension__({ EX_HERE(s, op, EX_STEP); ex_step(&s) ? (call) : (instead); })
#define EX_DO(op, call, instead) EX_DO_(EX_NAME, op, call, instead)

#define weft__fire(k, cause) EX_DO("weft__fire", weft__fire(k, cause), false)
#define weft__cancel_scope(s, why) EX_DO("weft__cancel_scope", weft__cancel_scope(s, why), false)
#define weft__scope_let_go(s) EX_DO("weft__scope_let_go", weft__scope_let_go(s), (void)0)
#define weft__timer_disarm(timer) EX_DO("weft__timer_disarm", weft__timer_disarm(timer), false)
#define weft__waiter_release(at, who) EX_DO("weft__waiter_release", weft__waiter_release(at, who), (void)0)
#define weft__served_release(s) EX_DO("weft__served_release", weft__served_release(s), (void)0)
#define list_remove(l) EX_DO("list_remove", list_remove(l), (void)0)

#endif
