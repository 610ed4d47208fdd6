/* sched/sched.c - one worker's scheduler: turns, and where a ready task goes.
 *
 * Owns      the present turn, the pick, and the hand-over from one context to the next.
 * Callers   tasks through suspend, yield and breathe; the worker's loop through run and pick; anyone through
 *           ready and fire.
 * Holds     X1  a task is in exactly one place: running, one queue, one wait, or ended.
 *           X2  what has to be done for a context that was left (W4, the push of a yielder, giving back the
 *               stack of a task that has ended) is done by the next context, first thing: before its registers
 *               are saved nobody may resume it, and on its own stack nobody can.
 *           X3  how long a ready task is passed over, in turns of its worker: in the next slot at most 4, or 32 that
 *               take 5 us together; in the ring at most 4 x its length (a next streak, then ring and deque in turn,
 *               pinned each fourth turn); in inject until the next look, after 61 turns or 1 ms, if its worker's share
 *               reaches to it. A spawned task waits behind newer ones, which keeps fork-join in few stacks; but of those
 *               that wait longest one begins each 10 ms, if no thief takes them (engine/worker.c). With a seed: sched/chaos.c.
 * Source    the run queues of Go and Tokio; direct switch as in Photon; the rules in time are ours.
 * Tested    tests/sched_test.c, stress/mix.c */
#include "sched/sched.h"

#include "base/rng.h"

/* Of what each turn goes through: a call costs it as much as what is done there. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Named in instructions (sched.h), where a compiler of the whole program does not look. */
#if defined(__GNUC__) && !defined(__clang__)
#define NAMED_ELSEWHERE used, externally_visible
#else
#define NAMED_ELSEWHERE used
#endif
__thread struct weft__sched *weft__self_tls
        __attribute__((tls_model("initial-exec"), visibility("hidden"), NAMED_ELSEWHERE));

/* ThreadSanitizer is not to look at it: it would take the coroutines of a thread for threads that race for it. */
#ifdef WEFT__TSAN
#define NOT_INSTRUMENTED __attribute__((no_sanitize("thread")))
#else
#define NOT_INSTRUMENTED
#endif

#if defined(WEFT__SELF_BY_CALL) || !(defined(__x86_64__) || defined(__aarch64__))
NOT_INSTRUMENTED __attribute__((noinline)) struct weft__sched *weft__self(void)
{
    struct weft__sched *s = weft__self_tls;
    __asm__ volatile("" : "+r"(s)::"memory"); /* opaque even to whole-program optimisation */
    return s;
}
#endif

NOT_INSTRUMENTED void weft__self_set(struct weft__sched *s)
{
    if (s)
        weft__hb_release(&s->loop_stack); /* the thread's thread-locals exist */
    weft__self_tls = s;
}

/* As control blocks have a time. */
static uint32_t stamp(uint64_t now)
{
    return (uint32_t)(now >> 10);
}

int weft__sched_init(struct weft__sched *s, struct weft__group *g, uint32_t id)
{
    s->group = g;
    s->id = id;
    s->rng = UINT64_C(0x9e3779b97f4a7c15) * (id + 1);
    s->draws = (s->rng ^ g->chaos_seed) | 1;
    s->until_loop = WEFT__LOOP_TURNS;
    s->slow = stamp(weft__us_to_ticks(WEFT__LONG_US));
    s->hands = WEFT__HANDED;
    s->long_from = 1; /* never: `left` of who has not waited yet is 0 */
    s->loop.group = g;
    s->loop.stack = &s->loop_stack;
    s->frame = &s->loop;
    return weft__deque_init(&s->deque, 256);
}

void weft__sched_fini(struct weft__sched *s)
{
    weft__deque_fini(&s->deque);
}

void weft__sched_return_blocks(struct weft__sched *s)
{
    weft__task_cache_return(&s->blocks);
}

/* ---- where a ready task goes */

