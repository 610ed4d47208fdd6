/* engine/turns.c - a task that holds its worker for long is told: who it is, for how long, and in which calls.
 *
 * Owns      the handler of SIGURG, if a runtime asks for it and its disposition was the default; when a turn is told.
 * Callers   the I/O thread, which looks at the workers anyway while any is awake; a worker's thread in the handler.
 *
 *     V1  a turn has lasted for `limit`: it is told, once. That is seen by what a worker says in any case, when its turn
 *         began and how many there were, so a turn costs nothing; an idle runtime is not looked at
 *     V2  who runs: the id that is in the worker's frame, if that is where the task of this id has its frame, and if it is
 *         still the same turn afterwards
 *     V3  its calls are on a stack that is in use, so the thread itself has to look: it gets a signal, and answers later
 *
 *             the I/O thread                       the handler, on the worker
 *             FREE: writes seat and turn, ASKED    ASKED, and its seat: WRITES
 *             ASKED for too long: FREE             its turn? then the calls; ANSWERED
 *             ANSWERED: tells, FREE
 *
 *     V4  a signal ends some system calls early, whatever SA_RESTART says: sleeps, poll and its like. So the kernel is asked
 *         first in which one the thread is (/proc/self/task/TID/syscall, which also says where); only one that is known to
 *         be begun again is disturbed, or a thread that computes. Of the others the calls are read from here, as far as
 *         they can be without its registers; they lie still, or else the kernel says something else afterwards
 *
 * What is told has been true a moment ago. The task may have gone on, or ended, since.
 * Stacks    are read as those of tasks that wait (machine/unwind.c). They stay mapped until the runtime ends, and so do the
 *           frames that lie on them: one may be looked at that is not one any more.
 * TSan      delivers signals late and with another stack, so there nobody is asked.
 * Source    Go's preemption by SIGURG, for which signal does no harm; the monitor is what tokio's users ask for.
 * Tested    tests/turns_test.c */
#include "engine/turns.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/code.h"
#include "base/mem.h"
#include "engine/hooks.h"
#include "engine/worker.h"
#include "machine/unwind.h"

enum { FREE, ASKED, WRITES, ANSWERED };
enum { ANSWER_MS = 1000, COMPUTES = -1, NOT_KNOWN = -2, TEXT = 4096 };

#define MS INT64_C(1000000)

at_int weft__turns_a_second = 10;

#ifdef WEFT__TSAN
enum { MAY_ASK = 0 };
#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize("thread")))
#elif defined(WEFT__ASAN)
enum { MAY_ASK = 1 };
#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize("address")))
#else
enum { MAY_ASK = 1 };
#define NOT_INSTRUMENTED
#endif

int weft__turns_init(struct weft_runtime *rt, int64_t limit)
{
    rt->turns.limit = limit;
    if (limit == 0)
        return 0;
    rt->turns.told = weft__mem_zeroed((size_t)rt->group.room * sizeof rt->turns.told[0]);
    return rt->turns.told ? 0 : -ENOMEM;
}

void weft__turns_fini(struct weft_runtime *rt)
{
    weft__mem_free(rt->turns.told);
}

/* ---- V3: the handler */

static void answer(struct weft__sched *s, const void *ucontext)
{
    struct weft__turns *t = &weft__runtime_of(s->group)->turns;
    struct weft__frame *f = own(s->frame);
    struct weft__call c;
    if (ati_load(&t->seat) != s->id || !ati_cas(&t->state, ASKED, WRITES))
        return;
    t->n = 0;
    const struct weft__stack *k = f && f->task ? own(f->stack) : NULL;
    if (k && at_load(&s->count.ran) == at_load(&t->turn) &&
            weft__unwind_interrupted(&c, ucontext, own(k->low), own(k->high)))
        t->n = weft__unwind_all(&c, t->calls, WEFT__TURN_CALLS);
    ati_store_release(&t->state, ANSWERED); /* meets the acquire of look_for_answer */
}

static void on_signal(int signo, siginfo_t *info, void *ucontext)
{
    struct weft__sched *s = weft__self();
    (void)signo;
    (void)info;
    if (s && s->group && weft__runtime_of(s->group)->turns.limit != 0)
        answer(s, ucontext);
}

static struct weft__lock lock;
static int users;
static bool ours;
static struct sigaction before;

