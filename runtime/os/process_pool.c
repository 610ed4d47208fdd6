/* os/process_pool.c - processes that answer calls, so that what crashes in one is an error of one call.
 *
 * Owns      the workers: who is idle, who has a caller, and when one is started or ended.
 * Callers   tasks of any runtime and plain threads, several at once.
 * Holds     K1  who calls has a permit, and at most one worker; a worker is one caller's, or idle, and then no permit is out
 *               for it. So there are never more workers than permits, and whoever finds none idle may start one.
 *           K2  a worker is idle only if it has answered all that it was asked, and its output is empty as far as anybody
 *               can see. Whatever else happens to it, it is ended: what it says next would be another's answer.
 *           K3  who calls touches a worker's process while the worker is in `busy`, or when it was taken out of there; who
 *               closes the pool does so under the lock, and so only while it is there.
 *           K4  one call starts one worker at most: only one that had been used before is replaced on the way. So a program
 *               that ends at once is started as often as it is called, and no more.
 *           K5  the pool is there as long as somebody uses it: it is counted, since who closes it may be cut off (scope.h)
 *               before the calls have returned.
 * Waiting   Each worker has an epoll set with its output and its pidfd; and with its input, while a request waits for room.
 *           So whoever calls hears of the end of a worker that has left its output to processes of its own, a worker that
 *           answers too early does not wait for who writes to it, and a task and a plain thread do the same.
 * Dropped   A task that watches idle workers: plain threads have none, and who ended while it was idle is nobody's call. It
 *           stays a zombie until it is next needed, or the pool is closed. Several calls at one worker at a time: all of
 *           them would end with it. Unix sockets instead of pipes: os/process.c.
 * Tested    tests/process_pool_test.c */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <weft/error.h>
#include <weft/io.h>
#include <weft/scope.h>
#include <weft/sync.h>
#include <weft/time.h>

#include "base/cpus.h"
#include "base/errno.h"
#include "base/fork.h"
#include "base/futex.h"
#include "base/mem.h"
#include "base/quiet.h"
#include "coord/await.h"
#include "coord/error.h"
#include "event/poller.h"
#include "os/lane.h"
#include "os/process.h"

enum {
    WORKERS_MOST = 1024,
    LIMIT = 16 * 1024 * 1024,
    AHEAD = 4096,      /* what is read at once before it is known how long the answer is */
    ERRNO_MOST = 4095,
};

#define LIMIT_MOST (UINT32_MAX - WEFT__FRAME_RESULT)
#define LEAVE_NS INT64_C(1000000000)
#define LAST_WORD_NS INT64_C(100000000) /* between the end of its output and its own, to hear how it ended */

struct worker {
    struct weft__link link; /* of `idle` or `busy` */
    struct weft_process *p;
    int set;
    uint64_t runtime; /* whose tasks have waited at the set; 0: none have */
    uint64_t calls;   /* that it has answered */
    unsigned char ahead[AHEAD];
};

struct weft_process_pool {
    /* Written once. */
    char **argv;
    weft_process_options how;
    void *text; /* of both */
    uint32_t workers;
    uint64_t max_calls;
    size_t request_limit, answer_limit;
    int64_t leave_grace;
    /* Of all. */
    weft_sem permits;
    at_int users; /* K5 */
    struct weft__lock lock; /* of what follows */
    struct weft__link idle, busy; /* the last one that was used is the first of the idle ones */
    bool closed; /* nobody gets a worker any more */
    bool killed; /* and those who have one are to lose it */
};

/* ---- a worker's beginning and end */

static int watch(int set, int op, int fd, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.fd = fd };
    return epoll_ctl(set, op, fd, &e) < 0 ? -weft__errno() : 0;
}

