/* report/view.c - what one task does just now, and how it is said.
 *
 * Owns      nothing. Looks at the control block, and through it at the frame, while everything goes on.
 * Callers   weft_dump, from any thread; the report of a deadlock, from the I/O thread.
 * Holds     D1  no task's code is run, nothing is allocated, and no lock is waited for that a task could hold: a
 *               life that is held by somebody else (coord/task.c, J2) is not looked into.
 *           D2  while we hold a task's life it does not end, nor do its scope and the owner of that; what else changes
 *               meanwhile is read as it is: a line may mix two moments, and is never of two tasks.
 * Tested    tests/dump_test.c, tests/deadlock_test.c */
#include "report/view.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weft/error.h>

#include "base/clock.h"
#include "base/code.h"
#include "base/errno.h"
#include "coord/scope.h"

#ifdef WEFT__TSAN
#define NOT_INSTRUMENTED __attribute__((no_sanitize("thread")))
#else
#define NOT_INSTRUMENTED
#endif

/* ---- the text */

void weft__out_flush(struct weft__out *o)
{
    if (o->fd == WEFT__IN_MEMORY)
        return; /* it stays in memory; what does not fit is left out */
    for (size_t at = 0; at < o->n && o->rc == 0;) {
        ssize_t n = write(o->fd, o->text + at, o->n - at);
        if (n >= 0) {
            at += (size_t)n;
            continue;
        }
        int rc = -weft__errno();
        if (rc == -EAGAIN)
            poll(&(struct pollfd){ .fd = o->fd, .events = POLLOUT }, 1, -1);
        else if (rc != -EINTR)
            o->rc = rc;
    }
    o->n = 0;
}

void weft__say(struct weft__out *o, const char *format, ...)
{
    enum { LINE = 512 };
    va_list args;
    if (WEFT__OUT_BYTES - o->n < LINE)
        weft__out_flush(o);
    va_start(args, format);
    size_t most = WEFT__OUT_BYTES - o->n < LINE ? WEFT__OUT_BYTES - o->n : LINE;
    int n = vsnprintf(o->text + o->n, most, format, args);
    va_end(args);
    if (n > 0)
        o->n += (size_t)n < most ? (size_t)n : most - 1;
}

void weft__say_code(struct weft__out *o, const void *p)
{
    struct weft__code *c = &o->codes[((uintptr_t)p >> 2) % WEFT__CODES];
    if (c->at != p || !c->text[0]) {
        c->at = p;
        weft__code_text(c->text, WEFT__CODE_BYTES, p);
    }
    weft__say(o, "%s", c->text);
}

void weft__say_ms(struct weft__out *o, uint64_t ticks)
{
    uint64_t us = weft__ticks_to_us(ticks);
    weft__say(o, " %llu.%llu ms", (unsigned long long)(us / 1000), (unsigned long long)(us % 1000 / 100));
}

/* ---- a task */

static void copy_name(char *out, const char *name)
{
    snprintf(out, WEFT__NAME_BYTES, "%s", name);
}

NOT_INSTRUMENTED static void look_at_scope(struct weft__view *v, struct weft__scope *s)
{
    v->scope = s;
    if (weft__told_from_scope(v->id, v->cancelled, s, &v->told))
        copy_name(v->reason, v->told.reason); /* that itself may go with the task */
    v->told.reason = NULL;
    if (!s)
        return;
    v->owner = s->owner && s->owner->group ? s->owner->id : 0;
    const struct weft__scope_extra *x = (const struct weft__scope_extra *)at_load_acquire(&s->extra);
    if (x && x->name)
        copy_name(v->scope_name, x->name);
}

