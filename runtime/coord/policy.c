/* coord/policy.c - what a scope's options say of its children beyond the common.
 *
 * Owns      a scope's places, its list of children that have ended, and what one child's end means for the others.
 * Callers   enter: who spawns. judge, ended: the worker on which a child ends. next: the scope's owner.
 * Holds     Y1  a child has a place from before its spawn (enter) until its id is dead (ended), which passes it on to the
 *               spawner that has waited longest, or frees it. So `running` never passes the limit.
 *           Y2  what is kept of a child that ended was allocated by its spawn: nothing is lost for want of memory.
 *           Y3  a child is judged before its scope hears of its end, and once; whether something had told the scope to
 *               leave is looked at before it is recorded, so what follows from the first failure is none.
 *           Y4  the policy lives as long as the scope, which does not end before the last child's weft__scope_child_left.
 *               Whoever spawns from outside has to know that anyway.
 * Cost      a scope without these options has no policy, and its state is another number (WEFT__SCOPE_OPEN): its spawns and
 *           ends look at none of this. One with a policy takes its lock three times a child.
 * Source    errgroup.SetLimit, asyncio.as_completed, Promise.any.
 * Tested    tests/policy_test.c, tests/explore/policy.c */
#include "coord/policy.h"

#include <errno.h>

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/error.h"

struct place {
    struct weft__link link;
    weft__token token;
    bool given;
};

int weft__policy_wanted(const weft_scope_options *o)
{
    if (o->join < WEFT_JOIN_ALL || o->join > WEFT_JOIN_KEEP_GOING || o->need < 0 || o->limit < 0)
        return -EINVAL;
    if (o->need > 0 && o->join != WEFT_JOIN_ANY)
        return -EINVAL;
    return o->join != WEFT_JOIN_ALL || o->limit > 0 || o->collect;
}

struct weft__policy *weft__policy_new(const weft_scope_options *o)
{
    struct weft__policy *p = weft__mem_zeroed(sizeof *p);
    if (!p)
        return NULL;
    p->join = o->join;
    p->need = o->need > 0 ? o->need : 1;
    p->limit = o->limit;
    p->collect = o->collect;
    list_init(&p->waiting);
    list_init(&p->done);
    return p;
}

void weft__policy_free(struct weft__policy *p)
{
    for (struct weft__link *l; (l = list_pop_head(&p->done));)
        weft__mem_free(container_of(l, struct weft__side, link));
    weft__mem_free(p->fetched);
    weft__mem_free(p);
}

/* ---- places */

/* Under the lock. */
static bool take_place(struct weft__policy *p)
{
    if (p->limit > 0 && p->running >= p->limit)
        return false;
    p->running++;
    return true;
}

/* Under the lock: a place is free. Whom to fire, 0 nobody. */
static weft__token pass_on(struct weft__policy *p)
{
    struct weft__link *l = list_pop_head(&p->waiting);
    p->running--;
    if (!l)
        return 0;
    struct place *next = container_of(l, struct place, link);
    p->running++;
    next->given = true;
    return next->token;
}

/* Under the lock: the owner that waits in weft_scope_next, if there is something for it. */
static weft__token taker(struct weft__policy *p)
{
    weft__token k = p->taker;
    if (list_empty(&p->done) && p->running > 0)
        return 0;
    p->taker = 0;
    return k;
}

static void fire(weft__token a, weft__token b)
{
    if (a)
        weft__fire(a, WEFT__CAUSE_EVENT);
    if (b)
        weft__fire(b, WEFT__CAUSE_EVENT);
}

void weft__policy_leave(struct weft__policy *p)
{
    weft__lock(&p->lock);
    weft__token spawner = pass_on(p), owner = taker(p);
    weft__unlock(&p->lock);
    fire(spawner, owner);
}

/* The spawner was refused. If it was because the scope is to leave, its child is one that left. */
static int refused(struct weft__scope *s, struct weft__policy *p, int rc)
{
    if (rc != -ECANCELED || !weft__scope_told(s))
        return rc;
    weft__lock(&p->lock);
    p->cut = true;
    weft__unlock(&p->lock);
    weft__scope_left(s);
    return rc;
}

