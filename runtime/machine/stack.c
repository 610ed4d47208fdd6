/* machine/stack.c - memory for stacks: slabs, guards, classes, caches.
 *
 * Owns      the mappings. A slot, once cut from its slab and guarded, stays a stack of its class until the
 *           pool ends; it moves between the pool and the workers' caches.
 * Callers   sched, on a worker: get and put through its own cache. The pool is behind one lock. Generators: the same
 *           with caches of their own, or none, and the pool that all threads share.
 * Guards    MADV_GUARD_INSTALL (Linux 6.13): no mapping of its own, a million in one slab. Before that
 *           mprotect, two mappings a stack, so vm.max_map_count ends it near 32,750 stacks; weft__stack_limit
 *           stops before the rest of the program is starved of mappings.
 * Memory    comes back from stacks in the pool (engine/trim.c says when), the head's page as well: of 10^5 stacks that
 *           were used a little, that is all there is.
 *
 *     Z1  a stack is taken off its batch, under the lock: it is ours
 *     Z2  MADV_DONTNEED from the guard to the end of the slot, without the lock. The guard stays, of either kind. Its
 *         resident loop is gone, and so is what was known of it: it is as if just cut, but guarded
 *     Z3  its number goes to its slab, under the lock: the kernel is not asked for it again before
 *     Z4  get takes such a number, after all stacks that have memory: head written, nothing to be guarded; the first
 *         task bound to it begins a new loop
 *
 * At once   where many stacks exist, several more are made together: process_madvise(2) on ourselves (Linux 6.15) guards
 *           them all, and touches the top pages of all, which would be a call and a fault for each. It saves
 *           a sixth to a third of the 2 to 3 us that a new stack takes.
 *
 * No huge pages: one touched page must not become 2 MiB. */
#include "machine/stack.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/errno.h"
#include "base/fault.h"
#include "base/mem.h"
#ifdef WEFT__TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef WEFT__ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef WEFT__VALGRIND /* -DWEFT_VALGRIND=ON: valgrind is told what is a stack, when there is a new one */
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) ((void)(low), (void)(high))
#endif

/* It reads what belongs to others. */
#if defined(WEFT__TSAN) || defined(WEFT__ASAN)
#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize("thread"), no_sanitize("address")))
#else
#define NOT_INSTRUMENTED __attribute__((noinline))
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef PIDFD_SELF_THREAD /* no descriptor: after a fork one would still name the parent */
#define PIDFD_SELF_THREAD (-10000)
#endif

enum { SLAB_BYTES = 256 << 20, SLAB_LEAST_SLOTS = 16, PAGE = 4096, AT_ONCE = 16 };

struct weft__stack_slab {
    struct weft__stack_slab *next;
    char *memory;
    size_t bytes, slot, used; /* slots [0, used) have been cut */
    struct weft__stack_slab *next_empty;
    uint32_t empties, empty[]; /* Z3: numbers of slots without memory */
};

/* What get has found, under the lock; its memory is not touched before that is free again. */
struct found {
    struct weft__stack *stack;
    struct weft__stack_slab *slab;
    char *slot;
    bool guarded;
};

at_word weft__stack_limit;

at_int weft__stack_scale;

int weft__stack_class(size_t bytes)
{
    size_t most = weft__stack_guarantee(WEFT__STACK_CLASSES - 1), scale = ati_load(&weft__stack_scale);
    if (bytes > most)
        return -1;
    if (scale > 1)
        bytes = bytes > most / scale ? most : bytes * scale;
    for (int k = 0; k < WEFT__STACK_CLASSES; k++)
        if (bytes <= weft__stack_guarantee(k))
            return k;
    return -1;
}

/* A page more than twice the guarantee: were the distance a power of two, the tops of all stacks would share a few
 * sets of the cache (1000 tasks that yield: 78 ns a turn, against 42 to 47). */
static size_t slot_bytes(int class_index)
{
    size_t twice = 2 * weft__stack_guarantee(class_index);
    return (twice < 65536 ? 65536 : twice) + PAGE;
}

