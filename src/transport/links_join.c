/* The server's side of joining: a connection without a client certificate asks once and is answered once.
 *
 * Happy path: join_open (TLS is up) -> request frame -> the handler -> links_join_answer -> the client closes.
 * Failures: no handler or too many at once: refused; a frame that is no request, or a second one: refused; no end after 10 s: closed,
 * the answer is then dropped. */
#include "transport/links_int.h"

#include <errno.h>
#include <stdlib.h>

struct links_join_req {
	struct conn *c; /* NULL: gone meanwhile */
};

void links_on_join(struct links *l, links_join_fn fn, void *ctx)
{
	l->join_fn = fn;
	l->join_ctx = ctx;
}

static void join_timeout(struct deadline *d)
{
	struct conn *c = CONTAINER(d, struct conn, timer);
	if (c->state == CONN_JOIN)
		link_conn_refuse(c, "wanted to join, but did not say more");
	else
		link_conn_lose(c, "no end");
}

void link_join_open(struct conn *c)
{
	struct links *l = c->l;
	if (!l->join_fn) {
		link_conn_refuse(c, "wants to join, but this node takes no joins now");
		return;
	}
	if (l->n_joins >= LINK_JOINS) {
		link_conn_refuse(c, "wants to join, but %d others do so just now", LINK_JOINS);
		return;
	}
	l->n_joins++;
	c->is_join = 1;
	c->in.max = LINK_JOIN_REQ_MAX;
	link_conn_move(c, CONN_JOIN);
	deadline_clear(&l->deadlines, &c->timer);
	c->timer.fn = join_timeout;
	if (links_after(l, &c->timer, LINK_JOIN_MS) < 0)
		link_conn_lose(c, "out of memory");
}

void link_join_frame(struct conn *c, const struct frame *fr)
{
	if (c->state != CONN_JOIN || fr->type != FRAME_JOIN || fr->call) {
		link_conn_refuse(c, "wants to join, but sent something else than one request");
		return;
	}
	links_join_req *q = calloc(1, sizeof *q);
	if (!q) {
		link_conn_lose(c, "out of memory");
		return;
	}
	q->c = c;
	c->join = q;
	link_conn_move(c, CONN_ASKED);
	c->l->join_fn(c->l->join_ctx, c->from, fr->p, fr->n, q);
}

void links_join_answer(links_join_req *q, const void *p, size_t n)
{
	struct conn *c = q->c;
	free(q);
	if (!c)
		return;
	c->join = NULL;
	link_conn_move(c, CONN_ANSWERED);
	if (n > LINK_JOIN_ANS_MAX) {
		link_conn_lose(c, "the answer is too long");
		return;
	}
	if (link_conn_send(c, FRAME_JOIN, 0, NULL, 0, p, n, LINK_QUEUE_MAX) == 0)
		tls_shutdown(c->t);
}

void link_join_lost(struct conn *c)
{
	if (c->is_join)
		c->l->n_joins--;
	if (c->join)
		c->join->c = NULL;
	c->join = NULL;
}
