/* turns_test.c - engine/turns.c: who holds a worker for long is told, with the calls that it is in.
 *
 * This file is compiled without frame pointers, as most programs are. ThreadSanitizer delivers signals too late: there
 * nobody is asked for calls. */
#include "support.h"

#include <dlfcn.h>

#include "base/fault.h"
#include "engine/turns.h"

enum { MOST = 64 };

#define RETURNS_TO() __builtin_return_address(0)
#define AND_RETURN(rc)                                                                             \
    do {                                                                                           \
        int rc_ = (rc);                                                                            \
        __asm__ volatile("" : "+r"(rc_) : : "memory");                                             \
        return rc_;                                                                                \
    } while (0)

/* What the report function has heard; it is the I/O thread's, and read when the runtime has ended. */
struct heard {
    atomic_int n, of_id; /* reports; of the task `id` */
    _Atomic(weft_task) id;
    atomic_int more, with_calls; /* reports that say of others; that say what it was in */
    struct {
        weft_task task;
        char name[32], text[4000];
        const void *site;
        int code;
    } all[MOST];
};

static void hear(const weft_report *r, void *arg)
{
    struct heard *h = arg;
    if (strcmp(r->what, "long-turn") != 0)
        return;
    int i = atomic_load(&h->n);
    if (i < MOST) {
        h->all[i].task = r->task;
        h->all[i].site = r->site;
        h->all[i].code = r->code;
        snprintf(h->all[i].name, sizeof h->all[i].name, "%s", r->task_name);
        snprintf(h->all[i].text, sizeof h->all[i].text, "%s", r->text);
    }
    if (r->task == atomic_load(&h->id))
        atomic_fetch_add(&h->of_id, 1);
    if (strstr(r->text, "more were not told of"))
        atomic_fetch_add(&h->more, 1);
    if (strstr(r->text, "; in "))
        atomic_fetch_add(&h->with_calls, 1);
    atomic_store(&h->n, i + 1);
}

static weft_options hearing(struct heard *h, int64_t limit)
{
    return (weft_options){ .workers = 2, .spares = -1, .report = hear, .report_arg = h, .long_turn_ns = limit };
}

/* Without a call of weft's. */
static NOINLINE int64_t time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* -- one that does something for long -- */

enum how { SPINS, READS, POLLS, SLEEPS, HOWS };

struct one {
    struct heard heard;
    enum how how;
    const void *returns_to[2];
    const void *site_from;
    int pipe[2], rc;
    int64_t asked, took;
    atomic_int done;
};

/* Until it was told, and then for as long again. */
static NOINLINE void spin_for(struct one *o)
{
    int64_t begin = time_now(), end = 0;
    o->returns_to[0] = RETURNS_TO();
    for (;;) {
        int64_t now = time_now();
        if (end == 0 && atomic_load(&o->heard.of_id) > 0)
            end = now + (now - begin);
        if ((end != 0 && now > end) || now - begin > LIMIT)
            return;
    }
}

static NOINLINE int block(struct one *o)
{
    char c = 0;
    struct pollfd p = { .fd = o->pipe[0], .events = POLLIN };
    o->returns_to[0] = RETURNS_TO();
    switch (o->how) {
    case READS:
        AND_RETURN((int)read(o->pipe[0], &c, 1));
    case POLLS:
        AND_RETURN(poll(&p, 1, (int)(o->asked / 1000000)));
    case SLEEPS:
        AND_RETURN(usleep((unsigned)(o->asked / 1000)));
    case SPINS:
    case HOWS:
        break;
    }
    return -1;
}

static NOINLINE int hold(struct one *o)
{
    int rc = 0;
    o->returns_to[1] = RETURNS_TO();
    if (o->how == SPINS)
        spin_for(o);
    else
        rc = block(o);
    __asm__ volatile("" : "+r"(rc) : : "memory");
    return rc;
}

static int hold_worker(void *arg)
{
    struct one *o = arg;
    atomic_store(&o->heard.id, weft_task_self());
    o->took = time_now();
    o->rc = hold(o);
    o->took = time_now() - o->took;
    atomic_store(&o->done, 1);
    return 0;
}

static int run_one(void *arg)
{
    struct one *o = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    o->site_from = __builtin_extract_return_addr(RETURNS_TO());
    weft_spawn_with(&s, hold_worker, o, &(weft_spawn_options){ .name = "hog" });
    if (o->how == READS) {
        bool told = wait_for(&o->heard.of_id, 1);
        weft_ignore(weft_sleep(weft_ms(50))); /* and no more reports */
        if (!told || write(o->pipe[1], "x", 1) != 1)
            atomic_store(&o->done, 2);
    }
    (void)wait_for(&o->done, 1);
    return weft_scope_end(&s, 0);
}