/* The same within the top page, whose rest is the task's: up to 15 lines. */
static size_t colour(size_t slot)
{
    return (slot + slot / 32) % 16 * 64;
}

static uint64_t limit(void)
{
    uint64_t known = at_load(&weft__stack_limit);
    long maps = 65530;
    if (known != 0)
        return known;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    bool read = f != NULL;
    if (f) {
        if (fscanf(f, "%ld", &maps) != 1)
            maps = 65530;
        fclose(f);
    }
    known = maps / 2 - 512 > 64 ? (uint64_t)maps / 2 - 512 : 64;
    if (read) /* else it is asked again: descriptors may have been short just now */
        at_store(&weft__stack_limit, known);
    return known;
}

static int guard_by_map(struct weft__stack_pool *p, char *slot)
{
    if (at_add(&p->guards_by_map, 1) >= limit() || weft__fault(WEFT__FAULT_MPROTECT) ||
            mprotect(slot, WEFT__GUARD_BYTES, PROT_NONE) < 0) {
        at_add(&p->guards_by_map, (uint64_t)-1);
        return -ENOMEM;
    }
    return 0;
}

static int guard(struct weft__stack_pool *p, char *slot)
{
    if (!ati_load(&p->by_map)) {
        int rc = weft__fault(WEFT__FAULT_GUARD);
        if (rc == 0 && madvise(slot, WEFT__GUARD_BYTES, MADV_GUARD_INSTALL) == 0)
            return 0;
        rc = rc ? rc : -weft__errno();
        if (rc != -EINVAL)
            return rc;
        ati_store(&p->by_map, 1); /* an older kernel, or locked memory */
    }
    return guard_by_map(p, slot);
}

static struct weft__stack_slab *slab_new(int class_index)
{
    size_t slot = slot_bytes(class_index);
    size_t bytes = SLAB_BYTES / slot >= SLAB_LEAST_SLOTS ? SLAB_BYTES : slot * SLAB_LEAST_SLOTS;
    struct weft__stack_slab *s = weft__mem_zeroed(sizeof *s + bytes / slot * sizeof s->empty[0]);
    if (!s)
        return NULL;
    s->slot = slot;
    s->bytes = bytes;
    void *m = weft__fault(WEFT__FAULT_MMAP)
            ? MAP_FAILED
            : mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (m == MAP_FAILED) {
        weft__mem_free(s);
        return NULL;
    }
    madvise(m, s->bytes, MADV_NOHUGEPAGE); /* refused by kernels without huge pages, which is as good */
    s->memory = m;
    return s;
}

static struct found nth_of(struct weft__stack_slab *s, size_t i)
{
    char *slot = s->memory + i * s->slot;
    struct weft__stack *k = (struct weft__stack *)(void *)(slot + s->slot - colour(i) - sizeof *k);
    return (struct found){ .stack = k, .slab = s, .slot = slot };
}

/* What only a parked task points to is no leak. All but the guards, which LeakSanitizer cannot read. */
static void tell_lsan(const struct weft__stack_slab *s, size_t i, bool begins)
{
#ifdef WEFT__ASAN
    char *low = s->memory + i * s->slot + WEFT__GUARD_BYTES;
    if (begins)
        __lsan_register_root_region(low, s->slot - WEFT__GUARD_BYTES);
    else
        __lsan_unregister_root_region(low, s->slot - WEFT__GUARD_BYTES);
#else
    (void)s, (void)i, (void)begins;
#endif
}

/* A stack never used before. With the pool locked: no new page is touched. */
static struct found cut(struct weft__stack_pool *p, int class_index)
{
    struct weft__stack *k = p->bare[class_index];
    if (k) {
        p->bare[class_index] = own(k->next);
        return (struct found){ .stack = k, .slab = own(k->slab), .slot = own(k->low) - WEFT__GUARD_BYTES };
    }
    struct weft__stack_slab *s = p->slabs[class_index];
    if (!s || (s->used + 1) * s->slot > s->bytes) {
        if (!(s = slab_new(class_index)))
            return (struct found){ .stack = NULL };
        s->next = p->slabs[class_index];
        p->slabs[class_index] = s;
    }
    p->made++;
    tell_lsan(s, s->used, true);
    return nth_of(s, s->used++);
}

