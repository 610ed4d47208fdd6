/* tests/chan_test.c - sync/chan.c: what a channel keeps, in which order it comes, who waits for it, and how it ends. */
#include "support.h"

#include "base/fault.h"
#include "coord/await.h"

static const int workers[] = { 1, 2, 4 };

static weft_chan *make(size_t item_bytes, size_t capacity, const weft_chan_options *o)
{
    weft_chan *c = NULL;
    int rc = weft_chan_create(&c, item_bytes, capacity, o);
    if (rc < 0) {
        fprintf(stderr, "weft_chan_create: %s\n", weft_strerror(rc));
        abort();
    }
    return c;
}

/* -- what it is made of -- */

static int by_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static void count_drop(void *item)
{
    (void)item;
}

START_TEST(options_that_do_not_go_together_are_refused)
{
    static const struct {
        size_t bytes, capacity;
        weft_chan_options o;
        int rc;
    } tries[] = {
        { 4, 0, { 0 }, 0 },
        { 0, 0, { 0 }, 0 },
        { 0, 5, { 0 }, 0 },
        { 4, 1, { .order = WEFT_ORDER_LIFO }, 0 },
        { 4, 1, { .order = WEFT_ORDER_PRIORITY, .compare = by_int }, 0 },
        { 4, 1, { .order = WEFT_ORDER_PRIORITY }, -EINVAL },
        { 4, 1, { .order = WEFT_ORDER_PRIORITY, .compare = by_int, .drop_oldest = true }, -EINVAL },
        { 4, 0, { .order = WEFT_ORDER_LIFO }, -EINVAL },
        { 4, 0, { .order = WEFT_ORDER_PRIORITY, .compare = by_int }, -EINVAL },
        { 4, 0, { .drop_oldest = true }, -EINVAL },
        { 4, 1, { .order = 3 }, -EINVAL },
        { 4, 1, { .order = -1 }, -EINVAL },
        { 4, 1, { .reserved = { [7] = 1 } }, -EINVAL },
        { 256, 1, { .drop_oldest = true, .drop = count_drop }, 0 },
        { 257, 1, { .drop_oldest = true, .drop = count_drop }, -EINVAL },
        { 257, 1, { .drop_oldest = true }, 0 },
        { 1, (size_t)INT32_MAX + 1, { 0 }, -EINVAL },
        { SIZE_MAX, 1, { 0 }, -ENOMEM },
        { SIZE_MAX / 4, 8, { 0 }, -ENOMEM },
    };
    for (int i = 0; i < COUNT(tries); i++) {
        weft_chan *c = NULL;
        int rc = weft_chan_create(&c, tries[i].bytes, tries[i].capacity, &tries[i].o);
        ck_assert_msg(rc == tries[i].rc, "%d: %d instead of %d", i, rc, tries[i].rc);
        ck_assert((c != NULL) == (rc == 0));
        weft_chan_destroy(&c);
        ck_assert_ptr_null(c);
    }
    ck_assert_int_eq(weft_chan_create(NULL, 4, 1, NULL), -EINVAL);
}
END_TEST

START_TEST(no_memory_is_an_error)
{
    static const weft_chan_options heap = { .order = WEFT_ORDER_PRIORITY, .compare = by_int };
    static const weft_chan_options *options[] = { NULL, &heap };
    for (int i = 0; i < COUNT(options); i++) {
        weft_chan *c = NULL;
        int n = 1, rc;
        for (;; n++) {
            weft__fault_set(WEFT__FAULT_ALLOC, n, 1, -ENOMEM);
            rc = weft_chan_create(&c, 4, 100, options[i]);
            weft__fault_clear();
            if (rc != -ENOMEM)
                break;
            ck_assert_ptr_null(c);
        }
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(n, i + 3);
        weft_chan_destroy(&c);
    }
}
END_TEST

START_TEST(sizes_are_checked)
{
    int v = 1;
    int64_t wide = 1;
    weft_chan *c = make(sizeof v, 1, NULL);
    ck_assert_int_eq(weft_chan_send(c, &wide, sizeof wide), -EINVAL);
    ck_assert_int_eq(weft_chan_try_send(c, &v, 0), -EINVAL);
    ck_assert_int_eq(weft_chan_try_send(c, NULL, sizeof v), -EINVAL);
    ck_assert_int_eq(weft_chan_send(c, &v, sizeof v), 0);
    ck_assert_int_eq(weft_chan_recv(c, &wide, sizeof wide), -EINVAL);
    ck_assert_int_eq(weft_chan_try_recv(c, NULL, sizeof v), -EINVAL);
    ck_assert_int_eq((int)weft_chan_len(c), 1);
    weft_chan_destroy(&c);
    c = make(0, 2, NULL);
    ck_assert_int_eq(weft_chan_send(c, NULL, 0), 0);
    ck_assert_int_eq(weft_chan_send(c, NULL, 0), 0);
    ck_assert_int_eq(weft_chan_try_send(c, NULL, 0), -EAGAIN);
    ck_assert_int_eq(weft_chan_recv(c, NULL, 0), 1);
    ck_assert_int_eq((int)weft_chan_len(c), 1);
    weft_chan_destroy(&c);
    weft_chan_destroy(&c);
}
END_TEST

