/* sched/origin.h - by whom something was made that has to be closed: for the report of what is left open (report/left.c).
 *
 * Written by who makes it, before anybody else has it; read when the runtime of that task ends. A number that is used again
 * meanwhile may have it written while it is read: then it is of another runtime, and left out, or of a moment ago. */
#ifndef WEFT_SCHED_ORIGIN_H
#define WEFT_SCHED_ORIGIN_H

#include "sched/sched.h"

struct weft__origin {
    at_word runtime; /* its group's number; 0: made by a plain thread, and no runtime's */
    at_word task, fn, site;
};

static inline void weft__origin_set(struct weft__origin *o)
{
    struct weft__sched *s = weft__self();
    const struct weft__frame *f = s ? own(s->frame) : NULL;
    at_store(&o->task, f ? (uint64_t)f->id : 0);
    at_store(&o->fn, f ? (uint64_t)(uintptr_t)f->fn : 0);
    at_store(&o->site, f ? (uint64_t)(uintptr_t)f->site : 0);
    at_store(&o->runtime, f ? s->group->number : 0);
}

/* Told of each: what it is called, and which one. */
typedef void weft__tell_left(const struct weft__origin *o, int number, void *arg);

#endif
