/* tests/fuzz/fuzz_stream.c - what reads a stream: os/stream.c and os/frame.c.
 *
 *     LIMIT CALLS      the stream's read_limit; 0: the default. The calls, one after the other, see read_as()
 *     PIECES           how the carrier cuts the rest, see next_piece()
 *     BYTES            what it carries, see expand()
 *
 * Holds     the answer is that of the bytes, whatever the pieces are; what fails has taken nothing, and is asked again;
 *           at most twice the limit is kept; what is handed out may be written to; every byte comes once. */
#include <weft/task.h>

#include "base/fault.h"
#include "fuzz.h"
#include "os/stream.h"

enum { MOST_LIMIT = 20000, MOST_BYTES = 1 << 17, MOST_SEPARATOR = 4096 };

/* The bytes, and how far the calls have come. */
static struct {
    unsigned char all[MOST_BYTES];
    size_t n, at;
    size_t given; /* by the carrier */
    struct input cuts;
    int failure; /* the carrier's, in this call; 0: none */
    size_t limit, most_limit, longest;
    weft_stream *stream;
} world;

/* ---- the carrier */

static int give(void *self, void *buf, size_t n)
{
    size_t left = world.n - world.given;
    (void)self;
    HOLDS(n > 0);
    int rc = next_piece(&world.cuts, n < left ? n : left);
    if (rc < 0) {
        world.failure = rc;
        return rc;
    }
    memcpy(buf, world.all + world.given, (size_t)rc);
    world.given += (size_t)rc;
    return rc;
}

