/* process_pool_test.c - calls that worker processes answer: from tasks and plain threads, by workers that do as they should
 * and by others; and what is left of them, which is nothing. The workers are this program: see worker(). */
#include "sync_support.h"

#include <inttypes.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "os/process.h"

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define WORKER ARGS("/proc/self/exe", "--worker")
#define WORKER_THAT(...) ARGS("/proc/self/exe", "--worker", __VA_ARGS__)

/* ---- the workers */

static void append_to(const char *path, char c)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, &c, 1) != 1)
        _exit(99);
    close(fd);
}

/* Closes what it talks by, and lives on. */
static void hang_up(void)
{
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    for (;;)
        pause();
}

/* Leaves all it has to a process of its own. */
static void die_with_a_child(void)
{
    if (fork() == 0)
        for (;;)
            pause();
    kill(getpid(), SIGKILL);
}

/* By the first byte of the request. */
static int handle(const void *request, size_t bytes, weft_process_answer *a, void *arg)
{
    static int calls;
    const char *text = request, *rest = text + 1;
    char said[64];
    struct rlimit most;
    (void)arg;
    calls++;
    if (bytes == 0)
        return 77;
    switch (text[0]) {
    case '=': /* the same again, in two pieces */
        if (weft_process_answer_add(a, rest, (bytes - 1) / 2) < 0 ||
                weft_process_answer_add(a, rest + (bytes - 1) / 2, bytes - 1 - (bytes - 1) / 2) < 0)
            return -ENOMEM;
        return rest[bytes - 1] == 0 ? 0 : -EILSEQ;
    case 'p':
        return getpid();
    case 'o': /* which call this is */
        return calls;
    case 'n': /* a result, and bytes with it */
        if (weft_process_answer_add(a, "some", 4) < 0)
            return -ENOMEM;
        return atoi(rest);
    case 't': /* with a text */
        return weft_fail(atoi(rest), "no\tway:\n%s", rest);
    case 'l': /* a long one */
        return weft_fail(-ERANGE, "%0120d", 7);
    case 'v': /* what it was given */
        snprintf(said, sizeof said, "%s", getenv(rest) ? getenv(rest) : "none");
        return weft_process_answer_add(a, said, strlen(said));
    case 'r':
        return getrlimit(RLIMIT_NOFILE, &most) == 0 ? (int)most.rlim_cur : -EILSEQ;
    case 'P':
        printf("this is no answer\n");
        fflush(stdout);
        return system("echo nor is this; cat") == 0 && getchar() == EOF ? 5 : -EILSEQ;
    case 'z':
        for (;;)
            pause();
    case 'k':
        return kill(getpid(), SIGKILL);
    case 'a':
        abort();
    case 'x':
        exit(atoi(rest));
    case 'c':
        hang_up();
        break;
    case 'g':
        die_with_a_child();
        break;
    default:
        break;
    }
    return -ENOSYS;
}

static void write_out(const void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t some = write(1, (const char *)data + done, n - done);
        if (some <= 0)
            _exit(98);
        done += (size_t)some;
    }
}

/* A request without a look at it; false: there are no more. */
static bool skip_request(void)
{
    unsigned char head[4], byte;
    if (read(0, head, 4) != 4)
        return false;
    for (uint32_t n = weft__get32(head); n > 0; n--)
        if (read(0, &byte, 1) != 1)
            return false;
    return true;
}

static void answer_by_hand(uint32_t length, int result, const char *more, size_t bytes)
{
    char frame[256];
    weft__put32((unsigned char *)frame, length);
    weft__put32((unsigned char *)frame + 4, (uint32_t)result);
    if (bytes > 0)
        memcpy(frame + 8, more, bytes);
    write_out(frame, 8 + bytes);
}

/* Until the pipe is empty. */
static void wait_until_read(void)
{
    for (int n = 1; n > 0; usleep(100))
        if (ioctl(1, FIONREAD, &n) < 0)
            _exit(96);
}

/* Workers that do not as they should. The third word is a file that hears of each start. */
static int misbehave(const char *how, const char *log)
{
    static const char frame[] = "\0\0\0\7\0\0\0\5abc";
    static char much[1 << 20];
    if (log)
        append_to(log, 's');
    if (strcmp(how, "ends") == 0)
        return 3;
    if (strcmp(how, "early") == 0) { /* and never reads */
        answer_by_hand(4 + sizeof much, 0, NULL, 0);
        write_out(much, sizeof much);
        for (;;)
            pause();
    }
    if (strcmp(how, "mute") == 0) {
        close(1);
        for (;;)
            pause();
    }
    while (skip_request()) {
        if (strcmp(how, "garbage") == 0)
            write_out("Traceback (most recent call last):\n", 35);
        else if (strcmp(how, "huge") == 0)
            answer_by_hand(UINT32_MAX, 0, NULL, 0);
        else if (strcmp(how, "long") == 0)
            answer_by_hand(4 + 1001, 0, NULL, 0);
        else if (strcmp(how, "short") == 0)
            answer_by_hand(3, 0, NULL, 0);
        else if (strcmp(how, "bad result") == 0)
            answer_by_hand(4, -4096, NULL, 0);
        else if (strcmp(how, "more") == 0)
            answer_by_hand(4 + 2, 0, "abc", 3);
        else if (strcmp(how, "half a head") == 0)
            return write_out("\0\0\0", 3), 4;
        else if (strcmp(how, "half") == 0)
            return answer_by_hand(4 + 100, 0, "0123456789", 10), 4;
        else if (strcmp(how, "in pieces") == 0)
            for (int i = 0; i < 11; i++)
                usleep(1000), write_out(&frame[i], 1);
        else if (strcmp(how, "once") == 0)
            answer_by_hand(4, getpid(), NULL, 0), _exit(0);
        else if (strcmp(how, "afterwards") == 0)
            answer_by_hand(4, getpid(), NULL, 0), wait_until_read(), write_out("no", 2), raise(SIGSTOP);
        else
            return 97;
    }
    return 0;
}

