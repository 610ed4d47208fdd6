/* scenarios.c - small uses of the public interface, each told apart by how it ended: for inject.py, which makes the system
 * calls of one fail in turn.
 *
 * Use       scenarios list                  the names
 *           scenarios NAME [--wait]         runs one; with --wait it prints "subject PID" and begins after a line of input
 *           SCENARIO_WORKERS=N in the environment: on so many workers; 1, so that each call's times are few threads' own
 * Prints    "ok", or "error -N TEXT", what the library said; before it a line for each thing that was wrong ("wrong ...") or
 *           was left behind ("left fd 7 socket:[123]", "left thread ...", "left child ...", "left file ...")
 * Exit      0 ok; 3 an error; 77 it cannot be had here; 1 something wrong, or left; 2 usage
 *
 * Two processes: the subject runs the scenario, the examiner, its parent, looks at it from outside when that is over. So no
 * check makes a system call that could be made to fail, and a subject that crashed is seen, too. They talk by memory that
 * they share.
 * Those whose names end in _on_error misbehave on purpose: inject.py --check-the-check has to find each of them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <weft.h>
#ifdef SCENARIO_TLS
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <weft/tls.h>
#endif

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

enum { EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_TOLD = 3, EXIT_SKIPPED = 77 };
enum { FRAME = 40000, MUCH = 300000, INPUT = 100000, ENTRIES = 300, FDS_MOST = 256, BATCH = 8 };

/* ---- what examiner and subject share */

enum state { STARTING, WAITING, GO, DONE, QUIT, UNAVAILABLE };

static struct shared {
    atomic_int state;
    atomic_int wrongs;
    int rc;
    char text[160];
    char wrong[160];      /* the first */
    atomic_int reported;  /* the first error that the runtime reported */
    atomic_int real_time; /* how often the library asked for the time of day */
} *shared;

static char folder[64]; /* of this run alone; empty at its end */
static int given[4];    /* descriptors that the subject is started with */

/* Any thread: the first is kept. */
static void wrong(const char *format, ...)
{
    va_list args;
    if (atomic_fetch_add(&shared->wrongs, 1) != 0)
        return;
    va_start(args, format);
    vsnprintf(shared->wrong, sizeof shared->wrong, format, args);
    va_end(args);
}

static void nap(void)
{
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = 500000 }, NULL);
}

/* ---- the time of day, of which the library is not to know: these stand before libc's */

static atomic_int jumping;

int clock_gettime(clockid_t id, struct timespec *t)
{
    long rc = syscall(SYS_clock_gettime, id, t);
    if (id != CLOCK_REALTIME)
        return (int)rc;
    int n = atomic_fetch_add(&shared->real_time, 1);
    if (atomic_load(&jumping))
        t->tv_sec += n % 2 ? 7200 : -7200;
    return (int)rc;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    *t = (struct timeval){ .tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000 };
    return rc;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

/* ---- small things */

static char pattern(size_t i)
{
    return (char)((i * 31 + (i >> 8)) & 0xff);
}

static void fill(char *to, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++)
        to[i] = pattern(from + i);
}

static void expect(const char *what, const char *got, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != pattern(from + i)) {
            wrong("%s: byte %zu is another", what, from + i);
            return;
        }
}

/* An end where more was to come: whoever sent it has failed. */
static int early(int rc)
{
    return rc == 0 ? -ENODATA : rc;
}

static int first_of(int a, int b)
{
    return a < 0 ? a : b < 0 ? b : 0;
}

/* Whether it is what one side meets when the other has failed: that one's error is to be told. */
static bool is_consequence(int rc)
{
    return rc == -ENODATA || rc == -ECONNRESET || rc == -EPIPE || rc == -ENOTCONN || rc == -EBADF || rc == -ECANCELED;
}

/* Who has failed at its listener closes it, perhaps before the other one connects. */
static int cause_of(int a, int b)
{
    return b < 0 && (a >= 0 || ((is_consequence(a) || a == -ECONNREFUSED) && !is_consequence(b))) ? b : a;
}

static const char *in_folder(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

static void on_report(const weft_report *r, void *arg)
{
    int none = 0;
    (void)arg;
    atomic_compare_exchange_strong(&shared->reported, &none, r->code);
}

static int workers = 1;

/* The times of a call are counted for each thread. Here this thread uses up those that are made to fail: its own calls would
 * be hit beside those of tasks and lanes (it makes and closes the runtime's descriptors, wakes others by an eventfd, and
 * starts threads). */
static void use_up_times(void)
{
    for (int i = 0; i < 32; i++) {
        (void)syscall(SYS_read, -1, NULL, 0);
        (void)syscall(SYS_write, -1, NULL, 0);
        (void)syscall(SYS_close, -1);
        (void)syscall(SYS_epoll_create1, -1);
        (void)syscall(SYS_epoll_ctl, -1, 0, 0, NULL);
        (void)syscall(SYS_eventfd2, 0, -1);
        (void)syscall(SYS_clone3, NULL, 0);
    }
}

static int in_runtime(weft_fn *fn)
{
    use_up_times();
    return weft_run(fn, NULL, &(weft_options){ .workers = workers, .report = on_report });
}

static int both(weft_fn *a, weft_fn *b, void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, a, arg);
    weft_spawn(&s, b, arg);
    return weft_scope_end(&s, 0);
}

/* A file of the pattern, made by the examiner. */
static void make_file(const char *name, size_t n, size_t from)
{
    char path[128], *data = malloc(n + 1);
    FILE *f = fopen(in_folder(path, name), "w");
    if (!f || !data)
        abort();
    fill(data, n, from);
    if (fwrite(data, 1, n, f) != n || fclose(f) != 0)
        abort();
    free(data);
}

/* Whether the file is n bytes of the pattern; the examiner asks. */
static bool file_is(const char *name, size_t n, size_t from)
{
    char path[128];
    FILE *f = fopen(in_folder(path, name), "r");
    bool right = f != NULL;
    size_t i = 0;
    for (int c; f && (c = getc(f)) != EOF; i++)
        right = right && (char)c == pattern(from + i);
    if (f)
        fclose(f);
    return right && i == n;
}

/* ---- a dialogue: a line, a long frame, the end */

static int answer(weft_stream *s, void *arg)
{
    char *line, *frame, more;
    size_t n;
    (void)arg;
    int rc = weft_stream_read_line(s, &line, &n);
    if (rc <= 0)
        return early(rc);
    if (strcmp(line, "hello") != 0)
        wrong("the line is another");
    if ((rc = weft_stream_printf(s, "you said %s\n", line)) < 0)
        return rc;
    if ((rc = weft_stream_read_frame(s, 4, &frame, &n)) <= 0)
        return early(rc);
    if (n != FRAME)
        wrong("the frame has %zu bytes", n);
    expect("the frame", frame, n, 0);
    if ((rc = weft_stream_write_frame(s, 4, frame, n)) < 0 || (rc = weft_stream_shutdown(s)) < 0)
        return rc;
    rc = weft_stream_read(s, &more, 1);
    if (rc > 0)
        wrong("there is more");
    return rc;
}

static int ask(weft_stream *s)
{
    static char sent[FRAME];
    char *line, *frame, more;
    size_t n;
    fill(sent, FRAME, 0);
    int rc = weft_stream_puts(s, "hello\n");
    if (rc < 0)
        return rc;
    if ((rc = weft_stream_read_line(s, &line, &n)) <= 0)
        return early(rc);
    if (strcmp(line, "you said hello") != 0)
        wrong("the answer is another");
    if ((rc = weft_stream_write_frame(s, 4, sent, FRAME)) < 0)
        return rc;
    if ((rc = weft_stream_read_frame(s, 4, &frame, &n)) <= 0)
        return early(rc);
    if (n != FRAME)
        wrong("the frame came back with %zu bytes", n);
    expect("the frame that came back", frame, n, 0);
    if ((rc = weft_stream_shutdown(s)) < 0)
        return rc;
    rc = weft_stream_read(s, &more, 1);
    if (rc > 0)
        wrong("there is more");
    return rc;
}

