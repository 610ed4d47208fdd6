/* stress/ready.c - the ring of woken tasks: each item leaves exactly once, in order.
 *
 * A ring of 8. One thread at a time owns it: it pushes and pops, and now and then hands the ring on to another,
 * as a worker that parks hands it to its waker. All the others grab.
 *
 * Law       what was pushed was popped or grabbed, once; each grab is an unbroken run of the sequence; everybody
 *           gets items in the order of pushing; what was written before the push is seen by who gets it; a full
 *           ring refuses and takes nothing. */
#define WEFT__RING 8u
#include "sched/ready.h"
#include "support.h"

enum { ROUND = 40000, THREADS_MOST = 1024, GRAB_MOST = 6 };

static struct {
    struct weft__ready_ring ring;
    uint32_t payload[ROUND + 1];
    atomic_uchar left[ROUND + 1];
    uint32_t pushed;   /* by the owner */
    atomic_int owner;  /* thread + 1; 0: the round is over */
    atomic_int inside; /* threads that look at the ring */
    atomic_int round;
    atomic_bool stop;
    atomic_ulong n_pushed, n_popped, n_grabbed, n_refused, n_handed;
} st;

static void got(uint32_t item, uint32_t round)
{
    CHECK(item >= 1 && item <= ROUND, "an item that never was: %u", item);
    CHECK(st.payload[item] == (uint32_t)chance_mix(item ^ (uint64_t)round << 32),
            "item %u came before what was written for it", item);
    CHECK(atomic_fetch_add(&st.left[item], 1) == 0, "item %u left twice", item);
}

struct side {
    int number;
    struct chance c;
    uint32_t last;
    unsigned long pushed, popped, grabbed, refused, handed;
};

static bool pop_one(struct side *s, uint32_t round)
{
    uint32_t item;
    if (!weft__ready_pop(&st.ring, &item))
        return false;
    CHECK(item > s->last, "item %u was popped after %u", item, s->last);
    s->last = item;
    got(item, round);
    s->popped++;
    return true;
}

static void own_a_while(struct side *s, uint32_t round)
{
    for (uint32_t turns = chance_below(&s->c, 200) + 1; turns > 0; turns--) {
        for (uint32_t n = chance_below(&s->c, 12); n > 0 && st.pushed < ROUND; n--) {
            uint32_t item = st.pushed + 1;
            st.payload[item] = (uint32_t)chance_mix(item ^ (uint64_t)round << 32);
            if (!weft__ready_push(&st.ring, item)) {
                s->refused++;
                break;
            }
            st.pushed = item;
            s->pushed++;
        }
        for (uint32_t n = chance_below(&s->c, 10); n > 0 && pop_one(s, round); n--)
            continue;
        stutter(&s->c);
        stress_moved();
    }
    if (st.pushed == ROUND) {
        while (pop_one(s, round))
            continue;
        atomic_store(&st.owner, 0);
        return;
    }
    s->handed++;
    atomic_store_explicit(&st.owner, (int)chance_below(&s->c, (uint32_t)stress_workers) + 1, memory_order_release);
}

static void grab_some(struct side *s, uint32_t round)
{
    uint32_t out[GRAB_MOST];
    uint32_t n = weft__ready_grab(&st.ring, out, chance_below(&s->c, GRAB_MOST) + 1);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(i == 0 || out[i] == out[i - 1] + 1, "%u was grabbed behind %u", out[i], out[i > 0 ? i - 1 : 0]);
        CHECK(out[i] > s->last, "item %u was grabbed after %u", out[i], s->last);
        s->last = out[i];
        got(out[i], round);
    }
    s->grabbed += n;
    if (n == 0)
        stutter(&s->c);
}

static void take_part(struct side *s, int round)
{
    s->last = 0;
    for (int owner; (owner = atomic_load_explicit(&st.owner, memory_order_acquire)) != 0;) {
        if (owner == s->number)
            own_a_while(s, (uint32_t)round);
        else
            grab_some(s, (uint32_t)round);
    }
}

static void *thread(void *arg)
{
    struct side s = { .number = (int)(intptr_t)arg, .c = chance_of(2, (uint64_t)(uintptr_t)arg) };
    int seen = 0;
    while (!atomic_load(&st.stop)) {
        int round = atomic_load(&st.round);
        if (round == seen) {
            sched_yield();
            continue;
        }
        take_part(&s, round);
        seen = round;
        atomic_fetch_sub(&st.inside, 1);
    }
    atomic_fetch_add(&st.n_pushed, s.pushed);
    atomic_fetch_add(&st.n_popped, s.popped);
    atomic_fetch_add(&st.n_grabbed, s.grabbed);
    atomic_fetch_add(&st.n_refused, s.refused);
    atomic_fetch_add(&st.n_handed, s.handed);
    return NULL;
}

int main(int argc, char **argv)
{
    static pthread_t threads[THREADS_MOST];
    unsigned long all = 0;
    stress_begin(argc, argv, "ready");
    for (int i = 0; i < stress_workers; i++)
        threads[i] = thread_start(thread, (void *)(intptr_t)(i + 1));
    do {
        memset(st.left, 0, sizeof st.left);
        st.pushed = 0;
        atomic_store(&st.inside, stress_workers);
        atomic_store(&st.owner, 1);
        atomic_fetch_add(&st.round, 1);
        while (atomic_load(&st.inside) > 0)
            sched_yield();
        all += ROUND;
        for (uint32_t i = 1; i <= ROUND; i++)
            CHECK(atomic_load(&st.left[i]) == 1, "item %u left %d times", i, atomic_load(&st.left[i]));
        CHECK(weft__ready_len(&st.ring) == 0, "the ring is not empty");
    } while (!stress_over());
    atomic_store(&st.stop, true);
    for (int i = 0; i < stress_workers; i++)
        pthread_join(threads[i], NULL);
    CHECK(st.n_pushed == all && st.n_popped + st.n_grabbed == all, "%lu pushed, %lu popped, %lu grabbed of %lu",
            st.n_pushed, st.n_popped, st.n_grabbed, all);
    uint64_t least = stress_least(20000);
    stress_count("pushed", st.n_pushed, least);
    stress_count("popped", st.n_popped, least / 10);
    stress_count("grabbed", st.n_grabbed, stress_workers > 1 ? least / 1000 : 0);
    stress_count("refused by a full ring", st.n_refused, 1);
    stress_count("handed on", st.n_handed, 1);
    return stress_end();
}