static int take_all(void *self, const struct iovec *v, int n)
{
    size_t bytes = 0;
    (void)self;
    for (int i = 0; i < n; i++)
        bytes += v[i].iov_len;
    return (int)bytes;
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

static const weft_carrier_ops ops = { give, take_all, nothing, nothing, drop, nothing };

/* ---- what the answers are */

struct answer {
    int rc;
    size_t skip, n, taken;
};

static struct answer up_to(const unsigned char *sep, size_t bytes, bool line)
{
    const unsigned char *from = world.all + world.at;
    size_t left = world.n - world.at, n = 0;
    while (n + bytes <= left && memcmp(from + n, sep, bytes) != 0)
        n++;
    bool found = n + bytes <= left;
    size_t handed = n - (found && line && n > 0 && from[n - 1] == '\r');
    if (found ? handed > world.limit : left >= world.limit + bytes)
        return (struct answer){ .rc = -EMSGSIZE };
    if (found)
        return (struct answer){ 1, 0, handed, n + bytes };
    if (left == 0)
        return (struct answer){ .rc = 0 };
    return line ? (struct answer){ 1, 0, left, left } : (struct answer){ .rc = -ENODATA };
}

static const size_t VARINT = (size_t)WEFT_HEAD_VARINT;

static struct answer framed_by_varint(void)
{
    const unsigned char *from = world.all + world.at;
    size_t left = world.n - world.at, bytes = 0;
    unsigned long long n = 0;
    while (bytes < left && bytes < 9 && from[bytes] >= 128)
        bytes++;
    if (bytes == left)
        return (struct answer){ .rc = left > 0 ? -ENODATA : 0 };
    if (bytes == 9 ? from[9] != 1 : bytes > 0 && from[bytes] == 0)
        return (struct answer){ .rc = -EPROTO };
    for (size_t i = 0; i <= bytes; i++)
        n += (from[i] % 128ULL) << 7 * i;
    if (n > world.limit)
        return (struct answer){ .rc = -EMSGSIZE };
    bytes++;
    return left - bytes < n ? (struct answer){ .rc = -ENODATA } : (struct answer){ 1, bytes, n, bytes + n };
}

static struct answer framed(size_t head)
{
    const unsigned char *from = world.all + world.at;
    size_t left = world.n - world.at;
    unsigned long long n = 0;
    if (head == VARINT)
        return framed_by_varint();
    if (head != 1 && head != 2 && head != 4 && head != 8)
        return (struct answer){ .rc = -EINVAL };
    if (left < head)
        return (struct answer){ .rc = left > 0 ? -ENODATA : 0 };
    for (size_t i = 0; i < head; i++)
        n += (unsigned long long)from[i] << 8 * (head - 1 - i);
    if (n > world.limit)
        return (struct answer){ .rc = -EMSGSIZE };
    return left - head < n ? (struct answer){ .rc = -ENODATA } : (struct answer){ 1, head, n, head + n };
}

/* ---- the calls */

/* What holds between any two calls. */
static void look(void)
{
    const weft_stream *s = world.stream;
    size_t most = 2 * (world.most_limit + world.longest);
    HOLDS(s->in_size <= (most > WEFT__STREAM_FIRST ? most : WEFT__STREAM_FIRST));
    HOLDS(world.given - world.at == s->end - s->at);
    HOLDS(at_load(&s->ahead) == s->end - s->at && at_load(&s->limit) == world.limit);
    HOLDS(!s->in || memcmp(s->in + s->at, world.all + world.at, s->end - s->at) == 0);
}

/* The call failed as it may: the carrier did, or there was no memory. */
static bool excused(int rc)
{
    return rc < 0 && (rc == world.failure || (rc == -ENOMEM && weft__fault_failed(WEFT__FAULT_ALLOC) > 0));
}

struct call {
    int kind;
    size_t head; /* or a separator's length */
    unsigned char sep[MOST_SEPARATOR];
};

static int piece(const struct call *c, char **data, size_t *len)
{
    if (c->kind == 'l')
        return weft_stream_read_line(world.stream, data, len);
    if (c->kind == 'f')
        return weft_stream_read_frame(world.stream, (int)c->head, data, len);
    return weft_stream_read_until(world.stream, c->sep, c->head, data, len);
}

static void check_piece(const struct call *c)
{
    static char untouched;
    struct answer right = c->kind == 'f' ? framed(c->head) : up_to(c->sep, c->head, c->kind == 'l');
    char *data = &untouched;
    size_t len = 77;
    if (c->kind != 'f' && c->head == 0)
        right.rc = -EINVAL;
    int rc = piece(c, &data, &len);
    if (rc <= 0)
        HOLDS(data == &untouched && len == 77);
    if (excused(rc))
        return;
    HOLDS(rc == right.rc);
    if (rc <= 0)
        return;
    HOLDS(len == right.n);
    HOLDS(memcmp(data, world.all + world.at + right.skip, len) == 0);
    if (c->kind != 'f') {
        HOLDS(data[len] == 0);
        len++;
    }
    memset(data, '#', len);
    world.at += right.taken;
}

static void check_read(size_t n)
{
    size_t left = world.n - world.at;
    unsigned char *buf = malloc(n);
    int rc = weft_stream_read(world.stream, buf, n);
    if (!excused(rc)) {
        HOLDS(left > 0 && n > 0 ? rc > 0 : rc == 0);
        HOLDS((size_t)rc <= n && (size_t)rc <= left);
        HOLDS(rc == 0 || memcmp(buf, world.all + world.at, (size_t)rc) == 0);
        world.at += (size_t)rc;
    }
    free(buf);
}

static void check_read_all(size_t n)
{
    size_t left = world.n - world.at, done = 77;
    unsigned char *buf = malloc(n);
    int rc = weft_stream_read_all(world.stream, buf, n, &done);
    HOLDS(done <= n && done <= left);
    HOLDS(done == 0 || memcmp(buf, world.all + world.at, done) == 0);
    if (!excused(rc)) {
        HOLDS(done == (n < left ? n : left));
        HOLDS(rc == (done == n ? 1 : done > 0 ? -ENODATA : 0));
    }
    world.at += done;
    free(buf);
}

static void set_limit(size_t limit)
{
    HOLDS(weft_stream_set_limits(world.stream, limit, 0) == 0);
    world.limit = limit > 0 ? limit : world.limit;
    world.most_limit = world.limit > world.most_limit ? world.limit : world.most_limit;
}

static void read_as(struct call *c, struct input *calls)
{
    switch (c->kind) {
    case 'l':
        c->head = 1;
        c->sep[0] = '\n';
        check_piece(c);
        break;
    case 'u': /* its length, and the separator */
        c->head = next_number(calls, MOST_SEPARATOR);
        for (size_t i = 0; i < c->head; i++)
            c->sep[i] = (unsigned char)next_byte(calls);
        check_piece(c);
        break;
    case 'U': /* the same byte all along */
        c->head = next_number(calls, MOST_SEPARATOR);
        memset(c->sep, next_byte(calls), c->head);
        check_piece(c);
        break;
    case 'f':
        c->head = next_size(calls) - ('1' - ' ') + 1;
        check_piece(c);
        break;
    case 'v':
        c->kind = 'f';
        c->head = VARINT;
        check_piece(c);
        break;
    case 'm': /* another limit; 0: as it is */
        set_limit(next_number(calls, MOST_LIMIT));
        break;
    case 'r':
    case 'R':
        check_read(next_size(calls) * (c->kind == 'R' ? 64 : 1));
        break;
    case 'a':
    case 'A':
        check_read_all(next_size(calls) * (c->kind == 'A' ? 64 : 1));
        break;
    case '%': /* the next allocation fails, if there is one in the next call */
        c->kind = next_byte(calls);
        weft__fault_set(WEFT__FAULT_ALLOC, 1, 1, -ENOMEM);
        if (c->kind != '%')
            read_as(c, calls);
        break;
    default:
        break;
    }
    size_t head = c->head == VARINT ? 10 : c->head;
    world.longest = head > world.longest && head <= MOST_SEPARATOR ? head : world.longest;
    weft__fault_clear();
    world.failure = 0;
    look();
}

static void read_the_rest(void)
{
    do {
        world.failure = 0;
        check_read(MOST_LIMIT);
    } while (world.failure < 0 || world.at < world.n);
    look();
    check_read_all(1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes }, calls = next_line(&in);
    static struct call c;
    weft_ignore(weft_check()); /* what a thread gets for its first call */
    size_t limit = next_number(&calls, MOST_LIMIT);
    world.cuts = next_line(&in);
    world.n = expand(in, world.all, MOST_BYTES);
    world.at = world.given = world.longest = 0;
    world.failure = 0;
    world.limit = world.most_limit = limit > 0 ? limit : WEFT__STREAM_LIMIT;
    weft_stream_options o = { .read_limit = limit };
    HOLDS(weft__stream_make(&world.stream, &(weft_carrier){ &ops, NULL }, &o) == 0);
    while ((c.kind = next_byte(&calls)) >= 0)
        read_as(&c, &calls);
    read_the_rest();
    weft_stream_drop(&world.stream);
    return 0;
}
