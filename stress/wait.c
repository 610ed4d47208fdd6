/* stress/wait.c - one wait, several that want to end it: events, joiners' deadlines, cancels.
 *
 * A round has a few targets, each in one wait of some kind, and around each of them joiners (tasks and a plain
 * thread), some with a deadline, and cancellers. All aim at the same instant.
 *
 * Law       a target's wait ends once, and for a reason that there was: a sleep that returns 0 is not early, a byte is
 *           either taken or still there, -ECANCELED comes only after a cancel. A join that returns 0 sees all the
 *           target wrote; one with a deadline returns by it, and not before; every join returns. */
#include "support.h"

enum { TARGETS = 4, JOINERS = 4, CANCELLERS = 2, LANES = SCALED(8, 3), THREADS = 2 };

static atomic_ulong n_rounds, n_done, n_cancelled, n_expired, n_joined, n_left, n_refused, n_thread_joins;

enum kind { SLEEPS, READS, JOINS, EXPIRES, YIELDS, KINDS };

struct target {
    struct round *round;
    enum kind kind;
    int64_t at; /* the sleep's and the deadline's end */
    int pair[2];
    atomic_int cancels; /* counted before the call */
    weft_task task;
    struct target *other;
    /* Plain: written by the target, read by who joined it. */
    int rc;
    int ended;
};

struct round {
    int64_t at; /* where everything aims */
    struct target targets[TARGETS];
};

struct part {
    struct target *target;
    uint64_t chance;
};

/* Before or after the instant, mostly close to it. */
static int64_t near_to(int64_t at, struct chance *c)
{
    int64_t width = chance_one_in(c, 3) ? 200000 : 20000;
    return at + chance_below(c, (uint32_t)width) - width / 2;
}

static int target(void *arg)
{
    struct target *t = arg;
    char byte;
    weft_scope s;
    int rc = 0;
    switch (t->kind) {
    case SLEEPS:
        rc = weft_sleep_until(t->at);
        CHECK(rc != 0 || weft_now() >= t->at, "a sleep ended early");
        break;
    case READS:
        rc = weft_read(t->pair[0], &byte, 1);
        CHECK(rc == 1 || rc == -ECANCELED, "a read: %s", weft_strerror(rc));
        break;
    case JOINS:
        rc = weft_task_join(t->other->task);
        CHECK(rc != 0 || t->other->ended == 1, "a join came before the end");
        break;
    case EXPIRES:
        weft_scope_begin(&s, t->at - weft_now());
        rc = weft_scope_end(&s, weft_sleep_until(WEFT_NEVER));
        CHECK(rc == -ETIMEDOUT || rc == -ECANCELED, "an endless sleep: %s", weft_strerror(rc));
        CHECK(weft_scope_expired(&s) || rc != -ETIMEDOUT, "-ETIMEDOUT, but it has not expired");
        CHECK(rc != -ETIMEDOUT || weft_now() >= t->at, "a deadline struck early");
        break;
    default:
        while (rc == 0 && weft_now() < t->at)
            rc = weft_yield();
        break;
    }
    if (rc == -ECANCELED) {
        CHECK(atomic_load(&t->cancels) > 0, "-ECANCELED, but nobody cancelled");
        CHECK(weft_check() == -ECANCELED, "-ECANCELED is forgotten");
    }
    atomic_fetch_add(rc == -ECANCELED ? &n_cancelled : rc == -ETIMEDOUT ? &n_expired : &n_done, 1);
    t->rc = rc;
    t->ended = 1;
    return 0;
}

static void join_with(struct target *t, int64_t at, bool in_thread)
{
    weft_scope s;
    weft_scope_begin(&s, at == WEFT_NEVER ? WEFT_NEVER : at - weft_now());
    int joined = weft_task_join(t->task), rc = weft_scope_end(&s, joined);
    CHECK(joined == 0 || joined == -ECANCELED, "a join returned %s", weft_strerror(joined));
    if (joined == 0) {
        CHECK(rc == 0, "after a join: %s", weft_strerror(rc));
        CHECK(t->ended == 1, "a join came before the end");
        CHECK(!weft_task_alive(t->task) && weft_task_cancel(t->task, NULL) == -ESRCH, "a joined task lives");
        atomic_fetch_add(&n_joined, 1);
    } else {
        CHECK(rc == -ETIMEDOUT && at != WEFT_NEVER && weft_now() >= at, "a join was refused: %s", weft_strerror(rc));
        atomic_fetch_add(&n_left, 1);
    }
    if (in_thread)
        atomic_fetch_add(&n_thread_joins, 1);
}

static int joiner(void *arg)
{
    struct part *p = arg;
    struct chance c = { p->chance };
    int64_t at = chance_one_in(&c, 2) ? near_to(p->target->round->at, &c) : WEFT_NEVER;
    if (chance_one_in(&c, 3) && weft_sleep_until(near_to(p->target->round->at, &c)) < 0)
        return -ECANCELED;
    join_with(p->target, at, false);
    return 0;
}

