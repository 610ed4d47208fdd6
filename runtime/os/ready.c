/* os/ready.c - waiting until a descriptor is ready.
 *
 * A task registers its descriptor with its runtime's set and leaves a record in the slot (event/poller.h). A plain
 * thread asks poll(2), at most 20 ms at a time, and between looks at its scopes. */
#include "os/ready.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <weft/io.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fault.h"
#include "coord/await.h"

enum { SLICE_MS = 20 };

static short poll_events(unsigned events)
{
    return (short)(((events & WEFT_READABLE) ? POLLIN : 0) | ((events & WEFT_WRITABLE) ? POLLOUT : 0));
}

static int look(int fd, unsigned events, int ms)
{
    struct pollfd p = { .fd = fd, .events = poll_events(events) };
    int n = weft__fault(WEFT__FAULT_POLL);
    if (n == 0 && (n = poll(&p, 1, ms)) < 0)
        n = -weft__errno();
    if (n < 0)
        return n;
    if (p.revents & POLLNVAL)
        return -EBADF;
    unsigned ready = ((p.revents & POLLIN) ? WEFT_READABLE : 0u) | ((p.revents & POLLOUT) ? WEFT_WRITABLE : 0u);
    if (p.revents & (POLLHUP | POLLERR))
        ready = events;
    return (int)(ready & events);
}

int weft__ready_look(int fd, unsigned events)
{
    int n;
    do {
        n = look(fd, events, 0);
    } while (n == -EINTR); /* which does not say that nothing is ready */
    return n;
}

int weft__ready_pollable(struct weft__frame *f, struct weft__slot *s)
{
    if (!weft__is_thread(f))
        return weft__slot_register(s, &weft__runtime_of(f->group)->poller);
    /* A thread has no set: asks one of its own. */
    int set = weft__fault(WEFT__FAULT_EPOLL_CREATE);
    if (set == 0 && (set = epoll_create1(EPOLL_CLOEXEC)) < 0)
        set = -weft__errno();
    if (set < 0)
        return set;
    int rc = weft__fault(WEFT__FAULT_EPOLL_CTL);
    if (rc == 0 && set == s->fd)
        rc = -EBADF; /* the number was free: the set has it now */
    if (rc == 0 && epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &(struct epoll_event){ .events = 0 }) < 0)
        rc = -weft__errno();
    close(set);
    return rc;
}

static int thread_ready(struct weft__frame *f, struct weft__slot *s, unsigned events)
{
    for (;;) {
        weft__strike_overdue(f);
        if (weft__told(f))
            return weft__refuse(f);
        if (at_load(&s->life) & WEFT__SLOT_CLOSING)
            return -EBADF;
        int n = look(s->fd, events, weft__host_slice(SLICE_MS));
        if (n != 0 && n != -EINTR)
            return n < 0 ? n : 0;
    }
}

static int task_ready(struct weft__frame *f, struct weft__slot *s, unsigned events, bool front)
{
    struct weft__io_wait w = { .events = 0 };
    int rc = weft__slot_register(s, &weft__runtime_of(f->group)->poller);
    if (rc < 0)
        return rc;
    if ((rc = weft__await_begin(f, &w.token)) < 0)
        return rc;
    if (!weft__slot_wait(s, events, &w, front)) {
        if (!weft__await_give_up(f) && weft__await(f) == WEFT__CAUSE_CANCEL)
            rc = 0; /* told to leave, but an edge is there: the caller tries once more, and is refused next time */
        return (at_load(&s->life) & WEFT__SLOT_CLOSING) ? -EBADF : 0;
    }
    static const enum weft__waits waits[] = { WEFT__WAITS_READY, WEFT__WAITS_READ, WEFT__WAITS_WRITE, WEFT__WAITS_READY };
    weft__waits_for(f, waits[events & 3], (uint64_t)s->fd);
    switch (weft__await(f)) {
    case WEFT__CAUSE_EVENT:
    case WEFT__CAUSE_SERVED:
        return 0; /* whoever fired it has taken the record off */
    case WEFT__CAUSE_CLOSED:
        return -EBADF;
    case WEFT__CAUSE_CANCEL:
        break;
    }
    weft__slot_forget(s, &w);
    return -ECANCELED;
}

int weft__ready_wait(struct weft__frame *f, struct weft__slot *s, unsigned events, bool front)
{
    if (weft__is_thread(f))
        return thread_ready(f, s, events);
    struct weft__clock *c = &f->group->clock;
    if (!c->is_virtual)
        return task_ready(f, s, events, front);
    at_add(&c->outside, 1); /* H1 (engine/rest.c) */
    int rc = task_ready(f, s, events, front);
    at_add(&c->outside, (uint64_t)-1);
    return rc;
}

int weft__ready_call(struct weft__frame *f, struct weft__slot *s, enum weft__dir dir, int (*attempt)(int fd, void *arg),
        void *arg)
{
    bool edge = false, waited = false;
    for (;;) {
        if (at_load(&s->life) & WEFT__SLOT_CLOSING)
            return -EBADF;
        edge = weft__slot_use_edge(s, dir) || edge;
        if (dir == WEFT__READ)
            ati_store(&s->drained, 0);
        int rc = attempt(s->fd, arg);
        if (rc == -EINTR)
            continue;
        if (rc != -EAGAIN) {
            if (edge || ati_load(&s->waiting[dir]) > 0)
                weft__slot_pass_on(s, dir); /* E6 */
            return rc;
        }
        if ((rc = weft__ready_wait(f, s, 1u << dir, waited)) < 0)
            return rc;
        waited = edge = true;
    }
}
