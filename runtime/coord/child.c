/* coord/child.c - a task from spawn to end.
 *
 * Owns      what a spawn puts into a control block, how an argument reaches its task, and what an end tells whom.
 * Callers   spawn: a task, or any thread while the scope is open. body: sched, on the task's own stack.
 *           run_inline: a joiner of its own scope.
 * Holds     C1  a task whose spawn succeeded is counted in its scope before anyone can run it, and until its end.
 *           C2  at the end: unlink, result, life word 0, joiners, block recycled; the scope last of all.
 *           C3  nothing but the joined child ever runs on a joiner's stack, and only with its whole guarantee left.
 *           C4  before C2, while it is still a task like any other, it lets go what it keeps (coord/keeps.h).
 * Inline    a child is run as a plain call when its owner joins it: no stack, no switch, no queue. It keeps its own
 *           block, id, name, scopes and budget; if it waits, the whole stack waits, which its owner does anyway.
 *           ThreadSanitizer builds do not inline: it would take parent and child for one thread, and miss their
 *           races.
 * Fork      in a child of a task's there is no worker (base/fork.h): its calls are refused, and its function must not return.
 * Tested    tests/task_test.c, tests/scope_test.c, stress/scopes.c, stress/forkjoin.c */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/error.h"
#include "coord/orphan.h"
#include "coord/oslock.h"
#include "coord/policy.h"
#include "coord/side.h"

/* ---- spawn */

static weft_task refuse_spawn(struct weft__scope *s, void *arg, int rc)
{
    struct weft__policy *p = weft__policy_of(s);
    if (!p || !weft__policy_puts_up_with(s, p, arg, rc, "a spawn failed"))
        weft__scope_fail(s, NULL, arg, rc, "a spawn failed");
    return rc;
}

/* Behind others that are there already. */
static __attribute__((noinline)) void publish_behind(struct weft__sched *w, struct weft__task *t, weft_task id)
{
    if (!weft__spawned_push(w, (uint64_t)id)) { /* no memory for a longer deque */
        ati_store(&t->bits, ati_load(&t->bits) | WEFT__TASK_QUEUED);
        weft__group_put(w->group, t);
        return;
    }
    if (weft__idle_worth_waking(at_load(&w->group->idle.word)))
        weft__idle_notify(w->group);
}

