/* os/fds.c - descriptors through Unix sockets (SCM_RIGHTS).
 *
 * Whatever arrives is close-on-exec from the start, and is handed out or closed: the room for control data is the kernel's
 * most, so nothing is dropped between, and what is more than the caller asked for is closed here. What options of the socket
 * let come beside it has room of its own: who sent it, a label, and a process, which is a descriptor, too.
 * Tested    tests/fds_test.c, tests/fuzz/fuzz_fds.c */
#include <limits.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <weft/net.h>

#include "base/errno.h"
#include "os/socket.h"

enum {
    MOST_FDS = 253, /* SCM_MAX_FD */
    MOST_LABEL = 1024,
    PIDFD = 0x04 /* SCM_PIDFD, Linux 6.5 */
};

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(MOST_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(MOST_LABEL) +
            CMSG_SPACE(sizeof(int))];
};

struct parcel {
    struct iovec v;
    const int *send;
    int *recv;
    size_t nfds; /* to send; room, then how many were received */
};

static int send_parcel(int fd, void *arg)
{
    struct parcel *p = arg;
    union control c;
    struct msghdr m = { .msg_iov = &p->v, .msg_iovlen = 1 };
    if (p->nfds > 0) {
        memset(&c, 0, CMSG_SPACE(p->nfds * sizeof(int)));
        m.msg_control = c.bytes;
        m.msg_controllen = CMSG_SPACE(p->nfds * sizeof(int));
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(p->nfds * sizeof(int));
        memcpy(CMSG_DATA(h), p->send, p->nfds * sizeof(int));
    }
    long n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return weft__or_errno(n);
}

/* Takes the descriptors of one header, up to the room there is; closes the rest. Returns how many came. */
static size_t take(struct cmsghdr *h, int *out, size_t have, size_t room)
{
    size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
        if (have + i < room)
            out[have + i] = fd;
        else
            close(fd);
    }
    return n;
}

static int recv_parcel(int fd, void *arg)
{
    struct parcel *p = arg;
    union control c;
    struct msghdr m = { .msg_iov = &p->v, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof c };
    int got[MOST_FDS];
    size_t n = 0;
    long bytes = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (bytes < 0)
        return -weft__errno();
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
            n += take(h, got, n, MOST_FDS);
        else if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == PIDFD)
            (void)take(h, NULL, 0, 0);
    }
    bool cut = (m.msg_flags & MSG_CTRUNC) != 0; /* the process has no room for all of them */
    if (!cut && n <= p->nfds && !(m.msg_flags & MSG_TRUNC)) {
        if (n > 0)
            memcpy(p->recv, got, n * sizeof(int));
        p->nfds = n;
        return (int)bytes;
    }
    for (size_t i = 0; i < n && i < MOST_FDS; i++)
        close(got[i]);
    return cut ? -EMFILE : -EMSGSIZE;
}

int weft_send_fds(int fd, const void *buf, size_t n, const int *fds, size_t nfds)
{
    if (!buf || n == 0 || n > INT_MAX || (!fds && nfds > 0) || nfds > MOST_FDS)
        return -EINVAL; /* without a byte there is nothing that descriptors could go with */
    struct parcel p = { .v = { .iov_base = (void *)(uintptr_t)buf, .iov_len = n }, .send = fds, .nfds = nfds };
    return weft__socket_call(fd, WEFT__WRITE, send_parcel, &p);
}

int weft_recv_fds(int fd, void *buf, size_t n, int *fds, size_t *nfds)
{
    if (!buf || n == 0 || !nfds || (!fds && *nfds > 0))
        return -EINVAL;
    struct parcel p = { .v = { .iov_base = buf, .iov_len = n < INT_MAX ? n : INT_MAX }, .recv = fds, .nfds = *nfds };
    int rc = weft__socket_call(fd, WEFT__READ, recv_parcel, &p);
    if (rc >= 0)
        *nfds = p.nfds;
    return rc;
}
