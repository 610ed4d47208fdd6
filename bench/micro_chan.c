/* micro_chan.c - what a channel and a select cost.
 *
 *     micro_chan [ops=2000000] [reps=7]
 *
 * Measures  in ns, on one worker: chan_buffered, a send and a receive of 8 bytes by one task, neither of which waits;
 * chan_hand_over, one item from a task to another that waits for it, and the switch to that; select_ready_4, a select of
 * four receives that are all ready, and the send that makes the one ready again; select_wait_2, a select of two receives
 * that waits, is served by another task, and leaves the other channel.
 * Does not measure  two workers at one channel, nor items that take long to copy. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft.h>

#include "micro.h"

struct bench {
    long ops;
    double ns;
    weft_chan *c[4];
};

static int buffered(void *arg)
{
    struct bench *b = arg;
    int rc = 0;
    double start = now_ns();
    for (long i = 0, v; i < b->ops && rc >= 0; i++) {
        rc = weft_chan_send(b->c[0], &i, sizeof i);
        if (rc == 0)
            rc = weft_chan_recv(b->c[0], &v, sizeof v);
    }
    b->ns = (now_ns() - start) / (double)b->ops;
    return rc;
}

static int give(void *arg)
{
    struct bench *b = arg;
    int rc = 0;
    for (long i = 0; i < b->ops && rc == 0; i++)
        rc = weft_chan_send(b->c[i & 1], &i, sizeof i);
    return rc;
}

static int hand_over(void *arg)
{
    struct bench *b = arg;
    weft_scope s;
    int rc = 1;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, give, b);
    double start = now_ns();
    for (long i = 0, v; i < b->ops && rc == 1; i++)
        rc = weft_chan_recv(b->c[i & 1], &v, sizeof v);
    b->ns = (now_ns() - start) / (double)b->ops;
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

static int select_wait(void *arg)
{
    struct bench *b = arg;
    weft_scope s;
    long v;
    int rc = 0;
    weft_case cs[] = { weft_on_recv(b->c[0], &v, sizeof v), weft_on_recv(b->c[1], &v, sizeof v) };
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, give, b);
    double start = now_ns();
    for (long i = 0; i < b->ops && rc >= 0; i++)
        rc = weft_select(cs, 2);
    b->ns = (now_ns() - start) / (double)b->ops;
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

static int select_ready(void *arg)
{
    struct bench *b = arg;
    weft_case cs[4];
    long v = 0;
    int rc = 0;
    for (int i = 0; i < 4 && rc == 0; i++) {
        cs[i] = weft_on_recv(b->c[i], &v, sizeof v);
        rc = weft_chan_send(b->c[i], &v, sizeof v);
    }
    double start = now_ns();
    for (long i = 0; i < b->ops && rc >= 0; i++) {
        rc = weft_select(cs, 4);
        if (rc >= 0)
            rc = weft_chan_send(b->c[rc], &v, sizeof v);
    }
    b->ns = (now_ns() - start) / (double)b->ops;
    return rc < 0 ? rc : 0;
}

static const struct {
    const char *name;
    weft_fn *run;
    size_t capacity;
} benches[] = {
    { "chan_buffered", buffered, 1 },
    { "chan_hand_over", hand_over, 0 },
    { "select_ready_4", select_ready, 1 },
    { "select_wait_2", select_wait, 0 },
};

int main(int argc, char **argv)
{
    char **words = argv + (argc > 0);
    long ops = word(words, "ops", 2000000, 1, 1000000000);
    int reps = (int)word(words, "reps", 7, 1, REPS_MAX);
    static double ns[REPS_MAX];
    for (size_t k = 0; k < sizeof benches / sizeof *benches; k++) {
        for (int i = 0; i < reps; i++) {
            struct bench b = { .ops = ops };
            int rc = 0;
            for (int j = 0; j < 4 && rc == 0; j++)
                rc = weft_chan_create(&b.c[j], sizeof(long), benches[k].capacity, NULL);
            if (rc == 0)
                rc = weft_run(benches[k].run, &b, &(weft_options){ .workers = 1 });
            if (rc < 0) {
                fprintf(stderr, "%s: %s\n", benches[k].name, weft_strerror(rc));
                return 1;
            }
            for (int j = 0; j < 4; j++)
                weft_chan_destroy(&b.c[j]);
            ns[i] = b.ns;
        }
        print_line(benches[k].name, 1, ops, reps, ns);
    }
    return 0;
}
