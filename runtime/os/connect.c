/* os/connect.c - connecting, to the first of several addresses that answers.
 *
 * One address is simply waited for. Several are raced by the calling task itself, which has all attempts in one select:
 * there is no task for each, so nothing has to be called off but descriptors closed.
 * Source    RFC 8305, sections 4 and 5: families by turns, 250 ms between attempts.
 * Tested    tests/connect_test.c, tests/io_test.c */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weft/dns.h>
#include <weft/error.h>
#include <weft/io.h>
#include <weft/select.h>
#include <weft/time.h>

#include "base/errno.h"
#include "base/mem.h"
#include "coord/await.h"
#include "os/ready.h"
#include "os/socket.h"

enum { MOST_ADDRESSES = 16 };

struct race {
    const weft_connect_options *o;
    const weft_addr *from; /* NULL: any */
    int failed;
    weft_addr to[MOST_ADDRESSES]; /* in the order in which they are tried */
    int n, begun;
    int fds[MOST_ADDRESSES]; /* -1: not under way */
    int64_t next_at;
    int rc; /* of the first that failed */
    char words[108]; /* as much as an error's text holds */
};

/* All of them are the caller's to read, however many the text has room for. */
static void tell(struct race *r, const weft_addr *a, int rc)
{
    if (r->failed < r->o->failures_max)
        r->o->failures[r->failed] = (weft_connect_failure){ .addr = *a, .error = rc };
    r->failed++;
    if (r->o->failed)
        *r->o->failed = r->failed;
}

static void note(struct race *r, const weft_addr *a, int rc)
{
    char where[64];
    const char *error = weft_strerror(rc); /* "EPIPE: Broken pipe" */
    size_t used = strlen(r->words);
    weft_addr_text(a, where, sizeof where);
    snprintf(r->words + used, sizeof r->words - used, "%s%s %.*s", used ? "; " : "", where,
            (int)strcspn(error, ":"), error);
    if (r->rc == 0)
        r->rc = rc;
    tell(r, a, rc);
}

static bool has_port(const weft_addr *a)
{
    const struct sockaddr_in *four = (const void *)&a->sa;
    const struct sockaddr_in6 *six = (const void *)&a->sa;
    return a->sa.ss_family == AF_INET ? four->sin_port != 0 : a->sa.ss_family == AF_INET6 && six->sin6_port != 0;
}

/* Attempts to different addresses may have one port, and need not wait for what is left of a connection that has ended. */
static int bind_to(int fd, const weft_addr *from)
{
    if (has_port(from))
        weft__socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    return bind(fd, weft__socket_sa(from), from->len) < 0 ? -weft__errno() : 0;
}

/* A socket that was told to connect: *rc is 0, -EINPROGRESS, -EAGAIN, or what failed. */
static int begin(const struct weft_connect_options *o, const weft_addr *from, const weft_addr *a, int *rc)
{
    int fd = weft__socket_open(a, SOCK_STREAM);
    if (fd < 0) {
        *rc = fd;
        return -1;
    }
    if ((*rc = from ? bind_to(fd, from) : 0) < 0) {
        close(fd);
        return -1;
    }
    if (!o->delay)
        weft__socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* refused by Unix sockets */
    if ((fd = weft__socket_adopt(fd, a->sa.ss_family == AF_UNIX ? WEFT__SLOT_STREAM | WEFT__SLOT_UNIX : WEFT__SLOT_STREAM)) < 0) {
        *rc = fd;
        return -1;
    }
    if (connect(fd, weft__socket_sa(a), a->len) < 0 && (*rc = -weft__errno()) == -EINTR)
        *rc = -EINPROGRESS;
    return fd;
}

/* How an attempt has gone: -EINPROGRESS if it has not. An edge may be of an earlier time: only poll knows. */
static int outcome(int fd)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    int rc = weft__ready_look(fd, WEFT_WRITABLE);
    if (rc <= 0)
        return rc == 0 ? -EINPROGRESS : rc;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0 ? -weft__errno() : -error;
}

/* ---- one address */

static int await_one(struct weft__frame *f, int fd, const weft_addr *a, int rc)
{
    struct weft__slot *s;
    int entered = weft__slot_enter(fd, &s);
    if (entered < 0)
        return entered;
    while (rc == -EAGAIN) { /* a Unix listener's queue is full; no event tells when it is not */
        if ((rc = weft_sleep(weft_ms(1))) == 0 && connect(fd, weft__socket_sa(a), a->len) < 0)
            rc = -weft__errno();
    }
    for (bool waited = false; rc == -EINPROGRESS; waited = true)
        if ((rc = weft__ready_wait(f, s, WEFT_WRITABLE, waited)) == 0)
            rc = outcome(fd);
    weft__slot_leave(s);
    return rc;
}

