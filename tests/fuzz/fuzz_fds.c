/* tests/fuzz/fuzz_fds.c - descriptors that come with bytes: os/fds.c, over the kernel's own sockets.
 *
 *     KIND CALLS       's' a stream, 'q' packets, 'd' datagrams; a capital: with who sent them (SO_PASSCRED and others), too.
 *                      Calls: 'S' descriptors, bytes: something is sent; 'R' room, bytes: something is received. The
 *                      descriptors, and the room for them, in threes
 *
 * Holds     bytes come as they were sent; descriptors come with the first byte that they were sent with, all of them,
 *           close-on-exec and of the same files; for want of room all are closed; none is left over in the end. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weft/io.h>
#include <weft/net.h>
#include <weft/task.h>

#include "fuzz.h"

/* Those of Linux that a system's headers may lack, or its kernel. */
enum { PASS_LABEL = 34, PASS_PIDFD = 76 };

enum { FILES = 4, MOST_FDS = 253, MOST_ROOM = 290 };
enum { MOST_QUEUED = 8, MOST_PIECE = 95, MOST_BYTES = MOST_PIECE * MOST_QUEUED };

static struct {
    int file[FILES];
    ino_t number[FILES];
} files;

struct message {
    size_t bytes, done, fds;
    unsigned first; /* of the bytes, and of the files */
};

static struct {
    int send, recv;
    bool stream;
    unsigned sent;
    struct message queue[MOST_QUEUED];
    size_t n;
} world;

static unsigned char byte_of(const struct message *m, size_t i)
{
    return (unsigned char)(m->first * 31 + i * 7);
}

static bool open_files(void)
{
    for (int i = 0; i < FILES; i++) {
        int both[2];
        struct stat st;
        if (pipe2(both, O_CLOEXEC) < 0 || fstat(both[0], &st) < 0)
            return false;
        close(both[1]);
        files.file[i] = both[0];
        files.number[i] = st.st_ino;
    }
    return true;
}

static void send_one(size_t fds, size_t bytes)
{
    int list[MOST_FDS];
    unsigned char buf[MOST_PIECE];
    struct message m = { .bytes = bytes > 0 ? bytes : 1, .fds = fds < MOST_FDS ? fds : MOST_FDS, .first = world.sent };
    if (world.n == MOST_QUEUED) /* it would wait for room */
        return;
    for (size_t i = 0; i < m.fds; i++)
        list[i] = files.file[(m.first + i) % FILES];
    for (size_t i = 0; i < m.bytes; i++)
        buf[i] = byte_of(&m, i);
    int rc = weft_send_fds(world.send, buf, m.bytes, list, m.fds);
    if (rc == -ETOOMANYREFS) /* of all that this user has under way */
        return;
    HOLDS(rc == (int)m.bytes);
    world.queue[world.n++] = m;
    world.sent++;
}

/* How many bytes a call with room for `most` takes, and which message's descriptors come with them; NULL: none. */
static size_t expect(size_t most, const struct message **with)
{
    size_t bytes = 0;
    *with = NULL;
    for (size_t i = 0; i < world.n && bytes < most && !*with; i++) {
        const struct message *m = &world.queue[i];
        size_t left = m->bytes - m->done;
        *with = m->fds > 0 && m->done == 0 ? m : NULL;
        bytes += left < most - bytes ? left : most - bytes;
        if (!world.stream)
            break;
    }
    return bytes;
}

static void check_bytes(const unsigned char *buf, size_t bytes)
{
    size_t gone = 0;
    for (size_t at = 0; at < bytes;) {
        struct message *m = &world.queue[gone];
        HOLDS(buf[at++] == byte_of(m, m->done++));
        gone += m->done == m->bytes;
    }
    if (!world.stream)
        gone = 1;
    world.n -= gone;
    memmove(world.queue, world.queue + gone, world.n * sizeof world.queue[0]);
}

static void check_fds(const struct message *m, const int *list, size_t n)
{
    struct stat st;
    HOLDS(n == (m ? m->fds : 0));
    for (size_t i = 0; i < n; i++) {
        HOLDS(fcntl(list[i], F_GETFD) == FD_CLOEXEC);
        HOLDS(fstat(list[i], &st) == 0 && st.st_ino == files.number[(m->first + i) % FILES]);
        close(list[i]);
    }
}

static void receive(size_t room, size_t most)
{
    int list[MOST_ROOM + 1];
    unsigned char buf[MOST_BYTES];
    const struct message *with;
    most = most > 0 ? most : 1;
    if (world.n == 0) /* it would wait for something */
        return;
    size_t bytes = expect(most, &with), n = room;
    bool cut = !world.stream && world.queue[0].bytes > most, full = with && with->fds > room;
    for (size_t i = 0; i < COUNT(list); i++)
        list[i] = -7;
    int rc = weft_recv_fds(world.recv, buf, most, list, &n);
    for (size_t i = n; i < COUNT(list); i++)
        HOLDS(list[i] == -7);
    if (cut || full) {
        HOLDS(rc == -EMSGSIZE && n == room);
    } else {
        HOLDS(rc == (int)bytes);
        check_fds(with, list, n);
    }
    check_bytes(buf, bytes);
}

static int lowest_free(void)
{
    int fd = dup(files.file[0]);
    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes };
    int kind = next_byte(&in), pair[2], on = 1;
    if (files.number[0] == 0)
        HOLDS(open_files() && weft_check() == 0);
    int before = lowest_free();
    world.n = world.sent = 0;
    world.stream = (kind | 0x20) == 's';
    int type = world.stream ? SOCK_STREAM : (kind | 0x20) == 'q' ? SOCK_SEQPACKET : SOCK_DGRAM;
    HOLDS(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    world.send = pair[0];
    world.recv = pair[1];
    if (kind >= 'A' && kind <= 'Z') {
        HOLDS(setsockopt(world.recv, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
        (void)setsockopt(world.recv, SOL_SOCKET, PASS_LABEL, &on, sizeof on);
        (void)setsockopt(world.recv, SOL_SOCKET, PASS_PIDFD, &on, sizeof on);
    }
    for (int c; (c = next_byte(&in)) >= 0;) {
        size_t a = next_size(&in) * 3 % MOST_ROOM, b = next_size(&in) % MOST_PIECE;
        if (c == 'S')
            send_one(a, b);
        else if (c == 'R')
            receive(a, b);
    }
    while (world.n > 0)
        receive(world.n % 2 ? MOST_FDS : 0, 20);
    HOLDS(weft_close(world.send) == 0 && weft_close(world.recv) == 0);
    HOLDS(lowest_free() == before);
    return 0;
}
