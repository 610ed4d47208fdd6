/* sync/limiter.c - permits of which it is known who has them.
 *
 * Owns      a semaphore, and the list of what is out of it.
 * Holds     L1  a loan is in the list from when its permits were taken until before they are given back: so the permits of
 *               all that are in the list were never more than there are.
 *           L2  `who` and `of` of a loan are written by its borrower alone; anybody may try to return it, and is refused by
 *               what is there.
 * Freed     as a semaphore: giving back is the last access, and comes after the lock.
 * Source    the limiters of Trio and AnyIO, which refuse to take from one that has not borrowed.
 * Tested    tests/limiter_test.c */
#include <errno.h>
#include <limits.h>
#include <weft/sync.h>

#include "base/fork.h"
#include "base/list.h"
#include "coord/await.h"
#include "sync/sem.h"

struct limiter {
    weft_sem sem; /* bounded */
    struct weft__lock lock;
    uint32_t unused;
    struct weft__link loans; /* the oldest first; may be all zero; under lock */
};
_Static_assert(sizeof(struct limiter) == sizeof(weft_limiter), "weft_limiter has a fixed size");

enum { THREAD = 1, ID_SHIFT = 1 };

struct loan {
    struct weft__link link; /* under the lock */
    at_word of;             /* struct limiter *; 0: it is not out */
    at_word who;            /* {id, THREAD} */
    uint64_t permits;
};
_Static_assert(sizeof(struct loan) == sizeof(weft_loan), "weft_loan has a fixed size");

static struct limiter *inside(weft_limiter *l)
{
    return (struct limiter *)(void *)l;
}

static struct loan *inside_loan(weft_loan *loan)
{
    return (struct loan *)(void *)loan;
}

static uint64_t word_of(const struct weft__frame *f)
{
    return weft__is_thread(f) ? weft__id_of_thread(f) << ID_SHIFT | THREAD : (uint64_t)f->id << ID_SHIFT;
}

static int borrow(weft_limiter *pl, weft_loan *ploan, uint32_t permits, int (*take)(weft_sem *s, uint32_t permits))
{
    struct limiter *l = inside(pl);
    struct loan *loan = inside_loan(ploan);
    const struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (permits == 0 || permits > weft__sem_bound(&l->sem))
        return -EINVAL;
    if (at_load(&loan->of) != 0)
        return -EBUSY;
    int rc = take(&l->sem, permits);
    if (rc < 0)
        return rc;
    loan->permits = permits;
    at_store(&loan->who, word_of(f));
    at_store(&loan->of, (uint64_t)(uintptr_t)l);
    weft__lock(&l->lock);
    if (!l->loans.next)
        list_init(&l->loans);
    list_push_tail(&l->loans, &loan->link);
    weft__unlock(&l->lock);
    return 0;
}

int weft_limiter_borrow(weft_limiter *l, weft_loan *loan, uint32_t permits)
{
    return weft__on_stack(borrow(l, loan, permits, weft_sem_acquire));
}

int weft_limiter_try_borrow(weft_limiter *l, weft_loan *loan, uint32_t permits)
{
    return borrow(l, loan, permits, weft_sem_try_acquire);
}

int weft_limiter_return(weft_limiter *pl, weft_loan *ploan)
{
    struct limiter *l = inside(pl);
    struct loan *loan = inside_loan(ploan);
    const struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    if (at_load(&loan->of) != (uint64_t)(uintptr_t)l)
        return -EINVAL;
    if (at_load(&loan->who) != word_of(f))
        return -EPERM;
    weft__lock(&l->lock);
    list_remove(&loan->link); /* L1 */
    weft__unlock(&l->lock);
    at_store(&loan->of, 0);
    return weft_sem_release(&l->sem, (uint32_t)loan->permits);
}

int weft_limiter_borrowers(weft_limiter *pl, weft_task *out, size_t n)
{
    struct limiter *l = inside(pl);
    size_t all = 0;
    if (!out && n > 0)
        return -EINVAL;
    if (weft__forked)
        return -ECHILD;
    weft__lock(&l->lock);
    for (struct weft__link *at = l->loans.next; at && at != &l->loans; at = at->next, all++) {
        uint64_t who = at_load(&container_of(at, struct loan, link)->who);
        if (all < n)
            out[all] = who & THREAD ? 0 : (weft_task)(who >> ID_SHIFT);
    }
    weft__unlock(&l->lock);
    return all < INT_MAX ? (int)all : INT_MAX;
}
