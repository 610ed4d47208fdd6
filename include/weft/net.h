/* weft/net.h - TCP and Unix sockets.
 *
 * Addresses are text: "127.0.0.1:80", "[::1]:80", ":7777" (every address), "unix:/run/x", "unix:@abstract".
 * In this version the host is numeric.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_NET_H
#define WEFT_NET_H

#include <sys/socket.h>
#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How to listen. All zero, or NULL, are the defaults. */
typedef struct weft_listen_options {
    int backlog;          /* pending connections; 0: 4096 */
    bool reuse_port;      /* SO_REUSEPORT: several listeners share the port */
    bool v6_only;         /* ":port" and "[::]:port" take IPv6 only */
    unsigned unix_mode;   /* permissions of a Unix socket's file; 0: as the umask says */
    uint64_t reserved[8]; /* zero */
} weft_listen_options;

/* Opens a listener, with SO_REUSEADDR. An existing Unix socket file on which nobody listens is replaced.
 *
 * returns    a descriptor; -EINVAL not an address, or bad options; -EADDRINUSE, -EACCES, -EMFILE, ... */
WEFT_CHECK WEFT_API int weft_listen(const char *where, const weft_listen_options *o);

/* Takes the next connection, with TCP_NODELAY. Connections that died in the queue are passed over. When
 * descriptors or memory run out it pauses, from 1 to 100 ms, and tries again for one second before it gives
 * the error back; the connection stays in the queue. One only is closed: that was taken, and finds no memory (a page for
 * hundreds of descriptors) to be waited for.
 *
 * returns    a descriptor; -ECANCELED; -EBADF; -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM; -EINVAL not listening; -EAGAIN
 *            only on a plain thread, of a non-blocking listener that weft did not open: somebody else was first
 * context    task: suspends, cancellation point (no connection is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_accept(int listener);

/* How to connect. All zero, or NULL, are the defaults. */
typedef struct weft_connect_options {
    const char *from;     /* local address to use; NULL: any */
    bool delay;           /* leave Nagle's algorithm on; by default TCP_NODELAY is set */
    uint64_t reserved[8]; /* zero */
} weft_connect_options;

/* Connects. On an error nothing stays open.
 *
 * returns    a descriptor; -ECANCELED; -EINVAL not an address, one without a host, or bad options; -ECONNREFUSED,
 *            -ETIMEDOUT, -EMFILE, ...
 * context    task: suspends, cancellation point (the attempt is given up); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_connect(const char *where, const weft_connect_options *o);

/* shutdown(2): SHUT_WR sends the end of the stream, reading goes on.
 *
 * returns    0; -EBADF; -ENOTSOCK; -ENOTCONN; -EINVAL */
WEFT_CHECK WEFT_API int weft_shutdown(int fd, int how);

/* A connected pair of stream sockets, both to be closed by weft_close.
 *
 * returns    0; -EINVAL; -EMFILE, -ENFILE, -ENOMEM; fds is then untouched */
WEFT_CHECK WEFT_API int weft_pair(int fds[2]);

/* An address, as the kernel has it. */
typedef struct weft_addr {
    struct sockaddr_storage sa;
    socklen_t len;
} weft_addr;

/* Reads an address as text, in one of the forms at the top of net.h.
 *
 * returns    0; -EINVAL, *out is then untouched */
WEFT_CHECK WEFT_API int weft_addr_parse(weft_addr *out, const char *numeric);

/* Writes an address as text, in the form that weft_addr_parse reads, always terminated.
 *
 * returns    the length; -ENOSPC it was cut; -EINVAL */
WEFT_API int weft_addr_text(const weft_addr *a, char *out, size_t bytes);

/* The address of this end, and of the other.
 *
 * returns    0; -EINVAL; -EBADF, -ENOTSOCK, -ENOTCONN; *out is then untouched */
WEFT_CHECK WEFT_API int weft_addr_local(int fd, weft_addr *out);
WEFT_CHECK WEFT_API int weft_addr_peer(int fd, weft_addr *out);

#ifdef __cplusplus
}
#endif
#endif
