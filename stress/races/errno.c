/* races/errno.c - tasks that take turns on a worker and use errno, each right after its own call: no race, for the
 * thread is one. ThreadSanitizer has to keep silent, although it takes each task for a thread.
 *
 * One sets errno and reads it after plain calls; one only fails through weft, where the runtime reads it; a third does
 * both. `moving`: on four workers, where they change their thread between two uses. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weft.h>

enum { TURNS = 500 };

/* Never inlined: errno's address may be kept within a function, and the task may be on another thread next time. */
__attribute__((noinline)) static int plain_failure(void)
{
    errno = 0;
    int rc = close(-1) < 0 ? errno : 0;
    __asm__ volatile("" : "+r"(rc)::"memory");
    return rc;
}

static int fail_through_weft(const int *fds)
{
    char b;
    weft_scope s;
    int rc = weft_read(-1, &b, 1);
    if (rc != -EBADF)
        return rc < 0 ? rc : -EIO;
    rc = weft_connect("127.0.0.1:1", NULL);
    if (rc != -ECONNREFUSED)
        return rc < 0 ? rc : -EIO;
    weft_scope_begin(&s, weft_us(20));
    rc = weft_read(fds[0], &b, 1); /* -EAGAIN inside; it waits, and is told to leave */
    return weft_scope_end(&s, rc) == -ETIMEDOUT ? 0 : -EIO;
}

static int use_errno(bool plain, bool through_weft)
{
    int fds[2];
    int rc = weft_pair(fds);
    for (int i = 0; rc == 0 && i < TURNS; i++) {
        if (plain && plain_failure() != EBADF)
            rc = -EIO;
        if (through_weft && rc == 0 && i % 8 == 0)
            rc = fail_through_weft(fds);
        if (rc == 0)
            rc = weft_yield();
    }
    weft_close(fds[0]);
    weft_close(fds[1]);
    return rc;
}

static int sets_and_reads(void *arg)
{
    (void)arg;
    return use_errno(true, false);
}

static int only_fails(void *arg)
{
    (void)arg;
    return use_errno(false, true);
}

static int does_both(void *arg)
{
    (void)arg;
    return use_errno(true, true);
}

static int parent(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, sets_and_reads, NULL);
    weft_spawn(&s, only_fails, NULL);
    weft_spawn(&s, does_both, NULL);
    return weft_scope_end(&s, 0);
}

int main(int argc, char **argv)
{
    bool moving = argc > 1 && strcmp(argv[1], "moving") == 0;
    int rc = weft_run(parent, NULL, &(weft_options){ .workers = moving ? 4 : 1 });
    if (rc < 0)
        fprintf(stderr, "%s\n", strerror(-rc));
    return rc != 0;
}
