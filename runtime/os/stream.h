/* os/stream.h - the inside of a stream, for its parts. See stream.c. */
#ifndef WEFT_OS_STREAM_H
#define WEFT_OS_STREAM_H

#include <stdarg.h>
#include <weft/stream.h>
#include <weft/sync.h>

#include "base/atomic.h"

enum {
    WEFT__STREAM_LIMIT = 65536,
    WEFT__STREAM_KEEP = 16384,
    WEFT__STREAM_FIRST_KEPT = 512,
    WEFT__STREAM_FIRST = 4096, /* bytes of the first buffer for reading; and more than the longest separator */
};

struct weft_stream {
    weft_carrier carrier; /* written while nobody is in a call */
    /* Of who reads. */
    at_int reading; /* T1 */
    bool reset;     /* what it has sent before reading met -ECONNRESET: the end is none */
    char *in;       /* in[at .. end) has been read ahead; in_size + 1 bytes */
    size_t in_size, at, end;
    at_word limit, ahead; /* T4: ahead is end - at, as the last call or read has left it */
    /* Under `writing`. */
    weft_mutex writing;
    char *out; /* out[sent .. sent + kept) is to be sent; out_size bytes, which may become out_max */
    size_t out_size, sent;
    at_word out_max, kept; /* T2, T4 */
    at_word by;   /* T2: who has kept something last, by its number, which no later task has */
    int broken;   /* what every write returns; 0: it goes on */
    bool shut;    /* its end was sent: nothing that was kept is lost, whatever `broken` says */
    bool keeps_fd; /* weft_stream_abort leaves it alone */
};

/* ---- stream.c */

/* A stream over `c`, which is its own if that succeeds. 0; -ENOMEM; -EINVAL. */
int weft__stream_make(weft_stream **out, const weft_carrier *c, const weft_stream_options *o);

static inline size_t weft__stream_ahead(const weft_stream *s)
{
    return s->end - s->at;
}

/* T1. 0; -EBUSY, -EINVAL. */
int weft__stream_enter(weft_stream *s);
static inline void weft__stream_leave(weft_stream *s)
{
    at_store(&s->ahead, weft__stream_ahead(s));
    ati_store_release(&s->reading, 0); /* release: meets the acquire of weft__stream_enter */
}

/* read_limit; it stays while one is in a call that reads. */
static inline size_t weft__stream_limit(const weft_stream *s)
{
    return at_load(&s->limit);
}
/* Reads more, at least one byte, into a buffer with room for `most` bytes in all: 1; 0 the end; negative, and all is as it
 * was. */
int weft__stream_fill(weft_stream *s, size_t most);

/* Sends or keeps all of it; together. `whole`: if a part of it is out when it is cancelled, nothing can be written any more. */
int weft__stream_put(weft_stream *s, const struct iovec *v, int n, bool whole);

#endif
