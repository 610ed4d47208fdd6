/* process_test.c - children: started, fed, read, waited for and ended, from tasks and plain threads; and what is left of
 * them, which is nothing. */
#include "sync_support.h"

#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/fault.h"

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define SHELL(text) ARGS("sh", "-c", text)

/* -- what is left -- */

NOINLINE static bool no_children(void)
{
    siginfo_t si;
    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

NOINLINE static bool is_gone(int pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

/* A killed grandchild is init's to reap. */
NOINLINE static bool soon_gone(int pid)
{
    char path[64], text[256];
    for (int64_t end = weft_after(LIMIT); weft_now() < end; usleep(1000)) {
        if (is_gone(pid))
            return true;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = fopen(path, "re");
        size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
        if (f)
            fclose(f);
        text[n] = 0;
        const char *after = strrchr(text, ')');
        if (after && strncmp(after, ") Z", 3) == 0)
            return true;
    }
    return false;
}

/* Runs the body as a task of 1, 2 and 4 workers, and on a plain thread; nothing is left. */
NOINLINE static void everywhere(weft_fn *body, void *arg, int i)
{
    int before = descriptors_now();
    atomic_store(&wrongs, 0);
    int rc = i < COUNT(workers) ? weft_run(body, arg, QUIETLY_ON(workers[i])) : body(arg);
    ck_assert_int_eq(rc, 0);
    NOTHING_WRONG();
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert(no_children());
}
#define PLACES (COUNT(workers) + 1)

/* -- start and end -- */

static int ends_as_told(void *arg)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = { { "exit 0", 0 }, { "exit 3", 3 }, { "exit 255", 255 }, { "kill -TERM $$", -SIGTERM },
        { "kill -KILL $$", -SIGKILL } };
    (void)arg;
    for (int i = 0; i < COUNT(cases); i++) {
        weft_process *p = NULL;
        int status = 99, again = 98;
        MUST(weft_process_open(&p, SHELL(cases[i].text), NULL) == 0);
        if (!p)
            return 0;
        MUST(weft_process_pid(p) > 0);
        MUST(weft_process_in(p) == -EBADF && weft_process_out(p) == -EBADF && weft_process_err(p) == -EBADF);
        MUST(weft_process_wait(p, &status) == 0 && status == cases[i].status);
        MUST(weft_process_wait(p, &again) == 0 && again == status);
        MUST(weft_process_wait(p, NULL) == 0);
        MUST(weft_process_kill(p, SIGKILL) == -ESRCH);
        weft_process_close(&p);
        MUST(p == NULL);
        weft_process_close(&p); /* E-27 */
        weft_process_close(NULL);
    }
    return 0;
}

START_TEST(a_child_ends_with_its_status_or_its_signal)
{
    everywhere(ends_as_told, NULL, _i);
}
END_TEST

/* -- who stands still until the program runs -- */

static int run_one(void)
{
    weft_process *p = NULL;
    int status = 99, rc = weft_process_open(&p, SHELL("exit 0"), NULL);
    rc = rc < 0 ? rc : weft_process_wait(p, &status);
    weft_process_close(&p);
    return rc < 0 ? rc : status;
}

static int does_nothing(void *arg)
{
    (void)arg;
    return 0;
}

/* Threads of the files' lane. */
static int threads_of_lane(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "r");
        n += f && fgets(name, sizeof name, f) && strcmp(name, "weft-files\n") == 0;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return n;
}

static int with_nothing_else(void *arg)
{
    MUST(run_one() == 0 && run_one() == 0);
    *(int *)arg = threads_of_lane();
    return 0;
}

/* One that was spawned, and has not begun. */
static int with_another_task(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, does_nothing, NULL, &(weft_spawn_options){ .pin = 1 }); /* where nobody steals it */
    MUST(run_one() == 0);
    *(int *)arg = threads_of_lane();
    return weft_scope_end(&s, 0);
}

static int on_the_first_worker(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, with_another_task, arg, &(weft_spawn_options){ .pin = 1 });
    return weft_scope_end(&s, 0);
}

/* The lane begins a thread for its first call, which stays for some seconds. */
START_TEST(a_worker_that_has_something_else_to_do_leaves_it_to_the_lane)
{
    int more = -1;
    atomic_store(&wrongs, 0);
    ck_assert_int_eq(weft_run(with_nothing_else, &more, ON(2)), 0);
    if (!chaos())
        ck_assert_int_eq(more, 0);
    ck_assert_int_eq(weft_run(with_nothing_else, &more, ON(1)), 0); /* there would be nobody else, nor any spares */
    ck_assert_int_eq(more, 1);
    ck_assert_int_eq(weft_run(on_the_first_worker, &more, ON(2)), 0);
    if (!chaos()) /* a seed may have let the other one run before */
        ck_assert_int_eq(more, 1);
    NOTHING_WRONG();
}
END_TEST

static char not_executable[64], no_format[64];

NOINLINE static void make_file(char *path, const char *name, mode_t mode)
{
    snprintf(path, 64, "/tmp/weft-process-%d-%s", (int)getpid(), name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);
    if (fd < 0 || write(fd, "nothing\n", 8) != 8)
        abort();
    close(fd);
}

