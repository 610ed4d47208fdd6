/* weft/process.h - programs as children: started, fed, read, waited for, and ended; and pools of them, which answer calls.
 *
 * A child gets descriptors 0, 1 and 2 as it is said here, and no other. Signals that are ignored stay so, as with any exec
 * (nohup(1)), but for SIGPIPE and SIGXFSZ, which programs ignore for themselves: these, and all others, have their default
 * disposition. Its mask is the one that the thread had which made the runtime; a plain thread's child gets that thread's own.
 *
 * The ends of pipes are descriptors for weft_read, weft_write and weft_wait_fd. They belong to the process: close none but
 * by weft_process_close_in. A write to a pipe whose child has gone is -EPIPE, and no signal.
 *
 * The end of one child's pipe may be the .in or .out of the next. A socket of weft's does not wait (O_NONBLOCK), for the
 * child neither, and few programs expect that: clear it first, if only the child uses it from then on, or give the child a
 * pipe and copy (weft_copy).
 *
 * Who waits for children by itself, by wait(2), waitpid(-1) or SIGCHLD set to be ignored, takes their ends from here.
 *
 * context    any thread: never suspends. Tasks of one runtime, and plain threads, may use the same process at once, but
 *            weft_process_close has to be the last call
 * source     clone3(2) with CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND, on a thread of the pool or the
 *            worker: runtime/os/process.c
 */
#ifndef WEFT_PROCESS_H
#define WEFT_PROCESS_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What .in, .out and .err may be, besides 0 (the caller's own, unless that is close-on-exec: then it is closed there) and a
 * descriptor. */
#define WEFT_STDIO_PIPE (-1) /* a pipe, of which the other end is here */
#define WEFT_STDIO_NULL (-2) /* /dev/null */
#define WEFT_STDIO_OUT (-3)  /* .err alone: where .out goes */

/* A child. */
typedef struct weft_process weft_process;

/* A limit of what a child may use: setrlimit(2). */
typedef struct weft_rlimit {
    int resource;  /* RLIMIT_NOFILE, RLIMIT_CORE, ... of <sys/resource.h> */
    uint64_t soft; /* not above the hard one; RLIM_INFINITY: none */
    uint64_t hard;
} weft_rlimit;

/* How it is to be started, and ended. All zero, or NULL, are the defaults. */
typedef struct weft_process_options {
    const char *const *env; /* "NAME=value", NULL at the end; NULL: the caller's */
    const char *cwd;        /* where it starts; NULL: where the caller is. A relative argv[0] with a '/' is taken from there,
                               and so are relative folders of PATH, which is the caller's, whatever .env says */
    int in;                 /* 0, a descriptor (borrowed during the call), or WEFT_STDIO_ */
    int out;                /* the same */
    int err;                /* the same */
    bool new_group;         /* a process group of its own; what is sent to the child then goes to all of the group */
    int64_t term_grace;     /* weft_process_close: SIGTERM first, and SIGKILL that much later. 0: SIGKILL at once;
                               WEFT_NEVER: no SIGKILL, the child, and what is left of its group, leaves when it
                               likes. Where weft_process_close cannot wait (shields are broken, see scope.h; there is no
                               memory; tasks of another runtime have waited) it sends SIGKILL at once */
    const weft_rlimit *limits; /* set in this order before the program begins; those of the caller otherwise */
    int limits_n;              /* how many */
    uint64_t reserved[2];   /* zero */
} weft_process_options;

/* Starts argv[0], which is looked for in PATH if it has no '/', and returns once the program runs.
 *
 * returns    0; what execve(2) says: -ENOENT, -EACCES, -ENOEXEC (a script without "#!", too), -E2BIG; -ENOENT, -ENOTDIR, ...
 *            of .cwd; -EPERM of a hard limit above the caller's; -EBADF; -EMFILE, -ENFILE, -EAGAIN, -ENOMEM; -ECANCELED;
 *            -EINVAL, also a limit of no resource, or whose soft part is above its hard one
 * on error   *out is untouched, and there is no child
 * context    task: suspends, cancellation point (nothing was started); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_process_open(
        weft_process **out, const char *const *argv, const weft_process_options *o);

/* Ends it: a child that nobody has waited for is sent SIGTERM and SIGKILL, as .term_grace says, and waited for; its group
 * with it, of which those that are left when the child has ended get SIGKILL at once. Closes the pipes. Sets *p to NULL;
 * accepts NULL.
 *
 * context    task: suspends, not a cancellation point; plain thread: blocks it. In both for .term_grace at most, and until
 *            the kernel has ended the child */
