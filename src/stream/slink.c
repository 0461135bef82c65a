#include "stream/slink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum {
	ACK_DELAY_MS = 20,      /* an acknowledgement waits this long for a message that carries it */
	ACK_BYTES = 256 << 10,  /* received bytes after which it does not wait */
	PING_MS = 1000,
};

struct slink_group {
	uv_prepare_t prepare;
	uv_check_t check;
	uv_timer_t timer;
	struct slink *dirty;  /* have something to write */
	struct slink *owing;  /* owe an acknowledgement */
	int n_handles;
};

struct slink {
	struct slink_group *g; /* borrowed */
	struct slink_cb cb;
	struct sess sess;
	struct chan *chan;     /* owned, NULL when there is none */
	struct frames frames;
	size_t unacked_in;     /* bytes received since the last ack went out */
	uint64_t heard_ms, sent_ms;
	int is_dirty, is_owing, is_feeding, is_freed;
	struct slink *d_prev, *d_next, *o_prev, *o_next;
};

/* Frames */

void frames_fini(struct frames *f)
{
	free(f->p);
	*f = (struct frames){ 0 };
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Handles the complete frames in p; *ret_used says how much was. */
static int frames_cut(const uint8_t *p, size_t n, frames_fn fn, void *ctx, size_t *ret_used)
{
	size_t at = 0;
	int rc = 0;
	while (n - at >= 4) {
		size_t len = get_u32(p + at);
		if (len < PMSG_HEAD_SIZE - 4 || len > PMSG_FRAME_MAX)
			return -EBADMSG;
		if (n - at - 4 < len)
			break;
		struct rd r;
		struct sess_head h;
		rd_init(&r, p + at + 4, len);
		rc = sess_head(&r, &h);
		if (rc == 0)
			rc = fn(ctx, &h, &r);
		if (rc < 0)
			return rc;
		at += 4 + len;
	}
	*ret_used = at;
	return 0;
}

static int frames_keep(struct frames *f, const uint8_t *p, size_t n)
{
	if (f->n + n > f->cap) {
		size_t cap = f->cap ? f->cap : 4096;
		while (cap < f->n + n)
			cap *= 2;
		uint8_t *q = realloc(f->p, cap);
		if (!q)
			return -ENOMEM;
		f->p = q;
		f->cap = cap;
	}
	memcpy(f->p + f->n, p, n);
	f->n += n;
	return 0;
}

int frames_feed(struct frames *f, const uint8_t *p, size_t n, frames_fn fn, void *ctx)
{
	size_t used = 0;
	if (!f->n) {
		int rc = frames_cut(p, n, fn, ctx, &used);
		if (rc < 0)
			return rc;
		return n == used ? 0 : frames_keep(f, p + used, n - used);
	}
	int rc = frames_keep(f, p, n);
	if (rc == 0)
		rc = frames_cut(f->p, f->n, fn, ctx, &used);
	if (rc < 0)
		return rc;
	memmove(f->p, f->p + used, f->n - used);
	f->n -= used;
	return 0;
}

int frames_first(struct frames *f, const uint8_t *p, size_t n, size_t max, struct pmsg *ret, size_t *ret_used)
{
	int rc = frames_keep(f, p, n);
	if (rc < 0 || f->n < 4)
		return rc < 0 ? rc : 1;
	size_t len = get_u32(f->p);
	if (len < PMSG_HEAD_SIZE - 4 || len > max)
		return -EBADMSG;
	if (f->n - 4 < len)
		return 1;
	struct rd r;
	struct sess_head h;
	rd_init(&r, f->p + 4, len);
	rc = sess_head(&r, &h);
	if (rc == 0)
		rc = pmsg_decode(&r, h.type, ret);
	*ret_used = 4 + len;
	return rc;
}

/* Group: everything that was queued in this turn goes out at its end. */

static void mark_dirty(struct slink *l)
{
	if (l->is_dirty)
		return;
	l->is_dirty = 1;
	DL_APPEND2(l->g->dirty, l, d_prev, d_next);
}

static void unmark_dirty(struct slink *l)
{
	if (l->is_dirty)
		DL_DELETE2(l->g->dirty, l, d_prev, d_next);
	l->is_dirty = 0;
}

static void unmark_owing(struct slink *l)
{
	if (l->is_owing)
		DL_DELETE2(l->g->owing, l, o_prev, o_next);
	l->is_owing = 0;
}

static void slink_lost(struct slink *l, const char *why)
{
	l->chan = chan_close(l->chan);
	frames_fini(&l->frames);
	if (l->cb.on_lost)
		l->cb.on_lost(l->cb.ctx, why);
}

static int write_control(struct slink *l, const struct pmsg *m)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	int rc = sess_control(&l->sess, &w, m);
	if (rc == 0)
		rc = chan_write(l->chan, w.p, w.n);
	l->sent_ms = clock_ms();
	return rc;
}