static int fails_to_start(void *arg)
{
    const struct {
        const char *program, *cwd;
        int rc;
    } cases[] = { { "/nonexistent/program", NULL, -ENOENT }, { "no-such-program-anywhere", NULL, -ENOENT },
        { not_executable, NULL, -EACCES }, { no_format, NULL, -ENOEXEC }, { "/tmp", NULL, -EACCES },
        { "true", "/nonexistent", -ENOENT }, { "true", "/dev/null", -ENOTDIR }, { "/dev/null/true", NULL, -ENOTDIR } };
    weft_process *const untouched = (weft_process *)(uintptr_t)&cases;
    (void)arg;
    for (int i = 0; i < COUNT(cases); i++) {
        weft_process *p = untouched;
        weft_output r = { .status = 77 };
        weft_process_options o = { .cwd = cases[i].cwd, .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE, .err = WEFT_STDIO_NULL };
        MUST(weft_process_open(&p, ARGS(cases[i].program), &o) == cases[i].rc);
        MUST(p == untouched);
        o.in = 0;
        MUST(weft_process_run(&r, ARGS(cases[i].program), NULL, 0, 0, &o) == cases[i].rc);
        MUST(r.status == 77);
    }
    return 0;
}

START_TEST(a_program_that_cannot_be_run_is_told_by_its_errno)
{
    make_file(not_executable, "data", 0644);
    make_file(no_format, "format", 0755);
    everywhere(fails_to_start, NULL, _i);
    unlink(not_executable);
    unlink(no_format);
}
END_TEST

