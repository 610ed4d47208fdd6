/* event/poller_epoll.c - descriptors: what is known of each number, who waits on it, and the epoll set.
 *
 * Owns      the slot table (one for the process, a slot for each number, never unmapped) and each runtime's sets.
 * Callers   slots: any thread, between enter and leave. harvest: the worker with the polling role, or the I/O
 *           thread. arm: who parks last, or goes to a slow task; the I/O thread. wait: the I/O thread.
 * Holds     E1  a descriptor is in at most one runtime's set, once, edge-triggered, for its whole life.
 *           E2  a call uses up `ready` before its system call; an edge sets it after the fact. So an edge between
 *               a call's EAGAIN and its wait is seen by weft__slot_wait, under the lock.
 *               It rests on the system call's look at the socket coming after our store of 0, which the socket's own
 *               lock sees to; and a call stores 0 only where it found 1, or it would wipe an edge that comes just then.
 *           E3  an edge goes to the first waiter whose wait can still be won, in order; a waiter that used less
 *               than there was passes its turn on.
 *           E4  no system call is made on a number once it is closed: enter refuses after the mark, and the last
 *               call out closes. The generation tells events of an earlier life apart; one that slips through
 *               causes one needless try and nothing else.
 *           E6  a call that used up an edge and did not find the end of what it announced (-EAGAIN, or a stream's short
 *               read) gives it back: ready = 1, fence, anybody waiting? Against waiting + 1, fence, ready? Else a second
 *               call that saw -EAGAIN before the edge would sleep beside what is left.
 *           E5  a waiter's record is reached only under the slot's lock, and leaves the lists before it dies.
 *           E7  a set is there for as long as a slot says so, or somebody takes the descriptor out of it: leaving + 1,
 *               fence, which set? Against: no set, fence, leaving = 0? Else the end of a runtime would free what a call
 *               of close on another thread still reads.
 * The outer set (IO rule R8)
 *     arm:   A1 armed 0 -> 1 (swap)                I/O thread: B1 outer returns; the kernel has disarmed it
 *            A2 EPOLL_CTL_MOD(ONESHOT) if it was 0              B2 armed = 0
 *                                                               B3 harvest, hand out
 *                                                               B4 all parked and not armed? arm again
 *     Forbidden: A1 finds armed still 1 (between B1 and B2), and nobody arms. B4 is there for it.
 * Source    registration for life as in Go's netpoll and libuv; calls in flight as in Go's fdMutex.
 * Tested    tests/io_test.c, tests/explore/slot.c, tests/models/idle.pml, stress/sockets.c */
#include "event/poller.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <weft/io.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/panic.h"
#include "sched/sched.h"

enum { SLOTS = 1 << 20, COMMIT = 8192 };
#define EVENTS ((uint32_t)EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET)

#define FLAGS_MASK (UINT64_C(0xff) << 56)
#define GENERATION_ONE (UINT64_C(1) << 32)
#define GENERATION_MASK (UINT64_C(0xffffff) << 32)
#define CALLS_MASK UINT64_C(0xffffffff)

static struct weft__slot *slots;
static at_int committed;
static at_int waited_top; /* no number from here on was ever in a set */
static struct weft__lock table_lock;

/* ---- the sets */

static int new_set(void)
{
    int rc = weft__fault(WEFT__FAULT_EPOLL_CREATE);
    return rc < 0 ? rc : (rc = epoll_create1(EPOLL_CLOEXEC)) < 0 ? -weft__errno() : rc;
}

static int new_kick(void)
{
    int rc = weft__fault(WEFT__FAULT_EVENTFD);
    return rc < 0 ? rc : (rc = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ? -weft__errno() : rc;
}

static int add(int set, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event ev = { .events = events, .data.u64 = data };
    int rc = weft__fault(WEFT__FAULT_EPOLL_CTL);
    return rc < 0 ? rc : epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev) < 0 ? -weft__errno() : 0;
}

int weft__poller_init(struct weft__poller *p)
{
    int rc;
    p->set = p->outer = p->kick_fd = -1;
    if ((rc = p->set = new_set()) < 0 || (rc = p->outer = new_set()) < 0 || (rc = p->kick_fd = new_kick()) < 0)
        return rc;
    if ((rc = add(p->outer, p->set, 0, 0)) == 0)
        rc = add(p->outer, p->kick_fd, EPOLLIN, 1);
    return rc;
}

