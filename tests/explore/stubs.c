/* stubs.c - what the explored code calls and is not itself explored. */
#include "scenarios.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft/error.h>

#include "base/fault.h"
#include "base/fence.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/panic.h"
#include "base/quiet.h"
#include "coord/await.h"
#include "coord/error.h"
#include "coord/orphan.h"
#include "coord/policy.h"
#include "coord/side.h"
#include "sched/errand.h"
#include "sync/chan.h"
#include "sync/event.h"
#include "sync/notify.h"

/* ---- no text of a failure */

int weft_fail_at(int rc, int cause, const char *file, int line, const char *format, ...)
{
    (void)cause, (void)file, (void)line, (void)format;
    return rc;
}

/* ---- no seed */

at_int weft__chaos_runtimes;

void weft__chaos_delay(void)
{
}

bool weft__chaos_once_in(uint32_t n)
{
    (void)n;
    return false;
}

uint64_t weft__chaos_ticks(const struct weft__sched *s)
{
    (void)s;
    return 0;
}

/* ---- base */

/* Both halves are full fences, which order no more than they do; mutations take them away. */
bool weft__fence_is_free;
bool fence_refused;

bool weft__fence_heavy(void)
{
    if (fence_refused)
        return false;
    at_fence_full();
    return true;
}

static _Alignas(128) char arena[1 << 16], spaces[4][1 << 21];
static size_t arena_used;
static int spaces_used;

void arena_reset(void)
{
    arena_used = 0;
}

static void *memory(size_t bytes, bool zeroed)
{
    void *p = &arena[arena_used];
    arena_used += (bytes + 127) & ~(size_t)127;
    if (arena_used > sizeof arena)
        ex_fail("out of memory");
    if (zeroed)
        memset(p, 0, bytes);
    ex_born(p, bytes, zeroed, "memory");
    return p;
}

void *weft__mem_alloc(size_t bytes)
{
    return memory(bytes, false);
}

void *weft__mem_zeroed(size_t bytes)
{
    return memory(bytes, true);
}

void weft__mem_free(void *p)
{
    if (p)
        ex_gone(p, 0, "memory");
}

void *weft__mem_aligned(size_t align, size_t bytes)
{
    if (align > 128)
        ex_fail("memory of that alignment");
    return memory(bytes, false);
}

void *weft__mem_large(size_t bytes)
{
    return memory(bytes, false);
}

void weft__mem_large_free(void *p, size_t bytes)
{
    (void)bytes;
    weft__mem_free(p);
}

/* The tables of the process; as much as is used of them. */
void *weft__space_reserve(size_t bytes)
{
    (void)bytes;
    return spaces_used < 4 ? spaces[spaces_used++] : NULL;
}

int weft__space_commit(void *p, size_t bytes)
{
    (void)p;
    (void)bytes;
    return 0;
}

int weft__space_discard(void *p, size_t bytes)
{
    (void)p;
    (void)bytes;
    ex_fail("memory is not given back here");
    return 0;
}

at_word weft__fault_armed;

int weft__fault_slow(enum weft__fault_kind kind)
{
    (void)kind;
    return 0;
}

void (*weft__panic_who)(char *buf, unsigned long bytes);

_Noreturn void weft__panic(const char *file, int line, const char *format, ...)
{
    ex_fail("panic at %s:%d: %s", ex_base(file), line, format);
}

at_word weft__ticks_in_us = UINT64_C(1) << 40; /* next to no time goes by: nobody has waited for long */

int64_t weft__now(void)
{
    return 1;
}

bool weft__futex_wait(at_int *word, uint32_t value, int64_t until)
{
    (void)until;
    ex_futex_wait(word, value);
    return true;
}

bool weft__host_wait(at_int *word, uint32_t value, int64_t until, enum weft__host_rests rests)
{
    (void)rests;
    return weft__futex_wait(word, value, until);
}

void weft__futex_wake(at_int *word, int n)
{
    ex_futex_wake(word, n);
}

