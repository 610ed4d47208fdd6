/* os/listener.c - the file of a Unix listener, which goes when weft closes the listener.
 *
 * Owns      a record for each such listener that weft_listen has made: which socket it is, and which file.
 * Callers   weft_listen, weft_close, weft_fd_forget; any thread. Who did not make the listener has no record: one that was
 *           handed over, or a child process, removes nothing.
 * Holds     N1  only the file that bind(2) made is removed, by device and inode. Another server may have put its own there
 *               meanwhile: without that its clients would find nobody. Between the look and the unlink another one may
 *               still come; the kernel has no call that does both.
 *           N2  a record counts for the socket it was made for, not for the number, which others may have closed and used
 *               again.
 * Tested    tests/listener_test.c */
#include "os/listener.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/errno.h"
#include "base/futex.h"
#include "base/list.h"
#include "base/mem.h"

struct record {
    struct weft__link link;
    int fd;
    pid_t owner; /* a child process has the record, too, if it was forked beside no runtime */
    ino_t socket;     /* N2 */
    struct stat file; /* N1 */
    char path[WEFT__LISTENER_PATH];
};

static struct weft__lock lock; /* of the list */
static struct weft__link records = { &records, &records };
static at_int count; /* so that who closes something else takes no lock */

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int weft__listener_made(int fd, const char *path)
{
    struct stat of_fd;
    struct record *r = weft__mem_zeroed(sizeof *r);
    int rc = r ? 0 : -ENOMEM;
    if (rc == 0 && (fstat(fd, &of_fd) < 0 || lstat(path, &r->file) < 0))
        rc = -weft__errno();
    if (rc < 0) {
        unlink(path); /* bind(2) has made it just now */
        weft__mem_free(r);
        return rc;
    }
    r->fd = fd;
    r->owner = getpid();
    r->socket = of_fd.st_ino;
    snprintf(r->path, sizeof r->path, "%s", path);
    weft__lock(&lock);
    list_push_head(&records, &r->link);
    ati_add(&count, 1);
    weft__unlock(&lock);
    return 0;
}

/* The last one with this number: those before it were closed by others. */
static struct record *take(int fd)
{
    struct record *found = NULL;
    weft__lock(&lock);
    for (struct weft__link *l = records.next; l != &records && !found; l = l->next) {
        struct record *r = container_of(l, struct record, link);
        found = r->fd == fd ? r : NULL;
    }
    if (found) {
        list_remove(&found->link);
        ati_add(&count, (uint32_t)-1);
    }
    weft__unlock(&lock);
    return found;
}

void weft__listener_gone(int fd, bool file_too)
{
    struct stat now;
    struct record *r = ati_load(&count) > 0 ? take(fd) : NULL;
    if (!r)
        return;
    if (file_too && r->owner == getpid() && fstat(fd, &now) == 0 && S_ISSOCK(now.st_mode) && now.st_ino == r->socket &&
            lstat(r->path, &now) == 0 && is_same(&now, &r->file))
        unlink(r->path);
    weft__mem_free(r);
}
