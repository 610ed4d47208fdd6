/* weft/dns.h - names of hosts.
 *
 * Asked of the system's resolver (getaddrinfo, getnameinfo; so nsswitch.conf, /etc/hosts and resolv.conf hold), on threads
 * for that alone. Those who ask for the same name at the same time share one look-up, and an answer serves for five
 * seconds; that a name is unknown is not remembered. The resolver does not tell how long an answer holds; caches that
 * know it lie behind it.
 *
 * A look-up that has begun cannot be stopped. Whoever asked may leave at once; but it keeps one of 16 threads until the
 * resolver gives up (by default 10 s for each server that is dead and each name that it tries, resolv.conf(5)), and the
 * end of the runtime that began it, so weft_run and weft_runtime_destroy, waits for that, too.
 */
#ifndef WEFT_DNS_H
#define WEFT_DNS_H

#include <weft/net.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The addresses of "host:port", at most n and at most 16, in the resolver's order, most wanted first. The forms of net.h
 * are read, too, without a look-up. weft_error_text has the resolver's words.
 *
 * returns    how many were written, at least 1; -ECANCELED; -EINVAL; -ENOENT no such name, or it has no address;
 *            -EAGAIN no server answered, no thread could be started, or the queue is full; -EREMOTEIO the server failed;
 *            -ENOMEM, ...
 * on error   *out is untouched
 * context    task: suspends, cancellation point (returns at once; the look-up ends by itself, for those who share it);
 *            plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_resolve(const char *where, weft_addr *out, size_t n);

/* The name of an IP address, without its port.
 *
 * returns    the length; -ECANCELED; -EINVAL; -ENOENT it has none; -ENOSPC it is longer than that; as weft_resolve
 * on error   *host is untouched
 * context    task: suspends, cancellation point (returns at once); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_resolve_name(const weft_addr *a, char *host, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
