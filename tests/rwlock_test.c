/* tests/rwlock_test.c - sync/rwlock.c: who holds it together, who comes next, and who is let in when somebody leaves. */
#include "sync_support.h"

static int read_it(void *l)
{
    return weft_rwlock_read(l);
}

static int write_it(void *l)
{
    return weft_rwlock_write(l);
}

/* -- without waiting -- */

START_TEST(readers_share_it_and_a_writer_has_it_alone)
{
    weft_rwlock l = WEFT_SYNC_INIT;
    ck_assert_int_eq(weft_rwlock_read(&l), 0);
    ck_assert_int_eq(weft_rwlock_try_read(&l), 0);
    ck_assert_int_eq(weft_rwlock_try_write(&l), -EAGAIN);
    weft_rwlock_unlock(&l);
    ck_assert_int_eq(weft_rwlock_try_write(&l), -EAGAIN);
    weft_rwlock_unlock(&l);
    ck_assert_int_eq(weft_rwlock_try_write(&l), 0);
    ck_assert_int_eq(weft_rwlock_try_write(&l), -EAGAIN);
    ck_assert_int_eq(weft_rwlock_try_read(&l), -EAGAIN);
    weft_rwlock_unlock(&l);
    ck_assert_int_eq(weft_rwlock_write(&l), 0);
    weft_rwlock_unlock(&l);
    ck_assert_int_eq(weft_rwlock_read(&l), 0);
    weft_rwlock_unlock(&l);
}
END_TEST

static void unlock_new(void *arg)
{
    weft_rwlock l = WEFT_SYNC_INIT;
    (void)arg;
    weft_rwlock_unlock(&l);
}

static void unlock_twice(void *arg)
{
    weft_rwlock l = WEFT_SYNC_INIT;
    weft_ignore(arg ? weft_rwlock_read(&l) : weft_rwlock_write(&l));
    weft_rwlock_unlock(&l);
    weft_rwlock_unlock(&l);
}

START_TEST(an_unlock_of_what_nobody_holds_aborts)
{
    struct death d[] = { die(unlock_new, NULL), die(unlock_twice, NULL), die(unlock_twice, &d) };
    for (int i = 0; i < COUNT(d); i++) {
        ck_assert_int_eq(d[i].signal, SIGABRT);
        ck_assert_ptr_nonnull(strstr(d[i].text, "somebody_holds_the_lock"));
    }
}
END_TEST

/* -- the queue -- */

static int order(void *arg)
{
    weft_rwlock *l = arg;
    weft_scope s;
    struct caller w0, r1, r2, w3, r4, w5;
    weft_scope_begin(&s, LIMIT);
    MUST(weft_rwlock_read(l) == 0);
    MUST(put_to_sleep(&s, &w0, write_it, l));
    MUST(put_to_sleep(&s, &r1, read_it, l)); /* not past the writer */
    MUST(put_to_sleep(&s, &r2, read_it, l));
    MUST(put_to_sleep(&s, &w3, write_it, l));
    MUST(put_to_sleep(&s, &r4, read_it, l));
    MUST(put_to_sleep(&s, &w5, write_it, l));
    MUST(weft_rwlock_try_read(l) == -EAGAIN);
    weft_rwlock_unlock(l);
    MUST(result(&w0) == 0);
    MUST(still_waits(&r1) && still_waits(&r2) && still_waits(&w3));
    weft_rwlock_unlock(l);
    MUST(result(&r1) == 0 && result(&r2) == 0); /* together */
    MUST(still_waits(&w3) && still_waits(&r4));
    weft_rwlock_unlock(l);
    MUST(still_waits(&w3));
    weft_rwlock_unlock(l);
    MUST(result(&w3) == 0);
    MUST(still_waits(&r4));
    weft_rwlock_unlock(l);
    MUST(result(&r4) == 0);
    MUST(still_waits(&w5));
    weft_rwlock_unlock(l);
    MUST(result(&w5) == 0);
    weft_rwlock_unlock(l);
    MUST(weft_rwlock_try_write(l) == 0);
    weft_rwlock_unlock(l);
    return weft_scope_end(&s, 0);
}

START_TEST(it_is_had_in_the_order_of_coming_and_by_adjacent_readers_together)
{
    weft_rwlock l = WEFT_SYNC_INIT;
    RUN(order, &l, workers[_i]);
}
END_TEST

static int writer_leaves(void *arg)
{
    weft_rwlock *l = arg;
    weft_scope s;
    struct caller w1, r2, r3, w4, r5;
    weft_scope_begin(&s, LIMIT);
    MUST(weft_rwlock_read(l) == 0);
    MUST(put_to_sleep(&s, &w1, write_it, l));
    MUST(put_to_sleep(&s, &r2, read_it, l));
    MUST(put_to_sleep(&s, &r3, read_it, l));
    MUST(put_to_sleep(&s, &w4, write_it, l));
    MUST(put_to_sleep(&s, &r5, read_it, l));
    MUST(weft_task_cancel(w1.task, NULL) == 0);
    MUST(result(&w1) == -ECANCELED);
    MUST(result(&r2) == 0 && result(&r3) == 0);
    MUST(still_waits(&w4) && still_waits(&r5));
    MUST(weft_task_cancel(r5.task, NULL) == 0); /* the last, and in nobody's way */
    MUST(result(&r5) == -ECANCELED);
    MUST(still_waits(&w4));
    for (int i = 0; i < 3; i++)
        weft_rwlock_unlock(l);
    MUST(result(&w4) == 0);
    weft_rwlock_unlock(l);
    MUST(weft_rwlock_try_write(l) == 0);
    weft_rwlock_unlock(l);
    return weft_scope_end(&s, 0);
}

