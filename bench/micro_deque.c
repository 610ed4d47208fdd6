/* micro_deque.c - what the scheduler's queues cost their owner and a thief, one thread, hot.
 *
 *     micro_deque [ops=20000000] [reps=7]
 *
 * Measures  in ns: deque_push_take, an element pushed to the deque and taken by its owner while three more lie in
 * it; deque_push_steal, pushed and stolen; ring_push_pop, into the ready ring and out of it.
 * Does not measure  what two cores pay that use one queue at once. */
#include <stdio.h>

#include "micro.h"
#include "sched/deque.h"
#include "sched/ready.h"

static struct weft__deque deque;
static struct weft__ready_ring ring;

static bool push_take(long ops)
{
    uint64_t sum = 0;
    for (long i = 0; i < ops; i++) {
        (void)weft__deque_push(&deque, (uint64_t)i + 1);
        sum += weft__deque_take(&deque);
    }
    return sum == (uint64_t)ops * ((uint64_t)ops + 1) / 2;
}

static bool push_steal(long ops)
{
    bool right = true;
    for (long i = 0; i < ops; i++) {
        (void)weft__deque_push(&deque, (uint64_t)i + 4); /* 1, 2 and 3 lie in it */
        right = weft__deque_steal(&deque) == (uint64_t)i + 1 && right;
    }
    return right;
}

static bool push_pop(long ops)
{
    bool right = true;
    for (long i = 0; i < ops; i++) {
        uint32_t task = 0;
        (void)weft__ready_push(&ring, (uint32_t)i);
        right = weft__ready_pop(&ring, &task) && task == (uint32_t)i && right;
    }
    return right;
}

static const struct {
    const char *name;
    bool (*run)(long ops);
} benches[] = { { "deque_push_take", push_take }, { "deque_push_steal", push_steal }, { "ring_push_pop", push_pop } };
enum { BENCHES = sizeof benches / sizeof benches[0] };

int main(int argc, char **argv)
{
    static double ns[BENCHES][REPS_MAX];
    long ops = word(argv + (argc > 0), "ops", 20000000, 1, 1000000000);
    int reps = (int)word(argv + (argc > 0), "reps", 7, 1, REPS_MAX);
    for (int i = 0; i < reps; i++)
        for (int b = 0; b < BENCHES; b++) {
            if (weft__deque_init(&deque, 256) < 0)
                return 1;
            for (uint64_t lies = 1; lies <= 3; lies++)
                (void)weft__deque_push(&deque, lies);
            double start = now_ns();
            bool right = benches[b].run(ops);
            ns[b][i] = (now_ns() - start) / (double)ops;
            weft__deque_fini(&deque);
            if (!right) {
                fprintf(stderr, "micro_deque: %s: wrong elements\n", benches[b].name);
                return 1;
            }
        }
    for (int b = 0; b < BENCHES; b++)
        print_line(benches[b].name, 1, ops, reps, ns[b]);
    return 0;
}
