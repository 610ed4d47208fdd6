/* tests/tls_test.c - tls/: both ends of weft's, ends of OpenSSL's own on plain threads, and other programs.
 *
 * Certificates are made when it starts, into a folder that goes at its end. A body records the first line whose expectation
 * failed (EXPECT), and the test asserts that there is none. OpenSSL allocates through the test, which can make it fail. */
#include "support.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <weft/tls.h>

#include "tls/tls.h"

static char folder[64];

/* ---- memory that fails */

static atomic_long fail_in = -1; /* the so many-th allocation from now on fails; negative: none */
static atomic_long failed_once;

static bool fails(void)
{
    if (atomic_load(&fail_in) < 0)
        return false;
    bool now = atomic_fetch_sub(&fail_in, 1) == 0;
    if (now)
        atomic_fetch_add(&failed_once, 1);
    return now;
}

static void *test_malloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return fails() ? NULL : malloc(n);
}

static void *test_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return fails() ? NULL : realloc(p, n);
}

static void test_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    free(p);
}

/* ---- certificates */

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static const char *in_folder(const char *name)
{
    static _Thread_local char paths[8][128];
    static _Thread_local int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "making certificates: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void extend(X509 *cert, int what, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, what, value);
    must(e && X509_add_ext(cert, e, -1), value);
    X509_EXTENSION_free(e);
}

/* By NULL it is signed by itself. Valid from two days ago, for `days`. */
static struct identity identity_of(EVP_PKEY *key, const char *name, const char *for_whom, int days, const struct identity *by)
{
    static long serial = 1;
    struct identity id = { key, X509_new() };
    must(id.key && id.cert, "memory");
    X509_set_version(id.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), -2 * 86400);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), (days - 2) * 86400L);
    X509_NAME_add_entry_by_txt(
            X509_get_subject_name(id.cert), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(id.cert, X509_get_subject_name(by ? by->cert : id.cert));
    X509_set_pubkey(id.cert, id.key);
    extend(id.cert, NID_basic_constraints, for_whom ? "CA:FALSE" : "critical,CA:TRUE");
    if (for_whom)
        extend(id.cert, NID_subject_alt_name, for_whom);
    must(X509_sign(id.cert, by ? by->key : id.key, EVP_sha256()) > 0, "signature");
    return id;
}

static struct identity identity(const char *name, const char *for_whom, int days, const struct identity *by)
{
    return identity_of(EVP_EC_gen("P-256"), name, for_whom, days, by);
}

static void write_to(const char *name, const struct identity *id, bool key, const EVP_CIPHER *secret)
{
    FILE *f = fopen(in_folder(name), "w");
    must(f && (!id->cert || PEM_write_X509(f, id->cert)), name);
    must(!key || PEM_write_PrivateKey(f, id->key, secret, secret ? (const unsigned char *)"word" : NULL, secret ? 4 : 0, NULL,
                         NULL),
            name);
    fclose(f);
}

static void forget(struct identity *id)
{
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
}

enum { MANY = 300 };

/* For the names that clients ask for. */
static void make_named(const struct identity *ca)
{
    static const struct {
        const char *file, *names;
    } all[] = {
        { "one", "DNS:one.test,DNS:www.one.test" },
        { "of_one", "DNS:*.one.test,DNS:*.deep.one.test" },
        { "two", "DNS:TWO.test,DNS:dot.test.,DNS:*.two.test,DNS:w*.two.test,DNS:*,DNS:*.,DNS:a b.test,email:x@mail.test" },
        { "three", "DNS:three.test,DNS:one.test" },
        { "nameless", "IP:127.0.0.9" },
    };
    char many[MANY * 24] = "", next[24];
    for (int i = 0; i < COUNT(all); i++) {
        struct identity id = identity(all[i].file, all[i].names, 30, ca);
        write_to(all[i].file, &id, true, NULL);
        forget(&id);
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(next, sizeof next, "%sDNS:m%d.test", i ? "," : "", i * 7919 % 10007);
        strcat(many, next);
    }
    struct identity id = identity("many", many, 30, ca);
    write_to("many", &id, true, NULL);
    forget(&id);
    id = identity_of(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048), "one by rsa", "DNS:one.test", 30, ca);
    write_to("one_by_rsa", &id, true, NULL);
    forget(&id);
}

static void make_files(void)
{
    snprintf(folder, sizeof folder, "/tmp/weft-tls-XXXXXX");
    must(mkdtemp(folder), "folder");
    struct identity ca = identity("weft test authority", NULL, 30, NULL), other = identity("another", NULL, 30, NULL);
    struct identity server = identity("server", "DNS:example.test,DNS:localhost,IP:127.0.0.1,IP:::1", 30, &ca);
    struct identity old = identity("expired", "DNS:example.test", 1, &ca);
    struct identity alone = identity("alone", "DNS:example.test", 30, NULL);
    struct identity of_other = identity("of another", "DNS:example.test", 30, &other);
    struct identity client = identity("client", "DNS:client.test", 30, &ca);
    write_to("ca", &ca, false, NULL);
    write_to("other_ca", &other, false, NULL);
    write_to("server", &server, true, NULL);
    write_to("server_cert", &server, false, NULL);
    write_to("server_key", &(struct identity){ server.key, NULL }, true, NULL);
    write_to("expired", &old, true, NULL);
    write_to("alone", &alone, true, NULL);
    write_to("of_other", &of_other, true, NULL);
    write_to("client", &client, true, NULL);
    write_to("client_key", &(struct identity){ client.key, NULL }, true, NULL);
    write_to("secret_key", &(struct identity){ server.key, NULL }, true, EVP_aes_128_cbc());
    make_named(&ca);
    FILE *f = fopen(in_folder("garbage"), "w");
    must(f, "garbage");
    fputs("no certificate\n", f);
    fclose(f);
    forget(&ca), forget(&other), forget(&server), forget(&old), forget(&alone), forget(&of_other), forget(&client);
}

static void remove_files(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            unlink(in_folder(e->d_name));
    if (d)
        closedir(d);
    rmdir(folder);
}

/* ---- two ends of weft's */

static const int workers[] = { 1, 2, 4 };

struct t {
    int i;
    weft_tls *client, *server;
    weft_stream *a, *b; /* the client's, the server's */
    const char *host;
    int rc[4];
    char text[4][128];
    atomic_int there;
    size_t bytes;
    int fd;
    bool drop; /* a client that failed, too, is gone at once */
};

static void check_run(weft_fn *fn, struct t *t, const weft_options *o)
{
    int rc = weft_run(fn, t, o), line = line_that_was_wrong();
    ck_assert_msg(line == 0, "the expectation in line %d; %d %s; %d %s", line, t->rc[0], t->text[0], t->rc[1], t->text[1]);
    ck_assert_int_eq(rc, 0);
}

/* Over a socket pair if t->i is odd, else over memory. */
static int open_pair(struct t *t)
{
    int fds[2];
    if (t->i % 2 == 0)
        return weft_stream_pair(&t->a, &t->b);
    int rc = weft_pair(fds);
    if (rc == 0)
        rc = weft_stream_open(&t->a, fds[0], NULL);
    return rc == 0 ? weft_stream_open(&t->b, fds[1], NULL) : rc;
}

static int make_client(struct t *t, const weft_tls_options *o)
{
    weft_tls_options with = o ? *o : (weft_tls_options){ 0 };
    if (!with.ca_file)
        with.ca_file = in_folder("ca");
    if (!t->host)
        t->host = "example.test";
    return weft_tls_create(&t->client, &with);
}

static int make_server(struct t *t, const weft_tls_options *o)
{
    weft_tls_options with = o ? *o : (weft_tls_options){ 0 };
    if (!with.cert_file)
        with.cert_file = in_folder("server");
    return weft_tls_create(&t->server, &with);
}

static void let_go(struct t *t)
{
    weft_tls_destroy(&t->client);
    weft_tls_destroy(&t->server);
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
}

static int keep_result(struct t *t, int i, int rc)
{
    t->rc[i] = rc;
    snprintf(t->text[i], sizeof t->text[i], "%s", rc < 0 ? weft_error_text(rc) : "");
    return 0;
}

static int client_hand(void *arg)
{
    struct t *t = arg;
    keep_result(t, 0, weft_tls_client(t->client, t->a, t->host));
    if (t->rc[0] < 0 && t->drop)
        weft_stream_drop(&t->a);
    return 0;
}

static int server_hand(void *arg)
{
    struct t *t = arg;
    keep_result(t, 1, weft_tls_server(t->server, t->b));
    if (t->rc[1] < 0)
        weft_stream_drop(&t->b); /* else the other side would wait */
    return 0;
}

static int both(struct t *t, weft_fn *one, weft_fn *other)
{
    weft_scope s;
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, one, t);
    weft_spawn(&s, other, t);
    return weft_scope_end(&s, 0);
}

static int shake(struct t *t)
{
    return both(t, client_hand, server_hand);
}

static int close_a(void *arg)
{
    struct t *t = arg;
    t->rc[2] = weft_stream_close(&t->a);
    return 0;
}

static int close_b(void *arg)
{
    struct t *t = arg;
    t->rc[3] = weft_stream_close(&t->b);
    return 0;
}

/* Both at once, as each waits for the other's goodbye. */
static int part(struct t *t)
{
    int rc = both(t, close_a, close_b);
    return rc < 0 ? rc : t->rc[2] < 0 ? t->rc[2] : t->rc[3];
}

/* Whether the other side is whom it is to be, by its certificate; in as much room as that takes, and not in less. */
static int names(const weft_stream *s, const char *whom)
{
    char name[64] = "?";
    unsigned char der[4096];
    int n = (int)strlen(whom), bytes = weft_tls_peer_certificate(s, der, sizeof der);
    EXPECT(weft_tls_peer_name(s, name, sizeof name) == n && strcmp(name, whom) == 0);
    EXPECT(n == 0 ? bytes == 0 : bytes > 0);
    if (n == 0)
        return 0;
    EXPECT(weft_tls_peer_name(s, name, (size_t)n) == -ENOSPC && name[0] == 0);
    EXPECT(weft_tls_peer_name(s, name, (size_t)n + 1) == n && strcmp(name, whom) == 0);
    EXPECT(weft_tls_peer_certificate(s, der, (size_t)bytes - 1) == -ENOSPC);
    const unsigned char *at = der;
    X509 *cert = d2i_X509(NULL, &at, bytes);
    bool whole = cert && at == der + bytes;
    X509_free(cert);
    return whole ? 0 : -EPROTO;
}

static int talk(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(open_pair(t) == 0);
    EXPECT(make_client(t, &(weft_tls_options){ .alpn = "h2,http/1.1" }) == 0);
    EXPECT(make_server(t, &(weft_tls_options){ .alpn = "http/1.1" }) == 0);
    EXPECT(weft_tls_alpn(t->a) == NULL);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    EXPECT(strcmp(weft_tls_alpn(t->a), "http/1.1") == 0 && strcmp(weft_tls_alpn(t->b), "http/1.1") == 0);
    EXPECT(strcmp(weft_tls_version(t->a), "TLSv1.3") == 0 && strcmp(weft_tls_version(t->b), "TLSv1.3") == 0);
    EXPECT(strncmp(weft_tls_cipher(t->a), "TLS_", 4) == 0 && strcmp(weft_tls_cipher(t->a), weft_tls_cipher(t->b)) == 0);
    EXPECT(names(t->a, "CN=server") == 0 && names(t->b, "") == 0); /* it was not asked */
    weft_tls_destroy(&t->client); /* connections go on */
    weft_tls_destroy(&t->server);
    for (int i = 0; i < 20; i++) {
        EXPECT(weft_stream_printf(t->a, "question %d\n", i) == 0 && weft_stream_flush(t->a) == 0);
        EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && atoi(line + 9) == i);
        EXPECT(weft_stream_printf(t->b, "answer %d\n", i) == 0 && weft_stream_flush(t->b) == 0);
        EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && atoi(line + 7) == i);
    }
    EXPECT((weft_stream_fd(t->a) >= 0) == (t->i % 2 == 1));
    EXPECT(weft_stream_puts(t->a, "last") == 0 && weft_stream_shutdown(t->a) == 0); /* one half ends */
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "last") == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 0);
    EXPECT(weft_stream_puts(t->b, "still\n") == 0 && weft_stream_flush(t->b) == 0);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "still") == 0);
    EXPECT(part(t) == 0);
    let_go(t);
    return 0;
}

START_TEST(two_ends_talk_and_part)
{
    check_run(talk, &(struct t){ .i = _i }, ON(workers[_i / 2]));
}
END_TEST

