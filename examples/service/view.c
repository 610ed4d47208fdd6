/* view.c - how the service shows what it does.
 *
 * Owns      the screen, and the last samples of each figure.
 * Callers   the service's main task alone.
 * Holds     V1  a picture is made in memory and written by one call: it never shows half drawn.
 *           V2  no line is wider than the terminal: a wrapped line would count twice when the next
 *               picture goes back up to the first line.
 *           V3  figures are shown over the last second, so that they can be read; the little curve
 *               has every sample.
 * Tested    examples/test_examples.py, on a pseudo terminal and on a pipe */
#include "view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    CURVE = 60,      /* samples in the curve */
    SECOND_MOST = 4, /* samples in a second, on a screen; plain lines have one */
    BAR_CELLS = 24,  /* of the widest bar */
    NARROWEST = 72,  /* columns below which plain lines are all that fits */
    ROW_BYTES = 512, /* one line with its colours, in UTF-8 */
    PICTURE_BYTES = (VIEW_WORKERS_MAX + 12) * ROW_BYTES,
};

struct sample {
    int64_t at;
    uint64_t requests;
    weft_worker_stats workers[VIEW_WORKERS_MAX];
};

struct view {
    const char *address;
    int64_t start;
    int64_t length;
    bool screen; /* pictures, not lines */
    bool colour;
    bool blocks; /* the terminal has block characters */
    int up;      /* lines of the picture that is on the screen */
    int columns, rows;

    double curve[CURVE]; /* requests per second, a ring */
    size_t curve_used;
    size_t second;                       /* samples in a second */
    struct sample past[SECOND_MOST + 1]; /* a ring */
    size_t past_used;

    size_t used;
    char picture[PICTURE_BYTES];
};

/* --- text ------------------------------------------------------------------------------------- */

static void add(struct view *v, const char *format, ...) WEFT_PRINTF(2, 3);
static void add(struct view *v, const char *format, ...)
{
    size_t room = sizeof v->picture - v->used;
    va_list args;

    va_start(args, format);
    int n = vsnprintf(v->picture + v->used, room, format, args);
    va_end(args);
    if (n > 0)
        v->used += (size_t)n < room ? (size_t)n : room - 1;
}

static const char *colour(const struct view *v, const char *code)
{
    return v->colour ? code : "";
}
#define PLAIN(v) colour(v, "\033[0m")
#define BOLD(v) colour(v, "\033[1m")
#define DIM(v) colour(v, "\033[2m")
#define GREEN(v) colour(v, "\033[32m")
#define CYAN(v) colour(v, "\033[36m")
#define RED(v) colour(v, "\033[31m")

struct text {
    char s[32];
};

/* 1234567 as 1 234 567. */
static struct text count_text(uint64_t n)
{
    char digits[24];
    struct text t;
    size_t len = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, n), k = 0;

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            t.s[k++] = ' ';
        t.s[k++] = digits[i];
    }
    t.s[k] = '\0';
    return t;
}

/* Three digits and a unit. */
static struct text span_text(int64_t ns)
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    double x = (double)ns;
    size_t unit = 0;
    struct text t;

    while (x >= 999.5 && unit < 3) {
        x /= 1000;
        unit++;
    }
    int decimals = unit == 0 || x >= 99.95 ? 0 : 1;
    if (unit > 0 && x < 9.995)
        decimals = 2;
    snprintf(t.s, sizeof t.s, "%.*f %s", decimals, x, units[unit]);
    return t;
}

static double per_second(uint64_t now, uint64_t then, int64_t ns)
{
    return ns > 0 ? (double)(now - then) * 1e9 / (double)ns : 0;
}

/* A bar of `cells` columns, `share` of it filled, to an eighth of a column. */
static void add_bar(struct view *v, double share, int cells)
{
    static const char *const eighths[] = { " ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█" };
    int fill = (int)(share * 8 * cells + 0.5);

    for (int i = 0; i < cells; i++, fill -= 8) {
        int e = fill < 0 ? 0 : fill > 8 ? 8 : fill;
        add(v, "%s", v->blocks ? eighths[e] : e >= 4 ? "#" : " ");
    }
}

