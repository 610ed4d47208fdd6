/* tests/foreign_process_test.c - children that are real programs with habits of their own: pipelines, dialogues, those that
 * are stopped in the middle, close what they were given, leave their group, or die by a signal. os/process.c,
 * os/communicate.c; what process_test.c has is not repeated. */
#include "foreign_support.h"

#include <sys/stat.h>

enum { PLAIN = COUNT(workers), PLACES };

NOINLINE static void everywhere(weft_fn *fn, int place)
{
    siginfo_t si;
    int before = descriptors_now();
    if (place < PLAIN) {
        RUN(fn, NULL, workers[place]);
    } else {
        ck_assert_int_eq(fn(NULL), 0);
        NOTHING_WRONG();
    }
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert(waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD);
}

/* A process whose input and output are streams. */
struct talk {
    weft_process *p;
    weft_stream *in, *out;
};

static int talk_begin(struct talk *t, const char *const *argv)
{
    weft_process_options o = { .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE };
    weft_stream_options keep = { .keep_fd = true };
    memset(t, 0, sizeof *t);
    int rc = weft_process_open(&t->p, argv, &o);
    if (rc == 0)
        rc = weft_stream_open(&t->in, weft_process_in(t->p), &keep);
    if (rc == 0)
        rc = weft_stream_open(&t->out, weft_process_out(t->p), &keep);
    return rc;
}

/* Its status. */
static int talk_end(struct talk *t)
{
    int status = 77;
    weft_ignore(weft_stream_close(&t->in));
    weft_process_close_in(t->p);
    MUST(weft_process_wait(t->p, &status) == 0);
    weft_stream_drop(&t->out);
    weft_process_close(&t->p);
    return status;
}

/* ---- dialogues and pipelines */

static int by_lines(void *arg)
{
    struct talk t;
    char *line, want[32];
    (void)arg;
    MUST(talk_begin(&t, ARGS("sed", "-u", "s/question/answer/")) == 0);
    for (int i = 0; i < 100; i++) {
        snprintf(want, sizeof want, "answer %d", i);
        MUST(weft_stream_printf(t.in, "question %d\n", i) == 0 && weft_stream_flush(t.in) == 0);
        MUST(weft_stream_read_line(t.out, &line, NULL) == 1 && strcmp(line, want) == 0);
    }
    MUST(talk_end(&t) == 0);
    /* Who reads all before it says anything hears the end of its input. */
    MUST(talk_begin(&t, ARGS("sort")) == 0);
    MUST(weft_stream_puts(t.in, "b\nc\na\n") == 0 && weft_stream_close(&t.in) == 0);
    weft_process_close_in(t.p);
    for (int i = 0; i < 3; i++)
        MUST(weft_stream_read_line(t.out, &line, NULL) == 1 && line[0] == 'a' + i && line[1] == 0);
    MUST(weft_stream_read_line(t.out, &line, NULL) == 0);
    MUST(talk_end(&t) == 0);
    return 0;
}

START_TEST(a_program_answers_line_by_line_or_at_the_end)
{
    everywhere(by_lines, _i);
}
END_TEST

static int three_in_a_row(void *arg)
{
    weft_process *p[3] = { NULL };
    weft_stream *s = NULL;
    char *line;
    int n = 0, rc, status = 77;
    (void)arg;
    MUST(weft_process_open(&p[0], ARGS("seq", "1", "20000"), &(weft_process_options){ .out = WEFT_STDIO_PIPE }) == 0);
    MUST(weft_process_open(&p[1], ARGS("sort", "-rn"),
                 &(weft_process_options){ .in = weft_process_out(p[0]), .out = WEFT_STDIO_PIPE }) == 0);
    MUST(weft_process_open(&p[2], SHELL("while read x; do echo $x; done | head -n 5000"),
                 &(weft_process_options){ .in = weft_process_out(p[1]), .out = WEFT_STDIO_PIPE }) == 0);
    MUST(weft_stream_open(&s, weft_process_out(p[2]), &(weft_stream_options){ .keep_fd = true }) == 0);
    for (; (rc = weft_stream_read_line(s, &line, NULL)) > 0; n++)
        MUST(atoi(line) == 20000 - n);
    MUST(rc == 0 && n == 5000);
    MUST((fcntl(weft_process_out(p[0]), F_GETFL) & O_NONBLOCK) != 0); /* for us it is as it was */
    weft_stream_drop(&s);
    MUST(weft_process_wait(p[0], &status) == 0 && status == 0);
    MUST(weft_process_wait(p[2], &status) == 0 && status == 0);
    for (int i = 2; i >= 0; i--) /* sort may still write what nobody reads */
        weft_process_close(&p[i]);
    return 0;
}

