/* stacks_test.c - report/stacks.c, machine/unwind.c: the calls that a task is in while it waits.
 *
 * Each call says where it returns to, so what is found is compared address by address. This file is compiled without frame
 * pointers, as most programs are. */
#include "support.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "machine/unwind.h"

void weft__context_entry(void);

enum { CALLS = 64, ENTRY_BYTES = 48 };

#define RETURNS_TO() __builtin_return_address(0)
/* No tail call. */
#define AND_RETURN(rc)                                                                             \
    do {                                                                                           \
        int rc_ = (rc);                                                                            \
        __asm__ volatile("" : "+r"(rc_) : : "memory");                                             \
        return rc_;                                                                                \
    } while (0)

static bool in_entry(const void *pc)
{
    uintptr_t at = (uintptr_t)pc, entry = (uintptr_t)weft__context_entry;
    return at >= entry && at <= entry + ENTRY_BYTES;
}

/* -- one task, that waits in a known place -- */

enum wait { SLEEPS, RECEIVES, READS, JOINS, GENERATES, IS_CALLED, WAITS };
enum frame { PLAIN, VARIABLE, ALIGNED, LARGE, SHAPES };

struct parked {
    enum wait wait;
    enum frame shape;
    const void *expected[8]; /* innermost first; NULL: the last was before it */
    const void *below[8];    /* the same behind them, of who waits for a generator */
    weft_task id, sleeper;
    weft_chan *channel;
    int pipe[2];
    const void *calls[CALLS];
    int n;
    atomic_int ready;
};

static int sleep_on(void *arg)
{
    (void)arg;
    return weft_sleep_until(WEFT_NEVER);
}

static NOINLINE int outer(struct parked *p);

static int body(weft_gen *g, void *arg)
{
    (void)g;
    return outer(arg);
}

static int called(void *arg)
{
    struct parked *p = arg;
    p->id = weft_task_self();
    AND_RETURN(outer(p));
}

static NOINLINE int wait_so(struct parked *p, enum wait wait)
{
    char c;
    int item;
    p->expected[0] = RETURNS_TO();
    atomic_store(&p->ready, 1);
    switch (wait) {
    case SLEEPS:
    case GENERATES:
    case IS_CALLED:
        AND_RETURN(weft_sleep_until(WEFT_NEVER));
    case RECEIVES:
        AND_RETURN(weft_chan_recv(p->channel, &item, sizeof item));
    case READS:
        AND_RETURN(weft_read(p->pipe[0], &c, 1));
    case JOINS:
        AND_RETURN(weft_task_join(p->sleeper));
    case WAITS:
        break;
    }
    return -EINVAL;
}

/* Frames of different kinds: of a known size, of one that is found out at run time, aligned anew, and larger than a page. */
static NOINLINE int plain(struct parked *p, int n)
{
    p->expected[1] = RETURNS_TO();
    AND_RETURN(wait_so(p, p->wait) + n);
}

static NOINLINE int variable(struct parked *p, int n)
{
    char some[n];
    p->expected[1] = RETURNS_TO();
    memset(some, n, (size_t)n);
    __asm__ volatile("" : : "r"(some) : "memory");
    AND_RETURN(wait_so(p, p->wait) + some[0]);
}

static NOINLINE int aligned(struct parked *p, int n)
{
    _Alignas(128) char some[256];
    p->expected[1] = RETURNS_TO();
    memset(some, n, sizeof some);
    __asm__ volatile("" : : "r"(some) : "memory");
    AND_RETURN(wait_so(p, p->wait) + some[0]);
}

static NOINLINE int large(struct parked *p, int n)
{
    char some[20000];
    p->expected[1] = RETURNS_TO();
    memset(some, n, sizeof some);
    __asm__ volatile("" : : "r"(some) : "memory");
    AND_RETURN(wait_so(p, p->wait) + some[0]);
}

