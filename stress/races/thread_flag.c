/* races/thread_flag.c - a plain thread writes what a task reads.
 *
 * fixed     the task is spawned, by that thread, after the write. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <weft.h>

static bool fixed;
static weft_runtime *rt;
static int flag;

static int look(void *arg)
{
    int *seen = arg;
    for (int i = 0; i < 50; i++) {
        *seen += flag;
        if (weft_sleep(weft_us(50)) < 0)
            return -1;
    }
    return 0;
}

static void *thread(void *arg)
{
    weft_scope s;
    int *seen = arg;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .on = rt });
    if (fixed)
        flag = 1;
    weft_spawn(&s, look, seen);
    if (!fixed)
        for (int i = 0; i < 50; i++) {
            flag++; /* the race */
            weft_ignore(weft_sleep(weft_us(50)));
        }
    weft_ignore(weft_scope_end(&s, 0));
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t t;
    int seen = 0;
    fixed = argc > 1 && strcmp(argv[1], "fixed") == 0;
    if (weft_runtime_create(&rt, &(weft_options){ .workers = 2 }) != 0)
        return 1;
    if (pthread_create(&t, NULL, thread, &seen) != 0)
        return 1;
    pthread_join(t, NULL);
    weft_runtime_destroy(&rt);
    printf("%d\n", seen);
    return 0;
}
