/* quiet_test.c - base/quiet.c, and what is promised with it: no write raises SIGPIPE or SIGXFSZ, on whatever thread, and those
 * that somebody else has sent are not lost. Both have their default dispositions, which end the process. */
#include "support.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <weft/fs.h>
#include <weft/stream.h>

#include "base/quiet.h"

enum { PLAIN, WORKER, HOST, PLACES };

/* fn(arg) there: 0 is what it is to return. */
static void at_place(int place, weft_fn *fn, void *arg)
{
    static const weft_options how[] = { [WORKER] = { .workers = 2 }, [HOST] = { .manual = true } };
    sigset_t both;
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    sigemptyset(&both);
    sigaddset(&both, SIGPIPE);
    sigaddset(&both, SIGXFSZ);
    sigprocmask(SIG_UNBLOCK, &both, NULL);
    ck_assert_int_eq(place == PLAIN ? fn(arg) : weft_run(fn, arg, &how[place]), 0);
}

static NOINLINE bool is_pending(int number)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, number);
}

/* The line of what is not as it is to be; 0: all is. */
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            return -__LINE__;                                                                      \
    } while (0)

static int to_nobody(int fd)
{
    struct iovec v[2] = { { "a", 1 }, { "b", 1 } };
    MUST(weft_write(fd, "x", 1) == -EPIPE);
    MUST(weft_writev(fd, v, 2) == -EPIPE);
    MUST(weft_write_all(fd, "xyz", 3) == -EPIPE);
    MUST(!is_pending(SIGPIPE));
    return 0;
}

static int open_fifo(const char *path, int *reader, int *writer)
{
    MUST(mkfifo(path, 0600) == 0);
    MUST((*reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) >= 0);
    MUST((*writer = open(path, O_WRONLY | O_CLOEXEC)) >= 0);
    unlink(path);
    return 0;
}

static int write_to_those_who_have_gone(void *arg)
{
    int fds[2], from[2], own[2], rc;
    weft_stream *s;
    uint64_t moved = 7;
    MUST(pipe2(fds, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
    close(fds[0]);
    if ((rc = to_nobody(fds[1])) < 0)
        return rc;
    MUST(sys_write(from[1], "x", 1) == 1);
    MUST(weft_copy(fds[1], from[0], &moved) == -EPIPE && moved == 0);
    MUST(weft_stream_open(&s, fds[1], NULL) == 0);
    MUST(weft_stream_write(s, "x", 1) == 0 && weft_stream_flush(s) == -EPIPE);
    weft_ignore(weft_stream_close(&s));
    close(from[0]);
    close(from[1]);
    if ((rc = open_fifo(arg, &fds[0], &fds[1])) < 0)
        return rc;
    close(fds[0]);
    if ((rc = to_nobody(fds[1])) < 0)
        return rc;
    weft_ignore(weft_close(fds[1]));
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    MUST(file >= 0 && weft_pair(own) == 0);
    weft_ignore(weft_close(own[1]));
    MUST(weft_send_file(own[0], file, 0, 1000, NULL) == -EPIPE);
    MUST(weft_write(own[0], "x", 1) == -EPIPE);
    weft_ignore(weft_close(own[0]));
    close(file);
    MUST(!is_pending(SIGPIPE));
    return 0;
}

/* */
START_TEST(what_has_no_reader_is_an_error_and_no_signal)
{
    char dir[] = "/tmp/weft-quiet-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/fifo", dir);
    at_place(_i, write_to_those_who_have_gone, path);
    rmdir(dir);
}
END_TEST

/* It waits in the middle of a write when its reader goes: the signal comes with a count. */
struct half {
    const char *path;
    int reader;
};

static void *read_some_and_go(void *arg)
{
    struct half *h = arg;
    char buf[4096];
    size_t got = 0;
    while (got < 100000) {
        struct pollfd p = { .fd = h->reader, .events = POLLIN };
        ssize_t n = poll(&p, 1, 10000) == 1 ? sys_read(h->reader, buf, sizeof buf) : -1;
        if (n <= 0)
            abort();
        got += (size_t)n;
    }
    close(h->reader);
    return NULL;
}

static int write_until_they_go(void *arg)
{
    enum { MUCH = 4 << 20 };
    struct half *h = arg;
    int writer, rc = open_fifo(h->path, &h->reader, &writer), all = 0;
    if (rc < 0)
        return rc;
    char *much = calloc(1, MUCH);
    pthread_t t = thread_start(read_some_and_go, h);
    while ((rc = weft_write(writer, much, MUCH)) > 0)
        all += rc;
    pthread_join(t, NULL);
    free(much);
    weft_ignore(weft_close(writer));
    MUST(rc == -EPIPE && all >= 100000 && all < MUCH && !is_pending(SIGPIPE));
    return 0;
}

START_TEST(a_reader_that_goes_in_the_middle_is_no_signal_either)
{
    char dir[] = "/tmp/weft-quiet-XXXXXX", path[64];
    struct half h = { .path = path };
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/fifo", dir);
    at_place(_i, write_until_they_go, &h);
    rmdir(dir);
}
END_TEST

/* -- files that may not grow -- */

static int write_too_far(void *arg)
{
    static const char text[2000];
    const char *path = arg;
    struct rlimit before, now;
    MUST(getrlimit(RLIMIT_FSIZE, &before) == 0);
    now = before;
    now.rlim_cur = 1000;
    MUST(setrlimit(RLIMIT_FSIZE, &now) == 0);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0 && weft_fs_pwrite(fd, "x", 1, 999) == 1);
    MUST(weft_fs_pwrite(fd, "x", 1, 1000) == -EFBIG);
    MUST(lseek(fd, 0, SEEK_SET) == 0 && weft_write_all(fd, text, sizeof text) == -EFBIG);
    MUST(weft_fs_store(path, text, sizeof text, 0600) == -EFBIG);
    weft_ignore(weft_close(fd));
    MUST(setrlimit(RLIMIT_FSIZE, &before) == 0);
    MUST(!is_pending(SIGXFSZ));
    return 0;
}