/* The set of one that was started. */
static int open_set(struct worker *w)
{
    int set = weft__or_errno(epoll_create1(EPOLL_CLOEXEC));
    if (set < 0)
        return set;
    int rc = weft__slot_adopt(set, 0);
    if (rc < 0) {
        close(set);
        return rc;
    }
    w->set = set;
    rc = watch(w->set, EPOLL_CTL_ADD, weft__process_fd(w->p, WEFT__STDOUT), EPOLLIN);
    if (rc == 0)
        rc = watch(w->set, EPOLL_CTL_ADD, w->p->pidfd, EPOLLIN);
    return rc;
}

/* It is in no list. The set goes first: a child that is just being started may have the pipes until its exec, and the set
 * would go on telling of them. */
static void end(struct worker *w)
{
    if (w->set >= 0)
        weft_ignore(weft_close(w->set));
    weft_process_close(&w->p);
    weft__mem_free(w);
}

static int start(struct weft_process_pool *pool, struct worker **out)
{
    struct worker *w = weft__mem_zeroed(sizeof *w);
    if (!w)
        return -ENOMEM;
    w->set = -1;
    int rc = weft_process_open(&w->p, (const char *const *)pool->argv, &pool->how);
    if (rc == 0)
        rc = open_set(w);
    if (rc < 0) {
        end(w);
        return rc == -ECANCELED ? rc : weft_fail(rc, "no worker was started: %s: %s", pool->argv[0], weft_strerror(rc));
    }
    *out = w;
    return 0;
}

/* It does not go on: idle no longer, or a caller's. */
static void take_out(struct weft_process_pool *pool, struct worker *w)
{
    weft__lock(&pool->lock);
    list_remove(&w->link);
    weft__unlock(&pool->lock);
}

/* It has ended, or closed its output, or says what it was not asked. */
static bool is_stale(const struct worker *w)
{
    struct epoll_event e;
    return epoll_wait(w->set, &e, 1, 0) != 0;
}

/* A descriptor is of the runtime that waits for it; nobody waits for this one now. */
static void wait_here(struct worker *w)
{
    const struct weft__sched *s = weft__self();
    uint64_t mine = s ? s->group->number : 0;
    if (mine != 0 && w->runtime != 0 && w->runtime != mine)
        weft_ignore(weft_fd_forget(w->set));
    if (mine != 0)
        w->runtime = mine;
}

static int is_closed(void)
{
    return weft_fail_text(-EPIPE, "the pool is being closed");
}

/* One that was idle, which is busy now; NULL: there is none. */
static int take_idle(struct weft_process_pool *pool, struct worker **out)
{
    weft__lock(&pool->lock);
    bool closed = pool->closed;
    struct weft__link *l = closed ? NULL : list_pop_head(&pool->idle);
    if (l)
        list_push_tail(&pool->busy, l);
    weft__unlock(&pool->lock);
    *out = l ? container_of(l, struct worker, link) : NULL;
    return closed ? is_closed() : 0;
}

/* K4. */
static int get_worker(struct weft_process_pool *pool, struct worker **out)
{
    struct worker *w;
    int rc;
    while ((rc = take_idle(pool, &w)) == 0 && w && is_stale(w)) {
        take_out(pool, w);
        end(w);
    }
    if (rc == 0 && !w) {
        if ((rc = start(pool, &w)) < 0)
            return rc;
        weft__lock(&pool->lock);
        bool killed = pool->killed;
        if (!killed)
            list_push_tail(&pool->busy, &w->link);
        weft__unlock(&pool->lock);
        if (killed) {
            end(w);
            return is_closed();
        }
    }
    if (rc == 0) {
        wait_here(w);
        *out = w;
    }
    return rc;
}

/* It has answered (K2). */
static void keep(struct weft_process_pool *pool, struct worker *w)
{
    bool stays = ++w->calls != pool->max_calls;
    weft__lock(&pool->lock);
    stays = stays && !pool->killed;
    list_remove(&w->link);
    if (stays)
        list_push_head(&pool->idle, &w->link);
    weft__unlock(&pool->lock);
    if (stays)
        return;
    weft_process_close_in(w->p);
    (void)weft__process_ends_within(w->p, pool->leave_grace, false);
    end(w);
}

