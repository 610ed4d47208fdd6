/* fault_calls_test.c - each public call, with each kind of call that it makes below failing: faults.h.
 *
 * A scenario runs in a runtime that is there already, so that what fails is the call's and not the start's; those that
 * need fresh stacks or threads bring a runtime of their own. */
#include "faults.h"

#include <sys/eventfd.h>

static int first_of(int rc, int then)
{
    return rc < 0 ? rc : then < 0 ? then : 0;
}

/* ---- spawns */

struct births {
    atomic_int called, wrong;
    int accepted;
    int refused; /* the first refusal's errno */
    weft_task all[64];
    int n, result[16];
};

struct copied {
    struct births *b;
    unsigned char rest[4000];
};

static int born(void *arg)
{
    struct births *b = arg;
    atomic_fetch_add(&b->called, 1);
    return 0;
}

static int born_waiting(void *arg)
{
    born(arg);
    return weft_sleep(weft_us(20));
}

static int born_of_copy(void *arg)
{
    struct copied *c = arg;
    bool right = (uintptr_t)c % 16 == 0;
    for (size_t i = 0; i < sizeof c->rest; i++)
        right = right && c->rest[i] == (unsigned char)i;
    if (!right)
        atomic_fetch_add(&c->b->wrong, 1);
    return born(c->b);
}

static int born_of_pointer(void *arg)
{
    return born(*(struct births **)arg);
}

static void took(struct births *b, weft_task t)
{
    if (t < 0 && b->refused == 0)
        b->refused = (int)t;
    b->accepted += t > 0;
    b->all[b->n++] = t;
}

/* All forms, some joined, some left to the scope. */
static int spawn_all_forms(void *arg)
{
    struct births *b = arg;
    struct copied c = { .b = b };
    weft_scope s;
    for (size_t i = 0; i < sizeof c.rest; i++)
        c.rest[i] = (unsigned char)i;
    weft_scope_begin(&s, weft_sec(10));
    for (int i = 0; i < 4; i++) {
        b->result[i] = 1;
        took(b, weft_spawn(&s, born, b));
        took(b, weft_spawn(&s, born_waiting, b));
        took(b, weft_spawn_copy(&s, born_of_pointer, &b, sizeof b));
        took(b, weft_spawn_copy(&s, born_of_copy, &c, sizeof c));
        took(b, weft_spawn_with(&s, born_of_copy, &c,
                        &(weft_spawn_options){ .name = "large", .copy_bytes = sizeof c, .result = &b->result[i] }));
        took(b, weft_spawn_with(&s, born_waiting, b, &(weft_spawn_options){ .pin = 1 + i % 2, .keep_fp = i % 2 }));
        took(b, weft_spawn_with(&s, born, b, &(weft_spawn_options){ .name = "small", .stack_bytes = 16384 }));
    }
    int rc = 0;
    for (int i = 0; i < b->n; i += 3) {
        int joined = weft_task_join(b->all[i]);
        if (b->all[i] < 0)
            promise(joined == (int)b->all[i], "a join of a failed spawn says something else");
        else if (rc == 0)
            rc = joined;
    }
    int end = weft_scope_end(&s, 0);
    promise(b->refused == 0 || end == b->refused || end == -ENOMEM, "a refused spawn has not failed its scope");
    promise(atomic_load(&b->wrong) == 0, "a copy has other bytes");
    promise(atomic_load(&b->called) == b->accepted || (end < 0 && atomic_load(&b->called) < b->accepted),
            "a spawned task was not called");
    return first_of(end, rc);
}

static int spawns(void)
{
    struct births b = { .n = 0 };
    return weft_runtime_run(rt, spawn_all_forms, &b);
}

/* More than a deque holds at first. */
static int spawn_many(void *arg)
{
    struct births *b = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 700; i++)
        b->accepted += weft_spawn(&s, born, b) > 0;
    int rc = weft_scope_end(&s, 0);
    promise(atomic_load(&b->called) == b->accepted || rc < 0, "a spawned task was not called");
    return rc;
}

static int many(void)
{
    struct births b = { .n = 0 };
    return weft_run(spawn_many, &b, QUIETLY_ON(2));
}

/* ---- stacks of all classes, in a runtime that has none yet */

static int use_stack(void *arg)
{
    volatile char there[8000];
    memset((char *)(uintptr_t)there, 1, sizeof there);
    born(arg);
    return first_of(weft_yield(), there[7999] == 1 ? 0 : -EIO);
}

