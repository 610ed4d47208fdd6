/* cpus_test.c - how many processors the process may use: base/cpus.c on recorded trees. */
#include "support.h"

#include <limits.h>
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

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char whole[PATH_MAX];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(whole, sizeof whole, "%s/%s", path, e->d_name);
        if (unlink(whole) < 0)
            remove_tree(whole);
    }
    if (d)
        closedir(d);
    rmdir(path);
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
    tc = add_case(s, "real");
    tcase_add_test(tc, the_real_ones_give_at_least_one_processor);
    return run_suite(s);
}
