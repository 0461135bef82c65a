#include "transport/tls_stream.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/addr.h"
#include "transport/gate.h"
#include "transport/listen.h"
#include "transport/pki.h"
#include "transport/tls.h"

enum { HANDSHAKE_MS = 5000, PER_SOURCE = 16, TOTAL = 256, HANDLES = 2 /* tls, timer */ };

struct lookup {
	uv_getaddrinfo_t req; /* first */
	struct tls_stream *s; /* NULL: nobody waits any more */
	uint16_t port;
};

struct tls_stream {
	struct tls_streams *n;
	struct tls *t;
	uv_timer_t timer;
	struct lookup *lookup;      /* under way */
	struct gate_source *source; /* unfinished handshake of one that was accepted */
	const struct tls_stream_ops *ops;
	void *ctx;
	uint16_t node;
	int is_dialer, is_open, is_closed;
	unsigned n_left;            /* handles not closed yet */
	char from[ADDR_TEXT_SIZE];
	struct tls_stream *prev, *next;
};

struct tls_streams {
	struct tls_streams_config cfg;
	SSL_CTX *server, *client; /* owned */
	struct gate *gate;        /* owned */
	struct listener *listener;
	struct tls_stream *streams; /* list */
	int is_closing, is_listener_gone;
};

static void net_release(struct tls_streams *n)
{
	if (!n->is_closing || n->streams || !n->is_listener_gone)
		return;
	SSL_CTX_free(n->server);
	SSL_CTX_free(n->client);
	(void)gate_free(n->gate);
	free(n);
}

static void part_closed(struct tls_stream *s)
{
	struct tls_streams *n = s->n;
	if (--s->n_left)
		return;
	DL_DELETE(n->streams, s);
	free(s);
	net_release(n);
}

static void tls_closed(void *ctx)
{
	part_closed(ctx);
}

static void timer_closed(uv_handle_t *h)
{
	part_closed(h->data);
}

void tls_stream_close(struct tls_stream *s)
{
	if (s->is_closed)
		return;
	s->is_closed = 1;
	s->source = gate_leave(s->n->gate, s->source);
	if (s->lookup) {
		s->lookup->s = NULL;
		(void)uv_cancel((uv_req_t *)&s->lookup->req); /* when it runs already, its end finds nobody */
	}
	tls_close(s->t);
	uv_close((uv_handle_t *)&s->timer, timer_closed);
}

/* The end of s for its user; one that has none yet is closed. */
static void stream_end(struct tls_stream *s, const char *why)
{
	(void)uv_timer_stop(&s->timer);
	if (!s->ops) {
		unsigned skipped;
		const struct sockaddr *sa = tls_peer(s->t);
		if (gate_may_log(s->n->gate, sa, clock_ms(), &skipped))
			log_warn("streams from=%s: %s: refused (%u more since the last line)", s->from, why, skipped);
		tls_stream_close(s);
		return;
	}
	s->ops->on_end(s->ctx, why);
}

static void on_timeout(uv_timer_t *t)
{
	stream_end(t->data, "no end of the handshake");
}

static void accepted(struct tls_stream *s)
{
	struct tls_streams *n = s->n;
	s->source = gate_leave(n->gate, s->source);
	if (!n->cfg.is_member(n->cfg.ctx, s->node)) {
		char why[64];
		(void)snprintf(why, sizeof why, "node %u is not a member", s->node);
		stream_end(s, why);
		return;
	}
	n->cfg.accept(n->cfg.ctx, s, s->node, s->from);
}

static void on_open(void *ctx)
{
	struct tls_stream *s = ctx;
	struct err e = { 0 };
	uint16_t node = 0;
	if (pki_use_of(tls_ssl(s->t)) != PKI_USE_STREAM) {
		stream_end(s, "did not agree on streams by ALPN");
		return;
	}
	if (pki_peer_node(s->n->cfg.pki, tls_ssl(s->t), &node, &e) < 0) {
		stream_end(s, e.text);
		return;
	}
	if (s->is_dialer && node != s->node) {
		(void)snprintf(e.text, sizeof e.text, "at the address of node %u is node %u", s->node, node);
		stream_end(s, e.text);
		return;
	}
	s->node = node;
	s->is_open = 1;
	(void)uv_timer_stop(&s->timer);
	if (s->is_dialer)
		s->ops->on_open(s->ctx);
	else
		accepted(s);
}

static void on_data(void *ctx, const uint8_t *p, size_t n)
{
	struct tls_stream *s = ctx;
	if (s->ops)
		s->ops->on_data(s->ctx, p, n);
}

static void on_sent(void *ctx)
{
	struct tls_stream *s = ctx;
	if (s->ops && s->ops->on_sent)
		s->ops->on_sent(s->ctx);
}

static void on_end(void *ctx, int status, const char *why)
{
	stream_end(ctx, why); /* nobody writes half: also when the other side only has finished */
}

static const struct tls_ops tls_ops = { .on_open = on_open, .on_data = on_data, .on_sent = on_sent, .on_end = on_end,
					.on_closed = tls_closed };

