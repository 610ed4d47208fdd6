/* stress/biased.c - a lock that one thread takes for free until another comes: two never have it.
 *
 * In each round it is new. One thread has it first, and takes it again and again; the others come at some time of their
 * own, and the first of them takes the right away. From then on all are equal. Every fourth round the fences are full
 * ones, as where the kernel does not offer the other kind, and every eighth nobody ever gets the right.
 *
 * Law       two never have it; what one wrote the next one sees; one who tries alone has it. */
#include "base/biased.h"
#include "support.h"

enum { TURNS = 400, THREADS_MOST = 1024 };

static struct {
    struct weft__biased claim;
    unsigned long count; /* by who has it */
    atomic_int inside; /* threads that take part in the round */
    atomic_int round;
    atomic_bool stop;
    atomic_ulong n_free, n_taken, n_refused, n_rounds;
} st;

/* Until it has had it so many times. */
static unsigned long take_turns(uint64_t party, int turns, struct chance *c)
{
    unsigned long refused = 0, free = 0;
    for (int had = 0; had < turns;) {
        at_int *word = weft__biased_try(&st.claim, party);
        if (!word) {
            refused++;
            stutter(c);
            continue;
        }
        unsigned long count = st.count;
        if (chance_one_in(c, 16))
            stutter(c);
        CHECK(st.count == count, "two have it");
        st.count = count + 1;
        free += word == &st.claim.held;
        ati_store_release(word, 0);
        had++;
        if (chance_one_in(c, 8))
            stutter(c);
    }
    atomic_fetch_add(&st.n_free, free);
    atomic_fetch_add(&st.n_taken, (unsigned long)turns - free);
    atomic_fetch_add(&st.n_refused, refused);
    stress_moved();
    return refused;
}

static void *thread(void *arg)
{
    int number = (int)(intptr_t)arg, seen = 0;
    uint64_t party = WEFT__BIASED_PARTIES + (uint64_t)number;
    struct chance c = chance_of(2, (uint64_t)number);
    while (!atomic_load(&st.stop)) {
        if (atomic_load(&st.round) == seen) {
            sched_yield();
            continue;
        }
        seen = atomic_load(&st.round);
        if (number > 1)
            for (uint64_t n = chance_below(&c, TURNS / 8); n > 0; n--)
                stutter(&c);
        take_turns(party, TURNS, &c);
        atomic_fetch_sub(&st.inside, 1);
    }
    return NULL;
}

static const struct stress_need needs[] = {
    { "taken for free", &st.n_free, 500, 1000 },
    { "taken as by all", &st.n_taken, 1000, 5000 },
    { "refused", &st.n_refused, 10, 100 },
    { "rounds", &st.n_rounds, 8, 0 },
};

int main(int argc, char **argv)
{
    static pthread_t threads[THREADS_MOST];
    stress_begin(argc, argv, "biased");
    weft__fences_init();
    bool offered = weft__fence_is_free;
    struct chance c = chance_of(1, 0);
    for (int i = 0; i < stress_workers; i++)
        threads[i] = thread_start(thread, (void *)(intptr_t)(i + 1));
    do {
        unsigned long n = atomic_load(&st.n_rounds);
        weft__fence_is_free = n % 8 != 7;
        weft__biased_init(&st.claim);
        weft__fence_is_free = offered && n % 4 != 3;
        st.count = 0;
        CHECK(n % 8 == 7 || take_turns(WEFT__BIASED_PARTIES + 1, 1, &c) == 0, "refused to the first");
        atomic_store(&st.inside, stress_workers);
        atomic_fetch_add(&st.round, 1);
        while (atomic_load(&st.inside) > 0)
            sched_yield();
        CHECK(st.count == (unsigned long)stress_workers * TURNS + (n % 8 != 7), "a turn was lost: %lu", st.count);
        CHECK(take_turns(WEFT__BIASED_PARTIES, 1, &c) == 0, "refused to one who tried alone");
        atomic_fetch_add(&st.n_rounds, 1);
    } while (!stress_over_when(needs, COUNT(needs)));
    atomic_store(&st.stop, true);
    for (int i = 0; i < stress_workers; i++)
        pthread_join(threads[i], NULL);
    printf("fences of two kinds: %s\n", offered ? "yes" : "not offered by the kernel");
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
