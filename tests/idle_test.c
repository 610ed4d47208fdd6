/* idle_test.c - an idle runtime uses nothing: no thread of it wakes up, none uses the processor.
 *
 * Three runtimes, of 1, 2 and 8 workers, are made to do something and left alone, side by side. Then the kernel's own
 * counts of each thread are read twice, some seconds apart: two, ten if WEFT_TEST_LONG is set, half
 * a one under chaos. Before that all has to be
 * still for half a second, since a trim begins after a tenth (engine/trim.c). */
#include "support.h"

enum { RUNTIMES = 3, THREADS = 512, SETTLED = 25 };

static const int workers[RUNTIMES] = { 1, 2, 8 };

/* -- what the kernel counts -- */

struct usage {
    int id;
    long switches, ticks;
};

struct census {
    int n;
    struct usage thread[THREADS];
};

static long switches_of(int id)
{
    char path[64], line[256];
    long n = -1;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", id);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

static long ticks_of(int id)
{
    char path[64], line[1024];
    unsigned long user = 0, kernel = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
    FILE *f = fopen(path, "r");
    char *end = f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    if (f)
        fclose(f);
    if (!end || sscanf(end, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2)
        return -1;
    return (long)(user + kernel);
}

static bool is_in(const struct census *c, int id)
{
    for (int i = 0; i < c->n; i++)
        if (c->thread[i].id == id)
            return true;
    return false;
}

/* All threads but those in `without`, and the caller. */
static void take(struct census *c, const struct census *without)
{
    DIR *d = opendir("/proc/self/task");
    int me = thread_id();
    c->n = 0;
    for (struct dirent *e; d && (e = readdir(d)) && c->n < THREADS;) {
        int id = atoi(e->d_name);
        if (id > 0 && id != me && !(without && is_in(without, id)))
            c->thread[c->n++] = (struct usage){ id, switches_of(id), ticks_of(id) };
    }
    if (d)
        closedir(d);
}

static bool same(const struct census *a, const struct census *b, char *why, size_t bytes)
{
    why[0] = 0;
    if (a->n != b->n)
        snprintf(why, bytes, "%d threads, then %d", a->n, b->n);
    for (int i = 0; i < a->n && i < b->n && !why[0]; i++) {
        const struct usage *p = &a->thread[i], *q = &b->thread[i];
        if (p->id != q->id || p->switches != q->switches || p->ticks != q->ticks)
            snprintf(why, bytes, "thread %d of %d: %ld switches and %ld ticks, then %ld and %ld", i, a->n,
                    p->switches, p->ticks, q->switches, q->ticks);
    }
    return !why[0];
}

static int64_t watch_for(void)
{
    return getenv("WEFT_TEST_LONG") ? weft_sec(10) : weft_ms(fewer(500, 2000));
}

static void pause_for(int64_t ns)
{
    struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        continue;
}

/* -- the runtimes -- */

static struct idle {
    weft_runtime *rt[RUNTIMES];
    struct census before; /* threads that are no runtime's */
} idle;

static void begin(void)
{
    struct idle *d = &idle;
    memset(d, 0, sizeof *d);
    threads_before(); /* a sanitizer's own thread, which wakes ten times a second, is no runtime's either */
    take(&d->before, NULL);
    for (int i = 0; i < RUNTIMES; i++) { /* one of them tells of long turns, which costs an idle one nothing */
        weft_options o = { .workers = workers[i], .report = say_nothing, .long_turn_ns = i == 1 ? weft_ms(1) : 0 };
        ck_assert_int_eq(weft_runtime_create(&d->rt[i], &o), 0);
    }
}

static void end(void)
{
    for (int i = 0; i < RUNTIMES; i++)
        weft_runtime_destroy(&idle.rt[i]);
}

static void parked_text(char *out, size_t bytes, uint64_t (*was)[8])
{
    size_t n = 0;
    for (int r = 0; r < RUNTIMES; r++) {
        weft_worker_stats st[8];
        int k = weft_stats(idle.rt[r], st, 8);
        for (int i = 0; i < k && i < 8 && n < bytes; i++) {
            n += (size_t)snprintf(out + n, bytes - n, " %d/%d:%s+%llu", i + 1, k, st[i].asleep ? "" : "awake",
                    (unsigned long long)(st[i].parked - was[r][i]));
            was[r][i] = st[i].parked;
        }
    }
}

/* Waits until nothing moves, and then looks whether nothing does: in `a` and `b`, and `why`, what is different. */
static bool idles(struct census *a, struct census *b, char *why, size_t bytes)
{
    int still = 0;
    int64_t until = weft_after(LIMIT);
    take(a, &idle.before);
    while (still < SETTLED && weft_now() < until) {
        pause_for(weft_ms(20));
        take(b, &idle.before);
        still = same(a, b, why, bytes) ? still + 1 : 0;
        *a = *b;
    }
    ck_assert_msg(still == SETTLED, "it does not settle: %s", why);
    pause_for(watch_for());
    take(b, &idle.before);
    return same(a, b, why, bytes);
}

/* A thread that the machine has stopped just before its last steps counts as still, and makes them later: once. So what
 * is seen to move has to do so a second time. */
static void nothing_moves(void)
{
    static struct census a, b;
    static uint64_t parked[RUNTIMES][8];
    char first[200] = "", why[200] = "", text[600] = "";
    if (idles(&a, &b, first, sizeof first))
        return;
    parked_text(text, sizeof text, parked);
    bool idle_now = idles(&a, &b, why, sizeof why);
    parked_text(text, sizeof text, parked);
    ck_assert_msg(idle_now, "%s, and again: %s; times parked since:%s", first, why, text);
}

static void run_on_all(weft_fn *fn)
{
    for (int i = 0; i < RUNTIMES; i++)
        ck_assert_int_eq(weft_runtime_run(idle.rt[i], fn, NULL), 0);
}

enum { CONNECTIONS = 10000 / RUNTIMES + 1 }; /* pairs for each runtime, at most */

/* -- mains that stay while the runtimes are watched -- */

struct holder {
    weft_runtime *rt;
    weft_fn *fn;
    pthread_t thread;
    int rc, pair[2]; /* a byte written to [1] ends it */
    int fds[2 * CONNECTIONS], n;
    atomic_int there;
};

static struct holder holder[RUNTIMES];

static void *hold(void *arg)
{
    struct holder *h = arg;
    h->rc = weft_runtime_run(h->rt, h->fn, h);
    return NULL;
}

static void hold_all(weft_fn *fn, int children)
{
    for (int i = 0; i < RUNTIMES; i++) {
        struct holder *h = &holder[i];
        h->rt = idle.rt[i];
        h->fn = fn;
        atomic_store(&h->there, 0);
        ck_assert_int_eq(weft_pair(h->pair), 0);
        h->thread = thread_start(hold, h);
    }
    for (int i = 0; i < RUNTIMES; i++)
        ck_assert(wait_for(&holder[i].there, children));
}

static void let_all_go(void)
{
    for (int i = 0; i < RUNTIMES; i++) {
        struct holder *h = &holder[i];
        ck_assert_int_eq(sys_write(h->pair[1], "x", 1), 1);
        pthread_join(h->thread, NULL);
        weft_close(h->pair[0]);
        weft_close(h->pair[1]);
        ck_assert_int_eq(h->rc, 0);
    }
}

static int until_told(struct holder *h, weft_scope *s)
{
    char b;
    int rc = weft_read(h->pair[0], &b, 1);
    weft_scope_cancel(s, NULL);
    return weft_scope_end(s, rc < 0 ? rc : 0);
}

/* -- after what -- */

START_TEST(never_any_work)
{
    begin();
    nothing_moves();
    end();
}
END_TEST

static int read_one(void *arg)
{
    const int *fd = *(int **)arg;
    char b;
    return weft_read(*fd, &b, 1);
}

static int hold_connections(void *arg)
{
    struct holder *h = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < h->n; i += 2) {
        int *fd = &h->fds[i];
        weft_spawn_copy(&s, read_one, &fd, sizeof fd);
    }
    /* All of them wait once all have been started: the last to come is this task itself. */
    int rc = 0;
    weft_worker_stats st[8];
    for (bool busy = true; busy && rc == 0;) {
        rc = weft_sleep(weft_ms(5));
        busy = false;
        int n = weft_stats(NULL, st, 8);
        for (int i = 0; i < n && i < 8; i++)
            busy |= st[i].ready > 0;
    }
    atomic_store(&h->there, 1);
    return until_told(h, &s);
}

START_TEST(idle_connections)
{
    struct rlimit lim;
    int n = getenv("WEFT_TEST_LONG") ? CONNECTIONS : BUILT(1000, 1000, 200);
    rlim_t needed = (rlim_t)(2 * n * RUNTIMES + 2000);
    getrlimit(RLIMIT_NOFILE, &lim);
    if (lim.rlim_cur < needed && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max < needed ? lim.rlim_max : needed;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    if (lim.rlim_cur < needed)
        n = ((int)lim.rlim_cur - 200) / 2 / RUNTIMES;
    begin();
    for (int i = 0; i < RUNTIMES; i++)
        for (holder[i].n = 0; holder[i].n < 2 * n; holder[i].n += 2)
            ck_assert_int_eq(weft_pair(holder[i].fds + holder[i].n), 0);
    hold_all(hold_connections, 1);
    nothing_moves();
    let_all_go();
    for (int i = 0; i < RUNTIMES; i++)
        for (int k = 0; k < holder[i].n; k++)
            weft_close(holder[i].fds[k]);
    nothing_moves();
    end();
}
END_TEST

static int yield_twice(void *arg)
{
    (void)arg;
    int rc = weft_yield();
    return rc < 0 ? rc : weft_yield();
}

static int burst(void *arg)
{
    weft_scope s;
    int n = TSAN ? 1000 : SCALED(100000, 20000, 3000);
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++)
        weft_spawn(&s, yield_twice, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(a_burst_of_tasks)
{
    begin();
    run_on_all(burst);
    nothing_moves();
    end();
}
END_TEST

START_TEST(a_foreign_spawn)
{
    begin();
    for (int k = 0; k < 20; k++)
        for (int i = 0; i < RUNTIMES; i++) {
            weft_scope s;
            weft_scope_begin_with(&s, weft_sec(20), &(weft_scope_options){ .on = idle.rt[i] });
            weft_spawn(&s, yield_twice, NULL);
            ck_assert_int_eq(weft_scope_end(&s, 0), 0);
        }
    nothing_moves();
    end();
}
END_TEST

static int sleep_long(void *arg)
{
    struct holder *h = arg;
    if (h)
        atomic_fetch_add(&h->there, 1);
    return weft_sleep(weft_sec(3600));
}

static int cancel_far_timers(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, weft_sec(7200));
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, sleep_long, NULL);
    int rc = weft_sleep(weft_ms(5));
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, rc);
}

