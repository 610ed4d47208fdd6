/* tls/conn.c - TLS as a layer of a stream: handshake, records, goodbye.
 *
 * Owns      an SSL and the bytes on both sides of it; what carries the stream, from the upgrade on.
 * Callers   the stream (os/stream.c): one task that reads, one that writes, at the same time.
 * Holds     L1  OpenSSL is called under the lock, a plain mutex, and never suspends there: it reads from and writes to
 *               memory (buffer.c). The lock is let go for every wait. What a call came to, and the thread's queue of errors,
 *               is read before that: behind it the task may be on another thread.
 *           L2  who has set `filling` is the only one to read below, and `in` is empty then: OpenSSL asks for more only of
 *               an empty one. A writer may have to do that, too: a message that came in parts has to be whole before
 *               OpenSSL writes again. Whoever finds it set waits for `filled`, and looks again.
 *           L3  who has set `sending` is the only one to write below, in the order in which OpenSSL wrote: `now` first, then
 *               `out`, which becomes `now`. Whoever has to be sure waits for `sent`. A reader sends only if nobody does: it
 *               must not wait for the other side to read while that waits for us to.
 *           L4  what OpenSSL has taken cannot be taken back: a write that is cancelled after that returns how much it was, and
 *               the records stay in `now` for the next call.
 *           L5  the other side can make us work for nothing: new keys, each of which costs more than the 27 bytes that ask
 *               for it, and tickets. USELESS of them without a byte for who reads, and it is over; the rest of what has come
 *               is not looked at then, so that no call has more of them than these. Records without anything in them, and
 *               warnings, OpenSSL counts itself.
 * Source    RFC 8446 6.1 (closing), 4.6.3 (keys are updated before the next record at the latest); what went wrong for
 *           others: openssl/openssl#6904, #7948 (tickets of a server to a client that has gone), #8677; trio#819.
 * Tested    tests/tls_test.c */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <weft/error.h>
#include <weft/io.h>
#include <weft/net.h>
#include <weft/scope.h>
#include <weft/task.h>
#include <weft/time.h>

#include "tls/tls.h"

enum {
    FIRST = 4096,         /* bytes that are read at once, */
    MOST = 17 * 1024,     /* and if these are not enough: a record */
    AT_ONCE = 64 * 1024,  /* of plain text, between two writes below */
    UNSENT = 256 * 1024,  /* which OpenSSL may have written while a writer waits */
    KEPT = 1024,          /* of memory, for what will be sent next */
    USELESS = 32,         /* L5; BoringSSL's number for new keys (Go has 16 for all) */
};

typedef struct weft__tls_conn conn;

/* L1 */
static void lock(conn *c)
{
    pthread_mutex_lock(&c->lock);
    weft__tls_enter();
}

static void unlock(conn *c)
{
    weft__tls_leave();
    pthread_mutex_unlock(&c->lock);
}

/* ---- below: under the lock, which is let go meanwhile */

static size_t unsent(const conn *c)
{
    return weft__tls_held(&c->now) + weft__tls_held(&c->out);
}

static int wait_without_lock(conn *c, bool *wants, weft_notify *n)
{
    *wants = true;
    unlock(c);
    int rc = weft_notify_wait(n);
    lock(c);
    return rc;
}

static void wake(bool *wants, weft_notify *n)
{
    if (*wants) {
        *wants = false;
        weft_notify_one(n);
    }
}

static bool room_to_fill(conn *c)
{
    bool full = c->in.end > 0 && c->in.end == c->in.size;
    if (full && c->in.size < MOST)
        weft__tls_empty(&c->in);
    return weft__tls_room(&c->in, full ? MOST : FIRST);
}

