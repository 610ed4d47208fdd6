/* limits_test.c - what the system itself does: signals that interrupt, and limits on descriptors, threads and memory.
 * The limits are set in processes of their own. */
#include "support.h"

#include <grp.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- a storm of signals on one plain thread */

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { STORM_US = 100 };

static atomic_long interrupted;

static void on_signal(int signo)
{
    (void)signo;
    atomic_fetch_add(&interrupted, 1);
}

struct storm {
    timer_t timer;
    long before;
};

/* Every 100 us, at the calling thread. */
static void storm_begin(struct storm *s, int flags)
{
    struct sigaction a = { .sa_handler = on_signal, .sa_flags = flags };
    struct sigevent e = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
    e.sigev_notify_thread_id = thread_id();
    sigemptyset(&a.sa_mask);
    sigaction(SIGUSR1, &a, NULL);
    if (timer_create(CLOCK_MONOTONIC, &e, &s->timer) < 0)
        abort();
    struct itimerspec t = { .it_interval.tv_nsec = 1000 * STORM_US, .it_value.tv_nsec = 1000 * STORM_US };
    timer_settime(s->timer, 0, &t, NULL);
    s->before = atomic_load(&interrupted);
}

/* True if there was one. */
static bool storm_end(struct storm *s)
{
    for (int64_t end = weft_after(LIMIT); atomic_load(&interrupted) == s->before && weft_now() < end;)
        sched_yield();
    timer_delete(s->timer);
    return atomic_load(&interrupted) > s->before;
}

/* What a thread waits for, here called by a task some milliseconds later. */
struct calls {
    weft_runtime *rt;
    int fds[2], listener;
    char where[64];
    const char *wrong;
    int rc;
};

enum { LATER_MS = 5 };

static int later(void)
{
    return weft_sleep(weft_ms(LATER_MS));
}

static int write_later(void *arg)
{
    int rc = later();
    return rc < 0 ? rc : weft_write_all(((struct calls *)arg)->fds[1], "x", 1);
}

static int drain_later(void *arg)
{
    static char into[1 << 16];
    struct calls *c = arg;
    int rc = later();
    while (rc >= 0 && (rc = weft_read(c->fds[1], into, sizeof into)) > 0)
        continue;
    return rc;
}

static int connect_later(void *arg)
{
    struct calls *c = arg;
    int rc = later(), fd = rc < 0 ? rc : weft_connect(c->where, NULL);
    weft_close_auto(&fd);
    return fd < 0 ? fd : 0;
}

static int return_7_later(void *arg)
{
    (void)arg;
    int rc = later();
    return rc < 0 ? rc : 7;
}

static int return_0_later(void *arg)
{
    return return_7_later(arg) == 7 ? 0 : -EIO;
}

static void check(struct calls *c, bool right, const char *what, int rc)
{
    if (right || c->wrong)
        return;
    c->wrong = what;
    c->rc = rc;
}