/* How it was started: nothing, handles; "exit FILE" handles, and says so at its end; "stays" handles, and does not leave at
 * the end; else misbehaves. */
static int worker(int argc, char **argv)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    const char *how = argc > 2 ? argv[2] : "";
    if (how[0] && strcmp(how, "exit") != 0 && strcmp(how, "stays") != 0)
        return misbehave(how, argc > 3 ? argv[3] : NULL);
    int rc = weft_process_pool_serve(handle, NULL);
    if (strcmp(how, "exit") == 0)
        append_to(argv[3], rc == 0 ? 'e' : '?');
    while (strcmp(how, "stays") == 0)
        pause();
    return -rc;
}

/* ---- what is left */

NOINLINE static bool no_children(void)
{
    siginfo_t si;
    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

NOINLINE static bool is_gone(int pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

/* Runs the body as a task of 1, 2 and 4 workers, and on a plain thread; nothing is left. */
NOINLINE static void everywhere(weft_fn *body, void *arg, int i)
{
    int before = descriptors_now();
    atomic_store(&wrongs, 0);
    int rc = i < COUNT(workers) ? weft_run(body, arg, QUIETLY_ON(workers[i])) : body(arg);
    NOTHING_WRONG();
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert(no_children());
}
#define PLACES (COUNT(workers) + 1)

NOINLINE static weft_process_pool *pool_of(const char *const *argv, weft_process_pool_options o)
{
    weft_process_pool *p = NULL;
    MUST(weft_process_pool_open(&p, argv, &o) == 0);
    return p;
}

static int ask(weft_process_pool *p, const char *request)
{
    return weft_process_pool_call(p, request, strlen(request), NULL, NULL);
}

/* ---- answers */

static int echoes(void *arg)
{
    static const size_t sizes[] = { 0, 1, 4087, 4088, 4089, 65536, 1 << 20 };
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1 });
    char *request = malloc((1 << 20) + 1);
    (void)arg;
    request[0] = '=';
    for (int i = 0; i < COUNT(sizes); i++) {
        char *answer = NULL;
        size_t n = 77;
        for (size_t k = 0; k < sizes[i]; k++)
            request[1 + k] = (char)(k * 7 + k / 251);
        MUST(weft_process_pool_call(p, request, 1 + sizes[i], &answer, &n) == 0);
        MUST(n == sizes[i] && answer && memcmp(answer, request + 1, n) == 0 && answer[n] == 0);
        weft_free(answer);
    }
    free(request);
    char *answer = NULL;
    MUST(weft_process_pool_call(p, "n12", 3, &answer, NULL) == 12 && answer && strcmp(answer, "some") == 0);
    weft_free(answer);
    MUST(weft_process_pool_call(p, NULL, 0, NULL, NULL) == 77);
    MUST(ask(p, "n2147483647") == INT_MAX);
    MUST(ask(p, "o") == COUNT(sizes) + 4); /* all were one worker's */
    weft_process_pool_close(&p);
    MUST(p == NULL);
    weft_process_pool_close(&p);
    weft_process_pool_close(NULL);
    return 0;
}

START_TEST(an_answer_comes_back_whole)
{
    everywhere(echoes, NULL, _i);
}
END_TEST

static int handlers_fail(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1 });
    char *answer = (char *)arg;
    size_t n = 77;
    int pid = ask(p, "p");
    MUST(weft_process_pool_call(p, "n-5", 3, &answer, &n) == -EIO && answer == arg && n == 77);
    MUST(strcmp(weft_error_text(-EIO), weft_strerror(-EIO)) == 0);
    MUST(ask(p, "t-22") == -EINVAL && strcmp(weft_error_text(-EINVAL), "no?way:?-22") == 0);
    MUST(ask(p, "n-22") == -EINVAL && strcmp(weft_error_text(-EINVAL), weft_strerror(-EINVAL)) == 0); /* not the text before */
    MUST(ask(p, "t-32") == -EPIPE && strcmp(weft_error_text(-EPIPE), "no?way:?-32") == 0);
    MUST(ask(p, "l") == -ERANGE && strlen(weft_error_text(-ERANGE)) == 107);
    MUST(ask(p, "n-4095") == -4095);
    MUST(ask(p, "p") == pid); /* it is none the worse for it */
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(an_error_of_a_handler_comes_back_with_its_text)
{
    char nothing = 0;
    everywhere(handlers_fail, &nothing, _i);
}
END_TEST

