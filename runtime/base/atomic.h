/* base/atomic.h - every atomic access of weft, named by its C11 order.
 *
 * Owns      the only include of libatomic_ops. This is the one seam: tests/models puts its own
 *           base/atomic.h in front of this one and explores our deque, ring, wait and slot code with it.
 * Words     at_word is as wide as a pointer (64 bits); at_int is 32 bits, for futex words.
 * Orders    A read-modify-write is acq_rel, or what its name says, and no more: on AArch64 it is no StoreLoad fence. A handshake that
 *           stores, then loads, says at_fence_full() between the two, on both sides, or at_fence_behind_rmw().
 *           ThreadSanitizer does not see fences, so whatever is published has an acquire and a release of
 *           its own; a fence only ever decides who wakes whom.
 */
#ifndef WEFT_BASE_ATOMIC_H
#define WEFT_BASE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#ifdef AO_USE_PTHREAD_DEFS
#error "AO_USE_PTHREAD_DEFS turns every atomic operation into one global lock"
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#include <atomic_ops.h>
#pragma GCC diagnostic pop

typedef AO_t at_word;
typedef unsigned int at_int;
_Static_assert(sizeof(at_word) == 8, "weft packs {index, generation} into one word");

#if defined(__SANITIZE_THREAD__)
#define WEFT__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT__TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WEFT__ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT__ASAN 1
#endif
#endif

static inline uint64_t at_load(const at_word *p)
{
    return AO_load((const volatile AO_t *)p);
}
static inline uint64_t at_load_acquire(const at_word *p)
{
    return AO_load_acquire((const volatile AO_t *)p);
}
static inline void at_store(at_word *p, uint64_t v)
{
    AO_store(p, v);
}
static inline void at_store_release(at_word *p, uint64_t v)
{
    AO_store_release(p, v);
}
/* acq_rel; true if *p was `old` and now is `new_value`. */
static inline bool at_cas(at_word *p, uint64_t old, uint64_t new_value)
{
    return AO_compare_and_swap_full(p, old, new_value) != 0;
}
/* One half of it, where the other would be an order that is not there: ThreadSanitizer would take it for one, and miss
 * races of users. */
static inline bool at_cas_acquire(at_word *p, uint64_t old, uint64_t new_value)
{
    return AO_compare_and_swap_acquire(p, old, new_value) != 0;
}
static inline bool at_cas_release(at_word *p, uint64_t old, uint64_t new_value)
{
    return AO_compare_and_swap_release(p, old, new_value) != 0;
}
/* acq_rel; returns what *p was. */
static inline uint64_t at_add(at_word *p, uint64_t n)
{
    return AO_fetch_and_add_full(p, n);
}
static inline uint64_t at_swap(at_word *p, uint64_t v)
{
    uint64_t old;
    do {
        old = at_load(p);
    } while (!at_cas(p, old, v));
    return old;
}

static inline uint32_t ati_load(const at_int *p)
{
    return AO_int_load((const volatile unsigned *)p);
}
static inline uint32_t ati_load_acquire(const at_int *p)
{
    return AO_int_load_acquire((const volatile unsigned *)p);
}
static inline void ati_store(at_int *p, uint32_t v)
{
    AO_int_store(p, v);
}
static inline void ati_store_release(at_int *p, uint32_t v)
{
    AO_int_store_release(p, v);
}
static inline bool ati_cas(at_int *p, uint32_t old, uint32_t new_value)
{
    return AO_int_compare_and_swap_full(p, old, new_value) != 0;
}
static inline uint32_t ati_add(at_int *p, uint32_t n)
{
    return AO_int_fetch_and_add_full(p, n);
}
static inline uint32_t ati_swap(at_int *p, uint32_t v)
{
    uint32_t old;
    do {
        old = ati_load(p);
    } while (!ati_cas(p, old, v));
    return old;
}

/* No later load is done before an earlier store is visible. AO_nop_full is an mfence under clang, 16 ns
 * against 2 for a locked operation on the stack, which orders as much for ordinary memory. */
static inline void at_fence_full(void)
{
#if defined(__x86_64__)
    __asm__ volatile("lock; orq $0,(%%rsp)" ::: "memory", "cc");
#else
    AO_nop_full();
#endif
}

/* The same where the access before it was a read-modify-write, which is that fence already on x86-64. */
static inline void at_fence_behind_rmw(void)
{
#if defined(__x86_64__)
    __asm__ volatile("" ::: "memory");
#else
    AO_nop_full();
#endif
}

/* A hint; any address will do. */
static inline void at_prefetch(const void *p)
{
    __builtin_prefetch(p);
}
static inline void at_relax(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* Fields that only one thread touches, but from several of its coroutines. ThreadSanitizer takes each
 * coroutine for a thread, so it is told that these accesses are meant; they compile to plain moves. */
#ifdef WEFT__TSAN
#define own(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define own_set(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#else
#define own(field) (field)
#define own_set(field, value) ((field) = (value))
#endif

#endif
