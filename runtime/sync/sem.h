/* sync/sem.h - what a semaphore is bounded by. See sem.c. */
#ifndef WEFT_SYNC_SEM_H
#define WEFT_SYNC_SEM_H

#include <weft/sync.h>

/* 0: by nothing. It never changes. */
uint32_t weft__sem_bound(const weft_sem *s);

#endif
