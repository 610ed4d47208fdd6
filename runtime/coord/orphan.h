/* coord/orphan.h - who ended and held a mutex still; those who wait for it have to be told. See orphan.c. */
#ifndef WEFT_COORD_ORPHAN_H
#define WEFT_COORD_ORPHAN_H

#include "base/list.h"
#include "sched/sched.h"

/* O1 has been done: a task's id is dead. Its frame is still there. */
void weft__orphaned(const struct weft__frame *f);

/* Whether a task, or a plain thread, of that id has ended. */
bool weft__holder_ended(uint64_t id, bool thread);

/* A plain thread that waits for a mutex, O3; linked for as long as it does. */
struct weft__orphan_watch {
    struct weft__link link;
    weft__token token;
};
void weft__orphan_watch(struct weft__orphan_watch *w);
void weft__orphan_unwatch(struct weft__orphan_watch *w);

#endif
