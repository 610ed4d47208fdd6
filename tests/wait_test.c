/* wait_test.c - one suspended wait and who may end it: sched/wait.h, W1 to W6 and F1 to F3. */
#include "support.h"

#include "sched/sched.h"

/* A block that runs, as a task that is about to wait. */
static struct weft__task *running(void)
{
    if (weft__task_table_init() < 0)
        abort();
    struct weft__task *t = weft__task_alloc(NULL);
    if (!t)
        abort();
    weft_task id = weft__task_begin(t);
    if (!weft__task_claim(t, id))
        abort();
    return t;
}

static void done_with(struct weft__task *t)
{
    uint64_t life = at_load(&t->life);
    at_store(&t->life, 0);
    at_store(&t->state, weft__state(at_load(&t->ticket), 0, 0, WEFT__RUNNING));
    weft__task_recycle(NULL, t, (weft_task)life);
}

static enum weft__phase phase(struct weft__task *t)
{
    return weft__phase_of(at_load(&t->state));
}

static unsigned level(struct weft__task *t)
{
    return (unsigned)(at_load(&t->state) >> WEFT__LEVEL_SHIFT & 0xffff);
}

static const enum weft__cause causes[] = { WEFT__CAUSE_EVENT, WEFT__CAUSE_CANCEL,
    WEFT__CAUSE_CLOSED };

/* -- every transition -- */

START_TEST(a_wait_begins_with_a_new_ticket)
{
    struct weft__task *t = running();
    weft__token last = 0;
    for (unsigned i = 0; i < 10; i++) {
        uint64_t ticket = at_load(&t->ticket);
        weft__token k = weft__wait_begin(t, i);
        ck_assert_int_eq(phase(t), WEFT__PREPARING);
        ck_assert_uint_eq(level(t), i);
        ck_assert_uint_eq(weft__number_of(at_load(&t->state)), ticket + 1);
        ck_assert_uint_eq(at_load(&t->ticket), ticket + 1);
        ck_assert_ptr_eq(weft__token_task(k), t);
        ck_assert_uint_ne(k, last);
        last = k;
        ck_assert(weft__wait_give_up(t));
    }
    done_with(t);
}
END_TEST

START_TEST(given_up_it_is_over_and_cannot_be_fired)
{
    struct weft__task *t = running();
    weft__token k = weft__wait_begin(t, 3);
    ck_assert(weft__wait_give_up(t));
    ck_assert_int_eq(phase(t), WEFT__RUNNING);
    ck_assert_int_eq(weft__wait_claim(k, causes[_i]), WEFT__TOO_LATE);
    ck_assert_int_eq(weft__wait_claim_cancel(t, 100), WEFT__TOO_LATE);
    ck_assert_int_eq(phase(t), WEFT__RUNNING);
    done_with(t);
}
END_TEST

START_TEST(fired_before_it_sleeps_it_does_not_sleep)
{
    struct weft__task *t = running();
    weft__token k = weft__wait_begin(t, 0);
    ck_assert_int_eq(weft__wait_claim(k, causes[_i]), WEFT__FIRED_NOW);
    ck_assert_int_eq(phase(t), WEFT__FIRED);
    for (int i = 0; i < COUNT(causes); i++)
        ck_assert_int_eq(weft__wait_claim(k, causes[i]), WEFT__TOO_LATE);
    ck_assert_int_eq(weft__wait_claim_cancel(t, 100), WEFT__TOO_LATE);
    ck_assert(!weft__wait_give_up(t));
    ck_assert_int_eq(phase(t), WEFT__FIRED);
    ck_assert_int_eq(weft__wait_cause(t), causes[_i]);
    ck_assert_int_eq(phase(t), WEFT__RUNNING);
    ck_assert_int_eq(weft__wait_claim(k, causes[_i]), WEFT__TOO_LATE);
    done_with(t);
}
END_TEST

