/* coord/call.c - callbacks as children of a scope, in order.
 *
 * Owns      who has called into a scope, and what came last of each: an entry for each caller, hung in the scope.
 * Callers   call_soon, call_at: any thread. run: the callback's task.
 * Holds     Q1  the task of a callback waits for the end of the one that its caller put in before, whatever tells it to leave
 *               meanwhile, and then looks whether it was told. A chain of joins, so the end of a link counts however it
 *               came, and a chain never begins with a task that was not spawned.
 *           Q2  an entry is its caller's alone while `busy`; free for another when its last tasks have ended.
 *           Q3  entries are a tree, with up to four below each. A caller's number, two bits at a time, is the way down to its
 *               entry. One that is free becomes that of any caller on whose way it lies, and stays where it is: the ways of
 *               those below it lead through it whosever it is.
 * Steps     each callback that puts in another is a caller, so there may be as many entries as callbacks. A search looks at one
 *           on each level: a logarithm of how many there are, 32 at most, and there is no table that would have to grow under
 *           the lock. Of the free ones on its way it takes the lowest, since those above lie on the ways of more callers; so
 *           there are about three times as many entries as were needed at once, which go with the scope.
 * Order     tasks of several workers begin in any order. That of one caller is kept by Q1; the queue they go through, which
 *           is first in, first out, sees to it that few have to wait. For all callers together there is none to be kept.
 * Tested    tests/call_test.c */
#include <weft/call.h>

#include <errno.h>
#include <weft/time.h>

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/policy.h"

enum { DIGIT_BITS = 2 };

struct weft__caller {
    struct weft__caller *below[1 << DIGIT_BITS];
    uint64_t id;
    bool busy;          /* its caller is just in a call */
    weft_task soon;     /* the last; 0 none */
    weft_task timed;    /* the same of those for a point in time, */
    int64_t at;         /* and which that was */
};

struct call {
    weft_callback *fn;
    void *arg;
    weft_task before;
    int64_t at;
    bool timed;
};

/* Q1. */
static int wait_for(weft_task before)
{
    weft_scope shield;
    if (before == 0 || !weft_task_alive(before))
        return 0;
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    return weft_scope_end(&shield, weft_task_join(before));
}

static int run(void *arg)
{
    const struct call *c = arg;
    int rc = c->timed ? weft_sleep_until(c->at) : 0;
    int waited = wait_for(c->before);
    if (rc == 0 && (rc = waited) == 0)
        rc = weft_check();
    if (rc < 0)
        return rc;
    c->fn(c->arg);
    return 0;
}

/* ---- entries; under the lock */

static bool over(weft_task t)
{
    return t == 0 || !weft_task_alive(t);
}

/* Spread over the tree. The factor is odd: two ids have two numbers, so their ways part at one of the digits. */
static uint64_t number_of(uint64_t id)
{
    return id * UINT64_C(0x9e3779b97f4a7c15);
}

/* Q3. Where the caller's own entry hangs, else one that is free for it, else where a new one is to. */
static struct weft__caller **find(struct weft__scope_extra *x, uint64_t id)
{
    struct weft__caller **unused = NULL, **place = &x->callers;
    for (uint64_t way = number_of(id); *place; way <<= DIGIT_BITS) {
        struct weft__caller *e = *place;
        if (e->id == id)
            return place;
        if (!e->busy && over(e->soon) && over(e->timed))
            unused = place;
        place = &e->below[way >> (64 - DIGIT_BITS)];
    }
    return unused ? unused : place;
}

static void take(struct weft__caller *e, uint64_t id)
{
    if (e->id != id)
        e->soon = e->timed = 0; /* another's, and over */
    e->id = id;
    e->busy = true;
}

