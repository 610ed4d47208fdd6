/* os/dns.c - names of hosts.
 *
 * Owns      the table of look-ups, those under way and those whose answers still serve; one for the process.
 * Callers   any thread. look_up and give_up are called on a thread of the names lane.
 * Holds     N1  a look-up in the table has a reference of the table's; each caller, and the copy that the lane has, one more.
 *           N2  `state` leaves UNDER_WAY once, under the lock, and what was found is written before. The event is set after.
 *           N3  a cancelled call lets go of its own reference only: those who share the look-up get its answer, whoever began
 *               it. If it had not begun it is GIVEN_UP, and one of them begins anew.
 * Tested    tests/dns_test.c; names apart: tests/fuzz/fuzz_address.c */
#include <ctype.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <weft/dns.h>
#include <weft/error.h>
#include <weft/sync.h>
#include <weft/time.h>

#include "base/clock.h"
#include "base/errno.h"
#include "base/futex.h"
#include "base/mem.h"
#include "coord/await.h"
#include "os/lane.h"

/* Four of a set: the table is bounded, and to look something up is a handful of compares. */
enum { SETS = 32, WAYS = 4, MOST_ADDRESSES = 16, MOST_NAME = 253 };
#define SERVES INT64_C(5000000000) /* ns */

enum state { UNDER_WAY, FOUND, FAILED, GIVEN_UP };

struct lookup {
    at_int refs;
    enum state state; /* under the lock */
    int64_t until;    /* serves, if FOUND */
    weft_event over;
    int rc; /* how many, or the error */
    const char *words;
    struct sockaddr_in6 found[MOST_ADDRESSES]; /* or a sockaddr_in at its place; without ports */
    char name[MOST_NAME + 1];
};

static struct weft__lock lock;
static struct lookup *table[SETS][WAYS];

static void let_go(struct lookup *l)
{
    if (l && ati_add(&l->refs, (uint32_t)-1) == 1)
        weft__mem_free(l);
}

/* ---- on the lane */

static int code_of(int eai)
{
    switch (eai) {
    case EAI_NONAME:
    case EAI_NODATA:
        return -ENOENT;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_FAMILY:
    case EAI_ADDRFAMILY:
        return -EAFNOSUPPORT;
    case EAI_OVERFLOW:
        return -ENOSPC;
    case EAI_FAIL:
        return -EREMOTEIO;
    default:
        return -EINVAL;
    }
}

static int failed(int eai, const char **words)
{
    int rc = eai == EAI_SYSTEM ? -weft__errno() : code_of(eai);
    *words = eai == EAI_SYSTEM ? weft_strerror(rc) : gai_strerror(eai); /* constants both */
    return rc < 0 ? rc : -EREMOTEIO;
}

static int copy_found(struct lookup *l, const struct addrinfo *a)
{
    int n = 0;
    for (; a && n < MOST_ADDRESSES; a = a->ai_next) {
        if ((a->ai_family == AF_INET || a->ai_family == AF_INET6) && a->ai_addrlen <= sizeof l->found[n])
            memcpy(&l->found[n++], a->ai_addr, a->ai_addrlen);
    }
    return n;
}

/* N2. False: it was over before. */
static bool finish(struct lookup *l, enum state state)
{
    weft__lock(&lock);
    bool first = l->state == UNDER_WAY;
    if (first) {
        l->state = state;
        l->until = weft__now() + SERVES;
    }
    weft__unlock(&lock);
    if (first)
        weft_event_set(&l->over);
    return first;
}

static int look_up(void *arg)
{
    struct lookup *l = *(struct lookup **)arg;
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    struct addrinfo *all = NULL;
    int eai = getaddrinfo(l->name, NULL, &hints, &all);
    if (eai != 0) {
        l->rc = failed(eai, &l->words);
    } else {
        l->rc = copy_found(l, all);
        freeaddrinfo(all);
        if (l->rc == 0) {
            l->rc = -ENOENT;
            l->words = gai_strerror(EAI_NODATA);
        }
    }
    finish(l, l->rc > 0 ? FOUND : FAILED);
    return 0;
}

