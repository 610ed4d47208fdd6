/* stress/mix.c - everything at once: calls that block, yields, sleeps, joins, pipes, computing, cancels.
 *
 * Clients draw what to do next from all that weft has, each on things of its own, so that only the scheduler is
 * shared. Plain threads run mains of their own on the same runtime meanwhile.
 *
 * Law       each thing begun has happened exactly once when it is said to be over: as many as were counted before
 *           are counted after; results are what they must be; no wait ends early, or is refused without a cancel. */
#include "support.h"

enum { CLIENTS = SCALED(64, 12), MAINS = 3, COPIES = 48 };

static weft_runtime *rt;
static atomic_ulong n_steps, n_blocking, n_copies, n_left, n_dropped, n_sleeps, n_joins, n_echoes, n_cancelled, n_mains;

struct client {
    struct chance c;
    int pair[2];
};

/* ---- calls that block */

static int block(void *arg)
{
    uint64_t *word = arg;
    usleep((useconds_t)(*word % 300));
    *word += 1;
    return (int)(*word & 0xffff);
}

static void call_blocking(struct client *k)
{
    uint64_t word = chance_bits(&k->c) >> 1, had = word;
    int rc = weft_blocking(block, &word);
    CHECK(rc == (int)((had + 1) & 0xffff) && word == had + 1, "weft_blocking: %d", rc);
    atomic_fetch_add(&n_blocking, 1);
}

struct copied {
    uint64_t word;
    char fill[COPIES];
};

static int block_copied(void *arg)
{
    struct copied *p = arg;
    for (int i = 0; i < COPIES; i++)
        CHECK(p->fill[i] == (char)(p->word + (uint64_t)i), "a copy arrived broken");
    usleep((useconds_t)(p->word % 500));
    p->word ^= UINT64_MAX;
    return 1;
}

static void drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_dropped, 1);
}

static void call_copied(struct client *k)
{
    struct copied p = { .word = chance_bits(&k->c) };
    uint64_t had = p.word;
    weft_scope s;
    for (int i = 0; i < COPIES; i++)
        p.fill[i] = (char)(had + (uint64_t)i);
    bool hasty = chance_one_in(&k->c, 2);
    weft_scope_begin(&s, hasty ? chance_below(&k->c, 400000) : WEFT_NEVER);
    int called = weft_blocking_copy(block_copied, &p, sizeof p, drop);
    int rc = weft_scope_end(&s, called);
    CHECK(called == 1 || (called == -ECANCELED && hasty && rc == -ETIMEDOUT), "weft_blocking_copy: %d, %s", called,
            weft_strerror(rc));
    CHECK(p.word == (called == 1 ? ~had : had), "what was copied back");
    atomic_fetch_add(called == 1 ? &n_copies : &n_left, 1);
}

/* ---- tasks */

static int add_up(void *arg)
{
    uint64_t *word = arg;
    struct chance c = { *word };
    if (chance_one_in(&c, 3) && weft_yield() < 0)
        return -ECANCELED;
    if (chance_one_in(&c, 4) && weft_sleep(chance_below(&c, 100000)) < 0)
        return -ECANCELED;
    *word = chance_mix(*word);
    return 0;
}

static void fork_and_join(struct client *k)
{
    uint64_t words[12], had[12];
    weft_task t[12];
    weft_scope s;
    int n = 1 + (int)chance_below(&k->c, COUNT(words));
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++) {
        had[i] = words[i] = chance_bits(&k->c);
        t[i] = weft_spawn_with(&s, add_up, &words[i],
                &(weft_spawn_options){ .name = "adds up",
                    .pin = chance_one_in(&k->c, 4) ? 1 + (int)chance_below(&k->c, (uint32_t)stress_workers) : 0 });
    }
    for (int i = (int)chance_below(&k->c, (uint32_t)n + 1); i > 0; i--) {
        uint32_t which = chance_below(&k->c, (uint32_t)n);
        CHECK(weft_task_join(t[which]) == 0 && !weft_task_alive(t[which]), "a join");
        CHECK(words[which] != had[which], "a joined task has not run");
    }
    CHECK(weft_scope_end(&s, 0) == 0, "the tasks");
    for (int i = 0; i < n; i++)
        CHECK(words[i] == chance_mix(had[i]), "a task's result");
    atomic_fetch_add(&n_joins, (unsigned long)n);
}

struct endless {
    int fd; /* nothing comes there */
    uint32_t kind;
};

static int for_ever(void *arg)
{
    struct endless *e = arg;
    char byte;
    switch (e->kind) {
    case 0:
        return weft_sleep_until(WEFT_NEVER);
    case 1:
        return weft_read(e->fd, &byte, 1);
    default:
        for (;;)
            if (weft_yield() < 0)
                return -ECANCELED;
    }
}

