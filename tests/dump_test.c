/* dump_test.c - report/dump.c: a line for each task, whatever it does, while everything goes on. */
#include "support.h"

#include <dlfcn.h>
#include <inttypes.h>

#include "os/lane.h"

/* What weft_dump writes, by way of a file. */
struct text {
    int rc;
    char all[1 << 18];
};

static NOINLINE void dump(struct text *t)
{
    FILE *f = tmpfile();
    t->rc = -EIO;
    t->all[0] = 0;
    if (!f)
        return;
    t->rc = weft_dump(fileno(f));
    rewind(f);
    t->all[fread(t->all, 1, sizeof t->all - 1, f)] = 0;
    fclose(f);
}

/* The line of a task, or "". */
static const char *line_of(const struct text *t, weft_task id)
{
    static char line[600];
    char begin[40];
    snprintf(begin, sizeof begin, "task %" PRId64 " ", id);
    line[0] = 0;
    const char *at = strncmp(t->all, begin, strlen(begin)) == 0 ? t->all : strstr(t->all, begin);
    while (at && at != t->all && at[-1] != '\n')
        at = strstr(at + 1, begin);
    if (at)
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    return line;
}

static void expect(const struct text *t, weft_task id, const char *what)
{
    ck_assert_msg(strstr(line_of(t, id), what) != NULL, "no \"%s\" in \"%s\" of\n%s", what, line_of(t, id), t->all);
}

/* -- what each does -- */

enum { SLEEPER, JOINER, READER, WRITER, WATCHER, PARENT, CALLER, BLOCKED, CANCELLED, FRESH, MAIN, ALL, EXTRA };

struct all {
    struct text text;
    weft_task ids[EXTRA + 1];
    atomic_int began, born, blocked, over;
    int read_fd[2], write_fd[2];
    const void *parents_scope;
};

static int sleeper(void *arg)
{
    struct all *a = arg;
    atomic_fetch_add(&a->began, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static int joiner(void *arg)
{
    struct all *a = arg;
    atomic_fetch_add(&a->began, 1);
    return weft_task_join(a->ids[SLEEPER]);
}

static int reader(void *arg)
{
    struct all *a = arg;
    char c;
    atomic_fetch_add(&a->began, 1);
    return weft_read(a->read_fd[0], &c, 1);
}

static int writer(void *arg)
{
    struct all *a = arg;
    static char many[1 << 20];
    atomic_fetch_add(&a->began, 1);
    return weft_write_all(a->write_fd[1], many, sizeof many);
}

static int watcher(void *arg)
{
    struct all *a = arg;
    atomic_fetch_add(&a->began, 1);
    return weft_wait_fd(a->read_fd[1], WEFT_READABLE | WEFT_WRITABLE) < 0 ? -ECANCELED : weft_wait_fd(a->read_fd[0], 3);
}

static int child(void *arg)
{
    struct all *a = arg;
    atomic_store(&a->born, 1);
    return weft_sleep_until(WEFT_NEVER);
}

static int parent(void *arg)
{
    struct all *a = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "family" });
    weft_spawn_with(&s, child, a, &(weft_spawn_options){ .name = "child" });
    a->parents_scope = &s;
    wait_for(&a->born, 1); /* it gets a stack of its own */
    atomic_fetch_add(&a->began, 1);
    return weft_scope_end(&s, 0);
}

/* This one runs its child as a call. */
static int caller(void *arg)
{
    struct all *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    a->ids[EXTRA] = weft_spawn_with(&s, sleeper, a, &(weft_spawn_options){ .name = "called" });
    atomic_fetch_add(&a->began, 1);
    return weft_scope_end(&s, 0);
}

static int block(void *arg)
{
    struct all *a = arg;
    atomic_store(&a->blocked, 1);
    while (!atomic_load(&a->over))
        usleep(100);
    return 0;
}

static int blocked(void *arg)
{
    struct all *a = arg;
    atomic_fetch_add(&a->began, 1);
    return weft_blocking(block, a);
}