/* All sizes, so all ways to copy; round and round the ring. */
START_TEST(items_of_any_size_come_in_order)
{
    static const size_t sizes[] = { 1, 2, 4, 7, 8, 15, 16, 17, 64, 1000 };
    unsigned char in[1000], out[1000];
    for (int k = 0; k < COUNT(sizes); k++) {
        weft_chan *c = make(sizes[k], 3, NULL);
        int sent = 0, got = 0;
        for (int i = 0; i < 50; i++) {
            while (sent - got < 1 + i % 3) {
                memset(in, sent++, sizeof in);
                ck_assert_int_eq(weft_chan_try_send(c, in, sizes[k]), 0);
            }
            ck_assert_int_eq((int)weft_chan_len(c), sent - got);
            memset(out, 0xee, sizeof out);
            ck_assert_int_eq(weft_chan_try_recv(c, out, sizes[k]), 1);
            ck_assert_int_eq(out[0], got++);
            ck_assert_int_eq(out[sizes[k] - 1], got - 1);
            ck_assert(sizes[k] == sizeof out || out[sizes[k]] == 0xee);
        }
        weft_chan_destroy(&c);
    }
}
END_TEST

START_TEST(the_last_in_is_the_first_out)
{
    weft_chan *c = make(sizeof(int), 4, &(weft_chan_options){ .order = WEFT_ORDER_LIFO });
    int v;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            ck_assert_int_eq(weft_chan_try_send(c, &i, sizeof i), 0);
        ck_assert_int_eq(weft_chan_try_send(c, &round, sizeof round), -EAGAIN);
        for (int i = 3; i >= 0; i--) {
            ck_assert_int_eq(weft_chan_try_recv(c, &v, sizeof v), 1);
            ck_assert_int_eq(v, i);
        }
        ck_assert_int_eq(weft_chan_try_recv(c, &v, sizeof v), -EAGAIN);
    }
    weft_chan_destroy(&c);
}
END_TEST

struct ranked {
    int rank, number;
};

static int by_rank(const void *a, const void *b)
{
    return ((const struct ranked *)a)->rank - ((const struct ranked *)b)->rank;
}

START_TEST(the_least_is_the_first_out_and_equals_keep_their_order)
{
    enum { N = 100 };
    uint64_t seed = 7;
    weft_chan *c = make(sizeof(struct ranked), N, &(weft_chan_options){ .order = WEFT_ORDER_PRIORITY, .compare = by_rank });
    for (int round = 0; round < 20; round++) {
        struct ranked last = { -1, -1 }, r;
        for (int i = 0; i < N; i++) {
            r = (struct ranked){ (int)(next_random(&seed) % 10), i };
            ck_assert_int_eq(weft_chan_try_send(c, &r, sizeof r), 0);
        }
        for (int i = 0; i < N; i++) {
            ck_assert_int_eq(weft_chan_try_recv(c, &r, sizeof r), 1);
            ck_assert(r.rank > last.rank || (r.rank == last.rank && r.number > last.number));
            last = r;
        }
    }
    weft_chan_destroy(&c);
}
END_TEST

/* -- thrown away -- */

static int dropped[16], n_dropped;

static void drop_int(void *item)
{
    if (n_dropped < COUNT(dropped))
        dropped[n_dropped] = *(int *)item;
    n_dropped++;
}

START_TEST(a_full_channel_drops_its_oldest_and_counts)
{
    static const int orders[] = { WEFT_ORDER_FIFO, WEFT_ORDER_LIFO };
    for (int k = 0; k < 2; k++) {
        weft_chan *c = make(sizeof(int), 3,
                &(weft_chan_options){ .drop_oldest = true, .drop = drop_int, .order = orders[k] });
        int v;
        n_dropped = 0;
        for (int i = 0; i < 5; i++)
            ck_assert_int_eq(weft_chan_send(c, &i, sizeof i), 0);
        ck_assert_int_eq(n_dropped, 2);
        ck_assert_int_eq(dropped[0], 0);
        ck_assert_int_eq(dropped[1], 1);
        ck_assert_int_eq((int)weft_chan_missed(c), 2);
        ck_assert_int_eq((int)weft_chan_missed(c), 0);
        ck_assert_int_eq(weft_chan_try_recv(c, &v, sizeof v), 1);
        ck_assert_int_eq(v, k ? 4 : 2);
        /* What was dropped is done with. */
        ck_assert_int_eq(weft_chan_done(c), 0);
        ck_assert_int_eq(weft_chan_done(c), -EINVAL);
        weft_chan_destroy(&c);
        ck_assert_int_eq(n_dropped, 4);
    }
}
END_TEST

START_TEST(what_is_kept_is_dropped_at_the_end)
{
    static const weft_chan_options options[] = {
        { .drop = drop_int },
        { .drop = drop_int, .order = WEFT_ORDER_LIFO },
        { .drop = drop_int, .order = WEFT_ORDER_PRIORITY, .compare = by_int },
    };
    for (int k = 0; k < 2 * COUNT(options); k++) {
        weft_chan *c = make(sizeof(int), 4, &options[k / 2]);
        int sum = 0, v = 0;
        n_dropped = 0;
        for (int i = 1; i <= 4; i++)
            ck_assert_int_eq(weft_chan_try_send(c, &i, sizeof i), 0);
        ck_assert_int_eq(weft_chan_try_recv(c, &v, sizeof v), 1);
        ck_assert_int_eq(weft_chan_try_send(c, &v, sizeof v), 0);
        if (k % 2) {
            weft_chan_close_now(c);
            ck_assert_int_eq(n_dropped, 4);
            ck_assert_int_eq((int)weft_chan_len(c), 0);
            ck_assert_int_eq(weft_chan_try_recv(c, &v, sizeof v), 0);
            ck_assert_int_eq(weft_chan_done(c), 0); /* of the one that was received */
            ck_assert_int_eq(weft_chan_done(c), -EINVAL);
            weft_chan_close_now(c);
        }
        weft_chan_destroy(&c);
        ck_assert_int_eq(n_dropped, 4);
        for (int i = 0; i < 4; i++)
            sum += dropped[i];
        ck_assert_int_eq(sum, 10);
    }
}
END_TEST

