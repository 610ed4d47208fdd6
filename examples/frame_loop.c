/* frame_loop.c - weft in a program that has a loop of its own.
 *
 * Use       frame_loop [SECONDS]         3 if left out
 *           Draws a frame every 16 ms, as a game or a user interface does, here a line of text. In between, on the same
 *           thread, weft's tasks talk over sockets: a server, and clients that wait for each answer.
 * Shows     the three calls by which a foreign loop drives a runtime: which descriptor to poll, and one step when it can be
 *           read. A step takes a millisecond at most, so frames are in time. Tasks and frames need no lock between them.
 * Tested    examples/test_examples.py */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft.h>

enum { CLIENTS = 50, FRAME_MS = 16 };

struct world {
    int listener;
    char where[64];
    long answers; /* by tasks, and drawn by the loop: all on one thread */
};

static int answer(void *arg)
{
    int fd = *(int *)arg;
    char word[64];
    int n;
    while ((n = weft_read(fd, word, sizeof word)) > 0)
        if ((n = weft_write_all(fd, word, (size_t)n)) < 0)
            break;
    weft_close(fd);
    return 0;
}

static int serve(void *arg)
{
    struct world *w = arg;
    weft_scope s;
    int fd;
    weft_scope_begin(&s, WEFT_NEVER);
    while ((fd = weft_accept(w->listener)) >= 0)
        weft_spawn_copy(&s, answer, &fd, sizeof fd);
    return weft_scope_end(&s, fd);
}

static int ask(void *arg)
{
    struct world *w = arg;
    int fd = weft_connect(w->where, NULL), rc = fd < 0 ? fd : 0;
    while (rc == 0) {
        char word[5];
        if ((rc = weft_write_all(fd, "hello", 5)) < 0 || (rc = weft_read_all(fd, word, 5)) <= 0)
            break;
        w->answers++;
        rc = weft_sleep(weft_ms(1));
    }
    if (fd >= 0)
        weft_close(fd);
    return rc;
}

static int town(void *arg)
{
    struct world *w = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, serve, w);
    for (int i = 0; i < CLIENTS; i++)
        weft_spawn(&s, ask, w);
    return weft_scope_end(&s, 0);
}

static int listen_somewhere(struct world *w)
{
    weft_addr at;
    w->listener = weft_listen("127.0.0.1:0", NULL);
    int rc = w->listener < 0 ? w->listener : weft_addr_local(w->listener, &at);
    if (rc == 0)
        weft_addr_text(&at, w->where, sizeof w->where);
    return rc;
}

/* The program's own loop. */
static int draw_frames(weft_runtime *rt, const struct world *w, int frames)
{
    int late = 0;
    int64_t due = weft_now();
    for (int drawn = 0; drawn < frames;) {
        int64_t left = due - weft_now();
        if (left <= 0) {
            printf("\rframe %4d   %8ld answers", ++drawn, w->answers);
            late += left < -weft_ms(FRAME_MS);
            due += weft_ms(FRAME_MS);
            continue;
        }
        struct pollfd p = { .fd = weft_runtime_fd(rt), .events = POLLIN };
        int n = poll(&p, 1, (int)(left / 1000000));
        if (n > 0 && (n = weft_runtime_step(rt)) < 0)
            return n;
    }
    printf("\n%d frames, %d of them late; %ld answers beside them\n", frames, late, w->answers);
    return 0;
}

int main(int argc, char **argv)
{
    struct world w = { .listener = -1, .answers = 0 };
    weft_runtime *rt;
    long seconds = argc > 1 ? atol(argv[1]) : 3;

    if (argc > 2 || seconds < 1 || seconds > 3600) {
        fprintf(stderr, "use: %s [SECONDS]     from 1 to 3600\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    int rc = weft_runtime_create(&rt, &(weft_options){ .manual = true });
    if (rc == 0) {
        rc = listen_somewhere(&w);
        if (rc == 0)
            rc = weft_runtime_start(rt, town, &w, NULL);
        if (rc == 0)
            rc = draw_frames(rt, &w, (int)seconds * 1000 / FRAME_MS);
        weft_runtime_destroy(&rt); /* the tasks are told to leave, and have left */
        weft_close_auto(&w.listener);
    }
    if (rc < 0)
        fprintf(stderr, "frame_loop: %s\n", weft_strerror(rc));
    return rc < 0;
}
