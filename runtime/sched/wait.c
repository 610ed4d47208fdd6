/* sched/wait.c - W6: a wait that a cancel may have missed. See wait.h.
 *
 * Owns      the epoch of cancels.
 * Callers   whoever has left the frame, on the next context. */
#include "sched/sched.h"

at_word weft__cancel_epoch = 1;

bool weft__wait_look_again(struct weft__frame *f, struct weft__task *t, uint64_t asleep, bool (*told)(struct weft__frame *f))
{
    if (!weft__wait_take_back(t, asleep))
        return true;
    weft__hb_acquire(&f->context); /* meets the release in switch_to */
    /* So nobody runs it, and its frame is there. A cancel that comes from now on finds the wait, in either phase. */
    if (told(f))
        (void)weft__wait_claim(weft__token_make(t, weft__number_of(asleep)), WEFT__CAUSE_CANCEL);
    return weft__wait_commit(t) != 0;
}
