/* machine/unwind.c - who called whom, on a stack that this code does not run on.
 *
 * Owns      nothing. Reads the stack that it is given, and the tables by which exceptions are thrown (.eh_frame) of the
 *           modules whose code is on it.
 * Callers   any thread, about a task that waits; the handler of a signal, about what that interrupted.
 * Holds     U1  of the stack nothing is read outside of its bounds, so it may change meanwhile: then what comes out is
 *               worthless, which is the caller's to find out, but it comes to an end.
 *           U2  each caller is further out than the call was, and there are as many as the caller has room for: it ends.
 *           U3  no lock is taken and nothing allocated: _dl_find_object promises that also to handlers.
 * Tables    are in every module that was compiled without -fno-asynchronous-unwind-tables, whether it has frame pointers or
 *           not, and symbols or not. They are a program for each function, which says where the caller's registers are
 *           while the function is at a given instruction (DWARF 5, section 6.4; the Linux Standard Base for .eh_frame_hdr).
 *           Of its operations all are known that compilers and libc make for these two processors; at another one, or in
 *           code without tables (it was made at run time), and with a libc that has no _dl_find_object (glibc before 2.35),
 *           the frame pointer is followed.
 * Dropped   _Unwind_Backtrace, told by a table of ours that its caller was the task: it reads whatever it is led to, so a
 *           task that goes on meanwhile would crash it. Frame pointers alone: most programs are compiled without.
 * Tested    tests/stacks_test.c */
#include "machine/unwind.h"

#include <dlfcn.h>
#include <features.h>
#include <string.h>
#include <ucontext.h>

#if defined(WEFT__TSAN)
#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize("thread")))
#elif defined(WEFT__ASAN)
#define NOT_INSTRUMENTED __attribute__((noinline, no_sanitize("address")))
#else
#define NOT_INSTRUMENTED
#endif

enum { REMEMBERED = 2, EXPRESSION = 16, OPERATIONS_MOST = 64 };

/* ---- reading */

/* A word of the stack (U1). False: it is not there. */
NOT_INSTRUMENTED static bool peek(const struct weft__call *c, uintptr_t at, uintptr_t *out)
{
    if (at < c->low || at > c->high - sizeof *out || at % sizeof *out != 0)
        return false;
    *out = *(const volatile uintptr_t *)at;
    return true;
}

/* A piece of a table. */
struct bytes {
    const unsigned char *at, *end;
};

static uint64_t fixed(struct bytes *b, size_t n)
{
    uint64_t v = 0;
    if ((size_t)(b->end - b->at) < n) {
        b->at = b->end;
        return 0;
    }
    memcpy(&v, b->at, n); /* little-endian, both of them */
    b->at += n;
    return v;
}

static uint64_t sign_extended(uint64_t v, size_t bytes)
{
    unsigned unused = 64 - 8 * (unsigned)bytes;
    return (uint64_t)((int64_t)(v << unused) >> unused);
}

/* LEB128 */
static uint64_t number(struct bytes *b, bool has_sign)
{
    uint64_t v = 0, byte = 0;
    unsigned shift = 0;
    do {
        byte = fixed(b, 1);
        if (shift < 64)
            v |= (byte & 127) << shift;
        shift += 7;
    } while ((byte & 128) && b->at < b->end);
    if (has_sign && (byte & 64) && shift < 64)
        v |= ~UINT64_C(0) << shift;
    return v;
}

/* A length, and as many bytes. */
static struct bytes block(struct bytes *b)
{
    uint64_t n = number(b, false);
    struct bytes out = { b->at, b->at + (n < (size_t)(b->end - b->at) ? n : (size_t)(b->end - b->at)) };
    b->at = out.end;
    return out;
}

