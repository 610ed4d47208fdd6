/* fork_test.c - fork: what weft says in a child that was forked beside a runtime, and that it says so at once, whatever
 * was locked; that the parent does not notice; exec, signal masks, daemons.
 *
 * A child tells what it found through shared memory and ends by _exit; an alarm ends one that hangs. */
#include "support.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "base/fork.h"
#include "coord/scope.h"
#include "engine/worker.h"
#include "sync/chan.h"

/* -- what a child found -- */

static struct verdict {
    int calls, wrong;
    char text[300]; /* the first that was wrong */
    sigset_t mask;
} *found;

static void says(const char *call, int64_t got, int64_t want)
{
    found->calls++;
    if (got != want && found->wrong++ == 0)
        snprintf(found->text, sizeof found->text, "%s: %lld, not %lld", call, (long long)got, (long long)want);
}
#define SAYS(want, call) says(#call, (int64_t)(call), (want))

/* -- a runtime with tasks that wait in every way -- */

static struct world {
    weft_runtime *rt;
    weft_scope scope;
    weft_task alive, ended;
    int pair[2]; /* of weft's; a task echoes on the first end */
    int pipe[2]; /* not of weft's; a task counts what comes */
    int listener;
    char where[32];
    atomic_int counted;
} w;

static int echo(void *arg)
{
    char c[16];
    int n;
    (void)arg;
    while ((n = weft_read(w.pair[0], c, sizeof c)) > 0)
        n = weft_write_all(w.pair[0], c, (size_t)n);
    return n;
}

static int count(void *arg)
{
    char c;
    int rc;
    (void)arg;
    while ((rc = weft_wait_fd(w.pipe[0], WEFT_READABLE)) > 0)
        if (sys_read(w.pipe[0], &c, 1) == 1)
            atomic_fetch_add(&w.counted, 1);
    return rc;
}

static int greet(void *arg)
{
    int fd;
    (void)arg;
    while ((fd = weft_accept(w.listener)) >= 0) {
        weft_ignore(weft_write_all(fd, "x", 1));
        weft_ignore(weft_close(fd));
    }
    return fd;
}

static int sleep_long(void *arg)
{
    (void)arg;
    return weft_sleep(weft_sec(1000));
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

/* Called on the plain thread that holds the scope: each way of waiting still wakes. */
static bool world_works(void)
{
    char c = 0;
    int before = atomic_load(&w.counted);
    if (weft_write_all(w.pair[1], "e", 1) != 0 || weft_read(w.pair[1], &c, 1) != 1 || c != 'e')
        return false;
    if (sys_write(w.pipe[1], "p", 1) != 1 || !wait_for(&w.counted, before + 1))
        return false;
    int fd = weft_connect(w.where, NULL);
    if (fd < 0 || weft_read(fd, &c, 1) != 1 || c != 'x' || weft_read(fd, &c, 1) != 0)
        return false;
    return weft_close(fd) == 0;
}

/* A task to which something has come before it began to wait may still be about to: each is in the set for good once it
 * has waited. */
static bool all_have_waited(void)
{
    int fds[] = { w.pair[0], w.pipe[0], w.listener };
    int64_t end = weft_after(LIMIT);
    for (int i = 0; i < COUNT(fds); i++)
        while (watched_now(fds[i]) == 0) {
            if (weft_now() > end)
                return false;
            usleep(100);
        }
    return true;
}

static void world_begin(int workers)
{
    found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(found, MAP_FAILED);
    ck_assert_int_eq(weft_pair(w.pair), 0);
    ck_assert_int_eq(pipe2(w.pipe, O_CLOEXEC), 0);
    ck_assert_int_ge(w.listener = listen_local(w.where), 0);
    ck_assert_int_eq(weft_runtime_create(&w.rt, ON(workers)), 0);
    weft_scope_begin_with(&w.scope, WEFT_NEVER, &(weft_scope_options){ .on = w.rt });
    w.alive = weft_spawn(&w.scope, echo, NULL);
    w.ended = weft_spawn(&w.scope, nothing, NULL);
    weft_spawn(&w.scope, count, NULL);
    weft_spawn(&w.scope, greet, NULL);
    weft_spawn(&w.scope, sleep_long, NULL);
    ck_assert_int_eq(weft_task_join(w.ended), 0);
    ck_assert(world_works());
    ck_assert(all_have_waited());
}

static void world_end(void)
{
    weft_scope_cancel(&w.scope, "done");
    ck_assert_int_eq(weft_scope_end(&w.scope, 0), 0);
    weft_runtime_destroy(&w.rt);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(weft_close(w.pair[i]), 0);
        ck_assert_int_eq(weft_close(w.pipe[i]), 0);
    }
    ck_assert_int_eq(weft_close(w.listener), 0);
    munmap(found, sizeof *found);
}

/* -- forking, from every kind of thread -- */

NOINLINE static int fork_now(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        alarm(20);
    }
    return pid < 0 ? -errno : (int)pid;
}

