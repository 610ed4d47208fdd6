/* stack_test.c - stacks: machine/stack.c, the guards, and what happens where they end. */
#include "support.h"

#include <limits.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "machine/stack.h"
#include "sched/sched.h"

/* -- classes -- */

static const struct {
    size_t bytes;
    int class_index;
} classes[] = { { 0, 0 }, { 1, 0 }, { 16384, 0 }, { 16385, 1 }, { 32768, 1 }, { 65535, 2 },
    { 65536, 2 }, { 65537, 3 }, { 1 << 20, 6 }, { (1 << 20) + 1, 7 }, { 8 << 20, 9 },
    { (8 << 20) + 1, -1 }, { SIZE_MAX, -1 } };

START_TEST(a_class_is_the_smallest_that_guarantees_so_much)
{
    ati_store(&weft__stack_scale, 1);
    for (int i = 0; i < COUNT(classes); i++)
        ck_assert_int_eq(weft__stack_class(classes[i].bytes), classes[i].class_index);
    for (int k = 0; k < WEFT__STACK_CLASSES; k++)
        ck_assert_int_eq(weft__stack_class(weft__stack_guarantee(k)), k);
}
END_TEST

/* -- memory -- */

static struct weft__stack *get(struct weft__stack_pool *p, struct weft__stack_cache *c, int k)
{
    struct weft__stack *s = c->idle[k];
    if (!s)
        return weft__stack_get_slow(p, c, k);
    c->idle[k] = s->next;
    c->count[k]--;
    return s;
}

static void put(struct weft__stack_pool *p, struct weft__stack_cache *c, struct weft__stack *s)
{
    int k = s->class_index;
    s->next = c->idle[k];
    c->idle[k] = s;
    if (++c->count[k] > WEFT__STACK_CACHE_MOST)
        weft__stack_put_slow(p, c, k);
}

START_TEST(every_class_gives_twice_its_guarantee_all_of_it_usable)
{
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    struct weft__stack *s[40];
    for (int i = 0; i < COUNT(s); i++) {
        s[i] = get(&p, &c, _i);
        ck_assert_ptr_nonnull(s[i]);
        ck_assert_int_eq(s[i]->class_index, _i);
        ck_assert(!s[i]->begun);
        ck_assert_uint_eq((uintptr_t)s[i]->high % 16, 0);
        size_t room = (size_t)(s[i]->high - s[i]->low);
        ck_assert_uint_ge(room, weft__stack_guarantee(_i));
        ck_assert_uint_ge(room + WEFT__GUARD_BYTES + sizeof *s[i], 2 * weft__stack_guarantee(_i));
        for (char *b = s[i]->low; b < s[i]->high; b += 4096)
            *b = (char)i;
        s[i]->high[-1] = (char)i;
    }
    for (int i = 0; i < COUNT(s); i++)
        for (char *b = s[i]->low; b < s[i]->high; b += 4096)
            ck_assert_int_eq(*b, (char)i); /* none lies in another */
    ck_assert_int_eq(p.made, COUNT(s) + c.count[_i]);
    weft__stack_pool_fini(&p);
}
END_TEST

START_TEST(stacks_are_used_again_the_hottest_first)
{
    enum { N = 300 };
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } }, other = { .idle = { NULL } };
    struct weft__stack *s[N];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < N; i++)
            s[i] = get(&p, round % 2 ? &other : &c, 1);
        for (int i = 0; i < N; i++)
            for (int k = 0; k < i; k++)
                ck_assert_ptr_ne(s[i], s[k]);
        for (int i = 0; i < N; i++) {
            put(&p, &c, s[i]);
            ck_assert_ptr_eq(c.idle[1], s[i]);
            ck_assert_int_le(c.count[1], WEFT__STACK_CACHE_MOST);
        }
    }
    ck_assert_int_le(p.made, N + 2 * WEFT__STACK_CACHE_MOST);
    weft__stack_pool_fini(&p);
}
END_TEST

