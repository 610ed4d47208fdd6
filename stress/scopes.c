/* stress/scopes.c - random trees of scopes and tasks, and everything that ends them at once.
 *
 * Each tree is a root task; a node opens a scope (plain, with a deadline, or a shield), spawns children in every
 * way there is, moves its deadline, cancels, sleeps, computes, fails or returns. Beside the trees, plain threads
 * and tasks cancel scopes and tasks at random, spawn into open scopes, and run trees of their own.
 *
 * Law       every spawn with a positive result calls its function exactly once, and it has ended when its scope
 *           has; what it wrote is seen then; a scope's verdict is one that its history allows; -ECANCELED is told
 *           only to those who were told to leave. */
#include "support.h"

#include "coord/scope.h"

enum { NODES = SCALED(400, 40), DEPTH_MOST = 7, OPEN_MOST = 512, IDS = 1024 };

static atomic_ulong n_trees, n_tasks, n_cancelled, n_failed, n_expired, n_own_cancels, n_outside, n_fine,
        n_foreign, n_foreign_trees, n_bodies_failed, n_waits, n_dropped, n_service_waits;

struct tree {
    uint64_t number;
    atomic_int used;
    struct node *nodes;
};

struct node {
    struct tree *tree;
    struct node *parent;
    uint64_t chance;
    weft_scope *in; /* the scope it was spawned into; open for as long as it runs */
    int depth;
    atomic_int calls;
    weft_task task; /* what the spawn returned; written by the spawner */
    /* Plain: written by the node, read by its parent after the scope's end. */
    int ended;
    int returned;
    /* What happened to the node's own scope. */
    atomic_int cancels; /* weft_scope_cancel, counted before the call */
    atomic_int failures; /* of children, counted before they return */
    bool has_deadline;
};

/* ---- open scopes that anybody may cancel or spawn into; under the lock they do not end */

static struct {
    pthread_mutex_t lock;
    struct open {
        weft_scope *scope;
        struct node *node;
    } at[OPEN_MOST];
    int n;
} open_scopes = { .lock = PTHREAD_MUTEX_INITIALIZER };

static _Atomic(weft_task) ids[IDS];

static void open_add(weft_scope *s, struct node *n)
{
    pthread_mutex_lock(&open_scopes.lock);
    if (open_scopes.n < OPEN_MOST)
        open_scopes.at[open_scopes.n++] = (struct open){ s, n };
    pthread_mutex_unlock(&open_scopes.lock);
}

static void open_remove(weft_scope *s)
{
    pthread_mutex_lock(&open_scopes.lock);
    for (int i = 0; i < open_scopes.n; i++)
        if (open_scopes.at[i].scope == s) {
            open_scopes.at[i] = open_scopes.at[--open_scopes.n];
            break;
        }
    pthread_mutex_unlock(&open_scopes.lock);
}

/* ---- a node */

static int run_node(void *arg);

static struct node *node_new(struct tree *t, struct node *parent, struct chance *c)
{
    int i = atomic_fetch_add(&t->used, 1);
    if (i >= NODES)
        return NULL;
    struct node *n = &t->nodes[i];
    *n = (struct node){ .tree = t, .parent = parent, .chance = chance_bits(c),
        .depth = parent ? parent->depth + 1 : 0 };
    return n;
}

struct copied {
    struct node *node;
    char fill[100];
};

static int run_copied(void *arg)
{
    struct copied *c = arg;
    for (int i = 0; i < COUNT(c->fill); i++)
        CHECK(c->fill[i] == (char)(i * 3), "a copied argument arrived broken");
    return run_node(c->node);
}

static int run_pointer(void *arg)
{
    struct node *n;
    memcpy(&n, arg, sizeof n);
    return run_node(n);
}

static weft_task spawn_node(weft_scope *s, struct node *n, struct chance *c)
{
    struct copied big = { .node = n };
    n->in = s;
    for (int i = 0; i < COUNT(big.fill); i++)
        big.fill[i] = (char)(i * 3);
    weft_task t;
    switch (chance_below(c, 6)) {
    case 0:
        t = weft_spawn_copy(s, run_pointer, &n, sizeof n);
        break;
    case 1:
        t = weft_spawn_copy(s, run_copied, &big, sizeof big);
        break;
    case 2:
        t = weft_spawn_with(s, run_node, n, &(weft_spawn_options){ .name = "node", .stack_bytes = 32768 });
        break;
    case 3:
        t = weft_spawn_with(s, run_node, n,
                &(weft_spawn_options){ .pin = (int)chance_below(c, (uint32_t)stress_workers) + 1 });
        break;
    default:
        t = weft_spawn(s, run_node, n);
        break;
    }
    if (t > 0)
        atomic_store(&ids[chance_below(c, IDS)], t);
    return t;
}