/* How the child ended: 0 by _exit(0). */
NOINLINE static int ended_how(int pid)
{
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

struct forking {
    void (*in_child)(void);
    int status;
    bool parent_blocks; /* SIGTERM, after the fork */
};

static int fork_and_wait(void *arg)
{
    struct forking *f = arg;
    sigset_t mask;
    int pid = fork_now();
    if (pid == 0) {
        f->in_child();
        _exit(0);
    }
    f->status = ended_how(pid);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    f->parent_blocks = sigismember(&mask, SIGTERM) == 1;
    return 0;
}

/* The child of this one is run as a plain call, unless under ThreadSanitizer. */
static int fork_inlined(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, fork_and_wait, arg);
    return weft_scope_end(&s, 0);
}

static int fork_in_pool(void *arg)
{
    return weft_blocking(fork_and_wait, arg);
}

static int run_another(void *arg)
{
    return weft_run(fork_and_wait, arg, ON(1));
}

static int fork_in_another_runtime(void *arg)
{
    return weft_blocking(run_another, arg);
}

static weft_fn *const places[] = { NULL, fork_and_wait, fork_inlined, fork_in_pool, fork_in_another_runtime };

/* From the plain thread (0), or from a task, an inlined one, a pool thread, a task of a runtime made on a pool thread. */
static struct forking fork_at(int place, void (*in_child)(void))
{
    struct forking f = { .in_child = in_child, .status = -1 };
    if (places[place])
        ck_assert_int_eq(weft_task_join(weft_spawn(&w.scope, places[place], &f)), 0);
    else
        fork_and_wait(&f);
    return f;
}

static void check_verdict(struct forking f)
{
    ck_assert_msg(f.status == 0, "the child ended with status 0x%x, after %d calls", (unsigned)f.status, found->calls);
    ck_assert_msg(found->wrong == 0, "%d of %d: %s", found->wrong, found->calls, found->text);
    ck_assert_int_gt(found->calls, 0);
}

/* -- every call -- */

static atomic_int called;

static int note_call(void *arg)
{
    (void)arg;
    atomic_fetch_add(&called, 1);
    return 0;
}

static void drop_note(void *arg)
{
    (void)arg;
    atomic_fetch_add(&called, 1);
}

static void call_runtime(void)
{
    weft_runtime *rt = w.rt, *other = NULL;
    weft_worker_stats stats;
    SAYS(-ECHILD, weft_run(note_call, NULL, ON(1)));
    SAYS(-ECHILD, weft_runtime_create(&other, NULL));
    SAYS(0, other != NULL);
    SAYS(-ECHILD, weft_runtime_run(rt, note_call, NULL));
    SAYS(-ECHILD, weft_runtime_shutdown(rt, weft_sec(1000)));
    SAYS(-ECHILD, weft_runtime_shutdown(NULL, 0));
    weft_runtime_destroy(&rt);
    SAYS(1, rt == w.rt);
    SAYS(-ECHILD, weft_stats(rt, &stats, 1));
    SAYS(-ECHILD, weft_stats(NULL, &stats, 1));
    SAYS(-ECHILD, weft_dump(w.pipe[1]));
    SAYS(-ECHILD, weft_dump_stacks(w.pipe[1]));
    SAYS(-ECHILD, weft_task_stack(weft_task_self(), (const void *[1]){ NULL }, 1));
    SAYS((int64_t)sizeof(weft_scope), weft_sizeof("weft_scope"));
    SAYS(1, weft_version() != NULL);
}

static void call_tasks(void)
{
    char name[32] = "before";
    weft_task ids[4] = { 0 };
    SAYS(-ECHILD, weft_task_join(w.alive));
    SAYS(-ECHILD, weft_task_join(w.ended));
    SAYS(-EPIPE, weft_task_join(-EPIPE));
    SAYS(-ECHILD, weft_task_cancel(w.alive, "because"));
    SAYS(-ECHILD, weft_task_cancel(w.ended, NULL));
    SAYS(0, weft_task_alive(w.alive));
    SAYS(0, weft_task_alive(w.ended));
    SAYS(-ECHILD, weft_task_name(w.alive, name, sizeof name));
    SAYS(-ECHILD, weft_task_list(ids, 4));
    SAYS(0, weft_task_self());
    weft_task_set_name("child");
    SAYS(-ECHILD, weft_yield());
    SAYS(-ECHILD, weft_check());
    SAYS(1, weft_cancel_reason() == NULL);
}

static void call_spawns(weft_scope *s)
{
    weft_spawn_options o = { .name = "never", .copy_bytes = 4 }, pinned = { .pin = 1 };
    int n = 7;
    SAYS(-ECHILD, weft_spawn(s, note_call, NULL));
    SAYS(-ECHILD, weft_spawn(s, NULL, NULL));
    SAYS(-ECHILD, weft_spawn_copy(s, note_call, &n, sizeof n));
    SAYS(-ECHILD, weft_spawn_with(s, note_call, &n, &o));
    SAYS(-ECHILD, weft_spawn_with(s, note_call, &n, &pinned));
    SAYS(-ECHILD, weft_spawn_with(s, note_call, &n, NULL));
}

static void call_scope(weft_scope *s)
{
    call_spawns(s);
    weft_scope_cancel(s, "child");
    weft_scope_set_deadline(s, 1);
    SAYS(WEFT_NEVER, weft_scope_deadline(s));
    SAYS(-ECHILD, weft_scope_wait(s));
    SAYS(0, weft_scope_expired(s));
    SAYS(0, weft_scope_alive(s));
    SAYS(0, weft_scope_failed(s));
    weft_scope_drop(s);
    SAYS(-ECHILD, weft_scope_end(s, -EPIPE));
}

