/* tests/classics_go_test.c - programs that Go's channels are known for, written for weft's.
 *
 * Power series that demand coefficients of each other (McIlroy), selects that are fair, cases that are off, philosophers, a
 * ring, fans, a close that all hear. The programs are our own, written from weft's headers. The prime sieve is in
 * chan_test.c; the delay queue and the timer that is reset are in classics_clock_test.c, where their times are exact.
 *
 * Differences that are decided, and asserted here: a send to a closed channel is -EPIPE, where Go panics; a select in which
 * all is off is -EINVAL, where Go waits for ever. And nothing is left to a collector: what demands for ever is told to
 * leave by its scope.
 */
#include "classics.h"

/* -- power series --
 *
 * A series is a task that hands out one coefficient after the other, each when it is asked for it: so a series may be
 * without an end, and be made of itself. Between two such tasks are two rendezvous: the demand, and the coefficient.
 */
struct rational {
    int64_t over, under; /* in lowest terms, under > 0 */
};

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a < 0 ? -a : a;
}

static struct rational ratio(int64_t over, int64_t under)
{
    int64_t d = common_divisor(over, under);
    if (d == 0)
        return (struct rational){ 0, 1 };
    if (under < 0)
        d = -d;
    return (struct rational){ over / d, under / d };
}

static struct rational plus(struct rational a, struct rational b)
{
    int64_t d = common_divisor(a.under, b.under);
    return ratio(a.over * (b.under / d) + b.over * (a.under / d), a.under / d * b.under);
}

static struct rational times(struct rational a, struct rational b)
{
    struct rational x = ratio(a.over, b.under), y = ratio(b.over, a.under);
    return ratio(x.over * y.over, x.under * y.under);
}

struct series {
    weft_chan *demand, *supply;
};

/* All series of one computation: tasks of one scope, which is cancelled when enough is known. */
enum { MOST_SERIES = 4000 };
struct algebra {
    weft_scope s;
    struct series all[MOST_SERIES];
    atomic_int n;
};

static struct series new_series(struct algebra *a)
{
    struct series u = { NULL, NULL };
    int i = atomic_fetch_add(&a->n, 1);
    if (i >= MOST_SERIES || weft_chan_create(&u.demand, 0, 0, NULL) < 0 ||
            weft_chan_create(&u.supply, sizeof(struct rational), 0, NULL) < 0)
        abort();
    a->all[i] = u;
    return u;
}

/* Asks for the next coefficient. 0, or why there is none. */
static int next_of(struct series u, struct rational *q)
{
    int rc = weft_chan_send(u.demand, NULL, 0);
    if (rc == 0)
        rc = weft_chan_recv(u.supply, q, sizeof *q);
    return rc < 0 ? rc : 0;
}

/* Asks two at once, and takes what comes in whatever order it comes: each step done is a case that is off. */
static int next_of_both(struct series u, struct series v, struct rational *p, struct rational *q)
{
    weft_case cs[] = {
        weft_on_send(u.demand, NULL, 0),
        weft_on_send(v.demand, NULL, 0),
        weft_on_recv(u.supply, p, sizeof *p),
        weft_on_recv(v.supply, q, sizeof *q),
    };
    cs[2].kind = cs[3].kind = WEFT_CASE_NONE;
    for (int left = 4; left > 0; left--) {
        int i = weft_select(cs, COUNT(cs));
        if (i < 0)
            return i;
        cs[i].kind = WEFT_CASE_NONE;
        if (i < 2)
            cs[i + 2].kind = WEFT_CASE_RECV;
    }
    return 0;
}

static int demanded(struct series z)
{
    int rc = weft_chan_recv(z.demand, NULL, 0);
    return rc < 0 ? rc : 0;
}

static int supply(struct series z, struct rational q)
{
    return weft_chan_send(z.supply, &q, sizeof q);
}

/* What a series is made of. */
enum { MOST_TERMS = 12 };
struct recipe {
    struct algebra *a;
    struct series u, v, z, y; /* of u, and perhaps v, comes z, and perhaps y */
    struct rational c;
    struct rational terms[MOST_TERMS];
};

static struct series cook(struct algebra *a, weft_fn *fn, struct recipe r)
{
    r.a = a;
    if (!r.z.demand)
        r.z = new_series(a);
    weft_spawn_copy(&a->s, fn, &r, sizeof r);
    return r.z;
}

/* The terms, and then zeroes. */
static int be_polynomial(void *arg)
{
    const struct recipe *r = arg;
    int rc = 0;
    for (int i = 0; rc == 0; i++)
        if ((rc = demanded(r->z)) == 0)
            rc = supply(r->z, i < MOST_TERMS ? r->terms[i] : (struct rational){ 0, 1 });
    return rc;
}

static struct series polynomial(struct algebra *a, int n, const int *terms)
{
    struct recipe r = { .c = { 0, 1 } };
    for (int i = 0; i < MOST_TERMS; i++)
        r.terms[i] = ratio(i < n ? terms[i] : 0, 1);
    return cook(a, be_polynomial, r);
}

