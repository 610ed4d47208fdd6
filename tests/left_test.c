/* left_test.c - report/left.c: what is still there when a runtime ends is told, each thing with the task that left it. */
#include "support.h"

enum { SAID = 16 };

/* What was reported as left open, in order. The function is called by one thread at a time: who ends the runtime. */
struct left {
    int n, others;
    struct one {
        weft_task task;
        const void *site;
        int code;
        char name[40], text[240];
    } all[SAID];
    atomic_int *when_called; /* set once calls that have not returned were told of */
    weft_task opener;
    int fds[3];
    weft_process *process;
};

static void keep(const weft_report *r, void *arg)
{
    struct left *l = arg;
    if (strcmp(r->what, "left-open") != 0) {
        l->others++;
        return;
    }
    if (l->n < SAID) {
        struct one *one = &l->all[l->n];
        one->task = r->task;
        one->site = r->site;
        one->code = r->code;
        snprintf(one->name, sizeof one->name, "%s", r->task_name);
        snprintf(one->text, sizeof one->text, "%s", r->text);
    }
    l->n++;
    if (l->when_called && strstr(r->text, "calls that"))
        atomic_store(l->when_called, 1);
}

static int run_and_keep(struct left *l, weft_fn *fn, bool asked)
{
    const weft_options o = { .workers = 2, .report = keep, .report_arg = l, .report_left_open = asked };
    return weft_run(fn, l, &o);
}

/* The one whose text has this; NULL. */
static const struct one *that_says(const struct left *l, const char *text)
{
    for (int i = 0; i < l->n && i < SAID; i++)
        if (strstr(l->all[i].text, text))
            return &l->all[i];
    return NULL;
}

static const char *says(const char *format, int number)
{
    static char text[80];
    snprintf(text, sizeof text, format, number);
    return text;
}

static NOINLINE weft_task spawn_here(weft_scope *s, weft_fn *fn, struct left *l)
{
    weft_task t = weft_spawn_with(s, fn, l, &(weft_spawn_options){ .name = "careless" });
    __asm__ volatile("" : "+r"(t)); /* no tail call */
    return t;
}

static bool is_here(const void *site)
{
    uintptr_t from = (uintptr_t)spawn_here, at = (uintptr_t)site;
    return at > from && at < from + 2000;
}

/* -- what tasks have opened -- */

static int open_all(void *arg)
{
    static const char *const cat[] = { "cat", NULL };
    struct left *l = arg;
    l->opener = weft_task_self();
    EXPECT((l->fds[0] = weft_listen("127.0.0.1:0", NULL)) >= 0);
    EXPECT(weft_pair(l->fds + 1) == 0);
    EXPECT(weft_process_open(&l->process, cat, &(weft_process_options){ .in = WEFT_STDIO_PIPE }) == 0);
    return 0;
}

static void close_all(struct left *l)
{
    for (int i = 0; i < COUNT(l->fds); i++)
        weft_ignore(weft_close(l->fds[i]));
    weft_process_close(&l->process);
}

static int leave_all(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    spawn_here(&s, open_all, arg);
    return weft_scope_end(&s, 0);
}

static int close_what_was_opened(void *arg)
{
    int rc = leave_all(arg);
    close_all(arg);
    return rc;
}

/* A-084, B-102 */
START_TEST(what_a_task_has_opened_and_nobody_closed_is_told_with_that_task)
{
    struct left l = { 0 };
    int rc = run_and_keep(&l, leave_all, true);
    int pid = weft_process_pid(l.process);
    close_all(&l);
    AS_EXPECTED(rc);
    ck_assert_int_eq(l.n, 5);
    ck_assert_int_eq(l.others, 0);
    ck_assert_ptr_nonnull(that_says(&l, says("descriptor %d, a listener, opened in ", l.fds[0])));
    for (int i = 1; i < COUNT(l.fds); i++)
        ck_assert_ptr_nonnull(that_says(&l, says("descriptor %d, opened in ", l.fds[i])));
    ck_assert_ptr_nonnull(that_says(&l, says("process %d, opened in ", pid)));
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(l.all[i].task, l.opener);
        ck_assert_ptr_nonnull(strstr(l.all[i].text, "opened in left_test+0x"));
        ck_assert_ptr_nonnull(strstr(l.all[i].text, ", was not closed"));
        ck_assert(is_here(l.all[i].site));
    }
    ck_assert_int_eq(l.all[4].task, 0);
    ck_assert_int_eq(l.all[4].code, 4);
}
END_TEST

START_TEST(what_was_closed_is_not_told)
{
    struct left l = { 0 };
    AS_EXPECTED(run_and_keep(&l, close_what_was_opened, true));
    ck_assert_int_eq(l.n + l.others, 0);
}
END_TEST

START_TEST(nothing_is_told_unless_it_was_asked_for)
{
    struct left l = { 0 };
    int rc = run_and_keep(&l, leave_all, false);
    close_all(&l);
    AS_EXPECTED(rc);
    ck_assert_int_eq(l.n + l.others, 0);
}
END_TEST

static int do_nothing(void *arg)
{
    (void)arg;
    return 0;
}

START_TEST(what_others_have_opened_is_theirs)
{
    struct left mine = { 0 }, other = { 0 };
    int before = weft_listen("127.0.0.1:0", NULL); /* a plain thread's */
    int rc = run_and_keep(&other, leave_all, false);
    int again = run_and_keep(&mine, do_nothing, true);
    close_all(&other);
    weft_ignore(weft_close(before));
    AS_EXPECTED(rc);
    ck_assert_int_ge(before, 0);
    ck_assert_int_eq(again, 0);
    ck_assert_int_eq(mine.n, 0);
}
END_TEST