START_TEST(fired_while_it_goes_to_sleep_it_is_ready)
{
    struct weft__task *t = running();
    weft__token k = weft__wait_begin(t, 0);
    ck_assert_int_eq(weft__wait_claim(k, causes[_i]), WEFT__FIRED_NOW);
    ck_assert(!weft__wait_commit(t));
    ck_assert_int_eq(phase(t), WEFT__READY);
    ck_assert_int_eq(weft__wait_claim(k, causes[_i]), WEFT__TOO_LATE);
    ck_assert_int_eq(weft__wait_claim_cancel(t, 100), WEFT__TOO_LATE);
    ck_assert_int_eq(weft__wait_cause(t), causes[_i]);
    ck_assert_int_eq(phase(t), WEFT__RUNNING);
    done_with(t);
}
END_TEST

START_TEST(fired_asleep_the_firer_enqueues_it)
{
    struct weft__task *t = running();
    weft__token k = weft__wait_begin(t, 0);
    ck_assert(weft__wait_commit(t));
    ck_assert_int_eq(phase(t), WEFT__WAITING);
    ck_assert_int_eq(weft__wait_claim(k, causes[_i]), WEFT__FIRED_ENQUEUE);
    ck_assert_int_eq(phase(t), WEFT__READY);
    for (int i = 0; i < COUNT(causes); i++)
        ck_assert_int_eq(weft__wait_claim(k, causes[i]), WEFT__TOO_LATE);
    ck_assert_int_eq(weft__wait_claim_cancel(t, 100), WEFT__TOO_LATE);
    ck_assert_int_eq(weft__wait_cause(t), causes[_i]);
    ck_assert_int_eq(phase(t), WEFT__RUNNING);
    done_with(t);
}
END_TEST

/* -- levels -- */

static const unsigned levels[] = { 0, 1, 2, 7, 255, 256, 65534 };

START_TEST(a_cancel_ends_only_waits_that_no_shield_hides)
{
    for (int i = 0; i < COUNT(levels); i++)
        for (int k = 0; k < COUNT(levels); k++)
            for (int asleep = 0; asleep < 2; asleep++) {
                unsigned shield = levels[i], from = levels[k];
                struct weft__task *t = running();
                weft__token token = weft__wait_begin(t, shield);
                if (asleep)
                    ck_assert(weft__wait_commit(t));
                ck_assert_uint_eq(level(t), shield);
                uint64_t before = at_load(&t->state);
                enum weft__fired f = weft__wait_claim_cancel(t, from);
                if (from < shield) {
                    ck_assert_int_eq(f, WEFT__TOO_LATE);
                    ck_assert_uint_eq(at_load(&t->state), before);
                    ck_assert_int_ne(weft__wait_claim(token, WEFT__CAUSE_EVENT), WEFT__TOO_LATE);
                } else {
                    ck_assert_int_eq(f, asleep ? WEFT__FIRED_ENQUEUE : WEFT__FIRED_NOW);
                    ck_assert_int_eq(weft__wait_claim(token, WEFT__CAUSE_EVENT), WEFT__TOO_LATE);
                    ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_CANCEL);
                }
                done_with(t);
            }
}
END_TEST

START_TEST(no_cancel_applies_to_a_wait_of_level_none)
{
    struct weft__task *t = running();
    weft__token k = weft__wait_begin(t, WEFT__LEVEL_NONE);
    for (int asleep = 0; asleep < 2; asleep++) {
        for (int i = 0; i < COUNT(levels); i++)
            ck_assert_int_eq(weft__wait_claim_cancel(t, levels[i]), WEFT__TOO_LATE);
        if (!asleep)
            ck_assert(weft__wait_commit(t));
    }
    ck_assert_int_eq(weft__wait_claim(k, WEFT__CAUSE_EVENT), WEFT__FIRED_ENQUEUE);
    ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_EVENT);
    done_with(t);
}
END_TEST

START_TEST(a_cancel_is_too_late_for_what_does_not_wait)
{
    static const enum weft__phase none[] = { WEFT__FREE, WEFT__NEW, WEFT__RUNNING, WEFT__FIRED,
        WEFT__READY };
    struct weft__task *t = running();
    weft__token k = weft__token_make(t, 5);
    for (int i = 0; i < COUNT(none); i++) {
        uint64_t s = weft__state(5, 0, WEFT__CAUSE_EVENT, none[i]);
        at_store(&t->state, s);
        ck_assert_int_eq(weft__wait_claim_cancel(t, 100), WEFT__TOO_LATE);
        ck_assert_int_eq(weft__wait_claim(k, WEFT__CAUSE_EVENT), WEFT__TOO_LATE);
        ck_assert_uint_eq(at_load(&t->state), s);
    }
    done_with(t);
}
END_TEST

