/* timer_test.c - deadlines: event/timer.c, M1 to M4. */
#include "support.h"

#include "base/fault.h"
#include "event/timer.h"

static void make(struct weft__timers *t)
{
    memset(t, 0, sizeof *t);
    weft__timers_init(t);
}

/* -- timers that call, numbered; what struck is recorded -- */

enum { MOST = 5000 };

struct numbered {
    struct weft__timer timer;
    int number;
};

static struct numbered timer[MOST];
static int struck[MOST + 1], n_struck;

static void record(struct weft__timer *t)
{
    if (n_struck < MOST)
        struck[n_struck++] = ((struct numbered *)(void *)t)->number;
}

static void begin(struct weft__timers *t)
{
    make(t);
    memset(timer, 0, sizeof timer);
    for (int i = 0; i < MOST; i++) {
        timer[i].number = i;
        timer[i].timer.kind = WEFT__TIMER_CALL;
    }
    n_struck = 0;
    weft__timers_on_call(record);
}

static void arm(struct weft__timers *t, int i, int64_t at)
{
    ck_assert_int_eq(weft__timer_arm(t, &timer[i].timer, at, NULL), 0);
}

static void expire(struct weft__timers *t, int64_t now)
{
    ck_assert_uint_eq(weft__timers_expire(t, now, (uint32_t[1]){ 0 }, 1), 0);
}

START_TEST(no_timer_no_deadline)
{
    struct weft__timers t;
    begin(&t);
    ck_assert_int_eq(weft__timers_earliest(&t), INT64_MAX);
    expire(&t, INT64_MAX);
    ck_assert_int_eq(n_struck, 0);
    weft__timers_fini(&t);
}
END_TEST

START_TEST(they_strike_in_the_order_of_their_times_and_none_early)
{
    struct weft__timers t;
    uint64_t seed = 1 + (uint64_t)_i;
    begin(&t);
    for (int i = 0; i < 1000; i++)
        arm(&t, i, _i == 0 ? i : _i == 1 ? 1000 - i : (int)(next_random(&seed) % 1000));
    for (int64_t now = -1; now <= 1000; now += 7) {
        expire(&t, now);
        for (int i = 0; i < n_struck; i++)
            ck_assert_int_le(timer[struck[i]].timer.at, now);
        ck_assert_int_gt(weft__timers_earliest(&t), now);
    }
    expire(&t, 1000);
    ck_assert_int_eq(n_struck, 1000);
    for (int i = 1; i < n_struck; i++)
        ck_assert_int_le(timer[struck[i - 1]].timer.at, timer[struck[i]].timer.at);
    ck_assert_uint_eq(at_load(&t.struck), 1000);
    ck_assert_int_eq(weft__timers_earliest(&t), INT64_MAX);
    weft__timers_fini(&t);
}
END_TEST

START_TEST(equal_times_strike_in_the_order_of_arming)
{
    struct weft__timers t;
    begin(&t);
    for (int i = 0; i < 1000; i++)
        arm(&t, i, i % 3);
    for (int i = 0; i < 1000; i += 5) /* those armed again go behind the others */
        ck_assert(weft__timer_disarm(&timer[i].timer));
    for (int i = 0; i < 1000; i += 5)
        arm(&t, i, i % 3);
    expire(&t, 3);
    ck_assert_int_eq(n_struck, 1000);
    int at = 0;
    for (int time = 0; time < 3; time++)
        for (int again = 0; again < 2; again++)
            for (int i = 0; i < 1000; i++)
                if (i % 3 == time && (i % 5 == 0) == again)
                    ck_assert_int_eq(struck[at++], i);
    weft__timers_fini(&t);
}
END_TEST

START_TEST(the_extremes_of_time_are_times)
{
    static const int64_t times[] = { INT64_MIN, -1, 0, 1, INT64_MAX - 1, INT64_MAX };
    struct weft__timers t;
    begin(&t);
    for (int i = COUNT(times) - 1; i >= 0; i--) {
        arm(&t, i, times[i]);
        ck_assert_int_eq(weft__timers_earliest(&t), times[i]);
    }
    for (int i = 0; i < COUNT(times) - 1; i++) {
        expire(&t, times[i]);
        ck_assert_int_eq(n_struck, i + 1);
        ck_assert_int_eq(struck[i], i);
    }
    ck_assert(weft__timer_disarm(&timer[COUNT(times) - 1].timer));
    weft__timers_fini(&t);
}
END_TEST

