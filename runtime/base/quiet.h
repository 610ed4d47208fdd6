/* base/quiet.h - errors that the kernel would send a signal with. See quiet.c. */
#ifndef WEFT_BASE_QUIET_H
#define WEFT_BASE_QUIET_H

#include <signal.h>
#include <stdbool.h>
#include <sys/uio.h>

/* On the stack of the call, which does not suspend. */
struct weft__quiet {
    bool blocks; /* what `before` does not */
    sigset_t before, pending;
};

/* Around a call that may fail with -EPIPE or -EFBIG: then the calling thread gets no SIGPIPE or SIGXFSZ for it, and those
 * that were sent by somebody else stay. A thread of weft's own pays nothing, unless the call has failed so. */
void weft__quiet_begin(struct weft__quiet *q);
/* `rc`: the negative errno of the call, or anything else. Returns it. */
long weft__quiet_end(const struct weft__quiet *q, long rc);

/* write(2), or writev(2), within such a pair. How many bytes; a negative errno. */
long weft__quiet_write(int fd, const struct iovec *v, int n);

#endif
