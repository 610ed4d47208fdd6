/* coord/side.h - what a few tasks need beside their control block: options, copied arguments, inherited values.
 *
 * Up to 16 bytes of a copied argument travel in the block itself and arrive in the frame. */
#ifndef WEFT_COORD_SIDE_H
#define WEFT_COORD_SIDE_H

#include "coord/keeps.h"
#include "sched/sched.h"

enum { WEFT__NAME_BYTES = 32 };

struct weft__side {
    int *result;
    void *site; /* where the task was spawned */
    char name[WEFT__NAME_BYTES]; /* written under HELD (coord/task.c) */
    bool keep_fp;
    struct weft__policy *policy; /* of its scope, which takes all this when the task has ended; NULL: none */
    struct weft__link link;      /* in its list of those */
    weft_task id;                /* then */
    int code;
    void *arg;    /* the argument, if it is not copied here */
    struct weft__keeps keeps; /* the task's, if its spawner had something to hand on */
    size_t bytes; /* copied */
    _Alignas(16) char data[];
};

/* For a block that nobody else knows yet. 0; -ENOMEM; -EINVAL bad options. */
int weft__side_copy(struct weft__task *t, const void *arg, size_t bytes);
int weft__side_make(struct weft__task *t, struct weft__group *g, void *arg, const weft_spawn_options *o);
/* Takes along what its spawner hands on. 0; -ENOMEM. */
int weft__side_hand_on(struct weft__task *t, struct weft__handed *h);
void weft__side_drop(struct weft__task *t);

/* At the task's begin. */
void weft__side_unpack(struct weft__frame *f, struct weft__task *t, uint32_t bits);

/* ---- coord/task.c */

/* HELD is a lock on the end of one life. False: the task has ended, or somebody else holds it. */
static inline bool weft__life_try_hold(struct weft__task *t, weft_task id)
{
    uint64_t life = at_load(&t->life);
    if ((life & WEFT__LIFE_ID) != (uint64_t)id || (life & WEFT__LIFE_HELD) || !at_cas(&t->life, life, life | WEFT__LIFE_HELD))
        return false;
    weft__hb_acquire(&t->fn); /* as in weft__task_begin */
    return true;
}
static inline void weft__life_release(struct weft__task *t)
{
    uint64_t life;
    do {
        life = at_load(&t->life);
    } while (!at_cas(&t->life, life, life & ~WEFT__LIFE_HELD));
}

/* Reports each task of the runtime, in these words; how many. */
int weft__report_tasks(struct weft_runtime *rt, const char *what, int code, const char *text);
/* As one that was told to leave and has not. */
void weft__report_left(struct weft_runtime *rt);

/* The life word becomes 0: the id is dead, and who waits for that is woken. */
void weft__life_end_slow(struct weft__task *t, weft_task id);
static inline void weft__life_end(struct weft__task *t, weft_task id)
{
    /* acq_rel: what the task wrote is seen by whoever finds it dead. Looked at first: a mark of a joiner's costs no CAS. */
    if (at_load(&t->life) != (uint64_t)id || !at_cas(&t->life, (uint64_t)id, 0))
        weft__life_end_slow(t, id);
}

#endif
