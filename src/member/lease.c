#include "member/lease.h"

#include <errno.h>
#include <string.h>

void lease_init(struct lease *l, uint16_t self, uint64_t now_ms, uint64_t until_ms, uint32_t freeze_ms)
{
	memset(l, 0, sizeof *l);
	l->self = self;
	l->now_ms = now_ms;
	if (until_ms == UINT64_MAX)
		until_ms = now_ms + freeze_ms;
	if (until_ms > now_ms) {
		/* Who granted it is not known any more: it is kept as a grant of nobody, see until(). */
		l->until_ms = until_ms;
		l->grants[0].until_ms = until_ms;
		l->running = true;
	}
}

/* Until when a majority of this set has granted. This node grants itself for ever. */
static uint64_t until_of(const struct lease *l, const struct nodeset *voters)
{
	uint64_t ends[NODE_MAX];
	unsigned n = 0;
	for (uint16_t v = 1; v <= NODE_MAX; v++) {
		if (!nodeset_has(voters, v))
			continue;
		uint64_t end = v == l->self ? UINT64_MAX : l->grants[v].until_ms;
		unsigned at = n++;
		for (; at > 0 && ends[at - 1] < end; at--) /* sorted, latest first */
			ends[at] = ends[at - 1];
		ends[at] = end;
	}
	return n ? ends[nodeset_majority(voters) - 1] : 0;
}

/* A majority is needed in each set of voters that this node or one of its granters believes in (detector.h, rule 5). */
static uint64_t until(const struct lease *l)
{
	uint64_t end = until_of(l, &l->voters);
	const struct nodeset *last = &l->voters;
	for (uint16_t v = 1; v <= NODE_MAX; v++) {
		const struct lease_grant *g = &l->grants[v];
		if (g->until_ms <= l->now_ms || nodeset_equal(&g->voters, last))
			continue;
		last = &g->voters;
		uint64_t other = until_of(l, &g->voters);
		if (other < end)
			end = other;
	}
	/* What an earlier run of the program had been granted still holds. */
	return l->grants[0].until_ms > end ? l->grants[0].until_ms : end;
}

static void grant(struct lease *l, const struct lease_event *ev)
{
	struct lease_grant *g = &l->grants[ev->node];
	if (g->until_ms && ev->sent_ms < g->sent_ms)
		return; /* overtaken */
	g->sent_ms = ev->sent_ms;
	g->until_ms = ev->sent_ms + ev->freeze_ms;
	g->voters = ev->voters;
}

/* The sole voter gets company: without this it would freeze until the other one has granted its first beat. It appended that change
 * itself, and no one is declared dead within dead_ms after it (detector.h, rule 5). */
static void voters(struct lease *l, const struct lease_event *ev)
{
	bool alone = nodeset_count(&l->voters) == 1 && nodeset_has(&l->voters, l->self);
	if (alone && !nodeset_equal(&l->voters, &ev->voters))
		l->grants[0].until_ms = ev->now_ms + ev->freeze_ms;
	l->voters = ev->voters;
}

int lease_step(struct lease *l, const struct lease_event *ev, struct lease_update *ret)
{
	*ret = (struct lease_update){ 0 };
	if (ev->now_ms < l->now_ms)
		return -EINVAL;
	if (ev->type == LEASE_GRANT && (ev->node < 1 || ev->node > NODE_MAX || ev->sent_ms > ev->now_ms))
		return -EINVAL;
	l->now_ms = ev->now_ms;

	switch (ev->type) {
	case LEASE_TICK:
		break;
	case LEASE_GRANT:
		grant(l, ev);
		break;
	case LEASE_VOTERS:
		voters(l, ev);
		break;
	case LEASE_RESET:
		memset(l->grants, 0, sizeof l->grants);
		break;
	}

	l->until_ms = until(l);
	bool may = l->until_ms > l->now_ms;
	ret->froze = l->running && !may;
	ret->thawed = !l->running && may;
	l->running = may;
	return 0;
}
