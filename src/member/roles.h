/* Which member has which role in the raft group: pure. Any thread.
 *
 * Up to ROLES_VOTERS live members vote, all others stand by: they follow the log, so that each node has the state. A voter that
 * died stands by and another one takes its place; the last voter stays one, dead or not: somebody must be able to begin again.
 * One change at a time, as raft wants it. */
#pragma once

#include <stdint.h>

#include "member/cluster.h"
#include "member/nodeset.h"

enum { ROLES_VOTERS = 7 };

/* The raft group as it is. */
struct roles_group {
	struct nodeset servers; /* all in it */
	struct nodeset voters;
	struct nodeset standbys;
};

enum roles_step { ROLES_NONE, ROLES_ADD, ROLES_STANDBY, ROLES_VOTER, ROLES_DROP };

/* The next change that the leader should make, and to which server (0 with ROLES_NONE). up: who can be heard by the leader (itself
 * included); only such a member becomes a voter. */
enum roles_step roles_next(const struct cluster *c, const struct roles_group *g, const struct nodeset *up, uint16_t *ret_node);