START_TEST(a_file_that_would_be_too_big_is_an_error_and_no_signal)
{
    char dir[] = "/tmp/weft-quiet-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    at_place(_i, write_too_far, path);
    unlink(path);
    rmdir(dir);
}
END_TEST

/* -- those of somebody else -- */

static atomic_int struck;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&struck, 1);
}

enum { NOBODY, TO_THE_THREAD, TO_THE_PROCESS, SENDERS };

/* They are unblocked in this thread alone, and in no other of the process. */
static long fail_while_one_is_sent(int sender)
{
    struct weft__quiet q;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    close(fds[0]);
    weft__quiet_begin(&q);
    if (sender == TO_THE_THREAD)
        pthread_kill(pthread_self(), SIGPIPE);
    if (sender == TO_THE_PROCESS)
        kill(getpid(), SIGPIPE);
    long told = weft__quiet_end(&q, sys_write(fds[1], "x", 1));
    close(fds[1]);
    return told;
}

START_TEST(what_somebody_sends_meanwhile_is_not_lost)
{
    for (int sender = NOBODY; sender < SENDERS; sender++) {
        atomic_store(&struck, 0);
        signal(SIGPIPE, on_signal);
        ck_assert_int_eq(fail_while_one_is_sent(sender), -EPIPE);
        wait_for(&struck, sender != NOBODY);
        signal(SIGPIPE, SIG_DFL);
        ck_assert_int_eq(atomic_load(&struck), sender != NOBODY);
        ck_assert(!is_pending(SIGPIPE));
    }
}
END_TEST

START_TEST(what_was_pending_before_stays)
{
    sigset_t set, before;
    int fds[2];
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    for (int sender = NOBODY; sender < SENDERS; sender++) {
        atomic_store(&struck, 0);
        signal(SIGPIPE, on_signal);
        sigprocmask(SIG_BLOCK, &set, &before);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        close(fds[0]);
        if (sender == TO_THE_THREAD)
            pthread_kill(pthread_self(), SIGPIPE);
        else if (sender == TO_THE_PROCESS)
            kill(getpid(), SIGPIPE);
        else
            ck_assert_int_eq(sys_write(fds[1], "x", 1), -EPIPE); /* the program's own write */
        ck_assert_int_eq(weft_write(fds[1], "x", 1), -EPIPE);
        weft_ignore(weft_close(fds[1]));
        ck_assert(is_pending(SIGPIPE));
        ck_assert_int_eq(atomic_load(&struck), 0);
        sigprocmask(SIG_SETMASK, &before, NULL);
        wait_for(&struck, 1);
        signal(SIGPIPE, SIG_DFL);
        ck_assert_int_ge(atomic_load(&struck), 1);
    }
}
END_TEST

START_TEST(the_mask_is_as_it_was)
{
    sigset_t set, before, after;
    int fds[2];
    for (int blocked = 0; blocked < 2; blocked++) {
        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        sigprocmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
        sigprocmask(SIG_SETMASK, NULL, &before);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        ck_assert_int_eq(weft_write(fds[1], "x", 1), 1);
        close(fds[0]);
        ck_assert_int_eq(weft_write(fds[1], "x", 1), -EPIPE);
        weft_ignore(weft_close(fds[1]));
        sigprocmask(SIG_SETMASK, NULL, &after);
        for (int number = 1; number < 32; number++)
            ck_assert_int_eq(sigismember(&before, number), sigismember(&after, number));
        ck_assert(!is_pending(SIGPIPE));
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quiet");
    TCase *tc = add_case(s, "writing");
    tcase_add_loop_test(tc, what_has_no_reader_is_an_error_and_no_signal, 0, PLACES);
    tcase_add_loop_test(tc, a_reader_that_goes_in_the_middle_is_no_signal_either, 0, PLACES);
    tcase_add_loop_test(tc, a_file_that_would_be_too_big_is_an_error_and_no_signal, 0, PLACES);
    tc = add_case(s, "of others");
    tcase_add_test(tc, what_somebody_sends_meanwhile_is_not_lost);
    tcase_add_test(tc, what_was_pending_before_stays);
    tcase_add_test(tc, the_mask_is_as_it_was);
    return run_suite(s);
}