/* they are the stream's, whatever carries it. */
static int limited(void *arg)
{
    struct t *t = arg;
    weft_stream_buffers buffers;
    char *line;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(weft_stream_set_limits(t->a, 0, 10) == 0 && shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    EXPECT(weft_stream_set_limits(t->b, 3, 0) == 0);
    EXPECT(weft_stream_puts(t->a, "five5\n") == 0 && weft_stream_buffered(t->a, &buffers) == 0);
    EXPECT(buffers.kept == 6 && buffers.write_buffer == 10 && buffers.read_ahead == 0 && buffers.read_limit == 65536);
    EXPECT(weft_stream_puts(t->a, "four\n") == 0 && weft_stream_buffered(t->a, &buffers) == 0 && buffers.kept == 5);
    EXPECT(weft_stream_flush(t->a) == 0 && weft_stream_buffered(t->a, &buffers) == 0 && buffers.kept == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == -EMSGSIZE);
    EXPECT(weft_stream_buffered(t->b, &buffers) == 0 && buffers.read_ahead == 6 && buffers.read_limit == 3);
    EXPECT(weft_stream_set_limits(t->b, 5, 0) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "five5") == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "four") == 0);
    EXPECT(part(t) == 0);
    let_go(t);
    return 0;
}

START_TEST(limits_are_those_of_the_stream)
{
    check_run(limited, &(struct t){ .i = _i }, ON(2));
}
END_TEST

/* ---- whom to trust */

struct trust {
    const char *cert, *ca, *host;
    bool anyone;
    int rc;
    const char *text;
};

static const struct trust trusts[] = {
    { "server", "ca", "example.test", false, 0, "" },
    { "server", "ca", "EXAMPLE.test.", false, 0, "" },
    { "server", "ca", "127.0.0.1", false, 0, "" },
    { "server", "ca", "::1", false, 0, "" },
    { "server", "ca", "127.0.0.2", false, -EKEYREJECTED, "IP address mismatch" },
    { "server", "ca", "other.test", false, -EKEYREJECTED, "ostname mismatch" },
    { "server", "ca", "test", false, -EKEYREJECTED, "ostname mismatch" },
    { "server", "other_ca", "example.test", false, -EKEYREJECTED, "unable to get local issuer certificate" },
    { "server", NULL, "example.test", false, -EKEYREJECTED, "unable to get local issuer certificate" },
    { "of_other", NULL, "example.test", false, 0, "" }, /* the system trusts that one here: main */
    { "of_other", "ca", "example.test", false, -EKEYREJECTED, "unable to get local issuer certificate" },
    { "expired", "ca", "example.test", false, -EKEYEXPIRED, "certificate has expired" },
    { "alone", "ca", "example.test", false, -EKEYREJECTED, "self-signed certificate" },
    { "alone", "ca", "other.test", true, 0, "" },
    { "expired", "ca", NULL, true, 0, "" },
};

static int trust(void *arg)
{
    struct t *t = arg;
    const struct trust *x = &trusts[t->i];
    EXPECT(open_pair(t) == 0);
    weft_tls_options o = { .dangerously_trust_anyone = x->anyone, .ca_file = x->ca ? in_folder(x->ca) : NULL };
    EXPECT(weft_tls_create(&t->client, &o) == 0);
    EXPECT(make_server(t, &(weft_tls_options){ .cert_file = in_folder(x->cert) }) == 0);
    t->host = x->host;
    EXPECT(shake(t) == 0 && t->rc[0] == x->rc && strstr(t->text[0], x->text));
    if (x->rc == 0) {
        EXPECT(t->rc[1] == 0 && part(t) == 0);
    } else {
        char byte;
        EXPECT(strstr(t->text[0], x->host));
        EXPECT(t->rc[1] == -EPROTO && strstr(t->text[1], "the other side refuses"));
        EXPECT(weft_stream_read(t->a, &byte, 1) == x->rc && strstr(weft_error_text(x->rc), x->text));
        EXPECT(weft_stream_write(t->a, "x", 1) == 0 && weft_stream_flush(t->a) == x->rc);
        EXPECT(weft_stream_close(&t->a) == x->rc);
    }
    let_go(t);
    return 0;
}

START_TEST(a_certificate_is_trusted_or_not)
{
    check_run(trust, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static const struct {
    const char *cert;
    bool in;
    const char *text;
} guests[] = {
    { "client", true, "" },
    { NULL, false, "certificate required" },
    { "of_other", false, "unknown ca" },
    { "expired", false, "certificate expired" },
};

static int hear_nothing(void *arg)
{
    struct t *t = arg;
    char byte;
    if (t->rc[0] == 0)
        keep_result(t, 0, weft_stream_read(t->a, &byte, 1));
    return 0;
}

/* In TLS 1.3 a client is through before it hears that it is refused. */
static int guest(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0);
    EXPECT(make_client(t, &(weft_tls_options){ .cert_file = guests[t->i].cert ? in_folder(guests[t->i].cert) : NULL }) == 0);
    EXPECT(make_server(t, &(weft_tls_options){ .ask_client_cert = true, .ca_file = in_folder("ca") }) == 0);
    EXPECT(shake(t) == 0);
    if (guests[t->i].in) {
        EXPECT(t->rc[0] == 0 && t->rc[1] == 0 && names(t->a, "CN=server") == 0 && names(t->b, "CN=client") == 0);
        EXPECT(part(t) == 0);
    } else {
        EXPECT(t->rc[1] < 0 && hear_nothing(t) == 0);
        EXPECT(t->rc[0] == -EPROTO && strstr(t->text[0], guests[t->i].text));
    }
    let_go(t);
    return 0;
}

START_TEST(a_server_asks_who_it_is)
{
    check_run(guest, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static const struct {
    const char *client, *server, *agreed;
    bool refused;
} protocols[] = {
    { "h2,http/1.1", "h2", "h2", false },
    { "h2,http/1.1", "http/1.1,h2", "http/1.1", false },
    { "h2", NULL, NULL, false },
    { NULL, "h2", NULL, false },
    { "h2", "http/1.1", NULL, true },
};

static int agree(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0);
    EXPECT(make_client(t, &(weft_tls_options){ .alpn = protocols[t->i].client }) == 0);
    EXPECT(make_server(t, &(weft_tls_options){ .alpn = protocols[t->i].server }) == 0);
    EXPECT(shake(t) == 0);
    if (protocols[t->i].refused) {
        EXPECT(t->rc[0] == -EPROTO && strstr(t->text[0], "no application protocol") && t->rc[1] == -EPROTO);
    } else {
        const char *a = weft_tls_alpn(t->a), *b = weft_tls_alpn(t->b), *want = protocols[t->i].agreed;
        EXPECT(t->rc[0] == 0 && t->rc[1] == 0);
        EXPECT(want ? a && b && strcmp(a, want) == 0 && strcmp(b, want) == 0 : !a && !b);
    }
    let_go(t);
    return 0;
}

START_TEST(a_protocol_is_agreed_on)
{
    check_run(agree, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static int wrong_options(void *arg)
{
    struct t *t = arg;
    weft_tls *x = NULL;
    static const char *const lists[] = { "", ",", "h2,", ",h2", "a,,b" };
    for (int i = 0; i < COUNT(lists); i++)
        EXPECT(weft_tls_create(&x, &(weft_tls_options){ .alpn = lists[i] }) == -EINVAL);
    EXPECT(weft_tls_create(NULL, NULL) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .reserved = { 1 } }) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .handshake = -1 }) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .shutdown = -1 }) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .key_file = in_folder("server") }) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .cert_file = in_folder("server"), .ask_client_cert = true }) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .cert_file = in_folder("none") }) == -ENOENT);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .ca_file = in_folder("none") }) == -ENOENT);
    EXPECT(strstr(weft_error_text(-ENOENT), "/none"));
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .ca_file = folder }) == -EISDIR); /* what cannot be read is no end */
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .cert_file = in_folder("garbage") }) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .ca_file = in_folder("garbage") }) == -EINVAL);
    EXPECT(weft_tls_create(&x, &(weft_tls_options){ .cert_file = in_folder("server_cert") }) == -EINVAL);
    weft_tls_options o = { .cert_file = in_folder("server_cert"), .key_file = in_folder("client_key") };
    EXPECT(weft_tls_create(&x, &o) == -EINVAL && strstr(weft_error_text(-EINVAL), "mismatch"));
    o.key_file = in_folder("secret_key");
    EXPECT(weft_tls_create(&x, &o) == -EINVAL); /* and nobody is asked for the word */
    EXPECT(x == NULL);
    o.key_file = in_folder("server_key");
    EXPECT(weft_tls_create(&x, &o) == 0);
    EXPECT(weft_stream_pair(&t->a, &t->b) == 0);
    EXPECT(weft_tls_client(x, t->a, NULL) == -EINVAL && weft_tls_client(x, t->a, "") == -EINVAL);
    EXPECT(weft_tls_client(x, t->a, ".") == -EINVAL && weft_tls_client(NULL, t->a, "h") == -EINVAL);
    EXPECT(weft_tls_client(x, NULL, "h") == -EINVAL && weft_tls_server(x, NULL) == -EINVAL);
    EXPECT(make_client(t, NULL) == 0 && weft_tls_server(t->client, t->a) == -EINVAL);
    EXPECT(weft_tls_alpn(NULL) == NULL && weft_tls_reload(NULL) == -EINVAL);
    char none[8];
    EXPECT(weft_tls_version(NULL) == NULL && weft_tls_cipher(NULL) == NULL);
    EXPECT(weft_tls_peer_name(NULL, none, sizeof none) == -EINVAL && weft_tls_peer_certificate(NULL, none, 8) == -EINVAL);
    static const char *const wheres[] = { "", ":1", "unix:/tmp/x", "host", "[]:1" };
    weft_stream *out = NULL;
    for (int i = 0; i < COUNT(wheres); i++)
        EXPECT(weft_tls_connect(&out, wheres[i], t->client) == -EINVAL);
    EXPECT(out == NULL);
    EXPECT(weft_stream_puts(t->a, "plain\n") == 0 && weft_stream_flush(t->a) == 0); /* nothing was changed */
    weft_tls_destroy(&x);
    EXPECT(x == NULL);
    weft_tls_destroy(&x); /* E-27: again, and nothing at all */
    weft_tls_destroy(NULL);
    let_go(t);
    return 0;
}

START_TEST(wrong_options_and_files_are_refused)
{
    check_run(wrong_options, &(struct t){ 0 }, ON(1));
    struct t t = { 0 };
    ck_assert_int_eq(wrong_options(&t), 0); /* on a plain thread */
}
END_TEST

/* ---- the way between */

/* A layer of the test's own: a byte at a time, both ways. */
struct slow {
    weft_carrier below;
};

static int slow_read(void *self, void *buf, size_t n)
{
    struct slow *x = self;
    (void)n;
    return x->below.ops->read(x->below.self, buf, 1);
}

static int slow_writev(void *self, const struct iovec *v, int n)
{
    struct slow *x = self;
    while (n > 1 && v->iov_len == 0)
        v++, n--;
    return x->below.ops->writev(x->below.self, &(struct iovec){ v->iov_base, v->iov_len > 0 }, 1);
}

static int slow_shutdown(void *self)
{
    struct slow *x = self;
    return x->below.ops->shutdown(x->below.self);
}

static int slow_close(void *self)
{
    struct slow *x = self;
    int rc = x->below.ops->close(x->below.self);
    free(x);
    return rc;
}

static void slow_drop(void *self)
{
    struct slow *x = self;
    x->below.ops->drop(x->below.self);
    free(x);
}

static int slow_fd(void *self)
{
    (void)self;
    return -1;
}

static const weft_carrier_ops slow_ops = { slow_read, slow_writev, slow_shutdown, slow_close, slow_drop, slow_fd };

static int make_slow(weft_stream *s)
{
    struct slow *x = malloc(sizeof *x);
    return weft_stream_layer(s, &(weft_carrier){ &slow_ops, x }, &x->below);
}

/* Each end's task writes and another of its reads, all at once. */
static int pour(weft_stream *s, size_t bytes, uint64_t seed)
{
    unsigned char buf[5000];
    for (size_t at = 0; at < bytes;) {
        size_t n = next_random(&seed) % sizeof buf + 1;
        n = n < bytes - at ? n : bytes - at;
        for (size_t i = 0; i < n; i++, at++)
            buf[i] = (unsigned char)(at * 7 + at / 251);
        int rc = weft_stream_write(s, buf, n);
        if (rc < 0)
            return rc;
    }
    return weft_stream_flush(s);
}

