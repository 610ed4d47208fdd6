/* base/cpus.h - how many processors this process may use. */
#ifndef WEFT_BASE_CPUS_H
#define WEFT_BASE_CPUS_H

/* Processors in the affinity mask, at least 1. */
int weft__cpus_affinity(void);

/* The least CPU quota of this process's cgroup and all above it, in processors, rounded up; 0: no quota. `root`
 * is "" or, in tests, a recorded tree that has proc/self/cgroup, proc/self/mountinfo and the files below. */
int weft__cpus_quota(const char *root);

#endif
