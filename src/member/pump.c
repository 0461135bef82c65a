/* The happy path of a stream:
 *
 * - libraft calls connect; on the next turn of the loop a socket pair is made, "open" is sent to the peer, and libraft gets its end.
 * - The peer makes a pair too and gives one end to its libraft as an accepted connection.
 * - What libraft writes is read from our end and sent; the peer writes it into its pair.
 *
 * Failure modes:
 *
 * - No link, or no descriptors: connect fails, libraft tries again after its delay.
 * - The link goes down, or takes no more (full queue): our end is closed. The writing libraft gets EPIPE and connects again, the
 *   reading one gets the end of file.
 * - libraft closes its end: "close" is sent, so that the other side closes too.
 * - Data for a stream that is not known (we were restarted): "close" is sent back.
 * - libraft of the reading side does not read: our queue into its pair is bounded, then the stream is closed. */
#include "member/pump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "member/proto.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum {
	HEAD = 8, /* of a data message */
	CHUNK = 64 * 1024,
	QUEUE_MAX = 32 << 20, /* bytes waiting to be read by our libraft */
};

struct stream {
	uv_pipe_t pipe; /* our end */
	struct pump *pump;
	uint16_t node;
	bool out; /* opened by our libraft */
	uint64_t id;
};

struct opening {
	uv_timer_t turn; /* its closing is the next turn of the loop */
	struct pump *pump;
	struct raft_uv_connect *req;
	raft_uv_connect_cb cb;
	uint16_t node;
};

struct pump {
	uv_loop_t *loop;
	struct links *links;
	struct raft_uv_transport transport;
	raft_uv_accept_cb accept;
	raft_uv_transport_close_cb closed;
	bool closing;
	unsigned n_handles; /* openings and streams that are not closed yet */
	uint64_t last_id;
	struct stream *out[NODE_MAX + 1];
	struct stream *in[NODE_MAX + 1];
	char buf[HEAD + CHUNK]; /* of the read that is under way */
};

static void closed_maybe(struct pump *p)
{
	if (p->closing && p->n_handles == 0 && p->closed) {
		raft_uv_transport_close_cb cb = p->closed;
		p->closed = NULL;
		cb(&p->transport);
	}
}

static void stream_closed(uv_handle_t *h)
{
	struct stream *s = h->data;
	struct pump *p = s->pump;
	free(s);
	p->n_handles--;
	closed_maybe(p);
}

/* Closes our end; says so to the peer if asked to. */
static void stream_close(struct stream *s, bool tell)
{
	struct pump *p = s->pump;
	struct stream **at = s->out ? &p->out[s->node] : &p->in[s->node];
	if (*at == s)
		*at = NULL;
	if (uv_is_closing((uv_handle_t *)&s->pipe))
		return;
	if (tell) {
		_cleanup_(wr_fini) struct wr w = { 0 };
		wr_u8(&w, s->out);
		wr_u64(&w, s->id);
		if (wr_done(&w) == 0)
			(void)links_send(p->links, s->node, MSG_MEMBER_STREAM_CLOSE, w.p, w.n); /* without a link nothing is left to close */
	}
	uv_close((uv_handle_t *)&s->pipe, stream_closed);
}

/* A pair: *ret is ours, *ret_theirs is what libraft will own. */
static int pair_make(struct pump *p, uint16_t node, bool out, uint64_t id, struct stream **ret, struct uv_stream_s **ret_theirs)
{
	struct stream *s = calloc(1, sizeof *s);
	uv_pipe_t *theirs = raft_malloc(sizeof *theirs); /* libraft frees it with raft_free */
	int fds[2] = { -1, -1 };
	int rc = s && theirs ? 0 : -ENOMEM;
	if (rc == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		rc = -errno;
	if (rc < 0) {
		free(s);
		raft_free(theirs);
		return rc;
	}

	*s = (struct stream){ .pump = p, .node = node, .out = out, .id = id };
	(void)uv_pipe_init(p->loop, &s->pipe, 0); /* cannot fail without ipc */
	(void)uv_pipe_init(p->loop, theirs, 0);
	s->pipe.data = s;
	p->n_handles++;
	if ((rc = uv_pipe_open(&s->pipe, fds[0])) == 0)
		fds[0] = -1;
	if (rc == 0 && (rc = uv_pipe_open(theirs, fds[1])) == 0)
		fds[1] = -1;
	close_p(&fds[0]);
	close_p(&fds[1]);
	if (rc < 0) {
		uv_close((uv_handle_t *)&s->pipe, stream_closed);
		uv_close((uv_handle_t *)theirs, (uv_close_cb)raft_free);
		return rc;
	}

	struct stream **at = out ? &p->out[node] : &p->in[node];
	if (*at)
		stream_close(*at, false);
	*at = s;
	*ret = s;
	*ret_theirs = (struct uv_stream_s *)theirs;
	return 0;
}

/* ---- from our libraft to the peer ---- */

static void out_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct stream *s = h->data;
	*buf = uv_buf_init(s->pump->buf + HEAD, CHUNK);
}

