/* tests/sync_cancel_test.c - a cancel loses nothing: whoever waits at a lock or a signal, and is told to leave before,
 * while or after it lies down, has either what it waited for, or it is there for the next one.
 *
 * A row is an object at which a call has to wait, what gives it what it waits for, and what tells whether there is more. A
 * column is the moment of the cancel, and whether it came before the gift or after it. With the hook the moment is
 * certain; then each row is raced. */
#include "sync_support.h"

#include "sync/notify.h"

union object {
    weft_event event;
    weft_notify notify;
    weft_timer timer;
    weft_delay *delay;
    weft_sem sem;
    weft_rwlock rwlock;
    weft_waitgroup waitgroup;
    weft_barrier barrier;
    weft_promise promise;
    struct {
        weft_once once;
        pthread_t runner;
        struct gate gate;
        atomic_int begun;
        int rc, calls;
    } once;
    struct {
        weft_mutex mutex;
        pthread_t holder;
        struct gate gate;
        atomic_int begun;
    } held;
    struct {
        weft_mutex mutex;
        weft_cond cond;
        bool set; /* under the mutex */
    } cond;
};

struct row {
    const char *name;
    void (*begin)(union object *o); /* so that a call waits */
    int (*call)(void *o);
    int done;
    void (*give)(union object *o);
    bool (*more)(union object *o); /* after the gift was taken; NULL: it is for all */
};

/* -- events, groups, promises, barriers: for all -- */

static void nothing(union object *o)
{
    (void)o;
}
static int event_call(void *o)
{
    return weft_event_wait(o);
}
static void event_give(union object *o)
{
    weft_event_set(&o->event);
}
static void waitgroup_begin(union object *o)
{
    weft_waitgroup_add(&o->waitgroup, 1);
}
static int waitgroup_call(void *o)
{
    return weft_waitgroup_wait(o);
}
static void waitgroup_give(union object *o)
{
    weft_waitgroup_done(&o->waitgroup);
}
static int promise_call(void *o)
{
    void *v = NULL;
    int rc = weft_promise_wait(o, &v);
    MUST(v == (rc == 9 ? o : NULL));
    return rc;
}
static void promise_give(union object *o)
{
    MUST(weft_promise_set(&o->promise, 9, o) == 0);
}
static void barrier_begin(union object *o)
{
    o->barrier = (weft_barrier)WEFT_BARRIER_INIT(3);
}
static int barrier_call(void *o)
{
    return weft_barrier_wait(o);
}
static void barrier_give(union object *o)
{
    weft_barrier_break(&o->barrier);
}

/* -- notifications, permits, locks: for one -- */

static int notify_call(void *o)
{
    return weft_notify_wait(o);
}
static void notify_give(union object *o)
{
    weft_notify_one(&o->notify);
}
static bool notify_more(union object *o)
{
    weft__lock(weft__notify_lock(&o->notify));
    bool had = weft__notify_take(&o->notify);
    weft__unlock(weft__notify_lock(&o->notify));
    return had;
}
static int sem_call(void *o)
{
    return weft_sem_acquire(o, 1);
}
static void sem_give(union object *o)
{
    weft_sem_release(&o->sem, 1);
}
static int sem_call_3(void *o)
{
    return weft_sem_acquire(o, 3);
}
static void sem_give_3(union object *o)
{
    weft_sem_release(&o->sem, 2);
    weft_sem_release(&o->sem, 1);
}
static bool sem_more(union object *o)
{
    return weft_sem_try_acquire(&o->sem, 1) == 0;
}
static void rwlock_begin(union object *o)
{
    MUST(weft_rwlock_try_write(&o->rwlock) == 0);
}
static int read_call(void *o)
{
    return weft_rwlock_read(o);
}
static int write_call(void *o)
{
    return weft_rwlock_write(o);
}
static void rwlock_give(union object *o)
{
    weft_rwlock_unlock(&o->rwlock);
}
static bool rwlock_more(union object *o)
{
    bool free = weft_rwlock_try_write(&o->rwlock) == 0; /* it is held, once */
    weft_rwlock_unlock(&o->rwlock);
    return free || weft_rwlock_try_write(&o->rwlock) != 0;
}

