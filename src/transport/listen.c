#include "transport/listen.h"

#include <errno.h>
#include <stdlib.h>

#include "transport/addr.h"

enum { BACKLOG = 256 };

struct listener {
	uv_tcp_t tcp;
	listener_fn fn;
	void *ctx;
	void (*closed)(void *ctx);
	void *closed_ctx;
	char text[ADDR_TEXT_SIZE];
	uint16_t port;
};

static void free_cb(uv_handle_t *h)
{
	struct listener *l = h->data;
	if (l->closed)
		l->closed(l->closed_ctx);
	free(l);
}

void listener_close(struct listener *l, void (*closed)(void *ctx), void *ctx)
{
	l->closed = closed;
	l->closed_ctx = ctx;
	uv_close((uv_handle_t *)&l->tcp, free_cb);
}

static void reject_cb(uv_handle_t *h)
{
	free(h);
}

void listener_reject(uv_stream_t *stream)
{
	uv_tcp_t *tcp = malloc(sizeof *tcp);
	if (!tcp)
		return; /* then this listener is done: nothing that can be freed for it */
	(void)uv_tcp_init(stream->loop, tcp);        /* always 0 without a family */
	(void)uv_accept(stream, (uv_stream_t *)tcp); /* closed in any case */
	uv_close((uv_handle_t *)tcp, reject_cb);
}

static void connection_cb(uv_stream_t *s, int status)
{
	struct listener *l = s->data;
	if (status == 0) /* else: out of descriptors and the like; the next one is told when there is room */
		l->fn(l->ctx, s);
}

static int bound(struct listener *l, const struct sockaddr *sa)
{
	struct sockaddr_storage got = { 0 };
	int len = sizeof got;
	int rc = uv_tcp_bind(&l->tcp, sa, 0);
	if (rc == 0)
		rc = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, connection_cb);
	if (rc == 0)
		rc = uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&got, &len);
	if (rc == 0) {
		addr_text((struct sockaddr *)&got, l->text);
		l->port = addr_port((struct sockaddr *)&got);
	}
	return rc;
}

int listener_open(uv_loop_t *loop, const char *addr, listener_fn fn, void *ctx, struct listener **ret, struct err *e)
{
	char host[ADDR_HOST_SIZE];
	uint16_t port;
	struct sockaddr_storage sa;
	int rc = addr_split(addr, host, &port, e);
	if (rc < 0)
		return rc;
	if (addr_numeric(host, port, &sa) < 0)
		return err_set(e, -EINVAL, "'%s' is not a numeric address to listen at", addr);

	struct listener *l = calloc(1, sizeof *l);
	if (!l || uv_tcp_init(loop, &l->tcp) < 0) {
		free(l);
		return err_set(e, -ENOMEM, "out of memory");
	}
	l->tcp.data = l;
	l->fn = fn;
	l->ctx = ctx;
	rc = bound(l, (struct sockaddr *)&sa);
	if (rc < 0) {
		listener_close(l, NULL, NULL);
		return err_set(e, rc, "listen at %s: %s", addr, uv_strerror(rc));
	}
	*ret = l;
	return 0;
}

const char *listener_text(const struct listener *l)
{
	return l->text;
}

uint16_t listener_port(const struct listener *l)
{
	return l->port;
}
