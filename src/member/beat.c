#include "member/beat.h"

#include <errno.h>
#include <string.h>

enum { BEAT_VERSION = 1, BEAT_LEADS = 1, BEAT_ENTRY = 7 };

static void state_encode(const struct beat_state *s, struct wr *w)
{
	wr_u8(w, s->leads ? BEAT_LEADS : 0);
	wr_u64(w, s->term);
	wr_u64(w, s->version);
}

static void state_decode(struct rd *r, struct beat_state *s)
{
	s->leads = (rd_u8(r) & BEAT_LEADS) != 0;
	s->term = rd_u64(r);
	s->version = rd_u64(r);
}

void beat_encode(const struct beat *b, const struct detector_report *report, struct wr *w)
{
	wr_u8(w, BEAT_VERSION);
	wr_u64(w, b->sent_ms);
	wr_u32(w, b->incarnation);
	state_encode(&b->state, w);

	size_t at = w->n;
	uint32_t n = 0;
	wr_u32(w, 0);
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		bool silent = nodeset_has(&report->silent, i);
		if (!silent && !report->confirmed[i])
			continue;
		wr_u16(w, i);
		wr_u8(w, silent);
		wr_u32(w, report->confirmed[i]);
		n++;
	}
	wr_put_u32(w, at, n);
}

int beat_decode(const void *p, size_t n, struct beat *ret, struct detector_report *ret_report)
{
	struct rd r;
	struct detector_report report = { 0 };
	rd_init(&r, p, n);
	if (rd_u8(&r) != BEAT_VERSION)
		rd_fail(&r);
	struct beat b = { .sent_ms = rd_u64(&r) };
	b.incarnation = rd_u32(&r);
	state_decode(&r, &b.state);

	uint32_t count = rd_count(&r, NODE_MAX, BEAT_ENTRY);
	for (uint32_t i = 0; i < count; i++) {
		uint16_t node = rd_u16(&r);
		bool silent = rd_u8(&r) != 0;
		uint32_t epoch = rd_u32(&r);
		if (node < 1 || node > NODE_MAX) {
			rd_fail(&r);
			break;
		}
		if (silent)
			nodeset_add(&report.silent, node);
		report.confirmed[node] = epoch;
	}

	int rc = rd_done(&r);
	if (rc < 0)
		return rc;
	*ret = b;
	*ret_report = report;
	return 0;
}

void beat_answer_encode(const struct beat_answer *a, struct wr *w)
{
	wr_u8(w, BEAT_VERSION);
	wr_u64(w, a->sent_ms);
	wr_u32(w, a->incarnation);
	wr_u8(w, (uint8_t)a->answer);
	wr_u32(w, a->dead_ms);
	for (unsigned i = 0; i < NODE_MAX / 64; i++)
		wr_u64(w, a->voters.w[i]);
	state_encode(&a->state, w);
}

int beat_answer_decode(const void *p, size_t n, struct beat_answer *ret)
{
	struct rd r;
	rd_init(&r, p, n);
	if (rd_u8(&r) != BEAT_VERSION)
		rd_fail(&r);
	struct beat_answer a = { .sent_ms = rd_u64(&r) };
	a.incarnation = rd_u32(&r);
	uint8_t answer = rd_u8(&r);
	if (answer < DETECTOR_GRANTED || answer > DETECTOR_OVER)
		rd_fail(&r);
	a.answer = (enum detector_answer)answer;
	a.dead_ms = rd_u32(&r);
	for (unsigned i = 0; i < NODE_MAX / 64; i++)
		a.voters.w[i] = rd_u64(&r);
	state_decode(&r, &a.state);

	int rc = rd_done(&r);
	if (rc < 0)
		return rc;
	*ret = a;
	return 0;
}
