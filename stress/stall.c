/* stress/stall.c - stands still on purpose, to see what the watchdog says of it: stall_test.sh.
 *
 * One task waits for a byte that nobody writes, one for the end of that task. */
#include "support.h"

#include "coord/await.h"

static int wait_for_a_byte(void *arg)
{
    char b;
    return weft_read(*(int *)arg, &b, 1);
}

static int wait_for_the_end(void *arg)
{
    return weft_task_join(*(weft_task *)arg);
}

static bool waits(weft_task id)
{
    const struct weft__task *t = weft__task_at(weft__id_index(id));
    return weft__phase_of(at_load_acquire(&t->state)) == WEFT__WAITING;
}

/* It is only then that nothing moves. */
static int wait_for_both(void *arg)
{
    int fds[2];
    weft_scope s;
    (void)arg;
    CHECK(weft_pair(fds) == 0, "no pair");
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "stalled" });
    weft_task reader = weft_spawn_with(&s, wait_for_a_byte, fds, &(weft_spawn_options){ .name = "reader" });
    weft_task joiner =
            weft_spawn_with(&s, wait_for_the_end, &reader, &(weft_spawn_options){ .name = "joiner" });
    CHECK(reader > 0 && joiner > 0, "no tasks");
    do {
        stress_moved();
        CHECK(weft_yield() == 0, "a yield was refused");
    } while (!waits(reader) || !waits(joiner));
    return weft_scope_end(&s, 0);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "stall");
    weft_runtime *rt = stress_runtime();
    int rc = weft_runtime_run(rt, wait_for_both, NULL);
    printf("it came back: %d\n", rc);
    return EXIT_FAILURE;
}
