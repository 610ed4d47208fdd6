/* coord/error.h - the error record of a task or thread. */
#ifndef WEFT_COORD_ERROR_H
#define WEFT_COORD_ERROR_H

#include <weft/error.h>

#include "coord/side.h"
#include "sched/sched.h"

struct weft__detail {
    weft_error seen; /* what a program gets to see; its cause is another's `seen` */
    char text[108];
    char name[WEFT__NAME_BYTES];
};

/* The text said for exactly this code, or NULL. */
const char *weft__detail_text(struct weft__frame *f, int code);
/* What f says; `text` is copied. The causes of what it replaces go. */
void weft__detail_set(struct weft__frame *f, int code, const char *text);
/* The record of exactly this code, which is f's no longer; NULL: there is none. */
struct weft__detail *weft__detail_take(struct weft__frame *f, int code);
/* d (NULL: none) is f's, and what was before is gone. */
void weft__detail_give(struct weft__frame *f, struct weft__detail *d);
/* One that is nobody's yet, of who said nothing itself; `text` NULL: nothing is known. NULL: no memory. */
struct weft__detail *weft__detail_new(int code, const char *text, weft_task task, const char *name, const void *spawned_at);
void weft__detail_drop(struct weft__detail *d);
static inline void weft__detail_free(struct weft__frame *f)
{
    if (f->detail) /* nearly no task has one */
        weft__detail_give(f, NULL);
}

#endif
