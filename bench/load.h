/* load.h - what the loads share: words of the command line, the clock, latencies, how they give up.
 *
 * Callers   udp_load.c, proxy_load.c, tls_load.c, tls_epoll.c, tails_load.c: programs without weft, which stand for somebody
 * else's. And work_tails.c, for the buckets. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND INT64_C(1000000000)
#define PATIENCE (10 * SECOND)

static inline void load_expect(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "load: %s (%s)\n", what, strerror(errno));
    exit(1);
}

/* The value of key=value among the words. */
static inline double load_arg(char **words, const char *key, double otherwise)
{
    size_t bytes = strlen(key);
    for (; *words; words++)
        if (strncmp(*words, key, bytes) == 0 && (*words)[bytes] == '=')
            return strtod(*words + bytes + 1, NULL);
    return otherwise;
}

static inline int64_t load_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

/* Whether the measured time goes on: to its end, or to the first operation, should there be none before. */
static inline bool load_goes_on(int64_t now, int64_t to, long ops)
{
    return now < to || (ops == 0 && now < to + PATIENCE);
}

/* ---- latencies, in buckets of at most 1/32 of their value: one table for the program */

enum { LOAD_FINE = 32, LOAD_BUCKETS = 64 * LOAD_FINE };

static inline long *load_buckets(void)
{
    static long buckets[LOAD_BUCKETS];
    return buckets;
}

static inline int load_bucket(int64_t ns)
{
    uint64_t v = (uint64_t)ns;
    int shift = v < LOAD_FINE ? -1 : 58 - __builtin_clzll(v); /* leaves 6 bits, 32 to 63 */
    return shift < 0 ? (int)v : (shift + 1) * LOAD_FINE + (int)(v >> shift) - LOAD_FINE;
}

static inline void load_latency(int64_t ns)
{
    load_buckets()[load_bucket(ns)]++;
}

static inline double load_percentile(long of, double share)
{
    long below = 0;
    for (int i = 0; i < LOAD_BUCKETS; i++)
        if ((double)(below += load_buckets()[i]) >= (double)of * share) {
            int shift = i / LOAD_FINE - 1;
            uint64_t ns = shift < 0 ? (uint64_t)i : (uint64_t)(i % LOAD_FINE + LOAD_FINE) << shift;
            return (double)ns / 1e3;
        }
    return 0;
}

/* The beginning of a line of JSON. */
static inline void load_print(long ops, long all, double seconds)
{
    printf("{\"ops\":%ld,\"ops_with_warmup\":%ld,\"seconds\":%.6f,\"ns_per_op\":%.2f,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"p999_us\":%.1f",
            ops, all, seconds, seconds * 1e9 / (double)ops, load_percentile(ops, .5), load_percentile(ops, .99),
            load_percentile(ops, .999));
}

#endif
