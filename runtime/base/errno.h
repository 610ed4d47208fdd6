/* base/errno.h - reading errno in calls that tasks make.
 *
 * errno is *__errno_location(), which is declared constant: in a function that suspends, a compiler may go on with the
 * address it had before, and read another thread's. So nobody else in runtime/ reads errno. */
#ifndef WEFT_BASE_ERRNO_H
#define WEFT_BASE_ERRNO_H

#include <errno.h>

/* errno of the calling thread, now: right after the system call. */
int weft__errno(void);
/* What a system call returned, or the negative error. */
static inline int weft__or_errno(long rc)
{
    return rc < 0 ? -weft__errno() : (int)rc;
}
/* For signal handlers: as it was before. */
void weft__errno_set(int error);

/* Tells ThreadSanitizer that the tasks on the calling thread, which it takes for threads, share its errno. Nothing in
 * other builds. */
void weft__errno_shared(void);

#endif
