/* task_table_test.c - the table of control blocks: sched/task.h, T1 and T2, generations. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"
#include "sched/task.h"

enum { MANY = 40000 }; /* more than are committed at a time */

static void setup(void)
{
    ck_assert_int_eq(weft__task_table_init(), 0);
    ck_assert_int_eq(weft__task_table_init(), 0);
}

/* One whole life, but for its end. */
static weft_task begin_life(struct weft__task_cache *c, struct weft__task **out)
{
    struct weft__task *t = weft__task_alloc(c);
    ck_assert_ptr_nonnull(t);
    *out = t;
    return weft__task_begin(t);
}

static void end_life(struct weft__task_cache *c, struct weft__task *t, weft_task id)
{
    at_store(&t->life, 0);
    weft__task_recycle(c, t, id);
}

START_TEST(an_id_names_block_and_generation)
{
    struct weft__task *t;
    setup();
    weft_task id = begin_life(NULL, &t);
    ck_assert_int_gt(id, 0);
    ck_assert_uint_eq(weft__id_index(id), weft__task_index(t));
    ck_assert_uint_eq(weft__id_generation(id), weft__number_of(at_load(&t->state)));
    ck_assert_uint_eq(at_load(&t->life), (uint64_t)id);
    ck_assert(weft__task_is_new(t, id));
    ck_assert(weft__task_claim(t, id));
    ck_assert(!weft__task_is_new(t, id));
    ck_assert_int_eq(weft__phase_of(at_load(&t->state)), WEFT__RUNNING);
    end_life(NULL, t, id);
    ck_assert_int_eq(weft__phase_of(at_load(&t->state)), WEFT__FREE);
}
END_TEST

START_TEST(a_task_is_claimed_once)
{
    struct weft__task *t;
    setup();
    weft_task id = begin_life(NULL, &t);
    ck_assert(weft__task_claim(t, id));
    ck_assert(!weft__task_claim(t, id));
    end_life(NULL, t, id);
    ck_assert(!weft__task_claim(t, id));
}
END_TEST

START_TEST(each_life_has_an_id_of_its_own_and_stale_ids_claim_nothing)
{
    struct weft__task_cache c = { 0 };
    weft_task old[200];
    setup();
    for (int i = 0; i < COUNT(old); i++) {
        struct weft__task *t;
        old[i] = begin_life(&c, &t);
        if (i > 0) { /* the hottest block first */
            ck_assert_uint_eq(weft__id_index(old[i]), weft__id_index(old[0]));
            ck_assert_uint_eq(weft__id_generation(old[i]), weft__id_generation(old[i - 1]) + 1);
        }
        for (int k = 0; k < i; k++) {
            ck_assert(!weft__task_is_new(t, old[k]));
            ck_assert(!weft__task_claim(t, old[k]));
        }
        ck_assert(weft__task_is_new(t, old[i]));
        ck_assert(weft__task_claim(t, old[i]));
        for (int k = 0; k < i; k++)
            ck_assert(!weft__task_claim(t, old[k]));
        /* Waits of its life do not bring an old generation back. */
        at_store(&t->ticket, weft__id_generation(old[0]) + 1);
        end_life(&c, t, old[i]);
    }
    weft__task_cache_return(&c);
}
END_TEST

START_TEST(a_block_whose_generations_are_used_up_is_retired)
{
    const uint64_t most = (UINT64_C(1) << WEFT__GENERATION_BITS) - 1;
    struct weft__task_cache cache = { 0 }, *c = _i ? &cache : NULL;
    setup();
    struct weft__task *t = weft__task_alloc(c), *other;
    at_store(&t->state, weft__state(most - 2, 0, 0, WEFT__FREE));
    weft_task id = weft__task_begin(t);
    ck_assert(weft__task_claim(t, id));
    end_life(c, t, id);
    ck_assert_ptr_eq(weft__task_alloc(c), t);
    id = weft__task_begin(t);
    ck_assert_int_gt(id, 0);
    ck_assert_uint_eq(weft__id_generation(id), most);
    ck_assert_uint_eq((uint64_t)id & ~WEFT__LIFE_ID, 0);
    ck_assert(weft__task_claim(t, id));
    end_life(c, t, id);
    struct weft__task *taken[500];
    for (int i = 0; i < COUNT(taken); i++) {
        taken[i] = other = weft__task_alloc(c);
        ck_assert_ptr_ne(other, t);
    }
    for (int i = 0; i < COUNT(taken); i++)
        weft__task_free_slow(NULL, taken[i]);
    weft__task_cache_return(&cache);
}
END_TEST

