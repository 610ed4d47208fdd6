/* tests/classics_asyncio_test.c - what asyncio promises of locks, queues, groups, timeouts and gathering, asked of weft.
 *
 * The behaviours are those of asyncio's documentation and of the areas of its test suite; the programs are our own, written
 * from weft's headers. Where weft decided otherwise it is said at the test, and weft's way is asserted. All of them run on
 * the virtual clock.
 */
#include "classics.h"

/* -- Lock -- */

/* Locks, stays for a millisecond, unlocks. */
static int lock_for_a_while(void *m)
{
    int rc = weft_mutex_lock(m);
    if (rc < 0)
        return rc;
    rc = weft_sleep(weft_ms(1));
    weft_mutex_unlock(m);
    return rc;
}

/* Locks and unlocks at once. */
static int pass_through(void *m)
{
    int rc = weft_mutex_lock(m);
    if (rc == 0)
        weft_mutex_unlock(m);
    return rc;
}

static int lock_in_line(void *arg)
{
    (void)arg;
    weft_mutex m = WEFT_SYNC_INIT;
    struct story t = { 0 };
    struct call c[5];
    SAME(weft_mutex_lock(&m), 0);
    SAME(weft_mutex_lock(&m), -EDEADLK); /* asyncio's would hang */
    SAME(weft_mutex_try_lock(&m), -EAGAIN);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 5; i++) {
        c[i] = (struct call){ .story = &t, .number = i };
        call_and_settle(&s, &c[i], lock_for_a_while, &m);
    }
    weft_task_cancel(c[2].task, NULL);
    settle();
    SAME(rc_of(&c[2]), -ECANCELED);
    NOTHING_HAPPENED(&t);
    weft_mutex_unlock(&m);
    int rc = weft_scope_end(&s, 0);
    HAPPENED(&t, 0, 1, 3, 4);
    SAME(weft_mutex_try_lock(&m), 0);
    weft_mutex_unlock(&m);
    return rc;
}

START_TEST(lock_is_had_in_the_order_of_coming_and_who_leaves_the_line_holds_up_nobody)
{
    IN_VIRTUAL_TIME(lock_in_line, NULL, workers[_i]);
}
END_TEST

/* A waiter is cancelled in the moment in which the lock becomes its own; then the next one in line has to get it. */
static int cancel_who_was_woken(void *arg)
{
    (void)arg;
    int rounds = fewer(100, SCALED(1000, 300, 200)), rc = 0;
    for (int i = 0; i < rounds && rc == 0; i++) {
        weft_mutex m = WEFT_SYNC_INIT;
        struct call first = { 0 }, second = { 0 };
        weft_scope s;
        SAME(weft_mutex_lock(&m), 0);
        weft_scope_begin(&s, WEFT_NEVER);
        call_and_settle(&s, &first, pass_through, &m);
        call_and_settle(&s, &second, pass_through, &m);
        if (i % 2 == 0) {
            weft_mutex_unlock(&m);
            weft_task_cancel(first.task, NULL);
        } else {
            weft_task_cancel(first.task, NULL);
            weft_mutex_unlock(&m);
        }
        settle();
        MUST(rc_of(&first) == 0 || rc_of(&first) == -ECANCELED);
        SAME(rc_of(&second), 0);
        rc = weft_scope_end(&s, 0);
        SAME(weft_mutex_try_lock(&m), 0);
        weft_mutex_unlock(&m);
    }
    return rc;
}

START_TEST(lock_is_not_lost_when_who_was_just_woken_is_cancelled)
{
    IN_VIRTUAL_TIME(cancel_who_was_woken, NULL, workers[_i]);
}
END_TEST

static int lock_while_told(void *arg)
{
    (void)arg;
    weft_mutex m = WEFT_SYNC_INIT;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    SAME(weft_mutex_lock(&m), 0); /* needs no waiting */
    weft_mutex_unlock(&m);
    return weft_scope_end(&s, weft_check());
}

START_TEST(lock_that_is_free_is_had_by_who_was_told_to_leave)
{
    IN_VIRTUAL_TIME(lock_while_told, NULL, workers[_i]);
}
END_TEST

/* -- Semaphore -- */

static int acquire_1(void *s)
{
    return weft_sem_acquire(s, 1);
}

static int acquire_3(void *s)
{
    return weft_sem_acquire(s, 3);
}

static int sem_in_line(void *arg)
{
    (void)arg;
    weft_sem sem = WEFT_SEM_INIT(2);
    struct story t = { 0 };
    struct call c[4];
    weft_fn *const wants[4] = { acquire_3, acquire_1, acquire_1, acquire_1 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++) {
        c[i] = (struct call){ .story = &t, .number = i };
        call_and_settle(&s, &c[i], wants[i], &sem);
    }
    NOTHING_HAPPENED(&t); /* two permits are there, and nobody goes past the one who wants three */
    SAME(weft_sem_try_acquire(&sem, 1), -EAGAIN);
    weft_sem_release(&sem, 1);
    settle();
    HAPPENED(&t, 0);
    SAME(weft_sem_try_acquire(&sem, 1), -EAGAIN);
    for (int i = 1; i <= 2; i++) {
        weft_sem_release(&sem, 1);
        settle();
        HAPPENED(&t, i);
    }
    weft_sem_release(&sem, 2);
    int rc = weft_scope_end(&s, 0);
    HAPPENED(&t, 3);
    SAME(weft_sem_try_acquire(&sem, 2), -EAGAIN);
    SAME(weft_sem_try_acquire(&sem, 1), 0);
    return rc;
}

START_TEST(semaphore_serves_in_the_order_of_coming_and_later_comers_starve_nobody)
{
    IN_VIRTUAL_TIME(sem_in_line, NULL, workers[_i]);
}
END_TEST

static int cancel_who_got_a_permit(void *arg)
{
    (void)arg;
    int rounds = fewer(100, SCALED(1000, 300, 200)), rc = 0;
    for (int i = 0; i < rounds && rc == 0; i++) {
        weft_sem sem = WEFT_SEM_INIT(0);
        struct call first = { 0 }, second = { 0 };
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        call_and_settle(&s, &first, acquire_1, &sem);
        call_and_settle(&s, &second, acquire_1, &sem);
        if (i % 2 == 0) {
            weft_sem_release(&sem, 1);
            weft_task_cancel(first.task, NULL);
        } else {
            weft_task_cancel(first.task, NULL);
            weft_sem_release(&sem, 1);
        }
        settle();
        bool got = rc_of(&first) == 0;
        MUST(got || rc_of(&first) == -ECANCELED);
        SAME(rc_of(&second), got ? STILL_OUT : 0);
        weft_sem_release(&sem, 1);
        rc = weft_scope_end(&s, 0);
        SAME(rc_of(&second), 0);
        SAME(weft_sem_try_acquire(&sem, 1), got ? -EAGAIN : 0); /* two were given */
    }
    return rc;
}

START_TEST(semaphore_loses_no_permit_when_who_was_just_woken_is_cancelled)
{
    IN_VIRTUAL_TIME(cancel_who_got_a_permit, NULL, workers[_i]);
}
END_TEST

static int cancel_who_stands_in_the_way(void *arg)
{
    (void)arg;
    weft_sem sem = WEFT_SEM_INIT(2);
    struct call big = { 0 }, a = { 0 }, b = { 0 }, c = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    call_and_settle(&s, &big, acquire_3, &sem);
    call_and_settle(&s, &a, acquire_1, &sem);
    call_and_settle(&s, &b, acquire_1, &sem);
    call_and_settle(&s, &c, acquire_1, &sem);
    weft_task_cancel(big.task, NULL);
    settle();
    SAME(rc_of(&big), -ECANCELED);
    SAME(rc_of(&a), 0);
    SAME(rc_of(&b), 0);
    SAME(rc_of(&c), STILL_OUT);
    weft_sem_release(&sem, 1);
    return weft_scope_end(&s, 0);
}

