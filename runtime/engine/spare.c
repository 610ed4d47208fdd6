/* engine/spare.c - more workers than were asked for, while those are held up.
 *
 * Owns      how many spares are in play: group.wanted, group.seats; that they are started.
 * Callers   the I/O thread; a worker's thread at its beginning.
 *
 * A task that computes for long, or blocks in a system call, holds its worker. What was ready there is stolen by the others;
 * but if nobody is left, all of it waits, and so do events and timers. Then the I/O thread brings a spare into play: a
 * worker like any other, with a ring, a deque and timers, which goes on as long as it is of use.
 *
 *           a worker is held     its turn has lasted a tick (1.9 ms)
 *           it is blocked        it is held, since the last look its thread has used less than an eighth of a processor,
 *                                and in this turn it was once seen to sleep
 *
 *     the I/O thread, once a tick, unless a worker is parked or searches
 *     Z1  nobody moves (all in play are held): harvests, since nobody else does; no event came: arms
 *     Z2  work waits, and
 *             those that are not blocked are fewer than cores, or
 *             nobody moves, and there are not more than `cores` spares in play that compute:
 *         one more: wanted = in play + 1; the first wanted one that rests is woken, counted as searching like any worker
 *         that is claimed (sched/idle.c), or a thread is started
 *     Z3  one is superfluous (a worker is parked; or more than one moves, and more than cores are not blocked) in three
 *         looks in a row: wanted = in play - 1
 *
 *     a spare
 *     Z4  its number is not below wanted: puts what it has where all find it, takes nothing any more, and goes
 *     Z5  has nothing to do, or goes: P1 to P5 of sched/idle.c. It is on no stack, and nobody claims it but Z2
 *
 * So nothing waits longer than two ticks while all workers are held, where a thread gets a processor; with a processor that
 * is free because a task blocks, no longer than three before it is used again. Who only computes is not multiplied: a
 * spare may take up a long turn itself, so one after the other is added, until there are twice as many threads that compute
 * as processors. Handing the held worker's place to another thread, as Go does, would save the second set of queues, and
 * cost each system call two atomic operations; here a call that blocks costs nothing before it has lasted a tick.
 *
 * A thread that is ready to run and has no processor uses none either: what tells it from one that sleeps is its state in
 * /proc, 8 us to read; so it is read only of those that use none, and no more of them than matters. Where there is no /proc
 * nobody is blocked, and spares come only when nobody moves.
 *
 * A spare is never ended before its runtime: it sleeps, as those do that have no work, and is the first to be used again.
 * Its queues and timers are looked at like those of every worker (group.seats). Nothing is pinned to it.
 *
 * Forbidden (Z2/Z5): a spare that goes is counted in play by Z2, which therefore brings none. Then the next tick sees it.
 * Source    Go's handoffp and sysmon for when; thread-per-held-worker without moving the queues is ours.
 * Tested    tests/spare_test.c, stress/spare.c, tests/explore/idle.c */
#include "engine/spare.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "engine/runtime.h"
#include "engine/worker.h"

enum { CALM_LOOKS = 3, IDLE_SHARE = 8, AGAIN_MS = 1000 };

/* Of a worker that was held, when it was seen last. */
struct weft__spare_sight {
    uint64_t turns;  /* of it; the sight is of the present turn if they are the same */
    int64_t at, cpu; /* ns; at 0: it was not held */
    bool slept;      /* in this turn */
};

struct sights {
    int spares, moving, held, blocked;
};

int weft__spares_init(struct weft_runtime *rt)
{
    rt->spares.sights = weft__mem_zeroed((size_t)rt->group.room * sizeof rt->spares.sights[0]);
    return rt->spares.sights ? 0 : -ENOMEM;
}

void weft__spares_fini(struct weft_runtime *rt)
{
    weft__mem_free(rt->spares.sights);
}

void weft__spares_know(struct weft__worker *w)
{
    clockid_t clock;
    if (pthread_getcpuclockid(pthread_self(), &clock) == 0)
        ati_store(&w->cpu_clock, (uint32_t)clock);
    ati_store(&w->tid, (uint32_t)syscall(SYS_gettid));
}

static int64_t cpu_time(struct weft__worker *w)
{
    struct timespec t;
    uint32_t clock = ati_load(&w->cpu_clock);
    if (clock == 0 || clock_gettime((clockid_t)clock, &t) != 0)
        return weft__now(); /* it is taken for one that computes */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The state is the first letter behind the name, which is in parentheses and may have some in it. */
static bool sleeps(struct weft__worker *w)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", ati_load(&w->tid));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *behind = strrchr(text, ')');
    return behind && (behind[2] == 'S' || behind[2] == 'D');
}

