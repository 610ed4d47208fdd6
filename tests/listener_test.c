/* tests/listener_test.c - os/listener.c: the file of a Unix listener, and when it goes.
 *
 * listen(2) is the test's own: it looks at the file's permissions at the moment from which others can connect. */
#include "support.h"

#include <sys/stat.h>
#include <sys/un.h>

static char where[80]; /* "unix:" and the path */
static const char *const path = where + 5;
static int mode_at_listen, fail_listen;

int listen(int fd, int backlog)
{
    struct stat st;
    mode_at_listen = stat(path, &st) == 0 ? (int)(st.st_mode & 07777) : -1;
    if (fail_listen != 0) {
        errno = fail_listen;
        return -1;
    }
    return (int)syscall(SYS_listen, fd, backlog);
}

static void begin(void)
{
    snprintf(where, sizeof where, "unix:/tmp/weft-listener-test-%d", (int)getpid());
    unlink(path);
}

static void end(void)
{
    unlink(path);
}

static bool is_there(void)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static int listener(const weft_listen_options *o)
{
    int fd = weft_listen(where, o);
    ck_assert_int_ge(fd, 0);
    ck_assert(is_there());
    return fd;
}

static const weft_listen_options *keeping(void)
{
    static const weft_listen_options o = { .unix_keep = true };
    return &o;
}

/* A socket of others, bound to the path. */
static int bind_there(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

START_TEST(the_file_goes_with_the_listener)
{
    int fd = listener(NULL);
    ck_assert_int_eq(weft_close(fd), 0);
    ck_assert(!is_there());
    fd = listener(keeping());
    ck_assert_int_eq(weft_close(fd), 0);
    ck_assert(is_there());
    fd = listener(NULL); /* nobody listens there: it is replaced, and its successor goes */
    ck_assert_int_eq(weft_close(fd), 0);
    ck_assert(!is_there());
}
END_TEST

static int refuse(weft_stream *s, void *arg)
{
    (void)s, (void)arg;
    return 0;
}

static int serve_for_a_moment(void *arg)
{
    int *fd = arg;
    weft_scope s;
    weft_scope_begin(&s, weft_ms(1));
    int rc = weft_serve(*fd, refuse, NULL, NULL);
    rc = weft_scope_end(&s, rc);
    weft_ignore(weft_close(*fd));
    return rc == -ETIMEDOUT ? 0 : rc;
}

START_TEST(a_server_that_has_ended_and_is_closed_leaves_no_file)
{
    int fd = listener(NULL);
    ck_assert_int_eq(weft_run(serve_for_a_moment, &fd, ON(2)), 0);
    ck_assert(!is_there());
}
END_TEST

/* By device and inode: what has taken its place is not touched, be it a socket or not. */
START_TEST(a_successor_keeps_its_file)
{
    int fd = listener(NULL);
    char aside[100];
    snprintf(aside, sizeof aside, "%s.old", path); /* so that the inode is not used again */
    ck_assert_int_eq(rename(path, aside), 0);
    int other = bind_there();
    ck_assert_int_eq(weft_close(fd), 0);
    ck_assert(is_there());
    close(other);
    unlink(aside);
    unlink(path);
    fd = listener(NULL);
    ck_assert_int_eq(unlink(path), 0); /* others have removed it */
    ck_assert_int_eq(weft_close(fd), 0);
}
END_TEST

/* Who did not make it removes nothing. */
START_TEST(it_stays_in_a_forked_child_and_when_it_is_given_up)
{
    int fd = listener(NULL), status = 0;
    pid_t child = fork();
    if (child == 0) {
        int rc = weft_close(fd);
        _exit(rc == -ECHILD || rc == 0 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(is_there());
    ck_assert_int_eq(weft_fd_forget(fd), 0);
    ck_assert(is_there());
    close(fd);
    ck_assert(is_there());
}
END_TEST

/* The number was closed by others, and is something else's now. */
START_TEST(a_number_that_was_used_again_removes_nothing)
{
    int fd = listener(NULL), again = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(dup2(again, fd), fd);
    weft_ignore(weft_close(fd));
    ck_assert(is_there());
    close(again);
}
END_TEST

START_TEST(permissions_are_set_before_anybody_can_connect)
{
    static const unsigned modes[] = { 0600, 0666, 0620, 0777 };
    static const mode_t umasks[] = { 0, 077, 022 };
    for (int m = 0; m < COUNT(modes); m++) {
        for (int u = 0; u < COUNT(umasks); u++) {
            mode_t before = umask(umasks[u]);
            int fd = listener(&(weft_listen_options){ .unix_mode = modes[m] });
            mode_t kept = umask(before);
            ck_assert_int_eq(mode_at_listen, (int)modes[m]);
            ck_assert_int_eq(kept, umasks[u]);
            ck_assert_int_eq(weft_close(fd), 0);
        }
    }
}
END_TEST

START_TEST(a_listener_that_does_not_come_about_leaves_no_file)
{
    fail_listen = EADDRINUSE;
    int before = descriptors_now();
    ck_assert_int_eq(weft_listen(where, keeping()), -EADDRINUSE);
    ck_assert(!is_there());
    ck_assert_int_eq(descriptors_now(), before);
    fail_listen = 0;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("listener");
    TCase *tc = add_case(s, "the file");
    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_test(tc, the_file_goes_with_the_listener);
    tcase_add_test(tc, a_server_that_has_ended_and_is_closed_leaves_no_file);
    tcase_add_test(tc, a_successor_keeps_its_file);
    tcase_add_test(tc, it_stays_in_a_forked_child_and_when_it_is_given_up);
    tcase_add_test(tc, a_number_that_was_used_again_removes_nothing);
    tcase_add_test(tc, permissions_are_set_before_anybody_can_connect);
    tcase_add_test(tc, a_listener_that_does_not_come_about_leaves_no_file);
    return run_suite(s);
}
