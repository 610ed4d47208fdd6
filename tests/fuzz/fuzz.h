/* tests/fuzz/fuzz.h - what the fuzzers share. See README.md.
 *
 * A fuzzer reads its input as lines that say what to do, and as bytes; whatever the input is, it does something with it.
 * Then it looks whether a property holds, and aborts if not. What an answer has to be is said by a second
 * implementation, which is as plain as it can be: it has all bytes at hand, and looks at one after the other. */
#ifndef WEFT_TESTS_FUZZ_H
#define WEFT_TESTS_FUZZ_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define UNUSED __attribute__((unused))

#define HOLDS(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Bytes that are not read yet. */
struct input {
    const unsigned char *at;
    size_t left;
};

/* -1: there is none. */
UNUSED static int next_byte(struct input *in)
{
    if (in->left == 0)
        return -1;
    in->left--;
    return *in->at++;
}

/* A byte as a size: a space and what comes before it is 0, '!' is 1, and so on. */
UNUSED static size_t next_size(struct input *in)
{
    int c = next_byte(in);
    return c <= ' ' ? 0 : (size_t)(c - ' ');
}

/* Up to a newline, which is taken, too. */
UNUSED static struct input next_line(struct input *in)
{
    const unsigned char *end = in->left ? memchr(in->at, '\n', in->left) : NULL;
    struct input line = { in->at, end ? (size_t)(end - in->at) : in->left };
    in->at += line.left + (end != NULL);
    in->left -= line.left + (end != NULL);
    return line;
}

/* Digits, as far as they go; no more than `most`. */
UNUSED static size_t next_number(struct input *in, size_t most)
{
    size_t n = 0;
    while (in->left > 0 && *in->at >= '0' && *in->at <= '9') {
        n = 10 * n + (size_t)(next_byte(in) - '0');
        n = n < most ? n : most;
    }
    return n;
}

/* The bytes as a string of their own, so that a sanitizer knows where they end. */
UNUSED static char *text_of(struct input in)
{
    char *text = malloc(in.left + 1);
    if (!text)
        abort();
    if (in.left > 0)
        memcpy(text, in.at, in.left);
    text[in.left] = 0;
    return text;
}

/* Bytes at length: "`nc" stands for 64 times n of the byte c. Returns how many; no more than `most`. */
UNUSED static size_t expand(struct input in, unsigned char *to, size_t most)
{
    size_t n = 0;
    for (int c; (c = next_byte(&in)) >= 0;) {
        size_t times = c == '`' ? 64 * next_size(&in) : 1;
        c = c == '`' ? next_byte(&in) : c;
        for (; times > 0 && n < most; times--)
            to[n++] = (unsigned char)c;
    }
    return n;
}

/* ---- how bytes are carried: a character for each call */

/* How many of `wanted` a call moves; negative: it fails. After the last, all of them. */
UNUSED static int next_piece(struct input *cuts, size_t wanted)
{
    int c = next_byte(cuts);
    size_t n = c < 0 ? wanted : 1;
    if (c == '!')
        return -ECANCELED;
    if (c == '~')
        return -ECONNRESET;
    if (c >= '0' && c <= '9')
        n = (size_t)(c - '0');
    else if (c >= 'a' && c <= 'z')
        n = (size_t)(c - 'a' + 1) * 16;
    else if (c >= 'A' && c <= 'Z')
        n = (size_t)(c - 'A' + 1) * 256;
    n = n < wanted ? n : wanted;
    return (int)(n > 0 ? n : wanted > 0);
}

#endif
