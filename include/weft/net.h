/* weft/net.h - TCP and Unix sockets.
 *
 * Addresses are text: "127.0.0.1:80", "[::1]:80", ":7777" (every address), "unix:/run/x", "unix:@abstract".
 * In this version the host is numeric.
 */
#ifndef WEFT_NET_H
#define WEFT_NET_H

#include <sys/socket.h>
#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_listen_options {
    int backlog;          /* pending connections; 0: 4096 */
    bool reuse_port;      /* SO_REUSEPORT: several listeners share the port */
    bool v6_only;         /* ":port" and "[::]:port" take IPv6 only */
    unsigned unix_mode;   /* permissions of a Unix socket's file; 0: as the umask says */
    uint64_t reserved[8]; /* zero */
} weft_listen_options;

/* Opens a listener, with SO_REUSEADDR. An existing Unix socket file on which nobody listens is replaced.
 *
 * returns    a descriptor; -EINVAL not an address; -EADDRINUSE, -EACCES, ...
 * context    task or plain thread; does not suspend */
WEFT_CHECK WEFT_API int weft_listen(const char *where, const weft_listen_options *o);

/* Takes the next connection, with TCP_NODELAY. Connections that died in the queue are passed over. When
 * descriptors or memory run out it pauses, from 1 to 100 ms, and tries again for one second before it gives
 * the error back; the connection stays in the queue.
 *
 * returns    a descriptor; -ECANCELED; -EBADF; -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM; -EINVAL not listening
 * context    task: suspends, cancellation point, no connection is then lost; plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_accept(int listener);

typedef struct weft_connect_options {
    const char *from;     /* local address to use; NULL: any */
    bool delay;           /* leave Nagle's algorithm on; by default TCP_NODELAY is set */
    uint64_t reserved[8]; /* zero */
} weft_connect_options;

/* Connects.
 *
 * returns    a descriptor; -ECANCELED; -EINVAL not an address; -ECONNREFUSED, -ETIMEDOUT, ...
 * context    task: suspends, cancellation point, the attempt is then given up; plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_connect(const char *where, const weft_connect_options *o);

/* shutdown(2): SHUT_WR sends the end of the stream, reading goes on. Does not suspend. */
WEFT_CHECK WEFT_API int weft_shutdown(int fd, int how);

/* A connected pair of stream sockets, both to be closed by weft_close. */
WEFT_CHECK WEFT_API int weft_pair(int fds[2]);

typedef struct weft_addr {
    struct sockaddr_storage sa;
    socklen_t len;
} weft_addr;

/* Reads an address in the form above.
 *
 * returns    0; -EINVAL, *out is then untouched */
WEFT_CHECK WEFT_API int weft_addr_parse(weft_addr *out, const char *numeric);

/* Writes it in the form above, always terminated.
 *
 * returns    the length; -ENOSPC it was cut; -EINVAL */
WEFT_API int weft_addr_text(const weft_addr *a, char *out, size_t bytes);

/* The address of this end, and of the other. */
WEFT_CHECK WEFT_API int weft_addr_local(int fd, weft_addr *out);
WEFT_CHECK WEFT_API int weft_addr_peer(int fd, weft_addr *out);

#ifdef __cplusplus
}
#endif
#endif