/* L2. Reads what comes, or lets the other one: 1; 0 the end; negative, and all is as it was. */
static int fill(conn *c)
{
    if (c->filling) {
        int rc = wait_without_lock(c, &c->wants_fill, &c->filled);
        return rc < 0 ? rc : 1;
    }
    if (c->ended)
        return 0;
    if (!room_to_fill(c))
        return -ENOMEM;
    char *to = c->in.p;
    size_t n = c->in.size;
    c->filling = true;
    unlock(c);
    int rc = c->below.ops->read(c->below.self, to, n);
    lock(c);
    c->filling = false;
    if (rc > 0)
        c->in.end = (size_t)rc;
    else if (rc == 0)
        c->ended = true;
    wake(&c->wants_fill, &c->filled);
    return rc > 0 ? 1 : rc;
}

/* L3. A part of what is to be sent. */
static int send_some(conn *c)
{
    if (weft__tls_held(&c->now) == 0) {
        struct weft__tls_buffer sent = c->now;
        c->now = c->out;
        c->out = sent;
    }
    struct iovec v = { c->now.p + c->now.at, weft__tls_held(&c->now) };
    c->sending = true;
    unlock(c);
    int rc = c->below.ops->writev(c->below.self, &v, 1);
    lock(c);
    c->sending = false;
    if (rc > 0)
        c->now.at += (size_t)rc;
    else if (rc != -ECANCELED)
        c->unsendable = rc < 0 ? rc : -EIO;
    if (weft__tls_held(&c->now) == 0 && c->now.size > KEPT)
        weft__tls_empty(&c->now);
    wake(&c->wants_send, &c->sent);
    return rc;
}

/* All of it. */
static int drain(conn *c)
{
    while (c->unsendable == 0 && unsent(c) > 0) {
        int rc = c->sending ? wait_without_lock(c, &c->wants_send, &c->sent) : send_some(c);
        if (rc == -ECANCELED || (rc < 0 && c->unsendable == 0)) /* told to leave, or it could not even wait */
            return rc;
    }
    c->owed = c->owed && c->unsendable < 0;
    return c->unsendable;
}

/* What was left to be sent, and nothing of what a writer adds meanwhile: two that did, each for the other's writer, would
 * both wait for the other to read. What is for who writes to hear is not for who reads. */
static int drain_before_reading(conn *c)
{
    int rc = 0;
    if (c->sending || c->unsendable < 0 || unsent(c) == 0)
        return 0;
    do {
        rc = send_some(c);
    } while (rc > 0 && !c->sending && weft__tls_held(&c->now) > 0);
    return rc == -ECANCELED ? rc : 0;
}

/* ---- what a call of OpenSSL's came to */

static int broken(conn *c)
{
    return weft_fail_text(c->broken, c->text);
}

static int break_off(conn *c, int rc, const char *text)
{
    if (text)
        snprintf(c->text, sizeof c->text, "TLS: %.40s%s%.60s", c->host, c->host[0] ? ": " : "", text);
    c->broken = rc;
    return broken(c);
}

/* Of the error in the queue. */
static int break_by_queue(conn *c)
{
    int reason = ERR_GET_REASON(ERR_peek_error());
    long verdict = SSL_get_verify_result(c->ssl);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK && verdict != X509_V_ERR_OUT_OF_MEM) {
        ERR_clear_error();
        return break_off(c, verdict == X509_V_ERR_CERT_HAS_EXPIRED ? -EKEYEXPIRED : -EKEYREJECTED,
                X509_verify_cert_error_string(verdict));
    }
    if (reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256 && ERR_reason_error_string(ERR_peek_error())) {
        char text[64];
        snprintf(text, sizeof text, "the other side refuses: %s", ERR_reason_error_string(ERR_peek_error()));
        ERR_clear_error();
        return break_off(c, -EPROTO, text);
    }
    return break_off(c, weft__tls_explain(c->text, c->host[0] ? c->host : "handshake or record", -EPROTO), NULL);
}

/* L1. 1; 0 the other side has said goodbye; -EAGAIN it needs to read; else it is broken. */
static int came_to(conn *c, int rc)
{
    if (rc > 0)
        return 1;
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return break_by_queue(c);
    }
}

static int cut_off(void)
{
    return weft_fail_text(-ENODATA, "TLS: the connection ended without a goodbye (close_notify)");
}

/* ---- the handshake; also what of a later message is outstanding */

