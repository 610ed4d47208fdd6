/* canceller_test.c - who told a task to leave, and why: weft_cancelled_by and the lines of weft_dump, B-025. */
#include "support.h"

static const int worker_counts[] = { 1, 2, 8 };

/* What one who was told found. */
struct found {
    const atomic_bool *after; /* it looks when this is true; NULL: at once */
    bool told;
    weft_canceller by;
    char reason[32];
};

static void look(struct found *f)
{
    memset(&f->by, 0x55, sizeof f->by);
    f->told = weft_cancelled_by(&f->by);
    snprintf(f->reason, sizeof f->reason, "%s", f->by.reason ? f->by.reason : "(none)");
}

static int looks_when_told(void *arg)
{
    const struct found *f = arg;
    int rc = weft_sleep(WEFT_NEVER);
    while (f->after && !atomic_load(f->after))
        usleep(100);
    look(arg);
    return rc;
}

/* Calls of their own, so that the sites lie in functions that are nothing else. */
NOINLINE static void cancel_scope(weft_scope *s, const char *reason)
{
    weft_scope_cancel(s, reason);
    __asm__ volatile(""); /* no tail call */
}

NOINLINE static void cancel_scope_hard(weft_scope *s, const char *reason)
{
    weft_scope_cancel_hard(s, 0, reason);
    __asm__ volatile(""); /* no tail call */
}

NOINLINE static int cancel_task(weft_task t, const char *reason)
{
    int rc = weft_task_cancel(t, reason);
    __asm__ volatile(""); /* no tail call */
    return rc;
}

static bool lies_in(const void *site, uintptr_t fn)
{
    return (uintptr_t)site > fn && (uintptr_t)site - fn < 256;
}

/* -- by a call -- */

struct calls {
    struct found own, child, of_hard, of_task, again, none;
    weft_task self;
    int rc;
};

static int cancels_in_all_ways(void *arg)
{
    struct calls *c = arg;
    weft_scope s;
    c->self = weft_task_self();
    look(&c->none);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, looks_when_told, &c->child);
    weft_ignore(weft_yield());
    cancel_scope(&s, "overload");
    look(&c->own);
    weft_ignore(weft_scope_end(&s, 0));

    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, looks_when_told, &c->of_hard);
    cancel_scope_hard(&s, "at once");
    weft_ignore(weft_scope_end(&s, 0));

    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, looks_when_told, &c->of_task);
    c->rc = cancel_task(t, "enough");
    weft_ignore(weft_scope_end(&s, 0));

    /* the first one who says why */
    atomic_bool said = false;
    c->again.after = &said;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, looks_when_told, &c->again);
    weft_scope_cancel_hard(&s, WEFT_NEVER, NULL);
    cancel_scope(&s, "said later");
    weft_scope_cancel(&s, "said too late");
    atomic_store(&said, true);
    weft_ignore(weft_scope_end(&s, 0));
    return 0;
}

START_TEST(a_call_is_known_by_its_task_and_its_place)
{
    struct calls c = { .rc = 1 };
    ck_assert_int_eq(weft_run(cancels_in_all_ways, &c, ON(worker_counts[_i])), 0);
    const struct found *scope[] = { &c.own, &c.child };
    for (int i = 0; i < COUNT(scope); i++) {
        ck_assert(scope[i]->told);
        ck_assert_str_eq(scope[i]->reason, "overload");
        ck_assert_int_eq(scope[i]->by.code, -ECANCELED);
        ck_assert_int_eq(scope[i]->by.task, c.self);
        ck_assert(lies_in(scope[i]->by.site, (uintptr_t)cancel_scope));
    }
    ck_assert(c.of_hard.told);
    ck_assert_str_eq(c.of_hard.reason, "at once");
    ck_assert_int_eq(c.of_hard.by.task, c.self);
    ck_assert(lies_in(c.of_hard.by.site, (uintptr_t)cancel_scope_hard));
    ck_assert_int_eq(c.rc, 0);
    ck_assert_str_eq(c.of_task.reason, "enough");
    ck_assert_int_eq(c.of_task.by.code, -ECANCELED);
    ck_assert_int_eq(c.of_task.by.task, c.self);
    ck_assert(lies_in(c.of_task.by.site, (uintptr_t)cancel_task));
    ck_assert_str_eq(c.again.reason, "said later");
    ck_assert_int_eq(c.again.by.task, c.self);
    ck_assert(lies_in(c.again.by.site, (uintptr_t)cancel_scope));

    static const weft_canceller nobody;
    ck_assert(!c.none.told);
    ck_assert_mem_eq(&c.none.by, &nobody, sizeof nobody);
}
END_TEST

