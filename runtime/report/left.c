/* report/left.c - what is still there when a runtime ends, and should not be: weft_options.report_left_open.
 *
 * Owns      nothing.
 * Callers   who destroys the runtime, twice: before its tasks are told to leave, and when they have ended.
 * Holds     Z   what a task opened and nobody closed: descriptors that only weft_close may close, and programs. Those that
 *               may be closed by close(2), files and pipes, are not known to be open still, so nothing is said of them.
 * Tested    tests/left_test.c */
#include <stdio.h>
#include <sys/socket.h>

#include "base/code.h"
#include "coord/side.h"
#include "engine/runtime.h"
#include "os/process.h"

struct telling {
    weft_runtime *rt;
    int n;
};

static void tell(struct telling *l, const struct weft__origin *o, const char *text)
{
    l->n++;
    weft__report(l->rt, &(weft_report){ .what = "left-open", .task = o ? (weft_task)at_load(&o->task) : 0,
            .site = o ? (const void *)(uintptr_t)at_load(&o->site) : NULL, .text = text });
}

/* "descriptor 7, a listener, opened in echo+0x2210" */
static void tell_one(struct telling *l, const struct weft__origin *o, const char *what, int number, const char *more)
{
    char text[240], in[120];
    weft__code_text(in, sizeof in, (const void *)(uintptr_t)at_load(&o->fn));
    snprintf(text, sizeof text, "%s %d%s, opened in %s, was not closed", what, number, more, in);
    tell(l, o, text);
}

static void tell_descriptor(const struct weft__origin *o, int fd, void *arg)
{
    int listens = 0;
    socklen_t bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0)
        listens = 0;
    tell_one(arg, o, "descriptor", fd, listens ? ", a listener" : "");
}

static void tell_process(const struct weft__origin *o, int pid, void *arg)
{
    tell_one(arg, o, "process", pid, "");
}

int weft__left_tasks(weft_runtime *rt)
{
    return rt->report_left_open ? weft__report_tasks(rt, "left-open", 0, "had not ended when its runtime was to end") : 0;
}

void weft__left_rest(weft_runtime *rt, int tasks)
{
    if (!rt->report_left_open)
        return;
    struct telling l = { .rt = rt, .n = tasks };
    char text[96];
    weft__slots_left(rt->group.number, tell_descriptor, &l);
    weft__processes_left(rt->group.number, tell_process, &l);
    const struct weft__pool *const pools[] = { &rt->pool, &rt->files, &rt->names };
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++) {
        unsigned calls = ati_load(&pools[i]->left);
        snprintf(text, sizeof text, "calls that nobody waits for any more have not returned: %u, on %s", calls, pools[i]->name);
        if (calls > 0)
            tell(&l, NULL, text);
    }
    snprintf(text, sizeof text, "in all %d were left open", l.n);
    if (l.n > 0)
        weft__report(rt, &(weft_report){ .what = "left-open", .code = l.n, .text = text });
}
