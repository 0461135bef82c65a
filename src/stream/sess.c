#include "stream/sess.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { AT_TYPE = 4, AT_SEQ = 6, AT_ACK = 14 };

static void put_le(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void sess_init(struct sess *s)
{
	*s = (struct sess){ 0 };
	s->tail = &s->head;
}

static void drop_acked(struct sess *s)
{
	while (s->head && s->head->seq <= s->tx_acked) {
		struct sess_frame *f = s->head;
		s->head = f->next;
		s->bytes -= f->n;
		if (s->next == f)
			s->next = f->next;
		free(f);
	}
	if (!s->head)
		s->tail = &s->head;
}

void sess_fini(struct sess *s)
{
	s->tx_acked = UINT64_MAX;
	drop_acked(s);
	sess_init(s);
}

static void head_put(uint8_t *p, size_t n, uint16_t type, uint64_t seq, uint64_t ack)
{
	put_le(p, n - 4, 4);
	put_le(p + AT_TYPE, type, 2);
	put_le(p + AT_SEQ, seq, 8);
	put_le(p + AT_ACK, ack, 8);
}

int sess_queue(struct sess *s, const struct pmsg *m)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	int rc = pmsg_encode(&w, m);
	if (rc < 0)
		return rc;
	if (!pmsg_is_sequenced(m->type))
		return -EINVAL;
	size_t n = PMSG_HEAD_SIZE + w.n + m->n_data;
	struct sess_frame *f = malloc(sizeof *f + n);
	if (!f)
		return -ENOMEM;
	*f = (struct sess_frame){ .seq = ++s->tx_seq, .n = n };
	head_put(f->p, n, m->type, f->seq, 0);
	if (w.n)
		memcpy(f->p + PMSG_HEAD_SIZE, w.p, w.n);
	if (m->n_data)
		memcpy(f->p + PMSG_HEAD_SIZE + w.n, m->data, m->n_data);
	*s->tail = f;
	s->tail = &f->next;
	if (!s->next)
		s->next = f;
	s->bytes += n;
	return 0;
}

int sess_control(struct sess *s, struct wr *w, const struct pmsg *m)
{
	_cleanup_(wr_fini) struct wr body = { 0 };
	int rc = pmsg_encode(&body, m);
	if (rc < 0)
		return rc;
	uint8_t head[PMSG_HEAD_SIZE];
	head_put(head, PMSG_HEAD_SIZE + body.n, m->type, 0, s->rx_seq);
	wr_raw(w, head, sizeof head);
	if (body.n)
		wr_raw(w, body.p, body.n);
	s->rx_told = s->rx_seq;
	return wr_done(w);
}

const struct sess_frame *sess_next(struct sess *s)
{
	struct sess_frame *f = s->next;
	if (!f)
		return NULL;
	put_le(f->p + AT_ACK, s->rx_seq, 8);
	s->rx_told = s->rx_seq;
	s->next = f->next;
	return f;
}

int sess_owes_ack(const struct sess *s)
{
	return s->rx_told != s->rx_seq;
}

int sess_head(struct rd *r, struct sess_head *ret)
{
	ret->type = rd_u16(r);
	ret->seq = rd_u64(r);
	ret->ack = rd_u64(r);
	return r->bad || pmsg_is_sequenced(ret->type) != (ret->seq != 0) ? -EBADMSG : 0;
}

/* The highest seq that was ever handed to a connection. */
static uint64_t tx_carried(const struct sess *s)
{
	return s->next ? s->next->seq - 1 : s->tx_seq;
}

int sess_take(struct sess *s, const struct sess_head *h)
{
	if (h->ack > tx_carried(s) || h->seq > s->rx_seq + 1)
		return -EPROTO;
	if (h->ack > s->tx_acked) {
		s->tx_acked = h->ack;
		drop_acked(s);
	}
	if (!h->seq)
		return 0;
	if (h->seq <= s->rx_seq)
		return SESS_DUPLICATE;
	s->rx_seq = h->seq;
	return 0;
}

int sess_rewind(struct sess *s, uint64_t peer_has)
{
	if (peer_has > tx_carried(s) || peer_has < s->tx_acked)
		return -EPROTO;
	s->tx_acked = peer_has;
	drop_acked(s);
	s->next = s->head;
	return 0;
}
