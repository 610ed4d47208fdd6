/* tests/copy_test.c - os/copy.c: one way, both ways, files; to those who do not read, and who go in the middle. */
#include "support.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "base/fault.h"
#include "coord/await.h"

static const int workers[] = { 1, 2, 4, 0 }; /* 0: a plain thread */

static void run_on(weft_fn *fn, void *arg, int n)
{
    AS_EXPECTED(n > 0 ? weft_run(fn, arg, ON(n)) : fn(arg));
}

#define BULK ((size_t)fewer(400000, SCALED(8000000, 3000000, 1000000)))

static unsigned char byte_at(uint64_t i)
{
    return (unsigned char)(i * 2654435761u >> 13);
}

/* ---- ends of a way: one that writes a pattern and one that checks it */

struct end {
    int fd;
    uint64_t bytes, seen;
    int step; /* at most so many at once */
    bool shut; /* at its end */
};

static int send_pattern(void *arg)
{
    struct end *e = arg;
    unsigned char buf[8192];
    while (e->seen < e->bytes) {
        size_t n = e->bytes - e->seen < (uint64_t)e->step ? (size_t)(e->bytes - e->seen) : (size_t)e->step;
        for (size_t i = 0; i < n; i++)
            buf[i] = byte_at(e->seen + i);
        EXPECT(weft_write_all(e->fd, buf, n) == 0);
        e->seen += n;
    }
    return e->shut ? weft_shutdown(e->fd, SHUT_WR) : 0;
}

static int check_pattern(void *arg)
{
    struct end *e = arg;
    unsigned char buf[8192];
    int n;
    while ((n = weft_read(e->fd, buf, (size_t)e->step)) > 0) {
        for (int i = 0; i < n; i++)
            EXPECT(buf[i] == byte_at(e->seen + (uint64_t)i));
        e->seen += (uint64_t)n;
    }
    EXPECT(n == 0 && e->seen == e->bytes);
    return 0;
}

static int tcp_pair(int fds[2])
{
    char where[32];
    int l = listen_local(where);
    if (l < 0)
        return l;
    fds[0] = weft_connect(where, NULL);
    fds[1] = fds[0] < 0 ? fds[0] : weft_accept(l);
    weft_close(l);
    return fds[1] < 0 ? fds[1] : 0;
}

/* in[0] -> in[1] -> copy -> out[0] -> out[1] */
struct kinds {
    int how; /* 0: TCP; 1: Unix sockets; 2: foreign pipes */
    int in[2], out[2];
};

static int foreign_pipe(int fds[2])
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return -EMFILE;
    fds[0] = p[1];
    fds[1] = p[0];
    return 0;
}

static int open_kinds(struct kinds *k)
{
    int (*open)(int *) = k->how == 0 ? tcp_pair : k->how == 1 ? weft_pair : foreign_pipe;
    int rc = open(k->in);
    return rc < 0 ? rc : open(k->out);
}

static void close_kinds(struct kinds *k)
{
    for (int i = 0; i < 2; i++) {
        if (k->in[i] >= 0)
            weft_close(k->in[i]);
        if (k->out[i] >= 0)
            weft_close(k->out[i]);
    }
}

struct one_way {
    struct kinds k;
    uint64_t bytes;
    int in_step, out_step;
    weft_fn *sender; /* NULL: send_and_close */
};

static int send_and_close(void *arg)
{
    struct end *e = arg;
    int rc = send_pattern(e);
    weft_close(e->fd);
    return rc;
}

static int one_way(void *arg)
{
    struct one_way *o = arg;
    uint64_t moved = 77;
    weft_scope s;
    EXPECT(open_kinds(&o->k) == 0);
    struct end from = { .fd = o->k.in[0], .bytes = o->bytes, .step = o->in_step };
    struct end to = { .fd = o->k.out[1], .bytes = o->bytes, .step = o->out_step };
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, o->sender ? o->sender : send_and_close, &from);
    weft_spawn(&s, check_pattern, &to);
    int rc = weft_copy(o->k.out[0], o->k.in[1], &moved);
    weft_close(o->k.out[0]);
    EXPECT(weft_scope_end(&s, rc) == 0);
    o->k.in[0] = o->k.out[0] = -1;
    close_kinds(&o->k);
    EXPECT(moved == o->bytes);
    return 0;
}

