/* explore.c - the explorer. See explore.h.
 *
 * Owns      the threads (coroutines on stacks of their own), the messages, and the search.
 * Search    a run is played from the start, following the choices recorded; where they end the first alternative is
 *           taken. A point where a thread is chosen is a state; one that was seen before ends the run. Then the last
 *           choice with an alternative left is moved on. Words that one thread alone touches, or that nobody writes,
 *           are no points; when a word turns out to be shared after all, the search starts anew. */
#include "explore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum {
    THREADS = 5,
    FIBERS = 2 * THREADS, /* clocks: the threads', then those of each one's other fiber */
    WORDS = 160,
    MESSAGES = 900,
    STACK = 128 * 1024,
    DEPTH = 8000,
    STEPS = 3000,
    CELLS = 64,
    BLOCKS = 64,
    GHOSTS = 16
};

/* What memory holds before anybody has written to it. To read it is no error as long as it is not believed. */
#define UNWRITTEN UINT64_C(0x5ead5ead5ead5ead)

typedef uint16_t view[WORDS]; /* for each word the message read last; 0: the first */
typedef uint16_t clocks[FIBERS];

struct message {
    uint64_t value, hash;
    uint16_t word, place; /* in the word's order */
    bool taken;           /* a read-modify-write has it for its predecessor: nothing comes between */
    view v;
    clocks c;
};

struct word {
    const void *p;
    unsigned bytes;
    uint64_t hash; /* of its order */
    int n;
    bool used;
    uint16_t order[64];
    uint16_t touched[FIBERS]; /* clock of each one's last access, + 1 */
    uint16_t relied[FIBERS];  /* of its last load that counted, see ex_relied */
    /* A lock. */
    bool held;
    /* Kept from run to run. */
    unsigned readers, writers;
    bool is_lock, is_loaded;
};

enum waiting { RUNS, ENDED, ON_LOCK, ON_FUTEX, ON_RELAX, ON_HOLDS };

struct thread {
    jmp_buf at, top;
    char *stack;
    enum waiting state;
    int word;                /* ON_LOCK, ON_FUTEX */
    bool woken;              /* ON_FUTEX */
    bool (*holds)(int);      /* ON_HOLDS */
    int holds_arg;
    const char *what;        /* it waits for */
    unsigned long relaxed_at; /* how many stores there were */
    bool fresh;              /* after relax: it reads the newest */
    int read_last;           /* word + 1 */
    uint16_t loads[8];       /* the last words that it loaded, the latest first */
    uint64_t history;
    view now, acquired, released;
    int fiber;
    clocks clock[2], clock_acquired, clock_released; /* the second clock is for when it goes on elsewhere */
};

static struct thread threads[THREADS];
static struct message messages[MESSAGES];
static struct word words[WORDS];
static int n_threads, n_words, n_messages, self;
static view fences;
static uint64_t fences_hash;
static unsigned long stores, steps;
static enum { SETUP, RUNNING, AFTER } stage;

static struct cell {
    const void *p;
    uint16_t wrote;  /* clock + 1 */
    uint8_t writer;
    uint16_t reads[FIBERS];
} cells[CELLS];
static int n_cells;

static struct block {
    const char *p;
    size_t bytes;
    const char *what;
    uint8_t by;
    uint16_t born; /* clock + 1 */
    bool gone, zeroed;
} blocks[BLOCKS];
static int n_blocks;

static struct {
    void *p;
    size_t bytes;
} ghosts[GHOSTS];
static int n_ghosts;

bool ex_fences_publish, ex_trace;

static const struct ex_scenario *scenario;
static jmp_buf driver;
static ucontext_t boot_from;
static int booting;
enum end { OVER = 1, SEEN, FAILED };
static char why[200];

static struct {
    uint8_t chosen, of;
} choices[DEPTH];
static int depth, replayed;
static bool by_chance;
static uint64_t chance;
static int preempted;
static bool shared_more;

/* ---- the states that were seen */

static uint64_t *seen;
static size_t seen_room, seen_n;

static uint64_t mix(uint64_t a, uint64_t b)
{
    a ^= b + UINT64_C(0x9e3779b97f4a7c15) + (a << 12) + (a >> 4);
    a ^= a >> 32;
    a *= UINT64_C(0xd6e8feb86659fd93);
    a ^= a >> 29;
    return a;
}

