#include "transport/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void put_le(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void frame_head(uint8_t ret[static FRAME_HEAD], uint16_t type, uint64_t call, uint32_t n)
{
	put_le(ret, n, 4);
	put_le(ret + 4, type, 2);
	put_le(ret + 6, call, 8);
}

void frame_in_fini(struct frame_in *f)
{
	free(f->p);
	*f = (struct frame_in){ .bad = 1 };
}

int frame_in_is_partial(const struct frame_in *f)
{
	return f->n > 0;
}

/* Reads the head at p. Returns the bytes of the whole frame in *ret_total. */
static int head_decode(const struct frame_in *f, const uint8_t *p, struct frame *ret, size_t *ret_total)
{
	struct rd r;
	rd_init(&r, p, FRAME_HEAD);
	ret->n = rd_u32(&r);
	ret->type = rd_u16(&r);
	ret->call = rd_u64(&r);
	assert(rd_done(&r) == 0);
	if (ret->n > f->max)
		return -EMSGSIZE;
	*ret_total = FRAME_HEAD + ret->n;
	return 0;
}

/* Keeps n more bytes of the frame under way, which has total bytes when complete. The buffer grows with what has come, not with
 * what was announced: who announces 4 MiB and sends 14 bytes costs 1 KiB. */
static int keep(struct frame_in *f, const uint8_t *p, size_t n, size_t total)
{
	if (f->n + n > f->cap) {
		size_t cap = f->cap ? f->cap * 4 : 1024;
		while (cap < f->n + n)
			cap *= 4;
		if (cap > total)
			cap = total;
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

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Goes on with the frame that is in f->p. *ret_used: bytes of p that belong to it. 1: it is complete and in *ret. */
static int partial_feed(struct frame_in *f, const uint8_t *p, size_t n, struct frame *ret, size_t *ret_used)
{
	size_t used = 0, total;

	if (f->n < FRAME_HEAD) {
		used = min_size(FRAME_HEAD - f->n, n);
		int rc = keep(f, p, used, FRAME_HEAD);
		if (rc < 0)
			return rc;
		*ret_used = used;
		if (f->n < FRAME_HEAD)
			return 0;
	}
	int rc = head_decode(f, f->p, ret, &total);
	if (rc < 0)
		return rc;
	size_t more = min_size(total - f->n, n - used);
	rc = keep(f, p + used, more, total);
	if (rc < 0)
		return rc;
	*ret_used = used + more;
	ret->p = f->p + FRAME_HEAD;
	return f->n == total;
}

/* Lets fn have the frame in f->p, which is then free for the next one. */
static int partial_done(struct frame_in *f, const struct frame *fr, frame_in_fn fn, void *ctx)
{
	int rc = fn(ctx, fr);
	free(f->p);
	f->p = NULL;
	f->n = f->cap = 0;
	return rc;
}

static int feed(struct frame_in *f, const uint8_t *p, size_t n, frame_in_fn fn, void *ctx)
{
	while (n) {
		struct frame fr = { 0 };
		size_t total = 0, used = 0;
		int rc;

		if (!f->n && n >= FRAME_HEAD) {
			rc = head_decode(f, p, &fr, &total);
			if (rc < 0)
				return rc;
			if (n >= total) { /* the usual case: nothing is copied */
				fr.p = p + FRAME_HEAD;
				rc = fn(ctx, &fr);
				if (rc)
					return rc;
				p += total;
				n -= total;
				continue;
			}
		}
		rc = partial_feed(f, p, n, &fr, &used);
		if (rc < 0)
			return rc;
		p += used;
		n -= used;
		if (rc == 1) {
			rc = partial_done(f, &fr, fn, ctx);
			if (rc)
				return rc;
		}
	}
	return 0;
}

int frame_in_feed(struct frame_in *f, const uint8_t *p, size_t n, frame_in_fn fn, void *ctx)
{
	if (f->bad)
		return -EBADMSG;
	int rc = feed(f, p, n, fn, ctx);
	if (rc)
		f->bad = 1;
	return rc;
}

void frame_hello_encode(struct wr *w, const struct frame_hello *h)
{
	wr_u16(w, h->version);
	wr_u16(w, h->node);
	wr_u32(w, h->heartbeat_ms);
}

int frame_hello_decode(const uint8_t *p, size_t n, struct frame_hello *ret)
{
	struct rd r;
	rd_init(&r, p, n);
	struct frame_hello h = { .version = rd_u16(&r) };
	if (!r.bad && h.version != FRAME_HELLO_VERSION) {
		*ret = h;
		return -EPROTONOSUPPORT;
	}
	h.node = rd_u16(&r);
	h.heartbeat_ms = rd_u32(&r);
	if (h.heartbeat_ms < FRAME_HEARTBEAT_MIN_MS || h.heartbeat_ms > FRAME_HEARTBEAT_MAX_MS)
		rd_fail(&r);
	int rc = rd_done(&r);
	if (rc < 0)
		return rc;
	*ret = h;
	return 0;
}

void frame_text(const uint8_t *p, size_t n, char *ret, size_t size)
{
	size_t i = 0;
	for (; i < n && i + 1 < size; i++)
		ret[i] = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
	ret[i] = 0;
}
