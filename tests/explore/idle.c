/* idle.c - sched/idle and sched/inject: no task waits while all workers sleep, or behind another's long turn. */
#include "scenarios.h"

#include "sched/sched.h"

enum { WORKERS = 2, TASKS = 4 };

static struct weft__group g;
static struct weft__sched s[WORKERS];
static struct weft__sched *all[WORKERS], *parked[WORKERS];
static unsigned char ran[TASKS], all_ran, wanted;
static unsigned char sleeping;             /* bits of workers */
static unsigned char published, io_blocks; /* there is something to see; the I/O thread waits without a tick */
static bool long_task;  /* task 0 runs until all others have run */
static unsigned char kicks;
/* The bell of a host. The kernel's lock of an eventfd orders a write and the read that finds it. */
static at_word bell;
static unsigned char rings;

static void kick(void *io)
{
    (void)io;
    kicks++;
}

static void ring(struct weft__group *of)
{
    (void)of;
    at_add(&bell, 1);
    rings++;
}

static void setup(unsigned char tasks, bool with_long, int cores)
{
    people_reset();
    memset(&g, 0, sizeof g);
    memset(s, 0, sizeof s);
    memset(ran, 0, sizeof ran);
    all_ran = kicks = rings = 0;
    at_store(&bell, 0);
    sleeping = published = io_blocks = 0;
    wanted = tasks;
    long_task = with_long;
    g.n = WORKERS;
    g.cores = cores;
    g.all = all;
    g.idle.stack = parked;
    g.idle.kick = kick;
    for (int i = 0; i < WORKERS; i++) {
        all[i] = &s[i];
        s[i].group = &g;
        s[i].id = (uint32_t)i;
        if (weft__deque_init(&s[i].deque, 2) < 0)
            abort();
    }
    ex_ghost(ran, sizeof ran);
    ex_ghost(&all_ran, sizeof all_ran);
    ex_ghost(&kicks, sizeof kicks);
    ex_ghost(&rings, sizeof rings);
    ex_ghost(&sleeping, sizeof sleeping);
    ex_ghost(&published, sizeof published);
    ex_ghost(&io_blocks, sizeof io_blocks);
}

static void one_task(void)
{
    setup(1, false, 2);
}
static void two_tasks(void)
{
    setup(2, false, 2);
}
static void a_long_one(void)
{
    setup(2, true, 2);
}

/* s[0] is the only worker, s[1] its spare, in play. */
static void a_spare(void)
{
    setup(1, false, 2);
    g.n = 1;
    g.room = 2;
    ati_store(&g.seats, 2);
    ati_store(&g.wanted, 1);
    weft__idle_spare_begins(&g);
}
static void a_dismissed_spare(void)
{
    a_spare();
    ati_store(&g.wanted, 0);
}
static void a_spare_and_a_long_one(void)
{
    a_spare();
    wanted = 2;
    long_task = true;
}
static void a_spare_alone(void)
{
    a_spare();
    weft__idle_announce(&s[0]);
}

/* Its one worker is parked, and on the thread of a host. */
static void a_host(void)
{
    setup(2, false, 2);
    g.n = 1;
    g.idle.ring = ring;
    weft__idle_announce(&s[0]);
}

static bool others_ran(int unused)
{
    (void)unused;
    return all_ran >= wanted - 1;
}

static bool all_have_run(void)
{
    return all_ran == wanted;
}

static void run(uint32_t task)
{
    if (ran[task]++)
        ex_fail("task %u runs twice", task);
    if (task == 0 && long_task)
        ex_until(others_ran, 0, "the others, in a long turn");
    all_ran++;
}

static bool take(struct weft__sched *me)
{
    uint32_t task;
    if (weft__inject_take(&g.inject, &task, 1) == 0 && weft__inject_take(&me->pinned, &task, 1) == 0 &&
            !weft__ready_pop(&me->ring, &task))
        return false;
    weft__idle_found(me);
    run(task);
    return true;
}

