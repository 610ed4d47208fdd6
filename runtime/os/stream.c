/* os/stream.c - buffers between a task and what carries its bytes.
 *
 * Owns      what was read ahead, and what is kept to be sent.
 * Callers   one task that reads and any number that write, at the same time; plain threads, too.
 * Holds     T1  who has moved `reading` from 0 to 1 is the only one to read, and to touch what was read ahead.
 *           T2  the mutex is held over the waits of a write, so each call's bytes are together, and `kept` is written under
 *               it. Who is about to read for more looks at it without the mutex, and sends it if it was the last to write.
 *               Another's it leaves alone: that one has to flush by itself. Two readers that sent for their writers would
 *               both wait for the other to read.
 *           T3  out[sent .. sent + kept) was taken from calls that have returned 0. A cancelled write leaves it there, and
 *               what the carrier has taken is gone from it.
 *           T4  `limit` and `ahead` are written by who reads (T1), `out_max` and `kept` under the mutex, and anybody may look
 *               at them: each is a word, and says nothing of the others.
 * Memory    4 KiB for reading, which grow to read_limit and a separator if a line or a frame is long; 512 bytes for
 *           writing, which grow to write_buffer. What is longer than that is sent from where it lies, together with what is
 *           kept. (All of write_buffer at once took 3.6 KiB more of each stream that had answered something short.)
 * Source    asyncio's StreamReader and StreamWriter, for what they offer; a write waits where theirs grows. It then waits for
 *           all that is kept: the lower mark is 0, since nobody is there to send the rest.
 * Tested    tests/stream_test.c */
#include "os/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <weft/error.h>
#include <weft/io.h>
#include <weft/net.h>
#include <weft/scope.h>
#include <weft/task.h>
#include <weft/time.h>

#include "base/errno.h"
#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"

enum { MOST = 0x7ffff000, MOST_LIMIT = INT_MAX / 2, PIECES = 16, LAST_MS = 100 };

/* ---- a descriptor as carrier */

struct descriptor {
    int fd;
    bool keep;
};

static int fd_read(void *self, void *buf, size_t n)
{
    return weft_read(((struct descriptor *)self)->fd, buf, n);
}

static int fd_writev(void *self, const struct iovec *v, int n)
{
    return weft_writev(((struct descriptor *)self)->fd, v, n);
}

static int fd_shutdown(void *self)
{
    return weft_shutdown(((struct descriptor *)self)->fd, SHUT_WR);
}

static int fd_close(void *self)
{
    struct descriptor *d = self;
    int rc = d->keep ? 0 : weft_close(d->fd);
    weft__mem_free(d);
    return rc;
}

static void fd_drop(void *self)
{
    weft_ignore(fd_close(self));
}

static int fd_number(void *self)
{
    return ((struct descriptor *)self)->fd;
}

static const weft_carrier_ops descriptor_ops = { fd_read, fd_writev, fd_shutdown, fd_close, fd_drop, fd_number };

/* ---- from beginning to end */

int weft__stream_make(weft_stream **out, const weft_carrier *c, const weft_stream_options *o)
{
    static const weft_stream_options defaults;
    o = o ? o : &defaults;
    if (!weft__reserved_zero(o))
        return -EINVAL;
    if (o->read_limit > MOST_LIMIT || o->write_buffer > MOST_LIMIT)
        return -EINVAL;
    weft_stream *s = weft__mem_zeroed(sizeof *s);
    if (!s)
        return -ENOMEM;
    s->carrier = *c;
    s->keeps_fd = o->keep_fd;
    at_store(&s->limit, o->read_limit > 0 ? o->read_limit : WEFT__STREAM_LIMIT);
    at_store(&s->out_max, o->write_buffer > 0 ? o->write_buffer : WEFT__STREAM_KEEP);
    *out = s;
    return 0;
}

