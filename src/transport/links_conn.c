/* One connection of links, from the first packet to its loss.
 *
 * Happy path: (LOOKUP) -> CONNECT: TCP and TLS -> HELLO: the peer is certified and a member; the side that connected says hello, the
 * other answers with its own -> UP: frames, heartbeats.
 * Failures: nobody there, no end of the handshake within 5 s, TLS refused by either side, wrong or unknown node, a frame that is too
 * long or does not belong here: closed, told by on_refused where somebody was not let in. UP and silent, or closed by the other side,
 * or it says that it goes: closed, told by on_down; the peer's timer tries again (links_peer.c). */
#include "transport/links_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sm.h"

static const struct sm_state conn_states[] = {
	[CONN_LOOKUP] = { "lookup", SM_TO(CONN_CONNECT) | SM_TO(CONN_LOST) },
	[CONN_CONNECT] = { "connect", SM_TO(CONN_HELLO) | SM_TO(CONN_JOIN) | SM_TO(CONN_LOST) },
	[CONN_HELLO] = { "hello", SM_TO(CONN_UP) | SM_TO(CONN_LOST) },
	[CONN_UP] = { "up", SM_TO(CONN_LOST) },
	[CONN_JOIN] = { "join", SM_TO(CONN_ASKED) | SM_TO(CONN_LOST) },
	[CONN_ASKED] = { "asked", SM_TO(CONN_ANSWERED) | SM_TO(CONN_LOST) },
	[CONN_ANSWERED] = { "answered", SM_TO(CONN_LOST) },
	[CONN_LOST] = { "lost", 0 },
};

void link_conn_move(struct conn *c, enum conn_state to)
{
	sm_move(conn_states, &c->state, to, "link", c->node);
}

/* ---- sending ---- */

int link_conn_send(struct conn *c, uint16_t type, uint64_t call, const void *head, size_t head_n, const void *p, size_t n, size_t limit)
{
	uint8_t fh[FRAME_HEAD];
	struct links *l = c->l;

	if (c->state == CONN_LOST)
		return -ENOTCONN;
	if (tls_queued(c->t) + sizeof fh + head_n + n > limit)
		return -ENOBUFS;
	frame_head(fh, type, call, (uint32_t)(head_n + n));
	if (tls_write(c->t, fh, sizeof fh) < 0 || (head_n && tls_write(c->t, head, head_n) < 0) || (n && tls_write(c->t, p, n) < 0)) {
		link_conn_lose(c, "writing failed"); /* half a frame may be out */
		return -ENOTCONN;
	}
	c->sent_ms = clock_ms();
	/* The first frame of a turn goes at once, for the sake of calls on an idle link; further ones wait and go together. */
	if (c->flush_turn != l->turn) {
		c->flush_turn = l->turn;
		tls_flush(c->t);
	} else if (!c->dirty) {
		c->dirty = 1;
		DL_APPEND2(l->dirty, c, dirty_prev, dirty_next);
	}
	return 0;
}

static void bye(struct conn *c, const char *why)
{
	size_t n = strlen(why);
	if (n > FRAME_BYE_MAX)
		n = FRAME_BYE_MAX;
	if (link_conn_send(c, FRAME_BYE, 0, NULL, 0, why, n, LINK_QUEUE_MAX) == 0)
		tls_flush(c->t);
}

static int hello_send(struct conn *c)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	frame_hello_encode(&w, &(struct frame_hello){ .version = FRAME_HELLO_VERSION,
						      .node = c->l->cfg.self,
						      .heartbeat_ms = c->l->cfg.heartbeat_ms });
	int rc = wr_done(&w);
	if (rc == 0)
		rc = link_conn_send(c, FRAME_HELLO, 0, NULL, 0, w.p, w.n, LINK_QUEUE_MAX);
	if (rc < 0)
		link_conn_lose(c, "writing failed");
	return rc;
}

/* ---- the end ---- */

static void conn_free(struct conn *c)
{
	struct links *l = c->l;
	if (!c->settled || !c->closed)
		return;
	DL_DELETE(l->conns, c);
	frame_in_fini(&c->in);
	free(c);
	links_release(l);
}