START_TEST(without_memory_there_is_no_stack_until_there_is)
{
    static const enum weft__fault_kind kinds[] = { WEFT__FAULT_ALLOC, WEFT__FAULT_MMAP, WEFT__FAULT_GUARD };
    for (int i = 0; i < COUNT(kinds); i++) {
        struct weft__stack_pool p = { .made = 0 };
        struct weft__stack_cache c = { .idle = { NULL } };
        weft__fault_set(kinds[i], 1, 2, -ENOMEM);
        struct weft__stack *a = weft__stack_get_slow(&p, &c, 2), *b = weft__stack_get_slow(&p, &c, 2);
        weft__fault_clear();
        struct weft__stack *then = weft__stack_get_slow(&p, &c, 2);
        ck_assert_ptr_null(a);
        ck_assert_ptr_null(b);
        ck_assert_ptr_nonnull(then);
        then->low[0] = 1;
        ck_assert_int_eq(p.made, 1);
        ck_assert(!ati_load(&p.by_map)); /* only -EINVAL says that the kernel cannot */
        weft__stack_pool_fini(&p);
    }
}
END_TEST

static long resident_pages(const char *from, const char *to)
{
    static unsigned char in[1 << 16];
    uintptr_t low = (uintptr_t)from & ~(uintptr_t)4095, n = ((uintptr_t)to - low + 4095) / 4096;
    long found = 0;
    if (n > sizeof in || mincore((void *)low, n * 4096, in) < 0)
        return -1;
    for (uintptr_t i = 0; i < n; i++)
        found += in[i] & 1;
    return found;
}

START_TEST(stacks_of_the_pool_give_their_memory_back_and_are_used_again)
{
    enum { N = 200, KEPT = 20 };
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    struct weft__stack *s[N];
    long made = 0;
    for (int round = 0; round < 3; round++) {
        int trimmed = 0;
        for (int i = 0; i < N; i++) {
            s[i] = get(&p, &c, _i);
            ck_assert_ptr_nonnull(s[i]);
            ck_assert_int_eq(s[i]->class_index, _i);
            ck_assert(!s[i]->begun);
            ck_assert_uint_eq((uintptr_t)s[i]->high, (uintptr_t)s[i]);
            s[i]->low[0] = s[i]->high[-1] = (char)i;
            s[i]->begun = true; /* what a scheduler writes */
        }
        made = round == 0 ? p.made : made;
        ck_assert_int_eq(p.made, made); /* no new ones in later rounds */
        ck_assert_int_eq(made, N + c.count[_i]);
        ck_assert_uint_eq(at_load(&p.fresh),
                (uint64_t)(made + round * (made - KEPT)) * weft__stack_guarantee(_i));
        for (int i = KEPT; i < N; i++)
            put(&p, &c, s[i]);
        weft__stack_cache_return(&p, &c);
        ck_assert_int_eq(c.count[_i], 0);
        while (weft__stack_pool_trim(&p))
            trimmed++;
        ck_assert_int_eq(trimmed, made - KEPT);
        for (int i = KEPT; i < N; i++)
            ck_assert_int_eq(resident_pages((char *)(s[i] + 1) - 4096, (char *)s[i] + 1), 0);
        for (int i = 0; i < KEPT; i++) {
            ck_assert_int_eq(s[i]->low[0], (char)i);
            ck_assert_int_eq(s[i]->high[-1], (char)i);
        }
        for (int i = 0; i < KEPT; i++) { /* they are put back as if new, for the next round */
            s[i]->begun = false;
            put(&p, &c, s[i]);
        }
    }
    weft__stack_pool_fini(&p);
}
END_TEST

START_TEST(stacks_in_locked_memory_stay_what_they_are)
{
    enum { N = 100 };
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    struct weft__stack *s[N];
    for (int i = 0; i < N; i++) {
        s[i] = get(&p, &c, 0);
        s[i]->low[0] = (char)i;
    }
    long made = p.made;
    for (int i = 0; i < N; i++)
        put(&p, &c, s[i]);
    weft__stack_cache_return(&p, &c);
    weft__fault_set(WEFT__FAULT_DISCARD, _i, LONG_MAX, -EINVAL);
    int trimmed = 0;
    while (weft__stack_pool_trim(&p))
        trimmed++;
    weft__fault_clear();
    ck_assert_int_eq(trimmed, _i - 1);
    for (int i = 0; i < N; i++) {
        s[i] = get(&p, &c, 0);
        for (int k = 0; k < i; k++)
            ck_assert_ptr_ne(s[i], s[k]);
    }
    ck_assert_int_eq(p.made, made);
    weft__stack_pool_fini(&p);
}
END_TEST

/* -- several at once -- */

enum { MANY = 128, AT_ONCE = 16 }; /* from so many on, so many */

static void get_many(struct weft__stack_pool *p, struct weft__stack_cache *c)
{
    while (p->made < MANY || c->idle[0])
        ck_assert_ptr_nonnull(get(p, c, 0));
}

