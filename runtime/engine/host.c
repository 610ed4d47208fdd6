/* engine/host.c - a runtime that is driven by somebody else's loop.
 *
 * Owns      the bell, an eventfd that can be read while there is something to do, and whether the one worker is parked.
 * Callers   the host: the thread that made the runtime, which is the worker's thread too. ring: whoever wakes a worker.
 *
 * The I/O thread, the pools and all that wakes are those of any runtime; of the idle protocol (sched/idle.c) only P5 differs:
 *
 *     the host                                     whoever wakes its worker
 *     P1 to P4 as ever, and then it returns        S5  wake = 1
 *     B1  reads the bell empty                     B2  adds to the bell
 *     B3  parked, and wake == 0? nothing to do
 *     B4  else the worker is awake; it runs. If more is ready in the end, it adds to the bell
 *
 * Forbidden (B1/B2): the worker was woken, the host has found wake == 0, and the bell is empty. B2 comes after S5, and B1
 * before B3; so a B2 that B1 has undone is one whose S5 B3 sees, by the kernel's lock of the eventfd. A B2 that comes later is
 * a bell too many, and that is all.
 *
 * A host that waits in weft runs its tasks meanwhile, for they may be what it waits for: it sleeps on two words, its own and
 * the worker's. Then it is no outside hand any more (engine/rest.c), as long as it does not wait until a time of its own.
 * Tested    tests/explore (idle/hosted), tests/host_test.c, stress/host.c, examples/frame_loop.c */
#include "engine/host.h"

#include <errno.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <weft/runtime.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fork.h"
#include "engine/rest.h"
#include "engine/worker.h"

enum { STEP_US = 1000, SLICE_NS = 1000000 };

static at_int hosted; /* manual runtimes in the process */

static void ring(struct weft__group *g)
{
    uint64_t one = 1;
    if (write(weft__runtime_of(g)->host.bell, &one, sizeof one) < 0)
        return; /* it is full: it can be read */
}

int weft__host_begin(struct weft_runtime *rt)
{
    struct weft__worker *w = rt->workers[0];
    rt->host.thread = pthread_self();
    rt->host.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rt->host.bell < 0)
        return -weft__errno();
    rt->group.idle.ring = ring;
    weft__worker_settle(w);
    weft__idle_announce(&w->sched);
    ati_store(&w->sched.asleep, 1);
    rt->host.parked = true;
    rt->host.begun = true;
    ati_add(&hosted, 1);
    return 0;
}

static bool step(struct weft_runtime *rt)
{
    struct weft__worker *w = rt->workers[0];
    uint64_t rings;
    if (read(rt->host.bell, &rings, sizeof rings) < 0) /* B1 */
        rings = 0;
    if (rt->host.parked && !weft__idle_woken(&w->sched))
        return false; /* B3 */
    ati_store(&w->sched.asleep, 0);
    weft__fp_save(w->sched.loop.fp); /* the host's, as they are now */
    weft__self_set(&w->sched);
    bool more = weft__worker_run(w, weft__us_to_ticks(STEP_US)); /* B4 */
    weft__self_set(NULL);
    rt->host.parked = !more;
    ati_store(&w->sched.asleep, !more);
    if (more)
        ring(&rt->group);
    return more;
}

void weft__host_stop(struct weft_runtime *rt)
{
    struct weft__sched *s = &rt->workers[0]->sched;
    if (!rt->host.begun)
        return;
    if (weft__idle_claim_worker(&rt->group, s))
        weft__idle_wake(&rt->group, s);
    do {
        step(rt);
    } while (!rt->host.parked);
}

bool weft__is_host(const struct weft_runtime *rt)
{
    return rt->host.begun && pthread_equal(rt->host.thread, pthread_self());
}

/* The next runtime, after one of them or NULL, that the calling thread is the host of; they stay as long as it is here. */
static struct weft_runtime *next_mine(struct weft_runtime *after)
{
    weft__lock(&weft__runtimes_lock);
    struct weft_runtime *rt = after ? after->next : weft__runtimes;
    while (rt && !weft__is_host(rt))
        rt = rt->next;
    weft__unlock(&weft__runtimes_lock);
    return rt;
}

