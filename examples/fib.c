/* fib.c - fork and join: Fibonacci numbers by a task for every call.
 *
 * Use       fib [N]         N from 0 to 40, 30 if left out
 * Shows     fork-join in one line per child: a spawn that fails has failed its scope, so its result
 *           may be ignored. The parent does the other half itself. A child that nobody stole is run
 *           by weft_scope_end as a plain call.
 * Is not    a way to compute these numbers.
 * Tested    examples/test_examples.py */
#include <stdio.h>
#include <stdlib.h>
#include <weft.h>

struct fib {
    int n;
    long out;
};

static int fib(void *arg)
{
    struct fib *f = arg;
    struct fib a = { .n = f->n - 1 }, b = { .n = f->n - 2 };
    weft_scope s;

    if (f->n < 2) {
        f->out = f->n;
        return 0;
    }
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, fib, &a);
    int rc = weft_scope_end(&s, fib(&b));
    f->out = a.out + b.out;
    return rc;
}

/* One spawn for each call with n >= 2: fib(n + 1) - 1 of them. */
static long spawned(int n)
{
    long a = 0, b = 1; /* fib(0), fib(1) */
    for (int i = 0; i < n; i++) {
        long next = a + b;
        a = b;
        b = next;
    }
    return b - 1;
}

int main(int argc, char **argv)
{
    struct fib f = { .n = argc > 1 ? atoi(argv[1]) : 30 };

    if (argc > 2 || f.n < 0 || f.n > 40) {
        fprintf(stderr, "use: %s [N]     N from 0 to 40\n", argv[0]);
        return 2;
    }
    int64_t start = weft_now();
    int rc = weft_run(fib, &f, NULL);
    if (rc < 0) {
        fprintf(stderr, "fib: %s\n", weft_strerror(rc));
        return 1;
    }
    double ms = (double)(weft_now() - start) / 1e6;
    printf("fib(%d) = %ld\n", f.n, f.out);
    printf("%ld tasks in %.1f ms\n", spawned(f.n), ms);
    return 0;
}
