/* slot.c - event/poller, os/io and os/net: nothing that has come is left while somebody waits for it.
 *
 * The kernel here is a socket with some bytes (or connections), and one edge that is there or not. Every look at it is
 * under a lock of its own, as in Linux; that this lock orders what the caller did before is what E2 rests on. */
#include "scenarios.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/dns.h>
#include <weft/io.h>
#include <weft/net.h>
#include <weft/time.h>

#include "coord/await.h"
#include "os/address.h"
#include "os/lane.h"
#include "os/listener.h"

enum { FD = 3, FIRST_ACCEPTED = 5 };

static struct {
    int left;  /* bytes or connections */
    bool edge; /* the set has not been told of what came last */
    bool closed;
} kernel;
static at_int kernel_lock;
static uint64_t registered; /* the set's data for FD */
static int callers, done; /* how many tasks call, and how many have what they wanted */
static int accepted;

/* ---- the kernel's side */

int model_epoll_ctl(int set, int op, int fd, struct epoll_event *e)
{
    (void)set;
    if (op != EPOLL_CTL_DEL && fd == FD)
        registered = e->data.u64;
    return 0;
}

int model_epoll_wait(int set, struct epoll_event *e, int most, int timeout)
{
    (void)set, (void)most, (void)timeout;
    ex_lock(&kernel_lock);
    int n = kernel.edge;
    kernel.edge = false;
    ex_unlock(&kernel_lock);
    e->events = EPOLLIN;
    e->data.u64 = registered;
    return n;
}

static int take(int most)
{
    ex_lock(&kernel_lock);
    if (kernel.closed)
        ex_fail("a system call on a closed number");
    int n = kernel.left < most ? kernel.left : most;
    kernel.left -= n;
    ex_unlock(&kernel_lock);
    return n;
}

ssize_t model_recv(int fd, void *buf, size_t n, int flags)
{
    (void)fd, (void)buf, (void)flags;
    int got = take((int)n);
    if (got > 0)
        return got;
    errno = EAGAIN;
    return -1;
}

int model_accept4(int fd, struct sockaddr *a, socklen_t *bytes, int flags)
{
    (void)fd, (void)a, (void)bytes, (void)flags;
    if (take(1) == 1)
        return FIRST_ACCEPTED + accepted++;
    errno = EAGAIN;
    return -1;
}

int model_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
    (void)fd, (void)level, (void)name, (void)value, (void)bytes;
    return 0;
}

int model_close(int fd)
{
    (void)fd;
    ex_lock(&kernel_lock);
    if (kernel.closed)
        ex_fail("a number is closed twice");
    kernel.closed = true;
    ex_unlock(&kernel_lock);
    return 0;
}

int model_fstat(int fd, void *st)
{
    (void)fd, (void)st;
    return -1; /* nobody closes it behind our back */
}

static void arrive(int n)
{
    ex_lock(&kernel_lock);
    kernel.left += n;
    kernel.edge = true;
    ex_unlock(&kernel_lock);
}

/* ---- everybody */

static void setup(int readers)
{
    people_reset();
    memset(&kernel, 0, sizeof kernel);
    kernel_lock = 0;
    done = accepted = 0;
    callers = readers;
    for (int fd = FD; fd < FD + 8; fd++) {
        struct weft__slot *s;
        if (weft__slot_enter(fd, &s) < 0)
            abort();
        memset(s, 0, sizeof *s);
        s->fd = fd;
    }
    if (weft__slot_adopt(FD, WEFT__SLOT_OWNED | WEFT__SLOT_STREAM) < 0)
        abort();
    for (int i = 0; i < readers; i++) {
        struct weft__frame *f = person(i, NULL);
        struct weft__slot *s;
        if (weft__slot_enter(FD, &s) < 0 || weft__slot_register(s, &weft__runtime_of(f->group)->poller) < 0)
            abort();
        weft__slot_leave(s);
    }
    ex_ghost(&kernel, sizeof kernel);
    ex_ghost(&done, sizeof done);
    ex_ghost(&accepted, sizeof accepted);
}

static void one(void)
{
    setup(1);
}
static void two(void)
{
    setup(2);
}

static bool edge(int unused)
{
    (void)unused;
    return kernel.edge;
}

static void harvester(void)
{
    for (;;) {
        uint32_t woken[2 * WEFT__POLL_BATCH];
        int events;
        ex_until(edge, 0, "an edge");
        uint32_t n = weft__poller_harvest(&the_runtime()->poller, woken, &events);
        for (uint32_t i = 0; i < n; i++)
            weft__ready(weft__task_at(woken[i]));
    }
}

