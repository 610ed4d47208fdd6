/* memory_test.c - memory comes back when a runtime is idle: engine/trim.c, and what it trims.
 *
 * What a process has is read from the kernel, again and again until it is what was promised, and how long that took is
 * printed. Sanitizers keep memory of their own for all that ever was, so there it is only awaited that the trim ends; all
 * the rest is the same. */
#include "support.h"

#include <limits.h>

#include "base/fault.h"
#include "engine/worker.h"

enum { SANITIZED = TSAN || ASAN };

/* -- what the process has -- */

static long allowed(long start_kib)
{
    return start_kib + start_kib / 10 + 8 * 1024;
}

static bool wait_for_trims(weft_runtime *rt, uint32_t least)
{
    int64_t end = weft_after(LIMIT);
    while (ati_load_acquire(&rt->trim.done) < least && weft_now() < end)
        usleep(1000);
    return ati_load_acquire(&rt->trim.done) >= least;
}

static void comes_back(weft_runtime *rt, long start_kib, uint32_t trims, const char *what)
{
    int64_t from = weft_now(), end = from + LIMIT;
    long most = resident_kib(), now = most;
    while (!SANITIZED && (now = resident_kib()) > allowed(start_kib) && weft_now() < end)
        usleep(1000);
    int64_t took = weft_now() - from;
    ck_assert_msg(wait_for_trims(rt, trims + 1), "%s: the trim does not end", what);
    printf("%s: %ld KiB at the start, %ld when it ended, %ld after %lld ms; %ld after %lld ms\n", what, start_kib, most, now,
            (long long)(took / 1000000), resident_kib(), (long long)((weft_now() - from) / 1000000));
    fflush(stdout);
    if (!SANITIZED)
        ck_assert_msg(now <= allowed(start_kib), "%s: %ld KiB at the start, %ld now", what, start_kib, now);
}

/* -- bursts -- */

struct burst {
    int n, deep; /* tasks; bytes of stack that each uses */
    bool at_once; /* all wait at the same time */
    weft_task *ids;
    weft__token *tokens;
    atomic_int there, gone;
};

static NOINLINE int use_stack(int bytes)
{
    volatile char here[1024];
    here[0] = here[1023] = (char)bytes;
    return bytes > 1024 ? use_stack(bytes - 1100) + here[0] : here[1023];
}

static int one(void *arg)
{
    struct burst *b = arg;
    int rc = 0;
    if (b->deep)
        weft_ignore(use_stack(b->deep));
    int i = atomic_fetch_add(&b->there, 1);
    if (b->at_once)
        rc = weft_sleep(weft_sec(3600));
    if (b->tokens) {
        const struct weft__task *t = own(weft__self()->frame)->task;
        b->tokens[i] = weft__token_make(t, at_load(&t->ticket));
    }
    atomic_fetch_add(&b->gone, 1);
    return rc;
}

static int burst(void *arg)
{
    struct burst *b = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < b->n; i++) {
        weft_task t = weft_spawn(&s, one, b);
        if (b->ids)
            b->ids[i] = t;
        if (t < 0)
            return weft_scope_end(&s, (int)t);
    }
    if (b->at_once) {
        bool all = wait_for(&b->there, b->n);
        weft_scope_cancel(&s, NULL);
        return weft_scope_end(&s, all ? 0 : -ETIME);
    }
    return weft_scope_end(&s, 0);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static weft_runtime *start(int workers)
{
    weft_runtime *rt;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(workers)), 0);
    ck_assert_int_eq(weft_runtime_run(rt, nothing, NULL), 0);
    return rt;
}

/* Under chaos a tenth of it, but no less than under AddressSanitizer. */
static int many(int plain, int asan, int tsan)
{
    return fewer(plain / 10 > asan ? plain / 10 : asan, SCALED(plain, asan, tsan));
}

