/* coord/keeps.h - what a task or a thread has to let go at its end: its generators, and its local values. See keeps.c. */
#ifndef WEFT_COORD_KEEPS_H
#define WEFT_COORD_KEEPS_H

#include "base/futex.h"

struct weft__frame;
struct weft__gen;
struct weft__value;
struct weft__handed;

/* Generators that end with what they were made in, a scope, a task, or the body of another one: the newest first. Zeroed,
 * there are none. Under the lock, since any task may destroy one early; its owner alone adds and closes. */
struct weft__gens {
    struct weft__lock lock;
    struct weft__gen *newest;
};

/* By the task or thread alone. */
struct weft__keeps {
    struct weft__gens gens;      /* made in none of the task's own scopes */
    struct weft__value *values;  /* local values of its own, the newest first */
    struct weft__handed *handed; /* those that its children get, too; NULL: none */
    bool ending;                 /* nothing is added any more */
    bool heap;                   /* made on demand; else it is part of something else */
};

/* Made on demand; NULL: no memory. */
struct weft__keeps *weft__keeps(struct weft__frame *f);
/* Of the running frame, which has some: closes generators, which may suspend, and then drops values. */
void weft__keeps_end(struct weft__frame *f);

/* ---- coord/gen.c */

/* Closes all that are there, the newest first. True: there was one. Suspends if their bodies do. */
bool weft__gens_close(struct weft__gens *all);
/* What is said of the generator on this stack: "generator \"lines\" (0x...)". */
struct weft__stack;
void weft__gen_describe(const struct weft__stack *k, char *out, unsigned long bytes);
/* Where the consumer was left that waits in the body on stack `k`, and the stack of that. For who holds its life. */
const struct weft__context *weft__gen_below(const struct weft__stack *k, const struct weft__stack **home);

/* ---- coord/local.c */

void weft__values_end(struct weft__keeps *k);
/* One more holder, or one less; who lets go last drops the values. NULL will do. */
struct weft__handed *weft__handed_hold(struct weft__handed *h);
void weft__handed_let_go(struct weft__handed *h);
/* What the frame's children get; NULL: nothing. */
static inline struct weft__handed *weft__keeps_handed(const struct weft__keeps *k)
{
    return k ? k->handed : NULL;
}

/* A plain thread calls a function for a task: it sees what a child of the task would, takes `h`, and lets go of it, and of
 * all that the function set, at the end. `k` is to stay until then. 0; -ENOMEM: the end is not to be called. */
int weft__values_lend(struct weft__keeps *k, struct weft__handed *h);
void weft__values_lent_end(void);

/* A worker's loop calls a function outside of any task: the same, and it cannot fail. */
void weft__values_borrow(struct weft__frame *loop, struct weft__keeps *k, struct weft__handed *h);
void weft__values_borrowed_end(struct weft__frame *loop);
/* What the caller's children get, be it a task, a plain thread or such a function; NULL: nothing. Borrowed. */
struct weft__handed *weft__values_to_hand_on(void);

#endif
