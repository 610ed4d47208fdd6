/* counts.c - the hot paths, one after the other, for bench/counts to count their instructions.
 *
 *     valgrind --tool=callgrind --collect-atstart=no build/bench/counts [PATH...]      see bench/counts, which does that
 *     build/bench/counts key                                      what it was compiled by and for, and with what libc
 *
 * Counts    what the worker's thread executes from the first operation to the last, weft, libc and the loop in here. Each
 *           path has a runtime of its own, of one worker, and is run three times: a few operations that count for nothing,
 *           n, and 2n. After each of the last two callgrind writes what it has collected to a file whose name of a
 *           trigger is "path operations". The difference is that of n operations: the begin and the end are in both.
 * Does not  count the I/O thread and the threads of the offload pool, nor what the kernel does.
 * Holds     the same numbers, however busy the machine is. Collecting is turned on by the worker, for its thread alone. Ticks
 *           nearly stand still (slow_ticks): no turn is ever long, the loop looks around each 61 turns and never because a
 *           millisecond has passed, and a worker that has nothing to do does not spin for a while. So what a poll of
 *           the descriptors costs between turns, each 50 us in an ordinary run, is not in here, but in read_wait. */
#include <valgrind/callgrind.h>
#include <weft.h>

#include <errno.h>
#include <gnu/libc-version.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "sched/sched.h"

/* There if jemalloc is linked. */
int mallctl(const char *name, void *old, size_t *old_bytes, void *new, size_t bytes) __attribute__((weak));

static long ops; /* of the present run */

/* By the worker, around what is counted. */
static void collect(void)
{
    CALLGRIND_TOGGLE_COLLECT;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int yield_once(void *arg)
{
    (void)arg;
    return weft_yield();
}

/* Counts fn(arg) in each of n tasks of a scope, from the first spawn to the last end. */
static int crowd(weft_fn *fn, void *arg, long n)
{
    weft_scope s;
    collect();
    weft_scope_begin(&s, WEFT_NEVER);
    for (long i = 0; i < n; i++)
        weft_spawn(&s, fn, arg);
    int rc = weft_scope_end(&s, 0);
    collect();
    return rc;
}

/* Counts `round` in the calling task, which is alone. */
static int alone(int (*round)(void *), void *arg)
{
    int rc = 0;
    collect();
    for (long i = 0; i < ops && rc >= 0; i++)
        rc = round(arg);
    collect();
    return rc < 0 ? rc : 0;
}

/* ---- tasks, scopes */

static int spawn_and_join(weft_fn *fn)
{
    weft_scope s;
    int rc = 0;
    weft_scope_begin(&s, WEFT_NEVER);
    collect();
    for (long i = 0; i < ops && rc == 0; i++)
        rc = weft_task_join(weft_spawn(&s, fn, NULL));
    collect();
    return weft_scope_end(&s, rc);
}

static int spawn_join(void *arg)
{
    (void)arg;
    return spawn_and_join(nothing);
}

static int spawn_join_park(void *arg)
{
    (void)arg;
    return spawn_and_join(yield_once);
}

static int spawn_many(void *arg)
{
    return crowd(nothing, arg, ops);
}

static int yields(void *arg)
{
    int rc = 0;
    for (long i = 0, n = ops / *(long *)arg; i < n && rc == 0; i++)
        rc = weft_yield();
    return rc;
}

static int yield_2(void *arg)
{
    long tasks = 2;
    (void)arg;
    return crowd(yields, &tasks, tasks);
}

static int yield_1000(void *arg)
{
    long tasks = 1000;
    (void)arg;
    return crowd(yields, &tasks, tasks);
}

static int scope_round(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    return weft_scope_end(&s, 0);
}

static int scope(void *arg)
{
    return alone(scope_round, arg);
}

/* An operation that is ready, in a scope with a deadline: no timer is armed for it. */
static int deadline_ready_round(void *e)
{
    weft_scope s;
    weft_scope_begin(&s, weft_sec(1000));
    return weft_scope_end(&s, weft_event_wait(e));
}

static int deadline_ready(void *arg)
{
    weft_event e = { 0 };
    (void)arg;
    weft_event_set(&e);
    return alone(deadline_ready_round, &e);
}

/* One that waits: it is armed, and disarmed. */
static int deadline_wait_round(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, weft_sec(1000));
    return weft_scope_end(&s, weft_task_join(weft_spawn(&s, yield_once, arg)));
}