static void call_scopes(void)
{
    weft_scope s;
    call_scope(&w.scope);
    SAYS(-ECHILD, weft_scope_end(&w.scope, 0));
    weft_scope_begin(&s, WEFT_NEVER);
    call_scope(&s);
    SAYS(-EINVAL, weft_scope_end(&s, 0));
    weft_scope_begin(&s, weft_ms(1));
    SAYS(-ECHILD, weft_scope_end(&s, 0));
    weft_scope_begin_shield(&s, weft_ms(1));
    SAYS(-ECHILD, weft_scope_end(&s, 5));
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "on", .on = w.rt });
    call_spawns(&s);
    SAYS(-ECHILD, weft_scope_end(&s, 0));
    {
        WEFT_SCOPE(block, weft_ms(1));
        SAYS(-ECHILD, weft_spawn(&block, note_call, NULL));
    }
}

static void call_time(void)
{
    int64_t before = weft_now();
    SAYS(1, before > 0);
    SAYS(1, weft_after(weft_sec(1)) >= before + weft_sec(1));
    SAYS(WEFT_NEVER, weft_deadline());
    SAYS(WEFT_NEVER, weft_remaining());
    SAYS(-ECHILD, weft_sleep(0));
    SAYS(-ECHILD, weft_sleep(weft_sec(1000)));
    SAYS(-ECHILD, weft_sleep_until(WEFT_NEVER));
}

static void call_io(int fd)
{
    char c[2] = "z";
    struct iovec v = { .iov_base = c, .iov_len = 1 };
    SAYS(-ECHILD, weft_read(fd, c, 1));
    SAYS(-ECHILD, weft_write(fd, c, 1));
    SAYS(-ECHILD, weft_readv(fd, &v, 1));
    SAYS(-ECHILD, weft_writev(fd, &v, 1));
    SAYS(-ECHILD, weft_read_all(fd, c, 1));
    SAYS(-ECHILD, weft_write_all(fd, c, 1));
    SAYS(-ECHILD, weft_wait_fd(fd, WEFT_READABLE));
    SAYS(-ECHILD, weft_shutdown(fd, SHUT_RDWR));
    SAYS(-ECHILD, weft_fd_forget(fd));
    SAYS(-ECHILD, weft_close(fd));
    weft_close_auto(&fd);
    SAYS(1, fcntl(fd, F_GETFD) == FD_CLOEXEC); /* still open; close(2) is for that */
}

static void call_net(void)
{
    int fds[2] = { -1, -1 };
    weft_addr a;
    char text[64];
    SAYS(-ECHILD, weft_listen("127.0.0.1:0", NULL));
    SAYS(-ECHILD, weft_accept(w.listener));
    SAYS(-ECHILD, weft_connect(w.where, NULL));
    SAYS(-ECHILD, weft_pair(fds));
    SAYS(-1, fds[0]);
    SAYS(0, weft_addr_parse(&a, w.where));
    SAYS((int64_t)strlen(w.where), weft_addr_text(&a, text, sizeof text));
    SAYS(0, weft_addr_local(w.listener, &a));
    SAYS(-ENOTCONN, weft_addr_peer(w.listener, &a));
}

/* At each of them a thread that is not there may hold the lock, and a task that is not there may wait. Those calls that
 * would not wait, nor come to a lock, do what they always do. */
static void call_sync(void)
{
    static weft_event event = { { UINT64_C(1) << 32 } };
    static weft_notify notify = { { UINT64_C(1) << 32 } };
    static weft_rwlock rwlock = { { UINT64_C(1) << 63 | UINT64_C(1) << 62, 1 } };
    static weft_sem sem = { { UINT64_C(1) << 63, 1 } }, free_sem = WEFT_SEM_INIT(1);
    static weft_barrier barrier = { { 2, 1 } };
    static weft_waitgroup group = { { UINT64_C(1) << 63 | 1, 1 } };
    static weft_once once = { { UINT64_C(1) << 32 } };
    static weft_promise promise = { { UINT64_C(1) << 32 } };
    SAYS(-ECHILD, weft_event_wait(&event));
    weft_event_set(&event);
    SAYS(-ECHILD, weft_notify_wait(&notify));
    weft_notify_one(&notify);
    weft_notify_all(&notify);
    static weft_timer timer = { { 0, UINT64_C(1) << 32 | 1 } };
    SAYS(-ECHILD, weft_timer_wait(&timer));
    SAYS(-ECHILD, weft_timer_set(&timer, 1));
    SAYS(-ECHILD, weft_rwlock_read(&rwlock));
    SAYS(-ECHILD, weft_rwlock_write(&rwlock));
    SAYS(-EAGAIN, weft_rwlock_try_read(&rwlock));
    weft_rwlock_unlock(&rwlock);
    SAYS(-ECHILD, weft_sem_acquire(&sem, 1));
    SAYS(-EAGAIN, weft_sem_try_acquire(&sem, 1));
    weft_sem_release(&sem, 1);
    SAYS(0, weft_sem_acquire(&free_sem, 1));
    weft_sem_release(&free_sem, 1);
    /* What is free, but was left there under the lock by one who has not let that go. */
    static weft_sem left_sem = { { 1, 1 } };
    static weft_rwlock left_rwlock = { { 0, 1 } };
    SAYS(0, weft_sem_acquire(&left_sem, 1));
    SAYS(0, weft_rwlock_try_write(&left_rwlock));
    SAYS(-ECHILD, weft_barrier_wait(&barrier));
    weft_barrier_break(&barrier);
    weft_barrier_reset(&barrier);
    SAYS(-ECHILD, weft_waitgroup_wait(&group));
    weft_waitgroup_add(&group, 1);
    weft_waitgroup_done(&group);
    weft_waitgroup_done(&group);
    SAYS(-ECHILD, weft_once_run(&once, note_call, NULL));
    SAYS(-ECHILD, weft_promise_wait(&promise, NULL));
    SAYS(-ECHILD, weft_promise_set(&promise, 0, NULL));
}

