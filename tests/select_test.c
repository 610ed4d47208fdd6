/* tests/select_test.c - os/select.c: one of the cases that are ready, and nothing of the others. */
#include "support.h"

#include "base/fault.h"

static const int workers[] = { 1, 2, 4 };

static weft_chan *make(size_t capacity)
{
    weft_chan *c = NULL;
    if (weft_chan_create(&c, sizeof(int), capacity, NULL) < 0)
        abort();
    return c;
}

static int put(weft_chan *c, int v)
{
    return weft_chan_try_send(c, &v, sizeof v);
}

static void let_wait(void)
{
    for (int i = 0; i < 30; i++) {
        weft_ignore(weft_yield());
        if (i % 10 == 9)
            weft_ignore(weft_sleep(weft_us(200)));
    }
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

/* -- each kind, ready before, and while it waits -- */

/* What makes one case ready, and how its rc must be. */
enum subject { RECV, RECV_CLOSED, SEND, SEND_RENDEZVOUS, SEND_CLOSED, TIMER, FD, FD_CLOSED, JOIN, EVENT, NOTIFY, SUBJECTS };

static const int due[SUBJECTS] = { 1, 0, 0, 0, -EPIPE, 0, WEFT_READABLE, -EBADF, 0, 0, 0 };

struct things {
    enum subject subject;
    bool before, thread;
    weft_chan *empty, *full, *quiet;
    weft_event event, never;
    weft_notify notify, unheard;
    int pair[2];
    atomic_int go, here;
    int index, rc, item, taken, left;
};

static int until_go(void *arg)
{
    struct things *t = arg;
    wait_for(&t->go, 1);
    return 0;
}

static void make_ready(struct things *t)
{
    int v;
    switch (t->subject) {
    case RECV:
        t->taken = put(t->empty, 11);
        break;
    case RECV_CLOSED:
        weft_chan_close(t->empty);
        break;
    case SEND:
        t->taken = weft_chan_try_recv(t->full, &v, sizeof v) == 1 ? 0 : -1;
        break;
    case SEND_RENDEZVOUS:
        t->taken = weft_chan_recv(t->quiet, &v, sizeof v) == 1 && v == 22 ? 0 : -1;
        break;
    case SEND_CLOSED:
        weft_chan_close(t->full);
        break;
    case TIMER:
        break;
    case FD:
        t->taken = sys_write(t->pair[1], "x", 1) == 1 ? 0 : -1;
        break;
    case FD_CLOSED:
        t->taken = weft_close(t->pair[0]);
        break;
    case JOIN:
        atomic_store(&t->go, 1);
        break;
    case EVENT:
        weft_event_set(&t->event);
        break;
    case NOTIFY:
        weft_notify_one(&t->notify);
        break;
    case SUBJECTS:
        break;
    }
}

static int ready_one(void *arg)
{
    struct things *t = arg;
    if (!t->before) {
        wait_for(&t->here, 1);
        let_wait();
    }
    make_ready(t);
    return 0;
}

static weft_case case_of(struct things *t, weft_task joined)
{
    static const int v = 22;
    switch (t->subject) {
    case RECV:
    case RECV_CLOSED:
        return weft_on_recv(t->empty, &t->item, sizeof t->item);
    case SEND:
    case SEND_CLOSED:
        return weft_on_send(t->full, &v, sizeof v);
    case SEND_RENDEZVOUS:
        return weft_on_send(t->quiet, &v, sizeof v);
    case TIMER:
        return weft_on_timer(t->before ? -1 : weft_ms(2));
    case FD:
    case FD_CLOSED:
        return weft_on_fd(t->pair[0], WEFT_READABLE);
    case JOIN:
        return weft_on_join(joined);
    case EVENT:
        return weft_on_event(&t->event);
    case NOTIFY:
        return weft_on_notify(&t->notify);
    case SUBJECTS:
        break;
    }
    return (weft_case){ 0 };
}

/* The case of interest at a place among others, of all kinds, that are never ready. */
static int select_among(void *arg)
{
    struct things *t = arg;
    weft_chan *idle = make(0);
    int v = 0, other[2], place = (int)t->subject % 9;
    if (weft_pair(other) < 0)
        return -EMFILE;
    weft_scope s, inner;
    weft_scope_begin(&s, LIMIT);
    weft_scope_begin(&inner, WEFT_NEVER);
    weft_task joined = weft_spawn(&inner, until_go, t), lasting;
    struct things other_things = { .subject = SUBJECTS };
    lasting = weft_spawn(&inner, until_go, &other_things);
    weft_task helper = weft_spawn(&s, ready_one, t);
    if (t->before && t->subject != SEND_RENDEZVOUS)
        weft_ignore(weft_task_join(helper));
    else if (t->before)
        let_wait();
    if (t->before && t->subject == JOIN)
        weft_ignore(weft_task_join(joined));
    weft_case cs[] = {
        weft_on_recv(idle, &v, sizeof v),
        weft_on_recv(NULL, NULL, 3),
        weft_on_send(idle, &v, sizeof v),
        weft_on_timer(WEFT_NEVER),
        weft_on_fd(other[0], WEFT_READABLE),
        weft_on_join(lasting),
        weft_on_event(&t->never),
        weft_on_notify(&t->unheard),
        { .kind = WEFT_CASE_NONE },
    };
    bool only = t->index != 0; /* alone, or among the others */
    cs[only ? 0 : place] = case_of(t, joined);
    for (int i = 0; i < COUNT(cs); i++)
        cs[i].rc = 1234;
    atomic_store(&t->here, 1);
    int rc = weft_select(cs, only ? 1 : COUNT(cs));
    t->index = only ? (rc == 0 ? place : -1) : rc;
    t->rc = rc >= 0 ? cs[rc].rc : 0;
    for (int i = 0; i < COUNT(cs); i++)
        t->left += i != rc && cs[i].rc != 1234;
    atomic_store(&t->go, 1);
    atomic_store(&other_things.go, 1);
    rc = weft_scope_end(&inner, 0);
    int rc2 = weft_scope_end(&s, 0);
    /* No trace: nobody waits at what was not ready. */
    t->left += put(idle, 1) != -EAGAIN;
    weft_event_set(&t->never);
    weft_notify_one(&t->unheard);
    weft_scope_begin(&s, LIMIT);
    t->left += weft_scope_end(&s, weft_notify_wait(&t->unheard)) != 0;
    t->left += sys_write(other[1], "x", 1) != 1;
    weft_chan_destroy(&idle);
    weft_close(other[0]);
    weft_close(other[1]);
    return rc < 0 ? rc : rc2;
}

static struct things things_of(int i)
{
    struct things t = { .subject = (enum subject)(i % SUBJECTS), .before = (i / SUBJECTS) & 1, .index = i / SUBJECTS / 2 };
    t.empty = make(1);
    t.full = make(1);
    t.quiet = make(0);
    if (put(t.full, 1) < 0 || weft_pair(t.pair) < 0)
        abort();
    return t;
}

static void things_end(struct things *t)
{
    weft_chan_destroy(&t->empty);
    weft_chan_destroy(&t->full);
    weft_chan_destroy(&t->quiet);
    weft_close(t->pair[0]);
    weft_close(t->pair[1]);
}

static void things_check(const struct things *t)
{
    ck_assert_msg(t->index == (int)t->subject % 9, "subject %d before %d: index %d", t->subject, t->before, t->index);
    ck_assert_msg(t->rc == due[t->subject], "subject %d before %d: rc %d", t->subject, t->before, t->rc);
    ck_assert_int_eq(t->taken, 0);
    ck_assert_int_eq(t->left, 0);
    if (t->subject == RECV)
        ck_assert_int_eq(t->item, 11);
}

START_TEST(the_ready_one_is_done_and_the_others_keep_no_trace)
{
    for (int i = 0; i < SUBJECTS * 4; i++) {
        struct things t = things_of(i);
        ck_assert_int_eq(weft_run(select_among, &t, ON(workers[_i])), 0);
        things_check(&t);
        things_end(&t);
    }
}
END_TEST


static void *help(void *arg)
{
    ready_one(arg);
    return NULL;
}

START_TEST(plain_threads_select)
{
    for (int i = 0; i < SUBJECTS * 2; i++) {
        if (i % SUBJECTS == JOIN)
            continue; /* it needs tasks */
        struct things t = things_of(i);
        int v = 0;
        weft_chan *idle = make(0);
        pthread_t thread = thread_start(help, &t);
        if (t.before && t.subject != SEND_RENDEZVOUS)
            pthread_join(thread, NULL);
        weft_case cs[] = {
            weft_on_recv(idle, &v, sizeof v),
            case_of(&t, 0),
            weft_on_event(&t.never),
        };
        atomic_store(&t.here, 1);
        ck_assert_int_eq(weft_select(cs, 3), 1);
        ck_assert_int_eq(cs[1].rc, due[t.subject]);
        if (!t.before || t.subject == SEND_RENDEZVOUS)
            pthread_join(thread, NULL);
        ck_assert_int_eq(t.taken, 0);
        ck_assert_int_eq(put(idle, 1), -EAGAIN);
        weft_chan_destroy(&idle);
        things_end(&t);
    }
}
END_TEST

static int joined_from_thread(void *arg)
{
    return weft_sleep(*(int64_t *)arg);
}

START_TEST(a_plain_thread_awaits_a_task_or_a_time)
{
    int64_t span = weft_ms(2);
    weft_runtime *rt = NULL;
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    weft_scope s;
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = rt });
    weft_task t = weft_spawn(&s, joined_from_thread, &span);
    weft_case cs[] = { weft_on_join(t), weft_on_timer(LIMIT) };
    ck_assert_int_eq(weft_select(cs, 2), 0);
    ck_assert_int_eq(cs[0].rc, 0);
    ck_assert_int_eq(weft_scope_end(&s, 0), 0);
    weft_runtime_destroy(&rt);
    weft_scope_begin(&s, weft_ms(2));
    ck_assert_int_eq(weft_scope_end(&s, weft_select(cs + 1, 1)), -ETIMEDOUT);
}
END_TEST