START_TEST(blocks_that_live_are_all_different)
{
    struct weft__task_cache c = { 0 };
    struct weft__task **t = calloc(MANY, sizeof(struct weft__task *));
    weft_task *id = calloc(MANY, sizeof *id);
    setup();
    for (int i = 0; i < MANY; i++) {
        id[i] = begin_life(i % 2 ? &c : NULL, &t[i]);
        ati_store(&t[i]->link, (uint32_t)i);
    }
    for (int i = 0; i < MANY; i++)
        ck_assert_uint_eq(ati_load(&t[i]->link), (uint32_t)i);
    ck_assert_uint_ge(weft__task_table_used(), MANY);
    for (int i = 0; i < MANY; i++) {
        ck_assert(weft__task_claim(t[i], id[i]));
        end_life(&c, t[i], id[i]);
        ck_assert_int_le(c.count, WEFT__TASK_BATCH);
    }
    uint32_t used = weft__task_table_used();
    for (int i = 0; i < MANY; i++)
        t[i] = weft__task_alloc(i % 2 ? &c : NULL);
    ck_assert_uint_le(weft__task_table_used(), used + WEFT__TASK_BATCH); /* they were used again */
    for (int i = 0; i < MANY; i++)
        weft__task_free_slow(NULL, t[i]);
    weft__task_cache_return(&c);
    free(t);
    free(id);
}
END_TEST

START_TEST(without_memory_there_is_no_block_until_there_is)
{
    enum { MOST = 40000 };
    struct weft__task **t = calloc(MOST + 1, sizeof(struct weft__task *));
    int n = 0;
    setup();
    weft__fault_set(WEFT__FAULT_MMAP, 1, LONG_MAX, -ENOMEM);
    while (n < MOST && (t[n] = weft__task_alloc(NULL)) != NULL)
        n++;
    bool refused = n < MOST;
    struct weft__task *again = weft__task_alloc(NULL);
    weft__fault_clear();
    struct weft__task *then = weft__task_alloc(NULL);
    ck_assert(refused);
    ck_assert_ptr_null(again);
    ck_assert_ptr_nonnull(then);
    weft__task_free_slow(NULL, then);
    while (n > 0)
        weft__task_free_slow(NULL, t[--n]);
    free(t);
}
END_TEST

/* -- memory comes back -- */

static void trim_all(void)
{
    while (weft__task_table_sort() > 0)
        continue;
    while (weft__task_table_give_back())
        continue;
}

struct numbers {
    uint64_t generation, ticket;
};

/* Takes all of `n` blocks, lives a life in each, and gives them back. */
static void live_in_all(struct weft__task **t, struct numbers *was, int n)
{
    for (int i = 0; i < n; i++) {
        weft_task id = begin_life(NULL, &t[i]);
        struct numbers *w = &was[weft__task_index(t[i])];
        ck_assert_uint_gt(weft__id_generation(id), w->generation);
        ck_assert_uint_ge(at_load(&t[i]->ticket), w->ticket);
        ck_assert(weft__task_claim(t[i], id));
        *w = (struct numbers){ weft__id_generation(id), at_load(&t[i]->ticket) + (uint64_t)(i % 7) };
        at_store(&t[i]->ticket, w->ticket);
    }
    for (int i = 0; i < n; i++)
        end_life(NULL, t[i], (weft_task)(was[weft__task_index(t[i])].generation << WEFT__INDEX_BITS | weft__task_index(t[i])));
}

