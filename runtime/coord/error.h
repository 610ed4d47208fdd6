/* coord/error.h - the error detail of a task or thread. */
#ifndef WEFT_COORD_ERROR_H
#define WEFT_COORD_ERROR_H

#include "sched/sched.h"

struct weft__detail {
    int code;
    char text[108];
};

/* The text set for exactly this code, or NULL. */
const char *weft__detail_text(struct weft__frame *f, int code);
void weft__detail_set(struct weft__frame *f, int code, const char *text);
void weft__detail_free(struct weft__frame *f);

#endif