/* -- a cancel that may have missed it -- */

static struct {
    int asked;
    bool answer, fires;
    weft__token token;
} look;

static bool told(struct weft__frame *f)
{
    look.asked++;
    ck_assert_int_eq(phase(f->task), WEFT__PREPARING); /* nobody runs it meanwhile */
    if (look.fires)
        ck_assert_int_eq(weft__wait_claim(look.token, WEFT__CAUSE_CLOSED), WEFT__FIRED_NOW);
    f->epoch_ok = at_load(&weft__cancel_epoch);
    return look.answer;
}

/* W1 to W6, with a cancel somewhere after W2. */
static bool sleeps(struct weft__task *t, unsigned shield, bool told_to, bool fires)
{
    struct weft__frame f = { .task = t, .epoch_ok = at_load(&weft__cancel_epoch) };
    look.asked = 0;
    look.answer = told_to;
    look.fires = fires;
    look.token = weft__wait_begin(t, shield);
    at_add(&weft__cancel_epoch, 1);
    return weft__wait_sleep(&f, told);
}

START_TEST(a_cancel_that_applies_ends_it_behind_its_back)
{
    struct weft__task *t = running();
    ck_assert(!sleeps(t, 0, true, false));
    ck_assert_int_eq(look.asked, 1);
    ck_assert_int_eq(phase(t), WEFT__READY);
    ck_assert_int_eq(weft__wait_claim(look.token, WEFT__CAUSE_EVENT), WEFT__TOO_LATE);
    ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_CANCEL);
    done_with(t);
}
END_TEST

START_TEST(one_that_does_not_apply_leaves_it_asleep)
{
    struct weft__task *t = running();
    ck_assert(sleeps(t, 3, false, false));
    ck_assert_int_eq(look.asked, 1);
    ck_assert_int_eq(phase(t), WEFT__WAITING);
    ck_assert_uint_eq(level(t), 3);
    ck_assert_int_eq(weft__wait_claim(look.token, WEFT__CAUSE_EVENT), WEFT__FIRED_ENQUEUE);
    ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_EVENT);
    done_with(t);
}
END_TEST

START_TEST(who_fires_it_during_the_look_has_won)
{
    for (int answer = 0; answer < 2; answer++) {
        struct weft__task *t = running();
        ck_assert(!sleeps(t, 0, answer != 0, true));
        ck_assert_int_eq(look.asked, 1);
        ck_assert_int_eq(phase(t), WEFT__READY);
        ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_CLOSED);
        done_with(t);
    }
}
END_TEST

START_TEST(who_was_fired_or_hears_of_no_cancel_is_not_looked_at)
{
    struct weft__task *t = running();
    ck_assert(sleeps(t, WEFT__LEVEL_NONE, true, false));
    ck_assert_int_eq(look.asked, 0);
    ck_assert_int_eq(phase(t), WEFT__WAITING);
    uint64_t asleep = at_load(&t->state);
    struct weft__frame f = { .task = t };
    ck_assert_int_eq(weft__wait_claim(look.token, WEFT__CAUSE_EVENT), WEFT__FIRED_ENQUEUE);
    ck_assert(weft__wait_look_again(&f, t, asleep, told));
    ck_assert_int_eq(look.asked, 0);
    ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_EVENT);
    /* It waits again already: that is another wait. */
    look.token = weft__wait_begin(t, 0);
    ck_assert(weft__wait_commit(t));
    ck_assert(weft__wait_look_again(&f, t, asleep, told));
    ck_assert_int_eq(look.asked, 0);
    ck_assert_int_eq(phase(t), WEFT__WAITING);
    done_with(t);
}
END_TEST

/* -- late tokens -- */