START_TEST(who_needs_few_stacks_does_not_pay_for_more)
{
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    for (int n = 1; n < 1000; n++) {
        ck_assert_ptr_nonnull(get(&p, &c, 0));
        ck_assert_int_le(p.made, n + n / 8);
        ck_assert_int_le(c.count[0], AT_ONCE - 1);
    }
    weft__stack_pool_fini(&p);
}
END_TEST

START_TEST(what_is_made_at_once_has_its_top_page_and_no_other)
{
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    get_many(&p, &c);
    struct weft__stack *first = weft__stack_get_slow(&p, &c, 0), *k = first;
    ck_assert_ptr_nonnull(first);
    if (ati_load(&p.singly) || ati_load(&p.by_map)) { /* an older kernel */
        ck_assert_int_eq(c.count[0], 0);
    } else {
        ck_assert_int_eq(c.count[0], AT_ONCE - 1);
        for (int i = 0; i < AT_ONCE; i++, k = i == 1 ? c.idle[0] : k->next) {
            const char *end = (const char *)(((uintptr_t)k & ~(uintptr_t)4095) + 4096);
            ck_assert_int_eq(resident_pages(end - 4096, end), 1);
            ck_assert_int_eq(resident_pages(k->low, end - 4096), 0);
        }
        ck_assert_ptr_null(k);
    }
    weft__stack_pool_fini(&p);
}
END_TEST

/* A guard that all of them were to get is refused, once (0), then for each as well (1). */
START_TEST(where_several_are_refused_each_is_asked_for_alone)
{
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    get_many(&p, &c);
    weft__fault_set(WEFT__FAULT_GUARD, 1, _i ? LONG_MAX : 1, -ENOMEM);
    struct weft__stack *k = weft__stack_get_slow(&p, &c, 0);
    long calls = weft__fault_failed(WEFT__FAULT_GUARD), made = p.made;
    weft__fault_clear();
    int several = ati_load(&p.singly) || ati_load(&p.by_map) ? 1 : AT_ONCE;
    ck_assert_int_eq(made, MANY + several);
    if (_i == 0 && several > 1) {
        ck_assert_ptr_nonnull(k);
        ck_assert_int_eq(c.count[0], several - 1);
        ck_assert_int_eq(calls, 1);
    } else {
        ck_assert_ptr_null(k);
        ck_assert_ptr_null(c.idle[0]);
        ck_assert_int_eq(calls, _i ? several > 1 ? several + 1 : 1 : 1);
        for (int i = 0; i < several; i++) { /* what could not be guarded then is taken first; short of them, one at a time */
            ck_assert_ptr_nonnull(weft__stack_get_slow(&p, &c, 0));
            ck_assert_int_eq(c.count[0], 0);
        }
        ck_assert_int_eq(p.made, made);
    }
    ck_assert(!ati_load(&p.by_map) || several == 1);
    weft__stack_pool_fini(&p);
}
END_TEST

/* C-14 */
START_TEST(many_guarded_stacks_are_few_mappings)
{
    enum { MOST = 5000, FEW = 16 };
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    int before = mappings_now();
    for (int i = 0; i < MOST; i++) {
        struct weft__stack *k = get(&p, &c, _i);
        ck_assert_ptr_nonnull(k);
        k->low[0] = 1;
    }
    int more = mappings_now() - before;
    if (!ati_load(&p.by_map)) /* Linux 6.13 and newer; before, two for each */
        ck_assert_int_le(more, FEW);
    weft__stack_pool_fini(&p);
}
END_TEST

/* -- guards -- */

struct poke {
    bool by_map, singly, trimmed;
    int class_index, stack; /* the second's guard lies above the first's top; the 101st was made with others */
    long offset;            /* from its low */
};

static void poke(void *arg)
{
    struct poke *k = arg;
    struct weft__stack_pool p = { .singly = k->singly };
    struct weft__stack_cache c = { .idle = { NULL } };
    if (k->by_map)
        weft__fault_set(WEFT__FAULT_GUARD, 1, LONG_MAX, -EINVAL);
    struct weft__stack *s = NULL;
    for (int i = 0; i <= k->stack; i++)
        s = get(&p, &c, k->class_index);
    if (!s || ati_load(&p.by_map) != k->by_map)
        _exit(3);
    if (k->trimmed) {
        char *low = s->low;
        put(&p, &c, s);
        weft__stack_cache_return(&p, &c);
        int trimmed = 0;
        while (weft__stack_pool_trim(&p))
            trimmed++;
        for (int i = 0; i < trimmed && s && s->low != low; i++)
            s = get(&p, &c, k->class_index);
        if (trimmed == 0 || !s || s->low != low)
            _exit(3);
    }
    volatile char *at = s->low + k->offset;
    bool in = weft__stack_in_guard(s, (const void *)at);
    if (in != (k->offset < 0 && k->offset >= -WEFT__GUARD_BYTES))
        _exit(4);
    *at = 1;
    _exit(in ? 5 : 0);
}

