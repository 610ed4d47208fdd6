/* pool.c - event/offload: each job is run once, or withdrawn, and the pool ends when its threads have. P1, P2, P3, P5. */
#include "steps.h"

#include <pthread.h>

#include "base/futex.h"
#define pthread_setname_np(thread, name) ((void)(name))
#define pthread_join(thread, result) ((void)(thread))
#define weft__futex_wake(word, n) EX_DO("weft__futex_wake", weft__futex_wake(word, n), (void)0)
#include "event/offload.c"
#undef weft__futex_wake
#undef pthread_setname_np
#undef pthread_join

#include "scenarios.h"

static struct weft__pool pool;
static struct weft__job first, second;
static at_word started;
static unsigned char ran[2], told[2];
static int result[2];

/* The one thread that it may have is the explorer's number 1. */
int weft__thread_start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
    (void)thread, (void)fn, (void)arg;
    ex_send(&started);
    return 0;
}

void weft__fork_mask_use(const sigset_t *mask)
{
    (void)mask;
}

static uint64_t run_first(struct weft__job *job)
{
    ex_expect(job == &first && told[0] == 0);
    ex_write(&result[0], "what a job wrote");
    return ++ran[0];
}

static uint64_t run_second(struct weft__job *job)
{
    ex_expect(job == &second && told[1] == 0);
    ex_write(&result[1], "what a job wrote");
    return ++ran[1];
}

/* Until then its call is one that the runtime has to wait for. */
static void tell(void *whom, uint64_t ran_before)
{
    ex_expect(ran_before == 1 && ati_load(&pool.open) > 0);
    told[whom == &second]++;
}

static void setup(void)
{
    people_reset();
    memset(&pool, 0, sizeof pool);
    weft__pool_init(&pool, NULL, &(struct weft__pool_usual){ "pool", 1, WEFT_NEVER }, NULL);
    first = (struct weft__job){ .run = run_first, .tell = tell, .whom = &first };
    second = (struct weft__job){ .run = run_second, .tell = tell, .whom = &second };
    started = 0;
    memset(ran, 0, sizeof ran);
    memset(told, 0, sizeof told);
    weft__pool_threads = 0;
    ex_ghost(ran, sizeof ran);
    ex_ghost(told, sizeof told);
}

static void serve(void)
{
    ex_receive(&started, true);
    (void)pool_thread(&pool);
}

static void over(void)
{
    weft__pool_fini(&pool);
    ex_gone(&pool, sizeof pool, "a pool");
}

/* What is withdrawn is not run, and what is not, is. */
static void withdrawn(int me)
{
    if (me == 1) {
        serve();
        return;
    }
    ex_expect(weft__pool_submit(&pool, &first) == 0);
    bool mine = weft__pool_withdraw(&pool, &first);
    over();
    ex_expect(ran[0] == (mine ? 0 : 1) && told[0] == ran[0]);
    if (!mine)
        ex_read(&result[0], "what a job wrote");
}

/* The second comes while the thread runs the first, looks for another, or rests. */
static void one_by_one(int me)
{
    if (me == 1) {
        serve();
        return;
    }
    ex_expect(weft__pool_submit(&pool, &first) == 0);
    ex_expect(weft__pool_submit(&pool, &second) == 0);
    over();
    ex_expect(ran[0] == 1 && ran[1] == 1 && told[0] == 1 && told[1] == 1);
    ex_read(&result[0], "what a job wrote");
    ex_read(&result[1], "what a job wrote");
}

const struct ex_scenario pool_scenarios[] = {
    { "pool", "withdraw", 2, setup, withdrawn, NULL, -1, "a job is withdrawn while its thread comes", NULL },
    { "pool", "two", 2, setup, one_by_one, NULL, 2, "two jobs for one thread, and it ends", NULL },
    { 0 },
};