START_TEST(arming_says_whether_it_is_now_the_first)
{
    static const struct {
        int64_t at;
        bool first;
    } step[] = { { 50, true }, { 60, false }, { 50, false }, { 40, true }, { 41, false },
        { 39, true }, { INT64_MAX, false } };
    struct weft__timers t;
    begin(&t);
    for (int i = 0; i < COUNT(step); i++) {
        bool first = !step[i].first;
        ck_assert_int_eq(weft__timer_arm(&t, &timer[i].timer, step[i].at, &first), 0);
        ck_assert_int_eq(first, step[i].first);
    }
    ck_assert_int_eq(weft__timers_earliest(&t), 39);
    weft__timers_fini(&t);
}
END_TEST

START_TEST(disarmed_anywhere_in_the_heap_the_rest_strikes_in_order)
{
    enum { N = 120 };
    for (int gone = 0; gone < N; gone++) {
        struct weft__timers t;
        uint64_t seed = 9;
        begin(&t);
        int64_t least = INT64_MAX;
        for (int i = 0; i < N; i++)
            arm(&t, i, next_random(&seed) % 50);
        ck_assert(weft__timer_disarm(&timer[gone].timer));
        ck_assert(!weft__timer_disarm(&timer[gone].timer));
        for (int i = 0; i < N; i++)
            if (i != gone && timer[i].timer.at < least)
                least = timer[i].timer.at;
        ck_assert_int_eq(weft__timers_earliest(&t), least);
        expire(&t, 50);
        ck_assert_int_eq(n_struck, N - 1);
        for (int i = 0; i < n_struck; i++) {
            ck_assert_int_ne(struck[i], gone);
            if (i > 0)
                ck_assert_int_le(timer[struck[i - 1]].timer.at, timer[struck[i]].timer.at);
        }
        weft__timers_fini(&t);
    }
}
END_TEST

START_TEST(all_can_be_disarmed_and_the_room_is_used_again)
{
    struct weft__timers t;
    begin(&t);
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < MOST; i++)
            arm(&t, i, i * 7919 % MOST);
        for (int i = 0; i < MOST; i++)
            ck_assert(weft__timer_disarm(&timer[round % 2 ? MOST - 1 - i : i].timer));
        ck_assert_int_eq(weft__timers_earliest(&t), INT64_MAX);
        ck_assert_uint_eq(t.n, 0);
        ck_assert_uint_le(t.capacity, 2 * MOST);
    }
    expire(&t, INT64_MAX);
    ck_assert_int_eq(n_struck, 0);
    weft__timers_fini(&t);
}
END_TEST

START_TEST(what_has_struck_can_not_be_disarmed)
{
    struct weft__timers t;
    begin(&t);
    arm(&t, 0, 10);
    arm(&t, 1, 20);
    expire(&t, 10);
    ck_assert(!weft__timer_disarm(&timer[0].timer));
    ck_assert(weft__timer_disarm(&timer[1].timer));
    arm(&t, 0, 30);
    ck_assert_int_eq(weft__timers_earliest(&t), 30);
    expire(&t, 30);
    ck_assert_int_eq(n_struck, 2);
    weft__timers_fini(&t);
}
END_TEST

START_TEST(without_memory_nothing_is_armed_and_nothing_lost)
{
    struct weft__timers t;
    begin(&t);
    int n = 0;
    for (int round = 1; round <= 3; round++)
        for (int nth = 1; nth <= 2; nth++) {
            while (t.n < t.capacity)
                arm(&t, n, MOST - n), n++;
            weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
            int rc = weft__timer_arm(&t, &timer[n].timer, -5, NULL);
            weft__fault_clear();
            ck_assert_int_eq(rc, -ENOMEM);
            ck_assert_int_eq(weft__timers_earliest(&t), n == 0 ? INT64_MAX : MOST - n + 1);
            arm(&t, n, MOST - n), n++;
        }
    expire(&t, MOST + 1);
    ck_assert_int_eq(n_struck, n);
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(struck[i], n - 1 - i);
    weft__timers_fini(&t);
}
END_TEST

/* -- how much is moved, of how many (B-055) -- */

enum { ARMED = BUILT(1000000, 100000, 20000), ENTRY = 16 /* bytes of the heap for each, a quarter of a line: timer.c */ };

