/* tests/fuzz/fuzz_tls.c - what comes to an end of TLS from outside: tls/conn.c, tls/buffer.c.
 *
 *     SETTINGS         's' our end is the server; '2' no TLS 1.3; 'a' the server asks for a certificate; 'o' the client means
 *                      another host; 'p' protocols are agreed on; 'r' raw: there is no other end, and BYTES come
 *     OURS             what is done here after the handshake, see act()
 *     THEIRS           what the other end, OpenSSL's own, does next whenever nothing is under way, see act_there()
 *     PIECES           how the carrier cuts both ways, see next_piece()
 *     BYTES            raw: what comes, see expand(). Else how somebody in between changes it, see edit()
 *
 * Nothing waits and nothing is shared: who reads here makes the other end do something. Random numbers are the same for each
 * input, and so is the certificate.
 *
 * Holds     what is read is what was sent, from its beginning on, and the end comes behind all of it and after a goodbye, or
 *           not at all; the other way about as well; what is raw, or changed before the handshake is over, is refused; what
 *           is kept for what is to be read or sent is bounded, and so is all of OpenSSL's memory. */
#define OPENSSL_SUPPRESS_DEPRECATED /* RAND_set_rand_method, which is all that it takes for the same numbers again */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <weft/task.h>

#include "fuzz.h"
#include "os/stream.h"
#include "tls/tls.h"

enum { MOST_BYTES = 1 << 18, MOST_PIECE = 1 << 16, KEPT_IN = 34 * 1024, KEPT_OUT = 1 << 20, OPENSSL_KEEPS = 4 << 20 };

static struct {
    bool server, old, asks, other_host, protocols, raw;
    struct input theirs, cuts, edits;
    unsigned char under_way[MOST_BYTES]; /* to us */
    size_t at, n, passed;                /* passed: what came through edit(), in all */
    size_t next_edit;                    /* among those */
    bool changed, goodbye;               /* something was; they have said it */
    int failure;                         /* the carrier's, in this call */
    bool failed;                         /* and in any */
    size_t we_wrote, we_read, they_wrote, they_read;
    bool they_saw_end;
    SSL *ssl; /* theirs; NULL: raw */
    weft_stream *stream;
} world;

/* ---- the same for each input */

static uint64_t numbers;

static int next_random(unsigned char *to, int n)
{
    for (int i = 0; i < n; i++) {
        numbers = numbers * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        to[i] = (unsigned char)(numbers >> 56);
    }
    return 1;
}

static int is_seeded(void)
{
    return 1;
}

static const RAND_METHOD same_numbers = { NULL, next_random, NULL, NULL, next_random, is_seeded };

/* In front of each allocation of OpenSSL's lies its size. */
static size_t in_use, most_in_use;

static void *count_malloc(size_t n, const char *file, int line)
{
    size_t *p = malloc(16 + n);
    (void)file, (void)line;
    HOLDS(p);
    *p = n;
    in_use += n;
    most_in_use = in_use > most_in_use ? in_use : most_in_use;
    return (char *)p + 16;
}

static void count_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    if (!p)
        return;
    size_t *from = (size_t *)(void *)((char *)p - 16);
    in_use -= *from;
    free(from);
}

static void *count_realloc(void *p, size_t n, const char *file, int line)
{
    void *to = count_malloc(n, file, line);
    if (p) {
        size_t before = *(size_t *)(void *)((char *)p - 16);
        memcpy(to, p, before < n ? before : n);
        count_free(p, file, line);
    }
    return to;
}

/* ---- one certificate, of an authority of its own */

static char pem[32]; /* a path */
static X509 *cert;
static EVP_PKEY *key;

static void extend(int what, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, what, value);
    HOLDS(e && X509_add_ext(cert, e, -1));
    X509_EXTENSION_free(e);
}

