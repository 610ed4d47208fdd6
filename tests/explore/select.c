/* select.c - sync/chan, sync/waiter, os/select: who meets whom, and what a cancel leaves.
 *
 * All are in one scope, and in some scenarios that is cancelled at any time: then each call has done its part, and its
 * partner's has too, or neither has. Nobody waits for ever, and nobody touches a stack that is gone. */
#include "scenarios.h"

#include <errno.h>
#include <weft/select.h>

#include "coord/await.h"
#include "sync/chan.h"

enum { OWNER = 4, CANCELLER = 3 };

static weft_scope scope;
static weft_chan *c1, *c2;
static int rc[PEOPLE], got[PEOPLE], which[PEOPLE];

/* The channel's way to move an item. */
void *model_memcpy(void *to, const void *from, size_t n);
void *model_memcpy(void *to, const void *from, size_t n)
{
    ex_read(from, "an item that is moved");
    ex_write(to, "where an item is moved to");
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}

static weft_chan *make(size_t capacity)
{
    weft_chan *c = NULL;
    if (weft_chan_create(&c, sizeof(int), capacity, NULL) < 0)
        abort();
    return c;
}

static void setup_with(size_t capacity)
{
    people_reset();
    memset(&scope, 0, sizeof scope);
    person(OWNER, NULL);
    weft_scope_begin(&scope, WEFT_NEVER);
    weft__scope_of(&scope)->spawned = 3;
    for (int i = 0; i < 3; i++)
        person(i, &scope);
    c1 = make(capacity);
    c2 = make(0);
    for (int i = 0; i < PEOPLE; i++)
        rc[i] = got[i] = which[i] = -1;
    ex_ghost(rc, sizeof rc);
    ex_ghost(got, sizeof got);
    ex_ghost(which, sizeof which);
}

static void setup(void)
{
    setup_with(0);
}

/* They have waited before: a wait begins under the lock. */
static void setup_attached(void)
{
    setup();
    for (int i = 0; i < 3; i++) {
        ex_be(i);
        if (weft__attach(weft__current()) < 0)
            abort();
    }
}

static void setup_buffer(void)
{
    setup_with(1);
}

static void check_runnable(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
    ex_expect(weft__waiters_none(&c1->senders) && weft__waiters_none(&c1->receivers));
    ex_expect(weft__waiters_none(&c2->senders) && weft__waiters_none(&c2->receivers));
}

static void cancel(void)
{
    weft__cancel_scope(weft__scope_of(&scope), WEFT__MARK_CANCEL);
}

/* A number of one's own, with which the explorer sees that it was published to who reads it. */
static int numbers[PEOPLE];

static int *number_of(int me)
{
    numbers[me] = me;
    ex_write(&numbers[me], "an item");
    return &numbers[me];
}

static void look_at(int me)
{
    ex_read(&got[me], "where an item is moved to");
    if (got[me] >= 0)
        ex_read(&numbers[got[me]], "an item");
}

static void send(int me, weft_chan *c)
{
    rc[me] = weft_chan_send(c, number_of(me), sizeof(int));
}

static void receive(int me, weft_chan *c)
{
    rc[me] = weft_chan_recv(c, &got[me], sizeof(int));
    look_at(me);
}

static void select_two(int me, weft_chan *out, weft_chan *in)
{
    weft_case cs[] = { weft_on_send(out, number_of(me), sizeof(int)), weft_on_recv(in, &got[me], sizeof(int)) };
    which[me] = weft_select(cs, 2);
    if (which[me] >= 0)
        rc[me] = cs[which[me]].rc;
    look_at(me);
}

/* ---- a sender, a receiver, a cancel */

static void plain(int me)
{
    if (me == 0)
        send(0, c1);
    else
        receive(1, c1);
}

static void plain_cancel(int me)
{
    if (me == 2)
        cancel();
    else
        plain(me);
}

static void check_met(void)
{
    check_runnable();
    ex_expect(rc[0] == 0 && rc[1] == 1 && got[1] == 0);
}

static void check_both_or_neither(void)
{
    check_runnable();
    ex_expect(rc[0] == 0 || rc[0] == -ECANCELED);
    ex_expect(rc[1] == 1 || rc[1] == -ECANCELED);
    ex_expect((rc[0] == 0) == (rc[1] == 1) && (got[1] == 0) == (rc[1] == 1));
}