static void cancel_one(struct client *k)
{
    weft_scope s;
    struct endless e = { k->pair[0], chance_below(&k->c, 3) };
    int result = 0;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn_with(&s, for_ever, &e, &(weft_spawn_options){ .result = &result });
    if (chance_one_in(&k->c, 2))
        CHECK(weft_yield() == 0, "yield");
    if (chance_one_in(&k->c, 2))
        weft_scope_cancel(&s, "enough");
    else
        CHECK(weft_task_cancel(t, "enough") == 0, "task_cancel");
    int rc = weft_scope_end(&s, 0);
    CHECK(rc == 0 && result == -ECANCELED, "the cancelled one returned %s, its scope %s", weft_strerror(result),
            weft_strerror(rc));
    atomic_fetch_add(&n_cancelled, 1);
}

/* ---- descriptors */

static int echo(void *arg)
{
    struct client *k = arg;
    uint64_t word;
    int rc = weft_read_all(k->pair[1], &word, sizeof word);
    CHECK(rc == sizeof word, "the echo's read: %s", weft_strerror(rc));
    word += 1;
    return weft_write_all(k->pair[1], &word, sizeof word);
}

static void call_echo(struct client *k)
{
    weft_scope s;
    uint64_t word = chance_bits(&k->c), had = word;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, echo, k);
    if (chance_one_in(&k->c, 2))
        CHECK(weft_yield() == 0, "yield");
    CHECK(weft_write_all(k->pair[0], &word, sizeof word) == 0, "write");
    CHECK(weft_read_all(k->pair[0], &word, sizeof word) == sizeof word && word == had + 1, "the echo");
    CHECK(weft_scope_end(&s, 0) == 0, "the echo's end");
    atomic_fetch_add(&n_echoes, 1);
}

static void sleep_some(struct client *k)
{
    int64_t at = weft_after(chance_below(&k->c, chance_one_in(&k->c, 8) ? 5000000 : 300000));
    CHECK(weft_sleep_until(at) == 0, "sleep");
    CHECK(weft_now() >= at, "a sleep ended %lld ns early", (long long)(at - weft_now()));
    atomic_fetch_add(&n_sleeps, 1);
}

static int client(void *arg)
{
    struct client k = { .c = chance_of(1, (uint64_t)(uintptr_t)arg) };
    CHECK(weft_pair(k.pair) == 0, "pair");
    while (!stress_over()) {
        static void (*const steps[])(struct client *) = { call_blocking, call_copied, fork_and_join, fork_and_join,
            cancel_one, call_echo, call_echo, sleep_some };
        uint32_t which = chance_below(&k.c, COUNT(steps) + 4);
        if (which < COUNT(steps))
            steps[which](&k);
        else if (which & 1)
            CHECK(weft_yield() == 0, "yield");
        else
            stutter(&k.c);
        atomic_fetch_add(&n_steps, 1);
        stress_moved();
    }
    CHECK(weft_close(k.pair[0]) == 0 && weft_close(k.pair[1]) == 0, "close");
    return 0;
}

static int clients(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uintptr_t i = 0; i < CLIENTS; i++)
        weft_spawn(&s, client, (void *)i);
    return weft_scope_end(&s, 0);
}

/* A main of a plain thread: a few steps. */
static int short_main(void *arg)
{
    struct client k = { .c = *(struct chance *)arg };
    CHECK(weft_pair(k.pair) == 0, "pair");
    fork_and_join(&k);
    call_echo(&k);
    cancel_one(&k);
    CHECK(weft_close(k.pair[0]) == 0 && weft_close(k.pair[1]) == 0, "close");
    return 7;
}

static void *mains(void *arg)
{
    struct chance c = chance_of(2, (uint64_t)(uintptr_t)arg);
    while (!stress_over()) {
        chance_bits(&c);
        CHECK(weft_runtime_run(rt, short_main, &c) == 7, "a main");
        atomic_fetch_add(&n_mains, 1);
        usleep(chance_below(&c, 2000));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[MAINS];
    stress_begin(argc, argv, "mix");
    rt = stress_runtime();
    for (uintptr_t i = 0; i < MAINS; i++)
        threads[i] = thread_start(mains, (void *)i);
    int rc = weft_runtime_run(rt, clients, NULL);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    for (int i = 0; i < MAINS; i++)
        pthread_join(threads[i], NULL);
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    CHECK(weft_task_list(NULL, 0) == 0, "%d tasks are left", weft_task_list(NULL, 0));
    /* One that was told to leave before it was queued has no copy. */
    CHECK(n_dropped <= n_left, "%lu calls were left, %lu copies dropped", n_left, n_dropped);
    stress_count("steps", n_steps, stress_least(2000));
    stress_count("blocking calls", n_blocking, stress_least(100));
    stress_count("copying calls", n_copies, stress_least(50));
    stress_count("copying calls left", n_left, stress_least(10));
    stress_count("copies dropped", n_dropped, stress_least(10));
    stress_count("tasks joined", n_joins, stress_least(1000));
    stress_count("tasks cancelled", n_cancelled, stress_least(100));
    stress_count("echoes", n_echoes, stress_least(200));
    stress_count("sleeps", n_sleeps, stress_least(100));
    stress_count("mains of plain threads", n_mains, stress_least(20));
    return stress_end();
}
