/* stress/support.h - what the stress programs share: the command line, chance, checks, counts, the watchdog.
 *
 *     int main(int argc, char **argv)
 *     {
 *         stress_begin(argc, argv, "deque");       prints the full command
 *         while (!stress_over())
 *             ...  stress_moved(); CHECK(...)
 *         stress_count("pushes", n, 1000);         prints; fails below the minimum
 *         return stress_end();
 *     }
 *
 * A seed replays inputs and injected delays, not the machine's interleaving. A failed check and a stall print
 * the command that led to it, and what every worker and every live task does, and abort.
 */
#ifndef WEFT_STRESS_SUPPORT_H
#define WEFT_STRESS_SUPPORT_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weft.h>

#if defined(__SANITIZE_THREAD__)
#define STRESS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STRESS_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define STRESS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STRESS_ASAN 1
#endif
#endif
#ifndef STRESS_TSAN
#define STRESS_TSAN 0
#endif
#ifndef STRESS_ASAN
#define STRESS_ASAN 0
#endif

/* How many: plainly, and under ThreadSanitizer, which has room for 8,000 coroutines and ten times less speed. */
#define SCALED(plain, tsan) (STRESS_TSAN ? (tsan) : (plain))
#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))
#define NOINLINE __attribute__((noinline, unused))

extern uint64_t stress_seed;
extern int stress_workers;
extern double stress_seconds;

/* Reads --seed S --seconds N --workers W, prints the command, starts the watchdog. */
void stress_begin(int argc, char **argv, const char *name);
/* Whether the time is up. */
bool stress_over(void);

/* What has to come to so much at least: `least`, and stress_least(a_second). */
struct stress_need {
    const char *what;
    atomic_ulong *n;
    uint64_t least, a_second;
};
/* Whether the time is up, and all of that was done: a machine that is slow, or stood still for a while, gets half a minute
 * more. Any thread. */
bool stress_over_when(const struct stress_need *needs, int n);
/* stress_count of each. */
void stress_counts(const struct stress_need *needs, int n);
/* Something was done: the watchdog is content for 10 s (60 s under ThreadSanitizer). Any thread. */
void stress_moved(void);
/* The part of the time so far, 0 to 1, in which the watchdog, which is to look each 100 ms, could not for half a second and
 * more: the machine stood still. */
double stress_stood(void);
/* The runtime whose workers a dump shows; NULL: none. */
void stress_watch(weft_runtime *rt);
/* A runtime with --workers workers, watched. */
weft_runtime *stress_runtime(void);
/* Prints a count, and fails the program if it is below `least`. */
void stress_count(const char *what, uint64_t n, uint64_t least);
/* So many a second of the run, or of processor time if others left it less than that; fewer with a sanitizer, and with
 * more workers than any machine has. */
uint64_t stress_least(uint64_t a_second);
/* Prints a span of time, and fails the program if it is above `most`. */
void stress_worst(const char *what, int64_t ns, int64_t most);
/* The exit status; prints the verdict. */
int stress_end(void);
_Noreturn void stress_fail(const char *file, int line, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Any thread, in a task or not. */
#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            stress_fail(__FILE__, __LINE__, "" __VA_ARGS__);                                       \
    } while (0)

/* -- chance: every stream of numbers is made from the seed and the names of what it is for -- */

struct chance {
    uint64_t state;
};

static inline uint64_t chance_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
static inline struct chance chance_of(uint64_t a, uint64_t b)
{
    return (struct chance){ chance_mix(stress_seed ^ chance_mix(a ^ chance_mix(b))) };
}
static inline uint64_t chance_bits(struct chance *c)
{
    c->state += UINT64_C(0x9e3779b97f4a7c15);
    return chance_mix(c->state);
}
/* 0 .. n-1 */
static inline uint32_t chance_below(struct chance *c, uint32_t n)
{
    return (uint32_t)(((chance_bits(c) >> 32) * n) >> 32);
}
static inline bool chance_one_in(struct chance *c, uint32_t n)
{
    return chance_below(c, n) == 0;
}

/* -- small things -- */

static inline void compute(int64_t ns)
{
    int64_t end = weft_now() + ns;
    volatile unsigned x = 1;
    while (weft_now() < end)
        for (int i = 0; i < 50; i++)
            x = x * 1664525u + 1013904223u;
}

static inline void raise_to(atomic_llong *most, long long value)
{
    long long had = atomic_load(most);
    while (had < value && !atomic_compare_exchange_weak(most, &had, value))
        continue;
}

static inline pthread_t thread_start(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    int rc = pthread_create(&t, NULL, fn, arg);
    CHECK(rc == 0, "pthread_create: %s", strerror(rc));
    return t;
}

/* A little delay of a random kind, as a plain thread or a task that computes on. */
static inline void stutter(struct chance *c)
{
    switch (chance_below(c, 8)) {
    case 0:
        sched_yield();
        break;
    case 1:
        compute(chance_below(c, 20000));
        break;
    case 2:
        compute(chance_below(c, 500));
        break;
    default:
        break;
    }
}

#endif
