/* micro_sync.c - what locks and signals cost where nobody has to wait.
 *
 *     micro_sync [ops=5000000] [reps=7]
 *
 * Measures  in one task, alone on one worker, in ns for one round: sem: acquire and release of one permit; rwlock_read,
 *           rwlock_write: lock and unlock; event: a wait at an event that is set; event_set: clear, set, wait; notify: one
 *           that is stored, and its wait; waitgroup: add, done, wait; once: of what is done; promise: a wait at one that is
 *           set. Beside them atomic: a compare-and-swap there and one back, the least that a lock can cost. The
 *           repetitions of all alternate.
 * Does not  measure contention, who has to wait and is woken (micro_switch, micro_wake), or cold caches. */
#include <weft.h>

#include <errno.h>
#include <stdio.h>

#include "base/atomic.h"
#include "micro.h"

static at_word word_alone;
static weft_sem sem = WEFT_SEM_INIT(1);
static weft_rwlock lock;
static weft_event event_set_already, event_to_set;
static weft_notify notify;
static weft_waitgroup group;
static weft_once once;
static weft_promise promise;

static int atomic_round(void)
{
    return at_cas_acquire(&word_alone, 0, 1) && at_cas_release(&word_alone, 1, 0) ? 0 : -EBADMSG;
}

static int sem_round(void)
{
    int rc = weft_sem_acquire(&sem, 1);
    weft_sem_release(&sem, 1);
    return rc;
}

static int read_round(void)
{
    int rc = weft_rwlock_read(&lock);
    weft_rwlock_unlock(&lock);
    return rc;
}

static int write_round(void)
{
    int rc = weft_rwlock_write(&lock);
    weft_rwlock_unlock(&lock);
    return rc;
}

static int event_round(void)
{
    return weft_event_wait(&event_set_already);
}

static int event_set_round(void)
{
    weft_event_clear(&event_to_set);
    weft_event_set(&event_to_set);
    return weft_event_wait(&event_to_set);
}

static int notify_round(void)
{
    weft_notify_one(&notify);
    return weft_notify_wait(&notify);
}

static int waitgroup_round(void)
{
    weft_waitgroup_add(&group, 1);
    weft_waitgroup_done(&group);
    return weft_waitgroup_wait(&group);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int once_round(void)
{
    return weft_once_run(&once, nothing, NULL);
}

static int promise_round(void)
{
    return weft_promise_wait(&promise, NULL);
}

static const struct {
    const char *name;
    int (*round)(void);
} benches[] = { { "atomic", atomic_round }, { "sem", sem_round }, { "rwlock_read", read_round },
    { "rwlock_write", write_round }, { "event", event_round }, { "event_set", event_set_round },
    { "notify", notify_round }, { "waitgroup", waitgroup_round }, { "once", once_round },
    { "promise", promise_round } };
enum { BENCHES = sizeof benches / sizeof benches[0] };

struct run {
    int which;
    long ops;
    double ns;
};

static int measure(void *arg)
{
    struct run *r = arg;
    int (*round)(void) = benches[r->which].round, rc = 0;
    double start = now_ns();
    for (long i = 0; i < r->ops && rc == 0; i++)
        rc = round();
    r->ns = (now_ns() - start) / (double)r->ops;
    return rc;
}

int main(int argc, char **argv)
{
    static double ns[BENCHES][REPS_MAX];
    long ops = word(argv + (argc > 0), "ops", 5000000, 1, 1000000000);
    int reps = (int)word(argv + (argc > 0), "reps", 7, 1, REPS_MAX);
    weft_runtime *rt = NULL;
    int rc = weft_runtime_create(&rt, &(weft_options){ .workers = 1 });
    weft_event_set(&event_set_already);
    weft_promise_set(&promise, 0, NULL);
    for (int i = 0; i < reps; i++)
        for (int b = 0; b < BENCHES && rc >= 0; b++) {
            struct run r = { .which = b, .ops = ops };
            rc = weft_runtime_run(rt, measure, &r);
            ns[b][i] = r.ns;
        }
    weft_runtime_destroy(&rt);
    if (rc < 0) {
        fprintf(stderr, "micro_sync: %s\n", weft_strerror(rc));
        return 1;
    }
    for (int b = 0; b < BENCHES; b++) {
        char name[32];
        snprintf(name, sizeof name, "sync_%s", benches[b].name);
        print_line(name, 1, ops, reps, ns[b]);
    }
    return 0;
}
