/* coord/side.c - what a few tasks need beside their control block. */
#include "coord/side.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static struct weft__side *make(const void *arg, size_t bytes)
{
    struct weft__side *d = weft__mem_aligned(16, sizeof *d + bytes);
    if (!d)
        return NULL;
    memset(d, 0, sizeof *d);
    d->bytes = bytes;
    if (bytes > 0)
        memcpy(d->data, arg, bytes);
    return d;
}

static void hang(struct weft__task *t, struct weft__side *d, unsigned flags)
{
    d->site = (void *)(uintptr_t)at_load(&t->side);
    at_store(&t->side, (uint64_t)(uintptr_t)d);
    ati_store(&t->bits, ati_load(&t->bits) | WEFT__TASK_SIDE | flags);
}

int weft__side_copy(struct weft__task *t, const void *arg, size_t bytes)
{
    uint64_t words[2] = { 0, 0 };
    if (bytes <= sizeof words) {
        if (bytes > 0)
            memcpy(words, arg, bytes);
        at_store(&weft__members[weft__task_index(t)].site, at_load(&t->side));
        at_store(&t->u.arg, words[0]);
        at_store(&t->side, words[1]);
        ati_store(&t->bits, ati_load(&t->bits) | WEFT__TASK_COPY);
        return 0;
    }
    if (bytes > SIZE_MAX / 2)
        return -ENOMEM;
    struct weft__side *d = make(arg, bytes);
    if (!d)
        return -ENOMEM;
    hang(t, d, 0);
    return 0;
}

int weft__side_make(struct weft__task *t, struct weft__group *g, void *arg, const weft_spawn_options *o)
{
    int c = o->stack_bytes ? weft__stack_class(o->stack_bytes) : g->default_class;
    if (!weft__reserved_zero(o))
        return -EINVAL;
    if (c < 0 || o->pin < 0 || o->pin > g->n || o->copy_bytes > SIZE_MAX / 2)
        return -EINVAL;
    struct weft__side *d = make(arg, o->copy_bytes);
    if (!d)
        return -ENOMEM;
    d->result = o->result;
    d->keep_fp = o->keep_fp;
    d->arg = arg;
    if (o->name)
        snprintf(d->name, sizeof d->name, "%s", o->name);
    ati_store(&t->bits, weft__task_bits((uint32_t)o->pin, c, 0));
    hang(t, d, o->keep_fp ? WEFT__TASK_FP : 0);
    return 0;
}

/* What is in the block itself moves, to make room for where the rest is. */
static struct weft__side *move_out(struct weft__task *t)
{
    uint64_t words[2] = { at_load(&t->u.arg), at_load(&t->side) };
    bool copy = weft__task_has(t, WEFT__TASK_COPY);
    struct weft__side *d = make(words, copy ? sizeof words : 0);
    if (!d)
        return NULL;
    if (copy) {
        ati_store(&t->bits, ati_load(&t->bits) & ~(uint32_t)WEFT__TASK_COPY);
        at_store(&t->side, at_load(&weft__members[weft__task_index(t)].site));
    } else {
        d->arg = (void *)(uintptr_t)words[0];
    }
    hang(t, d, 0);
    return d;
}

int weft__side_hand_on(struct weft__task *t, struct weft__handed *h)
{
    struct weft__side *d = weft__task_has(t, WEFT__TASK_SIDE) ? (struct weft__side *)(uintptr_t)at_load(&t->side)
                                                             : move_out(t);
    if (!d)
        return -ENOMEM;
    d->keeps.handed = weft__handed_hold(h);
    return 0;
}

void weft__side_drop(struct weft__task *t)
{
    if (!weft__task_has(t, WEFT__TASK_SIDE))
        return;
    struct weft__side *d = (struct weft__side *)(uintptr_t)at_load(&t->side);
    weft__handed_let_go(d->keeps.handed);
    weft__mem_free(d);
}

void weft__side_unpack(struct weft__frame *f, struct weft__task *t, uint32_t bits)
{
    uint64_t side = at_load(&t->side);
    if (bits & WEFT__TASK_COPY) {
        f->copy[0] = at_load(&t->u.arg);
        f->copy[1] = side;
        f->site = (void *)(uintptr_t)at_load(&weft__members[weft__task_index(t)].site);
        f->arg = f->copy;
        return;
    }
    f->side = (struct weft__side *)(uintptr_t)side;
    f->site = f->side->site;
    f->arg = f->side->bytes > 0 ? f->side->data : f->side->arg;
    f->keep_fp = f->side->keep_fp;
    if (f->side->keeps.handed)
        f->keeps = &f->side->keeps;
    if (f->keep_fp)
        weft__fp_save(f->fp);
}
