/* sync/mutex.h - for who has to lock again, whatever comes: sync/cond.c. */
#ifndef WEFT_SYNC_MUTEX_H
#define WEFT_SYNC_MUTEX_H

#include <weft/sync.h>

#include "coord/await.h"

bool weft__mutex_is_held(const weft_mutex *m, const struct weft__frame *f);
/* For reports: the task that holds the mutex at that address; 0: none, or a plain thread. */
weft_task weft__mutex_holder(uint64_t address);
/* Not ended by cancels. 0; -EOWNERDEAD. */
int weft__mutex_lock_again(weft_mutex *m, struct weft__frame *f);

#endif
