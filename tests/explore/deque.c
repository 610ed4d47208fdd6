/* deque.c - sched/deque: each item leaves exactly once, and who gets it sees what was written before the push. */
#include "scenarios.h"

#include "sched/deque.h"

enum { ITEMS = 6 };

static struct weft__deque d;
static unsigned char out[ITEMS + 1];
static int payload[ITEMS + 1];
static at_word done;

static void setup(unsigned capacity)
{
    memset(&d, 0, sizeof d);
    memset(out, 0, sizeof out);
    done = 0;
    arena_reset();
    if (weft__deque_init(&d, capacity) < 0)
        abort();
    ex_ghost(out, sizeof out);
}
static void of_1(void)
{
    setup(1);
}
static void of_2(void)
{
    setup(2);
}
static void of_4(void)
{
    setup(4);
}

static void push(int item)
{
    ex_write(&payload[item], "a task");
    ex_expect(weft__deque_push(&d, (uint64_t)item));
}

static bool got(uint64_t item)
{
    if (item == 0)
        return false;
    if (ex_self() != 0)
        ex_relied(1); /* D4: its slot */
    ex_expect(item <= ITEMS);
    if (out[item]++)
        ex_fail("item %d leaves twice", (int)item);
    ex_write(&payload[item], "a task");
    return true;
}

static void all_left(int n)
{
    uint64_t item;
    while ((item = weft__deque_take(&d)) != 0)
        if (out[item]++)
            ex_fail("item %d leaves twice", (int)item);
    for (int i = 1; i <= n; i++)
        if (out[i] != 1)
            ex_fail("item %d is lost", i);
}
static void check_1(void)
{
    all_left(1);
}
static void check_2(void)
{
    all_left(2);
}
static void check_3(void)
{
    all_left(3);
}

/* One item, everybody wants it. */
static void last(int me)
{
    if (me == 0) {
        push(1);
        got(weft__deque_take(&d));
        return;
    }
    got(weft__deque_steal(&d));
}

/* Two items; the owner takes both, thieves take one each. */
static void two(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        got(weft__deque_take(&d));
        got(weft__deque_take(&d));
        return;
    }
    got(weft__deque_steal(&d));
}

/* One thief comes twice. */
static void twice(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        got(weft__deque_take(&d));
        push(3);
        got(weft__deque_take(&d));
        return;
    }
    got(weft__deque_steal(&d));
    got(weft__deque_steal(&d));
}

/* A full array goes round: a slot is overwritten when its item was stolen, not before. */
static void round_again(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        push(3);
        got(weft__deque_take(&d));
        return;
    }
    got(weft__deque_steal(&d));
}

/* It grows while thieves look at the old array. */
static void grow(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        push(3);
        got(weft__deque_take(&d));
        return;
    }
    got(weft__deque_steal(&d));
    if (me == 1)
        got(weft__deque_steal(&d));
}

/* What a joiner does that finds another's task at the end: it puts it back. */
static void put_back(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        for (int i = 0; i < 2; i++) {
            uint64_t item = weft__deque_take(&d);
            if (item)
                ex_expect(weft__deque_push(&d, item));
        }
        got(weft__deque_take(&d));
        return;
    }
    got(weft__deque_steal(&d));
}

const struct ex_scenario deque_scenarios[] = {
    { "deque", "last", 3, of_2, last, check_1, -1, "one item, owner and two thieves", NULL },
    { "deque", "two", 3, of_2, two, check_2, -1, "two items, owner and two thieves", NULL },
    { "deque", "twice", 2, of_4, twice, check_3, -1, "push after take, one thief twice", NULL },
    { "deque", "round", 3, of_2, round_again, check_3, -1, "the array goes round, or grows", NULL },
    { "deque", "grow", 3, of_1, grow, check_3, 3, "grows from one slot to four", NULL },
    { "deque", "put_back", 3, of_2, put_back, check_2, -1, "an item is put back", NULL },
    { 0 },
};
