/* stress/private.c - what a worker keeps to itself: each item leaves exactly once, with its owner or with a thief.
 *
 * One thread owns the place: it puts and takes, now and then pausing as a worker does that computes. All the others steal. Every
 * other round both fences are full ones, as where the kernel does not offer the other kind.
 *
 * Law       what was put was displaced, taken or stolen, once; what was written before the put is seen by who gets it. */
#include "sched/private.h"
#include "support.h"

enum { ROUND = 20000, THREADS_MOST = 1024 };

static struct {
    struct weft__private place;
    uint32_t payload[ROUND + 1];
    atomic_uchar left[ROUND + 1];
    atomic_bool going;
    atomic_int inside; /* threads that take part in the round */
    atomic_int round;
    atomic_bool stop;
    atomic_ulong n_kept, n_stolen, n_rounds;
} st;

static uint32_t written_for(uint64_t item)
{
    return (uint32_t)chance_mix(item ^ (uint64_t)atomic_load_explicit(&st.round, memory_order_relaxed) << 32);
}

static unsigned long got(uint64_t item)
{
    if (item == 0)
        return 0;
    CHECK(item <= ROUND, "an item that never was: %lu", (unsigned long)item);
    CHECK(st.payload[item] == written_for(item), "item %lu came before what was written for it", (unsigned long)item);
    CHECK(atomic_fetch_add(&st.left[item], 1) == 0, "item %lu left twice", (unsigned long)item);
    return 1;
}

static void own_it(struct chance *c)
{
    unsigned long kept = 0;
    for (uint64_t item = 1; item <= ROUND; item++) {
        st.payload[item] = written_for(item);
        kept += got(weft__private_put(&st.place, item));
        if (chance_below(c, 3) == 0)
            stutter(c);
        if (chance_below(c, 2) == 0)
            kept += got(weft__private_take(&st.place));
        stress_moved();
    }
    kept += got(weft__private_take(&st.place));
    atomic_fetch_add(&st.n_kept, kept);
    atomic_store(&st.going, false);
}

static void rob(struct chance *c)
{
    unsigned long stolen = 0;
    while (atomic_load(&st.going)) {
        stolen += got(weft__private_steal(&st.place));
        stutter(c);
    }
    atomic_fetch_add(&st.n_stolen, stolen);
}

static void *thread(void *arg)
{
    int number = (int)(intptr_t)arg, seen = 0;
    struct chance c = chance_of(2, (uint64_t)number);
    while (!atomic_load(&st.stop)) {
        if (atomic_load(&st.round) == seen) {
            sched_yield();
            continue;
        }
        seen = atomic_load(&st.round);
        if (number == 1)
            own_it(&c);
        else
            rob(&c);
        atomic_fetch_sub(&st.inside, 1);
    }
    return NULL;
}

static const struct stress_need needs[] = {
    { "kept by the owner", &st.n_kept, 1000, 20000 },
    { "stolen", &st.n_stolen, 10, 100 },
    { "rounds", &st.n_rounds, 2, 0 },
};

int main(int argc, char **argv)
{
    static pthread_t threads[THREADS_MOST];
    stress_begin(argc, argv, "private");
    weft__fences_init();
    bool offered = weft__fence_is_free;
    for (int i = 0; i < stress_workers; i++)
        threads[i] = thread_start(thread, (void *)(intptr_t)(i + 1));
    do {
        memset(st.left, 0, sizeof st.left);
        weft__fence_is_free = offered && atomic_load(&st.n_rounds) % 2 == 0;
        atomic_store(&st.inside, stress_workers);
        atomic_store(&st.going, true);
        atomic_fetch_add(&st.round, 1);
        while (atomic_load(&st.inside) > 0)
            sched_yield();
        atomic_fetch_add(&st.n_rounds, 1);
        for (uint32_t i = 1; i <= ROUND; i++)
            CHECK(atomic_load(&st.left[i]) == 1, "item %u left %d times", i, atomic_load(&st.left[i]));
    } while (!stress_over_when(needs, COUNT(needs)));
    atomic_store(&st.stop, true);
    for (int i = 0; i < stress_workers; i++)
        pthread_join(threads[i], NULL);
    printf("fences of two kinds: %s\n", offered ? "yes" : "not offered by the kernel");
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