static int stream_new(struct tls_streams *n, int is_dialer, struct tls_stream **ret)
{
	struct tls_stream *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	s->n = n;
	s->is_dialer = is_dialer;
	int rc = tls_new(n->cfg.loop, is_dialer ? n->client : n->server, is_dialer ? TLS_CLIENT : TLS_SERVER, &tls_ops, s, &s->t);
	if (rc < 0) {
		free(s);
		return rc;
	}
	(void)uv_timer_init(n->cfg.loop, &s->timer); /* always 0 */
	s->timer.data = s;
	s->n_left = HANDLES;
	(void)uv_timer_start(&s->timer, on_timeout, HANDSHAKE_MS, 0); /* cannot fail with a callback */
	DL_APPEND(n->streams, s);
	*ret = s;
	return 0;
}

static void on_connection(void *ctx, uv_stream_t *listener)
{
	struct tls_streams *n = ctx;
	struct tls_stream *s;
	if (stream_new(n, 0, &s) < 0) {
		listener_reject(listener);
		return;
	}
	int rc = tls_accept(s->t, listener);
	addr_text(tls_peer(s->t), s->from);
	if (rc == 0)
		rc = gate_enter(n->gate, tls_peer(s->t), clock_ms(), &s->source);
	if (rc == 0)
		rc = tls_start(s->t);
	if (rc < 0)
		stream_end(s, uv_strerror(rc));
}

int tls_streams_new(const struct tls_streams_config *cfg, struct tls_streams **ret, struct err *e)
{
	struct tls_streams *n = calloc(1, sizeof *n);
	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	n->cfg = *cfg;
	n->is_closing = n->is_listener_gone = 1;
	int rc = gate_new(PER_SOURCE, TOTAL, &n->gate);
	if (rc < 0)
		(void)err_set(e, rc, "out of memory");
	if (rc == 0)
		rc = pki_server_ctx(cfg->pki, PKI_USE_STREAM, &n->server, e);
	if (rc == 0)
		rc = pki_client_ctx(cfg->pki, PKI_USE_STREAM, &n->client, e);
	if (rc < 0) {
		net_release(n);
		return rc;
	}
	n->is_closing = 0;
	*ret = n;
	return 0;
}

int tls_streams_listen(struct tls_streams *n, const char *addr, struct err *e)
{
	if (n->listener)
		return err_set(e, -EALREADY, "listening at %s already", listener_text(n->listener));
	int rc = listener_open(n->cfg.loop, addr, on_connection, n, &n->listener, e);
	if (rc == 0)
		n->is_listener_gone = 0;
	return rc;
}

const char *tls_streams_listening(const struct tls_streams *n)
{
	return n->listener ? listener_text(n->listener) : "";
}

static void on_listener_gone(void *ctx)
{
	struct tls_streams *n = ctx;
	n->is_listener_gone = 1;
	net_release(n);
}

void tls_streams_close(struct tls_streams *n)
{
	struct tls_stream *s;
	n->is_closing = 1;
	DL_FOREACH(n->streams, s)
		if (!s->ops)
			tls_stream_close(s);
	if (n->listener)
		listener_close(n->listener, on_listener_gone, n);
	else
		net_release(n);
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
	struct lookup *k = (struct lookup *)req;
	struct tls_stream *s = k->s;
	uint16_t port = k->port;
	free(k);
	if (s) {
		s->lookup = NULL;
		int rc = status;
		if (rc == 0) {
			struct sockaddr_storage sa = { 0 };
			memcpy(&sa, list->ai_addr, list->ai_addrlen);
			addr_port_set(&sa, port);
			rc = tls_connect(s->t, (struct sockaddr *)&sa);
		}
		if (rc < 0)
			stream_end(s, uv_strerror(rc));
	}
	uv_freeaddrinfo(list);
}

static int lookup_begin(struct tls_stream *s, const char *host, uint16_t port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct lookup *k = calloc(1, sizeof *k);
	if (!k)
		return -ENOMEM;
	k->s = s;
	k->port = port;
	int rc = uv_getaddrinfo(s->n->cfg.loop, &k->req, on_looked_up, host, NULL, &hints);
	if (rc < 0)
		free(k);
	else
		s->lookup = k;
	return rc;
}

int tls_stream_connect(struct tls_streams *n, uint16_t node, const char *addr, const struct tls_stream_ops *ops, void *ctx,
		       struct tls_stream **ret, struct err *e)
{
	char host[ADDR_HOST_SIZE];
	uint16_t port;
	struct sockaddr_storage sa;
	struct tls_stream *s;
	int rc = addr_split(addr, host, &port, e);
	if (rc < 0)
		return rc;
	rc = stream_new(n, 1, &s);
	if (rc < 0)
		return err_set(e, rc, "out of memory");
	s->node = node;
	s->ops = ops;
	s->ctx = ctx;
	rc = addr_numeric(host, port, &sa) == 0 ? tls_connect(s->t, (struct sockaddr *)&sa) : lookup_begin(s, host, port);
	if (rc < 0) {
		tls_stream_close(s);
		return err_set(e, rc, "connect to %s: %s", addr, uv_strerror(rc));
	}
	*ret = s;
	return 0;
}

void tls_stream_use(struct tls_stream *s, const struct tls_stream_ops *ops, void *ctx)
{
	s->ops = ops;
	s->ctx = ctx;
}

int tls_stream_write(struct tls_stream *s, const void *p, size_t n)
{
	return tls_write(s->t, p, n);
}

void tls_stream_flush(struct tls_stream *s)
{
	tls_flush(s->t);
}

size_t tls_stream_queued(const struct tls_stream *s)
{
	return tls_queued(s->t);
}
