/* tests/classics_trio_test.c - what Trio promises of cancel scopes and nurseries, asked of weft.
 *
 * Both have cancellation that is a state: once told, each checkpoint says so until the scope that was told is left. The
 * behaviours are those of Trio's documentation; the programs are our own, written from weft's headers, and run on the
 * virtual clock. What Trio calls cancelled_caught, whether a scope has taken a cancel for its own, is in weft the result of
 * the scope's end: 0 or -ETIMEDOUT, where the body left with -ECANCELED.
 */
#include "classics.h"

/* -- checkpoints -- */

struct point {
    weft_chan *c;
    weft_event e;
    weft_notify n;
    weft_waitgroup g;
    weft_promise p;
};

/* Each kind of wait, none of which can be over by itself. */
static int wait_somewhere(struct point *p, int kind, weft_task other)
{
    int v = 0;
    weft_case cs[] = { weft_on_recv(p->c, &v, sizeof v), weft_on_event(&p->e) };
    switch (kind) {
    case 0:
        return weft_yield();
    case 1:
        return weft_check();
    case 2:
        return weft_sleep(weft_sec(3600));
    case 3:
        return weft_chan_recv(p->c, &v, sizeof v);
    case 4:
        return weft_chan_send(p->c, &v, sizeof v);
    case 5:
        return weft_event_wait(&p->e);
    case 6:
        return weft_notify_wait(&p->n);
    case 7:
        return weft_waitgroup_wait(&p->g);
    case 8:
        return weft_promise_wait(&p->p, NULL);
    case 9:
        return weft_task_join(other);
    case 10:
        return weft_select(cs, COUNT(cs));
    }
    return weft_sleep_until(WEFT_NEVER);
}
enum { KINDS = 12 };

static int wait_event(void *e)
{
    return weft_event_wait(e);
}

static int checkpoint_after_checkpoint(void *arg)
{
    (void)arg;
    struct point p = { 0 };
    weft_event end = WEFT_SYNC_INIT;
    weft_scope outer, s;
    SAME(weft_chan_create(&p.c, sizeof(int), 0, NULL), 0);
    weft_waitgroup_add(&p.g, 1);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_task other = weft_spawn(&outer, wait_event, &end);
    for (int deadline = 0; deadline < 2; deadline++) {
        weft_scope_begin(&s, deadline ? weft_ms(10) : WEFT_NEVER);
        if (deadline)
            SAME(weft_event_wait(&p.e), -ECANCELED);
        else
            weft_scope_cancel(&s, "leave");
        for (int round = 0; round < 2; round++)
            for (int k = 0; k < KINDS; k++)
                SAME(wait_somewhere(&p, k, other), -ECANCELED);
        MUST(weft_cancel_reason() && strcmp(weft_cancel_reason(), deadline ? "deadline" : "leave") == 0);
        SAME(weft_scope_end(&s, -ECANCELED), deadline ? -ETIMEDOUT : 0);
        MUST(weft_cancel_reason() == NULL);
        SAME(weft_yield(), 0);
        SAME(weft_sleep(weft_ms(1)), 0);
    }
    weft_event_set(&end);
    int rc = weft_scope_end(&outer, 0);
    weft_chan_destroy(&p.c);
    return rc;
}

START_TEST(each_checkpoint_in_a_cancelled_scope_says_so_until_it_is_left)
{
    IN_VIRTUAL_TIME(checkpoint_after_checkpoint, NULL, workers[_i]);
}
END_TEST

/* The same, told while it waits, in each kind of wait. */
struct waiter {
    struct point *p;
    int kind;
    weft_task other;
    atomic_int rc[2];
};

static int wait_till_told(void *arg)
{
    struct waiter *w = arg;
    atomic_store(&w->rc[0], wait_somewhere(w->p, w->kind, w->other));
    atomic_store(&w->rc[1], wait_somewhere(w->p, w->kind, w->other));
    return -ECANCELED;
}

