/* tests/fuzz/fuzz_cpus.c - what control groups say of processors: base/cpus.c.
 *
 *     LINE...          /proc/self/cgroup, up to a line that is "%"
 *     LINE...          /proc/self/mountinfo, up to another
 *     PATH TEXT        each a file of a group, and what is in it; "$" at its end: no newline follows
 *
 * Holds     the quota is what a second reader finds, who compares paths name by name; where names are such as no kernel
 *           writes ("//"), it is still one that stands in a file that was opened, or none.
 *
 * It is compiled into this program, where the input is the tree of files. */
#include <ctype.h>
#include <limits.h>

#include "fuzz.h"

enum { MOST_FILES = 32, MOST_WORDS = 16, MOST_INPUT = 4000, MOST_STEPS = MOST_INPUT / 2, READ = 63 /* bytes of a file that are looked at */ };

static struct {
    char *groups, *mounts;
    struct {
        char *path, *text;
        bool opened;
    } files[MOST_FILES];
    size_t n;
} tree;

static char *text_at(const char *path)
{
    for (size_t i = 0; i < tree.n; i++)
        if (strcmp(tree.files[i].path, path) == 0) {
            tree.files[i].opened = true;
            return tree.files[i].text;
        }
    return NULL;
}

static FILE *given_file(const char *path, const char *mode)
{
    char *text = strcmp(path, "/proc/self/cgroup") == 0 ? tree.groups
            : strcmp(path, "/proc/self/mountinfo") == 0 ? tree.mounts
                                                        : text_at(path);
    HOLDS(strcmp(mode, "re") == 0);
    return text && text[0] ? fmemopen(text, strlen(text), "r") : NULL;
}

#define fopen given_file
#include "base/cpus.c"
#undef fopen

/* ---- the second reader */

/* A text, cut into its words: as many as matter. */
struct words {
    char *text, *word[MOST_WORDS];
    int n;
};

static struct words cut(const char *text, char at)
{
    struct words w = { .text = strdup(text) };
    char *rest = w.text;
    while (w.n < MOST_WORDS) {
        w.word[w.n++] = rest;
        while (*rest && *rest != at)
            rest++;
        if (!*rest)
            break;
        *rest++ = 0;
    }
    return w;
}

static bool has(const char *list, const char *name)
{
    char *copy = strdup(list), *rest = copy, *word;
    bool found = false;
    while ((word = strsep(&rest, ",")) != NULL)
        found = found || strcmp(word, name) == 0;
    free(copy);
    return found;
}

/* As a kernel writes them: no empty name, none at the end. */
static bool is_path(const char *text)
{
    return text[0] == '/' && !strstr(text, "//") && (text[1] == 0 || text[strlen(text) - 1] != '/');
}

/* The names of a path. */
static int steps_of(char *path, char *step[MOST_STEPS])
{
    int n = 0;
    for (char *at = strtok(path, "/"); at; at = strtok(NULL, "/"))
        step[n++] = at;
    return n;
}

static bool is_up(const char *name)
{
    return strcmp(name, "..") == 0;
}

/* Digits; what does not fit is none: -1. */
static long long whole(const char *text, size_t n)
{
    unsigned long long value = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)text[i]) || value > (LLONG_MAX - (unsigned long long)(text[i] - '0')) / 10)
            return -1;
        value = 10 * value + (unsigned long long)(text[i] - '0');
    }
    return n > 0 ? (long long)value : -1;
}

static int share(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    unsigned long long n = ((unsigned long long)quota + (unsigned long long)period - 1) / (unsigned long long)period;
    return n > INT_MAX ? INT_MAX : (int)n;
}

static int least_of(int a, int b)
{
    return a == 0 ? b : b == 0 ? a : a < b ? a : b;
}

/* What is read of a file, without the newline at its end. */
static size_t text_in(const char *folder, const char *name, char out[READ + 1])
{
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const char *text = text_at(path);
    size_t n = text ? strnlen(text, READ) : 0;
    if (n > 0)
        memcpy(out, text, n);
    n -= n > 0 && out[n - 1] == '\n';
    out[n] = 0;
    return n;
}

static int share_of(const char *folder, bool v2)
{
    char a[READ + 1], b[READ + 1];
    if (v2) {
        size_t n = text_in(folder, "cpu.max", a), k = strcspn(a, " ");
        return k < n ? share(whole(a, k), whole(a + k + 1, n - k - 1)) : 0;
    }
    size_t n = text_in(folder, "cpu.cfs_quota_us", a), k = text_in(folder, "cpu.cfs_period_us", b);
    return share(whole(a, n), whole(b, k));
}

/* The octal codes of mountinfo. */
static char *plain(const char *text)
{
    char *out = strdup(text);
    size_t n = 0;
    for (size_t i = 0; text[i]; n++) {
        unsigned code;
        char digits[4] = { 0 };
        if (text[i] == '\\')
            memcpy(digits, text + i + 1, strnlen(text + i + 1, 3));
        if (strlen(digits) == 3 && strspn(digits, "01234567") == 3 && sscanf(digits, "%o", &code) == 1 && code < 256) {
            out[n] = (char)code;
            i += 4;
        } else {
            out[n] = text[i++];
        }
    }
    out[n] = 0;
    char *again = strdup(out); /* a zero ends it */
    free(out);
    return again;
}