/* Even if somebody in the parent has it locked just now. */
static void call_channels(void)
{
    weft_chan *c = NULL, *sub = NULL;
    weft_topic *t = NULL;
    int v = 1;
    SAYS(0, weft_chan_create(&c, sizeof v, 1, NULL));
    SAYS(0, weft_topic_create(&t, sizeof v, NULL));
    if (!c || !t)
        return;
    weft__lock(&c->lock);
    SAYS(-ECHILD, weft_chan_send(c, &v, sizeof v));
    SAYS(-ECHILD, weft_chan_recv(c, &v, sizeof v));
    SAYS(-ECHILD, weft_chan_try_send(c, &v, sizeof v));
    SAYS(-ECHILD, weft_chan_try_recv(c, &v, sizeof v));
    weft_chan_close(c);
    weft_chan_close_now(c);
    SAYS(0, weft_chan_len(c));
    SAYS(0, weft_chan_missed(c));
    SAYS(-ECHILD, weft_chan_done(c));
    SAYS(-ECHILD, weft_chan_wait_done(c));
    weft_case cs[] = { weft_on_recv(c, &v, sizeof v), weft_on_fd(w.pair[0], WEFT_READABLE) };
    SAYS(-ECHILD, weft_select(cs, 2));
    SAYS(-ECHILD, weft_try_select(cs, 2));
    SAYS(-ECHILD, weft_topic_subscribe(t, 1, &sub));
    SAYS(-ECHILD, weft_topic_publish(t, &v, sizeof v));
    weft_chan_destroy(&c);
    weft_topic_destroy(&t);
    SAYS(1, !c && !t);
}

static void call_rest(void)
{
    int n = 3;
    SAYS(-ECHILD, weft_blocking(note_call, NULL));
    SAYS(-ECHILD, weft_blocking_copy(note_call, &n, sizeof n, drop_note));
    SAYS(0, strcmp(weft_strerror(-ECHILD), "ECHILD: No child processes"));
    SAYS(-EPROTO, weft_fail(-EPROTO, "line %d", 3));
    SAYS(-EPROTO, weft_fail_text(-EPROTO, "text"));
    SAYS(1, weft_error_text(-EPROTO) == weft_strerror(-EPROTO)); /* nothing is kept */
}

/* From here on a system call on what the parent has, too, ends the child by SIGSYS. Where there are no filters, the calls
 * are made all the same. */
static void forbid_touching(void)
{
    static const int forbidden[] = { SYS_epoll_ctl, SYS_epoll_pwait, SYS_read, SYS_readv, SYS_write, SYS_writev,
        SYS_recvfrom, SYS_recvmsg, SYS_sendto, SYS_sendmsg, SYS_preadv2, SYS_pwritev2, SYS_accept4, SYS_connect,
        SYS_shutdown, SYS_socket, SYS_socketpair, SYS_close };
    struct sock_filter code[2 * COUNT(forbidden) + 2];
    unsigned short n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT(forbidden); i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)forbidden[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){ .len = n, .filter = code });
}

static void call_everything(void)
{
    forbid_touching();
    call_runtime();
    call_tasks();
    call_scopes();
    call_time();
    call_io(w.pair[0]);
    call_io(w.pair[1]);
    call_io(w.pipe[0]);
    call_io(w.listener);
    call_net();
    call_sync();
    call_channels();
    call_rest();
    SAYS(0, atomic_load(&called));
}

/* The numbers that are in each epoll set of the process, as text. */
static void list_sets(char *out, size_t bytes)
{
    size_t have = 0;
    out[0] = 0;
    for (int fd = 0; fd < 256; fd++) {
        char path[64], what[64] = "", line[256];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, what, sizeof what - 1) < 0 || !strstr(what, "eventpoll"))
            continue;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof line, f)) {
            if (strncmp(line, "tfd:", 4) != 0)
                continue;
            line[strcspn(line + 5, "e") + 5] = 0; /* without the events, which differ while the set is armed */
            have += (size_t)snprintf(out + have, bytes - have, "%d %s;", fd, line);
            ck_assert(have < bytes);
        }
        if (f)
            fclose(f);
    }
}