static const long offsets[] = { 0, -1, -4096, -WEFT__GUARD_BYTES };
static const int nths[] = { 0, 1, 100, 140 };

START_TEST(the_guard_cannot_be_touched_and_the_byte_above_it_can)
{
    for (int by_map = 0; by_map < 2; by_map++)
        for (int k = 0; k < WEFT__STACK_CLASSES; k += 3)
            for (int i = 0; i < COUNT(offsets); i++)
                for (int nth = 0; nth < 2 * COUNT(nths); nth++) {
                    struct poke p = { .by_map = by_map, .singly = k > 0 && nth % 4 == 3, .class_index = k,
                        .stack = nths[nth % 4], .trimmed = nth / 4, .offset = offsets[i] };
                    struct death d = die(poke, &p);
                    if (offsets[i] == 0) {
                        ck_assert_int_eq(d.signal, 0);
                        ck_assert_int_eq(d.status, 0);
                    } else if (ASAN || TSAN) { /* they catch the signal */
                        ck_assert(d.signal != 0 || (d.status != 0 && d.status != 3 &&
                                                           d.status != 4 && d.status != 5));
                    } else {
                        ck_assert_int_eq(d.signal, SIGSEGV);
                    }
                }
}
END_TEST

/* -- a kernel without MADV_GUARD_INSTALL, and the end of its mappings -- */

enum { LIMITED = 100, WANTED = 300 };

struct limited {
    atomic_int started, release, reports;
    int failed, codes, end, later_end;
    atomic_int later;
    weft_failure failures[WANTED];
};

static void count_report(const weft_report *r, void *arg)
{
    struct limited *l = arg;
    if (strcmp(r->what, "no-stack") == 0) /* C-14: it says what can be done */
        atomic_fetch_add(&l->reports, strstr(r->text, "vm.max_map_count") ? 1 : 100);
}

static int hold_a_stack(void *arg)
{
    struct limited *l = arg;
    weft_scope s;
    weft_scope_begin_shield(&s, WEFT_NEVER);
    atomic_fetch_add(&l->started, 1);
    bool there = true;
    while (there && !atomic_load(&l->release))
        there = weft_sleep(weft_ms(1)) == 0;
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

static int come_later(void *arg)
{
    struct limited *l = arg;
    atomic_fetch_add(&l->later, 1);
    /* In an order by chance more of them may have begun than there are stacks. */
    return chaos() ? 0 : weft_yield();
}

static int use_all_stacks(void *arg)
{
    struct limited *l = arg;
    weft_scope shield, s;
    weft_scope_begin_with(&s, WEFT_NEVER,
            &(weft_scope_options){ .failures = l->failures, .failures_max = WANTED });
    weft_scope_begin_shield(&shield, WEFT_NEVER);
    for (int i = 0; i < WANTED; i++)
        weft_spawn(&s, hold_a_stack, l);
    int64_t end = weft_after(LIMIT);
    while (atomic_load(&l->started) + weft_scope_failed(&s) < WANTED && weft_now() < end)
        weft_ignore(weft_yield());
    atomic_store(&l->release, 1);
    weft_ignore(weft_scope_end(&shield, 0));
    l->end = weft_scope_end(&s, 0);
    l->failed = weft_scope_failed(&s);
    /* What ended gave its stack back. */
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < WANTED; i++)
        weft_spawn(&s, come_later, l);
    l->later_end = weft_scope_end(&s, 0);
    return 0;
}