START_TEST(a_closed_channel_gives_the_rest_and_then_ends)
{
    static const size_t capacities[] = { 0, 1, 5 };
    for (int k = 0; k < COUNT(capacities); k++) {
        weft_chan *c = make(sizeof(int), capacities[k], NULL);
        int v = 7, kept = (int)capacities[k];
        for (int i = 0; i < kept; i++)
            ck_assert_int_eq(weft_chan_try_send(c, &i, sizeof i), 0);
        ck_assert_int_eq(weft_chan_try_send(c, &v, sizeof v), -EAGAIN);
        weft_chan_close(c);
        weft_chan_close(c);
        ck_assert_int_eq(weft_chan_try_send(c, &v, sizeof v), -EPIPE);
        ck_assert_int_eq(weft_chan_send(c, &v, sizeof v), -EPIPE);
        for (int i = 0; i < kept; i++) {
            ck_assert_int_eq(i % 2 ? weft_chan_recv(c, &v, sizeof v) : weft_chan_try_recv(c, &v, sizeof v), 1);
            ck_assert_int_eq(v, i);
        }
        v = 77;
        ck_assert_int_eq(weft_chan_recv(c, &v, sizeof v), 0);
        ck_assert_int_eq(weft_chan_try_recv(c, &v, sizeof v), 0);
        ck_assert_int_eq(v, 77);
        weft_chan_destroy(&c);
    }
}
END_TEST

/* -- who waits -- */

/* A task, or plain thread, that makes one call and says so. What the call returned is kept, not returned: a task that fails
 * would send away the others of its scope, and one of them may not have begun its call yet. */
struct caller {
    weft_chan *c;
    bool sends;
    int64_t item;
    int rc;
    _Atomic(struct weft__task *) block;
    atomic_int here, gone;
};

static int call_once(void *arg)
{
    struct caller *p = arg;
    atomic_store(&p->block, weft__current()->task);
    atomic_store(&p->here, 1);
    p->rc = p->sends ? weft_chan_send(p->c, &p->item, sizeof p->item) : weft_chan_recv(p->c, &p->item, sizeof p->item);
    atomic_store(&p->gone, 1);
    return 0;
}

static void *call_on_thread(void *arg)
{
    (void)call_once(arg);
    return NULL;
}

/* Long enough for whoever is said to be here to wait, if it can wait. */
static void let_wait(void)
{
    for (int i = 0; i < 30; i++) {
        weft_ignore(weft_yield());
        if (i % 10 == 9)
            weft_ignore(weft_sleep(weft_us(200)));
    }
}

/* Waits until its call has returned, or sleeps. */
static void let_settle(struct caller *p)
{
    int64_t end = weft_after(LIMIT);
    wait_for(&p->here, 1);
    while (!atomic_load(&p->gone) && weft_now() < end &&
            weft__phase_of(at_load_acquire(&atomic_load(&p->block)->state)) != WEFT__WAITING)
        weft_ignore(weft_yield());
}

/* n of them, in the order of their numbers. */
static void start_in_order(weft_scope *s, struct caller *p, int n)
{
    for (int i = 0; i < n; i++) {
        weft_spawn(s, call_once, &p[i]);
        let_settle(&p[i]);
    }
}

struct story {
    size_t capacity;
    struct caller p[8];
    int rc[8], seen;
    int64_t items[8];
};

static int senders_in_line(void *arg)
{
    struct story *t = arg;
    weft_chan *c = make(sizeof(int64_t), t->capacity, NULL);
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 5; i++)
        t->p[i] = (struct caller){ .c = c, .sends = true, .item = i };
    start_in_order(&s, t->p, 5);
    for (int i = 0; i < 5; i++)
        t->seen += atomic_load(&t->p[i].gone);
    for (int i = 0; i < 5; i++)
        t->rc[i] = weft_chan_recv(c, &t->items[i], sizeof t->items[i]);
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&c);
    return rc;
}

START_TEST(senders_wait_in_line_and_a_rendezvous_returns_when_it_was_received)
{
    for (size_t capacity = 0; capacity < 4; capacity++) {
        struct story t = { .capacity = capacity };
        ck_assert_int_eq(weft_run(senders_in_line, &t, ON(workers[_i])), 0);
        ck_assert_int_eq(t.seen, (int)capacity);
        for (int i = 0; i < 5; i++) {
            ck_assert_int_eq(t.rc[i], 1);
            ck_assert_int_eq(t.p[i].rc, 0);
            if (!chaos())
                ck_assert_int_eq((int)t.items[i], i);
        }
    }
}
END_TEST

static int receivers_in_line(void *arg)
{
    struct story *t = arg;
    weft_chan *c = make(sizeof(int64_t), t->capacity, NULL);
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 5; i++)
        t->p[i] = (struct caller){ .c = c };
    start_in_order(&s, t->p, 5);
    for (int i = 0; i < 5; i++) {
        int64_t v = i + 1;
        t->rc[i] = weft_chan_send(c, &v, sizeof v);
    }
    int rc = weft_scope_end(&s, 0);
    weft_chan_destroy(&c);
    return rc;
}

