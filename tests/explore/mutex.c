/* mutex.c - sync/mutex: one at a time, each has what the one before it did, and whoever is told to leave, at whatever moment,
 * keeps no other waiting. The explorer reports who waits for ever. */
#include "scenarios.h"

#include <errno.h>

#include <weft/sync.h>

#include "sync/mutex.h"

enum { FIRST = 0, HOLDER = 1, SECOND = 2, CANCELLER = 3, OWNER = 4 };
enum { FAIR_WORD = 3 }; /* of opaque[], as uint32_t: how many unlocks hand over */

static weft_scope outer;
static weft_mutex mutex;
static int data; /* what it guards */
static at_word mail;

/* FIRST is under a scope that may be cancelled. */
static void setup(void)
{
    people_reset();
    memset(&outer, 0, sizeof outer);
    memset(&mutex, 0, sizeof mutex);
    mail = 0;
    person(OWNER, NULL);
    weft_scope_begin(&outer, WEFT_NEVER);
    weft__scope_of(&outer)->spawned = 1;
    person(FIRST, &outer);
    person(HOLDER, NULL);
    person(SECOND, NULL);
}

static void runs(void)
{
    ex_write(&weft__current()->group, "the frame");
}

static void use_and_unlock(void)
{
    ex_write(&data, "what the mutex guards");
    weft_mutex_unlock(&mutex);
}

/* False: it was told to leave. */
static bool use(void)
{
    int rc = weft_mutex_lock(&mutex);
    ex_expect(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        use_and_unlock();
    return rc == 0;
}

static void cancel(void)
{
    ex_expect(weft__cancel_scope(weft__scope_of(&outer), WEFT__MARK_CANCEL));
}

static void all_is_as_before(void)
{
    for (int i = 0; i < PEOPLE; i++)
        if (runnable[i])
            ex_fail("it was made runnable, and nobody runs it");
    ex_expect(mutex.opaque[0] == 0); /* no holder, and no mark */
}

/* All come at the same time. */
static void together(int me)
{
    (void)me;
    runs();
    ex_expect(use());
}

/* The same, and again: who was woken finds it taken. */
static void again(int me)
{
    runs();
    ex_expect(use());
    if (me == HOLDER)
        ex_expect(use());
}

static void setup_handing(void)
{
    setup();
    ((uint32_t *)(void *)&mutex)[FAIR_WORD] = 8;
}

/* One is told to leave. Whoever it is, the others have it. */
static void told(int me)
{
    if (me == CANCELLER) {
        cancel();
        return;
    }
    runs();
    ex_expect(use() || me == FIRST);
}

/* Who comes last, when both others have left, frees it; the unlock before may still be at work. */
static void freed(int me)
{
    runs();
    ex_expect(use() || me == FIRST);
    if (me == FIRST) {
        ex_send(&mail);
    } else {
        cancel();
        ex_receive(&mail, false);
        ex_expect(weft_mutex_lock(&mutex) == 0);
        ex_write(&data, "what the mutex guards");
        weft_mutex_unlock(&mutex);
        ex_gone(&mutex, sizeof mutex, "a mutex");
    }
}

/* It is held when all begin. */
static void setup_held(void)
{
    setup();
    person(CANCELLER, NULL);
    ex_be(HOLDER);
    ex_expect(weft_mutex_lock(&mutex) == 0);
}

/* The first, which the unlock wakes, finds it taken, and is told to leave. What it stands for goes to the next, if there is
 * one. */
static void gives_way(int me)
{
    runs();
    if (me == HOLDER) {
        use_and_unlock();
    } else if (me == SECOND) {
        ex_expect(weft_mutex_lock(&mutex) == 0);
        cancel();
        use_and_unlock();
    } else {
        ex_expect(use() || me == FIRST);
    }
}

static void tries(int me)
{
    runs();
    if (me == SECOND || weft_mutex_try_lock(&mutex) < 0)
        ex_expect(use());
    else
        use_and_unlock();
}

const struct ex_scenario mutex_scenarios[] = {
    { "mutex", "two", 2, setup, together, all_is_as_before, -1, "two come at the same time", NULL },
    { "mutex", "three", 3, setup, together, all_is_as_before, 2, "three come at the same time", NULL },
    { "mutex", "again", 2, setup, again, all_is_as_before, 3, "who was woken finds it taken", NULL },
    { "mutex", "handed", 3, setup_handing, together, all_is_as_before, 2, "it is handed over", NULL },
    { "mutex", "told", 4, setup, told, all_is_as_before, 1, "one of three is told to leave", NULL },
    { "mutex", "told_handed", 4, setup_handing, told, all_is_as_before, 1, "the same, where it is handed over", NULL },
    { "mutex", "gives_way", 3, setup_held, gives_way, all_is_as_before, 2, "who was woken is told to leave", NULL },
    { "mutex", "gives_way_to", 4, setup_held, gives_way, all_is_as_before, 1, "and another waits", NULL },
    { "mutex", "freed", 2, setup, freed, NULL, 3, "a mutex is freed by its last holder", NULL },
    { "mutex", "tries", 3, setup, tries, all_is_as_before, 2, "two try first", NULL },
    { 0 },
};