static int prints(void *arg)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1, .process = { .err = null } });
    (void)arg;
    int pid = ask(p, "p");
    MUST(ask(p, "P") == 5 && ask(p, "P") == 5 && ask(p, "p") == pid);
    weft_process_pool_close(&p);
    close(null);
    return 0;
}

START_TEST(what_a_handler_prints_or_starts_is_taken_for_no_answer)
{
    everywhere(prints, NULL, _i);
}
END_TEST

static int keeps_its_command(void *arg)
{
    char program[] = "/proc/self/exe", how[] = "--worker", value[] = "WEFT_POOL=seven", *answer = NULL;
    const char *argv[] = { program, how, NULL }, *env[] = { value, NULL };
    char cwd[] = "/";
    weft_rlimit limits[] = { { RLIMIT_NOFILE, 60, 61 }, { RLIMIT_CORE, 0, 0 } };
    weft_process_pool_options o = { .workers = 2,
        .process = { .env = env, .cwd = cwd, .limits = limits, .limits_n = COUNT(limits) } };
    weft_process_pool *p = NULL;
    (void)arg;
    MUST(weft_process_pool_open(&p, argv, &o) == 0);
    memset(program, 'x', sizeof program - 1);
    memset(how, 'x', sizeof how - 1);
    memset(value, 'x', sizeof value - 1);
    memset(cwd, 'x', sizeof cwd - 1);
    memset(limits, 0xff, sizeof limits);
    argv[0] = env[0] = NULL;
    memset(&o, 0xff, sizeof o);
    MUST(weft_process_pool_call(p, "vWEFT_POOL", 10, &answer, NULL) == 0 && answer && strcmp(answer, "seven") == 0);
    weft_free(answer);
    MUST(ask(p, "r") == 60);
    MUST(weft_process_pool_call(p, "vPATH", 5, &answer, NULL) == 0 && strcmp(answer, "none") == 0);
    weft_free(answer);
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(what_later_starts_need_is_copied)
{
    everywhere(keeps_its_command, NULL, _i);
}
END_TEST

START_TEST(bad_arguments_are_told)
{
    weft_process_pool *p = NULL;
    static const weft_process_pool_options bad[] = { { .workers = -1 }, { .workers = 1025 }, { .leave_grace = -1 },
        { .request_limit = UINT32_MAX }, { .answer_limit = UINT32_MAX - 3 }, { .process = { .in = WEFT_STDIO_PIPE } },
        { .process = { .out = WEFT_STDIO_NULL } }, { .process = { .term_grace = -1 } }, { .process = { .reserved = { 1 } } },
        { .reserved = { 1 } } };
    for (int i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(weft_process_pool_open(&p, WORKER, &bad[i]), -EINVAL);
    ck_assert_int_eq(weft_process_pool_open(NULL, WORKER, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_pool_open(&p, NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_pool_open(&p, (const char *const[]){ NULL }, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_pool_open(&p, ARGS(""), NULL), -EINVAL);
    ck_assert_ptr_null(p);
    ck_assert_int_eq(weft_process_pool_call(NULL, "p", 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_pool_open(&p, WORKER, NULL), 0);
    ck_assert_int_eq(weft_process_pool_call(p, NULL, 1, NULL, NULL), -EINVAL);
    weft_process_pool_close(&p);
    ck_assert_int_eq(weft_process_pool_serve(NULL, NULL), -EINVAL);
    ck_assert_int_eq(weft_process_answer_add(NULL, "", 0), -EINVAL);
    ck_assert(no_children());
}
END_TEST

/* ---- the worker's side, as whoever writes one in another language finds it */

static int serves_bytes(void *arg)
{
    static const struct {
        const char *in, *out;
        size_t in_bytes, out_bytes;
        int status;
    } cases[] = { { "", "", 0, 0, 0 }, { "\0\0\0\0", "\0\0\0\4\0\0\0\115", 4, 8, 0 },
        { "\0\0\0\4=abc\0\0\0\3n-2", "\0\0\0\7\0\0\0\0abc\0\0\0\4\377\377\377\376", 15, 19, 0 },
        { "\0\0\0\3t-2", "\0\0\0\16\377\377\377\376no\tway:\n-2", 7, 18, 0 }, { "\0\0", "", 2, 0, ENODATA },
        { "\0\0\0\4", "", 4, 0, ENODATA }, { "\0\0\0\4=ab", "", 7, 0, ENODATA } };
    (void)arg;
    for (int i = 0; i < COUNT(cases); i++) {
        weft_output r = { .status = 99 };
        MUST(weft_process_run(&r, WORKER, cases[i].in, cases[i].in_bytes, 0, NULL) == 0);
        MUST(r.status == cases[i].status && r.out_bytes == cases[i].out_bytes);
        MUST(r.out && r.out_bytes == cases[i].out_bytes && memcmp(r.out, cases[i].out, cases[i].out_bytes) == 0);
        weft_output_free(&r);
    }
    return 0;
}

START_TEST(a_worker_reads_and_writes_what_the_header_says)
{
    everywhere(serves_bytes, NULL, _i);
}
END_TEST

/* ---- many callers */

enum { MANY = 40, FEW = 3 };

struct many {
    weft_process_pool *p;
    struct id_set pids;
};

static int one_of_many(void *arg)
{
    struct many *m = arg;
    for (int i = 0; i < 4; i++) {
        char request[32], *answer = NULL;
        snprintf(request, sizeof request, "=%d of %" PRIu64, i, (uint64_t)weft_task_self());
        MUST(weft_process_pool_call(m->p, request, strlen(request), &answer, NULL) == 0);
        MUST(answer && strcmp(answer, request + 1) == 0);
        weft_free(answer);
        id_set_add(&m->pids, ask(m->p, "p"));
    }
    return 0;
}

static int many_callers(void *arg)
{
    struct many m = { .pids = ID_SET_INIT };
    weft_scope s;
    (void)arg;
    m.p = pool_of(WORKER, (weft_process_pool_options){ .workers = FEW });
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < SCALED(MANY, 20, 12); i++)
        weft_spawn(&s, one_of_many, &m);
    MUST(weft_scope_end(&s, 0) == 0);
    MUST(atomic_load(&m.pids.n) >= 1 && atomic_load(&m.pids.n) <= FEW);
    weft_process_pool_close(&m.p);
    return 0;
}

START_TEST(more_callers_than_workers_are_answered_each_by_its_own)
{
    everywhere(many_callers, NULL, _i % COUNT(workers));
}
END_TEST

START_TEST(tasks_of_two_runtimes_and_plain_threads_share_a_pool)
{
    struct many m = { .pids = ID_SET_INIT };
    int before = descriptors_now();
    m.p = pool_of(WORKER, (weft_process_pool_options){ .workers = FEW });
    run_crowd(one_of_many, &m, workers[_i]);
    ck_assert_int_le(atomic_load(&m.pids.n), FEW);
    int pid = ask(m.p, "p");
    ck_assert_int_gt(pid, 0); /* both runtimes are gone */
    weft_process_pool_close(&m.p);
    ck_assert(no_children());
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* ---- a worker that is held */

NOINLINE static void hold(int pid)
{
    siginfo_t si = { .si_pid = 0 };
    MUST(pid > 0 && kill(pid, SIGSTOP) == 0 && waitid(P_PID, (id_t)pid, &si, WSTOPPED) == 0);
}

NOINLINE static void let_go(int pid)
{
    MUST(pid > 0 && kill(pid, SIGCONT) == 0);
}

static int ask_which(void *p)
{
    return ask(p, "o");
}
static int ask_pid(void *p)
{
    return ask(p, "p");
}
static int ask_killed(void *p)
{
    return ask(p, "k");
}
static int ask_for_ever(void *p)
{
    return ask(p, "z");
}

static int in_order(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1 });
    struct caller c[6];
    weft_scope s;
    (void)arg;
    int pid = ask(p, "p");
    hold(pid);
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < COUNT(c); i++)
        MUST(put_to_sleep(&s, &c[i], ask_which, p));
    MUST(weft_task_cancel(c[3].task, "test") == 0); /* who leaves the queue takes nothing */
    MUST(result(&c[3]) == -ECANCELED);
    let_go(pid);
    for (int i = 0, which = 2; i < COUNT(c); i++)
        if (i != 3)
            MUST(result(&c[i]) == which++);
    MUST(weft_scope_end(&s, 0) == 0);
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(who_waits_for_a_worker_is_served_in_turn)
{
    everywhere(in_order, NULL, _i % COUNT(workers));
}
END_TEST

/* ---- crashes */

static int crashes(void *arg)
{
    static const struct {
        const char *request, *text;
    } cases[] = { { "k", "was ended by signal 9" }, { "a", "was ended by signal 6" }, { "x7", "has exited with 7" },
        { "x0", "has exited with 0" }, { "c", "has closed its input or output" }, { "g", "was ended by signal 9" } };
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1, .process = { .new_group = true } });
    (void)arg;
    for (int i = 0; i < COUNT(cases); i++) {
        char *answer = NULL;
        int pid = ask(p, "p");
        MUST(pid > 0);
        MUST(weft_process_pool_call(p, cases[i].request, strlen(cases[i].request), &answer, NULL) == -EPIPE && !answer);
        MUST(strstr(weft_error_text(-EPIPE), cases[i].text) != NULL);
        MUST(is_gone(pid));
        int next = ask(p, "p");
        MUST(next > 0 && next != pid);
    }
    weft_process_pool_close(&p);
    return 0;
}

/* */
START_TEST(a_call_whose_worker_crashes_is_told_and_the_next_one_gets_another)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* the grandchild of "g" is this process's to reap */
    int before = descriptors_now(), status;
    atomic_store(&wrongs, 0);
    ck_assert_int_eq(_i < COUNT(workers) ? weft_run(crashes, NULL, QUIETLY_ON(workers[_i])) : crashes(NULL), 0);
    NOTHING_WRONG();
    ck_assert_int_eq(descriptors_now(), before);
    ck_assert_int_gt(waitpid(-1, &status, 0), 0);
    ck_assert(WIFSIGNALED(status) && no_children());
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}
END_TEST

/* One crashes, and one is cancelled, while others have calls. */
static int crash_beside(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 4 });
    struct caller held[2], crashed, left;
    int pid[2];
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 2; i++) {
        pid[i] = ask(p, "p"); /* the last one that was used */
        hold(pid[i]);
        MUST(put_to_sleep(&s, &held[i], ask_pid, p));
    }
    MUST(put_to_sleep(&s, &left, ask_for_ever, p));
    put_to_sleep(&s, &crashed, ask_killed, p);
    MUST(result(&crashed) == -EPIPE);
    MUST(weft_task_cancel(left.task, "test") == 0 && result(&left) == -ECANCELED);
    MUST(ask(p, "k") == -EPIPE && ask(p, "p") > 0);
    for (int i = 0; i < 2; i++) {
        MUST(still_waits(&held[i]));
        let_go(pid[i]);
        MUST(result(&held[i]) == pid[i]);
    }
    MUST(weft_scope_end(&s, 0) == 0);
    weft_process_pool_close(&p);
    return 0;
}