static int taste(weft_stream *s, size_t bytes)
{
    unsigned char buf[7000];
    int rc = 0;
    for (size_t at = 0; at < bytes; at += (size_t)rc) {
        size_t n = bytes - at < sizeof buf ? bytes - at : sizeof buf;
        if ((rc = weft_stream_read(s, buf, n)) <= 0)
            return rc < 0 ? rc : -ENODATA;
        for (size_t i = 0; i < (size_t)rc; i++)
            if (buf[i] != (unsigned char)((at + i) * 7 + (at + i) / 251))
                return -EBADMSG;
    }
    return 0;
}

static int pour_a(void *arg)
{
    struct t *t = arg;
    return pour(t->a, t->bytes, 1);
}
static int pour_b(void *arg)
{
    struct t *t = arg;
    return pour(t->b, t->bytes, 2);
}
static int taste_a(void *arg)
{
    struct t *t = arg;
    return taste(t->a, t->bytes);
}
static int taste_b(void *arg)
{
    struct t *t = arg;
    return taste(t->b, t->bytes);
}

static int pour_both_ways(struct t *t)
{
    weft_scope s;
    weft_scope_begin(&s, 3 * LIMIT);
    weft_spawn(&s, pour_a, t);
    weft_spawn(&s, pour_b, t);
    weft_spawn(&s, taste_a, t);
    weft_spawn(&s, taste_b, t);
    return weft_scope_end(&s, 0);
}

static int byte_by_byte(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(make_slow(t->a) == 0 && make_slow(t->b) == 0);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    t->bytes = SCALED(20000, 10000, 4000);
    EXPECT(pour_both_ways(t) == 0);
    EXPECT(part(t) == 0);
    let_go(t);
    return 0;
}

START_TEST(segments_of_one_byte_do)
{
    check_run(byte_by_byte, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static int large(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    t->bytes = (size_t)fewer(1 << 19, SCALED(8 << 20, 4 << 20, 1 << 20));
    EXPECT(pour_both_ways(t) == 0);
    EXPECT(part(t) == 0);
    let_go(t);
    return 0;
}

START_TEST(much_goes_both_ways_at_once)
{
    check_run(large, &(struct t){ .i = _i }, ON(workers[_i / 2]));
}
END_TEST

/* TLS in TLS. */
static int within(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    for (int i = 0; i < 2; i++)
        EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    t->bytes = 100000;
    EXPECT(pour_both_ways(t) == 0 && part(t) == 0);
    let_go(t);
    return 0;
}

START_TEST(a_layer_goes_over_a_layer)
{
    check_run(within, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static int cut(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    EXPECT(weft_stream_puts(t->b, "one\ntwo\n") == 0 && weft_stream_flush(t->b) == 0);
    weft_stream_drop(&t->b); /* no goodbye */
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && weft_stream_read_line(t->a, &line, NULL) == 1);
    EXPECT(strcmp(line, "two") == 0);
    for (int i = 0; i < 2; i++) {
        EXPECT(weft_stream_read_line(t->a, &line, NULL) == -ENODATA);
        EXPECT(strstr(weft_error_text(-ENODATA), "without a goodbye"));
    }
    let_go(t);
    return 0;
}

START_TEST(a_cut_is_no_end)
{
    check_run(cut, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static int not_tls(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "GET / HTTP/1.0\r\n\r\n") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_tls_server(t->server, t->b) == -EPROTO && strstr(weft_error_text(-EPROTO), "http request"));
    weft_stream_drop(&t->b);
    let_go(t);
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0);
    weft_stream_drop(&t->b);
    int rc = weft_tls_client(t->client, t->a, "example.test");
    EXPECT(rc == -ENODATA || rc == -EPIPE || rc == -ECONNRESET);
    let_go(t);
    return 0;
}

START_TEST(what_is_not_tls_is_told)
{
    check_run(not_tls, &(struct t){ .i = _i }, ON(1));
}
END_TEST

/* ---- in the middle of a stream */

static int starttls(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(weft_stream_puts(t->a, "STARTTLS\n") == 0);
    EXPECT(weft_tls_client(t->client, t->a, "example.test") == -EBUSY); /* not flushed */
    EXPECT(weft_stream_flush(t->a) == 0 && weft_stream_read_line(t->b, &line, NULL) == 1);
    EXPECT(weft_stream_puts(t->b, "go\ninjected\n") == 0 && weft_stream_flush(t->b) == 0);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "go") == 0);
    EXPECT(weft_tls_client(t->client, t->a, "example.test") == -EBUSY);
    EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1 && strcmp(line, "injected") == 0); /* nothing was changed */
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    EXPECT(weft_stream_puts(t->a, "secret\n") == 0 && weft_stream_flush(t->a) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "secret") == 0);
    EXPECT(part(t) == 0);
    let_go(t);
    return 0;
}

START_TEST(a_stream_is_upgraded_in_the_middle)
{
    check_run(starttls, &(struct t){ .i = _i }, ON(2));
}
END_TEST

/* ---- certificates change */

static void point_to(const char *link, const char *to)
{
    unlink(in_folder(link));
    must(symlink(in_folder(to), in_folder(link)) == 0, link);
}

static int again(struct t *t)
{
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    int rc = open_pair(t);
    return rc < 0 ? rc : shake(t);
}

static int reload(void *arg)
{
    struct t *t = arg;
    char *line;
    point_to("current", "server");
    EXPECT(make_server(t, &(weft_tls_options){ .cert_file = in_folder("current") }) == 0 && make_client(t, NULL) == 0);
    EXPECT(open_pair(t) == 0 && shake(t) == 0 && t->rc[0] == 0);
    weft_stream *a = t->a, *b = t->b;
    t->a = t->b = NULL;
    point_to("current", "garbage");
    EXPECT(weft_tls_reload(t->server) == -EINVAL);
    EXPECT(again(t) == 0 && t->rc[0] == 0); /* as it was */
    point_to("current", "of_other");
    EXPECT(again(t) == 0 && t->rc[0] == 0); /* nobody has looked */
    EXPECT(weft_tls_reload(t->server) == 0);
    EXPECT(again(t) == 0 && t->rc[0] == -EKEYREJECTED);
    EXPECT(weft_stream_puts(a, "on\n") == 0 && weft_stream_flush(a) == 0);
    EXPECT(weft_stream_read_line(b, &line, NULL) == 1 && strcmp(line, "on") == 0); /* they keep theirs */
    weft_stream_drop(&a);
    weft_stream_drop(&b);
    let_go(t);
    return 0;
}

START_TEST(certificates_are_read_again)
{
    check_run(reload, &(struct t){ 0 }, ON(2));
}
END_TEST

static int shaker(void *arg)
{
    struct t t = { .i = 1 }, *from = arg;
    t.client = from->client;
    t.server = from->server;
    t.host = "example.test";
    int rc = 0;
    for (int i = 0; i < SCALED(20, 10, 5) && rc == 0; i++) {
        rc = again(&t);
        rc = rc < 0 ? rc : t.rc[0] < 0 ? t.rc[0] : t.rc[1];
    }
    weft_stream_drop(&t.a);
    weft_stream_drop(&t.b);
    return rc;
}

static int reloader(void *arg)
{
    struct t *t = arg;
    int rc = 0;
    for (int i = 0; i < SCALED(20, 10, 5) && rc == 0; i++)
        if ((rc = weft_tls_reload(t->server)) == 0)
            rc = weft_tls_reload(t->client);
    return rc;
}

static int reload_beside(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    EXPECT(make_server(t, NULL) == 0 && make_client(t, NULL) == 0);
    weft_scope_begin(&s, 3 * LIMIT);
    for (int i = 0; i < 4; i++)
        weft_spawn(&s, shaker, t);
    weft_spawn(&s, reloader, t);
    EXPECT(weft_scope_end(&s, 0) == 0);
    let_go(t);
    return 0;
}

START_TEST(handshakes_go_on_beside_a_reload)
{
    check_run(reload_beside, &(struct t){ 0 }, ON(4));
}
END_TEST

/* ---- deadlines and cancels, in virtual time */

#define VIRTUALLY (&(weft_options){ .workers = 1, .clock = WEFT_CLOCK_VIRTUAL })

static int no_answer(void *arg)
{
    struct t *t = arg;
    char byte;
    static const int64_t spans[] = { 0, weft_sec(5) }, want[] = { weft_sec(60), weft_sec(5) };
    EXPECT(weft_stream_pair(&t->a, &t->b) == 0);
    EXPECT(make_client(t, &(weft_tls_options){ .handshake = spans[t->i] }) == 0);
    int64_t start = weft_now();
    EXPECT(weft_tls_client(t->client, t->a, "example.test") == -ETIMEDOUT);
    EXPECT(strstr(weft_error_text(-ETIMEDOUT), "no handshake within"));
    EXPECT(weft_now() - start >= want[t->i] && weft_now() - start < want[t->i] + weft_sec(1));
    EXPECT(weft_stream_read(t->a, &byte, 1) == -EPIPE);
    let_go(t);
    return 0;
}

START_TEST(a_handshake_has_its_time)
{
    check_run(no_answer, &(struct t){ .i = _i }, VIRTUALLY);
}
END_TEST

/* A record of 16383 bytes is begun, and comes at a byte a second. */
static int drip(void *arg)
{
    struct t *t = arg;
    static const char head[] = { 22, 3, 1, 0x3f, (char)0xff, 1, 0, 0x3f, (char)0xf0 };
    int rc = 0;
    for (size_t i = 0; rc == 0; i++) {
        if ((rc = weft_stream_write(t->a, i < sizeof head ? &head[i] : "x", 1)) == 0)
            rc = weft_stream_flush(t->a);
        if (rc == 0)
            rc = weft_sleep(weft_sec(1));
    }
    return 0; /* the other side has gone */
}

static int slow_hand(void *arg)
{
    struct t *t = arg;
    int64_t start = weft_now();
    EXPECT(weft_tls_server(t->server, t->b) == -ETIMEDOUT);
    EXPECT(weft_now() - start >= weft_sec(60) && weft_now() - start < weft_sec(61));
    weft_stream_drop(&t->b);
    return 0;
}

static int dripping(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    EXPECT(weft_stream_pair(&t->a, &t->b) == 0 && make_server(t, NULL) == 0);
    weft_scope_begin(&s, weft_sec(100));
    weft_spawn(&s, drip, t);
    weft_spawn(&s, slow_hand, t);
    EXPECT(weft_scope_end(&s, 0) == 0);
    let_go(t);
    return 0;
}

START_TEST(bytes_that_drip_gain_no_time_for_a_handshake)
{
    check_run(dripping, &(struct t){ 0 }, VIRTUALLY);
}
END_TEST

static int no_goodbye(void *arg)
{
    struct t *t = arg;
    static const int64_t spans[] = { 0, weft_sec(5) }, want[] = { weft_sec(30), weft_sec(5) };
    EXPECT(weft_stream_pair(&t->a, &t->b) == 0 && make_server(t, NULL) == 0);
    EXPECT(make_client(t, &(weft_tls_options){ .shutdown = spans[t->i] }) == 0);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    int64_t start = weft_now();
    EXPECT(weft_stream_close(&t->a) == -ETIMEDOUT);
    EXPECT(weft_now() - start >= want[t->i] && weft_now() - start < want[t->i] + weft_sec(1));
    EXPECT(t->a == NULL);
    let_go(t);
    return 0;
}

START_TEST(a_goodbye_has_its_time)
{
    check_run(no_goodbye, &(struct t){ .i = _i }, VIRTUALLY);
}
END_TEST

static int cancelled_hand(void *arg)
{
    struct t *t = arg;
    char byte;
    t->rc[0] = weft_tls_client(t->client, t->a, "example.test");
    weft_scope shield;
    weft_scope_begin_shield(&shield, LIMIT);
    t->rc[1] = weft_stream_read(t->a, &byte, 1);
    weft_ignore(weft_scope_end(&shield, 0));
    return t->rc[0];
}

static int cancel(void *arg)
{
    struct t *t = arg;
    char hello[64];
    weft_scope s;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, cancelled_hand, t);
    EXPECT(weft_stream_read(t->b, hello, sizeof hello) > 0); /* it waits for the answer, or is about to */
    weft_scope_cancel(&s, "enough");
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(t->rc[0] == -ECANCELED && t->rc[1] == -EPIPE);
    let_go(t);
    return 0;
}

START_TEST(a_handshake_is_cancelled)
{
    check_run(cancel, &(struct t){ .i = _i }, ON(workers[_i / 2]));
}
END_TEST

/* -- B-031: what docs/cancellation.md says of what is made, read again, and connected -- */

