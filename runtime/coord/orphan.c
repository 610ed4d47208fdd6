/* coord/orphan.c - who ended and held a mutex still.
 *
 * A mutex knows the id of its holder and nobody knows all mutexes; one that was not unlocked may be in memory that is
 * gone. So an end with a count of held ones, which is a bug of the program's, touches no mutex: it ends the waits for
 * mutexes, all of them, and each waiter looks at the holder of its own and waits on if that lives.
 *
 *     who ends                                 who waits
 *     O1  the id is dead (or in `threads`)     O3  says that it waits for a mutex; then W1
 *         -- full fence --                         -- full fence --
 *     O2  every wait for a mutex is ended      O4  the holder's id is dead? does not wait
 *                                              O5  when its wait is over it says that it waits no more
 *
 * Forbidden: O2 sees no wait and O4 sees the holder alive. Then nobody wakes it. O2 claims by the ticket that it saw
 * before it saw for what: a wait for something else that began meanwhile has another.
 *
 * Owns      the ids of plain threads that ended so, for good (a thread's id is not looked up otherwise), and the list
 *           of plain threads that wait for a mutex.
 * Callers   orphaned: a task's end, a thread's. The rest: sync/mutex.c.
 * Tested    tests/mutex_test.c */
#include "coord/orphan.h"

#include <errno.h>
#include <sched.h>

#include "base/mem.h"
#include "coord/await.h"
#include "coord/side.h"

struct ended {
    struct ended *next;
    uint64_t id;
};

static struct weft__lock lock;
static struct weft__link watches; /* under lock */
static at_word threads;           /* struct ended *; pushed at under lock */

bool weft__holder_ended(uint64_t id, bool thread)
{
    if (!thread)
        return !weft_task_alive((weft_task)id);
    /* acquire: meets the release in remember */
    for (struct ended *e = (struct ended *)(uintptr_t)at_load_acquire(&threads); e; e = e->next)
        if (e->id == id)
            return true;
    return false;
}

void weft__orphan_watch(struct weft__orphan_watch *w)
{
    weft__lock(&lock);
    if (!watches.next)
        list_init(&watches);
    list_push_tail(&watches, &w->link);
    weft__unlock(&lock);
}

void weft__orphan_unwatch(struct weft__orphan_watch *w)
{
    weft__lock(&lock);
    list_remove(&w->link);
    weft__unlock(&lock);
}

/* Without memory its waiters wait for ever, as they would without all this. */
static void remember(uint64_t id)
{
    struct ended *e = weft__mem_alloc(sizeof *e);
    if (!e)
        return;
    e->id = id;
    weft__lock(&lock);
    e->next = (struct ended *)(uintptr_t)at_load(&threads);
    at_store_release(&threads, (uint64_t)(uintptr_t)e);
    weft__unlock(&lock);
}

/* O2 for one task, whose life is held. */
static void end_wait(struct weft__task *t, struct weft__claimed *who)
{
    who->task = NULL;
    if (!(ati_load_acquire(&t->bits) & WEFT__TASK_STARTED))
        return;
    uint64_t state = at_load_acquire(&t->state); /* meets W1: what was said in O3 is seen */
    const struct weft__frame *f = (const struct weft__frame *)(uintptr_t)at_load(&t->side);
    enum weft__phase p = weft__phase_of(state);
    if ((p == WEFT__PREPARING || p == WEFT__WAITING) && own(f->waits) >> 56 == WEFT__WAITS_MUTEX)
        weft__claim_wait(weft__token_make(t, weft__number_of(state)), WEFT__CAUSE_CLOSED, who);
}

static void end_waits_of_tasks(void)
{
    uint32_t used = weft__task_table_used();
    for (uint32_t i = 0; i < used; i++) {
        struct weft__task *t = weft__task_at(i);
        weft_task id = (weft_task)(at_load_acquire(&t->life) & WEFT__LIFE_ID);
        bool held = false;
        while (id != 0 && !(held = weft__life_try_hold(t, id)) &&
                (weft_task)(at_load(&t->life) & WEFT__LIFE_ID) == id)
            sched_yield();
        if (!held)
            continue;
        struct weft__claimed who = { .task = NULL };
        end_wait(t, &who);
        weft__life_release(t);
        weft__ready_claimed(who);
    }
}

static void end_waits_of_threads(void)
{
    weft__lock(&lock);
    for (struct weft__link *l = watches.next; l && l != &watches; l = l->next)
        weft__fire(container_of(l, struct weft__orphan_watch, link)->token, WEFT__CAUSE_CLOSED);
    weft__unlock(&lock);
}

void weft__orphaned(const struct weft__frame *f)
{
    bool thread = f->group == NULL;
    if (thread)
        remember(weft__id_of_thread(f));
    else
        weft__report_task(f, "mutex", -EOWNERDEAD, "has ended, and holds a mutex still");
    at_fence_full(); /* O1 before O2 */
    end_waits_of_tasks();
    end_waits_of_threads();
}
