/* gdb_subject.c - a process to look at: a task in each state, each in a function of its own name. gdb_test.py starts it.
 *
 *     gdb_subject [MORE]      prints "ready" once all are where they belong; ends at the end of its standard input
 *
 * MORE further tasks sleep in three different places. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft.h>

#define NOINLINE __attribute__((noinline))
/* After the call that waits, so that it does not become a jump and its caller stays on the stack. */
#define STAY() __asm__ volatile("" ::: "memory")

enum { LONG_S = 100, BUSY_WORKER = 2, NEAR = 16384 };

static int pipe_fds[2], wake_fds[2];
static atomic_bool done;
static atomic_int parked;

NOINLINE static int rest_a_while(int64_t ns)
{
    atomic_fetch_add(&parked, 1);
    int rc = weft_sleep(ns);
    STAY();
    return rc;
}

static int be_sleeper(void *arg)
{
    (void)arg;
    int rc = rest_a_while(weft_sec(LONG_S));
    STAY();
    return rc;
}

NOINLINE static int read_the_pipe(void)
{
    char c;
    int rc = weft_read(pipe_fds[0], &c, 1);
    STAY();
    return rc;
}

static int be_reader(void *arg)
{
    (void)arg;
    int rc = read_the_pipe();
    STAY();
    return rc < 0 ? rc : 0;
}

static int be_receiver(void *arg)
{
    char c;
    int rc = weft_chan_recv(arg, &c, 1);
    STAY();
    return rc;
}

static int be_locker(void *arg)
{
    int rc = weft_mutex_lock(arg);
    STAY();
    if (rc == 0)
        weft_mutex_unlock(arg);
    return rc;
}

static int be_joiner(void *arg)
{
    int rc = weft_task_join(*(weft_task *)arg);
    STAY();
    return rc;
}

NOINLINE static int end_the_scope(weft_scope *s)
{
    int rc = weft_scope_end(s, 0);
    STAY();
    return rc;
}

static int be_ender(void *arg)
{
    (void)arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "held" });
    /* Pinned, or the end of the scope would run it as a call. */
    weft_spawn_with(&s, be_sleeper, NULL, &(weft_spawn_options){ .name = "held-child", .pin = 1 });
    int rc = end_the_scope(&s);
    STAY();
    return rc;
}

NOINLINE static void spin_until_told(void)
{
    while (!atomic_load(&done))
        STAY();
}

static int be_spinner(void *arg)
{
    (void)arg;
    atomic_fetch_add(&parked, 1);
    spin_until_told();
    return 0;
}

static int be_ready(void *arg)
{
    (void)arg;
    char c;
    int rc = weft_read(wake_fds[0], &c, 1);
    STAY();
    return rc < 0 ? rc : 0;
}

static int be_unborn(void *arg)
{
    (void)arg;
    return 0;
}

/* ---- two children on the stack of one joiner. A thief may have been faster: then once more. */

struct link {
    char *above;
    bool stolen;
};

NOINLINE static int be_last_link(void *arg)
{
    struct link *l = arg;
    char here;
    if (l->above - &here > NEAR || l->above < &here) {
        l->stolen = true;
        return 0;
    }
    int rc = rest_a_while(weft_sec(LONG_S));
    STAY();
    return rc;
}

NOINLINE static int join_one(weft_fn *fn, const char *name)
{
    char here;
    for (;;) {
        struct link l = { .above = &here };
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        int rc = weft_task_join(weft_spawn_with(&s, fn, &l, &(weft_spawn_options){ .name = name }));
        rc = weft_scope_end(&s, rc);
        if (!l.stolen || rc < 0)
            return rc;
    }
}

NOINLINE static int be_first_link(void *arg)
{
    struct link *l = arg;
    char here;
    if (l->above - &here > NEAR || l->above < &here) {
        l->stolen = true;
        return 0;
    }
    int rc = join_one(be_last_link, "last-link");
    STAY();
    return rc;
}

static int be_chain(void *arg)
{
    (void)arg;
    int rc = join_one(be_first_link, "first-link");
    STAY();
    return rc;
}

/* ---- many */

NOINLINE static int wait_left(int64_t ns)
{
    int rc = rest_a_while(ns);
    STAY();
    return rc;
}

NOINLINE static int wait_right(int64_t ns)
{
    int rc = rest_a_while(ns + 1); /* or the compiler would make one function of the two */
    STAY();
    return rc;
}

static int be_one_of_many(void *arg)
{
    uintptr_t i = (uintptr_t)arg;
    int64_t ns = weft_sec(10 * LONG_S);
    int rc = i % 3 == 0 ? wait_left(ns) : i % 3 == 1 ? wait_right(ns) : rest_a_while(ns);
    STAY();
    return rc;
}

/* How many tasks are in the worker's queues. */
static uint64_t waiting_for(int worker)
{
    weft_worker_stats all[2];
    return weft_stats(NULL, all, 2) >= 2 ? all[worker - 1].ready : 0;
}

static int app(void *arg)
{
    int more = *(int *)arg;
    weft_scope s;
    weft_chan *empty;
    weft_mutex taken = { 0 };
    int rc = weft_chan_create(&empty, 1, 1, NULL);
    if (rc < 0 || (rc = weft_mutex_lock(&taken)) < 0)
        return rc;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "subjects" });
#define START(function, argument, title, on) \
    weft_spawn_with(&s, function, argument, &(weft_spawn_options){ .name = title, .pin = on })
    weft_task sleeper = START(be_sleeper, NULL, "sleeper", 0);
    START(be_reader, NULL, "reader", 0);
    START(be_receiver, empty, "receiver", 0);
    START(be_locker, &taken, "locker", 0);
    START(be_joiner, &sleeper, "joiner", 0);
    START(be_ender, NULL, "ender", 0);
    START(be_chain, NULL, "chain", 0);
    START(be_ready, NULL, "ready-one", BUSY_WORKER);
    for (int i = 0; i < more; i++)
        weft_spawn(&s, be_one_of_many, (void *)(uintptr_t)i);
    while (atomic_load(&parked) < 3 + more)
        if (weft_sleep(weft_ms(5)) < 0)
            break;
    START(be_spinner, NULL, "spinner", BUSY_WORKER);
    while (atomic_load(&parked) < 4 + more)
        if (weft_sleep(weft_ms(5)) < 0)
            break;
    uint64_t before = waiting_for(BUSY_WORKER);
    rc = weft_write_all(wake_fds[1], "!", 1);
    for (int tries = 0; rc == 0 && waiting_for(BUSY_WORKER) == before && tries < 20000; tries++)
        rc = weft_sleep(weft_ms(1)); /* until it has reached the ready one, which has no worker */
    START(be_unborn, NULL, "unborn", BUSY_WORKER);
    puts("ready");
    fflush(stdout);
    char c;
    while (rc == 0 && weft_read(0, &c, 1) > 0)
        continue;
    atomic_store(&done, true);
    weft_scope_cancel(&s, "the end");
    weft_ignore(weft_scope_end(&s, 0));
    weft_mutex_unlock(&taken);
    weft_chan_destroy(&empty);
    return 0;
}

int main(int argc, char **argv)
{
    int more = argc > 1 ? atoi(argv[1]) : 0;
    if (pipe(pipe_fds) < 0 || pipe(wake_fds) < 0)
        return 1;
    int rc = weft_run(app, &more, &(weft_options){ .workers = 2, .spares = -1 });
    return rc < 0;
}
