/* base/code.h - an address of code, in words. */
#ifndef WEFT_BASE_CODE_H
#define WEFT_BASE_CODE_H

#include <stddef.h>

/* "serve+0x1c (echo)" where the symbol is exported, else "echo+0x31c4", which addr2line understands. Takes libc's lock of
 * loaded objects. */
void weft__code_text(char *out, size_t bytes, const void *p);

#endif
