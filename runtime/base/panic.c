/* base/panic.c - a broken invariant ends the process, saying what and who. */
#include "base/panic.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void (*weft__panic_who)(char *buf, unsigned long bytes);

void weft__panic(const char *file, int line, const char *format, ...)
{
    char who[96] = "", what[256], text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    if (weft__panic_who)
        weft__panic_who(who, sizeof who);
    int n = snprintf(text, sizeof text, "weft: %s%s%s [%s:%d]\n", who, who[0] ? ": " : "", what, file, line);
    if (write(2, text, (size_t)n) < 0)
        n = 0;
    abort();
}