/* ---- one call */

struct call {
    struct weft_process_pool *pool;
    struct worker *w;
    /* The request, as it goes out. */
    struct iovec out[2];
    size_t sent, bytes;
    bool in_set; /* it waits for room */
    /* The answer, as it comes in: `got` of `whole` bytes (0: not known yet). The first ones are in w->ahead. */
    size_t got, whole;
    int result;
    char *answer; /* what is behind the head, and a 0 */
};

static int watch_input(struct call *c, bool on)
{
    if (c->in_set == on)
        return 0;
    c->in_set = on;
    return watch(c->w->set, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, weft__process_fd(c->w->p, WEFT__STDIN), EPOLLOUT);
}

/* Writes what fits. */
static int say(struct call *c)
{
    while (c->sent < c->bytes) {
        struct iovec *v = c->out[0].iov_len > 0 ? &c->out[0] : &c->out[1];
        int n = v == &c->out[0] && c->out[1].iov_len > 0 ? 2 : 1;
        long done = weft__quiet_write(weft__process_fd(c->w->p, WEFT__STDIN), v, n);
        if (done == -EAGAIN)
            return watch_input(c, true);
        if (done < 0 && done != -EINTR)
            return (int)done;
        for (size_t left = done < 0 ? 0 : (size_t)done; left > 0; v++) {
            size_t part = left < v->iov_len ? left : v->iov_len;
            v->iov_base = (char *)v->iov_base + part;
            v->iov_len -= part;
            c->sent += part;
            left -= part;
        }
    }
    return watch_input(c, false);
}

static int no_answer(const char *why)
{
    return weft_fail_text(-EPROTO, why);
}

/* As soon as its length is there, which is refused before anything else of it is read; and then its result. */
static int look_at_head(struct call *c)
{
    if (c->got < WEFT__FRAME_LENGTH)
        return 0;
    size_t n = weft__get32(c->w->ahead);
    if (n < WEFT__FRAME_RESULT)
        return no_answer("the worker's answer has no result");
    if (n - WEFT__FRAME_RESULT > c->pool->answer_limit)
        return weft_fail(-EMSGSIZE, "the worker's answer has %zu bytes, and the limit is %zu", n - WEFT__FRAME_RESULT,
                c->pool->answer_limit);
    if (c->got < WEFT__FRAME_HEAD)
        return 0;
    c->result = (int)weft__get32(c->w->ahead + WEFT__FRAME_LENGTH);
    if (c->result < -ERRNO_MOST)
        return no_answer("the result of the worker's answer is no error number");
    c->whole = WEFT__FRAME_LENGTH + n;
    if (c->got > c->whole)
        return no_answer("the worker says more than its answer");
    if (!(c->answer = weft__mem_alloc(c->whole - WEFT__FRAME_HEAD + 1)))
        return -ENOMEM;
    memcpy(c->answer, c->w->ahead + WEFT__FRAME_HEAD, c->got - WEFT__FRAME_HEAD);
    c->answer[c->whole - WEFT__FRAME_HEAD] = 0;
    return 0;
}

static bool is_answered(const struct call *c)
{
    return c->whole != 0 && c->got == c->whole;
}

/* Reads what is there, up to the end of the answer. */
static int hear(struct call *c)
{
    while (!is_answered(c)) {
        void *to = c->whole ? (void *)(c->answer + (c->got - WEFT__FRAME_HEAD)) : (void *)(c->w->ahead + c->got);
        ssize_t n = read(weft__process_fd(c->w->p, WEFT__STDOUT), to, (c->whole ? c->whole : AHEAD) - c->got);
        int rc = n < 0 ? -weft__errno() : n == 0 ? -EPIPE : 0;
        if (rc == -EAGAIN)
            return 0;
        if (rc == -EINTR)
            continue;
        if (rc < 0)
            return rc;
        c->got += (size_t)n;
        if (!c->whole && (rc = look_at_head(c)) < 0)
            return rc;
    }
    return c->sent == c->bytes ? 0 : no_answer("the worker has answered before it had read all of the request");
}

