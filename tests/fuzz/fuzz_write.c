/* tests/fuzz/fuzz_write.c - what writes to a stream, and that a stream reads it again: os/stream.c and os/frame.c.
 *
 *     BUFFER CALLS     the stream's write_buffer; 0: the default. The calls, one after the other, see write_as()
 *     PIECES           how much the carrier takes at a time, see next_piece(); '0' and '~' are errors for good
 *     PIECES           how much it gives when all of that is read again
 *
 * Holds     what has left and what is kept are together the bytes of all calls that returned 0, in their order, and of each
 *           cancelled one a beginning; nothing follows a frame of which only a part has left; no more is kept than the
 *           buffer; an error of the carrier is what each later call returns; reading gives back what was written. */
#include <limits.h>
#include <weft/task.h>

#include "fuzz.h"
#include "os/stream.h"

enum { MOST_BYTES = 1 << 18, MOST_CALL = 256 * 64, MOST_VECTOR = 40, MOST_CALLS = 512 };

static struct {
    unsigned char wire[MOST_BYTES], right[MOST_BYTES]; /* what has left; what has left or is kept */
    size_t out, n, compared; /* of `wire`: the rest of it is compared with `right` after the call */
    struct input cuts;
    int failure; /* of the carrier, in this call */
    int broken;  /* what each call has to return */
    bool reset;  /* as reading has to say at the end */
    weft_stream *stream;
} world;

/* What was written, call by call, to be read again. */
static struct {
    struct {
        int how;        /* a frame's head; 0: no frame, but n bytes */
        size_t head, n; /* bytes */
    } made[MOST_CALLS];
    size_t calls;
} script;

/* ---- the carrier */

static int take(void *self, const struct iovec *v, int n)
{
    size_t bytes = 0;
    (void)self;
    HOLDS(n > 0 && n <= IOV_MAX);
    for (int i = 0; i < n; i++)
        bytes += v[i].iov_len;
    HOLDS(bytes > 0);
    bool none = world.cuts.left > 0 && *world.cuts.at == '0';
    int rc = next_piece(&world.cuts, bytes);
    if (rc < 0 || none)
        world.failure = none ? -EIO : rc;
    if (rc < 0 || none)
        return none ? 0 : rc;
    for (size_t left = (size_t)rc; left > 0; v++) {
        size_t k = v->iov_len < left ? v->iov_len : left;
        if (k > 0)
            memcpy(world.wire + world.out, v->iov_base, k);
        world.out += k;
        left -= k;
    }
    return rc;
}

/* The dialogue's other side has nothing to say. */
static int give_nothing(void *self, void *buf, size_t n)
{
    (void)self;
    (void)buf;
    (void)n;
    return 0;
}

static int give_again(void *self, void *buf, size_t n)
{
    size_t *given = self, left = world.out - *given;
    int rc = next_piece(&world.cuts, n < left ? n : left);
    if (rc > 0)
        memcpy(buf, world.wire + *given, (size_t)rc);
    *given += rc > 0 ? (size_t)rc : 0;
    return rc;
}

static int nothing(void *self)
{
    (void)self;
    return 0;
}

static void drop(void *self)
{
    (void)self;
}

static const weft_carrier_ops ops = { give_nothing, take, nothing, nothing, drop, nothing };
static const weft_carrier_ops again_ops = { give_again, take, nothing, nothing, drop, nothing };

/* ---- what holds after each call */

static bool is_fatal(int rc)
{
    return rc < 0 && rc != -ECANCELED && rc != -EMSGSIZE && rc != -EINVAL;
}

static void check_kept(void)
{
    const weft_stream *s = world.stream;
    size_t kept = at_load(&s->kept);
    HOLDS(s->sent + kept <= s->out_size && (kept > 0 || s->sent == 0));
    HOLDS(memcmp(world.wire + world.compared, world.right + world.compared, world.out - world.compared) == 0);
    world.compared = world.out;
    if (world.broken == 0) {
        HOLDS(world.out + kept == world.n);
        HOLDS(kept == 0 || memcmp(s->out + s->sent, world.right + world.out, kept) == 0);
    }
}

