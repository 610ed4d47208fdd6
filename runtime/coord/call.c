/* coord/call.c - callbacks as children of a scope, in order.
 *
 * Owns      who has called into a scope, and what came last of each: an entry for each caller, hung in the scope.
 * Callers   call_soon, call_at: any thread. run: the callback's task.
 * Holds     Q1  the task of a callback waits for the end of the one that its caller put in before, whatever tells it to leave
 *               meanwhile, and then looks whether it was told. A chain of joins, so the end of a link counts however it
 *               came, and a chain never begins with a task that was not spawned.
 *           Q2  an entry is its caller's alone while `busy`; free for another when its last tasks have ended.
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

struct weft__caller {
    struct weft__caller *next;
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

/* The caller's own entry, else one that is free for it; NULL. */
static struct weft__caller *find(struct weft__scope_extra *x, uint64_t id)
{
    struct weft__caller *unused = NULL;
    for (struct weft__caller *e = x->callers; e; e = e->next) {
        if (e->id == id)
            return e;
        if (!e->busy && over(e->soon) && over(e->timed))
            unused = e;
    }
    if (unused) {
        unused->id = id;
        unused->soon = unused->timed = 0;
    }
    return unused;
}

/* Q2. NULL: no memory. */
static struct weft__caller *enter(struct weft__scope_extra *x, uint64_t id)
{
    struct weft__caller *fresh = NULL, *e;
    for (;;) {
        weft__lock(&x->callers_lock);
        e = find(x, id);
        if (!e && (e = fresh) != NULL) {
            e->id = id;
            e->next = x->callers;
            x->callers = e;
            fresh = NULL;
        }
        if (e)
            e->busy = true;
        weft__unlock(&x->callers_lock);
        if (e || !(fresh = weft__mem_zeroed(sizeof *fresh)))
            break;
    }
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

void weft__callers_free(struct weft__scope_extra *x)
{
    while (x->callers) {
        struct weft__caller *e = x->callers;
        x->callers = e->next;
        weft__mem_free(e);
    }
}

/* ---- the calls */

static weft_task refuse(weft_scope *ps, void *arg, int rc)
{
    struct weft__scope *s = weft__scope_of(ps);
    struct weft__policy *p = weft__policy_of(s);
    if (!p || !weft__policy_puts_up_with(s, p, arg, rc, "a call failed"))
        weft__scope_fail(s, 0, arg, rc, "a call failed");
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