static int ask_or_answer(int fd, bool asks)
{
    weft_stream *s;
    int rc = weft_stream_open(&s, fd, NULL);
    if (rc < 0) {
        weft_ignore(weft_close(fd));
        return rc;
    }
    rc = asks ? ask(s) : answer(s, NULL);
    if (rc >= 0)
        return weft_stream_close(&s);
    weft_stream_drop(&s);
    return rc;
}

struct meeting {
    int listener;
    char where[128];
    int served; /* how the server ended */
};

static int host(void *arg)
{
    const struct meeting *m = arg;
    int fd = weft_accept(m->listener);
    return fd < 0 ? fd : ask_or_answer(fd, false);
}

static int guest(void *arg)
{
    const struct meeting *m = arg;
    weft_addr peer;
    int fd = weft_connect(m->where, NULL), rc = fd < 0 ? fd : weft_addr_peer(fd, &peer);
    if (rc < 0 && fd >= 0)
        weft_ignore(weft_close(fd));
    return rc < 0 ? rc : ask_or_answer(fd, true);
}

/* Where the listener is, by number. */
static int where_is(struct meeting *m)
{
    weft_addr a;
    int rc = weft_addr_local(m->listener, &a);
    return rc < 0 ? rc : weft_addr_text(&a, m->where, sizeof m->where);
}

/* The same port of a host by its name. */
static void by_name(struct meeting *m, const char *name)
{
    int port = atoi(strrchr(m->where, ':') + 1);
    snprintf(m->where, sizeof m->where, "%s:%d", name, port);
}

static int meet_at(struct meeting *m, const char *where, const weft_listen_options *o)
{
    m->listener = weft_listen(where, o);
    if (m->listener < 0)
        return m->listener;
    int rc = where_is(m);
    if (rc >= 0)
        rc = both(host, guest, m);
    return first_of(rc, weft_close(m->listener));
}

static int tcp_task(void *arg)
{
    struct meeting m = { .listener = -1 };
    (void)arg;
    return meet_at(&m, "127.0.0.1:0", NULL);
}

static int tcp(void)
{
    return in_runtime(tcp_task);
}

static struct sockaddr_un socket_file(const char *name)
{
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    char path[128];
    in_folder(path, name);
    memcpy(u.sun_path, path, strnlen(path, sizeof u.sun_path - 1));
    return u;
}

/* A socket file of a listener that died is in the way. */
static void stale_socket(void)
{
    const struct sockaddr_un u = socket_file("socket");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)(const void *)&u, sizeof u) < 0)
        abort();
    close(fd);
}

static int unix_task(void *arg)
{
    struct meeting m = { .listener = -1 };
    char where[128];
    (void)arg;
    snprintf(where, sizeof where, "unix:%s/socket", folder);
    return meet_at(&m, where, &(weft_listen_options){ .unix_mode = 0600 });
}

static int unix_sockets(void)
{
    return in_runtime(unix_task);
}

/* ---- streams over a pair, and over memory */

struct ends {
    weft_stream *a, *b;
};

static int ask_a(void *arg)
{
    return ask(((struct ends *)arg)->a);
}

static int answer_b(void *arg)
{
    return answer(((struct ends *)arg)->b, NULL);
}

static int between(struct ends *e)
{
    int rc = both(ask_a, answer_b, e);
    rc = first_of(rc, weft_stream_close(&e->a));
    return first_of(rc, weft_stream_close(&e->b));
}

static int pair_task(void *arg)
{
    struct ends e = { .a = NULL };
    int fds[2];
    (void)arg;
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    if ((rc = weft_stream_open(&e.a, fds[0], NULL)) < 0)
        weft_ignore(weft_close(fds[0]));
    if (rc < 0 || (rc = weft_stream_open(&e.b, fds[1], NULL)) < 0) {
        weft_ignore(weft_close(fds[1]));
        weft_stream_drop(&e.a);
        return rc;
    }
    return between(&e);
}

static int pair(void)
{
    return in_runtime(pair_task);
}

static int memory_task(void *arg)
{
    struct ends e;
    (void)arg;
    int rc = weft_stream_pair(&e.a, &e.b);
    return rc < 0 ? rc : between(&e);
}

static int memory(void)
{
    return in_runtime(memory_task);
}

/* ---- the same in TLS: over a connection, and over memory */

#ifdef SCENARIO_TLS
/* The examiner makes it, from which the subject is forked: so what OpenSSL reads when it starts is read by then. */
static void make_certificate(void)
{
    char path[128];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    if (!key || !cert)
        abort();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -86400);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"scenario", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:scenario.test");
    FILE *f = fopen(in_folder(path, "certificate"), "w");
    if (!e || !X509_add_ext(cert, e, -1) || X509_sign(cert, key, EVP_sha256()) <= 0 || !f ||
            !PEM_write_X509(f, cert) || !PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) || fclose(f) != 0)
        abort();
    X509_EXTENSION_free(e);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void after_certificate(int rc)
{
    char path[128];
    (void)rc;
    unlink(in_folder(path, "certificate"));
}

struct tls_meeting {
    weft_tls *tls;
    int listener;
    char where[128];
    weft_stream *a, *b;
};

/* Closes it: to the end of both ways, unless it has failed. */
static int end_tls(weft_stream **s, int rc)
{
    if (rc >= 0)
        return weft_stream_close(s);
    weft_stream_drop(s);
    return rc;
}

static int tls_b(void *arg)
{
    struct tls_meeting *m = arg;
    int rc = weft_tls_server(m->tls, m->b);
    if (rc == 0)
        rc = answer(m->b, NULL);
    return end_tls(&m->b, rc);
}

static int tls_a(void *arg)
{
    struct tls_meeting *m = arg;
    int rc = weft_tls_client(m->tls, m->a, "scenario.test");
    if (rc == 0)
        rc = ask(m->a);
    return end_tls(&m->a, rc);
}

static int tls_host(void *arg)
{
    struct tls_meeting *m = arg;
    int fd = weft_accept(m->listener), rc = fd;
    if (fd < 0)
        return fd;
    if ((rc = weft_stream_open(&m->b, fd, NULL)) < 0) {
        weft_ignore(weft_close(fd));
        return rc;
    }
    return tls_b(m);
}

static int tls_guest(void *arg)
{
    struct tls_meeting *m = arg;
    int fd = weft_connect(m->where, NULL), rc = fd;
    if (fd < 0)
        return fd;
    if ((rc = weft_stream_open(&m->a, fd, NULL)) < 0) {
        weft_ignore(weft_close(fd));
        return rc;
    }
    return tls_a(m);
}

static int tls_over_tcp(struct tls_meeting *m)
{
    struct meeting where = { .listener = weft_listen("127.0.0.1:0", NULL) };
    if (where.listener < 0)
        return where.listener;
    int rc = where_is(&where);
    m->listener = where.listener;
    memcpy(m->where, where.where, sizeof m->where);
    if (rc >= 0)
        rc = both(tls_host, tls_guest, m);
    return first_of(rc, weft_close(where.listener));
}

static int tls_over_memory(struct tls_meeting *m)
{
    int rc = weft_stream_pair(&m->a, &m->b);
    return rc < 0 ? rc : both(tls_b, tls_a, m);
}