static const struct {
    const char *what;
    int workers, rounds;
    struct burst b;
} bursts[] = {
    { "queued tasks", 1, 1, { .n = 1000000 } },
    { "queued tasks, three workers, three times", 3, 3, { .n = 1000000 } },
    { "tasks parked at once", 2, 1, { .n = 100000, .at_once = true } },
    { "tasks parked at once, eight workers, twice", 8, 2, { .n = 30000, .at_once = true } },
    { "deep stacks, one after the other", 8, 1, { .n = 100000, .deep = 32768 } },
    { "deep stacks at once", 3, 2, { .n = 20000, .deep = 32768, .at_once = true } },
};

START_TEST(the_memory_of_a_burst_comes_back)
{
    weft_runtime *rt = start(bursts[_i].workers);
    long kib = resident_kib();
    for (int r = 0; r < bursts[_i].rounds; r++) {
        struct burst b = bursts[_i].b;
        if (SANITIZED)
            b.n = b.at_once ? many(0, 5000, 800) : many(0, 100000, 20000);
        else if (b.deep && b.at_once && getenv("WEFT_TEST_LONG"))
            b.n = 100000;
        b.n = fewer(b.at_once ? 5000 : 50000, b.n);
        uint32_t trims = ati_load(&rt->trim.done);
        int rc = weft_runtime_run(rt, burst, &b);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(atomic_load(&b.gone), b.n);
        comes_back(rt, kib, trims, bursts[_i].what);
    }
    weft_runtime_destroy(&rt);
}
END_TEST

/* The table is the process's: its memory comes back even if the runtime ends at once. */
START_TEST(so_does_that_of_a_runtime_that_ends)
{
    struct burst b = { .n = many(1000000, 100000, 20000) };
    ck_assert_int_eq(weft_run(burst, &b, ON(1)), 0); /* no thief runs them while they are spawned */
    uint32_t back = 0, used = weft__task_table_used();
    for (uint32_t i = 0; i < used; i++)
        back += weft__task_table_kept(i) != 0;
    ck_assert_uint_ge(used, weft__task_table_loose() * 10); /* else it was not worth it */
    ck_assert_uint_ge(back, used / 10 * 9);
}
END_TEST

/* -- one that goes deep among others that do not: B-015 -- */

struct among {
    int n;
    atomic_int there;
    long kib[4]; /* at first; with the others; with the deep one; with as many others again */
};

static int stay_flat(void *arg)
{
    atomic_fetch_add(&((struct among *)arg)->there, 1);
    return weft_sleep(weft_sec(3600));
}

static int go_deep(void *arg)
{
    weft_ignore(use_stack(60000)); /* nearly all that is guaranteed */
    return stay_flat(arg);
}

