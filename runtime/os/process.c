/* os/process.c - programs as children.
 *
 * Owns      a child from its start until it was waited for: its pidfd, our ends of its pipes, how it ended.
 * Callers   tasks and plain threads, several at once.
 * Holds     P1  a child is started by clone with CLONE_VM | CLONE_VFORK: nothing of the parent is copied, so it takes as
 *               long for a large one as for a small one; and the child writes the errno of a failed exec where the
 *               parent finds it. The calling thread alone stands still meanwhile, with all signals blocked, until exec.
 *               A file system may be slow, so that is one of the files' lane; or the worker, if it has nothing else to do.
 *               The parent's signal handlers must not run in the child: the kernel takes them away (CLONE_CLEAR_SIGHAND),
 *               or, where it cannot, the child does, signal by signal.
 *           P2  the child allocates nothing, takes no lock, and calls the kernel by syscall(2) alone: memory is the
 *               parent's, and a sanitizer's idea of sigaction or dup2 would be recorded there.
 *           P3  its number is another's at the earliest when it was waited for (REAPED). A pidfd cannot miss; a group has
 *               nothing but a number, so who signals one is counted, and while anybody is, nobody reaps: the last one
 *               out does. Who comes when its end is known does not go in, so that there is a last one. The pidfd tells
 *               before if somebody else has waited for it.
 *           P4  how it ended is written down before it is reaped. So who finds no child any more finds that, or the child
 *               was taken by somebody else.
 *           P5  a child shares O_NONBLOCK with whoever gave it a descriptor, and few programs know what to do with -EAGAIN.
 *               So of a pipe that does not wait, as our ends do not, it gets a file of its own. Sockets have no such way.
 * Dropped   posix_spawn: it gives no pidfd before glibc 2.39, so between it and pidfd_open the number may be another's, if
 *           the program waits for any child. fork: it copies the page tables, and so takes the longer the larger the
 *           parent is. Dispositions that are all the default (64 system calls, 9 us of 130; and who ignores SIGHUP by
 *           nohup(1) means his children). Unix sockets instead of pipes: a child cannot open /dev/stdin then.
 * Tested    tests/process_test.c, tests/foreign_process_test.c */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weft/io.h>
#include <weft/scope.h>
#include <weft/time.h>

#include "base/errno.h"
#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "machine/clone.h"
#include "os/lane.h"
#include "os/process.h"

enum { STACK_BYTES = 32 * 1024, SIGNALS = 64, FEW_FDS = 65536 };

#define REAPED (UINT32_C(1) << 31)
#define ENDED (UINT64_C(1) << 32)
#define LOST (UINT64_C(1) << 33)

/* ---- in the child (P2) */

/* Written by the parent, but for `error`. */
struct start {
    char *const *candidates; /* paths, NULL at the end */
    char *const *argv, *const *env;
    const char *cwd;
    int given[WEFT__STDIO]; /* -1: as it is */
    bool new_group;
    const weft_rlimit *limits;
    int limits_n;
    uint64_t mask;
    bool has_handlers; /* those of the parent */
    int *error; /* in memory of both */
};

#if defined(__GNUC__)
#define PLAIN __attribute__((no_sanitize_address, no_sanitize_thread, noinline))
#else
#define PLAIN
#endif

/* Every one is its number in the child; those below 3 are moved out of the way first. What is the caller's own goes as it
 * goes with any exec: if it is close-on-exec, it may be one of weft's, where a standard descriptor was closed. */
PLAIN static int place_descriptors(struct start *s)
{
    for (int i = 0; i < WEFT__STDIO; i++)
        if (s->given[i] >= 0 && s->given[i] < WEFT__STDIO && s->given[i] != i) {
            long fd = syscall(SYS_fcntl, s->given[i], F_DUPFD_CLOEXEC, WEFT__STDIO);
            if (fd < 0)
                return weft__errno();
            s->given[i] = (int)fd;
        }
    for (int i = 0; i < WEFT__STDIO; i++) {
        if (s->given[i] == i)
            (void)syscall(SYS_fcntl, i, F_SETFD, 0);
        else if (s->given[i] >= 0 && syscall(SYS_dup3, s->given[i], i, 0) < 0)
            return weft__errno();
    }
    return 0;
}

