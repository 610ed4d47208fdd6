/* waiter.c - sync/waiter, sem, event, rwlock, waitgroup, once, promise: who waits at an object has what it waited for when
 * it returns, may free the object then, and nothing is lost or given twice when it is told to leave at the same moment. */
#include "scenarios.h"

#include <errno.h>

#include <weft/sync.h>

#include "sync/waiter.h"

static weft_scope outer;
static weft_sem sem;
static weft_event event;
static weft_rwlock lock;
static weft_waitgroup group;
static weft_once once;
static weft_promise promise;
static at_word mail;
static int data[PEOPLE];
static unsigned char got; /* permits that were taken and not given back */
enum { FIRST = 0, SERVER = 1, SECOND = 2, CANCELLER = 3, OWNER = 4 };

static void setup(void)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    memset(&sem, 0, sizeof sem);
    memset(&event, 0, sizeof event);
    memset(&lock, 0, sizeof lock);
    memset(&group, 0, sizeof group);
    memset(&once, 0, sizeof once);
    memset(&promise, 0, sizeof promise);
    mail = 0;
    got = 0;
    person(OWNER, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft__scope_of(&outer)->spawned = 1;
    person(FIRST, &outer);
    person(SECOND, NULL);
    ex_ghost(&got, sizeof got);
}

static void setup_1(void)
{
    setup();
    sem = (weft_sem)WEFT_SEM_INIT(1);
}

static void cancel(void)
{
    ex_expect(weft__cancel_scope(weft__scope_of(&outer), WEFT__MARK_CANCEL));
}

static void runs(void)
{
    ex_write(&weft__current()->group, "the frame");
}

