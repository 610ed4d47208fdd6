/* event/offload.c - threads for calls that would block a worker.
 *
 * Owns      the queue of jobs and the threads, which are started on demand, up to the pool's most. They stay until the pool
 *           ends, or end when they had nothing to do for long: an idle pool uses no CPU. A runtime has three of them
 *           (engine/runtime.c), and each lane of the program's is one (os/lane.c); weft_lane_options says how any is to be.
 * Callers   submit and withdraw: any thread. A job belongs to its submitter, in the queue only until it begins.
 * Holds     P1  while a job is queued, a thread is coming that will look for it, or no thread is idle and no more can be had.
 *               Who submits a job and finds nobody coming calls one, or starts one; who comes and takes a job calls the next
 *               one if there are more, before it runs its own, which may block. All that is decided under the lock.
 *           P2  each thread that ends joins the one that ended before it, so that whoever joins the last has joined all,
 *               and no array of them is needed.
 *           P3  a resting thread is in `resting` until it is called, or finds under the lock that nobody did in time.
 *           P4  a queued job waits for a thread if all are busy that there may be. So the bound is on what is queued beyond
 *               those that are not, or that can be started; and `busy` goes down before the caller hears of it, who may come
 *               again at once: as many callers as threads and room are never refused.
 *           P5  who takes a job when it is done with one takes it under the hold of the lock under which it counts itself
 *               off, tells of the first, and runs the other then: one hold for each job. Who finds none is `coming` while it
 *               tells, so that nobody is called for what the caller submits next.
 * Calls     one at a time: short jobs are done by few threads that stay awake, since those come before the next is there.
 *           With 64 tasks an empty call takes 1 us, and took 5 when each job called a thread of its own. The price is that the
 *           threads of k jobs that block come one after the other, each after the wake of the one before.
 * Starts    are made under the lock, though they are system calls. Outside of it, a thread that is about to be started would
 *           be counted on (P1) by whoever submits meanwhile, and may not be had: their jobs, taken already, would have nobody,
 *           or who failed would have to find them somebody else. So a start holds up those who submit at that moment, once
 *           for each thread of a pool.
 * Signals   are blocked in these threads, as in all of weft's; what is forked from them gets the program's mask.
 * Tested    tests/blocking_test.c, tests/lane_test.c, tests/explore/pool.c */
#include "event/offload.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/thread.h"

enum { THREADS_MOST = 1024 };

at_int weft__pool_threads;

bool weft__pool_valid(const weft_lane_options *o)
{
    return weft__reserved_zero(o) && o->threads >= 0 && o->threads <= THREADS_MOST && o->queue >= 0 && o->idle >= 0;
}

void weft__pool_init(struct weft__pool *p, const weft_lane_options *o, const struct weft__pool_usual *usual, const sigset_t *mask)
{
    static const weft_lane_options defaults;
    o = o ? o : &defaults;
    snprintf(p->name, sizeof p->name, "weft-%.10s", o->name ? o->name : usual->name);
    p->most = o->threads > 0 ? o->threads : usual->threads;
    p->room = o->queue > 0 && !o->wait_for_room ? o->queue : INT_MAX;
    p->idle_ns = o->idle > 0 ? o->idle : usual->idle;
    p->mask = mask;
    list_init(&p->jobs);
    list_init(&p->resting);
}

/* Under the lock, so there is no other writer. */
static void change(at_int *count, int by)
{
    ati_store(count, ati_load(count) + (uint32_t)by);
}

/* The same. */
static void count(at_word *calls)
{
    at_store(calls, at_load(calls) + 1);
}

/* A thread that has nothing to do; on its stack. */
struct rester {
    struct weft__link link;
    at_int called; /* futex word */
};

static void unlock_and_wake(struct weft__pool *p, struct rester *r)
{
    weft__unlock(&p->lock);
    if (r) /* it may have seen the word and be gone: then nobody is woken, or somebody looks at another word once more */
        weft__futex_wake(&r->called, 1);
}

static void *pool_thread(void *arg);

static int start_thread(struct weft__pool *p)
{
    pthread_t thread; /* joined as `last` */
    int rc = weft__thread_start(&thread, pool_thread, p);
    if (rc == 0) {
        change(&p->threads, 1);
        ati_add(&weft__pool_threads, 1);
    }
    return rc;
}

/* P3, with the lock held. Whom to wake when the lock is free; NULL: nobody rests. */
static struct rester *call_rester(struct weft__pool *p)
{
    struct weft__link *l = list_pop_head(&p->resting);
    if (!l)
        return NULL;
    struct rester *r = container_of(l, struct rester, link);
    p->idle--;
    p->coming++;
    ati_store(&r->called, 1);
    return r;
}

/* P1, with the lock held. Whom to wake when the lock is free; NULL: nobody, or one was started. */
static struct rester *call_one(struct weft__pool *p, int *rc)
{
    *rc = 0;
    if (p->coming > 0 || list_empty(&p->jobs))
        return NULL;
    struct rester *r = call_rester(p);
    if (!r && (int)ati_load(&p->threads) < p->most && (*rc = start_thread(p)) == 0)
        p->coming++;
    return r;
}

/* With the lock held. NULL: none is queued. */
static struct weft__job *next_job(struct weft__pool *p)
{
    struct weft__link *l = list_pop_head(&p->jobs);
    return l ? container_of(l, struct weft__job, link) : NULL;
}

/* With the lock held, which it lets go. */
static void begin(struct weft__pool *p)
{
    int rc; /* that no thread can be had is no error of this job */
    change(&p->queued, -1);
    p->busy++;
    unlock_and_wake(p, call_one(p, &rc));
}