START_TEST(semaphore_lets_those_in_who_stood_behind_one_that_leaves)
{
    IN_VIRTUAL_TIME(cancel_who_stands_in_the_way, NULL, workers[_i]);
}
END_TEST

struct bounded {
    weft_sem sem;
    atomic_int inside, most, times;
};

static int work_with_permit(void *arg)
{
    struct bounded *b = arg;
    for (int i = 0; i < 10; i++) {
        int rc = weft_sem_acquire(&b->sem, 1);
        if (rc < 0)
            return rc;
        int inside = atomic_fetch_add(&b->inside, 1) + 1, most = atomic_load(&b->most);
        while (inside > most && !atomic_compare_exchange_weak(&b->most, &most, inside))
            continue;
        rc = weft_sleep(weft_ms(1));
        atomic_fetch_sub(&b->inside, 1);
        atomic_fetch_add(&b->times, 1);
        weft_sem_release(&b->sem, 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int bound_a_crowd(void *arg)
{
    (void)arg;
    struct bounded b = { .sem = WEFT_SEM_INIT(3) };
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 12; i++)
        weft_spawn(&s, work_with_permit, &b);
    int rc = weft_scope_end(&s, 0);
    SAME(atomic_load(&b.most), 3);
    SAME(atomic_load(&b.times), 120);
    SAME(weft_now() - began, weft_ms(40)); /* three at a time, without a gap */
    return rc;
}

START_TEST(semaphore_lets_in_as_many_as_it_has_permits)
{
    IN_VIRTUAL_TIME(bound_a_crowd, NULL, workers[_i]);
}
END_TEST

/* -- Condition -- */

struct condition {
    weft_mutex m;
    weft_cond c;
    atomic_int held; /* by who was cancelled in its wait */
};

static int wait_once(void *arg)
{
    struct condition *x = arg;
    int rc = weft_mutex_lock(&x->m);
    if (rc < 0)
        return rc;
    rc = weft_cond_wait(&x->c, &x->m);
    weft_mutex_unlock(&x->m); /* aborts if it is not locked */
    return rc;
}

static int count_signals(void *arg)
{
    (void)arg;
    struct condition x = { 0 };
    struct story t = { 0 };
    struct call c[6];
    weft_scope s;
    SAME(weft_cond_wait(&x.c, &x.m), -EPERM);
    weft_cond_signal(&x.c); /* nobody waits: it is not kept */
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 6; i++) {
        c[i] = (struct call){ .story = &t, .number = i };
        call_and_settle(&s, &c[i], wait_once, &x);
    }
    NOTHING_HAPPENED(&t);
    weft_cond_signal(&x.c);
    settle();
    HAPPENED(&t, 0);
    weft_task_cancel(c[1].task, NULL);
    settle();
    weft_cond_signal(&x.c);
    settle();
    HAPPENED(&t, 2);
    weft_cond_broadcast(&x.c);
    int rc = weft_scope_end(&s, 0);
    SAME(atomic_load(&t.n), 3);
    SAME(rc_of(&c[1]), -ECANCELED);
    return rc;
}

START_TEST(condition_wakes_as_many_as_were_notified_and_the_oldest_first)
{
    IN_VIRTUAL_TIME(count_signals, NULL, workers[_i]);
}
END_TEST

static int wait_and_stay(void *arg)
{
    struct condition *x = arg;
    int rc = weft_mutex_lock(&x->m);
    if (rc < 0)
        return rc;
    rc = weft_cond_wait(&x->c, &x->m);
    atomic_store(&x->held, 1);
    weft_scope shield;
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    SAME(weft_scope_end(&shield, weft_sleep(weft_ms(1))), 0);
    weft_mutex_unlock(&x->m);
    return rc;
}

static int cancel_a_condition(void *arg)
{
    (void)arg;
    struct condition x = { 0 };
    struct call c = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    call_and_settle(&s, &c, wait_and_stay, &x);
    SAME(weft_mutex_lock(&x.m), 0);
    weft_task_cancel(c.task, NULL);
    settle();
    SAME(atomic_load(&x.held), 0); /* it was told, and waits for the lock all the same */
    weft_mutex_unlock(&x.m);
    settle();
    SAME(atomic_load(&x.held), 1);
    SAME(weft_mutex_try_lock(&x.m), -EAGAIN);
    int rc = weft_scope_end(&s, 0);
    SAME(rc_of(&c), -ECANCELED);
    SAME(weft_mutex_try_lock(&x.m), 0);
    weft_mutex_unlock(&x.m);
    return rc;
}

START_TEST(condition_has_its_lock_again_also_when_the_wait_was_cancelled)
{
    IN_VIRTUAL_TIME(cancel_a_condition, NULL, workers[_i]);
}
END_TEST

static int cancel_who_was_notified(void *arg)
{
    (void)arg;
    int rounds = fewer(100, SCALED(500, 200, 200)), rc = 0;
    for (int i = 0; i < rounds && rc == 0; i++) {
        struct condition x = { 0 };
        struct call a = { 0 }, b = { 0 };
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        call_and_settle(&s, &a, wait_once, &x);
        call_and_settle(&s, &b, wait_once, &x);
        if (i % 2)
            SAME(weft_mutex_lock(&x.m), 0);
        weft_cond_signal(&x.c);
        weft_task_cancel(a.task, NULL);
        if (i % 2)
            weft_mutex_unlock(&x.m);
        settle();
        MUST(rc_of(&a) == 0 || rc_of(&a) == -ECANCELED);
        SAME(rc_of(&b), rc_of(&a) == 0 ? STILL_OUT : 0); /* one signal is one waiter's */
        weft_cond_broadcast(&x.c);
        rc = weft_scope_end(&s, 0);
        SAME(rc_of(&b), 0);
    }
    return rc;
}

START_TEST(condition_loses_no_notification_when_who_was_notified_is_cancelled)
{
    IN_VIRTUAL_TIME(cancel_who_was_notified, NULL, workers[_i]);
}
END_TEST

/* -- Event -- */

static int wait_event(void *e)
{
    return weft_event_wait(e);
}

static int use_an_event(void *arg)
{
    (void)arg;
    weft_event e = WEFT_SYNC_INIT;
    struct call c[5] = { 0 };
    weft_scope s, told;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        call_in(&s, &c[i], wait_event, &e);
    settle();
    for (int i = 0; i < 4; i++)
        SAME(rc_of(&c[i]), STILL_OUT);
    weft_task_cancel(c[0].task, NULL);
    settle();
    SAME(rc_of(&c[0]), -ECANCELED);
    weft_event_set(&e);
    weft_event_clear(&e); /* those who waited are let go all the same */
    settle();
    for (int i = 1; i < 4; i++)
        SAME(rc_of(&c[i]), 0);
    MUST(!weft_event_is_set(&e));
    call_and_settle(&s, &c[4], wait_event, &e);
    SAME(rc_of(&c[4]), STILL_OUT);
    weft_event_set(&e);
    settle();
    SAME(rc_of(&c[4]), 0);
    SAME(weft_event_wait(&e), 0);
    /* asyncio's wait for a set event is no checkpoint; weft's is refused to who was told. */
    weft_scope_begin(&told, WEFT_NEVER);
    weft_scope_cancel(&told, NULL);
    SAME(weft_event_wait(&e), -ECANCELED);
    SAME(weft_scope_end(&told, -ECANCELED), 0);
    return weft_scope_end(&s, 0);
}

START_TEST(event_lets_go_all_who_wait_when_it_is_set_and_holds_who_comes_after_it_was_cleared)
{
    IN_VIRTUAL_TIME(use_an_event, NULL, workers[_i]);
}
END_TEST

/* -- Barrier -- */

static int wait_barrier(void *b)
{
    return weft_barrier_wait(b);
}

static void start_waits(weft_scope *s, struct call *c, int n, weft_barrier *b)
{
    for (int i = 0; i < n; i++)
        call_and_settle(s, &c[i], wait_barrier, b);
}

static int use_a_barrier(void *arg)
{
    (void)arg;
    weft_barrier b = WEFT_BARRIER_INIT(3);
    struct call c[3] = { 0 };
    int rc = 0;
    for (int generation = 0; generation < 3 && rc == 0; generation++) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        start_waits(&s, c, 2, &b);
        SAME(rc_of(&c[0]), STILL_OUT);
        SAME(rc_of(&c[1]), STILL_OUT);
        call_and_settle(&s, &c[2], wait_barrier, &b);
        for (int i = 0; i < 3; i++)
            SAME(rc_of(&c[i]), i);
        rc = weft_scope_end(&s, 0);
    }
    return rc;
}

