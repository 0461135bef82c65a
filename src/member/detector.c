#include "member/detector.h"

#include <errno.h>
#include <string.h>

/* A proposal that has not come to pass is made again after this time. */
enum { PROPOSE_AGAIN_MS = 500 };

void detector_init(struct detector *d, uint16_t self, uint64_t now_ms, uint32_t dead_ms, uint32_t beat_ms)
{
	memset(d, 0, sizeof *d);
	d->self = self;
	d->dead_ms = dead_ms;
	d->beat_ms = beat_ms;
	d->now_ms = now_ms;
	d->voters_ms = now_ms;
	for (unsigned i = 1; i <= NODE_MAX; i++)
		d->nodes[i].heard_ms = now_ms;
}

static uint64_t silence(const struct detector *d, uint16_t node)
{
	return node == d->self ? 0 : d->now_ms - d->nodes[node].heard_ms;
}

/* Rule 7. A quarter of dead_ms without a step: we were not listening. */
static void forgive(struct detector *d, uint64_t now_ms)
{
	uint64_t gap = now_ms - d->now_ms;
	if (gap < d->dead_ms / 4)
		return;
	for (unsigned i = 1; i <= NODE_MAX; i++)
		d->nodes[i].heard_ms += gap; /* at most now_ms, as heard_ms was at most the old one */
}

static void heard(struct detector *d, uint16_t node, struct detector_update *u)
{
	struct detector_node *n = &d->nodes[node];
	n->heard_ms = d->now_ms;
	if (!n->up) {
		n->up = true;
		nodeset_add(&d->up, node);
		nodeset_add(&u->joined, node);
	}
}

static void member(struct detector *d, const struct detector_event *ev)
{
	struct detector_node *n = &d->nodes[ev->node];
	/* A new space is a sign of life, though not heard by us perhaps. */
	if (ev->live && (!n->live || n->incarnation != ev->incarnation)) {
		n->heard_ms = d->now_ms;
		n->grant_dead_ms = 0;
	}
	if (n->live != ev->live || n->incarnation != ev->incarnation || n->suspect != ev->suspect)
		n->proposed_ms = 0;
	n->live = ev->live;
	n->incarnation = ev->incarnation;
	n->suspect = ev->live ? ev->suspect : 0;
	if (n->confirmed != n->suspect)
		n->confirmed = 0;
}

/* Rule 3, the voter's part. */
static bool confirms(const struct detector *d, uint16_t node)
{
	const struct detector_node *n = &d->nodes[node];
	if (!n->suspect || node == d->self)
		return false;
	if (n->grant_dead_ms && d->now_ms - n->grant_ms < n->grant_dead_ms)
		return false;
	return silence(d, node) >= d->dead_ms;
}

static void report_make(struct detector *d, struct detector_update *u)
{
	struct detector_report *r = &d->reports[d->self];
	struct nodeset before = r->silent;
	memset(&r->silent, 0, sizeof r->silent);
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		struct detector_node *n = &d->nodes[i];
		if (n->live && silence(d, i) >= detector_suspect_ms(d->dead_ms))
			nodeset_add(&r->silent, i);
		if (n->suspect && !n->confirmed && confirms(d, i)) {
			n->confirmed = n->suspect;
			u->report = true;
		}
		r->confirmed[i] = n->confirmed;
	}
	if (!nodeset_equal(&before, &r->silent))
		u->report = true;
	d->report_ms[d->self] = d->now_ms;
}

struct count {
	unsigned silent, heard, confirmed;
};

/* What the voters say about node. Reports that are old say nothing about silence; a confirmation holds until ABSOLVE. */
static struct count votes_count(const struct detector *d, uint16_t node)
{
	struct count c = { 0 };
	uint64_t fresh_ms = d->beat_ms * 3u > 1000 ? d->beat_ms * 3u : 1000;
	for (uint16_t v = 1; v <= NODE_MAX; v++) {
		if (!nodeset_has(&d->voters, v))
			continue;
		if (v == node) {
			c.heard++; /* it hears itself: it counts as a granter, never as one who confirms */
			continue;
		}
		if (!d->report_ms[v])
			continue;
		if (d->reports[v].confirmed[node] && d->reports[v].confirmed[node] == d->nodes[node].suspect)
			c.confirmed++;
		if (d->now_ms - d->report_ms[v] > fresh_ms)
			continue;
		if (nodeset_has(&d->reports[v].silent, node))
			c.silent++;
		else
			c.heard++;
	}
	return c;
}

