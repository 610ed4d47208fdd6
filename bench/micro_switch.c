/* micro_switch.c - what weft's switch between two tasks costs beside the bare switch of this
 * processor.
 *
 *     micro_switch [ops=20000000] [reps=7]
 *
 * Measures  switch_bare: two contexts that switch to each other by bare_switch_*.S, and nothing
 * else. switch_context: the same by weft's own switch (machine/context.h). switch_weft: two tasks on
 * one worker that weft_yield to each other: the same switch, and what a scheduler adds (the queue, the
 * state of both tasks, a look at the cancel). All in ns for one switch, one way. ticks: a look at the
 * counter by which turns are timed, which rule R16 of docs/io-rules.md saves. gen_next: an item of 8
 * bytes from a generator, in a task, in ns for the item: two switches, the claim, the copy;
 * gen_next_thread: the same on a plain thread. The repetitions of all alternate. The last lines have
 * the ratios to the bare one, of the minima and of the medians; gen_ratio to two of them.
 * gen_python.py times the same in CPython. Does not measure a cold switch (both stacks stay in the
 * first-level cache), a switch that has to wake another worker, the saving of floating-point control
 * words, or more than two ready tasks. */
#include <weft.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "machine/context.h"
#include "micro.h"

void bare_switch(void **save_sp, void *to_sp);

enum { STACK_BYTES = 64 * 1024 };

/* The words of a new stack that bare_switch takes from it, and which of them it continues at. */
#if defined(__aarch64__)
enum { FRAME_WORDS = 20, FRAME_ENTRY = 11 };
#else
enum { FRAME_WORDS = 8, FRAME_ENTRY = 6 };
#endif

/* The two contexts: the thread's own, and the echo. */
static void *own_sp, *echo_sp;
static long echoes;

static void echo(void)
{
    for (;;) {
        echoes++;
        bare_switch(&echo_sp, own_sp);
    }
}

/* Lays out a stack on which the first switch enters echo as if it had been called. */
static void prepare_echo(unsigned char *stack)
{
    uintptr_t *top = (uintptr_t *)(void *)(stack + STACK_BYTES);
    uintptr_t *sp = top - FRAME_WORDS;
    memset(sp, 0, FRAME_WORDS * sizeof *sp);
    sp[FRAME_ENTRY] = (uintptr_t)echo;
    echo_sp = sp;
}

/* ns for one of `ops` switches, two of which make a round trip; negative if one was lost. */
static double measure_bare(long ops)
{
    echoes = 0;
    double start = now_ns();
    for (long i = 0; i < ops / 2; i++)
        bare_switch(&own_sp, echo_sp);
    double ns = now_ns() - start;
    return echoes == ops / 2 ? ns / (double)(ops / 2 * 2) : -1;
}

/* The same by weft's switch. A struct weft__stack lies at the top of its stack. */
static struct weft__context own_context, echo_context;
static struct weft__stack *echo_home;

static void echo_by_weft(void *arg)
{
    (void)arg;
    for (;;) {
        echoes++;
        weft__context_switch(&echo_context, &own_context, echo_home);
    }
}

static void prepare_context(unsigned char *stack)
{
    echo_home = (struct weft__stack *)(void *)(stack + STACK_BYTES - sizeof *echo_home);
    weft__context_make(&echo_context, echo_home, echo_by_weft, NULL);
}

static double measure_context(long ops)
{
    echoes = 0;
    double start = now_ns();
    for (long i = 0; i < ops / 2; i++)
        weft__context_switch(&own_context, &echo_context, echo_home);
    double ns = now_ns() - start;
    return echoes == ops / 2 ? ns / (double)(ops / 2 * 2) : -1;
}

static double measure_ticks(long ops)
{
    uint64_t sum = 0;
    double start = now_ns();
    for (long i = 0; i < ops; i++)
        sum += weft__ticks();
    double ns = now_ns() - start;
    return sum != 0 ? ns / (double)ops : -1;
}

struct rally {
    long ops;
    double ns;
};

static int return_often(void *arg)
{
    const long *turns = arg;
    int rc = 0;
    for (long i = 0; rc == 0 && i < *turns; i++)
        rc = weft_yield();
    return rc;
}

static int rally(void *arg)
{
    struct rally *r = arg;
    long turns = r->ops / 2;
    double start = now_ns();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, return_often, &turns);
    weft_spawn(&s, return_often, &turns);
    int rc = weft_scope_end(&s, 0);
    r->ns = (now_ns() - start) / (double)(turns * 2);
    return rc;
}

static int count_up(weft_gen *g, void *arg)
{
    int rc = 0;
    for (long i = 0; rc == 0 && i < *(const long *)arg; i++)
        rc = weft_gen_yield(g, &i, sizeof i);
    return rc;
}

/* An item is an op, and a round trip. */
static int take_all(void *arg)
{
    struct rally *r = arg;
    long items = r->ops / 2, i, n = 0;
    weft_gen *g;
    int rc = weft_gen_create(&g, count_up, &items, sizeof i, NULL);
    if (rc < 0)
        return rc;
    double start = now_ns();
    while ((rc = weft_gen_next(g, &i, sizeof i)) > 0)
        n += i == n;
    r->ns = (now_ns() - start) / (double)items;
    weft_gen_destroy(&g);
    return rc < 0 || n != items ? -EBADMSG : 0;
}

int main(int argc, char **argv)
{
    static double bare[REPS_MAX], context[REPS_MAX], woven[REPS_MAX], gen[REPS_MAX], thread[REPS_MAX], two[REPS_MAX];
    static double ticks[REPS_MAX];
    static _Alignas(16) unsigned char stack[STACK_BYTES], second[STACK_BYTES];
    long ops = word(argv + (argc > 0), "ops", 20000000, 2, 1000000000);
    int reps = (int)word(argv + (argc > 0), "reps", 7, 1, REPS_MAX);
    weft_runtime *rt = NULL;

    prepare_echo(stack);
    prepare_context(second);
    int rc = weft_runtime_create(&rt, &(weft_options){ .workers = 1 });
    for (int i = 0; rc >= 0 && i < reps; i++) {
        struct rally r = { .ops = ops };
        rc = weft_runtime_run(rt, rally, &r);
        woven[i] = r.ns;
        bare[i] = measure_bare(ops);
        context[i] = measure_context(ops);
        ticks[i] = measure_ticks(ops);
        if (rc >= 0)
            rc = weft_runtime_run(rt, take_all, &r);
        gen[i] = r.ns;
        if (rc >= 0)
            rc = take_all(&r);
        thread[i] = r.ns;
        if (rc >= 0 && (bare[i] < 0 || context[i] < 0 || ticks[i] < 0))
            rc = -EBADMSG;
    }
    weft_runtime_destroy(&rt);
    if (rc < 0) {
        fprintf(stderr, "micro_switch: %s\n", weft_strerror(rc));
        return 1;
    }
    print_line("switch_bare", 1, ops, reps, bare);
    print_line("switch_context", 1, ops, reps, context);
    print_line("switch_weft", 1, ops, reps, woven);
    print_line("ticks", 1, ops, reps, ticks);
    print_line("gen_next", 1, ops / 2, reps, gen);
    print_line("gen_next_thread", 1, ops / 2, reps, thread);
    print_ratio("context_ratio", 1, ops, reps, context, bare);
    print_ratio("switch_ratio", 1, ops, reps, woven, bare);
    for (int i = 0; i < reps; i++)
        two[i] = 2 * bare[i]; /* sorted by now */
    print_ratio("gen_ratio", 1, ops / 2, reps, gen, two);
    return 0;
}