static int deadline_wait(void *arg)
{
    return alone(deadline_wait_round, arg);
}

static int sleep_round(void *arg)
{
    (void)arg;
    return weft_sleep(1000);
}

static int sleep_virtual(void *arg)
{
    return alone(sleep_round, arg);
}

static int local_round(void *key)
{
    return weft_local_get(key) == key ? 0 : -EBADMSG;
}

static int local_get(void *arg)
{
    weft_local key = { 0 };
    (void)arg;
    int rc = weft_local_set(&key, &key);
    if (rc == 0)
        rc = alone(local_round, &key);
    return rc == 0 ? weft_local_set(&key, NULL) : rc;
}

/* On the pool's thread: the worker is to have found nothing else to do, each time. */
static int until_parked(void *group)
{
    const struct weft__group *g = group;
    while (weft__idle_parked(&g->idle) == 0)
        sched_yield();
    return 0;
}

static int blocking_round(void *group)
{
    return weft_blocking(until_parked, group);
}

static int blocking(void *arg)
{
    (void)arg;
    return alone(blocking_round, weft__self()->group);
}

/* ---- channels, select, generators */

struct pair {
    weft_chan *to, *back;
};

static int echo(void *arg)
{
    struct pair *p = arg;
    int rc = 0;
    for (long i = 0, v; i < ops && rc >= 0; i++) {
        rc = weft_chan_recv(p->to, &v, sizeof v);
        if (rc == 1)
            rc = weft_chan_send(p->back, &v, sizeof v);
    }
    return rc < 0 ? rc : 0;
}

static int ping(struct pair *p)
{
    weft_scope s;
    int rc = 0;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, echo, p);
    collect();
    for (long i = 0, v; i < ops && rc >= 0; i++) {
        rc = weft_chan_send(p->to, &i, sizeof i);
        if (rc == 0)
            rc = weft_chan_recv(p->back, &v, sizeof v);
    }
    collect();
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

static int ping_pong(size_t capacity)
{
    struct pair p = { NULL, NULL };
    int rc = weft_chan_create(&p.to, sizeof(long), capacity, NULL);
    if (rc == 0)
        rc = weft_chan_create(&p.back, sizeof(long), capacity, NULL);
    if (rc == 0)
        rc = ping(&p);
    weft_chan_destroy(&p.to);
    weft_chan_destroy(&p.back);
    return rc;
}

static int pingpong_0(void *arg)
{
    (void)arg;
    return ping_pong(0);
}

static int pingpong_1(void *arg)
{
    (void)arg;
    return ping_pong(1);
}

static int buffered_round(void *c)
{
    long v = 0;
    int rc = weft_chan_send(c, &v, sizeof v);
    return rc == 0 ? weft_chan_recv(c, &v, sizeof v) : rc;
}

static int chan_buffered(void *arg)
{
    weft_chan *c;
    (void)arg;
    int rc = weft_chan_create(&c, sizeof(long), 1, NULL);
    if (rc < 0)
        return rc;
    rc = alone(buffered_round, c);
    weft_chan_destroy(&c);
    return rc;
}

struct choice {
    weft_chan *c[4];
    weft_case cases[4];
    long item;
};

static int select_round(void *arg)
{
    struct choice *x = arg;
    int rc = weft_select(x->cases, 4);
    return rc < 0 ? rc : weft_chan_send(x->c[rc], &x->item, sizeof x->item);
}

