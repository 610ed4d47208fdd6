/* engine/stall.c - a deadlock is found and told.
 *
 * Owns      when a standstill is called a deadlock, and that it is told once.
 * Callers   the I/O thread that is about to block without a tick: all of its workers have been parked for two ticks. A
 *           runtime that is not idle does nothing of this; one that blocks compares two sums, and if no timer is armed,
 *           looks on.
 *
 *     L1  how many threads has the process?
 *     L2  of every runtime of the process, under weft__runtimes_lock: started, not ending; V1 (engine/rest.c); V2; no timer
 *         armed; it obeys no signals, or nothing runs there. Nobody waits for a descriptor, watches files or
 *         listens to signals. Then V3 of every one
 *     L3  threads of L1 that none of the runtimes knows are strangers, each of which may set an event or send. With one, it
 *         is a deadlock only where the program has said so (deadlock_is_error)
 *     L4  every live task waits, or runs a child of its own as a call that waits; the text is made
 *     L5  L2's V3 again, as many threads as in L1, and not told before: it is told, and the runtime asks for the next one
 *
 * Between V1 and V3 nobody has had a turn, so what V2 saw in any of the runtimes was true at the same time as what it saw in
 * the others; and then nothing can begin but by a stranger. L4 and L5 keep out what one has done since.
 * What ends a standstill without a turn, a hand that goes (H4), a thread that begins to wait, the end of another runtime,
 * kicks the I/O thread, which blocks after T1: it looks again. Strangers go without a word, so with one it looks twice
 * more, 10 and 100 ms later, and then gives up until a task has run: an idle runtime does not tick.
 *
 * By default it is only told, and never wrongly: strangers alone make the difference between "is" and "may be", and a
 * program that is fed by a thread of its own would be told so after each item. A child that the program forked, or a signal
 * handler, is no stranger: what they can do reaches a task through a descriptor.
 * No lock is held over a report or a system call; a runtime that is reported has a visitor meanwhile, and does not end.
 * Tested    tests/deadlock_test.c */
#include "engine/stall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/hooks.h"
#include "engine/rest.h"

enum { AGAIN_MS = 10, TRIES = 2 };
#ifdef WEFT__TSAN
enum { COUNTABLE = 0 }; /* ThreadSanitizer has a thread of its own, but for some forked children: all may be strangers */
#else
enum { COUNTABLE = 1 };
#endif

/* L1; 0: it is not known. */
static int threads_of_process(void)
{
    char text[4096];
    int fd = COUNTABLE ? open("/proc/self/status", O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    const char *at = strstr(text, "\nThreads:");
    return at ? atoi(at + 9) : 0;
}

static bool no_timer(struct weft_runtime *rt)
{
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++)
        if (weft__timers_earliest(&rt->workers[i]->timers) != INT64_MAX)
            return false;
    return true;
}

/* Under the lock. */
static bool all_quiet(uint64_t *turns)
{
    for (struct weft_runtime *r = weft__runtimes; r; r = r->next)
        if (!ati_load_acquire(&r->stall.ready) || !weft__quiet(r, turns))
            return false;
    return true;
}

/* L2, under the lock. How many threads are known; -1: something can happen. */
static int all_stand(uint64_t *turns)
{
    uint64_t before = 0;
    int threads = 0;
    if (!all_quiet(&before))
        return -1;
    for (struct weft_runtime *r = weft__runtimes; r; r = r->next) {
        int n = weft__hands_rest(r);
        if (n < 0 || !no_timer(r) || (r->on_stop && ati_load(&r->roots_open) > 0))
            return -1;
        threads += n;
    }
    if (weft__slots_waited() || ati_load_acquire(&weft__outsiders) > 0)
        return -1;
    at_fence_full();
    return all_quiet(turns) && *turns == before ? threads + (int)ati_load(&weft__pool_threads) : -1;
}

static uint64_t turns_of(struct weft_runtime *rt)
{
    uint64_t turns = 1;
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats; i++)
        turns += at_load(&rt->group.all[i]->count.ran);
    return turns;
}

/* Whether there is anything left to be told of it. */
static bool untold(struct weft_runtime *rt)
{
    uint64_t turns = turns_of(rt);
    return ati_load(&rt->roots_open) > 0 && at_load(&rt->stall.said) != turns && at_load(&rt->stall.given_up) != turns;
}