int weft_stream_open(weft_stream **out, int fd, const weft_stream_options *o)
{
    if (weft__forked)
        return -ECHILD;
    if (!out)
        return -EINVAL;
    if (fcntl(fd, F_GETFD) < 0)
        return -weft__errno();
    struct descriptor *d = weft__mem_alloc(sizeof *d);
    if (!d)
        return -ENOMEM;
    *d = (struct descriptor){ .fd = fd, .keep = o && o->keep_fd };
    int rc = weft__stream_make(out, &(weft_carrier){ &descriptor_ops, d }, o);
    if (rc < 0)
        weft__mem_free(d);
    return rc;
}

static void let_go(weft_stream *s)
{
    weft__mem_free(s->in);
    weft__mem_free(s->out);
    weft__mem_free(s);
}

void weft_stream_drop(weft_stream **out)
{
    if (!out || !*out)
        return;
    weft_stream *s = *out;
    *out = NULL;
    s->carrier.ops->drop(s->carrier.self);
    let_go(s);
}

/* Set on the descriptor and not said to the carrier: a layer over it (TLS) drops what is below, and need not know. */
void weft_stream_abort(weft_stream **out)
{
    int fd = out && *out && !(*out)->keeps_fd && !weft__forked ? weft_stream_fd(*out) : -1;
    if (fd >= 0) /* refused by what is no socket */
        weft_ignore(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger)));
    weft_stream_drop(out);
}

int weft_stream_close(weft_stream **out)
{
    if (!out || !*out)
        return 0;
    weft_stream *s = *out;
    weft_scope last;
    *out = NULL;
    bool told = weft_check() < 0;
    if (told)
        weft_scope_begin_shield(&last, weft_ms(LAST_MS));
    int rc = s->shut ? 0 : weft_stream_flush(s);
    int closed = s->carrier.ops->close(s->carrier.self);
    if (told)
        rc = weft_scope_end(&last, rc) == -ETIMEDOUT ? -ECANCELED : rc;
    let_go(s);
    return rc < 0 ? rc : closed < 0 ? closed : 0;
}

/* ---- reading */

int weft__stream_enter(weft_stream *s)
{
    if (!s)
        return -EINVAL;
    /* acquire: meets the release in weft__stream_leave; what the reader before has left is seen. */
    return ati_cas(&s->reading, 0, 1) ? 0 : -EBUSY;
}

/* Gives *buf, of which so many bytes are in use, another size. 0; -ENOMEM, and it is as it was. */
static int resize(char **buf, size_t used, size_t size)
{
    char *to = weft__mem_alloc(size);
    if (!to)
        return -ENOMEM;
    if (used > 0)
        memcpy(to, *buf, used);
    weft__mem_free(*buf);
    *buf = to;
    return 0;
}

/* Room behind `end`, in a buffer for `most` bytes at least. */
static int make_room(weft_stream *s, size_t most)
{
    if (s->at == s->end)
        s->at = s->end = 0;
    if (s->at > 0 && (s->end == s->in_size || s->at + most > s->in_size)) {
        memmove(s->in, s->in + s->at, weft__stream_ahead(s));
        s->end -= s->at;
        s->at = 0;
    }
    if (s->in && s->in_size >= most && s->end < s->in_size)
        return 0;
    size_t size = s->in_size > 0 ? 2 * s->in_size : WEFT__STREAM_FIRST;
    size = size < most ? most : size;
    if (resize(&s->in, s->end, size + 1) < 0)
        return -ENOMEM;
    s->in_size = size;
    return 0;
}

static int send_kept(weft_stream *s);

/* The number of the calling task or plain thread. Frames are no names: the next task may have the same one. */
static uint64_t caller(void)
{
    const struct weft__frame *f = weft__current();
    return !f ? 0 : weft__is_thread(f) ? weft__id_of_thread(f) << 1 | 1 : (uint64_t)f->id << 1;
}

/* T2. What keeps it from being sent is told, or its writer would wait here for the answer to what was never said. But of
 * another side that has gone the last words may have come already: they are read, and then the end. */
static int before_reading(weft_stream *s)
{
    if (at_load(&s->kept) == 0 || at_load(&s->by) != caller() || weft_mutex_try_lock(&s->writing) < 0)
        return 0;
    int rc = send_kept(s);
    weft_mutex_unlock(&s->writing);
    s->reset = s->reset || rc == -ECONNRESET;
    return rc == -EPIPE || rc == -ECONNRESET ? 0 : rc;
}

