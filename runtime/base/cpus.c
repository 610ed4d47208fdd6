/* base/cpus.c - how many processors this process may use.
 *
 * Reads     /proc/self/cgroup for the group's path in each hierarchy, /proc/self/mountinfo for where the hierarchies
 *           are mounted, then cpu.max (v2) or cpu.cfs_quota_us and cpu.cfs_period_us (v1, -1: none) in the
 *           group's folder and each above it up to the mount. */
#include "base/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int read_two(const char *folder, const char *name, long *a, long *b)
{
    char path[PATH_MAX], first[32] = "";
    *a = *b = -1;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int n = fscanf(f, "%31s %ld", first, b);
    fclose(f);
    if (n < 1)
        return 0;
    *a = strcmp(first, "max") == 0 ? -1 : atol(first);
    return n;
}

static int quota_of(const char *folder, int v2)
{
    long quota, period, none;
    if (v2) {
        if (read_two(folder, "cpu.max", &quota, &period) < 2)
            return 0;
    } else if (read_two(folder, "cpu.cfs_quota_us", &quota, &none) < 1 ||
            read_two(folder, "cpu.cfs_period_us", &period, &none) < 1) {
        return 0;
    }
    if (quota <= 0 || period <= 0)
        return 0;
    return (int)((quota + period - 1) / period);
}

/* The least quota from mount/path up to the mount itself. */
static int least_quota(const char *mount, const char *path, int v2)
{
    char folder[PATH_MAX];
    size_t top = strlen(mount);
    int least = 0;
    if (snprintf(folder, sizeof folder, "%s%s", mount, path) >= (int)sizeof folder)
        return 0;
    for (;;) {
        int q = quota_of(folder, v2);
        if (q > 0 && (least == 0 || q < least))
            least = q;
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < top)
            return least;
        *slash = 0;
    }
}

/* Where the hierarchy is mounted: v2 by its type, v1 by the controller among its options. Writes the folder, and
 * strips from `path` what lies above the mount's root. */
static int find_mount(const char *root, int v2, char *path, char *mount, size_t bytes)
{
    char name[PATH_MAX], line[2 * PATH_MAX];
    int found = 0;
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(name, "re");
    if (!f)
        return 0;
    while (!found && fgets(line, sizeof line, f)) {
        char from[PATH_MAX], at[PATH_MAX], type[32] = "", options[512] = "";
        char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %4095s %4095s", from, at) != 2 ||
                sscanf(dash, " - %31s %*s %511s", type, options) < 1)
            continue;
        if (v2 ? strcmp(type, "cgroup2") != 0 : strcmp(type, "cgroup") != 0)
            continue;
        if (!v2) {
            char *o = strtok(options, ",");
            while (o && strcmp(o, "cpu") != 0)
                o = strtok(NULL, ",");
            if (!o)
                continue;
        }
        size_t n = strcmp(from, "/") == 0 ? 0 : strlen(from);
        if (n > 0 && (strncmp(path, from, n) != 0 || (path[n] != '/' && path[n] != 0)))
            continue; /* of another group */
        found = snprintf(mount, bytes, "%s%s", root, at) < (int)bytes;
        memmove(path, path + n, strlen(path + n) + 1);
    }
    fclose(f);
    return found;
}

int weft__cpus_quota(const char *root)
{
    char name[PATH_MAX], line[PATH_MAX + 64], mount[PATH_MAX];
    int least = 0;
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *f = fopen(name, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        controllers++;
        int v2 = controllers[0] == 0, has_cpu = v2;
        for (char *c = strtok(controllers, ","); c; c = strtok(NULL, ","))
            has_cpu |= strcmp(c, "cpu") == 0;
        if (strcmp(path, "/") == 0)
            *path = 0;
        if (!has_cpu || !find_mount(root, v2, path, mount, sizeof mount))
            continue;
        int q = least_quota(mount, path, v2);
        if (q > 0 && (least == 0 || q < least))
            least = q;
    }
    fclose(f);
    return least;
}