/* How long a call is given: none (it is refused), some microseconds, in which it may have begun, or all the time it needs. */
static int64_t given(int i)
{
    return i == 0 ? 0 : i % 8 == 7 ? LIMIT : weft_us(10) << (i % 8);
}

static int make_in_time(void *arg)
{
    struct t *t = arg;
    int made = 0, refused = 0;
    for (int i = 0; i < 16; i++) {
        weft_tls *none = NULL;
        weft_scope s;
        weft_scope_begin(&s, given(i));
        int rc = weft_tls_create(&none, &(weft_tls_options){ .cert_file = in_folder("server"), .ca_file = in_folder("ca") });
        weft_ignore(weft_scope_end(&s, rc));
        EXPECT(rc == 0 || rc == -ECANCELED);
        EXPECT((none == NULL) == (rc < 0)); /* nothing is made */
        EXPECT(i != 0 || rc == -ECANCELED);
        made += rc == 0;
        refused += rc < 0;
        weft_tls_destroy(&none);
    }
    EXPECT(made > 0 && refused > 0);
    t->rc[0] = made;
    return 0;
}

START_TEST(who_is_told_to_leave_makes_nothing)
{
    int before = descriptors_now();
    check_run(make_in_time, &(struct t){ 0 }, ON(workers[_i]));
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* The certificate is another one now, which the client does not trust: it is read, or nothing changes. */
static int reload_in_time(void *arg)
{
    struct t *t = arg;
    int changed = 0, refused = 0;
    point_to("hurried", "server");
    EXPECT(make_server(t, &(weft_tls_options){ .cert_file = in_folder("hurried") }) == 0 && make_client(t, NULL) == 0);
    for (int i = 0; i < 8; i++) {
        weft_scope s;
        point_to("hurried", "of_other");
        weft_scope_begin(&s, given(i));
        int rc = weft_tls_reload(t->server);
        weft_ignore(weft_scope_end(&s, rc));
        EXPECT(rc == 0 || rc == -ECANCELED);
        EXPECT(i != 0 || rc == -ECANCELED);
        EXPECT(again(t) == 0 && t->rc[0] == (rc == 0 ? -EKEYREJECTED : 0));
        changed += rc == 0;
        refused += rc < 0;
        point_to("hurried", "server");
        EXPECT(weft_tls_reload(t->server) == 0);
    }
    EXPECT(changed > 0 && refused > 0);
    let_go(t);
    return 0;
}

START_TEST(a_reload_that_is_called_off_changes_nothing)
{
    check_run(reload_in_time, &(struct t){ 0 }, ON(workers[_i]));
}
END_TEST

static int connect_in_vain(void *arg)
{
    struct t *t = arg;
    t->rc[0] = weft_tls_connect(&t->a, t->text[2], t->client);
    return t->rc[0];
}

/* The other side gets its hello, says nothing, and sees it go. */
static int give_up_connecting(void *arg)
{
    struct t *t = arg;
    char where[32], buf[4096];
    weft_scope s;
    EXPECT((t->fd = listen_local(where)) >= 0 && make_client(t, NULL) == 0);
    snprintf(t->text[2], sizeof t->text[2], "%s", where);
    weft_scope_begin(&s, WEFT_NEVER);
    weft_scope_cancel(&s, NULL);
    EXPECT(connect_in_vain(t) == -ECANCELED && t->a == NULL);
    EXPECT(weft_scope_end(&s, -ECANCELED) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, connect_in_vain, t);
    int fd = weft_accept(t->fd);
    EXPECT(fd >= 0 && weft_read(fd, buf, sizeof buf) > 0); /* of the second one: the first has not come */
    weft_scope_cancel(&s, "enough");
    EXPECT(weft_scope_end(&s, 0) == 0 && t->rc[0] == -ECANCELED && t->a == NULL);
    weft_scope_begin(&s, LIMIT);
    int rc;
    while ((rc = weft_read(fd, buf, sizeof buf)) > 0)
        continue;
    weft_ignore(weft_scope_end(&s, 0));
    EXPECT(rc == 0 || rc == -ECONNRESET);
    weft_close(fd);
    weft_close(t->fd);
    let_go(t);
    return 0;
}

START_TEST(a_connect_that_is_called_off_is_given_up)
{
    int before = descriptors_now();
    check_run(give_up_connecting, &(struct t){ 0 }, ON(workers[_i]));
    ck_assert_int_eq(descriptors_now(), before);
}
END_TEST

/* The other side does not read: the writer is cancelled with its way full. All that was taken comes, and in order. */
static int write_until_told(void *arg)
{
    struct t *t = arg;
    unsigned char buf[1000];
    for (t->bytes = 0;; t->bytes += sizeof buf) {
        for (size_t i = 0; i < sizeof buf; i++)
            buf[i] = (unsigned char)((t->bytes + i) * 7 + (t->bytes + i) / 251);
        weft_scope s;
        weft_scope_begin(&s, t->bytes == 0 ? LIMIT : weft_ms(20)); /* there is room for the first, however late */
        int rc = weft_scope_end(&s, weft_stream_write(t->a, buf, sizeof buf));
        if (rc < 0)
            return rc == -ETIMEDOUT ? 0 : rc;
    }
}

static int read_all_of_it(void *arg)
{
    struct t *t = arg;
    return taste(t->b, t->bytes);
}

static int flush_it(void *arg)
{
    struct t *t = arg;
    return weft_stream_flush(t->a);
}

static int cancelled_write(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    EXPECT(write_until_told(t) == 0 && t->bytes > 0);
    EXPECT(both(t, flush_it, read_all_of_it) == 0);
    EXPECT(part(t) == 0 || t->rc[2] == 0);
    let_go(t);
    return 0;
}

START_TEST(a_cancelled_write_leaves_the_stream_whole)
{
    check_run(cancelled_write, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static int read_briefly(void *arg)
{
    struct t *t = arg;
    char buf[100];
    int n = 0;
    while (n < 1000) {
        weft_scope s;
        weft_scope_begin(&s, weft_us(50));
        int rc = weft_scope_end(&s, weft_stream_read(t->a, buf, sizeof buf));
        if (rc == 0 || (rc < 0 && rc != -ETIMEDOUT))
            return rc < 0 ? rc : -ENODATA;
        for (int i = 0; i < rc; i++, n++)
            if (buf[i] != (char)n)
                return -EBADMSG;
    }
    return 0;
}

static int write_slowly(void *arg)
{
    struct t *t = arg;
    int rc = 0;
    for (int n = 0; n < 1000 && rc == 0; n++) {
        char c = (char)n;
        if ((rc = weft_stream_write(t->b, &c, 1)) == 0 && n % 10 == 9)
            rc = weft_stream_flush(t->b);
        if (n % 100 == 0)
            weft_ignore(weft_sleep(weft_us(100)));
    }
    return rc;
}

static int cancelled_reads(void *arg)
{
    struct t *t = arg;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(make_slow(t->a) == 0);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    EXPECT(both(t, read_briefly, write_slowly) == 0);
    let_go(t);
    return 0;
}

START_TEST(a_cancelled_read_loses_nothing)
{
    check_run(cancelled_reads, &(struct t){ .i = _i }, ON(2));
}
END_TEST

/* ---- ends of OpenSSL's own, on plain threads */

struct peer {
    int fd;
    bool server;
    int most;             /* version, or 0 */
    const char *name;     /* a client's, that it asks for */
    const char *accepts;  /* a client's: signatures; NULL: all */
    SSL_SESSION *session; /* a client's to resume, and what it got */
    void (*fn)(struct peer *p, SSL *ssl);
    SSL_CTX *ctx; /* shared; NULL: its own */
    bool shook, reused, ok;
    bool told;    /* a client: the server says that its name was of use */
    char cn[32];  /* a client's: whom the certificate names */
    pthread_t thread;
};

static SSL_CTX *peer_context(const struct peer *p)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    must(ctx, "context");
    if (p->server)
        must(SSL_CTX_use_certificate_chain_file(ctx, in_folder("server")) == 1 &&
                        SSL_CTX_use_PrivateKey_file(ctx, in_folder("server"), SSL_FILETYPE_PEM) == 1,
                "certificate");
    if (p->most) {
        SSL_CTX_set_security_level(ctx, 0);
        SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
        SSL_CTX_set_max_proto_version(ctx, p->most);
    }
    return ctx;
}

static void *peer_run(void *arg)
{
    struct peer *p = arg;
    SSL_CTX *ctx = p->ctx ? p->ctx : peer_context(p);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, p->fd);
    if (p->session)
        SSL_set_session(ssl, p->session);
    if (p->name)
        SSL_set_tlsext_host_name(ssl, p->name);
    if (p->accepts)
        SSL_set1_sigalgs_list(ssl, p->accepts);
    p->shook = (p->server ? SSL_accept(ssl) : SSL_connect(ssl)) == 1;
    if (p->shook && !p->server) {
        const X509 *cert = SSL_get0_peer_certificate(ssl);
        X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, p->cn, sizeof p->cn);
        p->told = SSL_SESSION_get0_hostname(SSL_get0_session(ssl)) != NULL;
    }
    p->reused = SSL_session_reused(ssl);
    if (p->shook && p->fn)
        p->fn(p, ssl);
    if (p->shook)
        SSL_shutdown(ssl);
    if (!p->server) {
        SSL_SESSION_free(p->session);
        p->session = SSL_get1_session(ssl);
    }
    SSL_free(ssl);
    if (!p->ctx)
        SSL_CTX_free(ctx);
    ERR_clear_error();
    close(p->fd);
    return NULL;
}

/* The other end of t->a or t->b, in a thread. */
static int open_peer(struct t *t, struct peer *p)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -EMFILE;
    p->fd = fds[1];
    int rc = weft_stream_open(p->server ? &t->a : &t->b, fds[0], NULL);
    if (rc == 0)
        p->thread = thread_start(peer_run, p);
    return rc;
}

static int join_thread(void *arg)
{
    pthread_join(*(pthread_t *)arg, NULL);
    return 0;
}

static void echo_a_line(struct peer *p, SSL *ssl)
{
    char buf[64];
    int n = SSL_read(ssl, buf, sizeof buf);
    p->ok = n > 0 && SSL_write(ssl, buf, n) == n && SSL_read(ssl, buf, sizeof buf) == 0;
}

static void send_a_line(struct peer *p, SSL *ssl)
{
    char buf[64];
    p->ok = SSL_write(ssl, "hello\n", 6) == 6 && SSL_read(ssl, buf, sizeof buf) == 6;
}

static int resuming_client(void *arg)
{
    struct t *t = arg;
    char *line;
    struct peer p = { .server = true, .most = t->i, .fn = echo_a_line };
    p.ctx = peer_context(&p);
    EXPECT(make_client(t, NULL) == 0);
    for (int i = 0; i < 4; i++) {
        if (i == 3)
            EXPECT(weft_tls_reload(t->client) == 0); /* nothing is kept over that */
        EXPECT(open_peer(t, &p) == 0 && weft_tls_client(t->client, t->a, i == 2 ? "LOCALHOST" : "localhost") == 0);
        EXPECT(weft_stream_puts(t->a, "line\n") == 0 && weft_stream_read_line(t->a, &line, NULL) == 1);
        EXPECT(strcmp(line, "line") == 0);
        EXPECT(weft_stream_close(&t->a) == 0);
        EXPECT(weft_blocking(join_thread, &p.thread) == 0);
        EXPECT(p.shook && p.ok && p.reused == (i == 1 || i == 2));
    }
    EXPECT(open_peer(t, &p) == 0 && weft_tls_client(t->client, t->a, "127.0.0.1") == 0); /* another host */
    EXPECT(weft_stream_puts(t->a, "line\n") == 0 && weft_stream_close(&t->a) >= -ETIMEDOUT);
    EXPECT(weft_blocking(join_thread, &p.thread) == 0 && p.shook && !p.reused);
    SSL_CTX_free(p.ctx);
    let_go(t);
    return 0;
}

START_TEST(a_client_resumes_its_session)
{
    check_run(resuming_client, &(struct t){ .i = _i == 0 ? 0 : TLS1_2_VERSION }, ON(2));
}
END_TEST

static int resuming_server(void *arg)
{
    struct t *t = arg;
    char *line;
    struct peer p = { .most = t->i, .fn = send_a_line };
    p.ctx = peer_context(&p);
    EXPECT(make_server(t, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            EXPECT(weft_tls_reload(t->server) == 0);
        EXPECT(open_peer(t, &p) == 0 && weft_tls_server(t->server, t->b) == 0);
        EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "hello") == 0);
        EXPECT(weft_stream_puts(t->b, "hello\n") == 0 && weft_stream_close(&t->b) == 0);
        EXPECT(weft_blocking(join_thread, &p.thread) == 0);
        EXPECT(p.shook && p.ok && p.reused == (i == 1));
    }
    SSL_SESSION_free(p.session);
    SSL_CTX_free(p.ctx);
    let_go(t);
    return 0;
}