START_TEST(receivers_wait_in_line)
{
    for (size_t capacity = 0; capacity < 2; capacity++) {
        struct story t = { .capacity = capacity };
        ck_assert_int_eq(weft_run(receivers_in_line, &t, ON(workers[_i])), 0);
        for (int i = 0; i < 5; i++) {
            ck_assert_int_eq(t.rc[i], 0);
            ck_assert_int_eq(t.p[i].rc, 1);
            if (!chaos())
                ck_assert_int_eq((int)t.p[i].item, i + 1);
        }
    }
}
END_TEST

static int close_on_waiters(void *arg)
{
    struct story *t = arg;
    bool sends = t->rc[0] != 0, now = t->rc[1] != 0;
    weft_chan *c = make(sizeof(int64_t), t->capacity, NULL);
    int64_t v = 1;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    for (size_t i = 0; sends && i < t->capacity; i++)
        weft_ignore(weft_chan_send(c, &v, sizeof v));
    for (int i = 0; i < 8; i++)
        t->p[i] = (struct caller){ .c = c, .sends = sends };
    for (int i = 0; i < 8; i++)
        weft_spawn(&s, call_once, &t->p[i]);
    for (int i = 0; i < 8; i++)
        wait_for(&t->p[i].here, 1);
    let_wait();
    if (now)
        weft_chan_close_now(c);
    else
        weft_chan_close(c);
    weft_ignore(weft_scope_end(&s, 0));
    t->seen = (int)weft_chan_len(c);
    weft_chan_destroy(&c);
    return 0;
}

START_TEST(a_close_wakes_all_who_wait)
{
    for (int k = 0; k < 8; k++) {
        struct story t = { .capacity = (size_t)(k & 1) * 2, .rc = { k & 2, k & 4 } };
        ck_assert_int_eq(weft_run(close_on_waiters, &t, ON(workers[_i])), 0);
        for (int i = 0; i < 8; i++)
            ck_assert_int_eq(t.p[i].rc, (k & 2) ? -EPIPE : 0);
        ck_assert_int_eq(t.seen, (k & 2) && !(k & 4) ? (int)t.capacity : 0);
    }
}
END_TEST

/* -- plain threads -- */

/* Who waits to send to a channel that closes is told so, all of them, though it takes a while: nothing is received after
 * one of them was. */
struct closing {
    weft_chan *c;
    atomic_int begun, closes, looks, over, told, sent, received;
};

static int send_in_vain(void *arg)
{
    struct closing *a = arg;
    int x = 1;
    atomic_fetch_add(&a->begun, 1);
    int rc = weft_chan_send(a->c, &x, sizeof x);
    if (rc == 0)
        atomic_fetch_add(&a->sent, 1);
    else if (rc == -EPIPE)
        atomic_fetch_add(&a->told, 1);
    return 0;
}

static void *receive_once_told(void *arg)
{
    struct closing *a = arg;
    int x, rc = 1;
    while (!atomic_load(&a->closes) && !atomic_load(&a->over)) /* until then it leaves the processors to the others */
        usleep(100);
    atomic_store(&a->looks, 1);
    while (!atomic_load(&a->told) && !atomic_load(&a->over))
        sched_yield();
    while (rc != 0 && !atomic_load(&a->over)) {
        rc = weft_chan_try_recv(a->c, &x, sizeof x);
        if (rc == 1)
            atomic_fetch_add(&a->received, 1);
    }
    return NULL;
}

#define SENDERS fewer(2000, BUILT(20000, 5000, 500))

/* No deadline: it would send the senders away, of whom ThreadSanitizer starts but a few hundred in a second. */
static int close_on_many_senders(void *arg)
{
    struct closing *a = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < SENDERS; i++)
        weft_spawn(&s, send_in_vain, a);
    while (atomic_load(&a->begun) < SENDERS && weft_yield() == 0)
        continue;
    atomic_store(&a->closes, 1);
    bool looks = wait_for(&a->looks, 1);
    weft_ignore(weft_sleep(weft_ms(1)));
    weft_chan_close_now(a->c);
    return weft_scope_end(&s, looks ? 0 : -ETIME);
}

START_TEST(nothing_is_sent_once_a_sender_was_told_of_the_close)
{
    struct closing a = { .c = make(sizeof(int), 0, NULL) };
    pthread_t receiver;
    ck_assert_int_eq(pthread_create(&receiver, NULL, receive_once_told, &a), 0);
    int rc = weft_run(close_on_many_senders, &a, ON(2));
    atomic_store(&a.over, 1);
    pthread_join(receiver, NULL);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(atomic_load(&a.received), 0);
    ck_assert_int_eq(atomic_load(&a.sent), 0);
    ck_assert_int_eq(atomic_load(&a.told), SENDERS);
    weft_chan_destroy(&a.c);
}
END_TEST

