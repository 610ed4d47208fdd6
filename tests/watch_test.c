/* watch_test.c - changes of files as a channel: weft_fs_watch, os/watch.c. */
#include "support.h"

#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/fault.h"

static const int worker_counts[] = { 1, 2, 4 };

static char dir[64], file[96];

static void dir_make(void)
{
    snprintf(dir, sizeof dir, "/tmp/weft-watch-XXXXXX");
    if (!mkdtemp(dir))
        abort();
    snprintf(file, sizeof file, "%s/a", dir);
}

static void dir_remove(void)
{
    unlink(file);
    rmdir(dir);
}

NOINLINE static void touch(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1)
        abort();
    close(fd);
}

/* The watcher's thread and descriptors go some time after the last watch. */
static int descriptors_back_to(int before)
{
    int n;
    for (int64_t end = weft_after(LIMIT); (n = descriptors_now()) > before && weft_now() < end;)
        usleep(100);
    return n;
}

/* In runtimes of each size, and on a plain thread; nothing may be left. */
static void run_everywhere(weft_fn *fn)
{
    int threads = threads_before(), fds = descriptors_now();
    for (int i = 0; i <= COUNT(worker_counts); i++) {
        dir_make();
        int rc = i < COUNT(worker_counts)
                ? weft_run(fn, NULL, &(weft_options){ .workers = worker_counts[i], .report = say_nothing, .deadlock_is_error = true })
                : fn(NULL);
        ck_assert_int_eq(descriptors_back_to(fds), fds);
        ck_assert_int_eq(threads_back_to(threads), threads);
        dir_remove();
        AS_EXPECTED_IN(rc, i);
    }
}

static int watch_dir(void *arg)
{
    (void)arg;
    weft_chan *c WEFT_AUTO(weft_chan_destroy) = NULL;
    weft_change change;
    EXPECT(weft_fs_watch(&c, dir, IN_CREATE | IN_CLOSE_WRITE | IN_DELETE) == 0);
    EXPECT(weft_chan_try_recv(c, &change, sizeof change) == -EAGAIN);
    touch(file);
    EXPECT(weft_chan_recv(c, &change, sizeof change) == 1 && (change.what & IN_CREATE) && strcmp(change.name, "a") == 0);
    EXPECT(weft_chan_recv(c, &change, sizeof change) == 1 && (change.what & IN_CLOSE_WRITE));
    unlink(file);
    EXPECT(weft_chan_recv(c, &change, sizeof change) == 1 && (change.what & IN_DELETE) && strcmp(change.name, "a") == 0);
    return 0;
}

START_TEST(changes_in_a_directory_are_told_in_order)
{
    run_everywhere(watch_dir);
}
END_TEST

static int watch_file_to_its_end(void *arg)
{
    (void)arg;
    weft_chan *c WEFT_AUTO(weft_chan_destroy) = NULL;
    weft_change change;
    int modified = 0, ignored = 0, named = 0, rc;
    touch(file);
    EXPECT(weft_fs_watch(&c, file, IN_MODIFY | IN_DELETE_SELF) == 0);
    touch(file);
    unlink(file);
    while ((rc = weft_chan_recv(c, &change, sizeof change)) > 0) {
        modified += (change.what & IN_MODIFY) != 0;
        ignored += (change.what & IN_IGNORED) != 0;
        named += change.name[0] != 0;
    }
    EXPECT(rc == 0 && modified == 1 && ignored == 1 && named == 0);
    return 0;
}

START_TEST(the_end_of_what_is_watched_closes_the_channel)
{
    run_everywhere(watch_file_to_its_end);
}
END_TEST

static int close_early(void *arg)
{
    (void)arg;
    weft_chan *a = NULL, *b = NULL;
    weft_change change;
    EXPECT(weft_fs_watch(&a, dir, IN_CREATE) == 0 && weft_fs_watch(&b, dir, IN_CREATE) == 0);
    weft_chan_close(a);
    touch(file);
    EXPECT(weft_chan_recv(b, &change, sizeof change) == 1);
    EXPECT(weft_chan_recv(a, &change, sizeof change) == 0);
    weft_chan_close(a);
    weft_chan_destroy(&a);
    weft_chan_close_now(b);
    weft_chan_destroy(&b);
    return 0;
}

