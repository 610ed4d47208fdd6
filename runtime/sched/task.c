/* sched/task.c - the table of control blocks.
 *
 * Owns      the table, the shared free list, and how far the table has been used.
 * Callers   every worker through its own cache; plain threads with c == NULL.
 * Holds     T1  a block is in exactly one place: a cache, the shared list, or alive.
 *           T2  the table is never unmapped and never moves.
 * The table is 16 M blocks of address space; memory is committed 1 MiB at a time. */
#include "sched/task.h"

#include <errno.h>

#include "base/futex.h"
#include "base/mem.h"

enum { BLOCKS = 1 << WEFT__INDEX_BITS, COMMIT = 16384, BATCH = 64 };

struct weft__task *weft__tasks;
struct weft__member *weft__members;

static struct weft__lock lock;
static uint32_t free_head; /* under lock */
static at_int used;        /* written under lock */
static uint32_t committed;
static at_int reserved;

int weft__task_table_init(void)
{
    if (ati_load_acquire(&reserved))
        return 0;
    weft__lock(&lock);
    if (!weft__members)
        weft__members = weft__space_reserve((size_t)BLOCKS * sizeof *weft__members);
    if (weft__members && !weft__tasks)
        weft__tasks = weft__space_reserve((size_t)BLOCKS * sizeof *weft__tasks);
    if (weft__tasks)
        ati_store_release(&reserved, 1);
    weft__unlock(&lock);
    return weft__tasks ? 0 : -ENOMEM; /* what is missing is tried again next time */
}

uint32_t weft__task_table_used(void)
{
    return ati_load_acquire(&used);
}

static bool commit_more(void)
{
    if (committed >= BLOCKS)
        return false;
    if (weft__space_commit(weft__tasks + committed, COMMIT * sizeof *weft__tasks) < 0 ||
            weft__space_commit(weft__members + committed, COMMIT * sizeof *weft__members) < 0)
        return false;
    committed += COMMIT;
    return true;
}

static struct weft__task *take_shared(void)
{
    struct weft__task *t;
    if (free_head) {
        t = weft__task_at(free_head - 1);
        free_head = ati_load(&t->link);
        return t;
    }
    uint32_t n = ati_load(&used);
    if (n >= committed && !commit_more())
        return NULL;
    ati_store_release(&used, n + 1);
    return weft__task_at(n);
}

struct weft__task *weft__task_alloc_slow(struct weft__task_cache *c)
{
    weft__lock(&lock);
    struct weft__task *t = take_shared();
    for (int i = 0; c && t && i < BATCH; i++) {
        struct weft__task *more = take_shared();
        if (!more)
            break;
        ati_store(&more->link, own(c->head));
        own_set(c->head, weft__task_index(more) + 1);
        own_set(c->count, own(c->count) + 1);
    }
    weft__unlock(&lock);
    return t;
}

static void give_shared(struct weft__task *t)
{
    ati_store(&t->link, free_head);
    free_head = weft__task_index(t) + 1;
}

void weft__task_free_slow(struct weft__task_cache *c, struct weft__task *t)
{
    uint64_t generation = weft__number_of(at_load(&t->state));
    bool retired = generation >= (UINT64_C(1) << WEFT__GENERATION_BITS) - 1;
    weft__lock(&lock);
    if (!retired)
        give_shared(t);
    while (c && own(c->count) > 128) {
        struct weft__task *k = weft__task_at(own(c->head) - 1);
        own_set(c->head, ati_load(&k->link));
        own_set(c->count, own(c->count) - 1);
        give_shared(k);
    }
    weft__unlock(&lock);
}
