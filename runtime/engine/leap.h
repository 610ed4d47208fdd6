/* engine/leap.h - when virtual time moves. See leap.c. */
#ifndef WEFT_ENGINE_LEAP_H
#define WEFT_ENGINE_LEAP_H

#include "engine/worker.h"

/* Moves the virtual time of the runtime to its earliest timer if nothing else can happen before. True: it did, or a timer
 * is due. On a real clock false. */
bool weft__leap(struct weft_runtime *rt);

#endif
