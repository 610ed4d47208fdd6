/* coord/task.c - tasks by their ids: join, cancel, names, lists.
 *
 * Owns      the join table: who waits for the end of a task, hashed by id, so that a task carries nothing for
 *           joiners it may never have.
 * Holds     J1  a joiner marks the life word under its bucket's lock, and then hangs itself in; the end takes the
 *               life word to 0 and, if it was marked, wakes the bucket's waiters for that id. So either the
 *               joiner finds the task dead, or the end finds the mark.
 *           J2  HELD is a lock on the end of one task: weft_task_cancel needs its scope to stay.
 *           J3  who registers for the end of a task (weft_task_on_done) does it as J1 says; the end takes them out of the
 *               bucket one by one, oldest first, and calls each with no lock held, its worker being in no task meanwhile:
 *               so a callback cannot suspend what is ending. The worker's loop has the values of whoever registered it for
 *               as long as the call takes; left there, every callback after it would find them.
 * Source    a parking lot, as futexes are in the kernel. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <weft/call.h>
#include <weft/task.h>

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/error.h"
#include "coord/side.h"
#include "coord/told.h"
#include "sched/errand.h"

enum { BUCKET_BITS = 13, WAKE_SLICE = 64 }; /* a million joiners are 120 in each bucket */

/* Why a task was cancelled by its id, and by whom; kept in its bucket until it ends. */
struct reason {
    struct weft__link link;
    weft_task id;
    struct weft__told told;
};

struct on_done {
    struct weft__link link;
    weft_task id;
    weft_callback *fn;
    void *arg;
    struct weft__handed *handed; /* what a child of who registered it would have got then */
};

static struct bucket {
    _Alignas(64) struct weft__lock lock;
    struct weft__link joiners;
    struct weft__link reasons;
    struct weft__link on_done;
} buckets[1 << BUCKET_BITS];

static struct bucket *bucket_of(weft_task id)
{
    return &buckets[((uint64_t)id * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - BUCKET_BITS)];
}

/* ---- the end of a life */

/* A slice of those who wait for the end of the task. True: there may be more. */
static bool wake_joiners(weft_task id)
{
    struct bucket *b = bucket_of(id);
    int n = 0;
    weft__lock(&b->lock);
    for (struct weft__link *l = b->joiners.next, *next; l && l != &b->joiners && n < WAKE_SLICE; l = next) {
        struct weft__joiner *j = container_of(l, struct weft__joiner, link);
        next = l->next;
        if (j->id != id)
            continue;
        weft__token k = j->token;
        list_remove(l);
        weft__fire(k, WEFT__CAUSE_EVENT);
        n++;
    }
    weft__unlock(&b->lock);
    return n == WAKE_SLICE;
}

static bool wake_more(struct weft__task *errand)
{
    return wake_joiners((weft_task)at_load(&errand->u.arg));
}

static void wake_all_joiners(weft_task id)
{
    while (wake_joiners(id)) {
        struct weft__task *errand = weft__errand_new(wake_more);
        if (!errand)
            continue;
        at_store(&errand->u.arg, (uint64_t)id);
        weft__errand_post(weft__self()->group, errand);
        return;
    }
}

/* The oldest callback that is registered for the end of the task, taken out; NULL there is none. */
static struct on_done *take_on_done(weft_task id)
{
    struct bucket *b = bucket_of(id);
    struct on_done *found = NULL;
    weft__lock(&b->lock);
    for (struct weft__link *l = b->on_done.next; l && l != &b->on_done && !found; l = l->next)
        if (container_of(l, struct on_done, link)->id == id)
            found = container_of(l, struct on_done, link);
    if (found)
        list_remove(&found->link);
    weft__unlock(&b->lock);
    return found;
}

/* J3. On the worker on which it ended. */
static void call_on_done(weft_task id)
{
    struct on_done *d = take_on_done(id);
    if (!d)
        return;
    struct weft__sched *w = weft__self();
    struct weft__frame *f = own(w->frame);
    own_set(w->frame, &w->loop);
    for (; d; d = take_on_done(id)) {
        struct weft__keeps keeps;
        weft__values_borrow(&w->loop, &keeps, d->handed);
        d->fn(d->arg);
        weft__fork_expect_parent();
        weft__values_borrowed_end(&w->loop);
        weft__mem_free(d);
    }
    own_set(w->frame, f);
}

/* Under the bucket's lock. */
static struct reason *find_reason(struct bucket *b, weft_task id)
{
    for (struct weft__link *l = b->reasons.next; l && l != &b->reasons; l = l->next)
        if (container_of(l, struct reason, link)->id == id)
            return container_of(l, struct reason, link);
    return NULL;
}