static int tell_who_waits(void *arg)
{
    (void)arg;
    struct point p = { 0 };
    struct waiter w[KINDS];
    weft_event end = WEFT_SYNC_INIT;
    weft_scope outer, s;
    SAME(weft_chan_create(&p.c, sizeof(int), 1, NULL), 0);
    weft_waitgroup_add(&p.g, 1);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_task other = weft_spawn(&outer, wait_event, &end);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int k = 2; k < KINDS; k++) {
        if (k == 4)
            continue; /* a send would be somebody's item */
        w[k] = (struct waiter){ .p = &p, .kind = k, .other = other };
        weft_spawn(&s, wait_till_told, &w[k]);
    }
    settle();
    weft_scope_cancel(&s, NULL);
    int64_t began = weft_now();
    SAME(weft_scope_end(&s, 0), 0);
    SAME(weft_now(), began);
    for (int k = 2; k < KINDS; k++)
        for (int i = 0; i < 2 && k != 4; i++)
            SAME(atomic_load(&w[k].rc[i]), -ECANCELED);
    weft_event_set(&end);
    int rc = weft_scope_end(&outer, 0);
    weft_chan_destroy(&p.c);
    return rc;
}

START_TEST(who_waits_when_its_scope_is_cancelled_leaves_at_once)
{
    IN_VIRTUAL_TIME(tell_who_waits, NULL, workers[_i]);
}
END_TEST

/* -- nested scopes -- */

static int nest(void *arg)
{
    (void)arg;
    weft_scope a, b, c;

    /* The middle one of three: the inner one passes it on, the middle one takes it, the outer one never hears of it. */
    weft_scope_begin(&a, WEFT_NEVER);
    weft_scope_begin(&b, WEFT_NEVER);
    weft_scope_begin(&c, WEFT_NEVER);
    weft_scope_cancel(&b, NULL);
    SAME(weft_yield(), -ECANCELED);
    SAME(weft_scope_end(&c, -ECANCELED), -ECANCELED);
    SAME(weft_yield(), -ECANCELED);
    SAME(weft_scope_end(&b, -ECANCELED), 0);
    SAME(weft_yield(), 0);
    SAME(weft_scope_end(&a, 0), 0);

    /* The inner one alone. */
    weft_scope_begin(&a, WEFT_NEVER);
    weft_scope_begin(&b, WEFT_NEVER);
    weft_scope_cancel(&b, NULL);
    SAME(weft_scope_end(&b, weft_yield()), 0);
    SAME(weft_yield(), 0);
    SAME(weft_scope_end(&a, 0), 0);

    /* Both: it is for the outer one to take, whichever was first. */
    for (int first = 0; first < 2; first++) {
        weft_scope_begin(&a, WEFT_NEVER);
        weft_scope_begin(&b, WEFT_NEVER);
        weft_scope_cancel(first ? &a : &b, NULL);
        weft_scope_cancel(first ? &b : &a, NULL);
        SAME(weft_scope_end(&b, weft_yield()), -ECANCELED);
        SAME(weft_scope_end(&a, -ECANCELED), 0);
    }

    /* A scope begun in a cancelled one is cancelled; nothing that it says of its own changes that. */
    weft_scope_begin(&a, WEFT_NEVER);
    weft_scope_cancel(&a, NULL);
    weft_scope_begin(&b, weft_sec(10));
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    weft_scope_set_deadline(&b, WEFT_NEVER);
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    SAME(weft_scope_end(&b, -ECANCELED), -ECANCELED);
    MUST(!weft_scope_expired(&b));
    SAME(weft_scope_end(&a, -ECANCELED), 0);
    return weft_check();
}

START_TEST(cancel_is_taken_by_the_scope_that_it_was_for)
{
    IN_VIRTUAL_TIME(nest, NULL, workers[_i]);
}
END_TEST

