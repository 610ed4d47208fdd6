/* coord/keeps.h - what a task or a thread has to let go at its end: generators, deferred calls, local values. See keeps.c. */
#ifndef WEFT_COORD_KEEPS_H
#define WEFT_COORD_KEEPS_H

#include <weft/scope.h>

#include "base/futex.h"

struct weft__detail;
struct weft__frame;
struct weft__gen;
struct weft__value;
struct weft__handed;

/* A call that was put off (coord/defer.c). */
struct weft__deferred {
    struct weft__deferred *older;
    uint64_t number;
    weft_fn *fn;
    void *arg;
    int64_t grace;
};

/* Generators, and deferred calls, that end with what they were made in, a scope, a task, or the body of a generator: the
 * newest first. Zeroed, there are none. Under the lock, since any task may destroy a generator early; its owner alone adds
 * and closes. */
struct weft__gens {
    struct weft__lock lock;
    struct weft__gen *newest;
    struct weft__deferred *deferred; /* the newest */
    uint64_t made;                   /* of both kinds, so far: they are numbered */
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
/* Of the running frame, which has some: closes generators and makes deferred calls, which may suspend, and then drops
 * values. Returns rc, how it went so far, or what a deferred call failed with. */
int weft__keeps_end(struct weft__frame *f, int rc);

/* ---- coord/gen.c */

/* What the running frame's generators and deferred calls belong to. 0, *out is NULL for a plain thread that has no scope;
 * -ENOMEM; -EINVAL the task ends. */
int weft__gens_of(struct weft__frame *f, struct weft__gens **out);
/* Closes the newest generator, or makes the newest deferred call, whichever is newer, for the running frame. False: there is
 * none. Suspends if those do. */
struct weft__unclean;
bool weft__gens_close(struct weft__gens *all, struct weft__unclean *u);
/* What is said of the generator on this stack: "generator \"lines\" (0x...)". */
struct weft__stack;
void weft__gen_describe(const struct weft__stack *k, char *out, unsigned long bytes);
/* Where the consumer was left that waits in the body on stack `k`, and the stack of that. For who holds its life. */
const struct weft__context *weft__gen_below(const struct weft__stack *k, const struct weft__stack **home);

/* ---- coord/defer.c */

/* What a row of deferred calls has failed with: the first of them, whose detail is kept. */
struct weft__unclean {
    int code; /* 0: none has */
    weft_fn *fn;
    struct weft__detail *detail;
    struct weft__detail *why; /* of how it went before: what is let go has its own failures */
};
/* Before the first weft__gens_close. */
void weft__unclean_begin(struct weft__unclean *u, struct weft__frame *f);
/* After the last one: the frame has its own detail again. */
void weft__unclean_over(struct weft__unclean *u, struct weft__frame *f);
/* After that, and once it is known how it went, rc: returns that, or else the failure, if there is one and rc is none. A
 * failure that is not returned is reported. */
int weft__unclean_result(struct weft__unclean *u, struct weft__frame *f, int rc);
/* Calls it, and frees it. */
void weft__deferred_run(struct weft__deferred *d, struct weft__frame *f, struct weft__unclean *u);

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