/* With the lock held, which it lets go and takes again. */
static void told_last(struct weft__pool *p, void (*tell)(void *, uint64_t), void *whom, uint64_t ran)
{
    p->coming++;
    weft__unlock(&p->lock);
    tell(whom, ran);
    weft__lock(&p->lock);
    change(&p->open, -1);
    if (ati_load(&p->open) == 0 && p->rests) { /* H3, H4 (engine/rest.c) */
        weft__unlock(&p->lock);
        p->rests(p);
        weft__lock(&p->lock);
    }
    p->coming--; /* the queue is looked at next, under the same hold of the lock */
}

/* One after the other while there are any: P5. With the lock held, which it lets go and takes again. */
static void run(struct weft__pool *p, struct weft__job *job)
{
    begin(p);
    for (;;) {
        void (*tell)(void *, uint64_t) = job->tell;
        void *whom = job->whom;
        uint64_t ran = job->run(job);
        weft__fork_expect_parent();
        weft__lock(&p->lock);
        p->busy--; /* P4 */
        count(&p->made);
        struct weft__job *next = next_job(p);
        if (!next) {
            told_last(p, tell, whom, ran);
            return;
        }
        change(&p->open, -1); /* not the last that is open: the next one is */
        begin(p);
        tell(whom, ran);
        job = next;
    }
}

/* With the lock held, which it lets go and takes again. False: it had nothing to do for so long. */
static bool rest(struct weft__pool *p, int64_t until)
{
    struct rester r;
    bool in_time = true;
    ati_store(&r.called, 0);
    list_push_head(&p->resting, &r.link);
    p->idle++;
    weft__unlock(&p->lock);
    while (in_time && ati_load(&r.called) == 0)
        in_time = weft__futex_wait(&r.called, 0, until);
    weft__lock(&p->lock);
    if (ati_load(&r.called) != 0) { /* P3 */
        p->coming--;
        return true;
    }
    list_remove(&r.link);
    p->idle--;
    return false;
}

/* With the lock held, for the last time: P2. */
static void leave(struct weft__pool *p)
{
    pthread_t before = p->last;
    bool has_before = p->has_last;
    p->last = pthread_self();
    p->has_last = true;
    change(&p->threads, -1);
    ati_add(&weft__pool_threads, (uint32_t)-1);
    bool last = p->stopping && ati_load(&p->threads) == 0;
    weft__unlock(&p->lock);
    if (last) { /* the pool stays until this thread is joined */
        ati_store_release(&p->empty, 1); /* meets the acquire in weft__pool_fini */
        weft__futex_wake(&p->empty, 1);
    }
    if (has_before)
        pthread_join(before, NULL);
}

static void *pool_thread(void *arg)
{
    struct weft__pool *p = arg;
    pthread_setname_np(pthread_self(), p->name);
    weft__fork_mask_use(p->mask);
    weft__lock(&p->lock);
    p->coming--;
    int64_t until = 0; /* 0: it has just had something to do */
    for (bool in_time = true;;) {
        struct weft__job *job = next_job(p);
        if (job) {
            run(p, job);
            until = 0;
            in_time = true;
        } else if (p->stopping || !in_time) {
            leave(p);
            return NULL;
        } else {
            if (until == 0)
                until = p->idle_ns == INT64_MAX ? INT64_MAX : weft__time_add(weft__now(), p->idle_ns);
            in_time = rest(p, until);
        }
    }
}

/* P4, with the lock held. Whether more wait than there is room for, where there may be so many threads. */
static bool is_over(struct weft__pool *p, int threads)
{
    return p->room != INT_MAX && (int)ati_load(&p->queued) - (threads - p->busy) > p->room;
}

int weft__pool_submit(struct weft__pool *p, struct weft__job *job)
{
    int rc = 0;
    struct rester *called = NULL;
    weft__lock(&p->lock);
    int threads = (int)ati_load(&p->threads);
    list_push_tail(&p->jobs, &job->link);
    change(&p->queued, 1);
    change(&p->open, 1);
    bool over = is_over(p, p->most);
    if (!over)
        called = call_one(p, &rc);
    if (rc < 0 && threads > 0) { /* those that there are will look */
        over = is_over(p, threads);
        rc = 0;
    }
    if (over)
        rc = -EAGAIN;
    if (rc < 0) {
        list_remove(&job->link);
        change(&p->queued, -1);
        change(&p->open, -1);
        count(&p->refused);
    }
    unlock_and_wake(p, called);
    return rc;
}

bool weft__pool_withdraw(struct weft__pool *p, struct weft__job *job)
{
    weft__lock(&p->lock);
    bool mine = list_linked(&job->link);
    if (mine) {
        list_remove(&job->link);
        change(&p->queued, -1);
        change(&p->open, -1);
    }
    weft__unlock(&p->lock);
    return mine;
}

void weft__pool_fini(struct weft__pool *p)
{
    weft__lock(&p->lock);
    p->stopping = true;
    bool wait = ati_load(&p->threads) > 0;
    for (struct rester *r; (r = call_rester(p)); weft__lock(&p->lock))
        unlock_and_wake(p, r);
    weft__unlock(&p->lock);
    /* acquire: meets the release of the last thread's; what it wrote to `last` is seen. */
    while (wait && ati_load_acquire(&p->empty) == 0)
        weft__futex_wait(&p->empty, 0, INT64_MAX);
    if (p->has_last)
        pthread_join(p->last, NULL);
}
