/* os/process_serve.c - the other side of os/process_pool.c: a worker's loop.
 *
 * Owns      the two descriptors, one request and one answer at a time.
 * Callers   one thread of a worker, which needs no runtime: the calls are those of the kernel, and block.
 * Holds     V1  nothing but answers gets to where they go: 0 and 1 are something else while a handler runs, and programs
 *               that it starts have neither.
 *           V2  a request is read as a whole before its handler is called, and answered as a whole.
 * Tested    tests/process_pool_test.c */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include <weft/error.h>

#include "base/errno.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/quiet.h"
#include "coord/await.h"
#include "coord/error.h"
#include "os/process.h"

enum { FIRST = 4096 };

struct weft_process_answer {
    char *at;
    size_t bytes, room;
};

/* Room for so many bytes at *at, of which the first `kept` stay. */
static int make_room(char **at, size_t *room, size_t bytes, size_t kept)
{
    if (bytes <= *room)
        return 0;
    size_t more = *room ? *room : FIRST;
    while (more < bytes)
        more *= 2;
    char *next = weft__mem_alloc(more);
    if (!next)
        return -ENOMEM;
    if (kept > 0)
        memcpy(next, *at, kept);
    weft__mem_free(*at);
    *at = next;
    *room = more;
    return 0;
}

int weft_process_answer_add(weft_process_answer *a, const void *data, size_t n)
{
    if (!a || (!data && n > 0))
        return -EINVAL;
    if (n > UINT32_MAX - WEFT__FRAME_RESULT - a->bytes)
        return -EMSGSIZE;
    int rc = make_room(&a->at, &a->room, a->bytes + n, a->bytes);
    if (rc == 0 && n > 0) {
        memcpy(a->at + a->bytes, data, n);
        a->bytes += n;
    }
    return rc;
}

/* 1; 0 the end came before the first byte; -ENODATA it came later. */
static int read_whole(int fd, void *to, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t some = read(fd, (char *)to + got, n - got);
        int rc = some < 0 ? -weft__errno() : 0;
        if (rc < 0 && rc != -EINTR)
            return rc;
        if (some == 0)
            return got == 0 ? 0 : -ENODATA;
        got += rc < 0 ? 0 : (size_t)some;
    }
    return 1;
}

static int write_whole(int fd, struct iovec *v, int n)
{
    while (n > 0) {
        long done = weft__quiet_write(fd, v, n);
        if (done < 0 && done != -EINTR)
            return (int)done;
        size_t left = done < 0 ? 0 : (size_t)done;
        for (; n > 0 && left >= v->iov_len; v++, n--)
            left -= v->iov_len;
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + left;
            v->iov_len -= left;
        }
    }
    return 0;
}

/* An error goes with the text that was set for it, if one was. */
static int answer(int fd, int result, const weft_process_answer *a)
{
    struct weft__frame *f = result < 0 ? weft__current() : NULL;
    const char *text = f ? weft__detail_text(f, result) : NULL;
    const void *data = result >= 0 ? a->at : text;
    size_t n = result >= 0 ? a->bytes : text ? strlen(text) : 0;
    unsigned char head[WEFT__FRAME_HEAD];
    weft__put32(head, (uint32_t)(WEFT__FRAME_RESULT + n));
    weft__put32(head + WEFT__FRAME_LENGTH, (uint32_t)result);
    return write_whole(fd, (struct iovec[]){ { head, sizeof head }, { (void *)(uintptr_t)data, n } }, n > 0 ? 2 : 1);
}

/* A detail of an earlier request is no text of this one's error. */
static void forget_detail(void)
{
    struct weft__frame *f = weft__current();
    if (f)
        weft__detail_free(f);
}

static int serve(int in, int out, weft_process_handler *handler, void *arg)
{
    weft_process_answer a = { .at = NULL };
    char *request = NULL;
    size_t room = 0;
    unsigned char head[WEFT__FRAME_LENGTH];
    int rc;
    while ((rc = read_whole(in, head, sizeof head)) > 0) {
        size_t n = weft__get32(head);
        if ((rc = make_room(&request, &room, n + 1, 0)) < 0)
            break;
        if (n > 0 && (rc = read_whole(in, request, n)) <= 0) {
            rc = rc == 0 ? -ENODATA : rc;
            break;
        }
        request[n] = 0;
        a.bytes = 0;
        forget_detail();
        int result = handler(request, n, &a, arg);
        if ((rc = answer(out, result, &a)) < 0)
            break;
    }
    weft__mem_free(request);
    weft__mem_free(a.at);
    return rc;
}

/* V1. */
static int take(int fd)
{
    return weft__or_errno(fcntl(fd, F_DUPFD_CLOEXEC, WEFT__STDIO));
}

static int put_aside(void)
{
    int null = weft__or_errno(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null < 0)
        return null;
    int rc = weft__or_errno(dup2(null, WEFT__STDIN));
    if (rc >= 0)
        rc = weft__or_errno(dup2(fcntl(WEFT__STDERR, F_GETFD) < 0 ? null : WEFT__STDERR, WEFT__STDOUT));
    if (null >= WEFT__STDIO)
        close(null);
    return rc < 0 ? rc : 0;
}

int weft_process_pool_serve(weft_process_handler *handler, void *arg)
{
    if (weft__forked)
        return -ECHILD;
    if (!handler)
        return -EINVAL;
    int in = take(WEFT__STDIN), out = take(WEFT__STDOUT);
    int rc = in < 0 ? in : out < 0 ? out : put_aside();
    if (rc == 0)
        rc = serve(in, out, handler, arg);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return rc;
}
