/* os/dgram.c - datagrams.
 *
 * Nothing is remembered of what a socket had last: a datagram socket is asked until it says -EAGAIN, since a short one
 * does not tell that it was the last. MSG_DONTWAIT goes with each call, so that sockets of others' making work, too.
 *
 * Callers   the public functions; os/fds.c, which makes another call in the same way.
 * Tested    tests/dgram_test.c */
#include <limits.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <weft/dns.h>
#include <weft/io.h>
#include <weft/net.h>

#include "base/errno.h"
#include "base/fork.h"
#include "coord/await.h"
#include "os/address.h"
#include "os/ready.h"
#include "os/socket.h"

enum { MOST_AT_ONCE = 1024 }; /* UIO_MAXIOV: as many as the kernel takes */

int weft__socket_call(int fd, enum weft__dir dir, int (*try)(int fd, void *arg), void *arg)
{
    struct weft__frame *f = weft__current();
    struct weft__slot *s;
    if (!f)
        return weft__no_frame();
    int rc = weft__enter_call(f);
    if (rc < 0 || (rc = weft__slot_enter(fd, &s)) < 0)
        return rc;
    rc = weft__ready_call(f, s, dir, try, arg);
    weft__slot_leave(s);
    if (dir == WEFT__READ && rc != -ECANCELED)
        weft__has_read(f);
    return rc;
}

/* ---- opening */

static int bind_to(int fd, const weft_addr *a)
{
    if (a->sa.ss_family == AF_INET6) { /* ":port" takes both families, as with weft_listen */
        int rc = weft__socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        if (rc < 0)
            return rc;
    }
    return bind(fd, weft__socket_sa(a), a->len) < 0 ? -weft__errno() : 0;
}

/* One address of `where`, of the wanted family (0: any). */
static int one_address(const char *where, int family, weft_addr *out)
{
    weft_addr found[16];
    int n = weft_resolve(where, found, 16);
    for (int i = 0; i < n; i++) {
        if (where[0] == ':' && family == AF_INET && found[i].sa.ss_family == AF_INET6)
            weft__address_any4(&found[i]);
        if (family == 0 || found[i].sa.ss_family == family) {
            *out = found[i];
            return 0;
        }
    }
    return n < 0 ? n : -EAFNOSUPPORT;
}

int weft_udp_open(const char *local, const char *remote)
{
    weft_addr here, there = { .len = 0 };
    int rc = 0;
    if ((!local && !remote) || (remote && remote[0] == ':'))
        return -EINVAL;
    if (weft__forked)
        return -ECHILD;
    if (remote)
        rc = one_address(remote, 0, &there);
    if (rc == 0 && local)
        rc = one_address(local, remote ? there.sa.ss_family : 0, &here);
    if (rc < 0)
        return rc;
    int fd = weft__socket_open(local ? &here : &there, SOCK_DGRAM);
    if (fd == -EAFNOSUPPORT && local && local[0] == ':') { /* a host without IPv6 */
        weft__address_any4(&here);
        fd = weft__socket_open(&here, SOCK_DGRAM);
    }
    if (fd < 0)
        return fd;
    if (local)
        rc = bind_to(fd, &here);
    if (rc == 0 && remote && connect(fd, weft__socket_sa(&there), there.len) < 0)
        rc = -weft__errno(); /* which never waits: it only notes the address */
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return weft__socket_adopt(fd, 0);
}

/* ---- one */

struct one {
    struct msghdr m;
    struct iovec v;
};

static int recv_one(int fd, void *arg)
{
    struct one *o = arg;
    struct msghdr m = o->m; /* the kernel writes lengths into it */
    long n = recvmsg(fd, &m, MSG_DONTWAIT);
    if (n < 0)
        return -weft__errno();
    o->m.msg_namelen = m.msg_namelen;
    return (m.msg_flags & MSG_TRUNC) ? -EMSGSIZE : (int)n;
}

static int send_one(int fd, void *arg)
{
    const struct one *o = arg;
    long n = sendmsg(fd, &o->m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return weft__or_errno(n);
}

int weft_recv_from(int fd, void *buf, size_t n, weft_addr *from)
{
    weft_addr a;
    memset(&a, 0, sizeof a);
    if (!buf && n > 0)
        return -EINVAL;
    struct one o = { .v = { .iov_base = buf, .iov_len = n < INT_MAX ? n : INT_MAX } };
    o.m = (struct msghdr){ .msg_iov = &o.v, .msg_iovlen = 1, .msg_name = &a.sa, .msg_namelen = sizeof a.sa };
    int rc = weft__socket_call(fd, WEFT__READ, recv_one, &o);
    if (rc >= 0 && from) {
        a.len = o.m.msg_namelen;
        *from = a;
    }
    return rc;
}

int weft_send_to(int fd, const void *buf, size_t n, const weft_addr *to)
{
    if ((!buf && n > 0) || n > INT_MAX || (to && to->len > sizeof to->sa))
        return -EINVAL;
    struct one o = { .v = { .iov_base = (void *)(uintptr_t)buf, .iov_len = n } };
    o.m = (struct msghdr){ .msg_iov = &o.v, .msg_iovlen = 1 };
    if (to) {
        o.m.msg_name = (void *)(uintptr_t)&to->sa;
        o.m.msg_namelen = to->len;
    }
    return weft__socket_call(fd, WEFT__WRITE, send_one, &o);
}

/* ---- many */

struct many {
    struct mmsghdr *m;
    unsigned n;
};

static int recv_all(int fd, void *arg)
{
    const struct many *b = arg;
    int n = recvmmsg(fd, b->m, b->n, MSG_DONTWAIT, NULL);
    return weft__or_errno(n);
}

static int send_all(int fd, void *arg)
{
    const struct many *b = arg;
    int n = sendmmsg(fd, b->m, b->n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return weft__or_errno(n);
}

static int call_many(int fd, enum weft__dir dir, struct mmsghdr *m, unsigned n)
{
    struct many b = { .m = m, .n = n < MOST_AT_ONCE ? n : MOST_AT_ONCE };
    if (!m || n == 0)
        return -EINVAL;
    return weft__socket_call(fd, dir, dir == WEFT__READ ? recv_all : send_all, &b);
}

int weft_recv_many(int fd, struct mmsghdr *m, unsigned n)
{
    return call_many(fd, WEFT__READ, m, n);
}

int weft_send_many(int fd, struct mmsghdr *m, unsigned n)
{
    return call_many(fd, WEFT__WRITE, m, n);
}
