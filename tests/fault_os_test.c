/* fault_os_test.c - files, watches, children, signals, names and lanes, with each kind of call that they make below failing:
 * faults.h. Each scenario has a runtime of its own, or is a plain thread's, so that all its threads go with it. */
#include "faults.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/inotify.h>

static char dir[64], file[96];
static int threads_at_first, descriptors_at_first;

static int first_of(int rc, int then)
{
    return rc < 0 ? rc : then < 0 ? then : 0;
}

/* ---- files */

static int use_files(void *arg)
{
    char *data = NULL, temp[128], buf[8];
    weft_gen *g = NULL;
    weft_entry e;
    struct stat st;
    (void)arg;
    snprintf(temp, sizeof temp, "%s/XXXXXX", dir);
    int rc = weft_fs_store(file, "hello", 5, 0600);
    rc = first_of(rc, rc < 0 ? 0 : weft_fs_load(file, &data, NULL));
    promise(rc < 0 ? !data : strcmp(data, "hello") == 0, "loaded something else");
    weft_free(data);
    int fd = rc < 0 ? rc : weft_fs_open(file, O_RDWR, 0);
    if (fd >= 0) {
        rc = weft_fs_pwrite(fd, "J", 1, 0);
        rc = first_of(rc, weft_fs_pread(fd, buf, 5, 0));
        rc = first_of(rc, weft_fs_sync(fd));
        weft_ignore(weft_close(fd));
    }
    rc = first_of(rc, fd);
    if (rc == 0 && (fd = weft_fs_temp(temp)) >= 0) {
        rc = first_of(unlink(temp), weft_close(fd));
    } else if (rc == 0) {
        rc = fd;
        promise(strcmp(temp + strlen(temp) - 6, "XXXXXX") == 0, "a template was changed");
    }
    rc = first_of(rc, weft_fs_stat(dir, &st));
    int list = weft_fs_list(&g, dir), n = 0;
    while (list >= 0 && (list = weft_gen_next(g, &e, sizeof e)) > 0)
        n++;
    promise(list < 0 || n <= 1, "there is more in the directory");
    weft_gen_destroy(&g);
    return first_of(rc, list);
}

static int watch_files(void *arg)
{
    weft_chan *c = NULL;
    weft_change change;
    (void)arg;
    int rc = weft_fs_watch(&c, dir, IN_CREATE | IN_CLOSE_WRITE);
    promise(rc == 0 ? c != NULL : c == NULL, "a watch, and an error");
    if (rc < 0)
        return rc;
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    rc = weft_chan_recv(c, &change, sizeof change);
    weft_chan_destroy(&c);
    return rc < 0 ? rc : 0;
}

/* ---- children */

static bool no_child(void)
{
    siginfo_t si;
    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0;
}

static int run_children(void *arg)
{
    static const char *const cat[] = { "cat", NULL }, *const sleep[] = { "sleep", "1000", NULL };
    weft_output r = { .status = 77 };
    weft_process *p = NULL;
    (void)arg;
    int rc = weft_process_run(&r, cat, "hello", 5, 0, NULL);
    promise(rc == 0 ? r.status == 0 && strcmp(r.out, "hello") == 0 : r.status == 77, "a result, and an error");
    if (rc == 0)
        weft_output_free(&r);
    int then = weft_process_open(&p, sleep, &(weft_process_options){ .new_group = true, .in = WEFT_STDIO_PIPE });
    if (then == 0)
        then = weft_process_kill(p, SIGTERM);
    if (then == 0) {
        then = weft_process_wait(p, &r.status);
        promise(then < 0 || r.status == -SIGTERM, "it ended in another way");
    }
    weft_process_close(&p);
    promise(no_child(), "a child is left");
    return first_of(rc, then);
}

/* Whatever fails here, the worker, which is this program, is well. */
static int answer(const void *request, size_t bytes, weft_process_answer *a, void *arg)
{
    (void)arg;
    return weft_process_answer_add(a, request, bytes);
}

static int use_workers(void *arg)
{
    static const char *const worker[] = { "/proc/self/exe", "--worker", NULL };
    static char request[100000]; /* more than a pipe takes */
    weft_process_pool *p = NULL;
    char *said = NULL;
    (void)arg;
    int then = 0, rc = weft_process_pool_open(&p, worker, &(weft_process_pool_options){ .workers = 1, .max_calls = 2 });
    promise(rc == 0 ? p != NULL : p == NULL, "a pool, and an error");
    for (int i = 0; rc == 0 && i < 3; i++) {
        size_t bytes = i == 1 ? sizeof request : 5, n = 0;
        int now = weft_process_pool_call(p, request, bytes, &said, &n);
        promise(now == 0 ? n == bytes : !said, "an answer, and an error");
        weft_free(said);
        said = NULL;
        then = first_of(then, now);
    }
    weft_process_pool_close(&p);
    promise(no_child(), "a worker is left");
    return first_of(rc, then);
}

/* ---- signals */

static int hear_signals(void *arg)
{
    weft_chan *c = NULL;
    struct sigaction now;
    int signo = 0;
    (void)arg;
    int rc = weft_signal_open(&c, (const int[]){ SIGUSR1, 0 });
    promise(rc == 0 ? c != NULL : c == NULL, "a listener, and an error");
    if (rc == 0 && !TSAN) { /* which keeps it back until its thread calls libc */
        kill(getpid(), SIGUSR1);
        rc = weft_chan_recv(c, &signo, sizeof signo);
        promise(rc < 0 || signo == SIGUSR1, "another signal");
    }
    weft_chan_destroy(&c);
    sigaction(SIGUSR1, NULL, &now);
    promise(now.sa_handler == SIG_IGN, "the signal was not given back");
    return rc < 0 ? rc : 0;
}