static NOINLINE int outer(struct parked *p)
{
    static int (*const of[])(struct parked *p, int n) = { [PLAIN] = plain, [VARIABLE] = variable, [ALIGNED] = aligned,
        [LARGE] = large };
    p->expected[2] = RETURNS_TO();
    AND_RETURN(of[p->shape](p, 40 + (int)p->wait));
}

static NOINLINE int advance(struct parked *p)
{
    weft_gen *g;
    p->below[0] = RETURNS_TO();
    int rc = weft_gen_create(&g, body, p, 0, NULL);
    if (rc == 0) {
        rc = weft_gen_next(g, NULL, 0);
        weft_gen_destroy(&g);
    }
    return rc;
}

static NOINLINE int call_child(struct parked *p)
{
    weft_scope s;
    p->below[0] = RETURNS_TO();
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, called, p);
    return weft_scope_end(&s, 0);
}

static int park(void *arg)
{
    struct parked *p = arg;
    p->id = weft_task_self();
    if (p->wait == GENERATES)
        AND_RETURN(advance(p));
    if (p->wait == IS_CALLED)
        AND_RETURN(call_child(p));
    AND_RETURN(outer(p));
}

/* Where the addresses are, one behind the other; -1. */
static int found(const struct parked *p, const void *const *expected, int from)
{
    int n = 0;
    while (expected[n])
        n++;
    for (int i = from; i + n <= p->n; i++)
        if (memcmp(&p->calls[i], expected, (size_t)n * sizeof expected[0]) == 0)
            return i;
    return -1;
}

/* Until it waits: between its last words and its wait it runs, as one does that yields by chance. */
static void look_at(struct parked *p)
{
    if (!wait_for(&p->ready, 1))
        return;
    for (int64_t end = weft_after(LIMIT); weft_now() < end;) {
        p->n = weft_task_stack(p->id, p->calls, CALLS);
        if (p->n != -EBUSY)
            return;
        weft_ignore(weft_yield());
    }
}