/* Moves what the channel takes from the session to it. A failure is one of memory: the channel is given up and the frames stay. */
static void slink_pump(struct slink *l)
{
	int rc = 0;
	const struct sess_frame *f;
	if (!l->chan)
		return;
	int any = 0;
	while (rc == 0 && chan_queued(l->chan) < CHAN_HIGH && (f = sess_next(&l->sess))) {
		rc = chan_write(l->chan, f->p, f->n);
		any = 1;
	}
	if (any) {
		l->unacked_in = 0;
		l->sent_ms = clock_ms();
	}
	if (rc == 0 && sess_owes_ack(&l->sess) && l->unacked_in >= ACK_BYTES) {
		rc = write_control(l, &(struct pmsg){ .type = PMSG_ACK });
		l->unacked_in = 0;
	}
	if (rc < 0) {
		slink_lost(l, "out of memory");
		return;
	}
	if (!sess_owes_ack(&l->sess))
		unmark_owing(l);
	chan_flush(l->chan);
}

static void group_flush(struct slink_group *g)
{
	struct slink *l;
	while ((l = g->dirty)) {
		unmark_dirty(l);
		slink_pump(l);
	}
}

static void on_prepare(uv_prepare_t *h)
{
	group_flush(h->data);
}

static void on_check(uv_check_t *h)
{
	group_flush(h->data);
}

static void on_ack_timer(uv_timer_t *t)
{
	struct slink_group *g = t->data;
	struct slink *l;
	while ((l = g->owing)) {
		unmark_owing(l);
		l->unacked_in = ACK_BYTES; /* no more waiting */
		mark_dirty(l);
	}
	group_flush(g);
}

int slink_group_new(uv_loop_t *loop, struct slink_group **ret)
{
	struct slink_group *g = calloc(1, sizeof *g);
	if (!g)
		return -ENOMEM;
	(void)uv_prepare_init(loop, &g->prepare); /* these four cannot fail */
	(void)uv_check_init(loop, &g->check);
	(void)uv_timer_init(loop, &g->timer);
	g->prepare.data = g->check.data = g->timer.data = g;
	g->n_handles = 3;
	(void)uv_prepare_start(&g->prepare, on_prepare);
	(void)uv_check_start(&g->check, on_check);
	uv_unref((uv_handle_t *)&g->prepare);
	uv_unref((uv_handle_t *)&g->check);
	*ret = g;
	return 0;
}

static void group_closed(uv_handle_t *h)
{
	struct slink_group *g = h->data;
	if (--g->n_handles == 0)
		free(g);
}

void slink_group_close(struct slink_group *g)
{
	uv_close((uv_handle_t *)&g->prepare, group_closed);
	uv_close((uv_handle_t *)&g->check, group_closed);
	uv_close((uv_handle_t *)&g->timer, group_closed);
}

/* Links */

int slink_new(struct slink_group *g, const struct slink_cb *cb, uint64_t id, struct store *store, struct slink **ret)
{
	struct slink *l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	l->g = g;
	l->cb = *cb;
	sess_init(&l->sess);
	l->sess.owner = id;
	l->sess.store = store;
	*ret = l;
	return 0;
}

void slink_free(struct slink *l)
{
	if (!l)
		return;
	l->cb = (struct slink_cb){ 0 };
	l->chan = chan_close(l->chan);
	unmark_dirty(l);
	unmark_owing(l);
	if (l->is_feeding) {
		l->is_freed = 1;
		return;
	}
	sess_fini(&l->sess);
	frames_fini(&l->frames);
	free(l);
}

int slink_send(struct slink *l, const struct pmsg *m)
{
	int rc = sess_queue(&l->sess, m);
	if (rc == 0)
		mark_dirty(l);
	return rc;
}

int slink_frame_new(const struct slink *l, const struct pmsg *m, struct sess_frame **ret)
{
	return sess_frame_new(&l->sess, m, ret);
}

void slink_frame_send(struct slink *l, struct sess_frame *f)
{
	sess_frame_queue(&l->sess, f);
	mark_dirty(l);
}

