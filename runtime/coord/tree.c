/* coord/tree.c - the tree of what waits, and the walk that wakes all of it under a scope.
 *
 * Owns      who hangs where: a scope's list of attached children, its attached inner scope; and the walks.
 * Callers   attach: a task about to wait. detach: the task, at its end and its scopes' ends. wake: cancel.c.
 * Holds     H1  what is attached has all its ancestors attached: attaching goes outermost first.
 *           H2  one lock of a scope at a time; under it, the lock of the walks or of timers.
 *
 * A walk can be very long, so it goes in slices; between two of them it holds nothing, and others come and go. It needs
 * no memory but an errand to hand itself over, and no recursion.
 *
 *     a walk                                       who leaves
 *     V1  enters a scope: WALKED and a hold, by    L1  a child, under the lock of its scope: a walk that stops at
 *         one CAS; another was here first, or          it goes to the next one
 *         it is a shield: passes it by             L2  an inner scope, under the lock of its parent: nobody enters
 *     V2  locks it, lets the one further out go        it any more. Held: try again. Else a walk that stops in it
 *     V3  claims the children's waits, enters          goes up, to what follows the scope in its parent; if it
 *         their scopes; then the inner scope           began here, it is over
 *     V4  up: holds the parent, unlocks, locks
 *         that, lets the inner one go
 *     V5  the slice is over: the errand says
 *         where; STOPPED; unlocks, lets go
 *     V6  the next slice: finds where it is and
 *         holds that (under walks_lock, against
 *         L2); locks it; not STOPPED any more
 *
 *           H3  a scope that is held does not end, and while it has not ended its parents have not: so the way up is
 *               there for a walk that holds where it is. One that has stopped holds nothing, and is moved by L1 and L2.
 *           H4  a scope is entered by one walk in its life (K1 in cancel.c): so STOPPED and `walk` are one walk's.
 * Forbidden (L2/V6): L2 finds nobody holding and moves the walk, V6 goes to where it was.
 * Tested    tests/tree_test.c, stress/scopes.c, tests/explore (walk: in slices of one) */
#include <sched.h>

#include "coord/scope.h"
#include "sched/errand.h"

int weft__walk_slice = 256; /* some tens of microseconds */

/* What a scope is attached to: the scope around it in the same task, else the owner scope of that task; NULL for
 * the outermost scope of a plain thread. */
static struct weft__scope *parent(struct weft__scope *s)
{
    return s->outer ? weft__scope_of(s->outer) : weft__owner_scope(s->owner);
}

static void attach_frame(struct weft__frame *f)
{
    struct weft__scope *o = weft__owner_scope(f);
    if (!o || ati_load_acquire(&f->attached))
        return;
    uint32_t i = weft__task_index(f->task);
    weft__lock(&o->lock);
    if (!ati_load(&f->attached)) {
        ati_store(&weft__members[i].next, o->children);
        ati_store(&weft__members[i].prev, 0);
        if (o->children)
            ati_store(&weft__members[o->children - 1].prev, i + 1);
        o->children = i + 1;
        ati_store_release(&f->attached, 1);
    }
    weft__unlock(&o->lock);
}

static int attach_scope(struct weft__scope *s)
{
    struct weft__scope *o = parent(s);
    int rc = weft__deadline_arm(s); /* first: a scope that is attached keeps its deadline */
    if (rc < 0)
        return rc;
    if (!s->outer)
        attach_frame(s->owner);
    if (o) {
        weft__lock(&o->lock);
        if (!ati_load(&s->attached)) {
            if (s->outer)
                o->down = (struct weft_scope *)(void *)s;
            else
                s->owner->down = (struct weft_scope *)(void *)s;
            ati_store_release(&s->attached, 1);
        }
        weft__unlock(&o->lock);
    } else {
        ati_swap(&s->attached, 1);
    }
    return 0;
}