/* A server of TLS 1.3 has nothing more to send then but tickets. They go with what is read or written next: the client need
 * not wait for them, and may send all that it wants to say, and leave. */
static bool all_but_tickets(const conn *c)
{
    return SSL_is_server(c->ssl) && SSL_is_init_finished(c->ssl) && SSL_version(c->ssl) >= TLS1_3_VERSION;
}

static int settle(conn *c)
{
    int rc = c->broken;
    while (rc == 0) {
        ERR_clear_error();
        int came = came_to(c, SSL_do_handshake(c->ssl));
        rc = came == 1 && all_but_tickets(c) ? 0 : drain(c);
        if (came == 0)
            return cut_off();
        if (came != -EAGAIN)
            return came < 0 ? came : rc;
        if (rc == 0 && (rc = fill(c)) >= 0)
            rc = rc == 0 ? cut_off() : 0;
    }
    return rc;
}

/* What was agreed on. */
static int opened(conn *c, int rc)
{
    const unsigned char *name;
    unsigned n;
    if (rc < 0)
        return c->broken < 0 ? broken(c) : rc;
    SSL_get0_alpn_selected(c->ssl, &name, &n);
    if (n > 0 && n < sizeof c->alpn)
        memcpy(c->alpn, name, n);
    c->version = SSL_get_version(c->ssl);
    c->cipher = SSL_get_cipher_name(c->ssl);
    c->peer = SSL_get1_peer_certificate(c->ssl);
    c->open = true;
    return 0;
}

static int shake_hands(conn *c)
{
    weft_scope within;
    weft_scope_begin(&within, c->tls->handshake);
    lock(c);
    int rc = opened(c, settle(c));
    unlock(c);
    rc = weft_scope_end(&within, rc);
    if (rc == -ETIMEDOUT)
        rc = weft_fail(rc, "TLS: %.40s%sno handshake within %lld ms", c->host, c->host[0] ? ": " : "",
                (long long)(c->tls->handshake / weft_ms(1)));
    lock(c);
    if (rc < 0 && c->broken == 0) {
        snprintf(c->text, sizeof c->text, "%s", weft_error_text(rc));
        c->broken = rc == -ECANCELED || rc == -ETIMEDOUT ? -EPIPE : rc; /* by then it is not the caller's own any more */
    }
    unlock(c);
    return rc;
}

/* ---- the layer */

static int usable(const conn *c)
{
    return c->broken < 0 ? c->broken : c->open ? 0 : -EBUSY;
}

/* Whether OpenSSL would only ask for more. */
static bool has_nothing(const conn *c)
{
    return weft__tls_held(&c->in) == 0 && !SSL_has_pending(c->ssl) && !(SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN);
}

/* L5. OpenSSL's word on each message, from within its calls. */
static void on_message(int sent, int version, int type, const void *buf, size_t n, SSL *ssl, void *arg)
{
    conn *c = arg;
    (void)version, (void)buf, (void)n, (void)ssl;
    if (sent || type != SSL3_RT_HANDSHAKE || !c->open || ++c->useless <= USELESS)
        return;
    c->in.at = c->in.end;
}

/* One call, under the lock: as came_to. */
static int decrypt(conn *c, void *buf, size_t n, size_t *got)
{
    int rc = usable(c);
    if (rc < 0)
        return c->broken < 0 ? broken(c) : rc;
    if (has_nothing(c))
        return -EAGAIN;
    ERR_clear_error();
    rc = came_to(c, SSL_read_ex(c->ssl, buf, n, got));
    if (rc == 1)
        c->useless = 0;
    if (c->useless > USELESS && c->broken == 0)
        rc = break_off(c, -EPROTO, "too many messages without data");
    if (unsent(c) > UNSENT + 2 * AT_ONCE)
        rc = break_off(c, -EPROTO, "too many requests for answers that are not read");
    return rc;
}

