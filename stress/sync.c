/* stress/sync.c - locks and signals, used by tasks and plain threads that are told to leave at any moment.
 *
 * A number of sets of objects; each lane picks one at random and does something there, under a scope with a deadline that
 * is short as often as not, or that a helper cancels. What waits for others (a barrier, a group) is bounded by the
 * deadline as well, so that nothing gets stuck for good but what was lost.
 *
 * Law       a semaphore: no more are inside than it has permits, and all are there at the end. A mutex: one holds it, also
 *           after a wait at a condition, whatever that returned, and it is free at the end; there are as many items under
 *           it as were put and not got. A rwlock: writers alone, readers see whole writes, it is free at the end.
 *           Notifications: those taken are at most those given, and what was given when nobody was there is stored. A
 *           barrier: each generation that is let go has each index once. A group: a wait that returns 0 comes after all
 *           were done. Once: at most one success. A promise: one set is taken, all see it. An event: 0 comes only after a
 *           set. -ECANCELED comes only when it was time, or somebody cancelled. */
#include "support.h"

enum {
    LANES = SCALED(48, 24),
    THREADS = 3,
    SETS = 4,
    PERMITS = 5,
    PARTIES = 3,
    SLOTS = 64
};

static atomic_ulong n_ops, n_cancelled, n_sem, n_mutex, n_cond, n_rwlock, n_notified, n_barrier, n_group, n_once,
        n_once_failed, n_promise, n_event, n_handed_over;

/* What is used once each: a row of them, of which the last is the newest. */
struct single {
    weft_once once;
    weft_promise promise;
    atomic_int successes, running, calls, sets;
    int made; /* plain: by the success */
};

static struct set {
    weft_sem sem;
    atomic_int inside;
    weft_mutex mutex;
    weft_cond filled;
    int holders;               /* plain, under the mutex, like these */
    long items, put, got;
    weft_rwlock lock;
    long a, b; /* plain, under the lock */
    atomic_int writers, readers;
    weft_notify notify;
    atomic_ulong given, taken;
    weft_barrier barrier;
    atomic_ulong indices[PARTIES];
    weft_waitgroup group;
    atomic_ulong added, finished;
    weft_event event;
    atomic_ulong events;
    struct single singles[SLOTS];
    atomic_uint newest;
} sets[SETS];

struct lane {
    struct chance c;
    bool in_task;
};

/* ---- what is done, in a scope that may end it: the call's result, of which -ECANCELED is told on */

static int use_sem(struct set *s, struct lane *l)
{
    uint32_t n = 1 + chance_below(&l->c, PERMITS);
    int rc = chance_one_in(&l->c, 4) ? weft_sem_try_acquire(&s->sem, n) : weft_sem_acquire(&s->sem, n);
    if (rc < 0)
        return rc;
    int now = atomic_fetch_add(&s->inside, (int)n) + (int)n;
    CHECK(now <= PERMITS, "%d are inside", now);
    if (chance_one_in(&l->c, 4))
        weft_ignore(weft_yield());
    stutter(&l->c);
    atomic_fetch_sub(&s->inside, (int)n);
    if (n > 1 && chance_one_in(&l->c, 2)) {
        weft_sem_release(&s->sem, 1);
        n--;
    }
    weft_sem_release(&s->sem, n);
    atomic_fetch_add(&n_sem, 1);
    return 0;
}

/* One item more; or one less, if there is one, or one comes in time. */
static int use_mutex(struct set *s, struct lane *l)
{
    bool makes = chance_one_in(&l->c, 3);
    int rc = chance_one_in(&l->c, 4) ? weft_mutex_try_lock(&s->mutex) : weft_mutex_lock(&s->mutex);
    if (rc < 0)
        return rc;
    CHECK(s->holders++ == 0, "two hold it");
    while (!makes && s->items == 0 && rc == 0) {
        s->holders--;
        rc = weft_cond_wait(&s->filled, &s->mutex);
        CHECK(s->holders++ == 0, "two hold it after a wait");
        atomic_fetch_add(&n_cond, rc == 0);
    }
    if (rc == 0 && makes)
        s->put++, s->items++;
    else if (rc == 0)
        s->got++, s->items--;
    if (chance_one_in(&l->c, 4))
        weft_ignore(weft_yield());
    stutter(&l->c);
    s->holders--;
    if (makes && chance_one_in(&l->c, 4))
        weft_cond_broadcast(&s->filled);
    else if (makes)
        weft_cond_signal(&s->filled);
    weft_mutex_unlock(&s->mutex);
    atomic_fetch_add(&n_mutex, 1);
    return rc;
}