/* Something to do, that may be refused. */
static int act(struct node *n, weft_scope *own, struct chance *c)
{
    int rc = 0;
    weft_task other;
    switch (chance_below(c, 16)) {
    case 0:
        rc = weft_sleep(chance_below(c, 300000));
        break;
    case 1:
        rc = weft_sleep(chance_below(c, 3000000));
        break;
    case 2:
    case 3:
        rc = weft_yield();
        break;
    case 4:
        compute(chance_below(c, 30000));
        break;
    case 5: /* its own scope */
        if (own && chance_one_in(c, 3)) {
            atomic_fetch_add(&n->cancels, 1);
            weft_scope_cancel(own, "by its owner");
        }
        break;
    case 6: /* the one around it, which its parent owns */
        if (n->parent && chance_one_in(c, 4)) {
            atomic_fetch_add(&n->parent->cancels, 1);
            weft_scope_cancel(n->in, chance_one_in(c, 2) ? "by a child" : NULL);
        }
        break;
    case 7:
        if (own && n->has_deadline)
            weft_scope_set_deadline(own, chance_one_in(c, 8) ? WEFT_NEVER : weft_after(chance_below(c, 4000000)));
        break;
    case 8:
        other = atomic_load(&ids[chance_below(c, IDS)]);
        if (other > 0 && chance_one_in(c, 4))
            weft_ignore(weft_task_cancel(other, "by chance"));
        break;
    case 9:
        other = atomic_load(&ids[chance_below(c, IDS)]);
        if (other > 0 && chance_one_in(c, 8)) {
            weft_scope s;
            weft_scope_begin(&s, chance_below(c, 200000));
            rc = weft_scope_end(&s, weft_task_join(other));
            if (rc == -ETIMEDOUT || rc == -EDEADLK)
                rc = 0;
        }
        break;
    case 10:
        rc = weft_check();
        break;
    default:
        break;
    }
    CHECK(rc == 0 || rc == -ECANCELED, "a wait returned %s", weft_strerror(rc));
    if (rc == -ECANCELED)
        CHECK(weft_check() == -ECANCELED && weft_cancel_reason(), "refused, but not told to leave");
    return rc;
}

/* How the body goes: 0, a count, what it was told, or a failure. */
static int body(struct node *n, weft_scope *s, struct chance *c, struct node **kids, int *n_kids)
{
    int most = n->depth < DEPTH_MOST ? (int)chance_below(c, 5) : 0, rc = 0;
    bool heeds = !chance_one_in(c, 6); /* most leave when they are told */
    for (int i = 0; i < most; i++) {
        struct node *k = node_new(n->tree, n, c);
        if (!k)
            break;
        kids[(*n_kids)++] = k;
        k->task = spawn_node(s, k, c);
        CHECK(k->task > 0, "a spawn into an open scope failed: %s", weft_strerror((int)k->task));
        if (chance_one_in(c, 3) && (rc = act(n, s, c)) < 0 && heeds)
            return rc;
        if (chance_one_in(c, 4)) { /* joins one of them */
            rc = weft_task_join(kids[chance_below(c, (uint32_t)*n_kids)]->task);
            CHECK(rc == 0 || (rc == -ECANCELED && weft_check() == rc), "join: %s", weft_strerror(rc));
            if (rc < 0 && heeds)
                return rc;
        }
    }
    for (uint32_t turns = chance_below(c, 4); turns > 0; turns--)
        if ((rc = act(n, s, c)) < 0 && heeds)
            return rc;
    if (chance_one_in(c, 6)) {
        rc = weft_scope_wait(s);
        atomic_fetch_add(&n_waits, 1);
        CHECK(rc == 0 || (rc == -ECANCELED && weft_check() == rc), "scope_wait: %s", weft_strerror(rc));
        if (rc == 0)
            for (int i = 0; i < *n_kids; i++)
                CHECK(kids[i]->ended, "a child is still there after weft_scope_wait");
        if (rc < 0 && heeds)
            return rc;
    }
    return chance_one_in(c, 20) ? -EPROTO : (int)chance_below(c, 3);
}