/* How many entries of the heap are others than in `before`, which then is as the heap. */
static int changed(const struct weft__timers *t, char *before, uint32_t n)
{
    enum { BLOCK = 4096 };
    const char *now = (const char *)t->heap;
    size_t bytes = (size_t)n * ENTRY;
    int count = 0;
    for (size_t at = 0; at < bytes; at += BLOCK) {
        size_t end = at + BLOCK < bytes ? at + BLOCK : bytes;
        if (memcmp(now + at, before + at, end - at) == 0)
            continue;
        for (size_t i = at; i < end; i += ENTRY)
            count += memcmp(now + i, before + i, ENTRY) != 0;
        memcpy(before + at, now + at, end - at);
    }
    return count;
}

static struct weft__timer *arm_many(struct weft__timers *t)
{
    struct weft__timer *all = calloc(ARMED, sizeof *all);
    if (!all)
        abort();
    make(t);
    for (int i = 0; i < ARMED; i++) {
        all[i].kind = WEFT__TIMER_CALL;
        if (weft__timer_arm(t, &all[i], (int64_t)i * 7919 % ARMED, NULL) < 0)
            abort();
    }
    return all;
}

/* A heap of four to a node has eleven levels for a million: no disarm moves more than one entry of each, wherever it is, and no
 * reset to any other time does. */
START_TEST(among_a_million_a_disarm_and_a_reset_move_few)
{
    enum { LEVELS = 11 };
    struct weft__timers t;
    struct weft__timer *all = arm_many(&t);
    char *heap = malloc((size_t)ARMED * ENTRY);
    uint64_t seed = 3;
    ck_assert_ptr_nonnull(heap);
    memcpy(heap, t.heap, (size_t)ARMED * ENTRY);
    for (int k = 0; k < 60; k++) {
        /* the first, the last to be armed, any; to before all, behind all, anywhere */
        int i = k % 3 == 0 ? 0 : k % 3 == 1 ? ARMED - 1 : (int)(next_random(&seed) % ARMED);
        int64_t at = k % 4 == 0 ? -1 - k : k % 4 == 1 ? ARMED + k : (int64_t)(next_random(&seed) % ARMED);
        ck_assert(weft__timer_disarm(&all[i]));
        ck_assert_uint_eq(t.n, ARMED - 1);
        ck_assert_int_le(changed(&t, heap, ARMED - 1), LEVELS);
        ck_assert_int_eq(weft__timer_arm(&t, &all[i], at, NULL), 0);
        ck_assert_int_le(changed(&t, heap, ARMED), LEVELS);
    }
    free(heap);
    weft__timers_fini(&t);
    free(all);
}
END_TEST

/* And looks at few: to look at all of a million takes a millisecond. The least of some tries, as the processor is shared. */
START_TEST(among_a_million_a_reset_takes_no_longer)
{
    enum { EACH = 500 };
    struct weft__timers t;
    struct weft__timer *all = arm_many(&t);
    int64_t best = INT64_MAX, bound = weft_us(20), end = weft_after(LIMIT);
    uint64_t seed = 5;
    for (int k = 0; k < 100 && best >= bound && weft_now() < end; k++) {
        int64_t from = cpu_now();
        for (int j = 0; j < EACH; j++) {
            int i = (int)(next_random(&seed) % ARMED);
            ck_assert(weft__timer_disarm(&all[i]));
            ck_assert_int_eq(weft__timer_arm(&t, &all[i], next_random(&seed) % (2 * ARMED), NULL), 0);
        }
        int64_t each = (cpu_now() - from) / EACH;
        best = each < best ? each : best;
    }
    ck_assert_uint_eq(t.n, ARMED);
    if (!TSAN && !ASAN && !chaos())
        ck_assert_int_lt(best, bound);
    weft__timers_fini(&t);
    free(all);
}
END_TEST

/* -- against a model -- */

enum { MODEL = 200 };

static struct {
    struct weft__timers t;
    int64_t now;
    uint64_t order[MODEL]; /* of arming; 0: not armed */
    long wrong, strikes;
} model;

static int model_first(void)
{
    int first = -1;
    for (int i = 0; i < MODEL; i++)
        if (model.order[i] &&
                (first < 0 || timer[i].timer.at < timer[first].timer.at ||
                        (timer[i].timer.at == timer[first].timer.at &&
                                model.order[i] < model.order[first])))
            first = i;
    return first;
}

static void model_strike(struct weft__timer *t)
{
    int i = ((struct numbered *)(void *)t)->number;
    model.strikes++;
    model.wrong += i != model_first() || t->at > model.now;
    model.order[i] = 0;
}