static int select_ready_4(void *arg)
{
    struct choice x = { .item = 1 };
    int rc = 0;
    (void)arg;
    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = weft_chan_create(&x.c[i], sizeof x.item, 1, NULL);
        x.cases[i] = weft_on_recv(x.c[i], &x.item, sizeof x.item);
        if (rc == 0)
            rc = weft_chan_send(x.c[i], &x.item, sizeof x.item);
    }
    if (rc == 0)
        rc = alone(select_round, &x);
    for (int i = 0; i < 4; i++)
        weft_chan_destroy(&x.c[i]);
    return rc;
}

static int numbers(weft_gen *g, void *arg)
{
    int rc = 0;
    (void)arg;
    for (long i = 0; rc == 0; i++)
        rc = weft_gen_yield(g, &i, sizeof i);
    return rc;
}

static int gen_round(void *g)
{
    long v;
    return weft_gen_next(g, &v, sizeof v);
}

static int gen_next(void *arg)
{
    weft_gen *g;
    int rc = weft_gen_create(&g, numbers, arg, sizeof(long), NULL);
    if (rc < 0)
        return rc;
    rc = alone(gen_round, g);
    weft_gen_destroy(&g);
    return rc;
}

/* ---- locks, signals. The hand-overs: two tasks, each of which yields with the lock held, so that the other waits for it */

static int mutex_round(void *m)
{
    int rc = weft_mutex_lock(m);
    weft_mutex_unlock(m);
    return rc;
}

static int mutex(void *arg)
{
    weft_mutex m = { 0 };
    (void)arg;
    return alone(mutex_round, &m);
}

static int mutex_turns(void *m)
{
    int rc = 0;
    for (long i = 0; i < ops / 2 && rc == 0; i++) {
        rc = weft_mutex_lock(m);
        if (rc == 0)
            rc = weft_yield();
        weft_mutex_unlock(m);
    }
    return rc;
}

static int mutex_hand_over(void *arg)
{
    weft_mutex m = { 0 };
    (void)arg;
    return crowd(mutex_turns, &m, 2);
}

static int sem_round(void *s)
{
    int rc = weft_sem_acquire(s, 1);
    weft_sem_release(s, 1);
    return rc;
}

static int sem(void *arg)
{
    weft_sem s = WEFT_SEM_INIT(1);
    (void)arg;
    return alone(sem_round, &s);
}

static int sem_turns(void *s)
{
    int rc = 0;
    for (long i = 0; i < ops / 2 && rc == 0; i++) {
        rc = weft_sem_acquire(s, 1);
        if (rc == 0)
            rc = weft_yield();
        weft_sem_release(s, 1);
    }
    return rc;
}

static int sem_hand_over(void *arg)
{
    weft_sem s = WEFT_SEM_INIT(1);
    (void)arg;
    return crowd(sem_turns, &s, 2);
}

static int read_lock_round(void *l)
{
    int rc = weft_rwlock_read(l);
    weft_rwlock_unlock(l);
    return rc;
}

static int rwlock_read(void *arg)
{
    weft_rwlock l = { 0 };
    (void)arg;
    return alone(read_lock_round, &l);
}

static int write_lock_round(void *l)
{
    int rc = weft_rwlock_write(l);
    weft_rwlock_unlock(l);
    return rc;
}

static int rwlock_write(void *arg)
{
    weft_rwlock l = { 0 };
    (void)arg;
    return alone(write_lock_round, &l);
}

static int rwlock_turns(void *l)
{
    int rc = 0;
    for (long i = 0; i < ops / 2 && rc == 0; i++) {
        rc = weft_rwlock_write(l);
        if (rc == 0)
            rc = weft_yield();
        weft_rwlock_unlock(l);
    }
    return rc;
}

static int rwlock_hand_over(void *arg)
{
    weft_rwlock l = { 0 };
    (void)arg;
    return crowd(rwlock_turns, &l, 2);
}

