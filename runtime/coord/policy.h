/* coord/policy.h - what a scope's options say of its children beyond the common: when they are joined, how many there may be
 * at once, and who wants to hear of their ends. See policy.c. */
#ifndef WEFT_COORD_POLICY_H
#define WEFT_COORD_POLICY_H

#include "coord/scope.h"
#include "coord/side.h"

struct weft__policy {
    int join, need, limit; /* need is at least 1 */
    bool collect;
    struct weft__lock lock; /* of all that follows */
    bool decided;      /* by success */
    bool cut;          /* a child failed or left after something had told the scope to leave */
    bool failed_first; /* a failure came before anything had */
    int running;       /* children that have a place and have not ended */
    int wins;
    weft_task winner;
    struct weft__link waiting; /* struct place: spawners for whom there is none, the first first */
    struct weft__link done;    /* struct weft__side: who has ended, and was not fetched */
    struct weft__side *fetched; /* the last one that was */
    weft__token taker;          /* the owner's, in weft_scope_next */
};

static inline struct weft__policy *weft__policy_of(struct weft__scope *s)
{
    struct weft__scope_extra *x = (struct weft__scope_extra *)at_load_acquire(&s->extra);
    return x ? x->policy : NULL;
}

/* Whether the options ask for one; -EINVAL bad ones. */
int weft__policy_wanted(const weft_scope_options *o);
/* NULL: no memory. */
struct weft__policy *weft__policy_new(const weft_scope_options *o);
void weft__policy_free(struct weft__policy *p);

/* A place for one more child: 0; -ECANCELED it had to wait, and was told to leave; -ENOMEM. What it took is given back by
 * _ended, or by _leave if no child came of it. */
int weft__policy_enter(struct weft__scope *s, struct weft__policy *p);
void weft__policy_leave(struct weft__policy *p);

/* How a child of `s` has ended, while its id still lives; `left`: because it was told to. */
void weft__policy_judge(struct weft__scope *s, struct weft__policy *p, struct weft__frame *f, int rc, bool left);
/* Its id is dead. Takes its side. */
void weft__policy_ended(struct weft__policy *p, struct weft__frame *f, int rc);

/* For the owner, which is not refused and does not wait: 1 a child that has ended; 0 there are none; -EAGAIN none yet. */
int weft__policy_fetch(struct weft__policy *p, weft_done *d);

/* A spawn, or the body, failed: true if that cancels nobody, and is recorded. */
bool weft__policy_puts_up_with(struct weft__scope *s, struct weft__policy *p, void *arg, int code, const char *text);
bool weft__policy_keeps_body(struct weft__scope *s, struct weft__policy *p);

/* N3 (scope.c) under a policy, `first` being WEFT__MARK_FIRST_FAILED or 0. True: *result is it. */
bool weft__policy_verdict(struct weft__policy *p, int code, unsigned first, int rc, int *result);
/* Nobody has decided what somebody should have. */
bool weft__policy_undecided(const struct weft__policy *p);

#endif
