/* weft/io.h - reading and writing any descriptor.
 *
 * Descriptors stay descriptors. weft never changes O_NONBLOCK of one that it did not open; it asks for no
 * waiting call by call, and sends what can only block (regular files) to the offload pool.
 * Descriptors that weft opened (net.h) have to be closed by weft_close: after a close(2), whatever gets the number
 * next may wait for ever. Debug builds end the process when they see that.
 *
 * All calls here: a wait that was cancelled took nothing (write_all and read_all say otherwise). On a plain
 * thread they block it, by poll(2). At most 0x7ffff000 bytes a call.
 *
 * errors     those of the system call, and
 *            -EBADF       not open, or closed while the call waited
 *            -ECANCELED   told to leave
 *            -EXDEV       another runtime waits on this descriptor
 *            -ENOMEM      no room to register it
 */
#ifndef WEFT_IO_H
#define WEFT_IO_H

#include <sys/uio.h>
#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_READABLE 1
#define WEFT_WRITABLE 2

/* Reads what is there, at least one byte, waiting for it; 0 at the end.
 *
 * context    task: suspends, cancellation point; plain thread: blocks it
 * source     one waiter word for each direction, edge-triggered, event/poller.c */
WEFT_CHECK WEFT_API int weft_read(int fd, void *buf, size_t n);
WEFT_CHECK WEFT_API int weft_readv(int fd, const struct iovec *v, int n);

/* Writes what fits, at least one byte, waiting for room. Never raises SIGPIPE on a socket. */
WEFT_CHECK WEFT_API int weft_write(int fd, const void *buf, size_t n);
WEFT_CHECK WEFT_API int weft_writev(int fd, const struct iovec *v, int n);

/* Writes everything. On an error or a cancel an unknown part was written.
 *
 * returns    0; a negative errno */
WEFT_CHECK WEFT_API int weft_write_all(int fd, const void *buf, size_t n);

/* Reads exactly n bytes. On an error or a cancel an unknown part was read and is lost.
 *
 * returns    n; 0 the end came before the first byte; -ENODATA it came later; a negative errno */
WEFT_CHECK WEFT_API int weft_read_all(int fd, void *buf, size_t n);

/* Waits until `fd` is readable or writable (or has hung up, or has an error), for descriptors that another
 * library reads. Several tasks may wait; they are served in order.
 *
 * returns    the events that came, WEFT_READABLE | WEFT_WRITABLE; -EPERM this kind cannot be polled;
 *            -EINVAL; on a plain thread, which asks with a descriptor of its own, also -EMFILE
 * context    task: suspends, cancellation point; plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_wait_fd(int fd, int events);

/* Closes it: calls that wait on it return -EBADF; the number is closed once the last call in flight is out.
 * Not a cancellation point.
 *
 * returns    0; -EBADF */
WEFT_API int weft_close(int fd);

/* For WEFT_AUTO: closes *fd unless it is negative. */
WEFT_API void weft_close_auto(const int *fd);

/* Forgets what weft knows of a descriptor that another library is about to close or to hand to another
 * runtime. Calls that wait on it return -EBADF. It stays open. */
WEFT_API int weft_fd_forget(int fd);

#ifdef __cplusplus
}
#endif
#endif