START_TEST(a_million_random_operations_do_as_a_list_would)
{
    uint64_t seed = 12345, order = 0;
    long operations = SCALED(1000000, 200000, 100000), armed = 0;
    begin(&model.t);
    weft__timers_on_call(model_strike);
    for (long k = 0; k < operations; k++) {
        int i = (int)(next_random(&seed) % MODEL);
        if (model.order[i]) {
            model.wrong += !weft__timer_disarm(&timer[i].timer);
            model.order[i] = 0;
        } else if (next_random(&seed) % 16) {
            model.order[i] = ++order;
            armed++;
            int64_t at = model.now + next_random(&seed) % 300;
            model.wrong += weft__timer_arm(&model.t, &timer[i].timer, at, NULL) != 0;
        } else {
            model.now += next_random(&seed) % 60;
            (void)weft__timers_expire(&model.t, model.now, (uint32_t[1]){ 0 }, 1);
            int first = model_first();
            model.wrong += first >= 0 && timer[first].timer.at <= model.now;
        }
        if (k % 16 == 0) {
            int first = model_first();
            model.wrong += weft__timers_earliest(&model.t) !=
                    (first < 0 ? INT64_MAX : timer[first].timer.at);
        }
    }
    ck_assert_int_eq(model.wrong, 0);
    ck_assert_int_gt(model.strikes, operations / 100);
    ck_assert_int_gt(armed, operations / 10);
    weft__timers_fini(&model.t);
}
END_TEST

/* -- timers that wake -- */

enum { SLEEPERS = 200 };

static struct weft__sleeper sleeper[SLEEPERS];

static void fall_asleep(struct weft__timers *t, int i, int64_t at, bool commit)
{
    struct weft__task *task = weft__task_alloc(NULL);
    ck_assert_ptr_nonnull(task);
    weft_task id = weft__task_begin(task);
    ck_assert(weft__task_claim(task, id));
    sleeper[i] = (struct weft__sleeper){ .timer.kind = WEFT__TIMER_WAKE };
    sleeper[i].token = weft__wait_begin(task, 0);
    ck_assert_int_eq(weft__timer_arm(t, &sleeper[i].timer, at, NULL), 0);
    if (commit)
        ck_assert(weft__wait_commit(task));
}

static enum weft__phase phase_of(int i)
{
    return weft__phase_of(at_load(&weft__token_task(sleeper[i].token)->state));
}

static void wake_up(int i)
{
    struct weft__task *task = weft__token_task(sleeper[i].token);
    weft_task id = (weft_task)at_load(&task->life);
    at_store(&task->life, 0);
    at_store(&task->state, weft__state(at_load(&task->ticket), 0, 0, WEFT__RUNNING));
    weft__task_recycle(NULL, task, id);
}

START_TEST(struck_sleepers_are_handed_out_in_order_and_at_most_so_many)
{
    struct weft__timers t;
    uint32_t woken[SLEEPERS];
    make(&t);
    ck_assert_int_eq(weft__task_table_init(), 0);
    for (int i = 0; i < SLEEPERS; i++)
        fall_asleep(&t, i, SLEEPERS - i, true);
    int next = SLEEPERS - 1;
    for (uint32_t most = 1, n; (n = weft__timers_expire(&t, SLEEPERS, woken, most)) > 0; most += 3) {
        ck_assert_uint_le(n, most);
        if (next + 1 > (int)most)
            ck_assert_uint_eq(n, most);
        for (uint32_t i = 0; i < n; i++, next--) {
            ck_assert_uint_eq(woken[i], weft__task_index(weft__token_task(sleeper[next].token)));
            ck_assert_int_eq(phase_of(next), WEFT__READY);
        }
        ck_assert_int_eq(weft__timers_earliest(&t), next < 0 ? INT64_MAX : SLEEPERS - next);
    }
    ck_assert_int_eq(next, -1);
    for (int i = 0; i < SLEEPERS; i++) {
        ck_assert(!weft__timer_disarm(&sleeper[i].timer));
        wake_up(i);
    }
    weft__timers_fini(&t);
}
END_TEST