/* */
START_TEST(a_crash_is_nobody_elses)
{
    everywhere(crash_beside, NULL, _i % COUNT(workers));
}
END_TEST

static int dies_idle(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 2 });
    weft_process_pool *once = pool_of(WORKER_THAT("once"), (weft_process_pool_options){ .workers = 1 });
    siginfo_t si;
    (void)arg;
    for (int i = 0, before = 0; i < SCALED(50, 20, 10); i++) { /* the answer counts, however soon the end comes */
        int pid = ask(once, "p");
        MUST(pid > 0 && pid != before && waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) == 0);
        before = pid;
    }
    weft_process_pool_close(&once);
    for (int i = 0; i < 3; i++) {
        int pid = ask(p, "p");
        MUST(pid > 0 && kill(pid, SIGKILL) == 0 && waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) == 0);
        int next = ask(p, "p");
        MUST(next > 0 && next != pid && is_gone(pid));
    }
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(who_ends_while_idle_is_replaced_and_no_call_hears_of_it)
{
    everywhere(dies_idle, NULL, _i);
}
END_TEST

/* ---- workers that misbehave */

static char file[64];

static int starts(void)
{
    struct stat st;
    int n = stat(file, &st) == 0 ? (int)st.st_size : 0;
    unlink(file);
    return n;
}

