/* frames.c - how much stack the calls of common libraries take, the figures of docs/stacks.md.
 *
 * Each call is made once on a thread of its own, whose stack was filled with a pattern; what is not the pattern any
 * more, below the thread's own start, was used. The first call and a second one are told apart, since a first one may
 * load modules and read files. */
#include <dlfcn.h>
#include <execinfo.h>
#include <fnmatch.h>
#include <glob.h>
#include <iconv.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <regex.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <wchar.h>
#include <wordexp.h>

extern char **environ;

enum { STACK = 8 << 20, PATTERN = 0x5a };

static FILE *null;
static volatile size_t sink; /* results go somewhere, so that the calls are made */

static void nothing(void)
{
}
static void print_int(void)
{
    fprintf(null, "%d %s\n", 42, "text");
}
static void print_double(void)
{
    char out[64];
    sink = (size_t)snprintf(out, sizeof out, "%.17g", 1.0 / 3);
}
static void print_long_double(void)
{
    static char out[8192];
    sink = (size_t)snprintf(out, sizeof out, "%Lf", (long double)1e4900L);
}
static void print_wide(void)
{
    fprintf(null, "%ls\n", L"wide");
}
static void read_double(void)
{
    sink = (size_t)strtod("3.14159265358979323846264338327950288e100", NULL);
}
static void scan(void)
{
    double d;
    char word[16];
    sink = (size_t)sscanf("1.5 word", "%lf %15s", &d, word);
}
static int by_value(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}
static void sort_few(void)
{
    static int v[200];
    for (int i = 0; i < 200; i++)
        v[i] = (i * 7919) % 200;
    qsort(v, 200, sizeof v[0], by_value);
}
static void sort_many(void)
{
    static int v[100000];
    for (int i = 0; i < 100000; i++)
        v[i] = (int)((i * 7919L) % 100000);
    qsort(v, 100000, sizeof v[0], by_value);
}
static void local_time(void)
{
    time_t t = 1700000000;
    struct tm tm;
    char out[64];
    localtime_r(&t, &tm);
    sink = strftime(out, sizeof out, "%c", &tm);
}
static void host_number(void)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found = NULL;
    if (getaddrinfo("127.0.0.1", "80", &hints, &found) == 0)
        freeaddrinfo(found);
}
static void host_name(void)
{
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", "80", NULL, &found) == 0)
        freeaddrinfo(found);
}
static void user(void)
{
    struct passwd pw, *found;
    static char room[4096];
    sink = (size_t)getpwuid_r(0, &pw, room, sizeof room, &found);
}
static void expression(void)
{
    regex_t re;
    if (regcomp(&re, "^([a-z]+)[0-9]*(foo|bar)+$", REG_EXTENDED) == 0) {
        sink = (size_t)regexec(&re, "abc123foobarfoo", 0, NULL, 0);
        regfree(&re);
    }
}
static void glob_files(void)
{
    glob_t g;
    if (glob("/etc/*.conf", 0, NULL, &g) == 0)
        globfree(&g);
}
static void match(void)
{
    sink = (size_t)fnmatch("*.[ch]", "main.c", 0);
}
static void words(void)
{
    wordexp_t w;
    if (wordexp("one $HOME three", &w, WRDE_NOCMD) == 0)
        wordfree(&w);
}
static void real_path(void)
{
    char *p = realpath("/etc/../etc/passwd", NULL);
    free(p);
}
static void read_line(void)
{
    FILE *f = fopen("/etc/passwd", "r");
    char *line = NULL;
    size_t room = 0;
    if (!f)
        return;
    sink = (size_t)getline(&line, &room, f);
    free(line);
    fclose(f);
}
static void convert(void)
{
    iconv_t c = iconv_open("UTF-16", "UTF-8");
    if (c != (iconv_t)-1)
        iconv_close(c);
}
static void load(void)
{
    void *m = dlopen("libm.so.6", RTLD_NOW);
    if (m)
        dlclose(m);
}
static void trace(void)
{
    void *at[32];
    sink = (size_t)backtrace(at, 32);
}
static void log_line(void)
{
    syslog(LOG_DEBUG, "%s", "a line");
}
static void allocate(void)
{
    void *volatile p = malloc(100000);
    free(p);
}
static void compute(void)
{
    volatile double x = 1.5;
    x = pow(sin(x), x) + lgamma(x);
}
static void spawn(void)
{
    pid_t pid;
    char *argv[] = { (char *)(uintptr_t)"true", NULL };
    if (posix_spawnp(&pid, "true", NULL, NULL, argv, environ) == 0)
        waitpid(pid, NULL, 0);
}
static void through_pipe(void)
{
    FILE *f = popen("true", "r");
    if (f)
        pclose(f);
}

static const struct call {
    const char *what;
    void (*make)(void);
} calls[] = {
    { "(none)", nothing },
    { "fprintf %d %s", print_int },
    { "snprintf %.17g", print_double },
    { "snprintf %Lf of 1e4900", print_long_double },
    { "fprintf %ls", print_wide },
    { "strtod", read_double },
    { "sscanf", scan },
    { "qsort of 200 ints", sort_few },
    { "qsort of 100,000 ints", sort_many },
    { "localtime_r, strftime", local_time },
    { "getaddrinfo of a number", host_number },
    { "getaddrinfo of \"localhost\"", host_name },
    { "getpwuid_r", user },
    { "regcomp, regexec", expression },
    { "glob", glob_files },
    { "fnmatch", match },
    { "wordexp", words },
    { "realpath", real_path },
    { "fopen, getline", read_line },
    { "iconv_open", convert },
    { "dlopen", load },
    { "backtrace", trace },
    { "syslog", log_line },
    { "malloc of 100 kB", allocate },
    { "pow, sin, lgamma", compute },
    { "posix_spawnp", spawn },
    { "popen", through_pipe },
};

static void *make(void *arg)
{
    ((const struct call *)arg)->make();
    return NULL;
}

/* Bytes of the stack that were written to, or -1. */
static long used(const struct call *c)
{
    pthread_attr_t attr;
    pthread_t thread;
    unsigned char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long bytes = -1;
    if (stack == MAP_FAILED)
        return -1;
    memset(stack, PATTERN, STACK);
    pthread_attr_init(&attr);
    if (pthread_attr_setstack(&attr, stack, STACK) == 0 &&
            pthread_create(&thread, &attr, make, (void *)(uintptr_t)c) == 0) {
        pthread_join(thread, NULL);
        size_t clean = 0;
        while (clean < STACK && stack[clean] == PATTERN)
            clean++;
        bytes = (long)(STACK - clean);
    }
    pthread_attr_destroy(&attr);
    munmap(stack, STACK);
    return bytes;
}

int main(void)
{
    setlocale(LC_ALL, "");
    if (!(null = fopen("/dev/null", "w")))
        return 1;
    used(&calls[0]);
    long start = used(&calls[0]);
    printf("%-30s %10s %10s\n", "bytes of stack", "first", "later");
    for (size_t i = 1; i < sizeof calls / sizeof calls[0]; i++) {
        long first = used(&calls[i]), later = used(&calls[i]);
        if (first < 0 || later < 0)
            return 1;
        printf("%-30s %10ld %10ld\n", calls[i].what, first - start, later - start);
    }
    fclose(null);
    return 0;
}
