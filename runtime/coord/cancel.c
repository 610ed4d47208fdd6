/* coord/cancel.c - who is told to leave, and how waits under a scope are found.
 *
 * Owns      marks, the epoch, and the tree of what is attached.
 * Callers   cancel: any thread. told, attach: the task itself. detach: the task, at its end and its scopes' ends.
 *
 *     the canceller                                a task about to wait
 *     C1  set the mark                             W0  attach: every scope around it is in the tree
 *     C2  epoch + 1 (RMW)                          W1  state = PREPARING
 *         -- full fence --                             -- full fence --
 *     C3  not attached? nobody waits under it      W2  epoch as when it last looked? not told. Else look at
 *     C4  walk the tree under the locks,               the marks, from the innermost scope outwards to the
 *         claim the waits                              first shield
 *
 * Forbidden: C3/C4 miss the task and W2 misses the epoch. If the walk missed the attaching, it held that lock
 * before, and so C2 came before W2.
 *
 * Holds     K1  what is attached has all its ancestors attached: attaching goes outermost first.
 *           K2  locks are taken from a scope to what is inside it, never outwards; a timer lock comes last.
 *           K3  a member cannot leave the tree while the scope's lock is held, so the walk may follow it.
 *           K4  a wait carries the nesting level of its innermost shield; a cancel of a scope at level L ends it
 *               if that is not above L. What comes from outside the task has level 0.
 * The walk goes down and up by pointers, needs no memory and no recursion, and holds the locks on its path.
 * Tested    tests/scope_test.c, tests/cause_test.c, stress/scopes.c */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "coord/await.h"
#include "coord/scope.h"

at_word weft__cancel_epoch = 1;

static unsigned marks(const struct weft__scope *s)
{
    return (unsigned)at_load_acquire(&s->mark);
}

static struct weft__scope *owner_scope(struct weft__frame *f)
{
    return f->task ? (struct weft__scope *)at_load(&f->task->scope) : NULL;
}

/* What tells the frame to leave: a scope, or (NULL and *task) a task that was cancelled by its id; neither: none.
 * From the innermost scope outwards, to the first shield. */
static struct weft__scope *teller_from(struct weft__frame *owner, weft_scope *from, struct weft__frame **task)
{
    struct weft__scope *s = from ? weft__scope_of(from) : NULL;
    *task = NULL;
    for (;;) {
        for (; s; s = s->outer ? weft__scope_of(s->outer) : NULL) {
            unsigned m = marks(s);
            if (m & WEFT__MARK_LEAVE)
                return s;
            if (m & WEFT__MARK_SHIELD)
                return NULL;
        }
        if (at_load_acquire(&owner->task->life) & WEFT__LIFE_CANCELLED) {
            *task = owner;
            return NULL;
        }
        if (!(s = owner_scope(owner)))
            return NULL;
        owner = s->owner;
    }
}

static struct weft__scope *teller(struct weft__frame *f, struct weft__frame **task)
{
    return teller_from(f, f->inner, task);
}

bool weft__told_slow(struct weft__frame *f)
{
    uint64_t epoch = at_load_acquire(&weft__cancel_epoch);
    struct weft__frame *task;
    if (teller(f, &task) || task)
        return true;
    f->epoch_ok = epoch;
    return false;
}

const char *weft__told_why(struct weft__frame *f)
{
    struct weft__frame *task;
    struct weft__scope *s = teller(f, &task);
    if (task) {
        const char *given = weft__task_reason(task->id);
        return given ? given : "cancelled";
    }
    if (!s)
        return NULL;
    unsigned m = marks(s);
    struct weft__scope_extra *x = (struct weft__scope_extra *)at_load_acquire(&s->extra);
    if (x && ati_load_acquire(&x->reason_set) == 2)
        return x->reason;
    return m & WEFT__MARK_DEADLINE ? "deadline" : m & WEFT__MARK_FAILURE ? "a sibling failed" : "cancelled";
}

int64_t weft__earliest_deadline(struct weft__frame *f)
{
    int64_t earliest = INT64_MAX;
    struct weft__frame *owner = f;
    struct weft__scope *s = f->inner ? weft__scope_of(f->inner) : NULL;
    for (;;) {
        for (; s; s = s->outer ? weft__scope_of(s->outer) : NULL) {
            int64_t at = (int64_t)at_load(&s->deadline);
            if (at < earliest)
                earliest = at;
            if (marks(s) & WEFT__MARK_SHIELD)
                return earliest;
        }
        if (!(s = owner_scope(owner)))
            return earliest;
        owner = s->owner;
    }
}

void weft__strike_overdue(struct weft__frame *f)
{
    int64_t now = 0;
    struct weft__frame *owner = f;
    struct weft__scope *s = f->inner ? weft__scope_of(f->inner) : NULL;
    for (;;) {
        for (; s; s = s->outer ? weft__scope_of(s->outer) : NULL) {
            int64_t at = (int64_t)at_load(&s->deadline);
            if (at != INT64_MAX && now == 0)
                now = weft__now();
            if (at != INT64_MAX && at <= now)
                weft__cancel_scope(s, WEFT__MARK_DEADLINE);
            if (marks(s) & WEFT__MARK_SHIELD)
                return;
        }
        if (!(s = owner_scope(owner)))
            return;
        owner = s->owner;
    }
}

/* ---- the tree */

/* What a scope is attached to: the scope around it in the same task, else the owner scope of that task; NULL for
 * the outermost scope of a plain thread. */
static struct weft__scope *parent(struct weft__scope *s)
{
    return s->outer ? weft__scope_of(s->outer) : owner_scope(s->owner);
}

