/* coord/spawn.c - a task's way into its scope and a queue.
 *
 * Owns      what a spawn puts into a control block.
 * Callers   a task, or any thread while the scope is open.
 * Holds     C1  a task whose spawn succeeded is counted in its scope before anyone can run it, and until its end
 *               (coord/child.c).
 * Tested    tests/task_test.c, tests/scope_test.c, stress/scopes.c, stress/forkjoin.c */
#include <errno.h>

#include "base/fork.h"
#include "coord/await.h"
#include "coord/oslock.h"
#include "coord/policy.h"
#include "coord/side.h"

static weft_task refuse_spawn(struct weft__scope *s, void *arg, int rc)
{
    struct weft__policy *p = weft__policy_of(s);
    if (!p || !weft__policy_puts_up_with(s, p, arg, rc, "a spawn failed"))
        weft__scope_fail(s, NULL, arg, rc, "a spawn failed");
    return rc;
}

/* S1, and who is to be woken: a first element is owed (sched/idle.c), more of them are not. The parts of it that are rare, or
 * call something, are functions of their own, which it ends with, so that it saves no registers. */

/* It is not the first. */
static inline weft_task notice(struct weft__sched *w, weft_task id)
{
    if (weft__idle_worth_waking(at_load(&w->group->idle.word)))
        weft__idle_notify(w->group);
    return id;
}

static __attribute__((noinline)) weft_task notice_by_call(struct weft__sched *w, weft_task id)
{
    return notice(w, id);
}

/* A thief was there. */
static __attribute__((noinline)) weft_task publish_asked(struct weft__sched *w, weft_task id)
{
    weft__expect(weft__private_asked(&w->newest, 0) == 0);
    return weft__deque_size(&w->deque) != 0 ? notice(w, id) : id;
}

/* Behind one that the worker keeps to itself still. */
static __attribute__((noinline)) weft_task publish_behind(struct weft__sched *w, struct weft__task *t, weft_task id)
{
    if (weft__spawned_push(w, (uint64_t)id))
        return notice(w, id);
    ati_store(&t->bits, ati_load(&t->bits) | WEFT__TASK_QUEUED); /* no memory for a longer deque */
    weft__group_put(w->group, t);
    return id;
}

static inline weft_task publish(struct weft__sched *w, struct weft__task *t, weft_task id)
{
    weft__count(&w->count.spawned, 1);
    if (weft__private_has(&w->newest))
        return publish_behind(w, t, id);
    if (!weft__private_set(&w->newest, (uint64_t)id))
        return publish_asked(w, id);
    return weft__deque_size(&w->deque) != 0 ? notice_by_call(w, id) : id;
}

/* Counts a child that the owner does not spawn itself. False: the scope has no children any more and ends. */
bool weft__scope_count(struct weft__scope *s)
{
    for (;;) {
        uint64_t n = at_load(&s->count);
        if (n == 0 || !weft__scope_is_open((const weft_scope *)(const void *)s))
            return false;
        /* The last child has ended under a weft_scope_wait that its owner has not returned from yet: it is over. */
        if (at_cas(&s->count, n, n == WEFT__WAIT_COUNT ? WEFT__OPEN_COUNT + 1 : n + 1))
            return true;
    }
}

/* And has no policy. */
static inline bool is_open(const weft_scope *ps)
{
    return ps && ati_load_acquire(&((const struct weft__scope *)(const void *)ps)->state) == WEFT__SCOPE_OPEN;
}

/* Whether it may have its first turn now, in the midst of the caller's. */
static bool may_begin_here(const struct weft__sched *w, const struct weft__task *t)
{
    uint32_t pin = weft__task_pin(t);
    return own(own(w->frame)->task) && (pin == 0 || pin == w->id + 1) && !weft__task_has(t, WEFT__TASK_QUEUED);
}