void weft__poller_fini(struct weft__poller *p)
{
    /* Descriptors that are still known to be in this set belong to nobody now. */
    uint32_t n = ati_load_acquire(&committed); /* acquire: of any runtime's threads */
    for (uint32_t fd = 0; fd < n; fd++)
        /* acquire (E7): whoever has just taken the last one out, and wrote that, is done with the set */
        if (at_load_acquire(&slots[fd].poller) == (uint64_t)(uintptr_t)p)
            at_store(&slots[fd].poller, 0);
    at_fence_full(); /* E7 */
    /* Of all: one that does not know of this set any more may be left by two at once, of which one is not done with it. */
    for (uint32_t fd = 0; fd < n; fd++)
        while (ati_load_acquire(&slots[fd].leaving) != 0) /* acquire: meets the full order in leave_set */
            sched_yield();
    if (p->set >= 0)
        close(p->set);
    if (p->outer >= 0)
        close(p->outer);
    if (p->kick_fd >= 0)
        close(p->kick_fd);
}

void weft__poller_arm(struct weft__poller *p)
{
    struct epoll_event on = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 0 };
    if (ati_swap(&p->armed, 1) == 0)
        epoll_ctl(p->outer, EPOLL_CTL_MOD, p->set, &on);
}

void weft__poller_kick(void *poller)
{
    struct weft__poller *p = poller;
    uint64_t one = 1;
    if (write(p->kick_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is kicked already */
}

void weft__poller_wait(struct weft__poller *p, int64_t until, bool *fired)
{
    struct epoll_event ev[2];
    int64_t now = weft__now(), within = until != INT64_MAX && until > now ? until - now : 0;
    struct timespec ts = { .tv_sec = within / 1000000000, .tv_nsec = within % 1000000000 };
    int rc = weft__fault(WEFT__FAULT_EPOLL_WAIT);
    long n = rc < 0 ? rc : syscall(SYS_epoll_pwait2, p->outer, ev, 2, until == INT64_MAX ? NULL : &ts, NULL, 0);
    if (rc == 0 && n < 0)
        rc = -weft__errno();
    if (rc == -ENOSYS || rc == -EPERM) { /* an older kernel, or a filter of system calls that does not know it */
        int64_t ms = (within + 999999) / 1000000;
        n = epoll_wait(p->outer, ev, 2, until == INT64_MAX ? -1 : ms > 86400000 ? 86400000 : (int)ms);
    }
    *fired = false;
    for (long i = 0; i < n; i++) {
        uint64_t count;
        if (ev[i].data.u64 == 0)
            *fired = true;
        else if (read(p->kick_fd, &count, sizeof count) < 0)
            continue; /* drained by an earlier look */
    }
}

/* ---- slots */

static int slot_at(int fd, struct weft__slot **out)
{
    if (fd < 0 || fd >= SLOTS)
        return -EBADF;
    if ((uint32_t)fd >= ati_load_acquire(&committed)) {
        int rc = 0;
        weft__lock(&table_lock);
        if (!slots && !(slots = weft__space_reserve((size_t)SLOTS * sizeof *slots)))
            rc = -ENOMEM;
        uint32_t n = ati_load(&committed);
        while (rc == 0 && n <= (uint32_t)fd) {
            if ((rc = weft__space_commit(slots + n, COMMIT * sizeof *slots)) < 0)
                break;
            for (uint32_t i = n; i < n + COMMIT; i++)
                slots[i].fd = (int)i;
            n += COMMIT;
            ati_store_release(&committed, n);
        }
        weft__unlock(&table_lock);
        if (rc < 0)
            return rc;
    }
    *out = &slots[fd];
    return 0;
}

int weft__slot_enter(int fd, struct weft__slot **out)
{
    int rc = slot_at(fd, out);
    if (rc < 0)
        return rc;
    struct weft__slot *s = *out;
    for (;;) {
        uint64_t life = at_load(&s->life);
        if (life & WEFT__SLOT_CLOSING)
            return -EBADF; /* E4 */
        if (at_cas(&s->life, life, life + 1))
            return 0;
    }
}

/* Nothing is known of the number any more, but its generation. Nobody is inside. */
static void reset(struct weft__slot *s, uint64_t flags)
{
    uint64_t generation = (at_load(&s->life) + GENERATION_ONE) & GENERATION_MASK;
    ati_store(&s->drained, 0);
    ati_store(&s->sticky, 0);
    ati_store(&s->broken, 0);
    ati_store(&s->ready[0], 0);
    ati_store(&s->ready[1], 0);
    at_store_release(&s->poller, 0); /* release (E7): meets the acquire in weft__poller_fini */
    at_store_release(&s->life, flags | generation);
}

static void wake_all(struct weft__slot *s);

void weft__slot_leave(struct weft__slot *s)
{
    int fd = s->fd;
    uint64_t old = at_add(&s->life, (uint64_t)-1);
    if ((old & WEFT__SLOT_CLOSING) && (old & CALLS_MASK) == 1) {
        reset(s, 0);
        close(fd);
    }
}

/* A descriptor that weft opened is trusted until weft_close. If somebody closed it by close(2) and the number was used
 * again, its wait would never end: the set lost it with the old file. Debug builds look. */
#ifdef WEFT_DEBUG
static uint64_t file_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_ino * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)st.st_dev;
}
static void remember_file(struct weft__slot *s)
{
    at_store(&s->file, file_of(s->fd));
}
static void expect_same_file(const struct weft__slot *s)
{
    uint64_t file = file_of(s->fd);
    if (file != 0 && at_load(&s->file) != 0 && file != at_load(&s->file))
        weft__panic(__FILE__, __LINE__, "descriptor %d is another file than the one that weft opened: "
                "that was closed by close(2) and not by weft_close", s->fd);
}
#else
static void remember_file(struct weft__slot *s)
{
    (void)s;
}
static void expect_same_file(const struct weft__slot *s)
{
    (void)s;
}
#endif