static __attribute__((noinline)) void overflow(struct weft__sched *s, uint32_t newest)
{
    uint32_t half[WEFT__RING / 2 + 1];
    uint32_t n = weft__ready_grab(&s->ring, half, WEFT__RING / 2);
    half[n++] = newest;
    for (uint32_t i = 0; i + 1 < n; i++)
        ati_store(&weft__task_at(half[i])->link, half[i + 1] + 1);
    weft__inject_put(&s->group->inject, half[0], half[n - 1], n);
}

/* One that is pinned, or born into a queue. */
static __attribute__((noinline)) void push_other(struct weft__sched *s, struct weft__task *t, uint64_t now)
{
    if (!weft__task_has(t, WEFT__TASK_QUEUED))
        ati_store(&t->u.run.ready_at, stamp(now));
    if (weft__task_pin(t) != 0)
        weft__group_put(s->group, t);
    else if (!weft__ready_push(&s->ring, weft__task_index(t)))
        overflow(s, weft__task_index(t));
}

static ALWAYS_INLINE void push(struct weft__sched *s, struct weft__task *t, uint64_t now)
{
    if (ati_load(&t->bits) & (WEFT__TASK_PIN | WEFT__TASK_QUEUED)) {
        push_other(s, t, now);
        return;
    }
    ati_store(&t->u.run.ready_at, stamp(now));
    if (!weft__ready_push(&s->ring, weft__task_index(t)))
        overflow(s, weft__task_index(t));
}

void weft__sched_push(struct weft__sched *s, struct weft__task *t, uint64_t now)
{
    push(s, t, now);
}

static void put_anywhere(struct weft__group *g, uint32_t index)
{
    weft__inject_put(&g->inject, index, index, 1); /* S1 */
    weft__idle_notify(g);
}

static void put_pinned(struct weft__group *g, struct weft__sched *s, uint32_t index, const struct weft__sched *self)
{
    weft__inject_put(&s->pinned, index, index, 1);
    if (s == self)
        return;
    at_fence_full(); /* S2; P3 looks at the worker's own pinned queue */
    if (weft__idle_parked(&g->idle) > 0 && weft__idle_claim_worker(g, s))
        weft__idle_wake(g, s);
}

/* To one worker, or to any (NULL). Once the task is in a queue it may run and be the last: then the runtime ends, but not
 * before a visitor has left. */
static void put(struct weft__group *g, struct weft__sched *s, uint32_t index)
{
    const struct weft__sched *self = weft__self();
    bool visitor = !self || self->group != g;
    if (visitor)
        at_add(&g->visitors, 1);
    if (s)
        put_pinned(g, s, index, self);
    else
        put_anywhere(g, index);
    if (visitor)
        at_add(&g->visitors, (uint64_t)-1);
}

void weft__group_put(struct weft__group *g, struct weft__task *t)
{
    uint32_t pin = weft__task_pin(t);
    put(g, pin ? g->all[pin - 1] : NULL, weft__task_index(t));
}

void weft__group_put_to(struct weft__group *g, struct weft__task *t, struct weft__sched *s)
{
    put(g, s, weft__task_index(t));
}

static inline void put_next(struct weft__sched *s, struct weft__task *t)
{
    ati_store(&t->u.run.ready_at, stamp(own(s->began)));
    uint64_t old = weft__private_put(&s->next, (uint64_t)weft__task_index(t) + 1);
    if (old)
        weft__sched_push(s, weft__task_at((uint32_t)old - 1), own(s->began));
}

void weft__sched_put_next(struct weft__sched *s, struct weft__task *t)
{
    put_next(s, t);
}

