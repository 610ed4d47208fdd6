/* coord/pace.c - intervals, and the pauses between tries.
 *
 * Owns      nothing: both are the caller's plain numbers.
 * Source    the three ways with missed ticks are tokio's; half a pause by chance is "equal jitter".
 * Tested    tests/pace_test.c */
#include <errno.h>
#include <limits.h>
#include <weft/time.h>

#include "base/clock.h"
#include "base/rng.h"
#include "coord/await.h"
#include "coord/pace.h"

/* When the tick after the one of `i->next` is due, which is taken at `now`. */
static int64_t next_tick(const weft_interval *i, int64_t now)
{
    int64_t next = weft__time_add(i->next, i->every);
    if (now < next)
        return next; /* none was missed */
    switch ((enum weft_missed)i->missed) {
    case WEFT_MISSED_BURST:
        return next;
    case WEFT_MISSED_DELAY:
        return weft__time_add(now, i->every);
    case WEFT_MISSED_SKIP:
        return weft__time_add(now - (now - next) % i->every, i->every);
    }
    return next;
}

int weft_interval_wait(weft_interval *i)
{
    if (!i || i->every <= 0 || i->missed < WEFT_MISSED_BURST || i->missed > WEFT_MISSED_SKIP)
        return -EINVAL;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    int64_t now = weft__frame_now(f);
    if (i->next == 0)
        i->next = weft__time_add(now, i->every);
    int rc = now < i->next ? weft_sleep_until(i->next) : weft__enter_call(f);
    if (rc < 0)
        return rc;
    i->next = next_tick(i, weft__frame_now(f));
    return 1;
}

/* ---- backoff */

enum { FIRST_NS = 10000000 };
#define MOST_NS weft_sec(30)

/* A number that only chance knows, but where all is to be the same in each run: there it is made of who asks, and how
 * often it has waited. */
static uint32_t chance(const struct weft__frame *f)
{
    uint64_t seed = (uint64_t)f->id << 20 ^ at_load(&f->task->ticket) << 1;
    if (f->group && (f->group->clock.is_virtual || f->group->chaos_seed != 0))
        seed ^= f->group->chaos_seed;
    else
        seed ^= weft__ticks() ^ (uint64_t)(uintptr_t)f << 8;
    uint64_t state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    (void)weft__rng_next(&state);
    return weft__rng_next(&state);
}

int64_t weft__backoff_pause(const weft_backoff *b, const struct weft__frame *f)
{
    int64_t first = b->first > 0 ? b->first : FIRST_NS, most = b->most > 0 ? b->most : MOST_NS;
    int doubled = b->used > 1 ? b->used - 1 : 0;
    int64_t whole = first >= most ? most : first;
    while (doubled-- > 0 && whole < most)
        whole = whole > most / 2 ? most : whole * 2;
    int64_t half = whole / 2;
    /* In steps of a 65536th. */
    return whole - half + (half >> 16) * (int64_t)(chance(f) >> 16) + (half & 0xffff) * (int64_t)(chance(f) >> 16) / 65536;
}

int weft__backoff_used(weft_backoff *b)
{
    if (b->used < INT_MAX)
        b->used++;
    return b->tries == 0 || b->used < b->tries;
}

bool weft__backoff_bad(const weft_backoff *b)
{
    return b->first < 0 || b->most < 0 || b->tries < 0 || b->used < 0;
}

int weft_backoff_sleep(weft_backoff *b)
{
    if (!b || weft__backoff_bad(b))
        return -EINVAL;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (!weft__backoff_used(b))
        return 0;
    int rc = weft_sleep(weft__backoff_pause(b, f));
    return rc < 0 ? rc : 1;
}