/* " < stacks_test+0x123": where it is in the text, or NULL. */
static const char *has_call(const char *text, const void *returns_to)
{
    Dl_info here;
    char call[100];
    if (dladdr((void *)(uintptr_t)hold, &here) == 0)
        return NULL;
    snprintf(call, sizeof call, " < turns_test+0x%tx", (const char *)returns_to - (const char *)here.dli_fbase);
    return strstr(text, call);
}

/* Holds a worker for so long, in a runtime that tells that after 40 ms. */
static void hold_for(struct one *o, enum how how, int64_t held)
{
    memset(o, 0, sizeof *o);
    o->how = how;
    o->asked = held;
    ck_assert_int_eq(pipe2(o->pipe, O_CLOEXEC), 0);
    weft_options options = hearing(&o->heard, weft_ms(40));
    ck_assert_int_eq(weft_run(run_one, o, &options), 0);
    close(o->pipe[0]);
    close(o->pipe[1]);
}

/* Whether the text says all that is to be known: what it blocks in may be the sanitizer's. */
static bool is_told(const struct one *o, const char *text)
{
    if (o->how != SPINS && !strstr(text, ", in system call "))
        return false;
    return TSAN || (ASAN && o->how != SPINS) || (has_call(text, o->returns_to[0]) && has_call(text, o->returns_to[1]));
}

/* C-02 */
START_TEST(who_holds_a_worker_is_told_once_with_name_site_and_calls)
{
    static struct one o;
    const char *text = NULL;
    int i = 0;
    /* The machine may stand still for as long as it is held, or before it is in the call. */
    for (int64_t held = weft_ms(300); !text && held < weft_sec(10); held *= 2) {
        hold_for(&o, (enum how)_i, held);
        ck_assert_int_eq(atomic_load(&o.done), 1);
        ck_assert_int_le(atomic_load(&o.heard.of_id), 1);
        if (atomic_load(&o.heard.of_id) == 0)
            continue;
        for (i = 0; o.heard.all[i].task != atomic_load(&o.heard.id); i++)
            continue;
        if (is_told(&o, o.heard.all[i].text) || held >= weft_sec(4))
            text = o.heard.all[i].text;
    }
    ck_assert_ptr_nonnull(text);
    ck_assert_str_eq(o.heard.all[i].name, "hog");
    ck_assert_ptr_nonnull(o.heard.all[i].site);
    ck_assert_msg(o.heard.all[i].code >= 40 && strncmp(text, "has held its worker for ", 24) == 0, "%d: %s",
            o.heard.all[i].code, text);
    if (o.how != SPINS)
        ck_assert_msg(strstr(text, ", in system call ") != NULL, "%s", text);
    if (o.how == POLLS || o.how == SLEEPS) { /* it was not disturbed */
        ck_assert_int_eq(o.rc, 0);
        ck_assert_msg(o.took >= o.asked, "%lld", (long long)o.took);
    }
    if (o.how == READS)
        ck_assert_int_eq(o.rc, 1);
    if (TSAN || (ASAN && o.how != SPINS))
        return; /* what it blocks in is the sanitizer's */
    const char *inner = has_call(text, o.returns_to[0]), *outer = has_call(text, o.returns_to[1]);
    ck_assert_msg(inner && outer && inner < outer, "%s", text);
}
END_TEST

/* -- who is not told -- */

static int spin_some(void *arg)
{
    int64_t end = time_now() + *(int64_t *)arg;
    while (time_now() < end)
        continue;
    return 0;
}

START_TEST(by_default_and_below_the_limit_nobody_is_told)
{
    static struct heard h;
    int64_t ns = weft_ms(60);
    weft_options off = hearing(&h, 0), high = hearing(&h, LIMIT), bad = hearing(&h, -1);
    ck_assert_int_eq(weft_run(spin_some, &ns, &off), 0);
    ck_assert_int_eq(weft_run(spin_some, &ns, &high), 0);
    ck_assert_int_eq(atomic_load(&h.n), 0);
    ck_assert_int_eq(weft_run(spin_some, &ns, &bad), -EINVAL);
}
END_TEST

/* -- many -- */