START_TEST(plain_threads_send_and_receive)
{
    for (size_t capacity = 0; capacity < 3; capacity += 2) {
        weft_chan *c = make(sizeof(int64_t), capacity, NULL);
        struct caller p = { .c = c };
        int64_t v = 5;
        pthread_t t = thread_start(call_on_thread, &p);
        ck_assert_int_eq(weft_chan_send(c, &v, sizeof v), 0);
        pthread_join(t, NULL);
        ck_assert_int_eq(p.rc, 1);
        ck_assert_int_eq((int)p.item, 5);
        p = (struct caller){ .c = c, .sends = true, .item = 6 };
        t = thread_start(call_on_thread, &p);
        ck_assert_int_eq(weft_chan_recv(c, &v, sizeof v), 1);
        ck_assert_int_eq((int)v, 6);
        pthread_join(t, NULL);
        weft_scope s;
        weft_scope_begin(&s, weft_ms(3));
        ck_assert_int_eq(weft_scope_end(&s, weft_chan_recv(c, &v, sizeof v)), -ETIMEDOUT);
        p = (struct caller){ .c = c };
        t = thread_start(call_on_thread, &p);
        wait_for(&p.here, 1);
        weft_chan_close(c);
        pthread_join(t, NULL);
        ck_assert_int_eq(p.rc, 0);
        weft_chan_destroy(&c);
    }
}
END_TEST

struct crossing {
    weft_chan *c;
    int n;
    atomic_llong sum;
};

static int send_some(void *arg)
{
    struct crossing *x = arg;
    int rc = 0;
    for (int64_t i = 1; i <= x->n && rc == 0; i++)
        rc = weft_chan_send(x->c, &i, sizeof i);
    return rc;
}

static int receive_all(void *arg)
{
    struct crossing *x = arg;
    int64_t v;
    int rc;
    while ((rc = weft_chan_recv(x->c, &v, sizeof v)) > 0)
        atomic_fetch_add(&x->sum, v);
    return rc;
}

static void *receive_on_thread(void *arg)
{
    if (receive_all(arg) != 0)
        abort();
    return NULL;
}

START_TEST(tasks_of_two_runtimes_and_threads_share_one)
{
    static const size_t capacities[] = { 0, 1, 64 };
    for (int k = 0; k < COUNT(capacities); k++) {
        struct crossing x = { .c = make(sizeof(int64_t), capacities[k], NULL), .n = SCALED(2000, 1000, 300) };
        weft_runtime *a = NULL, *b = NULL;
        ck_assert_int_eq(weft_runtime_create(&a, ON(workers[_i])), 0);
        ck_assert_int_eq(weft_runtime_create(&b, ON(2)), 0);
        pthread_t t = thread_start(receive_on_thread, &x);
        weft_scope from, to;
        weft_scope_begin_with(&to, LIMIT, &(weft_scope_options){ .on = b });
        weft_scope_begin_with(&from, LIMIT, &(weft_scope_options){ .on = a });
        for (int i = 0; i < 3; i++) {
            weft_spawn(&from, send_some, &x);
            weft_spawn(&to, receive_all, &x);
        }
        ck_assert_int_eq(weft_scope_end(&from, 0), 0);
        weft_chan_close(x.c);
        ck_assert_int_eq(weft_scope_end(&to, 0), 0);
        pthread_join(t, NULL);
        ck_assert_int_eq((int)atomic_load(&x.sum), 3 * x.n * (x.n + 1) / 2);
        weft_chan_destroy(&x.c);
        weft_runtime_destroy(&a);
        weft_runtime_destroy(&b);
    }
}
END_TEST

/* -- told to leave: nothing is lost -- */

enum how { CANCELLED_WHILE, DEADLINE_WHILE, CANCELLED_BEFORE, HOWS };

struct leaving {
    enum how how;
    bool sends;
    size_t capacity;
    int rc, kept;
    int64_t item, next;
};

static int leave(void *arg)
{
    struct leaving *l = arg;
    weft_chan *c = make(sizeof(int64_t), l->capacity, NULL);
    struct caller p = { .c = c, .sends = l->sends, .item = 42 };
    int64_t v = 1;
    for (size_t i = 0; l->sends && i < l->capacity && l->how != CANCELLED_BEFORE; i++)
        weft_ignore(weft_chan_send(c, &v, sizeof v));
    if (!l->sends && l->how == CANCELLED_BEFORE && l->capacity > 0)
        weft_ignore(weft_chan_send(c, &v, sizeof v));
    weft_scope s;
    weft_scope_begin(&s, l->how == DEADLINE_WHILE ? weft_ms(5) : WEFT_NEVER);
    if (l->how == CANCELLED_BEFORE)
        weft_scope_cancel(&s, NULL);
    weft_spawn(&s, call_once, &p);
    if (l->how == CANCELLED_WHILE) {
        wait_for(&p.here, 1);
        let_wait();
        weft_scope_cancel(&s, NULL);
    }
    weft_ignore(weft_scope_end(&s, 0));
    l->rc = p.rc;
    l->item = p.item;
    l->kept = (int)weft_chan_len(c);
    /* It has left the list: the next item is not for it. */
    weft_scope_begin(&s, LIMIT);
    struct caller next = { .c = c, .sends = !l->sends, .item = 9 };
    for (int i = 0; i < l->kept; i++)
        weft_ignore(weft_chan_recv(c, &v, sizeof v));
    weft_spawn(&s, call_once, &next);
    v = 9;
    int rc = l->sends ? weft_chan_send(c, &v, sizeof v) : weft_chan_recv(c, &v, sizeof v);
    l->next = l->sends ? (weft_ignore(weft_scope_end(&s, 0)), next.item) : (weft_ignore(weft_scope_end(&s, 0)), v);
    weft_chan_destroy(&c);
    return rc < 0 ? rc : 0;
}