WEFT_API void weft_process_close(weft_process **p);

/* Its number, for what is shown and written down; once it was waited for, another process may get it. */
WEFT_API int weft_process_pid(const weft_process *p);

/* This side's end of the pipe to its input, of those from its output and error output.
 *
 * returns    a descriptor; -EBADF there is no pipe, or it was closed */
WEFT_API int weft_process_in(weft_process *p);
WEFT_API int weft_process_out(weft_process *p);
WEFT_API int weft_process_err(weft_process *p);

/* Closes the pipe to its input: the child finds the end there. Nothing is done if there is none. */
WEFT_API void weft_process_close_in(weft_process *p);

/* Sends it a signal; with .new_group, to all of its group. Never to another process, however late.
 *
 * returns    0, also for a child that has ended and was not waited for; -ESRCH it was waited for; -EINVAL no signal; -EPERM */
WEFT_API int weft_process_kill(weft_process *p, int signo);

/* Waits until it has ended; any number of times, by any number of waiters. A stop is no end. The pipes stay open.
 *
 * returns    0, and in *status, if not NULL, what it exited with, or -N if signal N ended it; -ECANCELED; -ECHILD somebody
 *            else has waited for it; -EXDEV tasks of another runtime have waited for it
 * context    task: suspends, cancellation point (the child goes on); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_process_wait(weft_process *p, int *status);

/* What a child has said and how it ended. Each text is followed by a zero byte that does not count; NULL where there was
 * no pipe. */
typedef struct weft_output {
    int status; /* as weft_process_wait has it */
    char *out;
    char *err;
    size_t out_bytes;
    size_t err_bytes;
} weft_output;

/* Starts a child, writes `in` to it and reads all it says, at the same time, until its outputs are closed and it has ended.
 * .in, .out and .err of 0 are pipes here, .in of 0 without any input /dev/null. A child that does not read its input is
 * no error. What the child leaves behind with its outputs open, processes of its own, is waited for as well.
 *
 * returns    0, however the child ended; -EMSGSIZE it said more than `limit` bytes (of out or of err; 0: any number);
 *            what weft_process_open does; -ENOMEM; -ECANCELED
 * on error   *result is untouched; the child was ended as by weft_process_close
 * context    task: suspends, cancellation point (the child is ended); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_process_run(weft_output *result, const char *const *argv, const void *in, size_t in_bytes,
        size_t limit, const weft_process_options *o);

/* Frees what weft_process_run has filled, and empties it. NULL: nothing is done. */
WEFT_API void weft_output_free(weft_output *r);

/* ---- pools: calls that are answered by processes of their own, so that what crashes there is no more than an error here.
 *
 * A worker is any program that reads requests from its standard input and answers each on its standard output, one after
 * the other. Numbers have the highest byte first:
 *
 *     request    its length in 4 bytes; so many bytes
 *     answer     the length of what follows in 4 bytes; a result in 4, with a sign; the other bytes
 *
 * A result of 0 or more is that of the call, and the bytes are the answer. A negative one is an errno from -1 to -4095, and
 * the bytes, if there are any, its text for weft_error_text (error.h). A worker reads all of a request before it answers,
 * says nothing else on its standard output, and ends when its input does. weft_process_pool_serve does all that. */

/* Processes that answer calls, one call at a time each. */
typedef struct weft_process_pool weft_process_pool;

/* How a pool is to be. All zero, or NULL, are the defaults. */
typedef struct weft_process_pool_options {
    int workers;                  /* at most so many; 0: as many as there are processors (weft_cpus); at most 1024. They
                                     are started when they are needed, and stay */
    uint64_t max_calls;           /* a worker is ended after so many calls, and another one started when it is needed;
                                     0: it stays */
    size_t request_limit;         /* bytes of a request; 0: 16 MiB; at most UINT32_MAX - 4 */
    size_t answer_limit;          /* bytes of an answer, or of an error's text; the same */
    int64_t leave_grace;          /* so long a worker that is not needed any more (.max_calls, weft_process_pool_close) has
                                     to leave by itself when it finds the end of its input, before it is ended as by
                                     weft_process_close; 0: 1 s */
    weft_process_options process; /* how the workers are started, and ended; .in and .out are 0, they are the pool's. Copied,
                                     but a descriptor in .err has to stay open as long as the pool. With .new_group a Ctrl-C
                                     does not reach the workers, and what they start ends with them */
    uint64_t reserved[8];         /* zero */
} weft_process_pool_options;

