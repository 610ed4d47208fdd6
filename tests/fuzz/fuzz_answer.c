/* tests/fuzz/fuzz_answer.c - what a worker of a pool of processes answers: os/process_pool.c.
 *
 *     LIMIT SENT       of the answer, in bytes; SENT is an 's' if the worker has read all of its request
 *     PIECES           how the pipe cuts the rest, see next_piece(); '!': nothing is there yet; '~': it fails
 *     BYTES            what the worker says, see expand(); then its output is at its end
 *
 * Holds     the answer is that of the bytes, whatever the pieces are, or what is wrong with them is said: a length that
 *           cannot be is refused before anything behind it counts; nothing is read behind the end of an answer but what
 *           came together with its head, and that is refused. */
#include <sys/types.h>

static ssize_t read_piece(int fd, void *to, size_t n);
#define read read_piece
#include "os/process_pool.c"
#undef read

#include "fuzz.h"

enum { MOST_LIMIT = 20000, MOST_BYTES = 1 << 16 };

static struct {
    unsigned char all[MOST_BYTES];
    size_t n, given;
    struct input cuts;
    bool broken;
} world;

static ssize_t read_piece(int fd, void *to, size_t n)
{
    size_t left = world.n - world.given;
    (void)fd;
    HOLDS(n > 0 && !world.broken);
    if (left == 0)
        return 0;
    int piece = next_piece(&world.cuts, n < left ? n : left);
    if (piece < 0) {
        world.broken = piece != -ECANCELED;
        errno = world.broken ? ECONNRESET : EAGAIN;
        return -1;
    }
    memcpy(to, world.all + world.given, (size_t)piece);
    world.given += (size_t)piece;
    return piece;
}

/* What the bytes that were given are; 1: an answer, 0: the beginning of one. */
static int meaning(size_t limit, size_t *whole)
{
    uint32_t n = world.given >= 4 ? weft__get32(world.all) : 0;
    if (world.given < 4)
        return 0;
    if (n < 4)
        return -EPROTO;
    if (n - 4 > limit)
        return -EMSGSIZE;
    if (world.given < 8)
        return 0;
    if ((int32_t)weft__get32(world.all + 4) < -4095)
        return -EPROTO;
    *whole = 4 + (size_t)n;
    return world.given > *whole ? -EPROTO : world.given == *whole;
}

static void listen_to(struct call *c)
{
    size_t whole = 0;
    int rc = 0, before;
    do {
        before = meaning(c->pool->answer_limit, &whole);
        HOLDS(before == 0); /* else it would have been told */
        rc = hear(c);
    } while (rc == 0 && !is_answered(c));
    int is = meaning(c->pool->answer_limit, &whole);
    if (rc == 0) {
        HOLDS(is == 1 && c->whole == whole && c->got == whole && c->sent == c->bytes);
        HOLDS(c->result == (int)(int32_t)weft__get32(world.all + 4));
        HOLDS(memcmp(c->answer, world.all + 8, whole - 8) == 0 && c->answer[whole - 8] == 0);
    } else if (is < 0) {
        HOLDS(rc == is);
    } else if (is == 1) {
        HOLDS(rc == -EPROTO && c->sent != c->bytes);
    } else {
        HOLDS(rc == (world.broken ? -ECONNRESET : -EPIPE) && (world.broken || world.given == world.n));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes };
    struct input head = next_line(&in);
    struct weft_process_pool pool = { .answer_limit = next_number(&head, MOST_LIMIT) };
    struct weft_process process = { 0 };
    struct worker *w = weft__mem_zeroed(sizeof *w);
    if (!w)
        abort();
    w->p = &process;
    struct call c = { .pool = &pool, .w = w, .bytes = 1, .sent = next_byte(&head) == 's' };
    world.cuts = next_line(&in);
    world.n = expand(in, world.all, sizeof world.all);
    world.given = 0;
    world.broken = false;
    listen_to(&c);
    weft__mem_free(c.answer);
    weft__mem_free(w);
    return 0;
}