START_TEST(tasks_beyond_the_last_guard_end_with_ENOMEM_through_their_scope)
{
    struct limited l = { .end = 1 };
    uint64_t limit = at_load(&weft__stack_limit);
    int workers = _i + 1;
    at_store(&weft__stack_limit, LIMITED);
    weft__fault_set(WEFT__FAULT_GUARD, 1, LONG_MAX, -EINVAL);
    int rc = weft_run(use_all_stacks, &l,
            &(weft_options){ .workers = workers, .report = count_report, .report_arg = &l });
    weft__fault_clear();
    at_store(&weft__stack_limit, limit);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(l.end, -ENOMEM);
    ck_assert_int_eq(atomic_load(&l.started), LIMITED - 1); /* main has one */
    ck_assert_int_eq(l.failed, WANTED - (LIMITED - 1));
    for (int i = 0; i < l.failed; i++) {
        ck_assert_int_eq(l.failures[i].code, -ENOMEM);
        ck_assert_ptr_eq(l.failures[i].arg, &l);
    }
    if (forking()) /* once a process */
        ck_assert_int_eq(atomic_load(&l.reports), 1);
    ck_assert_int_eq(l.later_end, 0);
    ck_assert_int_eq(atomic_load(&l.later), WANTED);
}
END_TEST

/* -- overflow -- */

enum overflow { PLAIN, NAMED, INLINED, RESUMED, BIG, NOT_OVERFLOW, SENT };

static int deeper(volatile char *above);
static int (*volatile deeper_still)(volatile char *above) = deeper;

static int deeper(volatile char *above)
{
    volatile char here[512];
    here[0] = (char)(above[0] + 1);
    return deeper_still(here) + here[0];
}

static int overflow_now(void *arg)
{
    volatile char first[8] = { 0 };
    if (*(enum overflow *)arg == RESUMED)
        weft_ignore(weft_sleep(weft_ms(2)));
    if (*(enum overflow *)arg == NOT_OVERFLOW) {
        volatile int *volatile nowhere = NULL;
        *nowhere = 1;
    }
    return *(enum overflow *)arg == SENT ? raise(SIGSEGV) : deeper(first);
}

static int overflow_parent(void *arg)
{
    enum overflow *how = arg;
    weft_task_set_name("parent");
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_task t = weft_spawn_with(&s, overflow_now, arg,
            &(weft_spawn_options){ .name = *how == PLAIN ? NULL : "culprit",
                    .stack_bytes = *how == BIG ? 1 << 20 : 0 });
    int rc = 0;
    if (*how == INLINED)
        rc = weft_task_join(t);
    else
        while (rc == 0)
            rc = weft_yield(); /* so that it gets a stack of its own */
    return weft_scope_end(&s, rc);
}

static void overflow(void *arg)
{
    weft_options o = { .workers = 1 };
    weft_ignore(weft_run(overflow_parent, arg, &o));
}

START_TEST(an_overflow_names_the_task)
{
    enum overflow how = (enum overflow)_i;
    struct death d = die(overflow, &how);
    if (how == INLINED && chaos())
        return; /* a join does not always inline then */
    ck_assert_int_eq(d.signal, SIGSEGV);
    ck_assert_msg(strstr(d.text, how >= NOT_OVERFLOW ? "signal 11 in task" : "stack overflow in task") != NULL,
            "it said \"%s\"", d.text);
    ck_assert_msg(strstr(d.text, ", spawned at 0x") != NULL, "it said \"%s\"", d.text);
    ck_assert_msg((strstr(d.text, "\"culprit\"") != NULL) == (how != PLAIN), "it said \"%s\"", d.text);
    ck_assert_msg((strstr(d.text, "on the stack of task") != NULL) == (how == INLINED), "it said \"%s\"", d.text);
    ck_assert_msg((strstr(d.text, "\"parent\"") != NULL) == (how == INLINED), "it said \"%s\"", d.text);
    if (how == BIG)
        ck_assert_msg(strstr(d.text, "1024 KiB") != NULL, "it said \"%s\"", d.text);
    else if (how < NOT_OVERFLOW)
        ck_assert_msg(strstr(d.text, "64 KiB") != NULL, "it said \"%s\"", d.text);
}
END_TEST

/* B-104: it is named among many that wait. */
struct crowd {
    int n;
    atomic_int waiting;
};