/* Called cancelled, and caught, are two things. */
static int account(void *arg)
{
    (void)arg;
    weft_scope s;

    /* Cancelled, and no checkpoint passed: the body has finished. */
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    weft_scope_cancel(&s, "a second time");
    SAME(weft_scope_end(&s, 5), 5);

    /* A deadline that passed, and the body finished: it has expired, and the result counts. */
    weft_scope_begin(&s, weft_ms(1));
    settle();
    SAME(weft_sleep(weft_ms(5)), -ECANCELED);
    SAME(weft_scope_end(&s, 5), 5);
    MUST(weft_scope_expired(&s));

    /* A failure that follows a cancel is taken to have come of it; Trio would let it out. */
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    SAME(weft_scope_end(&s, -EPROTO), 0);
    weft_scope_begin(&s, weft_ms(1));
    SAME(weft_sleep(weft_ms(5)), -ECANCELED);
    SAME(weft_scope_end(&s, -EPROTO), -ETIMEDOUT);

    /* Nothing told it: the body's failure comes out as what it is. */
    weft_scope_begin(&s, WEFT_NEVER);
    SAME(weft_scope_end(&s, -EPROTO), -EPROTO);
    MUST(!weft_scope_expired(&s));

    /* The first reason is the one that is told. */
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, "first");
    weft_scope_cancel(&s, "second");
    SAME(weft_check(), -ECANCELED);
    MUST(weft_cancel_reason() && strcmp(weft_cancel_reason(), "first") == 0);
    SAME(weft_scope_end(&s, -ECANCELED), 0);
    return weft_check();
}

START_TEST(being_told_and_having_left_are_told_apart)
{
    IN_VIRTUAL_TIME(account, NULL, workers[_i]);
}
END_TEST

/* -- move_on_after, fail_after -- */

/* The work is given up when time is up, and that is fine: 1 it was done, 0 it was given up, else an error. */
static int move_on_after(int64_t within, int64_t work)
{
    weft_scope s;
    weft_scope_begin(&s, within);
    int rc = weft_scope_end(&s, weft_sleep(work));
    if (rc == -ETIMEDOUT && weft_scope_expired(&s))
        return 0;
    return rc < 0 ? rc : 1;
}

static int fail_after(int64_t within, int64_t work)
{
    weft_scope s;
    weft_scope_begin(&s, within);
    return weft_scope_end(&s, weft_sleep(work));
}

static int after(void *arg)
{
    (void)arg;
    int64_t began = weft_now();
    SAME(move_on_after(weft_ms(10), weft_ms(5)), 1);
    SAME(weft_now() - began, weft_ms(5));
    SAME(move_on_after(weft_ms(10), weft_ms(50)), 0);
    SAME(weft_now() - began, weft_ms(15));
    SAME(fail_after(weft_ms(10), weft_ms(5)), 0);
    SAME(fail_after(weft_ms(10), weft_ms(50)), -ETIMEDOUT);
    SAME(weft_now() - began, weft_ms(30));

    /* Who moves on does not do so for somebody else's deadline. */
    weft_scope outer;
    weft_scope_begin(&outer, weft_ms(10));
    SAME(move_on_after(weft_ms(50), weft_ms(100)), -ECANCELED);
    SAME(weft_scope_end(&outer, -ECANCELED), -ETIMEDOUT);
    SAME(weft_now() - began, weft_ms(40));

    /* Nor does a deadline further in, which failed, look like the own one. */
    weft_scope_begin(&outer, weft_ms(50));
    int rc = weft_scope_end(&outer, fail_after(weft_ms(10), weft_ms(100)));
    SAME(rc, -ETIMEDOUT);
    MUST(!weft_scope_expired(&outer));

    /* Many deep, with the earliest one somewhere in between. */
    weft_scope s[8];
    static const int within[8] = { 80, 90, 70, 85, 20, 60, 30, 40 };
    began = weft_now();
    for (int i = 0; i < 8; i++)
        weft_scope_begin(&s[i], weft_ms(within[i]));
    SAME(weft_deadline() - began, weft_ms(20));
    SAME(weft_remaining(), weft_ms(20));
    rc = weft_sleep(weft_ms(500));
    for (int i = 7; i > 4; i--) {
        SAME(rc, -ECANCELED);
        rc = weft_scope_end(&s[i], rc);
        MUST(!weft_scope_expired(&s[i]));
    }
    SAME(weft_scope_end(&s[4], rc), -ETIMEDOUT);
    MUST(weft_scope_expired(&s[4]));
    SAME(weft_remaining(), weft_ms(50));
    for (int i = 3; i >= 0; i--)
        SAME(weft_scope_end(&s[i], 0), 0);
    return 0;
}