START_TEST(readers_behind_a_writer_that_is_told_to_leave_are_let_in)
{
    weft_rwlock l = WEFT_SYNC_INIT;
    RUN(writer_leaves, &l, workers[_i]);
}
END_TEST

/* -- told to leave -- */

static int told(void *arg)
{
    weft_rwlock *l = arg;
    weft_scope s;
    weft_scope_begin(&s, 0);
    MUST(weft_rwlock_write(l) == 0); /* for what is to be tidied up under it */
    MUST(weft_rwlock_read(l) == -ECANCELED);
    MUST(weft_rwlock_write(l) == -ECANCELED);
    weft_rwlock_unlock(l);
    MUST(weft_rwlock_read(l) == 0);
    weft_rwlock_unlock(l);
    MUST(weft_scope_end(&s, -ECANCELED) == -ETIMEDOUT);
    return 0;
}

START_TEST(who_was_told_to_leave_has_it_if_it_is_free)
{
    weft_rwlock l = WEFT_SYNC_INIT;
    RUN(told, &l, 1);
}
END_TEST

START_TEST(a_plain_thread_waits_until_its_deadline)
{
    weft_rwlock l = WEFT_SYNC_INIT;
    weft_scope s;
    ck_assert_int_eq(weft_rwlock_read(&l), 0);
    weft_scope_begin(&s, weft_ms(3));
    ck_assert_int_eq(weft_scope_end(&s, weft_rwlock_write(&l)), -ETIMEDOUT);
    ck_assert_int_eq(weft_rwlock_try_read(&l), 0); /* nobody is in the way any more */
    weft_rwlock_unlock(&l);
    weft_rwlock_unlock(&l);
    ck_assert_int_eq(weft_rwlock_try_write(&l), 0);
    weft_rwlock_unlock(&l);
}
END_TEST

/* -- a crowd -- */

struct ledger {
    weft_rwlock lock;
    long a, b; /* plain */
    atomic_int readers;
};

static int keep_books(void *arg)
{
    struct ledger *l = arg;
    for (int i = 0; i < SCALED(500, 200, 100); i++) {
        if (i % 4 == 0) {
            if (weft_rwlock_write(&l->lock) < 0)
                return -EPROTO;
            MUST(atomic_load(&l->readers) == 0);
            l->a++;
            if (i % 16 == 0)
                weft_ignore(weft_yield());
            l->b++;
        } else {
            if (weft_rwlock_read(&l->lock) < 0)
                return -EPROTO;
            atomic_fetch_add(&l->readers, 1);
            MUST(l->a == l->b);
            if (i % 16 == 1)
                weft_ignore(weft_yield());
            atomic_fetch_sub(&l->readers, 1);
        }
        weft_rwlock_unlock(&l->lock);
    }
    return 0;
}

START_TEST(tasks_of_two_runtimes_and_plain_threads_exclude_each_other)
{
    struct ledger l = { 0 };
    run_crowd(keep_books, &l, workers[_i]);
    ck_assert_int_eq(l.a, CROWD * SCALED(500, 200, 100) / 4);
    ck_assert_int_eq(l.a, l.b);
    ck_assert_int_eq(weft_rwlock_try_write(&l.lock), 0);
}
END_TEST

/* -- gone -- */

static int unlock_it(void *l)
{
    weft_rwlock_unlock(l);
    return 0;
}

static int write_and_unlock(void *l)
{
    int rc = weft_rwlock_write(l);
    if (rc == 0)
        weft_rwlock_unlock(l);
    return rc;
}

START_TEST(who_had_it_last_may_free_it_at_once)
{
    struct gone g = { sizeof(weft_rwlock), _i % 2 ? read_it : write_it, unlock_it, write_and_unlock, ROUNDS_GONE };
    RUN(gone_at_once, &g, workers[_i / 2]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rwlock");
    TCase *tc = add_case(s, "rwlock");
    tcase_add_test(tc, readers_share_it_and_a_writer_has_it_alone);
    if (forking())
        tcase_add_test(tc, an_unlock_of_what_nobody_holds_aborts);
    tcase_add_loop_test(tc, it_is_had_in_the_order_of_coming_and_by_adjacent_readers_together, 0, COUNT(workers));
    tcase_add_loop_test(tc, readers_behind_a_writer_that_is_told_to_leave_are_let_in, 0, COUNT(workers));
    tcase_add_test(tc, who_was_told_to_leave_has_it_if_it_is_free);
    tcase_add_test(tc, a_plain_thread_waits_until_its_deadline);
    tcase_add_loop_test(tc, tasks_of_two_runtimes_and_plain_threads_exclude_each_other, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_had_it_last_may_free_it_at_once, 0, 2 * COUNT(workers));
    return run_suite(s);
}