START_TEST(every_call_is_refused_in_a_child)
{
    static char before[8192], after[8192];
    world_begin(2);
    list_sets(before, sizeof before);
    struct forking f = fork_at(_i, call_everything);
    check_verdict(f);
    list_sets(after, sizeof after);
    ck_assert_msg(strstr(before, "tfd") != NULL, "\"%s\"", before);
    ck_assert_str_eq(before, after);
    ck_assert_int_eq(f.parent_blocks, _i != 0);
    ck_assert(world_works());
    world_end();
}
END_TEST

static void fork_again(void)
{
    int pid = fork_now();
    if (pid == 0) {
        call_everything();
        _exit(0);
    }
    SAYS(0, ended_how(pid));
}

START_TEST(a_childs_child_is_refused_as_well)
{
    world_begin(2);
    check_verdict(fork_at(_i, fork_again));
    ck_assert(world_works());
    world_end();
}
END_TEST

/* -- whatever is going on, and whatever is locked -- */

static atomic_int stop;

static int tick(void *arg)
{
    return weft_sleep(*(int64_t *)arg);
}

/* Spawns, joins, sleeps, is cancelled, reads and writes, without an end. */
static int churn(void *arg)
{
    static int64_t spans[4] = { 1000, 50000, 200000, 1000000000 };
    int fds[2];
    (void)arg;
    while (!atomic_load(&stop)) {
        weft_scope s;
        char c = 'c';
        int rc = weft_pair(fds);
        weft_scope_begin_with(&s, weft_ms(2), &(weft_scope_options){ .name = "churn" });
        for (int i = 0; i < 40; i++)
            weft_spawn_copy(&s, tick, &spans[i % 4], sizeof spans[0]);
        weft_task t = weft_spawn_with(&s, tick, &spans[0], &(weft_spawn_options){ .name = "tick" });
        weft_ignore(weft_task_cancel(t, "churn"));
        weft_ignore(weft_task_join(t));
        if (rc == 0) {
            weft_ignore(weft_write_all(fds[0], &c, 1));
            weft_ignore(weft_read(fds[1], &c, 1));
        }
        weft_ignore(weft_blocking(nothing, NULL));
        weft_ignore(weft_scope_end(&s, 0));
        for (int i = 0; rc == 0 && i < 2; i++)
            weft_ignore(weft_close(fds[i]));
        weft_ignore(weft_yield());
    }
    return 0;
}

START_TEST(children_of_a_busy_process_are_refused_at_once)
{
    const int rounds = SCALED(40, 10, 6);
    world_begin(3);
    atomic_store(&stop, 0);
    weft_task t[3];
    for (int i = 0; i < 3; i++)
        t[i] = weft_spawn(&w.scope, churn, NULL);
    for (int i = 0; i < rounds; i++) {
        check_verdict(fork_at(i % COUNT(places), call_everything));
        ck_assert(world_works());
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(weft_task_join(t[i]), 0);
    world_end();
}
END_TEST

/* Every lock that a thread which is not there may have held; they have no owner, so the test itself holds them. */
static void hold_all(bool hold)
{
    struct weft__slot *slots[3];
    struct weft__lock *locks[8];
    int fds[3] = { w.pair[0], w.pipe[0], w.listener }, n = 0;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(weft__slot_enter(fds[i], &slots[i]), 0);
        weft__slot_leave(slots[i]);
        locks[n++] = &slots[i]->lock;
    }
    locks[n++] = &weft__scope_of(&w.scope)->lock;
    locks[n++] = &w.rt->roots_lock;
    locks[n++] = &w.rt->pool.lock;
    locks[n++] = &w.rt->workers[0]->timers.lock;
    locks[n++] = &w.rt->workers[1]->timers.lock;
    for (int i = 0; i < n; i++)
        hold ? weft__lock(locks[i]) : weft__unlock(locks[i]);
    at_word *life = &weft__task_at(weft__id_index(w.alive))->life;
    at_store(life, hold ? at_load(life) | WEFT__LIFE_HELD : at_load(life) & ~WEFT__LIFE_HELD);
}

START_TEST(no_call_waits_for_a_lock_that_a_missing_thread_holds)
{
    world_begin(2);
    hold_all(true);
    struct forking f = fork_at(0, call_everything);
    hold_all(false);
    check_verdict(f);
    ck_assert(world_works());
    world_end();
}
END_TEST

static void *call_in_thread(void *arg)
{
    call_tasks();
    call_io(w.pair[0]);
    return arg;
}

static void start_a_thread(void)
{
    pthread_join(thread_start(call_in_thread, NULL), NULL);
}

START_TEST(threads_of_a_child_are_refused_as_well)
{
    if (TSAN)
        return; /* it ends a child of many threads that starts one */
    world_begin(2);
    check_verdict(fork_at(_i, start_a_thread));
    ck_assert(world_works());
    world_end();
}
END_TEST

/* Holds the lock of the table of tasks most of the time. */
static void *take_and_give(void *arg)
{
    while (!atomic_load(&stop)) {
        struct weft__task *t = weft__task_alloc(NULL);
        if (t)
            weft__task_free_slow(NULL, t);
    }
    return arg;
}

/* The frame that weft made for it was the parent's. */
static void leave_the_thread(void)
{
    pthread_exit(NULL);
}