#define CHECK(c, call, right)                                                                      \
    do {                                                                                           \
        int rc = (call);                                                                           \
        check(c, right, #call, rc);                                                                \
    } while (0)

static void waits_of_time(struct calls *c)
{
    weft_scope s;
    int64_t start = weft_now();
    CHECK(c, weft_sleep(weft_ms(20)), rc == 0 && weft_now() >= start + weft_ms(20));
    start = weft_now();
    weft_scope_begin(&s, weft_ms(20));
    CHECK(c, weft_sleep_until(WEFT_NEVER), rc == -ECANCELED);
    CHECK(c, weft_scope_end(&s, -ECANCELED), rc == -ETIMEDOUT && weft_now() >= start + weft_ms(20));
    CHECK(c, weft_yield(), rc == 0);
}

static void waits_for_tasks(struct calls *c)
{
    weft_scope s;
    weft_runtime *own;
    weft_scope_begin_with(&s, weft_sec(20), &(weft_scope_options){ .on = c->rt });
    weft_task t = weft_spawn(&s, return_7_later, NULL);
    CHECK(c, weft_task_join(t), rc == 0);
    weft_spawn(&s, return_0_later, NULL);
    CHECK(c, weft_scope_wait(&s), rc == 0);
    weft_spawn(&s, return_0_later, NULL);
    CHECK(c, weft_scope_end(&s, 0), rc == 0);
    CHECK(c, weft_runtime_run(c->rt, return_7_later, NULL), rc == 7);
    CHECK(c, weft_run(return_7_later, NULL, ON(3)), rc == 7);
    CHECK(c, weft_runtime_create(&own, ON(2)), rc == 0);
    weft_runtime_destroy(&own);
}

static void waits_for_descriptors(struct calls *c)
{
    static char much[4 << 20];
    char b;
    weft_scope s;
    weft_scope_begin_with(&s, weft_sec(20), &(weft_scope_options){ .on = c->rt });
    CHECK(c, weft_pair(c->fds), rc == 0);
    weft_spawn(&s, write_later, c);
    CHECK(c, weft_read(c->fds[0], &b, 1), rc == 1);
    weft_spawn(&s, write_later, c);
    CHECK(c, weft_wait_fd(c->fds[0], WEFT_READABLE), rc == WEFT_READABLE);
    CHECK(c, weft_read(c->fds[0], &b, 1), rc == 1);
    weft_spawn(&s, drain_later, c);
    CHECK(c, weft_write_all(c->fds[0], much, sizeof much), rc == 0);
    CHECK(c, weft_shutdown(c->fds[0], SHUT_WR), rc == 0);
    CHECK(c, weft_scope_end(&s, 0), rc == 0);
    weft_close(c->fds[0]);
    weft_close(c->fds[1]);
}

static void waits_for_connections(struct calls *c)
{
    weft_scope s;
    weft_addr a;
    weft_scope_begin_with(&s, weft_sec(20), &(weft_scope_options){ .on = c->rt });
    CHECK(c, c->listener = weft_listen("127.0.0.1:0", NULL), rc >= 0);
    CHECK(c, weft_addr_local(c->listener, &a), rc == 0);
    weft_addr_text(&a, c->where, sizeof c->where);
    weft_spawn(&s, connect_later, c);
    int fd;
    CHECK(c, fd = weft_accept(c->listener), rc >= 0);
    weft_close_auto(&fd);
    for (int i = 0; i < 50; i++) {
        CHECK(c, fd = weft_connect(c->where, NULL), rc >= 0);
        weft_close_auto(&fd);
    }
    CHECK(c, weft_scope_end(&s, 0), rc == 0);
    weft_close(c->listener);
}

/* An inotify descriptor knows no reading without waiting. */
static int touch_later(void *arg)
{
    int rc = later();
    int fd = rc < 0 ? rc : open(arg, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -EIO : 0;
}

static void waits_for_what_blocks(struct calls *c)
{
    char events[4096];
    weft_scope s;
    int fd = inotify_init1(IN_CLOEXEC);
    CHECK(c, inotify_add_watch(fd, "/dev/null", IN_OPEN), rc >= 0);
    weft_scope_begin_with(&s, weft_sec(20), &(weft_scope_options){ .on = c->rt });
    weft_spawn(&s, touch_later, (void *)(uintptr_t)"/dev/null");
    CHECK(c, weft_read(fd, events, sizeof events), rc > 0);
    CHECK(c, weft_scope_end(&s, 0), rc == 0);
    CHECK(c, weft_blocking(return_7_later, NULL), rc == 7);
    weft_close(fd);
}

static void (*const kinds_of_waits[])(struct calls *c) = { waits_of_time, waits_for_tasks, waits_for_descriptors,
    waits_for_connections, waits_for_what_blocks };

struct stormy {
    struct calls *c;
    void (*waits)(struct calls *c);
    int flags;
    bool stormed;
};

static void *wait_in_a_storm(void *arg)
{
    struct stormy *t = arg;
    struct storm s;
    storm_begin(&s, t->flags);
    t->waits(t->c);
    t->stormed = storm_end(&s);
    return NULL;
}

START_TEST(signals_do_not_disturb_a_wait)
{
    struct calls c = { .rc = 0 };
    struct stormy t = { .c = &c, .waits = kinds_of_waits[_i / 2], .flags = _i % 2 ? SA_RESTART : 0 };
    ck_assert_int_eq(weft_runtime_create(&c.rt, ON(2)), 0);
    pthread_join(thread_start(wait_in_a_storm, &t), NULL);
    weft_runtime_destroy(&c.rt);
    ck_assert(t.stormed);
    ck_assert_msg(!c.wrong, "%s: %d", c.wrong, c.rc);
}
END_TEST

/* Not even a read that knows no waiting outlasts its scope. */
static void *read_what_never_comes(void *arg)
{
    char events[4096];
    weft_scope s;
    int fd = inotify_init1(IN_CLOEXEC);
    weft_scope_begin(&s, weft_ms(30));
    *(int *)arg = weft_scope_end(&s, weft_read(fd, events, sizeof events));
    weft_close(fd);
    return NULL;
}

START_TEST(a_thread_that_reads_what_can_only_block_sees_its_deadline)
{
    int rc = 1;
    pthread_join(thread_start(read_what_never_comes, &rc), NULL);
    ck_assert_int_eq(rc, -ETIMEDOUT);
}
END_TEST

/* ---- limits. A child's exit code: 0 right; 77 cannot be tried here; else what is wrong. */

enum { SKIPPED = 77 };

static void limited(void (*child)(void *arg), void *arg, const char *why)
{
    struct death d = die(child, arg);
    ck_assert_int_eq(d.signal, 0);
    if (d.status == SKIPPED)
        fprintf(stderr, "skipped: %s\n", why);
    else
        ck_assert_msg(d.status == 0, "exit code %d", d.status);
}

static void set_soft(int what, rlim_t n)
{
    struct rlimit r;
    getrlimit((__rlimit_resource_t)what, &r);
    r.rlim_cur = n;
    setrlimit((__rlimit_resource_t)what, &r);
}

static int return_7(void *arg)
{
    (void)arg;
    return 7;
}

/* A runtime needs three descriptors. */
static void start_with_few_descriptors(void *arg)
{
    struct rlimit r;
    (void)arg;
    getrlimit(RLIMIT_NOFILE, &r);
    weft_ignore(weft_run(return_7, NULL, ON(2)));
    int before = descriptors_now(), rc = 0;
    for (rlim_t more = 0; more < 8 && rc != 7; more++) {
        int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
        close(lowest);
        set_soft(RLIMIT_NOFILE, (rlim_t)lowest + more);
        rc = weft_run(return_7, NULL, ON(2));
        set_soft(RLIMIT_NOFILE, r.rlim_cur);
        if (rc != -EMFILE && rc != 7)
            _exit(1);
        if ((rc == 7) != (more >= 3))
            _exit(2);
        if (descriptors_now() != before)
            _exit(3);
    }
    _exit(rc == 7 ? 0 : 4);
}

START_TEST(a_start_without_descriptors_says_so)
{
    limited(start_with_few_descriptors, NULL, "");
}
END_TEST

/* In a task and on a thread: what needs a descriptor says so; what has one goes on; later all is as before. */
struct scarce {
    int wrong;
    struct rlimit before;
};

static int without_descriptors(void *arg)
{
    struct scarce *w = arg;
    int fds[2], more[2], event = eventfd(1, EFD_CLOEXEC);
    uint64_t n;
    char b;
    if (weft_pair(fds) < 0 || event < 0)
        return -EIO;
    set_soft(RLIMIT_NOFILE, 1); /* of 0, poll(2) would not take even one that is there */
    w->wrong = weft_pair(more) != -EMFILE                          ? 10
            : weft_listen("127.0.0.1:0", NULL) != -EMFILE          ? 11
            : weft_connect("127.0.0.1:9", NULL) != -EMFILE         ? 12
            : weft_write(fds[0], "x", 1) != 1                      ? 13
            : weft_wait_fd(fds[1], WEFT_READABLE) != (weft_task_self() ? WEFT_READABLE : -EMFILE) ? 14
            : weft_read(fds[1], &b, 1) != 1                        ? 15
            : weft_read(event, &n, sizeof n) != sizeof n           ? 16
            : weft_sleep(weft_us(10)) != 0                         ? 17
            : weft_blocking(return_7, NULL) != 7                   ? 18
                                                                   : 0;
    set_soft(RLIMIT_NOFILE, w->before.rlim_cur);
    if (w->wrong == 0 && weft_pair(more) == 0) {
        weft_close(more[0]);
        weft_close(more[1]);
    } else if (w->wrong == 0) {
        w->wrong = 19;
    }
    weft_close(fds[0]);
    weft_close(fds[1]);
    weft_close(event);
    return 0;
}

static void live_without_descriptors(void *arg)
{
    struct scarce w = { .wrong = 0 };
    getrlimit(RLIMIT_NOFILE, &w.before);
    int descriptors = descriptors_now();
    int rc = *(int *)arg ? without_descriptors(&w) : weft_run(without_descriptors, &w, ON(2));
    _exit(rc != 0 ? 1 : w.wrong ? w.wrong : descriptors_now() != descriptors ? 2 : 0);
}

START_TEST(without_descriptors_what_needs_none_goes_on)
{
    limited(live_without_descriptors, &_i, "");
}
END_TEST

/* Threads: root is not limited, so it becomes somebody who has none yet. */
static bool as_nobody(void)
{
    enum { NOBODY = 54321 };
    return geteuid() != 0 || (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
                                     setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static int blocking_without_threads(void *arg)
{
    set_soft(RLIMIT_NPROC, 1);
    int none = weft_blocking(return_7, NULL);
    set_soft(RLIMIT_NPROC, *(rlim_t *)arg);
    int some = weft_blocking(return_7, NULL);
    return none == -EAGAIN && some == 7 ? 0 : none == 7 ? -ENOTSUP : -EIO;
}

static void live_without_threads(void *arg)
{
    struct rlimit r;
    (void)arg;
    if (!as_nobody())
        _exit(SKIPPED);
    getrlimit(RLIMIT_NPROC, &r);
    int threads = threads_before(), rc = 0, failed = 0;
    for (rlim_t n = 1; n < 100 && rc != 7; n++) {
        set_soft(RLIMIT_NPROC, n);
        rc = weft_run(return_7, NULL, ON(3));
        set_soft(RLIMIT_NPROC, r.rlim_cur);
        failed += rc == -EAGAIN;
        if (rc != -EAGAIN && rc != 7)
            _exit(1);
        if (threads_back_to(threads) > threads)
            _exit(2);
    }
    if (failed == 0 || rc != 7)
        _exit(SKIPPED);
    rc = weft_run(blocking_without_threads, &r.rlim_cur, ON(2));
    _exit(rc == 0 ? 0 : rc == -ENOTSUP ? SKIPPED : 3);
}

START_TEST(without_threads_a_start_and_a_blocking_call_say_so)
{
    limited(live_without_threads, NULL, "threads cannot be limited here (may not become another user, or it has too many)");
}
END_TEST

/* ---- memory */

static int use_memory(void *arg)
{
    char large[20000] = { 0 };
    weft_scope s;
    int rc = 0;
    (void)arg;
    weft_scope_begin(&s, weft_sec(20));
    for (int i = 0; i < 300 && rc >= 0; i++) {
        weft_task t = weft_spawn_copy(&s, return_0_later, large, sizeof large);
        rc = t < 0 ? (int)t : 0;
    }
    if (rc == 0)
        rc = weft_blocking(return_7, NULL);
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

static rlim_t address_space(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    if (!f || fscanf(f, "%lu", &pages) != 1)
        abort();
    fclose(f);
    return (rlim_t)pages * 4096;
}

/* From far too little up to enough. What is asked for in vain here, by the C library and the allocator, too, is not
 * chosen by us; it must be told, or made do without. */
static void live_with_little_memory(void *arg)
{
    enum { MIB = 1 << 20 };
    struct rlimit r;
    int rc = 1, failed = 0, threads = threads_now(), descriptors = descriptors_now();
    (void)arg;
    getrlimit(RLIMIT_AS, &r);
    rlim_t begin = address_space();
    for (rlim_t more = 1; more < 8192 && rc != 0; more += more / 8 + 1) {
        set_soft(RLIMIT_AS, begin + more * MIB);
        rc = weft_run(use_memory, NULL, QUIETLY_ON(2));
        set_soft(RLIMIT_AS, r.rlim_cur);
        failed += rc != 0;
        if (rc != 0 && rc != -ENOMEM && rc != -EAGAIN)
            _exit(1);
        if (threads_back_to(threads) > threads || descriptors_now() != descriptors || weft_task_list(NULL, 0) != 0)
            _exit(2);
    }
    rc = weft_run(use_memory, NULL, QUIETLY_ON(2));
    _exit(rc != 0 ? 3 : failed == 0 ? 4 : 0);
}

START_TEST(without_address_space_a_program_is_told)
{
    limited(live_with_little_memory, NULL, "");
}
END_TEST

/* A control group's limit is not an error that anybody is told: who touches more is killed. So what is checked is that
 * a program which stays within it lives, though it has reserved far more. */
static bool write_to(const char *dir, const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static void live_in_a_group(void *arg)
{
    const char *dir = arg;
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (!write_to(dir, "memory.limit_in_bytes", "67108864") && !write_to(dir, "memory.max", "67108864"))
        _exit(SKIPPED);
    if (!write_to(dir, "cgroup.procs", pid))
        _exit(SKIPPED);
    for (int i = 0; i < 3; i++)
        if (weft_run(use_memory, NULL, ON(2)) != 0)
            _exit(1);
    _exit(0);
}

START_TEST(a_program_within_its_groups_memory_lives)
{
    static const char *const roots[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
    char dir[128];
    bool made = false;
    for (int i = 0; i < COUNT(roots) && !made; i++) {
        snprintf(dir, sizeof dir, "%s/weft-limits-test-%d", roots[i], (int)getpid());
        made = access(roots[i], W_OK) == 0 && mkdir(dir, 0755) == 0;
    }
    if (!made) {
        fprintf(stderr, "skipped: no control group can be made\n");
        return;
    }
    struct death d = die(live_in_a_group, dir);
    for (int i = 0; i < 100 && rmdir(dir) < 0; i++)
        usleep(1000);
    ck_assert_int_eq(d.signal, 0);
    if (d.status == SKIPPED)
        fprintf(stderr, "skipped: the control group takes no limit or no process\n");
    else
        ck_assert_int_eq(d.status, 0);
}
END_TEST

/* ---- processors: B-011 */

static int count_workers(void *arg)
{
    *(int *)arg = weft_stats(NULL, NULL, 0);
    return 0;
}

/* Of a group that the process is in a child of. */
static bool set_quota(const char *dir, const char *v2, const char *v1)
{
    return write_to(dir, "cpu.max", v2) || write_to(dir, "cpu.cfs_quota_us", v1);
}

static void live_by_a_quota(void *arg)
{
    char pid[32], child[160];
    int one = 0, two = 0;
    weft_runtime *rt;
    unsetenv("WEFT_WORKERS");
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    snprintf(child, sizeof child, "%s/child", (const char *)arg);
    if (weft_cpus() < 2 || !set_quota(arg, "100000 100000", "100000") || !write_to(child, "cgroup.procs", pid))
        _exit(SKIPPED);
    if (weft_cpus() != 1 || weft_run(count_workers, &one, NULL) != 0 || one != 1)
        _exit(1);
    if (weft_runtime_create(&rt, NULL) != 0 || weft_stats(rt, NULL, 0) != 1)
        _exit(2);
    if (!set_quota(arg, "150000 100000", "150000"))
        _exit(SKIPPED);
    if (weft_cpus() != 2 || weft_run(count_workers, &two, NULL) != 0 || two != 2)
        _exit(3);
    int still = weft_stats(rt, NULL, 0); /* as report.h says */
    weft_runtime_destroy(&rt);
    _exit(still == 1 ? 0 : 4);
}

START_TEST(a_quota_bounds_the_workers_and_is_read_anew)
{
    static const char *const roots[] = { "/sys/fs/cgroup/cpu", "/sys/fs/cgroup" };
    char dir[128], child[160];
    bool made = false;
    for (int i = 0; i < COUNT(roots) && !made; i++) {
        snprintf(dir, sizeof dir, "%s/weft-quota-test-%d", roots[i], (int)getpid());
        snprintf(child, sizeof child, "%s/child", dir);
        made = access(roots[i], W_OK) == 0 && mkdir(dir, 0755) == 0;
    }
    if (!made) {
        fprintf(stderr, "skipped: no control group can be made\n");
        return;
    }
    made = mkdir(child, 0755) == 0;
    struct death d = die(live_by_a_quota, dir);
    for (int i = 0; i < 100 && rmdir(child) < 0; i++)
        usleep(1000);
    for (int i = 0; i < 100 && rmdir(dir) < 0; i++)
        usleep(1000);
    ck_assert_int_eq(d.signal, 0);
    if (!made || d.status == SKIPPED)
        fprintf(stderr, "skipped: one processor, or the control group takes no quota or no process\n");
    else
        ck_assert_msg(d.status == 0, "exit code %d", d.status);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("limits");
    TCase *tc = add_case(s, "signals");
    tcase_add_loop_test(tc, signals_do_not_disturb_a_wait, 0, 2 * COUNT(kinds_of_waits));
    tcase_add_test(tc, a_thread_that_reads_what_can_only_block_sees_its_deadline);
    if (!forking())
        return run_suite(s);
    tc = add_case(s, "descriptors");
    tcase_add_test(tc, a_start_without_descriptors_says_so);
    tcase_add_loop_test(tc, without_descriptors_what_needs_none_goes_on, 0, 2);
    tc = add_case(s, "threads");
    tcase_add_test(tc, without_threads_a_start_and_a_blocking_call_say_so);
    tc = add_case(s, "processors");
    tcase_add_test(tc, a_quota_bounds_the_workers_and_is_read_anew);
    tc = add_case(s, "memory");
    if (!TSAN && !ASAN) { /* whose shadow takes up terabytes of addresses */
        tcase_add_test(tc, without_address_space_a_program_is_told);
        tcase_add_test(tc, a_program_within_its_groups_memory_lives);
    }
    return run_suite(s);
}
