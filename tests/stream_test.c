/* tests/stream_test.c - os/stream.c, frame.c, pair.c: over memory, sockets, pipes, a terminal, and a layer of the test's own. */
#include "support.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "os/stream.h"

static const int workers[] = { 1, 2, 4, 0 }; /* 0: a plain thread */

struct t {
    int i;
    weft_stream *a, *b;
    int fds[2];
    int rc[4];
    atomic_int there, stop;
    long count;
};

/* Over a socket pair if t->i is odd, else over memory. */
static int open_both(struct t *t, const weft_stream_options *o)
{
    if (t->i % 2 == 0 && !o)
        return weft_stream_pair(&t->a, &t->b);
    int rc = weft_pair(t->fds);
    if (rc == 0)
        rc = weft_stream_open(&t->a, t->fds[0], o);
    return rc == 0 ? weft_stream_open(&t->b, t->fds[1], o) : rc;
}

static int close_both(struct t *t)
{
    int rc = weft_stream_close(&t->a), other = weft_stream_close(&t->b);
    return rc < 0 ? rc : other;
}

/* No spares: who looks whether one is needed opens a file, whose number may be the one that was just closed. */
static void run_one(weft_fn *fn, struct t *t, int n)
{
    AS_EXPECTED(n > 0 ? weft_run(fn, t, &(weft_options){ .workers = n, .spares = -1 }) : fn(t));
    ck_assert_ptr_null(t->a);
    ck_assert_ptr_null(t->b);
}

/* Each of them over memory and a socket, on 1, 2 and 4 workers and on a plain thread. */
#define EVERYWHERE (2 * COUNT(workers))
static void run_everywhere(weft_fn *fn, int i)
{
    struct t t = { .i = i };
    run_one(fn, &t, workers[i / 2]);
}
/* Those that spawn: on a plain thread they would have nowhere to. */
#define IN_TASKS (2 * (COUNT(workers) - 1))

/* ---- lines and pieces */

static int lines(void *arg)
{
    struct t *t = arg;
    char *line;
    size_t n;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "one\ntwo\r\n\n\r\nwith\rin it\n") == 0);
    EXPECT(weft_stream_write(t->a, "a\0b\nlast", 8) == 0);
    EXPECT(weft_stream_shutdown(t->a) == 0);
    static const char *const all[] = { "one", "two", "", "", "with\rin it", "a", "last" };
    for (int i = 0; i < COUNT(all); i++) {
        EXPECT(weft_stream_read_line(t->b, &line, &n) == 1);
        EXPECT(strcmp(line, all[i]) == 0 && n == (i == 5 ? 3 : strlen(all[i])));
    }
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "no") == -EPIPE);
    return close_both(t);
}

START_TEST(lines_come_one_by_one)
{
    run_everywhere(lines, _i);
}
END_TEST

static int up_to(void *arg)
{
    struct t *t = arg;
    char *data, buf[8];
    size_t n;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "head--=body-=-==-tail") == 0);
    EXPECT(weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_until(t->b, "-=", 2, &data, &n) == 1 && n == 5 && strcmp(data, "head-") == 0);
    EXPECT(weft_stream_read_until(t->b, "-=-=", 4, &data, &n) == 1 && n == 4 && strcmp(data, "body") == 0);
    EXPECT(weft_stream_read_until(t->b, "=", 1, &data, NULL) == 1 && data[0] == 0);
    EXPECT(weft_stream_read_until(t->b, "", 0, &data, NULL) == -EINVAL);
    EXPECT(weft_stream_read_until(t->b, "x", 4097, &data, NULL) == -EINVAL);
    EXPECT(weft_stream_read_until(t->b, "x", 1, NULL, NULL) == -EINVAL);
    EXPECT(weft_stream_shutdown(t->a) == 0);
    EXPECT(weft_stream_read_until(t->b, "=", 1, &data, NULL) == -ENODATA);
    EXPECT(weft_stream_read(t->b, buf, sizeof buf) == 5 && memcmp(buf, "-tail", 5) == 0);
    EXPECT(weft_stream_read_until(t->b, "=", 1, &data, NULL) == 0);
    return close_both(t);
}

START_TEST(a_piece_ends_at_its_separator)
{
    run_everywhere(up_to, _i);
}
END_TEST

#define A_13_TIMES_TEN                                                                                                         \
    "aaaaaaaaaaaaa" "aaaaaaaaaaaaa" "aaaaaaaaaaaaa" "aaaaaaaaaaaaa" "aaaaaaaaaaaaa"                                            \
    "aaaaaaaaaaaaa" "aaaaaaaaaaaaa" "aaaaaaaaaaaaa" "aaaaaaaaaaaaa" "aaaaaaaaaaaaa"

/* Bytes one at a time, so that every piece is cut everywhere. */
static int drip(void *arg)
{
    struct t *t = arg;
    static const char text[] = "first\r\nsecond\nx<>y<><><z>\n\0\3abc\0\0\202\1" A_13_TIMES_TEN;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        EXPECT(weft_stream_write(t->a, text + i, 1) == 0);
        EXPECT(weft_stream_flush(t->a) == 0);
        EXPECT(weft_yield() == 0);
    }
    return weft_stream_shutdown(t->a);
}

