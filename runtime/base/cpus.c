/* base/cpus.c - how many processors this process may use.
 *
 * Reads     /proc/self/cgroup: a line for each hierarchy, "4:cpu,cpuacct:/a/b" or (v2) "0::/a/b", says which group
 *           this process is in;
 *           /proc/self/mountinfo: where a hierarchy is mounted, and which group of it is the mount's root;
 *           then cpu.max (v2) or cpu.cfs_quota_us and cpu.cfs_period_us (v1) in the group's folder and in each above
 *           it up to the mount's root. A group without these files, or with other words in them, has no quota.
 * Holds     Q1  a number counts only if it is of this process's group or of one above it.
 *           Q2  a line that cannot be understood is passed over, whatever is in it; lines may be of any length.
 * Namespaces  Both files name groups as they are seen from the root of the process's cgroup namespace. What is outside
 *           it begins with "/..", once for each step up: a mount's root that is nothing but these is above every group
 *           that goes up less far, but the names on the way down are not known, so of that mount only the root is read.
 *           A mount of another group (of a sibling, or of what a host's path would be) shows nothing that is ours.
 * Mounts    A hierarchy may be mounted several times, each with another root: the least of all that is found counts.
 * Tested    tests/cpus_test.c */
#include "base/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int weft__cpus_affinity(void)
{
    for (int n = 1024; n <= 1 << 20; n *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        if (!set)
            break;
        size_t bytes = CPU_ALLOC_SIZE((size_t)n);
        int got = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (got > 0)
            return got;
    }
    return 1;
}

/* 0 is "no quota", here and below. */
static int lesser(int a, int b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static int in_processors(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    long long n = quota / period + (quota % period != 0);
    return n < INT_MAX ? (int)n : INT_MAX;
}

/* ---- the files of one group */

/* A path, with room for the name of a file in that folder behind it. */
struct folder {
    char *path;
    size_t length;
};

/* A whole number and what follows it; NULL: there is none, or it does not fit. */
static const char *number(const char *text, long long *out)
{
    long long n = 0;
    if (*text < '0' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *text - '0', &n))
            return NULL;
    *out = n;
    return text;
}

static bool is_end(const char *text)
{
    return text && (*text == 0 || strcmp(text, "\n") == 0);
}

enum { TEXT = 64 }; /* more than two numbers take */

static bool read_text(struct folder *f, const char *name, char text[TEXT])
{
    strcpy(f->path + f->length, name);
    FILE *file = fopen(f->path, "re");
    f->path[f->length] = 0;
    if (!file)
        return false;
    size_t n = fread(text, 1, TEXT - 1, file);
    fclose(file);
    text[n] = 0;
    return n > 0;
}

/* "200000 100000", or "max 100000". */
static int quota_v2(struct folder *f)
{
    char text[TEXT];
    long long quota, period;
    if (!read_text(f, "/cpu.max", text))
        return 0;
    const char *rest = number(text, &quota);
    if (!rest || *rest != ' ' || !is_end(number(rest + 1, &period)))
        return 0;
    return in_processors(quota, period);
}

/* A number in each; a quota of -1: none. */
static int quota_v1(struct folder *f)
{
    char text[TEXT];
    long long quota, period;
    if (!read_text(f, "/cpu.cfs_quota_us", text) || !is_end(number(text, &quota)) ||
            !read_text(f, "/cpu.cfs_period_us", text) || !is_end(number(text, &period)))
        return 0;
    return in_processors(quota, period);
}

/* The least from root + mount + down up to root + mount. */
static int least_up_to(const char *root, const char *mount, const char *down, bool v2)
{
    static const char longest[] = "/cpu.cfs_period_us";
    size_t top = strlen(root) + strlen(mount);
    struct folder f = { .length = top + strlen(down) };
    int least = 0;
    if (!(f.path = weft__mem_alloc(f.length + sizeof longest)))
        return 0;
    snprintf(f.path, f.length + sizeof longest, "%s%s%s", root, mount, down);
    for (;;) {
        least = lesser(least, v2 ? quota_v2(&f) : quota_v1(&f));
        if (f.length <= top)
            break;
        do {
            f.length--;
        } while (f.length > top && f.path[f.length] != '/');
        f.path[f.length] = 0;
    }
    weft__mem_free(f.path);
    return least;
}