static int go_deep_among_others(void *arg)
{
    weft_fn *const kinds[] = { stay_flat, go_deep, stay_flat };
    struct among *m = arg;
    const int n[] = { m->n, 1, m->n };
    int there = 0;
    bool all = true;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    m->kib[0] = resident_kib();
    for (int k = 0; k < COUNT(kinds); k++) {
        for (int i = 0; i < n[k]; i++)
            weft_spawn(&s, kinds[k], m);
        there += n[k];
        all = all && wait_for(&m->there, there);
        m->kib[k + 1] = resident_kib();
    }
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(one_that_goes_deep_costs_its_own_stack)
{
    enum { ITS_OWN = 64, NOISE = 2048 }; /* KiB: the kernel counts by threads; tables grow */
    struct among m = { .n = getenv("WEFT_TEST_LONG") ? 50000 : many(10000, 2000, 400) };
    ck_assert_int_eq(weft_run(go_deep_among_others, &m, ON(_i + 1)), 0);
    long others = m.kib[1] - m.kib[0], deep = m.kib[2] - m.kib[1], again = m.kib[3] - m.kib[2];
    if (SANITIZED)
        return;
    ck_assert_msg(deep <= ITS_OWN + NOISE, "the deep one: %ld KiB", deep);
    ck_assert_msg(again <= others + others / 4 + NOISE, "%d others: %ld KiB, and then %ld", m.n, others, again);
}
END_TEST

/* -- ids and tokens -- */

static int compare_ids(const void *a, const void *b)
{
    weft_task x = *(const weft_task *)a, y = *(const weft_task *)b;
    return x < y ? -1 : x > y;
}

static int join_ended(void *arg)
{
    const struct burst *b = arg;
    int wrong = 0;
    for (int i = 0; i < b->n; i++)
        wrong += weft_task_join(b->ids[i]) != 0;
    return wrong ? -EIO : 0;
}

static void ids_have_ended(struct burst *b)
{
    const uint64_t far = UINT64_C(1) << (WEFT__GENERATION_BITS - 1) << WEFT__INDEX_BITS;
    char name[8];
    int wrong[5] = { 0 };
    for (int i = 0; i < b->n; i++) {
        weft_task id = b->ids[i];
        wrong[0] += weft_task_alive(id);
        wrong[1] += weft_task_join(id) != 0;
        wrong[2] += weft_task_cancel(id, "too late") != -ESRCH;
        wrong[3] += weft_task_name(id, name, sizeof name) != -ESRCH;
        wrong[4] += weft_task_join((weft_task)((uint64_t)id + far)) != -EINVAL;
    }
    for (int i = 0; i < COUNT(wrong); i++)
        ck_assert_msg(wrong[i] == 0, "%d ids, by rule %d", wrong[i], i);
}

static uint32_t blocks_given_back(const struct burst *b)
{
    uint32_t n = 0;
    for (int i = 0; i < b->n; i++)
        n += weft__task_table_kept(weft__id_index(b->ids[i])) >= weft__id_generation(b->ids[i]);
    return n;
}

START_TEST(ids_of_ended_tasks_have_ended_after_a_trim_and_do_not_come_again)
{
    enum { ROUNDS = 4 };
    int n = many(50000, 20000, 6000);
    weft_runtime *rt = start(1); /* a thief would run them while they are spawned, and few blocks would do for all */
    weft_task *ids = calloc((size_t)n * ROUNDS, sizeof *ids);
    for (int r = 0; r < ROUNDS; r++) {
        struct burst b = { .n = n, .ids = ids + r * n };
        uint32_t trims = ati_load(&rt->trim.done);
        ck_assert_int_eq(weft_runtime_run(rt, burst, &b), 0);
        ids_have_ended(&b);
        ck_assert(wait_for_trims(rt, trims + 1));
        ck_assert_uint_ge(blocks_given_back(&b), (uint32_t)n / 10 * 9);
        ids_have_ended(&b);
        ck_assert_int_eq(weft_runtime_run(rt, join_ended, &b), 0);
        ck_assert_int_eq(weft_task_list(NULL, 0), 0);
    }
    qsort(ids, (size_t)n * ROUNDS, sizeof *ids, compare_ids);
    for (int i = 1; i < n * ROUNDS; i++)
        ck_assert_int_ne(ids[i - 1], ids[i]);
    free(ids);
    weft_runtime_destroy(&rt);
}
END_TEST

struct late {
    struct burst *old, *now;
    int fired;
};

/* All old tokens are fired while others wait in the same blocks. */
static int fire_all(void *arg)
{
    struct late *l = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < l->now->n; i++)
        weft_spawn(&s, one, l->now);
    bool all = wait_for(&l->now->there, l->now->n);
    for (int i = 0; i < l->old->n; i++)
        l->fired += weft__fire(l->old->tokens[i], WEFT__CAUSE_EVENT);
    all = all && weft_sleep(weft_ms(20)) == 0 && atomic_load(&l->now->gone) == 0;
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(a_token_fired_after_a_trim_is_too_late)
{
    int n = many(20000, 5000, 800), fired = 0;
    weft_runtime *rt = start(1); /* as above */
    struct burst old = { .n = n, .at_once = true, .tokens = calloc((size_t)n, sizeof(weft__token)) };
    struct burst filler = { .n = many(60000, 15000, 6000) }; /* so that there are enough to be worth it */
    uint32_t trims, back = 0;
    int64_t end = weft_after(LIMIT);
    do { /* the machine may have stood still between the two, for long enough for a trim */
        atomic_store(&old.there, 0);
        atomic_store(&filler.there, 0);
        trims = ati_load(&rt->trim.done);
        ck_assert_int_eq(weft_runtime_run(rt, burst, &old), 0);
        ck_assert_int_eq(weft_runtime_run(rt, burst, &filler), 0);
    } while (ati_load(&rt->trim.done) != trims && weft_now() < end);
    ck_assert(wait_for_trims(rt, trims + 1));
    for (int i = 0; i < n; i++) {
        back += weft__task_table_kept(weft__task_index(weft__token_task(old.tokens[i]))) != 0;
        fired += weft__fire(old.tokens[i], WEFT__CAUSE_EVENT);
    }
    ck_assert_int_eq(fired, 0);
    ck_assert_uint_ge(back, (uint32_t)n / 10 * 8);
    struct burst now = { .n = n, .at_once = true };
    struct late l = { .old = &old, .now = &now };
    ck_assert_int_eq(weft_runtime_run(rt, fire_all, &l), 0);
    ck_assert_int_eq(l.fired, 0);
    free(old.tokens);
    weft_runtime_destroy(&rt);
}
END_TEST

/* -- others, meanwhile -- */

static int short_sleep(void *arg)
{
    (void)arg;
    return weft_sleep(weft_us(300));
}

START_TEST(work_that_comes_during_a_trim_is_done)
{
    weft_runtime *rt = start(_i + 1);
    struct burst b = { .n = many(40000, 5000, 800), .at_once = true };
    uint32_t trims = ati_load(&rt->trim.done);
    ck_assert_int_eq(weft_runtime_run(rt, burst, &b), 0);
    int64_t end = weft_after(LIMIT), longest = 0;
    int times = 0;
    while (ati_load_acquire(&rt->trim.done) == trims && weft_now() < end) {
        weft_scope s;
        int64_t from = weft_now();
        weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
        weft_spawn(&s, short_sleep, NULL);
        int rc = weft_scope_end(&s, 0);
        ck_assert_int_eq(rc, 0);
        int64_t took = weft_now() - from;
        longest = took > longest ? took : longest;
        times++;
        usleep(5000);
    }
    printf("%d tasks of a plain thread during a trim: the longest took %lld us\n", times, (long long)(longest / 1000));
    ck_assert_msg(ati_load_acquire(&rt->trim.done) > trims, "a heartbeat keeps the memory");
    ck_assert_int_lt(longest, weft_sec(5));
    weft_runtime_destroy(&rt);
}
END_TEST

struct busy {
    atomic_int stop, ran;
    int spawned;
};

static int count_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return atomic_load((atomic_int *)arg) % 16 ? 0 : weft_yield();
}

