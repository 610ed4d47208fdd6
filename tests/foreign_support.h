/* tests/foreign_support.h - programs that we did not write, for tests: found, started, heard and ended.
 *
 * A program is started by the test's own thread, while there is no runtime, and ends with that thread (PR_SET_PDEATHSIG): so
 * it is gone also if an assertion fails or the time is over. What it says on standard error is where it tells its port, and
 * that it is there: nothing waits "long enough". Whoever has started it may be killed, nobody else. */
#ifndef WEFT_TESTS_FOREIGN_SUPPORT_H
#define WEFT_TESTS_FOREIGN_SUPPORT_H

#include "sync_support.h"

#include <sys/prctl.h>

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define SHELL(text) ARGS("sh", "-c", text)

/* -- whether it is there -- */

static inline bool has_program(const char *name)
{
    const char *path = getenv("PATH");
    char full[512];
    for (const char *at = path ? path : "/usr/bin:/bin"; *at;) {
        int n = (int)strcspn(at, ":");
        snprintf(full, sizeof full, "%.*s/%s", n, at, name);
        if (access(full, X_OK) == 0)
            return true;
        at += n + (at[n] == ':');
    }
    return false;
}

/* Adds the test, once for each number, or says that it is left out. */
static inline void add_if_there(TCase *tc, const char *program, const TTest *test, int n)
{
    if (has_program(program))
        tcase_add_loop_test(tc, test, 0, n);
    else
        fprintf(stderr, "skipped: no %s\n", program);
}

/* -- one that runs -- */

struct foreign {
    pid_t pid;
    int in, out, err; /* our ends of its pipes; -1: closed */
    char said[8192];  /* on standard error, as far as it was heard */
    size_t bytes;
};

static inline void foreign_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline void foreign_child(const int *fds, const char *const *argv, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int third = fds[3] < 0 ? -1 : fcntl(fds[3], F_DUPFD_CLOEXEC, 4); /* 3 may be one of the others */
    if (dup2(fds[0], 0) < 0 || dup2(fds[1], 1) < 0 || dup2(fds[2], 2) < 0 || (third >= 0 && dup2(third, 3) < 0))
        _exit(126);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* Starts it, with pipes at 0, 1 and 2, and a descriptor of ours at 3 unless that is negative. */
NOINLINE static void foreign_start_with(struct foreign *f, const char *const *argv, int third)
{
    int in[2], out[2], err[2];
    pid_t parent = getpid();
    memset(f, 0, sizeof *f);
    ck_assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    f->pid = fork();
    ck_assert_int_ge(f->pid, 0);
    if (f->pid == 0)
        foreign_child((const int[]){ in[0], out[1], err[1], third }, argv, parent);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    f->in = in[1];
    f->out = out[0];
    f->err = err[0];
}

NOINLINE static void foreign_start(struct foreign *f, const char *const *argv)
{
    foreign_start_with(f, argv, -1);
}

/* Hears what it says on standard error until `text` is among it; what follows the text, or NULL. */
NOINLINE static const char *foreign_says(struct foreign *f, const char *text)
{
    int64_t end = weft_after(LIMIT);
    for (;;) {
        const char *at = strstr(f->said, text);
        if (at && strchr(at, '\n'))
            return at + strlen(text);
        struct pollfd p = { .fd = f->err, .events = POLLIN };
        if (weft_now() > end || f->bytes + 1 >= sizeof f->said || poll(&p, 1, 100) < 0)
            return NULL;
        int n = p.revents ? sys_read(f->err, f->said + f->bytes, sizeof f->said - 1 - f->bytes) : -EAGAIN;
        if (n == 0)
            return NULL;
        f->bytes += n > 0 ? (size_t)n : 0;
        f->said[f->bytes] = 0;
    }
}

/* Reads all it writes to standard output, up to its end; how many bytes. */
NOINLINE static size_t foreign_output(struct foreign *f, char *to, size_t bytes)
{
    int64_t end = weft_after(LIMIT);
    size_t n = 0;
    while (weft_now() < end && n + 1 < bytes) {
        struct pollfd p = { .fd = f->out, .events = POLLIN };
        int got = poll(&p, 1, 100) > 0 ? sys_read(f->out, to + n, bytes - 1 - n) : -EAGAIN;
        if (got == 0)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    to[n] = 0;
    return n;
}

/* How it ended: what it exited with, -N by signal N; it has LIMIT to do so, and is killed then (-SIGKILL). */
NOINLINE static int foreign_ends(struct foreign *f)
{
    int64_t end = weft_after(LIMIT);
    int status = 0;
    while (waitpid(f->pid, &status, WNOHANG) == 0) {
        if (weft_now() > end)
            kill(f->pid, SIGKILL);
        usleep(500);
    }
    f->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Ends it, if it has not come to its end. */
NOINLINE static void foreign_stop(struct foreign *f)
{
    if (f->pid > 0) {
        kill(f->pid, SIGKILL);
        (void)foreign_ends(f);
    }
    foreign_close(&f->in);
    foreign_close(&f->out);
    foreign_close(&f->err);
}

/* Stops it, so that it neither reads nor writes, until SIGCONT. */
NOINLINE static bool foreign_freeze(pid_t pid)
{
    siginfo_t si = { .si_pid = 0 };
    return kill(pid, SIGSTOP) == 0 && waitid(P_PID, (id_t)pid, &si, WSTOPPED) == 0;
}

/* socat with two addresses, the first of which listens, and where: in the form of net.h, for 127.0.0.1 and [::1]. */
NOINLINE static void socat_start(struct foreign *f, const char *const *argv, char *where, size_t bytes)
{
    foreign_start(f, argv);
    const char *at = foreign_says(f, "listening on ");
    ck_assert_msg(at != NULL, "socat does not listen: %s", f->said);
    at = strchr(at, ' '); /* "AF=2 127.0.0.1:1234" */
    ck_assert_ptr_nonnull(at);
    snprintf(where, bytes, "%.*s", (int)strcspn(at + 1, "\n"), at + 1);
}

/* A path of this process's own. */
static inline const char *own_path(char path[80], const char *name)
{
    snprintf(path, 80, "/tmp/weft-foreign-%d-%s", (int)getpid(), name);
    return path;
}

#endif
