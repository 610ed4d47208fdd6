/* os/process.h - the inside of a child, for its parts. See process.c. */
#ifndef WEFT_OS_PROCESS_H
#define WEFT_OS_PROCESS_H

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

/* Our end of it, if it is open. */
void weft__process_close_pipe(struct weft_process *p, int i);

#endif