/* -- bad cases, none -- */

static int bad_cases(void *arg)
{
    int *failed = arg, v = 0, file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    int64_t wide;
    weft_chan *c = make(1);
    weft_task self = weft_task_self();
    const struct {
        weft_case c;
        int rc;
    } tries[] = {
        { weft_on_recv(c, &wide, sizeof wide), -EINVAL },
        { weft_on_recv(c, NULL, sizeof v), -EINVAL },
        { weft_on_send(c, &wide, sizeof wide), -EINVAL },
        { weft_on_fd(-1, WEFT_READABLE), -EBADF },
        { weft_on_fd(1000000, WEFT_READABLE), -EBADF },
        { weft_on_fd(file, 0), -EINVAL },
        { weft_on_fd(file, 4), -EINVAL },
        { weft_on_join(0), -EINVAL },
        { weft_on_join(-ENOMEM), -ENOMEM },
        { weft_on_join(self), -EDEADLK },
    };
    for (int i = 0; i < COUNT(tries); i++) {
        weft_case cs[2] = { tries[i].c, { 0 } };
        int rc = weft_select(cs, 2);
        if (rc == 0 && cs[0].rc == tries[i].rc)
            rc = weft_try_select(cs, 2);
        if (rc != 0 || cs[0].rc != tries[i].rc)
            *failed = 1 + i;
    }
    weft_case off[] = { { 0 }, weft_on_recv(NULL, &v, sizeof v), weft_on_event(NULL), weft_on_notify(NULL) };
    if (weft_select(off, 4) != -EINVAL || weft_select(off, 0) != -EINVAL || weft_select(NULL, 0) != -EINVAL)
        *failed = 100;
    if (weft_try_select(off, 4) != -EAGAIN || weft_try_select(NULL, 1) != -EINVAL)
        *failed = 101;
    off[0].kind = WEFT_CASE_NOTIFY + 1;
    if (weft_select(off, 4) != -EINVAL || weft_try_select(off, 4) != -EINVAL)
        *failed = 102;
    off[0].kind = -1;
    if (weft_select(off, 4) != -EINVAL)
        *failed = 103;
    weft_case none[] = { weft_on_recv(c, &v, sizeof v), weft_on_timer(LIMIT) };
    if (weft_try_select(none, 2) != -EAGAIN)
        *failed = 104;
    weft_chan_destroy(&c);
    close(file);
    return 0;
}