int weft__slot_adopt(int fd, uint64_t flags)
{
    struct weft__slot *s;
    int rc = slot_at(fd, &s);
    if (rc < 0)
        return rc == -EBADF ? -EMFILE : rc;
    /* A foreign close may have left waiters of the number's earlier life. */
    weft__lock(&s->lock);
    wake_all(s);
    weft__unlock(&s->lock);
    for (;;) {
        uint64_t life = at_load(&s->life);
        uint64_t next = (((life + GENERATION_ONE) & GENERATION_MASK) | flags) | (life & CALLS_MASK);
        if (at_cas(&s->life, life, next))
            break;
    }
    ati_store(&s->drained, 0);
    ati_store(&s->sticky, 0);
    ati_store(&s->broken, 0);
    ati_store(&s->ready[0], 0);
    ati_store(&s->ready[1], 0);
    at_store(&s->poller, 0);
    remember_file(s);
    weft__origin_set(&s->origin);
    return 0;
}

/* Also of weft's own: another process may keep the file open, a child, or who was sent it, and its events would go on
 * waking this one. */
static void leave_set(struct weft__slot *s)
{
    ati_add(&s->leaving, 1);
    at_fence_full(); /* E7 */
    /* acquire: of a runtime that this thread may know nothing of */
    struct weft__poller *p = (struct weft__poller *)(uintptr_t)at_load_acquire(&s->poller);
    if (p)
        epoll_ctl(p->set, EPOLL_CTL_DEL, s->fd, &(struct epoll_event){ .events = 0 });
    ati_add(&s->leaving, (uint32_t)-1);
}

int weft__slot_close(int fd, bool close_number)
{
    struct weft__slot *s;
    int rc = weft__slot_enter(fd, &s);
    if (rc < 0)
        return rc;
    if (!(at_load(&s->life) & WEFT__SLOT_OWNED) && fcntl(fd, F_GETFD) < 0) {
        weft__slot_leave(s);
        return -EBADF;
    }
    if (!close_number) {
        leave_set(s);
        weft__lock(&s->lock);
        wake_all(s);
        weft__unlock(&s->lock);
        at_store_release(&s->poller, 0); /* release (E7): as in reset */
        weft__slot_leave(s);
        return 0;
    }
    for (;;) {
        uint64_t life = at_load(&s->life);
        if (life & WEFT__SLOT_CLOSING) {
            weft__slot_leave(s);
            return -EBADF;
        }
        if (at_cas(&s->life, life, life | WEFT__SLOT_CLOSING))
            break;
    }
    leave_set(s);
    weft__lock(&s->lock);
    wake_all(s);
    weft__unlock(&s->lock);
    weft__slot_leave(s);
    return 0;
}

