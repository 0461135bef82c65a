/* TLS connections between the stream agents of nodes (ALPN "pando-stream/1"): who is at the other end is certified; nothing here about
 * what the bytes mean. Loop thread only.
 *
 * Happy path: tls_streams_new; tls_streams_listen, then cfg.accept for each connection of a member whose handshake is done;
 * tls_stream_connect, then on_open when the wanted node has shown its certificate; on_data ...; tls_stream_close.
 * Failures: nobody there, no handshake within 5 s, another node than wanted: on_end, once, after which only tls_stream_close
 * may be called. Who connects and is no member, or has no certificate of the cluster, is refused with one log line per address and 10 s; one
 * source has at most 16 unfinished handshakes.
 *
 * No callback runs from within a function of this file; tls_stream_close may be called within any callback, none follows. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct pki;
struct tls_stream;
struct tls_streams;

struct tls_stream_ops {
	void (*on_open)(void *ctx); /* not for accepted ones: they are open */
	void (*on_data)(void *ctx, const uint8_t *p, size_t n);
	void (*on_sent)(void *ctx); /* the kernel took some of the queue */
	void (*on_end)(void *ctx, const char *why);
};

struct tls_streams_config {
	uv_loop_t *loop;       /* borrowed */
	const struct pki *pki; /* borrowed, outlives all streams */
	void *ctx;
	int (*is_member)(void *ctx, uint16_t node);
	/* A member has connected; s is the callee's, which calls tls_stream_use or tls_stream_close before it returns. */
	void (*accept)(void *ctx, struct tls_stream *s, uint16_t node, const char *from);
};

/* On 0 the caller owns *ret. */
int tls_streams_new(const struct tls_streams_config *cfg, struct tls_streams **ret, struct err *e) __attribute__((warn_unused_result));

/* Listens at addr (numeric host:port, port 0: any), once. */
int tls_streams_listen(struct tls_streams *n, const char *addr, struct err *e) __attribute__((warn_unused_result));

/* Where it listens, with the real port; "" when it does not. */
const char *tls_streams_listening(const struct tls_streams *n);

/* Stops listening, ends unfinished handshakes. n is freed when all its streams are closed. */
void tls_streams_close(struct tls_streams *n);

/* Connects to node at addr (host:port; a name is looked up). On 0 tls_stream_close must be called at some time. ops is borrowed. */
int tls_stream_connect(struct tls_streams *n, uint16_t node, const char *addr, const struct tls_stream_ops *ops, void *ctx,
		       struct tls_stream **ret, struct err *e) __attribute__((warn_unused_result));

/* Callbacks of an accepted stream. */
void tls_stream_use(struct tls_stream *s, const struct tls_stream_ops *ops, void *ctx);

/* Queues a copy; it goes out at tls_stream_flush at the latest. -ENOMEM, -EPIPE (on_end follows). */
int tls_stream_write(struct tls_stream *s, const void *p, size_t n) __attribute__((warn_unused_result));
void tls_stream_flush(struct tls_stream *s);
size_t tls_stream_queued(const struct tls_stream *s);
void tls_stream_close(struct tls_stream *s);
