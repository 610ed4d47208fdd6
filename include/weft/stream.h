/* weft/stream.h - buffered reading and writing: lines, frames, whatever carries the bytes.
 *
 * A stream is over a descriptor of any kind (TCP, Unix sockets, pipes, terminals), over memory (weft_stream_pair), or over a
 * layer that was laid over one of these (weft_stream_layer, TLS). One task may read while another writes. A second reader
 * is refused (-EBUSY), since what reading hands out lies in the stream; several may write, each call's bytes together.
 *
 * What is written is kept until there is enough of it. It is sent by weft_stream_flush, when the stream is closed, and
 * before who wrote it reads for more of the same stream: so a dialogue of one task needs no flush, and answers to requests
 * that came together leave together. Who writes beside a task that reads has to flush.
 * An error of writing but -ECANCELED is for good: what was kept is lost, and later calls return it again. A read that was to
 * send it first returns it, too; but where the other side has gone (-EPIPE, -ECONNRESET) it reads what that has said before.
 * Only what was refused before anything was kept or sent (-EINVAL, -EMSGSIZE, -ENOMEM for the buffer) leaves all as it was.
 *
 * context    task: suspends, cancellation point (no byte is lost); plain thread: blocks it
 * errors     those of weft_read and weft_write, and
 *            -ECANCELED  told to leave
 *            -EBUSY      another task reads
 *            -EMSGSIZE   more than read_limit; nothing of it was taken
 *            -ENODATA    it ended in the middle; nothing of the last piece was taken
 *            -EPROTO     what is to be a length (WEFT_HEAD_VARINT) is none; nothing of it was taken
 *            -ENOMEM, -EINVAL
 *            Of -EMSGSIZE, -ENODATA and -EPROTO weft_error_text (error.h) says more: how much there was, of how much
 */
#ifndef WEFT_STREAM_H
#define WEFT_STREAM_H

#include <sys/uio.h>
#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Buffers in front of what carries bytes. */
typedef struct weft_stream weft_stream;

/* How a stream is to be. All zero, or NULL, are the defaults. */
typedef struct weft_stream_options {
    size_t read_limit;    /* bytes of a line, a frame, a piece up to a separator, as handed out; 0: 65536 */
    size_t write_buffer;  /* bytes that are kept before they are sent; 0: 16384 */
    bool keep_fd;         /* the descriptor stays open when the stream is closed */
    uint64_t reserved[8]; /* zero */
} weft_stream_options;

/* Opens a stream over a descriptor, which belongs to it then (but see keep_fd). Buffers come with the first use.
 *
 * returns    0; -EBADF; -EINVAL; -ENOMEM
 * on error   the descriptor is still the caller's
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_stream_open(weft_stream **out, int fd, const weft_stream_options *o);

/* Opens two streams: what is written to one is read from the other. No descriptor is used; each way keeps 64 KiB.
 *
 * returns    0; -EINVAL; -ENOMEM
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_stream_pair(weft_stream **a, weft_stream **b);

/* Sends what is kept, closes, and sets *s to NULL; NULL in *s: nothing is done. Nobody else may be in a call on it. Who has
 * been told to leave has a tenth of a second more for what is kept.
 *
 * returns    0; what kept it from being sent, or from being closed politely. It is closed in any case
 * context    task: suspends, cancellation point (what is kept may be lost); plain thread: blocks it */
WEFT_API int weft_stream_close(weft_stream **s);

/* Closes at once; what is kept is lost. Sets *s to NULL. Nobody else may be in a call on it. For WEFT_AUTO.
 *
 * context    any thread: never suspends */
WEFT_API void weft_stream_drop(weft_stream **s);

/* As weft_stream_drop, and a TCP connection is reset: what was sent and is still on its way is lost, too, and the other side
 * hears -ECONNRESET instead of an end. By that a peer that takes nothing holds no memory of the kernel's. Of a Unix socket,
 * a pipe, or with keep_fd it is weft_stream_drop.
 *
 * context    any thread: never suspends */
WEFT_API void weft_stream_abort(weft_stream **s);

/* Reads what is there, at least one byte, waiting for it.
 *
 * returns    how many bytes; 0 the end (or nothing was asked for) */
WEFT_CHECK WEFT_API int weft_stream_read(weft_stream *s, void *buf, size_t n);

/* Reads exactly n bytes. *done (NULL: not told) is how many have come, also on an error and at the end: these are in buf.
 *
 * returns    1; 0 the end came before the first byte; -ENODATA it came later
 * context    task: suspends, cancellation point (what has come is in buf, *done bytes); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_stream_read_all(weft_stream *s, void *buf, size_t n, size_t *done);

/* Reads a line. It lies in the stream until the next call that reads, without its end ("\n" or "\r\n") and with a zero
 * instead; *len (NULL: not told) is its length, should it have zeros in it. The last one need not have an end.
 *
 * returns    1; 0 the end */
WEFT_CHECK WEFT_API int weft_stream_read_line(weft_stream *s, char **line, size_t *len);

/* Reads up to a separator of 1 to 4096 bytes, which is taken and not handed out; otherwise as a line.
 *
 * returns    1; 0 the end came before the first byte; -ENODATA it came before the separator */
WEFT_CHECK WEFT_API int weft_stream_read_until(
        weft_stream *s, const void *sep, size_t sep_bytes, char **data, size_t *len);

/* For `head` of frames: the length as Protocol Buffers have it before a delimited message, in 1 to 10 bytes of 7 bits each,
 * the lowest first, with the highest bit set in all bytes but the last. One in more bytes than it needs is refused. */
#define WEFT_HEAD_VARINT (-1)