/* The files are read again and again. */
static int tls_with(int (*over)(struct tls_meeting *m))
{
    struct tls_meeting m = { .listener = -1 };
    char path[128];
    in_folder(path, "certificate");
    int rc = weft_tls_create(&m.tls, &(weft_tls_options){ .cert_file = path, .ca_file = path });
    if (rc < 0)
        return rc;
    if ((rc = weft_tls_add_cert(m.tls, path, NULL)) == 0 && (rc = weft_tls_reload(m.tls)) == 0)
        rc = over(&m);
    weft_tls_destroy(&m.tls);
    return rc;
}

static int tls_task(void *arg)
{
    (void)arg;
    return tls_with(tls_over_tcp);
}

static int tls(void)
{
    return in_runtime(tls_task);
}

static int tls_memory_task(void *arg)
{
    (void)arg;
    return tls_with(tls_over_memory);
}

static int tls_memory(void)
{
    return in_runtime(tls_memory_task);
}
#endif

/* ---- a server, reached by number and by name */

static int server(void *arg)
{
    struct meeting *m = arg;
    int rc = weft_serve(m->listener, answer, NULL, &(weft_serve_options){ .limit = 4, .grace = weft_ms(500) });
    return m->served = rc == -ECANCELED ? 0 : rc;
}

static int serve_and_ask(struct meeting *m)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, server, m);
    int rc = guest(m);
    if (rc >= 0)
        weft_scope_cancel(&s, "asked");
    rc = weft_scope_end(&s, rc);
    rc = cause_of(rc, m->served); /* which the scope does not tell once it is cancelled */
    return cause_of(rc, atomic_load(&shared->reported)); /* so a handler's error is told, which ends only its connection */
}

static int serve_at(const char *host_name)
{
    struct meeting m = { .listener = weft_listen("127.0.0.1:0", NULL) };
    if (m.listener < 0)
        return m.listener;
    int rc = where_is(&m);
    if (rc >= 0 && host_name)
        by_name(&m, host_name);
    if (rc >= 0)
        rc = serve_and_ask(&m);
    return first_of(rc, weft_close(m.listener));
}

static int serve_task(void *arg)
{
    (void)arg;
    return serve_at(NULL);
}

static int serve(void)
{
    return in_runtime(serve_task);
}

static int serve_name_task(void *arg)
{
    (void)arg;
    return serve_at("localhost");
}

static int serve_name(void)
{
    return in_runtime(serve_name_task);
}

/* ---- a name with two addresses, of which one answers */

static int race_task(void *arg)
{
    struct meeting m = { .listener = weft_listen("127.0.0.2:0", NULL) };
    (void)arg;
    if (m.listener < 0)
        return m.listener;
    int rc = where_is(&m);
    if (rc >= 0) {
        by_name(&m, "both.test");
        rc = both(host, guest, &m);
    }
    return first_of(rc, weft_close(m.listener));
}

static int race(void)
{
    return in_runtime(race_task);
}

/* ---- copying: a[0] -- a[1] = b[0] -- b[1], all through and back */

struct chain {
    int a[2], b[2];
    uint64_t there, back;
};

static char much[MUCH], got[MUCH];

static int chain_copy(void *arg)
{
    struct chain *c = arg;
    return weft_copy_both(c->a[1], c->b[0], &c->there, &c->back);
}

static int chain_send(void *arg)
{
    const struct chain *c = arg;
    int rc = weft_write_all(c->a[0], much, MUCH);
    return rc < 0 ? rc : weft_shutdown(c->a[0], SHUT_WR);
}

static int chain_receive(void *arg)
{
    const struct chain *c = arg;
    char more;
    int rc = weft_read_all(c->a[0], got, MUCH);
    if (rc <= 0)
        return early(rc);
    expect("what came back", got, MUCH, 0);
    rc = weft_read(c->a[0], &more, 1);
    if (rc > 0)
        wrong("more came back than was sent");
    return rc;
}

static int chain_echo(void *arg)
{
    const struct chain *c = arg;
    char buf[20000];
    int n;
    while ((n = weft_read(c->b[1], buf, sizeof buf)) > 0) {
        int rc = weft_write_all(c->b[1], buf, (size_t)n);
        if (rc < 0)
            return rc;
    }
    return n < 0 ? n : weft_shutdown(c->b[1], SHUT_WR);
}

static int chain_of(struct chain *c)
{
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, chain_copy, c);
    weft_spawn(&s, chain_echo, c);
    weft_spawn(&s, chain_receive, c);
    weft_spawn(&s, chain_send, c);
    int rc = weft_scope_end(&s, 0);
    if (rc == 0 && (c->there != MUCH || c->back != MUCH))
        wrong("it says that %llu and %llu bytes went", (unsigned long long)c->there, (unsigned long long)c->back);
    return rc;
}

static void close_pair(const int fds[2])
{
    weft_ignore(weft_close(fds[0]));
    weft_ignore(weft_close(fds[1]));
}

static int copy_task(void *arg)
{
    struct chain c;
    (void)arg;
    fill(much, MUCH, 0);
    int rc = weft_pair(c.a);
    if (rc < 0)
        return rc;
    if ((rc = weft_pair(c.b)) == 0) {
        rc = chain_of(&c);
        close_pair(c.b);
    }
    close_pair(c.a);
    return rc;
}

static int copy(void)
{
    return in_runtime(copy_task);
}

/* ---- a file into a socket */

struct sending {
    int to, from, file, rc;
    uint64_t moved;
    size_t received;
};

static void make_much(void)
{
    make_file("much", MUCH, 0);
}

/* Its error is told at the end, so that the other side receives all that is said to be out. */
static int send_it(void *arg)
{
    struct sending *p = arg;
    p->rc = weft_send_file(p->to, p->file, 0, UINT64_MAX, &p->moved);
    return weft_shutdown(p->to, SHUT_WR);
}

static int receive_it(void *arg)
{
    struct sending *p = arg;
    char buf[30000];
    int n;
    while ((n = weft_read(p->from, buf, sizeof buf)) > 0) {
        expect("the file", buf, (size_t)n, p->received);
        p->received += (size_t)n;
    }
    return n;
}

static int send_through(int fds[2])
{
    struct sending p = { .to = fds[0], .from = fds[1] };
    char path[128];
    p.file = weft_fs_open(in_folder(path, "much"), O_RDONLY, 0);
    if (p.file < 0)
        return p.file;
    int rc = both(send_it, receive_it, &p);
    if (rc == 0 && p.received != p.moved)
        wrong("%zu bytes came, of which it says %llu", p.received, (unsigned long long)p.moved);
    if (rc == 0 && p.rc == 0 && p.moved != MUCH)
        wrong("it ended after %llu bytes", (unsigned long long)p.moved);
    return first_of(cause_of(rc, p.rc), weft_close(p.file));
}

static int send_file_task(void *arg)
{
    int fds[2];
    (void)arg;
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    rc = send_through(fds);
    close_pair(fds);
    return rc;
}

static int send_file(void)
{
    return in_runtime(send_file_task);
}

/* ---- datagrams */

static int one_datagram(int a, int b)
{
    char buf[32];
    weft_addr from, mine;
    int rc = weft_send_to(b, "one", 3, NULL);
    if (rc < 0 || (rc = weft_recv_from(a, buf, sizeof buf, &from)) < 0)
        return rc;
    if (rc != 3 || memcmp(buf, "one", 3) != 0)
        wrong("the datagram is another");
    if ((rc = weft_addr_local(b, &mine)) < 0)
        return rc;
    if (memcmp(&mine.sa, &from.sa, sizeof(struct sockaddr_in)) != 0)
        wrong("it is from somebody else");
    if ((rc = weft_send_to(a, "", 0, &from)) < 0)
        return rc;
    rc = weft_recv_from(b, buf, sizeof buf, NULL);
    if (rc > 0)
        wrong("an empty datagram has bytes");
    return rc;
}