/* The numbers are used again, by whoever is another opener. */
static int open_again(void *arg)
{
    struct left *l = arg;
    for (int i = 0; i < 3; i++) {
        EXPECT(open_all(l) == 0);
        close_all(l);
    }
    EXPECT((l->fds[0] = weft_listen("127.0.0.1:0", NULL)) >= 0);
    return 0;
}

START_TEST(a_number_that_is_used_again_is_told_once)
{
    struct left l = { 0 };
    int rc = run_and_keep(&l, open_again, true);
    weft_ignore(weft_close(l.fds[0]));
    AS_EXPECTED(rc);
    ck_assert_int_eq(l.n, 2);
    ck_assert_ptr_nonnull(that_says(&l, says("descriptor %d, a listener", l.fds[0])));
    ck_assert_int_eq(l.all[1].code, 1);
}
END_TEST

/* -- tasks, and calls -- */

struct outside {
    struct left left;
    weft_runtime *rt;
    weft_task task;
    atomic_int asleep;
    int rc;
};

static int sleep_on(void *arg)
{
    struct outside *o = arg;
    atomic_store(&o->asleep, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static void *hold_a_scope(void *arg)
{
    struct outside *o = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = o->rt });
    o->task = spawn_here(&s, sleep_on, (struct left *)arg);
    o->rc = weft_scope_end(&s, 0);
    return NULL;
}

START_TEST(a_task_that_is_there_when_its_runtime_is_to_end_is_told_by_name)
{
    struct outside o = { .rc = 1 };
    const weft_options on = { .workers = 2, .report = keep, .report_arg = &o.left, .report_left_open = true };
    ck_assert_int_eq(weft_runtime_create(&o.rt, &on), 0);
    pthread_t thread = thread_start(hold_a_scope, &o);
    bool asleep = wait_for(&o.asleep, 1);
    weft_runtime_destroy(&o.rt);
    pthread_join(thread, NULL);
    ck_assert(asleep);
    ck_assert_int_eq(o.rc, 0); /* told to leave, and it left */
    ck_assert_int_eq(o.left.n, 2);
    ck_assert_int_eq(o.left.others, 0);
    ck_assert_int_eq(o.left.all[0].task, o.task);
    ck_assert_str_eq(o.left.all[0].name, "careless");
    ck_assert(is_here(o.left.all[0].site));
    ck_assert_int_eq(o.left.all[1].code, 1);
}
END_TEST


static atomic_int begun, over;

static int block(void *arg)
{
    (void)arg;
    atomic_store(&begun, 1);
    return wait_for(&over, 1) ? 0 : -ETIME;
}

static int call_and_leave(void *arg)
{
    int nothing = 0;
    (void)arg;
    return weft_blocking_copy(block, &nothing, sizeof nothing, NULL);
}

static int leave_a_call(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    spawn_here(&s, call_and_leave, arg);
    bool there = wait_for(&begun, 1);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

START_TEST(a_call_that_nobody_waits_for_is_told)
{
    struct left l = { .when_called = &over };
    atomic_store(&begun, 0);
    atomic_store(&over, 0);
    int rc = run_and_keep(&l, leave_a_call, true);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&over), 1);
    ck_assert_ptr_nonnull(that_says(&l, "have not returned: 1, on "));
    ck_assert_int_eq(l.n, 2);
}
END_TEST

/* -- an exit status -- */

static void count_them(const weft_report *r, void *arg)
{
    if (strcmp(r->what, "left-open") == 0 && r->task == 0 && r->code > 0)
        *(int *)arg = r->code;
}

static int open_in_main(void *arg)
{
    int fds[2];
    (void)arg;
    return weft_listen("127.0.0.1:0", NULL) < 0 || weft_pair(fds) < 0 ? -EPROTO : 0;
}

static void exit_with_their_number(void *arg)
{
    int left = 0;
    const weft_options o = { .workers = 1, .report = count_them, .report_arg = &left, .report_left_open = true };
    int rc = weft_run(open_in_main, arg, &o);
    _exit(rc != 0 ? 100 : left);
}

static void say_it_by_default(void *arg)
{
    int rc = weft_run(open_in_main, arg, &(weft_options){ .workers = 1, .report_left_open = true });
    _exit(rc != 0 ? 100 : 7);
}

START_TEST(their_number_may_be_the_exit_status)
{
    struct death d = die(exit_with_their_number, NULL);
    ck_assert_msg(d.signal == 0 && d.status == 3, "status %d: %s", d.status, d.text);
    d = die(say_it_by_default, NULL);
    ck_assert_msg(d.signal == 0 && d.status == 7, "status %d: %s", d.status, d.text);
    ck_assert_msg(strstr(d.text, ", a listener, opened in ") != NULL, "%s", d.text);
    ck_assert_msg(strstr(d.text, "weft: left-open: task 0: in all 3 were left open (3)\n") != NULL, "%s", d.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("left");
    TCase *tc = add_case(s, "opened");
    tcase_add_test(tc, what_a_task_has_opened_and_nobody_closed_is_told_with_that_task);
    tcase_add_test(tc, what_was_closed_is_not_told);
    tcase_add_test(tc, nothing_is_told_unless_it_was_asked_for);
    tcase_add_test(tc, what_others_have_opened_is_theirs);
    tcase_add_test(tc, a_number_that_is_used_again_is_told_once);
    tc = add_case(s, "running");
    tcase_add_test(tc, a_task_that_is_there_when_its_runtime_is_to_end_is_told_by_name);
    tcase_add_test(tc, a_call_that_nobody_waits_for_is_told);
    if (forking()) {
        tc = add_case(s, "status");
        tcase_add_test(tc, their_number_may_be_the_exit_status);
    }
    return run_suite(s);
}