/* Whether the verdict is one that can be. */
static void judge(struct node *n, weft_scope *s, int rc, int verdict, struct node **kids, int n_kids, bool shield)
{
    int failed = 0;
    bool some_left = rc == -ECANCELED, is_failure = rc == -EPROTO;
    for (int i = 0; i < n_kids; i++) {
        struct node *k = kids[i];
        CHECK(atomic_load(&k->calls) == 1, "a child was called %d times", atomic_load(&k->calls));
        CHECK(k->ended == 1, "a child has not ended with its scope");
        failed += k->returned < 0 && k->returned != -ECANCELED;
        some_left |= k->returned == -ECANCELED;
        is_failure |= k->returned == verdict && verdict < 0;
    }
    CHECK(weft_scope_failed(s) == failed, "%d children failed, the scope says %d", failed, weft_scope_failed(s));
    CHECK(atomic_load(&n->failures) == failed, "%d and %d failures", atomic_load(&n->failures), failed);
    bool cancelled = atomic_load(&n->cancels) > 0, expired = weft_scope_expired(s);
    CHECK(!expired || n->has_deadline, "it expired, but has no deadline");
    if (failed == 0 && rc >= 0 && !some_left) {
        CHECK(verdict == rc, "nothing went wrong, the body returned %d, the verdict is %d", rc, verdict);
        atomic_fetch_add(&n_fine, 1);
    } else if (failed == 0 && rc >= 0 && verdict == rc) {
        atomic_fetch_add(&n_fine, 1); /* a child left alone: it was cancelled by its id */
    } else if (verdict == -ETIMEDOUT && (expired || !is_failure)) {
        CHECK(expired, "-ETIMEDOUT, but its deadline has not struck");
        atomic_fetch_add(&n_expired, 1);
    } else if (verdict == -ECANCELED) {
        CHECK(!shield, "a shield says that it was told to leave from further out");
        CHECK(weft_check() == -ECANCELED, "-ECANCELED, but not told to leave");
        atomic_fetch_add(&n_outside, 1);
    } else if (verdict == 0) {
        CHECK(cancelled, "a failure or a cancel came to nothing: %d failed, body %d", failed, rc);
        atomic_fetch_add(&n_own_cancels, 1);
    } else {
        CHECK(is_failure, "the verdict %s is nobody's failure", weft_strerror(verdict));
        atomic_fetch_add(rc == verdict ? &n_bodies_failed : &n_failed, 1);
    }
}

static int own_scope(struct node *n, struct chance *c)
{
    weft_scope s;
    struct node *kids[8];
    int n_kids = 0;
    bool shield = chance_one_in(c, 12), listed = chance_one_in(c, 2);
    int64_t within = WEFT_NEVER;
    if ((n->has_deadline = chance_one_in(c, 3)))
        within = chance_one_in(c, 10) ? 0 : chance_below(c, 4000000);
    if (shield)
        weft_scope_begin_shield(&s, within);
    else if (chance_one_in(c, 8))
        weft_scope_begin_with(&s, within, &(weft_scope_options){ .name = "tree" });
    else
        weft_scope_begin(&s, within);
    if (listed)
        open_add(&s, n);
    int rc = body(n, &s, c, kids, &n_kids);
    if (listed)
        open_remove(&s);
    int verdict = weft_scope_end(&s, rc);
    judge(n, &s, rc, verdict, kids, n_kids, shield);
    return verdict;
}

static int dropped_scope(struct node *n, struct chance *c)
{
    struct node *k = node_new(n->tree, n, c);
    if (!k)
        return 0;
    {
        WEFT_SCOPE(s, WEFT_NEVER);
        /* What the child does to its parent's scope, it does to this one. */
        k->depth = DEPTH_MOST;
        k->task = spawn_node(&s, k, c);
    }
    CHECK(atomic_load(&k->calls) == 1 && k->ended == 1, "a child has outlived a dropped scope");
    atomic_store(&n->failures, 0);
    atomic_store(&n->cancels, 0);
    atomic_fetch_add(&n_dropped, 1);
    return 0;
}

static int run_node(void *arg)
{
    struct node *n = arg;
    struct chance c = { n->chance };
    int rc = 0;
    CHECK(atomic_fetch_add(&n->calls, 1) == 0, "called twice");
    stress_moved();
    atomic_fetch_add(&n_tasks, 1);
    if (chance_one_in(&c, 3))
        rc = act(n, NULL, &c);
    if (chance_one_in(&c, 20) && n->depth < DEPTH_MOST)
        rc = dropped_scope(n, &c);
    if (n->depth < DEPTH_MOST && chance_below(&c, 10) < 7)
        rc = own_scope(n, &c);
    if (rc == -ECANCELED) {
        CHECK(weft_check() == -ECANCELED, "-ECANCELED, but not told to leave");
        atomic_fetch_add(&n_cancelled, 1);
    } else if (rc < 0) {
        rc = chance_one_in(&c, 2) ? rc : 0; /* handled */
    } else if (chance_one_in(&c, 25)) {
        rc = weft_fail(-EIO - (int)chance_below(&c, 2), "node %d of tree %llu", n->depth,
                (unsigned long long)n->tree->number);
    }
    if (n->parent && rc < 0 && rc != -ECANCELED)
        atomic_fetch_add(&n->parent->failures, 1);
    n->returned = rc;
    n->ended = 1;
    return rc;
}

