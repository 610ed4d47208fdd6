/* tests/foreign_tty_test.c - real terminals: pseudo-terminals of the kernel's, with its line discipline between the two ends,
 * and programs at them. What is typed at the master is read at the slave: by lines, until ^D, in raw mode, until it hangs up;
 * and nobody waits for ever for a terminal that takes nothing. os/io.c, os/stream.c. */
#include "foreign_support.h"

#include <termios.h>

struct tty {
    int master, slave;
    weft_stream *s;
    char path[64];
    char buf[256];
    int flags; /* O_NONBLOCK for both ends, or 0 */
};

/* A terminal with its line discipline, which does not echo. */
NOINLINE static void tty_open(struct tty *t, int flags)
{
    struct termios m;
    memset(t, 0, sizeof *t);
    t->flags = flags;
    t->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | flags);
    ck_assert(t->master >= 0 && grantpt(t->master) == 0 && unlockpt(t->master) == 0);
    ck_assert_int_eq(ptsname_r(t->master, t->path, sizeof t->path), 0);
    t->slave = open(t->path, O_RDWR | O_NOCTTY | O_CLOEXEC | flags);
    ck_assert(t->slave >= 0 && tcgetattr(t->slave, &m) == 0);
    m.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
    m.c_oflag &= ~(tcflag_t)OPOST;
    ck_assert_int_eq(tcsetattr(t->slave, TCSANOW, &m), 0);
}

NOINLINE static void tty_raw(int fd)
{
    struct termios m;
    MUST(tcgetattr(fd, &m) == 0);
    cfmakeraw(&m);
    MUST(tcsetattr(fd, TCSANOW, &m) == 0);
}

NOINLINE static void tty_type(const struct tty *t, const char *text)
{
    MUST(write(t->master, text, strlen(text)) == (ssize_t)strlen(text));
}

NOINLINE static void tty_close(struct tty *t)
{
    weft_stream_drop(&t->s);
    if (t->slave >= 0)
        weft_close(t->slave);
    if (t->master >= 0)
        weft_close(t->master);
}

/* Each test with 1, 2 and 4 workers, and with descriptors that wait and that do not. */
enum { TTYS = 2 * COUNT(workers) };
NOINLINE static void on_tty(weft_fn *fn, int i)
{
    struct tty t;
    int before = descriptors_now();
    tty_open(&t, i % 2 ? O_NONBLOCK : 0);
    RUN(fn, &t, workers[i / 2]);
    tty_close(&t);
    ck_assert_int_eq(descriptors_now(), before);
}

static int read_slave(void *arg)
{
    struct tty *t = arg;
    memset(t->buf, 0, sizeof t->buf);
    return weft_read(t->slave, t->buf, sizeof t->buf - 1);
}

static int read_master(void *arg)
{
    struct tty *t = arg;
    memset(t->buf, 0, sizeof t->buf);
    return weft_read(t->master, t->buf, sizeof t->buf - 1);
}

/* ---- lines, and their end */

