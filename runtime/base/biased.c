/* base/biased.c - how the right to a biased lock is given and taken away. See biased.h. */
#include "base/biased.h"

/* R3, R4, or B4 by now. */
static at_int *try_as_all(struct weft__biased *b)
{
    /* acquire: meets the release of the one who had it. */
    if (ati_load_acquire(&b->held) != 0 || ati_load(&b->taken) != 0)
        return NULL;
    return ati_cas(&b->taken, 0, 1) ? &b->taken : NULL; /* acquire: as above */
}

/* With the lock: R1, R2. */
static bool take_away(struct weft__biased *b)
{
    uint64_t whose = at_load(&b->whose);
    if (whose == WEFT__BIASED_ALL)
        return true;
    at_store(&b->whose, WEFT__BIASED_LEAVING);
    if (!weft__fence_heavy()) {
        at_store(&b->whose, whose); /* who has the right may have seen the other: it comes here, and tries again */
        return false;
    }
    at_store_release(&b->whose, WEFT__BIASED_ALL);
    return true;
}

at_int *weft__biased_try_slow(struct weft__biased *b, uint64_t party, bool tried)
{
    if (!tried && at_load_acquire(&b->whose) == WEFT__BIASED_ALL)
        return try_as_all(b);
    at_int *word = NULL;
    weft__lock(&b->lock);
    if (tried)
        ati_store_release(&b->held, 0); /* B4; release: who finds this one is owed what the last that counted published */
    uint64_t whose = at_load(&b->whose);
    if (whose == WEFT__BIASED_NOBODY_YET ||
            (whose == party && ati_load(&b->held) == 0)) { /* the latter: take_away was refused its fence */
        ati_store(&b->held, 1);
        at_store(&b->whose, party);
        word = &b->held;
    } else if (whose != party && take_away(b)) {
        word = try_as_all(b);
    }
    weft__unlock(&b->lock);
    return word;
}