/* prlimit64 takes two numbers of 64 bits, as they lie in a weft_rlimit. */
PLAIN static int set_limits(const struct start *s)
{
    _Static_assert(offsetof(weft_rlimit, hard) == offsetof(weft_rlimit, soft) + sizeof(uint64_t), "struct rlimit64");
    for (int i = 0; i < s->limits_n; i++)
        if (syscall(SYS_prlimit64, 0, s->limits[i].resource, &s->limits[i].soft, NULL) < 0)
            return weft__errno();
    return 0;
}

PLAIN static void close_others(void)
{
    struct rlimit most = { 0 };
    if (syscall(SYS_close_range, WEFT__STDIO, ~0u, 0) == 0)
        return;
    (void)syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &most);
    for (unsigned fd = WEFT__STDIO; fd < most.rlim_cur && fd < FEW_FDS; fd++)
        (void)syscall(SYS_close, fd);
}

/* The kernel's struct sigaction, which begins with the handler. */
struct disposition {
    uint64_t words[4];
};

PLAIN static void reset_signals(const struct start *s)
{
    static const struct disposition by_default;
    struct disposition is = by_default;
    for (int signo = 1; s->has_handlers && signo <= SIGNALS; signo++)
        if (syscall(SYS_rt_sigaction, signo, NULL, &is, sizeof s->mask) == 0 && is.words[0] != (uintptr_t)SIG_IGN)
            (void)syscall(SYS_rt_sigaction, signo, &by_default, NULL, sizeof s->mask);
    /* A program that ignores these two does so for itself; few others check for the errors that come instead. */
    (void)syscall(SYS_rt_sigaction, SIGPIPE, &by_default, NULL, sizeof s->mask);
    (void)syscall(SYS_rt_sigaction, SIGXFSZ, &by_default, NULL, sizeof s->mask);
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &s->mask, NULL, sizeof s->mask);
}

/* As execvp goes on: a folder without it, or where it must not be run, is passed over. */
PLAIN static int execute(const struct start *s)
{
    int error = ENOENT;
    for (char *const *path = s->candidates; *path; path++) {
        (void)syscall(SYS_execve, *path, s->argv, s->env);
        int e = weft__errno();
        if (e == EACCES)
            error = e;
        else if (e != ENOENT && e != ENOTDIR)
            return e;
        else if (!path[1] && path == s->candidates)
            return e;
    }
    return error;
}

PLAIN static int in_child(void *arg)
{
    struct start *s = arg;
    int rc = 0;
    if (s->new_group && syscall(SYS_setpgid, 0, 0) < 0)
        rc = weft__errno();
    if (rc == 0)
        rc = place_descriptors(s);
    if (rc == 0 && s->cwd && syscall(SYS_chdir, s->cwd) < 0)
        rc = weft__errno();
    if (rc == 0) {
        close_others(); /* before the limits: it may look at one of them */
        rc = set_limits(s);
    }
    if (rc == 0) {
        reset_signals(s);
        rc = execute(s);
    }
    *s->error = rc;
    (void)syscall(SYS_exit_group, 127);
    return 127;
}

/* ---- starting */

/* The paths that argv[0] may be at, in one block, to be freed. NULL: no memory. */
static char **candidates_of(const char *name)
{
    const char *path = strchr(name, '/') ? NULL : getenv("PATH");
    if (!path && !strchr(name, '/'))
        path = "/usr/local/bin:/bin:/usr/bin";
    size_t n = 1, name_bytes = strlen(name) + 1;
    for (const char *c = path; c && *c; c++)
        n += *c == ':';
    size_t bytes = (n + 1) * sizeof(char *) + n * (name_bytes + 1) + (path ? strlen(path) : 0) + 1;
    char **list = weft__mem_zeroed(bytes);
    if (!list)
        return NULL;
    char *text = (char *)(list + n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t folder = path ? strcspn(path, ":") : 0;
        list[i] = text;
        if (folder > 0) { /* an empty one is where the caller is */
            memcpy(text, path, folder);
            text += folder;
            *text++ = '/';
        }
        memcpy(text, name, name_bytes);
        text += name_bytes;
        if (path)
            path += folder + (path[folder] == ':');
    }
    return list;
}

