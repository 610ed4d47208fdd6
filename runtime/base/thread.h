/* base/thread.h - threads of the library's own. See thread.c. */
#ifndef WEFT_BASE_THREAD_H
#define WEFT_BASE_THREAD_H

#include <pthread.h>

/* Starts one that gets none of the program's signals; *out NULL: nobody will join it. 0, or a negative errno. */
int weft__thread_start(pthread_t *out, void *(*fn)(void *), void *arg);

#endif
