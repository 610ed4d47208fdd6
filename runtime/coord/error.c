/* coord/error.c - what a negative result means, in words.
 *
 * Owns      the detail of a frame, made on demand. Without memory for one, weft_error_text falls back to the name of
 *           the code. */
#include "coord/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <weft/error.h>

#include "base/mem.h"
#include "coord/await.h"

/* "EPIPE: Broken pipe", built once from what the C library knows; codes are below 134 on Linux. */
enum { CODES = 134 };

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

void weft__detail_set(struct weft__frame *f, int code, const char *text)
{
    if (!f->detail && !(f->detail = weft__mem_alloc(sizeof *f->detail)))
        return;
    f->detail->code = code;
    snprintf(f->detail->text, sizeof f->detail->text, "%s", text ? text : "");
}

const char *weft__detail_text(struct weft__frame *f, int code)
{
    return f->detail && f->detail->code == code ? f->detail->text : NULL;
}

void weft__detail_free(struct weft__frame *f)
{
    if (!f->detail) /* of nearly every task */
        return;
    weft__mem_free(f->detail);
    f->detail = NULL;
}

int weft_fail_text(int rc, const char *text)
{
    struct weft__frame *f = weft__current();
    if (f)
        weft__detail_set(f, rc, text);
    return rc;
}

int weft_fail(int rc, const char *format, ...)
{
    char text[sizeof ((struct weft__detail *)0)->text];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return weft_fail_text(rc, text);
}

const char *weft_error_text(int rc)
{
    struct weft__frame *f = weft__current();
    const char *text = f ? weft__detail_text(f, rc) : NULL;
    return text ? text : weft_strerror(rc);
}