NOT_INSTRUMENTED void weft__sched_prefetch(const uint32_t *tasks, uint32_t n)
{
    enum { LINE = 64, BELOW = 7 * LINE, HEAD = 2 * LINE }; /* below the frame: the head of its stack */
    const struct weft__frame *f;
    for (uint32_t i = 0; i < n; i++) {
        at_prefetch((const void *)(uintptr_t)at_load(&weft__task_at(tasks[i])->side));
        at_prefetch(&weft__members[tasks[i]]);
    }
    for (uint32_t i = 0; i < n; i++) {
        /* Its neighbours, whom it leaves at its end. */
        uint32_t next = ati_load(&weft__members[tasks[i]].next), prev = ati_load(&weft__members[tasks[i]].prev);
        if (next)
            at_prefetch(&weft__members[next - 1]);
        if (prev)
            at_prefetch(&weft__members[prev - 1]);
        f = (const struct weft__frame *)(uintptr_t)at_load(&weft__task_at(tasks[i])->side);
        for (int k = 0; k < BELOW; k += LINE)
            at_prefetch((const char *)f->context.sp + k);
        for (int k = -HEAD; k < (int)sizeof *f; k += LINE)
            at_prefetch((const char *)f + k);
    }
}

/* A plain thread sleeps on the low half of its own state word. */
static void wake_thread(struct weft__task *t)
{
    weft__futex_wake((at_int *)(void *)&t->state, 1);
}

static inline void ready(struct weft__task *t)
{
    struct weft__frame *f = (struct weft__frame *)(uintptr_t)at_load(&t->side);
    struct weft__group *g = own(f->group);
    struct weft__sched *s = weft__self();
    if (g->chaos_seed != 0)
        weft__chaos_ready(g, s, t);
    else if (!s || s->group != g || weft__task_pin(t) != 0)
        weft__group_put(g, t);
    else if (own(own(s->frame)->task))
        put_next(s, t);
    else
        weft__sched_push(s, t, weft__sched_ticks(s));
}

void weft__ready(struct weft__task *t)
{
    if (weft__task_has(t, WEFT__TASK_THREAD))
        wake_thread(t);
    else
        ready(t);
}

void weft__ready_claimed(struct weft__claimed c)
{
    if (!c.task)
        return;
    if (c.thread)
        wake_thread(c.task);
    else
        ready(c.task);
}

bool weft__fire(weft__token k, enum weft__cause cause)
{
    struct weft__claimed c;
    if (!weft__claim_wait(k, cause, &c))
        return false;
    weft__ready_claimed(c);
    return true;
}

/* ---- the pick */

static inline struct weft__task *drawn(uint32_t index, bool *is_new)
{
    struct weft__task *t = weft__task_at(index);
    *is_new = false;
    if (weft__task_has(t, WEFT__TASK_QUEUED) && weft__phase_of(at_load_acquire(&t->state)) == WEFT__NEW) {
        weft__expect(weft__task_claim(t, (weft_task)(at_load(&t->life) & WEFT__LIFE_ID)));
        *is_new = true;
    }
    return t;
}

struct weft__task *weft__sched_drawn(uint32_t index, bool *is_new)
{
    return drawn(index, is_new);
}

static struct weft__task *from_deque(struct weft__sched *s, bool *is_new)
{
    uint64_t id;
    while ((id = weft__spawned_take(s)) != 0) {
        uint64_t ahead = weft__deque_ahead(&s->deque);
        if (ahead != 0)
            at_prefetch(weft__task_at(weft__id_index((weft_task)ahead)));
        struct weft__task *t = weft__task_at(weft__id_index((weft_task)id));
        if (weft__task_claim(t, (weft_task)id)) {
            *is_new = true;
            return t;
        } /* else a dead entry: its joiner ran it */
    }
    return NULL;
}

static inline struct weft__task *from_ring(struct weft__sched *s, bool *is_new)
{
    uint32_t index;
    return weft__ready_pop(&s->ring, &index) ? drawn(index, is_new) : NULL;
}

static struct weft__task *from_pinned(struct weft__sched *s, bool *is_new)
{
    uint32_t index;
    if (at_load(&s->pinned.count) == 0 || weft__inject_take(&s->pinned, &index, 1) == 0)
        return NULL;
    return drawn(index, is_new);
}

