/* stress/deque.c - the run queue of one worker: each item leaves exactly once.
 *
 * One owner pushes and takes in bursts, --workers - 1 thieves steal; rounds with arrays of 2 to 8 slots, so that
 * growing and the fight for the last item happen all the time.
 *
 * Law       what was pushed was taken or stolen, once; the owner takes the newest first; each thief steals in
 *           the order of pushing; what the owner wrote for an item before its push is seen by who gets it. */
#include "sched/deque.h"
#include "support.h"

enum { ROUND = 20000, THIEVES_MOST = 1024 };

static struct {
    struct weft__deque deque;
    uint64_t payload[ROUND + 1]; /* plain: written before the push, read by whoever got the item */
    atomic_uchar left[ROUND + 1];
    atomic_int running; /* thieves that are in this round */
    atomic_int round;   /* odd: a round is on */
    atomic_bool stop;
} st;

static atomic_ulong pushed_all, taken_all, empty_all, stolen_all, missed_all;

static void got(uint64_t item, uint64_t round)
{
    CHECK(item >= 1 && item <= ROUND, "an item that never was: %llu", (unsigned long long)item);
    CHECK(st.payload[item] == chance_mix(item ^ round << 32), "item %llu came before what was written for it",
            (unsigned long long)item);
    CHECK(atomic_fetch_add(&st.left[item], 1) == 0, "item %llu left twice", (unsigned long long)item);
}

static void steal_some(struct chance *c, uint64_t round)
{
    uint64_t last = 0;
    unsigned long stolen = 0, missed = 0;
    while ((uint64_t)atomic_load(&st.round) == round) {
        uint64_t item = weft__deque_steal(&st.deque);
        if (item == 0) {
            missed++;
            if ((missed & 15) == 0)
                stutter(c);
            continue;
        }
        CHECK(item > last, "item %llu was stolen after %llu", (unsigned long long)item, (unsigned long long)last);
        last = item;
        got(item, round);
        stolen++;
        if ((stolen & 7) == 0)
            stutter(c);
    }
    atomic_fetch_add(&stolen_all, stolen);
    atomic_fetch_add(&missed_all, missed);
}

static void *thief(void *arg)
{
    struct chance c = chance_of(1, (uint64_t)(uintptr_t)arg);
    int seen = 0;
    while (!atomic_load(&st.stop)) {
        int round = atomic_load(&st.round);
        if (round == seen || (round & 1) == 0) {
            sched_yield();
            continue;
        }
        atomic_fetch_add(&st.running, 1);
        if (atomic_load(&st.round) == round) /* else the owner does not count with us */
            steal_some(&c, (uint64_t)round);
        seen = round;
        atomic_fetch_sub(&st.running, 1);
    }
    return NULL;
}

struct owner {
    struct chance c;
    uint64_t newest[ROUND + 1]; /* what the owner pushed and did not take; thieves empty it from below */
    int n;
    uint64_t pushed, taken, round;
};

static void push_some(struct owner *o, uint32_t n)
{
    for (; n > 0 && o->pushed < ROUND; n--) {
        uint64_t item = ++o->pushed;
        st.payload[item] = chance_mix(item ^ o->round << 32);
        CHECK(weft__deque_push(&st.deque, item), "no memory");
        o->newest[o->n++] = item;
    }
}

static void take_some(struct owner *o, uint32_t n)
{
    for (; n > 0; n--) {
        uint64_t item = weft__deque_take(&st.deque);
        if (item == 0) {
            o->n = 0; /* it is empty, as only the owner can know */
            atomic_fetch_add(&empty_all, 1);
            return;
        }
        CHECK(o->n > 0 && o->newest[o->n - 1] == item, "the owner took %llu, the newest is %llu",
                (unsigned long long)item, (unsigned long long)(o->n > 0 ? o->newest[o->n - 1] : 0));
        o->n--;
        o->taken++;
        got(item, o->round);
    }
}

static void one_round(struct owner *o)
{
    CHECK(weft__deque_init(&st.deque, 2u << chance_below(&o->c, 3)) == 0, "no memory");
    memset(st.left, 0, sizeof st.left);
    o->pushed = o->taken = 0;
    o->n = 0;
    o->round = (uint64_t)atomic_fetch_add(&st.round, 1) + 1;
    uint32_t burst = 1u << chance_below(&o->c, 8);
    while (o->pushed < ROUND) {
        push_some(o, chance_below(&o->c, burst) + 1);
        stutter(&o->c);
        take_some(o, chance_below(&o->c, burst + 1));
        if (chance_one_in(&o->c, 4)) /* push one, take one: the fight for the last */
            for (int i = 0; i < 50; i++) {
                push_some(o, 1);
                take_some(o, 1);
            }
        stress_moved();
    }
    take_some(o, UINT32_MAX);
    atomic_fetch_add(&st.round, 1);
    while (atomic_load(&st.running) > 0)
        sched_yield();
    for (uint64_t i = 1; i <= ROUND; i++)
        CHECK(atomic_load(&st.left[i]) == 1, "item %llu left %d times", (unsigned long long)i,
                atomic_load(&st.left[i]));
    weft__deque_fini(&st.deque);
    atomic_fetch_add(&pushed_all, o->pushed);
    atomic_fetch_add(&taken_all, o->taken);
}

static const struct stress_need needs[] = {
    { "pushed", &pushed_all, 0, 10000 },
    { "taken", &taken_all, 0, 1000 },
    { "found empty by the owner", &empty_all, 1, 0 },
    { "stolen", &stolen_all, 0, 25 }, /* if there is a thief */
};

int main(int argc, char **argv)
{
    static struct owner o;
    static pthread_t threads[THIEVES_MOST];
    stress_begin(argc, argv, "deque");
    int thieves = stress_workers - 1;
    o.c = chance_of(0, 0);
    for (int i = 0; i < thieves; i++)
        threads[i] = thread_start(thief, (void *)(uintptr_t)(i + 1));
    const int n = thieves > 0 ? COUNT(needs) : COUNT(needs) - 1;
    do {
        one_round(&o);
    } while (!stress_over_when(needs, n));
    atomic_store(&st.stop, true);
    for (int i = 0; i < thieves; i++)
        pthread_join(threads[i], NULL);
    CHECK(taken_all + stolen_all == pushed_all, "%lu taken, %lu stolen, %lu pushed", taken_all, stolen_all, pushed_all);
    stress_counts(needs, n);
    stress_count("found empty by thieves", missed_all, 0);
    return stress_end();
}
