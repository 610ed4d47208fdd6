/* base/quiet.c - errors that the kernel would send a signal with: SIGPIPE with -EPIPE, SIGXFSZ with -EFBIG.
 *
 * Owns      nothing.
 * Callers   whoever writes to what is no socket (for those there is MSG_NOSIGNAL), on any thread.
 * Holds     Q1  the signal is sent to the calling thread, within the call. So it is blocked there, and taken back before it is
 *               let in again. Threads of weft's own block all signals anyway; on those it is only taken back, since exec would
 *               hand it on.
 *           Q2  what was pending before stays, whoever it is from: then nothing is taken back.
 *           Q3  what somebody sends to the thread meanwhile looks otherwise, and is sent again as it was; what is sent to the
 *               process is behind the thread's own. But who comes after the kernel's own is one with it, as ever with signals.
 *           Q4  a write that waits may be half done when its reader goes: then the signal comes with a count.
 * Source    the technique is that of libraries that may not ignore SIGPIPE for the program: POSIX.1, sigtimedwait.
 * Tested    tests/quiet_test.c */
#include "base/quiet.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/errno.h"
#include "base/fork.h"

static int signal_of(long rc)
{
    return rc == -EPIPE ? SIGPIPE : rc == -EFBIG ? SIGXFSZ : 0;
}

static void set_of(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGPIPE);
    sigaddset(set, SIGXFSZ);
}

void weft__quiet_begin(struct weft__quiet *q)
{
    sigset_t set;
    q->blocks = !weft__fork_mask_used();
    if (!q->blocks)
        return;
    set_of(&set);
    pthread_sigmask(SIG_BLOCK, &set, &q->before);
    sigpending(&q->pending);
}

/* Q1, Q3. By the kernel itself, since sigtimedwait(3) does not tell pthread_kill from kill. */
static void take_back(int number)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, number);
    if (syscall(SYS_rt_sigtimedwait, &set, &info, &(struct timespec){ 0 }, (size_t)_NSIG / 8) != number)
        return;
    bool own = info.si_code == SI_USER && (info.si_pid == 0 || info.si_pid == getpid());
    if (!own)
        (void)syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)syscall(SYS_gettid), number, &info);
}

long weft__quiet_end(const struct weft__quiet *q, long rc)
{
    int number = signal_of(rc);
    if (number && !(q->blocks && sigismember(&q->pending, number))) /* Q2 */
        take_back(number);
    if (q->blocks)
        pthread_sigmask(SIG_SETMASK, &q->before, NULL);
    return rc;
}

/* Q4 */
static bool reader_has_gone(int fd)
{
    struct pollfd p = { .fd = fd };
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

long weft__quiet_write(int fd, const struct iovec *v, int n)
{
    struct weft__quiet q;
    size_t all = 0;
    for (int i = 0; i < n; i++)
        all += v[i].iov_len;
    weft__quiet_begin(&q);
    long done = weft__or_errno(n == 1 ? write(fd, v->iov_base, v->iov_len) : writev(fd, v, n));
    bool half = done >= 0 && (size_t)done < all && reader_has_gone(fd);
    weft__quiet_end(&q, half ? -EPIPE : done);
    return done;
}