static int wait_in_the_crowd(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static int overflow_and_say_who(void *arg)
{
    enum overflow how = PLAIN;
    (void)arg;
    dprintf(2, "culprit %lld\n", (long long)weft_task_self());
    return overflow_now(&how);
}

static int one_of_many(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 2 * c->n; i++) {
        if (i == c->n && !wait_for(&c->waiting, c->n))
            return weft_scope_end(&s, -ETIME);
        weft_spawn_with(&s, wait_in_the_crowd, &c->waiting, &(weft_spawn_options){ .name = "bystander" });
    }
    bool all = wait_for(&c->waiting, 2 * c->n);
    weft_spawn_with(&s, overflow_and_say_who, c, &(weft_spawn_options){ .name = "culprit" });
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

static void overflow_of_many(void *arg)
{
    weft_ignore(weft_run(one_of_many, arg, ON(2)));
}

START_TEST(an_overflow_among_many_names_that_one)
{
    struct crowd c = { .n = fewer(500, 5000) };
    struct death d = die(overflow_of_many, &c);
    long long id = 0;
    char who[64];
    ck_assert_int_eq(d.signal, SIGSEGV);
    ck_assert_msg(sscanf(d.text, "culprit %lld", &id) == 1, "it said \"%s\"", d.text);
    snprintf(who, sizeof who, "stack overflow in task %lld \"culprit\"", id);
    ck_assert_msg(strstr(d.text, who) != NULL, "it said \"%s\"", d.text);
    ck_assert_msg(!strstr(d.text, "bystander"), "it said \"%s\"", d.text);
}
END_TEST

/* -- a million, where there is room for them -- */

enum { MILLION = 1000000 };
#define BYTES_EACH INT64_C(5000) /* the page in use, the control block, and its share of the tables of pages */

/* What /proc/meminfo has of free memory, in bytes. */
static int64_t memory_available(void)
{
    char line[200];
    long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %lld kB", &kib) != 1)
        continue;
    if (f)
        fclose(f);
    return kib * 1024;
}

static bool guards_are_no_mappings(void)
{
    struct weft__stack_pool p = { .made = 0 };
    struct weft__stack_cache c = { .idle = { NULL } };
    bool few = get(&p, &c, 0) && !ati_load(&p.by_map);
    weft__stack_pool_fini(&p);
    return few;
}

static int guard_pipe[2];
static atomic_int unguarded;

/* The kernel is asked to read below the stack, which it cannot. */
static NOINLINE bool is_guarded(const struct weft__stack *k)
{
    return write(guard_pipe[1], k->low - 1, 1) < 0 && errno == EFAULT;
}

static int wait_with_a_guard(void *arg)
{
    if (!is_guarded(own(own(weft__self()->frame)->stack)))
        atomic_fetch_add(&unguarded, 1);
    return wait_in_the_crowd(arg);
}

/* A machine on which that takes too long (a simulated one) says so. */
static int one_of_a_million(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    int64_t end = weft_after(weft_sec(15));
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < c->n; i++) {
        weft_spawn(&s, wait_with_a_guard, &c->waiting);
        if (i % 1000 != 999)
            continue;
        if (weft_now() > end) {
            dprintf(2, "too slow\n");
            _exit(0);
        }
        if (!wait_for(&c->waiting, i + 1)) /* each has a stack of its own */
            return weft_scope_end(&s, -ETIME);
    }
    int all = atomic_load(&c->waiting), mappings = mappings_now();
    dprintf(2, "%d wait, %d without a guard, %d mappings\n", all, atomic_load(&unguarded), mappings);
    weft_spawn_with(&s, overflow_and_say_who, c, &(weft_spawn_options){ .name = "culprit" });
    return weft_scope_end(&s, 0);
}

static void overflow_of_a_million(void *arg)
{
    alarm(50);
    if (pipe2(guard_pipe, O_NONBLOCK | O_CLOEXEC) < 0)
        _exit(3);
    weft_ignore(weft_run(one_of_a_million, arg, ON(2)));
}

/* B-016: on a kernel whose guards are no mappings (6.13), with the limit of these as it is. */
START_TEST(among_a_million_guarded_stacks_an_overflow_names_its_task)
{
    struct crowd c = { .n = MILLION };
    if (TSAN || ASAN || chaos() || !guards_are_no_mappings() || memory_available() < 2 * BYTES_EACH * MILLION)
        return;
    struct death d = die(overflow_of_a_million, &c);
    int waiting = 0, bare = 0, mappings = 0;
    long long id = 0;
    char who[64];
    if (d.signal == 0 && strcmp(d.text, "too slow\n") == 0)
        return;
    ck_assert_msg(sscanf(d.text, "%d wait, %d without a guard, %d mappings\nculprit %lld", &waiting, &bare, &mappings, &id) == 4,
            "it said \"%s\"", d.text);
    ck_assert_int_eq(bare, 0);
    ck_assert_int_eq(waiting, MILLION);
    ck_assert_int_lt(mappings, 65530 / 2); /* vm.max_map_count as Linux has it by itself */
    ck_assert_int_eq(d.signal, SIGSEGV);
    snprintf(who, sizeof who, "stack overflow in task %lld \"culprit\"", id);
    ck_assert_msg(strstr(d.text, who) != NULL, "it said \"%s\"", d.text);
}
END_TEST

