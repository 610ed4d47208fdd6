/* weft/net.h - TCP, UDP and Unix sockets.
 *
 * Addresses are text: "example.org:80", "127.0.0.1:80", "[::1]:80", ":7777" (every address), "unix:/run/x",
 * "unix:@abstract". Ports are numbers. A name is looked up as by weft_resolve (dns.h), whose errors come back, too. Other
 * options of sockets are set and read by setsockopt and getsockopt on the descriptor.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_NET_H
#define WEFT_NET_H

#include <sys/socket.h>
#include <weft/base.h>
#include <weft/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mmsghdr;

/* An address, as the kernel has it. */
typedef struct weft_addr {
    struct sockaddr_storage sa;
    socklen_t len;
} weft_addr;

/* How to listen. All zero, or NULL, are the defaults. */
typedef struct weft_listen_options {
    int backlog;          /* pending connections; 0: 4096 */
    bool reuse_port;      /* SO_REUSEPORT: several listeners share the port */
    bool v6_only;         /* ":port" and "[::]:port" take IPv6 only */
    unsigned unix_mode;   /* permissions of a Unix socket's file, before anybody can connect; 0: as the umask says */
    bool unix_keep;       /* a Unix socket's file stays when weft_close closes the listener */
    uint64_t reserved[8]; /* zero */
} weft_listen_options;

/* Opens a listener, with SO_REUSEADDR. An existing Unix socket file on which nobody listens is replaced. Of a name's
 * addresses it is the first one that this host has. weft_close of the listener removes its Unix socket's file (but see
 * unix_keep) if it is still the one that was made here: neither a successor's, nor in a forked child, nor by weft_fd_forget.
 *
 * returns    a descriptor; -EINVAL not an address, or bad options; -EADDRINUSE, -EACCES, -EMFILE, ...; -ECANCELED
 * context    task: suspends, cancellation point (nothing is opened); plain thread: blocks it. All that only for a name */
WEFT_CHECK WEFT_API int weft_listen(const char *where, const weft_listen_options *o);

/* A listener that the process was started with (LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, as systemd sets them): the next
 * of this name, or of any if it is NULL, that was not taken yet. It becomes close-on-exec and non-blocking. The environment
 * is read by the first call, and not changed: children find another process's number there.
 *
 * returns    a descriptor; -ENOENT there is none (left); -ENOTSOCK, -EINVAL it is there, but is no listener, and not taken */
WEFT_CHECK WEFT_API int weft_listen_inherited(const char *name);

/* Tells whoever started the process that it is ready (NOTIFY_SOCKET, as sd_notify(3) does).
 *
 * returns    1 told; 0 nobody asked; -EINVAL, -EAFNOSUPPORT no address of a Unix socket; -EAGAIN, -ECONNREFUSED, ...
 * context    any thread: never suspends */
WEFT_API int weft_service_ready(void);

/* Tells them how the service does: "STOPPING=1", "RELOADING=1" (and "READY=1" once that is done), "WATCHDOG=1",
 * "STATUS=three of five", or several of such, each in a line of its own: so a value has no line in it. What sd_notify(3) has
 * may be said, up to 4096 bytes. To RELOADING=1 the time is added (MONOTONIC_USEC). weft_service_ready says "READY=1".
 *
 * returns    as weft_service_ready; -EINVAL also NULL, or a line that is not NAME=value, even if nobody asked; -EMSGSIZE
 * context    any thread: never suspends */
WEFT_API int weft_service_notify(const char *state);

