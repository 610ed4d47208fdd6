/* base/topology.c - which processors are near each other.
 *
 * Reads     below /sys/devices/system: cpu/online; of a processor cpu/cpuN/cache/index0 to index7, each with level and type,
 *           and of the last the shared_cpu_list; node/online, and node/nodeM/cpulist. The last-level cache is the one of the highest level that
 *           is not for instructions alone.
 * Callers   engine/runtime.c, on a plain thread, if a runtime has three workers or more.
 * Holds     G1  each processor has one cache and one node, whatever the files say: of lists that contradict each other
 *               the first counts.
 *           G2  a cache that one processor has for itself separates nobody. Virtual machines are often told that each of
 *               theirs has its own, and on machines whose shared cache is not listed the last that is listed is private.
 *           G3  a processor whose last-level cache is not known has its node in its place; one whose node is not known,
 *               either, shares both with all others like it.
 *           G4  one file that makes no sense makes nothing of its processor's caches known: to take the next lower level
 *               for the last would tear neighbours apart. It may still be in another one's list.
 * Costs     one processor of each cache is asked, and each that shares none: 17 files at most, and one for each node. 0.1 ms
 *           on a machine with one cache.
 * Later     what comes on line after the reading has no cache and no node.
 * Not told apart  clusters of cores that share a cache below the last: on their way to each other no memory is involved.
 * Tested    tests/topology_test.c; tests/fuzz/fuzz_topology.c */
#include "base/topology.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { INDEXES = 8, PATH_ROOM = 512, WORD_ROOM = 32 };

/* ---- files */

__attribute__((format(printf, 2, 0))) static FILE *open_below(const char *root, const char *format, va_list args)
{
    char path[PATH_ROOM];
    int n = snprintf(path, sizeof path, "%s/sys/devices/system/", root);
    if (n < 0 || n >= PATH_ROOM)
        return NULL;
    int m = vsnprintf(path + n, sizeof path - (size_t)n, format, args);
    return m > 0 && m < PATH_ROOM - n ? fopen(path, "re") : NULL;
}

/* The first line. False: there is no such file. */
__attribute__((format(printf, 3, 4))) static bool read_word(char word[WORD_ROOM], const char *root, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    FILE *f = open_below(root, format, args);
    va_end(args);
    word[0] = 0;
    if (!f)
        return false;
    if (!fgets(word, WORD_ROOM, f))
        word[0] = 0;
    fclose(f);
    word[strcspn(word, "\n")] = 0;
    return true;
}

/* Digits, of which *c is the first; then it is what follows them. What is too large for us is WEFT__PROCESSORS_MOST. */
static bool scan_number(FILE *f, int *c, unsigned *out)
{
    if (*c < '0' || *c > '9')
        return false;
    for (*out = 0; *c >= '0' && *c <= '9'; *c = getc(f)) {
        *out = 10 * *out + (unsigned)(*c - '0');
        if (*out > WEFT__PROCESSORS_MOST)
            *out = WEFT__PROCESSORS_MOST;
    }
    return true;
}

/* "0-3,8,10-11"; and nothing at all is a list, too: of a node that is only memory. It may be longer than a page. */
static bool parse_list(FILE *f, struct weft__processors *out)
{
    int c = getc(f);
    bool empty = c == '\n' || c == EOF;
    while (!empty) {
        unsigned from, to;
        if (!scan_number(f, &c, &from))
            return false;
        to = from;
        if (c == '-' && (c = getc(f), !scan_number(f, &c, &to) || to < from))
            return false;
        for (; from <= to && from < WEFT__PROCESSORS_MOST; from++)
            weft__processors_add(out, from);
        if (c != ',')
            break;
        c = getc(f);
    }
    return c == EOF || (c == '\n' && getc(f) == EOF);
}

/* False: it is not there, or not understood. */
__attribute__((format(printf, 3, 4))) static bool read_list(struct weft__processors *out, const char *root,
        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    FILE *f = open_below(root, format, args);
    va_end(args);
    memset(out, 0, sizeof *out);
    if (!f)
        return false;
    bool understood = parse_list(f, out);
    fclose(f);
    return understood;
}

