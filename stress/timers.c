/* stress/timers.c - timers strike: never early, all of them, and cancelled ones not at all.
 *
 * Sleepers in waves, with spans that are random, equal, or already over; scopes whose deadline is moved to and fro;
 * scopes that end before their deadline; sleepers that are cancelled, close to their end or far from it.
 *
 * Law       a sleep that returns 0 is not early; every sleeper returns; a sleep returns -ECANCELED only if cancelled;
 *           a deadline strikes at its last place or after it, and then the scope says so; one that was not reached
 *           never strikes. */
#include "support.h"

enum { WAVES = SCALED(4, 2), SLEEPERS = SCALED(500, 60) };

static atomic_ulong n_slept, n_late, n_cancelled, n_beaten, n_far, n_struck, n_not_struck, n_moved;
static atomic_llong worst;

struct sleeper {
    int64_t at; /* WEFT_NEVER: until it is cancelled */
    atomic_int cancels;
    weft_task task;
    int strikes;
};

static int sleeper(void *arg)
{
    struct sleeper *s = arg;
    int rc = weft_sleep_until(s->at);
    int64_t now = weft_now();
    stress_moved();
    if (rc == 0) {
        CHECK(s->at != WEFT_NEVER && now >= s->at, "a timer struck %lld ns early", (long long)(s->at - now));
        raise_to(&worst, now - s->at);
        atomic_fetch_add(&n_late, now - s->at > weft_ms(SCALED(1000, 4000)));
        atomic_fetch_add(&n_slept, 1);
        s->strikes++;
        return 0;
    }
    CHECK(rc == -ECANCELED, "sleep: %s", weft_strerror(rc));
    CHECK(atomic_load(&s->cancels) > 0, "a sleep was refused, but nobody cancelled it");
    atomic_fetch_add(s->at > now ? &n_cancelled : &n_beaten, 1);
    return 0;
}

static void wave(struct chance *c, struct sleeper *all)
{
    weft_scope s;
    int64_t common = weft_after(chance_below(c, 3000000)), last = 0;
    int n = 1 + (int)chance_below(c, SLEEPERS);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++) {
        int64_t at = common;
        switch (chance_below(c, 8)) {
        case 0:
            at = weft_after(chance_below(c, 50000)); /* at once */
            break;
        case 1:
            at = weft_after(chance_below(c, 20000000));
            break;
        case 2:
            at = weft_now() - 1; /* over */
            break;
        case 3:
            at = weft_after(weft_sec(1000 + chance_below(c, 1000)));
            break;
        case 4:
            at = WEFT_NEVER;
            break;
        case 5:
            at = common + chance_below(c, 1000);
            break;
        default:
            break;
        }
        all[i] = (struct sleeper){ .at = at };
        if (at < weft_after(weft_sec(100)) && at > last)
            last = at;
        all[i].task = weft_spawn(&s, sleeper, &all[i]);
        CHECK(all[i].task > 0, "a spawn failed");
    }
    /* Those that are far must be cancelled; of the others a few are, about when they strike. */
    if (chance_one_in(c, 2))
        CHECK(weft_sleep_until(common - chance_below(c, 100000)) == 0, "sleep");
    for (int i = 0; i < n; i++)
        if (all[i].at > last || chance_one_in(c, 6)) {
            bool far = all[i].at > last;
            atomic_fetch_add(&all[i].cancels, 1);
            int rc = weft_task_cancel(all[i].task, "not needed");
            CHECK(rc == 0 || (rc == -ESRCH && !far), "cancel: %s", weft_strerror(rc));
            atomic_fetch_add(&n_far, far);
        }
    int rc = weft_scope_end(&s, 0);
    CHECK(rc == 0, "a wave ended with %s", weft_strerror(rc));
    for (int i = 0; i < n; i++)
        CHECK(all[i].strikes == 1 || (all[i].strikes == 0 && atomic_load(&all[i].cancels) > 0),
                "a timer struck %d times", all[i].strikes);
}

static int waves(void *arg)
{
    struct chance c = chance_of(1, (uint64_t)(uintptr_t)arg);
    struct sleeper *all = calloc(SLEEPERS, sizeof *all);
    CHECK(all, "no memory");
    while (!stress_over())
        wave(&c, all);
    free(all);
    return 0;
}

/* A scope's deadline, moved while a child or the owner itself waits. */
static int asleep(void *arg)
{
    (void)arg;
    return weft_sleep_until(WEFT_NEVER);
}