void link_conn_settled(struct conn *c)
{
	c->settled = 1;
	conn_free(c);
}

static void conn_closed(void *ctx)
{
	struct conn *c = ctx;
	c->closed = 1;
	conn_free(c);
}

void link_conn_lose(struct conn *c, const char *why)
{
	struct links *l = c->l;
	struct peer *p = link_peer_of(l, c->node);

	if (c->state == CONN_LOST)
		return;
	if (c->state == CONN_UP && l->closing)
		bye(c, why);
	if (c->state == CONN_LOST) /* by bye */
		return;
	if (!c->was_up)
		log_debug("link with %s (node %u): %s", c->from, c->node, why);
	link_conn_move(c, CONN_LOST);
	(void)snprintf(c->why, sizeof c->why, "%s", why);
	deadline_clear(&l->deadlines, &c->timer);
	c->source = gate_leave(l->gate, c->source);
	if (c->dirty)
		DL_DELETE2(l->dirty, c, dirty_prev, dirty_next);
	c->dirty = 0;
	link_lookup_cancel(c);
	link_call_reqs_forget(c);
	link_join_lost(c);
	tls_close(c->t);
	LL_APPEND2(l->lost, c, lost_next);
	links_kick(l);
	if (p)
		link_peer_lost(p, c);
}

void link_conn_refuse(struct conn *c, const char *fmt, ...)
{
	char why[256], from[sizeof c->from + 16];
	va_list ap;

	if (c->state == CONN_LOST)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	if (c->state == CONN_HELLO || c->state == CONN_UP)
		bye(c, why);
	if (c->node)
		(void)snprintf(from, sizeof from, "node %u at %s", c->node, c->from);
	else
		(void)snprintf(from, sizeof from, "%s", c->from);
	struct sockaddr_storage sa;
	memcpy(&sa, tls_peer(c->t), sizeof sa);
	link_conn_lose(c, why);
	links_refused(c->l, (struct sockaddr *)&sa, from, why);
}

/* ---- up ---- */

static void beat(struct deadline *d)
{
	struct conn *c = CONTAINER(d, struct conn, timer);
	struct links *l = c->l;
	uint64_t now = clock_ms(), beat_ms = l->cfg.heartbeat_ms;

	if (now - c->heard_ms >= c->silence_ms) {
		/* When it was this loop that stood still, what the peer sent is still to be read: give it the time. */
		if (now - d->at_ms <= beat_ms) {
			char why[64];
			(void)snprintf(why, sizeof why, "silent for %llu ms", (unsigned long long)(now - c->heard_ms));
			link_conn_lose(c, why);
			return;
		}
		c->heard_ms = now - c->silence_ms + beat_ms;
	}
	if (now - c->sent_ms >= beat_ms) {
		c->sent_ms = now;
		/* With a queue, something is under way anyhow. */
		if (tls_queued(c->t) == 0 && link_conn_send(c, FRAME_HEARTBEAT, 0, NULL, 0, NULL, 0, LINK_QUEUE_MAX) < 0)
			return;
	}
	uint64_t send_at = c->sent_ms + beat_ms, lost_at = c->heard_ms + c->silence_ms, next = send_at < lost_at ? send_at : lost_at;
	if (links_after(l, &c->timer, next > now ? next - now : 0) < 0)
		link_conn_lose(c, "out of memory");
}

static void conn_up(struct conn *c, struct peer *p)
{
	struct links *l = c->l;

	links_settle(l); /* on_down of the link before comes first; a callback may have dropped this one */
	if (c->state != CONN_HELLO || l->closing)
		return;
	link_conn_move(c, CONN_UP);
	c->source = gate_leave(l->gate, c->source);
	p->use = c;
	p->dial = NULL;
	p->delay_ms = 0;
	deadline_clear(&l->deadlines, &p->timer);
	c->in.max = LINK_MSG_MAX + 4; /* an answer has a status too */
	c->heard_ms = clock_ms();
	c->timer.fn = beat;
	if (links_after(l, &c->timer, l->cfg.heartbeat_ms) < 0) {
		link_conn_lose(c, "out of memory");
		return;
	}
	c->was_up = 1;
	l->cfg.on_up(l->cfg.ctx, c->node);
}

