/* os/io.c - reading and writing any descriptor.
 *
 * A call tries first and waits for readiness when the kernel has nothing (-EAGAIN). How it asks the kernel not to
 * wait depends on the kind:
 *
 *     weft's own (net.h)      opened non-blocking: recv, send
 *     a foreign socket        MSG_DONTWAIT
 *     a foreign pipe, ...     RWF_NOWAIT where the kernel takes it; else readiness first, then the files' lane
 *     a terminal              the same, where it is opened once more, with O_NONBLOCK: being ready for a byte it would
 *                             wait with all of a long text, for as long as nobody reads, and could not be called off
 *     a regular file          RWF_NOWAIT, for what is in memory; else the files' lane
 *
 * so O_NONBLOCK of a descriptor that somebody else opened is never touched: it would change it for them, too.
 *
 * A write to anything but a socket would raise SIGPIPE or SIGXFSZ where it fails: base/quiet.c.
 *
 * Short reads: a read of one of our stream sockets that got less than it asked for has emptied it; the next read waits
 * without trying, unless an event carried a hang-up or an urgent byte, before which a read stops, or the kernel says that
 * it stopped behind descriptors (Unix sockets). Everything else is read to -EAGAIN. So an echo is one read and one write.
 * Plain threads wait by poll(2), in slices, so that their scopes' deadlines and cancels are seen.
 * Tested    tests/io_test.c, tests/cause_test.c, tests/foreign_tty_test.c, stress/sockets.c */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <weft/error.h>
#include <weft/io.h>
#include <weft/time.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fork.h"
#include "base/quiet.h"
#include "coord/await.h"
#include "os/lane.h"
#include "os/listener.h"
#include "os/ready.h"

enum { MOST = 0x7ffff000 };

#if defined(WEFT__TSAN) || defined(WEFT__ASAN)
#define WEFT__LIBC_CALLS
#endif

/* One transfer, in the form that every kind takes. */
struct transfer {
    int fd;
    enum weft__dir dir;
    const struct iovec *v;
    int n;
    size_t bytes;
    bool cut; /* a read stopped at a mark, and there may be more behind it */
    int result; /* of blocking_transfer */
};

/* recv(3) and send(3) are cancellation points of plain threads, for which they do two atomic operations each. A task is
 * never cancelled in that way, so the kernel is asked without them; but sanitizers look at what libc is asked. */
static long recv_now(int fd, const struct iovec *v)
{
#ifdef WEFT__LIBC_CALLS
    return recv(fd, v->iov_base, v->iov_len, MSG_DONTWAIT);
#else
    return syscall(SYS_recvfrom, fd, v->iov_base, v->iov_len, MSG_DONTWAIT, NULL, NULL);
#endif
}

static long recvmsg_now(int fd, struct msghdr *m)
{
#ifdef WEFT__LIBC_CALLS
    return recvmsg(fd, m, MSG_DONTWAIT);
#else
    return syscall(SYS_recvmsg, fd, m, MSG_DONTWAIT);
#endif
}

static long send_now(int fd, const struct iovec *v)
{
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
#ifdef WEFT__LIBC_CALLS
    return send(fd, v->iov_base, v->iov_len, flags);
#else
    return syscall(SYS_sendto, fd, v->iov_base, v->iov_len, flags, NULL, 0);
#endif
}

/* A Unix socket's read stops where descriptors came, or where another writer's bytes begin if SO_PASSCRED is set. As there is
 * no room for either, the kernel says so. */
static long recv_unix(struct transfer *t)
{
    struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)t->v, .msg_iovlen = (size_t)t->n };
    long n = recvmsg_now(t->fd, &m);
    t->cut = n > 0 && (m.msg_flags & MSG_CTRUNC) != 0;
    return n;
}

