/* fs_test.c - files and directories: fs.h, os/fs.c.
 * The files lie in a directory of each test's own, which has to be empty at the end but for what the test expects there. */
#include "support.h"

#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/fault.h"

static const int worker_counts[] = { 1, 2, 4 };

/* -- a directory -- */

static char dir[64];

static void dir_make(void)
{
    snprintf(dir, sizeof dir, "/tmp/weft-fs-XXXXXX");
    if (!mkdtemp(dir))
        abort();
}

/* One task at a time: four of them are good at once. */
NOINLINE static const char *in_dir(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static int dir_entries(void)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d)
        closedir(d);
    return n;
}

static void dir_remove(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

NOINLINE static void put_plainly(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        abort();
}

/* In runtimes of each size, and on a plain thread; nothing may be left open. */
static void run_everywhere(weft_fn *fn)
{
    for (int i = 0; i <= COUNT(worker_counts); i++) {
        dir_make();
        int fds = descriptors_now();
        int rc = i < COUNT(worker_counts) ? weft_run(fn, NULL, QUIETLY_ON(worker_counts[i])) : fn(NULL);
        ck_assert_int_eq(descriptors_now(), fds);
        dir_remove();
        AS_EXPECTED_IN(rc, i);
    }
}

/* -- what each call does -- */

static int use_a_file(void *arg)
{
    (void)arg;
    char buf[32] = { 0 };
    struct stat st;
    int fd = weft_fs_open(in_dir("a"), O_RDWR | O_CREAT | O_EXCL, 0640);
    EXPECT(fd >= 0);
    EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    EXPECT(weft_fs_pwrite(fd, "hello world", 11, 0) == 11);
    EXPECT(weft_fs_pwrite(fd, "there", 5, 6) == 5);
    EXPECT(weft_fs_sync(fd) == 0);
    EXPECT(weft_fs_pread(fd, buf, 5, 0) == 5 && memcmp(buf, "hello", 5) == 0);
    EXPECT(weft_fs_pread(fd, buf, sizeof buf, 6) == 5 && memcmp(buf, "there", 5) == 0);
    EXPECT(weft_fs_pread(fd, buf, sizeof buf, 11) == 0);
    EXPECT(weft_fs_pread(fd, buf, 0, 0) == 0);
    EXPECT(weft_read(fd, buf, 4) == 4 && memcmp(buf, "hell", 4) == 0); /* the position was not moved */
    EXPECT(weft_write(fd, "OO", 2) == 2);
    EXPECT(weft_fs_pread(fd, buf, 6, 0) == 6 && memcmp(buf, "hellOO", 6) == 0);
    EXPECT(weft_close(fd) == 0);
    EXPECT(weft_fs_pread(fd, buf, 1, 0) == -EBADF);
    EXPECT(weft_fs_stat(in_dir("a"), &st) == 0 && st.st_size == 11 && (st.st_mode & 0777) == 0640);
    EXPECT(weft_fs_rename(in_dir("a"), in_dir("b")) == 0);
    EXPECT(weft_fs_stat(in_dir("a"), &st) == -ENOENT);
    EXPECT(weft_fs_mkdir(in_dir("d"), 0700) == 0 && weft_fs_mkdir(in_dir("d"), 0700) == -EEXIST);
    EXPECT(weft_fs_rename(in_dir("b"), in_dir("d/b")) == 0);
    EXPECT(weft_fs_unlink(in_dir("d/b")) == 0 && weft_fs_unlink(in_dir("d/b")) == -ENOENT);
    return 0;
}

START_TEST(a_file_is_written_and_read_at_places)
{
    run_everywhere(use_a_file);
}
END_TEST

static int use_temp(void *arg)
{
    (void)arg;
    char a[128], b[128], bad[] = "/tmp/weft-no-template", missing[] = "/nowhere/at/all/XXXXXX";
    struct stat st;
    snprintf(a, sizeof a, "%s", in_dir("t-XXXXXX"));
    snprintf(b, sizeof b, "%s", in_dir("t-XXXXXX"));
    int fa = weft_fs_temp(a), fb = weft_fs_temp(b);
    EXPECT(fa >= 0 && fb >= 0 && strcmp(a, b) != 0 && !strstr(a, "XXXXXX"));
    EXPECT(stat(a, &st) == 0 && (st.st_mode & 0777) == 0600);
    EXPECT(weft_close(fa) == 0 && weft_close(fb) == 0);
    EXPECT(weft_fs_temp(bad) == -EINVAL && strcmp(bad, "/tmp/weft-no-template") == 0);
    EXPECT(weft_fs_temp(missing) == -ENOENT && strcmp(missing, "/nowhere/at/all/XXXXXX") == 0);
    EXPECT(dir_entries() == 2);
    return 0;
}

START_TEST(a_temporary_file_has_a_name_of_its_own)
{
    run_everywhere(use_temp);
}
END_TEST

static int store_and_load(void *arg)
{
    (void)arg;
    static char big[300000];
    char *data WEFT_AUTO(weft_free_auto) = NULL;
    size_t n = 0;
    struct stat st;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7);
    EXPECT(weft_fs_store(in_dir("s"), "one", 3, 0600) == 0);
    EXPECT(stat(in_dir("s"), &st) == 0 && (st.st_mode & 0777) == 0600);
    EXPECT(weft_fs_load(in_dir("s"), &data, &n) == 0 && n == 3 && strcmp(data, "one") == 0);
    weft_free_auto(&data);
    EXPECT(weft_fs_store(in_dir("s"), big, sizeof big, 0644) == 0);
    EXPECT(weft_fs_load(in_dir("s"), &data, &n) == 0 && n == sizeof big && memcmp(data, big, n) == 0);
    EXPECT(data[n] == 0);
    weft_free_auto(&data);
    EXPECT(weft_fs_store(in_dir("s"), NULL, 0, 0644) == 0);
    EXPECT(weft_fs_load(in_dir("s"), &data, NULL) == 0 && data[0] == 0);
    EXPECT(dir_entries() == 1);
    return 0;
}