static int drops(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    char *p;
    size_t n;
    EXPECT(open_both(t, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, drip, t);
    EXPECT(weft_stream_read_line(t->b, &p, NULL) == 1 && strcmp(p, "first") == 0);
    EXPECT(weft_stream_read_line(t->b, &p, NULL) == 1 && strcmp(p, "second") == 0);
    EXPECT(weft_stream_read_until(t->b, "<>", 2, &p, NULL) == 1 && strcmp(p, "x") == 0);
    EXPECT(weft_stream_read_until(t->b, "<><><", 5, &p, NULL) == 1 && strcmp(p, "y") == 0);
    EXPECT(weft_stream_read_line(t->b, &p, NULL) == 1 && strcmp(p, "z>") == 0);
    EXPECT(weft_stream_read_frame(t->b, 2, &p, &n) == 1 && n == 3 && memcmp(p, "abc", 3) == 0);
    EXPECT(weft_stream_read_frame(t->b, 2, &p, &n) == 1 && n == 0);
    EXPECT(weft_stream_read_frame(t->b, WEFT_HEAD_VARINT, &p, &n) == 1 && n == 130 && memcmp(p, A_13_TIMES_TEN, n) == 0);
    EXPECT(weft_stream_read_frame(t->b, 2, &p, &n) == 0);
    int rc = weft_scope_end(&s, 0);
    return rc < 0 ? rc : close_both(t);
}

START_TEST(pieces_may_come_in_drops)
{
    struct t t = { .i = _i };
    run_one(drops, &t, workers[_i / 2]);
}
END_TEST

static int over_the_limit(void *arg)
{
    struct t *t = arg;
    char *p, text[64], back[64];
    size_t n;
    memset(text, 'x', sizeof text);
    EXPECT(open_both(t, &(weft_stream_options){ .read_limit = 16 }) == 0);
    EXPECT(weft_stream_write(t->a, text, 16) == 0 && weft_stream_puts(t->a, "\n") == 0);
    EXPECT(weft_stream_write(t->a, text, 17) == 0 && weft_stream_puts(t->a, "\n") == 0);
    EXPECT(weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == 1 && n == 16);
    for (int i = 0; i < 2; i++) {
        EXPECT(weft_stream_read_line(t->b, &p, &n) == -EMSGSIZE);
        EXPECT(weft_stream_read_until(t->b, "\n", 1, &p, &n) == -EMSGSIZE);
    }
    EXPECT(weft_stream_read_all(t->b, back, 18, &n) == 1 && n == 18 && back[17] == '\n');
    EXPECT(weft_stream_write_frame(t->a, 1, text, 17) == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_frame(t->b, 1, &p, &n) == -EMSGSIZE);
    EXPECT(weft_stream_read(t->b, back, 1) == 1 && back[0] == 17);
    EXPECT(weft_stream_read_all(t->b, back, 17, NULL) == 1);
    /* Without an end, and longer than ever can be. */
    for (int i = 0; i < 200; i++)
        EXPECT(weft_stream_write(t->a, text, sizeof text) == 0);
    EXPECT(weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == -EMSGSIZE);
    return close_both(t);
}

START_TEST(a_piece_over_the_limit_stays)
{
    run_everywhere(over_the_limit, _i);
}
END_TEST

/* The limit is of what is handed out: the end of a line, of either form, is beside it. */
static int at_the_limit(void *arg)
{
    struct t *t = arg;
    char *p, back[64];
    size_t n;
    EXPECT(open_both(t, &(weft_stream_options){ .read_limit = 4 }) == 0);
    EXPECT(weft_stream_puts(t->a, "four\r\nfour\nfour\r") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == 1 && n == 4 && strcmp(p, "four") == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == 1 && n == 4);
    weft_scope s; /* the end may be coming */
    weft_scope_begin(&s, weft_ms(1));
    EXPECT(weft_scope_end(&s, weft_stream_read_line(t->b, &p, &n)) == -ETIMEDOUT);
    EXPECT(weft_stream_puts(t->a, "x") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == -EMSGSIZE && weft_stream_read_all(t->b, back, 6, NULL) == 1);
    EXPECT(weft_stream_puts(t->a, "fives\r\n") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == -EMSGSIZE && weft_stream_read_all(t->b, back, 7, NULL) == 1);
    EXPECT(weft_stream_puts(t->a, "fives") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == -EMSGSIZE && weft_stream_read_all(t->b, back, 5, NULL) == 1);
    EXPECT(weft_stream_puts(t->a, "four\r") == 0 && weft_stream_shutdown(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == -EMSGSIZE); /* that is no end of a line */
    return close_both(t);
}

START_TEST(the_limit_is_without_the_end_of_a_line)
{
    run_everywhere(at_the_limit, _i);
}
END_TEST

/* ---- frames */

static int frames(void *arg)
{
    struct t *t = arg;
    static const int heads[] = { 1, 2, 4, 8 };
    static char big[60000];
    char *p;
    size_t n;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_write_frame(t->a, 3, "", 0) == -EINVAL && weft_stream_write_frame(t->a, 0, "", 0) == -EINVAL);
    EXPECT(weft_stream_write_frame(t->a, 1, big, 256) == -EMSGSIZE);
    EXPECT(weft_stream_read_frame(t->b, 3, &p, &n) == -EINVAL);
    for (int i = 0; i < COUNT(heads); i++) {
        EXPECT(weft_stream_write_frame(t->a, heads[i], "hello", 5) == 0);
        EXPECT(weft_stream_write_frame(t->a, heads[i], NULL, 0) == 0);
        EXPECT(weft_stream_flush(t->a) == 0);
        EXPECT(weft_stream_read_frame(t->b, heads[i], &p, &n) == 1 && n == 5 && memcmp(p, "hello", 5) == 0);
        EXPECT(weft_stream_read_frame(t->b, heads[i], &p, NULL) == 1);
    }
    for (int i = 0; i < 5; i++) {
        memset(big, 'a' + i, sizeof big);
        EXPECT(weft_stream_write_frame(t->a, 4, big, sizeof big) == 0 && weft_stream_flush(t->a) == 0);
        EXPECT(weft_stream_read_frame(t->b, 4, &p, &n) == 1 && n == sizeof big && memcmp(p, big, n) == 0);
    }
    EXPECT(weft_stream_write(t->a, "\0\0\0\11four", 8) == 0 && weft_stream_shutdown(t->a) == 0);
    EXPECT(weft_stream_read_frame(t->b, 4, &p, &n) == -ENODATA);
    EXPECT(weft_stream_read_frame(t->b, 8, &p, &n) == -EMSGSIZE); /* those eight bytes as a length */
    EXPECT(weft_stream_read_all(t->b, big, 9, &n) == -ENODATA && n == 8);
    EXPECT(weft_stream_read_frame(t->b, 4, &p, &n) == 0);
    return close_both(t);
}

START_TEST(frames_are_whole)
{
    run_everywhere(frames, _i);
}
END_TEST

/* ---- with a length of as many bytes as it takes (B-066) */

static int varints(void *arg)
{
    struct t *t = arg;
    static const struct {
        size_t n, bytes;
        const char *head;
    } all[] = { { 0, 1, "\0" }, { 1, 1, "\1" }, { 127, 1, "\x7f" }, { 128, 2, "\x80\1" }, { 300, 2, "\xac\2" },
        { 16383, 2, "\xff\x7f" }, { 16384, 3, "\x80\x80\1" }, { 60000, 3, "\xe0\xd4\3" } };
    static char big[60000], back[60000];
    char *p;
    size_t n;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_read_frame(t->b, -2, &p, &n) == -EINVAL && weft_stream_write_frame(t->a, -2, "", 0) == -EINVAL);
    EXPECT(weft_stream_write_frame(t->a, WEFT_HEAD_VARINT, NULL, 1) == -EINVAL);
    EXPECT(weft_stream_write_frame(t->a, WEFT_HEAD_VARINT, "", SIZE_MAX) == -EINVAL);
    for (int i = 0; i < COUNT(all); i++) {
        memset(big, 'a' + i, sizeof big);
        EXPECT(weft_stream_write_frame(t->a, WEFT_HEAD_VARINT, big, all[i].n) == 0 && weft_stream_flush(t->a) == 0);
        EXPECT(weft_stream_read_frame(t->b, WEFT_HEAD_VARINT, &p, &n) == 1);
        EXPECT(n == all[i].n && memcmp(p, big, n) == 0);
        EXPECT(weft_stream_write_frame(t->a, WEFT_HEAD_VARINT, big, all[i].n) == 0 && weft_stream_flush(t->a) == 0);
        EXPECT(weft_stream_read_all(t->b, back, all[i].bytes, NULL) == 1 && memcmp(back, all[i].head, all[i].bytes) == 0);
        EXPECT(weft_stream_read_all(t->b, back, n, NULL) == 1 && memcmp(back, big, n) == 0);
    }
    return close_both(t);
}

START_TEST(frames_have_lengths_of_as_many_bytes_as_they_take)
{
    run_everywhere(varints, _i);
}
END_TEST

/* What is no length, or too large a one, is refused before there is memory for it, and stays; an end in the middle of a
 * length is another than one before it. */
static int no_varints(void *arg)
{
    struct t *t = arg;
    static const struct {
        const char *text;
        size_t bytes;
        int rc;
    } all[] = { { "", 0, 0 }, { "\x80", 1, -ENODATA }, { "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9, -ENODATA },
        { "\4abc", 4, -ENODATA }, { "\x80\1abc", 5, -ENODATA }, { "\x80\0", 2, -EPROTO }, { "\x83\x80\0abc", 6, -EPROTO },
        { "\x80\x80\x80\x80\x80\x80\x80\x80\x80\0", 10, -EPROTO },         /* nothing, in ten bytes */
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\2", 10, -EPROTO },         /* 65 bits */
        { "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1", 11, -EPROTO },     /* eleven bytes */
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 10, -EMSGSIZE },       /* the most that there can be */
        { "\xf7\xff\xff\xff\xff\xff\xff\xff\xff\1", 10, -EMSGSIZE },       /* the same, with its head left out */
        { "\x89\x27zzz", 5, -EMSGSIZE }, { "\x88\x27zzz", 5, -ENODATA } }; /* 5001 and 5000 bytes */
    static char back[16];
    char *p;
    size_t n;
    for (int i = 0; i < COUNT(all); i++) {
        EXPECT(open_both(t, &(weft_stream_options){ .read_limit = 5000 }) == 0);
        EXPECT(weft_stream_write(t->a, all[i].text, all[i].bytes) == 0 && weft_stream_shutdown(t->a) == 0);
        for (int again = 0; again < 2; again++) {
            p = back, n = 77;
            EXPECT(weft_stream_read_frame(t->b, WEFT_HEAD_VARINT, &p, &n) == all[i].rc && p == back && n == 77);
        }
        EXPECT(all[i].rc == -ENODATA || t->b->in_size == WEFT__STREAM_FIRST);
        EXPECT(all[i].rc != -EPROTO || strstr(weft_error_text(-EPROTO), "length of a frame"));
        EXPECT(weft_stream_read_all(t->b, back, sizeof back, &n) == (all[i].bytes > 0 ? -ENODATA : 0) && n == all[i].bytes);
        EXPECT(memcmp(back, all[i].text, n) == 0);
        EXPECT(close_both(t) == 0);
    }
    return 0;
}

START_TEST(what_is_no_length_is_refused_and_stays)
{
    struct t t = { .i = 1 };
    run_one(no_varints, &t, workers[_i]);
}
END_TEST

/* ---- kept and sent */