static int cancelled(void *arg)
{
    struct all *a = arg;
    weft_scope s;
    weft_scope_begin_shield(&s, WEFT_NEVER);
    atomic_fetch_add(&a->began, 1);
    while (!atomic_load(&a->over))
        weft_ignore(weft_sleep(weft_ms(1)));
    return weft_scope_end(&s, 0);
}

/* Whether each has come to where it stays: by chance a call yields before it waits. */
static bool all_wait(struct all *a)
{
    dump(&a->text);
    for (int i = SLEEPER; i <= BLOCKED; i++)
        if (i != CALLER && !strstr(line_of(&a->text, a->ids[i]), "\" waiting "))
            return false;
    return strstr(a->text.all, "\"called\" waiting ") && strstr(a->text.all, "\"child\" waiting ");
}

static int watch_all(void *arg)
{
    static weft_fn *const fns[] = { sleeper, joiner, reader, writer, watcher, parent, caller, blocked,
        cancelled };
    static const char *const names[] = { "sleeper", "joiner", "reader", "writer", "watcher", "parent", "caller",
        "blocked", "cancelled" };
    struct all *a = arg;
    weft_scope s;
    weft_scope_begin_with(&s, WEFT_NEVER, &(weft_scope_options){ .name = "everybody" });
    a->ids[MAIN] = weft_task_self();
    for (int i = 0; i < COUNT(fns); i++)
        a->ids[i] = weft_spawn_with(&s, fns[i], a, &(weft_spawn_options){ .name = names[i] });
    bool all = wait_for(&a->began, COUNT(fns) + 1) && wait_for(&a->blocked, 1);
    for (int64_t end = weft_after(LIMIT); !all_wait(a) && weft_now() < end;)
        weft_ignore(weft_yield());
    weft_ignore(weft_task_cancel(a->ids[CANCELLED], NULL));
    for (int i = 0; i < 3; i++)
        weft_ignore(weft_yield());
    a->ids[FRESH] = weft_spawn(&s, sleeper, a);
    dump(&a->text); /* one worker: nobody else runs, nor begins */
    atomic_store(&a->over, 1);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

START_TEST(each_task_has_a_line_that_says_what_it_waits_for)
{
    static struct all a;
    char text[80];
    ck_assert_int_eq(pipe2(a.read_fd, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(a.write_fd, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(weft_run(watch_all, &a, ON(1)), 0);
    ck_assert_int_eq(a.text.rc, ALL + 2);
    expect(&a.text, a.ids[SLEEPER], "\"sleeper\" waiting ");
    expect(&a.text, a.ids[SLEEPER], " ms, sleeps; ");
    snprintf(text, sizeof text, "for the end of task %" PRId64, a.ids[SLEEPER]);
    expect(&a.text, a.ids[JOINER], text);
    snprintf(text, sizeof text, "to read from descriptor %d", a.read_fd[0]);
    expect(&a.text, a.ids[READER], text);
    snprintf(text, sizeof text, "to write to descriptor %d", a.write_fd[1]);
    expect(&a.text, a.ids[WRITER], text);
    snprintf(text, sizeof text, "for descriptor %d", a.read_fd[0]);
    expect(&a.text, a.ids[WATCHER], text);
    snprintf(text, sizeof text, "for the children of scope %p", a.parents_scope);
    expect(&a.text, a.ids[PARENT], text);
    if (!TSAN && !chaos()) { /* where somebody is run as a call, each time */
        expect(&a.text, a.ids[CALLER], " running; ");
        snprintf(text, sizeof text, " ms, sleeps, as a call by task %" PRId64, a.ids[CALLER]);
        expect(&a.text, a.ids[EXTRA], text);
    }
    expect(&a.text, a.ids[BLOCKED], "for a call in the pool: dump_test+0x");
    expect(&a.text, a.ids[CANCELLED], ", cancelled; ");
    expect(&a.text, a.ids[FRESH], " new; dump_test+0x");
    expect(&a.text, a.ids[MAIN], "\"main\" running");
    snprintf(text, sizeof text, " \"everybody\" of task %" PRId64, a.ids[MAIN]);
    for (int i = SLEEPER; i <= FRESH; i++) {
        expect(&a.text, a.ids[i], text);
        expect(&a.text, a.ids[i], ", spawned at dump_test+0x");
    }
    ck_assert_msg(strstr(a.text.all, "\"child\" waiting") && strstr(a.text.all, "\"family\" of task"), "%s", a.text.all);
    for (int i = 0; i < 2; i++) {
        close(a.read_fd[i]);
        close(a.write_fd[i]);
    }
}
END_TEST

static weft_lane *own_lane;

static int on_files(void *arg)
{
    return weft__lane_call(WEFT__LANE_FILES, block, arg);
}

static int on_names(void *arg)
{
    return weft__lane_call(WEFT__LANE_NAMES, block, arg);
}

static int on_own(void *arg)
{
    return weft_blocking_on(own_lane, block, arg);
}

static const char *const lanes[] = { "for a call in the files' lane: dump_test+0x",
    "for a call in the names' lane: dump_test+0x", "for a call in a lane of the program's: dump_test+0x" };

static bool all_in_lanes(struct all *a)
{
    dump(&a->text);
    for (int i = 0; i < COUNT(lanes); i++)
        if (!strstr(line_of(&a->text, a->ids[i]), " waiting "))
            return false;
    return true;
}

static int wait_in_lanes(void *arg)
{
    static weft_fn *const fns[] = { on_files, on_names, on_own };
    struct all *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < COUNT(fns); i++)
        a->ids[i] = weft_spawn(&s, fns[i], a);
    for (int64_t end = weft_after(LIMIT); !all_in_lanes(a) && weft_now() < end;)
        weft_ignore(weft_yield());
    atomic_store(&a->over, 1);
    return weft_scope_end(&s, 0);
}

START_TEST(a_call_that_blocks_has_the_lane_that_it_is_in)
{
    static struct all a;
    ck_assert_int_eq(weft_lane_create(&own_lane, NULL), 0);
    ck_assert_int_eq(weft_run(wait_in_lanes, &a, ON(2)), 0);
    weft_lane_destroy(&own_lane);
    for (int i = 0; i < COUNT(lanes); i++)
        expect(&a.text, a.ids[i], lanes[i]);
}
END_TEST

/* -- where it was spawned -- */

static int sleep_on(void *arg)
{
    (void)arg;
    return weft_sleep_until(WEFT_NEVER);
}

static NOINLINE weft_task spawn_here(weft_scope *s, int how)
{
    weft_task t = how == 0 ? weft_spawn(s, sleep_on, NULL) :
            how == 1 ? weft_spawn_copy(s, sleep_on, &how, sizeof how) :
            how == 2 ? weft_spawn_with(s, sleep_on, NULL, NULL) :
                       weft_spawn_with(s, sleep_on, NULL, &(weft_spawn_options){ .name = "with" });
    __asm__ volatile("" : "+r"(t)); /* no tail call */
    return t;
}

static int spawn_in_all_ways(void *arg)
{
    struct all *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int how = 0; how < 4; how++)
        a->ids[how] = spawn_here(&s, how);
    for (int i = 0; i < a->blocked; i++)
        weft_ignore(weft_yield());
    dump(&a->text);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(the_site_is_in_the_caller_of_the_spawn)
{
    static struct all a;
    Dl_info here;
    a.blocked = _i; /* 0: they are new; else they have begun */
    ck_assert_int_ne(dladdr((void *)(uintptr_t)spawn_here, &here), 0);
    uintptr_t from = (uintptr_t)spawn_here - (uintptr_t)here.dli_fbase;
    ck_assert_int_eq(weft_run(spawn_in_all_ways, &a, ON(1)), 0);
    for (int how = 0; how < 4; how++) {
        static const char before[] = "spawned at dump_test+";
        const char *site = strstr(line_of(&a.text, a.ids[how]), before);
        ck_assert_msg(site != NULL, "%s", a.text.all);
        uintptr_t at = (uintptr_t)strtoull(site + strlen(before), NULL, 16);
        ck_assert_msg(at > from && at < from + 2000, "%#tx is not in %#tx: %s", at, from, line_of(&a.text, a.ids[how]));
    }
}
END_TEST

/* -- many of one place -- */

/* A line for each place: as many functions, each of which spawns one. (A loop there might be unrolled into several places.) */
enum { FEW = 9, TEN = 10, MANY = 25 };

struct places {
    struct text text;
    atomic_int began;
};

static int stay(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep_until(WEFT_NEVER);
}

#define PLACE(name)                                                                                \
    static NOINLINE void name(weft_scope *s, atomic_int *began)                                    \
    {                                                                                              \
        weft_spawn(s, stay, began);                                                                \
        __asm__ volatile("# " #name); /* or they are one function */                               \
    }
PLACE(at_a_place_of_few)
PLACE(at_a_place_of_ten)
PLACE(at_a_place_of_many)

static int spawn_at_places(void *arg)
{
    struct places *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < FEW; i++)
        at_a_place_of_few(&s, &p->began);
    for (int i = 0; i < TEN; i++)
        at_a_place_of_ten(&s, &p->began);
    for (int i = 0; i < MANY; i++)
        at_a_place_of_many(&s, &p->began);
    bool all = false;
    for (int64_t end = weft_after(LIMIT); !all && weft_now() < end;) {
        weft_ignore(weft_yield());
        dump(&p->text);
        all = strstr(p->text.all, "; 10 wait, ") && strstr(p->text.all, "; 25 wait, ");
    }
    weft_ignore(weft_sleep(weft_ms(20))); /* so long they wait from here on */
    dump(&p->text);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, all ? 0 : -ETIME);
}

/* What is behind " spawned at" in the line that begins with "n tasks spawned"; "" there is none. */
static const char *line_of_place(const struct text *t, int n)
{
    static char line[300];
    char begin[40];
    snprintf(begin, sizeof begin, "\n%d tasks spawned at ", n);
    const char *at = strstr(t->all, begin);
    snprintf(line, sizeof line, "%.*s", at ? (int)strcspn(at + strlen(begin), "\n") : 0, at ? at + strlen(begin) : "");
    return line;
}

/* C-09 */
START_TEST(tasks_that_are_many_of_one_place_have_a_line_with_their_number_and_age)
{
    static struct places p;
    ck_assert_int_eq(weft_run(spawn_at_places, &p, ON(1)), 0);
    ck_assert_int_eq(p.text.rc, FEW + TEN + MANY + 1);
    ck_assert_str_eq(line_of_place(&p.text, FEW), "");
    const char *most = strstr(p.text.all, "\n25 tasks spawned at "), *less = strstr(p.text.all, "\n10 tasks spawned at ");
    ck_assert(most && less && most < less);
    static const int counts[] = { TEN, MANY };
    for (int i = 0; i < COUNT(counts); i++) {
        double age = 0, wait = 0;
        int waiting = 0;
        const char *line = line_of_place(&p.text, counts[i]);
        int n = sscanf(line, "dump_test+0x%*x: the oldest begun %lf ms ago; %d wait, for %lf ms at most", &age, &waiting, &wait);
        ck_assert_msg(n == 3 && waiting == counts[i], "%s\n%s", line, p.text.all);
        ck_assert_msg(wait >= 19.8 && wait <= age, "%s", line); /* ticks are correct to a thousandth */
    }
    ck_assert_msg(strstr(p.text.all, ", begun ") != NULL, "%s", p.text.all); /* of each one, too */
}
END_TEST

enum { ALL_PLACES = 70 };

/* Each of these is another return address. */
#define SPAWN weft_spawn(s, stay, began);
#define TIMES_5(x) x x x x x
static NOINLINE void spawn_at_seventy(weft_scope *s, atomic_int *began)
{
    TIMES_5(TIMES_5(SPAWN SPAWN))
    TIMES_5(SPAWN SPAWN SPAWN SPAWN)
}

static int spawn_at_too_many(void *arg)
{
    struct places *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < TEN; i++)
        spawn_at_seventy(&s, &p->began);
    dump(&p->text);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

/* The places of 700 tasks and of main, which has one, too. */
START_TEST(more_places_than_are_counted_apart_are_counted_together)
{
    static struct places p;
    ck_assert_int_eq(weft_run(spawn_at_too_many, &p, ON(1)), 0);
    ck_assert_int_eq(p.text.rc, ALL_PLACES * TEN + 1);
    int lines = 0;
    for (const char *at = p.text.all; (at = strstr(at, "\n10 tasks spawned at ")) != NULL; at++)
        lines++;
    const char *others = strstr(p.text.all, " tasks spawned elsewhere\n"); /* the line before it ends */
    while (others && *others != '\n')
        others--;
    ck_assert_ptr_nonnull(others);
    ck_assert_int_eq(lines, 63);
    ck_assert_int_eq(atoi(others + 1), (ALL_PLACES - 63) * TEN);
}
END_TEST

/* -- beside everything else -- */

static int spawn_on(void *arg)
{
    atomic_int *over = arg;
    while (!atomic_load(over)) {
        weft_scope s;
        weft_scope_begin_with(&s, weft_ms(5), &(weft_scope_options){ .name = "short-lived" });
        for (int i = 0; i < 20; i++)
            weft_spawn_with(&s, sleep_on, NULL, &(weft_spawn_options){ .name = i % 2 ? "named" : NULL });
        weft_ignore(weft_sleep(weft_us(100)));
        weft_scope_cancel(&s, "enough");
        weft_ignore(weft_scope_end(&s, 0));
    }
    return 0;
}

static void *dump_on(void *arg)
{
    atomic_int *bad = arg;
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (int i = 0; i < SCALED(2000, 500, 300); i++)
        if (weft_dump(fd) < 1)
            atomic_fetch_add(bad, 1);
    close(fd);
    return NULL;
}

struct crowd {
    atomic_int over, bad;
};

static int crowd(void *arg)
{
    struct crowd *c = arg;
    weft_scope s;
    pthread_t threads[2];
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, spawn_on, &c->over);
    for (int i = 0; i < COUNT(threads); i++)
        pthread_create(&threads[i], NULL, dump_on, &c->bad);
    for (int i = 0; i < COUNT(threads); i++) {
        while (pthread_tryjoin_np(threads[i], NULL) == EBUSY)
            weft_ignore(weft_sleep(weft_ms(1)));
    }
    atomic_store(&c->over, 1);
    return weft_scope_end(&s, 0);
}

START_TEST(tasks_come_and_go_while_they_are_listed)
{
    static const int workers[] = { 1, 2, 8 };
    struct crowd c = { 0 };
    ck_assert_int_eq(weft_run(crowd, &c, ON(workers[_i])), 0);
    ck_assert_int_eq(atomic_load(&c.bad), 0);
}
END_TEST

/* -- where it goes -- */

static int dump_into(void *arg)
{
    int *fd = arg;
    fd[1] = weft_dump(fd[0]);
    return 0;
}

static NOINLINE int bad_descriptor(void)
{
    int fd[2] = { -1, 0 };
    return weft_run(dump_into, fd, ON(1)) == 0 ? fd[1] : 1;
}

START_TEST(the_error_of_the_descriptor_is_passed_on)
{
    ck_assert_int_eq(bad_descriptor(), -EBADF);
}
END_TEST

static void *drain_all(void *arg)
{
    char part[64];
    long *all = arg;
    for (ssize_t n; (n = read((int)all[0], part, sizeof part)) > 0;)
        all[1] += n;
    return NULL;
}

static int many_into_a_pipe(void *arg)
{
    int *fd = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < 2000; i++)
        weft_spawn(&s, sleep_on, NULL);
    fd[2] = weft_dump(fd[1]);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, 0);
}

