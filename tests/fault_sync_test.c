/* fault_sync_test.c - what sync.h says of memory: nothing in it allocates. All that can fail for want of memory is what is not
 * its own: a plain thread's first call in weft, and the first deadline of a worker that has none (base.h). Then nothing was
 * taken, and nobody has come: the next try finds all as it was. */
#include "sync_support.h"

#include "base/fault.h"
#include "sched/task.h"

struct objects {
    weft_mutex mutex;
    weft_cond cond;
    weft_event event;
    weft_rwlock rwlock;
    weft_sem sem;
    weft_limiter limiter;
    weft_loan held, asked;
    weft_notify notify;
    weft_barrier barrier;
    weft_waitgroup group;
    weft_once once;
    weft_promise promise;
    bool signalled;
    atomic_int in_once, called;
    struct gate gate;
};

static const struct objects fresh = { .limiter = WEFT_LIMITER_INIT(1), .barrier = WEFT_BARRIER_INIT(2), .gate = GATE_INIT };

/* What has been taken is given back at once. */
static int lock_mutex(struct objects *o)
{
    int rc = weft_mutex_lock(&o->mutex);
    if (rc == 0)
        weft_mutex_unlock(&o->mutex);
    return rc;
}

static void hold_mutex(struct objects *o)
{
    MUST(weft_mutex_lock(&o->mutex) == 0);
}

static void give_mutex(struct objects *o)
{
    weft_mutex_unlock(&o->mutex);
}

static int wait_cond(struct objects *o)
{
    int rc = weft_mutex_lock(&o->mutex);
    if (rc < 0)
        return rc;
    while (rc == 0 && !o->signalled)
        rc = weft_cond_wait(&o->cond, &o->mutex);
    weft_mutex_unlock(&o->mutex); /* aborts if it is not the caller's */
    return rc;
}

static void give_cond(struct objects *o)
{
    MUST(weft_mutex_lock(&o->mutex) == 0);
    o->signalled = true;
    weft_cond_signal(&o->cond);
    weft_mutex_unlock(&o->mutex);
}

static int wait_event(struct objects *o)
{
    return weft_event_wait(&o->event);
}

static void give_event(struct objects *o)
{
    weft_event_set(&o->event);
}

static int read_rwlock(struct objects *o)
{
    int rc = weft_rwlock_read(&o->rwlock);
    if (rc == 0)
        weft_rwlock_unlock(&o->rwlock);
    return rc;
}

static int write_rwlock(struct objects *o)
{
    int rc = weft_rwlock_write(&o->rwlock);
    if (rc == 0)
        weft_rwlock_unlock(&o->rwlock);
    return rc;
}

static void hold_write(struct objects *o)
{
    MUST(weft_rwlock_write(&o->rwlock) == 0);
}

static void hold_read(struct objects *o)
{
    MUST(weft_rwlock_read(&o->rwlock) == 0);
}

static void give_rwlock(struct objects *o)
{
    weft_rwlock_unlock(&o->rwlock);
}

static int acquire_sem(struct objects *o)
{
    return weft_sem_acquire(&o->sem, 1);
}

static void give_sem(struct objects *o)
{
    MUST(weft_sem_release(&o->sem, 1) == 0);
}

static int borrow(struct objects *o)
{
    int rc = weft_limiter_borrow(&o->limiter, &o->asked, 1);
    if (rc == 0)
        MUST(weft_limiter_return(&o->limiter, &o->asked) == 0);
    return rc;
}

static void hold_limiter(struct objects *o)
{
    MUST(weft_limiter_borrow(&o->limiter, &o->held, 1) == 0);
}

static void give_limiter(struct objects *o)
{
    MUST(weft_limiter_borrowers(&o->limiter, NULL, 0) == 1);
    MUST(weft_limiter_return(&o->limiter, &o->held) == 0);
}

static int wait_notify(struct objects *o)
{
    return weft_notify_wait(&o->notify);
}

