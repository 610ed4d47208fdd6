/* connection.c - one client's connection: requests in lines, each answered by a line.
 *
 *     SET key value     OK
 *     GET key           VALUE value | NONE
 *     INCR key          VALUE number
 *     STATS             STATS keys=... gets=... sets=... incrs=... connections=... ...
 *     REPORT ...        OK                             the load process tells what it measures
 *     anything else     ERR why
 *
 * Owns      the descriptor and both buffers, which live on the task's stack.
 * Holds     C1  requests may be sent without waiting for answers, which come in order. They are
 *               written when the requests read so far are used up, or the buffer is.
 *           C2  memory is bounded: a client that does not read its answers stops this task in
 *               weft_write_all, which reads no more of its requests.
 *           C3  a line longer than LINE_LIMIT is answered by one ERR and skipped to its end.
 *           C4  a client's trouble ends its own connection, never its siblings: 0 is returned.
 * Tested    examples/test_examples.py */
#include "service.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    LINE_LIMIT = 1024, /* bytes before the newline */
    IN_BYTES = 4 * 1024,
    OUT_BYTES = 8 * 1024,
    REPLY_MOST = 6 + TABLE_VALUE_MAX + 1, /* VALUE, the longest value, newline */
};

struct session {
    struct service *service;
    int fd;
    bool skipping;           /* inside a line that was too long */
    bool reporter;           /* the load's side connection, not counted as a client */
    size_t in_start, in_end; /* read, not yet looked at */
    size_t out_end;          /* answered, not yet written */
    char in[IN_BYTES];
    char out[OUT_BYTES];
};

struct word {
    const char *at;
    size_t len;
};

/* There is room for REPLY_MOST bytes whenever a request is looked at. */
static void reply(struct session *s, const char *text, size_t len)
{
    memcpy(s->out + s->out_end, text, len);
    s->out_end += len;
}

static void reply_text(struct session *s, const char *text)
{
    reply(s, text, strlen(text));
}

static void reply_error(struct session *s, const char *why)
{
    atomic_fetch_add_explicit(&s->service->mistakes, 1, memory_order_relaxed);
    reply_text(s, "ERR ");
    reply_text(s, why);
    reply_text(s, "\n");
}

static void reply_table_error(struct session *s, int rc)
{
    switch (rc) {
    case -EINVAL:
        reply_error(s, "the value is not a number");
        break;
    case -ERANGE:
        reply_error(s, "the number is too large");
        break;
    case -ENOSPC:
        reply_error(s, "the table is full");
        break;
    default:
        reply_error(s, weft_strerror(rc));
    }
}

/* Takes the text up to the next space off the front of `rest`. */
static struct word take_word(struct word *rest)
{
    const char *space = memchr(rest->at, ' ', rest->len);
    struct word w = { rest->at, space == NULL ? rest->len : (size_t)(space - rest->at) };
    size_t used = w.len + (space != NULL);

    rest->at += used;
    rest->len -= used;
    return w;
}

static bool good_key(struct session *s, struct word key)
{
    if (key.len >= 1 && key.len <= TABLE_KEY_MAX)
        return true;
    reply_error(s, key.len == 0 ? "a key is missing" : "a key has at most 64 bytes");
    return false;
}

static void do_set(struct session *s, struct word rest)
{
    struct word key = take_word(&rest);
    if (!good_key(s, key))
        return;
    int rc = table_set(s->service->table, key.at, key.len, rest.at, rest.len);
    if (rc < 0)
        reply_table_error(s, rc);
    else
        reply(s, "OK\n", 3);
}

static void do_get(struct session *s, struct word rest)
{
    struct word key = take_word(&rest);
    if (!good_key(s, key))
        return;
    int n = table_get(s->service->table, key.at, key.len, s->out + s->out_end + 6);
    if (n < 0) {
        reply(s, "NONE\n", 5);
        return;
    }
    reply(s, "VALUE ", 6);
    s->out_end += (size_t)n; /* copied to its place already */
    reply(s, "\n", 1);
}

static void do_incr(struct session *s, struct word rest)
{
    struct word key = take_word(&rest);
    char text[40];
    int64_t now;
    if (!good_key(s, key))
        return;
    int rc = table_incr(s->service->table, key.at, key.len, &now);
    if (rc < 0)
        reply_table_error(s, rc);
    else
        reply(s, text, (size_t)snprintf(text, sizeof text, "VALUE %" PRId64 "\n", now));
}

static void do_stats(struct session *s, struct word rest)
{
    struct service *sv = s->service;
    struct table_stats t;
    char text[400];
    (void)rest;
    table_count(sv->table, &t);
    int n = snprintf(text, sizeof text,
            "STATS keys=%" PRIu64 " gets=%" PRIu64 " sets=%" PRIu64 " incrs=%" PRIu64
            " connections=%d accepted=%llu refused=%llu mistakes=%llu\n",
            t.keys, t.gets, t.sets, t.incrs, atomic_load(&sv->connections),
            atomic_load(&sv->accepted), atomic_load(&sv->refused), atomic_load(&sv->mistakes));
    reply(s, text, (size_t)n);
}