/* Z4. One that gave its memory back, or one that is new. With the pool locked. */
static struct found without_memory(struct weft__stack_pool *p, int class_index)
{
    struct weft__stack_slab *s = p->empty[class_index];
    struct found f;
    if (s) {
        f = nth_of(s, s->empty[--s->empties]);
        f.guarded = true;
        if (s->empties == 0)
            p->empty[class_index] = s->next_empty;
    } else {
        f = cut(p, class_index);
    }
    if (f.stack)
        at_store(&p->fresh, at_load(&p->fresh) + weft__stack_guarantee(class_index));
    return f;
}

static struct weft__stack *refused(struct weft__stack_pool *p)
{
    ati_store(&p->starved, 1);
    return NULL;
}

/* Guards what was found, and touches its first page. */
static struct weft__stack *made(struct weft__stack_pool *p, struct found f, int class_index)
{
    struct weft__stack *k = f.stack;
    int rc = f.guarded ? 0 : guard(p, f.slot);
    own_set(k->low, f.slot + WEFT__GUARD_BYTES);
    own_set(k->high, (char *)k);
    own_set(k->slab, f.slab);
    own_set(k->class_index, class_index);
    if (rc == 0) {
        (void)VALGRIND_STACK_REGISTER(f.slot + WEFT__GUARD_BYTES, (char *)k);
        return k;
    }
    weft__lock(&p->lock);
    own_set(k->next, p->bare[class_index]);
    p->bare[class_index] = k;
    weft__unlock(&p->lock);
    return refused(p);
}

/* ---- several at once */

/* One advice for all of these places. Where the kernel cannot, it is not asked again. */
static bool advise(struct weft__stack_pool *p, const struct iovec *places, int n, int advice)
{
    ssize_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += (ssize_t)places[i].iov_len;
    ssize_t done = syscall(SYS_process_madvise, PIDFD_SELF_THREAD, places, (size_t)n, advice, 0);
    if (done < 0 && weft__errno() != ENOMEM)
        ati_store(&p->singly, 1);
    return done == bytes;
}

/* What does not succeed is done for each by itself: made() guards those that are not, and its first write is a fault. */
static void guard_and_touch(struct weft__stack_pool *p, struct found *f, int n)
{
    struct iovec places[AT_ONCE];
    int unguarded = 0;
    for (int i = 0; i < n; i++)
        if (!f[i].guarded)
            places[unguarded++] = (struct iovec){ f[i].slot, WEFT__GUARD_BYTES };
    if (unguarded > 0) {
        if (weft__fault(WEFT__FAULT_GUARD) || !advise(p, places, unguarded, MADV_GUARD_INSTALL))
            return;
        for (int i = 0; i < n; i++)
            f[i].guarded = true;
    }
    for (int i = 0; i < n; i++)
        places[i] = (struct iovec){ f[i].slot + f[i].slab->slot - PAGE, PAGE };
    (void)advise(p, places, n, MADV_POPULATE_WRITE);
}

/* An eighth of as many as exist: who needs few does not pay for more. No new ones along with those that gave their memory
 * back. With the pool locked. */
static int find_some(struct weft__stack_pool *p, struct found *f, int class_index)
{
    bool alone = ati_load(&p->starved) || ati_load(&p->by_map) || ati_load(&p->singly);
    bool old = p->empty[class_index] != NULL;
    long most = alone ? 1 : p->made / 8 < AT_ONCE ? p->made / 8 : AT_ONCE;
    int n = 0;
    do
        f[n] = without_memory(p, class_index);
    while (f[n].stack && ++n < most && (!old || p->empty[class_index]));
    return n;
}

