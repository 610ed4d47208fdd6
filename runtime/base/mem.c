/* base/mem.c - memory for the runtime's own records.
 *
 * The allocator is the program's: malloc, which is jemalloc when the executable links it (the default of the
 * CMake target). The library itself does not link jemalloc: as a shared one it could not be loaded by dlopen.
 */
#include "base/mem.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/errno.h"
#include "base/fault.h"

void *weft__mem_alloc(size_t bytes)
{
    return weft__fault(WEFT__FAULT_ALLOC) ? NULL : malloc(bytes);
}

void *weft__mem_zeroed(size_t bytes)
{
    return weft__fault(WEFT__FAULT_ALLOC) ? NULL : calloc(1, bytes);
}

void *weft__mem_aligned(size_t align, size_t bytes)
{
    bytes = (bytes + align - 1) & ~(align - 1);
    return weft__fault(WEFT__FAULT_ALLOC) ? NULL : aligned_alloc(align, bytes);
}

void weft__mem_free(void *p)
{
    free(p);
}

void *weft__space_reserve(size_t bytes)
{
    if (weft__fault(WEFT__FAULT_MMAP))
        return NULL;
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int weft__space_commit(void *p, size_t bytes)
{
    int rc = weft__fault(WEFT__FAULT_MMAP);
    if (rc)
        return rc;
    return mprotect(p, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : -weft__errno();
}
