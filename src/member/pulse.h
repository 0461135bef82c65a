/* The pulse of one node: beats, answers, detector and lease put together. What member/member.c does on the wire and the simulation
 * in tests/sim on a virtual clock.
 *
 * No I/O, no clock. Times are CLOCK_BOOTTIME in ms. One thread.
 *
 * Recipe: pulse_init; pulse_raft and pulse_applied whenever those change; pulse_heard for every valid message of another node;
 * pulse_beat and pulse_answer for the two messages; pulse_tick at least every 100 ms and at pulse_until(). After each of them do what
 * *out says: `beat` asks for pulse_beat_make and sending it to all nodes in beat_to. */
#pragma once

#include "member/beat.h"
#include "member/cluster.h"
#include "member/detector.h"
#include "member/lease.h"

struct pulse {
	uint16_t self;
	uint32_t incarnation; /* of the own space, 0: none */
	uint32_t dead_ms, beat_ms;
	uint64_t next_beat_ms;
	uint64_t term;
	uint16_t leader; /* as raft knows it, 0: none */
	bool leads;      /* this node, and it has applied all that was committed before */
	const struct cluster *cluster; /* borrowed, outlives us: the state as applied here */
	struct detector d;
	struct lease l;
};

struct pulse_out {
	bool froze, thawed;          /* the space must stand still, or may go on */
	bool over;                   /* a voter says that the own space's incarnation is over */
	struct nodeset joined, left; /* who is heard again, who is not any more */
	struct nodeset beat_to;      /* who should get a beat now; may be empty */
	unsigned n_proposals;
	struct detector_proposal proposals[DETECTOR_PROPOSALS];
};

/* Starts. until_ms: end of the lease of an earlier run of this program for the same space, or 0. cluster: see struct pulse. */
void pulse_init(struct pulse *p, uint16_t self, uint64_t now_ms, uint32_t incarnation, uint64_t until_ms, const struct cluster *cluster);

/* Time goes on. */
void pulse_tick(struct pulse *p, uint64_t now_ms, struct pulse_out *out);

/* Any valid message of a node came. */
void pulse_heard(struct pulse *p, uint64_t now_ms, uint16_t from, struct pulse_out *out);

/* A beat came. On 0 the answer to it was appended to w. -EBADMSG for one that is not well formed. */
int pulse_beat(struct pulse *p, uint64_t now_ms, uint16_t from, const void *msg, size_t n, struct wr *w, struct pulse_out *out);

/* The answer to a beat came. 0 or -EBADMSG. */
int pulse_answer(struct pulse *p, uint64_t now_ms, uint16_t from, const void *msg, size_t n, struct pulse_out *out);

/* Appends the beat that is due now to w. */
void pulse_beat_make(struct pulse *p, uint64_t now_ms, struct wr *w);

/* Commands were applied to the cluster. */
void pulse_applied(struct pulse *p, uint64_t now_ms, struct pulse_out *out);

/* What raft knows here now. leads: this node is the leader and has applied all that was committed before it led. */
void pulse_raft(struct pulse *p, uint64_t now_ms, uint64_t term, uint16_t leader, bool leads, const struct nodeset *voters, struct pulse_out *out);

/* The own space is another one now (0: there is none). It has no lease yet; out->froze tells if the one before had. */
void pulse_space(struct pulse *p, uint64_t now_ms, uint32_t incarnation, struct pulse_out *out);

/* When the space must be frozen if nothing else happens: the end of the lease, 0 when there is none, UINT64_MAX for the sole voter. */
uint64_t pulse_until(const struct pulse *p);
