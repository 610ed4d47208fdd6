/* sched/ready.h - the ring of woken and yielding tasks of one worker: first in, first out, bounded.
 *
 * Owns      1024 slots of task indices; head and tail count up for ever, so a slot is never mistaken for a
 *           later one in the same place.
 * Callers   push by the worker, or by whoever has claimed it while it is parked (sched/idle.h) and has not yet
 *           set its wake word; pop by the worker; grab by any thread.
 * Holds     Q1  the tasks are the slots [head, tail); tail - head <= RING.
 *           Q2  a slot is written before the tail that covers it is published.
 *           Q3  whoever moves head over a slot has the task; a thief reads slots first, and its CAS on head
 *               says that none of them was reused meanwhile, for that needs head to have moved.
 * A full ring refuses; the caller sends half of it to the inject queue as one batch, so nothing blocks.
 * Source    the local run queue of Go and Tokio; 64-bit counters instead of tags.
 * Tested    tests/ready_test.c, tests/explore, stress/ready.c */
#ifndef WEFT_SCHED_READY_H
#define WEFT_SCHED_READY_H

#include "base/atomic.h"

#ifndef WEFT__RING
#define WEFT__RING 1024u
#endif

struct weft__ready_ring {
    _Alignas(128) at_word head;
    _Alignas(128) at_word tail;
    at_int slot[WEFT__RING];
};

static inline uint32_t weft__ready_len(const struct weft__ready_ring *r)
{
    uint64_t head = at_load(&r->head);
    uint64_t n = at_load(&r->tail) - head;
    return n > WEFT__RING ? 0 : (uint32_t)n;
}

static inline bool weft__ready_push(struct weft__ready_ring *r, uint32_t task)
{
    uint64_t tail = at_load(&r->tail);
    /* acquire (Q3): meets the CAS of a pop or grab; the slot has been read before it is written again. */
    if (tail - at_load_acquire(&r->head) >= WEFT__RING)
        return false;
    ati_store(&r->slot[tail % WEFT__RING], task);
    at_store_release(&r->tail, tail + 1); /* Q2: meets the acquire of tail in pop and grab */
    return true;
}

/* True and the oldest task, or false. */
static inline bool weft__ready_pop(struct weft__ready_ring *r, uint32_t *task)
{
    for (;;) {
        uint64_t head = at_load_acquire(&r->head);
        if (head == at_load_acquire(&r->tail))
            return false;
        *task = ati_load(&r->slot[head % WEFT__RING]);
        if (at_cas(&r->head, head, head + 1))
            return true;
    }
}

/* Takes the older half, at most `most`, into out[]; returns how many. */
static inline uint32_t weft__ready_grab(struct weft__ready_ring *r, uint32_t *out, uint32_t most)
{
    for (;;) {
        uint64_t head = at_load_acquire(&r->head);
        uint64_t n = at_load_acquire(&r->tail) - head;
        if (n == 0 || n > WEFT__RING)
            return 0;
        n -= n / 2;
        if (n > most)
            n = most;
        for (uint64_t i = 0; i < n; i++)
            out[i] = ati_load(&r->slot[(head + i) % WEFT__RING]);
        if (at_cas(&r->head, head, head + n))
            return (uint32_t)n;
    }
}

#endif
