/* table.c - a hash table in shards, each with its own small lock.
 *
 * Owns      the keys and the values.
 * Callers   connection tasks, on any worker; the view.
 * Holds     T1  a shard's entries and counts are touched only under its lock.
 *           T2  no lock is held across a suspension: nothing here calls weft. A task that slept with
 *               a pthread mutex could wake on another thread, which must not unlock it; and whoever
 *               wanted the lock meanwhile would block its thread and every task on it.
 *           T3  what is done under a lock is short: one chain walked, one value copied. The buckets
 *               are never moved, since their number is fixed at the start.
 * Is not    hardened against clients who choose keys that collide; that needs a keyed hash. */
#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 64 }; /* enough that two of a few dozen workers seldom meet */

struct entry {
    struct entry *next;
    uint64_t hash;
    uint16_t key_len;
    uint16_t value_len;
    uint16_t value_room;
    char bytes[]; /* the key, then the value */
};

struct shard {
    _Alignas(64) pthread_mutex_t lock; /* a cache line of its own */
    struct entry **buckets;
    struct table_stats count;
};

struct table {
    struct shard shards[SHARDS];
    size_t buckets; /* of one shard; a power of two */
    size_t most;    /* keys of one shard */
};

int table_create(struct table **out, size_t most_keys)
{
    struct table *t = aligned_alloc(64, sizeof *t);
    if (t == NULL)
        return -ENOMEM;
    memset(t, 0, sizeof *t);
    /* A quarter more than an even share: hashes are not even. */
    t->most = most_keys / SHARDS + most_keys / SHARDS / 4 + 1;
    for (t->buckets = 1; t->buckets < t->most;)
        t->buckets *= 2;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&t->shards[i].lock, NULL);
        t->shards[i].buckets = calloc(t->buckets, sizeof *t->shards[i].buckets);
        if (t->shards[i].buckets == NULL) {
            table_destroy(&t);
            return -ENOMEM;
        }
    }
    *out = t;
    return 0;
}

void table_destroy(struct table **table)
{
    struct table *t = *table;

    *table = NULL;
    for (size_t i = 0; t != NULL && i < SHARDS; i++) {
        struct shard *s = &t->shards[i];
        for (size_t b = 0; s->buckets != NULL && b < t->buckets; b++)
            for (struct entry *e = s->buckets[b], *next; e != NULL; e = next) {
                next = e->next;
                free(e);
            }
        free(s->buckets);
    }
    free(t);
}

/* FNV-1a, its weak low bits folded into by the high ones. */
static uint64_t hash_of(const char *key, size_t len)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)key[i]) * 1099511628211u;
    return h ^ h >> 32;
}

static struct shard *shard_of(struct table *t, uint64_t hash)
{
    return &t->shards[hash % SHARDS];
}

/* Where the link to the key's entry is, or would be. */
static struct entry **find(
        struct table *t, struct shard *s, uint64_t hash, const char *key, size_t key_len)
{
    struct entry **at = &s->buckets[hash / SHARDS & (t->buckets - 1)];
    for (; *at != NULL; at = &(*at)->next)
        if ((*at)->hash == hash && (*at)->key_len == key_len &&
                memcmp((*at)->bytes, key, key_len) == 0)
            break;
    return at;
}

/* Under the lock. */
static int store(struct table *t, struct shard *s, uint64_t hash, const char *key, size_t key_len,
        const char *value, size_t value_len)
{
    struct entry **at = find(t, s, hash, key, key_len);
    struct entry *e = *at;

    if (e == NULL && s->count.keys >= t->most)
        return -ENOSPC;
    if (e == NULL || e->value_room < value_len) {
        size_t room = (value_len + 15) / 16 * 16;
        struct entry *bigger = malloc(sizeof *e + key_len + room);
        if (bigger == NULL)
            return -ENOMEM;
        bigger->next = e == NULL ? NULL : e->next;
        bigger->hash = hash;
        bigger->key_len = (uint16_t)key_len;
        bigger->value_room = (uint16_t)room;
        memcpy(bigger->bytes, key, key_len);
        s->count.keys += e == NULL;
        free(e);
        e = *at = bigger;
    }
    e->value_len = (uint16_t)value_len;
    memcpy(e->bytes + e->key_len, value, value_len);
    return 0;
}

int table_set(struct table *t, const char *key, size_t key_len, const char *value, size_t value_len)
{
    uint64_t hash = hash_of(key, key_len);
    struct shard *s = shard_of(t, hash);

    pthread_mutex_lock(&s->lock);
    s->count.sets++;
    int rc = store(t, s, hash, key, key_len, value, value_len);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int table_get(struct table *t, const char *key, size_t key_len, char *out)
{
    uint64_t hash = hash_of(key, key_len);
    struct shard *s = shard_of(t, hash);
    int rc = -ENOENT;

    pthread_mutex_lock(&s->lock);
    s->count.gets++;
    const struct entry *e = *find(t, s, hash, key, key_len);
    if (e != NULL) {
        memcpy(out, e->bytes + e->key_len, e->value_len);
        rc = e->value_len;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* A whole decimal number that has a successor: -5, 0, 17. */
static int successor(const struct entry *e, int64_t *out)
{
    const char *at = e->bytes + e->key_len, *end = at + e->value_len;
    bool negative = at < end && *at == '-';
    int64_t n = 0; /* counted downwards, where there is room for one more */

    at += negative;
    if (at == end)
        return -EINVAL;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return -EINVAL;
        int digit = *at - '0';
        if (n < (INT64_MIN + digit) / 10)
            return -ERANGE;
        n = n * 10 - digit;
    }
    if (!negative && n <= -INT64_MAX)
        return -ERANGE;
    *out = negative ? n + 1 : 1 - n;
    return 0;
}

int table_incr(struct table *t, const char *key, size_t key_len, int64_t *now)
{
    uint64_t hash = hash_of(key, key_len);
    struct shard *s = shard_of(t, hash);
    char text[24];
    int64_t n = 1;
    int rc = 0;

    pthread_mutex_lock(&s->lock);
    s->count.incrs++;
    const struct entry *e = *find(t, s, hash, key, key_len);
    if (e != NULL)
        rc = successor(e, &n);
    if (rc == 0) {
        int len = snprintf(text, sizeof text, "%" PRId64, n);
        rc = store(t, s, hash, key, key_len, text, (size_t)len);
    }
    pthread_mutex_unlock(&s->lock);
    if (rc == 0)
        *now = n;
    return rc;
}

void table_count(struct table *t, struct table_stats *out)
{
    struct table_stats sum = { 0 };

    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &t->shards[i];
        pthread_mutex_lock(&s->lock);
        sum.keys += s->count.keys;
        sum.gets += s->count.gets;
        sum.sets += s->count.sets;
        sum.incrs += s->count.incrs;
        pthread_mutex_unlock(&s->lock);
    }
    *out = sum;
}