/* -- once: the runner is a plain thread -- */

static int run_at_gate(void *arg)
{
    union object *o = arg;
    atomic_store(&o->once.begun, 1);
    return gate_wait(&o->once.gate) ? o->once.rc : -ETIME;
}
static void *once_runner(void *arg)
{
    union object *o = arg;
    MUST(weft_once_run(&o->once.once, run_at_gate, o) == o->once.rc);
    return NULL;
}
static void once_begin_with(union object *o, int rc)
{
    o->once.gate = (struct gate)GATE_INIT;
    o->once.rc = rc;
    o->once.runner = thread_start(once_runner, o);
    for (int64_t end = weft_after(LIMIT); !atomic_load(&o->once.begun) && weft_now() < end;)
        usleep(20);
}
static void once_begin(union object *o)
{
    once_begin_with(o, 0);
}
static void once_begin_failing(union object *o)
{
    once_begin_with(o, -EIO);
}
static int once_fn(void *arg)
{
    union object *o = arg;
    o->once.calls++;
    return 4;
}
static int once_call(void *o)
{
    return weft_once_run(o, once_fn, o);
}
static void once_give(union object *o)
{
    gate_open(&o->once.gate);
    pthread_join(o->once.runner, NULL);
}
static bool once_more(union object *o)
{
    return o->once.calls != (o->once.rc < 0) || once_call(o) != 0 || o->once.calls != (o->once.rc < 0);
}

/* -- a mutex (B-022): held by a plain thread; what was had is given back at once, so it is for all -- */

static void *mutex_holder(void *arg)
{
    union object *o = arg;
    MUST(weft_mutex_lock(&o->held.mutex) == 0);
    atomic_store(&o->held.begun, 1);
    MUST(gate_wait(&o->held.gate));
    weft_mutex_unlock(&o->held.mutex);
    return NULL;
}
static void mutex_begin(union object *o)
{
    o->held.gate = (struct gate)GATE_INIT;
    o->held.holder = thread_start(mutex_holder, o);
    for (int64_t end = weft_after(LIMIT); !atomic_load(&o->held.begun) && weft_now() < end;)
        usleep(20);
}
static int mutex_call(void *arg)
{
    union object *o = arg;
    int rc = weft_mutex_lock(&o->held.mutex);
    if (rc == 0)
        weft_mutex_unlock(&o->held.mutex);
    return rc;
}
static void mutex_give(union object *o)
{
    gate_open(&o->held.gate);
    pthread_join(o->held.holder, NULL);
}

/* -- conditions (B-022): a signal is for who waits, and what it was about stays for who comes -- */

static int cond_call_and(union object *o, bool takes)
{
    int rc = weft_mutex_lock(&o->cond.mutex);
    if (rc < 0)
        return rc;
    while (rc == 0 && !o->cond.set)
        rc = weft_cond_wait(&o->cond.cond, &o->cond.mutex);
    if (rc == 0 && takes)
        o->cond.set = false;
    MUST(weft_mutex_try_lock(&o->cond.mutex) == -EAGAIN); /* whatever came, it is locked */
    weft_mutex_unlock(&o->cond.mutex);
    return rc;
}
static int cond_call(void *o)
{
    return cond_call_and(o, true);
}
static int cond_call_all(void *o)
{
    return cond_call_and(o, false);
}
/* In the hook it is free: who waits has unlocked it. */
static void cond_set(union object *o)
{
    while (weft_mutex_try_lock(&o->cond.mutex) == -EAGAIN)
        weft_ignore(weft_yield());
    o->cond.set = true;
}
static void cond_give(union object *o)
{
    cond_set(o);
    weft_cond_signal(&o->cond.cond);
    weft_mutex_unlock(&o->cond.mutex);
}
static void cond_give_all(union object *o)
{
    cond_set(o);
    weft_cond_broadcast(&o->cond.cond);
    weft_mutex_unlock(&o->cond.mutex);
}
static bool cond_more(union object *o)
{
    return o->cond.set;
}

