/* seam/base/atomic.h - stands in front of runtime/base/atomic.h: every atomic access goes to the explorer.
 *
 * Each access leaves a record of where it is and of its order, which the mutations of main.c look up by function, kind
 * and position, and weaken. See explore.h. */
#ifndef WEFT_BASE_ATOMIC_H
#define WEFT_BASE_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long at_word;
typedef unsigned int at_int;

enum ex_order {
    EX_RELAXED = 0,
    EX_ACQUIRE = 1,
    EX_RELEASE = 2,
    EX_ACQ_REL = 3,
    EX_FENCE = 4,
    EX_STEP = 8 /* no access, but a call: see steps.h */
};

struct ex_site {
    const char *unit, *file, *func, *op;
    int line, counter, position; /* position: of its kind in its function, filled in at the start */
    unsigned order; /* as written; a compare-and-swap that fails has its acquire */
    unsigned drop;  /* bits of `order` that a mutation takes away */
    unsigned long hits;
};

uint64_t ex_load(struct ex_site *site, const void *p, unsigned bytes);
void ex_store(struct ex_site *site, void *p, unsigned bytes, uint64_t v);
bool ex_cas(struct ex_site *site, void *p, unsigned bytes, uint64_t old, uint64_t v);
uint64_t ex_add(struct ex_site *site, void *p, unsigned bytes, uint64_t n);
uint64_t ex_swap(struct ex_site *site, void *p, unsigned bytes, uint64_t v);
void ex_fence(struct ex_site *site);
bool ex_step(struct ex_site *site);
void ex_relax(void);

#define EX_PASTE_(a, b) a##b
#define EX_PASTE(a, b) EX_PASTE_(a, b)

/* A block of its own for each access: its record, then the call. */
#define EX_HERE(s, op, order)                                                                                          \
    static struct ex_site s = {                                                                                        \
        __BASE_FILE__, __FILE__, __func__, op, __LINE__, __COUNTER__, 0, order, 0, 0                                   \
    };                                                                                                                 \
    static struct ex_site *const EX_PASTE(s, _ref) __attribute__((section("ex_sites"), used)) = &s
#define EX_LOAD(s, op, order, p, bytes, type)                                                                          \
    __extension__({ EX_HERE(s, op, order); (type)ex_load(&s, p, bytes); })
#define EX_STORE(s, op, order, p, bytes, v)                                                                            \
    __extension__({ EX_HERE(s, op, order); ex_store(&s, p, bytes, v); })
#define EX_CAS(s, op, order, p, bytes, old, v)                                                                         \
    __extension__({ EX_HERE(s, op, order); ex_cas(&s, p, bytes, old, v); })
#define EX_RMW(s, op, f, p, bytes, v, type)                                                                            \
    __extension__({ EX_HERE(s, op, EX_ACQ_REL); (type)f(&s, p, bytes, v); })
#define EX_NAME EX_PASTE(ex_site_, __COUNTER__)

#define at_load(p) EX_LOAD(EX_NAME, "at_load", EX_RELAXED, p, 8, uint64_t)
#define at_load_acquire(p) EX_LOAD(EX_NAME, "at_load_acquire", EX_ACQUIRE, p, 8, uint64_t)
#define at_store(p, v) EX_STORE(EX_NAME, "at_store", EX_RELAXED, p, 8, v)
#define at_store_release(p, v) EX_STORE(EX_NAME, "at_store_release", EX_RELEASE, p, 8, v)
#define at_cas(p, old, v) EX_CAS(EX_NAME, "at_cas", EX_ACQ_REL, p, 8, old, v)
#define at_cas_acquire(p, old, v) EX_CAS(EX_NAME, "at_cas_acquire", EX_ACQUIRE, p, 8, old, v)
#define at_cas_release(p, old, v) EX_CAS(EX_NAME, "at_cas_release", EX_RELEASE, p, 8, old, v)
#define at_add(p, n) EX_RMW(EX_NAME, "at_add", ex_add, p, 8, n, uint64_t)
#define at_swap(p, v) EX_RMW(EX_NAME, "at_swap", ex_swap, p, 8, v, uint64_t)
#define ati_load(p) EX_LOAD(EX_NAME, "ati_load", EX_RELAXED, p, 4, uint32_t)
#define ati_load_acquire(p) EX_LOAD(EX_NAME, "ati_load_acquire", EX_ACQUIRE, p, 4, uint32_t)
#define ati_store(p, v) EX_STORE(EX_NAME, "ati_store", EX_RELAXED, p, 4, (uint32_t)(v))
#define ati_store_release(p, v) EX_STORE(EX_NAME, "ati_store_release", EX_RELEASE, p, 4, (uint32_t)(v))
#define ati_cas(p, old, v) EX_CAS(EX_NAME, "ati_cas", EX_ACQ_REL, p, 4, old, v)
#define ati_add(p, n) EX_RMW(EX_NAME, "ati_add", ex_add, p, 4, (uint32_t)(n), uint32_t)
#define ati_swap(p, v) EX_RMW(EX_NAME, "ati_swap", ex_swap, p, 4, v, uint32_t)
#define EX_FULL(s) __extension__({ EX_HERE(s, "at_fence_full", EX_FENCE); ex_fence(&s); })
#define at_fence_full() EX_FULL(EX_NAME)
#define EX_BEHIND(s) __extension__({ EX_HERE(s, "at_fence_behind_rmw", EX_FENCE); ex_fence(&s); })
#define at_fence_behind_rmw() EX_BEHIND(EX_NAME)
#define at_relax() ex_relax()
#define at_prefetch(p) ((void)(p))

#define own(field) (field)
#define own_set(field, value) ((field) = (value))

#endif
