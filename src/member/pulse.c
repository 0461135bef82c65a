#include "member/pulse.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The clock of the caller may be read by several of its callbacks: time never goes back in here. */
static uint64_t forward(const struct pulse *p, uint64_t now_ms)
{
	uint64_t last = p->d.now_ms > p->l.now_ms ? p->d.now_ms : p->l.now_ms;
	return now_ms > last ? now_ms : last;
}

/* Whom to send beats: the voters. They grant, and whoever leads is one of them. */
static struct nodeset others(const struct pulse *p)
{
	struct nodeset to = p->d.voters;
	nodeset_del(&to, p->self);
	return to;
}

static void set_or(struct nodeset *to, const struct nodeset *from)
{
	for (unsigned i = 0; i < NODE_MAX / 64; i++)
		to->w[i] |= from->w[i];
}

static void detect(struct pulse *p, const struct detector_event *ev, struct pulse_out *out)
{
	struct detector_update u;
	int rc = detector_step(&p->d, ev, &u);
	assert(rc == 0); /* times go forward, nodes were checked */
	set_or(&out->joined, &u.joined);
	set_or(&out->left, &u.left);
	if (u.report)
		out->beat_to = others(p);
	for (unsigned i = 0; i < u.n_proposals && out->n_proposals < DETECTOR_PROPOSALS; i++)
		out->proposals[out->n_proposals++] = u.proposals[i];
}

static void lease(struct pulse *p, const struct lease_event *ev, struct pulse_out *out)
{
	struct lease_update u;
	if (lease_step(&p->l, ev, &u) < 0)
		return; /* an answer to a beat that we never sent */
	if (!p->incarnation)
		return;
	out->froze |= u.froze;
	out->thawed |= u.thawed;
}

static void limits(struct pulse *p, uint64_t now_ms, struct pulse_out *out)
{
	uint32_t dead_ms = cluster_setting_number(p->cluster, "dead-after-ms");
	uint32_t beat_ms = cluster_setting_number(p->cluster, "heartbeat-ms");
	if (dead_ms == p->dead_ms && beat_ms == p->beat_ms)
		return;
	p->dead_ms = dead_ms;
	p->beat_ms = beat_ms;
	detect(p, &(struct detector_event){ .type = DETECTOR_LIMITS, .now_ms = now_ms, .dead_ms = dead_ms, .beat_ms = beat_ms }, out);
}

void pulse_init(struct pulse *p, uint16_t self, uint64_t now_ms, uint32_t incarnation, uint64_t until_ms, const struct cluster *cluster)
{
	memset(p, 0, sizeof *p);
	p->self = self;
	p->cluster = cluster;
	p->incarnation = incarnation;
	p->dead_ms = cluster_setting_number(cluster, "dead-after-ms");
	p->beat_ms = cluster_setting_number(cluster, "heartbeat-ms");
	detector_init(&p->d, self, now_ms, p->dead_ms, p->beat_ms);
	lease_init(&p->l, self, now_ms, incarnation ? until_ms : 0, detector_freeze_ms(p->dead_ms));
	struct pulse_out out = { 0 };
	pulse_applied(p, now_ms, &out);
}

void pulse_tick(struct pulse *p, uint64_t now_ms, struct pulse_out *out)
{
	*out = (struct pulse_out){ 0 };
	now_ms = forward(p, now_ms);
	lease(p, &(struct lease_event){ .type = LEASE_TICK, .now_ms = now_ms }, out);
	detect(p, &(struct detector_event){ .type = DETECTOR_TICK, .now_ms = now_ms }, out);
	if (now_ms >= p->next_beat_ms)
		out->beat_to = others(p);
}

void pulse_heard(struct pulse *p, uint64_t now_ms, uint16_t from, struct pulse_out *out)
{
	*out = (struct pulse_out){ 0 };
	if (from >= 1 && from <= NODE_MAX && from != p->self)
		detect(p, &(struct detector_event){ .type = DETECTOR_HEARD, .now_ms = forward(p, now_ms), .node = from }, out);
}

static struct beat_state state_get(const struct pulse *p)
{
	return (struct beat_state){ .leads = p->leads, .term = p->term, .version = p->cluster->version };
}

/* The leader tells what it has applied: who has applied as much knows all that it may have granted or confirmed before it was
 * started afresh (detector.h, rule 6). A leader of a term that has passed does not count. */
static void state_note(struct pulse *p, uint64_t now_ms, uint16_t from, const struct beat_state *s, struct pulse_out *out)
{
	if (!p->d.synced && s->leads && from == p->leader && s->term == p->term && p->cluster->version >= s->version)
		detect(p, &(struct detector_event){ .type = DETECTOR_SYNCED, .now_ms = now_ms }, out);
}