START_TEST(numbers_go_on_over_a_trim_and_blocks_without_memory_are_free)
{
    struct weft__task **t = calloc(MANY, sizeof(struct weft__task *));
    setup();
    uint32_t before = weft__task_table_used() + MANY + 1;
    struct numbers *was = calloc(before, sizeof *was);
    for (int round = 0; round < 4; round++) {
        live_in_all(t, was, round == 2 ? 1000 : MANY);
        if (_i == 1)
            weft__fault_set(WEFT__FAULT_DISCARD, 3, 1, -EINVAL);
        trim_all();
        weft__fault_clear();
        uint32_t back = 0;
        for (uint32_t i = 0; i < weft__task_table_used(); i++) {
            struct weft__task *b = weft__task_at(i);
            uint64_t state = at_load(&b->state);
            weft_task id = (weft_task)(was[i].generation << WEFT__INDEX_BITS | i);
            if (was[i].generation == 0)
                continue;
            ck_assert_int_eq(weft__phase_of(state), WEFT__FREE);
            ck_assert_uint_eq(at_load(&b->life), 0);
            ck_assert(!weft__task_is_new(b, id));
            ck_assert(!weft__task_claim(b, id));
            back += weft__number_of(state) == 0;
            ck_assert(weft__number_of(state) >= was[i].generation || weft__task_table_kept(i) >= was[i].generation);
        }
        if (_i == 0)
            ck_assert_uint_ge(back, MANY / 64 * 64 - 64);
    }
    ck_assert_uint_le(weft__task_table_used(), before + WEFT__TASK_BATCH);
    free(was);
    free(t);
}
END_TEST

START_TEST(a_page_with_a_block_that_lives_stays)
{
    struct weft__task *t[640];
    setup();
    for (int i = 0; i < COUNT(t); i++)
        t[i] = weft__task_alloc(NULL);
    uint32_t first = weft__task_index(t[0]);
    for (int i = 0; i < COUNT(t); i++) {
        at_store(&t[i]->fn, (uint64_t)i + 1);
        if (i % 100 != 0)
            weft__task_free_slow(NULL, t[i]);
    }
    trim_all();
    int zeros = 0;
    for (int i = 0; i < COUNT(t); i++) {
        if (i % 100 == 0)
            ck_assert_uint_eq(at_load(&t[i]->fn), (uint64_t)i + 1);
        zeros += at_load(&t[i]->fn) == 0;
    }
    if (first % 64 == 0)
        ck_assert_int_eq(zeros, 3 * 64); /* of ten pages seven have one */
    for (int i = 0; i < COUNT(t); i += 100)
        weft__task_free_slow(NULL, t[i]);
}
END_TEST

/* -- several threads -- */

enum { THREADS = 4 };

struct claims {
    struct weft__task *t;
    atomic_long id; /* to be claimed now; -1: the end */
    atomic_int ready, won;
};

static void *claimer(void *arg)
{
    struct claims *c = arg;
    long seen = 0, id;
    while ((id = atomic_load(&c->id)) >= 0) {
        if (id == seen) {
            sched_yield();
            continue;
        }
        seen = id;
        if (weft__task_claim(c->t, id))
            atomic_fetch_add(&c->won, 1);
        atomic_fetch_add(&c->ready, 1);
    }
    return NULL;
}

