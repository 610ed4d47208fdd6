/* fault_coord_test.c - the public calls between tasks, with each kind of call that they make below failing: faults.h.
 *
 * What coord/, sync/ and os/select allocate: topics and channels, generators, values, policies, graces, callbacks, supervised
 * children; and the timers of what they wait for. Each scenario looks at what was promised of the calls that did succeed. */
#include "faults.h"

#include <weft/call.h>
#include <weft/delay.h>
#include <weft/gen.h>
#include <weft/local.h>
#include <weft/select.h>

static int first_of(int rc, int then)
{
    return rc < 0 ? rc : then < 0 ? then : 0;
}

/* ---- topics, channels, select */

static int publish_two(void *arg)
{
    weft_topic *t = arg;
    for (int i = 1; i <= 2; i++) {
        int rc = weft_topic_publish(t, &i, sizeof i);
        if (rc < 0)
            return rc;
        promise(rc == 2, "an item went to fewer than all");
    }
    return 0;
}

/* A sum of 0, 1 and 2: the kept one and those that are published. */
static int receive_three(weft_chan *c)
{
    int sum = 0;
    for (int n = 0; n < 3; n++) {
        int item = -1;
        weft_case cs[] = { weft_on_recv(c, &item, sizeof item), weft_on_timer(weft_sec(10)) };
        int rc = weft_select(cs, COUNT(cs));
        if (rc < 0)
            return rc;
        promise(rc == 0 && cs[0].rc == 1, "an item that was published has not come");
        sum += item;
    }
    promise(sum == 3, "other items than were published");
    return 0;
}

static int use_topic(void *arg)
{
    weft_topic *untouched = arg, *t = untouched;
    weft_chan *none = arg, *c[2] = { none, none };
    int zero = 0, rc = weft_topic_create(&t, sizeof zero, &(weft_topic_options){ .keep_last = true });
    if (rc < 0) {
        promise(t == untouched, "a failed create has touched *out");
        return rc;
    }
    rc = weft_topic_publish(t, &zero, sizeof zero);
    for (int i = 0; i < 2 && rc >= 0; i++) {
        rc = weft_topic_subscribe(t, 4, &c[i]);
        promise(rc == 0 || c[i] == none, "a failed subscribe has touched *out");
    }
    if (rc == 0) {
        weft_scope s;
        weft_scope_begin(&s, weft_sec(20));
        weft_spawn(&s, publish_two, t);
        rc = first_of(receive_three(c[0]), receive_three(c[1]));
        rc = weft_scope_end(&s, rc);
    }
    for (int i = 0; i < 2; i++)
        if (c[i] != none)
            weft_chan_destroy(&c[i]);
    weft_topic_destroy(&t);
    return rc;
}

static int topics(void)
{
    static int somewhere;
    return weft_runtime_run(rt, use_topic, &somewhere);
}

static int send_five(void *arg)
{
    int rc = 0;
    for (int i = 0; i < 5 && rc == 0; i++)
        rc = weft_chan_send(arg, &i, sizeof i);
    return rc;
}

static int use_channel(void *arg)
{
    weft_chan *c = arg;
    int rc = weft_chan_create(&c, sizeof(int), 2, NULL), item = 0;
    if (rc < 0) {
        promise(c == arg, "a failed create has touched *out");
        return rc;
    }
    weft_scope s;
    weft_scope_begin(&s, weft_sec(10));
    weft_spawn(&s, send_five, c);
    for (int i = 0; i < 5 && rc >= 0; i++)
        if ((rc = weft_chan_recv(c, &item, sizeof item)) == 1)
            promise(item == i, "an item is lost, or out of its order");
    rc = weft_scope_end(&s, rc < 0 ? rc : 0);
    weft_chan_destroy(&c);
    return rc;
}

static int channels(void)
{
    static int somewhere;
    return weft_runtime_run(rt, use_channel, &somewhere);
}

/* ---- what comes at its time */

static int put_later(void *arg)
{
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++)
        rc = weft_delay_put(arg, &i, sizeof i, weft_after(weft_us(10 * (i % 3))), NULL);
    weft_delay_close(arg);
    return rc;
}

