/* sched/task.c - the table of control blocks.
 *
 * Owns      the table, the shared free blocks, and how far the table has been used.
 * Callers   every worker through its own cache; plain threads with c == NULL. trim: an I/O thread (engine/trim.c).
 * Holds     T1  a block is in exactly one place: a cache, the shared list, a page, or alive.
 *           T2  the table is never unmapped and never moves.
 * The table is 16 M blocks of address space; memory is committed 1 MiB at a time. The shared list is one of batches, so
 * that under the lock nothing is walked: blocks that were used long ago are cold.
 *
 * Its memory comes back by pages, of 64 blocks each. What is known of a page lies beside the table, in `pages`.
 *
 *     the trim                                     who looks at a block of the page, at any time, however late
 *     N1  takes a batch off the shared list; each
 *         of its blocks is hung into its page,
 *         under the lock, which learns the highest
 *         generation and ticket
 *     N2  a page that is free all over is taken
 *         off its list, under the lock: nobody
 *         can get a block of it any more
 *     N3  kept = its highest generation
 *     N4  MADV_DONTNEED, without the lock          sees what was, or zeros: FREE, number 0, life 0. No wait and no
 *                                                  life has number 0, so nothing is fired, claimed or joined; that
 *                                                  the task of an id has ended, and not never been, says `kept`
 *     N5  under the lock: the page can be had
 *     N6  who takes it writes the highest numbers  finds number >= its own in phase FREE, as ever: they do not
 *         into all its blocks, under the lock      repeat
 *
 * Forbidden (N3/N4): who looks reads a zero of N4, and `kept` from before N3. Then a task that has ended never was.
 * Between any two steps the free blocks can be had: loose batches first, then pages; so a trim can be given up anywhere,
 * and several may be going on. The members (coord/tree.c) of 8 pages fill one page of theirs, and go with the last of them:
 * they mean nothing while their blocks are free.
 * Source    the caches are the magazines of Bonwick and Adams, "Magazines and Vmem" (2001), linked and not in arrays.
 * Tested    tests/task_table_test.c, tests/memory_test.c */
#include "sched/task.h"

#include <errno.h>

#include "base/futex.h"
#include "base/mem.h"

enum {
    BLOCKS = 1 << WEFT__INDEX_BITS,
    COMMIT = 16384,
    BATCH = WEFT__TASK_BATCH,
    TOGETHER = 16, /* batches that are sorted at once */
    PAGE_BYTES = 4096,
    PAGE = PAGE_BYTES / sizeof(struct weft__task),
    SIBLINGS = PAGE_BYTES / sizeof(union weft__member) / PAGE, /* pages whose members share one */
};

/* Where a page is; NOWHERE: none of its blocks is hung into it. */
enum list { NOWHERE, SOME_FREE, ALL_FREE, IN_TRIM, GIVEN_BACK, LISTS };

struct page {
    at_word kept;                /* N3 */
    uint64_t generation, ticket; /* the highest there were; the rest is under the lock */
    uint32_t next, prev;         /* in its list: page + 1, 0 none */
    uint32_t head;               /* of its free blocks: index + 1 */
    uint16_t n;                  /* how many */
    uint16_t list;
};

struct weft__task *weft__tasks;
union weft__member *weft__members;
at_int weft__tasks_used; /* written under lock */

static struct weft__lock lock;
static uint32_t batches;   /* under lock: the first block of the first batch, + 1 */
static uint32_t batched;   /* under lock: how many blocks those have */
static struct page pages[BLOCKS / PAGE];
static uint32_t lists[LISTS]; /* under lock: the first page, + 1 */
static bool cannot_discard;   /* under lock */
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
    bool there = weft__tasks != NULL;
    if (there)
        ati_store_release(&reserved, 1);
    weft__unlock(&lock);
    return there ? 0 : -ENOMEM; /* what is missing is tried again next time */
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

/* ---- pages, under the lock */