START_TEST(barrier_lets_all_go_when_the_last_has_come_and_begins_anew)
{
    IN_VIRTUAL_TIME(use_a_barrier, NULL, workers[_i]);
}
END_TEST

static int break_a_barrier(void *arg)
{
    (void)arg;
    weft_barrier b = WEFT_BARRIER_INIT(3);
    struct call c[3] = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    start_waits(&s, c, 2, &b);
    weft_barrier_break(&b);
    settle();
    SAME(rc_of(&c[0]), -EPIPE);
    SAME(rc_of(&c[1]), -EPIPE);
    SAME(weft_barrier_wait(&b), -EPIPE); /* and stays broken */
    SAME(weft_barrier_wait(&b), -EPIPE);
    weft_barrier_reset(&b);
    start_waits(&s, c, 3, &b);
    for (int i = 0; i < 3; i++)
        SAME(rc_of(&c[i]), i);
    start_waits(&s, c, 2, &b);
    weft_barrier_reset(&b); /* those who wait are sent away, and it is not broken */
    settle();
    SAME(rc_of(&c[0]), -EPIPE);
    SAME(rc_of(&c[1]), -EPIPE);
    start_waits(&s, c, 3, &b);
    for (int i = 0; i < 3; i++)
        SAME(rc_of(&c[i]), i);
    return weft_scope_end(&s, 0);
}

START_TEST(barrier_that_is_broken_sends_all_away_until_it_is_reset)
{
    IN_VIRTUAL_TIME(break_a_barrier, NULL, workers[_i]);
}
END_TEST

static int leave_a_barrier(void *arg)
{
    (void)arg;
    weft_barrier b = WEFT_BARRIER_INIT(3);
    struct call c[4] = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    start_waits(&s, c, 2, &b);
    weft_task_cancel(c[0].task, NULL);
    settle();
    SAME(rc_of(&c[0]), -ECANCELED);
    call_and_settle(&s, &c[2], wait_barrier, &b);
    SAME(rc_of(&c[1]), STILL_OUT); /* it has not come: one more is awaited, and nothing is broken */
    SAME(rc_of(&c[2]), STILL_OUT);
    call_and_settle(&s, &c[3], wait_barrier, &b);
    int places = 0;
    for (int i = 1; i < 4; i++) {
        MUST(rc_of(&c[i]) >= 0 && rc_of(&c[i]) < 3);
        places |= 1 << (rc_of(&c[i]) & 3);
    }
    SAME(places, 7);
    return weft_scope_end(&s, 0);
}

START_TEST(barrier_waits_for_one_more_when_one_is_cancelled)
{
    IN_VIRTUAL_TIME(leave_a_barrier, NULL, workers[_i]);
}
END_TEST

/* -- Queue, LifoQueue, PriorityQueue: channels -- */

static int by_tens(const void *a, const void *b)
{
    return *(const int *)a / 10 - *(const int *)b / 10;
}

static weft_chan *make_queue(size_t capacity, int order)
{
    weft_chan *q = NULL;
    weft_chan_options o = { .order = order, .compare = order == WEFT_ORDER_PRIORITY ? by_tens : NULL };
    if (weft_chan_create(&q, sizeof(int), capacity, &o) < 0)
        abort();
    return q;
}

static int put(weft_chan *q, int v)
{
    return weft_chan_send(q, &v, sizeof v);
}

static int get(weft_chan *q)
{
    int v = 0, rc = weft_chan_recv(q, &v, sizeof v);
    return rc > 0 ? v : rc;
}

struct item {
    weft_chan *q;
    int v; /* to be put; or what was got */
};

static int put_item(void *arg)
{
    struct item *i = arg;
    return put(i->q, i->v);
}

static int get_item(void *arg)
{
    struct item *i = arg;
    return weft_chan_recv(i->q, &i->v, sizeof i->v);
}

static int order_of_queues(void *arg)
{
    (void)arg;
    static const int in[] = { 31, 12, 25, 14, 39, 21 };
    static const int out[3][6] = {
        [WEFT_ORDER_FIFO] = { 31, 12, 25, 14, 39, 21 },
        [WEFT_ORDER_LIFO] = { 21, 39, 14, 25, 12, 31 },
        [WEFT_ORDER_PRIORITY] = { 12, 14, 25, 21, 31, 39 }, /* of equals the oldest */
    };
    for (int order = WEFT_ORDER_FIFO; order <= WEFT_ORDER_PRIORITY; order++) {
        weft_chan *q = make_queue(6, order);
        int v;
        for (int i = 0; i < 6; i++)
            SAME(put(q, in[i]), 0);
        SAME(weft_chan_try_send(q, &in[0], sizeof in[0]), -EAGAIN); /* QueueFull */
        SAME(weft_chan_len(q), 6);
        for (int i = 0; i < 6; i++)
            SAME(get(q), out[order][i]);
        SAME(weft_chan_try_recv(q, &v, sizeof v), -EAGAIN); /* QueueEmpty */
        weft_chan_destroy(&q);
    }
    return 0;
}

START_TEST(queue_gives_its_items_in_its_order)
{
    IN_VIRTUAL_TIME(order_of_queues, NULL, workers[_i]);
}
END_TEST

static int fill_a_queue(void *arg)
{
    (void)arg;
    weft_chan *q = make_queue(2, WEFT_ORDER_FIFO);
    struct item items[4];
    struct call c[4] = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++) {
        items[i] = (struct item){ q, i + 1 };
        call_and_settle(&s, &c[i], put_item, &items[i]);
        SAME(rc_of(&c[i]), i < 2 ? 0 : STILL_OUT);
    }
    SAME(weft_chan_len(q), 2);
    SAME(get(q), 1);
    settle();
    SAME(rc_of(&c[2]), 0);
    SAME(rc_of(&c[3]), STILL_OUT);
    SAME(weft_chan_len(q), 2);
    for (int i = 2; i <= 4; i++)
        SAME(get(q), i);
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&q);
    return rc;
}

START_TEST(queue_that_is_full_holds_who_puts_until_something_was_got)
{
    IN_VIRTUAL_TIME(fill_a_queue, NULL, workers[_i]);
}
END_TEST