/* The same coefficient, for ever: c / (1 - x). */
static int be_constant(void *arg)
{
    const struct recipe *r = arg;
    int rc = 0;
    while (rc == 0)
        if ((rc = demanded(r->z)) == 0)
            rc = supply(r->z, r->c);
    return rc;
}

static struct series constant(struct algebra *a, int64_t over, int64_t under)
{
    return cook(a, be_constant, (struct recipe){ .c = ratio(over, under) });
}

/* Copies u to z, from now on. */
static int hand_on(struct series u, struct series z)
{
    struct rational q;
    int rc = 0;
    while (rc == 0)
        if ((rc = demanded(z)) == 0 && (rc = next_of(u, &q)) == 0)
            rc = supply(z, q);
    return rc;
}

/* Two that both are u, of which one may be ahead of the other. It hears the one while it waits for what the other has
 * demanded: that may need the one, if u is made of itself. */
enum { KEPT = 64 };
struct twins {
    struct series out[2];
    bool pending[2], asked;
    unsigned have, given[2];
    struct rational kept[KEPT];
};

/* Supplies what is demanded and there; says whether more is needed. */
static int supply_twins(struct twins *t, bool *more)
{
    *more = false;
    for (int i = 0; i < 2; i++) {
        if (t->pending[i] && t->given[i] < t->have) {
            MUST(t->have - t->given[i] <= KEPT);
            int rc = supply(t->out[i], t->kept[t->given[i]++ % KEPT]);
            if (rc < 0)
                return rc;
            t->pending[i] = false;
        }
        *more |= t->pending[i];
    }
    return 0;
}

static int be_twins(void *arg)
{
    const struct recipe *r = arg;
    struct twins t = { .out = { r->z, r->y } };
    struct rational q;
    bool more;
    enum { FIRST, SECOND, ASK, HAVE };
    for (;;) {
        int rc = supply_twins(&t, &more);
        if (rc < 0)
            return rc;
        weft_case cs[] = {
            [FIRST] = weft_on_recv(t.pending[0] ? NULL : t.out[0].demand, NULL, 0),
            [SECOND] = weft_on_recv(t.pending[1] ? NULL : t.out[1].demand, NULL, 0),
            [ASK] = weft_on_send(more && !t.asked ? r->u.demand : NULL, NULL, 0),
            [HAVE] = weft_on_recv(t.asked ? r->u.supply : NULL, &q, sizeof q),
        };
        if ((rc = weft_select(cs, COUNT(cs))) < 0)
            return rc;
        if (rc == FIRST || rc == SECOND)
            t.pending[rc] = true;
        else if (rc == HAVE)
            t.kept[t.have++ % KEPT] = q;
        t.asked = rc == ASK || (t.asked && rc != HAVE);
    }
}

static void split(struct algebra *a, struct series u, struct series out[2])
{
    out[0] = new_series(a);
    out[1] = new_series(a);
    cook(a, be_twins, (struct recipe){ .u = u, .z = out[0], .y = out[1] });
}

static int be_sum(void *arg)
{
    const struct recipe *r = arg;
    struct rational p, q;
    int rc = 0;
    while (rc == 0)
        if ((rc = demanded(r->z)) == 0 && (rc = next_of_both(r->u, r->v, &p, &q)) == 0)
            rc = supply(r->z, plus(p, q));
    return rc;
}

static struct series add(struct algebra *a, struct series u, struct series v)
{
    return cook(a, be_sum, (struct recipe){ .u = u, .v = v });
}

static int be_multiple(void *arg)
{
    const struct recipe *r = arg;
    struct rational q;
    int rc = 0;
    while (rc == 0)
        if ((rc = demanded(r->z)) == 0 && (rc = next_of(r->u, &q)) == 0)
            rc = supply(r->z, times(r->c, q));
    return rc;
}

static struct series scale(struct algebra *a, struct rational c, struct series u)
{
    return cook(a, be_multiple, (struct recipe){ .u = u, .c = c });
}

/* c + x u */
static int be_shifted(void *arg)
{
    const struct recipe *r = arg;
    int rc = demanded(r->z);
    if (rc == 0)
        rc = supply(r->z, r->c);
    return rc < 0 ? rc : hand_on(r->u, r->z);
}

static struct series shift(struct algebra *a, struct rational c, struct series u)
{
    return cook(a, be_shifted, (struct recipe){ .u = u, .c = c });
}

/* With u = p + x u' and v = q + x v', it is pq + x (p v' + q u') + x^2 u' v': the last is begun when it is needed. */
static int be_product(void *arg)
{
    const struct recipe *r = arg;
    struct algebra *a = r->a;
    struct rational p, q;
    struct series us[2], vs[2];
    int rc = demanded(r->z);
    if (rc == 0 && (rc = next_of_both(r->u, r->v, &p, &q)) == 0)
        rc = supply(r->z, times(p, q));
    if (rc == 0)
        rc = demanded(r->z); /* the rest is of tasks that nobody may ever need */
    if (rc < 0)
        return rc;
    split(a, r->u, us);
    split(a, r->v, vs);
    struct series crossed = add(a, scale(a, q, us[0]), scale(a, p, vs[0]));
    struct series both = cook(a, be_product, (struct recipe){ .u = us[1], .v = vs[1] });
    struct series rest = add(a, crossed, shift(a, (struct rational){ 0, 1 }, both));
    if ((rc = next_of(rest, &p)) == 0)
        rc = supply(r->z, p);
    return rc < 0 ? rc : hand_on(rest, r->z);
}

