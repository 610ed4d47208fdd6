/* scope.c - coord/scope: the owner goes on when the last child has left, and no child comes after that. */
#include "scenarios.h"

#include <errno.h>

#include "coord/await.h"

static weft_scope outer, scope;
static at_word box;
static int data[PEOPLE];
enum { OUTSIDE = 4, CANCELLER = 2 };

static void setup(int children)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    box = 0;
    memset(&scope, 0, sizeof scope);
    person(OUTSIDE, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft__scope_of(&outer)->spawned = 1;
    person(0, &outer);
    weft_scope_begin(&scope, WEFT_NEVER);
    weft__scope_of(&scope)->spawned = children;
}
static void with_1(void)
{
    setup(1);
}
static void with_2(void)
{
    setup(2);
}
static void with_3(void)
{
    setup(3);
}

/* The end of a child on another worker. */
static void leaves(int me)
{
    ex_write(&data[me], "what the child wrote");
    weft__scope_child_left(weft__scope_of(&scope));
}

static void ends(int rc, int children)
{
    ex_expect(weft_scope_end(&scope, 0) == rc);
    ex_gone(&scope, sizeof scope, "a scope");
    for (int i = 1; i <= children; i++)
        ex_read(&data[i], "what the child wrote");
}

static struct weft__frame *owner(void)
{
    struct weft__frame *f = weft__current();
    ex_write(&f->group, "the frame");
    return f;
}

static void check(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

static void end_1(int me)
{
    if (me != 0) {
        leaves(me);
        return;
    }
    owner();
    ends(0, 1);
}

static void end_3(int me)
{
    if (me != 0) {
        leaves(me);
        return;
    }
    owner();
    ends(0, 3);
}

/* It waits, and may be told to leave from outside; the end then waits in earnest. */
static void told(int me)
{
    if (me == CANCELLER) {
        ex_expect(weft__cancel_scope(weft__scope_of(&outer), WEFT__MARK_CANCEL));
    } else if (me != 0) {
        leaves(me);
    } else {
        owner();
        int rc = weft_scope_wait(&scope);
        ex_expect(rc == 0 || rc == -ECANCELED);
        if (rc == 0)
            ex_read(&data[1], "what the child wrote");
        weft_ignore(weft_scope_end(&scope, 0));
        ex_gone(&scope, sizeof scope, "a scope");
        ex_read(&data[1], "what the child wrote");
    }
}

/* One child fails, which cancels the scope that it is about to leave. */
static void fails(int me)
{
    if (me == 1)
        weft__scope_fail(weft__scope_of(&scope), NULL, NULL, -EIO, NULL);
    if (me != 0) {
        leaves(me);
        return;
    }
    owner();
    ends(-EIO, 2);
}

/* The same while the owner waits. */
static void fails_waited(int me)
{
    if (me == 1)
        weft__scope_fail(weft__scope_of(&scope), NULL, NULL, -EIO, NULL);
    if (me != 0) {
        leaves(me);
        return;
    }
    owner();
    int rc = weft_scope_wait(&scope);
    ex_expect(rc == 0 || rc == -ECANCELED);
    ends(-EIO, 1);
}

static int spawned(void *arg)
{
    (void)arg;
    return 0;
}

/* Somebody else spawns into the scope while its owner waits and its last child leaves; the owner knows of that when it
 * ends the scope. */
static void foreign(int me)
{
    if (me == 1) {
        leaves(me);
    } else if (me == 2) {
        struct weft__sched *w = weft__self();
        weft_task id = weft_spawn(&scope, spawned, NULL);
        ex_expect(id > 0);
        ex_send(&box);
        ex_expect(weft__spawned_take(w) == (uint64_t)id);
        struct weft__task *t = weft__task_at(weft__id_index(id));
        ex_expect(weft__task_claim(t, id));
        ex_expect(at_cas(&t->life, (uint64_t)id, 0));
        weft__task_recycle(&w->blocks, t, id);
        leaves(me);
    } else {
        owner();
        int rc = weft_scope_wait(&scope);
        ex_expect(rc == 0);
        ex_read(&data[1], "what the child wrote");
        ex_receive(&box, false);
        ends(0, 2);
    }
}

/* The same, and the owner is told to leave from outside. */
static void foreign_told(int me)
{
    if (me == 3) {
        ex_expect(weft__cancel_scope(weft__scope_of(&outer), WEFT__MARK_CANCEL));
    } else if (me == 0) {
        owner();
        int rc = weft_scope_wait(&scope);
        ex_expect(rc == 0 || rc == -ECANCELED);
        ex_receive(&box, false);
        weft_ignore(weft_scope_end(&scope, 0));
        ex_gone(&scope, sizeof scope, "a scope");
        ex_read(&data[1], "what the child wrote");
        ex_read(&data[2], "what the child wrote");
    } else {
        foreign(me);
    }
}

static void with_stranger(void)
{
    setup(1);
    person(2, &outer);
    ex_be(0);
}

const struct ex_scenario scope_scenarios[] = {
    { "scope", "end_1", 2, with_1, end_1, check, -1, "one child", NULL },
    { "scope", "end_3", 4, with_3, end_3, check, -1, "three children", NULL },
    { "scope", "told", 3, with_1, told, check, 3, "a child leaves while the owner is told to", NULL },
    { "scope", "fails", 3, with_2, fails, check, -1, "a child fails, another leaves", NULL },
    { "scope", "fails_waited", 2, with_1, fails_waited, check, -1, "the only child fails, the owner waits", NULL },
    { "scope", "foreign", 3, with_stranger, foreign, check, -1, "spawned into by somebody else", NULL },
    { "scope", "foreign_told", 4, with_stranger, foreign_told, check, 1, "the same, told to leave", NULL },
    { 0 },
};
