/* work_udp.c - udp_echo: a server on one socket that sends every datagram back to whom it is from.
 *
 * Each of `tasks` tasks takes what is there, `batch` datagrams at most, in one system call, and sends that back in another.
 * So the emptier the server's processor is, the smaller are the batches. Serves 127.0.0.1:port until it is killed and prints
 * nothing: the load (udp_load.c) measures, and checks what comes back.
 *
 * What it does not measure: long datagrams, many clients, loss. */
#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { ROOM = 2048 };

/* A datagram, and whose it is. */
struct letter {
    struct sockaddr_storage from;
    struct iovec v;
    char bytes[ROOM];
};

struct server {
    int fd;
    unsigned batch;
};

/* The kernel has written lengths over those that were asked for. */
static void make_ready(struct mmsghdr *m, struct letter *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        l[i].v = (struct iovec){ l[i].bytes, ROOM };
        m[i].msg_hdr = (struct msghdr){ .msg_name = &l[i].from, .msg_namelen = sizeof l[i].from, .msg_iov = &l[i].v,
            .msg_iovlen = 1 };
    }
}

static int send_back(int fd, struct mmsghdr *m, struct letter *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (m[i].msg_hdr.msg_flags & MSG_TRUNC)
            return weft_fail(-EMSGSIZE, "a datagram of more than %d bytes", ROOM);
        l[i].v.iov_len = m[i].msg_len;
    }
    for (unsigned sent = 0; sent < n;) {
        int rc = weft_send_many(fd, m + sent, n - sent);
        if (rc < 0)
            return rc;
        sent += (unsigned)rc;
    }
    return 0;
}

static int serve(void *arg)
{
    const struct server *s = arg;
    struct mmsghdr *m = calloc(s->batch, sizeof *m);
    struct letter *l = calloc(s->batch, sizeof *l);
    int rc = m && l ? 0 : -ENOMEM;
    unsigned used = s->batch;
    while (rc >= 0) {
        make_ready(m, l, used);
        if ((rc = weft_recv_many(s->fd, m, s->batch)) > 0) {
            used = (unsigned)rc;
            rc = send_back(s->fd, m, l, used);
        }
    }
    free(l);
    free(m);
    return rc;
}

int work_udp_echo(void *arg)
{
    struct job *j = arg;
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%ld", job_arg(j, "port"));
    struct server s = { .fd = weft_udp_open(where, NULL), .batch = (unsigned)job_arg(j, "batch") };
    if (s.fd < 0)
        return s.fd;
    weft_scope all;
    weft_scope_begin(&all, WEFT_NEVER);
    for (long i = job_arg(j, "tasks"); i > 0; i--)
        weft_spawn(&all, serve, &s);
    int rc = weft_scope_end(&all, 0);
    weft_close(s.fd);
    return rc;
}