START_TEST(the_output_of_one_is_the_input_of_the_next)
{
    everywhere(three_in_a_row, _i);
}
END_TEST

/* ---- named pipes */

static int open_to_write(void *arg)
{
    weft_process *p = NULL;
    const char *path = arg;
    int status = 77;
    MUST(weft_process_open(&p, ARGS("sh", "-c", "cat \"$0\" >/dev/null", path), NULL) == 0);
    int fd = weft_fs_open(path, O_WRONLY, 0); /* once it is read */
    MUST(fd >= 0);
    for (int i = 0; i < 50; i++)
        MUST(weft_write_all(fd, "some bytes", 10) == 0);
    MUST(weft_close(fd) == 0 && weft_process_wait(p, &status) == 0 && status == 0);
    weft_process_close(&p);
    /* One who reads and goes. */
    MUST(weft_process_open(&p, ARGS("sh", "-c", "head -c 100 \"$0\" >/dev/null", path), NULL) == 0);
    MUST((fd = weft_fs_open(path, O_WRONLY, 0)) >= 0);
    int rc;
    do {
        rc = weft_write(fd, "0123456789", 10);
    } while (rc > 0);
    MUST(rc == -EPIPE && weft_close(fd) == 0);
    weft_process_close(&p);
    return 0;
}

