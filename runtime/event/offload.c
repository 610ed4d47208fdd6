/* event/offload.c - threads for calls that would block a worker.
 *
 * Owns      the queue of jobs and the threads, which are started on demand, one for each job that finds nobody
 *           idle, up to WEFT__POOL_MOST, and stay until the runtime ends: an idle pool uses no CPU.
 * Callers   submit and withdraw: any thread. A job belongs to its submitter, in the queue only until it begins.
 * Signals   are blocked in these threads, as in all of weft's; what is forked from them gets the program's mask. */
#include "event/offload.h"

#include <errno.h>
#include <signal.h>

#include "base/fault.h"
#include "base/fork.h"

void weft__pool_init(struct weft__pool *p, const sigset_t *mask)
{
    p->mask = mask;
    list_init(&p->jobs);
}

/* Under the lock, so there is no other writer. */
static void change(at_int *count, int by)
{
    ati_store(count, ati_load(count) + (uint32_t)by);
}

static void *pool_thread(void *arg)
{
    struct weft__pool *p = arg;
    weft__fork_mask_use(p->mask);
    weft__lock(&p->lock);
    for (;;) {
        struct weft__link *l = list_pop_head(&p->jobs);
        if (l) {
            change(&p->queued, -1);
            weft__unlock(&p->lock);
            struct weft__job *job = container_of(l, struct weft__job, link);
            job->run(job);
            weft__fork_expect_parent();
            weft__lock(&p->lock);
            change(&p->open, -1);
            if (ati_load(&p->open) == 0 && p->rests) { /* H3, H4 (engine/rest.c) */
                weft__unlock(&p->lock);
                p->rests(p);
                weft__lock(&p->lock);
            }
        } else if (p->stopping) {
            weft__unlock(&p->lock);
            return NULL;
        } else {
            uint32_t seen = ati_load(&p->posted);
            p->idle++;
            weft__unlock(&p->lock);
            weft__futex_wait(&p->posted, seen, INT64_MAX);
            weft__lock(&p->lock);
            p->idle--;
        }
    }
}

static int start_thread(struct weft__pool *p)
{
    sigset_t all, before;
    sigfillset(&all);
    int rc = -weft__fault(WEFT__FAULT_THREAD);
    if (rc == 0) {
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = pthread_create(&p->thread[ati_load(&p->threads)], NULL, pool_thread, p);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (rc == 0)
        change(&p->threads, 1);
    return -rc;
}

int weft__pool_submit(struct weft__pool *p, struct weft__job *job)
{
    int rc = 0;
    weft__lock(&p->lock);
    int threads = (int)ati_load(&p->threads);
    bool wake = p->idle > (int)ati_load(&p->queued);
    if (!wake && threads < WEFT__POOL_MOST && (rc = start_thread(p)) < 0 && threads > 0)
        rc = 0;
    if (rc == 0) {
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
    int n = (int)ati_load(&p->threads);
    weft__unlock(&p->lock);
    weft__futex_wake(&p->posted, WEFT__POOL_MOST);
    for (int i = 0; i < n; i++)
        pthread_join(p->thread[i], NULL);
}
