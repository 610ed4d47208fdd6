/* cpus_test.c - how many processors the process may use: base/cpus.c on trees that the test writes, as they were found on
 * hosts and in containers, cut off and garbled. */
#include "folders.h"
#include "support.h"

#include <sys/stat.h>

#include "base/cpus.h"

/* -- a tree of files -- */

static char root[] = "/tmp/weft-cpus-XXXXXX";

static void write_file(const char *path, const char *text)
{
    char whole[PATH_MAX];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (char *p = whole + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        mkdir(whole, 0700);
        *p = '/';
    }
    FILE *f = fopen(whole, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void setup(void)
{
    snprintf(root, sizeof root, "/tmp/weft-cpus-XXXXXX");
    if (!mkdtemp(root))
        abort();
}

static void teardown(void)
{
    remove_tree(root);
}

#define ROOT_LINE "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n23 22 0:21 / /proc rw - proc proc rw\n"
#define V2_LINE(from, at) "30 23 0:26 " from " " at " rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_LINE(from, at, what) "31 23 0:27 " from " " at " rw,nosuid shared:10 master:3 - cgroup cgroup rw," what "\n"

static void groups(const char *cgroup, const char *mounts)
{
    char text[4096];
    write_file("proc/self/cgroup", cgroup);
    snprintf(text, sizeof text, "%s%s", ROOT_LINE, mounts);
    write_file("proc/self/mountinfo", text);
}

/* -- v2 -- */

static const struct {
    const char *max;
    int quota;
} values[] = { { "max 100000\n", 0 }, { "max\n", 0 }, { "100000 100000\n", 1 }, { "200000 100000\n", 2 },
    { "150000 100000\n", 2 }, { "100001 100000\n", 2 }, { "1000 100000\n", 1 }, { "1 1000000\n", 1 },
    { "50000 25000\n", 2 }, { "6400000 100000\n", 64 }, { "", 0 }, { "nonsense\n", 0 }, { "0 100000\n", 0 },
    { "100000 0\n", 0 }, { "-1 100000\n", 0 }, { "100000 -1\n", 0 } };

START_TEST(v2_rounds_up_and_max_is_none)
{
    groups("0::/service\n", V2_LINE("/", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/service/cpu.max", values[_i].max);
    ck_assert_int_eq(weft__cpus_quota(root), values[_i].quota);
}
END_TEST

START_TEST(the_least_of_all_groups_above_counts)
{
    static const struct {
        const char *top, *middle, *low;
        int quota;
    } nest[] = { { "max 100000", "max 100000", "max 100000", 0 }, { "max 100000", "300000 100000", "max 100000", 3 },
        { "max 100000", "300000 100000", "200000 100000", 2 }, { "max 100000", "200000 100000", "800000 100000", 2 },
        { "150000 100000", "max 100000", "max 100000", 2 }, { "100000 100000", "800000 100000", "700000 100000", 1 } };
    groups("0::/a.slice/b.service\n", V2_LINE("/", "/sys/fs/cgroup"));
    for (int i = 0; i < COUNT(nest); i++) {
        write_file("sys/fs/cgroup/cpu.max", nest[i].top);
        write_file("sys/fs/cgroup/a.slice/cpu.max", nest[i].middle);
        write_file("sys/fs/cgroup/a.slice/b.service/cpu.max", nest[i].low);
        ck_assert_int_eq(weft__cpus_quota(root), nest[i].quota);
    }
}
END_TEST

START_TEST(what_is_above_or_beside_the_mount_does_not_count)
{
    groups("0::/a\n", V2_LINE("/", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/a/cpu.max", "400000 100000");
    write_file("sys/fs/cgroup/b/cpu.max", "100000 100000");
    write_file("sys/fs/cpu.max", "100000 100000");
    write_file("sys/cpu.max", "100000 100000");
    write_file("cpu.max", "100000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 4);
}
END_TEST

/* B-011, C-24 */
START_TEST(a_quota_that_changes_is_read_anew)
{
    static const struct {
        const char *group, *above;
        int quota;
    } then[] = { { "200000 100000", "max 100000", 2 }, { "400000 100000", "max 100000", 4 },
        { "400000 100000", "300000 100000", 3 }, { "max 100000", "300000 100000", 3 }, { "max 100000", "max 100000", 0 },
        { "100000 100000", "max 100000", 1 } };
    groups("0::/service\n", V2_LINE("/", "/sys/fs/cgroup"));
    for (int i = 0; i < COUNT(then); i++) {
        write_file("sys/fs/cgroup/service/cpu.max", then[i].group);
        write_file("sys/fs/cgroup/cpu.max", then[i].above);
        ck_assert_int_eq(weft__cpus_quota(root), then[i].quota);
    }
    groups("0::/moved\n", V2_LINE("/", "/sys/fs/cgroup")); /* and a group that is another */
    write_file("sys/fs/cgroup/moved/cpu.max", "500000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 5);
}
END_TEST

START_TEST(a_group_without_the_file_is_passed_over)
{
    groups("0::/a/b/c\n", V2_LINE("/", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/a/cpu.max", "400000 100000");
    write_file("sys/fs/cgroup/a/b/c/tasks", "1");
    ck_assert_int_eq(weft__cpus_quota(root), 4);
}
END_TEST

START_TEST(a_process_in_the_root_group_reads_the_mount_itself)
{
    groups("0::/\n", V2_LINE("/", "/sys/fs/cgroup"));
    ck_assert_int_eq(weft__cpus_quota(root), 0);
    write_file("sys/fs/cgroup/cpu.max", "200000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 2);
}
END_TEST

START_TEST(a_container_sees_its_own_group_as_the_mount)
{
    groups("0::/docker/4f2e\n", V2_LINE("/docker/4f2e", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/cpu.max", "250000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 3);
    groups("0::/docker/4f2e/inner\n", V2_LINE("/docker/4f2e", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/inner/cpu.max", "150000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 2);
}
END_TEST

/* A mount of another group, whose name begins alike: nothing is known of our own. */
START_TEST(a_mount_of_another_group_is_not_taken_for_ours)
{
    groups("0::/app-two\n", V2_LINE("/app", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/cpu.max", "max 100000");
    write_file("sys/fs/cgroup-two/cpu.max", "100000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 0);
}
END_TEST

/* -- v1 -- */

#define V1_CGROUP "12:memory:/x\n4:cpu,cpuacct:/y/z\n3:cpuset:/x\n1:name=systemd:/x\n"
#define V1_MOUNTS                                                                                                       \
    V1_LINE("/", "/sys/fs/cgroup/memory", "memory")                                                                     \
    V1_LINE("/", "/sys/fs/cgroup/cpuset", "cpuset")                                                                     \
    V1_LINE("/", "/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct")

static void v1(const char *folder, const char *quota, const char *period)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    write_file(path, quota);
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    write_file(path, period);
}

START_TEST(v1_reads_quota_and_period)
{
    static const struct {
        const char *quota, *period;
        int want;
    } v[] = { { "-1\n", "100000\n", 0 }, { "100000\n", "100000\n", 1 }, { "150000\n", "100000\n", 2 },
        { "300000\n", "100000\n", 3 }, { "10000\n", "5000\n", 2 }, { "0\n", "100000\n", 0 }, { "\n", "100000\n", 0 },
        { "100000\n", "\n", 0 }, { "100000\n", "0\n", 0 } };
    groups(V1_CGROUP, V1_MOUNTS);
    for (int i = 0; i < COUNT(v); i++) {
        v1("sys/fs/cgroup/cpu,cpuacct/y/z", v[i].quota, v[i].period);
        ck_assert_int_eq(weft__cpus_quota(root), v[i].want);
    }
}
END_TEST

START_TEST(v1_nests)
{
    groups(V1_CGROUP, V1_MOUNTS);
    v1("sys/fs/cgroup/cpu,cpuacct/y/z", "400000", "100000");
    v1("sys/fs/cgroup/cpu,cpuacct/y", "150000", "100000");
    v1("sys/fs/cgroup/cpu,cpuacct", "-1", "100000");
    ck_assert_int_eq(weft__cpus_quota(root), 2);
}
END_TEST

START_TEST(v1_in_a_container)
{
    groups("4:cpu,cpuacct:/docker/77\n", V1_LINE("/docker/77", "/sys/fs/cgroup/cpu,cpuacct", "cpuacct,cpu"));
    v1("sys/fs/cgroup/cpu,cpuacct", "500000", "100000");
    ck_assert_int_eq(weft__cpus_quota(root), 5);
}
END_TEST

START_TEST(other_controllers_are_not_the_processors)
{
    groups("4:cpuacct:/x\n3:cpuset:/x\n",
            V1_LINE("/", "/sys/fs/cgroup/cpuacct", "cpuacct") V1_LINE("/", "/sys/fs/cgroup/cpuset", "cpuset"));
    v1("sys/fs/cgroup/cpuacct/x", "100000", "100000");
    v1("sys/fs/cgroup/cpuset/x", "100000", "100000");
    ck_assert_int_eq(weft__cpus_quota(root), 0);
}
END_TEST

/* -- both -- */

START_TEST(hybrid_reads_both_and_the_least_counts)
{
    groups("4:cpu,cpuacct:/y/z\n1:name=systemd:/user\n0::/user\n",
            V2_LINE("/", "/sys/fs/cgroup/unified") V1_MOUNTS);
    write_file("sys/fs/cgroup/unified/user/cgroup.procs", "1");
    v1("sys/fs/cgroup/cpu,cpuacct/y/z", "300000", "100000");
    ck_assert_int_eq(weft__cpus_quota(root), 3);
    write_file("sys/fs/cgroup/unified/user/cpu.max", "200000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 2);
    v1("sys/fs/cgroup/cpu,cpuacct/y/z", "100000", "100000");
    ck_assert_int_eq(weft__cpus_quota(root), 1);
}
END_TEST

/* -- nothing to read -- */

START_TEST(without_files_there_is_no_quota)
{
    ck_assert_int_eq(weft__cpus_quota(root), 0);
    ck_assert_int_eq(weft__cpus_quota("/nonexistent"), 0);
    write_file("proc/self/cgroup", "0::/a\n");
    ck_assert_int_eq(weft__cpus_quota(root), 0);
    groups("0::/a\n", "");
    ck_assert_int_eq(weft__cpus_quota(root), 0);
    groups("", V2_LINE("/", "/sys/fs/cgroup"));
    ck_assert_int_eq(weft__cpus_quota(root), 0);
}
END_TEST

START_TEST(broken_lines_are_passed_over)
{
    char longer[9000];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    groups("nonsense\n:\n::\n0:\n0::/a\n", "nonsense\n - \n1 2 3\n" V2_LINE("/", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/a/cpu.max", "200000 100000");
    ck_assert_int_eq(weft__cpus_quota(root), 2);
    write_file("proc/self/cgroup", longer);
    ck_assert_int_eq(weft__cpus_quota(root), 0);
    write_file("proc/self/cgroup", "0::/a\n");
    write_file("proc/self/mountinfo", longer);
    ck_assert_int_eq(weft__cpus_quota(root), 0);
}
END_TEST

/* -- whole trees, as they were found -- */

/* The mounts that every process sees besides. */
#define HOST_MOUNTS                                                                                                     \
    "24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"                                        \
    "25 24 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=8119872k,nr_inodes=2029968,mode=755\n"         \
    "26 24 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw\n"                                      \
    "27 24 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n"
#define BOX_MOUNTS                                                                                                      \
    "612 540 0:56 / / rw,relatime master:300 - overlay overlay "                                                        \
    "rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B,upperdir=/u,workdir=/w\n"                    \
    "613 612 0:59 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n"                                              \
    "616 612 0:61 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro\n"
#define V2_CONTROLS " - cgroup2 cgroup rw,nsdelegate,memory_recursiveprot\n"
#define V1_DOCKER(id)                                                                                                   \
    "617 616 0:62 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755\n"                          \
    "618 617 0:31 " id " /sys/fs/cgroup/systemd ro,nosuid,nodev,noexec,relatime master:9 - cgroup cgroup "               \
    "rw,xattr,name=systemd\n"                                                                                            \
    "619 617 0:35 " id " /sys/fs/cgroup/cpuset ro,nosuid,nodev,noexec,relatime master:16 - cgroup cgroup rw,cpuset\n"    \
    "620 617 0:38 " id " /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev,noexec,relatime master:19 - cgroup cgroup "          \
    "rw,cpu,cpuacct\n"
#define DOCKER "/docker/0f6a6a3bd4a5a8cf7e0d3c9c1c3b7c4a1f5b0e6f6f52f1f7c3b8a0b1c2d3e4f5"
#define SCOPE "/system.slice/docker-0f6a6a3bd4a5a8cf7e0d3c9c1c3b7c4a1f5b0e6f6f52f1f7c3b8a0b1c2d3e4f5.scope"
#define POD "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796"
#define POD_V2                                                                                                          \
    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2c48913c_b29f_11e7_9350_020968147796.slice"
#define CONTAINER "/9a8f0e7d6c5b4a392817069584736251403f2e1d0c9b8a7968574635241302f1"

#define FS "sys/fs/cgroup"
#define V1_GROUP                                                                                                        \
    "11:cpuset:" DOCKER "\n4:cpu,cpuacct:" DOCKER "\n1:name=systemd:" DOCKER "\n0::/system.slice/containerd.service\n"

static const struct tree {
    const char *name, *cgroup, *mounts;
    int quota;
    struct {
        const char *path, *text;
    } files[8];
} trees[] = {
    { "docker v2 with a namespace", "0::/\n",
            BOX_MOUNTS "617 616 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime" V2_CONTROLS, 2,
            { { FS "/cpu.max", "150000 100000\n" }, { FS "/cpu.weight", "100\n" } } },
    { "docker v2 with the host's namespace", "0::" SCOPE "\n",
            BOX_MOUNTS "617 616 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime" V2_CONTROLS, 3,
            { { FS SCOPE "/cpu.max", "250000 100000\n" }, { FS "/system.slice/cpu.max", "max 100000\n" },
                    { FS "/system.slice/docker-other.scope/cpu.max", "100000 100000\n" } } },
    { "docker v2 with the host's namespace, its own group mounted", "0::" SCOPE "\n",
            BOX_MOUNTS "617 616 0:27 " SCOPE " /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime" V2_CONTROLS, 3,
            { { FS "/cpu.max", "250000 100000\n" } } },
    { "docker v1", V1_GROUP, BOX_MOUNTS V1_DOCKER(DOCKER), 2,
            { { FS "/cpu,cpuacct/cpu.cfs_quota_us", "200000\n" }, { FS "/cpu,cpuacct/cpu.cfs_period_us", "100000\n" } } },
    { "docker v1 with a namespace", "11:cpuset:/\n4:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n",
            BOX_MOUNTS V1_DOCKER("/"), 1,
            { { FS "/cpu,cpuacct/cpu.cfs_quota_us", "50000\n" }, { FS "/cpu,cpuacct/cpu.cfs_period_us", "100000\n" } } },
    { "docker v1 without a quota", V1_GROUP, BOX_MOUNTS V1_DOCKER(DOCKER), 0,
            { { FS "/cpu,cpuacct/cpu.cfs_quota_us", "-1\n" }, { FS "/cpu,cpuacct/cpu.cfs_period_us", "100000\n" } } },
    { "a systemd service whose slice has the quota", "0::/batch.slice/batch-night.slice/report.service\n",
            HOST_MOUNTS "28 27 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:8" V2_CONTROLS, 2,
            { { FS "/batch.slice/cpu.max", "200000 100000\n" },
                    { FS "/batch.slice/batch-night.slice/cpu.max", "max 100000\n" },
                    { FS "/batch.slice/batch-night.slice/report.service/cpu.max", "max 100000\n" } } },
    { "a systemd service on v2 with a quota in a wider slice", "0::/batch.slice/report.service\n",
            HOST_MOUNTS "28 27 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:8" V2_CONTROLS, 1,
            { { FS "/batch.slice/cpu.max", "400000 100000\n" },
                    { FS "/batch.slice/report.service/cpu.max", "20000 100000\n" } } },
    { "a burstable pod, v1", "9:cpu,cpuacct:" POD CONTAINER "\n8:memory:" POD CONTAINER "\n",
            BOX_MOUNTS V1_DOCKER(POD CONTAINER), 4,
            { { FS "/cpu,cpuacct/cpu.cfs_quota_us", "350000\n" }, { FS "/cpu,cpuacct/cpu.cfs_period_us", "100000\n" },
                    { FS "/cpu,cpuacct/cpu.shares", "512\n" } } },
    { "an agent with all pods in sight, v1, the limit on its pod", "9:cpu,cpuacct:" POD CONTAINER "\n",
            HOST_MOUNTS "33 27 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:14 - cgroup cgroup rw,cpu,cpuacct\n",
            2,
            { { FS "/cpu,cpuacct" POD CONTAINER "/cpu.cfs_quota_us", "-1\n" },
                    { FS "/cpu,cpuacct" POD CONTAINER "/cpu.cfs_period_us", "100000\n" },
                    { FS "/cpu,cpuacct" POD "/cpu.cfs_quota_us", "200000\n" },
                    { FS "/cpu,cpuacct" POD "/cpu.cfs_period_us", "100000\n" } } },
    { "a burstable pod, v2", "0::/\n",
            BOX_MOUNTS "617 616 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime" V2_CONTROLS, 1,
            { { FS "/cpu.max", "50000 100000\n" } } },
    { "a burstable pod that has requests and no limit, v2", "0::/\n",
            BOX_MOUNTS "617 616 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime" V2_CONTROLS, 0,
            { { FS "/cpu.max", "max 100000\n" }, { FS "/cpu.weight", "20\n" } } },
    { "an agent in a pod with the host's groups mounted, v2, the limit on its pod",
            "0::" POD_V2 "/cri-containerd-9a8f.scope\n",
            BOX_MOUNTS "617 616 0:27 / /host/sys/fs/cgroup ro,relatime" V2_CONTROLS, 3,
            { { "host/" FS POD_V2 "/cri-containerd-9a8f.scope/cpu.max", "max 100000\n" },
                    { "host/" FS POD_V2 "/cpu.max", "300000 100000\n" } } },
    { "hybrid: v2 has no controllers, v1 has the processors",
            "4:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice/a.scope\n0::/user.slice/a.scope\n",
            HOST_MOUNTS "28 27 0:25 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n"
                        "29 28 0:26 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10" V2_CONTROLS
                        "30 28 0:27 / /sys/fs/cgroup/systemd rw,relatime shared:11 - cgroup cgroup rw,name=systemd\n"
                        "33 28 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:14 - cgroup cgroup rw,cpu,cpuacct\n",
            2,
            { { FS "/unified/user.slice/a.scope/cgroup.procs", "1\n" },
                    { FS "/cpu,cpuacct/cpu.cfs_quota_us", "-1\n" }, { FS "/cpu,cpuacct/cpu.cfs_period_us", "100000\n" },
                    { FS "/cpu,cpuacct/user.slice/cpu.cfs_quota_us", "180000\n" },
                    { FS "/cpu,cpuacct/user.slice/cpu.cfs_period_us", "100000\n" } } },
    { "each v1 controller mounted on its own", "9:name=systemd:/\n3:cpuset:/\n2:cpuacct:/a\n1:cpu:/a\n0::/\n",
            HOST_MOUNTS "31 27 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
                        "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
                        "33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n",
            5,
            { { FS "/cpu/a/cpu.cfs_quota_us", "410000\n" }, { FS "/cpu/a/cpu.cfs_period_us", "100000\n" },
                    { FS "/cpuacct/a/cpu.cfs_quota_us", "100000\n" },
                    { FS "/cpuacct/a/cpu.cfs_period_us", "100000\n" } } },
    { "no control groups at all", "", HOST_MOUNTS, 0, { { NULL, NULL } } },
    { "a kernel with them, and nothing mounted", "0::/init.scope\n", HOST_MOUNTS, 0, { { NULL, NULL } } },
    { "a mount seen from inside a namespace that begins further down", "0::/\n",
            HOST_MOUNTS "28 27 0:26 /../.. /sys/fs/cgroup rw,relatime shared:8" V2_CONTROLS, 4,
            { { FS "/cpu.max", "400000 100000\n" }, { FS "/a/b/cpu.max", "100000 100000\n" } } },
    { "the same for a group that was moved out of its namespace", "0::/../beside\n",
            HOST_MOUNTS "28 27 0:26 /.. /sys/fs/cgroup rw,relatime shared:8" V2_CONTROLS, 2,
            { { FS "/cpu.max", "400000 100000\n" }, { FS "/beside/cpu.max", "200000 100000\n" } } },
    { "a group that was moved out of all that is mounted", "0::/../beside\n",
            HOST_MOUNTS "28 27 0:26 / /sys/fs/cgroup rw,relatime shared:8" V2_CONTROLS, 0,
            { { FS "/cpu.max", "100000 100000\n" }, { "sys/fs/beside/cpu.max", "100000 100000\n" } } },
    { "blanks and a backslash in the names", "0::/my group/it\\s\n",
            HOST_MOUNTS "28 27 0:26 /my\\040group /mnt/the\\040groups\\134here rw,relatime shared:8" V2_CONTROLS, 3,
            { { "mnt/the groups\\here/cpu.max", "max 100000\n" },
                    { "mnt/the groups\\here/it\\s/cpu.max", "300000 100000\n" } } },
    { "mounted twice, the first shows a part", "0::/a/b\n",
            HOST_MOUNTS "28 27 0:26 /a/b /mnt/part rw" V2_CONTROLS "29 27 0:26 / /mnt/all rw master:1 propagate_from:2"
                        V2_CONTROLS,
            2,
            { { "mnt/part/cpu.max", "700000 100000\n" }, { "mnt/all/a/b/cpu.max", "700000 100000\n" },
                    { "mnt/all/a/cpu.max", "200000 100000\n" } } },
    { "a group that was removed under its process", "0::/a/b (deleted)\n",
            HOST_MOUNTS "28 27 0:26 / /sys/fs/cgroup rw" V2_CONTROLS, 6, { { FS "/a/cpu.max", "600000 100000\n" } } },
    { "v1 whose quota and period are not numbers", V1_GROUP, BOX_MOUNTS V1_DOCKER(DOCKER), 0,
            { { FS "/cpu,cpuacct/cpu.cfs_quota_us", "200000 100000\n" },
                    { FS "/cpu,cpuacct/cpu.cfs_period_us", "0x186a0\n" } } },
};

static void plant(const struct tree *t)
{
    write_file("proc/self/cgroup", t->cgroup);
    write_file("proc/self/mountinfo", t->mounts);
    for (int i = 0; i < COUNT(t->files) && t->files[i].path; i++)
        write_file(t->files[i].path, t->files[i].text);
}

START_TEST(recorded_trees_give_their_quota)
{
    const struct tree *t = &trees[_i];
    plant(t);
    int got = weft__cpus_quota(root);
    ck_assert_msg(got == t->quota, "%s: %d, not %d", t->name, got, t->quota);
}
END_TEST

/* Whatever is made of the two files that say where to look: a number that no file has never comes out (Q1). */
static bool in_a_file(const struct tree *t, int quota)
{
    static const long long unlimited = -1;
    long long v1_quota = unlimited, a, b;
    if (quota == 0)
        return true;
    for (int i = 0; i < COUNT(t->files) && t->files[i].path; i++) {
        const char *text = t->files[i].text;
        if (strstr(t->files[i].path, "cfs_quota"))
            v1_quota = atoll(text);
        else if (strstr(t->files[i].path, "cfs_period"))
            a = v1_quota, b = atoll(text);
        if (!strstr(t->files[i].path, "cfs_period") &&
                (!strstr(t->files[i].path, "cpu.max") || sscanf(text, "%lld %lld", &a, &b) != 2))
            continue;
        if (a > 0 && (a + b - 1) / b == quota)
            return true;
    }
    return false;
}

static void rewrite(const char *path, const char *text, size_t n)
{
    char whole[PATH_MAX];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    unlink(whole); /* some filesystems write a truncated file to the disk at once */
    FILE *f = fopen(whole, "w");
    ck_assert_ptr_nonnull(f);
    fwrite(text, 1, n, f);
    fclose(f);
}

static void must_be_in_a_file(const struct tree *t, const char *how, size_t at)
{
    int got = weft__cpus_quota(root);
    ck_assert_msg(in_a_file(t, got), "%s, %s at %zu: %d", t->name, how, at, got);
}

START_TEST(files_that_are_cut_off_anywhere_mislead_nobody)
{
    const struct tree *t = &trees[_i];
    plant(t);
    for (size_t n = strlen(t->cgroup); n-- > 0;) {
        rewrite("proc/self/cgroup", t->cgroup, n);
        must_be_in_a_file(t, "groups cut", n);
    }
    rewrite("proc/self/cgroup", t->cgroup, strlen(t->cgroup));
    for (size_t n = strlen(t->mounts); n-- > 0;) {
        rewrite("proc/self/mountinfo", t->mounts, n);
        must_be_in_a_file(t, "mounts cut", n);
    }
}
END_TEST

/* A few bytes changed, left out, doubled, or swapped for those that mean something. */
static size_t garble(char *text, size_t n, uint64_t *seed)
{
    static const char telling[] = " \n/:,.-\\0479\t\0cpu";
    uint32_t changes = next_random(seed) % 6 + 1;
    for (uint32_t i = 0; i < changes && n > 1; i++) {
        size_t at = next_random(seed) % n, to = next_random(seed) % n;
        switch (next_random(seed) % 4) {
        case 0:
            text[at] = (char)next_random(seed);
            break;
        case 1:
            text[at] = telling[next_random(seed) % sizeof telling];
            break;
        case 2:
            memmove(text + at, text + at + 1, n - at - 1);
            n--;
            break;
        default:
            text[at] = text[to];
            break;
        }
    }
    return n;
}

START_TEST(garbled_files_mislead_nobody)
{
    enum { ROUNDS = 600 };
    const struct tree *t = &trees[_i];
    uint64_t seed = (uint64_t)_i + 1;
    char *text = malloc(strlen(t->cgroup) + strlen(t->mounts) + 1);
    plant(t);
    for (size_t round = 0; round < ROUNDS; round++) {
        bool both = round % 3 == 2;
        for (int k = 0; k < 2; k++) {
            const char *whole = k == 0 ? t->cgroup : t->mounts;
            size_t n = strlen(whole);
            memcpy(text, whole, n);
            if (both || (size_t)k == round % 3)
                n = garble(text, n, &seed);
            rewrite(k == 0 ? "proc/self/cgroup" : "proc/self/mountinfo", text, n);
        }
        must_be_in_a_file(t, "garbled", round);
    }
    free(text);
}
END_TEST

/* A quota that was garbled is none, or another number; it never is below 1 or breaks anything. */
START_TEST(garbled_numbers_are_numbers_or_none)
{
    static const char *const texts[] = { "200000 100000\n", "max 100000\n", "9223372036854775807 1\n" };
    uint64_t seed = 77;
    groups("0::/a\n", V2_LINE("/", "/sys/fs/cgroup"));
    write_file("sys/fs/cgroup/a/cpu.max", "");
    for (int round = 0; round < 3000; round++) {
        char text[64];
        const char *whole = texts[round % COUNT(texts)];
        size_t n = strlen(whole);
        memcpy(text, whole, n);
        n = garble(text, n, &seed);
        rewrite("sys/fs/cgroup/a/cpu.max", text, n);
        ck_assert_int_ge(weft__cpus_quota(root), 0);
    }
}
END_TEST

START_TEST(numbers_at_the_edges)
{
    static const struct {
        const char *max;
        int quota;
    } v[] = { { "9223372036854775807 1\n", INT_MAX }, { "9223372036854775808 1\n", 0 },
        { "99999999999999999999999 100000\n", 0 }, { "2147483647 1\n", INT_MAX }, { "2147483646 1\n", INT_MAX - 1 },
        { "1 9223372036854775807\n", 1 }, { "200000  100000\n", 0 }, { "200000 100000 1\n", 0 }, { "200000\n", 0 },
        { "200000 100000", 2 }, { " 200000 100000\n", 0 }, { "2e5 100000\n", 0 }, { "+200000 100000\n", 0 },
        { "200000 max\n", 0 }, { "\n200000 100000\n", 0 } };
    groups("0::/a\n", V2_LINE("/", "/sys/fs/cgroup"));
    for (int i = 0; i < COUNT(v); i++) {
        write_file("sys/fs/cgroup/a/cpu.max", v[i].max);
        int got = weft__cpus_quota(root);
        ck_assert_msg(got == v[i].quota, "\"%s\": %d", v[i].max, got);
    }
}
END_TEST

/* An overlay of a hundred layers has a line of many kilobytes; a group may be nested more deeply than a path can be. */
START_TEST(lines_may_be_of_any_length)
{
    enum { LONG = 200000, DEEP = 3000 };
    char *line = malloc(LONG + 4096), *group = malloc(2 * DEEP + 64);
    int n = sprintf(line, "612 540 0:56 / / rw,relatime - overlay overlay rw,lowerdir=");
    memset(line + n, 'l', LONG);
    sprintf(line + n + LONG, "\n" V2_LINE("/", "/sys/fs/cgroup"));
    n = sprintf(group, "0::/a");
    for (int i = 0; i < DEEP; i++)
        n += sprintf(group + n, "/b");
    write_file("proc/self/cgroup", group);
    write_file("proc/self/mountinfo", line);
    write_file("sys/fs/cgroup/a/b/b/cpu.max", "200000 100000\n");
    write_file("sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    ck_assert_int_eq(weft__cpus_quota(root), 2);
    free(group);
    free(line);
}
END_TEST

START_TEST(the_real_ones_give_at_least_one_processor)
{
    ck_assert_int_ge(weft__cpus_affinity(), 1);
    ck_assert_int_ge(weft__cpus_quota(""), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0)
        ck_assert_int_eq(weft__cpus_affinity(), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cpus");
    TCase *tc = add_case(s, "quota");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, v2_rounds_up_and_max_is_none, 0, COUNT(values));
    tcase_add_test(tc, the_least_of_all_groups_above_counts);
    tcase_add_test(tc, what_is_above_or_beside_the_mount_does_not_count);
    tcase_add_test(tc, a_quota_that_changes_is_read_anew);
    tcase_add_test(tc, a_group_without_the_file_is_passed_over);
    tcase_add_test(tc, a_process_in_the_root_group_reads_the_mount_itself);
    tcase_add_test(tc, a_container_sees_its_own_group_as_the_mount);
    tcase_add_test(tc, a_mount_of_another_group_is_not_taken_for_ours);
    tcase_add_test(tc, v1_reads_quota_and_period);
    tcase_add_test(tc, v1_nests);
    tcase_add_test(tc, v1_in_a_container);
    tcase_add_test(tc, other_controllers_are_not_the_processors);
    tcase_add_test(tc, hybrid_reads_both_and_the_least_counts);
    tcase_add_test(tc, without_files_there_is_no_quota);
    tcase_add_test(tc, broken_lines_are_passed_over);
    tcase_add_loop_test(tc, recorded_trees_give_their_quota, 0, COUNT(trees));
    tcase_add_loop_test(tc, files_that_are_cut_off_anywhere_mislead_nobody, 0, COUNT(trees));
    tcase_add_loop_test(tc, garbled_files_mislead_nobody, 0, COUNT(trees));
    tcase_add_test(tc, garbled_numbers_are_numbers_or_none);
    tcase_add_test(tc, numbers_at_the_edges);
    tcase_add_test(tc, lines_may_be_of_any_length);
    tc = add_case(s, "real");
    tcase_add_test(tc, the_real_ones_give_at_least_one_processor);
    return run_suite(s);
}