static void forget_reason(weft_task id)
{
    struct bucket *b = bucket_of(id);
    weft__lock(&b->lock);
    struct reason *r = find_reason(b, id);
    if (r)
        list_remove(&r->link);
    weft__unlock(&b->lock);
    weft__mem_free(r);
}

void weft__life_end_slow(struct weft__task *t, weft_task id)
{
    for (;;) {
        uint64_t life = at_load(&t->life);
        if (life & WEFT__LIFE_HELD) { /* for as long as a cancel takes */
            sched_yield();
            continue;
        }
        if (at_cas(&t->life, life, 0)) {
            if (life & WEFT__LIFE_CANCELLED)
                forget_reason(id);
            if (life & WEFT__LIFE_JOINERS) {
                wake_all_joiners(id);
                call_on_done(id);
            }
            return;
        }
    }
}

/* ---- ids */

/* The block of an id: 1 it lives; 0 it has ended; -EINVAL no task ever had this id. */
static int look_up(weft_task id, struct weft__task **out)
{
    if (id <= 0 || weft__id_index(id) >= weft__task_table_used())
        return -EINVAL;
    struct weft__task *t = weft__task_at(weft__id_index(id));
    *out = t;
    uint64_t life = at_load_acquire(&t->life) & WEFT__LIFE_ID;
    if (life == (uint64_t)id)
        return 1;
    if (life != 0)
        return weft__id_generation(id) < weft__id_generation((weft_task)life) ? 0 : -EINVAL;
    /* acquire: if it is a zero of N4 (sched/task.c), what N3 kept is seen */
    uint64_t state = at_load_acquire(&t->state);
    if (weft__phase_of(state) == WEFT__FREE && weft__id_generation(id) > weft__number_of(state) &&
            weft__id_generation(id) > weft__task_table_kept(weft__id_index(id)))
        return -EINVAL;
    return 0;
}

bool weft_task_alive(weft_task id)
{
    struct weft__task *t;
    return look_up(id, &t) == 1 && !weft__forked;
}

weft_task weft_task_self(void)
{
    struct weft__sched *s = weft__self();
    return s ? own(s->frame)->id : 0;
}

int weft_task_list(weft_task *out, size_t n)
{
    int found = 0;
    if (!out && n > 0)
        return -EINVAL;
    if (weft__forked)
        return -ECHILD;
    uint32_t used = weft__task_table_used();
    for (uint32_t i = 0; i < used; i++) {
        weft_task id = (weft_task)(at_load_acquire(&weft__task_at(i)->life) & WEFT__LIFE_ID);
        if (id == 0)
            continue;
        if ((size_t)found < n)
            out[found] = id;
        found++;
    }
    return found;
}

/* ---- join */

/* J1, under the lock of its bucket. False: it has ended. */
static bool mark_joined(struct weft__task *t, weft_task id)
{
    for (;;) {
        uint64_t life = at_load_acquire(&t->life);
        if ((life & WEFT__LIFE_ID) != (uint64_t)id)
            return false;
        if ((life & WEFT__LIFE_JOINERS) || at_cas(&t->life, life, life | WEFT__LIFE_JOINERS))
            return true;
    }
}

int weft__join_look(const struct weft__frame *f, weft_task id)
{
    struct weft__task *t;
    if (id < 0)
        return id < -4095 ? -EINVAL : (int)id;
    int lives = look_up(id, &t);
    return lives == 1 && f->id == id ? -EDEADLK : lives;
}

bool weft__join_publish(struct weft__joiner *j)
{
    struct weft__task *t = weft__task_at(weft__id_index(j->id));
    struct bucket *b = bucket_of(j->id);
    weft__lock(&b->lock);
    bool lives = mark_joined(t, j->id);
    if (lives) {
        if (!b->joiners.next)
            list_init(&b->joiners);
        list_push_tail(&b->joiners, &j->link);
    }
    weft__unlock(&b->lock);
    return lives;
}

void weft__join_unpublish(struct weft__joiner *j)
{
    struct bucket *b = bucket_of(j->id);
    weft__lock(&b->lock);
    if (list_linked(&j->link))
        list_remove(&j->link);
    weft__unlock(&b->lock);
}

static __attribute__((noinline)) int join_wait(struct weft__frame *f, weft_task id)
{
    struct weft__joiner j = { .id = id };
    int rc = weft__await_begin(f, &j.token);
    if (rc < 0)
        return rc;
    if (!weft__join_publish(&j)) {
        if (!weft__await_give_up(f))
            (void)weft__await(f); /* a cancel, too late: it has ended */
        return 0;
    }
    weft__waits_for(f, WEFT__WAITS_TASK, (uint64_t)id);
    enum weft__cause cause = weft__await(f);
    if (cause != WEFT__CAUSE_CANCEL)
        return 0;
    weft__join_unpublish(&j);
    return weft_task_alive(id) ? -ECANCELED : 0;
}

