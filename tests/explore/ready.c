/* ready.c - sched/ready: each task leaves the ring exactly once, also when the ring goes round. */
#include "scenarios.h"

#include "sched/ready.h"

enum { TASKS = 6 };

static struct weft__ready_ring r;
static unsigned char out[TASKS + 1];
static int payload[TASKS + 1];
static uint32_t pushed;

static void setup(void)
{
    memset(&r, 0, sizeof r);
    memset(out, 0, sizeof out);
    pushed = 0;
    ex_ghost(out, sizeof out);
    ex_ghost(&pushed, sizeof pushed);
}

static void push(uint32_t task)
{
    ex_write(&payload[task], "a task");
    if (weft__ready_push(&r, task))
        pushed |= 1u << task;
}

static void got(uint32_t task)
{
    ex_expect(task >= 1 && task <= TASKS);
    if (out[task]++)
        ex_fail("task %d leaves twice", (int)task);
    ex_write(&payload[task], "a task");
}

static void pop(void)
{
    uint32_t task;
    if (weft__ready_pop(&r, &task)) {
        ex_relied(1);
        got(task);
    }
}

static void grab(uint32_t most)
{
    uint32_t some[WEFT__RING];
    uint32_t n = weft__ready_grab(&r, some, most);
    ex_expect(n <= most);
    ex_relied((int)n); /* Q3: their slots */
    for (uint32_t i = 0; i < n; i++)
        got(some[i]);
}

static void all_left(void)
{
    uint32_t task;
    while (weft__ready_pop(&r, &task))
        if (out[task]++)
            ex_fail("task %d leaves twice", (int)task);
    for (uint32_t i = 1; i <= TASKS; i++)
        if (out[i] != (pushed >> i & 1))
            ex_fail("task %d is lost", (int)i);
}

static void two(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        pop();
        return;
    }
    grab(2);
}

static void wrap(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        pop();
        push(3);
        pop();
        return;
    }
    grab(1);
}

/* The owner goes round twice under a thief that looked early. */
static void wrap_twice(int me)
{
    if (me == 0) {
        push(1);
        push(2);
        pop();
        push(3);
        pop();
        push(4);
        pop();
        return;
    }
    grab(2);
}

static void refused(int me)
{
    if (me == 0) {
        for (uint32_t i = 1; i <= 4; i++)
            push(i);
        pop();
        return;
    }
    grab(2);
}

const struct ex_scenario ready_scenarios[] = {
    { "ready", "two", 3, setup, two, all_left, -1, "two tasks, owner and two thieves", NULL },
    { "ready", "wrap", 3, setup, wrap, all_left, -1, "goes round, two thieves", NULL },
    { "ready", "wrap_twice", 2, setup, wrap_twice, all_left, -1, "goes round twice under one thief", NULL },
    { "ready", "refused", 3, setup, refused, all_left, -1, "pushes that find it full", NULL },
    { 0 },
};