/* `t` has fn, argument and bits. Takes it. `now` as in the options. */
static weft_task start(struct weft__scope *s, struct weft__sched *w, struct weft__task *t, void *arg, bool now)
{
    struct weft__group *g = w ? w->group : NULL;
    struct weft__frame *f = w ? own(w->frame) : NULL;
    bool queued = weft__task_pin(t) != 0 || weft__task_has(t, WEFT__TASK_QUEUED);
    at_store(&t->scope, (uint64_t)(uintptr_t)s);
    struct weft__frame *spawner = w ? f : weft__thread_known();
    struct weft__handed *handed = spawner ? weft__keeps_handed(own(spawner->keeps)) : NULL;
    if (handed && weft__side_hand_on(t, handed) < 0) {
        weft__side_drop(t);
        weft__task_free_slow(NULL, t);
        return refuse_spawn(s, arg, -ENOMEM);
    }
    if (f && s->owner == f && !queued && !now) {
        s->spawned++; /* C1 */
        return publish(w, t, weft__task_begin(t));
    }
    if (f && s->owner == f) {
        s->spawned++;
    } else if (!weft__scope_count(s)) {
        weft__side_drop(t);
        weft__task_free_slow(NULL, t);
        return -EINVAL;
    }
    struct weft__group *home = weft__scope_group(s);
    if (now && home == g && may_begin_here(w, t)) {
        weft__oslocks_look(f);
        weft_task id = weft__start_now(t);
        if (id != 0)
            return id;
    }
    if (home == g && !queued)
        return publish(w, t, weft__task_begin(t));
    ati_store(&t->bits, ati_load(&t->bits) | WEFT__TASK_QUEUED);
    weft_task id = weft__task_begin(t);
    weft__group_put(home, t);
    return id;
}

/* Where it was spawned, for reports. Where side is needed for something else, that takes it along (coord/side.c). */
static inline void spawned_at(struct weft__task *t, void *site)
{
    at_store(&t->side, (uint64_t)(uintptr_t)site);
}

/* A block for a child of `s`, or NULL and why. */
static struct weft__task *block_for(struct weft__scope *s, struct weft__sched *w, void *site, int *rc)
{
    struct weft__group *g = weft__scope_group(s);
    if (!g) {
        *rc = s->owner && !(at_load(&s->mark) & WEFT__MARK_NOWHERE) ? -EINVAL /* a plain thread's scope, without .on */
                                                                    : s->code;
        return NULL;
    }
    struct weft__task *t = weft__task_alloc(w ? &w->blocks : NULL);
    if (!t) {
        *rc = -ENOMEM;
        return NULL;
    }
    ati_store(&t->bits, g->default_bits);
    spawned_at(t, site);
    return t;
}

static weft_task spawn_with(struct weft__scope *s, weft_fn *fn, void *arg, const weft_spawn_options *o,
        struct weft__policy *p, bool in_order, void *site)
{
    struct weft__frame *me = o->now && weft__self() ? weft__current() : NULL;
    if (me)
        weft__spend(me); /* the child will go before all others, and then the spawner: they are to have their turn, too */
    struct weft__sched *w = weft__self();
    int rc;
    if (!fn || (!arg && o->copy_bytes > 0))
        return refuse_spawn(s, arg, -EINVAL);
    struct weft__task *t = block_for(s, w, site, &rc);
    if (!t)
        return refuse_spawn(s, arg, rc);
    at_store(&t->fn, (uint64_t)(uintptr_t)fn);
    if ((rc = weft__side_make(t, weft__scope_group(s), arg, o)) < 0) {
        weft__task_free_slow(NULL, t);
        return refuse_spawn(s, arg, rc);
    }
    ((struct weft__side *)(uintptr_t)at_load(&t->side))->policy = p;
    if (in_order)
        ati_store(&t->bits, ati_load(&t->bits) | WEFT__TASK_QUEUED);
    return start(s, w, t, arg, o->now);
}

/* All spawns that are not into a scope without a policy: it may have to wait for a place. */
static __attribute__((noinline)) weft_task spawn_ruled(
        weft_scope *ps, weft_fn *fn, void *arg, const weft_spawn_options *o, bool in_order, void *site)
{
    struct weft__scope *s = weft__scope_of(ps);
    if (!weft__scope_is_open(ps))
        return -EINVAL;
    if (!weft__self() && weft__forked)
        return -ECHILD;
    struct weft__policy *p = weft__policy_of(s);
    int rc = p ? weft__policy_enter(s, p) : 0;
    if (rc < 0)
        return rc == -ECANCELED ? rc : refuse_spawn(s, arg, rc);
    weft_task t = spawn_with(s, fn, arg, o, p, in_order, site);
    if (t < 0 && p)
        weft__policy_leave(p);
    return t;
}

