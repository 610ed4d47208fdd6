/* sched/inject.h - the shared queue: tasks from foreign threads, overflow of the rings, batches of events.
 *
 * Owns      a list of tasks linked by index, first in, first out, under one lock; its length beside it, to be
 *           read without the lock.
 * Callers   any thread. A batch is linked before the lock is taken and put in at once.
 * Nothing is allocated, so nothing can fail or block. */
#ifndef WEFT_SCHED_INJECT_H
#define WEFT_SCHED_INJECT_H

#include "base/futex.h"
#include "sched/task.h"

struct weft__inject {
    struct weft__lock lock;
    uint32_t head, tail; /* index + 1 */
    at_word count;
};

static inline uint64_t weft__inject_len(const struct weft__inject *q)
{
    return at_load_acquire(&q->count);
}

/* Tasks first .. last, `n` of them, linked by their link words. */
void weft__inject_put(struct weft__inject *q, uint32_t first, uint32_t last, uint64_t n);
/* Takes at most `most` into out[]; returns how many. */
uint32_t weft__inject_take(struct weft__inject *q, uint32_t *out, uint32_t most);

#endif