START_TEST(a_call_that_would_fail_is_ready)
{
    int failed = 0;
    ck_assert_int_eq(weft_run(bad_cases, &failed, ON(1)), 0);
    ck_assert_int_eq(failed, 0);
}
END_TEST

/* -- cancel, deadline -- */

struct leaver {
    struct things *t;
    int rc, sent;
    atomic_int here;
    bool outside;
};

static int select_and_leave(void *arg)
{
    struct leaver *l = arg;
    struct things *t = l->t;
    weft_case cs[] = {
        weft_on_recv(t->empty, &t->item, sizeof t->item),
        weft_on_send(t->full, &l->sent, sizeof l->sent),
        weft_on_event(&t->never),
        weft_on_notify(&t->unheard),
        weft_on_send(t->full, &l->sent, sizeof l->sent),
        l->outside ? weft_on_fd(t->pair[0], WEFT_READABLE) : (weft_case){ 0 },
        l->outside ? weft_on_timer(LIMIT) : (weft_case){ 0 },
    };
    atomic_store(&l->here, 1);
    l->rc = weft_select(cs, COUNT(cs));
    return l->rc < 0 ? l->rc : 0;
}

static int leave(void *arg)
{
    struct leaver *l = arg;
    weft_scope s;
    bool deadline = l->sent & 1, before = l->sent & 2;
    weft_scope_begin(&s, deadline ? weft_ms(3) : WEFT_NEVER);
    if (before)
        weft_scope_cancel(&s, NULL);
    weft_spawn(&s, select_and_leave, l);
    if (!deadline && !before) {
        wait_for(&l->here, 1);
        let_wait();
        weft_scope_cancel(&s, NULL);
    }
    weft_ignore(weft_scope_end(&s, 0));
    weft_notify_one(&l->t->unheard);
    return 0;
}