/* -- by what happened -- */

struct events {
    struct found deadline, failure, race, after_one_that_failed;
    weft_task failed, winner;
};

static int fails(void *arg)
{
    weft_ignore(weft_yield());
    *(weft_task *)arg = weft_task_self();
    return -EPROTO;
}

static int succeeds(void *arg)
{
    *(weft_task *)arg = weft_task_self();
    return 0;
}

NOINLINE static void spawn_one_that_fails(weft_scope *s, weft_task *id)
{
    weft_spawn(s, fails, id);
    __asm__ volatile(""); /* no tail call */
}

static int meets_events(void *arg)
{
    struct events *e = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(1));
    weft_spawn(&s, looks_when_told, &e->deadline);
    weft_ignore(weft_scope_end(&s, 0));

    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, looks_when_told, &e->failure);
    spawn_one_that_fails(&s, &e->failed);
    weft_ignore(weft_scope_end(&s, 0));

    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .join = WEFT_JOIN_ANY });
    weft_spawn(&s, looks_when_told, &e->race);
    weft_spawn(&s, succeeds, &e->winner);
    weft_ignore(weft_scope_end(&s, 0));
    return 0;
}

START_TEST(a_deadline_a_failure_and_a_win_are_known)
{
    struct events e = { .failed = 0 };
    ck_assert_int_eq(weft_run(meets_events, &e, ON(worker_counts[_i])), 0);
    ck_assert_str_eq(e.deadline.reason, "deadline");
    ck_assert_int_eq(e.deadline.by.code, -ETIMEDOUT);
    ck_assert_int_eq(e.deadline.by.task, 0);
    ck_assert_ptr_null(e.deadline.by.site);
    ck_assert_str_eq(e.failure.reason, "a sibling failed");
    ck_assert_int_eq(e.failure.by.code, -EPROTO);
    ck_assert_int_ne(e.failed, 0);
    ck_assert_int_eq(e.failure.by.task, e.failed);
    ck_assert(lies_in(e.failure.by.site, (uintptr_t)spawn_one_that_fails));
    ck_assert_str_eq(e.race.reason, "a sibling won");
    ck_assert_int_eq(e.race.by.code, -ECANCELED);
    ck_assert_int_ne(e.winner, 0);
    ck_assert_int_eq(e.race.by.task, e.winner);
}
END_TEST

/* -- by a plain thread, by the runtime, from further out -- */

struct others {
    atomic_int asleep;
    atomic_llong id;
    weft_runtime *rt;
    struct found by_thread, by_end, below;
    weft_task outer;
    bool null;
};

static int sleeps_and_looks(void *arg)
{
    struct others *o = arg;
    atomic_store(&o->id, weft_task_self());
    atomic_store(&o->asleep, 1);
    int rc = weft_sleep(WEFT_NEVER);
    look(&o->by_thread);
    o->null = weft_cancelled_by(NULL);
    return rc;
}

static void *cancels_it(void *arg)
{
    struct others *o = arg;
    wait_for(&o->asleep, 1);
    if (cancel_task(atomic_load(&o->id), "from a thread") != 0)
        abort();
    return NULL;
}

static int two_levels_down(void *arg)
{
    WEFT_SCOPE(s, WEFT_NEVER);
    weft_spawn(&s, looks_when_told, arg);
    return weft_scope_end(&s, 0);
}

static int waits_for_a_thread(void *arg)
{
    struct others *o = arg;
    pthread_t th;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sleeps_and_looks, o);
    ck_assert_int_eq(pthread_create(&th, NULL, cancels_it, o), 0);
    weft_ignore(weft_scope_end(&s, 0));
    pthread_join(th, NULL);
    o->outer = weft_task_self();
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, two_levels_down, &o->below);
    weft_ignore(weft_yield());
    cancel_scope(&s, "all of it");
    weft_ignore(weft_scope_end(&s, 0));
    return 0;
}

static int is_there_at_the_end(void *arg)
{
    struct others *o = arg;
    atomic_store(&o->asleep, 2);
    int rc = weft_sleep(WEFT_NEVER);
    look(&o->by_end);
    return rc;
}

