/* coord/gen.c - generators: a stack nested in that of whoever advances it.
 *
 * Owns      the generator, which lies in the room of its stack, as a task's frame does in that of its own.
 * Callers   advance and destroy: any task or plain thread, one at a time. yield: the body. close: the end of an owner.
 * Holds     G1  who advances it has claimed it (base/biased.h: as a rule it is the same task each time), and gives it back
 *               when its context is saved. One that has ended stays claimed.
 *           G2  while the body runs, the consumer's frame is the running one, and says that it runs on the generator's
 *               stack. So all that a frame stands for is the consumer's; what suspends saves the body's registers in the
 *               frame, is resumed there on whatever worker, and knows nothing of generators; what is left of the stack,
 *               and where its guard is, is the generator's. The scheduler has no part in a switch between the two.
 *           G3  a yield leaves the consumer as it was found: the same frame, the same innermost scope, no call of another
 *               stack in between. Else it is refused.
 *           G4  a generator is in one list of its owner's, until it is destroyed or the owner's end takes it out.
 *               Those of plain threads, which nobody closes, are in one that is looked at when the process exits. Not at a
 *               thread's end: it may have handed them on.
 *           G5  a handle is the address and, in its upper 16 bits, which generator it is of all that were there. Stacks
 *               of the pool stay mapped for ever, so a stale handle is looked up safely, and found to be one.
 *
 *     the consumer                            the body
 *     claims; f->stack is the generator's
 *     saves `back`, takes up `there`  ------> goes on from its yield
 *                                             ... waits and moves with the frame ...
 *     f->stack is its own again       <------ yield: copies the item, saves `there`, takes up `back`
 *     given back, or ENDED
 *
 * Stacks    of a pool of their own (machine/stack.h): a stack's resident loop runs one body after the other, and that of
 *           tasks runs nothing else.
 * TSan      takes the body for a fiber of its own; what the two switches order it is told (weft__context_hand).
 * Dropped   a frame of the body's own: every cancel, deadline and value would have to look through it to the consumer.
 *           A pointer to the creator's variable, set to NULL by the scope: nobody knows how long that lives.
 * Source    Python's generators and asynchronous generators (PEP 342, 380, 525, 789); symmetric stacks as in Lua.
 * Tested    tests/gen_test.c */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weft/gen.h>

#include "base/biased.h"
#include "base/fork.h"
#include "base/list.h"
#include "base/mem.h"
#include "coord/await.h"
#include "coord/keeps.h"
#include "coord/side.h"
#include "engine/hooks.h"

enum { NEW, PAUSED, ENDED };

enum { REFUSALS = 1000, TOLD = 8, ADDRESS_BITS = 48, DEFAULT_STACK = 65536 };

struct weft__gen {
    struct weft__biased claim; /* G1 */
    at_int *claimed;  /* the word of it to give it back by; what follows is by who has claimed it, or the body meanwhile */
    at_word life;     /* G5; 0: none */
    at_int state;     /* ENDED is seen by anybody */
    bool closing;
    int refused;
    int result;       /* of a body that has ended */
    at_word consumer; /* struct weft__frame *; 0 while it does not run */
    size_t item_bytes;
    void *item;       /* where the next one goes */
    void *sent;
    weft_scope *inner; /* the consumer's innermost scope */
    struct weft__context there, back;
    struct weft__stack *home, *back_home;
    struct weft__stack *back_stack; /* what the consumer's frame says of its own; NULL: a thread's */
    weft_gen_fn *body;
    void *arg;
    struct weft__gens gens; /* made in the body */
    uint64_t number; /* of what its owner has */
    /* Under the lock of `owner`. */
    struct weft__gens *owner; /* NULL: taken out */
    struct weft__gen *newer, *older;
    char name[WEFT__NAME_BYTES];
};
_Static_assert(sizeof(struct weft__gen) <= WEFT__STACK_ROOM, "the generator is at the top of its stack");

/* ---- handles */

static weft_gen *handle_of(const struct weft__gen *g)
{
    return (weft_gen *)((uintptr_t)g | (uintptr_t)at_load(&g->life) << ADDRESS_BITS);
}

/* NULL: it is none, or not any more. */
static inline struct weft__gen *gen_of(weft_gen *handle)
{
    uintptr_t word = (uintptr_t)handle, life = word >> ADDRESS_BITS;
    struct weft__gen *g = (struct weft__gen *)(word & (((uintptr_t)1 << ADDRESS_BITS) - 1));
    return life != 0 && at_load(&g->life) == life ? g : NULL;
}

/* From 1 to 65535, and again. */
static uint64_t next_life(void)
{
    static at_word lives;
    return at_add(&lives, 1) % 65535 + 1;
}