START_TEST(who_is_told_to_leave_has_done_nothing)
{
    for (int i = 0; i < 6; i++) {
        struct things t = things_of(0);
        struct leaver l = { .t = &t, .sent = i / 2, .outside = i & 1 };
        int v;
        t.item = 5;
        ck_assert_int_eq(weft_run(leave, &l, ON(workers[_i])), 0);
        ck_assert_int_eq(l.rc, -ECANCELED);
        ck_assert_int_eq(t.item, 5);
        ck_assert_int_eq(weft_chan_try_recv(t.full, &v, sizeof v), 1);
        ck_assert_int_eq(weft_chan_try_recv(t.full, &v, sizeof v), -EAGAIN);
        ck_assert_int_eq(put(t.empty, 1), 0);
        ck_assert_int_eq((int)weft_chan_len(t.empty), 1);
        weft_scope s;
        weft_scope_begin(&s, LIMIT);
        ck_assert_int_eq(weft_scope_end(&s, weft_notify_wait(&t.unheard)), 0);
        things_end(&t);
    }
}
END_TEST

/* -- rendezvous -- */

struct facing {
    weft_chan *a, *b;
    int rounds, met[4];
};

static int face(struct facing *x, int me)
{
    int rc = 0, in, out = me;
    for (int i = 0; i < x->rounds && rc >= 0; i++) {
        weft_case cs[] = {
            me ? weft_on_recv(x->a, &in, sizeof in) : weft_on_send(x->a, &out, sizeof out),
            me ? weft_on_send(x->b, &out, sizeof out) : weft_on_recv(x->b, &in, sizeof in),
        };
        rc = weft_select(cs, 2);
        if (rc >= 0)
            x->met[2 * me + rc]++;
        if (rc >= 0 && cs[rc].kind == WEFT_CASE_RECV && (cs[rc].rc != 1 || in != !me))
            rc = -EBADMSG;
    }
    return rc < 0 ? rc : 0;
}
static int face_left(void *arg)
{
    return face(arg, 0);
}
static int face_right(void *arg)
{
    return face(arg, 1);
}

