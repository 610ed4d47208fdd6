/* tls/enter.c - tells ThreadSanitizer what OpenSSL keeps for each thread.
 *
 * Owns      a token for each thread; nothing without ThreadSanitizer.
 * Callers   whoever calls OpenSSL where a task may be: right before, and right after. Nothing suspends in between.
 * Holds     N1  what OpenSSL has for a thread (its random numbers, its errors) is used by one task after the other on that
 *               thread, and freed when it ends. ThreadSanitizer takes tasks for threads, and OpenSSL, which it cannot see
 *               into, has no lock there. Each task takes over from the one before by the token.
 *           N2  so does the end of the thread: destructors run in the order in which keys were made, and ours is made before
 *               anything of OpenSSL's is, when the library is loaded.
 * Tested    tests/tls_test.c, with WEFT_SANITIZE=thread */
#include "tls/tls.h"

#if WEFT__TLS_TSAN
#include <sanitizer/tsan_interface.h>

static _Thread_local char token;
static pthread_key_t at_the_end;

static void take_over(void *of)
{
    __tsan_acquire(of);
}

__attribute__((constructor)) static void make_key(void)
{
    (void)pthread_key_create(&at_the_end, take_over); /* without one there may be a false report */
}

/* Not inlined: between two calls the task may have changed its thread, and compilers keep the address. */
__attribute__((noinline)) void weft__tls_enter(void)
{
    (void)pthread_setspecific(at_the_end, &token);
    __tsan_acquire(&token);
}

__attribute__((noinline)) void weft__tls_leave(void)
{
    __tsan_release(&token);
}
#else
typedef int weft__tls_nothing; /* ISO C wants a declaration */
#endif
