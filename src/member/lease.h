/* Lease: whether the space of this node may run. It may while a majority of the voters granted a beat that was sent a short
 * while ago; without that it freezes, and it thaws when grants come again. What this is good for: member/detector.h.
 *
 * Pure: no I/O, no clock, no allocation. Times are this node's CLOCK_BOOTTIME in ms (it goes on while the machine sleeps). One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "member/nodeset.h"

enum lease_event_type {
	LEASE_TICK,   /* time goes on: at the latest at lease.until_ms */
	LEASE_GRANT,  /* voter node granted the beat sent at sent_ms, for freeze_ms, and believes in this set of voters */
	LEASE_VOTERS, /* the set of voters in force here, and freeze_ms */
	LEASE_RESET,  /* another space: nothing that was granted counts for it */
};

struct lease_event {
	enum lease_event_type type;
	uint64_t now_ms;
	uint16_t node;
	uint64_t sent_ms;
	uint32_t freeze_ms;
	struct nodeset voters;
};

struct lease_update {
	bool froze, thawed;
};

struct lease_grant {
	uint64_t sent_ms;  /* of the newest beat that it granted */
	uint64_t until_ms; /* 0: none */
	struct nodeset voters;
};

struct lease {
	uint16_t self;
	bool running;
	uint64_t now_ms;
	uint64_t until_ms; /* the space may run before this time; UINT64_MAX: as long as this node is the only voter */
	struct nodeset voters;
	struct lease_grant grants[NODE_MAX + 1];
};

/* Starts without a lease, unless until_ms, the end of one that an earlier run of this program left behind for the same space, lies
 * in the future (0: none). freeze_ms is for one without an end: a sole voter cannot be declared dead, so it may have as much again. */
void lease_init(struct lease *l, uint16_t self, uint64_t now_ms, uint64_t until_ms, uint32_t freeze_ms);

/* Advances l by one event. 0, or -EINVAL for an unknown node, a beat from the future or for time going back; l is then unchanged. */
int lease_step(struct lease *l, const struct lease_event *ev, struct lease_update *ret);