/* A get is cancelled in the moment in which an item comes, a put in the moment in which there is room. */
static int cancel_at_a_queue(void *arg)
{
    (void)arg;
    int rounds = fewer(100, SCALED(1000, 300, 200)), rc = 0;
    for (int i = 0; i < rounds && rc == 0; i++) {
        weft_chan *q = make_queue(i & 1, WEFT_ORDER_FIFO); /* 0: a rendezvous */
        struct item a = { q, -1 }, b = { q, -1 };
        struct call first = { 0 }, second = { 0 };
        int v = 7, mine = -1;
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        call_and_settle(&s, &first, get_item, &a);
        call_and_settle(&s, &second, get_item, &b);
        SAME(weft_chan_try_send(q, &v, sizeof v), 0);
        weft_task_cancel(first.task, NULL);
        settle();
        MUST(rc_of(&first) == 1 || rc_of(&first) == -ECANCELED);
        SAME(rc_of(&second), rc_of(&first) == 1 ? STILL_OUT : 1);
        weft_chan_close(q);
        rc = weft_scope_end(&s, 0);
        SAME(a.v, rc_of(&first) == 1 ? 7 : -1);
        SAME(b.v, rc_of(&first) == 1 ? -1 : 7);
        weft_chan_destroy(&q);

        q = make_queue(i & 1, WEFT_ORDER_FIFO);
        a = (struct item){ q, 1 };
        b = (struct item){ q, 2 };
        weft_scope_begin(&s, WEFT_NEVER);
        if (i & 1)
            SAME(put(q, 0), 0);
        call_and_settle(&s, &first, put_item, &a);
        call_and_settle(&s, &second, put_item, &b);
        if (i & 1)
            SAME(get(q), 0);
        else
            SAME(weft_chan_try_recv(q, &mine, sizeof mine), 1);
        weft_task_cancel(first.task, NULL);
        settle();
        MUST(rc_of(&first) == 0 || rc_of(&first) == -ECANCELED);
        if (!(i & 1))
            SAME(mine, 1); /* it was met, before it was told */
        if (rc_of(&first) == 0 && (i & 1))
            SAME(get(q), 1);
        SAME(get(q), 2);
        SAME(weft_chan_try_recv(q, &mine, sizeof mine), -EAGAIN); /* an item whose put was cancelled is not there */
        rc = rc < 0 ? weft_scope_end(&s, rc) : weft_scope_end(&s, 0);
        weft_chan_destroy(&q);
    }
    return rc;
}

START_TEST(queue_loses_no_item_when_a_put_or_a_get_is_cancelled)
{
    IN_VIRTUAL_TIME(cancel_at_a_queue, NULL, workers[_i]);
}
END_TEST

static int wait_done(void *q)
{
    return weft_chan_wait_done(q);
}

static int join_a_queue(void *arg)
{
    (void)arg;
    weft_chan *q = make_queue(4, WEFT_ORDER_FIFO);
    struct call c = { 0 };
    weft_scope s;
    SAME(weft_chan_wait_done(q), 0); /* nothing was ever put */
    SAME(weft_chan_done(q), -EINVAL);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 1; i <= 3; i++)
        SAME(put(q, i), 0);
    call_and_settle(&s, &c, wait_done, q);
    for (int i = 1; i <= 3; i++) {
        SAME(get(q), i);
        settle();
        SAME(rc_of(&c), STILL_OUT); /* got is not done */
        SAME(weft_chan_done(q), 0);
    }
    settle();
    SAME(rc_of(&c), 0);
    SAME(weft_chan_done(q), -EINVAL);
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&q);
    return rc;
}

START_TEST(queue_is_joined_when_each_item_was_said_to_be_done)
{
    IN_VIRTUAL_TIME(join_a_queue, NULL, workers[_i]);
}
END_TEST

/* Two items are in it, two puts wait; or a get waits. */
static int shut_a_queue(void *arg)
{
    bool at_once = *(const bool *)arg;
    weft_chan *q = make_queue(2, WEFT_ORDER_FIFO);
    struct item items[3];
    struct call c[3] = { 0 }, joined = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    SAME(put(q, 1), 0);
    SAME(put(q, 2), 0);
    for (int i = 0; i < 2; i++) {
        items[i] = (struct item){ q, i + 3 };
        call_and_settle(&s, &c[i], put_item, &items[i]);
    }
    call_and_settle(&s, &joined, wait_done, q);
    if (at_once)
        weft_chan_close_now(q);
    else
        weft_chan_close(q);
    settle();
    SAME(rc_of(&c[0]), -EPIPE);
    SAME(rc_of(&c[1]), -EPIPE);
    SAME(put(q, 5), -EPIPE);
    if (!at_once) {
        SAME(rc_of(&joined), STILL_OUT);
        for (int i = 1; i <= 2; i++) {
            SAME(get(q), i);
            SAME(weft_chan_done(q), 0);
        }
        settle();
    }
    SAME(rc_of(&joined), 0); /* what was dropped counts as done */
    SAME(get(q), 0);
    SAME(get(q), 0);
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&q);

    q = make_queue(2, WEFT_ORDER_FIFO);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++) {
        items[i] = (struct item){ q, 0 };
        call_and_settle(&s, &c[i], get_item, &items[i]);
    }
    if (at_once)
        weft_chan_close_now(q);
    else
        weft_chan_close(q);
    settle();
    for (int i = 0; i < 3; i++)
        SAME(rc_of(&c[i]), 0);
    rc = weft_scope_end(&s, rc);
    weft_chan_destroy(&q);
    return rc;
}

START_TEST(queue_that_is_shut_down_gives_what_it_has_and_at_once_nothing)
{
    IN_VIRTUAL_TIME(shut_a_queue, &(bool){ false }, workers[_i]);
    IN_VIRTUAL_TIME(shut_a_queue, &(bool){ true }, workers[_i]);
}
END_TEST

/* -- TaskGroup: scopes -- */

/* A child: sleeps, then ends with `result`; hears why it had to leave. */
struct child {
    int64_t sleeps;
    int result;
    int when_told; /* what it returns then */
    atomic_int rc;
    char why[32];
    int64_t ended;
};

static int be_child(void *arg)
{
    struct child *c = arg;
    int rc = weft_sleep(c->sleeps);
    atomic_store(&c->rc, rc);
    if (rc < 0)
        snprintf(c->why, sizeof c->why, "%s", weft_cancel_reason() ? weft_cancel_reason() : "NULL");
    c->ended = weft_now();
    return rc < 0 ? c->when_told : c->result;
}

static struct child child(int ms, int result)
{
    return (struct child){ .sleeps = weft_ms(ms), .result = result, .when_told = -ECANCELED };
}

static void must_hear(int line, const struct child *c, const char *why)
{
    if (strcmp(c->why, why) != 0)
        wrong(line, "it heard \"%s\", not \"%s\"", c->why, why);
}
#define HEARD(c, why) must_hear(__LINE__, c, why)

static int first_error(void *arg)
{
    (void)arg;
    struct child c[4] = { child(10, 0), child(20, -EPROTO), child(30, 0), child(3600000, -EIO) };
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, be_child, &c[i]);
    SAME(weft_scope_end(&s, 0), -EPROTO);
    SAME(weft_now() - began, weft_ms(20));
    SAME(c[0].rc, 0);
    SAME(c[1].rc, 0);
    for (int i = 2; i < 4; i++) {
        SAME(c[i].rc, -ECANCELED);
        HEARD(&c[i], "a sibling failed");
    }
    return weft_check(); /* the parent's task was not told */
}

START_TEST(group_cancels_the_siblings_of_the_first_that_fails)
{
    IN_VIRTUAL_TIME(first_error, NULL, workers[_i]);
}
END_TEST