static void give_up(void *arg)
{
    struct lookup *l = *(struct lookup **)arg;
    finish(l, GIVEN_UP); /* nothing, if it has an answer */
    let_go(l);
}

/* ---- the table */

static unsigned set_of(const char *name)
{
    unsigned h = 2166136261u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return (h ^ h >> 16) % SETS;
}

/* Under the lock. */
static bool serves(const struct lookup *l, int64_t now)
{
    return l->state == UNDER_WAY || (l->state == FOUND && now < l->until);
}

/* Under the lock: a place for a new one, NULL if all look-ups of the set are under way: then it is not shared. */
static struct lookup **place_in(struct lookup **set, int64_t now)
{
    struct lookup **best = NULL;
    for (int i = 0; i < WAYS; i++) {
        if (!set[i] || !serves(set[i], now))
            return &set[i];
        if (set[i]->state == FOUND && (!best || set[i]->until < (*best)->until))
            best = &set[i];
    }
    return best;
}

/* The look-up of a name, with a reference for the caller; `fresh` is taken if there is none that serves, and then has one
 * for the lane, too. */
static struct lookup *join(struct lookup *fresh)
{
    struct lookup **set = table[set_of(fresh->name)], *out = NULL, *old = NULL;
    int64_t now = weft__now();
    weft__lock(&lock);
    for (int i = 0; i < WAYS && !out; i++)
        if (set[i] && serves(set[i], now) && strcmp(set[i]->name, fresh->name) == 0)
            out = set[i];
    if (!out) {
        struct lookup **place = place_in(set, now);
        out = fresh;
        ati_add(&fresh->refs, place ? 2 : 1); /* N1 */
        if (place) {
            old = *place;
            *place = fresh;
        }
    } else {
        ati_add(&out->refs, 1);
    }
    weft__unlock(&lock);
    let_go(old);
    return out;
}

static enum state state_of(struct lookup *l)
{
    weft__lock(&lock); /* what was found before is seen */
    enum state s = l->state;
    weft__unlock(&lock);
    return s;
}

/* ---- asking */

static int begin(struct lookup *l)
{
    int rc = weft__lane_call_copy(WEFT__LANE_NAMES, look_up, &l, sizeof l, give_up);
    if (rc == -ECANCELED)
        return rc; /* the lane's reference went with give_up */
    if (rc < 0)
        finish(l, GIVEN_UP);
    let_go(l);
    return rc;
}

/* Waits for what another has begun, perhaps a plain thread: the resolver is outside of the runtime's world. */
static int follow(struct weft__frame *f, struct lookup *l)
{
    struct weft__clock *c = weft__is_thread(f) ? NULL : &f->group->clock;
    if (c)
        at_add(&c->outside, 1); /* H1 (engine/rest.c) */
    int rc = weft_event_wait(&l->over);
    if (c)
        at_add(&c->outside, (uint64_t)-1);
    return rc;
}

static int answer(const struct lookup *l, in_port_t port, weft_addr *out, size_t n)
{
    if (l->rc < 0)
        return weft_fail(l->rc, "%s: %s", l->name, l->words);
    size_t i = 0;
    for (; i < n && i < (size_t)l->rc; i++) {
        weft_addr a;
        memset(&a, 0, sizeof a);
        memcpy(&a.sa, &l->found[i], sizeof l->found[i]);
        a.len = a.sa.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        ((struct sockaddr_in *)(void *)&a.sa)->sin_port = port; /* at the same place in both */
        out[i] = a;
    }
    return (int)i;
}

