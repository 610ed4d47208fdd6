/* claim.c - sched/task: each life of a block is run once, and an entry of an earlier life is dead. */
#include "scenarios.h"

#include "sched/deque.h"
#include "sched/task.h"

enum { LIVES = 4 };

static struct weft__deque d;
static struct weft__task_cache caches[3];
static at_word scope_word;
static unsigned char runs[PEOPLE][LIVES + 1]; /* by block and generation */
static unsigned char begun;

static void setup(void)
{
    people_reset();
    table_reset(0);
    memset(&d, 0, sizeof d);
    memset(caches, 0, sizeof caches);
    memset(runs, 0, sizeof runs);
    begun = 0;
    scope_word = 0;
    if (weft__deque_init(&d, 4) < 0)
        abort();
    /* A few blocks in the owner's cache, so that the last one freed is used again; the thieves' are empty. */
    ex_be(0);
    for (int i = 0; i < 3; i++) {
        struct weft__task *t = weft__task_alloc_slow(NULL);
        t->link = caches[0].head;
        caches[0].head = weft__task_index(t) + 1;
        caches[0].count++;
    }
    ex_ghost(runs, sizeof runs);
    ex_ghost(&begun, sizeof begun);
}

/* As weft_spawn does; not pushed yet. */
static weft_task begin(struct weft__task_cache *c)
{
    struct weft__task *t = weft__task_alloc(c);
    ex_expect(t != NULL);
    ati_store(&t->bits, 0);
    ex_write(&t->fn, "a task's function");
    at_store(&t->scope, (uint64_t)(uintptr_t)&scope_word);
    weft_task id = weft__task_begin(t);
    begun++;
    return id;
}

static struct weft__task *block(weft_task id)
{
    return weft__task_at(weft__id_index(id));
}

/* As a child's body and end do. */
static void run(struct weft__task_cache *c, weft_task id)
{
    struct weft__task *t = block(id);
    uint64_t generation = weft__id_generation(id);
    ex_expect(weft__id_index(id) < PEOPLE && generation <= LIVES);
    if (runs[weft__id_index(id)][generation]++)
        ex_fail("life %d runs twice", (int)generation);
    ex_read(&t->fn, "a task's function");
    ex_expect(at_load(&t->scope) == (uint64_t)(uintptr_t)&scope_word);
    ex_expect(at_cas(&t->life, (uint64_t)id, 0));
    weft__task_recycle(c, t, id);
}

static void run_if_new(struct weft__task_cache *c, weft_task id)
{
    if (id && weft__task_claim(block(id), id))
        run(c, id);
}

static void check(void)
{
    int all = 0;
    weft_task id;
    ex_be(0);
    while ((id = (weft_task)weft__deque_take(&d)) != 0)
        run_if_new(NULL, id);
    for (int i = 0; i < PEOPLE; i++)
        for (int k = 0; k <= LIVES; k++)
            all += runs[i][k];
    if (all != begun)
        ex_fail("%d of %d lives were run", all, begun);
}

/* The owner joins out of order, the block is used again at once, and thieves hold entries of any life. */
static void joiner(int me)
{
    if (me == 0) {
        weft_task first = begin(&caches[0]);
        ex_expect(weft__deque_push(&d, (uint64_t)first));
        run_if_new(&caches[0], first);
        weft_task second = begin(&caches[0]);
        ex_expect(weft__deque_push(&d, (uint64_t)second));
        run_if_new(&caches[0], (weft_task)weft__deque_take(&d));
        return;
    }
    run_if_new(&caches[me], (weft_task)weft__deque_steal(&d));
}

/* A thief spawns from the block that it has just run. */
static void passed_on(int me)
{
    if (me == 0) {
        weft_task id = begin(&caches[0]);
        ex_expect(weft__deque_push(&d, (uint64_t)id));
        run_if_new(&caches[0], id);
        return;
    }
    weft_task id = (weft_task)weft__deque_steal(&d);
    if (me == 1 && id && weft__task_claim(block(id), id)) {
        run(&caches[1], id);
        id = begin(&caches[1]);
    }
    if (id)
        run_if_new(&caches[me], id);
}

/* Who takes its own newest child claims it without a compare-and-swap. */
static void own_newest(int me)
{
    if (me == 0) {
        for (int i = 0; i < 2; i++) {
            weft_task id = begin(&caches[0]);
            ex_expect(weft__deque_push(&d, (uint64_t)id));
            id = (weft_task)weft__deque_take(&d);
            if (id && weft__task_is_new(block(id), id)) {
                weft__task_claim_own(block(id));
                run(&caches[0], id);
            }
        }
        return;
    }
    run_if_new(&caches[me], (weft_task)weft__deque_steal(&d));
}

/* Blocks go from thread to thread through the shared list. */
static void shared(int me)
{
    if (me == 0) {
        weft_task id = begin(&caches[0]);
        ex_expect(weft__deque_push(&d, (uint64_t)id));
        if (weft__task_claim(block(id), id))
            run(NULL, id);
        return;
    }
    weft_task id = begin(NULL);
    if (weft__task_claim(block(id), id))
        run(NULL, id);
}

/* Ids that were told by nobody: only the claim says whether the task is there. */
static void by_id(int me)
{
    if (me == 0) {
        run_if_new(&caches[0], begin(&caches[0]));
        run_if_new(&caches[0], begin(&caches[0]));
        return;
    }
    run_if_new(&caches[me], (weft_task)((uint64_t)me << WEFT__INDEX_BITS | 2)); /* of the first block that is used */
}

const struct ex_scenario claim_scenarios[] = {
    { "claim", "joiner", 3, setup, joiner, check, -1, "joined out of order, and the block used again", NULL },
    { "claim", "passed_on", 3, setup, passed_on, check, -1, "a thief's block begins its next life", NULL },
    { "claim", "own_newest", 3, setup, own_newest, check, -1, "the owner's own newest, without a CAS", NULL },
    { "claim", "shared", 3, setup, shared, check, 2, "blocks by way of the shared list", NULL },
    { "claim", "by_id", 3, setup, by_id, check, -1, "by ids that nobody passed on", NULL },
    { 0 },
};