static int use_delay(void *arg)
{
    weft_delay *untouched = arg, *q = untouched;
    weft_timer t = WEFT_SYNC_INIT;
    int item, seen = 0, rc = weft_delay_create(&q, sizeof item, NULL);
    if (rc < 0) {
        promise(q == untouched, "a failed create has touched *out");
        return rc;
    }
    weft_scope s;
    weft_scope_begin(&s, weft_sec(10));
    weft_spawn(&s, put_later, q);
    while ((rc = weft_delay_take(q, &item, sizeof item)) == 1) {
        promise(!(seen & 1 << item), "an item came twice");
        seen |= 1 << item;
    }
    if (rc == 0) {
        weft_timer_set(&t, weft_after(weft_us(50)));
        if ((rc = weft_timer_wait(&t)) == -ENOMEM)
            promise(weft_timer_set(&t, WEFT_NEVER) == 1, "a strike was lost");
    }
    rc = weft_scope_end(&s, rc);
    while (rc < 0 && weft_delay_len(q) > 0 && weft_delay_try_take(q, &item, sizeof item) != 0)
        continue; /* what was put is there */
    promise(rc < 0 || seen == (1 << 20) - 1, "an item was lost");
    weft_delay_destroy(&q);
    return rc;
}

static int delays(void)
{
    static int somewhere;
    return weft_runtime_run(rt, use_delay, &somewhere);
}

static int use_nothing(void *arg)
{
    (void)arg;
    return weft_yield();
}

/* ---- generators */

struct cleanups {
    int begun, ended;
};

static int count_to_three(weft_gen *g, void *arg)
{
    struct cleanups *c = arg;
    int rc = 0;
    c->begun++;
    for (int i = 1; i <= 3 && rc == 0; i++)
        if ((rc = weft_gen_yield(g, &i, sizeof i)) == 0)
            rc = weft_yield();
    c->ended++;
    return rc;
}

/* One of its own, all of whose items it passes on. */
static int count_within(weft_gen *g, void *arg)
{
    weft_gen *inner;
    int item, rc = weft_gen_create(&inner, count_to_three, arg, sizeof item, &(weft_gen_options){ .name = "inner" });
    while (rc == 0 && (rc = weft_gen_next(inner, &item, sizeof item)) == 1)
        rc = weft_gen_yield(g, &item, sizeof item);
    return rc;
}

static int use_generators(void *arg)
{
    struct cleanups *c = arg;
    weft_gen *untouched = (weft_gen *)arg, *all[2] = { untouched, untouched };
    weft_gen_fn *bodies[2] = { count_within, count_to_three };
    weft_scope s;
    int rc = 0, sum = 0, item;
    weft_scope_begin(&s, weft_sec(10));
    for (int i = 0; i < 2 && rc == 0; i++) {
        rc = weft_gen_create(&all[i], bodies[i], c, sizeof item, NULL);
        promise(rc == 0 || all[i] == untouched, "a failed create has touched *out");
    }
    while (rc == 0 && (rc = weft_gen_next(all[0], &item, sizeof item)) == 1) {
        sum += item;
        rc = 0;
        if (item == 2)
            break;
    }
    if (rc == 0 && (rc = weft_gen_next(all[1], &item, sizeof item)) == 1)
        rc = 0;
    promise(rc < 0 || sum == 3, "other items than were yielded");
    if (all[0] != untouched)
        weft_gen_destroy(&all[0]);
    rc = weft_scope_end(&s, rc); /* and closes the other */
    promise(c->begun == c->ended, "a body was not ended");
    return rc;
}

static int generators(void)
{
    struct cleanups c = { .begun = 0 };
    return weft_runtime_run(rt, use_generators, &c);
}

/* ---- deferred calls */

static int let_go(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, -1);
    weft_ignore(weft_sleep(weft_us(10)));
    return 0;
}

static int use_defer(void *arg)
{
    weft_scope s;
    int rc = 0;
    weft_scope_begin(&s, weft_sec(10));
    for (int i = 0; i < 3 && rc == 0; i++)
        if ((rc = weft_defer(let_go, arg, weft_sec(10))) == 0)
            atomic_fetch_add((atomic_int *)arg, 1);
    weft_spawn(&s, use_nothing, NULL);
    return weft_scope_end(&s, rc);
}

static int use_defers(void *arg)
{
    int rc = weft_defer(let_go, arg, WEFT_NEVER); /* when the task ends */
    if (rc < 0)
        return rc;
    atomic_fetch_add((atomic_int *)arg, 1);
    return use_defer(arg);
}