/* `lives`: as weft__join_look says. */
static inline int join(struct weft__frame *f, weft_task id, int lives)
{
    int rc = weft__enter_call(f);
    if (rc < 0 || !lives)
        return rc;
    return weft__join_inline(f, weft__task_at(weft__id_index(id)), id) ? 0 : weft__on_stack(join_wait(f, id));
}

/* Any task or thread, any id. */
static __attribute__((noinline)) int join_any(weft_task id)
{
    struct weft__frame *f = weft__current();
    if (id < 0)
        return id < -4095 ? -EINVAL : (int)id;
    if (!f)
        return weft__no_frame();
    int lives = weft__join_look(f, id);
    return lives < 0 ? lives : join(f, id, lives);
}

int weft_task_join(weft_task id)
{
    struct weft__sched *w = weft__self();
    if (!w || id <= 0 || at_load(&w->newest.item) != (uint64_t)id || !own(w->frame)->task)
        return weft__on_stack(join_any(id));
    /* The newest that this worker has spawned. What waits there lives, as a rule; if not, both ways of joining find out. */
    return weft__on_stack(join(own(w->frame), id, 1));
}

int weft_task_on_done(weft_task id, weft_callback *cb, void *arg)
{
    struct weft__task *t;
    if (!cb || id <= 0)
        return -EINVAL;
    int lives = weft__forked ? -ECHILD : look_up(id, &t);
    if (lives <= 0)
        return lives == 0 ? -ESRCH : lives;
    struct on_done *d = weft__mem_zeroed(sizeof *d);
    if (!d)
        return -ENOMEM;
    d->id = id;
    d->fn = cb;
    d->arg = arg;
    d->handed = weft__handed_hold(weft__values_to_hand_on());
    struct bucket *b = bucket_of(id);
    weft__lock(&b->lock);
    bool registered = mark_joined(t, id);
    if (registered) {
        if (!b->on_done.next)
            list_init(&b->on_done);
        list_push_tail(&b->on_done, &d->link);
    }
    weft__unlock(&b->lock);
    if (registered)
        return 0;
    weft__handed_let_go(d->handed);
    weft__mem_free(d);
    return -ESRCH;
}

/* ---- names and cancel: the life is held for as long as they look at the frame */

/* J2. 1 held; 0 it has ended; -EINVAL. */
static int hold(weft_task id, struct weft__task **out)
{
    int rc = look_up(id, out);
    while (rc == 1 && !weft__life_try_hold(*out, id)) {
        if ((at_load(&(*out)->life) & WEFT__LIFE_ID) != (uint64_t)id)
            return 0;
        sched_yield();
    }
    return rc;
}

/* Without memory there is none. The life is held. */
static void keep_reason(weft_task id, const char *text, const void *site)
{
    struct bucket *b = bucket_of(id);
    struct reason *fresh = weft__mem_zeroed(sizeof *fresh), *r;
    weft__lock(&b->lock);
    if (!(r = find_reason(b, id)) && fresh) {
        if (!b->reasons.next)
            list_init(&b->reasons);
        r = fresh;
        r->id = id;
        fresh = NULL;
        list_push_tail(&b->reasons, &r->link);
    }
    if (r)
        weft__told_write(&r->told, text, site);
    weft__unlock(&b->lock);
    weft__mem_free(fresh);
}

const struct weft__told *weft__task_told(weft_task id, bool wait)
{
    struct bucket *b = bucket_of(id);
    if (wait)
        weft__lock(&b->lock);
    else if (!weft__trylock(&b->lock))
        return NULL;
    struct reason *r = find_reason(b, id);
    weft__unlock(&b->lock);
    return r ? &r->told : NULL;
}

int weft_task_cancel(weft_task id, const char *reason)
{
    struct weft__task *t;
    int rc = weft__forked ? -ECHILD : hold(id, &t);
    if (rc <= 0)
        return rc == 0 ? -ESRCH : rc;
    keep_reason(id, reason, __builtin_return_address(0)); /* before the mark: who sees the mark finds the reason */
    weft__cancel_task(t);
    weft__life_release(t);
    return 0;
}

const char *weft__frame_name(const struct weft__frame *f)
{
    return f->side ? f->side->name : "";
}

void weft__report_task(const struct weft__frame *f, const char *what, int code, const char *text)
{
    weft__report(f->group ? weft__runtime_of(f->group) : NULL, &(weft_report){ .what = what, .task = f->id,
            .task_name = weft__frame_name(f), .site = f->site, .code = code, .text = text });
}

