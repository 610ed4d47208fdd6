/* coord/main.c - runtimes and their main tasks.
 *
 * A main is a child of a scope that the calling plain thread holds on the runtime; so it is joined, cancelled and
 * timed like any other task. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <weft.h>
#include <weft/tls.h>

#include "base/fork.h"
#include "coord/await.h"
#include "coord/error.h"
#include "coord/gdb.h"
#include "coord/side.h"
#include "engine/hooks.h"
#include "engine/runtime.h"

static void who_runs(char *out, unsigned long bytes)
{
    struct weft__sched *s = weft__self();
    struct weft__frame *f = s ? own(s->frame) : NULL;
    if (f && f->task)
        weft__task_describe(f, out, bytes);
}

static void forget_worker(void)
{
    weft__self_set(NULL);
}

static int hooks_rc;

static void register_hooks(void)
{
    weft__fences_init();
    weft__hooks.sched.body = weft__child_body;
    weft__hooks.sched.no_stack = weft__child_no_stack;
    weft__hooks.sched.told = weft__told_slow;
    weft__hooks.sched_marking = weft__hooks.sched;
    weft__hooks.sched_marking.body = weft__child_body_marking;
    weft__hooks.describe = weft__task_describe;
    weft__hooks.describe_nested = weft__gen_describe;
    weft__hooks.who = weft__task_who;
    weft__hooks.stop = weft__roots_stop;
    weft__hooks.dump = weft_dump;
    weft__hooks.gdb = &weft__gdb;
    weft__hooks.roots_rest = weft__roots_rest;
    weft__hooks.stalled = weft__stalled_text;
    weft__hooks.stall_ends = weft__roots_stalled;
    weft__timers_on_call(weft__deadline_struck);
    weft__panic_who = who_runs;
    hooks_rc = weft__fork_watch(forget_worker);
}

int weft__register(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_hooks);
    return hooks_rc;
}

int weft_runtime_create(weft_runtime **out, const weft_options *o)
{
    if (weft__forked)
        return -ECHILD;
    int rc = weft__register();
    if (rc < 0)
        return rc;
    if (o && o->manual && weft__self())
        return -EDEADLK; /* a task has no thread of its own */
    return out ? weft__runtime_start(out, o) : -EINVAL;
}

void weft_runtime_destroy(weft_runtime **rt)
{
    if (!rt || !*rt || weft__forked)
        return;
    struct weft__sched *s = weft__self();
    weft__expect(!s || s->group != &(*rt)->group);
    weft__expect(!(*rt)->manual || (!s && weft__is_host(*rt)));
    int left = weft__left_tasks(*rt);
    weft__roots_closing(*rt, "the runtime ends");
    weft__roots_end(*rt);
    weft__left_rest(*rt, left);
    weft__runtime_end(*rt);
    *rt = NULL;
}

struct main_call {
    weft_fn *fn;
    void *arg;
    int rc;
};

static int main_task(void *arg)
{
    struct main_call *m = arg;
    m->rc = m->fn(m->arg);
    return m->rc;
}

int weft_runtime_run(weft_runtime *rt, weft_fn *fn, void *arg)
{
    struct main_call m = { .fn = fn, .arg = arg, .rc = -ECANCELED };
    weft_scope s;
    if (!rt || !fn)
        return -EINVAL;
    if (weft__self())
        return -EDEADLK;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "main", .on = rt });
    uint32_t before = ati_load(&rt->stall.ended); /* now that it would be told, too */
    weft_task t = weft_spawn_with(&s, main_task, &m, &(weft_spawn_options){ .name = "main" });
    int rc = weft_scope_end(&s, 0);
    if (t < 0)
        return rc < 0 ? rc : (int)t;
    if (m.rc != -ECANCELED)
        return m.rc;
    if (ati_load(&rt->stop_signal) != 0)
        return -EINTR;
    if (ati_load(&rt->stall.ended) != before)
        return -EDEADLK;
    return rc < 0 ? rc : m.rc;
}