static int many_datagrams(int a, int b)
{
    char text[BATCH][16], come[BATCH][16];
    struct iovec v[BATCH], w[BATCH];
    struct mmsghdr out[BATCH] = { 0 }, in[BATCH] = { 0 };
    for (int i = 0; i < BATCH; i++) {
        v[i] = (struct iovec){ text[i], (size_t)snprintf(text[i], sizeof text[i], "number %d", i) };
        w[i] = (struct iovec){ come[i], sizeof come[i] };
        out[i].msg_hdr = (struct msghdr){ .msg_iov = &v[i], .msg_iovlen = 1 };
        in[i].msg_hdr = (struct msghdr){ .msg_iov = &w[i], .msg_iovlen = 1 };
    }
    int rc;
    for (int done = 0; done < BATCH; done += rc)
        if ((rc = weft_send_many(b, out + done, (unsigned)(BATCH - done))) <= 0)
            return early(rc);
    for (int done = 0; done < BATCH; done += rc)
        if ((rc = weft_recv_many(a, in + done, (unsigned)(BATCH - done))) <= 0)
            return early(rc);
    for (int i = 0; i < BATCH; i++)
        if (in[i].msg_len != v[i].iov_len || memcmp(come[i], text[i], in[i].msg_len) != 0)
            wrong("datagram %d is another", i);
    return 0;
}

static int datagram_task(void *arg)
{
    struct meeting m = { .listener = weft_udp_open("127.0.0.1:0", NULL) };
    (void)arg;
    if (m.listener < 0)
        return m.listener;
    int rc = where_is(&m), b = -1;
    if (rc >= 0)
        rc = b = weft_udp_open("127.0.0.1:0", m.where);
    if (rc >= 0)
        rc = one_datagram(m.listener, b);
    if (rc >= 0)
        rc = many_datagrams(m.listener, b);
    weft_close_auto(&b);
    return first_of(rc, weft_close(m.listener));
}

static int datagrams(void)
{
    return in_runtime(datagram_task);
}

/* ---- descriptors through a socket */

static void make_pipe(void)
{
    if (pipe2(given, O_CLOEXEC) < 0)
        abort();
}

static int use_received(int fd)
{
    char buf[8];
    int rc = weft_write(given[1], "abc", 3);
    if (rc >= 0)
        rc = weft_read(fd, buf, sizeof buf);
    if (rc >= 0 && (rc != 3 || memcmp(buf, "abc", 3) != 0))
        wrong("what was received is another pipe");
    return rc;
}

static int pass_through(int fds[2])
{
    char byte;
    int came[3];
    size_t n = COUNT(came);
    int rc = weft_send_fds(fds[0], "x", 1, given, 1);
    if (rc < 0 || (rc = weft_recv_fds(fds[1], &byte, 1, came, &n)) <= 0)
        return early(rc);
    if (n != 1 || byte != 'x') {
        wrong("%zu descriptors came", n);
        return 0;
    }
    rc = use_received(came[0]);
    return first_of(rc, weft_close(came[0]));
}

static int fds_task(void *arg)
{
    int fds[2];
    (void)arg;
    int rc = weft_pair(fds);
    if (rc < 0)
        return rc;
    rc = pass_through(fds);
    close_pair(fds);
    return rc;
}

static int pass_fds(void)
{
    return in_runtime(fds_task);
}

/* ---- a terminal, which can only block: opened once more by the library, as a file that does not */

static void make_terminal(void)
{
    char path[64];
    struct termios raw;
    given[1] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (given[1] < 0 || grantpt(given[1]) < 0 || unlockpt(given[1]) < 0 || ptsname_r(given[1], path, sizeof path) != 0)
        abort();
    given[0] = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (given[0] < 0 || tcgetattr(given[0], &raw) < 0)
        abort();
    cfmakeraw(&raw);
    if (tcsetattr(given[0], TCSANOW, &raw) < 0 || write(given[1], "abc", 3) != 3)
        abort();
}

/* From one side to the other, whose kind the library asks for each time. */
static int terminal_task(void *arg)
{
    char buf[8];
    (void)arg;
    for (int i = 0; i < 2; i++) {
        int rc = i == 0 ? 0 : weft_write_all(given[0], "abc", 3);
        if (rc >= 0)
            rc = weft_read(given[i], buf, sizeof buf);
        if (rc < 0)
            return rc;
        if (rc != 3 || memcmp(buf, "abc", 3) != 0)
            wrong("what was read from side %d is not what was written", i);
    }
    return 0;
}

static int terminal(void)
{
    return in_runtime(terminal_task);
}

/* ---- many tasks at once: stacks of which several are made by one call */

enum { CROWD = 200 };

struct crowd {
    weft_event go;
    atomic_int came;
};

static int one_of_many(void *arg)
{
    struct crowd *c = arg;
    char deep[10000];
    int n = atomic_fetch_add(&c->came, 1) + 1;
    memset(deep, n & 0x7f, sizeof deep);
    if (n == CROWD)
        weft_event_set(&c->go);
    int rc = weft_event_wait(&c->go);
    if (rc == 0 && (deep[0] != (n & 0x7f) || memcmp(deep, deep + 1, sizeof deep - 1) != 0))
        wrong("a stack is another's");
    return rc;
}

static int crowd_task(void *arg)
{
    struct crowd c = { .came = 0 };
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < CROWD; i++)
        weft_spawn(&s, one_of_many, &c);
    return weft_scope_end(&s, 0);
}

static int crowd(void)
{
    return in_runtime(crowd_task);
}

/* ---- two workers: a child that its parent does not make room for is taken by the other one */

static int be_taken(void *arg)
{
    atomic_store((atomic_int *)arg, 1);
    return 0;
}