static int park_one(void *arg)
{
    struct parked *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    p->sleeper = weft_spawn(&s, sleep_on, NULL);
    weft_spawn(&s, park, p);
    look_at(p);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

static void expect_calls(const struct parked *p, int workers, const char *what)
{
    char all[2000] = "";
    size_t at = 0;
    for (int i = 0; i < p->n && at + 40 < sizeof all; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, " %p", p->calls[i]);
    int first = found(p, p->expected, 1);
    ck_assert_msg(first > 0, "%s, frame %d: no %p, %p, %p in%s", what, p->shape, p->expected[0], p->expected[1], p->expected[2],
            all);
    uintptr_t in = (uintptr_t)p->calls[first - 1] - (uintptr_t)wait_so;
    ck_assert_msg(in < 4000, "%s: %p is not in wait_so, but %#tx behind", what, p->calls[first - 1], in);
    if (p->below[0] && (p->wait == GENERATES || (workers == 1 && !TSAN && !chaos()))) /* where a child is run as a call, each time */
        ck_assert_msg(found(p, p->below, first + 3) > 0, "%s: no %p in%s", what, p->below[0], all);
    ck_assert_msg(in_entry(p->calls[p->n - 1]), "%s: ends elsewhere, in%s", what, all);
}

/* A-017, C-03 */
START_TEST(the_calls_of_a_task_that_waits_are_found_in_order)
{
    static const char *const what[] = { "sleeps", "receives", "reads", "joins", "in a generator", "called by its joiner" };
    for (int wait = 0; wait < WAITS; wait++)
        for (int shape = 0; shape < SHAPES; shape++) {
            struct parked p = { .wait = (enum wait)wait, .shape = (enum frame)shape };
            ck_assert_int_eq(pipe2(p.pipe, O_CLOEXEC), 0);
            ck_assert_int_eq(weft_chan_create(&p.channel, sizeof(int), 1, NULL), 0);
            ck_assert_int_eq(weft_run(park_one, &p, ON(_i)), 0);
            weft_chan_destroy(&p.channel);
            close(p.pipe[0]);
            close(p.pipe[1]);
            ck_assert_msg(p.n > 0, "%s: %d", what[wait], p.n);
            expect_calls(&p, _i, what[wait]);
        }
}
END_TEST

/* -- of whom there is none -- */

struct none {
    weft_task ended;
    atomic_int spins, over;
    int rc[9];
    const void *calls[2];
    weft_task spinner;
    int three;
};

static int spin(void *arg)
{
    struct none *n = arg;
    n->spinner = weft_task_self();
    atomic_store(&n->spins, 1);
    while (!atomic_load(&n->over))
        continue;
    return 0;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int ask_for_none(void *arg)
{
    struct none *n = arg;
    const void *calls[CALLS];
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    n->rc[0] = weft_task_stack(weft_task_self(), calls, CALLS);
    weft_task ended = weft_spawn(&s, nothing, NULL);
    weft_ignore(weft_task_join(ended));
    n->rc[1] = weft_task_stack(ended, calls, CALLS);
    n->rc[2] = weft_task_stack(0, calls, CALLS);
    n->rc[3] = weft_task_stack(-1, calls, CALLS);
    n->rc[4] = weft_task_stack(ended, NULL, CALLS);
    n->rc[5] = weft_task_stack(ended, calls, 0);
    n->rc[6] = weft_task_stack(INT64_MAX, calls, CALLS);
    weft_spawn(&s, spin, n);
    if (wait_for(&n->spins, 1))
        n->rc[7] = weft_task_stack(n->spinner, calls, CALLS);
    atomic_store(&n->over, 1);
    weft_task sleeper = weft_spawn(&s, sleep_on, NULL);
    for (int64_t end = weft_after(LIMIT); (n->rc[8] = weft_task_stack(sleeper, n->calls, 2)) == -EBUSY && weft_now() < end;)
        weft_ignore(weft_yield());
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(of_who_runs_or_has_ended_there_are_none)
{
    static const int expected[] = { -EBUSY, -ESRCH, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -ESRCH, -EBUSY, 2 };
    struct none n = { 0 };
    const void *calls[2];
    ck_assert_int_eq(weft_task_stack(1, calls, 2), -ESRCH); /* before there is anything */
    ck_assert_int_eq(weft_run(ask_for_none, &n, ON(2)), 0);
    for (int i = 0; i < COUNT(expected); i++)
        ck_assert_msg(n.rc[i] == expected[i], "%d: %d", i, n.rc[i]);
    ck_assert(n.calls[0] && n.calls[1]);
}
END_TEST

/* -- in a dump -- */

struct text {
    int rc;
    char all[1 << 18];
};

static NOINLINE void dump(struct text *t)
{
    FILE *f = tmpfile();
    t->rc = -EIO;
    t->all[0] = 0;
    if (!f)
        return;
    t->rc = weft_dump_stacks(fileno(f));
    rewind(f);
    t->all[fread(t->all, 1, sizeof t->all - 1, f)] = 0;
    fclose(f);
}

/* What follows the line of a task, as far as it is indented. */
static const char *lines_of(const struct text *t, weft_task id)
{
    static char lines[8000];
    char begin[40];
    snprintf(begin, sizeof begin, "task %" PRId64 " ", id);
    const char *at = strncmp(t->all, begin, strlen(begin)) == 0 ? t->all : strstr(t->all, begin);
    while (at && at != t->all && at[-1] != '\n')
        at = strstr(at + 1, begin);
    at = at ? strchr(at, '\n') : NULL;
    const char *end = at;
    while (end && strncmp(end, "\n    ", 5) == 0)
        end = strchr(end + 1, '\n');
    snprintf(lines, sizeof lines, "%.*s", at ? (int)(end - at) : 0, at ? at : "");
    return lines;
}

enum { ALIKE = 3 };

struct dumped {
    struct parked p[ALIKE];
    struct text text;
    weft_task self;
};

static int dump_some(void *arg)
{
    struct dumped *d = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    d->self = weft_task_self();
    for (int i = 0; i < ALIKE; i++)
        weft_spawn(&s, park, &d->p[i]);
    for (int i = 0; i < ALIKE; i++)
        look_at(&d->p[i]);
    dump(&d->text);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

/* C-03 */
START_TEST(a_dump_has_each_stack_once_and_names_those_that_are_alike)
{
    static struct dumped d;
    Dl_info here;
    ck_assert_int_ne(dladdr((void *)(uintptr_t)wait_so, &here), 0);
    ck_assert_int_eq(weft_run(dump_some, &d, ON(1)), 0);
    ck_assert_int_eq(d.text.rc, ALIKE + 1);
    ck_assert_str_eq(lines_of(&d.text, d.self), "");
    int whole = 0;
    for (int i = 0; i < ALIKE; i++) {
        const char *lines = lines_of(&d.text, d.p[i].id), *at = lines;
        if (strncmp(lines, "\n    as task ", 13) == 0) {
            ck_assert_msg(strchr(lines + 1, '\n') == NULL, "%s", lines);
            bool another = false;
            for (int k = 0; k < ALIKE; k++)
                another |= k != i && atoll(lines + 13) == d.p[k].id;
            ck_assert_msg(another, "%s", lines);
            continue;
        }
        whole++;
        for (int k = 0; k < 3; k++) {
            char line[100];
            snprintf(line, sizeof line, "\n    at stacks_test+0x%tx", (const char *)d.p[i].expected[k] - (char *)here.dli_fbase);
            at = strstr(at, line);
            ck_assert_msg(at != NULL, "no%s in%s", line, lines);
        }
    }
    ck_assert_int_eq(whole, 1);
}
END_TEST

/* -- many, and one that never gives up its worker -- */

struct many {
    atomic_int over, spins;
    atomic_long steps;
    int rc;
    long before, after;
    int64_t took;
};

static int hold(void *arg)
{
    struct many *m = arg;
    atomic_store(&m->spins, 1);
    while (!atomic_load(&m->over))
        continue;
    return 0;
}

static int step(void *arg)
{
    struct many *m = arg;
    while (!atomic_load(&m->over)) {
        atomic_fetch_add(&m->steps, 1);
        weft_ignore(weft_yield());
    }
    return 0;
}

static NOINLINE int nested_sleep(int depth)
{
    int rc = depth > 0 ? nested_sleep(depth - 1) : weft_sleep_until(WEFT_NEVER);
    AND_RETURN(rc);
}

static int sleep_deep(void *arg)
{
    (void)arg;
    return nested_sleep((int)((uintptr_t)weft_task_self() % 5));
}

static NOINLINE void dump_many(struct many *m)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    m->before = atomic_load(&m->steps);
    m->took = weft_now();
    m->rc = weft_dump_stacks(fd);
    m->took = weft_now() - m->took;
    for (int64_t end = weft_after(LIMIT); (m->after = atomic_load(&m->steps)) == m->before && weft_now() < end;)
        usleep(100);
    close(fd);
}

static void *dump_outside(void *arg)
{
    dump_many(arg);
    return NULL;
}

/* A constant, as in BUILT: how many coroutines ThreadSanitizer has room for. */
enum { SLEEPERS = BUILT(100000, 2000, 1000) };

static int many_sleep(void *arg)
{
    struct many *m = arg;
    weft_scope s;
    int n = fewer(1000, SLEEPERS);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++)
        weft_spawn(&s, sleep_deep, NULL);
    weft_spawn(&s, hold, m);
    weft_spawn(&s, step, m);
    bool spins = wait_for(&m->spins, 1);
    pthread_t thread = thread_start(dump_outside, m);
    while (pthread_tryjoin_np(thread, NULL) == EBUSY)
        weft_ignore(weft_yield());
    atomic_store(&m->over, 1);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, spins && m->rc == n + 3 ? 0 : -EPROTO);
}

/* C-03 */
START_TEST(many_are_dumped_while_one_spins_and_others_go_on)
{
    struct many m = { 0 };
    ck_assert_int_eq(weft_run(many_sleep, &m, &(weft_options){ .workers = 2, .stack_bytes = 16384 }), 0);
    ck_assert(m.after > m.before);
    ck_assert_msg(m.took < 3 * LIMIT, "%" PRId64 " ns", m.took);
    if (getenv("WEFT_TEST_TIMES"))
        printf("%d stacks in %" PRId64 " us\n", SLEEPERS, m.took / 1000);
}
END_TEST

/* -- beside everything else -- */

/* Two ways to wait: what is found is wholly of one of them. */
struct way {
    weft_chan *from, *to;
    const void *_Atomic inner, *_Atomic outer;
};

struct race {
    struct way a, b;
    weft_task ids[2];
    atomic_int over, bad;
    atomic_long seen;
};

static NOINLINE int pass_a(struct way *w)
{
    int item;
    w->inner = RETURNS_TO();
    AND_RETURN(weft_chan_recv(w->from, &item, sizeof item) <= 0 ? -EPIPE : weft_chan_send(w->to, &item, sizeof item));
}

static NOINLINE int deep_a(struct way *w)
{
    char some[300];
    w->outer = RETURNS_TO();
    memset(some, 1, sizeof some);
    __asm__ volatile("" : : "r"(some) : "memory");
    AND_RETURN(pass_a(w));
}

static NOINLINE int pass_b(struct way *w)
{
    int item;
    w->inner = RETURNS_TO();
    AND_RETURN(weft_chan_recv(w->from, &item, sizeof item) <= 0 ? -EPIPE : weft_chan_send(w->to, &item, sizeof item));
}

static NOINLINE int deep_b(struct way *w, int n)
{
    char some[n];
    w->outer = RETURNS_TO();
    memset(some, 2, (size_t)n);
    __asm__ volatile("" : : "r"(some) : "memory");
    AND_RETURN(pass_b(w));
}

static int pass_on(void *arg)
{
    struct race *r = arg;
    r->ids[0] = weft_task_self();
    while (deep_a(&r->a) == 0 && deep_b(&r->b, 77) == 0)
        continue;
    return 0;
}

static int ping(void *arg)
{
    struct race *r = arg;
    int item = 1;
    while (!atomic_load(&r->over))
        if (weft_chan_send(r->a.from, &item, sizeof item) < 0 || weft_chan_recv(r->a.to, &item, sizeof item) <= 0)
            break;
    weft_chan_close(r->a.from);
    return 0;
}

static void check(struct race *r, const void *const *calls, int n)
{
    bool good = in_entry(calls[n - 1]);
    int pairs = 0;
    for (int i = 0; i + 1 < n; i++)
        pairs += (calls[i] == r->a.inner && calls[i + 1] == r->a.outer) || (calls[i] == r->b.inner && calls[i + 1] == r->b.outer);
    atomic_fetch_add(&r->seen, 1);
    if (!good || pairs != 1)
        atomic_fetch_add(&r->bad, 1);
}

static void *look_on(void *arg)
{
    struct race *r = arg;
    const void *calls[CALLS];
    int64_t end = weft_after(LIMIT);
    for (int i = 0; i < SCALED(300000, 20000, 5000) || (atomic_load(&r->seen) == 0 && weft_now() < end); i++) {
        int n = weft_task_stack(r->ids[0], calls, CALLS);
        if (n > 0)
            check(r, calls, n);
        else if (n != -EBUSY)
            atomic_fetch_add(&r->bad, 1);
    }
    return NULL;
}

static int race(void *arg)
{
    struct race *r = arg;
    weft_scope s;
    int item = 0, rc = 0;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, pass_on, r);
    for (int i = 0; i < 4 && rc == 0; i++) { /* each place has said where it returns to */
        rc = weft_chan_send(r->a.from, &item, sizeof item);
        if (rc == 0)
            rc = weft_chan_recv(r->a.to, &item, sizeof item) == 1 ? 0 : -EPROTO;
    }
    weft_spawn(&s, ping, r);
    pthread_t thread = thread_start(look_on, r);
    while (pthread_tryjoin_np(thread, NULL) == EBUSY)
        weft_ignore(weft_sleep(weft_ms(1)));
    atomic_store(&r->over, 1);
    return weft_scope_end(&s, rc);
}

