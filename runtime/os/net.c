/* os/net.c - TCP and Unix sockets.
 *
 * Every socket opened here is close-on-exec, non-blocking, and known to the poller as weft's own.
 * Tested    tests/io_test.c, stress/sockets.c */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <weft/dns.h>
#include <weft/io.h>
#include <weft/net.h>
#include <weft/task.h>
#include <weft/time.h>

#include "base/errno.h"
#include "base/fault.h"
#include "base/fork.h"
#include "base/mem.h"
#include "coord/await.h"
#include "os/address.h"
#include "os/listener.h"
#include "os/ready.h"
#include "os/socket.h"

enum { BACKLOG = 4096, MOST_ADDRESSES = 16 };

int weft__socket_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -weft__errno();
}

int weft__socket_adopt(int fd, uint64_t flags)
{
    int rc = weft__slot_adopt(fd, WEFT__SLOT_OWNED | flags);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

int weft__socket_open(const weft_addr *a, int type)
{
    int rc = weft__fault(WEFT__FAULT_SOCKET);
    if (rc < 0)
        return rc;
    int fd = socket(a->sa.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return weft__or_errno(fd);
}

/* ---- listen */

/* A Unix socket's file stays when the process of its listener dies. If nobody answers there, it is in the way. */
static void clear_stale_file(const weft_addr *a)
{
    const struct sockaddr_un *u = (const struct sockaddr_un *)(const void *)&a->sa;
    struct stat st;
    if (a->sa.ss_family != AF_UNIX || u->sun_path[0] == 0 || lstat(u->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = weft__socket_open(a, SOCK_STREAM);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)(const void *)&a->sa, a->len) < 0 && weft__errno() == ECONNREFUSED)
        unlink(u->sun_path);
    close(fd);
}

static int bind_and_listen(int fd, const weft_addr *a, const weft_listen_options *o)
{
    int rc = 0;
    if (a->sa.ss_family != AF_UNIX) {
        rc = weft__socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (rc == 0 && o->reuse_port)
            rc = weft__socket_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0 && a->sa.ss_family == AF_INET6)
        rc = weft__socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, o->v6_only);
    if (rc < 0)
        return rc;
    clear_stale_file(a);
    if (bind(fd, (const struct sockaddr *)(const void *)&a->sa, a->len) < 0)
        return -weft__errno();
    const struct sockaddr_un *u = (const struct sockaddr_un *)(const void *)&a->sa;
    bool has_file = a->sa.ss_family == AF_UNIX && u->sun_path[0] != 0;
    if (has_file && (rc = weft__listener_made(fd, u->sun_path)) < 0)
        return rc;
    /* Before listen(2), while everybody is refused. The umask would do it in bind(2), but is the whole process's. */
    if (has_file && o->unix_mode != 0 && chmod(u->sun_path, o->unix_mode) < 0)
        return -weft__errno();
    return listen(fd, o->backlog > 0 ? o->backlog : BACKLOG) == 0 ? 0 : -weft__errno();
}

static int listen_at(weft_addr a, bool any, const weft_listen_options *o)
{
    int fd = weft__socket_open(&a, SOCK_STREAM);
    if (fd == -EAFNOSUPPORT && any) { /* a host without IPv6 */
        weft__address_any4(&a);
        fd = weft__socket_open(&a, SOCK_STREAM);
    }
    if (fd < 0)
        return fd;
    int rc = bind_and_listen(fd, &a, o);
    if (rc == 0)
        rc = weft__slot_adopt(fd, WEFT__SLOT_OWNED);
    if (rc < 0) {
        weft__listener_gone(fd, true);
        close(fd);
        return rc;
    }
    if (o->unix_keep)
        weft__listener_gone(fd, false);
    return fd;
}

int weft_listen(const char *where, const weft_listen_options *o)
{
    static const weft_listen_options defaults;
    weft_addr found[MOST_ADDRESSES];
    o = o ? o : &defaults;
    if (!where || !weft__reserved_zero(o) || o->backlog < 0)
        return -EINVAL;
    if (weft__forked)
        return -ECHILD;
    int n = weft_resolve(where, found, MOST_ADDRESSES), first = 0;
    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        int fd = listen_at(found[i], where[0] == ':', o);
        if (fd != -EADDRNOTAVAIL && fd != -EAFNOSUPPORT) /* of a family that the host has not: the next */
            return fd;
        first = i == 0 ? fd : first;
    }
    return first;
}

/* ---- accept */

static bool died_in_queue(int error)
{
    return error == ECONNABORTED || error == EPROTO || error == EINTR || error == ENETDOWN || error == EHOSTDOWN ||
            error == ENONET || error == EHOSTUNREACH || error == ENETUNREACH;
}