static int deferred(void)
{
    atomic_int held = 0;
    int rc = weft_runtime_run(rt, use_defers, &held);
    promise(atomic_load(&held) == 0, "a deferred call was not made exactly once");
    return rc;
}

/* ---- values */

static atomic_int values_held;

static void drop_value(void *value)
{
    (void)value;
    atomic_fetch_add(&values_held, -1);
}

static weft_local handed = { .drop = drop_value, .inherit = true }, also_handed = { .drop = drop_value, .inherit = true },
                  of_its_own = { .drop = drop_value };

static int set(weft_local *key, void *value)
{
    void *before = weft_local_get(key);
    atomic_fetch_add(&values_held, 1);
    int rc = weft_local_set(key, value);
    if (rc < 0)
        atomic_fetch_add(&values_held, -1);
    promise(weft_local_get(key) == (rc < 0 ? before : value), "a failed set has changed the value, or a good one has not");
    return rc;
}

static int sees_them(void *arg)
{
    promise(weft_local_get(&handed) == arg, "a value was not handed on");
    promise(weft_local_get(&of_its_own) == NULL, "a value of another's");
    return first_of(set(&of_its_own, arg), set(&handed, &values_held));
}

static int sees_them_too(void *arg)
{
    return sees_them(*(void **)arg);
}

static int use_values(void *arg)
{
    weft_scope s;
    int rc = first_of(set(&of_its_own, arg), set(&handed, arg));
    rc = first_of(rc, set(&also_handed, arg));
    if (rc < 0)
        return rc;
    weft_scope_begin(&s, weft_sec(10));
    for (int i = 0; i < 3; i++)
        weft_spawn(&s, sees_them, arg);
    weft_spawn_copy(&s, sees_them_too, &arg, sizeof arg);
    weft_spawn_with(&s, sees_them, arg, &(weft_spawn_options){ .name = "named" });
    rc = weft_scope_end(&s, 0);
    promise(weft_local_get(&handed) == arg, "a child's value has come back");
    return rc;
}

static int values(void)
{
    int here;
    int rc = weft_runtime_run(rt, use_values, &here);
    promise(atomic_load(&values_held) == 0, "a value was not dropped exactly once");
    return rc;
}

/* ---- what a scope's options say of its children */

static int nap(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep(weft_us(20));
}

/* More than there are places. */
static int hear_of_all(void *arg)
{
    atomic_int called = 0;
    weft_scope s;
    weft_done d;
    int rc, born = 0, heard = 0, refused = 0;
    (void)arg;
    weft_scope_begin_with(&s, weft_sec(10),
            &(weft_scope_options){ .name = "ruled", .join = WEFT_JOIN_KEEP_GOING, .limit = 2, .collect = true });
    for (int i = 0; i < 6; i++) {
        weft_task t = weft_spawn(&s, nap, &called);
        born += t > 0;
        if (t < 0 && refused == 0)
            refused = (int)t;
    }
    while ((rc = weft_scope_next(&s, &d)) == 1) {
        promise(d.arg == &called, "another's argument");
        heard++;
    }
    promise(rc < 0 || heard == born, "a child's end was not heard of exactly once");
    int end = weft_scope_end(&s, 0);
    promise(refused == 0 || end < 0, "a refused spawn has not failed its scope");
    promise(atomic_load(&called) == born || end < 0, "a spawned task was not called");
    return end;
}

static int ruled(void)
{
    return weft_runtime_run(rt, hear_of_all, NULL);
}

static int win(void *arg)
{
    (void)arg;
    return weft_sleep(weft_us(20));
}

/* Whether that has won, or had no stack: then all have failed. */
static int lose(void *arg)
{
    int rc = weft_task_join(*(const weft_task *)arg);
    return rc < 0 ? rc : -ENODATA;
}

/* One succeeds, and nobody else can; who is not born cannot either. */
static int run_a_race(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin_with(&s, weft_sec(10), &(weft_scope_options){ .join = WEFT_JOIN_ANY });
    weft_task winner = weft_spawn(&s, win, NULL), loser = weft_spawn_copy(&s, lose, &winner, sizeof winner);
    if (winner < 0)
        weft_scope_cancel(&s, "nobody can win");
    int end = weft_scope_end(&s, 0);
    promise(winner < 0 || end != 0 || weft_scope_winner(&s) == winner, "another has won");
    return first_of(end, first_of((int)(winner < 0 ? winner : 0), (int)(loser < 0 ? loser : 0)));
}

