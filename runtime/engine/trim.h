/* engine/trim.h - memory comes back when a runtime is idle. See trim.c. The I/O thread's own. */
#ifndef WEFT_ENGINE_TRIM_H
#define WEFT_ENGINE_TRIM_H

#include "base/atomic.h"
#include "base/hidden.h"

struct weft_runtime;

struct weft__trim {
    int stage;      /* which kind of memory is next; NONE (trim.c): nothing is owed */
    unsigned step;  /* within it */
    uint32_t blocks; /* to be sorted yet */
    int64_t at;     /* when it begins, or goes on */
    uint64_t looked; /* turns of all workers at the beginning of this quiet time */
    uint64_t turns, fresh; /* at the end of the last trim: turns of all workers, and stacks handed out */
    at_int done;     /* trims that came to their end; any thread may read it */
};

/* How long a runtime has to be quiet before; tests lower it. */
extern WEFT__HIDDEN at_int weft__trim_quiet_us;

void weft__trim_begin(struct weft__trim *t);
/* All are parked. When the I/O thread has to do a slice instead of blocking; INT64_MAX: nothing is owed. */
int64_t weft__trim_when(struct weft_runtime *rt);
/* A slice: until `until` at most, as a rule. */
void weft__trim_slice(struct weft_runtime *rt, int64_t until);

#endif
