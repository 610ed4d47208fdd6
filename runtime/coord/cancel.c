/* coord/cancel.c - who is told to leave.
 *
 * Owns      marks and the epoch.
 * Callers   cancel: any thread. told: the task itself.
 *
 *     the canceller                                a task about to wait
 *     C1  set the mark                             W0  attach: every scope around it is in the tree
 *     C2  epoch + 1 (RMW)                          W1  state = PREPARING; of a plain thread: and a full fence
 *         -- full fence --                         W2  epoch as when it last looked? not told. Else look at
 *     C3  not attached? nobody waits under it          the marks, from the innermost scope outwards to the
 *     C4  walk the tree (coord/tree.c),                first shield
 *         claim the waits                          W4  state = WAITING (RMW)
 *                                                      -- full fence --
 *                                                  W6  the epoch has moved since W2? W2 again, on its behalf
 *
 * Forbidden: C3/C4 miss the task and W6 misses the epoch. If the walk missed the attaching, it held that lock before, and so
 * C2 came before W6; if it missed the state, its fence came before the one of the task. A call that need not wait, and
 * gives up, may miss a cancel that comes at the same time; and an event that comes after the cancel may still win a wait
 * that was about to begin, since W6 is its last to look.
 *
 * Holds     K1  a mark is never taken back, nor is a task's. So under a scope that was walked once, for whatever reason,
 *               all waits that come later are refused by W2 or ended by W6, and no second walk is needed.
 *           K2  a wait carries the nesting level of its innermost shield; a cancel of a scope at level L ends it
 *               if that is not above L. What comes from outside the task has level 0.
 *           K3  the same once more for a cancel that breaks shields (coord/hard.c): its mark is HARD, its walk goes into
 *               shields and claims waits of any level but NONE, and W2 looks for it beyond the first shield. K1 holds for
 *               it by itself, with a mark of its own for what was walked.
 * Tested    tests/scope_test.c, tests/cause_test.c, stress/scopes.c, tests/explore */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "coord/await.h"
#include "coord/policy.h"
#include "coord/scope.h"

static unsigned marks(const struct weft__scope *s)
{
    return (unsigned)at_load_acquire(&s->mark);
}

/* What tells the frame to leave: a scope, or (NULL and *task) a task that was cancelled by its id; neither: none.
 * From the innermost scope outwards, to the first shield; from there on (`shielded`) what breaks shields. */
static struct weft__scope *teller_from(
        struct weft__frame *owner, weft_scope *from, bool shielded, struct weft__frame **task)
{
    struct weft__scope *s = from ? weft__scope_of(from) : NULL;
    *task = NULL;
    for (;;) {
        for (; s; s = s->outer ? weft__scope_of(s->outer) : NULL) {
            unsigned m = marks(s);
            if ((m & WEFT__MARK_HARD) || ((m & WEFT__MARK_LEAVE) && !shielded))
                return s;
            shielded = shielded || (m & WEFT__MARK_SHIELD);
        }
        if (!shielded && (at_load_acquire(&owner->task->life) & WEFT__LIFE_CANCELLED)) {
            *task = owner;
            return NULL;
        }
        if (!(s = weft__owner_scope(owner)))
            return NULL;
        owner = s->owner;
    }
}

static struct weft__scope *teller(struct weft__frame *f, struct weft__frame **task)
{
    return teller_from(f, f->inner, false, task);
}

bool weft__told_hard(struct weft__frame *f)
{
    struct weft__frame *task;
    return teller_from(f, f->inner, true, &task) != NULL;
}

bool weft__told_slow(struct weft__frame *f)
{
    uint64_t epoch = at_load_acquire(&weft__cancel_epoch);
    struct weft__frame *task;
    if (teller(f, &task) || task)
        return true;
    own_set(f->epoch_ok, epoch);
    return false;
}

static void scope_told_why(const struct weft__scope *s, weft_canceller *out)
{
    unsigned m = marks(s);
    const struct weft__scope_extra *x = (const struct weft__scope_extra *)at_load_acquire(&s->extra);
    *out = (weft_canceller){ .code = -ECANCELED };
    weft__told_read(x ? &x->told : NULL, out);
    if (out->reason || !(m & (WEFT__MARK_DEADLINE | WEFT__MARK_FAILURE | WEFT__MARK_DECIDED))) {
        out->reason = out->reason ? out->reason : "cancelled";
        return;
    }
    *out = (weft_canceller){ .code = -ECANCELED, .reason = "a sibling won" };
    if (m & WEFT__MARK_DEADLINE) {
        out->reason = "deadline";
        out->code = -ETIMEDOUT;
    } else if (m & WEFT__MARK_FAILURE) { /* the acquire of the mark: what it failed with was written before, and once */
        out->reason = "a sibling failed";
        out->code = s->code != 0 ? s->code : -ECANCELED;
        out->task = x ? x->first_failed : 0;
        out->site = x ? x->first_site : NULL;
    } else if (x && x->policy) { /* likewise */
        out->task = x->policy->winner;
    }
}