/* The kernel tells of a reset once, and who reads after a write that heard of it finds an end like any other. */
static int read_on(weft_stream *s, void *buf, size_t n)
{
    int rc = before_reading(s);
    if (rc < 0)
        return rc;
    rc = s->carrier.ops->read(s->carrier.self, buf, n < MOST ? n : MOST);
    return rc == 0 && s->reset ? -ECONNRESET : rc;
}

int weft__stream_fill(weft_stream *s, size_t most)
{
    int rc = make_room(s, most);
    if (rc == 0)
        rc = read_on(s, s->in + s->end, s->in_size - s->end);
    if (rc <= 0)
        return rc;
    s->end += (size_t)rc;
    at_store(&s->ahead, weft__stream_ahead(s)); /* it may be long until the piece is whole */
    return 1;
}

static size_t take_ahead(weft_stream *s, void *buf, size_t n)
{
    size_t take = n < weft__stream_ahead(s) ? n : weft__stream_ahead(s);
    if (take > 0)
        memcpy(buf, s->in + s->at, take);
    s->at += take;
    return take;
}

/* What is there. Much is read to where it is wanted. */
static int read_some(weft_stream *s, void *buf, size_t n)
{
    int rc = 1;
    if (weft__stream_ahead(s) == 0 && n >= WEFT__STREAM_FIRST)
        return read_on(s, buf, n);
    if (weft__stream_ahead(s) == 0)
        rc = weft__stream_fill(s, 1);
    return rc <= 0 ? rc : (int)take_ahead(s, buf, n < MOST ? n : MOST);
}

int weft_stream_read(weft_stream *s, void *buf, size_t n)
{
    int rc = weft__stream_enter(s);
    if (rc < 0)
        return rc;
    rc = !buf && n > 0 ? -EINVAL : n == 0 ? 0 : read_some(s, buf, n);
    weft__stream_leave(s);
    return rc;
}

int weft_stream_read_all(weft_stream *s, void *buf, size_t n, size_t *done)
{
    size_t moved = 0;
    int rc = weft__stream_enter(s);
    if (rc == 0) {
        rc = !buf && n > 0 ? -EINVAL : 1;
        while (rc > 0 && moved < n)
            if ((rc = read_some(s, (char *)buf + moved, n - moved)) > 0)
                moved += (size_t)rc;
        weft__stream_leave(s);
    }
    if (done)
        *done = moved;
    if (rc < 0)
        return rc;
    return moved == n ? 1 : moved == 0 ? 0 : weft_fail(-ENODATA, "%zu of %zu bytes came before the end", moved, n);
}

/* ---- writing, under the mutex */

static int fail(weft_stream *s, int rc)
{
    if (rc != -ECANCELED) {
        s->broken = rc;
        s->sent = 0;
        at_store(&s->kept, 0);
    }
    return rc;
}

/* Of n bytes that the carrier has taken those that were kept; returns how many are left. */
static size_t took_kept(weft_stream *s, size_t n)
{
    size_t kept = at_load(&s->kept), took = n < kept ? n : kept;
    s->sent = took < kept ? s->sent + took : 0;
    at_store(&s->kept, kept - took);
    return n - took;
}

/* The pieces that are not done, behind what is kept; all of it in one call, if it is not too many. */
static int pieces(weft_stream *s, struct iovec *to, const struct iovec *v, int n, size_t done)
{
    int k = 0;
    if (at_load(&s->kept) > 0)
        to[k++] = (struct iovec){ s->out + s->sent, at_load(&s->kept) };
    for (; n > 0 && k < PIECES; v++, n--) {
        if (done >= v->iov_len) {
            done -= v->iov_len;
            continue;
        }
        to[k++] = (struct iovec){ (char *)v->iov_base + done, v->iov_len - done };
        done = 0;
    }
    return k;
}

