/* coord/local.c - values that belong to a task.
 *
 * Owns      the values of a frame (coord/keeps.h): those of its own in a list, those that are handed on in an array that
 *           never changes once it can be seen by others.
 * Callers   get and set: the task or thread itself. hold, let_go: whoever spawns, and whoever ends.
 * Holds     V1  a key is known by a number that it gets when it is first set, not by its address, where another may be
 *               by then.
 *           V2  an array of handed values, and each entry of it, is shared and counted; it is read without a lock. Who
 *               sets a value makes another array, with the same entries but one. So a spawn counts once, whatever there is.
 *           V3  who takes the last count away drops the value. acq_rel: it sees what all other holders did with it.
 * Dropped   a copy of all entries at each spawn: a spawn is frequent, a set is not.
 * Source    Python's contextvars, whose context is copied as a tree of immutable nodes.
 * Tested    tests/local_test.c, tests/fault_coord_test.c */
#include <errno.h>
#include <weft/local.h>

#include "base/mem.h"
#include "coord/await.h"
#include "coord/keeps.h"

struct weft__value {
    struct weft__value *next;
    uint64_t id;
    void *value;
    void (*drop)(void *value);
};

struct entry {
    at_word holders; /* arrays that have it */
    uint64_t id;
    void *value;
    void (*drop)(void *value);
};

struct weft__handed {
    at_word holders; /* tasks, and those that are not started yet */
    int n;
    struct entry *entry[];
};

/* ---- keys */

static at_word *number_of(weft_local *key)
{
    return (at_word *)(void *)&key->opaque[0];
}

/* V1 */
static uint64_t id_for(weft_local *key)
{
    static at_word ids;
    uint64_t id = at_load(number_of(key));
    if (id != 0)
        return id;
    (void)at_cas(number_of(key), 0, at_add(&ids, 1) + 1); /* or another thread has just done it */
    return at_load(number_of(key));
}

/* ---- handed values */

static void entry_let_go(struct entry *e)
{
    if (at_add(&e->holders, (uint64_t)-1) != 1) /* V3 */
        return;
    if (e->drop)
        e->drop(e->value);
    weft__mem_free(e);
}

struct weft__handed *weft__handed_hold(struct weft__handed *h)
{
    if (h)
        at_add(&h->holders, 1);
    return h;
}

void weft__handed_let_go(struct weft__handed *h)
{
    if (!h || at_add(&h->holders, (uint64_t)-1) != 1) /* V3 */
        return;
    while (h->n > 0)
        entry_let_go(h->entry[--h->n]);
    weft__mem_free(h);
}

/* Where it is; n: nowhere. */
static int find_handed(const struct weft__handed *h, uint64_t id)
{
    int i = 0, n = h ? h->n : 0;
    while (i < n && h->entry[i]->id != id)
        i++;
    return i;
}

/* V2. The same but entry `at`, which is not there, and `e` at the end, if that is not NULL. NULL: no memory. */
static struct weft__handed *changed(const struct weft__handed *h, int at, struct entry *e)
{
    int n = h ? h->n : 0;
    struct weft__handed *new = weft__mem_alloc(sizeof *new + (size_t)(n + 1) * sizeof(void *));
    if (!new)
        return NULL;
    at_store(&new->holders, 1);
    new->n = 0;
    for (int i = 0; i < n; i++)
        if (i != at) {
            at_add(&h->entry[i]->holders, 1);
            new->entry[new->n++] = h->entry[i];
        }
    if (e)
        new->entry[new->n++] = e;
    return new;
}

static struct entry *entry_new(uint64_t id, void *value, void (*drop)(void *value))
{
    struct entry *e = weft__mem_alloc(sizeof *e);
    if (!e)
        return NULL;
    at_store(&e->holders, 1);
    e->id = id;
    e->value = value;
    e->drop = drop;
    return e;
}