START_TEST(a_file_is_stored_and_loaded_whole)
{
    run_everywhere(store_and_load);
}
END_TEST

static int load_unsized(void *arg)
{
    (void)arg;
    char *data WEFT_AUTO(weft_free_auto) = NULL;
    size_t n = 0;
    EXPECT(weft_fs_load("/proc/self/status", &data, &n) == 0 && n > 100 && strlen(data) == n);
    weft_free_auto(&data);
    EXPECT(weft_fs_load("/dev/zero", &data, &n) == -EFBIG && !data);
    EXPECT(weft_fs_load("/dev/null", &data, &n) == 0 && n == 0);
    return 0;
}

START_TEST(what_tells_no_size_is_loaded_up_to_a_bound)
{
    run_everywhere(load_unsized);
}
END_TEST

/* -- directories -- */

static int count_entries_of(const char *path, int *types, int *wrong)
{
    weft_gen *g = NULL;
    weft_entry e;
    int n = 0, rc = weft_fs_list(&g, path);
    if (rc < 0)
        return rc;
    while ((rc = weft_gen_next(g, &e, sizeof e)) > 0) {
        n++;
        *types += e.type == DT_DIR || e.type == DT_UNKNOWN;
        *wrong += strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0;
    }
    weft_gen_destroy(&g);
    return rc < 0 ? rc : n;
}

static int list_dirs(void *arg)
{
    (void)arg;
    int dirs = 0, wrong = 0, many = SCALED(1500, 1500, 700);
    char name[32];
    EXPECT(count_entries_of(dir, &dirs, &wrong) == 0);
    EXPECT(mkdir(in_dir("sub"), 0700) == 0);
    for (int i = 0; i < many; i++) { /* more than a batch has room for: of these, 680 */
        snprintf(name, sizeof name, "a-name-of-some-length-%05d", i);
        close(open(in_dir(name), O_CREAT | O_WRONLY, 0600));
    }
    EXPECT(count_entries_of(dir, &dirs, &wrong) == many + 1);
    EXPECT(dirs >= 1 && wrong == 0);
    EXPECT(count_entries_of(in_dir("not there"), &dirs, &wrong) == -ENOENT);
    EXPECT(count_entries_of("/dev/null", &dirs, &wrong) == -ENOTDIR);
    return 0;
}