static int face_each_other(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, face_left, arg);
    weft_spawn(&s, face_right, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(two_selects_that_face_each_other_meet)
{
    struct facing x = { .a = make(0), .b = make(0), .rounds = fewer(500, SCALED(20000, 5000, 2000)) };
    ck_assert_int_eq(weft_run(face_each_other, &x, ON(workers[_i])), 0);
    ck_assert_int_eq(x.met[0], x.met[2]);
    ck_assert_int_eq(x.met[1], x.met[3]);
    ck_assert_int_eq(x.met[0] + x.met[1], x.rounds);
    weft_chan_destroy(&x.a);
    weft_chan_destroy(&x.b);
}
END_TEST

static int meet_oneself(void *arg)
{
    struct facing *x = arg;
    int in = 0, out = 1;
    weft_case cs[] = { weft_on_send(x->a, &out, sizeof out), weft_on_recv(x->a, &in, sizeof in) };
    x->met[0] = weft_try_select(cs, 2);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(3));
    x->met[1] = weft_scope_end(&s, weft_select(cs, 2));
    return 0;
}

START_TEST(its_own_cases_do_not_meet)
{
    struct facing x = { .a = make(0) };
    ck_assert_int_eq(weft_run(meet_oneself, &x, ON(workers[_i])), 0);
    ck_assert_int_eq(x.met[0], -EAGAIN);
    ck_assert_int_eq(x.met[1], -ETIMEDOUT);
    weft_chan_destroy(&x.a);
}
END_TEST

/* Everyone both sends and receives on the same channel: as many do the one as the other. */
static int send_or_receive(void *arg)
{
    struct facing *x = arg;
    int rc = 0, in, out = 1;
    for (int i = 0; i < x->rounds && rc >= 0; i++) {
        weft_case cs[] = { weft_on_send(x->a, &out, sizeof out), weft_on_recv(x->a, &in, sizeof in) };
        rc = weft_select(cs, 2);
        if (rc >= 0)
            __atomic_fetch_add(&x->met[rc], 1, __ATOMIC_RELAXED);
        if (rc == 1 && cs[1].rc == 0)
            return 0;
    }
    return rc < 0 ? rc : 0;
}

static int crowd(void *arg)
{
    struct facing *x = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 6; i++)
        weft_spawn(&s, send_or_receive, x);
    return weft_scope_end(&s, 0);
}

START_TEST(a_crowd_that_both_sends_and_receives_pairs_off)
{
    struct facing x = { .a = make(0), .rounds = 1 };
    for (int i = 0; i < 300; i++) /* an even number, once each: all are served */
        ck_assert_int_eq(weft_run(crowd, &x, ON(workers[_i])), 0);
    ck_assert_int_eq(x.met[0], 900);
    ck_assert_int_eq(x.met[1], 900);
    weft_chan_destroy(&x.a);
}
END_TEST

/* -- many, and fair -- */

enum { MANY = 200 };

static int select_many(void *arg)
{
    struct facing *x = arg;
    weft_chan *c[MANY];
    weft_case cs[MANY];
    int v[MANY];
    for (int i = 0; i < MANY; i++) {
        c[i] = make(1);
        cs[i] = weft_on_recv(c[i], &v[i], sizeof v[i]);
    }
    x->met[0] = weft_try_select(cs, MANY);
    for (int i = 0; i < MANY; i += 7) {
        weft_ignore(put(c[i], i));
        int rc = weft_select(cs, MANY);
        x->met[1] += rc != i || v[i] != i || cs[i].rc != 1;
    }
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
    x->met[2] = weft_try_select(cs, MANY);
    weft__fault_clear();
    for (int i = 0; i < MANY; i++)
        weft_chan_destroy(&c[i]);
    return 0;
}