/* True: it has them. */
static bool acquire(uint32_t n)
{
    int rc = weft_sem_acquire(&sem, n);
    ex_expect(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        got += (unsigned char)n;
    return rc == 0;
}

static void release(uint32_t n)
{
    ex_write(&data[ex_self()], "what was written before the release");
    weft_sem_release(&sem, n);
}

static void nobody_runnable(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
}

/* All permits that there were are taken, or there. */
static void conserved(uint32_t all)
{
    nobody_runnable();
    ex_expect(sem.opaque[0] + got == all);
}

static void check_1(void)
{
    conserved(1);
}

static void check_2(void)
{
    conserved(2);
}

/* One who waits, one who gives; and the semaphore is gone. */
static void permit(int me)
{
    if (me == SERVER) {
        release(1);
        return;
    }
    runs();
    ex_expect(acquire(1));
    ex_read(&data[SERVER], "what was written before the release");
    ex_gone(&sem, sizeof sem, "a semaphore");
}

/* The permit comes in two parts; who gave the first has left. */
static void in_parts(int me)
{
    if (me == FIRST) {
        runs();
        ex_expect(acquire(2));
        ex_read(&data[SERVER], "what was written before the release");
        ex_read(&data[SECOND], "what was written before the release");
        ex_gone(&sem, sizeof sem, "a semaphore");
    } else {
        release(1);
    }
}

/* It is told to leave, too: then the permit is there. */
static void told(int me)
{
    if (me == SERVER) {
        release(1);
    } else if (me == SECOND) {
        cancel();
    } else {
        runs();
        if (acquire(1))
            ex_read(&data[SERVER], "what was written before the release");
    }
}

/* The first wants more than there will ever be, and is told to leave; what it stood in the way of goes to the second. */
static void in_the_way(int me)
{
    if (me == SERVER) {
        cancel();
        return;
    }
    runs();
    if (me == FIRST)
        ex_expect(!acquire(2));
    else
        ex_expect(acquire(1));
}

static void in_the_way_with_a_release(int me)
{
    if (me == CANCELLER) {
        cancel();
    } else if (me == SERVER) {
        release(1);
    } else {
        runs();
        if (me == SECOND)
            ex_expect(acquire(1));
        else
            ex_expect(!acquire(3));
    }
}

/* The first leaves, with or without the permit; who has it after that frees the semaphore, whose release may still hold
 * its lock. */
static void passed_on(int me)
{
    if (me == SERVER) {
        release(1);
    } else if (me == FIRST) {
        runs();
        if (acquire(1)) {
            got--;
            weft_sem_release(&sem, 1);
        }
        ex_send(&mail);
    } else {
        runs();
        cancel();
        ex_receive(&mail, false);
        ex_expect(acquire(1));
        ex_read(&data[SERVER], "what was written before the release");
        ex_gone(&sem, sizeof sem, "a semaphore");
    }
}

/* Two in the queue, one release for both; each permit once. */
static void two(int me)
{
    if (me == SERVER) {
        release(2);
        return;
    }
    runs();
    ex_expect(acquire(1));
    ex_read(&data[SERVER], "what was written before the release");
}

/* ---- events */

static void set(void)
{
    ex_write(&data[SERVER], "what was written before the set");
    weft_event_set(&event);
}

static void wait_and_free(int me)
{
    if (me == SERVER) {
        set();
        return;
    }
    runs();
    ex_expect(weft_event_wait(&event) == 0);
    ex_read(&data[SERVER], "what was written before the set");
    ex_gone(&event, sizeof event, "an event");
}

static void set_and_told(int me)
{
    if (me == SERVER) {
        set();
    } else if (me == SECOND) {
        cancel();
    } else {
        runs();
        int rc = weft_event_wait(&event);
        ex_expect(rc == 0 || rc == -ECANCELED);
        if (rc == 0)
            ex_read(&data[SERVER], "what was written before the set");
    }
}

/* Set and cleared at once: who was in the list is woken; who came later waits for the second set. */
static void set_twice(int me)
{
    if (me == SERVER) {
        set();
        weft_event_clear(&event);
        weft_event_set(&event);
        return;
    }
    runs();
    ex_expect(weft_event_wait(&event) == 0);
    ex_read(&data[SERVER], "what was written before the set");
}

/* ---- locks */

static unsigned char writers, readers;
static int guarded;

static void setup_lock(void)
{
    setup();
    writers = readers = 0;
    ex_ghost(&writers, sizeof writers);
    ex_ghost(&readers, sizeof readers);
}

static void hold_to_write(void)
{
    if (writers++ || readers)
        ex_fail("a writer is not alone");
    ex_write(&guarded, "what the lock guards");
    writers--;
    weft_rwlock_unlock(&lock);
}

static void hold_to_read(void)
{
    readers++;
    if (writers)
        ex_fail("a reader beside a writer");
    ex_read(&guarded, "what the lock guards");
    readers--;
    weft_rwlock_unlock(&lock);
}

/* One writes, the others read; nothing of it is left. */
static void lock_shared(int me)
{
    runs();
    if (me == FIRST) {
        ex_expect(weft_rwlock_write(&lock) == 0);
        hold_to_write();
    } else {
        ex_expect(weft_rwlock_read(&lock) == 0);
        hold_to_read();
    }
}

static void setup_lock_3(void)
{
    setup_lock();
    person(SERVER, NULL);
}

static void check_lock(void)
{
    nobody_runnable();
    ex_expect(lock.opaque[0] == 0);
}

/* Two have it in turns; the last one is rid of it. */
static void lock_freed(int me)
{
    runs();
    ex_expect(weft_rwlock_write(&lock) == 0);
    hold_to_write();
    if (me == SERVER) {
        ex_send(&mail);
    } else {
        ex_receive(&mail, false);
        ex_gone(&lock, sizeof lock, "a lock");
    }
}

/* A writer who waits is told to leave: the reader behind it comes in, though the one before it stays. */
static void lock_told(int me)
{
    if (me == SERVER) {
        cancel();
        return;
    }
    runs();
    if (me == FIRST) {
        int rc = weft_rwlock_write(&lock);
        ex_expect(rc == -ECANCELED);
    } else {
        ex_expect(weft_rwlock_read(&lock) == 0);
    }
}

static void setup_read(void)
{
    setup_lock();
    lock = (weft_rwlock){ { 1 } };
}

static void check_read(void)
{
    nobody_runnable();
    ex_expect(lock.opaque[0] == 2);
}

static void setup_write(void)
{
    setup_lock();
    lock = (weft_rwlock){ { UINT64_C(1) << 62 } };
}

/* It is held; the unlock meets one who leaves the queue. What was written under it is seen by who comes next. */
static void lock_passed_on(int me)
{
    if (me == SERVER) {
        hold_to_write();
        return;
    }
    runs();
    if (me == FIRST) {
        int rc = weft_rwlock_write(&lock);
        if (rc == 0)
            hold_to_write();
        ex_send(&mail);
    } else {
        cancel();
        ex_receive(&mail, false);
        ex_expect(weft_rwlock_write(&lock) == 0);
        hold_to_write();
        ex_gone(&lock, sizeof lock, "a lock");
    }
}

/* ---- groups, once, promises */

static void setup_group(void)
{
    setup();
    group = (weft_waitgroup){ { 2 } };
}

static void group_freed(int me)
{
    if (me == FIRST) {
        runs();
        ex_expect(weft_waitgroup_wait(&group) == 0);
        ex_read(&data[SERVER], "what was written before it was done");
        ex_read(&data[SECOND], "what was written before it was done");
        ex_gone(&group, sizeof group, "a group");
    } else {
        ex_write(&data[me], "what was written before it was done");
        weft_waitgroup_done(&group);
    }
}

static void group_told(int me)
{
    if (me == SERVER) {
        ex_write(&data[me], "what was written before it was done");
        weft_waitgroup_done(&group);
        weft_waitgroup_done(&group);
    } else if (me == SECOND) {
        cancel();
    } else {
        runs();
        int rc = weft_waitgroup_wait(&group);
        ex_expect(rc == 0 || rc == -ECANCELED);
        if (rc == 0)
            ex_read(&data[SERVER], "what was written before it was done");
    }
}

static void setup_group_1(void)
{
    setup();
    group = (weft_waitgroup){ { 1 } };
}

/* The end meets one who leaves the queue; who finds it without the lock is rid of the group. */
static void group_passed_on(int me)
{
    if (me == SERVER) {
        ex_write(&data[me], "what was written before it was done");
        weft_waitgroup_done(&group);
        return;
    }
    runs();
    if (me == FIRST) {
        int rc = weft_waitgroup_wait(&group);
        ex_expect(rc == 0 || rc == -ECANCELED);
        ex_send(&mail);
    } else {
        cancel();
        ex_receive(&mail, false);
        ex_expect(weft_waitgroup_wait(&group) == 0);
        ex_read(&data[SERVER], "what was written before it was done");
        ex_gone(&group, sizeof group, "a group");
    }
}

static void check_group(void)
{
    nobody_runnable();
    ex_expect(group.opaque[0] == 0);
}

static int made_by(void *arg)
{
    (void)arg;
    got++;
    ex_write(&data[0], "what is made once");
    return 0;
}

static int made_in_vain(void *arg)
{
    (void)arg;
    return -EIO;
}

/* Two come at the same time. */
static void once_by_two(int me)
{
    (void)me;
    runs();
    ex_expect(weft_once_run(&once, made_by, NULL) == 0);
    ex_read(&data[0], "what is made once");
}

static void once_handed_over(int me)
{
    runs();
    if (me == SERVER) {
        int rc = weft_once_run(&once, made_in_vain, NULL);
        ex_expect(rc == 0 || rc == -EIO);
    } else {
        ex_expect(weft_once_run(&once, made_by, NULL) == 0);
        ex_read(&data[0], "what is made once");
    }
}

static void setup_once(void)
{
    setup();
    person(SERVER, NULL);
}

static void check_once(void)
{
    nobody_runnable();
    ex_expect(got == 1);
}

/* The runner has begun before the other one comes, who then finds it done, or is served. */
static int begun(void *arg)
{
    ex_send(&mail);
    return made_by(arg);
}

static void once_gone(int me)
{
    runs();
    if (me == SERVER) {
        ex_expect(weft_once_run(&once, begun, NULL) == 0);
    } else {
        ex_receive(&mail, false);
        ex_expect(weft_once_run(&once, made_in_vain, NULL) == 0);
        ex_read(&data[0], "what is made once");
        ex_gone(&once, sizeof once, "a once");
    }
}

static void promise_freed(int me)
{
    void *value = NULL;
    if (me == SERVER) {
        ex_write(&data[SERVER], "what was written before the set");
        ex_expect(weft_promise_set(&promise, 3, &data) == 0);
        return;
    }
    runs();
    ex_expect(weft_promise_wait(&promise, &value) == 3 && value == &data);
    ex_read(&data[SERVER], "what was written before the set");
    ex_gone(&promise, sizeof promise, "a promise");
}

/* ---- the protocol itself: an object with one item, which is gone as soon as the item is had, and the waiter with it */

static struct {
    struct weft__lock lock;
    struct weft__link waiters;
    bool there;
} slot;
static struct weft__waiting waiting;
static struct weft__waiter at;

static void setup_slot(void)
{
    setup();
    memset(&slot, 0, sizeof slot);
}

static void put(void)
{
    struct weft__claimed who;
    weft__lock(&slot.lock);
    struct weft__waiter *w = weft__waiters_claim(&slot.waiters, &who);
    ex_write(&data[SERVER], "the item"); /* B3 */
    if (!w)
        slot.there = true;
    weft__unlock(&slot.lock);
    if (w)
        weft__waiter_release(w, &who);
}

/* Whether it has got the item. */
static bool get(void)
{
    struct weft__frame *f = weft__current();
    int rc = weft__waiter_begin(f, &waiting, &at);
    if (rc < 0)
        return false;
    weft__lock(&slot.lock);
    bool there = slot.there;
    if (!there)
        weft__waiters_add(&slot.waiters, &at);
    weft__unlock(&slot.lock);
    if (there)
        weft__waiter_give_up(f);
    else if (!weft__waiter_await(f, &at, &slot.lock)) {
        weft__unlock(&slot.lock);
        return false;
    }
    return true;
}

static void item(int me)
{
    if (me == SERVER) {
        put();
    } else if (me == SECOND) {
        cancel();
    } else {
        runs();
        if (!get())
            return;
        ex_read(&data[SERVER], "the item");
        ex_gone(&waiting, sizeof waiting, "a wait");
        ex_gone(&slot, sizeof slot, "an object");
    }
}

const struct ex_scenario sync_scenarios[] = {
    { "sync", "permit", 2, setup, permit, check_1, -1, "a semaphore is freed by who got its permit", NULL },
    { "sync", "in_parts", 3, setup, in_parts, check_2, 3, "two releases for one who waits", NULL },
    { "sync", "told", 3, setup, told, check_1, 2, "a release and a cancel", NULL },
    { "sync", "in_the_way", 3, setup_1, in_the_way, check_1, 1, "the first in the queue is told to leave", NULL },
    { "sync", "in_the_way_too", 4, setup_1, in_the_way_with_a_release, check_2, 1, "and a release", NULL },
    { "sync", "passed_on", 3, setup, passed_on, check_1, 3, "a release meets one who left the queue", NULL },
    { "sync", "two", 3, setup, two, check_2, 2, "one release for two", NULL },
    { "sync", "event", 2, setup, wait_and_free, nobody_runnable, -1, "an event is freed by who waited", NULL },
    { "sync", "event_told", 3, setup, set_and_told, nobody_runnable, 2, "a set and a cancel", NULL },
    { "sync", "event_twice", 2, setup, set_twice, nobody_runnable, -1, "set, cleared and set", NULL },
    { "sync", "lock_shared", 3, setup_lock_3, lock_shared, check_lock, 1, "a writer and two readers", NULL },
    { "sync", "lock_freed", 2, setup_lock_3, lock_freed, nobody_runnable, -1, "two writers, and it is gone", NULL },
    { "sync", "lock_told", 3, setup_read, lock_told, check_read, 2, "a writer that waits is told to leave", NULL },
    { "sync", "lock_passed_on", 3, setup_write, lock_passed_on, nobody_runnable, 3, "an unlock meets one who left", NULL },
    { "sync", "group", 3, setup_group, group_freed, nobody_runnable, 3, "two are done, and the group is gone", NULL },
    { "sync", "group_told", 3, setup_group, group_told, check_group, 2, "the end and a cancel", NULL },
    { "sync", "group_passed_on", 3, setup_group_1, group_passed_on, nobody_runnable, 2, "the end meets one who left",
            NULL },
    { "sync", "once", 2, setup_once, once_by_two, check_once, -1, "two come at the same time", NULL },
    { "sync", "once_failing", 2, setup_once, once_handed_over, check_once, -1, "a failure hands over", NULL },
    { "sync", "once_gone", 2, setup_once, once_gone, check_once, -1, "who finds it done is rid of it", NULL },
    { "sync", "promise", 2, setup, promise_freed, nobody_runnable, -1, "a promise is freed by who got it", NULL },
    { "sync", "item", 3, setup_slot, item, nobody_runnable, 3, "the protocol, and a cancel", NULL },
    { 0 },
};