/* P3, as far as it concerns these queues. */
static bool in_sight(struct weft__sched *me)
{
    return weft__inject_len(&g.inject) > 0 || at_load(&me->pinned.count) > 0 || weft__ready_len(&me->ring) > 0;
}

/* engine/worker.c, without what it polls and steals. */
static void worker(struct weft__sched *me)
{
    for (;;) {
        while (take(me))
            ;
        if (!weft__sched_dismissed(me) && weft__idle_search(me) && take(me))
            continue;
        weft__idle_announce(me);
        if (in_sight(me)) {
            if (weft__sched_dismissed(me))
                weft__idle_notify(&g);
            else if (weft__idle_retract(me))
                continue;
        }
        sleeping = (unsigned char)(sleeping | 1 << me->id);
        weft__idle_sleep(me);
        sleeping = (unsigned char)(sleeping & ~(1 << me->id));
    }
}

/* As weft__group_put does. */
static void put(uint32_t task)
{
    weft__inject_put(&g.inject, task, task, 1); /* S1 */
    weft__idle_notify(&g);
}

/* Thread 0 is the worker, the others publish one task each. */
static void one_worker(int me)
{
    if (me == 0)
        worker(&s[0]);
    else
        put((uint32_t)me - 1);
}

static void two_workers(int me)
{
    if (me < WORKERS)
        worker(&s[me]);
    else
        put((uint32_t)(me - WORKERS));
}

/* Pinned: only one worker may run it, and the publisher claims that one. */
static void pinned(int me)
{
    if (me == 0) {
        worker(&s[0]);
        return;
    }
    weft__inject_put(&s[0].pinned, 0, 0, 1);
    at_fence_full();
    if (weft__idle_parked(&g.idle) > 0 && weft__idle_claim_worker(&g, &s[0]))
        weft__idle_wake(&g, &s[0]);
}

/* The I/O thread hands out a batch: it fills the ring of a worker that it has claimed. The worker, awake, pushes to its
 * ring itself. */
static void handed_out(int me)
{
    if (me == 0) {
        weft__idle_announce(&s[0]);
        if (!(in_sight(&s[0]) && weft__idle_retract(&s[0])))
            weft__idle_sleep(&s[0]);
        ex_expect(weft__ready_push(&s[0].ring, 1));
        while (take(&s[0]))
            ;
        return;
    }
    struct weft__sched *claimed = weft__idle_searching(&g.idle) == 0 ? weft__idle_claim(&g) : NULL;
    if (!claimed) {
        put(0);
        return;
    }
    ex_expect(weft__ready_push(&claimed->ring, 0));
    weft__idle_wake(&g, claimed);
}

static void check_all_ran(void)
{
    if (!all_have_run())
        ex_fail("a task is lost");
}

static bool kicked(int unused)
{
    (void)unused;
    return kicks > 0;
}

/* T1, T2 against S4, S6 and U: the I/O thread blocks without a tick only while all are parked. Here the only worker
 * parks, is made awake by a task or finds it at P3, and stays awake. */
static void blocks(int me)
{
    if (me == 0) {
        weft__idle_announce(&s[0]);
        if (!(in_sight(&s[0]) && weft__idle_retract(&s[0])))
            weft__idle_sleep(&s[0]);
    } else if (me == 1) {
        put(0);
    } else if (weft__idle_parked(&g.idle) == 1) {
        ati_store_release(&g.idle.io_blocked, 1); /* T1 */
        at_fence_full();
        if (weft__idle_parked(&g.idle) == 1) /* T2 */
            ex_until(kicked, 0, "a kick, in a wait without a tick, behind a worker that is awake");
    }
}

/* A spare goes while a publisher relies on its search, or on there being somebody; a dismissed one takes nothing along. */
static void spare_goes(int me)
{
    if (me == 1 && weft__sched_dismissed(&s[1]))
        own_set(s[1].searching, weft__idle_search(&s[1])); /* it was told so only then */
    if (me < 2)
        worker(&s[me]);
    else
        put(0);
}

static bool tick_is_due(int unused)
{
    (void)unused;
    return others_ran(0) || (published && (sleeping & 2) != 0);
}