START_TEST(there_may_be_many_cases)
{
    struct facing x = { 0 };
    ck_assert_int_eq(weft_run(select_many, &x, ON(1)), 0);
    ck_assert_int_eq(x.met[0], -EAGAIN);
    ck_assert_int_eq(x.met[1], 0);
    ck_assert_int_eq(x.met[2], -ENOMEM);
}
END_TEST

enum { CASES = 8 };
struct lottery {
    long rounds, won[CASES];
};

/* Of eight cases these are ready, and at no equal distances. */
static const int ready[] = { 0, 1, 2, 5, 7 };

static int play(void *arg)
{
    struct lottery *l = arg;
    weft_chan *c[CASES];
    weft_case cs[CASES];
    int rc = 0, v;
    for (int i = 0; i < CASES; i++) {
        c[i] = make(1);
        cs[i] = weft_on_recv(c[i], &v, sizeof v);
    }
    for (int i = 0; i < COUNT(ready); i++)
        weft_ignore(put(c[ready[i]], 1));
    for (long i = 0; i < l->rounds && rc >= 0; i++) {
        rc = weft_select(cs, CASES);
        if (rc < 0)
            break;
        l->won[rc]++;
        rc = put(c[rc], 1);
    }
    for (int i = 0; i < CASES; i++)
        weft_chan_destroy(&c[i]);
    return rc < 0 ? rc : 0;
}

START_TEST(each_ready_case_is_as_likely)
{
    struct lottery l = { .rounds = fewer(20000, SCALED(1000000, 200000, 50000)) };
    ck_assert_int_eq(weft_run(play, &l, ON(1)), 0);
    double each = (double)l.rounds / COUNT(ready), chi = 0;
    long others = l.rounds;
    for (int i = 0; i < COUNT(ready); i++) {
        double off = (double)l.won[ready[i]] - each;
        chi += off * off / each;
        others -= l.won[ready[i]];
    }
    ck_assert_int_eq((int)others, 0);
    ck_assert_msg(chi < 30, "chi-square %f with 4 degrees of freedom", chi); /* one in 10^5 */
}
END_TEST

/* -- times -- */

static int wait_times(void *arg)
{
    int64_t *late = arg, at = weft_after(weft_ms(3));
    weft_case cs[] = { weft_on_timer(LIMIT), weft_on_time(at), weft_on_time(WEFT_NEVER), weft_on_timer(weft_sec(5)) };
    int rc = weft_select(cs, 4);
    *late = weft_now() - at;
    return rc < 0 ? rc : rc == 1 && cs[1].rc == 0 ? 0 : -EBADMSG;
}

START_TEST(the_earliest_time_comes_first)
{
    int64_t late = -1;
    ck_assert_int_eq(weft_run(wait_times, &late, ON(workers[_i])), 0);
    ck_assert(late >= 0);
    ck_assert_int_eq(weft_run(wait_times, &late, &(weft_options){ .workers = 1, .clock = WEFT_CLOCK_VIRTUAL }), 0);
    ck_assert(late >= 0 && late < weft_ms(1));
}
END_TEST

/* An edge that a select used up and did not need goes to who waits for it. */
struct edges {
    int pair[2];
    weft_chan *c;
    atomic_int here;
    int rc;
};

static int wait_readable(void *arg)
{
    struct edges *e = arg;
    atomic_fetch_add(&e->here, 1);
    return weft_wait_fd(e->pair[0], WEFT_READABLE) == WEFT_READABLE ? 0 : -EBADMSG;
}

static int select_readable(void *arg)
{
    struct edges *e = arg;
    int v;
    weft_case cs[] = { weft_on_fd(e->pair[0], WEFT_READABLE), weft_on_recv(e->c, &v, sizeof v) };
    atomic_fetch_add(&e->here, 1);
    int rc = weft_select(cs, 2);
    return rc < 0 ? rc : 0;
}

