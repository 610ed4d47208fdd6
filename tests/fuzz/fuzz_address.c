/* tests/fuzz/fuzz_address.c - addresses and names of hosts as text: os/address.c, and split() of os/dns.c.
 *
 *     TEXT             for weft_addr_parse and split()
 *     ROOM ADDRESS     a byte each for the room of a text and for the family; the others are an address as a kernel has it
 *
 * Holds     text is taken as a second reader takes it; what was read is written so that it is read as the same; a text
 *           that is cut has its beginning, and an end; what is taken for a host's name is no number to the resolver.
 *
 * Both are compiled into this program, where interfaces have the names that it gives them. */
#include <arpa/inet.h>
#include <ctype.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/un.h>

#include "fuzz.h"

static unsigned index_of(const char *name)
{
    return strcmp(name, "lo") == 0 ? 1 : strcmp(name, "eth0") == 0 ? 2 : strcmp(name, "7") == 0 ? 70 : 0;
}

#define if_nametoindex index_of
#include "os/address.c"
#include "os/dns.c"

static const struct sockaddr_in *v4_of(const weft_addr *a)
{
    return (const struct sockaddr_in *)(const void *)&a->sa;
}

static const struct sockaddr_in6 *v6_of(const weft_addr *a)
{
    return (const struct sockaddr_in6 *)(const void *)&a->sa;
}

static const struct sockaddr_un *un_of(const weft_addr *a)
{
    return (const struct sockaddr_un *)(const void *)&a->sa;
}

/* ---- the second reader: from the end to the beginning */

/* Digits alone; no more than `most`, or -1. */
static long long plain_number(const char *text, long long most)
{
    long long n = text[0] ? 0 : -1;
    for (; n >= 0 && *text; text++)
        n = isdigit((unsigned char)*text) && 10 * n + (*text - '0') <= most ? 10 * n + (*text - '0') : -1;
    return n;
}

static long zone_of(const char *name)
{
    long long n = index_of(name);
    return n > 0 ? (long)n : plain_number(name, UINT32_MAX) > 0 ? (long)plain_number(name, UINT32_MAX) : -1;
}

static bool right_v6(const weft_addr *a, char *host, int port, bool read)
{
    unsigned char bytes[16];
    long zone = 0;
    for (size_t i = strlen(host); i-- > 0;)
        if (host[i] == '%' && !memchr(host, '%', i)) {
            zone = zone_of(host + i + 1);
            host[i] = 0;
        }
    bool good = zone >= 0 && inet_pton(AF_INET6, host, bytes) == 1;
    if (!good || !read)
        return good == read;
    return a->sa.ss_family == AF_INET6 && a->len == sizeof(struct sockaddr_in6) &&
            memcmp(&v6_of(a)->sin6_addr, bytes, sizeof bytes) == 0 && ntohs(v6_of(a)->sin6_port) == port &&
            v6_of(a)->sin6_scope_id == (unsigned long)zone;
}

static bool right_v4(const weft_addr *a, const char *host, int port, bool read)
{
    unsigned char bytes[4];
    bool good = inet_pton(AF_INET, host, bytes) == 1;
    if (!good || !read)
        return good == read;
    return a->sa.ss_family == AF_INET && a->len == sizeof(struct sockaddr_in) &&
            memcmp(&v4_of(a)->sin_addr, bytes, sizeof bytes) == 0 && ntohs(v4_of(a)->sin_port) == port;
}

static bool right_unix(const weft_addr *a, const char *path, bool read)
{
    size_t n = strlen(path), head = offsetof(struct sockaddr_un, sun_path);
    bool abstract = path[0] == '@', good = n > (size_t)abstract && n < sizeof un_of(a)->sun_path;
    if (!good || !read)
        return good == read;
    return a->sa.ss_family == AF_UNIX && a->len == head + n + !abstract &&
            un_of(a)->sun_path[0] == (abstract ? 0 : path[0]) &&
            memcmp(un_of(a)->sun_path + 1, path + 1, n - 1 + !abstract) == 0;
}

/* Whether it was right to read, or not to read, this address of the text. */
static bool is_right(const weft_addr *a, const char *text, bool read)
{
    size_t n = strlen(text), at = n;
    if (n >= 5 && memcmp(text, "unix:", 5) == 0)
        return right_unix(a, text + 5, read);
    while (at > 0 && text[at - 1] != ':')
        at--;
    long long port = at > 0 ? plain_number(text + at, 65535) : -1;
    if (port < 0)
        return !read;
    char *host = text_of((struct input){ (const unsigned char *)text, at - 1 });
    size_t m = strlen(host);
    bool right;
    if (m >= 128) {
        right = !read; /* longer than any */
    } else if (m == 0) {
        free(host);
        host = strdup("::");
        right = right_v6(a, host, (int)port, read);
    } else if (host[0] == '[') {
        bool closed = m >= 3 && host[m - 1] == ']';
        host[m - 1] = 0;
        right = closed ? right_v6(a, host + 1, (int)port, read) : !read;
    } else {
        right = right_v4(a, host, (int)port, read);
    }
    free(host);
    return right;
}

/* ---- what holds */