int pulse_beat(struct pulse *p, uint64_t now_ms, uint16_t from, const void *msg, size_t n, struct wr *w, struct pulse_out *out)
{
	*out = (struct pulse_out){ 0 };
	struct beat b;
	struct detector_report report;
	int rc = beat_decode(msg, n, &b, &report);
	if (rc < 0)
		return rc;
	if (from < 1 || from > NODE_MAX || from == p->self)
		return -EBADMSG;

	now_ms = forward(p, now_ms);
	detect(p, &(struct detector_event){ .type = DETECTOR_HEARD, .now_ms = now_ms, .node = from }, out);
	detect(p, &(struct detector_event){ .type = DETECTOR_REPORT, .now_ms = now_ms, .node = from, .report = &report }, out);
	state_note(p, now_ms, from, &b.state, out);

	struct beat_answer a = {
		.sent_ms = b.sent_ms,
		.incarnation = b.incarnation,
		.answer = detector_ask(&p->d, now_ms, from, b.incarnation),
		.dead_ms = p->dead_ms,
		.voters = p->d.voters,
		.state = state_get(p),
	};
	beat_answer_encode(&a, w);
	return 0;
}

int pulse_answer(struct pulse *p, uint64_t now_ms, uint16_t from, const void *msg, size_t n, struct pulse_out *out)
{
	*out = (struct pulse_out){ 0 };
	struct beat_answer a;
	int rc = beat_answer_decode(msg, n, &a);
	if (rc < 0)
		return rc;
	if (from < 1 || from > NODE_MAX || from == p->self)
		return -EBADMSG;

	now_ms = forward(p, now_ms);
	detect(p, &(struct detector_event){ .type = DETECTOR_HEARD, .now_ms = now_ms, .node = from }, out);
	state_note(p, now_ms, from, &a.state, out);
	if (!a.incarnation || a.incarnation != p->incarnation)
		return 0; /* about another space */
	if (a.answer == DETECTOR_OVER)
		out->over = true;
	if (a.answer == DETECTOR_GRANTED)
		lease(p, &(struct lease_event){ .type = LEASE_GRANT, .now_ms = now_ms, .node = from, .sent_ms = a.sent_ms,
						.freeze_ms = detector_freeze_ms(a.dead_ms), .voters = a.voters }, out);
	return 0;
}

void pulse_beat_make(struct pulse *p, uint64_t now_ms, struct wr *w)
{
	now_ms = forward(p, now_ms);
	p->next_beat_ms += p->beat_ms; /* an even pace, though ticks come late */
	if (p->next_beat_ms < now_ms + p->beat_ms / 2)
		p->next_beat_ms = now_ms + p->beat_ms;
	struct beat b = { .sent_ms = now_ms, .incarnation = p->incarnation, .state = state_get(p) };
	beat_encode(&b, detector_report(&p->d), w);
}

void pulse_applied(struct pulse *p, uint64_t now_ms, struct pulse_out *out)
{
	*out = (struct pulse_out){ 0 };
	now_ms = forward(p, now_ms);
	limits(p, now_ms, out);
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(p->cluster, i);
		const struct detector_node *known = &p->d.nodes[i];
		bool live = cluster_is_live(m);
		uint32_t incarnation = m ? m->incarnation : 0;
		uint32_t suspect = m ? m->suspect : 0;
		if (known->live == live && known->incarnation == incarnation && known->suspect == suspect)
			continue;
		detect(p, &(struct detector_event){ .type = DETECTOR_MEMBER, .now_ms = now_ms, .node = i, .live = live,
						    .incarnation = incarnation, .suspect = suspect }, out);
	}
}

void pulse_raft(struct pulse *p, uint64_t now_ms, uint64_t term, uint16_t leader, bool leads, const struct nodeset *voters, struct pulse_out *out)
{
	*out = (struct pulse_out){ 0 };
	now_ms = forward(p, now_ms);
	p->term = term;
	p->leader = leader;
	if (leads != p->leads) {
		p->leads = leads;
		p->next_beat_ms = now_ms; /* tell the voters */
		detect(p, &(struct detector_event){ .type = DETECTOR_LEADER, .now_ms = now_ms, .on = leads }, out);
	}
	if (leads && !p->d.synced)
		detect(p, &(struct detector_event){ .type = DETECTOR_SYNCED, .now_ms = now_ms }, out);
	if (!nodeset_equal(&p->d.voters, voters)) {
		p->next_beat_ms = now_ms;
		detect(p, &(struct detector_event){ .type = DETECTOR_VOTERS, .now_ms = now_ms, .voters = *voters }, out);
		lease(p, &(struct lease_event){ .type = LEASE_VOTERS, .now_ms = now_ms, .voters = *voters,
						.freeze_ms = detector_freeze_ms(p->dead_ms) }, out);
	}
}

void pulse_space(struct pulse *p, uint64_t now_ms, uint32_t incarnation, struct pulse_out *out)
{
	*out = (struct pulse_out){ 0 };
	now_ms = forward(p, now_ms);
	bool ran = p->incarnation && p->l.running;
	p->incarnation = incarnation;
	lease(p, &(struct lease_event){ .type = LEASE_RESET, .now_ms = now_ms }, out);
	out->froze = ran && !p->l.running;
	out->thawed = incarnation && p->l.running; /* the sole voter needs nobody's grant */
	p->next_beat_ms = now_ms;
}

uint64_t pulse_until(const struct pulse *p)
{
	return p->incarnation ? p->l.until_ms : 0;
}