static int race(void)
{
    return weft_runtime_run(rt, run_a_race, NULL);
}

static int stays_in_a_shield(void *arg)
{
    weft_scope s;
    weft_scope_begin_shield(&s, WEFT_NEVER);
    atomic_fetch_add((atomic_int *)arg, 1);
    int rc = weft_sleep(WEFT_NEVER);
    promise(rc < 0, "a sleep without end has ended");
    return weft_scope_end(&s, rc);
}

/* Without memory for the grace there is none. On its own worker, and by an errand from a plain thread. */
static int give_a_grace(weft_scope *s)
{
    atomic_int asleep = 0;
    int rc = 0;
    weft_task t = weft_spawn(s, stays_in_a_shield, &asleep);
    while (t > 0 && rc == 0 && weft_task_alive(t) && atomic_load(&asleep) == 0)
        rc = weft_sleep(weft_us(10));
    weft_scope_cancel_hard(s, weft_us(50), "enough");
    int end = weft_scope_end(s, 0);
    promise(!weft_task_alive(t), "a grace has not struck");
    return first_of(end, first_of(rc, (int)(t < 0 ? t : 0)));
}

static int grace_of_a_task(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = give_a_grace(&s);
    return rc == -ECANCELED ? 0 : rc; /* the nap before it */
}

static int graces(void)
{
    weft_scope s;
    int rc = weft_runtime_run(rt, grace_of_a_task, NULL);
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    return first_of(give_a_grace(&s), rc);
}

static int add_one(void *arg)
{
    int rc = weft_sleep(weft_us(10));
    ++*(int *)arg;
    return rc;
}

static int gather_some(void *arg)
{
    int all[5] = { 0 };
    (void)arg;
    int rc = weft_gather(all, COUNT(all), sizeof *all, add_one, &(weft_scope_options){ .limit = 2 });
    for (int i = 0; i < COUNT(all); i++)
        promise(all[i] == 1 || (rc < 0 && all[i] == 0), "an item was not gone through once");
    return rc;
}

static int gathered(void)
{
    return weft_runtime_run(rt, gather_some, NULL);
}

/* ---- supervised children, callbacks, intervals */

static int fail_once(void *arg)
{
    atomic_int *runs = arg;
    int rc = weft_sleep(weft_us(10));
    return rc < 0 ? rc : atomic_fetch_add(runs, 1) == 0 ? weft_fail(-EPROTO, "the first time") : 0;
}

static int supervise_two(void *arg)
{
    atomic_int runs[2] = { 0 };
    weft_child children[2] = { { "first", fail_once, &runs[0] }, { "second", fail_once, &runs[1] } };
    (void)arg;
    int rc = weft_supervise(children, COUNT(children),
            &(weft_supervise_options){ .most = 4, .backoff = { .first = weft_us(10) } });
    promise(rc < 0 || (atomic_load(&runs[0]) == 2 && atomic_load(&runs[1]) == 2), "a child was not restarted once");
    /* Four are put up with, and these are two: one of them is told only if it came after three that were made. */
    promise(rc != -EPROTO || made_to_fail() >= 3, "a failure that was put up with is told");
    return rc == -EPROTO ? -ENOMEM : rc; /* it stands for those */
}

static int supervised(void)
{
    return weft_runtime_run(rt, supervise_two, NULL);
}

static atomic_int called_back;

static void call_back(void *arg)
{
    int expected = (int)(intptr_t)arg;
    promise(expected < 0 || atomic_load(&called_back) == expected, "callbacks out of their order");
    atomic_fetch_add(&called_back, 1);
}

