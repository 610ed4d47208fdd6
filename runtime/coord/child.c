/* coord/child.c - a task from its first step to its end.
 *
 * Owns      its frame, and what an end tells whom.
 * Callers   body: sched, on the task's own stack. run_own, join_inline: a joiner of its own scope.
 * Holds     C2  at the end: unlink, result, life word 0, joiners, block recycled; the scope last of all.
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

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/error.h"
#include "coord/orphan.h"
#include "coord/policy.h"
#include "coord/side.h"

/* On the task's own fiber; what the scheduler reads of it from others is own(). */
static inline void frame_begin(struct weft__frame *f, struct weft__task *t, weft_task id, struct weft__sched *w,
        struct weft__stack *k, struct weft__frame *below)
{
    uint32_t bits = ati_load(&t->bits);
    own_set(f->task, t);
    f->id = id;
    own_set(f->group, w->group);
    own_set(f->stack, k);
    own_set(f->ran_on, w);
    own_set(f->below, below);
    own_set(f->begun, own(w->began)); /* to look at the clock once more would cost a short task as much again */
    own_set(f->epoch_ok, 0);
    f->budget = WEFT__BUDGET;
    f->refusals = 0;
    f->inner = NULL;
    own_set(f->waits, 0);
    own_set(f->left, 0);
    f->read_in = 0;
    f->level = f->shield = 0;
    f->held = 0;
    f->keep_fp = false;
    f->side = NULL;
    f->detail = NULL;
    f->named = NULL;
    f->keeps = NULL;
    f->down = NULL;
    f->fn = (weft_fn *)(uintptr_t)at_load(&t->fn);
    f->arg = (void *)(uintptr_t)at_load(&t->u.arg);
    f->site = (void *)(uintptr_t)at_load(&t->side);
    at_store(&f->chaos, 0);
    ati_store(&f->attached, 0);
    if (bits & (WEFT__TASK_COPY | WEFT__TASK_SIDE)) {
        weft__side_unpack(f, t, bits);
        ati_store(&t->bits, bits & ~(uint32_t)WEFT__TASK_SIDE); /* before side changes: coord/task.c, unstarted_side */
    }
    at_store_release(&t->side, (uint64_t)(uintptr_t)f);
    at_store(&t->u.arg, 0); /* both of u.run */
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
    weft_task id = (weft_task)(at_load(&t->life) & WEFT__LIFE_ID);
    frame_begin(f, t, id, weft__self(), k, NULL);
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
    weft_task id = (weft_task)(at_load(&t->life) & WEFT__LIFE_ID);
    frame_begin(&f, t, id, w, NULL, NULL);
    if (ati_cas(&said, 0, 1))
        weft__report_task(&f, "no-stack", -ENOMEM,
                "no stack is left: raise vm.max_map_count, or use a kernel with MADV_GUARD_INSTALL (6.13)");
    weft__detail_set(&f, -ENOMEM, "no stack is left for the task");
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

/* An end with any of that, or a failure. The worker on which it goes on. */
static __attribute__((noinline)) struct weft__sched *end_with_more(struct weft__sched *w, struct weft__frame *f, int rc)
{
    if (f->keeps) {
        rc = weft__keeps_end(f, rc); /* it may suspend */
        w = returned();
    }
    frame_end(f, rc);
    return w;
}

/* Runs the claimed child of `s`, whose owner is `joiner`, the caller. */
static inline __attribute__((always_inline)) void run(
        struct weft__sched *w, struct weft__frame *joiner, struct weft__scope *s, struct weft__task *t, weft_task id)
{
    struct weft__frame f;
    frame_begin(&f, t, id, w, joiner->stack, joiner);
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
    if (__builtin_expect(rc < 0 || ati_load(&f.attached) || has_more(&f), 0))
        w = end_with_more(w, &f, rc);
    else
        weft__life_end(t, id);
    own_set(w->frame, joiner);
    s->spawned--;
    weft__task_recycle(&w->blocks, t, id);
}

/* Whether the child has its whole guarantee on the running stack, f's, and may be inlined at all. */
static inline bool may_inline(struct weft__frame *f, struct weft__task *t)
{
#ifdef WEFT__TSAN
    (void)f;
    (void)t;
    return false;
#else
    enum { MARGIN = 2048 }; /* this call's own frames */
    uint32_t bits = ati_load(&t->bits);
    uint32_t pin = bits >> 16;
    const uint32_t never = WEFT__TASK_QUEUED | WEFT__TASK_FP | WEFT__TASK_STARTED;
    if ((bits & (never | WEFT__TASK_CHAOS)) && ((bits & never) || weft__chaos_once_in(2)))
        return false;
    if (pin != weft__task_pin(f->task) || f->keep_fp)
        return false;
    size_t left = (size_t)((char *)__builtin_frame_address(0) - f->stack->low);
    return left >= weft__stack_guarantee((int)(bits >> 8 & 255)) + MARGIN;
#endif
}

void weft__run_own(struct weft__scope *s)
{
    while (s->spawned > 0) { /* a plain thread has spawned none itself */
        struct weft__sched *w = weft__self();
        uint64_t id = weft__spawned_take(w);
        if (id == 0)
            return;
        struct weft__task *t = weft__task_at(weft__id_index((weft_task)id));
        if (!weft__task_is_new(t, (weft_task)id))
            continue; /* a dead entry */
        if (at_load(&t->scope) != (uint64_t)(uintptr_t)s || !may_inline(s->owner, t)) {
            weft__spawned_put_back(w, id);
            return;
        }
        /* The entry is ours alone, and only the scope's owner, who we are, claims without one. */
        weft__task_claim_own(t);
        run(w, s->owner, s, t, (weft_task)id);
    }
}

static void drop_dead_entries(struct weft__sched *w)
{
    uint64_t id;
    while ((id = weft__deque_take(&w->deque)) != 0)
        if (weft__task_is_new(weft__task_at(weft__id_index((weft_task)id)), (weft_task)id)) {
            weft__expect(weft__deque_push(&w->deque, id)); /* into the place it was taken from */
            return;
        }
}

bool weft__join_inline(struct weft__frame *f, struct weft__task *t, weft_task id)
{
    struct weft__sched *w = weft__self();
    if (!w || !f->inner || at_load(&t->scope) != (uint64_t)(uintptr_t)f->inner || !may_inline(f, t))
        return false;
    if (weft__spawned_take_this(w, (uint64_t)id)) {
        /* The entry is ours alone, and only the scope's owner, who we are, claims without one. */
        if (!weft__task_is_new(t, id))
            return false;
        weft__task_claim_own(t);
    } else {
        if (!weft__task_claim(t, id))
            return false;
        drop_dead_entries(w); /* its own, as a rule */
    }
    run(w, f, weft__scope_of(f->inner), t, id);
    return true;
}