static int kept(void *arg)
{
    struct t *t = arg;
    char buf[64], *line;
    weft_scope s;
    EXPECT(open_both(t, &(weft_stream_options){ .write_buffer = 32 }) == 0);
    EXPECT(weft_stream_puts(t->a, "kept") == 0);
    weft_scope_begin(&s, weft_ms(2));
    int rc = weft_stream_read(t->b, buf, sizeof buf);
    EXPECT(weft_scope_end(&s, rc) == -ETIMEDOUT); /* nothing was sent */
    EXPECT(weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read(t->b, buf, sizeof buf) == 4);
    /* More than fits: what was kept goes first, and what is long behind it. */
    EXPECT(weft_stream_puts(t->a, "1234567890") == 0);
    EXPECT(weft_stream_puts(t->a, "abcdefghijklmnopqrstuvwxyz") == 0); /* fits by itself */
    EXPECT(weft_stream_read_all(t->b, buf, 10, NULL) == 1 && memcmp(buf, "1234567890", 10) == 0);
    memset(buf, 'L', sizeof buf);
    struct iovec v[] = { { (void *)(uintptr_t) "v1", 2 }, { NULL, 0 }, { buf, 40 }, { (void *)(uintptr_t) "v3\n", 3 } };
    EXPECT(weft_stream_writev(t->a, v, 4) == 0); /* now, with what is kept */
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strlen(line) == 26 + 2 + 40 + 2);
    EXPECT(strncmp(line, "abcdefghijklmnopqrstuvwxyzv1LL", 30) == 0 && strcmp(line + 68, "v3") == 0);
    EXPECT(weft_stream_writev(t->a, v, -1) == -EINVAL && weft_stream_writev(t->a, NULL, 1) == -EINVAL);
    EXPECT(weft_stream_write(t->a, NULL, 1) == -EINVAL && weft_stream_puts(t->a, NULL) == -EINVAL);
    EXPECT(weft_stream_printf(t->a, "%d %s %0*d\n", 7, "is", 600, 1) == 0);
    EXPECT(weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strlen(line) == 605 && strncmp(line, "7 is 000", 8) == 0);
    EXPECT(weft_stream_puts(t->a, "at the end") == 0);
    EXPECT(weft_stream_close(&t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "at the end") == 0);
    return close_both(t);
}

START_TEST(what_is_written_is_kept_until_it_is_sent)
{
    run_everywhere(kept, _i);
}
END_TEST

/* What is kept grows with what is written, up to the default of 16384 bytes. */
static int kept_longer(void *arg)
{
    struct t *t = arg;
    static const size_t lengths[] = { 1, 500, 11, 1, 600, 5000, 0, 300, 9970 };
    static char out[16384], back[16384];
    size_t n = 0;
    weft_scope s;
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7 + i / 256);
    EXPECT(open_both(t, NULL) == 0);
    for (int i = 0; i < COUNT(lengths); n += lengths[i++])
        EXPECT(weft_stream_write(t->a, out + n, lengths[i]) == 0);
    EXPECT(n == sizeof out - 1 && weft_stream_write(t->a, out + n, 1) == 0);
    weft_scope_begin(&s, weft_ms(2));
    int rc = weft_stream_read(t->b, back, sizeof back);
    EXPECT(weft_scope_end(&s, rc) == -ETIMEDOUT); /* nothing was sent */
    EXPECT(weft_stream_write(t->a, "m", 1) == 0); /* there is no room: now it is */
    EXPECT(weft_stream_read_all(t->b, back, sizeof back, NULL) == 1 && memcmp(out, back, sizeof out) == 0);
    EXPECT(weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read(t->b, back, sizeof back) == 1 && back[0] == 'm');
    return close_both(t);
}

START_TEST(what_is_kept_grows)
{
    run_everywhere(kept_longer, _i);
}
END_TEST

static int answer(void *arg)
{
    struct t *t = arg;
    char *line;
    int rc, n = 0;
    while ((rc = weft_stream_read_line(t->b, &line, NULL)) > 0)
        if ((rc = weft_stream_printf(t->b, "%d %s\n", n++, line)) < 0)
            break;
    return rc < 0 ? rc : weft_stream_shutdown(t->b);
}

/* No flush anywhere: a read sends what was written before it. */
static int dialogue(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    char *line, expected[32];
    EXPECT(open_both(t, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, answer, t);
    for (int i = 0; i < SCALED(500, 100, 50); i++) {
        EXPECT(weft_stream_printf(t->a, "line %d\n", i) == 0);
        EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1);
        snprintf(expected, sizeof expected, "%d line %d", i, i);
        EXPECT(strcmp(line, expected) == 0);
    }
    EXPECT(weft_stream_shutdown(t->a) == 0 && weft_stream_read_line(t->a, &line, NULL) == 0);
    int rc = weft_scope_end(&s, 0);
    return rc < 0 ? rc : close_both(t);
}

START_TEST(a_dialogue_needs_no_flush)
{
    struct t t = { .i = _i };
    run_one(dialogue, &t, workers[_i / 2]);
}
END_TEST

/* ---- back-pressure and cancels */

static int write_on(void *arg)
{
    struct t *t = arg;
    static char block[1000];
    int rc = 0;
    while (rc == 0) {
        rc = weft_stream_write(t->a, block, sizeof block);
        if (rc == 0)
            t->count += (long)sizeof block;
        atomic_fetch_add(&t->there, rc == 0);
    }
    return rc;
}

/* A peer that reads nothing: the writer waits, and is called off; then nothing of what it had written is lost. */
static int pressed(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    static char back[70000];
    EXPECT(open_both(t, &(weft_stream_options){ .write_buffer = 4000 }) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, write_on, t);
    bool begun = wait_for(&t->there, 5); /* it might be called off before it has come */
    weft_scope_set_deadline(&s, weft_after(weft_ms(20)));
    int rc = weft_scope_end(&s, 0);
    EXPECT(begun && rc == -ETIMEDOUT);
    EXPECT(t->count > 4000 && t->count < 10000000); /* what the kernel and the stream keep */
    long got = 0;
    weft_scope_begin(&s, LIMIT);
    while (got < t->count && (rc = weft_stream_read(t->b, back, sizeof back)) > 0) {
        got += rc;
        weft_scope now;
        weft_scope_begin(&now, weft_ms(1)); /* its room is used as it comes */
        weft_ignore(weft_scope_end(&now, weft_stream_flush(t->a)));
    }
    EXPECT(weft_scope_end(&s, rc < 0 ? rc : 0) == 0 && got >= t->count && got <= t->count + 1000);
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    return 0;
}

START_TEST(a_writer_waits_for_its_reader_and_loses_nothing_when_called_off)
{
    struct t t = { .i = _i };
    run_one(pressed, &t, workers[_i / 2]);
}
END_TEST

static int read_in_vain(void *arg)
{
    struct t *t = arg;
    char *p, buf[4] = "";
    size_t n;
    weft_scope s;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_write(t->a, "ab", 2) == 0 && weft_stream_flush(t->a) == 0);
    for (int i = 0; i < 5; i++) {
        weft_scope_begin(&s, weft_ms(1));
        int rc = i == 0   ? weft_stream_read_line(t->b, &p, &n)
                 : i == 1 ? weft_stream_read_until(t->b, "xyz", 3, &p, &n)
                 : i == 2 ? weft_stream_read_frame(t->b, 4, &p, &n)
                 : i == 3 ? weft_stream_read_frame(t->b, 1, &p, &n)
                          : weft_stream_read_all(t->b, buf, 4, &n);
        EXPECT(rc == -ECANCELED);
        EXPECT(weft_scope_end(&s, rc) == -ETIMEDOUT);
    }
    EXPECT(n == 2 && memcmp(buf, "ab", 2) == 0); /* the last one took them, and says so */
    EXPECT(weft_stream_write(t->a, "c\n", 2) == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &p, &n) == 1 && n == 1);
    return close_both(t);
}

START_TEST(a_reader_called_off_loses_nothing)
{
    struct t t = { .i = _i };
    run_one(read_in_vain, &t, workers[_i / 2]);
}
END_TEST

static int cut_frame(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    static char big[BUILT(4000000, 4000000, 1000000)];
    EXPECT(open_both(t, &(weft_stream_options){ .write_buffer = 100 }) == 0);
    struct pollfd begun = { .fd = t->fds[1], .events = POLLIN };
    int64_t end = weft_after(LIMIT);
    do { /* once more if it was called off before any of it was written: that cuts nothing */
        weft_scope_begin(&s, weft_ms(5));
        int rc = weft_stream_write_frame(t->a, 4, big, sizeof big);
        EXPECT(rc == -ECANCELED && weft_scope_end(&s, rc) == -ETIMEDOUT);
    } while (poll(&begun, 1, 0) == 0 && weft_now() < end);
    EXPECT(weft_stream_write_frame(t->a, 4, "", 0) == -EPIPE); /* it would be taken for the middle of the other */
    EXPECT(weft_stream_close(&t->a) == -EPIPE);
    weft_stream_drop(&t->b);
    return 0;
}

START_TEST(a_frame_that_was_cut_ends_the_writing)
{
    struct t t = { .i = _i };
    run_one(cut_frame, &t, workers[_i]);
}
END_TEST

/* ---- both ways at once */

static int write_numbers(void *arg)
{
    struct t *t = arg;
    int me = atomic_fetch_add(&t->there, 1);
    for (int i = 0; i < SCALED(400, 100, 50); i++) {
        int rc = i % 3 == 0 ? weft_stream_printf(t->a, "%d %d %0*d\n", me, i, 1 + i, me)
                            : weft_stream_writev(t->a, (struct iovec[]){ { (char[]){ (char)('0' + me), ' ' }, 2 },
                                      { (void *)(uintptr_t) "0 0\n", 4 } }, 2);
        if (rc < 0)
            return rc;
        if (i % 7 == 0)
            weft_ignore(weft_yield());
    }
    return weft_stream_flush(t->a);
}

