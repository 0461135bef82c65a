/* One TLS connection over a uv_tcp_t: bytes in, bytes out, nothing about what they mean. Loop thread only.
 *
 * Happy path: tls_new; tls_accept or tls_connect; on_open (handshake done, the peer's certificate is verified as the context says);
 * on_data ...; tls_write and tls_flush; tls_close; on_closed, after which t is gone.
 * Failures: connection refused or lost, handshake refused by either side, not TLS at all, damaged records: on_end with a negative
 * status, once; then only tls_close may be called. The other side has finished writing: on_end with 0; writing goes on.
 *
 * No callback is ever run from within a tls_* function, so callers need not fear re-entrance; tls_close may be called within any
 * callback, and none but on_closed follows. */
#pragma once

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct tls;

struct tls_ops {
	void (*on_open)(void *ctx);
	void (*on_data)(void *ctx, const uint8_t *p, size_t n); /* p is valid during the call */
	void (*on_sent)(void *ctx);                             /* the kernel took some of the queue; may be NULL */
	void (*on_end)(void *ctx, int status, const char *why);
	void (*on_closed)(void *ctx);
};

enum tls_side { TLS_CLIENT, TLS_SERVER };

/* ops is borrowed, of ssl_ctx a reference is taken. On 0 tls_close must be called at some time. */
int tls_new(uv_loop_t *loop, SSL_CTX *ssl_ctx, enum tls_side side, const struct tls_ops *ops, void *ctx, struct tls **ret)
	__attribute__((warn_unused_result));

/* Takes the next connection of a listener and begins the handshake. -errno: only tls_close is possible. */
int tls_accept(struct tls *t, uv_stream_t *listener) __attribute__((warn_unused_result));

/* Begins the handshake of an accepted connection (after a look at tls_peer). */
int tls_start(struct tls *t) __attribute__((warn_unused_result));

/* Connects and begins the handshake. -errno: only tls_close is possible. */
int tls_connect(struct tls *t, const struct sockaddr *to) __attribute__((warn_unused_result));

/* Queues a copy of n bytes, after on_open and before tls_shutdown. What is less than a TLS record waits for more, until tls_flush.
 * -ENOMEM, -EPIPE: the connection is of no use any more. */
int tls_write(struct tls *t, const void *p, size_t n) __attribute__((warn_unused_result));

/* Hands all that is queued to the kernel, as far as it takes it; the rest follows by itself. */
void tls_flush(struct tls *t);

/* Bytes queued that the kernel has not taken. */
size_t tls_queued(const struct tls *t);

/* Counters over the life of the connection, in bytes of the wire: all that was given to tls_write so far is taken by the kernel when
 * tls_sent reaches the tls_mark of now. tls_mark flushes. */
uint64_t tls_mark(struct tls *t);
uint64_t tls_sent(const struct tls *t);

/* No on_data from now on (pause != 0), or again. The kernel's buffer fills and the peer has to wait. */
void tls_pause(struct tls *t, int pause);

/* After what is queued: says that nothing more will be written, and closes this direction. */
void tls_shutdown(struct tls *t);

/* Closes at once; what the kernel has not taken is lost. */
void tls_close(struct tls *t);

/* Whether TCP is connected (the handshake may be under way). */
int tls_is_connected(const struct tls *t);

/* For certificates and ALPN, from on_open on; borrowed. */
const SSL *tls_ssl(const struct tls *t);

/* The other end's address; family AF_UNSPEC when there is none. Valid after tls_accept and tls_connect. */
const struct sockaddr *tls_peer(const struct tls *t);

/* For tests: keys are renewed after so many records (default 2^22, well within what AES-GCM allows under one key). */
void tls_rekey_after(struct tls *t, uint64_t records);