/* One attempt: 1 done, *rc is the result; 0 it was given up by who began it. */
static int attempt(struct weft__frame *f, const char *name, in_port_t port, weft_addr *out, size_t n, int *rc)
{
    struct lookup *fresh = weft__mem_zeroed(sizeof *fresh);
    if (!fresh) {
        *rc = -ENOMEM;
        return 1;
    }
    ati_store(&fresh->refs, 1);
    strcpy(fresh->name, name);
    struct lookup *l = join(fresh);
    bool mine = l == fresh;
    if (!mine)
        let_go(fresh);
    *rc = mine ? begin(l) : state_of(l) == UNDER_WAY ? follow(f, l) : 0;
    enum state s = state_of(l);
    if (*rc >= 0 && s != GIVEN_UP)
        *rc = answer(l, port, out, n);
    let_go(l);
    return *rc != 0 || mine;
}

/* What a resolver takes for the last part of an address, "1" or "0x1": then "127.1" and "0x7f000001" are no names to it. No
 * name ends so. */
static bool is_number(const char *label)
{
    bool hexadecimal = strncmp(label, "0x", 2) == 0;
    label += hexadecimal ? 2 : 0;
    return label[0] && label[strspn(label, hexadecimal ? "0123456789abcdef" : "0123456789")] == 0;
}

/* "host:port" apart; the name in small letters. */
static int split(const char *where, char name[MOST_NAME + 1], in_port_t *port)
{
    const char *colon = strrchr(where, ':');
    size_t n = colon ? (size_t)(colon - where) : 0;
    unsigned p = 0;
    if (n == 0 || n > MOST_NAME || colon[1] == 0)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)where[i];
        if (c <= ' ' || c == 127 || strchr(":[]/@%", c))
            return -EINVAL;
        name[i] = (char)tolower(c);
    }
    name[n] = 0;
    const char *last = strrchr(name, '.');
    if (is_number(last ? last + 1 : name))
        return -EINVAL;
    for (const char *c = colon + 1; *c; c++)
        if (*c < '0' || *c > '9' || (p = 10 * p + (unsigned)(*c - '0')) > 65535)
            return -EINVAL;
    *port = htons((in_port_t)p);
    return 0;
}

int weft_resolve(const char *where, weft_addr *out, size_t n)
{
    struct weft__frame *f;
    char name[MOST_NAME + 1];
    in_port_t port;
    int rc;
    if (!where || !out || n == 0)
        return -EINVAL;
    if (weft_addr_parse(out, where) == 0)
        return 1;
    if (strncmp(where, "unix:", 5) == 0 || (rc = split(where, name, &port)) < 0)
        return -EINVAL;
    if (!(f = weft__current()))
        return weft__no_frame();
    do {
        if ((rc = weft__enter_call(f)) < 0)
            return rc;
    } while (!attempt(f, name, port, out, n, &rc));
    return rc;
}

/* ---- the other way */

struct reverse {
    weft_addr a;
    int rc;
    const char *words;
    char host[NI_MAXHOST];
};

static int look_back(void *arg)
{
    struct reverse *r = arg;
    int eai = getnameinfo((const struct sockaddr *)(const void *)&r->a.sa, r->a.len, r->host, sizeof r->host, NULL, 0,
            NI_NAMEREQD);
    r->rc = eai == 0 ? (int)strlen(r->host) : failed(eai, &r->words);
    return 0;
}

int weft_resolve_name(const weft_addr *a, char *host, size_t bytes)
{
    struct reverse r;
    if (!a || !host || bytes == 0 || (a->sa.ss_family != AF_INET && a->sa.ss_family != AF_INET6) || a->len > sizeof a->sa)
        return -EINVAL;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    memset(&r, 0, sizeof r);
    r.a = *a;
    int rc = weft__enter_call(f);
    if (rc < 0 || (rc = weft__lane_call_copy(WEFT__LANE_NAMES, look_back, &r, sizeof r, NULL)) < 0)
        return rc;
    if (r.rc < 0)
        return weft_fail(r.rc, "%s", r.words);
    if ((size_t)r.rc >= bytes)
        return -ENOSPC;
    memcpy(host, r.host, (size_t)r.rc + 1);
    return r.rc;
}