int weft_run(weft_fn *fn, void *arg, const weft_options *o)
{
    weft_runtime *rt;
    if (!fn)
        return -EINVAL;
    if (weft__self())
        return -EDEADLK;
    int rc = weft_runtime_create(&rt, o);
    if (rc < 0)
        return rc;
    rc = weft_runtime_run(rt, fn, arg);
    weft_runtime_destroy(&rt);
    return rc;
}

const char *weft_version(void)
{
    return WEFT_VERSION;
}

size_t weft_sizeof(const char *type)
{
    static const struct {
        const char *name;
        size_t bytes;
    } types[] = {
        { "weft_scope", sizeof(weft_scope) },
        { "weft_task", sizeof(weft_task) },
        { "weft_options", sizeof(weft_options) },
        { "weft_report", sizeof(weft_report) },
        { "weft_spawn_options", sizeof(weft_spawn_options) },
        { "weft_scope_options", sizeof(weft_scope_options) },
        { "weft_failure", sizeof(weft_failure) },
        { "weft_done", sizeof(weft_done) },
        { "weft_canceller", sizeof(weft_canceller) },
        { "weft_error", sizeof(weft_error) },
        { "weft_child", sizeof(weft_child) },
        { "weft_supervise_options", sizeof(weft_supervise_options) },
        { "weft_interval", sizeof(weft_interval) },
        { "weft_backoff", sizeof(weft_backoff) },
        { "weft_listen_options", sizeof(weft_listen_options) },
        { "weft_connect_options", sizeof(weft_connect_options) },
        { "weft_connect_failure", sizeof(weft_connect_failure) },
        { "weft_gen_options", sizeof(weft_gen_options) },
        { "weft_local", sizeof(weft_local) },
        { "weft_addr", sizeof(weft_addr) },
        { "weft_serve_options", sizeof(weft_serve_options) },
        { "weft_rlimit", sizeof(weft_rlimit) },
        { "weft_process_options", sizeof(weft_process_options) },
        { "weft_output", sizeof(weft_output) },
        { "weft_process_pool_options", sizeof(weft_process_pool_options) },
        { "weft_lane_options", sizeof(weft_lane_options) },
        { "weft_entry", sizeof(weft_entry) },
        { "weft_change", sizeof(weft_change) },
        { "weft_stream_options", sizeof(weft_stream_options) },
        { "weft_stream_buffers", sizeof(weft_stream_buffers) },
        { "weft_carrier", sizeof(weft_carrier) },
        { "weft_carrier_ops", sizeof(weft_carrier_ops) },
        { "weft_tls_options", sizeof(weft_tls_options) },
        { "weft_event", sizeof(weft_event) },
        { "weft_mutex", sizeof(weft_mutex) },
        { "weft_cond", sizeof(weft_cond) },
        { "weft_rwlock", sizeof(weft_rwlock) },
        { "weft_timer", sizeof(weft_timer) },
        { "weft_sem", sizeof(weft_sem) },
        { "weft_limiter", sizeof(weft_limiter) },
        { "weft_loan", sizeof(weft_loan) },
        { "weft_notify", sizeof(weft_notify) },
        { "weft_barrier", sizeof(weft_barrier) },
        { "weft_waitgroup", sizeof(weft_waitgroup) },
        { "weft_once", sizeof(weft_once) },
        { "weft_promise", sizeof(weft_promise) },
        { "weft_chan_options", sizeof(weft_chan_options) },
        { "weft_topic_options", sizeof(weft_topic_options) },
        { "weft_delay_options", sizeof(weft_delay_options) },
        { "weft_case", sizeof(weft_case) },
        { "weft_worker_stats", sizeof(weft_worker_stats) },
        { "weft_runtime_stats", sizeof(weft_runtime_stats) },
        { "weft_lane_stats", sizeof(weft_lane_stats) },
        { "weft_histogram", sizeof(weft_histogram) },
    };
    for (size_t i = 0; type && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, type) == 0)
            return types[i].bytes;
    return 0;
}
