/* tls/tls.h - the inside of libweft-tls, for its parts. Of weft it takes the public headers only. */
#ifndef WEFT_TLS_TLS_H
#define WEFT_TLS_TLS_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <weft/sync.h>
#include <weft/tls.h>

enum {
    WEFT__TLS_TEXT = 108,    /* bytes of a failure's words */
    WEFT__TLS_NAME = 256,    /* of a host, or of a protocol, with the zero */
    WEFT__TLS_SESSIONS = 64, /* that a client keeps */
};

/* ---- enter.c */

#if defined(__SANITIZE_THREAD__)
#define WEFT__TLS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT__TLS_TSAN 1
#endif
#endif
#ifndef WEFT__TLS_TSAN
#define WEFT__TLS_TSAN 0
#endif

/* Around calls of OpenSSL's in a task. */
#if WEFT__TLS_TSAN
void weft__tls_enter(void);
void weft__tls_leave(void);
#else
static inline void weft__tls_enter(void)
{
}
static inline void weft__tls_leave(void)
{
}
#endif

/* ---- names.c */

/* One of a server's, as it was read. Written once, before others see it, but for `users`. */
struct weft__tls_cert {
    int users; /* sets that have it; N1 */
    char *cert_file, *key_file;
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) *chain;
    char *names; /* whom it is for, each with a zero behind */
    size_t names_n, names_bytes;
};

struct weft__tls_name {
    const char *name; /* the certificate's */
    int cert;
};

/* What there is at a time. Written once, before others see it, but for `users`. */
struct weft__tls_set {
    int users; /* N1 */
    SSL_CTX *ctx;
    struct weft__tls_cert **certs; /* the first is the default, and in `ctx` as well */
    int n;                         /* 0: it is a client's */
    struct weft__tls_name *names;  /* of all, in order */
    size_t names_n;
};

/* Whom it is for, into c->names; false: no memory, or what it says is not right. */
bool weft__tls_read_names(struct weft__tls_cert *c);
void weft__tls_free_cert(struct weft__tls_cert *c);
/* Of what is in it only the SSL_CTX is counted yet. NULL: no memory. */
struct weft__tls_set *weft__tls_make_set(SSL_CTX *ctx, struct weft__tls_cert *const certs[], int n);
/* Without its certificates. */
void weft__tls_free_set(struct weft__tls_set *s);
/* For OpenSSL to call: with a client's hello; and whether it is told that its name was of use. */
int weft__tls_hello(SSL *ssl, int *alert, void *arg);
int weft__tls_acknowledge(SSL *ssl, int *alert, void *arg);

/* ---- context.c */

struct weft__tls_session {
    SSL_SESSION *session; /* NULL: the place is free */
    uint64_t age;         /* the smallest is the oldest */
    char host[WEFT__TLS_NAME];
};

struct weft_tls {
    /* Written once, before others see it. */
    char *ca_file;
    unsigned char alpn[WEFT__TLS_NAME]; /* as it is sent: each with its length in front */
    unsigned alpn_bytes;
    bool ask, trust_anyone;
    bool serves; /* it has a certificate */
    int64_t handshake, shutdown;
    /* Under the lock, which is never held over a suspension or a file's reading. */
    pthread_mutex_t lock;
    int users;
    struct weft__tls_set *set; /* of handshakes that begin now */
    uint64_t clock;
    struct weft__tls_session sessions[WEFT__TLS_SESSIONS];
};

weft_tls *weft__tls_ref(weft_tls *t);
void weft__tls_unref(weft_tls *t);
/* What there is now, the caller's to let go. */
struct weft__tls_set *weft__tls_hold(weft_tls *t);
void weft__tls_release(weft_tls *t, struct weft__tls_set *s);
/* The latest session with the host, the caller's to free; NULL: none. One of TLS 1.3 is handed out once (RFC 8446, C.4). */
SSL_SESSION *weft__tls_take(weft_tls *t, const char *host);
/* Keeps a session, of which it takes the reference, and forgets the oldest; false: it is not wanted. */
bool weft__tls_keep(weft_tls *t, SSL *ssl, const char *host, SSL_SESSION *session);
/* What OpenSSL's queue of this thread says, in words; the result for it. Empties the queue. */
int weft__tls_explain(char text[WEFT__TLS_TEXT], const char *what, int otherwise);

/* ---- buffer.c */

/* Bytes p[at .. end), of memory that goes when they are gone. */
struct weft__tls_buffer {
    char *p;
    size_t at, end, size;
};

static inline size_t weft__tls_held(const struct weft__tls_buffer *b)
{
    return b->end - b->at;
}
bool weft__tls_room(struct weft__tls_buffer *b, size_t bytes);
void weft__tls_empty(struct weft__tls_buffer *b);
/* A BIO that reads from a buffer, or writes to one; NULL: no memory. */
BIO *weft__tls_bio(struct weft__tls_buffer *b);

/* ---- conn.c */

/* One end of a connection: the layer. */
struct weft__tls_conn {
    weft_tls *tls;
    struct weft__tls_set *set; /* what there was when it began */
    char host[WEFT__TLS_NAME]; /* a client's; empty: none */
    /* Written by a client's hello. */
    char asked[WEFT__TLS_NAME]; /* a server's: the name; empty: none */
    bool chosen;                /* there is a certificate for it */
    /* Written at the end of the handshake. */
    char alpn[WEFT__TLS_NAME]; /* empty: none */
    const char *version, *cipher; /* OpenSSL's; NULL: not yet */
    X509 *peer;                /* what the other side has shown; NULL: nothing */
    weft_carrier below;
    /* Under the lock. */
    pthread_mutex_t lock;
    SSL *ssl;
    struct weft__tls_buffer in;       /* L2: came and was not taken by OpenSSL */
    struct weft__tls_buffer out, now; /* L3: OpenSSL's, to be sent; and what is being sent */
    bool open;                        /* the handshake is done */
    bool ended;                       /* below has no more to read */
    bool said_goodbye;
    bool owed;                        /* L4: of what is to be sent some is the stream's, and not TLS's own */
    int useless;                      /* L5: messages since the last byte that was read */
    bool filling, sending;            /* somebody reads, or writes, below */
    bool wants_fill, wants_send;      /* the other one waits for that */
    int broken;                       /* TLS's own error, for good */
    int unsendable;                   /* below's error of writing, for good */
    char text[WEFT__TLS_TEXT];        /* of `broken` */
    weft_notify filled, sent;
};

#endif
