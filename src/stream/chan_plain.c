#include "stream/chan_plain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "wire/wr.h"

struct plain_net {
	struct chan_net net;
	uv_loop_t *loop;
	uv_tcp_t tcp;
	int is_listening;
	char addr[64];
	void (*accept)(void *ctx, struct chan *c);
	void *ctx;
};

struct plain {
	struct chan chan;
	uv_tcp_t tcp;
	uv_connect_t connect;
	struct wr out;       /* not yet handed to uv */
	int is_open, is_closed, was_high;
	uint8_t in[64 << 10];
};

struct plain_write {
	uv_write_t req;
	uint8_t *p; /* owned */
};

static void plain_closed(uv_handle_t *h)
{
	struct plain *c = h->data;
	wr_fini(&c->out);
	free(c);
}

static void plain_close(struct chan *chan)
{
	struct plain *c = (struct plain *)chan;
	c->chan.cb = (struct chan_cb){ 0 };
	if (!c->is_closed) {
		c->is_closed = 1;
		uv_close((uv_handle_t *)&c->tcp, plain_closed);
	}
}

static void plain_lost(struct plain *c, const char *why)
{
	struct chan_cb cb = c->chan.cb;
	plain_close(&c->chan);
	if (cb.on_close)
		cb.on_close(cb.ctx, why);
}

static size_t plain_queued(const struct chan *chan)
{
	const struct plain *c = (const struct plain *)chan;
	return c->out.n + uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

static int plain_write(struct chan *chan, const void *p, size_t n)
{
	struct plain *c = (struct plain *)chan;
	wr_raw(&c->out, p, n);
	if (plain_queued(chan) >= CHAN_HIGH)
		c->was_high = 1;
	return wr_done(&c->out);
}

static void plain_written(uv_write_t *req, int status)
{
	struct plain_write *w = (struct plain_write *)req;
	struct plain *c = req->handle->data;
	free(w->p);
	free(w);
	if (c->is_closed)
		return;
	if (status < 0) {
		plain_lost(c, uv_strerror(status));
		return;
	}
	if (c->was_high && plain_queued(&c->chan) < CHAN_LOW) {
		c->was_high = 0;
		if (c->chan.cb.on_drain)
			c->chan.cb.on_drain(c->chan.cb.ctx);
	}
}

static void plain_flush(struct chan *chan)
{
	struct plain *c = (struct plain *)chan;
	if (!c->is_open || c->is_closed || !c->out.n)
		return;
	struct plain_write *w = calloc(1, sizeof *w);
	if (!w || wr_done(&c->out) < 0) {
		free(w);
		plain_lost(c, "out of memory");
		return;
	}
	w->p = c->out.p;
	uv_buf_t b = uv_buf_init((char *)w->p, (unsigned)c->out.n);
	c->out = (struct wr){ 0 };
	int rc = uv_write(&w->req, (uv_stream_t *)&c->tcp, &b, 1, plain_written);
	if (rc < 0) {
		free(w->p);
		free(w);
		plain_lost(c, uv_strerror(rc));
	}
}

static const struct chan_ops plain_ops = { plain_write, plain_flush, plain_queued, plain_close };

static void plain_alloc(uv_handle_t *h, size_t hint, uv_buf_t *ret)
{
	struct plain *c = h->data;
	*ret = uv_buf_init((char *)c->in, sizeof c->in);
}

static void plain_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct plain *c = s->data;
	if (n < 0)
		plain_lost(c, n == UV_EOF ? "closed by the other side" : uv_strerror((int)n));
	else if (n > 0 && c->chan.cb.on_data)
		c->chan.cb.on_data(c->chan.cb.ctx, c->in, (size_t)n);
}

static int plain_start(struct plain *c)
{
	c->is_open = 1;
	(void)uv_tcp_nodelay(&c->tcp, 1); /* only slower without */
	return uv_read_start((uv_stream_t *)&c->tcp, plain_alloc, plain_read);
}

static void plain_connected(uv_connect_t *req, int status)
{
	struct plain *c = req->handle->data;
	if (c->is_closed)
		return;
	if (status == 0)
		status = plain_start(c);
	if (status < 0) {
		plain_lost(c, uv_strerror(status));
		return;
	}
	if (c->chan.cb.on_open)
		c->chan.cb.on_open(c->chan.cb.ctx);
}

static struct plain *plain_new(uv_loop_t *loop)
{
	struct plain *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->chan.ops = &plain_ops;
	c->tcp.data = c;
	if (uv_tcp_init(loop, &c->tcp) < 0) {
		free(c);
		return NULL;
	}
	return c;
}