void weft__host_end(struct weft_runtime *rt)
{
    if (!rt->host.begun)
        return;
    ati_add(&hosted, (uint32_t)-1);
    weft__worker_leave(rt->workers[0]);
    /* If that was the thread's alternate signal stack, the others have none. */
    struct weft_runtime *other = next_mine(NULL);
    while (other && (other == rt || !other->crash_report))
        other = next_mine(other);
    if (other && !other->workers[0]->signal_stack)
        weft__crash_thread_begin(&other->workers[0]->signal_stack);
}

void weft__host_close(struct weft_runtime *rt)
{
    if (rt->host.bell >= 0)
        close(rt->host.bell);
}

/* The first one counts the host as a thread that rests, if nobody else does. */
static bool step_all(struct weft_runtime *first, enum weft__host_rests rests)
{
    bool more = false;
    for (struct weft_runtime *rt = first; rt; rt = next_mine(rt)) {
        /* release: meets the acquire in weft__hands_rest; what was done before is seen there. */
        ati_store_release(&rt->host.rests, rests);
        rests = rests == WEFT__HOST_RESTS ? WEFT__HOST_OWNS : rests;
        more |= step(rt);
    }
    return more;
}

bool weft__host_wait(at_int *word, uint32_t value, int64_t until, enum weft__host_rests rests)
{
    struct weft_runtime *first = ati_load(&hosted) > 0 && !weft__self() ? next_mine(NULL) : NULL;
    bool in_time;
    if (!first)
        return weft__futex_wait(word, value, until);
    if (step_all(first, rests) || ati_load_acquire(word) != value) {
        in_time = weft__now() < until;
    } else {
        for (struct weft_runtime *rt = rests != WEFT__HOST_ACTS ? first : NULL; rt; rt = next_mine(rt))
            weft__hand_gone(rt);
        int64_t soon = weft__now() + SLICE_NS;
        if (!next_mine(first))
            in_time = weft__futex_wait_two(word, value, &first->workers[0]->sched.wake, 0, until);
        else
            in_time = weft__futex_wait(word, value, soon < until ? soon : until) || soon < until;
    }
    for (struct weft_runtime *rt = first; rt; rt = next_mine(rt))
        ati_store(&rt->host.rests, WEFT__HOST_ACTS);
    return in_time;
}

int weft__host_slice(int ms)
{
    struct weft_runtime *first = ati_load(&hosted) > 0 && !weft__self() ? next_mine(NULL) : NULL;
    if (!first)
        return ms;
    return step_all(first, WEFT__HOST_ACTS) ? 0 : 1;
}

/* ---- the public calls */

/* 0, or why the calling thread may not. */
static int may_drive(weft_runtime *rt)
{
    if (weft__forked)
        return -ECHILD;
    if (!rt || !rt->manual)
        return -EINVAL;
    if (weft__self())
        return -EDEADLK;
    return weft__is_host(rt) ? 0 : -EPERM;
}

int weft_runtime_step(weft_runtime *rt)
{
    int rc = may_drive(rt);
    return rc < 0 ? rc : step(rt);
}

int weft_runtime_fd(weft_runtime *rt)
{
    if (weft__forked)
        return -ECHILD;
    return rt && rt->manual ? rt->host.bell : -EINVAL;
}

int weft_runtime_wait_ms(weft_runtime *rt)
{
    int rc = may_drive(rt);
    if (rc < 0)
        return rc == -EPERM ? -EINVAL : rc; /* that one is -1 */
    const struct weft__worker *w = rt->workers[0];
    if (!rt->host.parked || ati_load(&w->sched.wake) != 0)
        return 0;
    int64_t at = weft__timers_earliest(&w->timers);
    if (at == INT64_MAX)
        return -1;
    /* If it is due, the I/O thread is about to ring. */
    int64_t left = at - weft__clock_now(&w->sched.group->clock), ms = left > 0 ? (left + 999999) / 1000000 : 1;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}