START_TEST(bad_arguments_are_told)
{
    weft_process *p = NULL;
    weft_output r;
    const weft_process_options bad[] = { { .in = -3 }, { .out = -3 }, { .err = -4 }, { .term_grace = -1 },
        { .limits_n = -1 }, { .limits_n = 1 }, { .reserved = { 1 } },
        { .limits = (const weft_rlimit[]){ { -1, 1, 1 } }, .limits_n = 1 },
        { .limits = (const weft_rlimit[]){ { RLIMIT_CORE, 2, 1 } }, .limits_n = 1 } };
    for (int i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(weft_process_open(&p, ARGS("true"), &bad[i]), -EINVAL);
    ck_assert_int_eq(weft_process_open(NULL, ARGS("true"), NULL), -EINVAL);
    ck_assert_int_eq(weft_process_open(&p, NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_open(&p, (const char *const[]){ NULL }, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_open(&p, ARGS(""), NULL), -EINVAL);
    ck_assert_int_eq(weft_process_open(&p, ARGS("true"), &(weft_process_options){ .out = 9999 }), -EBADF);
    ck_assert_int_eq(weft_process_run(NULL, ARGS("true"), NULL, 0, 0, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_run(&r, ARGS("true"), NULL, 1, 0, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_run(&r, ARGS("true"), "x", 1, 0, &(weft_process_options){ .in = WEFT_STDIO_NULL }), -EINVAL);
    ck_assert_ptr_null(p);
    weft_output_free(NULL);
    ck_assert(no_children());
}
END_TEST

/* -- what it gets -- */

static int gets_its_world(void *arg)
{
    weft_output r = { .status = 77 };
    (void)arg;
    weft_process_options o = { .env = ARGS("WEFT_X=seven", "PATH=/bin:/usr/bin"), .cwd = "/usr" };
    MUST(weft_process_run(&r, ARGS("sh", "-c", "echo $WEFT_X; pwd; echo \"$1\" >&2; exit 4", "sh", "a b"), NULL, 0, 0, &o) == 0);
    MUST(r.status == 4 && r.out && strcmp(r.out, "seven\n/usr\n") == 0 && r.out_bytes == 11);
    MUST(r.err && strcmp(r.err, "a b\n") == 0 && r.err_bytes == 4);
    weft_output_free(&r);
    MUST(!r.out && !r.err && r.out_bytes == 0);
    weft_output_free(&r);
    o = (weft_process_options){ .err = WEFT_STDIO_OUT };
    MUST(weft_process_run(&r, SHELL("echo 1; echo 2 >&2; echo 3"), NULL, 0, 0, &o) == 0);
    MUST(r.out && strcmp(r.out, "1\n2\n3\n") == 0 && !r.err);
    weft_output_free(&r);
    o = (weft_process_options){ .out = WEFT_STDIO_NULL };
    MUST(weft_process_run(&r, SHELL("cat; echo 1"), NULL, 0, 0, &o) == 0);
    MUST(!r.out && r.err && r.err_bytes == 0 && r.err[0] == 0);
    weft_output_free(&r);
    return 0;
}

/* The order counts, and the caller's own limits stay. */
static int gets_its_limits(void *arg)
{
    weft_output r = { .status = 77 };
    struct rlimit before, after;
    (void)arg;
    const weft_rlimit limits[] = { { RLIMIT_NOFILE, 64, 200 }, { RLIMIT_CORE, 0, 0 }, { RLIMIT_NOFILE, 32, 100 },
        { RLIMIT_FSIZE, 4096, RLIM_INFINITY } };
    weft_process_options o = { .limits = limits, .limits_n = COUNT(limits) };
    MUST(getrlimit(RLIMIT_NOFILE, &before) == 0);
    MUST(weft_process_run(&r, SHELL("ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -f"), NULL, 0, 0, &o) == 0);
    MUST(r.status == 0 && r.out && strcmp(r.out, "32\n100\n0\n8\n") == 0);
    weft_output_free(&r);
    MUST(getrlimit(RLIMIT_NOFILE, &after) == 0 && memcmp(&before, &after, sizeof before) == 0);
    o.limits = &(const weft_rlimit){ RLIMIT_NOFILE, 1, RLIM_INFINITY }; /* above fs.nr_open: refused to everybody */
    o.limits_n = 1;
    MUST(weft_process_run(&r, ARGS("true"), NULL, 0, 0, &o) == -EPERM);
    o.limits_n = 0;
    MUST(weft_process_run(&r, SHELL("ulimit -Sn"), NULL, 0, 0, &o) == 0);
    MUST(r.out && strtoull(r.out, NULL, 10) == before.rlim_cur);
    weft_output_free(&r);
    return 0;
}

START_TEST(limits_are_as_asked)
{
    everywhere(gets_its_limits, NULL, _i);
}
END_TEST

START_TEST(arguments_environment_folder_and_descriptors_are_as_asked)
{
    everywhere(gets_its_world, NULL, _i);
}
END_TEST

/* Descriptors that others left open are not inherited; nor is what is done about signals, but that SIGUSR1 is ignored. */
static int gets_nothing_else(void *arg)
{
    weft_output r = { .status = 77 };
    (void)arg;
    MUST(weft_process_run(&r, ARGS("ls", "/proc/self/fd"), NULL, 0, 0, NULL) == 0);
    MUST(r.out && strcmp(r.out, "0\n1\n2\n3\n") == 0); /* 3 is the listing's own */
    weft_output_free(&r);
    MUST(weft_process_run(&r, ARGS("cat", "/proc/self/status"), NULL, 0, 0, NULL) == 0);
    MUST(r.out && strstr(r.out, "\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000200\nSigCgt:\t0000000000000000\n"));
    weft_output_free(&r);
    return 0;
}

static int parent_pid, in_a_child;

static void on_usr2(int signo)
{
    (void)signo;
    if (syscall(SYS_getpid) != __atomic_load_n(&parent_pid, __ATOMIC_RELAXED))
        __atomic_store_n(&in_a_child, 1, __ATOMIC_RELAXED);
}

START_TEST(no_descriptor_and_no_handler_is_inherited)
{
    int leaky = open("/dev/null", O_RDONLY); /* on purpose not close-on-exec */
    int high = fcntl(leaky, F_DUPFD, 200);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGUSR2, on_usr2);
    everywhere(gets_nothing_else, NULL, _i);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    close(leaky);
    close(high);
}
END_TEST

/* A child shares the parent's memory until its exec, and a signal to the group comes to both: the parent's handler must not
 * run in the child. */
static void *signals_the_group(void *arg)
{
    while (!__atomic_load_n((int *)arg, __ATOMIC_RELAXED)) {
        kill(0, SIGUSR2);
        usleep(20);
    }
    return NULL;
}

static void starts_many_while_signals_come(void *arg)
{
    pthread_t th;
    int stop = 0;
    setpgid(0, 0);
    __atomic_store_n(&parent_pid, getpid(), __ATOMIC_RELAXED);
    signal(SIGUSR2, on_usr2);
    if (pthread_create(&th, NULL, signals_the_group, &stop) != 0)
        _exit(9);
    for (int i = 0; i < *(int *)arg; i++) {
        weft_process *p = NULL;
        int status = 77;
        if (weft_process_open(&p, ARGS("true"), NULL) != 0 || weft_process_wait(p, &status) != 0)
            _exit(8);
        weft_process_close(&p);
        if (status != 0 && status != -SIGUSR2)
            _exit(7);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(th, NULL);
    _exit(__atomic_load_n(&in_a_child, __ATOMIC_RELAXED) ? 6 : 0);
}

START_TEST(no_handler_of_the_parent_runs_in_a_child)
{
    int n = SCALED(200, 100, 40);
    struct death d = die(starts_many_while_signals_come, &n);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 0);
}
END_TEST

static void without_stdio(void *arg)
{
    (void)arg;
    weft_output r = { .status = 77 };
    close(0);
    close(1);
    if (weft_process_run(&r, SHELL("cat; echo b >&2"), "a\n", 2, 0, NULL) != 0)
        _exit(1);
    _exit(r.out_bytes == 2 && r.err_bytes == 2 && r.out[0] == 'a' && r.err[0] == 'b' ? 0 : 2);
}

START_TEST(pipes_may_have_the_numbers_of_the_standard_descriptors)
{
    struct death d = die(without_stdio, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 0);
}
END_TEST

/* What is this process's own and was closed is closed there: no end of a pipe of ours has its number. */
static void without_input(void *arg)
{
    static const weft_process_options wishes[] = { { .out = WEFT_STDIO_PIPE }, { .err = WEFT_STDIO_PIPE },
        { .out = WEFT_STDIO_NULL }, { .out = WEFT_STDIO_PIPE, .err = WEFT_STDIO_OUT } };
    (void)arg;
    close(0);
    for (int i = 0; i < COUNT(wishes); i++) {
        weft_process *p = NULL;
        int status = 99;
        if (weft_process_open(&p, SHELL("test -e /proc/self/fd/0 && exit 5; exit 6"), &wishes[i]) != 0)
            _exit(10 + i);
        if (weft_process_wait(p, &status) != 0 || status != 6)
            _exit(20 + i);
        weft_process_close(&p);
    }
    _exit(fcntl(0, F_GETFD) < 0 ? 0 : 30);
}

static int starts_without_any(void *arg)
{
    weft_process *p = NULL;
    int *status = arg;
    int rc = weft_process_open(&p, SHELL("for i in 0 1 2; do test -e /proc/self/fd/$i && exit 5; done; exit 6"), NULL);
    if (rc == 0)
        rc = weft_process_wait(p, status);
    weft_process_close(&p);
    return rc;
}

/* The runtime's own descriptors have those numbers then. */
static void without_any(void *arg)
{
    int status = 99;
    (void)arg;
    for (int i = 0; i < 3; i++)
        close(i);
    if (weft_run(starts_without_any, &status, ON(1)) != 0)
        _exit(1);
    _exit(status);
}

START_TEST(what_is_closed_here_is_closed_there)
{
    struct death d = die(without_input, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 0);
    d = die(without_any, NULL);
    ck_assert_int_eq(d.signal, 0);
    ck_assert_int_eq(d.status, 6);
}
END_TEST

/* Who closes it first closes it; the others find nothing, and no descriptor of somebody else's. */
static int close_its_input(void *arg)
{
    weft_process_close_in(arg);
    MUST(weft_process_in(arg) == -EBADF);
    return 0;
}

static int closed_by_many(void *arg)
{
    char c;
    (void)arg;
    for (int i = 0; i < SCALED(20, 10, 8); i++) {
        weft_process *p = NULL;
        weft_scope s;
        MUST(weft_process_open(&p, ARGS("cat"), &(weft_process_options){ .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE }) == 0);
        weft_scope_begin(&s, LIMIT);
        for (int k = 0; k < 4; k++)
            weft_spawn(&s, close_its_input, p);
        MUST(weft_read(weft_process_out(p), &c, 1) == 0);
        MUST(weft_scope_end(&s, 0) == 0);
        weft_process_close(&p);
    }
    return 0;
}

START_TEST(its_input_may_be_closed_by_many_at_once)
{
    everywhere(closed_by_many, NULL, _i % COUNT(workers));
}
END_TEST

static int talks_by_pipes(void *arg)
{
    weft_process *p = NULL;
    char line[16] = "";
    (void)arg;
    int rc = weft_process_open(&p, ARGS("cat"), &(weft_process_options){ .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE });
    MUST(rc == 0);
    for (int i = 0; rc == 0 && i < 20; i++) {
        MUST(weft_write_all(weft_process_in(p), "hello", 5) == 0);
        MUST(weft_read_all(weft_process_out(p), line, 5) == 5 && strcmp(line, "hello") == 0);
    }
    weft_process_close_in(p);
    weft_process_close_in(p);
    MUST(weft_process_in(p) == -EBADF);
    MUST(weft_read(weft_process_out(p), line, 5) == 0);
    MUST(weft_process_wait(p, &rc) == 0 && rc == 0);
    weft_process_close(&p);
    return 0;
}

START_TEST(pipes_are_read_and_written_like_any_descriptor)
{
    everywhere(talks_by_pipes, NULL, _i);
}
END_TEST

/* -- run -- */

enum { MUCH = 10 << 20 };

static int much_both_ways(void *arg)
{
    size_t n = SCALED(MUCH, MUCH / 2, MUCH / 4);
    char *in = arg;
    weft_output r = { .status = 77 };
    MUST(weft_process_run(&r, SHELL("tee /dev/stderr"), in, n, 0, NULL) == 0);
    MUST(r.status == 0 && r.out_bytes == n && r.err_bytes == n);
    MUST(r.out && memcmp(r.out, in, n) == 0 && r.err && memcmp(r.err, in, n) == 0);
    weft_output_free(&r);
    MUST(weft_process_run(&r, SHELL("exec true"), in, n, 0, NULL) == 0); /* who does not read */
    MUST(r.status == 0 && r.out_bytes == 0);
    weft_output_free(&r);
    return 0;
}

START_TEST(ten_mebibytes_go_in_and_come_out_twice)
{
    char *in = malloc(MUCH);
    uint64_t state = 1;
    for (int i = 0; i < MUCH; i++)
        in[i] = (char)next_random(&state);
    everywhere(much_both_ways, in, _i);
    free(in);
}
END_TEST

static int says_too_much(void *arg)
{
    weft_output r = { .status = 77 };
    (void)arg;
    MUST(weft_process_run(&r, ARGS("yes"), NULL, 0, 100000, NULL) == -EMSGSIZE && r.status == 77);
    MUST(weft_process_run(&r, SHELL("yes >&2"), NULL, 0, 1, NULL) == -EMSGSIZE);
    MUST(weft_process_run(&r, SHELL("printf 1234567"), NULL, 0, 6, NULL) == -EMSGSIZE);
    MUST(weft_process_run(&r, SHELL("printf 1234567"), NULL, 0, 7, NULL) == 0 && r.out_bytes == 7);
    weft_output_free(&r);
    return 0;
}

START_TEST(more_than_the_limit_is_told_and_ends_the_child)
{
    everywhere(says_too_much, NULL, _i);
}
END_TEST

/* -- deadlines and cancels -- */

static int too_late(void *arg)
{
    weft_output r = { .status = 77 };
    weft_process *p = NULL;
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, weft_ms(30));
    MUST(weft_scope_end(&s, weft_process_run(&r, ARGS("sleep", "1000"), NULL, 0, 0, NULL)) == -ETIMEDOUT);
    weft_scope_begin(&s, weft_ms(30)); /* the shell's child holds the pipes, and goes with the group */
    MUST(weft_scope_end(&s, weft_process_run(&r, SHELL("sleep 1000 & exit 0"), NULL, 0, 0,
                                &(weft_process_options){ .new_group = true })) == -ETIMEDOUT);
    MUST(r.status == 77);
    MUST(weft_process_open(&p, ARGS("sleep", "1000"), NULL) == 0);
    weft_scope_begin(&s, weft_ms(10));
    MUST(weft_scope_end(&s, weft_process_wait(p, NULL)) == -ETIMEDOUT);
    MUST(weft_process_kill(p, SIGINT) == 0); /* it went on */
    int status = 0;
    MUST(weft_process_wait(p, &status) == 0 && status == -SIGINT);
    weft_process_close(&p);
    weft_scope_begin(&s, weft_sec(100));
    weft_scope_cancel(&s, "test");
    MUST(weft_process_open(&p, ARGS("sleep", "1000"), NULL) == -ECANCELED);
    weft_ignore(weft_scope_end(&s, 0));
    return 0;
}

START_TEST(deadlines_end_run_and_wait_and_run_ends_its_child)
{
    everywhere(too_late, NULL, _i);
}
END_TEST

struct waiting {
    weft_process *p;
    int status[4];
};

static int wait_0(void *arg)
{
    struct waiting *w = arg;
    return weft_process_wait(w->p, &w->status[0]);
}

static int wait_1(void *arg)
{
    struct waiting *w = arg;
    return weft_process_wait(w->p, &w->status[1]);
}

static int cancelled_while_waiting(void *arg)
{
    struct waiting w = { .status = { 77, 77 } };
    struct caller a, b;
    weft_scope s;
    (void)arg;
    MUST(weft_process_open(&w.p, ARGS("sleep", "1000"), NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &a, wait_0, &w));
    MUST(put_to_sleep(&s, &b, wait_1, &w));
    MUST(weft_task_cancel(a.task, "test") == 0);
    MUST(result(&a) == -ECANCELED && w.status[0] == 77);
    MUST(still_waits(&b));
    MUST(weft_process_kill(w.p, SIGTERM) == 0);
    MUST(result(&b) == 0 && w.status[1] == -SIGTERM);
    weft_ignore(weft_scope_end(&s, 0));
    weft_process_close(&w.p);
    return 0;
}

START_TEST(a_cancelled_wait_leaves_the_child_and_the_other_waiters)
{
    everywhere(cancelled_while_waiting, NULL, _i);
}
END_TEST

/* B-022: the cancel comes after the wait has begun and before it sleeps; `killed`: and the child's end before it. */
static struct beginning {
    weft_process *p;
    weft_scope scope;
    struct caller caller;
    bool killed, hooked;
    int status;
} beginning;
static atomic_bool begins; /* what is hooked is looked at; the hook itself is there before any thread is */

static void cancel_as_it_begins(struct weft__frame *f)
{
    struct beginning *b = &beginning;
    if (!atomic_load(&begins) || f->task != atomic_load(&b->caller.block) || b->hooked)
        return;
    b->hooked = true;
    if (b->killed)
        MUST(weft_process_kill(b->p, SIGTERM) == 0);
    weft_scope_cancel(&b->scope, NULL);
}

static int wait_from_the_beginning(void *arg)
{
    return weft_process_wait(((struct beginning *)arg)->p, &((struct beginning *)arg)->status);
}

static int cancelled_as_it_begins(void *arg)
{
    struct beginning *b = &beginning;
    char c = 0;
    memset(b, 0, sizeof *b);
    b->killed = *(bool *)arg;
    b->status = 77;
    b->caller = (struct caller){ .call = wait_from_the_beginning, .object = b };
    weft_process_options o = { .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE };
    MUST(weft_process_open(&b->p, ARGS("cat"), &o) == 0);
    atomic_store(&begins, true);
    weft_scope_begin(&b->scope, LIMIT);
    weft_spawn(&b->scope, call_it, &b->caller);
    int rc = result(&b->caller);
    MUST(weft_scope_end(&b->scope, 0) == 0);
    atomic_store(&begins, false);
    MUST(b->hooked);
    if (b->killed) {
        MUST(rc == 0 ? b->status == -SIGTERM : rc == -ECANCELED && b->status == 77);
        MUST(weft_process_wait(b->p, &b->status) == 0 && b->status == -SIGTERM);
    } else {
        MUST(rc == -ECANCELED && b->status == 77);
        MUST(weft_write_all(weft_process_in(b->p), "x", 1) == 0); /* it goes on */
        MUST(weft_read(weft_process_out(b->p), &c, 1) == 1 && c == 'x');
        weft_process_close_in(b->p);
        MUST(weft_process_wait(b->p, &b->status) == 0 && b->status == 0);
    }
    weft_process_close(&b->p);
    return 0;
}

START_TEST(a_wait_that_is_cancelled_as_it_begins_leaves_the_child)
{
    bool killed = _i % 2;
    weft__await_hook = cancel_as_it_begins;
    everywhere(cancelled_as_it_begins, &killed, _i / 2);
    weft__await_hook = NULL;
}
END_TEST

static int run_sleep(void *arg)
{
    weft_output r;
    return weft_process_run(&r, SHELL("trap '' TERM; echo ready; sleep 1000"), NULL, 0, 0, arg);
}

static int cancelled_runs(void *arg)
{
    weft_process_options o[] = { { .in = 0 }, { .new_group = true, .term_grace = weft_ms(5) } };
    (void)arg;
    for (int i = 0; i < COUNT(o); i++) {
        struct caller a;
        weft_scope s;
        weft_scope_begin(&s, LIMIT);
        MUST(put_to_sleep(&s, &a, run_sleep, &o[i]));
        MUST(weft_task_cancel(a.task, "test") == 0);
        MUST(result(&a) == -ECANCELED);
        weft_ignore(weft_scope_end(&s, 0));
    }
    return 0;
}

START_TEST(a_cancelled_run_ends_its_child)
{
    everywhere(cancelled_runs, NULL, _i);
}
END_TEST

/* -- close -- */

/* Starts it and waits until it has said one line, that is, until it is set up. */
NOINLINE static weft_process *set_up(const char *text, weft_process_options o, char *line, size_t bytes)
{
    weft_process *p = NULL;
    o.out = WEFT_STDIO_PIPE;
    MUST(weft_process_open(&p, SHELL(text), &o) == 0);
    size_t n = 0;
    while (p && n + 1 < bytes && weft_read(weft_process_out(p), line + n, 1) == 1 && line[n] != '\n')
        n++;
    line[n] = 0;
    return p;
}

static int closed_without_wait(void *arg)
{
    char line[64];
    (void)arg;
    /* At once. */
    weft_process *p = set_up("echo ready; sleep 1000", (weft_process_options){ .in = 0 }, line, sizeof line);
    int pid = p ? weft_process_pid(p) : 0;
    weft_process_close(&p);
    MUST(is_gone(pid));
    /* Politely: it has time to say so. */
    char path[64];
    snprintf(path, sizeof path, "/tmp/weft-process-%d-said", (int)getpid());
    char text[200];
    snprintf(text, sizeof text, "trap 'echo bye > %s; exit' TERM; echo ready; while :; do sleep 0.01; done", path);
    p = set_up(text, (weft_process_options){ .term_grace = LIMIT }, line, sizeof line);
    weft_process_close(&p);
    MUST(access(path, F_OK) == 0 && unlink(path) == 0);
    /* It does not listen. */
    p = set_up("trap '' TERM; echo ready; while :; do sleep 1; done",
            (weft_process_options){ .term_grace = weft_ms(20), .new_group = true }, line, sizeof line);
    pid = p ? weft_process_pid(p) : 0;
    int64_t begun = weft_now();
    weft_process_close(&p);
    MUST(is_gone(pid) && weft_now() - begun >= weft_ms(20));
    /* It is stopped. */
    p = set_up("echo ready; exec sleep 1000", (weft_process_options){ .term_grace = LIMIT }, line, sizeof line);
    MUST(weft_process_kill(p, SIGSTOP) == 0);
    begun = weft_now();
    weft_process_close(&p);
    MUST(weft_now() - begun < LIMIT / 2);
    /* It has ended already. */
    p = set_up("exit 0", (weft_process_options){ .new_group = true }, line, sizeof line);
    weft_process_close(&p);
    return 0;
}

START_TEST(a_child_nobody_waited_for_is_ended_and_reaped)
{
    everywhere(closed_without_wait, NULL, _i);
}
END_TEST

static int groups(void *arg)
{
    char line[64];
    (void)arg;
    weft_process *p = set_up("sleep 1000 & echo $!; wait", (weft_process_options){ .new_group = true }, line, sizeof line);
    int grandchild = atoi(line), status = 0;
    MUST(grandchild > 0 && !is_gone(grandchild));
    MUST(getpgid(grandchild) == weft_process_pid(p) && weft_process_pid(p) != getpgid(0));
    MUST(weft_process_kill(p, SIGTERM) == 0);
    MUST(weft_process_wait(p, &status) == 0 && status == -SIGTERM);
    MUST(soon_gone(grandchild));
    MUST(weft_process_kill(p, SIGTERM) == -ESRCH);
    weft_process_close(&p);
    /* The leader has ended, and not been waited for. */
    p = set_up("sleep 1000 & echo $!", (weft_process_options){ .new_group = true }, line, sizeof line);
    grandchild = atoi(line);
    weft_process_close(&p);
    MUST(grandchild > 0 && soon_gone(grandchild));
    return 0;
}

/* How it ended that was not killed before: its parent has ended, and it is this process's to reap (prctl). */
NOINLINE static int ended_by(int pid, int signo)
{
    int status = 0;
    if (pid <= 0 || kill(pid, signo) < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Nobody is killed who may leave when he likes, and no group is signalled by a number that may be another's. */
static int groups_left_alone(void *arg)
{
    char line[64];
    int status;
    (void)arg;
    weft_process_options o = { .new_group = true, .term_grace = WEFT_NEVER };
    weft_process *p = set_up("trap '' TERM; sleep 1000 >/dev/null & echo $!; exit 0", o, line, sizeof line);
    int grandchild = atoi(line);
    weft_process_close(&p);
    MUST(ended_by(grandchild, SIGHUP) == SIGHUP);
    o.term_grace = 0;
    p = set_up("sleep 1000 & echo $!; exit 0", o, line, sizeof line);
    grandchild = atoi(line);
    MUST(waitpid(weft_process_pid(p), &status, 0) == weft_process_pid(p));
    MUST(weft_process_kill(p, SIGKILL) == -ESRCH);
    weft_process_close(&p);
    MUST(ended_by(grandchild, SIGHUP) == SIGHUP);
    return 0;
}

START_TEST(a_group_is_left_alone_that_was_to_be_or_that_another_has_waited_for)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    everywhere(groups_left_alone, NULL, _i);
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}
END_TEST

START_TEST(a_group_gets_what_is_sent_to_its_first)
{
    everywhere(groups, NULL, _i);
}
END_TEST

static int outlived(void *arg)
{
    weft_output r = { .status = 77 };
    (void)arg;
    /* Read to the end, which comes with the grandchild's. */
    MUST(weft_process_run(&r, SHELL("(sleep 0.05; echo late) & exit 5"), NULL, 0, 0, NULL) == 0);
    MUST(r.status == 5 && r.out && strcmp(r.out, "late\n") == 0);
    weft_output_free(&r);
    /* A wait is for the child alone. */
    char line[64];
    int status = 0;
    weft_process *p = set_up("sleep 1000 & echo $!; exit 6", (weft_process_options){ .in = 0 }, line, sizeof line);
    MUST(weft_process_wait(p, &status) == 0 && status == 6);
    int grandchild = atoi(line);
    MUST(grandchild > 0 && !is_gone(grandchild) && kill(grandchild, SIGKILL) == 0 && soon_gone(grandchild));
    weft_process_close(&p);
    return 0;
}

START_TEST(run_reads_what_grandchildren_say_and_wait_does_not_wait_for_them)
{
    everywhere(outlived, NULL, _i);
}
END_TEST

static int stops(void *arg)
{
    struct waiting w = { .status = { 77 } };
    char line[8];
    siginfo_t si = { .si_pid = 0 };
    struct caller a;
    weft_scope s;
    (void)arg;
    w.p = set_up("echo ready; exec sleep 1000", (weft_process_options){ .in = 0 }, line, sizeof line);
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &a, wait_0, &w));
    MUST(weft_process_kill(w.p, SIGSTOP) == 0);
    MUST(waitid(P_PID, (id_t)weft_process_pid(w.p), &si, WSTOPPED) == 0 && si.si_code == CLD_STOPPED);
    MUST(still_waits(&a));
    MUST(weft_process_kill(w.p, SIGCONT) == 0);
    MUST(waitid(P_PID, (id_t)weft_process_pid(w.p), &si, WCONTINUED) == 0 && si.si_code == CLD_CONTINUED);
    MUST(still_waits(&a));
    MUST(weft_process_kill(w.p, 1000) == -EINVAL);
    MUST(weft_process_kill(w.p, 0) == 0);
    MUST(weft_process_kill(w.p, SIGKILL) == 0);
    MUST(result(&a) == 0 && w.status[0] == -SIGKILL);
    weft_ignore(weft_scope_end(&s, 0));
    weft_process_close(&w.p);
    return 0;
}

START_TEST(a_stop_is_no_end)
{
    everywhere(stops, NULL, _i % COUNT(workers));
}
END_TEST

/* -- many -- */

static int one_of_many(void *arg)
{
    weft_output r = { .status = 77 };
    char want[16], i = *(char *)arg;
    snprintf(want, sizeof want, "%d", i);
    int rc = weft_process_run(&r, ARGS("sh", "-c", "cat; exit $1", "sh", want), want, strlen(want), 0, NULL);
    MUST(rc == 0 && r.status == i && r.out && strcmp(r.out, want) == 0);
    weft_output_free(&r);
    return rc;
}

static int many(void *arg)
{
    char i[100];
    (void)arg;
    for (int k = 0; k < COUNT(i); k++)
        i[k] = (char)k;
    return weft_gather(i, (size_t)SCALED(100, 50, 30), 1, one_of_many, NULL);
}

START_TEST(a_hundred_children_at_once)
{
    everywhere(many, NULL, _i % COUNT(workers));
}
END_TEST

/* Many tasks wait for, signal and look at the same child while it ends. */
static int signal_until_gone(void *arg)
{
    int rc, status = 0;
    while ((rc = weft_process_kill(arg, 0)) == 0)
        MUST(weft_process_wait(arg, &status) == 0 && status == 0);
    return rc == -ESRCH ? 0 : rc;
}

static int ends_among_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < SCALED(20, 10, 6); i++) {
        weft_process *p = NULL;
        weft_scope s;
        MUST(weft_process_open(&p, ARGS("true"), &(weft_process_options){ .new_group = i % 2 }) == 0);
        weft_scope_begin(&s, LIMIT);
        for (int k = 0; k < 8; k++)
            weft_spawn(&s, signal_until_gone, p);
        MUST(weft_scope_end(&s, 0) == 0);
        weft_process_close(&p);
    }
    return 0;
}

