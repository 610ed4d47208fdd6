/* private.c - sched/private: each item leaves exactly once, though its owner takes it without an atomic operation. */
#include "scenarios.h"

#include "sched/private.h"

enum { ITEMS = 3 };

static struct weft__private place;
static unsigned char out[ITEMS + 1];
static int payload[ITEMS + 1];
static bool was_put[ITEMS + 1];

static void setup(void)
{
    memset(&place, 0, sizeof place);
    memset(out, 0, sizeof out);
    memset(was_put, 0, sizeof was_put);
    ex_ghost(out, sizeof out);
    ex_ghost(was_put, sizeof was_put);
}

static void got(uint64_t item)
{
    if (item == 0)
        return;
    ex_expect(item <= ITEMS);
    if (out[item]++)
        ex_fail("item %d leaves twice", (int)item);
    ex_write(&payload[item], "an item");
}

static void put(uint64_t item)
{
    ex_write(&payload[item], "an item");
    was_put[item] = true;
    got(weft__private_put(&place, item));
}

static void all_left(void)
{
    uint64_t item = weft__private_take(&place);
    if (item != 0 && out[item]++)
        ex_fail("item %d leaves twice", (int)item);
    for (int i = 1; i <= ITEMS; i++)
        if (out[i] != was_put[i])
            ex_fail("item %d is lost", i);
}

static void steal(void)
{
    got(weft__private_steal(&place));
}

static void take(int me)
{
    if (me == 0) {
        put(1);
        got(weft__private_take(&place));
        put(2);
        return;
    }
    steal();
}

/* What is displaced is the owner's, or a thief's. */
static void displace(int me)
{
    if (me == 0) {
        put(1);
        put(2);
        got(weft__private_take(&place));
        put(3);
        return;
    }
    steal();
}

/* A thief comes twice: what it has seen of the first time is over. */
static void again(int me)
{
    if (me == 0) {
        put(1);
        got(weft__private_take(&place));
        put(2);
        got(weft__private_take(&place));
        return;
    }
    steal();
    steal();
}

/* A thief comes twice in one put: the owner has not heard of the first time yet. */
static void twice(int me)
{
    if (me == 0) {
        put(1);
        put(2);
        put(3);
        return;
    }
    steal();
    steal();
}

const struct ex_scenario private_scenarios[] = {
    { "private", "take", 2, setup, take, all_left, -1, "a take beside a thief", NULL },
    { "private", "two", 3, setup, take, all_left, -1, "the same beside two", NULL },
    { "private", "displace", 2, setup, displace, all_left, -1, "a put over an item, beside a thief", NULL },
    { "private", "again", 2, setup, again, all_left, -1, "a thief that comes twice", NULL },
    { "private", "twice", 2, setup, twice, all_left, -1, "the same in one put", NULL },
    { "private", "twice_two", 3, setup, displace, all_left, -1, "two thieves in one put", NULL },
    { 0 },
};