int weft__slot_register(struct weft__slot *s, struct weft__poller *p)
{
    uint64_t life = at_load(&s->life);
    struct epoll_event ev = { .events = EVENTS,
        .data.u64 = (life & GENERATION_MASK) | (uint32_t)s->fd };
    uint64_t in = at_load_acquire(&s->poller);
    if (in != 0 && in != (uint64_t)(uintptr_t)p)
        return -EXDEV;
    if (in != 0 && (life & WEFT__SLOT_OWNED)) {
        expect_same_file(s);
        return 0;
    }
    int rc = weft__fault(WEFT__FAULT_EPOLL_CTL);
    if (rc < 0)
        return rc;
    int op = in ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    for (int tries = 0; tries < 3; tries++) {
        if (epoll_ctl(p->set, op, s->fd, &ev) == 0) {
            at_store_release(&s->poller, (uint64_t)(uintptr_t)p);
            uint32_t top, mine = (uint32_t)s->fd + 1;
            while ((top = ati_load(&waited_top)) < mine && !ati_cas(&waited_top, top, mine))
                continue;
            return 0;
        }
        rc = -weft__errno();
        if (rc == -ENOENT && op == EPOLL_CTL_MOD)
            op = EPOLL_CTL_ADD; /* closed and opened again behind our back */
        else if (rc == -EEXIST)
            op = EPOLL_CTL_MOD; /* another call registered it just now */
        else
            return rc;
    }
    return -EBADF;
}

/* Under the lock. */
static void take_off(struct weft__slot *s, struct weft__io_wait *w)
{
    for (int d = 0; d < 2; d++)
        if (list_linked(&w->link[d])) {
            list_remove(&w->link[d]);
            ati_store(&s->waiting[d], ati_load(&s->waiting[d]) - 1);
        }
}

/* Under the lock. Takes the first waiter of a direction off its lists; NULL if there is none. */
static struct weft__io_wait *take_waiter(struct weft__slot *s, enum weft__dir d)
{
    if (!s->waiters[d].next || list_empty(&s->waiters[d]))
        return NULL;
    struct weft__io_wait *w = container_of(s->waiters[d].next, struct weft__io_wait, link[d]);
    take_off(s, w);
    return w;
}

/* Under the lock. Fires the first waiter that can be won. 0, or its task to be enqueued (index + 1). */
static uint32_t fire_first(struct weft__slot *s, enum weft__dir d, unsigned events, enum weft__cause cause)
{
    struct weft__io_wait *w;
    while ((w = take_waiter(s, d)) != NULL) {
        weft__token k = w->token;
        w->events |= events;
        switch (weft__wait_claim(k, cause)) {
        case WEFT__TOO_LATE:
            break;
        case WEFT__FIRED_NOW:
            return 0;
        case WEFT__FIRED_ENQUEUE:
            return weft__task_index(weft__token_task(k)) + 1;
        }
    }
    return 0;
}

static void wake_all(struct weft__slot *s)
{
    for (int d = 0; d < 2; d++)
        while (ati_load(&s->waiting[d]) > 0) {
            uint32_t t = fire_first(s, (enum weft__dir)d, 0, WEFT__CAUSE_CLOSED);
            if (t)
                weft__ready(weft__task_at(t - 1));
        }
}

bool weft__slot_wait(struct weft__slot *s, unsigned events, struct weft__io_wait *w, bool front)
{
    bool edge = false;
    weft__lock(&s->lock);
    for (int d = 0; d < 2; d++)
        if (events & (1u << d)) {
            if (!s->waiters[d].next)
                list_init(&s->waiters[d]);
            list_push_tail(front ? s->waiters[d].next : &s->waiters[d], &w->link[d]);
            ati_store(&s->waiting[d], ati_load(&s->waiting[d]) + 1);
        }
    at_fence_full(); /* E6 */
    for (int d = 0; d < 2; d++)
        if ((events & (1u << d)) && ati_load_acquire(&s->ready[d])) {
            ati_store(&s->ready[d], 0); /* E2 */
            edge = true;
        }
    if (at_load(&s->life) & WEFT__SLOT_CLOSING)
        edge = true; /* the caller looks, and leaves */
    if (edge)
        take_off(s, w);
    weft__unlock(&s->lock);
    return !edge;
}