START_TEST(who_signals_and_who_reaps_do_not_miss_each_other)
{
    everywhere(ends_among_many, NULL, _i % COUNT(workers));
}
END_TEST

/* -- shortages -- */

static int without_descriptors(void *arg)
{
    struct rlimit before, now;
    weft_output r;
    (void)arg;
    weft_process *p = NULL;
    MUST(weft_process_open(&p, ARGS("true"), NULL) == 0); /* the pool has its thread */
    MUST(weft_process_wait(p, NULL) == 0);
    weft_process_close(&p);
    getrlimit(RLIMIT_NOFILE, &before);
    int free_one = dup(0), rc = -1, refused = 0;
    close(free_one);
    for (int most = free_one; most < free_one + 16; most++) {
        now = before;
        now.rlim_cur = (rlim_t)most;
        setrlimit(RLIMIT_NOFILE, &now);
        rc = weft_process_run(&r, ARGS("true"), "x", 1, 0, NULL);
        if (rc == 0)
            weft_output_free(&r);
        MUST(rc == 0 || rc == -EMFILE);
        refused += rc != 0;
    }
    setrlimit(RLIMIT_NOFILE, &before);
    MUST(rc == 0 && refused > 3);
    return 0;
}

START_TEST(without_descriptors_nothing_is_left)
{
    everywhere(without_descriptors, NULL, _i);
}
END_TEST