static const struct {
    const char *value;
    enum overflow how;
    const char *guarantee;
} scales[] = {
    { "4", PLAIN, " 256 KiB" },
    { "3", PLAIN, " 256 KiB" }, /* the next class */
    { "64", PLAIN, " 4096 KiB" },
    { "64", BIG, " 8192 KiB" }, /* the largest */
    { "1", PLAIN, " 64 KiB" },
    { "", PLAIN, " 64 KiB" },
    { "0", PLAIN, " 64 KiB" },
    { "-2", PLAIN, " 64 KiB" },
    { "65", PLAIN, " 64 KiB" },
    { "2x", PLAIN, " 64 KiB" },
};

START_TEST(the_environment_scales_all_stacks)
{
    enum overflow how = scales[_i].how;
    setenv("WEFT_STACK", scales[_i].value, 1);
    struct death d = die(overflow, &how);
    unsetenv("WEFT_STACK");
    ck_assert_int_eq(d.signal, SIGSEGV);
    ck_assert_msg(strstr(d.text, scales[_i].guarantee) != NULL, "WEFT_STACK=%s: it said \"%s\"", scales[_i].value, d.text);
}
END_TEST

/* -- how much was used -- */

struct depth {
    int bytes, reports;
    atomic_int ran;
};

/* Between which addresses the last one that went down did so. */
static uintptr_t began_at, came_to;

static NOINLINE int go_down(int bytes)
{
    char here[1024];
    came_to = (uintptr_t)here;
    here[0] = here[1023] = (char)(bytes | 1);
    __asm__ volatile("" : : "r"(here) : "memory"); /* a frame for each, also by a compiler that would make a loop of it */
    int below = bytes > 2048 ? go_down(bytes - 1100) : 0;
    __asm__ volatile("" : : "r"(here) : "memory");
    return below + here[1023];
}

static int use_some(void *arg)
{
    struct depth *d = arg;
    began_at = (uintptr_t)__builtin_frame_address(0);
    weft_ignore(go_down(d->bytes));
    atomic_fetch_add(&d->ran, 1);
    return 0;
}

static int spawn_depths(void *arg);

/* C-15, B-017: who it was, where it was spawned, and how much that was, to some frames of weft's own. */
static void count_stack_reports(const weft_report *r, void *arg)
{
    struct depth *d = arg;
    void *fn = NULL;
    unsigned long used = 0, own = (unsigned long)(began_at - came_to);
    if (strcmp(r->what, "stack") != 0)
        return;
    d->reports++;
    if (strcmp(r->task_name, "deep") != 0 || !strstr(r->text, " of 65536 bytes"))
        d->reports += 100;
    if (sscanf(r->text, "function %p used with what it joined by a call %lu", &fn, &used) != 2)
        d->reports += 1000;
    if (used < own || used > own + 2048)
        d->reports += 10000;
    if (fn != (void *)(uintptr_t)use_some || (uintptr_t)r->site - (uintptr_t)spawn_depths > 4096)
        d->reports += 100000;
}

/* Each is waited for before it is joined: it has a stack of its own. The deep ones leave theirs to others. */
static int spawn_depths(void *arg)
{
    struct depth little = { .bytes = 40000 }, much = { .bytes = 60000 };
    weft_scope s;
    bool all = true;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 1; i <= 20; i++) {
        weft_spawn_with(&s, use_some, &little, &(weft_spawn_options){ .name = "not deep" });
        all = all && wait_for(&little.ran, i);
        if (i < 10)
            continue;
        weft_spawn_with(&s, use_some, &much, &(weft_spawn_options){ .name = "deep" });
        all = all && wait_for(&much.ran, i - 9);
    }
    (void)arg;
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(a_function_that_uses_nearly_all_of_its_stack_is_reported_once)
{
    struct depth d = { .bytes = 0 };
    setenv("WEFT_STACK_MARKS", _i ? "1" : "0", 1);
    int rc = weft_run(spawn_depths, &d, &(weft_options){ .workers = 1, .report = count_stack_reports, .report_arg = &d });
    unsetenv("WEFT_STACK_MARKS");
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(d.reports, _i);
}
END_TEST

static void overflow_silently(void *arg)
{
    weft_options o = { .workers = 1, .no_crash_report = true };
    weft_ignore(weft_run(overflow_parent, arg, &o));
}