static void attach_frame(struct weft__frame *f)
{
    struct weft__scope *o = owner_scope(f);
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
        /* From the inside out, keeping the last few: they are attached first (K1). */
        unsigned n = 0;
        struct weft__frame *owner = f;
        struct weft__scope *s = f->inner ? weft__scope_of(f->inner) : owner_scope(f);
        while (s && !ati_load_acquire(&s->attached)) {
            path[n++ % KEPT] = s;
            if (s->outer) {
                s = weft__scope_of(s->outer);
            } else {
                owner = s->owner;
                s = owner_scope(owner);
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

void weft__detach_frame(struct weft__frame *f)
{
    if (!ati_load_acquire(&f->attached))
        return;
    struct weft__scope *o = owner_scope(f);
    struct weft__member *m = &weft__members[weft__task_index(f->task)];
    weft__lock(&o->lock);
    uint32_t next = ati_load(&m->next), prev = ati_load(&m->prev);
    if (prev)
        ati_store(&weft__members[prev - 1].next, next);
    else
        o->children = next;
    if (next)
        ati_store(&weft__members[next - 1].prev, prev);
    weft__unlock(&o->lock);
    ati_store(&f->attached, 0);
}

void weft__detach_scope(struct weft__scope *s)
{
    if (!ati_load_acquire(&s->attached))
        return;
    struct weft__scope *o = parent(s);
    if (o) {
        weft__lock(&o->lock);
        if (s->outer)
            o->down = NULL;
        else
            s->owner->down = NULL;
        weft__unlock(&o->lock);
    }
    ati_store(&s->attached, 0);
}

/* ---- the walk */

static void wake_wait(struct weft__task *t, unsigned level)
{
    if (weft__wait_claim_cancel(t, level) == WEFT__FIRED_ENQUEUE)
        weft__ready(t);
}

static struct weft__scope *enter(struct weft_scope *inner)
{
    if (!inner || (marks(weft__scope_of(inner)) & WEFT__MARK_SHIELD))
        return NULL;
    weft__lock(&weft__scope_of(inner)->lock);
    return weft__scope_of(inner);
}

static struct weft__frame *frame_of(uint32_t member)
{
    return (struct weft__frame *)(uintptr_t)at_load(&weft__task_at(member - 1)->side);
}

/* Wakes what waits under `top`, which is locked, and leaves it locked. */
static void walk(struct weft__scope *top)
{
    struct weft__scope *s = top, *below;
    uint32_t at = s->children; /* the child to look at */
    for (;;) {
        struct weft__frame *f;
        bool was_inner;
        while (at) {
            f = frame_of(at);
            wake_wait(f->task, 0);
            at = ati_load(&weft__members[at - 1].next);
            if ((below = enter(f->down)) != NULL) {
                s = below;
                at = s->children;
            }
        }
        if ((below = enter(s->down)) != NULL) { /* after the children */
            s = below;
            at = s->children;
            continue;
        }
        do { /* up; where an inner scope was the last to be looked at, further up */
            if (s == top)
                return;
            below = s;
            s = parent(below);
            f = below->owner;
            was_inner = below->outer != NULL;
            weft__unlock(&below->lock);
        } while (was_inner);
        at = ati_load(&weft__members[weft__task_index(f->task)].next);
    }
}

/* Whether something outside the scope tells it to leave. */
static bool told_from_outside(struct weft__scope *s)
{
    struct weft__frame *task;
    if (marks(s) & WEFT__MARK_SHIELD)
        return false;
    return teller_from(s->owner, s->outer, &task) != NULL || task != NULL;
}

static bool mark(struct weft__scope *s, unsigned why)
{
    uint64_t m, next;
    bool outside = why == WEFT__MARK_FAILURE && told_from_outside(s);
    do {
        m = at_load(&s->mark);
        if (m & why)
            return false;
        next = (m | why) + WEFT__MARK_CANCELLER;
        if (why == WEFT__MARK_FAILURE && !(m & WEFT__MARK_LEAVE) && !outside)
            next |= WEFT__MARK_FIRST_FAILED;
    } while (!at_cas(&s->mark, m, next)); /* C1 */
    return true;
}

void weft__mark_failed(struct weft__scope *s)
{
    if (mark(s, WEFT__MARK_FAILURE))
        at_add(&s->mark, (uint64_t)0 - WEFT__MARK_CANCELLER);
}

bool weft__cancel_scope(struct weft__scope *s, unsigned why)
{
    if (!s->owner || !mark(s, why)) /* without an owner nothing runs in it */
        return false;
    at_add(&weft__cancel_epoch, 1); /* C2 */
    at_fence_full();
    if (ati_load_acquire(&s->attached)) { /* C3 */
        weft__lock(&s->lock); /* C4 */
        wake_wait(s->owner->task, weft__scope_level(s));
        walk(s);
        weft__unlock(&s->lock);
    }
    /* The last access: its owner, awake by now, waits for it before it ends the scope. */
    at_add(&s->mark, (uint64_t)0 - WEFT__MARK_CANCELLER);
    return true;
}

/* The caller holds the task's life, so it is a member of its scope until then. */
void weft__cancel_task(struct weft__frame *f)
{
    struct weft__scope *o = owner_scope(f);
    at_add(&weft__cancel_epoch, 1); /* C2; C1 is the task's flag */
    at_fence_full();
    if (!o || !ati_load_acquire(&f->attached))
        return;
    weft__lock(&o->lock);
    wake_wait(f->task, 0);
    struct weft__scope *s = enter(f->down);
    if (s) {
        walk(s);
        weft__unlock(&s->lock);
    }
    weft__unlock(&o->lock);
}