START_TEST(move_on_after_and_fail_after_know_their_own_deadline_from_others)
{
    IN_VIRTUAL_TIME(after, NULL, workers[_i]);
}
END_TEST

/* Renewed with each thing that was heard: a watch for silence. */
static int change_the_deadline(void *arg)
{
    (void)arg;
    int64_t began = weft_now();
    weft_scope s, inner;
    weft_scope_begin(&s, weft_ms(10));
    for (int i = 0; i < 20; i++) {
        SAME(weft_sleep(weft_ms(9)), 0);
        weft_scope_set_deadline(&s, weft_after(weft_ms(10)));
    }
    SAME(weft_now() - began, weft_ms(180));
    int rc = weft_sleep(weft_ms(100));
    SAME(rc, -ECANCELED);
    SAME(weft_now() - began, weft_ms(190));
    SAME(weft_scope_end(&s, rc), -ETIMEDOUT);

    /* The outer one's, from within the inner. */
    began = weft_now();
    weft_scope_begin(&s, weft_ms(10));
    weft_scope_begin(&inner, weft_ms(20));
    SAME(weft_deadline() - began, weft_ms(10));
    weft_scope_set_deadline(&s, began + weft_ms(30));
    SAME(weft_deadline() - began, weft_ms(20));
    rc = weft_sleep(weft_ms(100));
    SAME(weft_scope_end(&inner, rc), -ETIMEDOUT);
    SAME(weft_now() - began, weft_ms(20));
    SAME(weft_sleep(weft_ms(9)), 0);
    weft_scope_set_deadline(&s, weft_now());
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    SAME(weft_now() - began, weft_ms(29));
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);
    return 0;
}

START_TEST(deadline_is_moved_while_inside)
{
    IN_VIRTUAL_TIME(change_the_deadline, NULL, workers[_i]);
}
END_TEST

static int sleep_long(void *arg)
{
    int rc = weft_sleep(weft_sec(3600));
    *(int64_t *)arg = weft_now();
    return rc;
}

/* Moved by the body, felt by the children. */
static int change_the_childrens_deadline(void *arg)
{
    (void)arg;
    int64_t began = weft_now(), ended[2] = { 0 };
    weft_scope s;
    weft_scope_begin(&s, weft_ms(10));
    weft_spawn(&s, sleep_long, &ended[0]);
    weft_spawn(&s, sleep_long, &ended[1]);
    SAME(weft_sleep(weft_ms(5)), 0);
    weft_scope_set_deadline(&s, began + weft_ms(40));
    SAME(weft_sleep(weft_ms(10)), 0);
    weft_scope_set_deadline(&s, began + weft_ms(25));
    SAME(weft_scope_end(&s, 0), -ETIMEDOUT);
    for (int i = 0; i < 2; i++)
        SAME(ended[i] - began, weft_ms(25));
    return 0;
}

START_TEST(deadline_that_is_moved_is_moved_for_the_children)
{
    IN_VIRTUAL_TIME(change_the_childrens_deadline, NULL, workers[_i]);
}
END_TEST

/* -- shields -- */