/* -- what has a time: it has come -- */

static int timer_call(void *o)
{
    return weft_timer_wait(o);
}
static void timer_give(union object *o)
{
    (void)weft_timer_set(&o->timer, weft_now() - 1);
}
static bool timer_more(union object *o)
{
    return weft_timer_set(&o->timer, WEFT_NEVER) == 1;
}
static void delay_begin(union object *o)
{
    static const int never;
    int rc = weft_delay_create(&o->delay, sizeof never, NULL);
    MUST(rc == 0 && weft_delay_put(o->delay, &never, sizeof never, WEFT_NEVER - 1, NULL) == 0);
}
static int delay_call(void *o)
{
    union object *all = o;
    int item;
    return weft_delay_take(all->delay, &item, sizeof item);
}
static void delay_give(union object *o)
{
    int item = 1;
    MUST(weft_delay_put(o->delay, &item, sizeof item, weft_now() - 1, NULL) == 0);
}
static bool delay_more(union object *o)
{
    int item;
    bool more = weft_delay_try_take(o->delay, &item, sizeof item) == 1;
    weft_delay_destroy(&o->delay);
    return more;
}

static const struct row rows[] = {
    { "event", nothing, event_call, 0, event_give, NULL },
    { "notify", nothing, notify_call, 0, notify_give, notify_more },
    { "timer", nothing, timer_call, 0, timer_give, timer_more },
    { "delay", delay_begin, delay_call, 1, delay_give, delay_more },
    { "sem", nothing, sem_call, 0, sem_give, sem_more },
    { "sem, 3", nothing, sem_call_3, 0, sem_give_3, sem_more },
    { "rwlock, read", rwlock_begin, read_call, 0, rwlock_give, rwlock_more },
    { "rwlock, write", rwlock_begin, write_call, 0, rwlock_give, rwlock_more },
    { "waitgroup", waitgroup_begin, waitgroup_call, 0, waitgroup_give, NULL },
    { "once", once_begin, once_call, 0, once_give, once_more },
    { "once, failing", once_begin_failing, once_call, 4, once_give, once_more },
    { "promise", nothing, promise_call, 9, promise_give, NULL },
    { "barrier, broken", barrier_begin, barrier_call, -EPIPE, barrier_give, NULL },
    { "mutex", mutex_begin, mutex_call, 0, mutex_give, NULL },
    { "cond, signal", nothing, cond_call, 0, cond_give, cond_more },
    { "cond, broadcast", nothing, cond_call_all, 0, cond_give_all, NULL },
};

/* -- the table -- */

enum when { BEFORE, WHILE, AFTER, WHENS };
enum act { CANCEL, DEADLINE, CANCEL_THEN_GIVE, GIVE_THEN_CANCEL, ACTS };
static const char *const when_names[] = { "before", "while", "after" };
static const char *const act_names[] = { "cancel", "deadline", "cancel, then gift", "gift, then cancel" };

static struct trial {
    const struct row *row;
    enum when when;
    enum act act;
    union object o;
    weft_scope scope;
    struct caller caller, next;
    bool hooked, given;
    int end;
} trial;

static void give(struct trial *t)
{
    t->given = true;
    t->row->give(&t->o);
}

static void do_act(struct trial *t)
{
    if (t->act == GIVE_THEN_CANCEL)
        give(t);
    if (t->act == DEADLINE)
        weft_scope_set_deadline(&t->scope, weft_now());
    else
        weft_scope_cancel(&t->scope, NULL);
    if (t->act == CANCEL_THEN_GIVE)
        give(t);
}

static void hook(struct weft__frame *f)
{
    struct trial *t = &trial;
    if (t->when != WHILE || f->task != atomic_load(&t->caller.block) || atomic_load(&t->caller.returned) || t->hooked)
        return; /* the main thread waits here, too, and who has the block after the caller */
    t->hooked = true;
    if (t->act != DEADLINE) {
        do_act(t);
        return;
    }
    for (int64_t end = weft_after(LIMIT); weft__phase_of(at_load(&f->task->state)) == WEFT__PREPARING && weft_now() < end;)
        usleep(50); /* armed before; it strikes meanwhile */
}