START_TEST(a_full_pipe_is_waited_for)
{
    int fd[3];
    pthread_t thread;
    ck_assert_int_eq(pipe2(fd, O_CLOEXEC), 0);
    ck_assert_int_eq(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
    long all[2] = { fd[0], 0 };
    pthread_create(&thread, NULL, drain_all, all);
    int rc = weft_run(many_into_a_pipe, fd, ON(1));
    close(fd[1]);
    pthread_join(thread, NULL);
    close(fd[0]);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(fd[2], 2001);
    ck_assert_int_gt(all[1], 2000 * 60);
}
END_TEST

enum { OTHERS = BUILT(100000, 20000, 5000), ASLEEP = BUILT(10000, 2000, 2000) };

struct others {
    int null, others, asleep, found;
    atomic_int began;
    int64_t took; /* the least */
};

static int begin_and_sleep_on(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return weft_sleep_until(WEFT_NEVER);
}

/* Some have begun and wait, and the others are new: the only worker is here. */
static int time_a_dump(void *arg)
{
    struct others *o = arg;
    bool timed = !TSAN && !ASAN && !chaos();
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < o->asleep; i++)
        weft_spawn(&s, begin_and_sleep_on, &o->began);
    bool there = wait_for(&o->began, o->asleep);
    for (int i = o->asleep; i < o->others; i++)
        weft_spawn(&s, begin_and_sleep_on, &o->began);
    int64_t end = weft_after(LIMIT);
    do {
        int64_t from = weft_now();
        o->found = weft_dump(o->null);
        int64_t took = weft_now() - from;
        o->took = took < o->took ? took : o->took;
    } while (timed && o->took >= weft_sec(1) && weft_now() < end);
    weft_scope_cancel(&s, NULL);
    return weft_scope_end(&s, there ? 0 : -ETIME);
}