START_TEST(a_sleeper_that_was_ended_otherwise_is_not_handed_out)
{
    struct weft__timers t;
    uint32_t woken[8];
    make(&t);
    ck_assert_int_eq(weft__task_table_init(), 0);
    fall_asleep(&t, 0, 1, true);  /* cancelled asleep */
    fall_asleep(&t, 1, 1, false); /* strikes before it sleeps */
    fall_asleep(&t, 2, 1, false); /* cancelled before it sleeps */
    fall_asleep(&t, 3, 1, true);  /* just sleeps */
    ck_assert_int_eq(weft__wait_claim(sleeper[0].token, WEFT__CAUSE_CANCEL), WEFT__FIRED_ENQUEUE);
    ck_assert_int_eq(weft__wait_claim(sleeper[2].token, WEFT__CAUSE_CANCEL), WEFT__FIRED_NOW);
    ck_assert_uint_eq(weft__timers_expire(&t, 1, woken, 8), 1);
    ck_assert_uint_eq(woken[0], weft__task_index(weft__token_task(sleeper[3].token)));
    ck_assert_int_eq(phase_of(1), WEFT__FIRED);
    ck_assert_int_eq(weft__wait_cause(weft__token_task(sleeper[0].token)), WEFT__CAUSE_CANCEL);
    ck_assert_int_eq(weft__wait_cause(weft__token_task(sleeper[1].token)), WEFT__CAUSE_EVENT);
    ck_assert_int_eq(weft__wait_cause(weft__token_task(sleeper[2].token)), WEFT__CAUSE_CANCEL);
    ck_assert_int_eq(weft__wait_cause(weft__token_task(sleeper[3].token)), WEFT__CAUSE_EVENT);
    ck_assert_int_eq(weft__timers_earliest(&t), INT64_MAX);
    for (int i = 0; i < 4; i++)
        wake_up(i);
    weft__timers_fini(&t);
}
END_TEST

/* -- calls -- */

static struct call {
    struct weft__timers t;
    struct gate in, go;
    atomic_int called, over, disarmed, struck_first, also;
} call;

static void long_call(struct weft__timer *t)
{
    if (t != &timer[0].timer) {
        atomic_store(&call.also, 1);
        return;
    }
    atomic_store(&call.called, 1);
    if (!gate_wait(&call.go))
        abort();
    atomic_store(&call.over, 1);
}

static void *striker(void *arg)
{
    (void)arg;
    (void)weft__timers_expire(&call.t, 10, (uint32_t[1]){ 0 }, 1);
    return NULL;
}

static void *disarmer(void *arg)
{
    (void)arg;
    bool won = weft__timer_disarm(&timer[0].timer);
    atomic_store(&call.struck_first, !won && atomic_load(&call.over));
    atomic_store(&call.disarmed, 1);
    return NULL;
}

START_TEST(a_call_is_made_with_no_lock_held_and_disarming_waits_for_it)
{
    begin(&call.t);
    call.go = (struct gate)GATE_INIT;
    weft__timers_on_call(long_call);
    arm(&call.t, 0, 10);
    arm(&call.t, 1, 20);
    pthread_t s = thread_start(striker, NULL);
    ck_assert(wait_for(&call.called, 1));
    /* Meanwhile the heap can be used. */
    ck_assert_int_eq(weft__timers_earliest(&call.t), 20);
    ck_assert_int_eq(weft__timer_take(&timer[0].timer), -EBUSY);
    arm(&call.t, 2, 15);
    ck_assert(weft__timer_disarm(&timer[1].timer));
    pthread_t d = thread_start(disarmer, NULL);
    for (int i = 0; i < 1000; i++)
        sched_yield();
    ck_assert_int_eq(atomic_load(&call.disarmed), 0);
    gate_open(&call.go);
    pthread_join(s, NULL);
    pthread_join(d, NULL);
    ck_assert_int_eq(atomic_load(&call.struck_first), 1);
    ck_assert_int_eq(atomic_load(&call.also), 0);
    (void)weft__timers_expire(&call.t, 15, (uint32_t[1]){ 0 }, 1);
    ck_assert_int_eq(atomic_load(&call.also), 1);
    weft__timers_fini(&call.t);
}
END_TEST

/* Two threads strike, one disarms: each timer either strikes once or is disarmed, never both. */
static struct contest {
    struct weft__timers t;
    atomic_int calls[MOST], stop;
} contest;

static void count_call(struct weft__timer *t)
{
    atomic_fetch_add(&contest.calls[((struct numbered *)(void *)t)->number], 1);
}