/* Q2. NULL: no memory. */
static struct weft__caller *enter(struct weft__scope_extra *x, uint64_t id)
{
    struct weft__caller *fresh = NULL, *e;
    do {
        weft__lock(&x->callers_lock);
        struct weft__caller **place = find(x, id);
        if (!*place) {
            *place = fresh;
            fresh = NULL;
        }
        if ((e = *place) != NULL)
            take(e, id);
        weft__unlock(&x->callers_lock);
    } while (!e && (fresh = weft__mem_zeroed(sizeof *fresh)) != NULL);
    weft__mem_free(fresh); /* one became free meanwhile */
    return e;
}

static void leave(struct weft__scope_extra *x, struct weft__caller *e, const struct call *c, weft_task t)
{
    weft__lock(&x->callers_lock);
    if (t > 0 && c->timed) {
        e->timed = t;
        e->at = c->at;
    } else if (t > 0) {
        e->soon = t;
    }
    e->busy = false;
    weft__unlock(&x->callers_lock);
}

/* As deep as the tree: 32 calls at most. */
static void free_from(struct weft__caller *e)
{
    if (!e)
        return;
    for (int i = 0; i < 1 << DIGIT_BITS; i++)
        free_from(e->below[i]);
    weft__mem_free(e);
}

void weft__callers_free(struct weft__scope_extra *x)
{
    free_from(x->callers);
}

static int longest_from(const struct weft__caller *e)
{
    int longest = 0;
    if (!e)
        return 0;
    for (int i = 0; i < 1 << DIGIT_BITS; i++) {
        int steps = longest_from(e->below[i]);
        longest = steps > longest ? steps : longest;
    }
    return longest + 1;
}

int weft__callers_steps(struct weft__scope_extra *x)
{
    weft__lock(&x->callers_lock);
    int steps = longest_from(x->callers);
    weft__unlock(&x->callers_lock);
    return steps;
}

/* ---- the calls */

static weft_task refuse(weft_scope *ps, void *arg, int rc)
{
    struct weft__scope *s = weft__scope_of(ps);
    struct weft__policy *p = weft__policy_of(s);
    if (!p || !weft__policy_puts_up_with(s, p, arg, rc, "a call failed"))
        weft__scope_fail(s, NULL, arg, rc, "a call failed");
    return rc;
}

static weft_task call_from(weft_scope *s, struct weft__frame *f, struct call *c, void *site)
{
    struct weft__scope_extra *x = weft__scope_extra(weft__scope_of(s));
    struct weft__caller *e = x ? enter(x, weft__is_thread(f) ? weft__id_of_thread(f) : (uint64_t)f->id) : NULL;
    if (!e)
        return refuse(s, c->arg, -ENOMEM);
    c->before = !c->timed ? e->soon : e->timed != 0 && e->at == c->at ? e->timed : 0;
    weft_task t = weft__spawn_in_order(s, run, c, sizeof *c, site);
    leave(x, e, c, t);
    return t;
}

static weft_task call(weft_scope *s, struct call *c, void *site)
{
    if (weft__forked)
        return -ECHILD;
    if (!weft__scope_is_open(s))
        return -EINVAL;
    if (!c->fn)
        return refuse(s, c->arg, -EINVAL);
    struct weft__frame *f = weft__current();
    if (!f) /* outside of any task, on a worker (weft_task_on_done): nothing comes in an order there */
        return weft__spawn_in_order(s, run, c, sizeof *c, site);
    /* The callback may be what the scope's owner waits for: it does not end before the entry was left. */
    bool foreign = weft__scope_of(s)->owner != f;
    if (foreign && !weft__scope_count(weft__scope_of(s)))
        return -EINVAL;
    weft_task t = call_from(s, f, c, site);
    if (foreign)
        weft__scope_child_left(weft__scope_of(s));
    return t;
}

weft_task weft_call_soon(weft_scope *s, weft_callback *cb, void *arg)
{
    struct call c = { .fn = cb, .arg = arg };
    return call(s, &c, __builtin_return_address(0));
}

weft_task weft_call_at(weft_scope *s, int64_t at, weft_callback *cb, void *arg)
{
    struct call c = { .fn = cb, .arg = arg, .at = at, .timed = true };
    return call(s, &c, __builtin_return_address(0));
}
