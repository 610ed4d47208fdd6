/* work_proxy.c - proxy: passes each connection on to another port, both ways at once, by weft_copy_both.
 *
 * Serves 127.0.0.1:port until it is killed and prints nothing: the load (proxy_load.c) measures, and checks what arrives.
 *
 * What it does not measure: many short connections. */
#include "peer.h"

#include <errno.h>
#include <stdio.h>

struct connection {
    int client;
    const char *target;
};

/* One that breaks is the affair of its two ends: as a failure it would cancel its siblings. */
static int pass_on(void *arg)
{
    const struct connection *c = arg;
    int client WEFT_AUTO(weft_close_auto) = c->client;
    int server WEFT_AUTO(weft_close_auto) = weft_connect(c->target, NULL);
    int rc = server < 0 ? server : weft_copy_both(client, server, NULL, NULL);
    return rc == -ECANCELED ? rc : 0;
}

int work_proxy(void *arg)
{
    struct job *j = arg;
    char where[32], target[32];
    snprintf(where, sizeof where, "127.0.0.1:%ld", job_arg(j, "port"));
    snprintf(target, sizeof target, "127.0.0.1:%ld", job_arg(j, "to"));
    int listener WEFT_AUTO(weft_close_auto) = weft_listen(where, NULL);
    if (listener < 0)
        return listener;
    weft_scope all;
    weft_scope_begin(&all, WEFT_NEVER);
    struct connection c = { .target = target };
    while ((c.client = weft_accept(listener)) >= 0)
        if (weft_spawn_copy(&all, pass_on, &c, sizeof c) < 0)
            weft_close(c.client); /* nobody else will; the scope's end says why */
    return weft_scope_end(&all, c.client);
}