static void without_processes(void *arg)
{
    weft_output r;
    (void)arg;
    /* Somebody who is not root, of whom there is one process already. */
    if (setgid(54321) < 0 || setuid(54321) < 0)
        _exit(77);
    setrlimit(RLIMIT_NPROC, &(struct rlimit){ 1, 1 });
    _exit(weft_process_run(&r, ARGS("true"), NULL, 0, 0, NULL) == -EAGAIN ? 0 : 1);
}

START_TEST(without_processes_it_is_told)
{
    struct death d = die(without_processes, NULL);
    if (d.status == 77) {
        printf("skipped: not root, so nobody else can be become\n");
        return;
    }
    ck_assert_int_eq(d.status, 0);
}
END_TEST

static int without_memory(void *arg)
{
    weft_output r;
    int rc = -ENOMEM;
    (void)arg;
    weft_process *p = NULL;
    MUST(weft_process_open(&p, ARGS("true"), NULL) == 0);
    MUST(weft_process_wait(p, NULL) == 0);
    weft_process_close(&p);
    for (long n = 1; n < 50 && rc == -ENOMEM; n++) {
        weft__fault_set(WEFT__FAULT_ALLOC, n, 1, -ENOMEM);
        rc = weft_process_run(&r, SHELL("cat; echo 1"), "x", 1, 0, NULL);
        weft__fault_clear();
    }
    MUST(rc == 0);
    if (rc == 0)
        weft_output_free(&r);
    return 0;
}

