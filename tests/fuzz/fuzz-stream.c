/* deps: stream */
/* Frames between stream agents and packets between pandod and its agent. The first byte chooses; a packet's answer is read as one to the
 * request type that the second byte names. What is taken is the same when written and read again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stream/pmsg.h"
#include "stream/proto.h"
#include "stream/sess.h"
#include "stream/slink.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void frame_try(uint16_t type, struct rd *body)
{
	struct pmsg m, again;
	if (pmsg_decode(body, type, &m) < 0)
		return;
	if (m.n_name > PMSG_NAME_MAX || m.n_data > PMSG_DATA_MAX || memchr(m.name ? m.name : "", 0, m.n_name))
		abort();
	m.type = type;
	struct wr w = { 0 };
	if (pmsg_encode(&w, &m) < 0)
		abort();
	wr_raw(&w, m.data, m.n_data);
	struct rd r;
	rd_init(&r, w.p, w.n);
	if (pmsg_decode(&r, type, &again) < 0 || again.req != m.req || again.off != m.off || again.n_data != m.n_data || again.n_name != m.n_name)
		abort();
	wr_fini(&w);
}

static int on_frame(void *ctx, const struct sess_head *h, struct rd *body)
{
	struct sess *s = ctx;
	int rc = h->seq ? sess_take(s, h) : 0;
	if (rc < 0)
		return rc;
	frame_try(h->type, body);
	return 0;
}

/* A connection, cut by the first byte, for a session that has sent two frames. */
static void talk(const uint8_t *p, size_t n)
{
	struct frames f = { 0 };
	struct sess s;
	size_t step = p[0] % 60 + 1u;
	sess_init(&s);
	for (uint64_t fh = 1; fh <= 2; fh++)
		if (sess_queue(&s, &(struct pmsg){ .type = PMSG_RELEASE, .fh = fh }) < 0)
			abort();
	(void)sess_next(&s);
	for (size_t at = 1; at < n; at += step)
		if (frames_feed(&f, p + at, n - at < step ? n - at : step, on_frame, &s) < 0)
			break;
	frames_fini(&f);
	sess_fini(&s);
}

static void packet(const uint8_t *p, size_t n)
{
	static struct sproto_msg m, again;
	struct rd r;
	uint64_t tag;
	int32_t status;
	rd_init(&r, p + 1, n - 1);
	if (sproto_request_decode(&r, &m) == 0) {
		struct wr w = { 0 };
		if (sproto_request_encode(&w, &m) < 0 || w.n != n - 1 || memcmp(w.p, p + 1, w.n) != 0)
			abort();
		rd_init(&r, w.p, w.n);
		if (sproto_request_decode(&r, &again) < 0)
			abort();
		wr_fini(&w);
	}
	rd_init(&r, p + 1, n - 1);
	if (sproto_answer_head(&r, &tag, &status) == 0)
		(void)sproto_answer_decode(&r, p[0] % SPROTO_LAST, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 3)
		return 0;
	if (p[0] & 1)
		packet(p + 1, n - 1);
	else
		talk(p + 1, n - 1);
	return 0;
}