static ALWAYS_INLINE struct weft__task *from_next(struct weft__sched *s)
{
    uint64_t next = weft__private_take(&s->next);
    if (next == 0) {
        own_set(s->streak, 0);
        return NULL;
    }
    struct weft__task *t = weft__task_at((uint32_t)next - 1);
    int streak = own(s->streak) + 1;
    if (streak == 1)
        own_set(s->streak_from, own(s->began));
    if (streak <= WEFT__NEXT_STREAK || (streak <= WEFT__NEXT_SHORT &&
            own(s->began) - own(s->streak_from) < weft__us_to_ticks(WEFT__NEXT_SHORT_US))) {
        own_set(s->streak, streak);
        return t;
    }
    own_set(s->streak, 0);
    weft__sched_push(s, t, own(s->began));
    return NULL;
}

static struct weft__task *from_queues(struct weft__sched *s, bool *is_new)
{
    struct weft__task *t;
    int flip = own(s->flip) + 1;
    own_set(s->flip, flip);
    if ((flip & 3) == 0 && (t = from_pinned(s, is_new)) != NULL)
        return t;
    if ((flip & 1) != 0 && (t = from_ring(s, is_new)) != NULL)
        return t;
    if ((t = from_deque(s, is_new)) != NULL || (t = from_ring(s, is_new)) != NULL)
        return t;
    return from_pinned(s, is_new);
}

struct weft__task *weft__sched_starter(struct weft__sched *s)
{
    struct weft__frame *f = own(s->starters);
    if (!f)
        return NULL;
    own_set(s->starters, own(f->starter));
    return own(f->task);
}

static struct weft__task *pick_specially(struct weft__sched *s, bool *is_new)
{
    struct weft__task *t = weft__sched_starter(s);
    int ring_first = own(s->ring_first);
    if (t)
        return t;
    if (s->group->chaos_seed != 0)
        return weft__chaos_pick(s, is_new);
    if (ring_first > 0) {
        own_set(s->ring_first, ring_first - 1);
        if ((t = from_ring(s, is_new)) != NULL)
            return t;
    }
    return (t = from_next(s)) != NULL ? t : from_queues(s, is_new);
}

/* Some have to go first, or a seed decides. */
static inline bool is_special(const struct weft__sched *s)
{
    return own(s->chaos) || own(s->ring_first) > 0 || own(s->starters);
}

/* Where there is none in the next slot: whether from_queues would look into the ring alone. */
static inline bool has_ring_alone(const struct weft__sched *s)
{
    return weft__deque_size(&s->deque) == 0 && !weft__private_has(&s->newest) && at_load(&s->pinned.count) == 0;
}

struct weft__task *weft__sched_pick(struct weft__sched *s, bool *is_new)
{
    struct weft__task *t;
    *is_new = false;
    if (is_special(s))
        return pick_specially(s, is_new);
    return (t = from_next(s)) != NULL ? t : from_queues(s, is_new);
}

/* ---- turns */

/* weft__task_slow, without a multiplication. */
static ALWAYS_INLINE bool is_slow(const struct weft__sched *s, const struct weft__task *t)
{
    return ati_load(&t->u.run.last_run) > own(s->slow);
}

/* R4: before a task is run, is it time to wake one more for what remains? */
static __attribute__((noinline)) void wake_for_rest(struct weft__sched *s, struct weft__task *t, bool is_new, uint64_t now)
{
    uint64_t left = weft__ready_len(&s->ring);
    if (left == 0)
        return;
    bool old = !is_new && (int32_t)(stamp(now) - ati_load(&t->u.run.ready_at)) >
                    (int32_t)stamp(weft__us_to_ticks(WEFT__AGE_US));
    if (old || left * own(s->mean_run) >= weft__us_to_ticks(WEFT__DRAIN_US) ||
            (!is_new && is_slow(s, t)))
        weft__idle_notify(s->group);
}

