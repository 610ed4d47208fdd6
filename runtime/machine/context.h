/* machine/context.h - switching from one stack to another, and telling the sanitizers. */
#ifndef WEFT_MACHINE_CONTEXT_H
#define WEFT_MACHINE_CONTEXT_H

#include <stddef.h>

#include "base/atomic.h"
#include "machine/stack.h"

/* What ThreadSanitizer cannot see by itself: everything before a release of `p` happens before what follows an acquire
 * of it. Nothing in other builds. */
#ifdef WEFT__TSAN
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define weft__hb_release(p) __tsan_release(p)
#define weft__hb_acquire(p) __tsan_acquire(p)
#else
#define weft__hb_release(p) ((void)0)
#define weft__hb_acquire(p) ((void)0)
#endif

/* Saves the running context in `from` and goes on with `to`, which was saved on the stack `home` (the thread's
 * own stack is described by weft__stack_of_thread). Returns when somebody switches to `from`, perhaps on
 * another thread: every thread-local has to be fetched anew. */
#if defined(WEFT__TSAN) || defined(WEFT__ASAN)
void weft__context_switch(struct weft__context *from, struct weft__context *to, struct weft__stack *home);
#else
void weft__context_swap(void **save_sp, void *to_sp);
static inline void weft__context_switch(struct weft__context *from, struct weft__context *to, struct weft__stack *home)
{
    (void)home;
    weft__context_swap(&from->sp, to->sp);
}
#endif

/* The same; and as soon as all of `from` is saved *word = value, a release, after which nothing here touches what belongs
 * to who left. `rc` is what the call returns that goes on, if it was this one. What was done before is seen there. For who
 * ends its function with it: there it goes from one's caller to the other's. */
#if defined(WEFT__TSAN) || defined(WEFT__ASAN)
int weft__context_hand(struct weft__context *from, struct weft__context *to, struct weft__stack *home, at_int *word,
        uint32_t value, int rc);
#else
int weft__context_swap_with(void **save_sp, void *to_sp, at_int *word, uint32_t value, int rc);
static inline int weft__context_hand(struct weft__context *from, struct weft__context *to, struct weft__stack *home,
        at_int *word, uint32_t value, int rc)
{
    (void)home;
    return weft__context_swap_with(&from->sp, to->sp, word, value, rc);
}
#endif

/* Prepares `to` so that the first switch to it calls entry(arg) at the top of `home`. entry never returns. */
void weft__context_make(struct weft__context *to, struct weft__stack *home, void (*entry)(void *), void *arg);

/* Lets `to` stand for the same context as `from`. */
void weft__context_copy(struct weft__context *to, const struct weft__context *from);

/* To be called first thing by entry, and nowhere else. */
void weft__context_entered(void);

/* The floating-point control words (rounding, masks): of the thread, unless a task asked for its own. */
void weft__fp_save(uint32_t fp[2]);
void weft__fp_load(const uint32_t fp[2]);

/* Describes the calling thread's own stack. */
void weft__stack_of_thread(struct weft__stack *out);
/* The same, kept for the thread, where sanitizers ask for it; else NULL. For a thread that is no worker. */
struct weft__stack *weft__stack_here(void);

#endif