bool weft__slots_waited(void)
{
    uint32_t top = ati_load_acquire(&waited_top);
    for (uint32_t fd = 0; fd < top; fd++)
        if (ati_load_acquire(&slots[fd].waiting[0]) + ati_load_acquire(&slots[fd].waiting[1]) > 0)
            return true;
    return false;
}

void weft__slots_left(uint64_t runtime, weft__tell_left *tell, void *arg)
{
    uint32_t n = ati_load_acquire(&committed); /* what the runtime's own threads have opened, which have come to their end */
    for (uint32_t fd = 0; fd < n; fd++) {
        uint64_t life = at_load(&slots[fd].life);
        if (at_load(&slots[fd].origin.runtime) == runtime && (life & WEFT__SLOT_OWNED) && !(life & WEFT__SLOT_CLOSING))
            tell(&slots[fd].origin, (int)fd, arg);
    }
}

void weft__slot_forget(struct weft__slot *s, struct weft__io_wait *w)
{
    weft__lock(&s->lock);
    take_off(s, w);
    weft__unlock(&s->lock);
}

void weft__slot_pass_on(struct weft__slot *s, enum weft__dir d)
{
    ati_store_release(&s->ready[d], 1);
    at_fence_full(); /* E6 */
    if (ati_load(&s->waiting[d]) == 0)
        return;
    weft__lock(&s->lock);
    uint32_t t = fire_first(s, d, 1u << d, WEFT__CAUSE_EVENT);
    weft__unlock(&s->lock);
    if (t)
        weft__ready(weft__task_at(t - 1));
}

/* One event of the set. Returns how many tasks it added to woken[]. */
static uint32_t take_event(const struct epoll_event *e, uint32_t *woken)
{
    struct weft__slot *s = &slots[(uint32_t)e->data.u64];
    if (((e->data.u64 ^ at_load_acquire(&s->life)) & GENERATION_MASK) != 0)
        return 0; /* of an earlier life */
    unsigned dirs = 0;
    uint32_t n = 0;
    if (e->events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI))
        dirs |= WEFT_READABLE;
    if (e->events & EPOLLOUT)
        dirs |= WEFT_WRITABLE;
    if (e->events & (EPOLLHUP | EPOLLERR))
        dirs |= WEFT_READABLE | WEFT_WRITABLE;
    weft__lock(&s->lock);
    if (e->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) /* a read stops before an urgent byte, too */
        ati_store(&s->sticky, 1);
    for (int d = 0; d < 2; d++)
        if (dirs & (1u << d)) {
            ati_store_release(&s->ready[d], 1);
            uint32_t t = fire_first(s, (enum weft__dir)d, dirs, WEFT__CAUSE_EVENT); /* E3 */
            if (t)
                woken[n++] = t - 1;
        }
    weft__unlock(&s->lock);
    return n;
}

/* The slots, and the calls that wait to read, which lie in the frames of sleeping tasks. Hints, taken without the locks;
 * not for ThreadSanitizer to look at. */
#ifdef WEFT__TSAN
__attribute__((no_sanitize("thread")))
#endif
static void prefetch_waiters(const struct epoll_event *ev, int n)
{
    for (int i = 0; i < n; i++) {
        const struct weft__slot *s = &slots[(uint32_t)ev[i].data.u64];
        at_prefetch(s);
        at_prefetch((const char *)(s + 1) - 1);
    }
    for (int i = 0; i < n; i++)
        at_prefetch(slots[(uint32_t)ev[i].data.u64].waiters[WEFT__READ].next);
}

uint32_t weft__poller_harvest(struct weft__poller *p, uint32_t *woken, int *events)
{
    struct epoll_event ev[WEFT__POLL_BATCH];
    int n = epoll_wait(p->set, ev, WEFT__POLL_BATCH, 0);
    uint32_t found = 0;
    *events = n > 0 ? n : 0;
    prefetch_waiters(ev, n);
    if (n > 0 && weft__chaos_somewhere())
        weft__chaos_delay();
    for (int i = 0; i < n; i++)
        found += take_event(&ev[i], woken + found);
    return found;
}
