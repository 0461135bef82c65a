/* Messages and calls of links to their handlers, and answers to who waits for them.
 *
 * Happy path of a call: links_call -> (frame) -> link_call_dispatch there -> handler -> links_answer -> (FRAME_ANSWER) ->
 * link_call_dispatch here -> done. Failures: no answer in time: done(-ETIMEDOUT), a later answer finds nobody and is dropped; link
 * lost: link_calls_end; no handler, or too many of this peer wait: answered here at once. */
#include "transport/links_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

static struct call **table_of(struct links *l, struct conn *c)
{
	return c ? &c->calls : &l->self_calls;
}

static void call_end(struct call *k, int status, const uint8_t *p, size_t n)
{
	struct call **table = table_of(k->l, k->c);
	HASH_DEL(*table, k);
	deadline_clear(&k->l->deadlines, &k->timer);
	links_done_fn done = k->done;
	void *ctx = k->ctx;
	free(k);
	done(ctx, status, p, n);
}

static void call_timeout(struct deadline *d)
{
	call_end(CONTAINER(d, struct call, timer), -ETIMEDOUT, NULL, 0);
}

void link_calls_end(struct links *l, struct call **calls, int status)
{
	/* A callback may make new calls to self: only those of now are ended. */
	for (unsigned n = HASH_COUNT(*calls); n && *calls; n--)
		call_end(*calls, status, NULL, 0);
	(void)l;
}

/* Takes back a call that was never under way. */
static void call_undo(struct call *k)
{
	struct call **table = table_of(k->l, k->c);
	HASH_DEL(*table, k);
	deadline_clear(&k->l->deadlines, &k->timer);
	free(k);
}

int links_call(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n, uint32_t timeout_ms, links_done_fn done,
	       void *ctx)
{
	struct conn *c = link_of(l, node);

	assert(type >= FRAME_TYPE_USER);
	if (n > LINK_MSG_MAX)
		return -EMSGSIZE;
	if (l->closing || (node != l->cfg.self && !c))
		return -ENOTCONN;
	struct call **table = table_of(l, c);
	if (HASH_COUNT(*table) >= LINK_CALLS_MAX)
		return -ENOBUFS;

	struct call *k = malloc(sizeof *k);
	if (!k)
		return -ENOMEM;
	*k = (struct call){ .id = ++l->call_id, .l = l, .c = c, .timer.fn = call_timeout, .done = done, .ctx = ctx };
	HASH_ADD(hh, *table, id, sizeof k->id, k);
	if (!k->hh.tbl) { /* no memory for the table: not added */
		free(k);
		return -ENOMEM;
	}
	int rc = links_after(l, &k->timer, timeout_ms);
	if (rc == 0)
		rc = c ? link_conn_send(c, type, k->id, NULL, 0, p, n, LINK_QUEUE_MAX) : links_local(l, type, k->id, NULL, 0, p, n, 0);
	if (rc < 0)
		call_undo(k);
	return rc;
}

static void answer_take(struct links *l, struct conn *c, const struct frame *fr)
{
	struct call *k;
	struct rd r;
	rd_init(&r, fr->p, fr->n);
	int32_t status = rd_i32(&r);
	if (r.bad) {
		if (c)
			link_conn_refuse(c, "sent an answer without a status");
		return;
	}
	HASH_FIND(hh, *table_of(l, c), &fr->call, sizeof fr->call, k);
	if (k)
		call_end(k, status, r.p, r.n);
}

/* status, as FRAME_ANSWER has it. */
static void answer_give(struct links *l, struct conn *c, uint64_t id, int32_t status, const void *p, size_t n)
{
	uint8_t head[4];
	for (size_t i = 0; i < sizeof head; i++)
		head[i] = (uint8_t)((uint32_t)status >> (8 * i));
	if (!c) {
		if (links_local(l, FRAME_ANSWER, id, head, sizeof head, p, n, 1) < 0)
			log_debug("answer to self lost: out of memory"); /* then the call runs out of time */
		return;
	}
	if (link_conn_send(c, FRAME_ANSWER, id, head, sizeof head, p, n, LINK_QUEUE_MAX + LINK_ANSWER_EXTRA) == -ENOBUFS)
		link_conn_lose(c, "does not take its answers");
}

static void req_unlink(struct links_call_req *q)
{
	if (q->c) {
		DL_DELETE(q->c->reqs, q);
		q->c->n_reqs--;
	} else if (q->self && q->l) {
		DL_DELETE(q->l->self_reqs, q);
	}
}

void links_answer(struct links_call_req *q, int32_t status, const void *p, size_t n)
{
	req_unlink(q);
	if (n > LINK_MSG_MAX) {
		status = -EMSGSIZE;
		n = 0;
	}
	if (q->c || (q->self && q->l))
		answer_give(q->l, q->c, q->id, status, p, n);
	free(q);
}

void link_call_reqs_forget(struct conn *c)
{
	struct links_call_req *q, *next;
	DL_FOREACH_SAFE(c->reqs, q, next) {
		q->c = NULL;
		q->l = NULL;
	}
	c->reqs = NULL;
	c->n_reqs = 0;
}

void link_call_reqs_forget_self(struct links *l)
{
	struct links_call_req *q, *next;
	DL_FOREACH_SAFE(l->self_reqs, q, next)
		q->l = NULL;
	l->self_reqs = NULL;
}

static void call_take(struct links *l, struct conn *c, uint16_t from, const struct frame *fr, const struct handler *h)
{
	if (!h || !h->call) {
		answer_give(l, c, fr->call, -ENOSYS, NULL, 0);
		return;
	}
	if (c && c->n_reqs >= LINK_CALLS_MAX) {
		answer_give(l, c, fr->call, -EDQUOT, NULL, 0);
		return;
	}
	struct links_call_req *q = malloc(sizeof *q);
	if (!q) {
		answer_give(l, c, fr->call, -ENOMEM, NULL, 0);
		return;
	}
	*q = (struct links_call_req){ .l = l, .c = c, .self = !c, .id = fr->call };
	if (c) {
		DL_APPEND(c->reqs, q);
		c->n_reqs++;
	} else {
		DL_APPEND(l->self_reqs, q);
	}
	h->call(h->call_ctx, from, fr->p, fr->n, q);
}

void link_call_dispatch(struct links *l, struct conn *c, uint16_t from, const struct frame *fr)
{
	if (fr->type == FRAME_ANSWER) {
		answer_take(l, c, fr);
		return;
	}
	const struct handler *h = fr->type < l->n_handlers ? &l->handlers[fr->type] : NULL;
	if (fr->call)
		call_take(l, c, from, fr, h);
	else if (h && h->msg)
		h->msg(h->msg_ctx, from, fr->p, fr->n);
	else
		log_debug("message type %u of node %u: no handler, dropped", fr->type, from);
}