static int event_set_round(void *e)
{
    weft_event_clear(e);
    weft_event_set(e);
    return weft_event_wait(e);
}

static int event_set(void *arg)
{
    weft_event e = { 0 };
    (void)arg;
    return alone(event_set_round, &e);
}


static int set_event(void *arg)
{
    weft_event_set(arg);
    return 0;
}

static int event_wait(void *arg)
{
    weft_event e = { 0 };
    weft_scope s;
    int rc = 0;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    collect();
    for (long i = 0; i < ops && rc == 0; i++) {
        weft_event_clear(&e);
        weft_spawn(&s, set_event, &e);
        rc = weft_event_wait(&e);
    }
    collect();
    return weft_scope_end(&s, rc);
}

static int set_promise(void *arg)
{
    return weft_promise_set(arg, 0, NULL);
}

static int promise_wait(void *arg)
{
    weft_scope s;
    int rc = 0;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    collect();
    for (long i = 0; i < ops && rc == 0; i++) {
        weft_promise p = { 0 };
        weft_task t = weft_spawn(&s, set_promise, &p);
        rc = weft_promise_wait(&p, NULL);
        if (rc == 0)
            rc = weft_task_join(t);
    }
    collect();
    return weft_scope_end(&s, rc);
}

/* ---- descriptors */

static int with_sockets(int (*use)(int fds[2]))
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -EMFILE;
    int rc = use(fds);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return rc;
}

static int read_ready_round(void *arg)
{
    const int *fds = arg;
    long v = 0;
    int rc = weft_write(fds[0], &v, sizeof v);
    return rc > 0 ? weft_read(fds[1], &v, sizeof v) : rc;
}

static int read_ready_of(int fds[2])
{
    return alone(read_ready_round, fds);
}

static int read_ready(void *arg)
{
    (void)arg;
    return with_sockets(read_ready_of);
}

/* Who reads waits for the other's bytes, which are found when nothing else is to be done. */
static int echo_bytes(void *arg)
{
    const int *fds = arg;
    int rc = 1;
    for (long i = 0, v; i < ops && rc > 0; i++) {
        rc = weft_read(fds[1], &v, sizeof v);
        if (rc > 0)
            rc = weft_write(fds[1], &v, sizeof v);
    }
    return rc < 0 ? rc : 0;
}

static int read_wait_of(int fds[2])
{
    weft_scope s;
    int rc = 1;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, echo_bytes, fds);
    collect();
    for (long i = 0, v; i < ops && rc > 0; i++) {
        rc = weft_write(fds[0], &i, sizeof i);
        if (rc > 0)
            rc = weft_read(fds[0], &v, sizeof v);
    }
    collect();
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

static int read_wait(void *arg)
{
    (void)arg;
    return with_sockets(read_wait_of);
}

static int line_round(void *in)
{
    char *line;
    size_t len;
    int rc = weft_stream_read_line(in, &line, &len);
    return rc == 1 && len == 31 ? 0 : rc < 0 ? rc : -EBADMSG;
}

static int write_lines(void *out)
{
    int rc = 0;
    for (long i = 0; i < ops && rc >= 0; i++)
        rc = weft_stream_puts(out, "a line of thirty-one characters\n");
    return rc < 0 ? rc : weft_stream_flush(out);
}

/* Both sides of it: the lines are written by another task, a buffer full at a time. */
static int stream_line(void *arg)
{
    weft_stream *in, *out;
    weft_scope s;
    (void)arg;
    int rc = weft_stream_pair(&in, &out);
    if (rc < 0)
        return rc;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, write_lines, out);
    rc = weft_scope_end(&s, alone(line_round, in));
    weft_stream_drop(&in);
    weft_stream_drop(&out);
    return rc;
}

/* ---- all of them */