static const weft_spawn_options plain_options;

weft_task weft__spawn_in_order(weft_scope *s, weft_fn *fn, const void *arg, size_t bytes, void *site)
{
    return spawn_ruled(s, fn, (void *)(uintptr_t)arg, &(weft_spawn_options){ .copy_bytes = bytes }, true, site);
}

/* Anybody's, into any scope. */
static __attribute__((noinline)) weft_task spawn_any(weft_scope *ps, weft_fn *fn, void *arg, void *site)
{
    struct weft__scope *s = weft__scope_of(ps);
    struct weft__sched *w = weft__self();
    struct weft__task *t;
    int rc;
    if (!is_open(ps))
        return spawn_ruled(ps, fn, arg, &plain_options, false, site);
    if (!w && weft__forked)
        return -ECHILD;
    if (!fn)
        return refuse_spawn(s, arg, -EINVAL);
    if (!(t = block_for(s, w, site, &rc)))
        return refuse_spawn(s, arg, rc);
    at_store(&t->fn, (uint64_t)(uintptr_t)fn);
    at_store(&t->u.arg, (uint64_t)(uintptr_t)arg);
    return start(s, w, t, arg, false);
}

weft_task weft_spawn(weft_scope *ps, weft_fn *fn, void *arg)
{
    struct weft__scope *s = weft__scope_of(ps);
    struct weft__sched *w = weft__self();
    void *site = __builtin_return_address(0);
    struct weft__task *t;
    if (!w || !is_open(ps) || s->owner != own(w->frame) || s->owner->keeps || !fn || !(t = weft__task_alloc_cached(&w->blocks)))
        return spawn_any(ps, fn, arg, site);
    /* The way of nearly all spawns: the owner's own, on a worker, and nothing to be handed on. */
    ati_store(&t->bits, w->group->default_bits);
    spawned_at(t, site);
    at_store(&t->fn, (uint64_t)(uintptr_t)fn);
    at_store(&t->u.arg, (uint64_t)(uintptr_t)arg);
    at_store(&t->scope, (uint64_t)(uintptr_t)s);
    s->spawned++; /* C1 */
    return publish(w, t, weft__task_begin(t));
}

weft_task weft_spawn_copy(weft_scope *ps, weft_fn *fn, const void *arg, size_t bytes)
{
    struct weft__scope *s = weft__scope_of(ps);
    struct weft__sched *w = weft__self();
    int rc;
    if (!is_open(ps))
        return spawn_ruled(ps, fn, (void *)(uintptr_t)arg, &(weft_spawn_options){ .copy_bytes = bytes }, false,
                __builtin_return_address(0));
    if (!w && weft__forked)
        return -ECHILD;
    if (!fn || (!arg && bytes > 0))
        return refuse_spawn(s, NULL, -EINVAL);
    struct weft__task *t = block_for(s, w, __builtin_return_address(0), &rc);
    if (!t)
        return refuse_spawn(s, NULL, rc);
    at_store(&t->fn, (uint64_t)(uintptr_t)fn);
    if ((rc = weft__side_copy(t, arg, bytes)) < 0) {
        weft__task_free_slow(NULL, t);
        return refuse_spawn(s, NULL, rc);
    }
    return start(s, w, t, NULL, false);
}

weft_task weft_spawn_with(weft_scope *ps, weft_fn *fn, void *arg, const weft_spawn_options *o)
{
    if (!o)
        return spawn_any(ps, fn, arg, __builtin_return_address(0));
    if (!is_open(ps))
        return spawn_ruled(ps, fn, arg, o, false, __builtin_return_address(0));
    if (!weft__self() && weft__forked)
        return -ECHILD;
    return spawn_with(weft__scope_of(ps), fn, arg, o, NULL, false, __builtin_return_address(0));
}