static int use_rwlock(struct set *s, struct lane *l)
{
    bool writes = chance_one_in(&l->c, 4), tries = chance_one_in(&l->c, 4);
    int rc = writes ? tries ? weft_rwlock_try_write(&s->lock) : weft_rwlock_write(&s->lock)
            : tries ? weft_rwlock_try_read(&s->lock)
                    : weft_rwlock_read(&s->lock);
    if (rc < 0)
        return rc;
    if (writes) {
        CHECK(atomic_fetch_add(&s->writers, 1) == 0 && atomic_load(&s->readers) == 0, "a writer is not alone");
        s->a++;
    } else {
        atomic_fetch_add(&s->readers, 1);
        CHECK(atomic_load(&s->writers) == 0, "a reader beside a writer");
        CHECK(s->a == s->b, "half a write");
    }
    if (chance_one_in(&l->c, 4))
        weft_ignore(weft_yield());
    if (writes) {
        s->b++;
        atomic_fetch_sub(&s->writers, 1);
    } else {
        atomic_fetch_sub(&s->readers, 1);
    }
    weft_rwlock_unlock(&s->lock);
    atomic_fetch_add(&n_rwlock, 1);
    return 0;
}

static int use_notify(struct set *s, struct lane *l)
{
    if (chance_one_in(&l->c, 2)) {
        atomic_fetch_add(&s->given, 1);
        weft_notify_one(&s->notify);
        return 0;
    }
    int rc = weft_notify_wait(&s->notify);
    if (rc < 0)
        return rc;
    unsigned long taken = atomic_fetch_add(&s->taken, 1) + 1;
    CHECK(taken <= atomic_load(&s->given), "more notifications were taken than given");
    atomic_fetch_add(&n_notified, 1);
    return 0;
}

static int use_barrier(struct set *s, struct lane *l)
{
    (void)l;
    int rc = weft_barrier_wait(&s->barrier);
    if (rc < 0)
        return rc;
    CHECK(rc < PARTIES, "place %d", rc);
    atomic_fetch_add(&s->indices[rc], 1);
    atomic_fetch_add(&n_barrier, 1);
    return 0;
}

static int use_group(struct set *s, struct lane *l)
{
    if (chance_one_in(&l->c, 2)) {
        uint32_t n = 1 + chance_below(&l->c, 3);
        weft_waitgroup_add(&s->group, n);
        atomic_fetch_add(&s->added, n);
        while (n-- > 0) {
            stutter(&l->c);
            atomic_fetch_add(&s->finished, 1);
            weft_waitgroup_done(&s->group);
        }
        return 0;
    }
    unsigned long added = atomic_load(&s->added);
    weft_waitgroup_add(&s->group, 1);
    weft_waitgroup_done(&s->group);
    int rc = weft_waitgroup_wait(&s->group);
    if (rc < 0)
        return rc;
    CHECK(atomic_load(&s->finished) >= added, "a wait ended before all was done");
    atomic_fetch_add(&n_group, 1);
    return 0;
}

static int make(void *arg)
{
    struct single *one = arg;
    CHECK(atomic_fetch_add(&one->running, 1) == 0, "two run at once");
    int call = atomic_fetch_add(&one->calls, 1), rc = call % 3 == 2 ? 0 : weft_yield();
    if (rc == 0 && call % 4 == 1)
        rc = -EIO;
    if (rc == 0) {
        CHECK(atomic_fetch_add(&one->successes, 1) == 0, "it was done twice");
        one->made++;
    }
    atomic_fetch_sub(&one->running, 1);
    return rc;
}

static int use_once(struct set *s, struct lane *l)
{
    struct single *one = &s->singles[(atomic_load(&s->newest) + chance_below(&l->c, 2)) % SLOTS];
    int calls = atomic_load(&one->calls), rc = weft_once_run(&one->once, make, one);
    if (rc == -EIO) {
        atomic_fetch_add(&n_once_failed, 1);
        return 0;
    }
    if (rc < 0)
        return rc;
    CHECK(one->made == 1 && atomic_load(&one->successes) == 1, "it is not done");
    atomic_fetch_add(&n_once, 1);
    if (atomic_load(&one->calls) > calls + 1)
        atomic_fetch_add(&n_handed_over, 1);
    return 0;
}

