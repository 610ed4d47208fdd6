/* base/errno.c - errno in calls that tasks make.
 *
 * TSan      weft__errno is not instrumented: the runtime's own reading would race with any task that sets errno. Two
 *           tasks that set and read it themselves, in turn on one thread, would still be reported; hence
 *           weft__errno_shared. What it says of the word outlives the thread: should the memory serve something else
 *           later, a race on those four bytes is missed.
 * Tested    tests/migration_test.c, stress/races/errno.c */
#include "base/errno.h"

#include "base/atomic.h"

#ifdef WEFT__TSAN
#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize("thread")))
/* One of the dynamic annotations that sanitizers have taken from Valgrind; weak, should one have it no more. */
__attribute__((weak)) void AnnotateBenignRaceSized(
        const char *file, int line, const volatile void *at, unsigned long bytes, const char *why);
#else
#define NOT_INSTRUMENTED __attribute__((noinline))
#endif

NOT_INSTRUMENTED int weft__errno(void)
{
    int e = errno;
    /* Not inlined, and opaque even to whole-program optimisation, as weft__self. */
    __asm__ volatile("" : "+r"(e)::"memory");
    return e;
}

NOT_INSTRUMENTED void weft__errno_set(int error)
{
    errno = error;
}

void weft__errno_shared(void)
{
#ifdef WEFT__TSAN
    if (AnnotateBenignRaceSized)
        AnnotateBenignRaceSized(__FILE__, __LINE__, &errno, sizeof errno, "errno of a worker");
#endif
}
