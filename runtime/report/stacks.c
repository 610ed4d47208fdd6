/* report/stacks.c - the calls that a task is in while it waits.
 *
 * Owns      nothing. Reads the stack while everything goes on.
 * Callers   weft_dump_stacks and weft_task_stack: any thread, a task.
 * Holds     K1  it waited, in the same wait, before the stack was read and afterwards; so its registers were saved all
 *               the while (W4 of sched/wait.h), and nobody ran on its stack. Tickets do not repeat.
 *           K2  else what was read is dropped. It can be read safely all the same (machine/unwind.c, U1): while its life is
 *               held the task does not end, so its stack and those of generators it is in stay what they are.
 *           K3  all are in weft__suspend, but not always in the same place of it, which would make stacks differ that are
 *               alike. So they begin with its caller.
 * Of a task that is ready, or runs, nothing is said: it may be on its way.
 * Tested    tests/stacks_test.c */
#include <errno.h>
#include <weft/report.h>

#include "base/fork.h"
#include "machine/unwind.h"
#include "report/view.h"

/* Of a task in a generator's body in a generator's body in ... */
enum { NESTED_MOST = 8, SUSPEND_CALLS = 4 };

/* K3. What weft__suspend has called in its turn may have been inlined. False: there is nothing left. */
static bool leave_suspend(struct weft__call *c)
{
    struct weft__call first = *c;
    for (int i = 0; i < SUSPEND_CALLS; i++)
        if (!weft__unwind_up(c))
            break;
        else if (c->callee == (uintptr_t)weft__suspend)
            return true;
    *c = first;
    return weft__unwind_up(c);
}

#ifdef WEFT__TSAN
__attribute__((noinline, no_sanitize("thread")))
#endif
static int walk(struct weft__task *t, uint64_t state, const void **out, int most)
{
    const struct weft__frame *f = (const struct weft__frame *)(uintptr_t)at_load_acquire(&t->side);
    const struct weft__context *from = &f->context;
    const struct weft__stack *k = f->stack;
    struct weft__call c;
    int n = 0;
    for (int i = 0; i < NESTED_MOST && k && n < most && weft__unwind_parked(&c, from, k); i++) {
        if (i == 0 && !leave_suspend(&c))
            break;
        n += weft__unwind_all(&c, out + n, most - n);
        if (!k->nested)
            break;
        from = weft__gen_below(k, &k);
        at_fence_full();
        if (at_load(&t->state) != state) /* the generator may have ended, and its stack be another runtime's by now */
            break;
    }
    return n;
}

int weft__view_stack(const struct weft__view *v, struct weft__task *t, const void **out, int most)
{
    if (weft__phase_of(v->state) != WEFT__WAITING || !v->group || !weft__life_try_hold(t, v->id))
        return 0;
    int n = at_load_acquire(&t->state) == v->state ? walk(t, v->state, out, most) : 0;
    at_fence_full(); /* K1: the state is looked at after the stack */
    if (at_load(&t->state) != v->state)
        n = 0;
    weft__life_release(t);
    return n;
}

int weft_task_stack(weft_task id, const void **out, int n)
{
    struct weft__view v;
    if (weft__forked)
        return -ECHILD;
    if (id <= 0 || !out || n <= 0)
        return -EINVAL;
    uint32_t index = weft__id_index(id);
    if (index >= weft__task_table_used() || !weft__view_task(&v, weft__task_at(index)) || v.id != id)
        return -ESRCH;
    int calls = weft__view_stack(&v, weft__task_at(index), out, n);
    return calls > 0 ? calls : -EBUSY;
}
