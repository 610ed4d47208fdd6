/* base/cpus.h - how many processors this process may use. */
#ifndef WEFT_BASE_CPUS_H
#define WEFT_BASE_CPUS_H

/* Processors in the calling thread's affinity mask, which cpusets limit as well; at least 1. */
int weft__cpus_affinity(void);

/* The least CPU quota of this process's cgroup and of all groups above it that can be seen, in processors; 0: there is
 * none. `root` is "" or, in tests, a tree that has proc/self/cgroup, proc/self/mountinfo and the files below.
 *
 * A part of a processor is rounded up, so a quota is at least 1. Rounded down, that part could never be used: of 1.9
 * processors nearly half. Rounded up, it is the kernel that takes back what is too much, at the end of a period in which
 * all workers computed without a pause, and not before; a worker that waits uses none of the quota. Who would rather have
 * fewer workers than a throttled period says so in WEFT_WORKERS or weft_options. */
int weft__cpus_quota(const char *root);

/* The lesser of the two, now. */
int weft__cpus_now(void);

#endif