static int theft_task(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++) {
        atomic_int taken = 0;
        weft_scope s;
        weft_scope_begin(&s, WEFT_NEVER);
        weft_spawn(&s, be_taken, &taken);
        while (!atomic_load(&taken))
            continue;
        int rc = weft_scope_end(&s, 0);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int theft(void)
{
    use_up_times();
    return weft_run(theft_task, NULL, &(weft_options){ .workers = 2, .report = on_report });
}

/* ---- descriptors of others' making: a pipe, a regular file */

static void make_pipe_and_files(void)
{
    char path[128];
    make_pipe();
    make_file("much", MUCH, 0);
    given[2] = open(in_folder(path, "much"), O_RDONLY | O_CLOEXEC);
    given[3] = open(in_folder(path, "written"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (given[2] < 0 || given[3] < 0)
        abort();
}

static int foreign_task(void *arg)
{
    (void)arg;
    int rc = use_received(given[0]);
    if (rc >= 0)
        rc = weft_read_all(given[2], got, MUCH);
    if (rc <= 0)
        return early(rc);
    expect("the file", got, MUCH, 0);
    return weft_write_all(given[3], got, MUCH);
}

static int foreign(void)
{
    return in_runtime(foreign_task);
}

static void after_foreign(int rc)
{
    char path[128];
    if (rc == 0 && !file_is("written", MUCH, 0))
        wrong("the file that was written is another");
    unlink(in_folder(path, "written"));
    unlink(in_folder(path, "much"));
}

static void after_much(int rc)
{
    char path[128];
    (void)rc;
    unlink(in_folder(path, "much"));
}

/* ---- whole files */

static int store_task(void *arg)
{
    char path[128];
    (void)arg;
    fill(much, MUCH, 5);
    return weft_fs_store(in_folder(path, "much"), much, MUCH, 0600);
}

static int store(void)
{
    return in_runtime(store_task);
}

static void after_store(int rc)
{
    bool old = file_is("much", MUCH, 0), new = file_is("much", MUCH, 5);
    if (rc == 0 ? !new : !old && !new)
        wrong("the file is %s", old ? "what it was" : "neither what it was nor what it is to be");
    after_much(rc);
}

static int load_task(void *arg)
{
    char path[128], *data;
    size_t n;
    (void)arg;
    int rc = weft_fs_load(in_folder(path, "much"), &data, &n);
    if (rc < 0)
        return rc;
    if (n != MUCH || data[n] != 0)
        wrong("%zu bytes were read", n);
    expect("the file", data, n, 0);
    weft_free(data);
    return 0;
}

static int load(void)
{
    return in_runtime(load_task);
}

/* ---- one call after the other */

static int write_and_read(int fd)
{
    char buf[16];
    int rc = weft_fs_pwrite(fd, "0123456789", 10, 5);
    if (rc != 10)
        return rc < 0 ? rc : -ENOSPC;
    if ((rc = weft_fs_sync(fd)) < 0 || (rc = weft_fs_pread(fd, buf, sizeof buf, 6)) < 0)
        return rc;
    if (rc != 9 || memcmp(buf, "123456789", 9) != 0)
        wrong("%d bytes were read, or others", rc);
    return 0;
}

static int names(const char *from)
{
    char to[128], dir[128];
    struct stat st = { .st_size = 0 };
    int rc = weft_fs_rename(from, in_folder(to, "renamed"));
    if (rc < 0) {
        weft_ignore(weft_fs_unlink(from));
        return rc;
    }
    rc = weft_fs_stat(to, &st);
    if (rc == 0 && st.st_size != 15)
        wrong("it has %ld bytes", (long)st.st_size);
    if (rc == 0)
        rc = weft_fs_mkdir(in_folder(dir, "made"), 0700);
    return first_of(rc, weft_fs_unlink(to));
}

static int files_task(void *arg)
{
    char path[128];
    (void)arg;
    int fd = weft_fs_temp((char *)(uintptr_t)in_folder(path, "temp-XXXXXX"));
    if (fd < 0)
        return fd;
    int rc = write_and_read(fd);
    if ((rc = first_of(rc, weft_close(fd))) < 0) {
        weft_ignore(weft_fs_unlink(path));
        return rc;
    }
    return names(path);
}

static int files(void)
{
    return in_runtime(files_task);
}

static void after_files(int rc)
{
    char path[128];
    bool made = rmdir(in_folder(path, "made")) == 0;
    if (rc == 0 && !made)
        wrong("no directory was made");
}

/* ---- a directory */

static const char *entry_name(char out[128], int i)
{
    snprintf(out, 128, "%0100d", i);
    return out;
}

static void make_entries(void)
{
    char name[128], path[256];
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, entry_name(name, i));
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            abort();
        close(fd);
    }
}

static void after_directory(int rc)
{
    char name[128], path[256];
    (void)rc;
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, entry_name(name, i));
        unlink(path);
    }
}

static int directory_task(void *arg)
{
    bool seen[ENTRIES] = { false };
    weft_gen *g;
    weft_entry e;
    int n = 0;
    (void)arg;
    int rc = weft_fs_list(&g, folder);
    if (rc < 0)
        return rc;
    while ((rc = weft_gen_next(g, &e, sizeof e)) > 0) {
        int i = atoi(e.name);
        if (i < 0 || i >= ENTRIES || seen[i])
            wrong("entry %s, or twice", e.name);
        else
            seen[i] = true;
        n++;
    }
    if (rc == 0 && n != ENTRIES)
        wrong("%d entries of %d", n, ENTRIES);
    weft_gen_destroy(&g);
    return rc;
}

static int directory(void)
{
    return in_runtime(directory_task);
}

/* ---- changes */

static int watch_in(weft_chan *c)
{
    char path[128];
    weft_change change;
    int fd = weft_fs_open(in_folder(path, "new"), O_WRONLY | O_CREAT, 0600);
    if (fd < 0)
        return fd;
    int rc = weft_close(fd);
    if (rc == 0)
        rc = weft_chan_recv(c, &change, sizeof change);
    if (rc >= 0 && (!(change.what & IN_CREATE) || strcmp(change.name, "new") != 0))
        wrong("the change is another");
    return rc;
}

static int watch_task(void *arg)
{
    weft_chan *c;
    (void)arg;
    int rc = weft_fs_watch(&c, folder, IN_CREATE);
    if (rc < 0)
        return rc;
    rc = watch_in(c);
    weft_chan_destroy(&c);
    return rc;
}

static int watch(void)
{
    return in_runtime(watch_task);
}

static void after_watch(int rc)
{
    char path[128];
    (void)rc;
    unlink(in_folder(path, "new"));
}

/* ---- programs */

static int run_cat(void *arg)
{
    static const char *const argv[] = { "cat", NULL };
    weft_output r;
    (void)arg;
    fill(much, INPUT, 0);
    int rc = weft_process_run(&r, argv, much, INPUT, 0, NULL);
    if (rc < 0)
        return rc;
    if (r.status != 0 || r.out_bytes != INPUT || r.err_bytes != 0)
        wrong("it ended with %d after %zu bytes, and %zu of errors", r.status, r.out_bytes, r.err_bytes);
    else
        expect("what it said", r.out, r.out_bytes, 0);
    weft_output_free(&r);
    return 0;
}

static int process_run(void)
{
    return in_runtime(run_cat);
}

static int read_end(int fd, char *buf, size_t room, size_t *n)
{
    int rc;
    *n = 0;
    while (*n < room && (rc = weft_read(fd, buf + *n, room - *n)) != 0) {
        if (rc < 0)
            return rc;
        *n += (size_t)rc;
    }
    return 0;
}

/* In a directory, with a pipe each way and its errors where its output goes. */
static int talk_to(weft_process *p)
{
    char buf[256], expected[256];
    size_t n;
    int status = -1;
    int rc = weft_write_all(weft_process_in(p), "word\n", 5);
    weft_process_close_in(p);
    if (rc < 0 || (rc = read_end(weft_process_out(p), buf, sizeof buf, &n)) < 0)
        return rc;
    size_t m = (size_t)snprintf(expected, sizeof expected, "%s\nword\n", folder);
    if (n != m || memcmp(buf, expected, n) != 0)
        wrong("it said %zu bytes: %.*s", n, (int)n, buf);
    if ((rc = weft_process_wait(p, &status)) == 0 && status != 7)
        wrong("it ended with %d", status);
    return rc;
}

static int process_task(void *arg)
{
    static const char *const argv[] = { "/bin/sh", "-c", "pwd; read x; echo $x >&2; exit 7", NULL };
    static const weft_rlimit limits[] = { { RLIMIT_CORE, 0, 0 } };
    weft_process_options o = { .cwd = folder, .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE, .err = WEFT_STDIO_OUT,
        .new_group = true, .term_grace = weft_ms(200), .limits = limits, .limits_n = 1 };
    weft_process *p;
    (void)arg;
    int rc = weft_process_open(&p, argv, &o);
    if (rc < 0)
        return rc;
    rc = talk_to(p);
    weft_process_close(&p);
    return rc;
}

static int process(void)
{
    return in_runtime(process_task);
}

static int kill_task(void *arg)
{
    static const char *const argv[] = { "/bin/sleep", "3", NULL };
    weft_process_options o = { .in = WEFT_STDIO_NULL, .out = WEFT_STDIO_NULL, .err = given[1] };
    weft_process *p;
    int status = 0;
    (void)arg;
    int rc = weft_process_open(&p, argv, &o);
    if (rc < 0)
        return rc;
    rc = weft_process_kill(p, SIGTERM);
    if (rc == 0 && (rc = weft_process_wait(p, &status)) == 0 && status != -SIGTERM)
        wrong("it ended with %d", status);
    weft_process_close(&p);
    return rc;
}