static void do_report(struct session *s, struct word rest)
{
    struct service *sv = s->service;
    struct client_report r = { .at = weft_now() };
    char text[LINE_LIMIT + 1];

    memcpy(text, rest.at, rest.len);
    text[rest.len] = '\0';
    if (sscanf(text, "window %" SCNd64 " %" SCNd64 " %" SCNu64, &r.p50_ns, &r.p99_ns, &r.errors) ==
            3) {
        pthread_mutex_lock(&sv->report_lock);
        sv->report.at = r.at;
        sv->report.p50_ns = r.p50_ns;
        sv->report.p99_ns = r.p99_ns;
        sv->report.errors = r.errors;
        pthread_mutex_unlock(&sv->report_lock);
    } else if (sscanf(text,
                       "total %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64
                       " %" SCNd64 " %" SCNd64 " %" SCNu64,
                       &r.requests, &r.errors, &r.all_p50_ns, &r.all_p99_ns, &r.all_p999_ns,
                       &r.all_most_ns, &r.cpu_ns, &r.ran_ns, &r.connections) == 9) {
        r.ended = true;
        r.p50_ns = r.all_p50_ns;
        r.p99_ns = r.all_p99_ns;
        pthread_mutex_lock(&sv->report_lock);
        sv->report = r;
        pthread_mutex_unlock(&sv->report_lock);
    } else {
        reply_error(s, "not a report");
        return;
    }
    if (!s->reporter)
        atomic_fetch_sub(&sv->connections, 1);
    s->reporter = true;
    reply(s, "OK\n", 3);
}

static const struct {
    const char *verb;
    void (*run)(struct session *s, struct word rest);
} verbs[] = {
    { "GET", do_get },
    { "SET", do_set },
    { "INCR", do_incr },
    { "STATS", do_stats },
    { "REPORT", do_report },
};

static void answer(struct session *s, struct word line)
{
    if (line.len > 0 && line.at[line.len - 1] == '\r') /* typed into a terminal program */
        line.len--;
    struct word verb = take_word(&line);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (verb.len == strlen(verbs[i].verb) && memcmp(verb.at, verbs[i].verb, verb.len) == 0) {
            verbs[i].run(s, line);
            return;
        }
    reply_error(s, "use SET key value, GET key, INCR key or STATS");
}

static int flush(struct session *s)
{
    size_t n = s->out_end;
    s->out_end = 0;
    return n == 0 ? 0 : weft_write_all(s->fd, s->out, n);
}

/* Answers every whole line that has been read. */
static int answer_lines(struct session *s)
{
    for (;;) {
        struct word line = { s->in + s->in_start, s->in_end - s->in_start };
        const char *newline = memchr(line.at, '\n', line.len);

        if (OUT_BYTES - s->out_end < REPLY_MOST) {
            int rc = flush(s);
            if (rc < 0)
                return rc;
        }
        if (newline != NULL)
            line.len = (size_t)(newline - line.at);
        if (line.len > LINE_LIMIT && !s->skipping) { /* C3 */
            reply_error(s, "a line has at most 1024 bytes");
            s->skipping = true;
        }
        if (newline == NULL) {
            if (s->skipping)
                s->in_start = s->in_end;
            return 0;
        }
        if (!s->skipping)
            answer(s, line);
        s->skipping = false;
        s->in_start += line.len + 1;
    }
}

/* Reads more, behind what is left of the last line, which is shorter than the buffer (C3). */
static int read_more(struct session *s)
{
    weft_scope idle;

    memmove(s->in, s->in + s->in_start, s->in_end - s->in_start);
    s->in_end -= s->in_start;
    s->in_start = 0;
    weft_scope_begin(&idle, s->service->idle_limit);
    int n = weft_scope_end(&idle, weft_read(s->fd, s->in + s->in_end, IN_BYTES - s->in_end));
    if (n > 0)
        s->in_end += (size_t)n;
    return n;
}

static int talk(struct session *s)
{
    int rc;
    do {
        rc = answer_lines(s);
        if (rc == 0)
            rc = flush(s); /* C1 */
        if (rc == 0)
            rc = read_more(s);
    } while (rc > 0);
    if (rc == -ETIMEDOUT) { /* the idle scope's, or the kernel's, then this does no harm */
        reply_error(s, "nothing was said for too long");
        weft_ignore(flush(s));
    }
    return rc;
}

int connection_serve(void *arg)
{
    const struct connection *c = arg;
    struct session s; /* its buffers need no clearing */

    s.service = c->service;
    s.fd = c->fd;
    s.skipping = s.reporter = false;
    s.in_start = s.in_end = s.out_end = 0;
    int rc = talk(&s);
    weft_close(s.fd);
    if (!s.reporter)
        atomic_fetch_sub(&s.service->connections, 1);
    return rc == -ECANCELED ? rc : 0; /* C4 */
}
