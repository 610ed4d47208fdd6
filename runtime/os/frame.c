/* os/frame.c - pieces of a stream: lines, up to a separator, with a length before them.
 *
 * Owns      nothing: a piece that is handed out lies in what was read ahead (os/stream.h) until the next call reads.
 * Callers   who reads the stream, and who writes to it.
 * Holds     a piece is taken whole or not at all: until it is there, and on every error, all of it stays read ahead.
 * Source    of WEFT_HEAD_VARINT: Protocol Buffers, base 128 varints, which write each number in one way; that readers take only
 *           that one: multiformats' unsigned varints.
 * Tested    tests/stream_test.c */
#include <errno.h>
#include <string.h>
#include <weft/error.h>

#include "os/stream.h"

struct piece {
    char **data;
    size_t *len;
};

/* n bytes from `skip` on, and of the stream `taken` in all. A zero behind them lies in what is taken, or behind the end. */
static int hand_out(weft_stream *s, size_t skip, size_t n, size_t taken, struct piece p)
{
    *p.data = s->in + s->at + skip;
    if (p.len)
        *p.len = n;
    s->at += taken;
    return 1;
}

/* Before the end "\n" that follows; the last line has none. */
static int hand_out_line(weft_stream *s, size_t n, bool has_end, struct piece p)
{
    char *line = s->in + s->at;
    size_t taken = has_end ? n + 1 : n;
    if (has_end && n > 0 && line[n - 1] == '\r')
        n--;
    line[n] = 0;
    return hand_out(s, 0, n, taken, p);
}

/* Where the separator is, of those behind the first `looked` bytes, which have none; NULL: nowhere. */
static char *find(const weft_stream *s, size_t looked, const void *sep, size_t bytes)
{
    char *from = s->in + s->at + looked;
    return memmem(from, weft__stream_ahead(s) - looked, sep, bytes);
}

/* How much of what is ahead, without a separator in it, may yet be a piece and the beginning of its separator. */
static size_t longest(const weft_stream *s, size_t bytes, bool line)
{
    bool half = line && weft__stream_ahead(s) > weft__stream_limit(s) && s->in[s->at + weft__stream_limit(s)] == '\r';
    return weft__stream_limit(s) + bytes - 1 + half;
}

/* The end of the piece is further away than it may be. */
static int too_long(const weft_stream *s)
{
    return weft_fail(-EMSGSIZE, "no end within %zu bytes, of which %zu are ahead", weft__stream_limit(s), weft__stream_ahead(s));
}

static int until(weft_stream *s, const void *sep, size_t bytes, bool line, struct piece p)
{
    size_t looked = 0;
    for (;;) {
        size_t ahead = weft__stream_ahead(s);
        char *at = ahead - looked >= bytes ? find(s, looked, sep, bytes) : NULL;
        size_t n = at ? (size_t)(at - (s->in + s->at)) : ahead;
        if (at && (n <= weft__stream_limit(s) || (line && n == weft__stream_limit(s) + 1 && at[-1] == '\r'))) {
            if (line)
                return hand_out_line(s, n, true, p);
            *at = 0;
            return hand_out(s, 0, n, n + bytes, p);
        }
        if (at || ahead > longest(s, bytes, line))
            return too_long(s);
        looked = ahead >= bytes ? ahead - (bytes - 1) : 0;
        int rc = weft__stream_fill(s, ahead + 1);
        if (rc < 0)
            return rc;
        if (rc > 0)
            continue;
        if (ahead == 0)
            return 0;
        if (!line)
            return weft_fail(-ENODATA, "%zu bytes came before the end, and no separator", ahead);
        return ahead <= weft__stream_limit(s) ? hand_out_line(s, ahead, false, p) : too_long(s);
    }
}

int weft_stream_read_line(weft_stream *s, char **line, size_t *len)
{
    int rc = line ? weft__stream_enter(s) : -EINVAL;
    if (rc < 0)
        return rc;
    rc = until(s, "\n", 1, true, (struct piece){ line, len });
    weft__stream_leave(s);
    return rc;
}

int weft_stream_read_until(weft_stream *s, const void *sep, size_t sep_bytes, char **data, size_t *len)
{
    int rc = data && sep && sep_bytes > 0 && sep_bytes <= WEFT__STREAM_FIRST ? weft__stream_enter(s) : -EINVAL;
    if (rc < 0)
        return rc;
    rc = until(s, sep, sep_bytes, false, (struct piece){ data, len });
    weft__stream_leave(s);
    return rc;
}

