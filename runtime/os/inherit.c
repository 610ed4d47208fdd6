/* os/inherit.c - listeners that the process was started with, and saying that it is ready: what sd_listen_fds(3) and
 * sd_notify(3) do, without their library.
 *
 * The environment is left as it is: to change it races with getenv on other threads. LISTEN_PID keeps children from
 * taking it for theirs.
 * Tested    tests/inherited_test.c, tests/fuzz/fuzz_inherit.c */
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include <weft/net.h>

#include "base/errno.h"
#include "base/fork.h"
#include "base/futex.h"
#include "os/socket.h"

enum { FIRST = 3, MOST = 1024, MOST_TEXT = 8192 };

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

int weft_service_ready(void)
{
    static const char text[] = "READY=1";
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    if (weft__forked)
        return -ECHILD;
    if (!path || path[0] == 0)
        return 0;
    size_t n = strlen(path);
    if (path[0] != '/' && path[0] != '@')
        return -EAFNOSUPPORT;
    if (n < 2 || n >= sizeof u.sun_path)
        return -EINVAL;
    memcpy(u.sun_path, path, n);
    if (path[0] == '@')
        u.sun_path[0] = 0;
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -weft__errno();
    const struct sockaddr *to = (const struct sockaddr *)(const void *)&u;
    int rc;
    do {
        rc = weft__or_errno(sendto(fd, text, sizeof text - 1, MSG_NOSIGNAL, to, bytes));
    } while (rc == -EINTR);
    close(fd);
    return rc < 0 ? rc : 1;
}
