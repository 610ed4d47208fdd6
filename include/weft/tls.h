/* weft/tls.h - TLS 1.2 and 1.3 over a stream, by OpenSSL 3: libweft-tls, beside libweft.
 *
 * A stream is upgraded in place: after weft_tls_client or weft_tls_server its calls (stream.h) read and write as before,
 * through TLS, and its close says goodbye. What TLS adds to them:
 *
 * - An end that was not announced (close_notify) is no end: reading returns -ENODATA, as something in the middle was cut
 *   off by the network, or by somebody in it. A protocol with ends of its own may put up with that.
 * - weft_stream_close tells the other side and waits until that has answered or closed, for the time of .shutdown at most;
 *   then it is closed, and -ETIMEDOUT returned. weft_stream_drop does neither. weft_stream_shutdown tells, and reading goes
 *   on.
 * - A write that was cancelled may have been taken and not sent: it is sent by the next call that reads, writes or closes.
 * - An error of TLS's own is for good, for both directions, and weft_error_text has it in words.
 *
 * The other side's certificate is verified by default, and of a server also that it is for the host that was asked for.
 *
 * errors     beside those of the stream
 *            -ECANCELED     told to leave
 *            -EKEYREJECTED  the certificate is not trusted, or another host's
 *            -EKEYEXPIRED   it has expired
 *            -EPROTO        the other side refuses (it does not trust ours), does not speak TLS, or sends 32 messages on end (new
 *                           keys, tickets) without a byte of data
 *            -ENODATA       the connection ended in the middle
 *            -ETIMEDOUT     .handshake or .shutdown has passed
 */
#ifndef WEFT_TLS_H
#define WEFT_TLS_H

#include <weft/base.h>
#include <weft/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Certificates, whom to trust, and sessions to resume: for any number of connections, of clients and servers. */
typedef struct weft_tls weft_tls;

/* How to speak TLS. All zero, or NULL, are the defaults: a client that trusts the system's authorities. */
typedef struct weft_tls_options {
    const char *cert_file;         /* ours, with its chain, as PEM; a server has to have one (and more: add_cert); NULL: none */
    const char *key_file;          /* its private key, as PEM, not encrypted; NULL: it is in cert_file */
    const char *ca_file;           /* authorities to trust, as PEM, instead of the system's; NULL: those */
    const char *alpn;              /* protocols, the preferred first, as "h2,http/1.1"; NULL: none. A server takes the first
                                      of its own that is offered, and refuses a client that offers others only */
    bool ask_client_cert;          /* a server asks for a certificate of one of ca_file, and refuses who has none */
    bool dangerously_trust_anyone; /* a client verifies nothing: anybody in between can read and change everything */
    int64_t handshake;             /* ns for a handshake; 0: 60 s; WEFT_NEVER: none */
    int64_t shutdown;              /* ns for a close, as above; 0: 30 s; WEFT_NEVER: none */
    uint64_t reserved[8];          /* zero */
} weft_tls_options;

/* Reads the files, on a thread for such calls.
 *
 * returns    0; -ENOENT, -EACCES, ... a file could not be read; -EINVAL bad options, or what is in a file is not right, as
 *            weft_error_text says; -ENOMEM; -ECANCELED
 * on error   *out is untouched
 * context    task: suspends, cancellation point (nothing is made); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_tls_create(weft_tls **out, const weft_tls_options *o);

/* Lets it go, and sets *t to NULL; NULL in *t: nothing is done. Connections go on. Nobody may be in a call that takes it.
 *
 * context    any thread: never suspends */
WEFT_API void weft_tls_destroy(weft_tls **t);

/* Adds a certificate, for clients that ask a server for one of its names (SNI). Its files are as cert_file and key_file; its
 * subjectAltName has the name, or has it as "*.example.test", with anything but a dot in the star's place. The name itself
 * goes before such a one; cert_file is for its own names, and wherever no other fits, also if none was asked for. Of two for a
 * name the first is used, unless their keys are of two kinds, and the client knows the second's only. Handshakes that begin
 * after it may use it.
 *
 * returns    0; as weft_tls_create; -EINVAL also without cert_file in the options, and if it has no name
 * on error   all is as it was
 * context    task: suspends, cancellation point (nothing changes); plain thread: blocks it. At any time, beside handshakes */
