/* engine/spare.h - more workers than were asked for, while those are held up. See spare.c. */
#ifndef WEFT_ENGINE_SPARE_H
#define WEFT_ENGINE_SPARE_H

#include <stdbool.h>
#include <stdint.h>

struct weft_runtime;
struct weft__worker;

struct weft__spares {
    struct weft__spare_sight *sights; /* of each seat, when it was last looked at */
    int first;                        /* seat to be looked at first */
    int64_t calm_since;               /* ns: all looks since then found one too many; 0: the last did not */
    int64_t again, pause;             /* ns: no thread could be started; not before then, and after how long */
};

/* 0; -ENOMEM. */
int weft__spares_init(struct weft_runtime *rt);
void weft__spares_fini(struct weft_runtime *rt);

/* The I/O thread, once a tick: Z1 to Z3. `work`: something waits for a worker. */
void weft__spares_look(struct weft_runtime *rt, bool work);

/* A worker's thread begins: says how to find out what it does. */
void weft__spares_know(struct weft__worker *w);

#endif