/* What the set tells. What an ended worker has said is there: the pidfd may have been told of before that was seen. */
static int look_around(struct call *c)
{
    struct epoll_event e[WEFT__STDIO];
    bool ended = false;
    int rc = 0, n = epoll_wait(c->w->set, e, WEFT__STDIO, 0);
    for (int i = 0; i < n && rc == 0; i++) {
        if (e[i].data.fd == c->w->p->pidfd)
            ended = true;
        else
            rc = e[i].data.fd == weft__process_fd(c->w->p, WEFT__STDIN) ? say(c) : hear(c);
    }
    if (rc == 0 && ended && !is_answered(c))
        rc = hear(c);
    return rc == 0 && ended && !is_answered(c) ? -EPIPE : rc;
}

static int converse(struct call *c)
{
    int rc = say(c);
    while (rc == 0 && !is_answered(c)) {
        rc = weft_wait_fd(c->w->set, WEFT_READABLE);
        if (rc > 0)
            rc = look_around(c);
    }
    return rc;
}

/* Why it is -EPIPE. The end of a process is later than that of its pipes. */
static int tell_end(const struct call *c)
{
    int status, pid = weft_process_pid(c->w->p);
    char after[64] = "";
    if (c->got > 0)
        snprintf(after, sizeof after, ", after %zu bytes of an answer", c->got);
    (void)weft__process_ends_within(c->w->p, LAST_WORD_NS, true);
    if (!weft__process_has_ended(c->w->p, &status))
        return weft_fail(-EPIPE, "worker %d has closed its input or output%s", pid, after);
    if (status == INT_MIN)
        return weft_fail(-EPIPE, "worker %d has ended%s", pid, after);
    return weft_fail(-EPIPE, "worker %d %s %d%s", pid, status < 0 ? "was ended by signal" : "has exited with",
            status < 0 ? -status : status, after);
}

/* The text of an error, of which a line in a log has to stay one. */
static int tell_error(const struct call *c)
{
    char text[sizeof ((struct weft__detail *)0)->text];
    size_t n = c->whole - WEFT__FRAME_HEAD;
    if (n == 0)
        return weft_fail_text(c->result, weft_strerror(c->result));
    if (n >= sizeof text)
        n = sizeof text - 1;
    for (size_t i = 0; i < n; i++)
        text[i] = (unsigned char)c->answer[i] < ' ' || c->answer[i] == 0x7f ? '?' : c->answer[i];
    text[n] = 0;
    return weft_fail_text(c->result, text);
}

/* With a permit. One that had gone before it was told anything, after it was idle, is nobody's call. */
static int call_one(struct weft_process_pool *pool, const void *request, size_t bytes, struct call *c)
{
    unsigned char length[WEFT__FRAME_LENGTH];
    weft__put32(length, (uint32_t)bytes);
    for (;;) {
        *c = (struct call){ .pool = pool, .bytes = sizeof length + bytes,
            .out = { { length, sizeof length }, { (void *)(uintptr_t)request, bytes } } };
        int rc = get_worker(pool, &c->w);
        if (rc < 0)
            return rc;
        if ((rc = converse(c)) == 0) {
            keep(pool, c->w);
            return c->result < 0 ? tell_error(c) : c->result;
        }
        bool untouched = rc == -EPIPE && c->sent == 0 && c->got == 0 && c->w->calls > 0;
        if (rc == -EPIPE && !untouched)
            rc = tell_end(c);
        take_out(pool, c->w);
        end(c->w);
        if (!untouched)
            return rc;
    }
}

static void leave(struct weft_process_pool *pool)
{
    if (ati_add(&pool->users, (uint32_t)-1) != 1)
        return;
    weft__mem_free(pool->text);
    weft__mem_free(pool);
    weft__fork_runtime_end();
}

