/* coord/await.c - how every blocking call waits. See await.h.
 *
 * Owns      refusals: a call that is refused yields, so that a loop that ignores refusals lets others run, and after
 *           1000 in a row it is slowed to one a millisecond and reported once; and the frames of plain threads. */
#include "coord/await.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fork.h"
#include "base/mem.h"
#include "coord/error.h"
#include "coord/keeps.h"
#include "coord/orphan.h"

enum { REFUSALS = 1000, NAP_NS = 1000000 };

/* ---- plain threads: a control block and a frame of their own, made at the first call that needs them */

static pthread_key_t thread_key;
static at_int thread_key_made;

static void thread_gone(void *frame)
{
    struct weft__frame *f = frame;
    if (weft__forked)
        return;
    if (f->keeps && pthread_setspecific(thread_key, f) == 0) { /* what is dropped there may call weft */
        (void)weft__keeps_end(f, 0);
        (void)pthread_setspecific(thread_key, NULL);
    }
    weft__detail_free(f);
    if (f->held != 0)
        weft__orphaned(f);
    weft__frame_alone_free(f);
}

/* Whether there is a key. If there was none to be had, the next call tries again. */
static bool have_key(void)
{
    static struct weft__lock lock;
    if (ati_load_acquire(&thread_key_made))
        return true;
    weft__lock(&lock);
    if (!ati_load(&thread_key_made) && !weft__fault(WEFT__FAULT_KEY) &&
            pthread_key_create(&thread_key, thread_gone) == 0)
        ati_store_release(&thread_key_made, 1);
    weft__unlock(&lock);
    return ati_load_acquire(&thread_key_made) != 0;
}

/* Fails for one of many keys, for which the thread has no room yet. */
static bool keep_frame(struct weft__frame *f)
{
    return !weft__fault(WEFT__FAULT_KEY) && pthread_setspecific(thread_key, f) == 0;
}

struct weft__frame *weft__thread_known(void)
{
    return !weft__forked && ati_load_acquire(&thread_key_made) ? pthread_getspecific(thread_key) : NULL;
}

struct weft__frame *weft__frame_alone(void)
{
    struct weft__frame *f = NULL;
    if (weft__task_table_init() < 0)
        return NULL;
    struct weft__task *t = weft__task_alloc(NULL);
    if (!t || !(f = weft__mem_zeroed(sizeof *f))) {
        if (t)
            weft__task_free_slow(NULL, t);
        return NULL;
    }
    f->task = t;
    f->budget = WEFT__BUDGET;
    at_store(&t->scope, 0);
    at_store(&t->side, (uint64_t)(uintptr_t)f);
    ati_store(&t->bits, WEFT__TASK_THREAD | WEFT__TASK_STARTED);
    /* The block lives, but under no id: nobody can join or list a thread. */
    f->copy[0] = weft__number_of(at_load(&t->state)) + 1;
    at_store(&t->life, 0);
    at_store_release(&t->state, weft__state(at_load(&t->ticket), 0, 0, WEFT__RUNNING));
    return f;
}

void weft__frame_alone_free(struct weft__frame *f)
{
    weft__detail_free(f);
    weft__task_recycle(NULL, f->task, (weft_task)weft__id_of_thread(f));
    weft__mem_free(f);
}

static struct weft__frame *make_thread_frame(void)
{
    struct weft__frame *f = weft__forked || !have_key() ? NULL : weft__frame_alone();
    if (!f || keep_frame(f))
        return f;
    weft__frame_alone_free(f);
    return NULL;
}

struct weft__frame *weft__thread_frame(void)
{
    struct weft__frame *f = weft__thread_known();
    return f ? f : make_thread_frame();
}

uint64_t weft__id_of_thread(const struct weft__frame *f)
{
    return f->copy[0] << WEFT__INDEX_BITS | weft__task_index(f->task);
}

int weft__no_frame(void)
{
    return weft__forked ? -ECHILD : -ENOMEM;
}

/* The earliest deadline that has not struck yet, of a thread's own scopes. */
static int64_t next_strike(struct weft__frame *f)
{
    int64_t earliest = INT64_MAX;
    for (weft_scope *s = f->inner; s; s = weft__scope_of(s)->outer) {
        int64_t at = (int64_t)at_load(&weft__scope_of(s)->deadline);
        int64_t hard = weft__hard_next(weft__scope_of(s));
        if (at < earliest && !(at_load(&weft__scope_of(s)->mark) & WEFT__MARK_DEADLINE))
            earliest = at;
        if (hard < earliest)
            earliest = hard;
    }
    return earliest;
}

