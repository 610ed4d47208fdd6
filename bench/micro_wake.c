/* micro_wake.c - what it costs to wait and be woken.
 *
 *     micro_wake [ops=4000000] [reps=7]
 *
 * Measures  in ns, for one wake: wake_here, two tasks on one worker, each of which ends the other's wait and waits
 * itself, so the worker's next slot passes the turn. wake_there, two tasks pinned to two workers, which do the same:
 * a wake crosses from core to core, and finds the other worker searching or asleep (a hundredth of the ops).
 * Does not measure  wakes by I/O or timers, nor of a task whose stack is cold. */
#include <errno.h>
#include <stdio.h>
#include <weft.h>

#include "coord/await.h"
#include "micro.h"

/* Half of a rally: 0, POSTED, or the token of who waits to be posted to. */
#define POSTED UINT64_C(1)

struct rally {
    at_word cell[2];
    long rounds;
    bool apart;
    double ns;
};

static void post(at_word *cell)
{
    uint64_t found = at_swap(cell, POSTED);
    if (found != 0)
        (void)weft__fire(found, WEFT__CAUSE_EVENT);
}

static int wait_for_post(at_word *cell)
{
    struct weft__frame *f = weft__current();
    weft__token k;
    int rc = weft__await_begin(f, &k);
    if (rc < 0)
        return rc;
    if (at_swap(cell, k) == POSTED) {
        if (!weft__await_give_up(f))
            return -EBADMSG;
    } else if (weft__await(f) != WEFT__CAUSE_EVENT) {
        return -ECANCELED;
    }
    at_store(cell, 0); /* the other does not post before we have answered */
    return 0;
}

static int serve(void *arg)
{
    struct rally *r = arg;
    int rc = 0;
    double start = now_ns();
    for (long i = 0; i < r->rounds && rc == 0; i++) {
        post(&r->cell[1]);
        rc = wait_for_post(&r->cell[0]);
    }
    r->ns = (now_ns() - start) / (double)(2 * r->rounds);
    return rc;
}

static int answer(void *arg)
{
    struct rally *r = arg;
    int rc = 0;
    for (long i = 0; i < r->rounds && rc == 0; i++) {
        rc = wait_for_post(&r->cell[1]);
        if (rc == 0)
            post(&r->cell[0]);
    }
    return rc;
}

static int rally(void *arg)
{
    struct rally *r = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn_with(&s, serve, r, &(weft_spawn_options){ .pin = r->apart ? 1 : 0 });
    weft_spawn_with(&s, answer, r, &(weft_spawn_options){ .pin = r->apart ? 2 : 0 });
    return weft_scope_end(&s, 0);
}

int main(int argc, char **argv)
{
    enum { HERE, THERE, BENCHES };
    static double ns[BENCHES][REPS_MAX];
    static const char *const names[BENCHES] = { "wake_here", "wake_there" };
    long ops = word(argv + (argc > 0), "ops", 4000000, 200, 1000000000);
    int reps = (int)word(argv + (argc > 0), "reps", 7, 1, REPS_MAX), rc = 0;
    for (int i = 0; i < reps && rc == 0; i++)
        for (int b = 0; b < BENCHES && rc == 0; b++) {
            struct rally r = { .rounds = ops / (b == HERE ? 2 : 200), .apart = b == THERE };
            rc = weft_run(rally, &r, &(weft_options){ .workers = b == HERE ? 1 : 2 });
            ns[b][i] = r.ns;
        }
    if (rc < 0) {
        fprintf(stderr, "micro_wake: %s\n", weft_strerror(rc));
        return 1;
    }
    print_line(names[HERE], 1, ops, reps, ns[HERE]);
    print_line(names[THERE], 2, ops / 100, reps, ns[THERE]);
    return 0;
}