static int lines(void *arg)
{
    struct tty *t = arg;
    struct caller c;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &c, read_slave, t));
    tty_type(t, "tww"); /* which is no line yet */
    MUST(still_waits(&c));
    tty_type(t, "\177o\n"); /* the last letter was rubbed out */
    MUST(result(&c) == 4 && strcmp(t->buf, "two\n") == 0);
    tty_type(t, "three\nfour\n"); /* a read is of one line */
    MUST(read_slave(t) == 6 && strcmp(t->buf, "three\n") == 0);
    MUST(read_slave(t) == 5 && strcmp(t->buf, "four\n") == 0);
    tty_type(t, "longer than is asked for\n");
    for (int i = 0; i < 25; i++)
        MUST(weft_read(t->slave, t->buf + i, 1) == 1);
    MUST(strncmp(t->buf, "longer than is asked for\n", 25) == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(a_line_is_read_when_it_is_complete)
{
    on_tty(lines, _i);
}
END_TEST

static int ends(void *arg)
{
    struct tty *t = arg;
    struct caller c;
    char *line;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &c, read_slave, t));
    tty_type(t, "\4");
    MUST(result(&c) == 0);
    tty_type(t, "on\n"); /* and it goes on */
    MUST(read_slave(t) == 3);
    tty_type(t, "abc\4");
    MUST(read_slave(t) == 3 && strcmp(t->buf, "abc") == 0);
    /* The same through a stream: the last line needs no end, and the end is not for good. */
    MUST(weft_stream_open(&t->s, t->slave, &(weft_stream_options){ .keep_fd = true }) == 0);
    tty_type(t, "first\nlast\4\4");
    MUST(weft_stream_read_line(t->s, &line, NULL) == 1 && strcmp(line, "first") == 0);
    MUST(weft_stream_read_line(t->s, &line, NULL) == 1 && strcmp(line, "last") == 0);
    tty_type(t, "\4");
    MUST(weft_stream_read_line(t->s, &line, NULL) == 0);
    tty_type(t, "more\n");
    MUST(weft_stream_read_line(t->s, &line, NULL) == 1 && strcmp(line, "more") == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(control_D_is_an_end_after_which_it_goes_on)
{
    on_tty(ends, _i);
}
END_TEST

static int raw(void *arg)
{
    struct tty *t = arg;
    struct termios cooked;
    struct caller c;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    MUST(tcgetattr(t->slave, &cooked) == 0);
    MUST(put_to_sleep(&s, &c, read_slave, t));
    tty_type(t, "pas");
    MUST(still_waits(&c));
    tty_raw(t->slave); /* who waits gets what was typed */
    MUST(result(&c) == 3 && strcmp(t->buf, "pas") == 0);
    MUST(put_to_sleep(&s, &c, read_slave, t));
    tty_type(t, "\4"); /* a byte like any other */
    MUST(result(&c) == 1 && t->buf[0] == 4);
    tty_type(t, "0123456789");
    for (int i = 0; i < 5; i++) /* nothing new comes between */
        MUST(weft_read(t->slave, t->buf, 2) == 2 && t->buf[0] == '0' + 2 * i);
    MUST(tcsetattr(t->slave, TCSANOW, &cooked) == 0);
    MUST(put_to_sleep(&s, &c, read_slave, t));
    tty_type(t, "word");
    MUST(still_waits(&c));
    tty_type(t, "\n");
    MUST(result(&c) == 5);
    return weft_scope_end(&s, 0);
}

START_TEST(raw_mode_comes_and_goes_while_it_is_read)
{
    on_tty(raw, _i);
}
END_TEST

/* A line that another reader, who knows nothing of us, takes first: who was woken for it waits on, and can be called off. */
struct thief {
    struct tty *t;
    int lines, stolen;
};

static void *steal(void *arg)
{
    struct thief *h = arg;
    char buf[16];
    uint64_t state = 1;
    int fd = open(h->t->path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    for (int i = 0; i < h->lines; i++) {
        tty_type(h->t, "x\n");
        compute(weft_us(next_random(&state) % 100));
        h->stolen += sys_read(fd, buf, sizeof buf) == 2;
    }
    close(fd);
    return NULL;
}

static int read_beside_a_thief(void *arg)
{
    struct thief *h = arg;
    int n = 0, rc;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    pthread_t thread = thread_start(steal, h);
    do {
        weft_scope wait;
        weft_scope_begin(&wait, weft_ms(50));
        rc = weft_scope_end(&wait, read_slave(h->t));
        n += rc == 2;
    } while (rc > 0);
    MUST(rc == -ETIMEDOUT);
    pthread_join(thread, NULL);
    for (; n + h->stolen < h->lines; n++) /* should it have been slow */
        MUST(read_slave(h->t) == 2);
    return weft_scope_end(&s, 0);
}

START_TEST(a_line_that_another_takes_is_not_waited_for_beyond_the_deadline)
{
    struct tty t;
    tty_open(&t, 0);
    struct thief h = { .t = &t, .lines = 1000 };
    RUN(read_beside_a_thief, &h, workers[_i]);
    tty_close(&t);
}
END_TEST

/* ---- hang-up */

static int hang_up(void *arg)
{
    struct tty *t = arg;
    struct caller c;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    tty_type(t, "last words\n");
    MUST(read_slave(t) == 11);
    MUST(put_to_sleep(&s, &c, read_slave, t));
    MUST(weft_close(t->master) == 0);
    t->master = -1;
    int rc = result(&c);
    MUST(rc == 0 || rc == -EIO);
    rc = read_slave(t);
    MUST(rc == 0 || rc == -EIO);
    MUST(weft_write(t->slave, "x", 1) == -EIO);
    MUST(weft_stream_open(&t->s, t->slave, &(weft_stream_options){ .keep_fd = true }) == 0);
    MUST(weft_stream_puts(t->s, "x") == 0 && weft_stream_flush(t->s) == -EIO);
    MUST(weft_stream_close(&t->s) == -EIO);
    return weft_scope_end(&s, 0);
}

START_TEST(a_terminal_that_hangs_up_is_at_its_end)
{
    on_tty(hang_up, _i);
}
END_TEST

/* The other end: -EIO while no slave is open, and it goes on with the next. */
static int comes_back(void *arg)
{
    struct tty *t = arg;
    struct caller c;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    MUST(weft_write_all(t->slave, "shown", 5) == 0);
    MUST(read_master(t) == 5 && strcmp(t->buf, "shown") == 0);
    MUST(put_to_sleep(&s, &c, read_master, t));
    MUST(weft_close(t->slave) == 0);
    MUST(result(&c) == -EIO && read_master(t) == -EIO);
    t->slave = open(t->path, O_RDWR | O_NOCTTY | O_CLOEXEC | t->flags);
    MUST(t->slave >= 0);
    MUST(put_to_sleep(&s, &c, read_master, t));
    MUST(still_waits(&c));
    MUST(weft_write_all(t->slave, "again", 5) == 0);
    MUST(result(&c) == 5 && strcmp(t->buf, "again") == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(the_master_goes_on_with_the_next_program)
{
    on_tty(comes_back, _i);
}
END_TEST

/* ---- who takes nothing */

static int write_until_late(int fd, bool stream)
{
    static const char page[40000];
    weft_stream *s = NULL;
    weft_scope t;
    int rc = stream ? weft_stream_open(&s, fd, &(weft_stream_options){ .keep_fd = true }) : 0;
    weft_scope_begin(&t, weft_ms(20));
    while (rc >= 0)
        rc = stream ? weft_stream_write(s, page, sizeof page) : weft_write(fd, page, sizeof page);
    rc = weft_scope_end(&t, rc);
    weft_stream_drop(&s);
    return rc;
}

static int takes_nothing(void *arg)
{
    struct tty *t = arg;
    tty_raw(t->slave);
    MUST(write_until_late(t->slave, false) == -ETIMEDOUT);
    MUST(write_until_late(t->slave, true) == -ETIMEDOUT);
    /* Room again: what is written then comes. */
    while (drain(t->master) > 0)
        weft_ignore(weft_yield());
    MUST(weft_write_all(t->slave, "!", 1) == 0);
    MUST(read_master(t) > 0);
    return 0;
}

START_TEST(a_terminal_that_nobody_reads_keeps_no_writer_beyond_its_deadline)
{
    on_tty(takes_nothing, _i);
}
END_TEST

/* The kernel hands on what is typed by a thread of its own: until ^S has come to the other end. */
NOINLINE static bool tty_stops(const struct tty *t)
{
    struct pollfd p = { .fd = t->slave, .events = POLLOUT };
    for (int64_t end = weft_after(LIMIT); poll(&p, 1, 0) != 0 && weft_now() < end;)
        weft_ignore(weft_yield());
    return p.revents == 0;
}

static int write_two(void *arg)
{
    struct tty *t = arg;
    return weft_write(t->slave, "on", 2);
}

static int stopped(void *arg)
{
    struct tty *t = arg;
    struct caller c;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    tty_type(t, "\23"); /* ^S */
    MUST(tty_stops(t));
    MUST(put_to_sleep(&s, &c, write_two, t));
    MUST(write_until_late(t->slave, false) == -ETIMEDOUT);
    MUST(still_waits(&c));
    tty_type(t, "\21"); /* ^Q */
    MUST(result(&c) == 2);
    MUST(read_master(t) == 2 && strcmp(t->buf, "on") == 0);
    return weft_scope_end(&s, 0);
}

START_TEST(a_stopped_terminal_is_waited_for)
{
    on_tty(stopped, _i);
}
END_TEST

/* ---- programs at it */

static int program_at_it(void *arg)
{
    struct tty *t = arg;
    weft_process *p = NULL;
    weft_stream *m = NULL;
    char *line;
    int status = 77;
    weft_process_options o = { .in = t->slave, .out = t->slave, .err = t->slave };
    MUST(weft_process_open(&p, SHELL("tty; read x; echo got $x; exec cat"), &o) == 0);
    MUST(weft_stream_open(&m, t->master, &(weft_stream_options){ .keep_fd = true }) == 0);
    MUST(weft_stream_read_line(m, &line, NULL) == 1 && strcmp(line, t->path) == 0);
    MUST(weft_stream_puts(m, "seven\n") == 0); /* sent by the reading */
    MUST(weft_stream_read_line(m, &line, NULL) == 1 && strcmp(line, "got seven") == 0);
    MUST(weft_stream_puts(m, "echoed\n") == 0);
    MUST(weft_stream_read_line(m, &line, NULL) == 1 && strcmp(line, "echoed") == 0);
    MUST(weft_stream_puts(m, "\4") == 0 && weft_stream_flush(m) == 0);
    MUST(weft_process_wait(p, &status) == 0 && status == 0);
    weft_process_close(&p);
    MUST(weft_close(t->slave) == 0);
    t->slave = -1;
    MUST(weft_stream_read_line(m, &line, NULL) == -EIO);
    weft_stream_drop(&m);
    return 0;
}

START_TEST(a_program_talks_at_a_terminal)
{
    on_tty(program_at_it, 2 * _i); /* a program expects that it may wait */
}
END_TEST

/* A line as to a device, whose other end is a program. */
static int device(void *arg)
{
    struct tty *t = arg;
    char *line, text[16];
    int fd = weft_fs_open(t->path, O_RDWR | O_NOCTTY, 0);
    MUST(fd >= 0 && weft_stream_open(&t->s, fd, NULL) == 0);
    for (int i = 0; t->s && i < 20; i++) {
        snprintf(text, sizeof text, "AT%d", i);
        MUST(weft_stream_printf(t->s, "%s\n", text) == 0);
        MUST(weft_stream_read_line(t->s, &line, NULL) == 1 && strcmp(line, text) == 0);
    }
    return weft_stream_close(&t->s);
}

START_TEST(a_device_answers)
{
    struct foreign f;
    struct tty t = { .master = -1, .slave = -1 };
    foreign_start(&f, ARGS("socat", "-d", "-d", "PTY,raw,echo=0,wait-slave,pty-interval=0.01", "EXEC:cat"));
    const char *at = foreign_says(&f, "PTY is ");
    ck_assert_msg(at != NULL, "%s", f.said);
    snprintf(t.path, sizeof t.path, "%.*s", (int)strcspn(at, "\n"), at);
    RUN(device, &t, workers[_i]);
    foreign_stop(&f);
}
END_TEST

/* ---- a plain thread */

START_TEST(a_plain_thread_reads_and_writes_a_terminal)
{
    struct tty t;
    tty_open(&t, _i ? O_NONBLOCK : 0);
    tty_type(&t, "one\n\4");
    ck_assert_int_eq(read_slave(&t), 4);
    ck_assert_int_eq(read_slave(&t), 0);
    tty_type(&t, "half");
    weft_scope s;
    weft_scope_begin(&s, weft_ms(5));
    ck_assert_int_eq(weft_scope_end(&s, read_slave(&t)), -ETIMEDOUT);
    tty_raw(t.slave);
    ck_assert_int_eq(read_slave(&t), 4);
    ck_assert_int_eq(write_until_late(t.slave, false), -ETIMEDOUT);
    tty_close(&t);
    NOTHING_WRONG();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("foreign_tty");
    TCase *tc = add_case(s, "terminals");
    tcase_add_loop_test(tc, a_line_is_read_when_it_is_complete, 0, TTYS);
    tcase_add_loop_test(tc, control_D_is_an_end_after_which_it_goes_on, 0, TTYS);
    tcase_add_loop_test(tc, raw_mode_comes_and_goes_while_it_is_read, 0, TTYS);
    tcase_add_loop_test(tc, a_line_that_another_takes_is_not_waited_for_beyond_the_deadline, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_terminal_that_hangs_up_is_at_its_end, 0, TTYS);
    tcase_add_loop_test(tc, the_master_goes_on_with_the_next_program, 0, TTYS);
    tcase_add_loop_test(tc, a_terminal_that_nobody_reads_keeps_no_writer_beyond_its_deadline, 0, TTYS);
    tcase_add_loop_test(tc, a_stopped_terminal_is_waited_for, 0, TTYS);
    tcase_add_loop_test(tc, a_program_talks_at_a_terminal, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_plain_thread_reads_and_writes_a_terminal, 0, 2);
    if (forking())
        add_if_there(tc, "socat", a_device_answers, COUNT(workers));
    return run_suite(s);
}
