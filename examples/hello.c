/* hello.c - tasks, a scope, a deadline. The README shows this program; a test keeps them equal. */
#include <stdio.h>
#include <weft.h>

static int hello(void *arg)
{
    int n = *(int *)arg;
    int rc = weft_sleep(weft_ms(400 * n)); /* suspends the task, never its thread */
    printf("hello %d: %s\n", n, weft_strerror(rc));
    return rc;
}

static int app(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, weft_sec(1)); /* after one second its tasks are told to leave */
    for (int n = 3; n > 0; n--)
        weft_spawn_copy(&s, hello, &n, sizeof n); /* each has its own n */
    (void)arg;
    return weft_scope_end(&s, 0); /* waits for all of them */
}

int main(void)
{
    printf("app: %s\n", weft_strerror(weft_run(app, NULL, NULL)));
    return 0;
}