/* What weft_process_open hands to a thread of the lane. */
struct opening {
    struct weft_process *p;
    struct start start;
    const weft_process_options *o;
    void *stack;
    int theirs[WEFT__STDIO]; /* to be closed here; -1: none */
    int error;         /* of the child */
};

/* With another number, if it has one of the child's, as where standard input is closed: the child would take it for the
 * caller's own. The new one, or what there is instead: then it was closed. */
static int above_stdio(int fd)
{
    if (fd < 0 || fd >= WEFT__STDIO)
        return fd;
    int rc = weft__or_errno(fcntl(fd, F_DUPFD_CLOEXEC, WEFT__STDIO));
    close(fd);
    return rc;
}

static int make_pipe(struct opening *w, int i)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -weft__errno();
    int mine = above_stdio(fds[i == WEFT__STDIN]), theirs = above_stdio(fds[i != WEFT__STDIN]);
    w->theirs[i] = theirs < 0 ? -1 : theirs;
    if (mine < 0)
        return mine;
    /* Not "owned": those are sockets. What was known of the number is void. */
    int rc = theirs < 0 ? theirs : fcntl(mine, F_SETFL, O_NONBLOCK) < 0 ? -weft__errno() : weft__slot_adopt(mine, 0);
    if (rc < 0) {
        close(mine);
        return rc;
    }
    ati_store(&w->p->fd[i], (uint32_t)mine);
    return 0;
}

/* P5. -1: as it is; or a pipe opened once more, so that it waits; -EMFILE, -ENFILE. */
static int open_again(int fd)
{
    struct stat st;
    char path[32];
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || !(flags & O_NONBLOCK) || fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    /* O_NONBLOCK: a named one must not wait for its other end. */
    int again = above_stdio(weft__or_errno(open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC)));
    if (again < 0)
        return again == -EMFILE || again == -ENFILE ? again : -1;
    (void)fcntl(again, F_SETFL, flags & ~O_NONBLOCK);
    return again;
}

static int make_stdio(struct opening *w, int i, int wish)
{
    int rc = 0;
    if (wish > 0 && (w->theirs[i] = open_again(wish)) < -1) {
        rc = w->theirs[i];
    } else if (wish == WEFT_STDIO_PIPE) {
        rc = make_pipe(w, i);
    } else if (wish == WEFT_STDIO_NULL) {
        int fd = above_stdio(weft__or_errno(open("/dev/null", O_RDWR | O_CLOEXEC)));
        rc = fd < 0 ? fd : 0;
        w->theirs[i] = fd < 0 ? -1 : fd;
    }
    if (wish == WEFT_STDIO_OUT)
        w->start.given[i] = w->start.given[WEFT__STDOUT] < 0 ? WEFT__STDOUT : w->start.given[WEFT__STDOUT];
    else
        w->start.given[i] = w->theirs[i] < 0 && wish > 0 ? wish : w->theirs[i];
    if (wish > 0 && fcntl(wish, F_GETFD) < 0)
        rc = -weft__errno();
    return rc;
}

/* ThreadSanitizer keeps its clocks in the thread that stands still, and loses them to a child that shares its memory: there
 * it is a copy, but for the word of the error. */
#ifdef WEFT__TSAN
enum { SHARED = 0 };
#else
enum { SHARED = CLONE_VM };
#endif

