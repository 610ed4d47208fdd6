/* tests/fuzz/fuzz_watch.c - records of inotify, as they become changes in a channel: os/watch.c.
 *
 *     KIND PAD NAME    a line each: a record, with so many zeros more than its name needs; '/' is the last of a batch
 *     KIND             'c' created, 'm' modified, 'd' deleted, 'o' changes were lost, 'i' it is gone; 'r': all are received
 *
 * Holds     each record is one change, in order, with the whole name and zeros behind it; who lags loses the oldest, which
 *           are counted; what is gone ends the channel, and nothing comes after.
 *
 * It is compiled into this program, where the input is what the kernel says. */
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <weft/chan.h>
#include <weft/task.h>

#include "fuzz.h"

static struct {
    _Alignas(struct inotify_event) char bytes[4096];
    size_t n;
    int kicks;
} batch;

static ssize_t given_records(int fd, void *buf, size_t bytes)
{
    size_t n = batch.n;
    HOLDS(fd == -7 && n > 0 && n <= bytes);
    memcpy(buf, batch.bytes, n);
    batch.n = 0;
    return (ssize_t)n;
}

static int count_kick(int fd, eventfd_t n)
{
    (void)fd;
    batch.kicks += (int)n;
    return 0;
}

#define read given_records
#define eventfd_write count_kick
#include "os/watch.c"

enum { MOST_RECORDS = 1024, MOST_NAME = 255 };

/* What is to come. */
static struct {
    weft_change change[MOST_RECORDS];
    int n, received;
    bool ended;
} right;

static struct watch *begin(void)
{
    struct watch *w = calloc(1, sizeof *w + 1);
    w->fd = -7;
    w->source.leave = leave;
    HOLDS(weft_chan_create(&w->chan, sizeof(weft_change), KEPT, &(weft_chan_options){ .drop_oldest = true }) == 0);
    w->chan->source = &w->source;
    list_init(&watcher.gone);
    ati_add(&weft__outsiders, 1);
    memset(&batch, 0, sizeof batch);
    memset(&right, 0, sizeof right);
    return w;
}

/* Those that are there, after the oldest of too many were dropped. */
static void receive_all(weft_chan *c)
{
    weft_change change;
    int lost = right.n - right.received - KEPT, rc;
    HOLDS(weft_chan_missed(c) == (uint64_t)(lost > 0 ? lost : 0));
    right.received += lost > 0 ? lost : 0;
    while ((rc = weft_chan_try_recv(c, &change, sizeof change)) > 0) {
        HOLDS(right.received < right.n);
        HOLDS(memcmp(&change, &right.change[right.received], sizeof change) == 0);
        right.received++;
    }
    HOLDS(rc == (right.ended ? 0 : -EAGAIN) && right.received == right.n);
}

static void deliver(struct watch *w)
{
    if (batch.n > 0)
        read_changes(w);
    batch.n = 0;
}

/* Writes the record as the kernel does: the name is followed by zeros up to a multiple of the record's size. */
static void add(struct watch *w, uint32_t what, size_t pad, const char *name)
{
    size_t n = strlen(name), len = n > 0 ? n + 1 + pad * sizeof(struct inotify_event) : 0;
    struct inotify_event e = { .wd = 1, .mask = what };
    len = (len + sizeof e - 1) / sizeof e * sizeof e;
    e.len = (uint32_t)len;
    if (batch.n + sizeof e + len > sizeof batch.bytes)
        deliver(w);
    memcpy(batch.bytes + batch.n, &e, sizeof e);
    memset(batch.bytes + batch.n + sizeof e, 0, len);
    memcpy(batch.bytes + batch.n + sizeof e, name, n);
    batch.n += sizeof e + len;
    if (right.ended)
        return;
    weft_change *change = &right.change[right.n++];
    change->what = what;
    memcpy(change->name, name, n);
    right.ended = (what & IN_IGNORED) != 0;
}

static uint32_t mask_of(int kind)
{
    switch (kind) {
    case 'c':
        return IN_CREATE;
    case 'm':
        return IN_MODIFY | IN_ISDIR;
    case 'd':
        return IN_DELETE;
    case 'o':
        return IN_Q_OVERFLOW;
    case 'i':
        return IN_IGNORED;
    default:
        return (uint32_t)kind << 8 & ~(uint32_t)IN_IGNORED;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes };
    weft_ignore(weft_check());
    struct watch *w = begin();
    weft_chan *c = w->chan;
    while (in.left > 0 && right.n < MOST_RECORDS) {
        struct input line = next_line(&in);
        int kind = next_byte(&line);
        size_t pad = next_size(&line) % 4;
        line.left = line.left < MOST_NAME ? line.left : MOST_NAME;
        char *name = text_of(line);
        if (kind == '/' || kind == 'r')
            deliver(w);
        else if (kind >= 0)
            add(w, mask_of(kind), pad, name);
        if (kind == 'r')
            receive_all(c);
        free(name);
    }
    deliver(w);
    HOLDS(batch.kicks == right.ended);
    HOLDS((w->chan == NULL) == right.ended);
    receive_all(c);
    weft_chan_destroy(&c);
    HOLDS(batch.kicks == 1);
    free(w);
    return 0;
}
