/* stress/forkjoin.c - trees of tasks, joined in any order, by anybody, or not at all.
 *
 * A node spawns children and joins them: in order, in reverse, shuffled, some of them twice, some of them never, from
 * an inner scope, by a sibling. Nodes yield, sleep and compute, before, between and after; also when they run as a
 * plain call on their joiner's stack.
 *
 * Law       the tree's value is the one that a plain recursion finds; each node ran once; a joined child's value is
 *           there. */
#include "support.h"

enum { LANES = SCALED(8, 3), CHILDREN = 5, NODES = SCALED(3000, 250) };

static atomic_ulong n_trees, n_nodes, n_joins, n_again, n_siblings, n_waits, n_unjoined, n_inner;

struct node {
    uint64_t chance, value;
    int depth;
    weft_task task, sibling; /* plain: written before the spawn of this one, or after it by the owner alone */
    const struct node *brother;
    int runs;
};

/* What the shape depends on: the chance of the node alone. */
static int fan_out(uint64_t chance, int depth)
{
    struct chance c = { chance_mix(chance + 1) };
    return depth == 0 ? 0 : (int)chance_below(&c, CHILDREN + 1);
}

static uint64_t child_chance(uint64_t chance, int i)
{
    return chance_mix(chance ^ ((uint64_t)i + 1) << 32);
}

static int nodes_of(uint64_t chance, int depth)
{
    int n = 1, fan = fan_out(chance, depth);
    for (int i = 0; i < fan; i++)
        n += nodes_of(child_chance(chance, i), depth - 1);
    return n;
}

static uint64_t value_of(uint64_t chance, int depth)
{
    uint64_t value = chance_mix(chance);
    int fan = fan_out(chance, depth);
    for (int i = 0; i < fan; i++)
        value = value * 31 + value_of(child_chance(chance, i), depth - 1);
    return value;
}

static void dawdle(struct chance *c)
{
    int rc = 0;
    switch (chance_below(c, 12)) {
    case 0:
        rc = weft_yield();
        break;
    case 1:
        rc = weft_sleep(chance_below(c, 50000));
        break;
    case 2:
        compute(chance_below(c, 5000));
        break;
    case 3:
        for (int i = 0; i < 3 && rc == 0; i++)
            rc = weft_yield();
        break;
    default:
        return;
    }
    CHECK(rc == 0, "nobody cancels here: %s", weft_strerror(rc));
    atomic_fetch_add(&n_waits, 1);
}

static void join_one(const struct node *k)
{
    int rc = weft_task_join(k->task);
    CHECK(rc == 0, "join: %s", weft_strerror(rc));
    CHECK(k->runs == 1, "a joined child ran %d times", k->runs);
    CHECK(k->value == value_of(k->chance, k->depth), "a joined child's value");
    atomic_fetch_add(&n_joins, 1);
}

static void shuffle(int *order, int n, struct chance *c)
{
    for (int i = n - 1; i > 0; i--) {
        int j = (int)chance_below(c, (uint32_t)i + 1), had = order[i];
        order[i] = order[j];
        order[j] = had;
    }
}

static void join_some(struct node *kids, int n, struct chance *c)
{
    int order[CHILDREN], how = (int)chance_below(c, 6), some = n;
    for (int i = 0; i < n; i++)
        order[i] = how == 0 ? n - 1 - i : i; /* the newest first, or the oldest */
    if (how >= 2)
        shuffle(order, n, c);
    if (how == 5)
        some = (int)chance_below(c, (uint32_t)n + 1);
    atomic_fetch_add(&n_unjoined, (unsigned long)(n - some));
    for (int i = 0; i < some; i++) {
        join_one(&kids[order[i]]);
        dawdle(c);
        if (chance_one_in(c, 8)) {
            join_one(&kids[order[chance_below(c, (uint32_t)i + 1)]]);
            atomic_fetch_add(&n_again, 1);
        }
    }
}