static int read_numbers(void *arg)
{
    struct t *t = arg;
    int last[8] = { 0 }, me, i, who, rc;
    char *line;
    while ((rc = weft_stream_read_line(t->b, &line, NULL)) > 0) {
        EXPECT(sscanf(line, "%d %d %d", &me, &i, &who) >= 2 && me >= 0 && me < 4);
        if (i > 0) {
            EXPECT(i == last[me] + 3 && who == me);
            last[me] = i;
        }
        t->count++;
    }
    return rc;
}

static int several_write(void *arg)
{
    struct t *t = arg;
    weft_scope s, w;
    char byte;
    EXPECT(open_both(t, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_numbers, t);
    weft_scope_begin(&w, LIMIT);
    for (int i = 0; i < 4; i++)
        weft_spawn(&w, write_numbers, t);
    int rc = weft_scope_end(&w, 0);
    EXPECT(rc == 0 && weft_stream_shutdown(t->a) == 0);
    rc = weft_scope_end(&s, 0);
    EXPECT(rc == 0 && t->count == 4 * SCALED(400, 100, 50));
    EXPECT(weft_stream_read(NULL, &byte, 1) == -EINVAL);
    return close_both(t);
}

START_TEST(what_one_call_writes_is_together)
{
    struct t t = { .i = _i };
    run_one(several_write, &t, workers[_i / 2]);
}
END_TEST

static int read_first(void *arg)
{
    struct t *t = arg;
    char *line;
    atomic_store(&t->there, 1);
    int rc = weft_stream_read_line(t->b, &line, NULL);
    EXPECT(rc == 1 && strcmp(line, "for the first") == 0);
    return 0;
}

static int second_reader(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    char buf[4], *p;
    EXPECT(open_both(t, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_first, t);
    wait_for(&t->there, 1);
    while (ati_load(&t->b->reading) == 0) /* T1 */
        weft_ignore(weft_yield());
    EXPECT(weft_stream_read(t->b, buf, 4) == -EBUSY && weft_stream_read_line(t->b, &p, NULL) == -EBUSY);
    EXPECT(weft_stream_read_all(t->b, buf, 4, NULL) == -EBUSY && weft_stream_read_frame(t->b, 1, &p, NULL) == -EBUSY);
    EXPECT(weft_stream_copy(t->a, t->b, NULL) == -EBUSY);
    EXPECT(weft_stream_layer(t->b, &(weft_carrier){ weft_stream_carrier(t->a).ops, NULL }, &(weft_carrier){ 0 }) == -EBUSY);
    EXPECT(weft_stream_puts(t->a, "for the first\n") == 0 && weft_stream_flush(t->a) == 0);
    int rc = weft_scope_end(&s, 0);
    return rc < 0 ? rc : close_both(t);
}

START_TEST(a_second_reader_is_refused)
{
    struct t t = { .i = _i };
    run_one(second_reader, &t, workers[_i / 2]);
}
END_TEST

static int push_all(void *arg)
{
    struct t *t = arg;
    unsigned char block[3001];
    for (long n = 0; n < t->count; n += (long)sizeof block) {
        for (size_t i = 0; i < sizeof block; i++)
            block[i] = (unsigned char)((n + (long)i) * 7 / 3);
        int rc = weft_stream_write(t->a, block, sizeof block);
        if (rc < 0)
            return rc;
    }
    return weft_stream_shutdown(t->a);
}

static int give_back(void *arg)
{
    struct t *t = arg;
    uint64_t moved = 0;
    int rc = weft_stream_copy(t->b, t->b, &moved);
    t->rc[0] = (int)moved;
    return rc < 0 ? rc : weft_stream_shutdown(t->b);
}

static int both_ways(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    unsigned char buf[1777];
    long got = 0;
    int rc;
    t->count = 3001L * SCALED(300, 100, 30);
    EXPECT(open_both(t, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, push_all, t);
    weft_spawn(&s, give_back, t);
    while ((rc = weft_stream_read(t->a, buf, sizeof buf)) > 0)
        for (int i = 0; i < rc; i++, got++)
            EXPECT(buf[i] == (unsigned char)(got * 7 / 3));
    EXPECT(rc == 0 && got == t->count);
    rc = weft_scope_end(&s, 0);
    EXPECT(rc == 0 && t->rc[0] == t->count);
    return close_both(t);
}

START_TEST(one_reads_while_another_writes)
{
    struct t t = { .i = _i };
    run_one(both_ways, &t, workers[_i / 2]);
}
END_TEST

/* ---- ends */

static int peer_goes(void *arg)
{
    struct t *t = arg;
    char buf[8];
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->b, "never sent") == 0);
    weft_stream_drop(&t->b);
    EXPECT(weft_stream_read(t->a, buf, sizeof buf) == 0);
    EXPECT(weft_stream_puts(t->a, "x") == 0); /* is kept */
    EXPECT(weft_stream_flush(t->a) == -EPIPE && weft_stream_flush(t->a) == -EPIPE);
    EXPECT(weft_stream_puts(t->a, "x") == -EPIPE && weft_stream_write_frame(t->a, 1, "", 0) == -EPIPE);
    EXPECT(weft_stream_read(t->a, buf, sizeof buf) == 0); /* reading has its own end */
    weft_ignore(weft_stream_close(&t->a));
    weft_stream_drop(&t->a);
    EXPECT(weft_stream_close(&t->a) == 0 && weft_stream_close(NULL) == 0);
    return 0;
}

START_TEST(an_error_of_writing_is_for_good)
{
    run_everywhere(peer_goes, _i);
}
END_TEST

static int closes_on_nobody(void *arg)
{
    struct t *t = arg;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "never taken") == 0);
    weft_stream_drop(&t->b);
    EXPECT(weft_stream_close(&t->a) == -EPIPE && !t->a);
    return 0;
}

START_TEST(a_close_says_that_what_was_kept_is_lost)
{
    run_everywhere(closes_on_nobody, _i);
}
END_TEST

static int says_goodbye(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    weft_scope_begin(&s, 0); /* told to leave */
    int rc = weft_stream_puts(t->a, "bye\n");
    EXPECT(rc == 0 && weft_stream_close(&t->a) == 0);
    return weft_scope_end(&s, -ECANCELED) == -ETIMEDOUT ? 0 : -EPROTO;
}

static int goodbye(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(says_goodbye(t) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "bye") == 0);
    return close_both(t);
}

START_TEST(who_is_told_to_leave_sends_its_last_words)
{
    run_everywhere(goodbye, _i);
}
END_TEST

static int never_takes_it(void *arg)
{
    struct t *t = arg;
    static char block[100000];
    weft_scope s;
    EXPECT(open_both(t, &(weft_stream_options){ .write_buffer = 100000 }) == 0);
    EXPECT(fill(t->fds[0]) > 0); /* whenever the deadline strikes, what is kept cannot be sent */
    weft_scope_begin(&s, weft_ms(5));
    int rc = 0;
    while (rc == 0)
        rc = weft_stream_write(t->a, block, sizeof block - 1);
    EXPECT(rc == -ECANCELED);
    int64_t from = weft_now();
    EXPECT(weft_stream_close(&t->a) == -ECANCELED && !t->a);
    EXPECT(weft_now() - from < weft_sec(5));
    EXPECT(weft_scope_end(&s, rc) == -ETIMEDOUT);
    weft_stream_drop(&t->b);
    return 0;
}

START_TEST(and_does_not_wait_long_for_who_takes_nothing)
{
    struct t t = { .i = 1 };
    run_one(never_takes_it, &t, workers[_i]);
}
END_TEST

static int options(void *arg)
{
    struct t *t = arg;
    weft_stream_options bad[] = { { .reserved = { 1 } }, { .read_limit = SIZE_MAX }, { .write_buffer = SIZE_MAX } };
    int fds[2];
    EXPECT(pipe(fds) == 0);
    for (int i = 0; i < COUNT(bad); i++)
        EXPECT(weft_stream_open(&t->a, fds[0], &bad[i]) == -EINVAL && !t->a);
    EXPECT(weft_stream_open(&t->a, -1, NULL) == -EBADF && weft_stream_open(NULL, fds[0], NULL) == -EINVAL);
    EXPECT(weft_stream_pair(NULL, &t->b) == -EINVAL && weft_stream_pair(&t->a, NULL) == -EINVAL);
    EXPECT(weft_stream_open(&t->a, fds[1], &(weft_stream_options){ .keep_fd = true }) == 0);
    EXPECT(weft_stream_fd(t->a) == fds[1] && weft_stream_fd(NULL) == -1);
    EXPECT(weft_stream_close(&t->a) == 0 && fcntl(fds[1], F_GETFD) >= 0);
    EXPECT(weft_stream_open(&t->a, fds[1], NULL) == 0 && weft_stream_close(&t->a) == 0 && fcntl(fds[1], F_GETFD) < 0);
    EXPECT(weft_stream_pair(&t->a, &t->b) == 0 && weft_stream_fd(t->a) == -1);
    close(fds[0]);
    return close_both(t);
}