static int be_busy(void *arg)
{
    struct busy *b = arg;
    int rc = 0;
    while (!atomic_load(&b->stop) && rc == 0) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < 3000; i++)
            b->spawned += weft_spawn(&s, count_one, &b->ran) > 0;
        rc = weft_scope_end(&s, 0);
    }
    return rc;
}

struct busy_thread {
    weft_runtime *rt;
    struct busy b;
    int rc;
};

static void *busy_thread(void *arg)
{
    struct busy_thread *t = arg;
    t->rc = weft_runtime_run(t->rt, be_busy, &t->b);
    return NULL;
}

START_TEST(an_idle_runtime_trims_beside_one_that_is_busy)
{
    int rounds = fewer(2, many(5, 3, 2));
    struct busy_thread t = { .rt = start(2) };
    weft_runtime *idle = start(2);
    pthread_t thread = thread_start(busy_thread, &t);
    for (int r = 0; r < rounds; r++) {
        struct burst b = { .n = many(200000, 20000, 5000) };
        uint32_t trims = ati_load(&idle->trim.done);
        int before = atomic_load(&t.b.ran);
        ck_assert_int_eq(weft_runtime_run(idle, burst, &b), 0);
        ck_assert(wait_for_trims(idle, trims + 1));
        ck_assert(wait_for(&t.b.ran, before + 1)); /* by now, unless its threads were kept from running */
    }
    ck_assert_uint_eq(ati_load(&t.rt->trim.done), 0); /* it was never idle */
    atomic_store(&t.b.stop, 1);
    pthread_join(thread, NULL);
    ck_assert_int_eq(t.rc, 0);
    ck_assert_int_eq(atomic_load(&t.b.ran), t.b.spawned);
    weft_runtime_destroy(&t.rt);
    weft_runtime_destroy(&idle);
}
END_TEST