START_TEST(a_plain_thread_may_end_in_a_child)
{
    if (TSAN || ASAN)
        return; /* the last thread ends by exit, where they look at what the missing threads left */
    world_begin(2);
    atomic_store(&stop, 0);
    pthread_t other = thread_start(take_and_give, NULL);
    for (int i = 0; i < 40; i++) {
        struct forking f = fork_at(0, leave_the_thread);
        ck_assert_int_eq(f.status, 0);
    }
    atomic_store(&stop, 1);
    pthread_join(other, NULL);
    world_end();
}
END_TEST

/* -- a child that keeps what the parent closes -- */

struct reuse {
    int told[2], said[2]; /* pipes to the child and back */
    int old[2], again[2];
    int first, second, third, pid;
    char c;
};

static void hold_and_write(struct reuse *r)
{
    char c;
    while (sys_read(r->told[0], &c, 1) == 1)
        if (sys_write(r->old[0], "o", 1) == 1) /* an edge on the file that the parent has closed */
            weft_ignore(sys_write(r->said[1], "d", 1));
    _exit(0);
}

static int read_again(void *arg)
{
    struct reuse *r = arg;
    return r->second = weft_read(r->again[1], &r->c, 1);
}

static int close_and_reuse(void *arg)
{
    struct reuse *r = arg;
    weft_scope s;
    char c = 0;
    int64_t end = weft_after(LIMIT);
    weft_ignore(weft_pair(r->old));
    do { /* until the set knows it: its time may be over before it has begun to wait */
        weft_scope_begin(&s, weft_ms(1));
        r->first = weft_read(r->old[1], &c, 1);
        weft_ignore(weft_scope_end(&s, r->first));
    } while (watched_now(r->old[1]) == 0 && weft_now() < end);
    if ((r->pid = fork_now()) == 0) {
        close(r->told[1]);
        hold_and_write(r);
    }
    for (int i = 0; i < 2; i++)
        weft_ignore(weft_close(r->old[i]));
    weft_ignore(weft_pair(r->again));
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_again, r);
    for (int i = 0; i < 20; i++) { /* it waits, and the child's edges are not for it */
        weft_ignore(sys_write(r->told[1], "t", 1));
        weft_ignore(weft_read(r->said[0], &c, 1));
        weft_ignore(weft_sleep(weft_us(200)));
    }
    r->third = weft_scope_alive(&s);
    weft_ignore(weft_write_all(r->again[0], "n", 1));
    int rc = weft_scope_end(&s, 0);
    for (int i = 0; i < 2; i++) {
        close(r->told[i]);
        weft_ignore(weft_close(r->again[i]));
    }
    return rc;
}

START_TEST(a_number_is_used_again_while_a_child_keeps_the_old_file)
{
    struct reuse r = { .c = 0 };
    ck_assert_int_eq(pipe2(r.told, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(r.said, O_CLOEXEC), 0);
    /* No spares: who looks whether one is needed opens a file. */
    ck_assert_int_ge(weft_run(close_and_reuse, &r, &(weft_options){ .workers = 2, .spares = -1 }), 0);
    ck_assert_int_eq(r.first, -ECANCELED);
    ck_assert_int_eq(r.again[0], r.old[0]);
    ck_assert_int_eq(r.third, 1);
    ck_assert_int_eq(r.second, 1);
    ck_assert_int_eq(r.c, 'n');
    ck_assert_int_eq(ended_how(r.pid), 0);
    close(r.said[0]);
    close(r.said[1]);
}
END_TEST

/* -- signals -- */

static void tell_mask(void)
{
    pthread_sigmask(SIG_SETMASK, NULL, &found->mask);
}

static void block(int how, int signo)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signo);
    pthread_sigmask(how, &one, NULL);
}

START_TEST(a_child_has_the_mask_of_who_made_the_runtime)
{
    block(SIG_BLOCK, SIGUSR1);
    world_begin(2);
    block(SIG_BLOCK, SIGUSR2); /* of this thread alone */
    struct forking f = fork_at(_i, tell_mask);
    ck_assert_int_eq(f.status, 0);
    ck_assert_int_eq(sigismember(&found->mask, SIGUSR1), 1);
    ck_assert_int_eq(sigismember(&found->mask, SIGUSR2), _i == 0);
    ck_assert_int_eq(sigismember(&found->mask, SIGTERM), 0);
    ck_assert_int_eq(sigismember(&found->mask, SIGCHLD), 0);
    ck_assert_int_eq(f.parent_blocks, _i != 0);
    world_end();
    block(SIG_UNBLOCK, SIGUSR1);
    block(SIG_UNBLOCK, SIGUSR2);
}
END_TEST

static void raise_terminate(void)
{
    forbid_touching();
    raise(SIGTERM);
}

static void raise_quit(void)
{
    forbid_touching();
    raise(SIGQUIT);
}

static int fork_and_raise(void *arg)
{
    struct forking *f = arg;
    fork_and_wait(&f[0]);
    fork_and_wait(&f[1]);
    return weft_check();
}

