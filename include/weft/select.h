/* weft/select.h - waiting for the first of several things.
 *
 *     enum { JOB, STOP, LATE };
 *     weft_case cs[] = {
 *         [JOB] = weft_on_recv(jobs, &job, sizeof job),
 *         [STOP] = weft_on_event(&stop),
 *         [LATE] = weft_on_timer(weft_ms(100)),
 *     };
 *     switch (weft_select(cs, 3)) {
 *     case JOB:      cs[JOB].rc is what weft_chan_recv would have returned: 1, 0 closed
 *
 * One of the cases that are ready is done, and only that one: nothing was sent, received or taken by the others. Which of
 * several that are ready is drawn at random, each as likely as the others. A closed channel is ready, always: switch its
 * case off, or leave.
 *
 * context    any thread: never suspends
 */
#ifndef WEFT_SELECT_H
#define WEFT_SELECT_H

#include <weft/chan.h>
#include <weft/sync.h>
#include <weft/task.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a case waits for, and what it needs for that. */
enum weft_case_kind {
    WEFT_CASE_NONE,   /* off */
    WEFT_CASE_RECV,   /* object: a weft_chan, NULL: off; item; bytes */
    WEFT_CASE_SEND,   /* the same; *item is only read */
    WEFT_CASE_TIMER,  /* value: when */
    WEFT_CASE_FD,     /* value: the descriptor; events */
    WEFT_CASE_JOIN,   /* value: the task */
    WEFT_CASE_EVENT,  /* object: a weft_event, NULL: off */
    WEFT_CASE_NOTIFY  /* object: a weft_notify, NULL: off */
};

/* One thing to wait for. The functions below fill it; by hand does as well. A select may be made again with the same
 * cases. */
typedef struct weft_case {
    int kind; /* enum weft_case_kind */
    int rc;   /* written for the case that was done: what the plain call would have returned */
    void *object;
    void *item;
    size_t bytes;
    int64_t value;
    int events;
    int reserved; /* zero */
} weft_case;

/* An item from, or to, a channel, as by weft_chan_recv and weft_chan_send. */
WEFT_API weft_case weft_on_recv(weft_chan *c, void *item, size_t bytes);
WEFT_API weft_case weft_on_send(weft_chan *c, const void *item, size_t bytes);

/* A time: counted from now, when the case is made, not from each select; or a point in time. Its rc is 0. */
WEFT_API weft_case weft_on_timer(int64_t within);
WEFT_API weft_case weft_on_time(int64_t at);

/* A descriptor, as by weft_wait_fd. rc: the events, WEFT_READABLE | WEFT_WRITABLE, or what is wrong with it. */
WEFT_API weft_case weft_on_fd(int fd, int events);

/* The end of a task, as by weft_task_join, but that it is not run as a call. */
WEFT_API weft_case weft_on_join(weft_task t);

/* A weft_event, as by weft_event_wait. */
WEFT_API weft_case weft_on_event(weft_event *e);

/* One notification, as by weft_notify_wait. */
WEFT_API weft_case weft_on_notify(struct weft_notify *n);

/* Waits until one of the n cases can be done, and does it. A case whose plain call would fail at once is ready: -EINVAL,
 * -EBADF and the like are in its rc. Up to 8 cases need no memory. A plain thread looks at descriptors once a millisecond.
 *
 * returns    the case's index; -ECANCELED; -EINVAL all are off, or one is no case; -ENOMEM
 * on error   no case was done
 * context    task: suspends, cancellation point (no case was done); plain thread: blocks it
 * source     all objects are locked, in the order of their addresses, before any is looked at: runtime/os/select.c */
WEFT_CHECK WEFT_API int weft_select(weft_case *cs, size_t n);

/* The same without waiting.
 *
 * returns    the same, and -EAGAIN nothing is ready, or all are off; never -ECANCELED
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_try_select(weft_case *cs, size_t n);

#ifdef __cplusplus
}
#endif
#endif