/* Reads a frame: its length in `head` bytes (1, 2, 4 or 8), the highest first, or as WEFT_HEAD_VARINT, and so many bytes,
 * which lie in the stream until the next call that reads. No zero follows them. No memory is taken for what is longer than
 * read_limit.
 *
 * returns    1; 0 the end came before the first byte; -ENODATA it came later */
WEFT_CHECK WEFT_API int weft_stream_read_frame(weft_stream *s, int head, char **data, size_t *len);

/* Writes a frame.
 *
 * returns    0; -EMSGSIZE the length does not fit into `head` bytes
 * context    task: suspends, cancellation point (if a part of it is out, nothing can be written any more); plain thread:
 *            blocks it */
WEFT_CHECK WEFT_API int weft_stream_write_frame(weft_stream *s, int head, const void *data, size_t n);

/* Writes everything, waiting while it is more than is kept and the other side does not take it. What is long is sent from
 * where it lies.
 *
 * returns    0
 * context    task: suspends, cancellation point (an unknown part of this call's bytes is kept or sent); plain thread: blocks
 *            it */
WEFT_CHECK WEFT_API int weft_stream_write(weft_stream *s, const void *buf, size_t n);
WEFT_CHECK WEFT_API int weft_stream_writev(weft_stream *s, const struct iovec *v, int n);
WEFT_CHECK WEFT_API int weft_stream_puts(weft_stream *s, const char *text);
WEFT_CHECK WEFT_API int weft_stream_printf(weft_stream *s, const char *format, ...) WEFT_PRINTF(2, 3);

/* Sends what is kept.
 *
 * returns    0
 * context    task: suspends, cancellation point (what is not sent is still kept); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_stream_flush(weft_stream *s);

/* Sends what is kept and then the end; reading goes on. Later writes return -EPIPE.
 *
 * returns    0; -ENOTSOCK the descriptor has no such end: close the stream */
WEFT_CHECK WEFT_API int weft_stream_shutdown(weft_stream *s);

/* Copies until the end of `from`; what has come is sent before more is waited for. The end is not sent on. *moved (NULL:
 * not told) is how much `to` has taken.
 *
 * returns    0
 * context    task: suspends, cancellation point (as weft_stream_write); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_stream_copy(weft_stream *to, weft_stream *from, uint64_t *moved);

/* What lies in the buffers of a stream, and how much may. What the kernel keeps (SIOCINQ, SIOCOUTQ), a layer, or a pair in
 * memory is not counted, nor what a call that writes is just sending from where it lies. */
typedef struct weft_stream_buffers {
    size_t read_ahead;    /* bytes that have come and that no call has taken */
    size_t read_limit;    /* as in weft_stream_options */
    size_t kept;          /* bytes that were written and are not sent */
    size_t write_buffer;  /* as in weft_stream_options */
    uint64_t reserved[4]; /* zero */
} weft_stream_buffers;

/* Says what lies in a stream's buffers, and how much may. Others may change it meanwhile: who looks beside them has of each
 * number one that it was.
 *
 * returns    0; -EINVAL
 * on error   *out is untouched
 * context    any thread: never suspends. Also while others are in calls on it, but weft_stream_close and weft_stream_drop */
WEFT_CHECK WEFT_API int weft_stream_buffered(const weft_stream *s, weft_stream_buffers *out);

/* Sets the limits of weft_stream_options, from the next call on; 0: as it is. A write that would make it keep more than
 * write_buffer waits until all that is kept is sent: there is no lower mark at which it would go on, since nobody but who
 * writes (or flushes) sends. What is kept already, or was read ahead, may be more than a new limit and is not lost.
 * Reading needs no pause: nothing is read for who does not, and the other side's writer soon waits.
 *
 * returns    0; -EBUSY somebody is in a call that reads (for read_limit), or writes (for write_buffer): nothing was changed;
 *            -EINVAL more than there can be
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_stream_set_limits(weft_stream *s, size_t read_limit, size_t write_buffer);

/* Its descriptor, for options and addresses; -1: it has none.
 *
 * context    any thread: never suspends */
WEFT_API int weft_stream_fd(const weft_stream *s);

/* What carries the bytes of a stream. The functions get `self`. read and writev suspend as weft_read and weft_writev do,
 * are cancellation points, and return what these return; close and shutdown may suspend. At one time one call of read is
 * made, and one of the others. */
typedef struct weft_carrier_ops {
    int (*read)(void *self, void *buf, size_t n);
    int (*writev)(void *self, const struct iovec *v, int n);
    int (*shutdown)(void *self); /* nothing more will be written */
    int (*close)(void *self);    /* ends it politely, and frees it */
    void (*drop)(void *self);    /* ends it at once, and frees it; never suspends */
    int (*fd)(void *self);       /* -1: it has none */
} weft_carrier_ops;

/* One, by value. */
typedef struct weft_carrier {
    const weft_carrier_ops *ops;
    void *self;
} weft_carrier;

/* Lays `over` over what carries the stream, which is handed out in *below and is from then on the layer's to read, write,
 * close and drop. Nothing may be kept that was written, nor have been read ahead: that would get past the layer (bytes
 * injected before an upgrade to TLS).
 *
 * returns    0; -EBUSY bytes are kept, or were read ahead, or somebody is in a call: nothing was changed; -EINVAL
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_stream_layer(weft_stream *s, const weft_carrier *over, weft_carrier *below);

/* What carries it now: so a layer finds itself again.
 *
 * context    any thread: never suspends */
WEFT_API weft_carrier weft_stream_carrier(const weft_stream *s);

#ifdef __cplusplus
}
#endif

#endif
