/* report/deadlock.c - the tasks of a deadlock, what each waits for, and who waits for whom in a circle.
 *
 * Owns      nothing.
 * Callers   the I/O thread, when all stand still (engine/stall.c, L4).
 * Graph     from who waits to who would have to go on: a joiner to its task, who ends a scope to each of its children, who
 *           runs a child as a call to that, who waits for an object to its holder (`holder`, below). All edges have to come
 *           true for a task to go on, so a circle of them never does.
 * Bounds    one look at each block of the table; of the tasks the first MOST are in the graph, LISTED are listed, and the
 *           search for circles takes MOST * MOST short steps at most.
 * Tested    tests/deadlock_test.c */
#include <string.h>

#include "base/mem.h"
#include "engine/worker.h"
#include "report/view.h"
#include "sync/mutex.h"

enum { MOST = 1024, LISTED = 24, CIRCLES = 4, SHOWN = 16 };

/* ---- who holds what a task waits for */

static weft_task the_task_itself(uint64_t id)
{
    return (weft_task)id;
}

/* By what is waited for: the task that has to go on first, given the object (its address; of an id 56 bits); 0: none.
 * Asked only when nobody runs who could free the object. */
static weft_task (*const holder[])(uint64_t object) = {
    [WEFT__WAITS_TASK] = the_task_itself,
    [WEFT__WAITS_MUTEX] = weft__mutex_holder,
    [WEFT__WAITS_PROMISE] = NULL,
};

/* ---- the graph */

struct node {
    struct weft__view view;
    bool mine;   /* of the runtime that is reported */
    int state;   /* of the search */
    int cursor;  /* the next node that may be one of its children */
    int on_path; /* the node before it */
};

enum { UNSEEN, ON_PATH, DONE };

struct graph {
    int n, mine; /* nodes; tasks of the runtime, which may be more */
    int running, called;
    bool moving, objects;
    int circles;
    struct node nodes[MOST];
    struct weft__out out;
};

/* A task that is neither asleep nor under one that runs on its stack, and is. */
static void count(struct graph *g, const struct weft__view *v)
{
    enum weft__phase phase = weft__phase_of(v->state);
    g->running += phase == WEFT__RUNNING;
    g->called += v->below != 0;
    g->moving |= !v->held || (phase != WEFT__RUNNING && phase != WEFT__WAITING);
}

static void collect(struct graph *g, const struct weft__group *group)
{
    uint32_t used = weft__task_table_used();
    for (uint32_t i = 0; i < used && !g->moving; i++) {
        struct node *n = &g->nodes[g->n < MOST ? g->n : MOST - 1];
        struct weft__view v;
        if (!weft__view_task(&v, weft__task_at(i)))
            continue;
        count(g, &v);
        bool mine = v.group == group;
        g->mine += mine;
        if (g->n == MOST)
            continue;
        n->view = v;
        n->mine = mine;
        g->n++;
    }
    g->moving |= g->running != g->called;
}

/* The node of an id of which 56 bits are known; -1. */
static int node_of(const struct graph *g, uint64_t id)
{
    for (int i = 0; i < g->n; i++)
        if (((uint64_t)g->nodes[i].view.id & ((UINT64_C(1) << 56) - 1)) == id)
            return i;
    return -1;
}

static bool leads_to(const struct weft__view *a, const struct weft__view *b)
{
    if (weft__phase_of(a->state) == WEFT__RUNNING)
        return b->below == a->id;
    return weft__view_kind(a) == WEFT__WAITS_CHILDREN && (uint64_t)(uintptr_t)b->scope == weft__view_object(a);
}

/* The next edge out of node i, or -1. */
static int next_edge(struct graph *g, int i)
{
    struct node *n = &g->nodes[i];
    unsigned kind = (unsigned)weft__view_kind(&n->view);
    bool waits = weft__phase_of(n->view.state) == WEFT__WAITING;
    if (waits && kind != WEFT__WAITS_CHILDREN) {
        if (n->cursor++ > 0 || kind >= sizeof holder / sizeof holder[0] || !holder[kind] ||
                (kind != WEFT__WAITS_TASK && !g->objects))
            return -1;
        return node_of(g, (uint64_t)holder[kind](weft__view_object(&n->view)) & ((UINT64_C(1) << 56) - 1));
    }
    while (n->cursor < g->n) {
        int to = n->cursor++;
        if (leads_to(&n->view, &g->nodes[to].view))
            return to;
    }
    return -1;
}