static int misbehaves(void *arg)
{
    static const struct {
        const char *how, *text;
        int rc;
        size_t request;
        int starts; /* by three calls */
    } cases[] = { { "garbage", "the limit is 1000", -EMSGSIZE, 1, 3 }, { "huge", "4294967291 bytes", -EMSGSIZE, 1, 3 },
        { "long", "1001 bytes, and the limit is 1000", -EMSGSIZE, 1, 3 }, { "short", "no result", -EPROTO, 1, 3 },
        { "bad result", "no error number", -EPROTO, 1, 3 }, { "more", "more than its answer", -EPROTO, 1, 3 },
        { "half a head", "has exited with 4, after 3 bytes", -EPIPE, 1, 3 },
        { "half", "has exited with 4, after 18 bytes", -EPIPE, 1, 3 }, { "in pieces", NULL, 5, 1, 1 },
        { "ends", "has exited with 3", -EPIPE, 1, 3 },
        { "ends", "has exited with 3", -EPIPE, 1 << 20, 3 }, { "mute", "has closed its", -EPIPE, 1, 3 },
        { "mute", "has closed its", -EPIPE, 1 << 20, 3 } };
    char *request = calloc(1, 1 << 20);
    (void)arg;
    for (int i = 0; i < COUNT(cases); i++) {
        weft_process_pool *p =
                pool_of(WORKER_THAT(cases[i].how, file), (weft_process_pool_options){ .workers = 2, .answer_limit = 1000 });
        for (int k = 0; k < 3; k++) {
            char *answer = NULL;
            int rc = weft_process_pool_call(p, request, cases[i].request, &answer, NULL);
            MUST(rc == cases[i].rc && (answer != NULL) == (rc > 0));
            MUST(rc > 0 || strstr(weft_error_text(rc), cases[i].text) != NULL);
            MUST(rc <= 0 || strcmp(answer, "abc") == 0);
            weft_free(answer);
        }
        weft_process_pool_close(&p);
        MUST(starts() == cases[i].starts);
    }
    free(request);
    return 0;
}

START_TEST(what_is_no_answer_is_told_and_starts_one_worker_for_each_call)
{
    snprintf(file, sizeof file, "/tmp/weft-pool-%d-starts", (int)getpid());
    everywhere(misbehaves, NULL, _i);
}
END_TEST