int sched_yield(void)
{
    ex_relax();
    return 0;
}

/* ---- tasks that run, wait and are made runnable: a thread of the explorer each */

struct weft_runtime *the_runtime(void)
{
    static struct weft_runtime rt;
    return &rt;
}

static struct weft__sched workers[PEOPLE];
static struct weft__frame frames[PEOPLE];
static at_word mail[PEOPLE];
static int registers[PEOPLE];
unsigned char runnable[PEOPLE];

static void timer_reset(void);

void people_reset(void)
{
    timer_reset();
    arena_reset();
    table_reset(PEOPLE); /* the first blocks are theirs */
    memset(the_runtime(), 0, sizeof *the_runtime());
    memset(workers, 0, sizeof workers);
    memset(frames, 0, sizeof frames);
    memset(mail, 0, sizeof mail);
    memset(runnable, 0, sizeof runnable);
    weft__cancel_epoch = 1;
    weft__walk_slice = 1;
    errand_mail = NULL;
    errand_posted = NULL;
    the_runtime()->group.n = 1;
    for (int i = 0; i < PEOPLE; i++)
        workers[i].group = &the_runtime()->group;
    ex_ghost(runnable, sizeof runnable);
}

struct weft__frame *person(int number, struct weft_scope *scope)
{
    struct weft__frame *f = &frames[number];
    struct weft__task *t = weft__task_at((uint32_t)number);
    f->task = t;
    f->group = &the_runtime()->group;
    f->id = (weft_task)(UINT64_C(1) << WEFT__INDEX_BITS | (uint64_t)number);
    f->budget = WEFT__BUDGET;
    t->life = (uint64_t)f->id;
    t->state = weft__state(0, 0, 0, WEFT__RUNNING);
    t->scope = (uint64_t)(uintptr_t)scope;
    t->side = (uint64_t)(uintptr_t)f;
    t->bits = WEFT__TASK_STARTED;
    workers[number].frame = f;
    ex_be(number);
    struct weft__task *spare = weft__task_alloc_slow(NULL); /* one child each may have */
    if (!spare || weft__deque_init(&workers[number].deque, 2) < 0)
        abort();
    workers[number].blocks.head = weft__task_index(spare) + 1;
    workers[number].blocks.count = 1;
    return f;
}

struct weft__sched *weft__self(void)
{
    struct weft__sched *s = &workers[ex_self()];
    return s->frame ? s : NULL;
}

void weft__ready(struct weft__task *t)
{
    uint32_t i = weft__task_index(t);
    if (runnable[i]++)
        ex_fail("task %u is made runnable twice", i);
    ex_read(&frames[i].group, "the frame"); /* as the real one does */
    ex_send(&mail[i]);
}

void weft__ready_claimed(struct weft__claimed c)
{
    if (c.task)
        weft__ready(c.task);
}

bool weft__fire(weft__token k, enum weft__cause cause)
{
    enum weft__fired f = weft__wait_claim(k, cause);
    if (f == WEFT__FIRED_ENQUEUE)
        weft__ready(weft__token_task(k));
    return f != WEFT__TOO_LATE;
}

/* The task goes on elsewhere, on a thread that knows nothing but what came with it through the queue. */
void weft__suspend(void)
{
    int me = ex_self();
    ex_write(&registers[me], "saved registers");
    if (!weft__wait_sleep(&frames[me], weft__told_slow))
        weft__ready(frames[me].task);
    ex_receive(&mail[me], true);
    runnable[me]--;
    ex_write(&registers[me], "saved registers");
}

void weft__yield_now(void)
{
}

at_word *errand_mail;
struct weft__task *errand_posted;

struct weft__task *weft__errand_new(weft__slice *slice)
{
    struct weft__task *e = errand_mail ? weft__task_alloc(NULL) : NULL;
    if (e)
        e->fn = (uint64_t)(uintptr_t)slice;
    return e;
}

void weft__errand_post(struct weft__group *g, struct weft__task *errand)
{
    if (errand_posted)
        ex_fail("two walks");
    (void)g;
    errand_posted = errand;
    ex_send(errand_mail);
}

