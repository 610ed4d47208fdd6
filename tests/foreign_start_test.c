/* tests/foreign_start_test.c - weft programs that others start: a launcher that hands listeners over (as systemd does), a
 * super-server that makes a connection the standard input and output (as inetd does), and nobody at all: no environment, no
 * descriptor. The program is this one, with an argument. os/inherit.c, os/io.c, engine/runtime.c. */
#include "foreign_support.h"

/* ---- the programs */

static int echo_lines(weft_stream *s, void *arg)
{
    char *line;
    int rc;
    while ((rc = weft_stream_read_line(s, &line, NULL)) > 0)
        if ((rc = weft_stream_printf(s, "%s%s\n", (const char *)arg, line)) < 0)
            break;
    return rc;
}

static int serve_echo(void *arg)
{
    (void)arg;
    int fd = weft_listen_inherited("echo");
    return fd < 0 ? fd : weft_serve(fd, echo_lines, "", NULL);
}

static int serve_admin(void *arg)
{
    (void)arg;
    int fd = weft_listen_inherited("admin");
    return fd == -ENOENT ? 0 : fd < 0 ? fd : weft_serve(fd, echo_lines, "admin: ", NULL);
}

static int as_service(void *arg)
{
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, serve_admin, NULL);
    weft_spawn(&s, serve_echo, NULL);
    int rc = weft_service_ready();
    return weft_scope_end(&s, rc < 0 ? rc : 0);
}

/* Standard input and output may be one socket, or two pipes, or a terminal. */
static int as_filter(void *arg)
{
    weft_stream_options keep = { .keep_fd = true };
    weft_stream *in = NULL, *out = NULL;
    char *line;
    (void)arg;
    int rc = weft_stream_open(&in, 0, &keep);
    if (rc == 0)
        rc = weft_stream_open(&out, 1, &keep);
    while (rc >= 0 && (rc = weft_stream_read_line(in, &line, NULL)) > 0)
        if ((rc = weft_stream_printf(out, "%s\n", line)) == 0)
            rc = weft_stream_flush(out);
    int closed = weft_stream_close(&out);
    weft_stream_drop(&in);
    return rc < 0 ? rc : closed;
}

static int with_nothing(void *arg)
{
    weft_output r;
    char *data = NULL, where[32], buf[8];
    size_t n = 0;
    (void)arg;
    int rc = weft_fs_load("/proc/self/status", &data, &n);
    weft_free(data);
    if (rc < 0 || n < 100)
        return 2;
    rc = weft_process_run(&r, ARGS("sh", "-c", "cat; echo err >&2"), "in", 2, 0, NULL);
    if (rc < 0 || r.status != 0 || r.out_bytes != 2 || r.err_bytes != 4)
        return 3;
    weft_output_free(&r);
    int listener = listen_local(where), there = weft_connect(where, NULL), here = weft_accept(listener);
    if (listener < 0 || there < 0 || here < 0 || weft_write(there, "x", 1) != 1 || weft_read(here, buf, 8) != 1)
        return 4;
    weft_close(there);
    weft_close(here);
    weft_close(listener);
    return getenv("PATH") ? 5 : 0;
}

/* ThreadSanitizer keeps a signal back until the thread that got it calls libc, which one that waits in weft does not. So there
 * is one that does, and alone gets them. */
static void *call_libc(void *arg)
{
    for (;;)
        usleep(1000);
    return arg;
}