static void out_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	struct stream *s = h->data;
	struct pump *p = s->pump;
	if (n == 0)
		return;
	if (n < 0) {
		stream_close(s, true);
		return;
	}
	for (unsigned i = 0; i < HEAD; i++)
		p->buf[i] = (char)(s->id >> (8 * i));
	if (links_send(p->links, s->node, MSG_MEMBER_STREAM_DATA, p->buf, HEAD + (size_t)n) < 0)
		stream_close(s, true);
}

static struct uv_stream_s *opening_try(struct opening *o)
{
	struct pump *p = o->pump;
	struct stream *s;
	struct uv_stream_s *theirs;
	if (!links_is_up(p->links, o->node) || pair_make(p, o->node, true, p->last_id + 1, &s, &theirs) < 0)
		return NULL;

	s->id = ++p->last_id;
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_u64(&w, s->id);
	if (wr_done(&w) < 0 || links_send(p->links, o->node, MSG_MEMBER_STREAM_OPEN, w.p, w.n) < 0 ||
	    uv_read_start((uv_stream_t *)&s->pipe, out_alloc, out_read) < 0) {
		stream_close(s, true);
		uv_close((uv_handle_t *)theirs, (uv_close_cb)raft_free);
		return NULL;
	}
	return theirs;
}

static void opening_turn(uv_handle_t *h)
{
	struct opening *o = h->data;
	struct pump *p = o->pump;
	struct uv_stream_s *theirs = p->closing ? NULL : opening_try(o);
	int status = theirs ? 0 : p->closing ? RAFT_CANCELED : RAFT_NOCONNECTION;
	o->cb(o->req, theirs, status);
	free(o);
	p->n_handles--;
	closed_maybe(p);
}

/* The callback comes on a later turn, failed or not: libraft throws away what has piled up only when it fails that way. */
static int transport_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id, const char *address, raft_uv_connect_cb cb)
{
	struct pump *p = t->impl;
	if (id < 1 || id > NODE_MAX)
		return RAFT_BADID;
	struct opening *o = calloc(1, sizeof *o);
	if (!o)
		return RAFT_NOMEM;
	*o = (struct opening){ .pump = p, .req = req, .cb = cb, .node = (uint16_t)id };
	req->cb = cb;
	(void)uv_timer_init(p->loop, &o->turn); /* cannot fail */
	o->turn.data = o;
	p->n_handles++;
	uv_close((uv_handle_t *)&o->turn, opening_turn);
	return 0;
}

/* ---- from the peer to our libraft ---- */

struct writing {
	uv_write_t req;
	struct stream *stream;
	char bytes[];
};

static void in_written(uv_write_t *req, int status)
{
	struct writing *w = req->data;
	if (status < 0 && status != UV_ECANCELED)
		stream_close(w->stream, true);
	free(w);
}

static void in_write(struct stream *s, const uint8_t *p, size_t n)
{
	uv_stream_t *to = (uv_stream_t *)&s->pipe;
	uv_buf_t buf = uv_buf_init((char *)(uintptr_t)p, (unsigned)n); /* uv_try_write only reads it */
	int done = uv_try_write(to, &buf, 1);
	if (done < 0 && done != UV_EAGAIN) {
		stream_close(s, true);
		return;
	}
	size_t at = done > 0 ? (size_t)done : 0;
	if (at == n)
		return;

	struct writing *w = uv_stream_get_write_queue_size(to) < QUEUE_MAX ? malloc(sizeof *w + n - at) : NULL;
	if (!w) {
		stream_close(s, true);
		return;
	}
	memcpy(w->bytes, p + at, n - at);
	w->stream = s;
	w->req.data = w;
	buf = uv_buf_init(w->bytes, (unsigned)(n - at));
	if (uv_write(&w->req, to, &buf, 1, in_written) < 0) {
		free(w);
		stream_close(s, true);
	}
}

