/* work_coord.c - workloads of tasks that hand something to each other: pingpong, chan_mpmc.
 *
 * What they do not measure: items are of 8 bytes, so nearly all is the way of an item and none its
 * copying. The two of a pingpong are never busy at the same time. In chan_mpmc nobody does anything
 * with an item, so the channel's lock is what all of them meet at. */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>

/* pingpong */
struct rally {
    weft_chan *ping, *pong;
    long rounds;
    long right; /* numbers that came back as they were */
};

static int send_back(void *arg)
{
    struct rally *r = arg;
    long v;
    int rc;
    while ((rc = weft_chan_recv(r->ping, &v, sizeof v)) > 0)
        if ((rc = weft_chan_send(r->pong, &v, sizeof v)) < 0)
            break;
    return rc;
}

static int serve(void *arg)
{
    struct rally *r = arg;
    long v = -1;
    int rc = 0;
    for (long i = 0; i < r->rounds && rc >= 0; i++) {
        rc = weft_chan_send(r->ping, &i, sizeof i);
        if (rc == 0)
            rc = weft_chan_recv(r->pong, &v, sizeof v);
        r->right += v == i;
    }
    weft_chan_close(r->ping);
    return rc < 0 ? rc : 0;
}

int work_pingpong(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), pairs = job_arg(j, "pairs"), right = 0;
    if (pairs > n)
        return weft_fail(-EINVAL, "pairs has to be at most n");
    struct rally *all = calloc((size_t)pairs, sizeof *all);
    if (!all)
        return -ENOMEM;

    job_start(j);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    int rc = 0;
    for (long i = 0; i < pairs && rc == 0; i++) {
        all[i].rounds = n / pairs;
        rc = weft_chan_create(&all[i].ping, sizeof(long), 0, NULL);
        if (rc == 0)
            rc = weft_chan_create(&all[i].pong, sizeof(long), 0, NULL);
        if (rc == 0) {
            weft_spawn(&s, send_back, &all[i]);
            weft_spawn(&s, serve, &all[i]);
        }
    }
    rc = weft_scope_end(&s, rc);
    job_stop(j, n / pairs * pairs);

    for (long i = 0; i < pairs; i++) {
        right += all[i].right;
        weft_chan_destroy(&all[i].ping);
        weft_chan_destroy(&all[i].pong);
    }
    free(all);
    return rc < 0 ? rc : job_verify(right, n / pairs * pairs);
}

/* chan_mpmc */
enum { PRODUCERS = 4, CONSUMERS = 4 };

struct worker {
    weft_chan *c;
    long first, n, sum;
};

static int produce(void *arg)
{
    struct worker *w = arg;
    int rc = 0;
    for (long i = w->first; i < w->n && rc == 0; i += PRODUCERS)
        rc = weft_chan_send(w->c, &i, sizeof i);
    return rc;
}

static int consume(void *arg)
{
    struct worker *w = arg;
    long v, sum = 0;
    int rc;
    while ((rc = weft_chan_recv(w->c, &v, sizeof v)) > 0)
        sum += v;
    w->sum = sum;
    return rc;
}

int work_chan_mpmc(void *arg)
{
    struct job *j = arg;
    long n = job_arg(j, "n"), sum = 0;
    struct worker producers[PRODUCERS], consumers[CONSUMERS];
    weft_chan *c;
    int rc = weft_chan_create(&c, sizeof(long), (size_t)job_arg(j, "cap"), NULL);
    if (rc < 0)
        return rc;

    job_start(j);
    weft_scope from, to;
    weft_scope_begin(&to, WEFT_NEVER);
    for (int i = 0; i < CONSUMERS; i++) {
        consumers[i] = (struct worker){ .c = c };
        weft_spawn(&to, consume, &consumers[i]);
    }
    weft_scope_begin(&from, WEFT_NEVER);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct worker){ .c = c, .first = i, .n = n };
        weft_spawn(&from, produce, &producers[i]);
    }
    rc = weft_scope_end(&from, 0);
    weft_chan_close(c);
    rc = weft_scope_end(&to, rc);
    job_stop(j, n);

    for (int i = 0; i < CONSUMERS; i++)
        sum += consumers[i].sum;
    weft_chan_destroy(&c);
    return rc < 0 ? rc : job_verify(sum, n * (n - 1) / 2);
}
