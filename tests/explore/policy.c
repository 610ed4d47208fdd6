/* policy.c - coord/policy: a place is had by one, and passed on by whoever is told to leave; the owner hears of each end once;
 * and what children decide at the same moment is one verdict. */
#include "scenarios.h"

#include <errno.h>

#include "base/mem.h"
#include "coord/await.h"
#include "coord/policy.h"
#include "coord/side.h"

static weft_scope outer, scope;
static struct weft__policy *policy;
static at_word left;
static int data[PEOPLE];
static uint32_t winner; /* once it has ended */
enum { OWNER = 0, CHILD = 1, OTHER = 2, OUTSIDE = 4 };

/* A scope of `children` that have a place and run, or are about to end. */
static void setup(int children, const weft_scope_options *o)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    memset(&scope, 0, sizeof scope);
    left = 0;
    person(OUTSIDE, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft__scope_of(&outer)->spawned = 1;
    person(OWNER, &outer);
    weft_scope_begin_with(&scope, WEFT_NEVER, o);
    weft__scope_of(&scope)->spawned = children;
    policy = weft__policy_of(weft__scope_of(&scope));
    policy->running = children;
    for (int i = CHILD; i < CHILD + children; i++) {
        struct weft__frame *f = person(i, &scope);
        f->side = weft__mem_zeroed(sizeof *f->side);
    }
}

static void setup_place(void)
{
    setup(1, &(weft_scope_options){ .limit = 1 });
    person(OTHER, NULL);
}
static void setup_next(void)
{
    setup(2, &(weft_scope_options){ .collect = true, .join = WEFT_JOIN_KEEP_GOING });
}
static void setup_next_1(void)
{
    setup(1, &(weft_scope_options){ .collect = true });
}
static void setup_race(void)
{
    setup(2, &(weft_scope_options){ .join = WEFT_JOIN_RACE });
}
static void setup_any(void)
{
    setup(2, &(weft_scope_options){ .join = WEFT_JOIN_ANY });
}
static void setup_two_of_three(void)
{
    setup(3, &(weft_scope_options){ .join = WEFT_JOIN_ANY, .need = 2 });
}

static void runs(void)
{
    ex_write(&weft__current()->group, "the frame");
}

static void cancel(void)
{
    ex_expect(weft__cancel_scope(weft__scope_of(&outer), WEFT__MARK_CANCEL));
}

/* The end of a child, as coord/child.c has it. */
static void ends_with(int rc)
{
    struct weft__frame *f = weft__current();
    struct weft__scope *s = weft__scope_of(&scope);
    ex_write(&data[ex_self()], "what the child wrote");
    weft__policy_judge(s, policy, f, rc, rc == -ECANCELED && weft__told(f));
    weft__detach_frame(f);
    weft__policy_ended(policy, f, rc);
    weft__scope_child_left(s);
}

static int end(int children)
{
    int rc = weft_scope_end(&scope, 0);
    winner = weft__id_index(weft_scope_winner(&scope));
    ex_gone(&scope, sizeof scope, "a scope");
    for (int i = CHILD; i < CHILD + children; i++)
        ex_read(&data[i], "what the child wrote");
    return rc;
}

