/* coord/gdb.h - what a debugger has to know to find the tasks of a process. See gdb.c. */
#ifndef WEFT_COORD_GDB_H
#define WEFT_COORD_GDB_H

#include <stdint.h>

#include "base/hidden.h"

struct weft__gdb_entry {
    char name[24];
    uint64_t value;
};

struct weft__gdb {
    char magic[8];    /* "weftgdb" */
    uint32_t version; /* 1; new entries are no new version, another meaning of one is */
    uint32_t bytes;   /* of all this */
    struct weft__gdb_entry entry[72]; /* in any order; those without a name are not used */
};

extern WEFT__HIDDEN struct weft__gdb weft__gdb;

#endif
