/* engine/spare.c - more workers than were asked for, while those are held up.
 *
 * Owns      how many spares are in play: group.wanted, group.seats; that they are started.
 * Callers   the I/O thread; a worker's thread at its beginning.
 *
 * A task that computes for long, or blocks in a system call, holds its worker. What was ready there is stolen by the others;
 * but if nobody is left, all of it waits, and so do events and timers. Then the I/O thread brings a spare into play: a
 * worker like any other, with a ring, a deque and timers, which goes on as long as it is of use.
 *
 *           a worker moves       its turn has lasted less than a tick (1.9 ms), or began after the last look; else
 *                                it is held:
 *           it computes          since the last look its thread has had more than an eighth of a processor
 *           it is blocked        it has had less, and in this turn it was seen to sleep
 *           it starves           it has had less, and would run: somebody else has its processor. A spare would have to wait,
 *                                too; but from STARVE_TICKS on it is taken for one that computes, since a turn that needs
 *                                little may last for ever where many others want the processors
 *
 *     the I/O thread, once a tick, unless a worker is parked or searches
 *     Z1  nobody moves or starves: harvests, since nobody else does; no event came: arms
 *     Z2  work waits, and
 *             those that are not blocked are fewer than `width`, the workers or the processors if those are fewer, or
 *             nobody moves or starves, and fewer than `width` of the spares compute:
 *         one more: wanted = in play + 1; the first wanted one that rests is woken, counted as searching like any worker
 *         that is claimed (sched/idle.c), or a thread is started
 *     Z3  for three ticks there was one too many (a worker is parked; or several move, and more than width are not
 *         blocked; or one moves, and more than width + 1 are not): wanted = the number of the last that is not blocked
 *
 *     a spare
 *     Z4  its number is not below wanted, and what was spawned on it has begun: it puts what it has where all find it,
 *         takes nothing any more, and goes. Until then it is a worker like any other
 *     Z5  has nothing to do, or goes: P1 to P5 of sched/idle.c. It is on no stack, and nobody claims it but Z2
 *
 * So nobody waits longer than two ticks because all workers are held, or STARVE_TICKS and two if one of them starves, and
 * then for a processor, unless others that hold a worker, too, are before it: each of them gets the next spare, a tick
 * later. A processor that is free because a task blocks is used again after three ticks. Who only computes is not
 * multiplied: a spare may take up a long turn itself, so one after the other is added, until as many spares compute as
 * there are processors.
 *
 * Handing a held worker's queues to another thread, as Go does, would save the second set of them, and cost each system call
 * two atomic operations; here a call that blocks costs nothing before it has lasted a tick.
 *
 * Of each in play the processor time of its thread is asked at each look, 0.35 us. What tells a thread that starves from one
 * that sleeps is its state in /proc, 8 us to read; so it is read only of those that use no processor, of each until it is seen
 * to sleep, and of four in one look. Without /proc nobody is said to starve.
 *
 * A spare is never ended before its runtime: it sleeps, as those do that have no work, and is the first to be used again.
 * Its queues and timers are looked at like those of every worker (group.seats). Nothing is pinned to it.
 *
 * Who is blocked uses no processor: that, too, is how many cores are free for whoever wakes a worker (group.blocked,
 * sched/idle.c). A look later it may be wrong; then there is a thread too many, or one is woken by the next tick.
 *
 * (Z2/Z5) A spare that goes is counted in play by Z2, which therefore brings none. The next tick sees it.
 * Source    Go's handoffp and sysmon for when; thread-per-held-worker without moving the queues is ours.
 * Tested    tests/spare_test.c, tests/explore/idle.c, stress/spare.c */
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

enum { CALM_TICKS = 3, STARVE_TICKS = 8, IDLE_SHARE = 8, CLOSER_LOOKS = 4, AGAIN_MS = 10, AGAIN_MOST_MS = 1000 };

#define MS INT64_C(1000000)

enum does { MOVES, COMPUTES, STARVES, BLOCKED };

/* Of a worker in play, when it was looked at last. */
struct weft__spare_sight {
    uint64_t turns;  /* of it: whether this was in the present one */
    int64_t at, cpu; /* ns; at 0: never */
    enum does does;
};

struct sights {
    int does[BLOCKED + 1]; /* how many of those in play */
    int spares, computing; /* how many of them are spares, and of those compute */
    int last;              /* spare that is not blocked, counted from 1; 0: there is none */
    bool work;             /* one that is held has some */
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
    return !behind || behind[2] == 'S' || behind[2] == 'D';
}

/* `closer`: how many more may be asked for their state. */
static enum does seen_to(struct weft__worker *w, struct weft__spare_sight *seen, bool held, int *closer)
{
    struct weft__spare_sight now = { .turns = at_load(&w->sched.count.ran), .at = weft__now(), .does = MOVES };
    held = held && seen->turns == now.turns; /* since the last look, too */
    if (held && now.at - seen->at < 500 * (int64_t)WEFT__TICK_US)
        return seen->does; /* too short a time to say more */
    now.cpu = cpu_time(w);
    if (held && IDLE_SHARE * (now.cpu - seen->cpu) >= now.at - seen->at)
        now.does = COMPUTES;
    else if (held && seen->does == BLOCKED)
        now.does = BLOCKED;
    else if (held)
        now.does = *closer > 0 && (*closer)-- > 0 && sleeps(w) ? BLOCKED : STARVES;
    *seen = now;
    return now.does;
}

