/* micro_switch.c - what weft's switch between two tasks costs beside the bare switch of this
 * processor.
 *
 *     micro_switch [ops=20000000] [reps=7]
 *
 * Measures  switch_bare: two contexts that switch to each other by bare_switch_*.S, and nothing
 * else. switch_weft: two tasks on one worker that weft_yield to each other: the same switch, and
 * what a scheduler adds (the queue, the state of both tasks, a look at the cancel). Both in ns for
 * one switch, one way; the repetitions of the two alternate. The last line has the ratio of the
 * minima and of the medians. Does not  measure a cold switch (both stacks stay in the first-level
 * cache), a switch that has to wake another worker, the saving of floating-point control words, or
 * more than two ready tasks. */
#include <weft.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void bare_switch(void **save_sp, void *to_sp);

enum { REPS_MAX = 1000, STACK_BYTES = 64 * 1024 };

/* The words of a new stack that bare_switch takes from it, and which of them it continues at. */
#if defined(__aarch64__)
enum { FRAME_WORDS = 20, FRAME_ENTRY = 11 };
#else
enum { FRAME_WORDS = 8, FRAME_ENTRY = 6 };
#endif

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

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

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *sorted, int reps)
{
    return (sorted[(reps - 1) / 2] + sorted[reps / 2]) / 2;
}

static void print_line(const char *bench, long ops, int reps, double *ns)
{
    qsort(ns, (size_t)reps, sizeof *ns, ascending);
    printf("{\"bench\":\"%s\",\"workers\":1,\"ops\":%ld,\"reps\":%d,\"ns_min\":%.2f,\"ns_med\":%."
           "2f}\n",
            bench, ops, reps, ns[0], median(ns, reps));
}

/* The value of key=value among the words, or otherwise. */
static long word(char **words, const char *key, long otherwise, long least, long most)
{
    size_t bytes = strlen(key);
    long value = otherwise;
    for (; *words; words++)
        if (strncmp(*words, key, bytes) == 0 && (*words)[bytes] == '=')
            value = strtol(*words + bytes + 1, NULL, 10);
    if (value < least || value > most) {
        fprintf(stderr, "micro_switch: %s is %ld to %ld\n", key, least, most);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    static double bare[REPS_MAX], woven[REPS_MAX];
    static _Alignas(16) unsigned char stack[STACK_BYTES];
    long ops = word(argv + (argc > 0), "ops", 20000000, 2, 1000000000);
    int reps = (int)word(argv + (argc > 0), "reps", 7, 1, REPS_MAX);
    weft_runtime *rt = NULL;

    prepare_echo(stack);
    int rc = weft_runtime_create(&rt, &(weft_options){ .workers = 1 });
    for (int i = 0; rc >= 0 && i < reps; i++) {
        struct rally r = { .ops = ops };
        rc = weft_runtime_run(rt, rally, &r);
        woven[i] = r.ns;
        bare[i] = measure_bare(ops);
        if (rc >= 0 && bare[i] < 0)
            rc = -EBADMSG;
    }
    weft_runtime_destroy(&rt);
    if (rc < 0) {
        fprintf(stderr, "micro_switch: %s\n", weft_strerror(rc));
        return 1;
    }
    print_line("switch_bare", ops, reps, bare);
    print_line("switch_weft", ops, reps, woven);
    printf("{\"bench\":\"switch_ratio\",\"workers\":1,\"ops\":%ld,\"reps\":%d,\"of_min\":%.2f,\"of_"
           "med\":%.2f}\n",
            ops, reps, woven[0] / bare[0], median(woven, reps) / median(bare, reps));
    return 0;
}
