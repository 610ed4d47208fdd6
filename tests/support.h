/* tests/support.h - what the tests share.
 *
 * Coroutines record, the test body asserts: a failed Check assertion ends the process or, with
 * CK_FORK=no, long-jumps, which must not happen on a coroutine's stack or on another thread. Waits
 * are for an event and bounded by LIMIT; nothing sleeps and hopes. errno is read in functions that
 * are never inlined, since a coroutine may have changed its thread meanwhile.
 */
#ifndef WEFT_TESTS_SUPPORT_H
#define WEFT_TESTS_SUPPORT_H

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <weft.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))
#define NOINLINE __attribute__((noinline, unused))
#define ON(n) (&(weft_options){ .workers = (n) })
/* The same for tests that make the runtime say something on purpose. */
#define QUIETLY_ON(n) (&(weft_options){ .workers = (n), .report = say_nothing })

/* What every wait is bounded by: far more than anything takes. */
#define LIMIT weft_sec(20)

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
/* Of clang, which has handlers of its own for faults. */
#if defined(__has_feature)
#if __has_feature(undefined_behavior_sanitizer)
#define UBSAN 1
#endif
#endif
#ifndef UBSAN
#define UBSAN 0
#endif
#ifndef TSAN
#define TSAN 0
#endif
#ifndef ASAN
#define ASAN 0
#endif

/* AddressSanitizer has a second stack for each, of its own: nothing is said of mappings then. */
static inline bool fake_stacks(void)
{
    const char *options = getenv("ASAN_OPTIONS");
    return ASAN && options && strstr(options, "use_after_return=1");
}

/* How many: plainly, under AddressSanitizer, and under ThreadSanitizer, which has room for 8,000
 * coroutines. A constant; where it need not be one, SCALED is for chaos, too. */
#define BUILT(plain, asan, tsan) (TSAN ? (tsan) : ASAN ? (asan) : (plain))

static inline void say_nothing(const weft_report *r, void *arg)
{
    (void)r;
    (void)arg;
}

/* -- suites -- */

static inline TCase *add_case(Suite *s, const char *name)
{
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(s, tc);
    return tc;
}

static inline int run_suite(Suite *s)
{
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Tests that end by a signal need a process of their own; with CK_FORK=no they are left out. */
static inline bool forking(void)
{
    const char *v = getenv("CK_FORK");
    return !(v && strcmp(v, "no") == 0);
}

/* WEFT_CHAOS, or 0. */
static inline uint64_t chaos_seed(void)
{
    const char *v = getenv("WEFT_CHAOS");
    return v ? strtoull(v, NULL, 0) : 0;
}

/* Whether the schedule is perturbed (docs/testing.md). Tests whose subject is an order that chaos may relax, see
 * sched/chaos.c, ask. */
static inline bool chaos(void)
{
    return chaos_seed() != 0;
}

/* How many rounds. Under chaos few, as under ThreadSanitizer: there each step takes longer, twenty seeds run each test, and it
 * is the orders that differ which are to be many. */
#define SCALED(plain, asan, tsan) (TSAN || chaos() ? (tsan) : ASAN ? (asan) : (plain))

/* `n`, but no more than `most` under chaos. */
static inline int fewer(int most, int n)
{
    return chaos() && n > most ? most : n;
}

/* -- events -- */

/* Waits until *flag is at least `least`, in a task (even a cancelled one) or on a plain thread. */
static inline bool wait_for(const atomic_int *flag, int least)
{
    int64_t end = weft_after(LIMIT);
    while (atomic_load(flag) < least) {
        if (weft_now() > end)
            return false;
        weft_ignore(weft_yield());
        if (weft_task_self() == 0)
            usleep(100);
    }
    return true;
}

/* Waits until the clock is past `at`, without leaving when told to. */
static inline void wait_past(int64_t at)
{
    while (weft_now() <= at) {
        weft_ignore(weft_yield());
        if (weft_task_self() == 0)
            usleep(100);
    }
}

/* A gate for plain threads and for functions on the offload pool: a bounded wait, with no weft in
 * it. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool open;
    atomic_int waiting;
};
#define GATE_INIT                                                                                  \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER                       \
    }

static inline bool gate_wait(struct gate *g)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += LIMIT / 1000000000;
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add(&g->waiting, 1);
    int rc = 0;
    while (!g->open && rc == 0)
        rc = pthread_cond_timedwait(&g->moved, &g->lock, &end);
    bool open = g->open;
    pthread_mutex_unlock(&g->lock);
    return open;
}

static inline void gate_open(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

/* -- what coroutines find wrong -- */

/* The line of the first expectation that failed since it was asked for, whoever's: several tasks of one test expect at
 * once. */
static atomic_int wrong_line __attribute__((unused));
NOINLINE static void wrong_at(int line)
{
    int none = 0;
    atomic_compare_exchange_strong(&wrong_line, &none, line);
}
NOINLINE static int line_that_was_wrong(void)
{
    return atomic_exchange(&wrong_line, 0);
}

/* In a function that returns 0 or a negative errno: records the line, and returns. */
#define EXPECT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            wrong_at(__LINE__);                                                                    \
            return -EPROTO;                                                                        \
        }                                                                                          \
    } while (0)