START_TEST(a_directory_is_listed_once_and_whole)
{
    run_everywhere(list_dirs);
}
END_TEST

static int list_in_part(void *arg)
{
    (void)arg;
    weft_gen *g = NULL, *h = NULL;
    weft_entry e;
    put_plainly(in_dir("a"), "");
    put_plainly(in_dir("b"), "");
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = weft_fs_list(&g, dir), again = weft_fs_list(&h, dir);
    int one = rc == 0 ? weft_gen_next(g, &e, sizeof e) : 0;
    int end = weft_scope_end(&s, 0); /* closes both, the second unread */
    EXPECT(rc == 0 && again == 0 && one == 1 && end == 0);
    EXPECT(weft_fs_list(&g, dir) == 0);
    EXPECT(weft_gen_next(g, &e, sizeof e) == 1);
    EXPECT(weft_gen_throw(g, -EPROTO, &e, sizeof e) == -EPROTO);
    weft_gen_destroy(&g);
    return 0;
}

START_TEST(a_list_that_is_not_read_to_its_end_is_closed)
{
    run_everywhere(list_in_part);
}
END_TEST

/* -- trouble -- */

static int meet_errors(void *arg)
{
    (void)arg;
    char *data = NULL, name[300], longer[PATH_MAX + 50];
    struct stat st;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 3] = '/';
    longer[sizeof longer - 1] = 0;
    EXPECT(weft_fs_open(in_dir("no"), O_RDONLY, 0) == -ENOENT);
    EXPECT(weft_fs_open(NULL, O_RDONLY, 0) == -EINVAL);
    EXPECT(weft_fs_load(in_dir("no"), &data, NULL) == -ENOENT && !data);
    EXPECT(weft_fs_load(dir, &data, NULL) == -EISDIR && !data);
    EXPECT(weft_fs_load(NULL, &data, NULL) == -EINVAL && weft_fs_load(dir, NULL, NULL) == -EINVAL);
    EXPECT(weft_fs_stat(in_dir("no"), &st) == -ENOENT && weft_fs_stat(dir, NULL) == -EINVAL);
    EXPECT(weft_fs_pread(-1, name, 1, 0) == -EBADF && weft_fs_sync(1 << 20) == -EBADF);
    EXPECT(weft_fs_pread(0, NULL, 1, 0) == -EINVAL && weft_fs_pread(0, name, 1, UINT64_MAX) == -EINVAL);
    EXPECT(weft_fs_store("", "x", 1, 0600) == -ENOENT && weft_fs_store(dir, NULL, 1, 0600) == -EINVAL);
    EXPECT(weft_fs_store(in_dir("no/x"), "x", 1, 0600) == -ENOENT);
    EXPECT(weft_fs_store(in_dir(""), "x", 1, 0600) == -EISDIR);
    EXPECT(weft_fs_store(longer, "x", 1, 0600) == -ENAMETOOLONG);
    EXPECT(weft_fs_store(in_dir(name), "x", 1, 0600) == -ENAMETOOLONG); /* of the rename, at the last step */
    EXPECT(mkdir(in_dir("d"), 0700) == 0 && weft_fs_store(in_dir("d"), "x", 1, 0600) == -EISDIR);
    EXPECT(weft_fs_rename(NULL, dir) == -EINVAL && weft_fs_unlink(NULL) == -EINVAL && weft_fs_mkdir(NULL, 0) == -EINVAL);
    EXPECT(weft_fs_temp(NULL) == -EINVAL && weft_fs_list(NULL, dir) == -EINVAL);
    EXPECT(dir_entries() == 1);
    int fd = weft_fs_open("/dev/full", O_WRONLY, 0);
    EXPECT(fd >= 0 && weft_fs_pwrite(fd, "x", 1, 0) == -ENOSPC && weft_close(fd) == 0);
    return 0;
}

