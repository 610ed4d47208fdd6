/* leak_test.c - what only a parked task points to is no leak, and what nobody points to is one: machine/stack.c tells
 * LeakSanitizer where stacks are. Built with AddressSanitizer alone. */
#include "support.h"

#include <sanitizer/lsan_interface.h>

struct held {
    atomic_int parked;
    int leaks;
};

static int hold_memory(void *arg)
{
    struct held *h = arg;
    void *volatile memory = malloc(100);
    atomic_fetch_add(&h->parked, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    free(memory);
    return rc;
}

static int look(void *arg)
{
    struct held *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, hold_memory, h);
    bool all = wait_for(&h->parked, 10);
    for (int i = 0; i < 3; i++)
        weft_ignore(weft_yield()); /* they have switched away */
    h->leaks = __lsan_do_recoverable_leak_check();
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

static void die_of_leak(void *arg)
{
    struct held h = { 0 };
    int rc = weft_run(look, &h, ON(1));
    (void)arg;
    _exit(rc != 0 ? 3 : h.leaks != 0);
}

START_TEST(what_a_parked_task_holds_is_no_leak)
{
    struct death d = die(die_of_leak, NULL);
    ck_assert_msg(d.signal == 0 && d.status == 0, "status %d: %s", d.status, d.text);
}
END_TEST

/* On a thread of its own, where nothing of it is left. */
static void *leak(void *arg)
{
    void *volatile memory = malloc(1234);
    memory = NULL;
    (void)memory;
    return arg;
}

static int leak_one(void *arg)
{
    int *leaks = arg;
    pthread_t thread;
    pthread_create(&thread, NULL, leak, NULL);
    pthread_join(thread, NULL);
    *leaks = __lsan_do_recoverable_leak_check();
    return 0;
}

static void die_leaking(void *arg)
{
    int leaks = 0;
    int rc = weft_run(leak_one, &leaks, ON(1));
    (void)arg;
    _exit(rc != 0 ? 3 : leaks != 0);
}

START_TEST(what_nobody_holds_is_one)
{
    struct death d = die(die_leaking, NULL);
    ck_assert_msg(d.signal == 0 && d.status == 1 && strstr(d.text, "1234 byte") != NULL, "status %d: %s", d.status, d.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("leak");
    TCase *tc = add_case(s, "leaks");
    tcase_add_test(tc, what_a_parked_task_holds_is_no_leak);
    tcase_add_test(tc, what_nobody_holds_is_one);
    return run_suite(s);
}