/* R16: the turns since the last look at the clock have taken `ran`. What one of them has. */
static __attribute__((noinline)) uint64_t look_at_hands(struct weft__sched *s, uint64_t ran)
{
    int hands = own(s->hands);
    bool several = hands >= 0, long_ones = ran > weft__us_to_ticks(WEFT__HANDED_US);
    if (several && long_ones)
        own_set(s->long_from, own(s->began));
    own_set(s->hands, long_ones ? -WEFT__EXACT : hands < -1 ? hands + 1 : WEFT__HANDED);
    return several ? ran / (unsigned)(WEFT__HANDED - hands + 1) : ran;
}

void weft__sched_took_over(struct weft__sched *s, uint64_t now)
{
    if (own(s->hands) >= 0 && own(s->hands) < WEFT__HANDED)
        (void)look_at_hands(s, now - own(s->began));
}

/* R16: turns were handed on, and the next one is not to be timed with them. When they have ended. */
static __attribute__((noinline)) uint64_t end_hands(struct weft__sched *s)
{
    uint64_t now = weft__ticks();
    weft__sched_took_over(s, now);
    return now;
}

static ALWAYS_INLINE void set_turn(struct weft__sched *s, bool is_new, uint64_t now, uint64_t since)
{
    own_set(s->began, now);
    own_set(s->first_turn, is_new);
    weft__count(&s->count.ran, 1);
    at_store(&s->since, since);
}

/* `slow`: it has run before, and too long (R1). */
static inline void begin_turn(struct weft__sched *s, struct weft__task *t, bool is_new, bool slow, uint64_t now)
{
    uint64_t w = at_load(&s->group->idle.word);
    if (weft__idle_worth_waking(w))
        wake_for_rest(s, t, is_new, now);
    if (is_new || slow) { /* it is timed by itself */
        if (own(s->hands) >= 0 && own(s->hands) < WEFT__HANDED)
            now = end_hands(s);
        if (own(s->hands) >= 0)
            own_set(s->hands, -1);
    }
    set_turn(s, is_new, now, slow ? now - weft__us_to_ticks(WEFT__LONG_US) - 1 : now);
}

/* The turn of `t` (NULL: it has no other). If some were handed on and are long together, it is the one that is slow. */
static inline void end_turn(struct weft__sched *s, struct weft__task *t, uint64_t now)
{
    uint64_t ran = now - own(s->began);
    uint64_t most = weft__us_to_ticks(1000);
    uint64_t mean = own(s->mean_run);
    if (t)
        ati_store(&t->u.run.last_run, stamp(ran));
    if (own(s->hands) != WEFT__HANDED)
        ran = look_at_hands(s, ran);
    own_set(s->mean_run, mean + ((ran < most ? ran : most) >> 3) - (mean >> 3));
}

/* R16: the running task hands over to whom it has just woken, or yields to `somebody` else, and its turn is not timed: a look at
 * the clock may cost as much as all the rest of that. Who was in the last chain that was long is looked at. */
static ALWAYS_INLINE bool hands_on(struct weft__sched *s, const struct weft__frame *f, bool somebody)
{
    int hands = own(s->hands);
    if (hands <= 0 || !somebody || own(s->chaos) || own(f->left) == own(s->long_from))
        return false;
    own_set(s->hands, hands - 1);
    return true;
}

static void give_stack(struct weft__sched *s, struct weft__stack *k)
{
    int c = own(k->class_index);
    own_set(k->next, own(s->stacks.idle[c]));
    own_set(s->stacks.idle[c], k);
    own_set(s->stacks.count[c], own(s->stacks.count[c]) + 1);
    if (own(s->stacks.count[c]) > WEFT__STACK_CACHE_MOST || ati_load(&s->group->stacks.starved))
        weft__stack_put_slow(&s->group->stacks, &s->stacks, c);
}