static void hello_take(struct conn *c, const struct frame *fr)
{
	struct frame_hello h = { 0 };
	struct peer *p = link_peer_of(c->l, c->node);
	int rc = frame_hello_decode(fr->p, fr->n, &h);

	if (rc == -EPROTONOSUPPORT)
		link_conn_refuse(c, "speaks version %u of links, this node version %d", h.version, FRAME_HELLO_VERSION);
	else if (rc < 0 || fr->call)
		link_conn_refuse(c, "sent a damaged hello");
	else if (h.node != c->node)
		link_conn_refuse(c, "says that it is node %u", h.node);
	else if (!p)
		link_conn_refuse(c, "not a member");
	else if (!link_peer_takes(p, c))
		link_conn_lose(c, "there is a link already");
	if (c->state != CONN_HELLO)
		return;

	uint32_t beat_ms = c->l->cfg.heartbeat_ms > h.heartbeat_ms ? c->l->cfg.heartbeat_ms : h.heartbeat_ms;
	c->silence_ms = c->l->cfg.silence_ms ? c->l->cfg.silence_ms : LINK_SILENCE_BEATS * beat_ms;
	if (c->dialer || hello_send(c) == 0)
		conn_up(c, p);
}

static void bye_take(struct conn *c, const struct frame *fr)
{
	char said[FRAME_BYE_MAX + 1], why[sizeof said + 32];
	frame_text(fr->p, fr->n, said, sizeof said);
	(void)snprintf(why, sizeof why, "the other side says: %s", said);
	if (c->state == CONN_HELLO) {
		char from[sizeof c->from + 16];
		(void)snprintf(from, sizeof from, "node %u at %s", c->node, c->from);
		links_refused(c->l, tls_peer(c->t), from, why);
	}
	link_conn_lose(c, why);
}

static void frame_take(struct conn *c, const struct frame *fr)
{
	if (c->is_join)
		link_join_frame(c, fr);
	else if (fr->type == FRAME_BYE)
		bye_take(c, fr);
	else if (c->state == CONN_HELLO && fr->type == FRAME_HELLO)
		hello_take(c, fr);
	else if (c->state != CONN_UP)
		link_conn_refuse(c, "sent frame type %u before its hello", fr->type);
	else if (fr->type == FRAME_HEARTBEAT && !fr->call && !fr->n)
		return;
	else if (fr->type < FRAME_TYPE_USER && fr->type != FRAME_ANSWER)
		link_conn_refuse(c, "sent a frame of type %u out of place", fr->type);
	else
		link_call_dispatch(c->l, c, c->node, fr);
}

static int on_frame(void *ctx, const struct frame *fr)
{
	struct conn *c = ctx;
	frame_take(c, fr);
	return c->state == CONN_LOST ? -ECANCELED : 0;
}

/* ---- what TLS tells ---- */

static void on_data(void *ctx, const uint8_t *p, size_t n)
{
	struct conn *c = ctx;
	struct links *l = c->l;

	if (c->state == CONN_UP) {
		c->heard_ms = clock_ms();
		if (l->cfg.on_heard)
			l->cfg.on_heard(l->cfg.ctx, c->node);
		if (c->state == CONN_LOST)
			return;
	}
	int rc = frame_in_feed(&c->in, p, n, on_frame, c);
	if (rc == -EMSGSIZE)
		link_conn_refuse(c, "sent a frame of more than %zu bytes", c->in.max);
	else if (rc < 0)
		link_conn_lose(c, "out of memory");
}