struct many {
    struct heard heard;
    int64_t first; /* when there was one, which was told at most `late` before */
    int64_t late;
    int in_second; /* how many there were half a second after that */
};

static int turn_after_turn(void *arg)
{
    struct many *m = arg;
    int64_t ns = weft_ms(6), end = weft_after(LIMIT);
    while (atomic_load(&m->heard.more) == 0 && weft_now() < end) {
        int64_t from = weft_now();
        (void)spin_some(&ns);
        weft_ignore(weft_sleep(weft_us(10)));
        int n = atomic_load(&m->heard.n);
        if (m->first == 0 && n > 0) {
            m->first = weft_now();
            m->late = m->first - from;
        }
        if (m->first == 0 || weft_now() - m->first < weft_ms(500))
            m->in_second = n;
    }
    return 0;
}

START_TEST(no_more_than_ten_are_told_in_a_second_and_then_how_many_were_not)
{
    static struct many m;
    int64_t end = weft_after(LIMIT);
    do { /* the machine may have stood still in the first turn, in the middle of the runtime's second */
        memset(&m, 0, sizeof m);
        weft_options options = hearing(&m.heard, weft_ms(3));
        options.workers = 1;
        ck_assert_int_eq(weft_run(turn_after_turn, &m, &options), 0);
    } while (m.late > weft_ms(400) && weft_now() < end);
    ck_assert_int_eq(atomic_load(&m.heard.more), 1);
    ck_assert_int_ge(m.in_second, 1);
    ck_assert_int_le(m.in_second, 10);
    ck_assert_int_le(atomic_load(&m.heard.n), 10 + 10 + 1);
}
END_TEST

/* -- the signal -- */

static volatile sig_atomic_t urgent;

static void on_urgent(int signo)
{
    (void)signo;
    urgent++;
}

static NOINLINE void (*handler_now(void))(int)
{
    struct sigaction now;
    return sigaction(SIGURG, NULL, &now) == 0 ? now.sa_handler : SIG_ERR;
}

/* A program's own handler is left alone, and not called. */
START_TEST(a_program_that_has_the_signal_keeps_it)
{
    static struct one o;
    memset(&o, 0, sizeof o);
    urgent = 0;
    signal(SIGURG, on_urgent);
    weft_options options = hearing(&o.heard, weft_ms(20));
    ck_assert_int_eq(weft_run(run_one, &o, &options), 0);
    ck_assert(handler_now() == on_urgent);
    signal(SIGURG, SIG_DFL);
    ck_assert_int_eq(urgent, 0);
    ck_assert_int_eq(atomic_load(&o.heard.of_id), 1);
    ck_assert_ptr_null(strstr(o.heard.all[0].text, "; in "));
}
END_TEST

static int take_signal(void *arg)
{
    signal(SIGURG, on_urgent);
    return run_one(arg);
}

START_TEST(so_does_one_that_takes_it_later)
{
    static struct one o;
    memset(&o, 0, sizeof o);
    urgent = 0;
    weft_options options = hearing(&o.heard, weft_ms(20));
    ck_assert_int_eq(weft_run(take_signal, &o, &options), 0);
    ck_assert(handler_now() == on_urgent);
    signal(SIGURG, SIG_DFL);
    ck_assert_int_eq(urgent, 0);
    ck_assert_int_eq(atomic_load(&o.heard.of_id), 1);
}
END_TEST

static int is_taken(void *arg)
{
    *(bool *)arg = handler_now() != SIG_DFL;
    return raise(SIGURG); /* a signal of somebody else's does nothing */
}

START_TEST(it_is_given_back_by_the_last_runtime)
{
    static struct heard h;
    bool taken = false;
    weft_runtime *rt;
    weft_options options = hearing(&h, LIMIT);
    ck_assert_int_eq(weft_runtime_create(&rt, &options), 0);
    ck_assert_int_eq(weft_run(is_taken, &taken, &options), 0);
    ck_assert(taken);
    ck_assert(handler_now() != SIG_DFL);
    ck_assert_int_eq(raise(SIGURG), 0);
    weft_runtime_destroy(&rt);
    ck_assert(handler_now() == SIG_DFL);
    options.long_turn_ns = 0;
    ck_assert_int_eq(weft_run(is_taken, &taken, &options), 0);
    ck_assert(!taken);
}
END_TEST

