/* weft/fs.h - files and directories.
 *
 * The kernel cannot be asked to read or write a file without waiting for the disk, so these calls are made on threads of
 * their own, the files' lane of the task's runtime (offload.h): a slow disk keeps no other task waiting, and neither
 * names nor the program's own blocking calls wait for files, nor files for them. What is in memory is read at once, if it is
 * no more than 128 KiB.
 *
 * A file that was opened here is an ordinary descriptor: weft_read and weft_write move through it (io.h), weft_close
 * closes it.
 *
 * Leaving. A call that has not begun when its task, or plain thread, is told to leave is not made; a plain thread ends what
 * it has begun. What happens to a task's that has begun differs: by a descriptor (pread, pwrite, sync), and weft_fs_store,
 * it is awaited, and its result is returned; all others return -ECANCELED at once, and the kernel's part ends by itself: a
 * file may be created, renamed or removed all the same, but no descriptor and no memory is left over, and no temporary
 * file. Opening a pipe with a name waits for its other end unless O_NONBLOCK is given, and keeps a thread of the lane for as
 * long. The end of the runtime waits for what has begun, whoever has left it: for such a pipe, until somebody opens the
 * other end.
 *
 * Results are 0 or a count, else the negative errno of the system call. More than is said at each: -EINVAL for NULL;
 * -ENOMEM; -EAGAIN no thread could be started, or the queue is full (weft_options.files).
 *
 * context    task: suspends, cancellation point (as above); plain thread: blocks it
 * source     the call on a thread of the lane, the way back by one word: runtime/os/fs.c, runtime/os/blocking.c
 */
#ifndef WEFT_FS_H
#define WEFT_FS_H

#include <sys/stat.h>
#include <weft/base.h>
#include <weft/chan.h>
#include <weft/gen.h>

#ifdef __cplusplus
extern "C" {
#endif

/* open(2), with O_CLOEXEC.
 *
 * returns    the descriptor; -ECANCELED; a negative errno */
WEFT_CHECK WEFT_API int weft_fs_open(const char *path, int flags, unsigned mode);

/* Reads up to n bytes at `offset`; the descriptor's own position is neither used nor moved.
 *
 * returns    how many, fewer than n only at the end of the file; 0 at the end; -ECANCELED; -EBADF, also while weft_close
 *            is closing it */
WEFT_CHECK WEFT_API int weft_fs_pread(int fd, void *buf, size_t n, uint64_t offset);

/* Writes at `offset`. Writing past the limit of a file's size is -EFBIG, and no signal.
 *
 * returns    how many bytes were written, which may be fewer than n: then there is no room, and the next call says why;
 *            -ECANCELED; -ENOSPC, -EFBIG, -EIO, -EBADF */
WEFT_CHECK WEFT_API int weft_fs_pwrite(int fd, const void *buf, size_t n, uint64_t offset);

/* fsync(2): what was written is on the disk. After an error it cannot be known what is.
 *
 * returns    0; -ECANCELED; -EIO, ... */
WEFT_CHECK WEFT_API int weft_fs_sync(int fd);

/* stat(2).
 *
 * returns    0; -ECANCELED; -ENOENT, ... */
WEFT_CHECK WEFT_API int weft_fs_stat(const char *path, struct stat *out);

/* rename(2).
 *
 * returns    0; -ECANCELED; -ENOENT, ... */
WEFT_CHECK WEFT_API int weft_fs_rename(const char *from, const char *to);

/* unlink(2).
 *
 * returns    0; -ECANCELED; -ENOENT, ... */
WEFT_CHECK WEFT_API int weft_fs_unlink(const char *path);

/* mkdir(2).
 *
 * returns    0; -ECANCELED; -EEXIST, ... */
WEFT_CHECK WEFT_API int weft_fs_mkdir(const char *path, unsigned mode);

/* Makes and opens a new file, for its owner alone, whose name is path_template with the six X at its end replaced.
 *
 * returns    the descriptor; -ECANCELED; -EINVAL the template does not end in XXXXXX; a negative errno
 * on error   path_template is untouched, and there is no file */
WEFT_CHECK WEFT_API int weft_fs_temp(char *path_template);

/* Reads a whole file, whatever size it is said to have; those of /proc, too. *data has *n bytes, and a 0 behind them which
 * is not counted; it is for weft_free. n may be NULL.
 *
 * returns    0; -EFBIG it has more than 64 MiB, and more than twice what its size was; -ECANCELED; a negative errno
 * on error   *data and *n are untouched */
WEFT_CHECK WEFT_API int weft_fs_load(const char *path, char **data, size_t *n);

/* Replaces a file, or makes it: whoever opens it finds either all of what it was or all of this, even after a crash. It is
 * written to a new file in the same directory, which then takes the name; so the file of a symbolic link is not changed,
 * the link is replaced. `mode` is for that new file, less the umask.
 *
 * returns    0; -ECANCELED; a negative errno
 * on error   the old file is as it was, and nothing is left of the new one. But if the last step fails, which is to sync the
 *            directory, it was replaced, and a crash might undo it */
WEFT_CHECK WEFT_API int weft_fs_store(const char *path, const void *data, size_t n, unsigned mode);

/* Frees what weft has handed out. NULL: nothing is done.
 *
 * context    any thread: never suspends */
WEFT_API void weft_free(void *p);

/* The same for WEFT_AUTO(weft_free_auto); *p is NULL then.
 *
 * context    any thread: never suspends */
WEFT_API void weft_free_auto(char **p);

/* An entry of a directory. */
typedef struct weft_entry {
    const char *name; /* valid until the next item is asked for */
    int type;         /* DT_REG, DT_DIR, ... of dirent.h; DT_UNKNOWN where the file system does not say */
} weft_entry;

/* Opens a directory and makes a generator of its entries, without "." and "..", in no order. It reads many of them at a time.
 * weft_gen_destroy closes the directory, and so does the end of what the generator belongs to (gen.h).
 *
 *     while ((rc = weft_gen_next(g, &entry, sizeof entry)) > 0)
 *         puts(entry.name);
 *
 * returns    0; -ECANCELED; -ENOENT, -ENOTDIR, ...
 * on error   *out is untouched */
WEFT_CHECK WEFT_API int weft_fs_list(weft_gen **out, const char *path);

/* What has happened to a watched file, or in a watched directory. */
typedef struct weft_change {
    uint32_t what;  /* IN_CREATE, IN_MODIFY, ... of sys/inotify.h; IN_Q_OVERFLOW: changes were lost */
    char name[256]; /* of the directory's entry; "": the file or directory itself */
} weft_change;

/* Watches a file or directory for `what`, a mask for inotify_add_watch(2), and makes a channel of the changes. The channel
 * keeps 256 of them; who lags by more loses the oldest, and weft_chan_missed counts them. What the kernel itself could not
 * keep is told by IN_Q_OVERFLOW. The watch ends with weft_chan_close or weft_chan_destroy, and when the file or directory is
 * gone: then the last change is IN_IGNORED, and the channel is closed. Like any channel it belongs to no task or scope.
 *
 * returns    0; -ECANCELED; -ENOENT, ...; -EMFILE, -ENOSPC the limits of inotify(7)
 * on error   *out is untouched */
WEFT_CHECK WEFT_API int weft_fs_watch(weft_chan **out, const char *path, uint32_t what);

#ifdef __cplusplus
}
#endif
#endif
