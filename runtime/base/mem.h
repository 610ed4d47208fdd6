/* base/mem.h - memory for the runtime's own records. Stacks and task blocks are mappings, not from here. */
#ifndef WEFT_BASE_MEM_H
#define WEFT_BASE_MEM_H

#include <stddef.h>

/* NULL when there is none. Aligned to 16; weft__mem_zeroed is filled with zeros; _aligned to `align`. */
void *weft__mem_alloc(size_t bytes);
void *weft__mem_zeroed(size_t bytes);
void *weft__mem_aligned(size_t align, size_t bytes);
void weft__mem_free(void *p);

/* Address space without memory behind it: costs nothing until weft__space_commit. NULL when there is none. */
void *weft__space_reserve(size_t bytes);
/* Makes part of it usable, zeroed on first use. 0 or a negative errno. */
int weft__space_commit(void *p, size_t bytes);

#endif