/* The curve reaches from zero to the highest sample in it. */
static void add_curve(struct view *v, int cells)
{
    static const char *const heights[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    static const char ascii[] = "_.-=+*%#";
    size_t n = v->curve_used < CURVE ? v->curve_used : CURVE;
    double top = 1;

    if (n > (size_t)cells)
        n = (size_t)cells;
    for (size_t i = v->curve_used - n; i < v->curve_used; i++)
        if (v->curve[i % CURVE] > top)
            top = v->curve[i % CURVE];
    for (size_t i = v->curve_used - n; i < v->curve_used; i++) {
        int h = (int)(v->curve[i % CURVE] / top * 7 + 0.5);
        if (v->blocks)
            add(v, "%s", heights[h]);
        else
            add(v, "%c", ascii[h]);
    }
}

/* --- samples ---------------------------------------------------------------------------------- */

static const struct sample *newest(const struct view *v)
{
    return &v->past[(v->past_used - 1) % (SECOND_MOST + 1)];
}

/* The sample that figures are compared with: one second old, or the oldest there is. */
static const struct sample *second_ago(const struct view *v)
{
    size_t back = v->past_used < v->second + 1 ? v->past_used : v->second + 1;
    return &v->past[(v->past_used - back) % (SECOND_MOST + 1)];
}

static void take_sample(struct view *v, const struct view_facts *now)
{
    struct sample *s = &v->past[v->past_used % (SECOND_MOST + 1)];

    if (v->past_used > 0) {
        const struct sample *last = newest(v);
        v->curve[v->curve_used++ % CURVE] =
                per_second(now->requests, last->requests, now->at - last->at);
    }
    v->past_used++;
    s->at = now->at;
    s->requests = now->requests;
    memcpy(s->workers, now->workers, sizeof s->workers);
}

static int shown_workers(const struct view_facts *now)
{
    return now->worker_count < VIEW_WORKERS_MAX ? now->worker_count : VIEW_WORKERS_MAX;
}

static double share_of(const struct sample *a, const struct sample *b, int worker, int workers)
{
    double all = 0;
    for (int i = 0; i < workers; i++)
        all += (double)(b->workers[i].ran - a->workers[i].ran);
    return all > 0 ? (double)(b->workers[worker].ran - a->workers[worker].ran) / all : 0;
}

/* --- the picture ------------------------------------------------------------------------------ */

static void end_line(struct view *v)
{
    add(v, "\033[K\n");
    v->up++;
}

static void add_heading(struct view *v, const struct view_facts *now)
{
    char right[48];
    double elapsed = (double)(now->at - v->start) / 1e9;

    if (v->length == WEFT_NEVER)
        snprintf(right, sizeof right, "%.0f s", elapsed);
    else
        snprintf(right, sizeof right, "%.0f of %.0f s", elapsed, (double)v->length / 1e9);
    int left = 2 + 24 + (int)strlen(v->address);
    int gap = v->columns - 2 - left - (int)strlen(right);
    add(v, "  %sweft%s key-value service, %s%*s%s%s%s", BOLD(v), PLAIN(v), v->address,
            gap > 1 ? gap : 1, "", DIM(v), right, PLAIN(v));
    end_line(v);
}

static void add_rate(struct view *v)
{
    const struct sample *a = second_ago(v), *b = newest(v);
    double rate = per_second(b->requests, a->requests, b->at - a->at);
    int cells = v->columns - 28;

    add(v, "  %s%9s%s requests/s  %s", BOLD(v), count_text((uint64_t)(rate + 0.5)).s, PLAIN(v),
            CYAN(v));
    add_curve(v, cells < CURVE ? cells : CURVE);
    add(v, "%s", PLAIN(v));
    end_line(v);
}

static void add_client(struct view *v, const struct view_facts *now)
{
    const struct client_report *c = &now->client;
    uint64_t bad = now->mistakes + c->errors;

    if (c->at == 0)
        add(v, "  %slatency: no client tells it yet%s", DIM(v), PLAIN(v));
    else
        add(v, "  latency p50 %s%s%s  p99 %s%s%s", BOLD(v), span_text(c->p50_ns).s, PLAIN(v),
                BOLD(v), span_text(c->p99_ns).s, PLAIN(v));
    add(v, "   %d connections   %s%" PRIu64 " errors%s", now->connections, bad > 0 ? RED(v) : "",
            bad, PLAIN(v));
    end_line(v);
}

static void add_worker(struct view *v, int i, int workers, int bar_cells)
{
    const struct sample *a = second_ago(v), *b = newest(v);
    const weft_worker_stats *x = &a->workers[i], *y = &b->workers[i];
    int64_t ns = b->at - a->at;
    double share = share_of(a, b, i, workers);

    add(v, "  %s%6d%s %10s %9s %9s %9s  ", DIM(v), i + 1, PLAIN(v),
            count_text((uint64_t)per_second(y->ran, x->ran, ns)).s,
            count_text((uint64_t)per_second(y->stolen, x->stolen, ns)).s,
            count_text((uint64_t)per_second(y->parked, x->parked, ns)).s,
            count_text((uint64_t)per_second(y->events, x->events, ns)).s);
    add(v, "%s", GREEN(v));
    add_bar(v, share, bar_cells);
    add(v, "%s %3.0f %%", PLAIN(v), share * 100);
    end_line(v);
}

static void make_picture(struct view *v, const struct view_facts *now)
{
    int workers = shown_workers(now);
    int room = v->rows - 8; /* the other lines, and the one the cursor waits in */
    int shown = workers <= room ? workers : room > 1 ? room - 1 : 1;
    int bar = v->columns - 58;

    v->used = 0;
    if (v->up > 0)
        add(v, "\r\033[%dA", v->up);
    else
        add(v, "\033[?25l"); /* no cursor */
    v->up = 0;
    end_line(v);
    add_heading(v, now);
    end_line(v);
    add_rate(v);
    add_client(v, now);
    end_line(v);
    add(v, "  %sworker %10s %9s %9s %9s  share of turns%s", DIM(v), "ran/s", "stole/s", "parked/s",
            "events/s", PLAIN(v));
    end_line(v);
    for (int i = 0; i < shown; i++)
        add_worker(v, i, workers, bar < BAR_CELLS ? bar : BAR_CELLS);
    if (shown < now->worker_count) {
        add(v, "  %sand %d more%s", DIM(v), now->worker_count - shown, PLAIN(v));
        end_line(v);
    }
    add(v, "\033[J"); /* what an earlier, longer picture left below */
}

static void make_line(struct view *v, const struct view_facts *now)
{
    const struct sample *a = second_ago(v), *b = newest(v);
    int64_t ns = b->at - a->at;
    int workers = shown_workers(now);

    v->used = 0;
    add(v, "%3.0f s  %.0f requests/s", (double)(now->at - v->start) / 1e9,
            per_second(b->requests, a->requests, ns));
    if (now->client.at != 0)
        add(v, "  p50 %s  p99 %s", span_text(now->client.p50_ns).s,
                span_text(now->client.p99_ns).s);
    add(v, "  %d connections  %" PRIu64 " errors  ran/stole/parked/events a second:",
            now->connections, now->mistakes + now->client.errors);
    for (int i = 0; i < workers; i++) {
        const weft_worker_stats *x = &a->workers[i], *y = &b->workers[i];
        add(v, " [%d] %.0f/%.0f/%.0f/%.0f", i + 1, per_second(y->ran, x->ran, ns),
                per_second(y->stolen, x->stolen, ns), per_second(y->parked, x->parked, ns),
                per_second(y->events, x->events, ns));
    }
    add(v, "\n");
}

/* --- the terminal ----------------------------------------------------------------------------- */

static void measure(struct view *v)
{
    struct winsize w = { 0 };

    v->columns = 80;
    v->rows = 24;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0) {
        v->columns = w.ws_col < 100 ? w.ws_col : 100;
        v->rows = w.ws_row;
    }
}