static struct weft__stack *take_stack(struct weft__sched *s, int c)
{
    struct weft__stack *k = own(s->stacks.idle[c]);
    if (!k)
        return weft__stack_get_slow(&s->group->stacks, &s->stacks, c);
    struct weft__stack *next = own(k->next);
    own_set(s->stacks.idle[c], next);
    own_set(s->stacks.count[c], own(s->stacks.count[c]) - 1);
    for (int i = -512; next && i < (int)sizeof *k; i += 64) /* the next one to begin finds it warm */
        at_prefetch((const char *)next + i);
    return k;
}

/* X2: first thing on any context that was switched to. */
static ALWAYS_INLINE void arrived(void)
{
    struct weft__sched *s = weft__self();
    weft__hb_acquire(&s->loop_stack); /* meets the release in weft__self_set */
    if (s->group->idle.ring)
        weft__hb_acquire(s->group); /* a host's tasks share its thread, and its data, without a lock: meets switch_to */
    struct weft__frame *f = own(s->after_frame);
    enum weft__after after = own(s->after);
    own_set(s->after, WEFT__AFTER_NOTHING);
    if (after == WEFT__AFTER_WAIT) {
        if (!weft__wait_sleep(f, s->group->ops->told))
            weft__sched_push(s, own(f->task), own(s->began));
    } else if (after == WEFT__AFTER_YIELD) {
        if (own(s->frame) == &s->loop)
            own_set(s->yielder, own(f->task)); /* the loop looks around first */
        else
            push(s, own(f->task), own(s->began));
    } else if (after == WEFT__AFTER_START) {
        ati_store(&own(f->task)->u.run.ready_at, stamp(own(s->began)));
        own_set(f->starter, own(s->starters));
        own_set(s->starters, f);
    } else if (after == WEFT__AFTER_STACK) {
        give_stack(s, own(f->stack));
    }
}

/* Leaves the context `from` for the one of `to`, which is set as the running frame; returns when `from` is taken up
 * again. */
static ALWAYS_INLINE void switch_to(struct weft__sched *s, struct weft__context *from, struct weft__frame *to)
{
    struct weft__stack *home = own(to->stack);
    own_set(s->frame, to);
    weft__hb_release(s->group); /* all that was done here comes before the end of the runtime, */
    weft__hb_release(from);     /* and before a look on its behalf (sched/wait.c) */
    weft__context_switch(from, &to->context, home);
    arrived();
}

/* A stack runs one task after the other, for ever. */
static void resident(void *arg)
{
    struct weft__stack *k = arg;
    struct weft__frame *f = (struct weft__frame *)(void *)k->room;
    weft__context_entered();
    arrived();
    for (;;) {
        weft__self()->group->ops->body(f, own(k->task), k);
        weft__sched_ended(k);
    }
}

static struct weft__frame *bind(struct weft__task *t, struct weft__stack *k)
{
    struct weft__frame *f = (struct weft__frame *)(void *)k->room;
    own_set(k->task, t);
    own_set(f->stack, k);
    if (own(k->begun)) {
        weft__context_copy(&f->context, &k->resident);
    } else {
        own_set(k->begun, true);
        weft__context_make(&f->context, k, resident, k);
    }
    return f;
}

/* And with it all on whose behalf it runs. */
static __attribute__((noinline)) void count_migrated(struct weft__sched *s, struct weft__frame *f)
{
    for (; f; f = own(f->below))
        own_set(f->ran_on, s);
    weft__count(&s->count.migrated, 1);
}

/* That of a task which was begun. */
static ALWAYS_INLINE struct weft__frame *frame_of(struct weft__sched *s, struct weft__task *t)
{
    struct weft__frame *f = (struct weft__frame *)(uintptr_t)at_load(&t->side);
    weft__debug_expect(own(f->task) == t);
    if (own(f->ran_on) != s)
        count_migrated(s, f);
    return f;
}

/* The loop has its turn. */
static struct weft__frame *to_loop(struct weft__sched *s)
{
    at_store(&s->since, own(s->began));
    return &s->loop;
}

static bool loop_is_due(struct weft__sched *s, uint64_t now)
{
    int left = own(s->until_loop) - 1;
    own_set(s->until_loop, left);
    return left <= 0 || now >= own(s->loop_due);
}

