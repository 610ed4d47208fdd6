/* base/mem.c - memory for the runtime's own records.
 *
 * The allocator is the program's: malloc, which is jemalloc when the executable links it (the default of the
 * CMake target). The library itself does not link jemalloc: as a shared one it could not be loaded by dlopen.
 */
#include "base/mem.h"

#include <stdio.h>
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

enum { LARGE = 1 << 20, LINE = 64 };

void *weft__mem_large(size_t bytes)
{
    if (bytes < LARGE)
        return weft__mem_aligned(LINE, bytes);
    if (weft__fault(WEFT__FAULT_ALLOC))
        return NULL;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void weft__mem_large_free(void *p, size_t bytes)
{
    if (bytes < LARGE)
        weft__mem_free(p);
    else if (p)
        munmap(p, bytes);
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

int weft__space_discard(void *p, size_t bytes)
{
    int rc = weft__fault(WEFT__FAULT_DISCARD);
    if (rc)
        return rc;
    return madvise(p, bytes, MADV_DONTNEED) == 0 ? 0 : -weft__errno();
}

/* Of whichever allocator the program has. */
extern int mallctl(const char *name, void *old, size_t *old_bytes, void *new_value, size_t bytes) __attribute__((weak));
extern int malloc_trim(size_t pad) __attribute__((weak));

bool weft__mem_purge(unsigned step)
{
    unsigned arenas = 0;
    size_t bytes = sizeof arenas;
    if (!mallctl) {
        if (malloc_trim)
            malloc_trim(0);
        return false;
    }
    char name[40];
    snprintf(name, sizeof name, "arena.%u.purge", step);
    if (mallctl("arenas.narenas", &arenas, &bytes, NULL, 0) != 0 || step >= arenas)
        return false;
    (void)mallctl(name, NULL, NULL, NULL, 0); /* fails for an arena that was never used */
    return step + 1 < arenas;
}