static int accept_one(int listener)
{
    int fd = weft__fault(WEFT__FAULT_ACCEPT);
    if (fd == 0 && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        fd = -weft__errno();
    return fd;
}

/* A listener that weft did not open may be a blocking one, out of whose accept(2) neither a cancel nor a close gets anybody.
 * So it is asked first whether there is a connection, and by one call at a time: two would see the same one. -EBUSY: another
 * is there just now. */
static int accept_now(struct weft__slot *s, int listener)
{
    if (at_load(&s->life) & WEFT__SLOT_OWNED)
        return accept_one(listener);
    if (!ati_cas(&s->accepting, 0, 1))
        return -EBUSY;
    int rc = weft__ready_look(listener, WEFT_READABLE);
    rc = rc > 0 ? accept_one(listener) : rc == 0 ? -EAGAIN : rc;
    ati_store_release(&s->accepting, 0); /* meets the cas above: the next one's look comes after this accept */
    return rc;
}

static int accept_in(struct weft__frame *f, struct weft__slot *s, int listener)
{
    int64_t pause = weft_ms(1), paused = 0;
    bool waited = false;
    for (;;) {
        weft__slot_use_edge(s, WEFT__READ); /* E2 */
        int fd = accept_now(s, listener), rc;
        if (fd >= 0) {
            weft__slot_pass_on(s, WEFT__READ); /* E6: there may be more in the queue */
            return fd;
        }
        if (fd == -EBUSY) { /* for two system calls; the edge is this one's, so it does not wait for another */
            if ((rc = weft_yield()) < 0) {
                weft__slot_pass_on(s, WEFT__READ);
                return rc;
            }
            continue;
        }
        if (died_in_queue(-fd)) { /* a flood of them is neither to keep others waiting nor to outlast a cancel */
            if ((rc = weft__enter_call(f)) < 0) {
                weft__slot_pass_on(s, WEFT__READ);
                return rc;
            }
            continue;
        }
        if (weft__is_shortage(fd) && paused < weft_sec(1)) {
            if ((rc = weft_sleep(pause)) < 0) {
                weft__slot_pass_on(s, WEFT__READ); /* E6: it is still in the queue */
                return rc;
            }
            paused += pause;
            pause = pause < weft_ms(50) ? 2 * pause : weft_ms(100);
            continue;
        }
        if (fd != -EAGAIN) {
            weft__slot_pass_on(s, WEFT__READ);
            return fd;
        }
        if ((rc = weft__ready_wait(f, s, WEFT_READABLE, waited)) < 0)
            return rc;
        waited = true;
    }
}

int weft_accept(int listener)
{
    struct weft__frame *f = weft__current();
    struct weft__slot *s;
    if (!f)
        return weft__no_frame();
    int rc = weft__enter_call(f);
    if (rc < 0 || (rc = weft__slot_enter(listener, &s)) < 0)
        return rc;
    rc = accept_in(f, s, listener);
    weft__slot_leave(s);
    if (rc < 0)
        return rc;
    bool is_tcp = weft__socket_set(rc, IPPROTO_TCP, TCP_NODELAY, 1) == 0; /* refused by Unix sockets, which need none */
    rc = weft__socket_adopt(rc, is_tcp ? WEFT__SLOT_STREAM : WEFT__SLOT_STREAM | WEFT__SLOT_UNIX);
    weft__has_read(f);
    return rc;
}

/* ---- the rest */

int weft_shutdown(int fd, int how)
{
    struct weft__slot *s;
    int rc = weft__forked ? -ECHILD : weft__slot_enter(fd, &s);
    if (rc < 0)
        return rc;
    rc = shutdown(fd, how) == 0 ? 0 : -weft__errno();
    weft__slot_leave(s);
    return rc;
}

int weft_pair(int fds[2])
{
    int pair[2];
    if (!fds)
        return -EINVAL;
    if (weft__forked)
        return -ECHILD;
    int rc = weft__fault(WEFT__FAULT_SOCKET);
    if (rc == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        rc = -weft__errno();
    if (rc < 0)
        return rc;
    rc = weft__slot_adopt(pair[0], WEFT__SLOT_OWNED | WEFT__SLOT_STREAM | WEFT__SLOT_UNIX);
    if (rc < 0)
        close(pair[0]);
    else if ((rc = weft__slot_adopt(pair[1], WEFT__SLOT_OWNED | WEFT__SLOT_STREAM | WEFT__SLOT_UNIX)) < 0)
        weft_ignore(weft_close(pair[0])); /* or its number would be taken for weft's own */
    if (rc < 0) {
        close(pair[1]);
        return rc;
    }
    fds[0] = pair[0];
    fds[1] = pair[1];
    return 0;
}

static int address_of(int fd, weft_addr *out, int (*get)(int, struct sockaddr *, socklen_t *))
{
    weft_addr a;
    memset(&a, 0, sizeof a);
    a.len = sizeof a.sa;
    if (!out)
        return -EINVAL;
    if (get(fd, (struct sockaddr *)(void *)&a.sa, &a.len) < 0)
        return -weft__errno();
    *out = a;
    return 0;
}

int weft_addr_local(int fd, weft_addr *out)
{
    return address_of(fd, out, getsockname);
}

int weft_addr_peer(int fd, weft_addr *out)
{
    return address_of(fd, out, getpeername);
}
