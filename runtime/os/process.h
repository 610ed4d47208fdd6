/* os/process.h - the inside of a child, for its parts. See process.c. */
#ifndef WEFT_OS_PROCESS_H
#define WEFT_OS_PROCESS_H

#include <sys/types.h>
#include <sys/uio.h>
#include <weft/process.h>

#include "base/list.h"
#include "sched/origin.h"

enum { WEFT__STDIN, WEFT__STDOUT, WEFT__STDERR, WEFT__STDIO };

struct weft_process {
    /* Written once. */
    int pid, pidfd;
    bool new_group;
    int64_t term_grace;
    /* Who waits, or signals a group. */
    at_word ended; /* 0; ENDED | status; ENDED | LOST somebody else knows */
    at_int hands;  /* who signals the group, or REAPED */
    struct weft__link link; /* of all that are open; and by whom */
    struct weft__origin origin;
    at_int fd[WEFT__STDIO]; /* (uint32_t)-1: none; who takes it out closes it */
};

/* Our end of a pipe; -1: there is none, or it was closed. */
static inline int weft__process_fd(const struct weft_process *p, int i)
{
    return (int)ati_load(&p->fd[i]);
}

/* Tells of those that the tasks of that runtime opened and nobody has closed. */
void weft__processes_left(uint64_t runtime, weft__tell_left *tell, void *arg);

/* Whether the options, and a command, are such as weft_process_open takes. */
bool weft__process_makes_sense(const char *const *argv, const weft_process_options *o);

/* Whether it has ended, and in *status how: as weft_process_wait has it, INT_MIN if somebody else has waited for it. It stays
 * to be reaped, so that weft_process_close ends its group. */
bool weft__process_has_ended(struct weft_process *p, int *status);
/* The same within that time. `shielded`: whoever is told to leave meanwhile. */
bool weft__process_ends_within(struct weft_process *p, int64_t within, bool shielded);

/* Requests and answers of workers: <weft/process.h>. */
enum { WEFT__FRAME_LENGTH = 4, WEFT__FRAME_RESULT = 4, WEFT__FRAME_HEAD = WEFT__FRAME_LENGTH + WEFT__FRAME_RESULT };

static inline void weft__put32(unsigned char *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(v >> (24 - 8 * i));
}
static inline uint32_t weft__get32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Our end of it, if it is open. */
void weft__process_close_pipe(struct weft_process *p, int i);

#endif