static struct series multiply(struct algebra *a, struct series u, struct series v)
{
    return cook(a, be_product, (struct recipe){ .u = u, .v = v });
}

static int be_derivative(void *arg)
{
    const struct recipe *r = arg;
    struct rational q;
    int rc = demanded(r->z);
    if (rc == 0)
        rc = next_of(r->u, &q); /* the constant: away with it */
    for (int n = 1; rc == 0; n++) {
        if ((rc = next_of(r->u, &q)) == 0)
            rc = supply(r->z, times(ratio(n, 1), q));
        if (rc == 0)
            rc = demanded(r->z);
    }
    return rc;
}

static struct series differentiate(struct algebra *a, struct series u)
{
    return cook(a, be_derivative, (struct recipe){ .u = u });
}

static int be_integral(void *arg)
{
    const struct recipe *r = arg;
    struct rational q;
    int rc = demanded(r->z);
    if (rc == 0)
        rc = supply(r->z, r->c);
    for (int n = 1; rc == 0; n++)
        if ((rc = demanded(r->z)) == 0 && (rc = next_of(r->u, &q)) == 0)
            rc = supply(r->z, times(ratio(1, n), q));
    return rc;
}

static struct series integrate(struct algebra *a, struct rational c, struct series u)
{
    return cook(a, be_integral, (struct recipe){ .u = u, .c = c });
}

/* e^u for a u without constant: the z with z' = u' z. It is made of itself. */
static struct series exponential(struct algebra *a, struct series u)
{
    struct series z = new_series(a), out[2];
    split(a, z, out);
    struct series slope = multiply(a, out[0], differentiate(a, u));
    cook(a, be_integral, (struct recipe){ .u = slope, .c = { 1, 1 }, .z = z });
    return out[1];
}

/* 1 / u: with u = p + x u' it is the z with z = 1/p (1 - x u' z); v is z again. */
static int be_reciprocal(void *arg)
{
    const struct recipe *r = arg;
    struct rational p;
    int rc = demanded(r->z);
    if (rc == 0)
        rc = next_of(r->u, &p);
    if (rc < 0)
        return rc;
    struct series rest = scale(r->a, ratio(-p.under, p.over), multiply(r->a, r->u, r->v));
    rc = supply(r->z, ratio(p.under, p.over));
    return rc < 0 ? rc : hand_on(rest, r->z);
}

static struct series invert(struct algebra *a, struct series u)
{
    struct series z = new_series(a), out[2];
    split(a, z, out);
    cook(a, be_reciprocal, (struct recipe){ .u = u, .v = out[0], .z = z });
    return out[1];
}

/* u(v) for a v without constant: with u = p + x u' and v = x v' it is p + x v' u'(v). */
static int be_substitution(void *arg)
{
    const struct recipe *r = arg;
    struct rational p, q;
    struct series vs[2];
    int rc = demanded(r->z);
    if (rc == 0 && (rc = next_of(r->u, &p)) == 0)
        rc = supply(r->z, p);
    if (rc == 0)
        rc = demanded(r->z);
    if (rc < 0)
        return rc;
    split(r->a, r->v, vs);
    if ((rc = next_of(vs[0], &q)) < 0)
        return rc;
    MUST(q.over == 0);
    struct series within = cook(r->a, be_substitution, (struct recipe){ .u = r->u, .v = vs[1] });
    struct series rest = multiply(r->a, vs[0], within);
    if ((rc = next_of(rest, &p)) == 0)
        rc = supply(r->z, p);
    return rc < 0 ? rc : hand_on(rest, r->z);
}

static struct series substitute(struct algebra *a, struct series u, struct series v)
{
    return cook(a, be_substitution, (struct recipe){ .u = u, .v = v });
}

/* The tangent is the t with t' = 1 + t^2. */
static struct series tangent(struct algebra *a)
{
    static const int one[] = { 1 };
    struct series t = new_series(a), all[2], both[2];
    split(a, t, all);
    split(a, all[0], both);
    struct series slope = add(a, polynomial(a, 1, one), multiply(a, both[0], both[1]));
    cook(a, be_integral, (struct recipe){ .u = slope, .c = { 0, 1 }, .z = t });
    return all[1];
}

/* -- sums -- */

enum { ADDITION, PRODUCT, DERIVATIVE, INTEGRAL, EXPONENTIAL, EXPONENTIALS, RECIPROCAL, SUBSTITUTION, TANGENT, SUMS };

struct sum {
    int what, terms;
};

