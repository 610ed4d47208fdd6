/* base/fault.c - makes the n-th call of a kind fail. Tests only. */
#include "base/fault.h"

at_word weft__fault_armed;
static at_word until[WEFT__FAULT_KINDS]; /* calls that still succeed; counts down through zero */
static at_word failing[WEFT__FAULT_KINDS];
static at_word error_of[WEFT__FAULT_KINDS];
static at_word calls[WEFT__FAULT_KINDS], failed[WEFT__FAULT_KINDS];

void weft__fault_set(enum weft__fault_kind kind, long nth, long count, int error)
{
    at_store(&until[kind], (uint64_t)(nth - 1));
    at_store(&error_of[kind], (uint64_t)(int64_t)error);
    at_store(&failing[kind], (uint64_t)count);
    at_add(&weft__fault_armed, 1);
}

void weft__fault_clear(void)
{
    at_store(&weft__fault_armed, 0);
    for (int k = 0; k < WEFT__FAULT_KINDS; k++) {
        at_store(&failing[k], 0);
        at_store(&calls[k], 0);
        at_store(&failed[k], 0);
    }
}

long weft__fault_calls(enum weft__fault_kind kind)
{
    return (long)at_load(&calls[kind]);
}

long weft__fault_failed(enum weft__fault_kind kind)
{
    return (long)at_load(&failed[kind]);
}

int weft__fault_slow(enum weft__fault_kind kind)
{
    at_add(&calls[kind], 1);
    if (at_load(&failing[kind]) == 0)
        return 0;
    if ((int64_t)at_add(&until[kind], (uint64_t)-1) > 0)
        return 0;
    if ((int64_t)at_add(&failing[kind], (uint64_t)-1) <= 0) {
        at_store(&failing[kind], 0);
        return 0;
    }
    at_add(&failed[kind], 1);
    return (int)(int64_t)at_load(&error_of[kind]);
}
