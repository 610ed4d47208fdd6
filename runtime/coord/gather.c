/* coord/gather.c - one function over an array, in a scope.
 *
 * Tested    tests/policy_test.c */
#include <errno.h>

#include "coord/await.h"

int weft_gather(void *items, size_t n, size_t item_bytes, weft_fn *fn, const weft_scope_options *o)
{
    weft_scope s;
    int rc = 0;
    if (!fn || (!items && n > 0))
        return -EINVAL;
    struct weft__frame *f = weft__current();
    if (!f)
        return weft__no_frame();
    weft_scope_begin_with(&s, WEFT_NEVER, o);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (weft__told(f)) {
            rc = -ECANCELED; /* what is left out makes it a body that left */
        } else {
            weft_task t = weft_spawn(&s, fn, (char *)items + i * item_bytes);
            if (t == -ECANCELED)
                rc = -ECANCELED;
        }
    }
    return weft_scope_end(&s, rc);
}