static struct series begin_sum(struct algebra *a, int what)
{
    static const int one[] = { 1 }, x[] = { 0, 1 }, minus_x[] = { 0, -1 }, one_minus_x[] = { 1, -1 };
    static const int cubic[] = { 1, 2, 0, 3 };
    const struct rational none = { 0, 1 };
    switch (what) {
    case ADDITION: /* 1/(1-x) + 1 + 2x + 3x^3 */
        return add(a, constant(a, 1, 1), polynomial(a, 4, cubic));
    case PRODUCT: /* 1/(1-x)^2 */
        return multiply(a, constant(a, 1, 1), constant(a, 1, 1));
    case DERIVATIVE:
        return differentiate(a, constant(a, 1, 1));
    case INTEGRAL: /* -log(1-x) */
        return integrate(a, none, constant(a, 1, 1));
    case EXPONENTIAL:
        return exponential(a, polynomial(a, 2, x));
    case EXPONENTIALS: /* e^x e^-x */
        return multiply(a, exponential(a, polynomial(a, 2, x)), exponential(a, polynomial(a, 2, minus_x)));
    case RECIPROCAL:
        return invert(a, polynomial(a, 2, one_minus_x));
    case SUBSTITUTION: /* 1/(1-y) with y = x/(1-x) */
        return substitute(a, constant(a, 1, 1), shift(a, none, constant(a, 1, 1)));
    case TANGENT:
        return tangent(a);
    }
    return polynomial(a, 1, one);
}

static struct rational term_due(int what, int n)
{
    static const struct rational tangents[] = { { 0, 1 }, { 1, 1 }, { 0, 1 }, { 1, 3 }, { 0, 1 }, { 2, 15 }, { 0, 1 },
        { 17, 315 }, { 0, 1 }, { 62, 2835 } };
    static const int cubic[] = { 2, 3, 1, 4 };
    int64_t factorial = 1;
    for (int i = 2; i <= n; i++)
        factorial *= i;
    switch (what) {
    case ADDITION:
        return ratio(n < 4 ? cubic[n] : 1, 1);
    case PRODUCT:
    case DERIVATIVE:
        return ratio(n + 1, 1);
    case INTEGRAL:
        return ratio(n > 0, n > 0 ? n : 1);
    case EXPONENTIAL:
        return ratio(1, factorial);
    case EXPONENTIALS:
        return ratio(n == 0, 1);
    case RECIPROCAL:
        return ratio(1, 1);
    case SUBSTITUTION:
        return ratio(n == 0 ? 1 : (int64_t)1 << (n - 1), 1);
    }
    return tangents[n];
}

static int do_sum(void *arg)
{
    const struct sum *m = arg;
    struct algebra *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    weft_scope_begin(&a->s, WEFT_NEVER);
    struct series z = begin_sum(a, m->what);
    int rc = 0;
    for (int n = 0; n < m->terms && rc == 0; n++) {
        struct rational q = { 0, 0 }, due = term_due(m->what, n);
        if ((rc = next_of(z, &q)) == 0 && (q.over != due.over || q.under != due.under))
            wrong(__LINE__, "term %d of sum %d is %lld/%lld", n, m->what, (long long)q.over, (long long)q.under);
    }
    weft_scope_cancel(&a->s, "enough");
    rc = weft_scope_end(&a->s, rc);
    for (int i = 0; i < atomic_load(&a->n); i++) {
        weft_chan_destroy(&a->all[i].demand);
        weft_chan_destroy(&a->all[i].supply);
    }
    free(a);
    return rc;
}

START_TEST(power_series_demand_their_terms_of_each_other)
{
    for (int what = 0; what < SUMS; what++) {
        struct sum m = { what, fewer(6, SCALED(10, 8, 6)) };
        IN_REAL_TIME(do_sum, &m, workers[_i]);
    }
}
END_TEST

/* -- select -- */

static weft_chan *make(size_t capacity)
{
    weft_chan *c = NULL;
    if (weft_chan_create(&c, sizeof(int), capacity, NULL) < 0)
        abort();
    return c;
}

static int put(weft_chan *c, int v)
{
    return weft_chan_send(c, &v, sizeof v);
}

enum { READY = 5, CASES = 8 };

struct choices {
    int n, of[CASES];
};

/* Of eight cases five are always ready, each of another kind; one is off, and two never are ready. */
static int choose(void *arg)
{
    struct choices *k = arg;
    int v, w = 3;
    weft_chan *closed = make(0), *full = make(1), *roomy = make(1), *empty = make(0);
    weft_event set = WEFT_SYNC_INIT, never = WEFT_SYNC_INIT;
    weft_chan_close(closed);
    weft_event_set(&set);
    SAME(put(full, 1), 0);
    weft_case cs[CASES] = {
        weft_on_recv(closed, &v, sizeof v),
        weft_on_recv(NULL, &v, sizeof v),
        weft_on_recv(full, &v, sizeof v),
        weft_on_recv(empty, &v, sizeof v),
        weft_on_send(roomy, &w, sizeof w),
        weft_on_event(&set),
        weft_on_event(&never),
        weft_on_timer(0),
    };
    int rc = 0;
    for (int i = 0; i < k->n; i++) {
        if ((rc = weft_select(cs, CASES)) < 0)
            break;
        k->of[rc]++;
        if (rc == 2)
            SAME(weft_chan_try_send(full, &w, sizeof w), 0); /* as it was */
        else if (rc == 4)
            SAME(weft_chan_try_recv(roomy, &v, sizeof v), 1);
    }
    weft_chan_destroy(&closed);
    weft_chan_destroy(&full);
    weft_chan_destroy(&roomy);
    weft_chan_destroy(&empty);
    return rc < 0 ? rc : 0;
}

