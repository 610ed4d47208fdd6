/* tests/oslock_test.c - coord/oslock.c, in builds with WEFT_MUTEX_CHECK. */
#include "support.h"

#include <threads.h>

static struct {
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
    mtx_t mtx;
} locks = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rwlock = PTHREAD_RWLOCK_INITIALIZER };

struct told {
    int n;
    weft_task task;
    char name[32], text[1100];
};

static void tell(const weft_report *r, void *arg)
{
    struct told *t = arg;
    if (strcmp(r->what, "os-mutex") != 0)
        return;
    t->n++;
    t->task = r->task;
    snprintf(t->name, sizeof t->name, "%s", r->task_name);
    snprintf(t->text, sizeof t->text, "%s", r->text);
}

static struct told run(weft_fn *fn, void *arg)
{
    struct told t = { 0 };
    ck_assert_int_eq(weft_run(fn, arg, &(weft_options){ .workers = 1, .report = tell, .report_arg = &t }), 0);
    return t;
}

/* What lets go of the thread, and what does not. */
static int sleeps(void)
{
    return weft_sleep(weft_ms(1));
}
static int yields(void)
{
    return weft_yield();
}
static int waits(void)
{
    weft_event e = WEFT_SYNC_INIT;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(1));
    int rc = weft_event_wait(&e);
    return weft_scope_end(&s, rc) == -ETIMEDOUT ? 0 : -EPROTO;
}
static int checks(void)
{
    return weft_check();
}
static int (*const suspends[])(void) = { sleeps, yields, waits };

static int under_mutex(void *arg)
{
    weft_task_set_name("holder");
    pthread_mutex_lock(&locks.mutex);
    int rc = (*(int (*const *)(void))arg)();
    pthread_mutex_unlock(&locks.mutex);
    return rc;
}

static int under_write_lock(void *arg)
{
    pthread_rwlock_wrlock(&locks.rwlock);
    int rc = (*(int (*const *)(void))arg)();
    pthread_rwlock_unlock(&locks.rwlock);
    return rc;
}

static int under_mtx(void *arg)
{
    mtx_lock(&locks.mtx);
    int rc = (*(int (*const *)(void))arg)();
    mtx_unlock(&locks.mtx);
    return rc;
}

static int under_all_it_tries(void *arg)
{
    int rc = pthread_mutex_trylock(&locks.mutex) == 0 && pthread_rwlock_tryrdlock(&locks.rwlock) == 0 &&
            mtx_trylock(&locks.mtx) == thrd_success ? (*(int (*const *)(void))arg)() : -EPROTO;
    pthread_mutex_unlock(&locks.mutex);
    pthread_rwlock_unlock(&locks.rwlock);
    mtx_unlock(&locks.mtx);
    return rc;
}

static int after_it(void *arg)
{
    int rc = -EPROTO;
    pthread_mutex_lock(&locks.mutex);
    if (pthread_mutex_trylock(&locks.mutex) == EBUSY) /* is not held twice */
        rc = weft_check();
    pthread_mutex_unlock(&locks.mutex);
    return rc < 0 ? rc : (*(int (*const *)(void))arg)();
}

START_TEST(a_wait_with_a_mutex_held_is_told)
{
    struct told t = run(under_mutex, (void *)(uintptr_t)&suspends[_i]);
    ck_assert_int_eq(t.n, 1);
    ck_assert_int_ne(t.task, 0);
    ck_assert_str_eq(t.name, "holder");
    ck_assert_msg(strstr(t.text, "holds 1 OS mutex, ") && strstr(t.text, "oslock_test+0x"), "%s", t.text);
}
END_TEST

START_TEST(so_is_one_with_other_kinds)
{
    ck_assert_int_eq(run(under_write_lock, (void *)(uintptr_t)&suspends[_i]).n, 1);
    ck_assert_int_eq(run(under_mtx, (void *)(uintptr_t)&suspends[_i]).n, 1);
    struct told t = run(under_all_it_tries, (void *)(uintptr_t)&suspends[_i]);
    ck_assert_int_eq(t.n, 1);
    ck_assert_msg(strstr(t.text, "holds 3 OS mutexes, ") != NULL, "%s", t.text);
}
END_TEST

START_TEST(none_is_told_that_has_given_them_back)
{
    ck_assert_int_eq(run(after_it, (void *)(uintptr_t)&suspends[_i]).n, 0);
}
END_TEST

static int (*const stays[])(void) = { checks };

START_TEST(nor_one_that_does_not_suspend)
{
    ck_assert_int_eq(run(under_mutex, (void *)(uintptr_t)&stays[0]).n, 0);
}
END_TEST

/* A plain thread may: it stays what it is. */
START_TEST(nor_a_plain_thread)
{
    pthread_mutex_lock(&locks.mutex);
    for (int i = 0; i < COUNT(suspends); i++)
        ck_assert_int_eq(suspends[i](), 0);
    pthread_mutex_unlock(&locks.mutex);
}
END_TEST

static int again(void *arg)
{
    for (int i = 0; i < 3; i++)
        if (under_mutex(arg) < 0)
            return -EPROTO;
    return 0;
}

START_TEST(each_time_is_told_once)
{
    ck_assert_int_eq(run(again, (void *)(uintptr_t)&suspends[_i]).n, 3);
}
END_TEST

int main(void)
{
    mtx_init(&locks.mtx, mtx_plain);
    Suite *s = suite_create("oslock");
    TCase *tc = add_case(s, "oslock");
    tcase_add_loop_test(tc, a_wait_with_a_mutex_held_is_told, 0, COUNT(suspends));
    tcase_add_loop_test(tc, so_is_one_with_other_kinds, 0, COUNT(suspends));
    tcase_add_loop_test(tc, none_is_told_that_has_given_them_back, 0, COUNT(suspends));
    tcase_add_loop_test(tc, each_time_is_told_once, 0, COUNT(suspends));
    tcase_add_test(tc, nor_one_that_does_not_suspend);
    tcase_add_test(tc, nor_a_plain_thread);
    return run_suite(s);
}