START_TEST(of_several_claimers_one_wins)
{
    struct claims c = { .ready = 0 };
    pthread_t t[THREADS];
    int rounds = SCALED(3000, 1000, 250), wrong = 0;
    setup();
    for (int i = 0; i < THREADS; i++)
        t[i] = thread_start(claimer, &c);
    for (int r = 0; r < rounds; r++) {
        c.t = weft__task_alloc(NULL);
        atomic_store(&c.ready, 0);
        atomic_store(&c.won, 0);
        weft_task id = weft__task_begin(c.t);
        atomic_store(&c.id, id);
        while (atomic_load(&c.ready) < THREADS)
            sched_yield();
        wrong += atomic_load(&c.won) != 1;
        end_life(NULL, c.t, id);
    }
    atomic_store(&c.id, -1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

struct churn {
    atomic_int *taken;   /* by index */
    atomic_ulong *lives; /* the last generation */
    int turns;
    atomic_int twice, lost, again, end;
};

static void *trimmer(void *arg)
{
    struct churn *c = arg;
    while (!atomic_load(&c->end)) {
        weft__task_table_sort();
        weft__task_table_give_back();
    }
    return NULL;
}

static void *churner(void *arg)
{
    struct churn *c = arg;
    struct weft__task_cache cache = { 0 };
    struct weft__task *held[300];
    weft_task id[300];
    uint64_t seed = (uint64_t)thread_id();
    int n = 0;
    for (int i = 0; i < c->turns; i++) {
        if (n < COUNT(held) && (n == 0 || next_random(&seed) % 2)) {
            if (!(held[n] = weft__task_alloc(next_random(&seed) % 8 ? &cache : NULL))) {
                atomic_fetch_add(&c->lost, 1);
                continue;
            }
            if (atomic_exchange(&c->taken[weft__task_index(held[n])], 1))
                atomic_fetch_add(&c->twice, 1);
            id[n] = weft__task_begin(held[n]);
            uint64_t generation = weft__id_generation(id[n]);
            if (atomic_exchange(&c->lives[weft__task_index(held[n])], generation) >= generation)
                atomic_fetch_add(&c->again, 1);
            n++;
        } else {
            n--;
            if (!weft__task_claim(held[n], id[n]))
                atomic_fetch_add(&c->twice, 1);
            atomic_store(&c->taken[weft__task_index(held[n])], 0);
            end_life(next_random(&seed) % 8 ? &cache : NULL, held[n], id[n]);
        }
    }
    while (n-- > 0) {
        atomic_store(&c->taken[weft__task_index(held[n])], 0);
        at_store(&held[n]->state, weft__state(weft__id_generation(id[n]), 0, 0, WEFT__RUNNING));
        end_life(&cache, held[n], id[n]);
    }
    weft__task_cache_return(&cache);
    return NULL;
}

START_TEST(a_block_is_in_one_place_at_a_time)
{
    struct churn c = { .turns = SCALED(200000, 50000, 5000) };
    pthread_t t[THREADS], trim[2];
    int trimmers = _i;
    setup();
    c.taken = calloc(1u << WEFT__INDEX_BITS, sizeof(atomic_int));
    c.lives = calloc(1u << WEFT__INDEX_BITS, sizeof(atomic_ulong));
    for (int i = 0; i < THREADS; i++)
        t[i] = thread_start(churner, &c);
    for (int i = 0; i < trimmers; i++)
        trim[i] = thread_start(trimmer, &c);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    atomic_store(&c.end, 1);
    for (int i = 0; i < trimmers; i++)
        pthread_join(trim[i], NULL);
    free(c.taken);
    free(c.lives);
    ck_assert_int_eq(atomic_load(&c.twice), 0);
    ck_assert_int_eq(atomic_load(&c.lost), 0);
    ck_assert_int_eq(atomic_load(&c.again), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("task table");
    TCase *tc = add_case(s, "lives");
    tcase_add_test(tc, an_id_names_block_and_generation);
    tcase_add_test(tc, a_task_is_claimed_once);
    tcase_add_test(tc, each_life_has_an_id_of_its_own_and_stale_ids_claim_nothing);
    tcase_add_loop_test(tc, a_block_whose_generations_are_used_up_is_retired, 0, 2);
    tc = add_case(s, "memory");
    tcase_add_test(tc, blocks_that_live_are_all_different);
    tcase_add_test(tc, without_memory_there_is_no_block_until_there_is);
    tcase_add_loop_test(tc, numbers_go_on_over_a_trim_and_blocks_without_memory_are_free, 0, forking() ? 2 : 1);
    tcase_add_test(tc, a_page_with_a_block_that_lives_stays);
    tc = add_case(s, "threads");
    tcase_add_test(tc, of_several_claimers_one_wins);
    tcase_add_loop_test(tc, a_block_is_in_one_place_at_a_time, 0, 3); /* and so many trim */
    return run_suite(s);
}