static int process_kill(void)
{
    return in_runtime(kill_task);
}

/* What is more than a pipe takes comes back from a worker, which is this program (main); then the worker ends. */
static int answer_pool(const void *request, size_t bytes, weft_process_answer *a, void *arg)
{
    (void)arg;
    if (bytes == 1)
        exit(7);
    return weft_process_answer_add(a, request, bytes);
}

static int call_pool(weft_process_pool *pool)
{
    char *answer;
    size_t n;
    fill(much, INPUT, 0);
    int rc = weft_process_pool_call(pool, much, INPUT, &answer, &n);
    if (rc < 0)
        return rc;
    if (rc > 0 || n != INPUT)
        wrong("it answered %d with %zu bytes", rc, n);
    else
        expect("its answer", answer, n, 0);
    weft_free(answer);
    rc = weft_process_pool_call(pool, "x", 1, NULL, NULL);
    if (rc >= 0)
        wrong("it answered %d instead of ending", rc);
    else if (rc == -EPIPE)
        rc = weft_process_pool_call(pool, "yes", 3, NULL, NULL);
    return rc;
}

static int pool_task(void *arg)
{
    static const char *const argv[] = { "/proc/self/exe", "worker", NULL };
    weft_process_pool *pool;
    (void)arg;
    int rc = weft_process_pool_open(&pool, argv, &(weft_process_pool_options){ .workers = 1, .leave_grace = weft_sec(5) });
    if (rc < 0)
        return rc;
    rc = call_pool(pool);
    weft_process_pool_close(&pool);
    return rc;
}

static int process_pool(void)
{
    return in_runtime(pool_task);
}

/* ---- signals */

static int signals_task(void *arg)
{
    weft_chan *c;
    int signo = 0;
    (void)arg;
    int rc = weft_signal_open(&c, (const int[]){ SIGUSR2, 0 });
    if (rc < 0)
        return rc;
    kill(getpid(), SIGUSR2);
    rc = weft_chan_recv(c, &signo, sizeof signo);
    if (rc > 0 && signo != SIGUSR2)
        wrong("signal %d came", signo);
    weft_chan_destroy(&c);
    return rc;
}

static int signals(void)
{
    return in_runtime(signals_task);
}

/* ---- names */

static int resolve_task(void *arg)
{
    weft_addr a[16];
    char text[64] = "";
    (void)arg;
    int n = weft_resolve("localhost:80", a, 16);
    bool found = false;
    for (int i = 0; i < n; i++) {
        weft_addr_text(&a[i], text, sizeof text);
        found = found || strcmp(text, "127.0.0.1:80") == 0 || strcmp(text, "[::1]:80") == 0;
    }
    if (n >= 0 && !found)
        wrong("localhost is at %s", text);
    if (n < 0 || weft_addr_parse(&a[0], "127.0.0.1:80") < 0)
        return n;
    n = weft_resolve_name(&a[0], text, sizeof text);
    if (n >= 0 && strncmp(text, "localhost", 9) != 0)
        wrong("127.0.0.1 is %s", text);
    return n;
}

static int resolve(void)
{
    return in_runtime(resolve_task);
}

/* ---- what was there at the start: a listener, somebody who waits to hear that it is ready */

static void make_listener(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const struct sockaddr_un u = socket_file("notify");
    given[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (given[0] < 0 || bind(given[0], (const struct sockaddr *)(const void *)&a, sizeof a) < 0 || listen(given[0], 5) < 0)
        abort();
    if (given[0] != 3 && (dup2(given[0], 3) != 3 || close(given[0]) < 0))
        abort();
    given[1] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (given[1] < 0 || bind(given[1], (const struct sockaddr *)(const void *)&u, sizeof u) < 0)
        abort();
    setenv("NOTIFY_SOCKET", u.sun_path, 1);
}

static void after_inherited(int rc)
{
    char buf[32] = "", path[128];
    long n = recv(given[1], buf, sizeof buf - 1, MSG_DONTWAIT);
    if (rc == 0 && (n != 7 || strcmp(buf, "READY=1") != 0))
        wrong("nobody was told that it is ready");
    unlink(in_folder(path, "notify"));
}

static int inherited_task(void *arg)
{
    struct meeting m = { .listener = weft_listen_inherited(NULL) };
    (void)arg;
    if (m.listener < 0)
        return m.listener;
    int rc = where_is(&m);
    if (rc >= 0)
        rc = both(host, guest, &m);
    return first_of(rc, rc < 0 ? 0 : weft_service_ready());
}

static int inherited(void)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    return in_runtime(inherited_task);
}

/* ---- calls on other threads */

static int add_one(void *arg)
{
    return ++*(int *)arg;
}

static int offload_task(void *arg)
{
    weft_lane *l;
    int n = 0;
    (void)arg;
    int rc = weft_blocking(add_one, &n);
    if (rc >= 0)
        rc = weft_blocking_copy(add_one, &n, sizeof n, NULL);
    if (rc < 0 || (rc = weft_lane_create(&l, NULL)) < 0)
        return rc;
    rc = weft_blocking_on(l, add_one, &n);
    weft_lane_destroy(&l);
    if (rc >= 0 && (rc != 3 || n != 3))
        wrong("%d calls were made", n);
    return rc;
}

static int offload(void)
{
    return in_runtime(offload_task);
}

/* ---- the same on plain threads, without any runtime */

static struct {
    struct meeting m;
    atomic_int shut;
    int rc;
} plain; /* of one meeting */

/* One of the two has failed: the other is not to wait for it. */
static void shut(void)
{
    if (atomic_exchange(&plain.shut, 1) == 0)
        weft_ignore(weft_close(plain.m.listener));
}

static void *plain_host(void *arg)
{
    plain.rc = host(&plain.m);
    if (plain.rc < 0)
        shut();
    return arg;
}

static int plain_tcp(void)
{
    pthread_t t;
    atomic_store(&plain.shut, 0);
    plain.rc = 0;
    plain.m.listener = weft_listen("127.0.0.1:0", NULL);
    if (plain.m.listener < 0)
        return plain.m.listener;
    int rc = where_is(&plain.m);
    if (rc < 0 || (rc = -pthread_create(&t, NULL, plain_host, NULL)) < 0) {
        shut();
        return rc;
    }
    rc = guest(&plain.m);
    if (rc < 0)
        shut();
    pthread_join(t, NULL);
    shut();
    return cause_of(first_of(rc, 0), plain.rc < 0 ? plain.rc : 0);
}

static int plain_store(void)
{
    return store_task(NULL);
}

static int plain_files(void)
{
    return files_task(NULL);
}

static int plain_process(void)
{
    return run_cat(NULL);
}

static int plain_pool(void)
{
    return pool_task(NULL);
}

static int plain_datagrams(void)
{
    return datagram_task(NULL);
}

/* ---- the same while a signal comes again and again, whose handler restarts no system call: EINTR as the kernel says it */

static atomic_int stormy;
static pthread_t in_storm;

static void on_storm(int signo)
{
    (void)signo;
}

static void *make_storm(void *arg)
{
    while (atomic_load(&stormy)) {
        pthread_kill(in_storm, SIGUSR1);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = 20000 }, NULL);
    }
    return arg;
}

static int storm(int (*run)(void))
{
    struct sigaction a = { .sa_handler = on_storm };
    pthread_t t;
    in_storm = pthread_self();
    sigaction(SIGUSR1, &a, NULL);
    atomic_store(&stormy, 1);
    int rc = -pthread_create(&t, NULL, make_storm, NULL);
    if (rc < 0)
        return rc;
    for (int i = 0; i < 5 && rc >= 0; i++)
        rc = run();
    atomic_store(&stormy, 0);
    pthread_join(t, NULL);
    if (rc == -EINTR)
        wrong("an interruption was passed on");
    return rc;
}