/* Whoever waits now waits for what has not come. */
static bool nothing_left(void)
{
    return kernel.left == 0 || done == callers;
}

static void reader(int times)
{
    char buf[8];
    for (int i = 0; i < times; i++)
        ex_expect(weft_read(FD, buf, 2) > 0);
    done++;
}

/* It comes in two pieces, of which the reader takes the first as a whole and the second not. */
static void one_reader(int me)
{
    if (me == 0) {
        reader(3);
    } else if (me == 1) {
        harvester();
    } else {
        arrive(1);
        arrive(3);
    }
}

/* One edge, enough for both. */
static void two_readers(int me)
{
    if (me < 2)
        reader(1);
    else if (me == 2)
        harvester();
    else
        arrive(4);
}

/* One empties it; then comes enough for both. */
static void emptied(int me)
{
    if (me == 0) {
        reader(2);
    } else if (me == 1) {
        reader(1);
    } else if (me == 2) {
        harvester();
    } else {
        arrive(1);
        arrive(4);
    }
}

static void two_acceptors(int me)
{
    if (me < 2) {
        ex_expect(weft_accept(FD) >= FIRST_ACCEPTED);
        done++;
    } else if (me == 2) {
        harvester();
    } else {
        arrive(2);
    }
}

/* One of two readers is told to leave: what has come is not lost with it. */
static weft_scope told_scope;

static void setup_told(void)
{
    memset(&told_scope, 0, sizeof told_scope);
    setup(2);
    person(4, NULL);
    weft_scope_begin(&told_scope, WEFT_NEVER);
    weft__task_at(0)->scope = (uint64_t)(uintptr_t)&told_scope;
}

static void told(int me)
{
    char buf[8];
    if (me == 0) {
        int n = weft_read(FD, buf, 2);
        ex_expect(n > 0 || n == -ECANCELED);
        done++;
    } else if (me == 1) {
        reader(1);
    } else if (me == 2) {
        harvester();
    } else {
        arrive(2);
        ex_expect(weft__cancel_scope(weft__scope_of(&told_scope), WEFT__MARK_CANCEL));
    }
}

/* Closed while one waits and an edge comes. */
static void closed(int me)
{
    char buf[8];
    if (me == 0) {
        int n = weft_read(FD, buf, 2);
        ex_expect(n == 2 || n == -EBADF);
        done++;
    } else if (me == 1) {
        harvester();
    } else if (me == 2) {
        arrive(2);
    } else {
        ex_expect(weft_close(FD) == 0);
    }
}

static void check_closed(void)
{
    if (!kernel.closed)
        ex_fail("nobody has closed the number");
}

const struct ex_scenario slot_scenarios[] = {
    { "slot", "one_reader", 3, one, one_reader, NULL, 2, "one reader, two edges", nothing_left },
    { "slot", "two_readers", 4, two, two_readers, NULL, 1, "two readers, one edge for both", nothing_left },
    { "slot", "emptied", 4, two, emptied, NULL, 1, "two readers, one of which had emptied it", nothing_left },
    { "slot", "two_acceptors", 4, two, two_acceptors, NULL, 1, "two acceptors, one edge for both", nothing_left },
    { "slot", "told", 4, setup_told, told, NULL, 1, "two readers, one of them told to leave", nothing_left },
    { "slot", "closed", 4, one, closed, check_closed, 1, "closed under a reader", nothing_left },
    { 0 },
};

/* ---- what no scenario comes to */

int weft__lane_call(enum weft__lane_kind kind, weft_fn *fn, void *arg)
{
    (void)kind, (void)fn, (void)arg;
    ex_fail("the lanes are not explored");
}

int weft_resolve(const char *where, weft_addr *out, size_t n)
{
    (void)where, (void)out, (void)n;
    ex_fail("names are not explored");
}

int weft_sleep(int64_t ns)
{
    (void)ns;
    ex_fail("sleeping is not explored");
}

int weft_yield(void)
{
    ex_fail("yielding is not explored");
}

int weft_addr_parse(weft_addr *out, const char *text)
{
    (void)out, (void)text;
    ex_fail("addresses are not explored");
}

int weft__listener_made(int fd, const char *path)
{
    (void)fd, (void)path;
    ex_fail("listeners are not explored");
    return -ENOSYS;
}

void weft__listener_gone(int fd, bool file_too)
{
    (void)fd, (void)file_too;
}

void weft__address_any4(weft_addr *out)
{
    (void)out;
    ex_fail("addresses are not explored");
}
