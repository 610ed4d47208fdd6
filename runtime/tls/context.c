/* tls/context.c - a weft_tls: certificates, whom to trust, and sessions that a client may resume.
 *
 * Owns      what was read last: the set of certificates (names.c) with its SSL_CTX; and at most WEFT__TLS_SESSIONS sessions.
 * Callers   any thread; conn.c for a connection.
 * Holds     X1  an SSL_CTX is never changed once others see it: a reload puts another in its place, and connections hold on
 *               to theirs.
 *           X2  no session outlives its SSL_CTX here: a client's are forgotten with it, and a server's tickets are under
 *               keys of its own. What was trusted before a reload may not be any more.
 *           X3  OpenSSL's queue of errors is the thread's. It is read in the call that filled it, before anything can
 *               suspend; and what was read is parsed by one call on a thread for calls that take long.
 *           X4  files are read whole before OpenSSL sees them. What it reads itself ends where a read fails: a chain, or the
 *               list of whom to trust, would be cut short, and nobody told.
 *           X5  files are read without any lock, and what comes of them is put in place if that is still what it was made of,
 *               else made again: a reload beside an added certificate loses neither.
 *           The lock is never held while a connection's is asked for; the other way round it may be.
 * Source    RFC 8446 C.4 for tickets; RFC 7301 for what a server does about ALPN; RFC 9325 for what is not spoken.
 * Tested    tests/tls_test.c */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <weft/error.h>
#include <weft/fs.h>
#include <weft/offload.h>
#include <weft/time.h>

#include "tls/tls.h"

enum { HANDSHAKE_S = 60, SHUTDOWN_S = 30 };

/* ---- errors */

int weft__tls_explain(char text[WEFT__TLS_TEXT], const char *what, int otherwise)
{
    unsigned long first = ERR_peek_error(), e;
    int rc = otherwise;
    const char *words = first ? ERR_reason_error_string(first) : NULL;
    if (ERR_SYSTEM_ERROR(first)) {
        rc = -ERR_GET_REASON(first);
        words = weft_strerror(rc);
    }
    while ((e = ERR_get_error()) != 0)
        if (!ERR_SYSTEM_ERROR(e) && ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE) {
            rc = -ENOMEM;
            words = "no memory";
        }
    snprintf(text, WEFT__TLS_TEXT, "TLS: %.48s: %s", what, words ? words : weft_strerror(rc));
    return rc;
}

/* ---- what is read from files */

/* One of them, whole (X4). NULL: there is none. */
struct file {
    const char *path;
    char *data;
    size_t n;
};

struct pair {
    struct file cert, key;
    struct weft__tls_cert *made;
};

/* All that there is, or one more certificate. */
struct reading {
    weft_tls *tls;
    SSL_CTX *ctx;   /* NULL: one more */
    SSL_CTX *trial; /* shows whether a certificate would do that is not in `ctx` */
    struct pair *pairs, *now;
    int n;
    bool adds;
    struct file ca;
    char text[WEFT__TLS_TEXT];
};

/* Else OpenSSL would ask the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_bytes, const unsigned char *in,
        unsigned in_bytes, void *arg)
{
    weft_tls *t = arg;
    unsigned char *chosen;
    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_bytes, t->alpn, t->alpn_bytes, in, in_bytes) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int session_came(SSL *ssl, SSL_SESSION *session)
{
    struct weft__tls_conn *c = SSL_get_app_data(ssl);
    return c && c->host[0] && weft__tls_keep(c->tls, ssl, c->host, session);
}

static bool set_up(SSL_CTX *ctx, weft_tls *t)
{
    static const unsigned char id[] = "weft";
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* NO_AUTO_CHAIN: else each handshake of a server looks for its own issuers among those whom it trusts. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                    SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    /* A server has no memory of sessions: they are in the tickets. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, session_came);
    SSL_CTX_set_client_hello_cb(ctx, weft__tls_hello, NULL);
    SSL_CTX_set_tlsext_servername_callback(ctx, weft__tls_acknowledge);
    if (t->alpn_bytes > 0) {
        SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, t);
        if (SSL_CTX_set_alpn_protos(ctx, t->alpn, t->alpn_bytes) != 0)
            return false;
    }
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) && SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
}

/* What there is of a kind ends without an error. */
static bool is_end(void)
{
    unsigned long e = ERR_peek_last_error();
    if (ERR_GET_LIB(e) != ERR_LIB_PEM || ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
        return false;
    ERR_clear_error();
    return true;
}

/* Ours, and then what leads from there to an authority. */
static bool read_chain(struct weft__tls_cert *c, BIO *from)
{
    X509 *x;
    c->cert = PEM_read_bio_X509_AUX(from, NULL, no_passphrase, NULL);
    c->chain = sk_X509_new_null();
    if (!c->cert || !c->chain || !weft__tls_read_names(c))
        return false;
    while ((x = PEM_read_bio_X509(from, NULL, no_passphrase, NULL)))
        if (sk_X509_push(c->chain, x) == 0) {
            X509_free(x);
            return false;
        }
    return is_end();
}

static bool trust_all(SSL_CTX *ctx, const STACK_OF(X509_INFO) *all)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    int found = 0;
    for (int i = 0; i < sk_X509_INFO_num(all); i++) {
        const X509_INFO *x = sk_X509_INFO_value(all, i);
        if ((x->x509 && X509_STORE_add_cert(store, x->x509) != 1) || (x->crl && X509_STORE_add_crl(store, x->crl) != 1))
            return false;
        found += x->x509 || x->crl;
    }
    if (found == 0)
        ERR_raise(ERR_LIB_X509, X509_R_NO_CERTIFICATE_OR_CRL_FOUND);
    return found > 0;
}