static void describe(const struct weft__gen *g, char *out, size_t bytes)
{
    snprintf(out, bytes, "generator %s%s%s(%p)", g->name[0] ? "\"" : "", g->name, g->name[0] ? "\" " : "",
            (void *)(uintptr_t)g->body);
}

void weft__gen_describe(const struct weft__stack *k, char *out, unsigned long bytes)
{
    describe((const struct weft__gen *)(const void *)k->room, out, bytes);
}

/* While its consumer waits in the body, or else what comes out is worthless (machine/unwind.c, U1). */
__attribute__((no_sanitize("thread"))) const struct weft__context *weft__gen_below(
        const struct weft__stack *k, const struct weft__stack **home)
{
    const struct weft__gen *g = (const struct weft__gen *)(const void *)k->room;
    *home = g->back_stack;
    return &g->back;
}

static _Noreturn void misused(const struct weft__gen *g, const char *how)
{
    char text[120];
    describe(g, text, sizeof text);
    weft__panic(__FILE__, __LINE__, "%s %s", text, how);
}

/* ---- owners */

/* The one whose body the frame is in, not counting bodies below a joined child of it. */
static struct weft__gen *running_in(const struct weft__frame *f)
{
    struct weft__stack *k = own(f->stack);
    struct weft__gen *g = k && k->nested ? (struct weft__gen *)(void *)k->room : NULL;
    return g && at_load(&g->consumer) == (uint64_t)(uintptr_t)f ? g : NULL;
}

/* Of plain threads without a scope: nothing ends that they belong to. */
static struct weft__gens of_nobody;
static at_int of_process; /* which made the first that is in it: a forked one has copies, and is not to tell of them */

int weft__gens_of(struct weft__frame *f, struct weft__gens **out)
{
    struct weft__gen *in = running_in(f);
    *out = NULL;
    if (in && f->inner == in->inner) {
        *out = &in->gens;
    } else if (f->inner) {
        struct weft__scope_extra *x = weft__scope_extra(weft__scope_of(f->inner));
        if (!x)
            return -ENOMEM;
        *out = &x->gens;
    } else if (!weft__is_thread(f)) {
        struct weft__keeps *k = weft__keeps(f);
        if (!k || k->ending)
            return k ? -EINVAL : -ENOMEM;
        *out = &k->gens;
    }
    return 0;
}

static void join_owner(struct weft__gen *g, struct weft__gens *all)
{
    g->owner = all;
    g->newer = NULL;
    weft__lock(&all->lock);
    g->number = ++all->made;
    g->older = all->newest;
    if (g->older)
        g->older->newer = g;
    else if (all == &of_nobody)
        ati_store(&of_process, (uint32_t)getpid());
    all->newest = g;
    weft__unlock(&all->lock);
}

/* With the list locked. */
static void take_out(struct weft__gens *all, struct weft__gen *g)
{
    if (g->older)
        g->older->newer = g->newer;
    if (g->newer)
        g->newer->older = g->older;
    else
        all->newest = g->older;
    g->owner = NULL;
}

/* G4 */
static void leave_owner(struct weft__gen *g)
{
    struct weft__gens *all = g->owner;
    if (!all)
        return;
    weft__lock(&all->lock);
    take_out(all, g);
    weft__unlock(&all->lock);
}

/* ---- to and fro */

/* Runs the claimed generator's body until it yields or ends. */
static inline int run(struct weft__gen *g, struct weft__frame *f, void *sent, int thrown, void *item)
{
    struct weft__stack *here = own(f->stack);
    g->sent = sent;
    g->item = item;
    g->inner = f->inner;
    g->back_stack = here;
    g->back_home = here ? here : weft__stack_here();
    at_store(&g->consumer, (uint64_t)(uintptr_t)f);
    own_set(f->stack, g->home); /* G2 */
    return weft__context_hand(&g->back, &g->there, g->home, g->claimed, 1, thrown);
}

/* Goes back to the consumer from the context `from`, which advance saved last; G1: its caller is not the one who has it
 * any more once *word is `value`. */
static inline int go_back(struct weft__gen *g, struct weft__context *from, struct weft__frame *f, at_int *word,
        uint32_t value, int rc)
{
    own_set(f->stack, g->back_stack);
    at_store(&g->consumer, 0);
    /* release: meets the acquire of the next claim. Relaxed, the next could find the body's registers half saved. */
    return weft__context_hand(from, &g->back, g->back_home, word, value, rc);
}

static void body_ended(struct weft__gen *g, int rc)
{
    weft__fork_expect_parent();
    if (weft__current()->inner != g->inner)
        misused(g, "returned within a scope that it had begun, or outside of one that it had not");
    struct weft__frame *f = weft__current();
    struct weft__unclean u;
    weft__unclean_begin(&u, f);
    while (weft__gens_close(&g->gens, &u))
        continue;
    weft__unclean_over(&u, f);
    rc = weft__unclean_result(&u, f, rc);
    g->result = rc < 0 ? rc : 0;
}

