/* cancel.c - coord/cancel: whoever waits under a cancelled scope is woken or refused, and nobody else is. */
#include "scenarios.h"

#include <errno.h>

#include "coord/await.h"

static weft_scope outer, inner, other;
static at_word box;
static weft__token token;
static unsigned char fired_event;
enum { OWNER = 4, CANCELLER = 1, EVENT = 2, OWNING = 1, OLD = 2000, NEW = 1000 };

static void setup(void)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    memset(&inner, 0, sizeof inner);
    box = 0;
    fired_event = 0;
    person(OWNER, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft__scope_of(&outer)->spawned = 1;
    person(0, &outer);
    ex_ghost(&fired_event, sizeof fired_event);
}

static void setup_inner(void)
{
    setup();
    weft_scope_begin(&inner, WEFT_NEVER);
}

static void setup_child(void)
{
    setup_inner();
    weft__scope_of(&inner)->spawned = 1;
}

static void setup_shield(void)
{
    setup();
    weft_scope_begin_shield(&inner, WEFT_NEVER);
}

/* Thread 1 owns `outer`, whose deadline is OLD yet. */
static void setup_deadline(void)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    person(1, NULL);
    weft_scope_begin(&outer, OLD);
    weft__scope_of(&outer)->spawned = 1;
    person(0, &outer);
}

static struct weft__frame *waiter(void)
{
    struct weft__frame *f = weft__current();
    ex_write(&f->group, "the frame");
    return f;
}

static void cancel(weft_scope *s)
{
    ex_expect(weft__cancel_scope(weft__scope_of(s), WEFT__MARK_CANCEL));
}

static void event(void)
{
    ex_receive(&box, false);
    if (weft__fire(token, WEFT__CAUSE_EVENT))
        fired_event = 1;
}

/* -1: refused; else why it ended. */
static int wait(struct weft__frame *f, bool with_event)
{
    weft__token k;
    int rc = weft__await_begin(f, &k);
    if (rc < 0) {
        ex_expect(rc == -ECANCELED);
        return -1;
    }
    if (with_event) {
        token = k;
        ex_send(&box);
    }
    enum weft__cause cause = weft__await(f);
    ex_expect((cause == WEFT__CAUSE_EVENT) == (fired_event == 1));
    return (int)cause;
}