static void moved_deadline(struct chance *c)
{
    weft_scope s;
    int64_t at = weft_after(chance_below(c, 2000000));
    int rc = 0;
    weft_scope_begin(&s, at - weft_now());
    if (chance_one_in(c, 2))
        weft_spawn(&s, asleep, NULL);
    for (int n = (int)chance_below(c, 6); n > 0 && rc == 0; n--) {
        at = chance_one_in(c, 6) ? WEFT_NEVER : weft_after(chance_below(c, 2000000));
        weft_scope_set_deadline(&s, at);
        atomic_fetch_add(&n_moved, 1);
        CHECK(weft_scope_expired(&s) || weft_scope_deadline(&s) == at, "a moved deadline is elsewhere");
        if (chance_one_in(c, 2))
            rc = weft_sleep(chance_below(c, 500000));
    }
    if (rc == 0 && chance_one_in(c, 2)) { /* nothing may strike any more */
        weft_scope_set_deadline(&s, WEFT_NEVER);
        bool struck = weft_scope_expired(&s);
        rc = weft_sleep(chance_below(c, 200000));
        CHECK(struck || rc == 0, "a deadline struck that was taken away");
        weft_scope_cancel(&s, "over");
        rc = weft_scope_end(&s, rc);
        CHECK(struck ? rc == -ETIMEDOUT || rc == 0 : rc == 0, "a scope without deadline: %s", weft_strerror(rc));
        CHECK(struck == weft_scope_expired(&s), "a deadline struck that was taken away");
        atomic_fetch_add(&n_not_struck, !struck);
        return;
    }
    at = weft_after(chance_below(c, 300000));
    weft_scope_set_deadline(&s, at);
    bool earlier = weft_scope_expired(&s);
    if (rc == 0)
        rc = weft_sleep_until(WEFT_NEVER);
    CHECK(rc == -ECANCELED, "an endless sleep: %s", weft_strerror(rc));
    rc = weft_scope_end(&s, rc);
    CHECK(rc == -ETIMEDOUT && weft_scope_expired(&s), "a scope after its deadline: %s", weft_strerror(rc));
    CHECK(earlier || weft_now() >= at, "a deadline struck early");
    atomic_fetch_add(&n_struck, 1);
    stress_moved();
}

/* A deadline that is not reached does not strike: not in the scope, and not in what comes after. */
static void unreached(struct chance *c)
{
    weft_scope s;
    weft_scope_begin(&s, weft_sec(5 + chance_below(c, 100)));
    int rc = weft_sleep(chance_below(c, 50000));
    rc = weft_scope_end(&s, rc);
    CHECK(rc == 0 && !weft_scope_expired(&s) && weft_check() == 0, "an unreached deadline: %s", weft_strerror(rc));
    atomic_fetch_add(&n_not_struck, 1);
}

static int deadlines(void *arg)
{
    struct chance c = chance_of(2, (uint64_t)(uintptr_t)arg);
    while (!stress_over()) {
        moved_deadline(&c);
        unreached(&c);
    }
    return 0;
}

static int main_task(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uintptr_t i = 0; i < WAVES; i++)
        weft_spawn(&s, waves, (void *)i);
    for (uintptr_t i = 0; i < SCALED(32, 8); i++)
        weft_spawn(&s, deadlines, (void *)i);
    return weft_scope_end(&s, 0);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "timers");
    weft_runtime *rt = stress_runtime();
    int rc = weft_runtime_run(rt, main_task, NULL);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    stress_count("sleeps that struck", n_slept, stress_least(2000));
    stress_count("sleeps cancelled in time", n_cancelled, stress_least(200));
    stress_count("sleeps cancelled too late", n_beaten, 0);
    stress_count("of them far", n_far, stress_least(100));
    stress_count("deadlines moved", n_moved, stress_least(200));
    stress_count("deadlines that struck", n_struck, stress_least(50));
    stress_count("deadlines that did not", n_not_struck, stress_least(50));
    /* A machine that others use, too, takes its processors away for a while now and then: what strikes then is late. */
    double allowed = 0.25 + 2 * stress_stood(); /* with those that it hits while they sleep */
    CHECK((double)n_late <= allowed * (double)n_slept, "%lu of %lu sleeps were far too late", n_late, n_slept);
    stress_worst("latest strike", atomic_load(&worst), weft_ms(SCALED(5000, 8000)));
    return stress_end();
}