static int open_to_read(void *arg)
{
    const char *path = arg;
    weft_process *p[2] = { NULL };
    weft_stream *s = NULL;
    weft_scope t;
    char *line;
    MUST(weft_process_open(&p[0], ARGS("sh", "-c", "echo one >\"$0\"", path), NULL) == 0);
    int fd = weft_fs_open(path, O_RDONLY, 0);
    MUST(fd >= 0 && weft_stream_open(&s, fd, NULL) == 0);
    MUST(weft_stream_read_line(s, &line, NULL) == 1 && strcmp(line, "one") == 0);
    MUST(weft_stream_read_line(s, &line, NULL) == 0);
    MUST(weft_stream_close(&s) == 0);
    weft_process_close(&p[0]);
    /* Who holds the other end, too, sees none between two writers. */
    MUST((fd = weft_fs_open(path, O_RDWR, 0)) >= 0 && weft_stream_open(&s, fd, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        MUST(weft_process_open(&p[i], ARGS("sh", "-c", "echo more >\"$0\"", path), NULL) == 0);
        MUST(weft_process_wait(p[i], NULL) == 0);
        MUST(weft_stream_read_line(s, &line, NULL) == 1 && strcmp(line, "more") == 0);
        weft_process_close(&p[i]);
    }
    weft_scope_begin(&t, weft_ms(5));
    MUST(weft_scope_end(&t, weft_stream_read_line(s, &line, NULL)) == -ETIMEDOUT);
    weft_stream_drop(&s);
    return 0;
}

static int at_named_pipes(void *arg)
{
    char path[80];
    (void)arg;
    unlink(own_path(path, "fifo"));
    MUST(mkfifo(path, 0600) == 0);
    open_to_read(path);
    open_to_write(path);
    unlink(path);
    return 0;
}

START_TEST(programs_meet_us_at_named_pipes)
{
    everywhere(at_named_pipes, _i);
}
END_TEST

/* ---- stopped in the middle */

enum { MUCH = BUILT(4 << 20, 2 << 20, 1 << 20) };

struct through {
    weft_process *p;
    uint64_t put, got;
    atomic_int blocks; /* of 64 KiB, got */
    atomic_bool enough; /* until then there is no end */
};

static int put_much(void *arg)
{
    static const char page[65536];
    struct through *t = arg;
    int rc = 0;
    for (; rc == 0 && (t->put < MUCH || !atomic_load(&t->enough)); t->put += sizeof page)
        rc = weft_write_all(weft_process_in(t->p), page, sizeof page);
    weft_process_close_in(t->p);
    return rc;
}

static int get_much(void *arg)
{
    struct through *t = arg;
    char buf[4096];
    int rc;
    while ((rc = weft_read(weft_process_out(t->p), buf, sizeof buf)) > 0) {
        t->got += (uint64_t)rc;
        atomic_store(&t->blocks, (int)(t->got >> 16));
    }
    return rc;
}

static int stop_and_go_on(void *arg)
{
    struct through t = { .got = 0 };
    weft_scope s;
    int status = 77;
    (void)arg;
    MUST(weft_process_open(&t.p, ARGS("cat"), &(weft_process_options){ .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE }) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_task in = weft_spawn(&s, put_much, &t);
    weft_task out = weft_spawn(&s, get_much, &t);
    for (int i = 0; i < 3; i++) {
        MUST(wait_for(&t.blocks, atomic_load(&t.blocks) + 2));
        MUST(foreign_freeze(weft_process_pid(t.p)));
        for (int k = 0; k < 50; k++)
            weft_ignore(weft_yield());
        MUST(weft_task_alive(in) && weft_task_alive(out));
        MUST(weft_process_kill(t.p, SIGCONT) == 0);
    }
    atomic_store(&t.enough, true);
    MUST(weft_scope_end(&s, 0) == 0 && t.got == t.put && t.put >= MUCH);
    MUST(weft_process_wait(t.p, &status) == 0 && status == 0);
    weft_process_close(&t.p);
    return 0;
}

START_TEST(a_program_that_is_stopped_in_the_middle_goes_on_without_a_loss)
{
    everywhere(stop_and_go_on, _i);
}
END_TEST

/* ---- what they do with what they were given */

static int habits(void *arg)
{
    static char much[300000];
    static const struct {
        const char *text;
        size_t in_bytes;
        int status;
        const char *out;
    } cases[] = {
        { "exec >&- 2>&-; sleep 0.02; exit 3", 0, 3, "" },        /* silent from now on, but not at its end */
        { "exec <&-; echo deaf", sizeof much, 0, "deaf\n" },      /* it does not want to hear */
        { "head -c 3 >/dev/null; echo enough", sizeof much, 0, "enough\n" },
        { "echo a; kill -KILL $$; echo b", 0, -SIGKILL, "a\n" },
        { "yes | head -n 1", 0, 0, "y\n" },                       /* yes dies of SIGPIPE, as everywhere */
        { "trap '' PIPE; cat >/dev/null; echo all", sizeof much, 0, "all\n" },
        { "sleep 0.03 & exec echo first", 0, 0, "first\n" },      /* whoever it left behind holds its output */
        { "exec 3>&1; (sleep 0.02; echo late >&3) & exec >&-; exit 9", 0, 9, "late\n" },
        { "ulimit -c 0; kill -ABRT $$", 0, -SIGABRT, "" },
    };
    (void)arg;
    memset(much, 'x', sizeof much);
    for (int i = 0; i < COUNT(cases); i++) {
        weft_output r = { .status = 77 };
        int rc = weft_process_run(&r, SHELL(cases[i].text), cases[i].in_bytes ? much : NULL, cases[i].in_bytes, 0, NULL);
        if (rc != 0 || r.status != cases[i].status)
            fprintf(stderr, "%s: %d, status %d\n", cases[i].text, rc, r.status);
        MUST(rc == 0 && r.status == cases[i].status && r.out && strcmp(r.out, cases[i].out) == 0);
        weft_output_free(&r);
    }
    return 0;
}

START_TEST(whatever_a_program_does_with_its_pipes_it_is_heard_to_its_end)
{
    signal(SIGPIPE, SIG_DFL);
    everywhere(habits, _i);
}
END_TEST

/* Who goes on writing to us when we read no more dies as it would for any other reader. */
static int stops_listening(void *arg)
{
    weft_process *p = NULL;
    char buf[4096];
    int fds[2], status = 77;
    (void)arg;
    MUST(pipe2(fds, O_CLOEXEC) == 0);
    MUST(weft_process_open(&p, ARGS("yes"), &(weft_process_options){ .out = fds[1] }) == 0);
    close(fds[1]);
    for (int i = 0; i < 10; i++)
        MUST(weft_read(fds[0], buf, sizeof buf) > 0);
    weft_close(fds[0]);
    MUST(weft_process_wait(p, &status) == 0 && status == -SIGPIPE);
    weft_process_close(&p);
    return 0;
}

START_TEST(a_program_that_nobody_reads_dies_of_its_own_sigpipe)
{
    signal(SIGPIPE, SIG_IGN); /* ours is not theirs */
    everywhere(stops_listening, _i);
}
END_TEST

/* And the other way about: it has gone, and we write. A task has no signal to fear. */
static int writes_to_the_dead(void *arg)
{
    struct talk t;
    int rc, status = 77;
    (void)arg;
    MUST(talk_begin(&t, ARGS("true")) == 0);
    MUST(weft_process_wait(t.p, &status) == 0 && status == 0);
    MUST(weft_write(weft_process_in(t.p), "x", 1) == -EPIPE);
    MUST(weft_write_all(weft_process_in(t.p), "x", 1) == -EPIPE);
    do {
        rc = weft_stream_puts(t.in, "xyz\n");
    } while (rc == 0);
    MUST(rc == -EPIPE);
    uint64_t moved = 0;
    int null = weft_fs_open("/proc/self/status", O_RDONLY, 0);
    MUST(weft_copy(weft_process_in(t.p), null, &moved) == -EPIPE && moved == 0);
    weft_close(null);
    MUST(talk_end(&t) == 0);
    return 0;
}

START_TEST(writing_to_a_program_that_has_gone_is_an_error_and_no_signal)
{
    signal(SIGPIPE, SIG_DFL);
    everywhere(writes_to_the_dead, _i);
}
END_TEST

/* ---- who leaves its group */

/* The daemon's number; 0: nobody holds the other end any more, so all were ended before there was one. */
NOINLINE static int said_by_daemon(int fd)
{
    char text[16] = "";
    struct pollfd p = { .fd = fd, .events = POLLIN };
    if (poll(&p, 1, (int)(LIMIT / 1000000)) != 1 || read(fd, text, sizeof text - 1) < 0)
        return -1;
    return atoi(text);
}

/* A grandchild in a session of its own keeps the pipes open: neither the deadline nor the group reaches it, but the call is
 * at its end all the same. True: it was out of the group in time. */
static bool leaves_a_daemon_within(int64_t within, const char *path)
{
    weft_process_options o = { .new_group = true, .term_grace = weft_ms(5) };
    weft_output r = { .status = 77 };
    char text[200];
    weft_scope s;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), own_end = open(path, O_WRONLY | O_CLOEXEC);
    MUST(fd >= 0 && own_end >= 0);
    snprintf(text, sizeof text, "exec 9>%s; setsid sh -c 'echo $$ >&9; exec sleep 1000' & exit 0", path);
    weft_scope_begin(&s, within);
    MUST(weft_scope_end(&s, weft_process_run(&r, SHELL(text), NULL, 0, 0, &o)) == -ETIMEDOUT);
    MUST(r.status == 77);
    close(own_end);
    int daemon = said_by_daemon(fd);
    MUST(daemon >= 0);
    MUST(daemon <= 0 || (kill(daemon, 0) == 0 && kill(daemon, SIGKILL) == 0));
    close(fd);
    return daemon > 0;
}

static int leaves_a_daemon(void *arg)
{
    char path[80];
    bool left = false;
    (void)arg;
    unlink(own_path(path, "daemon"));
    MUST(mkfifo(path, 0600) == 0);
    for (int64_t within = weft_ms(TSAN || ASAN || chaos() ? 400 : 100); !left && within < LIMIT; within *= 2)
        left = leaves_a_daemon_within(within, path);
    MUST(left);
    unlink(path);
    return 0;
}

START_TEST(a_daemon_that_holds_the_pipes_does_not_hold_the_call)
{
    everywhere(leaves_a_daemon, _i);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("foreign_process");
    TCase *tc = add_case(s, "talk");
    tcase_add_loop_test(tc, a_program_answers_line_by_line_or_at_the_end, 0, PLACES);
    tcase_add_loop_test(tc, the_output_of_one_is_the_input_of_the_next, 0, PLACES);
    tcase_add_loop_test(tc, programs_meet_us_at_named_pipes, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_program_that_is_stopped_in_the_middle_goes_on_without_a_loss, 0, COUNT(workers));
    tc = add_case(s, "habits");
    tcase_add_loop_test(tc, whatever_a_program_does_with_its_pipes_it_is_heard_to_its_end, 0, PLACES);
    tcase_add_loop_test(tc, a_program_that_nobody_reads_dies_of_its_own_sigpipe, 0, PLACES);
    tcase_add_loop_test(tc, writing_to_a_program_that_has_gone_is_an_error_and_no_signal, 0, COUNT(workers));
    add_if_there(tc, "setsid", a_daemon_that_holds_the_pipes_does_not_hold_the_call, PLACES);
    return run_suite(s);
}
