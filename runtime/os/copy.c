/* os/copy.c - from one descriptor to another, and from a file.
 *
 * Owns      the buffer, or the pipe, of each way.
 * Callers   tasks and plain threads.
 * Holds     C1  both slots are entered for the whole copy: should a descriptor be closed in the middle, and its number be
 *               used again, nothing goes there.
 *           C2  the pipe is empty whenever something is spliced into it. So -EAGAIN from that speaks of the socket.
 *           C3  splice(2) and sendfile(2) are for weft's own stream sockets: whether they wait is said by O_NONBLOCK of the
 *               file, and by nothing else that all kernels heed. The rest goes through a buffer.
 *           C4  they raise SIGPIPE, which no flag prevents: base/quiet.c. A plain thread goes through a buffer.
 *           C5  splice(2) stops before an urgent byte: it gives -EAGAIN, though there is more, of which no edge will tell, or
 *               0, as at the end, if that has come. The rest goes through a buffer, since recv(2) leaves the byte out.
 *           C6  why a connection broke is told once, perhaps to the other way: so an end is looked at (event/poller.h).
 *
 * A way begins with the buffer, since a pipe is two descriptors, and pays only in bulk: for a request of some hundred bytes
 * a splice in and one out cost more than a read and a write. The first read that fills the buffer changes over.
 *
 * sendfile reads the disk on the thread that calls it, so it is a worker's only if the first and the last byte of the piece
 * are in memory (read-ahead brings in what is between), else a lane thread's.
 * Tested    tests/copy_test.c */
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weft/error.h>
#include <weft/fs.h>
#include <weft/io.h>
#include <weft/net.h>
#include <weft/scope.h>

#include "base/errno.h"
#include "base/mem.h"
#include "base/quiet.h"
#include "coord/await.h"
#include "os/lane.h"
#include "os/ready.h"

enum { BUFFER = 16384, PIPE_BYTES = 65536, PIECE = 262144 };

/* How a part of a way ended, beside errors and 0, the end. */
enum { CHANGE_OVER = 1 };

/* ---- what both have */

/* C3 */
static bool is_own_stream(const struct weft__slot *s)
{
    uint64_t life = at_load(&s->life);
    return (life & WEFT__SLOT_OWNED) && (life & WEFT__SLOT_STREAM);
}

/* Two descriptors, and how far it is. */
struct way {
    int to, from;
    struct weft__slot *to_slot, *from_slot;
    uint64_t moved;
    bool end_goes_on; /* to `to`, as SHUT_WR */
    bool writing; /* what failed last was to write */
    char *buf;
    int pipe[2];
};

/* C1 */
static int way_begin(struct way *w, struct weft__frame *f)
{
    int rc = weft__enter_call(f);
    if (rc < 0 || (rc = weft__slot_enter(w->from, &w->from_slot)) < 0)
        return rc;
    if ((rc = weft__slot_enter(w->to, &w->to_slot)) < 0) {
        weft__slot_leave(w->from_slot);
        return rc;
    }
    if (!(w->buf = weft__mem_alloc(BUFFER))) {
        weft__slot_leave(w->to_slot);
        weft__slot_leave(w->from_slot);
        return -ENOMEM;
    }
    return 0;
}

static void way_end(struct way *w)
{
    weft__mem_free(w->buf);
    weft__slot_leave(w->to_slot);
    weft__slot_leave(w->from_slot);
}

/* Writes n bytes of the buffer, and counts what is out. */
static int put(struct way *w, size_t n)
{
    for (size_t out = 0; out < n;) {
        int rc = weft_write(w->to, w->buf + out, n - out);
        if (rc < 0) {
            w->writing = true;
            return rc;
        }
        out += (size_t)rc;
        w->moved += (size_t)rc;
    }
    return 0;
}

/* ---- copying */

/* Until the end, or, if it may, until there is so much that splicing pays. */
static int by_buffer(struct way *w, struct weft__frame *f, bool may_change)
{
    for (;;) {
        int n = weft__io_read(w->from, w->buf, BUFFER);
        if (n <= 0)
            return n;
        int rc = put(w, (size_t)n);
        if (rc < 0)
            return rc;
        weft__has_read(f); /* as in by_pipe */
        if (may_change && n == BUFFER)
            return CHANGE_OVER;
    }
}

struct splicing {
    int in, out;
    size_t n;
};