WEFT_CHECK WEFT_API int weft_tls_add_cert(weft_tls *t, const char *cert_file, const char *key_file);

/* Reads the files again, also those that were added, all or nothing: new certificates, without a restart. Handshakes that
 * begin after it use them; connections go on with what they have, and no session from before is resumed.
 *
 * returns    0; as weft_tls_create
 * on error   all is as it was
 * context    task: suspends, cancellation point (nothing changes); plain thread: blocks it. At any time, beside handshakes */
WEFT_CHECK WEFT_API int weft_tls_reload(weft_tls *t);

/* Makes TLS of the stream, as a client, and shakes hands. `host` is whom the certificate has to be for: a name, which is also
 * sent (SNI), or an IP address; NULL only with dangerously_trust_anyone. In the middle of a stream, too (STARTTLS), once all
 * was flushed and the other side's go-ahead was read: bytes that were read ahead are refused, as anybody could have put them
 * there. The last session with the host is resumed if the server agrees.
 *
 * returns    0; -EBUSY bytes are kept or were read ahead, or somebody is in a call: nothing was changed; -EINVAL; -ENOMEM
 * on error   but for these three nothing can be read or written any more: close or drop the stream
 * context    task: suspends, cancellation point (the stream is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_tls_client(weft_tls *t, weft_stream *s, const char *host);

/* The same as a server, by cert_file, or what was added for the name that the client asks for. A session is resumed for the
 * name only with which it was begun.
 *
 * returns    0; -EBUSY; -EINVAL also without cert_file; -ENOMEM
 * on error   but for these three nothing can be read or written any more: close or drop the stream
 * context    task: suspends, cancellation point (the stream is lost); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_tls_server(weft_tls *t, weft_stream *s);

/* The protocol that was agreed on by ALPN; NULL: none, or the stream is not TLS. Valid as long as the stream.
 *
 * context    any thread: never suspends */
WEFT_API const char *weft_tls_alpn(const weft_stream *s);

/* The name that the client asked for (SNI), in lower case: a server's. It is the client's word, and need not be in any
 * certificate; it has letters, digits, '-', '_' and '.' only. NULL: none, or one with other signs, or the stream is not TLS,
 * or a client's. Valid as long as the stream.
 *
 * context    any thread: never suspends */
WEFT_API const char *weft_tls_server_name(const weft_stream *s);

/* What was agreed on in the handshake, in OpenSSL's words: "TLSv1.3", and "TLS_AES_256_GCM_SHA384"; NULL: the stream is not
 * TLS. Valid for ever.
 *
 * context    any thread: never suspends */
WEFT_API const char *weft_tls_version(const weft_stream *s);
WEFT_API const char *weft_tls_cipher(const weft_stream *s);

/* Whom the certificate of the other side names, its subject as RFC 2253 writes it: "CN=client,O=example". It was verified,
 * unless dangerously_trust_anyone says otherwise; of a client a server sees one only with ask_client_cert. A server's
 * subject is not the name that was verified: that is the host.
 *
 * returns    the length; 0 it has shown none; -ENOSPC it does not fit with its end; -EINVAL not TLS; -ENOMEM. `out` is a
 *            string in any case but -EINVAL
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_tls_peer_name(const weft_stream *s, char *out, size_t bytes);

/* That certificate itself, as DER: for what else it says, and to compare or hash.
 *
 * returns    how many bytes; 0 it has shown none; -ENOSPC; -EINVAL not TLS; -ENOMEM
 * on error   `out` is untouched
 * context    any thread: never suspends */
WEFT_CHECK WEFT_API int weft_tls_peer_certificate(const weft_stream *s, void *out, size_t bytes);

/* Connects to "host:port" (net.h), opens a stream, and shakes hands with that host. On an error nothing stays open.
 *
 * returns    0; as weft_connect, weft_stream_open and weft_tls_client
 * on error   *out is untouched
 * context    task: suspends, cancellation point (the attempt is given up); plain thread: blocks it */
WEFT_CHECK WEFT_API int weft_tls_connect(weft_stream **out, const char *where, weft_tls *t);

#ifdef __cplusplus
}
#endif

#endif