static int spawn_all_classes(void *arg)
{
    struct births *b = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(10));
    for (size_t bytes = 16384; bytes <= 8u << 20; bytes *= 2)
        took(b, weft_spawn_with(&s, use_stack, b, &(weft_spawn_options){ .stack_bytes = bytes, .pin = 1 }));
    int rc = weft_scope_end(&s, 0);
    promise(atomic_load(&b->called) == b->accepted || rc == -ENOMEM, "a task without a stack is not told of");
    return rc;
}

static int classes(void)
{
    struct births b = { .n = 0 };
    return weft_run(spawn_all_classes, &b, QUIETLY_ON(2));
}

/* ---- scopes, deadlines, cancel, details */

static int sleep_for_ever(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    int rc = weft_sleep_until(WEFT_NEVER);
    promise(rc < 0, "a sleep without end has ended");
    const char *why = rc == -ECANCELED ? weft_cancel_reason() : "told";
    promise(why != NULL, "it was told to leave and not why");
    return rc;
}

static int fail_in_words(void *arg)
{
    (void)arg;
    return weft_fail(-EPROTO, "header %d is too long", 7);
}

static int with_options(void *arg)
{
    weft_failure all[4];
    weft_scope s;
    atomic_int asleep = 0;
    (void)arg;
    memset(all, 0, sizeof all);
    weft_scope_begin_with(&s, weft_sec(10), &(weft_scope_options){ .name = "named", .failures = all, .failures_max = 4 });
    weft_spawn(&s, sleep_for_ever, &asleep);
    weft_spawn(&s, fail_in_words, NULL);
    int rc = weft_scope_end(&s, 0);
    promise(rc < 0, "a failure is lost");
    promise(weft_scope_failed(&s) > 0, "a failure is not counted");
    if (rc != -EPROTO)
        return rc;
    const char *text = weft_error_text(rc);
    promise(strcmp(text, "header 7 is too long") == 0 || strcmp(text, weft_strerror(rc)) == 0, "another's words");
    return 0;
}

static int options(void)
{
    return weft_runtime_run(rt, with_options, NULL);
}

/* A deadline that is moved to earlier while children sleep under it: it ends them, or the scope has failed. */
static int move_deadline(void *arg)
{
    atomic_int asleep = 0;
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 3; i++)
        weft_spawn(&s, sleep_for_ever, &asleep);
    int rc = 0;
    while (rc == 0 && atomic_load(&asleep) < 3)
        rc = weft_yield();
    int64_t at = weft_after(weft_us(300));
    weft_scope_set_deadline(&s, at);
    int end = weft_scope_end(&s, 0);
    promise(weft_now() < at + weft_sec(5), "a moved deadline was lost");
    promise(end != 0, "its end hides that it was told to leave");
    return end == -ETIMEDOUT ? first_of(rc == -ECANCELED ? 0 : rc, 0) : end;
}

static int deadlines(void)
{
    return weft_run(move_deadline, NULL, QUIETLY_ON(1)); /* whose heap has no memory yet */
}

/* Deep: more scopes than an attach keeps in mind, each with a deadline. */
static int nest(void *arg)
{
    int depth = *(int *)arg;
    weft_scope s;
    if (depth == 0)
        return weft_sleep(weft_us(10));
    int deeper = depth - 1;
    if (depth % 5 == 0)
        weft_scope_begin_shield(&s, weft_sec(10 + depth));
    else
        weft_scope_begin(&s, weft_sec(10 + depth));
    if (depth % 10 == 0)
        weft_spawn(&s, nest, &deeper);
    return weft_scope_end(&s, depth % 10 == 0 ? 0 : nest(&deeper));
}

static int nested(void)
{
    int depth = 45;
    return weft_runtime_run(rt, nest, &depth);
}

static int cancel_both_ways(void *arg)
{
    atomic_int asleep = 0;
    weft_scope outer, inner;
    (void)arg;
    weft_scope_begin(&outer, weft_sec(10));
    weft_task t = weft_spawn(&outer, sleep_for_ever, &asleep);
    int rc = first_of((int)(t < 0 ? t : 0), weft_yield());
    if (t > 0 && weft_task_alive(t))
        promise(weft_task_cancel(t, "the reason") >= -ESRCH, "a cancel failed");
    rc = first_of(rc, t > 0 ? weft_task_join(t) : 0);
    weft_scope_begin(&inner, WEFT_NEVER);
    for (int i = 0; i < 3; i++)
        weft_spawn(&inner, sleep_for_ever, &asleep);
    rc = first_of(rc, weft_yield());
    weft_scope_cancel(&inner, "another reason");
    int end = weft_scope_end(&inner, 0);
    return first_of(weft_scope_end(&outer, first_of(end, rc)), 0);
}