/* Makes a pool for tasks of any runtime, and plain threads. argv is copied; no worker is started, nor looked for, before
 * the first call. A child that is forked while there is a pool is refused by all calls, as beside a runtime.
 *
 * returns    0; -ENOMEM; -EINVAL
 * on error   *out is untouched
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_process_pool_open(
        weft_process_pool **out, const char *const *argv, const weft_process_pool_options *o);

/* Has one worker answer a request, starting it if none is idle; if all are busy, waits for the first one to be free, first
 * come, first served. *answer has *answer_bytes bytes and a 0 behind them which is not counted; it is for weft_free (fs.h).
 * Either may be NULL.
 *
 * A worker that did not answer as it has to is ended, and so is one whose caller leaves before its answer, which would be
 * taken for the next one's. That concerns no other call; one call starts one worker at most. One that ended while it was
 * idle is replaced, and no call hears of it. weft_error_text says what happened, and tells errors of the worker's own from
 * those of the call.
 *
 * returns    the result of the worker: 0 or more, or its error; -EPIPE it has ended, or closed its input or output, before
 *            it answered, or the pool is being closed; -EPROTO what it says is no answer; -EMSGSIZE the request, or its
 *            answer, is longer than the limit; those of weft_process_open, if no worker could be started; those of
 *            weft_wait_fd (io.h); -ECANCELED; -ENOMEM; -EINVAL
 * on error   *answer and *answer_bytes are untouched
 * context    task: suspends, cancellation point (the worker is ended, if it has the request); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_process_pool_call(
        weft_process_pool *pool, const void *request, size_t bytes, char **answer, size_t *answer_bytes);

/* Ends the workers, and sets *pool to NULL; NULL in *pool: nothing is done. Calls that wait for a worker return -EPIPE, those
 * that have one are waited for; no other may be begun. Once the caller is told to leave, they are waited for no longer: the
 * workers get SIGKILL, and these calls -EPIPE.
 *
 * context    task: suspends, not a cancellation point; plain thread: blocks it. In both until the calls have returned, then
 *            for .leave_grace and .process.term_grace at most, whatever the number of workers, and until the kernel has
 *            ended them */
WEFT_API void weft_process_pool_close(weft_process_pool **pool);

/* What is being answered to a request. */
typedef struct weft_process_answer weft_process_answer;

/* Appends n bytes to the answer, which are copied.
 *
 * returns    0; -EMSGSIZE it is more than any answer can have; -ENOMEM; -EINVAL
 * on error   the answer is as it was
 * context    any thread: never suspends. Within the handler */
WEFT_CHECK WEFT_API int weft_process_answer_add(weft_process_answer *a, const void *data, size_t n);

/* Answers one request, which has a 0 behind it that is not counted and is gone when it returns.
 *
 * returns    the result: 0 or more; or a negative errno, with which the call of the other process fails: then the text that
 *            was set for it (weft_fail) goes along, and not what was added to the answer */
typedef int weft_process_handler(const void *request, size_t bytes, weft_process_answer *a, void *arg);

/* In a worker: answers the requests on descriptor 0, by `handler`, on descriptor 1, until there are none left. It needs no
 * runtime, and the handler may run one. To be called once: the two become close-on-exec descriptors with other numbers, 0 is
 * /dev/null from then on, and 1 is what 2 is, so that what the handler prints or starts is not taken for an answer.
 *
 * returns    0 the end of the requests; -ENODATA they ended in the middle of one; -EPIPE nobody reads the answers; -ENOMEM;
 *            -EBADF, -EMFILE, -EIO, ...; -EINVAL
 * context    any thread: never suspends, not a cancellation point, blocks it. For as long as there is no request; a task's
 *            worker, too (offload.h) */
WEFT_CHECK WEFT_API int weft_process_pool_serve(weft_process_handler *handler, void *arg);

#ifdef __cplusplus
}
#endif
#endif
