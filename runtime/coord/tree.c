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
 *     V1  enters a scope: WALKED and a hold, by    L1  a child, under the lock of its scope: walks that stop at it
 *         one CAS; another was here first, or          go to the next one
 *         it is a shield: passes it by             L2  an inner scope, under the lock of its parent: nobody enters
 *     V2  locks it, lets the one further out go        it any more. Held: try again. Else walks that stop in it go
 *     V3  claims the children's waits, enters          up, to what follows the scope in its parent; one that
 *         their scopes; then the inner scope           began here is over
 *     V4  up: holds the parent, unlocks, locks
 *         that, lets the inner one go
 *     V5  the slice is over: the errand says
 *         where and hangs itself in there; the
 *         first: STOPPED; unlocks, lets go
 *     V6  the next slice: finds where it is and
 *         holds that (under walks_lock, against
 *         L2); locks it, unhangs itself
 *
 *           H3  a scope that is held does not end, and while it has not ended its parents have not: so the way up is
 *               there for a walk that holds where it is. One that has stopped holds nothing, and is moved by L1 and L2.
 *           H4  a scope is entered by one walk of each kind in its life (K1, K3 in cancel.c). A hard one (coord/hard.c) goes
 *               into shields, too. So two may be in one scope, and those that have stopped there are a list: the scope
 *               has its first, each errand's entry beside its block (union weft__member) the next. It belongs to who
 *               locks the scope, or, when it has left its parent, to who holds walks_lock and finds it not held.
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
    uint64_t deadline = at_load(&s->deadline);
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
    at_fence_full(); /* meets that of weft_scope_set_deadline, which arms nothing where it finds nobody attached */
    return at_load(&s->deadline) == deadline ? 0 : weft__deadline_arm(s);
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
static struct weft__scope *enter(struct weft_scope *inner, bool hard)
{
    uint64_t m;
    const uint64_t stops = hard ? WEFT__MARK_WALKED_HARD : WEFT__MARK_SHIELD | WEFT__MARK_WALKED;
    const uint64_t walked = hard ? WEFT__MARK_WALKED_HARD | WEFT__MARK_WALKED : WEFT__MARK_WALKED;
    if (!inner)
        return NULL;
    struct weft__scope *s = weft__scope_of(inner);
    do {
        m = at_load(&s->mark);
        if (m & stops)
            return NULL;
    } while (!at_cas(&s->mark, m, (m | walked) + WEFT__MARK_HOLD));
    return s;
}

/* Under the lock of `s`. */
static void hang(struct weft__scope *s, struct weft__task *errand)
{
    uint32_t i = weft__task_index(errand);
    ati_store(&weft__members[i].next, s->walk);
    if (s->walk == 0)
        at_add(&s->mark, WEFT__MARK_STOPPED);
    s->walk = i + 1;
}

static void unhang(struct weft__scope *s, struct weft__task *errand)
{
    uint32_t i = weft__task_index(errand), next = ati_load(&weft__members[i].next);
    uint32_t before = s->walk;
    if (before == i + 1) {
        s->walk = next;
    } else {
        while (ati_load(&weft__members[before - 1].next) != i + 1)
            before = ati_load(&weft__members[before - 1].next);
        ati_store(&weft__members[before - 1].next, next);
    }
    if (s->walk == 0)
        at_add(&s->mark, (uint64_t)0 - WEFT__MARK_STOPPED);
}

struct walk {
    struct weft__scope *top, *in; /* where it began; where it is: held and locked, in a slice */
    uint32_t at;                  /* the child to look at; 0, PASSED */
    bool hard;                    /* shields do not stop it */
};

/* In an errand: where it is, where it began (| 1: hard), the child to look at. */
static struct weft__scope *began(struct weft__task *errand)
{
    return (struct weft__scope *)(uintptr_t)(at_load(&errand->side) & ~(uint64_t)1);
}

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
            below = enter(s->down, w->hard);
        } else { /* V3 */
            struct weft__frame *f = frame_of(w->at);
            wake_wait(f->task, w->hard ? WEFT__LEVEL_HARD : 0);
            w->at = behind(f);
            below = enter(f->down, w->hard);
        }
        if (below)
            go_to(w, below);
    }
    return false;
}

/* V5. It is still held. */
static void stop(const struct walk *w, struct weft__task *errand)
{
    at_store(&errand->side, (uint64_t)(uintptr_t)w->top | w->hard);
    at_store(&errand->scope, (uint64_t)(uintptr_t)w->in);
    at_store(&errand->u.arg, w->at);
    hang(w->in, errand);
    weft__unlock(&w->in->lock);
}

/* V6: an errand's slice. */
static bool walk_on(struct weft__task *errand)
{
    struct walk w = { .top = began(errand), .hard = at_load(&errand->side) & 1 };
    weft__lock(&walks_lock);
    w.in = (struct weft__scope *)(uintptr_t)at_load(&errand->scope);
    if (w.in)
        hold(w.in);
    weft__unlock(&walks_lock);
    if (!w.in)
        return false;
    weft__lock(&w.in->lock);
    w.at = (uint32_t)at_load(&errand->u.arg);
    unhang(w.in, errand);
    if (walk(&w))
        return false;
    stop(&w, errand);
    weft__scope_let_go(w.in);
    return true;
}

/* The first slice, and all of them if there is nobody to hand them to. */
static void walk_from(struct weft__scope *top, bool hard)
{
    struct walk w = { .top = top, .in = top, .at = top->children, .hard = hard };
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

void weft__wake_under(struct weft__scope *s, bool hard)
{
    weft__lock(&s->lock);
    wake_wait(s->owner->task, hard ? WEFT__LEVEL_HARD : weft__scope_level(s));
    walk_from(s, hard);
}

void weft__wake_member(struct weft__frame *f)
{
    struct weft__scope *o = weft__owner_scope(f);
    weft__lock(&o->lock);
    wake_wait(f->task, 0);
    struct weft__scope *s = enter(f->down, false);
    weft__unlock(&o->lock);
    if (s) {
        weft__lock(&s->lock);
        walk_from(s, false);
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
    for (uint32_t at = o->walk; at; at = ati_load(&weft__members[at - 1].next)) { /* L1 */
        struct weft__task *errand = weft__task_at(at - 1);
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

/* The walks that have stopped in `s`, which ends, go to its parent `o`; under walks_lock. */
static void move_up(struct weft__scope *s, struct weft__scope *o)
{
    for (uint32_t at = s->walk, next; at; at = next) {
        struct weft__task *errand = weft__task_at(at - 1);
        next = ati_load(&weft__members[at - 1].next);
        if (began(errand) == s) {
            at_store(&errand->scope, 0);
            continue;
        }
        at_store(&errand->scope, (uint64_t)(uintptr_t)o);
        at_store(&errand->u.arg, s->outer ? PASSED : behind(s->owner));
        hang(o, errand);
    }
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
    if (!resumed && (m & WEFT__MARK_STOPPED)) /* else they have gone on meanwhile, and left */
        move_up(s, o);
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