/* A terminal shows UTF-8 nowadays, also where nobody has set a locale; one that says otherwise is
 * believed. */
static bool has_blocks(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *dot, *value = getenv(names[i]);
        if (value == NULL || *value == '\0')
            continue;
        dot = strchr(value, '.');
        return dot == NULL || strcasecmp(dot, ".utf-8") == 0 || strcasecmp(dot, ".utf8") == 0;
    }
    return true;
}

int view_open(struct view **out, const char *address, int64_t length, bool plain)
{
    const char *term = getenv("TERM");
    const char *no_colour = getenv("NO_COLOR");
    struct view *v = calloc(1, sizeof *v);

    if (v == NULL)
        return -ENOMEM;
    v->address = address;
    v->length = length;
    v->start = weft_now();
    measure(v);
    v->screen = !plain && isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0 &&
                v->columns >= NARROWEST;
    v->second = v->screen ? SECOND_MOST : 1;
    v->colour = v->screen && (no_colour == NULL || *no_colour == '\0');
    v->blocks = v->screen && has_blocks();
    *out = v;
    return 0;
}

int64_t view_every(const struct view *v)
{
    return weft_sec(1) / (int64_t)v->second;
}

int view_draw(struct view *v, const struct view_facts *now)
{
    take_sample(v, now);
    if (v->screen) {
        measure(v);
        make_picture(v, now);
    } else {
        make_line(v, now);
    }
    return weft_write_all(STDOUT_FILENO, v->picture, v->used);
}