START_TEST(errors_are_the_kernels_and_leave_nothing_behind)
{
    run_everywhere(meet_errors);
}
END_TEST

/* Beyond the limit of a file's size, whose signal lanes block. */
static int meet_the_limit(void *arg)
{
    (void)arg;
    static char page[4096];
    EXPECT(weft_fs_store(in_dir("old"), "old", 3, 0600) == 0);
    EXPECT(weft_fs_store(in_dir("old"), page, sizeof page, 0600) == -EFBIG);
    int fd = weft_fs_open(in_dir("old"), O_RDWR, 0);
    EXPECT(fd >= 0);
    EXPECT(weft_fs_pread(fd, page, sizeof page, 0) == 3 && memcmp(page, "old", 3) == 0);
    EXPECT(weft_fs_pwrite(fd, page, sizeof page, 0) == 1000);
    EXPECT(weft_fs_pwrite(fd, page, sizeof page, 1000) == -EFBIG);
    EXPECT(weft_close(fd) == 0 && dir_entries() == 1);
    return 0;
}

START_TEST(a_full_disk_leaves_the_old_file)
{
    struct rlimit was;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    dir_make();
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 1000, was.rlim_max }), 0);
    int rc = weft_run(meet_the_limit, NULL, ON(2));
    setrlimit(RLIMIT_FSIZE, &was);
    dir_remove();
    ck_assert_int_eq(rc, 0);
}
END_TEST

static int without_descriptors(void *arg)
{
    (void)arg;
    struct rlimit was, none;
    char *data = NULL, temp[128];
    weft_gen *g = NULL;
    put_plainly(in_dir("f"), "x");
    snprintf(temp, sizeof temp, "%s", in_dir("XXXXXX"));
    getrlimit(RLIMIT_NOFILE, &was);
    none = was;
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    none.rlim_cur = (rlim_t)next; /* all below are taken */
    EXPECT(weft_fs_load(in_dir("f"), &data, NULL) == 0); /* the lane's thread is there */
    weft_free_auto(&data);
    EXPECT(setrlimit(RLIMIT_NOFILE, &none) == 0);
    int rc[] = { weft_fs_open(in_dir("f"), O_RDONLY, 0), weft_fs_load(in_dir("f"), &data, NULL),
        weft_fs_store(in_dir("f"), "y", 1, 0600), weft_fs_temp(temp), weft_fs_list(&g, dir) };
    setrlimit(RLIMIT_NOFILE, &was);
    for (int i = 0; i < COUNT(rc); i++)
        EXPECT(rc[i] == -EMFILE);
    EXPECT(!data && !g && dir_entries() == 1);
    return 0;
}

START_TEST(no_descriptor_is_left)
{
    dir_make();
    int fds = descriptors_now(), rc = weft_run(without_descriptors, NULL, QUIETLY_ON(2));
    ck_assert_int_eq(descriptors_now(), fds);
    dir_remove();
    AS_EXPECTED(rc);
}
END_TEST

/* Everything once, in a task: the first failure, or 0. */
static int use_all(void *arg)
{
    (void)arg;
    char *data WEFT_AUTO(weft_free_auto) = NULL, temp[128], c;
    weft_gen *g WEFT_AUTO(weft_gen_destroy) = NULL;
    weft_entry e;
    struct stat st;
    snprintf(temp, sizeof temp, "%s", in_dir("XXXXXX"));
    int rc = weft_fs_store(in_dir("all"), "x", 1, 0600);
    if (rc < 0)
        return rc;
    int fd WEFT_AUTO(weft_close_auto) = weft_fs_open(in_dir("all"), O_RDWR, 0);
    if (fd < 0)
        return fd;
    if ((rc = weft_fs_pread(fd, &c, 1, 0)) < 0 || (rc = weft_fs_pwrite(fd, &c, 1, 0)) < 0 || (rc = weft_fs_sync(fd)) < 0 ||
            (rc = weft_fs_stat(in_dir("all"), &st)) < 0 || (rc = weft_fs_load(in_dir("all"), &data, NULL)) < 0)
        return rc;
    if ((rc = weft_fs_list(&g, dir)) < 0)
        return rc;
    while ((rc = weft_gen_next(g, &e, sizeof e)) > 0)
        continue;
    int made WEFT_AUTO(weft_close_auto) = rc < 0 ? rc : weft_fs_temp(temp);
    if (made < 0)
        return made;
    rc = weft_fs_unlink(temp);
    return rc < 0 ? rc : weft_fs_unlink(in_dir("all"));
}

