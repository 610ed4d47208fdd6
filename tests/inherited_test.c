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

/* Where who asked listens: a name without a file. */
static int ask_for_state(void)
{
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    char name[64];
    int n = snprintf(name, sizeof name, "@weft-state-%d", (int)getpid()), fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    memcpy(u.sun_path + 1, name + 1, (size_t)n - 1);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&u, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static const char *heard(int fd)
{
    static char got[8192];
    ssize_t n = sys_read(fd, got, sizeof got - 1);
    got[n > 0 ? n : 0] = 0;
    return got;
}

static const char *const states[] = { "STOPPING=1", "WATCHDOG=1", "STATUS=three of five", "STATUS=", "STATUS=a=b",
    "READY=1\nSTATUS=up\nMAINPID=12", "READY=1\n", "X_1=y", "RELOADING=0", "RELOADING=1\nMONOTONIC_USEC=7" };

START_TEST(whoever_asked_is_told_how_the_service_does)
{
    int fd = ask_for_state();
    for (int i = 0; i < COUNT(states); i++) {
        ck_assert_int_eq(weft_service_notify(states[i]), 1);
        ck_assert_str_eq(heard(fd), states[i]);
    }
    close(fd);
    ck_assert_int_eq(weft_service_notify("STOPPING=1"), -ECONNREFUSED);
    unsetenv("NOTIFY_SOCKET");
    ck_assert_int_eq(weft_service_notify("STOPPING=1"), 0);
    setenv("NOTIFY_SOCKET", "", 1);
    ck_assert_int_eq(weft_service_notify("STOPPING=1"), 0);
}
END_TEST

static const char *const wheres[] = { "@", "/", "x", "/tmp/none-of-weft" };
static const int wrong_there[] = { -EINVAL, -EINVAL, -EAFNOSUPPORT, -ENOENT };

START_TEST(who_cannot_be_told_is_an_error)
{
    char longest[200] = "@";
    memset(longest + 1, 'a', sizeof longest - 2);
    longest[sizeof longest - 1] = 0;
    setenv("NOTIFY_SOCKET", longest, 1);
    ck_assert_int_eq(weft_service_notify("STOPPING=1"), -EINVAL);
    for (int i = 0; i < COUNT(wheres); i++) {
        setenv("NOTIFY_SOCKET", wheres[i], 1);
        ck_assert_int_eq(weft_service_notify("STOPPING=1"), wrong_there[i]);
    }
    int fd = ask_for_state(), rc, told = 0;
    while ((rc = weft_service_notify("WATCHDOG=1")) == 1 && told < 100000) /* nobody reads it */
        told++;
    ck_assert_int_eq(rc, -EAGAIN);
    ck_assert_int_gt(told, 0);
    close(fd);
}
END_TEST

static const char *const no_states[] = { NULL, "", "\n", "READY", "READY 1", "=1", "ready=1", "READY=1\n\nSTATUS=x", "\nREADY=1",
    "STATUS=a\nb", " READY=1" };

START_TEST(what_is_no_state_is_refused)
{
    int fd = ask_for_state();
    for (int i = 0; i < COUNT(no_states); i++)
        ck_assert_int_eq(weft_service_notify(no_states[i]), -EINVAL);
    char text[4098];
    memset(text, 'x', sizeof text);
    memcpy(text, "STATUS=", 7);
    text[4097] = 0;
    ck_assert_int_eq(weft_service_notify(text), -EMSGSIZE);
    ck_assert_str_eq(heard(fd), "");
    text[4096] = 0;
    ck_assert_int_eq(weft_service_notify(text), 1);
    ck_assert_str_eq(heard(fd), text);
    memcpy(text, "RELOADING=1\nSTATUS=", 19); /* which would be too long with the time */
    ck_assert_int_eq(weft_service_notify(text), -EMSGSIZE);
    close(fd);
    unsetenv("NOTIFY_SOCKET");
    ck_assert_int_eq(weft_service_notify("no state"), -EINVAL); /* though nobody asked */
}
END_TEST

static long long us_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static const char *const reloads[] = { "RELOADING=1", "RELOADING=1\n", "STATUS=again\nRELOADING=1" };

START_TEST(a_reload_says_when)
{
    int fd = ask_for_state();
    for (int i = 0; i < COUNT(reloads); i++) {
        long long before = us_now();
        ck_assert_int_eq(weft_service_notify(reloads[i]), 1);
        const char *got = heard(fd), *when = strstr(got, "\nMONOTONIC_USEC=");
        ck_assert_ptr_nonnull(when);
        ck_assert_int_eq(strncmp(got, reloads[i], strlen(reloads[i])), 0);
        ck_assert_ptr_eq(strchr(when + 1, '\n'), NULL);
        ck_assert_ptr_eq(strstr(got, "\n\n"), NULL);
        ck_assert_int_ge(atoll(when + 16), before);
        ck_assert_int_le(atoll(when + 16), us_now());
    }
    close(fd);
}
END_TEST

static const struct {
    const char *us, *pid;
    int64_t ns;
} watchdogs[] = {
    { NULL, NULL, 0 }, { NULL, "self", 0 },
    { "3000000", NULL, weft_sec(3) }, { "1", "self", 1000 }, { "3000000", "other", 0 },
    { "9223372036854775", "self", INT64_C(9223372036854775000) }, { "9223372036854776", "self", -EINVAL },
    { "99999999999999999999999", "self", -EINVAL }, { "0", "self", -EINVAL }, { "-1", "self", -EINVAL },
    { "", "self", -EINVAL }, { "5s", "self", -EINVAL }, { " 5", NULL, -EINVAL }, { "5", "", -EINVAL }, { "5", "x", -EINVAL },
    { "5", "0", -EINVAL },
};

START_TEST(how_often_the_watchdog_wants_to_hear_is_known)
{
    char pid[32];
    const char *of = watchdogs[_i].pid;
    snprintf(pid, sizeof pid, "%ld", (long)getpid() + (of && strcmp(of, "other") == 0));
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    if (watchdogs[_i].us)
        setenv("WATCHDOG_USEC", watchdogs[_i].us, 1);
    if (of)
        setenv("WATCHDOG_PID", strcmp(of, "self") == 0 || strcmp(of, "other") == 0 ? pid : of, 1);
    ck_assert_int_eq(weft_service_watchdog(), watchdogs[_i].ns);
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
    tcase_add_test(tc, whoever_asked_is_told_how_the_service_does);
    tcase_add_test(tc, who_cannot_be_told_is_an_error);
    tcase_add_test(tc, what_is_no_state_is_refused);
    tcase_add_test(tc, a_reload_says_when);
    tcase_add_loop_test(tc, how_often_the_watchdog_wants_to_hear_is_known, 0, COUNT(watchdogs));
    return run_suite(s);
}