/* ---- trees */

static int run_tree(void *arg)
{
    struct tree t = { .number = (uint64_t)(uintptr_t)arg, .nodes = calloc(NODES, sizeof *t.nodes) };
    CHECK(t.nodes, "no memory");
    struct chance c = chance_of(3, t.number);
    struct node *root = node_new(&t, NULL, &c);
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    root->in = &s;
    root->task = weft_spawn(&s, run_node, root);
    CHECK(root->task > 0, "a spawn failed");
    int rc = weft_scope_end(&s, 0);
    CHECK(atomic_load(&root->calls) == 1 && root->ended == 1, "the root has not ended");
    CHECK(rc == 0 || rc == root->returned, "the tree ended with %s", weft_strerror(rc));
    CHECK(rc != -ECANCELED || root->returned == -ECANCELED, "nobody told the tree to leave");
    free(t.nodes);
    atomic_fetch_add(&n_trees, 1);
    return 0;
}

static int trees(void *arg)
{
    static atomic_ulong number;
    (void)arg;
    while (!stress_over()) {
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        for (int i = 0; i < 4; i++)
            weft_spawn(&s, run_tree, (void *)(uintptr_t)atomic_fetch_add(&number, 1));
        int rc = weft_scope_end(&s, 0);
        CHECK(rc == 0, "the trees ended with %s", weft_strerror(rc));
    }
    return 0;
}

/* ---- plain threads: cancel at random, spawn into a scope that stays open */

static weft_runtime *rt;
static weft_scope *service; /* open for the whole run */

static void *canceller(void *arg)
{
    struct chance c = chance_of(4, (uint64_t)(uintptr_t)arg);
    while (!stress_over()) {
        if (chance_one_in(&c, 2)) {
            weft_task t = atomic_load(&ids[chance_below(&c, IDS)]);
            if (t > 0)
                weft_ignore(weft_task_cancel(t, "by a thread"));
        } else {
            pthread_mutex_lock(&open_scopes.lock);
            if (open_scopes.n > 0) {
                struct open o = open_scopes.at[chance_below(&c, (uint32_t)open_scopes.n)];
                atomic_fetch_add(&o.node->cancels, 1);
                weft_scope_cancel(o.scope, "by a thread");
            }
            pthread_mutex_unlock(&open_scopes.lock);
        }
        usleep(chance_below(&c, 2000));
    }
    return NULL;
}

static int foreign_child(void *arg)
{
    atomic_int *calls = arg;
    atomic_fetch_add(calls, 1);
    stress_moved();
    return 0;
}

enum { FOREIGN = 100000 };

static void *spawner(void *arg)
{
    struct chance c = chance_of(5, (uint64_t)(uintptr_t)arg);
    atomic_int *calls = calloc(FOREIGN, sizeof *calls);
    int n = 0;
    CHECK(calls, "no memory");
    while (!stress_over() && n < FOREIGN) {
        weft_task t = weft_spawn(service, foreign_child, &calls[n]);
        CHECK(t > 0, "a spawn into an open scope failed: %s", weft_strerror((int)t));
        n++;
        if (chance_one_in(&c, 2)) {
            CHECK(weft_task_join(t) == 0, "join on a plain thread");
            CHECK(atomic_load(&calls[n - 1]) == 1, "called %d times", atomic_load(&calls[n - 1]));
        }
        if (chance_one_in(&c, 4))
            usleep(chance_below(&c, 300));
        else
            stutter(&c);
    }
    usleep(1000);
    for (int i = 0; i < n; i++)
        while (atomic_load(&calls[i]) == 0)
            sched_yield();
    for (int i = 0; i < n; i++)
        CHECK(atomic_load(&calls[i]) == 1, "called %d times", atomic_load(&calls[i]));
    atomic_fetch_add(&n_foreign, (unsigned long)n);
    free(calls);
    return NULL;
}

