/* base/mem.h - memory for the runtime's own records. Stacks and task blocks are mappings, not from here. */
#ifndef WEFT_BASE_MEM_H
#define WEFT_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL when there is none. Aligned to 16; weft__mem_zeroed is filled with zeros; _aligned to `align`. */
void *weft__mem_alloc(size_t bytes);
void *weft__mem_zeroed(size_t bytes);
void *weft__mem_aligned(size_t align, size_t bytes);
void weft__mem_free(void *p);

/* For arrays that can become large and are given up again: from 1 MiB on a mapping of its own, since an allocator may keep what
 * was freed beside something small. Aligned to 64. `bytes` is the same for both. */
void *weft__mem_large(size_t bytes);
void weft__mem_large_free(void *p, size_t bytes);

/* Address space without memory behind it: costs nothing until weft__space_commit. NULL when there is none. */
void *weft__space_reserve(size_t bytes);
/* Makes part of it usable, zeroed on first use. 0 or a negative errno. */
int weft__space_commit(void *p, size_t bytes);
/* Gives the memory behind it back; it reads as zeros from then on. Whole pages. 0 or a negative errno: locked memory stays
 * what it is. */
int weft__space_discard(void *p, size_t bytes);

/* Whether the words of an options struct that are kept for later are zero, as they have to be. */
static inline bool weft__all_zero(const uint64_t *words, size_t n)
{
    uint64_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= words[i];
    return any == 0;
}
#define weft__reserved_zero(o) weft__all_zero((o)->reserved, sizeof (o)->reserved / sizeof (o)->reserved[0])

/* The allocator gives free memory back to the kernel, a part of it at each step, from 0 on. False: that was the last. */
bool weft__mem_purge(unsigned step);

#endif