static int use_promise(struct set *s, struct lane *l)
{
    struct single *one = &s->singles[(atomic_load(&s->newest) + chance_below(&l->c, 2)) % SLOTS];
    if (chance_one_in(&l->c, 4)) {
        int rc = weft_promise_set(&one->promise, 1, one);
        CHECK(rc == 0 || rc == -EALREADY, "a promise: %s", weft_strerror(rc));
        if (rc == 0)
            CHECK(atomic_fetch_add(&one->sets, 1) == 0, "it was set twice");
        return 0;
    }
    void *value = NULL;
    int rc = weft_promise_wait(&one->promise, &value);
    if (rc < 0)
        return rc;
    CHECK(rc == 1 && value == one, "not what was promised");
    atomic_fetch_add(&n_promise, 1);
    return 0;
}

static int use_event(struct set *s, struct lane *l)
{
    switch (chance_below(&l->c, 4)) {
    case 0:
        atomic_fetch_add(&s->events, 1);
        weft_event_set(&s->event);
        return 0;
    case 1:
        weft_event_clear(&s->event);
        return 0;
    default:
        break;
    }
    int rc = weft_event_wait(&s->event);
    if (rc < 0)
        return rc;
    CHECK(atomic_load(&s->events) > 0, "an event that nobody has set");
    atomic_fetch_add(&n_event, 1);
    return 0;
}

typedef int use_fn(struct set *s, struct lane *l);
static use_fn *const uses[] = { use_sem, use_sem, use_mutex, use_mutex, use_rwlock, use_rwlock, use_notify, use_barrier,
    use_group, use_once, use_promise, use_event };

/* ---- lanes */

struct aim {
    weft_scope *scope;
    uint32_t spins;
};

static int cancel_it(void *arg)
{
    const struct aim *a = arg;
    for (volatile uint32_t i = 0; i < a->spins; i++)
        continue;
    weft_scope_cancel(a->scope, "aimed");
    return 0;
}

static void use_one(struct lane *l)
{
    struct set *s = &sets[chance_below(&l->c, SETS)];
    use_fn *use = uses[chance_below(&l->c, (uint32_t)COUNT(uses))];
    bool aimed = l->in_task && chance_one_in(&l->c, 6);
    weft_scope scope;
    weft_scope_begin(&scope, chance_one_in(&l->c, 8) ? 0 : 1000 + chance_below(&l->c, 100000));
    if (aimed) {
        struct aim a = { &scope, chance_below(&l->c, 2000) };
        weft_spawn_copy(&scope, cancel_it, &a, sizeof a);
    }
    int rc = use(s, l), end = 0;
    if (rc == -ECANCELED) {
        CHECK(weft_check() == -ECANCELED, "refused, and not told to leave");
        atomic_fetch_add(&n_cancelled, 1);
    } else {
        CHECK(rc == 0 || rc == -EAGAIN || rc == -EPIPE, "returned %s", weft_strerror(rc));
    }
    end = weft_scope_end(&scope, rc == -EAGAIN || rc == -EPIPE ? 0 : rc);
    CHECK(end == 0 || end == -ETIMEDOUT, "the scope ended with %s", weft_strerror(end));
    atomic_fetch_add(&n_ops, 1);
    stress_moved();
}

/* Between two rounds, when nobody is about: what was used once each is new again. */
static void renew(struct set *s)
{
    for (int i = 0; i < SLOTS; i++)
        memset(&s->singles[i], 0, sizeof s->singles[i]);
}

enum { PER_ROUND = SCALED(400, 100) };

static int lane(void *arg)
{
    struct lane *l = arg;
    for (int i = 0; i < PER_ROUND; i++) {
        use_one(l);
        if (chance_one_in(&l->c, 16))
            atomic_fetch_add(&sets[chance_below(&l->c, SETS)].newest, 1);
        if (chance_one_in(&l->c, 200))
            weft_barrier_reset(&sets[chance_below(&l->c, SETS)].barrier);
    }
    return 0;
}

