/* coord/oslock.h - a task that suspends while an OS mutex is held. See oslock.c. */
#ifndef WEFT_COORD_OSLOCK_H
#define WEFT_COORD_OSLOCK_H

#include "sched/sched.h"

#ifdef WEFT__MUTEX_CHECK
/* The running task is about to let go of its thread. Reports, and counts from nothing again, if that holds mutexes. */
void weft__oslocks_look(struct weft__frame *f);
#else
static inline void weft__oslocks_look(struct weft__frame *f)
{
    (void)f;
}
#endif

#endif
