/* report/dump.c - every live task, in words; and once more those that are many.
 *
 * Owns      nothing.
 * Callers   any thread, a task, the I/O thread when a signal asks.
 * Holds     G   what leaks is many tasks of few places, so these are counted in a table of a fixed size, on the stack: a
 *               dump allocates nothing (report/view.c, D1). Tasks of places that came when it was full are counted as others.
 *           S   stacks are many of few kinds, too: each is said once, and by name when it comes again, as long as no other
 *               has its place in a small table.
 * Cost      some microseconds a task; no worker is stopped, and one that ends a task just then waits as long
 *           (report/view.c).
 * Tested    tests/dump_test.c, tests/stacks_test.c */
#include <errno.h>
#include <string.h>
#include <weft/report.h>

#include "base/fork.h"
#include "report/view.h"

/* So many of one place are many; places. */
enum { MANY = 10, PLACES = 64 };
/* Calls of a stack that are said; stacks that are remembered, a power of two. */
enum { CALLS = 64, STACKS = 64 };

struct places {
    int others;
    struct place {
        const void *site; /* NULL: free */
        int tasks, waiting;
        uint64_t oldest, longest; /* ticks; since it began, since it waits */
    } all[PLACES];
};

static struct place *place_of(struct places *p, const void *site)
{
    for (size_t i = 0, at = (uintptr_t)site >> 2; i < PLACES; i++) {
        struct place *one = &p->all[(at + i) % PLACES];
        if (one->site == site || !one->site)
            return one;
    }
    return NULL;
}

static void count(struct places *p, const struct weft__view *v)
{
    struct place *one = v->site ? place_of(p, v->site) : NULL;
    if (!one) {
        p->others++;
        return;
    }
    one->site = v->site;
    one->tasks++;
    one->oldest = v->age > one->oldest ? v->age : one->oldest;
    if (weft__phase_of(v->state) != WEFT__WAITING)
        return;
    one->waiting++;
    one->longest = v->waited > one->longest ? v->waited : one->longest;
}

/* The largest first. */
static void say_places(struct weft__out *o, struct places *p)
{
    for (;;) {
        struct place *most = &p->all[0];
        for (int i = 1; i < PLACES; i++)
            most = p->all[i].tasks > most->tasks ? &p->all[i] : most;
        if (most->tasks < MANY)
            break;
        weft__say(o, "%d tasks spawned at ", most->tasks);
        weft__say_code(o, most->site);
        weft__say(o, ": the oldest begun");
        weft__say_ms(o, most->oldest);
        weft__say(o, " ago; %d wait, for", most->waiting);
        weft__say_ms(o, most->longest);
        weft__say(o, " at most\n");
        most->tasks = 0;
    }
    if (p->others >= MANY)
        weft__say(o, "%d tasks spawned elsewhere\n", p->others);
}

/* S: which stacks have been said, and of whom: a hash in its place in the table. */
struct said {
    uint64_t hash; /* 0: none */
    weft_task of;
};

static uint64_t hash_of(const void *const *calls, int n)
{
    uint64_t hash = (uint64_t)n;
    for (int i = 0; i < n; i++)
        hash = ((hash ^ (uintptr_t)calls[i]) * UINT64_C(0x9e3779b97f4a7c15)) ^ hash >> 29;
    return hash | 1;
}

static void say_stack(struct weft__out *o, const struct weft__view *v, struct weft__task *t, struct said *table)
{
    const void *calls[CALLS];
    int n = weft__view_stack(v, t, calls, CALLS);
    uint64_t hash = hash_of(calls, n);
    struct said *said = &table[hash >> 32 & (STACKS - 1)];
    if (n > 0 && said->hash == hash) {
        weft__say(o, "    as task %lld\n", (long long)said->of);
        return;
    }
    *said = (struct said){ .hash = n > 0 ? hash : 0, .of = v->id };
    for (int i = 0; i < n; i++) {
        weft__say(o, "    at ");
        weft__say_code(o, calls[i]);
        weft__say(o, "\n");
    }
    if (n == CALLS)
        weft__say(o, "    and so on\n");
}

static int dump(int fd, bool stacks)
{
    struct weft__out o;
    struct places places;
    struct said said[STACKS];
    if (weft__forked)
        return -ECHILD;
    memset(&o, 0, sizeof o);
    memset(&places, 0, sizeof places);
    memset(said, 0, sizeof said);
    o.fd = fd;
    int found = 0;
    uint32_t used = weft__task_table_used();
    for (uint32_t i = 0; i < used && o.rc == 0; i++) {
        struct weft__view v;
        if (!weft__view_task(&v, weft__task_at(i)))
            continue;
        found++;
        weft__say_task(&o, &v);
        if (stacks)
            say_stack(&o, &v, weft__task_at(i), said);
        count(&places, &v);
    }
    say_places(&o, &places);
    weft__say(&o, "%d tasks\n", found);
    weft__out_flush(&o);
    return o.rc < 0 ? o.rc : found;
}

int weft_dump(int fd)
{
    return dump(fd, false);
}

int weft_dump_stacks(int fd)
{
    return dump(fd, true);
}
