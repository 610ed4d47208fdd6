/* disturbed_test.c - what the machine does to a whole process: it is stopped and goes on, and its wall clock jumps. */
#include "support.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <weft/io.h>
#include <weft/net.h>

/* -- the wall clock: ours is found before libc's, and is another day each time it is looked at -- */

static atomic_int jumps, looked;

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, t);
    if (rc == 0 && atomic_load(&jumps) && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int n = atomic_fetch_add(&looked, 1);
        t->tv_sec += n % 2 ? 86400L * n : -86400L * n;
    }
    return rc;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}

/* -- something of everything that waits -- */

enum { ROUNDS = 40 };

struct work {
    atomic_int rounds;
    int echoed, early, wrong;
};

static int echo(void *arg)
{
    const int *fds = arg;
    char c[8];
    for (int i = 0; i < ROUNDS; i++) {
        int rc = weft_read_all(fds[1], c, sizeof c);
        if (rc <= 0 || (rc = weft_write_all(fds[1], c, sizeof c)) < 0)
            return rc < 0 ? rc : -ENODATA;
    }
    return 0;
}

static int blocks(void *arg)
{
    (void)arg;
    usleep(2000);
    return 7;
}

static int asks(void *arg)
{
    struct work *w = arg;
    int fds[2];
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, echo, fds);
    for (int i = 0; i < ROUNDS && rc == 0; i++) {
        char out[8], in[8];
        memset(out, 'a' + i % 26, sizeof out);
        int64_t due = weft_after(weft_ms(5));
        rc = weft_sleep(weft_ms(5));
        w->early += weft_now() < due;
        weft_scope t;
        weft_scope_begin(&t, weft_ms(3));
        int told = weft_sleep(WEFT_NEVER);
        w->wrong += weft_scope_end(&t, told) != -ETIMEDOUT;
        if (rc == 0)
            rc = weft_write_all(fds[0], out, sizeof out);
        if (rc == 0 && weft_read_all(fds[0], in, sizeof in) == (int)sizeof in)
            w->echoed += memcmp(in, out, sizeof in) == 0;
        w->wrong += weft_blocking(blocks, NULL) != 7;
        atomic_fetch_add(&w->rounds, 1);
    }
    rc = weft_scope_end(&s, rc);
    weft_close(fds[0]);
    weft_close(fds[1]);
    return rc;
}

static int works(const weft_options *o)
{
    struct work w = { .rounds = 0 };
    int rc = weft_run(asks, &w, o);
    if (rc != 0 || w.echoed != ROUNDS || w.early != 0 || w.wrong != 0) {
        fprintf(stderr, "rc %d, %d of %d echoed, %d woke early, %d wrong\n", rc, w.echoed, ROUNDS, w.early, w.wrong);
        return 1;
    }
    return 0;
}

static const int worker_counts[] = { 1, 2, 8 };

START_TEST(a_wall_clock_that_jumps_moves_nothing)
{
    atomic_store(&jumps, 1);
    int64_t began = weft_now();
    ck_assert(time(NULL) != time(NULL)); /* so it does jump */
    int wrong = works(ON(worker_counts[_i]));
    int64_t took = weft_now() - began;
    atomic_store(&jumps, 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_ge(took, ROUNDS * weft_ms(8));
    ck_assert_int_lt(took, weft_sec(SCALED(60, 120, 300)));
}
END_TEST

/* -- stopped, and on again: waits in the kernel end with EINTR then, although no handler ran -- */

START_TEST(who_is_stopped_goes_on_where_it_was)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(works(ON(worker_counts[_i])));
    int status = 0, stops = 0;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
        kill(pid, SIGSTOP);
        siginfo_t si = { .si_pid = 0 };
        if (waitid(P_PID, (id_t)pid, &si, WSTOPPED | WEXITED | WNOWAIT) == 0 && si.si_code == CLD_STOPPED) {
            stops++;
            usleep(1500); /* timers pass meanwhile */
            kill(pid, SIGCONT);
        }
        usleep(4000);
    }
    ck_assert_int_eq(ended, pid);
    ck_assert_int_ge(stops, 5);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("disturbed");
    TCase *tc = add_case(s, "wall clock");
    tcase_add_loop_test(tc, a_wall_clock_that_jumps_moves_nothing, 0, COUNT(worker_counts));
    tc = add_case(s, "stopped");
    if (forking())
        tcase_add_loop_test(tc, who_is_stopped_goes_on_where_it_was, 0, COUNT(worker_counts));
    return run_suite(s);
}