static int wait_for_place(struct weft__scope *s, struct weft__policy *p)
{
    struct place mine = { .given = false };
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    int rc = weft__await_begin(f, &mine.token);
    if (rc < 0)
        return refused(s, p, rc);
    weft__lock(&p->lock);
    bool taken = take_place(p);
    if (!taken)
        list_push_tail(&p->waiting, &mine.link);
    weft__unlock(&p->lock);
    if (taken) {
        if (!weft__await_give_up(f))
            (void)weft__await(f); /* a cancel, too late: it has its place */
        return 0;
    }
    weft__waits_for(f, WEFT__WAITS_CHILDREN, (uint64_t)(uintptr_t)s);
    if (weft__await(f) != WEFT__CAUSE_CANCEL)
        return 0;
    weft__lock(&p->lock);
    if (!mine.given)
        list_remove(&mine.link);
    weft__unlock(&p->lock);
    return mine.given ? 0 : refused(s, p, -ECANCELED);
}

int weft__policy_enter(struct weft__scope *s, struct weft__policy *p)
{
    weft__lock(&p->lock);
    bool taken = list_empty(&p->waiting) && take_place(p); /* not before those who wait */
    weft__unlock(&p->lock);
    return taken ? 0 : wait_for_place(s, p);
}

/* ---- the end of a child */

/* Y3. */
static void note_failure(struct weft__scope *s, struct weft__policy *p)
{
    bool told = weft__scope_told(s);
    weft__lock(&p->lock);
    if (told)
        p->cut = true;
    else
        p->failed_first = true;
    weft__unlock(&p->lock);
}

static void left(struct weft__scope *s, struct weft__policy *p)
{
    if (weft__scope_told(s)) { /* and not the child alone, by its id */
        weft__lock(&p->lock);
        p->cut = true;
        weft__unlock(&p->lock);
    }
    weft__scope_left(s);
}

static void won(struct weft__scope *s, struct weft__policy *p, weft_task id)
{
    weft__lock(&p->lock);
    bool first = p->winner == 0;
    if (first)
        p->winner = id;
    p->wins++;
    bool decides = p->join == WEFT_JOIN_RACE ? first : p->wins == p->need;
    if (decides)
        p->decided = true;
    weft__unlock(&p->lock);
    if (decides)
        weft__cancel_scope(s, WEFT__MARK_DECIDED);
}

static bool first_of_race(struct weft__policy *p, weft_task id)
{
    weft__lock(&p->lock);
    bool first = p->winner == 0;
    if (first)
        p->winner = id;
    weft__unlock(&p->lock);
    return first;
}

static void failed(struct weft__scope *s, struct weft__policy *p, struct weft__frame *f, int rc)
{
    if (p->join == WEFT_JOIN_ALL || (p->join == WEFT_JOIN_RACE && first_of_race(p, f->id))) {
        weft__scope_fail(s, f, f->arg, rc, NULL);
        return;
    }
    note_failure(s, p);
    weft__scope_record(s, f, f->arg, rc, NULL);
}

void weft__policy_judge(struct weft__scope *s, struct weft__policy *p, struct weft__frame *f, int rc, bool told)
{
    if (told)
        left(s, p);
    else if (rc < 0)
        failed(s, p, f, rc);
    else if (p->join == WEFT_JOIN_ANY || p->join == WEFT_JOIN_RACE)
        won(s, p, f->id);
}

void weft__policy_ended(struct weft__policy *p, struct weft__frame *f, int rc)
{
    struct weft__side *side = f->side;
    side->id = f->id;
    side->code = rc;
    side->arg = f->arg; /* a copy is in it */
    weft__lock(&p->lock);
    if (p->collect)
        list_push_tail(&p->done, &side->link);
    weft__token spawner = pass_on(p), owner = taker(p);
    weft__unlock(&p->lock);
    if (!p->collect)
        weft__mem_free(side);
    fire(spawner, owner);
}

/* ---- what else can fail */

