/* event/offload.c - threads for calls that would block a worker.
 *
 * Owns      the queue of jobs and the threads, which are started on demand, one for each job that finds nobody idle, up to
 *           the pool's most. They stay until the pool ends, or end when they had nothing to do for long: an idle pool uses
 *           no CPU. A runtime has three of them (engine/runtime.c), and each lane of the program's is one (os/lane.c).
 * Callers   submit and withdraw: any thread. A job belongs to its submitter, in the queue only until it begins.
 * Holds     P1  a queued job has a thread that will look for it: one that was started for it, that was idle, or that is
 *               busy and looks again before it sleeps or ends. Both are decided under the lock.
 *           P2  each thread that ends joins the one that ended before it, so that whoever joins the last has joined all,
 *               and no array of them is needed.
 * Signals   are blocked in these threads, as in all of weft's; what is forked from them gets the program's mask.
 * Tested    tests/blocking_test.c, tests/lane_test.c */
#include "event/offload.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/thread.h"

at_int weft__pool_threads;

void weft__pool_init(struct weft__pool *p, const char *name, int most, const sigset_t *mask)
{
    snprintf(p->name, sizeof p->name, "weft-%.10s", name);
    p->most = most;
    p->room = INT_MAX;
    p->idle_ns = INT64_MAX;
    p->mask = mask;
    list_init(&p->jobs);
}

/* Under the lock, so there is no other writer. */
static void change(at_int *count, int by)
{
    ati_store(count, ati_load(count) + (uint32_t)by);
}

/* With the lock held, which it lets go and takes again. */
static void run(struct weft__pool *p, struct weft__job *job)
{
    change(&p->queued, -1);
    weft__unlock(&p->lock);
    job->run(job);
    weft__fork_expect_parent();
    weft__lock(&p->lock);
    change(&p->open, -1);
    if (ati_load(&p->open) == 0 && p->rests) { /* H3, H4 (engine/rest.c) */
        weft__unlock(&p->lock);
        p->rests(p);
        weft__lock(&p->lock);
    }
}

/* With the lock held, which it lets go and takes again. False: it had nothing to do for so long. */
static bool rest(struct weft__pool *p, int64_t until)
{
    uint32_t seen = ati_load(&p->posted);
    p->idle++;
    weft__unlock(&p->lock);
    bool in_time = weft__futex_wait(&p->posted, seen, until);
    weft__lock(&p->lock);
    p->idle--;
    return in_time;
}

/* With the lock held, for the last time: P2. */
static void leave(struct weft__pool *p)
{
    pthread_t before = p->left;
    bool has_before = p->has_left;
    p->left = pthread_self();
    p->has_left = true;
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
    int64_t until = 0; /* 0: it has just had something to do */
    for (bool in_time = true;;) {
        struct weft__link *l = list_pop_head(&p->jobs);
        if (l) {
            run(p, container_of(l, struct weft__job, link));
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

static int start_thread(struct weft__pool *p)
{
    pthread_t thread; /* joined as `left` */
    int rc = weft__thread_start(&thread, pool_thread, p);
    if (rc == 0) {
        change(&p->threads, 1);
        ati_add(&weft__pool_threads, 1);
    }
    return rc;
}

int weft__pool_submit(struct weft__pool *p, struct weft__job *job)
{
    int rc = 0;
    weft__lock(&p->lock);
    int threads = (int)ati_load(&p->threads), queued = (int)ati_load(&p->queued);
    bool wake = p->idle > queued;
    if (!wake && threads < p->most && (rc = start_thread(p)) < 0 && threads > 0)
        rc = 0;
    else if (!wake && threads >= p->most && queued >= p->room)
        rc = -EAGAIN;
    if (rc == 0) { /* P1 */
        list_push_tail(&p->jobs, &job->link);
        change(&p->queued, 1);
        change(&p->open, 1);
    }
    if (wake)
        ati_add(&p->posted, 1);
    weft__unlock(&p->lock);
    if (wake)
        weft__futex_wake(&p->posted, 1);
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
    ati_add(&p->posted, 1);
    bool wait = ati_load(&p->threads) > 0;
    weft__unlock(&p->lock);
    weft__futex_wake(&p->posted, INT_MAX);
    /* acquire: meets the release of the last thread's; what it wrote to `left` is seen. */
    while (wait && ati_load_acquire(&p->empty) == 0)
        weft__futex_wait(&p->empty, 0, INT64_MAX);
    if (p->has_left)
        pthread_join(p->left, NULL);
}
