/* base/code.c - an address of code, in words. See code.h. */
#include "base/code.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void weft__code_text(char *out, size_t bytes, const void *p)
{
    Dl_info at;
    if (!p || dladdr(p, &at) == 0 || !at.dli_fname) {
        snprintf(out, bytes, "%p", p);
        return;
    }
    const char *file = strrchr(at.dli_fname, '/');
    file = file ? file + 1 : at.dli_fname;
    if (at.dli_sname && at.dli_saddr == p)
        snprintf(out, bytes, "%s (%s)", at.dli_sname, file);
    else if (at.dli_sname)
        snprintf(out, bytes, "%s+0x%tx (%s)", at.dli_sname, (const char *)p - (const char *)at.dli_saddr, file);
    else
        snprintf(out, bytes, "%s+0x%tx", file, (const char *)p - (const char *)at.dli_fbase);
}
