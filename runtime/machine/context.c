/* machine/context.c - switching from one stack to another, and telling the sanitizers.
 *
 * Owns      nothing but the order of the announcements, which sanitizers are particular about.
 * TSan      switches with no_sync: a switch orders nothing. What really orders two tasks (spawn, fire, join) is
 *           seen by TSan as the atomics that do it. The announcement and the swap stand side by side in one
 *           function that is not instrumented, or the shadow call stacks of the two would mix.
 * ASan      each side announces where it goes before the swap, and that it has arrived after it. A stack's
 *           resident loop outlives its tasks, so no context ever dies and NULL is never passed as the fake. */
#include "machine/context.h"

#include <pthread.h>
#include <stdint.h>

#ifdef WEFT__TSAN
#include <sanitizer/tsan_interface.h>
#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize("thread")))
#else
#define NOT_INSTRUMENTED __attribute__((noinline))
#endif
#ifdef WEFT__ASAN
#include <sanitizer/common_interface_defs.h>
#endif

void weft__context_entry(void);

#if defined(WEFT__TSAN) || defined(WEFT__ASAN)
void weft__context_swap(void **save_sp, void *to_sp);

NOT_INSTRUMENTED
void weft__context_switch(struct weft__context *from, struct weft__context *to, struct weft__stack *home)
{
#ifdef WEFT__TSAN
    __tsan_switch_to_fiber(home->fiber, 1 /* no_sync */);
#endif
#ifdef WEFT__ASAN
    __sanitizer_start_switch_fiber(&from->fake, home->low, (size_t)(home->high - home->low));
#endif
    weft__context_swap(&from->sp, to->sp);
#ifdef WEFT__ASAN
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
    (void)home;
}

/* The store is made by who is taken up; `to` says what to store. Who was taken up by a copy of its context has nothing to
 * store, and acquires by itself: it is one that begins. */
NOT_INSTRUMENTED int weft__context_hand(struct weft__context *from, struct weft__context *to, struct weft__stack *home,
        at_int *word, uint32_t value, int rc)
{
    to->word = word;
    to->value = value;
    to->rc = rc;
    from->word = NULL;
    weft__hb_release(to);
    weft__context_switch(from, to, home);
    weft__hb_acquire(from);
    rc = from->rc;
    if (from->word)
        ati_store_release(from->word, from->value);
    return rc;
}
#endif

void weft__context_entered(void)
{
#ifdef WEFT__ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

#ifdef WEFT__TSAN
NOT_INSTRUMENTED
#endif
void weft__context_copy(struct weft__context *to, const struct weft__context *from)
{
    *to = *from;
}

#ifdef WEFT__TSAN
NOT_INSTRUMENTED
#endif
void weft__context_make(struct weft__context *to, struct weft__stack *home, void (*entry)(void *), void *arg)
{
    uintptr_t top = (uintptr_t)home & ~(uintptr_t)15;
    uint64_t *sp = (uint64_t *)top;
#if defined(__x86_64__)
    *--sp = 0; /* where a caller's address would be: a walk by frame pointers ends here */
    *--sp = 0;
    *--sp = (uint64_t)(uintptr_t)weft__context_entry;
    *--sp = 0;                          /* rbp */
    *--sp = (uint64_t)(uintptr_t)entry; /* rbx */
    *--sp = (uint64_t)(uintptr_t)arg;   /* r12 */
    *--sp = 0;
    *--sp = 0;
    *--sp = 0;
#elif defined(__aarch64__)
    sp -= 20;
    for (int i = 0; i < 20; i++)
        sp[i] = 0;
    sp[0] = (uint64_t)(uintptr_t)entry; /* x19 */
    sp[1] = (uint64_t)(uintptr_t)arg;   /* x20 */
    sp[11] = (uint64_t)(uintptr_t)weft__context_entry;
#else
#error "weft knows x86-64 and AArch64"
#endif
    to->sp = sp;
#ifdef WEFT__ASAN
    to->fake = NULL;
#endif
#ifdef WEFT__TSAN
    if (!home->fiber)
        home->fiber = __tsan_create_fiber(0);
#endif
}

/* Not instrumented: what a host saves, tasks on its thread load. */
NOT_INSTRUMENTED void weft__fp_save(uint32_t fp[2])
{
#if defined(__x86_64__)
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(fp[0]));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    fp[1] = x87;
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    fp[0] = (uint32_t)fpcr;
    fp[1] = 0;
#endif
}

NOT_INSTRUMENTED void weft__fp_load(const uint32_t fp[2])
{
#if defined(__x86_64__)
    uint16_t x87 = (uint16_t)fp[1];
    __asm__ volatile("ldmxcsr %0" : : "m"(fp[0]));
    __asm__ volatile("fldcw %0" : : "m"(x87));
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)fp[0]));
#endif
}

void weft__stack_of_thread(struct weft__stack *out)
{
    pthread_attr_t a;
    void *low = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &a) == 0) {
        pthread_attr_getstack(&a, &low, &bytes);
        pthread_attr_destroy(&a);
    }
    out->low = low;
    out->high = low ? out->low + bytes : NULL; /* of the main thread they are in a file, for which there may be no descriptor */
    out->class_index = -1;
#ifdef WEFT__TSAN
    out->fiber = __tsan_get_current_fiber();
#endif
}

#if defined(WEFT__TSAN) || defined(WEFT__ASAN)
struct weft__stack *weft__stack_here(void)
{
    static __thread struct weft__stack here;
    if (!here.high)
        weft__stack_of_thread(&here);
    return &here;
}
#else
struct weft__stack *weft__stack_here(void)
{
    return NULL;
}
#endif