void weft__await_thread(struct weft__frame *f, int64_t until)
{
    struct weft__task *t = f->task;
    ati_store(&f->timed, until != INT64_MAX || next_strike(f) != INT64_MAX);
    if (!weft__wait_commit(t))
        return;
    weft__roots_wait(f);
    for (;;) {
        uint64_t state = at_load_acquire(&t->state);
        if (weft__phase_of(state) != WEFT__WAITING)
            return;
        int64_t strike = next_strike(f);
        /* The low half of the state holds phase, cause and level: it changes when the wait is fired. */
        int64_t first = strike < until ? strike : until;
        if (weft__host_wait((at_int *)(void *)&t->state, (uint32_t)state, first,
                    first != INT64_MAX ? WEFT__HOST_ACTS : weft__roots_host(f)))
            continue;
        weft__strike_overdue(f);
        weft__hard_overdue(f);
        if (weft__now() >= until)
            weft__wait_claim(weft__token_make(t, weft__number_of(state)), WEFT__CAUSE_EVENT);
    }
}

/* ---- waits */

void weft__nap(struct weft__frame *f)
{
    if (weft__is_thread(f)) {
        at_int never = 0;
        weft__futex_wait(&never, 0, weft__now() + NAP_NS);
        return;
    }
    struct weft__worker *w = weft__worker_of(weft__self());
    struct weft__sleeper sleeper = { .timer = { .kind = WEFT__TIMER_WAKE } };
    sleeper.token = weft__await_begin_shielded(f);
    bool first = false;
    if (weft__timer_arm(&w->timers, &sleeper.timer, weft__frame_now(f) + NAP_NS, &first) < 0) {
        if (weft__await_give_up(f))
            weft__yield_now();
        return;
    }
    if (first)
        weft__worker_due(&w->sched, sleeper.timer.at);
    weft__waits_for(f, WEFT__WAITS_NAP, 0);
    weft__await(f);
}

int weft__refuse(struct weft__frame *f)
{
    /* Not what the call would have waited for: what waits here, or in the program's report function, is another wait, which
     * the end of a mutex's holder must not end (coord/orphan.c). */
    weft__waits_for(f, WEFT__WAITS_NOT, 0);
    if (++f->refusals < REFUSALS) {
        if (weft__is_thread(f))
            sched_yield();
        else
            weft__yield_now();
        return -ECANCELED;
    }
    if (f->refusals == REFUSALS)
        weft__report_task(f, "refusals", -ECANCELED,
                "was told to leave, and went on calling 1000 times; from now on once a millisecond");
    weft__nap(f);
    return -ECANCELED;
}

int weft__await_begin(struct weft__frame *f, weft__token *token)
{
    int rc = weft__attach(f);
    if (rc < 0)
        return rc;
    *token = weft__wait_begin(f->task, f->shield);
    if (weft__is_thread(f)) {
        at_fence_full(); /* before W2; of a task W6 does what it would do */
        weft__strike_overdue(f);
    }
    if (!weft__told(f)) {
        f->refusals = 0;
        return 0;
    }
    if (!weft__wait_give_up(f->task))
        (void)weft__wait_cause(f->task);
    return weft__refuse(f);
}

weft__token weft__await_begin_shielded(struct weft__frame *f)
{
    return weft__wait_begin(f->task, WEFT__LEVEL_NONE);
}

void (*weft__await_hook)(struct weft__frame *f);

void weft__await_meanwhile(struct weft__frame *f)
{
    if (weft__await_hook)
        weft__await_hook(f);
    if (weft__chaos_somewhere())
        weft__chaos_delay(); /* W3 is done: it may be fired before it sleeps */
}

enum weft__cause weft__await_until(struct weft__frame *f, int64_t until)
{
    return weft__await_inline(f, until);
}

enum weft__cause weft__await(struct weft__frame *f)
{
    return weft__await_inline(f, INT64_MAX);
}

void weft__spent(struct weft__frame *f)
{
    f->budget = WEFT__BUDGET;
    weft__strike_overdue(f);
    if (!weft__is_thread(f)) {
        weft__oslocks_look(f);
        weft__yield_now();
    }
}

void weft__entered_often(struct weft__frame *f)
{
    if (f->budget <= 0 || weft__chaos_once_in(8))
        weft__spent(f);
}
