/* os/serve.c - a server: connections, each in a task of its own, and an end of all that in bounded time.
 *
 * Three scopes of the caller's, the outer first, and who is in them:
 *
 *     door    the acceptor. It hears what the caller is told, and so stops accepting
 *     shield  hides that from what follows: handlers are to go on until `grace` is over
 *     house   a task for each connection, and the doorkeeper, who ends with the acceptor
 *
 *     told to leave -> the acceptor ends -> the doorkeeper ends -> the caller, in weft_scope_next(house), begins the grace
 *          -> all have ended: -ECANCELED
 *          -> grace is over: weft_scope_cancel_hard(house), which breaks shields half a second later: -ETIMEDOUT. Whose
 *             last words are not taken in a tenth of a second, or who stayed for the force, is reset: -ECONNABORTED
 *
 * Owns      the connections, until their handlers get them.
 * Holds     V1  nobody spawns into the house once the acceptor has ended, and the house does not end before that.
 *           V2  a connection is its task's from the store to .taken on; one whose task never had a stack is closed by the
 *               caller, who fetches what has ended. That has to be all of it: once shields are broken the caller is refused
 *               every wait, and fetches without one.
 * Tested    tests/serve_test.c */
#include <weft/error.h>
#include <weft/io.h>
#include <weft/net.h>
#include <weft/scope.h>
#include <weft/stream.h>
#include <weft/sync.h>
#include <weft/time.h>

#include "base/errno.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/policy.h"
#include "os/socket.h"

#define GRACE weft_sec(5)
#define LAST_WORDS weft_ms(100)
#define UNTIL_HARD weft_ms(500) /* with this it is over a second after the grace, at the latest */

enum { MOST_STACK = 8 << 20 };

struct server {
    int listener;
    weft_conn_fn *handler;
    void *arg;
    weft_serve_options o;
    weft_sem places; /* for o.limit connections */
    at_int in;       /* connections that have not been served */
    weft_scope house;
    weft_task acceptor;
    at_int clearing;  /* the grace is over: what cannot be sent soon is no more to be sent */
    at_int aborted;   /* connections that were reset */
    at_int accepting; /* V1: cleared by the acceptor, its last store */
    int rc;           /* the acceptor's */
};

struct connection {
    struct server *server;
    int fd;
    bool taken; /* V2 */
};

/* A connection's place, whoever found one for it. */
static void leave_place(struct server *v)
{
    ati_add(&v->in, (uint32_t)-1);
    if (v->o.limit > 0)
        weft_sem_release(&v->places, 1);
}

static void say(struct server *v, weft_task task, int rc, const char *text)
{
    struct weft__group *g = weft__scope_group(weft__scope_of(&v->house));
    weft__report(g ? weft__runtime_of(g) : NULL, &(weft_report){ .what = "failure", .task = task, .task_name = "connection",
            .code = rc, .text = text });
}

/* ---- one connection */

/* That the other side has gone is no failure of the handler's: a crowd of clients that give up would fill the log. */
static bool is_failure(int rc)
{
    return rc < 0 && rc != -EPIPE && rc != -ECONNRESET && rc != -ECANCELED;
}

/* Whether what is kept is out, or goes in a moment: at once if this is broken by force. */
static bool had_its_say(weft_stream *s)
{
    weft_scope last;
    weft_scope_begin_shield(&last, LAST_WORDS);
    int rc = weft_check(); /* else one with nothing to say would not be refused */
    rc = rc < 0 ? rc : weft_stream_flush(s);
    return weft_scope_end(&last, rc) == 0;
}

/* A peer that takes nothing would have the kernel keep what was sent, for minutes after the server has gone. */
static void part(struct server *v, weft_stream *s, int rc)
{
    if (rc < 0 && rc != -ECANCELED)
        weft_stream_drop(&s);
    else if (rc == -ECANCELED && ati_load(&v->clearing) != 0 && !had_its_say(s)) {
        ati_add(&v->aborted, 1);
        weft_stream_abort(&s);
    } else {
        weft_ignore(weft_stream_close(&s));
    }
}

