/* os/inherit.c - listeners that the process was started with, and telling who started it how it does: what sd_listen_fds(3),
 * sd_notify(3) and sd_watchdog_enabled(3) do, without their library.
 *
 * The environment is left as it is: to change it races with getenv on other threads. LISTEN_PID keeps children from
 * taking it for theirs.
 * Tested    tests/inherited_test.c, tests/fuzz/fuzz_inherit.c */
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include <weft/net.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/fork.h"
#include "base/futex.h"
#include "os/socket.h"

enum { FIRST = 3, MOST = 1024, MOST_TEXT = 8192, MOST_STATE = 4096 /* more is not read there */ };

static struct {
    struct weft__lock lock;
    int n;
    bool taken[MOST];
    char names[MOST_TEXT]; /* "a:b:c" */
} inherited;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A number that is the whole text, or -1. */
static long number_in(const char *name)
{
    const char *text = getenv(name);
    char *end;
    if (!text || text[0] < '0' || text[0] > '9')
        return -1;
    long n = strtol(text, &end, 10);
    return *end == 0 ? n : -1;
}

static void read_environment(void)
{
    long n = number_in("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    if (n <= 0 || number_in("LISTEN_PID") != (long)getpid())
        return;
    inherited.n = n < MOST ? (int)n : MOST;
    if (names && strlen(names) < MOST_TEXT)
        strcpy(inherited.names, names);
}

/* Whether the i-th name is this one. */
static bool is_named(int i, const char *name)
{
    const char *at = inherited.names;
    for (; i > 0 && at; i--) {
        at = strchr(at, ':');
        at = at ? at + 1 : NULL;
    }
    size_t n = strlen(name);
    return at && strcspn(at, ":") == n && memcmp(at, name, n) == 0;
}

static int reserve(const char *name)
{
    int found = -1;
    weft__lock(&inherited.lock);
    for (int i = 0; i < inherited.n && found < 0; i++)
        if (!inherited.taken[i] && (!name || is_named(i, name)))
            found = i;
    if (found >= 0)
        inherited.taken[found] = true;
    weft__unlock(&inherited.lock);
    return found;
}

static int check_and_set(int fd)
{
    int listens = 0;
    socklen_t bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0)
        return -weft__errno();
    if (!listens)
        return -EINVAL;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -weft__errno();
    return weft__slot_adopt(fd, WEFT__SLOT_OWNED);
}

int weft_listen_inherited(const char *name)
{
    if (weft__forked)
        return -ECHILD;
    pthread_once(&once, read_environment);
    int i = reserve(name);
    if (i < 0)
        return -ENOENT;
    int rc = check_and_set(FIRST + i);
    if (rc == 0)
        return FIRST + i;
    weft__lock(&inherited.lock);
    inherited.taken[i] = false;
    weft__unlock(&inherited.lock);
    return rc;
}

/* Lines "NAME=value", of which the last may end like the others. */
static bool is_state(const char *text)
{
    static const char signs[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    do {
        size_t name = strspn(text, signs);
        if (name == 0 || text[name] != '=')
            return false;
        text += strcspn(text, "\n");
        text += *text == '\n';
    } while (*text);
    return true;
}

/* Whether a line begins with this. */
static bool says(const char *text, const char *begin)
{
    size_t n = strlen(begin);
    while (text && strncmp(text, begin, n) != 0) {
        text = strchr(text, '\n');
        text = text ? text + 1 : NULL;
    }
    return text != NULL;
}

/* Bytes of it; 0: nobody is to be told. */
static int address_of(const char *path, struct sockaddr_un *u)
{
    size_t n = path ? strlen(path) : 0;
    *u = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (n == 0)
        return 0;
    if (path[0] != '/' && path[0] != '@')
        return -EAFNOSUPPORT;
    if (n < 2 || n >= sizeof u->sun_path)
        return -EINVAL;
    memcpy(u->sun_path, path, n);
    if (path[0] == '@')
        u->sun_path[0] = 0;
    return (int)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
}

static int send_state(struct sockaddr_un *u, int bytes, const char *state, const char *more)
{
    struct iovec text[] = { { (void *)(uintptr_t)state, strlen(state) }, { (void *)(uintptr_t)more, strlen(more) } };
    const struct msghdr m = { .msg_name = u, .msg_namelen = (socklen_t)bytes, .msg_iov = text, .msg_iovlen = 2 };
    if (text[0].iov_len + text[1].iov_len > MOST_STATE)
        return -EMSGSIZE;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;
    if (fd < 0)
        return -weft__errno();
    do {
        rc = weft__or_errno(sendmsg(fd, &m, MSG_NOSIGNAL));
    } while (rc == -EINTR);
    close(fd);
    return rc < 0 ? rc : 1;
}

int weft_service_notify(const char *state)
{
    struct sockaddr_un u;
    char when[48] = "";
    if (weft__forked)
        return -ECHILD;
    if (!state || !is_state(state))
        return -EINVAL;
    /* By which systemd knows this reload's READY=1 from the one before (Type=notify-reload). */
    if (says(state, "RELOADING=1") && !says(state, "MONOTONIC_USEC="))
        snprintf(when, sizeof when, "%sMONOTONIC_USEC=%lld", state[strlen(state) - 1] == '\n' ? "" : "\n",
                (long long)(weft__now() / 1000));
    int bytes = address_of(getenv("NOTIFY_SOCKET"), &u);
    return bytes <= 0 ? bytes : send_state(&u, bytes, state, when);
}

int weft_service_ready(void)
{
    return weft_service_notify("READY=1");
}

int64_t weft_service_watchdog(void)
{
    if (weft__forked)
        return -ECHILD;
    if (!getenv("WATCHDOG_USEC"))
        return 0;
    long us = number_in("WATCHDOG_USEC"), pid = getenv("WATCHDOG_PID") ? number_in("WATCHDOG_PID") : (long)getpid();
    if (us <= 0 || us > INT64_MAX / 1000 || pid <= 0)
        return -EINVAL;
    return pid == (long)getpid() ? us * INT64_C(1000) : 0;
}
