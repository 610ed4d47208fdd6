/* report/view.h - what one task does just now, and how it is said. See view.c. */
#ifndef WEFT_REPORT_VIEW_H
#define WEFT_REPORT_VIEW_H

#include "coord/side.h"

enum { WEFT__OUT_BYTES = 8192, WEFT__CODES = 32, WEFT__CODE_BYTES = 96, WEFT__IN_MEMORY = -0x7fffffff };

/* Text on its way to a descriptor; with WEFT__IN_MEMORY what has room stays here, and ends with a zero. */
struct weft__out {
    int fd, rc;
    size_t n;
    char text[WEFT__OUT_BYTES];
    /* Addresses as they are said: there are few, and to look one up takes microseconds. */
    struct weft__code {
        const void *at;
        char text[WEFT__CODE_BYTES];
    } codes[WEFT__CODES];
};

__attribute__((format(printf, 2, 3))) void weft__say(struct weft__out *o, const char *format, ...);
void weft__out_flush(struct weft__out *o);

/* What is known of a task when its life was held. */
struct weft__view {
    uint64_t state, waits, waited, age; /* the last two in ticks; 0: not known */
    weft_task id, owner, below;
    bool cancelled, held; /* held false: nothing but id, state and `cancelled` */
    char name[WEFT__NAME_BYTES], scope_name[WEFT__NAME_BYTES], reason[WEFT__NAME_BYTES];
    weft_canceller told; /* from outside; its reason is in `reason`, "" if there is nobody */
    const void *fn, *site, *scope;
    bool calls; /* it is known to run a child of its own as a call */
    const struct weft__group *group; /* NULL: it has not been started */
};

/* False: nobody lives in this block. */
bool weft__view_task(struct weft__view *v, struct weft__task *t);

static inline enum weft__waits weft__view_kind(const struct weft__view *v)
{
    return (enum weft__waits)(v->waits >> 56);
}
/* Of an id no more than these bits. */
static inline uint64_t weft__view_object(const struct weft__view *v)
{
    return v->waits & ((UINT64_C(1) << 56) - 1);
}

/* The stack of a task that waits, as it was viewed: the addresses at which its calls go on, innermost first. How many of
 * at most `most`; 0: it does not wait, or not any more, or somebody holds its life. report/stacks.c */
int weft__view_stack(const struct weft__view *v, struct weft__task *t, const void **out, int most);

/* An address of code; a time. */
void weft__say_code(struct weft__out *o, const void *p);
void weft__say_ms(struct weft__out *o, uint64_t ticks);
/* " 3.1 ms, for event 0x..." */
void weft__say_wait(struct weft__out *o, const struct weft__view *v);
/* A line. */
void weft__say_task(struct weft__out *o, const struct weft__view *v);

#endif
