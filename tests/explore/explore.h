/* explore.h - runs weft's own code in every interleaving, and with every value that C11 lets a load see.
 *
 * A scenario is a few threads, coroutines here, that call weft's code compiled behind seam/base/atomic.h. Each access
 * to a word that two threads share is a point where any of them may go on; each load may read any message that its
 * thread's view allows; each store may come late in the order of its word. All of it is searched, depth first, unless
 * a scenario says how many preemptions are enough.
 *
 * The memory   a word is a list of messages in modification order. A thread's view says, for each word, the oldest
 *              message it may still read. A release store's message carries its thread's view, an acquire load joins
 *              it; a read-modify-write reads the message just before its own, and passes that one's view on. A fence
 *              acts as release and acquire for the relaxed accesses around it, and exchanges views with all other
 *              fences. That is C11 (RC11) without reads out of the future, whose release sequences are those of C++20.
 * Races        what is not atomic is told by ex_write and ex_read; between two of them, one a write, there must be a
 *              chain of releases and acquires. Fences make no such chain, since ThreadSanitizer sees none and weft has
 *              it as a rule (base/atomic.h); ex_fences_publish says otherwise.
 * States       a state is its history up to the order of steps that do not see each other; none is gone through twice.
 */
#ifndef WEFT_EXPLORE_H
#define WEFT_EXPLORE_H

#include "base/atomic.h"

struct ex_scenario {
    const char *group, *name;
    int threads;
    void (*setup)(void);        /* everything as new */
    void (*thread)(int number); /* 0 .. threads - 1 */
    void (*check)(void);        /* after all have ended; may be NULL */
    int preemptions;            /* at most so many; -1: any number */
    const char *about;
    bool (*quiet)(void);        /* whether all may wait for ever now; NULL: never */
};

/* ---- for scenarios */

/* The running thread's number; in setup, that of whom it prepares. */
int ex_self(void);
void ex_be(int number);
/* The property does not hold. Ends the run. */
_Noreturn void ex_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define ex_expect(cond) ((cond) ? (void)0 : ex_fail("expected %s (%s:%d)", #cond, ex_base(__FILE__), __LINE__))
const char *ex_base(const char *file);

/* Accesses to what is not atomic. */
void ex_write(const void *p, const char *what);
void ex_read(const void *p, const char *what);

/* Memory that one thread made: others may touch it only when that was published to them. It holds nonsense unless it
 * was zeroed. */
void ex_born(const void *p, size_t bytes, bool zeroed, const char *what);
/* It is gone: all accesses were before, and there is none after. bytes 0: as many as were born. */
void ex_gone(const void *p, size_t bytes, const char *what);

/* What the scenario itself counts in, beside weft's words: part of the state. Once, in setup. */
void ex_ghost(void *p, size_t bytes);

/* Waits until the predicate on the ghost state holds. */
void ex_until(bool (*holds)(int arg), int arg, const char *what);

/* Something on its way from one thread to another: a queue, as far as memory sees it. `elsewhere`: received on
 * another thread, which goes on with what is here and knows nothing but what the sender did. */
void ex_send(at_word *mail);
void ex_receive(at_word *mail, bool elsewhere);

/* The running thread's last n loads turned out to count. C11 would let a load read from a store that comes after it,
 * were that not ordered by acquire and release; the explorer has no such runs, so it checks for the order. */
void ex_relied(int n);

void ex_lock(void *l);
void ex_unlock(void *l);

/* The kernel's wait on a word, under a lock of the kernel's. */
void ex_futex_wait(at_int *word, uint32_t value);
void ex_futex_wake(at_int *word, int n);

/* ---- for the driver */

struct ex_result {
    bool failed, complete;
    unsigned long runs, states;
    char why[200];
};
extern bool ex_fences_publish, ex_trace;

/* At most `most` runs; with random > 0, that many random runs instead. */
void ex_explore(const struct ex_scenario *s, unsigned long most, unsigned long random, struct ex_result *out);

extern struct ex_site *__start_ex_sites[], *__stop_ex_sites[];

#endif