int weft__attach(struct weft__frame *f)
{
    enum { KEPT = 32 };
    struct weft__scope *path[KEPT];
    for (;;) {
        /* From the inside out, keeping the last few: they are attached first (H1). */
        unsigned n = 0;
        struct weft__frame *owner = f;
        struct weft__scope *s = f->inner ? weft__scope_of(f->inner) : weft__owner_scope(f);
        while (s && !ati_load_acquire(&s->attached)) {
            path[n++ % KEPT] = s;
            if (s->outer) {
                s = weft__scope_of(s->outer);
            } else {
                owner = s->owner;
                s = weft__owner_scope(owner);
            }
        }
        unsigned now = n < KEPT ? n : KEPT;
        for (unsigned i = 0; i < now; i++) {
            int rc = attach_scope(path[(n - 1 - i) % KEPT]);
            if (rc < 0)
                return rc;
        }
        if (n <= KEPT)
            break;
    }
    attach_frame(f);
    return 0;
}

/* ---- the walk */

#define PASSED UINT32_MAX /* a position behind the children and the inner scope; 0: behind the children */

static struct weft__lock walks_lock; /* where stopped walks are: V6 against L2 */

static void hold(struct weft__scope *s)
{
    at_add(&s->mark, WEFT__MARK_HOLD);
}

static void wake_wait(struct weft__task *t, unsigned level)
{
    if (weft__wait_claim_cancel(t, level) == WEFT__FIRED_ENQUEUE)
        weft__ready(t);
}

static struct weft__frame *frame_of(uint32_t member)
{
    return (struct weft__frame *)(uintptr_t)at_load(&weft__task_at(member - 1)->side);
}

static uint32_t behind(struct weft__frame *f)
{
    return ati_load(&weft__members[weft__task_index(f->task)].next);
}

/* V1, under the lock of what `inner` is attached to. */
static struct weft__scope *enter(struct weft_scope *inner)
{
    uint64_t m;
    if (!inner)
        return NULL;
    struct weft__scope *s = weft__scope_of(inner);
    do {
        m = at_load(&s->mark);
        if (m & (WEFT__MARK_SHIELD | WEFT__MARK_WALKED))
            return NULL;
    } while (!at_cas(&s->mark, m, (m | WEFT__MARK_WALKED) + WEFT__MARK_HOLD));
    return s;
}

struct walk {
    struct weft__scope *top, *in; /* where it began; where it is: held and locked, in a slice */
    uint32_t at;                  /* the child to look at; 0, PASSED */
};

static void go_to(struct walk *w, struct weft__scope *s)
{
    struct weft__scope *left = w->in;
    weft__unlock(&left->lock);
    weft__lock(&s->lock);
    w->in = s;
    /* After the lock: going up, where we come from keeps its place in the parent until then. */
    w->at = s == parent(left) ? left->outer ? PASSED : behind(left->owner) : s->children;
    weft__scope_let_go(left);
}

/* A slice. True: the walk is over, and has left where it was. */
static bool walk(struct walk *w)
{
    for (int n = 0; n < weft__walk_slice; n++) {
        struct weft__scope *s = w->in, *below = NULL;
        if (w->at == PASSED) { /* V4 */
            if (s == w->top) {
                weft__unlock(&s->lock);
                weft__scope_let_go(s);
                return true;
            }
            hold(parent(s));
            go_to(w, parent(s));
        } else if (w->at == 0) {
            w->at = PASSED;
            below = enter(s->down);
        } else { /* V3 */
            struct weft__frame *f = frame_of(w->at);
            wake_wait(f->task, 0);
            w->at = behind(f);
            below = enter(f->down);
        }
        if (below)
            go_to(w, below);
    }
    return false;
}

/* V5. It is still held. */
static void stop(const struct walk *w, struct weft__task *errand)
{
    at_store(&errand->side, (uint64_t)(uintptr_t)w->top);
    at_store(&errand->scope, (uint64_t)(uintptr_t)w->in);
    at_store(&errand->u.arg, w->at);
    w->in->walk = weft__task_index(errand) + 1;
    at_add(&w->in->mark, WEFT__MARK_STOPPED);
    weft__unlock(&w->in->lock);
}

/* V6: an errand's slice. */
static bool walk_on(struct weft__task *errand)
{
    struct walk w = { .top = (struct weft__scope *)(uintptr_t)at_load(&errand->side) };
    weft__lock(&walks_lock);
    w.in = (struct weft__scope *)(uintptr_t)at_load(&errand->scope);
    if (w.in)
        hold(w.in);
    weft__unlock(&walks_lock);
    if (!w.in)
        return false;
    weft__lock(&w.in->lock);
    w.at = (uint32_t)at_load(&errand->u.arg);
    w.in->walk = 0;
    at_add(&w.in->mark, (uint64_t)0 - WEFT__MARK_STOPPED);
    if (walk(&w))
        return false;
    stop(&w, errand);
    weft__scope_let_go(w.in);
    return true;
}