static int cancels(void)
{
    int rc = weft_runtime_run(rt, cancel_both_ways, NULL);
    return rc == -ECANCELED ? 0 : rc; /* a task cancelled by its id returned that, and so did its scope */
}

static int nap(void *arg)
{
    return weft_sleep(weft_us(20 + (int64_t)(uintptr_t)arg));
}

/* More timers than a heap holds at first, on one worker. */
static int sleep_together(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, weft_sec(10));
    for (uintptr_t i = 0; i < 150; i++)
        weft_spawn_with(&s, nap, (void *)i, &(weft_spawn_options){ .pin = 1 });
    return weft_scope_end(&s, 0);
}

static int sleeps(void)
{
    return weft_run(sleep_together, NULL, QUIETLY_ON(1));
}

/* ---- descriptors */

struct line {
    int fds[2], listener, rc;
    const char *where;
};

static int echo_some(void *arg)
{
    struct line *l = arg;
    char b[16];
    int rc = weft_read_all(l->fds[1], b, sizeof b);
    if (rc > 0)
        rc = weft_write_all(l->fds[1], b, sizeof b);
    return rc < 0 ? rc : 0;
}

static int talk_over(struct line *l)
{
    char out[16] = "some words here", in[16] = { 0 };
    weft_scope s;
    weft_scope_begin(&s, weft_sec(10));
    weft_spawn(&s, echo_some, l);
    int rc = weft_yield();
    if (rc == 0)
        rc = weft_write_all(l->fds[0], out, sizeof out);
    if (rc == 0)
        rc = weft_read_all(l->fds[0], in, sizeof in);
    if (rc == sizeof in)
        promise(memcmp(in, out, sizeof in) == 0, "other bytes came back");
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

static int over_a_pair(void *arg)
{
    struct line *l = arg;
    int rc = weft_pair(l->fds);
    if (rc < 0)
        return rc;
    rc = talk_over(l);
    weft_close(l->fds[0]);
    weft_close(l->fds[1]);
    return rc;
}

static int pairs(void)
{
    struct line l = { .rc = 0 };
    return weft_runtime_run(rt, over_a_pair, &l);
}

static int connect_and_send(void *arg)
{
    struct line *l = arg;
    int fd = weft_connect(l->where, NULL);
    if (fd < 0)
        return fd;
    int rc = weft_write_all(fd, "x", 1);
    weft_close(fd);
    return rc;
}

static int over_a_listener(void *arg)
{
    struct line *l = arg;
    char text[80], b;
    weft_addr a;
    l->listener = weft_listen(l->where, NULL);
    if (l->listener < 0)
        return l->listener;
    int rc = weft_addr_local(l->listener, &a);
    if (rc == 0)
        promise(weft_addr_text(&a, text, sizeof text) > 0, "an address without a text");
    l->where = text;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(10));
    weft_spawn(&s, connect_and_send, l);
    int fd = weft_accept(l->listener);
    rc = fd < 0 ? fd : weft_read(fd, &b, 1);
    if (fd >= 0)
        weft_close(fd);
    int end = weft_scope_end(&s, rc < 0 ? rc : 0);
    promise(end != 0 || rc == 1, "the connection ended early, and nothing is told");
    weft_close(l->listener);
    return end;
}

static int tcp(void)
{
    struct line l = { .where = "127.0.0.1:0" };
    return weft_runtime_run(rt, over_a_listener, &l);
}

static int local(void)
{
    char where[64];
    snprintf(where, sizeof where, "unix:@weft-fault-%d", (int)getpid());
    struct line l = { .where = where };
    return weft_runtime_run(rt, over_a_listener, &l);
}

static int post(void *arg)
{
    uint64_t one = 1;
    int rc = weft_write(((struct line *)arg)->fds[0], &one, sizeof one);
    return rc < 0 ? rc : 0;
}

/* A foreign descriptor: waited for, forgotten, waited for again. */
static int wait_for_foreign(void *arg)
{
    struct line *l = arg;
    uint64_t n;
    weft_scope s;
    if ((l->fds[0] = eventfd(0, EFD_CLOEXEC)) < 0)
        return -EMFILE;
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        weft_scope_begin(&s, weft_sec(10));
        weft_task t = weft_spawn(&s, post, l);
        rc = t < 0 ? (int)t : weft_wait_fd(l->fds[0], WEFT_READABLE);
        promise(rc < 0 || rc == WEFT_READABLE, "another event");
        rc = rc < 0 ? rc : weft_read(l->fds[0], &n, sizeof n);
        rc = weft_scope_end(&s, rc < 0 ? rc : 0);
        weft_fd_forget(l->fds[0]);
    }
    weft_close(l->fds[0]);
    return rc;
}

