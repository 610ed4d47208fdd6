/* base/list.h - intrusive doubly linked lists. A node that is in no list points to itself or is zeroed. */
#ifndef WEFT_BASE_LIST_H
#define WEFT_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct weft__link {
    struct weft__link *next, *prev;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

static inline void list_init(struct weft__link *l)
{
    l->next = l->prev = l;
}
static inline bool list_empty(const struct weft__link *l)
{
    return l->next == l;
}
static inline bool list_linked(const struct weft__link *n)
{
    return n->next != NULL && n->next != n;
}
static inline void list_push_tail(struct weft__link *l, struct weft__link *n)
{
    n->prev = l->prev;
    n->next = l;
    l->prev->next = n;
    l->prev = n;
}
static inline void list_push_head(struct weft__link *l, struct weft__link *n)
{
    list_push_tail(l->next, n);
}
static inline void list_remove(struct weft__link *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = n->prev = n;
}
static inline struct weft__link *list_pop_head(struct weft__link *l)
{
    struct weft__link *n = l->next;
    if (n == l)
        return NULL;
    list_remove(n);
    return n;
}

#endif