static int storm_files_once(void)
{
    int rc = files_task(NULL);
    char path[128];
    rmdir(in_folder(path, "made"));
    return rc;
}

static int storm_tcp(void)
{
    return storm(plain_tcp);
}

static int storm_files(void)
{
    return storm(storm_files_once);
}

static int storm_store(void)
{
    return storm(plain_store);
}

static int storm_process(void)
{
    return storm(plain_process);
}

static int storm_pool(void)
{
    return storm(plain_pool);
}

static int storm_datagrams(void)
{
    return storm(plain_datagrams);
}

/* ---- the time of day jumps by hours, each time that somebody asks: that changes nothing */

static int quick(void *arg)
{
    int64_t least = *(int64_t *)arg, began = weft_now();
    weft_scope s;
    weft_scope_begin(&s, least);
    int rc = weft_scope_end(&s, weft_sleep_until(WEFT_NEVER));
    if (rc != -ETIMEDOUT)
        wrong("a deadline ended with %d", rc);
    if (weft_now() - began < least)
        wrong("a deadline came too early");
    return weft_sleep(least);
}

static int clock_task(void *arg)
{
    int64_t least[8];
    weft_scope s;
    (void)arg;
    atomic_store(&jumping, 1);
    int64_t began = weft_now();
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(least); i++) {
        least[i] = weft_ms(1 + 4 * i);
        weft_spawn(&s, quick, &least[i]);
    }
    weft_interval tick = { .every = weft_ms(5) };
    int rc = 0;
    for (int i = 0; i < 4 && rc >= 0; i++)
        rc = weft_interval_wait(&tick);
    rc = weft_scope_end(&s, first_of(rc, 0));
    if (weft_now() - began > weft_sec(5))
        wrong("it took seconds");
    return rc;
}

static int clock_jumps(void)
{
    return in_runtime(clock_task);
}

/* ---- those that misbehave, once a call has failed */

static int two_files(int fds[2])
{
    char path[128];
    fds[0] = weft_fs_open(in_folder(path, "much"), O_RDONLY, 0);
    fds[1] = fds[0] < 0 ? fds[0] : weft_fs_open(path, O_RDONLY, 0);
    return fds[1];
}

static int leaks_task(void *arg)
{
    int fds[2], rc = two_files(fds);
    (void)arg;
    if (rc < 0)
        return rc; /* the first stays open */
    close_pair(fds);
    return 0;
}

static int leaks_on_error(void)
{
    return in_runtime(leaks_task);
}

static int swallows_task(void *arg)
{
    int fds[2], rc = two_files(fds);
    (void)arg;
    if (fds[0] >= 0) {
        weft_ignore(weft_fs_sync(fds[0])); /* and if it is not on the disk? */
        weft_ignore(weft_close(fds[0]));
    }
    if (rc >= 0)
        weft_ignore(weft_close(fds[1]));
    return rc;
}

static int swallows_on_error(void)
{
    return in_runtime(swallows_task);
}

static int hangs_task(void *arg)
{
    int fds[2], rc = two_files(fds);
    (void)arg;
    if (rc < 0)
        return weft_sleep_until(WEFT_NEVER);
    close_pair(fds);
    return 0;
}

static int hangs_on_error(void)
{
    return in_runtime(hangs_task);
}

static int loses_task(void *arg)
{
    static const char *const argv[] = { "/bin/sleep", "1", NULL };
    weft_process *p;
    char path[128];
    (void)arg;
    int rc = weft_process_open(&p, argv, NULL);
    if (rc < 0)
        return rc;
    int fd = weft_fs_open(in_folder(path, "much"), O_RDONLY, 0);
    if (fd < 0)
        return fd; /* the child goes on */
    weft_process_close(&p);
    return weft_close(fd);
}

static int loses_child_on_error(void)
{
    return in_runtime(loses_task);
}

static int corrupts_task(void *arg)
{
    char buf[64] = "", path[128];
    (void)arg;
    int fd = weft_fs_open(in_folder(path, "much"), O_RDONLY, 0);
    fill(buf, sizeof buf, fd < 0);
    expect("the file", buf, sizeof buf, 0);
    return fd < 0 ? fd : weft_close(fd);
}

static int corrupts_on_error(void)
{
    return in_runtime(corrupts_task);
}

static int aborts_task(void *arg)
{
    int fds[2], rc = two_files(fds);
    (void)arg;
    if (rc < 0)
        abort();
    close_pair(fds);
    return 0;
}

static int aborts_on_error(void)
{
    return in_runtime(aborts_task);
}

static int renames_task(void *arg)
{
    int fds[2], rc = two_files(fds);
    (void)arg;
    if (rc < 0)
        return -EDOM; /* what has that to do with it? */
    close_pair(fds);
    return 0;
}

static int confuses_on_error(void)
{
    return in_runtime(renames_task);
}

/* ---- all of them */

static const struct scenario {
    const char *name;
    int (*run)(void);
    void (*before)(void);  /* in the examiner: what the subject finds */
    void (*after)(int rc); /* in the examiner: what it made, and away with it */
    bool network;          /* names are asked for: in a network and with names of its own, so that nobody outside is asked */
} scenarios[] = {
    { "tcp", tcp, NULL, NULL, false },
    { "unix", unix_sockets, stale_socket, NULL, false },
    { "pair", pair, NULL, NULL, false },
    { "memory", memory, NULL, NULL, false },
#ifdef SCENARIO_TLS
    { "tls", tls, make_certificate, after_certificate, false },
    { "tls_memory", tls_memory, make_certificate, after_certificate, false },
#endif
    { "serve", serve, NULL, NULL, false },
    { "serve_name", serve_name, NULL, NULL, true },
    { "race", race, NULL, NULL, true },
    { "copy", copy, NULL, NULL, false },
    { "send_file", send_file, make_much, after_much, false },
    { "datagrams", datagrams, NULL, NULL, false },
    { "pass_fds", pass_fds, make_pipe, NULL, false },
    { "terminal", terminal, make_terminal, NULL, false },
    { "crowd", crowd, NULL, NULL, false },
    { "theft", theft, NULL, NULL, false },
    { "foreign", foreign, make_pipe_and_files, after_foreign, false },
    { "store", store, make_much, after_store, false },
    { "load", load, make_much, after_much, false },
    { "files", files, NULL, after_files, false },
    { "directory", directory, make_entries, after_directory, false },
    { "watch", watch, NULL, after_watch, false },
    { "process_run", process_run, NULL, NULL, false },
    { "process", process, NULL, NULL, false },
    { "process_pool", process_pool, NULL, NULL, false },
    { "process_kill", process_kill, make_pipe, NULL, false },
    { "signals", signals, NULL, NULL, false },
    { "resolve", resolve, NULL, NULL, true },
    { "inherited", inherited, make_listener, after_inherited, false },
    { "offload", offload, NULL, NULL, false },
    { "plain_tcp", plain_tcp, NULL, NULL, false },
    { "plain_store", plain_store, make_much, after_store, false },
    { "plain_files", plain_files, NULL, after_files, false },
    { "plain_process", plain_process, NULL, NULL, false },
    { "plain_process_pool", plain_pool, NULL, NULL, false },
    { "plain_datagrams", plain_datagrams, NULL, NULL, false },
    { "storm_tcp", storm_tcp, NULL, NULL, false },
    { "storm_store", storm_store, make_much, after_store, false },
    { "storm_files", storm_files, NULL, NULL, false },
    { "storm_process", storm_process, NULL, NULL, false },
    { "storm_process_pool", storm_pool, NULL, NULL, false },
    { "storm_datagrams", storm_datagrams, NULL, NULL, false },
    { "clock_jumps", clock_jumps, NULL, NULL, false },
    { "leaks_on_error", leaks_on_error, make_much, after_much, false },
    { "swallows_on_error", swallows_on_error, make_much, after_much, false },
    { "hangs_on_error", hangs_on_error, make_much, after_much, false },
    { "loses_child_on_error", loses_child_on_error, make_much, after_much, false },
    { "corrupts_on_error", corrupts_on_error, make_much, after_much, false },
    { "aborts_on_error", aborts_on_error, make_much, after_much, false },
    { "confuses_on_error", confuses_on_error, make_much, after_much, false },
};

