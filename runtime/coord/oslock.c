/* coord/oslock.c - builds with WEFT_MUTEX_CHECK: a task that suspends while an OS mutex is held is reported.
 *
 * An OS mutex (pthread_mutex_t, pthread_rwlock_t, mtx_t) belongs to the thread that locked it. A task that suspends while it
 * holds one may be resumed on another thread, which may not unlock it; and the next task on this thread that wants it
 * waits for ever, as the thread waits for itself. weft_mutex is for that.
 *
 * Owns      the functions of these names, in front of those of libc; how many locks each thread holds, and where the last
 *           was taken.
 * Callers   the program, and every library of the process; coord/await.h and time.c ask before a task lets go of its thread.
 * Limits    who has been reported is counted no more: an unlock that comes later, on whatever thread, does not make the
 *           count negative. Locks of spin type and those that a library reaches by other names are not seen.
 * Source    brpc's check for bthreads (its issue 2692).
 * Tested    tests/oslock_test.c, in a build of its own (.ci/run checked) */
#include "coord/oslock.h"

#ifdef WEFT__MUTEX_CHECK

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <threads.h>
#include <time.h>

#include "base/code.h"
#include "coord/await.h"
#include "engine/hooks.h"
#include "engine/runtime.h"

enum { FRAMES = 12, TEXT = 1024 };

/* In use at each lock of the process, also before there is any runtime. */
static __thread struct {
    int held;
    const void *last; /* where */
} mine;

static __attribute__((noinline)) int took(int rc, const void *where)
{
    if (rc == 0 || rc == EOWNERDEAD) {
        mine.held++;
        mine.last = where;
    }
    return rc;
}

static __attribute__((noinline)) int gave(int rc)
{
    if (rc == 0 && mine.held > 0)
        mine.held--;
    return rc;
}

/* The next function of that name, looked up once: the value is the same whoever writes it. */
static void *next(at_word *known, const char *name)
{
    uint64_t f = at_load(known);
    if (f == 0) {
        f = (uint64_t)(uintptr_t)dlsym(RTLD_NEXT, name);
        at_store(known, f);
    }
    return (void *)(uintptr_t)f;
}

#define WHERE __builtin_return_address(0)
#define SHOWN __attribute__((visibility("default")))

/* `done` is took(rc, WHERE) or gave(rc). */
#define IN_FRONT_OF(name, parameters, arguments, done) \
    SHOWN int name parameters \
    { \
        static at_word known; \
        int(*real) parameters; \
        void *f = next(&known, #name); \
        memcpy(&real, &f, sizeof real); \
        int rc = real arguments; \
        return done; \
    }

IN_FRONT_OF(pthread_mutex_lock, (pthread_mutex_t * m), (m), took(rc, WHERE))
IN_FRONT_OF(pthread_mutex_trylock, (pthread_mutex_t * m), (m), took(rc, WHERE))
IN_FRONT_OF(pthread_mutex_timedlock, (pthread_mutex_t * m, const struct timespec *t), (m, t), took(rc, WHERE))
IN_FRONT_OF(pthread_mutex_clocklock, (pthread_mutex_t * m, clockid_t c, const struct timespec *t), (m, c, t), took(rc, WHERE))
IN_FRONT_OF(pthread_mutex_unlock, (pthread_mutex_t * m), (m), gave(rc))
IN_FRONT_OF(pthread_rwlock_rdlock, (pthread_rwlock_t * l), (l), took(rc, WHERE))
IN_FRONT_OF(pthread_rwlock_tryrdlock, (pthread_rwlock_t * l), (l), took(rc, WHERE))
IN_FRONT_OF(pthread_rwlock_wrlock, (pthread_rwlock_t * l), (l), took(rc, WHERE))
IN_FRONT_OF(pthread_rwlock_trywrlock, (pthread_rwlock_t * l), (l), took(rc, WHERE))
IN_FRONT_OF(pthread_rwlock_unlock, (pthread_rwlock_t * l), (l), gave(rc))
IN_FRONT_OF(mtx_lock, (mtx_t * m), (m), took(rc, WHERE))
IN_FRONT_OF(mtx_trylock, (mtx_t * m), (m), took(rc, WHERE))
IN_FRONT_OF(mtx_timedlock, (mtx_t *restrict m, const struct timespec *restrict t), (m, t), took(rc, WHERE))
IN_FRONT_OF(mtx_unlock, (mtx_t * m), (m), gave(rc))

static __attribute__((noinline)) int forget(const void **last)
{
    int held = mine.held;
    *last = mine.last;
    mine.held = 0;
    return held;
}

static size_t say(char *out, size_t at, const char *what, const void *code)
{
    char text[120];
    weft__code_text(text, sizeof text, code);
    int n = snprintf(out + at, TEXT - at, "%s%s", what, text);
    return n > 0 && (size_t)n < TEXT - at ? at + (size_t)n : at;
}

__attribute__((noinline)) void weft__oslocks_look(struct weft__frame *f)
{
    const void *last;
    int held = forget(&last);
    if (held == 0)
        return;
    void *calls[FRAMES];
    char text[TEXT];
    int n = snprintf(text, sizeof text, "suspends while its thread holds %d OS mutex%s, the last locked at ", held,
            held == 1 ? "" : "es");
    size_t at = say(text, (size_t)n, "", last);
    int depth = backtrace(calls, FRAMES);
    for (int i = 1; i < depth; i++)
        at = say(text, at, i == 1 ? "; by " : " < ", calls[i]);
    (void)forget(&last); /* what the unwinder took and gave */
    weft__report_task(f, "os-mutex", 0, text);
}

#else
typedef int weft__oslocks_are_not_looked_at; /* a file is not empty */
#endif
