/* coord/gdb.c - what a debugger has to know to find the tasks of a process; read by package/libweft-gdb.py.
 *
 * Owns      a table of addresses, offsets and constants under the names that the script uses. The compiler fills it, so
 *           it cannot disagree with the library it is in, and the script needs no debug information of ours.
 * Found     by its symbol, or, in a file without symbols, by the name of its section.
 * Nothing of it is used at run time.
 * Tested    tests/gdb_test.py */
#include "coord/gdb.h"

#include <stddef.h>

#include "coord/scope.h"
#include "coord/side.h"

void weft__context_entry(void); /* machine/context_*.S */

#define ADDRESS(what, symbol) { what, (uint64_t)(uintptr_t)&(symbol) }
#define SIZE(what, type) { what ".size", sizeof(type) }
#define OFFSET(what, type, member) { what, offsetof(type, member) }

/* Data that is not constant, as whatever needs relocation in a shared library. */
__attribute__((section(".weft_gdb"), used)) struct weft__gdb weft__gdb = {
    .magic = "weftgdb",
    .version = 1,
    .bytes = sizeof(struct weft__gdb),
    .entry = {
        ADDRESS("tasks", weft__tasks),
        ADDRESS("used", weft__tasks_used),
        ADDRESS("runtimes", weft__runtimes),
        ADDRESS("code.entry", weft__context_entry),
        ADDRESS("code.body", weft__child_body),
        ADDRESS("code.own", weft__run_own),
        ADDRESS("code.join", weft__join_inline),
        ADDRESS("code.suspend", weft__suspend),
        SIZE("task", struct weft__task),
        OFFSET("task.state", struct weft__task, state),
        OFFSET("task.life", struct weft__task, life),
        OFFSET("task.scope", struct weft__task, scope),
        OFFSET("task.fn", struct weft__task, fn),
        OFFSET("task.side", struct weft__task, side),
        OFFSET("task.bits", struct weft__task, bits),
        { "life.id", WEFT__LIFE_ID },
        { "life.cancelled", WEFT__LIFE_CANCELLED },
        { "index.bits", WEFT__INDEX_BITS },
        { "bits.side", WEFT__TASK_SIDE },
        { "bits.started", WEFT__TASK_STARTED },
        { "phase.mask", 15 },
        { "phase.new", WEFT__NEW },
        { "phase.running", WEFT__RUNNING },
        { "phase.preparing", WEFT__PREPARING },
        { "phase.waiting", WEFT__WAITING },
        { "phase.fired", WEFT__FIRED },
        { "phase.ready", WEFT__READY },
        SIZE("frame", struct weft__frame),
        OFFSET("frame.sp", struct weft__frame, context.sp),
        OFFSET("frame.task", struct weft__frame, task),
        OFFSET("frame.id", struct weft__frame, id),
        OFFSET("frame.stack", struct weft__frame, stack),
        OFFSET("frame.below", struct weft__frame, below),
        OFFSET("frame.side", struct weft__frame, side),
        OFFSET("stack.low", struct weft__stack, low),
        OFFSET("stack.high", struct weft__stack, high),
        OFFSET("side.name", struct weft__side, name),
        { "side.name.size", WEFT__NAME_BYTES },
        OFFSET("scope.owner", struct weft__scope, owner),
        OFFSET("scope.extra", struct weft__scope, extra),
        OFFSET("extra.name", struct weft__scope_extra, name),
        SIZE("worker", struct weft__worker),
        OFFSET("worker.frame", struct weft__worker, sched.frame),
        OFFSET("worker.asleep", struct weft__worker, sched.asleep),
        OFFSET("worker.searching", struct weft__worker, sched.searching),
        OFFSET("worker.next", struct weft__worker, sched.next.item),
        OFFSET("worker.newest", struct weft__worker, sched.newest.item),
        OFFSET("worker.pinned", struct weft__worker, sched.pinned.count),
        OFFSET("worker.ring.head", struct weft__worker, sched.ring.head),
        OFFSET("worker.ring.tail", struct weft__worker, sched.ring.tail),
        OFFSET("worker.deque.bottom", struct weft__worker, sched.deque.bottom),
        OFFSET("worker.deque.top", struct weft__worker, sched.deque.top),
        OFFSET("worker.ran", struct weft__worker, sched.count.ran),
        OFFSET("worker.timers", struct weft__worker, timers.n),
        OFFSET("worker.thread", struct weft__worker, thread),
        OFFSET("runtime.next", struct weft_runtime, next),
        OFFSET("runtime.n", struct weft_runtime, group.seats),
        OFFSET("runtime.all", struct weft_runtime, group.all),
        OFFSET("runtime.inject", struct weft_runtime, group.inject.count),
        OFFSET("runtime.errands", struct weft_runtime, group.errands.count),
    },
};