/* A stack runs one body after the other, for ever. */
static void resident(void *arg)
{
    struct weft__stack *k = arg;
    struct weft__gen *g = (struct weft__gen *)(void *)k->room;
    weft__context_entered();
    for (;;) {
        weft__hb_acquire(&g->there); /* meets the release in weft__context_hand */
        body_ended(g, g->body(handle_of(g), g->arg));
        (void)go_back(g, &k->resident, weft__current(), &g->state, ENDED, g->result);
    }
}

/* It stays that, and nobody needs to claim it. acquire: meets the release in go_back, or in not_begun. */
static inline bool has_ended(const struct weft__gen *g)
{
    return ati_load_acquire(&g->state) == ENDED;
}

/* G1. False: somebody has it. */
static inline bool claim(struct weft__gen *g, const struct weft__frame *f)
{
    at_int *word = weft__biased_try(&g->claim, (uint64_t)(uintptr_t)f);
    if (!word)
        return false;
    g->claimed = word;
    return true;
}

/* Claimed, and about to begin, if it is to. Negative: it is not, and not claimed any more. */
static int not_begun(struct weft__gen *g, const void *sent, int thrown)
{
    if (thrown < 0) {
        g->result = thrown;
        ati_store_release(&g->state, ENDED); /* meets the acquire in has_ended */
        return thrown;
    }
    if (sent) {
        ati_store_release(g->claimed, 0); /* meets the acquire of the next claim */
        return -EINVAL;
    }
    ati_store(&g->state, PAUSED);
    return 0;
}

/* The common way of next, send and throw. */
static inline __attribute__((always_inline)) int advance(
        weft_gen *handle, void *sent, int thrown, void *item, size_t bytes)
{
    struct weft__gen *g = gen_of(handle);
    if (!g || bytes != g->item_bytes || (!item && bytes > 0))
        return -EINVAL;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (has_ended(g))
        return thrown < 0 ? thrown : g->result;
    if (!claim(g, f))
        return -EBUSY;
    if (__builtin_expect(ati_load(&g->state) == NEW, 0)) {
        int rc = not_begun(g, sent, thrown);
        if (rc < 0)
            return rc;
    }
    return run(g, f, sent, thrown, item);
}

int weft_gen_next(weft_gen *g, void *item, size_t bytes)
{
    return advance(g, NULL, 0, item, bytes);
}

int weft_gen_send(weft_gen *g, void *value, void *item, size_t bytes)
{
    return advance(g, value, 0, item, bytes);
}

int weft_gen_throw(weft_gen *g, int code, void *item, size_t bytes)
{
    return code < 0 ? advance(g, NULL, code, item, bytes) : -EINVAL;
}

/* G3 */
static inline bool may_leave(const struct weft__gen *g, const struct weft__frame *f)
{
    return at_load(&g->consumer) == (uint64_t)(uintptr_t)f && own(f->stack) == g->home && f->inner == g->inner;
}

static inline void copy_item(void *to, const void *from, size_t bytes)
{
    if (bytes == sizeof(void *))
        memcpy(to, from, sizeof(void *));
    else if (bytes > 0)
        memcpy(to, from, bytes);
}

int weft_gen_yield(weft_gen *handle, const void *item, size_t bytes)
{
    struct weft__gen *g = gen_of(handle);
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (!g || !may_leave(g, f) || bytes != g->item_bytes || (!item && bytes > 0))
        return -EINVAL;
    if (g->closing) {
        if (++g->refused > REFUSALS)
            misused(g, "is being closed, and went on yielding 1000 times");
        return -EINVAL;
    }
    copy_item(g->item, item, bytes);
    return go_back(g, &g->there, f, g->claimed, 0, 1); /* what was thrown */
}

void *weft_gen_sent(weft_gen *handle)
{
    struct weft__gen *g = gen_of(handle);
    return g ? g->sent : NULL;
}

/* ---- from beginning to end */

static struct weft__stack *take_stack(int class_index)
{
    struct weft__sched *w = weft__self();
    struct weft__stack *k = weft__stack_nested_take(w ? &w->nested : NULL, class_index);
    if (k)
        weft__hb_acquire(k); /* meets the release in give_stack: another task of this worker's may have had it */
    return k;
}

static void give_stack(struct weft__stack *k)
{
    struct weft__sched *w = weft__self();
    weft__hb_release(k);
    weft__stack_nested_give(w ? &w->nested : NULL, k);
}

