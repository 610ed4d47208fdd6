/* os/fs.c - files and directories, on the files' lane.
 *
 * Owns      nothing but what a call has under way.
 * Callers   tasks and plain threads.
 * Holds     FS1 a call by names has its names and its results in a request on the heap. The task has it back with the
 *               result; if the task has left, `drop_request` has it, which closes what was opened and frees what was read.
 *           FS2 a call by a descriptor borrows the caller's memory, and is in its slot from the beginning to the end: the
 *               number cannot become another file's under it.
 *           FS3 store leaves either no temporary file or has renamed it: one function on the lane does all steps, and is
 *               awaited once it has begun.
 * Errno     is read on the thread of the system call, before anything suspends (base/errno.h).
 * In memory RWF_NOWAIT reads what needs no disk on the worker itself, 1 us of CPU time instead of 3. Only a full read is taken
 *           at its word: Linux 5.9 and 5.10 say 0 before the end, and any kernel reads less where a page is missing. Of more
 *           than AT_ONCE the copying would keep the worker for longer than the way to the lane and back takes.
 * Tested    tests/fs_test.c */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <weft/fs.h>

#include "base/errno.h"
#include "base/mem.h"
#include "base/quiet.h"
#include "coord/await.h"
#include "os/lane.h"

enum { MOST = 0x7ffff000, AT_ONCE = 128 << 10, FIRST_BYTES = 4096, LOAD_MOST = 64 << 20, TEMP_TRIES = 16 };

/* ---- calls by names: FS1 */

struct request {
    const char *path, *to; /* in `text` */
    int flags;
    unsigned mode;
    int fd;         /* what was opened; -1 */
    bool temporary; /* by the name of `path`, which nobody knows yet */
    char *data;     /* what was read */
    size_t n;
    struct stat st;
    char text[];
};

static void drop_request(void *arg)
{
    struct request *r = *(struct request **)arg;
    if (r->fd >= 0)
        close(r->fd);
    if (r->fd >= 0 && r->temporary)
        unlink(r->path);
    weft__mem_free(r->data);
    weft__mem_free(r);
}

static struct request *request(const char *path, const char *to)
{
    size_t a = strlen(path) + 1, b = to ? strlen(to) + 1 : 0;
    struct request *r = weft__mem_zeroed(sizeof *r + a + b);
    if (!r)
        return NULL;
    memcpy(r->text, path, a);
    if (to)
        memcpy(r->text + a, to, b);
    r->path = r->text;
    r->to = r->text + a;
    r->fd = -1;
    return r;
}

/* What fn returned. *mine is NULL if it was -ECANCELED: the request is the lane's. */
static int perform(weft_fn *fn, struct request **mine)
{
    int rc = weft__lane_enter();
    if (rc == 0)
        rc = weft__lane_call_copy(WEFT__LANE_FILES, fn, mine, sizeof *mine, drop_request);
    else if (rc == -ECANCELED)
        drop_request(mine);
    if (rc == -ECANCELED)
        *mine = NULL;
    return rc;
}

/* The same for a call whose result is all. */
static int perform_only(weft_fn *fn, struct request *r)
{
    if (!r)
        return -ENOMEM;
    int rc = perform(fn, &r);
    weft__mem_free(r);
    return rc;
}

/* A descriptor that is handed out: what was known of its number is void. It takes its place with `r` in both cases. */
static int hand_out(struct request *r)
{
    int fd = r->fd, rc = weft__slot_adopt(fd, 0);
    if (rc < 0) {
        drop_request(&r);
        return rc;
    }
    weft__mem_free(r);
    return fd;
}

static int do_open(void *arg)
{
    struct request *r = *(struct request **)arg;
    int rc;
    do {
        rc = weft__or_errno(open(r->path, r->flags | O_CLOEXEC, r->mode));
    } while (rc == -EINTR);
    r->fd = rc < 0 ? -1 : rc;
    return rc;
}

int weft_fs_open(const char *path, int flags, unsigned mode)
{
    if (!path)
        return -EINVAL;
    struct request *r = request(path, NULL);
    if (!r)
        return -ENOMEM;
    r->flags = flags;
    r->mode = mode;
    int rc = perform(do_open, &r);
    if (rc >= 0)
        return hand_out(r);
    weft__mem_free(r);
    return rc;
}

static int do_temp(void *arg)
{
    struct request *r = *(struct request **)arg;
    size_t bytes = strlen(r->text);
    char ending[6] = "";
    int rc;
    if (bytes >= sizeof ending)
        memcpy(ending, r->text + bytes - sizeof ending, sizeof ending);
    while ((rc = weft__or_errno(mkostemp(r->text, O_CLOEXEC))) == -EINTR)
        memcpy(r->text + bytes - sizeof ending, ending, sizeof ending); /* it has replaced them; they were there */
    r->fd = rc < 0 ? -1 : rc;
    return rc;
}