static void make_certificate(void)
{
    key = EVP_EC_gen("P-256");
    cert = X509_new();
    HOLDS(key && cert && X509_set_version(cert, 2) && ASN1_INTEGER_set(X509_get_serialNumber(cert), 1));
    HOLDS(ASN1_TIME_set_string(X509_getm_notBefore(cert), "20000101000000Z"));
    HOLDS(ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z"));
    X509_NAME *name = X509_get_subject_name(cert);
    HOLDS(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"fuzz", -1, -1, 0));
    HOLDS(X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key));
    extend(NID_basic_constraints, "critical,CA:TRUE");
    extend(NID_subject_alt_name, "DNS:example.test");
    HOLDS(X509_sign(cert, key, EVP_sha256()) > 0);
    int fd = memfd_create("certificate", MFD_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    HOLDS(f && PEM_write_X509(f, cert) && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) && fflush(f) == 0);
    snprintf(pem, sizeof pem, "/proc/self/fd/%d", fd);
}

static void set_up_once(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    HOLDS(CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free));
    HOLDS(RAND_set_rand_method(&same_numbers));
    make_certificate();
}

/* ---- what the two ends say */

static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 7 + i / 251);
}

static void fill(unsigned char *to, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++)
        to[i] = pattern(from + i);
}

static void is_right(const unsigned char *got, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++)
        HOLDS(got[i] == pattern(from + i));
}

/* ---- the other end */

static void put_under_way(int c)
{
    if (world.n < MOST_BYTES)
        world.under_way[world.n++] = (unsigned char)c;
}

/* Where the next change is. */
static void find_edit(void)
{
    world.next_edit = world.edits.left > 0 ? world.passed + next_number(&world.edits, MOST_BYTES) : SIZE_MAX;
}

/* How many bytes are left alone, and what is done to the next: 'x' and a byte: these are xored; 'd': it goes; 'i' and a byte:
 * that comes before it; 'a' and a size: so many, the last ones, come again before it. */
static void edit(int c)
{
    if (world.passed++ != world.next_edit) {
        put_under_way(c);
        return;
    }
    int what = next_byte(&world.edits), by = what == 'x' || what == 'i' ? next_byte(&world.edits) : 0;
    size_t again = what == 'a' ? next_size(&world.edits) : 0;
    again = again < world.n ? again : world.n;
    world.changed = world.changed || what == 'd' || what == 'i' || (what == 'x' && by > 0) || again > 0;
    if (what == 'i')
        put_under_way(by);
    for (size_t i = 0, from = world.n - again; i < again; i++)
        put_under_way(world.under_way[from + i]);
    if (what != 'd')
        put_under_way(what == 'x' && by > 0 ? c ^ by : c);
    find_edit();
}

static void carry(void)
{
    unsigned char *bytes;
    long n = BIO_get_mem_data(SSL_get_wbio(world.ssl), (char **)&bytes);
    for (long i = 0; i < n; i++)
        edit(bytes[i]);
    (void)BIO_reset(SSL_get_wbio(world.ssl));
}