START_TEST(select_is_fair_to_each_case_that_is_ready)
{
    static const bool ready[CASES] = { true, false, true, false, true, true, false, true };
    struct choices k = { .n = fewer(20000, SCALED(1000000, 100000, 50000)) };
    double off = k.n < 100000 ? 0.09 : k.n < 1000000 ? 0.04 : 0.02; /* six standard deviations and more */
    IN_REAL_TIME(choose, &k, workers[_i]);
    for (int i = 0; i < CASES; i++) {
        double share = (double)k.of[i] * READY / k.n, due = ready[i] ? 1 : 0;
        ck_assert_msg(share >= due - off && share <= due + off, "case %d: %d of %d", i, k.of[i], k.n);
    }
}
END_TEST

/* Two that always send, and both wait when it is chosen between them. */
struct pair {
    weft_chan *c[2];
    int n, got[2];
};

static int send_on(void *arg)
{
    weft_chan *c = arg;
    int rc = 0;
    while (rc == 0)
        rc = put(c, 1);
    return rc;
}

static int choose_between_two(void *arg)
{
    struct pair *p = arg;
    int v, rc = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 2; i++)
        weft_spawn(&s, send_on, p->c[i] = make(0));
    for (int i = 0; i < p->n && rc >= 0; i++) {
        weft_case cs[] = { weft_on_recv(p->c[0], &v, sizeof v), weft_on_recv(p->c[1], &v, sizeof v) };
        settle();
        if ((rc = weft_select(cs, 2)) >= 0)
            p->got[rc]++;
    }
    weft_scope_cancel(&s, NULL);
    rc = weft_scope_end(&s, rc < 0 ? rc : 0);
    weft_chan_destroy(&p->c[0]);
    weft_chan_destroy(&p->c[1]);
    return rc;
}

START_TEST(select_is_fair_to_two_that_always_send)
{
    struct pair p = { .n = fewer(1000, SCALED(10000, 4000, 2000)) };
    double off = p.n < 10000 ? 0.1 : 0.03; /* of the whole; six standard deviations */
    IN_VIRTUAL_TIME(choose_between_two, &p, workers[_i]);
    ck_assert_int_eq(p.got[0] + p.got[1], p.n);
    ck_assert_msg(p.got[0] >= p.n * (0.5 - off) && p.got[0] <= p.n * (0.5 + off), "%d of %d", p.got[0], p.n);
}
END_TEST

static int with_none(void *arg)
{
    (void)arg;
    int v = 0, w = 9;
    weft_chan *c = make(1), *closed = make(0);
    weft_chan_close(closed);
    weft_case off[] = { { .kind = WEFT_CASE_NONE }, weft_on_recv(NULL, &v, sizeof v), weft_on_send(NULL, &v, sizeof v),
        weft_on_event(NULL), weft_on_notify(NULL) };
    SAME(weft_select(off, COUNT(off)), -EINVAL);
    SAME(weft_try_select(off, COUNT(off)), -EAGAIN);
    SAME(weft_select(off, 0), -EINVAL);

    /* With `default`: nothing is ready, then a send is, then a receive is. */
    weft_case in[] = { { .kind = WEFT_CASE_NONE }, weft_on_recv(c, &v, sizeof v) };
    weft_case out[] = { weft_on_send(c, &w, sizeof w), weft_on_recv(NULL, &v, sizeof v) };
    SAME(weft_try_select(in, 2), -EAGAIN);
    SAME(weft_try_select(out, 2), 0);
    SAME(out[0].rc, 0);
    SAME(weft_try_select(out, 2), -EAGAIN); /* it is full */
    SAME(weft_try_select(in, 2), 1);
    SAME(in[1].rc, 1);
    SAME(v, 9);

    /* Closed: a receive is ready, with 0, for ever; a send is, too, and says that it is closed. */
    weft_case gone[] = { weft_on_recv(closed, &v, sizeof v), weft_on_send(NULL, &w, sizeof w) };
    for (int i = 0; i < 3; i++) {
        SAME(weft_select(gone, 2), 0);
        SAME(gone[0].rc, 0);
    }
    SAME(v, 9);
    gone[1].object = closed;
    gone[0].kind = WEFT_CASE_NONE;
    SAME(weft_select(gone, 2), 1);
    SAME(gone[1].rc, -EPIPE);
    SAME(put(closed, 1), -EPIPE);
    weft_chan_close(closed); /* twice does no harm */
    weft_chan_destroy(&c);
    weft_chan_destroy(&closed);
    return 0;
}

static int send_9(void *c)
{
    return put(c, 9);
}

static int recv_one(void *c)
{
    int v, rc = weft_chan_recv(c, &v, sizeof v);
    return rc > 0 ? v : rc;
}