static void move_page(struct page *p, enum list to)
{
    uint32_t me = (uint32_t)(p - pages) + 1;
    if (p->list != NOWHERE && p->list != IN_TRIM) {
        if (p->prev)
            pages[p->prev - 1].next = p->next;
        else
            lists[p->list] = p->next;
        if (p->next)
            pages[p->next - 1].prev = p->prev;
    }
    p->list = (uint16_t)to;
    if (to == NOWHERE || to == IN_TRIM)
        return;
    p->prev = 0;
    p->next = lists[to];
    if (p->next)
        pages[p->next - 1].prev = me;
    lists[to] = me;
}

/* Of a page that is on a list: its free blocks, and none of them stays behind. */
static uint32_t take_page(struct page *p, uint32_t *n)
{
    uint32_t head = p->head;
    *n = p->n;
    p->head = p->n = 0;
    move_page(p, NOWHERE);
    return head;
}

/* N6 */
static uint32_t take_given_back(struct page *p, uint32_t *n)
{
    uint32_t from = (uint32_t)(p - pages) * PAGE;
    for (uint32_t i = from; i < from + PAGE; i++) {
        struct weft__task *t = weft__task_at(i);
        at_store(&t->ticket, p->ticket);
        ati_store(&t->link, i + 1 < from + PAGE ? i + 2 : 0);
        at_store_release(&t->state, weft__state(p->generation, 0, 0, WEFT__FREE));
    }
    move_page(p, NOWHERE);
    *n = PAGE;
    return from + 1;
}

/* ---- the shared list, under the lock */

/* In the scope word of a batch's first block: {the next batch : 32 | how many it has : 32}. */
static void head_batch(uint32_t first, uint32_t next, uint32_t n)
{
    at_store(&weft__task_at(first - 1)->scope, (uint64_t)next << 32 | n);
    batches = first;
    batched += n;
}

static uint32_t take_loose(uint32_t *n)
{
    uint32_t first = batches;
    if (first == 0)
        return 0;
    uint64_t head = at_load(&weft__task_at(first - 1)->scope);
    batches = (uint32_t)(head >> 32);
    *n = (uint32_t)head;
    batched -= *n;
    return first;
}

/* Blocks that were used before: those that have memory first. */
static uint32_t take_batch(uint32_t *n)
{
    if (batches)
        return take_loose(n);
    if (lists[SOME_FREE])
        return take_page(&pages[lists[SOME_FREE] - 1], n);
    if (lists[ALL_FREE])
        return take_page(&pages[lists[ALL_FREE] - 1], n);
    return lists[GIVEN_BACK] ? take_given_back(&pages[lists[GIVEN_BACK] - 1], n) : 0;
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
    uint32_t n, first = take_loose(&n);
    bool full = first != 0 && n == BATCH;
    if (full)
        head_batch(first, batches, n);
    ati_store(&t->link, full ? 0 : first);
    head_batch(weft__task_index(t) + 1, batches, full || first == 0 ? 1 : n + 1);
}

/* ---- alloc and free */

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
    weft__lock(&lock);
    if (own(c->head))
        head_batch(own(c->head), batches, (uint32_t)own(c->count));
    if (own(c->spare))
        head_batch(own(c->spare), batches, BATCH);
    weft__unlock(&lock);
    own_set(c->head, 0);
    own_set(c->spare, 0);
    own_set(c->count, 0);
}

/* ---- the trim */

/* N1, of one block, which is in no other place. */
static void hang(struct weft__task *t)
{
    struct page *p = &pages[weft__task_index(t) / PAGE];
    uint64_t generation = weft__number_of(at_load(&t->state)), ticket = at_load(&t->ticket);
    weft__lock(&lock);
    if (p->generation < generation)
        p->generation = generation;
    if (p->ticket < ticket)
        p->ticket = ticket;
    ati_store(&t->link, p->head);
    p->head = weft__task_index(t) + 1;
    p->n++;
    if (p->n == 1)
        move_page(p, SOME_FREE);
    else if (p->n == PAGE)
        move_page(p, ALL_FREE);
    weft__unlock(&lock);
}

