/* engine/crash.c - a stack overflow names the task, and the generator; every other fault goes on to whom it belongs.
 *
 * Owns      the handlers of SIGSEGV and SIGBUS, if their disposition was the default when the first runtime that
 *           asked for it started; and an alternate signal stack for each worker.
 * Handlers  run on the alternate stack and call only what a signal handler may.
 * After the report the default disposition is restored and the instruction runs again, or the signal that was sent comes
 * again: the process ends with it, and a core shows the place. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "engine/hooks.h"
#include "engine/worker.h"

static void say(const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t n = write(2, text, left);
        if (n <= 0)
            return;
        text += n;
        left -= (size_t)n;
    }
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    struct weft__sched *s = weft__self();
    struct weft__frame *f = s ? own(s->frame) : NULL;
    (void)context;
    if (f && f->task) {
        char text[560], who[128], below[160] = "", in[100] = "";
        weft__hooks.describe(f, who, sizeof who);
        if (f->stack->nested) {
            weft__hooks.describe_nested(f->stack, in, sizeof in - 4);
            strcat(in, " of ");
        }
        if (f->below) {
            char whose[100];
            weft__hooks.describe(f->below, whose, sizeof whose);
            snprintf(below, sizeof below, ", run by its joiner on the stack of %s", whose);
        }
        if (weft__stack_in_guard(f->stack, info->si_addr))
            snprintf(text, sizeof text,
                    "weft: stack overflow in %s%s, spawned at %p%s: %zu KiB were guaranteed, fault at %p\n", in, who, f->site,
                    below, weft__stack_guarantee(f->stack->class_index) / 1024, info->si_addr);
        else
            snprintf(text, sizeof text, "weft: signal %d in %s%s, spawned at %p%s, fault at %p\n", signo, in, who, f->site,
                    below, info->si_addr);
        say(text);
    }
    signal(signo, SIG_DFL);
    if (info->si_code <= 0) /* somebody has sent it: no instruction runs again */
        raise(signo);
}

static const int signals[] = { SIGSEGV, SIGBUS };
enum { SIGNALS = sizeof signals / sizeof signals[0] };

static struct weft__lock lock;
static int users;
static bool ours[SIGNALS];
static struct sigaction before[SIGNALS];

void weft__crash_install(void)
{
    struct sigaction mine = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    weft__lock(&lock);
    for (int i = 0; users == 0 && i < SIGNALS; i++)
        ours[i] = sigaction(signals[i], NULL, &before[i]) == 0 && !(before[i].sa_flags & SA_SIGINFO) &&
                before[i].sa_handler == SIG_DFL && sigaction(signals[i], &mine, NULL) == 0;
    users++;
    weft__unlock(&lock);
}

/* The last runtime leaves the signals as the first one found them, unless somebody else has taken them since. */
void weft__crash_uninstall(void)
{
    struct sigaction now;
    weft__lock(&lock);
    users--;
    for (int i = 0; users == 0 && i < SIGNALS; i++)
        if (ours[i] && sigaction(signals[i], NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
                now.sa_sigaction == on_fault)
            sigaction(signals[i], &before[i], NULL);
    weft__unlock(&lock);
}

static size_t signal_stack_bytes(void)
{
    long n = sysconf(_SC_SIGSTKSZ);
    return (n > 16384 ? (size_t)n : 16384) + 16384;
}

void weft__crash_thread_begin(void **stack)
{
    size_t bytes = signal_stack_bytes();
    void *m = weft__fault(WEFT__FAULT_SIGSTACK)
            ? MAP_FAILED
            : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t ss = { .ss_sp = m, .ss_size = bytes };
    stack_t had;
    *stack = NULL;
    if (m == MAP_FAILED)
        return; /* a fault is then not reported, only fatal */
    if (sigaltstack(NULL, &had) == 0 && !(had.ss_flags & SS_DISABLE)) {
        munmap(m, bytes); /* a sanitizer gave the thread one */
        return;
    }
    if (weft__fault(WEFT__FAULT_SIGSTACK) || sigaltstack(&ss, NULL) < 0) {
        munmap(m, bytes);
        return;
    }
    *stack = m;
}

void weft__crash_thread_end(void *stack)
{
    stack_t off = { .ss_flags = SS_DISABLE }, now;
    if (!stack)
        return;
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == stack) /* else a host has another one by now */
        sigaltstack(&off, NULL);
    munmap(stack, signal_stack_bytes());
}
