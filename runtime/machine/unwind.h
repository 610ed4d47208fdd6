/* machine/unwind.h - who called whom, on a stack that this code does not run on. See unwind.c. */
#ifndef WEFT_MACHINE_UNWIND_H
#define WEFT_MACHINE_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/stack.h"

/* Registers by their numbers in DWARF. Of AArch64 the last is no number of its own. */
#if defined(__x86_64__)
enum { WEFT__REG_FP = 6, WEFT__REG_SP = 7, WEFT__REG_PC = 16, WEFT__REGS = 17 };
#elif defined(__aarch64__)
enum { WEFT__REG_FP = 29, WEFT__REG_LR = 30, WEFT__REG_SP = 31, WEFT__REG_PC = 32, WEFT__REGS = 33 };
#endif

/* Where a call stands. What is not known of its registers is what a deeper call left there. */
struct weft__call {
    uintptr_t reg[WEFT__REGS];
    uintptr_t low, high; /* the stack: nothing else is read */
    uint64_t unknown;    /* by number, which registers are not known at all */
    uintptr_t callee;    /* where the function begins that it has called; 0: not known */
    bool exact;          /* the pc is the instruction that is next, not what a call returns to */
};

/* The innermost call of a context that is not running, of `home`. False: there is none. It may be one that runs again just
 * now: then what comes out may be anything, and nothing is lost. */
bool weft__unwind_parked(struct weft__call *c, const struct weft__context *from, const struct weft__stack *home);
/* That of a thread which a signal has interrupted, as `ucontext` has it, if it is on the stack [low, high). For a handler. */
bool weft__unwind_interrupted(struct weft__call *c, const void *ucontext, const void *low, const void *high);

/* That of a thread of which only these two registers are known, if it is on the stack: callers are found up to where others
 * are needed. */
bool weft__unwind_from(struct weft__call *c, uintptr_t sp, uintptr_t pc, const void *low, const void *high);

/* On to the caller. False: there is none, or none that could be found. */
bool weft__unwind_up(struct weft__call *c);
/* Writes the addresses of the call and its callers to out[0 .. most-1], innermost first: where each goes on. How many there
 * are, up to `most`. For any thread, and for a handler. */
int weft__unwind_all(struct weft__call *c, const void **out, int most);

#endif