static int use_all_with_fault(void *arg)
{
    const int *at = arg;
    weft_ignore(weft_fs_unlink(in_dir("none"))); /* so that threads and frames are there */
    weft__fault_set(at[0] ? WEFT__FAULT_THREAD : WEFT__FAULT_ALLOC, at[1], 1, at[0] ? -EAGAIN : -ENOMEM);
    int rc = use_all(NULL);
    bool failed = weft__fault_failed(at[0] ? WEFT__FAULT_THREAD : WEFT__FAULT_ALLOC) > 0;
    weft__fault_clear();
    return rc < 0 && failed ? 1 : rc < 0 ? rc : failed ? 2 : 0;
}

START_TEST(each_allocation_may_fail)
{
    dir_make();
    int fds = descriptors_now(), rc = 1, n = 0;
    for (int at[2] = { 0, 1 }; rc != 0; at[1]++, n++) {
        rc = weft_run(use_all_with_fault, at, QUIETLY_ON(1));
        ck_assert_int_ge(rc, 0);
        ck_assert_int_eq(descriptors_now(), fds);
        /* What was renamed into place may be left by a later failure, and what could not be unlinked; no temporary of store's. */
        unlink(in_dir("all"));
        DIR *d = opendir(dir);
        for (struct dirent *e; (e = readdir(d));)
            ck_assert(strncmp(e->d_name, ".weft-", 6) != 0);
        closedir(d);
    }
    ck_assert_int_ge(n, 8);
    dir_remove();
}
END_TEST

/* -- leaving -- */

struct leaving {
    const char *path;
    atomic_int entered, left, ended;
    int rc[16];
};

