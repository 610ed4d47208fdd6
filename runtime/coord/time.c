/* coord/time.c - sleep, yield, check, and the ambient deadline, as a task calls them. */
#include <errno.h>
#include <sched.h>
#include <weft/task.h>
#include <weft/time.h>

#include "base/clock.h"
#include "base/fork.h"
#include "coord/await.h"
#include "coord/oslock.h"

int64_t weft_now(void)
{
    struct weft__sched *s = ati_load(&weft__clock_virtuals) ? weft__self() : NULL;
    return s ? weft__clock_now(&s->group->clock) : weft__now();
}

int64_t weft_after(int64_t within)
{
    return weft__time_add(weft_now(), within);
}

int64_t weft_deadline(void)
{
    struct weft__frame *f = weft__current();
    return f ? weft__earliest_deadline(f) : WEFT_NEVER;
}

int64_t weft_remaining(void)
{
    int64_t at = weft_deadline();
    if (at == WEFT_NEVER)
        return WEFT_NEVER;
    int64_t left = at - weft_now();
    return left > 0 ? left : 0;
}

static int thread_sleep(struct weft__frame *f, int64_t at)
{
    weft__token k;
    int rc = weft__await_begin(f, &k);
    if (rc < 0)
        return rc;
    return weft__await_until(f, at) == WEFT__CAUSE_CANCEL ? -ECANCELED : 0;
}

int weft_sleep_until(int64_t at)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (weft__is_thread(f))
        return thread_sleep(f, at);
    struct weft__sleeper sleeper = { .timer = { .kind = WEFT__TIMER_WAKE } };
    int rc = weft__await_begin(f, &sleeper.token);
    if (rc < 0)
        return rc;
    if (at != WEFT_NEVER) {
        struct weft__worker *w = weft__worker_of(weft__self());
        bool first = false;
        rc = weft__timer_arm(&w->timers, &sleeper.timer, at, &first);
        if (rc < 0) {
            if (weft__await_give_up(f) || weft__await(f) != WEFT__CAUSE_CANCEL)
                return rc;
            return -ECANCELED;
        }
        if (first)
            weft__worker_due(&w->sched, at);
    }
    weft__waits_for(f, WEFT__WAITS_SLEEP, 0);
    if (weft__await(f) != WEFT__CAUSE_CANCEL)
        return 0;
    if (at != WEFT_NEVER)
        weft__timer_disarm(&sleeper.timer);
    return -ECANCELED;
}

int weft_sleep(int64_t within)
{
    if (within <= 0)
        return weft__on_stack(weft_yield());
    return weft__on_stack(weft_sleep_until(weft_after(within)));
}

int weft_yield(void)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (weft__is_thread(f)) {
        sched_yield();
    } else {
        weft__oslocks_look(f);
        weft__yield_hand_on();
    }
    if (--f->budget <= 0) {
        f->budget = WEFT__BUDGET;
        weft__strike_overdue(f);
    }
    if (!weft__told(f)) {
        f->refusals = 0;
        return 0;
    }
    return weft__on_stack(weft__refuse(f));
}

int weft_check(void)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__forked ? -ECHILD : 0;
    weft__strike_overdue(f);
    return weft__told(f) ? -ECANCELED : 0;
}