START_TEST(without_memory_nothing_is_left)
{
    everywhere(without_memory, NULL, _i);
}
END_TEST

static int taken_by_another(void *arg)
{
    weft_process *p = NULL;
    int status;
    (void)arg;
    MUST(weft_process_open(&p, ARGS("true"), NULL) == 0);
    MUST(waitpid(weft_process_pid(p), &status, 0) == weft_process_pid(p));
    MUST(weft_process_wait(p, &status) == -ECHILD);
    MUST(weft_process_kill(p, SIGKILL) == -ESRCH);
    weft_process_close(&p);
    return 0;
}

START_TEST(a_child_that_another_waited_for_is_told)
{
    everywhere(taken_by_another, NULL, _i);
}
END_TEST

/* A child of this process that was forked beside a runtime has no children, and ends none of its parent's. */
static int in_a_fork(void *arg)
{
    weft_process *p = NULL;
    int status = -1;
    (void)arg;
    MUST(weft_process_open(&p, ARGS("sleep", "1000"), NULL) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        weft_process *q = p;
        weft_output r;
        bool ok = weft_process_wait(p, NULL) == -ECHILD && weft_process_kill(p, SIGKILL) == -ECHILD &&
                  weft_process_open(&q, ARGS("true"), NULL) == -ECHILD &&
                  weft_process_run(&r, ARGS("true"), NULL, 0, 0, NULL) == -ECHILD;
        weft_process_close(&q);
        _exit(ok ? 0 : 1);
    }
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
    MUST(weft_process_kill(p, SIGTERM) == 0 && weft_process_wait(p, &status) == 0 && status == -SIGTERM);
    weft_process_close(&p);
    return 0;
}