static int run_node(void *arg)
{
    struct node *n = arg, kids[CHILDREN];
    struct chance c = { n->chance };
    int fan = fan_out(n->chance, n->depth), rc;
    n->runs++;
    if (n->sibling > 0 && chance_one_in(&c, 6)) { /* the one that was spawned before it */
        rc = weft_task_join(n->sibling);
        CHECK(rc == 0 && n->brother->runs == 1, "a sibling's join: %s", weft_strerror(rc));
        atomic_fetch_add(&n_siblings, 1);
    }
    dawdle(&c);
    if (fan > 0) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < fan; i++) {
            kids[i] = (struct node){ .chance = child_chance(n->chance, i), .depth = n->depth - 1,
                .sibling = i > 0 ? kids[i - 1].task : 0, .brother = i > 0 ? &kids[i - 1] : NULL };
            weft_task t = weft_spawn(&s, run_node, &kids[i]);
            CHECK(t > 0, "a spawn failed");
            kids[i].task = t;
            if (chance_one_in(&c, 4))
                dawdle(&c);
        }
        if (chance_one_in(&c, 8)) { /* from an inner scope they are not run as plain calls */
            weft_scope inner;
            weft_scope_begin(&inner, WEFT_NEVER);
            join_some(kids, fan, &c);
            CHECK(weft_scope_end(&inner, 0) == 0, "the inner scope");
            atomic_fetch_add(&n_inner, 1);
        } else if (!chance_one_in(&c, 6)) {
            join_some(kids, fan, &c);
        }
        rc = weft_scope_end(&s, 0);
        CHECK(rc == 0, "a node ended with %s", weft_strerror(rc));
    }
    n->value = chance_mix(n->chance);
    for (int i = 0; i < fan; i++) {
        CHECK(kids[i].runs == 1, "a child ran %d times", kids[i].runs);
        n->value = n->value * 31 + kids[i].value;
    }
    atomic_fetch_add(&n_nodes, 1);
    stress_moved();
    return 0;
}

static int lane(void *arg)
{
    struct chance c = chance_of(1, (uint64_t)(uintptr_t)arg);
    while (!stress_over()) {
        struct node root = { .chance = chance_bits(&c), .depth = 2 + (int)chance_below(&c, 7) };
        weft_scope s;
        if (nodes_of(root.chance, root.depth) > NODES)
            continue;
        weft_scope_begin(&s, WEFT_NEVER);
        root.task = weft_spawn(&s, run_node, &root);
        if (chance_one_in(&c, 2))
            join_one(&root);
        int rc = weft_scope_end(&s, 0);
        CHECK(rc == 0, "a tree ended with %s", weft_strerror(rc));
        CHECK(root.value == value_of(root.chance, root.depth), "a tree's value");
        atomic_fetch_add(&n_trees, 1);
    }
    return 0;
}

static int main_task(void *arg)
{
    weft_scope s;
    static weft_worker_stats st[1024];
    uint64_t *inlined = arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (uintptr_t i = 0; i < LANES; i++)
        weft_spawn(&s, lane, (void *)i);
    int rc = weft_scope_end(&s, 0), n = weft_stats(NULL, st, 0);
    CHECK(n >= stress_workers, "weft_stats: %d", n); /* spares are counted with them */
    n = weft_stats(NULL, st, COUNT(st));
    for (int i = 0; i < n; i++)
        *inlined += st[i].inlined;
    return rc;
}

int main(int argc, char **argv)
{
    uint64_t inlined = 0;
    stress_begin(argc, argv, "forkjoin");
    weft_runtime *rt = stress_runtime();
    int rc = weft_runtime_run(rt, main_task, &inlined);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    CHECK(weft_task_list(NULL, 0) == 0, "%d tasks are left", weft_task_list(NULL, 0));
    stress_count("trees", n_trees, stress_least(10));
    stress_count("nodes", n_nodes, stress_least(5000));
    stress_count("run as plain calls", inlined, SCALED(stress_least(500), 0));
    stress_count("joins", n_joins, stress_least(2000));
    stress_count("joined again", n_again, stress_least(200));
    stress_count("joined by a sibling", n_siblings, stress_least(200));
    stress_count("joined from an inner scope", n_inner, stress_least(50));
    stress_count("not joined", n_unjoined, stress_least(100));
    stress_count("waits", n_waits, stress_least(500));
    return stress_end();
}