static int *error_word(void)
{
    int *word = mmap(NULL, sizeof *word, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return word == MAP_FAILED ? NULL : word;
}

/* Waits for it whatever interrupts that; the child is reaped, unless the flags say otherwise. 0, or the errno. */
static int wait_for(int pidfd, siginfo_t *si, int flags)
{
    int rc;
    do {
        rc = waitid(P_PIDFD, (id_t)pidfd, si, WEXITED | flags) < 0 ? weft__errno() : 0;
    } while (rc == EINTR);
    return rc;
}

/* Its number, or -errno. */
static int begin_child(struct opening *w, int *pidfd)
{
    enum { CLEAR_SIGHAND = 32 }; /* CLONE_CLEAR_SIGHAND is a bit above those of an int; Linux 5.5 */
    const int flags = SHARED | CLONE_VFORK | CLONE_PIDFD;
    const struct weft__clone_args args = { .flags = (uint64_t)flags | UINT64_C(1) << CLEAR_SIGHAND,
        .pidfd = (uintptr_t)pidfd, .exit_signal = SIGCHLD, .stack = (uintptr_t)w->stack, .stack_bytes = STACK_BYTES };
    int pid = weft__clone3(&args, sizeof args, in_child, &w->start);
    if (pid != -ENOSYS && pid != -EINVAL && pid != -EPERM) /* an older kernel, an emulator, a filter */
        return pid;
    w->start.has_handlers = true;
    return weft__or_errno(clone(in_child, (char *)w->stack + STACK_BYTES, flags | SIGCHLD, &w->start, pidfd));
}

/* P1. */
static int clone_child(struct opening *w)
{
    uint64_t all = UINT64_MAX, before;
    sigset_t mask;
    int pidfd = -1;
    if (!(w->start.error = SHARED ? &w->error : error_word()))
        return -ENOMEM;
    weft__fork_mask(&mask);
    memcpy(&w->start.mask, &mask, sizeof w->start.mask);
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all); /* libc's own signals, too */
    int pid = begin_child(w, &pidfd);
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    int error = *w->start.error;
    if (!SHARED)
        munmap(w->start.error, sizeof error);
    if (pid < 0)
        return pid;
    if (error != 0) {
        siginfo_t si;
        (void)wait_for(pidfd, &si, 0);
        close(pidfd);
        return -error;
    }
    w->p->pid = pid;
    w->p->pidfd = pidfd;
    return 0;
}

void weft__process_close_pipe(struct weft_process *p, int i)
{
    int fd = (int)ati_swap(&p->fd[i], (uint32_t)-1);
    if (fd >= 0)
        weft_ignore(weft_close(fd));
}

/* On a thread of the lane, the worker, or the plain thread that calls. */
static int start(void *arg)
{
    struct opening *w = arg;
    const int wishes[WEFT__STDIO] = { w->o->in, w->o->out, w->o->err };
    int rc = 0;
    for (int i = 0; rc == 0 && i < WEFT__STDIO; i++)
        rc = make_stdio(w, i, wishes[i]);
    if (rc == 0)
        rc = clone_child(w);
    for (int i = 0; i < WEFT__STDIO; i++)
        if (w->theirs[i] >= 0)
            close(w->theirs[i]);
    if (rc == 0 && (rc = weft__slot_adopt(w->p->pidfd, 0)) < 0) {
        siginfo_t si;
        (void)syscall(SYS_pidfd_send_signal, w->p->pidfd, SIGKILL, NULL, 0);
        (void)wait_for(w->p->pidfd, &si, 0);
        close(w->p->pidfd);
    }
    for (int i = 0; rc < 0 && i < WEFT__STDIO; i++)
        weft__process_close_pipe(w->p, i);
    return rc;
}

bool weft__process_makes_sense(const char *const *argv, const weft_process_options *o)
{
    return weft__reserved_zero(o) && argv && argv[0] && argv[0][0] && o->term_grace >= 0 && o->in >= WEFT_STDIO_NULL &&
           o->out >= WEFT_STDIO_NULL && o->err >= WEFT_STDIO_OUT && o->limits_n >= 0 &&
           (o->limits || o->limits_n == 0);
}

/* All that are open. */
static struct weft__lock open_lock;
static struct weft__link all_open;

static void enlist(struct weft_process *p)
{
    weft__origin_set(&p->origin);
    weft__lock(&open_lock);
    if (!all_open.next)
        list_init(&all_open);
    list_push_tail(&all_open, &p->link);
    weft__unlock(&open_lock);
}

static void strike_off(struct weft_process *p)
{
    weft__lock(&open_lock);
    list_remove(&p->link);
    weft__unlock(&open_lock);
}

