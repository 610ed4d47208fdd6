/* report_test.c - what the workers say they have done: report.h seen from outside. */
#include "support.h"

enum { WORKERS = 3 };

struct figures {
    weft_worker_stats stats[WORKERS + 1], after[WORKERS + 1];
    int n, fewer, none, null, children;
    atomic_int ran;
    unsigned char guard;
};

static int count_run(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_yield();
}

static int look_at_figures(void *arg)
{
    struct figures *f = arg;
    memset(f->stats, 0xee, sizeof f->stats);
    f->n = weft_stats(NULL, f->stats, WORKERS + 1);
    f->guard = ((unsigned char *)&f->stats[WORKERS])[0];
    f->none = weft_stats(NULL, NULL, 0);
    f->null = weft_stats(NULL, NULL, 2);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < f->children; i++)
        weft_spawn(&s, count_run, &f->ran);
    int rc = weft_scope_end(&s, 0);
    if (rc == 0)
        rc = weft_sleep(weft_us(100));
    memset(f->after, 0xee, sizeof f->after);
    f->fewer = weft_stats(NULL, f->after, WORKERS);
    return rc;
}

static uint64_t sum_of(const weft_worker_stats *w, size_t field)
{
    uint64_t sum = 0, v;
    for (int i = 0; i < WORKERS; i++) {
        memcpy(&v, (const char *)&w[i] + field, sizeof v);
        sum += v;
    }
    return sum;
}

#define GREW(f, field)                                                                             \
    (sum_of((f)->after, offsetof(weft_worker_stats, field)) -                                      \
            sum_of((f)->stats, offsetof(weft_worker_stats, field)))

START_TEST(the_figures_of_all_workers_add_up)
{
    static struct figures f;
    memset(&f, 0, sizeof f);
    f.children = 1000;
    ck_assert_int_eq(weft_run(look_at_figures, &f, ON(WORKERS)), 0);
    ck_assert_int_eq(f.n, WORKERS);
    ck_assert_int_eq(f.guard, 0xee); /* one past them is untouched */
    ck_assert_int_eq(f.none, WORKERS);
    ck_assert_int_eq(f.null, -EINVAL);
    ck_assert_int_eq(f.fewer, WORKERS);
    ck_assert_int_eq(atomic_load(&f.ran), f.children);
    ck_assert_uint_eq(GREW(&f, spawned), 1000);
    /* Each child is begun, by a worker or by its joiner, and begins again after its yield. */
    ck_assert_uint_ge(GREW(&f, ran) + GREW(&f, inlined), 1000);
    ck_assert_uint_ge(GREW(&f, timers), 1);
}
END_TEST

START_TEST(a_runtime_is_looked_at_from_outside)
{
    weft_runtime *rt = NULL;
    weft_worker_stats w[WORKERS];
    ck_assert_int_eq(weft_stats(NULL, w, WORKERS), -EINVAL); /* there is no runtime of one's own */
    ck_assert_int_eq(weft_runtime_create(&rt, ON(WORKERS)), 0);
    int n = 0, asleep = 0;
    /* With nothing to do all of them fall asleep. */
    for (int64_t end = weft_after(LIMIT); asleep < WORKERS && weft_now() < end; usleep(100)) {
        n = weft_stats(rt, w, WORKERS);
        asleep = 0;
        for (int i = 0; i < WORKERS; i++)
            asleep += w[i].asleep;
    }
    int negative = weft_stats(rt, w, -1), one = weft_stats(rt, w, 1);
    uint64_t ready = 0, parked = 0;
    for (int i = 0; i < WORKERS; i++) {
        ready += w[i].ready;
        parked += w[i].parked;
    }
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(n, WORKERS);
    ck_assert_int_eq(asleep, WORKERS);
    ck_assert_int_eq(negative, -EINVAL);
    ck_assert_int_eq(one, WORKERS);
    ck_assert_uint_eq(ready, 0);
    ck_assert_uint_ge(parked, WORKERS);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("report");
    TCase *tc = add_case(s, "figures");
    tcase_add_test(tc, the_figures_of_all_workers_add_up);
    tcase_add_test(tc, a_runtime_is_looked_at_from_outside);
    return run_suite(s);
}