static int shielded(void *arg)
{
    (void)arg;
    int64_t began = weft_now();
    weft_scope s, shield, within;
    weft_scope_begin(&s, weft_ms(10));
    weft_scope_cancel(&s, NULL);
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    weft_scope_begin_shield(&shield, weft_ms(100));
    SAME(weft_check(), 0);
    MUST(weft_cancel_reason() == NULL);
    SAME(weft_deadline() - began, weft_ms(100)); /* the outer one's is hidden */
    SAME(weft_sleep(weft_ms(30)), 0);

    /* Inside it scopes are as ever. */
    weft_scope_begin(&within, weft_ms(10));
    SAME(weft_scope_end(&within, weft_sleep(weft_ms(20))), -ETIMEDOUT);
    weft_scope_begin(&within, WEFT_NEVER);
    weft_scope_cancel(&within, NULL);
    SAME(weft_scope_end(&within, weft_sleep(weft_ms(20))), 0);
    SAME(weft_sleep(weft_ms(1)), 0);
    SAME(weft_scope_end(&shield, 3), 3);
    SAME(weft_now() - began, weft_ms(41));
    SAME(weft_sleep(weft_ms(1)), -ECANCELED);
    SAME(weft_now() - began, weft_ms(41));

    /* A second one, whose grace is not enough. */
    weft_scope_begin_shield(&shield, weft_ms(5));
    SAME(weft_scope_end(&shield, weft_sleep(weft_ms(30))), -ETIMEDOUT);
    MUST(weft_scope_expired(&shield));
    SAME(weft_now() - began, weft_ms(46));

    /* One that is cancelled itself is no shield against that. */
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    weft_scope_cancel(&shield, NULL);
    SAME(weft_scope_end(&shield, weft_sleep(weft_ms(30))), 0);
    SAME(weft_now() - began, weft_ms(46));
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT);
    return weft_check();
}

START_TEST(shield_inside_a_cancelled_scope_hides_it_and_is_bounded_by_its_grace)
{
    IN_VIRTUAL_TIME(shielded, NULL, workers[_i]);
}
END_TEST

struct cleanup {
    struct story t;
    int64_t grace, takes;
    atomic_int rc;
};

/* Works until told, then cleans up for a while in a shield. */
static int work_and_clean_up(void *arg)
{
    struct cleanup *c = arg;
    int rc = weft_sleep(weft_sec(3600));
    note(&c->t, 1);
    weft_scope shield;
    weft_scope_begin_shield(&shield, c->grace);
    atomic_store(&c->rc, weft_scope_end(&shield, weft_sleep(c->takes)));
    note(&c->t, 3);
    return rc;
}

static int cancel_around_a_cleanup(void *arg)
{
    (void)arg;
    struct cleanup c = { .grace = weft_ms(100), .takes = weft_ms(30), .rc = 1 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn(&s, work_and_clean_up, &c);
    settle();
    weft_task_cancel(t, NULL);
    settle();
    note(&c.t, 2);
    int64_t began = weft_now();
    weft_scope_cancel(&s, NULL); /* it is in its shield, and finishes that */
    SAME(weft_scope_end(&s, 0), 0);
    HAPPENED(&c.t, 1, 2, 3);
    SAME(c.rc, 0);
    SAME(ms_since(began), 29); /* but for the nanosecond of settle() */

    /* The cleanup has a deadline of its own; and that is not the work's failure. */
    c = (struct cleanup){ .grace = weft_ms(10), .takes = weft_ms(30), .rc = 1 };
    weft_scope_begin(&s, weft_ms(20));
    began = weft_now();
    weft_spawn(&s, work_and_clean_up, &c);
    SAME(weft_scope_end(&s, 0), -ETIMEDOUT);
    SAME(weft_now() - began, weft_ms(30));
    SAME(c.rc, -ETIMEDOUT);
    HAPPENED(&c.t, 1, 3);
    return weft_check();
}

START_TEST(cleanup_in_a_shield_is_finished_whatever_is_cancelled_around_it)
{
    IN_VIRTUAL_TIME(cancel_around_a_cleanup, NULL, workers[_i]);
}
END_TEST

/* A shield that was there before the cancel; what is behind it hears of the cancel when it is over. */
static int shield_first(void *arg)
{
    struct cleanup *c = arg;
    weft_scope shield;
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    atomic_store(&c->rc, weft_scope_end(&shield, weft_sleep(c->takes)));
    note(&c->t, 1);
    int rc = weft_sleep(weft_sec(3600));
    note(&c->t, rc);
    return rc;
}

static int cancel_outside_of_a_shield(void *arg)
{
    (void)arg;
    struct cleanup c = { .takes = weft_ms(50), .rc = 1 };
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, weft_ms(10));
    weft_spawn(&s, shield_first, &c);
    SAME(weft_sleep(weft_ms(20)), -ECANCELED);
    SAME(weft_now() - began, weft_ms(10));
    NOTHING_HAPPENED(&c.t);
    SAME(weft_scope_end(&s, -ECANCELED), -ETIMEDOUT); /* it waits for the shielded */
    SAME(weft_now() - began, weft_ms(50));
    SAME(c.rc, 0);
    HAPPENED(&c.t, 1, -ECANCELED);

    /* Children that are started inside of a shield are inside of it. */
    int64_t ended = 0;
    weft_scope shield;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    began = weft_now();
    weft_scope_begin_shield(&shield, weft_ms(70));
    weft_spawn(&shield, sleep_long, &ended);
    SAME(weft_scope_end(&shield, 0), -ETIMEDOUT);
    SAME(ended - began, weft_ms(70));
    SAME(weft_scope_end(&s, -ECANCELED), 0);
    return 0;
}