static int goes_on(void *arg)
{
    weft_process_pool *p = pool_of(WORKER_THAT("afterwards"), (weft_process_pool_options){ .workers = 1, .leave_grace = 1 });
    siginfo_t si;
    int before = 0;
    (void)arg;
    for (int i = 0; i < 3; i++) {
        int pid = ask(p, "p");
        MUST(pid > 0 && pid != before && waitid(P_PID, (id_t)pid, &si, WSTOPPED) == 0);
        before = pid;
    }
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(who_says_more_after_its_answer_is_not_asked_again)
{
    everywhere(goes_on, NULL, _i);
}
END_TEST

static int answers_early(void *arg)
{
    weft_process_pool *p = pool_of(WORKER_THAT("early"), (weft_process_pool_options){ .workers = 1 });
    char *request = calloc(1, 1 << 20);
    (void)arg;
    MUST(weft_process_pool_call(p, request, 1 << 20, NULL, NULL) == -EPROTO);
    MUST(strstr(weft_error_text(-EPROTO), "before") != NULL);
    weft_process_pool_close(&p);
    free(request);
    return 0;
}

START_TEST(who_answers_too_early_is_not_waited_for)
{
    everywhere(answers_early, NULL, _i);
}
END_TEST

static int passes_limits(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1, .request_limit = 5, .answer_limit = 3 });
    (void)arg;
    int pid = ask(p, "p");
    MUST(ask(p, "=abc") == 0);
    MUST(ask(p, "=abcde") == -EMSGSIZE && ask(p, "p") == pid); /* it has not heard of it */
    MUST(ask(p, "=abcd") == -EMSGSIZE && is_gone(pid) && ask(p, "p") > 0);
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(longer_than_a_limit_is_told)
{
    everywhere(passes_limits, NULL, _i);
}
END_TEST

static int cannot_start(void *arg)
{
    static const struct {
        const char *program, *cwd;
        int rc;
    } cases[] = { { "/nonexistent/program", NULL, -ENOENT }, { "/dev/null", NULL, -EACCES },
        { "/proc/self/exe", "/nonexistent", -ENOENT }, { "/proc/self/exe", "/dev/null", -ENOTDIR } };
    (void)arg;
    for (int i = 0; i < COUNT(cases); i++) {
        weft_process_pool_options o = { .workers = 1, .process = { .cwd = cases[i].cwd } };
        weft_process_pool *p = pool_of(ARGS(cases[i].program, "--worker"), o);
        for (int k = 0; k < 3; k++) {
            MUST(ask(p, "p") == cases[i].rc);
            MUST(strstr(weft_error_text(cases[i].rc), "no worker was started") != NULL);
        }
        weft_process_pool_close(&p);
    }
    return 0;
}

START_TEST(a_program_that_cannot_be_run_is_told_to_who_calls)
{
    everywhere(cannot_start, NULL, _i);
}
END_TEST

/* ---- callers that leave */

static int leaves(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1 });
    weft_scope s;
    (void)arg;
    int pid = ask(p, "p");
    for (int i = 0; i < 3; i++) {
        weft_scope_begin(&s, weft_ms(20));
        int rc = ask(p, "z");
        MUST(rc == -ECANCELED);
        MUST(weft_scope_end(&s, rc) == -ETIMEDOUT);
        int next = ask(p, "p");
        MUST(is_gone(pid) && next > 0 && next != pid);
        pid = next;
        /* Who was told before has asked nothing. */
        weft_scope_begin(&s, WEFT_NEVER);
        weft_scope_cancel(&s, "test");
        MUST(ask(p, "z") == -ECANCELED);
        weft_ignore(weft_scope_end(&s, 0));
        MUST(ask(p, "p") == pid);
    }
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(who_leaves_before_the_answer_ends_the_worker)
{
    everywhere(leaves, NULL, _i);
}
END_TEST

/* At any moment, so that an answer may be under way. */
static int leaves_at_any_time(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 2 });
    (void)arg;
    for (int i = 0; i < SCALED(60, 30, 10); i++) {
        char request[16], *answer = NULL;
        weft_scope s;
        weft_scope_begin(&s, i * 5000);
        int rc = ask(p, "=not this");
        weft_ignore(weft_scope_end(&s, rc));
        MUST(rc == 0 || rc == -ECANCELED);
        snprintf(request, sizeof request, "=this %d", i);
        MUST(weft_process_pool_call(p, request, strlen(request), &answer, NULL) == 0 && strcmp(answer, request + 1) == 0);
        weft_free(answer);
    }
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(nobody_gets_the_answer_of_one_who_left)
{
    everywhere(leaves_at_any_time, NULL, _i);
}
END_TEST

/* ---- how workers leave */

static int replaced(void *arg)
{
    weft_process_pool *p =
            pool_of(WORKER_THAT("exit", file), (weft_process_pool_options){ .workers = 1, .max_calls = 3, .leave_grace = LIMIT });
    int pid = 0;
    (void)arg;
    for (int i = 0; i < 7; i++) {
        int next = ask(p, "p");
        MUST(next > 0 && (next == pid) == (i % 3 != 0));
        MUST(i % 3 != 0 || pid == 0 || is_gone(pid));
        pid = next;
    }
    weft_process_pool_close(&p);
    char ends[8] = "";
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    MUST(read(fd, ends, 7) == 3 && strcmp(ends, "eee") == 0); /* each came to its own end */
    close(fd);
    MUST(starts() == 3);
    return 0;
}

START_TEST(a_worker_is_replaced_after_so_many_calls)
{
    snprintf(file, sizeof file, "/tmp/weft-pool-%d-ends", (int)getpid());
    everywhere(replaced, NULL, _i);
}
END_TEST

