/* os/watch.c - changes of files as a channel: inotify.
 *
 * Owns      one thread for all watches of the process, which is there as long as there is a watch; its epoll set. Each watch
 *           has an inotify descriptor of its own, so that one that floods loses only its own changes.
 * Callers   weft_fs_watch: any thread. A watch's end: whoever closes or destroys its channel.
 * Holds     N1  the channel's `source` is taken out once, under the channel's lock, by who ends the watch: a close, a destroy,
 *               or the thread, for a directory that is gone.
 *           N2  the thread is at the channel only with the watch's lock, and finds in `chan` whether it is still there: a
 *               destroy takes that lock before it goes on.
 *           N3  the thread alone closes and frees watches, one event at a time: what the set hands it is there. It takes
 *               them out of the set first, since a forked child may keep the file open, of which the set goes on to tell.
 *           N4  who puts a watch on the list of the gone kicks in the same hold of the lock, and the thread ends only in one
 *               that finds no watch: nobody kicks a descriptor that it has closed.
 * Deadlock  A watch may wake a task at any time (weft__outsiders, engine/rest.h).
 * Fork      The thread counts as a runtime does.
 * Tested    tests/watch_test.c */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <weft/fs.h>

#include "base/errno.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/thread.h"
#include "coord/await.h"
#include "engine/rest.h"
#include "engine/stall.h"
#include "os/lane.h"
#include "sync/chan.h"

enum { KEPT = 256 };

struct watch {
    struct weft__chan_source source;
    struct weft__lock lock;
    struct weft_chan *chan; /* NULL: it has left; under the lock (N2) */
    int fd;
    uint32_t what;
    struct weft__link link; /* in `gone`, under that lock */
    char path[];
};

/* The thread's. */
static struct {
    pthread_mutex_t starting; /* held by threads of lanes alone */
    struct weft__lock lock;   /* of the rest */
    struct weft__link gone;
    int watches, set, kick;
    bool running;
    sigset_t mask;
} watcher = { .starting = PTHREAD_MUTEX_INITIALIZER };

static void free_watch(struct watch *w)
{
    if (w->fd >= 0)
        close(w->fd);
    weft__mem_free(w);
}

/* N4. By who has taken it from its channel. */
static void leave(struct weft__chan_source *s)
{
    struct watch *w = container_of(s, struct watch, source);
    weft__lock(&w->lock);
    w->chan = NULL;
    weft__unlock(&w->lock);
    ati_add(&weft__outsiders, (uint32_t)-1);
    weft__lock(&watcher.lock);
    list_push_tail(&watcher.gone, &w->link);
    (void)eventfd_write(watcher.kick, 1); /* which does not wait */
    weft__unlock(&watcher.lock);
    weft__stall_others();
}

/* ---- the thread */

/* One change into the channel. True: it was the last, and the watch is to leave. */
static bool hand_over(struct watch *w, const weft_change *change)
{
    struct weft__chan_after after = { .drop = NULL };
    struct weft__served served = { 0 };
    bool last = false;
    weft__lock(&w->lock);
    struct weft_chan *c = w->chan;
    if (c) {
        weft__lock(&c->lock);
        if (c->source) { /* else it is about to leave */
            (void)weft__chan_put(c, change, &after);
            last = (change->what & IN_IGNORED) != 0;
        }
        if (last) {
            c->source = NULL; /* N1 */
            weft__chan_close_kept(c, &served);
        }
        weft__unlock(&c->lock);
    }
    weft__unlock(&w->lock);
    weft__chan_settle(&after);
    weft__served_release(&served);
    return last;
}

static void read_changes(struct watch *w)
{
    _Alignas(struct inotify_event) char buf[4096];
    int n = weft__or_errno(read(w->fd, buf, sizeof buf));
    for (int at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(buf + at);
        at += (int)(sizeof *e + e->len);
        weft_change change = { .what = e->mask };
        if (e->len > 0)
            strncpy(change.name, e->name, sizeof change.name - 1);
        if (hand_over(w, &change)) {
            leave(&w->source);
            return;
        }
    }
}

/* N3. True: there is no watch any more, and the thread is not the watcher any more. */
static bool end_those_gone(void)
{
    struct weft__link *l;
    eventfd_t kicks;
    weft__lock(&watcher.lock);
    (void)eventfd_read(watcher.kick, &kicks);
    int set = watcher.set, kick = watcher.kick;
    while ((l = list_pop_head(&watcher.gone)) != NULL) {
        struct watch *w = container_of(l, struct watch, link);
        watcher.watches--;
        weft__unlock(&watcher.lock);
        (void)epoll_ctl(set, EPOLL_CTL_DEL, w->fd, &(struct epoll_event){ .events = 0 });
        free_watch(w);
        weft__lock(&watcher.lock);
    }
    bool last = watcher.watches == 0;
    if (last)
        watcher.running = false;
    weft__unlock(&watcher.lock);
    if (last) {
        close(set);
        close(kick);
    }
    return last;
}