int weft_process_pool_call(weft_process_pool *pool, const void *request, size_t bytes, char **answer, size_t *answer_bytes)
{
    struct call c = { .answer = NULL };
    if (weft__forked)
        return -ECHILD;
    if (!pool || (!request && bytes > 0))
        return -EINVAL;
    ati_add(&pool->users, 1); /* from here on: to begin may be to yield, and it may be closed meanwhile */
    int rc = weft__lane_enter();
    if (rc == 0 && bytes > pool->request_limit)
        rc = weft_fail(-EMSGSIZE, "a request of %zu bytes, and the limit is %zu", bytes, pool->request_limit);
    if (rc == 0 && (rc = weft_sem_acquire(&pool->permits, 1)) == 0) {
        rc = call_one(pool, request, bytes, &c);
        weft_ignore(weft_sem_release(&pool->permits, 1));
    }
    leave(pool);
    if (rc >= 0 && answer_bytes)
        *answer_bytes = c.whole - WEFT__FRAME_HEAD;
    if (rc >= 0 && answer)
        *answer = c.answer;
    else
        weft__mem_free(c.answer);
    return rc;
}

/* ---- the pool */

static bool makes_sense(const char *const *argv, const weft_process_pool_options *o)
{
    return weft__reserved_zero(o) && o->workers >= 0 && o->workers <= WORKERS_MOST && o->request_limit <= LIMIT_MOST &&
           o->answer_limit <= LIMIT_MOST && o->leave_grace >= 0 && o->process.in == 0 && o->process.out == 0 &&
           weft__process_makes_sense(argv, &o->process);
}

/* Copies a list of texts that ends with NULL to *at, its pointers first; with at NULL it only counts. How many bytes. */
static size_t copy_list(const char *const *list, char *at)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    size_t bytes = list ? (n + 1) * sizeof *list : 0;
    for (size_t i = 0; i < n; i++) {
        size_t more = strlen(list[i]) + 1;
        if (at) {
            memcpy(at + bytes, list[i], more);
            ((char **)(void *)at)[i] = at + bytes;
        }
        bytes += more;
    }
    if (at && list)
        ((char **)(void *)at)[n] = NULL;
    return (bytes + sizeof(char *) - 1) / sizeof(char *) * sizeof(char *);
}

/* What later starts need. */
static int copy_command(struct weft_process_pool *p, const char *const *argv, const weft_process_options *o)
{
    size_t argv_bytes = copy_list(argv, NULL), env_bytes = copy_list(o->env, NULL);
    size_t limits_bytes = (size_t)o->limits_n * sizeof *o->limits, cwd_bytes = o->cwd ? strlen(o->cwd) + 1 : 0;
    char *at = p->text = weft__mem_alloc(argv_bytes + env_bytes + limits_bytes + cwd_bytes);
    if (!at)
        return -ENOMEM;
    (void)copy_list(argv, at);
    (void)copy_list(o->env, at + argv_bytes);
    p->argv = (char **)(void *)at;
    p->how = *o;
    p->how.in = p->how.out = WEFT_STDIO_PIPE;
    if (o->env)
        p->how.env = (const char *const *)(void *)(at + argv_bytes);
    at += argv_bytes + env_bytes;
    if (limits_bytes > 0)
        p->how.limits = memcpy(at, o->limits, limits_bytes);
    if (o->cwd)
        p->how.cwd = memcpy(at + limits_bytes, o->cwd, cwd_bytes);
    return 0;
}

