/* topology_test.c - which processors are near each other, and whom a thief asks first: base/topology.c on trees of files as
 * machines show them, sched/place.c on places, and a runtime whose processors are said to be apart.
 *
 * A file in tests/topology is a tree:
 *
 *     # a remark
 *     PATH = TEXT       below sys/devices/system; "{0-3,8}" in PATH: once for each of these
 *     > LIST @ GROUP    what is to be found: these processors are in one place, and one step from others of the group
 *
 * Of caches below the last, lists are there only where they could mislead. */
#include "folders.h"
#include "support.h"

#include <sys/stat.h>

#include "base/fault.h"
#include "base/rng.h"
#include "base/topology.h"
#include "engine/worker.h"
#include "sched/place.h"

/* -- trees of files -- */

/* In memory where that is possible: a tree has some hundred files. */
#define NAME "weft-topology-XXXXXX"
static char root[64], here[64];

static void make_folder(char name[64])
{
    strcpy(name, "/dev/shm/" NAME);
    if (mkdtemp(name))
        return;
    strcpy(name, "/tmp/" NAME);
    if (!mkdtemp(name))
        abort();
}

static void write_bytes(const char *under, const char *path, const char *text, size_t n)
{
    char whole[PATH_MAX];
    snprintf(whole, sizeof whole, "%s/sys/devices/system/%s", under, path);
    unlink(whole); /* some filesystems write a truncated file to the disk at once */
    FILE *f = fopen(whole, "w");
    for (char *p = whole + strlen(under) + 1; !f && (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        mkdir(whole, 0700);
        *p = '/';
    }
    if (!f && !(f = fopen(whole, "w")))
        abort();
    fwrite(text, 1, n, f);
    fclose(f);
}

static void write_file(const char *path, const char *text)
{
    write_bytes(root, path, text, strlen(text));
}

static void setup(void)
{
    make_folder(root);
}

static void teardown(void)
{
    remove_tree(root);
}

/* Another reader of lists, for trees that are in order. */
static void add_list(struct weft__processors *set, const char *list)
{
    unsigned from, to;
    for (int n; sscanf(list, "%u%n", &from, &n) == 1; list += *list == ',') {
        list += n;
        to = from;
        if (sscanf(list, "-%u%n", &to, &n) == 1)
            list += n;
        for (; from <= to; from++)
            weft__processors_add(set, from);
    }
}

enum { PLACES_MOST = 32 };

/* What a file says, and what is to be found. */
static struct {
    struct weft__processors place[PLACES_MOST];
    int group[PLACES_MOST], n;
    char text[1 << 14];
} tree;

static void plant(char *path, const char *text)
{
    char line[PATH_MAX], each[PATH_MAX];
    char *open = strchr(path, '{'), *close = strchr(path, '}');
    snprintf(line, sizeof line, "%s\n", text);
    if (!open) {
        write_file(path, line);
        return;
    }
    struct weft__processors set = { { 0 } };
    *open = *close = 0;
    add_list(&set, open + 1);
    for (unsigned p = 0; p < WEFT__PROCESSORS_MOST; p++) {
        if (!weft__processors_has(&set, p))
            continue;
        snprintf(each, sizeof each, "%s%u%s", path, p, close + 1);
        write_file(each, line);
    }
}

static void expect_place(char *line)
{
    char *at = strchr(line, '@');
    ck_assert(at && tree.n < PLACES_MOST);
    tree.group[tree.n] = atoi(at + 1);
    add_list(&tree.place[tree.n++], line + 2);
}

static void plant_tree(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", TREES, name);
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    size_t n = fread(tree.text, 1, sizeof tree.text - 1, f);
    fclose(f);
    tree.text[n] = 0;
    memset(tree.place, 0, sizeof tree.place);
    tree.n = 0;
    for (char *line = strtok(tree.text, "\n"); line; line = strtok(NULL, "\n")) {
        char *text = strstr(line, " =");
        if (line[0] == '>')
            expect_place(line);
        if (line[0] == '>' || line[0] == '#')
            continue;
        ck_assert_ptr_nonnull(text);
        *text = 0;
        plant(line, text[2] ? text + 3 : "");
    }
}

static const char *const trees[] = { "aarch64_big_little", "aarch64_no_caches", "clusters_of_a_cache", "epyc_one_node",
    "epyc_two_sockets", "hybrid_one_chip", "hybrid_two_chips", "malformed", "nodes_alone", "off_line", "one_socket",
    "two_sockets", "virtual_own_caches" };

static struct weft__topology t;

/* -- places -- */

static int place_of(unsigned p)
{
    for (int i = 0; i < tree.n; i++)
        if (weft__processors_has(&tree.place[i], p))
            return i;
    return -1;
}

static unsigned distance(unsigned p, unsigned q)
{
    return weft__topology_distance(weft__topology_place(&t, p), weft__topology_place(&t, q));
}

/* As affinity may have it. */
static void check_parts(void)
{
    struct weft__processors all = { { 0 } }, none = { { 0 } };
    ck_assert(!weft__topology_apart(&t, &none));
    for (int i = 0; i < tree.n; i++) {
        struct weft__processors two = tree.place[i];
        ck_assert(!weft__topology_apart(&t, &tree.place[i]));
        for (unsigned p = 0; p < WEFT__PROCESSORS_MOST; p++) {
            if (!weft__processors_has(&tree.place[(i + 1) % tree.n], p))
                continue;
            weft__processors_add(&two, p); /* a first of another place */
            weft__processors_add(&all, p);
            if (weft__topology_apart(&t, &two) != (tree.n > 1))
                ck_abort_msg("%u", p);
        }
    }
    ck_assert(weft__topology_apart(&t, &all) == (tree.n > 1));
}

START_TEST(trees_give_their_places_and_so_do_parts_of_them)
{
    plant_tree(trees[_i]);
    weft__topology_read(&t, root);
    int seen = 0;
    for (unsigned p = 0; p < 128; p++)
        for (unsigned q = 0; q < 128; q++) {
            int a = place_of(p), b = place_of(q);
            if (a < 0 || b < 0)
                continue;
            unsigned right = a == b ? 0 : tree.group[a] == tree.group[b] ? 1 : 2;
            if (distance(p, q) != right)
                ck_abort_msg("%s: %u and %u: %u", trees[_i], p, q, distance(p, q));
            seen++;
        }
    ck_assert_int_gt(seen, 0);
    check_parts();
}
END_TEST

static void all_in_one_place(const char *what, unsigned n)
{
    unsigned p = 1;
    while (p < n && distance(0, p) == 0)
        p++;
    ck_assert_msg(p == n, "%s: %u", what, p);
    ck_assert_uint_ne(weft__topology_place(&t, 0), 0);
    ck_assert_uint_eq(weft__topology_place(&t, WEFT__PROCESSORS_MOST), 0);
    ck_assert_uint_eq(weft__topology_place(&t, UINT_MAX), 0);
}

START_TEST(without_files_all_are_in_one_place)
{
    weft__topology_read(&t, root);
    all_in_one_place("nothing", WEFT__PROCESSORS_MOST);
    weft__topology_read(&t, "/dev/null");
    all_in_one_place("no folder", WEFT__PROCESSORS_MOST);
    char *name = malloc(3000); /* longer than what we open */
    memset(name, 'x', 2999);
    name[2999] = 0;
    weft__topology_read(&t, name);
    all_in_one_place("a long name", WEFT__PROCESSORS_MOST);
    free(name);
}
END_TEST

/* Of lists that are none. */
static const char *const no_lists[] = { "0-", "-3", "0,,3", "0-3,", ",0-3", "3-0", "0 - 3", "0-3 ", "a", "0-3\n\n", "0-3\n4-7",
    "0x3", "0-3,5-4", "0-3-5", "0-3:1/2", "0\t3", "\n\n", "-", "," };

START_TEST(a_list_that_makes_no_sense_is_none)
{
    plant_tree("two_sockets");
    for (int i = 0; i < COUNT(no_lists); i++) {
        write_file("node/node0/cpulist", no_lists[i]);
        write_file("node/node1/cpulist", no_lists[i]);
        write_file("cpu/cpu1/cache/index3/shared_cpu_list", "0-15\n");
        write_file("cpu/cpu0/cache/index3/shared_cpu_list", no_lists[i]);
        weft__topology_read(&t, root);
        all_in_one_place(no_lists[i], 16);
        write_file("cpu/cpu0/cache/index3/shared_cpu_list", "1-15\n");
        write_file("cpu/cpu1/cache/index3/shared_cpu_list", "1-15\n");
        weft__topology_read(&t, root);
        ck_assert_uint_eq(distance(0, 1), 1);
        write_file("cpu/online", no_lists[i]); /* nobody is asked, then */
        weft__topology_read(&t, root);
        all_in_one_place(no_lists[i], WEFT__PROCESSORS_MOST);
        write_file("node/node0/cpulist", "0-1\n");
        weft__topology_read(&t, root);
        ck_assert_uint_eq(distance(0, 2), 2);
        write_file("node/online", no_lists[i]);
        weft__topology_read(&t, root);
        all_in_one_place(no_lists[i], WEFT__PROCESSORS_MOST);
        write_file("node/online", "0-1\n");
        write_file("cpu/online", "0-15\n");
    }
}
END_TEST

START_TEST(lists_may_be_of_any_length_and_numbers_of_any_size)
{
    enum { ROOM = 1 << 16 };
    char *even = malloc(ROOM), *odd = malloc(ROOM);
    size_t n = 0, m = 0;
    for (unsigned p = 0; p < WEFT__PROCESSORS_MOST + 100; p += 2) {
        n += (size_t)snprintf(even + n, ROOM - n, "%s%u", p ? "," : "", p);
        m += (size_t)snprintf(odd + m, ROOM - m, "%s%u", p ? "," : "", p + 1);
    }
    write_file("node/online", "0-1,7,99999999999999999999999-99999999999999999999999\n");
    write_file("node/node0/cpulist", even);
    write_file("node/node1/cpulist", odd);
    write_file("node/node7/cpulist", "0-18446744073709551616\n"); /* they have theirs */
    weft__topology_read(&t, root);
    unsigned p = 0;
    while (p < WEFT__PROCESSORS_MOST && distance(p, 0) == (p % 2 ? 2 : 0))
        p++;
    ck_assert_uint_eq(p, WEFT__PROCESSORS_MOST);
    free(even);
    free(odd);
}
END_TEST

START_TEST(of_lists_that_contradict_each_other_the_first_counts)
{
    plant_tree("one_socket");
    write_file("cpu/cpu0/cache/index3/shared_cpu_list", "0-1\n");
    write_file("cpu/cpu2/cache/index3/shared_cpu_list", "1-3\n");
    weft__topology_read(&t, root);
    ck_assert_uint_eq(distance(0, 1), 0);
    ck_assert_uint_eq(distance(2, 3), 0);
    ck_assert_uint_eq(distance(1, 2), 1);
}
END_TEST

START_TEST(a_list_without_the_processor_itself_is_none)
{
    plant_tree("one_socket");
    for (unsigned p = 0; p < 4; p++) {
        char path[64];
        snprintf(path, sizeof path, "cpu/cpu%u/cache/index3/shared_cpu_list", p);
        write_file(path, p < 2 ? "2-3\n" : "0-1\n");
    }
    weft__topology_read(&t, root);
    for (unsigned p = 1; p < 4; p++)
        ck_assert_uint_eq(distance(0, p), 0);
}
END_TEST

static bool each_has_a_cache(void)
{
    unsigned p = 0;
    while (p < WEFT__PROCESSORS_MOST && t.cache[p] != 0)
        p++;
    return p == WEFT__PROCESSORS_MOST;
}

START_TEST(a_cache_for_instructions_alone_is_not_the_last)
{
    plant_tree("one_socket");
    for (unsigned p = 0; p < 4; p++) {
        char path[64];
        snprintf(path, sizeof path, "cpu/cpu%u/cache/index1/level", p);
        write_file(path, "9\n");
        snprintf(path, sizeof path, "cpu/cpu%u/cache/index1/shared_cpu_list", p);
        write_file(path, p < 2 ? "0-1\n" : "2-3\n");
    }
    weft__topology_read(&t, root);
    ck_assert_uint_eq(distance(0, 3), 0);
    write_file("cpu/cpu0/cache/index1/type", "Data\n");
    weft__topology_read(&t, root);
    ck_assert_uint_eq(distance(0, 3), 1);
}
END_TEST

/* Some file of the tree with some bytes changed: no place is nobody's, and whoever is on no changed list stays. */
START_TEST(garbled_files_harm_nobody)
{
    static const char *const files[] = { "cpu/online", "node/online", "node/node0/cpulist", "cpu/cpu0/cache/index3/level",
        "cpu/cpu0/cache/index3/type", "cpu/cpu0/cache/index3/shared_cpu_list", "cpu/cpu1/cache/index3/shared_cpu_list" };
    static const char *const good[] = { "0-15\n", "0-1\n", "0,2,4,6,8,10,12,14\n", "3\n", "Unified\n",
        "0,2,4,6,8,10,12,14\n", "1,3,5,7,9,11,13,15\n" };
    static const char telling[] = " \n,-09\0z";
    uint64_t seed = (uint64_t)_i + 1;
    plant_tree("two_sockets");
    for (int round = 0; round < SCALED(400, 100, 50); round++) {
        uint32_t which = weft__rng_next(&seed) % COUNT(files);
        char text[64];
        size_t n = strlen(good[which]);
        memcpy(text, good[which], n);
        for (uint32_t k = weft__rng_next(&seed) % 3 + 1; k > 0; k--)
            text[weft__rng_next(&seed) % n] = telling[weft__rng_next(&seed) % sizeof telling];
        write_bytes(root, files[which], text, weft__rng_next(&seed) % (n + 1));
        weft__topology_read(&t, root);
        ck_assert(each_has_a_cache());
        write_file(files[which], good[which]);
    }
    weft__topology_read(&t, root);
    ck_assert_uint_eq(distance(0, 14), 0);
    ck_assert_uint_eq(distance(0, 15), 2);
}
END_TEST

START_TEST(this_machine_can_be_read)
{
    weft__topology_read(&t, "");
    ck_assert(each_has_a_cache());
}
END_TEST

/* -- orders -- */

static at_int places[WEFT__WORKERS_MOST];
static uint16_t order[WEFT__WORKERS_MOST];

/* Not by ck_assert for each: that is a system call. */
static void check_order(uint32_t n, uint32_t me, uint32_t random)
{
    static bool seen[WEFT__WORKERS_MOST];
    unsigned last = 0;
    memset(seen, 0, sizeof seen);
    ck_assert_uint_eq(weft__place_order(places, n, me, random, order), n - 1);
    for (uint32_t i = 0; i < n - 1; i++) {
        uint32_t worker = order[i];
        unsigned d = worker < n ? weft__topology_distance(places[me], places[worker]) : 0;
        if (worker >= n || worker == me || seen[worker] || d < last)
            ck_abort_msg("worker %u of %u comes at %u to %u", worker, n, i, me);
        seen[worker] = true;
        last = d;
    }
}

START_TEST(an_order_has_each_worker_once_and_the_near_first)
{
    uint64_t seed = (uint64_t)_i + 1;
    for (int round = 0; round < SCALED(3000, 500, 200); round++) {
        uint32_t n = weft__rng_next(&seed) % (round % 50 == 0 ? WEFT__WORKERS_MOST : 70) + 1;
        uint32_t caches = weft__rng_next(&seed) % 8 + 1, nodes = weft__rng_next(&seed) % 4 + 1;
        for (uint32_t i = 0; i < n; i++)
            places[i] = weft__rng_next(&seed) % 8 == 0 ? 0 /* has not told yet */
                    : (weft__rng_next(&seed) % caches + 1) << 16 | weft__rng_next(&seed) % nodes;
        check_order(n, weft__rng_next(&seed) % n, weft__rng_next(&seed));
    }
}
END_TEST

START_TEST(an_order_of_the_most_workers)
{
    for (uint32_t i = 0; i < WEFT__WORKERS_MOST; i++)
        places[i] = (i / 16 + 1) << 16 | i / 256;
    for (uint32_t me = 0; me < WEFT__WORKERS_MOST; me += 93)
        check_order(WEFT__WORKERS_MOST, me, UINT32_MAX - me);
}
END_TEST

/* Four workers in each cache of an EPYC: over all random numbers each of the same cache is the first as often as another, and
 * so for those of the node, and of the rest. */
START_TEST(each_of_the_same_distance_is_the_first_as_often)
{
    enum { N = 64, DRAWS = 3 * 4 * 56 }; /* how many there are of each, and what all of that divides */
    int first[3][N] = { { 0 } };
    plant_tree("epyc_two_sockets");
    weft__topology_read(&t, root);
    for (unsigned i = 0; i < N; i++)
        places[i] = weft__topology_place(&t, i / 4 * 3 + (i % 4 == 3 ? 48 : i % 4));
    for (uint32_t random = 0; random < DRAWS; random++) {
        check_order(N, 17, random);
        first[0][order[0]]++;
        first[1][order[3]]++;
        first[2][order[7]]++;
    }
    for (unsigned i = 0; i < N; i++) {
        unsigned d = weft__topology_distance(places[17], places[i]);
        int right = DRAWS / (d == 0 ? 3 : d == 1 ? 4 : 56);
        for (unsigned k = 0; k < 3; k++)
            ck_assert_int_eq(first[k][i], k == d && i != 17 ? right : 0);
    }
}
END_TEST

START_TEST(a_busy_worker_looks_nearby_and_sometimes_anywhere)
{
    enum { N = 24, DRAWS = 24000 };
    int near = 0, drawn[N] = { 0 };
    uint64_t seed = 7;
    for (uint32_t i = 0; i < N; i++)
        places[i] = (i / 6 + 1) << 16;
    for (int k = 0; k < DRAWS; k++) {
        uint32_t i = weft__place_draw(places, N, 8, weft__rng_next(&seed));
        if (i >= N)
            ck_abort_msg("%u", i);
        drawn[i]++;
        near += i / 6 == 1;
    }
    for (int i = 0; i < N; i++)
        ck_assert_int_gt(drawn[i], DRAWS / 4 / N / 2); /* all of them are, now and then */
    ck_assert_int_gt(near, DRAWS * 3 / 4);
    places[8] = 9 << 16; /* nobody is there */
    memset(drawn, 0, sizeof drawn);
    for (int k = 0; k < DRAWS; k++)
        drawn[weft__place_draw(places, N, 8, weft__rng_next(&seed))]++;
    for (int i = 0; i < N; i++)
        ck_assert_int_gt(drawn[i], DRAWS / N / 2);
}
END_TEST

/* -- a runtime -- */

enum { LEAVES_MOST = 4096 };

struct seen {
    atomic_int leaves, strangers;
    int left; /* of the fork */
    bool has_places;
};

NOINLINE static bool told(void)
{
    struct weft__sched *s = weft__self();
    return !s->group->places || ati_load(&s->group->places[s->id]) != 0;
}

struct branch {
    struct seen *seen;
    int leaves;
};

static int fork_tree(void *arg)
{
    struct branch *b = arg;
    if (!told())
        atomic_fetch_add(&b->seen->strangers, 1);
    if (b->leaves == 1) {
        atomic_fetch_add(&b->seen->leaves, 1);
        return weft_yield();
    }
    struct branch halves[2] = { { b->seen, b->leaves / 2 }, { b->seen, b->leaves - b->leaves / 2 } };
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 2; i++)
        weft_spawn(&s, fork_tree, &halves[i]);
    return weft_scope_end(&s, 0);
}