static bool same(const weft_addr *a, const weft_addr *b)
{
    return a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

static void check_text(const char *text)
{
    weft_addr a, b;
    char out[256];
    memset(&a, 0x5a, sizeof a);
    b = a;
    int rc = weft_addr_parse(&a, text);
    HOLDS(rc == 0 || rc == -EINVAL);
    HOLDS(is_right(&a, text, rc == 0));
    HOLDS(rc == 0 || memcmp(&a, &b, sizeof a) == 0);
    if (rc < 0)
        return;
    int n = weft_addr_text(&a, out, sizeof out);
    HOLDS(n > 0 && (size_t)n == strlen(out));
    /* But an interface that is named by a number is another's. */
    if (!strstr(out, "%7]")) {
        HOLDS(weft_addr_parse(&b, out) == 0);
        HOLDS(same(&a, &b));
    }
}

/* Whether text can say it: no zeros but an abstract name's first, and no beginning that means one. */
static bool can_be_said(const weft_addr *a)
{
    size_t head = offsetof(struct sockaddr_un, sun_path), n = a->len > head ? a->len - head : 0;
    const char *path = un_of(a)->sun_path;
    if (a->sa.ss_family != AF_UNIX)
        return a->len == (a->sa.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    if (n < 2 || path[0] == '@')
        return false;
    if (path[0] == 0)
        return n < sizeof un_of(a)->sun_path && !memchr(path + 1, 0, n - 1);
    return n <= sizeof un_of(a)->sun_path && memchr(path, 0, n) == path + n - 1;
}

static void check_address(struct input in)
{
    static const sa_family_t families[] = { AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC };
    size_t room = 1 + next_size(&in);
    int kind = next_byte(&in);
    weft_addr a, b;
    char whole[256], *cut = malloc(room);
    memset(&a, 0, sizeof a);
    a.sa.ss_family = kind < 0 ? AF_UNIX : families[(size_t)kind % COUNT(families)];
    size_t head = offsetof(struct sockaddr_un, sun_path), most = sizeof(struct sockaddr_un) + 1 - head;
    size_t n = in.left < most ? in.left : most;
    if (n > 0)
        memcpy((char *)&a.sa + head, in.at, n);
    a.len = (socklen_t)(head + n);
    if (a.sa.ss_family == AF_INET)
        a.len = sizeof(struct sockaddr_in);
    if (a.sa.ss_family == AF_INET6)
        a.len = sizeof(struct sockaddr_in6);
    if (a.sa.ss_family == AF_INET) /* the kernel's are zero behind the address; of IPv6 flow labels are not said */
        memset((char *)&a.sa + 8, 0, 8);
    if (a.sa.ss_family == AF_INET6)
        memset((char *)&a.sa + 4, 0, 4);
    if (a.sa.ss_family == AF_UNIX) /* what was there before */
        memset((char *)&a.sa + a.len, 'Z', sizeof a.sa - a.len);
    int rc = weft_addr_text(&a, whole, sizeof whole), part = weft_addr_text(&a, cut, room);
    HOLDS((rc < 0) == (a.sa.ss_family == AF_UNSPEC));
    if (rc >= 0) {
        HOLDS((size_t)rc == strlen(whole));
        HOLDS(part == ((size_t)rc < room ? rc : -ENOSPC));
        HOLDS(strlen(cut) == ((size_t)rc < room ? (size_t)rc : room - 1));
        HOLDS(memcmp(cut, whole, strlen(cut)) == 0);
    }
    if (rc >= 0 && can_be_said(&a) && !strstr(whole, "%7]")) {
        HOLDS(weft_addr_parse(&b, whole) == 0);
        HOLDS(same(&a, &b));
    }
    free(cut);
}

static void check_name(const char *text)
{
    static const char no[] = ":[]/@%";
    char name[MOST_NAME + 1];
    in_port_t port = 7;
    struct in_addr number;
    const char *colon = text;
    for (const char *c = text; *c; c++)
        colon = *c == ':' ? c : colon;
    size_t n = (size_t)(colon - text);
    bool good = *colon == ':' && plain_number(colon + 1, 65535) >= 0 && n > 0 && n <= 253;
    for (size_t i = 0; i < n; i++)
        good = good && (unsigned char)text[i] > ' ' && text[i] != 127 && !memchr(no, text[i], sizeof no - 1);
    int rc = split(text, name, &port);
    HOLDS(rc == 0 || rc == -EINVAL);
    HOLDS(good || rc < 0);
    if (rc < 0) {
        bool digit = false;
        for (size_t i = n; good && i-- > 0 && text[i] != '.';)
            digit = digit || isdigit((unsigned char)text[i]);
        HOLDS(!good || digit);
        return;
    }
    HOLDS(inet_aton(name, &number) == 0);
    HOLDS(strlen(name) == n && strncasecmp(name, text, n) == 0);
    HOLDS(ntohs(port) == plain_number(colon + 1, 65535));
    for (size_t i = 0; i < n; i++)
        HOLDS(!isupper((unsigned char)name[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes };
    char *text = text_of(next_line(&in));
    check_text(text);
    check_name(text);
    free(text);
    check_address(in);
    return 0;
}