static int canceller(void *arg)
{
    struct part *p = arg;
    struct chance c = { p->chance };
    int64_t at = near_to(p->target->round->at, &c);
    if (chance_one_in(&c, 2)) {
        CHECK(weft_sleep_until(at) == 0, "sleep");
    } else {
        while (weft_now() < at)
            CHECK(weft_yield() == 0, "yield");
    }
    atomic_fetch_add(&p->target->cancels, 1);
    if (weft_task_cancel(p->target->task, "aimed") == -ESRCH)
        atomic_fetch_add(&n_refused, 1);
    return 0;
}

static int writer(void *arg)
{
    struct part *p = arg;
    struct chance c = { p->chance };
    CHECK(weft_sleep_until(near_to(p->target->round->at, &c)) == 0, "sleep");
    CHECK(weft_write(p->target->pair[1], "x", 1) == 1, "write");
    return 0;
}

/* ---- plain threads join, too: what the lanes hand to them */

static struct {
    _Atomic(struct part *) slot;
} desks[THREADS];
static atomic_bool stop;

static void *thread_joiner(void *arg)
{
    int i = (int)(uintptr_t)arg;
    struct chance c = chance_of(9, (uint64_t)i);
    while (!atomic_load(&stop)) {
        struct part *p = atomic_load(&desks[i].slot);
        if (!p) {
            sched_yield();
            continue;
        }
        join_with(p->target, chance_one_in(&c, 2) ? near_to(p->target->round->at, &c) : WEFT_NEVER, true);
        atomic_store(&desks[i].slot, NULL);
    }
    return NULL;
}

/* ---- rounds */

static void one_round(struct round *r, struct chance *c, int lane, int pairs[TARGETS][2])
{
    struct part parts[TARGETS][JOINERS + CANCELLERS + 1], desk;
    weft_scope s;
    r->at = weft_after(100000 + chance_below(c, 300000));
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < TARGETS; i++) {
        struct target *t = &r->targets[i];
        *t = (struct target){ .round = r, .kind = (enum kind)chance_below(c, i == 0 ? JOINS : KINDS),
            .at = near_to(r->at, c), .pair = { pairs[i][0], pairs[i][1] }, .other = i > 0 ? t - 1 : NULL };
        t->task = weft_spawn(&s, target, t);
        CHECK(t->task > 0, "a spawn failed");
    }
    for (int i = 0; i < TARGETS; i++) {
        struct target *t = &r->targets[i];
        for (int j = 0; j < COUNT(parts[i]); j++)
            parts[i][j] = (struct part){ t, chance_bits(c) };
        for (int j = (int)chance_below(c, JOINERS + 1); j > 0; j--)
            weft_spawn(&s, joiner, &parts[i][j - 1]);
        for (int j = (int)chance_below(c, CANCELLERS + 1); j > 0; j--)
            weft_spawn(&s, canceller, &parts[i][JOINERS + j - 1]);
        if (t->kind == READS)
            weft_spawn(&s, writer, &parts[i][JOINERS + CANCELLERS]);
    }
    if (lane < THREADS) {
        desk = (struct part){ &r->targets[chance_below(c, TARGETS)], 0 };
        atomic_store(&desks[lane].slot, &desk);
    }
    if (chance_one_in(c, 3))
        CHECK(weft_task_join(r->targets[chance_below(c, TARGETS)].task) == 0, "the owner's join");
    int rc = weft_scope_end(&s, 0);
    CHECK(rc == 0, "a round ended with %s", weft_strerror(rc));
    while (lane < THREADS && atomic_load(&desks[lane].slot))
        CHECK(weft_sleep(20000) == 0, "sleep");
    for (int i = 0; i < TARGETS; i++) {
        struct target *t = &r->targets[i];
        char byte;
        CHECK(t->ended == 1, "a target has not ended");
        if (t->kind == READS && t->rc != 1)
            CHECK(weft_read(t->pair[0], &byte, 1) == 1, "a cancelled read has taken its byte");
    }
    atomic_fetch_add(&n_rounds, 1);
    stress_moved();
}

static const struct stress_need needs[] = {
    { "rounds", &n_rounds, 0, 200 },
    { "waits that came to their end", &n_done, 0, 200 },
    { "waits that expired", &n_expired, 0, 10 },
    { "waits cancelled", &n_cancelled, 0, 50 },
    { "joins", &n_joined, 0, 200 },
    { "joins that were left", &n_left, 0, 50 },
    { "cancels after the end", &n_refused, 0, 5 },
    { "joins of plain threads", &n_thread_joins, 0, 50 },
};

static int lane(void *arg)
{
    struct round r;
    int pairs[TARGETS][2], number = (int)(uintptr_t)arg;
    struct chance c = chance_of(1, (uint64_t)number);
    for (int i = 0; i < TARGETS; i++)
        CHECK(weft_pair(pairs[i]) == 0, "pair");
    while (!stress_over_when(needs, COUNT(needs)))
        one_round(&r, &c, number, pairs);
    for (int i = 0; i < TARGETS; i++)
        CHECK(weft_close(pairs[i][0]) == 0 && weft_close(pairs[i][1]) == 0, "close");
    return 0;
}

static int main_task(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uintptr_t i = 0; i < LANES; i++)
        weft_spawn(&s, lane, (void *)i);
    return weft_scope_end(&s, 0);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    stress_begin(argc, argv, "wait");
    weft_runtime *rt = stress_runtime();
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = thread_start(thread_joiner, (void *)i);
    int rc = weft_runtime_run(rt, main_task, NULL);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
