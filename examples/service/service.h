/* service.h - what the parts of the service share.
 *
 * service.c starts and ends it, connection.c talks to one client, table.c holds the data, view.c
 * shows what is going on. load.c is the client, a program of its own without weft.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include "table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <weft.h>

/* What the load process has measured. Latency has to be measured where the user is: the time that a
 * request spends in queues, the kernel's or ours, is not seen by the task that serves it. */
struct client_report {
    int64_t at;             /* weft_now() when the newest report came; 0: none so far */
    int64_t p50_ns, p99_ns; /* of the last half second */
    uint64_t errors;        /* wrong answers and lost connections so far */

    bool ended; /* the rest is there: the figures of the whole run */
    uint64_t requests;
    int64_t all_p50_ns, all_p99_ns, all_p999_ns, all_most_ns;
    int64_t cpu_ns, ran_ns;
    uint64_t connections;
};

struct service {
    /* set before the start, then only read */
    struct table *table;
    int connection_limit;
    int64_t idle_limit; /* a connection that says nothing for so long is closed */

    /* written by connection tasks, read by the view */
    atomic_int connections; /* open now */
    atomic_ullong accepted;
    atomic_ullong refused;
    atomic_ullong mistakes; /* requests answered by ERR */

    pthread_mutex_t report_lock; /* never held across a suspension */
    struct client_report report;
};

/* What a connection task is given, by copy. It closes the descriptor. */
struct connection {
    struct service *service;
    int fd;
};
int connection_serve(void *connection);

#endif