static void *thread_lane(void *arg)
{
    CHECK(lane(arg) == 0, "a thread's lane");
    return NULL;
}

static int task_lanes(void *arg)
{
    uint64_t round = *(uint64_t *)arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uint64_t i = 0; i < LANES / 2; i++) {
        struct lane l = { chance_of(round, i), true };
        weft_spawn_copy(&s, lane, &l, sizeof l);
    }
    return weft_scope_end(&s, 0);
}

/* All have left. */
static void look(struct set *s)
{
    CHECK(weft_sem_try_acquire(&s->sem, PERMITS + 1) == -EAGAIN, "too many permits");
    CHECK(weft_sem_try_acquire(&s->sem, PERMITS) == 0, "permits are lost");
    weft_sem_release(&s->sem, PERMITS);
    CHECK(weft_mutex_try_lock(&s->mutex) == 0, "the mutex is not free");
    CHECK(s->holders == 0 && s->items == s->put - s->got && s->items >= 0, "%ld items", s->items);
    weft_mutex_unlock(&s->mutex);
    CHECK(weft_rwlock_try_write(&s->lock) == 0, "the lock is not free");
    CHECK(s->a == s->b, "half a write");
    weft_rwlock_unlock(&s->lock);
    weft_notify_one(&s->notify);
    CHECK(weft_notify_wait(&s->notify) == 0, "a notification is lost");
    unsigned long first = atomic_load(&s->indices[0]);
    for (int i = 1; i < PARTIES; i++)
        CHECK(atomic_load(&s->indices[i]) == first, "a generation is not whole");
    CHECK(weft_waitgroup_wait(&s->group) == 0 && atomic_load(&s->added) == atomic_load(&s->finished), "a group");
    for (int i = 0; i < SLOTS; i++)
        CHECK(s->singles[i].made == atomic_load(&s->singles[i].successes) && atomic_load(&s->singles[i].running) == 0,
                "done %d times", s->singles[i].made);
}

static const struct stress_need needs[] = {
    { "operations", &n_ops, 0, 10000 },
    { "calls that were cancelled", &n_cancelled, 0, 500 },
    { "permits", &n_sem, 0, 500 },
    { "mutexes", &n_mutex, 0, 500 },
    { "conditions met", &n_cond, 0, 10 },
    { "locks", &n_rwlock, 0, 500 },
    { "notifications", &n_notified, 0, 100 },
    { "barriers passed", &n_barrier, 0, 50 },
    { "groups done", &n_group, 0, 50 },
    { "once done", &n_once, 0, 50 },
    { "once failed", &n_once_failed, 0, 5 },
    { "once handed over", &n_handed_over, 0, 0 },
    { "promises", &n_promise, 0, 50 },
    { "events", &n_event, 0, 50 },
};

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "sync");
    weft_runtime *rt = stress_runtime(), *other = NULL;
    CHECK(weft_runtime_create(&other, &(weft_options){ .workers = 2 }) == 0, "another runtime");
    for (int i = 0; i < SETS; i++) {
        sets[i].sem = (weft_sem)WEFT_SEM_INIT(PERMITS);
        sets[i].barrier = (weft_barrier)WEFT_BARRIER_INIT(PARTIES);
    }
    uint64_t round = 1;
    for (; !stress_over_when(needs, COUNT(needs)); round++) {
        pthread_t threads[THREADS];
        struct lane lanes[THREADS];
        weft_scope s;
        weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = other });
        for (uint64_t i = 0; i < LANES / 2; i++) {
            struct lane l = { chance_of(round, 1000 + i), true };
            weft_spawn_copy(&s, lane, &l, sizeof l);
        }
        for (uint64_t i = 0; i < THREADS; i++) {
            lanes[i] = (struct lane){ chance_of(round, 2000 + i), false };
            threads[i] = thread_start(thread_lane, &lanes[i]);
        }
        CHECK(weft_runtime_run(rt, task_lanes, &round) == 0, "the main task");
        CHECK(weft_scope_end(&s, 0) == 0, "the other runtime's tasks");
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < SETS; i++) {
            look(&sets[i]);
            renew(&sets[i]);
        }
    }
    stress_watch(NULL);
    weft_runtime_destroy(&other);
    weft_runtime_destroy(&rt);
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
