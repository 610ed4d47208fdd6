/* coord/supervise.c - children that are restarted when they fail.
 *
 * Owns      which children are to run again, and whether that was too often.
 * Callers   weft_supervise: the task that supervises; everything here but `run` runs in it.
 * Holds     U1  a child is in one place: running (its task lives), wanted (it has ended, and is started again when all that
 *               are to be stopped for it have ended), or over.
 *           U2  a pause before a restart is the restarted task's own, so the supervisor always hears of the next failure.
 *           U3  one failure counts as one restart, whatever it takes along.
 * Source    Erlang's supervisor: one_for_one, one_for_all, rest_for_one; its intensity and period.
 * Tested    tests/supervise_test.c */
#include <errno.h>
#include <stdio.h>
#include <weft/error.h>
#include <weft/scope.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/pace.h"

enum { MOST = 5 };
#define PERIOD_NS weft_sec(10)

struct slot {
    const weft_child *child;
    weft_task task; /* 0: it does not run */
    int64_t pause, began;
    weft_backoff backoff;
    bool wanted, told; /* to be started again; told to leave for that */
    bool unasked;      /* it ended with -ECANCELED, and nobody had told it to leave: that is a failure as any */
    char text[108];    /* the detail of its last failure; its task's, and the supervisor's when that has ended */
};

struct supervisor {
    weft_scope scope;
    struct weft__frame *frame;
    struct slot *slots;
    size_t n;
    int restart, most;
    int64_t period;
    int64_t *restarts; /* a ring of the last `most` times */
    int restarted, at;
};

/* A child, in its own task. */
static int run(void *arg)
{
    struct slot *slot = *(struct slot **)arg;
    slot->text[0] = 0;
    int rc = slot->pause > 0 ? weft_sleep(slot->pause) : 0;
    if (rc == 0)
        rc = slot->child->fn(slot->child->arg);
    slot->unasked = rc == -ECANCELED && weft_check() == 0;
    if (rc < 0)
        snprintf(slot->text, sizeof slot->text, "%s", weft_error_text(rc));
    return rc;
}

static int start(struct supervisor *v, struct slot *slot)
{
    slot->wanted = slot->told = false;
    slot->began = weft__time_add(weft__frame_now(v->frame), slot->pause);
    slot->task = weft_spawn_with(&v->scope, run, &slot,
            &(weft_spawn_options){ .name = slot->child->name, .copy_bytes = sizeof slot });
    if (slot->task > 0)
        return 0;
    int rc = (int)slot->task;
    slot->task = 0;
    return rc;
}

/* U3. Whether one more is allowed now. */
static bool may_restart(struct supervisor *v)
{
    int64_t now = weft__frame_now(v->frame);
    if (v->restarted == v->most && v->restarts[v->at] > now - v->period)
        return false;
    v->restarts[v->at] = now;
    v->at = (v->at + 1) % v->most;
    if (v->restarted < v->most)
        v->restarted++;
    return true;
}

/* It goes down with a sibling, and comes again. */
static void stop(struct slot *slot)
{
    if (slot->task == 0 || slot->told)
        return;
    slot->told = true;
    weft_task_cancel(slot->task, "a sibling is restarted");
}

static void stop_others(struct supervisor *v, struct slot *failed)
{
    struct slot *from = v->restart == WEFT_RESTART_ALL ? v->slots : failed;
    for (struct slot *o = from; v->restart != WEFT_RESTART_ONE && o < v->slots + v->n; o++)
        stop(o);
}

/* False: it is not to be restarted, and all is over. */
static bool want_again(struct supervisor *v, struct slot *slot)
{
    int64_t now = weft__frame_now(v->frame);
    if (now > slot->began && now - slot->began >= v->period)
        slot->backoff.used = 0;
    if (!may_restart(v) || !weft__backoff_used(&slot->backoff))
        return false;
    slot->pause = slot->backoff.first > 0 ? weft__backoff_pause(&slot->backoff, v->frame) : 0;
    slot->wanted = true;
    stop_others(v, slot);
    return true;
}

