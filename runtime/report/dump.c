/* report/dump.c - every live task, in words.
 *
 * Owns      nothing.
 * Callers   any thread, a task, the I/O thread when a signal asks.
 * Cost      some microseconds a task; no worker is stopped, and one that ends a task just then waits as long
 *           (report/view.c).
 * Tested    tests/dump_test.c */
#include <errno.h>
#include <string.h>
#include <weft/report.h>

#include "base/fork.h"
#include "report/view.h"

int weft_dump(int fd)
{
    struct weft__out o;
    if (weft__forked)
        return -ECHILD;
    memset(&o, 0, sizeof o);
    o.fd = fd;
    int found = 0;
    uint32_t used = weft__tasks ? weft__task_table_used() : 0;
    for (uint32_t i = 0; i < used && o.rc == 0; i++) {
        struct weft__view v;
        if (!weft__view_task(&v, weft__task_at(i)))
            continue;
        found++;
        weft__say_task(&o, &v);
    }
    weft__say(&o, "%d tasks\n", found);
    weft__out_flush(&o);
    return o.rc < 0 ? o.rc : found;
}