static const struct path {
    const char *name;
    weft_fn *fn;
    long n;
    int clock;
} paths[] = {
    { "spawn_join", spawn_join, 1000, 0 },
    { "spawn_join_park", spawn_join_park, 1000, 0 },
    { "spawn_many", spawn_many, 1000, 0 },
    { "yield_2", yield_2, 4000, 0 },
    { "yield_1000", yield_1000, 4000, 0 },
    { "scope", scope, 1000, 0 },
    { "deadline_ready", deadline_ready, 1000, 0 },
    { "deadline_wait", deadline_wait, 1000, 0 },
    { "sleep", sleep_virtual, 1000, WEFT_CLOCK_VIRTUAL },
    { "local_get", local_get, 1000, 0 },
    { "blocking", blocking, 1000, WEFT_CLOCK_VIRTUAL },
    { "pingpong_0", pingpong_0, 1000, 0 },
    { "pingpong_1", pingpong_1, 1000, 0 },
    { "chan_buffered", chan_buffered, 1000, 0 },
    { "select_ready_4", select_ready_4, 1000, 0 },
    { "gen_next", gen_next, 1000, 0 },
    { "mutex", mutex, 1000, 0 },
    { "mutex_hand_over", mutex_hand_over, 1000, 0 },
    { "sem", sem, 1000, 0 },
    { "sem_hand_over", sem_hand_over, 1000, 0 },
    { "rwlock_read", rwlock_read, 1000, 0 },
    { "rwlock_write", rwlock_write, 1000, 0 },
    { "rwlock_hand_over", rwlock_hand_over, 1000, 0 },
    { "event_set", event_set, 1000, 0 },
    { "event_wait", event_wait, 1000, 0 },
    { "promise_wait", promise_wait, 1000, 0 },
    { "read_ready", read_ready, 1000, 0 },
    { "read_wait", read_wait, 1000, 0 },
    { "stream_line", stream_line, 4000, 0 },
};
enum { PATHS = sizeof paths / sizeof *paths, WARM = 100 };

/* A microsecond has 2^30 of them from now on: rules in time that are kept by ticks do not apply in a run of minutes. */
static void slow_ticks(void)
{
    weft__clock_init();
    at_store(&weft__ticks_in_us, (uint64_t)1 << 30);
}

static int run(const struct path *p, long n, bool counts)
{
    char what[64];
    ops = n;
    int rc = weft_run(p->fn, NULL, &(weft_options){ .workers = 1, .clock = p->clock });
    snprintf(what, sizeof what, "%s %ld", p->name, n);
    if (counts)
        CALLGRIND_DUMP_STATS_AT(what);
    else
        CALLGRIND_ZERO_STATS;
    return rc;
}

static int count(const struct path *p)
{
    int rc = run(p, WARM, false);
    if (rc == 0)
        rc = run(p, p->n, true);
    return rc == 0 ? run(p, 2 * p->n, true) : rc;
}

static bool is_named(char **names, const char *name)
{
    bool any = *names == NULL;
    for (; *names; names++)
        any |= strcmp(*names, name) == 0;
    return any;
}

static int print_key(void)
{
    const char *kind = "";
#ifdef WEFT_DEBUG
    kind = ", debug";
#endif
    printf("%s %s, %s, glibc %s%s%s\n",
#ifdef __clang__
            "clang", __clang_version__,
#else
            "gcc", __VERSION__,
#endif
#if defined(__AVX512F__)
            "x86-64-v4",
#elif defined(__AVX2__)
            "x86-64-v3",
#elif defined(__SSE4_2__)
            "x86-64-v2",
#elif defined(__x86_64__)
            "x86-64",
#else
            "another processor",
#endif
            gnu_get_libc_version(), mallctl ? ", jemalloc" : "", kind);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "key") == 0)
        return print_key();
    slow_ticks();
    for (int i = 0; i < PATHS; i++) {
        int rc = is_named(argv + (argc > 0), paths[i].name) ? count(&paths[i]) : 0;
        if (rc < 0) {
            fprintf(stderr, "counts: %s: %s\n", paths[i].name, weft_strerror(rc));
            return 1;
        }
    }
    return 0;
}
