#include "stream/chan_tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "transport/tls_stream.h"

struct tls_net {
	struct chan_net net; /* first */
	struct chan_tls_gate gate;
	struct tls_streams *streams; /* owned */
	void (*accept)(void *ctx, struct chan *c);
	void *ctx;
};

struct tls_chan {
	struct chan chan; /* first */
	struct tls_stream *s;
	int is_open, was_high;
};

static size_t tchan_queued(const struct chan *chan)
{
	return tls_stream_queued(((const struct tls_chan *)chan)->s);
}

static int tchan_write(struct chan *chan, const void *p, size_t n)
{
	struct tls_chan *c = (struct tls_chan *)chan;
	int rc = tls_stream_write(c->s, p, n);
	if (tchan_queued(chan) >= CHAN_HIGH)
		c->was_high = 1;
	return rc == -EPIPE ? 0 : rc; /* its end is told soon */
}

static void tchan_flush(struct chan *chan)
{
	struct tls_chan *c = (struct tls_chan *)chan;
	if (c->is_open)
		tls_stream_flush(c->s);
}

static void tchan_close(struct chan *chan)
{
	tls_stream_close(((struct tls_chan *)chan)->s);
	free(chan);
}

static const struct chan_ops chan_ops = { tchan_write, tchan_flush, tchan_queued, tchan_close };

static void on_open(void *ctx)
{
	struct tls_chan *c = ctx;
	c->is_open = 1;
	if (c->chan.cb.on_open)
		c->chan.cb.on_open(c->chan.cb.ctx);
}

static void on_data(void *ctx, const uint8_t *p, size_t n)
{
	struct tls_chan *c = ctx;
	if (c->chan.cb.on_data)
		c->chan.cb.on_data(c->chan.cb.ctx, p, n);
}

static void on_sent(void *ctx)
{
	struct tls_chan *c = ctx;
	if (!c->was_high || tchan_queued(&c->chan) >= CHAN_LOW)
		return;
	c->was_high = 0;
	if (c->chan.cb.on_drain)
		c->chan.cb.on_drain(c->chan.cb.ctx);
}

static void on_end(void *ctx, const char *why)
{
	struct tls_chan *c = ctx;
	struct chan_cb cb = c->chan.cb;
	tls_stream_close(c->s);
	if (cb.on_close)
		cb.on_close(cb.ctx, why);
	free(c);
}

static const struct tls_stream_ops stream_ops = { on_open, on_data, on_sent, on_end };

static int net_connect(struct chan_net *net, uint16_t node, const char *addr, const struct chan_cb *cb, struct chan **ret, struct err *e)
{
	struct tls_net *n = (struct tls_net *)net;
	struct tls_chan *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->chan = (struct chan){ .ops = &chan_ops, .cb = *cb, .node = node };
	(void)snprintf(c->chan.from, sizeof c->chan.from, "%s", addr);
	int rc = tls_stream_connect(n->streams, node, addr, &stream_ops, c, &c->s, e);
	if (rc < 0) {
		free(c);
		return rc;
	}
	*ret = &c->chan;
	return 0;
}

static void on_accept(void *ctx, struct tls_stream *s, uint16_t node, const char *from)
{
	struct tls_net *n = ctx;
	struct tls_chan *c = calloc(1, sizeof *c);
	if (!c) {
		tls_stream_close(s);
		return;
	}
	c->chan = (struct chan){ .ops = &chan_ops, .node = node };
	(void)snprintf(c->chan.from, sizeof c->chan.from, "%s", from);
	c->s = s;
	c->is_open = 1;
	tls_stream_use(s, &stream_ops, c);
	n->accept(n->ctx, &c->chan);
}

static int net_is_member(void *ctx, uint16_t node)
{
	struct tls_net *n = ctx;
	return n->gate.is_member(n->gate.ctx, node);
}

static int net_listen(struct chan_net *net, const char *addr, void (*accept)(void *ctx, struct chan *c), void *ctx, struct err *e)
{
	struct tls_net *n = (struct tls_net *)net;
	n->accept = accept;
	n->ctx = ctx;
	return tls_streams_listen(n->streams, addr, e);
}

static const char *net_listening(struct chan_net *net)
{
	return tls_streams_listening(((struct tls_net *)net)->streams);
}

static void net_close(struct chan_net *net)
{
	tls_streams_close(((struct tls_net *)net)->streams);
	free(net);
}

int chan_tls_net(uv_loop_t *loop, const struct pki *pki, const struct chan_tls_gate *gate, struct chan_net **ret, struct err *e)
{
	struct tls_net *n = calloc(1, sizeof *n);
	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	n->net = (struct chan_net){ net_connect, net_listen, net_listening, net_close };
	n->gate = *gate;
	struct tls_streams_config cfg = { .loop = loop, .pki = pki, .ctx = n, .is_member = net_is_member, .accept = on_accept };
	int rc = tls_streams_new(&cfg, &n->streams, e);
	if (rc < 0) {
		free(n);
		return rc;
	}
	*ret = &n->net;
	return 0;
}