static void task_told_why(weft_task id, bool wait, weft_canceller *out)
{
    *out = (weft_canceller){ .code = -ECANCELED, .reason = "cancelled" };
    weft__told_read(weft__task_told(id, wait), out);
}

bool weft__told_why(struct weft__frame *f, weft_canceller *out)
{
    struct weft__frame *task;
    struct weft__scope *s = teller(f, &task);
    if (s)
        scope_told_why(s, out);
    else if (task)
        task_told_why(task->id, true, out);
    return s || task;
}

bool weft__told_from_scope(weft_task id, bool cancelled, struct weft__scope *in, weft_canceller *out)
{
    struct weft__frame *task = NULL;
    struct weft__scope *s = NULL;
    if (cancelled) {
        task_told_why(id, false, out);
        return true;
    }
    if (in && in->owner)
        s = teller_from(in->owner, (weft_scope *)(void *)in, false, &task);
    if (s)
        scope_told_why(s, out);
    else if (task)
        task_told_why(task->id, false, out);
    return s || task;
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
        if (!(s = weft__owner_scope(owner)))
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
                now = weft__frame_now(f);
            if (at != INT64_MAX && at <= now) /* outside of a shield, too: it is hidden from us, not from the scope's tasks */
                weft__cancel_scope(s, WEFT__MARK_DEADLINE);
        }
        if (!(s = weft__owner_scope(owner)))
            return;
        owner = s->owner;
    }
}

/* Whether something outside the scope tells it to leave. */
static bool told_from_outside(struct weft__scope *s)
{
    struct weft__frame *task;
    bool shielded = (marks(s) & WEFT__MARK_SHIELD) != 0;
    return teller_from(s->owner, s->outer, shielded, &task) != NULL || task != NULL;
}

bool weft__scope_told(struct weft__scope *s)
{
    return (marks(s) & (WEFT__MARK_LEAVE | WEFT__MARK_HARD)) || told_from_outside(s);
}

/* C1, and holds the scope: it does not end until weft__scope_let_go. `walked`: what a walk for this reason marks, or 0;
 * *first: that none has been here. False: it was told for this reason already. */
static bool mark(struct weft__scope *s, unsigned why, unsigned walked, bool *first)
{
    uint64_t m, next;
    bool outside = why == WEFT__MARK_FAILURE && told_from_outside(s);
    do {
        m = at_load(&s->mark);
        if (m & why)
            return false;
        next = (m | why | walked) + WEFT__MARK_HOLD;
        if (why == WEFT__MARK_FAILURE && !(m & WEFT__MARK_LEAVE) && !outside)
            next |= WEFT__MARK_FIRST_FAILED;
    } while (!at_cas(&s->mark, m, next));
    *first = !(m & (why == WEFT__MARK_HARD ? WEFT__MARK_WALKED_HARD : WEFT__MARK_WALKED));
    return true;
}

void weft__mark_failed(struct weft__scope *s)
{
    bool first;
    if (mark(s, WEFT__MARK_FAILURE, 0, &first))
        weft__scope_let_go(s);
    own_set(s->owner->epoch_ok, 0); /* the caller: what it closes at the scope's end is told, as are children from now on */
}

bool weft__cancel_scope(struct weft__scope *s, unsigned why)
{
    bool first, hard = why == WEFT__MARK_HARD;
    unsigned walked = hard ? WEFT__MARK_WALKED | WEFT__MARK_WALKED_HARD : WEFT__MARK_WALKED;
    if (!s->owner || !mark(s, why, walked, &first)) /* without an owner nothing runs in it */
        return false;
    at_add(&weft__cancel_epoch, 1); /* C2 */
    at_fence_full();
    if (first && ati_load_acquire(&s->attached)) /* C3 */
        weft__wake_under(s, hard); /* C4; lets go */
    else
        weft__scope_let_go(s);
    return true;
}

/* C1: the mark of a task. */
void weft__cancel_task(struct weft__task *t)
{
    uint64_t life;
    do {
        life = at_load(&t->life);
    } while (!at_cas(&t->life, life, life | WEFT__LIFE_CANCELLED));
    at_add(&weft__cancel_epoch, 1); /* C2; who is not seen as started will be before it waits, and W6 sees this */
    at_fence_full();
    struct weft__frame *f = weft__task_frame(t);
    if (f && ati_load_acquire(&f->attached)) /* C3 */
        weft__wake_member(f); /* C4 */
}
