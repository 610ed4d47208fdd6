/* report/dump.c - every live task, in words.
 *
 * Owns      nothing. Looks at the control blocks, and through them at frames, while everything goes on.
 * Callers   any thread, a task, the I/O thread when a signal asks.
 * Holds     D1  no task's code is run, nothing is allocated, and no lock is waited for that a task could hold: a
 *               life that is held by somebody else (coord/task.c, J2) is not looked into.
 *           D2  while we hold a task's life it does not end, nor do its scope and the owner of that; what else changes
 *               meanwhile is read as it is: a line may mix two moments, and is never of two tasks.
 * Cost      some microseconds a task; no worker is stopped, and one that ends a task just then waits as long. */
#include <dlfcn.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weft/report.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fork.h"
#include "coord/scope.h"
#include "coord/side.h"

#ifdef WEFT__TSAN
#define NOT_INSTRUMENTED __attribute__((no_sanitize("thread")))
#else
#define NOT_INSTRUMENTED
#endif

/* ---- the text */

enum { CODES = 32, CODE_BYTES = 96 };

struct out {
    int fd, rc;
    size_t n;
    char text[8192];
    /* Addresses as they are said: there are few, and to look one up takes microseconds. */
    struct code {
        const void *at;
        char text[CODE_BYTES];
    } codes[CODES];
};

static void flush(struct out *o)
{
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

static __attribute__((format(printf, 2, 3))) void say(struct out *o, const char *format, ...)
{
    enum { LINE = 512 };
    va_list args;
    if (sizeof o->text - o->n < LINE)
        flush(o);
    va_start(args, format);
    int n = vsnprintf(o->text + o->n, LINE, format, args);
    va_end(args);
    if (n > 0)
        o->n += n < LINE ? (size_t)n : LINE - 1;
}

/* "serve+0x1c (echo)" where the symbol is exported, else "echo+0x31c4", which addr2line understands. */
static void look_up(char *out, const void *p)
{
    Dl_info at;
    if (!p || dladdr(p, &at) == 0 || !at.dli_fname) {
        snprintf(out, CODE_BYTES, "%p", p);
        return;
    }
    const char *file = strrchr(at.dli_fname, '/');
    file = file ? file + 1 : at.dli_fname;
    if (at.dli_sname && at.dli_saddr == p)
        snprintf(out, CODE_BYTES, "%s (%s)", at.dli_sname, file);
    else if (at.dli_sname)
        snprintf(out, CODE_BYTES, "%s+0x%tx (%s)", at.dli_sname, (const char *)p - (const char *)at.dli_saddr, file);
    else
        snprintf(out, CODE_BYTES, "%s+0x%tx", file, (const char *)p - (const char *)at.dli_fbase);
}

static void say_code(struct out *o, const void *p)
{
    struct code *c = &o->codes[((uintptr_t)p >> 2) % CODES];
    if (c->at != p || !c->text[0]) {
        c->at = p;
        look_up(c->text, p);
    }
    say(o, "%s", c->text);
}

static void say_ms(struct out *o, uint64_t ticks)
{
    uint64_t us = ticks / weft__ticks_per_us;
    say(o, " %llu.%llu ms", (unsigned long long)(us / 1000), (unsigned long long)(us % 1000 / 100));
}

/* ---- a task */

/* What is known of it when its life was held. */
struct view {
    uint64_t state, waits, waited; /* ticks */
    weft_task id, owner, below;
    bool cancelled, held;
    char name[WEFT__NAME_BYTES], scope_name[WEFT__NAME_BYTES], reason[WEFT__NAME_BYTES]; /* why its scope leaves */
    const void *fn, *site, *scope;
};

static void copy_name(char *out, const char *name)
{
    snprintf(out, WEFT__NAME_BYTES, "%s", name);
}

NOT_INSTRUMENTED static void look_at_scope(struct view *v, const struct weft__scope *s)
{
    v->scope = s;
    if (!s)
        return;
    v->owner = s->owner && s->owner->group ? s->owner->id : 0;
    const struct weft__scope_extra *x = (const struct weft__scope_extra *)at_load_acquire(&s->extra);
    if (x && x->name)
        copy_name(v->scope_name, x->name);
    if (x && ati_load_acquire(&x->reason_set) == 2) /* it is not written again */
        copy_name(v->reason, x->reason);
}

/* The life is held. A task that is being started just now is taken for one that is not. */
NOT_INSTRUMENTED static void look_inside(struct view *v, struct weft__task *t)
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
    look_at_scope(v, (const struct weft__scope *)(uintptr_t)at_load(&t->scope));
}

