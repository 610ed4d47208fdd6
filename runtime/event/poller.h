/* event/poller.h - descriptors: what is known of each number, who waits on it, and the epoll set. See poller.c. */
#ifndef WEFT_EVENT_POLLER_H
#define WEFT_EVENT_POLLER_H

#include <errno.h>

#include "base/futex.h"
#include "base/list.h"
#include "sched/origin.h"
#include "sched/wait.h"

enum weft__dir { WEFT__READ, WEFT__WRITE };

/* The set of one runtime, shared by its workers and its I/O thread. */
struct weft__poller {
    int set;   /* every descriptor, edge-triggered, both directions */
    int outer; /* holds `set`, EPOLLONESHOT while armed, and kick_fd */
    int kick_fd;
    _Alignas(128) at_int armed;
    _Alignas(128) at_word role; /* worker + 1 that polls the set; 0 nobody */
};

/* One waiting call; lies in its frame, reachable only under the slot's lock. */
struct weft__io_wait {
    struct weft__link link[2]; /* in the lists of the directions it waits for */
    weft__token token;
    unsigned events; /* what came, WEFT_READABLE | WEFT_WRITABLE */
};

struct weft__slot {
    at_word life; /* {flags : 8 | generation : 24 | calls in flight : 32} */
    struct weft__lock lock;
    at_int drained; /* direction bits: nothing was left when last read */
    at_int ready[2]; /* an edge came that no call has used */
    at_int waiting[2]; /* how many wait; to be read without the lock */
    at_word poller;  /* struct weft__poller *, in whose set it is; 0 in none */
    struct weft__link waiters[2];
    int fd;
    at_int sticky; /* EPOLLRDHUP, EPOLLHUP, EPOLLERR or EPOLLPRI has come: read to the end */
    at_int accepting; /* a call is between its look at a listener and its accept(2): os/net.c */
    at_int leaving;   /* E7: how many take it out of its set */
    at_int broken;    /* the errno by which the connection broke, told to one of its calls; 0: none was */
    struct weft__origin origin;
#ifdef WEFT_DEBUG
    at_word file; /* which file it was when weft opened it */
#endif
};

/* Flags of the life word. */
#define WEFT__SLOT_OWNED (UINT64_C(1) << 56)   /* weft opened it: non-blocking, and only weft_close closes it */
#define WEFT__SLOT_STREAM (UINT64_C(1) << 57)  /* a connected stream socket */
#define WEFT__SLOT_CLOSING (UINT64_C(1) << 58) /* no call may enter; the last one out closes the number */
#define WEFT__SLOT_UNIX (UINT64_C(1) << 59)    /* with STREAM, no TCP: a read also stops where descriptors came with bytes */

/* 0; -EMFILE, -ENFILE, -ENOMEM: fini then closes what there is of it. */
int weft__poller_init(struct weft__poller *p);
void weft__poller_fini(struct weft__poller *p);

/* Harvests the set once, without waiting: the tasks of won waits are written to woken[], READY, for the caller to
 * enqueue. Returns how many; *events how many events came. At most WEFT__POLL_BATCH events; woken[] has room for
 * twice that. */
enum { WEFT__POLL_BATCH = 64 };
uint32_t weft__poller_harvest(struct weft__poller *p, uint32_t *woken, int *events);

/* ARM: the I/O thread gets the set until the next event. Wakes nobody unless something is there already. */
void weft__poller_arm(struct weft__poller *p);
void weft__poller_kick(void *poller);
/* The I/O thread's wait, until `until` (ns). Sets *fired when the set has something; drains kicks. */
void weft__poller_wait(struct weft__poller *p, int64_t until, bool *fired);

/* A call on `fd` begins and ends. 0; -EBADF it is being closed, or out of range; -ENOMEM. */
int weft__slot_enter(int fd, struct weft__slot **out);
void weft__slot_leave(struct weft__slot *s);

/* weft has just opened `fd`: whatever was known of the number is void. On failure the caller closes it. */
int weft__slot_adopt(int fd, uint64_t flags);

/* Marks, wakes all waiters with CLOSED; the number is closed with the last call in flight. `close_number` false:
 * forgets only. 0; -EBADF. */
int weft__slot_close(int fd, bool close_number);

/* Puts it into the runtime's set, or renews that for a descriptor weft did not open, which may be another file by
 * now. 0; -EXDEV another runtime has it; -EPERM it cannot be polled; -EBADF, -ENOMEM, -ENOSPC. */
int weft__slot_register(struct weft__slot *s, struct weft__poller *p);

/* W3 for a direction, or both. False: an edge is there unused (and now used): try again instead of waiting.
 * `front`: it was woken in turn and found nothing. */
bool weft__slot_wait(struct weft__slot *s, unsigned events, struct weft__io_wait *w, bool front);
/* After the wait, however it ended. */
void weft__slot_forget(struct weft__slot *s, struct weft__io_wait *w);

/* Whether anybody waits for a descriptor, whichever runtime's. A walk over all numbers that were ever waited for. */
bool weft__slots_waited(void);

/* Tells of those that weft opened for the tasks of that runtime and that are open. */
void weft__slots_left(uint64_t runtime, weft__tell_left *tell, void *arg);

/* E2, before the system call: whether there was an edge. */
static inline bool weft__slot_use_edge(struct weft__slot *s, enum weft__dir d)
{
    if (ati_load(&s->ready[d]) == 0)
        return false; /* nothing is stored: it would wipe an edge that comes just now */
    ati_store(&s->ready[d], 0);
    return true;
}

/* The kernel says once why a connection broke, to whoever asks it next, be that a read or a write; from then on reading gives
 * 0, as at an end. So who is told notes it, and who reads 0 looks: that the other side said nothing more is not known then.
 * Between the kernel's word and the note lies the return of a system call: a read on another thread may still find an end. */
static inline void weft__slot_note(struct weft__slot *s, long rc)
{
    if ((rc == -ECONNRESET || rc == -ETIMEDOUT) && (at_load(&s->life) & WEFT__SLOT_OWNED))
        ati_store(&s->broken, (uint32_t)-rc);
}

/* What a read of 0 is to return. */
static inline int weft__slot_end(const struct weft__slot *s)
{
    return -(int)ati_load(&s->broken);
}

/* The call used an edge's worth and left more, perhaps: the next waiter gets its turn. */
void weft__slot_pass_on(struct weft__slot *s, enum weft__dir d);

#endif