/* Refused on entry, each of them; nothing is made, and nothing taken. */
static int call_all_cancelled(void *arg)
{
    (void)arg;
    char *data = NULL, temp[128], c;
    weft_gen *g = NULL;
    struct stat st;
    snprintf(temp, sizeof temp, "%s", in_dir("XXXXXX"));
    int fd = open(in_dir("f"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    int rc[] = { weft_fs_open(in_dir("new"), O_RDWR | O_CREAT, 0600), weft_fs_pread(fd, &c, 1, 0),
        weft_fs_pwrite(fd, "x", 1, 0), weft_fs_sync(fd), weft_fs_stat(in_dir("f"), &st), weft_fs_rename(in_dir("f"), in_dir("g")),
        weft_fs_unlink(in_dir("f")), weft_fs_mkdir(in_dir("d"), 0700), weft_fs_temp(temp), weft_fs_load(in_dir("f"), &data, NULL),
        weft_fs_store(in_dir("f"), "x", 1, 0600), weft_fs_list(&g, dir) };
    weft_ignore(weft_scope_end(&s, 0));
    close(fd);
    for (int i = 0; i < COUNT(rc); i++)
        EXPECT(rc[i] == -ECANCELED);
    EXPECT(dir_entries() == 1 && !data && !g && strstr(temp, "XXXXXX"));
    EXPECT(stat(in_dir("f"), &st) == 0 && st.st_size == 0);
    return 0;
}

START_TEST(who_was_told_to_leave_is_refused)
{
    run_everywhere(call_all_cancelled);
}
END_TEST

/* A pipe with a name keeps an open waiting for as long as the test likes. */
static int open_pipe(void *arg)
{
    struct leaving *l = arg;
    atomic_fetch_add(&l->entered, 1);
    int rc = weft_fs_open(l->path, O_RDONLY, 0);
    if (rc >= 0)
        weft_close(rc);
    l->rc[0] = rc;
    atomic_fetch_add(&l->left, 1);
    return 0;
}

static int load_pipe(void *arg)
{
    struct leaving *l = arg;
    char *data = NULL;
    atomic_fetch_add(&l->entered, 1);
    l->rc[1] = weft_fs_load(l->path, &data, NULL);
    weft_free(data);
    atomic_fetch_add(&l->left, 1);
    return 0;
}

static bool runs_two(void)
{
    weft_runtime_stats s;
    for (int64_t end = weft_after(LIMIT); weft_now() < end; weft_ignore(weft_yield()))
        if (weft_stats_all(NULL, &s) == 0 && s.files_running == 2 && s.files_queued == 0)
            return true;
    return false;
}

static int leave_late_opens(void *arg)
{
    struct leaving *l = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, open_pipe, l);
    weft_spawn(&s, load_pipe, l);
    bool there = runs_two();
    weft_scope_cancel(&s, NULL);
    int rc = weft_scope_end(&s, 0); /* both have left before anybody has opened the other end */
    return there ? rc : -ETIME; /* the run's end awaits the late calls */
}

/* Opens the other end and closes it, again and again: one of the two may come to its open when the other has gone. */
static void *let_both_go(void *arg)
{
    struct leaving *l = arg;
    wait_for(&l->left, 2);
    while (!atomic_load(&l->ended)) {
        int fd = open(l->path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0)
            close(fd);
        usleep(1000);
    }
    return NULL;
}

START_TEST(what_is_opened_too_late_is_closed)
{
    for (int i = 0; i < COUNT(worker_counts); i++) {
        dir_make();
        struct leaving l = { .path = in_dir("fifo") };
        ck_assert_int_eq(mkfifo(l.path, 0600), 0);
        int fds = descriptors_now();
        pthread_t other = thread_start(let_both_go, &l);
        ck_assert_int_eq(weft_run(leave_late_opens, &l, QUIETLY_ON(worker_counts[i])), 0);
        atomic_store(&l.ended, 1);
        pthread_join(other, NULL);
        ck_assert_int_eq(l.rc[0], -ECANCELED);
        ck_assert_int_eq(l.rc[1], -ECANCELED);
        ck_assert_int_eq(descriptors_now(), fds);
        dir_remove();
    }
}
END_TEST

/* Whenever the cancel comes: nothing is left open, and a stored file is the old or the new one. */
static int work_until_cancelled(void *arg)
{
    struct leaving *l = arg;
    char *data, temp[128];
    int rc = 0;
    atomic_fetch_add(&l->entered, 1);
    for (int i = 0; rc >= 0; i++) {
        data = NULL;
        snprintf(temp, sizeof temp, "%s/XXXXXX", dir);
        rc = weft_fs_store(l->path, i % 2 ? "odd" : "even", i % 2 ? 3 : 4, 0600);
        if (rc >= 0)
            rc = weft_fs_load(l->path, &data, NULL);
        if (rc >= 0 && strcmp(data, "odd") != 0 && strcmp(data, "even") != 0)
            rc = -EPROTO;
        weft_free(data);
        int fd = rc < 0 ? rc : (rc = weft_fs_temp(temp));
        if (fd >= 0) {
            unlink(temp);
            weft_close(fd);
        }
    }
    return rc;
}

static int cancel_at_any_time(void *arg)
{
    struct leaving *l = arg;
    for (int i = 0; i < fewer(6, SCALED(12, 8, 6)); i++) {
        weft_scope s;
        weft_scope_begin(&s, weft_us(200 + i * 400));
        for (int k = 0; k < 4; k++)
            weft_spawn(&s, work_until_cancelled, l);
        int rc = weft_scope_end(&s, 0);
        if (rc != -ETIMEDOUT)
            return rc < 0 ? rc : -EPROTO;
    }
    return 0;
}

START_TEST(a_deadline_at_any_time_leaves_nothing_behind)
{
    for (int i = 0; i < COUNT(worker_counts); i++) {
        dir_make();
        struct leaving l = { .path = in_dir("s") };
        put_plainly(l.path, "even");
        int fds = descriptors_now();
        ck_assert_int_eq(weft_run(cancel_at_any_time, &l, QUIETLY_ON(worker_counts[i])), 0);
        ck_assert_int_eq(descriptors_now(), fds);
        ck_assert_int_eq(dir_entries(), 1);
        dir_remove();
    }
}
END_TEST

/* -- beside other work -- */

static int read_some(void *arg)
{
    int fd = *(const int *)arg;
    char page[4096];
    for (uint64_t i = 0; i < 40; i++) {
        memset(page, 0, sizeof page);
        int rc = weft_fs_pread(fd, page, sizeof page, i * sizeof page);
        if (rc != (int)sizeof page || page[0] != (char)('a' + i % 20) || page[4095] != page[0])
            return rc < 0 ? rc : -EPROTO;
    }
    return 0;
}

static int read_by_many(void *arg)
{
    (void)arg;
    char page[4096];
    int fd = weft_fs_open(in_dir("pages"), O_RDWR | O_CREAT, 0600);
    EXPECT(fd >= 0);
    for (uint64_t i = 0; i < 40; i++) {
        memset(page, (int)('a' + i % 20), sizeof page);
        EXPECT(weft_fs_pwrite(fd, page, sizeof page, i * sizeof page) == (int)sizeof page);
    }
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 64; i++)
        weft_spawn(&s, read_some, &fd);
    int rc = weft_scope_end(&s, 0);
    EXPECT(weft_close(fd) == 0);
    return rc;
}

