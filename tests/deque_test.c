/* deque_test.c - spawned tasks of one worker: sched/deque.h, D1 to D5. */
#include "support.h"

#include "base/fault.h"
#include "sched/deque.h"

enum { SMALL = 4 };

static void make(struct weft__deque *d, unsigned capacity)
{
    memset(d, 0, sizeof *d);
    ck_assert_int_eq(weft__deque_init(d, capacity), 0);
}

START_TEST(an_empty_deque_gives_nothing)
{
    struct weft__deque d;
    make(&d, SMALL);
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_eq(weft__deque_take(&d), 0);
        ck_assert_uint_eq(weft__deque_steal(&d), 0);
        ck_assert_uint_eq(weft__deque_size(&d), 0);
    }
    weft__deque_fini(&d);
}
END_TEST

START_TEST(the_owner_takes_the_newest_and_a_thief_the_oldest)
{
    struct weft__deque d;
    make(&d, 16);
    for (uint64_t i = 1; i <= 10; i++)
        ck_assert(weft__deque_push(&d, i));
    ck_assert_uint_eq(weft__deque_size(&d), 10);
    ck_assert_uint_eq(weft__deque_take(&d), 10);
    ck_assert_uint_eq(weft__deque_steal(&d), 1);
    ck_assert_uint_eq(weft__deque_steal(&d), 2);
    ck_assert_uint_eq(weft__deque_take(&d), 9);
    ck_assert_uint_eq(weft__deque_size(&d), 6);
    for (uint64_t i = 3; i <= 8; i++)
        ck_assert_uint_eq(weft__deque_steal(&d), i);
    ck_assert_uint_eq(weft__deque_take(&d), 0);
    ck_assert_uint_eq(weft__deque_steal(&d), 0);
    weft__deque_fini(&d);
}
END_TEST

START_TEST(the_last_item_leaves_once)
{
    struct weft__deque d;
    make(&d, SMALL);
    for (uint64_t i = 1; i < 100; i++) {
        ck_assert(weft__deque_push(&d, i));
        ck_assert_uint_eq(i % 2 ? weft__deque_take(&d) : weft__deque_steal(&d), i);
        ck_assert_uint_eq(weft__deque_take(&d), 0);
        ck_assert_uint_eq(weft__deque_steal(&d), 0);
    }
    weft__deque_fini(&d);
}
END_TEST

/* With the array's first slot at each place, so that what is copied wraps around. */
START_TEST(growing_keeps_what_is_there_in_order)
{
    struct weft__deque d;
    make(&d, SMALL);
    for (int i = 0; i < _i; i++) {
        ck_assert(weft__deque_push(&d, 99));
        ck_assert_uint_eq(weft__deque_steal(&d), 99);
    }
    for (uint64_t i = 1; i <= 1000; i++)
        ck_assert(weft__deque_push(&d, i));
    ck_assert_uint_eq(weft__deque_size(&d), 1000);
    for (uint64_t i = 1; i <= 500; i++) {
        ck_assert_uint_eq(weft__deque_steal(&d), i);
        ck_assert_uint_eq(weft__deque_take(&d), 1001 - i);
    }
    ck_assert_uint_eq(weft__deque_take(&d), 0);
    weft__deque_fini(&d);
}
END_TEST

START_TEST(the_counters_may_pass_their_greatest_value)
{
    struct weft__deque d;
    make(&d, SMALL);
    at_store(&d.top, (uint64_t)0 - 3);
    at_store(&d.bottom, (uint64_t)0 - 3);
    for (uint64_t i = 1; i <= 20; i++)
        ck_assert(weft__deque_push(&d, i));
    ck_assert_uint_eq(weft__deque_size(&d), 20);
    for (uint64_t i = 1; i <= 10; i++) {
        ck_assert_uint_eq(weft__deque_steal(&d), i);
        ck_assert_uint_eq(weft__deque_take(&d), 21 - i);
    }
    ck_assert_uint_eq(weft__deque_take(&d), 0);
    weft__deque_fini(&d);
}
END_TEST