/* Sends what is kept and then all of v; *done is how much of v is out. */
static int send_all(weft_stream *s, const struct iovec *v, int n, size_t *done)
{
    struct iovec now[PIECES];
    int k;
    *done = 0;
    while ((k = pieces(s, now, v, n, *done)) > 0) {
        int rc = s->carrier.ops->writev(s->carrier.self, now, k);
        if (rc <= 0)
            return fail(s, rc < 0 ? rc : -EIO);
        *done += took_kept(s, (size_t)rc);
    }
    return 0;
}

static int send_kept(weft_stream *s)
{
    size_t done;
    return s->broken < 0 ? s->broken : send_all(s, NULL, 0, &done);
}

/* Where what is kept ends in `out`. */
static size_t end_of_kept(const weft_stream *s)
{
    return s->sent + at_load(&s->kept);
}

/* None, if the limit was lowered meanwhile. */
static size_t room(const weft_stream *s)
{
    size_t most = at_load(&s->out_max), end = end_of_kept(s);
    return most > end ? most - end : 0;
}

/* So that `out` has place for so many bytes, which are no more than out_max. */
static int make_place(weft_stream *s, size_t bytes)
{
    size_t size = s->out_size == 0 ? WEFT__STREAM_FIRST_KEPT : 2 * s->out_size, most = at_load(&s->out_max);
    size = size < bytes ? bytes : size > most ? most : size;
    if (resize(&s->out, end_of_kept(s), size) < 0)
        return -ENOMEM;
    s->out_size = size;
    return 0;
}

/* There is room. */
static int keep(weft_stream *s, const struct iovec *v, int n, size_t bytes)
{
    size_t end = end_of_kept(s);
    if (end + bytes > s->out_size && make_place(s, end + bytes) < 0)
        return -ENOMEM;
    for (int i = 0; i < n; i++) {
        if (v[i].iov_len > 0)
            memcpy(s->out + end, v[i].iov_base, v[i].iov_len);
        end += v[i].iov_len;
    }
    at_store(&s->by, caller());
    at_store(&s->kept, end - s->sent);
    return 0;
}

static int put(weft_stream *s, const struct iovec *v, int n, size_t bytes, bool whole)
{
    int rc = s->broken;
    size_t done = 0;
    if (rc == 0 && bytes > room(s) && bytes < at_load(&s->out_max))
        rc = send_kept(s);
    if (rc < 0)
        return rc;
    if (bytes <= room(s))
        return keep(s, v, n, bytes);
    rc = send_all(s, v, n, &done);
    if (rc == -ECANCELED && whole && done > 0)
        weft_ignore(fail(s, -EPIPE));
    return rc;
}

int weft__stream_put(weft_stream *s, const struct iovec *v, int n, bool whole)
{
    size_t bytes = 0;
    if (!s || n < 0 || (!v && n > 0))
        return -EINVAL;
    for (int i = 0; i < n; i++)
        if (__builtin_add_overflow(bytes, v[i].iov_len, &bytes) || (!v[i].iov_base && v[i].iov_len > 0))
            return -EINVAL;
    int rc = weft_mutex_lock(&s->writing);
    if (rc < 0)
        return rc;
    rc = put(s, v, n, bytes, whole);
    weft_mutex_unlock(&s->writing);
    return rc;
}

/* ---- writing */

int weft_stream_writev(weft_stream *s, const struct iovec *v, int n)
{
    return weft__on_stack(weft__stream_put(s, v, n, false));
}

int weft_stream_write(weft_stream *s, const void *buf, size_t n)
{
    return weft__on_stack(weft__stream_put(s, &(struct iovec){ (void *)(uintptr_t)buf, n }, 1, false));
}

int weft_stream_puts(weft_stream *s, const char *text)
{
    return text ? weft__on_stack(weft_stream_write(s, text, strlen(text))) : -EINVAL;
}

int weft_stream_printf(weft_stream *s, const char *format, ...)
{
    char here[512], *text = here;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(here, sizeof here, format, args), rc = n < 0 ? -EINVAL : 0;
    if (n >= (int)sizeof here && !(text = weft__mem_alloc((size_t)n + 1)))
        rc = -ENOMEM;
    if (rc == 0 && text != here)
        vsnprintf(text, (size_t)n + 1, format, again);
    if (rc == 0)
        rc = weft_stream_write(s, text, (size_t)n);
    if (text != here)
        weft__mem_free(text);
    va_end(again);
    va_end(args);
    return rc;
}

