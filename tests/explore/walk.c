/* walk.c - coord/tree: a walk in slices of one, while what it walks through leaves. */
#include "scenarios.h"

#include <errno.h>

#include "coord/await.h"
#include "sched/errand.h"

static weft_scope outer, inner;
static at_word mail;
enum { FIRST = 0, CANCELLER = 1, SECOND = 2, RUNNER = 3, THIRD = 3, OWNER = 4 };

static void setup(void)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    memset(&inner, 0, sizeof inner);
    mail = 0;
    errand_mail = &mail;
    person(OWNER, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    ex_ghost(&errand_posted, sizeof errand_posted);
}

/* Two children of one scope. */
static void setup_two(void)
{
    setup();
    weft__scope_of(&outer)->spawned = 2;
    person(FIRST, &outer);
    person(SECOND, &outer);
}

/* A child, the owner of a scope with one more. */
static void setup_nested(void)
{
    setup();
    weft__scope_of(&outer)->spawned = 1;
    person(FIRST, &outer);
    weft_scope_begin(&inner, WEFT_NEVER);
    weft__scope_of(&inner)->spawned = 1;
    person(SECOND, &inner);
}

static void cancel(weft_scope *s)
{
    ex_expect(weft__cancel_scope(weft__scope_of(s), WEFT__MARK_CANCEL));
    if (!errand_posted)
        ex_send(&mail); /* done at once */
}

static void run(void)
{
    ex_receive(&mail, false);
    if (errand_posted)
        while (((weft__slice *)(uintptr_t)errand_posted->fn)(errand_posted))
            continue;
}

static struct weft__frame *waiter(void)
{
    struct weft__frame *f = weft__current();
    ex_write(&f->group, "the frame");
    return f;
}

/* Nothing but a cancel ends it. */
static void wait(struct weft__frame *f)
{
    weft__token k;
    int rc = weft__await_begin(f, &k);
    if (rc == 0)
        ex_expect(weft__await(f) == WEFT__CAUSE_CANCEL);
    else
        ex_expect(rc == -ECANCELED);
}

/* Who walks has no business with it any more, though the words stay. */
static void ends(struct weft__frame *f, weft_scope *s)
{
    weft__detach_frame(f);
    ex_gone(&f->task->side, sizeof f->task->side, "the way to a frame");
    ex_gone(&weft__members[weft__task_index(f->task)], sizeof weft__members[0], "a place among the members");
    ex_gone(f, sizeof *f, "a frame");
    weft__scope_child_left(weft__scope_of(s));
}

static void scope_ends(void)
{
    weft_ignore(weft_scope_end(&inner, 0));
    ex_gone(&inner, sizeof inner, "a scope");
}

static void two(int me)
{
    if (me == CANCELLER) {
        cancel(&outer);
    } else if (me == RUNNER) {
        run();
    } else {
        struct weft__frame *f = waiter();
        wait(f);
        ends(f, &outer);
    }
}

static void nested(int me)
{
    struct weft__frame *f;
    if (me == CANCELLER) {
        cancel(&outer);
    } else if (me == RUNNER) {
        run();
    } else if (me == SECOND) {
        f = waiter();
        wait(f);
        ends(f, &inner);
    } else {
        f = waiter();
        scope_ends();
        wait(f);
        ends(f, &outer);
    }
}

/* The same, and a second child beside them, which the walk comes to before or after. */
static void setup_beside(void)
{
    setup_nested();
    weft__scope_of(&outer)->spawned = 2;
    person(THIRD, &outer);
}

static void beside(int me)
{
    if (me == CANCELLER) {
        cancel(&outer);
        run();
    } else if (me == THIRD) {
        struct weft__frame *f = waiter();
        wait(f);
        ends(f, &outer);
    } else {
        nested(me);
    }
}

/* What the walk began at ends. */
static void top(int me)
{
    if (me == CANCELLER) {
        cancel(&inner);
    } else if (me == RUNNER) {
        run();
    } else if (me == SECOND) {
        struct weft__frame *f = waiter();
        wait(f);
        ends(f, &inner);
    } else {
        waiter();
        scope_ends();
    }
}

/* Two scopes of one owner, the child in the inner one: from there the way up leads through the other. */
static weft_scope middle;

static void setup_same(void)
{
    setup();
    memset(&middle, 0, sizeof middle);
    weft__scope_of(&outer)->spawned = 1;
    person(FIRST, &outer);
    weft_scope_begin(&middle, WEFT_NEVER);
    weft_scope_begin(&inner, WEFT_NEVER);
    weft__scope_of(&inner)->spawned = 1;
    person(SECOND, &inner);
}

static void same(int me)
{
    if (me != FIRST) {
        nested(me);
        return;
    }
    struct weft__frame *f = waiter();
    scope_ends();
    weft_ignore(weft_scope_end(&middle, 0));
    ex_gone(&middle, sizeof middle, "a scope");
    wait(f);
    ends(f, &outer);
}

/* Who cancels was not waited for, as a timer that strikes or a runtime that ends: they come to an end before the scope's
 * memory does, but an errand of theirs would not. */
static at_word cancelled;

static void setup_late(void)
{
    setup();
    cancelled = 0;
    weft__scope_of(&outer)->spawned = 1;
    struct weft__frame *f = person(FIRST, &outer);
    weft_scope_begin(&inner, WEFT_NEVER);
    ex_expect(weft__attach(f) == 0);
}

static void late(int me)
{
    if (me == CANCELLER) {
        cancel(&inner);
        ex_send(&cancelled);
    } else if (me == RUNNER) {
        run();
    } else if (me == FIRST) {
        waiter();
        weft_ignore(weft_scope_end(&inner, 0));
        ex_receive(&cancelled, false);
        ex_gone(&inner, sizeof inner, "a scope");
    }
}

/* Two cancels: whoever comes second leaves the walk to the first. */
static void twice(int me)
{
    if (me == CANCELLER) {
        cancel(&outer);
    } else if (me == RUNNER) {
        weft__cancel_scope(weft__scope_of(&inner), WEFT__MARK_CANCEL);
    } else if (me == SECOND) {
        struct weft__frame *f = waiter();
        wait(f);
        ends(f, &inner);
    } else {
        waiter();
        wait(waiter());
    }
}

/* The same, and the second breaks shields: it walks where the first has been, or will be. */
static void hard(int me)
{
    if (me == RUNNER)
        weft__cancel_scope(weft__scope_of(&inner), WEFT__MARK_HARD);
    else
        twice(me);
}

static void setup_twice(void)
{
    setup_nested();
    errand_mail = NULL;
}

static void check(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

const struct ex_scenario walk_scenarios[] = {
    { "walk", "two", 4, setup_two, two, check, 1, "two children leave", NULL },
    { "walk", "nested", 4, setup_nested, nested, check, 1, "an inner scope ends, with its child and its owner", NULL },
    { "walk", "beside", 4, setup_beside, beside, check, 0, "and somebody waits beside them", NULL },
    { "walk", "same", 4, setup_same, same, check, 0, "two scopes of one owner end", NULL },
    { "walk", "late", 4, setup_late, late, check, 1, "a scope ends that is just being cancelled", NULL },
    { "walk", "top", 4, setup_nested, top, check, 1, "the scope that was cancelled ends", NULL },
    { "walk", "twice", 4, setup_twice, twice, check, 1, "a scope and the one around it", NULL },
    { "walk", "hard", 4, setup_twice, hard, check, 1, "a scope, breaking shields, and the one around it", NULL },
    { 0 },
};
