/* coord/error.c - what a negative result means, in words.
 *
 * Owns      the record of a frame, made on demand, and its chain of causes. Without memory for one, weft_error_text falls
 *           back to the name of the code.
 * Holds     R1  a record is its frame's, a scope's (whose first failure it is), a cause's, or a call's that moves it. */
#include "coord/error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <weft/error.h>

#include "base/code.h"
#include "base/list.h"
#include "base/mem.h"
#include "coord/await.h"

/* "EPIPE: Broken pipe", built once from what the C library knows; codes are below 134 on Linux. */
enum { CODES = 134 };
enum { CAUSES = 8 }; /* in a row */

const char *weft_strerror(int rc)
{
    static char names[CODES][72];
    static at_int made[CODES]; /* 0 no, 1 being made, 2 yes */
    if (rc >= 0)
        return "ok";
    if (rc <= -CODES)
        return "unknown error";
    int code = -rc;
    const char *name = strerrorname_np(code), *words = strerrordesc_np(code);
    if (!name || !words)
        return "unknown error";
    if (ati_load_acquire(&made[code]) != 2) {
        if (!ati_cas(&made[code], 0, 1))
            return ati_load_acquire(&made[code]) == 2 ? names[code] : words; /* another is just making it */
        snprintf(names[code], sizeof names[code], "%s: %s", name, words);
        ati_store_release(&made[code], 2);
    }
    return names[code];
}

/* ---- records */

static struct weft__detail *cause_of(const struct weft__detail *d)
{
    const weft_error *e = d->seen.cause;
    return e ? container_of((weft_error *)(uintptr_t)e, struct weft__detail, seen) : NULL;
}

void weft__detail_drop(struct weft__detail *d)
{
    while (d) {
        struct weft__detail *cause = cause_of(d);
        weft__mem_free(d);
        d = cause;
    }
}

struct weft__detail *weft__detail_new(int code, const char *text, weft_task task, const char *name, const void *spawned_at)
{
    struct weft__detail *d = weft__mem_alloc(sizeof *d);
    if (!d)
        return NULL;
    snprintf(d->text, sizeof d->text, "%s", text ? text : "");
    snprintf(d->name, sizeof d->name, "%s", name);
    d->seen = (weft_error){ .code = code, .task = task, .task_name = d->name, .spawned_at = spawned_at };
    d->seen.text = d->text[0] ? d->text : weft_strerror(code);
    return d;
}

void weft__detail_give(struct weft__frame *f, struct weft__detail *d)
{
    weft__detail_drop(f->detail);
    f->detail = d;
}

struct weft__detail *weft__detail_take(struct weft__frame *f, int code)
{
    struct weft__detail *d = f->detail;
    if (!d || d->seen.code != code)
        return NULL;
    f->detail = NULL;
    return d;
}

static struct weft__detail *of_frame(const struct weft__frame *f, int code, const char *text)
{
    bool thread = weft__is_thread(f);
    return weft__detail_new(code, text, thread ? 0 : f->id, weft__frame_name(f), thread ? NULL : f->site);
}

void weft__detail_set(struct weft__frame *f, int code, const char *text)
{
    weft__detail_give(f, of_frame(f, code, text));
}

/* d has `cause` for one, and the chain stays as short as it has to: the last but those that lead to the first go. */
static void set_cause(struct weft__detail *d, struct weft__detail *cause)
{
    int n = 1;
    for (struct weft__detail *c = cause; c; c = cause_of(c))
        n++;
    d->seen.cause = &cause->seen;
    if (n <= CAUSES)
        return;
    struct weft__detail *before = d, *out;
    for (int i = 0; i < CAUSES - 2; i++)
        before = cause_of(before);
    out = cause_of(before);
    before->seen.cause = out->seen.cause;
    weft__mem_free(out);
}

const char *weft__detail_text(struct weft__frame *f, int code)
{
    return f->detail && f->detail->seen.code == code && f->detail->text[0] ? f->detail->text : NULL;
}

/* ---- the calls */

int weft_fail_at(int rc, int cause, const char *file, int line, const char *format, ...)
{
    char text[sizeof ((struct weft__detail *)0)->text];
    struct weft__frame *f = weft__current();
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap); /* the record of the cause may be what it says */
    va_end(ap);
    if (!f)
        return rc;
    struct weft__detail *c = cause < 0 ? weft__detail_take(f, cause) : NULL;
    if (!c && cause < 0)
        c = of_frame(f, cause, NULL);
    weft__detail_set(f, rc, text);
    if (!f->detail) {
        weft__detail_drop(c);
        return rc;
    }
    f->detail->seen.file = file;
    f->detail->seen.line = file ? line : 0;
    if (c)
        set_cause(f->detail, c);
    return rc;
}

const weft_error *weft_last_error(int rc)
{
    struct weft__frame *f = weft__current();
    return f && f->detail && f->detail->seen.code == rc ? &f->detail->seen : NULL;
}

const char *weft_error_text(int rc)
{
    const weft_error *e = weft_last_error(rc);
    return e ? e->text : weft_strerror(rc);
}

/* ---- in one line */

struct line {
    char *out;
    size_t bytes, n; /* it is n long, and the first of them are there */
};

static void add(struct line *l, const char *format, ...) WEFT_PRINTF(2, 3);
static void add(struct line *l, const char *format, ...)
{
    va_list ap;
    size_t left = l->n < l->bytes ? l->bytes - l->n : 0;
    va_start(ap, format);
    int n = vsnprintf(left > 0 ? l->out + l->n : NULL, left, format, ap);
    va_end(ap);
    l->n += n > 0 ? (size_t)n : 0;
}

static void add_one(struct line *l, const weft_error *e)
{
    const char *name = e->code < 0 && e->code > -CODES ? strerrorname_np(-e->code) : NULL, *open = " (";
    if (e->text == weft_strerror(e->code))
        add(l, "%s", e->text);
    else if (name)
        add(l, "%s: %s", name, e->text);
    else
        add(l, "%d: %s", e->code, e->text);
    if (e->file) {
        add(l, "%s%s:%d", open, e->file, e->line);
        open = ", ";
    }
    if (e->task != 0) {
        add(l, e->task_name[0] ? "%stask %" PRIi64 " \"%s\"" : "%stask %" PRIi64, open, e->task, e->task_name);
        open = ", ";
    }
    if (!e->file && e->spawned_at) {
        char site[200];
        weft__code_text(site, sizeof site, e->spawned_at);
        add(l, "%sspawned at %s", open, site);
        open = ", ";
    }
    if (open[0] == ',')
        add(l, ")");
}

size_t weft_error_describe(int rc, char *out, size_t bytes)
{
    const weft_error *e = weft_last_error(rc);
    struct line l = { .out = out, .bytes = bytes };
    if (!e)
        add(&l, "%s", weft_strerror(rc));
    for (; e; e = e->cause) {
        add_one(&l, e);
        if (e->cause)
            add(&l, "; because ");
    }
    return l.n;
}