static const struct scenario *scenario_named(const char *name)
{
    for (int i = 0; i < COUNT(scenarios); i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}

/* ---- the subject */

/* Names of its own. */
static bool own_hosts(void)
{
    char path[128];
    FILE *f = fopen(in_folder(path, "hosts"), "w");
    if (!f)
        return false;
    fputs("127.0.0.1 localhost\n127.0.0.1 both.test\n127.0.0.2 both.test\n", f);
    fclose(f);
    bool there = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount(path, "/etc/hosts", NULL, MS_BIND, NULL) == 0;
    unlink(path);
    return there;
}

/* A network with nothing but the loopback interface in it. */
static bool own_network(void)
{
    struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    const int spaces = CLONE_NEWNET | CLONE_NEWNS;
    if ((unshare(spaces) < 0 && unshare(CLONE_NEWUSER | spaces) < 0) || !own_hosts())
        return false;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &r) == 0;
    if (fd >= 0)
        close(fd);
    return up;
}

static void subject(const struct scenario *s)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    prctl(PR_SET_DUMPABLE, 1);
    setenv("PATH", "/nonexistent:/usr/bin", 1);
    if (s->network && !own_network()) {
        atomic_store(&shared->state, UNAVAILABLE);
        _exit(0);
    }
    atomic_store(&shared->state, WAITING);
    while (atomic_load(&shared->state) != GO)
        nap();
    shared->rc = s->run();
    snprintf(shared->text, sizeof shared->text, "%s", weft_error_text(shared->rc));
    if (weft_task_list(NULL, 0) != 0)
        wrong("tasks are left");
    if (atomic_load(&shared->real_time) != 0 && strncmp(s->name, "tls", 3) != 0) /* which certificates are valid by */
        wrong("the time of day was asked for");
    atomic_store(&shared->state, DONE);
    while (atomic_load(&shared->state) != QUIT)
        nap();
    _exit(0);
}

/* ---- the examiner */

static bool descriptors_of(pid_t pid, bool there[FDS_MOST])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    memset(there, 0, FDS_MOST * sizeof *there);
    if (!d)
        return false;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && atoi(e->d_name) < FDS_MOST)
            there[atoi(e->d_name)] = true;
    closedir(d);
    return true;
}

/* How many threads; the first beside the first goes to *other. */
static int threads_of(pid_t pid, int *other)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            n++;
            if (atoi(e->d_name) != pid)
                *other = atoi(e->d_name);
        }
    closedir(d);
    return n;
}

/* A thread that was detached, or joined, is listed for a moment longer; before that it has closed what was its own. */
static int settle(pid_t pid, int *other)
{
    int threads = threads_of(pid, other);
    for (int i = 0; i < 4000 && threads > 1; i++) {
        nap();
        threads = threads_of(pid, other);
    }
    return threads;
}

static int say_left(const char *what, int n, const char *file)
{
    char target[256] = "";
    long bytes = readlink(file, target, sizeof target - 1);
    printf("left %s %d %.*s\n", what, n, bytes > 0 ? (int)bytes : 0, target);
    return 1;
}

static int left_of(pid_t pid, const bool before[FDS_MOST])
{
    bool after[FDS_MOST];
    char path[128];
    int other = 0, left = 0;
    if (settle(pid, &other) > 1) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/exe", (int)pid, other);
        left += say_left("thread", other, path);
    }
    if (!descriptors_of(pid, after))
        wrong("it is gone");
    for (int fd = 0; fd < FDS_MOST; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        if (after[fd] && !before[fd])
            left += say_left("fd", fd, path);
        else if (before[fd] && !after[fd]) {
            printf("left without fd %d, which it was given\n", fd);
            left++;
        }
    }
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *f = fopen(path, "r");
    int child;
    while (f && fscanf(f, "%d", &child) == 1) {
        snprintf(path, sizeof path, "/proc/%d/exe", child);
        left += say_left("child", child, path);
        kill(child, SIGKILL);
    }
    if (f)
        fclose(f);
    return left;
}

/* What is still in the folder, and the folder. */
static int clear_folder(void)
{
    char path[512];
    int left = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (strcmp(e->d_name, "socket") != 0) { /* a listener's file outlives it */
            printf("left file %s\n", e->d_name);
            left++;
        }
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(folder);
    return left;
}

/* Until the subject is in that state, or over. False: it died, and what of is said. */
static bool await(pid_t pid, int state)
{
    int status;
    while (atomic_load(&shared->state) != state) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            if (WIFSIGNALED(status))
                printf("wrong: died of signal %d\n", WTERMSIG(status));
            else if (atomic_load(&shared->state) != UNAVAILABLE)
                printf("wrong: exited with %d\n", WEXITSTATUS(status));
            return false;
        }
        nap();
    }
    return true;
}

static int verdict(const struct scenario *s, pid_t pid, const bool before[FDS_MOST])
{
    int left = left_of(pid, before), rc = shared->rc;
    atomic_store(&shared->state, QUIT);
    waitpid(pid, NULL, 0);
    if (s->after)
        s->after(rc < 0 ? rc : 0);
    left += clear_folder();
    if (atomic_load(&shared->wrongs) > 0)
        printf("wrong: %s\n", shared->wrong);
    if (rc < 0)
        printf("error %d %s\n", rc, shared->text);
    else
        printf("ok\n");
    return left > 0 || atomic_load(&shared->wrongs) > 0 ? EXIT_WRONG : rc < 0 ? EXIT_TOLD : 0;
}

static int examine(const struct scenario *s, bool wait)
{
    bool before[FDS_MOST];
    int line;
    if (s->before)
        s->before();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        subject(s);
    bool there = pid > 0 && await(pid, WAITING);
    if (there) {
        printf("subject %d\n", (int)pid);
        fflush(stdout);
        while (wait && (line = getchar()) != EOF && line != '\n')
            continue;
        there = descriptors_of(pid, before);
    }
    if (there) {
        atomic_store(&shared->state, GO);
        there = await(pid, DONE);
    }
    if (there)
        return verdict(s, pid, before);
    if (s->after)
        s->after(-EIO);
    clear_folder();
    return atomic_load(&shared->state) == UNAVAILABLE ? EXIT_SKIPPED : EXIT_WRONG;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return weft_process_pool_serve(answer_pool, NULL) < 0;
    const struct scenario *s = argc > 1 ? scenario_named(argv[1]) : NULL;
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < COUNT(scenarios); i++)
            puts(scenarios[i].name);
        return 0;
    }
    bool wait = argc > 2 && strcmp(argv[2], "--wait") == 0;
    if (!s || argc > 3 || (argc == 3 && !wait)) {
        fprintf(stderr, "use: scenarios list | scenarios NAME [--wait]\n");
        return EXIT_USAGE;
    }
    if (getenv("SCENARIO_WORKERS"))
        workers = atoi(getenv("SCENARIO_WORKERS"));
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/inject-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !mkdtemp(folder)) {
        perror("scenarios");
        return EXIT_USAGE;
    }
    return examine(s, wait);
}