static long now_own(struct transfer *t, bool is_unix)
{
    if (t->dir == WEFT__READ && t->bytes > 0 && is_unix)
        return recv_unix(t);
    if (t->dir == WEFT__READ && t->n == 1 && t->bytes > 0)
        return recv_now(t->fd, &t->v[0]); /* a shorter way through the kernel than read */
    if (t->dir == WEFT__READ)
        return t->n == 1 ? read(t->fd, t->v[0].iov_base, t->v[0].iov_len) : readv(t->fd, t->v, t->n);
    struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)t->v, .msg_iovlen = (size_t)t->n };
    return t->n == 1 ? send_now(t->fd, &t->v[0])
                     : sendmsg(t->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A read of nothing takes nothing, as read(2) has it: no datagram. */
static long now_socket(const struct transfer *t)
{
    struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)t->v, .msg_iovlen = (size_t)t->n };
    return t->dir == WEFT__WRITE ? sendmsg(t->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)
                                 : recvmsg(t->fd, &m, t->bytes > 0 ? MSG_DONTWAIT : MSG_DONTWAIT | MSG_PEEK);
}

static long now_nowait(const struct transfer *t)
{
    struct weft__quiet q;
    if (t->dir == WEFT__READ)
        return weft__or_errno(preadv2(t->fd, t->v, t->n, -1, RWF_NOWAIT));
    weft__quiet_begin(&q);
    return weft__quiet_end(&q, weft__or_errno(pwritev2(t->fd, t->v, t->n, -1, RWF_NOWAIT)));
}

/* A terminal once more, as a file of its own that does not wait; -1: it is none, or cannot be had (the master of a pair
 * cannot: there would be another pair). */
static int open_again(int fd, int access)
{
    unsigned pair;
    char path[32];
    if (!isatty(fd) || ioctl(fd, TIOCGPTN, &pair) == 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, access | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

static int blocking_transfer(void *arg)
{
    struct transfer *t = arg;
    int again = open_again(t->fd, t->dir == WEFT__READ ? O_RDONLY : O_WRONLY), fd = again < 0 ? t->fd : again;
    t->result = t->dir == WEFT__READ ? weft__or_errno(readv(fd, t->v, t->n)) : (int)weft__quiet_write(fd, t->v, t->n);
    if (again >= 0)
        close(again);
    return 0;
}

enum kind { KIND_FILE, KIND_OTHER };

static int kind_of(int fd, enum kind *kind)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -weft__errno();
    *kind = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode) ? KIND_FILE : KIND_OTHER;
    return 0;
}

/* Moves what can be moved now: a count, -EAGAIN, or another error. */
static long try_now(struct weft__slot *s, struct transfer *t)
{
    long n;
    do {
        uint64_t life = at_load(&s->life);
        if (life & WEFT__SLOT_OWNED)
            n = weft__or_errno(now_own(t, (life & WEFT__SLOT_UNIX) != 0));
        else if ((n = weft__or_errno(now_socket(t))) == -ENOTSOCK)
            n = now_nowait(t);
    } while (n == -EINTR);
    return n == -EAGAIN && t->bytes == 0 && t->dir == WEFT__READ ? 0 : n;
}

/* An edge may be of an earlier time, and who blocks is not called off: only poll knows. */
static int await_readiness(struct weft__frame *f, struct weft__slot *s, unsigned events)
{
    int rc;
    do {
        rc = weft__ready_wait(f, s, events, true);
        if (rc == -EPERM)
            return 0; /* /dev/null and its like are always ready */
        if (rc == 0)
            rc = weft__ready_look(s->fd, events);
    } while (rc == 0);
    return rc < 0 ? rc : 0;
}

/* A kind that can only block: after readiness, if it has any, on a thread of the files' lane. -EAGAIN all the same: another
 * was there first, or it is ready for less than it takes at once. */
static int through_lane(struct weft__frame *f, struct weft__slot *s, struct transfer *t)
{
    enum kind kind = KIND_OTHER;
    int rc = kind_of(t->fd, &kind);
    while (rc == 0) {
        if (kind == KIND_OTHER)
            rc = await_readiness(f, s, t->dir == WEFT__READ ? WEFT_READABLE : WEFT_WRITABLE);
        if (rc == 0)
            rc = weft__lane_call(WEFT__LANE_FILES, blocking_transfer, t);
        if (rc == 0 && t->result != -EINTR && (t->result != -EAGAIN || kind == KIND_FILE))
            return t->result;
        if (rc == 0 && t->result == -EAGAIN)
            rc = weft_sleep(weft_ms(1));
    }
    return rc;
}