void view_close(struct view **view)
{
    struct view *v = *view;

    *view = NULL;
    if (v != NULL && v->up > 0) {
        fputs("\033[?25h", stdout);
        fflush(stdout);
    }
    free(v);
}

/* --- the summary -------------------------------------------------------------------------- */

static void summarise_client(const struct client_report *c)
{
    printf("latency   p50 %s, p99 %s, p99.9 %s, longest %s (%" PRIu64 " connections)\n",
            span_text(c->all_p50_ns).s, span_text(c->all_p99_ns).s, span_text(c->all_p999_ns).s,
            span_text(c->all_most_ns).s, c->connections);
}

static void summarise_worker(int i, const weft_worker_stats *a, const weft_worker_stats *b)
{
    printf("%6d %12s %9s %9s %9s %10s %11s %8s\n", i + 1, count_text(b->ran - a->ran).s,
            count_text(b->stolen - a->stolen).s, count_text(b->parked - a->parked).s,
            count_text(b->woke - a->woke).s, count_text(b->polls - a->polls).s,
            count_text(b->events - a->events).s, count_text(b->timers - a->timers).s);
}

void view_summary(const struct view_facts *first, const struct view_facts *last, int64_t cpu_ns)
{
    const struct client_report *c = &last->client;
    uint64_t requests = last->requests - first->requests;
    int64_t ns = c->ended ? c->ran_ns : last->at - first->at;
    int workers = shown_workers(last);

    printf("\n%s requests in %s: %s a second, %" PRIu64 " errors\n", count_text(requests).s,
            span_text(ns).s, count_text((uint64_t)per_second(requests, 0, ns)).s,
            last->mistakes + c->errors);
    if (c->ended)
        summarise_client(c);
    if (requests > 0) {
        printf("CPU       %s a request in the service", span_text(cpu_ns / (int64_t)requests).s);
        if (c->ended && c->requests > 0)
            printf(", %s in the client", span_text(c->cpu_ns / (int64_t)c->requests).s);
        putchar('\n');
    }
    printf("%6s %12s %9s %9s %9s %10s %11s %8s\n", "worker", "ran", "stole", "parked", "woke",
            "polled", "events", "timers");
    for (int i = 0; i < workers; i++)
        summarise_worker(i, &first->workers[i], &last->workers[i]);
    fflush(stdout);
}