START_TEST(what_is_found_of_a_task_that_moves_is_whole)
{
    static const int workers[] = { 1, 2 };
    struct race r = { 0 };
    ck_assert_int_eq(weft_chan_create(&r.a.from, sizeof(int), 0, NULL), 0);
    ck_assert_int_eq(weft_chan_create(&r.a.to, sizeof(int), 0, NULL), 0);
    r.b.from = r.a.from;
    r.b.to = r.a.to;
    ck_assert_int_eq(weft_run(race, &r, ON(workers[_i])), 0);
    ck_assert_int_eq(atomic_load(&r.bad), 0);
    ck_assert(atomic_load(&r.seen) > 0);
    weft_chan_destroy(&r.a.from);
    weft_chan_destroy(&r.a.to);
}
END_TEST

/* -- whatever is there -- */

enum { PAGE = 65536, WORDS = 512 }; /* a page of either processor, or several */

/* Something that might be on a stack: a number, an address in it, or one of code, of which some call others. */
static uintptr_t some_word(uint64_t *rng, const uintptr_t *words)
{
    static const uintptr_t code[] = { (uintptr_t)outer, (uintptr_t)variable, (uintptr_t)aligned, (uintptr_t)weft_chan_recv,
        (uintptr_t)weft_scope_end, (uintptr_t)weft_read, (uintptr_t)weft__context_entry, (uintptr_t)printf,
        (uintptr_t)qsort, (uintptr_t)poll };
    uint32_t kind = next_random(rng) % 8, number = next_random(rng);
    if (kind == 0)
        return (uintptr_t)next_random(rng) << 32 | number;
    if (kind == 1)
        return number % 3 - 1;
    if (kind < 4)
        return (uintptr_t)&words[number % WORDS] + (number >> 20) % 9 / 8;
    return code[number % COUNT(code)] + (number >> 8) % 400;
}