/* ---- names: the resolver is the test's own, and allocates nothing */

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    static struct sockaddr_in address = { .sin_family = AF_INET };
    static struct addrinfo answer = { .ai_family = AF_INET, .ai_addrlen = sizeof address };
    (void)name;
    (void)service;
    (void)hints;
    answer.ai_addr = (struct sockaddr *)(void *)&address;
    *out = &answer;
    return 0;
}

void freeaddrinfo(struct addrinfo *a)
{
    (void)a;
}

static int ask_names(void *arg)
{
    static atomic_int number;
    char where[32];
    weft_addr a;
    (void)arg;
    snprintf(where, sizeof where, "host%d:80", atomic_fetch_add(&number, 1)); /* in no cache */
    int rc = weft_resolve(where, &a, 1);
    int then = weft_resolve(where, &a, 1);
    promise(rc < 0 || then < 0 || then == 1, "an answer of no address");
    return first_of(rc, then);
}

/* ---- lanes */

struct work {
    weft_lane *lane;
    atomic_int ran, made, told;
};

static int count_ran(void *arg)
{
    atomic_fetch_add(&((struct work *)arg)->ran, 1);
    return 7;
}

static int call_lane(void *arg)
{
    struct work *w = arg;
    int rc = weft_blocking_on(w->lane, count_ran, w);
    if (rc == 7)
        atomic_fetch_add(&w->made, 1);
    return rc < 0 ? rc : 0;
}

static int call_all(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, call_lane, w);
    return weft_scope_end(&s, 0);
}

static int use_lane(void)
{
    struct work w = { .lane = NULL };
    int rc = weft_lane_create(&w.lane, &(weft_lane_options){ .threads = 2, .queue = 4 });
    promise(rc == 0 ? w.lane != NULL : w.lane == NULL, "a lane, and an error");
    if (rc == 0)
        rc = weft_run(call_all, &w, QUIETLY_ON(1));
    weft_lane_destroy(&w.lane);
    promise(atomic_load(&w.ran) == atomic_load(&w.made), "a call was made, and refused");
    return rc;
}

/* ---- where they run */

/* The threads of the last watch and the last listener go by themselves. */
static int clean(int rc)
{
    int64_t limit = weft_after(LIMIT);
    threads_back_to(threads_at_first);
    while (descriptors_now() > descriptors_at_first && weft_now() < limit)
        usleep(100);
    unlink(file);
    promise(count_entries(dir) == 0, "a file is left");
    return rc < 0 ? rc : 0;
}

static int in_runtime(weft_fn *fn)
{
    return clean(weft_run(fn, NULL, QUIETLY_ON(1)));
}

#define PLACES_OF(fn)                                                                                                      \
    static int fn##_there(void)                                                                                            \
    {                                                                                                                      \
        return in_runtime(fn);                                                                                             \
    }                                                                                                                      \
    static int fn##_here(void)                                                                                             \
    {                                                                                                                      \
        return clean(fn(NULL));                                                                                            \
    }
PLACES_OF(use_files)
PLACES_OF(watch_files)
PLACES_OF(run_children)
PLACES_OF(use_workers)
PLACES_OF(hear_signals)
PLACES_OF(ask_names)

static const struct {
    const char *name;
    int (*one)(void);
    int slow; /* one fault in so many */
} scenarios[] = { { "files of a task", use_files_there, 1 }, { "files of a thread", use_files_here, 1 },
    { "a watch of a task", watch_files_there, 3 }, { "a watch of a thread", watch_files_here, 3 },
    { "children of a task", run_children_there, 2 }, { "children of a thread", run_children_here, 2 },
    { "workers of a task", use_workers_there, 4 }, { "workers of a thread", use_workers_here, 4 },
    { "signals of a task", hear_signals_there, 1 }, { "signals of a thread", hear_signals_here, 1 },
    { "names of a task", ask_names_there, 1 }, { "names of a thread", ask_names_here, 1 }, { "a lane", use_lane, 1 } };

/* By the seed, another one each time. */
static bool every(int n, int i)
{
    return ((uint64_t)i + chaos_seed()) % (uint64_t)n == 0;
}

START_TEST(a_call_fails_clearly_leaves_nothing_and_works_the_next_time)
{
    for (int i = 0; i < COUNT(faults); i++)
        if (every(scenarios[_i].slow * (TSAN ? 6 : chaos() ? 3 : 1), i + _i))
            fail_each(&faults[i], scenarios[_i].name, scenarios[_i].one);
}
END_TEST

static void begin(void)
{
    signal(SIGUSR1, SIG_IGN); /* one may come when nobody listens */
    /* In memory, if possible: there are hundreds of fsyncs. */
    snprintf(dir, sizeof dir, "%s/weft-fault-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(dir))
        abort();
    snprintf(file, sizeof file, "%s/a", dir);
    threads_at_first = threads_before();
    descriptors_at_first = descriptors_now();
}

static void end(void)
{
    weft__fault_clear();
    unlink(file);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--worker") == 0)
        return weft_process_pool_serve(answer, NULL) < 0;
    tally_begin();
    Suite *s = suite_create("fault_os");
    TCase *tc = add_case(s, "calls");
    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_loop_test(tc, a_call_fails_clearly_leaves_nothing_and_works_the_next_time, 0, COUNT(scenarios));
    int rc = run_suite(s);
    tally_print();
    return rc;
}