static void *shuts_down(void *arg)
{
    struct others *o = arg;
    wait_for(&o->asleep, 2);
    weft_ignore(weft_runtime_shutdown(o->rt, weft_ms(5000)));
    return NULL;
}

START_TEST(threads_runtimes_and_scopes_further_out_are_known)
{
    struct others o = { .null = true };
    pthread_t th;
    ck_assert_int_eq(weft_runtime_create(&o.rt, ON(worker_counts[_i])), 0);
    ck_assert_int_eq(weft_runtime_run(o.rt, waits_for_a_thread, &o), 0);
    ck_assert_str_eq(o.by_thread.reason, "from a thread");
    ck_assert_int_eq(o.by_thread.by.task, 0);
    ck_assert(lies_in(o.by_thread.by.site, (uintptr_t)cancel_task));
    ck_assert(!o.null);
    ck_assert_str_eq(o.below.reason, "all of it");
    ck_assert_int_eq(o.below.by.task, o.outer);
    ck_assert(lies_in(o.below.by.site, (uintptr_t)cancel_scope));

    ck_assert_int_eq(pthread_create(&th, NULL, shuts_down, &o), 0);
    ck_assert_int_eq(weft_runtime_run(o.rt, is_there_at_the_end, &o), -ECANCELED);
    pthread_join(th, NULL);
    ck_assert_str_eq(o.by_end.reason, "shutdown");
    ck_assert_int_eq(o.by_end.by.task, 0);
    ck_assert_ptr_null(o.by_end.by.site);
    weft_runtime_destroy(&o.rt);
    weft_canceller by;
    ck_assert(!weft_cancelled_by(&by)); /* of a plain thread, in no scope */
    ck_assert_ptr_null(by.reason);
}
END_TEST

/* -- in a dump -- */

struct dumped {
    atomic_int asleep, seen;
    weft_task self, told;
    char text[16384];
};

static int stays_until_seen(void *arg)
{
    struct dumped *d = arg;
    weft_scope s;
    weft_scope_begin_shield(&s, WEFT_NEVER); /* its own, which hides the cancel from it, and not from the dump */
    atomic_fetch_add(&d->asleep, 1);
    while (!atomic_load(&d->seen))
        weft_ignore(weft_sleep(weft_ms(1)));
    return weft_scope_end(&s, 0);
}

static int dumps(void *arg)
{
    struct dumped *d = arg;
    int fds[2];
    weft_scope s;
    d->self = weft_task_self();
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, stays_until_seen, d);
    d->told = weft_spawn(&s, stays_until_seen, d);
    while (atomic_load(&d->asleep) < 2)
        weft_ignore(weft_yield());
    weft_ignore(cancel_task(d->told, "one of them"));
    cancel_scope(&s, "both of them");
    if (pipe(fds) < 0 || weft_dump(fds[1]) != 3)
        abort();
    atomic_store(&d->seen, 1);
    int n = (int)read(fds[0], d->text, sizeof d->text - 1);
    d->text[n > 0 ? n : 0] = 0;
    close(fds[0]);
    close(fds[1]);
    weft_ignore(weft_scope_end(&s, 0));
    return 0;
}

START_TEST(a_dump_says_by_whom_and_where)
{
    struct dumped d = { .self = 0 };
    char by[80];
    ck_assert_int_eq(weft_run(dumps, &d, ON(worker_counts[_i])), 0);
    const char *reasons[] = { "one of them", "both of them" };
    for (int i = 0; i < COUNT(reasons); i++) {
        snprintf(by, sizeof by, ", told to leave: %s, by task %lld at ", reasons[i], (long long)d.self);
        ck_assert_msg(strstr(d.text, by) != NULL, "no \"%s\" in %s", by, d.text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("canceller");
    int counts = COUNT(worker_counts);
    TCase *tc = add_case(s, "cancellers");
    tcase_add_loop_test(tc, a_call_is_known_by_its_task_and_its_place, 0, counts);
    tcase_add_loop_test(tc, a_deadline_a_failure_and_a_win_are_known, 0, counts);
    tcase_add_loop_test(tc, threads_runtimes_and_scopes_further_out_are_known, 0, counts);
    tcase_add_loop_test(tc, a_dump_says_by_whom_and_where, 0, counts);
    return run_suite(s);
}