/* S1, and who is to be woken: a first element is owed (sched/idle.c), more of them are not. */
static inline void publish(struct weft__sched *w, struct weft__task *t, weft_task id)
{
    weft__count(&w->count.spawned, 1);
    if (weft__spawned_count(w) == 0)
        weft__expect(weft__private_put(&w->newest, (uint64_t)id) == 0);
    else
        publish_behind(w, t, id);
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
        weft_task id = weft__task_begin(t);
        publish(w, t, id);
        return id;
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
    if (home == g && !queued) {
        weft_task id = weft__task_begin(t);
        publish(w, t, id);
        return id;
    }
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

static inline __attribute__((always_inline)) weft_task spawn(weft_scope *ps, weft_fn *fn, void *arg, void *site)
{
    struct weft__scope *s = weft__scope_of(ps);
    struct weft__sched *w = weft__self();
    struct weft__task *t;
    int rc;
    if (!is_open(ps))
        return spawn_ruled(ps, fn, arg, &plain_options, false, site);
    if (w && s->owner == own(w->frame) && !s->owner->keeps && fn && (t = weft__task_alloc(&w->blocks)) != NULL) {
        /* The way of nearly all spawns: the owner's own, on a worker, and nothing to be handed on. */
        ati_store(&t->bits, w->group->default_bits);
        spawned_at(t, site);
        at_store(&t->fn, (uint64_t)(uintptr_t)fn);
        at_store(&t->u.arg, (uint64_t)(uintptr_t)arg);
        at_store(&t->scope, (uint64_t)(uintptr_t)s);
        s->spawned++; /* C1 */
        weft_task id = weft__task_begin(t);
        publish(w, t, id);
        return id;
    }
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
    return spawn(ps, fn, arg, __builtin_return_address(0));
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
        return spawn(ps, fn, arg, __builtin_return_address(0));
    if (!is_open(ps))
        return spawn_ruled(ps, fn, arg, o, false, __builtin_return_address(0));
    if (!weft__self() && weft__forked)
        return -ECHILD;
    return spawn_with(weft__scope_of(ps), fn, arg, o, NULL, false, __builtin_return_address(0));
}

/* ---- begin and end */

/* On the task's own fiber; what the scheduler reads of it from others is own(). */
static inline void frame_begin(struct weft__frame *f, struct weft__task *t, struct weft__sched *w, struct weft__stack *k,
        struct weft__frame *below)
{
    uint32_t bits = ati_load(&t->bits);
    own_set(f->task, t);
    own_set(f->stack, k);
    own_set(f->group, w->group);
    own_set(f->ran_on, w);
    own_set(f->below, below);
    f->id = (weft_task)(at_load(&t->life) & WEFT__LIFE_ID);
    f->inner = NULL;
    own_set(f->epoch_ok, 0);
    f->level = f->shield = 0;
    f->read_in = 0;
    f->budget = WEFT__BUDGET;
    f->refusals = 0;
    f->held = 0;
    f->keep_fp = false;
    f->fn = (weft_fn *)(uintptr_t)at_load(&t->fn);
    f->arg = (void *)(uintptr_t)at_load(&t->u.arg);
    f->side = NULL;
    f->detail = NULL;
    f->named = NULL;
    f->keeps = NULL;
    own_set(f->waits, 0);
    own_set(f->left, 0);
    own_set(f->begun, own(w->began)); /* to look at the clock once more would cost a short task as much again */
    f->site = (void *)(uintptr_t)at_load(&t->side);
    at_store(&f->chaos, 0);
    ati_store(&f->attached, 0);
    f->down = NULL;
    if (bits & (WEFT__TASK_COPY | WEFT__TASK_SIDE)) {
        weft__side_unpack(f, t, bits);
        ati_store(&t->bits, bits & ~(uint32_t)WEFT__TASK_SIDE); /* before side changes: coord/task.c, unstarted_side */
    }
    at_store_release(&t->side, (uint64_t)(uintptr_t)f);
    ati_store(&t->u.run.ready_at, 0);
    ati_store(&t->u.run.last_run, 0);
    /* release: meets the acquire in weft__task_frame, coord/scope.h; who sees STARTED sees the frame. */
    ati_store_release(&t->bits, (bits & ~255u) | WEFT__TASK_STARTED);
}

/* C2, but for the block and the scope. */
static void frame_end(struct weft__frame *f, int rc)
{
    struct weft__task *t = f->task;
    struct weft__scope *s = (struct weft__scope *)at_load(&t->scope);
    struct weft__policy *p = f->side ? f->side->policy : NULL;
    if (f->inner)
        weft__scope_forgotten(f, NULL);
    bool left = rc == -ECANCELED && weft__told(f);
    if (p)
        weft__policy_judge(s, p, f, rc, left);
    else if (left)
        weft__scope_left(s);
    else if (rc < 0)
        weft__scope_fail(s, f, f->arg, rc, NULL);
    weft__detach_frame(f);
    if (f->side && f->side->result)
        *f->side->result = rc;
    if (f->keep_fp)
        weft__fp_load(weft__self()->loop.fp);
    weft__life_end(t, f->id);
    if (f->held != 0)
        weft__orphaned(f);
    /* Nobody holds the life any more, so nobody looks at these. */
    if (p)
        weft__policy_ended(p, f, rc);
    else if (f->side)
        weft__mem_free(f->side);
    weft__detail_free(f);
}

/* The worker, after a task's function has returned; what the end does goes on there, without a suspension. */
static inline struct weft__sched *returned(void)
{
    struct weft__sched *w = weft__self();
    if (!w)
        weft__fork_returned();
    return w;
}

/* True once for each site; when there have been very many, no more. */
static bool first_time(const void *site)
{
    enum { MOST = 256 };
    static at_word said[MOST];
    uint64_t mine = (uint64_t)(uintptr_t)site;
    for (int i = 0; i < MOST; i++) {
        uint64_t there = at_load(&said[i]);
        if (there == 0 && at_cas(&said[i], 0, mine))
            return true;
        if (at_load(&said[i]) == mine)
            return false;
    }
    return false;
}

/* Before the frame ends: says so if a task has used more than 80 % of what was guaranteed, with all that it joined by a
 * call. */
static void mark_stack(struct weft__frame *f, struct weft__stack *k)
{
    size_t used = weft__stack_mark(k), guaranteed = weft__stack_guarantee(own(k->class_index));
    char text[200];
    if (used <= guaranteed / 10 * 8 || !first_time(f->site))
        return;
    snprintf(text, sizeof text,
            "function %p used with what it joined by a call %zu of %zu bytes of stack that were guaranteed",
            (void *)(uintptr_t)f->fn, used, guaranteed);
    weft__report_task(f, "stack", 0, text);
}

static inline __attribute__((always_inline)) void body(
        struct weft__frame *f, struct weft__task *t, struct weft__stack *k, bool marks)
{
    struct weft__scope *s = (struct weft__scope *)at_load(&t->scope);
    (void)at_load_acquire(&t->state); /* meets the release in weft__task_begin */
    frame_begin(f, t, weft__self(), k, NULL);
    weft_task id = f->id;
    int rc = f->fn(f->arg);
    if (f->keeps)
        rc = weft__keeps_end(f, rc); /* it may suspend */
    if (marks)
        mark_stack(f, k); /* it may call the program's report function */
    struct weft__sched *w = returned();
    frame_end(f, rc);
    weft__task_recycle(&w->blocks, t, id);
    weft__scope_child_left(s);
}

/* The scheduler's op: runs the task bound to this stack. */
void weft__child_body(struct weft__frame *f, struct weft__task *t, struct weft__stack *k)
{
    body(f, t, k, false);
}

/* The same if stacks are to be looked at: WEFT_STACK_MARKS. */
void weft__child_body_marking(struct weft__frame *f, struct weft__task *t, struct weft__stack *k)
{
    body(f, t, k, true);
}

/* The scheduler's op: a claimed task for which there is no stack ends as if its function had returned -ENOMEM. */
void weft__child_no_stack(struct weft__sched *w, struct weft__task *t)
{
    static at_int said;
    struct weft__scope *s = (struct weft__scope *)at_load(&t->scope);
    struct weft__frame f;
    frame_begin(&f, t, w, NULL, NULL);
    if (ati_cas(&said, 0, 1))
        weft__report_task(&f, "no-stack", -ENOMEM,
                "no stack is left: raise vm.max_map_count, or use a kernel with MADV_GUARD_INSTALL (6.13)");
    weft__detail_set(&f, -ENOMEM, "no stack is left for the task");
    weft_task id = f.id;
    if (f.keeps)
        (void)weft__keeps_end(&f, -ENOMEM); /* it has inherited values, and nothing else */
    frame_end(&f, -ENOMEM);
    weft__task_recycle(&w->blocks, t, id);
    weft__scope_child_left(s);
}

/* ---- inline */

/* Whether there is anything of a task's that few have. One look, as forks and joins have no time for five. */
static inline bool has_more(const struct weft__frame *f)
{
    return ((uintptr_t)f->inner | (uintptr_t)f->side | (uintptr_t)f->detail | (uintptr_t)f->keeps | (uintptr_t)f->held) != 0;
}

void weft__run_inline(struct weft__sched *w, struct weft__scope *s, struct weft__task *t, weft_task id)
{
    struct weft__frame f, *joiner = own(w->frame);
    frame_begin(&f, t, w, joiner->stack, joiner);
    /* The same scopes apply; its own cancel does not to the joiner. */
    own_set(f.epoch_ok, at_load_acquire(&t->life) & WEFT__LIFE_CANCELLED ? 0 : own(joiner->epoch_ok));
    own_set(w->frame, &f);
    weft__count(&w->count.inlined, 1);
    int left = own(w->until_loop) - 1;
    own_set(w->until_loop, left);
    if (left <= 0)
        weft__breathe(); /* an inline join is a dispatch */
    int rc = f.fn(f.arg);
    w = returned();
    if (rc < 0 || ati_load(&f.attached) || has_more(&f)) {
        if (f.keeps) {
            rc = weft__keeps_end(&f, rc); /* it may suspend */
            w = returned();
        }
        frame_end(&f, rc);
    } else {
        weft__life_end(t, id);
    }
    own_set(w->frame, joiner);
    s->spawned--;
    weft__task_recycle(&w->blocks, t, id);
}