START_TEST(many_tasks_read_one_file)
{
    for (int i = 0; i < COUNT(worker_counts); i++) {
        dir_make();
        ck_assert_int_eq(weft_run(read_by_many, NULL, ON(worker_counts[i])), 0);
        dir_remove();
    }
}
END_TEST

/* Much, though it is in memory, is copied elsewhere: the one worker runs others meanwhile. It may be copied before the
 * worker has come to its next task, if the processor is taken from it just then; not each time. */
static int count_turn(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return 0;
}

static int read_much(void *arg)
{
    (void)arg;
    size_t n = 4 << 20;
    char *data = calloc(1, n);
    int64_t end = weft_after(LIMIT);
    bool seen = false;
    EXPECT(data && weft_fs_store(in_dir("much"), data, n, 0600) == 0);
    int fd = weft_fs_open(in_dir("much"), O_RDONLY, 0);
    EXPECT(fd >= 0 && weft_fs_pread(fd, data, n, 0) == (int)n);
    while (!seen && weft_now() < end) {
        atomic_int turns = 0;
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_spawn(&s, count_turn, &turns);
        int rc = weft_fs_pread(fd, data, n, 0);
        seen = atomic_load(&turns) == 1;
        EXPECT(weft_scope_end(&s, 0) == 0 && rc == (int)n);
    }
    EXPECT(seen && weft_close(fd) == 0);
    free(data);
    return 0;
}

START_TEST(much_that_is_in_memory_does_not_keep_the_worker)
{
    dir_make();
    int rc = weft_run(read_much, NULL, ON(1));
    dir_remove();
    AS_EXPECTED(rc);
}
END_TEST

/* -- a slow disk: B-063 -- */

enum { READ_MS = 20, READERS = 16, WAKES = 100 };

static atomic_int disk_is_slow, slow_reads;

/* Both stand in front of libc's: while the disk is slow nothing is in memory, and a read keeps its thread. */
ssize_t preadv2(int fd, const struct iovec *v, int n, off_t at, int flags)
{
    if (atomic_load(&disk_is_slow) && (flags & RWF_NOWAIT)) {
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_preadv2, fd, v, (long)n, (long)at, 0L, (long)flags);
}

ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
    if (atomic_load(&disk_is_slow)) {
        atomic_fetch_add(&slow_reads, 1);
        usleep(1000 * READ_MS);
    }
    return syscall(SYS_pread64, fd, buf, n, (long)at);
}

