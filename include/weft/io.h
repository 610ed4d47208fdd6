/* weft/io.h - reading and writing any descriptor.
 *
 * Descriptors stay descriptors. weft never changes O_NONBLOCK of one that it did not open; it asks for no
 * waiting call by call, and sends what can only block (regular files) to threads of the files' lane (offload.h).
 * Descriptors that weft opened (net.h) have to be closed by weft_close: after a close(2), whatever gets the number
 * next may wait for ever. Debug builds end the process when they see that.
 *
 * Reads and writes move at most 0x7ffff000 bytes a call (write_all and read_all say otherwise). A plain thread
 * waits by poll(2), so that it is told to leave in time; only what can be moved in no other way blocks for as long
 * as the kernel likes (regular files). The master of a pseudo-terminal is to be opened with O_NONBLOCK: else a write to it,
 * once begun, lasts until the other end has read enough.
 *
 * context    task: suspends, cancellation point (nothing was moved); plain thread: blocks it
 * errors     those of the system call, and
 *            -EBADF             not open, or closed while the call waited
 *            -ECANCELED         told to leave
 *            -EINVAL            NULL with a length, lengths that overflow, more than IOV_MAX pieces
 *            -EXDEV             another runtime waits on this descriptor
 *            -ENOMEM, -ENOSPC   no room to register it
 */
#ifndef WEFT_IO_H
#define WEFT_IO_H

#include <sys/uio.h>
#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What weft_wait_fd waits for. */
#define WEFT_READABLE 1
#define WEFT_WRITABLE 2

/* Reads what is there, at least one byte, waiting for it.
 *
 * returns    how many bytes; 0 the end (or nothing was asked for); a negative errno. The kernel tells once that a connection was
 *            reset; where weft opened it, a read after a write that was told so returns -ECONNRESET, too, instead of 0
 * source     one waiter word for each direction, edge-triggered, event/poller.c */
WEFT_CHECK WEFT_API int weft_read(int fd, void *buf, size_t n);
WEFT_CHECK WEFT_API int weft_readv(int fd, const struct iovec *v, int n);

/* Writes what fits, at least one byte, waiting for room. Raises no SIGPIPE, nor SIGXFSZ, on whatever kind and thread; those
 * that are pending stay so.
 *
 * returns    how many bytes; a negative errno */
WEFT_CHECK WEFT_API int weft_write(int fd, const void *buf, size_t n);
WEFT_CHECK WEFT_API int weft_writev(int fd, const struct iovec *v, int n);

/* Writes everything, however much.
 *
 * returns    0; a negative errno
 * on error   an unknown part was written
 * context    task: suspends, cancellation point (an unknown part was written); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_write_all(int fd, const void *buf, size_t n);

/* Reads exactly n bytes.
 *
 * returns    n; 0 the end came before the first byte; -ENODATA it came later, after as many bytes as weft_error_text
 *            (error.h) says; -EINVAL n is more than INT_MAX; a negative errno
 * on error   an unknown part was read and is lost
 * context    task: suspends, cancellation point (an unknown part was read and is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_read_all(int fd, void *buf, size_t n);

/* Copies until the end of `from`. *moved (NULL: not told) is how much `to` has taken, also on an error. The end is not sent
 * on. Between sockets of weft's own that have much to say the bytes do not pass through this process (splice(2), through a
 * pipe that is opened for it; without one, through a buffer of 16 KiB as between all others). Both stay open until it has
 * returned: that one was closed meanwhile it finds when it waits on it, or comes to it next.
 *
 * returns    0; -ENOMEM; those of weft_read and weft_write
 * on error   what was read and is not in *moved, at most 64 KiB, is lost
 * context    task: suspends, cancellation point (as on an error); plain thread: blocks it
 * source     os/copy.c */
WEFT_CHECK WEFT_API int weft_copy(int to, int from, uint64_t *moved);

/* Copies both ways at once, in two tasks, until both have ended. The end of one way is sent on (SHUT_WR) while the other
 * goes on. An error of one ends both; but where only the reader has gone (-EPIPE, or -ECONNRESET of a write), the other way
 * goes on to its end, since it may bring the reason. Nothing is closed.
 *
 * returns    0 both ways came to their end; -EINVAL a is b; -ECANCELED; the first error of a way; -ENOMEM. On a plain thread
 *            it needs a scope around it with .on: else -EINVAL
 * on error   as weft_copy
 * context    task: suspends, cancellation point (as weft_copy); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_copy_both(int a, int b, uint64_t *a_to_b, uint64_t *b_to_a);

/* Sends n bytes of a file from `offset` on, with UINT64_MAX all up to its end. The file's own position is neither used nor
 * moved. *moved (NULL: not told) is how much `to` has taken, also on an error: from offset + *moved on it can be called
 * again. To sockets of weft's own by sendfile(2), else through a buffer.
 *
 * returns    0; -ENODATA the file ended before; -EINVAL beyond INT64_MAX; -ESPIPE it has no offsets; -ENOMEM; those of
 *            weft_write
 * on error   nothing is lost: *moved is exact
 * context    task: suspends, cancellation point (as on an error); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_send_file(int to, int file, uint64_t offset, uint64_t n, uint64_t *moved);

/* Waits until `fd` is readable or writable (or has hung up, or has an error), for descriptors that another
 * library reads. Several tasks may wait; they are served in order.
 *
 * returns    the events that came, WEFT_READABLE | WEFT_WRITABLE; -EPERM this kind cannot be polled;
 *            -EINVAL; on a plain thread, which asks with a descriptor of its own, also -EMFILE, -ENFILE
 * context    task: suspends, cancellation point (no event is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_wait_fd(int fd, int events);

/* Closes it: calls that wait on it return -EBADF; the number is closed once the last call in flight is out.
 *
 * returns    0; -EBADF not open, or being closed
 * context    any thread: never suspends, not a cancellation point */
WEFT_API int weft_close(int fd);

/* For WEFT_AUTO: closes *fd unless it is negative.
 *
 * context    any thread: never suspends, not a cancellation point */
WEFT_API void weft_close_auto(const int *fd);

/* Forgets what weft knows of a descriptor that another library is about to close or to hand to another
 * runtime. Calls that wait on it return -EBADF. It stays open.
 *
 * returns    0; -EBADF
 * context    any thread: never suspends, not a cancellation point */
WEFT_API int weft_fd_forget(int fd);

#ifdef __cplusplus
}
#endif
#endif