/* Whose certificates a server asks for. */
static bool ask_for_all(SSL_CTX *ctx, const STACK_OF(X509_INFO) *all)
{
    int found = 0;
    for (int i = 0; i < sk_X509_INFO_num(all); i++) {
        X509 *x = sk_X509_INFO_value(all, i)->x509;
        if (x && SSL_CTX_add_client_CA(ctx, x) != 1)
            return false;
        found += x != NULL;
    }
    if (found == 0)
        ERR_raise(ERR_LIB_X509, X509_R_NO_CERTIFICATE_OR_CRL_FOUND);
    return found > 0;
}

static bool use_authorities(SSL_CTX *ctx, BIO *from, bool ask)
{
    STACK_OF(X509_INFO) *all = PEM_X509_INFO_read_bio(from, NULL, no_passphrase, NULL);
    bool good = all && trust_all(ctx, all) && (!ask || ask_for_all(ctx, all));
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    return good;
}

/* The system's. Not set_default_verify_paths: what that adds reads the whole folder whenever an issuer is not known. Nor does
 * it matter what is wrong with the file: an authority that is not there is not trusted. */
static bool use_system(struct reading *r, BIO *from)
{
    if (from)
        (void)use_authorities(r->ctx, from, false);
    ERR_clear_error();
    return SSL_CTX_set_default_verify_dir(r->ctx) == 1;
}

static int parse(struct reading *r, const struct file *f, bool (*use)(struct reading *r, BIO *from))
{
    BIO *from = f->data ? BIO_new_mem_buf(f->data, (int)f->n) : NULL;
    bool good = (from || !f->data) && use(r, from);
    BIO_free(from);
    return good ? 0 : weft__tls_explain(r->text, f->path, ERR_peek_error() ? -EINVAL : -ENOMEM);
}

/* The first is the SSL_CTX's own. */
static SSL_CTX *where_now(const struct reading *r)
{
    return r->now == r->pairs && !r->adds ? r->ctx : r->trial;
}

static bool parse_cert(struct reading *r, BIO *from)
{
    struct weft__tls_cert *c = r->now->made;
    return read_chain(c, from) && SSL_CTX_use_certificate(where_now(r), c->cert) == 1;
}

static bool parse_key(struct reading *r, BIO *from)
{
    struct weft__tls_cert *c = r->now->made;
    c->key = PEM_read_bio_PrivateKey(from, NULL, no_passphrase, NULL);
    return c->key && SSL_CTX_use_cert_and_key(where_now(r), c->cert, c->key, c->chain, 1) == 1;
}

static bool parse_ca(struct reading *r, BIO *from)
{
    return r->tls->ca_file ? use_authorities(r->ctx, from, r->tls->ask) : use_system(r, from);
}

static bool copy_name(char **to, const char *from)
{
    *to = from ? OPENSSL_strdup(from) : NULL;
    return *to || !from;
}

static int parse_pair(struct reading *r)
{
    struct weft__tls_cert *c = r->now->made = OPENSSL_zalloc(sizeof *c);
    const char *key = r->now->key.path;
    if (!c || !copy_name(&c->cert_file, r->now->cert.path) || !copy_name(&c->key_file, key))
        return -ENOMEM;
    int rc = parse(r, &r->now->cert, parse_cert);
    if (rc == 0)
        rc = parse(r, &r->now->key, parse_key);
    if (rc < 0 || c->names_n > 0 || where_now(r) == r->ctx)
        return rc;
    snprintf(r->text, sizeof r->text, "TLS: %.48s: no host's name (subjectAltName)", c->cert_file);
    return -EINVAL;
}

