/* base/panic.h - a broken invariant ends the process, saying what and who. */
#ifndef WEFT_BASE_PANIC_H
#define WEFT_BASE_PANIC_H

#include "base/hidden.h"

/* Says who runs on this thread ("task 42 \"conn\""), written into buf; set by sched/. */
extern WEFT__HIDDEN void (*weft__panic_who)(char *buf, unsigned long bytes);

_Noreturn void weft__panic(const char *file, int line, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* A bug in weft or in its user, not an error. */
#define weft__expect(cond) ((cond) ? (void)0 : weft__panic(__FILE__, __LINE__, "expected %s", #cond))

#ifdef WEFT_DEBUG
#define weft__debug_expect(cond) weft__expect(cond)
#else
#define weft__debug_expect(cond) ((void)0)
#endif

#endif