/* A host's thread is the program's: it gets no signal. */
START_TEST(a_host_is_told_of_without_calls)
{
    static struct one o;
    memset(&o, 0, sizeof o);
    weft_options options = hearing(&o.heard, weft_ms(20));
    options.manual = true;
    options.workers = 1;
    ck_assert_int_eq(weft_run(run_one, &o, &options), 0);
    ck_assert_int_eq(atomic_load(&o.heard.of_id), 1);
    ck_assert_ptr_null(strstr(o.heard.all[0].text, "; in "));
}
END_TEST

/* -- beside everything else -- */

struct crowd {
    struct heard heard;
    int64_t end, most; /* on, until somebody was told of, but not beyond `most` */
    weft_chan *channel;
};

static bool was_heard(struct crowd *c)
{
    return atomic_load(TSAN ? &c->heard.n : &c->heard.with_calls) > 0;
}

static int be_busy(void *arg)
{
    struct crowd *c = arg;
    uint64_t rng = (uint64_t)weft_task_self();
    int item = 0;
    while (weft_now() < c->end || (!was_heard(c) && weft_now() < c->most)) {
        int64_t ns = next_random(&rng) % 3000000;
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_spawn(&s, spin_some, &ns);
        if (next_random(&rng) % 2)
            (void)spin_some(&ns);
        weft_ignore(next_random(&rng) % 2 ? weft_yield() : weft_sleep(weft_us(next_random(&rng) % 100)));
        weft_ignore(weft_chan_try_send(c->channel, &item, sizeof item));
        weft_ignore(weft_chan_recv(c->channel, &item, sizeof item));
        weft_ignore(weft_scope_end(&s, 0));
    }
    return 0;
}

static int be_many(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    c->end = weft_after(weft_ms(1000));
    c->most = weft_after(LIMIT);
    for (int i = 0; i < 12; i++)
        weft_spawn(&s, be_busy, c);
    wait_past(c->end);
    while (!was_heard(c) && weft_now() < c->most)
        weft_ignore(weft_sleep(weft_ms(1)));
    weft_chan_close_now(c->channel);
    return weft_scope_end(&s, 0);
}

/* Whoever runs is asked at every look, in whatever it does. */
START_TEST(who_is_asked_all_the_time_goes_on)
{
    static struct crowd c;
    memset(&c, 0, sizeof c);
    ati_store(&weft__turns_a_second, 1000000);
    ck_assert_int_eq(weft_chan_create(&c.channel, sizeof(int), 2, NULL), 0);
    weft_options options = hearing(&c.heard, 1);
    options.workers = 4;
    options.spares = 4;
    ck_assert_int_eq(weft_run(be_many, &c, &options), 0);
    weft_chan_destroy(&c.channel);
    ati_store(&weft__turns_a_second, 10);
    int n = atomic_load(&c.heard.n);
    for (int i = 0; i < n && i < MOST; i++)
        ck_assert(strncmp(c.heard.all[i].text, "has held its worker for ", 24) == 0);
    ck_assert_int_gt(n, 0);
    if (!TSAN)
        ck_assert_int_gt(atomic_load(&c.heard.with_calls), 0);
}
END_TEST

/* -- without memory -- */

START_TEST(without_memory_for_it_there_is_no_runtime)
{
    static struct heard h;
    weft_options options = hearing(&h, LIMIT);
    int rc = -ENOMEM, failed = 0;
    for (long nth = 1; rc == -ENOMEM && nth < 1000; nth++) {
        weft_runtime *rt = NULL;
        weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
        rc = weft_runtime_create(&rt, &options);
        weft__fault_clear();
        failed += rc == -ENOMEM;
        weft_runtime_destroy(&rt);
        ck_assert(handler_now() == SIG_DFL);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_int_gt(failed, 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("turns");
    TCase *tc = add_case(s, "turns");
    tcase_add_loop_test(tc, who_holds_a_worker_is_told_once_with_name_site_and_calls, 0, HOWS);
    tcase_add_test(tc, by_default_and_below_the_limit_nobody_is_told);
    tcase_add_test(tc, no_more_than_ten_are_told_in_a_second_and_then_how_many_were_not);
    tcase_add_test(tc, a_program_that_has_the_signal_keeps_it);
    tcase_add_test(tc, so_does_one_that_takes_it_later);
    tcase_add_test(tc, it_is_given_back_by_the_last_runtime);
    tcase_add_test(tc, a_host_is_told_of_without_calls);
    tcase_add_test(tc, who_is_asked_all_the_time_goes_on);
    tcase_add_test(tc, without_memory_for_it_there_is_no_runtime);
    return run_suite(s);
}