static struct weft__stack *all_made(
        struct weft__stack_pool *p, struct weft__stack_cache *c, struct found *f, int n, int class_index)
{
    struct weft__stack *first = NULL;
    int count = 0;
    if (n > 1)
        guard_and_touch(p, f, n);
    while (n-- > 0) {
        struct weft__stack *k = made(p, f[n], class_index);
        if (!k)
            continue;
        own_set(k->next, first);
        first = k;
        count++;
    }
    if (first) {
        own_set(c->idle[class_index], own(first->next));
        own_set(c->count[class_index], count - 1);
    }
    return first;
}

/* The worker's cache has none of the class: a batch for it, or new ones. */
struct weft__stack *weft__stack_get_slow(
        struct weft__stack_pool *p, struct weft__stack_cache *c, int class_index)
{
    struct found f[AT_ONCE];
    int n = 0;
    weft__lock(&p->lock);
    struct weft__stack *k = p->idle[class_index];
    if (k)
        p->idle[class_index] = own(k->batch);
    else
        n = find_some(p, f, class_index);
    weft__unlock(&p->lock);
    if (!k)
        return n > 0 ? all_made(p, c, f, n, class_index) : refused(p);
    own_set(c->idle[class_index], own(k->next));
    own_set(c->count[class_index], own(k->batched) - 1);
    return k;
}

/* With the pool locked. */
static void put_batch(struct weft__stack_pool *p, struct weft__stack *first, int n, int class_index)
{
    own_set(first->batched, n);
    own_set(first->batch, p->idle[class_index]);
    p->idle[class_index] = first;
}

/* All but the hottest `keep` go to the pool. */
static void put_colder(struct weft__stack_pool *p, struct weft__stack_cache *c, int class_index, int keep)
{
    struct weft__stack *first = own(c->idle[class_index]), *last = NULL;
    int count = own(c->count[class_index]);
    for (int i = 0; i < keep; i++) {
        last = first;
        first = own(first->next);
    }
    if (!first)
        return;
    if (last)
        own_set(last->next, NULL);
    else
        own_set(c->idle[class_index], NULL);
    own_set(c->count[class_index], keep);
    weft__lock(&p->lock);
    put_batch(p, first, count - keep, class_index);
    weft__unlock(&p->lock);
}

/* The cache is full: the colder half of it goes to the pool. All of it, when stacks are short. */
void weft__stack_put_slow(struct weft__stack_pool *p, struct weft__stack_cache *c, int class_index)
{
    put_colder(p, c, class_index, ati_load(&p->starved) ? 0 : own(c->count[class_index]) / 2);
}

void weft__stack_cache_return(struct weft__stack_pool *p, struct weft__stack_cache *c)
{
    for (int k = 0; k < WEFT__STACK_CLASSES; k++)
        put_colder(p, c, k, 0);
}

/* ---- generators' */

struct weft__stack_pool weft__stack_nested;

struct weft__stack *weft__stack_nested_take(struct weft__stack_cache *c, int class_index)
{
    struct weft__stack_cache none = { .count = { 0 } }, *from = c ? c : &none;
    struct weft__stack *k = own(from->idle[class_index]);
    if (k) {
        own_set(from->idle[class_index], own(k->next));
        own_set(from->count[class_index], own(from->count[class_index]) - 1);
    } else {
        k = weft__stack_get_slow(&weft__stack_nested, from, class_index);
    }
    if (!c)
        put_colder(&weft__stack_nested, &none, class_index, 0); /* the rest of a batch */
    return k;
}

void weft__stack_nested_give(struct weft__stack_cache *c, struct weft__stack *k)
{
    struct weft__stack_cache none = { .count = { 0 } }, *to = c ? c : &none;
    int class_index = own(k->class_index), n = own(to->count[class_index]) + 1;
    own_set(k->next, own(to->idle[class_index]));
    own_set(to->idle[class_index], k);
    own_set(to->count[class_index], n);
    if (!c)
        put_colder(&weft__stack_nested, &none, class_index, 0);
    else if (n > WEFT__STACK_CACHE_MOST || ati_load(&weft__stack_nested.starved))
        weft__stack_put_slow(&weft__stack_nested, c, class_index);
}

