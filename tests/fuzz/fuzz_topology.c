/* tests/fuzz/fuzz_topology.c - what sysfs says of caches and nodes: base/topology.c.
 *
 *     PATH TEXT        each a file below /sys/devices/system, and what is in it; "$" at its end: no newline follows
 *
 * Holds     processors have one cache and one node as a second reader finds them, who looks for each processor, through all
 *           files, for the first that names it; two readings find the same.
 *
 * It is compiled into this program, where the input is the tree of files. */
#include <ctype.h>

#include "fuzz.h"

enum { MOST_FILES = 64, MOST_INPUT = 4000 };

static struct {
    char *path, *text;
} files[MOST_FILES];
static size_t n_files;

static const char *text_at(const char *path)
{
    for (size_t i = 0; i < n_files; i++)
        if (strcmp(files[i].path, path) == 0)
            return files[i].text;
    return NULL;
}

static FILE *given_file(const char *path, const char *mode)
{
    static const char below[] = "/sys/devices/system/";
    HOLDS(strcmp(mode, "re") == 0);
    HOLDS(strncmp(path, below, sizeof below - 1) == 0);
    const char *text = text_at(path + sizeof below - 1);
    return text && text[0] ? fmemopen((char *)(uintptr_t)text, strlen(text), "r") : NULL;
}

#define fopen given_file
#include "base/topology.c"
#undef fopen

/* ---- the second reader */

enum { MOST = WEFT__PROCESSORS_MOST };

static bool listed[MOST];

static unsigned long number(const char *text)
{
    unsigned long n = 0;
    for (; isdigit((unsigned char)*text); text++)
        n = n < 100000 ? 10 * n + (unsigned long)(*text - '0') : n;
    return n;
}

/* Digits, or two of them with "-" between, and nothing else. */
static bool list_word(const char *word)
{
    size_t n = strspn(word, "0123456789"), m = word[n] == '-' ? strspn(word + n + 1, "0123456789") : 0;
    if (n == 0 || (word[n] == '-' && m == 0) || word[n + (word[n] == '-') + m] != 0)
        return false;
    unsigned long from = number(word), to = m ? number(word + n + 1) : from;
    from = from < MOST ? from : MOST;
    to = to < MOST ? to : MOST;
    if (to < from)
        return false;
    for (; from <= to && from < MOST; from++)
        listed[from] = true;
    return true;
}

/* Fills `listed`; false: there is no such list. An empty file is as good as none here, since fmemopen has none. */
static bool list_at(const char *path)
{
    const char *text = text_at(path);
    memset(listed, 0, sizeof listed);
    if (!text || !text[0])
        return false;
    char *copy = strdup(text), *rest = copy, *word;
    size_t n = strlen(copy);
    bool good = true;
    if (n > 0 && copy[n - 1] == '\n')
        copy[--n] = 0;
    while (n > 0 && good && (word = strsep(&rest, ",")) != NULL)
        good = list_word(word);
    free(copy);
    return good;
}

/* The first line of a file as it is kept; NULL: there is none. */
static const char *line_at(const char *path, char line[WORD_ROOM])
{
    const char *text = text_at(path);
    if (!text || !text[0])
        return NULL;
    snprintf(line, WORD_ROOM, "%s", text);
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* Fills `listed` with those that share a processor's last-level cache. */
static bool sharers(unsigned p)
{
    char path[128], level[WORD_ROOM], type[WORD_ROOM];
    int last = -1, highest = 0;
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof path, "cpu/cpu%u/cache/index%d/level", p, i);
        if (!line_at(path, level))
            continue;
        snprintf(path, sizeof path, "cpu/cpu%u/cache/index%d/type", p, i);
        if (strlen(level) != 1 || level[0] < '1' || level[0] > '9' || !line_at(path, type))
            return false;
        if (strcmp(type, "Instruction") == 0)
            continue;
        if (strcmp(type, "Data") != 0 && strcmp(type, "Unified") != 0)
            return false;
        if (level[0] - '0' >= highest) {
            highest = level[0] - '0';
            last = i;
        }
    }
    snprintf(path, sizeof path, "cpu/cpu%u/cache/index%d/shared_cpu_list", p, last);
    if (last < 0 || !list_at(path) || !listed[p])
        return false;
    int others = -1;
    for (int q = 0; q < MOST; q++)
        others += listed[q];
    return others > 0;
}

static void check(const struct weft__topology *t)
{
    static bool online[MOST];
    static int cache[MOST], node[MOST];
    char path[128];
    memset(cache, 0, sizeof cache);
    memset(node, 0, sizeof node);
    bool any = list_at("cpu/online");
    memcpy(online, listed, sizeof online);
    for (unsigned p = 0; any && p < MOST; p++)
        if (online[p] && cache[p] == 0 && sharers(p))
            for (int q = 0; q < MOST; q++)
                cache[q] = cache[q] == 0 && listed[q] ? (int)p + 1 : cache[q];
    any = list_at("node/online");
    memcpy(online, listed, sizeof online);
    for (unsigned m = 0; any && m < MOST; m++) {
        snprintf(path, sizeof path, "node/node%u/cpulist", m);
        for (int q = 0; online[m] && q < MOST && (q > 0 || list_at(path)); q++)
            node[q] = node[q] == 0 && listed[q] ? (int)m + 1 : node[q];
    }
    /* Numbers may be others, but they are the same for the same, and for nobody else. */
    static int given[1 << 16], numbered[2 * MOST + 2];
    memset(given, 0, sizeof given);
    memset(numbered, 0, sizeof numbered);
    for (unsigned p = 0; p < MOST; p++) {
        int mine = cache[p] ? cache[p] : MOST + 1 + node[p];
        HOLDS(t->cache[p] != 0);
        HOLDS(given[t->cache[p]] == 0 || given[t->cache[p]] == mine);
        HOLDS(numbered[mine] == 0 || numbered[mine] == t->cache[p]);
        given[t->cache[p]] = mine;
        numbered[mine] = t->cache[p];
        HOLDS(t->node[p] == node[p]);
    }
}

static void plant(struct input line)
{
    char *path = text_of(line), *blank = strchr(path, ' ');
    if (!blank || n_files == MOST_FILES) {
        free(path);
        return;
    }
    size_t n = strlen(blank + 1);
    char *text = malloc(n + 2);
    memcpy(text, blank + 1, n + 1);
    if (n > 0 && text[n - 1] == '$')
        text[n - 1] = 0;
    else
        strcpy(text + n, "\n");
    *blank = 0;
    files[n_files].path = path;
    files[n_files++].text = text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct weft__topology one, two;
    struct input in = { data, bytes };
    if (bytes > MOST_INPUT)
        return 0;
    for (n_files = 0; in.left > 0;)
        plant(next_line(&in));
    weft__topology_read(&one, "");
    weft__topology_read(&two, "");
    HOLDS(memcmp(&one, &two, sizeof one) == 0);
    check(&one);
    for (size_t i = 0; i < n_files; i++) {
        free(files[i].path);
        free(files[i].text);
    }
    return 0;
}