START_TEST(cancel_waits_for_a_shield_that_was_there_before)
{
    IN_VIRTUAL_TIME(cancel_outside_of_a_shield, NULL, workers[_i]);
}
END_TEST

/* Trio has no such thing: the one way through a shield. */
static int cancel_hard(void *arg)
{
    (void)arg;
    struct cleanup c = { .grace = WEFT_NEVER, .takes = weft_sec(3600), .rc = 1 };
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, work_and_clean_up, &c);
    settle();
    began = weft_now();
    weft_scope_cancel_hard(&s, weft_ms(40), NULL);
    SAME(weft_scope_end(&s, 0), 0);
    SAME(weft_now() - began, weft_ms(40));
    SAME(c.rc, -ECANCELED);
    HAPPENED(&c.t, 1, 3);
    return weft_check();
}

START_TEST(shield_is_broken_by_a_hard_cancel_when_its_grace_is_over)
{
    IN_VIRTUAL_TIME(cancel_hard, NULL, workers[_i]);
}
END_TEST

/* -- nurseries -- */

struct nursery {
    weft_scope *s;
    struct story t;
    int number;
};

static int sleep_and_note(void *arg)
{
    struct nursery *n = arg;
    int rc = weft_sleep(weft_ms(10 * n->number));
    note(&n->t, n->number);
    return rc;
}

static int outlive_the_body(void *arg)
{
    (void)arg;
    struct nursery n[3];
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++) {
        n[i] = (struct nursery){ .number = i + 1 };
        weft_spawn(&s, sleep_and_note, &n[i]);
    }
    SAME(weft_scope_alive(&s), 3);
    for (int i = 0; i < 3; i++)
        NOTHING_HAPPENED(&n[i].t);
    SAME(weft_scope_end(&s, 0), 0);
    SAME(weft_now() - began, weft_ms(30));
    for (int i = 0; i < 3; i++)
        HAPPENED(&n[i].t, i + 1);
    return 0;
}

START_TEST(nursery_stays_open_until_its_last_child_has_ended)
{
    IN_VIRTUAL_TIME(outlive_the_body, NULL, workers[_i]);
}
END_TEST

/* Starts another in the nursery it was handed, and ends before that. */
static int start_in_anothers(void *arg)
{
    struct nursery *n = arg;
    weft_scope own;
    weft_scope_begin(&own, weft_ms(5)); /* what it has around itself is not what the new one is under */
    weft_spawn(n->s, sleep_and_note, n);
    int rc = weft_sleep(weft_ms(1));
    return weft_scope_end(&own, rc);
}