START_TEST(who_is_told_to_leave_moves_nothing)
{
    for (int k = 0; k < HOWS * 4; k++) {
        struct leaving l = { .how = (enum how)(k / 4), .sends = k & 1, .capacity = (k & 2) ? 2 : 0 };
        ck_assert_int_eq(weft_run(leave, &l, ON(workers[_i])), 0);
        ck_assert_int_eq(l.rc, -ECANCELED);
        ck_assert_int_eq((int)l.item, 42);
        ck_assert_int_eq((int)l.next, 9);
        int due = l.how == CANCELLED_BEFORE ? !l.sends && l.capacity : l.sends ? (int)l.capacity : 0;
        ck_assert_int_eq(l.kept, due);
    }
}
END_TEST

/* Cancels that come at any time, against items: each item is received, or still there. */
struct race {
    weft_chan *c;
    weft_scope *victim;
    int rounds, received, sent, wrong;
};

static int receive_once(void *arg)
{
    struct race *r = arg;
    int64_t v = -1;
    int rc = weft_chan_recv(r->c, &v, sizeof v);
    r->received += rc == 1;
    r->wrong += rc == 1 ? v != 7 : v != -1;
    return 0;
}

static int send_one(void *arg)
{
    struct race *r = arg;
    int64_t v = 7;
    r->sent += weft_chan_send(r->c, &v, sizeof v) == 0;
    return 0;
}

static int cancel_it(void *arg)
{
    struct race *r = arg;
    weft_scope_cancel(r->victim, NULL);
    return 0;
}

static int race_rounds(void *arg)
{
    struct race *r = arg;
    int rc = 0;
    for (int i = 0; i < r->rounds && rc == 0; i++) {
        weft_scope all, one;
        int64_t v;
        r->received = r->sent = 0;
        weft_scope_begin(&all, LIMIT);
        weft_scope_begin(&one, WEFT_NEVER);
        r->victim = &one;
        weft_spawn(&one, i & 1 ? receive_once : send_one, r);
        weft_spawn(&all, i & 2 ? cancel_it : i & 1 ? send_one : receive_once, r);
        weft_spawn(&all, i & 2 ? (i & 1 ? send_one : receive_once) : cancel_it, r);
        weft_ignore(weft_scope_end(&one, 0));
        if (i & 1 && r->received == 0)
            r->received += weft_chan_recv(r->c, &v, sizeof v) == 1;
        else if (!(i & 1) && r->sent == 0)
            weft_ignore(send_one(r));
        rc = weft_scope_end(&all, 0);
        r->wrong += r->received != 1 || r->sent != 1 || weft_chan_len(r->c) != 0;
    }
    return rc;
}

START_TEST(a_cancel_against_an_item_loses_neither)
{
    struct race r = { .rounds = fewer(500, SCALED(20000, 5000, 2000)) };
    for (size_t capacity = 0; capacity < 2; capacity++) {
        r.c = make(sizeof(int64_t), capacity, NULL);
        ck_assert_int_eq(weft_run(race_rounds, &r, ON(workers[_i])), 0);
        ck_assert_int_eq(r.wrong, 0);
        weft_chan_destroy(&r.c);
    }
}
END_TEST

/* -- done -- */

struct work {
    weft_chan *c;
    int items, handled, at_end, late;
};

static int handle(void *arg)
{
    struct work *w = arg;
    int v, rc;
    while ((rc = weft_chan_recv(w->c, &v, sizeof v)) > 0) {
        if (v % 3 == 0)
            weft_ignore(weft_yield());
        w->handled++;
        if ((rc = weft_chan_done(w->c)) < 0)
            return rc;
    }
    return rc;
}

static int wait_for_work(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    int rc = weft_chan_wait_done(w->c); /* none was sent */
    weft_spawn_with(&s, handle, w, NULL);
    for (int i = 0; i < w->items && rc == 0; i++)
        rc = weft_chan_send(w->c, &i, sizeof i);
    if (rc == 0)
        rc = weft_chan_wait_done(w->c);
    w->at_end = w->handled;
    weft_chan_close(w->c);
    rc = weft_scope_end(&s, rc);
    w->late = weft_chan_done(w->c);
    return rc;
}

START_TEST(wait_done_returns_when_all_is_done)
{
    static const size_t capacities[] = { 0, 1, 10 };
    for (int k = 0; k < COUNT(capacities); k++) {
        struct work w = { .c = make(sizeof(int), capacities[k], NULL), .items = 100 };
        ck_assert_int_eq(weft_run(wait_for_work, &w, ON(workers[_i])), 0);
        ck_assert_int_eq(w.at_end, 100);
        ck_assert_int_eq(w.late, -EINVAL);
        weft_chan_destroy(&w.c);
    }
}
END_TEST

static int join_work(void *arg)
{
    struct work *w = arg;
    return weft_chan_wait_done(w->c);
}

static int throw_work_away(void *arg)
{
    struct work *w = arg;
    weft_scope s;
    int v = 1;
    for (int i = 0; i < 3; i++)
        if (weft_chan_try_send(w->c, &v, sizeof v) < 0)
            return -EBADMSG;
    weft_scope_begin(&s, weft_ms(3));
    w->handled = weft_scope_end(&s, weft_chan_wait_done(w->c));
    weft_scope_begin(&s, LIMIT);
    for (int i = 0; i < 40; i++)
        weft_spawn(&s, join_work, w);
    let_wait();
    if (weft_chan_try_recv(w->c, &v, sizeof v) != 1)
        return weft_scope_end(&s, -EBADMSG);
    weft_chan_close_now(w->c);
    let_wait();
    w->at_end = weft_chan_done(w->c);
    return weft_scope_end(&s, 0);
}

