/* lock.c - base/futex: the lock excludes and publishes. Behind seam/ alone: the real lock. */
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "scenarios.h"

/* The names are the explorer's elsewhere. */
#define weft__lock_slow real_lock_slow
#define weft__futex_wait real_futex_wait
#define weft__futex_wake real_futex_wake

#include "base/futex.c"

static struct weft__lock l;
static int guarded;
static unsigned char inside;

static void setup(void)
{
    memset(&l, 0, sizeof l);
    inside = 0;
    ex_ghost(&inside, sizeof inside);
}

static void hold(void)
{
    weft__lock(&l);
    if (inside++)
        ex_fail("two hold the lock");
    ex_write(&guarded, "what the lock guards");
    inside--;
    weft__unlock(&l);
}

static void once(int me)
{
    (void)me;
    hold();
}

static void one_twice(int me)
{
    if (me == 0)
        hold();
    hold();
}

const struct ex_scenario lock_scenarios[] = {
    { "lock", "two", 2, setup, one_twice, NULL, 3, "two threads, one comes twice", NULL },
    { "lock", "three", 3, setup, once, NULL, 1, "three threads", NULL },
    { 0 },
};
