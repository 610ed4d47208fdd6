/* os/communicate.c - a program from its start to its end: all it is to read, and all it says, at the same time.
 *
 * Owns      the texts, until the caller gets them; and an epoll set of its own, which holds the pipes and is what
 *           weft_wait_fd waits for: so a task and a plain thread do the same, and nothing is spawned.
 * Callers   tasks and plain threads.
 * Source    Python's communicate().
 * Tested    tests/process_test.c */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <weft/io.h>

#include "base/errno.h"
#include "base/mem.h"
#include "base/quiet.h"
#include "event/poller.h"
#include "os/process.h"

enum { FIRST_BYTES = 16 * 1024 };

struct text {
    char *at;
    size_t bytes, room; /* without the zero byte */
};

struct talk {
    struct weft_process *p;
    int set;
    const char *in;
    size_t in_bytes, limit;
    struct text text[WEFT__STDIO]; /* of WEFT__STDOUT and WEFT__STDERR */
};

/* Room for at least one more byte than the limit allows, so that it is seen to be passed. */
static int make_room(struct text *t, size_t limit)
{
    if (t->bytes < t->room)
        return 0;
    size_t room = t->room ? 2 * t->room : FIRST_BYTES;
    if (room > limit)
        room = limit + 1;
    char *at = room > t->room ? weft__mem_alloc(room + 1) : NULL;
    if (!at)
        return -ENOMEM;
    if (t->bytes > 0)
        memcpy(at, t->at, t->bytes);
    weft__mem_free(t->at);
    t->at = at;
    t->room = room;
    return 0;
}

/* Out of the set first: a child that is just being started may have the pipe until its exec, and the set would go on
 * telling of it. */
static void hang_up(struct talk *k, int i)
{
    (void)epoll_ctl(k->set, EPOLL_CTL_DEL, weft__process_fd(k->p, i), &(struct epoll_event){ .events = 0 });
    weft__process_close_pipe(k->p, i);
}

/* What is there, of one pipe. */
static int hear(struct talk *k, int i)
{
    struct text *t = &k->text[i];
    int rc = make_room(t, k->limit);
    if (rc < 0)
        return rc;
    ssize_t n = read(weft__process_fd(k->p, i), t->at + t->bytes, t->room - t->bytes);
    if (n < 0) {
        rc = -weft__errno();
        return rc == -EAGAIN || rc == -EINTR ? 0 : rc;
    }
    if (n == 0)
        hang_up(k, i);
    t->bytes += (size_t)n;
    return t->bytes > k->limit ? -EMSGSIZE : 0;
}

static int say(struct talk *k)
{
    struct iovec v = { .iov_base = (void *)(uintptr_t)k->in, .iov_len = k->in_bytes };
    long n = weft__quiet_write(weft__process_fd(k->p, WEFT__STDIN), &v, 1);
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n < 0 && n != -EPIPE)
        return (int)n;
    if (n > 0) {
        k->in += n;
        k->in_bytes -= (size_t)n;
    }
    if (n < 0 || k->in_bytes == 0)
        hang_up(k, WEFT__STDIN);
    return 0;
}

static int watch(const struct talk *k)
{
    for (int i = 0; i < WEFT__STDIO; i++) {
        struct epoll_event e = { .events = i == WEFT__STDIN ? EPOLLOUT : EPOLLIN, .data.u32 = (uint32_t)i };
        if (weft__process_fd(k->p, i) >= 0 && epoll_ctl(k->set, EPOLL_CTL_ADD, weft__process_fd(k->p, i), &e) < 0)
            return -weft__errno();
    }
    return 0;
}

static int talk(struct talk *k)
{
    struct epoll_event e[WEFT__STDIO];
    if (k->in_bytes == 0)
        weft__process_close_pipe(k->p, WEFT__STDIN);
    int rc = watch(k);
    while (rc >= 0 && (weft__process_fd(k->p, WEFT__STDIN) >= 0 || weft__process_fd(k->p, WEFT__STDOUT) >= 0 ||
                              weft__process_fd(k->p, WEFT__STDERR) >= 0)) {
        if ((rc = weft_wait_fd(k->set, WEFT_READABLE)) < 0)
            break;
        int n = epoll_wait(k->set, e, WEFT__STDIO, 0);
        for (int i = 0; i < n && rc >= 0; i++)
            rc = e[i].data.u32 == WEFT__STDIN ? say(k) : hear(k, (int)e[i].data.u32);
    }
    return rc < 0 ? rc : 0;
}

static int open_set(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0)
        return -weft__errno();
    int rc = weft__slot_adopt(set, 0);
    if (rc < 0) {
        close(set);
        return rc;
    }
    return set;
}

static int finish(struct text *t)
{
    int rc = t->at ? 0 : make_room(t, 1);
    if (rc == 0)
        t->at[t->bytes] = 0;
    return rc;
}

int weft_process_run(weft_output *result, const char *const *argv, const void *in, size_t in_bytes, size_t limit,
        const weft_process_options *o)
{
    weft_process_options how = o ? *o : (weft_process_options){ .in = 0 };
    if (!result || (!in && in_bytes > 0) || (in_bytes > 0 && how.in != 0 && how.in != WEFT_STDIO_PIPE))
        return -EINVAL;
    how.in = how.in != 0 ? how.in : in_bytes > 0 ? WEFT_STDIO_PIPE : WEFT_STDIO_NULL;
    how.out = how.out != 0 ? how.out : WEFT_STDIO_PIPE;
    how.err = how.err != 0 ? how.err : WEFT_STDIO_PIPE;
    struct talk k = { .in = in, .in_bytes = in_bytes, .limit = limit ? limit : SIZE_MAX / 4 };
    int status = 0, rc = weft_process_open(&k.p, argv, &how);
    if (rc < 0)
        return rc;
    bool piped[WEFT__STDIO] = { false, weft__process_fd(k.p, WEFT__STDOUT) >= 0, weft__process_fd(k.p, WEFT__STDERR) >= 0 };
    rc = k.set = open_set();
    if (rc >= 0) {
        rc = talk(&k);
        weft_ignore(weft_close(k.set));
    }
    for (int i = WEFT__STDOUT; i < WEFT__STDIO; i++)
        if (rc == 0 && piped[i])
            rc = finish(&k.text[i]);
    if (rc == 0)
        rc = weft_process_wait(k.p, &status);
    weft_process_close(&k.p);
    if (rc < 0) {
        weft__mem_free(k.text[WEFT__STDOUT].at);
        weft__mem_free(k.text[WEFT__STDERR].at);
        return rc;
    }
    *result = (weft_output){ .status = status, .out = k.text[WEFT__STDOUT].at, .err = k.text[WEFT__STDERR].at,
        .out_bytes = k.text[WEFT__STDOUT].bytes, .err_bytes = k.text[WEFT__STDERR].bytes };
    return 0;
}

void weft_output_free(weft_output *r)
{
    if (!r)
        return;
    weft__mem_free(r->out);
    weft__mem_free(r->err);
    *r = (weft_output){ .status = 0 };
}