int weft_process_pool_open(weft_process_pool **out, const char *const *argv, const weft_process_pool_options *o)
{
    static const weft_process_pool_options defaults;
    o = o ? o : &defaults;
    if (weft__forked)
        return -ECHILD;
    if (!out || !makes_sense(argv, o))
        return -EINVAL;
    int rc = weft__register();
    if (rc < 0)
        return rc;
    struct weft_process_pool *p = weft__mem_zeroed(sizeof *p);
    if (!p || copy_command(p, argv, &o->process) < 0) {
        weft__mem_free(p);
        return -ENOMEM;
    }
    weft__fork_runtime_begin();
    p->workers = (uint32_t)(o->workers > 0 ? o->workers : weft__cpus_now());
    p->max_calls = o->max_calls;
    p->request_limit = o->request_limit > 0 ? o->request_limit : LIMIT;
    p->answer_limit = o->answer_limit > 0 ? o->answer_limit : LIMIT;
    p->leave_grace = o->leave_grace > 0 ? o->leave_grace : LEAVE_NS;
    p->permits = (weft_sem)WEFT_SEM_INIT(p->workers);
    ati_store(&p->users, 1);
    list_init(&p->idle);
    list_init(&p->busy);
    *out = p;
    return 0;
}

static int64_t left_until(int64_t at)
{
    return at == WEFT_NEVER ? WEFT_NEVER : at - weft_now();
}

/* All of them at the same time, each as weft_process_close would. */
static void end_all(struct weft_process_pool *pool, struct weft__link *all)
{
    int64_t at = weft_after(pool->leave_grace), grace = pool->how.term_grace;
    for (struct weft__link *l = all->next; l != all; l = l->next)
        weft_process_close_in(container_of(l, struct worker, link)->p);
    for (struct weft__link *l = all->next; l != all; l = l->next)
        (void)weft__process_ends_within(container_of(l, struct worker, link)->p, left_until(at), false);
    if (grace > 0 && grace != WEFT_NEVER) {
        for (struct weft__link *l = all->next; l != all; l = l->next) {
            weft_ignore(weft_process_kill(container_of(l, struct worker, link)->p, SIGTERM));
            weft_ignore(weft_process_kill(container_of(l, struct worker, link)->p, SIGCONT));
        }
        at = weft_after(grace);
        for (struct weft__link *l = all->next; l != all; l = l->next) {
            struct weft_process *p = container_of(l, struct worker, link)->p;
            if (!weft__process_ends_within(p, left_until(at), true))
                weft_ignore(weft_process_kill(p, SIGKILL));
        }
    }
    for (struct weft__link *l; (l = list_pop_head(all)) != NULL;)
        end(container_of(l, struct worker, link));
}

/* Their callers find them ended, or find `killed`. */
static void kill_busy(struct weft_process_pool *pool)
{
    weft__lock(&pool->lock);
    pool->killed = true;
    for (struct weft__link *l = pool->busy.next; l != &pool->busy; l = l->next)
        weft_ignore(weft_process_kill(container_of(l, struct worker, link)->p, SIGKILL));
    weft__unlock(&pool->lock);
}

void weft_process_pool_close(weft_process_pool **out)
{
    struct weft_process_pool *pool = out ? *out : NULL;
    struct weft__link all;
    weft_scope s;
    if (!pool)
        return;
    *out = NULL;
    if (weft__forked)
        return;
    weft__lock(&pool->lock);
    pool->closed = true;
    weft__unlock(&pool->lock);
    int rc = weft_sem_acquire(&pool->permits, pool->workers);
    if (rc < 0) {
        kill_busy(pool);
        weft_scope_begin_shield(&s, WEFT_NEVER);
        rc = weft_sem_acquire(&pool->permits, pool->workers); /* K5: or the last one who calls frees it */
        weft_ignore(weft_scope_end(&s, 0));
    }
    list_init(&all);
    weft__lock(&pool->lock);
    for (struct weft__link *l; (l = list_pop_head(&pool->idle)) != NULL;)
        list_push_tail(&all, l);
    weft__unlock(&pool->lock);
    end_all(pool, &all);
    if (rc == 0) /* for who had begun, and had not come to wait for one */
        weft_ignore(weft_sem_release(&pool->permits, pool->workers));
    leave(pool);
}
