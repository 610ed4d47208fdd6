/* main.c - runs the scenarios, and shows that each order they rest on is missed when it is taken away.
 *
 *   explore                 all of it; the exit status says whether all was as expected
 *   explore good [group]    the scenarios; if all of them, whether each ordered access has a mutation
 *   explore mutations [group]
 *   explore trace name      one scenario, and its steps if it fails; with a mutation's name, that one's
 *   explore together        without all the orders that are not needed, at once
 *   explore fences [group]  the mutations, with fences that publish, as C11 has them (explore.h): what is not found then is
 *                           there for ThreadSanitizer
 *   explore sites group     each access that the group's scenarios come to, with its order
 *
 * A mutation weakens one access, or drops one fence or step (steps.h), of weft's sources, which stay as they are. It is named by where it
 * is: function, kind of access, and which of that kind in the function. It must make its scenario fail; or, where the
 * order is known not to be needed, all scenarios of the groups must pass without it, and why is said there. In the files
 * of `covered` there is no ordered access without a mutation. */
#include "scenarios.h"

#include <stdio.h>
#include <time.h>

static const struct ex_scenario *const groups[] = { deque_scenarios, private_scenarios, biased_scenarios,
    ready_scenarios, claim_scenarios, wait_scenarios, cancel_scenarios, walk_scenarios, scope_scenarios,
    idle_scenarios, lock_scenarios, slot_scenarios, sync_scenarios, select_scenarios, meet_scenarios,
    policy_scenarios, hard_scenarios, pool_scenarios, mutex_scenarios };
enum { GROUPS = sizeof groups / sizeof groups[0] };

/* At most so many runs of a scenario: of one that is to pass, of one of those that are complete in no time that a proof may
 * take, of one that is to fail, of each where an order is not needed. All others are complete within that. */
enum { GOOD_RUNS = 1000000, VAST_RUNS = 200000, BAD_RUNS = 300000, NEEDLESS_RUNS = 20000, CHANCE_RUNS = 20000 };
static const char *const vast[] = { "walk/hard", "slot/emptied", "slot/told", "mutex/gives_way_to" };

enum { ACQUIRE = EX_ACQUIRE, RELEASE = EX_RELEASE, FENCE = EX_FENCE, STEP = EX_STEP };

struct mutation {
    const char *name;
    const char *func, *op;
    int position;
    unsigned drop;
    const char *scenario; /* that must fail, "group/name"; or, if it is not needed, the groups */
    const char *needless; /* why it is not needed */
    const char *with;     /* others that are dropped at the same time: they stand in for each other */
};

static const struct mutation mutations[] = {
#include "mutations.inc"
};
enum { MUTATIONS = sizeof mutations / sizeof mutations[0] };

static const char *const covered[] = { "sched/deque.h", "sched/deque.c", "sched/ready.h", "sched/task.h",
    "sched/wait.h", "sched/idle.c", "base/biased.h", "base/biased.c", "base/futex.h", "base/futex.c",
    "sync/waiter.h", "sync/waiter.c",
    "sync/sem.c", "sync/mutex.c", "sync/event.c", "sync/rwlock.c", "sync/waitgroup.c", "sync/once.c", "sync/promise.c" };

static int passed, failed;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void verdict(bool ok)
{
    if (ok)
        passed++;
    else
        failed++;
    printf("%-4s ", ok ? "ok" : "FAIL");
}

/* ---- sites */

static int of_line(const void *a, const void *b)
{
    const struct ex_site *x = *(struct ex_site *const *)a, *y = *(struct ex_site *const *)b;
    int by_unit = strcmp(x->unit, y->unit);
    if (by_unit != 0)
        return by_unit;
    return x->line != y->line ? x->line - y->line : x->counter - y->counter;
}

static struct ex_site **sites;
static int n_sites;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* Numbers those of one kind in one function. */
static void number_sites(void)
{
    n_sites = (int)(__stop_ex_sites - __start_ex_sites);
    sites = malloc((size_t)n_sites * sizeof *sites);
    if (!sites)
        abort();
    memcpy(sites, __start_ex_sites, (size_t)n_sites * sizeof *sites);
    qsort(sites, (size_t)n_sites, sizeof *sites, of_line);
    for (int i = 0; i < n_sites; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(sites[i]->unit, sites[k]->unit) == 0 && strcmp(sites[i]->func, sites[k]->func) == 0 &&
                    strcmp(sites[i]->op, sites[k]->op) == 0)
                sites[i]->position++;
}

static bool is_at(const struct mutation *m, const struct ex_site *s)
{
    return strcmp(m->func, s->func) == 0 && strcmp(m->op, s->op) == 0 && m->position == s->position;
}