static int parse_files(struct reading *r)
{
    int rc = r->trial && (r->adds || (r->ctx && set_up(r->ctx, r->tls))) ? 0 : weft__tls_explain(r->text, "set-up", -ENOMEM);
    for (r->now = r->pairs; rc == 0 && r->now < r->pairs + r->n; r->now++)
        rc = parse_pair(r);
    return rc == 0 && !r->adds ? parse(r, &r->ca, parse_ca) : rc;
}

/* On a thread for calls that take long; X3. */
static int parse_all(void *arg)
{
    struct reading *r = arg;
    weft__tls_enter();
    ERR_clear_error();
    r->ctx = r->adds ? NULL : SSL_CTX_new(TLS_method());
    r->trial = SSL_CTX_new(TLS_method());
    int rc = parse_files(r);
    SSL_CTX_free(r->trial);
    ERR_clear_error();
    weft__tls_leave();
    return rc;
}

static int load(struct reading *r, struct file *f, const char *path)
{
    f->path = path;
    int rc = path ? weft_fs_load(path, &f->data, &f->n) : 0;
    if (rc < 0 && rc != -ECANCELED)
        snprintf(r->text, sizeof r->text, "TLS: %.48s: %s", path, weft_strerror(rc));
    return rc;
}

/* The system may have none, or one that is not for us. */
static int load_system(struct reading *r)
{
    const char *path = secure_getenv(X509_get_default_cert_file_env());
    int rc = load(r, &r->ca, path ? path : X509_get_default_cert_file());
    if (rc != -ENOENT && rc != -ENOTDIR && rc != -EACCES)
        return rc;
    r->text[0] = 0;
    return 0;
}

/* X4 */
static int load_all(struct reading *r)
{
    const weft_tls *t = r->tls;
    int rc = 0;
    for (struct pair *p = r->pairs; rc == 0 && p < r->pairs + r->n; p++) {
        const char *key = p->key.path;
        rc = load(r, &p->cert, p->cert.path);
        if (rc == 0)
            rc = load(r, &p->key, key ? key : p->cert.path);
    }
    if (rc == 0 && !r->adds)
        rc = t->ca_file ? load(r, &r->ca, t->ca_file) : load_system(r);
    return rc;
}

/* A key is not left behind in memory that is free. */
static void forget(struct file *f)
{
    if (f->data)
        OPENSSL_cleanse(f->data, f->n);
    weft_free(f->data);
}

/* Of what r->pairs names; what it came to is the caller's to let go. */
static int read_files(struct reading *r)
{
    int rc = load_all(r);
    if (rc == 0)
        rc = weft_blocking(parse_all, r);
    for (int i = 0; i < r->n; i++) {
        forget(&r->pairs[i].cert);
        forget(&r->pairs[i].key);
    }
    forget(&r->ca);
    return rc < 0 && r->text[0] ? weft_fail_text(rc, r->text) : rc;
}

/* ---- what there is, and what takes its place */

struct weft__tls_set *weft__tls_hold(weft_tls *t)
{
    pthread_mutex_lock(&t->lock);
    struct weft__tls_set *s = t->set;
    if (s)
        s->users++;
    pthread_mutex_unlock(&t->lock);
    return s;
}

void weft__tls_release(weft_tls *t, struct weft__tls_set *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&t->lock);
    bool last = --s->users == 0;
    for (int i = 0; last && i < s->n; i++)
        if (--s->certs[i]->users > 0)
            s->certs[i] = NULL; /* another set's, too */
    pthread_mutex_unlock(&t->lock);
    if (!last)
        return;
    weft__tls_enter();
    for (int i = 0; i < s->n; i++)
        weft__tls_free_cert(s->certs[i]);
    weft__tls_free_set(s);
    weft__tls_leave();
}