static void give_notify(struct objects *o)
{
    weft_notify_one(&o->notify);
}

/* Either of the two places. */
static int wait_barrier(struct objects *o)
{
    int rc = weft_barrier_wait(&o->barrier);
    return rc > 0 ? 0 : rc;
}

static void give_barrier(struct objects *o)
{
    MUST(wait_barrier(o) == 0);
}

static int wait_group(struct objects *o)
{
    return weft_waitgroup_wait(&o->group);
}

static void hold_group(struct objects *o)
{
    weft_waitgroup_add(&o->group, 1);
}

static void give_group(struct objects *o)
{
    weft_waitgroup_done(&o->group);
}

static int wait_promise(struct objects *o)
{
    void *value = &value;
    int rc = weft_promise_wait(&o->promise, &value);
    MUST(value == (rc < 0 ? (void *)&value : o));
    return rc;
}

static void give_promise(struct objects *o)
{
    MUST(weft_promise_set(&o->promise, 0, o) == 0);
}

static int is_called(void *arg)
{
    return atomic_fetch_add(&((struct objects *)arg)->called, 1);
}

/* What another has done already, or does just now, is not done again. */
static int run_once(struct objects *o)
{
    int rc = weft_once_run(&o->once, is_called, o);
    MUST(rc < 0 ? atomic_load(&o->called) == 0 : atomic_load(&o->called) == (atomic_load(&o->in_once) == 0));
    return rc;
}

/* Held by somebody who is in the function. */
static int stays_in_once(void *arg)
{
    struct objects *o = arg;
    atomic_store(&o->in_once, 1);
    return gate_wait(&o->gate) ? 0 : -ETIME;
}

static void *be_in_once(void *arg)
{
    struct objects *o = arg;
    MUST(weft_once_run(&o->once, stays_in_once, o) == 0);
    return NULL;
}

static pthread_t in_once;

static void hold_once(struct objects *o)
{
    in_once = thread_start(be_in_once, o);
    MUST(wait_for(&o->in_once, 1));
}

static void leave_once(struct objects *o)
{
    gate_open(&o->gate);
    pthread_join(in_once, NULL);
}

static void nothing(struct objects *o)
{
    (void)o;
}

/* The call waits from `hold` until `give`, both by one task or thread; and not at all after it. */
static const struct primitive {
    const char *name;
    void (*hold)(struct objects *o);
    int (*call)(struct objects *o);
    void (*give)(struct objects *o);
} primitives[] = {
    { "mutex", hold_mutex, lock_mutex, give_mutex },
    { "cond", nothing, wait_cond, give_cond },
    { "event", nothing, wait_event, give_event },
    { "rwlock, read", hold_write, read_rwlock, give_rwlock },
    { "rwlock, write", hold_read, write_rwlock, give_rwlock },
    { "sem", nothing, acquire_sem, give_sem },
    { "limiter", hold_limiter, borrow, give_limiter },
    { "notify", nothing, wait_notify, give_notify },
    { "barrier", nothing, wait_barrier, give_barrier },
    { "waitgroup", hold_group, wait_group, give_group },
    { "once", hold_once, run_once, leave_once },
    { "promise", nothing, wait_promise, give_promise },
};

/* -- a try, with the n-th call of a kind failing */

struct attempt {
    const struct primitive *p;
    struct objects o;
    enum weft__fault_kind kind;
    long nth, count, failed;
    bool given; /* before the call: it needs not wait */
    int rc, again;
    atomic_int held, returned, go;
};

static void *holder(void *arg)
{
    struct attempt *a = arg;
    (void)weft__current(); /* has what a thread has to have, before others' calls are to fail */
    a->p->hold(&a->o);
    if (a->given)
        a->p->give(&a->o);
    atomic_store(&a->held, 1);
    MUST(wait_for(&a->go, 1));
    if (!a->given)
        a->p->give(&a->o);
    return NULL;
}