static void done_with(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static int call_some(void *arg)
{
    atomic_int done = 0, slept = 0;
    int accepted = 0, heard = 0;
    weft_scope s;
    (void)arg;
    atomic_store(&called_back, 0);
    weft_scope_begin(&s, weft_sec(10));
    weft_task t = weft_spawn(&s, nap, &slept);
    int rc = t > 0 ? weft_task_on_done(t, done_with, &done) : 0;
    heard = t > 0 && rc == 0;
    for (intptr_t i = 0; i < 3; i++)
        accepted += weft_call_soon(&s, call_back, (void *)(accepted == i ? i : -1)) > 0;
    int end = weft_scope_end(&s, 0);
    promise(end < 0 || atomic_load(&called_back) == accepted, "a call was lost");
    promise(end == 0 || accepted < 3 || t < 0 || atomic_load(&called_back) < 3 || end == -ENOMEM, "another failure");
    promise(atomic_load(&done) == heard, "who wanted to hear of an end has not");
    weft_scope_begin(&s, weft_sec(10));
    weft_task timed = weft_call_at(&s, weft_after(weft_us(20)), call_back, (void *)(intptr_t)-1);
    int later = weft_scope_end(&s, 0);
    promise(timed > 0 || later < 0, "a refused call has not failed its scope");
    return first_of(first_of(end, later), rc == -ESRCH ? 0 : rc);
}

static int callbacks(void)
{
    return weft_runtime_run(rt, call_some, NULL);
}

static int take_ticks(void *arg)
{
    weft_interval every = { .every = weft_us(20) };
    weft_backoff pause = { .first = weft_us(10), .tries = 3 };
    int rc = 1, tries = 0;
    (void)arg;
    for (int i = 0; i < 3 && rc == 1; i++)
        rc = weft_interval_wait(&every);
    if (rc < 0)
        return rc;
    while ((rc = weft_backoff_sleep(&pause)) == 1)
        tries++;
    promise(rc < 0 || tries == 2, "other tries than there are");
    return rc;
}

static int ticks(void)
{
    return weft_run(take_ticks, NULL, QUIETLY_ON(1)); /* whose heap has no memory yet */
}

/* ---- records of failures */

static int fail_with_causes(void *arg)
{
    (void)arg;
    int rc = weft_fail(-EIO, "the disk");
    for (int i = 0; i < 10; i++)
        rc = weft_fail_from(-EPROTO, rc, "layer %d", i);
    const weft_error *e = weft_last_error(rc);
    promise(rc == -EPROTO && (!e || strcmp(e->text, "layer 9") == 0), "a record is of an earlier failure");
    return rc;
}

static int record(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, fail_with_causes, arg);
    int rc = weft_scope_end(&s, 0);
    const char *text = weft_error_text(rc);
    promise(rc == -EPROTO || rc == -ENOMEM, "a code has changed");
    promise(rc != -EPROTO || strcmp(text, "layer 9") == 0 || strcmp(text, weft_strerror(rc)) == 0, "another's text");
    return rc == -EPROTO && strcmp(text, "layer 9") == 0 && weft_last_error(rc)->cause ? 0 : -ENOMEM;
}

static int records(void)
{
    return weft_runtime_run(rt, record, NULL);
}

static const struct {
    const char *name;
    int (*one)(void);
} scenarios[] = { { "topics", topics }, { "channels", channels }, { "generators", generators }, { "defer", deferred },
    { "values", values }, { "limit, collect", ruled }, { "first success", race }, { "hard cancel", graces },
    { "gather", gathered }, { "delays", delays },
    { "supervise", supervised }, { "callbacks", callbacks }, { "intervals", ticks },
    { "records", records } };

static bool is_wanted(int i)
{
    return ((uint64_t)i + chaos_seed()) % (uint64_t)(TSAN ? 6 : chaos() ? 3 : 1) == 0;
}

START_TEST(a_call_between_tasks_fails_clearly_leaves_nothing_and_works_the_next_time)
{
    ck_assert_int_eq(weft_runtime_create(&rt, QUIETLY_ON(2)), 0);
    for (int i = 0; i < COUNT(faults); i++)
        if (faults[i].kind == WEFT__FAULT_ALLOC || is_wanted(i + _i))
            fail_each(&faults[i], scenarios[_i].name, scenarios[_i].one);
    weft_runtime_destroy(&rt);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fault coord");
    TCase *tc = add_case(s, "each call between tasks");
    tally_begin();
    tcase_add_loop_test(
            tc, a_call_between_tasks_fails_clearly_leaves_nothing_and_works_the_next_time, 0, COUNT(scenarios));
    int rc = run_suite(s);
    tally_print();
    return rc;
}