START_TEST(a_push_that_cannot_grow_takes_nothing)
{
    struct weft__deque d;
    make(&d, SMALL);
    for (uint64_t i = 1; i <= SMALL; i++)
        ck_assert(weft__deque_push(&d, i));
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 2, -ENOMEM);
    bool first = weft__deque_push(&d, 5), second = weft__deque_push(&d, 5);
    weft__fault_clear();
    ck_assert(!first);
    ck_assert(!second);
    ck_assert_uint_eq(weft__deque_size(&d), SMALL);
    ck_assert(weft__deque_push(&d, 5));
    for (uint64_t i = 1; i <= SMALL + 1; i++)
        ck_assert_uint_eq(weft__deque_steal(&d), i);
    ck_assert_uint_eq(weft__deque_steal(&d), 0);
    weft__deque_fini(&d);
}
END_TEST

START_TEST(without_memory_there_is_no_deque)
{
    struct weft__deque d = { 0 };
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
    int rc = weft__deque_init(&d, SMALL);
    weft__fault_clear();
    ck_assert_int_eq(rc, -ENOMEM);
}
END_TEST

/* -- an owner and its thieves -- */

enum { THIEVES = 3 };

struct heist {
    struct weft__deque d;
    int n;
    unsigned char *seen; /* how often each item left; its taker alone writes */
    atomic_int done;
    atomic_long stolen, twice, disorder;
};

static void leaves(struct heist *h, uint64_t item)
{
    if (__atomic_fetch_add(&h->seen[item], 1, __ATOMIC_RELAXED) != 0)
        atomic_fetch_add(&h->twice, 1);
}

static void *thief(void *arg)
{
    struct heist *h = arg;
    uint64_t last = 0;
    for (;;) {
        bool over = atomic_load(&h->done);
        uint64_t item = weft__deque_steal(&h->d);
        if (item) {
            leaves(h, item);
            atomic_fetch_add(&h->stolen, 1);
            if (item <= last) /* items are pushed in rising order, and none is older than a stolen one */
                atomic_fetch_add(&h->disorder, 1);
            last = item;
        } else if (over) {
            return NULL;
        } else {
            sched_yield();
        }
    }
}

/* _i: how many the owner pushes before it takes some back. 1: they fight for the last one, always. */
START_TEST(each_item_leaves_exactly_once)
{
    struct heist h = { .n = SCALED(300000, 100000, 20000) };
    pthread_t t[THIEVES];
    uint64_t seed = 1;
    make(&h.d, SMALL);
    h.seen = calloc((size_t)h.n + 1, 1);
    for (int i = 0; i < THIEVES; i++)
        t[i] = thread_start(thief, &h);
    uint64_t next = 1, item;
    long taken = 0;
    while (next <= (uint64_t)h.n) {
        int burst = _i == 0 ? 1 : (int)(next_random(&seed) % 20);
        for (int i = 0; i < burst && next <= (uint64_t)h.n; i++)
            if (!weft__deque_push(&h.d, next++))
                abort();
        for (int i = 0; i < burst - (_i ? 1 : 0); i++)
            if ((item = weft__deque_take(&h.d)) != 0) {
                leaves(&h, item);
                taken++;
            }
        if (next % 64 == 0)
            sched_yield();
    }
    while ((item = weft__deque_take(&h.d)) != 0) {
        leaves(&h, item);
        taken++;
    }
    atomic_store(&h.done, 1);
    for (int i = 0; i < THIEVES; i++)
        pthread_join(t[i], NULL);
    long missing = 0;
    for (int i = 1; i <= h.n; i++)
        missing += h.seen[i] == 0;
    free(h.seen);
    ck_assert_int_eq(missing, 0);
    ck_assert_int_eq(atomic_load(&h.twice), 0);
    ck_assert_int_eq(atomic_load(&h.disorder), 0);
    ck_assert_int_eq(taken + atomic_load(&h.stolen), h.n);
    weft__deque_fini(&h.d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("deque");
    TCase *tc = add_case(s, "alone");
    tcase_add_test(tc, an_empty_deque_gives_nothing);
    tcase_add_test(tc, the_owner_takes_the_newest_and_a_thief_the_oldest);
    tcase_add_test(tc, the_last_item_leaves_once);
    tcase_add_loop_test(tc, growing_keeps_what_is_there_in_order, 0, 2 * SMALL);
    tcase_add_test(tc, the_counters_may_pass_their_greatest_value);
    tcase_add_test(tc, a_push_that_cannot_grow_takes_nothing);
    tcase_add_test(tc, without_memory_there_is_no_deque);
    tc = add_case(s, "thieves");
    tcase_add_loop_test(tc, each_item_leaves_exactly_once, 0, 2);
    return run_suite(s);
}