START_TEST(close_now_lowers_what_wait_done_waits_for)
{
    struct work w = { .c = make(sizeof(int), 4, NULL) };
    ck_assert_int_eq(weft_run(throw_work_away, &w, ON(workers[_i])), 0);
    ck_assert_int_eq(w.handled, -ETIMEDOUT);
    ck_assert_int_eq(w.at_end, 0);
    weft_chan_destroy(&w.c);
}
END_TEST

/* -- budget, freeing -- */

struct hog {
    weft_chan *c;
    atomic_int stop;
    long turns;
};

static int use_always_ready(void *arg)
{
    struct hog *h = arg;
    int v = 0, rc = 0;
    while (!atomic_load(&h->stop) && rc >= 0) {
        rc = weft_chan_send(h->c, &v, sizeof v);
        if (rc >= 0)
            rc = weft_chan_recv(h->c, &v, sizeof v);
        h->turns++;
    }
    return rc < 0 ? rc : 0;
}

static int stop_it(void *arg)
{
    struct hog *h = arg;
    atomic_store(&h->stop, 1);
    return 0;
}

static int hog_and_other(void *arg)
{
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, use_always_ready, arg);
    weft_spawn(&s, stop_it, arg);
    return weft_scope_end(&s, 0);
}

START_TEST(a_channel_that_is_always_ready_lets_others_run)
{
    struct hog h = { .c = make(sizeof(int), 1, NULL) };
    ck_assert_int_eq(weft_run(hog_and_other, &h, ON(1)), 0);
    weft_chan_destroy(&h.c);
}
END_TEST

enum { NAPS = 9 };

struct napper {
    struct hog hog;
    int slept, late;
};

static int nap_and_stop_it(void *arg)
{
    struct napper *n = arg;
    for (int i = 0; i < NAPS; i++) {
        int64_t due = weft_after(weft_ms(1));
        n->slept += weft_sleep_until(due) == 0;
        n->late += weft_now() - due >= weft_ms(10);
    }
    atomic_store(&n->hog.stop, 1);
    return 0;
}

static int hog_and_napper(void *arg)
{
    struct napper *n = arg;
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, nap_and_stop_it, n);
    weft_spawn(&s, use_always_ready, &n->hog);
    return weft_scope_end(&s, 0);
}

/* B-006: no more than 10 ms, in one of the tries most of the times. */
START_TEST(a_channel_that_is_always_ready_lets_timers_strike_soon)
{
    bool timed = !TSAN && !ASAN && !chaos();
    int late;
    int64_t end = weft_after(LIMIT);
    do {
        struct napper n = { .hog.c = make(sizeof(int), 1, NULL) };
        int rc = weft_run(hog_and_napper, &n, ON(1));
        weft_chan_destroy(&n.hog.c);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(n.slept, NAPS);
        late = n.late;
    } while (timed && late > NAPS / 2 && weft_now() < end);
    if (timed)
        ck_assert_int_le(late, NAPS / 2);
}
END_TEST

static int answer_once(void *arg)
{
    weft_chan *c = *(weft_chan **)arg;
    int64_t v = 1;
    return weft_chan_send(c, &v, sizeof v);
}

static int close_once(void *arg)
{
    weft_chan_close(*(weft_chan **)arg);
    return 0;
}

/* Each round has a channel of its own, which is gone as soon as its one item was received, or its end was seen. */
static int destroy_at_once(void *arg)
{
    int rounds = *(int *)arg, rc = 0;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    for (int i = 0; i < rounds && rc == 0; i++) {
        weft_chan *c = make(sizeof(int64_t), (size_t)(i & 1), NULL);
        int64_t v;
        weft_spawn_copy(&s, i & 2 ? answer_once : close_once, &c, sizeof(weft_chan *));
        if (i % 5 == 0)
            rc = weft_yield();
        if (rc == 0 && weft_chan_recv(c, &v, sizeof v) != (i & 2) / 2)
            rc = -EBADMSG;
        weft_chan_destroy(&c);
    }
    return weft_scope_end(&s, rc);
}

START_TEST(who_got_the_last_item_may_destroy_it_at_once)
{
    int rounds = fewer(1000, SCALED(20000, 5000, 3000));
    ck_assert_int_eq(weft_run(destroy_at_once, &rounds, ON(workers[_i])), 0);
}
END_TEST

static int wait_for_ever(void *arg)
{
    struct caller *p = arg;
    return weft_chan_recv(p->c, &p->item, sizeof p->item);
}

static int destroy_under(void *arg)
{
    struct caller *p = arg;
    weft_scope s;
    weft_scope_begin(&s, WEFT_NEVER);
    weft_spawn(&s, wait_for_ever, p);
    for (int i = 0; i < 100; i++)
        weft_ignore(weft_yield());
    weft_chan_destroy(&p->c);
    return weft_scope_end(&s, 0);
}

static void destroy_it_while_one_waits(void *arg)
{
    struct caller p = { .c = make(sizeof(int64_t), 0, NULL) };
    (void)arg;
    weft_ignore(weft_run(destroy_under, &p, ON(1)));
}

START_TEST(to_destroy_it_under_a_waiter_aborts)
{
    if (!forking() || TSAN)
        return;
    struct death d = die(destroy_it_while_one_waits, NULL);
    ck_assert_int_eq(d.signal, SIGABRT);
}
END_TEST