NOINLINE static bool has_places(void)
{
    return weft__self()->group->places != NULL;
}

static int run_tree(void *arg)
{
    struct seen *seen = arg;
    struct branch all = { seen, SCALED(LEAVES_MOST, 1000, 300) };
    seen->left = all.leaves;
    seen->has_places = has_places();
    return fork_tree(&all);
}

static struct seen run_on(int workers)
{
    struct seen seen = { 0 };
    ck_assert_int_eq(weft_run(run_tree, &seen, ON(workers)), 0);
    ck_assert_int_eq(atomic_load(&seen.leaves), seen.left);
    ck_assert_int_eq(atomic_load(&seen.strangers), 0); /* whoever runs has told where */
    return seen;
}

/* Every second of this process's processors is on another node than the one before. */
static int plant_here(void)
{
    cpu_set_t mine;
    char list[2][8 * CPU_SETSIZE] = { "", "" };
    int n = 0;
    make_folder(here);
    if (sched_getaffinity(0, sizeof mine, &mine) < 0)
        return 0;
    for (unsigned p = 0; p < CPU_SETSIZE; p++)
        if (CPU_ISSET(p, &mine)) {
            char *to = list[n++ % 2];
            sprintf(to + strlen(to), "%s%u", *to ? "," : "", p);
        }
    write_bytes(here, "node/online", "0-1\n", 4);
    write_bytes(here, "node/node0/cpulist", list[0], strlen(list[0]));
    write_bytes(here, "node/node1/cpulist", list[1], strlen(list[1]));
    weft__topology_root = here;
    return n;
}