START_TEST(a_server_resumes_sessions)
{
    check_run(resuming_server, &(struct t){ .i = _i == 0 ? 0 : TLS1_2_VERSION }, ON(2));
}
END_TEST

/* ---- the name that is asked for */

static const char *const named[] = { "one", "of_one", "two", "three", "many" };

static int make_server_of_many(struct t *t)
{
    int rc = make_server(t, NULL);
    for (int i = 0; i < COUNT(named) && rc == 0; i++)
        rc = weft_tls_add_cert(t->server, in_folder(named[i]), NULL);
    return rc;
}

static const struct {
    const char *ask, *cn, *told;
    bool fits;
} asked[] = {
    { "one.test", "one", "one.test", true }, /* the first of two */
    { "ONE.Test", "one", "one.test", true },
    { "www.one.test", "one", "www.one.test", true }, /* before the wildcard */
    { "w.one.test", "of_one", "w.one.test", true },
    { "a.deep.one.test", "of_one", "a.deep.one.test", true },
    { "a.b.one.test", "server", "a.b.one.test", false }, /* no star is for two labels, */
    { ".one.test", "server", ".one.test", false },       /* or for none */
    { "two.test", "two", "two.test", true },
    { "www.two.test", "two", "www.two.test", true },
    { "three.test", "three", "three.test", true },
    { "dot.test.", "two", "dot.test", true },
    { "example.test", "server", "example.test", true },
    { "m0.test", "many", "m0.test", true },
    { "m7919.test", "many", "m7919.test", true },
    { "m10008.test", "server", "m10008.test", false },
    { "unknown.test", "server", "unknown.test", false },
    { "test", "server", "test", false },
    { "*.one.test", "server", NULL, false }, /* no host's name */
    { "a b.test", "server", NULL, false },
    { "one.test\n", "server", NULL, false },
    { "mail.test", "server", "mail.test", false },
    { "127.0.0.1", "server", "127.0.0.1", false },
    { ".", "server", NULL, false },
    { "0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef."
      "0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef."
      "0123456789abcde", "server", "0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef."
      "0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcdef."
      "0123456789abcdef.0123456789abcdef.0123456789abcdef.0123456789abcde", false }, /* 253 */
    { NULL, "server", NULL, false },
};

/* A visit by OpenSSL's own client. */
static int visit_by(struct t *t, struct peer *p)
{
    char *line;
    EXPECT(open_peer(t, p) == 0 && weft_tls_server(t->server, t->b) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "hello") == 0);
    const char *told = weft_tls_server_name(t->b);
    snprintf(t->text[3], sizeof t->text[3], "%s", told ? told : "");
    EXPECT(weft_stream_puts(t->b, "hello\n") == 0 && weft_stream_close(&t->b) == 0);
    EXPECT(weft_blocking(join_thread, &p->thread) == 0 && p->shook && p->ok);
    return 0;
}

/* B-061: a server chooses by the name. */
static int ask_by_name(void *arg)
{
    struct t *t = arg;
    EXPECT(make_server_of_many(t) == 0);
    for (int i = 0; i < COUNT(asked); i++) {
        struct peer p = { .most = t->i, .name = asked[i].ask, .fn = send_a_line };
        t->rc[0] = i;
        EXPECT(visit_by(t, &p) == 0);
        SSL_SESSION_free(p.session);
        snprintf(t->text[0], sizeof t->text[0], "by %s, told %.64s", p.cn, t->text[3]);
        EXPECT(strcmp(p.cn, asked[i].cn) == 0 && p.told == asked[i].fits);
        EXPECT(strncmp(t->text[3], asked[i].told ? asked[i].told : "", sizeof t->text[3] - 1) == 0);
    }
    let_go(t);
    return 0;
}

START_TEST(a_server_chooses_by_the_name)
{
    check_run(ask_by_name, &(struct t){ .i = _i == 0 ? 0 : TLS1_2_VERSION }, ON(2));
}
END_TEST