static void *strike_all(void *arg)
{
    (void)arg;
    while (!atomic_load(&contest.stop)) {
        (void)weft__timers_expire(&contest.t, 1, (uint32_t[1]){ 0 }, 1);
        sched_yield();
    }
    return NULL;
}

START_TEST(a_timer_strikes_or_is_disarmed_never_both)
{
    int wrong = 0, won = 0, rounds = SCALED(20, 10, 4);
    memset(&contest, 0, sizeof contest); /* with CK_FORK=no the test before has used it */
    begin(&contest.t);
    weft__timers_on_call(count_call);
    pthread_t a = thread_start(strike_all, NULL), b = thread_start(strike_all, NULL);
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < MOST; i++) {
            int before = atomic_load(&contest.calls[i]);
            wrong += weft__timer_arm(&contest.t, &timer[i].timer, 1, NULL) != 0;
            if (i % 64 == 0)
                sched_yield();
            bool mine = weft__timer_disarm(&timer[i].timer);
            wrong += atomic_load(&contest.calls[i]) != before + !mine;
            won += mine;
        }
    atomic_store(&contest.stop, 1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_gt(won, 0);
    weft__timers_fini(&contest.t);
}
END_TEST

/* A scope looks at its timer without the lock, and ends if it is disarmed: so it must not look disarmed for a moment
 * between leaving the heap and its call. */
START_TEST(a_timer_looks_disarmed_only_when_its_call_is_over)
{
    int early = 0, lost = 0, rounds = SCALED(50000, 20000, 5000);
    struct weft__timer *t = &timer[0].timer;
    int64_t end = weft_after(LIMIT); /* each takes two threads, and they may have one processor */
    memset(&contest, 0, sizeof contest);
    begin(&contest.t);
    weft__timers_on_call(count_call);
    for (int i = 1; i < MOST; i++) /* so that leaving the heap takes its time */
        arm(&contest.t, i, 1000 + i);
    pthread_t a = thread_start(strike_all, NULL);
    for (int r = 0; r < rounds && weft_now() < end; r++) {
        lost += weft__timer_arm(&contest.t, t, 1, NULL) != 0;
        for (long spins = 0; at_load_acquire(&t->armed) != 0; spins++)
            if (spins % 2000 == 1999)
                sched_yield();
        early += atomic_load(&contest.calls[0]) != r + 1;
        while (atomic_load(&contest.calls[0]) != r + 1 || at_load_acquire(&t->armed) != 0)
            sched_yield();
    }
    atomic_store(&contest.stop, 1);
    pthread_join(a, NULL);
    ck_assert_int_eq(lost, 0);
    ck_assert_int_eq(early, 0);
    weft__timers_fini(&contest.t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timer");
    TCase *tc = add_case(s, "order");
    tcase_add_test(tc, no_timer_no_deadline);
    tcase_add_loop_test(tc, they_strike_in_the_order_of_their_times_and_none_early, 0, 4);
    tcase_add_test(tc, equal_times_strike_in_the_order_of_arming);
    tcase_add_test(tc, the_extremes_of_time_are_times);
    tcase_add_test(tc, arming_says_whether_it_is_now_the_first);
    tc = add_case(s, "disarm");
    tcase_add_test(tc, disarmed_anywhere_in_the_heap_the_rest_strikes_in_order);
    tcase_add_test(tc, all_can_be_disarmed_and_the_room_is_used_again);
    tcase_add_test(tc, what_has_struck_can_not_be_disarmed);
    tcase_add_test(tc, without_memory_nothing_is_armed_and_nothing_lost);
    tc = add_case(s, "many");
    tcase_add_test(tc, among_a_million_a_disarm_and_a_reset_move_few);
    tcase_add_test(tc, among_a_million_a_reset_takes_no_longer);
    tc = add_case(s, "model");
    tcase_add_test(tc, a_million_random_operations_do_as_a_list_would);
    tc = add_case(s, "sleepers");
    tcase_add_test(tc, struck_sleepers_are_handed_out_in_order_and_at_most_so_many);
    tcase_add_test(tc, a_sleeper_that_was_ended_otherwise_is_not_handed_out);
    tc = add_case(s, "calls");
    tcase_add_test(tc, a_call_is_made_with_no_lock_held_and_disarming_waits_for_it);
    tcase_add_test(tc, a_timer_strikes_or_is_disarmed_never_both);
    tcase_add_test(tc, a_timer_looks_disarmed_only_when_its_call_is_over);
    return run_suite(s);
}