/* ---- caches */

/* The index of a processor's last-level cache; negative: it is not known (G4). */
static int last_level(const char *root, unsigned processor)
{
    char level[WORD_ROOM], type[WORD_ROOM];
    int last = -1;
    for (int i = 0, highest = 0; i < INDEXES; i++) {
        if (!read_word(level, root, "cpu/cpu%u/cache/index%d/level", processor, i))
            continue;
        if (level[0] < '1' || level[0] > '9' || level[1] != 0)
            return -1;
        read_word(type, root, "cpu/cpu%u/cache/index%d/type", processor, i);
        bool instructions = strcmp(type, "Instruction") == 0;
        if (!instructions && strcmp(type, "Data") != 0 && strcmp(type, "Unified") != 0)
            return -1;
        if (instructions || level[0] - '0' < highest)
            continue;
        highest = level[0] - '0';
        last = i;
    }
    return last;
}

/* Those that have a processor's last-level cache. False: it alone (G2), or that is not known. */
static bool shares(struct weft__processors *with, const char *root, unsigned processor)
{
    int count = 0, i = last_level(root, processor);
    if (i < 0 || !read_list(with, root, "cpu/cpu%u/cache/index%d/shared_cpu_list", processor, i))
        return false;
    for (unsigned p = 0; p < WEFT__PROCESSORS_MOST; p++)
        count += weft__processors_has(with, p);
    return count > 1 && weft__processors_has(with, processor);
}

/* To those that have no number yet (G1). */
static void give(uint16_t *numbers, const struct weft__processors *to, uint16_t number)
{
    for (unsigned p = 0; p < WEFT__PROCESSORS_MOST; p++)
        if (weft__processors_has(to, p) && numbers[p] == 0)
            numbers[p] = number;
}

static uint16_t read_caches(struct weft__topology *t, const char *root)
{
    struct weft__processors online, with;
    uint16_t n = 0;
    if (!read_list(&online, root, "cpu/online"))
        return 0;
    for (unsigned p = 0; p < WEFT__PROCESSORS_MOST; p++)
        if (weft__processors_has(&online, p) && t->cache[p] == 0 && shares(&with, root, p))
            give(t->cache, &with, ++n);
    return n;
}

/* ---- nodes */

static void read_nodes(struct weft__topology *t, const char *root)
{
    struct weft__processors online, of; /* nodes come in lists like processors */
    if (!read_list(&online, root, "node/online"))
        return;
    for (unsigned m = 0; m < WEFT__PROCESSORS_MOST; m++)
        if (weft__processors_has(&online, m) && read_list(&of, root, "node/node%u/cpulist", m))
            give(t->node, &of, (uint16_t)(m + 1));
}

/* ---- all of it */

void weft__topology_read(struct weft__topology *t, const char *root)
{
    memset(t, 0, sizeof *t);
    uint16_t caches = read_caches(t, root);
    read_nodes(t, root);
    for (unsigned p = 0; p < WEFT__PROCESSORS_MOST; p++)
        if (t->cache[p] == 0)
            t->cache[p] = (uint16_t)(caches + 1 + t->node[p]); /* G3 */
}

bool weft__topology_apart(const struct weft__topology *t, const struct weft__processors *mine)
{
    uint32_t first = 0;
    for (unsigned p = 0; p < WEFT__PROCESSORS_MOST; p++) {
        if (!weft__processors_has(mine, p))
            continue;
        uint32_t place = weft__topology_place(t, p);
        if (first != 0 && place != first)
            return true;
        first = place;
    }
    return false;
}

const char *weft__topology_root = "";
static struct weft__topology here;

static void read_here(void)
{
    weft__topology_read(&here, weft__topology_root);
}

const struct weft__topology *weft__topology(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct weft__processors mine = { { 0 } };
    if (sched_getaffinity(0, sizeof mine, (cpu_set_t *)(void *)&mine) < 0)
        return NULL; /* there are more than we count */
    pthread_once(&once, read_here);
    return weft__topology_apart(&here, &mine) ? &here : NULL;
}