START_TEST(a_token_of_an_earlier_wait_does_nothing)
{
    struct weft__task *t = running();
    weft__token old = weft__wait_begin(t, 0), now;
    ck_assert_int_eq(weft__wait_claim(old, WEFT__CAUSE_EVENT), WEFT__FIRED_NOW);
    ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_EVENT);
    for (int asleep = 0; asleep < 2; asleep++) {
        now = weft__wait_begin(t, 0);
        if (asleep)
            ck_assert(weft__wait_commit(t));
        uint64_t s = at_load(&t->state);
        for (int i = 0; i < COUNT(causes); i++)
            ck_assert_int_eq(weft__wait_claim(old, causes[i]), WEFT__TOO_LATE);
        ck_assert_uint_eq(at_load(&t->state), s);
        ck_assert_int_ne(weft__wait_claim(now, WEFT__CAUSE_CLOSED), WEFT__TOO_LATE);
        ck_assert_int_eq(weft__wait_claim(old, WEFT__CAUSE_EVENT), WEFT__TOO_LATE);
        ck_assert_int_eq(weft__wait_cause(t), WEFT__CAUSE_CLOSED);
        old = now;
    }
    done_with(t);
}
END_TEST

START_TEST(a_token_of_an_earlier_life_does_nothing)
{
    struct weft__task *t = running();
    weft__token old[10];
    int n = 0;
    for (; n < COUNT(old) - 1; n++) {
        old[n] = weft__wait_begin(t, 0);
        ck_assert(weft__wait_give_up(t));
    }
    done_with(t);
    for (int lives = 0; lives < 5; lives++) {
        struct weft__task *next = running();
        ck_assert_ptr_eq(next, t); /* the same block */
        for (int waits = 0; waits < 3; waits++) {
            weft__token now = weft__wait_begin(t, 0);
            uint64_t s = at_load(&t->state);
            for (int i = 0; i < n; i++)
                ck_assert_int_eq(weft__wait_claim(old[i], WEFT__CAUSE_EVENT), WEFT__TOO_LATE);
            ck_assert_uint_eq(at_load(&t->state), s);
            ck_assert_int_eq(weft__wait_claim(now, WEFT__CAUSE_EVENT), WEFT__FIRED_NOW);
            (void)weft__wait_cause(t);
        }
        done_with(t);
    }
}
END_TEST

START_TEST(tickets_go_round)
{
    struct weft__task *t = running();
    at_store(&t->ticket, WEFT__NUMBER_MASK - 1);
    weft__token last = weft__wait_begin(t, 9);
    ck_assert_uint_eq(weft__number_of(at_load(&t->state)), WEFT__NUMBER_MASK);
    ck_assert_ptr_eq(weft__token_task(last), t);
    ck_assert_uint_eq(level(t), 9);
    ck_assert(weft__wait_give_up(t));
    weft__token first = weft__wait_begin(t, 9);
    ck_assert_uint_eq(weft__number_of(at_load(&t->state)), 0);
    ck_assert_int_eq(weft__wait_claim(last, WEFT__CAUSE_EVENT), WEFT__TOO_LATE);
    ck_assert(weft__wait_commit(t));
    ck_assert_int_eq(weft__wait_claim(first, WEFT__CAUSE_EVENT), WEFT__FIRED_ENQUEUE);
    (void)weft__wait_cause(t);
    at_store(&t->ticket, 1);
    done_with(t);
}
END_TEST

/* -- firers against the waiter -- */

enum { FIRERS = 3 };

struct race {
    struct weft__task *t;
    atomic_long token; /* the wait to be fired; -1: the end */
    atomic_int done;
    atomic_int now, enqueue;
    atomic_int cause; /* the winner's */
};

static void *firer(void *arg)
{
    struct race *r = arg;
    static atomic_int number;
    int me = atomic_fetch_add(&number, 1) % FIRERS;
    long seen = 0, k;
    while ((k = atomic_load(&r->token)) != -1) {
        if (k == seen) {
            sched_yield();
            continue;
        }
        seen = k;
        enum weft__fired f = me == 1 ? weft__wait_claim_cancel(r->t, 0)
                                     : weft__wait_claim((weft__token)k, causes[me]);
        if (f != WEFT__TOO_LATE)
            atomic_store(&r->cause, (int)causes[me]);
        if (f == WEFT__FIRED_NOW)
            atomic_fetch_add(&r->now, 1);
        if (f == WEFT__FIRED_ENQUEUE)
            atomic_fetch_add(&r->enqueue, 1);
        atomic_fetch_add(&r->done, 1);
    }
    return NULL;
}