/* One of that runtime's, which is none of them from now on. Its number; 0: there is none. */
static int take_left(uint64_t runtime, struct weft__origin *origin)
{
    int pid = 0;
    weft__lock(&open_lock);
    for (struct weft__link *l = all_open.next; l && l != &all_open && pid == 0; l = l->next) {
        struct weft_process *p = container_of(l, struct weft_process, link);
        if (at_load(&p->origin.runtime) != runtime)
            continue;
        *origin = p->origin;
        at_store(&p->origin.runtime, 0);
        pid = p->pid;
    }
    weft__unlock(&open_lock);
    return pid;
}

void weft__processes_left(uint64_t runtime, weft__tell_left *tell, void *arg)
{
    struct weft__origin origin;
    for (int pid; (pid = take_left(runtime, &origin)) != 0;)
        tell(&origin, pid, arg); /* without the lock: the program's function may close it */
}

int weft_process_open(weft_process **out, const char *const *argv, const weft_process_options *o)
{
    static const weft_process_options defaults;
    o = o ? o : &defaults;
    if (!out || !weft__process_makes_sense(argv, o))
        return -EINVAL;
    int rc = weft__lane_enter();
    if (rc < 0)
        return rc;
    struct weft_process *p = weft__mem_zeroed(sizeof *p);
    void *stack = weft__mem_aligned(64, STACK_BYTES);
    char **candidates = candidates_of(argv[0]);
    rc = -ENOMEM;
    if (p && stack && candidates) {
        struct opening w = { .p = p, .o = o, .stack = stack, .theirs = { -1, -1, -1 },
            .start = { .candidates = candidates, .argv = (char *const *)(uintptr_t)argv, .cwd = o->cwd,
                .env = o->env ? (char *const *)(uintptr_t)o->env : environ, .given = { -1, -1, -1 },
                .new_group = o->new_group, .limits = o->limits, .limits_n = o->limits_n } };
        for (int i = 0; i < WEFT__STDIO; i++)
            ati_store(&p->fd[i], (uint32_t)-1);
        p->new_group = o->new_group;
        p->term_grace = o->term_grace;
        rc = weft__lane_call_or_here(WEFT__LANE_FILES, start, &w);
    }
    weft__mem_free(candidates);
    weft__mem_free(stack);
    if (rc < 0) {
        weft__mem_free(p);
        return rc;
    }
    enlist(p);
    *out = p;
    return rc;
}

/* ---- its end */

/* P3. Nobody signals the group, or who does so will see to it. */
static void reap(struct weft_process *p)
{
    siginfo_t si;
    at_fence_full(); /* meets the one in signal_group: `ended` is written */
    if (ati_cas(&p->hands, 0, REAPED))
        (void)wait_for(p->pidfd, &si, WNOHANG);
}

/* How it ended, which stays to be reaped; 0: it has not. */
static uint64_t look(struct weft_process *p, int flags)
{
    siginfo_t si = { .si_pid = 0 };
    uint64_t known = at_load_acquire(&p->ended);
    if (known)
        return known;
    int rc = wait_for(p->pidfd, &si, WNOWAIT | flags);
    if (rc == 0 && si.si_pid == 0)
        return 0;
    int status = si.si_code == CLD_EXITED ? si.si_status : -si.si_status;
    uint64_t now = rc == 0 ? ENDED | (uint32_t)status : ENDED | LOST;
    /* release (P4): meets the acquire above. The first one counts: who saw the child wrote before it was reaped. */
    at_cas(&p->ended, 0, now);
    return at_load_acquire(&p->ended);
}

int weft_process_wait(weft_process *p, int *status)
{
    uint64_t how;
    if (weft__forked)
        return -ECHILD;
    while ((how = look(p, WNOHANG)) == 0) {
        int rc = weft_wait_fd(p->pidfd, WEFT_READABLE);
        if (rc < 0)
            return rc;
    }
    reap(p);
    if (how & LOST)
        return -ECHILD;
    if (status)
        *status = (int)(uint32_t)how;
    return 0;
}