/* The life is held. A task that is being started just now is taken for one that is not. */
NOT_INSTRUMENTED static void look_inside(struct weft__view *v, struct weft__task *t)
{
    uint32_t bits = ati_load_acquire(&t->bits);
    const struct weft__side *side = NULL;
    if (bits & WEFT__TASK_STARTED) {
        const struct weft__frame *f = (const struct weft__frame *)(uintptr_t)at_load_acquire(&t->side);
        v->fn = (const void *)(uintptr_t)f->fn;
        v->site = f->site;
        v->waits = own(f->waits);
        uint64_t left = own(f->left), now = f->group ? weft__group_ticks(f->group) : 0;
        v->waited = left != 0 && now > left ? now - left : 0;
        uint64_t begun = own(f->begun);
        v->age = begun != 0 && now > begun ? now - begun : 0;
        v->group = f->group;
        v->below = f->below ? f->below->id : 0; /* it waits for this one's end */
        side = f->side;
    } else if (v->state == weft__state(weft__id_generation(v->id), 0, 0, WEFT__NEW)) {
        /* What the spawner wrote, by the acquire of the state. */
        v->fn = (const void *)(uintptr_t)at_load(&t->fn);
        uint64_t there = at_load_acquire(bits & WEFT__TASK_COPY ? &weft__members[weft__task_index(t)].site : &t->side);
        if (at_load_acquire(&t->state) == v->state) { /* else it was started meanwhile */
            if (bits & WEFT__TASK_SIDE)
                side = (const struct weft__side *)(uintptr_t)there;
            v->site = side ? side->site : (const void *)(uintptr_t)there;
        }
    } else {
        return; /* it is between the two */
    }
    if (side)
        copy_name(v->name, side->name);
    look_at_scope(v, (struct weft__scope *)(uintptr_t)at_load(&t->scope));
}

bool weft__view_task(struct weft__view *v, struct weft__task *t)
{
    memset(v, 0, sizeof *v);
    uint64_t life = at_load_acquire(&t->life);
    v->id = (weft_task)(life & WEFT__LIFE_ID);
    if (v->id == 0)
        return false;
    v->cancelled = (life & WEFT__LIFE_CANCELLED) != 0;
    v->held = weft__life_try_hold(t, v->id);
    v->state = at_load_acquire(&t->state);
    if (v->held) {
        look_inside(v, t);
        weft__life_release(t);
    }
    return true;
}

/* What is waited for at an object; its address follows, or comes in between. */
static const char *const at_object[][2] = {
    [WEFT__WAITS_SEND] = { ", to send to channel ", "" },
    [WEFT__WAITS_RECV] = { ", to receive from channel ", "" },
    [WEFT__WAITS_DRAIN] = { ", for what was received from channel ", " to be done" },
    [WEFT__WAITS_SELECT] = { ", for one of the cases at ", "" },
    [WEFT__WAITS_MUTEX] = { ", for mutex ", "" },
    [WEFT__WAITS_RWLOCK_READ] = { ", to read under lock ", "" },
    [WEFT__WAITS_RWLOCK_WRITE] = { ", to write under lock ", "" },
    [WEFT__WAITS_COND] = { ", for condition ", "" },
    [WEFT__WAITS_EVENT] = { ", for event ", "" },
    [WEFT__WAITS_NOTIFY] = { ", to be notified by ", "" },
    [WEFT__WAITS_SEM] = { ", for permits of semaphore ", "" },
    [WEFT__WAITS_BARRIER] = { ", at barrier ", "" },
    [WEFT__WAITS_WAITGROUP] = { ", for wait-group ", "" },
    [WEFT__WAITS_ONCE] = { ", for another's run of once ", "" },
    [WEFT__WAITS_PROMISE] = { ", for promise ", "" },
    [WEFT__WAITS_TIMER] = { ", for timer ", "" },
    [WEFT__WAITS_DELAY] = { ", to take from delay queue ", "" },
};

static const char *const in_lane[] = {
    [WEFT__WAITS_BLOCKING] = "the pool",
    [WEFT__WAITS_FILES] = "the files' lane",
    [WEFT__WAITS_NAMES] = "the names' lane",
    [WEFT__WAITS_LANE] = "a lane of the program's",
};

