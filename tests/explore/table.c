/* table.c - sched/task.c with its own words in reach, to begin each run with. */
#include "scenarios.h"

#include "sched/task.c"

void table_reset(uint32_t first)
{
    static bool once;
    if (!once && weft__task_table_init() < 0)
        abort();
    once = true;
    memset(weft__tasks, 0, 256 * sizeof *weft__tasks);
    memset(weft__members, 0, 256 * sizeof *weft__members);
    batches = batched = 0;
    weft__tasks_used = first;
    committed = 0;
}
