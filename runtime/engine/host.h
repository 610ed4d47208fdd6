/* engine/host.h - a runtime whose tasks run on a thread of the program's, its host. See host.c. */
#ifndef WEFT_ENGINE_HOST_H
#define WEFT_ENGINE_HOST_H

#include <pthread.h>

#include "base/futex.h"

struct weft_runtime;

struct weft__host {
    pthread_t thread;
    int bell; /* an eventfd; -1 */
    bool parked, begun; /* the host's own */
    at_int rests;       /* enum weft__host_rests: what it does just now, outside of its tasks */
};

/* Something of its own; it waits, and is counted as the owner of a root (coord/root.c); it waits, and is counted by nobody. */
enum weft__host_rests { WEFT__HOST_ACTS, WEFT__HOST_OWNS, WEFT__HOST_RESTS };

/* The calling thread will be the host: its worker is parked, before anybody can wake it. 0; -EMFILE, -ENFILE, -ENOMEM. */
int weft__host_begin(struct weft_runtime *rt);
/* No task is left, and stopping is set: what its worker was woken for is done with. */
void weft__host_stop(struct weft_runtime *rt);
/* Its worker is done with, and when nobody rings any more, the bell. */
void weft__host_end(struct weft_runtime *rt);
void weft__host_close(struct weft_runtime *rt);

/* Whether the calling thread is it. */
bool weft__is_host(const struct weft_runtime *rt);

/* weft__futex_wait for a plain thread; if it is a host, its tasks run meanwhile. `rests`: ACTS if it waits until a time of its
 * own as well. */
bool weft__host_wait(at_int *word, uint32_t value, int64_t until, enum weft__host_rests rests);
/* The same for who waits in the kernel for something else: lets them run, and says for how long at most to wait then. */
int weft__host_slice(int ms);

#endif
