/* meet.c - sync/notify, barrier; once and promise, when one who waits is told to leave: what it would have had is had by
 * somebody else, or by itself, and nobody waits for ever. */
#include "scenarios.h"

#include <errno.h>

#include <weft/sync.h>

#include "coord/await.h"

static weft_scope outer;
static weft_notify notify;
static weft_barrier barrier;
static weft_once once;
static weft_promise promise;
static int data[PEOPLE];
static unsigned char made, arrived[2][2]; /* by who, and at which index */
enum { FIRST = 0, SERVER = 1, SECOND = 2, OWNER = 4 };

/* The first may be told to leave. */
static void setup(void)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    memset(&notify, 0, sizeof notify);
    memset(&once, 0, sizeof once);
    memset(&promise, 0, sizeof promise);
    barrier = (weft_barrier)WEFT_BARRIER_INIT(2);
    made = 0;
    memset(arrived, 0, sizeof arrived);
    person(OWNER, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft__scope_of(&outer)->spawned = 1;
    person(FIRST, &outer);
    person(SERVER, NULL);
    person(SECOND, NULL);
    ex_ghost(&made, sizeof made);
    ex_ghost(arrived, sizeof arrived);
}

static void cancel(void)
{
    ex_expect(weft__cancel_scope(weft__scope_of(&outer), WEFT__MARK_CANCEL));
}

static void runs(void)
{
    ex_write(&weft__current()->group, "the frame");
}

static void nobody_runnable(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

/* One notification: the second has it, from the server or from the first. */
static void notified(int me)
{
    if (me == SERVER) {
        ex_write(&data[SERVER], "what was written before the notification");
        weft_notify_one(&notify);
        return;
    }
    runs();
    if (me == SECOND)
        cancel();
    int rc = weft_notify_wait(&notify);
    ex_expect(rc == 0 || (me == FIRST && rc == -ECANCELED));
    if (rc == 0)
        ex_read(&data[SERVER], "what was written before the notification");
    if (me == FIRST && rc == 0)
        weft_notify_one(&notify);
}

static int make(void *arg)
{
    (void)arg;
    made++;
    ex_write(&data[SERVER], "what is made once");
    return 0;
}

static int fail(void *arg)
{
    (void)arg;
    return -EIO;
}

/* The one who fails hands over to the first, who may leave, or the second. */
static void handed_over(int me)
{
    runs();
    if (me == SERVER) {
        cancel();
        int rc = weft_once_run(&once, fail, NULL);
        ex_expect(rc == 0 || rc == -EIO);
        return;
    }
    int rc = weft_once_run(&once, make, NULL);
    ex_expect(rc == 0 || (me == FIRST && rc == -ECANCELED));
    if (rc == 0)
        ex_read(&data[SERVER], "what is made once");
}

static void check_made(void)
{
    nobody_runnable();
    ex_expect(made == 1);
}

static void promised(int me)
{
    void *value = NULL;
    if (me == SERVER) {
        ex_write(&data[SERVER], "what was written before the set");
        ex_expect(weft_promise_set(&promise, 3, data) == 0);
    } else if (me == SECOND) {
        cancel();
    } else {
        runs();
        int rc = weft_promise_wait(&promise, &value);
        ex_expect((rc == 3 && value == data) || (rc == -ECANCELED && value == NULL));
        if (rc == 3)
            ex_read(&data[SERVER], "what was written before the set");
    }
}

/* ---- the barrier */

static int meet(int me)
{
    ex_write(&data[me], "what was written before the barrier");
    int rc = weft_barrier_wait(&barrier);
    if (rc >= 0)
        ex_read(&data[1 - me], "what was written before the barrier");
    return rc;
}

/* Two generations. */
static void met(int me)
{
    runs();
    for (int i = 0; i < 2; i++) {
        int rc = weft_barrier_wait(&barrier);
        ex_expect(rc == 0 || rc == 1);
        arrived[i][rc]++;
    }
    (void)me;
}

static void check_met(void)
{
    nobody_runnable();
    for (int i = 0; i < 2; i++)
        ex_expect(arrived[i][0] == 1 && arrived[i][1] == 1);
}

/* Told to leave when the other comes: both have met, or neither. */
static void met_told(int me)
{
    if (me == SECOND) {
        cancel();
        return;
    }
    runs();
    int rc = meet(me);
    if (me == FIRST && rc == -ECANCELED)
        weft_barrier_break(&barrier);
    else
        ex_expect(rc == 0 || rc == 1 || (me == SERVER && rc == -EPIPE));
    if (rc >= 0)
        arrived[0][rc]++;
}

static void check_met_told(void)
{
    nobody_runnable();
    ex_expect(arrived[0][0] == arrived[0][1] && arrived[0][0] <= 1);
}

const struct ex_scenario meet_scenarios[] = {
    { "meet", "notify", 3, setup, notified, nobody_runnable, 1, "one notification, and one of two is told to leave", NULL },
    { "meet", "once", 3, setup, handed_over, check_made, 1, "a failure hands over to one who is told to leave", NULL },
    { "meet", "promise", 3, setup, promised, nobody_runnable, 2, "a result and a cancel", NULL },
    { "meet", "barrier", 2, setup, met, check_met, 4, "two meet twice", NULL },
    { "meet", "barrier_told", 3, setup, met_told, check_met_told, 2, "the last one comes, and a cancel", NULL },
    { 0 },
};