int weft_fs_temp(char *path_template)
{
    if (!path_template)
        return -EINVAL;
    struct request *r = request(path_template, NULL);
    if (!r)
        return -ENOMEM;
    r->temporary = true;
    int rc = perform(do_temp, &r);
    if (rc < 0) {
        weft__mem_free(r);
        return rc;
    }
    size_t bytes = strlen(r->path);
    char ending[6];
    memcpy(ending, r->path + bytes - sizeof ending, sizeof ending);
    if ((rc = hand_out(r)) >= 0)
        memcpy(path_template + bytes - sizeof ending, ending, sizeof ending);
    return rc;
}

static int do_stat(void *arg)
{
    struct request *r = *(struct request **)arg;
    return weft__or_errno(stat(r->path, &r->st));
}

int weft_fs_stat(const char *path, struct stat *out)
{
    if (!path || !out)
        return -EINVAL;
    struct request *r = request(path, NULL);
    if (!r)
        return -ENOMEM;
    int rc = perform(do_stat, &r);
    if (rc == 0)
        *out = r->st;
    weft__mem_free(r);
    return rc;
}

static int do_rename(void *arg)
{
    const struct request *r = *(struct request **)arg;
    return weft__or_errno(rename(r->path, r->to));
}

int weft_fs_rename(const char *from, const char *to)
{
    return from && to ? perform_only(do_rename, request(from, to)) : -EINVAL;
}

static int do_unlink(void *arg)
{
    const struct request *r = *(struct request **)arg;
    return weft__or_errno(unlink(r->path));
}

int weft_fs_unlink(const char *path)
{
    return path ? perform_only(do_unlink, request(path, NULL)) : -EINVAL;
}

static int do_mkdir(void *arg)
{
    const struct request *r = *(struct request **)arg;
    return weft__or_errno(mkdir(r->path, r->mode));
}

int weft_fs_mkdir(const char *path, unsigned mode)
{
    if (!path)
        return -EINVAL;
    struct request *r = request(path, NULL);
    if (r)
        r->mode = mode;
    return perform_only(do_mkdir, r);
}

/* ---- a whole file */

/* More room in *data, of which `n` of *room bytes are used; one more is for the 0. */
static int grow(char **data, size_t n, size_t *room, size_t most)
{
    size_t wanted = *room < most / 2 ? *room * 2 : most;
    if (n >= most)
        return -EFBIG;
    char *more = weft__mem_alloc(wanted + 1);
    if (!more)
        return -ENOMEM;
    memcpy(more, *data, n);
    weft__mem_free(*data);
    *data = more;
    *room = wanted;
    return 0;
}

/* `size`: what it is said to have; it is no more than a hint. */
static int read_whole(struct request *r, size_t size)
{
    size_t room = size > 0 ? size + 1 : FIRST_BYTES; /* so that the end is seen without growing */
    size_t most = (size > LOAD_MOST / 2 ? size * 2 : LOAD_MOST) + 1; /* one more shows that there is more */
    r->data = weft__mem_alloc(room + 1);
    if (!r->data)
        return -ENOMEM;
    for (int rc;;) {
        if (r->n == room && (rc = grow(&r->data, r->n, &room, most)) < 0)
            return rc;
        rc = weft__or_errno(read(r->fd, r->data + r->n, room - r->n < MOST ? room - r->n : MOST));
        if (rc == 0)
            break;
        if (rc < 0 && rc != -EINTR)
            return rc;
        r->n += rc > 0 ? (size_t)rc : 0;
    }
    r->data[r->n] = 0;
    return 0;
}

static int do_load(void *arg)
{
    struct request *r = *(struct request **)arg;
    int rc = do_open(arg);
    if (rc < 0)
        return rc;
    if ((rc = weft__or_errno(fstat(r->fd, &r->st))) == 0) {
        uint64_t size = S_ISREG(r->st.st_mode) ? (uint64_t)r->st.st_size : 0;
        rc = size > SIZE_MAX / 4 ? -EFBIG : read_whole(r, (size_t)size);
    }
    close(r->fd);
    r->fd = -1;
    return rc;
}

int weft_fs_load(const char *path, char **data, size_t *n)
{
    if (!path || !data)
        return -EINVAL;
    struct request *r = request(path, NULL);
    if (!r)
        return -ENOMEM;
    int rc = perform(do_load, &r);
    if (rc == 0) {
        *data = r->data;
        r->data = NULL;
        if (n)
            *n = r->n;
    }
    if (r)
        drop_request(&r);
    return rc;
}

