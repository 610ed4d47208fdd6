/* os/socket.h - what the files about sockets share. */
#ifndef WEFT_OS_SOCKET_H
#define WEFT_OS_SOCKET_H

#include <weft/net.h>

#include "base/errno.h"
#include "event/poller.h"

/* A socket of weft's own kind: close-on-exec, non-blocking. `type`: SOCK_STREAM, SOCK_DGRAM. os/net.c. */
int weft__socket_open(const weft_addr *a, int type);
/* Hands a new descriptor to the poller, or closes it. */
int weft__socket_adopt(int fd, uint64_t flags);
int weft__socket_set(int fd, int level, int name, int value);
static inline const struct sockaddr *weft__socket_sa(const weft_addr *a)
{
    return (const struct sockaddr *)(const void *)&a->sa;
}

/* What passes when others give descriptors or memory back. */
static inline bool weft__is_shortage(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM;
}

/* Makes one call on a socket, try(fd, arg), which never waits, until it gives something else than -EAGAIN, and waits for
 * readiness between. The context of weft_read. os/dgram.c. */
int weft__socket_call(int fd, enum weft__dir dir, int (*try)(int fd, void *arg), void *arg);

#endif