static int read_some(conn *c, void *buf, size_t n)
{
    size_t got = 0;
    int rc;
    while ((rc = decrypt(c, buf, n, &got)) == -EAGAIN) {
        if ((rc = drain_before_reading(c)) < 0 || (rc = fill(c)) < 0)
            return rc;
        if (rc == 0)
            return cut_off();
    }
    return rc > 0 ? (int)got : rc;
}

static int tls_read(void *self, void *buf, size_t n)
{
    conn *c = self;
    int rc = weft_check();
    if (rc < 0)
        return rc;
    lock(c);
    rc = read_some(c, buf, n);
    unlock(c);
    return rc;
}

/* Of the pieces as much as OpenSSL takes, *taken; as came_to. */
static int encrypt(conn *c, const struct iovec *v, int n, size_t *taken)
{
    for (; n > 0; v++, n--)
        for (size_t at = 0, did; at < v->iov_len; at += did, *taken += did) {
            size_t most = AT_ONCE - *taken;
            if (most == 0)
                return 1;
            ERR_clear_error();
            int rc = came_to(c,
                    SSL_write_ex(c->ssl, (char *)v->iov_base + at, most < v->iov_len - at ? most : v->iov_len - at, &did));
            if (rc <= 0)
                return rc < 0 ? rc : -EPIPE;
        }
    return 1;
}

/* What was left by a call that was cancelled goes first. */
static int ready_to_write(conn *c)
{
    int rc = usable(c);
    if (rc < 0)
        return c->broken < 0 ? broken(c) : rc;
    return c->said_goodbye ? -EPIPE : drain(c);
}

static int write_some(conn *c, const struct iovec *v, int n)
{
    size_t taken = 0;
    int rc;
    while ((rc = ready_to_write(c)) == 0 && (rc = encrypt(c, v, n, &taken)) == -EAGAIN && taken == 0) {
        if ((rc = drain(c)) < 0 || (rc = fill(c)) < 0)
            return rc;
        if (rc == 0)
            return cut_off();
    }
    c->owed = c->owed || taken > 0;
    bool stays = rc != -ECANCELED;
    if (stays) /* who was told to leave does not try again; an alert goes out */
        (void)drain(c);
    if (taken == 0)
        return rc < 0 ? rc : 0;
    return stays && c->unsendable < 0 ? c->unsendable : (int)taken; /* L4 */
}

static int tls_writev(void *self, const struct iovec *v, int n)
{
    conn *c = self;
    int rc = weft_check();
    if (rc < 0)
        return rc;
    lock(c);
    rc = write_some(c, v, n);
    unlock(c);
    return rc;
}

/* All that was written, and that it was all. OpenSSL refuses the latter in the middle of a message. */
static int say_goodbye(conn *c)
{
    int rc = ready_to_write(c);
    if (c->said_goodbye)
        return drain(c);
    if (rc == 0 && SSL_in_init(c->ssl))
        rc = settle(c);
    if (rc < 0)
        return rc;
    ERR_clear_error();
    if (SSL_shutdown(c->ssl) < 0)
        return break_by_queue(c);
    c->said_goodbye = true;
    return drain(c);
}

static int tls_shutdown(void *self)
{
    conn *c = self;
    lock(c);
    int rc = say_goodbye(c);
    unlock(c);
    return rc;
}

/* Until the other side has said goodbye, too, or has gone. Closed earlier, with something unread (a ticket that nobody
 * asked for), TCP would take back what is still on its way to it. */
static int hear_goodbye(conn *c)
{
    char gone[512];
    int rc;
    do {
        rc = read_some(c, gone, sizeof gone);
    } while (rc > 0);
    return rc == -ECANCELED ? rc : 0;
}

static int part(conn *c)
{
    lock(c);
    int rc = c->broken < 0 ? broken(c) : usable(c);
    if (rc == 0) {
        rc = say_goodbye(c);
        if (rc == 0)
            rc = hear_goodbye(c);
        else if (!c->owed && (rc == -EPIPE || rc == -ECONNRESET))
            rc = 0; /* it has gone before, and missed nothing of the stream */
    }
    unlock(c);
    return rc;
}