START_TEST(options_and_descriptors)
{
    struct t t = { 0 };
    run_one(options, &t, workers[_i]);
}
END_TEST

/* ---- pipes and terminals */

static int pipes(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(pipe(t->fds) == 0);
    EXPECT(weft_stream_open(&t->a, t->fds[1], NULL) == 0 && weft_stream_open(&t->b, t->fds[0], NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "through\na pipe\n") == 0 && weft_stream_shutdown(t->a) == -ENOTSOCK);
    EXPECT(weft_stream_close(&t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "through") == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "a pipe") == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 0);
    return close_both(t);
}

START_TEST(over_pipes)
{
    struct t t = { 0 };
    run_one(pipes, &t, workers[_i]);
}
END_TEST

static int terminal(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(openpty(&t->fds[0], &t->fds[1], NULL, NULL, NULL) == 0);
    EXPECT(weft_stream_open(&t->a, t->fds[0], NULL) == 0 && weft_stream_open(&t->b, t->fds[1], NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "typed\n") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "typed") == 0);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "typed") == 0); /* its echo */
    EXPECT(weft_stream_puts(t->b, "shown\n") == 0 && weft_stream_flush(t->b) == 0);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "shown") == 0);
    return close_both(t);
}

START_TEST(over_a_terminal)
{
    struct t t = { 0 };
    run_one(terminal, &t, workers[_i]);
}
END_TEST

/* ---- layers */

/* Turns every byte around, and passes them in small pieces. */
struct layer {
    weft_carrier below;
    int *ended;
    int refuse; /* what the layer below says of every write */
};

static int layer_read(void *self, void *buf, size_t n)
{
    struct layer *l = self;
    int rc = l->below.ops->read(l->below.self, buf, n < 5 ? n : 5);
    for (int i = 0; i < rc; i++)
        ((char *)buf)[i] ^= 0x55;
    return rc;
}
static int layer_writev(void *self, const struct iovec *v, int n)
{
    struct layer *l = self;
    char some[7];
    size_t k = 0;
    for (int i = 0; i < n && k < sizeof some; i++)
        for (size_t j = 0; j < v[i].iov_len && k < sizeof some; j++)
            some[k++] = ((const char *)v[i].iov_base)[j] ^ 0x55;
    return l->below.ops->writev(l->below.self, &(struct iovec){ some, k }, 1);
}
static int layer_shutdown(void *self)
{
    struct layer *l = self;
    return l->below.ops->shutdown(l->below.self);
}
static int layer_close(void *self)
{
    struct layer *l = self;
    int rc = l->below.ops->close(l->below.self);
    *l->ended += 1;
    free(l);
    return rc;
}
static void layer_drop(void *self)
{
    struct layer *l = self;
    l->below.ops->drop(l->below.self);
    *l->ended += 10;
    free(l);
}
static int layer_fd(void *self)
{
    struct layer *l = self;
    return l->below.ops->fd(l->below.self);
}
static const weft_carrier_ops layer_ops = { layer_read, layer_writev, layer_shutdown, layer_close, layer_drop, layer_fd };

static int upgrade(struct t *t, weft_stream *s)
{
    struct layer *l = calloc(1, sizeof *l);
    l->ended = &t->rc[1];
    int rc = weft_stream_layer(s, &(weft_carrier){ &layer_ops, l }, &l->below);
    if (rc < 0)
        free(l);
    return rc;
}

static int layers(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(open_both(t, NULL) == 0);
    int fd = weft_stream_fd(t->a);
    EXPECT(weft_stream_layer(t->a, NULL, &(weft_carrier){ 0 }) == -EINVAL);
    EXPECT(weft_stream_puts(t->a, "STARTTLS\n") == 0 && upgrade(t, t->a) == -EBUSY); /* not sent yet */
    EXPECT(weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && weft_stream_puts(t->b, "go\ninjected") == 0);
    EXPECT(weft_stream_flush(t->b) == 0 && upgrade(t, t->b) == 0);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "go") == 0);
    EXPECT(upgrade(t, t->a) == -EBUSY); /* read ahead: not what the layer has made */
    char rest[8];
    EXPECT(weft_stream_read_all(t->a, rest, 8, NULL) == 1 && upgrade(t, t->a) == 0);
    EXPECT(weft_stream_carrier(t->a).ops == &layer_ops && weft_stream_fd(t->a) == fd);
    EXPECT(weft_stream_puts(t->a, "below nobody sees this\n") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "below nobody sees this") == 0);
    EXPECT(weft_stream_shutdown(t->b) == 0 && weft_stream_read_line(t->a, &line, NULL) == 0);
    EXPECT(weft_stream_close(&t->a) == 0 && t->rc[1] == 1);
    weft_stream_drop(&t->b);
    EXPECT(t->rc[1] == 11);
    return 0;
}

START_TEST(a_layer_is_laid_over_a_stream)
{
    run_everywhere(layers, _i);
}
END_TEST

/* ---- without memory */

static int all_of_it(struct t *t)
{
    char *p, big[600];
    size_t n;
    memset(big, 'b', sizeof big);
    int rc = weft_stream_pair(&t->a, &t->b);
    if (rc == 0)
        rc = weft_stream_printf(t->a, "%.600s\n", big);
    if (rc == 0)
        rc = weft_stream_write_frame(t->a, 2, big, sizeof big); /* what is kept grows */
    if (rc == 0)
        rc = weft_stream_flush(t->a);
    if (rc == 0)
        rc = weft_stream_read_line(t->b, &p, &n);
    if (rc == 1)
        rc = n == 600 ? weft_stream_read_frame(t->b, 2, &p, &n) : -EPROTO;
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    return rc == 1 ? 0 : rc;
}

START_TEST(without_memory_it_says_so)
{
    struct t t = { 0 };
    ck_assert_int_eq(all_of_it(&t), 0); /* the thread's frame is there */
    int failed = 0;
    for (long nth = 1; nth < 30; nth++) {
        weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
        int rc = all_of_it(&t);
        long n = weft__fault_failed(WEFT__FAULT_ALLOC);
        weft__fault_clear();
        ck_assert_msg(rc == (n > 0 ? -ENOMEM : 0), "allocation %ld: %d", nth, rc);
        failed += n > 0;
    }
    ck_assert_int_ge(failed, 6);
}
END_TEST

/* ---- what is kept, and cannot be sent when its writer reads for the answer */

static int refuse_read(void *self, void *buf, size_t n)
{
    struct layer *l = self;
    return l->below.ops->read(l->below.self, buf, n);
}
static int refuse_writev(void *self, const struct iovec *v, int n)
{
    (void)v;
    (void)n;
    return ((struct layer *)self)->refuse;
}
static const weft_carrier_ops refuse_ops = {
    refuse_read, refuse_writev, layer_shutdown, layer_close, layer_drop, layer_fd
};

static int refuse(struct t *t, int rc)
{
    struct layer *l = calloc(1, sizeof *l);
    l->ended = &t->rc[1];
    l->refuse = rc;
    return weft_stream_layer(t->a, &(weft_carrier){ &refuse_ops, l }, &l->below);
}

/* The answer would never come. What the other side has said before is still read. */
static int ask_in_vain(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(open_both(t, NULL) == 0 && refuse(t, -ENOBUFS) == 0);
    EXPECT(weft_stream_puts(t->b, "said before\n") == 0 && weft_stream_flush(t->b) == 0);
    EXPECT(weft_stream_puts(t->a, "question\n") == 0);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == -ENOBUFS);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "said before") == 0);
    EXPECT(weft_stream_puts(t->a, "question\n") == -ENOBUFS && weft_stream_flush(t->a) == -ENOBUFS);
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    return 0;
}

START_TEST(a_question_that_cannot_be_sent_is_told_to_who_waits_for_the_answer)
{
    run_everywhere(ask_in_vain, _i);
}
END_TEST

/* -EPIPE: it reads no more, but may have said why, and ends. -ECONNRESET: that is no end. */
static int ask_who_has_gone(void *arg)
{
    struct t *t = arg;
    const int gone[] = { -EPIPE, -ECONNRESET }, end[] = { 0, -ECONNRESET };
    char *line;
    for (int i = 0; i < 2; i++) {
        EXPECT(open_both(t, NULL) == 0 && refuse(t, gone[i]) == 0);
        EXPECT(weft_stream_puts(t->b, "too large\n") == 0 && weft_stream_close(&t->b) == 0);
        EXPECT(weft_stream_puts(t->a, "question\n") == 0);
        EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "too large") == 0);
        EXPECT(weft_stream_read_line(t->a, &line, NULL) == end[i]);
        EXPECT(weft_stream_puts(t->a, "question\n") == gone[i]);
        weft_stream_drop(&t->a);
    }
    return 0;
}

