/* inject_test.c - the shared queue: sched/inject.h. */
#include "support.h"

#include "sched/inject.h"

enum { TASKS = 1000 };

static uint32_t task[TASKS];

static void make_tasks(void)
{
    ck_assert_int_eq(weft__task_table_init(), 0);
    for (int i = 0; i < TASKS; i++) {
        struct weft__task *t = weft__task_alloc(NULL);
        ck_assert_ptr_nonnull(t);
        task[i] = weft__task_index(t);
    }
}

static void free_tasks(void)
{
    for (int i = 0; i < TASKS; i++)
        weft__task_free_slow(NULL, weft__task_at(task[i]));
}

/* Links tasks first .. first + n - 1 and puts them in at once. */
static void put(struct weft__inject *q, int first, int n)
{
    for (int i = first; i + 1 < first + n; i++)
        ati_store(&weft__task_at(task[i])->link, task[i + 1] + 1);
    weft__inject_put(q, task[first], task[first + n - 1], (uint64_t)n);
}

START_TEST(an_empty_queue_gives_nothing)
{
    struct weft__inject q = { 0 };
    uint32_t out[4];
    ck_assert_uint_eq(weft__inject_take(&q, out, 4), 0);
    ck_assert_uint_eq(weft__inject_len(&q), 0);
}
END_TEST

START_TEST(batches_leave_in_the_order_they_came)
{
    struct weft__inject q = { 0 };
    uint32_t out[TASKS];
    make_tasks();
    for (int step = 1; step <= 70; step += 23) {
        int in = 0, gone = 0;
        for (int size = 1; in + size <= TASKS; in += size, size = size % 9 + 1)
            put(&q, in, size);
        ck_assert_uint_eq(weft__inject_len(&q), (uint64_t)in);
        while (gone < in) {
            uint32_t n = weft__inject_take(&q, out, (uint32_t)step);
            ck_assert_uint_eq(n, (uint32_t)(in - gone < step ? in - gone : step));
            for (uint32_t i = 0; i < n; i++)
                ck_assert_uint_eq(out[i], task[gone++]);
            ck_assert_uint_eq(weft__inject_len(&q), (uint64_t)(in - gone));
        }
        ck_assert_uint_eq(weft__inject_take(&q, out, 1), 0);
    }
    free_tasks();
}
END_TEST

START_TEST(what_was_emptied_fills_again)
{
    struct weft__inject q = { 0 };
    uint32_t out[8];
    make_tasks();
    for (int i = 0; i < 100; i++) {
        put(&q, i, 1);
        put(&q, 500, 3);
        ck_assert_uint_eq(weft__inject_take(&q, out, 0), 0);
        ck_assert_uint_eq(weft__inject_take(&q, out, 8), 4);
        ck_assert_uint_eq(out[0], task[i]);
        ck_assert_uint_eq(out[3], task[502]);
    }
    free_tasks();
}
END_TEST

/* Putters own a share of the tasks each, and put one in again once it has come back. */
enum { PUTTERS = 2, TAKERS = 2, SHARE = TASKS / PUTTERS };

struct traffic {
    struct weft__inject q;
    int rounds;
    atomic_int state[TASKS]; /* 0 out, 1 in */
    int order[TASKS];        /* when its putter put it in; written before it is in */
    atomic_int next_putter, running, twice, disorder;
    atomic_long taken;
};

static struct traffic traffic;

static void *putter(void *arg)
{
    struct traffic *t = arg;
    int me = atomic_fetch_add(&t->next_putter, 1), order = 0;
    for (int r = 0; r < t->rounds; r++)
        for (int i = me * SHARE; i < (me + 1) * SHARE;) {
            int n = 0;
            while (n < 5 && i + n < (me + 1) * SHARE && atomic_load(&t->state[i + n]) == 0)
                n++;
            if (n == 0) {
                sched_yield();
                continue;
            }
            for (int k = i; k < i + n; k++) {
                t->order[k] = order++;
                atomic_store(&t->state[k], 1);
            }
            put(&t->q, i, n);
            i += n;
        }
    atomic_fetch_sub(&t->running, 1);
    return NULL;
}

static int number_of(uint32_t index)
{
    int lo = 0;
    while (lo < TASKS && task[lo] != index)
        lo++;
    return lo;
}

static void *taker(void *arg)
{
    struct traffic *t = arg;
    int last[PUTTERS] = { -1, -1 };
    uint32_t out[7];
    for (;;) {
        bool over = atomic_load(&t->running) == 0;
        uint32_t n = weft__inject_take(&t->q, out, 7);
        for (uint32_t i = 0; i < n; i++) {
            int k = number_of(out[i]), p = k / SHARE;
            if (t->order[k] <= last[p])
                atomic_fetch_add(&t->disorder, 1);
            last[p] = t->order[k];
            if (atomic_exchange(&t->state[k], 0) != 1)
                atomic_fetch_add(&t->twice, 1);
        }
        atomic_fetch_add(&t->taken, n);
        if (n == 0 && over)
            return NULL;
        if (n == 0)
            sched_yield();
    }
}

START_TEST(from_several_threads_each_leaves_once_and_in_order)
{
    struct traffic *t = &traffic;
    pthread_t thread[PUTTERS + TAKERS];
    memset(t, 0, sizeof *t);
    t->rounds = SCALED(60, 20, 8);
    atomic_store(&t->running, PUTTERS);
    make_tasks();
    for (int i = 0; i < PUTTERS + TAKERS; i++)
        thread[i] = thread_start(i < PUTTERS ? putter : taker, t);
    for (int i = 0; i < PUTTERS + TAKERS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_int_eq(atomic_load(&t->twice), 0);
    ck_assert_int_eq(atomic_load(&t->disorder), 0);
    ck_assert_int_eq(atomic_load(&t->taken), (long)t->rounds * TASKS);
    ck_assert_uint_eq(weft__inject_len(&t->q), 0);
    free_tasks();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("inject");
    TCase *tc = add_case(s, "alone");
    tcase_add_test(tc, an_empty_queue_gives_nothing);
    tcase_add_test(tc, batches_leave_in_the_order_they_came);
    tcase_add_test(tc, what_was_emptied_fills_again);
    tc = add_case(s, "threads");
    tcase_add_test(tc, from_several_threads_each_leaves_once_and_in_order);
    return run_suite(s);
}