static int hand_a_nursery_on(void *arg)
{
    (void)arg;
    weft_scope outer, inner;
    struct nursery n = { .s = &outer, .number = 3 };
    int64_t began = weft_now();
    weft_scope_begin(&outer, WEFT_NEVER);
    weft_scope_begin(&inner, WEFT_NEVER);
    weft_spawn(&inner, start_in_anothers, &n);
    SAME(weft_scope_end(&inner, 0), 0);
    SAME(weft_now() - began, weft_ms(1));
    NOTHING_HAPPENED(&n.t);
    SAME(weft_scope_end(&outer, 0), 0);
    SAME(weft_now() - began, weft_ms(30));
    HAPPENED(&n.t, 3);

    /* A cancel of the spawner's scope is not for it, a cancel of the nursery is. */
    n = (struct nursery){ .s = &outer, .number = 3 };
    began = weft_now();
    weft_scope_begin(&outer, weft_ms(20));
    weft_scope_begin(&inner, WEFT_NEVER);
    weft_spawn(&inner, start_in_anothers, &n);
    settle();
    weft_scope_cancel(&inner, NULL);
    SAME(weft_scope_end(&inner, 0), 0);
    settle();
    NOTHING_HAPPENED(&n.t);
    SAME(weft_scope_end(&outer, 0), -ETIMEDOUT);
    SAME(weft_now() - began, weft_ms(20));
    return 0;
}

START_TEST(nursery_is_handed_on_and_what_is_started_in_it_is_under_it)
{
    IN_VIRTUAL_TIME(hand_a_nursery_on, NULL, workers[_i]);
}
END_TEST

/* nursery.start: the child says when it is ready, with a value, and goes on. */
struct service {
    weft_promise ready;
    weft_event stop;
    int fails;
    int port;
};

static int serve(void *arg)
{
    struct service *v = arg;
    int rc = weft_sleep(weft_ms(10));
    if (rc == 0 && v->fails)
        rc = -EADDRINUSE;
    v->port = 8080;
    weft_promise_set(&v->ready, rc, &v->port);
    return rc < 0 ? rc : weft_event_wait(&v->stop);
}

static int start_a_service(void *arg)
{
    (void)arg;
    struct service v = { .fails = 0 };
    void *port = NULL;
    int64_t began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, serve, &v);
    SAME(weft_promise_wait(&v.ready, &port), 0);
    SAME(weft_now() - began, weft_ms(10));
    MUST(port && *(int *)port == 8080);
    SAME(weft_scope_alive(&s), 1);
    weft_event_set(&v.stop);
    SAME(weft_scope_end(&s, 0), 0);

    v = (struct service){ .fails = 1 };
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, serve, &v);
    int rc = weft_promise_wait(&v.ready, NULL);
    MUST(rc == -EADDRINUSE || rc == -ECANCELED); /* its failure cancels who waits, too */
    SAME(weft_scope_end(&s, rc), -EADDRINUSE);
    return 0;
}

START_TEST(nursery_waits_for_a_child_to_say_that_it_is_ready)
{
    IN_VIRTUAL_TIME(start_a_service, NULL, workers[_i]);
}
END_TEST

static int say_begun(void *arg)
{
    struct nursery *n = arg;
    note(&n->t, weft_check());
    note(&n->t, weft_sleep(weft_ms(1)));
    return -ECANCELED;
}

static int start_in_a_cancelled(void *arg)
{
    (void)arg;
    struct nursery n = { .number = 0 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    weft_spawn(&s, say_begun, &n);
    SAME(weft_scope_end(&s, 0), 0);
    HAPPENED(&n.t, -ECANCELED, -ECANCELED);

    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, say_begun, &n);
    weft_scope_cancel(&s, NULL);
    SAME(weft_scope_end(&s, 0), 0);
    SAME(atomic_load(&n.t.n), 2);
    SAME(atomic_load(&n.t.what[1]), -ECANCELED);
    return 0;
}