START_TEST(the_last_words_of_who_has_gone_are_read)
{
    run_everywhere(ask_who_has_gone, _i);
}
END_TEST

/* The kernel tells of a reset once: to the write before the read, which is the one that has to say so. */
static int ask_after_reset(void *arg)
{
    struct t *t = arg;
    char where[32], byte;
    int l = listen_local(where);
    EXPECT(l >= 0);
    int fd = weft_connect(where, NULL), other = weft_accept(l);
    EXPECT(fd >= 0 && other >= 0 && weft_stream_open(&t->a, fd, NULL) == 0);
    weft_ignore(setsockopt(other, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)));
    EXPECT(weft_close(other) == 0 && weft_close(l) == 0);
    struct pollfd p = { .fd = fd };
    EXPECT(poll(&p, 1, (int)(LIMIT / 1000000)) == 1 && (p.revents & POLLERR)); /* which leaves the error where it is */
    EXPECT(weft_stream_puts(t->a, "question\n") == 0);
    EXPECT(weft_stream_read(t->a, &byte, 1) == -ECONNRESET);
    weft_stream_drop(&t->a);
    return 0;
}

START_TEST(a_reset_is_no_end)
{
    struct t t = { 0 };
    run_one(ask_after_reset, &t, workers[_i]);
}
END_TEST

/* What was kept is lost, and the other side hears of a reset; of a drop it hears an end. */
static int abort_or_drop(void *arg)
{
    struct t *t = arg;
    char where[32], byte;
    int l = listen_local(where);
    EXPECT(l >= 0);
    for (int k = 0; k < 2; k++) {
        int fd = weft_connect(where, NULL), other = weft_accept(l);
        EXPECT(fd >= 0 && other >= 0 && weft_stream_open(&t->a, fd, NULL) == 0);
        EXPECT(weft_stream_puts(t->a, "kept") == 0);
        if (k == 0)
            weft_stream_abort(&t->a);
        else
            weft_stream_drop(&t->a);
        EXPECT(!t->a && fcntl(fd, F_GETFD) < 0);
        EXPECT(weft_read(other, &byte, 1) == (k == 0 ? -ECONNRESET : 0));
        EXPECT(weft_close(other) == 0);
    }
    /* With keep_fd it is only let go: the connection lives on, and its later close is an end. */
    int fd = weft_connect(where, NULL), other = weft_accept(l);
    EXPECT(fd >= 0 && other >= 0 && weft_stream_open(&t->a, fd, &(weft_stream_options){ .keep_fd = true }) == 0);
    weft_stream_abort(&t->a);
    EXPECT(weft_write_all(fd, "x", 1) == 0 && weft_close(fd) == 0);
    EXPECT(weft_read(other, &byte, 1) == 1 && weft_read(other, &byte, 1) == 0);
    EXPECT(weft_close(other) == 0 && weft_close(l) == 0);
    /* What is no TCP connection is closed. */
    weft_stream *b = NULL;
    EXPECT(weft_stream_pair(&t->a, &b) == 0);
    weft_stream_abort(&t->a);
    EXPECT(weft_stream_read(b, &byte, 1) == 0);
    weft_stream_abort(&b);
    weft_stream_abort(&b);
    weft_stream_abort(NULL);
    return 0;
}

START_TEST(an_abort_is_a_reset)
{
    struct t t = { 0 };
    run_one(abort_or_drop, &t, workers[_i]);
}
END_TEST

/* ---- what lies in the buffers, and how much may */

static bool has(const weft_stream *s, size_t read_ahead, size_t kept)
{
    weft_stream_buffers b;
    return weft_stream_buffered(s, &b) == 0 && b.read_ahead == read_ahead && b.kept == kept;
}

static bool may_have(const weft_stream *s, size_t read_limit, size_t write_buffer)
{
    weft_stream_buffers b;
    return weft_stream_buffered(s, &b) == 0 && b.read_limit == read_limit && b.write_buffer == write_buffer;
}

static int limits(void *arg)
{
    struct t *t = arg;
    char back[64], *p;
    size_t n, huge = SIZE_MAX;
    weft_stream_buffers b = { .kept = 77 };
    EXPECT(open_both(t, NULL) == 0 && may_have(t->a, 65536, 16384) && has(t->a, 0, 0) && has(t->b, 0, 0));
    EXPECT(weft_stream_puts(t->a, "0123456789") == 0 && has(t->a, 0, 10) && t->a->out_size > 8);
    EXPECT(weft_stream_flush(t->a) == 0 && has(t->a, 0, 0));
    EXPECT(weft_stream_read(t->b, back, 4) == 4 && has(t->b, 6, 0));
    EXPECT(weft_stream_set_limits(t->a, 0, 8) == 0 && may_have(t->a, 65536, 8) && t->a->out_size == 0);
    EXPECT(weft_stream_puts(t->a, "abcde") == 0 && has(t->a, 0, 5));
    EXPECT(weft_stream_puts(t->a, "fghij") == 0 && has(t->a, 0, 5)); /* the others are sent */
    EXPECT(weft_stream_puts(t->a, "klmnopqr") == 0 && has(t->a, 0, 0));
    /* Lowered below what is kept, or was read ahead: it stays. */
    EXPECT(weft_stream_set_limits(t->a, 0, 16) == 0 && weft_stream_puts(t->a, "ABCDEFGHIJKL") == 0 && has(t->a, 0, 12));
    EXPECT(weft_stream_set_limits(t->a, 0, 4) == 0 && has(t->a, 0, 12));
    EXPECT(weft_stream_write(t->a, "", 0) == 0 && weft_stream_puts(t->a, "M") == 0 && has(t->a, 0, 1));
    EXPECT(weft_stream_puts(t->a, "NOP\n") == 0 && has(t->a, 0, 0));
    EXPECT(weft_stream_set_limits(t->b, 39, 0) == 0 && may_have(t->b, 39, 16384) && has(t->b, 6, 0));
    EXPECT(weft_stream_read_line(t->b, &p, &n) == -EMSGSIZE && has(t->b, 41, 0));
    EXPECT(weft_stream_set_limits(t->b, 40, 0) == 0 && weft_stream_read_line(t->b, &p, &n) == 1);
    EXPECT(n == 40 && strcmp(p, "456789abcdefghijklmnopqrABCDEFGHIJKLMNOP") == 0 && has(t->b, 0, 0));
    /* The least, and 0: as it is. */
    EXPECT(weft_stream_set_limits(t->a, 7, 1) == 0 && may_have(t->a, 7, 1));
    EXPECT(weft_stream_set_limits(t->a, 0, 0) == 0 && may_have(t->a, 7, 1));
    EXPECT(weft_stream_puts(t->a, "x") == 0 && has(t->a, 0, 1) && weft_stream_puts(t->a, "yz") == 0 && has(t->a, 0, 0));
    EXPECT(weft_stream_read_all(t->b, back, 3, NULL) == 1 && memcmp(back, "xyz", 3) == 0);
    EXPECT(weft_stream_set_limits(t->a, huge, 5) == -EINVAL && weft_stream_set_limits(t->a, 5, huge) == -EINVAL);
    EXPECT(may_have(t->a, 7, 1));
    EXPECT(weft_stream_set_limits(NULL, 5, 5) == -EINVAL && weft_stream_buffered(t->a, NULL) == -EINVAL);
    EXPECT(weft_stream_buffered(NULL, &b) == -EINVAL && b.kept == 77);
    EXPECT(weft_stream_buffered(t->a, &b) == 0 && b.kept == 0);
    for (int i = 0; i < COUNT(b.reserved); i++)
        EXPECT(b.reserved[i] == 0);
    return close_both(t);
}

START_TEST(limits_can_be_read_and_set)
{
    run_everywhere(limits, _i);
}
END_TEST

static bool comes_to_have(const weft_stream *s, size_t read_ahead, size_t kept)
{
    int64_t end = weft_after(LIMIT);
    while (!has(s, read_ahead, kept) && weft_now() < end)
        weft_ignore(weft_yield());
    return has(s, read_ahead, kept);
}

static int read_to_the_end(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "begun and ended") == 0);
    return 0;
}