/* libraft closes its end of a stream that it reads: that is all we read from it. */
static void in_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct stream *s = h->data;
	*buf = uv_buf_init(s->pump->buf, CHUNK);
}

static void in_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	if (n < 0)
		stream_close(h->data, true);
}

static void close_send(struct pump *p, uint16_t node, uint64_t id)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_u8(&w, 0);
	wr_u64(&w, id);
	if (wr_done(&w) == 0)
		(void)links_send(p->links, node, MSG_MEMBER_STREAM_CLOSE, w.p, w.n); /* without a link it has ended anyway */
}

static void open_msg(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct pump *p = ctx;
	struct rd r;
	rd_init(&r, msg, n);
	uint64_t id = rd_u64(&r);
	if (rd_done(&r) < 0)
		return;

	struct stream *s;
	struct uv_stream_s *theirs;
	if (p->closing || !p->accept || pair_make(p, from, false, id, &s, &theirs) < 0) {
		close_send(p, from, id);
		return;
	}
	if (uv_read_start((uv_stream_t *)&s->pipe, in_alloc, in_read) < 0) {
		stream_close(s, true);
		uv_close((uv_handle_t *)theirs, (uv_close_cb)raft_free);
		return;
	}
	char address[16];
	(void)snprintf(address, sizeof address, "n%u", from);
	p->accept(&p->transport, from, address, theirs);
}

static void data_msg(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct pump *p = ctx;
	struct rd r;
	rd_init(&r, msg, n);
	uint64_t id = rd_u64(&r);
	if (r.bad || p->closing)
		return;
	struct stream *s = p->in[from];
	if (s && s->id == id)
		in_write(s, r.p, r.n);
	else
		close_send(p, from, id);
}

static void close_msg(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct pump *p = ctx;
	struct rd r;
	rd_init(&r, msg, n);
	bool by_opener = rd_u8(&r) != 0;
	uint64_t id = rd_u64(&r);
	if (rd_done(&r) < 0)
		return;
	struct stream *s = by_opener ? p->in[from] : p->out[from];
	if (s && s->id == id)
		stream_close(s, false);
}

void pump_down(struct pump *p, uint16_t node)
{
	if (node < 1 || node > NODE_MAX)
		return;
	if (p->out[node])
		stream_close(p->out[node], false);
	if (p->in[node])
		stream_close(p->in[node], false);
}

/* ---- the transport ---- */

static int transport_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
	return 0;
}

static int transport_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
	struct pump *p = t->impl;
	p->accept = cb;
	return 0;
}

static void transport_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
	struct pump *p = t->impl;
	p->closing = true;
	p->accept = NULL;
	p->closed = cb;
	for (uint16_t i = 1; i <= NODE_MAX; i++)
		pump_down(p, i);
	closed_maybe(p); /* libraft takes it within this call too: it still waits for its own timer */
}

int pump_new(uv_loop_t *loop, struct links *links, struct pump **ret, struct err *e)
{
	struct pump *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->loop = loop;
	p->links = links;
	p->transport.impl = p;
	p->transport.init = transport_init;
	p->transport.listen = transport_listen;
	p->transport.connect = transport_connect;
	p->transport.close = transport_close;
#ifdef RAFT_TRANSPORT_HAS_VERSION
	p->transport.version = 1;
#endif
	links_handle(links, MSG_MEMBER_STREAM_OPEN, open_msg, p);
	links_handle(links, MSG_MEMBER_STREAM_DATA, data_msg, p);
	links_handle(links, MSG_MEMBER_STREAM_CLOSE, close_msg, p);
	*ret = p;
	return 0;
}

struct raft_uv_transport *pump_transport(struct pump *p)
{
	return &p->transport;
}

void pump_free(struct pump *p)
{
	if (!p)
		return;
	links_handle(p->links, MSG_MEMBER_STREAM_OPEN, NULL, NULL);
	links_handle(p->links, MSG_MEMBER_STREAM_DATA, NULL, NULL);
	links_handle(p->links, MSG_MEMBER_STREAM_CLOSE, NULL, NULL);
	free(p);
}