static bool is_stream(const struct weft__slot *s)
{
    return (at_load(&s->life) & WEFT__SLOT_STREAM) && ati_load(&s->sticky) == 0;
}

/* What was just moved says whether more can be expected to move at once. `edge`: the call used one up. */
static void after_transfer(struct weft__slot *s, const struct transfer *t, long n, bool edge)
{
    uint32_t bit = 1u << t->dir;
    if (n > 0 && (size_t)n < t->bytes && t->dir == WEFT__READ && !t->cut && is_stream(s))
        ati_store(&s->drained, bit);
    else if (edge || ati_load(&s->waiting[t->dir]) > 0)
        weft__slot_pass_on(s, t->dir); /* E6 */
}

/* There is nothing to be had: it will wait without trying. */
static bool is_drained(const struct weft__slot *s, const struct transfer *t)
{
    return t->bytes > 0 && (ati_load(&s->drained) & (1u << t->dir)) && ati_load_acquire(&s->ready[t->dir]) == 0 &&
            is_stream(s);
}

static int transfer_in(struct weft__frame *f, struct weft__slot *s, struct transfer *t)
{
    bool waited = false, edge = false;
    for (;;) {
        /* After a wait it always tries: the edge that ended the wait is used up. */
        if (waited || !is_drained(s, t)) {
            edge = weft__slot_use_edge(s, t->dir) || edge;
            if (t->dir == WEFT__READ) /* what a write does says nothing of what there is to read */
                ati_store(&s->drained, 0);
            long n = try_now(s, t);
            if (n >= 0) {
                after_transfer(s, t, n, edge);
                return n > 0 || t->dir == WEFT__WRITE || t->bytes == 0 ? (int)n : weft__slot_end(s);
            }
            if (n == -EOPNOTSUPP || n == -ESPIPE)
                return through_lane(f, s, t);
            if (n != -EAGAIN) {
                weft__slot_note(s, n);
                after_transfer(s, t, n, edge); /* the error was told to one; the others wait for what comes after it */
                return (int)n;
            }
        }
        int rc = weft__ready_wait(f, s, 1u << t->dir, waited);
        if (rc == -EPERM)
            return through_lane(f, s, t);
        if (rc < 0)
            return rc;
        waited = edge = true;
    }
}

/* `in_slices`: R12. */
static int transfer(int fd, enum weft__dir dir, const struct iovec *v, int n, bool in_slices)
{
    struct weft__frame *f = weft__current();
    struct weft__slot *s;
    struct transfer t = { .fd = fd, .dir = dir, .v = v, .n = n };
    if (!f)
        return weft__no_frame();
    if (!v || n < 0 || n > IOV_MAX)
        return -EINVAL;
    for (int i = 0; i < n; i++)
        if (__builtin_add_overflow(t.bytes, v[i].iov_len, &t.bytes) || (!v[i].iov_base && v[i].iov_len > 0))
            return -EINVAL;
    int rc = weft__enter_call(f);
    if (rc < 0 || (rc = weft__slot_enter(fd, &s)) < 0)
        return rc;
    rc = transfer_in(f, s, &t);
    weft__slot_leave(s);
    if (in_slices && rc != -ECANCELED)
        weft__has_read(f);
    return rc;
}

int weft__io_read(int fd, void *buf, size_t n)
{
    struct iovec v = { .iov_base = buf, .iov_len = n < MOST ? n : MOST };
    return transfer(fd, WEFT__READ, &v, 1, false);
}

int weft_read(int fd, void *buf, size_t n)
{
    struct iovec v = { .iov_base = buf, .iov_len = n < MOST ? n : MOST };
    return weft__on_stack(transfer(fd, WEFT__READ, &v, 1, true));
}

int weft_write(int fd, const void *buf, size_t n)
{
    struct iovec v = { .iov_base = (void *)(uintptr_t)buf, .iov_len = n < MOST ? n : MOST };
    return weft__on_stack(transfer(fd, WEFT__WRITE, &v, 1, false));
}