/* What was sent is kept, or was received. */
static void check_kept(void)
{
    check_runnable();
    ex_expect((rc[0] == 0) == (rc[1] == 1 || weft_chan_len(c1) == 1));
    ex_expect((got[1] == 0) == (rc[1] == 1) && !(rc[1] == 1 && weft_chan_len(c1) == 1));
}

static void plain_close(int me)
{
    if (me == 2)
        weft_chan_close(c1);
    else
        plain(me);
}

static void check_closed(void)
{
    check_runnable();
    ex_expect((rc[0] == 0 && rc[1] == 1 && got[1] == 0) || (rc[0] == -EPIPE && rc[1] == 0 && got[1] == -1));
}

/* ---- two selects that face each other */

static void facing(int me)
{
    if (me == 0)
        select_two(0, c1, c2);
    else
        select_two(1, c2, c1);
}

static void facing_cancel(int me)
{
    if (me == 2)
        cancel();
    else
        facing(me);
}

static bool they_met(void)
{
    if (which[0] < 0 || which[1] < 0 || which[0] == which[1])
        return false;
    int from = which[0] == 0 ? 0 : 1;
    return rc[from] == 0 && rc[!from] == 1 && got[!from] == from && got[from] == -1;
}

static void check_facing(void)
{
    check_runnable();
    ex_expect(they_met());
}

static void check_facing_cancel(void)
{
    check_runnable();
    ex_expect(they_met() || (which[0] == -ECANCELED && which[1] == -ECANCELED && got[0] == -1 && got[1] == -1));
}

/* ---- a select between two who call plainly: one of them is served */

static void between(int me)
{
    if (me == CANCELLER)
        cancel();
    else if (me == 0)
        select_two(0, c1, c2);
    else if (me == 1)
        receive(1, c1);
    else
        send(2, c2);
}

static void check_between(void)
{
    check_runnable();
    ex_expect((which[0] == 0) == (rc[1] == 1) && (which[0] == 1) == (rc[2] == 0));
    ex_expect((got[1] == 0) == (rc[1] == 1) && (got[0] == 2) == (which[0] == 1));
}

/* ---- both cases at one channel: they do not meet each other, and another serves one of them */

static void oneself(int me)
{
    if (me == 0)
        select_two(0, c1, c1);
    else
        receive(1, c1);
}

static void check_oneself(void)
{
    check_runnable();
    ex_expect(which[0] == 0 && rc[0] == 0 && rc[1] == 1 && got[1] == 0 && got[0] == -1);
}

const struct ex_scenario select_scenarios[] = {
    { "select", "plain", 2, setup, plain, check_met, -1, "a send and a receive", NULL },
    { "select", "plain_attached", 2, setup_attached, plain, check_met, -1, "the same, by who has waited before", NULL },
    { "select", "plain_cancel", 3, setup, plain_cancel, check_both_or_neither, 2, "a send, a receive, a cancel of both", NULL },
    { "select", "plain_cancel_attached", 3, setup_attached, plain_cancel, check_both_or_neither, 2,
            "the same, by who has waited before", NULL },
    { "select", "buffer_cancel", 3, setup_buffer, plain_cancel, check_kept, 3, "the same, with room for one", NULL },
    { "select", "plain_close", 3, setup, plain_close, check_closed, 3, "a send, a receive, a close", NULL },
    { "select", "facing", 2, setup, facing, check_facing, -1, "two selects that face each other", NULL },
    { "select", "facing_attached", 2, setup_attached, facing, check_facing, -1, "the same, by who has waited before", NULL },
    { "select", "facing_cancel", 3, setup, facing_cancel, check_facing_cancel, 2, "two selects, a cancel of both", NULL },
    { "select", "facing_cancel_attached", 3, setup_attached, facing_cancel, check_facing_cancel, 2,
            "the same, by who have waited before", NULL },
    { "select", "oneself", 2, setup_attached, oneself, check_oneself, -1, "both cases at one channel, a receiver", NULL },
    { "select", "between", 4, setup_attached, between, check_between, 1, "a select, one for each case, a cancel", NULL },
    { 0 },
};