/* A plain thread as owner: scopes of its own on the runtime, with deadlines and cancels. */
static void *owner(void *arg)
{
    struct chance c = chance_of(6, (uint64_t)(uintptr_t)arg);
    uint64_t number = UINT64_C(1) << 40 | (uint64_t)(uintptr_t)arg << 20;
    while (!stress_over()) {
        struct tree t = { .number = number++, .nodes = calloc(NODES, sizeof *t.nodes) };
        CHECK(t.nodes, "no memory");
        struct node *n = node_new(&t, NULL, &c), *k;
        weft_scope s;
        struct node *kids[8];
        int n_kids = 0, rc = 0;
        n->has_deadline = chance_one_in(&c, 2);
        weft_scope_begin_with(&s, n->has_deadline ? chance_below(&c, 3000000) : WEFT_NEVER,
                &(weft_scope_options){ .on = rt, .name = "a thread's" });
        open_add(&s, n);
        while (n_kids < 4 && chance_below(&c, 4) > 0 && (k = node_new(&t, n, &c)) != NULL) {
            kids[n_kids++] = k;
            k->task = spawn_node(&s, k, &c);
            CHECK(k->task > 0, "a spawn failed: %s", weft_strerror((int)k->task));
        }
        if (chance_one_in(&c, 2))
            rc = weft_sleep(chance_below(&c, 1000000));
        if (rc == 0 && chance_one_in(&c, 2))
            rc = weft_scope_wait(&s);
        CHECK(rc == 0 || (rc == -ECANCELED && weft_check() == rc), "a thread's wait: %s", weft_strerror(rc));
        open_remove(&s);
        int verdict = weft_scope_end(&s, rc);
        judge(n, &s, rc, verdict, kids, n_kids, false);
        free(t.nodes);
        atomic_fetch_add(&n_foreign_trees, 1);
    }
    return NULL;
}

static pthread_t threads[16];
static int n_threads;
static atomic_bool threads_gone;

/* The owner of the scope that stays open: waits for its children again and again, also when there are none. */
static int serve(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    service = &s;
    for (uintptr_t i = 0; i < 2; i++) {
        threads[n_threads++] = thread_start(canceller, (void *)i);
        threads[n_threads++] = thread_start(spawner, (void *)i);
        threads[n_threads++] = thread_start(owner, (void *)i);
    }
    while (!atomic_load(&threads_gone)) {
        int rc = weft_scope_wait(&s);
        CHECK(rc == 0, "scope_wait: %s", weft_strerror(rc));
        atomic_fetch_add(&n_service_waits, 1);
        rc = weft_sleep(20000);
        CHECK(rc == 0, "sleep: %s", weft_strerror(rc));
    }
    return weft_scope_end(&s, 0);
}

static int join_threads(void *arg)
{
    (void)arg;
    for (int i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&threads_gone, true);
    return 0;
}

static int main_task(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, serve, NULL);
    for (int i = 0; i < SCALED(8, 4); i++)
        weft_spawn(&s, trees, NULL);
    while (!stress_over())
        CHECK(weft_sleep(weft_ms(10)) == 0, "sleep");
    CHECK(weft_blocking(join_threads, NULL) == 0, "the threads");
    return weft_scope_end(&s, 0);
}

static void quiet(const weft_report *r, void *arg)
{
    (void)r;
    (void)arg; /* nodes that ignore their cancels are reported */
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "scopes");
    weft__walk_slice = 1 + (int)(stress_seed % 3) * 3; /* so that there is something between two slices */
    CHECK(weft_runtime_create(&rt, &(weft_options){ .workers = stress_workers, .report = quiet }) == 0, "create");
    stress_watch(rt);
    int rc = weft_runtime_run(rt, main_task, NULL);
    CHECK(rc == 0, "the main task: %s", weft_strerror(rc));
    stress_watch(NULL);
    weft_runtime_destroy(&rt);
    CHECK(weft_task_list(NULL, 0) == 0, "%d tasks are left", weft_task_list(NULL, 0));
    stress_count("trees", n_trees, stress_least(20));
    stress_count("tasks", n_tasks, stress_least(1000));
    stress_count("spawned by plain threads", n_foreign, stress_least(100));
    stress_count("trees of plain threads", n_foreign_trees, stress_least(20));
    stress_count("tasks that left", n_cancelled, stress_least(20));
    stress_count("scopes without trouble", n_fine, stress_least(20));
    stress_count("scopes that failed", n_failed, stress_least(10));
    stress_count("bodies that failed", n_bodies_failed, stress_least(5));
    stress_count("scopes that expired", n_expired, stress_least(5));
    stress_count("scopes told from outside", n_outside, stress_least(5));
    stress_count("scopes cancelled", n_own_cancels, stress_least(5));
    stress_count("waits of the open scope", n_service_waits, stress_least(50));
    stress_count("scope waits", n_waits, stress_least(5));
    stress_count("scopes dropped", n_dropped, stress_least(2));
    return stress_end();
}