/* -- typed -- */

struct job {
    int number;
    double weight;
};
WEFT_CHAN_TYPE(jobs, struct job);

START_TEST(typed_channels_take_their_type)
{
    jobs *c WEFT_AUTO(jobs_destroy) = NULL;
    struct job j = { 3, 0.5 }, k = { 0, 0 };
    ck_assert_int_eq(jobs_create(&c, 2, NULL), 0);
    ck_assert_int_eq(jobs_send(c, &j), 0);
    ck_assert_int_eq(jobs_try_send(c, &j), 0);
    ck_assert_int_eq(jobs_try_send(c, &j), -EAGAIN);
    ck_assert_int_eq(jobs_recv(c, &k), 1);
    ck_assert_int_eq(k.number, 3);
    ck_assert_int_eq((int)weft_chan_len(jobs_chan(c)), 1);
    jobs_close(c);
    ck_assert_int_eq(jobs_try_recv(c, &k), 1);
    ck_assert_int_eq(jobs_try_recv(c, &k), 0);
}
END_TEST

/* -- programs that others test their channels with -- */

/* Go's prime sieve: a chain of filters that grows. */
struct filter {
    weft_chan *in, *out;
    int prime;
};

static int generate(void *arg)
{
    struct filter *f = arg;
    int rc = 0;
    for (int i = 2; rc == 0; i++)
        rc = weft_chan_send(f->out, &i, sizeof i);
    return rc == -EPIPE ? 0 : rc;
}

static int filter(void *arg)
{
    struct filter *f = arg;
    int v, rc;
    while ((rc = weft_chan_recv(f->in, &v, sizeof v)) > 0)
        if (v % f->prime != 0 && (rc = weft_chan_send(f->out, &v, sizeof v)) < 0)
            break;
    weft_chan_close(f->in);
    return rc == -EPIPE ? 0 : rc;
}

enum { PRIMES = 60 };

static int sieve(void *arg)
{
    int *last = arg, rc = 1;
    weft_chan *link[PRIMES + 1];
    struct filter f[PRIMES + 1];
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    link[0] = make(sizeof(int), 0, NULL);
    f[PRIMES] = (struct filter){ .out = link[0] };
    weft_spawn(&s, generate, &f[PRIMES]);
    for (int i = 0; i < PRIMES; i++)
        link[i + 1] = make(sizeof(int), i % 2 ? 0 : 3, NULL);
    for (int i = 0; i < PRIMES && rc == 1; i++) {
        rc = weft_chan_recv(link[i], last, sizeof *last);
        f[i] = (struct filter){ link[i], link[i + 1], *last };
        weft_spawn(&s, filter, &f[i]);
    }
    weft_chan_close_now(link[PRIMES]);
    rc = weft_scope_end(&s, rc == 1 ? 0 : -EBADMSG);
    for (int i = 0; i <= PRIMES; i++)
        weft_chan_destroy(&link[i]);
    return rc;
}

START_TEST(a_chain_of_filters_sieves_primes)
{
    int last = 0;
    ck_assert_int_eq(weft_run(sieve, &last, ON(workers[_i])), 0);
    ck_assert_int_eq(last, 281);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chan");
    TCase *tc = add_case(s, "items");
    tcase_add_test(tc, options_that_do_not_go_together_are_refused);
    tcase_add_test(tc, no_memory_is_an_error);
    tcase_add_test(tc, sizes_are_checked);
    tcase_add_test(tc, items_of_any_size_come_in_order);
    tcase_add_test(tc, the_last_in_is_the_first_out);
    tcase_add_test(tc, the_least_is_the_first_out_and_equals_keep_their_order);
    tcase_add_test(tc, a_full_channel_drops_its_oldest_and_counts);
    tcase_add_test(tc, what_is_kept_is_dropped_at_the_end);
    tcase_add_test(tc, a_closed_channel_gives_the_rest_and_then_ends);
    tcase_add_test(tc, typed_channels_take_their_type);
    tc = add_case(s, "waits");
    tcase_add_loop_test(tc, senders_wait_in_line_and_a_rendezvous_returns_when_it_was_received, 0, COUNT(workers));
    tcase_add_loop_test(tc, receivers_wait_in_line, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_close_wakes_all_who_wait, 0, COUNT(workers));
    tcase_add_test(tc, nothing_is_sent_once_a_sender_was_told_of_the_close);
    tcase_add_test(tc, plain_threads_send_and_receive);
    tcase_add_loop_test(tc, tasks_of_two_runtimes_and_threads_share_one, 0, COUNT(workers));
    tcase_add_loop_test(tc, who_is_told_to_leave_moves_nothing, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_cancel_against_an_item_loses_neither, 0, COUNT(workers));
    tcase_add_loop_test(tc, wait_done_returns_when_all_is_done, 0, COUNT(workers));
    tcase_add_loop_test(tc, close_now_lowers_what_wait_done_waits_for, 0, COUNT(workers));
    tcase_add_test(tc, a_channel_that_is_always_ready_lets_others_run);
    tcase_add_test(tc, a_channel_that_is_always_ready_lets_timers_strike_soon);
    tcase_add_loop_test(tc, who_got_the_last_item_may_destroy_it_at_once, 0, COUNT(workers));
    tcase_add_test(tc, to_destroy_it_under_a_waiter_aborts);
    tcase_add_loop_test(tc, a_chain_of_filters_sieves_primes, 0, COUNT(workers));
    return run_suite(s);
}
