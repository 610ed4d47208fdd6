/* table.h - the key-value store of the service.
 *
 * Any number of threads and tasks may call it at once. No call here suspends: each takes the lock
 * of one shard for as long as it takes to copy a value.
 */
#ifndef SERVICE_TABLE_H
#define SERVICE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define TABLE_KEY_MAX 64
#define TABLE_VALUE_MAX 1024

struct table;

struct table_stats {
    uint64_t keys;
    uint64_t gets;
    uint64_t sets;
    uint64_t incrs;
};

/* Makes an empty table that takes up to `most_keys` keys.
 *
 * returns    0; -ENOMEM */
int table_create(struct table **out, size_t most_keys);
void table_destroy(struct table **t);

/* Stores a copy of the value, at most TABLE_VALUE_MAX bytes, under a copy of the key.
 *
 * returns    0; -ENOSPC there are as many keys as it takes; -ENOMEM */
int table_set(
        struct table *t, const char *key, size_t key_len, const char *value, size_t value_len);

/* Copies the value to `out`, which has room for TABLE_VALUE_MAX bytes.
 *
 * returns    its length; -ENOENT */
int table_get(struct table *t, const char *key, size_t key_len, char *out);

/* Adds one to a value that is a decimal number; a missing one counts as 0.
 *
 * returns    0, *now is the new number; -EINVAL not a number; -ERANGE too large; -ENOSPC; -ENOMEM */
int table_incr(struct table *t, const char *key, size_t key_len, int64_t *now);

/* Adds up the shards, one after the other. */
void table_count(struct table *t, struct table_stats *out);

#endif
