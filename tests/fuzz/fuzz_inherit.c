/* tests/fuzz/fuzz_inherit.c - what an environment says of listeners and of who waits to be told: os/inherit.c.
 *
 *     NAME=VALUE       a variable, see expand()
 *     !N               the descriptor N is no listener
 *     ?NAME            somebody asks for the next listener of this name; "?*": of any
 *
 * Holds     each listener is handed out once, and only by its whole name, or in turn; a process for which they are not
 *           meant has none; what is no listener is never handed out; who is to be told has the address that the variable says.
 *
 * It is compiled into this program, where environment, process, descriptors and sockets are what the input says. */
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "event/poller.h"
#include "fuzz.h"

enum { OUR_PID = 4242, OUR_SOCKET = 5000, MOST_LISTENERS = 1024, MOST_VARIABLES = 16, MOST_NAMES = 8192,
    MOST_LINE = 16384 };

static struct {
    char *variables[MOST_VARIABLES];
    size_t n;
    bool bad[MOST_LISTENERS + 8], adopted[MOST_LISTENERS + 8];
    struct sockaddr_un told;
    socklen_t told_bytes;
    int told_times, open;
} world;

static char *variable_of(struct input line)
{
    static unsigned char whole[MOST_LINE];
    return text_of((struct input){ whole, expand(line, whole, MOST_LINE) });
}

static char *given_variable(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < world.n; i++)
        if (strncmp(world.variables[i], name, n) == 0 && world.variables[i][n] == '=')
            return world.variables[i] + n + 1;
    return NULL;
}

static pid_t given_pid(void)
{
    return OUR_PID;
}

static int given_option(int fd, int level, int name, void *value, socklen_t *bytes)
{
    HOLDS(fd >= 3 && fd < 3 + MOST_LISTENERS && level == SOL_SOCKET && name == SO_ACCEPTCONN && *bytes == sizeof(int));
    *(int *)value = !world.bad[fd];
    return 0;
}

static int given_flags(int fd, int what, ...)
{
    (void)what;
    HOLDS(fd >= 3 && fd < 3 + MOST_LISTENERS && !world.bad[fd]);
    return 0;
}

static int given_slot(int fd, uint64_t flags)
{
    (void)flags;
    HOLDS(!world.adopted[fd]);
    world.adopted[fd] = true;
    return 0;
}

static int given_socket(int domain, int type, int protocol)
{
    HOLDS(domain == AF_UNIX && (type & 0xf) == SOCK_DGRAM && protocol == 0);
    world.open++;
    return OUR_SOCKET;
}

static ssize_t caught(int fd, const struct msghdr *m, int flags)
{
    (void)flags;
    HOLDS(fd == OUR_SOCKET && m->msg_iovlen == 2 && m->msg_iov[0].iov_len == 7 && m->msg_iov[1].iov_len == 0);
    HOLDS(memcmp(m->msg_iov[0].iov_base, "READY=1", 7) == 0);
    HOLDS(m->msg_namelen <= sizeof world.told);
    memcpy(&world.told, m->msg_name, m->msg_namelen);
    world.told_bytes = m->msg_namelen;
    world.told_times++;
    return 7;
}

static int given_close(int fd)
{
    HOLDS(fd == OUR_SOCKET);
    world.open--;
    return 0;
}

#define getenv given_variable
#define getpid given_pid
#define getsockopt given_option
#define fcntl given_flags
#define weft__slot_adopt given_slot
#define socket given_socket
#define sendmsg caught
#define close given_close
#include "os/inherit.c"

/* ---- what is right */

/* Digits and nothing else, -1: it is not that; what is far too large stays it. */
static long long whole_number(const char *text)
{
    long long n = text && text[0] ? 0 : -1;
    for (size_t i = 0; n >= 0 && text[i]; i++)
        n = text[i] < '0' || text[i] > '9' ? -1 : n > 1000000000000 ? n : 10 * n + (text[i] - '0');
    return n;
}

static struct {
    int n;
    bool gone[MOST_LISTENERS];
} right;

static void set_right(void)
{
    long long n = whole_number(given_variable("LISTEN_FDS"));
    memset(&right, 0, sizeof right);
    if (whole_number(given_variable("LISTEN_PID")) == OUR_PID && n > 0)
        right.n = n < MOST_LISTENERS ? (int)n : MOST_LISTENERS;
}

/* Whether the i-th listener is to be had by this name. Without the variable the first has none: "". */
static bool has_name(int i, const char *asked)
{
    const char *names = given_variable("LISTEN_FDNAMES");
    size_t at = 0;
    if (!names || strlen(names) >= MOST_NAMES)
        names = "";
    for (; i > 0; i--) {
        while (names[at] && names[at] != ':')
            at++;
        if (!names[at++])
            return false;
    }
    for (; names[at] && names[at] != ':'; at++, asked++)
        if (names[at] != *asked)
            return false;
    return *asked == 0;
}

static void ask(const char *name)
{
    int i = 0;
    while (i < right.n && (right.gone[i] || (name && !has_name(i, name))))
        i++;
    int rc = weft_listen_inherited(name);
    if (i == right.n) {
        HOLDS(rc == -ENOENT);
    } else if (world.bad[3 + i]) {
        HOLDS(rc == -EINVAL);
    } else {
        HOLDS(rc == 3 + i && world.adopted[rc]);
        right.gone[i] = true;
    }
}

static void tell(void)
{
    const char *where = given_variable("NOTIFY_SOCKET");
    size_t n = where ? strlen(where) : 0, head = offsetof(struct sockaddr_un, sun_path);
    int rc = weft_service_ready();
    HOLDS(world.open == 0 && world.told_times == (rc == 1));
    if (n == 0) {
        HOLDS(rc == 0);
    } else if (where[0] != '/' && where[0] != '@') {
        HOLDS(rc == -EAFNOSUPPORT);
    } else if (n == 1 || n >= sizeof world.told.sun_path) {
        HOLDS(rc == -EINVAL);
    } else {
        HOLDS(rc == 1 && world.told.sun_family == AF_UNIX && memcmp(world.told.sun_path + 1, where + 1, n - 1) == 0);
        HOLDS(world.told.sun_path[0] == (where[0] == '@' ? 0 : '/'));
        HOLDS(world.told_bytes == head + n + (where[0] == '/'));
        HOLDS(where[0] == '@' || world.told.sun_path[n] == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input all = { data, bytes };
    memset(&world, 0, sizeof world);
    memset(&inherited, 0, sizeof inherited);
    once = (pthread_once_t)PTHREAD_ONCE_INIT;
    for (struct input in = all; in.left > 0;) {
        struct input line = next_line(&in);
        if (line.left > 0 && *line.at == '!') {
            next_byte(&line);
            world.bad[next_number(&line, MOST_LISTENERS + 7)] = true;
        } else if (line.left > 0 && *line.at != '?' && world.n < MOST_VARIABLES) {
            world.variables[world.n++] = variable_of(line);
        }
    }
    set_right();
    for (struct input in = all; in.left > 0;) {
        struct input line = next_line(&in);
        if (next_byte(&line) != '?')
            continue;
        char *name = text_of(line);
        ask(strcmp(name, "*") == 0 ? NULL : name);
        free(name);
    }
    tell();
    for (size_t i = 0; i < world.n; i++)
        free(world.variables[i]);
    return 0;
}