START_TEST(without_the_crash_report_nothing_is_said)
{
    enum overflow how = NAMED;
    struct death d = die(overflow_silently, &how);
    ck_assert_int_eq(d.signal, SIGSEGV);
    ck_assert_str_eq(d.text, "");
}
END_TEST

/* -- after the end -- */

static int park(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep(weft_sec(3600));
}

static int park_many(void *arg)
{
    weft_scope s;
    atomic_int parked = 0;
    int n = *(int *)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < n; i++)
        weft_spawn_with(&s, park, &parked,
                &(weft_spawn_options){ .stack_bytes = i % 4 ? 0 : (size_t)16384 << i % 5 });
    bool all = wait_for(&parked, n);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

static long address_space_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long pages = 0;
    if (f && fscanf(f, "%ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* What is not unmapped is more with each run. What the allocator and the thread library keep is not: how much that is
 * depends on which threads ran at the same time, and by some run they have it. */
START_TEST(the_memory_of_an_ended_runtime_is_unmapped)
{
    enum { RUNS = 16, FEW = BUILT(0, 4, 4), LITTLE = 32 * 1024 }; /* sanitizers map, too; a slab has 256 MiB */
    int n = SCALED(1000, 500, 200), maps = INT_MAX, run = 0;
    long space = LONG_MAX;
    if (fake_stacks())
        return;
    if (_i)
        weft__fault_set(WEFT__FAULT_GUARD, 1, LONG_MAX, -EINVAL); /* two mappings a stack */
    for (bool grows = true; grows && run < RUNS; run++) {
        int maps_before = mappings_now();
        long space_before = address_space_kib();
        int rc = weft_run(park_many, &n, ON(2));
        if (rc != 0)
            weft__fault_clear();
        ck_assert_int_eq(rc, 0);
        maps = mappings_now() - maps_before;
        space = address_space_kib() - space_before;
        grows = run < 5 || maps > FEW || space > LITTLE;
    }
    weft__fault_clear();
    ck_assert_int_le(maps, FEW);
    ck_assert_int_le(space, LITTLE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stack");
    TCase *tc = add_case(s, "memory");
    tcase_add_test(tc, a_class_is_the_smallest_that_guarantees_so_much);
    if (!chaos()) /* a pool alone has no order */
        tcase_add_loop_test(tc, every_class_gives_twice_its_guarantee_all_of_it_usable, 0, WEFT__STACK_CLASSES);
    tcase_add_test(tc, stacks_are_used_again_the_hottest_first);
    tcase_add_loop_test(tc, stacks_of_the_pool_give_their_memory_back_and_are_used_again, 0, 4);
    tcase_add_loop_test(tc, stacks_in_locked_memory_stay_what_they_are, 1, 4);
    tcase_add_test(tc, without_memory_there_is_no_stack_until_there_is);
    tcase_add_test(tc, who_needs_few_stacks_does_not_pay_for_more);
    tcase_add_test(tc, what_is_made_at_once_has_its_top_page_and_no_other);
    tcase_add_loop_test(tc, where_several_are_refused_each_is_asked_for_alone, 0, 2);
    if (!chaos() && !ASAN && !TSAN) /* which map, too */
        tcase_add_loop_test(tc, many_guarded_stacks_are_few_mappings, 0, 3);
    tc = add_case(s, "guards");
    if (forking())
        tcase_add_test(tc, the_guard_cannot_be_touched_and_the_byte_above_it_can);
    tcase_add_loop_test(tc, tasks_beyond_the_last_guard_end_with_ENOMEM_through_their_scope, 0, 3);
    tc = add_case(s, "overflow");
    if (forking() && !ASAN && !TSAN) { /* whose own handlers report it */
        tcase_add_loop_test(tc, an_overflow_names_the_task, 0, SENT + 1);
        tcase_add_test(tc, an_overflow_among_many_names_that_one);
        tcase_add_test(tc, without_the_crash_report_nothing_is_said);
        tcase_add_loop_test(tc, the_environment_scales_all_stacks, 0, COUNT(scales));
        tc = add_case(s, "million");
        tcase_set_tags(tc, "timed");
        tcase_add_test(tc, among_a_million_guarded_stacks_an_overflow_names_its_task);
    }
    tc = add_case(s, "marks");
    if (!ASAN && !TSAN) /* whose frames are larger */
        tcase_add_loop_test(tc, a_function_that_uses_nearly_all_of_its_stack_is_reported_once, 0, 2);
    tc = add_case(s, "after the end");
    tcase_add_loop_test(tc, the_memory_of_an_ended_runtime_is_unmapped, 0, 2);
    return run_suite(s);
}
