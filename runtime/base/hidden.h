/* base/hidden.h - for variables of the library's own: -fvisibility=hidden says of definitions that nobody else sees them, and not
 * of declarations, so each file would look the address up in the table of what may be elsewhere. */
#ifndef WEFT_BASE_HIDDEN_H
#define WEFT_BASE_HIDDEN_H

#define WEFT__HIDDEN __attribute__((visibility("hidden")))

#endif