/* How long they wait for a "WATCHDOG=1" before they take the service for hung (WATCHDOG_USEC and WATCHDOG_PID): say it in half
 * of that, from a task, so that it says that tasks go on.
 *
 * returns    ns; 0 nobody waits for this process; -EINVAL there is something else than numbers
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int64_t weft_service_watchdog(void);

/* Takes the next connection, with TCP_NODELAY. Connections that died in the queue are passed over. When
 * descriptors or memory run out it pauses, from 1 to 100 ms, and tries again for one second before it gives
 * the error back; the connection stays in the queue. One only is closed: that was taken, and finds no memory (a page for
 * hundreds of descriptors) to be waited for. A listener that weft did not open, and that is a blocking one, is to be
 * accepted from by nothing else than this call: who loses a connection to another process, or to accept(2), would wait in
 * the kernel for the next, with its thread.
 *
 * returns    a descriptor; -ECANCELED; -EBADF; -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM; -EINVAL not listening
 * context    task: suspends, cancellation point (no connection is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_accept(int listener);

/* Serves one connection. The stream is the server's: it is closed when the handler has returned, at once if that returned
 * an error (but -ECANCELED), else after what is kept was sent. */
typedef int weft_conn_fn(weft_stream *s, void *arg);

/* How to serve. All zero, or NULL, are the defaults. */
typedef struct weft_serve_options {
    int limit;            /* connections at once: beyond it none is accepted; 0: as many as there are descriptors */
    int64_t grace;        /* for the handlers to come to an end once the server is to leave; 0: 5 s; negative: none */
    size_t stack_bytes;   /* of a handler's task; 0: the runtime's default; at most 8 MiB */
    uint64_t reserved[8]; /* zero */
} weft_serve_options;

/* Accepts connections, and calls the handler for each in a task of its own, until it is told to leave, or the listener fails
 * or is closed. Then it accepts no more, and lets the handlers go on for `grace`; they are not told. Who is still there is
 * cancelled then (for the reason "shutdown"), and half a second later finds its shields broken, too. A connection that was
 * cancelled so, and whose last words are not taken in a tenth of a second, or that stayed in a shield until it was broken, is
 * reset (weft_stream_abort). So it is over a second after the grace at the latest, unless a handler computes on without
 * waiting for anything.
 * A handler's error ends its own connection only, and is reported ("failure"); -EPIPE, -ECONNRESET and -ECANCELED are not:
 * the other side has gone. When descriptors or memory run out, that is reported once, and the connections wait in the
 * listener's queue. The listener stays open, and queues what comes, until the caller closes it.
 *
 * returns    -ECANCELED it was told to leave, and all handlers came to their end; -ETIMEDOUT it was told, and some had to be
 *            cancelled; -ECONNABORTED it was told, and some had to be reset; what weft_accept returned, but a shortage;
 *            -EINVAL bad options, no handler; -ENOMEM it could not begin. On a plain thread it needs a scope around it with
 *            .on: else -EINVAL
 * context    task: suspends, cancellation point (the handlers are awaited, as above); plain thread: blocks it
 * source     three scopes, os/serve.c */
WEFT_CHECK WEFT_API int weft_serve(int listener, weft_conn_fn *handler, void *arg, const weft_serve_options *o);

/* An address that could not be connected to. */
typedef struct weft_connect_failure {
    weft_addr addr;
    int error; /* negative, as weft_connect returns it */
} weft_connect_failure;

/* How to connect. All zero, or NULL, are the defaults. */
typedef struct weft_connect_options {
    const char *from;               /* local address to use, as text; port 0: a free one. Addresses of another family are
                                       left out, so "0.0.0.0:0" is IPv4 only. NULL: any */
    int64_t stagger;                /* ns until the next address is tried beside those before; 0: 250 ms */
    bool delay;                     /* leave Nagle's algorithm on; by default TCP_NODELAY is set */
    int failures_max;               /* how many there is room for; 16 are always enough */
    weft_connect_failure *failures; /* filled with what each address failed with, in the order in which they did; NULL: not */
    int *failed;                    /* how many have, more than failures_max if there was no room; NULL: not told */
    uint64_t reserved[5];           /* zero */
} weft_connect_options;