static void check(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

/* Nothing else would ever wake it. */
static void lone(int me)
{
    if (me == CANCELLER)
        cancel(&outer);
    else
        ex_expect(wait(waiter(), false) != WEFT__CAUSE_EVENT);
}

/* A cancel that does not apply to the waiter, and one that does. */
static void setup_other(void)
{
    setup();
    memset(&other, 0, sizeof other);
    person(EVENT, NULL);
    weft_scope_begin(&other, WEFT_NEVER);
}

static void elsewhere(int me)
{
    if (me == EVENT)
        cancel(&other);
    else
        lone(me);
}

/* Its own scope is cancelled, and then ends. */
static void own_scope(int me)
{
    if (me == CANCELLER) {
        cancel(&inner);
        return;
    }
    ex_expect(wait(waiter(), false) != WEFT__CAUSE_EVENT);
    ex_expect(weft_scope_end(&inner, -ECANCELED) == 0);
    ex_gone(&inner, sizeof inner, "a scope");
}

static void with_event(int me)
{
    if (me == CANCELLER)
        cancel(&outer);
    else if (me == EVENT)
        event();
    else if (wait(waiter(), true) == -1)
        ex_send(&box); /* the event comes to a wait that is over */
}

/* Under a shield it waits for the event; after the shield it is told. */
static void shielded(int me)
{
    if (me == CANCELLER) {
        cancel(&outer);
    } else if (me == EVENT) {
        event();
    } else {
        struct weft__frame *f = waiter();
        ex_expect(wait(f, true) == WEFT__CAUSE_EVENT);
        ex_expect(weft_scope_end(&inner, 0) == 0);
        ex_gone(&inner, sizeof inner, "a scope");
        fired_event = 0;
        ex_expect(wait(f, false) != WEFT__CAUSE_EVENT);
    }
}

/* Two scopes around it are cancelled at once, the inner one by a child that is about to leave it. */
static void both(int me)
{
    if (me == CANCELLER) {
        cancel(&outer);
    } else if (me == EVENT) {
        cancel(&inner);
        weft__scope_child_left(weft__scope_of(&inner));
    } else {
        ex_expect(wait(waiter(), false) != WEFT__CAUSE_EVENT);
        weft_ignore(weft_scope_end(&inner, 0));
        ex_gone(&inner, sizeof inner, "a scope");
    }
}

/* A tree of two: the waiter owns a scope with a child that waits as well, and both are to go. The child ends as tasks
 * do, and its frame with it. */
static void tree(int me)
{
    if (me == CANCELLER) {
        cancel(&outer);
        return;
    }
    struct weft__frame *f = waiter();
    if (me == EVENT) {
        ex_expect(wait(f, false) != WEFT__CAUSE_EVENT);
        weft__detach_frame(f);
        ex_gone(f, sizeof *f, "a frame");
        weft__scope_child_left(weft__scope_of(&inner));
        return;
    }
    int rc = weft_scope_wait(&inner);
    ex_expect(rc == 0 || rc == -ECANCELED);
    weft_ignore(weft_scope_end(&inner, 0));
    ex_gone(&inner, sizeof inner, "a scope");
}

static void setup_tree(void)
{
    setup_child();
    person(EVENT, &inner);
}

/* One scope is cancelled for two reasons: who comes second does not walk (K1). */
static void setup_twice(void)
{
    setup();
    person(EVENT, NULL);
}

static void twice(int me)
{
    if (me == EVENT)
        ex_expect(weft__cancel_scope(weft__scope_of(&outer), WEFT__MARK_FAILURE));
    else
        lone(me);
}

/* weft_task_cancel (coord/task.c), of a task that is begun meanwhile by its joiner, as a call (coord/child.c, run). */
static void setup_by_id(void)
{
    setup();
    ati_store(&weft__task_at(0)->bits, 0);
}

static void by_id(int me)
{
    struct weft__task *t = weft__task_at(0);
    if (me == CANCELLER) {
        weft__cancel_task(t);
        return;
    }
    struct weft__frame *joiner = weft__scope_of(&outer)->owner, *f = waiter();
    ex_expect(!weft__told(joiner));
    ati_store_release(&t->bits, WEFT__TASK_STARTED);
    f->epoch_ok = at_load_acquire(&t->life) & WEFT__LIFE_CANCELLED ? 0 : joiner->epoch_ok;
    ex_expect(wait(f, false) != WEFT__CAUSE_EVENT);
}

/* The same, and what is cancelled is the joiner, which does not wait itself. */
static void joiner_by_id(int me)
{
    if (me == CANCELLER)
        weft__cancel_task(weft__task_at(OWNER));
    else
        ex_expect(wait(waiter(), false) != WEFT__CAUSE_EVENT);
}

static weft_scope root;
static void setup_joiner(void)
{
    setup();
    memset(&root, 0, sizeof root);
    ex_be(3);
    person(3, NULL);
    weft_scope_begin(&root, WEFT_NEVER);
    weft__scope_of(&root)->spawned = 1;
    at_store(&weft__task_at(OWNER)->scope, (uint64_t)(uintptr_t)&root);
}

/* A deadline is moved while a child that is about to wait attaches its scope. */
static void moved(int me)
{
    if (me == OWNING)
        weft_scope_set_deadline(&outer, NEW);
    else
        ex_expect(weft__attach(waiter()) == 0);
}

/* The same beside two of them, and the timer may be the old one's. */
static void setup_deadline_of_two(void)
{
    setup_deadline();
    weft__scope_of(&outer)->spawned = 2;
    person(EVENT, &outer);
}

static void armed_for_the_new_one(void)
{
    if (!timer_armed || timer_armed->at != NEW)
        ex_fail("nobody will be told at the new deadline");
}

const struct ex_scenario cancel_scenarios[] = {
    { "cancel", "lone", 2, setup, lone, check, -1, "a wait that only the cancel ends", NULL },
    { "cancel", "elsewhere", 3, setup_other, elsewhere, check, -1, "two cancels, and one of them applies", NULL },
    { "cancel", "twice", 3, setup_twice, twice, check, 2, "one scope, for two reasons", NULL },
    { "cancel", "by_id", 2, setup_by_id, by_id, check, -1, "a task that begins, cancelled by its id", NULL },
    { "cancel", "joiner_by_id", 2, setup_joiner, joiner_by_id, check, -1, "the owner of its scope, by its id", NULL },
    { "cancel", "own_scope", 2, setup_inner, own_scope, check, -1, "the waiter's own scope, which then ends", NULL },
    { "cancel", "with_event", 3, setup, with_event, check, -1, "a cancel and an event", NULL },
    { "cancel", "shielded", 3, setup_shield, shielded, check, -1, "a cancel from outside a shield", NULL },
    { "cancel", "both", 3, setup_child, both, check, 2, "two scopes cancelled at once", NULL },
    { "cancel", "tree", 3, setup_tree, tree, check, 1, "the waiter and the child that it waits for", NULL },
    { "cancel", "deadline_moved", 2, setup_deadline, moved, armed_for_the_new_one, 3,
        "a deadline moved beside who attaches its scope", NULL },
    { "cancel", "deadline_for_two", 3, setup_deadline_of_two, moved, armed_for_the_new_one, 2,
        "a deadline moved beside two who attach its scope", NULL },
    { 0 },
};
