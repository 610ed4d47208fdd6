/* coord/root.c - the scopes of plain threads that run children on a runtime, and how all of a runtime is told to leave.
 *
 * Owns      the runtime's list of such roots: everything that runs on it is under one of them, and it does not end
 *           before they have.
 * Callers   open and close: the scope's owner, or for one that is no thread's coord/start.c. shutdown: any thread. stop: the
 *           I/O thread, when a signal asked. closing, end: who destroys the runtime. rest, stalled: engine/rest.c and stall.c.
 * Holds     R   a root that is opened once the runtime is closing is cancelled at once; one that was opened before is
 *               found in the list. Both under the lock, so none is missed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <weft/runtime.h>

#include "base/clock.h"
#include "base/fork.h"
#include "coord/await.h"
#include "coord/scope.h"
#include "coord/side.h"
#include "engine/rest.h"

enum { LOOK_NS = 1000000 };

/* The next root of the same thread, from `s` outwards. */
static const struct weft__scope_extra *root_from(const weft_scope *s)
{
    for (; s; s = ((const struct weft__scope *)(const void *)s)->outer) {
        const struct weft__scope *in = (const struct weft__scope *)(const void *)s;
        const struct weft__scope_extra *x = (const struct weft__scope_extra *)at_load_acquire(&in->extra);
        if (x && x->is_root)
            return x;
    }
    return NULL;
}

enum weft__host_rests weft__roots_host(const struct weft__frame *f)
{
    return f && root_from(f->inner) ? WEFT__HOST_OWNS : WEFT__HOST_RESTS;
}

void weft__root_open(struct weft__scope *s)
{
    struct weft__scope_extra *x = (struct weft__scope_extra *)at_load(&s->extra);
    weft_runtime *rt = x->on;
    bool first = root_from(s->outer) == NULL, started = s->owner != weft__current();
    weft__lock(&rt->roots_lock);
    x->first_root = first;
    x->is_root = true;
    x->started = started;
    list_push_tail(&rt->roots, &x->root_link);
    ati_add(&rt->roots_open, 1);
    const char *closing = rt->closing;
    weft__unlock(&rt->roots_lock);
    if (closing)
        weft__scope_tell((weft_scope *)(void *)s, closing, NULL);
}

void weft__root_close(struct weft__scope_extra *x)
{
    weft_runtime *rt = x->on;
    weft__lock(&rt->roots_lock);
    list_remove(&x->root_link);
    ati_add(&rt->roots_open, (uint32_t)-1);
    weft__futex_wake(&rt->roots_open, INT32_MAX);
    at_add(&rt->group.visitors, 1); /* after the unlock it might end */
    weft__unlock(&rt->roots_lock);
    weft__hand_gone(rt);
    at_add(&rt->group.visitors, (uint64_t)-1);
}

/* Under the lock. */
static void cancel_roots(weft_runtime *rt, const char *why)
{
    for (struct weft__link *l = rt->roots.next; l != &rt->roots; l = l->next) {
        /* Its owner cannot end it while we hold the lock. */
        struct weft__scope_extra *x = container_of(l, struct weft__scope_extra, root_link);
        weft__scope_tell((weft_scope *)(void *)x->scope, why, NULL);
    }
}

void weft__roots_closing(weft_runtime *rt, const char *why)
{
    weft__lock(&rt->roots_lock);
    if (!rt->closing)
        rt->closing = why;
    cancel_roots(rt, why);
    weft__unlock(&rt->roots_lock);
}

void weft__roots_end(weft_runtime *rt)
{
    const struct weft__frame *f = weft__thread_known();
    for (uint32_t n; (n = ati_load_acquire(&rt->roots_open)) != 0;) {
        weft__starts_end(rt); /* there may be new ones as long as anything runs */
        weft__host_wait(&rt->roots_open, n, weft__time_add(weft__now(), LOOK_NS), weft__roots_host(f));
    }
    /* The last one has left the lock when we get it. */
    weft__lock(&rt->roots_lock);
    weft__unlock(&rt->roots_lock);
}