/* Each wait ends exactly once, by one firer or by being given up; and exactly one makes it ready. */
START_TEST(of_all_who_may_end_a_wait_one_does)
{
    struct race r = { .t = running() };
    pthread_t th[FIRERS];
    uint64_t seed = 5;
    int wrong = 0, rounds = SCALED(4000, 1500, 600), gave_up = 0;
    for (int i = 0; i < FIRERS; i++)
        th[i] = thread_start(firer, &r);
    for (int i = 0; i < rounds; i++) {
        weft__token k = weft__wait_begin(r.t, 0);
        atomic_store(&r.done, 0);
        atomic_store(&r.now, 0);
        atomic_store(&r.enqueue, 0);
        atomic_store(&r.token, (long)k);
        for (unsigned n = next_random(&seed) % 2000; n > 0; n--)
            at_relax();
        bool up = false, slept = false, give = next_random(&seed) % 3 == 0;
        if (give)
            up = weft__wait_give_up(r.t);
        else
            slept = weft__wait_commit(r.t);
        while (atomic_load(&r.done) < FIRERS)
            sched_yield();
        int now = atomic_load(&r.now), enqueue = atomic_load(&r.enqueue);
        if (up)
            wrong += now + enqueue != 0 || phase(r.t) != WEFT__RUNNING;
        else if (slept)
            wrong += now != 0 || enqueue != 1 || phase(r.t) != WEFT__READY;
        else
            wrong += now != 1 || enqueue != 0 || phase(r.t) != (give ? WEFT__FIRED : WEFT__READY);
        gave_up += up;
        if (!up && (int)weft__wait_cause(r.t) != atomic_load(&r.cause))
            wrong++;
    }
    atomic_store(&r.token, -1);
    for (int i = 0; i < FIRERS; i++)
        pthread_join(th[i], NULL);
    done_with(r.t);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_lt(gave_up, rounds);
}
END_TEST

int main(void)
{
    int n = COUNT(causes);
    Suite *s = suite_create("wait");
    TCase *tc = add_case(s, "transitions");
    tcase_add_test(tc, a_wait_begins_with_a_new_ticket);
    tcase_add_loop_test(tc, given_up_it_is_over_and_cannot_be_fired, 0, n);
    tcase_add_loop_test(tc, fired_before_it_sleeps_it_does_not_sleep, 0, n);
    tcase_add_loop_test(tc, fired_while_it_goes_to_sleep_it_is_ready, 0, n);
    tcase_add_loop_test(tc, fired_asleep_the_firer_enqueues_it, 0, n);
    tc = add_case(s, "levels");
    tcase_add_test(tc, a_cancel_ends_only_waits_that_no_shield_hides);
    tcase_add_test(tc, no_cancel_applies_to_a_wait_of_level_none);
    tcase_add_test(tc, a_cancel_is_too_late_for_what_does_not_wait);
    tc = add_case(s, "a cancel that may have missed it");
    tcase_add_test(tc, a_cancel_that_applies_ends_it_behind_its_back);
    tcase_add_test(tc, one_that_does_not_apply_leaves_it_asleep);
    tcase_add_test(tc, who_fires_it_during_the_look_has_won);
    tcase_add_test(tc, who_was_fired_or_hears_of_no_cancel_is_not_looked_at);
    tc = add_case(s, "late tokens");
    tcase_add_test(tc, a_token_of_an_earlier_wait_does_nothing);
    tcase_add_test(tc, a_token_of_an_earlier_life_does_nothing);
    tcase_add_test(tc, tickets_go_round);
    tc = add_case(s, "threads");
    tcase_add_test(tc, of_all_who_may_end_a_wait_one_does);
    return run_suite(s);
}