static bool seen_add(uint64_t h)
{
    if (2 * seen_n >= seen_room) {
        size_t old_room = seen_room;
        uint64_t *old = seen;
        seen_room = old_room ? 2 * old_room : 1 << 16;
        seen = calloc(seen_room, sizeof *seen);
        if (!seen)
            abort();
        for (size_t i = 0; i < old_room; i++)
            if (old[i]) {
                size_t k = old[i] & (seen_room - 1);
                while (seen[k])
                    k = (k + 1) & (seen_room - 1);
                seen[k] = old[i];
            }
        free(old);
    }
    h |= h == 0;
    size_t k = h & (seen_room - 1);
    for (; seen[k]; k = (k + 1) & (seen_room - 1))
        if (seen[k] == h)
            return false;
    seen[k] = h;
    seen_n++;
    return true;
}

/* ---- failing, and saying what happens */

const char *ex_base(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

_Noreturn static void end_run(enum end how)
{
    longjmp(driver, (int)how);
}

_Noreturn void ex_fail(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    if (stage == SETUP) {
        fprintf(stderr, "setup of %s: %s\n", scenario->name, why);
        abort();
    }
    end_run(FAILED);
}

/* The last run's steps, printed if it fails. */
static char steps_text[1 << 17];
static size_t steps_length;

static void trace(const char *op, const struct ex_site *s, const void *p, uint64_t v)
{
    if (!ex_trace || steps_length > sizeof steps_text - 200)
        return;
    steps_length += (size_t)snprintf(steps_text + steps_length, 200, "    %d  %-16s %14p  %-16llx %s:%d %s\n", self, op,
            (void *)(uintptr_t)p, (unsigned long long)v, s ? ex_base(s->file) : "", s ? s->line : 0, s ? s->func : "");
}

int ex_self(void)
{
    return self;
}

void ex_be(int number)
{
    self = number;
}

/* ---- choices */

static int choose(int n)
{
    if (n <= 1)
        return 0;
    if (by_chance) {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        return (int)((chance >> 11) % (unsigned)n);
    }
    if (depth == DEPTH)
        ex_fail("a run without end");
    if (depth >= replayed) {
        choices[depth].of = (uint8_t)n;
        choices[depth].chosen = 0;
    }
    if (choices[depth].of != n) {
        fprintf(stderr, "%s is not the same each time it is run (%d or %d choices)\n", scenario->name, n,
                choices[depth].of);
        abort();
    }
    return choices[depth++].chosen;
}

/* ---- threads */

static void step(int to)
{
    if (to == self)
        return;
    int from = self;
    self = to;
    if (_setjmp(threads[from].at) == 0)
        _longjmp(threads[to].at, 1);
}

/* Of the word that it read last; so a loop that waits for that word is not taken to wait for nothing. */
static bool knows_newest(const struct thread *t)
{
    const struct word *w = &words[t->read_last - 1];
    return t->read_last == 0 || t->now[t->read_last - 1] == w->order[w->n - 1];
}

static bool can_run(int i)
{
    struct thread *t = &threads[i];
    switch (t->state) {
    case RUNS:
        return true;
    case ENDED:
        return false;
    case ON_LOCK:
        return !words[t->word].held;
    case ON_FUTEX:
        return t->woken;
    case ON_RELAX:
        return t->relaxed_at != stores || !knows_newest(t);
    case ON_HOLDS:
        return t->holds(t->holds_arg);
    }
    return false;
}

static uint64_t state_hash(bool preempting)
{
    uint64_t h = mix(1, fences_hash);
    for (int i = 0; i < n_threads; i++)
        h = mix(h, mix(threads[i].history, (uint64_t)threads[i].state << 2 | (uint64_t)can_run(i)));
    for (int i = 0; i < n_words; i++)
        if (words[i].used)
            h += mix((uint64_t)i + 1000, words[i].hash + words[i].held);
    for (int i = 0; i < n_ghosts; i++) {
        const unsigned char *p = ghosts[i].p;
        uint64_t g = 0;
        for (size_t k = 0; k < ghosts[i].bytes; k++)
            g = (g ^ p[k]) * UINT64_C(0x100000001b3);
        h = mix(h, g);
    }
    if (preempting)
        h = mix(h, (uint64_t)preempted << 8 | (uint64_t)self);
    return h;
}

/* The running thread is about to make a step, or waits: who goes on? */
static void point(void)
{
    int able[THREADS], n = 0;
    bool bounded = scenario->preemptions >= 0 && !by_chance;
    if (++steps > STEPS)
        ex_fail("a run without end");
    if (can_run(self))
        able[n++] = self;
    if (!(n == 1 && bounded && preempted >= scenario->preemptions))
        for (int i = 0; i < n_threads; i++)
            if (i != self && can_run(i))
                able[n++] = i;
    if (n == 0) {
        for (int i = 0; i < n_threads; i++)
            if (threads[i].state != ENDED && !(scenario->quiet && scenario->quiet()))
                ex_fail("stuck: thread %d waits for %s", i, threads[i].what);
        end_run(OVER);
    }
    if (!by_chance && (n > 1 || bounded) && depth >= replayed && !seen_add(state_hash(bounded)))
        end_run(SEEN);
    int to = able[choose(n)];
    if (to != self && able[0] == self)
        preempted++;
    step(to);
    threads[self].state = RUNS;
}

static void wait_for(enum waiting state, const char *what)
{
    threads[self].state = state;
    threads[self].what = what;
    point();
}

static void trampoline(void)
{
    int me = booting;
    if (_setjmp(threads[me].top) == 0)
        setcontext(&boot_from);
    threads[self].history = mix(threads[self].history, 2); /* to have begun is a step */
    scenario->thread(self);
    threads[self].state = ENDED;
    threads[self].history = mix(threads[self].history, 1);
    point();
    abort();
}

static void boot(int i)
{
    static ucontext_t c;
    volatile bool done = false;
    threads[i].stack = malloc(STACK);
    if (!threads[i].stack)
        abort();
    booting = i;
    getcontext(&boot_from);
    if (done)
        return;
    done = true;
    getcontext(&c);
    c.uc_stack.ss_sp = threads[i].stack;
    c.uc_stack.ss_size = STACK;
    c.uc_link = NULL;
    makecontext(&c, trampoline, 0);
    setcontext(&c);
}

/* ---- words and messages */

static void init_word(struct word *w)
{
    uint64_t value = 0;
    if (n_messages == MESSAGES)
        ex_fail("too many messages");
    memcpy(&value, w->p, w->bytes);
    struct message *m = &messages[n_messages];
    memset(m, 0, sizeof *m);
    m->value = value;
    m->word = (uint16_t)(w - words);
    for (int i = 0; i < n_blocks; i++)
        if (!blocks[i].gone && !blocks[i].zeroed && (const char *)w->p >= blocks[i].p && (const char *)w->p < blocks[i].p + blocks[i].bytes)
            m->value = UNWRITTEN;
    m->hash = mix(m->word, m->value);
    w->order[0] = (uint16_t)n_messages++;
    w->n = 1;
    w->hash = m->hash;
    w->used = true;
    w->held = false;
    memset(w->touched, 0, sizeof w->touched);
    memset(w->relied, 0, sizeof w->relied);
}

static struct word *word_of(const void *p, unsigned bytes)
{
    /* The table is small, and its order is that of the first use in the first run. */
    static int last;
    struct word *w = NULL;
    if (last < n_words && words[last].p == p) {
        w = &words[last];
    } else {
        for (int i = 0; i < n_words; i++)
            if (words[i].p == p) {
                w = &words[i];
                last = i;
                break;
            }
    }
    if (!w) {
        if (n_words == WORDS)
            ex_fail("too many words");
        w = &words[n_words++];
        memset(w, 0, sizeof *w);
        w->p = p;
        w->bytes = bytes;
    }
    if (w->bytes != bytes)
        ex_fail("an access of %u bytes to a word of %u", bytes, w->bytes);
    if (!w->used)
        init_word(w);
    return w;
}

static int place_of(const view v, const struct word *w)
{
    uint16_t m = v[w - words];
    return m ? messages[m].place : 0;
}

static void join_view(view into, const view from)
{
    for (int i = 0; i < n_words; i++)
        if (from[i] != into[i] && from[i] != 0 &&
                (into[i] == 0 || messages[from[i]].place > messages[into[i]].place))
            into[i] = from[i];
}

static uint16_t *clock_of(struct thread *t)
{
    return t->clock[t->fiber != (int)(t - threads)];
}

static void join_clock(uint16_t *into, const uint16_t *from)
{
    for (int i = 0; i < FIBERS; i++)
        if (from[i] > into[i])
            into[i] = from[i];
}

/* Whether an access, by whom and when, was before what the running thread does now. */
static bool ordered(int by, uint16_t clock_plus_1)
{
    struct thread *t = &threads[self];
    return clock_plus_1 == 0 || by == t->fiber || clock_of(t)[by] >= clock_plus_1;
}

static void touch(struct word *w)
{
    struct thread *t = &threads[self];
    for (int i = 0; i < n_blocks; i++) {
        struct block *b = &blocks[i];
        if ((const char *)w->p < b->p || (const char *)w->p >= b->p + b->bytes)
            continue;
        if (b->gone)
            ex_fail("%s is touched after its end", b->what);
        if (!ordered(b->by, b->born))
            ex_fail("%s is touched, but was not published", b->what);
    }
    w->touched[t->fiber] = (uint16_t)(clock_of(t)[t->fiber] + 1);
}

/* Whether several touch the word, one of them writing. */
static bool shared(struct word *w, bool writes)
{
    unsigned bit = 1u << self, all = w->readers | w->writers;
    bool was = w->writers && (all & (all - 1));
    if (writes)
        w->writers |= bit;
    else
        w->readers |= bit;
    all = w->readers | w->writers;
    bool is = w->writers && (all & (all - 1));
    if (is && !was)
        shared_more = true;
    return is;
}

static void shares(struct word *w, bool writes)
{
    if (shared(w, writes))
        point();
}

/* Where a run-time access goes when no thread runs. */
static uint64_t plain_get(const void *p, unsigned bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}
static void plain_set(void *p, unsigned bytes, uint64_t v)
{
    memcpy(p, &v, bytes);
}

static unsigned order_of(const struct ex_site *s)
{
    return s->order & ~s->drop;
}

/* The running thread reads message m. */
static void reads(struct word *w, struct message *m, unsigned order)
{
    struct thread *t = &threads[self];
    uint16_t index = (uint16_t)(m - messages);
    if (m->place > place_of(t->now, w) || (m->place == 0 && t->now[m->word] == 0))
        t->now[m->word] = index;
    t->read_last = m->word + 1;
    join_view(t->acquired, m->v);
    if (t->acquired[m->word] == 0 || messages[t->acquired[m->word]].place < m->place)
        t->acquired[m->word] = index;
    if (order & EX_ACQUIRE) {
        join_view(t->now, m->v);
        join_clock(clock_of(t), m->c);
    } else if (ex_fences_publish) {
        join_clock(t->clock_acquired, m->c);
    }
    t->history = mix(t->history, m->hash);
}

/* It writes a message behind the one at `place`; `from`: a read-modify-write's. */
static void writes(struct word *w, int place, uint64_t v, unsigned order, struct message *from)
{
    struct thread *t = &threads[self];
    if (n_messages == MESSAGES || w->n == 64)
        ex_fail("too many messages");
    int index = n_messages++;
    struct message *m = &messages[index];
    uint16_t *c = clock_of(t);
    memset(m, 0, sizeof *m);
    m->value = v;
    m->word = (uint16_t)(w - words);
    for (int i = w->n; i > place + 1; i--) {
        w->order[i] = w->order[i - 1];
        messages[w->order[i]].place = (uint16_t)i;
    }
    w->order[place + 1] = (uint16_t)index;
    m->place = (uint16_t)(place + 1);
    w->n++;
    t->history = mix(mix(t->history, messages[w->order[place]].hash), v ^ (uint64_t)m->word << 48);
    m->hash = mix(t->history, (uint64_t)self);
    t->now[m->word] = (uint16_t)index;
    t->acquired[m->word] = (uint16_t)index;
    if (order & EX_RELEASE) {
        memcpy(m->v, t->now, sizeof(view));
        memcpy(m->c, c, sizeof(clocks));
        c[t->fiber]++;
        m->c[t->fiber] = c[t->fiber];
    } else {
        memcpy(m->v, t->released, sizeof(view));
        m->v[m->word] = (uint16_t)index;
        if (ex_fences_publish)
            memcpy(m->c, t->clock_released, sizeof(clocks));
    }
    if (from) {
        from->taken = true;
        join_view(m->v, from->v);
        join_clock(m->c, from->c);
    }
    if (place + 2 == w->n) {
        w->hash = mix(w->hash, m->hash);
    } else {
        w->hash = messages[w->order[0]].hash;
        for (int i = 1; i < w->n; i++)
            w->hash = mix(w->hash, messages[w->order[i]].hash);
    }
    for (int i = 0; i < FIBERS; i++)
        if (!ordered(i, w->relied[i]))
            ex_fail("a word is written again, and perhaps before it was read");
    stores++;
}

/* A lock that is looked at, too, has a message for each time that it was taken; the others need none. A run in which that
 * turns out says nothing: it may have had none. */
static void loads_lock(struct word *w, bool locks, bool loads)
{
    bool was = w->is_lock && w->is_loaded;
    w->is_lock |= locks;
    w->is_loaded |= loads;
    if (w->is_lock && w->is_loaded && !was) {
        shared_more = true;
        end_run(SEEN);
    }
}

uint64_t ex_load(struct ex_site *site, const void *p, unsigned bytes)
{
    if (stage != RUNNING)
        return plain_get(p, bytes);
    site->hits++;
    struct word *w = word_of(p, bytes);
    loads_lock(w, false, true);
    shares(w, false);
    touch(w);
    struct thread *t = &threads[self];
    int oldest = place_of(t->now, w), n = w->n - oldest;
    if (t->fresh)
        n = 1;
    t->fresh = false;
    struct message *m = &messages[w->order[w->n - 1 - choose(n)]];
    reads(w, m, order_of(site));
    memmove(t->loads + 1, t->loads, sizeof t->loads - sizeof t->loads[0]);
    t->loads[0] = m->word;
    trace(site->op, site, p, m->value);
    return m->value;
}

void ex_relied(int n)
{
    struct thread *t = &threads[self];
    if (stage == RUNNING)
        for (int i = 0; i < n; i++)
            words[t->loads[i]].relied[t->fiber] = words[t->loads[i]].touched[t->fiber];
}

void ex_store(struct ex_site *site, void *p, unsigned bytes, uint64_t v)
{
    if (stage != RUNNING) {
        plain_set(p, bytes, v);
        return;
    }
    site->hits++;
    struct word *w = word_of(p, bytes);
    shares(w, true);
    touch(w);
    int at[64], n = 0;
    for (int i = w->n - 1; i >= place_of(threads[self].now, w); i--)
        if (!messages[w->order[i]].taken)
            at[n++] = i;
    writes(w, at[choose(n)], v, order_of(site), NULL);
    trace(site->op, site, p, v);
}

static uint64_t limited(uint64_t v, unsigned bytes)
{
    return bytes == 4 ? (uint32_t)v : v;
}

static uint64_t read_modify_write(struct ex_site *site, void *p, unsigned bytes, uint64_t v, bool add)
{
    struct word *w = word_of(p, bytes);
    site->hits++;
    shares(w, true);
    touch(w);
    int at[64], n = 0;
    for (int i = w->n - 1; i >= place_of(threads[self].now, w); i--)
        if (!messages[w->order[i]].taken)
            at[n++] = i;
    int place = at[choose(n)];
    struct message *m = &messages[w->order[place]];
    uint64_t old = m->value;
    reads(w, m, order_of(site));
    writes(w, place, limited(add ? old + v : v, bytes), order_of(site), m);
    trace(site->op, site, p, old);
    return old;
}

uint64_t ex_add(struct ex_site *site, void *p, unsigned bytes, uint64_t n)
{
    if (stage != RUNNING) {
        uint64_t old = plain_get(p, bytes);
        plain_set(p, bytes, old + n);
        return old;
    }
    return read_modify_write(site, p, bytes, n, true);
}

uint64_t ex_swap(struct ex_site *site, void *p, unsigned bytes, uint64_t v)
{
    if (stage != RUNNING) {
        uint64_t old = plain_get(p, bytes);
        plain_set(p, bytes, v);
        return old;
    }
    return read_modify_write(site, p, bytes, v, false);
}

bool ex_cas(struct ex_site *site, void *p, unsigned bytes, uint64_t old, uint64_t v)
{
    if (stage != RUNNING) {
        if (plain_get(p, bytes) != limited(old, bytes))
            return false;
        plain_set(p, bytes, v);
        return true;
    }
    struct word *w = word_of(p, bytes);
    site->hits++;
    shares(w, true);
    touch(w);
    int at[64], n = 0;
    for (int i = w->n - 1; i >= place_of(threads[self].now, w); i--) {
        struct message *m = &messages[w->order[i]];
        if (m->value != limited(old, bytes) || !m->taken)
            at[n++] = i;
    }
    int place = at[choose(n)];
    struct message *m = &messages[w->order[place]];
    bool same = m->value == limited(old, bytes);
    reads(w, m, same ? order_of(site) : order_of(site) & EX_ACQUIRE);
    if (same)
        writes(w, place, limited(v, bytes), order_of(site), m);
    trace(same ? "cas" : "cas fails", site, p, same ? v : m->value);
    return same;
}

bool ex_step(struct ex_site *site)
{
    site->hits++;
    return site->drop == 0;
}

void ex_fence(struct ex_site *site)
{
    if (stage != RUNNING)
        return;
    site->hits++;
    if (site->drop)
        return;
    point();
    struct thread *t = &threads[self];
    join_view(t->now, t->acquired);
    join_view(t->now, fences);
    memcpy(fences, t->now, sizeof fences);
    memcpy(t->acquired, t->now, sizeof(view));
    memcpy(t->released, t->now, sizeof(view));
    if (ex_fences_publish) {
        uint16_t *c = clock_of(t);
        join_clock(c, t->clock_acquired);
        c[t->fiber]++;
        memcpy(t->clock_released, c, sizeof(clocks));
    }
    t->history = mix(t->history, fences_hash);
    fences_hash = mix(t->history, (uint64_t)self + 5);
    trace("fence", site, NULL, 0);
}

void ex_relax(void)
{
    if (stage != RUNNING)
        return;
    struct thread *t = &threads[self];
    t->history = mix(t->history, 3);
    t->relaxed_at = stores;
    wait_for(ON_RELAX, "a word to change");
    t->fresh = true;
}

/* ---- locks, the futex, mail: words whose newest message is what counts */

static void lock_word(struct word *w)
{
    (void)shared(w, true);
    loads_lock(w, true, false);
    threads[self].word = (int)(w - words);
    wait_for(ON_LOCK, "a lock");
    touch(w);
    w->held = true;
    struct message *m = &messages[w->order[w->n - 1]];
    reads(w, m, EX_ACQUIRE);
    if (w->is_loaded)
        writes(w, w->n - 1, 1, EX_ACQUIRE, m);
}

/* Only its newest message is kept in the count: all who lock it read that one. Who loads it finds 0 or 1. */
static void unlock_word(struct word *w)
{
    touch(w);
    struct message *m = &messages[w->order[w->n - 1]];
    writes(w, w->n - 1, w->is_loaded ? 0 : m->value + 1, EX_RELEASE, m);
    w->held = false;
}

void ex_lock(void *l)
{
    if (stage != RUNNING)
        return;
    lock_word(word_of(l, 4));
    trace("lock", NULL, l, 0);
}

void ex_unlock(void *l)
{
    if (stage != RUNNING)
        return;
    struct word *w = word_of(l, 4);
    if (!w->held)
        ex_fail("a lock is left that nobody holds");
    unlock_word(w);
    trace("unlock", NULL, l, 0);
}

static at_word bucket; /* the kernel's lock: one for all */

void ex_futex_wait(at_int *p, uint32_t value)
{
    struct word *b = word_of(&bucket, sizeof bucket), *w = word_of(p, 4);
    lock_word(b);
    struct thread *t = &threads[self];
    int n = w->n - place_of(t->now, w);
    (void)shared(w, false);
    touch(w);
    struct message *m = &messages[w->order[w->n - 1 - choose(n)]];
    reads(w, m, EX_RELAXED);
    unlock_word(b);
    trace("sleep?", NULL, p, m->value);
    if (m->value != value)
        return;
    t->woken = false;
    t->word = (int)(w - words);
    wait_for(ON_FUTEX, "a futex");
    lock_word(b);
    unlock_word(b);
}

void ex_futex_wake(at_int *p, int n)
{
    struct word *b = word_of(&bucket, sizeof bucket);
    lock_word(b);
    for (int i = 0; i < n_threads && n > 0; i++)
        if (threads[i].state == ON_FUTEX && !threads[i].woken && words[threads[i].word].p == p) {
            threads[i].woken = true;
            n--;
        }
    unlock_word(b);
    trace("wake", NULL, p, 0);
}

void ex_send(at_word *mail)
{
    static struct ex_site site = { .file = "", .func = "send", .op = "send", .order = EX_RELEASE };
    (void)ex_add(&site, mail, 8, 1);
}

static bool mail_there(int word)
{
    return messages[words[word].order[words[word].n - 1]].value > 0;
}

/* As another thread, which knows nothing yet. */
static void migrate(void)
{
    struct thread *t = &threads[self];
    memset(t->now, 0, sizeof t->now);
    memset(t->acquired, 0, sizeof t->acquired);
    memset(t->released, 0, sizeof t->released);
    memset(t->clock_acquired, 0, sizeof t->clock_acquired);
    memset(t->clock_released, 0, sizeof t->clock_released);
    t->fiber = t->fiber == self ? THREADS + self : self;
}

void ex_receive(at_word *mail, bool elsewhere)
{
    struct word *w = word_of(mail, 8);
    ex_until(mail_there, (int)(w - words), "being made runnable");
    struct message *m = &messages[w->order[w->n - 1]];
    (void)shared(w, true);
    if (elsewhere)
        migrate();
    touch(w);
    reads(w, m, EX_ACQUIRE);
    writes(w, w->n - 1, m->value - 1, EX_RELAXED, m);
    trace("runs", NULL, mail, m->value);
}

void ex_until(bool (*holds)(int arg), int arg, const char *what)
{
    threads[self].holds = holds;
    threads[self].holds_arg = arg;
    wait_for(ON_HOLDS, what);
}

/* ---- what is not atomic */

static struct cell *cell_of(const void *p)
{
    for (int i = 0; i < n_cells; i++)
        if (cells[i].p == p)
            return &cells[i];
    if (n_cells == CELLS)
        ex_fail("too many cells");
    memset(&cells[n_cells], 0, sizeof cells[0]);
    cells[n_cells].p = p;
    return &cells[n_cells++];
}

void ex_read(const void *p, const char *what)
{
    if (stage != RUNNING)
        return;
    struct thread *t = &threads[self];
    struct cell *c = cell_of(p);
    if (!ordered(c->writer, c->wrote))
        ex_fail("race: %s is read, but was not published", what);
    c->reads[t->fiber] = (uint16_t)(clock_of(t)[t->fiber] + 1);
}

void ex_write(const void *p, const char *what)
{
    if (stage != RUNNING)
        return;
    struct thread *t = &threads[self];
    struct cell *c = cell_of(p);
    if (!ordered(c->writer, c->wrote))
        ex_fail("race: %s is written by two", what);
    for (int i = 0; i < FIBERS; i++)
        if (!ordered(i, c->reads[i]))
            ex_fail("race: %s is written while it is read", what);
    c->wrote = (uint16_t)(clock_of(t)[t->fiber] + 1);
    c->writer = (uint8_t)t->fiber;
}

void ex_born(const void *p, size_t bytes, bool zeroed, const char *what)
{
    if (stage == SETUP)
        return;
    if (n_blocks == BLOCKS)
        ex_fail("too many blocks");
    struct block *b = &blocks[n_blocks++];
    b->p = p;
    b->bytes = bytes;
    b->what = what;
    b->by = (uint8_t)threads[self].fiber;
    b->born = stage == RUNNING ? (uint16_t)(clock_of(&threads[self])[b->by] + 1) : 0;
    b->gone = false;
    b->zeroed = zeroed;
}

void ex_gone(const void *p, size_t bytes, const char *what)
{
    if (stage != RUNNING)
        return;
    for (int i = 0; i < n_blocks && bytes == 0; i++)
        if (blocks[i].p == (const char *)p)
            bytes = blocks[i].bytes;
    for (int i = 0; i < n_words; i++) {
        struct word *w = &words[i];
        if (!w->used || (const char *)w->p < (const char *)p || (const char *)w->p >= (const char *)p + bytes)
            continue;
        for (int k = 0; k < FIBERS; k++)
            if (!ordered(k, w->touched[k]))
                ex_fail("%s ends while another still touches it", what);
    }
    for (int i = 0; i < n_blocks; i++)
        if (blocks[i].p == (const char *)p) {
            blocks[i].gone = true;
            return;
        }
    ex_born(p, bytes, false, what);
    blocks[n_blocks - 1].gone = true;
}

void ex_ghost(void *p, size_t bytes)
{
    if (n_ghosts == GHOSTS)
        abort();
    ghosts[n_ghosts].p = p;
    ghosts[n_ghosts++].bytes = bytes;
}

/* ---- runs */

/* The newest values go to memory, for the check. */
static void settle(void)
{
    for (int i = 0; i < n_words; i++)
        if (words[i].used)
            plain_set((void *)(uintptr_t)words[i].p, words[i].bytes, messages[words[i].order[words[i].n - 1]].value);
}

static void prepare(void)
{
    stage = SETUP;
    n_messages = 1; /* 0 is no message */
    n_cells = n_blocks = n_ghosts = 0;
    depth = 0;
    stores = steps = 0;
    steps_length = 0;
    preempted = 0;
    fences_hash = 0;
    memset(fences, 0, sizeof fences);
    for (int i = 0; i < n_words; i++)
        words[i].used = false;
    for (int i = 0; i < n_threads; i++) {
        struct thread *t = &threads[i];
        memcpy(&t->at, &t->top, sizeof t->at);
        t->state = RUNS;
        t->what = "";
        t->history = (uint64_t)i;
        t->fresh = t->woken = false;
        t->read_last = 0;
        memset(t->now, 0, sizeof t->now);
        memset(t->acquired, 0, sizeof t->acquired);
        memset(t->released, 0, sizeof t->released);
        memset(t->clock, 0, sizeof t->clock);
        memset(t->clock_acquired, 0, sizeof t->clock_acquired);
        memset(t->clock_released, 0, sizeof t->clock_released);
        t->fiber = i;
    }
    scenario->setup();
    stage = RUNNING;
}

static enum end one_run(void)
{
    prepare();
    int how = _setjmp(driver);
    if (how == 0) {
        self = choose(n_threads);
        _longjmp(threads[self].at, 1);
    }
    if (how == OVER) {
        settle();
        stage = AFTER;
        how = _setjmp(driver);
        if (how == 0) {
            if (scenario->check)
                scenario->check();
            how = OVER;
        }
    }
    stage = SETUP;
    return (enum end)how;
}

/* To the next choice that has an alternative; false: there is none. */
static bool advance(void)
{
    while (depth > 0 && choices[depth - 1].chosen + 1 == choices[depth - 1].of)
        depth--;
    if (depth == 0)
        return false;
    choices[depth - 1].chosen++;
    replayed = depth;
    return true;
}

static void forget_states(void)
{
    if (seen)
        memset(seen, 0, seen_room * sizeof *seen);
    seen_n = 0;
}

void ex_explore(const struct ex_scenario *s, unsigned long most, unsigned long random, struct ex_result *out)
{
    enum { LEARN = 1000 };
    scenario = s;
    memset(out, 0, sizeof *out);
    n_threads = s->threads;
    n_words = 0;
    for (int i = 0; i < n_threads; i++)
        if (!threads[i].stack)
            boot(i);
    /* Some runs by chance tell what is shared. */
    unsigned long n = random > LEARN ? random : LEARN;
    by_chance = true;
    chance = UINT64_C(88172645463325252);
    for (unsigned long i = 0; i < n && !out->failed; i++) {
        out->runs++;
        out->failed = one_run() == FAILED;
    }
    by_chance = false;
    if (random == 0 && !out->failed) {
        bool more;
        do {
            shared_more = false;
            forget_states();
            replayed = 0;
            do {
                out->runs++;
                out->failed = one_run() == FAILED;
                more = !out->failed && advance();
            } while (more && !shared_more && out->runs < most);
        } while (shared_more && !out->failed);
        out->states = seen_n;
        out->complete = !more && !out->failed;
    }
    if (out->failed)
        memcpy(out->why, why, sizeof out->why);
    if (out->failed && ex_trace)
        printf("%s    %s\n", steps_text, why);
}