static void check(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

/* ---- places */

/* True: it had one, and has given it back. */
static bool spawns(void)
{
    int rc = weft__policy_enter(weft__scope_of(&scope), policy);
    ex_expect(rc == 0 || rc == -ECANCELED);
    if (rc == 0) {
        ex_expect(policy->running == 1);
        ex_read(&data[CHILD], "what the child wrote");
        weft__policy_leave(policy);
    }
    return rc == 0;
}

/* Far down the stack: what a waiter leaves behind there stays as it was, so a list that still has it leads to a stale token
 * and not into nonsense. */
static __attribute__((noinline)) bool spawns_far_down(void)
{
    volatile char room[4096];
    room[0] = 0;
    bool had = spawns();
    room[sizeof room - 1] = had;
    return room[sizeof room - 1];
}

static void place(int me)
{
    if (me == CHILD) {
        ends_with(0);
        return;
    }
    runs();
    ex_expect(spawns());
    ex_expect(policy->running == 0);
    ex_expect(end(1) == 0);
}

/* Two wait for the one place, and one of them is told to leave: the other has it in any case. */
static void place_two(int me)
{
    if (me == CHILD) {
        ends_with(0);
    } else if (me == OTHER) {
        runs();
        cancel();
        ex_expect(spawns());
        ex_send(&left);
    } else {
        runs();
        spawns_far_down();
        ex_receive(&left, false);
        ex_expect(policy->running == 0);
        weft_ignore(end(1));
    }
}

/* The one who waits is told to leave, and has the place or not. */
static void place_told(int me)
{
    if (me == CHILD) {
        ends_with(0);
    } else if (me == OTHER) {
        cancel();
    } else {
        runs();
        spawns();
        int rc = end(1);
        ex_expect(rc == 0 || rc == -ECANCELED);
    }
}

/* ---- as completed */

static void next(int me)
{
    if (me != OWNER) {
        ends_with(-me);
        return;
    }
    weft_done d;
    int seen[3] = { 0 }, rc;
    runs();
    while ((rc = weft_scope_next(&scope, &d)) == 1) {
        int child = (int)(weft__id_index(d.task));
        ex_expect(child == CHILD || child == OTHER);
        ex_expect(d.code == -child);
        ex_read(&data[child], "what the child wrote");
        seen[child]++;
    }
    ex_expect(rc == 0);
    ex_expect(seen[CHILD] == 1 && seen[OTHER] == 1);
    rc = end(2);
    ex_expect(rc == -CHILD || rc == -OTHER);
}

/* It is told to leave while it waits for the only child. */
static void next_told(int me)
{
    if (me == CHILD) {
        ends_with(0);
    } else if (me == OTHER) {
        cancel();
    } else {
        weft_done d;
        runs();
        int rc = weft_scope_next(&scope, &d);
        ex_expect(rc == 1 || rc == -ECANCELED);
        if (rc == 1)
            ex_read(&data[CHILD], "what the child wrote");
        weft_ignore(end(1));
    }
}

/* ---- verdicts */

/* One succeeds, one fails: who was the winner says which of the two it is. */
static void race(int me)
{
    if (me != OWNER) {
        ends_with(me == CHILD ? 0 : -EIO);
        return;
    }
    runs();
    int rc = end(2);
    ex_expect(winner == CHILD || winner == OTHER);
    ex_expect(rc == (winner == CHILD ? 0 : -EIO));
}

/* The same for a first success, which a failure does not stand in the way of. */
static void any(int me)
{
    if (me != OWNER) {
        ends_with(me == CHILD ? 0 : -EIO);
        return;
    }
    runs();
    ex_expect(end(2) == 0);
    ex_expect(winner == CHILD);
}

/* Waits until it is told to leave. */
static void leaves(void)
{
    weft__token k;
    int rc = weft__await_begin(weft__current(), &k);
    ex_expect(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        ex_expect(weft__await(weft__current()) == WEFT__CAUSE_CANCEL);
    ends_with(-ECANCELED);
}

static void any_decides(int me)
{
    runs();
    if (me == CHILD)
        ends_with(0);
    else if (me == OTHER)
        leaves();
    else
        ex_expect(end(2) == 0);
}

static void two_of_three(int me)
{
    runs();
    if (me == OWNER)
        ex_expect(end(3) == 0);
    else if (me == 3)
        leaves();
    else
        ends_with(0);
}

const struct ex_scenario policy_scenarios[] = {
    { "policy", "place", 2, setup_place, place, check, -1, "a child ends, its spawner waits for the place", NULL },
    { "policy", "place_told", 3, setup_place, place_told, check, 1, "and is told to leave", NULL },
    { "policy", "place_two", 3, setup_place, place_two, check, 1, "two wait, one is told to leave", NULL },
    { "policy", "next", 3, setup_next, next, check, 2, "two children end, the owner hears of both", NULL },
    { "policy", "next_told", 3, setup_next_1, next_told, check, 1, "a child ends, and the owner is told to leave", NULL },
    { "policy", "race", 3, setup_race, race, check, 2, "a success and a failure race", NULL },
    { "policy", "any", 3, setup_any, any, check, 2, "a success and a failure", NULL },
    { "policy", "any_decides", 3, setup_any, any_decides, check, 1, "a success tells the other to leave", NULL },
    { "policy", "two_of_three", 4, setup_two_of_three, two_of_three, check, 1, "so do two", NULL },
    { 0 },
};