static int share_descriptor(void *arg)
{
    struct edges *e = arg;
    int rounds = SCALED(300, 100, 30), rc = 0;
    for (int i = 0; i < rounds && rc == 0; i++) {
        if ((rc = weft_pair(e->pair)) < 0)
            return rc;
        e->c = make(0);
        atomic_store(&e->here, 0);
        weft_scope s;
        weft_scope_begin(&s, LIMIT);
        weft_spawn(&s, select_readable, e);
        weft_spawn(&s, wait_readable, e);
        weft_spawn(&s, select_readable, e);
        wait_for(&e->here, 3);
        if (i % 2)
            let_wait();
        weft_ignore(sys_write(e->pair[1], "x", 1));
        weft_ignore(put(e->c, 1));
        rc = weft_scope_end(&s, 0);
        weft_chan_destroy(&e->c);
        weft_close(e->pair[0]);
        weft_close(e->pair[1]);
    }
    return rc;
}

START_TEST(who_waits_for_the_same_descriptor_is_not_forgotten)
{
    struct edges e = { .rc = 0 };
    ck_assert_int_eq(weft_run(share_descriptor, &e, ON(workers[_i])), 0);
}
END_TEST

/* No memory for a time: nothing was done, and nothing is left behind. */
static int arm_without_memory(void *arg)
{
    struct facing *x = arg;
    int v;
    weft_case cs[] = { weft_on_recv(x->a, &v, sizeof v), weft_on_timer(LIMIT) };
    weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
    x->met[0] = weft_select(cs, 2);
    weft__fault_clear();
    x->met[1] = put(x->a, 1);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(2));
    x->met[2] = weft_scope_end(&s, weft_select(cs, 2));
    return 0;
}

START_TEST(without_memory_for_a_time_nothing_is_done)
{
    struct facing x = { .a = make(0) };
    ck_assert_int_eq(weft_run(arm_without_memory, &x, ON(1)), 0);
    ck_assert_int_eq(x.met[0], -ENOMEM);
    ck_assert_int_eq(x.met[1], -EAGAIN);
    ck_assert_int_eq(x.met[2], -ETIMEDOUT);
    weft_chan_destroy(&x.a);
}
END_TEST

static int join_unstarted(void *arg)
{
    int *rc = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_case cs[] = { weft_on_join(weft_spawn(&s, nothing, NULL)), weft_on_timer(LIMIT) };
    *rc = weft_select(cs, 2);
    return weft_scope_end(&s, 0);
}

START_TEST(an_unstarted_task_is_run_and_awaited)
{
    int rc = -1;
    ck_assert_int_eq(weft_run(join_unstarted, &rc, ON(workers[_i])), 0);
    ck_assert_int_eq(rc, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("select");
    TCase *tc = add_case(s, "select");
    tcase_add_loop_test(tc, the_ready_one_is_done_and_the_others_keep_no_trace, 0, COUNT(workers));
    tcase_add_test(tc, plain_threads_select);
    tcase_add_test(tc, a_plain_thread_awaits_a_task_or_a_time);
    tcase_add_test(tc, a_call_that_would_fail_is_ready);
    tcase_add_loop_test(tc, who_is_told_to_leave_has_done_nothing, 0, COUNT(workers));
    tcase_add_loop_test(tc, two_selects_that_face_each_other_meet, 0, COUNT(workers));
    tcase_add_loop_test(tc, its_own_cases_do_not_meet, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_crowd_that_both_sends_and_receives_pairs_off, 0, COUNT(workers));
    tcase_add_test(tc, there_may_be_many_cases);
    tcase_add_test(tc, each_ready_case_is_as_likely);
    tcase_add_test(tc, without_memory_for_a_time_nothing_is_done);
    tcase_add_loop_test(tc, the_earliest_time_comes_first, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_waits_for_the_same_descriptor_is_not_forgotten, 0, COUNT(workers));
    tcase_add_loop_test(tc, an_unstarted_task_is_run_and_awaited, 0, COUNT(workers));
    return run_suite(s);
}