static int handle(weft_stream *s, struct connection *c)
{
    int rc = c->server->handler(s, c->server->arg);
    if (is_failure(rc))
        say(c->server, weft_task_self(), rc, weft_error_text(rc));
    part(c->server, s, rc);
    return rc;
}

static int connection(void *arg)
{
    struct connection *c = arg;
    weft_stream *s = NULL;
    c->taken = true;
    int rc = weft_stream_open(&s, c->fd, NULL);
    if (rc == 0) {
        rc = handle(s, c);
    } else {
        say(c->server, weft_task_self(), rc, "no memory for the connection's stream");
        weft_ignore(weft_close(c->fd));
    }
    leave_place(c->server);
    return 0; /* its failure is its own, and was told */
}

/* ---- the acceptor */

/* What can be waited for is: weft_accept has paused for a second before it says so. It is told once until one is accepted. */
static int next(struct server *v, bool *said)
{
    for (;;) {
        int fd = weft_accept(v->listener);
        if (!weft__is_shortage(fd)) {
            *said = *said && fd < 0;
            return fd;
        }
        if (!*said)
            say(v, 0, fd, "accepts no connections until there is room");
        *said = true;
        int rc = weft_sleep(weft_ms(1));
        if (rc < 0)
            return rc;
    }
}

static int accept_all(struct server *v)
{
    bool said = false;
    for (;;) {
        int rc = v->o.limit > 0 ? weft_sem_acquire(&v->places, 1) : 0;
        if (rc < 0)
            return rc;
        struct connection c = { .server = v, .fd = next(v, &said) };
        if (c.fd < 0)
            return c.fd;
        weft_spawn_options how = { .name = "connection", .stack_bytes = v->o.stack_bytes, .copy_bytes = sizeof c };
        ati_add(&v->in, 1);
        weft_task t = weft_spawn_with(&v->house, connection, &c, &how);
        if (t > 0)
            continue;
        say(v, 0, (int)t, "no memory for a connection's task");
        weft_ignore(weft_close(c.fd));
        leave_place(v);
    }
}

static int acceptor(void *arg)
{
    struct server *v = arg;
    v->rc = accept_all(v);
    ati_store_release(&v->accepting, 0); /* release: meets the acquire of door_shut, which reads rc */
    return 0;
}

/* In the house, and shielded: so the caller is woken when the acceptor has ended. */
static int doorkeeper(void *arg)
{
    const struct server *v = arg;
    return weft_task_join(v->acceptor);
}

/* V1. The join is refused if the shield was broken from further out; then the acceptor was told, too. */
static void door_shut(struct server *v)
{
    struct weft__frame *f = weft__current();
    while (weft_task_join(v->acceptor) == -ECANCELED && ati_load_acquire(&v->accepting) != 0 &&
            weft_task_alive(v->acceptor)) /* one without a stack stores nothing */
        weft__nap(f);
}

/* ---- the caller */

/* V2. As weft_scope_next, but not to be refused. */
static int next_by_force(weft_scope *house, weft_done *d)
{
    int rc = weft_scope_next(house, d);
    struct weft__policy *p = rc == -ECANCELED ? weft__policy_of(weft__scope_of(house)) : NULL;
    while (p && (rc = weft__policy_fetch(p, d)) == -EAGAIN)
        weft__nap(weft__current());
    return rc;
}

/* Sees one of the house off: 1 a connection, or the doorkeeper (*keeper is 0 then, or why it was none: no stack); 0 nobody is
 * left; negative. */
static int see_off(struct server *v, weft_task *keeper, int (*next_of)(weft_scope *house, weft_done *d))
{
    weft_done d;
    int rc = next_of(&v->house, &d);
    if (rc <= 0)
        return rc;
    if (d.arg == v) { /* the doorkeeper's: the caller may have been called away from it before */
        *keeper = d.code < 0 && d.code != -ECANCELED ? d.code : 0;
        return 1;
    }
    const struct connection *c = d.arg;
    if (!c->taken) { /* V2 */
        say(v, d.task, d.code, "no stack for a connection's task");
        weft_ignore(weft_close(c->fd));
        leave_place(v);
    }
    return 1;
}

