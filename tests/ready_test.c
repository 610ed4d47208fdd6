/* ready_test.c - the ring of ready tasks: sched/ready.h, Q1 to Q3. */
#include "support.h"

#include "sched/ready.h"

static struct weft__ready_ring *make(uint64_t start)
{
    struct weft__ready_ring *r = aligned_alloc(128, (sizeof *r + 127) / 128 * 128);
    memset(r, 0, sizeof *r);
    at_store(&r->head, start);
    at_store(&r->tail, start);
    return r;
}

static const uint64_t starts[] = { 0, 1, WEFT__RING - 1, 12345, (uint64_t)0 - 700 };

START_TEST(first_in_is_first_out)
{
    struct weft__ready_ring *r = make(starts[_i]);
    uint32_t got;
    ck_assert(!weft__ready_pop(r, &got));
    for (uint32_t round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 700; i++)
            ck_assert(weft__ready_push(r, round * 1000 + i));
        ck_assert_uint_eq(weft__ready_len(r), 700);
        for (uint32_t i = 0; i < 700; i++) {
            ck_assert(weft__ready_pop(r, &got));
            ck_assert_uint_eq(got, round * 1000 + i);
        }
        ck_assert(!weft__ready_pop(r, &got));
        ck_assert_uint_eq(weft__ready_len(r), 0);
    }
    free(r);
}
END_TEST

START_TEST(a_full_ring_refuses_until_one_has_left)
{
    struct weft__ready_ring *r = make(starts[_i]);
    uint32_t got;
    for (uint32_t i = 0; i < WEFT__RING; i++)
        ck_assert(weft__ready_push(r, i));
    ck_assert_uint_eq(weft__ready_len(r), WEFT__RING);
    for (uint32_t i = 0; i < 2 * WEFT__RING; i++) {
        ck_assert(!weft__ready_push(r, 99999));
        ck_assert(weft__ready_pop(r, &got));
        ck_assert_uint_eq(got, i);
        ck_assert(weft__ready_push(r, WEFT__RING + i));
    }
    ck_assert_uint_eq(weft__ready_len(r), WEFT__RING);
    free(r);
}
END_TEST

START_TEST(a_grab_takes_the_older_half_rounded_up)
{
    uint32_t out[WEFT__RING], got;
    for (uint32_t n = 0; n <= WEFT__RING; n = n < 10 ? n + 1 : n * 2 - 1 > WEFT__RING ? n + WEFT__RING : n * 2 - 1) {
        struct weft__ready_ring *r = make(starts[_i]);
        for (uint32_t i = 0; i < n; i++)
            ck_assert(weft__ready_push(r, i));
        uint32_t k = weft__ready_grab(r, out, WEFT__RING);
        ck_assert_uint_eq(k, n - n / 2);
        for (uint32_t i = 0; i < k; i++)
            ck_assert_uint_eq(out[i], i);
        for (uint32_t i = k; i < n; i++) {
            ck_assert(weft__ready_pop(r, &got));
            ck_assert_uint_eq(got, i);
        }
        ck_assert(!weft__ready_pop(r, &got));
        free(r);
    }
}
END_TEST

START_TEST(a_grab_takes_no_more_than_asked)
{
    struct weft__ready_ring *r = make(starts[_i]);
    uint32_t out[64], got;
    for (uint32_t i = 0; i < WEFT__RING; i++)
        ck_assert(weft__ready_push(r, i));
    ck_assert_uint_eq(weft__ready_grab(r, out, 64), 64);
    ck_assert_uint_eq(out[0], 0);
    ck_assert_uint_eq(out[63], 63);
    ck_assert_uint_eq(weft__ready_grab(r, out, 1), 1);
    ck_assert_uint_eq(out[0], 64);
    ck_assert_uint_eq(weft__ready_grab(r, out, 0), 0);
    ck_assert_uint_eq(weft__ready_len(r), WEFT__RING - 65);
    ck_assert(weft__ready_pop(r, &got));
    ck_assert_uint_eq(got, 65);
    free(r);
}
END_TEST

/* -- an owner and its thieves -- */

enum { THIEVES = 3 };

struct race {
    struct weft__ready_ring *r;
    uint32_t n;
    unsigned char *seen;
    atomic_int done;
    atomic_long left, twice, disorder;
};

static void leaves(struct race *c, uint32_t item, uint32_t *last)
{
    if (__atomic_fetch_add(&c->seen[item], 1, __ATOMIC_RELAXED) != 0)
        atomic_fetch_add(&c->twice, 1);
    if (item < *last)
        atomic_fetch_add(&c->disorder, 1);
    *last = item;
    atomic_fetch_add(&c->left, 1);
}

static void *thief(void *arg)
{
    struct race *c = arg;
    uint32_t last = 0, out[64], most = 1;
    for (;;) {
        bool over = atomic_load(&c->done);
        uint32_t n = weft__ready_grab(c->r, out, most = most % 64 + 1);
        for (uint32_t i = 0; i < n; i++)
            leaves(c, out[i], &last);
        if (n == 0 && over)
            return NULL;
        if (n == 0)
            sched_yield();
    }
}

START_TEST(each_task_leaves_exactly_once_and_in_order)
{
    struct race c = { .r = make((uint64_t)0 - 5000), .n = SCALED(1000000, 300000, 40000) };
    pthread_t t[THIEVES];
    uint64_t seed = 3;
    uint32_t last = 0, got;
    c.seen = calloc(c.n, 1);
    for (int i = 0; i < THIEVES; i++)
        t[i] = thread_start(thief, &c);
    for (uint32_t next = 0; next < c.n;) {
        uint32_t burst = next_random(&seed) % (_i == 0 ? 3 : 1500);
        for (uint32_t i = 0; i < burst && next < c.n; i++)
            if (weft__ready_push(c.r, next))
                next++;
            else
                break;
        for (uint32_t i = 0; i < burst / 2 && weft__ready_pop(c.r, &got); i++)
            leaves(&c, got, &last);
    }
    while (weft__ready_pop(c.r, &got))
        leaves(&c, got, &last);
    atomic_store(&c.done, 1);
    for (int i = 0; i < THIEVES; i++)
        pthread_join(t[i], NULL);
    long missing = 0;
    for (uint32_t i = 0; i < c.n; i++)
        missing += c.seen[i] == 0;
    free(c.seen);
    ck_assert_int_eq(missing, 0);
    ck_assert_int_eq(atomic_load(&c.twice), 0);
    ck_assert_int_eq(atomic_load(&c.disorder), 0);
    ck_assert_int_eq(atomic_load(&c.left), c.n);
    free(c.r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ready");
    TCase *tc = add_case(s, "alone");
    tcase_add_loop_test(tc, first_in_is_first_out, 0, COUNT(starts));
    tcase_add_loop_test(tc, a_full_ring_refuses_until_one_has_left, 0, COUNT(starts));
    tcase_add_loop_test(tc, a_grab_takes_the_older_half_rounded_up, 0, COUNT(starts));
    tcase_add_loop_test(tc, a_grab_takes_no_more_than_asked, 0, COUNT(starts));
    tc = add_case(s, "thieves");
    tcase_add_loop_test(tc, each_task_leaves_exactly_once_and_in_order, 0, 2);
    return run_suite(s);
}