static void try_it(struct attempt *a)
{
    weft__fault_set(a->kind, a->nth, a->count, -ENOMEM);
    a->rc = a->p->call(&a->o);
    a->failed = weft__fault_failed(a->kind);
    weft__fault_clear();
    atomic_store(&a->returned, 1);
    a->again = a->rc == -ENOMEM ? a->p->call(&a->o) : 0;
}

static void *first_call(void *arg)
{
    try_it(arg);
    return NULL;
}

/* What is there already is not lost either; but at a barrier somebody has to be. */
static const struct {
    enum weft__fault_kind kind;
    bool given;
} first[] = { { WEFT__FAULT_ALLOC, false }, { WEFT__FAULT_KEY, false }, { WEFT__FAULT_ALLOC, true }, { WEFT__FAULT_KEY, true } };

/* The first one that fails is seen to have returned. Of the others it is not known whether they will wait: either has to
 * work. */
START_TEST(a_threads_first_call_without_memory_has_taken_nothing)
{
    const struct primitive *p = &primitives[_i / COUNT(first)];
    enum weft__fault_kind kind = first[_i % COUNT(first)].kind;
    bool given = first[_i % COUNT(first)].given && p->call != wait_barrier;
    (void)weft__current();
    atomic_store(&wrongs, 0);
    long failed = 1, n = 1;
    uint32_t blocks = 0;
    for (; failed > 0 && n < 20; n++) {
        struct attempt a = { .p = p, .o = fresh, .kind = kind, .nth = n, .count = 1, .given = given };
        pthread_t h = thread_start(holder, &a);
        ck_assert(wait_for(&a.held, 1));
        pthread_t t = thread_start(first_call, &a);
        if (n == 1)
            ck_assert_msg(wait_for(&a.returned, 1), "%s: it waits, though there is no memory", p->name);
        for (int64_t end = weft_after(weft_ms(3)); !atomic_load(&a.returned) && weft_now() < end;)
            usleep(100);
        atomic_store(&a.go, 1);
        pthread_join(h, NULL);
        pthread_join(t, NULL);
        failed = a.failed;
        bool as_told = failed > 0 ? a.rc == -ENOMEM || (given && a.rc == 0) : a.rc == 0; /* some need nothing to take it */
        ck_assert_msg(as_told, "%s, %ld: %d, of which %ld failed", p->name, n, a.rc, failed);
        ck_assert_msg(a.again == 0, "%s, %ld: then %d", p->name, n, a.again);
        NOTHING_WRONG();
        if (n == 1)
            blocks = weft__task_table_used();
    }
    ck_assert_int_ge(n, given ? 2 : 3); /* a once that is done asks for nothing */
    ck_assert_int_eq(failed, 0);
    ck_assert_uint_eq(weft__task_table_used(), blocks);
}
END_TEST

/* Under a deadline, of a worker that has had none. */
static int wait_until(void *arg)
{
    struct attempt *a = arg;
    weft_scope s;
    MUST(wait_for(&a->held, 1));
    weft_scope_begin(&s, LIMIT);
    weft__fault_set(a->kind, a->nth, a->count, -ENOMEM);
    a->rc = a->p->call(&a->o);
    a->failed = weft__fault_failed(a->kind);
    weft__fault_clear();
    atomic_store(&a->go, 1);
    a->again = a->p->call(&a->o);
    return weft_scope_end(&s, 0);
}

START_TEST(a_wait_whose_deadline_finds_no_memory_has_taken_nothing)
{
    const struct primitive *p = &primitives[_i];
    struct attempt a = { .p = p, .o = fresh, .kind = WEFT__FAULT_ALLOC, .nth = 1, .count = LONG_MAX };
    atomic_store(&wrongs, 0);
    pthread_t h = thread_start(holder, &a);
    ck_assert_int_eq(weft_run(wait_until, &a, QUIETLY_ON(1)), 0);
    pthread_join(h, NULL);
    ck_assert_msg(a.rc == -ENOMEM && a.failed > 0, "%s: %d, of which %ld failed", p->name, a.rc, a.failed);
    ck_assert_msg(a.again == 0, "%s: then %d", p->name, a.again);
    NOTHING_WRONG();
}
END_TEST