/* Until all have ended, or the grace is over: 0; -ETIMEDOUT; -ECANCELED the shield was broken. */
static int drain(struct server *v, weft_task *keeper)
{
    weft_scope grace;
    int rc;
    weft_scope_begin(&grace, v->o.grace > 0 ? v->o.grace : v->o.grace == 0 ? GRACE : 0);
    do {
        rc = see_off(v, keeper, weft_scope_next);
    } while (rc > 0);
    return weft_scope_end(&grace, rc);
}

/* What still is there is told, and after UNTIL_HARD cut off. A shield, so that it is fetched in spite of that; if that is
 * broken, too, without waiting (V2). */
static void clear(struct server *v, weft_task *keeper)
{
    weft_scope shield;
    ati_store(&v->clearing, 1); /* seen by who hears of the cancel below */
    weft_scope_cancel_hard(&v->house, UNTIL_HARD, "shutdown");
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    while (see_off(v, keeper, next_by_force) > 0)
        continue;
    weft_ignore(weft_scope_end(&shield, 0));
}

static void begin_house(struct server *v)
{
    weft_scope_options o = { .name = "serve", .join = WEFT_JOIN_KEEP_GOING, .collect = true };
    weft_scope_begin_with(&v->house, WEFT_NEVER, &o);
}

/* Returns what is to be returned, after everybody has left. */
static int serve_in(struct server *v, weft_scope *door)
{
    weft_task keeper = 0;
    ati_store(&v->accepting, 1);
    v->acceptor = weft_spawn(door, acceptor, v);
    if (v->acceptor < 0)
        return (int)v->acceptor;
    keeper = weft_spawn_with(&v->house, doorkeeper, v, &(weft_spawn_options){ .name = "doorkeeper" });
    int rc = keeper < 0 ? (int)keeper : 1;
    while (rc > 0 && keeper > 0)
        rc = see_off(v, &keeper, weft_scope_next);
    if (weft_task_alive(v->acceptor)) /* the doorkeeper had no memory, or was told by force */
        weft_scope_cancel(door, "shutdown");
    door_shut(v);
    int left = keeper < 0 ? -ECANCELED : drain(v, &keeper);
    bool some = ati_load(&v->in) > 0; /* without grace the drain is refused, whoever there is */
    if (left < 0)
        clear(v, &keeper);
    if (keeper < 0)
        return (int)keeper;
    if (v->rc != -ECANCELED || left != -ETIMEDOUT || !some)
        return v->rc;
    return ati_load(&v->aborted) > 0 ? -ECONNABORTED : -ETIMEDOUT;
}

static int serve(struct server *v)
{
    weft_scope door, shield;
    weft_scope_begin(&door, WEFT_NEVER);
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    begin_house(v);
    int rc = serve_in(v, &door);
    weft_ignore(weft_scope_end(&v->house, 0));
    weft_ignore(weft_scope_end(&shield, 0));
    weft_ignore(weft_scope_end(&door, 0));
    return rc;
}

static bool is_valid(const weft_serve_options *o)
{
    return weft__reserved_zero(o) && o->limit >= 0 && o->stack_bytes <= MOST_STACK;
}

int weft_serve(int listener, weft_conn_fn *handler, void *arg, const weft_serve_options *o)
{
    struct server v = { .listener = listener, .handler = handler, .arg = arg, .rc = -ENOMEM };
    if (o)
        v.o = *o;
    if (!handler || !is_valid(&v.o))
        return -EINVAL;
    if (!weft__current())
        return weft__no_frame();
    weft_sem_release(&v.places, (uint32_t)v.o.limit);
    return serve(&v);
}