static int splice_now(int fd, void *arg)
{
    const struct splicing *p = arg;
    (void)fd;
    struct weft__quiet q; /* C4 */
    weft__quiet_begin(&q);
    long n = weft__or_errno(splice(p->in, NULL, p->out, NULL, p->n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
    return (int)weft__quiet_end(&q, n);
}

/* C5. No byte is lost if the mark comes after the splice was refused: then it is a buffer's too early. */
static int splice_in(int fd, void *arg)
{
    int n = splice_now(fd, arg);
    return (n == -EAGAIN || n == 0) && sockatmark(fd) == 1 ? -EINVAL : n;
}

/* Empties the pipe, which has n bytes. -EINVAL: the kernel cannot splice to this kind; the rest went by the buffer. */
static int pipe_out(struct way *w, struct weft__frame *f, size_t n)
{
    while (n > 0) {
        struct splicing p = { .in = w->pipe[0], .out = w->to, .n = n };
        int out = weft__enter_call(f);
        if (out == 0)
            out = weft__ready_call(f, w->to_slot, WEFT__WRITE, splice_now, &p);
        if (out == -EINVAL || out == 0)
            break;
        if (out < 0) {
            weft__slot_note(w->to_slot, out);
            w->writing = true;
            return out;
        }
        n -= (size_t)out;
        w->moved += (size_t)out;
    }
    if (n == 0)
        return 0;
    while (n > 0) {
        int in = weft__or_errno(read(w->pipe[0], w->buf, n < BUFFER ? n : BUFFER));
        int rc = in > 0 ? put(w, (size_t)in) : in;
        if (in <= 0 || rc < 0)
            return rc < 0 ? rc : -EIO;
        n -= (size_t)in;
    }
    return -EINVAL;
}

/* Until the end. -EINVAL: the kernel cannot, or C5, and nothing is left in the pipe. */
static int by_pipe(struct way *w, struct weft__frame *f)
{
    struct splicing p = { .in = w->from, .out = w->pipe[1], .n = PIPE_BYTES };
    for (;;) {
        int n = weft__enter_call(f);
        if (n == 0)
            n = weft__ready_call(f, w->from_slot, WEFT__READ, splice_in, &p); /* C2 */
        weft__slot_note(w->from_slot, n);
        if (n <= 0)
            return n == 0 ? weft__slot_end(w->from_slot) : n; /* C6 */
        int rc = pipe_out(w, f, (size_t)n);
        if (rc < 0)
            return rc;
        weft__has_read(f); /* only now: who is told to leave in another's turn has nothing in hand */
    }
}

/* Beyond a number of pipes the kernel gives an unprivileged user small ones, which are worth less than the buffer. */
static bool pipe_open(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return false;
    if (fcntl(fds[1], F_GETPIPE_SZ) >= PIPE_BYTES)
        return true;
    close(fds[0]);
    close(fds[1]);
    return false;
}

static int copy_in(struct way *w, struct weft__frame *f)
{
    bool may = !weft__is_thread(f) && is_own_stream(w->from_slot) && is_own_stream(w->to_slot); /* C3, C4 */
    int rc = by_buffer(w, f, may);
    if (rc != CHANGE_OVER)
        return rc;
    if (pipe_open(w->pipe)) {
        rc = by_pipe(w, f);
        close(w->pipe[0]);
        close(w->pipe[1]);
        if (rc != -EINVAL)
            return rc;
    }
    return by_buffer(w, f, false);
}

/* A kind that has no such end (a pipe, a terminal) gets it when it is closed. Within C1, like the bytes. */
static int send_end(const struct way *w)
{
    int rc = weft_shutdown(w->to, SHUT_WR);
    return rc == -ENOTSOCK || rc == -ENOTCONN ? 0 : rc;
}

static int copy_way(struct way *w)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    int rc = way_begin(w, f);
    if (rc < 0)
        return rc;
    rc = copy_in(w, f);
    if (rc == 0 && w->end_goes_on)
        rc = send_end(w);
    way_end(w);
    return rc;
}

int weft_copy(int to, int from, uint64_t *moved)
{
    struct way w = { .to = to, .from = from };
    int rc = copy_way(&w);
    if (moved)
        *moved = w.moved;
    return rc;
}

/* ---- both ways */

struct half {
    struct way way;
    int rc;
};

/* A way whose reader has gone is over by itself: what comes the other way may be the reason why, and is still wanted. */
static int copy_half(void *arg)
{
    struct half *h = arg;
    int rc = h->rc = copy_way(&h->way);
    return h->way.writing && (rc == -EPIPE || rc == -ECONNRESET) ? 0 : rc;
}

int weft_copy_both(int a, int b, uint64_t *a_to_b, uint64_t *b_to_a)
{
    struct half h[2] = { { .way = { .to = b, .from = a, .end_goes_on = true } },
        { .way = { .to = a, .from = b, .end_goes_on = true } } };
    int rc = a == b ? -EINVAL : weft_gather(h, 2, sizeof h[0], copy_half, NULL);
    if (a_to_b)
        *a_to_b = h[0].way.moved;
    if (b_to_a)
        *b_to_a = h[1].way.moved;
    if (rc < 0)
        return rc;
    return h[0].rc < 0 ? h[0].rc : h[1].rc;
}

/* ---- a file */

struct sending {
    int to, file;
    off_t at;
    size_t n;
    int sent;
};

static int sendfile_now(void *arg)
{
    struct sending *p = arg;
    off_t at = p->at;
    struct weft__quiet q; /* C4 */
    weft__quiet_begin(&q);
    p->sent = (int)weft__quiet_end(&q, weft__or_errno(sendfile(p->to, p->file, &at, p->n)));
    return 0;
}

enum where { AT_END, IN_MEMORY, ON_DISK };

static int read_a_byte(int file, off_t at)
{
    char byte;
    struct iovec v = { .iov_base = &byte, .iov_len = 1 };
    return weft__or_errno(preadv2(file, &v, 1, at, RWF_NOWAIT));
}

/* Where its two ends are. Beyond the file's end nothing is to be read; and what begins there needs no sendfile to say so. */
static enum where where_is(const struct sending *p)
{
    int first = read_a_byte(p->file, p->at);
    if (first <= 0)
        return first == 0 ? AT_END : ON_DISK;
    return p->n == 1 || read_a_byte(p->file, p->at + (off_t)p->n - 1) >= 0 ? IN_MEMORY : ON_DISK;
}

static int send_piece(int fd, void *arg)
{
    struct sending *p = arg;
    (void)fd;
    enum where where = where_is(p);
    if (where == AT_END)
        return 0;
    int rc = where == IN_MEMORY ? -EAGAIN : weft__lane_call(WEFT__LANE_FILES, sendfile_now, p);
    if (rc == -ECANCELED)
        return rc;
    if (rc < 0) /* in memory; or no thread: rather here than not at all */
        sendfile_now(p);
    return p->sent;
}

static size_t piece_of(uint64_t left, size_t most)
{
    return left < most ? (size_t)left : most;
}

/* 0 sent, or the file has ended. -EINVAL: the kernel cannot with this kind of file. */
static int by_sendfile(struct way *w, struct weft__frame *f, uint64_t offset, uint64_t n)
{
    while (w->moved < n) {
        struct sending p = { .to = w->to, .file = w->from };
        p.at = (off_t)(offset + w->moved);
        p.n = piece_of(n - w->moved, PIECE);
        int sent = weft__enter_call(f);
        if (sent == 0 && (sent = weft__ready_call(f, w->to_slot, WEFT__WRITE, send_piece, &p)) == 0)
            return 0;
        weft__slot_note(w->to_slot, sent);
        if (sent < 0)
            return sent;
        w->moved += (size_t)sent;
    }
    return 0;
}

static int by_pread(struct way *w, uint64_t offset, uint64_t n)
{
    while (w->moved < n) {
        int got = weft_fs_pread(w->from, w->buf, piece_of(n - w->moved, BUFFER), offset + w->moved);
        if (got <= 0)
            return got;
        int rc = put(w, (size_t)got);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool is_regular(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int send_way(struct way *w, uint64_t offset, uint64_t n)
{
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    int rc = way_begin(w, f);
    if (rc < 0)
        return rc;
    rc = -EINVAL;
    if (!weft__is_thread(f) && is_own_stream(w->to_slot) && is_regular(w->from)) /* C3, C4 */
        rc = by_sendfile(w, f, offset, n);
    if (rc == -EINVAL || rc == -ENOSYS)
        rc = by_pread(w, offset, n);
    way_end(w);
    return rc;
}

int weft_send_file(int to, int file, uint64_t offset, uint64_t n, uint64_t *moved)
{
    struct way w = { .to = to, .from = file };
    bool to_end = n == UINT64_MAX;
    int rc = -EINVAL;
    if (offset <= INT64_MAX && (to_end || n <= INT64_MAX - offset))
        rc = send_way(&w, offset, to_end ? INT64_MAX - offset : n);
    if (moved)
        *moved = w.moved;
    if (rc < 0 || to_end || w.moved == n)
        return rc < 0 ? rc : 0;
    return weft_fail(-ENODATA, "%llu of %llu bytes came before the end of the file", (unsigned long long)w.moved,
            (unsigned long long)n);
}