static void let_go(conn *c)
{
    lock(c);
    SSL_free(c->ssl);
    X509_free(c->peer);
    weft__tls_empty(&c->in);
    weft__tls_empty(&c->out);
    weft__tls_empty(&c->now);
    unlock(c);
    pthread_mutex_destroy(&c->lock);
    weft__tls_release(c->tls, c->set);
    weft__tls_unref(c->tls);
    OPENSSL_free(c);
}

static int tls_close(void *self)
{
    conn *c = self;
    weft_scope within;
    weft_scope_begin(&within, c->tls->shutdown);
    int rc = weft_scope_end(&within, part(c)), closed = 0;
    if (rc == 0)
        closed = c->below.ops->close(c->below.self);
    else
        c->below.ops->drop(c->below.self);
    let_go(c);
    return rc < 0 ? rc : closed;
}

static void tls_drop(void *self)
{
    conn *c = self;
    c->below.ops->drop(c->below.self);
    let_go(c);
}

static int tls_fd(void *self)
{
    conn *c = self;
    return c->below.ops->fd(c->below.self);
}

static const weft_carrier_ops ops = { tls_read, tls_writev, tls_shutdown, tls_close, tls_drop, tls_fd };

/* ---- upgrading a stream */

static bool put_between(conn *c)
{
    BIO *in = weft__tls_bio(&c->in), *out = weft__tls_bio(&c->out);
    if (!in || !out) {
        BIO_free(in);
        BIO_free(out);
        return false;
    }
    SSL_set_bio(c->ssl, in, out);
    SSL_set_app_data(c->ssl, c);
    SSL_set_msg_callback(c->ssl, on_message);
    SSL_set_msg_callback_arg(c->ssl, c);
    return true;
}

static bool is_address(const char *host)
{
    struct in6_addr a;
    return inet_pton(AF_INET, host, &a) == 1 || inet_pton(AF_INET6, host, &a) == 1;
}

/* Whom the certificate has to be for. A name is sent, too; an address must not be (RFC 6066). */
static bool expect_host(conn *c)
{
    SSL_set_hostflags(c->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_address(c->host))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), c->host) == 1;
    return SSL_set1_host(c->ssl, c->host) == 1 && SSL_set_tlsext_host_name(c->ssl, c->host) == 1;
}

static void resume(conn *c)
{
    SSL_SESSION *session = weft__tls_take(c->tls, c->host);
    if (session)
        (void)SSL_set_session(c->ssl, session); /* if not, it is a full handshake */
    SSL_SESSION_free(session);
}