/* In the test's body: a run of such functions, which returned rc, found nothing wrong. `run`: which of several. */
#define AS_EXPECTED(rc) AS_EXPECTED_IN(rc, 0)
#define AS_EXPECTED_IN(rc, run)                                                                    \
    do {                                                                                           \
        int rc_ = (rc), line_ = line_that_was_wrong();                                             \
        ck_assert_msg(line_ == 0 && rc_ == 0, "line %d, or 0; it returned %d; run %d", line_,      \
                rc_, (run));                                                                       \
    } while (0)

/* -- threads -- */

static inline pthread_t thread_start(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    int rc = pthread_create(&t, NULL, fn, arg);
    if (rc != 0) {
        fprintf(stderr, "pthread_create: %s\n", strerror(rc));
        abort();
    }
    return t;
}

NOINLINE static int thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

/* A set of small numbers, such as thread ids; any thread may add. */
struct id_set {
    pthread_mutex_t lock;
    int ids[256];
    atomic_int n;
};
#define ID_SET_INIT                                                                                \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                          \
    }

NOINLINE static void id_set_add(struct id_set *s, int id)
{
    pthread_mutex_lock(&s->lock);
    int n = atomic_load(&s->n), i = 0;
    while (i < n && s->ids[i] != id)
        i++;
    if (i == n && n < COUNT(s->ids)) {
        s->ids[n] = id;
        atomic_store(&s->n, n + 1);
    }
    pthread_mutex_unlock(&s->lock);
}

/* -- work -- */

static inline void compute(int64_t ns)
{
    int64_t end = weft_now() + ns;
    volatile unsigned x = 1;
    while (weft_now() < end)
        for (int i = 0; i < 100; i++)
            x = x * 1664525u + 1013904223u;
}

/* A plain generator, so that a test's numbers are the same in each run. */
static inline uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* -- what the process has -- */

static inline int count_entries(const char *path)
{
    DIR *d = opendir(path);
    if (!d)
        return -1;
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static inline int threads_now(void)
{
    return count_entries("/proc/self/task");
}

/* Neither one that has been closed meanwhile, nor one by which an I/O thread counts threads (engine/stall.c), or looks what
 * a worker does (engine/spare.c, engine/turns.c): those are there for a moment, at any time. */
static inline bool is_descriptor(const char *number)
{
    char path[300], target[256];
    snprintf(path, sizeof path, "/proc/self/fd/%s", number);
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    int status = 0, task = 0;
    (void)sscanf(target, "/proc/%*d/status%n", &status);
    (void)sscanf(target, "/proc/%*d/task/%*d/%n", &task);
    return n > 0 && status == 0 && task == 0;
}

static inline int descriptors_now(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return -1;
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' && is_descriptor(e->d_name);
    closedir(d);
    return n;
}

/* How often a descriptor, or any (-1), is in a set of those that the kernel watches for this process. */
static inline int watched_now(int fd)
{
    char path[64], line[128];
    int n = 0, there;
    for (int set = 0; set < 256; set++) {
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", set);
        FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof line, f))
            n += sscanf(line, "tfd: %d", &there) == 1 && (fd < 0 || there == fd);
        if (f)
            fclose(f);
    }
    return n;
}