/* Who connected shows by its certificate who it is; whom we connected to must be whom we want. */
static void link_open(struct conn *c)
{
	uint16_t node;
	struct err e;
	int rc = pki_peer_node(c->l->cfg.pki, tls_ssl(c->t), &node, &e);
	if (rc < 0) {
		link_conn_refuse(c, "%s", e.text);
		return;
	}
	if (c->dialer && node != c->node) {
		link_conn_refuse(c, "this is node %u", node);
		return;
	}
	c->node = node;
	link_conn_move(c, CONN_HELLO);
	if (node == c->l->cfg.self)
		link_conn_refuse(c, "has the certificate of this node");
	else if (!link_peer_of(c->l, node))
		link_conn_refuse(c, "not a member");
	else if (c->dialer)
		(void)hello_send(c); /* lost when it fails */
}

static void on_open(void *ctx)
{
	struct conn *c = ctx;
	enum pki_use use = pki_use_of(tls_ssl(c->t));
	if (use == PKI_USE_LINK)
		link_open(c);
	else if (use == PKI_USE_JOIN && !c->dialer)
		link_join_open(c);
	else
		link_conn_refuse(c, "did not say by ALPN what it wants");
}

static void on_end(void *ctx, int status, const char *why)
{
	struct conn *c = ctx;
	if (c->state == CONN_UP)
		link_conn_lose(c, status != -EPROTO && frame_in_is_partial(&c->in) ? "connection lost within a message" : why);
	else if (c->state == CONN_CONNECT && !c->dialer)
		link_conn_refuse(c, "no handshake: %s", why);
	else if (status == -EPROTO || (!c->dialer && frame_in_is_partial(&c->in)))
		link_conn_refuse(c, "%s", why);
	else
		link_conn_lose(c, why);
}

static const struct tls_ops ops = { .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_closed = conn_closed };

/* ---- the beginning ---- */

static void handshake_timeout(struct deadline *d)
{
	struct conn *c = CONTAINER(d, struct conn, timer);
	uint64_t took = clock_ms() - c->begun_ms;
	if (!c->dialer) {
		link_conn_refuse(c, "no end of the handshake within %d ms", LINK_HANDSHAKE_MS);
		return;
	}
	/* The first look was after LINK_CONNECT_MS. */
	if ((c->state == CONN_CONNECT && !tls_is_connected(c->t)) || took >= LINK_HANDSHAKE_MS) {
		link_conn_lose(c, "no answer");
		return;
	}
	if (links_after(c->l, &c->timer, LINK_HANDSHAKE_MS - took) < 0)
		link_conn_lose(c, "out of memory");
}

int link_conn_new(struct links *l, int dialer, struct conn **ret)
{
	struct conn *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->l = l;
	c->dialer = dialer;
	c->begun_ms = c->sent_ms = clock_ms();
	c->in.max = FRAME_FIRST_MAX;
	c->flush_turn = UINT64_MAX;
	c->timer.fn = handshake_timeout;
	int rc = links_after(l, &c->timer, dialer ? LINK_CONNECT_MS : LINK_HANDSHAKE_MS);
	if (rc == 0)
		rc = tls_new(l->cfg.loop, dialer ? l->client : l->server, dialer ? TLS_CLIENT : TLS_SERVER, &ops, c, &c->t);
	if (rc < 0) {
		deadline_clear(&l->deadlines, &c->timer);
		free(c);
		return rc;
	}
	l->n_open++;
	DL_APPEND(l->conns, c);
	*ret = c;
	return 0;
}

void link_conn_accept(void *ctx, uv_stream_t *stream)
{
	struct links *l = ctx;
	struct conn *c;
	if (link_conn_new(l, 0, &c) < 0) {
		listener_reject(stream);
		return;
	}
	int rc = tls_accept(c->t, stream);
	addr_text(tls_peer(c->t), c->from);
	if (rc < 0) {
		link_conn_lose(c, uv_strerror(rc)); /* gone already */
		return;
	}
	link_conn_move(c, CONN_CONNECT);
	rc = gate_enter(l->gate, tls_peer(c->t), clock_ms(), &c->source);
	if (rc < 0) {
		link_conn_refuse(c, "too many unfinished handshakes %s", rc == -EDQUOT ? "of this address" : "at once");
		return;
	}
	rc = tls_start(c->t);
	if (rc < 0)
		link_conn_lose(c, uv_strerror(rc));
}
