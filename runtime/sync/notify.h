/* sync/notify.h - the inside of a weft_notify, for who waits at several objects at once (select). */
#ifndef WEFT_SYNC_NOTIFY_H
#define WEFT_SYNC_NOTIFY_H

#include <weft/sync.h>

#include "sync/waiter.h"

struct weft__lock *weft__notify_lock(weft_notify *n);
/* Under the lock: takes the stored permit. False: there is none. */
bool weft__notify_take(weft_notify *n);
/* Under the lock: the list that a waiter goes into, if there is no permit; and out of. */
struct weft__link *weft__notify_waiters(weft_notify *n);

#endif