/* A call that had `bytes` to send, which are already behind `right`, has returned `rc`; `how`, `head`: a frame's. */
static void check_made(int rc, int how, size_t head, size_t bytes)
{
    const weft_stream *s = world.stream;
    size_t before = world.n;
    if (world.broken < 0) {
        HOLDS(rc == world.broken);
        HOLDS(at_load(&s->kept) == 0);
    } else if (rc == 0) {
        world.n += bytes;
    } else if (rc == -ECANCELED) {
        HOLDS(world.failure == -ECANCELED);
        HOLDS(world.out <= before + bytes);
        if (head > 0 && world.out > before)
            world.broken = -EPIPE;
    } else {
        HOLDS(rc == world.failure);
        HOLDS(world.out <= before + bytes);
        world.broken = rc;
    }
    if (rc < 0) {
        world.n = world.out > before ? world.out : before;
        bytes = world.n - before;
        head = 0;
    }
    world.failure = 0;
    if (world.broken == 0 && (bytes > 0 || head > 0)) {
        script.made[script.calls].how = how;
        script.made[script.calls].head = head;
        script.made[script.calls++].n = bytes - head;
    }
    check_kept();
}

static void check(int rc, size_t bytes)
{
    check_made(rc, 0, 0, bytes);
}

/* ---- the calls */

/* The next n bytes that are written: no two places within reach of each other look the same. */
static unsigned char *fresh(size_t at, size_t n)
{
    for (size_t i = world.n + at; i < world.n + at + n; i++)
        world.right[i] = (unsigned char)(i * 167 ^ i >> 8 ^ i >> 16);
    return world.right + world.n + at;
}

static void write_one(size_t n)
{
    unsigned char *copy = malloc(n);
    memcpy(copy, fresh(0, n), n);
    check(weft_stream_write(world.stream, copy, n), n);
    free(copy);
}

static void write_vector(struct input *calls)
{
    struct iovec v[MOST_VECTOR];
    size_t bytes = 0, pieces = next_size(calls) % MOST_VECTOR;
    for (size_t i = 0; i < pieces; i++) {
        size_t n = next_size(calls);
        v[i] = (struct iovec){ n > 0 ? fresh(bytes, n) : NULL, n };
        bytes += n;
    }
    check(weft_stream_writev(world.stream, v, (int)pieces), bytes);
}

static void write_frame_by_varint(size_t n)
{
    size_t head = n < 128 ? 1 : n < 128 * 128 ? 2 : 3;
    unsigned char *data = fresh(head, n);
    for (size_t i = 0; i < head; i++)
        data[(int)i - (int)head] = (unsigned char)((n >> 7 * i) % 128 + (i + 1 < head ? 128 : 0));
    check_made(weft_stream_write_frame(world.stream, WEFT_HEAD_VARINT, data, n), WEFT_HEAD_VARINT, head, head + n);
}

static void write_frame(size_t head, size_t n)
{
    if (head == (size_t)WEFT_HEAD_VARINT) {
        write_frame_by_varint(n);
        return;
    }
    bool good = head == 1 || head == 2 || head == 4 || head == 8;
    if (!good || (head == 1 && n > 255)) {
        HOLDS(weft_stream_write_frame(world.stream, (int)head, world.right, n) == (good ? -EMSGSIZE : -EINVAL));
        check_kept();
        return;
    }
    unsigned char *data = fresh(head, n);
    for (size_t i = 0; i < head; i++)
        data[-1 - (int)i] = (unsigned char)((unsigned long long)n >> 8 * i);
    check_made(weft_stream_write_frame(world.stream, (int)head, data, n), (int)head, head, head + n);
}

/* Another write_buffer; 0: as it is. What is kept stays. */
static void set_limit(size_t bytes)
{
    size_t kept = at_load(&world.stream->kept);
    HOLDS(weft_stream_set_limits(world.stream, 0, bytes) == 0);
    HOLDS(at_load(&world.stream->kept) == kept);
    HOLDS(bytes == 0 || kept > 0 || world.stream->out_size <= bytes);
    check_kept();
}