/* What the mount of the group `from` at `mount` shows of the group `path`. */
static int shown(const char *from, const char *mount, const char *path, bool v2)
{
    char *from_step[MOST_STEPS], *path_step[MOST_STEPS], folder[4096];
    char *a = strdup(from), *b = strdup(path);
    int n = steps_of(a, from_step), m = steps_of(b, path_step), same = 0, up = 0, least = 0;
    while (same < n && same < m && strcmp(from_step[same], path_step[same]) == 0)
        same++;
    while (up < n && is_up(from_step[up]))
        up++;
    int path_up = 0;
    while (path_up < m && is_up(path_step[path_up]))
        path_up++;
    if (same == n && (same == m || !is_up(path_step[same]))) {
        for (int last = m; last >= n; last--) {
            size_t at = (size_t)snprintf(folder, sizeof folder, "%s", mount);
            for (int i = n; i < last; i++)
                at += (size_t)snprintf(folder + at, sizeof folder - at, "/%s", path_step[i]);
            least = least_of(least, share_of(folder, v2));
        }
    } else if (same < n && up == n && path_up < n) {
        least = share_of(mount, v2);
    }
    free(a);
    free(b);
    return least;
}

static bool clean; /* all paths are such as a kernel writes */

static int in_line(const char *line, const char *path, bool v2)
{
    const char *dash = strstr(line, " - ");
    int least = 0;
    if (!dash)
        return 0;
    char *left = strndup(line, (size_t)(dash - line));
    struct words l = cut(left, ' '), r = cut(dash + 3, ' ');
    bool ours = l.n >= 5 && l.word[3][0] == '/' && l.word[4][0] == '/' &&
            (v2 ? strcmp(r.word[0], "cgroup2") == 0
                : strcmp(r.word[0], "cgroup") == 0 && r.n >= 3 && has(r.word[2], "cpu"));
    if (ours) {
        char *from = plain(l.word[3]), *mount = plain(l.word[4]);
        clean = clean && is_path(from) && is_path(mount) && is_path(path);
        if (clean)
            least = shown(from, mount, path, v2);
        free(from);
        free(mount);
    }
    free(l.text);
    free(r.text);
    free(left);
    return least;
}

static int right_quota(void)
{
    int least = 0;
    clean = true;
    for (char *group = tree.groups; *group; group += strcspn(group, "\n"), group += *group == '\n') {
        char *line = strndup(group, strcspn(group, "\n")), *first = strchr(line, ':'),
             *path = first ? strchr(first + 1, ':') : NULL;
        if (path && path[1] == '/') {
            *path++ = 0;
            bool v2 = first[1] == 0;
            for (char *at = tree.mounts; *at && (v2 || has(first + 1, "cpu")); at += strcspn(at, "\n"), at += *at == '\n') {
                char *mount = strndup(at, strcspn(at, "\n"));
                least = least_of(least, in_line(mount, path, v2));
                free(mount);
            }
        }
        free(line);
    }
    return least;
}

/* Whether it stands in a file that was opened: q and p of the same one, or of two. */
static bool stands_somewhere(int quota)
{
    for (size_t i = 0; i < tree.n; i++)
        for (size_t k = 0; k < tree.n; k++) {
            char a[READ + 1], b[READ + 1];
            char *path = strdup(tree.files[i].path), *other = strdup(tree.files[k].path);
            char *name = strrchr(path, '/'), *second = strrchr(other, '/');
            size_t n = name ? (*name++ = 0, text_in(path, name, a)) : 0;
            size_t m = second ? (*second++ = 0, text_in(other, second, b)) : 0;
            size_t blank = strcspn(n ? a : "", " ");
            bool here = tree.files[i].opened && tree.files[k].opened && n > 0 && m > 0 &&
                    ((blank < n && share(whole(a, blank), whole(a + blank + 1, n - blank - 1)) == quota) ||
                            share(whole(a, n), whole(b, m)) == quota);
            free(path);
            free(other);
            if (here)
                return true;
        }
    return false;
}

/* ---- the tree */

static char *section(struct input *in)
{
    struct input all = *in;
    size_t n = 0;
    while (in->left > 0) {
        struct input line = next_line(in);
        if (line.left == 1 && *line.at == '%')
            break;
        n = (size_t)(in->at - all.at);
    }
    all.left = n;
    return text_of(all);
}

static void plant(struct input line)
{
    char *path = text_of(line), *blank = strchr(path, ' ');
    if (!blank || tree.n == MOST_FILES || strncmp(path, "/proc/", 6) == 0) {
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
    tree.files[tree.n].opened = false;
    tree.files[tree.n].path = path;
    tree.files[tree.n++].text = text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes };
    if (bytes > MOST_INPUT)
        return 0;
    tree.groups = section(&in);
    tree.mounts = section(&in);
    for (tree.n = 0; in.left > 0;)
        plant(next_line(&in));
    int quota = weft__cpus_quota("");
    HOLDS(quota >= 0);
    HOLDS(quota == 0 || stands_somewhere(quota));
    int right = right_quota();
    HOLDS(!clean || quota == right);
    for (size_t i = 0; i < tree.n; i++) {
        free(tree.files[i].path);
        free(tree.files[i].text);
    }
    free(tree.groups);
    free(tree.mounts);
    return 0;
}
