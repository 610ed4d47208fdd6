/* tls/buffer.c - what OpenSSL reads from and writes to, instead of a socket.
 *
 * Owns      the memory of a buffer, and the kind of BIO that is over one.
 * Callers   conn.c, and OpenSSL from within its calls: all under the connection's lock.
 * Holds     B1  reading from an empty buffer asks for a retry, so OpenSSL comes back to us when it needs more; writing
 *               always succeeds but for memory. So no call of OpenSSL's ever waits, and none is half done with a write,
 *               which it could not bear (openssl/openssl#8677).
 * Memory    by OpenSSL's allocator, as all of this library: who replaces it sees everything.
 * Tested    tests/tls_test.c */
#include <pthread.h>
#include <string.h>

#include "tls/tls.h"

bool weft__tls_room(struct weft__tls_buffer *b, size_t bytes)
{
    if (b->at == b->end)
        b->at = b->end = 0;
    if (b->size - b->end >= bytes)
        return true;
    size_t held = weft__tls_held(b), size = held + bytes;
    size = size < 2 * b->size ? 2 * b->size : size;
    char *p = OPENSSL_malloc(size);
    if (!p)
        return false;
    if (held > 0)
        memcpy(p, b->p + b->at, held);
    OPENSSL_free(b->p);
    *b = (struct weft__tls_buffer){ .p = p, .end = held, .size = size };
    return true;
}

void weft__tls_empty(struct weft__tls_buffer *b)
{
    OPENSSL_free(b->p);
    *b = (struct weft__tls_buffer){ 0 };
}

static int bio_read(BIO *bio, char *to, size_t n, size_t *got)
{
    struct weft__tls_buffer *b = BIO_get_data(bio);
    size_t held = weft__tls_held(b);
    BIO_clear_retry_flags(bio);
    if (held == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    *got = n < held ? n : held;
    memcpy(to, b->p + b->at, *got);
    b->at += *got;
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t n, size_t *done)
{
    struct weft__tls_buffer *b = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!weft__tls_room(b, n))
        return -1;
    memcpy(b->p + b->end, from, n);
    b->end += n;
    *done = n;
    return 1;
}

static long bio_ctrl(BIO *bio, int what, long n, void *p)
{
    (void)bio, (void)n, (void)p;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

/* Static objects of OpenSSL's are never freed either: a thread may still be in a call when the process ends. */
static void make_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft");
    if (!m)
        return;
    BIO_meth_set_read_ex(m, bio_read);
    BIO_meth_set_write_ex(m, bio_write);
    BIO_meth_set_ctrl(m, bio_ctrl);
    method = m;
}

BIO *weft__tls_bio(struct weft__tls_buffer *b)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (!method)
        make_method(); /* tried again if there was no memory */
    BIO_METHOD *m = method;
    pthread_mutex_unlock(&lock);
    BIO *bio = m ? BIO_new(m) : NULL;
    if (!bio)
        return NULL;
    BIO_set_data(bio, b);
    BIO_set_init(bio, 1);
    return bio;
}