/* Where a header is compiled more than once, everywhere. The line, or 0: there is no such order. */
static int apply(const struct mutation *m, bool on)
{
    int line = 0;
    for (int i = 0; i < n_sites; i++)
        if (is_at(m, sites[i]) && (sites[i]->order & m->drop) == m->drop) {
            sites[i]->drop = on ? sites[i]->drop | m->drop : sites[i]->drop & ~m->drop;
            line = sites[i]->line;
        }
    return line;
}

/* The others with it. False: there is no such order. */
static bool apply_all(const struct mutation *m, bool on)
{
    bool there = apply(m, on) != 0;
    for (int i = 0; i < MUTATIONS && m->with; i++)
        if (strstr(m->with, mutations[i].name))
            there &= apply(&mutations[i], on) != 0;
    return there;
}

static const struct mutation *mutation_of(const char *name)
{
    for (int i = 0; i < MUTATIONS; i++)
        if (strcmp(mutations[i].name, name) == 0)
            return &mutations[i];
    return NULL;
}

static void uncovered(void)
{
    bool all = true;
    for (int i = 0; i < n_sites; i++) {
        bool look = false;
        for (unsigned k = 0; k < sizeof covered / sizeof covered[0]; k++)
            look |= ends_with(sites[i]->file, covered[k]);
        for (unsigned bit = EX_ACQUIRE; look && sites[i]->hits && bit <= EX_FENCE; bit <<= 1) {
            bool found = !(sites[i]->order & bit);
            for (int k = 0; k < MUTATIONS; k++)
                found |= is_at(&mutations[k], sites[i]) && (mutations[k].drop & bit);
            if (found)
                continue;
            verdict(false);
            printf("%s:%d, %s in %s (number %d): its %s has no mutation\n", ex_base(sites[i]->file), sites[i]->line,
                    sites[i]->op, sites[i]->func, sites[i]->position,
                    bit == EX_ACQUIRE ? "acquire" : bit == EX_RELEASE ? "release" : "fence");
            all = false;
        }
    }
    if (all) {
        verdict(true);
        printf("every ordered access in the covered files has a mutation\n");
    }
}

/* ---- runs */

/* Of one group, or of several, with spaces between. */
static bool in_group(const struct ex_scenario *s, const char *group)
{
    return !group || strstr(group, s->group) != NULL;
}

static unsigned long runs_of(const struct ex_scenario *s)
{
    char name[80];
    snprintf(name, sizeof name, "%s/%s", s->group, s->name);
    for (size_t i = 0; i < sizeof vast / sizeof vast[0]; i++)
        if (strcmp(name, vast[i]) == 0)
            return VAST_RUNS;
    return GOOD_RUNS;
}

static void good(const char *group)
{
    for (int g = 0; g < GROUPS; g++)
        for (const struct ex_scenario *s = groups[g]; s->name; s++) {
            struct ex_result r, by_chance;
            if (!in_group(s, group))
                continue;
            double start = now();
            ex_explore(s, runs_of(s), 0, &r);
            bool ok = !r.failed;
            if (ok && (s->preemptions >= 0 || !r.complete)) { /* and some that are not bounded */
                ex_explore(s, 0, CHANCE_RUNS, &by_chance);
                ok = !by_chance.failed;
                if (!ok)
                    memcpy(r.why, by_chance.why, sizeof r.why);
            }
            verdict(ok);
            char bound[40] = "all";
            if (s->preemptions >= 0)
                snprintf(bound, sizeof bound, "preempted %d times at most", s->preemptions);
            if (ok)
                printf("%s/%s (%s): %lu states, %s%s, %.1f s\n", s->group, s->name, s->about, r.states, bound,
                        r.complete ? "" : ", not complete", now() - start);
            else
                printf("%s/%s (%s): %s\n", s->group, s->name, s->about, r.why);
            fflush(stdout);
        }
}

static const struct ex_scenario *scenario_of(const char *path)
{
    for (int g = 0; g < GROUPS; g++)
        for (const struct ex_scenario *s = groups[g]; s->name; s++) {
            size_t n = strlen(s->group);
            if (strncmp(path, s->group, n) == 0 && path[n] == '/' && strcmp(path + n + 1, s->name) == 0)
                return s;
        }
    return NULL;
}

