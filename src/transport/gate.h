/* What one source address may do to a listener before it has shown who it is: so many unfinished handshakes, so many lines in the
 * log. No I/O and no clock in here. Loop thread only.
 *
 * A source is an IPv4 address or an IPv6 /64 (who has one IPv6 address has 2^64). The table is bounded: sources that do not fit
 * share one entry, so a flood from many addresses costs the strangers, not our memory. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct gate;
struct gate_source;

enum {
	GATE_SOURCES = 512,      /* entries of the table */
	GATE_LOG_EVERY_MS = 10000, /* one line per source in this time */
};

/* per_source and total limit the unfinished handshakes. On 0 the caller owns *ret. */
int gate_new(unsigned per_source, unsigned total, struct gate **ret);
struct gate *gate_free(struct gate *g);

/* A connection from sa begins. 0: *ret is to be given to gate_leave once; -EDQUOT: over the source's limit, -EBUSY: over the total;
 * -ENOMEM. */
int gate_enter(struct gate *g, const struct sockaddr *sa, uint64_t now_ms, struct gate_source **ret);

/* It ended, or has shown who it is. NULL is fine. Returns NULL. */
struct gate_source *gate_leave(struct gate *g, struct gate_source *s);

/* Whether a line about sa may be logged now; *ret_skipped is the number of lines that were not since the last one. */
int gate_may_log(struct gate *g, const struct sockaddr *sa, uint64_t now_ms, unsigned *ret_skipped);

/* Unfinished handshakes now. */
unsigned gate_inside(const struct gate *g);