START_TEST(all_bytes_arrive_in_order)
{
    static const int steps[][2] = { { 8192, 8192 }, { 100, 8192 }, { 8192, 1000 } };
    struct one_way o = { .k.how = _i % 3, .bytes = BULK / 4 };
    o.in_step = steps[_i / 3 % 3][0];
    o.out_step = steps[_i / 3 % 3][1];
    if (o.in_step < 8192 || o.out_step < 8192)
        o.bytes = BULK / 20;
    run_on(one_way, &o, workers[_i / 9]);
}
END_TEST

/* The kernel has told a write of it, and the copy finds an end behind all that has come: by splicing, as there is more than the
 * buffer takes. */
static int copy_behind_a_told_reset(void *arg)
{
    static const char much[40000];
    int in[2], out[2], there = 0;
    uint64_t moved = 0;
    (void)arg;
    EXPECT(tcp_pair(in) == 0 && tcp_pair(out) == 0);
    EXPECT(weft_write_all(in[0], much, sizeof much) == 0);
    int64_t until = weft_after(LIMIT);
    while (there < (int)sizeof much && weft_now() < until)
        EXPECT(ioctl(in[1], FIONREAD, &there) == 0 && weft_yield() == 0);
    EXPECT(setsockopt(in[0], SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)) == 0);
    weft_close(in[0]);
    struct pollfd p = { .fd = in[1] };
    while (!(p.revents & POLLERR) && weft_now() < until)
        EXPECT(poll(&p, 1, 0) >= 0 && weft_yield() == 0); /* which leaves the error where it is */
    EXPECT(weft_write(in[1], "x", 1) == -ECONNRESET);
    EXPECT(weft_copy(out[0], in[1], &moved) == -ECONNRESET);
    EXPECT(moved == sizeof much);
    weft_close(in[1]);
    weft_close(out[0]);
    weft_close(out[1]);
    return 0;
}

START_TEST(a_reset_that_was_told_to_a_write_is_no_end)
{
    run_on(copy_behind_a_told_reset, NULL, workers[_i]);
}
END_TEST

