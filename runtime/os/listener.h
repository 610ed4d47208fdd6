/* os/listener.h - the file of a Unix listener, which goes when weft closes the listener. See listener.c. */
#ifndef WEFT_OS_LISTENER_H
#define WEFT_OS_LISTENER_H

#include <stdbool.h>

enum { WEFT__LISTENER_PATH = 108 }; /* of sockaddr_un, with its end */

/* `fd` has just been bound to `path`. 0; -ENOMEM, or why there was no look at it: the file is then removed. */
int weft__listener_made(int fd, const char *path);

/* `fd`, whatever it is, is about to be closed; or is no longer weft's, without file_too. */
void weft__listener_gone(int fd, bool file_too);

#endif