/* ---- one timer; M4 of event/timer.c */

struct weft__timer *timer_armed;
bool timer_refused;
static struct weft__lock heap;

static void timer_reset(void)
{
    timer_armed = NULL;
    timer_refused = false;
}

int weft__timer_arm(struct weft__timers *t, struct weft__timer *timer, int64_t at, bool *first)
{
    (void)t;
    *first = false;
    if (timer_refused)
        return -ENOMEM;
    if (timer_armed)
        ex_fail("two timers");
    weft__lock(&heap);
    timer_armed = timer;
    ex_write(&timer->home, "a timer");
    timer->at = at;
    at_store_release(&timer->armed, 1);
    weft__unlock(&heap);
    return 0;
}

int weft__timer_take(struct weft__timer *timer)
{
    ex_read(&timer->home, "a timer");
    weft__lock(&heap);
    uint64_t armed = at_load(&timer->armed);
    if (armed == 1) {
        timer_armed = NULL;
        at_store_release(&timer->armed, 0);
    }
    weft__unlock(&heap);
    return armed == WEFT__TIMER_STRIKING ? -EBUSY : armed == 1;
}

bool weft__timer_disarm(struct weft__timer *timer)
{
    int rc;
    while ((rc = weft__timer_take(timer)) == -EBUSY)
        ex_relax();
    return rc > 0;
}

void timer_strikes(void (*call)(struct weft__timer *timer))
{
    weft__lock(&heap);
    struct weft__timer *timer = timer_armed;
    timer_armed = NULL;
    if (timer)
        at_store_release(&timer->armed, WEFT__TIMER_STRIKING);
    weft__unlock(&heap);
    if (!timer)
        return;
    call(timer);
    weft__lock(&heap);
    at_store_release(&timer->armed, 0);
    weft__unlock(&heap);
}

/* ---- what no scenario comes to */

#define NOT_HERE ex_fail("%s is not explored", __func__)

void weft__group_put(struct weft__group *g, struct weft__task *t)
{
    (void)g, (void)t;
    NOT_HERE;
}
int weft__host_slice(int ms)
{
    return ms;
}
void weft__starts_end(weft_runtime *rt)
{
    (void)rt;
}
weft_task weft__start_now(struct weft__task *t)
{
    (void)t;
    return 0;
}