static void let_signals_in(void)
{
    sigset_t all;
    thread_start(call_libc, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static int be(const char *what)
{
    weft_options o = { .workers = 2, .stop_on_signals = true };
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) /* whoever started it */
        return 1;
    alarm(60);
    if (TSAN)
        let_signals_in();
    if (strcmp(what, "--service") == 0)
        return weft_run(as_service, NULL, &o) == -EINTR ? 0 : 1;
    if (strcmp(what, "--filter") == 0)
        return weft_run(as_filter, NULL, &o) == 0 ? 0 : 1;
    if (strcmp(what, "--nothing") == 0) {
        int before = descriptors_now(), rc = weft_run(with_nothing, NULL, &o);
        return rc ? rc : descriptors_now() == before ? 0 : 6;
    }
    return 1;
}

/* ---- what both have */

static char self[4096];

/* Asks with one line, on a connection of its own; the answer is a line, too. */
NOINLINE static void ask(const char *where, const char *question, const char *answer)
{
    char got[64] = "";
    int fd = plain_connect(where), n = 0, rc;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(sys_write(fd, question, strlen(question)), (int)strlen(question));
    while (n < COUNT(got) - 1 && !strchr(got, '\n') && (rc = sys_read(fd, got + n, sizeof got - 1 - (size_t)n)) > 0)
        n += rc;
    ck_assert_str_eq(got, answer);
    close(fd);
}

/* ---- listeners that are handed over */

/* A socket that listens, as a launcher has it: it waits, and is inherited. */
NOINLINE static int make_listener(char where[32])
{
    weft_addr a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(weft_addr_parse(&a, "127.0.0.1:0") == 0 && bind(fd, (struct sockaddr *)&a.sa, a.len) == 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    snprintf(where, 32, "127.0.0.1:%d", port_of(fd));
    return fd;
}

/* A shell gives it its number, and env nothing else. The listener stays with us, so that who comes while no service runs is
 * served by the next. */
START_TEST(a_shell_starts_a_service_again_and_again_on_one_listener)
{
    struct foreign f;
    char where[32];
    int listener = make_listener(where);
    for (int i = 0; i < 3; i++) {
        int early = plain_connect(where);
        ck_assert_int_eq(sys_write(early, "early\n", 6), 6);
        foreign_start_with(&f,
                ARGS("sh", "-c", "exec env -i LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=echo \"$0\" --service", self), listener);
        char got[8] = "";
        ck_assert_int_eq(sys_read(early, got, 6), 6);
        ck_assert_str_eq(got, "early\n");
        ask(where, "hello\n", "hello\n");
        close(early);
        kill(f.pid, SIGTERM);
        ck_assert_int_eq(foreign_ends(&f), 0);
        foreign_stop(&f);
    }
    close(listener);
}
END_TEST

/* The whole of the protocol: two listeners by name, and READY=1 to whoever started it. */
static const char launcher[] = "import fcntl, os, socket, sys\n"
                               "def high(s): return fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 20)\n"
                               "tcp = socket.socket(); tcp.bind(('127.0.0.1', 0)); tcp.listen(16)\n"
                               "local = socket.socket(socket.AF_UNIX); local.bind(sys.argv[2]); local.listen(16)\n"
                               "note = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); note.bind(sys.argv[3])\n"
                               "a, b = high(tcp), high(local)\n"
                               "pid = os.fork()\n"
                               "if pid == 0:\n"
                               "    os.dup2(a, 3); os.dup2(b, 4)\n"
                               "    os.execve(sys.argv[1], [sys.argv[1], '--service'], {'LISTEN_PID': str(os.getpid()),\n"
                               "        'LISTEN_FDS': '2', 'LISTEN_FDNAMES': 'echo:admin', 'NOTIFY_SOCKET': sys.argv[3]})\n"
                               "print(note.recv(100).decode(), tcp.getsockname()[1], file=sys.stderr, flush=True)\n"
                               "sys.stdin.read(1)\n"
                               "os.kill(pid, 15)\n"
                               "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";

START_TEST(a_launcher_hands_two_listeners_over_and_is_told_when_it_is_ready)
{
    struct foreign f;
    char path[80], note[80], where[96];
    unlink(own_path(path, "admin"));
    unlink(own_path(note, "note"));
    foreign_start(&f, ARGS("python3", "-c", launcher, self, path, note));
    const char *at = foreign_says(&f, "READY=1 ");
    ck_assert_msg(at != NULL, "%s", f.said);
    snprintf(where, sizeof where, "127.0.0.1:%d", atoi(at));
    ask(where, "hello\n", "hello\n");
    snprintf(where, sizeof where, "unix:%s", path);
    ask(where, "hello\n", "admin: hello\n");
    foreign_close(&f.in);
    ck_assert_int_eq(foreign_ends(&f), 0);
    foreign_stop(&f);
    unlink(path);
    unlink(note);
}
END_TEST

/* ---- a connection as standard input and output */

static const struct {
    const char *how;
    bool halves; /* our end reaches the program by itself; socat has no such way for pipes and terminals */
} ways[] = {
    { ",nofork", true },            /* the connection itself */
    { "", true },                   /* a pair of Unix sockets */
    { ",pipes", false },            /* two pipes */
    { ",pty,raw,echo=0", false },   /* a terminal */
};

START_TEST(a_super_server_makes_a_connection_of_it)
{
    enum { ASK = 20 };
    struct foreign f;
    char run[4200], where[64], text[16], got[1000] = "";
    size_t n = 0;
    snprintf(run, sizeof run, "EXEC:%s --filter%s", self, ways[_i].how);
    socat_start(&f, ARGS("socat", "-d", "-d", "-t20", "TCP4-LISTEN:0,bind=127.0.0.1,fork", run), where, sizeof where);
    for (int i = 0; i < 3; i++)
        ask(where, "one line\n", "one line\n");
    int fd = plain_connect(where), rc;
    for (int i = 0; i < ASK; i++) {
        snprintf(text, sizeof text, "line %02d\n", i);
        ck_assert_int_eq(sys_write(fd, text, 8), 8);
    }
    if (ways[_i].halves)
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    while (n < (ways[_i].halves ? sizeof got - 1 : 8 * ASK) && (rc = sys_read(fd, got + n, sizeof got - 1 - n)) > 0)
        n += (size_t)rc;
    ck_assert_uint_eq(n, 8 * ASK);
    ck_assert_int_eq(strncmp(got + n - 16, "line 18\nline 19\n", 16), 0);
    close(fd);
    foreign_stop(&f);
}
END_TEST

/* ---- nothing at all */

START_TEST(neither_an_environment_nor_a_descriptor_is_needed)
{
    struct foreign f;
    foreign_start(&f, ARGS("sh", "-c", "exec env -i \"$0\" --nothing <&- >&- 2>&-", self));
    ck_assert_int_eq(foreign_ends(&f), 0);
    foreign_stop(&f);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1 && strncmp(argv[1], "--", 2) == 0)
        return be(argv[1]);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || !forking()) {
        fprintf(stderr, "skipped: foreign_start_test needs /proc and CK_FORK\n");
        return 77;
    }
    self[n] = 0;
    Suite *s = suite_create("foreign_start");
    TCase *tc = add_case(s, "started");
    tcase_add_test(tc, a_shell_starts_a_service_again_and_again_on_one_listener);
    add_if_there(tc, "python3", a_launcher_hands_two_listeners_over_and_is_told_when_it_is_ready, 1);
    add_if_there(tc, "socat", a_super_server_makes_a_connection_of_it, COUNT(ways));
    tcase_add_test(tc, neither_an_environment_nor_a_descriptor_is_needed);
    return run_suite(s);
}
