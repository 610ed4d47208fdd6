/* coord/defer.c - calls that are put off until a scope, a task, or the body of a generator ends.
 *
 * Owns      the deferred calls of a struct weft__gens (coord/keeps.h), where they are in one order with generators; and what
 *           becomes of their failures.
 * Callers   weft_defer: a task or plain thread. run, unclean: whoever ends what they belong to.
 * Holds     a call that is made is in no list any more. Each is made once, in a shield of its own, before its owner ends: so
 *           what it defers belongs to the shield, and what it spawns into the scope that ends is awaited before the next.
 * Source    Go's defer; the bounded shield is Trio's move_on_after(grace, shield=True) in a finally.
 * Tested    tests/defer_test.c, tests/fault_coord_test.c */
#include <errno.h>
#include <stdio.h>
#include <weft/error.h>

#include "base/mem.h"
#include "coord/await.h"
#include "coord/error.h"
#include "coord/keeps.h"

int weft_defer(weft_fn *fn, void *arg, int64_t grace)
{
    struct weft__gens *all;
    if (!fn)
        return -EINVAL;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    int rc = weft__gens_of(f, &all);
    if (rc < 0 || !all)
        return rc < 0 ? rc : -EINVAL;
    struct weft__deferred *d = weft__mem_alloc(sizeof *d);
    if (!d)
        return -ENOMEM;
    *d = (struct weft__deferred){ .fn = fn, .arg = arg, .grace = grace };
    weft__lock(&all->lock);
    d->number = ++all->made;
    d->older = all->deferred;
    all->deferred = d;
    weft__unlock(&all->lock);
    return 0;
}

/* ---- failures */

void weft__unclean_begin(struct weft__unclean *u, struct weft__frame *f)
{
    *u = (struct weft__unclean){ .why = f->detail };
    f->detail = NULL;
}

void weft__unclean_over(struct weft__unclean *u, struct weft__frame *f)
{
    weft__detail_give(f, u->why);
}

static void report(const struct weft__frame *f, weft_fn *fn, int code, const char *detail)
{
    char text[200];
    snprintf(text, sizeof text, "deferred function %p failed: %s", (void *)(uintptr_t)fn,
            detail ? detail : weft_strerror(code));
    weft__report_task(f, "defer", code, text);
}

static const char *text_of(const struct weft__detail *d, int code)
{
    return d && d->seen.code == code && d->text[0] ? d->text : NULL;
}

int weft__unclean_result(struct weft__unclean *u, struct weft__frame *f, int rc)
{
    if (u->code == 0)
        return rc;
    if (rc < 0) {
        report(f, u->fn, u->code, text_of(u->detail, u->code));
        weft__detail_drop(u->detail);
        return rc;
    }
    weft__detail_give(f, u->detail);
    return u->code;
}

void weft__deferred_run(struct weft__deferred *d, struct weft__frame *f, struct weft__unclean *u)
{
    struct weft__deferred call = *d;
    weft_scope shield;
    weft__mem_free(d);
    weft__detail_free(f); /* of what was let go before */
    weft_scope_begin_shield(&shield, call.grace);
    int rc = weft_scope_end(&shield, call.fn(call.arg));
    if (rc >= 0)
        return;
    if (u->code != 0) {
        report(f, call.fn, rc, weft__detail_text(f, rc));
        return;
    }
    u->code = rc;
    u->fn = call.fn;
    u->detail = f->detail;
    f->detail = NULL;
}