/* The frame of `t` (NULL: of what is picked; the next slot was looked at already, but where is_special), whose turn has begun at
 * `now`; NULL: there is none. The loop, if that has to see to it. `k`: a stack that is free. */
static ALWAYS_INLINE struct weft__frame *begin_any(
        struct weft__sched *s, struct weft__task *t, bool is_new, struct weft__stack *k, uint64_t now)
{
    if (!t && !(t = is_special(s) ? pick_specially(s, &is_new) : from_queues(s, &is_new)))
        return NULL;
    if (is_new && (!k || own(k->class_index) != weft__task_class(t)))
        k = take_stack(s, weft__task_class(t));
    if (is_new ? !k : is_slow(s, t)) {
        own_set(s->picked, t);
        own_set(s->picked_new, is_new);
        return to_loop(s);
    }
    begin_turn(s, t, is_new, false, now);
    return is_new ? bind(t, k) : frame_of(s, t);
}

/* That of a task which is neither new nor slow, while others sleep. */
static __attribute__((noinline)) struct weft__frame *begin_waking(struct weft__sched *s, struct weft__task *t, uint64_t now)
{
    begin_turn(s, t, false, false, now);
    return frame_of(s, t);
}

static __attribute__((noinline)) struct weft__frame *begin_otherwise(
        struct weft__sched *s, struct weft__task *t, bool is_new, uint64_t now)
{
    return begin_any(s, t, is_new, NULL, now);
}

/* The same of what is picked, and how that is done among tasks that were woken or have yielded. All others are begun without a call,
 * or by one: there they are rarer, and a turn saves no registers for their sake. */
static ALWAYS_INLINE struct weft__frame *begin_next(struct weft__sched *s, struct weft__stack *k, uint64_t now, bool without_call)
{
    struct weft__task *t = NULL;
    bool is_new = false;
    if (!is_special(s)) {
        if ((t = from_next(s)) == NULL && has_ring_alone(s) && (t = from_ring(s, &is_new)) == NULL)
            return NULL;
        if (t && !is_new && !is_slow(s, t)) {
            if (weft__idle_worth_waking(at_load(&s->group->idle.word)))
                return begin_waking(s, t, now);
            set_turn(s, false, now, now);
            return frame_of(s, t);
        }
    }
    return without_call ? begin_any(s, t, is_new, k, now) : begin_otherwise(s, t, is_new, now);
}

static void fp_leave(struct weft__sched *s, struct weft__frame *f)
{
    weft__fp_save(f->fp);
    weft__fp_load(s->loop.fp);
}

/* The time at which the present turn ends. */
static uint64_t turn_over(struct weft__sched *s, struct weft__frame *f, enum weft__chaos_over how)
{
    return own(s->chaos) ? weft__chaos_turn_over(s, f, how) : weft__ticks();
}

/* Ends it; `t` as in end_turn. When. */
static ALWAYS_INLINE uint64_t time_turn(
        struct weft__sched *s, struct weft__frame *f, struct weft__task *t, enum weft__chaos_over how)
{
    uint64_t now = turn_over(s, f, how);
    end_turn(s, t, now);
    return now;
}

/* Leaves the running task, for whom `after` is to be done, and returns when it is taken up again. */
static ALWAYS_INLINE void leave(struct weft__sched *s, struct weft__frame *f, enum weft__after after, struct weft__frame *to)
{
    bool fp = f->keep_fp;
    if (fp)
        fp_leave(s, f);
    own_set(s->after_frame, f);
    own_set(s->after, after);
    switch_to(s, &f->context, to);
    if (fp)
        weft__fp_load(f->fp);
}

void weft__suspend(void)
{
    struct weft__sched *s = weft__self();
    struct weft__frame *f = own(s->frame);
    uint64_t now = hands_on(s, f, weft__private_has(&s->next)) ? own(s->began) : time_turn(s, f, own(f->task), WEFT__OVER_WAIT);
    own_set(f->left, now);
    struct weft__frame *to = loop_is_due(s, now) ? NULL : begin_next(s, NULL, now, true);
    leave(s, f, WEFT__AFTER_WAIT, to ? to : to_loop(s));
}