static int width(const struct weft__group *g)
{
    return g->n < g->cores ? g->n : g->cores;
}

static void look_at(struct weft_runtime *rt, int i, uint64_t now, int *closer, struct sights *c)
{
    struct weft__sched *s = rt->group.all[i];
    uint64_t since = at_load(&s->since);
    int64_t tick = (int64_t)weft__us_to_ticks(WEFT__TICK_US), lasted = since != 0 ? (int64_t)(now - since) : 0;
    bool held = lasted >= tick;
    int spare = i - rt->group.n + 1;
    if (ati_load(&s->resting))
        return;
    enum does does = seen_to(rt->workers[i], &rt->spares.sights[i], held, closer);
    if (does == STARVES && lasted >= STARVE_TICKS * tick)
        does = COMPUTES;
    c->does[does]++;
    c->spares += spare > 0;
    c->computing += spare > 0 && does == COMPUTES;
    c->work |= held && weft__sched_has_work(s);
    if (does != BLOCKED && spare > c->last)
        c->last = spare;
}

/* The next look begins with those for whom this one had no closer look left. */
static struct sights look(struct weft_runtime *rt)
{
    struct sights c = { 0 };
    uint64_t now = weft__group_ticks(&rt->group);
    int closer = CLOSER_LOOKS, seats = weft__group_seats(&rt->group), first = rt->spares.first;
    for (int k = 0; k < seats; k++) {
        int i = (first + k) % seats;
        look_at(rt, i, now, &closer, &c);
        if (closer > 0)
            rt->spares.first = i;
    }
    return c;
}

/* A thread for the next seat. It is in play, and looked at by all, before it begins; who looked in vain has lost nothing. */
static void start(struct weft_runtime *rt)
{
    struct weft__group *g = &rt->group;
    struct weft__spares *p = &rt->spares;
    int seat = weft__group_seats(g);
    if (weft__now() < p->again || weft__runtime_seat(rt, seat) < 0)
        return;
    weft__idle_spare_begins(g);
    ati_store_release(&g->seats, (uint32_t)seat + 1);
    if (weft__thread_start(&rt->workers[seat]->thread, weft__worker_thread, rt->workers[seat]) == 0) {
        p->pause = 0;
        return;
    }
    ati_store_release(&g->seats, (uint32_t)seat);
    weft__idle_spare_fails(g);
    p->pause = p->pause == 0 ? AGAIN_MS * MS : p->pause < AGAIN_MOST_MS * MS ? 2 * p->pause : p->pause;
    p->again = weft__now() + p->pause;
}

/* Z2 */
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

/* Z3 */
static void one_less(struct weft_runtime *rt, int last)
{
    int64_t now = weft__now();
    if (rt->spares.calm_since == 0)
        rt->spares.calm_since = now;
    if (now - rt->spares.calm_since < CALM_TICKS * 1000 * (int64_t)WEFT__TICK_US)
        return;
    rt->spares.calm_since = 0;
    ati_store(&rt->group.wanted, last > 0 ? (uint32_t)last - 1 : 0);
}

/* What any worker may take that is free; of one that moves, not what it keeps to itself. */
static bool work_to_take(const struct weft__group *g)
{
    for (int i = 0, seats = weft__group_seats(g); i < seats; i++)
        if (weft__ready_len(&g->all[i]->ring) > 0 || weft__deque_size(&g->all[i]->deque) > 0)
            return true;
    return false;
}

static void tell_blocked(struct weft__group *g, int blocked)
{
    if ((uint32_t)blocked != ati_load(&g->blocked)) /* its line is everybody's */
        ati_store(&g->blocked, (uint32_t)blocked);
}

void weft__spares_look(struct weft_runtime *rt, bool work)
{
    struct weft__group *g = &rt->group;
    bool parked = weft__idle_parked(&g->idle) > 0;
    if (g->room == g->n)
        return;
    if (parked && weft__idle_spares(&g->idle) == 0) {
        tell_blocked(g, 0);
        return;
    }
    struct sights c = look(rt);
    int moving = c.does[MOVES], running = moving + c.does[STARVES] + c.does[COMPUTES];
    bool away = parked || weft__idle_searching(&g->idle) > 0, nobody = moving + c.does[STARVES] == 0;
    tell_blocked(g, c.does[BLOCKED]);
    if (nobody && !away && weft__io_attend(rt)) /* Z1 */
        work = true;
    bool few = running < width(g) || (nobody && c.computing < width(g));
    bool many = parked || (moving > 1 && running > width(g)) || (moving > 0 && running > width(g) + 1);
    if (c.spares > 0 && many && !few) {
        one_less(rt, c.last);
        return;
    }
    rt->spares.calm_since = 0;
    if (few && !away && (work || c.work || work_to_take(g)))
        one_more(rt, c.spares);
}