static int set_handed(struct weft__keeps *k, uint64_t id, void *value, void (*drop)(void *value))
{
    struct weft__handed *old = k->handed;
    int n = old ? old->n : 0, at = find_handed(old, id);
    if ((at < n ? old->entry[at]->value : NULL) == value)
        return 0;
    bool none_left = !value && n == 1;
    struct entry *e = value ? entry_new(id, value, drop) : NULL;
    struct weft__handed *new = none_left || (value && !e) ? NULL : changed(old, at, e);
    if (!new && !none_left) {
        weft__mem_free(e);
        return -ENOMEM;
    }
    k->handed = new;
    weft__handed_let_go(old);
    return 0;
}

/* ---- values of its own */

static struct weft__value **find_value(struct weft__keeps *k, uint64_t id)
{
    struct weft__value **at = &k->values;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void drop_value(struct weft__value *v)
{
    if (v && v->drop)
        v->drop(v->value);
    weft__mem_free(v);
}

static int set_value(struct weft__keeps *k, uint64_t id, void *value, void (*drop)(void *value))
{
    struct weft__value **at = find_value(k, id), *old = *at, *new = NULL;
    if ((old ? old->value : NULL) == value)
        return 0;
    if (value && !(new = weft__mem_alloc(sizeof *new)))
        return -ENOMEM;
    if (old)
        *at = old->next;
    if (new) {
        new->next = k->values;
        new->id = id;
        new->value = value;
        new->drop = drop;
        k->values = new;
    }
    drop_value(old); /* last: it may look at others */
    return 0;
}

void weft__values_end(struct weft__keeps *k)
{
    struct weft__value *v;
    k->ending = true;
    while ((v = k->values) != NULL) {
        k->values = v->next;
        drop_value(v);
    }
    struct weft__handed *h = k->handed;
    k->handed = NULL;
    weft__handed_let_go(h);
}

/* ---- a call for a task */

int weft__values_lend(struct weft__keeps *k, struct weft__handed *h)
{
    struct weft__frame *f = h ? weft__current() : weft__thread_known();
    *k = (struct weft__keeps){ .handed = h };
    if (f) {
        own_set(f->keeps, k);
        return 0;
    }
    weft__handed_let_go(h);
    return h ? weft__no_frame() : 0;
}

void weft__values_lent_end(void)
{
    struct weft__frame *f = weft__thread_known();
    if (f && own(f->keeps)) /* lent, or made by the function itself */
        (void)weft__keeps_end(f, 0);
}

void weft__values_borrow(struct weft__frame *loop, struct weft__keeps *k, struct weft__handed *h)
{
    *k = (struct weft__keeps){ .handed = h };
    own_set(loop->keeps, k);
}

/* No generators: none can be made outside of a task. */
void weft__values_borrowed_end(struct weft__frame *loop)
{
    weft__values_end(own(loop->keeps));
    own_set(loop->keeps, NULL);
}

/* ---- for programs */

/* Who has none yet has no values either. A worker's loop has some while it calls for the end of a task. */
static struct weft__frame *known(void)
{
    struct weft__sched *w = weft__self();
    return w ? own(w->frame) : weft__thread_known();
}

struct weft__handed *weft__values_to_hand_on(void)
{
    const struct weft__frame *f = known();
    return f ? weft__keeps_handed(own(f->keeps)) : NULL;
}

void *weft_local_get(weft_local *key)
{
    struct weft__frame *f = key ? known() : NULL;
    struct weft__keeps *k = f ? own(f->keeps) : NULL;
    uint64_t id = k ? at_load(number_of(key)) : 0;
    if (id == 0)
        return NULL;
    if (key->inherit) {
        int at = find_handed(k->handed, id);
        return k->handed && at < k->handed->n ? k->handed->entry[at]->value : NULL;
    }
    struct weft__value *v = *find_value(k, id);
    return v ? v->value : NULL;
}

int weft_local_set(weft_local *key, void *value)
{
    if (!key)
        return -EINVAL;
    struct weft__frame *f = known();
    if (!f || (!f->task && !own(f->keeps)))
        f = weft__current();
    if (!f)
        return weft__no_frame();
    if (!own(f->keeps) && !value)
        return 0;
    struct weft__keeps *k = weft__keeps(f);
    if (!k)
        return -ENOMEM;
    if (k->ending)
        return -EINVAL;
    return key->inherit ? set_handed(k, id_for(key), value, key->drop) : set_value(k, id_for(key), value, key->drop);
}