/* Somebody else has waited for it: its number may be another's. */
static bool is_lost(struct weft_process *p)
{
    siginfo_t si;
    return wait_for(p->pidfd, &si, WNOWAIT | WNOHANG) == ECHILD;
}

static int signal_group(struct weft_process *p, int signo)
{
    uint32_t n = ati_load(&p->hands);
    do {
        if (n & REAPED)
            return -ESRCH;
    } while (!ati_cas(&p->hands, n, n + 1) && ((n = ati_load(&p->hands)), true));
    int rc = is_lost(p) ? -ESRCH : kill(-p->pid, signo) < 0 ? -weft__errno() : 0;
    ati_add(&p->hands, (uint32_t)-1);
    at_fence_full(); /* meets the write of `ended` before reap: it found us counted, or we find it ended */
    if (at_load_acquire(&p->ended) && !(ati_load(&p->hands) & REAPED))
        reap(p);
    return rc;
}

static int send_signal(struct weft_process *p, int signo)
{
    if (p->new_group)
        return signal_group(p, signo);
    if (ati_load(&p->hands) & REAPED)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0) < 0 ? -weft__errno() : 0;
}

int weft_process_kill(weft_process *p, int signo)
{
    if (weft__forked)
        return -ECHILD;
    return at_load_acquire(&p->ended) ? -ESRCH : send_signal(p, signo); /* P3 */
}

bool weft__process_has_ended(struct weft_process *p, int *status)
{
    uint64_t how = look(p, WNOHANG);
    if (how != 0)
        *status = how & LOST ? INT_MIN : (int)(uint32_t)how;
    return how != 0;
}

bool weft__process_ends_within(struct weft_process *p, int64_t within, bool shielded)
{
    weft_scope s;
    if (shielded)
        weft_scope_begin_shield(&s, within);
    else
        weft_scope_begin(&s, within);
    while (look(p, WNOHANG) == 0 && weft_wait_fd(p->pidfd, WEFT_READABLE) >= 0)
        continue;
    weft_ignore(weft_scope_end(&s, 0));
    return look(p, WNOHANG) != 0;
}

/* Nobody has waited for it. */
static void end(struct weft_process *p)
{
    bool ended = false;
    if (p->term_grace > 0) {
        weft_ignore(send_signal(p, SIGTERM));
        weft_ignore(send_signal(p, SIGCONT)); /* who is stopped would not hear it */
        ended = weft__process_ends_within(p, p->term_grace, true);
    }
    if (!ended || (p->new_group && p->term_grace != WEFT_NEVER)) /* of a group, others may be left */
        weft_ignore(send_signal(p, SIGKILL));
    if (!ended && !weft__process_ends_within(p, WEFT_NEVER, true))
        (void)look(p, 0); /* waits cannot be had here: shields are broken, or there is no memory */
    reap(p);
}

void weft_process_close(weft_process **out)
{
    struct weft_process *p = out ? *out : NULL;
    if (!p)
        return;
    *out = NULL;
    if (weft__forked)
        return;
    strike_off(p);
    weft__process_close_pipe(p, WEFT__STDIN);
    if (!(ati_load(&p->hands) & REAPED))
        end(p);
    weft__process_close_pipe(p, WEFT__STDOUT);
    weft__process_close_pipe(p, WEFT__STDERR);
    weft_ignore(weft_close(p->pidfd));
    weft__mem_free(p);
}

/* ---- what it is */

int weft_process_pid(const weft_process *p)
{
    return p->pid;
}

static int pipe_of(const struct weft_process *p, int i)
{
    int fd = weft__process_fd(p, i);
    return fd < 0 ? -EBADF : fd;
}

int weft_process_in(weft_process *p)
{
    return pipe_of(p, WEFT__STDIN);
}

int weft_process_out(weft_process *p)
{
    return pipe_of(p, WEFT__STDOUT);
}

int weft_process_err(weft_process *p)
{
    return pipe_of(p, WEFT__STDERR);
}

void weft_process_close_in(weft_process *p)
{
    if (!weft__forked)
        weft__process_close_pipe(p, WEFT__STDIN);
}
