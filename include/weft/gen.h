/* weft/gen.h - generators: functions that hand out items one at a time, and go on where they were.
 *
 * The body is a plain function on a stack of its own. weft_gen_yield hands an item to whoever asked for one, and returns
 * when the next is asked for: two switches of stacks, and no queue. It may call whatever it likes, and hand `g` on:
 * delegation is a function call, and costs nothing at any depth.
 *
 *     while ((rc = weft_gen_next(g, &line, sizeof line)) > 0)
 *         puts(line);
 *
 * Who runs it. The body runs as part of the consumer of the moment, as if that had called it: it has its id, its
 * deadlines and cancels, its local values, its worker. When it waits, the consumer waits; on a plain thread it blocks the
 * thread. Another task may advance it later, if it is not running; what one did before is visible to the next.
 *
 * Scopes. What the body opens it has to end before it yields: a scope belongs to one task, and the next consumer may be
 * another. So a yield within a scope or timeout of the body's own is refused with -EINVAL.
 *
 * How long it lives. A generator belongs to what it was made in: the innermost open scope that its creator had begun, or
 * else the task itself, or the generator whose body made it. The end of that closes it, after the children, the newest
 * first: so none is abandoned. A plain thread without a scope is no owner, and has to destroy it, or whoever it hands it
 * to: one that has not ended when the process exits is told of on standard error, by its name (the newest eight), and its
 * cleanup is not run. A later destroy of one that was closed by its owner does nothing, and any other call returns
 * -EINVAL; as long as fewer than 65535 others were created meanwhile.
 *
 * Closing. The pending yield returns -ECANCELED, and the body is awaited: its cleanup may wait, under what applies to
 * whoever closes it: in a cancelled scope such calls are refused unless it opens a shield. A body that had not begun is
 * not begun. One that yields once more is refused with -EINVAL; one that goes on yielding after a thousand times aborts
 * the program. A negative result of its other than -ECANCELED is reported.
 *
 * Results of weft_gen_next, _send and _throw:
 *
 *     1          an item
 *     0          the body has returned 0 or more; so it is from then on
 *     negative   the body has returned that, or weft_gen_throw had it before it began; so it is from then on. (Python says
 *                it once, and then that the end has come. Here a second consumer could take that for a clean end.)
 *     -EBUSY     it is running, in this task or another; or another has had it before, and a filter of system calls that
 *                was set up since then forbids membarrier(2)
 *     -EINVAL    `bytes` is not the size of its items; g is NULL, or was closed
 *
 * Results of another kind go through the body's argument.
 */
#ifndef WEFT_GEN_H
#define WEFT_GEN_H

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A generator; what the pointer says is weft's own. */
typedef struct weft_gen weft_gen;

/* A body: returns 0 or more at its end, else a negative errno. */
typedef int weft_gen_fn(weft_gen *g, void *arg);

/* How a generator is to be. All zero, or NULL, are the defaults. */
typedef struct weft_gen_options {
    const char *name;     /* shown in reports, copied, at most 31 bytes; NULL: none */
    size_t stack_bytes;   /* guaranteed to the body; 0: the runtime's default, 64 KiB without one; at most 8 MiB */
    uint64_t reserved[8]; /* zero */
} weft_gen_options;

/* Creates a generator of items of `item_bytes` bytes (0: it hands out nothing but its turns). The body does not begin
 * before the first item is asked for. `arg` is borrowed until its end.
 *
 * returns    0; -EINVAL; -ENOMEM no memory or no stack
 * on error   *out is untouched
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_gen_create(
        weft_gen **out, weft_gen_fn *body, void *arg, size_t item_bytes, const weft_gen_options *o);

/* Closes it, and gives it up; *g is NULL then. Aborts where the others say -EBUSY.
 *
 * context    task: suspends, not a cancellation point; plain thread: blocks it. Only if the body does. A plain thread for
 *            which there is no memory, and a forked child, leave it as it is */
WEFT_API void weft_gen_destroy(weft_gen **g);

/* Goes on with the body until it yields the next item, which is copied to *item.
 *
 * returns    as above; so -ECANCELED if the body returns that
 * on error   *item is untouched, and so it is at the end
 * context    task: suspends, cancellation point (the body says what is lost); plain thread: blocks it. Only if the body
 *            calls what does: otherwise it is none, and never waits
 * ordering   what was written before is visible to the body, and what the body wrote on return
 * source     two context switches, and a biased lock: who takes the first item takes all others without an atomic
 *            operation; the first item of another costs a membarrier(2) (coord/gen.c, base/biased.h) */
WEFT_CHECK WEFT_API int weft_gen_next(weft_gen *g, void *item, size_t bytes);

/* Goes through the items of a generator, each as `item` of that type, and closes it, on whatever way the loop is left (end,
 * break, return, goto). `rc`, an int of the caller's, says afterwards what ended it: 0 the items, negative a failure, 1 a
 * break. A generator that is NULL has no items, and leaves rc as it is, so a create that failed needs no look of its own. To go
 * on with it later, loop over weft_gen_next.
 *
 *     weft_gen *g = NULL;
 *     int rc = weft_gen_create(&g, lines, f, sizeof(struct line), NULL);
 *     WEFT_GEN_EACH(struct line, l, g, rc)
 *         puts(l.text);
 *     return rc;
 */
#define WEFT_GEN_EACH(type, item, gen, rc)                                                         \
    for (weft_gen *item##_of WEFT_AUTO(weft_gen_destroy) = (gen); item##_of; weft_gen_destroy(&item##_of))                  \
        for (type item; ((rc) = weft_gen_next(item##_of, &item, sizeof item)) > 0;)

/* The same as weft_gen_next; the body finds `value` by weft_gen_sent, until the next call.
 *
 * returns    as above, with -ECANCELED; -EINVAL also if the body has not begun, and so nobody waits for a value that is not NULL
 * context    task: suspends, cancellation point (as weft_gen_next); plain thread: blocks it. As above */
WEFT_CHECK WEFT_API int weft_gen_send(weft_gen *g, void *value, void *item, size_t bytes);

/* The same; the pending yield returns `code`, which is negative. The body may handle it and go on. If it has not begun it
 * never does: that is its end. After the end it changes nothing and returns `code`.
 *
 * returns    as above, with -ECANCELED; -EINVAL also if code is not negative
 * context    task: suspends, cancellation point (as weft_gen_next); plain thread: blocks it. As above */
WEFT_CHECK WEFT_API int weft_gen_throw(weft_gen *g, int code, void *item, size_t bytes);

/* In the body, or what it calls: hands out an item, and waits for the next call.
 *
 * returns    0 after weft_gen_next and weft_gen_send; what was thrown; -ECANCELED it is being closed; at once -EINVAL
 *            for a wrong size, outside of the body of g, in a child's or another generator's within it, with a scope open
 *            that the body began, or while it is being closed
 * context    any thread: never suspends, not a cancellation point. The body alone: it leaves to the consumer, and may go
 *            on in another task, on another thread */
WEFT_CHECK WEFT_API int weft_gen_yield(weft_gen *g, const void *item, size_t bytes);

/* In the body: the value that weft_gen_send brought with the last call; NULL after any other.
 *
 * context    any thread: never suspends. The body alone */
WEFT_API void *weft_gen_sent(weft_gen *g);

#ifdef __cplusplus
}
#endif
#endif
