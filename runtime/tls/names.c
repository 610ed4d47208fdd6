/* tls/names.c - by which certificate a server speaks: the one for the name that the client asks for (SNI).
 *
 * Owns      sets of certificates: what those of one weft_tls are at a time, and their names in order.
 * Callers   context.c, which makes sets; OpenSSL, from within a handshake: under the connection's lock, never suspends.
 * Holds     N1  a set is never changed once others see it: another takes its place, and handshakes end with theirs. Who
 *               holds one holds its certificates. Both are counted under the lock of the weft_tls.
 *           N2  what depends on the name is settled before OpenSSL looks at a session, by the hello itself. Its callback for
 *               names comes too late for that, and SSL_get_servername says the session's name, if one is resumed in TLS 1.2.
 *           N3  a session is of the name it was begun with (RFC 6066): that is in its context, and so in the ticket.
 *           N4  the SSL_CTX stays the connection's own. To change that, as others do, would change whom it trusts, too.
 *           N5  a name is compared and told in lower case, without the root's dot. What has other signs than those of a host's
 *               is as if none was asked for; what is no proper list of one name, too long, or has a zero in it, OpenSSL
 *               refuses itself.
 * Source    RFC 6066 3; RFC 6125 6.4.3 for wildcards; what went wrong for others: nginx ticket 844 and pull 493,
 *           openssl/openssl#8822.
 * Tested    tests/tls_test.c */
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "tls/tls.h"

/* ---- names */

/* N5. 0: it is none. */
static size_t plain(char to[WEFT__TLS_NAME], const unsigned char *from, size_t n)
{
    if (n > 0 && from[n - 1] == '.')
        n--;
    to[0] = 0;
    if (n >= WEFT__TLS_NAME)
        return 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = from[i];
        if (c >= 'A' && c <= 'Z')
            c = (unsigned char)(c - 'A' + 'a');
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.')) {
            to[0] = 0;
            return 0;
        }
        to[i] = (char)c;
    }
    to[n] = 0;
    return n;
}

/* One of a certificate's: also "*.example.test". */
static size_t plain_or_wildcard(char to[WEFT__TLS_NAME], const unsigned char *from, size_t n)
{
    char rest[WEFT__TLS_NAME];
    if (n < 2 || from[0] != '*' || from[1] != '.')
        return plain(to, from, n);
    if ((n = plain(rest, from + 1, n - 1)) < 2 || n + 1 >= WEFT__TLS_NAME)
        return 0;
    to[0] = '*';
    memcpy(to + 1, rest, n + 1);
    return n + 1;
}

static bool add_name(struct weft__tls_cert *c, const char *name, size_t n)
{
    char *more = OPENSSL_realloc(c->names, c->names_bytes + n + 1);
    if (!more)
        return false;
    memcpy(more + c->names_bytes, name, n + 1);
    c->names = more;
    c->names_bytes += n + 1;
    c->names_n++;
    return true;
}

bool weft__tls_read_names(struct weft__tls_cert *c)
{
    int found = 0;
    GENERAL_NAMES *all = X509_get_ext_d2i(c->cert, NID_subject_alt_name, &found, NULL);
    bool good = all || found == -1;
    for (int i = 0; good && i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        char name[WEFT__TLS_NAME];
        size_t n = g->type != GEN_DNS
                ? 0
                : plain_or_wildcard(name, ASN1_STRING_get0_data(g->d.dNSName), (size_t)ASN1_STRING_length(g->d.dNSName));
        good = n == 0 || add_name(c, name, n);
    }
    GENERAL_NAMES_free(all);
    return good;
}

/* ---- certificates, and sets of them */

void weft__tls_free_cert(struct weft__tls_cert *c)
{
    if (!c)
        return;
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
    sk_X509_pop_free(c->chain, X509_free);
    OPENSSL_free(c->names);
    OPENSSL_free(c->cert_file);
    OPENSSL_free(c->key_file);
    OPENSSL_free(c);
}

/* By name, and the one that was added first in front. */
static int compare(const void *a, const void *b)
{
    const struct weft__tls_name *x = a, *y = b;
    int by = strcmp(x->name, y->name);
    return by != 0 ? by : (x->cert > y->cert) - (x->cert < y->cert);
}