/* The scenario that the mutation makes fail, or NULL. */
static const struct ex_scenario *try_mutation(const struct mutation *m, struct ex_result *r)
{
    const struct ex_scenario *one = m->needless ? NULL : scenario_of(m->scenario);
    r->states = 0;
    if (one) {
        ex_explore(one, BAD_RUNS, 0, r);
        if (!r->failed)
            ex_explore(one, 0, CHANCE_RUNS, r);
        return r->failed ? one : NULL;
    }
    for (int g = 0; g < GROUPS; g++)
        for (const struct ex_scenario *s = groups[g]; s->name; s++)
            if (in_group(s, m->scenario)) {
                ex_explore(s, NEEDLESS_RUNS, 0, r);
                if (r->failed)
                    return s;
            }
    return NULL;
}

static void mutate(const struct mutation *m)
{
    struct ex_result r;
    bool there = apply_all(m, true);
    const struct ex_scenario *s = there ? try_mutation(m, &r) : NULL;
    apply_all(m, false);
    if (!there) {
        verdict(false);
        printf("%s: there is no such order in %s\n", m->name, m->func);
        return;
    }
    verdict((s != NULL) != (m->needless != NULL));
    if (s)
        printf("%s: %s/%s: %s\n", m->name, s->group, s->name, r.why);
    else if (m->needless)
        printf("%s: not needed: %s\n", m->name, m->needless);
    else
        printf("%s: not found by %s\n", m->name, m->scenario);
    fflush(stdout);
}

static void all_mutations(const char *group)
{
    for (int i = 0; i < MUTATIONS; i++)
        if (!group || strncmp(mutations[i].scenario, group, strlen(group)) == 0)
            mutate(&mutations[i]);
}

/* All that is not needed is dropped at once; of two that stand in for each other, one. */
static void together(void)
{
    struct ex_result r;
    int n = 0;
    const struct ex_scenario *fails = NULL;
    for (int i = 0; i < MUTATIONS; i++) {
        bool stands_in = false;
        for (int k = 0; k < MUTATIONS; k++)
            stands_in |= mutations[k].with && strstr(mutations[k].with, mutations[i].name);
        if (mutations[i].needless && !stands_in) {
            apply(&mutations[i], true);
            n++;
        }
    }
    for (int g = 0; g < GROUPS && !fails; g++)
        for (const struct ex_scenario *s = groups[g]; s->name && !fails; s++) {
            ex_explore(s, NEEDLESS_RUNS, 0, &r);
            if (r.failed)
                fails = s;
        }
    for (int i = 0; i < n_sites; i++)
        sites[i]->drop = 0;
    verdict(!fails);
    printf("all %d that are not needed, dropped at once%s%s%s%s\n", n, fails ? ": " : "", fails ? fails->group : "",
            fails ? "/" : "", fails ? fails->name : "");
    if (fails)
        printf("     %s\n", r.why);
}

static int trace(const char *name)
{
    struct ex_result r;
    const struct mutation *m = mutation_of(name);
    const struct ex_scenario *s = m ? NULL : scenario_of(name);
    if (!m && !s)
        return 2;
    ex_trace = true;
    if (m) {
        apply_all(m, true);
        return try_mutation(m, &r) != NULL;
    }
    ex_explore(s, GOOD_RUNS, 0, &r);
    if (!r.failed)
        ex_explore(s, 0, CHANCE_RUNS, &r);
    return r.failed;
}

static void list_sites(const char *group)
{
    struct ex_result r;
    for (int g = 0; g < GROUPS; g++)
        for (const struct ex_scenario *s = groups[g]; s->name; s++)
            if (in_group(s, group))
                ex_explore(s, 0, CHANCE_RUNS, &r);
    for (int i = 0; i < n_sites; i++)
        if (sites[i]->hits && sites[i]->order)
            printf("%s:%d \"%s\", \"%s\", %d: %s%s%s\n", ex_base(sites[i]->file), sites[i]->line, sites[i]->func,
                    sites[i]->op, sites[i]->position, sites[i]->order & EX_ACQUIRE ? "acquire " : "",
                    sites[i]->order & EX_RELEASE ? "release" : "", sites[i]->order & EX_FENCE ? "fence" : "");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "all", *name = argc > 2 ? argv[2] : NULL;
    number_sites();
    if (strcmp(what, "trace") == 0 && name)
        return trace(name);
    if (strcmp(what, "sites") == 0) {
        list_sites(name);
        return 0;
    }
    if (strcmp(what, "all") == 0 || strcmp(what, "good") == 0)
        good(name);
    if (strcmp(what, "all") == 0 || (strcmp(what, "good") == 0 && !name))
        uncovered();
    ex_fences_publish = strcmp(what, "fences") == 0;
    if (strcmp(what, "all") == 0 || strcmp(what, "mutations") == 0 || ex_fences_publish)
        all_mutations(name);
    if (strcmp(what, "all") == 0 || strcmp(what, "together") == 0)
        together();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