/* Nobody else is ready, or the loop is to have its turn first. Whom to go to: the task itself if it goes on. */
static ALWAYS_INLINE struct weft__frame *yield_alone(struct weft__sched *s, struct weft__frame *f, bool due, uint64_t now)
{
    if (due || (own(s->chaos) && weft__chaos_far_yield(s)))
        return to_loop(s);
    begin_turn(s, f->task, true, false, now);
    own_set(s->first_turn, false);
    return f;
}

/* One function for both kinds: see wait_for_other in sync/chan.c. `brief`: R16. */
static __attribute__((noinline)) void yield(bool brief)
{
    struct weft__sched *s = weft__self();
    struct weft__frame *f = own(s->frame);
    uint64_t now = brief && hands_on(s, f, weft__ready_len(&s->ring) > 0) ? own(s->began)
                                                                           : time_turn(s, f, f->task, WEFT__OVER_YIELD);
    own_set(f->left, now);
    bool due = loop_is_due(s, now) || is_slow(s, f->task);
    struct weft__frame *to = due ? NULL : begin_next(s, NULL, now, false);
    if (!to && (to = yield_alone(s, f, due, now)) == f)
        return;
    leave(s, f, WEFT__AFTER_YIELD, to);
}

void weft__yield_now(void)
{
    yield(false);
}

void weft__yield_hand_on(void)
{
    yield(true);
}

weft_task weft__start_now(struct weft__task *t)
{
    struct weft__sched *s = weft__self();
    struct weft__frame *f = own(s->frame);
    struct weft__stack *k = take_stack(s, weft__task_class(t));
    if (!k)
        return 0;
    uint64_t now = turn_over(s, f, WEFT__OVER_YIELD);
    weft_task id = weft__task_begin(t);
    weft__task_claim_own(t);
    weft__count(&s->count.spawned, 1);
    end_turn(s, f->task, now);
    (void)loop_is_due(s, now); /* only when the child's turn is over */
    begin_turn(s, t, true, false, now);
    leave(s, f, WEFT__AFTER_START, bind(t, k));
    weft__hb_acquire(&((struct weft__frame *)(void *)k->room)->context); /* a first turn ends by leaving one of these */
    weft__hb_acquire(&k->resident);
    return id;
}

void weft__breathe(void)
{
    struct weft__sched *s = weft__self();
    own_set(s->until_loop, 0);
    own_set(s->breathing, true);
    weft__yield_now();
}

/* The task on stack `k` has ended: goes on with the next one, on this stack if it is new and of the same class. */
void weft__sched_ended(struct weft__stack *k)
{
    struct weft__sched *s = weft__self();
    struct weft__frame *f = (struct weft__frame *)(void *)k->room;
    uint64_t now = hands_on(s, f, weft__private_has(&s->next)) ? own(s->began) : time_turn(s, f, NULL, WEFT__OVER_END);
    struct weft__frame *to = loop_is_due(s, now) ? NULL : begin_next(s, k, now, true);
    if (to == f)
        return;
    own_set(s->after_frame, f);
    own_set(s->after, WEFT__AFTER_STACK);
    switch_to(s, &k->resident, to ? to : to_loop(s));
}

void weft__sched_run(struct weft__sched *s, struct weft__task *t, bool is_new, uint64_t now)
{
    struct weft__stack *k = NULL;
    own_set(s->until_loop, WEFT__LOOP_TURNS);
    if (is_new && !(k = take_stack(s, weft__task_class(t)))) {
        s->group->ops->no_stack(s, t);
        return;
    }
    begin_turn(s, t, is_new, !is_new && is_slow(s, t), now);
    switch_to(s, &s->loop.context, is_new ? bind(t, k) : frame_of(s, t));
}
