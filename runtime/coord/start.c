/* coord/start.c - mains that nobody waits for.
 *
 * Owns      for each a root (coord/root.c) whose owner is a frame of no thread, so that any thread may end it.
 * Callers   start: any thread, a task, too. starts_end: who destroys the runtime.
 * A root is done with when its main and all that this has left there have ended. It is freed at a later start, which looks at
 * the two oldest: so there are at most twice as many as are alive, or at the runtime's end. */
#include <errno.h>
#include <weft/error.h>
#include <weft/runtime.h>

#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/scope.h"

struct start {
    struct weft__link link; /* under the runtime's roots_lock */
    weft_scope scope;
    struct weft__frame *owner;
    weft_runtime *rt;
    weft_fn *fn;
    void *arg;
};

static int main_task(void *arg)
{
    struct start *m = arg;
    int rc = m->fn(m->arg);
    if (rc < 0 && rc != -ECANCELED) { /* nobody else gets to know */
        weft__report(m->rt, &(weft_report){ .what = "failure", .task = weft_task_self(), .task_name = "main", .code = rc,
                .text = weft_error_text(rc) });
    }
    return rc;
}

static void end(struct start *m)
{
    (void)weft__scope_end_for(m->owner, &m->scope, 0);
    weft__frame_alone_free(m->owner);
    weft__mem_free(m);
}

/* The oldest, off the list; NULL: there is none. */
static struct start *take_oldest(weft_runtime *rt)
{
    struct weft__link *l = rt->starts.next;
    if (l == &rt->starts)
        return NULL;
    list_remove(l);
    return container_of(l, struct start, link);
}

static void put(weft_runtime *rt, struct start *m)
{
    weft__lock(&rt->roots_lock);
    list_push_tail(&rt->starts, &m->link);
    weft__unlock(&rt->roots_lock);
}

static void free_some(weft_runtime *rt)
{
    for (int i = 0; i < 2; i++) {
        weft__lock(&rt->roots_lock);
        struct start *m = take_oldest(rt);
        weft__unlock(&rt->roots_lock);
        if (m && weft_scope_alive(&m->scope) > 0)
            put(rt, m);
        else if (m)
            end(m);
    }
}

int weft_runtime_start(weft_runtime *rt, weft_fn *fn, void *arg, weft_task *t)
{
    if (weft__forked)
        return -ECHILD;
    if (!rt || !fn)
        return -EINVAL;
    free_some(rt);
    struct start *m = weft__mem_zeroed(sizeof *m);
    if (m)
        m->owner = weft__frame_alone();
    if (!m || !m->owner) {
        weft__mem_free(m);
        return -ENOMEM;
    }
    m->rt = rt;
    m->fn = fn;
    m->arg = arg;
    weft__scope_begin_for(m->owner, &m->scope, WEFT_NEVER, &(weft_scope_options){ .name = "main", .on = rt });
    weft_task id = weft_spawn_with(&m->scope, main_task, m, &(weft_spawn_options){ .name = "main" });
    if (id < 0) {
        end(m);
        return (int)id;
    }
    if (t)
        *t = id;
    put(rt, m);
    return 0;
}

void weft__starts_end(weft_runtime *rt)
{
    for (;;) {
        weft__lock(&rt->roots_lock);
        struct start *m = take_oldest(rt);
        weft__unlock(&rt->roots_lock);
        if (!m)
            return;
        end(m);
    }
}