struct weft__tls_set *weft__tls_make_set(SSL_CTX *ctx, struct weft__tls_cert *const certs[], int n)
{
    size_t names = 0;
    for (int i = 0; i < n; i++)
        names += certs[i]->names_n;
    struct weft__tls_set *s = OPENSSL_zalloc(sizeof *s);
    struct weft__tls_cert **of = OPENSSL_malloc(((size_t)n + 1) * sizeof(struct weft__tls_cert *)); /* never nothing */
    struct weft__tls_name *in_order = OPENSSL_malloc((names + 1) * sizeof *in_order);
    if (!s || !of || !in_order || SSL_CTX_up_ref(ctx) != 1) {
        OPENSSL_free(s);
        OPENSSL_free(of);
        OPENSSL_free(in_order);
        return NULL;
    }
    *s = (struct weft__tls_set){ .users = 1, .ctx = ctx, .certs = of, .n = n, .names = in_order };
    for (int i = 0; i < n; i++) {
        const char *name = certs[i]->names;
        of[i] = certs[i];
        for (size_t k = 0; k < certs[i]->names_n; k++, name += strlen(name) + 1)
            in_order[s->names_n++] = (struct weft__tls_name){ name, i };
    }
    qsort(in_order, s->names_n, sizeof *in_order, compare);
    return s;
}

void weft__tls_free_set(struct weft__tls_set *s)
{
    if (!s)
        return;
    SSL_CTX_free(s->ctx);
    OPENSSL_free(s->certs);
    OPENSSL_free(s->names);
    OPENSSL_free(s);
}

/* ---- from within a handshake */

/* Those for just this one: their number, from *first on. */
static size_t find(const struct weft__tls_set *s, const char *name, size_t *first)
{
    size_t low = 0, high = s->names_n, n = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(s->names[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    while (low + n < s->names_n && strcmp(s->names[low + n].name, name) == 0)
        n++;
    *first = low;
    return n;
}

/* The name itself, or else all that differ from it in the first label. */
static size_t find_for(const struct weft__tls_set *s, const char *asked, size_t *first)
{
    char wildcard[WEFT__TLS_NAME + 1] = "*";
    size_t n = find(s, asked, first);
    const char *dot = strchr(asked, '.');
    if (n > 0 || !dot || dot == asked)
        return n;
    memcpy(wildcard + 1, dot, strlen(dot) + 1);
    return find(s, wildcard, first);
}

static bool use(SSL *ssl, const struct weft__tls_cert *c)
{
    return SSL_use_cert_and_key(ssl, c->cert, c->key, c->chain, 1) == 1;
}

/* With keys of several kinds OpenSSL takes what the client knows. Of two with a key of one kind the first is used, as it comes
 * last. A client that is told to begin anew sends a second hello: what was chosen by the first is forgotten. */
static bool choose(struct weft__tls_conn *c, SSL *ssl)
{
    size_t first = 0, n = find_for(c->set, c->asked, &first);
    c->chosen = n > 0;
    if (c->set->n < 2)
        return true; /* the SSL_CTX has it */
    SSL_certs_clear(ssl);
    if (n == 0)
        return use(ssl, c->set->certs[0]);
    while (n > 0)
        if (!use(ssl, c->set->certs[c->set->names[first + --n].cert]))
            return false;
    return true;
}

/* N3. None is a name as well: of two hellos the second may have none. */
static bool bind_sessions(SSL *ssl, const char *asked)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    return SHA256((const unsigned char *)asked, strlen(asked), digest) &&
            SSL_set_session_id_context(ssl, digest, sizeof digest) == 1;
}

/* Of a list of one, RFC 6066: bytes of all, 0, bytes, the name. */
static void read_asked(struct weft__tls_conn *c, SSL *ssl)
{
    const unsigned char *p;
    size_t n;
    c->asked[0] = 0;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) != 1 || n < 5)
        return;
    if (((size_t)p[0] << 8 | p[1]) == n - 2 && p[2] == TLSEXT_NAMETYPE_host_name && ((size_t)p[3] << 8 | p[4]) == n - 5)
        (void)plain(c->asked, p + 5, n - 5);
}

int weft__tls_hello(SSL *ssl, int *alert, void *arg)
{
    struct weft__tls_conn *c = SSL_get_app_data(ssl);
    (void)arg;
    read_asked(c, ssl);
    if (choose(c, ssl) && bind_sessions(ssl, c->asked))
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

int weft__tls_acknowledge(SSL *ssl, int *alert, void *arg)
{
    const struct weft__tls_conn *c = SSL_get_app_data(ssl);
    (void)alert, (void)arg;
    return SSL_is_server(ssl) && c->chosen ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}
