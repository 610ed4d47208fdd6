/* sched/task.c - the table of control blocks.
 *
 * Owns      the table, the shared free list, and how far the table has been used.
 * Callers   every worker through its own cache; plain threads with c == NULL.
 * Holds     T1  a block is in exactly one place: a cache, the shared list, or alive.
 *           T2  the table is never unmapped and never moves.
 * The table is 16 M blocks of address space; memory is committed 1 MiB at a time. The shared list is one of batches, so
 * that under the lock nothing is walked: blocks that were used long ago are cold.
 * Source    the caches are the magazines of Bonwick and Adams, "Magazines and Vmem" (2001), linked and not in arrays. */
#include "sched/task.h"

#include <errno.h>

#include "base/futex.h"
#include "base/mem.h"

enum { BLOCKS = 1 << WEFT__INDEX_BITS, COMMIT = 16384, BATCH = WEFT__TASK_BATCH };

struct weft__task *weft__tasks;
union weft__member *weft__members;
at_int weft__tasks_used; /* written under lock */

static struct weft__lock lock;
static uint32_t batches;   /* under lock: the first block of the first batch, + 1 */
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
    return ati_load_acquire(&weft__tasks_used);
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

/* In the scope word of a batch's first block: {the next batch : 32 | how many it has : 32}. */
static void head_batch(uint32_t first, uint32_t next, uint32_t n)
{
    at_store(&weft__task_at(first - 1)->scope, (uint64_t)next << 32 | n);
    batches = first;
}

static uint32_t take_batch(uint32_t *n)
{
    uint32_t first = batches;
    if (first == 0)
        return 0;
    uint64_t head = at_load(&weft__task_at(first - 1)->scope);
    batches = (uint32_t)(head >> 32);
    *n = (uint32_t)head;
    return first;
}

static struct weft__task *take_one(void)
{
    uint32_t n, first = take_batch(&n);
    if (first == 0)
        return NULL;
    struct weft__task *t = weft__task_at(first - 1);
    if (n > 1)
        head_batch(ati_load(&t->link), batches, n - 1);
    return t;
}

static void give_one(struct weft__task *t)
{
    uint32_t n, first = take_batch(&n);
    bool full = first != 0 && n == BATCH;
    if (full)
        head_batch(first, batches, n);
    ati_store(&t->link, full ? 0 : first);
    head_batch(weft__task_index(t) + 1, batches, full || first == 0 ? 1 : n + 1);
}

/* Blocks that were never used, at most `most`, linked; the first + 1, or 0. */
static uint32_t take_fresh(uint32_t most, uint32_t *n)
{
    uint32_t from = ati_load(&weft__tasks_used);
    if (from >= committed && !commit_more())
        return 0;
    *n = committed - from < most ? committed - from : most;
    for (uint32_t i = from; i < from + *n; i++)
        ati_store(&weft__task_at(i)->link, i + 1 < from + *n ? i + 2 : 0);
    ati_store_release(&weft__tasks_used, from + *n);
    return from + 1;
}

static struct weft__task *alloc_shared(void)
{
    uint32_t n, fresh;
    weft__lock(&lock);
    struct weft__task *t = take_one();
    if (!t && (fresh = take_fresh(1, &n)) != 0)
        t = weft__task_at(fresh - 1);
    weft__unlock(&lock);
    return t;
}

/* The cache has none: its spare batch, or one of the shared ones. */
struct weft__task *weft__task_alloc_slow(struct weft__task_cache *c)
{
    if (!c)
        return alloc_shared();
    uint32_t n = BATCH, first = own(c->spare);
    own_set(c->spare, 0);
    if (first == 0) {
        weft__lock(&lock);
        first = take_batch(&n);
        if (first == 0)
            first = take_fresh(BATCH, &n);
        weft__unlock(&lock);
    }
    if (first == 0)
        return NULL;
    own_set(c->head, first);
    own_set(c->count, (int)n);
    return weft__task_alloc(c);
}

/* The cache is full: its batch becomes the spare one, and the spare one everybody's. */
void weft__task_free_slow(struct weft__task_cache *c, struct weft__task *t)
{
    if (weft__number_of(at_load(&t->state)) >= (UINT64_C(1) << WEFT__GENERATION_BITS) - 1)
        return; /* retired */
    uint32_t spare = c ? own(c->spare) : 0;
    if (!c || spare) {
        weft__lock(&lock);
        if (spare)
            head_batch(spare, batches, BATCH);
        else
            give_one(t);
        weft__unlock(&lock);
    }
    if (!c)
        return;
    own_set(c->spare, own(c->head));
    ati_store(&t->link, 0);
    own_set(c->head, weft__task_index(t) + 1);
    own_set(c->count, 1);
}

void weft__task_cache_return(struct weft__task_cache *c)
{
    while (own(c->head) != 0 || own(c->spare) != 0)
        weft__task_free_slow(NULL, weft__task_alloc(c));
}