/* Both ends of weft's: verified by that name, and told to the server only. */
static int ask_by_weft(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(make_client(t, NULL) == 0 && make_server_of_many(t) == 0);
    for (int i = 0; i < COUNT(asked); i++) {
        if (!asked[i].fits || strcmp(asked[i].ask, "dot.test.") == 0) /* which no client takes it for */
            continue;
        t->host = asked[i].ask;
        EXPECT(again(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
        EXPECT(strcmp(weft_tls_server_name(t->b), asked[i].told) == 0 && weft_tls_server_name(t->a) == NULL);
        EXPECT(weft_stream_puts(t->b, "x\n") == 0 && weft_stream_flush(t->b) == 0);
        EXPECT(weft_stream_read_line(t->a, &line, NULL) == 1); /* and the ticket */
    }
    t->host = "127.0.0.1"; /* is not sent */
    EXPECT(again(t) == 0 && t->rc[0] == 0 && weft_tls_server_name(t->b) == NULL);
    EXPECT(weft_tls_server_name(NULL) == NULL);
    weft_stream_drop(&t->b);
    weft_stream_drop(&t->a);
    EXPECT(open_pair(t) == 0 && weft_tls_server_name(t->b) == NULL); /* not TLS */
    let_go(t);
    return 0;
}

START_TEST(a_name_that_was_asked_for_is_told)
{
    check_run(ask_by_weft, &(struct t){ .i = _i }, ON(2));
}
END_TEST

/* Of two keys that which the client knows; of two of a kind the first. */
static int by_key(void *arg)
{
    struct t *t = arg;
    static const char *const in[] = { "one_by_rsa", "one", "three" };
    EXPECT(make_server(t, NULL) == 0);
    for (int i = 0; i < COUNT(in); i++)
        EXPECT(weft_tls_add_cert(t->server, in_folder(in[i]), in_folder(in[i])) == 0);
    struct peer p = { .most = t->i, .name = "one.test", .accepts = "ECDSA+SHA256", .fn = send_a_line };
    EXPECT(visit_by(t, &p) == 0 && strcmp(p.cn, "one") == 0);
    SSL_SESSION_free(p.session);
    p = (struct peer){ .most = t->i, .name = "one.test", .accepts = "RSA-PSS+SHA256", .fn = send_a_line };
    EXPECT(visit_by(t, &p) == 0 && strcmp(p.cn, "one by rsa") == 0);
    SSL_SESSION_free(p.session);
    let_go(t);
    return 0;
}

START_TEST(certificates_for_one_name_may_have_keys_of_two_kinds)
{
    check_run(by_key, &(struct t){ .i = _i == 0 ? 0 : TLS1_2_VERSION }, ON(2));
}
END_TEST

/* RFC 6066, 3: with another name, or none, it is not resumed, by whatever certificate. */
static int resume_by_name(void *arg)
{
    struct t *t = arg;
    static const struct {
        const char *ask;
        bool reused;
    } next[] = { { "one.test", false }, { "one.test", true }, { "ONE.test", true }, { "www.one.test", false },
        { "two.test", false }, { "two.test", true }, { NULL, false }, { NULL, true }, { "unknown.test", false },
        { "unknown.test", true }, { "other.test", false }, { "example.test", false }, { NULL, false } };
    struct peer p = { .most = t->i, .fn = send_a_line };
    p.ctx = peer_context(&p);
    if (t->rc[2]) /* of one certificate, too */
        EXPECT(make_server(t, NULL) == 0);
    else
        EXPECT(make_server_of_many(t) == 0);
    for (int i = 0; i < COUNT(next); i++) {
        t->rc[0] = i;
        p.name = next[i].ask;
        EXPECT(visit_by(t, &p) == 0 && p.reused == next[i].reused);
        EXPECT(strcasecmp(t->text[3], next[i].ask ? next[i].ask : "") == 0);
    }
    EXPECT(weft_tls_add_cert(t->server, in_folder("one"), NULL) == 0); /* they go on over that */
    EXPECT(visit_by(t, &p) == 0 && p.reused);
    SSL_SESSION_free(p.session);
    SSL_CTX_free(p.ctx);
    let_go(t);
    return 0;
}

START_TEST(a_session_is_of_one_name)
{
    check_run(resume_by_name, &(struct t){ .i = _i % 2 == 0 ? 0 : TLS1_2_VERSION, .rc = { [2] = _i / 2 } }, ON(2));
}
END_TEST

/* A hello of OpenSSL's whose list of names is this one; 0: memory. */
static size_t hello_with(const unsigned char *list, size_t bytes, unsigned char *out, size_t most)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    SSL *ssl = SSL_new(ctx);
    BIO *from = BIO_new(BIO_s_mem()), *to = BIO_new(BIO_s_mem());
    must(ssl && from && to && SSL_set_tlsext_host_name(ssl, "placeholder.test"), "hello");
    SSL_set_bio(ssl, from, to);
    SSL_connect(ssl);
    unsigned char *p;
    size_t n = (size_t)BIO_get_mem_data(to, &p);
    /* record: 5; message: 4; version and random: 34; then three lists, and the extensions */
    size_t at = 5 + 4 + 34;
    at += 1 + (size_t)p[at];
    at += 2 + ((size_t)p[at] << 8 | p[at + 1]);
    at += 1 + (size_t)p[at];
    size_t extensions = at, gone = 0;
    for (at += 2; at < n; at += 4 + gone) {
        gone = (size_t)p[at + 2] << 8 | p[at + 3];
        if (p[at] == 0 && p[at + 1] == 0)
            break;
    }
    must(at < n && n - gone + bytes <= most, "extension");
    memcpy(out, p, at + 2);
    out[at + 2] = (unsigned char)(bytes >> 8), out[at + 3] = (unsigned char)bytes;
    memcpy(out + at + 4, list, bytes);
    memcpy(out + at + 4 + bytes, p + at + 4 + gone, n - at - 4 - gone);
    n = n - gone + bytes;
    out[3] = (unsigned char)((n - 5) >> 8), out[4] = (unsigned char)(n - 5);
    out[7] = (unsigned char)((n - 9) >> 8), out[8] = (unsigned char)(n - 9);
    out[extensions] = (unsigned char)((n - extensions - 2) >> 8), out[extensions + 1] = (unsigned char)(n - extensions - 2);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return n;
}

static const struct {
    const char *list;
    size_t bytes;
    bool refused;
} lists_of_names[] = {
    { "\0\13\0\0\10one.test", 13, false },
    { "\0\3\0\0\0", 5, false }, /* an empty name */
    { "\0\13\0\0\10one\0test", 13, true },
    { "\0\13\0\0\10one.tes\0", 13, true },
    { "\0\13\1\0\10one.test", 13, true }, /* another kind of name */
    { "\0\26\0\0\10one.test\0\0\10two.test", 24, true }, /* two */
    { "\0\13\0\0\11one.test", 13, true },
    { "\0\14\0\0\10one.test", 13, true },
    { "\0\13\0\377\377one.test", 13, true },
    { "\0\13\0\0\7one.test", 13, true },
    { "\0\0", 2, true },
    { "\0", 1, true },
    { "", 0, true },
    { "\0\1\0", 3, true },
    { NULL, 255, false }, /* the longest that there is, */
    { NULL, 256, true },  /* and longer ones */
    { NULL, 16000, true },
};

static int bad_lists(void *arg)
{
    struct t *t = arg;
    static unsigned char list[17000], hello[18000];
    EXPECT(make_server_of_many(t) == 0);
    for (int i = 0; i < COUNT(lists_of_names); i++) {
        size_t n = lists_of_names[i].bytes;
        if (lists_of_names[i].list) {
            memcpy(list, lists_of_names[i].list, n);
        } else {
            const unsigned char head[] = { (unsigned char)((n + 3) >> 8), (unsigned char)(n + 3), 0, (unsigned char)(n >> 8),
                (unsigned char)n };
            memcpy(list, head, sizeof head);
            memset(list + sizeof head, 'a', n);
            n += sizeof head;
        }
        n = hello_with(list, n, hello, sizeof hello);
        EXPECT(weft_stream_pair(&t->a, &t->b) == 0);
        EXPECT(weft_stream_write(t->a, hello, n) == 0 && weft_stream_shutdown(t->a) == 0);
        keep_result(t, 1, weft_tls_server(t->server, t->b));
        t->rc[0] = i;
        EXPECT(t->rc[1] == (lists_of_names[i].refused ? -EPROTO : -ENODATA)); /* it has gone, once it was answered */
        EXPECT(weft_tls_server_name(t->b) == NULL);
        weft_stream_drop(&t->a);
        weft_stream_drop(&t->b);
    }
    let_go(t);
    return 0;
}

START_TEST(lists_of_names_that_are_none_are_refused)
{
    check_run(bad_lists, &(struct t){ 0 }, ON(1));
}
END_TEST

static int is_served(struct t *t, const char *name, const char *whom)
{
    t->host = name;
    EXPECT(again(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    return names(t->a, whom);
}

/* On any thread. */
static int refuse(struct t *t)
{
    EXPECT(make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(weft_tls_add_cert(NULL, in_folder("one"), NULL) == -EINVAL);
    EXPECT(weft_tls_add_cert(t->server, NULL, in_folder("one")) == -EINVAL);
    EXPECT(weft_tls_add_cert(t->client, in_folder("one"), NULL) == -EINVAL); /* it has no cert_file */
    EXPECT(weft_tls_add_cert(t->server, in_folder("none"), NULL) == -ENOENT && strstr(weft_error_text(-ENOENT), "/none"));
    EXPECT(weft_tls_add_cert(t->server, "", NULL) == -ENOENT);
    EXPECT(weft_tls_add_cert(t->server, in_folder("one"), in_folder("none")) == -ENOENT);
    EXPECT(weft_tls_add_cert(t->server, folder, NULL) == -EISDIR);
    EXPECT(weft_tls_add_cert(t->server, in_folder("garbage"), NULL) == -EINVAL);
    EXPECT(weft_tls_add_cert(t->server, in_folder("ca"), NULL) == -EINVAL); /* no key */
    EXPECT(weft_tls_add_cert(t->server, in_folder("one"), in_folder("secret_key")) == -EINVAL);
    EXPECT(weft_tls_add_cert(t->server, in_folder("one"), in_folder("client_key")) == -EINVAL);
    EXPECT(strstr(weft_error_text(-EINVAL), "mismatch"));
    EXPECT(weft_tls_add_cert(t->server, in_folder("nameless"), NULL) == -EINVAL);
    EXPECT(strstr(weft_error_text(-EINVAL), "no host's name"));
    return 0;
}

static int add_wrong(void *arg)
{
    struct t *t = arg;
    EXPECT(refuse(t) == 0);
    EXPECT(is_served(t, "example.test", "CN=server") == 0);
    EXPECT(weft_tls_add_cert(t->server, in_folder("one"), NULL) == 0);
    EXPECT(is_served(t, "one.test", "CN=one") == 0 && is_served(t, "example.test", "CN=server") == 0);
    let_go(t);
    return 0;
}

START_TEST(wrong_certificates_are_not_added)
{
    check_run(add_wrong, &(struct t){ 0 }, ON(2));
    struct t t = { 0 };
    ck_assert_int_eq(refuse(&t), 0); /* on a plain thread */
    let_go(&t);
}
END_TEST

static int reload_added(void *arg)
{
    struct t *t = arg;
    point_to("first", "server");
    point_to("second", "one");
    EXPECT(make_client(t, NULL) == 0 && make_server(t, &(weft_tls_options){ .cert_file = in_folder("first") }) == 0);
    EXPECT(weft_tls_add_cert(t->server, in_folder("second"), in_folder("second")) == 0);
    EXPECT(is_served(t, "one.test", "CN=one") == 0);
    point_to("first", "two");
    static const char *const wrong[] = { "garbage", "nameless", "none" };
    for (int i = 0; i < COUNT(wrong); i++) { /* all, or nothing */
        point_to("second", wrong[i]);
        EXPECT(weft_tls_reload(t->server) == (i == 2 ? -ENOENT : -EINVAL));
        EXPECT(is_served(t, "one.test", "CN=one") == 0 && is_served(t, "example.test", "CN=server") == 0);
    }
    point_to("second", "three");
    EXPECT(weft_tls_reload(t->server) == 0);
    EXPECT(is_served(t, "one.test", "CN=three") == 0 && is_served(t, "three.test", "CN=three") == 0);
    EXPECT(is_served(t, "two.test", "CN=two") == 0);
    t->host = "example.test"; /* nobody's any more */
    EXPECT(again(t) == 0 && t->rc[0] == -EKEYREJECTED);
    let_go(t);
    return 0;
}

START_TEST(added_certificates_are_read_again)
{
    check_run(reload_added, &(struct t){ 0 }, ON(2));
}
END_TEST

/* Each by its own name, while they are added and read again; none is lost. */
static int add_one(void *arg)
{
    struct t *t = arg;
    static const char *const hosts[] = { "one.test", "w.one.test", "two.test", "three.test", "m0.test" };
    struct t own = { .client = t->client, .server = t->server, .i = 1 };
    int i = atomic_fetch_add(&t->there, 1);
    char whom[32], path[128]; /* in_folder's is the thread's, which is others', too */
    snprintf(whom, sizeof whom, "CN=%s", named[i]);
    snprintf(path, sizeof path, "%s/%s", folder, named[i]);
    EXPECT(weft_tls_add_cert(t->server, path, NULL) == 0);
    for (int k = 0; k < SCALED(20, 10, 5); k++)
        if (i != 0) /* one.test is also another's, which may come first */
            EXPECT(is_served(&own, hosts[i], whom) == 0);
        else
            EXPECT(is_served(&own, "www.one.test", whom) == 0);
    weft_stream_drop(&own.a);
    weft_stream_drop(&own.b);
    return 0;
}

static int add_beside(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    EXPECT(make_server(t, NULL) == 0 && make_client(t, NULL) == 0);
    weft_scope_begin(&s, 3 * LIMIT);
    for (int i = 0; i < COUNT(named); i++)
        weft_spawn(&s, add_one, t);
    for (int i = 0; i < 2; i++)
        weft_spawn(&s, reloader, t);
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(t->server->set->n == 1 + COUNT(named));
    let_go(t);
    return 0;
}

START_TEST(certificates_are_added_beside_handshakes_and_reloads)
{
    check_run(add_beside, &(struct t){ 0 }, ON(workers[_i]));
}
END_TEST

enum { ADDERS = 8 };
#define ADDED SCALED(6, 4, 3)

/* Whose names take long to be put in order: others come in between. */
static int add_often(void *arg)
{
    struct t *t = arg;
    char path[128];
    snprintf(path, sizeof path, "%s/many", folder);
    int rc = 0;
    for (int i = 0; i < ADDED && rc == 0; i++)
        rc = weft_tls_add_cert(t->server, path, NULL);
    return rc;
}

static int reloader_of_server(void *arg)
{
    struct t *t = arg;
    int rc = 0;
    for (int i = 0; i < ADDED && rc == 0; i++)
        rc = weft_tls_reload(t->server);
    return rc;
}

static int add_at_once(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    EXPECT(make_server(t, NULL) == 0);
    weft_scope_begin(&s, 3 * LIMIT);
    for (int i = 0; i < ADDERS; i++)
        weft_spawn(&s, add_often, t);
    weft_spawn(&s, reloader_of_server, t);
    EXPECT(weft_scope_end(&s, 0) == 0);
    EXPECT(t->server->set->n == 1 + ADDERS * ADDED && t->server->set->names_n == 2 + (size_t)MANY * ADDERS * ADDED);
    EXPECT(t->server->set->users == 1);
    for (int i = 0; i < t->server->set->n; i++)
        EXPECT(t->server->set->certs[i]->users == 1);
    let_go(t);
    return 0;
}

START_TEST(of_certificates_that_are_added_at_once_none_is_lost)
{
    check_run(add_at_once, &(struct t){ 0 }, ON(4));
}
END_TEST

/* As a_reload_that_is_called_off_changes_nothing. */
static int add_in_time(void *arg)
{
    struct t *t = arg;
    int added = 0, refused = 0;
    EXPECT(make_client(t, NULL) == 0);
    for (int i = 0; i < 8; i++) {
        EXPECT(make_server(t, NULL) == 0);
        weft_scope s;
        weft_scope_begin(&s, given(i));
        int rc = weft_tls_add_cert(t->server, in_folder("one"), NULL);
        weft_ignore(weft_scope_end(&s, rc));
        EXPECT(rc == 0 || rc == -ECANCELED);
        EXPECT(i != 0 || rc == -ECANCELED);
        t->host = "one.test";
        EXPECT(again(t) == 0 && t->rc[0] == (rc == 0 ? 0 : -EKEYREJECTED));
        added += rc == 0;
        refused += rc < 0;
        weft_tls_destroy(&t->server);
    }
    EXPECT(added > 0 && refused > 0);
    let_go(t);
    return 0;
}

START_TEST(a_certificate_that_is_called_off_is_not_added)
{
    check_run(add_in_time, &(struct t){ 0 }, ON(workers[_i]));
}
END_TEST

enum { UPDATES = 200 };

/* New keys all the time, and it asks for ours. */
static void update_keys(struct peer *p, SSL *ssl)
{
    char buf[100] = { 0 }, got[100];
    for (int i = 0; i < UPDATES; i++)
        if (SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) != 1 || SSL_write(ssl, buf, sizeof buf) != sizeof buf)
            return;
    int n, sum = 0;
    while (sum < UPDATES * 100 && (n = SSL_read(ssl, got, sizeof got)) > 0)
        sum += n;
    p->ok = sum == UPDATES * 100;
}

static int write_a(void *arg)
{
    struct t *t = arg;
    static const char buf[100];
    int rc = 0;
    for (int i = 0; i < UPDATES && rc == 0; i++)
        if ((rc = weft_stream_write(t->a, buf, sizeof buf)) == 0)
            rc = weft_stream_flush(t->a);
    return rc;
}

static int read_a(void *arg)
{
    struct t *t = arg;
    char buf[100];
    int rc = 1;
    for (int i = 0; i < UPDATES && rc > 0; i++)
        rc = weft_stream_read_all(t->a, buf, sizeof buf, NULL);
    return rc < 0 ? rc : rc == 0 ? -ENODATA : 0;
}

static int keys(void *arg)
{
    struct t *t = arg;
    struct peer p = { .server = true, .fn = update_keys };
    EXPECT(make_client(t, NULL) == 0 && open_peer(t, &p) == 0);
    EXPECT(weft_tls_client(t->client, t->a, "localhost") == 0);
    keep_result(t, 0, both(t, write_a, read_a));
    EXPECT(t->rc[0] == 0);
    EXPECT(weft_stream_close(&t->a) == 0);
    EXPECT(weft_blocking(join_thread, &p.thread) == 0 && p.ok);
    let_go(t);
    return 0;
}

START_TEST(keys_change_while_both_ways_are_busy)
{
    check_run(keys, &(struct t){ .i = _i }, ON(workers[_i]));
}
END_TEST

enum { MANY_MESSAGES = 500 };

/* New keys again and again, or tickets, and no data. */
static void send_keys_only(struct peer *p, SSL *ssl)
{
    for (int i = 0; i < MANY_MESSAGES; i++)
        p->ok = SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1;
}

static void send_tickets_only(struct peer *p, SSL *ssl)
{
    for (int i = 0; i < MANY_MESSAGES; i++)
        p->ok = SSL_new_session_ticket(ssl) == 1 && SSL_do_handshake(ssl) == 1;
}

static int useless(void *arg)
{
    struct t *t = arg;
    char byte;
    struct peer p = { .server = true, .fn = t->i == 0 ? send_keys_only : send_tickets_only };
    EXPECT(make_client(t, NULL) == 0 && open_peer(t, &p) == 0);
    EXPECT(weft_tls_client(t->client, t->a, "localhost") == 0);
    for (int i = 0; i < 2; i++) {
        EXPECT(weft_stream_read(t->a, &byte, 1) == -EPROTO);
        EXPECT(strstr(weft_error_text(-EPROTO), "without data"));
    }
    weft_stream_drop(&t->a);
    EXPECT(weft_blocking(join_thread, &p.thread) == 0 && p.shook);
    let_go(t);
    return 0;
}

START_TEST(messages_without_data_are_numbered)
{
    check_run(useless, &(struct t){ .i = _i }, ON(2));
}
END_TEST

static void renegotiate(struct peer *p, SSL *ssl)
{
    char byte;
    p->ok = !(SSL_renegotiate(ssl) == 1 && SSL_do_handshake(ssl) == 1 && SSL_read(ssl, &byte, 1) >= 0);
}

static int refused(void *arg)
{
    struct t *t = arg;
    char byte;
    EXPECT(make_server(t, NULL) == 0);
    struct peer old = { .most = TLS1_1_VERSION };
    EXPECT(open_peer(t, &old) == 0);
    EXPECT(weft_tls_server(t->server, t->b) == -EPROTO && strstr(weft_error_text(-EPROTO), "protocol"));
    weft_stream_drop(&t->b);
    EXPECT(weft_blocking(join_thread, &old.thread) == 0 && !old.shook);
    struct peer p = { .most = TLS1_2_VERSION, .fn = renegotiate };
    EXPECT(open_peer(t, &p) == 0 && weft_tls_server(t->server, t->b) == 0);
    EXPECT(weft_stream_read(t->b, &byte, 1) <= 0);
    weft_stream_drop(&t->b);
    EXPECT(weft_blocking(join_thread, &p.thread) == 0 && p.shook && p.ok);
    SSL_SESSION_free(p.session);
    SSL_SESSION_free(old.session);
    let_go(t);
    return 0;
}

START_TEST(old_versions_and_renegotiation_are_refused)
{
    check_run(refused, &(struct t){ 0 }, ON(1));
}
END_TEST

/* Says what it wants to, and goes, without having read the server's tickets. */
static void say_and_go(struct peer *p, SSL *ssl)
{
    p->ok = SSL_write(ssl, "all of it\n", 10) == 10;
}

static int gone(void *arg)
{
    struct t *t = arg;
    char *line;
    EXPECT(make_server(t, NULL) == 0);
    struct peer p = { .fn = say_and_go };
    EXPECT(open_peer(t, &p) == 0);
    EXPECT(weft_tls_server(t->server, t->b) == 0);
    EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && strcmp(line, "all of it") == 0);
    EXPECT(weft_blocking(join_thread, &p.thread) == 0 && p.ok);
    SSL_SESSION_free(p.session);
    let_go(t);
    return 0;
}

START_TEST(a_client_that_has_gone_is_still_heard)
{
    check_run(gone, &(struct t){ 0 }, ON(1));
}
END_TEST

/* ---- plain threads */

static void *plain_server(void *arg)
{
    struct t *t = arg;
    char *line;
    t->rc[1] = weft_tls_server(t->server, t->b);
    if (t->rc[1] == 0 && (t->rc[1] = weft_stream_read_line(t->b, &line, NULL)) == 1)
        t->rc[1] = weft_stream_puts(t->b, line);
    if (t->rc[1] == 0)
        t->rc[1] = weft_stream_close(&t->b);
    return NULL;
}

START_TEST(plain_threads_may_do_the_same)
{
    struct t t = { .i = _i };
    char *line;
    ck_assert_int_eq(open_pair(&t), 0);
    ck_assert_int_eq(make_client(&t, NULL), 0);
    ck_assert_int_eq(make_server(&t, NULL), 0);
    pthread_t other = thread_start(plain_server, &t);
    ck_assert_int_eq(weft_tls_client(t.client, t.a, "example.test"), 0);
    ck_assert_int_eq(weft_stream_puts(t.a, "plainly\n"), 0);
    ck_assert_int_eq(weft_stream_read_line(t.a, &line, NULL), 1);
    ck_assert_str_eq(line, "plainly");
    ck_assert_int_eq(weft_stream_close(&t.a), 0);
    pthread_join(other, NULL);
    ck_assert_int_eq(t.rc[1], 0);
    let_go(&t);
}
END_TEST

/* ---- a server, and other programs */

static int serve_lines(weft_stream *s, void *arg)
{
    struct t *t = arg;
    char *line;
    int rc = weft_tls_server(t->server, s);
    while (rc == 0 && (rc = weft_stream_read_line(s, &line, NULL)) > 0 && *line) {
        if (strncmp(line, "GET ", 4) == 0)
            rc = weft_stream_puts(s, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nhello, curl\n");
        else if (strncmp(line, "echo ", 5) == 0)
            rc = weft_stream_printf(s, "%s\n", line + 5);
        else
            rc = 0;
    }
    return rc < 0 ? rc : 0;
}

static int server_of(void *arg)
{
    struct t *t = arg;
    return weft_serve(t->fd, serve_lines, t, &(weft_serve_options){ .grace = -1 });
}

static int visits(void *arg)
{
    struct t *t = arg;
    char where[32], *line;
    weft_scope s;
    EXPECT(make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT((t->fd = listen_local(where)) >= 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, server_of, t);
    for (int i = 0; i < 5; i++) {
        EXPECT(weft_tls_connect(&t->a, where, t->client) == 0);
        EXPECT(weft_stream_puts(t->a, "echo it\n") == 0 && weft_stream_read_line(t->a, &line, NULL) == 1);
        EXPECT(strcmp(line, "it") == 0 && weft_stream_close(&t->a) == 0);
    }
    weft_scope_cancel(&s, "done");
    EXPECT(weft_scope_end(&s, 0) == 0);
    weft_close(t->fd);
    EXPECT(weft_tls_connect(&t->a, where, t->client) == -ECONNREFUSED && t->a == NULL);
    let_go(t);
    return 0;
}

START_TEST(a_server_serves_by_tls)
{
    check_run(visits, &(struct t){ 0 }, ON(workers[_i]));
}
END_TEST

static bool have(const char *program)
{
    char command[64];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    bool is = system(command) == 0; // NOLINT(cert-env33-c)
    if (!is)
        printf("skipped: %s is not installed\n", program);
    return is;
}

/* What the shell's command says. */
struct said {
    char command[512], out[4096];
    int status;
};

static int say(void *arg)
{
    struct said *x = arg;
    const char *const argv[] = { "sh", "-c", x->command, NULL };
    weft_output o = { 0 };
    int rc = weft_process_run(&o, argv, NULL, 0, 65536, NULL);
    if (rc == 0) {
        snprintf(x->out, sizeof x->out, "%s%s", o.out ? o.out : "", o.err ? o.err : "");
        x->status = o.status;
        weft_output_free(&o);
    }
    return rc;
}

static int programs(void *arg)
{
    struct t *t = arg;
    char where[32];
    weft_scope s;
    EXPECT(make_server(t, &(weft_tls_options){ .alpn = "http/1.1" }) == 0);
    EXPECT(weft_tls_add_cert(t->server, in_folder("one"), NULL) == 0);
    EXPECT((t->fd = listen_local(where)) >= 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, server_of, t);
    struct said x = { 0 };
    if (t->i == 0)
        snprintf(x.command, sizeof x.command,
                "(echo 'echo from afar'; sleep 0.2; echo) | openssl s_client -quiet -verify_return_error -verify_hostname "
                "localhost -CAfile %s -alpn http/1.1 -connect %s",
                in_folder("ca"), where);
    else if (t->i == 1)
        snprintf(x.command, sizeof x.command,
                "(echo 'echo from afar'; sleep 0.2; echo) | openssl s_client -quiet -servername one.test -verify_return_error "
                "-verify_hostname one.test -CAfile %s -connect %s",
                in_folder("ca"), where);
    else if (t->i == 2)
        snprintf(x.command, sizeof x.command,
                "curl -sS --max-time 10 --resolve 'one.test:%s:127.0.0.1' --cacert %s https://one.test:%s/",
                strchr(where, ':') + 1, in_folder("ca"), strchr(where, ':') + 1);
    else
        snprintf(x.command, sizeof x.command, "curl -sS --max-time 10 %s --cacert %s https://localhost:%s/",
                t->i == 3 ? "" : "--tls-max 1.2", in_folder("ca"), strchr(where, ':') + 1);
    EXPECT(say(&x) == 0);
    keep_result(t, 0, x.status);
    snprintf(t->text[0], sizeof t->text[0], "%.100s", x.out);
    EXPECT(strstr(x.out, t->i < 2 ? "from afar" : "hello, curl"));
    weft_scope_cancel(&s, "done");
    EXPECT(weft_scope_end(&s, 0) == 0);
    weft_close(t->fd);
    let_go(t);
    return 0;
}

START_TEST(other_programs_come_as_clients)
{
    if (have(_i < 2 ? "openssl" : "curl"))
        check_run(programs, &(struct t){ .i = _i }, ON(2));
}
END_TEST

/* Its standard output tells the port; -rev sends lines back, reversed. */
static int openssl_server(void *arg)
{
    struct t *t = arg;
    char *line;
    const char *cert = in_folder("server"), *ca = in_folder("ca");
    const char *const argv[] = { "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", cert, "-rev",
        "-Verify", "1", "-verify_return_error", "-CAfile", ca, t->i ? "-tls1_2" : "-tls1_3", NULL };
    weft_process *p = NULL;
    EXPECT(weft_process_open(&p, argv, &(weft_process_options){ .in = WEFT_STDIO_PIPE, .out = WEFT_STDIO_PIPE,
            .err = WEFT_STDIO_NULL, .term_grace = weft_ms(1) }) == 0);
    weft_stream *out = NULL;
    EXPECT(weft_stream_open(&out, weft_process_out(p), &(weft_stream_options){ .keep_fd = true }) == 0);
    int port = 0, rc;
    while (port == 0 && (rc = weft_stream_read_line(out, &line, NULL)) > 0)
        if (strncmp(line, "ACCEPT", 6) == 0 && strrchr(line, ':'))
            port = atoi(strrchr(line, ':') + 1);
    EXPECT(port > 0);
    EXPECT(make_client(t, &(weft_tls_options){ .cert_file = in_folder("client") }) == 0);
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%d", port);
    keep_result(t, 0, weft_tls_connect(&t->a, where, t->client));
    EXPECT(t->rc[0] == 0);
    EXPECT(weft_stream_puts(t->a, "abcdef\n") == 0 && weft_stream_read_line(t->a, &line, NULL) == 1);
    EXPECT(strcmp(line, "fedcba") == 0);
    EXPECT(weft_stream_close(&t->a) == 0);
    weft_stream_drop(&out);
    weft_process_kill(p, SIGTERM);
    weft_process_close(&p);
    let_go(t);
    return 0;
}

START_TEST(a_client_goes_to_another_program)
{
    if (have("openssl"))
        check_run(openssl_server, &(struct t){ .i = _i }, ON(2));
}
END_TEST

/* ---- OpenSSL's errors (L-09): what lies in the queue of a thread is nobody's who runs there later */

/* One that would be told in these words. */
static void leave_an_error(void)
{
    weft__tls_enter();
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    weft__tls_leave();
}

/* On all workers, again and again. */
static int soil(void *arg)
{
    struct t *t = arg;
    while (atomic_load(&t->there) == 0) {
        leave_an_error();
        weft_ignore(weft_yield());
    }
    return 0;
}

static int among_errors(struct t *t)
{
    weft_tls *none = NULL;
    EXPECT(make_server(t, NULL) == 0 && make_client(t, NULL) == 0);
    for (int i = 0; i < SCALED(10, 5, 3); i++) {
        leave_an_error();
        EXPECT(again(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
        t->bytes = 20000;
        EXPECT(pour_both_ways(t) == 0);
        leave_an_error();
        EXPECT(part(t) == 0);
        leave_an_error();
        EXPECT(weft_tls_create(&none, &(weft_tls_options){ .cert_file = in_folder("garbage") }) == -EINVAL);
        EXPECT(!strstr(weft_error_text(-EINVAL), "bad length"));
        leave_an_error();
        EXPECT(weft_tls_reload(t->server) == 0);
    }
    const char *host = t->host; /* and who fails, fails for a reason of its own */
    t->host = "other.test";
    leave_an_error();
    EXPECT(again(t) == 0 && t->rc[0] == -EKEYREJECTED && strstr(t->text[0], "ostname mismatch"));
    EXPECT(t->rc[1] == -EPROTO && strstr(t->text[1], "the other side refuses"));
    t->host = host;
    return 0;
}

static int soiled(void *arg)
{
    struct t *t = arg;
    weft_scope s;
    weft_scope_begin(&s, 3 * LIMIT);
    for (int i = 0; i < 3; i++)
        weft_spawn(&s, soil, t);
    int rc = among_errors(t);
    atomic_store(&t->there, 1);
    EXPECT(weft_scope_end(&s, rc) == 0);
    let_go(t);
    return 0;
}

/* With a seed each wait moves the task to another worker. */
START_TEST(errors_that_others_have_left_are_nobody_elses)
{
    weft_options o = { .workers = workers[_i / 2 % COUNT(workers)], .chaos_seed = _i / 2 < COUNT(workers) ? 0 : 7 };
    check_run(soiled, &(struct t){ .i = _i }, &o);
}
END_TEST

/* Of a crowd in which handshakes succeed and fail in five ways, all under way at once, each end has its own outcome, in its own
 * words: names of hosts tell them apart. */
enum { VISITORS = BUILT(250, 120, 60), KINDS = 6 };

struct visit {
    struct t t;
    char host[32];
    const struct crowd *of;
    int kind;
};

struct crowd {
    weft_tls *trusting, *doubting; /* clients */
    weft_tls *server, *expired;
};

static int refuse_by_mail(void *arg)
{
    struct t *t = arg;
    weft_ignore(weft_stream_puts(t->b, "220 mail.test ready\r\n"));
    weft_ignore(weft_stream_flush(t->b));
    return 0;
}

static int hang_up(void *arg)
{
    struct t *t = arg;
    char byte;
    weft_ignore(weft_stream_read(t->b, &byte, 1));
    weft_stream_drop(&t->b);
    return 0;
}

static int visit(void *arg)
{
    static const struct {
        int rc;
        const char *text;
        weft_fn *server;
    } kinds[KINDS] = { { 0, "", server_hand }, { -EKEYREJECTED, "ostname mismatch", server_hand },
        { -EKEYREJECTED, "unable to get local issuer certificate", server_hand },
        { -EKEYEXPIRED, "certificate has expired", server_hand }, { -EPROTO, "wrong version number", refuse_by_mail },
        { -ENODATA, "without a goodbye", hang_up } };
    struct visit *v = arg;
    struct t *t = &v->t;
    int kind = v->kind;
    char *line, whole[64];
    snprintf(v->host, sizeof v->host, kind == 1 || kind == 4 ? "h%d.test" : "example.test", t->i);
    t->host = v->host;
    t->client = kind == 2 ? v->of->doubting : v->of->trusting;
    t->server = kind == 3 ? v->of->expired : v->of->server;
    EXPECT(open_pair(t) == 0 && both(t, client_hand, kinds[kind].server) == 0);
    EXPECT(t->rc[0] == kinds[kind].rc && strstr(t->text[0], kinds[kind].text));
    snprintf(whole, sizeof whole, "TLS: %s: ", v->host);
    if (kind > 0 && kind < 5)
        EXPECT(strncmp(t->text[0], whole, strlen(whole)) == 0);
    if (kind > 0 && kind < 4)
        EXPECT(t->rc[1] == -EPROTO && strstr(t->text[1], "the other side refuses"));
    if (kind == 0) {
        EXPECT(t->rc[1] == 0 && weft_stream_printf(t->a, "%d\n", t->i) == 0 && weft_stream_flush(t->a) == 0);
        EXPECT(weft_stream_read_line(t->b, &line, NULL) == 1 && atoi(line) == t->i);
        EXPECT(part(t) == 0);
    }
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    return 0;
}

static int crowd(void *arg)
{
    struct t *t = arg;
    static struct visit visits[VISITORS];
    struct crowd c = { 0 };
    weft_scope s, round;
    EXPECT(make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    c.trusting = t->client, c.server = t->server;
    EXPECT(weft_tls_create(&c.doubting, &(weft_tls_options){ .ca_file = in_folder("other_ca") }) == 0);
    EXPECT(weft_tls_create(&c.expired, &(weft_tls_options){ .cert_file = in_folder("expired") }) == 0);
    weft_scope_begin(&round, 3 * LIMIT);
    weft_spawn(&round, soil, t);
    weft_scope_begin(&s, 3 * LIMIT);
    for (int i = 0; i < VISITORS; i++) {
        visits[i] = (struct visit){ .t.i = i, .of = &c, .kind = i % KINDS };
        weft_spawn(&s, visit, &visits[i]);
    }
    int rc = weft_scope_end(&s, 0);
    atomic_store(&t->there, 1);
    EXPECT(weft_scope_end(&round, rc) == 0);
    weft_tls_destroy(&c.doubting);
    weft_tls_destroy(&c.expired);
    let_go(t);
    return 0;
}

/* In builds with WEFT_MUTEX_CHECK: no wait has OpenSSL's lock. */
static void count_mutexes(const weft_report *r, void *arg)
{
    if (strcmp(r->what, "os-mutex") == 0)
        atomic_fetch_add((atomic_int *)arg, 1);
}

START_TEST(in_a_crowd_each_handshake_has_its_own_error)
{
    atomic_int told = 0;
    weft_options o = { .workers = workers[_i / 2], .chaos_seed = _i % 2 ? 11 : 0, .report = count_mutexes, .report_arg = &told };
    check_run(crowd, &(struct t){ 0 }, &o);
    ck_assert_int_eq(told, 0);
}
END_TEST

/* ---- no memory */

static int short_visit(void *arg)
{
    struct t *t = arg;
    int rc = open_pair(t);
    if (rc == 0)
        rc = make_server(t, NULL);
    if (rc == 0)
        rc = weft_tls_add_cert(t->server, in_folder("one"), NULL);
    if (rc == 0)
        rc = weft_tls_reload(t->server);
    t->host = "one.test";
    if (rc == 0)
        rc = make_client(t, NULL);
    if (rc == 0)
        rc = shake(t);
    if (rc == 0)
        rc = t->rc[0] < 0 ? t->rc[0] : t->rc[1];
    t->bytes = 1000;
    if (rc == 0 && (rc = pour(t->a, t->bytes, 1)) == 0)
        rc = taste(t->b, t->bytes);
    weft_stream_drop(&t->a);
    weft_stream_drop(&t->b);
    let_go(t);
    return rc;
}

START_TEST(without_memory_it_fails_and_leaves_nothing)
{
    struct t first = { 0 };
    ck_assert_int_eq(weft_run(short_visit, &first, ON(1)), 0); /* what OpenSSL keeps for ever */
    long all = 1000000, failures = 0;
    struct t counted = { .drop = true };
    atomic_store(&fail_in, all);
    ck_assert_int_eq(weft_run(short_visit, &counted, ON(1)), 0);
    all -= atomic_load(&fail_in);
    for (long n = 1; n < all; n += all / fewer(8, SCALED(24, 16, 6)) + 1) {
        struct t t = { .drop = true };
        atomic_store(&failed_once, 0);
        atomic_store(&fail_in, n);
        int rc = weft_run(short_visit, &t, ON(1));
        atomic_store(&fail_in, -1);
        ck_assert(rc < 0 || rc == 0);
        failures += rc < 0;
        ck_assert_int_ne(rc, -ETIMEDOUT);
    }
    ck_assert_int_gt(failures, 0);
    struct t last = { 0 };
    ck_assert_int_eq(weft_run(short_visit, &last, ON(1)), 0);
}
END_TEST

/* B-064: a file arrives whole. */
static int copy_a_file(void *arg)
{
    struct t *t = arg;
    weft_stream *from = NULL;
    weft_scope s;
    uint64_t moved = 0;
    EXPECT(open_pair(t) == 0 && make_client(t, NULL) == 0 && make_server(t, NULL) == 0);
    EXPECT(shake(t) == 0 && t->rc[0] == 0 && t->rc[1] == 0);
    int fd = weft_fs_open(in_folder("file"), O_RDONLY, 0);
    EXPECT(fd >= 0 && weft_stream_open(&from, fd, NULL) == 0);
    weft_scope_begin(&s, LIMIT);
    weft_spawn(&s, taste_b, t);
    int rc = weft_stream_copy(t->a, from, &moved);
    EXPECT(weft_scope_end(&s, rc < 0 ? rc : weft_stream_flush(t->a)) == 0);
    EXPECT(moved == t->bytes);
    EXPECT(weft_stream_close(&from) == 0);
    EXPECT(part(t) == 0);
    let_go(t);
    return 0;
}

START_TEST(a_file_goes_through_it_whole)
{
    struct t t = { .i = _i, .bytes = SCALED(1000003, 300007, 100003) };
    FILE *f = fopen(in_folder("file"), "w");
    ck_assert_ptr_nonnull(f);
    for (size_t at = 0; at < t.bytes; at++)
        putc((int)((at * 7 + at / 251) & 255), f); /* as taste() has it */
    ck_assert_int_eq(fclose(f), 0);
    check_run(copy_a_file, &t, ON(workers[_i / 2]));
}
END_TEST

int main(void)
{
    must(CRYPTO_set_mem_functions(test_malloc, test_realloc, test_free), "memory");
    signal(SIGPIPE, SIG_IGN);
    make_files();
    must(setenv("SSL_CERT_FILE", in_folder("other_ca"), 1) == 0, "SSL_CERT_FILE");
    Suite *s = suite_create("tls");
    TCase *tc = add_case(s, "tls");
    tcase_add_loop_test(tc, two_ends_talk_and_part, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, limits_are_those_of_the_stream, 0, 2);
    tcase_add_loop_test(tc, a_certificate_is_trusted_or_not, 0, COUNT(trusts));
    tcase_add_loop_test(tc, a_server_asks_who_it_is, 0, COUNT(guests));
    tcase_add_loop_test(tc, a_protocol_is_agreed_on, 0, COUNT(protocols));
    tcase_add_test(tc, wrong_options_and_files_are_refused);
    tcase_add_loop_test(tc, segments_of_one_byte_do, 0, 2);
    tcase_add_loop_test(tc, much_goes_both_ways_at_once, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, a_layer_goes_over_a_layer, 0, 2);
    tcase_add_loop_test(tc, a_cut_is_no_end, 0, 2);
    tcase_add_loop_test(tc, what_is_not_tls_is_told, 0, 2);
    tcase_add_loop_test(tc, a_stream_is_upgraded_in_the_middle, 0, 2);
    tcase_add_test(tc, certificates_are_read_again);
    tcase_add_test(tc, handshakes_go_on_beside_a_reload);
    tcase_add_loop_test(tc, a_handshake_has_its_time, 0, 2);
    tcase_add_test(tc, bytes_that_drip_gain_no_time_for_a_handshake);
    tcase_add_loop_test(tc, a_goodbye_has_its_time, 0, 2);
    tcase_add_loop_test(tc, a_handshake_is_cancelled, 0, 2 * COUNT(workers));
    tcase_add_loop_test(tc, who_is_told_to_leave_makes_nothing, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_reload_that_is_called_off_changes_nothing, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_connect_that_is_called_off_is_given_up, 0, COUNT(workers));
    tcase_add_loop_test(tc, a_cancelled_write_leaves_the_stream_whole, 0, 2);
    tcase_add_loop_test(tc, a_cancelled_read_loses_nothing, 0, 2);
    tcase_add_loop_test(tc, a_client_resumes_its_session, 0, 2);
    tcase_add_loop_test(tc, a_server_resumes_sessions, 0, 2);
    tcase_add_loop_test(tc, a_server_chooses_by_the_name, 0, 2);
    tcase_add_loop_test(tc, a_name_that_was_asked_for_is_told, 0, 2);
    tcase_add_loop_test(tc, certificates_for_one_name_may_have_keys_of_two_kinds, 0, 2);
    tcase_add_loop_test(tc, a_session_is_of_one_name, 0, 4);
    tcase_add_test(tc, lists_of_names_that_are_none_are_refused);
    tcase_add_test(tc, wrong_certificates_are_not_added);
    tcase_add_test(tc, added_certificates_are_read_again);
    tcase_add_loop_test(tc, certificates_are_added_beside_handshakes_and_reloads, 0, COUNT(workers));
    tcase_add_test(tc, of_certificates_that_are_added_at_once_none_is_lost);
    tcase_add_loop_test(tc, a_certificate_that_is_called_off_is_not_added, 0, COUNT(workers));
    tcase_add_loop_test(tc, keys_change_while_both_ways_are_busy, 0, COUNT(workers));
    tcase_add_loop_test(tc, messages_without_data_are_numbered, 0, 2);
    tcase_add_test(tc, old_versions_and_renegotiation_are_refused);
    tcase_add_test(tc, a_client_that_has_gone_is_still_heard);
    tcase_add_loop_test(tc, plain_threads_may_do_the_same, 0, 2);
    tcase_add_loop_test(tc, a_server_serves_by_tls, 0, COUNT(workers));
    tcase_add_loop_test(tc, other_programs_come_as_clients, 0, 5);
    tcase_add_loop_test(tc, a_client_goes_to_another_program, 0, 2);
    tcase_add_test(tc, without_memory_it_fails_and_leaves_nothing);
    tcase_add_loop_test(tc, a_file_goes_through_it_whole, 0, 2 * COUNT(workers));
    tc = add_case(s, "errors of others");
    tcase_add_loop_test(tc, errors_that_others_have_left_are_nobody_elses, 0, 4 * COUNT(workers));
    tcase_add_loop_test(tc, in_a_crowd_each_handshake_has_its_own_error, 0, 2 * COUNT(workers));
    int rc = run_suite(s);
    remove_files();
    return rc;
}
