/* work_file.c - file_read: many tasks read pages of one file.
 *
 * The file was just written, so no figure contains a disk: it is what a read costs beside that. With lane=1 each read asks
 * for one byte more than the file has, which the kernel cannot promise without waiting, and so goes to the files' lane. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 4096 };

struct reading {
    int fd;
    long each;
    bool lane;
};

static int read_pages(void *arg)
{
    const struct reading *r = arg;
    char page[PAGE + 1];
    uint64_t at = (uint64_t)(uintptr_t)page >> 8; /* tasks begin at different places */
    for (long i = 0; i < r->each; i++) {
        at = r->lane ? PAGES - 1 : (at * 5 + 1) % PAGES;
        int rc = weft_fs_pread(r->fd, page, r->lane ? PAGE + 1 : PAGE, at * PAGE);
        if (rc < 0)
            return rc;
        if (rc != PAGE || page[0] != (char)at || page[PAGE - 1] != (char)at)
            return job_verify(rc, PAGE);
    }
    return 0;
}

static int fill(int fd)
{
    char page[PAGE];
    for (uint64_t i = 0; i < PAGES; i++) {
        memset(page, (char)i, sizeof page);
        int rc = weft_fs_pwrite(fd, page, sizeof page, i * PAGE);
        if (rc != PAGE)
            return rc < 0 ? rc : -ENOSPC;
    }
    return 0;
}

int work_file_read(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), tasks = job_arg(j, "tasks");
    char path[] = "/tmp/weft-bench-XXXXXX";
    struct reading r = { .each = n / tasks, .lane = job_arg(j, "lane") != 0 };
    if (tasks > n)
        return weft_fail(-EINVAL, "tasks has to be at most n");
    r.fd = weft_fs_temp(path);
    if (r.fd < 0)
        return weft_fail(r.fd, "no file in /tmp");
    unlink(path);
    int rc = fill(r.fd);
    if (rc == 0) {
        job_start(j);
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (long i = 0; i < tasks; i++)
            weft_spawn(&s, read_pages, &r);
        rc = weft_scope_end(&s, 0);
        job_stop(j, r.each * tasks);
    }
    weft_close(r.fd);
    return rc;
}