/* Behind what is there come those that are added; others take the places from the first on. NULL: no memory. */
static struct weft__tls_set *make_next(const struct reading *r, const struct weft__tls_set *before)
{
    int had = before ? before->n : 0, from = r->adds ? had : 0, n = from + r->n > had ? from + r->n : had;
    struct weft__tls_cert **all = OPENSSL_malloc(((size_t)n + 1) * sizeof(struct weft__tls_cert *));
    if (!all)
        return NULL;
    for (int i = 0; i < n; i++)
        all[i] = i >= from && i < from + r->n ? r->pairs[i - from].made : before->certs[i];
    struct weft__tls_set *next = weft__tls_make_set(r->ctx ? r->ctx : before->ctx, all, n);
    OPENSSL_free(all);
    return next;
}

/* X2: the sessions of another SSL_CTX go. */
static bool replace(weft_tls *t, struct weft__tls_set *before, struct weft__tls_set *next, SSL_SESSION *gone[])
{
    pthread_mutex_lock(&t->lock);
    bool same = t->set == before;
    if (same) {
        t->set = next;
        for (int i = 0; i < next->n; i++)
            next->certs[i]->users++;
    }
    for (int i = 0; i < WEFT__TLS_SESSIONS; i++) {
        bool goes = same && before && before->ctx != next->ctx;
        gone[i] = goes ? t->sessions[i].session : NULL;
        if (goes)
            t->sessions[i].session = NULL;
    }
    pthread_mutex_unlock(&t->lock);
    return same;
}

/* X5 */
static int put_in_place(const struct reading *r)
{
    weft_tls *t = r->tls;
    SSL_SESSION *gone[WEFT__TLS_SESSIONS];
    bool done = false;
    while (!done) {
        struct weft__tls_set *before = weft__tls_hold(t);
        weft__tls_enter();
        struct weft__tls_set *next = make_next(r, before);
        weft__tls_leave();
        if (!next) {
            weft__tls_release(t, before);
            return -ENOMEM;
        }
        done = replace(t, before, next, gone);
        weft__tls_enter();
        for (int i = 0; done && i < WEFT__TLS_SESSIONS; i++)
            SSL_SESSION_free(gone[i]);
        if (!done)
            weft__tls_free_set(next);
        weft__tls_leave();
        if (done)
            weft__tls_release(t, before); /* the place's */
        weft__tls_release(t, before);
    }
    return 0;
}

/* From files to what handshakes use, or nothing changes. */
static int read_and_use(struct reading *r)
{
    int rc = read_files(r);
    if (rc == 0)
        rc = put_in_place(r);
    weft__tls_enter();
    for (int i = 0; rc < 0 && i < r->n; i++)
        weft__tls_free_cert(r->pairs[i].made);
    SSL_CTX_free(r->ctx);
    weft__tls_leave();
    return rc;
}

/* ---- from beginning to end */

/* "h2,http/1.1" as \2h2\10http/1.1. */
static bool copy_protocols(weft_tls *t, const char *from)
{
    size_t n = from ? strlen(from) : 0, begin = 0;
    if (!from)
        return true;
    if (n == 0 || n + 1 >= sizeof t->alpn)
        return false;
    for (size_t i = 0; i <= n; i++) {
        t->alpn[i + 1] = (unsigned char)from[i];
        if (from[i] != ',' && from[i] != 0)
            continue;
        if (i == begin)
            return false;
        t->alpn[begin] = (unsigned char)(i - begin);
        begin = i + 1;
    }
    t->alpn_bytes = (unsigned)n + 1;
    return true;
}

static void let_go(weft_tls *t)
{
    weft__tls_release(t, t->set);
    weft__tls_enter();
    for (int i = 0; i < WEFT__TLS_SESSIONS; i++)
        SSL_SESSION_free(t->sessions[i].session);
    OPENSSL_free(t->ca_file);
    weft__tls_leave();
    pthread_mutex_destroy(&t->lock);
    OPENSSL_free(t);
}

static bool right(const weft_tls_options *o)
{
    for (size_t i = 0; i < sizeof o->reserved / sizeof o->reserved[0]; i++)
        if (o->reserved[i] != 0)
            return false;
    if (o->handshake < 0 || o->shutdown < 0 || (o->key_file && !o->cert_file))
        return false;
    /* Whoever has a certificate of any of the system's authorities would be let in. */
    return !o->ask_client_cert || (o->cert_file && o->ca_file && !o->dangerously_trust_anyone);
}