void weft__roots_stop(weft_runtime *rt, int signo)
{
    weft__roots_closing(rt, signo == SIGINT ? "SIGINT" : "SIGTERM");
}

/* Whether something runs there. The roots of the calling thread, which cannot end while it is here, and those of no thread
 * (coord/start.c) count for their children only. */
static bool busy(weft_runtime *rt, const struct weft__frame *f)
{
    bool found = false;
    weft__lock(&rt->roots_lock);
    for (struct weft__link *l = rt->roots.next; l != &rt->roots && !found; l = l->next) {
        const struct weft__scope_extra *x = container_of(l, struct weft__scope_extra, root_link);
        found = (x->scope->owner != f && !x->started) || weft_scope_alive((weft_scope *)(void *)x->scope) > 0;
    }
    weft__unlock(&rt->roots_lock);
    return found;
}

/* Calls that go on although nobody waits for them, on the runtime's own pools: its end would wait for them. */
static unsigned calls_left(weft_runtime *rt, bool report)
{
    const struct weft__pool *const pools[] = { &rt->pool, &rt->files, &rt->names };
    unsigned all = 0;
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++) {
        unsigned n = ati_load(&pools[i]->left);
        all += n;
        char text[96];
        snprintf(text, sizeof text, "calls that nobody waits for any more have not returned: %u, on %s", n, pools[i]->name);
        if (report && n > 0)
            weft__report(rt, &(weft_report){ .what = "shutdown", .code = -ETIMEDOUT, .text = text });
    }
    return all;
}

int weft_runtime_shutdown(weft_runtime *rt, int64_t grace)
{
    struct weft__sched *w = weft__self();
    if (weft__forked)
        return -ECHILD;
    if (!rt && w)
        rt = weft__runtime_of(w->group);
    if (!rt)
        return -EINVAL;
    int64_t until = weft__time_add(weft__now(), grace > 0 ? grace : 0);
    weft__roots_closing(rt, "shutdown");
    if (w)
        return w->group == &rt->group ? -EINPROGRESS : -EDEADLK;
    struct weft__frame *f = weft__current();
    while (busy(rt, f) || calls_left(rt, false) > 0) {
        int64_t now = weft__now(), next = weft__time_add(now, LOOK_NS);
        if (now >= until) {
            weft__report_left(rt);
            (void)calls_left(rt, true);
            return -ETIMEDOUT;
        }
        weft__host_wait(&rt->roots_open, ati_load(&rt->roots_open), next < until ? next : until, weft__roots_host(f));
    }
    return 0;
}

int weft__roots_rest(weft_runtime *rt)
{
    int owners = 0;
    weft__lock(&rt->roots_lock);
    for (struct weft__link *l = rt->roots.next; l != &rt->roots && owners >= 0; l = l->next) {
        const struct weft__scope_extra *x = container_of(l, struct weft__scope_extra, root_link);
        const struct weft__frame *f = x->scope->owner;
        if (x->started)
            continue; /* nobody spawns into it but what runs there */
        /* acquire: meets W4; who is seen to wait has said whether it is until a time. */
        bool rest = weft__phase_of(at_load_acquire(&f->task->state)) == WEFT__WAITING && !ati_load(&f->timed);
        owners = rest ? owners + x->first_root : -1;
    }
    weft__unlock(&rt->roots_lock);
    return owners;
}

void weft__roots_wait(struct weft__frame *f)
{
    for (const struct weft__scope_extra *x = root_from(f->inner); x; x = root_from(x->scope->outer))
        weft__hand_gone(x->on);
}

void weft__roots_stalled(weft_runtime *rt)
{
    weft__lock(&rt->roots_lock);
    ati_add(&rt->stall.ended, 1);
    cancel_roots(rt, "deadlock");
    weft__unlock(&rt->roots_lock);
}