static int set_up_client(conn *c)
{
    SSL_set_connect_state(c->ssl);
    SSL_set_verify(c->ssl, c->tls->trust_anyone ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (!c->host[0])
        return 0;
    ERR_clear_error();
    if (!expect_host(c))
        return weft__tls_explain(c->text, "host", -EINVAL);
    resume(c);
    return 0;
}

static int set_up_server(conn *c)
{
    SSL_set_accept_state(c->ssl);
    SSL_set_verify(
            c->ssl, c->tls->ask ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE, NULL);
    return 0;
}

/* Over the stream, and the handshake. */
static int upgrade(weft_tls *t, weft_stream *s, const char *host, size_t n, int (*set_up)(conn *c))
{
    conn *c = OPENSSL_zalloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    pthread_mutex_init(&c->lock, NULL);
    c->tls = weft__tls_ref(t);
    c->set = weft__tls_hold(t);
    if (n > 0)
        memcpy(c->host, host, n);
    lock(c);
    c->ssl = SSL_new(c->set->ctx);
    int rc = c->ssl && put_between(c) ? set_up(c) : -ENOMEM;
    ERR_clear_error();
    unlock(c);
    if (rc == 0)
        rc = weft_stream_layer(s, &(weft_carrier){ &ops, c }, &c->below);
    if (rc < 0) {
        let_go(c);
        return rc;
    }
    return shake_hands(c);
}

int weft_tls_client(weft_tls *t, weft_stream *s, const char *host)
{
    size_t n = host ? strlen(host) : 0;
    if (n > 0 && host[n - 1] == '.')
        n--; /* the root's dot is in no certificate */
    if (!t || !s || (host ? n == 0 || n >= WEFT__TLS_NAME : !t->trust_anyone))
        return -EINVAL;
    return upgrade(t, s, host, n, set_up_client);
}

int weft_tls_server(weft_tls *t, weft_stream *s)
{
    if (!t || !s || !t->serves)
        return -EINVAL;
    return upgrade(t, s, NULL, 0, set_up_server);
}

/* NULL: the stream is not TLS. */
static const conn *conn_of(const weft_stream *s)
{
    weft_carrier of = s ? weft_stream_carrier(s) : (weft_carrier){ NULL, NULL };
    return of.ops == &ops ? of.self : NULL;
}

const char *weft_tls_alpn(const weft_stream *s)
{
    const conn *c = conn_of(s);
    return c && c->alpn[0] ? c->alpn : NULL;
}

const char *weft_tls_server_name(const weft_stream *s)
{
    const conn *c = conn_of(s);
    return c && c->open && c->asked[0] ? c->asked : NULL;
}

const char *weft_tls_version(const weft_stream *s)
{
    const conn *c = conn_of(s);
    return c ? c->version : NULL;
}

const char *weft_tls_cipher(const weft_stream *s)
{
    const conn *c = conn_of(s);
    return c ? c->cipher : NULL;
}

int weft_tls_peer_name(const weft_stream *s, char *out, size_t bytes)
{
    const conn *c = conn_of(s);
    if (!c || !out || bytes == 0)
        return -EINVAL;
    out[0] = 0;
    if (!c->peer)
        return 0;
    ERR_set_mark(); /* what others have left in the thread's queue stays, and nothing of ours does */
    BIO *b = BIO_new(BIO_s_mem());
    int n = b ? X509_NAME_print_ex(b, X509_get_subject_name(c->peer), 0, XN_FLAG_RFC2253) : -1;
    int rc = n < 0 ? -ENOMEM : (size_t)n >= bytes ? -ENOSPC : n;
    if (rc > 0 && BIO_read(b, out, rc) != rc)
        rc = -ENOMEM;
    out[rc > 0 ? rc : 0] = 0;
    BIO_free(b);
    ERR_pop_to_mark();
    return rc;
}

int weft_tls_peer_certificate(const weft_stream *s, void *out, size_t bytes)
{
    const conn *c = conn_of(s);
    if (!c || !out)
        return -EINVAL;
    if (!c->peer)
        return 0;
    ERR_set_mark();
    unsigned char *der = NULL;
    int n = i2d_X509(c->peer, &der);
    int rc = n <= 0 ? -ENOMEM : (size_t)n > bytes ? -ENOSPC : n;
    if (rc > 0)
        memcpy(out, der, (size_t)rc);
    OPENSSL_free(der);
    ERR_pop_to_mark();
    return rc;
}

/* "host:port" without the port and without brackets; false: there is no host. */
static bool host_of(char host[WEFT__TLS_NAME], const char *where)
{
    const char *end = where ? strrchr(where, ':') : NULL;
    if (!end || end == where || strncmp(where, "unix:", 5) == 0)
        return false;
    if (*where == '[' && end[-1] == ']') {
        where++;
        end--;
    }
    size_t n = (size_t)(end - where);
    if (n == 0 || n >= WEFT__TLS_NAME)
        return false;
    memcpy(host, where, n);
    host[n] = 0;
    return true;
}

int weft_tls_connect(weft_stream **out, const char *where, weft_tls *t)
{
    char host[WEFT__TLS_NAME];
    weft_stream *s;
    if (!out || !t || !host_of(host, where))
        return -EINVAL;
    int fd = weft_connect(where, NULL), rc = fd;
    if (fd < 0)
        return rc;
    if ((rc = weft_stream_open(&s, fd, NULL)) < 0) {
        weft_close(fd);
        return rc;
    }
    if ((rc = weft_tls_client(t, s, host)) < 0) {
        weft_stream_drop(&s);
        return rc;
    }
    *out = s;
    return 0;
}
