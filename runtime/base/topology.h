/* base/topology.h - which processors are near each other: those that share a last-level cache, and those of a NUMA node. */
#ifndef WEFT_BASE_TOPOLOGY_H
#define WEFT_BASE_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hidden.h"

enum { WEFT__PROCESSORS_MOST = 4096 }; /* those with higher numbers are not told apart */

/* A set of them. The words are those of a cpu_set_t. */
struct weft__processors {
    unsigned long bits[WEFT__PROCESSORS_MOST / (8 * sizeof(unsigned long))];
};

static inline bool weft__processors_has(const struct weft__processors *s, unsigned processor)
{
    unsigned in_word = 8 * sizeof s->bits[0];
    return s->bits[processor / in_word] >> processor % in_word & 1;
}
static inline void weft__processors_add(struct weft__processors *s, unsigned processor)
{
    unsigned in_word = 8 * sizeof s->bits[0];
    s->bits[processor / in_word] |= 1ul << processor % in_word;
}

/* Of each processor: numbers that mean nothing but "the same" or "another one". Never 0 for a cache. */
struct weft__topology {
    uint16_t cache[WEFT__PROCESSORS_MOST], node[WEFT__PROCESSORS_MOST];
};

/* A processor's place, in one word: what a worker tells of where it runs. 0: it has not told yet; that is no processor's. */
static inline uint32_t weft__topology_place(const struct weft__topology *t, unsigned processor)
{
    return processor < WEFT__PROCESSORS_MOST ? (uint32_t)t->cache[processor] << 16 | t->node[processor] : 0;
}

/* 0: one cache and one node; 1: one of the two; 2: neither. */
static inline unsigned weft__topology_distance(uint32_t place, uint32_t other)
{
    return (unsigned)(place >> 16 != other >> 16) + ((place & 0xffff) != (other & 0xffff));
}

/* Reads what `root`, "" or in tests a tree with sys/devices/system below it, says. It cannot fail: of what is missing or
 * makes no sense, nothing is known, and processors of which nothing is known share everything. Allocates nothing that
 * stays. */
void weft__topology_read(struct weft__topology *t, const char *root);

/* Whether these processors are in more than one place. */
bool weft__topology_apart(const struct weft__topology *t, const struct weft__processors *mine);

/* This machine's, read once in the process's life, by the first who asks; NULL if the calling thread's processors are all
 * in one place, so that there is nothing to choose. The table is static: 16 KiB. */
const struct weft__topology *weft__topology(void);

/* Where weft__topology reads: "". For tests, before anybody asks. */
extern WEFT__HIDDEN const char *weft__topology_root;

#endif