static int processors;

START_TEST(workers_tell_where_they_are_and_steal)
{
    static const int workers[] = { 3, 4, 16 };
    for (int round = 0; round < SCALED(10, 5, 3); round++)
        ck_assert(run_on(workers[_i]).has_places == (processors > 1));
}
END_TEST

START_TEST(two_workers_have_no_choice)
{
    ck_assert(!run_on(1).has_places);
    ck_assert(!run_on(2).has_places);
}
END_TEST

static void *run_bound(void *arg)
{
    cpu_set_t one, mine;
    sched_getaffinity(0, sizeof mine, &mine);
    CPU_ZERO(&one);
    for (unsigned p = 0; p < CPU_SETSIZE && CPU_COUNT(&one) == 0; p++)
        if (CPU_ISSET(p, &mine))
            CPU_SET(p, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0)
        *(struct seen *)arg = run_on(4);
    return NULL;
}

/* Its workers inherit the affinity of who starts them. */
START_TEST(a_runtime_that_is_bound_to_one_place_has_no_choice)
{
    struct seen seen = { .has_places = true };
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, run_bound, &seen), 0);
    pthread_join(thread, NULL);
    ck_assert(!seen.has_places);
}
END_TEST

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

START_TEST(each_allocation_at_the_start_may_fail)
{
    bool done = false;
    for (long nth = 1; !done; nth++) {
        ck_assert_int_lt(nth, 1000);
        weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
        int rc = weft_run(nothing, NULL, QUIETLY_ON(4));
        done = weft__fault_failed(WEFT__FAULT_ALLOC) == 0;
        weft__fault_clear();
        ck_assert(rc == 0 || rc == -ENOMEM);
        ck_assert_int_eq(weft_run(nothing, NULL, ON(4)), 0);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("topology");
    TCase *tc = add_case(s, "trees");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, trees_give_their_places_and_so_do_parts_of_them, 0, COUNT(trees));
    tcase_add_test(tc, without_files_all_are_in_one_place);
    tcase_add_test(tc, a_list_that_makes_no_sense_is_none);
    tcase_add_test(tc, lists_may_be_of_any_length_and_numbers_of_any_size);
    tcase_add_test(tc, of_lists_that_contradict_each_other_the_first_counts);
    tcase_add_test(tc, a_list_without_the_processor_itself_is_none);
    tcase_add_test(tc, a_cache_for_instructions_alone_is_not_the_last);
    tcase_add_loop_test(tc, garbled_files_harm_nobody, 0, 3);
    tcase_add_test(tc, this_machine_can_be_read);
    tc = add_case(s, "orders");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, an_order_has_each_worker_once_and_the_near_first, 0, 3);
    tcase_add_test(tc, an_order_of_the_most_workers);
    tcase_add_test(tc, each_of_the_same_distance_is_the_first_as_often);
    tcase_add_test(tc, a_busy_worker_looks_nearby_and_sometimes_anywhere);
    tc = add_case(s, "runtimes");
    tcase_add_loop_test(tc, workers_tell_where_they_are_and_steal, 0, 3);
    tcase_add_test(tc, two_workers_have_no_choice);
    tcase_add_test(tc, a_runtime_that_is_bound_to_one_place_has_no_choice);
    tcase_add_test(tc, each_allocation_at_the_start_may_fail);
    processors = plant_here();
    int rc = run_suite(s);
    remove_tree(here);
    return rc;
}