/* ---- the mounts */

/* Cuts the word that begins at *at off what follows; *at is NULL after the last. */
static char *word(char **at)
{
    char *begin = *at;
    if (begin) {
        *at = strchr(begin, ' ');
        if (*at)
            *(*at)++ = 0;
    }
    return begin;
}

/* mountinfo writes blank, tab, newline and backslash in octal: "\040". */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        bool octal = from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' &&
                from[3] >= '0' && from[3] <= '7';
        int code = octal ? (from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0') : *from;
        *to = (char)code;
        from += octal ? 4 : 1;
    }
    *to = 0;
}

static bool has_word(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == 0))
            return true;
    }
    return false;
}

/* How often a path goes up at its beginning; *rest is what follows. */
static int steps_up(const char *path, const char **rest)
{
    int n = 0;
    for (; strncmp(path, "/..", 3) == 0 && (path[3] == '/' || path[3] == 0); path += 3)
        n++;
    *rest = path;
    return n;
}

/* Whether the group `from`, a mount's root, is `path` or above it; *down is then the way from one to the other, "" if it
 * is not known. */
static bool is_above(const char *from, const char *path, const char **down)
{
    size_t n = strcmp(from, "/") == 0 ? 0 : strlen(from);
    const char *rest;
    if (strncmp(path, from, n) == 0 && (path[n] == '/' || path[n] == 0)) {
        *down = strcmp(path + n, "/") == 0 ? "" : path + n;
        return steps_up(*down, &rest) == 0;
    }
    *down = "";
    int up = steps_up(from, &rest);
    return *rest == 0 && steps_up(path, &rest) < up;
}

/* What this line of mountinfo shows of the group `path`:
 *
 *     36 35 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
 *                ^ ^                 optional ^        ^               ^ v1: the controllers are among these */
static int quota_in_mount(const char *root, char *line, const char *path, bool v2)
{
    char *at = line, *dash = strstr(line, " - ");
    const char *down;
    if (!dash)
        return 0;
    *dash = 0;
    for (int i = 0; i < 3; i++)
        word(&at);
    char *from = word(&at), *mount = word(&at);
    at = dash + 3;
    const char *type = word(&at);
    word(&at);
    const char *options = word(&at);
    if (!mount || from[0] != '/' || mount[0] != '/')
        return 0;
    if (v2 ? strcmp(type, "cgroup2") != 0 : strcmp(type, "cgroup") != 0 || !options || !has_word(options, "cpu"))
        return 0;
    unescape(from);
    unescape(mount);
    return is_above(from, path, &down) ? least_up_to(root, mount, down, v2) : 0;
}

/* ---- all of it */

static void cut_newline(char *line)
{
    line[strcspn(line, "\n")] = 0;
}

static FILE *open_proc(const char *root, const char *name)
{
    size_t bytes = strlen(root) + strlen(name) + 1;
    char *path = weft__mem_alloc(bytes);
    if (!path)
        return NULL;
    snprintf(path, bytes, "%s%s", root, name);
    FILE *f = fopen(path, "re");
    weft__mem_free(path);
    return f;
}

static int quota_of_group(const char *root, const char *path, bool v2)
{
    int least = 0;
    char *line = NULL;
    size_t room = 0;
    FILE *f = open_proc(root, "/proc/self/mountinfo");
    if (!f)
        return 0;
    while (getline(&line, &room, f) >= 0) {
        cut_newline(line);
        least = lesser(least, quota_in_mount(root, line, path, v2));
    }
    free(line);
    fclose(f);
    return least;
}

int weft__cpus_quota(const char *root)
{
    int least = 0;
    char *line = NULL;
    size_t room = 0;
    FILE *f = open_proc(root, "/proc/self/cgroup");
    if (!f)
        return 0;
    while (getline(&line, &room, f) >= 0) {
        cut_newline(line);
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path || path[1] != '/')
            continue;
        *path++ = 0;
        bool v2 = *++controllers == 0;
        if (v2 || has_word(controllers, "cpu"))
            least = lesser(least, quota_of_group(root, path, v2));
    }
    free(line);
    fclose(f);
    return least;
}

int weft__cpus_now(void)
{
    return lesser(weft__cpus_quota(""), weft__cpus_affinity());
}