/* With `default` at a rendezvous: it is ready only if somebody is there. */
static int meet_by_default(void *arg)
{
    (void)arg;
    int v = 0, w = 5;
    weft_chan *c = make(0);
    struct call call = { 0 };
    weft_case in = weft_on_recv(c, &v, sizeof v), out = weft_on_send(c, &w, sizeof w);
    SAME(weft_try_select(&in, 1), -EAGAIN);
    SAME(weft_try_select(&out, 1), -EAGAIN);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    call_and_settle(&s, &call, send_9, c);
    SAME(weft_try_select(&out, 1), -EAGAIN);
    SAME(weft_try_select(&in, 1), 0);
    SAME(v, 9);
    settle();
    SAME(rc_of(&call), 0);
    call_and_settle(&s, &call, recv_one, c);
    SAME(weft_try_select(&in, 1), -EAGAIN);
    SAME(weft_try_select(&out, 1), 0);
    settle();
    SAME(rc_of(&call), 5);
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&c);
    return rc;
}

START_TEST(select_leaves_out_what_is_off_and_with_default_does_not_wait)
{
    IN_VIRTUAL_TIME(with_none, NULL, workers[_i]);
    IN_VIRTUAL_TIME(meet_by_default, NULL, workers[_i]);
}
END_TEST

/* One number after the other is sent to whichever of four channels takes it; four tasks put them together again. */
enum { LANES = 4 };
struct lanes {
    weft_chan *lane[LANES], *out;
    int n;
    atomic_int open;
};

static int send_by_lanes(void *arg)
{
    struct lanes *l = arg;
    int rc = 0;
    for (int i = 0; i < l->n && rc >= 0; i++) {
        weft_case cs[LANES];
        for (int k = 0; k < LANES; k++)
            cs[k] = weft_on_send(l->lane[k], &i, sizeof i);
        rc = weft_select(cs, LANES);
        if (rc >= 0)
            SAME(cs[rc].rc, 0);
    }
    for (int k = 0; k < LANES; k++)
        weft_chan_close(l->lane[k]);
    return rc < 0 ? rc : 0;
}

struct lane {
    struct lanes *l;
    int number;
};

static int forward(void *arg)
{
    const struct lane *x = arg;
    int v, rc, last = -1;
    while ((rc = weft_chan_recv(x->l->lane[x->number], &v, sizeof v)) > 0) {
        MUST(v > last); /* each lane keeps the order */
        last = v;
        if ((rc = put(x->l->out, v)) < 0)
            break;
    }
    if (atomic_fetch_sub(&x->l->open, 1) == 1)
        weft_chan_close(x->l->out);
    return rc;
}

static int use_lanes(void *arg)
{
    struct lanes *l = arg;
    struct lane lane[LANES];
    unsigned char *seen = calloc((size_t)l->n, 1);
    atomic_store(&l->open, LANES);
    l->out = make(0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int k = 0; k < LANES; k++) {
        l->lane[k] = make((size_t)(k & 1));
        lane[k] = (struct lane){ l, k };
        weft_spawn(&s, forward, &lane[k]);
    }
    weft_spawn(&s, send_by_lanes, l);
    int v, rc, n = 0;
    for (; (rc = weft_chan_recv(l->out, &v, sizeof v)) > 0; n++)
        MUST(v >= 0 && v < l->n && seen[v]++ == 0);
    SAME(n, l->n);
    rc = weft_scope_end(&s, rc);
    for (int k = 0; k < LANES; k++)
        weft_chan_destroy(&l->lane[k]);
    weft_chan_destroy(&l->out);
    free(seen);
    return rc;
}

START_TEST(select_sends_each_item_once_whichever_channel_takes_it)
{
    struct lanes l = { .n = fewer(1000, SCALED(20000, 5000, 2000)) };
    IN_REAL_TIME(use_lanes, &l, workers[_i]);
}
END_TEST

/* -- dining philosophers -- */

enum { SEATS = 5 };
struct table {
    weft_chan *fork[SEATS]; /* one item: it lies there */
    weft_chan *room;        /* as many items as may come in */
    bool polite;            /* one fewer than there are seats; else one of them takes the other fork first */
    int meals;
    atomic_int eating[SEATS], eaten;
};

struct philosopher {
    struct table *t;
    int seat;
};

static int eat(struct table *t, int seat)
{
    atomic_store(&t->eating[seat], 1);
    MUST(!atomic_load(&t->eating[(seat + 1) % SEATS]));
    MUST(!atomic_load(&t->eating[(seat + SEATS - 1) % SEATS]));
    int rc = weft_yield();
    atomic_store(&t->eating[seat], 0);
    atomic_fetch_add(&t->eaten, 1);
    return rc;
}

static int take(weft_chan *c)
{
    int v, rc = weft_chan_recv(c, &v, sizeof v);
    return rc < 0 ? rc : 0;
}