/* The parent, which has asked for the signals, is told nothing. */
START_TEST(signals_that_weft_took_are_a_childs_own)
{
    struct forking f[2] = { { .in_child = raise_terminate, .status = -1 }, { .in_child = raise_quit, .status = -1 } };
    weft_options o = { .workers = 2, .stop_on_signals = true, .dump_on_quit = true };
    void (*before)(int) = signal(SIGTERM, SIG_DFL); /* Check's own passes it on to the parent */
    ck_assert_int_eq(weft_run(_i ? fork_and_raise : fork_in_pool, f, &o), 0);
    ck_assert_int_eq(WTERMSIG(f[0].status), SIGTERM);
    if (_i)
        ck_assert_int_eq(WTERMSIG(f[1].status), SIGQUIT);
    signal(SIGTERM, before);
}
END_TEST

/* -- exec -- */

static char open_before[1024]; /* "0 1 2 5 " */

static void list_open(char *out, size_t bytes)
{
    size_t n = 0;
    out[0] = 0;
    for (int fd = 0; fd < 256; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            n += (size_t)snprintf(out + n, bytes - n, "%d ", fd);
}

static int return_7(void *arg)
{
    (void)arg;
    return 7;
}

/* What the program does that was started by exec: 0, or what is wrong. */
static int after_exec(const char *allowed)
{
    sigset_t mask;
    struct sigaction fault;
    for (int fd = 0; fd < 256; fd++) {
        char word[16];
        snprintf(word, sizeof word, "%d ", fd);
        const char *at = strstr(allowed, word);
        while (at && at > allowed && at[-1] != ' ')
            at = strstr(at + 1, word);
        if (fcntl(fd, F_GETFD) >= 0 && !at)
            return 1;
    }
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (sigismember(&mask, SIGTERM) || sigismember(&mask, SIGALRM))
        return 2;
    if (!TSAN && !ASAN && !UBSAN && (sigaction(SIGSEGV, NULL, &fault) < 0 || fault.sa_handler != SIG_DFL))
        return 3;
    return weft_run(return_7, NULL, ON(2)) == 7 ? 0 : 4;
}

static void exec_self(void)
{
    execl("/proc/self/exe", "fork_test", "--after-exec", open_before, (char *)NULL);
    _exit(99);
}

START_TEST(exec_begins_anew_with_nothing_left_open)
{
    char where[32];
    list_open(open_before, sizeof open_before);
    world_begin(2);
    int listener = listen_local(where), connected = weft_connect(where, NULL), accepted = weft_accept(listener);
    ck_assert_int_ge(accepted, 0);
    struct forking f = fork_at(_i, exec_self);
    ck_assert_msg(WIFEXITED(f.status), "0x%x", (unsigned)f.status);
    ck_assert_int_eq(WEXITSTATUS(f.status), 0);
    ck_assert(world_works());
    ck_assert_int_eq(weft_close(accepted) | weft_close(connected) | weft_close(listener), 0);
    world_end();
}
END_TEST

static void close_by_hand(void)
{
    for (int i = 0; i < 2; i++) {
        SAYS(0, close(w.pair[i]));
        SAYS(0, close(w.pipe[i]));
    }
    SAYS(0, close(w.listener));
    SAYS(-ECHILD, weft_read(w.pair[0], &(char){ 0 }, 1));
}

START_TEST(close_in_a_child_closes_there_alone)
{
    world_begin(2);
    check_verdict(fork_at(_i, close_by_hand));
    ck_assert(world_works());
    world_end();
}
END_TEST

/* -- a child that comes back -- */

static struct back {
    struct gate gate;
    int out;
    atomic_int pid;
} back;

static int come_back(void *arg)
{
    (void)arg;
    gate_wait(&back.gate);
    int pid = fork_now();
    if (pid == 0)
        dup2(back.out, 2);
    else
        atomic_store(&back.pid, pid);
    return 0;
}

static int come_back_inlined(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, come_back, arg);
    return weft_scope_end(&s, 0);
}

static int come_back_in_pool(void *arg)
{
    return weft_blocking(come_back, arg);
}

static int come_back_copied(void *arg)
{
    (void)arg;
    return weft_blocking_copy(come_back, NULL, 0, NULL);
}

/* It does not even get as far as to a queue, whose lock is held. */
START_TEST(a_child_that_returns_into_weft_is_ended)
{
    static weft_fn *const ways[] = { come_back, come_back_inlined, come_back_in_pool, come_back_copied };
    char text[512] = "";
    int fds[2];
    back = (struct back){ .gate = GATE_INIT };
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    back.out = fds[1];
    world_begin(2);
    weft_task t = weft_spawn(&w.scope, ways[_i], NULL);
    ck_assert(wait_for(&back.gate.waiting, 1));
    weft__lock(&w.rt->group.inject.lock);
    gate_open(&back.gate);
    bool forked = wait_for(&back.pid, 1);
    int status = ended_how(atomic_load(&back.pid));
    weft__unlock(&w.rt->group.inject.lock);
    ck_assert(forked);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "0x%x", (unsigned)status);
    ck_assert_int_eq(weft_task_join(t), 0);
    close(fds[1]);
    ck_assert_int_gt(sys_read(fds[0], text, sizeof text - 1), 0);
    ck_assert_msg(strstr(text, "returned in a forked child") != NULL, "%s", text);
    close(fds[0]);
    ck_assert(world_works());
    world_end();
}
END_TEST

