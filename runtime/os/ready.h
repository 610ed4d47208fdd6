/* os/ready.h - waiting until a descriptor is ready, from a task or a plain thread. */
#ifndef WEFT_OS_READY_H
#define WEFT_OS_READY_H

#include "coord/scope.h"

/* Waits for WEFT_READABLE | WEFT_WRITABLE events on a slot that was entered; returns 0 when it is worth trying again.
 * `front`: it was woken before and found nothing, so it keeps its place.
 * -ECANCELED, -EBADF closed, -EPERM cannot be polled, -EXDEV, -ENOMEM, -ENOSPC. */
int weft__ready_wait(struct weft__frame *f, struct weft__slot *s, unsigned events, bool front);

/* Makes a call on an entered slot, attempt(fd, arg), which never waits, until it gives something else than -EAGAIN (-EINTR: at
 * once), and waits for readiness between. For all but plain reads and writes, which know more (os/io.c). */
int weft__ready_call(struct weft__frame *f, struct weft__slot *s, enum weft__dir dir, int (*attempt)(int fd, void *arg),
        void *arg);

/* weft_read, but for R12 (docs/io-rules.md): its caller has to do something with what was read that is not to be lost, and calls
 * weft__has_read then. os/io.c. */
int weft__io_read(int fd, void *buf, size_t n);

/* 0; -EPERM the kind can never be waited for: a regular file, /dev/null; -EBADF. */
int weft__ready_pollable(struct weft__frame *f, struct weft__slot *s);

/* What is ready now, by poll(2): events, 0, or a negative errno (-EBADF; -EPERM never). */
int weft__ready_look(int fd, unsigned events);

#endif
