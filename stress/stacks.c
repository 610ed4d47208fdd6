/* stress/stacks.c - each task has all of the stack it was promised, wherever it runs.
 *
 * Tasks of every class go down to the end of their guarantee, wait there, and come back; chains of children that are
 * joined run on their joiner's stack, and go down as far; bursts and lulls move the stacks between the caches.
 *
 * Law       no overflow; what a frame wrote is there when it is returned to; a deep frame can call weft. */
#include "support.h"

enum {
    LANES = SCALED(12, 4),
    CHAIN_MOST = 6,
    SPARE = STRESS_TSAN || STRESS_ASAN ? 12288 : 6144, /* for the last frame, and what weft needs below it */
    DEEPEST = 1048576
};

static const size_t classes[] = { 16384, 32768, 65536, 131072, 262144, DEEPEST, 100000, 20000, 0 };

static atomic_ulong n_tasks, n_deep, n_bytes_k, n_chains, n_waits, n_bursts;
static atomic_llong deepest;

static size_t guarantee(size_t asked)
{
    return asked ? asked : 65536;
}

/* How far below `top` the caller's frame is. */
static NOINLINE size_t depth_below(uintptr_t top)
{
    return top - (uintptr_t)__builtin_frame_address(0);
}

static void at_the_bottom(struct chance *c)
{
    int rc = 0;
    switch (chance_below(c, 6)) {
    case 0:
        rc = weft_yield();
        break;
    case 1:
        rc = weft_sleep(chance_below(c, 100000));
        break;
    default:
        return;
    }
    CHECK(rc == 0, "nobody cancels here: %s", weft_strerror(rc));
    atomic_fetch_add(&n_waits, 1);
}

/* Frames of about 700 bytes, each filled with what it has to be found to be. Returns how many. */
static NOINLINE unsigned go_down(uintptr_t top, size_t limit, struct chance *c, uint64_t pattern)
{
    volatile uint64_t frame[64];
    unsigned below = 0;
    for (int i = 0; i < COUNT(frame); i++)
        frame[i] = pattern + (uint64_t)i;
    size_t depth = depth_below(top);
    if (depth + SPARE < limit) {
        below = go_down(top, limit, c, pattern * 3 + 1);
    } else {
        atomic_fetch_add(&n_bytes_k, depth / 1024);
        raise_to(&deepest, (long long)depth);
        at_the_bottom(c);
    }
    for (int i = 0; i < COUNT(frame); i++)
        CHECK(frame[i] == pattern + (uint64_t)i, "a frame was overwritten");
    return below + 1;
}

struct job {
    uint64_t chance;
    size_t bytes;
    int chain; /* how many more are to be joined below it */
    unsigned frames;
};

static size_t some_class(struct chance *c)
{
    return classes[chance_below(c, COUNT(classes))];
}

static int dive(void *arg);

/* A child that is joined at once, mostly from some way down. */
static NOINLINE void chain_on(struct job *j, struct chance *c)
{
    struct job child = { .chance = chance_bits(c), .bytes = some_class(c), .chain = j->chain - 1 };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn_with(&s, dive, &child, &(weft_spawn_options){ .stack_bytes = child.bytes });
    CHECK(t > 0, "a spawn failed: %s", weft_strerror((int)t));
    if (chance_one_in(c, 8))
        CHECK(weft_yield() == 0, "yield"); /* somebody else may start it */
    if (!chance_one_in(c, 4))
        CHECK(weft_task_join(t) == 0, "join");
    CHECK(weft_scope_end(&s, 0) == 0, "the chain");
    CHECK(child.frames > 0, "a child has not run");
    atomic_fetch_add(&n_chains, 1);
}

/* Goes down by about `bytes`, and chains on from there: the child's promise holds on top of that. */
static NOINLINE void chain_from(struct job *j, struct chance *c, uintptr_t top, size_t bytes)
{
    volatile char frame[512];
    memset((char *)(uintptr_t)frame, j->chain, sizeof frame);
    if (depth_below(top) < bytes)
        chain_from(j, c, top, bytes);
    else
        chain_on(j, c);
    for (int i = 0; i < COUNT(frame); i++)
        CHECK(frame[i] == (char)j->chain, "a frame was overwritten by a child");
}

static int dive(void *arg)
{
    struct job *j = arg;
    struct chance c = { j->chance };
    uintptr_t top = (uintptr_t)__builtin_frame_address(0);
    size_t limit = guarantee(j->bytes);
    unsigned frames = 0;
    stress_moved();
    atomic_fetch_add(&n_tasks, 1);
    if (chance_one_in(&c, 4))
        at_the_bottom(&c);
    if (j->chain > 0)
        chain_from(j, &c, top, limit > SPARE + 4096 ? chance_below(&c, (uint32_t)(limit - SPARE - 4096)) : 0);
    if (limit > SPARE)
        frames = go_down(top, limit, &c, chance_bits(&c));
    j->frames = frames;
    atomic_fetch_add(&n_deep, 1);
    return 0;
}

static void burst(struct chance *c)
{
    struct job jobs[SCALED(64, 16)];
    weft_scope s;
    int n = 1 + (int)chance_below(c, COUNT(jobs));
    bool same = chance_one_in(c, 2);
    size_t bytes = some_class(c);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++) {
        jobs[i] = (struct job){ .chance = chance_bits(c), .bytes = same ? bytes : some_class(c),
            .chain = chance_one_in(c, 4) ? 1 + (int)chance_below(c, CHAIN_MOST) : 0 };
        weft_task t = weft_spawn_with(&s, dive, &jobs[i], &(weft_spawn_options){ .stack_bytes = jobs[i].bytes });
        CHECK(t > 0, "a spawn failed: %s", weft_strerror((int)t));
        if (chance_one_in(c, 8))
            CHECK(weft_task_join(t) == 0, "join");
    }
    int rc = weft_scope_end(&s, 0);
    CHECK(rc == 0, "a burst ended with %s", weft_strerror(rc));
    for (int i = 0; i < n; i++)
        CHECK(jobs[i].frames > 0, "a task has not run");
    atomic_fetch_add(&n_bursts, 1);
}

/* Few bursts, as when others have the processor, may have had none of the largest class; it is drawn before long. */
static bool deep_enough(void)
{
    return atomic_load(&deepest) >= DEEPEST - 2 * SPARE || atomic_load(&n_bursts) > 1000;
}

static int lane(void *arg)
{
    struct chance c = chance_of(1, (uint64_t)(uintptr_t)arg);
    while (!stress_over() || !deep_enough()) {
        burst(&c);
        if (chance_one_in(&c, 16))
            CHECK(weft_sleep(chance_below(&c, 2000000)) == 0, "sleep");
    }
    return 0;
}

static int main_task(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uintptr_t i = 0; i < LANES; i++)
        weft_spawn(&s, lane, (void *)i);
    return weft_scope_end(&s, 0);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "stacks");
    weft_runtime *rt = stress_runtime();
    int rc = weft_runtime_run(rt, main_task, NULL);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    stress_count("bursts", n_bursts, stress_least(20));
    stress_count("tasks", n_tasks, stress_least(500));
    stress_count("went down and came back", n_deep, stress_least(500));
    stress_count("KiB of stack used", n_bytes_k, stress_least(10000));
    stress_count("deepest, bytes", (uint64_t)atomic_load(&deepest), DEEPEST - 2 * SPARE);
    stress_count("children joined deep down", n_chains, stress_least(100));
    stress_count("waits at the bottom", n_waits, stress_least(50));
    return stress_end();
}