static void *watch_thread(void *arg)
{
    int set = *(const int *)arg;
    pthread_setname_np(pthread_self(), "weft-watch");
    weft__fork_mask_use(&watcher.mask);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(set, &event, 1, -1) != 1)
            continue; /* a debugger */
        if (event.data.ptr)
            read_changes(event.data.ptr);
        else if (end_those_gone())
            break;
    }
    weft__fork_runtime_end();
    return NULL;
}

/* ---- a watch begins: on a thread of the files' lane */

/* Nobody else looks at the watcher: it is not running, and `starting` is held. */
static int start_watcher(void)
{
    struct epoll_event kicks = { .events = EPOLLIN };
    int set = weft__or_errno(epoll_create1(EPOLL_CLOEXEC));
    if (set < 0)
        return set;
    int kick = weft__or_errno(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int rc = kick < 0 ? kick : weft__or_errno(epoll_ctl(set, EPOLL_CTL_ADD, kick, &kicks));
    if (rc == 0) {
        weft__lock(&watcher.lock);
        list_init(&watcher.gone);
        watcher.set = set;
        watcher.kick = kick;
        weft__unlock(&watcher.lock);
        weft__fork_mask(&watcher.mask);
        weft__fork_runtime_begin();
        if ((rc = weft__thread_start(NULL, watch_thread, &watcher.set)) < 0)
            weft__fork_runtime_end();
    }
    if (rc < 0) {
        if (kick >= 0)
            close(kick);
        close(set);
    }
    return rc;
}

/* A place in the watcher, which is started for it: it does not end before that is given back. */
static int take_place(void)
{
    pthread_mutex_lock(&watcher.starting);
    weft__lock(&watcher.lock);
    bool running = watcher.running;
    watcher.watches += running;
    weft__unlock(&watcher.lock);
    int rc = running ? 0 : start_watcher();
    if (!running && rc == 0) {
        weft__lock(&watcher.lock);
        watcher.running = true;
        watcher.watches = 1;
        weft__unlock(&watcher.lock);
    }
    pthread_mutex_unlock(&watcher.starting);
    return rc;
}

struct start {
    struct watch *watch; /* NULL: it is the watcher's */
    weft_chan *chan;
};

static void give_up(void *arg)
{
    struct start *s = arg;
    weft_chan_destroy(&s->chan);
    if (s->watch)
        free_watch(s->watch);
}

static int do_watch(void *arg)
{
    struct start *s = arg;
    struct watch *w = s->watch;
    if ((w->fd = weft__or_errno(inotify_init1(IN_NONBLOCK | IN_CLOEXEC))) < 0)
        return w->fd;
    int rc = weft__or_errno(inotify_add_watch(w->fd, w->path, w->what));
    if (rc < 0 || (rc = take_place()) < 0)
        return rc;
    s->watch = NULL;
    w->chan = s->chan;
    ati_add(&weft__outsiders, 1);
    weft__lock(&s->chan->lock);
    s->chan->source = &w->source;
    weft__unlock(&s->chan->lock);
    struct epoll_event changes = { .events = EPOLLIN, .data.ptr = w };
    return weft__or_errno(epoll_ctl(watcher.set, EPOLL_CTL_ADD, w->fd, &changes)); /* the last: from here on it may leave */
}

int weft_fs_watch(weft_chan **out, const char *path, uint32_t what)
{
    if (!out || !path || what == 0)
        return -EINVAL;
    int rc = weft__lane_enter();
    if (rc < 0 || (rc = weft__register()) < 0)
        return rc;
    size_t bytes = strlen(path) + 1;
    struct start s = { .watch = weft__mem_zeroed(sizeof *s.watch + bytes) };
    if (!s.watch)
        return -ENOMEM;
    s.watch->source.leave = leave;
    s.watch->fd = -1;
    s.watch->what = what;
    memcpy(s.watch->path, path, bytes);
    rc = weft_chan_create(&s.chan, sizeof(weft_change), KEPT, &(weft_chan_options){ .drop_oldest = true });
    if (rc == 0)
        rc = weft__lane_call_copy(WEFT__LANE_FILES, do_watch, &s, sizeof s, give_up);
    if (rc == 0)
        *out = s.chan;
    else if (rc != -ECANCELED)
        give_up(&s);
    return rc;
}