static bool look_at(struct view *v, struct weft__task *t)
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

static void say_wait(struct out *o, const struct view *v)
{
    uint64_t what = v->waits & ((UINT64_C(1) << 56) - 1);
    if (v->waited != 0)
        say_ms(o, v->waited);
    switch ((enum weft__waits)(v->waits >> 56)) {
    case WEFT__WAITS_NOT:
        break;
    case WEFT__WAITS_SLEEP:
        say(o, ", sleeps");
        break;
    case WEFT__WAITS_TASK:
        say(o, ", for the end of task %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_CHILDREN:
        say(o, ", for the children of scope 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_READ:
        say(o, ", to read from descriptor %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_WRITE:
        say(o, ", to write to descriptor %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_READY:
        say(o, ", for descriptor %llu", (unsigned long long)what);
        break;
    case WEFT__WAITS_BLOCKING:
        say(o, ", for a call in the pool: ");
        say_code(o, (const void *)(uintptr_t)what);
        break;
    case WEFT__WAITS_NAP:
        say(o, ", refused too often");
        break;
    case WEFT__WAITS_SEND:
        say(o, ", to send to channel 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_RECV:
        say(o, ", to receive from channel 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_DRAIN:
        say(o, ", for what was received from channel 0x%llx to be done", (unsigned long long)what);
        break;
    case WEFT__WAITS_SELECT:
        say(o, ", for one of the cases at 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_MUTEX:
        say(o, ", for mutex 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_RWLOCK_READ:
        say(o, ", to read under lock 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_RWLOCK_WRITE:
        say(o, ", to write under lock 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_COND:
        say(o, ", for condition 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_EVENT:
        say(o, ", for event 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_NOTIFY:
        say(o, ", to be notified by 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_SEM:
        say(o, ", for permits of semaphore 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_BARRIER:
        say(o, ", at barrier 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_WAITGROUP:
        say(o, ", for wait-group 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_ONCE:
        say(o, ", for another's run of once 0x%llx", (unsigned long long)what);
        break;
    case WEFT__WAITS_PROMISE:
        say(o, ", for promise 0x%llx", (unsigned long long)what);
        break;
    }
}

static void say_task(struct out *o, const struct view *v)
{
    say(o, "task %lld", (long long)v->id);
    if (v->name[0])
        say(o, " \"%s\"", v->name);
    switch (weft__phase_of(v->state)) {
    case WEFT__FREE:
        say(o, " ends"); /* just now */
        break;
    case WEFT__NEW:
        say(o, " new");
        break;
    case WEFT__RUNNING: /* also in a ring after a yield, or while a child of its own runs as a call */
    case WEFT__PREPARING:
    case WEFT__FIRED:
        say(o, " running");
        break;
    case WEFT__WAITING:
        say(o, " waiting");
        say_wait(o, v);
        break;
    case WEFT__READY:
        say(o, " ready, waited");
        say_wait(o, v);
        break;
    }
    if (v->below)
        say(o, ", as a call by task %lld", (long long)v->below);
    say(o, v->cancelled ? ", cancelled; " : "; ");
    if (!v->fn) {
        say(o, v->held ? "it begins just now\n" : "somebody holds it just now\n");
        return;
    }
    say_code(o, v->fn);
    if (v->site) {
        say(o, ", spawned at ");
        say_code(o, v->site);
    }
    say(o, ", in scope %p", v->scope);
    if (v->scope_name[0])
        say(o, " \"%s\"", v->scope_name);
    if (v->owner)
        say(o, " of task %lld", (long long)v->owner);
    if (v->reason[0])
        say(o, ", which was told to leave: %s", v->reason);
    say(o, "\n");
}

int weft_dump(int fd)
{
    struct out o;
    if (weft__forked)
        return -ECHILD;
    memset(&o, 0, sizeof o);
    o.fd = fd;
    int found = 0;
    uint32_t used = weft__tasks ? weft__task_table_used() : 0;
    for (uint32_t i = 0; i < used && o.rc == 0; i++) {
        struct view v;
        if (!look_at(&v, weft__task_at(i)))
            continue;
        found++;
        say_task(&o, &v);
    }
    say(&o, "%d tasks\n", found);
    flush(&o);
    return o.rc < 0 ? o.rc : found;
}
