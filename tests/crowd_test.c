/* tests/crowd_test.c - ten thousand writers to peers that never read: os/io.c, os/stream.c.
 *
 * What each takes is its stack, as far as it was touched, and what its stream keeps; not what was to be written. Sockets have
 * small buffers here, so that the kernel has room for all of them. Where there are not as many descriptors, there are fewer
 * writers, and it says so. */
#include "support.h"

#include "coord/await.h"

enum { MANY = BUILT(10000, 2000, 1000), BLOCK = 100000, KEPT = 4096 };

struct crowd {
    int n;
    bool streams;
    atomic_int there, late, wrong;
    _Atomic(struct weft__task *) tasks[MANY];
    long before, during; /* KiB */
    int64_t cancelled, over;
};

static const char block[BLOCK];

static int write_into_nothing(void *arg)
{
    struct crowd *c = arg;
    int fds[2], rc = weft_pair(fds), small = 1;
    weft_stream *s = NULL;
    if (rc < 0) {
        atomic_fetch_add(&c->wrong, 1);
        return rc;
    }
    weft_ignore(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    if (c->streams)
        rc = weft_stream_open(&s, fds[0], &(weft_stream_options){ .write_buffer = KEPT });
    atomic_store(&c->tasks[atomic_fetch_add(&c->there, 1)], weft__current()->task);
    while (rc >= 0 && c->streams) /* some is kept, and what is long is not copied */
        rc = weft_stream_write(s, block, 1000) < 0 ? -ECANCELED : weft_stream_write(s, block, BLOCK);
    if (rc >= 0)
        rc = weft_write_all(fds[0], block, BLOCK);
    atomic_fetch_add(rc == -ECANCELED ? &c->late : &c->wrong, 1);
    weft_stream_drop(&s);
    if (!c->streams)
        weft_ignore(weft_close(fds[0]));
    weft_ignore(weft_close(fds[1]));
    return rc;
}

/* Waits until all of them wait. */
NOINLINE static bool all_wait(const struct crowd *c)
{
    int64_t end = weft_after(LIMIT);
    for (int i = 0; i < c->n;) {
        struct weft__task *t = atomic_load(&c->tasks[i]);
        if (t && weft__phase_of(at_load_acquire(&t->state)) == WEFT__WAITING)
            i++;
        else if (weft_yield() < 0 || weft_now() > end)
            return false;
    }
    return true;
}

static int crowd(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    c->before = resident_kib();
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < c->n; i++)
        weft_spawn(&s, write_into_nothing, c);
    bool all = all_wait(c);
    c->during = resident_kib();
    c->cancelled = weft_now();
    weft_scope_cancel(&s, "enough");
    int rc = weft_scope_end(&s, 0);
    c->over = weft_now();
    return all ? rc : -ETIME;
}

/* How many there may be: two descriptors each. */
static int as_many_as_may_be(void)
{
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    rlim_t want = 2 * (rlim_t)MANY + 200;
    if (r.rlim_max < want)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){ want, want }); /* as root */
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max < want ? r.rlim_max : want;
    setrlimit(RLIMIT_NOFILE, &r);
    int n = r.rlim_cur < want ? (int)(r.rlim_cur - 200) / 2 : fewer(1000, MANY);
    if (n < fewer(1000, MANY))
        fprintf(stderr, "%d writers, not %d: so many descriptors may be open\n", n, MANY);
    return n;
}

START_TEST(writers_to_peers_that_never_read_take_their_stacks_and_what_they_keep)
{
    static struct crowd c;
    c.n = as_many_as_may_be();
    c.streams = _i;
    int descriptors = descriptors_now();
    ck_assert_int_eq(weft_run(crowd, &c, ON(_i ? 4 : 2)), 0);
    ck_assert_int_eq(atomic_load(&c.wrong), 0);
    ck_assert_int_eq(atomic_load(&c.late), c.n);
    ck_assert_int_eq(descriptors_now(), descriptors);
    long bytes = (c.during - c.before) * 1024 / c.n;
    printf("%d %s: %ld bytes each, told to leave in %lld ms\n", c.n, c.streams ? "streams" : "descriptors", bytes,
            (long long)(c.over - c.cancelled) / 1000000);
    if (!TSAN && !ASAN)
        ck_assert_int_le(bytes, 12 * 1024 + (c.streams ? KEPT + 1024 : 0));
    ck_assert_int_lt(c.over - c.cancelled, LIMIT / 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("crowd");
    TCase *tc = add_case(s, "never read");
    tcase_add_loop_test(tc, writers_to_peers_that_never_read_take_their_stacks_and_what_they_keep, 0, 2);
    if (!forking()) {
        fprintf(stderr, "skipped: crowd_test needs CK_FORK, as it changes a limit\n");
        return 77;
    }
    return run_suite(s);
}