void weft__task_describe(struct weft__frame *f, char *out, unsigned long bytes)
{
    const char *name = weft__frame_name(f);
    snprintf(out, bytes, "task %lld%s%s%s (%p)", (long long)f->id, name[0] ? " \"" : "", name, name[0] ? "\"" : "",
            (void *)(uintptr_t)f->fn);
}

/* The options of a task that is not started yet. Its starter clears SIDE before it puts its frame's address into
 * side; so if SIDE is still there afterwards, what was read are the options. */
static struct weft__side *unstarted_side(struct weft__task *t)
{
    uint32_t bits = ati_load_acquire(&t->bits);
    uint64_t side = at_load_acquire(&t->side);
    bool same = (bits & WEFT__TASK_SIDE) && ati_load_acquire(&t->bits) == bits;
    return same ? (struct weft__side *)(uintptr_t)side : NULL;
}

int weft_task_name(weft_task id, char *out, size_t bytes)
{
    struct weft__task *t;
    if (!out || bytes == 0)
        return -EINVAL;
    int rc = weft__forked ? -ECHILD : hold(id, &t);
    if (rc <= 0)
        return rc == 0 ? -ESRCH : rc;
    struct weft__side *d;
    struct weft__frame *f;
    do { /* again if it is being started just now */
        d = unstarted_side(t);
        f = d ? NULL : weft__task_frame(t);
        if (f)
            d = f->side;
    } while (!d && !f && weft__task_has(t, WEFT__TASK_SIDE));
    int n = snprintf(out, bytes, "%s", d ? d->name : "");
    weft__life_release(t);
    return n;
}

void weft_task_set_name(const char *name)
{
    struct weft__task *t;
    struct weft__sched *s = weft__self();
    struct weft__frame *f = s ? own(s->frame) : NULL;
    if (!f || f->id == 0 || hold(f->id, &t) != 1)
        return;
    if (!f->side)
        f->side = weft__mem_zeroed(sizeof *f->side);
    if (f->side)
        snprintf(f->side->name, sizeof f->side->name, "%s", name ? name : "");
    weft__life_release(t);
}

/* Of a task whose life is held. */
static const struct weft__group *group_of(struct weft__task *t)
{
    struct weft__scope *s = (struct weft__scope *)(uintptr_t)at_load(&t->scope);
    struct weft__frame *f = weft__task_frame(t);
    return f ? f->group : s ? weft__scope_group(s) : NULL;
}

/* The same; NULL: it is not known yet, or nothing but the site is kept. */
static const void *site_of(struct weft__task *t)
{
    struct weft__side *d = unstarted_side(t);
    struct weft__frame *f = d ? NULL : weft__task_frame(t);
    return d ? d->site : f ? f->site : NULL;
}

bool weft__task_who(weft_task id, const struct weft__frame *f, struct weft__who *out)
{
    struct weft__task *t;
    if (hold(id, &t) != 1)
        return false;
    bool same = weft__task_frame(t) == f;
    if (same) {
        const struct weft__stack *k = own(f->stack);
        snprintf(out->name, sizeof out->name, "%s", weft__frame_name(f));
        out->site = f->site;
        out->low = own(k->low);
        out->high = own(k->high);
    }
    weft__life_release(t);
    return same;
}

int weft__report_tasks(struct weft_runtime *rt, const char *what, int code, const char *text)
{
    int n = 0;
    uint32_t used = weft__task_table_used();
    for (uint32_t i = 0; i < used; i++) {
        struct weft__task *t;
        weft_task id = (weft_task)(at_load_acquire(&weft__task_at(i)->life) & WEFT__LIFE_ID);
        if (id == 0 || hold(id, &t) != 1)
            continue;
        bool left = group_of(t) == &rt->group;
        const void *site = left ? site_of(t) : NULL;
        weft__life_release(t);
        char name[WEFT__NAME_BYTES] = "";
        if (!left || weft_task_name(id, name, sizeof name) < 0)
            continue;
        n++;
        weft__report(rt, &(weft_report){ .what = what, .task = id, .task_name = name, .site = site, .code = code, .text = text });
    }
    return n;
}

void weft__report_left(struct weft_runtime *rt)
{
    (void)weft__report_tasks(rt, "shutdown", -ETIMEDOUT, "was told to leave, and is still there");
}

bool weft_cancelled_by(weft_canceller *out)
{
    struct weft__frame *f = weft__current();
    if (!out)
        return false;
    memset(out, 0, sizeof *out);
    return f && weft__told(f) && weft__told_why(f, out);
}

const char *weft_cancel_reason(void)
{
    weft_canceller by;
    return weft_cancelled_by(&by) ? by.reason : NULL;
}
