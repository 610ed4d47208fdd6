/* tests/notify_test.c - sync/notify.c: one is woken, or the next who comes; what is stored, and what is not. */
#include "sync_support.h"

static int wait_it(void *n)
{
    return weft_notify_wait(n);
}

/* -- what is stored -- */

static int stored(void *arg)
{
    weft_notify *n = arg;
    weft_scope s;
    struct caller a, b;
    weft_scope_begin(&s, LIMIT);
    weft_notify_one(n);
    MUST(weft_notify_wait(n) == 0);
    weft_notify_one(n);
    weft_notify_one(n); /* twice is once */
    MUST(weft_notify_wait(n) == 0);
    MUST(put_to_sleep(&s, &a, wait_it, n));
    MUST(put_to_sleep(&s, &b, wait_it, n));
    weft_notify_one(n); /* the first, and nothing is stored */
    MUST(result(&a) == 0);
    MUST(still_waits(&b));
    weft_notify_one(n);
    MUST(result(&b) == 0);
    MUST(put_to_sleep(&s, &a, wait_it, n));
    weft_notify_one(n);
    MUST(result(&a) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(one_is_woken_or_the_next_who_comes)
{
    weft_notify n = WEFT_SYNC_INIT;
    RUN(stored, &n, workers[_i]);
}
END_TEST

static int all(void *arg)
{
    weft_notify *n = arg;
    enum { N = 70 };
    struct caller c[N];
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_notify_all(n); /* nobody is there, and nothing is stored */
    for (int i = 0; i < N; i++)
        MUST(put_to_sleep(&s, &c[i], wait_it, n));
    weft_notify_all(n);
    for (int i = 0; i < N; i++)
        MUST(result(&c[i]) == 0);
    MUST(put_to_sleep(&s, &c[0], wait_it, n));
    weft_notify_all(n);
    MUST(result(&c[0]) == 0);
    weft_notify_one(n);
    weft_notify_all(n); /* what is stored stays */
    MUST(weft_notify_wait(n) == 0);
    MUST(put_to_sleep(&s, &c[0], wait_it, n));
    weft_notify_one(n);
    MUST(result(&c[0]) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(all_who_wait_are_woken_and_nothing_is_stored)
{
    weft_notify n = WEFT_SYNC_INIT;
    RUN(all, &n, workers[_i]);
}
END_TEST

/* -- told to leave -- */

static int leave(void *arg)
{
    weft_notify *n = arg;
    weft_scope s, t;
    struct caller a, b;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &a, wait_it, n));
    MUST(put_to_sleep(&s, &b, wait_it, n));
    MUST(weft_task_cancel(a.task, NULL) == 0);
    MUST(result(&a) == -ECANCELED);
    weft_notify_one(n);
    MUST(result(&b) == 0);
    weft_notify_one(n);
    weft_scope_begin(&t, 0);
    MUST(weft_notify_wait(n) == -ECANCELED); /* and took nothing */
    MUST(weft_scope_end(&t, -ECANCELED) == -ETIMEDOUT);
    MUST(weft_notify_wait(n) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(who_is_told_to_leave_takes_no_notification)
{
    weft_notify n = WEFT_SYNC_INIT;
    RUN(leave, &n, workers[_i]);
}
END_TEST

START_TEST(a_plain_thread_waits_until_its_deadline)
{
    weft_notify n = WEFT_SYNC_INIT;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_notify_wait(&n)), -ETIMEDOUT);
    weft_notify_one(&n);
    ck_assert_int_eq(weft_notify_wait(&n), 0);
}
END_TEST

/* -- a crowd: a queue that is looked at after each notification -- */

struct desk {
    weft_notify notify;
    atomic_int items, taken, all;
};

static int serve_desk(void *arg)
{
    struct desk *d = arg;
    enum { ITEMS = BUILT(300, 100, 60) };
    for (int i = 0; i < ITEMS; i++) {
        atomic_fetch_add(&d->items, 1);
        weft_notify_one(&d->notify);
        if (i % 8 == 0)
            weft_ignore(weft_yield());
    }
    while (atomic_load(&d->taken) < CROWD * ITEMS) {
        int n = atomic_load(&d->items);
        if (n > 0 && atomic_compare_exchange_strong(&d->items, &n, n - 1)) {
            if (atomic_fetch_add(&d->taken, 1) + 1 == CROWD * ITEMS)
                atomic_store(&d->all, 1);
            /* A notification may be about several: who took one passes it on. */
            weft_notify_one(&d->notify);
            continue;
        }
        if (n > 0)
            continue;
        if (weft_notify_wait(&d->notify) < 0)
            return -EPROTO;
        if (atomic_load(&d->all))
            weft_notify_one(&d->notify); /* the last one out wakes the next */
    }
    weft_notify_one(&d->notify);
    return 0;
}

START_TEST(no_wake_up_is_lost_among_tasks_of_two_runtimes_and_plain_threads)
{
    struct desk d = { 0 };
    run_crowd(serve_desk, &d, workers[_i]);
    ck_assert_int_eq(atomic_load(&d.items), 0);
}
END_TEST

/* -- two tasks that wake each other -- */

struct rally {
    weft_notify to[2];
    int hits; /* plain */
    int rounds;
};

static int play(struct rally *r, int me)
{
    for (int i = 0; i < r->rounds; i++) {
        if (weft_notify_wait(&r->to[me]) < 0)
            return -EPROTO;
        r->hits++;
        weft_notify_one(&r->to[!me]);
    }
    return 0;
}

static int play_0(void *r)
{
    return play(r, 0);
}

static int play_1(void *r)
{
    return play(r, 1);
}

static int rally(void *arg)
{
    struct rally *r = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, play_0, r);
    weft_spawn(&s, play_1, r);
    weft_notify_one(&r->to[0]);
    return weft_scope_end(&s, 0);
}

START_TEST(what_was_written_before_a_notification_is_seen_after_it)
{
    struct rally r = { .rounds = chaos() ? 3000 : SCALED(20000, 5000, 2000) };
    RUN(rally, &r, workers[_i]);
    ck_assert_int_eq(r.hits, 2 * r.rounds);
}
END_TEST

/* -- a wait against a notification, again and again: B-046 -- */

/* The next notification is given when the last one was taken, and not before: so each counts, and meets who is about to
 * wait, waits, or has not come yet. WEFT_RACES in the environment: so many of them. */
struct races {
    weft_notify notify;
    atomic_long taken, rounds;
    atomic_int over;
    long written; /* plain: by the notifier before each */
};

static int take_each(void *arg)
{
    struct races *r = arg;
    long rounds = atomic_load(&r->rounds);
    weft_scope s;
    weft_scope_begin(&s, getenv("WEFT_RACES") ? WEFT_NEVER : LIMIT);
    int rc = 0;
    for (long i = 1; i <= rounds && (rc = weft_notify_wait(&r->notify)) == 0; i++) {
        MUST(r->written == i); /* none too many, either */
        atomic_store(&r->taken, i);
    }
    atomic_store(&r->over, 1);
    return weft_scope_end(&s, rc);
}

static void *give_each(void *arg)
{
    struct races *r = arg;
    long rounds = atomic_load(&r->rounds);
    for (long i = 1; i <= rounds && !atomic_load(&r->over); i++) {
        for (volatile long n = i % 97; n > 0; n--)
            continue; /* at another moment of the wait each time */
        r->written = i;
        weft_notify_one(&r->notify);
        for (int spins = 0; atomic_load(&r->taken) < i && !atomic_load(&r->over); spins++)
            if (spins % 64 == 63)
                sched_yield();
    }
    return NULL;
}

START_TEST(no_race_of_a_wait_with_a_notification_loses_it)
{
    struct races r = { .over = 0 };
    const char *asked = getenv("WEFT_RACES");
    atomic_store(&r.rounds, asked ? atol(asked) : SCALED(50000, 20000, 5000));
    pthread_t giver = thread_start(give_each, &r);
    if (_i < COUNT(workers))
        RUN(take_each, &r, workers[_i]);
    else
        ck_assert_int_eq(take_each(&r), 0);
    pthread_join(giver, NULL);
    NOTHING_WRONG();
    ck_assert_int_eq(atomic_load(&r.taken), atomic_load(&r.rounds));
    ck_assert_int_eq(r.written, atomic_load(&r.rounds));
}
END_TEST

/* -- gone -- */

static int notify_one(void *n)
{
    weft_notify_one(n);
    return 0;
}

START_TEST(who_was_notified_may_free_it_at_once)
{
    struct gone g = { sizeof(weft_notify), NULL, notify_one, wait_it, ROUNDS_GONE };
    RUN(gone_at_once, &g, workers[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("notify");
    TCase *tc = add_case(s, "notify");
    tcase_add_loop_test(tc, one_is_woken_or_the_next_who_comes, 0, COUNT(workers));
    tcase_add_loop_test(tc, all_who_wait_are_woken_and_nothing_is_stored, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_is_told_to_leave_takes_no_notification, 0, COUNT(workers));
    tcase_add_test(tc, a_plain_thread_waits_until_its_deadline);
    tcase_add_loop_test(
            tc, no_wake_up_is_lost_among_tasks_of_two_runtimes_and_plain_threads, 0, COUNT(workers));
    tcase_add_loop_test(tc, what_was_written_before_a_notification_is_seen_after_it, 0, COUNT(workers));
    tcase_add_loop_test(tc, no_race_of_a_wait_with_a_notification_loses_it, 0, COUNT(workers) + 1);
    tcase_add_loop_test(tc, who_was_notified_may_free_it_at_once, 0, COUNT(workers));
    return run_suite(s);
}
