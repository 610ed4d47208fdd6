/* engine/hooks.h - what the rooms below the engine register with it, so that it need not know them.
 *
 * They are set by coord/ before the first runtime starts (coord/main.c), and never change. */
#ifndef WEFT_ENGINE_HOOKS_H
#define WEFT_ENGINE_HOOKS_H

#include "base/hidden.h"
#include "sched/sched.h"

struct weft_runtime;
struct weft__stalled;

struct weft__who {
    char name[32];
    const void *site;       /* where it was spawned */
    const void *low, *high; /* the stack that it runs on, or waits on */
};

struct weft__hooks {
    struct weft__sched_ops sched;
    struct weft__sched_ops sched_marking; /* of a runtime that looks at how much of its stacks is used */
    /* Who a frame is, for the crash report: "task 42 \"name\" (0x...)". */
    void (*describe)(struct weft__frame *f, char *out, unsigned long bytes);
    /* What runs on a generator's stack, for the same: "generator \"lines\" (0x...)". */
    void (*describe_nested)(const struct weft__stack *k, char *out, unsigned long bytes);
    /* Whether `f` is the frame of a task of this id; then, of the task. Any thread; of `f` nothing is read before that. */
    bool (*who)(weft_task id, const struct weft__frame *f, struct weft__who *out);
    /* All that runs there is told to leave, because of a signal. */
    void (*stop)(struct weft_runtime *rt, int signo);
    /* Writes what every task does. */
    int (*dump)(int fd);
    /* coord/gdb.c. Nobody reads it here: being referred to, it is linked into static programs too. */
    const void *gdb;
    /* How many plain threads have a scope open on the runtime, if all of them only wait; else -1 (engine/rest.c). */
    int (*roots_rest)(struct weft_runtime *rt);
    /* The report of a deadlock (engine/stall.c). */
    int (*stalled)(struct weft_runtime *rt, int others, struct weft__stalled *out);
    /* All that runs there is told to leave, because of one. */
    void (*stall_ends)(struct weft_runtime *rt);
};

extern WEFT__HIDDEN struct weft__hooks weft__hooks;

#endif