/* -- without a runtime -- */

/* Runs fn in a child; what it returns comes back. */
static int in_a_child(int (*fn)(void *arg), void *arg)
{
    int fds[2], got = -1;
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    int pid = fork_now();
    if (pid == 0) {
        int rc = fn(arg);
        weft_ignore(sys_write(fds[1], &rc, sizeof rc));
        _exit(0);
    }
    close(fds[1]);
    if (sys_read(fds[0], &got, sizeof got) != (int)sizeof got)
        got = -1;
    close(fds[0]);
    ended_how(pid);
    return got;
}

static int become_a_daemon(void *arg)
{
    (void)arg;
    if (daemon(1, 1) < 0)
        return -1;
    alarm(20);
    return weft_run(return_7, NULL, ON(2));
}

START_TEST(a_daemon_runs_tasks)
{
    ck_assert_int_eq(in_a_child(become_a_daemon, NULL), 7);
}
END_TEST

START_TEST(so_does_one_of_a_process_whose_runtime_has_ended)
{
    ck_assert_int_eq(weft_sleep(1), 0); /* this thread has a frame */
    ck_assert_int_eq(weft_run(return_7, NULL, ON(2)), 7);
    ck_assert_int_eq(in_a_child(become_a_daemon, NULL), 7);
    ck_assert_int_eq(weft_run(return_7, NULL, ON(2)), 7);
}
END_TEST

static int greet_once(void *arg)
{
    int fd = weft_accept(*(int *)arg);
    if (fd < 0)
        return fd;
    int rc = weft_write_all(fd, "x", 1);
    weft_ignore(weft_close(fd));
    return rc < 0 ? rc : 7;
}

static int serve_once(void *listener)
{
    return weft_run(greet_once, listener, ON(2));
}

/* A server that opens its listener and forks before it runs. */
START_TEST(children_share_a_listener_that_was_opened_before)
{
    char where[32], c;
    int listener = listen_local(where), rc[2];
    ck_assert_int_ge(listener, 0);
    for (int i = 0; i < 2; i++) {
        int fd = weft_connect(where, NULL);
        ck_assert_int_ge(fd, 0);
        rc[i] = in_a_child(serve_once, &listener);
        ck_assert_int_eq(rc[i], 7);
        ck_assert_int_eq(weft_read(fd, &c, 1), 1);
        ck_assert_int_eq(weft_close(fd), 0);
    }
    ck_assert_int_eq(weft_close(listener), 0);
}
END_TEST

static int runtime_starts(void *arg)
{
    (void)arg;
    return weft__forked;
}

START_TEST(the_mark_is_for_children_of_a_runtime_alone)
{
    weft_runtime *rt;
    ck_assert_int_eq(in_a_child(runtime_starts, NULL), 0);
    ck_assert_int_eq(weft_runtime_create(&rt, ON(1)), 0);
    ck_assert_int_eq(in_a_child(runtime_starts, NULL), 1);
    weft_runtime_destroy(&rt);
    ck_assert_int_eq(weft_runtime_create(&rt, &(weft_options){ .workers = -1 }), -EINVAL);
    ck_assert_int_eq(in_a_child(runtime_starts, NULL), 0);
    ck_assert(!weft__forked);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--after-exec") == 0)
        return after_exec(argv[2]);
    Suite *s = suite_create("fork");
    TCase *tc = add_case(s, "refused");
    tcase_add_loop_test(tc, every_call_is_refused_in_a_child, 0, COUNT(places));
    tcase_add_loop_test(tc, a_childs_child_is_refused_as_well, 0, COUNT(places));
    tcase_add_test(tc, children_of_a_busy_process_are_refused_at_once);
    tcase_add_test(tc, no_call_waits_for_a_lock_that_a_missing_thread_holds);
    tcase_add_loop_test(tc, threads_of_a_child_are_refused_as_well, 0, COUNT(places));
    tcase_add_test(tc, a_plain_thread_may_end_in_a_child);
    tc = add_case(s, "parent");
    tcase_add_test(tc, a_number_is_used_again_while_a_child_keeps_the_old_file);
    tcase_add_loop_test(tc, close_in_a_child_closes_there_alone, 0, COUNT(places));
    tc = add_case(s, "signals");
    tcase_add_loop_test(tc, a_child_has_the_mask_of_who_made_the_runtime, 0, COUNT(places));
    if (!TSAN) /* which keeps signals back until their thread calls libc again */
        tcase_add_loop_test(tc, signals_that_weft_took_are_a_childs_own, 0, 2);
    tc = add_case(s, "exec");
    tcase_add_loop_test(tc, exec_begins_anew_with_nothing_left_open, 0, COUNT(places));
    tc = add_case(s, "back");
    tcase_add_loop_test(tc, a_child_that_returns_into_weft_is_ended, 0, 4);
    tc = add_case(s, "without");
    tcase_add_test(tc, a_daemon_runs_tasks);
    tcase_add_test(tc, so_does_one_of_a_process_whose_runtime_has_ended);
    tcase_add_test(tc, children_share_a_listener_that_was_opened_before);
    tcase_add_test(tc, the_mark_is_for_children_of_a_runtime_alone);
    return run_suite(s);
}