static bool stopping(const struct supervisor *v)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->slots[i].task != 0 && v->slots[i].told)
            return true;
    return false;
}

/* U1. Those that wait for others to stop are started in the array's order. */
static int start_wanted(struct supervisor *v)
{
    int rc = 0;
    for (size_t i = 0; i < v->n && rc == 0 && !stopping(v); i++)
        if (v->slots[i].wanted)
            rc = start(v, &v->slots[i]);
    return rc;
}

/* The child of `d` has ended. 0: go on; else the failure that ends all, in *why whose. */
static int ended(struct supervisor *v, const weft_done *d, struct slot **why)
{
    struct slot *slot = *(struct slot **)d->arg;
    slot->task = 0;
    if (slot->told) {
        slot->wanted = true;
        slot->pause = 0; /* now that it reads it no more */
    } else if (d->code < 0 && (d->code != -ECANCELED || slot->unasked)) {
        if (!want_again(v, slot)) {
            *why = slot;
            return d->code;
        }
    }
    return start_wanted(v);
}

static int supervise(struct supervisor *v)
{
    struct slot *why = NULL;
    weft_done d;
    int rc = 0, got = 0;
    weft_scope_begin_with(&v->scope, WEFT_NEVER,
            &(weft_scope_options){ .name = "supervise", .join = WEFT_JOIN_KEEP_GOING, .collect = true });
    for (size_t i = 0; i < v->n && rc == 0; i++)
        rc = start(v, &v->slots[i]);
    while (rc == 0 && (got = weft_scope_next(&v->scope, &d)) > 0)
        rc = ended(v, &d, &why);
    if (rc == 0)
        rc = got;
    if (rc < 0)
        weft_scope_cancel(&v->scope, why ? "restarted too often" : "its supervisor ends");
    /* Its verdict knows of each failure; ours is of the last. */
    int verdict = weft_scope_end(&v->scope, 0);
    if (rc == -EINVAL && !why)
        rc = verdict; /* the scope could not be made */
    return why ? weft_fail_text(rc, why->text) : rc;
}

static int bad(const weft_child *children, size_t n, const weft_supervise_options *o)
{
    if (!weft__reserved_zero(o))
        return -EINVAL;
    if (o->restart < WEFT_RESTART_ONE || o->restart > WEFT_RESTART_REST || o->most < 0 || o->period < 0 ||
            weft__backoff_bad(&o->backoff) || (!children && n > 0))
        return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (!children[i].fn)
            return -EINVAL;
    return 0;
}

int weft_supervise(const weft_child *children, size_t n, const weft_supervise_options *o)
{
    static const weft_supervise_options defaults;
    struct supervisor v = { .n = n, .frame = weft__current() };
    if (!v.frame)
        return weft__no_frame();
    if (!o)
        o = &defaults;
    int rc = bad(children, n, o);
    if (rc < 0 || n == 0)
        return rc;
    v.restart = o->restart;
    v.most = o->most > 0 ? o->most : MOST;
    v.period = o->period > 0 ? o->period : PERIOD_NS;
    if (n > SIZE_MAX / 2 / sizeof *v.slots)
        return -ENOMEM;
    v.slots = weft__mem_zeroed(n * sizeof *v.slots);
    v.restarts = weft__mem_zeroed((size_t)v.most * sizeof *v.restarts);
    rc = v.slots && v.restarts ? 0 : -ENOMEM;
    for (size_t i = 0; i < n && rc == 0; i++) {
        v.slots[i].child = &children[i];
        v.slots[i].backoff = o->backoff;
    }
    if (rc == 0)
        rc = supervise(&v);
    weft__mem_free(v.restarts);
    weft__mem_free(v.slots);
    return rc;
}
