/* biased.c - base/biased: two never have it, some one of all who try has it, and each sees what the last one did. */
#include "scenarios.h"

#include "base/biased.h"

enum { FIRST_PARTY = WEFT__BIASED_PARTIES, TRIES = 2 };

static struct weft__biased claim;
static int payload;
static unsigned char having, had[3]; /* how many have it just now; how often each has had it */

static void setup(void)
{
    memset(&claim, 0, sizeof claim);
    memset(had, 0, sizeof had);
    having = 0;
    fence_refused = false;
    ex_ghost(had, sizeof had);
    ex_ghost(&having, sizeof having);
}

/* Thread 0 has the right to it already. */
static void setup_right(void)
{
    setup();
    at_store(&claim.whose, FIRST_PARTY);
}

static void setup_refused(void)
{
    setup_right();
    fence_refused = true;
}

/* Nobody has the right any more. */
static void setup_all(void)
{
    setup();
    at_store(&claim.whose, WEFT__BIASED_ALL);
}

static at_int *take(int me)
{
    at_int *word = weft__biased_try(&claim, FIRST_PARTY + (uint64_t)me);
    if (!word)
        return NULL;
    if (having++)
        ex_fail("two have it");
    had[me]++;
    ex_write(&payload, "what it guards");
    return word;
}

static void give_back(at_int *word)
{
    having--;
    ati_store_release(word, 0);
}

static bool turn(int me)
{
    at_int *word = take(me);
    if (!word)
        return false;
    give_back(word);
    return true;
}

/* Who has the right comes twice, so that its way of giving back is met, too. */
static void turns(int me)
{
    for (int i = 0; i < (me == 0 ? TRIES : 1); i++)
        turn(me);
}

static void twice_each(int me)
{
    for (int i = 0; i < TRIES; i++)
        turn(me);
}

static void keep(int me)
{
    take(me);
}

/* It is given back: anybody can have it. */
static void free_again(void)
{
    ex_expect(having == 0);
    if (!turn(1) || !turn(0))
        ex_fail("it was given back, and nobody can have it");
}

static void one_has_it(void)
{
    if (having != 1)
        ex_fail("%d of all who tried have it", having);
}

/* A party that has it does not get it once more. */
static void recursive(int me)
{
    at_int *word = take(me);
    if (!word)
        return;
    if (weft__biased_try(&claim, FIRST_PARTY + (uint64_t)me))
        ex_fail("had twice by one party");
    give_back(word);
}

/* Who has the right is not disturbed by those who cannot take it away. */
static void refused(int me)
{
    for (int i = 0; i < TRIES; i++)
        ex_expect(turn(me) == (me == 0));
}

static void none_but_the_first(void)
{
    ex_expect(had[0] == TRIES && had[1] == 0);
}

const struct ex_scenario biased_scenarios[] = {
    { "biased", "right", 2, setup_right, turns, free_again, -1, "who has the right beside another", NULL },
    { "biased", "two", 3, setup_right, turns, free_again, -1, "the same beside two", NULL },
    { "biased", "twice", 2, setup_right, twice_each, free_again, -1, "another that comes twice", NULL },
    { "biased", "first", 2, setup, twice_each, free_again, -1, "nobody has the right yet", NULL },
    { "biased", "all", 2, setup_all, twice_each, free_again, -1, "nobody has the right any more", NULL },
    { "biased", "some_one", 2, setup_right, keep, one_has_it, -1, "two try at once, and one has it", NULL },
    { "biased", "some_one_of_three", 3, setup_right, keep, one_has_it, -1, "three try at once, and one has it", NULL },
    { "biased", "recursive", 2, setup_right, recursive, free_again, -1, "tried by who has it", NULL },
    { "biased", "refused", 2, setup_refused, refused, none_but_the_first, -1, "the kernel refuses the heavy fence", NULL },
    { 0 },
};