/* What a child returns after it was told is taken to have come of that, so the first failure is the group's. */
static int errors_after_the_first(void *arg)
{
    (void)arg;
    struct child c[3] = { child(10, -EPROTO), child(20, 0), child(30, 0) };
    c[1].when_told = -EIO;
    c[2].when_told = 0; /* or did not mind */
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++)
        weft_spawn(&s, be_child, &c[i]);
    SAME(weft_scope_end(&s, 0), -EPROTO);
    return 0;
}

START_TEST(group_has_failed_with_the_first_error_whatever_the_others_say_on_leaving)
{
    IN_VIRTUAL_TIME(errors_after_the_first, NULL, workers[_i]);
}
END_TEST

static int fail_with_words(void *arg)
{
    struct child *c = arg;
    int rc = be_child(c);
    return rc < 0 ? weft_fail(rc, "after %d ms", (int)(c->sleeps / 1000000)) : rc;
}

/* asyncio's ExceptionGroup: all failures, in the order in which they were seen. */
static int several_errors(void *arg)
{
    (void)arg;
    static const int order[] = { 1, 3, 0 };
    struct child c[4] = { child(30, -EPROTO), child(10, -EIO), child(40, 5), child(20, -ENOENT) };
    weft_failure f[4];
    weft_task t[4];
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER,
            &(weft_scope_options){ .join = WEFT_JOIN_KEEP_GOING, .failures = f, .failures_max = 4 });
    for (int i = 0; i < 4; i++)
        t[i] = weft_spawn(&s, fail_with_words, &c[i]);
    SAME(weft_scope_end(&s, 0), -EIO);
    SAME(weft_scope_failed(&s), 3);
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "after %d ms", 10 * (i + 1));
        SAME(f[i].code, c[order[i]].result);
        SAME(f[i].task, t[order[i]]);
        MUST(f[i].arg == &c[order[i]]);
        MUST(strcmp(f[i].text, text) == 0);
    }
    MUST(strcmp(weft_error_text(-EIO), "after 10 ms") == 0);
    return 0;
}

START_TEST(group_keeps_the_errors_of_several_children)
{
    IN_VIRTUAL_TIME(several_errors, NULL, workers[_i]);
}
END_TEST

struct group {
    struct child c[2];
    atomic_int end;
};

static int two_children(void *arg)
{
    struct group *g = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, be_child, &g->c[0]);
    weft_spawn(&s, be_child, &g->c[1]);
    int rc = weft_scope_end(&s, 0);
    atomic_store(&g->end, rc);
    return rc;
}

static int cancel_in_the_exit(void *arg)
{
    (void)arg;
    struct group g = { .c = { child(1000, 0), child(2000, 0) } };
    int result = 1;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn_with(&s, two_children, &g, &(weft_spawn_options){ .result = &result });
    settle(); /* it waits in its scope's end */
    SAME(weft_task_cancel(t, "go home"), 0);
    int64_t began = weft_now();
    SAME(weft_scope_end(&s, 0), 0); /* a child that left because it was told is no failure */
    SAME(weft_now(), began);
    SAME(result, -ECANCELED);
    SAME(g.end, -ECANCELED);
    for (int i = 0; i < 2; i++) {
        SAME(g.c[i].rc, -ECANCELED);
        HEARD(&g.c[i], "go home");
    }
    SAME(weft_task_cancel(t, NULL), -ESRCH);
    return 0;
}

START_TEST(group_that_is_cancelled_from_outside_while_it_ends_cancels_its_children)
{
    IN_VIRTUAL_TIME(cancel_in_the_exit, NULL, workers[_i]);
}
END_TEST

/* Children that finish well although they were told: the group was told, but nobody left for it. */
static int cancel_in_the_exit_of_the_stubborn(void *arg)
{
    (void)arg;
    struct group g = { .c = { child(1000, 0), child(2000, 0) } };
    g.c[0].when_told = g.c[1].when_told = 3;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, two_children, &g);
    settle();
    SAME(weft_task_cancel(t, NULL), 0);
    SAME(weft_scope_end(&s, 0), 0);
    SAME(g.end, 0);
    return 0;
}

START_TEST(group_whose_children_all_finish_although_told_has_not_failed)
{
    IN_VIRTUAL_TIME(cancel_in_the_exit_of_the_stubborn, NULL, workers[_i]);
}
END_TEST

static int nested_groups(void *arg)
{
    (void)arg;
    struct group inner = { .c = { child(10, -EPROTO), child(20, 0) } };
    struct child beside = child(30, 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, two_children, &inner);
    weft_spawn(&s, be_child, &beside);
    int rc = weft_sleep(weft_ms(25));
    SAME(rc, -ECANCELED); /* the body, too */
    MUST(weft_cancel_reason() && strcmp(weft_cancel_reason(), "a sibling failed") == 0);
    SAME(weft_scope_end(&s, rc), -EPROTO);
    SAME(inner.end, -EPROTO);
    SAME(inner.c[1].rc, -ECANCELED);
    SAME(beside.rc, -ECANCELED);

    /* A group within a group of the same task: who handles the inner one's failure has no failure outside. */
    struct child c[3] = { child(10, -EPROTO), child(20, 0), child(40, 0) };
    weft_scope outer;
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_spawn(&outer, be_child, &c[2]);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, be_child, &c[0]);
    weft_spawn(&s, be_child, &c[1]);
    SAME(weft_scope_end(&s, 0), -EPROTO);
    SAME(weft_sleep(weft_ms(1)), 0);
    SAME(weft_scope_end(&outer, 0), 0);
    SAME(c[1].rc, -ECANCELED);
    SAME(c[2].rc, 0);
    return 0;
}

START_TEST(group_hands_its_failure_to_the_group_around_it_if_nobody_handles_it)
{
    IN_VIRTUAL_TIME(nested_groups, NULL, workers[_i]);
}
END_TEST

struct spawner {
    weft_scope *s;
    struct child *c;
    int n;
};

static int spawn_late(void *arg)
{
    struct spawner *p = arg;
    int rc = weft_sleep(weft_ms(10)); /* the body has come to its end by then */
    for (int i = 0; i < p->n; i++)
        weft_spawn(p->s, be_child, &p->c[i]);
    return rc;
}

static int spawn_while_it_ends(void *arg)
{
    (void)arg;
    struct child c[3] = { child(10, 0), child(20, 0), child(30, 0) };
    weft_scope s;
    struct spawner p = { .s = &s, .c = c, .n = 3 };
    int64_t began = weft_now();
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, spawn_late, &p);
    SAME(weft_scope_end(&s, 0), 0);
    SAME(weft_now() - began, weft_ms(40));
    for (int i = 0; i < 3; i++)
        SAME(c[i].rc, 0);

    /* asyncio refuses it once the group is shutting down; weft begins them, and they hear of it at their first wait. */
    struct child d[4] = { child(10, 0), child(20, 0), child(30, 0), child(5, -EPROTO) };
    p = (struct spawner){ .s = &s, .c = d, .n = 3 };
    began = weft_now();
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, spawn_late, &p);
    weft_spawn(&s, be_child, &d[3]);
    SAME(weft_scope_end(&s, 0), -EPROTO);
    SAME(weft_now() - began, weft_ms(5));
    for (int i = 0; i < 3; i++) {
        SAME(d[i].rc, -ECANCELED);
        HEARD(&d[i], "a sibling failed");
    }
    return 0;
}

START_TEST(group_that_ends_waits_for_what_its_children_start_in_it)
{
    IN_VIRTUAL_TIME(spawn_while_it_ends, NULL, workers[_i]);
}
END_TEST