/* Connects. On an error nothing stays open. A name's addresses, at most 16, are tried in turn, IPv6 and IPv4 by turns; the
 * next one is begun when one has failed or after `stagger`, and the first that connects is taken (RFC 8305). If none does, the
 * error is that of the first, weft_error_text has as many of them as there is room for in a text, and `failures` all. What
 * had failed is in `failures` on every way out: also if another one connected, or the caller was told to leave. An attempt
 * that was given up is no failure.
 *
 * returns    a descriptor; -ECANCELED; -EINVAL not an address, one without a host, or bad options; -ECONNREFUSED,
 *            -ETIMEDOUT, -EMFILE, ...; -EAFNOSUPPORT no address is of the family of `from`; -EADDRNOTAVAIL, -EADDRINUSE
 *            `from` is no address of this host, or its port is taken
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

/* Opens a datagram socket. `local`: where it receives; NULL: a free port. `remote`: whom it is connected to, so that
 * weft_read and weft_write do, too; NULL: anybody. One of the two may be NULL. "unix:..." opens a Unix datagram socket.
 *
 * returns    a descriptor; -EINVAL; -EAFNOSUPPORT they are of two families; -EADDRINUSE, -EACCES, -EMFILE, ...; -ECANCELED
 * context    task: suspends, cancellation point (nothing is opened); plain thread: blocks it. All that only for a name */
WEFT_CHECK WEFT_API int weft_udp_open(const char *local, const char *remote);

/* Receives one datagram, and whom it is from (*from may be NULL; of a Unix socket without a name it has no length).
 *
 * returns    the bytes, which may be 0: that is no end; -EMSGSIZE it was longer than n and is lost, buf has its beginning;
 *            -ECONNREFUSED, ... what an earlier datagram met (a connected socket's); -ECANCELED; -EBADF
 * on error   *from is untouched
 * context    task: suspends, cancellation point (no datagram is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_recv_from(int fd, void *buf, size_t n, weft_addr *from);

/* Sends one datagram. `to`: NULL for a connected socket.
 *
 * returns    n; -EMSGSIZE too long for the way; -EDESTADDRREQ; -ECONNREFUSED, ... as above; -ECANCELED; -EINVAL; -EBADF
 * context    task: suspends, cancellation point (it was not sent); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_send_to(int fd, const void *buf, size_t n, const weft_addr *to);

/* Several datagrams in one system call, recvmmsg(2) and sendmmsg(2): waits for the first, takes what is there. The kernel
 * fills msg_len, and msg_hdr.msg_flags has MSG_TRUNC where a datagram was cut. At most 1024 are moved at once.
 *
 * returns    how many, at least 1; -ECANCELED; -EINVAL; -EBADF; as the calls for one
 * context    task: suspends, cancellation point (none was moved); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_recv_many(int fd, struct mmsghdr *m, unsigned n);
WEFT_CHECK WEFT_API int weft_send_many(int fd, struct mmsghdr *m, unsigned n);

/* Sends bytes, at least one, and descriptors with the first of them, through a Unix socket. The caller keeps its own.
 *
 * returns    how many bytes were sent, and all descriptors with them; -EINVAL, more than 253 too; -EPIPE; -EBADF one of them
 *            is none; -ETOOMANYREFS; -ECANCELED
 * context    task: suspends, cancellation point (nothing was sent); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_send_fds(int fd, const void *buf, size_t n, const int *fds, size_t nfds);

/* Receives bytes, and descriptors if some came with them, close-on-exec: at most *nfds, which then says how many.
 *
 * returns    the bytes; 0 the end; -EMSGSIZE more descriptors came than there is room for, or a datagram was longer than n;
 *            -EMFILE the process has no numbers for them; -ECANCELED; -EINVAL; -EBADF
 * on error   *nfds is untouched. After -EMSGSIZE and -EMFILE all descriptors that came are closed, the bytes are in buf; how
 *            many is not said: on a stream whose messages differ in length there is no going on
 * context    task: suspends, cancellation point (nothing is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_recv_fds(int fd, void *buf, size_t n, int *fds, size_t *nfds);

#ifdef __cplusplus
}
#endif
#endif
