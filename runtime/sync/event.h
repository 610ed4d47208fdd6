/* sync/event.h - the inside of a weft_event, for who waits at several objects at once (select). */
#ifndef WEFT_SYNC_EVENT_H
#define WEFT_SYNC_EVENT_H

#include <weft/sync.h>

#include "sync/waiter.h"

struct weft__lock *weft__event_lock(weft_event *e);
/* Under the lock: whether it is set. */
bool weft__event_look(const weft_event *e);
/* Under the lock: the list that a waiter goes into, if it is not set; and out of. */
struct weft__link *weft__event_waiters(weft_event *e);

#endif