static int errors_of_the_body(void *arg)
{
    (void)arg;
    struct child c = child(1000, 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, be_child, &c);
    SAME(weft_scope_end(&s, weft_fail(-EPROTO, "of the body")), -EPROTO);
    SAME(c.rc, -ECANCELED);
    HEARD(&c, "a sibling failed");
    MUST(strcmp(weft_error_text(-EPROTO), "of the body") == 0);

    /* The child was first, and the body left for it with an error of its own. */
    c = child(5, -EIO);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, be_child, &c);
    SAME(weft_sleep(weft_ms(10)), -ECANCELED);
    SAME(weft_scope_end(&s, -EPROTO), -EIO);

    /* The body was first, and the child's error came of it. */
    c = child(1000, 0);
    c.when_told = -EIO;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, be_child, &c);
    settle();
    SAME(weft_scope_end(&s, -EPROTO), -EPROTO);

    /* The body's count is the result, if all went well. */
    c = child(5, 3);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, be_child, &c);
    SAME(weft_scope_end(&s, 42), 42);
    return 0;
}

START_TEST(group_takes_its_body_for_one_of_its_children)
{
    IN_VIRTUAL_TIME(errors_of_the_body, NULL, workers[_i]);
}
END_TEST

static int cancel_children(void *arg)
{
    (void)arg;
    struct child c[2] = { child(1000, 0), child(10, 0) };
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, be_child, &c[0]);
    weft_spawn(&s, be_child, &c[1]);
    weft_task_cancel(t, "alone"); /* perhaps before it has begun: it is begun all the same */
    SAME(weft_scope_end(&s, 0), 0);
    SAME(weft_now() - began, weft_ms(10));
    SAME(c[0].rc, -ECANCELED);
    HEARD(&c[0], "alone");
    SAME(c[1].rc, 0);
    return 0;
}

START_TEST(group_goes_on_when_one_child_was_cancelled)
{
    IN_VIRTUAL_TIME(cancel_children, NULL, workers[_i]);
}
END_TEST

/* -- timeout -- */

static int in_the_same_tick(void *arg)
{
    (void)arg;
    weft_scope outer, inner;
    weft_scope_begin(&outer, weft_ms(10));
    weft_scope_begin(&inner, weft_ms(10));
    SAME(weft_scope_deadline(&outer), weft_scope_deadline(&inner));
    int rc = weft_sleep(weft_ms(100));
    SAME(rc, -ECANCELED);
    weft_ignore(weft_check()); /* one of the two has woken it, and the other may not have struck yet: now it has */
    rc = weft_scope_end(&inner, rc);
    SAME(rc, -ECANCELED); /* of what told it, the furthest out decides */
    MUST(weft_scope_expired(&inner));
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    SAME(weft_scope_end(&outer, rc), -ETIMEDOUT);
    MUST(weft_scope_expired(&outer));

    /* The inner one is earlier, the body leaves later: then both have told it. */
    weft_scope shield;
    weft_scope_begin(&outer, weft_ms(10));
    weft_scope_begin(&inner, weft_ms(5));
    rc = weft_sleep(weft_ms(100));
    SAME(rc, -ECANCELED);
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    SAME(weft_scope_end(&shield, weft_sleep(weft_ms(20))), 0);
    SAME(weft_scope_end(&inner, rc), -ECANCELED);
    SAME(weft_scope_end(&outer, -ECANCELED), -ETIMEDOUT);

    /* And the inner one alone: the outer one still has time. */
    weft_scope_begin(&outer, weft_ms(10));
    weft_scope_begin(&inner, weft_ms(5));
    SAME(weft_scope_end(&inner, weft_sleep(weft_ms(100))), -ETIMEDOUT);
    SAME(weft_sleep(weft_ms(4)), 0);
    SAME(weft_scope_end(&outer, 0), 0);
    MUST(!weft_scope_expired(&outer));
    return 0;
}

START_TEST(timeouts_of_the_same_moment_are_the_outermosts)
{
    IN_VIRTUAL_TIME(in_the_same_tick, NULL, workers[_i]);
}
END_TEST

static int reschedule(void *arg)
{
    (void)arg;
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, weft_ms(10));
    SAME(weft_scope_deadline(&s), began + weft_ms(10));
    weft_scope_set_deadline(&s, began + weft_ms(50)); /* later */
    SAME(weft_sleep(weft_ms(20)), 0);
    weft_scope_set_deadline(&s, began + weft_ms(30)); /* earlier */
    SAME(weft_sleep(weft_ms(100)), -ECANCELED);
    SAME(weft_now(), began + weft_ms(30));
    weft_scope_set_deadline(&s, WEFT_NEVER); /* too late for that */
    SAME(weft_check(), -ECANCELED);
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);
    MUST(weft_scope_expired(&s));

    weft_scope_begin(&s, weft_ms(10));
    weft_scope_set_deadline(&s, WEFT_NEVER);
    SAME(weft_scope_deadline(&s), WEFT_NEVER);
    SAME(weft_sleep(weft_sec(3600)), 0);
    began = weft_now();
    weft_scope_set_deadline(&s, began - 1); /* in the past: at once */
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    SAME(weft_now(), began);
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);

    weft_scope_begin(&s, 0);
    SAME(weft_yield(), -ECANCELED);
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);
    weft_scope_begin(&s, -5);
    SAME(weft_yield(), -ECANCELED);
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);
    return 0;
}

START_TEST(timeout_may_be_moved_until_it_has_struck)
{
    IN_VIRTUAL_TIME(reschedule, NULL, workers[_i]);
}
END_TEST

static int strike_as_the_body_ends(void *arg)
{
    (void)arg;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(10));
    int rc = weft_sleep(weft_ms(10)); /* both at once: either, but only one */
    MUST(rc == 0 || rc == -ECANCELED);
    SAME(weft_scope_end(&s, rc), rc == 0 ? 0 : -ETIMEDOUT);
    SAME(weft_check(), 0); /* and nothing of it is left behind */
    SAME(weft_sleep(weft_ms(1)), 0);

    /* A result that was there is the result, even when late. */
    weft_scope_begin(&s, weft_ms(10));
    SAME(weft_sleep(weft_ms(20)), -ECANCELED);
    SAME(weft_scope_end(&s, 7), 7);
    MUST(weft_scope_expired(&s));
    SAME(weft_sleep(weft_ms(1)), 0);

    /* So is a failure that came before. */
    struct child c = child(5, -EPROTO);
    weft_scope_begin(&s, weft_ms(10));
    weft_spawn(&s, be_child, &c);
    SAME(weft_scope_end(&s, weft_sleep(weft_ms(20))), -EPROTO);
    MUST(!weft_scope_expired(&s));
    return 0;
}

START_TEST(timeout_that_strikes_as_the_body_ends_changes_nothing_of_what_was_done)
{
    IN_VIRTUAL_TIME(strike_as_the_body_ends, NULL, workers[_i]);
}
END_TEST

/* A timeout in a group in a timeout. */
static int sandwich(void *arg)
{
    int inner_ms = *(const int *)arg, outer_ms = 20;
    struct child c = child(1000, 0);
    int64_t began = weft_now();
    weft_scope outer, group, inner;
    weft_scope_begin(&outer, weft_ms(outer_ms));
    weft_scope_begin(&group, WEFT_NEVER);
    weft_spawn(&group, be_child, &c);
    weft_scope_begin(&inner, weft_ms(inner_ms));
    int rc = weft_scope_end(&inner, weft_sleep(weft_ms(500)));
    SAME(rc, inner_ms < outer_ms ? -ETIMEDOUT : -ECANCELED);
    SAME(weft_scope_expired(&inner), inner_ms < outer_ms);
    rc = weft_scope_end(&group, rc);
    /* The inner one's is a failure of the group's body, and goes on outwards as it is; its children are told. */
    SAME(rc, inner_ms < outer_ms ? -ETIMEDOUT : -ECANCELED);
    HEARD(&c, inner_ms < outer_ms ? "a sibling failed" : "deadline");
    rc = weft_scope_end(&outer, rc);
    SAME(rc, -ETIMEDOUT);
    SAME(weft_scope_expired(&outer), inner_ms > outer_ms);
    SAME(weft_now() - began, weft_ms(inner_ms < outer_ms ? inner_ms : outer_ms));
    return 0;
}