static int foreign(void)
{
    struct line l = { .rc = 0 };
    return weft_run(wait_for_foreign, &l, QUIETLY_ON(2)); /* what the kernel does not read without waiting goes to the pool */
}

/* ---- the pool */

struct offload {
    atomic_int called, dropped, taken;
};

static int pool_work(void *arg)
{
    atomic_fetch_add(&(*(struct offload **)arg)->called, 1);
    return 5;
}

static int pool_refuse(void *arg)
{
    atomic_fetch_add(&(*(struct offload **)arg)->called, 1);
    return -ECANCELED;
}

static void pool_drop(void *arg)
{
    atomic_fetch_add(&(*(struct offload **)arg)->dropped, 1);
}

static int offload_one(void *arg)
{
    struct offload *o = arg;
    struct {
        struct offload *o;
        char rest[2000];
    } c = { .o = o };
    int rc = weft_blocking(pool_work, &o);
    promise(rc == 5 || rc < 0, "another result");
    int copy = weft_blocking_copy(pool_work, &c, sizeof c, pool_drop);
    promise(copy == 5 || copy < 0, "another result of a copy");
    int refused = weft_blocking_copy(pool_refuse, &c, sizeof c, pool_drop);
    promise(refused < 0, "another result of a copy");
    atomic_fetch_add(&o->taken, (copy == -ECANCELED) + (refused == -ECANCELED));
    return first_of(first_of(rc, copy), refused == -ECANCELED ? 0 : refused);
}

static int offload_some(void *arg)
{
    struct offload *o = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(10));
    for (int i = 0; i < 3; i++)
        weft_spawn(&s, offload_one, o);
    return weft_scope_end(&s, 0);
}

static int pool(void)
{
    struct offload o = { .called = 0 };
    int rc = weft_run(offload_some, &o, QUIETLY_ON(2));
    promise(atomic_load(&o.dropped) == atomic_load(&o.taken), "a copy was not dropped exactly once");
    return rc;
}

/* ---- runtimes, and plain threads */

static int return_0(void *arg)
{
    (void)arg;
    return 0;
}

static int runtimes(void)
{
    weft_runtime *own = (weft_runtime *)(void *)&own, *untouched = own;
    int rc = weft_runtime_create(&own, QUIETLY_ON(3));
    if (rc < 0) {
        promise(own == untouched, "a failed create has touched *out");
        return rc;
    }
    rc = first_of(weft_runtime_run(own, return_0, NULL), weft_runtime_run(own, return_0, NULL));
    weft_runtime_destroy(&own);
    promise(own == NULL, "a destroy has left its pointer");
    return rc;
}

/* All that a thread can call; a new one for each run, so that it has no frame yet. */
static void *thread_calls(void *arg)
{
    struct line *l = arg;
    struct births b = { .n = 0 };
    char c;
    weft_scope s;
    int rc = weft_pair(l->fds);
    weft_scope_begin_with(&s, weft_sec(10), &(weft_scope_options){ .on = rt, .name = "thread" });
    took(&b, weft_spawn(&s, born_waiting, &b));
    took(&b, weft_spawn_copy(&s, born_of_pointer, &(struct births *){ &b }, sizeof(void *)));
    rc = first_of(rc, b.all[0] > 0 ? weft_task_join(b.all[0]) : 0);
    rc = first_of(rc, weft_scope_wait(&s));
    rc = first_of(rc, weft_sleep(weft_us(50)));
    rc = first_of(rc, weft_yield());
    if (rc == 0) {
        rc = first_of(rc, weft_write_all(l->fds[0], "x", 1));
        rc = first_of(rc, weft_wait_fd(l->fds[1], WEFT_READABLE));
        rc = first_of(rc, weft_read(l->fds[1], &c, 1));
        rc = first_of(rc, weft_blocking(return_0, NULL));
    }
    l->rc = weft_scope_end(&s, rc);
    promise(b.refused == 0 || l->rc < 0, "a refused spawn has not failed its scope");
    promise(atomic_load(&b.called) == b.accepted || l->rc < 0, "a spawned task was not called");
    if (l->fds[0] >= 0) {
        weft_close(l->fds[0]);
        weft_close(l->fds[1]);
    }
    return NULL;
}

static int threads(void)
{
    struct line l = { .fds = { -1, -1 } };
    pthread_join(thread_start(thread_calls, &l), NULL);
    return l.rc;
}

/* ---- a whole program */