struct beside {
    int fd, woken, late; /* late: by half of what a read takes */
    atomic_int stop;
};

static int read_slowly(void *arg)
{
    struct beside *b = arg;
    char page[4096];
    while (!atomic_load(&b->stop)) {
        memset(page, 0, sizeof page);
        EXPECT(weft_fs_pread(b->fd, page, sizeof page, 0) == (int)sizeof page);
        EXPECT(page[0] == 'x' && page[4095] == 'x');
    }
    return 0;
}

static int wake_beside_reads(void *arg)
{
    struct beside *b = arg;
    static char page[4096];
    weft_scope s;
    b->woken = b->late = 0;
    atomic_store(&b->stop, 0);
    atomic_store(&slow_reads, 0);
    memset(page, 'x', sizeof page);
    EXPECT(weft_fs_store(in_dir("slow"), page, sizeof page, 0600) == 0);
    EXPECT((b->fd = weft_fs_open(in_dir("slow"), O_RDONLY, 0)) >= 0);
    atomic_store(&disk_is_slow, 1);
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < READERS; i++)
        weft_spawn(&s, read_slowly, b);
    int rc = wait_for(&slow_reads, 1) ? 0 : -ETIME;
    while (rc == 0 && b->woken < WAKES && b->late <= WAKES / 100) {
        int64_t due = weft_after(weft_us(500));
        rc = weft_sleep_until(due);
        b->late += weft_now() - due >= weft_ms(READ_MS / 2);
        b->woken++;
    }
    atomic_store(&b->stop, 1);
    rc = weft_scope_end(&s, rc);
    atomic_store(&disk_is_slow, 0);
    EXPECT(weft_close(b->fd) == 0);
    return rc;
}

/* 99 of 100 are in time. The machine's delays are no reads: once it has to be so. */
START_TEST(timers_are_in_time_beside_a_slow_disk)
{
    struct beside b = { .late = WAKES };
    bool timed = !TSAN && !ASAN && !chaos();
    int64_t end = weft_after(LIMIT);
    do {
        dir_make();
        int rc = weft_run(wake_beside_reads, &b, ON(_i + 1));
        dir_remove();
        AS_EXPECTED(rc);
        ck_assert_int_gt(atomic_load(&slow_reads), 0);
    } while (timed && b.late > WAKES / 100 && weft_now() < end);
    if (timed)
        ck_assert_int_le(b.late, WAKES / 100);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fs");
    TCase *tc = add_case(s, "calls");
    tcase_add_test(tc, a_file_is_written_and_read_at_places);
    tcase_add_test(tc, a_temporary_file_has_a_name_of_its_own);
    tcase_add_test(tc, a_file_is_stored_and_loaded_whole);
    tcase_add_test(tc, what_tells_no_size_is_loaded_up_to_a_bound);
    tcase_add_test(tc, a_directory_is_listed_once_and_whole);
    tcase_add_test(tc, a_list_that_is_not_read_to_its_end_is_closed);
    tcase_add_test(tc, many_tasks_read_one_file);
    tcase_add_test(tc, much_that_is_in_memory_does_not_keep_the_worker);
    tcase_add_loop_test(tc, timers_are_in_time_beside_a_slow_disk, 0, 2);
    tc = add_case(s, "trouble");
    tcase_add_test(tc, errors_are_the_kernels_and_leave_nothing_behind);
    tcase_add_test(tc, a_full_disk_leaves_the_old_file);
    tcase_add_test(tc, no_descriptor_is_left);
    tcase_add_test(tc, each_allocation_may_fail);
    tc = add_case(s, "leaving");
    tcase_add_test(tc, who_was_told_to_leave_is_refused);
    tcase_add_test(tc, what_is_opened_too_late_is_closed);
    tcase_add_test(tc, a_deadline_at_any_time_leaves_nothing_behind);
    return run_suite(s);
}