/* An urgent byte in the middle of a copy that has come to splicing: it is left out, and what is behind it arrives. */
static int send_around_an_urgent_byte(void *arg)
{
    struct end *e = arg;
    uint64_t bytes = e->bytes;
    int64_t end = weft_after(LIMIT);
    e->bytes = bytes / 2;
    EXPECT(send_pattern(e) == 0);
    while (send(e->fd, "!", 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
        EXPECT(weft_now() < end && weft_wait_fd(e->fd, WEFT_WRITABLE) > 0);
    e->bytes = bytes;
    return send_and_close(e);
}

START_TEST(an_urgent_byte_does_not_stop_it)
{
    struct one_way o = { .bytes = BULK / 4, .in_step = 8192, .out_step = 8192, .sender = send_around_an_urgent_byte };
    run_on(one_way, &o, workers[_i]);
}
END_TEST

START_TEST(nothing_is_copied_of_nothing)
{
    struct one_way o = { .k.how = _i, .bytes = 0, .in_step = 1, .out_step = 1 };
    run_on(one_way, &o, 2);
}
END_TEST

START_TEST(a_plain_thread_copies_between_files)
{
    int from = memfd_create("from", 0), to = memfd_create("to", 0), empty = memfd_create("empty", 0);
    static char data[100000], back[100000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)byte_at(i);
    ck_assert_int_eq(write(from, data, sizeof data), sizeof data);
    ck_assert_int_eq(lseek(from, 10, SEEK_SET), 10);
    uint64_t moved = 0;
    ck_assert_int_eq(weft_copy(to, from, &moved), 0);
    ck_assert_uint_eq(moved, sizeof data - 10);
    ck_assert_int_eq(pread(to, back, sizeof back, 0), sizeof data - 10);
    ck_assert_mem_eq(back, data + 10, sizeof data - 10);
    ck_assert_int_eq(weft_copy(to, empty, NULL), 0);
    ck_assert_int_eq(weft_copy(to, -1, &moved), -EBADF);
    ck_assert_uint_eq(moved, 0);
    ck_assert_int_eq(weft_copy(-1, from, NULL), -EBADF);
    weft_close(from);
    weft_close(to);
    weft_close(empty);
}
END_TEST

/* ---- ends that come too early */

static int reader_gone(void *arg)
{
    struct kinds *k = arg;
    static const char page[60000];
    uint64_t moved;
    EXPECT(open_kinds(k) == 0);
    weft_close(k->out[1]);
    k->out[1] = -1;
    EXPECT(weft_write_all(k->in[0], page, sizeof page) == 0);
    weft_close(k->in[0]);
    k->in[0] = -1;
    int rc = weft_copy(k->out[0], k->in[1], &moved);
    /* A TCP end takes what it has room for before it hears that nobody is there. */
    EXPECT(rc == -EPIPE || rc == -ECONNRESET || (rc == 0 && k->how == 0));
    close_kinds(k);
    return 0;
}

START_TEST(a_reader_that_has_gone_is_an_error_and_no_signal)
{
    struct kinds k = { .how = _i % 2 };
    signal(SIGPIPE, SIG_DFL);
    run_on(reader_gone, &k, workers[_i / 2]);
}
END_TEST

/* It reads some, and goes while more is on its way: the error is splice's. */
static int read_some_and_go(void *arg)
{
    struct end *e = arg;
    unsigned char buf[8192];
    while (e->seen < e->bytes) {
        int n = weft_read(e->fd, buf, sizeof buf);
        EXPECT(n > 0);
        e->seen += (uint64_t)n;
    }
    weft_close(e->fd);
    return 0;
}

static int send_until_told(void *arg)
{
    struct end *e = arg;
    static const char page[8192];
    int rc;
    while ((rc = weft_write_all(e->fd, page, sizeof page)) == 0)
        e->seen += sizeof page;
    return rc == -ECANCELED ? rc : 0;
}

static int goes_in_the_middle(void *arg)
{
    struct kinds *k = arg;
    uint64_t moved = 0;
    weft_scope s;
    EXPECT(open_kinds(k) == 0);
    struct end to = { .fd = k->out[1], .bytes = BULK / 4 }, from = { .fd = k->in[0] };
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, send_until_told, &from);
    weft_spawn(&s, read_some_and_go, &to);
    int rc = weft_copy(k->out[0], k->in[1], &moved);
    weft_scope_cancel(&s, NULL);
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(rc == -EPIPE || rc == -ECONNRESET);
    EXPECT(moved >= to.bytes);
    k->out[1] = -1;
    close_kinds(k);
    return 0;
}

START_TEST(a_reader_that_goes_in_the_middle_ends_it)
{
    struct kinds k = { .how = _i % 2 };
    run_on(goes_in_the_middle, &k, workers[_i / 2]);
}
END_TEST

/* Nobody reads: it waits, with all the memory that it will ever have. */
struct stuck {
    struct kinds k;
    int rc;
    bool close_it;
    uint64_t moved;
    _Atomic(struct weft__frame *) frame;
    atomic_int over;
};

static int copy_stuck(void *arg)
{
    struct stuck *t = arg;
    atomic_store(&t->frame, weft__current());
    t->rc = weft_copy(t->k.out[0], t->k.in[1], &t->moved);
    atomic_store(&t->over, 1);
    return 0;
}

/* It sleeps, for room and not for an edge of what it reads, which may be there and was not seen yet. */
static bool waits_for_room(struct weft__frame *f)
{
    return f && weft__phase_of(at_load_acquire(&f->task->state)) == WEFT__WAITING && own(f->waits) >> 56 == WEFT__WAITS_WRITE;
}

/* Until neither the copier nor the sender gets on. */
static int full_everywhere(struct stuck *t)
{
    static const char page[4096];
    int64_t end = weft_after(LIMIT);
    for (int quiet = 0; quiet < 50;) {
        EXPECT(weft_now() < end);
        bool sleeps = waits_for_room(atomic_load(&t->frame));
        ssize_t n = send(t->k.in[0], page, sizeof page, MSG_DONTWAIT | MSG_NOSIGNAL);
        quiet = sleeps && n < 0 ? quiet + 1 : 0;
        EXPECT(weft_yield() == 0);
    }
    return 0;
}

static int stuck(void *arg)
{
    struct stuck *t = arg;
    weft_scope s;
    EXPECT(open_kinds(&t->k) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_task task = weft_spawn(&s, copy_stuck, t);
    int rc = full_everywhere(t);
    if (t->close_it) {
        weft_close(t->k.out[0]);
        t->k.out[0] = -1;
    } else {
        EXPECT(weft_task_cancel(task, NULL) == 0);
    }
    EXPECT(wait_for(&t->over, 1));
    EXPECT(weft_scope_end(&s, rc) == 0);
    EXPECT(t->rc == (t->close_it ? -EBADF : -ECANCELED));
    /* What it has counted is there, and no more. */
    uint64_t there = 0;
    for (int n; (n = drain(t->k.out[1])) > 0;)
        there += (uint64_t)n;
    EXPECT(there == t->moved);
    close_kinds(&t->k);
    return 0;
}

START_TEST(told_to_leave_it_says_what_is_out)
{
    struct stuck t = { .k.how = 1, .close_it = _i % 2 };
    int before = descriptors_now();
    run_on(stuck, &t, workers[_i / 2]);
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* ---- both ways */

struct both {
    int a[2], b[2];
    int unix_sockets;
    uint64_t bytes;
};

/* The client: sends, shuts, and reads to the end. The server: reads to the end, and only then answers. */
static int client(void *arg)
{
    struct both *t = arg;
    struct end out = { .fd = t->a[0], .bytes = t->bytes, .step = 8192, .shut = true };
    struct end in = { .fd = t->a[0], .bytes = t->bytes / 2, .step = 8192 };
    int rc = send_pattern(&out);
    return rc < 0 ? rc : check_pattern(&in);
}

static int server(void *arg)
{
    struct both *t = arg;
    struct end in = { .fd = t->b[1], .bytes = t->bytes, .step = 8192 };
    struct end out = { .fd = t->b[1], .bytes = t->bytes / 2, .step = 8192, .shut = true };
    int rc = check_pattern(&in);
    return rc < 0 ? rc : send_pattern(&out);
}

static int open_both(struct both *t)
{
    int rc = t->unix_sockets ? weft_pair(t->a) : tcp_pair(t->a);
    return rc < 0 ? rc : t->unix_sockets ? weft_pair(t->b) : tcp_pair(t->b);
}

static void close_both(struct both *t)
{
    for (int i = 0; i < 2; i++) {
        weft_close(t->a[i]);
        weft_close(t->b[i]);
    }
}

static int proxy(void *arg)
{
    struct both *t = arg;
    uint64_t there = 0, back = 0;
    weft_scope s;
    EXPECT(open_both(t) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, client, t);
    weft_spawn(&s, server, t);
    int rc = weft_copy_both(t->a[1], t->b[0], &there, &back);
    EXPECT(weft_scope_end(&s, rc) == 0);
    EXPECT(there == t->bytes && back == t->bytes / 2);
    close_both(t);
    return 0;
}

START_TEST(a_proxy_keeps_half_open_connections)
{
    struct both t = { .unix_sockets = _i % 2, .bytes = BULK };
    run_on(proxy, &t, workers[_i / 2]);
}
END_TEST

/* The client is gone with all it had to say; what the server says is lost, but the server's end still is awaited. */
static int server_hears_then_ends(void *arg)
{
    struct both *t = arg;
    char byte;
    EXPECT(weft_read(t->b[1], &byte, 1) == 1);
    EXPECT(weft_read(t->b[1], &byte, 1) == 0);
    int rc = weft_write(t->b[1], "x", 1);
    weft_ignore(rc);
    return weft_shutdown(t->b[1], SHUT_WR);
}

static int client_gone(void *arg)
{
    struct both *t = arg;
    uint64_t there, back;
    weft_scope s;
    EXPECT(open_both(t) == 0);
    EXPECT(weft_write(t->a[0], "x", 1) == 1);
    weft_close(t->a[0]);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, server_hears_then_ends, t);
    int rc = weft_copy_both(t->a[1], t->b[0], &there, &back);
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(there == 1);
    EXPECT(rc == (t->unix_sockets ? -EPIPE : 0));
    weft_close(t->a[1]);
    weft_close(t->b[0]);
    weft_close(t->b[1]);
    return 0;
}

START_TEST(a_reader_that_has_gone_does_not_stop_the_other_way)
{
    struct both t = { .unix_sockets = _i % 2 };
    run_on(client_gone, &t, workers[_i / 2]);
}
END_TEST

/* A reset of one connection ends it all, though the other is silent. */
static int reset_one(void *arg)
{
    struct both *t = arg;
    weft_scope s;
    EXPECT(open_both(t) == 0);
    setsockopt(t->a[0], SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger));
    weft_close(t->a[0]);
    weft_scope_begin(&s, LIMIT);
    int rc = weft_scope_end(&s, weft_copy_both(t->a[1], t->b[0], NULL, NULL));
    EXPECT(rc == -ECONNRESET);
    weft_close(t->a[1]);
    weft_close(t->b[0]);
    weft_close(t->b[1]);
    return 0;
}

START_TEST(a_reset_ends_both_ways)
{
    struct both t = { .unix_sockets = 0 };
    run_on(reset_one, &t, workers[_i]);
}
END_TEST

static int both_with_deadline(void *arg)
{
    struct both *t = arg;
    weft_scope s;
    EXPECT(open_both(t) == 0);
    weft_scope_begin(&s, weft_ms(5));
    EXPECT(weft_scope_end(&s, weft_copy_both(t->a[1], t->b[0], NULL, NULL)) == -ETIMEDOUT);
    EXPECT(weft_copy_both(t->a[1], t->a[1], NULL, NULL) == -EINVAL);
    EXPECT(weft_copy_both(t->a[1], -1, NULL, NULL) == -EBADF);
    close_both(t);
    return 0;
}

START_TEST(a_deadline_ends_both_ways)
{
    struct both t = { .unix_sockets = 1 };
    run_on(both_with_deadline, &t, workers[_i]);
}
END_TEST

START_TEST(a_plain_thread_copies_both_ways_on_a_runtime)
{
    struct both t = { .unix_sockets = 1 };
    weft_runtime *rt = NULL;
    weft_scope s;
    uint64_t there = 0, back = 0;
    ck_assert_int_eq(open_both(&t), 0);
    ck_assert_int_eq(weft_copy_both(t.a[1], t.b[0], NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_write(t.a[0], "ab", 2), 2);
    ck_assert_int_eq(weft_write(t.b[1], "c", 1), 1);
    ck_assert_int_eq(weft_shutdown(t.a[0], SHUT_WR), 0);
    ck_assert_int_eq(weft_shutdown(t.b[1], SHUT_WR), 0);
    ck_assert_int_eq(weft_runtime_create(&rt, ON(2)), 0);
    weft_scope_begin_with(&s, LIMIT, &(weft_scope_options){ .on = rt });
    ck_assert_int_eq(weft_scope_end(&s, weft_copy_both(t.a[1], t.b[0], &there, &back)), 0);
    ck_assert_uint_eq(there, 2);
    ck_assert_uint_eq(back, 1);
    weft_runtime_destroy(&rt);
    close_both(&t);
}
END_TEST

/* ---- files */

struct file {
    struct kinds k;
    int file;
    uint64_t size;
};

static int make_file(uint64_t size)
{
    char path[] = "/tmp/weft-copy-XXXXXX";
    int fd = mkstemp(path);
    unsigned char buf[8192];
    if (fd < 0)
        return fd;
    unlink(path);
    for (uint64_t at = 0; at < size;) {
        size_t n = size - at < sizeof buf ? (size_t)(size - at) : sizeof buf;
        for (size_t i = 0; i < n; i++)
            buf[i] = byte_at(at + i);
        if (write(fd, buf, n) != (ssize_t)n)
            return -1;
        at += n;
    }
    return fd;
}

static atomic_ullong by_sendfile;

/* Stands in front of libc's, and counts the bytes: B-064. */
ssize_t sendfile(int to, int from, off_t *at, size_t n)
{
    ssize_t rc = syscall(SYS_sendfile, to, from, at, n);
    if (rc > 0)
        atomic_fetch_add(&by_sendfile, (unsigned long long)rc);
    return rc;
}

/* Pieces from odd offsets on: what arrives is the file. A reader that is slow makes each send a partial one. */
static int send_pieces(void *arg)
{
    struct file *t = arg;
    weft_scope s;
    uint64_t at = 0;
    EXPECT(open_kinds(&t->k) == 0);
    t->file = make_file(t->size);
    EXPECT(t->file >= 0);
    EXPECT(lseek(t->file, 5, SEEK_SET) == 5);
    struct end to = { .fd = t->k.out[1], .bytes = t->size, .step = 777 };
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, check_pattern, &to);
    int rc = 0;
    for (uint64_t n = 1; rc == 0 && at < t->size / 2; n = n * 3 + 1) {
        uint64_t moved = 0, most = n < t->size / 2 - at ? n : t->size / 2 - at;
        rc = weft_send_file(t->k.out[0], t->file, at, most, &moved);
        EXPECT(rc < 0 || moved == most);
        at += moved;
    }
    uint64_t rest = 0;
    if (rc == 0)
        rc = weft_send_file(t->k.out[0], t->file, at, UINT64_MAX, &rest);
    weft_close(t->k.out[0]);
    t->k.out[0] = -1;
    EXPECT(weft_scope_end(&s, rc) == 0);
    EXPECT(rest == t->size - at);
    EXPECT(lseek(t->file, 0, SEEK_CUR) == 5);
    weft_close(t->file);
    close_kinds(&t->k);
    return 0;
}

START_TEST(a_file_arrives_from_any_offset)
{
    struct file t = { .k.how = _i % 3, .size = BULK / 8 };
    unsigned long long before = atomic_load(&by_sendfile);
    run_on(send_pieces, &t, workers[_i / 3]);
    ck_assert_uint_eq(atomic_load(&by_sendfile) - before, t.k.how == 2 ? 0 : t.size); /* all of it, but into pipes (C3) */
}
END_TEST

static int send_wrongly(void *arg)
{
    struct file *t = arg;
    uint64_t moved = 1;
    int fds[2];
    EXPECT(open_kinds(&t->k) == 0);
    t->file = make_file(100);
    EXPECT(weft_send_file(t->k.out[0], t->file, 90, 20, &moved) == -ENODATA && moved == 10);
    EXPECT(weft_send_file(t->k.out[0], t->file, 200, 1, &moved) == -ENODATA && moved == 0);
    EXPECT(weft_send_file(t->k.out[0], t->file, 100, UINT64_MAX, &moved) == 0 && moved == 0);
    EXPECT(weft_send_file(t->k.out[0], t->file, 0, 0, &moved) == 0 && moved == 0);
    EXPECT(weft_send_file(t->k.out[0], t->file, UINT64_MAX, 1, NULL) == -EINVAL);
    EXPECT(weft_send_file(t->k.out[0], t->file, 5, INT64_MAX, NULL) == -EINVAL);
    EXPECT(weft_send_file(-1, t->file, 0, 1, NULL) == -EBADF);
    EXPECT(weft_send_file(t->k.out[0], -1, 0, 1, NULL) == -EBADF);
    EXPECT(foreign_pipe(fds) == 0);
    EXPECT(weft_send_file(t->k.out[0], fds[1], 0, 1, NULL) == -ESPIPE);
    weft_close(fds[0]);
    weft_close(fds[1]);
    weft_close(t->k.out[1]);
    t->k.out[1] = -1;
    if (t->k.how == 1)
        EXPECT(weft_send_file(t->k.out[0], t->file, 0, 100, &moved) == -EPIPE && moved == 0);
    weft_close(t->file);
    close_kinds(&t->k);
    return 0;
}

START_TEST(a_file_that_is_too_short_says_so)
{
    struct file t = { .k.how = _i % 2 };
    signal(SIGPIPE, SIG_DFL);
    run_on(send_wrongly, &t, workers[_i / 2]);
}
END_TEST

/* Nobody reads, and it is told to leave: it can be gone on with from offset + moved. */
struct resumed {
    struct file f;
    uint64_t moved;
    int rc;
    _Atomic(struct weft__task *) block;
    atomic_int over;
};

static int send_first(void *arg)
{
    struct resumed *t = arg;
    struct weft__frame *f = weft__current();
    atomic_store(&t->block, f->task);
    t->rc = weft_send_file(t->f.k.out[0], t->f.file, 0, t->f.size, &t->moved);
    atomic_store(&t->over, 1);
    return 0;
}

static int resumed(void *arg)
{
    struct resumed *t = arg;
    weft_scope s;
    EXPECT(open_kinds(&t->f.k) == 0);
    EXPECT((t->f.file = make_file(t->f.size)) >= 0);
    weft_scope_begin(&s, LIMIT);
    weft_task task = weft_spawn(&s, send_first, t);
    /* It sleeps for room, or for a moment while a thread reads the file for it: with one byte gone it is the first. */
    for (int quiet = 0; quiet < 50;) {
        struct weft__task *b = atomic_load(&t->block);
        int there = 0;
        bool sleeps = b && weft__phase_of(at_load_acquire(&b->state)) == WEFT__WAITING;
        EXPECT(ioctl(t->f.k.out[1], FIONREAD, &there) == 0);
        quiet = sleeps && there > 0 ? quiet + 1 : 0;
        EXPECT(weft_yield() == 0);
    }
    EXPECT(weft_task_cancel(task, NULL) == 0);
    EXPECT(wait_for(&t->over, 1) && t->rc == -ECANCELED && t->moved > 0 && t->moved < t->f.size);
    struct end to = { .fd = t->f.k.out[1], .bytes = t->f.size, .step = 8192 };
    weft_spawn(&s, check_pattern, &to);
    int rc = weft_send_file(t->f.k.out[0], t->f.file, t->moved, t->f.size - t->moved, NULL);
    weft_close(t->f.k.out[0]);
    t->f.k.out[0] = -1;
    EXPECT(weft_scope_end(&s, rc) == 0);
    weft_close(t->f.file);
    close_kinds(&t->f.k);
    return 0;
}

START_TEST(a_file_can_be_gone_on_with_after_a_cancel)
{
    struct resumed t = { .f = { .k.how = 1, .size = 2000000 } }; /* more than a socket takes */
    run_on(resumed, &t, workers[_i]);
}
END_TEST

/* ---- what runs out */

/* No descriptors for pipes: the buffer does it. */
static int without_pipes(void *arg)
{
    struct both *t = arg;
    struct rlimit old, none;
    weft_scope s;
    EXPECT(open_both(t) == 0);
    getrlimit(RLIMIT_NOFILE, &old);
    none = old;
    none.rlim_cur = 3; /* what is open stays so */
    setrlimit(RLIMIT_NOFILE, &none);
    uint64_t there = 0;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, client, t);
    weft_spawn(&s, server, t);
    int rc = weft_copy_both(t->a[1], t->b[0], &there, NULL);
    rc = weft_scope_end(&s, rc);
    setrlimit(RLIMIT_NOFILE, &old);
    EXPECT(rc == 0 && there == t->bytes);
    close_both(t);
    return 0;
}