struct store {
    const char *path;
    const char *data;
    size_t n;
    unsigned mode;
};

static int write_out(int fd, const char *data, size_t n)
{
    while (n > 0) {
        struct iovec v = { .iov_base = (void *)(uintptr_t)data, .iov_len = n < MOST ? n : MOST };
        int rc = (int)weft__quiet_write(fd, &v, 1);
        if (rc < 0 && rc != -EINTR)
            return rc;
        data += rc > 0 ? rc : 0;
        n -= rc > 0 ? (size_t)rc : 0;
    }
    return 0;
}

static int sync_now(int fd)
{
    int rc;
    do {
        rc = weft__or_errno(fsync(fd));
    } while (rc == -EINTR);
    return rc;
}

/* A new file in the directory; its name goes to `name`. */
static int open_new(int dir, unsigned mode, char name[32])
{
    int rc = -EEXIST;
    for (int i = 0; i < TEMP_TRIES && (rc == -EEXIST || rc == -EINTR); i++) {
        uint64_t number = 0;
        if ((rc = weft__or_errno(getrandom(&number, sizeof number, 0))) < 0)
            continue;
        snprintf(name, 32, ".weft-%016llx", (unsigned long long)number);
        rc = weft__or_errno(openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    }
    return rc;
}

/* FS3 */
static int store_in(int dir, const char *base, const struct store *s)
{
    char name[32];
    int fd = open_new(dir, s->mode, name);
    if (fd < 0)
        return fd;
    int rc = write_out(fd, s->data, s->n);
    if (rc == 0)
        rc = sync_now(fd);
    int closed = weft__or_errno(close(fd));
    if (rc == 0 && closed != -EINTR) /* it is closed all the same, and what is in it on the disk */
        rc = closed;
    if (rc == 0)
        rc = weft__or_errno(renameat(dir, name, dir, base));
    if (rc < 0) {
        unlinkat(dir, name, 0);
        return rc;
    }
    rc = sync_now(dir);
    return rc == -EINVAL || rc == -ENOSYS ? 0 : rc; /* some file systems have nothing to sync there */
}

static int do_store(void *arg)
{
    const struct store *s = arg;
    const char *slash = strrchr(s->path, '/'), *base = slash ? slash + 1 : s->path;
    size_t bytes = slash ? (size_t)(slash - s->path) : 0;
    char dir[PATH_MAX];
    if (!base[0])
        return slash ? -EISDIR : -ENOENT;
    if (bytes >= sizeof dir)
        return -ENAMETOOLONG;
    memcpy(dir, s->path, bytes);
    if (bytes == 0)
        dir[bytes++] = slash ? '/' : '.';
    dir[bytes] = 0;
    int fd;
    do {
        fd = weft__or_errno(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    } while (fd == -EINTR);
    if (fd < 0)
        return fd;
    int rc = store_in(fd, base, s);
    close(fd);
    return rc;
}

int weft_fs_store(const char *path, const void *data, size_t n, unsigned mode)
{
    if (!path || (!data && n > 0))
        return -EINVAL;
    struct store s = { .path = path, .data = data, .n = n, .mode = mode };
    int rc = weft__lane_enter();
    return rc < 0 ? rc : weft__lane_call(WEFT__LANE_FILES, do_store, &s);
}

void weft_free(void *p)
{
    weft__mem_free(p);
}

void weft_free_auto(char **p)
{
    weft__mem_free(*p);
    *p = NULL;
}

/* ---- calls by a descriptor: FS2 */

struct transfer {
    int fd;
    struct iovec v;
    off_t offset;
};

static int do_pread(void *arg)
{
    const struct transfer *t = arg;
    int rc;
    do {
        rc = weft__or_errno(pread(t->fd, t->v.iov_base, t->v.iov_len, t->offset));
    } while (rc == -EINTR);
    return rc;
}

static int do_pwrite(void *arg)
{
    const struct transfer *t = arg;
    struct weft__quiet q;
    int rc;
    weft__quiet_begin(&q);
    do {
        rc = weft__or_errno(pwrite(t->fd, t->v.iov_base, t->v.iov_len, t->offset));
    } while (rc == -EINTR);
    return (int)weft__quiet_end(&q, rc);
}

static int do_sync(void *arg)
{
    return sync_now(((const struct transfer *)arg)->fd);
}

/* Whether all of it was in memory. */
static bool read_at_once(const struct transfer *t)
{
    return t->v.iov_len > 0 && t->v.iov_len <= AT_ONCE &&
            preadv2(t->fd, &t->v, 1, t->offset, RWF_NOWAIT) == (ssize_t)t->v.iov_len;
}

static int by_descriptor(weft_fn *fn, int fd, void *buf, size_t n, uint64_t offset)
{
    struct weft__frame *f = weft__current();
    struct weft__slot *s;
    if (!f)
        return weft__no_frame();
    if ((!buf && n > 0) || offset > INT64_MAX)
        return -EINVAL;
    struct transfer t = { .fd = fd, .v = { .iov_base = buf, .iov_len = n < MOST ? n : MOST }, .offset = (off_t)offset };
    int rc = weft__enter_call(f);
    if (rc < 0 || (rc = weft__slot_enter(fd, &s)) < 0)
        return rc;
    if (fn == do_pread && read_at_once(&t))
        rc = (int)t.v.iov_len;
    else
        rc = weft__lane_call(WEFT__LANE_FILES, fn, &t);
    weft__slot_leave(s);
    return rc;
}

int weft_fs_pread(int fd, void *buf, size_t n, uint64_t offset)
{
    return weft__on_stack(by_descriptor(do_pread, fd, buf, n, offset));
}

int weft_fs_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
    return weft__on_stack(by_descriptor(do_pwrite, fd, (void *)(uintptr_t)buf, n, offset));
}

int weft_fs_sync(int fd)
{
    return weft__on_stack(by_descriptor(do_sync, fd, NULL, 0, 0));
}

/* ---- directories: a batch of entries at a time */

enum { BATCH_BYTES = 32768 };

/* The generator's; the lane's, when a call on it was left. */
struct lister {
    int fd;
    bool *begun; /* NULL once it has */
    char *path;
    int bytes; /* of the batch */
    _Alignas(struct dirent64) char batch[BATCH_BYTES];
};

static void drop_lister(void *arg)
{
    struct lister *l = *(struct lister **)arg;
    if (l->fd >= 0)
        close(l->fd);
    weft__mem_free(l->path);
    weft__mem_free(l);
}

static int do_batch(void *arg)
{
    struct lister *l = *(struct lister **)arg;
    while (l->fd < 0) {
        int rc = weft__or_errno(open(l->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (rc < 0 && rc != -EINTR)
            return rc;
        l->fd = rc < 0 ? -1 : rc;
    }
    return l->bytes = weft__or_errno(getdents64(l->fd, l->batch, BATCH_BYTES));
}

/* Hands out what is in the batch. */
static int hand_out_batch(weft_gen *g, struct lister *l)
{
    int rc = 0;
    for (int at = 0; rc == 0 && at < l->bytes;) {
        const struct dirent64 *d = (const void *)(l->batch + at);
        at += d->d_reclen;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        weft_entry entry = { .name = d->d_name, .type = d->d_type };
        rc = weft_gen_yield(g, &entry, sizeof entry);
    }
    return rc;
}

/* The first item says no more than that the directory is open: weft_fs_list takes it. So the body has always begun when
 * the generator is handed out, and is there to free what it has. */
static int list(weft_gen *g, void *arg)
{
    struct lister *l = arg;
    const weft_entry opened = { .name = NULL };
    *l->begun = true;
    l->begun = NULL;
    int rc;
    for (bool first = true;; first = false) {
        rc = weft__lane_call_copy(WEFT__LANE_FILES, do_batch, &l, sizeof l, drop_lister);
        if (rc == -ECANCELED)
            return rc; /* l is the lane's */
        bool more = rc > 0;
        if (first && rc >= 0)
            rc = weft_gen_yield(g, &opened, sizeof opened);
        if (rc < 0 || !more || (rc = hand_out_batch(g, l)) < 0)
            break;
    }
    drop_lister(&l);
    return rc;
}

int weft_fs_list(weft_gen **out, const char *path)
{
    if (!out || !path)
        return -EINVAL;
    size_t bytes = strlen(path) + 1;
    bool begun = false;
    weft_gen *g = NULL;
    weft_entry opened;
    int rc = weft__lane_enter();
    if (rc < 0)
        return rc;
    struct lister *l = weft__mem_alloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    l->fd = -1;
    l->begun = &begun;
    l->path = weft__mem_alloc(bytes);
    rc = -ENOMEM;
    if (l->path) {
        memcpy(l->path, path, bytes);
        rc = weft_gen_create(&g, list, l, sizeof opened, &(weft_gen_options){ .name = "weft_fs_list" });
        if (rc == 0)
            rc = weft_gen_next(g, &opened, sizeof opened);
    }
    if (!begun)
        drop_lister(&l);
    if (rc < 0) {
        weft_gen_destroy(&g);
        return rc;
    }
    *out = g;
    return 0;
}