START_TEST(cancelled_far_timers)
{
    begin();
    run_on_all(cancel_far_timers);
    nothing_moves();
    end();
}
END_TEST

static int hold_far_timers(void *arg)
{
    struct holder *h = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_sec(7200));
    for (int i = 0; i < 10; i++)
        weft_spawn(&s, sleep_long, h);
    return until_told(h, &s);
}

START_TEST(far_timers_that_are_armed)
{
    begin();
    hold_all(hold_far_timers, 10);
    nothing_moves();
    let_all_go();
    end();
}
END_TEST

static int echo(void *arg)
{
    int fd = *(int *)arg;
    char b[64];
    int n;
    while ((n = weft_read(fd, b, sizeof b)) > 0)
        if ((n = weft_write_all(fd, b, (size_t)n)) < 0)
            break;
    return n;
}

static int traffic(void *arg)
{
    enum { PAIRS = 10 };
    int fds[PAIRS][2], rc = 0;
    char b[64] = "ping";
    weft_scope s;
    (void)arg;
    for (int i = 0; i < PAIRS; i++)
        if ((rc = weft_pair(fds[i])) < 0)
            return rc;
    weft_scope_begin(&s, weft_sec(20));
    for (int i = 0; i < PAIRS; i++)
        weft_spawn(&s, echo, &fds[i][0]);
    for (int round = 0; round < 300 && rc >= 0; round++) {
        for (int i = 0; i < PAIRS && rc >= 0; i++)
            rc = weft_write_all(fds[i][1], b, 4);
        for (int i = 0; i < PAIRS && rc >= 0; i++)
            rc = weft_read_all(fds[i][1], b, 4);
    }
    for (int i = 0; i < PAIRS; i++)
        weft_close(fds[i][1]);
    rc = weft_scope_end(&s, rc < 0 ? rc : 0);
    for (int i = 0; i < PAIRS; i++)
        weft_close(fds[i][0]);
    return rc;
}

START_TEST(traffic_on_sockets)
{
    begin();
    run_on_all(traffic);
    nothing_moves();
    end();
}
END_TEST

static int do_nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int block(void *arg)
{
    return weft_blocking(do_nothing, arg);
}

static int block_often(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 200; i++)
        weft_spawn(&s, block, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(calls_on_the_pool)
{
    begin();
    run_on_all(block_often);
    nothing_moves();
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("idle");
    TCase *tc = add_case(s, "uses nothing after");
    tcase_add_test(tc, never_any_work);
    tcase_add_test(tc, idle_connections);
    tcase_add_test(tc, a_burst_of_tasks);
    tcase_add_test(tc, a_foreign_spawn);
    tcase_add_test(tc, cancelled_far_timers);
    tcase_add_test(tc, far_timers_that_are_armed);
    tcase_add_test(tc, traffic_on_sockets);
    tcase_add_test(tc, calls_on_the_pool);
    return run_suite(s);
}
