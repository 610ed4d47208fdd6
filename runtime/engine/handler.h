/* engine/handler.h - which of weft's handlers a signal has. See handler.c. */
#ifndef WEFT_ENGINE_HANDLER_H
#define WEFT_ENGINE_HANDLER_H

/* Who may take a signal; of two, the later one here has it. */
enum weft__taker { WEFT__TAKER_STOP, WEFT__TAKER_LISTENER, WEFT__TAKERS };

/* Takes it, and gives it back: each taker once, for all of its users. Signals of 1 to 64. */
void weft__handler_take(int signo, enum weft__taker who, void (*handler)(int));
void weft__handler_give(int signo, enum weft__taker who);
/* In a handler, of a forked child: the signal does what it did before anybody took it, once the handler returns. */
void weft__handler_undo(int signo);

#endif