static int stays(void *arg)
{
    weft_process_pool_options o = { .workers = 3, .leave_grace = weft_ms(20), .process = { .term_grace = weft_ms(20) } };
    weft_process_pool *p = pool_of(WORKER_THAT("stays"), o);
    struct caller c[3];
    int pid[3];
    weft_scope s;
    (void)arg;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 3; i++) {
        pid[i] = ask(p, "p");
        hold(pid[i]);
        MUST(put_to_sleep(&s, &c[i], ask_pid, p));
    }
    for (int i = 0; i < 3; i++) {
        let_go(pid[i]);
        MUST(result(&c[i]) == pid[i]);
    }
    MUST(weft_scope_end(&s, 0) == 0);
    hold(pid[1]); /* a stopped one hears of nothing */
    int64_t begun = weft_now();
    weft_process_pool_close(&p);
    MUST(weft_now() - begun >= weft_ms(20));
    for (int i = 0; i < 3; i++)
        MUST(is_gone(pid[i]));
    return 0;
}

START_TEST(workers_that_do_not_leave_are_ended)
{
    everywhere(stays, NULL, _i % COUNT(workers));
}
END_TEST

/* ---- close */

static int close_it(void *p)
{
    weft_process_pool_close(p);
    return 0;
}

static int closed_while_called(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1 }), *closing = p;
    struct caller has, waits, closer;
    weft_scope s;
    (void)arg;
    int pid = ask(p, "p");
    hold(pid);
    weft_scope_begin(&s, LIMIT);
    MUST(put_to_sleep(&s, &has, ask_pid, p));
    MUST(put_to_sleep(&s, &waits, ask_pid, p));
    MUST(put_to_sleep(&s, &closer, close_it, &closing));
    MUST(closing == NULL && still_waits(&closer) && still_waits(&has));
    let_go(pid);
    MUST(result(&has) == pid);
    MUST(result(&waits) == -EPIPE);
    MUST(result(&closer) == 0 && is_gone(pid));
    MUST(weft_scope_end(&s, 0) == 0);
    return 0;
}

START_TEST(a_close_waits_for_calls_that_have_a_worker_and_refuses_others)
{
    everywhere(closed_while_called, NULL, _i % COUNT(workers));
}
END_TEST

/* What the call came to: refused; or answered, if who closes was held up on another thread until it had begun. */
static int call_while_it_is_closed(int budget)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 2 }), *closing = p;
    struct caller closer = { .call = close_it, .object = &closing };
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, call_it, &closer);
    weft__current()->budget = budget; /* so it yields in the midst of the call, and the pool is closed */
    int rc = weft_process_pool_call(p, "p", 1, NULL, NULL);
    MUST(!weft_scope_expired(&s));
    MUST(result(&closer) == 0);
    MUST(weft_scope_end(&s, 0) == 0);
    return rc;
}

static int call_until_it_is_refused(void *arg)
{
    const int *budget = arg;
    int64_t until = weft_after(LIMIT);
    int rc;
    do {
        rc = call_while_it_is_closed(*budget);
        MUST(rc == -EPIPE || rc > 0 || chaos());
    } while (rc != -EPIPE && weft_now() < until);
    MUST(rc == -EPIPE || chaos());
    return 0;
}

/* At the begin of the call, and when it comes to wait for a worker. */
START_TEST(a_call_that_has_begun_before_the_close_is_refused)
{
    int budget = _i + 1;
    RUN(call_until_it_is_refused, &budget, 1);
}
END_TEST

static int closed_in_a_hurry(void *arg)
{
    const bool *hard = arg;
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 2 }), *closing = p;
    struct caller has[2], waits, closer;
    weft_scope s, hurry;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 2; i++)
        MUST(put_to_sleep(&s, &has[i], ask_for_ever, p));
    MUST(put_to_sleep(&s, &waits, ask_for_ever, p));
    weft_scope_begin(&hurry, WEFT_NEVER);
    MUST(put_to_sleep(&hurry, &closer, close_it, &closing));
    if (*hard)
        weft_scope_cancel_hard(&hurry, 0, "test");
    else
        weft_scope_cancel(&hurry, "test");
    MUST(result(&closer) == 0);
    for (int i = 0; i < 2; i++)
        MUST(result(&has[i]) == -EPIPE);
    MUST(result(&waits) == -EPIPE);
    weft_ignore(weft_scope_end(&hurry, 0));
    MUST(weft_scope_end(&s, 0) == 0);
    return 0;
}

START_TEST(who_is_told_to_leave_while_it_closes_ends_the_calls)
{
    bool hard = _i >= COUNT(workers);
    everywhere(closed_in_a_hurry, &hard, _i % COUNT(workers));
}
END_TEST

/* ---- shortages */

static int one_call(void)
{
    weft_process_pool *p = NULL;
    char *answer = NULL;
    int rc = weft_process_pool_open(&p, WORKER, &(weft_process_pool_options){ .workers = 1, .leave_grace = LIMIT });
    if (rc == 0)
        rc = weft_process_pool_call(p, "=abc", 4, &answer, NULL);
    MUST((rc == 0) == (answer != NULL));
    weft_free(answer);
    weft_process_pool_close(&p);
    MUST(no_children());
    return rc;
}