START_TEST(nursery_that_is_cancelled_begins_its_children_and_they_hear_of_it_at_their_first_checkpoint)
{
    IN_VIRTUAL_TIME(start_in_a_cancelled, NULL, workers[_i]);
}
END_TEST

/* A tree of tasks, each of which opens a nursery: a cancel at the root reaches all, and all have cleaned up before it ends. */
struct branch {
    int depth;
    atomic_int *told, *cleaned;
};

static int grow(void *arg)
{
    const struct branch *b = arg;
    struct branch below = { b->depth - 1, b->told, b->cleaned };
    weft_scope s, shield;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3 && b->depth > 0; i++)
        weft_spawn(&s, grow, &below);
    int rc = weft_sleep(weft_sec(3600));
    atomic_fetch_add(b->told, rc == -ECANCELED);
    rc = weft_scope_end(&s, rc);
    SAME(rc, -ECANCELED);
    weft_scope_begin_shield(&shield, weft_ms(100));
    if (weft_scope_end(&shield, weft_sleep(weft_ms(1))) == 0)
        atomic_fetch_add(b->cleaned, 1);
    return rc;
}

static int cancel_a_tree(void *arg)
{
    (void)arg;
    atomic_int told = 0, cleaned = 0;
    int depth = chaos() ? 3 : SCALED(6, 5, 4), all = 0;
    for (int d = 0, n = 1; d <= depth; d++, n *= 3)
        all += n;
    struct branch root = { depth, &told, &cleaned };
    weft_scope s;
    weft_scope_begin(&s, weft_sec(1));
    int64_t began = weft_now();
    weft_spawn(&s, grow, &root);
    SAME(weft_scope_end(&s, 0), -ETIMEDOUT);
    SAME(told, all);
    SAME(cleaned, all);
    SAME(weft_now() - began, weft_sec(1) + weft_ms(1) * (depth + 1)); /* children first */
    return 0;
}

START_TEST(cancel_reaches_all_of_a_tree_and_waits_for_its_cleanup)
{
    IN_VIRTUAL_TIME(cancel_a_tree, NULL, workers[_i]);
}
END_TEST

#define LOOP(tc, test) tcase_add_loop_test(tc, test, 0, COUNT(workers))

int main(void)
{
    Suite *s = suite_create("classics_trio");
    TCase *tc = add_case(s, "scopes");
    LOOP(tc, each_checkpoint_in_a_cancelled_scope_says_so_until_it_is_left);
    LOOP(tc, who_waits_when_its_scope_is_cancelled_leaves_at_once);
    LOOP(tc, cancel_is_taken_by_the_scope_that_it_was_for);
    LOOP(tc, being_told_and_having_left_are_told_apart);
    LOOP(tc, move_on_after_and_fail_after_know_their_own_deadline_from_others);
    LOOP(tc, deadline_is_moved_while_inside);
    LOOP(tc, deadline_that_is_moved_is_moved_for_the_children);
    tc = add_case(s, "shields");
    LOOP(tc, shield_inside_a_cancelled_scope_hides_it_and_is_bounded_by_its_grace);
    LOOP(tc, cleanup_in_a_shield_is_finished_whatever_is_cancelled_around_it);
    LOOP(tc, cancel_waits_for_a_shield_that_was_there_before);
    LOOP(tc, shield_is_broken_by_a_hard_cancel_when_its_grace_is_over);
    tc = add_case(s, "nurseries");
    LOOP(tc, nursery_stays_open_until_its_last_child_has_ended);
    LOOP(tc, nursery_is_handed_on_and_what_is_started_in_it_is_under_it);
    LOOP(tc, nursery_waits_for_a_child_to_say_that_it_is_ready);
    LOOP(tc, nursery_that_is_cancelled_begins_its_children_and_they_hear_of_it_at_their_first_checkpoint);
    LOOP(tc, cancel_reaches_all_of_a_tree_and_waits_for_its_cleanup);
    return run_suite(s);
}
