/* Failure detector: who is silent, from the point of view of one node; and for the leader, whom to declare dead.
 *
 * Pure: no I/O, no clock, no allocation. The caller feeds events and does what comes back. Times are this node's CLOCK_BOOTTIME in
 * ms; those of another node never come in here. One thread.
 *
 * Together with member/lease.h it keeps this promise: **a node is not declared dead while its space runs**, if clocks drift by
 * less than 1 % and the space is frozen within a tenth of dead_ms after it was told to.
 *
 *  1. Each node sends beats to all voters. A voter that grants one promises not to call that node silent for dead_ms. The space
 *     runs while a majority of the voters granted a beat sent within the last freeze_ms (lease.h), a bit less than dead_ms.
 *  2. A voter reports whom it has not heard for suspect_ms. When a majority reports a node, the leader proposes CONDEMN. A voter that
 *     has applied it grants that node nothing more.
 *  3. A voter that has applied CONDEMN and has been without a sign of the node for dead_ms confirms. That cannot be undone but by
 *     ABSOLVE in the log. When a majority has confirmed, the leader proposes DEAD. Any majority of granters shares a voter
 *     with the majority that confirmed; that one's last grant is older than dead_ms, and there will be no other. So the lease has
 *     ended, and stays ended whenever the DEAD comes to be committed, by this leader or a later one.
 *  4. When enough voters hear the node again for a majority of silent ones to be impossible, the leader proposes ABSOLVE.
 *  5. Majorities of different sets of voters need not meet. So DEAD waits until the set has been the same for dead_ms, and a lease
 *     needs a majority of each set that one of its granters believes in.
 *  6. A voter that was started afresh knows neither what it granted nor what it confirmed: it counts silence from its start, and
 *     grants nothing before it has applied what the leader had applied (detector.synced).
 *  7. A node that has not looked for a while (stopped, starved) was not listening: that time is not counted as silence of others.
 *
 * In a cluster at rest the death of a node is proposed dead_ms after its last sign of life, plus two commits. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "member/nodeset.h"

enum { DETECTOR_PROPOSALS = 16 };

/* How long a space may run after the sending of the last beat that a majority granted: 13/15 of dead_ms. With 2600 ms and beats
 * every 250 ms a node that is cut off freezes 2.0 to 2.25 s after the cut, 0.3 s before it may be declared dead. */
static inline uint32_t detector_freeze_ms(uint32_t dead_ms)
{
	return dead_ms / 15 * 13 + dead_ms % 15 * 13 / 15;
}

/* Silence after which a node is reported. */
static inline uint32_t detector_suspect_ms(uint32_t dead_ms)
{
	return dead_ms / 4 * 3;
}

/* Silence after which a node counts as down in detector.up. */
static inline uint32_t detector_down_ms(uint32_t dead_ms)
{
	return dead_ms / 5 * 2;
}

/* What one voter says about others. */
struct detector_report {
	struct nodeset silent;            /* live members it has not heard for suspect_ms */
	uint32_t confirmed[NODE_MAX + 1]; /* by node: epoch of the CONDEMN that it confirms, 0: none */
};

enum detector_event_type {
	DETECTOR_TICK,   /* time goes on: at least every 100 ms */
	DETECTOR_HEARD,  /* any valid message of node */
	DETECTOR_MEMBER, /* node's state in the log as applied here: live, incarnation, suspect */
	DETECTOR_VOTERS, /* the set of voters in force here */
	DETECTOR_LEADER, /* on: this node leads and has applied all that was committed before */
	DETECTOR_SYNCED, /* this node has applied what the leader had */
	DETECTOR_REPORT, /* report of voter node */
	DETECTOR_LIMITS, /* dead_ms, beat_ms */
};

struct detector_event {
	enum detector_event_type type;
	uint64_t now_ms;
	uint16_t node;
	bool on;
	bool live;
	uint32_t incarnation;
	uint32_t suspect;
	uint32_t dead_ms, beat_ms;
	struct nodeset voters;
	const struct detector_report *report; /* borrowed during the call */
};

enum detector_verdict {
	DETECTOR_CONDEMN = 1,
	DETECTOR_ABSOLVE,
	DETECTOR_DEAD,
};

struct detector_proposal {
	enum detector_verdict verdict;
	uint16_t node;
	uint32_t incarnation;
	uint32_t epoch;
};

struct detector_update {
	struct nodeset joined, left; /* who is heard again, who is not any more */
	bool report;                 /* the own report has something new: send it now */
	unsigned n_proposals;        /* what the leader should propose; it is asked again after a while if it does not come to pass */
	struct detector_proposal proposals[DETECTOR_PROPOSALS];
};

struct detector_node {
	bool live;
	bool up;
	uint32_t incarnation;
	uint32_t suspect;
	uint32_t confirmed;
	uint64_t heard_ms;
	uint64_t grant_ms;      /* last grant, and ... */
	uint32_t grant_dead_ms; /* ... for how long it promised not to call the node silent; 0: none since start */
	uint64_t proposed_ms;   /* 0: nothing proposed about its present state */
};

struct detector {
	uint16_t self;
	bool leader;
	bool synced;
	uint32_t dead_ms;
	uint32_t beat_ms;
	uint64_t now_ms;
	uint64_t voters_ms; /* since when the set of voters is what it is */
	struct nodeset voters;
	struct nodeset up;
	struct detector_node nodes[NODE_MAX + 1];
	uint64_t report_ms[NODE_MAX + 1]; /* arrival of the newest report, 0: none since start */
	struct detector_report reports[NODE_MAX + 1];
};

/* Starts a detector: nobody is live, silence counts from now_ms. */
void detector_init(struct detector *d, uint16_t self, uint64_t now_ms, uint32_t dead_ms, uint32_t beat_ms);

/* Advances d by one event. 0, or -EINVAL for an unknown node or for time going back; d is then unchanged and *ret is empty. */
int detector_step(struct detector *d, const struct detector_event *ev, struct detector_update *ret);

enum detector_answer {
	DETECTOR_GRANTED = 1, /* the beat is granted: the promise of rule 1 is given */
	DETECTOR_NOT_YET,     /* not a voter, not synced, or this incarnation is not known here yet */
	DETECTOR_CONDEMNED,   /* condemned: no more grants unless absolved */
	DETECTOR_OVER,        /* this incarnation has been declared dead, or has ended otherwise */
};

/* What to answer to a beat of node with the space's incarnation; DETECTOR_GRANTED is remembered. The caller has fed DETECTOR_HEARD. */
enum detector_answer detector_ask(struct detector *d, uint64_t now_ms, uint16_t node, uint32_t incarnation);

/* The own report as of the last step. Borrowed until the next step. */
const struct detector_report *detector_report(const struct detector *d);