static inline int mappings_now(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    int n = 0;
    for (int c; f && (c = getc(f)) != EOF;)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

NOINLINE static void *write_thread_id(void *arg)
{
    *(int *)arg = thread_id();
    return NULL;
}

/* How many there are before a test: a sanitizer starts one of its own with the first thread. */
static inline int threads_before(void)
{
    int id = 0;
    char path[64];
    pthread_join(thread_start(write_thread_id, &id), NULL);
    snprintf(path, sizeof path, "/proc/self/task/%d", id);
    for (int64_t end = weft_after(LIMIT); access(path, F_OK) == 0 && weft_now() < end;)
        usleep(100);
    return threads_now();
}

/* A joined thread may be listed for a moment longer: waits until no more than `before` are. */
static inline int threads_back_to(int before)
{
    int64_t end = weft_after(LIMIT);
    int n;
    while ((n = threads_now()) > before && weft_now() < end)
        usleep(100);
    return n;
}

static inline long resident_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long pages = 0, skipped = 0;
    if (f) {
        if (fscanf(f, "%ld %ld", &skipped, &pages) != 2)
            pages = 0;
        fclose(f);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static inline int64_t cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* -- system calls whose result is a negative errno -- */

NOINLINE static int sys_read(int fd, void *buf, size_t n)
{
    ssize_t rc = read(fd, buf, n);
    return rc < 0 ? -errno : (int)rc;
}

NOINLINE static int sys_write(int fd, const void *buf, size_t n)
{
    ssize_t rc = write(fd, buf, n);
    return rc < 0 ? -errno : (int)rc;
}

/* Reads what is there without waiting, whatever the descriptor's flags are; sockets and pipes. */
NOINLINE static int read_now(int fd, void *buf, size_t n)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int rc = poll(&p, 1, 0);
    if (rc < 0)
        return -errno;
    return rc == 0 ? -EAGAIN : sys_read(fd, buf, n);
}

/* Writes one byte at a time until there is no room left; returns how many fitted. For a pipe or
 * socket that is set to be non-blocking for the moment by the test itself. */
NOINLINE static int fill(int fd)
{
    static const char page[4096];
    int flags = fcntl(fd, F_GETFL), total = 0;
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    for (ssize_t n; (n = write(fd, page, sizeof page)) > 0;)
        total += (int)n;
    while (write(fd, page, 1) == 1)
        total++;
    fcntl(fd, F_SETFL, flags);
    return total;
}

/* Reads all that is there at the moment; returns how many bytes that was. */
NOINLINE static int drain(int fd)
{
    char page[4096];
    int total = 0;
    for (int n; (n = read_now(fd, page, sizeof page)) > 0;)
        total += n;
    return total;
}

/* -- sockets of the test's own -- */

/* A port on which the listener `fd` sits. */
static inline int port_of(int fd)
{
    weft_addr a;
    if (weft_addr_local(fd, &a) < 0)
        return -1;
    char text[64];
    if (weft_addr_text(&a, text, sizeof text) < 0)
        return -1;
    const char *colon = strrchr(text, ':');
    return colon ? atoi(colon + 1) : -1;
}

/* A listener on a free port of 127.0.0.1; its address in the form of net.h goes to `where`. */
static inline int listen_local(char where[32])
{
    int fd = weft_listen("127.0.0.1:0", NULL);
    if (fd >= 0)
        snprintf(where, 32, "127.0.0.1:%d", port_of(fd));
    return fd;
}

/* A plain blocking connection, made without weft. */
NOINLINE static int plain_connect(const char *where)
{
    weft_addr a;
    int rc = weft_addr_parse(&a, where);
    if (rc < 0)
        return rc;
    int fd = socket(a.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&a.sa, a.len) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* Whether a listener has as many connections that nobody has accepted as it may have: what comes then is dropped. A
 * connect that has succeeded says less: the listener's side of it may be some milliseconds late. */
NOINLINE static bool queue_is_full(int listener)
{
    struct tcp_info i = { 0 };
    socklen_t len = sizeof i;
    if (getsockopt(listener, IPPROTO_TCP, TCP_INFO, &i, &len) < 0)
        abort();
    return i.tcpi_unacked > i.tcpi_sacked; /* of one that listens: how many there are, and the backlog */
}

/* -- deaths -- */

struct death {
    int signal; /* that ended it; 0: it exited */
    int status;
    char text[4096]; /* what it wrote to standard error */
};

/* Runs fn(arg) in a process of its own and says how that ended. Called with no other thread about.
 */
static inline struct death die(void (*fn)(void *arg), void *arg)
{
    struct death d = { 0 };
    int fds[2];
    if (pipe(fds) < 0)
        abort();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        for (int i = 1; i < 32; i++)
            signal(i, SIG_DFL);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        alarm(20);
        fn(arg);
        _exit(0);
    }
    close(fds[1]);
    size_t have = 0;
    char rest[256];
    for (ssize_t n;;) {
        bool room = have + 1 < sizeof d.text;
        n = read(
                fds[0], room ? d.text + have : rest, room ? sizeof d.text - 1 - have : sizeof rest);
        if (n <= 0)
            break;
        if (room)
            have += (size_t)n;
    }
    close(fds[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    d.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    d.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return d;
}

#endif
