/* weft/signal.h - signals as a stream.
 *
 * context    any thread: blocks it, never suspends
 */
#ifndef WEFT_SIGNAL_H
#define WEFT_SIGNAL_H

#include <weft/base.h>
#include <weft/chan.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Listens to signals: opens a channel of int (weft_chan_recv(c, &signo, sizeof signo)) from which each one comes that is
 * in `signals`, a list with 0 at its end. Every listener gets every signal. Closing or destroying the channel ends the
 * listening.
 *
 * As long as anybody listens to a signal, it does nothing else: not what it did before, nor what stop_on_signals and
 * dump_on_quit want of it, whether their runtime began before or begins now. Once the last listener has gone it stops or
 * dumps, if there is such a runtime, or else does what it did before weft took it; unless the program has changed that
 * meanwhile, which then stays. Other signals are left alone; so is SIGCHLD, unless it is in the list.
 *
 * Of the same signal, those that come before the first is passed on are one, as the kernel does it; and a listener that is
 * 64 behind misses the oldest (weft_chan_missed). A signal comes only if a thread of the program does not block it; those
 * of weft block all. What came before the channel was opened is not heard. A forked child does not listen: there a signal
 * does what it did before; and where its parent was listening, without a runtime, it cannot begin to, until exec.
 *
 * The channel does not know of a runtime: it may be opened before weft_run, and outlive it. While any is open, no
 * deadlock is told. A virtual clock goes on.
 *
 * returns    0; -EINVAL an empty list, no signal, SIGKILL, SIGSTOP, one that tells of a fault (SIGSEGV, SIGBUS, SIGILL,
 *            SIGFPE, SIGTRAP, SIGABRT, SIGSYS); -ENOMEM, -EAGAIN; -ECHILD in a child of a process that was listening
 * on error   *out is untouched, nothing is listened to
 * source     handlers that mark what came, and one thread that passes it on: runtime/os/signal.c */
WEFT_CHECK WEFT_API int weft_signal_open(weft_chan **out, const int *signals);

#ifdef __cplusplus
}
#endif
#endif