static int without_descriptors(void *arg)
{
    struct rlimit before, now;
    (void)arg;
    MUST(one_call() == 0); /* the pool has its thread */
    getrlimit(RLIMIT_NOFILE, &before);
    int free_one = dup(0), rc = -1, refused = 0;
    close(free_one);
    for (int most = free_one; most < free_one + 24 && rc != 0; most++) {
        now = before;
        now.rlim_cur = (rlim_t)most;
        setrlimit(RLIMIT_NOFILE, &now);
        rc = one_call();
        setrlimit(RLIMIT_NOFILE, &before);
        /* The worker, too, has no more than that: it needs four beside the standard ones. */
        MUST(rc == 0 || rc == -EMFILE || rc == -EPIPE);
        refused += rc != 0;
    }
    MUST(rc == 0 && refused > 4);
    return 0;
}

START_TEST(without_descriptors_nothing_is_left)
{
    everywhere(without_descriptors, NULL, _i);
}
END_TEST

static int without_memory(void *arg)
{
    int rc = -ENOMEM, refused = 0;
    (void)arg;
    MUST(one_call() == 0);
    for (long n = 1; n < 60 && rc == -ENOMEM; n++) {
        weft__fault_set(WEFT__FAULT_ALLOC, n, 1, -ENOMEM);
        rc = one_call();
        weft__fault_clear();
        refused += rc == -ENOMEM;
    }
    MUST(rc == 0 && refused > 5);
    return 0;
}

START_TEST(without_memory_nothing_is_left)
{
    everywhere(without_memory, NULL, _i);
}
END_TEST

/* ---- a fork */

static int in_a_fork(void *arg)
{
    weft_process_pool *p = pool_of(WORKER, (weft_process_pool_options){ .workers = 1 });
    int status = -1, worker_pid = ask(p, "p");
    (void)arg;
    pid_t pid = fork();
    if (pid == 0) {
        weft_process_pool *q = p, *other = NULL;
        bool ok = weft_process_pool_call(p, "p", 1, NULL, NULL) == -ECHILD &&
                  weft_process_pool_open(&other, WORKER, NULL) == -ECHILD &&
                  weft_process_pool_serve(handle, NULL) == -ECHILD;
        weft_process_pool_close(&q);
        _exit(ok && !q ? 0 : 1);
    }
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
    MUST(ask(p, "p") == worker_pid);
    weft_process_pool_close(&p);
    return 0;
}

START_TEST(a_forked_child_is_refused)
{
    everywhere(in_a_fork, NULL, _i);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--worker") == 0)
        return worker(argc, argv);
    Suite *s = suite_create("process_pool");
    TCase *tc = add_case(s, "answers");
    tcase_add_loop_test(tc, an_answer_comes_back_whole, 0, PLACES);
    tcase_add_loop_test(tc, an_error_of_a_handler_comes_back_with_its_text, 0, PLACES);
    tcase_add_loop_test(tc, what_a_handler_prints_or_starts_is_taken_for_no_answer, 0, PLACES);
    tcase_add_loop_test(tc, what_later_starts_need_is_copied, 0, PLACES);
    tcase_add_test(tc, bad_arguments_are_told);
    tcase_add_loop_test(tc, a_worker_reads_and_writes_what_the_header_says, 0, PLACES);
    tc = add_case(s, "many");
    tcase_add_loop_test(tc, more_callers_than_workers_are_answered_each_by_its_own, 0, COUNT(workers));
    tcase_add_loop_test(tc, tasks_of_two_runtimes_and_plain_threads_share_a_pool, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_waits_for_a_worker_is_served_in_turn, 0, COUNT(workers));
    tc = add_case(s, "crashes");
    tcase_add_loop_test(tc, a_call_whose_worker_crashes_is_told_and_the_next_one_gets_another, 0, PLACES);
    tcase_add_loop_test(tc, a_crash_is_nobody_elses, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_ends_while_idle_is_replaced_and_no_call_hears_of_it, 0, PLACES);
    tcase_add_loop_test(tc, what_is_no_answer_is_told_and_starts_one_worker_for_each_call, 0, PLACES);
    tcase_add_loop_test(tc, who_says_more_after_its_answer_is_not_asked_again, 0, PLACES);
    tcase_add_loop_test(tc, who_answers_too_early_is_not_waited_for, 0, PLACES);
    tcase_add_loop_test(tc, longer_than_a_limit_is_told, 0, PLACES);
    tcase_add_loop_test(tc, a_program_that_cannot_be_run_is_told_to_who_calls, 0, PLACES);
    tc = add_case(s, "end");
    tcase_add_loop_test(tc, who_leaves_before_the_answer_ends_the_worker, 0, PLACES);
    tcase_add_loop_test(tc, nobody_gets_the_answer_of_one_who_left, 0, PLACES);
    tcase_add_loop_test(tc, a_worker_is_replaced_after_so_many_calls, 0, PLACES);
    tcase_add_loop_test(tc, workers_that_do_not_leave_are_ended, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_close_waits_for_calls_that_have_a_worker_and_refuses_others, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_call_that_has_begun_before_the_close_is_refused, 0, 2);
    tcase_add_loop_test(tc, who_is_told_to_leave_while_it_closes_ends_the_calls, 0, 2 * COUNT(workers));
    tc = add_case(s, "shortages");
    tcase_add_loop_test(tc, without_descriptors_nothing_is_left, 0, PLACES);
    tcase_add_loop_test(tc, without_memory_nothing_is_left, 0, PLACES);
    if (forking())
        tcase_add_loop_test(tc, a_forked_child_is_refused, 0, PLACES);
    return run_suite(s);
}
