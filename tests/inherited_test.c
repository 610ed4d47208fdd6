/* tests/inherited_test.c - what the process was started with: os/inherit.c. Each test is a process, so that the environment
 * is read anew; those that put something on the descriptors 3 and 4, which Check may use, are a child of it, which says on
 * standard error what was wrong. */
#include "support.h"

#include <sys/un.h>

#define MUST(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "line %d: %s\n", __LINE__, #cond);                                     \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void pretend(const char *fds, const char *names, long pid)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", pid);
    setenv("LISTEN_PID", text, 1);
    setenv("LISTEN_FDS", fds, 1);
    if (names)
        setenv("LISTEN_FDNAMES", names, 1);
}

/* A plain blocking listener on the number `at`. */
static void put_listener(int at)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    weft_addr a;
    MUST(weft_addr_parse(&a, "127.0.0.1:0") == 0);
    MUST(bind(fd, (const struct sockaddr *)&a.sa, a.len) == 0);
    MUST(listen(fd, 5) == 0);
    if (fd != at) {
        MUST(dup2(fd, at) == at);
        close(fd);
    }
}

static void listeners_are_taken_once_by_name_or_in_turn_child(void *arg)
{
    (void)arg;
    put_listener(3);
    put_listener(4);
    pretend("2", "http:admin", (long)getpid());
    MUST(weft_listen_inherited("adm") == -ENOENT);
    MUST(weft_listen_inherited("http:admin") == -ENOENT);
    MUST(weft_listen_inherited("admin") == 4);
    MUST(weft_listen_inherited("admin") == -ENOENT);
    MUST(weft_listen_inherited(NULL) == 3);
    MUST(weft_listen_inherited(NULL) == -ENOENT);
    MUST(fcntl(3, F_GETFD) == FD_CLOEXEC);
    MUST((fcntl(3, F_GETFL) & O_NONBLOCK) != 0);
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%d", port_of(4));
    int peer = plain_connect(where), fd = weft_accept(4);
    MUST(peer >= 0);
    MUST(fd >= 0);
}

START_TEST(listeners_are_taken_once_by_name_or_in_turn)
{
    struct death d = die(listeners_are_taken_once_by_name_or_in_turn_child, NULL);
    ck_assert_str_eq(d.text, "");
    ck_assert_int_eq(d.signal + d.status, 0);
}
END_TEST

static void what_is_no_listener_is_refused_child(void *arg)
{
    (void)arg;
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    MUST(dup2(pair[0], 4) == 4);
    int null = open("/dev/null", O_RDONLY);
    MUST(dup2(null, 3) == 3);
    pretend("2", "a:b", (long)getpid());
    MUST(weft_listen_inherited("a") == -ENOTSOCK);
    MUST(weft_listen_inherited("b") == -EINVAL);
}

START_TEST(what_is_no_listener_is_refused)
{
    struct death d = die(what_is_no_listener_is_refused_child, NULL);
    ck_assert_str_eq(d.text, "");
    ck_assert_int_eq(d.signal + d.status, 0);
}
END_TEST

START_TEST(the_environment_of_another_process_is_not_ours)
{
    pretend("1", NULL, (long)getpid() + 1);
    ck_assert_int_eq(weft_listen_inherited(NULL), -ENOENT);
}
END_TEST

START_TEST(whoever_asked_is_told_that_the_service_is_ready)
{
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    char name[64], got[16] = { 0 };
    unsetenv("NOTIFY_SOCKET");
    ck_assert_int_eq(weft_service_ready(), 0);
    int n = snprintf(name, sizeof name, "@weft-ready-%d", (int)getpid());
    memcpy(u.sun_path + 1, name + 1, (size_t)n - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&u, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    ck_assert_int_eq(weft_service_ready(), 1);
    ck_assert_int_eq(sys_read(fd, got, sizeof got), 7);
    ck_assert_str_eq(got, "READY=1");
    close(fd);
    ck_assert_int_eq(weft_service_ready(), -ECONNREFUSED);
    setenv("NOTIFY_SOCKET", "vsock:2:1", 1);
    ck_assert_int_eq(weft_service_ready(), -EAFNOSUPPORT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("inherited");
    TCase *tc = add_case(s, "inherited");
    if (!forking()) {
        fprintf(stderr, "inherited_test needs CK_FORK: the environment is read once\n");
        return 77;
    }
    tcase_add_test(tc, listeners_are_taken_once_by_name_or_in_turn);
    tcase_add_test(tc, what_is_no_listener_is_refused);
    tcase_add_test(tc, the_environment_of_another_process_is_not_ours);
    tcase_add_test(tc, whoever_asked_is_told_that_the_service_is_ready);
    return run_suite(s);
}