static int owner(void *arg)
{
    struct trial *t = arg;
    weft_scope_begin(&t->scope, t->when != BEFORE && t->act == DEADLINE ? weft_ms(3) : WEFT_NEVER);
    if (t->when == BEFORE)
        do_act(t);
    (void)call_it(&t->caller);
    t->end = weft_scope_end(&t->scope, t->caller.rc < 0 ? t->caller.rc : 0);
    return 0;
}

static int try_cell(void *arg)
{
    struct trial *t = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    t->row->begin(&t->o);
    t->caller.call = t->row->call;
    t->caller.object = &t->o;
    weft_spawn(&s, owner, t);
    if (t->when == AFTER && t->act != DEADLINE) {
        MUST(sleeps(&t->caller));
        do_act(t);
    }
    int rc = result(&t->caller);
    if (t->act == GIVE_THEN_CANCEL && t->when != BEFORE)
        MUST(rc == t->row->done);
    else if (t->act == GIVE_THEN_CANCEL)
        MUST(rc == t->row->done || rc == -ECANCELED); /* some need not wait, and are not refused */
    else if (t->act == CANCEL_THEN_GIVE && t->row->call == barrier_call)
        MUST(rc == t->row->done || rc == -ECANCELED); /* it was sent away before it left */
    else
        MUST(rc == -ECANCELED);
    if (!t->given && rc == -ECANCELED) {
        /* The next one waits as if nothing had been. */
        MUST(put_to_sleep(&s, &t->next, t->row->call, &t->o));
        give(t);
        MUST(result(&t->next) == t->row->done);
    } else if (rc == -ECANCELED) {
        MUST(t->row->call(&t->o) == t->row->done);
    }
    if (t->row->more)
        MUST(!t->row->more(&t->o));
    else
        MUST(t->row->call(&t->o) == t->row->done);
    return weft_scope_end(&s, 0);
}

static void run_cell(struct trial *t, int cell)
{
    memset(t, 0, sizeof *t);
    t->row = &rows[cell / (WHENS * ACTS)];
    t->when = (enum when)(cell / ACTS % WHENS);
    t->act = (enum act)(cell % ACTS);
    if (t->when == BEFORE && t->act == CANCEL_THEN_GIVE)
        return; /* as the other order */
    weft__await_hook = hook;
    /* One worker makes "while" and "after" certain; a deadline is struck by another one. */
    int rc = weft_run(try_cell, t, QUIETLY_ON(t->when == WHILE && t->act == DEADLINE ? 2 : 1));
    weft__await_hook = NULL;
    ck_assert_int_eq(rc, 0);
    ck_assert_msg(atomic_load(&wrongs) == 0, "%s, %s %s: %s (returned %d)", t->row->name, act_names[t->act],
            when_names[t->when], wrong_text, t->caller.rc);
}

START_TEST(what_was_not_taken_is_there_for_the_next)
{
    struct trial *t = &trial;
    int64_t end = weft_after(LIMIT);
    atomic_store(&wrongs, 0);
    do { /* a deadline may have struck before the call laid itself down: that was "before", and as it should be */
        run_cell(t, _i);
    } while (t->when == WHILE && t->act == DEADLINE && !t->hooked && weft_now() < end);
    ck_assert(t->when != WHILE || t->hooked);
}
END_TEST

/* -- races: a gift and a cancel, on several workers, with one more behind -- */

struct race {
    const struct row *row;
    int rounds, done, left;
    uint64_t seed;
};

struct racer {
    const struct row *row;
    union object *o;
    weft_task target;
    uint32_t spins;
};

static void spin(uint32_t n)
{
    for (volatile uint32_t i = 0; i < n; i++)
        continue;
}

static int race_give(void *arg)
{
    struct racer *r = arg;
    spin(r->spins);
    r->row->give(r->o);
    return 0;
}

