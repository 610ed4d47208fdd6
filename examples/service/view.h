/* view.h - the live view on a terminal, the plain lines elsewhere, and the summary at the end.
 *
 * One task opens, draws and closes it. Drawing writes by weft_write_all, so a terminal that has
 * stopped (Ctrl-S) or a slow pipe holds up the view and nothing else.
 */
#ifndef SERVICE_VIEW_H
#define SERVICE_VIEW_H

#include "service.h"

#include <stdint.h>
#include <weft.h>

enum { VIEW_WORKERS_MAX = 64 }; /* more are not shown one by one */

/* What is true at one moment. Counts are from the start of the service. */
struct view_facts {
    int64_t at;
    uint64_t requests;
    uint64_t mistakes;
    int connections;
    struct client_report client;
    weft_worker_stats workers[VIEW_WORKERS_MAX];
    int worker_count; /* may be more than VIEW_WORKERS_MAX */
};

struct view;

/* `plain` asks for lines even on a terminal. `address` is kept and has to live as long as the view;
 * `length` is how long the service is going to run, WEFT_NEVER if that is not known.
 *
 * returns    0; -ENOMEM */
int view_open(struct view **out, const char *address, int64_t length, bool plain);

/* How long to wait between two calls of view_draw. */
int64_t view_every(const struct view *v);

/* Takes a sample and shows it.
 *
 * returns    0; what weft_write_all returned
 * context    task: suspends, cancellation point */
int view_draw(struct view *v, const struct view_facts *now);

/* Gives the terminal back its cursor and frees the view. Sets *v to NULL. */
void view_close(struct view **v);

/* Prints what happened between two moments; `cpu_ns` is the service's. To stdout, by stdio. */
void view_summary(const struct view_facts *first, const struct view_facts *last, int64_t cpu_ns);

#endif