static int connect_one(struct weft__frame *f, struct race *r)
{
    const weft_addr *a = &r->to[0];
    int rc, fd = begin(r->o, r->from, a, &rc);
    if (fd >= 0 && rc < 0 && (rc = await_one(f, fd, a, rc)) < 0)
        weft_ignore(weft_close(fd));
    if (rc < 0 && rc != -ECANCELED)
        tell(r, a, rc);
    return rc < 0 ? rc : fd;
}

/* ---- several */

/* Families by turns, each in the resolver's order; those of another family than `from` are left out. */
static void put_in_order(struct race *r, const weft_addr *found, int n)
{
    int other = 0, same = 0;
    sa_family_t first = found[0].sa.ss_family;
    r->n = 0;
    for (bool turn = true; same < n || other < n; turn = !turn) {
        int *i = turn ? &same : &other;
        while (*i < n && (found[*i].sa.ss_family == first) != turn)
            ++*i;
        if (*i < n) {
            const weft_addr *a = &found[(*i)++];
            if (!r->from || r->from->sa.ss_family == a->sa.ss_family)
                r->to[r->n++] = *a;
        }
    }
}

/* Begins the next attempt. Returns a descriptor if it is connected at once, else -1. */
static int begin_next(struct race *r)
{
    int i = r->begun++, rc;
    int fd = begin(r->o, r->from, &r->to[i], &rc);
    r->next_at = weft_after(r->o->stagger ? r->o->stagger : weft_ms(250));
    if (rc == 0)
        return fd;
    if (rc == -EINPROGRESS) {
        r->fds[i] = fd;
        return -1;
    }
    if (fd >= 0)
        weft_ignore(weft_close(fd));
    note(r, &r->to[i], rc);
    r->next_at = 0;
    return -1;
}

/* Attempt i may have come to its end. Returns the descriptor if it is connected, else -1. */
static int end_attempt(struct race *r, int i)
{
    int fd = r->fds[i], rc = outcome(fd);
    if (rc == -EINPROGRESS)
        return -1;
    r->fds[i] = -1;
    if (rc == 0)
        return fd;
    weft_ignore(weft_close(fd));
    note(r, &r->to[i], rc);
    r->next_at = 0; /* the next one at once */
    return -1;
}

/* Waits for an attempt, or for the time of the next one. Returns a connected descriptor, -1, or -ECANCELED, -ENOMEM. */
static int watch(struct race *r)
{
    weft_case cs[MOST_ADDRESSES + 1];
    int which[MOST_ADDRESSES + 1];
    size_t n = 0;
    for (int i = 0; i < r->begun; i++) {
        if (r->fds[i] >= 0) {
            which[n] = i;
            cs[n++] = weft_on_fd(r->fds[i], WEFT_WRITABLE);
        }
    }
    size_t fds = n;
    if (r->begun < r->n)
        cs[n++] = weft_on_time(r->next_at);
    int rc = weft_select(cs, n);
    if (rc < 0)
        return rc;
    return (size_t)rc < fds ? end_attempt(r, which[rc]) : -1;
}

static bool under_way(const struct race *r)
{
    for (int i = 0; i < r->begun; i++)
        if (r->fds[i] >= 0)
            return true;
    return false;
}

static int run(struct race *r)
{
    int fd = -1;
    for (int i = 0; i < MOST_ADDRESSES; i++)
        r->fds[i] = -1;
    while (fd == -1 && (r->begun < r->n || under_way(r))) {
        if (r->begun < r->n && (!under_way(r) || weft_now() >= r->next_at))
            fd = begin_next(r);
        else
            fd = watch(r);
    }
    for (int i = 0; i < r->begun; i++)
        if (r->fds[i] >= 0)
            weft_ignore(weft_close(r->fds[i])); /* those who lost */
    return fd == -1 ? weft_fail_text(r->rc, r->words) : fd;
}

int weft_connect(const char *where, const weft_connect_options *o)
{
    static const weft_connect_options defaults;
    struct weft__frame *f = weft__current();
    weft_addr found[MOST_ADDRESSES], from;
    struct race r = { .n = 0 };
    o = o ? o : &defaults;
    if (!f)
        return weft__no_frame();
    if (!where || where[0] == ':' || o->stagger < 0)
        return -EINVAL;
    if (!weft__reserved_zero(o) || o->failures_max < 0 || (!o->failures && o->failures_max > 0))
        return -EINVAL;
    if (o->failed)
        *o->failed = 0;
    int rc = o->from ? weft_addr_parse(&from, o->from) : 0;
    int n = rc < 0 ? rc : weft_resolve(where, found, MOST_ADDRESSES);
    if (n < 0 || (rc = weft__enter_call(f)) < 0)
        return n < 0 ? n : rc;
    r.o = o;
    r.from = o->from ? &from : NULL;
    put_in_order(&r, found, n);
    if (r.n == 0) /* of which the kernel says -EINVAL or -EAFNOSUPPORT */
        return -EAFNOSUPPORT;
    return n == 1 ? connect_one(f, &r) : run(&r);
}