bool weft__policy_puts_up_with(struct weft__scope *s, struct weft__policy *p, void *arg, int code, const char *text)
{
    if (p->join != WEFT_JOIN_ANY && p->join != WEFT_JOIN_KEEP_GOING)
        return false;
    note_failure(s, p);
    weft__scope_record(s, NULL, arg, code, text);
    return true;
}

bool weft__policy_keeps_body(struct weft__scope *s, struct weft__policy *p)
{
    if (p->join != WEFT_JOIN_KEEP_GOING)
        return false;
    note_failure(s, p);
    return true;
}

/* ---- the verdict; all children have ended */

bool weft__policy_undecided(const struct weft__policy *p)
{
    return (p->join == WEFT_JOIN_ANY || p->join == WEFT_JOIN_RACE) && !p->decided;
}

bool weft__policy_verdict(struct weft__policy *p, int code, unsigned first, int rc, int *result)
{
    *result = code;
    switch ((enum weft_join)p->join) {
    case WEFT_JOIN_ALL:
        return false;
    case WEFT_JOIN_KEEP_GOING:
        return p->failed_first;
    case WEFT_JOIN_ANY:
    case WEFT_JOIN_RACE:
        if (first || !p->decided)
            return first || (p->join == WEFT_JOIN_ANY && code != 0 && !p->cut && rc != -ECANCELED);
        *result = rc == -ECANCELED ? 0 : rc;
        return true;
    }
    return false;
}

/* ---- as completed */

int weft__policy_fetch(struct weft__policy *p, weft_done *d)
{
    weft__lock(&p->lock);
    struct weft__link *l = list_pop_head(&p->done);
    int rc = l ? 1 : p->running > 0 ? -EAGAIN : 0;
    weft__unlock(&p->lock);
    if (!l)
        return rc;
    struct weft__side *side = container_of(l, struct weft__side, link);
    d->task = side->id;
    d->code = side->code;
    d->arg = side->arg;
    weft__mem_free(p->fetched);
    p->fetched = side;
    return 1;
}

static int wait_for_end(struct weft__scope *s, struct weft__policy *p, struct weft__frame *f)
{
    weft__token k;
    int rc = weft__await_begin(f, &k);
    if (rc < 0)
        return rc;
    weft__lock(&p->lock);
    bool there = !list_empty(&p->done) || p->running == 0;
    if (!there)
        p->taker = k;
    weft__unlock(&p->lock);
    if (there) {
        if (!weft__await_give_up(f))
            (void)weft__await(f);
        return 0;
    }
    weft__waits_for(f, WEFT__WAITS_CHILDREN, (uint64_t)(uintptr_t)s);
    if (weft__await(f) != WEFT__CAUSE_CANCEL)
        return 0;
    weft__lock(&p->lock);
    there = p->taker == 0; /* a child ended at the same time */
    p->taker = 0;
    weft__unlock(&p->lock);
    return there ? 0 : -ECANCELED;
}

int weft_scope_next(weft_scope *ps, weft_done *d)
{
    struct weft__scope *s = weft__scope_of(ps);
    if (weft__forked)
        return -ECHILD;
    if (!d || !weft__scope_is_open(ps))
        return -EINVAL;
    if (!s->owner)
        return s->code;
    struct weft__policy *p = weft__policy_of(s);
    struct weft__frame *f = weft__current();
    if (!p || !p->collect || s->owner != f)
        return -EINVAL;
    int rc = weft__enter_call(f);
    while (rc == 0 && (rc = weft__policy_fetch(p, d)) == -EAGAIN)
        rc = wait_for_end(s, p, f);
    return rc;
}

weft_task weft_scope_winner(const weft_scope *ps)
{
    struct weft__scope *s = weft__scope_of((weft_scope *)(uintptr_t)ps);
    if (!ps || weft__forked)
        return 0;
    if (ati_load(&s->state) == WEFT__SCOPE_ENDED)
        return (weft_task)at_load(&s->waiter);
    struct weft__policy *p = weft__scope_is_open(ps) ? weft__policy_of(s) : NULL;
    if (!p)
        return 0;
    weft__lock(&p->lock);
    weft_task winner = p->winner;
    weft__unlock(&p->lock);
    return winner;
}
