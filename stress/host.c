/* host.c - a runtime that is driven by a loop which does nothing until it is told to.
 *
 * The program's main thread is the host: it polls the descriptor, and steps; now and then it waits in weft instead, or starts a
 * main. The other threads ask its tasks for an answer, over channels, run mains of their own there, and let tasks sleep.
 *
 * Law       each question has its answer, each main its result, each start its end: whoever is not woken stands still, and the
 *           watchdog says so; tasks run on the host's thread alone. */
#include <poll.h>

#include "support.h"

enum { THREADS_MOST = 256, SERVERS = 4 };

static struct {
    weft_runtime *rt;
    weft_chan *questions;
    pthread_t host;
    atomic_int askers; /* that have not ended */
    atomic_ulong n_asked, n_run, n_started, n_ended, n_steps, n_waits;
} st;

struct question {
    uint64_t value;
    weft_chan *answer;
};

NOINLINE static void here(void)
{
    CHECK(pthread_equal(pthread_self(), st.host), "a task runs elsewhere");
}

static int serve(void *arg)
{
    struct chance c = chance_of(3, *(uint64_t *)arg);
    struct question q;
    int rc;
    while ((rc = weft_chan_recv(st.questions, &q, sizeof q)) == 1) {
        here();
        if (chance_one_in(&c, 8))
            rc = weft_yield();
        else if (chance_one_in(&c, 32))
            rc = weft_sleep(weft_us((int64_t)chance_below(&c, 300)));
        here();
        q.value++;
        if (rc < 0 || (rc = weft_chan_send(q.answer, &q.value, sizeof q.value)) < 0)
            return rc;
    }
    return rc;
}

static int add_one(void *arg)
{
    here();
    ++*(uint64_t *)arg;
    return 7;
}

static int count_end(void *arg)
{
    int rc = weft_sleep(weft_us(*(const int64_t *)arg));
    here();
    atomic_fetch_add(&st.n_ended, 1);
    return rc;
}

static void ask(struct chance *c, weft_chan *answers)
{
    struct question q = { .value = chance_below(c, 1000000), .answer = answers };
    uint64_t answer = 0;
    CHECK(weft_chan_send(st.questions, &q, sizeof q) == 0, "a question was not taken");
    if (chance_one_in(c, 16))
        stutter(c);
    CHECK(weft_chan_recv(answers, &answer, sizeof answer) == 1 && answer == q.value + 1, "a wrong answer: %lu",
            (unsigned long)answer);
    atomic_fetch_add(&st.n_asked, 1);
}

static void start_one(int64_t *us, weft_task *t)
{
    CHECK(weft_runtime_start(st.rt, count_end, us, t) == 0, "no start");
    atomic_fetch_add(&st.n_started, 1);
}

static const struct stress_need needs[] = {
    { "questions", &st.n_asked, 500, 2000 },
    { "mains of others", &st.n_run, 30, 100 },
    { "mains that nobody waits for", &st.n_started, 10, 50 },
    { "steps", &st.n_steps, 200, 1000 },
    { "waits of the host", &st.n_waits, 2, 5 },
};

static int64_t naps[] = { 0, 50, 500 };

static void *asker(void *arg)
{
    struct chance c = chance_of(2, (uint64_t)(intptr_t)arg);
    weft_chan *answers;
    CHECK(weft_chan_create(&answers, sizeof(uint64_t), chance_below(&c, 2), NULL) == 0, "no channel");
    while (!stress_over_when(needs, COUNT(needs))) {
        if (chance_one_in(&c, 16)) {
            uint64_t x = chance_below(&c, 1000), before = x;
            CHECK(weft_runtime_run(st.rt, add_one, &x) == 7 && x == before + 1, "a main had no result");
            atomic_fetch_add(&st.n_run, 1);
        } else {
            ask(&c, answers);
        }
        if (chance_one_in(&c, 64))
            usleep((unsigned)chance_below(&c, 2000)); /* so that all may come to rest */
        stress_moved();
    }
    weft_chan_destroy(&answers);
    atomic_fetch_sub(&st.askers, 1);
    start_one(&naps[0], NULL); /* so that the host looks */
    return NULL;
}

/* What the host does instead of stepping: its waits run the tasks. */
static void wait_in_weft(struct chance *c)
{
    weft_task t;
    start_one(&naps[chance_below(c, COUNT(naps))], &t);
    if (chance_one_in(c, 2)) {
        CHECK(weft_task_join(t) == 0, "no end");
        atomic_fetch_add(&st.n_waits, 1);
    }
}

int main(int argc, char **argv)
{
    static pthread_t threads[THREADS_MOST];
    static uint64_t numbers[SERVERS];
    stress_begin(argc, argv, "host");
    struct chance c = chance_of(1, 0);
    int askers = stress_workers < THREADS_MOST ? stress_workers : THREADS_MOST;
    st.host = pthread_self();
    CHECK(weft_chan_create(&st.questions, sizeof(struct question), 2, NULL) == 0, "no channel");
    CHECK(weft_runtime_create(&st.rt, &(weft_options){ .manual = true }) == 0, "no runtime");
    stress_watch(st.rt);
    for (uint64_t i = 0; i < SERVERS; i++) {
        numbers[i] = i;
        CHECK(weft_runtime_start(st.rt, serve, &numbers[i], NULL) == 0, "no server");
    }
    atomic_store(&st.askers, askers);
    for (int i = 0; i < askers; i++)
        threads[i] = thread_start(asker, (void *)(intptr_t)i);
    while (atomic_load(&st.askers) > 0) {
        struct pollfd p = { .fd = weft_runtime_fd(st.rt), .events = POLLIN };
        CHECK(poll(&p, 1, -1) == 1 || errno == EINTR, "poll");
        if (chance_one_in(&c, 32))
            wait_in_weft(&c);
        CHECK(weft_runtime_step(st.rt) >= 0, "a step failed");
        atomic_fetch_add(&st.n_steps, 1);
    }
    for (int i = 0; i < askers; i++)
        pthread_join(threads[i], NULL);
    weft_chan_close(st.questions);
    stress_watch(NULL);
    weft_runtime_destroy(&st.rt);
    weft_chan_destroy(&st.questions);
    CHECK(atomic_load(&st.n_ended) == atomic_load(&st.n_started), "%lu mains were started, %lu have ended",
            atomic_load(&st.n_started), atomic_load(&st.n_ended));
    stress_counts(needs, COUNT(needs));
    return stress_end();
}