static int check_options(const struct weft__frame *f, const weft_gen_options *o, int *class_index)
{
    *class_index = f->group ? f->group->default_class : weft__stack_class(DEFAULT_STACK);
    if (!o)
        return 0;
    if (!weft__reserved_zero(o))
        return -EINVAL;
    if (o->stack_bytes > 0)
        *class_index = weft__stack_class(o->stack_bytes);
    return *class_index < 0 ? -EINVAL : 0;
}

/* A new one on the stack; what the room has of an older one is not looked at but for its life, which is 0. */
static struct weft__gen *set_up(struct weft__stack *k, weft_gen_fn *body, void *arg, size_t item_bytes, const char *name)
{
    struct weft__gen *g = (struct weft__gen *)(void *)k->room;
    weft__biased_init(&g->claim);
    ati_store(&g->state, NEW);
    g->closing = false;
    g->refused = g->result = 0;
    at_store(&g->consumer, 0);
    g->item_bytes = item_bytes;
    g->home = k;
    g->body = body;
    g->arg = arg;
    g->gens = (struct weft__gens){ .newest = NULL };
    snprintf(g->name, sizeof g->name, "%s", name ? name : "");
    k->nested = true;
    if (!own(k->begun)) {
        own_set(k->begun, true);
        weft__context_make(&k->resident, k, resident, k); /* and so it stays, if this one is never begun */
    }
    weft__context_copy(&g->there, &k->resident);
    return g;
}

int weft_gen_create(weft_gen **out, weft_gen_fn *body, void *arg, size_t item_bytes, const weft_gen_options *o)
{
    int class_index;
    struct weft__gens *owner;
    if (!out || !body)
        return -EINVAL;
    int rc = weft__register(); /* weft__fences_init */
    if (rc < 0)
        return rc;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    rc = check_options(f, o, &class_index);
    if (rc < 0 || (rc = weft__gens_of(f, &owner)) < 0)
        return rc;
    if (!owner)
        owner = &of_nobody;
    struct weft__stack *k = take_stack(class_index);
    if (!k)
        return -ENOMEM;
    struct weft__gen *g = set_up(k, body, arg, item_bytes, o ? o->name : NULL);
    join_owner(g, owner);
    at_store(&g->life, next_life());
    *out = handle_of(g);
    return 0;
}

static void cleanup_failed(const struct weft__gen *g, struct weft__frame *f, int rc)
{
    char text[160];
    describe(g, text, sizeof text);
    size_t n = strlen(text);
    snprintf(text + n, sizeof text - n, ": its cleanup failed when it was closed");
    weft__report_task(f, "generator", rc, text);
}

/* The end of one that its owner has no more, by the running frame. It may suspend. */
static void end(struct weft__gen *g, struct weft__frame *f)
{
    if (!has_ended(g) && !claim(g, f))
        misused(g, "is to end while it runs");
    if (ati_load(&g->state) == PAUSED) {
        g->closing = true;
        int rc = run(g, f, NULL, -ECANCELED, NULL);
        if (rc < 0 && rc != -ECANCELED)
            cleanup_failed(g, f, rc);
    }
    at_store(&g->life, 0);
    give_stack(g->home);
}

void weft_gen_destroy(weft_gen **handle)
{
    struct weft__gen *g = handle ? gen_of(*handle) : NULL;
    struct weft__frame *f = g ? weft__current() : NULL;
    if (g && !f)
        return;
    if (handle)
        *handle = NULL;
    if (!g)
        return;
    leave_owner(g);
    end(g, f);
    (void)weft__on_stack(0);
}

bool weft__gens_close(struct weft__gens *all, struct weft__unclean *u)
{
    weft__lock(&all->lock);
    struct weft__gen *g = all->newest;
    struct weft__deferred *d = all->deferred;
    if (d && (!g || d->number > g->number)) {
        g = NULL;
        all->deferred = d->older;
    } else if (g) {
        d = NULL;
        take_out(all, g);
    }
    weft__unlock(&all->lock);
    if (d)
        weft__deferred_run(d, weft__current(), u);
    else if (g)
        end(g, weft__current());
    return d || g;
}

/* Told, and left as they are: their bodies may be anywhere, and other threads in the midst of them. */
__attribute__((destructor)) static void tell_of_those_left_open(void)
{
    int told = 0;
    if (weft__forked || ati_load(&of_process) != (uint32_t)getpid())
        return;
    weft__lock(&of_nobody.lock);
    for (const struct weft__gen *g = of_nobody.newest; g; g = g->older) {
        char text[160];
        if (has_ended(g))
            continue;
        if (told++ == TOLD) {
            weft__report(NULL, &(weft_report){ .what = "generator", .text = "more than those were left open" });
            break;
        }
        describe(g, text, sizeof text);
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, ": was left open, and nobody has run its cleanup");
        weft__report(NULL, &(weft_report){ .what = "generator", .text = text });
    }
    weft__unlock(&of_nobody.lock);
}