/* C-03. What lies beside the stack may not be touched at all. */
START_TEST(whatever_is_on_a_stack_a_walk_of_it_ends_and_stays_within)
{
    char *m = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(m != MAP_FAILED && mprotect(m + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    uint64_t rng = 1;
    long calls = 0;
    for (int i = 0; i < SCALED(200000, 20000, 5000); i++) {
        /* at either end of what may be touched */
        uintptr_t *words = (uintptr_t *)(void *)(i % 2 ? m + PAGE : m + 2 * PAGE - WORDS * sizeof *words);
        struct weft__stack home = { .low = (char *)words, .high = (char *)(words + WORDS) };
        struct weft__context at = { .sp = words + next_random(&rng) % (WORDS + 8) };
        struct weft__call c;
        const void *out[CALLS];
        for (int k = 0; k < WORDS / 16; k++)
            words[next_random(&rng) % WORDS] = some_word(&rng, words);
        if (weft__unwind_parked(&c, &at, &home))
            calls += weft__unwind_all(&c, out, CALLS);
        if (weft__unwind_from(&c, (uintptr_t)at.sp, some_word(&rng, words), home.low, home.high))
            calls += weft__unwind_all(&c, out, 3);
    }
    ck_assert_int_gt(calls, 1000);
    munmap(m, 3 * PAGE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stacks");
    TCase *tc = add_case(s, "stacks");
    tcase_add_loop_test(tc, the_calls_of_a_task_that_waits_are_found_in_order, 1, 3);
    tcase_add_test(tc, of_who_runs_or_has_ended_there_are_none);
    tcase_add_test(tc, a_dump_has_each_stack_once_and_names_those_that_are_alike);
    tcase_add_test(tc, many_are_dumped_while_one_spins_and_others_go_on);
    tcase_add_loop_test(tc, what_is_found_of_a_task_that_moves_is_whole, 0, 2);
    tcase_add_test(tc, whatever_is_on_a_stack_a_walk_of_it_ends_and_stays_within);
    return run_suite(s);
}