/* ---- memory comes back */

/* Z1 */
static struct weft__stack *take_idle(struct weft__stack_pool *p, int *class_index)
{
    struct weft__stack *k = NULL;
    weft__lock(&p->lock);
    for (int c = 0; c < WEFT__STACK_CLASSES && !p->keeps && !k; c++)
        if ((k = p->idle[c]) != NULL) {
            *class_index = c;
            p->idle[c] = own(k->batch);
            if (own(k->batched) > 1)
                put_batch(p, own(k->next), own(k->batched) - 1, c);
        }
    weft__unlock(&p->lock);
    return k;
}

/* Z2. A resident loop that AddressSanitizer has given a fake stack is not left: nothing would free that. */
static bool discard(struct weft__stack *k)
{
    struct weft__stack_slab *s = own(k->slab);
    char *low = own(k->low), *end = low - WEFT__GUARD_BYTES + s->slot;
#ifdef WEFT__ASAN
    if (own(k->begun) && k->resident.fake)
        return false;
    __asan_unpoison_memory_region(low, (size_t)(end - low));
#endif
#ifdef WEFT__TSAN
    void *fiber = k->fiber;
#endif
    if (weft__space_discard(low, (size_t)(end - low)) < 0)
        return false;
#ifdef WEFT__TSAN
    if (fiber)
        __tsan_destroy_fiber(fiber);
#endif
    return true;
}

bool weft__stack_pool_trim(struct weft__stack_pool *p)
{
    int c;
    struct weft__stack *k = take_idle(p, &c);
    if (!k)
        return false;
    struct weft__stack_slab *s = own(k->slab);
    size_t number = (size_t)(own(k->low) - s->memory) / s->slot;
    bool gone = discard(k);
    weft__lock(&p->lock);
    if (gone) { /* Z3 */
        if (s->empties == 0) {
            s->next_empty = p->empty[c];
            p->empty[c] = s;
        }
        s->empty[s->empties++] = (uint32_t)number;
    } else {
        own_set(k->next, NULL);
        put_batch(p, k, 1, c);
        p->keeps = true;
    }
    weft__unlock(&p->lock);
    return gone;
}

NOT_INSTRUMENTED size_t weft__stack_mark(struct weft__stack *k)
{
    enum { OWN = 1024 }; /* this function's frame, and what is below it by the ABI */
    volatile uint64_t *deepest = (volatile uint64_t *)(void *)k->low;
    volatile uint64_t *end = (volatile uint64_t *)(void *)((char *)__builtin_frame_address(0) - OWN);
    while (deepest < end && *deepest == 0)
        deepest++;
    size_t used = (size_t)(k->high - (char *)(uintptr_t)deepest);
    for (; deepest < end; deepest++)
        *deepest = 0;
    return used;
}

/* No worker runs any more. */
void weft__stack_pool_fini(struct weft__stack_pool *p)
{
    for (int k = 0; k < WEFT__STACK_CLASSES; k++) {
        struct weft__stack_slab *s = p->slabs[k], *next;
        for (; s; s = next) {
            next = s->next;
#ifdef WEFT__TSAN
            for (size_t i = 0; i < s->used; i++) {
                struct weft__stack *t = (struct weft__stack *)(void *)(s->memory + (i + 1) * s->slot - colour(i) -
                        sizeof *t);
                if (t->fiber)
                    __tsan_destroy_fiber(t->fiber);
            }
#endif
            for (size_t i = s->used; i > 0; i--)
                tell_lsan(s, i - 1, false);
#ifdef WEFT__ASAN
            __asan_unpoison_memory_region(s->memory, s->used * s->slot); /* the rest was nobody's */
#endif
            munmap(s->memory, s->bytes);
            weft__mem_free(s);
        }
    }
}