START_TEST(a_forked_child_is_refused)
{
    everywhere(in_a_fork, NULL, _i % COUNT(workers));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("process");
    TCase *tc = add_case(s, "start");
    tcase_add_loop_test(tc, a_child_ends_with_its_status_or_its_signal, 0, PLACES);
    tcase_add_test(tc, a_worker_that_has_something_else_to_do_leaves_it_to_the_lane);
    tcase_add_loop_test(tc, a_program_that_cannot_be_run_is_told_by_its_errno, 0, PLACES);
    tcase_add_test(tc, bad_arguments_are_told);
    tcase_add_loop_test(tc, arguments_environment_folder_and_descriptors_are_as_asked, 0, PLACES);
    tcase_add_loop_test(tc, limits_are_as_asked, 0, PLACES);
    tcase_add_loop_test(tc, no_descriptor_and_no_handler_is_inherited, 0, PLACES);
    tcase_add_test(tc, no_handler_of_the_parent_runs_in_a_child);
    tcase_add_loop_test(tc, pipes_are_read_and_written_like_any_descriptor, 0, PLACES);
    tcase_add_loop_test(tc, its_input_may_be_closed_by_many_at_once, 0, COUNT(workers));
    if (forking()) {
        tcase_add_test(tc, pipes_may_have_the_numbers_of_the_standard_descriptors);
        tcase_add_test(tc, what_is_closed_here_is_closed_there);
    }
    tc = add_case(s, "run");
    tcase_add_loop_test(tc, ten_mebibytes_go_in_and_come_out_twice, 0, PLACES);
    tcase_add_loop_test(tc, more_than_the_limit_is_told_and_ends_the_child, 0, PLACES);
    tcase_add_loop_test(tc, run_reads_what_grandchildren_say_and_wait_does_not_wait_for_them, 0, PLACES);
    tc = add_case(s, "end");
    tcase_add_loop_test(tc, deadlines_end_run_and_wait_and_run_ends_its_child, 0, PLACES);
    tcase_add_loop_test(tc, a_cancelled_wait_leaves_the_child_and_the_other_waiters, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_wait_that_is_cancelled_as_it_begins_leaves_the_child, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, a_cancelled_run_ends_its_child, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_child_nobody_waited_for_is_ended_and_reaped, 0, PLACES);
    tcase_add_loop_test(tc, a_group_gets_what_is_sent_to_its_first, 0, PLACES);
    tcase_add_loop_test(tc, a_group_is_left_alone_that_was_to_be_or_that_another_has_waited_for, 0, PLACES);
    tcase_add_loop_test(tc, a_stop_is_no_end, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_child_that_another_waited_for_is_told, 0, PLACES);
    tc = add_case(s, "many");
    tcase_add_loop_test(tc, a_hundred_children_at_once, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_signals_and_who_reaps_do_not_miss_each_other, 0, COUNT(workers));
    tc = add_case(s, "shortages");
    tcase_add_loop_test(tc, without_descriptors_nothing_is_left, 0, PLACES);
    tcase_add_loop_test(tc, without_memory_nothing_is_left, 0, PLACES);
    if (forking()) {
        tcase_add_test(tc, without_processes_it_is_told);
        tcase_add_loop_test(tc, a_forked_child_is_refused, 0, COUNT(workers));
    }
    return run_suite(s);
}