/* It is held. */
static bool is_blocked(struct weft__worker *w, struct weft__spare_sight *seen, bool matters)
{
    struct weft__spare_sight now = { .turns = at_load(&w->sched.count.ran), .at = weft__now(), .cpu = cpu_time(w) };
    bool same = seen->at != 0 && seen->turns == now.turns;
    int64_t passed = now.at - seen->at;
    if (same && passed < 500 * (int64_t)WEFT__TICK_US)
        return seen->slept; /* too short a time to say */
    if (same && IDLE_SHARE * (now.cpu - seen->cpu) < passed)
        now.slept = seen->slept || (matters && sleeps(w));
    *seen = now;
    return now.slept;
}

/* As many as there are cores need no closer look: that many are not blocked. */
static struct sights look(struct weft_runtime *rt)
{
    struct sights c = { 0 };
    uint64_t now = weft__group_ticks(&rt->group);
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++) {
        struct weft__sched *s = rt->group.all[i];
        uint64_t since = at_load(&s->since);
        if (ati_load(&s->resting))
            continue;
        c.spares += weft__sched_is_spare(s);
        if (since == 0 || (int64_t)(now - since) < (int64_t)weft__us_to_ticks(WEFT__TICK_US)) {
            rt->spares.sights[i].at = 0;
            c.moving++;
        } else {
            bool matters = c.moving + c.held - c.blocked < rt->group.n + rt->group.cores;
            c.held++;
            c.blocked += is_blocked(rt->workers[i], &rt->spares.sights[i], matters);
        }
    }
    return c;
}

/* A thread for the next seat. It is in play before it begins. */
static void start(struct weft_runtime *rt)
{
    struct weft__group *g = &rt->group;
    int seat = weft__group_seats(g);
    if (weft__now() < rt->spares.again)
        return;
    rt->spares.again = weft__now() + 1000000 * (int64_t)AGAIN_MS; /* if it fails */
    if (weft__runtime_seat(rt, seat) < 0)
        return;
    weft__idle_spare_begins(g);
    ati_store_release(&g->seats, (uint32_t)seat + 1);
    if (weft__thread_start(&rt->workers[seat]->thread, weft__worker_thread, rt->workers[seat]) == 0) {
        rt->spares.again = 0;
        return;
    }
    ati_store_release(&g->seats, (uint32_t)seat);
    weft__idle_spare_fails(g);
}

static void one_more(struct weft_runtime *rt, int in_play)
{
    struct weft__group *g = &rt->group;
    int seats = weft__group_seats(g), wanted = in_play + 1;
    ati_store(&g->wanted, (uint32_t)wanted);
    for (int i = g->n; i < g->n + wanted && i < seats; i++)
        if (weft__idle_claim_worker(g, g->all[i])) {
            weft__idle_wake(g, g->all[i]);
            return;
        }
    if (seats < g->n + wanted && seats < g->room)
        start(rt);
}

static bool seats_have_work(const struct weft__group *g)
{
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++)
        if (weft__sched_has_work(g->all[i]))
            return true;
    return false;
}

void weft__spares_look(struct weft_runtime *rt, bool work)
{
    struct weft__group *g = &rt->group;
    if (g->room == g->n)
        return;
    if (weft__idle_parked(&g->idle) > 0 && weft__idle_spares(&g->idle) == 0)
        return;
    struct sights c = look(rt);
    int running = c.moving + c.held - c.blocked;
    bool parked = weft__idle_parked(&g->idle) > 0;
    bool nobody = c.moving == 0 && !parked && weft__idle_searching(&g->idle) == 0;
    bool more = c.moving == 0 ? running < g->n + g->cores : running < g->cores;
    if (nobody && weft__io_attend(rt)) /* Z1 */
        work = true;
    if (!parked && more && weft__idle_searching(&g->idle) == 0) {
        rt->spares.calm = 0;
        if (work || seats_have_work(g))
            one_more(rt, c.spares);
    } else if (c.spares > 0 && (parked || (c.moving > 1 && running > g->cores))) {
        if (++rt->spares.calm >= CALM_LOOKS) {
            rt->spares.calm = 0;
            ati_store(&g->wanted, (uint32_t)c.spares - 1);
        }
    } else {
        rt->spares.calm = 0;
    }
}
