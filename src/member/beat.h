/* Beats and their answers, as bytes. Pure. Any thread.
 *
 *   beat   = u8 version (1), u64 sent, u32 incarnation, u8 flags (bit 0: leads and has applied all that was committed before it led),
 *            u64 raft term, u64 cluster version applied, u32 n { u16 node, u8 silent, u32 confirmed epoch }
 *   answer = u8 version (1), u64 sent (of the beat), u32 incarnation (of the beat), u8 answer (enum detector_answer), u32 dead_ms,
 *            2 x u64 voters, u8 flags, u64 raft term, u64 cluster version applied
 *
 * sent is a time of the sender's clock; it means nothing to the receiver, which only gives it back. A version that is not known is
 * refused: -EBADMSG. */
#pragma once

#include "member/detector.h"
#include "wire/rd.h"
#include "wire/wr.h"

/* What both say about the sender. */
struct beat_state {
	bool leads;
	uint64_t term;
	uint64_t version;
};

struct beat {
	uint64_t sent_ms;
	uint32_t incarnation;
	struct beat_state state;
};

struct beat_answer {
	uint64_t sent_ms;
	uint32_t incarnation;
	enum detector_answer answer;
	uint32_t dead_ms;
	struct nodeset voters;
	struct beat_state state;
};

/* Appends the beat with the report. */
void beat_encode(const struct beat *b, const struct detector_report *report, struct wr *w);

/* 0 or -EBADMSG; on failure both are untouched. */
int beat_decode(const void *p, size_t n, struct beat *ret, struct detector_report *ret_report);

void beat_answer_encode(const struct beat_answer *a, struct wr *w);

/* 0 or -EBADMSG; on failure *ret is untouched. */
int beat_answer_decode(const void *p, size_t n, struct beat_answer *ret);