/* ---- with a length before them */

enum { LONGEST_VARINT = 10 /* bytes, for 64 bits */, MORE = 0x80, OF_EACH = 7 /* bits */ };

static bool is_head(int head)
{
    return head == 1 || head == 2 || head == 4 || head == 8 || head == WEFT_HEAD_VARINT;
}

static int cut_off(const weft_stream *s, size_t bytes)
{
    return weft_fail(-ENODATA, "%zu of %zu bytes of a frame came before the end", weft__stream_ahead(s), bytes);
}

/* Reads until so much is ahead: 1; 0 the end, and nothing is. */
static int need(weft_stream *s, size_t bytes)
{
    while (weft__stream_ahead(s) < bytes) {
        int rc = weft__stream_fill(s, bytes);
        if (rc < 0)
            return rc;
        if (rc == 0)
            return weft__stream_ahead(s) > 0 ? cut_off(s, bytes) : 0;
    }
    return 1;
}

/* A length, and how many bytes it takes itself. */
struct head {
    uint64_t n;
    size_t bytes;
};

/* 1; 0 the end, and nothing is ahead. */
static int read_fixed(weft_stream *s, struct head *h)
{
    int rc = need(s, h->bytes);
    for (size_t i = 0; rc > 0 && i < h->bytes; i++)
        h->n = h->n << 8 | (unsigned char)s->in[s->at + i];
    return rc;
}

/* The same; it ends where no more is said to follow. */
static int read_varint(weft_stream *s, struct head *h)
{
    unsigned char byte;
    int rc;
    do {
        if ((rc = need(s, h->bytes + 1)) <= 0)
            return rc;
        byte = (unsigned char)s->in[s->at + h->bytes++];
        if (h->bytes == LONGEST_VARINT && byte > 1)
            return weft_fail(-EPROTO, "the length of a frame is more than 64 bits");
        h->n |= (uint64_t)(byte & (MORE - 1)) << OF_EACH * (h->bytes - 1);
    } while (byte & MORE);
    if (byte == 0 && h->bytes > 1)
        return weft_fail(-EPROTO, "the length of a frame, %llu, is written in %zu bytes", (unsigned long long)h->n, h->bytes);
    return 1;
}

static int frame(weft_stream *s, int head, struct piece p)
{
    bool varint = head == WEFT_HEAD_VARINT;
    struct head h = { .bytes = varint ? 0 : (size_t)head };
    int rc = varint ? read_varint(s, &h) : read_fixed(s, &h);
    if (rc <= 0)
        return rc;
    size_t limit = weft__stream_limit(s);
    if (h.n > limit)
        return weft_fail(-EMSGSIZE, "a frame of %llu bytes, and the limit is %zu", (unsigned long long)h.n, limit);
    rc = need(s, h.bytes + h.n);
    return rc < 0 ? rc : hand_out(s, h.bytes, h.n, h.bytes + h.n, p);
}

int weft_stream_read_frame(weft_stream *s, int head, char **data, size_t *len)
{
    int rc = data && is_head(head) ? weft__stream_enter(s) : -EINVAL;
    if (rc < 0)
        return rc;
    rc = frame(s, head, (struct piece){ data, len });
    weft__stream_leave(s);
    return rc;
}

/* Returns how many bytes it takes. */
static size_t write_varint(unsigned char *to, uint64_t n)
{
    size_t bytes = 0;
    for (; n >= MORE; n >>= OF_EACH)
        to[bytes++] = (unsigned char)(n | MORE);
    to[bytes++] = (unsigned char)n;
    return bytes;
}

static size_t write_fixed(unsigned char *to, uint64_t n, int head)
{
    for (int i = 0; i < head; i++)
        to[i] = (unsigned char)(n >> 8 * (head - 1 - i));
    return (size_t)head;
}

int weft_stream_write_frame(weft_stream *s, int head, const void *data, size_t n)
{
    unsigned char length[LONGEST_VARINT];
    if (!is_head(head))
        return -EINVAL;
    bool varint = head == WEFT_HEAD_VARINT;
    if (!varint && head < 8 && (uint64_t)n >> 8 * head != 0)
        return -EMSGSIZE;
    size_t bytes = varint ? write_varint(length, n) : write_fixed(length, n, head);
    return weft__stream_put(s, (struct iovec[]){ { length, bytes }, { (void *)(uintptr_t)data, n } }, 2, true);
}