/* N1, of some batches in turns: each block is a miss of its own, and while one is on its way the others are hung. */
uint32_t weft__task_table_sort(void)
{
    uint32_t heads[TOGETHER], all = 0, batch = 0, more = 0;
    weft__lock(&lock);
    while (!cannot_discard && batch < TOGETHER && (heads[batch] = take_loose(&more)) != 0) {
        all += more;
        batch++;
    }
    weft__unlock(&lock);
    for (uint32_t left = batch; left > 0;) {
        left = 0;
        for (uint32_t i = 0; i < batch; i++) {
            if (heads[i] == 0)
                continue;
            struct weft__task *t = weft__task_at(heads[i] - 1);
            heads[i] = ati_load(&t->link);
            if (heads[i] != 0)
                at_prefetch(weft__task_at(heads[i] - 1));
            left += heads[i] != 0;
            hang(t);
        }
    }
    return all;
}

/* N2. Which of the siblings of the first page that is all free are so too; and which have no memory already, taken off as
 * well if their members can go. */
static struct page *take_siblings(unsigned *all_free, unsigned *given_back)
{
    *all_free = *given_back = 0;
    if (!lists[ALL_FREE] || cannot_discard)
        return NULL;
    struct page *first = &pages[(lists[ALL_FREE] - 1) / SIBLINGS * SIBLINGS];
    for (unsigned i = 0; i < SIBLINGS; i++) {
        *all_free |= first[i].list == ALL_FREE ? 1u << i : 0;
        *given_back |= first[i].list == GIVEN_BACK ? 1u << i : 0;
    }
    if ((*all_free | *given_back) != (1u << SIBLINGS) - 1)
        *given_back = 0;
    for (unsigned i = 0; i < SIBLINGS; i++)
        if ((*all_free | *given_back) & 1u << i)
            move_page(&first[i], IN_TRIM);
    return first;
}

/* N3 and N4, of those in `all_free`, which are ours. Returns which of them have no memory any more. */
static unsigned discard(struct page *first, unsigned all_free)
{
    unsigned gone = 0, n;
    for (unsigned i = 0; i < SIBLINGS; i += n + 1) {
        for (n = 0; i + n < SIBLINGS && (all_free & 1u << (i + n)); n++)
            /* release: meets the acquire of the state in coord/task.c, look_up, which may read a zero of N4 */
            at_store_release(&first[i + n].kept, first[i + n].generation);
        if (n > 0 && weft__space_discard(weft__task_at((uint32_t)(first - pages + i) * PAGE), n * (size_t)PAGE_BYTES) == 0)
            gone |= ((1u << n) - 1) << i;
    }
    return gone;
}

bool weft__task_table_give_back(void)
{
    unsigned all_free, given_back;
    weft__lock(&lock);
    struct page *first = take_siblings(&all_free, &given_back);
    weft__unlock(&lock);
    if (!first)
        return false;
    unsigned gone = discard(first, all_free);
    if ((gone | given_back) == (1u << SIBLINGS) - 1)
        (void)weft__space_discard(&weft__members[(uint32_t)(first - pages) * PAGE], PAGE_BYTES);
    weft__lock(&lock); /* N5 */
    for (unsigned i = 0; i < SIBLINGS; i++) {
        if (gone & 1u << i)
            first[i].head = first[i].n = 0;
        if ((gone | given_back) & 1u << i)
            move_page(&first[i], GIVEN_BACK);
        else if (all_free & 1u << i)
            move_page(&first[i], ALL_FREE);
    }
    cannot_discard = gone != all_free; /* locked memory: it stays so, as a rule */
    weft__unlock(&lock);
    return gone == all_free;
}

uint32_t weft__task_table_loose(void)
{
    weft__lock(&lock);
    uint32_t n = batched;
    weft__unlock(&lock);
    return n;
}

uint64_t weft__task_table_kept(uint32_t index)
{
    return at_load(&pages[index / PAGE].kept);
}