static enum detector_verdict verdict(const struct detector *d, uint16_t node)
{
	const struct detector_node *n = &d->nodes[node];
	unsigned n_voters = nodeset_count(&d->voters);
	unsigned majority = nodeset_majority(&d->voters);
	struct count c = votes_count(d, node);

	if (!n->suspect)
		return node != d->self && c.silent >= majority ? DETECTOR_CONDEMN : 0;
	if (c.heard > n_voters - majority)
		return DETECTOR_ABSOLVE;
	if (node != d->self && c.confirmed >= majority && d->now_ms - d->voters_ms >= d->dead_ms)
		return DETECTOR_DEAD;
	return 0;
}

static void lead(struct detector *d, struct detector_update *u)
{
	if (!d->leader || !nodeset_has(&d->voters, d->self))
		return;
	for (uint16_t i = 1; i <= NODE_MAX && u->n_proposals < DETECTOR_PROPOSALS; i++) {
		struct detector_node *n = &d->nodes[i];
		if (!n->live || (n->proposed_ms && d->now_ms - n->proposed_ms < PROPOSE_AGAIN_MS))
			continue;
		enum detector_verdict v = verdict(d, i);
		if (!v)
			continue;
		n->proposed_ms = d->now_ms;
		u->proposals[u->n_proposals++] = (struct detector_proposal){ v, i, n->incarnation, n->suspect };
	}
}

static void tick(struct detector *d, struct detector_update *u)
{
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		if (d->nodes[i].up && silence(d, i) >= detector_down_ms(d->dead_ms)) {
			d->nodes[i].up = false;
			nodeset_del(&d->up, i);
			nodeset_add(&u->left, i);
		}
	}
	report_make(d, u);
	lead(d, u);
}

int detector_step(struct detector *d, const struct detector_event *ev, struct detector_update *ret)
{
	memset(ret, 0, sizeof *ret);
	bool about_node = ev->type == DETECTOR_HEARD || ev->type == DETECTOR_MEMBER || ev->type == DETECTOR_REPORT;
	if (ev->now_ms < d->now_ms || (about_node && (ev->node < 1 || ev->node > NODE_MAX)))
		return -EINVAL;
	forgive(d, ev->now_ms);
	d->now_ms = ev->now_ms;

	switch (ev->type) {
	case DETECTOR_TICK:
		tick(d, ret);
		break;
	case DETECTOR_HEARD:
		heard(d, ev->node, ret);
		break;
	case DETECTOR_MEMBER:
		member(d, ev);
		break;
	case DETECTOR_VOTERS:
		if (!nodeset_equal(&d->voters, &ev->voters))
			d->voters_ms = ev->now_ms;
		d->voters = ev->voters;
		break;
	case DETECTOR_LEADER:
		d->leader = ev->on;
		break;
	case DETECTOR_SYNCED:
		d->synced = true;
		break;
	case DETECTOR_REPORT:
		if (ev->node != d->self) {
			d->reports[ev->node] = *ev->report;
			d->report_ms[ev->node] = ev->now_ms;
		}
		break;
	case DETECTOR_LIMITS:
		d->dead_ms = ev->dead_ms;
		d->beat_ms = ev->beat_ms;
		break;
	}
	return 0;
}

enum detector_answer detector_ask(struct detector *d, uint64_t now_ms, uint16_t node, uint32_t incarnation)
{
	if (node < 1 || node > NODE_MAX)
		return DETECTOR_NOT_YET;
	struct detector_node *n = &d->nodes[node];
	if (n->incarnation > incarnation || (n->incarnation == incarnation && incarnation && !n->live))
		return DETECTOR_OVER;
	if (!nodeset_has(&d->voters, d->self) || !d->synced || !n->live || n->incarnation != incarnation)
		return DETECTOR_NOT_YET;
	if (n->suspect)
		return DETECTOR_CONDEMNED;
	n->grant_ms = now_ms;
	n->grant_dead_ms = d->dead_ms;
	return DETECTOR_GRANTED;
}

const struct detector_report *detector_report(const struct detector *d)
{
	return &d->reports[d->self];
}
