/* coord/pace.h - the parts of a backoff, for who pauses in its own way. See pace.c. */
#ifndef WEFT_COORD_PACE_H
#define WEFT_COORD_PACE_H

#include <weft/time.h>

#include "sched/sched.h"

bool weft__backoff_bad(const weft_backoff *b);
/* One more try is used. 1: there is another; 0. */
int weft__backoff_used(weft_backoff *b);
/* How long it is to wait for that, by chance. */
int64_t weft__backoff_pause(const weft_backoff *b, const struct weft__frame *f);

#endif