int weft_tls_create(weft_tls **out, const weft_tls_options *o)
{
    static const weft_tls_options defaults;
    o = o ? o : &defaults;
    if (!out || !right(o))
        return -EINVAL;
    weft_tls *t = OPENSSL_zalloc(sizeof *t);
    if (!t)
        return -ENOMEM;
    pthread_mutex_init(&t->lock, NULL);
    t->users = 1;
    t->ask = o->ask_client_cert;
    t->trust_anyone = o->dangerously_trust_anyone;
    t->serves = o->cert_file != NULL;
    t->handshake = o->handshake > 0 ? o->handshake : weft_sec(HANDSHAKE_S);
    t->shutdown = o->shutdown > 0 ? o->shutdown : weft_sec(SHUTDOWN_S);
    int rc = copy_protocols(t, o->alpn) ? 0 : weft_fail(-EINVAL, "TLS: bad list of protocols: \"%.40s\"", o->alpn);
    if (rc == 0 && !copy_name(&t->ca_file, o->ca_file))
        rc = -ENOMEM;
    struct pair ours = { .cert.path = o->cert_file, .key.path = o->key_file };
    if (rc == 0)
        rc = read_and_use(&(struct reading){ .tls = t, .pairs = &ours, .n = t->serves });
    if (rc < 0) {
        let_go(t);
        return rc;
    }
    *out = t;
    return 0;
}

void weft_tls_destroy(weft_tls **t)
{
    if (!t || !*t)
        return;
    weft__tls_unref(*t);
    *t = NULL;
}

int weft_tls_add_cert(weft_tls *t, const char *cert_file, const char *key_file)
{
    if (!t || !cert_file || !t->serves)
        return -EINVAL;
    struct pair one = { .cert.path = cert_file, .key.path = key_file };
    return read_and_use(&(struct reading){ .tls = t, .pairs = &one, .n = 1, .adds = true });
}

int weft_tls_reload(weft_tls *t)
{
    if (!t)
        return -EINVAL;
    struct weft__tls_set *now = weft__tls_hold(t);
    struct pair *pairs = calloc((size_t)now->n + 1, sizeof *pairs);
    int rc = pairs ? 0 : -ENOMEM;
    for (int i = 0; rc == 0 && i < now->n; i++)
        pairs[i] = (struct pair){ .cert.path = now->certs[i]->cert_file, .key.path = now->certs[i]->key_file };
    if (rc == 0)
        rc = read_and_use(&(struct reading){ .tls = t, .pairs = pairs, .n = now->n });
    free(pairs);
    weft__tls_release(t, now);
    return rc;
}

/* ---- for a connection */

weft_tls *weft__tls_ref(weft_tls *t)
{
    pthread_mutex_lock(&t->lock);
    t->users++;
    pthread_mutex_unlock(&t->lock);
    return t;
}

void weft__tls_unref(weft_tls *t)
{
    pthread_mutex_lock(&t->lock);
    bool last = --t->users == 0;
    pthread_mutex_unlock(&t->lock);
    if (last)
        let_go(t);
}

/* ---- sessions of a client */

SSL_SESSION *weft__tls_take(weft_tls *t, const char *host)
{
    struct weft__tls_session *best = NULL;
    SSL_SESSION *session = NULL;
    pthread_mutex_lock(&t->lock);
    for (struct weft__tls_session *s = t->sessions; s < t->sessions + WEFT__TLS_SESSIONS; s++)
        if (s->session && strcasecmp(s->host, host) == 0 && (!best || s->age > best->age))
            best = s;
    if (best && SSL_SESSION_get_protocol_version(best->session) >= TLS1_3_VERSION) {
        session = best->session;
        best->session = NULL;
    } else if (best && SSL_SESSION_up_ref(best->session)) {
        session = best->session;
    }
    pthread_mutex_unlock(&t->lock);
    return session;
}

/* A free place, or the oldest one's. */
static struct weft__tls_session *place(weft_tls *t)
{
    struct weft__tls_session *oldest = t->sessions;
    for (struct weft__tls_session *s = t->sessions; s < t->sessions + WEFT__TLS_SESSIONS; s++) {
        if (!s->session)
            return s;
        if (s->age < oldest->age)
            oldest = s;
    }
    return oldest;
}

bool weft__tls_keep(weft_tls *t, SSL *ssl, const char *host, SSL_SESSION *session)
{
    SSL_SESSION *gone = NULL;
    pthread_mutex_lock(&t->lock);
    bool wanted = SSL_get_SSL_CTX(ssl) == t->set->ctx; /* X2 */
    if (wanted) {
        struct weft__tls_session *s = place(t);
        gone = s->session;
        s->session = session;
        s->age = ++t->clock;
        snprintf(s->host, sizeof s->host, "%s", host);
    }
    pthread_mutex_unlock(&t->lock);
    SSL_SESSION_free(gone);
    return wanted;
}