static void say_name(struct weft__out *o, const struct weft__view *v)
{
    weft__say(o, "task %lld", (long long)v->id);
    if (v->name[0])
        weft__say(o, " \"%s\"", v->name);
}

/* From `first`, which is on the path, to `last`, its end, and back to `first`. */
static void say_circle(struct graph *g, int first, int last, struct weft__stalled *who)
{
    struct weft__out *o = &g->out;
    int path[SHOWN], n = 0, length = 0;
    bool mine = false;
    for (int i = last;; i = g->nodes[i].on_path) {
        mine |= g->nodes[i].mine;
        length++;
        if (i == first)
            break;
    }
    if (!mine || g->circles++ >= CIRCLES)
        return;
    int skip = length > SHOWN ? length - SHOWN : 0;
    for (int i = last, k = 0; k < length; i = g->nodes[i].on_path, k++)
        if (k >= skip)
            path[n++] = i;
    if (g->circles == 1) {
        who->task = g->nodes[first].view.id;
        memcpy(who->name, g->nodes[first].view.name, sizeof who->name);
    }
    weft__say(o, "\n  circle of %d: ", length);
    while (n > 0) {
        say_name(o, &g->nodes[path[--n]].view);
        weft__say(o, " waits for ");
    }
    if (skip > 0)
        weft__say(o, "%d more, and those for ", skip);
    say_name(o, &g->nodes[first].view);
}

static void search(struct graph *g, int from, struct weft__stalled *who)
{
    int at = from;
    g->nodes[at].state = ON_PATH;
    g->nodes[at].on_path = -1;
    while (at >= 0) {
        int to = next_edge(g, at);
        if (to < 0) {
            g->nodes[at].state = DONE;
            at = g->nodes[at].on_path;
        } else if (g->nodes[to].state == ON_PATH) {
            say_circle(g, to, at, who);
        } else if (g->nodes[to].state == UNSEEN) {
            g->nodes[to].state = ON_PATH;
            g->nodes[to].on_path = at;
            at = to;
        }
    }
}

/* ---- the text */

static void say_head(struct graph *g, int others)
{
    struct weft__out *o = &g->out;
    weft__say(o, "%d task%s can never go on: no timer is armed, no descriptor waited for, no call in the pool", g->mine,
            g->mine == 1 ? "" : "s");
    if (others > 0)
        weft__say(o, "; unless one of %d thread%s outside wakes one of them", others, others == 1 ? "" : "s");
    else if (others < 0)
        weft__say(o, "; unless a thread outside wakes one of them");
}

static void say_tasks(struct graph *g)
{
    struct weft__out *o = &g->out;
    int listed = 0;
    for (int i = 0; i < g->n && listed < LISTED; i++)
        if (g->nodes[i].mine) {
            weft__say(o, "\n  ");
            g->nodes[i].view.calls = weft__phase_of(g->nodes[i].view.state) == WEFT__RUNNING;
            weft__say_task(o, &g->nodes[i].view);
            o->n -= o->n > 0 && o->text[o->n - 1] == '\n';
            o->text[o->n] = 0;
            listed++;
        }
    if (g->mine > listed)
        weft__say(o, "\n  and %d more", g->mine - listed);
}

int weft__stalled_text(struct weft_runtime *rt, int others, struct weft__stalled *out)
{
    struct graph *g = weft__mem_zeroed(sizeof *g);
    if (!g)
        return 0;
    out->memory = g;
    g->out.fd = WEFT__IN_MEMORY;
    g->objects = others == 0;
    collect(g, &rt->group);
    if (g->moving)
        return -1;
    for (int i = 0; i < g->n && out->task == 0; i++)
        if (g->nodes[i].mine) {
            out->task = g->nodes[i].view.id;
            memcpy(out->name, g->nodes[i].view.name, sizeof out->name);
        }
    say_head(g, others);
    for (int i = 0; i < g->n; i++)
        if (g->nodes[i].state == UNSEEN)
            search(g, i, out);
    say_tasks(g);
    out->text = g->out.text;
    return g->mine;
}