START_TEST(a_closed_channel_ends_its_watch_alone)
{
    run_everywhere(close_early);
}
END_TEST

enum { MANY = 700 };

static int lag(void *arg)
{
    (void)arg;
    weft_chan *c WEFT_AUTO(weft_chan_destroy) = NULL;
    weft_change change;
    char sub[128];
    uint64_t missed = 0, seen = 0;
    int rc;
    EXPECT(weft_fs_watch(&c, dir, IN_CREATE | IN_DELETE_SELF) == 0);
    for (int i = 0; i < MANY; i++) {
        snprintf(sub, sizeof sub, "%s/n%d", dir, i);
        close(open(sub, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        unlink(sub);
    }
    rmdir(dir);
    while ((rc = weft_chan_recv(c, &change, sizeof change)) > 0)
        seen++;
    missed = weft_chan_missed(c);
    EXPECT(rc == 0);
    EXPECT(seen + missed == MANY + 2); /* the directory's own end, and IN_IGNORED */
    return 0;
}

START_TEST(who_lags_is_told_how_many_were_missed)
{
    run_everywhere(lag);
}
END_TEST

static void *churn(void *stop)
{
    while (!atomic_load((atomic_int *)stop)) {
        touch(file);
        unlink(file);
    }
    return NULL;
}

static int come_and_go(void *arg)
{
    (void)arg;
    atomic_int stop = 0;
    weft_change change;
    int rc = 0;
    pthread_t t = thread_start(churn, &stop);
    for (int i = 0; i < fewer(20, SCALED(100, 50, 30)) && rc >= 0; i++) {
        weft_chan *c = NULL;
        if ((rc = weft_fs_watch(&c, dir, IN_CREATE | IN_DELETE)) == 0 && i % 3)
            rc = weft_chan_recv(c, &change, sizeof change);
        weft_chan_destroy(&c);
    }
    atomic_store(&stop, 1);
    pthread_join(t, NULL);
    return rc < 0 ? rc : 0;
}

START_TEST(watches_come_and_go_while_changes_come)
{
    run_everywhere(come_and_go);
}
END_TEST

static int leave_waiting(void *arg)
{
    (void)arg;
    weft_chan *c = NULL, *none = NULL;
    weft_change change;
    EXPECT(weft_fs_watch(&c, dir, IN_CREATE) == 0);
    weft_scope s;
    weft_scope_begin(&s, weft_ms(2));
    int rc = weft_scope_end(&s, weft_chan_recv(c, &change, sizeof change));
    touch(file); /* it was not lost to who has left */
    int next = weft_chan_recv(c, &change, sizeof change);
    weft_chan_destroy(&c);
    EXPECT(rc == -ETIMEDOUT && next == 1);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    rc = weft_fs_watch(&none, dir, IN_CREATE);
    weft_ignore(weft_scope_end(&s, 0));
    EXPECT(rc == -ECANCELED && !none);
    return 0;
}

START_TEST(who_leaves_loses_no_change)
{
    run_everywhere(leave_waiting);
}
END_TEST

/* A forked child keeps the descriptor of a watch that ends here: the kernel goes on to tell of it. */
static int end_beside_a_child(void *arg)
{
    (void)arg;
    weft_chan *a = NULL, *b WEFT_AUTO(weft_chan_destroy) = NULL;
    weft_change change;
    int told[2], status = -1, fds, all = 1;
    char c;
    EXPECT(pipe2(told, O_CLOEXEC) == 0);
    EXPECT(weft_fs_watch(&a, dir, IN_CREATE) == 0 && weft_fs_watch(&b, dir, IN_CREATE) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(told[1]);
        _exit(sys_read(told[0], &c, 1));
    }
    close(told[0]);
    fds = descriptors_now();
    weft_chan_destroy(&a);
    EXPECT(descriptors_back_to(fds - 1) == fds - 1);
    for (int i = 0; i < 20; i++) {
        touch(file);
        all = all && weft_chan_recv(b, &change, sizeof change) == 1;
        unlink(file);
    }
    close(told[1]);
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    return all ? 0 : -EPROTO;
}

START_TEST(a_forked_child_does_not_keep_a_watch)
{
    run_everywhere(end_beside_a_child);
}
END_TEST

/* Whatever the moment of the cancel, a watch that was made too late is ended. */
static int watch_within(void *arg)
{
    (void)arg;
    for (int i = 0; i < 30; i++) {
        weft_chan *c = NULL;
        weft_scope s;
        weft_scope_begin(&s, weft_us(i * 5));
        int rc = weft_scope_end(&s, weft_fs_watch(&c, dir, IN_CREATE));
        EXPECT(rc == 0 || rc == -ETIMEDOUT);
        EXPECT((rc == 0) == (c != NULL));
        weft_chan_destroy(&c);
    }
    return 0;
}

START_TEST(a_watch_that_comes_too_late_is_ended)
{
    run_everywhere(watch_within);
}
END_TEST

static int meet_errors(void *arg)
{
    (void)arg;
    weft_chan *c = NULL;
    EXPECT(weft_fs_watch(NULL, dir, IN_CREATE) == -EINVAL && weft_fs_watch(&c, NULL, IN_CREATE) == -EINVAL);
    EXPECT(weft_fs_watch(&c, dir, 0) == -EINVAL && weft_fs_watch(&c, file, IN_CREATE) == -ENOENT && !c);
    return 0;
}

START_TEST(errors_are_the_kernels)
{
    run_everywhere(meet_errors);
}
END_TEST

static int watch_with_fault(void *arg)
{
    const int *at = arg;
    enum weft__fault_kind kind = at[0] ? WEFT__FAULT_THREAD : WEFT__FAULT_ALLOC;
    weft_chan *c = NULL;
    struct stat st;
    weft_ignore(weft_fs_stat(dir, &st)); /* so that the lane's thread is there */
    weft__fault_set(kind, at[1], 1, at[0] ? -EAGAIN : -ENOMEM);
    int rc = weft_fs_watch(&c, dir, IN_CREATE);
    bool failed = weft__fault_failed(kind) > 0;
    weft__fault_clear();
    EXPECT((rc == 0) == (c != NULL));
    weft_chan_destroy(&c);
    return rc < 0 && failed ? 1 : rc < 0 ? rc : failed ? 2 : 0; /* a second thread of the lane is not needed */
}

START_TEST(each_allocation_may_fail)
{
    dir_make();
    int fds = descriptors_now();
    for (int kind = 0; kind < 2; kind++) {
        int rc = 1, n = 0;
        for (int at[2] = { kind, 1 }; rc != 0; at[1]++, n++) {
            rc = weft_run(watch_with_fault, at, QUIETLY_ON(1));
            ck_assert_int_ge(rc, 0);
            ck_assert_int_eq(descriptors_back_to(fds), fds);
        }
        ck_assert_int_ge(n, 2);
    }
    dir_remove();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *tc = add_case(s, "changes");
    tcase_add_test(tc, changes_in_a_directory_are_told_in_order);
    tcase_add_test(tc, the_end_of_what_is_watched_closes_the_channel);
    tcase_add_test(tc, a_closed_channel_ends_its_watch_alone);
    tcase_add_test(tc, who_lags_is_told_how_many_were_missed);
    tcase_add_test(tc, watches_come_and_go_while_changes_come);
    tc = add_case(s, "trouble");
    tcase_add_test(tc, who_leaves_loses_no_change);
    tcase_add_test(tc, a_watch_that_comes_too_late_is_ended);
    tcase_add_test(tc, a_forked_child_does_not_keep_a_watch);
    tcase_add_test(tc, errors_are_the_kernels);
    tcase_add_test(tc, each_allocation_may_fail);
    return run_suite(s);
}
