#include "stream/sess.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "stream/store.h"

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

static uint64_t get_le(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

void sess_frame_free(const struct sess *s, struct sess_frame *f)
{
	if (s->store)
		store_free(s->store, f);
	else
		free(f);
}

uint16_t sess_frame_type(const struct sess_frame *f)
{
	return (uint16_t)get_le(f->p + AT_TYPE, 2);
}

uint64_t sess_frame_req(const struct sess_frame *f)
{
	return f->n >= PMSG_HEAD_SIZE + 8 ? get_le(f->p + PMSG_HEAD_SIZE, 8) : 0;
}

static void drop_acked(struct sess *s)
{
	while (s->head && s->head->seq <= s->tx_acked) {
		struct sess_frame *f = s->head;
		s->head = f->next;
		s->bytes -= f->n;
		if (s->next == f)
			s->next = f->next;
		sess_frame_free(s, f);
	}
	if (!s->head)
		s->tail = &s->head;
}

static void numbers_reset(struct sess *s)
{
	struct sess fresh = { .owner = s->owner, .store = s->store };
	*s = fresh;
	s->tail = &s->head;
}

void sess_fini(struct sess *s)
{
	sess_restart(s, NULL, NULL);
}

void sess_restart(struct sess *s, void (*fn)(void *ctx, struct sess_frame *f), void *ctx)
{
	struct sess_frame *f = s->head, *next;
	numbers_reset(s);
	for (; f; f = next) {
		next = f->next;
		f->next = NULL;
		f->seq = 0;
		if (fn)
			fn(ctx, f);
		else
			sess_frame_free(s, f);
	}
}

static void head_put(uint8_t *p, size_t n, uint16_t type, uint64_t seq, uint64_t ack)
{
	put_le(p, n - 4, 4);
	put_le(p + AT_TYPE, type, 2);
	put_le(p + AT_SEQ, seq, 8);
	put_le(p + AT_ACK, ack, 8);
}

int sess_frame_new(const struct sess *s, const struct pmsg *m, struct sess_frame **ret)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	int rc = pmsg_encode(&w, m);
	if (rc < 0)
		return rc;
	if (!pmsg_is_sequenced(m->type))
		return -EINVAL;
	size_t n = PMSG_HEAD_SIZE + w.n + m->n_data;
	struct sess_frame *f = s->store ? store_new(s->store, STORE_FRAME, sizeof *f + n) : malloc(sizeof *f + n);
	if (!f)
		return -ENOMEM;
	*f = (struct sess_frame){ .owner = s->owner, .n = n };
	head_put(f->p, n, m->type, 0, 0);
	if (w.n)
		memcpy(f->p + PMSG_HEAD_SIZE, w.p, w.n);
	if (m->n_data)
		memcpy(f->p + PMSG_HEAD_SIZE + w.n, m->data, m->n_data);
	if (s->store)
		store_commit(f);
	*ret = f;
	return 0;
}

void sess_frame_queue(struct sess *s, struct sess_frame *f)
{
	f->next = NULL;
	f->seq = ++s->tx_seq;
	put_le(f->p + AT_SEQ, f->seq, 8);
	*s->tail = f;
	s->tail = &f->next;
	if (!s->next)
		s->next = f;
	s->bytes += f->n;
}

int sess_queue(struct sess *s, const struct pmsg *m)
{
	struct sess_frame *f;
	int rc = sess_frame_new(s, m, &f);
	if (rc == 0)
		sess_frame_queue(s, f);
	return rc;
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