/* B-082, C-03: in less than a second, in one of the tries at least. */
START_TEST(a_hundred_thousand_tasks_are_listed_within_a_second)
{
    struct others o = { .others = fewer(5000, OTHERS), .asleep = fewer(1000, ASLEEP), .took = LIMIT };
    o.null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int rc = weft_run(time_a_dump, &o, ON(1));
    close(o.null);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(o.found, o.others + 1);
    if (!TSAN && !ASAN && !chaos())
        ck_assert_int_lt(o.took, weft_sec(1));
}
END_TEST

START_TEST(without_tasks_there_are_none)
{
    static struct text t;
    dump(&t);
    ck_assert_int_eq(t.rc, 0);
    ck_assert_str_eq(t.all, "0 tasks\n");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dump");
    TCase *tc = add_case(s, "lines");
    tcase_add_test(tc, without_tasks_there_are_none);
    tcase_add_test(tc, each_task_has_a_line_that_says_what_it_waits_for);
    tcase_add_test(tc, a_call_that_blocks_has_the_lane_that_it_is_in);
    tcase_add_loop_test(tc, the_site_is_in_the_caller_of_the_spawn, 0, 2);
    tc = add_case(s, "places");
    tcase_add_test(tc, tasks_that_are_many_of_one_place_have_a_line_with_their_number_and_age);
    tcase_add_test(tc, more_places_than_are_counted_apart_are_counted_together);
    tc = add_case(s, "beside");
    tcase_add_loop_test(tc, tasks_come_and_go_while_they_are_listed, 0, 3);
    tc = add_case(s, "output");
    tcase_add_test(tc, the_error_of_the_descriptor_is_passed_on);
    tcase_add_test(tc, a_full_pipe_is_waited_for);
    tcase_add_test(tc, a_hundred_thousand_tasks_are_listed_within_a_second);
    return run_suite(s);
}
