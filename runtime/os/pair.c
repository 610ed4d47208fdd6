/* os/pair.c - two streams that carry each other's bytes through memory.
 *
 * Owns      two pipes, one each way: what was written and not read yet, at most ROOM bytes, and who has closed.
 * Callers   the streams, as carriers (os/stream.c). Tests like them: no descriptor is waited for, so virtual time leaps.
 * Holds     all of a pipe is under its lock. The pair is freed by whose end goes last.
 * Tested    tests/stream_test.c */
#include <errno.h>
#include <string.h>

#include "base/fork.h"
#include "base/futex.h"
#include "base/mem.h"
#include "coord/await.h"
#include "os/stream.h"

enum { ROOM = 65536, AT_ONCE = 16384 /* bytes that are moved in one hold of the lock */ };

/* Of one way. */
struct pipe {
    struct weft__lock lock;
    weft_notify filled, drained; /* for the one that reads, or writes; either may come for nothing */
    size_t head, len;
    bool ended;  /* nothing more is written */
    bool unread; /* nobody reads any more */
    char bytes[ROOM];
};

struct pair {
    struct pipe way[2]; /* way[k] is written by end k */
    at_int ends;        /* that are open */
};

struct end {
    struct pair *pair;
    int k;
};

static struct pipe *to_write(const struct end *e)
{
    return &e->pair->way[e->k];
}
static struct pipe *to_read(const struct end *e)
{
    return &e->pair->way[1 - e->k];
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Under the lock; at most what is there. */
static size_t take(struct pipe *p, char *to, size_t n)
{
    n = smaller(n, p->len);
    size_t first = smaller(n, ROOM - p->head);
    memcpy(to, p->bytes + p->head, first);
    memcpy(to + first, p->bytes, n - first);
    p->head = (p->head + n) % ROOM;
    p->len -= n;
    return n;
}

/* Under the lock; at most what there is room for. */
static size_t give(struct pipe *p, const char *from, size_t n)
{
    n = smaller(n, ROOM - p->len);
    size_t tail = (p->head + p->len) % ROOM, first = smaller(n, ROOM - tail);
    memcpy(p->bytes + tail, from, first);
    memcpy(p->bytes, from + first, n - first);
    p->len += n;
    return n;
}

/* What can be moved now, or -EAGAIN. */
static int read_now(struct pipe *p, void *buf, size_t n)
{
    weft__lock(&p->lock);
    int rc = p->len > 0 ? (int)take(p, buf, smaller(n, AT_ONCE)) : p->ended ? 0 : -EAGAIN;
    weft__unlock(&p->lock);
    if (rc > 0)
        weft_notify_one(&p->drained);
    return rc;
}

static int write_now(struct pipe *p, const struct iovec *v, int n)
{
    size_t moved = 0;
    weft__lock(&p->lock);
    int rc = p->unread || p->ended ? -EPIPE : p->len == ROOM ? -EAGAIN : 0;
    for (int i = 0; rc == 0 && i < n && moved < AT_ONCE; i++)
        if (v[i].iov_len > 0)
            moved += give(p, v[i].iov_base, smaller(v[i].iov_len, AT_ONCE - moved));
    weft__unlock(&p->lock);
    if (moved > 0)
        weft_notify_one(&p->filled);
    return rc < 0 ? rc : (int)moved;
}

static int pair_read(void *self, void *buf, size_t n)
{
    struct pipe *p = to_read(self);
    struct weft__frame *f = weft__current();
    int rc = !f ? weft__no_frame() : weft__enter_call(f);
    while (rc == 0 && (rc = read_now(p, buf, n)) == -EAGAIN)
        rc = weft_notify_wait(&p->filled);
    return rc;
}

static int pair_writev(void *self, const struct iovec *v, int n)
{
    struct pipe *p = to_write(self);
    struct weft__frame *f = weft__current();
    int rc = !f ? weft__no_frame() : weft__enter_call(f);
    while (rc == 0 && (rc = write_now(p, v, n)) == -EAGAIN)
        rc = weft_notify_wait(&p->drained);
    return rc;
}

/* Whoever waits there is told. */
static void say(struct pipe *p, bool *what)
{
    weft__lock(&p->lock);
    *what = true;
    weft__unlock(&p->lock);
    weft_notify_one(&p->filled);
    weft_notify_one(&p->drained);
}

static int pair_shutdown(void *self)
{
    struct pipe *p = to_write(self);
    say(p, &p->ended);
    return 0;
}

static void pair_drop(void *self)
{
    struct end *e = self;
    struct pair *both = e->pair;
    say(to_write(e), &to_write(e)->ended);
    say(to_read(e), &to_read(e)->unread);
    weft__mem_free(e);
    /* Release and acquire: what the other end did before it went comes before the free. */
    if (ati_add(&both->ends, (uint32_t)-1) == 1)
        weft__mem_free(both);
}

static int pair_close(void *self)
{
    pair_drop(self);
    return 0;
}

static int pair_fd(void *self)
{
    (void)self;
    return -1;
}

static const weft_carrier_ops pair_ops = { pair_read, pair_writev, pair_shutdown, pair_close, pair_drop, pair_fd };

int weft_stream_pair(weft_stream **a, weft_stream **b)
{
    if (weft__forked)
        return -ECHILD;
    if (!a || !b)
        return -EINVAL;
    struct pair *both = weft__mem_zeroed(sizeof *both);
    struct end *e[2] = { weft__mem_alloc(sizeof *e[0]), weft__mem_alloc(sizeof *e[1]) };
    weft_stream *s[2] = { NULL, NULL };
    int rc = both && e[0] && e[1] ? 0 : -ENOMEM;
    for (int k = 0; k < 2 && rc == 0; k++) {
        *e[k] = (struct end){ both, k };
        rc = weft__stream_make(&s[k], &(weft_carrier){ &pair_ops, e[k] }, NULL);
    }
    if (rc < 0) {
        weft__mem_free(s[0]);
        weft__mem_free(e[0]);
        weft__mem_free(e[1]);
        weft__mem_free(both);
        return rc;
    }
    ati_store(&both->ends, 2);
    *a = s[0];
    *b = s[1];
    return 0;
}