/* Z2 against Z5: the worker is held, and the spare goes or has gone when a task comes. The I/O thread looks as often as there
 * may be something to see. */
static void spare_comes(int me)
{
    if (me == 0) {
        run(0);
    } else if (me == 1) {
        worker(&s[1]);
    } else if (me == 2) {
        put(1);
        published = 1;
    } else {
        while (!others_ran(0)) {
            ex_until(tick_is_due, 0, "a task, and a spare that sleeps");
            at_fence_full(); /* a tick later it sees what was put before */
            if (weft__inject_len(&g.inject) > 0 && weft__idle_claim_worker(&g, &s[1])) {
                sleeping = 0;
                weft__idle_wake(&g, &s[1]);
            }
        }
    }
}

/* As `blocks`; the worker sleeps, and who finds the task at P3 is the spare. */
static void spare_blocks(int me)
{
    if (me == 0) {
        weft__idle_announce(&s[1]);
        if (!(in_sight(&s[1]) && weft__idle_retract(&s[1])))
            weft__idle_sleep(&s[1]);
    } else if (me == 1) {
        put(0);
    } else if (weft__group_all_parked(&g)) {
        ati_store_release(&g.idle.io_blocked, 1); /* T1 */
        at_fence_full();
        if (weft__group_all_parked(&g)) { /* T2 */
            io_blocks = 1;
            ex_until(kicked, 0, "a kick, in a wait without a tick, behind a spare that is in play");
        }
    }
}

static bool can_be_read(int unused)
{
    (void)unused;
    return rings > 0;
}

/* B1 to B4 (engine/host.c): a host that does nothing until the bell can be read loses no task. */
static void hosted(int me)
{
    struct weft__sched *w = &s[0];
    bool lies = true;
    if (me > 0) {
        put((uint32_t)me - 1);
        return;
    }
    while (!all_have_run()) {
        ex_until(can_be_read, 0, "the bell");
        rings = 0;
        (void)at_swap(&bell, 0); /* B1 */
        if (lies && !weft__idle_woken(w)) /* B3 */
            continue;
        while (take(w) || (weft__idle_search(w) && take(w)))
            ; /* B4 */
        weft__idle_announce(w);
        lies = !(in_sight(w) && weft__idle_retract(w));
        if (!lies)
            ring(&g); /* there is more for the next step */
    }
}

/* The spare may sleep, if the worker was woken. */
static bool nobody_blocks(void)
{
    return !io_blocks || kicks > 0;
}

const struct ex_scenario idle_scenarios[] = {
    { "idle", "one_worker", 3, two_tasks, one_worker, NULL, 2, "one worker, two publishers", all_have_run },
    { "idle", "pinned", 2, one_task, pinned, NULL, -1, "a pinned task", all_have_run },
    { "idle", "handed_out", 2, two_tasks, handed_out, check_all_ran, -1, "into the ring of a claimed worker", NULL },
    { "idle", "two_workers", 3, one_task, two_workers, NULL, 2, "two workers, one task", all_have_run },
    { "idle", "long", 4, a_long_one, two_workers, NULL, 1, "two workers, two publishers, one long task", all_have_run },
    { "idle", "blocks", 3, one_task, blocks, NULL, 3, "the I/O thread blocks while a worker is woken", NULL },
    { "idle", "hosted", 3, a_host, hosted, NULL, 3, "a host with a bell, two publishers", all_have_run },
    { "idle", "spare_goes", 3, a_spare, spare_goes, NULL, 1, "a worker and a spare, one task", all_have_run },
    { "idle", "spare_dismissed", 3, a_dismissed_spare, spare_goes, NULL, 1, "a worker and a spare that has to go", all_have_run },
    { "idle", "spare_comes", 4, a_spare_and_a_long_one, spare_comes, NULL, 1, "a spare is brought back", all_have_run },
    { "idle", "spare_blocks", 3, a_spare_alone, spare_blocks, NULL, 2, "the I/O thread blocks while a spare goes", nobody_blocks },
    { 0 },
};
