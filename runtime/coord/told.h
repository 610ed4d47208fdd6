/* coord/told.h - who told a scope, or a task by its id, to leave, and in what words.
 *
 * Any thread writes, the first one of each part counts; who is told, and reports, read. `by` and `text` are apart, since
 * somebody may give a reason after another gave none. */
#ifndef WEFT_COORD_TOLD_H
#define WEFT_COORD_TOLD_H

#include <stdio.h>
#include <weft/task.h>

#include "sched/sched.h"

enum { WEFT__TOLD_NOT, WEFT__TOLD_WRITING, WEFT__TOLD };

struct weft__told {
    at_int by_set, text_set; /* WEFT__TOLD: what belongs to it is not written again */
    weft_task by;            /* 0: no task */
    const void *site;        /* where it called; NULL: the runtime itself */
    char text[32];
};

/* `site` NULL: the caller only passes on what happened elsewhere. */
static inline void weft__told_write(struct weft__told *t, const char *reason, const void *site)
{
    if (reason && (ati_load(&t->text_set) != WEFT__TOLD_NOT || !ati_cas(&t->text_set, WEFT__TOLD_NOT, WEFT__TOLD_WRITING)))
        return; /* another's reason counts, and who that is with it */
    if (ati_load(&t->by_set) == WEFT__TOLD_NOT && ati_cas(&t->by_set, WEFT__TOLD_NOT, WEFT__TOLD_WRITING)) {
        struct weft__sched *s = site ? weft__self() : NULL;
        t->by = s ? own(s->frame)->id : 0;
        t->site = site;
        ati_store_release(&t->by_set, WEFT__TOLD);
    }
    if (reason) {
        snprintf(t->text, sizeof t->text, "%s", reason);
        ati_store_release(&t->text_set, WEFT__TOLD);
    }
}

/* As far as it is known; what is not stays as it is. `t` may be NULL. */
static inline void weft__told_read(const struct weft__told *t, weft_canceller *out)
{
    if (t && ati_load_acquire(&t->text_set) == WEFT__TOLD)
        out->reason = t->text;
    if (t && ati_load_acquire(&t->by_set) == WEFT__TOLD) {
        out->task = t->by;
        out->site = t->site;
    }
}

#endif