/* Half of it is spawned with copies and names, some of it sleeps, some reads. Each task counts itself in. */
struct work {
    atomic_int calls;
    int spawned, refused;
    int pair[2];
};

static int work_a_little(void *arg)
{
    struct work *w = arg;
    atomic_fetch_add(&w->calls, 1);
    return weft_sleep(weft_us(50));
}

static int work_on_copy(void *arg)
{
    struct work *w = *(struct work **)arg;
    return work_a_little(w);
}

static int talk(void *arg)
{
    struct work *w = arg;
    char b;
    atomic_fetch_add(&w->calls, 1);
    weft_scope s;
    weft_scope_begin(&s, weft_sec(5));
    return weft_scope_end(&s, weft_read(w->pair[0], &b, 1));
}

static int whole_program(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    char big[256] = { 0 };
    memcpy(big, &w, sizeof(struct work *));
    int rc = weft_pair(w->pair);
    if (rc < 0)
        return rc;
    weft_scope_begin(&s, weft_sec(10));
    weft_task t[30];
    t[0] = weft_spawn(&s, talk, w);
    for (int i = 1; i < COUNT(t); i++)
        t[i] = i % 3 == 0  ? weft_spawn_copy(&s, work_on_copy, big, sizeof big)
                : i % 3 == 1 ? weft_spawn(&s, work_a_little, w)
                             : weft_spawn_with(&s, work_a_little, w,
                                       &(weft_spawn_options){ .name = "named", .stack_bytes = 32768 });
    for (int i = 0; i < COUNT(t); i++) {
        w->spawned += t[i] > 0;
        w->refused += t[i] == -ENOMEM;
    }
    rc = weft_sleep(weft_us(300));
    int wrote = weft_write(w->pair[1], "x", 1);
    if (rc == 0 && wrote < 0)
        rc = wrote;
    rc = weft_scope_end(&s, rc < 0 ? rc : 0);
    weft_close(w->pair[0]);
    weft_close(w->pair[1]);
    return rc;
}

static int program(void)
{
    struct work w = { .spawned = 0 };
    int rc = weft_run(whole_program, &w, QUIETLY_ON(2));
    /* A spawned task was called, unless there was no stack for it, which is then told. */
    promise(atomic_load(&w.calls) == w.spawned || (rc < 0 && atomic_load(&w.calls) < w.spawned),
            "a spawned task was not called");
    return rc;
}

static const struct {
    const char *name;
    int (*one)(void);
} scenarios[] = { { "runtimes", runtimes }, { "spawns", spawns }, { "many spawns", many }, { "stack classes", classes },
    { "scope options", options }, { "deadlines", deadlines }, { "nested scopes", nested }, { "cancels", cancels },
    { "sleeps", sleeps }, { "pair", pairs }, { "tcp", tcp }, { "unix socket", local }, { "foreign descriptor", foreign },
    { "offload", pool }, { "plain thread", threads },
    { "program", program } };

/* Where a run takes long, each scenario is run with every n-th fault, others for each scenario and each seed. */
static bool every(int n, int i)
{
    return ((uint64_t)i + chaos_seed()) % (uint64_t)n == 0;
}

START_TEST(a_call_fails_clearly_leaves_nothing_and_works_the_next_time)
{
    ck_assert_int_eq(weft_runtime_create(&rt, QUIETLY_ON(2)), 0);
    for (int i = 0; i < COUNT(faults); i++)
        if (every(TSAN ? 6 : chaos() ? 3 : 1, i + _i))
            fail_each(&faults[i], scenarios[_i].name, scenarios[_i].one);
    weft_runtime_destroy(&rt);
}
END_TEST

/* The same stacks where guards are mappings, as before Linux 6.13. */
static int classes_by_map(void)
{
    weft__fault_set(WEFT__FAULT_GUARD, 1, LONG_MAX, -EINVAL);
    int rc = classes();
    weft__fault_set(WEFT__FAULT_GUARD, 1, 0, 0);
    return rc;
}

START_TEST(a_guard_by_mprotect_fails_clearly_too)
{
    for (int i = 0; i < COUNT(faults); i++)
        if (faults[i].kind == WEFT__FAULT_MPROTECT)
            fail_each(&faults[i], "stack classes by mprotect", classes_by_map);
    weft__fault_clear();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fault calls");
    TCase *tc = add_case(s, "each call");
    tally_begin();
    tcase_add_loop_test(tc, a_call_fails_clearly_leaves_nothing_and_works_the_next_time, 0, COUNT(scenarios));
    tcase_add_test(tc, a_guard_by_mprotect_fails_clearly_too);
    int rc = run_suite(s);
    tally_print();
    return rc;
}
