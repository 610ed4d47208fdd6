/* wait.c - sched/wait: one winner, and the task is made runnable once, or not at all if it never slept. */
#include "scenarios.h"

#include "coord/await.h"

static at_word box[PEOPLE];
static weft__token tokens[2];
static int data[PEOPLE];
static unsigned char winner[2]; /* of each wait; 0 none yet */

static void setup(void)
{
    people_reset();
    memset(box, 0, sizeof box);
    memset(tokens, 0, sizeof tokens);
    memset(winner, 0, sizeof winner);
    person(0, NULL);
    ex_ghost(winner, sizeof winner);
}

static struct weft__frame *waiter(void)
{
    struct weft__frame *f = weft__current();
    ex_write(&f->group, "the frame");
    return f;
}

/* What the waiter finds when it runs again. */
static void ended(int which, enum weft__cause cause)
{
    ex_expect(winner[which] != 0);
    ex_expect((int)cause == (winner[which] == 1 ? WEFT__CAUSE_EVENT : WEFT__CAUSE_CLOSED));
    ex_read(&data[winner[which]], "what the firer wrote");
}

static void publish(int which, weft__token k, int to)
{
    tokens[which] = k;
    ex_send(&box[to]);
}

static void won(int which, enum weft__fired fired, struct weft__task *t)
{
    if (fired == WEFT__TOO_LATE)
        return;
    if (winner[which])
        ex_fail("two fire the same wait");
    winner[which] = (unsigned char)ex_self();
    if (fired == WEFT__FIRED_ENQUEUE)
        weft__ready(t);
}

static void fire(int which)
{
    int me = ex_self();
    ex_receive(&box[me], false);
    weft__token k = tokens[which];
    ex_write(&data[me], "what the firer wrote");
    won(which, weft__wait_claim(k, me == 1 ? WEFT__CAUSE_EVENT : WEFT__CAUSE_CLOSED), weft__token_task(k));
}

static void check(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

static void two_firers(int me)
{
    if (me != 0) {
        fire(0);
        return;
    }
    struct weft__frame *f = waiter();
    weft__token k = weft__await_begin_shielded(f);
    publish(0, k, 1);
    publish(0, k, 2);
    ended(0, weft__await(f));
}

/* The loser of the first wait comes when the second has begun. */
static void two_waits(int me)
{
    if (me != 0) {
        fire(0);
        if (me == 1)
            fire(1);
        return;
    }
    struct weft__frame *f = waiter();
    weft__token k = weft__await_begin_shielded(f);
    publish(0, k, 1);
    publish(0, k, 2);
    ended(0, weft__await(f));
    k = weft__await_begin_shielded(f);
    publish(1, k, 1);
    ended(1, weft__await(f));
}

static void given_up(int me)
{
    if (me != 0) {
        fire(0);
        return;
    }
    struct weft__frame *f = waiter();
    weft__token k = weft__await_begin_shielded(f);
    publish(0, k, 1);
    publish(0, k, 2);
    if (weft__await_give_up(f)) {
        ex_expect(winner[0] == 0);
        winner[0] = 9; /* nobody may win any more */
        return;
    }
    ended(0, weft__await(f));
}

/* Cancels that know the task by nothing but its block: from a level that applies, and from one that does not. The
 * event comes in any case. */
static void levels(int me)
{
    struct weft__task *t = weft__task_at(0);
    if (me == 3) {
        fire(0);
    } else if (me != 0) {
        ex_write(&data[me], "what the firer wrote");
        enum weft__fired fired = weft__wait_claim_cancel(t, me == 1 ? 2 : 1);
        if (me == 2)
            ex_expect(fired == WEFT__TOO_LATE);
        won(0, fired, t);
    } else {
        struct weft__frame *f = waiter();
        weft__token k = weft__wait_begin(t, 2);
        publish(0, k, 3);
        enum weft__cause cause = weft__await(f);
        ex_expect(winner[0] == (cause == WEFT__CAUSE_CANCEL ? 1 : 3));
        ex_read(&data[winner[0]], "what the firer wrote");
    }
}

const struct ex_scenario wait_scenarios[] = {
    { "wait", "two_firers", 3, setup, two_firers, check, -1, "one wait, two events", NULL },
    { "wait", "two_waits", 3, setup, two_waits, check, -1, "a late firer meets the next wait", NULL },
    { "wait", "given_up", 3, setup, given_up, check, -1, "the waiter gives up, two events", NULL },
    { "wait", "levels", 4, setup, levels, check, 2, "an event, a cancel that applies, one that does not", NULL },
    { 0 },
};