/* -- no allocation: a task, or a thread that weft knows, waits; another lets it go */

struct pair {
    struct objects o;
    const struct primitive *p;
    bool by_thread;
    atomic_int round, done; /* -1: no more */
    _Atomic(struct weft__task *) waiter;
    int rc;
    long calls;
};

static int wait_often(void *arg)
{
    struct pair *x = arg;
    atomic_store(&x->waiter, weft__current()->task);
    for (int round = 1;; round++) {
        while (atomic_load(&x->round) != round) {
            if (atomic_load(&x->round) < 0)
                return 0;
            weft_ignore(weft_yield());
        }
        x->rc = x->p->call(&x->o);
        atomic_store(&x->done, round);
    }
}

static void *wait_often_on_thread(void *arg)
{
    (void)wait_often(arg);
    return NULL;
}

static bool it_sleeps(struct pair *x)
{
    for (int64_t end = weft_after(LIMIT); weft_now() < end; weft_ignore(weft_yield()))
        if (weft__phase_of(at_load_acquire(&atomic_load(&x->waiter)->state)) == WEFT__WAITING)
            return true;
    return false;
}

static int kick(void *arg)
{
    struct pair *x = arg;
    atomic_fetch_add(&x->round, 1);
    MUST(it_sleeps(x));
    return 0;
}

/* Nothing but the one call: who holds a once is in its function. */
static void let_it_wait(struct pair *x)
{
    if (x->p->call == run_once) {
        atomic_store(&x->o.in_once, 1);
        MUST(weft_once_run(&x->o.once, kick, x) == 0);
    } else {
        x->p->hold(&x->o);
        kick(x);
        x->p->give(&x->o);
    }
    MUST(wait_for(&x->done, atomic_load(&x->round)));
    MUST(x->rc == 0);
}

static int count_allocations(void *arg)
{
    struct pair *x = arg;
    pthread_t t = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    if (x->by_thread)
        t = thread_start(wait_often_on_thread, x);
    else
        weft_spawn(&s, wait_often, x);
    while (!atomic_load(&x->waiter))
        weft_ignore(weft_yield());
    for (int i = 0; i < COUNT(primitives) * 3; i++) {
        x->o = fresh;
        x->p = &primitives[i / 3];
        weft__fault_set(WEFT__FAULT_ALLOC, 1, LONG_MAX, -ENOMEM);
        weft__fault_set(WEFT__FAULT_MMAP, 1, LONG_MAX, -ENOMEM);
        let_it_wait(x);
        long calls = weft__fault_calls(WEFT__FAULT_ALLOC) + weft__fault_calls(WEFT__FAULT_MMAP);
        weft__fault_clear();
        if (calls > 0)
            wrong(x->p->name, __LINE__);
    }
    atomic_store(&x->round, -1);
    if (x->by_thread)
        pthread_join(t, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(who_waits_at_one_allocates_nothing)
{
    static struct pair x;
    for (int by_thread = 0; by_thread < 2; by_thread++) {
        memset(&x, 0, sizeof x);
        x.by_thread = by_thread;
        RUN(count_allocations, &x, workers[_i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fault sync");
    TCase *tc = add_case(s, "memory");
    tcase_add_loop_test(
            tc, a_threads_first_call_without_memory_has_taken_nothing, 0, COUNT(primitives) * COUNT(first));
    tcase_add_loop_test(tc, a_wait_whose_deadline_finds_no_memory_has_taken_nothing, 0, COUNT(primitives));
    tcase_add_loop_test(tc, who_waits_at_one_allocates_nothing, 0, COUNT(workers));
    return run_suite(s);
}
