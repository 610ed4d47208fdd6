/* os/address.c - addresses as text: "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", ":80", "unix:/path", "unix:@abstract".
 *
 * Pure functions of bytes, but for the names of interfaces.
 * Tested    tests/address_test.c, tests/fuzz/fuzz_address.c */
#include "os/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int parse_port(const char *text, in_port_t *out)
{
    unsigned long port = 0;
    if (*text == 0)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || (port = 10 * port + (unsigned long)(*text - '0')) > 65535)
            return -EINVAL;
    }
    *out = htons((in_port_t)port);
    return 0;
}

static int parse_unix(weft_addr *a, const char *path)
{
    struct sockaddr_un *u = (struct sockaddr_un *)(void *)&a->sa;
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof u->sun_path || strcmp(path, "@") == 0)
        return -EINVAL;
    u->sun_family = AF_UNIX;
    memcpy(u->sun_path, path, n + 1);
    if (path[0] == '@') {
        u->sun_path[0] = 0;
        a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    } else {
        a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    }
    return 0;
}

/* An interface by its name, else by its number, as weft_addr_text writes it; 0: it is neither. */
static uint32_t parse_zone(const char *zone)
{
    uint64_t n = if_nametoindex(zone);
    if (n > 0)
        return (uint32_t)n;
    for (; *zone; zone++) {
        if (*zone < '0' || *zone > '9' || (n = 10 * n + (uint64_t)(*zone - '0')) > UINT32_MAX)
            return 0;
    }
    return (uint32_t)n;
}

static int parse_v6(weft_addr *a, char *host, const char *port)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&a->sa;
    char *zone = strchr(host, '%');
    if (zone) {
        *zone++ = 0;
        v6->sin6_scope_id = parse_zone(zone);
        if (v6->sin6_scope_id == 0)
            return -EINVAL;
    }
    v6->sin6_family = AF_INET6;
    a->len = sizeof *v6;
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
        return -EINVAL;
    return parse_port(port, &v6->sin6_port);
}

static int parse_v4(weft_addr *a, const char *host, const char *port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a->sa;
    v4->sin_family = AF_INET;
    a->len = sizeof *v4;
    if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
        return -EINVAL;
    return parse_port(port, &v4->sin_port);
}

static int parse(weft_addr *a, const char *text)
{
    char host[128];
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(a, text + 5);
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (!colon || n >= sizeof host)
        return -EINVAL;
    if (n == 0)
        return parse_v6(a, strcpy(host, "::"), colon + 1); /* every address, IPv4 as well */
    if (text[0] == '[') {
        if (text[n - 1] != ']' || n < 3)
            return -EINVAL;
        memcpy(host, text + 1, n - 2);
        host[n - 2] = 0;
        return parse_v6(a, host, colon + 1);
    }
    memcpy(host, text, n);
    host[n] = 0;
    return parse_v4(a, host, colon + 1);
}

int weft_addr_parse(weft_addr *out, const char *numeric)
{
    weft_addr a;
    memset(&a, 0, sizeof a);
    if (!out || !numeric)
        return -EINVAL;
    int rc = parse(&a, numeric);
    if (rc == 0)
        *out = a;
    return rc;
}

void weft__address_any4(weft_addr *a)
{
    in_port_t port = ((const struct sockaddr_in6 *)(const void *)&a->sa)->sin6_port;
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a->sa;
    memset(a, 0, sizeof *a);
    v4->sin_family = AF_INET;
    v4->sin_port = port;
    a->len = sizeof *v4;
}

static int unix_text(const weft_addr *a, char *out, size_t bytes)
{
    const struct sockaddr_un *u = (const struct sockaddr_un *)(const void *)&a->sa;
    size_t head = offsetof(struct sockaddr_un, sun_path);
    int n = a->len > head ? (int)(a->len - head) : 0;
    if (n == 0)
        return snprintf(out, bytes, "unix:");
    if (u->sun_path[0] == 0)
        return snprintf(out, bytes, "unix:@%.*s", n - 1, u->sun_path + 1);
    return snprintf(out, bytes, "unix:%.*s", n, u->sun_path);
}

int weft_addr_text(const weft_addr *a, char *out, size_t bytes)
{
    char host[INET6_ADDRSTRLEN];
    int n;
    if (!a || !out || bytes == 0)
        return -EINVAL;
    out[0] = 0;
    if (bytes > INT_MAX) /* as much as snprintf(3) has to accept */
        bytes = INT_MAX;
    if (a->sa.ss_family == AF_UNIX) {
        n = unix_text(a, out, bytes);
    } else if (a->sa.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&a->sa;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        n = snprintf(out, bytes, "%s:%u", host, ntohs(v4->sin_port));
    } else if (a->sa.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&a->sa;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        if (v6->sin6_scope_id != 0)
            n = snprintf(out, bytes, "[%s%%%u]:%u", host, v6->sin6_scope_id, ntohs(v6->sin6_port));
        else
            n = snprintf(out, bytes, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        return -EINVAL;
    }
    return n >= 0 && (size_t)n < bytes ? n : -ENOSPC;
}
