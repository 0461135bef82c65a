/* Links and streams for tests: several nodes in one process, on one loop. Messages, answers and callbacks come on later turns of
 * the loop, in order per direction; a fault does something to the n-th message of a type on its way. Loop thread.
 *
 * Implements the part of transport/links.h that space/ uses, and struct space_streams: an exported descriptor is kept in a
 * table and handed over at the import, so that nothing but the two processes holds the description afterwards. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "space/space.h"
#include "transport/links.h"

struct fake_net;

enum fake_fault_what {
	FAKE_DELAY, /* by ms; what follows it in this direction waits too */
	FAKE_CUT,   /* the link is lost before it arrives, for ms; both ways */
	FAKE_LOSE,  /* the link is lost after it arrived, for ms */
};

struct fake_fault {
	uint16_t type;         /* 0: any message or call; an answer counts as its call's type */
	unsigned nth;          /* 1: the first one from now on */
	int of_answer;         /* counts answers instead of calls */
	enum fake_fault_what what;
	uint32_t ms;
};

/* On 0 the caller owns *ret. up is told when a link is there again, for both of its nodes. */
int fake_net_new(uv_loop_t *loop, void (*up)(void *ctx, uint16_t at, uint16_t node), void *ctx, struct fake_net **ret);
/* Handles are closed; the memory goes when the loop has run once more. */
void fake_net_free(struct fake_net *net);
/* The links of a node; they belong to the net. */
struct links *fake_links_new(struct fake_net *net, uint16_t self);
/* Replaces the fault under way; NULL: none. */
void fake_net_fault(struct fake_net *net, const struct fake_fault *f);
/* Whether the fault has happened. */
int fake_net_has_faulted(const struct fake_net *net);
void fake_net_cut(struct fake_net *net, uint16_t a, uint16_t b, uint32_t ms);
/* Nothing is under way: no message, no call, no callback. */
int fake_net_is_quiet(const struct fake_net *net);
/* Messages delivered so far. */
uint64_t fake_net_count(const struct fake_net *net);

/* Streams between all nodes of the net, as node self sees them. */
struct space_streams fake_streams(struct fake_net *net, uint16_t self);
/* Exports that nobody has imported or taken back. */
unsigned fake_streams_left(const struct fake_net *net);
/* Exports fail with this from now on (0: they work). */
void fake_streams_fail(struct fake_net *net, int status);
