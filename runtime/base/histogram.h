/* base/histogram.h - how often times of which length were seen.
 *
 * A slot is a quarter of a power of two, from 1024 ns on; below, one of four of 256 ns. One writer at a time, under its lock;
 * anybody reads. */
#ifndef WEFT_BASE_HISTOGRAM_H
#define WEFT_BASE_HISTOGRAM_H

#include <weft/report.h>

#include "base/atomic.h"

enum { WEFT__HISTOGRAM_UNIT_BITS = 8, WEFT__HISTOGRAM_PARTS = 4 };

struct weft__histogram {
    at_word counts[WEFT_HISTOGRAM_SLOTS];
};

static inline int weft__histogram_slot(int64_t ns)
{
    uint64_t v = ns > 0 ? (uint64_t)ns >> WEFT__HISTOGRAM_UNIT_BITS : 0;
    if (v < WEFT__HISTOGRAM_PARTS)
        return (int)v;
    int power = 63 - __builtin_clzll(v), slot = (power - 1) * WEFT__HISTOGRAM_PARTS + (int)((v >> (power - 2)) & 3);
    return slot < WEFT_HISTOGRAM_SLOTS ? slot : WEFT_HISTOGRAM_SLOTS - 1;
}

/* The first time that is too long for it. */
static inline int64_t weft__histogram_end(int slot)
{
    int power = slot / WEFT__HISTOGRAM_PARTS + 1, part = slot % WEFT__HISTOGRAM_PARTS;
    int64_t v = slot < WEFT__HISTOGRAM_PARTS ? slot + 1 : (INT64_C(5) + part) << (power - 2);
    return v << WEFT__HISTOGRAM_UNIT_BITS;
}

static inline void weft__histogram_count(struct weft__histogram *h, int64_t ns)
{
    at_word *count = &h->counts[weft__histogram_slot(ns)];
    at_store(count, at_load(count) + 1);
}

#endif
