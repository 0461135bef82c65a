#include "member/roles.h"

enum roles_step roles_next(const struct cluster *c, const struct roles_group *g, const struct nodeset *up, uint16_t *ret_node)
{
	uint16_t standby = 0, promote = 0, add = 0, drop = 0;
	unsigned n_voters = nodeset_count(&g->voters);

	for (uint16_t i = NODE_MAX; i >= 1; i--) { /* downwards: the lowest id is the last one noted */
		const struct cluster_member *m = cluster_member(c, i);
		bool wanted = m && m->state != MEMBER_REMOVED;
		bool voter = nodeset_has(&g->voters, i);
		if (!nodeset_has(&g->servers, i)) {
			if (wanted)
				add = i;
			continue;
		}
		if (!wanted) {
			if (!voter)
				drop = i;
			else if (n_voters > 1)
				standby = i; /* as such it still learns that its vote is not needed any more */
			continue;
		}
		if (voter && !cluster_is_live(m) && n_voters > 1)
			standby = i;
		else if (!voter && !nodeset_has(&g->standbys, i))
			standby = i;
		else if (!voter && cluster_is_live(m) && !m->leaving && !m->suspect && nodeset_has(up, i))
			promote = i;
	}

	*ret_node = 0;
	if (standby) { /* first: a dead voter weighs against the majority */
		*ret_node = standby;
		return ROLES_STANDBY;
	}
	if (promote && n_voters < ROLES_VOTERS) {
		*ret_node = promote;
		return ROLES_VOTER;
	}
	if (drop) {
		*ret_node = drop;
		return ROLES_DROP;
	}
	if (add) {
		*ret_node = add;
		return ROLES_ADD;
	}
	return ROLES_NONE;
}