static int addr_parse(const char *addr, struct sockaddr_storage *ret)
{
	char host[64];
	const char *colon = strrchr(addr, ':');
	if (!colon || (size_t)(colon - addr) >= sizeof host)
		return -EINVAL;
	int n = (int)(colon - addr);
	if (addr[0] == '[' && n >= 2)
		(void)snprintf(host, sizeof host, "%.*s", n - 2, addr + 1);
	else
		(void)snprintf(host, sizeof host, "%.*s", n, addr);
	int port = atoi(colon + 1);
	if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret) == 0)
		return 0;
	return uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret) == 0 ? 0 : -EINVAL;
}

static int plain_net_connect(struct chan_net *net, uint16_t node, const char *addr, const struct chan_cb *cb, struct chan **ret,
			     struct err *e)
{
	struct plain_net *n = (struct plain_net *)net;
	struct sockaddr_storage sa;
	if (addr_parse(addr, &sa) < 0)
		return err_set(e, -EINVAL, "%s: not a numeric address with a port", addr);
	struct plain *c = plain_new(n->loop);
	if (!c)
		return err_set(e, -ENOMEM, "connect %s: out of memory", addr);
	c->chan.cb = *cb;
	(void)snprintf(c->chan.from, sizeof c->chan.from, "%s", addr);
	int rc = uv_tcp_connect(&c->connect, &c->tcp, (const struct sockaddr *)&sa, plain_connected);
	if (rc < 0) {
		plain_close(&c->chan);
		return err_set(e, rc, "connect %s: %s", addr, uv_strerror(rc));
	}
	*ret = &c->chan;
	return 0;
}

static void plain_net_accept(uv_stream_t *s, int status)
{
	struct plain_net *n = s->data;
	struct plain *c = status < 0 ? NULL : plain_new(n->loop);
	if (!c)
		return;
	if (uv_accept(s, (uv_stream_t *)&c->tcp) < 0 || plain_start(c) < 0) {
		plain_close(&c->chan);
		return;
	}
	n->accept(n->ctx, &c->chan);
}

static int plain_net_listen(struct chan_net *net, const char *addr, void (*accept)(void *ctx, struct chan *c), void *ctx,
			    struct err *e)
{
	struct plain_net *n = (struct plain_net *)net;
	struct sockaddr_storage sa;
	if (addr_parse(addr, &sa) < 0)
		return err_set(e, -EINVAL, "%s: not a numeric address with a port", addr);
	n->accept = accept;
	n->ctx = ctx;
	int rc = uv_tcp_bind(&n->tcp, (const struct sockaddr *)&sa, 0);
	if (rc == 0)
		rc = uv_listen((uv_stream_t *)&n->tcp, 64, plain_net_accept);
	if (rc < 0)
		return err_set(e, rc, "listen at %s: %s", addr, uv_strerror(rc));
	int len = sizeof sa;
	(void)uv_tcp_getsockname(&n->tcp, (struct sockaddr *)&sa, &len); /* bound just now */
	char host[46] = "";
	if (sa.ss_family == AF_INET) {
		(void)uv_ip4_name((struct sockaddr_in *)&sa, host, sizeof host);
		(void)snprintf(n->addr, sizeof n->addr, "%s:%u", host, ntohs(((struct sockaddr_in *)&sa)->sin_port));
	} else {
		(void)uv_ip6_name((struct sockaddr_in6 *)&sa, host, sizeof host);
		(void)snprintf(n->addr, sizeof n->addr, "[%s]:%u", host, ntohs(((struct sockaddr_in6 *)&sa)->sin6_port));
	}
	n->is_listening = 1;
	return 0;
}

static const char *plain_net_listening(struct chan_net *net)
{
	return ((struct plain_net *)net)->addr;
}

static void plain_net_closed(uv_handle_t *h)
{
	free(h->data);
}

static void plain_net_close(struct chan_net *net)
{
	uv_close((uv_handle_t *)&((struct plain_net *)net)->tcp, plain_net_closed);
}

int chan_plain_net(uv_loop_t *loop, struct chan_net **ret)
{
	struct plain_net *n = calloc(1, sizeof *n);
	if (!n)
		return -ENOMEM;
	n->net = (struct chan_net){ plain_net_connect, plain_net_listen, plain_net_listening, plain_net_close };
	n->loop = loop;
	n->tcp.data = n;
	int rc = uv_tcp_init(loop, &n->tcp);
	if (rc < 0) {
		free(n);
		return rc;
	}
	*ret = &n->net;
	return 0;
}