void weft__breathe(void)
{
    NOT_HERE;
}
void weft__fp_load(const uint32_t fp[2])
{
    (void)fp;
    NOT_HERE;
}
int weft__side_copy(struct weft__task *t, const void *arg, size_t bytes)
{
    (void)t, (void)arg, (void)bytes;
    NOT_HERE;
}
int weft__side_make(struct weft__task *t, struct weft__group *g, void *arg, const weft_spawn_options *o)
{
    (void)t, (void)g, (void)arg, (void)o;
    NOT_HERE;
}
int weft__side_hand_on(struct weft__task *t, struct weft__handed *h)
{
    (void)t, (void)h;
    NOT_HERE;
    return 0;
}
int weft__keeps_end(struct weft__frame *f, int rc)
{
    (void)f;
    NOT_HERE;
    return rc;
}
bool weft__gens_close(struct weft__gens *all, struct weft__unclean *u)
{
    (void)u;
    if (all->newest || all->deferred)
        NOT_HERE;
    return false;
}
void weft__unclean_begin(struct weft__unclean *u, struct weft__frame *f)
{
    *u = (struct weft__unclean){ .why = f->detail };
}
void weft__unclean_over(struct weft__unclean *u, struct weft__frame *f)
{
    (void)u, (void)f;
}
int weft__unclean_result(struct weft__unclean *u, struct weft__frame *f, int rc)
{
    (void)f;
    if (u->code != 0)
        NOT_HERE;
    return rc;
}
void weft__side_drop(struct weft__task *t)
{
    (void)t;
    NOT_HERE;
}
void weft__side_unpack(struct weft__frame *f, struct weft__task *t, uint32_t bits)
{
    (void)f, (void)t, (void)bits;
    NOT_HERE;
}
void weft__life_end_slow(struct weft__task *t, weft_task id)
{
    (void)t, (void)id;
    NOT_HERE;
}
const char *weft__detail_text(struct weft__frame *f, int code)
{
    (void)f, (void)code;
    return NULL; /* it gave none */
}
size_t weft__stack_mark(struct weft__stack *s)
{
    (void)s;
    NOT_HERE;
    return 0;
}
void weft__orphaned(const struct weft__frame *f)
{
    (void)f;
    NOT_HERE;
}
bool weft__holder_ended(uint64_t id, bool thread)
{
    (void)id, (void)thread;
    return false;
}
void weft__orphan_watch(struct weft__orphan_watch *w)
{
    (void)w;
    NOT_HERE;
}
void weft__orphan_unwatch(struct weft__orphan_watch *w)
{
    (void)w;
    NOT_HERE;
}
void weft__task_describe(struct weft__frame *f, char *out, unsigned long bytes)
{
    (void)f, (void)out, (void)bytes;
    NOT_HERE;
}
void weft__report_left(struct weft_runtime *rt)
{
    (void)rt;
    NOT_HERE;
}
struct weft__detail *weft__detail_take(struct weft__frame *f, int code)
{
    (void)f, (void)code;
    return NULL;
}
struct weft__detail *weft__detail_new(int code, const char *text, weft_task task, const char *name, const void *spawned_at)
{
    (void)code, (void)text, (void)task, (void)name, (void)spawned_at;
    return NULL;
}
void weft__detail_drop(struct weft__detail *d)
{
    if (d)
        NOT_HERE;
}
void weft__detail_give(struct weft__frame *f, struct weft__detail *d)
{
    if (f->detail || d)
        NOT_HERE;
}
void weft__detail_set(struct weft__frame *f, int code, const char *text)
{
    (void)f, (void)code, (void)text;
    NOT_HERE;
}
const char *weft__frame_name(const struct weft__frame *f)
{
    (void)f;
    NOT_HERE;
}
const struct weft__told *weft__task_told(weft_task id, bool wait)
{
    (void)id, (void)wait;
    NOT_HERE;
}
bool weft__forked;
void weft__fork_returned(void)
{
    NOT_HERE;
    abort();
}
void weft__report(struct weft_runtime *rt, const weft_report *said)
{
    (void)rt, (void)said;
    NOT_HERE;
}
void weft__report_task(const struct weft__frame *f, const char *what, int code, const char *text)
{
    (void)f, (void)what, (void)code, (void)text;
    NOT_HERE;
}
void weft__hand_gone(struct weft_runtime *rt)
{
    (void)rt; /* there is no I/O thread */
}
void weft__worker_due(struct weft__sched *s, int64_t at)
{
    (void)s, (void)at;
    NOT_HERE;
}
int64_t weft_after(int64_t within)
{
    (void)within;
    NOT_HERE;
}
int weft__join_look(const struct weft__frame *f, weft_task id)
{
    (void)f, (void)id;
    NOT_HERE;
}
bool weft__join_publish(struct weft__joiner *j)
{
    (void)j;
    NOT_HERE;
}
void weft__join_unpublish(struct weft__joiner *j)
{
    (void)j;
    NOT_HERE;
}
void weft__topic_leave(struct weft_chan *c)
{
    (void)c;
    NOT_HERE;
}
/* ---- what a scope that failed has at its end: nothing of these */

void weft__callers_free(struct weft__scope_extra *x)
{
    (void)x;
}

/* io.c's, beside which no signal comes here. */
void weft__quiet_begin(struct weft__quiet *q)
{
    (void)q;
}

long weft__quiet_end(const struct weft__quiet *q, long rc)
{
    (void)q;
    return rc;
}

long weft__quiet_write(int fd, const struct iovec *v, int n)
{
    (void)fd, (void)v, (void)n;
    return -EIO;
}