/* Of the 64 KiB of a pair sixteen blocks of 4000 bytes leave 1536. */
static int look_from_beside(struct t *t)
{
    static char some[4000];
    weft_carrier from = weft_stream_carrier(t->b);
    EXPECT(weft_stream_puts(t->b, "begun") == 0 && weft_stream_flush(t->b) == 0);
    EXPECT(comes_to_have(t->a, 5, 4000 - 1536) && t->there == 17 * 4);
    EXPECT(weft_stream_set_limits(t->a, 9, 9) == -EBUSY && weft_stream_set_limits(t->a, 0, 9) == -EBUSY);
    EXPECT(weft_stream_set_limits(t->a, 9, 0) == -EBUSY && may_have(t->a, 65536, 4000));
    /* It goes on when all that was kept is out, and no sooner. */
    EXPECT(from.ops->read(from.self, some, 1000) == 1000 && comes_to_have(t->a, 5, 3000 - 1536) && t->there == 17 * 4);
    EXPECT(from.ops->read(from.self, some, 3000 - 1536) == 3000 - 1536);
    EXPECT(comes_to_have(t->a, 5, 4000) && wait_for(&t->there, 18 * 4) && t->there == 18 * 4);
    EXPECT(weft_stream_puts(t->b, " and ended\n") == 0 && weft_stream_flush(t->b) == 0);
    EXPECT(comes_to_have(t->a, 0, 4000));
    return 0;
}

/* While one waits to write, and another to read. */
static int beside(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    EXPECT(weft_stream_pair(&t->a, &t->b) == 0 && weft_stream_set_limits(t->a, 0, 4000) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, write_on, t);
    weft_spawn(&s, read_to_the_end, t);
    int rc = look_from_beside(t);
    weft_scope_cancel(&s, "enough");
    EXPECT(weft_scope_end(&s, rc) == 0 && has(t->a, 0, 4000));
    EXPECT(weft_stream_set_limits(t->a, 9, 9) == 0 && may_have(t->a, 9, 9));
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    return 0;
}

START_TEST(what_is_kept_is_seen_from_beside)
{
    struct t t = { 0 };
    run_one(beside, &t, workers[_i]);
}
END_TEST

/* ---- very many that nobody reads */

static int write_into_nothing(void *arg)
{
    struct t *t = arg;
    static const char block[5000];
    int fds[2], rc = weft_pair(fds), small = 4096;
    weft_stream *s = NULL;
    if (rc == 0) {
        weft_ignore(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
        rc = weft_stream_open(&s, fds[0], NULL);
    }
    atomic_fetch_add(&t->there, rc == 0);
    while (rc == 0)
        rc = weft_stream_write(s, block, sizeof block);
    weft_stream_drop(&s);
    weft_ignore(weft_close(fds[1]));
    return rc;
}

enum { MANY = BUILT(400, 200, 100) };

static int crowd(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    long before = resident_kib();
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < MANY; i++)
        weft_spawn(&s, write_into_nothing, t);
    bool all = wait_for(&t->there, MANY);
    weft_ignore(weft_sleep(weft_ms(20)));
    t->count = resident_kib() - before;
    weft_scope_cancel(&s, "enough");
    int rc = weft_scope_end(&s, 0);
    EXPECT(all && rc == 0);
    return 0;
}

START_TEST(writers_to_peers_that_never_read_take_little)
{
    struct t t = { 0 };
    run_one(crowd, &t, workers[_i]);
    if (!TSAN && !ASAN)
        ck_assert_int_le(t.count, MANY * 40L); /* a stack that was touched, the buffer of 16 KiB */
}
END_TEST

/* ---- who reads does not wait for what another has kept: the other side may do the same */

static int write_until_full(void *arg)
{
    struct t *t = arg;
    static const char buf[1000];
    do {
        weft_scope s;
        weft_scope_begin(&s, weft_ms(20));
        t->rc[0] = weft_scope_end(&s, weft_stream_write(t->a, buf, sizeof buf));
    } while (t->rc[0] == 0);
    atomic_store(&t->there, 1);
    return 0;
}

static int read_beside(void *arg)
{
    struct t *t = arg;
    char *line;
    weft_scope s;
    EXPECT(open_both(t, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, write_until_full, t);
    bool full = wait_for(&t->there, 1); /* not by a join, which might make it a call of the reader's own */
    int rc = weft_stream_puts(t->b, "to be read\n");
    rc = rc == 0 ? weft_stream_flush(t->b) : rc;
    rc = rc == 0 ? weft_stream_read_line(t->a, &line, NULL) : rc;
    rc = weft_scope_end(&s, rc);
    EXPECT(full && t->rc[0] == -ETIMEDOUT);
    EXPECT(rc == 1 && strcmp(line, "to be read") == 0);
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    return 0;
}

START_TEST(what_another_has_kept_is_not_waited_for)
{
    run_everywhere(read_beside, _i);
}
END_TEST

static int read_one_line(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "to be read") == 0);
    return 0;
}

/* The reader has the stack of the writer, which has ended: that does not make it the one who wrote. */
static int read_after(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->b, "to be read\n") == 0 && weft_stream_flush(t->b) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, write_until_full, t);
    EXPECT(weft_scope_end(&s, 0) == 0 && t->rc[0] == -ETIMEDOUT);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, read_one_line, t);
    EXPECT(weft_scope_end(&s, 0) == 0);
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    return 0;
}

START_TEST(who_comes_after_the_writer_is_not_taken_for_it)
{
    run_everywhere(read_after, _i);
}
END_TEST

/* ---- from stream to stream */

struct relay {
    weft_stream *in[2], *out[2];
    uint64_t moved;
};

static int relay(void *arg)
{
    struct relay *r = arg;
    return weft_stream_copy(r->out[0], r->in[1], &r->moved);
}

/* What has come is passed on before more is waited for: else both sides might wait for what lies between them. */
static int through_a_relay(void *arg)
{
    struct t *t = arg;
    struct relay r = { .moved = 0 };
    weft_scope s;
    char *line;
    EXPECT(open_both(t, NULL) == 0);
    r.in[0] = t->a;
    r.in[1] = t->b;
    EXPECT(open_both(t, NULL) == 0);
    r.out[0] = t->a;
    r.out[1] = t->b;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, relay, &r);
    int rc = 0;
    for (int i = 0; i < 10 && rc == 0; i++) {
        rc = weft_stream_puts(r.in[0], "a line\n");
        rc = rc == 0 ? weft_stream_flush(r.in[0]) : rc;
        rc = rc == 0 ? weft_stream_read_line(r.out[1], &line, NULL) : rc;
        rc = rc == 1 && strcmp(line, "a line") == 0 ? 0 : rc == 1 ? -EPROTO : rc;
    }
    rc = rc == 0 ? weft_stream_shutdown(r.in[0]) : rc;
    EXPECT(weft_scope_end(&s, rc) == 0 && r.moved == 70);
    weft_stream_drop(&r.in[0]);
    weft_stream_drop(&r.in[1]);
    return close_both(t);
}

START_TEST(a_relay_keeps_nothing_back)
{
    run_everywhere(through_a_relay, _i);
}
END_TEST

/* ---- told to leave (B-031): what docs/cancellation.md says of shutdown and of copy */

/* Waits until somebody is in a call that writes. */
static bool is_writing(struct t *t)
{
    for (int64_t end = weft_after(LIMIT); weft_mutex_try_lock(&t->a->writing) == 0; weft_ignore(weft_yield())) {
        weft_mutex_unlock(&t->a->writing);
        if (weft_now() > end)
            return false;
    }
    return true;
}

static int shut_a(void *arg)
{
    struct t *t = arg;
    t->rc[0] = weft_stream_shutdown(t->a);
    return t->rc[0];
}

/* All of a line that was kept comes, once, and then the end. */
static int shut_later(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    char *line;
    EXPECT(open_both(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "kept\n") == 0);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    EXPECT(weft_stream_shutdown(t->a) == -ECANCELED);
    EXPECT(weft_scope_end(&s, -ECANCELED) == 0);
    EXPECT(weft_stream_puts(t->a, "more\n") == 0 && weft_stream_shutdown(t->a) == 0); /* it was not shut */
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "kept") == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "more") == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 0);
    return close_both(t);
}

START_TEST(a_shutdown_that_is_refused_loses_nothing)
{
    run_everywhere(shut_later, _i);
}
END_TEST

/* The same where it waits for the other side, which takes nothing. */
static int shut_in_vain(void *arg)
{
    struct t *t = arg;
    static char all[1 << 20];
    weft_scope s;
    size_t n;
    EXPECT(open_both(t, &(weft_stream_options){ .write_buffer = 1000 }) == 0);
    int filled = fill(t->fds[0]);
    EXPECT(filled > 0 && (size_t)filled + 10 < sizeof all);
    EXPECT(weft_stream_puts(t->a, "kept\n") == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, shut_a, t);
    EXPECT(is_writing(t));
    weft_scope_cancel(&s, NULL);
    EXPECT(weft_scope_end(&s, 0) == 0 && t->rc[0] == -ECANCELED);
    EXPECT(weft_stream_puts(t->a, "more\n") == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, shut_a, t);
    int rc = weft_stream_read_all(t->b, all, (size_t)filled + 11, &n);
    EXPECT(weft_scope_end(&s, 0) == 0 && t->rc[0] == 0);
    EXPECT(rc == -ENODATA && n == (size_t)filled + 10 && memcmp(all + filled, "kept\nmore\n", 10) == 0);
    return close_both(t);
}