static int dine(void *arg)
{
    const struct philosopher *p = arg;
    struct table *t = p->t;
    int first = p->seat, second = (p->seat + 1) % SEATS, rc = 0;
    if (!t->polite && p->seat == 0)
        first = 1, second = 0;
    for (int i = 0; i < t->meals && rc == 0; i++) {
        if (t->polite && (rc = take(t->room)) < 0)
            break;
        if ((rc = take(t->fork[first])) == 0 && (rc = take(t->fork[second])) == 0)
            rc = eat(t, p->seat);
        if (rc == 0 && (rc = put(t->fork[second], 1)) == 0)
            rc = put(t->fork[first], 1);
        if (rc == 0 && t->polite)
            rc = put(t->room, 1);
    }
    return rc;
}

static int lay_table(void *arg)
{
    struct table *t = arg;
    struct philosopher p[SEATS];
    t->room = make(SEATS - 1);
    for (int i = 0; i < SEATS - 1; i++)
        SAME(put(t->room, 1), 0);
    for (int i = 0; i < SEATS; i++)
        SAME(put(t->fork[i] = make(1), 1), 0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < SEATS; i++) {
        p[i] = (struct philosopher){ t, i };
        weft_spawn(&s, dine, &p[i]);
    }
    int rc = weft_scope_end(&s, 0);
    SAME(t->eaten, SEATS * t->meals);
    for (int i = 0; i < SEATS; i++) {
        SAME(weft_chan_len(t->fork[i]), 1);
        weft_chan_destroy(&t->fork[i]);
    }
    SAME(weft_chan_len(t->room), SEATS - 1);
    weft_chan_destroy(&t->room);
    return rc;
}

START_TEST(philosophers_dine_and_never_beside_each_other)
{
    for (int polite = 0; polite < 2; polite++) {
        struct table t = { .polite = polite, .meals = fewer(100, SCALED(2000, 500, 200)) };
        IN_REAL_TIME(lay_table, &t, workers[_i]);
    }
}
END_TEST

/* And those who all take the left fork first hang; which is found at once, and told to all. */
static int take_left_and_hang(void *arg)
{
    const struct philosopher *p = arg;
    int rc = take(p->t->fork[p->seat]);
    if (rc == 0)
        atomic_fetch_add(&p->t->eaten, 1);
    while (rc == 0 && atomic_load(&p->t->eaten) < SEATS)
        rc = weft_yield();
    return rc < 0 ? rc : take(p->t->fork[(p->seat + 1) % SEATS]);
}

static int hang(void *arg)
{
    struct table *t = arg;
    struct philosopher p[SEATS];
    weft_scope s;
    for (int i = 0; i < SEATS; i++)
        SAME(put(t->fork[i] = make(1), 1), 0);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < SEATS; i++) {
        p[i] = (struct philosopher){ t, i };
        weft_spawn(&s, take_left_and_hang, &p[i]);
    }
    int rc = weft_scope_end(&s, 0);
    for (int i = 0; i < SEATS; i++)
        weft_chan_destroy(&t->fork[i]);
    return rc;
}

START_TEST(philosophers_who_hang_are_told)
{
    struct table t = { .meals = 1 };
    weft_options o = { .workers = workers[_i], .deadlock_is_error = true, .report = say_nothing };
    atomic_store(&wrongs, 0);
    ck_assert_int_eq(weft_run(hang, &t, &o), -EDEADLK);
    ck_assert_msg(atomic_load(&wrongs) == 0, "%s", wrong_text);
    ck_assert_int_eq(atomic_load(&t.eaten), SEATS);
}
END_TEST

/* -- a ring -- */

struct ring {
    int n, hops;
    weft_chan **c;
    atomic_int last; /* who found that there are no hops left */
};

struct node {
    struct ring *r;
    int number;
};

static int pass_on(void *arg)
{
    const struct node *x = arg;
    weft_chan *in = x->r->c[x->number], *out = x->r->c[(x->number + 1) % x->r->n];
    int left, rc;
    while ((rc = weft_chan_recv(in, &left, sizeof left)) > 0) {
        if (left == 0) {
            atomic_store(&x->r->last, x->number);
            break;
        }
        if ((rc = put(out, left - 1)) < 0)
            return rc == -EPIPE ? 0 : rc;
    }
    weft_chan_close(out); /* the end goes round, too */
    return rc < 0 ? rc : 0;
}

static int run_ring(void *arg)
{
    struct ring *r = arg;
    r->c = calloc((size_t)r->n, sizeof(weft_chan *));
    if (!r->c)
        return -ENOMEM;
    for (int i = 0; i < r->n; i++)
        r->c[i] = make(0);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < r->n; i++) {
        struct node x = { r, i };
        weft_spawn_copy(&s, pass_on, &x, sizeof x);
    }
    int rc = put(r->c[0], r->hops);
    rc = weft_scope_end(&s, rc);
    for (int i = 0; i < r->n; i++)
        weft_chan_destroy(&r->c[i]);
    free(r->c);
    return rc;
}

START_TEST(ring_of_a_thousand_passes_a_token_round)
{
    struct ring r = { .n = fewer(200, SCALED(1000, 1000, 300)), .last = -1 };
    r.hops = fewer(3, SCALED(50, 10, 5)) * r.n + 498;
    IN_REAL_TIME(run_ring, &r, workers[_i]);
    ck_assert_int_eq(atomic_load(&r.last), 498 % r.n);
}
END_TEST

/* -- fans -- */