static bool is_ours(void)
{
    struct sigaction now;
    return sigaction(SIGURG, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_signal;
}

void weft__turns_install(struct weft_runtime *rt)
{
    struct sigaction mine = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
    if (rt->turns.limit == 0)
        return;
    sigfillset(&mine.sa_mask);
    weft__lock(&lock);
    if (users++ == 0)
        ours = sigaction(SIGURG, NULL, &before) == 0 && !(before.sa_flags & SA_SIGINFO) &&
                (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) && sigaction(SIGURG, &mine, NULL) == 0;
    rt->turns.signal = MAY_ASK && ours && !rt->manual;
    weft__unlock(&lock);
}

/* The program may have taken it since. */
void weft__turns_uninstall(struct weft_runtime *rt)
{
    if (rt->turns.limit == 0)
        return;
    weft__lock(&lock);
    if (--users == 0 && ours && is_ours())
        sigaction(SIGURG, &before, NULL);
    weft__unlock(&lock);
}

/* The handler needs more stack than a task may have. */
void weft__turns_settle(struct weft__worker *w)
{
    stack_t there;
    sigset_t urgent;
    if (!w->rt->turns.signal)
        return;
    if (!w->signal_stack)
        weft__crash_thread_begin(&w->signal_stack);
    if (sigaltstack(NULL, &there) < 0 || (there.ss_flags & SS_DISABLE))
        return;
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    ati_store(&w->hears, pthread_sigmask(SIG_UNBLOCK, &urgent, NULL) == 0);
}

/* ---- V4: what the kernel says */

/* System calls that are begun again behind a handler with SA_RESTART. (Those on a socket with a timeout of its own are not.) */
static const int begun_again[] = { SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_recvfrom,
    SYS_recvmsg, SYS_sendto, SYS_sendmsg, SYS_accept, SYS_accept4, SYS_wait4, SYS_waitid, SYS_openat, SYS_flock, SYS_fcntl,
    SYS_futex, SYS_fsync, SYS_fdatasync };

struct there {
    char text[256];
    int call; /* COMPUTES, or not in one; NOT_KNOWN */
    uintptr_t sp, pc;
};

static struct there ask_kernel(struct weft__worker *w)
{
    struct there t = { .call = NOT_KNOWN };
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%u/syscall", ati_load(&w->tid));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, t.text, sizeof t.text - 1);
    if (fd >= 0)
        close(fd);
    t.text[n > 0 ? n : 0] = 0;
    const char *pc = strrchr(t.text, ' '), *sp = pc;
    while (sp && sp > t.text && sp[-1] != ' ')
        sp--;
    if (strcmp(t.text, "running\n") == 0) {
        t.call = COMPUTES;
    } else if (pc && sp) {
        t.call = atoi(t.text);
        t.sp = (uintptr_t)strtoull(sp, NULL, 16);
        t.pc = (uintptr_t)strtoull(pc, NULL, 16);
    }
    return t;
}

static bool may_be_disturbed(int call)
{
    bool known = call == COMPUTES;
    for (size_t i = 0; i < sizeof begun_again / sizeof begun_again[0]; i++)
        known = known || begun_again[i] == call;
    return known;
}

/* ---- V2 */

struct runs {
    weft_task task; /* 0: none */
    struct weft__who who;
};

/* What is there may be the frame of nobody any more. */
NOT_INSTRUMENTED static weft_task id_in(const struct weft__frame *f)
{
    return *(const volatile weft_task *)&f->id;
}

static struct runs who_runs(struct weft__sched *s, uint64_t turn)
{
    struct weft__frame *f = own(s->frame);
    struct runs r = { .task = f && f != &s->loop ? id_in(f) : 0 };
    if (r.task != 0 && !weft__hooks.who(r.task, f, &r.who))
        r.task = 0;
    at_fence_full(); /* the turn is looked at after the frame */
    if (at_load(&s->count.ran) != turn)
        r.task = 0;
    return r;
}

/* ---- what is told */

static size_t add(char *out, size_t at, const char *before_it, const void *code)
{
    char text[120];
    weft__code_text(text, sizeof text, code);
    int n = snprintf(out + at, TEXT - at, "%s%s", before_it, text);
    return n > 0 && (size_t)n < TEXT - at ? at + (size_t)n : at;
}

static void tell(struct weft_runtime *rt)
{
    struct weft__turns *t = &rt->turns;
    char text[TEXT], in[40] = "", more[64] = "";
    int64_t ms = t->about.lasted / MS;
    if (t->about.call >= 0)
        snprintf(in, sizeof in, ", in system call %d", t->about.call);
    if (t->untold > 0)
        snprintf(more, sizeof more, "; %llu more were not told of", (unsigned long long)t->untold);
    t->untold = 0;
    int n = snprintf(text, sizeof text, "has held its worker for %lld ms%s%s", (long long)ms, in, more);
    size_t at = (size_t)n;
    for (int i = 0; i < t->n; i++)
        at = add(text, at, i == 0 ? "; in " : " < ", t->calls[i]);
    weft__report(rt, &(weft_report){ .what = "long-turn", .task = t->about.task, .task_name = t->about.who.name,
            .site = t->about.who.site, .code = ms < INT32_MAX ? (int)ms : INT32_MAX, .text = text });
}

/* ---- looking */

static bool too_many(struct weft__turns *t, int64_t now)
{
    if (t->second == 0 || now - t->second >= 1000 * MS) {
        t->second = now;
        t->in_second = 0;
    }
    return t->in_second++ >= (int)ati_load(&weft__turns_a_second);
}

/* From here: its stack pointer and where it is are known, its other registers are not. */
static void read_calls(struct weft_runtime *rt, struct weft__worker *w, const struct there *there, const struct runs *r)
{
    struct weft__turns *t = &rt->turns;
    struct weft__call c;
    t->n = 0;
    if (there->pc == 0 || !weft__unwind_from(&c, there->sp, there->pc, r->who.low, r->who.high))
        return;
    int n = weft__unwind_all(&c, t->calls, WEFT__TURN_CALLS);
    struct there again = ask_kernel(w);
    if (strcmp(again.text, there->text) == 0)
        t->n = n;
}

/* True: it was asked, and answers later. */
static bool ask(struct weft_runtime *rt, struct weft__worker *w, uint64_t turn)
{
    struct weft__turns *t = &rt->turns;
    if (!t->signal || !ati_load(&w->hears) || !is_ours())
        return false;
    ati_store(&t->seat, w->sched.id);
    at_store(&t->turn, turn);
    ati_store_release(&t->state, ASKED);
    if (syscall(SYS_tgkill, getpid(), ati_load(&w->tid), SIGURG) == 0)
        return true;
    ati_store(&t->state, FREE);
    return false;
}

static void see_to(struct weft_runtime *rt, struct weft__worker *w, uint64_t turn, int64_t lasted, int64_t now)
{
    struct weft__turns *t = &rt->turns;
    struct runs r = who_runs(&w->sched, turn);
    if (r.task == 0)
        return; /* the worker's own loop; or it has just gone on */
    t->told[w->sched.id] = turn + 1;
    if (too_many(t, now)) {
        t->untold++;
        return;
    }
    struct there there = ask_kernel(w);
    memset(&t->about, 0, sizeof t->about);
    t->about.task = r.task;
    t->about.lasted = lasted;
    t->about.since = now;
    t->about.call = there.call;
    t->n = 0;
    t->about.who = r.who;
    if (may_be_disturbed(there.call) && ask(rt, w, turn))
        return;
    read_calls(rt, w, &there, &r);
    tell(rt);
}

/* False: none that was asked is left. */
static bool look_for_answer(struct weft_runtime *rt, int64_t now)
{
    struct weft__turns *t = &rt->turns;
    uint32_t state = ati_load_acquire(&t->state);
    if (state == FREE)
        return false;
    if (state == ASKED && now - t->about.since > ANSWER_MS * MS && ati_cas(&t->state, ASKED, FREE)) {
        tell(rt);
        return false;
    }
    if (state != ANSWERED)
        return true;
    tell(rt);
    ati_store_release(&t->state, FREE);
    return false;
}

bool weft__turns_waits(struct weft_runtime *rt)
{
    return rt->turns.limit != 0 && ati_load(&rt->turns.state) != FREE;
}

void weft__turns_look(struct weft_runtime *rt)
{
    struct weft__turns *t = &rt->turns;
    int64_t now = t->limit != 0 ? weft__now() : 0;
    if (t->limit == 0 || (!weft__turns_waits(rt) && now - t->looked < 500 * (int64_t)WEFT__TICK_US))
        return;
    t->looked = now;
    bool waits = look_for_answer(rt, now);
    uint64_t ticks = weft__group_ticks(&rt->group);
    for (int i = 0, seats = weft__group_seats(&rt->group); i < seats && !waits; i++) {
        struct weft__sched *s = rt->group.all[i];
        uint64_t turn = at_load(&s->count.ran), since = at_load(&s->since);
        if (since == 0 || ticks <= since || t->told[i] == turn + 1)
            continue;
        int64_t lasted = 1000 * (int64_t)weft__ticks_to_us(ticks - since);
        if (lasted >= t->limit)
            see_to(rt, rt->workers[i], turn, lasted, now);
        waits = weft__turns_waits(rt);
    }
}
