/* stubs.c - what the explored code calls and is not itself explored. */
#include "scenarios.h"

#include <stdio.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/panic.h"

/* ---- base */

static _Alignas(128) char arena[1 << 16];
static size_t arena_used;

void arena_reset(void)
{
    arena_used = 0;
}

void *weft__mem_alloc(size_t bytes)
{
    void *p = &arena[arena_used];
    arena_used += (bytes + 127) & ~(size_t)127;
    if (arena_used > sizeof arena)
        ex_fail("out of memory");
    ex_born(p, bytes, "memory");
    return p;
}

void weft__mem_free(void *p)
{
    (void)p;
}

at_word weft__fault_armed;

int weft__fault_slow(enum weft__fault_kind kind)
{
    (void)kind;
    return 0;
}

void (*weft__panic_who)(char *buf, unsigned long bytes);

_Noreturn void weft__panic(const char *file, int line, const char *format, ...)
{
    (void)format;
    ex_fail("panic at %s:%d: %s", ex_base(file), line, format);
}