/* L2 and L3. The next runtime that is to be told of, with a visitor; NULL: none. */
static struct weft_runtime *next_due(int total, int *others, uint64_t *turns)
{
    struct weft_runtime *found = NULL;
    weft__lock(&weft__runtimes_lock);
    int known = all_stand(turns);
    for (struct weft_runtime *r = known < 0 ? NULL : weft__runtimes; r && !found; r = r->next)
        if (untold(r))
            found = r;
    if (found)
        at_add(&found->group.visitors, 1);
    weft__unlock(&weft__runtimes_lock);
    *others = total - known;
    return found;
}

/* The same, to know whether L1 is worth its system calls. */
static bool somebody_is_due(void)
{
    uint64_t turns = 0;
    bool due = false;
    weft__lock(&weft__runtimes_lock);
    for (struct weft_runtime *r = weft__runtimes; r && !due; r = r->next)
        due = untold(r);
    due = due && all_stand(&turns) >= 0;
    weft__unlock(&weft__runtimes_lock);
    return due;
}

/* L5. True: it is this call's to tell. */
static bool take(struct weft_runtime *r, uint64_t turns)
{
    uint64_t now = 0;
    weft__lock(&weft__runtimes_lock);
    bool mine = all_quiet(&now) && now == turns && untold(r);
    if (mine)
        at_store(&r->stall.said, turns_of(r));
    weft__unlock(&weft__runtimes_lock);
    return mine;
}

enum outcome { TOLD, NOTHING_TO_TELL, PERHAPS_LATER };

/* L4 and L5. */
static enum outcome tell(struct weft_runtime *r, int total, int others, uint64_t turns)
{
    struct weft__stalled s = { .memory = NULL };
    int n = weft__hooks.stalled(r, others, &s);
    enum outcome outcome = n < 0 ? PERHAPS_LATER : NOTHING_TO_TELL;
    if (n > 0 && (others == 0 && threads_of_process() != total))
        outcome = PERHAPS_LATER;
    else if (n > 0 && take(r, turns))
        outcome = TOLD;
    if (outcome == TOLD) {
        weft__report(r, &(weft_report){ .what = "deadlock", .task = s.task, .task_name = s.name, .code = -EDEADLK,
                .text = s.text });
        if (r->stall.is_error)
            weft__hooks.stall_ends(r);
    }
    weft__mem_free(s.memory);
    return outcome;
}

/* When to look again at what may become a deadlock without a turn. */
static int64_t later(struct weft_runtime *rt)
{
    struct weft__stall *s = &rt->stall;
    int64_t now = weft__now();
    uint64_t turns = turns_of(rt);
    if (s->tried != turns) {
        s->tried = turns;
        s->tries = 0;
        s->again = INT64_MIN;
    }
    if (now < s->again)
        return s->again;
    if (s->tries == TRIES) {
        at_store(&s->given_up, turns);
        return INT64_MAX;
    }
    int64_t wait = 1000000 * (int64_t)AGAIN_MS;
    return s->again = now + (s->tries++ == 0 ? wait : 10 * wait);
}

int64_t weft__stall_look(struct weft_runtime *rt)
{
    for (;;) {
        if (!no_timer(rt) || !somebody_is_due())
            return INT64_MAX;
        int others, total = threads_of_process();
        uint64_t turns = 0;
        struct weft_runtime *r = next_due(total, &others, &turns);
        if (!r)
            return INT64_MAX;
        enum outcome outcome = others == 0 || r->stall.is_error ? tell(r, total, others, turns) : PERHAPS_LATER;
        if (outcome == NOTHING_TO_TELL)
            at_store(&r->stall.given_up, turns_of(r));
        at_add(&r->group.visitors, (uint64_t)-1);
        if (outcome == PERHAPS_LATER)
            return later(rt);
    }
}

/* The n-th that there is, with a visitor; NULL: there are no more. */
static struct weft_runtime *visit(int n)
{
    weft__lock(&weft__runtimes_lock);
    struct weft_runtime *r = weft__runtimes;
    for (; r && n > 0; n--)
        r = r->next;
    if (r)
        at_add(&r->group.visitors, 1);
    weft__unlock(&weft__runtimes_lock);
    return r;
}

/* One that ends meanwhile moves the others up, so that one is passed over: it calls this itself when it has left the list. One
 * that begins moves them down: one is called twice. */
void weft__stall_others(void)
{
    struct weft_runtime *r;
    for (int n = 0; (r = visit(n)); n++) {
        if (ati_load_acquire(&r->stall.ready))
            weft__hand_gone(r);
        at_add(&r->group.visitors, (uint64_t)-1);
    }
}