/* An address in one of the ways in which they are written; `base`: of those that are relative to the table. */
static uintptr_t encoded(struct bytes *b, unsigned how, uintptr_t base)
{
    static const unsigned char sizes[16] = { [0] = 8, [2] = 2, [3] = 4, [4] = 8, [8] = 8, [10] = 2, [11] = 4, [12] = 8 };
    uintptr_t here = (uintptr_t)b->at;
    if (how == 255)
        return 0;
    size_t size = sizes[how & 15];
    uint64_t v = (how & 15) == 1 || (how & 15) == 9 ? number(b, (how & 15) == 9) : fixed(b, size);
    if ((how & 8) && size > 0)
        v = sign_extended(v, size);
    if ((how & 0x70) == 0x10)
        v += here;
    else if ((how & 0x70) == 0x30)
        v += base;
    return (uintptr_t)v;
}

/* ---- finding */

/* What is known of a function. */
struct function {
    uintptr_t begin; /* its first instruction */
    uint64_t code_align;
    int64_t data_align;
    unsigned ra;       /* the register with the return address */
    bool augmented;    /* its own entry has more, which is not of interest */
    bool interrupted;  /* it is what a signal's handler returns to: its caller was not at a call */
    struct bytes common, own; /* the programs */
};

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
/* The table of the module that has `pc`, .eh_frame_hdr; NULL. */
static const unsigned char *table_of(uintptr_t pc)
{
    struct dl_find_object found;
    return _dl_find_object((void *)pc, &found) == 0 ? found.dlfo_eh_frame : NULL;
}
#else
static const unsigned char *table_of(uintptr_t pc)
{
    (void)pc;
    return NULL;
}
#endif

/* A length and what it counts; nothing, if it is of a kind that no compiler makes. */
static struct bytes entry_at(uintptr_t at)
{
    struct bytes b = { (const unsigned char *)at, (const unsigned char *)at + 4 };
    uint64_t n = fixed(&b, 4);
    b.end = b.at + (n < 0xfffffff0 ? n : 0);
    return b;
}

/* The common entry of several functions. False: it is not understood. */
static bool read_common(struct function *f, uintptr_t at, unsigned *how)
{
    struct bytes b = entry_at(at);
    uint64_t id = fixed(&b, 4), version = fixed(&b, 1);
    const char *augmentation = (const char *)b.at;
    while (b.at < b.end && *b.at++ != 0)
        continue;
    if (id != 0 || (version != 1 && version != 3) || b.at == b.end)
        return false;
    f->code_align = number(&b, false);
    f->data_align = (int64_t)number(&b, true);
    f->ra = (unsigned)(version == 1 ? fixed(&b, 1) : number(&b, false));
    *how = 0;
    if (augmentation[0] != 'z' && augmentation[0] != 0)
        return false;
    if (augmentation[0] == 'z') {
        struct bytes more = block(&b);
        f->augmented = true;
        for (const char *a = augmentation + 1; *a; a++) {
            if (*a == 'R')
                *how = (unsigned)fixed(&more, 1);
            else if (*a == 'L')
                (void)fixed(&more, 1);
            else if (*a == 'P') {
                unsigned personality = (unsigned)fixed(&more, 1);
                (void)encoded(&more, personality & 0x7f, 0);
            } else if (*a == 'S')
                f->interrupted = true;
        }
    }
    f->common = b;
    return f->ra < WEFT__REGS;
}