/* The first slice, and all of them if there is nobody to hand them to. */
static void walk_from(struct weft__scope *top)
{
    struct walk w = { .top = top, .in = top, .at = top->children };
    while (!walk(&w)) {
        struct weft__group *g = weft__scope_group(w.in); /* whose tasks it wakes next */
        struct weft__task *errand = g ? weft__errand_new(walk_on) : NULL;
        if (!errand)
            continue;
        stop(&w, errand);
        weft__errand_post(g, errand);
        weft__scope_let_go(w.in); /* last: what runs here may end then, and the runtime with it */
        return;
    }
}

void weft__wake_under(struct weft__scope *s)
{
    weft__lock(&s->lock);
    wake_wait(s->owner->task, weft__scope_level(s));
    walk_from(s);
}

void weft__wake_member(struct weft__frame *f)
{
    struct weft__scope *o = weft__owner_scope(f);
    weft__lock(&o->lock);
    wake_wait(f->task, 0);
    struct weft__scope *s = enter(f->down);
    weft__unlock(&o->lock);
    if (s) {
        weft__lock(&s->lock);
        walk_from(s);
    }
}

/* ---- leaving */

void weft__detach_frame(struct weft__frame *f)
{
    if (!ati_load_acquire(&f->attached))
        return;
    struct weft__scope *o = weft__owner_scope(f);
    uint32_t i = weft__task_index(f->task);
    union weft__member *m = &weft__members[i];
    weft__lock(&o->lock);
    uint32_t next = ati_load(&m->next), prev = ati_load(&m->prev);
    if (prev)
        ati_store(&weft__members[prev - 1].next, next);
    else
        o->children = next;
    if (next)
        ati_store(&weft__members[next - 1].prev, prev);
    if (o->walk) { /* L1 */
        struct weft__task *errand = weft__task_at(o->walk - 1);
        if (at_load(&errand->u.arg) == i + 1)
            at_store(&errand->u.arg, next);
    }
    weft__unlock(&o->lock);
    ati_store(&f->attached, 0);
}

/* acquire: meets the release of who let it go, and of who stopped in it. */
static bool held(const struct weft__scope *s, uint64_t *mark)
{
    *mark = at_load_acquire(&s->mark);
    return *mark >= WEFT__MARK_HOLD;
}

/* L2, under the lock of `o`, the parent. False: a walk or a canceller is in it just now. */
static bool leave(struct weft__scope *s, struct weft__scope *o)
{
    uint64_t m;
    if (held(s, &m))
        return false;
    if (!(m & WEFT__MARK_STOPPED))
        return true; /* for good: nobody can enter it any more */
    weft__lock(&walks_lock);
    bool resumed = held(s, &m);
    if (!resumed && (m & WEFT__MARK_STOPPED)) { /* else it has gone on meanwhile, and left */
        struct weft__task *errand = weft__task_at(s->walk - 1);
        if ((uint64_t)(uintptr_t)s == at_load(&errand->side))
            o = NULL; /* it began here */
        at_store(&errand->scope, (uint64_t)(uintptr_t)o);
        if (o) {
            at_store(&errand->u.arg, s->outer ? PASSED : behind(s->owner));
            o->walk = s->walk;
            at_add(&o->mark, WEFT__MARK_STOPPED);
        }
    }
    weft__unlock(&walks_lock);
    return !resumed;
}

void weft__detach_scope(struct weft__scope *s)
{
    bool attached = ati_load_acquire(&s->attached) != 0, left = false;
    struct weft__scope *o = attached ? parent(s) : NULL;
    if (attached) {
        ati_store(&s->attached, 0);
        at_fence_full(); /* C3 sees that, or we see that it is held */
    }
    for (;;) {
        if (o) {
            weft__lock(&o->lock);
            if (s->outer)
                o->down = NULL;
            else
                s->owner->down = NULL;
        }
        left = leave(s, o);
        if (o)
            weft__unlock(&o->lock);
        if (left)
            return;
        sched_yield();
    }
}