static void hear(void)
{
    unsigned char got[2048];
    size_t n;
    while (SSL_read_ex(world.ssl, got, sizeof got, &n)) {
        is_right(got, n, world.they_read);
        world.they_read += n;
    }
    world.they_saw_end = world.they_saw_end || (SSL_get_shutdown(world.ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
    ERR_clear_error();
}

static void say(size_t n)
{
    static unsigned char bytes[94 * 1024];
    size_t done;
    n = n < sizeof bytes ? n : sizeof bytes;
    fill(bytes, n, world.they_wrote);
    if (n > 0 && !world.goodbye && SSL_write_ex(world.ssl, bytes, n, &done))
        world.they_wrote += done;
}

/* False: it has nothing more to do. */
static bool act_there(void)
{
    switch (next_byte(&world.theirs)) {
    case -1:
        return false;
    case 'w':
        say(next_size(&world.theirs));
        break;
    case 'W':
        say(next_size(&world.theirs) * 1024);
        break;
    case 'k': /* new keys, and ours as well */
        (void)SSL_key_update(world.ssl, SSL_KEY_UPDATE_REQUESTED);
        (void)SSL_do_handshake(world.ssl);
        break;
    case 'K': /* very often */
        for (size_t n = next_size(&world.theirs); n > 0; n--) {
            (void)SSL_key_update(world.ssl, SSL_KEY_UPDATE_REQUESTED);
            (void)SSL_do_handshake(world.ssl);
        }
        break;
    case 't':
        if (SSL_is_server(world.ssl) && SSL_new_session_ticket(world.ssl))
            (void)SSL_do_handshake(world.ssl);
        break;
    case 'n':
        if (SSL_renegotiate(world.ssl))
            (void)SSL_do_handshake(world.ssl);
        break;
    case 'g':
        world.goodbye = SSL_is_init_finished(world.ssl) && SSL_shutdown(world.ssl) >= 0;
        break;
    default:
        break;
    }
    ERR_clear_error();
    return true;
}

static void step_there(void)
{
    do {
        if (!SSL_is_init_finished(world.ssl)) {
            (void)SSL_do_handshake(world.ssl);
            ERR_clear_error();
            carry();
            if (!SSL_is_init_finished(world.ssl))
                return;
        }
        hear();
        carry();
    } while (world.at == world.n && act_there());
}

static void make_other_end(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    HOLDS(ctx && SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
    if (world.old)
        HOLDS(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION));
    world.ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    HOLDS(world.ssl && in && out);
    SSL_set_bio(world.ssl, in, out);
    BIO_set_mem_eof_return(in, -1);
    if (world.server)
        SSL_set_connect_state(world.ssl);
    else
        SSL_set_accept_state(world.ssl);
    if (world.server && world.protocols)
        HOLDS(SSL_set_alpn_protos(world.ssl, (const unsigned char *)"\2h2\10http/1.1", 12) == 0);
    SSL_CTX_free(ctx);
}

/* ---- the carrier */

static int give(void *self, void *buf, size_t n)
{
    (void)self;
    HOLDS(n > 0);
    if (world.at == world.n && world.ssl) {
        world.at = world.n = 0;
        step_there();
    }
    size_t left = world.n - world.at;
    int rc = next_piece(&world.cuts, n < left ? n : left);
    if (rc < 0) {
        world.failure = rc;
        world.failed = true;
        return rc;
    }
    memcpy(buf, world.under_way + world.at, (size_t)rc);
    world.at += (size_t)rc;
    return rc;
}

static int take(void *self, const struct iovec *v, int n)
{
    (void)self;
    HOLDS(n == 1 && v->iov_len > 0);
    int rc = next_piece(&world.cuts, v->iov_len);
    if (rc < 0) {
        world.failure = rc;
        world.failed = true;
    } else if (world.ssl) {
        HOLDS(BIO_write(SSL_get_rbio(world.ssl), v->iov_base, rc) == rc);
    }
    return rc;
}

static int nothing(void *self)
{
    (void)self;
    return 0;
}

static void drop(void *self)
{
    (void)self;
}

static const weft_carrier_ops ops = { give, take, nothing, nothing, drop, nothing };

/* ---- our end */

static void look(const struct weft__tls_conn *c)
{
    HOLDS(c->in.size <= KEPT_IN && c->now.size <= KEPT_OUT && c->out.size <= KEPT_OUT);
    HOLDS(c->in.at <= c->in.end && c->in.end <= c->in.size);
    HOLDS(!c->filling && !c->sending);
    HOLDS(most_in_use <= OPENSSL_KEEPS);
}

/* A failure that may be. */
static bool excused(int rc)
{
    return (rc == world.failure && rc < 0) || rc == -EPROTO || rc == -ENODATA || rc == -EPIPE || rc == -EKEYREJECTED ||
            (world.failed && rc == -ECONNRESET);
}

static void check_read(size_t n)
{
    unsigned char *buf = malloc(n + 1);
    int rc = weft_stream_read(world.stream, buf, n);
    HOLDS(rc >= 0 || excused(rc));
    if (rc > 0) {
        is_right(buf, (size_t)rc, world.we_read);
        world.we_read += (size_t)rc;
    }
    if (rc == 0 && n > 0)
        HOLDS(world.goodbye && world.we_read == world.they_wrote);
    free(buf);
}

static void check_write(size_t n)
{
    unsigned char *buf = malloc(n + 1);
    fill(buf, n, world.we_wrote);
    int rc = weft_stream_write(world.stream, buf, n);
    HOLDS(rc == 0 || excused(rc));
    if (rc == 0)
        world.we_wrote += n;
    else
        world.failed = true; /* what of it will go is not known */
    rc = weft_stream_flush(world.stream);
    HOLDS(rc == 0 || excused(rc));
    free(buf);
}

static void act(struct input *ours, const struct weft__tls_conn *c)
{
    for (int what; (what = next_byte(ours)) >= 0; look(c)) {
        world.failure = 0;
        size_t n = what == 'r' || what == 'w' || what == 'R' || what == 'W' ? next_size(ours) : 0;
        if (what == 'r' || what == 'R')
            check_read(what == 'R' ? n * 1024 : n);
        if (what == 'w' || what == 'W')
            check_write(what == 'W' ? n * 1024 : n);
        if (what == 'h') {
            int rc = weft_stream_shutdown(world.stream);
            HOLDS(rc == 0 || excused(rc));
        }
    }
}

static int shake_hands(weft_tls **t)
{
    weft_tls_options o = { .ca_file = pem, .alpn = world.protocols ? "http/1.1" : NULL };
    o.cert_file = world.server || world.asks ? pem : NULL;
    o.ask_client_cert = world.server && world.asks;
    HOLDS(weft_tls_create(t, &o) == 0 && (!o.cert_file || weft_tls_add_cert(*t, pem, NULL) == 0));
    return world.server ? weft_tls_server(*t, world.stream)
                        : weft_tls_client(*t, world.stream, world.other_host ? "other.test" : "example.test");
}

/* Whether it went as it was to, and what is still to be said is. */
static void check_end(bool open)
{
    bool whole = !world.changed && !world.failed && world.ssl;
    world.failure = 0;
    int rc = weft_stream_close(&world.stream);
    HOLDS(rc == 0 || !open || excused(rc));
    if (world.ssl)
        hear();
    if (open && whole && rc == 0 && world.they_saw_end)
        HOLDS(world.they_read == world.we_wrote);
    HOLDS(world.they_read <= world.we_wrote || world.failed);
}

static void begin(struct input *in)
{
    struct input settings = next_line(in);
    memset(&world, 0, offsetof(__typeof__(world), under_way));
    memset(&world.at, 0, sizeof world - offsetof(__typeof__(world), at));
    for (int c; (c = next_byte(&settings)) >= 0;) {
        world.server = world.server || c == 's';
        world.old = world.old || c == '2';
        world.asks = world.asks || c == 'a';
        world.other_host = world.other_host || c == 'o';
        world.protocols = world.protocols || c == 'p';
        world.raw = world.raw || c == 'r';
    }
}

static void run(struct input in)
{
    begin(&in);
    struct input ours = next_line(&in);
    world.theirs = next_line(&in);
    world.cuts = next_line(&in);
    if (world.raw) {
        world.n = expand(in, world.under_way, MOST_BYTES);
    } else {
        world.edits = in;
        find_edit();
        make_other_end();
    }
    weft_tls *t = NULL;
    HOLDS(weft__stream_make(&world.stream, &(weft_carrier){ &ops, NULL }, NULL) == 0);
    int rc = shake_hands(&t);
    HOLDS(rc == 0 || excused(rc));
    HOLDS(rc < 0 || !(world.raw || (world.other_host && !world.server)));
    weft_carrier of = weft_stream_carrier(world.stream);
    look(of.self);
    act(&ours, of.self);
    check_end(rc == 0);
    weft_tls_destroy(&t);
    SSL_free(world.ssl);
    ERR_clear_error();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    weft_ignore(weft_check()); /* what a thread gets for its first call */
    set_up_once();
    numbers = 1;
    most_in_use = in_use;
    run((struct input){ data, bytes });
    return 0;
}