static void print(size_t n)
{
    memset(fresh(0, n), ' ', n);
    if (n > 0)
        world.right[world.n + n - 1] = 'x';
    check(weft_stream_printf(world.stream, "%*s", (int)n, n > 0 ? "x" : ""), n);
}

/* What was kept is sent before, and what goes wrong is told; but a reset is told at the end, and from then on. */
static void read_between(void)
{
    char c;
    int rc = weft_stream_read(world.stream, &c, 1);
    world.reset = world.reset || world.failure == -ECONNRESET;
    if (world.failure < 0 && world.failure != -ECONNRESET)
        HOLDS(rc == world.failure);
    else
        HOLDS(rc == (world.reset ? -ECONNRESET : 0));
    if (world.broken == 0 && is_fatal(world.failure))
        world.broken = world.failure;
    world.failure = 0;
    check_kept();
    HOLDS(rc == -ECANCELED || at_load(&world.stream->kept) == 0);
}

static void write_as(int kind, struct input *calls)
{
    switch (kind) {
    case 'w':
    case 'W':
        write_one(next_size(calls) * (kind == 'W' ? 64 : 1));
        break;
    case 'v':
        write_vector(calls);
        break;
    case 'f':
    case 'F': {
        size_t head = next_size(calls) - ('1' - ' ') + 1;
        write_frame(head, next_size(calls) * (kind == 'F' ? 64 : 1));
        break;
    }
    case 'x':
    case 'X':
        write_frame_by_varint(next_size(calls) * (kind == 'X' ? 64 : 1));
        break;
    case 'l':
        set_limit(next_size(calls) * 8);
        break;
    case 'p':
        print(next_size(calls) * 8);
        break;
    case '/':
        check(weft_stream_flush(world.stream), 0);
        break;
    case 'r':
        read_between();
        break;
    default:
        break;
    }
}

/* All of it is out in the end. */
static void finish(void)
{
    while (world.broken == 0 && at_load(&world.stream->kept) > 0)
        check(weft_stream_flush(world.stream), 0);
    int rc = weft_stream_close(&world.stream);
    HOLDS(rc == world.broken || (world.broken == -EPIPE && rc == 0));
    HOLDS(world.broken < 0 || world.out == world.n);
    HOLDS(memcmp(world.wire, world.right, world.out) == 0);
}

/* What has left is there again, call by call. */
static void read_again(void)
{
    static char buf[MOST_BYTES];
    size_t given = 0, at = 0;
    weft_stream *s;
    HOLDS(weft__stream_make(&s, &(weft_carrier){ &again_ops, &given }, NULL) == 0);
    for (size_t i = 0; i < script.calls; i++) {
        size_t head = script.made[i].head, n = script.made[i].n, moved = 0, len = 0;
        char *data = buf;
        int rc;
        if (at + head + n > world.out)
            break;
        do {
            size_t done = 0;
            if (head > 0) {
                rc = weft_stream_read_frame(s, script.made[i].how, &data, &len);
            } else {
                rc = weft_stream_read_all(s, buf + moved, n - moved, &done);
                len = moved += done;
            }
        } while (rc == -ECANCELED || rc == -ECONNRESET);
        HOLDS(rc == 1 && len == n);
        HOLDS(memcmp(data, world.right + at + head, n) == 0);
        at += head + n;
    }
    HOLDS(world.broken < 0 || at == world.out);
    weft_stream_drop(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes }, calls = next_line(&in);
    weft_ignore(weft_check());
    size_t buffer = next_number(&calls, MOST_CALL);
    world.cuts = next_line(&in);
    world.out = world.n = world.compared = script.calls = 0;
    world.failure = world.broken = 0;
    world.reset = false;
    weft_stream_options o = { .write_buffer = buffer };
    HOLDS(weft__stream_make(&world.stream, &(weft_carrier){ &ops, NULL }, &o) == 0);
    for (int kind; (kind = next_byte(&calls)) >= 0 && world.n + MOST_CALL < MOST_BYTES && script.calls < MOST_CALLS;)
        write_as(kind, &calls);
    finish();
    world.cuts = next_line(&in);
    read_again();
    return 0;
}