START_TEST(timeout_in_a_group_in_a_timeout)
{
    IN_VIRTUAL_TIME(sandwich, &(int){ 10 }, workers[_i]);
    IN_VIRTUAL_TIME(sandwich, &(int){ 40 }, workers[_i]);
}
END_TEST

/* The first cancel is swallowed, by code that knows of none; asyncio's then is gone, weft's comes again. */
static int swallow(void *arg)
{
    struct story *t = arg;
    weft_ignore(weft_sleep(weft_sec(3600)));
    note(t, weft_sleep(weft_ms(1)));
    note(t, weft_yield());
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_scope_end(&s, weft_sleep(weft_ms(1)));
    note(t, rc);
    return rc;
}

static int swallow_cancels(void *arg)
{
    (void)arg;
    struct story t = { 0 };
    struct call c = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    call_and_settle(&s, &c, swallow, &t);
    weft_task_cancel(c.task, NULL);
    SAME(weft_scope_end(&s, 0), 0);
    HAPPENED(&t, -ECANCELED, -ECANCELED, -ECANCELED);
    weft_scope_begin(&s, weft_ms(5));
    int rc = swallow(&t);
    SAME(weft_scope_end(&s, rc), -ETIMEDOUT);
    HAPPENED(&t, -ECANCELED, -ECANCELED, -ECANCELED);
    return 0;
}

START_TEST(cancel_that_was_swallowed_is_not_lost)
{
    IN_VIRTUAL_TIME(swallow_cancels, NULL, workers[_i]);
}
END_TEST

/* -- gather, wait, as_completed -- */

struct square {
    int n, ms, result, rc;
};

static int make_square(void *arg)
{
    struct square *q = arg;
    q->rc = weft_sleep(weft_ms(q->ms));
    if (q->rc < 0)
        return q->rc;
    if (q->n < 0)
        return -EDOM;
    q->result = q->n * q->n;
    return 0;
}

static int gather_squares(void *arg)
{
    (void)arg;
    struct square q[5] = { { 1, 50, 0, 1 }, { 2, 10, 0, 1 }, { 3, 40, 0, 1 }, { 4, 20, 0, 1 }, { 5, 30, 0, 1 } };
    int64_t began = weft_now();
    SAME(weft_gather(q, 5, sizeof q[0], make_square, NULL), 0);
    for (int i = 0; i < 5; i++)
        SAME(q[i].result, (i + 1) * (i + 1));
    SAME(weft_now() - began, weft_ms(50));

    /* The first failure is returned, and cancels the others; asyncio's lets them run on. */
    q[3].n = -4;
    began = weft_now();
    for (int i = 0; i < 5; i++)
        q[i].result = 0;
    SAME(weft_gather(q, 5, sizeof q[0], make_square, NULL), -EDOM);
    SAME(weft_now() - began, weft_ms(20));
    SAME(q[1].result, 4);
    SAME(q[0].rc, -ECANCELED);
    SAME(q[2].rc, -ECANCELED);
    SAME(q[4].rc, -ECANCELED);

    /* With return_exceptions: all run to their ends. */
    SAME(weft_gather(q, 5, sizeof q[0], make_square, &(weft_scope_options){ .join = WEFT_JOIN_KEEP_GOING }), -EDOM);
    for (int i = 0; i < 5; i++)
        SAME(q[i].result, i == 3 ? 0 : (i + 1) * (i + 1));
    return 0;
}

START_TEST(gather_has_its_results_in_the_order_of_its_arguments)
{
    IN_VIRTUAL_TIME(gather_squares, NULL, workers[_i]);
}
END_TEST

static int gather_for_long(void *arg)
{
    struct square *q = arg;
    return weft_gather(q, 3, sizeof q[0], make_square, NULL);
}

static int cancel_a_gather(void *arg)
{
    (void)arg;
    struct square q[3] = { { 1, 1000, 0, 1 }, { 2, 10, 0, 1 }, { 3, 2000, 0, 1 } };
    struct call c = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    call_in(&s, &c, gather_for_long, q);
    SAME(weft_sleep(weft_ms(20)), 0);
    weft_task_cancel(c.task, NULL);
    SAME(weft_scope_end(&s, 0), 0);
    SAME(rc_of(&c), -ECANCELED);
    SAME(q[0].rc, -ECANCELED);
    SAME(q[1].result, 4); /* what was done stays done */
    SAME(q[2].rc, -ECANCELED);

    int64_t began = weft_now();
    weft_scope_begin(&s, weft_ms(30));
    SAME(weft_scope_end(&s, gather_for_long(q)), -ETIMEDOUT);
    SAME(weft_now() - began, weft_ms(30));
    return 0;
}

START_TEST(gather_whose_caller_is_cancelled_cancels_its_children)
{
    IN_VIRTUAL_TIME(cancel_a_gather, NULL, workers[_i]);
}
END_TEST

static int first_completed(void *arg)
{
    (void)arg;
    struct child c[3];
    weft_task t[3];
    weft_scope s;
    int64_t began = weft_now();

    /* FIRST_COMPLETED: whatever came of it. */
    c[0] = child(30, 0), c[1] = child(10, 0), c[2] = child(20, 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_RACE });
    for (int i = 0; i < 3; i++)
        t[i] = weft_spawn(&s, be_child, &c[i]);
    SAME(weft_scope_end(&s, 0), 0);
    SAME(weft_scope_winner(&s), t[1]);
    SAME(weft_now() - began, weft_ms(10));
    HEARD(&c[0], "a sibling won");
    HEARD(&c[2], "a sibling won");

    c[0] = child(30, 0), c[1] = child(10, -EPROTO), c[2] = child(20, 0);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_RACE });
    for (int i = 0; i < 3; i++)
        t[i] = weft_spawn(&s, be_child, &c[i]);
    SAME(weft_scope_end(&s, 0), -EPROTO);
    HEARD(&c[0], "a sibling failed");

    /* The first that succeeds, and the first two. */
    for (int need = 1; need <= 2; need++) {
        began = weft_now();
        c[0] = child(30, 0), c[1] = child(10, -EPROTO), c[2] = child(20, 0);
        weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_ANY, .need = need });
        for (int i = 0; i < 3; i++)
            t[i] = weft_spawn(&s, be_child, &c[i]);
        SAME(weft_scope_end(&s, 0), 0);
        SAME(weft_scope_winner(&s), t[2]);
        SAME(weft_now() - began, weft_ms(10 + 10 * need));
        SAME(c[0].rc, need == 1 ? -ECANCELED : 0);
    }

    /* Too few: the first failure. */
    c[0] = child(30, -EIO), c[1] = child(10, -EPROTO), c[2] = child(20, -ENOENT);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_ANY });
    for (int i = 0; i < 3; i++)
        weft_spawn(&s, be_child, &c[i]);
    SAME(weft_scope_end(&s, 0), -EPROTO);
    SAME(weft_scope_winner(&s), 0);
    return 0;
}