void weft__say_wait(struct weft__out *o, const struct weft__view *v)
{
    uint64_t what = weft__view_object(v);
    enum weft__waits kind = weft__view_kind(v);
    if (v->waited != 0)
        weft__say_ms(o, v->waited);
    switch (kind) {
    case WEFT__WAITS_NOT:
        break;
    case WEFT__WAITS_SLEEP:
        weft__say(o, ", sleeps");
        break;
    case WEFT__WAITS_TASK:
        weft__say(o, ", for the end of task %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_CHILDREN:
        weft__say(o, ", for the children of scope 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_READ:
        weft__say(o, ", to read from descriptor %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_WRITE:
        weft__say(o, ", to write to descriptor %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_READY:
        weft__say(o, ", for descriptor %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_BLOCKING:
    case WEFT__WAITS_FILES:
    case WEFT__WAITS_NAMES:
    case WEFT__WAITS_LANE:
        weft__say(o, ", for a call in %s: ", in_lane[kind]);
        weft__say_code(o, (const void *)(uintptr_t)what);
        break;
    case WEFT__WAITS_NAP:
        weft__say(o, ", refused too often");
        break;
    case WEFT__WAITS_SEND:
    case WEFT__WAITS_RECV:
    case WEFT__WAITS_DRAIN:
    case WEFT__WAITS_SELECT:
    case WEFT__WAITS_MUTEX:
    case WEFT__WAITS_RWLOCK_READ:
    case WEFT__WAITS_RWLOCK_WRITE:
    case WEFT__WAITS_COND:
    case WEFT__WAITS_EVENT:
    case WEFT__WAITS_NOTIFY:
    case WEFT__WAITS_SEM:
    case WEFT__WAITS_BARRIER:
    case WEFT__WAITS_WAITGROUP:
    case WEFT__WAITS_ONCE:
    case WEFT__WAITS_PROMISE:
    case WEFT__WAITS_TIMER:
    case WEFT__WAITS_DELAY:
        weft__say(o, "%s0x%llx%s", at_object[kind][0], (unsigned long long)what, at_object[kind][1]);
        break;
    }
}

static void say_told(struct weft__out *o, const struct weft__view *v)
{
    weft__say(o, ", told to leave: %s", v->reason);
    if (v->told.code != -ECANCELED && v->told.code != -ETIMEDOUT)
        weft__say(o, " (%s)", weft_strerror(v->told.code));
    if (v->told.task != 0)
        weft__say(o, ", by task %lld", (long long)v->told.task);
    if (v->told.site) {
        weft__say(o, " at ");
        weft__say_code(o, v->told.site);
    }
}

void weft__say_task(struct weft__out *o, const struct weft__view *v)
{
    weft__say(o, "task %lld", (long long)v->id);
    if (v->name[0])
        weft__say(o, " \"%s\"", v->name);
    switch (weft__phase_of(v->state)) {
    case WEFT__FREE:
        weft__say(o, " ends"); /* just now */
        break;
    case WEFT__NEW:
        weft__say(o, " new");
        break;
    case WEFT__RUNNING: /* also in a ring after a yield, or while a child of its own runs as a call */
    case WEFT__PREPARING:
    case WEFT__FIRED:
        weft__say(o, v->calls ? " in a call of its child" : " running");
        break;
    case WEFT__WAITING:
        weft__say(o, " waiting");
        weft__say_wait(o, v);
        break;
    case WEFT__READY:
        weft__say(o, " ready, waited");
        weft__say_wait(o, v);
        break;
    }
    if (v->below)
        weft__say(o, ", as a call by task %lld", (long long)v->below);
    weft__say(o, v->cancelled ? ", cancelled; " : "; ");
    if (!v->fn) {
        weft__say(o, v->held ? "it begins just now\n" : "somebody holds it just now\n");
        return;
    }
    weft__say_code(o, v->fn);
    if (v->age != 0) {
        weft__say(o, ", begun");
        weft__say_ms(o, v->age);
        weft__say(o, " ago");
    }
    if (v->site) {
        weft__say(o, ", spawned at ");
        weft__say_code(o, v->site);
    }
    weft__say(o, ", in scope %p", v->scope);
    if (v->scope_name[0])
        weft__say(o, " \"%s\"", v->scope_name);
    if (v->owner)
        weft__say(o, " of task %lld", (long long)v->owner);
    if (v->reason[0])
        say_told(o, v);
    weft__say(o, "\n");
}