int weft_stream_flush(weft_stream *s)
{
    int rc = s ? weft_mutex_lock(&s->writing) : -EINVAL;
    if (rc < 0)
        return rc;
    rc = send_kept(s);
    weft_mutex_unlock(&s->writing);
    return rc;
}

int weft_stream_shutdown(weft_stream *s)
{
    int rc = s ? weft_mutex_lock(&s->writing) : -EINVAL;
    if (rc < 0)
        return rc;
    rc = send_kept(s);
    if (rc == 0 && (rc = s->carrier.ops->shutdown(s->carrier.self)) == 0) {
        s->broken = -EPIPE;
        s->shut = true;
    }
    weft_mutex_unlock(&s->writing);
    return rc;
}

/* ---- both */

int weft_stream_copy(weft_stream *to, weft_stream *from, uint64_t *moved)
{
    uint64_t n = 0;
    int rc = to ? weft__stream_enter(from) : -EINVAL;
    if (rc == 0) {
        do {
            size_t ahead = weft__stream_ahead(from);
            if (ahead > 0)
                rc = weft_stream_write(to, from->in + from->at, ahead);
            if (rc < 0)
                break;
            from->at += ahead;
            n += ahead;
            if ((rc = weft_stream_flush(to)) < 0) /* who waits for this may be who is waited for */
                break;
        } while ((rc = weft__stream_fill(from, WEFT__STREAM_KEEP)) > 0);
        weft__stream_leave(from);
    }
    if (moved)
        *moved = n;
    return rc;
}

int weft_stream_buffered(const weft_stream *s, weft_stream_buffers *out)
{
    if (!s || !out)
        return -EINVAL;
    *out = (weft_stream_buffers){ .read_ahead = at_load(&s->ahead),
        .read_limit = at_load(&s->limit),
        .kept = at_load(&s->kept),
        .write_buffer = at_load(&s->out_max) };
    return 0;
}

/* Under the mutex. What was for more than that is given back. */
static void keep_at_most(weft_stream *s, size_t bytes)
{
    at_store(&s->out_max, bytes);
    if (at_load(&s->kept) > 0 || s->out_size <= bytes)
        return;
    weft__mem_free(s->out);
    s->out = NULL;
    s->out_size = 0;
}

int weft_stream_set_limits(weft_stream *s, size_t read_limit, size_t write_buffer)
{
    if (weft__forked)
        return -ECHILD;
    if (!s || read_limit > MOST_LIMIT || write_buffer > MOST_LIMIT)
        return -EINVAL;
    if (read_limit > 0 && weft__stream_enter(s) < 0)
        return -EBUSY;
    int rc = write_buffer > 0 && weft_mutex_try_lock(&s->writing) < 0 ? -EBUSY : 0;
    if (rc == 0 && write_buffer > 0) {
        keep_at_most(s, write_buffer);
        weft_mutex_unlock(&s->writing);
    }
    if (read_limit > 0) {
        if (rc == 0)
            at_store(&s->limit, read_limit);
        weft__stream_leave(s);
    }
    return rc;
}

int weft_stream_fd(const weft_stream *s)
{
    return s ? s->carrier.ops->fd(s->carrier.self) : -1;
}

weft_carrier weft_stream_carrier(const weft_stream *s)
{
    return s->carrier;
}

int weft_stream_layer(weft_stream *s, const weft_carrier *over, weft_carrier *below)
{
    if (!s || !over || !over->ops || !below)
        return -EINVAL;
    int rc = weft__stream_enter(s);
    if (rc < 0)
        return rc;
    rc = weft_mutex_try_lock(&s->writing) < 0 ? -EBUSY : 0;
    if (rc == 0) {
        if (weft__stream_ahead(s) > 0 || at_load(&s->kept) > 0)
            rc = -EBUSY;
        if (rc == 0) {
            *below = s->carrier;
            s->carrier = *over;
        }
        weft_mutex_unlock(&s->writing);
    }
    weft__stream_leave(s);
    return rc;
}