START_TEST(a_trim_may_be_broken_off_at_any_time)
{
    weft_runtime *rt = start(_i + 1);
    uint64_t seed = 7;
    int64_t end = weft_after(LIMIT); /* as many of them as there is time for */
    ati_store(&weft__trim_quiet_us, 1000);
    for (int r = 0; r < fewer(20, many(300, 50, 10)) && weft_now() < end; r++) {
        struct burst b = { .n = many(10000, 3000, 1000), .at_once = r % 3 == 0, .deep = r % 2 ? 20000 : 0 };
        if (b.at_once)
            b.n = many(2000, 1000, 500);
        int rc = weft_runtime_run(rt, burst, &b);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(atomic_load(&b.gone), b.n);
        usleep(3000 + next_random(&seed) % 15000);
    }
    ati_store(&weft__trim_quiet_us, 100000);
    weft_runtime_destroy(&rt);
}
END_TEST

START_TEST(locked_memory_stays_and_all_goes_on)
{
    weft_runtime *rt = start(2);
    weft__fault_set(WEFT__FAULT_DISCARD, _i, LONG_MAX, -EINVAL);
    int rc[2] = { 0 };
    bool trimmed = true;
    for (int r = 0; r < 4; r++) {
        struct burst b = { .n = many(50000, 10000, 3000), .at_once = r == 1 };
        if (b.at_once)
            b.n = 1000;
        uint32_t trims = ati_load(&rt->trim.done);
        rc[0] = rc[0] ? rc[0] : weft_runtime_run(rt, burst, &b);
        trimmed = trimmed && wait_for_trims(rt, trims + 1);
    }
    weft__fault_clear();
    ck_assert_int_eq(rc[0], 0);
    ck_assert(trimmed);
    weft_runtime_destroy(&rt);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory");
    TCase *tc = add_case(s, "comes back");
    tcase_add_loop_test(tc, the_memory_of_a_burst_comes_back, 0, COUNT(bursts));
    tcase_add_test(tc, so_does_that_of_a_runtime_that_ends);
    tc = add_case(s, "one among others");
    tcase_add_loop_test(tc, one_that_goes_deep_costs_its_own_stack, 0, 3);
    tc = add_case(s, "ids and tokens");
    tcase_add_test(tc, ids_of_ended_tasks_have_ended_after_a_trim_and_do_not_come_again);
    tcase_add_test(tc, a_token_fired_after_a_trim_is_too_late);
    tc = add_case(s, "others");
    tcase_add_loop_test(tc, work_that_comes_during_a_trim_is_done, 0, 3);
    tcase_add_test(tc, an_idle_runtime_trims_beside_one_that_is_busy);
    tcase_add_loop_test(tc, a_trim_may_be_broken_off_at_any_time, 0, 3);
    tc = add_case(s, "locked");
    if (forking()) /* it is remembered by the process */
        tcase_add_loop_test(tc, locked_memory_stays_and_all_goes_on, 1, 4);
    return run_suite(s);
}