int weft_readv(int fd, const struct iovec *v, int n)
{
    return weft__on_stack(transfer(fd, WEFT__READ, v, n, true));
}

int weft_writev(int fd, const struct iovec *v, int n)
{
    return weft__on_stack(transfer(fd, WEFT__WRITE, v, n, false));
}

/* Moves all of it in one call as far as closing is concerned: should the descriptor be closed in the middle, and its
 * number be used again, the rest does not go there. Returns how much was moved, and how it ended in *rc. */
static size_t transfer_all(int fd, enum weft__dir dir, void *buf, size_t n, int *rc)
{
    struct weft__frame *f = weft__current();
    struct weft__slot *s;
    size_t moved = 0;
    *rc = !f ? weft__no_frame() : !buf && n > 0 ? -EINVAL : weft__enter_call(f);
    if (*rc < 0 || (*rc = weft__slot_enter(fd, &s)) < 0)
        return 0;
    do {
        size_t most = n - moved < MOST ? n - moved : MOST;
        struct iovec v = { .iov_base = moved ? (char *)buf + moved : buf, .iov_len = most };
        struct transfer t = { .fd = fd, .dir = dir, .v = &v, .n = 1, .bytes = most };
        *rc = moved == 0 ? 0 : weft__enter_call(f);
        if (*rc == 0 && (at_load(&s->life) & WEFT__SLOT_CLOSING))
            *rc = -EBADF;
        if (*rc == 0)
            *rc = transfer_in(f, s, &t);
        if (*rc > 0)
            moved += (size_t)*rc;
        if (dir == WEFT__READ && *rc != -ECANCELED)
            weft__has_read(f);
    } while (*rc > 0 && moved < n);
    weft__slot_leave(s);
    return moved;
}

int weft_write_all(int fd, const void *buf, size_t n)
{
    int rc;
    transfer_all(fd, WEFT__WRITE, (void *)(uintptr_t)buf, n, &rc);
    return rc < 0 ? rc : 0;
}

int weft_read_all(int fd, void *buf, size_t n)
{
    int rc;
    if (n > INT_MAX)
        return -EINVAL;
    size_t moved = transfer_all(fd, WEFT__READ, buf, n, &rc);
    if (rc < 0)
        return rc;
    return moved == n ? (int)n : moved == 0 ? 0 : weft_fail(-ENODATA, "%zu of %zu bytes came before the end", moved, n);
}

int weft_wait_fd(int fd, int events)
{
    struct weft__frame *f = weft__current();
    struct weft__slot *s;
    unsigned want = (unsigned)events & (WEFT_READABLE | WEFT_WRITABLE);
    if (!f)
        return weft__no_frame();
    if (want == 0 || want != (unsigned)events)
        return -EINVAL;
    int rc = weft__enter_call(f);
    if (rc < 0 || (rc = weft__slot_enter(fd, &s)) < 0)
        return rc;
    rc = weft__ready_pollable(f, s);
    unsigned passed = 0;
    for (bool waited = false; rc == 0; waited = true) {
        rc = weft__ready_look(fd, want);
        passed = rc > 0 ? (unsigned)rc : rc < 0 && waited ? want : 0;
        if (rc == 0 && (rc = weft__ready_wait(f, s, want, waited)) < 0)
            break;
    }
    /* It is ready for the next waiter as well; or the next one is to look, since this one could not. */
    for (int d = 0; d < 2; d++)
        if (passed & (1u << d))
            weft__slot_pass_on(s, (enum weft__dir)d);
    weft__slot_leave(s);
    return rc;
}

int weft_close(int fd)
{
    if (weft__forked)
        return -ECHILD;
    weft__listener_gone(fd, true); /* while the number is still its socket's */
    return weft__slot_close(fd, true);
}

void weft_close_auto(const int *fd)
{
    if (*fd >= 0)
        weft_ignore(weft_close(*fd));
}

int weft_fd_forget(int fd)
{
    if (weft__forked)
        return -ECHILD;
    weft__listener_gone(fd, false);
    return weft__slot_close(fd, false);
}
