/* hard.c - coord/hard: G against E. A grace strikes a scope that is there, or it does not strike; and it reaches who waits in a
 * shield. */
#include "scenarios.h"

#include <errno.h>

#include "coord/await.h"
#include "sched/errand.h"

static weft_scope outer, scope, shield;
static at_word posted, given;
enum { OWNER = 0, TIMER = 1, STRANGER = 2, OUTSIDE = 4 };
enum { GRACE = 5 };

/* TIMER is a worker, too. */
static void setup(void)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    memset(&scope, 0, sizeof scope);
    memset(&shield, 0, sizeof shield);
    posted = given = 0;
    person(OUTSIDE, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft__scope_of(&outer)->spawned = 1;
    person(OWNER, &outer);
    weft_scope_begin(&scope, WEFT_NEVER);
    person(TIMER, NULL);
    ex_be(OWNER);
}

/* Its grace runs. */
static void setup_given(void)
{
    setup();
    ex_be(TIMER);
    weft_scope_cancel_hard(&scope, GRACE, NULL);
    ex_be(OWNER);
}

static void setup_shield(void)
{
    setup_given();
    weft_scope_begin_shield(&shield, WEFT_NEVER);
}

static void setup_errand(void)
{
    setup();
    errand_mail = &posted;
}

static void runs(void)
{
    ex_write(&weft__current()->group, "the frame");
}

static void ends(void)
{
    int rc = weft_scope_end(&scope, 0);
    ex_expect(rc == 0 || rc == -ECANCELED);
    ex_expect(timer_armed == NULL);
    ex_gone(&scope, sizeof scope, "a scope");
}

static void check(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

/* The timer strikes while the scope ends. */
static void at_the_end(int me)
{
    if (me == TIMER) {
        timer_strikes(weft__hard_struck);
        return;
    }
    runs();
    ends();
}

/* Nothing else ends the wait: it is refused, or ended, though it lies in a shield. */
static void in_a_shield(int me)
{
    if (me == TIMER) {
        timer_strikes(weft__hard_struck);
        return;
    }
    weft__token k;
    runs();
    int rc = weft__await_begin(weft__current(), &k);
    ex_expect(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        ex_expect(weft__await(weft__current()) == WEFT__CAUSE_CANCEL);
    weft_ignore(weft_scope_end(&shield, 0));
    ex_gone(&shield, sizeof shield, "a shield");
    ends();
}

/* There is no memory for the timer, so the grace is over at once; the owner leaves meanwhile for the soft cancel, and is held
 * until that is done. */
static void no_timer(int me)
{
    if (me == TIMER) {
        weft_scope_cancel_hard(&scope, GRACE, NULL);
        weft__scope_child_left(weft__scope_of(&scope));
        return;
    }
    runs();
    ends();
}

static void setup_no_timer(void)
{
    setup();
    weft__scope_of(&scope)->spawned = 1; /* who gives the grace */
    timer_refused = true;
}

/* Who is no worker lets one arm the timer; the scope may have ended by then. */
static void by_errand(int me)
{
    if (me == STRANGER) {
        weft_scope_cancel_hard(&scope, GRACE, NULL);
        ex_send(&given);
    } else if (me == TIMER) {
        ex_receive(&posted, false);
        weft__slice *slice = (weft__slice *)(uintptr_t)at_load(&errand_posted->fn);
        ex_expect(!slice(errand_posted));
        timer_strikes(weft__hard_struck);
    } else {
        runs();
        ex_receive(&given, false);
        ends();
    }
}

/* The same without memory there. */
static void setup_errand_refused(void)
{
    setup_errand();
    timer_refused = true;
}

const struct ex_scenario hard_scenarios[] = {
    { "hard", "end", 2, setup_given, at_the_end, check, -1, "a grace is over when the scope ends", NULL },
    { "hard", "shield", 2, setup_shield, in_a_shield, check, 2, "it is over for who waits in a shield", NULL },
    { "hard", "no_timer", 2, setup_no_timer, no_timer, check, -1, "no memory for the timer", NULL },
    { "hard", "errand", 3, setup_errand, by_errand, check, 2, "a worker arms the timer", NULL },
    { "hard", "errand_refused", 3, setup_errand_refused, by_errand, check, 2, "and has no memory for it", NULL },
    { 0 },
};