START_TEST(wait_for_the_first_ends_with_the_first)
{
    IN_VIRTUAL_TIME(first_completed, NULL, workers[_i]);
}
END_TEST

static int as_completed(void *arg)
{
    (void)arg;
    static const int order[] = { 1, 3, 4, 2, 0 };
    struct child c[5] = { child(50, 10), child(10, 11), child(40, 12), child(20, 13), child(30, 14) };
    weft_task tasks[5];
    int64_t began = weft_now();
    weft_scope s, t;
    weft_done d = { 0 };
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .collect = true });
    for (int i = 0; i < 5; i++)
        tasks[i] = weft_spawn(&s, be_child, &c[i]);
    for (int i = 0; i < 5; i++) {
        if (i == 2) { /* a timeout of the wait cancels no child, and loses none */
            weft_scope_begin(&t, weft_ms(5));
            SAME(weft_scope_end(&t, weft_scope_next(&s, &d)), -ETIMEDOUT);
            SAME(d.code, 13);
        }
        SAME(weft_scope_next(&s, &d), 1);
        SAME(weft_now() - began, weft_ms(10 * (i + 1)));
        SAME(d.task, tasks[order[i]]);
        SAME(d.code, 10 + order[i]);
        MUST(d.arg == &c[order[i]]);
    }
    SAME(weft_scope_next(&s, &d), 0);
    c[0] = child(5, 15);
    weft_spawn(&s, be_child, &c[0]); /* and there may be more */
    SAME(weft_scope_next(&s, &d), 1);
    SAME(d.code, 15);
    SAME(weft_scope_next(&s, &d), 0);
    return weft_scope_end(&s, 0);
}

START_TEST(as_completed_hands_out_the_children_in_the_order_in_which_they_ended)
{
    IN_VIRTUAL_TIME(as_completed, NULL, workers[_i]);
}
END_TEST

static int collect_for_long(void *arg)
{
    struct child *c = arg;
    weft_done d;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .collect = true });
    for (int i = 0; i < 2; i++)
        weft_spawn(&s, be_child, &c[i]);
    int rc = 0, n = 0;
    while ((rc = weft_scope_next(&s, &d)) > 0)
        n++;
    MUST(n == 1 || n == 2); /* the second child, which is told too, may have ended before this one has noticed */
    SAME(rc, -ECANCELED);
    return weft_scope_end(&s, rc);
}

static int cancel_as_completed(void *arg)
{
    (void)arg;
    struct child c[2] = { child(10, 0), child(1000, 0) };
    struct call call = { 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    call_in(&s, &call, collect_for_long, c);
    SAME(weft_sleep(weft_ms(20)), 0);
    weft_task_cancel(call.task, "enough");
    SAME(weft_scope_end(&s, 0), 0);
    SAME(rc_of(&call), -ECANCELED);
    HEARD(&c[1], "enough");
    return 0;
}

START_TEST(as_completed_whose_caller_is_cancelled_cancels_what_is_left)
{
    IN_VIRTUAL_TIME(cancel_as_completed, NULL, workers[_i]);
}
END_TEST

static int shielded_work(void *arg)
{
    struct child *c = arg;
    weft_scope shield;
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    return weft_scope_end(&shield, be_child(c));
}

/* asyncio.shield: what is inside finishes; the cancel is there afterwards. */
static int shield_from_a_cancel(void *arg)
{
    (void)arg;
    struct child c = child(100, 9);
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, weft_ms(10));
    SAME(shielded_work(&c), 9);
    SAME(weft_now() - began, weft_ms(100));
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);
    return 0;
}

START_TEST(shield_hides_a_cancel_and_takes_it_from_nobody)
{
    IN_VIRTUAL_TIME(shield_from_a_cancel, NULL, workers[_i]);
}
END_TEST

#define LOOP(tc, test) tcase_add_loop_test(tc, test, 0, COUNT(workers))

int main(void)
{
    Suite *s = suite_create("classics_asyncio");
    TCase *tc = add_case(s, "locks");
    LOOP(tc, lock_is_had_in_the_order_of_coming_and_who_leaves_the_line_holds_up_nobody);
    LOOP(tc, lock_is_not_lost_when_who_was_just_woken_is_cancelled);
    LOOP(tc, lock_that_is_free_is_had_by_who_was_told_to_leave);
    LOOP(tc, semaphore_serves_in_the_order_of_coming_and_later_comers_starve_nobody);
    LOOP(tc, semaphore_loses_no_permit_when_who_was_just_woken_is_cancelled);
    LOOP(tc, semaphore_lets_those_in_who_stood_behind_one_that_leaves);
    LOOP(tc, semaphore_lets_in_as_many_as_it_has_permits);
    LOOP(tc, condition_wakes_as_many_as_were_notified_and_the_oldest_first);
    LOOP(tc, condition_has_its_lock_again_also_when_the_wait_was_cancelled);
    LOOP(tc, condition_loses_no_notification_when_who_was_notified_is_cancelled);
    LOOP(tc, event_lets_go_all_who_wait_when_it_is_set_and_holds_who_comes_after_it_was_cleared);
    LOOP(tc, barrier_lets_all_go_when_the_last_has_come_and_begins_anew);
    LOOP(tc, barrier_that_is_broken_sends_all_away_until_it_is_reset);
    LOOP(tc, barrier_waits_for_one_more_when_one_is_cancelled);
    tc = add_case(s, "queues");
    LOOP(tc, queue_gives_its_items_in_its_order);
    LOOP(tc, queue_that_is_full_holds_who_puts_until_something_was_got);
    LOOP(tc, queue_loses_no_item_when_a_put_or_a_get_is_cancelled);
    LOOP(tc, queue_is_joined_when_each_item_was_said_to_be_done);
    LOOP(tc, queue_that_is_shut_down_gives_what_it_has_and_at_once_nothing);
    tc = add_case(s, "groups");
    LOOP(tc, group_cancels_the_siblings_of_the_first_that_fails);
    LOOP(tc, group_has_failed_with_the_first_error_whatever_the_others_say_on_leaving);
    LOOP(tc, group_keeps_the_errors_of_several_children);
    LOOP(tc, group_that_is_cancelled_from_outside_while_it_ends_cancels_its_children);
    LOOP(tc, group_whose_children_all_finish_although_told_has_not_failed);
    LOOP(tc, group_hands_its_failure_to_the_group_around_it_if_nobody_handles_it);
    LOOP(tc, group_that_ends_waits_for_what_its_children_start_in_it);
    LOOP(tc, group_takes_its_body_for_one_of_its_children);
    LOOP(tc, group_goes_on_when_one_child_was_cancelled);
    tc = add_case(s, "timeouts");
    LOOP(tc, timeouts_of_the_same_moment_are_the_outermosts);
    LOOP(tc, timeout_may_be_moved_until_it_has_struck);
    LOOP(tc, timeout_that_strikes_as_the_body_ends_changes_nothing_of_what_was_done);
    LOOP(tc, timeout_in_a_group_in_a_timeout);
    LOOP(tc, cancel_that_was_swallowed_is_not_lost);
    tc = add_case(s, "gathering");
    LOOP(tc, gather_has_its_results_in_the_order_of_its_arguments);
    LOOP(tc, gather_whose_caller_is_cancelled_cancels_its_children);
    LOOP(tc, wait_for_the_first_ends_with_the_first);
    LOOP(tc, as_completed_hands_out_the_children_in_the_order_in_which_they_ended);
    LOOP(tc, as_completed_whose_caller_is_cancelled_cancels_what_is_left);
    LOOP(tc, shield_hides_a_cancel_and_takes_it_from_nobody);
    return run_suite(s);
}