/* Of the sorted table of {begin, entry}, both relative to it: the entry of the last that begins at or before `pc`. */
static uintptr_t look_up(const unsigned char *table, struct bytes b, uint64_t n, uintptr_t pc)
{
    const unsigned char *first = b.at;
    uint64_t low = 0, high = n;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct bytes one = { first + 8 * middle, first + 8 * middle + 8 };
        if ((uintptr_t)table + sign_extended(fixed(&one, 4), 4) <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return 0;
    struct bytes one = { first + 8 * (low - 1) + 4, first + 8 * low };
    return (uintptr_t)table + sign_extended(fixed(&one, 4), 4);
}

/* False: there is no table for it. */
static bool find(struct function *f, uintptr_t pc)
{
    enum { VERSION = 1, SORTED = 0x3b /* relative to the table, 4 bytes with a sign */ };
    const unsigned char *table = table_of(pc);
    if (!table || table[0] != VERSION || table[3] != SORTED)
        return false;
    struct bytes b = { table + 4, table + 4 + 16 };
    (void)encoded(&b, table[1], (uintptr_t)table);
    uint64_t n = encoded(&b, table[2], (uintptr_t)table);
    uintptr_t entry = look_up(table, b, n, pc);
    if (entry == 0)
        return false;
    memset(f, 0, sizeof *f);
    struct bytes e = entry_at(entry);
    uintptr_t here = (uintptr_t)e.at;
    unsigned how;
    if (!read_common(f, here - (uintptr_t)fixed(&e, 4), &how))
        return false;
    f->begin = encoded(&e, how & 0x7f, 0);
    uintptr_t bytes = encoded(&e, how & 15, 0);
    if (pc < f->begin || pc - f->begin >= bytes)
        return false;
    if (f->augmented)
        (void)block(&e);
    f->own = e;
    return true;
}

/* ---- where the caller's registers are */

enum how { AS_IT_WAS, UNKNOWN, AT_OFFSET, IS_OFFSET, IN_REGISTER, AT_EXPRESSION, IS_EXPRESSION };

struct rule {
    enum how how;
    union {
        int64_t n; /* an offset from the CFA; a register */
        struct bytes expression;
    } u;
};

/* The rules at one instruction. */
struct row {
    unsigned cfa_reg;
    struct rule cfa; /* IS_OFFSET: from that register; IS_EXPRESSION */
    struct rule reg[WEFT__REGS];
};

struct program {
    const struct function *f;
    struct row now, first, kept[REMEMBERED];
    int n_kept;
};

static void set(struct program *p, uint64_t reg, enum how how, int64_t n)
{
    if (reg < WEFT__REGS)
        p->now.reg[reg] = (struct rule){ .how = how, .u.n = n };
}

static void set_expression(struct program *p, uint64_t reg, enum how how, struct bytes e)
{
    if (reg < WEFT__REGS)
        p->now.reg[reg] = (struct rule){ .how = how, .u.expression = e };
}

static void restore(struct program *p, uint64_t reg)
{
    if (reg < WEFT__REGS)
        p->now.reg[reg] = p->first.reg[reg];
}

/* An instruction of which the upper two bits are zero. False: it is not known. */
static bool extended(struct program *p, unsigned op, struct bytes *b, uintptr_t *at)
{
    const struct function *f = p->f;
    uint64_t reg;
    switch (op) {
    case 0x00: /* nop */
    case 0x2d: /* AArch64: the return address is signed from here on, or not any more */
        return true;
    case 0x02: /* advance_loc1, 2, 4 */
    case 0x03:
    case 0x04:
        *at += (uintptr_t)(fixed(b, (size_t)1 << (op - 2)) * f->code_align);
        return true;
    case 0x05: /* offset_extended */
        reg = number(b, false);
        set(p, reg, AT_OFFSET, (int64_t)number(b, false) * f->data_align);
        return true;
    case 0x06: /* restore_extended */
        restore(p, number(b, false));
        return true;
    case 0x07: /* undefined */
        set(p, number(b, false), UNKNOWN, 0);
        return true;
    case 0x08: /* same_value */
        set(p, number(b, false), AS_IT_WAS, 0);
        return true;
    case 0x09: /* register */
        reg = number(b, false);
        set(p, reg, IN_REGISTER, (int64_t)number(b, false));
        return true;
    case 0x0a: /* remember_state */
        if (p->n_kept == REMEMBERED)
            return false;
        p->kept[p->n_kept++] = p->now;
        return true;
    case 0x0b: /* restore_state */
        if (p->n_kept == 0)
            return false;
        p->now = p->kept[--p->n_kept];
        return true;
    case 0x0c: /* def_cfa */
        p->now.cfa_reg = (unsigned)number(b, false);
        p->now.cfa = (struct rule){ .how = IS_OFFSET, .u.n = (int64_t)number(b, false) };
        return true;
    case 0x0d: /* def_cfa_register */
        p->now.cfa_reg = (unsigned)number(b, false);
        return true;
    case 0x0e: /* def_cfa_offset */
        p->now.cfa.u.n = (int64_t)number(b, false);
        return true;
    case 0x0f: /* def_cfa_expression */
        p->now.cfa = (struct rule){ .how = IS_EXPRESSION, .u.expression = block(b) };
        return true;
    case 0x10: /* expression */
    case 0x16: /* val_expression */
        reg = number(b, false);
        set_expression(p, reg, op == 0x10 ? AT_EXPRESSION : IS_EXPRESSION, block(b));
        return true;
    case 0x11: /* offset_extended_sf */
        reg = number(b, false);
        set(p, reg, AT_OFFSET, (int64_t)number(b, true) * f->data_align);
        return true;
    case 0x12: /* def_cfa_sf */
        p->now.cfa_reg = (unsigned)number(b, false);
        p->now.cfa = (struct rule){ .how = IS_OFFSET, .u.n = (int64_t)number(b, true) * f->data_align };
        return true;
    case 0x13: /* def_cfa_offset_sf */
        p->now.cfa.u.n = (int64_t)number(b, true) * f->data_align;
        return true;
    case 0x14: /* val_offset */
        reg = number(b, false);
        set(p, reg, IS_OFFSET, (int64_t)number(b, false) * f->data_align);
        return true;
    case 0x2e: /* GNU_args_size */
        (void)number(b, false);
        return true;
    default:
        return false;
    }
}

/* Up to the instruction at `pc`. */
static bool run(struct program *p, struct bytes b, uintptr_t pc)
{
    uintptr_t at = p->f->begin;
    while (b.at < b.end && at <= pc) {
        unsigned op = (unsigned)fixed(&b, 1), low = op & 63;
        if (op >> 6 == 1)
            at += (uintptr_t)(low * p->f->code_align);
        else if (op >> 6 == 2)
            set(p, low, AT_OFFSET, (int64_t)number(&b, false) * p->f->data_align);
        else if (op >> 6 == 3)
            restore(p, low);
        else if (!extended(p, op, &b, &at))
            return false;
    }
    return true;
}

/* An expression's operations: those of stacks that are aligned anew, of the tables of calls into libraries, and of what
 * handlers return to. */
struct machine {
    uintptr_t of[EXPRESSION];
    int n;
};

static bool push(struct machine *m, uint64_t v)
{
    if (m->n == EXPRESSION)
        return false;
    m->of[m->n++] = (uintptr_t)v;
    return true;
}

/* Takes two, puts one. */
static bool two(struct machine *m, unsigned op)
{
    if (m->n < 2)
        return false;
    uintptr_t b = m->of[--m->n], *a = &m->of[m->n - 1];
    switch (op) {
    case 0x1a:
        *a &= b;
        return true;
    case 0x1c:
        *a -= b;
        return true;
    case 0x21:
        *a |= b;
        return true;
    case 0x22:
        *a += b;
        return true;
    case 0x24:
        *a = b < 64 ? *a << b : 0;
        return true;
    case 0x2a:
        *a = (intptr_t)*a >= (intptr_t)b;
        return true;
    default:
        return false;
    }
}

static bool known(const struct weft__call *c, unsigned reg)
{
    return (c->unknown >> reg & 1) == 0;
}

static bool evaluate(const struct weft__call *c, struct bytes e, bool with_cfa, uintptr_t cfa, uintptr_t *out)
{
    struct machine m = { .n = 0 };
    bool good = !with_cfa || push(&m, cfa);
    for (int i = 0; good && e.at < e.end; i++) {
        unsigned op = (unsigned)fixed(&e, 1);
        if (i == OPERATIONS_MOST)
            good = false;
        else if (op == 0x06) /* deref */
            good = m.n > 0 && peek(c, m.of[m.n - 1], &m.of[m.n - 1]);
        else if (op >= 0x08 && op <= 0x0f) { /* const1u, const1s, const2u, ... */
            size_t size = (size_t)1 << ((op - 8) / 2);
            uint64_t v = fixed(&e, size);
            good = push(&m, op & 1 ? sign_extended(v, size) : v);
        } else if (op == 0x10 || op == 0x11)
            good = push(&m, number(&e, op == 0x11));
        else if (op == 0x12) /* dup */
            good = m.n > 0 && push(&m, m.of[m.n - 1]);
        else if (op == 0x23) { /* plus_uconst */
            good = m.n > 0;
            m.of[good ? m.n - 1 : 0] += (uintptr_t)number(&e, false);
        } else if (op >= 0x30 && op < 0x50)
            good = push(&m, op - 0x30);
        else if (op >= 0x70 && op < 0x90) {
            uint64_t offset = number(&e, true);
            good = op - 0x70 < WEFT__REGS && known(c, op - 0x70) && push(&m, c->reg[op - 0x70] + offset);
        } else
            good = two(&m, op);
    }
    if (!good || m.n == 0)
        return false;
    *out = m.of[m.n - 1];
    return true;
}

/* ---- from a call to its caller */

enum step { MOVED, END, LOST };

/* One register of the caller's. */
static bool apply(const struct weft__call *c, const struct rule *r, uintptr_t cfa, uintptr_t *value)
{
    uintptr_t at;
    switch (r->how) {
    case AS_IT_WAS:
    case UNKNOWN:
        return true;
    case AT_OFFSET:
        return peek(c, cfa + (uintptr_t)r->u.n, value);
    case IS_OFFSET:
        *value = cfa + (uintptr_t)r->u.n;
        return true;
    case IN_REGISTER:
        if (r->u.n < 0 || r->u.n >= WEFT__REGS)
            return false;
        *value = c->reg[r->u.n];
        return known(c, (unsigned)r->u.n);
    case AT_EXPRESSION:
        return evaluate(c, r->u.expression, true, cfa, &at) && peek(c, at, value);
    case IS_EXPRESSION:
        return evaluate(c, r->u.expression, true, cfa, value);
    }
    return false;
}

/* AArch64 may have signed it. */
static uintptr_t stripped(uintptr_t address)
{
#if defined(__aarch64__)
    register uintptr_t lr __asm__("x30") = address;
    __asm__("hint #7" : "+r"(lr)); /* xpaclri */
    return lr;
#else
    return address;
#endif
}

static enum step by_table(struct weft__call *c)
{
    struct function f;
    struct program program = { .f = &f }, *p = &program;
    uintptr_t cfa, pc = c->reg[WEFT__REG_PC] - !c->exact;
    if (!find(&f, pc))
        return LOST;
    if (!run(p, f.common, UINTPTR_MAX))
        return LOST;
    p->first = p->now;
    if (!run(p, f.own, pc))
        return LOST;
    const struct row *row = &p->now;
    if (row->reg[f.ra].how == UNKNOWN)
        return END;
    if (row->cfa.how == IS_EXPRESSION ? !evaluate(c, row->cfa.u.expression, false, 0, &cfa)
                                      : row->cfa_reg >= WEFT__REGS)
        return LOST;
    if (row->cfa.how != IS_EXPRESSION && !known(c, row->cfa_reg))
        return END;
    if (row->cfa.how != IS_EXPRESSION)
        cfa = c->reg[row->cfa_reg] + (uintptr_t)row->cfa.u.n;
    uintptr_t sp = c->reg[WEFT__REG_SP];
    if (cfa > c->high || (c->exact ? cfa < sp : cfa <= sp)) /* U2: of who was interrupted, it may be the same */
        return END;
    struct weft__call up = *c;
    up.reg[WEFT__REG_SP] = cfa;
    up.unknown &= ~(UINT64_C(1) << WEFT__REG_SP);
    for (unsigned i = 0; i < WEFT__REGS; i++) {
        if (!apply(c, &row->reg[i], cfa, &up.reg[i]))
            return END;
        if (row->reg[i].how == UNKNOWN)
            up.unknown |= UINT64_C(1) << i;
        else if (row->reg[i].how != AS_IT_WAS)
            up.unknown &= ~(UINT64_C(1) << i);
    }
    if (!known(&up, f.ra))
        return END;
    up.reg[WEFT__REG_PC] = stripped(up.reg[f.ra]);
    up.exact = f.interrupted;
    up.callee = f.begin;
    *c = up;
    return c->reg[WEFT__REG_PC] != 0 ? MOVED : END;
}

/* Both processors: {the caller's frame pointer, the return address} is where it points to. Where it leads has to be code. */
static enum step by_frame_pointer(struct weft__call *c)
{
    uintptr_t fp = c->reg[WEFT__REG_FP], up, pc;
    if (!known(c, WEFT__REG_FP) || fp < c->reg[WEFT__REG_SP] || !peek(c, fp, &up) || !peek(c, fp + sizeof fp, &pc) || pc == 0)
        return END;
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
    if (!table_of(stripped(pc)))
        return END;
#endif
    c->reg[WEFT__REG_FP] = up;
    c->reg[WEFT__REG_SP] = fp + 2 * sizeof fp;
    c->reg[WEFT__REG_PC] = stripped(pc);
    c->callee = 0;
    c->exact = false;
    return MOVED;
}

bool weft__unwind_up(struct weft__call *c)
{
    enum step step = by_table(c);
    return (step == LOST ? by_frame_pointer(c) : step) == MOVED;
}

int weft__unwind_all(struct weft__call *c, const void **out, int most)
{
    int n = 0;
    while (n < most) {
        out[n++] = (const void *)c->reg[WEFT__REG_PC];
        if (!weft__unwind_up(c))
            break;
    }
    return n;
}

/* ---- the innermost call */

/* How a context that was left lies on its stack: machine/context_*.S. */
#if defined(__x86_64__)
static const unsigned char left_at[] = { 15, 14, 13, 12, 3, 6, 16 };
enum { LEFT_WORDS = 7 };
#elif defined(__aarch64__)
static const unsigned char left_at[] = { 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, WEFT__REG_PC };
enum { LEFT_WORDS = 20 };
#endif

NOT_INSTRUMENTED static uintptr_t saved_sp(const struct weft__context *from)
{
    return (uintptr_t) * (void *const volatile *)&from->sp;
}

static void on_stack(struct weft__call *c, const void *low, const void *high)
{
    memset(c, 0, sizeof *c);
    c->low = (uintptr_t)low;
    c->high = (uintptr_t)high;
}

NOT_INSTRUMENTED bool weft__unwind_parked(struct weft__call *c, const struct weft__context *from, const struct weft__stack *home)
{
    uintptr_t sp = saved_sp(from);
    on_stack(c, home->low, home->high);
    for (size_t i = 0; i < sizeof left_at; i++)
        if (!peek(c, sp + i * sizeof sp, &c->reg[left_at[i]]))
            return false;
    c->reg[WEFT__REG_SP] = sp + LEFT_WORDS * sizeof sp;
    return c->reg[WEFT__REG_PC] != 0;
}

bool weft__unwind_interrupted(struct weft__call *c, const void *ucontext, const void *low, const void *high)
{
    const mcontext_t *m = &((const ucontext_t *)ucontext)->uc_mcontext;
    on_stack(c, low, high);
#if defined(__x86_64__)
    static const unsigned char in[WEFT__REGS] = { REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
        REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP };
    for (int i = 0; i < WEFT__REGS; i++)
        c->reg[i] = (uintptr_t)m->gregs[in[i]];
#elif defined(__aarch64__)
    for (int i = 0; i <= WEFT__REG_LR; i++)
        c->reg[i] = (uintptr_t)m->regs[i];
    c->reg[WEFT__REG_SP] = (uintptr_t)m->sp;
    c->reg[WEFT__REG_PC] = (uintptr_t)m->pc;
#endif
    c->exact = true;
    uintptr_t sp = c->reg[WEFT__REG_SP];
    return sp >= c->low && sp < c->high;
}

bool weft__unwind_from(struct weft__call *c, uintptr_t sp, uintptr_t pc, const void *low, const void *high)
{
    on_stack(c, low, high);
    c->reg[WEFT__REG_SP] = sp;
    c->reg[WEFT__REG_PC] = pc;
    c->unknown = ~(UINT64_C(1) << WEFT__REG_SP | UINT64_C(1) << WEFT__REG_PC);
    c->exact = true;
    return sp >= c->low && sp < c->high;
}
