/* Happy path: libraft sends -> encoded, given to the link -> on the next turn libraft is told that it was sent. A message comes ->
 * decoded -> given to libraft.
 *
 * Failure modes:
 *
 * - No link, or its queue is full: libraft is told so on the next turn, and tries again with its heartbeat.
 * - A message that is not well formed: dropped, logged at debug level.
 * - Closing: what was not told yet is told as canceled, then io is closed as libraft does it. */
#include "member/post.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "member/proto.h"
#include "member/raftmsg.h"

/* A send that libraft waits for. */
struct sent {
	struct sent *next;
	struct raft_io_send *req;
	raft_io_send_cb cb;
	int status;
};

struct post {
	struct links *links;
	struct raft_uv_transport transport;
	struct raft_io *io; /* borrowed; NULL: not started, or closing: what comes is dropped */
	int (*start)(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv);
	void (*close)(struct raft_io *io, raft_io_close_cb cb);
	raft_io_recv_cb recv;
	raft_io_close_cb closed;
	struct raft_io *closing; /* borrowed; to be closed on the next turn */
	struct sent *first, **last;
	uv_async_t turn;
	void (*freed)(void *ctx);
	void *freed_ctx;
};

static struct post *post_of(struct raft_io *io)
{
	return ((struct post_io *)(void *)io)->post; /* io is its first member */
}

static void sent_tell(struct post *p, int canceled)
{
	struct sent *s = p->first;
	p->first = NULL;
	p->last = &p->first;
	while (s) {
		struct sent *next = s->next;
		if (s->cb)
			s->cb(s->req, canceled ? canceled : s->status);
		free(s);
		s = next;
	}
}

static void post_turn(uv_async_t *h)
{
	struct post *p = h->data;
	sent_tell(p, p->closing ? RAFT_CANCELED : 0);
	if (p->closing) {
		struct raft_io *io = p->closing;
		p->closing = NULL;
		p->close(io, p->closed);
	}
}

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
	struct post *p = post_of(io);
	struct sent *s = calloc(1, sizeof *s);
	if (!s)
		return RAFT_NOMEM;
	_cleanup_(wr_fini) struct wr w = { 0 };
	int rc = raftmsg_encode(message, &w);
	if (rc == 0)
		rc = message->server_id <= NODE_MAX ? links_send(p->links, (uint16_t)message->server_id, MSG_MEMBER_RAFT, w.p, w.n) : -EINVAL;
	*s = (struct sent){ .req = req, .cb = cb, .status = rc == 0 ? 0 : RAFT_NOCONNECTION };
	*p->last = s; /* told on the next turn: libraft still uses req after this call */
	p->last = &s->next;
	(void)uv_async_send(&p->turn); /* cannot fail */
	return 0;
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
	struct post *p = post_of(io);
	int rv = p->start(io, msecs, tick, recv);
	if (rv == 0) {
		p->io = io;
		p->recv = recv;
	}
	return rv;
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
	struct post *p = post_of(io);
	p->io = NULL;
	p->closing = io;
	p->closed = cb;
	(void)uv_async_send(&p->turn); /* cannot fail */
}

static void raft_msg(void *ctx, uint16_t from, const uint8_t *bytes, size_t n)
{
	struct post *p = ctx;
	struct raft_message message;
	char address[16];
	if (!p->io)
		return;
	int rc = raftmsg_decode(bytes, n, from, &message);
	if (rc < 0) {
		log_debug("member: raft message of node %u: %s", from, strerror(-rc));
		return;
	}
	(void)snprintf(address, sizeof address, "n%u", from);
	message.server_address = address;
	p->recv(p->io, &message); /* the memory is libraft's now */
}

/* ---- a transport that carries nothing ---- */

static int transport_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
	return 0;
}

static int transport_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
	return 0;
}

static int transport_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id, const char *address, raft_uv_connect_cb cb)
{
	return RAFT_NOCONNECTION; /* never asked: we send */
}

static void transport_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
	cb(t); /* libraft takes it within this call: it still waits for its own timer */
}

int post_new(uv_loop_t *loop, struct links *links, struct post **ret, struct err *e)
{
	struct post *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = uv_async_init(loop, &p->turn, post_turn);
	if (rc < 0) {
		free(p);
		return err_set(e, rc, "make an async handle: %s", uv_strerror(rc));
	}
	p->turn.data = p;
	p->links = links;
	p->last = &p->first;
	p->transport.init = transport_init;
	p->transport.listen = transport_listen;
	p->transport.connect = transport_connect;
	p->transport.close = transport_close;
#ifdef RAFT_HAS_VERSIONS
	p->transport.version = 1;
#endif
	links_handle(links, MSG_MEMBER_RAFT, raft_msg, p);
	*ret = p;
	return 0;
}

struct raft_uv_transport *post_transport(struct post *p)
{
	return &p->transport;
}

void post_attach(struct post *p, struct post_io *x)
{
	x->post = p;
	p->start = x->io.start;
	p->close = x->io.close;
	x->io.start = io_start;
	x->io.close = io_close;
	x->io.send = io_send;
}

static void turn_closed(uv_handle_t *h)
{
	struct post *p = h->data;
	void (*freed)(void *ctx) = p->freed;
	void *ctx = p->freed_ctx;
	free(p);
	if (freed)
		freed(ctx);
}

void post_free(struct post *p, void (*freed)(void *ctx), void *ctx)
{
	links_handle(p->links, MSG_MEMBER_RAFT, NULL, NULL);
	p->freed = freed;
	p->freed_ctx = ctx;
	uv_close((uv_handle_t *)&p->turn, turn_closed);
}