START_TEST(a_shutdown_that_is_called_off_loses_nothing)
{
    struct t t = { .i = 1 };
    run_one(shut_in_vain, &t, workers[_i]);
}
END_TEST

struct copying {
    weft_stream *from, *to;
    uint64_t moved;
    int rc;
};

static int copy_on(void *arg)
{
    struct copying *c = arg;
    c->rc = weft_stream_copy(c->to, c->from, &c->moved);
    return c->rc;
}

/* It is called off with its way full. What arrives is a beginning of what came, as long as it says at least; what it has not
 * counted is still to be read. */
static int copy_in_vain(void *arg)
{
    struct t *t = arg;
    enum { BYTES = 40000 };
    static char what[BYTES], all[1 << 20], rest[BYTES];
    weft_stream *in, *from;
    struct copying c = { .rc = 1 };
    weft_scope s;
    size_t n, left;
    for (int i = 0; i < BYTES; i++)
        what[i] = (char)(i * 7 + i / 251);
    EXPECT(weft_stream_pair(&in, &from) == 0);
    EXPECT(weft_stream_write(in, what, BYTES) == 0 && weft_stream_shutdown(in) == 0);
    EXPECT(open_both(t, &(weft_stream_options){ .write_buffer = t->i % 2 ? 1000 : 0 }) == 0);
    int filled = fill(t->fds[0]);
    EXPECT(filled > 0 && (size_t)filled + BYTES < sizeof all);
    c.from = from;
    c.to = t->a;
    weft_scope_begin(&s, WEFT_NEVER); /* refused: nothing is moved */
    weft_scope_cancel(&s, NULL);
    EXPECT(copy_on(&c) == -ECANCELED && c.moved == 0);
    EXPECT(weft_scope_end(&s, -ECANCELED) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, copy_on, &c);
    EXPECT(is_writing(t));
    weft_scope_cancel(&s, NULL);
    EXPECT(weft_scope_end(&s, 0) == 0 && c.rc == -ECANCELED && c.moved < BYTES);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, shut_a, t);
    int rc = weft_stream_read_all(t->b, all, sizeof all, &n);
    EXPECT(weft_scope_end(&s, 0) == 0 && rc == -ENODATA && n >= (size_t)filled + c.moved);
    n -= (size_t)filled;
    EXPECT(n <= BYTES && memcmp(all + filled, what, n) == 0);
    rc = weft_stream_read_all(from, rest, BYTES, &left);
    EXPECT(rc == (c.moved == 0 ? 1 : -ENODATA) && left == BYTES - c.moved && memcmp(rest, what + c.moved, left) == 0);
    weft_stream_drop(&in);
    weft_stream_drop(&from);
    return close_both(t);
}

START_TEST(a_copy_that_is_called_off_says_what_it_has_moved)
{
    struct t t = { .i = _i };
    run_one(copy_in_vain, &t, workers[_i / 2]);
}
END_TEST

/* Called off where it waits for more, it has lost nothing: another goes on. */
static int copy_in_two(void *arg)
{
    struct t *t = arg;
    weft_stream *in, *from;
    struct copying c = { .rc = 1 };
    weft_scope s;
    char *line;
    EXPECT(weft_stream_pair(&in, &from) == 0 && open_both(t, NULL) == 0);
    c.from = from;
    c.to = t->a;
    for (int i = 0; i < 4; i++) {
        weft_scope_begin(&s, LIMIT);
        weft_spawn(&s, copy_on, &c);
        EXPECT(weft_stream_puts(in, "a line\nand half") == 0 && weft_stream_flush(in) == 0);
        EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, i ? "and halfa line" : "a line") == 0);
        weft_scope_cancel(&s, NULL);
        EXPECT(weft_scope_end(&s, 0) == 0 && c.rc == -ECANCELED);
        EXPECT(c.moved == 15);
    }
    EXPECT(weft_stream_flush(t->a) == 0);
    weft_stream_drop(&in);
    weft_stream_drop(&from);
    return close_both(t);
}

START_TEST(a_copy_that_waited_for_more_is_taken_up_by_another)
{
    struct t t = { .i = _i };
    run_one(copy_in_two, &t, workers[_i / 2]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stream");
    TCase *tc = add_case(s, "reading");
    tcase_add_loop_test(tc, lines_come_one_by_one, 0, EVERYWHERE);
    tcase_add_loop_test(tc, a_piece_ends_at_its_separator, 0, EVERYWHERE);
    tcase_add_loop_test(tc, pieces_may_come_in_drops, 0, IN_TASKS);
    tcase_add_loop_test(tc, a_piece_over_the_limit_stays, 0, EVERYWHERE);
    tcase_add_loop_test(tc, the_limit_is_without_the_end_of_a_line, 0, EVERYWHERE);
    tcase_add_loop_test(tc, frames_are_whole, 0, EVERYWHERE);
    tcase_add_loop_test(tc, frames_have_lengths_of_as_many_bytes_as_they_take, 0, EVERYWHERE);
    tcase_add_loop_test(tc, what_is_no_length_is_refused_and_stays, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_reader_called_off_loses_nothing, 0, EVERYWHERE);
    tcase_add_loop_test(tc, a_second_reader_is_refused, 0, IN_TASKS);
    tc = add_case(s, "writing");
    tcase_add_loop_test(tc, what_is_written_is_kept_until_it_is_sent, 0, EVERYWHERE);
    tcase_add_loop_test(tc, what_is_kept_grows, 0, EVERYWHERE);
    tcase_add_loop_test(tc, a_dialogue_needs_no_flush, 0, IN_TASKS);
    tcase_add_loop_test(tc, a_writer_waits_for_its_reader_and_loses_nothing_when_called_off, 0, IN_TASKS);
    tcase_add_loop_test(tc, a_frame_that_was_cut_ends_the_writing, 0, COUNT(workers));
    tcase_add_loop_test(tc, what_one_call_writes_is_together, 0, IN_TASKS);
    tcase_add_loop_test(tc, one_reads_while_another_writes, 0, IN_TASKS);
    tcase_add_loop_test(tc, limits_can_be_read_and_set, 0, EVERYWHERE);
    tcase_add_loop_test(tc, what_is_kept_is_seen_from_beside, 0, COUNT(workers) - 1);
    tcase_add_loop_test(tc, writers_to_peers_that_never_read_take_little, 0, COUNT(workers) - 1);
    tc = add_case(s, "ends");
    tcase_add_loop_test(tc, an_error_of_writing_is_for_good, 0, EVERYWHERE);
    tcase_add_loop_test(tc, a_question_that_cannot_be_sent_is_told_to_who_waits_for_the_answer, 0, EVERYWHERE);
    tcase_add_loop_test(tc, the_last_words_of_who_has_gone_are_read, 0, EVERYWHERE);
    tcase_add_loop_test(tc, a_reset_is_no_end, 0, COUNT(workers));
    tcase_add_loop_test(tc, an_abort_is_a_reset, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_close_says_that_what_was_kept_is_lost, 0, EVERYWHERE);
    tcase_add_loop_test(tc, who_is_told_to_leave_sends_its_last_words, 0, EVERYWHERE);
    tcase_add_loop_test(tc, and_does_not_wait_long_for_who_takes_nothing, 0, COUNT(workers));
    tcase_add_loop_test(tc, options_and_descriptors, 0, COUNT(workers));
    tcase_add_loop_test(tc, over_pipes, 0, COUNT(workers));
    tcase_add_loop_test(tc, over_a_terminal, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_layer_is_laid_over_a_stream, 0, EVERYWHERE);
    tcase_add_loop_test(tc, what_another_has_kept_is_not_waited_for, 0, IN_TASKS);
    tcase_add_loop_test(tc, who_comes_after_the_writer_is_not_taken_for_it, 0, IN_TASKS);
    tcase_add_loop_test(tc, a_relay_keeps_nothing_back, 0, IN_TASKS);
    tc = add_case(s, "told to leave");
    tcase_add_loop_test(tc, a_shutdown_that_is_refused_loses_nothing, 0, EVERYWHERE);
    tcase_add_loop_test(tc, a_shutdown_that_is_called_off_loses_nothing, 0, COUNT(workers) - 1);
    tcase_add_loop_test(tc, a_copy_that_is_called_off_says_what_it_has_moved, 0, IN_TASKS);
    tcase_add_loop_test(tc, a_copy_that_waited_for_more_is_taken_up_by_another, 0, IN_TASKS);
    tcase_add_test(tc, without_memory_it_says_so);
    return run_suite(s);
}