enum { SOURCES = 6, HANDS = 5 };
struct fan {
    weft_chan *jobs, *results;
    int each;
    weft_waitgroup sources, hands;
    atomic_int next;
};

static int produce(void *arg)
{
    struct fan *f = arg;
    int rc = 0, from = atomic_fetch_add(&f->next, f->each);
    for (int i = 0; i < f->each && rc == 0; i++)
        rc = put(f->jobs, from + i);
    weft_waitgroup_done(&f->sources);
    return rc;
}

static int handle(void *arg)
{
    struct fan *f = arg;
    int v, rc;
    while ((rc = weft_chan_recv(f->jobs, &v, sizeof v)) > 0)
        if ((rc = put(f->results, 2 * v + 1)) < 0)
            break;
    weft_waitgroup_done(&f->hands);
    return rc;
}

/* Closes what nobody sends to any more. */
static int close_behind(void *arg)
{
    struct fan *f = arg;
    int rc = weft_waitgroup_wait(&f->sources);
    weft_chan_close(f->jobs);
    if (rc == 0)
        rc = weft_waitgroup_wait(&f->hands);
    weft_chan_close(f->results);
    return rc;
}

static int fan_out_and_in(void *arg)
{
    struct fan *f = arg;
    int all = SOURCES * f->each, v, rc, n = 0;
    unsigned char *seen = calloc((size_t)all, 1);
    f->jobs = make(3);
    f->results = make(0);
    weft_waitgroup_add(&f->sources, SOURCES);
    weft_waitgroup_add(&f->hands, HANDS);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < SOURCES; i++)
        weft_spawn(&s, produce, f);
    for (int i = 0; i < HANDS; i++)
        weft_spawn(&s, handle, f);
    weft_spawn(&s, close_behind, f);
    for (; (rc = weft_chan_recv(f->results, &v, sizeof v)) > 0; n++)
        MUST(v % 2 == 1 && v / 2 < all && seen[v / 2]++ == 0);
    SAME(n, all);
    rc = weft_scope_end(&s, rc);
    weft_chan_destroy(&f->jobs);
    weft_chan_destroy(&f->results);
    free(seen);
    return rc;
}

START_TEST(fan_out_and_in_loses_nothing_and_ends_by_closing)
{
    struct fan f = { .each = fewer(300, SCALED(5000, 2000, 500)) };
    IN_REAL_TIME(fan_out_and_in, &f, workers[_i]);
}
END_TEST

/* -- a close is heard by all -- */

enum { HEARERS = 60 };

static int select_for_close(void *c)
{
    int v;
    weft_case cs[] = { weft_on_timer(weft_sec(3600)), weft_on_recv(c, &v, sizeof v) };
    int rc = weft_select(cs, 2);
    return rc == 1 ? cs[1].rc : rc < 0 ? rc : -ETIME;
}

static int close_to_all(void *arg)
{
    (void)arg;
    struct call c[HEARERS] = { 0 };
    weft_chan *stop = make(0), *full = make(1);
    weft_scope s;
    SAME(put(full, 1), 0);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < HEARERS; i++) {
        if (i % 3 == 2)
            call_in(&s, &c[i], send_9, full);
        else
            call_in(&s, &c[i], i % 3 ? recv_one : select_for_close, stop);
    }
    settle();
    for (int i = 0; i < HEARERS; i++)
        SAME(rc_of(&c[i]), STILL_OUT);
    weft_chan_close(stop);
    weft_chan_close(full);
    settle();
    for (int i = 0; i < HEARERS; i++)
        SAME(rc_of(&c[i]), i % 3 == 2 ? -EPIPE : 0);
    SAME(recv_one(stop), 0); /* and by who comes later */
    SAME(recv_one(full), 1); /* what was in it is still there */
    SAME(recv_one(full), 0);
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&stop);
    weft_chan_destroy(&full);
    return rc;
}

START_TEST(close_is_heard_by_all_who_wait_and_all_who_come_later)
{
    IN_VIRTUAL_TIME(close_to_all, NULL, workers[_i]);
}
END_TEST

#define LOOP(tc, test) tcase_add_loop_test(tc, test, 0, COUNT(workers))

int main(void)
{
    Suite *s = suite_create("classics_go");
    TCase *tc = add_case(s, "series");
    LOOP(tc, power_series_demand_their_terms_of_each_other);
    tc = add_case(s, "select");
    LOOP(tc, select_is_fair_to_each_case_that_is_ready);
    LOOP(tc, select_is_fair_to_two_that_always_send);
    LOOP(tc, select_leaves_out_what_is_off_and_with_default_does_not_wait);
    LOOP(tc, select_sends_each_item_once_whichever_channel_takes_it);
    tc = add_case(s, "channels");
    LOOP(tc, philosophers_dine_and_never_beside_each_other);
    LOOP(tc, philosophers_who_hang_are_told);
    LOOP(tc, ring_of_a_thousand_passes_a_token_round);
    LOOP(tc, fan_out_and_in_loses_nothing_and_ends_by_closing);
    LOOP(tc, close_is_heard_by_all_who_wait_and_all_who_come_later);
    return run_suite(s);
}
