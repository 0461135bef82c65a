/* Byte channels between agents, behind one interface: TLS between nodes (chan_tls.h), plain TCP for tests (chan_plain.h).
 *
 * Loop thread only. A channel ends in exactly one way: chan_close by its user (then no callback comes any more), or on_close (the
 * channel is gone when it returns). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct chan;

struct chan_cb {
	void *ctx;
	void (*on_open)(void *ctx);  /* a connection that we made is usable */
	void (*on_data)(void *ctx, const uint8_t *p, size_t n);
	void (*on_drain)(void *ctx); /* the queue went below CHAN_LOW after it was above */
	void (*on_close)(void *ctx, const char *why);
};

enum { CHAN_LOW = 256 << 10, CHAN_HIGH = 1 << 20 };

/* What an implementation provides. */
struct chan_ops {
	int (*write)(struct chan *c, const void *p, size_t n);
	void (*flush)(struct chan *c);
	size_t (*queued)(const struct chan *c);
	void (*close)(struct chan *c);
};

struct chan {
	const struct chan_ops *ops;
	struct chan_cb cb;
	uint16_t node; /* as certified; 0: the implementation does not know (tests) */
	char from[64]; /* address, for words */
};

/* Queues a copy of n bytes; they go out at chan_flush at the latest. -ENOMEM. */
int chan_write(struct chan *c, const void *p, size_t n);
void chan_flush(struct chan *c);

/* Bytes queued here and not yet taken by the kernel. */
size_t chan_queued(const struct chan *c);

/* c is gone for the caller. NULL is fine. Returns NULL. */
struct chan *chan_close(struct chan *c);

/* A way to make and to accept channels. */
struct chan_net {
	/* Connects to node at addr (host:port); on 0 *ret is the caller's. Failures to connect come as on_close. */
	int (*connect)(struct chan_net *n, uint16_t node, const char *addr, const struct chan_cb *cb, struct chan **ret, struct err *e);
	/* Listens at addr; each accepted channel goes to accept, which sets c->cb before it returns. */
	int (*listen)(struct chan_net *n, const char *addr, void (*accept)(void *ctx, struct chan *c), void *ctx, struct err *e);
	/* Where it listens ("" when it does not), with the real port. */
	const char *(*listening)(struct chan_net *n);
	/* Stops listening; n is freed when the loop has run on. */
	void (*close)(struct chan_net *n);
};