void slink_frame_free(const struct slink *l, struct sess_frame *f)
{
	sess_frame_free(&l->sess, f);
}

size_t slink_backlog(const struct slink *l)
{
	return l->sess.bytes;
}

uint64_t slink_received(const struct slink *l)
{
	return l->sess.rx_seq;
}

int slink_is_up(const struct slink *l)
{
	return l->chan != NULL;
}

void slink_cut(struct slink *l)
{
	l->chan = chan_close(l->chan);
	frames_fini(&l->frames);
}

void slink_restart(struct slink *l, void (*fn)(void *ctx, struct sess_frame *f), void *ctx)
{
	slink_cut(l);
	unmark_owing(l);
	l->unacked_in = 0;
	sess_restart(&l->sess, fn, ctx);
}

static void slink_broken(struct slink *l, int err, const char *why)
{
	slink_cut(l);
	if (l->cb.on_broken)
		l->cb.on_broken(l->cb.ctx, err, why);
}

static int on_frame(void *ctx, const struct sess_head *h, struct rd *body)
{
	struct slink *l = ctx;
	uint64_t acked = l->sess.tx_acked;
	int rc = sess_take(&l->sess, h);
	if (rc < 0)
		return rc;
	struct pmsg m;
	if (rc == 0) {
		rc = pmsg_decode(body, h->type, &m);
		if (rc < 0)
			return rc;
		if (h->type == PMSG_HELLO || h->type == PMSG_WELCOME)
			return -EPROTO;
		if (h->seq && l->cb.on_msg)
			l->cb.on_msg(l->cb.ctx, &m);
	}
	if (l->sess.tx_acked != acked && l->cb.on_acked)
		l->cb.on_acked(l->cb.ctx);
	return l->is_freed || !l->chan ? -ECANCELED : 0;
}

void slink_feed(struct slink *l, const uint8_t *p, size_t n)
{
	l->heard_ms = clock_ms();
	l->unacked_in += n;
	l->is_feeding = 1;
	int rc = frames_feed(&l->frames, p, n, on_frame, l);
	l->is_feeding = 0;
	if (l->is_freed) {
		slink_free(l);
		return;
	}
	if (rc == -ECANCELED) {
		frames_fini(&l->frames);
		return;
	}
	if (rc == -ENOMEM) {
		slink_lost(l, "out of memory");
		return;
	}
	if (rc < 0) {
		slink_broken(l, rc, "the other side broke the protocol");
		return;
	}
	if (l->unacked_in >= ACK_BYTES)
		mark_dirty(l);
	if (sess_owes_ack(&l->sess) && !l->is_owing) {
		l->is_owing = 1;
		DL_APPEND2(l->g->owing, l, o_prev, o_next);
		if (!uv_is_active((uv_handle_t *)&l->g->timer))
			(void)uv_timer_start(&l->g->timer, on_ack_timer, ACK_DELAY_MS, 0);
	}
}

static void chan_on_data(void *ctx, const uint8_t *p, size_t n)
{
	slink_feed(ctx, p, n);
}

static void chan_on_drain(void *ctx)
{
	slink_pump(ctx);
}

static void chan_on_close(void *ctx, const char *why)
{
	struct slink *l = ctx;
	l->chan = NULL;
	slink_lost(l, why);
}

int slink_use(struct slink *l, struct chan *c, uint64_t peer_has, const struct pmsg *hello)
{
	slink_cut(l);
	int rc = sess_rewind(&l->sess, peer_has);
	if (rc < 0) {
		c = chan_close(c);
		return rc;
	}
	l->chan = c;
	c->cb = (struct chan_cb){ .ctx = l, .on_data = chan_on_data, .on_drain = chan_on_drain, .on_close = chan_on_close };
	l->heard_ms = l->sent_ms = clock_ms();
	if (hello)
		rc = write_control(l, hello);
	if (rc < 0) {
		slink_cut(l);
		return rc;
	}
	mark_dirty(l);
	return 0;
}

void slink_tick(struct slink *l, uint64_t now_ms, uint32_t silent_ms)
{
	if (!l->chan)
		return;
	if (now_ms - l->heard_ms > silent_ms) {
		slink_lost(l, "silent for too long");
		return;
	}
	if (now_ms - l->sent_ms >= PING_MS && chan_queued(l->chan) == 0) {
		if (write_control(l, &(struct pmsg){ .type = PMSG_PING }) < 0)
			slink_lost(l, "out of memory");
		else
			chan_flush(l->chan);
	}
}