START_TEST(it_copies_without_descriptors_for_a_pipe)
{
    struct both t = { .unix_sockets = 1, .bytes = BULK / 4 };
    run_on(without_pipes, &t, 2);
}
END_TEST

static int without_memory(void *arg)
{
    struct kinds *k = arg;
    uint64_t moved = 1;
    EXPECT(open_kinds(k) == 0);
    EXPECT(weft_write(k->in[0], "x", 1) == 1 && weft_shutdown(k->in[0], SHUT_WR) == 0);
    int rc = -1;
    for (long nth = 1; rc != 0; nth++) {
        EXPECT(nth < 50);
        weft__fault_set(WEFT__FAULT_ALLOC, nth, 1, -ENOMEM);
        rc = weft_copy(k->out[0], k->in[1], &moved);
        weft__fault_clear();
        EXPECT(rc == 0 || (rc == -ENOMEM && moved == 0));
    }
    EXPECT(moved == 1);
    close_kinds(k);
    return 0;
}

START_TEST(without_memory_nothing_is_moved)
{
    struct kinds k = { .how = 1 };
    run_on(without_memory, &k, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("copy");
    TCase *tc = add_case(s, "copy");
    tcase_add_loop_test(tc, all_bytes_arrive_in_order, 0, 9 * (COUNT(workers) - 1));
    tcase_add_loop_test(tc, a_reset_that_was_told_to_a_write_is_no_end, 0, COUNT(workers) - 1);
    tcase_add_loop_test(tc, an_urgent_byte_does_not_stop_it, 0, 3);
    tcase_add_loop_test(tc, nothing_is_copied_of_nothing, 0, 3);
    tcase_add_test(tc, a_plain_thread_copies_between_files);
    tcase_add_loop_test(tc, a_reader_that_has_gone_is_an_error_and_no_signal, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, a_reader_that_goes_in_the_middle_ends_it, 0, 2 * (COUNT(workers) - 1));
    tcase_add_loop_test(tc, told_to_leave_it_says_what_is_out, 0, 2 * (COUNT(workers) - 1));
    tcase_add_loop_test(tc, a_proxy_keeps_half_open_connections, 0, 2 * (COUNT(workers) - 1));
    tcase_add_loop_test(tc, a_reader_that_has_gone_does_not_stop_the_other_way, 0, 2 * (COUNT(workers) - 1));
    tcase_add_loop_test(tc, a_reset_ends_both_ways, 0, COUNT(workers) - 1);
    tcase_add_loop_test(tc, a_deadline_ends_both_ways, 0, COUNT(workers) - 1);
    tcase_add_test(tc, a_plain_thread_copies_both_ways_on_a_runtime);
    tcase_add_loop_test(tc, a_file_arrives_from_any_offset, 0, 3 * (COUNT(workers) - 1));
    tcase_add_loop_test(tc, a_file_that_is_too_short_says_so, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, a_file_can_be_gone_on_with_after_a_cancel, 0, COUNT(workers) - 1);
    tcase_add_test(tc, it_copies_without_descriptors_for_a_pipe);
    tcase_add_test(tc, without_memory_nothing_is_moved);
    return run_suite(s);
}