static int race_cancel(void *arg)
{
    struct racer *r = arg;
    spin(r->spins);
    weft_ignore(weft_task_cancel(r->target, NULL));
    return 0;
}

static int race(void *arg)
{
    struct race *r = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < r->rounds; i++) {
        static union object o;
        struct caller first;
        struct racer g = { r->row, &o, 0, next_random(&r->seed) % 4000 }, c = g;
        memset(&o, 0, sizeof o);
        r->row->begin(&o);
        if (i % 2) {
            MUST(put_to_sleep(&s, &first, r->row->call, &o));
        } else {
            memset(&first, 0, sizeof first);
            first.call = r->row->call;
            first.object = &o;
            first.task = weft_spawn(&s, call_it, &first);
        }
        c.target = first.task;
        c.spins = next_random(&r->seed) % 4000;
        weft_scope both;
        weft_scope_begin(&both, LIMIT);
        weft_spawn(&both, race_cancel, &c);
        weft_spawn(&both, race_give, &g);
        MUST(weft_scope_end(&both, 0) == 0);
        int rc = result(&first);
        MUST(rc == r->row->done || rc == -ECANCELED);
        if (rc == -ECANCELED) {
            r->left++;
            MUST(r->row->call(&o) == r->row->done);
        } else {
            r->done++;
        }
        MUST(!r->row->more || !r->row->more(&o));
        MUST(weft_task_join(first.task) == 0);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(raced_it_is_taken_or_there)
{
    struct race r = { .row = &rows[_i], .rounds = chaos() ? 100 : SCALED(1000, 300, 200), .seed = (uint64_t)_i + 1 };
    RUN(race, &r, 2);
    RUN(race, &r, 4);
    ck_assert_int_eq(r.done + r.left, 2 * r.rounds);
}
END_TEST

/* -- a barrier: a cancel meets the last who comes -- */

struct crossing {
    weft_barrier barrier;
    int rounds;
    uint64_t seed;
};

static int cross(void *arg)
{
    struct crossing *x = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < x->rounds; i++) {
        struct caller a, b, c;
        MUST(put_to_sleep(&s, &a, barrier_call, &x->barrier));
        MUST(put_to_sleep(&s, &b, barrier_call, &x->barrier));
        struct racer r = { .target = a.task, .spins = next_random(&x->seed) % 3000 };
        weft_spawn_copy(&s, race_cancel, &r, sizeof r);
        spin(next_random(&x->seed) % 3000);
        memset(&c, 0, sizeof c);
        c.call = barrier_call;
        c.object = &x->barrier;
        c.task = weft_spawn(&s, call_it, &c);
        if (result(&a) == -ECANCELED) {
            /* It has not come: the others wait for one more. */
            MUST(sleeps(&c) || atomic_load(&c.returned) == 0);
            MUST(weft_barrier_wait(&x->barrier) == 2);
            MUST(result(&b) == 0 && result(&c) == 1);
        } else {
            MUST(result(&a) == 0 && result(&b) == 1 && result(&c) == 2);
        }
        MUST(weft_task_join(a.task) == 0 && weft_task_join(b.task) == 0 && weft_task_join(c.task) == 0);
    }
    return weft_scope_end(&s, 0);
}

START_TEST(a_generation_is_complete_or_waits_for_one_more)
{
    struct crossing x = { .barrier = WEFT_BARRIER_INIT(3), .rounds = chaos() ? 300 : SCALED(2000, 500, 300), .seed = 5 };
    RUN(cross, &x, workers[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sync_cancel");
    TCase *tc = add_case(s, "a cancel loses nothing");
    tcase_add_loop_test(tc, what_was_not_taken_is_there_for_the_next, 0, COUNT(rows) * WHENS * ACTS);
    tcase_add_loop_test(tc, raced_it_is_taken_or_there, 0, COUNT(rows));
    tcase_add_loop_test(tc, a_generation_is_complete_or_waits_for_one_more, 0, COUNT(workers));
    return run_suite(s);
}
